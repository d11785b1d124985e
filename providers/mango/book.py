"""What an order would match now: the walk of the program over both trees of the opposing side.

Source: `state/orderbook` of the program, version 0.24.3 (`new_order`, `BookSideIter`, `rank_orders`). Prices in lots,
sizes in base lots, amounts in quote lots. Pure integers; nothing here reads the chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.mango.constants import (
    DROP_EXPIRED_ORDER_LIMIT,
    FRACTION_BITS,
    I64_MAX,
    I64_MIN,
    NO_PEG_LIMIT,
    BookSideOrderTree,
    BookSideType,
    SelfTradeBehavior,
)
from providers.mango.orderbook import BookSide, Leaf
from providers.mango.state import PerpMarket

__all__ = [
    "BookOrder",
    "StopReason",
    "Taker",
    "Walk",
    "best_price",
    "impact_price",
    "oracle_price_lots",
    "orders",
    "valid_orders",
    "walk_book",
]

_OFFSET_ZERO: Final = 1 << 63
_LOW_HALF: Final = (1 << 64) - 1


class BookOrder(msgspec.Struct, frozen=True):
    """A resting order at its price of now; an order that is not valid is skipped, and may be removed."""

    leaf: Leaf
    price: int
    valid: bool
    tree: BookSideOrderTree


class StopReason(StrEnum):
    """Why a walk ended."""

    FILLED = "filled"
    BOOK_ENDED = "book_ended"
    PRICE_LIMIT = "price_limit"
    MATCH_LIMIT = "match_limit"
    QUOTE_SPENT = "quote_spent"
    OWN_ORDER = "own_order"


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What an order would match.

    Attributes:
        base_lots, quote_lots: taken from others.
        decremented_base_lots, decremented_quote_lots: met orders of the same account and cancel out, without a fee.
        matches: orders matched, own ones included.
        dropped: orders past their time or their limit that the program removes; each takes a place in the event queue.
        canceled: own orders that were taken off the book instead of matched; each takes a place as well.
        first_price, last_price: of the first and the last match; null without one.
        stopped: why it ended. `OWN_ORDER`: the program would refuse the whole order (6048).
    """

    base_lots: int = 0
    quote_lots: int = 0
    decremented_base_lots: int = 0
    decremented_quote_lots: int = 0
    matches: int = 0
    dropped: int = 0
    canceled: int = 0
    first_price: int | None = None
    last_price: int | None = None
    stopped: StopReason = StopReason.BOOK_ENDED

    @property
    def events(self) -> int:
        """How many places the order takes in the event queue."""
        return self.matches + self.dropped + self.canceled


def oracle_price_lots(market: PerpMarket, price: int) -> int:
    """Return an oracle price (`I80F48`, native) in the market's lots, truncated as the program truncates."""
    scaled = price * market.base_lot_size
    # The quotient is an I80F48 before its fraction is cut off.
    return (scaled // market.quote_lot_size) >> FRACTION_BITS


def _pegged(leaf: Leaf, oracle_lots: int, *, bids: bool) -> tuple[int, bool] | None:
    """Return a pegged order's price and whether its limit allows it; null when it has no price now."""
    price = min(max(oracle_lots + leaf.price_data - _OFFSET_ZERO, I64_MIN), I64_MAX)
    if not 1 <= price < I64_MAX:
        return None
    limit = leaf.peg_limit
    if limit == NO_PEG_LIMIT:
        return price, True
    return price, price <= limit if bids else price >= limit


def _pegged_orders(side: BookSide, now: int, oracle_lots: int, *, bids: bool) -> Iterator[BookOrder]:
    for leaf in side.leaves(BookSideOrderTree.ORACLE_PEGGED):
        priced = _pegged(leaf, oracle_lots, bids=bids)
        if priced is not None:
            price, allowed = priced
            yield BookOrder(leaf, price, allowed and not leaf.is_expired(now), BookSideOrderTree.ORACLE_PEGGED)


def _fixed_orders(side: BookSide, now: int) -> Iterator[BookOrder]:
    for leaf in side.leaves(BookSideOrderTree.FIXED):
        yield BookOrder(leaf, leaf.price_data, not leaf.is_expired(now), BookSideOrderTree.FIXED)


def orders(side: BookSide, *, now: int, oracle_lots: int) -> Iterator[BookOrder]:
    """Yield a side's orders as the program meets them, best first, those that are not valid included.

    Both trees are merged by the whole key with the price of now in its upper half, so that at one price the older order
    comes first. Orders whose price the oracle pushes out of range are passed over.
    """
    bids = side.side_type is BookSideType.BIDS
    fixed, pegged = _fixed_orders(side, now), _pegged_orders(side, now, oracle_lots, bids=bids)
    first, second = next(fixed, None), next(pegged, None)
    while first is not None or second is not None:
        if second is None or (first is not None and _comes_first(first, second, bids=bids)):
            if first is not None:
                yield first
            first = next(fixed, None)
        else:
            yield second
            second = next(pegged, None)


def _comes_first(fixed: BookOrder, pegged: BookOrder, *, bids: bool) -> bool:
    key = pegged.price << 64 | (pegged.leaf.key & _LOW_HALF)
    return fixed.leaf.key > key if bids else fixed.leaf.key < key


def valid_orders(side: BookSide, *, now: int, oracle_lots: int) -> Iterator[BookOrder]:
    """Yield the orders that can be matched now, best first."""
    return (each for each in orders(side, now=now, oracle_lots=oracle_lots) if each.valid)


def best_price(side: BookSide, *, now: int, oracle_lots: int) -> int | None:
    """Return the best price that can be matched now; null for an empty side."""
    best = next(valid_orders(side, now=now, oracle_lots=oracle_lots), None)
    return None if best is None else best.price


def impact_price(side: BookSide, quantity: int, *, now: int, oracle_lots: int) -> int | None:
    """Return the price at which the side reaches `quantity` base lots; null when it holds less."""
    held = 0
    for each in valid_orders(side, now=now, oracle_lots=oracle_lots):
        held += each.leaf.quantity
        if held >= quantity:
            return each.price
    return None


class Taker(msgspec.Struct, frozen=True, kw_only=True):
    """A taking order.

    Attributes:
        max_base_lots: most base.
        max_quote_lots: most quote.
        price_limit: worst price in lots; null: any.
        limit: most matches, the order's `limit` argument.
        account: whose order it is; its own resting orders are treated by `self_trade`.
        self_trade: what happens at an own order.
    """

    max_base_lots: int = I64_MAX
    max_quote_lots: int = I64_MAX
    price_limit: int | None = None
    limit: int = 255
    account: Pubkey | None = None
    self_trade: SelfTradeBehavior = SelfTradeBehavior.ABORT_TRANSACTION


class _Matching:
    """A walk that is under way."""

    def __init__(self, taker: Taker, *, bids: bool) -> None:
        self.taker = taker
        self.bids = bids
        self.base_left, self.quote_left = taker.max_base_lots, taker.max_quote_lots
        self.own_base = self.own_quote = self.matches = self.dropped = self.canceled = 0
        self.first: int | None = None
        self.last: int | None = None

    def _stop_before(self, price: int) -> StopReason | None:
        limit = self.taker.price_limit
        if limit is not None and (price < limit if self.bids else price > limit):
            return StopReason.PRICE_LIMIT
        if self.matches == self.taker.limit:
            return StopReason.MATCH_LIMIT
        return StopReason.QUOTE_SPENT if self.quote_left < price else None

    def _meet_own(self, base: int, quote: int) -> StopReason | None:
        if self.taker.self_trade is SelfTradeBehavior.ABORT_TRANSACTION:
            return StopReason.OWN_ORDER
        self.own_base, self.own_quote = self.own_base + base, self.own_quote + quote
        return None

    def meet(self, order: BookOrder) -> StopReason | None:
        """Take what there is of one resting order; return why the walk ends here, null when it goes on."""
        if not order.valid:
            self.dropped += self.dropped < DROP_EXPIRED_ORDER_LIMIT
            return None
        price = order.price
        stop = self._stop_before(price)
        if stop is not None:
            return stop
        base = min(self.base_left, order.leaf.quantity, self.quote_left // price)
        if self.taker.account is not None and order.leaf.owner == self.taker.account:
            if self.taker.self_trade is SelfTradeBehavior.CANCEL_PROVIDE:
                self.canceled += 1
                return None
            stop = self._meet_own(base, base * price)
            if stop is not None:
                return stop
        self.base_left, self.quote_left = self.base_left - base, self.quote_left - base * price
        self.matches += 1
        self.first, self.last = (price if self.first is None else self.first), price
        return None

    def spent(self) -> StopReason | None:
        """Return why nothing more is wanted; null when something is."""
        if self.base_left == 0:
            return StopReason.FILLED
        return StopReason.QUOTE_SPENT if self.quote_left == 0 else None


def walk_book(side: BookSide, taker: Taker, *, now: int, oracle_lots: int) -> Walk:
    """Return what a taking order would match.

    Args:
        side: the opposing one: asks for a buy.
        taker: the order.
        now: the chain's clock in seconds.
        oracle_lots: see `oracle_price_lots`.
    """
    matching = _Matching(taker, bids=side.side_type is BookSideType.BIDS)
    stopped = matching.spent()
    for each in orders(side, now=now, oracle_lots=oracle_lots):
        if stopped is not None:
            break
        stopped = matching.meet(each) or matching.spent()
    return Walk(
        base_lots=taker.max_base_lots - matching.base_left - matching.own_base,
        quote_lots=taker.max_quote_lots - matching.quote_left - matching.own_quote,
        decremented_base_lots=matching.own_base,
        decremented_quote_lots=matching.own_quote,
        matches=matching.matches,
        dropped=matching.dropped,
        canceled=matching.canceled,
        first_price=matching.first,
        last_price=matching.last,
        stopped=StopReason.BOOK_ENDED if stopped is None else stopped,
    )
