"""What the venue would do with an order now: price, fee, funding, margin, liquidation price, capacity, refusals.

All arithmetic is in the program's integers (`book`, `health`, `oracles`); this module puts it together and turns it
into dollars, rounded against the caller. Nothing here reads the chain.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import msgspec

from providers.base.errors import (
    BelowMinimum,
    InsufficientCollateral,
    InvalidSize,
    LeverageAboveMaximum,
    NoLiquidity,
    OracleStale,
    ProviderError,
)
from providers.base.types import Lifecycle, Market, OrderKind, Quote, QuoteTerms, Side
from providers.mango import constants
from providers.mango.book import StopReason, Taker, Walk, best_price, impact_price, oracle_price_lots, walk_book
from providers.mango.constants import (
    EVENT_QUEUE_SLOTS,
    FRACTION_BITS,
    HOURS_PER_DAY,
    ONE,
    QUOTE_DECIMALS,
    IxGate,
)
from providers.mango.errors import mango_refusal
from providers.mango.health import (
    HealthBook,
    HealthType,
    after_order,
    health,
    health_allows,
    initial_margin_ratio,
    is_in_liquidation,
    liquidation_price,
    maintenance_margin_ratio,
)
from providers.mango.layouts import Group, PerpMarket
from providers.mango.orderbook import BookSide
from providers.mango.reading import MarketView, Snapshot

__all__ = [
    "Priced",
    "base_lots_to_size",
    "capacity_usd",
    "check_event_queue",
    "check_health",
    "funding_rate_1h",
    "gate_refusal",
    "group_lifecycle",
    "lots_of",
    "market_lifecycle",
    "market_of",
    "max_leverage",
    "native_to_price",
    "opposing_side",
    "order_side",
    "price_lots_to_price",
    "price_order",
    "quote_lots_to_usd",
    "quote_of",
    "reduce_only_lots",
    "to_usd",
]

_BPS: Final = Decimal(10_000)
_BPS_STEP: Final = Decimal("0.0001")
_RATE_STEP: Final = Decimal("0.000000001")
_PRICE_STEP: Final = Decimal("0.000001")
_RATIO_STEP: Final = Decimal("0.000001")
_LEVERAGE_STEP: Final = Decimal("0.01")
_USD_STEP: Final = Decimal(1).scaleb(-QUOTE_DECIMALS)


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """An order walked through the book.

    Attributes:
        side: of the order.
        walk: what it would match.
        fee: taker fee, native quote as `I80F48`, without the penalty.
        penalty: what an immediate-or-cancel order pays besides, native quote as `I80F48`.
    """

    side: constants.Side
    walk: Walk
    fee: int
    penalty: int


# --- units ------------------------------------------------------------------------------------------------------------


def to_usd(native: int) -> Decimal:
    """Return native quote as `I80F48` in dollars, exactly to a millionth, rounded up (a cost is never understated)."""
    return Decimal(-(-native >> FRACTION_BITS)).scaleb(-QUOTE_DECIMALS)


def _to_usd_down(native: int) -> Decimal:
    return Decimal(native >> FRACTION_BITS).scaleb(-QUOTE_DECIMALS)


def quote_lots_to_usd(market: PerpMarket, quote_lots: int) -> Decimal:
    """Return an amount in quote lots in dollars."""
    return Decimal(quote_lots * market.quote_lot_size).scaleb(-QUOTE_DECIMALS)


def base_lots_to_size(market: PerpMarket, base_lots: int) -> Decimal:
    """Return base lots in base units."""
    return Decimal(base_lots * market.base_lot_size).scaleb(-market.base_decimals)


def price_lots_to_price(market: PerpMarket, price_lots: int) -> Decimal:
    """Return a price in lots in dollars per base unit."""
    return (Decimal(price_lots * market.quote_lot_size) / market.base_lot_size).scaleb(market.price_exponent)


def native_to_price(market: PerpMarket, price: int) -> Decimal:
    """Return native quote per native base as `I80F48` in dollars per base unit."""
    return (Decimal(price) / ONE).scaleb(market.price_exponent)


def _tick(market: PerpMarket) -> Decimal:
    return price_lots_to_price(market, 1)


def order_side(kind: OrderKind, side: Side) -> constants.Side:
    """Return which way an order trades: a close of a long sells."""
    return constants.Side.BID if kind.buys(side) else constants.Side.ASK


def opposing_side(snapshot: Snapshot, side: constants.Side) -> BookSide:
    """Return the side of the book that an order takes from."""
    return snapshot.asks if side is constants.Side.BID else snapshot.bids


def _oracle_lots(snapshot: Snapshot) -> int:
    return oracle_price_lots(snapshot.market, snapshot.oracle.price)


# --- lifecycle and gates ----------------------------------------------------------------------------------------------


def group_lifecycle(group: Group) -> tuple[Lifecycle, str]:
    """Return what the venue as a whole lets anybody do, and why not more."""
    if group.is_disabled(IxGate.PERP_PLACE_ORDER):
        return Lifecycle.HALTED, "the group's gate closes perp orders"
    return Lifecycle.LIVE, ""


def market_lifecycle(market: PerpMarket) -> tuple[Lifecycle, str]:
    """Return what one market lets anybody do, and why not more."""
    if market.force_close:
        return Lifecycle.REDUCE_ONLY, "the market is being closed by force"
    if market.reduce_only:
        return Lifecycle.REDUCE_ONLY, "the market takes reductions only"
    return Lifecycle.LIVE, ""


def market_of(view: MarketView, group: Group) -> Market:
    """Return a market in the shared terms; its lifecycle is the stricter of the group's and its own."""
    market = view.market
    lifecycle, reason = group_lifecycle(group)
    if lifecycle is Lifecycle.LIVE:
        lifecycle, reason = market_lifecycle(market)
    initial = max(initial_margin_ratio(market, long=long) for long in (True, False))
    keeping = max(maintenance_margin_ratio(market, long=long) for long in (True, False))
    step = base_lots_to_size(market, 1)
    return Market(
        provider="mango",
        symbol=view.listed.symbol,
        venue_symbol=market.venue_symbol,
        step_size=step,
        min_size=step,
        tick_size=_tick(market),
        max_leverage=min(max_leverage(market, long=long) for long in (True, False)),
        initial_margin_ratio=_ratio(initial),
        maintenance_margin_ratio=_ratio(keeping),
        lifecycle=lifecycle,
        lifecycle_reason=reason,
        oracle_price=None if view.oracle is None else native_to_price(market, view.oracle.price),
    )


def gate_refusal(snapshot: Snapshot, kind: OrderKind, side: Side) -> ProviderError | None:
    """Return why the venue would take no order of this kind now, whatever its size; null when it would.

    The program asks the same of closes as of opens, except that a market in reduce-only mode takes closes (one that is
    closed by force does too). Nothing of it is hard-coded: every answer stands on what was read.
    """
    return _venue_refusal(snapshot, kind) or _account_refusal(snapshot) or _book_refusal(snapshot, kind, side)


def _venue_refusal(snapshot: Snapshot, kind: OrderKind) -> ProviderError | None:
    market = snapshot.market
    if snapshot.group.is_disabled(IxGate.PERP_PLACE_ORDER):
        return mango_refusal(6042, "the group's gate closes perp orders")
    if kind is OrderKind.OPEN and (market.reduce_only or market.force_close):
        return mango_refusal(6031, market_lifecycle(market)[1])
    if snapshot.oracle_refusal is not None:
        return snapshot.oracle_refusal
    if snapshot.oracle.price <= 0:
        return OracleStale("the oracle's price is not above zero")
    return None


def _account_refusal(snapshot: Snapshot) -> ProviderError | None:
    account, book = snapshot.account, snapshot.book
    if account is None:
        return None
    if account.frozen_until > snapshot.now:
        return mango_refusal(6038, f"the account is frozen until {account.frozen_until}")
    if snapshot.book_refusal is not None:
        return snapshot.book_refusal
    if book is not None and is_in_liquidation(book):
        return mango_refusal(6016, "the account is in liquidation")
    return None


def _book_refusal(snapshot: Snapshot, kind: OrderKind, side: Side) -> ProviderError | None:
    opposing = opposing_side(snapshot, order_side(kind, side))
    if best_price(opposing, now=snapshot.now, oracle_lots=_oracle_lots(snapshot)) is None:
        return NoLiquidity("nothing rests on the other side of the book")
    if snapshot.events.free == 0:
        return NoLiquidity(f"the market's event queue is full ({EVENT_QUEUE_SLOTS})")
    return None


def check_event_queue(snapshot: Snapshot, walk: Walk) -> None:
    """Refuse an order whose matches do not fit the event queue: the program would panic.

    Raises:
        NoLiquidity: they do not fit.
    """
    if walk.events > snapshot.events.free:
        raise NoLiquidity(
            f"the order takes {walk.events} places in the market's event queue, {snapshot.events.free} are free"
        )


# --- size and price ---------------------------------------------------------------------------------------------------


def lots_of(terms: QuoteTerms, snapshot: Snapshot) -> int:
    """Return the base lots that are asked for, rounded down; dollars buy what they buy in the book.

    Raises:
        InvalidSize: not a positive size.
        BelowMinimum: less than a lot; the detail has the smallest order in dollars.
        NoLiquidity: dollars were given and the book is empty.
    """
    market = snapshot.market
    if terms.size is not None:
        if terms.size <= 0:
            raise InvalidSize(f"{terms.size} is not a size")
        asked = f"{terms.size}"
        lots = int(terms.size.scaleb(market.base_decimals)) // market.base_lot_size
    elif terms.size_usd is not None and terms.size_usd > 0:
        asked = f"${terms.size_usd}"
        lots = _lots_for_usd(terms, snapshot, terms.size_usd)
    else:
        raise InvalidSize(f"{terms.size_usd} is not a size")
    if lots < 1:
        least = base_lots_to_size(market, 1)
        usd = (least * native_to_price(market, snapshot.oracle.price)).quantize(_USD_STEP, ROUND_CEILING)
        raise BelowMinimum(f"{asked} is less than the smallest order of {least.normalize():f} (${usd:f})")
    return lots


def _lots_for_usd(terms: QuoteTerms, snapshot: Snapshot, usd: Decimal) -> int:
    side = order_side(terms.kind, terms.side)
    opposing, oracle_lots = opposing_side(snapshot, side), _oracle_lots(snapshot)
    first = best_price(opposing, now=snapshot.now, oracle_lots=oracle_lots)
    if first is None:
        raise NoLiquidity("nothing rests on the other side of the book")
    quote_lots = int(usd.scaleb(QUOTE_DECIMALS)) // snapshot.market.quote_lot_size
    walk = walk_book(opposing, Taker(max_quote_lots=quote_lots), now=snapshot.now, oracle_lots=oracle_lots)
    # What the book does not hold is counted at its last price: the order is then refused for its whole size.
    return walk.base_lots + (quote_lots - walk.quote_lots) // (walk.last_price or first)


def price_order(
    snapshot: Snapshot, side: constants.Side, base_lots: int, *, match_limit: int, price_limit: int | None = None
) -> Priced:
    """Walk an order through the book, without looking at what it leaves unmatched.

    Args:
        snapshot: of the market.
        side: of the order.
        base_lots: its size.
        match_limit: the order's `limit`.
        price_limit: worst price in lots; null: any.
    """
    taker = Taker(max_base_lots=base_lots, price_limit=price_limit, limit=match_limit, account=snapshot.account_key)
    walk = walk_book(opposing_side(snapshot, side), taker, now=snapshot.now, oracle_lots=_oracle_lots(snapshot))
    market = snapshot.market
    fee = walk.quote_lots * market.quote_lot_size * market.taker_fee
    return Priced(side=side, walk=walk, fee=fee, penalty=market.fee_penalty)


def _check_depth(snapshot: Snapshot, priced: Priced, base_lots: int) -> None:
    walk = priced.walk
    if walk.stopped is StopReason.OWN_ORDER:
        raise mango_refusal(6048, "the account's own order rests in the way")
    if walk.base_lots < base_lots:
        market = snapshot.market
        why = "within the order's match limit" if walk.stopped is StopReason.MATCH_LIMIT else "in the book"
        raise NoLiquidity(
            f"{base_lots_to_size(market, walk.base_lots)} of {base_lots_to_size(market, base_lots)} can be had {why}"
        )
    check_event_queue(snapshot, walk)


def reduce_only_lots(snapshot: Snapshot, side: constants.Side, base_lots: int) -> int:
    """Return how much of a reduce-only order the program lets through; it cuts the rest off without an error.

    In a market in reduce-only mode the account's orders that rest on the same side count as filled.
    """
    held = snapshot.held_lots
    position = None if snapshot.account is None else snapshot.account.perp(snapshot.market.perp_market_index)
    if position is not None and snapshot.market.reduce_only:
        held += position.bids_base_lots if side is constants.Side.BID and held < 0 else 0
        held -= position.asks_base_lots if side is constants.Side.ASK and held > 0 else 0
    room = -held if side is constants.Side.BID else held
    return min(max(room, 0), base_lots)


# --- funding, leverage, margin ----------------------------------------------------------------------------------------


def funding_rate_1h(snapshot: Snapshot, side: Side) -> Decimal:
    """Return what a side pays per hour as a fraction of notional; negative: it receives.

    The program's rate is for a day: the book's middle at the impact size against the oracle, within the market's
    bounds; the bound itself where only one side holds that much, and none where neither does.
    """
    market, oracle_lots = snapshot.market, _oracle_lots(snapshot)
    bid, ask = (
        impact_price(each, market.impact_quantity, now=snapshot.now, oracle_lots=oracle_lots)
        for each in (snapshot.bids, snapshot.asks)
    )
    if bid is None and ask is None:
        daily = 0
    elif ask is None:
        daily = market.max_funding
    elif bid is None:
        daily = market.min_funding
    else:
        native = ((bid + ask) // 2 * market.quote_lot_size * ONE) // market.base_lot_size
        difference = native * ONE // max(snapshot.oracle.price, 1) - ONE
        daily = min(max(difference, market.min_funding), market.max_funding)
    rate = (Decimal(daily) / ONE / HOURS_PER_DAY).quantize(_RATE_STEP)
    return rate if side is Side.LONG else -rate


def _ratio(raw: int) -> Decimal:
    """Return a margin ratio to a millionth: weights were set as 32-bit floats, which 0.9 is not."""
    return (Decimal(raw) / ONE).quantize(_RATIO_STEP)


def max_leverage(market: PerpMarket, *, long: bool) -> Decimal:
    """Return the most leverage that a new position may have, from the initial weights; rounded down.

    The account's health decides in the end. A market that asks for less than a millionth of margin is taken at that.
    """
    ratio = max(_ratio(initial_margin_ratio(market, long=long)), _RATIO_STEP)
    return (1 / ratio).quantize(_LEVERAGE_STEP, ROUND_FLOOR)


def _after(snapshot: Snapshot, book: HealthBook, priced: Priced) -> HealthBook:
    sign = 1 if priced.side is constants.Side.BID else -1
    return after_order(
        book,
        snapshot.market.perp_market_index,
        base_lots=sign * priced.walk.base_lots,
        quote_lots=sign * priced.walk.quote_lots,
        fee=priced.fee + priced.penalty,
    )


def check_health(snapshot: Snapshot, priced: Priced) -> None:
    """Refuse an order that the account's health does not carry.

    Raises:
        InsufficientCollateral: initial health would be below zero, and worse than it is.
    """
    book = snapshot.book
    if book is None:
        return
    before = health(book, HealthType.INIT)
    after = health(_after(snapshot, book, priced), HealthType.INIT)
    if not health_allows(before, after):
        raise InsufficientCollateral(
            f"the account's initial health would go from {_to_usd_down(before)} to {_to_usd_down(after)} dollars",
            raw_code=6007,
            raw_name="HealthMustBePositiveOrIncrease",
        )


def _margin_required(snapshot: Snapshot, priced: Priced, leverage: Decimal) -> Decimal:
    """Return the free collateral that an open needs, dollars rounded up: the caller's share, or the venue's if more."""
    value = quote_lots_to_usd(snapshot.market, priced.walk.quote_lots)
    asked = (value / leverage).quantize(_USD_STEP, ROUND_CEILING)
    if snapshot.book is not None:
        before = health(snapshot.book, HealthType.INIT)
        after = health(_after(snapshot, snapshot.book, priced), HealthType.INIT)
        return max(asked, to_usd(max(before - after, 0)))
    ratio = Decimal(initial_margin_ratio(snapshot.market, long=priced.side is constants.Side.BID)) / ONE
    return max(asked, (value * ratio).quantize(_USD_STEP, ROUND_CEILING))


def _liquidation_after(snapshot: Snapshot, priced: Priced) -> Decimal | None:
    book, market = snapshot.book, snapshot.market
    if book is None or not book.exact:
        return None
    price = liquidation_price(_after(snapshot, book, priced), market.perp_market_index)
    return None if price is None else native_to_price(market, price).quantize(_PRICE_STEP, ROUND_FLOOR)


def capacity_usd(snapshot: Snapshot, side: constants.Side, match_limit: int) -> Decimal:
    """Return what one order can take from the book, in dollars."""
    limit = min(match_limit, snapshot.events.free)
    taker = Taker(limit=limit, account=snapshot.account_key)
    walk = walk_book(opposing_side(snapshot, side), taker, now=snapshot.now, oracle_lots=_oracle_lots(snapshot))
    return quote_lots_to_usd(snapshot.market, walk.quote_lots)


def _impact_bps(market: PerpMarket, priced: Priced, expected: Decimal) -> Decimal:
    first = price_lots_to_price(market, priced.walk.first_price or 1)
    worse = expected - first if priced.side is constants.Side.BID else first - expected
    return max(worse * _BPS / first, Decimal(0)).quantize(_BPS_STEP, ROUND_CEILING)


def quote_of(terms: QuoteTerms, snapshot: Snapshot, *, match_limit: int, as_of: datetime, lifetime_s: float) -> Quote:
    """Return the all-in price of an order.

    Args:
        terms: what to price.
        snapshot: of the market.
        match_limit: most resting orders that one order matches.
        as_of: when the snapshot was read.
        lifetime_s: how long the quote is shown as good.

    Raises:
        ProviderError: a leaf that tells why the venue would not take the order now.
    """
    market, side = snapshot.market, order_side(terms.kind, terms.side)
    opens, long = terms.kind is OrderKind.OPEN, side is constants.Side.BID
    refusal = gate_refusal(snapshot, terms.kind, terms.side)
    if refusal is not None:
        raise refusal
    base_lots = lots_of(terms, snapshot)
    priced = price_order(snapshot, side, base_lots, match_limit=match_limit)
    most = max_leverage(market, long=terms.side is Side.LONG)
    if opens and terms.leverage > most:
        raise LeverageAboveMaximum(f"{terms.leverage} was asked for, {most} is the most")
    _check_depth(snapshot, priced, base_lots)
    check_health(snapshot, priced)
    size, value = base_lots_to_size(market, base_lots), quote_lots_to_usd(market, priced.walk.quote_lots)
    expected = value / size
    fee = to_usd(priced.fee + priced.penalty)
    return Quote(
        provider="mango",
        market=snapshot.listed.symbol,
        side=terms.side,
        size=size,
        size_usd=value,
        leverage=terms.leverage,
        oracle_price=native_to_price(market, snapshot.oracle.price).quantize(_PRICE_STEP),
        expected_price=expected.quantize(_PRICE_STEP, ROUND_CEILING if long else ROUND_FLOOR),
        price_impact_bps=_impact_bps(market, priced, expected),
        fee_usd=fee,
        fee_bps=(fee * _BPS / value).quantize(_BPS_STEP, ROUND_CEILING),
        carry_rate_1h=funding_rate_1h(snapshot, terms.side),
        margin_required_usd=_margin_required(snapshot, priced, terms.leverage) if opens else Decimal(0),
        liquidation_price=_liquidation_after(snapshot, priced),
        max_leverage=most,
        capacity_usd=capacity_usd(snapshot, side, match_limit),
        slot=snapshot.slot,
        as_of=as_of,
        expires_at=as_of + timedelta(seconds=lifetime_s),
    )
