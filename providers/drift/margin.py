"""Cross margin of a whole Drift account, integer for integer as the program computes it.

Sources, version 2.84 of the program: `math/margin.rs` (calculate_margin_requirement_and_total_collateral...,
calculate_perp_position_value_and_pnl, the size premium and discount), `state/perp_market.rs` (get_margin_ratio,
get_unrealized_asset_weight), `state/user.rs` (worst case of open orders), `math/spot_balance.rs`, `math/funding.rs`.
Amounts are in quote precision (1e6), prices in price precision (1e6), base in 1e9, ratios and weights in 1e4.

Left out: liquidity-provider shares (`Book.exact` is false where the account has some).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import msgspec
from solders.pubkey import Pubkey

from providers.drift.constants import (
    AMM_RESERVE_PRECISION,
    FUNDING_RATE_PRECISION,
    MARGIN_PRECISION,
    OPEN_ORDER_MARGIN,
    PERCENTAGE_PRECISION,
    PRICE_PRECISION,
    QUOTE_PRECISION,
    QUOTE_SPOT_MARKET,
    MarginType,
    MarketStatus,
    SpotBalanceType,
)
from providers.drift.layouts import PerpMarket, PerpPosition, SpotMarket, SpotPosition, User

__all__ = ["Book", "Margin", "account_margin", "liquidation_price", "perp_margin_ratio", "size_premium", "token_amount"]

_IMF_PRECISION = PERCENTAGE_PRECISION
_AMM_TO_QUOTE = AMM_RESERVE_PRECISION // QUOTE_PRECISION
# Positive open profit counts for at most 100 dollars a market when placing an order.
_MAX_INITIAL_PROFIT = 100 * QUOTE_PRECISION
_TOKEN_EXPONENT = 19  # balances are in 1e9 and cumulative interest in 1e10


class Margin(msgspec.Struct, frozen=True):
    """Total collateral and margin requirement, quote precision; the account is good while the first is not less."""

    collateral: int
    requirement: int

    @property
    def free(self) -> int:
        """Collateral above the requirement; negative when it is short."""
        return self.collateral - self.requirement

    def __add__(self, other: Margin) -> Margin:
        return Margin(self.collateral + other.collateral, self.requirement + other.requirement)


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an account's margin depends on.

    Attributes:
        prices: current price by price account, price precision; the quote asset's own under its market's `oracle`.
    """

    user: User
    perp_markets: Mapping[int, PerpMarket]
    spot_markets: Mapping[int, SpotMarket]
    prices: Mapping[Pubkey, int]

    @property
    def exact(self) -> bool:
        """Whether nothing of the account is left out of the arithmetic."""
        return all(position.lp_shares == 0 for position in self.user.perp_positions)


def _truncated(numerator: int, denominator: int) -> int:
    """Divide and round toward zero; the denominator is positive."""
    return numerator // denominator if numerator >= 0 else -(-numerator // denominator)


def _ten_to(exponent: int) -> int:
    return int(10**exponent)


def size_premium(size: int, imf_factor: int, weight: int, precision: int) -> int:
    """Return the liability weight for a size in AMM precision: it grows with the square root of the size."""
    if imf_factor == 0:
        return weight
    root = isqrt(size * 10 + 1)
    premium = weight - weight // 5 + root * imf_factor // (100_000 * _IMF_PRECISION // precision)
    return max(weight, premium)


def _size_discount(size: int, imf_factor: int, weight: int) -> int:
    """Return the asset weight for a size in AMM precision: it shrinks with the square root of the size."""
    if imf_factor == 0:
        return weight
    root = isqrt(size * 10 + 1)
    numerator = (_IMF_PRECISION + _IMF_PRECISION // 10) * MARGIN_PRECISION
    return min(weight, numerator // (_IMF_PRECISION + root * imf_factor // 100_000))


def perp_margin_ratio(market: PerpMarket, size: int, kind: MarginType) -> int:
    """Return the margin ratio (1e4) of a perp position of `size` base (1e9)."""
    if market.status == MarketStatus.SETTLEMENT:
        return 0
    ratio = {
        MarginType.INITIAL: market.margin_ratio_initial,
        MarginType.FILL: (market.margin_ratio_initial + market.margin_ratio_maintenance) // 2,
        MarginType.MAINTENANCE: market.margin_ratio_maintenance,
    }[kind]
    return max(ratio, size_premium(size, market.imf_factor, ratio, MARGIN_PRECISION))


def _net_user_profit(market: PerpMarket) -> int:
    base = market.base_asset_amount_with_amm + market.base_asset_amount_with_unsettled_lp
    value = _truncated(base * market.last_oracle_price, AMM_RESERVE_PRECISION)
    cost = market.quote_asset_amount + market.quote_asset_amount_with_unsettled_lp + market.net_unsettled_funding_pnl
    return value + cost


def _profit_weight(market: PerpMarket, profit: int, kind: MarginType) -> int:
    """Return how much of an open profit counts as collateral (1e4); a loss always counts whole."""
    if profit <= 0:
        return MARGIN_PRECISION
    if kind is MarginType.MAINTENANCE:
        return market.unrealized_pnl_maintenance_asset_weight
    weight = market.unrealized_pnl_initial_asset_weight
    if weight > 0 and market.unrealized_pnl_max_imbalance > 0:
        imbalance = _net_user_profit(market)
        if imbalance > market.unrealized_pnl_max_imbalance:
            weight = weight * market.unrealized_pnl_max_imbalance // imbalance
    if weight == 0:
        return 0
    return _size_discount(profit * _AMM_TO_QUOTE, market.unrealized_pnl_imf_factor, weight)


def _funding_payment(market: PerpMarket, position: PerpPosition) -> int:
    """Return unsettled funding in quote precision; negative when the position pays."""
    base = position.base_asset_amount
    cumulative = market.cumulative_funding_rate_long if base > 0 else market.cumulative_funding_rate_short
    delta = cumulative - position.last_cumulative_funding_rate
    if delta == 0:
        return 0
    magnitude = abs(delta) * abs(base) // FUNDING_RATE_PRECISION
    signed = magnitude * (-1 if base > 0 else 1) * (1 if delta > 0 else -1)
    return _truncated(signed, _AMM_TO_QUOTE)


def _worst_case_base(position: PerpPosition) -> int:
    bids = position.base_asset_amount + position.open_bids
    asks = position.base_asset_amount + position.open_asks
    return bids if abs(bids) > abs(asks) else asks


class _StrictPrice(msgspec.Struct, frozen=True):
    """A price and, for placing orders, the worse of it and its five minute average."""

    current: int
    low: int
    high: int


def _strict(price: int, twap: int, *, strict: bool) -> _StrictPrice:
    return _StrictPrice(price, min(price, twap), max(price, twap)) if strict else _StrictPrice(price, price, price)


def _perp_margin(
    position: PerpPosition, market: PerpMarket, price: int, quote: _StrictPrice, *, kind: MarginType, custom_ratio: int
) -> Margin:
    """Return what one perp position adds to collateral and requirement, open orders at their worst."""
    settled = market.status == MarketStatus.SETTLEMENT
    valuation = max(market.expiry_price if settled else price, 0)
    base_value = _truncated(position.base_asset_amount * valuation, AMM_RESERVE_PRECISION)
    profit = base_value + position.quote_asset_amount + _funding_payment(market, position)

    worst = abs(_worst_case_base(position))
    worst_value = worst * valuation // AMM_RESERVE_PRECISION * quote.high // PRICE_PRECISION
    ratio = max(custom_ratio, perp_margin_ratio(market, worst, kind))
    requirement = 0 if settled else worst_value * ratio // MARGIN_PRECISION
    requirement += position.open_orders * OPEN_ORDER_MARGIN

    weight = _profit_weight(market, profit, kind)
    weighted = profit if weight == MARGIN_PRECISION else _truncated(profit * weight, MARGIN_PRECISION)
    quote_price = quote.low if profit > 0 else quote.high
    if quote_price != PRICE_PRECISION:
        weighted = _truncated(weighted * quote_price, PRICE_PRECISION)
    if kind is MarginType.INITIAL:
        weighted = min(weighted, _MAX_INITIAL_PROFIT)
    return Margin(weighted, requirement)


def token_amount(balance: int, market: SpotMarket, kind: int) -> int:
    """Return the tokens behind a scaled balance: deposits rounded down, borrows up, and negative."""
    divisor = _ten_to(_TOKEN_EXPONENT - market.decimals)
    if kind == SpotBalanceType.DEPOSIT:
        return balance * market.cumulative_deposit_interest // divisor
    return balance * market.cumulative_borrow_interest // -divisor


def _token_value(amount: int, decimals: int, price: int) -> int:
    """Return the value of tokens, a debt rounded away from zero."""
    return amount * price // _ten_to(decimals)


def _spot_weight(market: SpotMarket, amount: int, value: int, price: int, kind: MarginType) -> int:
    """Return the weight (1e4) of a token holding or debt."""
    size = abs(amount) * AMM_RESERVE_PRECISION // _ten_to(market.decimals)
    if value > 0:
        initial = market.initial_asset_weight
        if market.scale_initial_asset_weight_start and kind is not MarginType.MAINTENANCE:
            deposits = token_amount(market.deposit_balance, market, SpotBalanceType.DEPOSIT)
            deposit_value = _token_value(deposits, market.decimals, price)
            if deposit_value >= market.scale_initial_asset_weight_start:
                initial = initial * market.scale_initial_asset_weight_start // deposit_value
        weight = {
            MarginType.INITIAL: initial,
            MarginType.FILL: (initial + market.maintenance_asset_weight) // 2,
            MarginType.MAINTENANCE: market.maintenance_asset_weight,
        }[kind]
        return min(weight, _size_discount(size, market.imf_factor, weight))
    weight = {
        MarginType.INITIAL: market.initial_liability_weight,
        MarginType.FILL: (market.initial_liability_weight + market.maintenance_liability_weight) // 2,
        MarginType.MAINTENANCE: market.maintenance_liability_weight,
    }[kind]
    return max(weight, size_premium(size, market.imf_factor, weight, MARGIN_PRECISION))


class _SpotSide(msgspec.Struct, frozen=True):
    amount: int
    value: int
    weighted: int
    orders: int

    @property
    def contribution(self) -> int:
        return self.weighted + self.orders


def _spot_side(
    market: SpotMarket, price: _StrictPrice, amount: int, value: int, *, filled: int, kind: MarginType
) -> _SpotSide:
    """Return a token position as if its open orders of one side (`filled` tokens) had filled."""
    orders = _token_value(-filled, market.decimals, price.high)
    amount, value = amount + filled, value - orders
    weight = _spot_weight(market, amount, value, price.current, kind) if value else 0
    return _SpotSide(amount, value, _truncated(value * weight, MARGIN_PRECISION), orders)


def _with_custom_ratio(side: _SpotSide, market: SpotMarket, price: int, custom_ratio: int) -> _SpotSide:
    """Tighten a side's weight by the account's own ratio (`apply_user_custom_margin_ratio`)."""
    if custom_ratio == 0 or side.weighted == 0:
        return side
    weight = _spot_weight(market, side.amount, side.value, price, MarginType.INITIAL)
    if side.weighted < 0:
        weight = max(weight, MARGIN_PRECISION + custom_ratio)
    else:
        weight = min(weight, max(MARGIN_PRECISION - custom_ratio, 0))
    return msgspec.structs.replace(side, weighted=_truncated(side.value * weight, MARGIN_PRECISION))


def _spot_margin(
    position: SpotPosition, market: SpotMarket, price: _StrictPrice, kind: MarginType, custom_ratio: int
) -> Margin:
    """Return what one token position adds to collateral and requirement."""
    amount = token_amount(position.scaled_balance, market, position.balance_type)
    value = _token_value(amount, market.decimals, price.low if amount > 0 else price.high)
    if market.market_index == QUOTE_SPOT_MARKET:
        return Margin(value, 0) if amount >= 0 else Margin(0, -value)
    asks = _spot_side(market, price, amount, value, filled=position.open_asks, kind=kind)
    bids = _spot_side(market, price, amount, value, filled=position.open_bids, kind=kind)
    worst = asks if asks.contribution <= bids.contribution else bids
    worst = _with_custom_ratio(worst, market, price.current, custom_ratio)
    collateral = max(worst.weighted, 0) + max(worst.orders, 0)
    requirement = max(-worst.weighted, 0) + max(-worst.orders, 0) + position.open_orders * OPEN_ORDER_MARGIN
    return Margin(collateral, requirement)


def _parts(
    book: Book, kind: MarginType, *, strict: bool, prices: Mapping[Pubkey, int], moving: Pubkey | None, fixed: bool
) -> Margin:
    """Sum the positions; with `moving`, only those that do (or, `fixed`, do not) depend on that price account."""
    custom_ratio = book.user.max_margin_ratio if kind is MarginType.INITIAL else 0
    total = Margin(0, 0)
    for spot in book.user.spot_positions:
        if spot.is_available:
            continue
        token = book.spot_markets[spot.market_index]
        if moving is not None and (token.oracle == moving) == fixed:
            continue
        price = _strict(prices[token.oracle], token.last_oracle_price_twap_5min, strict=strict)
        total += _spot_margin(spot, token, price, kind, custom_ratio)
    for perp in book.user.perp_positions:
        if perp.is_available:
            continue
        market = book.perp_markets[perp.market_index]
        if moving is not None and (market.oracle == moving) == fixed:
            continue
        token = book.spot_markets[market.quote_spot_market_index]
        quote = _strict(prices[token.oracle], token.last_oracle_price_twap_5min, strict=strict)
        total += _perp_margin(perp, market, prices[market.oracle], quote, kind=kind, custom_ratio=custom_ratio)
    return total


def account_margin(book: Book, kind: MarginType, *, strict: bool = False) -> Margin:
    """Return collateral and requirement of the whole account.

    Args:
        book: the account with every market and price that it holds.
        kind: which ratios.
        strict: price tokens at the worse of now and their five minute average, as when placing an order.
    """
    return _parts(book, kind, strict=strict, prices=book.prices, moving=None, fixed=True)


def liquidation_price(book: Book, market_index: int) -> int | None:
    """Return the market's oracle price (1e6) at which the whole account can first be liquidated, all else as it is.

    That is the nearest price, going against the position, where total collateral falls below the maintenance
    requirement; the present price when it already has. Positions and tokens on the same price account move along.
    Null when there is no position, or no price would do it.
    """
    position = book.user.perp_position(market_index)
    if position is None or position.base_asset_amount == 0:
        return None
    market = book.perp_markets[market_index]
    oracle, now = market.oracle, book.prices[market.oracle]
    prices = dict(book.prices)
    rest = _parts(book, MarginType.MAINTENANCE, strict=False, prices=prices, moving=oracle, fixed=True)

    def good(price: int) -> bool:
        prices[oracle] = price
        moving = _parts(book, MarginType.MAINTENANCE, strict=False, prices=prices, moving=oracle, fixed=False)
        return (rest + moving).free >= 0

    if not good(now):
        return now
    if position.base_asset_amount > 0:
        bad_side, good_side = 0, now
        if good(1):
            return None
    else:
        good_side, bad_side = now, now * 2
        while good(bad_side):
            good_side, bad_side = bad_side, bad_side * 2
            if bad_side > now * 2**20:
                return None
    while abs(good_side - bad_side) > 1:
        middle = (good_side + bad_side) // 2
        if good(middle):
            good_side = middle
        else:
            bad_side = middle
    return bad_side
