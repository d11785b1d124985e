"""Finding out what became of attempts, and writing it down: outcomes, lock generations, their holders."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from providers.base.errors import NotLanded, Phase, ProviderError
from providers.base.types import Evidence, LockRef, Outcome, OutcomeState, Purpose, Submission
from router.engine.context import EngineContext
from router.engine.differences import WALLET, signature_finding
from router.engine.pricing import slippage_bps_of
from router.ledger.protocol import Ledger, LedgerError
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    Finding,
    FindingKind,
    OrderStatus,
    OrderView,
    SecondaryState,
)

__all__ = ["Settlement", "holder_verdict", "lock_ref", "lock_refs", "order_view", "submission_of"]

log = logging.getLogger(__name__)

FILLED_STATES = frozenset({AttemptState.FILLED, AttemptState.PARTIALLY_FILLED})


class Settlement:
    """Asks providers what attempts became, and books what is proven. Holds no state; safe to repeat at any time."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._ledger = context.ledger
        self._clock = context.clock

    async def poll(self, order_id: str, attempts: Iterable[AttemptRecord], past: frozenset[str] = frozenset()) -> None:
        """Ask once about each of these attempts; one that cannot be booked does not keep the others from being asked.

        Args:
            order_id: whose attempts they are.
            attempts: to ask about.
            past: ids of those that were shown before this call to be past landing: what is proven of them now is final.

        Raises:
            Exception: the first that a booking raised, after all were asked.
        """
        failed: Exception | None = None
        for attempt in attempts:
            outcome = await self._ask(order_id, attempt)
            if outcome is None:
                continue
            shut_out = outcome.state in {OutcomeState.DEAD, OutcomeState.SUPERSEDED} and not outcome.executed
            if shut_out and attempt.attempt_id in past:
                outcome = msgspec.structs.replace(outcome, finalized=True)
            try:
                await self.book(order_id, attempt, outcome)
            except Exception as e:  # noqa: BLE001 - raised again below; the next attempt may have filled
                failed = failed or e
        if failed is not None:
            raise failed

    async def _ask(self, order_id: str, attempt: AttemptRecord) -> Outcome | None:
        """Return what the provider says of an attempt now; null where there is no such provider any more."""
        provider = self._context.providers.get(attempt.provider)
        if provider is None:
            if not attempt.state.final:
                # The chain was configured anew while this attempt was open: nobody can settle it until it is back.
                self._context.hold_opens("provider_missing", f"{attempt.provider} has unsettled attempts")
            return None
        began = self._clock.monotonic()
        try:
            outcome = await provider.settle(submission_of(attempt))
        except ProviderError as e:
            log.info("settle_unclear", extra={"order_id": order_id, "code": e.code, "detail": e.detail})
            outcome = Outcome(state=OutcomeState.UNKNOWN, resting=attempt.resting)
        except Exception:
            # A fault of ours must neither stop settling nor pass for an answer.
            log.exception("settle_failed", extra={"order_id": order_id, "attempt_id": attempt.attempt_id})
            self._context.observer.alert("settle_failed")
            outcome = Outcome(state=OutcomeState.UNKNOWN, resting=attempt.resting)
        self._context.observer.stage("settle", attempt.provider, self._clock.monotonic() - began)
        return outcome

    async def book(self, order_id: str, attempt: AttemptRecord, outcome: Outcome) -> None:
        """Write down an outcome and what it means for the lock generation that the attempt carries."""
        if outcome.state is OutcomeState.UNKNOWN:
            await self._book_unknown(order_id, attempt, outcome)
            return
        if attempt.state in FILLED_STATES and outcome.state in {OutcomeState.DEAD, OutcomeState.SUPERSEDED}:
            # A fork took back what was confirmed. The order is unclear again, and goes on from there.
            log.error("fill_taken_back", extra={"order_id": order_id, "attempt_id": attempt.attempt_id})
            self._context.observer.alert("fill_taken_back")
            await self.record(attempt, Outcome(state=OutcomeState.UNKNOWN))
            return
        if attempt.state is AttemptState.DEAD and outcome.fills:
            await self._report_violation(attempt, "was proven dead, and filled")
        if outcome.state is OutcomeState.SUPERSEDED:
            await self._book_superseded(order_id, attempt, outcome)
            return
        await self.record(attempt, outcome)
        submission = submission_of(attempt)
        leaves_nothing = outcome.state is OutcomeState.DEAD and outcome.landed and outcome.executed
        if leaves_nothing and submission.lock is not None:
            # Proof 3: it holds the lock and left nothing, so the next generation may begin.
            await self.close_domain(order_id, attempt.generation, submission.handle)

    async def _book_superseded(self, order_id: str, attempt: AttemptRecord, outcome: Outcome) -> None:
        """Write down who shut an attempt out, and look at a holder that was believed dead."""
        view = order_view(self._ledger, order_id)
        outcome, over = holder_verdict(view, attempt, outcome)
        lost = over and await self._lost(view, attempt.generation, outcome.holder)
        if lost is None:
            return  # who holds it cannot be seen any more: asked again at the next look
        if lost:
            by_lost = Evidence(kind="lost_attempt_holds_lock", signature=outcome.holder, slot=outcome.slot)
            error = NotLanded("an attempt that is not on record holds the order lock", phase=Phase.ANSWERED).info()
            outcome = msgspec.structs.replace(outcome, error=error, evidence=(by_lost,))
        if attempt.state is AttemptState.DEAD:
            # It had died before the lock was taken: that stands, whoever has the lock since.
            outcome = msgspec.structs.replace(outcome, state=OutcomeState.DEAD, error=attempt.error, evidence=())
        await self.record(attempt, outcome)
        if over and not lost:
            await self.close_domain(order_id, attempt.generation, outcome.holder)
        if over:
            return
        holder = next(a for a in view.attempts if a.submission is not None and a.submission.handle == outcome.holder)
        if holder.state is AttemptState.DEAD and not holder.executed:
            # Who holds the lock has executed, whatever was proven of it before: nothing may go on until it is settled.
            await self._report_violation(holder, "was proven dead, and holds the order lock")
            await self.record(holder, Outcome(state=OutcomeState.UNKNOWN, landed=True, executed=True))

    async def _report_violation(self, attempt: AttemptRecord, what: str) -> None:
        """Hold opens, now and after a restart, until a person has acknowledged the finding."""
        log.critical("promise_violation", extra={"order_id": attempt.order_id, "attempt_id": attempt.attempt_id})
        self._context.hold_opens("promise_violation", f"{attempt.attempt_id} {what}")
        finding = Finding(
            kind=FindingKind.PROMISE_VIOLATION,
            provider=attempt.provider,
            market=order_view(self._ledger, attempt.order_id).order.market,
            subject=attempt.attempt_id,
            detail={"order_id": attempt.order_id, "attempt_id": attempt.attempt_id, "what": what},
        )
        await self._ledger.find(finding, self._clock.now())
        # A look at the findings in between may have let go what was not on record yet.
        self._context.hold_opens("promise_violation", f"{attempt.attempt_id} {what}")

    async def record(self, attempt: AttemptRecord, outcome: Outcome) -> None:
        """Make an outcome durable, then count it."""
        await self._ledger.record_outcome(attempt.attempt_id, outcome, self._clock.now())
        if attempt.state.final:
            return
        error_class = None if outcome.error is None else outcome.error.error_class
        self._context.observer.attempt_ended(attempt.provider, AttemptState(outcome.state.value), error_class)
        if error_class is not None and error_class.wants_alert:
            self._context.observer.alert(error_class.value)
        self._measure_slippage(attempt, outcome)
        log.info(
            "attempt_ended",
            extra={
                "order_id": attempt.order_id,
                "attempt_id": attempt.attempt_id,
                "provider": attempt.provider,
                "outcome": outcome.state.value,
                "code": None if outcome.error is None else outcome.error.code,
            },
        )

    async def close_domain(self, order_id: str, generation: int, holder: str | None) -> None:
        """Let the next generation begin, and give the fences of this one their end.

        Only called when the generation's holder is proven to leave nothing.
        """
        now = self._clock.now()
        view = order_view(self._ledger, order_id)
        if generation < view.generation:
            return  # found again: it is closed, and what there was to say of it was said
        if holder is not None and not _is_ours(view, holder):
            await self._ledger.note("stranger_holds_lock", now, order_id=order_id, detail={"holder": holder})
            self._context.observer.alert("stranger_holds_lock")
        await self._ledger.close_domain(order_id, 0, generation, now)
        for secondary in view.secondaries:
            if secondary.purpose is not Purpose.FENCE or secondary.generation != generation:
                continue
            held = secondary.submission.handle == holder
            self._context.observer.fenced("held" if held else "lost")
            state = SecondaryState.LANDED if held else SecondaryState.DEAD
            await self._ledger.set_secondary(secondary.secondary_id, state, now)

    async def resolve_holder(self, order_id: str, generation: int) -> bool:
        """Find out who holds a generation that was found held while preparing; false when that is not clear yet."""
        view = order_view(self._ledger, order_id)
        ref = lock_ref(view, generation)
        if self._context.lock is None or ref is None:
            raise LedgerError(f"order {order_id} has no lock that could be held")
        handles = [a.submission.handle for a in view.attempts if a.submission and a.generation == generation]
        handles += [s.submission.handle for s in view.secondaries if s.generation == generation]
        try:
            state = await self._context.lock.state(ref, handles)
        except ProviderError as e:
            log.info("holder_unclear", extra={"order_id": order_id, "code": e.code, "detail": e.detail})
            return False
        if not state.held or state.holder is None:
            return False
        sibling = next((a for a in view.attempts if a.submission and a.submission.handle == state.holder), None)
        if sibling is None:
            if await self._lost(view, generation, state.holder) is not False:
                return False
            await self.close_domain(order_id, generation, state.holder)
            return True
        # One of ours executed that was thought dead, or whose end was not written down: look at it again.
        await self.poll(order_id, (sibling,))
        after = order_view(self._ledger, order_id)
        return after.generation > generation or any(
            a.attempt_id == sibling.attempt_id and a.state in FILLED_STATES for a in after.attempts
        )

    async def _lost(self, view: OrderView, generation: int, holder: str | None) -> bool | None:
        """Whether the holder of a generation is an attempt of ours that is not on record; null while that is not clear.

        A restored backup or a damaged file has lost it. It executed and may have filled, so no next generation may
        begin: that would fill the order a second time. Opens are held; what it filled the venue's account shows beside
        the lots.
        """
        ref = lock_ref(view, generation)
        if holder is None or _is_ours(view, holder) or self._context.lock is None or ref is None:
            return False
        try:
            state = await self._context.lock.state(ref, (holder,))
        except ProviderError as e:
            log.info("holder_unclear", extra={"order_id": view.order.order_id, "code": e.code, "detail": e.detail})
            return None
        if not state.held or state.holder != holder:
            return None
        if not state.holder_number:
            return False  # a stranger's, or a fence of ours: it leaves nothing
        if await self._ledger.find(signature_finding(WALLET, holder), self._clock.now()) is not None:
            log.critical("lost_attempt_found", extra={"order_id": view.order.order_id, "signature": holder})
            reason = f"{holder} is an attempt of {view.order.order_id} that is not on record"
            self._context.hold_opens(FindingKind.UNKNOWN_SIGNATURE.value, reason)
        return True

    async def _book_unknown(self, order_id: str, attempt: AttemptRecord, outcome: Outcome) -> None:
        """Write down what is new about an attempt that stays unclear; say so on the order once patience is over."""
        view = order_view(self._ledger, order_id)
        known = {fill.fill.venue_fill_id for fill in view.fills}
        news = any(fill.venue_fill_id not in known for fill in outcome.fills)
        if attempt.state.final:
            # A look that shows nothing takes back nothing; one that shows it on the chain after all takes back a death.
            shut_out = attempt.state in {AttemptState.DEAD, AttemptState.SUPERSEDED} and not attempt.executed
            if news or (shut_out and outcome.executed):
                await self._report_violation(attempt, f"was {attempt.state}, and executed")
                await self.record(attempt, outcome)
            return
        impatient = self._clock.now() - attempt.started_at >= self._context.settings.patience.unproven
        unclear = outcome.landed is not True and impatient
        changed = outcome.resting != attempt.resting or (
            outcome.landed is not None and outcome.landed != attempt.landed
        )
        if news or changed or (unclear and attempt.state is not AttemptState.UNKNOWN):
            await self._ledger.record_outcome(attempt.attempt_id, outcome, self._clock.now())
        if unclear and view.order.status is OrderStatus.PENDING:
            await self._ledger.finish_order(order_id, OrderStatus.UNKNOWN, self._clock.now())

    def _measure_slippage(self, attempt: AttemptRecord, outcome: Outcome) -> None:
        order = order_view(self._ledger, attempt.order_id).order
        size = sum((fill.size for fill in outcome.fills), Decimal(0))
        if not size or not order.expected_price:
            return
        price = sum((fill.size_usd for fill in outcome.fills), Decimal(0)) / size
        self._context.observer.slippage(
            attempt.provider, slippage_bps_of(order.kind, order.side, order.expected_price, price)
        )


def holder_verdict(view: OrderView, attempt: AttemptRecord, outcome: Outcome) -> tuple[Outcome, bool]:
    """Turn a provider's `superseded` into what it is for this order.

    Returns:
        The outcome to record, and whether the generation is over: its holder is our fence or a stranger, so every
        attempt of it is dead (proof 5). With a sibling as holder the attempt stays `superseded` until that is settled.

    Raises:
        ValueError: the attempt itself is named as the holder, which is no supersession.
    """
    holder = outcome.holder
    if holder is None or holder == submission_of(attempt).handle:
        raise ValueError(f"attempt {attempt.attempt_id} cannot be superseded by {holder}")
    if any(a.submission is not None and a.submission.handle == holder for a in view.attempts):
        return outcome, False
    fenced = any(s.submission.handle == holder for s in view.secondaries)
    who = "our fence" if fenced else "a stranger"
    evidence = Evidence(kind="fenced" if fenced else "stranger_holds_lock", signature=holder, slot=outcome.slot)
    dead = msgspec.structs.replace(
        outcome,
        state=OutcomeState.DEAD,
        executed=False,
        error=NotLanded(f"{who} holds the order lock", phase=Phase.ANSWERED).info(),
        evidence=(*outcome.evidence, evidence),
    )
    return dead, True


def lock_ref(view: OrderView, generation: int) -> LockRef | None:
    """Return one generation of the order's lock; null where the order has none."""
    return None if view.order.lock is None else LockRef(terms=view.order.lock, part=0, generation=generation)


def lock_refs(view: OrderView) -> tuple[LockRef, ...]:
    """Return every lock generation that an attempt or fence of the order could have taken."""
    generations = {a.generation for a in view.attempts if a.submission is not None}
    generations |= {s.generation for s in view.secondaries if s.purpose is Purpose.FENCE}
    refs = (lock_ref(view, generation) for generation in sorted(generations))
    return tuple(ref for ref in refs if ref is not None)


def submission_of(attempt: AttemptRecord) -> Submission:
    """Return the submission; every attempt that was not refused has one."""
    if attempt.submission is None:
        raise LedgerError(f"attempt {attempt.attempt_id} has no submission")
    return attempt.submission


def order_view(ledger: Ledger, order_id: str) -> OrderView:
    """Return an order that must exist."""
    view = ledger.order(order_id)
    if view is None:
        raise LedgerError(f"order {order_id} is not in the ledger")
    return view


def _is_ours(view: OrderView, handle: str) -> bool:
    handles = {a.submission.handle for a in view.attempts if a.submission is not None}
    return handle in handles or any(s.submission.handle == handle for s in view.secondaries)
