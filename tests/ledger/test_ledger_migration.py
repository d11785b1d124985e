"""Ledgers of earlier versions move forward with every row, and keep what their references promise."""

from __future__ import annotations

import asyncio
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.clock import VirtualClock
from router.ledger import schema
from router.ledger.protocol import LedgerError
from router.ledger.sqlite import SqliteLedger

OLD_ROWS = (
    """
    INSERT INTO orders (order_id, caller, fingerprint, kind, status, market, side, provider, leverage, slippage_bps,
        request, chain, deadline, created_at, updated_at)
    VALUES ('ord_1', 'local', 'f', 'open', 'filled', 'SOL-PERP', 'long', 'auto', '2', 50, x'7b7d', x'5b5d',
        '2026-01-01T00:01:00.000000Z', '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z')
    """,
    """
    INSERT INTO attempts (attempt_id, order_id, number, provider, part, generation, state, submission, evidence,
        resting, finalized, started_at, updated_at)
    VALUES ('att_1', 'ord_1', 1, 'drift', 0, 0, 'filled', x'7b7d', x'5b5d', 0, 1, '2026-01-01T00:00:00.000000Z',
        '2026-01-01T00:00:00.000000Z')
    """,
    """
    INSERT INTO positions (seq, position_id, provider, market, side, status, size, opened_size, entry_price, leverage,
        opened_by_order, caller, realized_pnl_usd, fees_usd, opened_at)
    VALUES (7, 'pos_1', 'drift', 'SOL-PERP', 'long', 'open', '10', '10', '100', '2', 'ord_1', 'local', '0', '0.5',
        '2026-01-01T00:00:00.000000Z')
    """,
    """
    INSERT INTO fills (seq, provider, venue_fill_id, order_id, attempt_id, fill, booked_at)
    VALUES (3, 'drift', 'f1', 'ord_1', 'att_1', x'7b7d', '2026-01-01T00:00:00.000000Z')
    """,
    """
    INSERT INTO lot_entries (seq, position_id, fill_seq, order_id, effect, size, size_usd, fee_usd, at)
    VALUES (5, 'pos_1', 3, 'ord_1', 'open', '10', '1000', '0.5', '2026-01-01T00:00:00.000000Z')
    """,
    """
    INSERT INTO lot_entries (seq, position_id, fill_seq, order_id, effect, size, size_usd, fee_usd, reverses, at)
    VALUES (6, 'pos_1', 3, 'ord_1', 'open', '10', '1000', '0.5', 5, '2026-01-01T00:00:01.000000Z')
    """,
    "INSERT INTO reservations (order_id, place, position_id, size) VALUES ('ord_1', 0, 'pos_1', '4')",
)


def of_version_2(path: Path) -> None:
    """Write a ledger as version 2 had it, with a row in every table that version 3 makes anew or refers to."""
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, schema.MIGRATIONS[:2])
    for statement in OLD_ROWS:
        connection.execute(statement)
    connection.close()


def test_a_ledger_of_version_2_keeps_its_lots_and_entries(tmp_path: Path) -> None:
    """Rows keep their numbers and references, and new numbers go on after them."""
    path = tmp_path / "ledger.db"
    of_version_2(path)

    async def read() -> None:
        ledger = SqliteLedger.open(path, VirtualClock(seed=1))
        position = ledger.position("pos_1")
        assert position is not None
        assert (position.size, position.opened_by_order, position.reserved_size) == (Decimal(10), "ord_1", Decimal(4))
        await ledger.aclose()

    asyncio.run(read())
    connection = sqlite3.connect(path)
    entries = connection.execute("SELECT seq, fill_seq, order_id, reverses, carry_index FROM lot_entries").fetchall()
    assert entries == [(5, 3, "ord_1", None, None), (6, 3, "ord_1", 5, None)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    sequences = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    assert (sequences["positions"], sequences["lot_entries"]) == (7, 6)
    connection.close()


def test_references_are_enforced_again_after_the_migration(tmp_path: Path) -> None:
    """The tables made anew are what the others refer to, and a row that refers to nothing is refused."""
    path = tmp_path / "ledger.db"
    of_version_2(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    assert schema.migrate(connection) == 2
    assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        connection.execute("INSERT INTO reservations (order_id, place, position_id, size) VALUES ('ord_1', 1, 'no', 1)")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        connection.execute("DELETE FROM positions")
    connection.close()


def test_a_migration_that_would_break_references_is_refused(tmp_path: Path) -> None:
    """References are off while it runs, so they are checked before it is committed."""
    path = tmp_path / "ledger.db"
    of_version_2(path)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(LedgerError, match="refer to nothing"):
        schema.migrate(connection, (*schema.MIGRATIONS[:2], ("DELETE FROM positions",)))
    assert schema.schema_version(connection) == 2
    assert connection.execute("SELECT count(*) FROM positions").fetchone()[0] == 1
    connection.close()
