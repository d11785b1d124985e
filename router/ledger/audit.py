"""The audit log: a row for each change, appended in the transaction that makes the change."""

from __future__ import annotations

import sqlite3
from datetime import datetime

import msgspec

from router.ledger.codec import pack, parse_time, time_text, unpack

__all__ = ["AuditEvent", "append", "append_told", "read"]


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change, in the order in which changes became durable; `data` is a JSON object."""

    seq: int
    at: datetime
    kind: str
    order_id: str | None
    attempt_id: str | None
    data: dict[str, str]


def append(
    connection: sqlite3.Connection,
    kind: str,
    at: datetime,
    *,
    order_id: str | None = None,
    attempt_id: str | None = None,
    **data: object,
) -> None:
    """Append one event; absent values of `data` are left out, the rest is kept as text."""
    told = {name: str(value) for name, value in data.items() if value is not None}
    append_told(connection, kind, at, order_id=order_id, attempt_id=attempt_id, told=told)


def append_told(
    connection: sqlite3.Connection,
    kind: str,
    at: datetime,
    *,
    order_id: str | None = None,
    attempt_id: str | None = None,
    told: dict[str, str],
) -> None:
    """Append one event with its data as given."""
    connection.execute(
        "INSERT INTO events (at, kind, order_id, attempt_id, data) VALUES (?, ?, ?, ?, ?)",
        (time_text(at), kind, order_id, attempt_id, pack(told)),
    )


def read(connection: sqlite3.Connection, *, after: int, limit: int, order_id: str | None) -> tuple[AuditEvent, ...]:
    """Return events with a `seq` above `after`, oldest first."""
    where, values = ("AND order_id = ?", (after, order_id, limit)) if order_id is not None else ("", (after, limit))
    rows = connection.execute(
        f"SELECT * FROM events WHERE seq > ? {where} ORDER BY seq LIMIT ?",  # noqa: S608 - constant text
        values,
    )
    return tuple(
        AuditEvent(
            seq=row["seq"],
            at=parse_time(row["at"]),
            kind=row["kind"],
            order_id=row["order_id"],
            attempt_id=row["attempt_id"],
            data=unpack(row["data"], dict[str, str]),
        )
        for row in rows
    )
