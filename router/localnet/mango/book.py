"""One side of an order book over the account's own bytes: two critical-bit trees in one array of nodes.

A key is the price data in the upper 64 bits and the order's number below (inverted for bids). Every edit leaves the
nodes as the program would, so that any reader of the account finds a valid tree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Self, TypeAlias

import msgspec

from router.localnet.mango.enums import NodeTag, OrderTree, Side
from router.localnet.mango.nodes import KEY_BITS, PEG_ZERO, InnerNode, LeafNode
from router.localnet.mango.numbers import I64_MAX, U64_MAX, saturated_i64

__all__ = [
    "MAX_NODES",
    "BookFull",
    "BookItem",
    "BookSide",
]

MAX_NODES = 1024
_NODE_BYTES = 120
_NODES_AT = 832
_HEADER_AT = 304
_BYTES = _NODES_AT + MAX_NODES * _NODE_BYTES


class BookFull(Exception):
    """No node is left."""


class BookItem(msgspec.Struct, frozen=True):
    """An order as it stands in the queue of its side.

    Attributes:
        is_valid: it may trade; an expired one, or a peg beyond its limit, may not and may be removed.
    """

    handle: int
    tree: OrderTree
    leaf: LeafNode
    price_lots: int
    is_valid: bool


_Node: TypeAlias = InnerNode | LeafNode


class BookSide:
    """Bids or asks.

    Args:
        data: the account's bytes after the discriminator.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)

    @classmethod
    def empty(cls, side: Side) -> Self:
        """Return one without orders."""
        book = cls(bytes(_BYTES))
        book._data[_HEADER_AT] = side
        return book

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read one from `data`.

        Raises:
            ValueError: the bytes end within the book.
        """
        content = data[offset : offset + _BYTES]
        if len(content) != _BYTES:
            raise ValueError("the bytes end within the book")
        return cls(content)

    @classmethod
    def size(cls) -> int:
        """Return the width in bytes."""
        return _BYTES

    def encode(self) -> bytes:
        """Return the bytes."""
        return bytes(self._data)

    # Reading

    @property
    def side(self) -> Side:
        """Bids or asks."""
        return Side(self._data[_HEADER_AT])

    @property
    def is_full(self) -> bool:
        """Tell whether an insertion, which may take two nodes, may fail."""
        bump, free, _ = self._header
        return free <= 1 and bump >= MAX_NODES - 1

    def leaf_count(self, tree: OrderTree) -> int:
        """Return how many orders a tree has."""
        return self._root(tree)[1]

    def leaves(self, tree: OrderTree) -> Iterator[tuple[int, LeafNode]]:
        """Yield the orders of a tree with their node numbers, best first."""
        root = self._root_handle(tree)
        first = 1 if self.side is Side.BID else 0
        stack = [] if root is None else [root]
        while stack:
            handle = stack.pop()
            node = self._node(handle)
            if isinstance(node, LeafNode):
                yield handle, node
            else:
                stack.extend((node.child(1 - first), node.child(first)))

    def items(self, now: int, oracle_price_lots: int) -> Iterator[BookItem]:
        """Yield all orders, the best first, those that may not trade included.

        Pegged orders that no price represents at the head of their tree are left out.
        """
        fixed, pegged = self.leaves(OrderTree.FIXED), self.leaves(OrderTree.ORACLE_PEGGED)
        next_fixed, next_pegged = next(fixed, None), next(pegged, None)
        while True:
            while next_pegged is not None and not _is_representable(next_pegged[1], oracle_price_lots):
                next_pegged = next(pegged, None)
            item = self._rank(next_fixed, next_pegged, now, oracle_price_lots)
            if item is None:
                return
            if item.tree is OrderTree.FIXED:
                next_fixed = next(fixed, None)
            else:
                next_pegged = next(pegged, None)
            yield item

    def valid(self, now: int, oracle_price_lots: int) -> Iterator[BookItem]:
        """Yield the orders that may trade, the best first."""
        return (item for item in self.items(now, oracle_price_lots) if item.is_valid)

    def best_price(self, now: int, oracle_price_lots: int) -> int | None:
        """Return the price of the first order that may trade."""
        first = next(self.valid(now, oracle_price_lots), None)
        return None if first is None else first.price_lots

    def impact_price(self, quantity: int, now: int, oracle_price_lots: int) -> int | None:
        """Return the price at a depth of so many base lots; null when the book is not that deep."""
        depth = 0
        for item in self.valid(now, oracle_price_lots):
            depth += item.leaf.quantity
            if depth >= quantity:
                return item.price_lots
        return None

    # Writing

    def set_quantity(self, handle: int, quantity: int) -> None:
        """Change what is left of an order."""
        leaf = self._node(handle)
        if isinstance(leaf, LeafNode):
            leaf.quantity = quantity
            self._store(handle, leaf)

    def insert(self, tree: OrderTree, leaf: LeafNode) -> int:
        """Add an order; return its node number. One with the same key is replaced.

        Raises:
            BookFull: no node is left.
        """
        handle = self._root_handle(tree)
        if handle is None:
            fresh = self._allocate(leaf)
            self._set_root(tree, fresh, 1)
            return fresh
        path: list[tuple[int, int]] = []
        while True:
            node = self._node(handle)
            if isinstance(node, LeafNode) and node.key == leaf.key:
                self._store(handle, leaf)
                self._expiry_changed(path, node.expiry, leaf.expiry)
                return handle
            shared = KEY_BITS - (node.key ^ leaf.key).bit_length()
            if isinstance(node, InnerNode) and shared >= node.prefix_len:
                bit = node.bit_of(leaf.key)
                path.append((handle, bit))
                handle = node.child(bit)
                continue
            return self._fork(tree, handle, leaf, path)

    def remove(self, tree: OrderTree, key: int) -> LeafNode | None:
        """Take an order out and return it; null when there is none with that key."""
        handle = self._root_handle(tree)
        if handle is None:
            return None
        path: list[tuple[int, int]] = []
        node = self._node(handle)
        while isinstance(node, InnerNode):
            bit = node.bit_of(key)
            path.append((handle, bit))
            handle = node.child(bit)
            node = self._node(handle)
        if node.key != key:
            return None
        if not path:
            self._set_root(tree, 0, 0)
            self._free(handle)
            return node
        parent, bit = path.pop()
        sibling = self._fork_at(parent).child(1 - bit)
        moved = self._node(sibling)
        self._free(sibling)
        self._store(parent, moved)
        root, count = self._root(tree)
        self._set_root(tree, root, count - 1)
        self._free(handle)
        self._expiry_changed(path, node.expiry, moved.expiry)
        return node

    def remove_one_expired(self, tree: OrderTree, now: int) -> LeafNode | None:
        """Take out the order that expired first, of the given tree if it has one, else of the other."""
        for candidate in (tree, OrderTree(1 - tree)):
            leaf = self._first_to_expire(candidate)
            if leaf is not None and leaf.expiry < now:
                return self.remove(candidate, leaf.key)
        return None

    def remove_worst(self, now: int, oracle_price_lots: int) -> tuple[LeafNode, int] | None:
        """Take out the order that would trade last; return it with its price."""
        fixed, pegged = self._worst(OrderTree.FIXED), self._worst(OrderTree.ORACLE_PEGGED)
        item = self._rank(fixed, pegged, now, oracle_price_lots, worse=True)
        if item is None:
            return None
        leaf = self.remove(item.tree, item.leaf.key)
        return None if leaf is None else (leaf, item.price_lots)

    # Order among the two trees

    def _rank(
        self,
        fixed: tuple[int, LeafNode] | None,
        pegged: tuple[int, LeafNode] | None,
        now: int,
        oracle_price_lots: int,
        *,
        worse: bool = False,
    ) -> BookItem | None:
        """Return the one of two orders that trades first (or last)."""
        if pegged is None:
            return None if fixed is None else _fixed_item(*fixed, now)
        item = self._pegged_item(*pegged, now, oracle_price_lots)
        if fixed is None:
            return item
        key = item.price_lots << 64 | item.leaf.key & U64_MAX
        better = fixed[1].key > key if self.side is Side.BID else fixed[1].key < key
        return _fixed_item(*fixed, now) if better != worse else item

    def _pegged_item(self, handle: int, leaf: LeafNode, now: int, oracle_price_lots: int) -> BookItem:
        price = _pegged_price(leaf, oracle_price_lots)
        representable = 1 <= price < I64_MAX
        beyond = leaf.peg_limit != -1 and self.side.is_better(price, leaf.peg_limit)
        valid = representable and not beyond and not leaf.is_expired(now)
        return BookItem(handle, OrderTree.ORACLE_PEGGED, leaf, max(price, 1), valid)

    # Nodes

    def _worst(self, tree: OrderTree) -> tuple[int, LeafNode] | None:
        handle = self._root_handle(tree)
        if handle is None:
            return None
        bit = 0 if self.side is Side.BID else 1
        node = self._node(handle)
        while isinstance(node, InnerNode):
            handle = node.child(bit)
            node = self._node(handle)
        return handle, node

    def _first_to_expire(self, tree: OrderTree) -> LeafNode | None:
        handle = self._root_handle(tree)
        if handle is None:
            return None
        node = self._node(handle)
        while isinstance(node, InnerNode):
            node = self._node(node.child(int(node.left_expiry > node.right_expiry)))
        return node

    def _fork(self, tree: OrderTree, handle: int, leaf: LeafNode, path: list[tuple[int, int]]) -> int:
        """Put a fork where a node was, with that node and the new order below."""
        node = self._node(handle)
        fresh = self._allocate(leaf)
        try:
            moved = self._allocate(node)
        except BookFull:
            self._free(fresh)
            raise
        fork = InnerNode.zero()
        fork.tag, fork.key = NodeTag.INNER, leaf.key
        fork.prefix_len = KEY_BITS - (node.key ^ leaf.key).bit_length()
        bit = fork.bit_of(leaf.key)
        fork.set_child(bit, fresh, leaf.expiry)
        fork.set_child(1 - bit, moved, node.expiry)
        self._store(handle, fork)
        if leaf.expiry < node.expiry:
            self._expiry_changed(path, node.expiry, leaf.expiry)
        root, count = self._root(tree)
        self._set_root(tree, root, count + 1)
        return fresh

    def _expiry_changed(self, path: list[tuple[int, int]], outdated: int, expiry: int) -> None:
        """Keep the forks above a changed node up with when the first order below them expires."""
        for handle, bit in reversed(path):
            inner = self._fork_at(handle)
            if (inner.right_expiry if bit else inner.left_expiry) != outdated:
                return
            outdated = inner.expiry
            inner.set_child(bit, inner.child(bit), expiry)
            expiry = inner.expiry
            self._store(handle, inner)

    def _node(self, handle: int) -> _Node:
        at = _NODES_AT + handle * _NODE_BYTES
        tag = self._data[at] if handle < MAX_NODES else NodeTag.UNINITIALIZED
        if tag == NodeTag.INNER:
            return InnerNode.decode(bytes(self._data[at : at + _NODE_BYTES]))
        if tag == NodeTag.LEAF:
            return LeafNode.decode(bytes(self._data[at : at + _NODE_BYTES]))
        raise LookupError(f"node {handle} is neither a fork nor an order")

    def _fork_at(self, handle: int) -> InnerNode:
        node = self._node(handle)
        if isinstance(node, InnerNode):
            return node
        raise LookupError(f"node {handle} is no fork")

    def _store(self, handle: int, node: _Node) -> None:
        at = _NODES_AT + handle * _NODE_BYTES
        self._data[at : at + _NODE_BYTES] = node.encode()

    def _allocate(self, node: _Node) -> int:
        bump, free, head = self._header
        if free == 0:
            if bump >= MAX_NODES:
                raise BookFull("no node is left")
            self._set_header(bump + 1, 0, head)
            self._store(bump, node)
            return bump
        (following,) = struct.unpack_from("<I", self._data, _NODES_AT + head * _NODE_BYTES + 4)
        self._set_header(bump, free - 1, following)
        self._store(head, node)
        return head

    def _free(self, handle: int) -> None:
        bump, free, head = self._header
        tag = NodeTag.FREE if free else NodeTag.LAST_FREE
        at = _NODES_AT + handle * _NODE_BYTES
        self._data[at : at + _NODE_BYTES] = struct.pack("<B3xI112x", tag, head)
        self._set_header(bump, free + 1, handle)

    # Header and roots

    @property
    def _header(self) -> tuple[int, int, int]:
        """The first node never used, how many nodes were given back, and the last of these."""
        bump, free, head = struct.unpack_from("<III", self._data, _HEADER_AT + 4)
        return bump, free, head

    def _set_header(self, bump: int, free: int, head: int) -> None:
        struct.pack_into("<III", self._data, _HEADER_AT + 4, bump, free, head)

    def _root(self, tree: OrderTree) -> tuple[int, int]:
        handle, count = struct.unpack_from("<II", self._data, tree * 8)
        return handle, count

    def _root_handle(self, tree: OrderTree) -> int | None:
        handle, count = self._root(tree)
        return handle if count else None

    def _set_root(self, tree: OrderTree, handle: int, count: int) -> None:
        struct.pack_into("<II", self._data, tree * 8, handle, count)


def _pegged_price(leaf: LeafNode, oracle_price_lots: int) -> int:
    return saturated_i64(oracle_price_lots + leaf.price_data - PEG_ZERO)


def _is_representable(leaf: LeafNode, oracle_price_lots: int) -> bool:
    return 1 <= _pegged_price(leaf, oracle_price_lots) < I64_MAX


def _fixed_item(handle: int, leaf: LeafNode, now: int) -> BookItem:
    return BookItem(handle, OrderTree.FIXED, leaf, leaf.price_data, not leaf.is_expired(now))
