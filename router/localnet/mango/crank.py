"""What anybody may run for a market, and giving a slot back: queue, funding, deactivation."""

from __future__ import annotations

import struct

import msgspec
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.book import BookSide
from router.localnet.mango.enums import FREE_SLOT, EventType, IxGate, Side
from router.localnet.mango.events import deactivate_perp_position_log, fill_log, perp_balance_log
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import Group, PerpMarket
from router.localnet.mango.market import market_oracle, update_funding
from router.localnet.mango.numbers import FixedOverflow, add, floor, from_float, from_int, mul, saturated_i64, to_float
from router.localnet.mango.orders import check_actor
from router.localnet.mango.positions import (
    accrue_buyback_fees,
    adjust_maker_lots,
    expire_buyback_fees,
    is_operational,
    perp_position,
    record_trade,
    record_trading_fee,
    settle_funding,
    token_position,
)
from router.localnet.mango.queue import EventQueue, FillEvent, OutEvent

__all__ = ["consume_events", "deactivate_position", "update_funding_now"]

_MOST_EVENTS = 8
_CONSUME_UNITS = 10_000
_EVENT_UNITS = 18_000
_FUNDING_UNITS = 40_000
_DEACTIVATE_UNITS = 15_000


# The queue


class _Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of an instruction that consumes events."""

    group_key: Pubkey
    group: Group
    market: PerpMarket
    queue: EventQueue


class _Missing(Exception):
    """The account of an event was not given; the instruction ends and keeps what it did."""


class _Foreign(Exception):
    """The account of an event is not the program's; a group for tests drops the event."""


def consume_events(run: Execution) -> int:
    """Run `perpConsumeEvents`: apply the first events, 8 at most, whose accounts follow the fixed ones."""
    try:
        (limit,) = struct.unpack_from("<Q", run.args)
    except struct.error as error:
        raise run.refuse("InstructionDidNotDeserialize") from error
    group_meta, group = run.take_account(Group, "group")
    market_meta, market = run.take_account(PerpMarket, "perp_market")
    queue_meta, queue = run.take_account(EventQueue, "event_queue")
    run.check_gate(group, IxGate.PERP_CONSUME_EVENTS)
    run.check_writable(market_meta, "perp_market")
    run.check_same(market.group, group_meta.pubkey, "perp_market")
    run.check_same(market.event_queue, queue_meta.pubkey, "perp_market")
    run.check_writable(queue_meta, "event_queue")
    accounts = _Queue(group_key=group_meta.pubkey, group=group, market=market, queue=queue)
    consumed = 0
    for _ in range(min(limit, _MOST_EVENTS)):
        event = queue.front()
        if event is None:
            break
        try:
            _apply(run, accounts, event)
        except _Missing:
            break
        except _Foreign:
            queue.pop()
            continue
        queue.pop()
        consumed += 1
    return _CONSUME_UNITS + _EVENT_UNITS * consumed


def _apply(run: Execution, accounts: _Queue, event: FillEvent | OutEvent | int) -> None:
    if isinstance(event, FillEvent):
        _apply_fill(run, accounts, event)
    elif isinstance(event, OutEvent):
        owner = _load(run, accounts, "owner", event.owner)
        _apply_out(run, accounts.market, owner, event)
    else:
        run.check(event == EventType.LIQUIDATE, "SomeError")


def _load(run: Execution, accounts: _Queue, role: str, key: Pubkey) -> MangoAccount:
    meta = next((meta for meta in run.remaining() if meta.pubkey == key), None)
    if meta is None:
        run.log(f"Unable to find {role} account {key}")
        raise _Missing
    account = run.read(key)
    if accounts.group.testing == 1 and (account is None or account.owner != run.program_id):
        run.log(f"Mango account ({role}) not owned by mango program")
        raise _Foreign
    content = run.open(MangoAccount, key)
    run.check(meta.is_writable, "AccountNotMutable")
    return content


def _apply_fill(run: Execution, accounts: _Queue, fill: FillEvent) -> None:
    """Move a match into the positions of both parties; an account that met itself is both."""
    market = accounts.market
    if fill.maker == fill.taker:
        own = _load(run, accounts, "maker_taker", fill.maker)
        closed = add(_apply_maker(run, accounts, own, fill), _apply_taker(run, market, own, fill))
        _emit_balance(run, accounts, fill.maker, own)
        maker_pnl = taker_pnl = to_float(closed)
    else:
        maker = _load(run, accounts, "maker", fill.maker)
        taker = _load(run, accounts, "taker", fill.taker)
        maker_pnl = to_float(_apply_maker(run, accounts, maker, fill))
        taker_pnl = to_float(_apply_taker(run, market, taker, fill))
        _emit_balance(run, accounts, fill.maker, maker)
        _emit_balance(run, accounts, fill.taker, taker)
    run.emit(fill_log(market, accounts.group_key, fill, maker_pnl=maker_pnl, taker_pnl=taker_pnl))


def _emit_balance(run: Execution, accounts: _Queue, key: Pubkey, account: MangoAccount) -> None:
    position = perp_position(run, account, accounts.market.perp_market_index)
    run.emit(perp_balance_log(accounts.group_key, key, position, accounts.market))


def _quote(market: PerpMarket, quote_lots: int) -> int:
    if saturated_i64(quote_lots) != quote_lots:
        raise FixedOverflow("the number does not fit 64 bits")
    return mul(from_int(market.quote_lot_size), from_int(quote_lots))


def _apply_maker(run: Execution, accounts: _Queue, account: MangoAccount, fill: FillEvent) -> int:
    """Apply a match to the account whose order rested; return the PnL that it realized."""
    market = accounts.market
    side = Side(fill.taker_side).other
    base_change, quote_lots = fill.changes(side)
    quote = _quote(market, quote_lots)
    fee = mul(abs(quote), from_float(fill.maker_fee))
    if fee > 0:
        expire_buyback_fees(account, accounts.group, run.now)
        accrue_buyback_fees(account, fee)
    position = perp_position(run, account, market.perp_market_index)
    settle_funding(position, market)
    record_trading_fee(position, fee)
    realized = record_trade(position, market, base_change, quote)
    position.maker_volume += floor(abs(quote))
    filled = abs(base_change)
    adjust_maker_lots(position, side, -filled)
    place = account.perp_open_orders[fill.maker_slot]
    is_same = fill.maker_order_id in {0, place.id}
    if place.market == market.perp_market_index and is_same:
        place.quantity = max(0, place.quantity - filled)
        if fill.maker_out == 1:
            place.clear()
    return realized


def _apply_taker(run: Execution, market: PerpMarket, account: MangoAccount, fill: FillEvent) -> int:
    """Apply a match to the account whose order took; its fees were charged then. Return the PnL that it realized."""
    position = perp_position(run, account, market.perp_market_index)
    settle_funding(position, market)
    base_change, quote_lots = fill.changes(Side(fill.taker_side))
    position.taker_base_lots -= base_change
    position.taker_quote_lots -= quote_lots
    quote = _quote(market, quote_lots)
    realized = record_trade(position, market, base_change, quote)
    position.taker_volume += floor(abs(quote))
    return realized


def _apply_out(run: Execution, market: PerpMarket, account: MangoAccount, out: OutEvent) -> None:
    """Free an order that was taken from the book; one that was cancelled meanwhile has lost its slot already."""
    position = perp_position(run, account, market.perp_market_index)
    adjust_maker_lots(position, Side(out.side), -out.quantity)
    place = account.perp_open_orders[out.owner_slot]
    if place.market == market.perp_market_index and out.order_id in {0, place.id}:
        place.clear()


# Funding


def update_funding_now(run: Execution) -> int:
    """Run `perpUpdateFunding`, which alone asks for a fresh oracle."""
    group_meta, group = run.take_account(Group, "group")
    market_meta, market = run.take_account(PerpMarket, "perp_market")
    bids_meta, bids = run.take_account(BookSide, "bids")
    asks_meta, asks = run.take_account(BookSide, "asks")
    oracle = run.take()
    run.check_gate(group, IxGate.PERP_UPDATE_FUNDING)
    run.check_writable(market_meta, "perp_market")
    run.check_same(market.group, group_meta.pubkey, "perp_market")
    run.check_same(market.bids, bids_meta.pubkey, "perp_market")
    run.check_same(market.asks, asks_meta.pubkey, "perp_market")
    run.check_same(market.oracle, oracle.pubkey, "perp_market")
    run.check_writable(bids_meta, "bids")
    run.check_writable(asks_meta, "asks")
    update_funding(run, market, bids, asks, market_oracle(run, market, oracle.pubkey, fresh=True))
    return _FUNDING_UNITS


# Giving a slot back


def deactivate_position(run: Execution) -> int:
    """Run `perpDeactivatePosition`; a position that is not empty is a generic error of the program."""
    group_meta, group = run.take_account(Group, "group")
    account_meta, account = run.take_account(MangoAccount, "account")
    owner = run.signer("owner")
    _, market = run.take_account(PerpMarket, "perp_market")
    run.check_gate(group, IxGate.PERP_DEACTIVATE_POSITION)
    run.check_writable(account_meta, "account")
    run.check_same(account.head.group, group_meta.pubkey, "account")
    run.check(is_operational(account, run.now), "AccountIsFrozen", "account")
    run.check_same(market.group, group_meta.pubkey, "perp_market")
    check_actor(run, account, owner.pubkey)
    position = perp_position(run, account, market.perp_market_index)
    settle_funding(position, market)
    empty = position.base_position_lots == 0 and position.quote_position_native == 0
    run.check(empty and not position.has_open_orders and not position.has_open_taker_fills, "SomeError")
    run.emit(deactivate_perp_position_log(account.head.group, account_meta.pubkey, position))
    position.market_index = FREE_SLOT
    settle_token = token_position(run, account, market.settle_token_index)
    settle_token.in_use_count = max(0, settle_token.in_use_count - 1)
    return _DEACTIVATE_UNITS
