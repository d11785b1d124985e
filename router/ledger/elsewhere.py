"""Asking a ledger that another process may have open whether it knows a transaction. Nothing is written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from router.ledger import queries
from router.ledger.protocol import LedgerError

__all__ = ["knows_handle_in"]


def knows_handle_in(file: Path, handle: str) -> bool:
    """Whether a signature is on record in the ledger of a file; false where there is no such file.

    Raises:
        LedgerError: the file is there and cannot be read.
    """
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=5)) as connection:
            connection.execute("PRAGMA query_only = ON")
            return queries.known_handle(connection, handle)
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {file.name} cannot be read: {error}") from error
