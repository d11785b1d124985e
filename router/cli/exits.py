"""What the command's exit status says."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """Documented in `perp-router --help`; scripts rely on them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNKNOWN_OUTCOME = 4
    VENUE_UNAVAILABLE = 5
    INTERRUPTED = 130
