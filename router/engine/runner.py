"""One order, from its first quote to its end: does the steps that the plan names, and writes down what came of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from datetime import datetime
from decimal import Decimal
from functools import partial

from providers.base.clock import new_id
from providers.base.errors import (
    ErrorInfo,
    FeePayerShort,
    InvalidSize,
    InvalidTrigger,
    LockHeld,
    NothingLeft,
    Phase,
    ProviderError,
    RequestRejected,
    TimedOut,
    Unreachable,
    WouldNet,
)
from providers.base.protocol import OrderLock, Provider
from providers.base.types import (
    Ack,
    Evidence,
    OrderKind,
    OrderTerms,
    Outcome,
    OutcomeState,
    QuoteTerms,
    Submission,
)
from router.engine.blocked import attempt_expiry, same_refusal, standing_block
from router.engine.closing import room_to_close
from router.engine.context import EngineContext
from router.engine.holdings import opposite_holding, stray_trigger
from router.engine.plan import (
    CancelResting,
    Fence,
    Finish,
    FixTerms,
    PlanContext,
    Settle,
    Step,
    Supersede,
    Try,
    Wait,
    next_step,
    unresolved,
    waits_for_price,
)
from router.engine.preparing import adapter_fault, prepared_by
from router.engine.pricing import worst_price_of
from router.engine.protection_terms import misplaced_leg
from router.engine.settlement import Settlement, lock_ref, order_view, submission_of
from router.ledger.protocol import LedgerError, LimitReached
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    OrderRecord,
    OrderStatus,
    OrderView,
)
from router.ledger.secondaries import send_written_ahead

__all__ = ["OrderRunner"]

log = logging.getLogger(__name__)

# After a write that the ledger did not take, or a fault of our own: slow down, never stop settling.
BACKOFF_S = 1.0


class OrderRunner:
    """Drives one order. Only one runner of an order exists at a time, in one process.

    Args:
        recovered: attempts that an earlier process journaled.
    """

    def __init__(self, context: EngineContext, order_id: str, recovered: Iterable[str] = ()) -> None:
        self._context = context
        self._ledger = context.ledger
        self._clock = context.clock
        self.order_id = order_id
        self._recovered = frozenset(recovered)
        self._last_sent: dict[str, float] = {}
        self._settlement = Settlement(context)
        self._told_block: str | None = None
        self._looked = False
        # Whose quote has just passed the limits: it is not asked for another before its attempt.
        self._quoted: str | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    # -- for the engine ------------------------------------------------------------------------------------------

    def view(self) -> OrderView:
        """Return the order as the ledger has it."""
        return order_view(self._ledger, self.order_id)

    def nudge(self) -> None:
        """Look again now: a cancel was asked for."""
        self._wake.set()

    def next_change(self) -> asyncio.Event:
        """Return the event that is set when the order has taken its next step."""
        return self._changed

    async def run(self) -> None:
        """Take steps until the order has ended."""
        while True:
            try:
                view = self.view()
                if view.order.status.final:
                    return
                await self._do(view, next_step(view, self._plan_context()))
            except LedgerError:
                # What is not durable has not happened: nothing was sent on the strength of it. Try again.
                log.exception("ledger_write_failed", extra={"order_id": self.order_id})
                self._context.observer.alert("ledger_write_failed")
                await self._clock.sleep(BACKOFF_S)
            except Exception:
                # A fault of ours must not leave an order that nobody settles.
                log.exception("order_step_failed", extra={"order_id": self.order_id})
                self._context.observer.alert("order_step_failed")
                await self._clock.sleep(BACKOFF_S)
            finally:
                self._announce()

    async def settle_once(self) -> None:
        """Ask once what became of every unclear attempt (on start, before the service is ready)."""
        view = self.view()
        await self._settlement.poll(self.order_id, unresolved(view))

    # -- steps ---------------------------------------------------------------------------------------------------

    def _plan_context(self) -> PlanContext:
        return PlanContext(
            now=self._clock.now(),
            capabilities=self._context.capabilities,
            patience=self._context.settings.patience,
            recovered=self._recovered,
        )

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _do(self, view: OrderView, step: Step) -> None:
        match step:
            case FixTerms(provider):
                await self._fix_terms(view, provider)
            case Try(provider, generation):
                await self._try(view, provider, generation)
            case Settle(attempts, rebroadcast):
                await self._before_settling(view)
                await self._settlement.poll(self.order_id, attempts)
                if rebroadcast:
                    await self._rebroadcast()
            case Wait(until):
                self._tell_block(view)
                await self._pause((until - self._clock.now()).total_seconds())
            case Fence(generation):
                await self._guarded(self._fence(view, generation), "fence_failed")
                await self._settlement.poll(self.order_id, unresolved(view))
            case CancelResting(attempt):
                await self._guarded(self._cancel(attempt), "cancel_failed")
                await self._settlement.poll(self.order_id, unresolved(view))
            case Supersede(siblings, holder):
                await self._supersede(siblings, holder)
            case Finish(status, error):
                await self._finish(view, status, error)

    async def _before_settling(self, view: OrderView) -> None:
        """Wait as long as there is reason to: a trigger is looked at once when we begin, and then seldom."""
        if not waits_for_price(view):
            await self._pause()
        elif self._looked:
            await self._pause(self._context.settings.trigger_settle_s)
        self._looked = True

    async def _guarded(self, work: Coroutine[None, None, None], event: str) -> None:
        """Do what helps an unclear attempt to its end; a fault of ours in it must not keep us from asking."""
        try:
            await work
        except Exception:
            log.exception(event, extra={"order_id": self.order_id})
            self._context.observer.alert(event)
            await self._pause()

    async def _fix_terms(self, view: OrderView, name: str) -> None:
        """Ask one provider for the first quote; a refusal is written down as its attempt."""
        order = view.order
        if order.trigger is not None:
            await self._fix_trigger_terms(order, order.trigger.price)
            return
        provider = self._context.providers[name]
        began = self._clock.monotonic()
        terms = QuoteTerms(
            kind=order.kind,
            market=order.market,
            side=order.side,
            size=order.requested_size,
            size_usd=order.requested_size_usd,
            leverage=order.leverage,
        )
        guards = self._context.safeguards
        try:
            guards.check_halts(order, name)
            async with asyncio.timeout(self._context.settings.quote_timeout_s):
                quote = await provider.quote(terms)
            # Before the terms: a price that is a fault must not become the order's bound.
            await guards.check_quote(quote, order.kind)
            self._quoted = name
        except TimeoutError:
            await self._refuse(view, name, TimedOut("no quote in time").info())
            return
        except ProviderError as e:
            await self._refuse(view, name, e.info())
            return
        except Exception:  # noqa: BLE001 - logged with its traceback; a quote moves nothing, so the chain goes on
            await self._refuse(view, name, adapter_fault("quote_failed", self.order_id, name))
            return
        self._context.observer.stage("quote", name, self._clock.monotonic() - began)
        misplaced = misplaced_leg(order.protection, order.side, quote.oracle_price, quote.liquidation_price)
        if misplaced is not None:
            await self._refuse(view, name, InvalidTrigger(misplaced.detail).info())
            return
        await self._ledger.fix_terms(
            order.order_id,
            size=order.requested_size if order.requested_size is not None else quote.size,
            worst_price=worst_price_of(
                order.kind, order.side, quote.expected_price, order.slippage_bps, order.requested_worst_price
            ),
            expected_price=quote.expected_price,
            at=self._clock.now(),
        )

    async def _fix_trigger_terms(self, order: OrderRecord, price: Decimal) -> None:
        """Bound a trigger by its own price: what the market is when it fires, nobody knows."""
        if order.requested_size is None:
            raise LedgerError(f"trigger {order.order_id} has no size")
        await self._ledger.fix_terms(
            order.order_id,
            size=order.requested_size,
            worst_price=worst_price_of(order.kind, order.side, price, order.slippage_bps, None),
            expected_price=price,
            at=self._clock.now(),
        )

    async def _try(self, view: OrderView, name: str, generation: int) -> None:
        """Prepare, journal, send: in this order, so that what a node may have is always on record."""
        provider = self._context.providers[name]
        if not await self._may_begin(view, provider):
            return
        if view.order.status is OrderStatus.UNKNOWN and not unresolved(view):
            await self._ledger.finish_order(self.order_id, OrderStatus.PENDING, self._clock.now())
        quoted, self._quoted = self._quoted == name, None
        try:
            await self._context.safeguards.check_attempt(view.order, provider, quoted=quoted)
            attempt = await self._prepared(view, provider, generation)
            journaled = await self._journal(view, provider, attempt)
        except LockHeld:
            if not await self._settlement.resolve_holder(self.order_id, generation):
                await self._pause()
            return
        except ProviderError as e:
            if isinstance(e, FeePayerShort):
                self._context.hold_opens("fee_payer_short", e.detail)
            await self._refuse(view, name, e.info())
            return
        except LedgerError:
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback, and counted as our bug
            # Nothing is sent while preparing, so even a fault of ours is a refusal.
            await self._refuse(view, name, adapter_fault("prepare_failed", self.order_id, name))
            return
        if journaled:
            self._note_failover(view, name)
            await self._send(view.order, provider, attempt)

    async def _may_begin(self, view: OrderView, provider: Provider) -> bool:
        """Whether a close has something to reduce, and an open nothing left on the slot that would reduce it."""
        if view.order.kind is OrderKind.CLOSE:
            return await self._has_room(view)
        stray = stray_trigger(self._ledger, provider.name, view.order, netting=provider.capabilities.netting)
        if stray is None or self._clock.now() - view.order.created_at >= self._context.settings.patience.unproven:
            return True
        await self._pause()
        return False

    async def _has_room(self, view: OrderView) -> bool:
        """Whether a close has anything left to reduce; ends the order when that is gone for good."""
        room = room_to_close(self._ledger, view)
        if room.size > 0:
            return True
        if room.held_up:
            await self._pause()
        else:
            detail = "its lots were closed from outside, by another close, or by their protection"
            error = NothingLeft(detail).info()
            await self._finish(view, OrderStatus.FAILED, error)
        return False

    async def _journal(self, view: OrderView, provider: Provider, attempt: AttemptRecord) -> bool:
        """Make the attempt durable, unless something has come in between; say whether it may be sent."""
        began = self._clock.monotonic()
        async with self._context.market_lock(provider.name, view.order.market):
            # Asked again under the lock: another order may have been journaled while this one was prepared.
            self._refuse_netting(view.order, provider)
            self._context.safeguards.check_halts(view.order, provider.name)
            now_view = self.view()
            if self._clock.now() >= self._expiry(view, attempt) or now_view.order.cancel_requested_at is not None:
                # Too late to begin: the signed bytes are dropped, unjournaled and unsent.
                return False
            closes = view.order.kind is OrderKind.CLOSE
            if closes and submission_of(attempt).size > room_to_close(self._ledger, now_view).size:
                # The lots were reduced meanwhile: what was signed would eat into others. Built anew, smaller.
                return False
            claim = self._context.safeguards.claim_at(view.order, provider.name)
            try:
                await self._ledger.add_attempt(attempt, claim)
            except LimitReached as e:
                raise self._context.safeguards.provider_limit(e) from e
        self._context.observer.stage("journal", provider.name, self._clock.monotonic() - began)
        return True

    def _expiry(self, view: OrderView, attempt: AttemptRecord) -> datetime:
        return attempt_expiry(view, self._context.settings.patience, attempt.started_at)

    def _tell_block(self, view: OrderView) -> None:
        """Raise an alert the first time, and when the cause changes."""
        block = standing_block(view, self._context.settings.patience)
        if block is None or block.cause.code == self._told_block:
            return
        self._told_block = block.cause.code
        log.error(
            "close_blocked",
            extra={"order_id": self.order_id, "code": block.cause.code, "raw_code": block.cause.raw_code},
        )
        self._context.observer.alert("close_blocked")

    def _refuse_netting(self, order: OrderRecord, provider: Provider) -> None:
        if order.kind is not OrderKind.OPEN:
            return
        netting = provider.capabilities.netting
        stray = stray_trigger(self._ledger, provider.name, order, netting=netting)
        if stray is not None:
            raise WouldNet(stray)
        if netting:
            holding = opposite_holding(self._ledger, provider.name, order)
            if holding is not None:
                raise WouldNet(holding)

    async def _prepared(self, view: OrderView, provider: Provider, generation: int) -> AttemptRecord:
        """Prepare an attempt; a close for whose lock SOL is too short goes without, alone and proven by expiry."""
        try:
            return await self._prepare(view, provider, generation)
        except FeePayerShort as e:
            if view.order.kind is not OrderKind.CLOSE or view.order.lock is None or unresolved(view):
                raise
            self._context.hold_opens("fee_payer_short", e.detail)
            log.warning("close_without_lock", extra={"order_id": self.order_id, "code": e.code})
        return await self._prepare(view, provider, generation, locked=False)

    async def _prepare(
        self, view: OrderView, provider: Provider, generation: int, *, locked: bool = True
    ) -> AttemptRecord:
        order = view.order
        if order.size is None or order.worst_price is None:
            raise LedgerError(f"order {order.order_id} has no terms yet")
        self._refuse_netting(order, provider)
        began = self._clock.monotonic()
        now = self._clock.now()
        terms = OrderTerms(
            order_id=order.order_id,
            attempt_id=new_id(self._clock, "att"),
            number=_next_number(view),
            kind=order.kind,
            market=order.market,
            side=order.side,
            size=order.size if order.kind is OrderKind.OPEN else room_to_close(self._ledger, view).size,
            leverage=order.leverage,
            worst_price=order.worst_price,
            expires_at=attempt_expiry(view, self._context.settings.patience, now),
            lock=lock_ref(view, generation) if locked and provider.capabilities.order_lock else None,
            trigger=order.trigger,
        )
        submission = await prepared_by(provider, terms)
        if submission.size <= 0:
            # A venue may read a size of nothing as all of it.
            raise InvalidSize(f"{terms.size:f} rounds to nothing on {provider.name}")
        self._context.observer.stage("prepare", provider.name, self._clock.monotonic() - began)
        return AttemptRecord(
            attempt_id=terms.attempt_id,
            order_id=order.order_id,
            number=terms.number,
            provider=provider.name,
            part=0,
            generation=generation,
            state=AttemptState.JOURNALED,
            submission=submission,
            ack=None,
            error=None,
            holder=None,
            evidence=(),
            resting=False,
            finalized=False,
            started_at=now,
            updated_at=now,
        )

    async def _send(self, order: OrderRecord, provider: Provider, attempt: AttemptRecord) -> None:
        """Hand over journaled bytes for the first time, unless an operator has come in between."""
        stopped = self._context.safeguards.stopped(order, provider.name)
        if stopped is not None:
            await self._never_sent(attempt, stopped.info())
            return
        submission = submission_of(attempt)
        began = self._clock.monotonic()
        self._last_sent[attempt.attempt_id] = began
        ack = await self._submit(provider, submission)
        self._context.observer.stage("submit", provider.name, self._clock.monotonic() - began)
        if ack.not_sent:
            detail = ack.errors[0].detail if ack.errors else "no node could be reached"
            await self._never_sent(attempt, Unreachable(detail, phase=Phase.NOT_SENT).info())
            return
        await self._ledger.record_ack(attempt.attempt_id, ack, self._clock.now())

    async def _never_sent(self, attempt: AttemptRecord, error: ErrorInfo) -> None:
        """Write down that no byte reached any URL: nobody else has these bytes, so they can never execute."""
        outcome = Outcome(
            state=OutcomeState.DEAD,
            landed=False,
            executed=False,
            error=error,
            evidence=(Evidence(kind="never_sent", detail="no byte of the request was written to any URL"),),
            finalized=True,
        )
        await self._settlement.record(attempt, outcome)

    async def _submit(self, provider: Provider | OrderLock, submission: Submission) -> Ack:
        try:
            return await provider.submit(submission)
        except Exception:
            # The bytes may be anywhere: this is exactly what settlement is for.
            log.exception("submit_failed", extra={"order_id": self.order_id, "handle": submission.handle})
            return Ack(accepted=0, errors=(RequestRejected("submit raised", phase=Phase.MAYBE_SENT).info(),))

    async def _rebroadcast(self) -> None:
        """Send the same bytes again to every node, at most every `rebroadcast_s`."""
        now = self._clock.monotonic()
        for attempt in unresolved(self.view()):
            due = self._last_sent.get(attempt.attempt_id, 0.0) + self._context.settings.rebroadcast_s
            provider = self._context.providers.get(attempt.provider)
            if provider is None or attempt.landed or attempt.submission is None or now < due:
                continue
            self._last_sent[attempt.attempt_id] = now
            ack = await self._submit(provider, attempt.submission)
            if attempt.ack is None:
                await self._ledger.record_ack(attempt.attempt_id, ack, self._clock.now())

    async def _fence(self, view: OrderView, generation: int) -> None:
        lock = self._context.lock
        ref = lock_ref(view, generation)
        if lock is None or ref is None:
            return
        try:
            submission = await lock.prepare_fence(ref)
        except LockHeld:
            await self._pause()
            return  # somebody holds the generation already: settling finds out who
        except ProviderError as e:
            log.warning("fence_refused", extra={"order_id": self.order_id, "code": e.code, "detail": e.detail})
            if isinstance(e, FeePayerShort):
                self._context.hold_opens("fee_payer_short", e.detail)
            await self._pause()
            return
        await self._send_secondary(lock, submission, None, generation)
        self._context.observer.fenced("sent")

    async def _cancel(self, attempt: AttemptRecord) -> None:
        provider = self._context.providers[attempt.provider]
        try:
            submission = await provider.cancel(submission_of(attempt))
        except ProviderError as e:
            log.warning("cancel_refused", extra={"order_id": self.order_id, "code": e.code, "detail": e.detail})
            submission = None
        if submission is None:
            await self._pause()
            return
        await self._send_secondary(provider, submission, attempt.attempt_id, attempt.generation)

    async def _send_secondary(
        self, sender: Provider | OrderLock, submission: Submission, attempt_id: str | None, generation: int
    ) -> None:
        await send_written_ahead(
            self._ledger,
            self._clock,
            submission,
            partial(self._submit, sender),
            order_id=self.order_id,
            attempt_id=attempt_id,
            generation=generation,
        )

    async def _supersede(self, siblings: tuple[AttemptRecord, ...], holder: AttemptRecord) -> None:
        handle = submission_of(holder).handle
        for sibling in siblings:
            outcome = Outcome(
                state=OutcomeState.SUPERSEDED,
                landed=False,
                executed=False,
                holder=handle,
                evidence=(Evidence(kind="lock_held", detail="a sibling holds the order lock", signature=handle),),
            )
            await self._settlement.record(sibling, outcome)

    async def _finish(self, view: OrderView, status: OrderStatus, error: ErrorInfo | None) -> None:
        await self._ledger.finish_order(self.order_id, status, self._clock.now(), error=error)
        self._context.observer.order_ended(view.order.kind, status)
        log.info("order_ended", extra={"order_id": self.order_id, "status": status.value})

    async def _pause(self, seconds: float | None = None) -> None:
        """Wait one settle interval (or as long as is said), or until somebody nudges."""
        seconds = self._context.settings.settle_interval_s if seconds is None else max(seconds, 0.0)
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
        self._wake.clear()

    async def _refuse(self, view: OrderView, provider: str, error: ErrorInfo) -> None:
        """Write down that a provider was passed, and why. Nothing was sent."""
        now = self._clock.now()
        repeated = same_refusal(view, provider, error)
        if repeated is not None:
            await self._ledger.repeat_refusal(repeated.attempt_id, error, now)
            log.info("close_still_blocked", extra={"order_id": self.order_id, "code": error.code})
            return
        attempt = AttemptRecord(
            attempt_id=new_id(self._clock, "att"),
            order_id=self.order_id,
            number=_next_number(view),
            provider=provider,
            part=0,
            generation=view.generation,
            state=AttemptState.REFUSED,
            submission=None,
            ack=None,
            error=error,
            holder=None,
            evidence=(Evidence(kind="refused_before_sending", detail=error.detail),),
            resting=False,
            finalized=True,
            started_at=now,
            updated_at=now,
        )
        await self._ledger.add_attempt(attempt)
        self._note_failover(view, provider)
        self._context.observer.attempt_ended(provider, AttemptState.REFUSED, error.error_class)
        if error.error_class.wants_alert:
            self._context.observer.alert(error.error_class.value)
        log.info(
            "attempt_refused",
            extra={"order_id": self.order_id, "provider": provider, "code": error.code, "raw_code": error.raw_code},
        )

    def _note_failover(self, view: OrderView, provider: str) -> None:
        last = view.attempts[-1] if view.attempts else None
        if last is not None and last.provider != provider:
            error_class = None if last.error is None else last.error.error_class
            self._context.observer.failed_over(last.provider, provider, error_class)


def _next_number(view: OrderView) -> int:
    return max((attempt.number for attempt in view.attempts), default=0) + 1
