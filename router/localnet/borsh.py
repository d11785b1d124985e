"""Borsh structs of varying width: a class with annotated fields is read from and written to bytes.

Like `codec`, for what has strings, lists and options in it. Fields stand in order, little-endian, without gaps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args, get_type_hints

from solders.pubkey import Pubkey

__all__ = ["Borsh", "Keys", "OptFlag", "OptKey", "OptU64", "Text"]

Text = Annotated[str, "text"]
Keys = Annotated[list[Pubkey], "keys"]
OptU64 = Annotated[int | None, "opt Q"]
OptFlag = Annotated[bool | None, "opt ?"]
OptKey = Annotated[Pubkey | None, "opt key"]

_WIDE = {"i128": True, "u128": False}
_OPTION = "opt "
_LENGTH = 4


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: str
    """A `struct` letter, `i128`, `u128`, `key`, `keys`, `text`, a number of bytes, or one of these as an option."""


class Borsh:
    """Base of such structs; subclasses are slotted dataclasses."""

    __slots__ = ()

    _plan: ClassVar[tuple[_Field, ...] | None] = None

    @classmethod
    def _fields(cls) -> tuple[_Field, ...]:
        if cls.__dict__.get("_plan") is None:
            hints = get_type_hints(cls, include_extras=True).items()
            cls._plan = tuple(_Field(name, str(get_args(hint)[1])) for name, hint in hints if not name.startswith("_"))
        assert cls._plan is not None  # noqa: S101 - set just above
        return cls._plan

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read one from `data`; more bytes may follow.

        Raises:
            ValueError: the bytes are no such struct.
        """
        reader = _Reader(data, offset)
        values = {field.name: reader.read(field.kind) for field in cls._fields()}
        return cls(**values)

    def encode(self) -> bytes:
        """Return the bytes.

        Raises:
            struct.error, OverflowError: a number does not fit its field.
        """
        return b"".join(_encoded(field.kind, getattr(self, field.name)) for field in self._fields())


class _Reader:
    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._at = offset

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise ValueError(f"{size} bytes wanted at {self._at} of {len(self._data)}")
        self._at += size
        return taken

    def _number(self, letter: str) -> Any:
        raw = self._take(struct.calcsize("<" + letter))
        if letter == "?" and raw[0] > 1:
            raise ValueError(f"no boolean: {raw[0]}")
        return struct.unpack("<" + letter, raw)[0]

    def read(self, kind: str) -> Any:
        """Read a value of a kind."""
        if kind.startswith(_OPTION):
            return self.read(kind.removeprefix(_OPTION)) if self._number("?") else None
        if kind in _WIDE:
            return int.from_bytes(self._take(16), "little", signed=_WIDE[kind])
        if kind == "key":
            return Pubkey(self._take(32))
        if kind == "keys":
            return [Pubkey(self._take(32)) for _ in range(self._number("I"))]
        if kind == "text":
            return self._take(self._number("I")).decode()
        return self._take(int(kind)) if kind.isdigit() else self._number(kind)


def _encoded(kind: str, value: Any) -> bytes:
    if kind.startswith(_OPTION):
        return b"\0" if value is None else b"\1" + _encoded(kind.removeprefix(_OPTION), value)
    if kind in _WIDE:
        return int(value).to_bytes(16, "little", signed=_WIDE[kind])
    if kind == "keys":
        return len(value).to_bytes(_LENGTH, "little") + b"".join(bytes(key) for key in value)
    if kind == "text":
        text: bytes = value.encode()
        return len(text).to_bytes(_LENGTH, "little") + text
    if kind == "key" or kind.isdigit():
        return bytes(value)
    return struct.pack("<" + kind, value)
