"""Writes to orders: creation under a key, terms, cancel, status, locks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from providers.base.errors import ErrorInfo
from providers.base.types import OrderKind
from router.ledger import audit, protection, queries
from router.ledger.codec import decimal_text, optional, pack, time_text
from router.ledger.protocol import Created, KeyReused, LedgerError, OverReserved, WrongCluster
from router.ledger.records import AttemptState, NewOrder, OrderRecord, OrderStatus, PositionStatus

__all__ = ["bind", "create", "finish", "fix_terms", "mark_reclaimed", "request_cancel", "required", "set_status"]

_FILLED = {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}


def required(connection: sqlite3.Connection, order_id: str) -> OrderRecord:
    """Return an order that must be there."""
    order = queries.find_order(connection, order_id)
    if order is None:
        raise LedgerError(f"no order {order_id}")
    return order


def bind(connection: sqlite3.Connection, genesis_hash: str, at: datetime) -> None:
    """Bind the ledger to a cluster, once."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'genesis_hash'").fetchone()
    if row is None:
        connection.execute("INSERT INTO meta VALUES ('genesis_hash', ?)", (genesis_hash,))
        audit.append(connection, "cluster_bound", at, genesis_hash=genesis_hash)
    elif row["value"] != genesis_hash:
        raise WrongCluster(f"the ledger belongs to the cluster {row['value']}, the nodes are on {genesis_hash}")


def create(connection: sqlite3.Connection, order: NewOrder) -> Created:
    """Store order, key and reservations, or return the order that the key made."""
    key = order.key if order.key is not None else order.client_order_id
    before = _made_before(connection, order, key)
    if before is not None:
        return Created(before, replayed=True)
    _check_shape(order)
    connection.execute(
        """
        INSERT INTO orders (
            order_id, caller, idempotency_key, client_order_id, fingerprint, kind, status, market, side, provider,
            requested_size, requested_size_usd, requested_worst_price, leverage, slippage_bps, request, chain,
            deadline, lock, position_id, protection, cause, trigger_terms, leg_id, created_at, updated_at)
        VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            order.order_id,
            order.caller,
            key,
            order.client_order_id,
            order.fingerprint,
            order.kind.value,
            order.market,
            order.side.value,
            order.provider,
            optional(order.size),
            optional(order.size_usd),
            optional(order.worst_price),
            decimal_text(order.leverage),
            order.slippage_bps,
            order.request,
            pack(order.chain),
            time_text(order.deadline),
            None if order.lock is None else pack(order.lock),
            order.reservations[0].position_id if order.reservations else None,
            pack(order.protection) if order.protection else None,
            order.cause.value,
            None if order.trigger is None else pack(order.trigger),
            order.leg_id,
            time_text(order.created_at),
            time_text(order.created_at),
        ),
    )
    for place, reservation in enumerate(order.reservations):
        _reserve(connection, order, place, reservation.position_id, reservation.size)
    protection.enter(connection, order)
    audit.append(
        connection,
        "order_created",
        order.created_at,
        order_id=order.order_id,
        caller=order.caller,
        order_kind=order.kind,
        market=order.market,
        side=order.side,
        provider=order.provider,
        size=optional(order.size),
        size_usd=optional(order.size_usd),
        client_order_id=order.client_order_id,
        cause=order.cause,
        leg_id=order.leg_id,
    )
    return Created(required(connection, order.order_id), replayed=False)


def _made_before(connection: sqlite3.Connection, order: NewOrder, key: str | None) -> OrderRecord | None:
    """Return the order that the same request made before; raise `KeyReused` where it was another request."""
    columns = "SELECT order_id, fingerprint FROM orders WHERE caller = ?"
    row = None
    if key is not None:
        row = connection.execute(f"{columns} AND idempotency_key = ?", (order.caller, key)).fetchone()
    if row is None and order.client_order_id is not None:
        row = connection.execute(f"{columns} AND client_order_id = ?", (order.caller, order.client_order_id)).fetchone()
        if row is not None and key != order.client_order_id:
            # The client order id is known, and a key of its own says that this is another request.
            raise KeyReused(row["order_id"], order.client_order_id)
    if row is None:
        return None
    if row["fingerprint"] != order.fingerprint:
        raise KeyReused(row["order_id"], key or "")
    return required(connection, row["order_id"])


def _check_shape(order: NewOrder) -> None:
    if (order.kind is OrderKind.CLOSE) != bool(order.reservations):
        raise LedgerError("a close reserves the lots that it reduces, and nothing else does")
    if order.trigger is not None and (order.kind is not OrderKind.CLOSE or order.leg_id is None):
        raise LedgerError("only a leg's close rests until a price is reached")
    if len({reservation.position_id for reservation in order.reservations}) != len(order.reservations):
        raise LedgerError("a close names each lot once")


def _reserve(connection: sqlite3.Connection, order: NewOrder, place: int, position_id: str, size: Decimal) -> None:
    position = queries.find_position(connection, position_id)
    if position is None:
        raise LedgerError(f"no position {position_id}")
    if (position.market, position.side) != (order.market, order.side):
        raise LedgerError(f"{position_id} is {position.side} {position.market}, the close is of another")
    if order.provider not in {"auto", position.provider}:
        raise LedgerError(f"{position_id} is held on {position.provider}, not on {order.provider}")
    available = max(position.size - position.reserved_size, Decimal(0))
    if position.status is PositionStatus.CLOSED or size > available or size <= 0:
        raise OverReserved(position_id, size, available)
    connection.execute(
        "INSERT INTO reservations (order_id, place, position_id, size) VALUES (?, ?, ?, ?)",
        (order.order_id, place, position_id, decimal_text(size)),
    )


def fix_terms(
    connection: sqlite3.Connection,
    order_id: str,
    *,
    size: Decimal,
    worst_price: Decimal,
    expected_price: Decimal,
    at: datetime,
) -> None:
    """Write base size and worst price, once."""
    order = required(connection, order_id)
    if order.size is not None:
        if (order.size, order.worst_price, order.expected_price) != (size, worst_price, expected_price):
            raise LedgerError(f"the terms of {order_id} are fixed and never change")
        return
    if order.status.final:
        raise LedgerError(f"{order_id} is {order.status}")
    if min(size, worst_price, expected_price) <= 0:
        raise LedgerError("size and prices are above zero")
    connection.execute(
        "UPDATE orders SET size = ?, worst_price = ?, expected_price = ?, updated_at = ? WHERE order_id = ?",
        (decimal_text(size), decimal_text(worst_price), decimal_text(expected_price), time_text(at), order_id),
    )
    audit.append(
        connection,
        "terms_fixed",
        at,
        order_id=order_id,
        size=decimal_text(size),
        worst_price=decimal_text(worst_price),
        expected_price=decimal_text(expected_price),
    )


def request_cancel(connection: sqlite3.Connection, order_id: str, at: datetime) -> None:
    """Note a caller's cancel; only the first, and only while the order is open."""
    order = required(connection, order_id)
    if order.status.final or order.cancel_requested_at is not None:
        return
    connection.execute(
        "UPDATE orders SET cancel_requested_at = ?, updated_at = ? WHERE order_id = ?",
        (time_text(at), time_text(at), order_id),
    )
    audit.append(connection, "cancel_requested", at, order_id=order_id)


def finish(
    connection: sqlite3.Connection, order_id: str, status: OrderStatus, at: datetime, error: ErrorInfo | None
) -> None:
    """Set a status that the attempts and fills bear out."""
    order = required(connection, order_id)
    if order.status is status:
        return
    filled = bool(queries.fills_of_order(connection, order_id))
    attempts = queries.attempts_of_order(connection, order_id)
    if status in _FILLED:
        if not filled:
            raise LedgerError(f"{order_id} has no fill and cannot be {status}")
        if not any(attempt.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED} for attempt in attempts):
            raise LedgerError(f"no attempt of {order_id} is proven to fill no more; it cannot be {status}")
    elif status.final:
        if filled:
            raise LedgerError(f"{order_id} has fills and cannot be {status}")
        unclear = [attempt.attempt_id for attempt in attempts if not attempt.state.final]
        if unclear:
            raise LedgerError(f"{order_id} cannot be {status}: nothing is proven about {', '.join(unclear)}")
    if order.status.final and not (status is OrderStatus.UNKNOWN or (status in _FILLED and filled)):
        raise LedgerError(f"{order_id} is {order.status} and cannot become {status}")
    set_status(connection, order, status, at, error=error)


def set_status(
    connection: sqlite3.Connection,
    order: OrderRecord,
    status: OrderStatus,
    at: datetime,
    *,
    error: ErrorInfo | None = None,
    reason: str | None = None,
) -> None:
    """Write a status; a final one lets go of what the order reserved, an open one takes it again."""
    connection.execute(
        "UPDATE orders SET status = ?, error = ?, updated_at = ? WHERE order_id = ?",
        (status.value, None if error is None else pack(error), time_text(at), order.order_id),
    )
    connection.execute("UPDATE reservations SET released = ? WHERE order_id = ?", (int(status.final), order.order_id))
    audit.append(
        connection,
        "order_finished" if status.final else "order_status",
        at,
        order_id=order.order_id,
        status=status,
        before=order.status,
        code=None if error is None else error.code,
        reason=reason,
    )


def mark_reclaimed(connection: sqlite3.Connection, order_ids: Sequence[str], at: datetime) -> None:
    """Note that locks were returned; only a final order's may be."""
    for order_id in order_ids:
        order = required(connection, order_id)
        if not order.status.final:
            raise LedgerError(f"{order_id} is {order.status}: its lock must stay")
        if order.lock_reclaimed:
            continue
        connection.execute("UPDATE orders SET lock_reclaimed = 1 WHERE order_id = ?", (order_id,))
        audit.append(connection, "lock_reclaimed", at, order_id=order_id)
