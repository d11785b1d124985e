"""The book's bytes against a plain list."""

from __future__ import annotations

import random
import struct

from solders.pubkey import Pubkey

from router.localnet.mango.book import MAX_NODES, BookSide
from router.localnet.mango.enums import NodeTag, OrderTree, Side
from router.localnet.mango.nodes import LeafNode, node_key, pegged_price_data

_OWNER = Pubkey.default()
_NOW = 1_000


def _leaf(side: Side, price_data: int, number: int, *, seconds: int = 0, quantity: int = 1) -> LeafNode:
    return LeafNode.of(
        key=node_key(side, price_data, number),
        owner=_OWNER,
        owner_slot=number % 8,
        quantity=quantity,
        timestamp=_NOW,
        time_in_force=seconds,
    )


def _check_forks(book: BookSide, tree: OrderTree) -> None:
    """Check every fork in the bytes: prefixes, sides and the earliest expiry of each child."""
    data = book.encode()

    def keys_and_expiry(handle: int) -> tuple[list[int], int]:
        node = data[832 + 120 * handle : 832 + 120 * (handle + 1)]
        (key,) = [int.from_bytes(node[8:24], "little")]
        if node[0] == NodeTag.LEAF:
            return [key], LeafNode.decode(node).expiry
        assert node[0] == NodeTag.INNER
        (prefix,) = struct.unpack_from("<I", node, 4)
        left, right, left_expiry, right_expiry = struct.unpack_from("<IIQQ", node, 24)
        (low, first), (high, second) = keys_and_expiry(left), keys_and_expiry(right)
        assert (left_expiry, right_expiry) == (first, second)
        assert {each >> (127 - prefix) & 1 for each in low} == {0}
        assert {each >> (127 - prefix) & 1 for each in high} == {1}
        assert len({each >> (128 - prefix) for each in (*low, *high)}) == 1
        return [*low, *high], min(first, second)

    root, count = struct.unpack_from("<II", data, tree * 8)
    if count:
        keys, _ = keys_and_expiry(root)
        assert len(keys) == count
        assert keys == sorted(keys)


def _run(side: Side, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's own sequence
    book, plain = BookSide.empty(side), dict[OrderTree, dict[int, LeafNode]]()
    for tree in OrderTree:
        plain[tree] = {}
    for number in range(400):
        tree = chance.choice(list(OrderTree))
        held = plain[tree]
        if held and chance.random() < 0.45:
            key = chance.choice(list(held))
            removed = book.remove(tree, key)
            assert removed == held.pop(key)
        else:
            data = chance.randint(1, 40) if tree is OrderTree.FIXED else pegged_price_data(chance.randint(-30, 30))
            leaf = _leaf(side, data, number, seconds=chance.choice([0, 0, 5, 50, 500]))
            book.insert(tree, leaf)
            held[leaf.key] = leaf
        if number % 40 == 0:
            book = BookSide.decode(book.encode())
            for each in OrderTree:
                _check_forks(book, each)
    for tree in OrderTree:
        expected = sorted(plain[tree], reverse=side is Side.BID)
        assert [leaf.key for _, leaf in book.leaves(tree)] == expected
        assert book.leaf_count(tree) == len(expected)


def test_random_bids_stand_as_in_a_sorted_list() -> None:
    """Inserting and removing bids leaves valid trees in descending order."""
    for seed in range(4):
        _run(Side.BID, seed)


def test_random_asks_stand_as_in_a_sorted_list() -> None:
    """Inserting and removing asks leaves valid trees in ascending order."""
    for seed in range(4):
        _run(Side.ASK, seed)


def test_fixed_and_pegged_orders_merge_by_effective_price_then_time() -> None:
    """A pegged order stands where the oracle puts it; at one price the earlier order is first."""
    for side, expected in ((Side.BID, [103, 101, 101, 99]), (Side.ASK, [99, 101, 101, 103])):
        book = BookSide.empty(side)
        book.insert(OrderTree.FIXED, _leaf(side, 101, 2, quantity=2))
        book.insert(OrderTree.ORACLE_PEGGED, _leaf(side, pegged_price_data(1), 1, quantity=1))
        book.insert(OrderTree.ORACLE_PEGGED, _leaf(side, pegged_price_data(-1), 3))
        book.insert(OrderTree.FIXED, _leaf(side, 103, 4))
        items = list(book.items(_NOW, 100))
        assert [item.price_lots for item in items] == expected
        assert [item.leaf.quantity for item in items if item.price_lots == 101] == [1, 2]


def test_expired_and_unrepresentable_orders_are_not_valid() -> None:
    """An expired order is listed as not valid, a peg below one lot is left out, a peg beyond its limit is not valid."""
    book = BookSide.empty(Side.ASK)
    book.insert(OrderTree.FIXED, _leaf(Side.ASK, 90, 1, seconds=10))
    book.insert(OrderTree.ORACLE_PEGGED, _leaf(Side.ASK, pegged_price_data(-100), 2))
    beyond = _leaf(Side.ASK, pegged_price_data(5), 3)
    beyond.peg_limit = 106
    book.insert(OrderTree.ORACLE_PEGGED, beyond)
    before = [(item.price_lots, item.is_valid) for item in book.items(_NOW + 9, 100)]
    after = [(item.price_lots, item.is_valid) for item in book.items(_NOW + 10, 100)]
    assert before == [(90, True), (105, False)]
    assert after == [(90, False), (105, False)]
    assert [(item.price_lots, item.is_valid) for item in book.items(_NOW, 102)] == [(2, True), (90, True), (107, True)]


def test_the_order_that_expires_first_is_dropped_only_after_its_time() -> None:
    """Dropping looks for the earliest expiry of the asked tree, and takes it when it is strictly past."""
    book = BookSide.empty(Side.BID)
    for number, seconds in enumerate((0, 30, 20, 40), start=1):
        book.insert(OrderTree.FIXED, _leaf(Side.BID, 50 + number, number, seconds=seconds))
    assert book.remove_one_expired(OrderTree.ORACLE_PEGGED, _NOW + 20) is None
    dropped = book.remove_one_expired(OrderTree.ORACLE_PEGGED, _NOW + 21)
    assert dropped is not None
    assert dropped.price_data == 53
    _check_forks(book, OrderTree.FIXED)


def test_a_full_book_says_so_and_gives_up_its_worst_order() -> None:
    """512 orders fill 1023 nodes; the worst of both trees makes room."""
    book = BookSide.empty(Side.BID)
    for number in range(1, 513):
        assert not book.is_full
        book.insert(OrderTree.FIXED, _leaf(Side.BID, 1_000 + number, number))
    assert book.is_full
    assert 2 * book.leaf_count(OrderTree.FIXED) == MAX_NODES
    worst = book.remove_worst(_NOW, 100)
    assert worst is not None
    assert worst[1] == 1_001
    assert not book.is_full
    _check_forks(book, OrderTree.FIXED)
