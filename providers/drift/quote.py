"""What the venue would do with an order now: price, fee, funding, margin, liquidation price, capacity.

All arithmetic is in the program's integers (`curve`, `margin`, `oracles`); this module puts it together and turns it
into dollars, rounded against the caller. Nothing here reads the chain.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import msgspec

from providers.base.errors import (
    BeingLiquidated,
    BelowMinimum,
    InvalidSize,
    LeverageAboveMaximum,
    MarketPaused,
    MarketReduceOnly,
    NoLiquidity,
    OpenInterestCap,
    ProviderError,
    WouldNet,
)
from providers.base.types import Lifecycle, Market, OrderKind, Quote, QuoteTerms, Side
from providers.drift import curve
from providers.drift.constants import (
    AMM_RESERVE_PRECISION,
    BASE_PRECISION,
    FUNDING_RATE_PRECISION,
    MARGIN_PRECISION,
    OPEN_ORDER_MARGIN,
    PRICE_PRECISION,
    QUOTE_PRECISION,
    Direction,
    ExchangeStatus,
    MarginType,
    MarketStatus,
    PerpOperation,
)
from providers.drift.errors import drift_refusal
from providers.drift.layouts import FeeTier, PerpMarket, PerpPosition, State, User, UserStats
from providers.drift.margin import Book, Margin, account_margin, liquidation_price, perp_margin_ratio
from providers.drift.oracles import (
    OraclePrice,
    confidence_multiplier,
    oracle_error,
    oracle_validity,
    too_far_from_twap,
)
from providers.drift.reading import ListedMarket, Snapshot

__all__ = [
    "Priced",
    "after_order",
    "amm_refusal",
    "base_of",
    "capacity_base",
    "close_refusal",
    "direction_of",
    "exchange_lifecycle",
    "fee_tier_of",
    "market_lifecycle",
    "market_of",
    "open_refusal",
    "order_margin",
    "price_order",
    "quote_of",
    "to_usd",
    "unfilled_refusal",
]

_BPS: Final = Decimal(10_000)
_HOUR_S: Final = 3600
_BPS_STEP: Final = Decimal("0.0001")
_RATE_STEP: Final = Decimal("0.000000001")
_PRICE_STEP: Final = Decimal("0.000001")
_LEVERAGE_STEP: Final = Decimal("0.01")
_MILLION: Final = 1_000_000 * QUOTE_PRECISION
# Least 30 day volume and least stake (both quote precision) of each fee tier above the first, from the best down. A
# stake may be a dollar short. `math/fees.rs`, determine_perp_fee_tier, version 2.84.
_TIERS: Final = (
    (5, 100 * _MILLION, 10_000 * QUOTE_PRECISION),
    (4, 50 * _MILLION, 5_000 * QUOTE_PRECISION),
    (3, 10 * _MILLION, 2_000 * QUOTE_PRECISION),
    (2, 5 * _MILLION, 1_000 * QUOTE_PRECISION),
    (1, 1 * _MILLION, 500 * QUOTE_PRECISION),
)


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """An order priced on the curve, in the program's precision."""

    direction: Direction
    base: int
    quote: int
    fee: int
    marginal_price: int


def to_usd(amount: int) -> Decimal:
    """Return an amount in quote precision in dollars."""
    return Decimal(amount) / QUOTE_PRECISION


def _to_base(amount: int) -> Decimal:
    return Decimal(amount) / BASE_PRECISION


def _to_price(price: int) -> Decimal:
    return Decimal(price) / PRICE_PRECISION


def direction_of(kind: OrderKind, side: Side) -> Direction:
    """Return which way an order trades: a close of a long sells."""
    return Direction.LONG if kind.buys(side) else Direction.SHORT


def fee_tier_of(state: State, stats: UserStats | None) -> FeeTier:
    """Return the taker's fee tier; the first (the dearest) for an account that is not known."""
    if stats is not None:
        volume = stats.maker_volume_30d + stats.taker_volume_30d
        for tier, least_volume, least_stake in _TIERS:
            if volume >= least_volume or stats.if_staked_quote_asset_amount >= least_stake - QUOTE_PRECISION:
                return state.fee_tiers[tier]
    return state.fee_tiers[0]


# --- lifecycle --------------------------------------------------------------------------------------------------------


def exchange_lifecycle(state: State) -> tuple[Lifecycle, str]:
    """Return what the exchange as a whole lets anybody do, and why not more."""
    paused = ExchangeStatus(state.exchange_status & ExchangeStatus.ALL)
    if paused == ExchangeStatus.ALL:
        return Lifecycle.HALTED, "the exchange is paused"
    if paused & ExchangeStatus.FILL_PAUSED:
        return Lifecycle.HALTED, "fills are paused on the exchange"
    if paused & ExchangeStatus.AMM_PAUSED:
        return Lifecycle.HALTED, "the AMM is paused on the exchange"
    return Lifecycle.LIVE, ""


def market_lifecycle(market: PerpMarket, now: int) -> tuple[Lifecycle, str]:
    """Return what one market lets anybody do at the chain's time `now`, and why not more."""
    settled = market.status in {MarketStatus.SETTLEMENT, MarketStatus.DELISTED}
    if settled or (market.expiry_ts != 0 and now >= market.expiry_ts):
        return Lifecycle.RETIRED, "the market is settled" if settled else "the market has expired"
    if market.status not in {MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY}:
        return Lifecycle.HALTED, f"the market's status is {MarketStatus(market.status).name.lower()}"
    if market.paused_operations & PerpOperation.FILL:
        return Lifecycle.HALTED, "fills are paused in the market"
    if market.paused_operations & PerpOperation.AMM_FILL:
        return Lifecycle.HALTED, "the AMM does not fill in the market"
    if market.status == MarketStatus.REDUCE_ONLY:
        return Lifecycle.REDUCE_ONLY, "the market takes reductions only"
    return Lifecycle.LIVE, ""


def market_of(
    listed: ListedMarket, market: PerpMarket, *, state: State, now: int, oracle: OraclePrice | None
) -> Market:
    """Return a market in the shared terms; its lifecycle is the stricter of the exchange's and its own."""
    lifecycle, reason = exchange_lifecycle(state)
    if lifecycle is Lifecycle.LIVE:
        lifecycle, reason = market_lifecycle(market, now)
    return Market(
        provider="drift",
        symbol=listed.symbol,
        venue_symbol=market.venue_symbol,
        step_size=_to_base(market.order_step_size),
        min_size=_to_base(max(market.min_order_size, market.order_step_size)),
        tick_size=_to_price(market.order_tick_size),
        max_leverage=_leverage_of(market.margin_ratio_initial),
        initial_margin_ratio=Decimal(market.margin_ratio_initial) / MARGIN_PRECISION,
        maintenance_margin_ratio=Decimal(market.margin_ratio_maintenance) / MARGIN_PRECISION,
        lifecycle=lifecycle,
        lifecycle_reason=reason,
        oracle_price=None if oracle is None else _to_price(oracle.price),
    )


def open_refusal(snapshot: Snapshot, side: Side) -> ProviderError | None:
    """Return why nothing can be opened here now, whatever the size; null when it can."""
    return _venue_refusal(snapshot) or _account_refusal(snapshot, side)


def _venue_refusal(snapshot: Snapshot) -> ProviderError | None:
    lifecycle, reason = exchange_lifecycle(snapshot.state)
    if lifecycle is Lifecycle.LIVE:
        lifecycle, reason = market_lifecycle(snapshot.market, snapshot.now)
    if lifecycle is Lifecycle.LIVE:
        return None
    code = _program_code(snapshot)
    if code is not None:
        return drift_refusal(code, reason)
    return MarketPaused(reason)


def _program_code(snapshot: Snapshot) -> int | None:
    """Return what the program answers to an open in a venue that is not live; null where it takes it to let it rest.

    As measured on the program, in the order of `exchange_lifecycle` and `market_lifecycle`.
    """
    paused = snapshot.state.exchange_status
    if paused & ExchangeStatus.ALL == ExchangeStatus.ALL or paused & ExchangeStatus.FILL_PAUSED:
        return 6024
    return None if paused & ExchangeStatus.AMM_PAUSED else _market_code(snapshot.market, snapshot.now)


def _market_code(market: PerpMarket, now: int) -> int | None:
    if market.status in {MarketStatus.SETTLEMENT, MarketStatus.DELISTED}:
        return None
    if market.expiry_ts != 0 and now >= market.expiry_ts:
        return 6147
    if market.status == MarketStatus.INITIALIZED:
        return 6213
    if market.paused_operations & PerpOperation.FILL:
        return 6148
    takes_reductions = market.status == MarketStatus.REDUCE_ONLY
    return 6046 if takes_reductions and not market.paused_operations & PerpOperation.AMM_FILL else None


def _account_refusal(snapshot: Snapshot, side: Side) -> ProviderError | None:
    user = snapshot.user
    if user is None:
        return None
    if user.is_being_liquidated:
        return BeingLiquidated("the account is in liquidation")
    held = snapshot.held_base
    if user.is_reduce_only:
        return drift_refusal(6254, "the account may only reduce")
    if held * (1 if side is Side.LONG else -1) < 0:
        return WouldNet(f"the account holds {_to_base(held)} {snapshot.listed.symbol} on the other side")
    return None


def amm_refusal(snapshot: Snapshot) -> ProviderError | None:
    """Return why the AMM would fill nothing now; null when it would.

    The program takes such an order without an error and lets it rest, so this is looked at before anything is sent.
    """
    market, oracle = snapshot.market, snapshot.oracle
    validity = oracle_validity(
        oracle,
        slot=snapshot.slot,
        twap=market.last_oracle_price_twap,
        rails=snapshot.state.guard_rails,
        multiplier=confidence_multiplier(market.contract_tier),
    )
    error = oracle_error(validity, oracle, snapshot.slot)
    if error is not None:
        return error
    if too_far_from_twap(oracle.price, market.last_oracle_price_twap_5min, snapshot.state.guard_rails):
        return NoLiquidity("the oracle has left its five minute average by more than the exchange trusts")
    if curve.has_too_much_drawdown(market):
        return NoLiquidity("the AMM has lost too much in this hour to take fills")
    return None


def unfilled_refusal(snapshot: Snapshot, direction: Direction) -> ProviderError | None:
    """Return what keeps the AMM from filling anything, other than the price; null when only that can be it."""
    refusal = _venue_refusal(snapshot)
    if refusal is None or isinstance(refusal, MarketReduceOnly):
        # A market that only reduces takes reductions.
        refusal = amm_refusal(snapshot)
    if refusal is None and curve.available_liquidity(snapshot.market, direction) == 0:
        return NoLiquidity("the AMM has nothing left on this side")
    return refusal


def close_refusal(snapshot: Snapshot, side: Side, base: int) -> BelowMinimum | None:
    """Return why the AMM can never fill this part of a holding; null when it can.

    The program takes reductions below the market's smallest order, and lets them end unfilled while more than that is
    held: only then is a step enough (`fulfill_perp_order_with_amm`, version 2.84).
    """
    least = snapshot.market.min_order_size
    held = snapshot.held_base if side is Side.LONG else -snapshot.held_base
    if held <= least or base >= least:
        return None
    return BelowMinimum(
        f"{_to_base(base)} of {_to_base(held)} is less than the smallest order of {_to_base(least)}, and is never"
        " filled while the account holds more than that: close it together with other lots of"
        f" {snapshot.listed.symbol}, or all of it"
    )


# --- size and price ---------------------------------------------------------------------------------------------------


def base_of(terms: QuoteTerms, snapshot: Snapshot) -> int:
    """Return the base (1e9) that is asked for, rounded down to the step; dollars are turned into base at the curve.

    Raises:
        InvalidSize: not a positive size.
        BelowMinimum: less than a step, or than the market's smallest order.
        NoLiquidity: the dollars would empty the curve.
    """
    market, step = snapshot.market, snapshot.market.order_step_size
    if terms.size is not None:
        if terms.size <= 0:
            raise InvalidSize(f"{terms.size} is not a size")
        asked = int(terms.size * BASE_PRECISION)
    else:
        asked = _base_of_usd(terms, snapshot)
    base = curve.round_size(asked, step)
    least = step if terms.kind is OrderKind.CLOSE else max(market.min_order_size, step)
    if base < least:
        code = 6059 if base < step else 6056
        error = drift_refusal(
            code,
            f"{_to_base(asked)} rounds to {_to_base(base)}; the smallest order is {_to_base(least)} (base {base},"
            f" step {step}, minimum {least})",
        )
        raise error if isinstance(error, BelowMinimum) else BelowMinimum(error.detail)
    return base


def _base_of_usd(terms: QuoteTerms, snapshot: Snapshot) -> int:
    if terms.size_usd is None or terms.size_usd <= 0:
        raise InvalidSize(f"{terms.size_usd} is not a size")
    usd = int(terms.size_usd * QUOTE_PRECISION)
    direction = direction_of(terms.kind, terms.side)
    sides = curve.fill_reserves(snapshot.market, direction, snapshot.oracle.price)
    base = usd * AMM_RESERVE_PRECISION // max(1, *(side.price() for side in sides))
    # The average price is worse than the marginal one: what the dollars buy is found from the price of the size itself.
    for _ in range(2):
        quote = curve.fill_quote_amount(sides, base, direction) if base > 0 else None
        if quote:
            base = base * usd // quote
    return base


def price_order(snapshot: Snapshot, direction: Direction, base: int) -> Priced:
    """Price `base` on the curve.

    Raises:
        NoLiquidity: the side of the curve holds less.
    """
    market = snapshot.market
    sides = curve.fill_reserves(market, direction, snapshot.oracle.price)
    quote = curve.fill_quote_amount(sides, base, direction)
    if quote is None or quote <= 0:
        raise NoLiquidity(f"the AMM cannot take {_to_base(base)}")
    prices = [side.price() for side in sides]
    return Priced(
        direction=direction,
        base=base,
        quote=quote,
        fee=curve.taker_fee(quote, fee_tier_of(snapshot.state, snapshot.stats), market.fee_adjustment),
        marginal_price=max(prices) if direction is Direction.LONG else min(prices),
    )


def _open_interest_room(market: PerpMarket, direction: Direction) -> int | None:
    """Return the base that the cap leaves on one side; after a fill open interest must stay *below* the cap."""
    if market.max_open_interest == 0:
        return None
    longs, shorts = market.base_asset_amount_long, -market.base_asset_amount_short
    most = market.max_open_interest - 1
    if longs > most or shorts > most:
        return 0
    return max(most - (longs if direction is Direction.LONG else shorts), 0)


def capacity_base(market: PerpMarket, direction: Direction) -> int:
    """Return the base that one open takes now: the least of the AMM's share a fill and the open interest cap's room."""
    share, room = curve.available_liquidity(market, direction), _open_interest_room(market, direction)
    return share if room is None else curve.round_size(min(share, room), market.order_step_size)


def check_capacity(snapshot: Snapshot, priced: Priced) -> None:
    """Refuse an open that the market would not take whole.

    Raises:
        OpenInterestCap: the cap leaves less.
        NoLiquidity: one fill of the AMM gives less, or the price leaves the venue's bands.
    """
    market, direction = snapshot.market, priced.direction
    room = _open_interest_room(market, direction)
    if room is not None and priced.base > room:
        raise OpenInterestCap(
            f"the cap leaves {_to_base(room)}, {_to_base(priced.base)} was asked for",
            raw_code=6154,
            raw_name="MaxOpenInterest",
        )
    share = curve.available_liquidity(market, direction)
    if priced.base > share:
        raise NoLiquidity(f"one fill takes {_to_base(share)} at the most, {_to_base(priced.base)} was asked for")
    if curve.breaches_price_bands(
        market,
        fill_price=curve.fill_price_of(priced.quote, priced.base),
        oracle_price=snapshot.oracle.price,
        direction=direction,
        twap_divergence=snapshot.state.guard_rails.max_twap_divergence,
    ):
        raise drift_refusal(6023, "the price of this size leaves the venue's bands around its oracle")


# --- margin -----------------------------------------------------------------------------------------------------------


def _leverage_of(ratio: int) -> Decimal:
    if ratio == 0:
        return Decimal(1)
    return (Decimal(MARGIN_PRECISION) / ratio).quantize(_LEVERAGE_STEP, ROUND_FLOOR)


def max_leverage(market: PerpMarket, user: User | None, base: int) -> Decimal:
    """Return the leverage that a position of `base` may have: larger ones need more margin, and an account may too."""
    ratio = perp_margin_ratio(market, base, MarginType.INITIAL)
    return _leverage_of(max(ratio, 0 if user is None else user.max_margin_ratio))


def after_order(book: Book, priced: Priced, market_index: int) -> Book:
    """Return the account as it will be once the order has filled at its price and paid its fee."""
    signed = priced.base if priced.direction is Direction.LONG else -priced.base
    quote = -priced.quote if priced.direction is Direction.LONG else priced.quote
    position = _position(book, market_index)
    market = book.perp_markets[market_index]
    paid = position.last_cumulative_funding_rate
    if position.base_asset_amount == 0:
        # A position begins at the funding that its side has paid.
        paid = market.cumulative_funding_rate_long if signed > 0 else market.cumulative_funding_rate_short
    filled = msgspec.structs.replace(
        position,
        last_cumulative_funding_rate=paid,
        base_asset_amount=position.base_asset_amount + signed,
        quote_asset_amount=position.quote_asset_amount + quote - priced.fee,
    )
    return _with_position(book, filled)


def order_margin(book: Book, priced: Priced, market_index: int) -> tuple[Margin, Margin]:
    """Return the account's initial margin as it is, and with the order placed: the program's own check on placing."""
    position = _position(book, market_index)
    signed = priced.base if priced.direction is Direction.LONG else -priced.base
    placed = msgspec.structs.replace(
        position,
        open_bids=position.open_bids + max(signed, 0),
        open_asks=position.open_asks + min(signed, 0),
        open_orders=position.open_orders + 1,
    )
    before = account_margin(book, MarginType.INITIAL, strict=True)
    return before, account_margin(_with_position(book, placed), MarginType.INITIAL, strict=True)


def _position(book: Book, market_index: int) -> PerpPosition:
    held = book.user.perp_position(market_index)
    return held if held is not None else PerpPosition(0, 0, 0, 0, 0, 0, 0, market_index, 0)


def _with_position(book: Book, position: PerpPosition) -> Book:
    others = [each for each in book.user.perp_positions if each.market_index != position.market_index]
    user = msgspec.structs.replace(book.user, perp_positions=(*others, position))
    return msgspec.structs.replace(book, user=user)


# --- the quote --------------------------------------------------------------------------------------------------------


def _carry_rate_1h(market: PerpMarket, side: Side, oracle_price: int) -> Decimal:
    """Return the last funding rate of a side per hour as a fraction of notional, rounded against the caller.

    Rates are quote per base (1e9) for one funding period; longs pay a positive rate, shorts receive it.
    """
    rate = market.last_funding_rate_long if side is Side.LONG else -market.last_funding_rate_short
    period = max(market.funding_period, 1)
    fraction = Decimal(rate) * PRICE_PRECISION * _HOUR_S / (Decimal(FUNDING_RATE_PRECISION) * oracle_price * period)
    return fraction.quantize(_RATE_STEP, ROUND_CEILING)


def _impact_bps(priced: Priced) -> Decimal:
    average = Decimal(priced.quote) * AMM_RESERVE_PRECISION / priced.base
    distance = average / max(priced.marginal_price, 1) - 1
    if priced.direction is Direction.SHORT:
        distance = -distance
    return max(distance * _BPS, Decimal(0)).quantize(_BPS_STEP, ROUND_CEILING)


def quote_of(terms: QuoteTerms, snapshot: Snapshot, *, as_of: datetime, lifetime_s: float) -> Quote:
    """Return the all-in price of an order. A close is priced whenever the curve can be read.

    Raises:
        ProviderError: a leaf that tells why the venue would not take an open now.
    """
    market, direction = snapshot.market, direction_of(terms.kind, terms.side)
    opens = terms.kind is OrderKind.OPEN
    if opens:
        refusal = open_refusal(snapshot, terms.side) or amm_refusal(snapshot)
        if refusal is not None:
            raise refusal
    base = base_of(terms, snapshot)
    priced = price_order(snapshot, direction, base)
    most = max_leverage(market, snapshot.user, abs(snapshot.held_base) + base if opens else base)
    if opens:
        check_capacity(snapshot, priced)
        check_leverage(terms.leverage, most)
    expected = Decimal(priced.quote) * AMM_RESERVE_PRECISION / (Decimal(priced.base) * QUOTE_PRECISION)
    rounding = ROUND_CEILING if direction is Direction.LONG else ROUND_FLOOR
    return Quote(
        provider="drift",
        market=snapshot.listed.symbol,
        side=terms.side,
        size=_to_base(base),
        size_usd=to_usd(priced.quote),
        leverage=terms.leverage,
        oracle_price=_to_price(snapshot.oracle.price),
        expected_price=expected.quantize(_PRICE_STEP, rounding),
        price_impact_bps=_impact_bps(priced),
        fee_usd=to_usd(priced.fee),
        fee_bps=(Decimal(priced.fee) * _BPS / priced.quote).quantize(_BPS_STEP, ROUND_CEILING),
        carry_rate_1h=_carry_rate_1h(market, terms.side, max(snapshot.oracle.price, 1)),
        margin_required_usd=margin_required(snapshot, priced, terms.leverage) if opens else Decimal(0),
        liquidation_price=_liquidation_after(snapshot, priced),
        max_leverage=most,
        capacity_usd=to_usd(capacity_base(market, direction) * max(snapshot.oracle.price, 0) // AMM_RESERVE_PRECISION),
        slot=snapshot.slot,
        as_of=as_of,
        expires_at=as_of + timedelta(seconds=lifetime_s),
    )


def check_leverage(leverage: Decimal, most: Decimal) -> None:
    """Refuse more leverage than a position of this size may have.

    Raises:
        LeverageAboveMaximum: it is.
    """
    if leverage > most:
        raise LeverageAboveMaximum(f"{leverage} was asked for, {most} is the most for this size")


def margin_required(snapshot: Snapshot, priced: Priced, leverage: Decimal) -> Decimal:
    """Return the free collateral that an open needs, dollars rounded up: the caller's share, or the venue's if more."""
    asked = (to_usd(priced.quote) / leverage).quantize(_PRICE_STEP, ROUND_CEILING)
    if snapshot.book is not None:
        before, after = order_margin(snapshot.book, priced, snapshot.market.market_index)
        return max(asked, to_usd(after.requirement - before.requirement))
    ratio = perp_margin_ratio(snapshot.market, priced.base, MarginType.INITIAL)
    value = priced.base * max(snapshot.oracle.price, 0) // AMM_RESERVE_PRECISION
    return max(asked, to_usd(value * ratio // MARGIN_PRECISION + OPEN_ORDER_MARGIN))


def _liquidation_after(snapshot: Snapshot, priced: Priced) -> Decimal | None:
    book = snapshot.book
    if book is None or not book.exact or snapshot.oracle.price <= 0:
        return None
    price = liquidation_price(after_order(book, priced, snapshot.market.market_index), snapshot.market.market_index)
    return None if price is None else _to_price(price)
