"""An attempt that the journal has lost (a restored backup, a damaged file) holds its order's lock."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from providers.base.types import LockRef, LockState, OrderTerms, Submission
from router.engine.requests import OpensHeld
from router.ledger.records import AttemptState, FindingKind, OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play


def taken_by(desk: Desk, holder: str, number: int | None, *, before_prepare: bool) -> None:
    """Let somebody take the first lock, before an attempt is prepared or once it is signed."""
    alpha, state = desk.providers["alpha"], desk.chain.state
    original = alpha.prepare_open
    desk.chain.handle(holder)
    taken: list[str] = []

    def take(terms: OrderTerms) -> None:
        if not taken and terms.lock is not None:
            taken.append(terms.lock.seed)
            desk.chain.take(terms.lock, holder, desk.clock.monotonic())

    async def prepare(terms: OrderTerms) -> Submission:
        if before_prepare:
            take(terms)
        submission = await original(terms)
        take(terms)
        return submission

    async def told(lock: LockRef, known: Sequence[str] = ()) -> LockState:
        found = await state(lock, known)
        return msgspec.structs.replace(found, holder_number=number) if found.holder == holder else found

    alpha.prepare_open = prepare  # type: ignore[method-assign]
    desk.chain.state = told  # type: ignore[method-assign]


@pytest.mark.parametrize("before_prepare", [True, False], ids=["found while preparing", "found while settling"])
def test_an_attempt_that_is_not_on_record_lets_no_generation_step(before_prepare: bool) -> None:  # noqa: FBT001 - parameter
    """It executed and may have filled: the order fills nothing more, opens are held, and a finding names it."""

    async def story(desk: Desk) -> None:
        taken_by(desk, "lost", 1, before_prepare=before_prepare)
        view = await desk.open(ttl_s=15)
        assert view.order.status is OrderStatus.FAILED
        assert not view.fills
        assert view.generation == 0
        assert {attempt.state for attempt in view.attempts} <= {AttemptState.DEAD, AttemptState.REFUSED}
        assert {each.kind for attempt in view.attempts for each in attempt.evidence} <= {"lost_attempt_holds_lock"}
        assert desk.venue_exposure() == 0
        (finding,) = desk.ledger.standing_findings()
        assert (finding.kind, finding.subject) == (FindingKind.UNKNOWN_SIGNATURE, "lost")
        assert desk.told.alerts.count("unknown_signature") == 1
        with pytest.raises(OpensHeld):
            await desk.open()

    trade(story)


@pytest.mark.parametrize("number", [None, 0], ids=["a stranger", "a fence that is not on record"])
@pytest.mark.parametrize("before_prepare", [True, False], ids=["found while preparing", "found while settling"])
def test_a_holder_that_leaves_nothing_lets_the_next_generation_begin(
    before_prepare: bool,  # noqa: FBT001 - parameter of a test
    number: int | None,
) -> None:
    """A stranger, or a bare fence, has filled nothing: the order goes on under the next lock, once."""

    async def story(desk: Desk) -> None:
        taken_by(desk, "other", number, before_prepare=before_prepare)
        view = await desk.open()
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert view.generation == 1
        assert desk.venue_exposure() == Decimal(2)
        assert not desk.ledger.standing_findings()

    trade(story)


def test_a_holder_that_cannot_be_seen_any_more_decides_nothing() -> None:
    """Settling named a holder; until the lock shows again who it is, the attempt stays unclear."""

    async def story(desk: Desk) -> None:
        taken_by(desk, "other", None, before_prepare=False)
        told = desk.chain.state

        async def blind(lock: LockRef, known: Sequence[str] = ()) -> LockState:
            found = await told(lock, known)
            return LockState(held=None) if desk.clock.monotonic() < 8 else found

        desk.chain.state = blind  # type: ignore[method-assign]
        order_id = await desk.place()
        await desk.clock.sleep(6)
        before = desk.ledger.order(order_id)
        assert before is not None
        assert before.generation == 0
        assert not before.order.status.final
        after = await desk.end_of(order_id)
        assert (after.order.status, after.generation) == (OrderStatus.FILLED, 1)

    trade(story, alpha=(Play(), Play()))
