"""Placing and cancelling orders."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

import msgspec
from solders.pubkey import Pubkey

from router.localnet.mango import health
from router.localnet.mango.account_layouts import MangoAccount, PerpPosition
from router.localnet.mango.book import BookSide
from router.localnet.mango.enums import IxGate, OrderTree, PlaceOrderType, SelfTradeBehavior, Side
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import Group, PerpMarket
from router.localnet.mango.market import market_oracle, update_funding
from router.localnet.mango.matching import Order, OrderBook, match_order
from router.localnet.mango.positions import (
    adjust_maker_lots,
    ensure_perp_position,
    expire_buyback_fees,
    is_delegate,
    is_operational,
    perp_position,
)
from router.localnet.mango.queue import EventQueue

__all__ = [
    "cancel_all_orders",
    "cancel_all_orders_by_side",
    "cancel_order",
    "cancel_order_by_client_order_id",
    "check_actor",
    "place_order",
    "place_order_pegged",
    "place_order_pegged_v2",
    "place_order_v2",
]

_LONGEST_SECONDS = 65_535
_LAST_SIDE_AND_TREE = 3
_PLACE_UNITS = 60_000
_HEALTH_ACCOUNT_UNITS = 2_500
_MATCH_UNITS = 3_500
_CANCEL_UNITS = 20_000
_CANCELLED_UNITS = 2_500

N = TypeVar("N", bound=IntEnum)


# Arguments


def _unpack(run: Execution, letters: str) -> tuple[int, ...]:
    """Read the instruction's arguments; what follows them is ignored, as the program does."""
    try:
        return struct.unpack_from("<" + letters, run.args)
    except struct.error as error:
        raise run.refuse("InstructionDidNotDeserialize") from error


def _enum(run: Execution, kind: type[N], value: int) -> N:
    try:
        return kind(value)
    except ValueError as error:
        raise run.refuse("InstructionDidNotDeserialize") from error


def _flag(run: Execution, value: int) -> bool:
    run.check(value in {0, 1}, "InstructionDidNotDeserialize")
    return value == 1


class _Terms(msgspec.Struct, frozen=True, kw_only=True):
    """An order's arguments before the instruction's accounts are looked at."""

    order: Order
    expiry: int
    limit: int


def _fixed_terms(run: Execution, *, self_trade: bool) -> _Terms:
    letters = "BqqqQB" + ("B" if self_trade else "") + "BQB"
    side, price, base, quote, client_id, kind, *rest = _unpack(run, letters)
    behavior = rest.pop(0) if self_trade else SelfTradeBehavior.DECREMENT_TAKE
    reduce_only, expiry, limit = rest
    order = Order(
        side=_enum(run, Side, side),
        order_type=_enum(run, PlaceOrderType, kind),
        price_lots=price,
        max_base_lots=base,
        max_quote_lots=quote,
        client_order_id=client_id,
        reduce_only=_flag(run, reduce_only),
        time_in_force=0,
        self_trade_behavior=_enum(run, SelfTradeBehavior, behavior),
    )
    return _Terms(order=order, expiry=expiry, limit=limit)


def _pegged_terms(run: Execution, *, self_trade: bool) -> tuple[_Terms, int]:
    """Return the terms and the staleness limit, which the program does not implement."""
    letters = "BqqqqQB" + ("B" if self_trade else "") + "BQBi"
    side, offset, peg_limit, base, quote, client_id, kind, *rest = _unpack(run, letters)
    behavior = rest.pop(0) if self_trade else SelfTradeBehavior.DECREMENT_TAKE
    reduce_only, expiry, limit, staleness = rest
    order = Order(
        side=_enum(run, Side, side),
        order_type=_enum(run, PlaceOrderType, kind),
        price_lots=offset,
        max_base_lots=base,
        max_quote_lots=quote,
        client_order_id=client_id,
        reduce_only=_flag(run, reduce_only),
        time_in_force=0,
        self_trade_behavior=_enum(run, SelfTradeBehavior, behavior),
        pegged=True,
        peg_limit=peg_limit,
    )
    return _Terms(order=order, expiry=expiry, limit=limit), staleness


def _seconds_in_force(run: Execution, expiry: int) -> int | None:
    """Return how long an order lives (0: for good), null when that is over."""
    if expiry == 0:
        return 0
    return min(max(0, expiry - run.now), _LONGEST_SECONDS) or None


# Placing


def place_order(run: Execution) -> int:
    """Run `perpPlaceOrder`."""
    return _place_fixed(run, self_trade=False)


def place_order_v2(run: Execution) -> int:
    """Run `perpPlaceOrderV2`, which says what to do on meeting an order of the same account."""
    return _place_fixed(run, self_trade=True)


def place_order_pegged(run: Execution) -> int:
    """Run `perpPlaceOrderPegged`."""
    return _place_pegged(run, self_trade=False)


def place_order_pegged_v2(run: Execution) -> int:
    """Run `perpPlaceOrderPeggedV2`, which says what to do on meeting an order of the same account."""
    return _place_pegged(run, self_trade=True)


def _place_fixed(run: Execution, *, self_trade: bool) -> int:
    terms = _fixed_terms(run, self_trade=self_trade)
    accounts = _take_accounts(run)
    run.check(terms.order.price_lots >= 0, "RequireGteViolated")
    return _place(run, accounts, terms)


def _place_pegged(run: Execution, *, self_trade: bool) -> int:
    terms, staleness = _pegged_terms(run, self_trade=self_trade)
    accounts = _take_accounts(run)
    run.check(terms.order.peg_limit >= -1, "RequireGteViolated")
    run.check(staleness == -1, "RequireEqViolated")
    return _place(run, accounts, terms)


class _Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of an instruction that places an order."""

    group: Group
    key: Pubkey
    account: MangoAccount
    owner: Pubkey
    market: PerpMarket
    bids: BookSide
    asks: BookSide
    queue: EventQueue
    oracle: Pubkey


def check_actor(run: Execution, account: MangoAccount, owner: Pubkey) -> None:
    """Refuse a signer that is neither the account's owner nor a delegate."""
    run.check(account.head.owner == owner or is_delegate(account, owner, run.now), "SomeError")


def _take_accounts(run: Execution) -> _Accounts:
    group_meta, group = run.take_account(Group, "group")
    account_meta, account = run.take_account(MangoAccount, "account")
    owner = run.signer("owner")
    market_meta, market = run.take_account(PerpMarket, "perp_market")
    bids_meta, bids = run.take_account(BookSide, "bids")
    asks_meta, asks = run.take_account(BookSide, "asks")
    queue_meta, queue = run.take_account(EventQueue, "event_queue")
    oracle = run.take()
    run.check_gate(group, IxGate.PERP_PLACE_ORDER)
    run.check_writable(account_meta, "account")
    run.check_same(account.head.group, group_meta.pubkey, "account")
    run.check(is_operational(account, run.now), "AccountIsFrozen", "account")
    run.check_writable(market_meta, "perp_market")
    run.check_same(market.group, group_meta.pubkey, "perp_market")
    run.check_same(market.bids, bids_meta.pubkey, "perp_market")
    run.check_same(market.asks, asks_meta.pubkey, "perp_market")
    run.check_same(market.event_queue, queue_meta.pubkey, "perp_market")
    run.check_same(market.oracle, oracle.pubkey, "perp_market")
    run.check_writable(bids_meta, "bids")
    run.check_writable(asks_meta, "asks")
    run.check_writable(queue_meta, "event_queue")
    return _Accounts(
        group=group,
        key=account_meta.pubkey,
        account=account,
        owner=owner.pubkey,
        market=market,
        bids=bids,
        asks=asks,
        queue=queue,
        oracle=oracle.pubkey,
    )


def _place(run: Execution, accounts: _Accounts, terms: _Terms) -> int:
    """Run an order; one that is already expired does nothing, and the instruction succeeds."""
    seconds = _seconds_in_force(run, terms.expiry)
    order = terms.order
    if seconds is None:
        run.log("Order is already expired")
        return _PLACE_UNITS
    takes_only = order.order_type in {PlaceOrderType.MARKET, PlaceOrderType.IMMEDIATE_OR_CANCEL}
    run.check(not (order.pegged and takes_only), "SomeError")
    run.check(order.max_base_lots >= 0 and order.max_quote_lots >= 0, "RequireGteViolated")
    market, account = accounts.market, accounts.account
    oracle = market_oracle(run, market, accounts.oracle, fresh=False)
    update_funding(run, market, accounts.bids, accounts.asks, oracle)
    check_actor(run, account, accounts.owner)
    position = ensure_perp_position(run, account, market.perp_market_index, market.settle_token_index)
    metas = run.remaining()
    before = _health_before(run, accounts)
    expire_buyback_fees(account, accounts.group, run.now)
    size = _size(run, market, position, order)
    order = msgspec.structs.replace(order, max_base_lots=size, time_in_force=seconds)
    book = OrderBook(
        market=market, bids=accounts.bids, asks=accounts.asks, queue=accounts.queue, oracle_price=oracle.price
    )
    matches = match_order(run, book, order, account, accounts.key, limit=terms.limit)
    if before is not None:
        health.require_init_health(run, account, metas, before)
    return _PLACE_UNITS + _HEALTH_ACCOUNT_UNITS * len(metas) + _MATCH_UNITS * matches


def _health_before(run: Execution, accounts: _Accounts) -> int | None:
    """Return the initial health before the order; null within a health region, which is checked at its end."""
    if accounts.account.head.in_health_region == 1:
        return None
    settle_token_index = accounts.market.settle_token_index
    return health.init_health(run, accounts.account, run.remaining(), settle_token_index=settle_token_index)


def _size(run: Execution, market: PerpMarket, position: PerpPosition, order: Order) -> int:
    """Return the base lots to trade; an order that only reduces is cut to what there is to reduce."""
    market_reduces = market.reduce_only == 1
    if not order.reduce_only and not market_reduces:
        return order.max_base_lots
    effective = position.effective_base_lots
    run.log(f"reduce only: current effective position: {effective} lots")
    if (effective >= 0) if order.side is Side.BID else (effective <= 0):
        run.log("reduce only: cannot increase magnitude of effective position")
        allowed = 0
    elif not market_reduces:
        allowed = abs(effective)
    elif order.side is Side.BID:
        allowed = abs(min(0, effective + position.bids_base_lots))
    else:
        allowed = max(0, effective - position.asks_base_lots)
    name = "Bid" if order.side is Side.BID else "Ask"
    run.log(f"reduce only: max allowed {name}: {allowed} base lots")
    size = min(allowed, order.max_base_lots)
    run.check(not market_reduces or order.reduce_only or size == order.max_base_lots, "MarketInReduceOnlyMode")
    return size


# Cancelling


class _Cancelling(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of an instruction that cancels orders."""

    key: Pubkey
    account: MangoAccount
    market: PerpMarket
    bids: BookSide
    asks: BookSide


def _take_cancelling(run: Execution, gate: IxGate, *, frozen_too: bool = False) -> _Cancelling:
    """Take the accounts; two of the four instructions run on a frozen account too."""
    group_meta, group = run.take_account(Group, "group")
    account_meta, account = run.take_account(MangoAccount, "account")
    owner = run.signer("owner")
    market_meta, market = run.take_account(PerpMarket, "perp_market")
    bids_meta, bids = run.take_account(BookSide, "bids")
    asks_meta, asks = run.take_account(BookSide, "asks")
    run.check_gate(group, gate)
    run.check_writable(account_meta, "account")
    run.check_same(account.head.group, group_meta.pubkey, "account")
    run.check(frozen_too or is_operational(account, run.now), "AccountIsFrozen", "account")
    run.check_writable(market_meta, "perp_market")
    run.check_same(market.group, group_meta.pubkey, "perp_market")
    run.check_same(market.bids, bids_meta.pubkey, "perp_market")
    run.check_same(market.asks, asks_meta.pubkey, "perp_market")
    run.check_writable(bids_meta, "bids")
    run.check_writable(asks_meta, "asks")
    check_actor(run, account, owner.pubkey)
    return _Cancelling(key=account_meta.pubkey, account=account, market=market, bids=bids, asks=asks)


def cancel_order(run: Execution) -> int:
    """Run `perpCancelOrder`."""
    low, high = _unpack(run, "QQ")
    order_id = high << 64 | low
    cancelling = _take_cancelling(run, IxGate.PERP_CANCEL_ORDER)
    return _cancel_first(run, cancelling, lambda place_id, _: place_id == order_id)


def cancel_order_by_client_order_id(run: Execution) -> int:
    """Run `perpCancelOrderByClientOrderId`; the first order with that number is cancelled."""
    (client_id,) = _unpack(run, "Q")
    cancelling = _take_cancelling(run, IxGate.PERP_CANCEL_ORDER_BY_CLIENT_ORDER_ID, frozen_too=True)
    return _cancel_first(run, cancelling, lambda _, place_client_id: place_client_id == client_id)


def cancel_all_orders(run: Execution) -> int:
    """Run `perpCancelAllOrders`."""
    (limit,) = _unpack(run, "B")
    return _cancel_all(run, _take_cancelling(run, IxGate.PERP_CANCEL_ALL_ORDERS, frozen_too=True), limit, None)


def cancel_all_orders_by_side(run: Execution) -> int:
    """Run `perpCancelAllOrdersBySide`; without a side it cancels on both."""
    (given,) = _unpack(run, "B")
    if _flag(run, given):
        _, side_value, limit = _unpack(run, "BBB")
        side: Side | None = _enum(run, Side, side_value)
    else:
        _, limit = _unpack(run, "BB")
        side = None
    return _cancel_all(run, _take_cancelling(run, IxGate.PERP_CANCEL_ALL_ORDERS_BY_SIDE), limit, side)


def _cancel_first(run: Execution, cancelling: _Cancelling, chosen: Callable[[int, int], bool]) -> int:
    index = cancelling.market.perp_market_index
    places = enumerate(cancelling.account.perp_open_orders)
    slot = next((slot for slot, place in places if place.market == index and chosen(place.id, place.client_id)), None)
    if slot is None or not _cancel_slot(run, cancelling, slot):
        raise run.refuse("PerpOrderIdNotFound")
    return _CANCEL_UNITS


def _cancel_all(run: Execution, cancelling: _Cancelling, limit: int, side: Side | None) -> int:
    """Cancel up to `limit` orders; those that the book has no longer count too."""
    cancelled = 0
    for slot, place in enumerate(cancelling.account.perp_open_orders):
        if place.market != cancelling.market.perp_market_index or (
            side is not None and place.side_and_tree & 1 != side
        ):
            continue
        order_id = place.id
        if not _cancel_slot(run, cancelling, slot):
            run.log(f"order {order_id} was not found on orderbook, expired or filled already")
        run.rely(limit > 0, "attempt to subtract with overflow")
        cancelled += 1
        if cancelled == limit:
            break
    return _CANCEL_UNITS + _CANCELLED_UNITS * cancelled


def _cancel_slot(run: Execution, cancelling: _Cancelling, slot: int) -> bool:
    """Cancel the order of a slot; false when it is an old one that waits in the queue.

    An order that the book has no longer is freed here; what of it waits in the queue stays counted until consumed.
    """
    place = cancelling.account.perp_open_orders[slot]
    run.rely(place.side_and_tree <= _LAST_SIDE_AND_TREE, "called `Result::unwrap()` on an `Err` value")
    side, tree = Side(place.side_and_tree & 1), OrderTree(place.side_and_tree >> 1)
    leaf = (cancelling.bids if side is Side.BID else cancelling.asks).remove(tree, place.id)
    if leaf is None and place.quantity == 0:
        return False
    if leaf is not None:
        run.check(leaf.owner_slot == slot, "RequireEqViolated")
        run.check(leaf.owner == cancelling.key, "RequireKeysEqViolated")
    position = perp_position(run, cancelling.account, place.market)
    adjust_maker_lots(position, side, 0 if leaf is None else -leaf.quantity)
    place.clear()
    return True
