"""Nodes of an order book's trees, and the keys that sort them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from solders.pubkey import Pubkey

from router.localnet.codec import I64, U8, U16, U32, U64, U128, Key, Layout
from router.localnet.mango.enums import NO_EXPIRY, NodeTag, Side
from router.localnet.mango.numbers import U64_MAX

__all__ = ["KEY_BITS", "PEG_ZERO", "InnerNode", "LeafNode", "node_key", "pegged_price_data"]

KEY_BITS = 128
PEG_ZERO = 1 << 63
"""The price data of an order pegged to the oracle's very price."""


def node_key(side: Side, price_data: int, seq_num: int) -> int:
    """Return the key of an order: later orders of the same price go behind earlier ones."""
    return price_data << 64 | (seq_num ^ U64_MAX if side is Side.BID else seq_num)


def pegged_price_data(offset_lots: int) -> int:
    """Return the price data of an order that follows the oracle at a distance."""
    return offset_lots + PEG_ZERO


@dataclass(slots=True)
class InnerNode(Layout):
    """A fork: both children share the first `prefix_len` bits of `key`; the left one has a zero next."""

    tag: U8
    padding: Annotated[bytes, 3]
    prefix_len: U32
    key: U128
    left: U32
    right: U32
    left_expiry: U64
    right_expiry: U64
    reserved: Annotated[bytes, 72]

    @property
    def expiry(self) -> int:
        """When the first order below expires."""
        return min(self.left_expiry, self.right_expiry)

    def child(self, bit: int) -> int:
        """Return the left (0) or right (1) child."""
        return self.right if bit else self.left

    def bit_of(self, key: int) -> int:
        """Return on which side an order with that key would be."""
        return key >> (KEY_BITS - 1 - self.prefix_len) & 1

    def set_child(self, bit: int, handle: int, expiry: int) -> None:
        """Replace a child."""
        if bit:
            self.right, self.right_expiry = handle, expiry
        else:
            self.left, self.left_expiry = handle, expiry


@dataclass(slots=True)
class LeafNode(Layout):
    """A resting order: quantity in base lots, `time_in_force` seconds after `timestamp` (0: for good)."""

    tag: U8
    owner_slot: U8
    order_type: U8
    padding: Annotated[bytes, 1]
    time_in_force: U16
    padding2: Annotated[bytes, 2]
    key: U128
    owner: Key
    quantity: I64
    timestamp: U64
    peg_limit: I64
    client_order_id: U64
    reserved: Annotated[bytes, 32]

    @classmethod
    def of(
        cls,
        *,
        key: int,
        owner: Pubkey,
        owner_slot: int,
        quantity: int,
        timestamp: int,
        time_in_force: int = 0,
        peg_limit: int = -1,
        client_order_id: int = 0,
    ) -> Self:
        """Return the node of an order; the program marks each as a plain limit order."""
        leaf = cls.zero()
        leaf.tag, leaf.key, leaf.owner, leaf.owner_slot = NodeTag.LEAF, key, owner, owner_slot
        leaf.quantity, leaf.timestamp, leaf.time_in_force = quantity, timestamp, time_in_force
        leaf.peg_limit, leaf.client_order_id = peg_limit, client_order_id
        return leaf

    @property
    def price_data(self) -> int:
        """The upper half of the key."""
        return self.key >> 64

    @property
    def expiry(self) -> int:
        """When the order expires."""
        return self.timestamp + self.time_in_force if self.time_in_force else NO_EXPIRY

    def is_expired(self, now: int) -> bool:
        """Tell whether the order may not trade any more."""
        return self.time_in_force > 0 and now >= self.expiry
