"""The trading instructions of the program: accounts taken and checked in its order, then the action."""

from __future__ import annotations

import struct

from solders.pubkey import Pubkey

from router.localnet.drift.averages import update_oracle_average
from router.localnet.drift.curve import refresh_spreads, reserve_price
from router.localnet.drift.enums import ExchangeStatus, MarketStatus, OrderExplanation, OrderStatus, PostOnly
from router.localnet.drift.execution import Execution
from router.localnet.drift.filling import Party
from router.localnet.drift.fills import Fill, fill_order
from router.localnet.drift.layouts import State, User, UserStats
from router.localnet.drift.maps import Maps, load_makers, load_maps
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.oracles import OracleValidity
from router.localnet.drift.orders import cancel_order, cancel_order_by_id, last_order_id, place_order, touch
from router.localnet.drift.wire import decode_order_params, read_option

__all__ = [
    "cancel_one",
    "cancel_orders",
    "check_not_paused",
    "fill_perp_order",
    "may_sign",
    "place_and_take",
    "place_perp_order",
    "take_state",
    "update_amm",
]

_ARGUMENTS_AT = 8


def take_state(run: Execution) -> State:
    """Take the exchange's account."""
    return run.take_account(State, "state", boxed=True)[1]


def may_sign(user: User, authority: Pubkey) -> bool:
    """Whether the key may act for the account: its owner, or its delegate."""
    return authority == user.authority or (authority == user.delegate and user.delegate != Pubkey.default())


def check_not_paused(run: Execution, state: State, what: ExchangeStatus) -> None:
    """Refuse when all of `what` is paused."""
    run.check(state.exchange_status & what != what, "ExchangePaused")


def update_amm(maps: Maps, market: PerpMarket) -> None:
    """Do what every trade does first: oracle averages and spreads (the peg stays, at update intensity 0)."""
    if market.status in {MarketStatus.SETTLEMENT, MarketStatus.DELISTED}:
        return
    run, amm = maps.run, market.amm
    valid = maps.judge_perp(market, log=True)
    run.check(amm.curve_update_intensity == 0, "DefaultError", "only update intensity 0 is modelled")
    if valid is not OracleValidity.NON_POSITIVE:
        update_oracle_average(market, run.now, maps.price(amm.oracle), reserve_price(amm))
    amm.last_oracle_valid = valid.fills_amm
    if valid.fills_amm:
        amm.last_update_slot = run.slot
    refresh_spreads(amm)


def _take_order_accounts(run: Execution) -> tuple[State, Party]:
    """Take state, user and authority, as orders and cancels have them."""
    state = take_state(run)
    meta, user = run.take_account(User, "user")
    authority = run.signer("authority")
    run.check_writable(meta, "user")
    if not may_sign(user, authority):
        raise run.refuse("ConstraintRaw", "user")
    return state, Party(meta.pubkey, user, UserStats.zero())


def place_perp_order(run: Execution) -> int:
    """Place an order that somebody else fills."""
    params, _ = decode_order_params(run.call.data, _ARGUMENTS_AT)
    state, party = _take_order_accounts(run)
    check_not_paused(run, state, ExchangeStatus.ALL)
    maps = load_maps(run, state)
    run.check(not params.immediate_or_cancel, "InvalidOrderIOC")
    place_order(maps, party.user, party.key, params)
    return 50_000


def place_and_take(run: Execution) -> int:
    """Place an order and fill it at once, as far as that goes; the rest rests, or goes when it is immediate."""
    params, offset = decode_order_params(run.call.data, _ARGUMENTS_AT)
    read_option(run.call.data, offset, "I")
    state = take_state(run)
    user_meta, user = run.take_account(User, "user")
    stats_meta, stats = run.take_account(UserStats, "user_stats")
    authority = run.signer("authority")
    run.check_writable(user_meta, "user")
    if not may_sign(user, authority):
        raise run.refuse("ConstraintRaw", "user")
    run.check_writable(stats_meta, "user_stats")
    if stats.authority != user.authority:
        raise run.refuse("ConstraintRaw", "user_stats")
    check_not_paused(run, state, ExchangeStatus.FILL)
    maps = load_maps(run, state, writable_perp=(params.market_index,))
    run.check(params.post_only == PostOnly.NONE, "InvalidOrderPostOnly")
    makers = load_makers(run)
    update_amm(maps, maps.perp_market(params.market_index))
    place_order(maps, user, user_meta.pubkey, params)
    order_id = last_order_id(user)
    taker = Party(user_meta.pubkey, user, stats)
    fill = Fill(maps=maps, taker=taker, filler=None, filler_key=user_meta.pubkey, makers=makers, takes=True)
    fill_order(fill, order_id)
    if params.immediate_or_cancel and any(order.order_id == order_id for order in user.orders):
        cancel_order_by_id(maps, user, user_meta.pubkey, order_id)
    return 85_000 + 7_500 * (len(maps.perp) - 1)


def fill_perp_order(run: Execution) -> int:
    """Fill somebody's order for a reward."""
    order_id, offset = read_option(run.call.data, _ARGUMENTS_AT, "I")
    read_option(run.call.data, offset, "I")
    state = take_state(run)
    authority = run.signer("authority")
    filler_meta, filler = run.take_account(User, "filler")
    filler_stats_meta, filler_stats = run.take_account(UserStats, "filler_stats")
    user_meta, user = run.take_account(User, "user")
    stats_meta, stats = run.take_account(UserStats, "user_stats")
    for meta, name, holds in (
        (filler_meta, "filler", may_sign(filler, authority)),
        (filler_stats_meta, "filler_stats", filler_stats.authority == filler.authority),
        (user_meta, "user", True),
        (stats_meta, "user_stats", stats.authority == user.authority),
    ):
        run.check_writable(meta, name)
        if not holds:
            raise run.refuse("ConstraintRaw", name)
    check_not_paused(run, state, ExchangeStatus.FILL)
    if order_id is None:
        order_id = last_order_id(user)
    order = next((order for order in user.orders if order.order_id == order_id), None)
    if order is None:
        run.log(f"Order does not exist {order_id}")
        return 10_000
    maps = load_maps(run, state, writable_perp=(order.market_index,))
    makers = load_makers(run)
    update_amm(maps, maps.perp_market(order.market_index))
    own = user_meta.pubkey == filler_meta.pubkey
    fill = Fill(
        maps=maps,
        taker=Party(user_meta.pubkey, user, stats),
        filler=None if own else Party(filler_meta.pubkey, filler, filler_stats),
        filler_key=filler_meta.pubkey,
        makers=makers,
        takes=False,
    )
    fill_order(fill, order_id)
    return 75_000


def cancel_one(run: Execution) -> int:
    """Cancel an order by its id, or the newest; one that is not there is no error."""
    order_id, _ = read_option(run.call.data, _ARGUMENTS_AT, "I")
    state, party = _take_order_accounts(run)
    check_not_paused(run, state, ExchangeStatus.ALL)
    maps = load_maps(run, state)
    wanted = last_order_id(party.user) if order_id is None else order_id
    cancel_order_by_id(maps, party.user, party.key, wanted)
    return 20_000


def cancel_orders(run: Execution) -> int:
    """Cancel all orders, or those of one market, or of one side."""
    market_type, offset = read_option(run.call.data, _ARGUMENTS_AT, "B")
    market_index, offset = read_option(run.call.data, offset, "H")
    direction, _ = read_option(run.call.data, offset, "B")
    if (market_type or 0) > 1 or (direction or 0) > 1:
        raise struct.error(market_type, direction)
    state, party = _take_order_accounts(run)
    check_not_paused(run, state, ExchangeStatus.ALL)
    maps = load_maps(run, state)
    by_market = market_type is not None and market_index is not None
    for order in party.user.orders:
        if order.status != OrderStatus.OPEN:
            continue
        if by_market and (order.market_type, order.market_index) != (market_type, market_index):
            continue
        if direction is not None and order.direction != direction:
            continue
        cancel_order(maps, party.user, party.key, order, OrderExplanation.NONE)
    touch(party.user, run.slot)
    return 40_000
