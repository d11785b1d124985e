"""Strict reading of what callers send: one meaning or a refusal, and every mistake at once.

JSON parsers are kind in ways that money does not forgive: the last of two equal keys wins, numbers go through floats,
`NaN` is a number, unknown names vanish. Everything here refuses instead, with a JSON pointer to each mistake.
"""

from __future__ import annotations

import hashlib
import json
import re
import typing
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from router.api.answers import plain
from router.api.problems import ApiError
from router.api.schemas import AMOUNT_PATTERN, FieldError

__all__ = [
    "Preference",
    "amount",
    "bad_parameter",
    "fingerprint",
    "idempotency_key",
    "parse_body",
    "parse_query",
    "preference",
]

T = TypeVar("T", bound=msgspec.Struct)

_AMOUNT = re.compile(AMOUNT_PATTERN.strip("^$"))
_KEY = re.compile(r"[ -~]{1,255}")
_MAX_ERRORS: Final = 20


def amount(text: str) -> Decimal:
    """Return an amount that `parse_body` let through."""
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text!r} is not an amount")
    return Decimal(text)


# --- bodies ----------------------------------------------------------------------------------------------------------


class _Duplicate(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Duplicate(next(name for name in names if names.count(name) > 1))
    return members


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def parse_body(body: bytes, into: type[T]) -> T:
    """Return the struct that a JSON body stands for.

    Raises:
        ApiError: `malformed_json`, `duplicate_field`, `unknown_field`, `missing_field` or `invalid_field` (the code of
            the first mistake), with all mistakes in `errors`.
    """
    document = _members(body)
    errors = [
        FieldError(pointer=_pointer(name), code="invalid_field", detail="printable ASCII characters only")
        for name, value in document.items()
        # A pattern's `$` lets a newline at the end through, and other scripts have digits of their own.
        if isinstance(value, str) and not (value.isascii() and value.isprintable())
    ]
    if not errors:
        try:
            return msgspec.convert(document, into)
        except msgspec.ValidationError:
            pass  # what was wrong is found out field by field, so that the caller learns of all of it
    errors = list(_mistakes(document, into)) or errors
    first = errors[0]
    raise ApiError(first.code, f"{first.pointer}: {first.detail}", errors=tuple(errors[:_MAX_ERRORS]))


def _members(body: bytes) -> dict[str, object]:
    try:
        document: object = _decoder.decode(body.decode("utf-8"))
    except _Duplicate as error:
        pointer = _pointer(error.name)
        mistake = FieldError(pointer=pointer, code="duplicate_field", detail="given more than once")
        raise ApiError("duplicate_field", f"{pointer}: given more than once", errors=(mistake,)) from error
    except (ValueError, RecursionError) as error:
        raise ApiError("malformed_json", "the body is not a JSON object in UTF-8") from error
    if not isinstance(document, dict):
        raise ApiError("malformed_json", "the body is JSON, but not an object")
    return cast("dict[str, object]", document)


def _mistakes(document: Mapping[str, object], into: type[msgspec.Struct]) -> typing.Iterator[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(into)}
    for name, value in document.items():
        if name not in fields:
            yield FieldError(pointer=_pointer(name), code="unknown_field", detail="not a field of this request")
            continue
        printable = not isinstance(value, str) or (value.isascii() and value.isprintable())
        try:
            msgspec.convert(value, fields[name].type)
            fits = printable
        except msgspec.ValidationError:
            fits = False
        if not fits:
            detail = f"must be {_hints(into)[name]}"
            yield FieldError(pointer=_pointer(name), code="invalid_field", detail=detail)
    for name, field in fields.items():
        if field.required and name not in document:
            yield FieldError(pointer=_pointer(name), code="missing_field", detail=f"required: {_hints(into)[name]}")


@cache
def _hints(into: type[msgspec.Struct]) -> dict[str, str]:
    """Return what a caller is told of each field: the `hint` of its annotation."""
    return {name: _hint(annotation) for name, annotation in get_type_hints(into, include_extras=True).items()}


def _hint(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        for meta in annotation.__metadata__:
            if isinstance(meta, msgspec.Meta) and meta.extra and "hint" in meta.extra:
                return str(meta.extra["hint"])
    return next((hint for hint in map(_hint, get_args(annotation)) if hint), "")


def _pointer(name: str) -> str:
    """Return the JSON pointer (RFC 6901) of a member; a name that cannot be printed is escaped."""
    return "/" + name.replace("~", "~0").replace("/", "~1").encode("unicode_escape").decode()[:100]


def fingerprint(path: str, body: msgspec.Struct, market: str | None) -> str:
    """Return the hash by which a key recognises its request: equal for bodies that are equal after parsing.

    Order of fields, white space, defaults left out, ways to write the market, and zeros at the end of an amount make no
    difference; everything else does.
    """
    members: dict[str, object] = {}
    for name, value in msgspec.to_builtins(body).items():
        if value is not None:
            is_amount = isinstance(value, str) and name in _amount_fields(type(body))
            members[name] = plain(Decimal(value)) if is_amount else value
    if market is not None:
        members["market"] = market
    canonical = msgspec.json.encode([path, members], order="deterministic")
    return hashlib.sha256(canonical).hexdigest()


@cache
def _amount_fields(body: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(name for name, hint in _hints(body).items() if hint.startswith("a plain decimal"))


# --- headers and parameters ------------------------------------------------------------------------------------------


def idempotency_key(values: list[str]) -> str | None:
    """Return the `Idempotency-Key` among the values of that header; none of them is none."""
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        error = FieldError(
            pointer="Idempotency-Key", code="invalid_idempotency_key", detail="one value of 1 to 255 printable ASCII"
        )
        raise ApiError("invalid_idempotency_key", "the Idempotency-Key header is not usable", errors=(error,))
    return values[0]


class Preference(msgspec.Struct, frozen=True):
    """How long a caller wants to wait for an order to end, and what to answer in `Preference-Applied`."""

    wait_s: float
    applied: str | None


_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?")


def preference(values: list[str], *, default_s: float, cap_s: float) -> Preference:
    """Return what `Prefer` (RFC 7240) asks for: `wait=N` in seconds up to the cap, or `respond-async` for no wait.

    What cannot be read is ignored, as that standard wants. With both, the caller waits N seconds at the most.
    """
    wishes = [wish.split(";")[0].strip().lower() for value in values for wish in value.split(",")]
    waits = [match.group(1) for wish in wishes if (match := _WAIT.fullmatch(wish))]
    if waits:
        wait_s = min(float(waits[0]), cap_s)
        return Preference(wait_s, f"wait={wait_s:.0f}")
    if "respond-async" in wishes:
        return Preference(0.0, "respond-async")
    return Preference(default_s, None)


def parse_query(query: bytes, known: frozenset[str]) -> dict[str, str]:
    """Return the query parameters; one that is unknown or given twice is refused."""
    parameters: dict[str, str] = {}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError as error:
        raise ApiError("invalid_parameter", "the query cannot be read") from error
    for name, value in pairs:
        shown = name.encode("unicode_escape").decode()[:100]
        if name not in known:
            mistake = FieldError(
                pointer=f"?{shown}", code="unknown_parameter", detail="not a parameter of this address"
            )
            raise ApiError("unknown_parameter", f"{shown} is not a parameter here", errors=(mistake,))
        if name in parameters:
            raise bad_parameter(name, "given more than once")
        parameters[name] = value
    return parameters


def bad_parameter(name: str, detail: str) -> ApiError:
    """Return the refusal of one query parameter."""
    mistake = FieldError(pointer=f"?{name}", code="invalid_parameter", detail=detail)
    return ApiError("invalid_parameter", f"{name}: {detail}", errors=(mistake,))
