"""An order meets the book: matches, the taker's figures, fees, and what rests of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.book import BookFull, BookItem, BookSide
from router.localnet.mango.enums import EventType, OrderTree, PlaceOrderType, SelfTradeBehavior, Side
from router.localnet.mango.events import filled_perp_order_log, perp_taker_trade_log
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import PerpMarket
from router.localnet.mango.nodes import LeafNode, node_key, pegged_price_data
from router.localnet.mango.numbers import (
    I64_MAX,
    FixedOverflow,
    add,
    f32,
    floor,
    from_float,
    from_int,
    mul,
    saturated_i64,
    to_float,
)
from router.localnet.mango.positions import (
    accrue_buyback_fees,
    adjust_maker_lots,
    lot_to_native_price,
    native_price_to_lot,
    perp_position,
    record_trading_fee,
)
from router.localnet.mango.queue import EventQueue, FillEvent, OutEvent

__all__ = ["Order", "OrderBook", "match_order"]

_MOST_DROPPED = 5


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be traded.

    Attributes:
        price_lots: the limit; with `pegged` the distance from the oracle. A market order has none.
        max_base_lots, max_quote_lots: the most to trade, without fees.
        time_in_force: seconds that what rests of it lives, 0 for good.
        peg_limit: the price at which a pegged order ends, -1 for none.
    """

    side: Side
    order_type: PlaceOrderType
    price_lots: int
    max_base_lots: int
    max_quote_lots: int
    client_order_id: int
    reduce_only: bool
    time_in_force: int
    self_trade_behavior: SelfTradeBehavior
    pegged: bool = False
    peg_limit: int = -1

    @property
    def is_post_only(self) -> bool:
        """Tell whether the order never takes."""
        return self.order_type in {PlaceOrderType.POST_ONLY, PlaceOrderType.POST_ONLY_SLIDE}

    @property
    def target(self) -> OrderTree | None:
        """The tree that the order may rest in."""
        if self.order_type in {PlaceOrderType.MARKET, PlaceOrderType.IMMEDIATE_OR_CANCEL}:
            return None
        return OrderTree.ORACLE_PEGGED if self.pegged else OrderTree.FIXED


class OrderBook(msgspec.Struct, frozen=True, kw_only=True):
    """A market with all that an order touches."""

    market: PerpMarket
    bids: BookSide
    asks: BookSide
    queue: EventQueue
    oracle_price: int

    def side(self, side: Side) -> BookSide:
        """Return bids or asks."""
        return self.bids if side is Side.BID else self.asks


@dataclass(slots=True, kw_only=True)
class _Walk:
    """An order on its way through the other side of the book, and where it stands."""

    run: Execution
    book: OrderBook
    order: Order
    account: MangoAccount
    key: Pubkey
    order_id: int
    price_lots: int
    oracle_lots: int
    base_left: int
    quote_left: int
    limit: int
    target: OrderTree | None
    own_base: int = 0
    own_quote: int = 0
    dropped: int = 0
    matches: int = 0
    changed: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    removed: list[tuple[OrderTree, int]] = field(default_factory=list[tuple[OrderTree, int]])


def match_order(
    run: Execution, book: OrderBook, order: Order, account: MangoAccount, key: Pubkey, *, limit: int
) -> int:
    """Run an order of the account at `key`; return how many orders it met.

    `limit` is the most orders of the book to match; when it is reached, what is left neither trades nor rests.

    Raises:
        ModelRefusal: it would trade with itself and may not, or the market cannot take it.
        ModelPanic: the market's queue is full.
    """
    market = book.market
    oracle_lots = native_price_to_lot(market, book.oracle_price)
    price_lots, price_data = _price(run, book, order, oracle_lots)
    market.seq_num += 1
    penalty = 0
    if order.order_type is PlaceOrderType.IMMEDIATE_OR_CANCEL:
        penalty = _apply_penalty(run, market, account)
    walk = _Walk(
        run=run,
        book=book,
        order=order,
        account=account,
        key=key,
        order_id=node_key(order.side, price_data, market.seq_num),
        price_lots=price_lots,
        oracle_lots=oracle_lots,
        base_left=order.max_base_lots,
        quote_left=order.max_quote_lots,
        limit=limit,
        target=order.target,
    )
    opposing = book.side(order.side.other)
    for item in opposing.items(run.now, oracle_lots):
        if not _meet(walk, item):
            break
    _record_taken(walk, penalty)
    for handle, quantity in walk.changed:
        opposing.set_quantity(handle, quantity)
    for tree, removed in walk.removed:
        opposing.remove(tree, removed)
    _rest(walk)
    return walk.matches


def _price(run: Execution, book: OrderBook, order: Order, oracle_lots: int) -> tuple[int, int]:
    """Return the order's price in lots and its price data."""
    if order.order_type is PlaceOrderType.MARKET:
        price = I64_MAX if order.side is Side.BID else 1
    else:
        price = _i64(order.price_lots + (oracle_lots if order.pegged else 0))
    if order.order_type is PlaceOrderType.POST_ONLY_SLIDE:
        best = book.side(order.side.other).best_price(run.now, oracle_lots)
        if best is not None:
            price = min(price, best - 1) if order.side is Side.BID else max(price, _i64(best + 1))
    run.check(price >= 1, "RequireGteViolated")
    return price, pegged_price_data(_i64(price - oracle_lots)) if order.pegged else price


def _i64(value: int) -> int:
    if saturated_i64(value) != value:
        raise FixedOverflow("the number does not fit 64 bits")
    return value


def _meet(walk: _Walk, item: BookItem) -> bool:
    """Deal with the next order of the other side; false when the order goes no further."""
    order = walk.order
    if walk.base_left == 0 or walk.quote_left == 0:
        return False
    if not item.is_valid:
        if walk.dropped < _MOST_DROPPED:
            walk.dropped += 1
            _take_out(walk, item)
        return True
    affordable = walk.quote_left // item.price_lots
    if not order.side.is_within(item.price_lots, walk.price_lots) or _is_held_back(walk) or affordable == 0:
        return False
    base_lots = min(walk.base_left, item.leaf.quantity, affordable)
    if item.leaf.owner == walk.key:
        walk.run.check(order.self_trade_behavior is not SelfTradeBehavior.ABORT_TRANSACTION, "WouldSelfTrade")
        if order.self_trade_behavior is SelfTradeBehavior.CANCEL_PROVIDE:
            _take_out(walk, item)
            return True
        walk.own_base += base_lots
        walk.own_quote += base_lots * item.price_lots
    _match(walk, item, base_lots)
    return True


def _is_held_back(walk: _Walk) -> bool:
    """Tell whether the order may not take; then it does not rest either, and the instruction succeeds."""
    if not walk.order.is_post_only and walk.limit > 0:
        return False
    post_only = walk.order.is_post_only
    walk.run.log("Order could not be placed due to PostOnly" if post_only else "Order matching limit reached")
    walk.target = None
    return True


def _match(walk: _Walk, item: BookItem, base_lots: int) -> None:
    walk.base_left -= base_lots
    walk.quote_left -= base_lots * item.price_lots
    left = item.leaf.quantity - base_lots
    if left == 0:
        walk.removed.append((item.tree, item.leaf.key))
    else:
        walk.changed.append((item.handle, left))
    event = _fill(walk, item, base_lots)
    _push(walk, event)
    walk.limit -= 1
    walk.matches += 1
    walk.run.emit(filled_perp_order_log(walk.book.market, event.seq_num))


def _take_out(walk: _Walk, item: BookItem) -> None:
    """Remove an order of the other side that does not trade."""
    _push_out(walk, walk.order.side.other, item.leaf)
    walk.removed.append((item.tree, item.leaf.key))


def _fill(walk: _Walk, item: BookItem, base_lots: int) -> FillEvent:
    """Return the event of a match; an account pays itself no fees."""
    own, market = item.leaf.owner == walk.key, walk.book.market
    event = FillEvent.zero()
    event.event_type, event.taker_side = EventType.FILL, walk.order.side
    event.maker_out, event.maker_slot = int(base_lots == item.leaf.quantity), item.leaf.owner_slot
    event.timestamp, event.seq_num = walk.run.now, walk.book.queue.seq_num
    event.maker, event.maker_timestamp, event.maker_order_id = item.leaf.owner, item.leaf.timestamp, item.leaf.key
    event.maker_client_order_id = item.leaf.client_order_id
    event.taker, event.taker_client_order_id = walk.key, walk.order.client_order_id
    event.price, event.quantity = item.price_lots, base_lots
    event.maker_fee = 0.0 if own else f32(to_float(market.maker_fee))
    event.taker_fee = 0.0 if own else f32(to_float(market.taker_fee))
    return event


def _push(walk: _Walk, event: FillEvent | OutEvent) -> None:
    if not walk.book.queue.push(event):
        raise walk.run.panic("called `Result::unwrap()` on an `Err` value")


def _push_out(walk: _Walk, side: Side, leaf: LeafNode) -> None:
    event = OutEvent.of(
        side,
        slot=leaf.owner_slot,
        timestamp=walk.run.now,
        seq_num=walk.book.queue.seq_num,
        owner=leaf.owner,
        quantity=leaf.quantity,
        order_id=leaf.key,
    )
    _push(walk, event)


# What was taken


def _record_taken(walk: _Walk, penalty: int) -> None:
    """Book what was taken on the taker at once; the position itself changes when the queue is consumed."""
    order, market = walk.order, walk.book.market
    base_taken, quote_taken = order.max_base_lots - walk.base_left, order.max_quote_lots - walk.quote_left
    if base_taken == 0 and quote_taken == 0:
        return
    sign = 1 if order.side is Side.BID else -1
    position = perp_position(walk.run, walk.account, market.perp_market_index)
    position.taker_base_lots += sign * base_taken
    position.taker_quote_lots -= sign * quote_taken
    fees = _apply_fees(walk.run, market, walk.account, quote_taken - walk.own_quote)
    event = perp_taker_trade_log(
        market,
        walk.key,
        order.side,
        base_lots=(base_taken, walk.own_base),
        quote_lots=(quote_taken, walk.own_quote),
        fees_paid=fees,
        fee_penalty=penalty,
    )
    walk.run.emit(event)


def _apply_fees(run: Execution, market: PerpMarket, account: MangoAccount, quote_lots: int) -> int:
    """Charge the taker at once, and count the maker's fee for the market already; return the taker's fee."""
    quote = from_int(_i64(market.quote_lot_size * quote_lots))
    maker_fee, taker_fee = mul(quote, market.maker_fee), mul(quote, market.taker_fee)
    run.check(taker_fee >= 0, "RequireGteViolated")
    accrue_buyback_fees(account, max(0, add(taker_fee, min(0, maker_fee))))
    position = perp_position(run, account, market.perp_market_index)
    record_trading_fee(position, taker_fee)
    position.taker_volume += floor(taker_fee)
    market.fees_accrued = add(market.fees_accrued, add(taker_fee, maker_fee))
    return taker_fee


def _apply_penalty(run: Execution, market: PerpMarket, account: MangoAccount) -> int:
    """Charge what an immediate-or-cancel order costs whether or not it matches."""
    penalty = from_float(market.fee_penalty)
    accrue_buyback_fees(account, penalty)
    record_trading_fee(perp_position(run, account, market.perp_market_index), penalty)
    market.fees_accrued = add(market.fees_accrued, penalty)
    return penalty


# What is left


def _rest(walk: _Walk) -> None:
    """Put what is left on the book, where the order asks for it and the price is near enough to the oracle."""
    run, order = walk.run, walk.order
    quantity = min(walk.base_left, walk.quote_left // walk.price_lots)
    if walk.target is None or quantity <= 0:
        return
    if not _is_inside_limit(walk.book, order.side, walk.price_lots):
        run.log("Posting on book disallowed due to price limits")
        return
    own = walk.book.side(order.side)
    _make_room(walk, own, walk.target)
    slot = next((index for index, place in enumerate(walk.account.perp_open_orders) if not place.is_active), None)
    if slot is None:
        raise run.refuse("SomeError")
    leaf = LeafNode.of(
        key=walk.order_id,
        owner=walk.key,
        owner_slot=slot,
        quantity=quantity,
        timestamp=run.now,
        time_in_force=order.time_in_force,
        peg_limit=order.peg_limit if order.pegged else -1,
        client_order_id=order.client_order_id,
    )
    try:
        own.insert(walk.target, leaf)
    except BookFull as error:
        raise run.refuse("SomeError") from error
    words = "bid" if order.side is Side.BID else "ask"
    run.log(f"{words} on book order_id={walk.order_id} quantity={quantity} price={walk.price_lots}")
    market_index = walk.book.market.perp_market_index
    adjust_maker_lots(perp_position(run, walk.account, market_index), order.side, quantity)
    place = walk.account.perp_open_orders[slot]
    place.market, place.side_and_tree = market_index, order.side + 2 * walk.target
    place.id, place.client_id, place.quantity = leaf.key, leaf.client_order_id, quantity


def _make_room(walk: _Walk, own: BookSide, target: OrderTree) -> None:
    """Drop an expired order and, where the book is full, the worst one; it has to be worse than the new one."""
    side = walk.order.side
    expired = own.remove_one_expired(target, walk.run.now)
    if expired is not None:
        _push_out(walk, side, expired)
    if not own.is_full:
        return
    worst = own.remove_worst(walk.run.now, walk.oracle_lots)
    if worst is None:
        raise walk.run.panic("called `Option::unwrap()` on a `None` value")
    walk.run.check(side.is_better(walk.price_lots, worst[1]), "SomeError")
    _push_out(walk, side, worst[0])


def _is_inside_limit(book: OrderBook, side: Side, price_lots: int) -> bool:
    """Tell whether an order may rest at a price: a bid not too far above the oracle, an ask not too far below."""
    market, native_price = book.market, lot_to_native_price(book.market, price_lots)
    if side is Side.BID:
        return native_price <= mul(market.maint_base_liab_weight, book.oracle_price)
    return native_price >= mul(market.maint_base_asset_weight, book.oracle_price)
