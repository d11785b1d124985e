"""Margin of a whole account: collateral and requirement over all its positions and open orders (1e6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import isqrt

from router.localnet.drift.enums import BalanceType, ContractTier, Direction, MarketStatus, UserStatus
from router.localnet.drift.funding import funding_owed
from router.localnet.drift.layouts import PerpPosition, User
from router.localnet.drift.maps import Maps
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import (
    BASE_PRECISION,
    MARGIN_PRECISION,
    PERCENTAGE_PRECISION,
    PRICE_PRECISION,
    QUOTE_PRECISION,
    div,
)
from router.localnet.drift.positions import is_free, worst_case_base
from router.localnet.drift.spot import signed_tokens

__all__ = [
    "Margin",
    "MarginKind",
    "account_margin",
    "check_order_margin",
    "check_withdraw_margin",
    "largest_order",
    "margin_ratio",
]

_PER_OPEN_ORDER = QUOTE_PRECISION // 100
_MOST_INITIAL_PROFIT = 100 * QUOTE_PRECISION


class MarginKind(Enum):
    """Which ratio is asked for; the value is the word that the program prints."""

    INITIAL = "Initial"
    FILL = "Fill"
    MAINTENANCE = "Maintenance"


@dataclass(slots=True)
class Margin:
    """Sums over an account; `buffered` is the requirement with the liquidation buffer, `by_market` its perps' parts."""

    collateral: int = 0
    requirement: int = 0
    buffered: int = 0
    perp_liabilities: int = 0
    spot_liabilities: int = 0
    oracles_valid: bool = True
    isolated_perp: bool = False
    by_market: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def met(self) -> bool:
        """Whether the collateral covers the requirement."""
        return self.collateral >= self.requirement

    def require(self, amount: int, liability: int, buffer: int) -> None:
        """Add to the requirement."""
        self.requirement += amount
        self.buffered += amount + liability * buffer // MARGIN_PRECISION


def margin_ratio(market: PerpMarket, base: int, kind: MarginKind) -> int:
    """Return the ratio (1e4) for a size (1e9): larger for large positions."""
    ratio = {
        MarginKind.INITIAL: market.margin_ratio_initial,
        MarginKind.FILL: (market.margin_ratio_initial + market.margin_ratio_maintenance) // 2,
        MarginKind.MAINTENANCE: market.margin_ratio_maintenance,
    }[kind]
    if market.status == MarketStatus.SETTLEMENT:
        return 0
    if market.imf_factor == 0:
        return ratio
    root = isqrt(base * 10 + 1)
    premium = root * market.imf_factor // (100_000 * PERCENTAGE_PRECISION // MARGIN_PRECISION)
    return max(ratio, ratio - ratio // 5 + premium)


def _profit_weight(market: PerpMarket, profit: int, kind: MarginKind) -> int:
    """Return how much of an unsettled profit counts (1e4); a loss counts whole."""
    if profit <= 0:
        return MARGIN_PRECISION
    if kind is MarginKind.MAINTENANCE:
        return market.unrealized_pnl_maintenance_asset_weight
    weight = market.unrealized_pnl_initial_asset_weight
    most = market.unrealized_pnl_max_imbalance
    if weight > 0 and most > 0:
        amm = market.amm
        net = amm.base_asset_amount_with_amm + amm.base_asset_amount_with_unsettled_lp
        value = div(net * amm.historical_oracle_data.last_oracle_price, BASE_PRECISION)
        imbalance = value + amm.quote_asset_amount + amm.quote_asset_amount_with_unsettled_lp
        imbalance += amm.net_unsettled_funding_pnl
        if imbalance > most:
            weight = weight * most // imbalance
    if weight == 0 or market.unrealized_pnl_imf_factor == 0:
        return weight
    root = isqrt(profit * 1_000 * 10 + 1)
    discount = PERCENTAGE_PRECISION + root * market.unrealized_pnl_imf_factor // 100_000
    return min(weight, (PERCENTAGE_PRECISION + PERCENTAGE_PRECISION // 10) * MARGIN_PRECISION // discount)


def _perp_margin(
    margin: Margin,
    maps: Maps,
    position: PerpPosition,
    kind: MarginKind,
    custom_ratio: int,
    *,
    strict: bool,
    buffer: int,
) -> None:
    """Add one position with its open orders, valued at the oracle."""
    market = maps.perp_market(position.market_index)
    quote_market = maps.spot_market(market.quote_spot_market_index)
    quote = maps.price(quote_market.oracle).price
    margin.oracles_valid &= maps.spot_validity(quote_market).margins
    average = quote_market.historical_oracle_data.last_oracle_price_twap_5min
    quote_low, quote_high = (min(quote, average), max(quote, average)) if strict else (quote, quote)
    valid = maps.perp_validity(market).margins
    settled = market.status == MarketStatus.SETTLEMENT
    price = max(market.expiry_price if settled else maps.price(market.amm.oracle).price, 0)

    profit = div(position.base_asset_amount * price, BASE_PRECISION) + position.quote_asset_amount
    profit += funding_owed(position, market)
    worst = abs(worst_case_base(position))
    liability = worst * price // BASE_PRECISION * quote_high // PRICE_PRECISION
    ratio = max(custom_ratio, margin_ratio(market, worst, kind))
    required = 0 if settled else liability * ratio // MARGIN_PRECISION
    required += position.open_orders * _PER_OPEN_ORDER
    margin.by_market[market.market_index] = required
    margin.require(required, liability, buffer)

    weight = _profit_weight(market, profit, kind)
    quote_price = quote_low if profit > 0 else quote_high if profit < 0 else quote
    profit = div(profit * weight, MARGIN_PRECISION) if weight != MARGIN_PRECISION else profit
    profit = div(profit * quote_price, PRICE_PRECISION) if quote_price != PRICE_PRECISION else profit
    margin.collateral += min(profit, _MOST_INITIAL_PROFIT) if kind is MarginKind.INITIAL else profit

    has_order = position.open_orders or position.open_bids or position.open_asks
    if position.base_asset_amount or position.quote_asset_amount < 0 or has_order or position.lp_shares:
        margin.perp_liabilities += 1
        margin.isolated_perp |= market.contract_tier == ContractTier.ISOLATED
        margin.oracles_valid &= valid
    elif kind is not MarginKind.INITIAL:
        margin.oracles_valid &= valid


def account_margin(user: User, maps: Maps, kind: MarginKind, *, strict: bool = False, buffer: int = 0) -> Margin:
    """Return the sums of an account.

    Args:
        user: the account; only its USDC counts among tokens.
        maps: markets and oracles.
        kind: which ratio.
        strict: value dollars at the worse of price and 5-minute average.
        buffer: what liquidation adds to every liability (1e4).

    Raises:
        ModelRefusal: a market or oracle of the account was not passed.
    """
    margin = Margin()
    custom_ratio = user.max_margin_ratio if kind is MarginKind.INITIAL else 0
    for holding in user.spot_positions:
        if holding.scaled_balance == 0 and holding.open_orders == 0:
            continue
        market = maps.spot_market(holding.market_index)
        price = maps.price(market.oracle).price
        margin.oracles_valid &= maps.spot_validity(market).margins
        average = market.historical_oracle_data.last_oracle_price_twap_5min
        maps.run.check(price > 0 and (not strict or average > 0), "InvalidOracle")
        low, high = (min(price, average), max(price, average)) if strict else (price, price)
        tokens = signed_tokens(market, holding)
        if holding.balance_type == BalanceType.DEPOSIT:
            margin.collateral += tokens * low // 10**market.decimals
        else:
            owed = -(tokens * high // 10**market.decimals)
            margin.require(owed, owed, buffer)
            margin.spot_liabilities += 1
    for position in user.perp_positions:
        if not is_free(position):
            _perp_margin(margin, maps, position, kind, custom_ratio, strict=strict, buffer=buffer)
    return margin


def largest_order(user: User, maps: Maps, position: PerpPosition, market: PerpMarket, direction: Direction) -> int:
    """Return the base (1e9) of the largest order that the account can carry, not yet on the step."""
    margin = account_margin(user, maps, MarginKind.INITIAL, strict=True)
    free = margin.collateral - margin.requirement
    price = maps.price(market.amm.oracle).price
    quote_market = maps.spot_market(market.quote_spot_market_index)
    average = quote_market.historical_oracle_data.last_oracle_price_twap_5min
    dollar = max(maps.price(quote_market.oracle).price, average)
    worst = worst_case_base(position)
    flip = 0
    if worst < 0 and direction is Direction.LONG:
        flip = abs(abs(worst) - (position.base_asset_amount + position.open_bids))
    elif worst > 0 and direction is Direction.SHORT:
        flip = abs(-worst - (position.base_asset_amount + position.open_asks))
    if free <= 0:
        return min(flip, max(abs(2 * position.base_asset_amount) - 1, 0))

    def ratio_at(base: int) -> int:
        return max(margin_ratio(market, base, MarginKind.INITIAL), user.max_margin_ratio)

    first = ratio = ratio_at(abs(worst))
    size = 0
    for _ in range(6):
        size = (free - _PER_OPEN_ORDER) * (BASE_PRECISION // QUOTE_PRECISION) * MARGIN_PRECISION
        size = div(div(div(size, ratio) * PRICE_PRECISION, price) * PRICE_PRECISION, dollar)
        maps.run.check(size >= 0, "CastingFailure")
        ratio = ratio_at(abs(worst) + size)
        if ratio == first:
            break
    return size + flip


def _check_isolated(user: User, maps: Maps, margin: Margin) -> None:
    if margin.isolated_perp and not user.status & UserStatus.REDUCE_ONLY:
        maps.run.check(margin.perp_liabilities <= 1, "IsolatedAssetTierViolation")


def check_order_margin(user: User, maps: Maps, *, risk_increasing: bool) -> None:
    """Refuse an order that the account cannot carry: initial margin, or maintenance where it only reduces."""
    kind = MarginKind.INITIAL if risk_increasing else MarginKind.MAINTENANCE
    margin = account_margin(user, maps, kind, strict=True)
    maps.run.check(
        margin.met,
        "InsufficientCollateral",
        f"total_collateral={margin.collateral}, margin_requirement={margin.requirement} margin type = {kind.value}",
    )
    _check_isolated(user, maps, margin)


def check_withdraw_margin(user: User, maps: Maps) -> None:
    """Refuse a withdrawal that leaves less than the initial margin, or relies on a bad oracle."""
    margin = account_margin(user, maps, MarginKind.INITIAL, strict=True)
    if margin.requirement > 0 or margin.perp_liabilities + margin.spot_liabilities > 0:
        maps.run.check(margin.oracles_valid, "InvalidOracle")
    _check_isolated(user, maps, margin)
    maps.run.check(
        margin.met,
        "InsufficientCollateral",
        f"User attempting to withdraw where total_collateral {margin.collateral} is below "
        f"initial_margin_requirement {margin.requirement}",
    )
