"""Structs of varying width: what goes in comes out, and what is none of them is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from solders.pubkey import Pubkey

from router.localnet.borsh import Borsh, Keys, OptFlag, OptKey, OptU64, Text
from router.localnet.codec import I64, U8, U64, U128, Flag, Key


@dataclass(slots=True)
class Everything(Borsh):
    """One field of each kind."""

    name: Text
    keys: Keys
    owner: Key
    small: U8
    signed: I64
    wide: U128
    flag: Flag
    maybe: OptU64
    perhaps: OptFlag
    someone: OptKey
    last: U64


def test_what_goes_in_comes_out() -> None:
    """Strings, lists and options are written by their own lengths and marks, and read again from anywhere."""
    key = Pubkey(bytes(range(32)))
    full = Everything("pool", [key, key], key, 7, -1, 1 << 100, True, 5, False, key, (1 << 64) - 1)
    empty = Everything("", [], key, 0, 0, 0, False, None, None, None, 0)
    for each in (full, empty):
        data = each.encode()
        assert Everything.decode(b"xyz" + data + b"more", 3) == each
        with pytest.raises(ValueError, match="wanted"):
            Everything.decode(data[:-1])
    assert len(empty.encode()) == 4 + 4 + 32 + 1 + 8 + 16 + 1 + 1 + 1 + 1 + 8
    assert len(full.encode()) == len(empty.encode()) + 4 + 64 + 8 + 1 + 32


def test_marks_are_zero_or_one() -> None:
    """A boolean or the mark of an option that is neither is refused; so is text that is none."""
    data = bytearray(Everything("", [], Pubkey.default(), 0, 0, 0, False, None, None, None, 0).encode())
    for at in (65, 66, 67):
        broken = bytearray(data)
        broken[at] = 2
        with pytest.raises(ValueError, match="boolean"):
            Everything.decode(bytes(broken))
    with pytest.raises(ValueError, match="codec"):
        Everything.decode(b"\2\0\0\0\xff\xfe" + bytes(data[4:]))
