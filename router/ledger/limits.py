"""What counts against the router's limits, and who has switched opens off: sums over lots and open orders, and halts.

Everything that may still open counts as if it had: an open that has not ended takes its whole notional, less what of it
has filled and so stands in a lot already. Closes count for nothing.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import datetime
from decimal import Decimal

import msgspec

from router.ledger import audit, orders
from router.ledger.codec import optional, parse_decimal, parse_time, time_text
from router.ledger.protocol import Claim, Created, LimitReached
from router.ledger.records import HaltRecord, NewOrder, Usage

__all__ = ["check", "create_order", "halt", "halts", "resume", "usage"]

_ZERO = Decimal(0)


def create_order(connection: sqlite3.Connection, order: NewOrder, claim: Claim | None) -> Created:
    """Store an order unless it would pass a limit; two at once cannot both take what is left.

    Raises:
        LimitReached: nothing of the order was stored.
    """
    before = usage(connection, claim.day_began) if claim is not None and claim.check is not None else None
    created = orders.create(connection, order)
    if claim is None or created.replayed:
        return created
    if before is not None and claim.check is not None:
        _hold(claim.check(before))
    connection.execute(
        "UPDATE orders SET claimed_usd = ? WHERE order_id = ?", (optional(claim.size_usd), order.order_id)
    )
    return created


def check(connection: sqlite3.Connection, claim: Claim | None) -> None:
    """Hold a claim against what is used now; raise `LimitReached`."""
    if claim is not None and claim.check is not None:
        _hold(claim.check(usage(connection, claim.day_began)))


def _hold(refusal: msgspec.Struct | None) -> None:
    if refusal is not None:
        raise LimitReached(refusal)


def usage(connection: sqlite3.Connection, day_began: datetime | None) -> Usage:
    """Return what is used of the limits, opens of the day only where its beginning is given."""
    positions = 0
    markets: defaultdict[str, Decimal] = defaultdict(lambda: _ZERO)
    providers: defaultdict[str, Decimal] = defaultdict(lambda: _ZERO)
    for row in connection.execute("SELECT provider, market, size, entry_price FROM positions WHERE status = 'open'"):
        size_usd = parse_decimal(row["size"]) * parse_decimal(row["entry_price"])
        positions += 1
        markets[row["market"]] += size_usd
        providers[row["provider"]] += size_usd
    day_usd = _ZERO if day_began is None else _opened_since(connection, day_began)
    for row in connection.execute(
        "SELECT * FROM orders WHERE status IN ('pending', 'unknown') AND kind = 'open'"
    ).fetchall():
        left = max(_claimed(row) - _filled(connection, row["order_id"]), _ZERO)
        positions += not _has_lot(connection, row["order_id"])
        markets[row["market"]] += left
        day_usd += left
        for provider in _unresolved_at(connection, row["order_id"]):
            providers[provider] += left
    return Usage(positions=positions, day_usd=day_usd, markets=dict(markets), providers=dict(providers))


def _claimed(row: sqlite3.Row) -> Decimal:
    """Return an open order's notional: at its first quote where there was one, else as it was admitted."""
    if row["size"] is not None and row["expected_price"] is not None:
        return parse_decimal(row["size"]) * parse_decimal(row["expected_price"])
    text = row["claimed_usd"] or row["requested_size_usd"]
    return _ZERO if text is None else parse_decimal(text)


def _opened_since(connection: sqlite3.Connection, began: datetime) -> Decimal:
    """Return the notional of our own opening fills that were booked since, those taken back left out."""
    rows = connection.execute(
        """
        SELECT size_usd FROM lot_entries AS entry
        WHERE effect = 'open' AND at >= ? AND fill_seq IS NOT NULL AND reverses IS NULL
            AND NOT EXISTS (SELECT 1 FROM lot_entries WHERE reverses = entry.seq)
        """,
        (time_text(began),),
    )
    return sum((parse_decimal(row["size_usd"]) for row in rows), _ZERO)


def _filled(connection: sqlite3.Connection, order_id: str) -> Decimal:
    rows = connection.execute(
        """
        SELECT size_usd FROM lot_entries AS entry
        WHERE order_id = ? AND effect = 'open' AND reverses IS NULL
            AND NOT EXISTS (SELECT 1 FROM lot_entries WHERE reverses = entry.seq)
        """,
        (order_id,),
    )
    return sum((parse_decimal(row["size_usd"]) for row in rows), _ZERO)


def _has_lot(connection: sqlite3.Connection, order_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM positions WHERE opened_by_order = ? AND status = 'open' LIMIT 1", (order_id,)
    ).fetchone()
    return row is not None


def _unresolved_at(connection: sqlite3.Connection, order_id: str) -> tuple[str, ...]:
    """Return every provider at which the order may still fill; siblings are each counted."""
    rows = connection.execute(
        "SELECT DISTINCT provider FROM attempts WHERE order_id = ? AND state IN ('journaled', 'sent', 'unknown')",
        (order_id,),
    )
    return tuple(row["provider"] for row in rows)


# -- halts ---------------------------------------------------------------------------------------------------------


def halt(connection: sqlite3.Connection, record: HaltRecord) -> HaltRecord:
    """Store a halt; one that stands keeps its beginning and gets the new reason."""
    connection.execute(
        """
        INSERT INTO halts (provider, reason, caller, since) VALUES (?, ?, ?, ?)
        ON CONFLICT (provider) DO UPDATE SET reason = excluded.reason, caller = excluded.caller
        """,
        (record.provider or "", record.reason, record.caller, time_text(record.since)),
    )
    audit.append(
        connection, "halted", record.since, provider=record.provider, reason=record.reason, caller=record.caller
    )
    return next(found for found in halts(connection) if found.provider == record.provider)


def resume(connection: sqlite3.Connection, provider: str | None, reason: str, caller: str, at: datetime) -> bool:
    """Take a halt away; return whether there was one."""
    gone = connection.execute("DELETE FROM halts WHERE provider = ?", (provider or "",)).rowcount > 0
    if gone:
        audit.append(connection, "resumed", at, provider=provider, reason=reason, caller=caller)
    return gone


def halts(connection: sqlite3.Connection) -> tuple[HaltRecord, ...]:
    """Return every halt that stands, the whole router's first."""
    return tuple(
        HaltRecord(
            provider=row["provider"] or None,
            reason=row["reason"],
            caller=row["caller"],
            since=parse_time(row["since"]),
        )
        for row in connection.execute("SELECT * FROM halts ORDER BY provider")
    )
