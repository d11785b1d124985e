"""Findings: differences between the books and the venues, each standing until it is gone or a person has seen it.

A finding is known by (kind, provider, subject). One about something that *happened* (a liquidation) is made once and
stays open until it is acknowledged. One about how things *are* (sizes that differ) goes when they agree again, and
comes back as a new row; acknowledged, it stays quiet for as long as it says the same.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

from providers.base.types import Evidence
from router.ledger import audit
from router.ledger.codec import pack, parse_time, time_text, unpack
from router.ledger.protocol import FindingUnknown
from router.ledger.records import Finding, FindingKind, FindingRecord, FindingStatus

__all__ = ["HAPPENED", "acknowledge", "find", "finding_of", "get", "resolve", "standing"]

HAPPENED: Final = frozenset(
    {
        FindingKind.CLOSED_ELSEWHERE,
        FindingKind.LIQUIDATED,
        FindingKind.UNKNOWN_SIGNATURE,
        FindingKind.PROMISE_VIOLATION,
    }
)
"""Kinds that tell of an event: never resolved by what is seen later."""


def finding_of(row: sqlite3.Row) -> FindingRecord:
    """Return a row as a record."""
    return FindingRecord(
        finding_id=row["finding_id"],
        kind=FindingKind(row["kind"]),
        provider=row["provider"],
        market=row["market"],
        subject=row["subject"],
        detail=unpack(row["detail"], dict[str, str]),
        evidence=unpack(row["evidence"], tuple[Evidence, ...]),
        status=FindingStatus(row["status"]),
        first_seen_at=parse_time(row["first_seen_at"]),
        last_seen_at=parse_time(row["last_seen_at"]),
        resolved_at=None if row["resolved_at"] is None else parse_time(row["resolved_at"]),
        reason=row["reason"],
    )


def get(connection: sqlite3.Connection, finding_id: str) -> FindingRecord | None:
    """Return one finding."""
    row = connection.execute("SELECT * FROM findings WHERE finding_id = ?", (finding_id,)).fetchone()
    return None if row is None else finding_of(row)


def standing(connection: sqlite3.Connection) -> tuple[FindingRecord, ...]:
    """Return every finding that is open or acknowledged and not gone, oldest first."""
    rows = connection.execute("SELECT * FROM findings WHERE status <> 'resolved' ORDER BY seq")
    return tuple(finding_of(row) for row in rows)


def find(connection: sqlite3.Connection, finding: Finding, at: datetime) -> FindingRecord | None:
    """Store what was found; return it where it is new, and null where it stands already."""
    key = (finding.kind.value, finding.provider, finding.subject)
    rows = connection.execute(
        "SELECT * FROM findings WHERE kind = ? AND provider = ? AND subject = ? ORDER BY seq DESC LIMIT 1", key
    ).fetchall()
    before = finding_of(rows[0]) if rows else None
    if before is not None and (before.status is not FindingStatus.RESOLVED or finding.kind in HAPPENED):
        changed = finding.kind not in HAPPENED and before.detail != finding.detail
        if not (changed and before.status is FindingStatus.ACKNOWLEDGED):
            _see_again(connection, before, finding, at, changed=changed)
            return None
        # What was acknowledged is no longer what is there.
        resolve(connection, before.finding_id, "it has changed", at)
    return _insert(connection, finding, at)


def _see_again(
    connection: sqlite3.Connection, before: FindingRecord, finding: Finding, at: datetime, *, changed: bool
) -> None:
    detail, evidence = (finding.detail, finding.evidence) if changed else (before.detail, before.evidence)
    connection.execute(
        "UPDATE findings SET detail = ?, evidence = ?, last_seen_at = ? WHERE finding_id = ?",
        (pack(detail), pack(evidence), time_text(at), before.finding_id),
    )
    if changed:
        audit.append(connection, "finding_changed", at, finding_id=before.finding_id, **_told(finding))


def _insert(connection: sqlite3.Connection, finding: Finding, at: datetime) -> FindingRecord:
    number = connection.execute("SELECT coalesce(max(seq), 0) + 1 AS number FROM findings").fetchone()["number"]
    record = FindingRecord(
        finding_id=f"fnd_{number}",
        kind=finding.kind,
        provider=finding.provider,
        market=finding.market,
        subject=finding.subject,
        detail=finding.detail,
        evidence=finding.evidence,
        status=FindingStatus.OPEN,
        first_seen_at=at,
        last_seen_at=at,
        resolved_at=None,
        reason=None,
    )
    connection.execute(
        """
        INSERT INTO findings (
            seq, finding_id, kind, provider, market, subject, status, detail, evidence, first_seen_at, last_seen_at)
        VALUES (?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?)
        """,
        (
            number,
            record.finding_id,
            finding.kind.value,
            finding.provider,
            finding.market,
            finding.subject,
            pack(finding.detail),
            pack(finding.evidence),
            time_text(at),
            time_text(at),
        ),
    )
    audit.append(connection, "finding", at, finding_id=record.finding_id, **_told(finding))
    return record


def _told(finding: Finding) -> dict[str, str | None]:
    return {
        "finding": finding.kind.value,
        "provider": finding.provider,
        "market": finding.market,
        "subject": finding.subject,
        **{f"detail_{name}": value for name, value in finding.detail.items()},
    }


def resolve(connection: sqlite3.Connection, finding_id: str, reason: str, at: datetime) -> bool:
    """Note that what was found is gone; return whether it had not been so before."""
    found = _required(connection, finding_id)
    if found.status is FindingStatus.RESOLVED:
        return False
    connection.execute(
        "UPDATE findings SET status = 'resolved', resolved_at = ?, reason = ? WHERE finding_id = ?",
        (time_text(at), reason if found.reason is None else f"{found.reason}; {reason}", finding_id),
    )
    audit.append(connection, "finding_resolved", at, finding_id=finding_id, finding=found.kind.value, reason=reason)
    return True


def acknowledge(
    connection: sqlite3.Connection, finding_id: str, reason: str, caller: str, at: datetime
) -> FindingRecord:
    """Note that a person has seen it and why it may stand; one that is gone, or was acknowledged, stays as it is."""
    found = _required(connection, finding_id)
    if found.status is not FindingStatus.OPEN:
        return found
    connection.execute(
        "UPDATE findings SET status = 'acknowledged', reason = ? WHERE finding_id = ?", (reason, finding_id)
    )
    audit.append(
        connection,
        "finding_acknowledged",
        at,
        finding_id=finding_id,
        finding=found.kind.value,
        reason=reason,
        caller=caller,
    )
    return _required(connection, finding_id)


def _required(connection: sqlite3.Connection, finding_id: str) -> FindingRecord:
    found = get(connection, finding_id)
    if found is None:
        raise FindingUnknown(finding_id)
    return found
