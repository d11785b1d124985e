"""Fixed layouts of accounts: where each field is, and compiled readers of just the wanted ones.

Zero-copy accounts are laid out as their fields follow one another (programs pad by hand), which is borsh's order too. A
reader is one `struct.unpack_from` with the rest as padding, and a conversion for the few types that `struct` lacks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.solana.idl import Idl, IdlBody, IdlType, discriminator, snake_case

__all__ = ["AccountLayout", "Field", "LayoutError", "Reader"]

S = TypeVar("S", bound=msgspec.Struct)

DISCRIMINATOR_BYTES = 8
_PUBKEY_BYTES = 32
# Code of `struct` and size in bytes.
_PRIMITIVES: dict[str, tuple[str, int]] = {
    "bool": ("?", 1),
    "u8": ("B", 1),
    "i8": ("b", 1),
    "u16": ("H", 2),
    "i16": ("h", 2),
    "u32": ("I", 4),
    "i32": ("i", 4),
    "u64": ("Q", 8),
    "i64": ("q", 8),
    "f32": ("f", 4),
    "f64": ("d", 8),
    "u128": ("16s", 16),
    "i128": ("16s", 16),
    "publicKey": ("32s", _PUBKEY_BYTES),
    "pubkey": ("32s", _PUBKEY_BYTES),
}
_CONVERSIONS: dict[str, Callable[[bytes], object]] = {
    "u128": partial(int.from_bytes, byteorder="little"),
    "i128": partial(int.from_bytes, byteorder="little", signed=True),
    "publicKey": Pubkey.from_bytes,
    "pubkey": Pubkey.from_bytes,
}


class LayoutError(Exception):
    """The IDL has no such field, or the type has no fixed size."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """Where something is, from the first byte of the account, and of what type."""

    offset: int
    size: int
    type: IdlType


class Reader(Generic[S]):
    """Reads some fields of an account into a struct; called with the account's bytes.

    Args:
        into: the struct, whose fields the names are.
        fields: where each is.
        start: added to every offset.
        size: least number of bytes that the account must have.
        lead: bytes that it must begin with.
    """

    def __init__(
        self, into: type[S], fields: Mapping[str, Field], *, idl: Idl, size: int, lead: bytes = b"", start: int = 0
    ) -> None:
        self._into = into
        self._size = size
        self._lead = lead
        parts: list[str] = ["<"]
        names: list[str] = []
        conversions: list[tuple[int, Callable[[bytes], object]]] = []
        groups: list[tuple[str, Field]] = []
        position = start
        for name, field in sorted(fields.items(), key=lambda item: item[1].offset):
            if field.offset < position:
                raise LayoutError(f"{name} overlaps the field before it")
            code, conversion = _code(idl, field.type)
            parts.append(f"{field.offset - position}x{code}")
            position = field.offset + field.size
            if conversion is not None:
                conversions.append((len(names), conversion))
            names.append(name)
            groups.append((name, field))
        self._names = tuple(names)
        self._conversions = tuple(conversions)
        self._struct = struct.Struct("".join(parts))
        self._start = start

    def __call__(self, data: bytes) -> S:
        """Return the struct; raise `BadAnswer` when the bytes are not such an account."""
        if len(data) < self._size or not data.startswith(self._lead):
            raise BadAnswer(f"{len(data)} bytes that are not a {self._into.__name__} account")
        return self.at(data, self._start)

    def at(self, data: bytes, offset: int) -> S:
        """Return the struct that begins at `offset`, unchecked."""
        values: list[object] = list(self._struct.unpack_from(data, offset))
        for index, conversion in self._conversions:
            values[index] = conversion(values[index])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return self._into(**dict(zip(self._names, values, strict=True)))


class AccountLayout:
    """The layout of one account type.

    Args:
        idl: where it is described.
        name: of the account in the IDL.
        size: bytes of a whole account, discriminator included; a check against the IDL.

    Raises:
        LayoutError: the type has no fixed size, or another one than `size`.
    """

    def __init__(self, idl: Idl, name: str, *, size: int | None = None) -> None:
        self._idl = idl
        self._body = _struct_body(idl, name)
        self.name = name
        self.discriminator = discriminator("account", name)
        self.size = DISCRIMINATOR_BYTES + sum(size_of(idl, field.type) for field in self._body.fields)
        if size is not None and self.size != size:
            raise LayoutError(f"{name} has {self.size} bytes by its IDL, {size} were expected")

    def field(self, path: str) -> Field:
        """Return the field at `path`: names joined by dots, elements of arrays by number (`perp_positions.3.flags`).

        Raises:
            LayoutError: there is no such field.
        """
        where = Field(offset=DISCRIMINATOR_BYTES, size=self.size - DISCRIMINATOR_BYTES, type="")
        body: IdlBody | None = self._body
        for part in path.split("."):
            where, body = _step(self._idl, where, body, part, path)
        return where

    def offset(self, path: str) -> int:
        """Return where the field at `path` begins, from the first byte of the account."""
        return self.field(path).offset

    def reader(self, fields: Mapping[str, str], into: type[S]) -> Reader[S]:
        """Return a reader of some fields.

        Args:
            fields: path in the account -> field of `into`.
            into: a struct with these fields. Integers of any width are `int`, keys `Pubkey`, arrays of `u8` `bytes`,
                fieldless enums the number of the variant.
        """
        wanted = {name: self.field(path) for path, name in fields.items()}
        return Reader(into, wanted, idl=self._idl, size=self.size, lead=self.discriminator)

    def array_reader(self, path: str, fields: Mapping[str, str], into: type[S]) -> Callable[[bytes], tuple[S, ...]]:
        """Return a reader of an array of structs, every element read into one `into`.

        Args:
            path: of the array in the account.
            fields: path in the element -> field of `into`.
            into: as in `reader`.
        """
        array = self.field(path)
        if isinstance(array.type, str) or array.type.array is None:
            raise LayoutError(f"{path} is not an array")
        element, count = array.type.array
        stride = size_of(self._idl, element)
        first = {name: self.field(f"{path}.0.{inner}") for inner, name in fields.items()}
        relative = {
            name: Field(offset=where.offset - array.offset, size=where.size, type=where.type)
            for name, where in first.items()
        }
        reader = Reader(into, relative, idl=self._idl, size=0)
        offsets = tuple(range(array.offset, array.offset + count * stride, stride))
        size, lead = self.size, self.discriminator

        def read(data: bytes) -> tuple[S, ...]:
            if len(data) < size or not data.startswith(lead):
                raise BadAnswer(f"{len(data)} bytes that are not a {self.name} account")
            return tuple(reader.at(data, offset) for offset in offsets)

        return read


def size_of(idl: Idl, kind: IdlType) -> int:
    """Return the bytes of a type of fixed size; raise `LayoutError` for any other."""
    if isinstance(kind, str):
        if kind not in _PRIMITIVES:
            raise LayoutError(f"{kind} has no fixed size")
        return _PRIMITIVES[kind][1]
    if kind.array is not None:
        element, count = kind.array
        return size_of(idl, element) * count
    name = kind.defined_name
    if name is None:
        raise LayoutError("options and vectors have no fixed size")
    body = idl.definitions[name]
    if body.kind == "enum":
        if any(variant.fields for variant in body.variants):
            raise LayoutError(f"the enum {name} has no fixed size")
        return 1
    return sum(size_of(idl, field.type) for field in body.fields)


def _struct_body(idl: Idl, name: str) -> IdlBody:
    body = idl.definitions.get(name)
    if body is None or body.kind != "struct":
        raise LayoutError(f"{idl.name} has no account {name}")
    return body


def _step(idl: Idl, where: Field, body: IdlBody | None, part: str, path: str) -> tuple[Field, IdlBody | None]:
    if body is not None:
        offset = where.offset
        for field in body.fields:
            size = size_of(idl, field.type)
            if snake_case(field.name) == snake_case(part):
                return Field(offset=offset, size=size, type=field.type), _body_of(idl, field.type)
            offset += size
    elif not isinstance(where.type, str) and where.type.array is not None and part.isdecimal():
        element, count = where.type.array
        size = size_of(idl, element)
        if int(part) < count:
            return Field(offset=where.offset + int(part) * size, size=size, type=element), _body_of(idl, element)
    raise LayoutError(f"there is no {path} ({part})")


def _body_of(idl: Idl, kind: IdlType) -> IdlBody | None:
    name = None if isinstance(kind, str) else kind.defined_name
    body = None if name is None else idl.definitions[name]
    return body if body is not None and body.kind == "struct" else None


def _code(idl: Idl, kind: IdlType) -> tuple[str, Callable[[bytes], object] | None]:
    """Return the `struct` code of one value, and what turns its bytes into it."""
    if isinstance(kind, str):
        return _PRIMITIVES[kind][0], _CONVERSIONS.get(kind)
    if kind.array is None:
        if _body_of(idl, kind) is not None:
            raise LayoutError(f"{kind.defined_name} is a struct: name its fields")
        return "B", None
    element, count = kind.array
    if element == "u8":
        return f"{count}s", None
    code, conversion = _code(idl, element)
    size = size_of(idl, element)
    if conversion is not None or not isinstance(element, str):
        raise LayoutError("arrays are read whole when they are of plain integers; name an element, or use array_reader")
    unpack = struct.Struct(f"<{count}{code}").unpack
    return f"{count * size}s", unpack
