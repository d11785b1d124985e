"""What an operator does about reconciliation: run it, read it, acknowledge, adopt; and the task that keeps it going."""

from __future__ import annotations

import asyncio
import logging

from providers.base.types import Side
from router.engine.catalog import Catalog
from router.engine.context import EngineContext
from router.engine.reconcile import Reconciler
from router.engine.reports import Reconciliation
from router.engine.requests import (
    CursorInvalid,
    EntryPriceUnknown,
    FindingNotFound,
    NothingForeignHeld,
    ProviderUnknown,
    SideNeeded,
)
from router.ledger.protocol import BadCursor, EntryUnknown, FindingUnknown, LedgerError, NothingForeign
from router.ledger.records import FindingKind, FindingRecord, FindingStatus, ForeignPart, PositionRecord

__all__ = ["Oversight"]

log = logging.getLogger(__name__)

# The first comparison with the venues may hold up readiness for so long; it goes on behind the open port.
START_S = 3.0


class Oversight:
    """Keeps a `Reconciler` running, and answers for it."""

    def __init__(self, context: EngineContext, catalog: Catalog, reconciler: Reconciler) -> None:
        self._context = context
        self._catalog = catalog
        self._reconciler = reconciler

    def restore_holds(self) -> None:
        """Hold opens for what was found before and not acknowledged."""
        self._reconciler.restore_holds()

    async def start(self) -> asyncio.Task[None]:
        """Compare before opens begin, for no longer than a bound, and return the task that goes on with it."""
        first = asyncio.create_task(self._run(), name="reconcile")
        timer = asyncio.create_task(self._context.clock.sleep(START_S))
        try:
            await asyncio.wait({first, timer}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            first.cancel()
            raise
        finally:
            timer.cancel()
        return asyncio.create_task(self._go_on(first), name="reconciling")

    async def _go_on(self, first: asyncio.Task[None]) -> None:
        try:
            await first
            while True:
                await self._context.clock.sleep(self._context.settings.reconcile_interval_s)
                await self._run()
        finally:
            first.cancel()

    async def _run(self) -> None:
        """Compare once; a run that fails is told of, and the next one is made all the same."""
        try:
            await self._reconciler.run()
        except LedgerError:
            log.warning("reconciliation_failed", exc_info=True)
        except Exception:
            log.exception("reconciliation_failed")
            self._context.observer.alert("reconciliation_failed")

    async def reconcile(self) -> None:
        """Hold every venue against the books now."""
        await self._reconciler.run()

    def reconciliation(
        self,
        *,
        limit: int,
        cursor: str | None,
        kind: FindingKind | None,
        provider: str | None,
        status: FindingStatus | None,
    ) -> Reconciliation:
        """Return the last comparison and a page of findings, newest first; raise `CursorInvalid`."""
        try:
            findings, next_cursor = self._context.ledger.findings(
                limit=limit, cursor=cursor, kind=kind, provider=provider, status=status
            )
        except BadCursor as e:
            raise CursorInvalid("the cursor is none that this service gave") from e
        return Reconciliation(providers=self._reconciler.reports(), findings=findings, next_cursor=next_cursor)

    async def acknowledge(self, finding_id: str, reason: str, caller: str) -> FindingRecord:
        """Note why a finding may stand, and let go the opens that it alone held; raise `FindingNotFound`."""
        now = self._context.clock.now()
        try:
            found = await self._context.ledger.acknowledge_finding(finding_id, reason, caller, now)
        except FindingUnknown as e:
            raise FindingNotFound(str(e), finding_id=finding_id) from e
        self._reconciler.restore_holds()
        return found

    async def adopt(self, provider: str, market: str, side: Side | None, caller: str) -> PositionRecord:
        """Make a position of the foreign part, as a comparison made now shows it; no side takes it where it is but one.

        Raises:
            NothingForeignHeld, EntryPriceUnknown, ProviderUnknown, SideNeeded.
        """
        if provider not in self._context.providers:
            raise ProviderUnknown(
                f"{provider!r} is not configured", provider=provider, providers=sorted(self._context.providers)
            )
        await self._reconciler.run()
        part = self._foreign(provider, market, side)
        held = await self._catalog.held(provider, market, part.side)
        entry_price = None if held is None else held.entry_price
        now = self._context.clock.now()
        try:
            position = await self._context.ledger.adopt(
                provider, part.holding, entry_price=entry_price, caller=caller, at=now
            )
        except NothingForeign as e:
            raise NothingForeignHeld(str(e), provider=provider, market=market) from e
        except EntryUnknown as e:
            raise EntryPriceUnknown(str(e), provider=provider, market=market) from e
        await self._reconciler.run()
        return position

    def _foreign(self, provider: str, market: str, side: Side | None) -> ForeignPart:
        parts = [
            part
            for part in self._context.ledger.foreign_parts(provider)
            if part.market == market and side in {None, part.side}
        ]
        if not parts:
            which = market if side is None else f"the {side} side of {market}"
            raise NothingForeignHeld(
                f"nothing foreign is held on {which} on {provider}", provider=provider, market=market
            )
        if len(parts) > 1:
            raise SideNeeded(f"{provider} holds both sides of {market}: say which", provider=provider, market=market)
        return parts[0]
