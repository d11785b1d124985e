"""Placing and cancelling perpetual orders."""

from __future__ import annotations

import msgspec
from solders.pubkey import Pubkey

from router.localnet.drift.curve import standardize_base
from router.localnet.drift.enums import (
    Direction,
    MarketStatus,
    MarketType,
    OrderAction,
    OrderExplanation,
    OrderStatus,
    OrderType,
    PostOnly,
    UserStatus,
)
from router.localnet.drift.events import OrderParty, order_action_record, order_record
from router.localnet.drift.genesis import free_order
from router.localnet.drift.layouts import Order, User
from router.localnet.drift.maps import Maps
from router.localnet.drift.margin import MarginKind, account_margin, check_order_margin, largest_order
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import U64_MAX
from router.localnet.drift.order_rules import (
    auction_of,
    check_order,
    expired,
    market_takes_orders,
    must_be_triggered,
    order_price,
    risk_increasing,
    standardize_price,
    unfilled,
    was_triggered,
)
from router.localnet.drift.positions import (
    add_quote,
    add_quote_and_break_even,
    change_open_amount,
    find_position,
    force_position,
)
from router.localnet.drift.wire import OrderParams
from router.localnet.programs import ModelRefusal

__all__ = [
    "cancel_order",
    "cancel_order_by_id",
    "check_not_liquidated",
    "copy_order",
    "free_place",
    "last_order_id",
    "order_parties",
    "pay_flat_fee",
    "place_order",
    "touch",
]

_LEAST_LIFE_S = 30
_LAST_ID = 2**32 - 1


def last_order_id(user: User) -> int:
    """Return the id of the newest order; of an account that never had one, an id that no order has."""
    return _LAST_ID if user.next_order_id == 1 else user.next_order_id - 1


def touch(user: User, slot: int) -> None:
    """Note that the account was active."""
    if not user.status & (UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT):
        user.last_active_slot = slot
    user.idle = False


def copy_order(order: Order) -> Order:
    """Return the order as it is now."""
    return Order.decode(order.encode())


def order_parties(user_key: Pubkey, order: Order) -> tuple[OrderParty | None, OrderParty | None]:
    """Return the order as taker or as maker of an event."""
    party = OrderParty(user_key, copy_order(order))
    return (None, party) if order.post_only else (party, None)


def free_place(user: User, order: Order) -> None:
    """Empty the order's place and count it off."""
    user.open_orders = max(user.open_orders - 1, 0)
    user.has_open_order = user.open_orders > 0
    if order.auction_duration:
        user.open_auctions = max(user.open_auctions - 1, 0)
        user.has_open_auction = user.open_auctions > 0
    order.copy_from(free_order())


def check_not_liquidated(user: User, maps: Maps) -> None:
    """Refuse an account in liquidation; one that has recovered leaves it.

    Raises:
        ModelRefusal: it is still below its margin.
    """
    if user.status & (UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT):
        margin = account_margin(user, maps, MarginKind.MAINTENANCE, buffer=maps.state.liquidation_margin_buffer_ratio)
        maps.run.check(margin.collateral >= margin.buffered, "UserIsBeingLiquidated")
        user.status &= ~(UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT)
        user.liquidation_margin_freed = 0


def cancel_order(
    maps: Maps,
    user: User,
    user_key: Pubkey,
    order: Order,
    explanation: OrderExplanation,
    *,
    filler: Pubkey | None = None,
    filler_reward: int = 0,
) -> None:
    """Take an open order away, with its event."""
    run = maps.run
    run.check(order.status == OrderStatus.OPEN, "OrderNotOpen")
    run.check(order.market_type == MarketType.PERP, "InvalidOrderMarketType")
    market = maps.perp_market(order.market_index)
    taker, maker = order_parties(user_key, order)
    run.emit_order(
        order_action_record(
            run.now,
            OrderAction.CANCEL,
            explanation,
            taker=taker,
            maker=maker,
            filler=filler,
            filler_reward=filler_reward,
            oracle_price=maps.price(market.amm.oracle).price,
        )
    )
    position = find_position(user, order.market_index)
    if position is None:
        raise run.refuse("UserHasNoPositionInMarket")
    if not must_be_triggered(order) or was_triggered(order):
        change_open_amount(position, order.direction, -unfilled(order, None))
    position.open_orders -= 1
    free_place(user, order)


def pay_flat_fee(maps: Maps, user: User, filler: User | None, market: PerpMarket) -> int:
    """Have the owner of an order pay the filler the exchange's flat fee for work on it; none without a filler.

    Returns:
        What the filler got (1e6): nothing when it has no place for it, though the owner has paid.
    """
    if filler is None:
        return 0
    run, flat = maps.run, maps.state.perp_fee_structure.flat_filler_fee
    position = find_position(user, market.market_index)
    if position is None:
        raise run.refuse("UserHasNoPositionInMarket")
    add_quote_and_break_even(position, market, -flat)
    touch(filler, run.slot)
    try:
        place = force_position(run, filler, market.market_index)
    except ModelRefusal:
        run.log("filler has no place for its reward")
        return 0
    add_quote(place, market, flat)
    return flat


def cancel_order_by_id(maps: Maps, user: User, user_key: Pubkey, order_id: int) -> None:
    """Cancel one order; one that is not there is no error."""
    for order in user.orders:
        if order.order_id == order_id and order.status == OrderStatus.OPEN:
            cancel_order(maps, user, user_key, order, OrderExplanation.NONE)
            touch(user, maps.run.slot)
            return
    maps.run.log(f"could not find order id {order_id}")


class _Placing(msgspec.Struct, kw_only=True):
    """An order on its way into its place."""

    params: OrderParams
    market: PerpMarket
    place: Order
    reduce_only: bool


def place_order(maps: Maps, user: User, user_key: Pubkey, params: OrderParams) -> None:
    """Place a perpetual order.

    One whose time is over already is left out without an error; expired orders of the account are removed first.

    Raises:
        ModelRefusal: the order breaks a rule, or the account cannot carry it.
    """
    run = maps.run
    check_not_liquidated(user, maps)
    run.check(not user.status & UserStatus.BANKRUPT, "UserBankrupt")
    for order in user.orders:
        if expired(order, run.now):
            cancel_order(maps, user, user_key, order, OrderExplanation.ORDER_EXPIRED)
    run.check(not user.status & UserStatus.REDUCE_ONLY or params.reduce_only, "UserReduceOnly")
    placing = _checked(maps, user, params)
    market = placing.market
    position = force_position(run, user, params.market_index)
    run.check(params.base_asset_amount >= market.amm.order_step_size, "OrderAmountTooSmall")
    base = params.base_asset_amount
    if base == U64_MAX:
        base = largest_order(user, maps, position, market, Direction(params.direction))
    base = standardize_base(base, market.amm.order_step_size)
    existing = Direction.LONG if position.base_asset_amount >= 0 else Direction.SHORT
    oracle_price = maps.price(market.amm.oracle).price
    auction = auction_of(run, params, oracle_price, market.amm.order_tick_size, maps.state.min_perp_auction_duration)
    max_ts = _max_ts(params, run.now, auction[2])
    if max_ts != 0 and max_ts < run.now:
        run.log(f"max_ts ({max_ts}) < now ({run.now}), skipping order")
        return
    run.check(params.market_type == MarketType.PERP, "InvalidOrderMarketType")
    order = _new_order(
        placing,
        order_id=user.next_order_id,
        base=base,
        existing=existing,
        auction=auction,
        max_ts=max_ts,
        slot=run.slot,
    )
    user.next_order_id = user.next_order_id + 1 if user.next_order_id < _LAST_ID else 1
    try:
        check_order(run, order, market, oracle_price, run.slot)
    except ModelRefusal as refusal:
        if refusal.name == "PlacePostOnlyLimitFailure" and params.post_only == PostOnly.TRY:
            return
        raise
    increasing = risk_increasing(order, position.base_asset_amount, position.open_bids, position.open_asks)
    placing.place.copy_from(order)
    _count_in(user, order)
    position.open_orders += 1
    if not must_be_triggered(order):
        change_open_amount(position, order.direction, base)
    check_order_margin(user, maps, risk_increasing=increasing)
    if placing.reduce_only:
        held = position.base_asset_amount
        run.check(held != 0 and order.direction != existing, "InvalidOrderNotRiskReducing")
    if increasing:
        _check_open_interest(maps, market, order)
    _announce(maps, user_key, order, oracle_price)
    touch(user, run.slot)


def _checked(maps: Maps, user: User, params: OrderParams) -> _Placing:
    """Check what does not hang on the order's figures, and find its place."""
    run = maps.run
    place = next((order for order in user.orders if order.status == OrderStatus.INIT), None)
    if place is None:
        raise run.refuse("MaxNumberOfOrders")
    if params.user_order_id > 0:
        used = any(order.user_order_id == params.user_order_id for order in user.orders)
        run.check(not used, "UserOrderIdAlreadyInUse", f"user_order_id is already in use {params.user_order_id}")
    market = maps.perp_market(params.market_index)
    run.check(market.status != MarketStatus.INITIALIZED, "MarketBeingInitialized")
    run.check(market_takes_orders(market, run.now), "MarketPlaceOrderPaused")
    return _Placing(params=params, market=market, place=place, reduce_only=market.status == MarketStatus.REDUCE_ONLY)


def _max_ts(params: OrderParams, now: int, duration: int) -> int:
    """Return when the order ends: as asked, else half a minute for one without a limit price."""
    if params.max_ts is not None:
        return params.max_ts
    if params.order_type in {OrderType.MARKET, OrderType.ORACLE}:
        return now + max(_LEAST_LIFE_S, duration // 2)
    return 0


def _new_order(
    placing: _Placing,
    *,
    order_id: int,
    base: int,
    existing: Direction,
    auction: tuple[int, int, int],
    max_ts: int,
    slot: int,
) -> Order:
    params, amm = placing.params, placing.market.amm
    order = Order.zero()
    order.status, order.slot, order.order_id = OrderStatus.OPEN, slot, order_id
    order.order_type, order.market_type, order.direction = params.order_type, params.market_type, params.direction
    order.user_order_id, order.market_index = params.user_order_id, params.market_index
    order.price = order_price(params, amm)
    order.existing_position_direction, order.base_asset_amount = existing, base
    order.reduce_only = params.reduce_only or placing.reduce_only
    order.trigger_price = standardize_price(params.trigger_price or 0, amm.order_tick_size, params.direction)
    order.trigger_condition = params.trigger_condition
    order.post_only = params.post_only != PostOnly.NONE
    order.oracle_price_offset = params.oracle_price_offset or 0
    order.immediate_or_cancel = params.immediate_or_cancel
    order.auction_start_price, order.auction_end_price, order.auction_duration = auction
    order.max_ts = max_ts
    return order


def _count_in(user: User, order: Order) -> None:
    user.open_orders = min(user.open_orders + 1, 255)
    user.has_open_order = True
    if order.auction_duration:
        user.open_auctions = min(user.open_auctions + 1, 255)
        user.has_open_auction = True


def _check_open_interest(maps: Maps, market: PerpMarket, order: Order) -> None:
    amm = market.amm
    side = amm.base_asset_amount_long if order.direction == Direction.LONG else amm.base_asset_amount_short
    after = abs(side) + order.base_asset_amount
    maps.run.check(amm.max_open_interest == 0 or after <= amm.max_open_interest, "MaxOpenInterest")


def _announce(maps: Maps, user_key: Pubkey, order: Order, oracle_price: int) -> None:
    run = maps.run
    taker, maker = order_parties(user_key, order)
    run.emit_order(
        order_action_record(
            run.now,
            OrderAction.PLACE,
            OrderExplanation.NONE,
            taker=taker,
            maker=maker,
            oracle_price=oracle_price,
        )
    )
    run.emit_order(order_record(run.now, user_key, order))
