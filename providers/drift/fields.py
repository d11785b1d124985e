"""Fixed account layouts from an interface description, read by offset with one `struct` call.

The program's accounts are packed (padding is spelled out as fields), so an offset is the sum of the sizes before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib import resources
from typing import Final, Generic, TypeVar

import msgspec
from solders.pubkey import Pubkey

__all__ = ["DISCRIMINATOR_LENGTH", "Description", "Layout", "Reader", "StructReader", "read_description"]

DISCRIMINATOR_LENGTH: Final = 8
_FORMATS: Final = {
    "u8": "B",
    "i8": "b",
    "bool": "?",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "u64": "Q",
    "i64": "q",
    "u128": "16s",
    "i128": "16s",
    "publicKey": "32s",
}


class _Field(msgspec.Struct, frozen=True):
    name: str
    type: msgspec.Raw


class _Body(msgspec.Struct, frozen=True):
    kind: str
    fields: tuple[_Field, ...] = ()


class _Type(msgspec.Struct, frozen=True):
    name: str
    type: _Body


class Description(msgspec.Struct, frozen=True):
    """The part of an interface description that says how accounts are laid out."""

    accounts: tuple[_Type, ...]
    types: tuple[_Type, ...]


_TYPE: Final = msgspec.json.Decoder(str | dict[str, msgspec.Raw])
_NAME: Final = msgspec.json.Decoder(str)
_ITEMS: Final = msgspec.json.Decoder(tuple[msgspec.Raw, int])


class Layout:
    """Offset and type of every scalar of an account, by dotted path; array items by their index."""

    def __init__(self, description: Description, account: str) -> None:
        self._types = {each.name: each.type for each in description.types}
        self._fields: dict[str, tuple[int, str]] = {}
        body = next(each.type for each in description.accounts if each.name == account)
        self.size = self._place(body.fields, "", DISCRIMINATOR_LENGTH)

    def find(self, name: str, prefixes: Sequence[str]) -> str:
        """Return the path of a field that stands below one of the prefixes."""
        return next(path for path in (f"{prefix}{name}" for prefix in prefixes) if path in self._fields)

    def item(self, array: str, first: str) -> tuple[int, int]:
        """Return where the first item of an array of structs stands, and how far apart they are."""
        start = self._fields[f"{array}.0.{first}"][0]
        return start, self._fields[f"{array}.1.{first}"][0] - start

    def at(self, path: str) -> tuple[int, str]:
        """Return offset (discriminator included) and type of a scalar."""
        return self._fields[path]

    def _place(self, fields: tuple[_Field, ...], prefix: str, offset: int) -> int:
        for field in fields:
            offset = self._place_one(field.type, f"{prefix}{field.name}", offset)
        return offset

    def _place_one(self, raw: msgspec.Raw, path: str, offset: int) -> int:
        kind = _TYPE.decode(raw)
        if isinstance(kind, str):
            self._fields[path] = (offset, kind)
            return offset + struct.calcsize("<" + _FORMATS[kind])
        if "defined" in kind:
            body = self._types[_NAME.decode(kind["defined"])]
            if body.kind == "enum":
                self._fields[path] = (offset, "u8")
                return offset + 1
            return self._place(body.fields, f"{path}.", offset)
        item, count = _ITEMS.decode(kind["array"])
        if bytes(item) == b'"u8"':
            self._fields[path] = (offset, f"bytes{count}")
            return offset + count
        for index in range(count):
            offset = self._place_one(item, f"{path}.{index}", offset)
        return offset


def _convert(kind: str, value: object) -> object:
    if isinstance(value, bytes):
        if kind == "publicKey":
            return Pubkey(value)
        if kind in {"u128", "i128"}:
            return int.from_bytes(value, "little", signed=kind == "i128")
    return value


class Reader:
    """Reads some scalars of an account, or of one item of an array in it, with one `struct` call.

    Args:
        layout: of the account.
        paths: dotted, as the interface description spells them.
        base: where the item stands that the paths name; the reader then reads any item.
    """

    def __init__(self, layout: Layout, paths: Sequence[str], base: int = 0) -> None:
        wanted = sorted((*layout.at(path), position) for position, path in enumerate(paths))
        parts, offset = ["<"], base
        self._wide: list[tuple[int, str]] = []
        for index, (at, kind, _) in enumerate(wanted):
            code = f"{kind.removeprefix('bytes')}s" if kind.startswith("bytes") else _FORMATS[kind]
            parts.append(f"{at - offset}x{code}")
            offset = at + struct.calcsize("<" + code)
            if kind in {"publicKey", "u128", "i128"}:
                self._wide.append((index, kind))
        self._struct = struct.Struct("".join(parts))
        self.order = tuple(position for _, _, position in wanted)

    def read(self, data: bytes, offset: int = 0) -> list[object]:
        """Return the scalars by their offsets (`order` has their positions in `paths`)."""
        values: list[object] = list(self._struct.unpack_from(data, offset))
        for index, kind in self._wide:
            values[index] = _wide(kind, values[index])
        return values


def _wide(kind: str, value: object) -> object:
    if not isinstance(value, bytes):
        return value
    return Pubkey(value) if kind == "publicKey" else int.from_bytes(value, "little", signed=kind == "i128")


_S = TypeVar("_S", bound=msgspec.Struct)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class StructReader(Generic[_S]):
    """Reads a struct of this module: its fields under their own names, below one of `prefixes`.

    Args:
        skip: fields that the caller gives.
        base: where the array item stands whose fields the prefixes name.
    """

    def __init__(
        self,
        kind: type[_S],
        layout: Layout,
        prefixes: Sequence[str] = ("",),
        *,
        skip: Sequence[str] = (),
        base: int = 0,
    ) -> None:
        self._kind = kind
        names = [name for name in kind.__struct_fields__ if name not in skip]
        self._reader = Reader(layout, [layout.find(_camel(name), prefixes) for name in names], base)
        self._names = [names[position] for position in self._reader.order]

    def read(self, data: bytes, offset: int = 0, **more: object) -> _S:
        """Return the struct; `more` are the fields that were skipped."""
        return self._kind(**dict(zip(self._names, self._reader.read(data, offset), strict=True)), **more)


def read_description(name: str) -> Description:
    """Read the package's own interface description `idl/<name>.json`."""
    return msgspec.json.decode(resources.files("idl").joinpath(f"{name}.json").read_bytes(), type=Description)
