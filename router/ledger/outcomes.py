"""The write that moves money in the books: an outcome, its fills, and what they do to lots, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from providers.base.types import Evidence, Fill, OrderKind, Outcome
from router.ledger import audit, booking, findings, outside, queries
from router.ledger.attempts import required_attempt
from router.ledger.codec import decimal_text, pack, time_text
from router.ledger.lots import Books, book, booked, refold, take_back
from router.ledger.orders import required, set_status
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    Finding,
    FindingKind,
    OrderRecord,
    OrderStatus,
    state_of,
)
from router.ledger.transitions import check_transition

__all__ = ["record"]

_FILLED = {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}
_EMPTY = {OrderStatus.FAILED, OrderStatus.CANCELLED}


def record(
    connection: sqlite3.Connection, attempt_id: str, outcome: Outcome, at: datetime, new_position_id: str
) -> tuple[str, ...]:
    """Store an outcome and return the venue fill ids that it booked; a position made by it gets the given id."""
    before = required_attempt(connection, attempt_id)
    after = state_of(outcome)
    check_transition(attempt_id, before.state, after)
    order = required(connection, before.order_id)
    books = Books(connection=connection, order=order, attempt=before, at=at, new_position_id=new_position_id)
    told = booking.changes(booked(connection, attempt_id), outcome)

    touched: set[str] = set()
    for fill_id in told.taken_back:
        touched |= take_back(books, fill_id)
    for fill in told.new:
        # Booked as another's before it was known to be ours.
        outside.take_back(connection, before.provider, fill.venue_fill_id, at)
        touched |= book(books, fill)
    for position_id in sorted(touched):
        refold(books, position_id)
    for fill_id in told.differing:
        audit.append(
            connection, "fill_differs", at, order_id=order.order_id, attempt_id=attempt_id, venue_fill_id=fill_id
        )
    material = _write_attempt(connection, before, after, outcome, at)
    if material or told.new or told.taken_back:
        connection.execute("UPDATE orders SET updated_at = ? WHERE order_id = ?", (time_text(at), order.order_id))
    if told.new or told.taken_back:
        _point_to_fills(connection, order)
        _report_findings(connection, order, before, told.new, at)
    _follow_status(connection, order, before, after, at)
    return tuple(fill.venue_fill_id for fill in told.new)


def _write_attempt(
    connection: sqlite3.Connection, before: AttemptRecord, after: AttemptState, outcome: Outcome, at: datetime
) -> bool:
    """Write the attempt's row; return whether more than its evidence changed.

    Settling again says the same again and again: that must not keep an order looking new (dead attempts are watched
    for a day from the last change).
    """
    same = before.state is after
    finalized = outcome.finalized or (same and before.finalized)
    error = outcome.error if outcome.error is not None or not same else before.error
    holder = outcome.holder if outcome.holder is not None or not same else before.holder
    evidence = outcome.evidence if outcome.evidence or not same else before.evidence
    # An attempt that was final and is unclear again starts from what is known now; else a fact stays known.
    fresh = before.state.final and not same
    landed = outcome.landed if fresh or outcome.landed is not None else before.landed
    executed = outcome.executed if fresh or outcome.executed is not None else before.executed
    material = not same or finalized != before.finalized or outcome.resting != before.resting or error != before.error
    facts = (holder, evidence, landed, executed)
    if not material and facts == (before.holder, before.evidence, before.landed, before.executed):
        return False
    connection.execute(
        """
        UPDATE attempts SET state = ?, landed = ?, executed = ?, error = ?, holder = ?, evidence = ?, resting = ?,
            finalized = ?, updated_at = ?
        WHERE attempt_id = ?
        """,
        (
            after.value,
            landed,
            executed,
            None if error is None else pack(error),
            holder,
            pack(evidence),
            int(outcome.resting),
            int(finalized),
            time_text(at),
            before.attempt_id,
        ),
    )
    if material:
        audit.append(
            connection,
            "outcome",
            at,
            order_id=before.order_id,
            attempt_id=before.attempt_id,
            state=after,
            before=before.state,
            finalized=finalized,
            code=None if error is None else error.code,
            evidence=",".join(item.kind for item in evidence) or None,
        )
    return material


def _point_to_fills(connection: sqlite3.Connection, order: OrderRecord) -> None:
    """Keep `filled_by` and `position_id` at the first fill that counts; null again when the last was taken back."""
    fills = queries.fills_of_order(connection, order.order_id)
    provider = fills[0].provider if fills else None
    position_id = order.reservations[0].position_id if order.reservations else None
    if order.kind is OrderKind.OPEN and provider is not None:
        row = connection.execute(
            "SELECT position_id FROM positions WHERE opened_by_order = ? AND provider = ?", (order.order_id, provider)
        ).fetchone()
        position_id = row["position_id"]
    connection.execute(
        "UPDATE orders SET filled_by = ?, position_id = ? WHERE order_id = ?", (provider, position_id, order.order_id)
    )


def _report_findings(
    connection: sqlite3.Connection, order: OrderRecord, attempt: AttemptRecord, new: Sequence[Fill], at: datetime
) -> None:
    """Note what the promise rules out and the books now show."""
    fills = queries.fills_of_order(connection, attempt.order_id)
    parts = {item.attempt_id: item.part for item in queries.attempts_of_order(connection, attempt.order_id)}
    twice = any(fill.attempt_id != attempt.attempt_id and parts[fill.attempt_id] == attempt.part for fill in fills)
    if new and (attempt.state is AttemptState.DEAD or twice):
        reason = "a second attempt has filled" if twice else "an attempt that was proven dead has filled"
        violation = Finding(
            kind=FindingKind.PROMISE_VIOLATION,
            provider=attempt.provider,
            market=order.market,
            subject=attempt.attempt_id,
            detail={"order_id": attempt.order_id, "attempt_id": attempt.attempt_id, "what": reason},
            evidence=tuple(
                Evidence(kind="fill_record", detail=fill.venue_fill_id, signature=fill.signature, slot=fill.slot)
                for fill in new
            ),
        )
        findings.find(connection, violation, at)
        audit.append(
            connection,
            "promise_violation",
            at,
            order_id=attempt.order_id,
            attempt_id=attempt.attempt_id,
            provider=attempt.provider,
            venue_fill_ids=",".join(fill.venue_fill_id for fill in new),
            reason=reason,
        )
    total = sum((item.fill.size for item in fills if item.attempt_id == attempt.attempt_id), Decimal(0))
    if new and attempt.submission is not None and 0 < attempt.submission.size < total:
        audit.append(
            connection,
            "overfill",
            at,
            order_id=attempt.order_id,
            attempt_id=attempt.attempt_id,
            asked=decimal_text(attempt.submission.size),
            filled=decimal_text(total),
        )


def _follow_status(
    connection: sqlite3.Connection, order: OrderRecord, before: AttemptRecord, after: AttemptState, at: datetime
) -> None:
    """Let a final order follow what its attempt has become; everything else about status is the engine's.

    A fill that a fork took back, or a proof of death that no longer holds, makes the order `unknown` again, with its
    reservations. A fill on an order that had ended without one makes it what it then is.
    """
    if not order.status.final:
        return
    filled = bool(queries.fills_of_order(connection, order.order_id))
    if after is AttemptState.UNKNOWN and before.state is not after:
        if before.state in _FILLED or order.status in _EMPTY:
            reason = f"{before.attempt_id} was {before.state} and is unknown again"
            set_status(connection, order, OrderStatus.UNKNOWN, at, reason=reason)
            _report_over_reserved(connection, order, at)
    elif order.status in _EMPTY and filled:
        status = OrderStatus(after.value) if after in _FILLED else OrderStatus.UNKNOWN
        set_status(connection, order, status, at, reason=f"{before.attempt_id} has filled after all")
    elif not filled and order.status not in _EMPTY:
        set_status(connection, order, OrderStatus.UNKNOWN, at, reason="its fill was taken back")
        _report_over_reserved(connection, order, at)


def _report_over_reserved(connection: sqlite3.Connection, order: OrderRecord, at: datetime) -> None:
    """Note lots that other closes have reserved while this one counted as ended."""
    for reservation in order.reservations:
        position = queries.find_position(connection, reservation.position_id)
        if position is not None and position.reserved_size > position.size:
            audit.append(
                connection,
                "over_reserved",
                at,
                order_id=order.order_id,
                position_id=position.position_id,
                reserved=decimal_text(position.reserved_size),
                size=decimal_text(position.size),
            )
