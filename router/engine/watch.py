"""What goes on after an order has ended: outcomes watched until nothing can take them back, locks returned."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from providers.base.errors import ProviderError
from router.engine.context import EngineContext
from router.engine.plan import unresolved
from router.engine.settlement import Settlement, lock_refs, order_view
from router.ledger.protocol import LedgerError
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    OrderView,
    SecondaryState,
)
from router.ledger.secondaries import send_written_ahead

__all__ = ["Watch"]

log = logging.getLogger(__name__)

# As many TransferWithSeed instructions as fit one transaction with room to spare.
RECLAIM_LOCKS_MAX = 8


class Watch:
    """Settles ended orders again until they are finalized, watches dead attempts for a day, and reclaims locks.

    Args:
        reopen: called with an order that has become unclear again; starts its runner.
    """

    def __init__(self, context: EngineContext, reopen: Callable[[str], None]) -> None:
        self._context = context
        self._settlement = Settlement(context)
        self._reopen = reopen
        self._looked_at: dict[str, float] = {}
        self._alerted: set[str] = set()
        self.ledger_healthy = True

    async def run(self) -> None:
        """Look after ended orders for ever."""
        settings = self._context.settings
        reclaimed_at = self._context.clock.monotonic()
        while True:
            await self._context.clock.sleep(settings.watch_interval_s)
            await self._duty(self.check_ledger)
            await self._duty(self.check_funds)
            await self._duty(self.carry_on)
            await self._duty(self.look)
            if self._context.clock.monotonic() - reclaimed_at >= settings.reclaim_interval_s:
                reclaimed_at = self._context.clock.monotonic()
                await self._duty(self.reclaim)

    async def _duty(self, duty: Callable[[], Awaitable[None]]) -> None:
        """Do one thing; whatever becomes of it, the others are done too."""
        try:
            await duty()
        except (ProviderError, LedgerError):
            log.warning("watch_round_failed", exc_info=True)
        except Exception:
            log.exception("watch_failed")
            self._context.observer.alert("watch_failed")

    async def check_ledger(self) -> None:
        """Find out whether writes are durable."""
        self.ledger_healthy = await self._context.ledger.healthy()

    async def carry_on(self) -> None:
        """See that every open order has its runner: also one that was stored though its write was reported failed."""
        open_orders = self._context.ledger.open_order_ids()
        for order_id in open_orders:
            self._reopen(order_id)
        self._alerted &= set(open_orders)
        for order_id in set(open_orders) - self._alerted:
            self._alert_when_unclear_for_long(order_id)

    def _alert_when_unclear_for_long(self, order_id: str) -> None:
        view = order_view(self._context.ledger, order_id)
        # What rests waits by right, until its deadline.
        since = min((attempt.started_at for attempt in unresolved(view) if not attempt.resting), default=None)
        limit = timedelta(seconds=self._context.settings.unknown_alert_s)
        if since is None or self._context.clock.now() - since < limit:
            return
        self._alerted.add(order_id)
        log.error("order_unknown", extra={"order_id": order_id, "since": since.isoformat()})
        self._context.observer.alert("order_unknown")

    async def look(self) -> None:
        """Ask once more about every ended attempt that is due."""
        now = self._context.clock.now()
        views = self._context.ledger.watched_orders(now - self._context.settings.dead_watch)
        watched = {attempt.attempt_id for view in views for attempt in view.attempts}
        self._looked_at = {key: at for key, at in self._looked_at.items() if key in watched}
        for view in views:
            due = [attempt for attempt in view.attempts if self._due(attempt)]
            if due:
                await self._duty(partial(self._look_at, view.order.order_id, due))

    async def _look_at(self, order_id: str, due: list[AttemptRecord]) -> None:
        past = [attempt.attempt_id for attempt in due if await self._past(attempt)]
        try:
            await self._settlement.poll(order_id, due, frozenset(past))
        finally:
            if not order_view(self._context.ledger, order_id).order.status.final:
                self._reopen(order_id)

    async def _past(self, attempt: AttemptRecord) -> bool:
        """Whether an attempt that did not execute can never land any more: then the next look at it is the last."""
        lock = self._context.lock
        if lock is None or attempt.finalized or attempt.executed:
            return False
        if attempt.state not in {AttemptState.DEAD, AttemptState.SUPERSEDED}:
            return False
        return attempt.submission is not None and await lock.expired(attempt.submission)

    async def check_funds(self) -> None:
        """Hold opens while the fee payer is short, and let them go again when it is not."""
        if self._context.lock is None:
            return
        shortage = await self._context.lock.shortage()
        if shortage is None:
            self._context.release_opens("fee_payer_short")
        else:
            self._context.hold_opens("fee_payer_short", shortage)

    async def reclaim(self) -> None:
        """Bring back the lamports of locks that can no longer be needed (DESIGN 6, reclaim)."""
        lock = self._context.lock
        if lock is None:
            return
        for secondary in self._context.ledger.unsettled_secondaries():
            landed = await lock.landed(secondary.submission)
            if landed is not None:
                state = SecondaryState.LANDED if landed else SecondaryState.DEAD
                await self._context.ledger.set_secondary(secondary.secondary_id, state, self._context.clock.now())
        unreclaimed = self._context.ledger.unreclaimed_orders(self._context.clock.now())
        self._context.observer.locks_unreclaimed(len(unreclaimed))
        ready = [view for view in unreclaimed if await self._expired(view)]
        while ready:
            batch, ready = ready[:RECLAIM_LOCKS_MAX], ready[RECLAIM_LOCKS_MAX:]
            await self._reclaim_batch(batch)

    async def _expired(self, view: OrderView) -> bool:
        """Whether no transaction that carries the order's lock can land any more, whatever became of it."""
        lock = self._context.lock
        if lock is None or not all(a.finalized for a in view.attempts if a.submission is not None):
            return False
        sent = [a.submission for a in view.attempts if a.submission is not None and a.submission.lock is not None]
        sent += [s.submission for s in view.secondaries if s.submission.lock is not None]
        for submission in sent:
            if not await lock.expired(submission):
                return False
        return True

    async def _reclaim_batch(self, views: list[OrderView]) -> None:
        lock = self._context.lock
        if lock is None:
            return
        ledger, clock = self._context.ledger, self._context.clock
        order_ids = [view.order.order_id for view in views]
        submission = await lock.prepare_reclaim([ref for view in views for ref in lock_refs(view)])
        if submission is not None:
            await send_written_ahead(ledger, clock, submission, lock.submit)
            # Marked only in a later round, when nothing is left to reclaim: the transfer may yet not land.
            log.info("locks_reclaiming", extra={"orders": len(order_ids), "signature": submission.handle})
            return
        await ledger.mark_reclaimed(order_ids, clock.now())

    def _due(self, attempt: AttemptRecord) -> bool:
        if attempt.submission is None or attempt.provider not in self._context.providers:
            return False
        if not attempt.finalized or not attempt.state.final:
            return True
        if attempt.state not in {AttemptState.DEAD, AttemptState.SUPERSEDED}:
            return False
        now = self._context.clock.monotonic()
        if now - self._looked_at.get(attempt.attempt_id, 0.0) < self._context.settings.dead_watch_interval_s:
            return False
        self._looked_at[attempt.attempt_id] = now
        return True
