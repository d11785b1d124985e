"""Reads: rows into records, pages with stable cursors."""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from providers.base.errors import ErrorInfo
from providers.base.types import Ack, Evidence, Fill, LockTerms, OrderKind, Purpose, Side, Submission, Trigger
from router.ledger import findings
from router.ledger.booking import Entry, LotEffect, fold
from router.ledger.codec import parse_decimal, parse_time, time_text, unpack
from router.ledger.protocol import BadCursor
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    Cause,
    FillRecord,
    FindingKind,
    FindingRecord,
    FindingStatus,
    OrderRecord,
    OrderStatus,
    OrderView,
    PositionRecord,
    PositionStatus,
    ProtectionTerms,
    Reservation,
    SecondaryRecord,
    SecondaryState,
)

__all__ = [
    "PAGE_MAX",
    "attempt_of",
    "attempts_of_order",
    "entry_of",
    "fills_of_order",
    "find_order",
    "find_position",
    "known_handle",
    "lot_entries",
    "open_order_ids",
    "open_views",
    "order_by_client_order_id",
    "order_by_key",
    "page_of_findings",
    "page_of_orders",
    "page_of_positions",
    "reserved_sizes",
    "unclear_open",
    "unreclaimed_views",
    "view",
    "watched_views",
]

PAGE_MAX = 200
"""Rows of a page at the most, whatever is asked for."""

_ZERO = Decimal(0)
_OPEN = "status IN ('pending', 'unknown')"


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else parse_decimal(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _order(connection: sqlite3.Connection, row: sqlite3.Row) -> OrderRecord:
    return OrderRecord(
        order_id=row["order_id"],
        caller=row["caller"],
        client_order_id=row["client_order_id"],
        kind=OrderKind(row["kind"]),
        status=OrderStatus(row["status"]),
        market=row["market"],
        side=Side(row["side"]),
        provider=row["provider"],
        requested_size=_decimal(row["requested_size"]),
        requested_size_usd=_decimal(row["requested_size_usd"]),
        requested_worst_price=_decimal(row["requested_worst_price"]),
        leverage=parse_decimal(row["leverage"]),
        slippage_bps=row["slippage_bps"],
        request=row["request"],
        size=_decimal(row["size"]),
        worst_price=_decimal(row["worst_price"]),
        expected_price=_decimal(row["expected_price"]),
        deadline=parse_time(row["deadline"]),
        lock=None if row["lock"] is None else unpack(row["lock"], LockTerms),
        lock_reclaimed=bool(row["lock_reclaimed"]),
        cancel_requested_at=_time(row["cancel_requested_at"]),
        filled_by=row["filled_by"],
        position_id=row["position_id"],
        reservations=_reservations(connection, row["order_id"]) if row["kind"] == OrderKind.CLOSE else (),
        created_at=parse_time(row["created_at"]),
        updated_at=parse_time(row["updated_at"]),
        error=None if row["error"] is None else unpack(row["error"], ErrorInfo),
        chain=unpack(row["chain"], tuple[str, ...]),
        fingerprint=row["fingerprint"],
        protection=_protection(row),
        cause=Cause(row["cause"]),
        trigger=None if row["trigger_terms"] is None else unpack(row["trigger_terms"], Trigger),
        leg_id=row["leg_id"],
    )


def _protection(row: sqlite3.Row) -> ProtectionTerms:
    return ProtectionTerms() if row["protection"] is None else unpack(row["protection"], ProtectionTerms)


def _reservations(connection: sqlite3.Connection, order_id: str) -> tuple[Reservation, ...]:
    filled = _reduced_by(connection, order_id)
    rows = connection.execute("SELECT * FROM reservations WHERE order_id = ? ORDER BY place", (order_id,))
    return tuple(
        Reservation(
            position_id=row["position_id"],
            size=parse_decimal(row["size"]),
            filled_size=filled.get(row["position_id"], _ZERO),
        )
        for row in rows
    )


def _reduced_by(connection: sqlite3.Connection, order_id: str) -> dict[str, Decimal]:
    """Return what an order has reduced of each lot, entries taken back left out."""
    rows = connection.execute(
        """
        SELECT position_id, size FROM lot_entries AS entry
        WHERE order_id = ? AND effect = 'reduce' AND reverses IS NULL
            AND NOT EXISTS (SELECT 1 FROM lot_entries WHERE reverses = entry.seq)
        """,
        (order_id,),
    )
    filled: dict[str, Decimal] = {}
    for row in rows:
        filled[row["position_id"]] = filled.get(row["position_id"], _ZERO) + parse_decimal(row["size"])
    return filled


def attempt_of(row: sqlite3.Row) -> AttemptRecord:
    """Return an attempt's row as a record."""
    return AttemptRecord(
        attempt_id=row["attempt_id"],
        order_id=row["order_id"],
        number=row["number"],
        provider=row["provider"],
        part=row["part"],
        generation=row["generation"],
        state=AttemptState(row["state"]),
        landed=_flag(row["landed"]),
        executed=_flag(row["executed"]),
        submission=None if row["submission"] is None else unpack(row["submission"], Submission),
        ack=None if row["ack"] is None else unpack(row["ack"], Ack),
        error=None if row["error"] is None else unpack(row["error"], ErrorInfo),
        holder=row["holder"],
        evidence=unpack(row["evidence"], tuple[Evidence, ...]),
        resting=bool(row["resting"]),
        finalized=bool(row["finalized"]),
        started_at=parse_time(row["started_at"]),
        updated_at=parse_time(row["updated_at"]),
    )


def attempts_of_order(connection: sqlite3.Connection, order_id: str) -> tuple[AttemptRecord, ...]:
    """Return an order's attempts by number."""
    rows = connection.execute("SELECT * FROM attempts WHERE order_id = ? ORDER BY number", (order_id,))
    return tuple(attempt_of(row) for row in rows)


def _secondaries(connection: sqlite3.Connection, order_id: str) -> tuple[SecondaryRecord, ...]:
    rows = connection.execute("SELECT * FROM secondaries WHERE order_id = ? ORDER BY rowid", (order_id,))
    return tuple(_secondary(row) for row in rows)


def unsettled_secondaries(connection: sqlite3.Connection) -> tuple[SecondaryRecord, ...]:
    """Return secondary transactions of no order whose end is not known, oldest first."""
    rows = connection.execute(
        "SELECT * FROM secondaries WHERE order_id IS NULL AND state IN (?, ?) ORDER BY rowid",
        (SecondaryState.JOURNALED.value, SecondaryState.SENT.value),
    )
    return tuple(_secondary(row) for row in rows)


def _secondary(row: sqlite3.Row) -> SecondaryRecord:
    return SecondaryRecord(
        secondary_id=row["secondary_id"],
        purpose=Purpose(row["purpose"]),
        provider=row["provider"],
        order_id=row["order_id"],
        attempt_id=row["attempt_id"],
        part=row["part"],
        generation=row["generation"],
        state=SecondaryState(row["state"]),
        submission=unpack(row["submission"], Submission),
        created_at=parse_time(row["created_at"]),
        updated_at=parse_time(row["updated_at"]),
    )


def fills_of_order(connection: sqlite3.Connection, order_id: str) -> tuple[FillRecord, ...]:
    """Return the fills that count, in the order of booking."""
    rows = connection.execute(
        "SELECT * FROM fills WHERE order_id = ? AND taken_back_at IS NULL ORDER BY seq", (order_id,)
    )
    return tuple(
        FillRecord(
            provider=row["provider"],
            order_id=row["order_id"],
            attempt_id=row["attempt_id"],
            fill=unpack(row["fill"], Fill),
        )
        for row in rows
    )


def _view(connection: sqlite3.Connection, row: sqlite3.Row) -> OrderView:
    order_id = row["order_id"]
    return OrderView(
        order=_order(connection, row),
        attempts=attempts_of_order(connection, order_id),
        secondaries=_secondaries(connection, order_id),
        fills=fills_of_order(connection, order_id),
        generation=_generation(connection, order_id),
    )


def _generation(connection: sqlite3.Connection, order_id: str) -> int:
    row = connection.execute(
        "SELECT generation, closed_at FROM domains WHERE order_id = ? AND part = 0 ORDER BY generation DESC LIMIT 1",
        (order_id,),
    ).fetchone()
    if row is None:
        return 0
    return int(row["generation"]) + (row["closed_at"] is not None)


def find_order(connection: sqlite3.Connection, order_id: str) -> OrderRecord | None:
    """Return one order."""
    row = connection.execute("SELECT * FROM orders WHERE order_id = ?", (order_id,)).fetchone()
    return None if row is None else _order(connection, row)


def view(connection: sqlite3.Connection, order_id: str) -> OrderView | None:
    """Return one order with all that hangs on it."""
    row = connection.execute("SELECT * FROM orders WHERE order_id = ?", (order_id,)).fetchone()
    return None if row is None else _view(connection, row)


def order_by_key(connection: sqlite3.Connection, caller: str, key: str) -> OrderRecord | None:
    """Return the order that a caller's key made."""
    row = connection.execute("SELECT * FROM orders WHERE caller = ? AND idempotency_key = ?", (caller, key)).fetchone()
    return None if row is None else _order(connection, row)


def order_by_client_order_id(connection: sqlite3.Connection, caller: str, client_order_id: str) -> OrderRecord | None:
    """Return the caller's order of that name."""
    row = connection.execute(
        "SELECT * FROM orders WHERE caller = ? AND client_order_id = ?", (caller, client_order_id)
    ).fetchone()
    return None if row is None else _order(connection, row)


def known_handle(connection: sqlite3.Connection, handle: str) -> bool:
    """Whether an attempt or secondary transaction of this ledger has the handle."""
    query = "SELECT 1 FROM attempts WHERE handle = ? UNION ALL SELECT 1 FROM secondaries WHERE handle = ? LIMIT 1"
    return connection.execute(query, (handle, handle)).fetchone() is not None


def _cursor_text(table: str, seq: int) -> str:
    return base64.urlsafe_b64encode(f"{table}:{seq}".encode()).decode().rstrip("=")


def _cursor_seq(table: str, cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise BadCursor("the cursor is not one of ours") from error
    name, _, number = text.partition(":")
    if name != table or re.fullmatch(r"[0-9]{1,18}", number) is None:
        raise BadCursor("the cursor is not one of ours")
    return int(number)


def _page(
    connection: sqlite3.Connection,
    table: str,
    where: Sequence[tuple[str, tuple[str, ...]]],
    *,
    limit: int,
    cursor: str | None,
    newest_first: bool,
) -> tuple[list[sqlite3.Row], str | None]:
    """Return a page by row number: rows that come later never move one that was given out."""
    if limit < 1:
        raise ValueError("a page has at least one row")
    limit = min(limit, PAGE_MAX)
    clauses = [clause for clause, _ in where]
    values: list[str | int] = [value for _, given in where for value in given]
    if cursor is not None:
        clauses.append("seq < ?" if newest_first else "seq > ?")
        values.append(_cursor_seq(table, cursor))
    text = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    order = "DESC" if newest_first else "ASC"
    rows = connection.execute(
        f"SELECT * FROM {table}{text} ORDER BY seq {order} LIMIT ?",  # noqa: S608 - names and clauses are constants
        (*values, limit + 1),
    ).fetchall()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], _cursor_text(table, rows[limit - 1]["seq"])


def page_of_orders(
    connection: sqlite3.Connection,
    *,
    limit: int,
    cursor: str | None,
    provider: str | None,
    market: str | None,
    status: OrderStatus | None,
) -> tuple[tuple[OrderView, ...], str | None]:
    """Return a page of orders, newest first; `provider` is the one that filled, else the one that was asked for."""
    where: list[tuple[str, tuple[str, ...]]] = []
    if provider is not None:
        where.append(("coalesce(filled_by, provider) = ?", (provider,)))
    if market is not None:
        where.append(("market = ?", (market,)))
    if status is not None:
        where.append(("status = ?", (status.value,)))
    rows, following = _page(connection, "orders", where, limit=limit, cursor=cursor, newest_first=True)
    return tuple(_view(connection, row) for row in rows), following


def _views(connection: sqlite3.Connection, query: str, *values: str) -> tuple[OrderView, ...]:
    return tuple(_view(connection, row) for row in connection.execute(query, values).fetchall())


def open_views(connection: sqlite3.Connection) -> tuple[OrderView, ...]:
    """Return every order that is not final, oldest first."""
    return _views(connection, f"SELECT * FROM orders WHERE {_OPEN} ORDER BY seq")  # noqa: S608 - constant text


def open_order_ids(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the id of every order that is not final, oldest first."""
    rows = connection.execute(f"SELECT order_id FROM orders WHERE {_OPEN} ORDER BY seq")  # noqa: S608 - constant text
    return tuple(row["order_id"] for row in rows)


def unclear_open(connection: sqlite3.Connection, provider: str, market: str, side: Side) -> str | None:
    """Return the id of an open of this side whose attempt at the provider may still fill."""
    query = """
        SELECT orders.order_id FROM attempts JOIN orders USING (order_id)
        WHERE attempts.state IN ('journaled', 'sent', 'unknown') AND attempts.provider = ?
            AND orders.kind = 'open' AND orders.market = ? AND orders.side = ?
        LIMIT 1
    """
    row = connection.execute(query, (provider, market, side.value)).fetchone()
    return None if row is None else str(row["order_id"])


def watched_views(connection: sqlite3.Connection, since: datetime) -> tuple[OrderView, ...]:
    """Return final orders updated after `since` with an attempt not finalized, or dead."""
    query = f"""
        SELECT * FROM orders WHERE updated_at > ? AND NOT {_OPEN}
            AND EXISTS (
                SELECT 1 FROM attempts WHERE attempts.order_id = orders.order_id
                    AND state <> 'refused' AND (finalized = 0 OR state = 'dead'))
        ORDER BY seq
    """  # noqa: S608 - constant text
    return _views(connection, query, time_text(since))


def unreclaimed_views(connection: sqlite3.Connection, before: datetime) -> tuple[OrderView, ...]:
    """Return final orders past their deadline whose lock was not returned; a trigger that has ended has none left."""
    query = f"""
        SELECT * FROM orders WHERE lock IS NOT NULL AND lock_reclaimed = 0 AND NOT {_OPEN}
            AND (CASE WHEN trigger_terms IS NULL THEN deadline ELSE updated_at END) < ?
        ORDER BY seq
    """  # noqa: S608 - constant text
    return _views(connection, query, time_text(before))


def reserved_sizes(
    connection: sqlite3.Connection, position_ids: Sequence[str], *, but_order: str = ""
) -> dict[str, Decimal]:
    """Return what open closes (but one) still hold of each lot: their reservations less what they have reduced.

    A trigger that rests on the venue holds nothing: it shares the reservation of whatever closes the lot instead.
    """
    reserved = dict.fromkeys(position_ids, _ZERO)
    marks = ", ".join("?" * len(position_ids))
    rows = connection.execute(
        f"""
        SELECT order_id, reservations.position_id, reservations.size
        FROM reservations JOIN orders USING (order_id)
        WHERE released = 0 AND trigger_terms IS NULL AND reservations.position_id IN ({marks})
        """,  # noqa: S608 - question marks
        tuple(position_ids),
    ).fetchall()
    for row in rows:
        if row["order_id"] == but_order:
            continue
        filled = _reduced_by(connection, row["order_id"]).get(row["position_id"], _ZERO)
        reserved[row["position_id"]] += max(parse_decimal(row["size"]) - filled, _ZERO)
    return reserved


def entry_of(row: sqlite3.Row) -> Entry:
    """Return a row of a lot's entries."""
    return Entry(
        effect=LotEffect(row["effect"]),
        size=parse_decimal(row["size"]),
        size_usd=parse_decimal(row["size_usd"]),
        fee_usd=parse_decimal(row["fee_usd"]),
        carry_index=_decimal(row["carry_index"]),
    )


def lot_entries(connection: sqlite3.Connection, position_id: str) -> tuple[Entry, ...]:
    """Return the entries of a lot that count: neither reversals nor what they reverse."""
    rows = connection.execute(
        """
        SELECT * FROM lot_entries AS entry WHERE position_id = ? AND reverses IS NULL
            AND NOT EXISTS (SELECT 1 FROM lot_entries WHERE reverses = entry.seq)
        """,
        (position_id,),
    )
    return tuple(entry_of(row) for row in rows)


def _positions(connection: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> tuple[PositionRecord, ...]:
    reserved = reserved_sizes(connection, [row["position_id"] for row in rows])
    return tuple(
        PositionRecord(
            position_id=row["position_id"],
            provider=row["provider"],
            market=row["market"],
            side=Side(row["side"]),
            status=PositionStatus(row["status"]),
            size=parse_decimal(row["size"]),
            opened_size=parse_decimal(row["opened_size"]),
            entry_price=parse_decimal(row["entry_price"]),
            leverage=parse_decimal(row["leverage"]),
            opened_by_order=row["opened_by_order"],
            caller=row["caller"],
            reserved_size=reserved[row["position_id"]],
            realized_pnl_usd=parse_decimal(row["realized_pnl_usd"]),
            fees_usd=parse_decimal(row["fees_usd"]),
            funding_usd=fold(Side(row["side"]), lot_entries(connection, row["position_id"])).funding_usd,
            opened_at=parse_time(row["opened_at"]),
            closed_at=_time(row["closed_at"]),
            protection=_protection(row),
        )
        for row in rows
    )


def find_position(connection: sqlite3.Connection, position_id: str) -> PositionRecord | None:
    """Return one lot."""
    rows = connection.execute("SELECT * FROM positions WHERE position_id = ?", (position_id,)).fetchall()
    found = _positions(connection, rows)
    return found[0] if found else None


def page_of_positions(
    connection: sqlite3.Connection,
    *,
    limit: int,
    cursor: str | None,
    provider: str | None,
    market: str | None,
    side: Side | None,
    status: PositionStatus | None,
) -> tuple[tuple[PositionRecord, ...], str | None]:
    """Return a page of lots, oldest first."""
    wanted = {"provider": provider, "market": market, "side": side, "status": status}
    where = [(f"{name} = ?", (str(value),)) for name, value in wanted.items() if value is not None]
    rows, following = _page(connection, "positions", where, limit=limit, cursor=cursor, newest_first=False)
    return _positions(connection, rows), following


def page_of_findings(
    connection: sqlite3.Connection,
    *,
    limit: int,
    cursor: str | None,
    kind: FindingKind | None,
    provider: str | None,
    status: FindingStatus | None,
) -> tuple[tuple[FindingRecord, ...], str | None]:
    """Return a page of findings, newest first."""
    wanted = {"kind": kind, "provider": provider, "status": status}
    where = [(f"{name} = ?", (str(value),)) for name, value in wanted.items() if value is not None]
    rows, following = _page(connection, "findings", where, limit=limit, cursor=cursor, newest_first=True)
    return tuple(findings.finding_of(row) for row in rows), following
