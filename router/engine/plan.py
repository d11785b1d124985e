"""What an order needs next: one pure function from what the ledger knows to the next step.

The runner does the step, writes down what came of it, and asks again. So a restart needs no logic of its own: the same
function reads the same ledger. Nothing here waits, sends, or remembers.

The rules, in the order in which they are asked:

1. a fill that nothing can add to ends the order;
2. while an attempt is unclear, nothing may be tried but a sibling under the same lock generation, a cancel of what
   rests, or a fence;
3. when every attempt is dead, the next provider is asked if the last error class allows it and the deadline has not
   passed; else the order ends;
4. but a close that its venue refuses whatever the order (`router.engine.blocked`) is tried again, ever more slowly and
   past its deadline, until it fills or the caller cancels it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from providers.base.errors import ErrorClass, ErrorInfo
from providers.base.types import Capabilities, OrderKind, Purpose
from router.engine.blocked import attempt_expiry, standing_block
from router.engine.patience import Patience
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    OrderRecord,
    OrderStatus,
    OrderView,
    SecondaryRecord,
    SecondaryState,
)

__all__ = [
    "CancelResting",
    "Fence",
    "Finish",
    "FixTerms",
    "Patience",
    "PlanContext",
    "Settle",
    "Step",
    "Supersede",
    "Try",
    "Wait",
    "next_step",
    "unresolved",
    "waits_for_price",
]

# A provider whose attempt never landed was not at fault; it may be asked again, but not for ever.
TRIES_PER_PROVIDER_MAX = 4
# Every attempt is one CreateAccountWithSeed amount and one row; a chain that needs more is not getting anywhere.
ATTEMPTS_PER_ORDER_MAX = 32


class PlanContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan knows beside the order.

    Attributes:
        capabilities: of every provider of the order's chain that is configured now.
        recovered: attempts that a previous process journaled; of these, opens that were perhaps never sent are fenced.
    """

    now: datetime
    capabilities: Mapping[str, Capabilities]
    patience: Patience
    recovered: frozenset[str] = frozenset()


class FixTerms(msgspec.Struct, frozen=True):
    """Ask this provider for the order's first quote and write size and worst price."""

    provider: str


class Try(msgspec.Struct, frozen=True):
    """Prepare, journal and send an attempt at this provider."""

    provider: str
    generation: int


class Settle(msgspec.Struct, frozen=True):
    """Ask what became of the unclear attempts; `rebroadcast` says whether their bytes may be sent again meanwhile."""

    attempts: tuple[AttemptRecord, ...]
    rebroadcast: bool


class Wait(msgspec.Struct, frozen=True):
    """Do nothing until then: the venue refuses this close for now."""

    until: datetime


class Fence(msgspec.Struct, frozen=True):
    """Take the lock generation ourselves, so that no unclear attempt of it can execute any more."""

    generation: int


class CancelResting(msgspec.Struct, frozen=True):
    """Cancel what rests of this attempt, by the venue's order id."""

    attempt: AttemptRecord


class Supersede(msgspec.Struct, frozen=True):
    """Note that siblings of the holder can never execute: the holder's own transaction has taken their lock."""

    siblings: tuple[AttemptRecord, ...]
    holder: AttemptRecord


class Finish(msgspec.Struct, frozen=True):
    """End the order."""

    status: OrderStatus
    error: ErrorInfo | None = None


Step = FixTerms | Try | Settle | Wait | Fence | CancelResting | Supersede | Finish


def unresolved(view: OrderView) -> tuple[AttemptRecord, ...]:
    """Return the attempts whose outcome is not proven yet."""
    return tuple(attempt for attempt in view.attempts if not attempt.state.final)


def waits_for_price(view: OrderView) -> bool:
    """Whether the order does nothing but rest on its venue until a price is reached: nobody need hurry about it."""
    unclear = unresolved(view)
    if view.order.trigger is None or view.order.cancel_requested_at is not None or view.fills or not unclear:
        return False
    return all(attempt.resting for attempt in unclear)


def next_step(view: OrderView, context: PlanContext) -> Step:
    """Return what the order needs now. Never called for an order that has ended."""
    unclear = unresolved(view)
    filled = [a for a in view.attempts if a.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}]
    if filled:
        return _after_fill(filled[-1], unclear)
    cancelled = view.order.cancel_requested_at is not None
    ending = cancelled or context.now >= _latest_expiry(view, unclear, context.patience)
    if unclear:
        return _while_unclear(view, unclear, context, ending=ending)
    block = None if cancelled else standing_block(view, context.patience)
    if block is not None and _configured(view.order, context):
        return _try_again(view, context) if context.now >= block.next_try_at else Wait(block.next_try_at)
    if ending:
        return _give_up(view)
    last = view.attempts[-1] if view.attempts else None
    if last is not None and last.error is not None and not last.error.error_class.allows_next_provider:
        return Finish(OrderStatus.FAILED, last.error)
    return _ask_next(view, context)


def _latest_expiry(view: OrderView, unclear: tuple[AttemptRecord, ...], patience: Patience) -> datetime:
    """Return the order's deadline, or that of a later try of a blocked close."""
    expiries = [attempt_expiry(view, patience, attempt.started_at) for attempt in unclear]
    return max(expiries, default=view.order.deadline)


def _try_again(view: OrderView, context: PlanContext) -> Step:
    """Ask a blocked close's venue again: it is the only one that can close what it holds."""
    provider = _configured(view.order, context)[0]
    return FixTerms(provider) if view.order.size is None else Try(provider, view.generation)


def _ask_next(view: OrderView, context: PlanContext) -> Step:
    """Ask whoever may be asked now; a node that could not be reached is not asked again at once."""
    provider = _next_provider(view, context)
    if provider is None:
        return _give_up(view)
    last = view.attempts[-1] if view.attempts else None
    again = last is not None and last.provider == provider and _was_unreachable(last)
    if last is not None and again and _age(context.now, last.updated_at) < context.patience.retry:
        return Settle((), rebroadcast=False)
    return FixTerms(provider) if view.order.size is None else Try(provider, view.generation)


def _after_fill(holder: AttemptRecord, unclear: tuple[AttemptRecord, ...]) -> Step:
    """End the order, once the siblings that the fill shut out are written down as such."""
    siblings = tuple(a for a in unclear if a.generation == holder.generation and _has_lock(a) and _has_lock(holder))
    if siblings:
        return Supersede(siblings, holder)
    others = tuple(a for a in unclear if a.attempt_id != holder.attempt_id)
    if others:
        # Without a lock there are no siblings, so this cannot come from our own steps; it is proven all the same.
        return Settle(others, rebroadcast=False)
    status = OrderStatus.FILLED if holder.state is AttemptState.FILLED else OrderStatus.PARTIALLY_FILLED
    return Finish(status)


def _while_unclear(view: OrderView, unclear: tuple[AttemptRecord, ...], context: PlanContext, *, ending: bool) -> Step:
    resting = next((a for a in unclear if a.resting), None)
    if resting is not None:
        # It executed, so it holds the lock: no fence can help, and no sibling can run.
        return _while_resting(view, resting, unclear, context, ending=ending)
    # After a restart an open is never sent again; a close may be: the same bytes cannot reduce twice.
    inherited = view.order.kind is OrderKind.OPEN and any(a.attempt_id in context.recovered for a in unclear)
    lost = inherited and any(a.ack is None for a in unclear)
    impatient = _age(context.now, unclear[-1].started_at) >= context.patience.unproven
    if not ending and not lost and not impatient:
        return Settle(unclear, rebroadcast=not inherited)
    if any(a.executed for a in unclear) or not all(_has_lock(a) and a.generation == view.generation for a in unclear):
        # One holds the lock and only its records are missing; or no fence and no sibling could exclude it: only expiry
        # shows the end, and rebroadcast only delays it.
        return Settle(unclear, rebroadcast=False)
    if not ending and not lost:
        sibling = _next_provider(view, context)
        if sibling is not None and context.capabilities[sibling].order_lock:
            return Try(sibling, view.generation)
    fence = _latest(view.secondaries, Purpose.FENCE, view.generation)
    if fence is None or _age(context.now, fence.created_at) >= context.patience.fence:
        return Fence(view.generation)
    return Settle(unclear, rebroadcast=False)


def _while_resting(
    view: OrderView, resting: AttemptRecord, unclear: tuple[AttemptRecord, ...], context: PlanContext, *, ending: bool
) -> Step:
    begun = any(fill.attempt_id == resting.attempt_id for fill in view.fills)
    next_waits = not begun and _next_provider(view, context) is not None
    impatient = _age(context.now, resting.started_at) >= context.patience.resting
    if not (ending or (impatient and next_waits)):
        return Settle(unclear, rebroadcast=False)
    cancel = _latest(view.secondaries, Purpose.CANCEL, resting.generation)
    if cancel is not None and _age(context.now, cancel.created_at) < context.patience.cancel:
        return Settle(unclear, rebroadcast=False)
    return CancelResting(resting)


def _next_provider(view: OrderView, context: PlanContext) -> str | None:
    """Return who may be asked next: first those never asked, then those whose last attempt was no fault of theirs."""
    if len(view.attempts) >= ATTEMPTS_PER_ORDER_MAX:
        return None
    untried = _untried(view, context)
    if untried:
        return untried[0]
    if unresolved(view):
        return None
    for provider in _configured(view.order, context):
        tries = [a for a in view.attempts if a.provider == provider]
        if len(tries) < TRIES_PER_PROVIDER_MAX and _may_retry(view.order, tries[-1]):
            return provider
    return None


def _untried(view: OrderView, context: PlanContext) -> list[str]:
    tried = {attempt.provider for attempt in view.attempts}
    return [provider for provider in _configured(view.order, context) if provider not in tried]


def _may_retry(order: OrderRecord, attempt: AttemptRecord) -> bool:
    """Whether the provider never had its say: its transaction did not land, or a dead sibling had the lock.

    A close has no other provider to go to, so one that could not be reached is asked again too.
    """
    if attempt.state is AttemptState.SUPERSEDED:
        return True
    if order.kind is OrderKind.CLOSE and attempt.error is not None:
        return attempt.error.error_class is ErrorClass.CONNECTION
    return attempt.state is AttemptState.DEAD and attempt.error is not None and attempt.error.code == "not_landed"


def _was_unreachable(attempt: AttemptRecord) -> bool:
    error = attempt.error
    return error is not None and error.error_class is ErrorClass.CONNECTION and error.code != "not_landed"


def _configured(order: OrderRecord, context: PlanContext) -> tuple[str, ...]:
    return tuple(provider for provider in order.chain if provider in context.capabilities)


def _give_up(view: OrderView) -> Finish:
    error = next((a.error for a in reversed(view.attempts) if a.error is not None), None)
    if view.order.cancel_requested_at is not None:
        return Finish(OrderStatus.CANCELLED, error)
    return Finish(OrderStatus.FAILED, error)


def _latest(secondaries: tuple[SecondaryRecord, ...], purpose: Purpose, generation: int) -> SecondaryRecord | None:
    """Return the newest one of this purpose and generation that may still do its work."""
    alive = [
        s
        for s in secondaries
        if s.purpose is purpose and s.generation == generation and s.state is not SecondaryState.DEAD
    ]
    return alive[-1] if alive else None


def _has_lock(attempt: AttemptRecord) -> bool:
    return attempt.submission is not None and attempt.submission.lock is not None


def _age(now: datetime, since: datetime) -> timedelta:
    return now - since
