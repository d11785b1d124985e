"""One service a ledger file: an exclusive lock that the kernel drops with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from router.ledger.protocol import LedgerError

__all__ = ["FileGuard"]


class FileGuard:
    """Holds `<ledger>.lock` until closed.

    Raises:
        LedgerError: another service (or another ledger object of this one) holds it.
    """

    def __init__(self, ledger: Path) -> None:
        path = ledger.with_name(ledger.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise LedgerError(
                f"another service has the ledger {ledger.name} open; one file serves one service"
            ) from error

    def close(self) -> None:
        """Let the next service have the file."""
        os.close(self._file)
