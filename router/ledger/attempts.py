"""Writes to attempts, exclusion domains and secondary transactions, all of them before anything is sent."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from providers.base.errors import ErrorInfo
from providers.base.types import Ack, OrderKind
from router.ledger import audit, queries
from router.ledger.codec import pack, time_text
from router.ledger.orders import required
from router.ledger.protocol import LedgerError
from router.ledger.records import AttemptRecord, AttemptState, OrderRecord, SecondaryRecord, SecondaryState
from router.ledger.transitions import check_transition

__all__ = [
    "add",
    "add_secondary",
    "close_domain",
    "record_ack",
    "repeat_refusal",
    "required_attempt",
    "set_secondary",
]

_FILLED = {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}


def required_attempt(connection: sqlite3.Connection, attempt_id: str) -> AttemptRecord:
    """Return an attempt that must be there."""
    row = connection.execute("SELECT * FROM attempts WHERE attempt_id = ?", (attempt_id,)).fetchone()
    if row is None:
        raise LedgerError(f"no attempt {attempt_id}")
    return queries.attempt_of(row)


def add(connection: sqlite3.Connection, attempt: AttemptRecord) -> None:
    """Store a new attempt, and open its domain where it is the first of it."""
    order = required(connection, attempt.order_id)
    if order.status.final:
        raise LedgerError(f"{order.order_id} is {order.status}: it takes no further attempt")
    if attempt.state is AttemptState.REFUSED:
        if attempt.submission is not None or attempt.error is None:
            raise LedgerError("a refused attempt has its error and no submission")
    else:
        _check_journaled(connection, order, attempt)
        _enter_domain(connection, attempt)
    submission = attempt.submission
    connection.execute(
        """
        INSERT INTO attempts (
            attempt_id, order_id, number, provider, part, generation, state, handle, submission, ack, error, holder,
            evidence, resting, finalized, started_at, updated_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            attempt.attempt_id,
            attempt.order_id,
            attempt.number,
            attempt.provider,
            attempt.part,
            attempt.generation,
            attempt.state.value,
            None if submission is None else submission.handle,
            None if submission is None else pack(submission),
            None if attempt.error is None else pack(attempt.error),
            attempt.holder,
            pack(attempt.evidence),
            int(attempt.resting),
            int(attempt.finalized),
            time_text(attempt.started_at),
            time_text(attempt.updated_at),
        ),
    )
    connection.execute(
        "UPDATE orders SET updated_at = ? WHERE order_id = ?", (time_text(attempt.updated_at), attempt.order_id)
    )
    audit.append(
        connection,
        f"attempt_{attempt.state.value}",
        attempt.updated_at,
        order_id=attempt.order_id,
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        number=attempt.number,
        part=attempt.part,
        generation=attempt.generation,
        handle=None if submission is None else submission.handle,
        code=None if attempt.error is None else attempt.error.code,
    )


def _check_journaled(connection: sqlite3.Connection, order: OrderRecord, attempt: AttemptRecord) -> None:
    """Refuse an attempt that is not this order's, or that has not been written ahead."""
    submission = attempt.submission
    if attempt.state is not AttemptState.JOURNALED or submission is None or attempt.ack is not None:
        raise LedgerError("a new attempt is journaled with its submission, or refused with its error")
    if order.size is None:
        raise LedgerError(f"the terms of {order.order_id} are not fixed yet")
    if submission.size > order.size:
        raise LedgerError(f"the submission is for {submission.size}, the order for {order.size}")
    if submission.provider != attempt.provider or submission.purpose.value != order.kind.value:
        raise LedgerError("the submission is another provider's, or for another purpose")
    lock = submission.lock
    if lock is not None and (lock.terms != order.lock or (lock.part, lock.generation) != _place(attempt)):
        raise LedgerError("the submission carries another lock than its order and generation")
    if order.kind is OrderKind.CLOSE:
        for reservation in order.reservations:
            position = queries.find_position(connection, reservation.position_id)
            if position is None or position.provider != attempt.provider:
                raise LedgerError(f"{reservation.position_id} is closed on its own provider only")


def _place(attempt: AttemptRecord) -> tuple[int, int]:
    return attempt.part, attempt.generation


def _enter_domain(connection: sqlite3.Connection, attempt: AttemptRecord) -> None:
    """Let an attempt into its exclusion domain, or refuse it where both could fill."""
    filled = {fill.attempt_id for fill in queries.fills_of_order(connection, attempt.order_id)}
    siblings = [
        other
        for other in queries.attempts_of_order(connection, attempt.order_id)
        if other.part == attempt.part and other.state is not AttemptState.REFUSED
    ]
    for other in siblings:
        if other.attempt_id in filled or other.state in _FILLED:
            raise LedgerError(f"{other.attempt_id} has filled: nothing of {attempt.order_id} goes to another attempt")
        # Without a lock an attempt is a domain of its own: it must be proven before the next.
        lone = not (_locked(other) and _locked(attempt))
        if lone and not other.state.final:
            raise LedgerError(f"{other.attempt_id} is {other.state} and no lock excludes it: nothing may run beside it")
    rows = connection.execute(
        "SELECT generation, closed_at FROM domains WHERE order_id = ? AND part = ? ORDER BY generation DESC LIMIT 1",
        (attempt.order_id, attempt.part),
    ).fetchall()
    last = rows[0]["generation"] if rows else -1
    if rows and rows[0]["closed_at"] is None:
        if attempt.generation != last:
            raise LedgerError(f"generation {last} of {attempt.order_id} is open: no attempt of {attempt.generation}")
        return
    if attempt.generation != last + 1:
        raise LedgerError(f"the next generation of {attempt.order_id} is {last + 1}, not {attempt.generation}")
    connection.execute(
        "INSERT INTO domains (order_id, part, generation, opened_at) VALUES (?, ?, ?, ?)",
        (attempt.order_id, attempt.part, attempt.generation, time_text(attempt.started_at)),
    )


def _locked(attempt: AttemptRecord) -> bool:
    return attempt.submission is not None and attempt.submission.lock is not None


def close_domain(connection: sqlite3.Connection, order_id: str, part: int, generation: int, at: datetime) -> None:
    """Close a domain whose holder leaves nothing; closing it again changes nothing.

    A generation that a stranger took before any attempt of it was journaled is closed without ever having been open.
    """
    required(connection, order_id)
    row = connection.execute(
        "SELECT generation, closed_at FROM domains WHERE order_id = ? AND part = ? ORDER BY generation DESC LIMIT 1",
        (order_id, part),
    ).fetchone()
    last = -1 if row is None else row["generation"]
    is_open = row is not None and row["closed_at"] is None
    if generation > last + (not is_open):
        raise LedgerError(f"generation {generation} of {order_id} has not begun")
    if generation < last or (generation == last and not is_open):
        return
    _check_leaves_nothing(connection, order_id, part, generation)
    connection.execute(
        """
        INSERT INTO domains (order_id, part, generation, opened_at, closed_at) VALUES (?1, ?2, ?3, ?4, ?4)
        ON CONFLICT (order_id, part, generation) DO UPDATE SET closed_at = excluded.closed_at
        """,
        (order_id, part, generation, time_text(at)),
    )
    audit.append(connection, "domain_closed", at, order_id=order_id, part=part, generation=generation)


def _check_leaves_nothing(connection: sqlite3.Connection, order_id: str, part: int, generation: int) -> None:
    """Refuse to close a domain that gave a fill, or whose attempts no lock shuts out."""
    filled = {fill.attempt_id for fill in queries.fills_of_order(connection, order_id)}
    for attempt in queries.attempts_of_order(connection, order_id):
        if _place(attempt) != (part, generation) or attempt.state is AttemptState.REFUSED:
            continue
        if attempt.state in _FILLED or attempt.attempt_id in filled:
            raise LedgerError(f"{attempt.attempt_id} has filled: its generation stays open for good")
        if not attempt.state.final and not _locked(attempt):
            raise LedgerError(f"nothing is proven about {attempt.attempt_id}, which carries no lock")


def record_ack(connection: sqlite3.Connection, attempt_id: str, ack: Ack, at: datetime) -> None:
    """Store the first ack; a settlement that was faster keeps its state."""
    attempt = required_attempt(connection, attempt_id)
    if attempt.state is AttemptState.REFUSED:
        raise LedgerError(f"{attempt_id} was refused: nothing of it can be sent")
    if attempt.ack is not None:
        return
    state = attempt.state
    if state is AttemptState.JOURNALED:
        check_transition(attempt_id, state, AttemptState.SENT)
        state = AttemptState.SENT
    connection.execute(
        "UPDATE attempts SET ack = ?, state = ?, updated_at = ? WHERE attempt_id = ?",
        (pack(ack), state.value, time_text(at), attempt_id),
    )
    connection.execute("UPDATE orders SET updated_at = ? WHERE order_id = ?", (time_text(at), attempt.order_id))
    audit.append(
        connection,
        "attempt_sent",
        at,
        order_id=attempt.order_id,
        attempt_id=attempt_id,
        accepted=ack.accepted,
        refused=len(ack.errors),
        not_sent=ack.not_sent,
    )


def repeat_refusal(connection: sqlite3.Connection, attempt_id: str, error: ErrorInfo, at: datetime) -> None:
    """Write a refusal that came again into the row of the first: a close may be blocked for weeks."""
    attempt = required_attempt(connection, attempt_id)
    if attempt.state is not AttemptState.REFUSED or attempt.error is None or attempt.error.code != error.code:
        raise LedgerError(f"{attempt_id} was not refused with {error.code}: it cannot be repeated")
    connection.execute(
        "UPDATE attempts SET error = ?, updated_at = ? WHERE attempt_id = ?",
        (pack(error), time_text(at), attempt_id),
    )


def add_secondary(connection: sqlite3.Connection, secondary: SecondaryRecord) -> None:
    """Store a secondary transaction, journaled."""
    if secondary.state is not SecondaryState.JOURNALED:
        raise LedgerError("a new secondary transaction is journaled")
    connection.execute(
        """
        INSERT INTO secondaries (
            secondary_id, purpose, provider, order_id, attempt_id, part, generation, state, handle, submission,
            created_at, updated_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            secondary.secondary_id,
            secondary.purpose.value,
            secondary.provider,
            secondary.order_id,
            secondary.attempt_id,
            secondary.part,
            secondary.generation,
            secondary.state.value,
            secondary.submission.handle,
            pack(secondary.submission),
            time_text(secondary.created_at),
            time_text(secondary.updated_at),
        ),
    )
    audit.append(
        connection,
        "secondary_journaled",
        secondary.created_at,
        order_id=secondary.order_id,
        attempt_id=secondary.attempt_id,
        secondary_id=secondary.secondary_id,
        purpose=secondary.purpose,
        handle=secondary.submission.handle,
    )


def set_secondary(connection: sqlite3.Connection, secondary_id: str, state: SecondaryState, at: datetime) -> None:
    """Move a secondary transaction on; that it was sent is no news once it landed or died."""
    row = connection.execute("SELECT * FROM secondaries WHERE secondary_id = ?", (secondary_id,)).fetchone()
    if row is None:
        raise LedgerError(f"no secondary transaction {secondary_id}")
    before = SecondaryState(row["state"])
    if before is state or (state is SecondaryState.SENT and before is not SecondaryState.JOURNALED):
        return
    if state is SecondaryState.JOURNALED:
        raise LedgerError(f"{secondary_id} is {before}: it cannot be unsent")
    connection.execute(
        "UPDATE secondaries SET state = ?, updated_at = ? WHERE secondary_id = ?",
        (state.value, time_text(at), secondary_id),
    )
    audit.append(
        connection,
        f"secondary_{state.value}",
        at,
        order_id=row["order_id"],
        attempt_id=row["attempt_id"],
        secondary_id=secondary_id,
        purpose=row["purpose"],
    )
