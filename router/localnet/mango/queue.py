"""The queue of a market: fills and removed orders that wait to be applied to the accounts."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Self

from solders.pubkey import Pubkey

from router.localnet.codec import I64, U8, U64, U128, Key, Layout
from router.localnet.mango.enums import EventType, Side
from router.localnet.mango.layouts import F32

__all__ = ["CAPACITY", "EventQueue", "FillEvent", "OutEvent"]

CAPACITY = 488
_EVENT_BYTES = 208
_HEADER_BYTES = 16
_RESERVED_BYTES = 64
_BYTES = _HEADER_BYTES + CAPACITY * _EVENT_BYTES + _RESERVED_BYTES


@dataclass(slots=True)
class FillEvent(Layout):
    """A match: price in lots, quantity in base lots, fees as fractions."""

    event_type: U8
    taker_side: U8
    maker_out: U8
    maker_slot: U8
    padding: Annotated[bytes, 4]
    timestamp: U64
    seq_num: U64
    maker: Key
    padding2: Annotated[bytes, 32]
    maker_timestamp: U64
    taker: Key
    padding3: Annotated[bytes, 16]
    taker_client_order_id: U64
    maker_order_id: U128
    price: I64
    quantity: I64
    maker_client_order_id: U64
    maker_fee: F32
    taker_fee: F32
    reserved: Annotated[bytes, 8]

    def changes(self, side: Side) -> tuple[int, int]:
        """Return what the match changes for the party of a side: base lots and quote lots."""
        sign = 1 if side is Side.BID else -1
        return sign * self.quantity, -sign * self.price * self.quantity


@dataclass(slots=True)
class OutEvent(Layout):
    """An order that was taken from the book without its account at hand."""

    event_type: U8
    side: U8
    owner_slot: U8
    padding0: Annotated[bytes, 5]
    timestamp: U64
    seq_num: U64
    owner: Key
    quantity: I64
    order_id: U128
    padding1: Annotated[bytes, 128]

    @classmethod
    def of(
        cls, side: Side, *, slot: int, timestamp: int, seq_num: int, owner: Pubkey, quantity: int, order_id: int
    ) -> Self:
        """Return the event of one order."""
        event = cls.zero()
        event.event_type, event.side, event.owner_slot = EventType.OUT, side, slot
        event.timestamp, event.seq_num = timestamp, seq_num
        event.owner, event.quantity, event.order_id = owner, quantity, order_id
        return event


class EventQueue:
    """A ring of events over the account's own bytes; what was consumed stays where it was, as in the program."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data or bytes(_BYTES))

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read one from `data`.

        Raises:
            ValueError: the bytes end within the queue.
        """
        content = data[offset : offset + _BYTES]
        if len(content) != _BYTES:
            raise ValueError("the bytes end within the queue")
        return cls(content)

    @classmethod
    def size(cls) -> int:
        """Return the width in bytes."""
        return _BYTES

    def encode(self) -> bytes:
        """Return the bytes."""
        return bytes(self._data)

    @property
    def _header(self) -> tuple[int, int, int]:
        head, count, seq_num = struct.unpack_from("<IIQ", self._data)
        return head, count, seq_num

    @property
    def count(self) -> int:
        """How many events wait."""
        return self._header[1]

    @property
    def seq_num(self) -> int:
        """The number that the next event gets."""
        return self._header[2]

    @property
    def is_full(self) -> bool:
        """Tell whether no further event fits."""
        return self.count == CAPACITY

    def push(self, event: FillEvent | OutEvent) -> bool:
        """Append an event; false when the queue is full."""
        head, count, seq_num = self._header
        if count == CAPACITY:
            return False
        at = _HEADER_BYTES + (head + count) % CAPACITY * _EVENT_BYTES
        self._data[at : at + _EVENT_BYTES] = event.encode()
        struct.pack_into("<IIQ", self._data, 0, head, count + 1, seq_num + 1)
        return True

    def _at(self, index: int) -> bytes:
        at = _HEADER_BYTES + (self._header[0] + index) % CAPACITY * _EVENT_BYTES
        return bytes(self._data[at : at + _EVENT_BYTES])

    def front(self) -> FillEvent | OutEvent | int | None:
        """Return the first event, its kind where that is another one, null when none waits."""
        return None if self.count == 0 else _event(self._at(0))

    def pop(self) -> None:
        """Take the first event out."""
        head, count, seq_num = self._header
        struct.pack_into("<IIQ", self._data, 0, (head + 1) % CAPACITY, count - 1, seq_num)

    def events(self) -> list[FillEvent | OutEvent | int]:
        """Return all events that wait, first to last."""
        return [_event(self._at(index)) for index in range(self.count)]


def _event(data: bytes) -> FillEvent | OutEvent | int:
    if data[0] == EventType.FILL:
        return FillEvent.decode(data)
    return OutEvent.decode(data) if data[0] == EventType.OUT else data[0]
