"""Rules of orders: auctions, limit prices, rounding, and what is refused when an order is placed (build 2.84)."""

from __future__ import annotations

from router.localnet.drift.curve import ask_price, base_to_price, bid_price, reserve_price, standardize_base
from router.localnet.drift.enums import Direction, MarketStatus, OrderStatus, OrderType, PostOnly, TriggerCondition
from router.localnet.drift.execution import Execution
from router.localnet.drift.layouts import Order
from router.localnet.drift.market_layouts import AMM, PerpMarket
from router.localnet.drift.numbers import div
from router.localnet.drift.wire import OrderParams

__all__ = [
    "auction_complete",
    "auction_end_limit",
    "auction_of",
    "base_up_to_limit",
    "check_order",
    "cross",
    "direction_of",
    "expired",
    "is_limit",
    "is_reducing",
    "is_resting",
    "limit_price",
    "market_takes_orders",
    "must_be_triggered",
    "order_price",
    "price_at",
    "quote_for_maker",
    "rests_below_step",
    "risk_increasing",
    "standardize_price",
    "trigger_holds",
    "unfilled",
    "was_triggered",
]

_AUCTION_FRACTION = 200


def direction_of(order: Order) -> Direction:
    """Return the order's side."""
    return Direction(order.direction)


def standardize_price(price: int, tick: int, direction: int) -> int:
    """Return a price on the tick: down for a buyer, up for a seller."""
    remainder = price % tick
    if price == 0 or remainder == 0:
        return price
    return price - remainder if direction == Direction.LONG else price + tick - remainder


def must_be_triggered(order: Order) -> bool:
    """Whether the order waits for a trigger, or did."""
    return order.order_type in {OrderType.TRIGGER_MARKET, OrderType.TRIGGER_LIMIT}


def was_triggered(order: Order) -> bool:
    """Whether a trigger order's trigger has fired."""
    return order.trigger_condition in {TriggerCondition.TRIGGERED_ABOVE, TriggerCondition.TRIGGERED_BELOW}


def trigger_holds(order: Order, oracle_price: int) -> bool:
    """Whether the oracle has passed a waiting order's trigger price; at the price itself it has not."""
    if order.trigger_condition == TriggerCondition.ABOVE:
        return abs(oracle_price) > order.trigger_price
    return order.trigger_condition == TriggerCondition.BELOW and abs(oracle_price) < order.trigger_price


def is_limit(order: Order) -> bool:
    """Whether the order has a limit price for good."""
    return order.order_type in {OrderType.LIMIT, OrderType.TRIGGER_LIMIT}


def auction_complete(order_slot: int, duration: int, slot: int) -> bool:
    """Whether more than `duration` slots have passed."""
    return duration == 0 or slot - order_slot > duration


def is_resting(order: Order, slot: int) -> bool:
    """Whether the order can make: a limit order that is through its auction."""
    if not is_limit(order):
        return False
    complete = auction_complete(order.slot, order.auction_duration, slot)
    if order.order_type == OrderType.TRIGGER_LIMIT:
        taking = order.trigger_price < order.price
        if order.direction == Direction.SHORT:
            taking = order.trigger_price > order.price
        return complete and not taking
    return order.post_only or complete


def expired(order: Order, now: int) -> bool:
    """Whether the order's time is over."""
    return (
        order.status == OrderStatus.OPEN and order.max_ts != 0 and not must_be_triggered(order) and now > order.max_ts
    )


def unfilled(order: Order, position_base: int | None) -> int:
    """Return the base that is open; with a position, no more than reduces it when the order is reduce-only."""
    left = order.base_asset_amount - order.base_asset_amount_filled
    if position_base is None or not order.reduce_only or order.post_only:
        return left
    against = position_base < 0 if order.direction == Direction.LONG else position_base > 0
    return min(left, abs(position_base)) if against else 0


def rests_below_step(order: Order, position_base: int, step: int) -> bool:
    """Whether a reduce-only order has nothing left to reduce."""
    return order.status == OrderStatus.OPEN and order.reduce_only and unfilled(order, position_base) < step


def risk_increasing(order: Order, base: int, bids: int, asks: int) -> bool:
    """Whether a new order can make the position larger, with what is open already."""
    if order.reduce_only:
        return False
    if order.direction == Direction.LONG:
        return base >= 0 or bids + order.base_asset_amount > abs(base)
    return base <= 0 or abs(asks - order.base_asset_amount) > base


def is_reducing(order: Order, position_base: int) -> bool:
    """Whether the order can only make the position smaller."""
    against = position_base < 0 if order.direction == Direction.LONG else position_base > 0
    return against and unfilled(order, position_base) <= abs(position_base)


def cross(maker_direction: Direction, maker_price: int, taker_price: int) -> bool:
    """Whether maker and taker meet."""
    return taker_price <= maker_price if maker_direction is Direction.LONG else taker_price >= maker_price


def quote_for_maker(base: int, price: int, maker_direction: Direction) -> int:
    """Return the quote of a match, rounded for the maker."""
    product = base * price
    return product // 10**9 if maker_direction is Direction.LONG else -(-product // 10**9)


def auction_of(
    run: Execution, params: OrderParams, oracle_price: int, tick: int, least_duration: int
) -> tuple[int, int, int]:
    """Return the auction's start and end price and its duration in slots.

    Market orders that name no prices go from the oracle to half a percent beyond it, or to their limit.
    """
    kind, start, end = params.order_type, params.auction_start_price, params.auction_end_price
    if kind not in {OrderType.MARKET, OrderType.LIMIT, OrderType.ORACLE}:
        return 0, 0, 0
    if kind == OrderType.LIMIT:
        if start is None or end is None or params.auction_duration is None:
            return 0, 0, 0
        duration = max(params.auction_duration, least_duration) if params.auction_duration else 0
    else:
        duration = max(params.auction_duration or 0, least_duration)
        if start is None or end is None:
            run.check(kind != OrderType.ORACLE, "InvalidOrderAuction")
            start, end = _default_auction(params, oracle_price)
    side = params.direction
    return standardize_price(start, tick, side), standardize_price(end, tick, side), duration


def _default_auction(params: OrderParams, oracle: int) -> tuple[int, int]:
    step = -1 if params.direction == Direction.SHORT else 1
    limit, beyond = params.price, oracle + step * div(oracle, _AUCTION_FRACTION)
    if limit == 0:
        return oracle, beyond
    if (oracle - limit) * step > 0:
        # The limit is better than the oracle: start further away still.
        starts = limit - step * div(limit, _AUCTION_FRACTION), oracle - step * div(oracle, _AUCTION_FRACTION)
        return (min(starts) if step > 0 else max(starts)), limit
    return oracle, (min(limit, beyond) if step > 0 else max(limit, beyond))


def _auction_price(order: Order, slot: int, tick: int, oracle_price: int) -> int:
    start, end = order.auction_start_price, order.auction_end_price
    elapsed = min(slot - order.slot, order.auction_duration)
    price = end if order.auction_duration == 0 else start + div((end - start) * elapsed, order.auction_duration)
    if order.order_type == OrderType.ORACLE:
        price = max(oracle_price + price, tick)
    return standardize_price(price, tick, order.direction)


def _runs(order: Order, slot: int) -> bool:
    """Whether the order's price is its auction's."""
    priced = order.auction_start_price or order.auction_end_price
    return bool(priced) and not auction_complete(order.slot, order.auction_duration, slot)


def price_at(order: Order, oracle_price: int, slot: int, tick: int) -> int | None:
    """Return the price that the order stands at: in its auction, off the oracle, or its limit; null for none."""
    if _runs(order, slot):
        return _auction_price(order, slot, tick, oracle_price)
    if order.oracle_price_offset:
        price = max(oracle_price + order.oracle_price_offset, tick)
        return standardize_price(price, tick, order.direction)
    return order.price or None


def limit_price(run: Execution, order: Order, oracle_price: int | None, slot: int, tick: int) -> int | None:
    """Return `price_at` with an oracle that may not be valid.

    Raises:
        ModelRefusal: the price hangs on the oracle, and it is not.
    """
    by_oracle = order.order_type == OrderType.ORACLE if _runs(order, slot) else bool(order.oracle_price_offset)
    if oracle_price is None and by_oracle:
        raise run.refuse("OracleNotFound")
    return price_at(order, oracle_price or 0, slot, tick)


def auction_end_limit(run: Execution, order: Order, oracle_price: int | None, slot: int, tick: int) -> int | None:
    """Return the price of an order that takes as it is placed: the end of its auction, where it has one."""
    if order.auction_duration:
        if oracle_price is None and order.order_type == OrderType.ORACLE:
            raise run.refuse("OracleNotFound")
        return _auction_price(order, order.slot + order.auction_duration, tick, oracle_price or 0)
    return limit_price(run, order, oracle_price, slot, tick)


def order_price(params: OrderParams, amm: AMM) -> int:
    """Return the limit price on the tick; a sliding post-only order stops one tick short of the AMM."""
    price = standardize_price(params.price, amm.order_tick_size, params.direction)
    if params.post_only == PostOnly.SLIDE:
        middle = reserve_price(amm)
        if params.direction == Direction.LONG and price >= ask_price(amm, middle):
            return ask_price(amm, middle) - amm.order_tick_size
        if params.direction == Direction.SHORT and price <= bid_price(amm, middle):
            return bid_price(amm, middle) + amm.order_tick_size
    return price


def base_up_to_limit(
    run: Execution, order: Order, market: PerpMarket, limit: int | None, position_base: int | None
) -> int:
    """Return the base that the AMM can fill before its price is one tick short of the limit."""
    left = unfilled(order, position_base)
    side = direction_of(order)
    most, most_side = left, side
    if limit is not None:
        tick = market.amm.order_tick_size
        target = limit - tick if side is Direction.LONG else limit + tick
        run.check(target > 0, "InvalidOrderLimitPrice")
        most, most_side = base_to_price(market.amm, target, side)
    if most_side is not side or most == 0:
        return 0
    return standardize_base(min(left, most), market.amm.order_step_size)


def check_order(run: Execution, order: Order, market: PerpMarket, oracle_price: int, slot: int) -> None:
    """Refuse an order that the program does not take.

    Raises:
        ModelRefusal: with the first rule that it breaks.
    """
    amm, kind = market.amm, order.order_type
    run.check(order.base_asset_amount != 0, "InvalidOrderSizeTooSmall")
    run.check(order.base_asset_amount % amm.order_step_size == 0, "InvalidOrderNotStepSizeMultiple")
    run.check(order.reduce_only or order.base_asset_amount >= amm.min_order_size, "InvalidOrderMinOrderSize")
    if kind == OrderType.LIMIT:
        run.check((order.price == 0) == (order.oracle_price_offset != 0), "InvalidOrderLimitPrice")
        run.check(order.trigger_price == 0, "InvalidOrderTrigger")
        _check_limit_auction(run, order)
        if order.post_only:
            _check_post_only(run, order, market, oracle_price, slot)
        return
    if kind == OrderType.MARKET:
        run.check(order.auction_start_price > 0 and order.auction_end_price > 0, "InvalidOrderAuction")
        _check_auction(run, order)
    if kind == OrderType.ORACLE:
        _check_oracle_auction(run, order)
    if must_be_triggered(order):
        waiting = order.trigger_condition in {TriggerCondition.ABOVE, TriggerCondition.BELOW}
        run.check(waiting, "InvalidTriggerOrderCondition")
        run.check((order.price == 0) == (kind == OrderType.TRIGGER_MARKET), "InvalidOrderLimitPrice")
    run.check((order.trigger_price > 0) == must_be_triggered(order), "InvalidOrderTrigger")
    run.check(not order.post_only, "InvalidOrderPostOnly")
    run.check(kind != OrderType.ORACLE or order.price == 0, "InvalidOrderLimitPrice")
    run.check(kind == OrderType.ORACLE or order.oracle_price_offset == 0, "InvalidOrderOracleOffset")
    run.check(must_be_triggered(order) or not order.immediate_or_cancel, "InvalidOrderIOC")


def _check_limit_auction(run: Execution, order: Order) -> None:
    if order.auction_duration:
        run.check(not order.post_only and order.oracle_price_offset == 0, "InvalidOrder")
        _check_auction(run, order)
    else:
        run.check(order.auction_start_price == 0 and order.auction_end_price == 0, "InvalidOrder")


def _check_auction(run: Execution, order: Order) -> None:
    start, end = order.auction_start_price, order.auction_end_price
    step = 1 if order.direction == Direction.LONG else -1
    run.check(start != 0 and end != 0, "InvalidOrderAuction")
    run.check((end - start) * step >= 0, "InvalidOrderAuction")
    run.check(order.price == 0 or (order.price - end) * step >= 0, "InvalidOrderAuction")


def _check_oracle_auction(run: Execution, order: Order) -> None:
    start, end = order.auction_start_price, order.auction_end_price
    step = 1 if order.direction == Direction.LONG else -1
    run.check((end - start) * step >= 0, "InvalidOrderAuction")
    offset = order.oracle_price_offset
    run.check(offset == 0 or (offset - end) * step >= 0, "InvalidOrderAuction")


def _check_post_only(run: Execution, order: Order, market: PerpMarket, oracle_price: int, slot: int) -> None:
    """Refuse a maker order that the AMM would fill, unless it is better than the oracle's price."""
    if order.immediate_or_cancel:
        return
    price = limit_price(run, order, oracle_price, slot, market.amm.order_tick_size)
    if price is None:
        raise run.refuse("UnableToGetLimitPrice")
    if base_up_to_limit(run, order, market, price, None) != 0:
        behind = oracle_price > price if order.direction == Direction.LONG else oracle_price < price
        run.check(behind, "PlacePostOnlyLimitFailure")


def market_takes_orders(market: PerpMarket, now: int) -> bool:
    """Whether the market is neither settled nor past its expiry."""
    ended = market.status in {MarketStatus.SETTLEMENT, MarketStatus.DELISTED}
    return not ended and (market.expiry_ts == 0 or now < market.expiry_ts)
