"""Accounts of the venue as bytes, written by offsets of their own: nothing of the provider's readers is used."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from solders.pubkey import Pubkey

ONE = 1 << 48
FREE = 65535
I64_MAX = (1 << 63) - 1
SHARED = Path(__file__).parents[3] / "shared"
SNAPSHOTS = SHARED / "snapshots" / "mango"

PROGRAM = Pubkey.from_string("4MangoMjqJ2firMokCjjGgoK8d4MXcrgL7XJaL3w6fVg")


def key(number: int) -> Pubkey:
    """Return a key that is nobody's."""
    return Pubkey.from_bytes(hashlib.sha256(f"key {number}".encode()).digest())


def fixed(value: Decimal | str | int | Fraction) -> int:
    """Return a number as `I80F48`, rounded down."""
    exact = Fraction(value) * ONE
    return exact.numerator // exact.denominator


def lead(name: str) -> bytes:
    """Return an account's discriminator."""
    return hashlib.sha256(f"account:{name}".encode()).digest()[:8]


class Raw:
    """An account that is being written."""

    def __init__(self, name: str, size: int) -> None:
        self.data = bytearray(size)
        self.data[:8] = lead(name)

    def put(self, offset: int, code: str, value: float) -> Raw:
        struct.pack_into("<" + code, self.data, offset, value)
        return self

    def fix(self, offset: int, raw: int) -> Raw:
        self.data[offset : offset + 16] = raw.to_bytes(16, "little", signed=True)
        return self

    def key(self, offset: int, value: Pubkey) -> Raw:
        self.data[offset : offset + 32] = bytes(value)
        return self

    def text(self, offset: int, value: str) -> Raw:
        self.data[offset : offset + len(value)] = value.encode()
        return self

    def done(self) -> bytes:
        return bytes(self.data)


GROUP = Pubkey.from_string("78b8f4cGCwmZ9ysPFMWLaLTkkaYnUjwMJYStWe5RTSSX")


def group_bytes(*, ix_gate: int = 0, tables: Sequence[Pubkey] = ()) -> bytes:
    """Return a group."""
    raw = Raw("Group", 2744).key(8, key(1)).put(40, "I", 7)
    for index, table in enumerate(tables):
        raw.key(184 + 32 * index, table)
    raw.data[864:880] = ix_gate.to_bytes(16, "little")
    return raw.done()


def bank_bytes(
    *,
    token: int = 0,
    name: str = "USDC",
    decimals: int = 6,
    oracle: Pubkey | None = None,
    weights: tuple[str, str, str, str] = ("1", "1", "1", "1"),
    stable: float = 1.0,
    indices: tuple[str, str] = ("1", "1"),
    totals: tuple[int, int] = (0, 0),
    scale_start: tuple[float, float] = (1.7976931348623157e308, 1.7976931348623157e308),
    staleness: int = -1,
) -> bytes:
    """Return a bank; weights are maintenance and initial asset, maintenance and initial liability."""
    raw = Raw("Bank", 3072).key(8, GROUP).text(40, name).key(56, key(100 + token)).key(88, key(200 + token))
    raw.key(120, key(300 + token) if oracle is None else oracle).fix(152, fixed("0.1")).put(168, "q", staleness)
    raw.put(248, "d", stable)
    raw.fix(536, fixed(indices[0])).fix(552, fixed(indices[1])).fix(568, totals[0] * ONE).fix(584, totals[1] * ONE)
    for offset, weight in zip((776, 792, 808, 824), weights, strict=True):
        raw.fix(offset, fixed(weight))
    # The two starts of scaling lie before the modes: borrows, then deposits.
    raw.put(936, "d", scale_start[0]).put(944, "d", scale_start[1])
    return raw.put(888, "H", token).put(891, "B", decimals).put(892, "I", 0).done()


class MarketKeys(NamedTuple):
    """Accounts that a market names."""

    bids: Pubkey
    asks: Pubkey
    events: Pubkey
    oracle: Pubkey


def market_keys(index: int) -> MarketKeys:
    """Return the accounts of a market."""
    return MarketKeys(*(key(1000 + 10 * index + each) for each in range(4)))


def market_bytes(
    *,
    index: int = 2,
    name: str = "SOL-PERP",
    decimals: int = 9,
    base_lot: int = 10_000_000,
    quote_lot: int = 100,
    stable: float = 0.1,
    weights: tuple[str, str, str, str] = ("0.95", "0.9", "1.05", "1.1"),
    overall: tuple[str, str] = ("1", "1"),
    funding: tuple[str, str] = ("-0.05", "0.05"),
    impact: int = 100,
    cumulative: tuple[int, int] = (0, 0),
    taker_fee: str = "0.0006",
    penalty: float = 1000.0,
    reduce_only: bool = False,
    force_close: bool = False,
    staleness: int = 120,
    conf_filter: str = "0.1",
) -> bytes:
    """Return a perp market; weights are maintenance and initial asset, maintenance and initial liability."""
    raw = Raw("PerpMarket", 2816).key(8, GROUP).put(40, "H", 0).put(42, "H", index).put(47, "B", decimals)
    raw.text(48, name)
    for offset, each in zip((64, 96, 128, 160), market_keys(index), strict=True):
        raw.key(offset, each)
    raw.fix(192, fixed(conf_filter)).put(208, "q", staleness).put(288, "d", stable)
    raw.put(576, "q", quote_lot).put(584, "q", base_lot)
    for offset, weight in zip((592, 608, 624, 640), weights, strict=True):
        raw.fix(offset, fixed(weight))
    raw.put(656, "q", 12345).put(664, "Q", 99).fix(680, fixed(funding[0])).fix(696, fixed(funding[1]))
    raw.put(712, "q", impact).fix(720, cumulative[0]).fix(736, cumulative[1]).put(752, "Q", 1_700_000_000)
    raw.fix(776, fixed("-0.0003")).fix(792, fixed(taker_fee)).put(840, "f", penalty)
    raw.put(872, "B", reduce_only).put(873, "B", force_close)
    return raw.fix(880, fixed(overall[0])).fix(896, fixed(overall[1])).done()


def stub_bytes(price: int, *, slot: int = 0, deviation: int = 0) -> bytes:
    """Return a price that the admin sets, `I80F48`."""
    raw = Raw("StubOracle", 224).key(8, GROUP).key(40, key(5)).fix(72, price).put(96, "Q", slot)
    return raw.fix(104, deviation).done()


class Resting(NamedTuple):
    """An order of a book; `price` is an offset from the oracle in the pegged tree."""

    price: int
    quantity: int
    sequence: int
    owner: Pubkey = key(77)
    timestamp: int = 0
    time_in_force: int = 0
    peg_limit: int = -1
    client_order_id: int = 0


def node_key(order: Resting, *, bids: bool, pegged: bool) -> int:
    """Return the key that the venue gives an order: price, then age (newer bids have smaller numbers)."""
    upper = order.price + (1 << 63) if pegged else order.price
    return upper << 64 | (order.sequence ^ (2**64 - 1) if bids else order.sequence)


class _Tree:
    """Nodes of a book, written into its array from scattered places."""

    def __init__(self, raw: Raw, places: Iterable[int]) -> None:
        self.raw = raw
        self.places = iter(places)

    def _node(self) -> tuple[int, int]:
        place = next(self.places)
        return place, 840 + 120 * place

    def write(self, leaves: list[tuple[int, Resting]]) -> int:
        """Write a subtree of leaves in order of their keys; return its node."""
        place, at = self._node()
        raw = self.raw
        if len(leaves) == 1:
            number, order = leaves[0]
            raw.put(at, "B", 2).put(at + 4, "H", order.time_in_force)
            raw.data[at + 8 : at + 24] = number.to_bytes(16, "little")
            raw.key(at + 24, order.owner).put(at + 56, "q", order.quantity).put(at + 64, "Q", order.timestamp)
            raw.put(at + 72, "q", order.peg_limit).put(at + 80, "Q", order.client_order_id)
            return place
        # The highest bit in which the first and the last key differ parts them.
        bit = (leaves[0][0] ^ leaves[-1][0]).bit_length() - 1
        cut = next(index for index, (number, _) in enumerate(leaves) if number >> bit & 1)
        raw.put(at, "B", 1).put(at + 4, "I", 127 - bit)
        raw.put(at + 24, "I", self.write(leaves[:cut])).put(at + 28, "I", self.write(leaves[cut:]))
        return place


def book_bytes(
    *, bids: bool, fixed_orders: Sequence[Resting] = (), pegged: Sequence[Resting] = (), places: Iterable[int] = ()
) -> bytes:
    """Return a side of a book; `places` are the nodes in the order in which they are taken."""
    raw = Raw("BookSide", 123720).put(312, "B", 0 if bids else 1)
    tree = _Tree(raw, places or range(1023, -1, -1))
    for index, orders in enumerate((fixed_orders, pegged)):
        leaves = sorted((node_key(each, bids=bids, pegged=index == 1), each) for each in orders)
        raw.put(8 + 8 * index, "I", tree.write(leaves) if leaves else 0).put(12 + 8 * index, "I", len(leaves))
    return raw.done()


def queue_bytes(*, count: int = 0, head: int = 0) -> bytes:
    """Return an event queue with so many fills of price 1000 + n, quantity n + 1."""
    raw = Raw("EventQueue", 101592).put(8, "I", head).put(12, "I", count).put(16, "Q", 500)
    for number in range(count):
        at = 24 + 208 * ((head + number) % 488)
        if number % 3 == 2:
            raw.put(at, "B", 1).put(at + 1, "B", 1).put(at + 2, "B", 9).put(at + 8, "Q", 40).put(at + 16, "Q", number)
            raw.key(at + 24, key(8)).put(at + 56, "q", 12).put(at + 64, "Q", 3)
        else:
            raw.put(at + 1, "B", number % 2).put(at + 2, "B", 1).put(at + 3, "B", 4).put(at + 8, "Q", 40)
            raw.put(at + 16, "Q", number).key(at + 24, key(6)).put(at + 88, "Q", 30).key(at + 96, key(7))
            raw.put(at + 144, "Q", 11).put(at + 152, "Q", 21).put(at + 168, "q", 1000 + number)
            raw.put(at + 176, "q", number + 1).put(at + 184, "Q", 31)
    return raw.done()


class Perp(NamedTuple):
    """A perp slot."""

    market: int = FREE
    base: int = 0
    quote: int = 0
    long_funding: int = 0
    short_funding: int = 0
    bids: int = 0
    asks: int = 0
    taker_base: int = 0
    taker_quote: int = 0


def account_bytes(
    *,
    tokens: Sequence[tuple[int, int]] = (),
    perps: Sequence[Perp] = (),
    orders: Sequence[tuple[int, int, int]] = (),
    being_liquidated: bool = False,
    frozen_until: int = 0,
    slots: tuple[int, int, int, int] = (4, 0, 4, 8),
    owner: Pubkey | None = None,
) -> bytes:
    """Return a trading account: tokens are (index, raw position), orders (side and tree, market, quantity)."""
    vectors = [(184, slots[0]), (120, slots[1]), (304, slots[2]), (96, slots[3]), (200, 0)]
    raw = Raw("MangoAccount", 416 + sum(8 + size * count for size, count in vectors) + 64)
    raw.key(8, GROUP).key(40, owner or key(2)).key(104, key(3)).put(136, "I", 0).put(140, "B", being_liquidated)
    raw.put(143, "B", 5).put(168, "Q", frozen_until).put(408, "B", 1)
    at = 416
    starts = list[int]()
    for size, count in vectors:
        raw.put(at + 4, "I", count)
        starts.append(at + 8)
        at += 8 + size * count
    for index in range(slots[0]):
        token, position = tokens[index] if index < len(tokens) else (FREE, 0)
        raw.fix(starts[0] + 184 * index, position).put(starts[0] + 184 * index + 16, "H", token)
    for index in range(slots[1]):
        raw.put(starts[1] + 120 * index + 48, "H", FREE)
    for index in range(slots[2]):
        perp, place = perps[index] if index < len(perps) else Perp(), starts[2] + 304 * index
        raw.put(place, "H", perp.market).put(place + 16, "q", perp.base).fix(place + 24, perp.quote)
        raw.fix(place + 48, perp.long_funding).fix(place + 64, perp.short_funding)
        for step, value in enumerate((perp.bids, perp.asks, perp.taker_base, perp.taker_quote)):
            raw.put(place + 80 + 8 * step, "q", value)
    for index in range(slots[3]):
        side, market, quantity = orders[index] if index < len(orders) else (0, FREE, 0)
        place = starts[3] + 96 * index
        raw.put(place, "B", side).put(place + 2, "H", market).put(place + 32, "q", quantity)
    return raw.done()
