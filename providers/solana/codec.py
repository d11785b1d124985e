"""Borsh by an IDL, value by value: events and instruction arguments, whose options and vectors have no fixed layout.

Values are what Python has for them: `int`, `float` (no venue states money in one), `bool`, `str`, `bytes` (also for
arrays of `u8`), `Pubkey`, `None` or the value (options), tuples (arrays, vectors), dictionaries by snake-case name
(structs), the variant's name as the IDL spells it (fieldless enums) or `(name, fields)` (enums with fields).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.solana.idl import Idl, IdlField, IdlType, discriminator, snake_case
from providers.solana.layout import DISCRIMINATOR_BYTES, AccountLayout, Field, LayoutError, Reader

__all__ = [
    "AccountDecoder",
    "AccountLayout",
    "EventDecoder",
    "Field",
    "LayoutError",
    "Reader",
    "Value",
    "build_instruction",
    "encode_instruction",
]

Value: TypeAlias = "int | float | bool | str | bytes | Pubkey | tuple[Value, ...] | dict[str, Value] | None"
S = TypeVar("S", bound=msgspec.Struct)

# Decoders take data and a position, and return the value and the position after it.
_Decode = Callable[[bytes, int], tuple[Value, int]]

_INTEGERS: dict[str, tuple[int, bool]] = {
    "u8": (1, False),
    "i8": (1, True),
    "u16": (2, False),
    "i16": (2, True),
    "u32": (4, False),
    "i32": (4, True),
    "u64": (8, False),
    "i64": (8, True),
    "u128": (16, False),
    "i128": (16, True),
}
_FLOATS: dict[str, struct.Struct] = {"f32": struct.Struct("<f"), "f64": struct.Struct("<d")}
_KEYS = frozenset({"publicKey", "pubkey"})


class EventDecoder:
    """Decodes the payloads that a program logs (`records.events_of`).

    Args:
        idl: of the program.
    """

    def __init__(self, idl: Idl) -> None:
        self._idl = idl
        self._names = {discriminator("event", event.name): event.name for event in idl.events}
        self._decoders: dict[str, _Decode] = {}

    def name_of(self, payload: bytes) -> str | None:
        """Return the event's name; null for a payload that is none of this program's events."""
        return self._names.get(payload[:DISCRIMINATOR_BYTES])

    def decode(self, payload: bytes) -> dict[str, Value]:
        """Return the fields of an event. Bytes after the last field are a newer version's and are left alone.

        Raises:
            BadAnswer: not an event of this program, or too short for one.
        """
        name = self.name_of(payload)
        if name is None:
            raise BadAnswer("a payload that is no event of the program")
        decoder = self._decoders.get(name)
        if decoder is None:
            decoder = self._decoders[name] = _fields(self._idl, self._idl.event(name).fields)
        try:
            value, _ = decoder(payload, DISCRIMINATOR_BYTES)
        except (struct.error, IndexError, ValueError) as error:
            raise BadAnswer(f"{name} cannot be read") from error
        if not isinstance(value, dict):
            raise BadAnswer(f"{name} cannot be read")
        return value

    def decode_as(self, payload: bytes, into: type[S]) -> S:
        """Return an event as a struct that names some of its fields."""
        values = self.decode(payload)
        return into(**{name: values[name] for name in into.__struct_fields__})


class AccountDecoder:
    """Decodes accounts of one type whose fields have no fixed places (options, vectors, strings).

    Args:
        idl: of the program.
        name: of the account in the IDL.
    """

    def __init__(self, idl: Idl, name: str) -> None:
        self._name = name
        self._lead = discriminator("account", name)
        self._decode = _fields(idl, idl.definitions[name].fields)

    def decode(self, data: bytes) -> dict[str, Value]:
        """Return the fields of an account. Bytes after the last field are padding, or a newer version's.

        Raises:
            BadAnswer: not an account of this type, or too short for one.
        """
        if not data.startswith(self._lead):
            raise BadAnswer(f"{len(data)} bytes that are not a {self._name} account")
        try:
            value, _ = self._decode(data, DISCRIMINATOR_BYTES)
        except (struct.error, IndexError, ValueError) as error:
            raise BadAnswer(f"a {self._name} account that cannot be read") from error
        if not isinstance(value, dict):
            raise BadAnswer(f"a {self._name} account that cannot be read")
        return value


def encode_instruction(idl: Idl, name: str, args: Mapping[str, Value] | None = None) -> bytes:
    """Return an instruction's data: discriminator and arguments.

    Raises:
        KeyError: no such instruction, or an argument is missing.
        ValueError: a value does not fit its type.
    """
    instruction = idl.instruction(name)
    data = bytearray(discriminator("global", snake_case(instruction.name)))
    given = dict(args or {})
    for field in instruction.args:
        _encode(idl, field.type, given.pop(snake_case(field.name)), data)
    if given:
        raise ValueError(f"{name} has no argument {', '.join(sorted(given))}")
    return bytes(data)


def build_instruction(
    idl: Idl,
    program_id: Pubkey,
    name: str,
    accounts: Mapping[str, Pubkey],
    args: Mapping[str, Value] | None = None,
    *,
    remaining: Sequence[AccountMeta] = (),
) -> Instruction:
    """Return a whole instruction; accounts by snake-case name, flags from the IDL, `remaining` after them."""
    metas = [
        AccountMeta(accounts[snake_case(each.name)], is_signer=each.is_signer, is_writable=each.is_mut)
        for each in idl.instruction(name).accounts
    ]
    return Instruction(program_id, encode_instruction(idl, name, args), [*metas, *remaining])


def _take(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    end = at + count
    if end > len(data):
        raise ValueError("the data ends too early")
    return data[at:end], end


def _integer(size: int, *, signed: bool) -> _Decode:
    def decode(data: bytes, at: int) -> tuple[Value, int]:
        raw, end = _take(data, at, size)
        return int.from_bytes(raw, "little", signed=signed), end

    return decode


def _float(kind: str) -> _Decode:
    code = _FLOATS[kind]

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        raw, end = _take(data, at, code.size)
        (value,) = code.unpack(raw)
        return float(value), end

    return decode


def _flag(data: bytes, at: int) -> tuple[bool, int]:
    raw, end = _take(data, at, 1)
    if raw[0] > 1:
        raise ValueError("a flag that is neither 0 nor 1")
    return bool(raw[0]), end


def _length(data: bytes, at: int) -> tuple[int, int]:
    raw, end = _take(data, at, 4)
    return int.from_bytes(raw, "little"), end


def _blob(data: bytes, at: int) -> tuple[bytes, int]:
    count, start = _length(data, at)
    return _take(data, start, count)


def _decoder(idl: Idl, kind: IdlType) -> _Decode:
    if isinstance(kind, str):
        return _primitive(kind)
    if kind.option is not None:
        return _option(_decoder(idl, kind.option))
    if kind.vec is not None:
        return _blob if kind.vec == "u8" else _sequence(_decoder(idl, kind.vec), None)
    if kind.array is not None:
        element, count = kind.array
        if element == "u8":
            return lambda data, at: _take(data, at, count)
        return _sequence(_decoder(idl, element), count)
    name = kind.defined_name
    if name is None:
        raise LayoutError("a type expression that says nothing")
    body = idl.definitions[name]
    return _fields(idl, body.fields) if body.kind == "struct" else _enum(idl, name)


def _primitive(kind: str) -> _Decode:
    if kind in _INTEGERS:
        size, signed = _INTEGERS[kind]
        return _integer(size, signed=signed)
    if kind in _KEYS:

        def key(data: bytes, at: int) -> tuple[Value, int]:
            raw, end = _take(data, at, 32)
            return Pubkey.from_bytes(raw), end

        return key
    if kind == "string":

        def text(data: bytes, at: int) -> tuple[Value, int]:
            raw, end = _blob(data, at)
            return raw.decode("utf-8"), end

        return text
    if kind == "bytes":
        return _blob
    if kind == "bool":
        return _flag
    if kind in _FLOATS:
        return _float(kind)
    raise LayoutError(f"a type that is not known: {kind}")


def _option(inner: _Decode) -> _Decode:
    def decode(data: bytes, at: int) -> tuple[Value, int]:
        present, end = _flag(data, at)
        return inner(data, end) if present else (None, end)

    return decode


def _sequence(element: _Decode, fixed: int | None) -> _Decode:
    def decode(data: bytes, at: int) -> tuple[Value, int]:
        count, end = _length(data, at) if fixed is None else (fixed, at)
        values: list[Value] = []
        for _ in range(count):
            value, end = element(data, end)
            values.append(value)
        return tuple(values), end

    return decode


def _fields(idl: Idl, fields: Sequence[IdlField]) -> _Decode:
    decoders = [(snake_case(field.name), _decoder(idl, field.type)) for field in fields]

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        values: dict[str, Value] = {}
        for name, decoder in decoders:
            values[name], at = decoder(data, at)
        return values, at

    return decode


def _enum(idl: Idl, name: str) -> _Decode:
    variants: list[tuple[str, _Decode | None]] = []
    for variant in idl.definitions[name].variants:
        inner = _fields(idl, variant.fields) if variant.raw_fields else None
        variants.append((variant.name, inner))

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        raw, end = _take(data, at, 1)
        variant, inner = variants[raw[0]]
        if inner is None:
            return variant, end
        fields, end = inner(data, end)
        return (variant, fields), end

    return decode


def _encode(idl: Idl, kind: IdlType, value: Value, out: bytearray) -> None:
    if isinstance(kind, str):
        out += _encode_primitive(kind, value)
    elif kind.option is not None:
        out.append(value is not None)
        if value is not None:
            _encode(idl, kind.option, value, out)
    elif kind.array is not None or kind.vec is not None:
        _encode_sequence(idl, kind.array, kind.vec, value, out)
    else:
        _encode_defined(idl, str(kind.defined_name), value, out)


def _encode_sequence(
    idl: Idl, array: tuple[IdlType, int] | None, vector: IdlType | None, value: Value, out: bytearray
) -> None:
    if not isinstance(value, tuple | bytes):
        raise ValueError(f"{value!r} is not a sequence")  # noqa: TRY004 - one error for every value that does not fit
    if array is not None and len(value) != array[1]:
        raise ValueError(f"{len(value)} elements for an array of {array[1]}")
    if array is None:
        out += len(value).to_bytes(4, "little")
    element = array[0] if array is not None else vector
    if element is None:
        raise LayoutError("a sequence of nothing")
    for each in value:
        _encode(idl, element, each, out)


def _encode_defined(idl: Idl, name: str, value: Value, out: bytearray) -> None:
    body = idl.definitions[name]
    if body.kind == "struct":
        if not isinstance(value, dict):
            raise ValueError(f"{name} needs a dictionary")
        for field in body.fields:
            _encode(idl, field.type, value[snake_case(field.name)], out)
        return
    variant, fields = value if isinstance(value, tuple) else (value, None)
    names = [each.name for each in body.variants]
    if not isinstance(variant, str) or variant not in names:
        raise ValueError(f"{variant!r} is not a variant of {name}")
    index = names.index(variant)
    out.append(index)
    given = fields if isinstance(fields, dict) else {}
    for field in body.variants[index].fields:
        _encode(idl, field.type, given[snake_case(field.name)], out)


def _encode_primitive(kind: str, value: Value) -> bytes:
    match value:
        case bool() if kind == "bool":
            return bytes([value])
        case int() if kind in _INTEGERS and not isinstance(value, bool):
            size, signed = _INTEGERS[kind]
            try:
                return value.to_bytes(size, "little", signed=signed)
            except OverflowError:
                raise ValueError(f"{value} does not fit {kind}") from None
        case Pubkey() if kind in _KEYS:
            return bytes(value)
        case str() if kind == "string":
            text = value.encode("utf-8")
            return len(text).to_bytes(4, "little") + text
        case bytes() if kind == "bytes":
            return len(value).to_bytes(4, "little") + value
        case _:
            raise ValueError(f"{value!r} is not a {kind}")
