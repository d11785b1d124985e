"""Closes that a venue refuses although they only reduce: what stands in the way, and when they are tried again.

Everything follows from the order's attempts in the ledger: a restart forgets nothing and asks nobody. A refusal that
comes again is written into the row of the first (`Ledger.repeat_refusal`), so that a close that is
blocked for a week has a row for each cause, not one for each try.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from providers.base.errors import CLOSE_BLOCKING_CODES, ErrorClass, ErrorInfo
from providers.base.types import OrderKind
from router.engine.patience import Patience
from router.ledger.records import AttemptRecord, AttemptState, OrderView

__all__ = ["ADVICE", "Block", "attempt_expiry", "blocked_now", "same_refusal", "standing_block"]

# Tries of one order that were sent; beyond, `Patience.blocked_sent_max` spaces them.
SENT_MANY: Final = 32

ADVICE: Final[Mapping[str, str]] = {
    "open_interest_cap": "The venue counts this close against its cap: wait until others have closed, or cancel and"
    " close a smaller part.",
    "custody_limit": "The venue's custody is at its limit: wait, or close on the venue's own page.",
    "market_paused": "The market is paused or settles: wait until it trades again; a market that has expired is"
    " settled on the venue's own page, then cancel this order.",
    "halted": "The venue answers no instruction: wait, or see the venue's own page; cancel to stop trying.",
    "retired": "The venue is closed for good: claim what the account holds on the venue's own page, then cancel this"
    " order.",
    "unsupported_program": "The venue runs a program that this version does not know: update the router, or close on"
    " the venue's own page and cancel this order.",
    "oracle_stale": "The venue's price is too old to trade on: wait for its next update.",
    "insufficient_collateral": "Deposit collateral into the account on the venue, or cancel and close a smaller part.",
    "being_liquidated": "Deposit collateral so that the liquidation ends, or wait for its end; what it closes is no"
    " longer this order's.",
}
"""What the caller can do, by code; one for each of `CLOSE_BLOCKING_CODES`."""


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a close from its venue.

    Attributes:
        cause: the newest refusal that blocks.
        since: start of the first try that was blocked.
        next_try_at: when the venue is asked again.
    """

    cause: ErrorInfo
    since: datetime
    next_try_at: datetime

    @property
    def advice(self) -> str:
        """What the caller can do about it."""
        return ADVICE[self.cause.code]


def standing_block(view: OrderView, patience: Patience) -> Block | None:
    """Return what blocks a close, by its proven attempts; null when nothing does.

    A node that could not be reached, or a try that never landed, tells nothing of the venue: the block stands behind
    it. Any other end shows that it is over. The wait after a try is as long as the block has lasted by then, and
    `patience.blocked` more: 1, 2, 4, 8 seconds and so on.
    """
    run = _blocked_run(view)
    if not run:
        return None
    blocking = [attempt for attempt in run if _blocks(attempt)]
    since = min(attempt.started_at for attempt in blocking)
    tried_at = max(attempt.updated_at for attempt in run)
    newest = max(blocking, key=lambda attempt: (attempt.updated_at, attempt.number))
    sent = sum(1 for attempt in view.attempts if attempt.submission is not None)
    wait = min(
        tried_at - since + patience.blocked, patience.blocked_max if sent < SENT_MANY else patience.blocked_sent_max
    )
    return Block(cause=_error(newest), since=since, next_try_at=tried_at + wait)


def blocked_now(view: OrderView, patience: Patience) -> Block | None:
    """Return what an open order waits for; null while a try of it is under way, and once it ends."""
    if view.order.status.final or view.order.cancel_requested_at is not None or view.fills:
        return None
    if any(not attempt.state.final for attempt in view.attempts):
        return None
    return standing_block(view, patience)


def attempt_expiry(view: OrderView, patience: Patience, started_at: datetime) -> datetime:
    """Return until when an attempt that starts at `started_at` may fill: a blocked close outlives its deadline."""
    if not _blocked_run(view):
        return view.order.deadline
    return max(view.order.deadline, started_at + patience.blocked_ttl)


def same_refusal(view: OrderView, provider: str, error: ErrorInfo) -> AttemptRecord | None:
    """Return the row of a blocked close that this refusal repeats, with nothing sent since; else null."""
    if not _blocked_run(view):
        return None
    for attempt in reversed(view.attempts):
        if attempt.state is not AttemptState.REFUSED or attempt.provider != provider:
            return None
        if attempt.error is not None and (attempt.error.code, attempt.error.raw_code) == (error.code, error.raw_code):
            return attempt
    return None


def _blocked_run(view: OrderView) -> list[AttemptRecord]:
    """Return the proven attempts of a close since which a block stands, newest first; none when nothing blocks."""
    if view.order.kind is not OrderKind.CLOSE or view.order.trigger is not None:
        # A trigger that cannot be placed is given up: its leg is watched, and places another.
        return []
    run: list[AttemptRecord] = []
    for attempt in reversed([a for a in view.attempts if a.state.final]):
        if not (_blocks(attempt) or _says_nothing(attempt)):
            break
        run.append(attempt)
    return run if any(map(_blocks, run)) else []


def _blocks(attempt: AttemptRecord) -> bool:
    dead = attempt.state in {AttemptState.REFUSED, AttemptState.DEAD}
    return dead and attempt.error is not None and attempt.error.code in CLOSE_BLOCKING_CODES


def _says_nothing(attempt: AttemptRecord) -> bool:
    return attempt.error is not None and attempt.error.error_class is ErrorClass.CONNECTION


def _error(attempt: AttemptRecord) -> ErrorInfo:
    if attempt.error is None:
        raise ValueError(f"attempt {attempt.attempt_id} has no error")
    return attempt.error
