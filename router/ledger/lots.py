"""Fills and lots in the tables: what `router.ledger.booking` computes, written down entry by entry."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from decimal import Decimal

import msgspec

from providers.base.types import Fill, OrderKind, Side
from router.ledger import audit, booking, queries
from router.ledger.booking import Entry, LotEffect
from router.ledger.codec import decimal_text, pack, parse_decimal, time_text, unpack
from router.ledger.orders import required
from router.ledger.protocol import LedgerError
from router.ledger.records import AttemptRecord, OrderRecord, PositionStatus

__all__ = ["Books", "book", "booked", "refold", "take_back", "write_lot"]


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The transaction and the attempt that a fill is written under; `new_position_id` is for a lot yet to be made."""

    connection: sqlite3.Connection
    order: OrderRecord
    attempt: AttemptRecord
    at: datetime
    new_position_id: str


def booked(connection: sqlite3.Connection, attempt_id: str) -> dict[str, Fill]:
    """Return an attempt's fills that count, by venue fill id."""
    rows = connection.execute(
        "SELECT venue_fill_id, fill FROM fills WHERE attempt_id = ? AND taken_back_at IS NULL ORDER BY seq",
        (attempt_id,),
    )
    return {row["venue_fill_id"]: unpack(row["fill"], Fill) for row in rows}


def take_back(books: Books, fill_id: str) -> set[str]:
    """Reverse a fill and what it did; return the lots concerned."""
    connection = books.connection
    seq = connection.execute(
        "SELECT seq FROM fills WHERE attempt_id = ? AND venue_fill_id = ? AND taken_back_at IS NULL",
        (books.attempt.attempt_id, fill_id),
    ).fetchone()["seq"]
    connection.execute("UPDATE fills SET taken_back_at = ? WHERE seq = ?", (time_text(books.at), seq))
    entries = connection.execute("SELECT * FROM lot_entries WHERE fill_seq = ? AND reverses IS NULL", (seq,)).fetchall()
    for row in entries:
        _append(books, row["position_id"], seq, queries.entry_of(row), reverses=row["seq"])
    _audit(books, "fill_taken_back", venue_fill_id=fill_id)
    return {row["position_id"] for row in entries}


def book(books: Books, fill: Fill) -> set[str]:
    """Store a fill and what it does; return the lots concerned, whose rows `refold` then writes.

    Raises:
        LedgerError: the fill is another attempt's, or gave nothing.
    """
    if not all(amount.is_finite() for amount in (fill.size, fill.price, fill.size_usd, fill.fee_usd)):
        raise LedgerError(f"fill {fill.venue_fill_id} has an amount that is no number")
    if fill.size <= 0 or fill.price <= 0 or fill.size_usd <= 0:
        raise LedgerError(f"fill {fill.venue_fill_id} gave nothing")
    connection, attempt = books.connection, books.attempt
    other = connection.execute(
        "SELECT attempt_id FROM fills WHERE provider = ? AND venue_fill_id = ? AND taken_back_at IS NULL",
        (attempt.provider, fill.venue_fill_id),
    ).fetchone()
    if other is not None:
        raise LedgerError(f"fill {fill.venue_fill_id} is booked for {other['attempt_id']}, not {attempt.attempt_id}")
    seq = connection.execute(
        """
        INSERT INTO fills (provider, venue_fill_id, order_id, attempt_id, fill, booked_at) VALUES (?, ?, ?, ?, ?, ?)
        RETURNING seq
        """,
        (
            attempt.provider,
            fill.venue_fill_id,
            attempt.order_id,
            attempt.attempt_id,
            pack(fill),
            time_text(books.at),
        ),
    ).fetchone()["seq"]
    _audit(
        books,
        "fill",
        provider=attempt.provider,
        venue_fill_id=fill.venue_fill_id,
        price=decimal_text(fill.price),
        size=decimal_text(fill.size),
        fee_usd=decimal_text(fill.fee_usd),
        signature=fill.signature,
        provisional=fill.provisional,
    )
    if books.order.kind is OrderKind.CLOSE:
        return _reduce(books, fill, seq)
    position_id = _lot_of_open(books, fill)
    entry = Entry(
        effect=LotEffect.OPEN,
        size=fill.size,
        size_usd=fill.size_usd,
        fee_usd=fill.fee_usd,
        carry_index=fill.carry_index,
    )
    _append(books, position_id, seq, entry)
    return {position_id}


def _lot_of_open(books: Books, fill: Fill) -> str:
    """Return the lot of this order on this provider, made empty where there is none."""
    order, provider = books.order, books.attempt.provider
    row = books.connection.execute(
        "SELECT position_id FROM positions WHERE opened_by_order = ? AND provider = ?", (order.order_id, provider)
    ).fetchone()
    if row is not None:
        return str(row["position_id"])
    books.connection.execute(
        """
        INSERT INTO positions (
            position_id, provider, market, side, status, size, opened_size, entry_price, leverage, opened_by_order,
            caller, realized_pnl_usd, fees_usd, opened_at, closed_at, protection)
        VALUES (?, ?, ?, ?, 'closed', '0', '0', '0', ?, ?, ?, '0', '0', ?, NULL, ?)
        """,
        (
            books.new_position_id,
            provider,
            order.market,
            order.side.value,
            decimal_text(order.leverage),
            order.order_id,
            order.caller,
            time_text(fill.filled_at),
            # In the same write as the first fill: a lot that shall be protected never exists without saying so.
            pack(order.protection) if order.protection else None,
        ),
    )
    return books.new_position_id


def _reduce(books: Books, fill: Fill, seq: int) -> set[str]:
    """Share a closing fill out over the lots that the order reserved, oldest first.

    Lots are read from their entries: their rows are written only after the last fill of the outcome.
    """
    # Read anew: an earlier fill of the same outcome may have used some of the reservation.
    reservations = required(books.connection, books.order.order_id).reservations
    rooms: list[booking.Room] = []
    for reservation in reservations:
        position_id = reservation.position_id
        lot = _fold(books.connection, position_id)
        own = max(reservation.size - reservation.filled_size, Decimal(0))
        others = queries.reserved_sizes(books.connection, [position_id], but_order=books.order.order_id)[position_id]
        reserved = min(own, lot.size)
        free = max(lot.size - reserved - others, Decimal(0))
        rooms.append(booking.Room(position_id=position_id, reserved=reserved, free=free))
    allocations, left = booking.allocate(fill, rooms)
    for allocation in allocations:
        _append(books, allocation.position_id, seq, allocation.entry)
    if left > 0:
        # The venue reduced more than these lots held: real, on record, and for a person to look at.
        _audit(books, "unallocated_fill", venue_fill_id=fill.venue_fill_id, size=decimal_text(left))
    return {allocation.position_id for allocation in allocations}


def _append(books: Books, position_id: str, fill_seq: int, entry: Entry, *, reverses: int | None = None) -> None:
    books.connection.execute(
        """
        INSERT INTO lot_entries (
            position_id, fill_seq, order_id, effect, size, size_usd, fee_usd, carry_index, reverses, at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            position_id,
            fill_seq,
            books.order.order_id,
            entry.effect.value,
            decimal_text(entry.size),
            decimal_text(entry.size_usd),
            decimal_text(entry.fee_usd),
            None if entry.carry_index is None else decimal_text(entry.carry_index),
            reverses,
            time_text(books.at),
        ),
    )


def _audit(books: Books, kind: str, **data: object) -> None:
    attempt = books.attempt
    audit.append(books.connection, kind, books.at, order_id=attempt.order_id, attempt_id=attempt.attempt_id, **data)


def _fold(connection: sqlite3.Connection, position_id: str) -> booking.LotState:
    side = connection.execute("SELECT side FROM positions WHERE position_id = ?", (position_id,)).fetchone()["side"]
    return booking.fold(Side(side), queries.lot_entries(connection, position_id))


def refold(books: Books, position_id: str) -> None:
    """Write a lot's row from its entries, with the event that tells what changed."""
    write_lot(
        books.connection,
        position_id,
        books.at,
        order_id=books.attempt.order_id,
        attempt_id=books.attempt.attempt_id,
    )


def write_lot(
    connection: sqlite3.Connection,
    position_id: str,
    at: datetime,
    *,
    order_id: str | None = None,
    attempt_id: str | None = None,
) -> None:
    """Write a lot's row from its entries, whatever made them; order and attempt are named in the event."""
    row = connection.execute("SELECT * FROM positions WHERE position_id = ?", (position_id,)).fetchone()
    lot = _fold(connection, position_id)
    status = PositionStatus.OPEN if lot.size > 0 else PositionStatus.CLOSED
    closed_at = None if status is PositionStatus.OPEN else row["closed_at"] or time_text(at)
    connection.execute(
        """
        UPDATE positions SET status = ?, size = ?, opened_size = ?, entry_price = ?, realized_pnl_usd = ?, fees_usd = ?,
            closed_at = ?
        WHERE position_id = ?
        """,
        (
            status.value,
            decimal_text(lot.size),
            decimal_text(lot.opened_size),
            decimal_text(lot.entry_price),
            decimal_text(lot.realized_pnl_usd),
            decimal_text(lot.fees_usd),
            closed_at,
            position_id,
        ),
    )
    if parse_decimal(row["opened_size"]) == 0 and lot.opened_size > 0:
        kind = "position_opened"
    elif status is PositionStatus.CLOSED:
        kind = "position_closed"
    else:
        kind = "position_reduced" if lot.size < parse_decimal(row["size"]) else "position_increased"
    audit.append(
        connection,
        kind,
        at,
        order_id=order_id,
        attempt_id=attempt_id,
        position_id=position_id,
        provider=row["provider"],
        market=row["market"],
        side=row["side"],
        size=decimal_text(lot.size),
        entry_price=decimal_text(lot.entry_price),
        realized_pnl_usd=decimal_text(lot.realized_pnl_usd),
    )
    if lot.excess > 0:
        audit.append(
            connection,
            "lot_short",
            at,
            order_id=order_id,
            attempt_id=attempt_id,
            position_id=position_id,
            size=decimal_text(lot.excess),
        )
