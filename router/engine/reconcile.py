"""Reconciliation: what the venues and the wallet say, held against the ledger, on start, at intervals and on demand.

What the chain's history proves is booked; what it does not is a finding, and lots stay as they are. Nothing here sends
anything, and nothing here keeps a close, a cancel or a fence from being sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, cast

import msgspec

from providers.base.errors import ProviderError
from providers.base.protocol import Provider, Reconcilable, SignerHistory
from providers.base.types import Holdings, VenueEvent, VenueHistory, VenueOrder
from router.engine import differences
from router.engine.context import EngineContext
from router.engine.differences import WALLET
from router.engine.plan import unresolved
from router.engine.reports import MarketReport, MarketStatus, ProviderReport, ReportStatus
from router.engine.settlement import Settlement, order_view
from router.ledger.protocol import LedgerError
from router.ledger.records import AttemptState, Finding, FindingKind, FindingRecord, FindingStatus, Watermark

__all__ = ["HOLDING_KINDS", "WALLET", "Reconciler"]

log = logging.getLogger(__name__)

HOLDING_KINDS: Final = (FindingKind.UNKNOWN_SIGNATURE, FindingKind.PROMISE_VIOLATION)
"""Findings that hold opens while they are open."""

GAP_S: Final = 600.0
"""How long a history that cannot be read whole (pruned, truncated) is asked for again before it is passed over."""

RUN_S: Final = 30.0
"""For one provider: a node that hangs must not keep the others from being read."""


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """How a reading of the history went.

    Attributes:
        whole: nothing was missing to its end.
        through: its last transaction, where it was whole and every event found its place.
    """

    whole: bool
    through: str | None


class Reconciler:
    """Runs one comparison at a time and keeps the last report of each provider.

    Args:
        wallet: what our key has signed; null where nobody can tell.
        known_elsewhere: whether a signature is on record in another ledger of this service (account commands).
        reopen: called with an order that has become unclear again; starts its runner.
    """

    def __init__(
        self,
        context: EngineContext,
        *,
        wallet: SignerHistory | None = None,
        known_elsewhere: Callable[[str], bool] | None = None,
        reopen: Callable[[str], None] | None = None,
    ) -> None:
        self._context = context
        self._ledger = context.ledger
        self._clock = context.clock
        self._wallet = wallet
        self._known_elsewhere = known_elsewhere
        self._reopen = reopen
        self._settlement = Settlement(context)
        self._running = asyncio.Lock()
        self._reports: dict[str, ProviderReport] = {}
        self._gaps: dict[str, float] = {}

    def reports(self) -> tuple[ProviderReport, ...]:
        """Return the last report of every provider, in chain order, the wallet last."""
        names = [*self._context.providers, *([WALLET] if self._wallet is not None else [])]
        now = self._clock.now()
        waiting = ProviderReport(
            provider="", status=ReportStatus.SKIPPED, detail="not reconciled yet", slot=None, as_of=now
        )
        return tuple(self._reports.get(name) or msgspec.structs.replace(waiting, provider=name) for name in names)

    def restore_holds(self) -> None:
        """Hold opens for every open finding that asks for it, and let go what has none: a restart lifts nothing."""
        by_kind: dict[FindingKind, list[FindingRecord]] = {kind: [] for kind in HOLDING_KINDS}
        standing = self._ledger.standing_findings()
        for found in standing:
            if found.kind in by_kind and found.status is FindingStatus.OPEN:
                by_kind[found.kind].append(found)
        for kind, open_ones in by_kind.items():
            if open_ones:
                first = open_ones[0]
                self._context.hold_opens(kind.value, f"{first.finding_id}: {kind.value} of {first.subject}")
            else:
                self._context.release_opens(kind.value)
        counts = Counter((f.kind.value, f.provider) for f in standing if f.status is FindingStatus.OPEN)
        self._context.observer.findings_open(counts)

    async def run(self) -> tuple[ProviderReport, ...]:
        """Hold every provider and the wallet against the ledger now; runs follow one another."""
        async with self._running:
            for name, provider in self._context.providers.items():
                self._report(await self._guarded(name, partial(self._provider, provider)))
            if self._wallet is not None:
                self._report(await self._guarded(WALLET, partial(self._check_wallet, self._wallet)))
            self.restore_holds()
        return self.reports()

    def _report(self, report: ProviderReport) -> None:
        self._reports[report.provider] = report
        self._context.observer.reconciled(report.provider, report.status.value)

    async def _guarded(self, name: str, work: Callable[[], Awaitable[ProviderReport]]) -> ProviderReport:
        """Return the report of one provider; whatever goes wrong is in it."""
        try:
            async with asyncio.timeout(RUN_S):
                return await work()
        except TimeoutError:
            detail = f"no answer within {RUN_S:.0f} s"
        except (ProviderError, LedgerError) as e:
            detail = f"{e.code}: {e.detail}" if isinstance(e, ProviderError) else str(e)
            log.warning("reconciliation_failed", extra={"provider": name, "detail": detail})
        except Exception:
            log.exception("reconciliation_failed", extra={"provider": name})
            self._context.observer.alert("reconciliation_failed")
            detail = "a fault of the router's; the log has it"
        return ProviderReport(
            provider=name, status=ReportStatus.ERROR, detail=detail, slot=None, as_of=self._clock.now()
        )

    # -- one provider --------------------------------------------------------------------------------------------

    async def _provider(self, provider: Provider) -> ProviderReport:
        name = provider.name
        venue = _reconcilable(provider)
        if venue is None:
            return ProviderReport(
                provider=name,
                status=ReportStatus.SKIPPED,
                detail="the provider does not tell what it holds in a way that could be held against the books",
                slot=None,
                as_of=self._clock.now(),
            )
        busy_before = self._ledger.busy_markets(name)
        holdings = await venue.holdings(max(self._ledger.booked_slots(name).values(), default=0))
        mark = self._ledger.watermark(name)
        reports = self._compare(provider, holdings, busy_before)
        why = "the history shows nothing that explains it"
        # Without a mark the first fill of ours is one: what came before it is of no lot.
        since = self._ledger.first_fill_signature(name) if mark is None else mark.signature
        if since is not None:
            # Also where books and venue agree: what others did may cancel out, and a liquidation is told all the same.
            read = await self._read_on(provider, venue, since, holdings, busy_before, moves=mark is not None)
            reports = self._compare(provider, holdings, busy_before)
            if not read.whole:
                why = "the history could not be read whole"
            if mark is not None:
                reports = await self._take_as_foreign(provider, holdings, reports, busy_before)
            elif read.through is not None:
                reports = await self._first_look(provider, holdings, reports, busy_before, read.through)
            await self._pass_gap(venue, name, holdings, reports, whole=read.whole)
        else:
            newest = (await venue.history(None, holdings.slot)).newest
            reports = await self._first_look(provider, holdings, reports, busy_before, newest)
        await self._write_findings(name, holdings, reports, why)
        await self._check_orders(name, holdings, busy_before)
        status = ReportStatus.DIFFERS if any(r.status is MarketStatus.DIFFERS for r in reports) else ReportStatus.OK
        return ProviderReport(
            provider=name, status=status, detail="", slot=holdings.slot, as_of=self._clock.now(), markets=reports
        )

    async def _read_on(
        self,
        provider: Provider,
        venue: Reconcilable,
        since: str,
        holdings: Holdings,
        busy_before: frozenset[str],
        *,
        moves: bool,
    ) -> _Read:
        """Book what the history after `since` shows, part by part; if `moves`, move the mark past each.

        The mark stops before the first part in which anything is left open or could not be read.
        """
        while True:
            history = await venue.history(since, holdings.slot)
            settled = await self._book_history(provider.name, history, holdings, busy_before)
            if moves and settled and (history.complete or history.more):
                await self._move_mark(provider.name, history.newest, holdings.slot)
            if not settled or not history.more or history.newest is None:
                return _Read(whole=history.complete, through=history.newest if settled and history.complete else None)
            since = history.newest

    async def _first_look(
        self,
        provider: Provider,
        holdings: Holdings,
        reports: tuple[MarketReport, ...],
        busy_before: frozenset[str],
        newest: str | None,
    ) -> tuple[MarketReport, ...]:
        """Take as foreign what was there before us, and set the first mark once no market is busy.

        Before that mark there is nobody to ask: what a busy market held from before us would stay unexplained.
        """
        reports = await self._take_surplus(provider, holdings, reports, busy_before)
        if not any(report.status is MarketStatus.BUSY for report in reports):
            await self._move_mark(provider.name, newest, holdings.slot)
        return reports

    async def _pass_gap(
        self, venue: Reconcilable, name: str, holdings: Holdings, reports: tuple[MarketReport, ...], *, whole: bool
    ) -> None:
        """Move the mark past what no node can show any more, once books and venue have agreed in spite of it for long.

        While they differ it stays: what is missing may be what explains the difference.
        """
        if whole or any(report.status is not MarketStatus.OK for report in reports):
            self._gaps.pop(name, None)
            return
        now = self._clock.monotonic()
        if now - self._gaps.setdefault(name, now) < GAP_S:
            return
        del self._gaps[name]
        log.warning("history_gap_passed", extra={"provider": name, "slot": holdings.slot})
        self._context.observer.alert("history_gap_passed")
        await self._move_mark(name, (await venue.history(None, holdings.slot)).newest, holdings.slot)

    def _busy(self, name: str, holdings: Holdings, before: frozenset[str]) -> frozenset[str]:
        """Return the markets of which books and holdings may tell of different moments."""
        later = {market for market, slot in self._ledger.booked_slots(name).items() if slot > holdings.slot}
        return before | self._ledger.busy_markets(name) | later

    def _compare(self, provider: Provider, holdings: Holdings, busy_before: frozenset[str]) -> tuple[MarketReport, ...]:
        name, netting = provider.name, provider.capabilities.netting
        lots = self._ledger.lot_sizes(name, netting=netting)
        foreign = {part.holding: part.signed_size for part in self._ledger.foreign_parts(name)}
        return differences.compare(holdings, lots, foreign, self._busy(name, holdings, busy_before), netting=netting)

    async def _take_surplus(
        self, provider: Provider, holdings: Holdings, reports: tuple[MarketReport, ...], busy_before: frozenset[str]
    ) -> tuple[MarketReport, ...]:
        """Take what was there before us as foreign; what is missing stays a difference."""
        for report in reports:
            if report.status is MarketStatus.DIFFERS and differences.is_surplus(report):
                because = "held before this ledger began to watch"
                await self._set_foreign(provider.name, holdings, report, because=because)
        return self._compare(provider, holdings, busy_before)

    async def _book_history(
        self, name: str, history: VenueHistory, holdings: Holdings, busy_before: frozenset[str]
    ) -> bool:
        """Book what others did; return whether every event has found its place."""
        await self._settle_triggers(name, history)
        events = differences.sort_events(
            history.events,
            busy=self._busy(name, holdings, busy_before),
            is_booked=lambda fill_id: self._ledger.is_booked(name, fill_id),
            is_attempts=lambda signature: self._ledger.attempt_of_handle(signature) is not None,
        )
        for event in events.outside:
            explain = partial(differences.event_finding, name, event)
            booked = await self._ledger.book_outside(name, event, self._clock.now(), explain=explain)
            log.warning(
                "outside_fill_booked",
                extra={"provider": name, "market": event.market, "signature": event.signature, "new": booked.new},
            )
            self._announce(booked.finding)
        for event in events.unbooked:
            await self._settle(name, event)
        still = [e for e in events.unbooked if not self._ledger.is_booked(name, e.venue_fill_id)]
        return not events.left and not still

    async def _settle_triggers(self, name: str, history: VenueHistory) -> None:
        """Ask about our triggers before a trade of nobody's is taken for others': a keeper's transaction fires them."""
        markets = {
            event.market
            for event in history.events
            if not self._ledger.is_booked(name, event.venue_fill_id)
            and self._ledger.attempt_of_handle(event.signature) is None
        }
        if not markets:
            return
        for view in self._ledger.open_orders():
            if view.order.trigger is not None and view.order.market in markets:
                await self._settlement.poll(view.order.order_id, [a for a in unresolved(view) if a.provider == name])

    async def _settle(self, name: str, event: VenueEvent) -> None:
        """Have a known attempt settled whose fill the venue shows and the books do not."""
        known = self._ledger.attempt_of_handle(event.signature)
        if known is None:
            return
        order_id, attempt_id = known
        attempt = next(a for a in order_view(self._ledger, order_id).attempts if a.attempt_id == attempt_id)
        if attempt.state in {AttemptState.DEAD, AttemptState.SUPERSEDED}:
            await self._find(differences.violation_finding(name, event, order_id, attempt_id))
            self.restore_holds()
        await self._settlement.poll(order_id, (attempt,))
        if self._reopen is not None and not order_view(self._ledger, order_id).order.status.final:
            self._reopen(order_id)

    async def _take_as_foreign(
        self, provider: Provider, holdings: Holdings, reports: tuple[MarketReport, ...], busy_before: frozenset[str]
    ) -> tuple[MarketReport, ...]:
        """Where no lot is at stake, what the venue holds is what is not ours, whatever brought it there."""
        for report in reports:
            if report.status is MarketStatus.DIFFERS and not report.booked_size:
                await self._set_foreign(provider.name, holdings, report, because="the venue holds it, and no lot does")
        return self._compare(provider, holdings, busy_before)

    async def _set_foreign(self, name: str, holdings: Holdings, report: MarketReport, *, because: str) -> None:
        size = report.venue_size - report.booked_size
        # The venue's entry price is of the whole slot: the foreign part's own only where it is all of it.
        holding = report.holding
        own = next(
            (
                p.entry_price
                for p in holdings.positions
                if p.market == holding.market and holding.side in {None, p.side}
            ),
            None,
        )
        before = self._ledger.foreign_part(name, holding)
        kept = None if before is None else before.entry_price
        await self._ledger.set_foreign_part(
            name,
            holding,
            size,
            entry_price=kept if report.booked_size else own,
            at=self._clock.now(),
            because=because,
        )

    async def _move_mark(self, name: str, newest: str | None, slot: int) -> None:
        if newest is not None:
            mark = self._ledger.watermark(name)
            if mark is None or mark.signature != newest:
                await self._ledger.set_watermark(name, Watermark(signature=newest, slot=slot), self._clock.now())

    # -- findings ------------------------------------------------------------------------------------------------

    async def _find(self, finding: Finding) -> None:
        self._announce(await self._ledger.find(finding, self._clock.now()))

    def _announce(self, new: FindingRecord | None) -> None:
        """Tell of a finding once: when it is new."""
        if new is None:
            return
        log.error(
            "reconciliation_finding",
            extra={
                "finding_id": new.finding_id,
                "kind": new.kind.value,
                "provider": new.provider,
                "market": new.market,
                "subject": new.subject,
                "detail": new.detail,
            },
        )
        self._context.observer.alert(new.kind.value)

    async def _write_findings(self, name: str, holdings: Holdings, reports: Iterable[MarketReport], why: str) -> None:
        """Say what differs and what is foreign, and take away what was said of the markets that agree again."""
        by_subject = {str(report.holding): report for report in reports}
        foreign = {str(part.holding): part for part in self._ledger.foreign_parts(name)}
        for part in foreign.values():
            await self._find(differences.foreign_finding(part))
        for report in by_subject.values():
            if report.status is MarketStatus.DIFFERS:
                await self._find(differences.size_finding(name, report, holdings.slot, why))
        for found in self._ledger.standing_findings():
            if found.provider != name:
                continue
            known = by_subject.get(found.subject)
            gone = found.kind is FindingKind.FOREIGN_POSITION and found.subject not in foreign
            agrees = known is None or known.status is MarketStatus.OK
            if gone or (found.kind is FindingKind.SIZE_DIFFERS and agrees):
                await self._resolve(found, "nothing foreign is held" if gone else "books and venue agree")

    async def _check_orders(self, name: str, holdings: Holdings, busy_before: frozenset[str]) -> None:
        """Find resting orders that nobody here waits for."""
        busy = self._busy(name, holdings, busy_before)
        resting = {order.venue_order_id for order in holdings.orders}
        for order in holdings.orders:
            why = None if order.market in busy else self._orphaned(order)
            if why is not None:
                await self._find(differences.orphan_finding(order, holdings.slot, why))
        for found in self._ledger.standing_findings():
            if (found.provider, found.kind) == (name, FindingKind.ORPHAN_ORDER) and found.subject not in resting:
                await self._resolve(found, "it rests no longer")

    def _orphaned(self, order: VenueOrder) -> str | None:
        """Say why nobody here waits for a resting order; null when an attempt does."""
        if order.placed_by is None:
            return "the history does not show who placed it"
        known = self._ledger.attempt_of_handle(order.placed_by)
        if known is None:
            return "no attempt of this ledger placed it"
        order_id, attempt_id = known
        attempt = next(a for a in order_view(self._ledger, order_id).attempts if a.attempt_id == attempt_id)
        until = None if attempt.submission is None else attempt.submission.may_fill_until
        if not attempt.state.final or (until is not None and until <= self._clock.now()):
            # Past its end an order can only lie there until the venue clears it away.
            return None
        return f"{attempt_id} placed it, and counts as {attempt.state.value}"

    async def _resolve(self, found: FindingRecord, reason: str) -> None:
        if await self._ledger.resolve_finding(found.finding_id, reason, self._clock.now()):
            log.info("finding_resolved", extra={"finding_id": found.finding_id, "kind": found.kind.value})

    # -- the wallet ----------------------------------------------------------------------------------------------

    async def _check_wallet(self, wallet: SignerHistory) -> ProviderReport:
        """Find what our key has signed and nobody here wrote down: a restored backup, a second router on the key."""
        mark = self._ledger.watermark(WALLET)
        slot = max((r.slot for r in self._reports.values() if r.slot is not None), default=None)
        if slot is None:
            return ProviderReport(
                provider=WALLET,
                status=ReportStatus.SKIPPED,
                detail="no provider could tell the slot to read through",
                slot=None,
                as_of=self._clock.now(),
            )
        # Ours are written down before they are sent: however new, each is known or is not ours.
        signatures, newest = await wallet.own_transactions(None if mark is None else mark.signature, slot)
        unknown = [signature for signature in signatures if not self._known(signature)]
        for signature in unknown:
            await self._find(differences.signature_finding(WALLET, signature))
        await self._move_mark(WALLET, newest, slot)
        standing = [
            f for f in self._ledger.standing_findings() if f.provider == WALLET and f.status is FindingStatus.OPEN
        ]
        return ProviderReport(
            provider=WALLET,
            status=ReportStatus.DIFFERS if standing else ReportStatus.OK,
            detail=f"{len(standing)} transactions of our key that nobody here wrote down" if standing else "",
            slot=slot,
            as_of=self._clock.now(),
        )

    def _known(self, signature: str) -> bool:
        if self._ledger.knows_handle(signature):
            return True
        return self._known_elsewhere is not None and self._known_elsewhere(signature)


def _reconcilable(provider: Provider) -> Reconcilable | None:
    """Return the provider as one that can be held against the books; null where it has no such questions."""
    able = callable(getattr(provider, "holdings", None)) and callable(getattr(provider, "history", None))
    return cast("Reconcilable", provider) if able else None
