"""While an attempt is unclear: nothing is tried in vain, nothing is asked without a pause, and the end is found."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from providers.base.errors import NodeBehind
from providers.base.types import LockRef, OrderTerms, Outcome, OutcomeState, Submission
from router.ledger.records import AttemptState, OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play


class Counted:
    """Counts what is asked of a venue, and lets each question take a moment, as a wire would."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.prepared = self.fences = 0
        for provider in desk.providers.values():
            original = provider.prepare_open

            async def prepare(terms: OrderTerms, original: object = original) -> Submission:
                self.prepared += 1
                await desk.clock.sleep(0.01)
                return await original(terms)  # type: ignore[operator,no-any-return]

            provider.prepare_open = prepare  # type: ignore[method-assign]
        fence = desk.chain.prepare_fence

        async def prepare_fence(lock: LockRef) -> Submission:
            self.fences += 1
            await desk.clock.sleep(0.01)
            return await fence(lock)

        desk.chain.prepare_fence = prepare_fence  # type: ignore[method-assign]

    def blind(self, name: str, until: float) -> None:
        """Let a provider see that its attempt executed, and not what became of it, until a time."""
        provider = self.desk.providers[name]
        original = provider.settle

        async def settle(submission: Submission) -> Outcome:
            outcome = await original(submission)
            if self.desk.clock.monotonic() < until:
                return msgspec.structs.replace(
                    outcome, state=OutcomeState.UNKNOWN, finalized=False, resting=False, landed=True, executed=True
                )
            return outcome

        provider.settle = settle  # type: ignore[method-assign]


def test_an_attempt_that_executed_gets_no_sibling_and_no_fence() -> None:
    """It holds the lock already: nothing else can run in its generation, and asking for it is only noise."""

    async def story(desk: Desk) -> None:
        counted = Counted(desk)
        counted.blind("alpha", until=25.0)
        view = await desk.open(ttl_s=15)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert (counted.prepared, counted.fences) == (1, 0)
        assert desk.told.alerts == []

    trade(story)


def test_a_lock_that_is_held_by_nobody_knows_whom_is_asked_about_with_pauses() -> None:
    """Siblings and fences meet a held lock while the holder cannot be settled: each look waits for the next."""

    async def story(desk: Desk) -> None:
        counted = Counted(desk)
        alpha = desk.providers["alpha"]
        original = alpha.settle

        async def settle(submission: Submission) -> Outcome:
            if desk.clock.monotonic() < 40:
                await original(submission)
                raise NodeBehind("nobody knows")
            return await original(submission)

        alpha.settle = settle  # type: ignore[method-assign]
        view = await desk.open(ttl_s=20)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        # One look every settle interval of 0.2 s at the most, in the 36 s that are unclear.
        assert counted.prepared + counted.fences < 36 / 0.2

    trade(story)


def test_what_a_fill_began_goes_to_nobody_else() -> None:
    """Partly filled, gone from the venue, its end not on record yet: the next provider is not even prepared."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place(ttl_s=60)
        await desk.clock.sleep(2)
        desk.providers["alpha"].fill_resting(Decimal("0.5"), ends=False)
        await desk.clock.sleep(2)
        counted = Counted(desk)
        counted.blind("alpha", until=30.0)
        desk.providers["alpha"].fill_resting(Decimal(0), ends=True)
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.PARTIALLY_FILLED
        assert counted.prepared == 0
        assert "ledger_write_failed" not in desk.told.alerts

    trade(story, alpha=(Play(what="rest"),))


def test_an_adapter_that_cannot_build_a_cancel_does_not_stop_settling() -> None:
    """A fault of ours on the way to a cancel: what rests is still asked about, and its fill found."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]

        async def cancel(_: Submission) -> Submission | None:
            raise KeyError("an account that was always there")

        alpha.cancel = cancel  # type: ignore[method-assign,assignment]
        order_id = await desk.place(ttl_s=5, provider="alpha")
        await desk.clock.sleep(20)
        alpha.fill_resting(Decimal(2), ends=True)
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED

    trade(story, alpha=(Play(what="rest"),))


def test_a_fence_that_cannot_be_built_does_not_stop_settling() -> None:
    """A fault of ours on the way to a fence: the attempt is asked about all the same, and expires."""

    async def story(desk: Desk) -> None:
        async def fence(_: LockRef) -> Submission:
            raise KeyError("a key that was always there")

        desk.chain.prepare_fence = fence  # type: ignore[method-assign,assignment]
        view = await desk.open(ttl_s=5, provider="alpha")
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        assert {a.state for a in view.attempts} == {AttemptState.DEAD}

    trade(story, alpha=(Play(what="lost"),) * 4)


def test_one_attempt_that_cannot_be_booked_does_not_hide_its_sibling_s_fill() -> None:
    """The ledger refuses what is said of the first; the second has filled, and is booked."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]

        async def nonsense(submission: Submission) -> Outcome:
            return Outcome(state=OutcomeState.SUPERSEDED, holder=submission.handle)

        alpha.settle = nonsense  # type: ignore[method-assign]
        view = await desk.open()
        desk.check(view)
        assert view.order.filled_by == "beta"

    trade(story, alpha=(Play(what="lost"),))
