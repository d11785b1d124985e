"""A halt at every single step of an order's life: nothing new is sent, nothing is lost, and what filled can be left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from providers.base.types import Purpose
from router.ledger.records import OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.test_faults_everywhere import QUESTIONS, STORIES, WRITES, plays_of

# Later steps are the watch's, again and again the same.
STEPS_MAX = 12


class Operator:
    """Halts right after the n-th step of the router."""

    def __init__(self, desk: Desk, at: int, scope: str | None) -> None:
        self.desk = desk
        self.at = at
        self.scope = scope
        self.steps = 0
        self.sent_before: set[str] | None = None

    def arm(self) -> None:
        """Wrap every write and every question."""
        for name in WRITES:
            self._wrap(self.desk.ledger, name)
        for provider in self.desk.providers.values():
            for name in QUESTIONS:
                self._wrap(provider, name)

    def _wrap(self, target: object, name: str) -> None:
        original: Callable[..., Awaitable[object]] = getattr(target, name)

        async def step(*args: object, **kwargs: object) -> object:
            try:
                return await original(*args, **kwargs)
            finally:
                self.steps += 1
                if self.steps == self.at:
                    self.sent_before = self.opens_sent()
                    await self.desk.engine.safeguards.halt(self.scope, "stop", "ops")

        setattr(target, name, step)

    def opens_sent(self) -> set[str]:
        """Return every open that has reached a wire to a provider that the halt is about."""
        return {
            submission.handle
            for provider in self.desk.providers.values()
            if self.scope in {None, provider.name}
            for submission in provider.submissions
            if submission.purpose is Purpose.OPEN and submission.handle in provider.sent
        }


async def _life(desk: Desk, operator: Operator) -> None:
    """Open, let the operator come in between, and close whatever came of it."""
    view = await desk.end_of(await desk.place(ttl_s=40), 900)
    desk.check(view)
    if operator.sent_before is not None:
        assert operator.opens_sent() == operator.sent_before, "an open began after the halt"
    await desk.clock.sleep(90)
    assert desk.exposure() == desk.venue_exposure()
    if view.order.status in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}:
        closed = await desk.close(desk.lots()[0].position_id)
        desk.check(closed)
        assert desk.lots()[0].size == Decimal(0)
    else:
        assert view.order.status is OrderStatus.FAILED


@pytest.mark.parametrize(
    ("story", "scope"),
    [*((story, None) for story in STORIES), *((story, "alpha") for story in ("fill", "lost", "refused", "sibling"))],
)
def test_a_halt_at_any_step_stops_what_has_not_begun_and_nothing_else(story: str, scope: str | None) -> None:
    """After the n-th write or question, for every n: everywhere, and at the first provider alone."""
    for at in range(1, STEPS_MAX + 1):
        reached = True

        async def run(desk: Desk, at: int = at) -> None:
            nonlocal reached
            operator = Operator(desk, at, scope)
            operator.arm()
            await _life(desk, operator)
            reached = operator.sent_before is not None

        try:
            trade(run, **plays_of(story))
        except BaseException as e:
            e.add_note(f"at step {at}")
            raise
        if not reached:
            break
