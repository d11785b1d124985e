"""Fixed layouts: a class with annotated fields is read from and written to account bytes.

Fields stand in the order of the account, without gaps, little-endian. The annotation carries the wire type, so that a
field is an `int` to the type checker and, say, an unsigned 128-bit number on chain.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

from solders.pubkey import Pubkey

__all__ = [
    "I8",
    "I16",
    "I32",
    "I64",
    "I128",
    "U8",
    "U16",
    "U32",
    "U64",
    "U128",
    "Flag",
    "Key",
    "Layout",
]

I8 = Annotated[int, "b"]
U8 = Annotated[int, "B"]
I16 = Annotated[int, "h"]
U16 = Annotated[int, "H"]
I32 = Annotated[int, "i"]
U32 = Annotated[int, "I"]
I64 = Annotated[int, "q"]
U64 = Annotated[int, "Q"]
I128 = Annotated[int, "i128"]
U128 = Annotated[int, "u128"]
Flag = Annotated[bool, "?"]
Key = Annotated[Pubkey, "key"]

_WIDE = {"i128": True, "u128": False}


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: where it starts, how wide it is, and what stands in it."""

    name: str
    offset: int
    size: int
    kind: str
    """A `struct` letter, `i128`, `u128`, `key`, `bytes`, `struct` or `array`."""

    layout: type[Layout] | None
    count: int


class Layout:
    """Base of every account and every struct inside one; subclasses are slotted dataclasses.

    Raises:
        struct.error, OverflowError: when a number does not fit its field.
    """

    __slots__ = ()

    _plan: ClassVar[tuple[_Field, ...] | None] = None
    _packer: ClassVar[struct.Struct]

    @classmethod
    def fields(cls) -> tuple[_Field, ...]:
        """Return the fields with their offsets, worked out once a class."""
        if cls.__dict__.get("_plan") is None:
            plan: list[_Field] = []
            letters = "<"
            offset = 0
            for name, hint in get_type_hints(cls, include_extras=True).items():
                if name.startswith("_"):
                    continue
                field, letter = _field(name, offset, hint)
                plan.append(field)
                letters += letter
                offset += field.size
            cls._plan = tuple(plan)
            cls._packer = struct.Struct(letters)
        assert cls._plan is not None  # noqa: S101 - set just above
        return cls._plan

    @classmethod
    def size(cls) -> int:
        """Return the width in bytes."""
        last = cls.fields()[-1]
        return last.offset + last.size

    @classmethod
    def offset_of(cls, path: str) -> tuple[int, int]:
        """Return offset and width of a field by its dotted path; an index counts into an array (`orders.3.price`)."""
        head, _, rest = path.partition(".")
        field = next(field for field in cls.fields() if field.name == head)
        offset, size, layout = field.offset, field.size, field.layout
        if rest and field.kind == "array" and layout is not None:
            index, _, rest = rest.partition(".")
            offset, size = offset + int(index) * layout.size(), layout.size()
        if rest and layout is not None:
            inner, size = layout.offset_of(rest)
            offset += inner
        return offset, size

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read one from `data`; more bytes may follow."""
        plan = cls.fields()
        instance = object.__new__(cls)
        for field, raw in zip(plan, cls._packer.unpack_from(data, offset), strict=True):
            setattr(instance, field.name, _decoded(field, raw))
        return instance

    @classmethod
    def zero(cls) -> Self:
        """Return one with every bit zero."""
        return cls.decode(bytes(cls.size()))

    def encode(self) -> bytes:
        """Return the bytes."""
        plan = self.fields()
        return self._packer.pack(*[_encoded(field, getattr(self, field.name)) for field in plan])

    def copy_from(self, other: Self) -> None:
        """Take every field over from `other`."""
        for field in self.fields():
            setattr(self, field.name, getattr(other, field.name))


def _field(name: str, offset: int, hint: object) -> tuple[_Field, str]:
    """Work out one field and its letter in the packer."""
    if isinstance(hint, type) and issubclass(hint, Layout):
        size = hint.size()
        return _Field(name, offset, size, "struct", hint, 1), f"{size}s"
    base, mark = get_args(hint)
    if base is bytes:
        return _Field(name, offset, int(mark), "bytes", None, 1), f"{mark}s"
    if get_origin(base) is list:
        layout: type[Layout] = get_args(base)[0]
        size = layout.size() * int(mark)
        return _Field(name, offset, size, "array", layout, int(mark)), f"{size}s"
    kind = str(mark)
    if kind == "key":
        return _Field(name, offset, 32, kind, None, 1), "32s"
    if kind in _WIDE:
        return _Field(name, offset, 16, kind, None, 1), "16s"
    return _Field(name, offset, struct.calcsize("<" + kind), kind, None, 1), kind


def _decoded(field: _Field, raw: Any) -> object:
    """Turn what `struct` read into the field's value."""
    if field.kind in _WIDE:
        return int.from_bytes(raw, "little", signed=_WIDE[field.kind])
    if field.kind == "key":
        return Pubkey(raw)
    if field.layout is not None:
        if field.kind == "struct":
            return field.layout.decode(raw)
        width = field.layout.size()
        return [field.layout.decode(raw, index * width) for index in range(field.count)]
    return raw


def _encoded(field: _Field, value: Any) -> object:
    """Turn the field's value into what `struct` writes."""
    if field.kind in _WIDE:
        return int(value).to_bytes(16, "little", signed=_WIDE[field.kind])
    if field.kind == "key":
        return bytes(value)
    if field.kind == "struct":
        return value.encode()
    if field.kind == "array":
        return b"".join(item.encode() for item in value)
    return value
