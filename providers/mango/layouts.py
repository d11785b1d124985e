"""Mango's accounts, read by offset: only the fields that the adapter uses, one `struct` call an account.

Offsets come from the layouts of `idl/mango_v4.json`; tests hold them against the interface description's own decoder.
Units are the program's: native amounts (smallest units of a token), lots of a market, and `I80F48` as raw integers in
units of 2**-48. What the chain keeps as a float is held as its bits, and given as the `I80F48` that the program makes
of it.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.mango.orderbook import BookSide, EventQueue, read_book_side, read_event_queue
from providers.mango.state import (
    Bank,
    Group,
    MangoAccount,
    MintInfo,
    PerpMarket,
    PerpOpenOrder,
    PerpPosition,
    Serum3Slot,
    StubOracle,
    TokenPosition,
    i80f48_of_f32,
    i80f48_of_f64,
)
from providers.solana.idl import Idl, discriminator
from providers.solana.layout import DISCRIMINATOR_BYTES, AccountLayout, Field, Reader

__all__ = [
    "ACCOUNT_SIZES",
    "Bank",
    "BookSide",
    "EventQueue",
    "Group",
    "MangoAccount",
    "MintInfo",
    "PerpMarket",
    "PerpOpenOrder",
    "PerpPosition",
    "Serum3Slot",
    "StubOracle",
    "TokenPosition",
    "i80f48_of_f32",
    "i80f48_of_f64",
    "mango_account_size",
    "read_bank",
    "read_book_side",
    "read_event_queue",
    "read_group",
    "read_mango_account",
    "read_mint_info",
    "read_perp_market",
    "read_stub_oracle",
]

# Bytes of a whole account, discriminator included.
ACCOUNT_SIZES: Final = {
    "Group": 2744,
    "Bank": 3072,
    "PerpMarket": 2816,
    "BookSide": 123720,
    "EventQueue": 101592,
    "StubOracle": 224,
    "MintInfo": 3064,
}

_U32: Final = struct.Struct("<I")


class _AccountHead(msgspec.Struct, frozen=True):
    group: Pubkey
    owner: Pubkey
    delegate: Pubkey
    account_num: int
    being_liquidated: int
    in_health_region: int
    sequence_number: int
    net_deposits: int
    frozen_until: int


_S = TypeVar("_S", bound=msgspec.Struct)

_IDL: Final = "mango_v4"
_BITS: Final = "_bits"
# Floats are read as the integer of the same width.
_AS_BITS: Final = {"f64": "u64", "f32": "u32"}
_PATHS: Final = {
    "conf_filter": "oracle_config.conf_filter",
    "max_staleness_slots": "oracle_config.max_staleness_slots",
    "stable_price_bits": "stable_price_model.stable_price",
    "first_bank": "banks.0",
    "first_vault": "vaults.0",
}


def _field(layout: AccountLayout, name: str) -> Field:
    """Return where a field of ours is: `I80F48` by its integer, floats by their bits."""
    where = layout.field(_PATHS.get(name, name.removesuffix(_BITS)))
    if isinstance(where.type, str):
        return Field(offset=where.offset, size=where.size, type=_AS_BITS.get(where.type, where.type))
    return Field(
        offset=where.offset, size=where.size, type="i128" if where.type.defined_name == "I80F48" else where.type
    )


def _reader(name: str, into: type[_S], *, without: frozenset[str] = frozenset()) -> Reader[_S]:
    """Return a reader of an account of fixed size."""
    layout = AccountLayout(Idl.load(_IDL), name, size=ACCOUNT_SIZES[name])
    fields = {each: _field(layout, each) for each in into.__struct_fields__ if each not in without}
    return Reader(into, fields, idl=Idl.load(_IDL), size=layout.size, lead=layout.discriminator)


class _Items:
    """The vectors of a trading account: bytes of an item, and a reader of one by its offset."""

    def __init__(self) -> None:
        described = Idl.load(_IDL)
        self.head = self._of(described, "MangoAccountFixed", _AccountHead, discriminator("account", "MangoAccount"))
        self.tokens = self._of(described, "TokenPosition", TokenPosition)
        self.serum3 = self._of(described, "Serum3Orders", Serum3Slot)
        self.perps = self._of(described, "PerpPosition", PerpPosition)
        self.perp_open_orders = self._of(described, "PerpOpenOrder", PerpOpenOrder)

    @staticmethod
    def _of(described: Idl, name: str, into: type[_S], lead: bytes | None = None) -> tuple[int, Reader[_S]]:
        layout = AccountLayout(described, name)
        skip = 0 if lead is not None else DISCRIMINATOR_BYTES
        fields: dict[str, Field] = {}
        for each in into.__struct_fields__:
            where = _field(layout, each)
            fields[each] = Field(offset=where.offset - skip, size=where.size, type=where.type)
        size = layout.size - skip
        return size, Reader(into, fields, idl=described, size=size, lead=lead or b"")


@cache
def _items() -> _Items:
    return _Items()


class _Accounts:
    """Every reader of an account of fixed size, built once on first use (a few milliseconds)."""

    def __init__(self) -> None:
        described = Idl.load(_IDL)
        group = AccountLayout(described, "Group", size=ACCOUNT_SIZES["Group"])
        tables = group.field("address_lookup_tables")
        self.tables = range(tables.offset, tables.offset + tables.size, 32)
        self.group = _reader("Group", Group, without=frozenset({"lookup_tables"}))
        self.bank = _reader("Bank", Bank)
        self.perp = _reader("PerpMarket", PerpMarket)
        self.stub = _reader("StubOracle", StubOracle)
        self.mint_info = _reader("MintInfo", MintInfo)


@cache
def _accounts() -> _Accounts:
    return _Accounts()


def _check(name: str, data: bytes) -> None:
    """Refuse another length: a longer account is a newer layout, and is not trusted either."""
    if len(data) != ACCOUNT_SIZES[name]:
        raise BadAnswer(f"{len(data)} bytes are not a {name} account of this program")


def read_group(data: bytes) -> Group:
    """Read a group; raise `BadAnswer` when it is not one."""
    _check("Group", data)
    accounts = _accounts()
    keys = tuple(Pubkey.from_bytes(data[at : at + 32]) for at in accounts.tables if any(data[at : at + 32]))
    return msgspec.structs.replace(accounts.group(data), lookup_tables=keys)


def read_bank(data: bytes) -> Bank:
    """Read a token's bank; raise `BadAnswer` when it is not one."""
    _check("Bank", data)
    return _accounts().bank(data)


def read_perp_market(data: bytes) -> PerpMarket:
    """Read a perp market; raise `BadAnswer` when it is not one."""
    _check("PerpMarket", data)
    market = _accounts().perp(data)
    if market.base_lot_size <= 0 or market.quote_lot_size <= 0:
        raise BadAnswer(f"{market.venue_symbol} has no lot sizes")
    return market


def read_stub_oracle(data: bytes) -> StubOracle:
    """Read a price that the group's admin sets; raise `BadAnswer` when it is not one."""
    _check("StubOracle", data)
    return _accounts().stub(data)


def read_mint_info(data: bytes) -> MintInfo:
    """Read what a group knows of a mint; raise `BadAnswer` when it is not that."""
    _check("MintInfo", data)
    return _accounts().mint_info(data)


# After the fixed part: version byte and padding; then each vector is padding, length and items; then reserved bytes.
_HEADER_BYTES: Final = 8
_VECTOR_BYTES: Final = 8
_LENGTH_AT: Final = 4
_SWAP_BYTES: Final = 200
_RESERVED_BYTES: Final = 64
_MAX_SLOTS: Final = 255
_HEADER_VERSION: Final = 1


def mango_account_size(*, tokens: int, serum3: int, perps: int, perp_open_orders: int, swaps: int = 0) -> int:
    """Return the bytes of an account with so many slots of each kind."""
    items = _items()
    return (
        items.head[0]
        + _HEADER_BYTES
        + 5 * _VECTOR_BYTES
        + items.tokens[0] * tokens
        + items.serum3[0] * serum3
        + items.perps[0] * perps
        + items.perp_open_orders[0] * perp_open_orders
        + _SWAP_BYTES * swaps
        + _RESERVED_BYTES
    )


def read_mango_account(data: bytes) -> MangoAccount:
    """Read a trading account; raise `BadAnswer` when it is not one."""
    items = _items()
    size, head = items.head
    fixed = head(data)
    if len(data) <= size or data[size] != _HEADER_VERSION:
        raise BadAnswer("a MangoAccount account of another version")
    at = size + _HEADER_BYTES
    tokens, at = _vector(data, at, *items.tokens)
    serum3, at = _vector(data, at, *items.serum3)
    perps, at = _vector(data, at, *items.perps)
    orders, at = _vector(data, at, *items.perp_open_orders)
    return MangoAccount(
        group=fixed.group,
        owner=fixed.owner,
        delegate=fixed.delegate,
        account_num=fixed.account_num,
        being_liquidated=fixed.being_liquidated,
        in_health_region=fixed.in_health_region,
        sequence_number=fixed.sequence_number,
        net_deposits=fixed.net_deposits,
        frozen_until=fixed.frozen_until,
        tokens=tokens,
        serum3=serum3,
        perps=perps,
        perp_open_orders=orders,
    )


def _vector(data: bytes, at: int, size: int, reader: Reader[_S]) -> tuple[tuple[_S, ...], int]:
    """Return the items of the vector at `at`, and where the next one begins."""
    start = at + _VECTOR_BYTES
    if start > len(data):
        raise BadAnswer("a MangoAccount account that ends too early")
    count = _U32.unpack_from(data, at + _LENGTH_AT)[0]
    end = start + count * size
    if count > _MAX_SLOTS or end > len(data):
        raise BadAnswer("a MangoAccount account that ends too early")
    return tuple(reader.at(data, offset) for offset in range(start, end, size)), end
