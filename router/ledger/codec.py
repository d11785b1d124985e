"""How values lie in the tables: money as exact decimal text, times as RFC 3339 UTC text, structs as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import msgspec

from router.ledger.protocol import LedgerError

__all__ = ["decimal_text", "optional", "pack", "parse_decimal", "parse_time", "time_text", "unpack"]

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()


def decimal_text(value: Decimal) -> str:
    """Return `value` in plain notation, every digit kept.

    Raises:
        LedgerError: NaN or an infinity, which no amount is.
    """
    if not value.is_finite():
        raise LedgerError(f"{value} is not an amount")
    return format(value, "f")


def parse_decimal(text: str) -> Decimal:
    """Return what `decimal_text` wrote."""
    return Decimal(text)


def time_text(at: datetime) -> str:
    """Return `at` as `2026-01-01T00:00:00.000000Z`: every text has the same length, so text order is time order.

    Raises:
        LedgerError: a time without a zone.
    """
    if at.tzinfo is None:
        raise LedgerError(f"{at.isoformat()} has no time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Return what `time_text` wrote, in UTC."""
    return datetime.fromisoformat(text)


def pack(value: object) -> bytes:
    """Return a struct (or a tuple of structs) as JSON."""
    return _ENCODER.encode(value)


def unpack(blob: bytes, kind: type[T]) -> T:
    """Return what `pack` wrote, checked against `kind`."""
    return msgspec.json.decode(blob, type=kind)


def optional(value: Decimal | None) -> str | None:
    """Return `decimal_text` of an amount that may be absent."""
    return None if value is None else decimal_text(value)
