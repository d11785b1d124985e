"""An order book side and an event queue, straight from bytes: nothing is decoded that is not asked for.

A side keeps two trees in one array of nodes: orders at a fixed price, and orders at an offset from the oracle. A tree
is walked from its root to the leaves that a caller takes, so pricing an order reads a few nodes out of 1024.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.mango.constants import (
    BOOK_NODES,
    EVENT_QUEUE_SLOTS,
    BookSideOrderTree,
    BookSideType,
    EventType,
    NodeTag,
    Side,
)
from providers.solana.idl import discriminator
from providers.solana.layout import DISCRIMINATOR_BYTES

__all__ = ["BookSide", "EventQueue", "FillEvent", "Leaf", "OutEvent", "read_book_side", "read_event_queue"]

BOOK_SIDE_BYTES: Final = 123720
EVENT_QUEUE_BYTES: Final = 101592

_BOOK_LEAD: Final = discriminator("account", "BookSide")
_QUEUE_LEAD: Final = discriminator("account", "EventQueue")

# The two roots, each a node and a count of leaves; then four reserved ones and 256 bytes; then the array's header.
_ROOTS: Final = struct.Struct("<IIII")
_TREE_TYPE_AT: Final = 312
_NODES_AT: Final = 840
_NODE_BYTES: Final = 120
# tag, children
_INNER: Final = struct.Struct("<B23xII")
# tag, owner slot, order type, time in force, key (low and high half), owner, quantity, timestamp, peg limit, client id
_LEAF: Final = struct.Struct("<BBBxHxxQQ32sqQqQ")

_QUEUE_HEAD: Final = struct.Struct("<IIQ")
_EVENTS_AT: Final = 24
_EVENT_BYTES: Final = 208
_FILL: Final = struct.Struct("<xBBB4xQQ32s32xQ32s16xQ16sqqQ")
_OUT: Final = struct.Struct("<xBB5xQQ32sq16s")


class Leaf(msgspec.Struct, frozen=True):
    """A resting order. `quantity` in base lots; `timestamp` and `time_in_force` in seconds (0: no end)."""

    owner_slot: int
    order_type: int
    time_in_force: int
    key: int
    owner: Pubkey
    quantity: int
    timestamp: int
    peg_limit: int
    client_order_id: int

    @property
    def price_data(self) -> int:
        """Upper half of the key: a price in lots, or an offset from the oracle moved up by 2**63."""
        return self.key >> 64

    def is_expired(self, now_ts: int) -> bool:
        """Whether the order's time is over; an order that ends now is over."""
        return self.time_in_force > 0 and now_ts >= self.timestamp + self.time_in_force


class BookSide(msgspec.Struct, frozen=True):
    """One side of an order book; `roots` are (node, leaf count) of the fixed and the pegged tree."""

    data: bytes
    side_type: BookSideType
    roots: tuple[tuple[int, int], tuple[int, int]]

    def leaf_count(self, tree: BookSideOrderTree) -> int:
        """Return how many orders rest in a tree."""
        return self.roots[tree][1]

    def leaves(self, tree: BookSideOrderTree) -> Iterator[Leaf]:
        """Yield a tree's orders, best first: keys ascending for asks, descending for bids.

        Raises:
            BadAnswer: a node that is neither inner nor leaf, or more of them than the tree can have.
        """
        root, count = self.roots[tree]
        if count == 0:
            return
        first, second = (1, 0) if self.side_type is BookSideType.BIDS else (0, 1)
        data, pending, left = self.data, [root], 2 * count
        while pending:
            node, left = pending.pop(), left - 1
            if node >= BOOK_NODES or left < 0:
                raise BadAnswer("an order book whose tree leads nowhere")
            at = _NODES_AT + _NODE_BYTES * node
            tag = data[at]
            if tag == NodeTag.LEAF:
                yield _leaf(data, at)
            elif tag == NodeTag.INNER:
                children = _INNER.unpack_from(data, at)[1:]
                pending += (children[second], children[first])
            else:
                raise BadAnswer("an order book whose tree leads nowhere")


def _leaf(data: bytes, at: int) -> Leaf:
    _, slot, order_type, time_in_force, low, high, owner, quantity, timestamp, peg, client = _LEAF.unpack_from(data, at)
    return Leaf(
        slot, order_type, time_in_force, high << 64 | low, Pubkey.from_bytes(owner), quantity, timestamp, peg, client
    )


def read_book_side(data: bytes) -> BookSide:
    """Read one side of an order book; raise `BadAnswer` when it is not one."""
    if len(data) != BOOK_SIDE_BYTES or not data.startswith(_BOOK_LEAD) or data[_TREE_TYPE_AT] > BookSideType.ASKS:
        raise BadAnswer(f"{len(data)} bytes are not a BookSide account of this program")
    fixed, fixed_leaves, pegged, pegged_leaves = _ROOTS.unpack_from(data, DISCRIMINATOR_BYTES)
    return BookSide(data, BookSideType(data[_TREE_TYPE_AT]), ((fixed, fixed_leaves), (pegged, pegged_leaves)))


class FillEvent(msgspec.Struct, frozen=True):
    """A match that waits to be booked to its maker and its taker. `price` in lots, `quantity` in base lots."""

    taker_side: Side
    maker_out: bool
    maker_slot: int
    timestamp: int
    seq_num: int
    maker: Pubkey
    maker_timestamp: int
    taker: Pubkey
    taker_client_order_id: int
    maker_order_id: int
    price: int
    quantity: int
    maker_client_order_id: int


class OutEvent(msgspec.Struct, frozen=True):
    """An order that left the book unmatched, and waits to be taken off its owner's account."""

    side: Side
    owner_slot: int
    timestamp: int
    seq_num: int
    owner: Pubkey
    quantity: int
    order_id: int


class EventQueue(msgspec.Struct, frozen=True):
    """What the book did and accounts have yet to take over; a ring of 488 entries."""

    data: bytes
    head: int
    count: int
    seq_num: int

    @property
    def free(self) -> int:
        """How many entries fit."""
        return EVENT_QUEUE_SLOTS - self.count

    def events(self) -> Iterator[FillEvent | OutEvent]:
        """Yield the entries, oldest first; raise `BadAnswer` at one of another kind."""
        for index in range(self.count):
            at = _EVENTS_AT + _EVENT_BYTES * ((self.head + index) % EVENT_QUEUE_SLOTS)
            if self.data[at] == EventType.FILL:
                yield _fill(self.data, at)
            elif self.data[at] == EventType.OUT:
                yield _out(self.data, at)
            else:
                raise BadAnswer(f"an event of kind {self.data[at]}")


def _fill(data: bytes, at: int) -> FillEvent:
    side, out, slot, timestamp, seq, maker, made, taker, taker_id, order_id, price, quantity, maker_id = (
        _FILL.unpack_from(data, at)
    )
    return FillEvent(
        taker_side=Side(side),
        maker_out=bool(out),
        maker_slot=slot,
        timestamp=timestamp,
        seq_num=seq,
        maker=Pubkey.from_bytes(maker),
        maker_timestamp=made,
        taker=Pubkey.from_bytes(taker),
        taker_client_order_id=taker_id,
        maker_order_id=int.from_bytes(order_id, "little"),
        price=price,
        quantity=quantity,
        maker_client_order_id=maker_id,
    )


def _out(data: bytes, at: int) -> OutEvent:
    side, slot, timestamp, seq, owner, quantity, order_id = _OUT.unpack_from(data, at)
    return OutEvent(
        side=Side(side),
        owner_slot=slot,
        timestamp=timestamp,
        seq_num=seq,
        owner=Pubkey.from_bytes(owner),
        quantity=quantity,
        order_id=int.from_bytes(order_id, "little"),
    )


def read_event_queue(data: bytes) -> EventQueue:
    """Read an event queue; raise `BadAnswer` when it is not one."""
    if len(data) != EVENT_QUEUE_BYTES or not data.startswith(_QUEUE_LEAD):
        raise BadAnswer(f"{len(data)} bytes are not an EventQueue account of this program")
    head, count, seq_num = _QUEUE_HEAD.unpack_from(data, DISCRIMINATOR_BYTES)
    if head >= EVENT_QUEUE_SLOTS or count > EVENT_QUEUE_SLOTS:
        raise BadAnswer("an event queue that does not fit its ring")
    return EventQueue(data, head, count, seq_num)
