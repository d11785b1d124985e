"""The tables, as numbered migrations that only go forward.

A migration is a tuple of statements, run in one transaction with the new version number: a crash leaves the old schema
or the new one. A ledger written by a newer program is refused, since an older one would not keep its promises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from router.ledger.protocol import LedgerError

__all__ = ["MIGRATIONS", "Migration", "migrate", "schema_version"]

Migration = tuple[str, ...]

_VERSION_1: Migration = (
    """
    CREATE TABLE orders (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        order_id TEXT NOT NULL UNIQUE,
        caller TEXT NOT NULL,
        idempotency_key TEXT,
        client_order_id TEXT,
        fingerprint TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('open', 'close')),
        status TEXT NOT NULL
            CHECK (status IN ('pending', 'unknown', 'filled', 'partially_filled', 'failed', 'cancelled')),
        market TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('long', 'short')),
        provider TEXT NOT NULL,
        requested_size TEXT,
        requested_size_usd TEXT,
        requested_worst_price TEXT,
        leverage TEXT NOT NULL,
        slippage_bps INTEGER NOT NULL,
        request BLOB NOT NULL,
        chain BLOB NOT NULL,
        size TEXT,
        worst_price TEXT,
        expected_price TEXT,
        deadline TEXT NOT NULL,
        lock BLOB,
        lock_reclaimed INTEGER NOT NULL DEFAULT 0,
        cancel_requested_at TEXT,
        filled_by TEXT,
        position_id TEXT,
        error BLOB,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        UNIQUE (caller, idempotency_key),
        UNIQUE (caller, client_order_id)
    ) STRICT
    """,
    "CREATE INDEX orders_open ON orders (seq) WHERE status IN ('pending', 'unknown')",
    "CREATE INDEX orders_unreclaimed ON orders (deadline) WHERE lock IS NOT NULL AND lock_reclaimed = 0",
    "CREATE INDEX orders_updated ON orders (updated_at)",
    """
    CREATE TABLE domains (
        order_id TEXT NOT NULL REFERENCES orders (order_id),
        part INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        opened_at TEXT NOT NULL,
        closed_at TEXT,
        PRIMARY KEY (order_id, part, generation)
    ) STRICT
    """,
    "CREATE UNIQUE INDEX domains_one_open ON domains (order_id, part) WHERE closed_at IS NULL",
    """
    CREATE TABLE attempts (
        attempt_id TEXT PRIMARY KEY,
        order_id TEXT NOT NULL REFERENCES orders (order_id),
        number INTEGER NOT NULL CHECK (number >= 1),
        provider TEXT NOT NULL,
        part INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        landed INTEGER,
        executed INTEGER,
        state TEXT NOT NULL CHECK (state IN (
            'refused', 'journaled', 'sent', 'unknown', 'filled', 'partially_filled', 'dead', 'superseded')),
        handle TEXT,
        submission BLOB,
        ack BLOB,
        error BLOB,
        holder TEXT,
        evidence BLOB NOT NULL,
        resting INTEGER NOT NULL,
        finalized INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        UNIQUE (order_id, number),
        UNIQUE (provider, handle),
        CHECK ((state = 'refused') = (submission IS NULL))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX attempts_domain_number ON attempts (order_id, part, generation, number)",
    "CREATE INDEX attempts_handle ON attempts (handle)",
    """
    CREATE TABLE secondaries (
        secondary_id TEXT PRIMARY KEY,
        purpose TEXT NOT NULL,
        provider TEXT NOT NULL,
        order_id TEXT REFERENCES orders (order_id),
        attempt_id TEXT REFERENCES attempts (attempt_id),
        part INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('journaled', 'sent', 'landed', 'dead')),
        handle TEXT NOT NULL,
        submission BLOB NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX secondaries_order ON secondaries (order_id)",
    "CREATE INDEX secondaries_handle ON secondaries (handle)",
    """
    CREATE TABLE positions (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        position_id TEXT NOT NULL UNIQUE,
        provider TEXT NOT NULL,
        market TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('long', 'short')),
        status TEXT NOT NULL CHECK (status IN ('open', 'closed')),
        size TEXT NOT NULL,
        opened_size TEXT NOT NULL,
        entry_price TEXT NOT NULL,
        leverage TEXT NOT NULL,
        opened_by_order TEXT NOT NULL REFERENCES orders (order_id),
        caller TEXT NOT NULL,
        realized_pnl_usd TEXT NOT NULL,
        fees_usd TEXT NOT NULL,
        opened_at TEXT NOT NULL,
        closed_at TEXT,
        UNIQUE (opened_by_order, provider)
    ) STRICT
    """,
    "CREATE INDEX positions_open ON positions (seq) WHERE status = 'open'",
    """
    CREATE TABLE reservations (
        order_id TEXT NOT NULL REFERENCES orders (order_id),
        place INTEGER NOT NULL,
        position_id TEXT NOT NULL REFERENCES positions (position_id),
        size TEXT NOT NULL,
        released INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (order_id, place),
        UNIQUE (order_id, position_id)
    ) STRICT
    """,
    "CREATE INDEX reservations_held ON reservations (position_id) WHERE released = 0",
    """
    CREATE TABLE fills (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL,
        venue_fill_id TEXT NOT NULL,
        order_id TEXT NOT NULL REFERENCES orders (order_id),
        attempt_id TEXT NOT NULL REFERENCES attempts (attempt_id),
        fill BLOB NOT NULL,
        booked_at TEXT NOT NULL,
        taken_back_at TEXT
    ) STRICT
    """,
    # A fill counts once; one that a fork took back may come again.
    "CREATE UNIQUE INDEX fills_once ON fills (provider, venue_fill_id) WHERE taken_back_at IS NULL",
    "CREATE INDEX fills_order ON fills (order_id)",
    # What each fill did to each lot. Nothing is changed here: what is taken back has a second row that reverses it.
    """
    CREATE TABLE lot_entries (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        position_id TEXT NOT NULL REFERENCES positions (position_id),
        fill_seq INTEGER NOT NULL REFERENCES fills (seq),
        order_id TEXT NOT NULL REFERENCES orders (order_id),
        effect TEXT NOT NULL CHECK (effect IN ('open', 'reduce')),
        size TEXT NOT NULL,
        size_usd TEXT NOT NULL,
        fee_usd TEXT NOT NULL,
        reverses INTEGER UNIQUE REFERENCES lot_entries (seq),
        at TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX lot_entries_position ON lot_entries (position_id)",
    "CREATE INDEX lot_entries_order ON lot_entries (order_id)",
    "CREATE INDEX lot_entries_fill ON lot_entries (fill_seq)",
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        order_id TEXT,
        attempt_id TEXT,
        data BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX events_order ON events (order_id)",
)

_VERSION_2: Migration = (
    # Asked before every open, under the market's lock: what may still fill on the other side.
    """
    CREATE INDEX attempts_unclear ON attempts (provider)
        WHERE state IN ('journaled', 'sent', 'unknown')
    """,
)

_VERSION_3: Migration = (
    # What the chain shows of others' trades on our account. `foreign_delta` is what it did to the foreign part, signed:
    # a fill that turns out to be ours is taken back whole.
    """
    CREATE TABLE outside_fills (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL,
        venue_fill_id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('trade', 'liquidation', 'settlement')),
        market TEXT NOT NULL,
        base_delta TEXT NOT NULL,
        price TEXT NOT NULL,
        fee_usd TEXT NOT NULL,
        foreign_delta TEXT NOT NULL,
        signature TEXT NOT NULL,
        slot INTEGER NOT NULL,
        at TEXT NOT NULL,
        booked_at TEXT NOT NULL,
        taken_back_at TEXT
    ) STRICT
    """,
    "CREATE UNIQUE INDEX outside_fills_once ON outside_fills (provider, venue_fill_id) WHERE taken_back_at IS NULL",
    """
    CREATE TABLE foreign_parts (
        provider TEXT NOT NULL,
        market TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('long', 'short')),
        size TEXT NOT NULL,
        entry_price TEXT,
        since TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        PRIMARY KEY (provider, market)
    ) STRICT
    """,
    """
    CREATE TABLE findings (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        finding_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        provider TEXT NOT NULL,
        market TEXT,
        subject TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('open', 'resolved', 'acknowledged')),
        detail BLOB NOT NULL,
        evidence BLOB NOT NULL,
        first_seen_at TEXT NOT NULL,
        last_seen_at TEXT NOT NULL,
        resolved_at TEXT,
        reason TEXT
    ) STRICT
    """,
    # One row stands for a difference until it is gone; an acknowledged one still stands.
    "CREATE UNIQUE INDEX findings_standing ON findings (kind, provider, subject) WHERE status <> 'resolved'",
    "CREATE INDEX findings_subject ON findings (kind, provider, subject)",
    """
    CREATE TABLE watermarks (
        name TEXT PRIMARY KEY,
        signature TEXT NOT NULL,
        slot INTEGER NOT NULL,
        updated_at TEXT NOT NULL
    ) STRICT
    """,
    # A lot without an order was adopted from the foreign part.
    """
    CREATE TABLE positions_3 (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        position_id TEXT NOT NULL UNIQUE,
        provider TEXT NOT NULL,
        market TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('long', 'short')),
        status TEXT NOT NULL CHECK (status IN ('open', 'closed')),
        size TEXT NOT NULL,
        opened_size TEXT NOT NULL,
        entry_price TEXT NOT NULL,
        leverage TEXT NOT NULL,
        opened_by_order TEXT REFERENCES orders (order_id),
        caller TEXT NOT NULL,
        realized_pnl_usd TEXT NOT NULL,
        fees_usd TEXT NOT NULL,
        opened_at TEXT NOT NULL,
        closed_at TEXT,
        UNIQUE (opened_by_order, provider)
    ) STRICT
    """,
    """
    INSERT INTO positions_3 (
        seq, position_id, provider, market, side, status, size, opened_size, entry_price, leverage, opened_by_order,
        caller, realized_pnl_usd, fees_usd, opened_at, closed_at)
    SELECT
        seq, position_id, provider, market, side, status, size, opened_size, entry_price, leverage, opened_by_order,
        caller, realized_pnl_usd, fees_usd, opened_at, closed_at
    FROM positions
    """,
    "DROP TABLE positions",
    "ALTER TABLE positions_3 RENAME TO positions",
    "CREATE INDEX positions_open ON positions (seq) WHERE status = 'open'",
    # An entry hangs on an order's fill, on an outside fill, or (an adoption) on neither. `carry_index` is the fill's.
    """
    CREATE TABLE lot_entries_3 (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        position_id TEXT NOT NULL REFERENCES positions (position_id),
        fill_seq INTEGER REFERENCES fills (seq),
        outside_seq INTEGER REFERENCES outside_fills (seq),
        order_id TEXT REFERENCES orders (order_id),
        effect TEXT NOT NULL CHECK (effect IN ('open', 'reduce')),
        size TEXT NOT NULL,
        size_usd TEXT NOT NULL,
        fee_usd TEXT NOT NULL,
        carry_index TEXT,
        reverses INTEGER UNIQUE REFERENCES lot_entries (seq),
        at TEXT NOT NULL,
        CHECK ((fill_seq IS NULL) = (order_id IS NULL)),
        CHECK (fill_seq IS NULL OR outside_seq IS NULL)
    ) STRICT
    """,
    """
    INSERT INTO lot_entries_3 (
        seq, position_id, fill_seq, outside_seq, order_id, effect, size, size_usd, fee_usd, carry_index, reverses, at)
    SELECT seq, position_id, fill_seq, NULL, order_id, effect, size, size_usd, fee_usd, NULL, reverses, at
    FROM lot_entries
    """,
    "DROP TABLE lot_entries",
    "ALTER TABLE lot_entries_3 RENAME TO lot_entries",
    "CREATE INDEX lot_entries_position ON lot_entries (position_id)",
    "CREATE INDEX lot_entries_order ON lot_entries (order_id)",
    "CREATE INDEX lot_entries_fill ON lot_entries (fill_seq)",
    "CREATE INDEX lot_entries_outside ON lot_entries (outside_seq)",
)

_VERSION_4: Migration = (
    # Stop loss and take profit: what a lot shall have, and the legs that carry it out. A leg is never changed into
    # another: a new price is a new leg.
    """
    CREATE TABLE protection_legs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        leg_id TEXT NOT NULL UNIQUE,
        position_id TEXT NOT NULL REFERENCES positions (position_id),
        leg TEXT NOT NULL CHECK (leg IN ('stop_loss', 'take_profit')),
        price TEXT NOT NULL,
        size TEXT,
        kind TEXT NOT NULL CHECK (kind IN ('native', 'managed')),
        order_id TEXT REFERENCES orders (order_id),
        tries INTEGER NOT NULL DEFAULT 0,
        fired_at TEXT,
        failure TEXT,
        failures INTEGER NOT NULL DEFAULT 0,
        next_try_at TEXT,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        ended_at TEXT,
        end_reason TEXT,
        CHECK ((ended_at IS NULL) = (end_reason IS NULL))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX protection_legs_live ON protection_legs (position_id, leg) WHERE ended_at IS NULL",
    "CREATE INDEX protection_legs_position ON protection_legs (position_id)",
    # What the lot of an open shall have; null for none.
    "ALTER TABLE orders ADD COLUMN protection BLOB",
    """
    ALTER TABLE orders ADD COLUMN cause TEXT NOT NULL DEFAULT 'caller'
        CHECK (cause IN ('caller', 'stop_loss', 'take_profit'))
    """,
    # Of a close that rests on the venue until a price is reached.
    "ALTER TABLE orders ADD COLUMN trigger_terms BLOB",
    "ALTER TABLE orders ADD COLUMN leg_id TEXT REFERENCES protection_legs (leg_id)",
    "CREATE INDEX orders_leg ON orders (leg_id) WHERE leg_id IS NOT NULL",
    "ALTER TABLE positions ADD COLUMN protection BLOB",
    "CREATE INDEX positions_protected ON positions (seq) WHERE protection IS NOT NULL AND status = 'open'",
)

_VERSION_5: Migration = (
    # A venue that does not net holds both sides of a market at once: `holding_side` tells which; '' where it nets.
    """
    CREATE TABLE foreign_parts_5 (
        provider TEXT NOT NULL,
        market TEXT NOT NULL,
        holding_side TEXT NOT NULL CHECK (holding_side IN ('', 'long', 'short')),
        side TEXT NOT NULL CHECK (side IN ('long', 'short')),
        size TEXT NOT NULL,
        entry_price TEXT,
        since TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        PRIMARY KEY (provider, market, holding_side)
    ) STRICT
    """,
    """
    INSERT INTO foreign_parts_5
    SELECT provider, market, '', side, size, entry_price, since, updated_at FROM foreign_parts
    """,
    "DROP TABLE foreign_parts",
    "ALTER TABLE foreign_parts_5 RENAME TO foreign_parts",
    "ALTER TABLE outside_fills ADD COLUMN holding_side TEXT NOT NULL DEFAULT ''",
)

_VERSION_6: Migration = (
    # Notional of an open as it was admitted: what it counts as in limits until its first quote.
    "ALTER TABLE orders ADD COLUMN claimed_usd TEXT",
    "CREATE INDEX lot_entries_opened ON lot_entries (at) WHERE effect = 'open'",
    # Opens switched off by a person; '' is the whole router.
    """
    CREATE TABLE halts (
        provider TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        caller TEXT NOT NULL,
        since TEXT NOT NULL
    ) STRICT
    """,
)

MIGRATIONS: tuple[Migration, ...] = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6)
"""Migration number n stands at index n - 1. Published ones never change."""


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 for an empty file."""
    table = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'").fetchone()
    if table is None:
        return 0
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    return 0 if row is None else int(row[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the tables up to the last of `migrations` and return the version that was there before.

    Raises:
        LedgerError: the file was written by a newer program, or is not a ledger.
    """
    before = schema_version(connection)
    if before > len(migrations):
        raise LedgerError(
            f"the ledger has schema version {before}, this program knows {len(migrations)}: update it first"
        )
    if before == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        raise LedgerError("the file is a database of something else")
    # A table that is made anew is dropped while others refer to it. References are checked before each commit instead,
    # since SQLite cannot switch them off within a transaction.
    enforced = connection.execute("PRAGMA foreign_keys").fetchone()[0]
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        for version, statements in enumerate(migrations[before:], start=before + 1):
            _step(connection, version, statements)
    finally:
        connection.execute(f"PRAGMA foreign_keys = {int(enforced)}")
    return before


def _step(connection: sqlite3.Connection, version: int, statements: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == 1:
            connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
        for statement in statements:
            connection.execute(statement)
        _check_references(connection, version)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(version),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_references(connection: sqlite3.Connection, version: int) -> None:
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise LedgerError(f"schema version {version} would leave rows that refer to nothing")
