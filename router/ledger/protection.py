"""Stop loss and take profit in the tables: what a lot shall have, and the legs that carry it out.

One leg of a lot has at most one order that has not ended; that is held here, in the write that makes the order. A close
and the triggers that rest for the same lot exclude each other here too: a close asks them to end, and none is made
beside it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from providers.base.types import OrderKind, Side
from router.ledger import audit, queries
from router.ledger.codec import decimal_text, optional, pack, parse_decimal, parse_time, time_text
from router.ledger.protocol import LedgerError, OverReserved, PositionClosed
from router.ledger.records import (
    Leg,
    LegKind,
    LegRecord,
    NewOrder,
    PositionStatus,
    ProtectedLot,
    ProtectionTerms,
)

__all__ = [
    "add_leg",
    "end_leg",
    "enter",
    "legs_of",
    "open_triggers",
    "protected_lot",
    "protected_lots",
    "set_protection",
    "stray_trigger",
    "update_leg",
]

_ZERO = Decimal(0)
_OPEN = "orders.status IN ('pending', 'unknown')"


# --- orders ----------------------------------------------------------------------------------------------------------


def enter(connection: sqlite3.Connection, order: NewOrder) -> None:
    """Do what a new order means for protection, in the write that makes it.

    A leg's order becomes that leg's. A close has the triggers of its lots cancelled. Raises `OverReserved` for a
    trigger of a lot that is being closed, `LedgerError` for a second order of a leg.
    """
    if order.kind is not OrderKind.CLOSE:
        return
    lots = [reservation.position_id for reservation in order.reservations]
    if order.leg_id is not None:
        _enter_leg(connection, order, order.leg_id)
    if order.trigger is None:
        _cancel_triggers(connection, lots, order.created_at)
        return
    for reservation in order.reservations:
        if any(other != order.order_id for other in _closes(connection, reservation.position_id)):
            raise OverReserved(reservation.position_id, reservation.size, _ZERO)


def _enter_leg(connection: sqlite3.Connection, order: NewOrder, leg_id: str) -> None:
    leg = _required(connection, leg_id)
    if leg["ended_at"] is not None:
        raise LedgerError(f"leg {leg_id} has ended: it makes no order")
    if [leg["position_id"]] != [reservation.position_id for reservation in order.reservations]:
        raise LedgerError(f"leg {leg_id} closes {leg['position_id']} alone")
    if leg["order_id"] is not None:
        before = queries.find_order(connection, leg["order_id"])
        if before is None or not before.status.final:
            raise LedgerError(f"leg {leg_id} has {leg['order_id']}, which has not ended")
    for reservation in order.reservations:
        # Also one of a leg that has ended: a fork may have made its order unclear again.
        other = _open_of_cause(connection, reservation.position_id, order)
        if other is not None:
            raise LedgerError(f"{other} does for {reservation.position_id} what leg {leg_id} wants to do")
    connection.execute(
        "UPDATE protection_legs SET order_id = ?, tries = tries + 1, updated_at = ? WHERE leg_id = ?",
        (order.order_id, time_text(order.created_at), leg_id),
    )


def _open_of_cause(connection: sqlite3.Connection, position_id: str, order: NewOrder) -> str | None:
    query = f"""
        SELECT orders.order_id FROM orders JOIN reservations USING (order_id)
        WHERE {_OPEN} AND orders.cause = ? AND orders.order_id <> ? AND reservations.position_id = ? LIMIT 1
    """  # noqa: S608 - constant text
    row = connection.execute(query, (order.cause.value, order.order_id, position_id)).fetchone()
    return None if row is None else str(row["order_id"])


def _cancel_triggers(connection: sqlite3.Connection, lots: Sequence[str], at: datetime) -> None:
    for order_id in open_triggers(connection, lots):
        row = connection.execute(
            """
            UPDATE orders SET cancel_requested_at = ?1, updated_at = ?1
            WHERE order_id = ?2 AND cancel_requested_at IS NULL RETURNING order_id
            """,
            (time_text(at), order_id),
        ).fetchone()
        if row is not None:
            audit.append(connection, "cancel_requested", at, order_id=order_id, reason="its position is being closed")


def open_triggers(connection: sqlite3.Connection, lots: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the triggers of these lots that have not ended, oldest first."""
    marks = ", ".join("?" * len(lots))
    query = f"""
        SELECT DISTINCT orders.order_id, orders.seq FROM orders JOIN reservations USING (order_id)
        WHERE {_OPEN} AND trigger_terms IS NOT NULL AND reservations.position_id IN ({marks}) ORDER BY orders.seq
    """  # noqa: S608 - constant text and question marks
    return tuple(row["order_id"] for row in connection.execute(query, tuple(lots)))


def stray_trigger(connection: sqlite3.Connection, provider: str, market: str, side: Side | None) -> str | None:
    """Return a closed lot of the slot that has a trigger which has not ended; null `side` for a slot of both."""
    query = f"""
        SELECT positions.position_id FROM orders JOIN reservations USING (order_id)
        JOIN positions ON positions.position_id = reservations.position_id
        WHERE {_OPEN} AND trigger_terms IS NOT NULL AND positions.status = 'closed'
            AND positions.provider = ?1 AND positions.market = ?2 AND (?3 IS NULL OR positions.side = ?3)
        LIMIT 1
    """  # noqa: S608 - constant text
    row = connection.execute(query, (provider, market, None if side is None else side.value)).fetchone()
    return None if row is None else str(row["position_id"])


def _closes(connection: sqlite3.Connection, position_id: str) -> tuple[str, ...]:
    """Return the open closes of a lot that are no triggers."""
    query = f"""
        SELECT orders.order_id FROM orders JOIN reservations USING (order_id)
        WHERE {_OPEN} AND trigger_terms IS NULL AND reservations.position_id = ? ORDER BY orders.seq
    """  # noqa: S608 - constant text
    return tuple(row["order_id"] for row in connection.execute(query, (position_id,)))


# --- what a lot shall have -------------------------------------------------------------------------------------------


def set_protection(
    connection: sqlite3.Connection, position_id: str, terms: ProtectionTerms, caller: str, at: datetime
) -> bool:
    """Write what a lot shall be protected by, and return whether that changed anything.

    Raises:
        PositionClosed: there is nothing left to protect.
        LedgerError: there is no such lot.
    """
    position = queries.find_position(connection, position_id)
    if position is None:
        raise LedgerError(f"no position {position_id}")
    if position.status is PositionStatus.CLOSED:
        raise PositionClosed(position_id)
    if position.protection == terms:
        return False
    _write_terms(connection, position_id, terms)
    told = {leg.value: terms.of(leg) for leg in Leg}
    audit.append(
        connection,
        "protection_set",
        at,
        position_id=position_id,
        caller=caller,
        **{name: None if wanted is None else decimal_text(wanted.price) for name, wanted in told.items()},
    )
    return True


def _write_terms(connection: sqlite3.Connection, position_id: str, terms: ProtectionTerms) -> None:
    connection.execute(
        "UPDATE positions SET protection = ? WHERE position_id = ?", (pack(terms) if terms else None, position_id)
    )


# --- legs ------------------------------------------------------------------------------------------------------------


def add_leg(connection: sqlite3.Connection, leg: LegRecord) -> None:
    """Store a new leg; a lot has one of each at the most."""
    if leg.order_id is not None or leg.ended_at is not None:
        raise LedgerError("a new leg has made no order")
    connection.execute(
        """
        INSERT INTO protection_legs (leg_id, position_id, leg, price, size, kind, created_at, updated_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            leg.leg_id,
            leg.position_id,
            leg.leg.value,
            decimal_text(leg.price),
            optional(leg.size),
            leg.kind.value,
            time_text(leg.created_at),
            time_text(leg.updated_at),
        ),
    )
    audit.append(
        connection,
        "leg_added",
        leg.created_at,
        position_id=leg.position_id,
        leg_id=leg.leg_id,
        leg=leg.leg,
        price=decimal_text(leg.price),
        leg_kind=leg.kind,
    )


def update_leg(connection: sqlite3.Connection, leg: LegRecord) -> None:
    """Write how far a leg is: its kind, that it has fired, what failed. Its order is let go only once it has ended."""
    row = _required(connection, leg.leg_id)
    if row["ended_at"] is not None:
        raise LedgerError(f"leg {leg.leg_id} has ended")
    if leg.order_id != row["order_id"]:
        _check_let_go(connection, leg.leg_id, row["order_id"], leg.order_id)
    connection.execute(
        """
        UPDATE protection_legs SET kind = ?, order_id = ?, fired_at = ?, failure = ?, failures = ?, next_try_at = ?,
            updated_at = ?
        WHERE leg_id = ?
        """,
        (
            leg.kind.value,
            leg.order_id,
            None if leg.fired_at is None else time_text(leg.fired_at),
            leg.failure,
            leg.failures,
            None if leg.next_try_at is None else time_text(leg.next_try_at),
            time_text(leg.updated_at),
            leg.leg_id,
        ),
    )
    if leg.fired_at is not None and row["fired_at"] is None:
        audit.append(
            connection, "leg_fired", leg.updated_at, position_id=leg.position_id, leg_id=leg.leg_id, leg=leg.leg
        )
    if leg.failures > row["failures"]:
        audit.append(
            connection,
            "leg_failed",
            leg.updated_at,
            position_id=leg.position_id,
            leg_id=leg.leg_id,
            leg=leg.leg,
            reason=leg.failure,
        )


def _check_let_go(connection: sqlite3.Connection, leg_id: str, before: str | None, after: str | None) -> None:
    """Refuse to forget an order that has not ended, and to name one that was not made for the leg."""
    if after is not None:
        raise LedgerError(f"leg {leg_id} gets its order when that is made")
    order = None if before is None else queries.find_order(connection, before)
    if order is not None and not order.status.final:
        raise LedgerError(f"leg {leg_id} has {before}, which has not ended")


def end_leg(connection: sqlite3.Connection, leg_id: str, reason: str, at: datetime, *, done: bool) -> None:
    """End a leg whose last order has; one that has `done` its part is also no longer wanted."""
    row = _required(connection, leg_id)
    if row["ended_at"] is not None:
        return
    if row["order_id"] is not None:
        _check_let_go(connection, leg_id, row["order_id"], None)
    connection.execute(
        "UPDATE protection_legs SET ended_at = ?, end_reason = ?, updated_at = ? WHERE leg_id = ?",
        (time_text(at), reason, time_text(at), leg_id),
    )
    if done:
        position = queries.find_position(connection, row["position_id"])
        wanted = None if position is None else position.protection.of(Leg(row["leg"]))
        if position is not None and wanted is not None and decimal_text(wanted.price) == row["price"]:
            _write_terms(connection, position.position_id, position.protection.but(Leg(row["leg"]), None))
    audit.append(
        connection,
        "leg_ended",
        at,
        position_id=row["position_id"],
        leg_id=leg_id,
        leg=row["leg"],
        reason=reason,
    )


def _required(connection: sqlite3.Connection, leg_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute("SELECT * FROM protection_legs WHERE leg_id = ?", (leg_id,)).fetchone()
    if row is None:
        raise LedgerError(f"no leg {leg_id}")
    return row


# --- reads -----------------------------------------------------------------------------------------------------------


def legs_of(connection: sqlite3.Connection, position_id: str) -> tuple[LegRecord, ...]:
    """Return the newest leg of each sort that a lot has or had, the stop first."""
    newest: dict[str, sqlite3.Row] = {}
    rows = connection.execute("SELECT * FROM protection_legs WHERE position_id = ? ORDER BY seq", (position_id,))
    for row in rows:
        newest[row["leg"]] = row
    return tuple(_leg(connection, newest[leg.value]) for leg in Leg if leg.value in newest)


def protected_lots(connection: sqlite3.Connection) -> tuple[ProtectedLot, ...]:
    """Return every lot that shall be protected or has a leg that has not ended, oldest first."""
    rows = connection.execute(
        """
        SELECT position_id FROM positions
        WHERE (status = 'open' AND protection IS NOT NULL)
            OR position_id IN (SELECT position_id FROM protection_legs WHERE ended_at IS NULL)
        ORDER BY seq
        """
    ).fetchall()
    found = (protected_lot(connection, row["position_id"]) for row in rows)
    return tuple(lot for lot in found if lot is not None)


def protected_lot(connection: sqlite3.Connection, position_id: str) -> ProtectedLot | None:
    """Return one lot with its live legs and their orders."""
    position = queries.find_position(connection, position_id)
    if position is None:
        return None
    legs = tuple(leg for leg in legs_of(connection, position_id) if leg.ended_at is None)
    views = {leg.order_id: queries.view(connection, leg.order_id) for leg in legs if leg.order_id is not None}
    opened_by = None if position.opened_by_order is None else queries.find_order(connection, position.opened_by_order)
    return ProtectedLot(
        position=position,
        legs=legs,
        orders={order_id: view for order_id, view in views.items() if view is not None},
        closes=_closes(connection, position_id),
        opening=opened_by is not None and not opened_by.status.final,
    )


def _leg(connection: sqlite3.Connection, row: sqlite3.Row) -> LegRecord:
    return LegRecord(
        leg_id=row["leg_id"],
        position_id=row["position_id"],
        leg=Leg(row["leg"]),
        price=parse_decimal(row["price"]),
        size=None if row["size"] is None else parse_decimal(row["size"]),
        kind=LegKind(row["kind"]),
        order_id=row["order_id"],
        tries=row["tries"],
        fired_at=None if row["fired_at"] is None else parse_time(row["fired_at"]),
        failure=row["failure"],
        failures=row["failures"],
        next_try_at=None if row["next_try_at"] is None else parse_time(row["next_try_at"]),
        created_at=parse_time(row["created_at"]),
        updated_at=parse_time(row["updated_at"]),
        ended_at=None if row["ended_at"] is None else parse_time(row["ended_at"]),
        end_reason=row["end_reason"],
        filled_size=_filled(connection, row["leg_id"]),
        last_order_id=_last_order(connection, row["leg_id"]),
    )


def _last_order(connection: sqlite3.Connection, leg_id: str) -> str | None:
    row = connection.execute(
        "SELECT order_id FROM orders WHERE leg_id = ? ORDER BY seq DESC LIMIT 1", (leg_id,)
    ).fetchone()
    return None if row is None else str(row["order_id"])


def _filled(connection: sqlite3.Connection, leg_id: str) -> Decimal:
    """Return what the orders of a leg have reduced, entries taken back left out."""
    rows = connection.execute(
        """
        SELECT entry.size FROM lot_entries AS entry JOIN orders USING (order_id)
        WHERE orders.leg_id = ? AND entry.effect = 'reduce' AND entry.reverses IS NULL
            AND NOT EXISTS (SELECT 1 FROM lot_entries WHERE reverses = entry.seq)
        """,
        (leg_id,),
    )
    return sum((parse_decimal(row["size"]) for row in rows), _ZERO)
