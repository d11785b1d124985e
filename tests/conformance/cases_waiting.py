"""Cases of venues where a stranger fills: our transaction only asks, and what becomes of it is decided later."""

from __future__ import annotations

from decimal import Decimal

from providers.base.types import OutcomeState, Side
from tests.conformance.bench import Bench, Feature, delta, journaled
from tests.conformance.cases import case


@case(120, Feature.KEEPER)
async def landed_is_not_filled(bench: Bench) -> None:
    """While nobody executes it, what landed is unknown and resting, however often it is asked; then it is filled."""
    bench.venue.hold_orders()
    submission = await bench.prepared()
    await bench.provider.submit(submission)
    await bench.slots(20)
    for _ in range(3):
        outcome = await bench.provider.settle(submission)
        assert (outcome.state, outcome.landed, outcome.resting) == (OutcomeState.UNKNOWN, True, True)
        assert outcome.fills == ()
    bench.venue.release_orders()
    outcome = await bench.settled(submission)
    assert outcome.state is OutcomeState.FILLED
    assert delta([outcome]) == await bench.held() == bench.size


@case(121, Feature.KEEPER)
async def a_rejection_is_dead_and_refunded(bench: Bench) -> None:
    """What is given back unexecuted is dead by that transaction; the next may be asked, and nothing is lost."""
    for side in Side:
        before = bench.venue.wealth()
        bench.venue.reject_orders()
        submission = await bench.prepared(side)
        outcome = await bench.sent(submission)
        assert (outcome.state, outcome.landed, outcome.fills) == (OutcomeState.DEAD, True, ())
        assert not outcome.resting
        assert outcome.error is not None
        assert outcome.error.error_class.allows_next_provider
        assert outcome.evidence[0].signature not in {None, submission.handle}
        await bench.slots(4)
        # What stays: fees, the lock, and accounts that the next order finds there.
        assert before - bench.venue.wealth() < Decimal(2)
        assert await bench.held() == 0
        bench.venue.release_orders()


@case(122, Feature.KEEPER)
async def an_execution_in_two_steps_is_one_fill(bench: Bench) -> None:
    """Executed in one transaction and closed in another, by one who died in between: that is one fill."""
    bench.venue.interrupt_orders()
    submission = await bench.prepared()
    await bench.provider.submit(submission)
    await bench.slots(30)
    assert await bench.held() == bench.size
    early = await bench.provider.settle(submission)
    assert delta([early]) in {0, bench.size}
    bench.venue.release_orders()
    outcome = await bench.settled(journaled(submission), provider=bench.restarted())
    assert outcome.state is OutcomeState.FILLED
    assert delta([outcome]) == await bench.held() == bench.size


@case(123, Feature.KEEPER)
async def what_nobody_fills_is_taken_back_by_its_owner(bench: Bench) -> None:
    """Once its window is over the owner closes it: dead by that record, all of it back, and never filled later."""
    before = bench.venue.wealth()
    bench.venue.hold_orders()
    submission = await bench.prepared()
    await bench.provider.submit(submission)
    await bench.slots(10)
    assert await bench.provider.cancel(submission) is None
    cancel = await bench.cancelled(submission)
    outcome = await bench.settled(submission)
    assert (outcome.state, outcome.resting) == (OutcomeState.DEAD, False)
    assert outcome.evidence[0].signature == cancel.handle
    bench.venue.release_orders()
    await bench.slots(20)
    assert before - bench.venue.wealth() < Decimal(2)
    assert await bench.held() == 0


@case(124, Feature.KEEPER)
async def a_second_open_is_a_second_lot(bench: Bench) -> None:
    """Two requests wait on one slot: each has its own fill, and a close of the one leaves the other."""
    bench.venue.hold_orders()
    first, second = await bench.prepared(), await bench.prepared(size=bench.size * 2)
    for submission in (first, second):
        await bench.provider.submit(submission)
    await bench.slots(6)
    bench.venue.release_orders()
    outcomes = [await bench.settled(submission) for submission in (first, second)]
    assert [delta([outcome]) for outcome in outcomes] == [bench.size, bench.size * 2]
    assert len({fill.venue_fill_id for outcome in outcomes for fill in outcome.fills}) == 2
    assert delta([await bench.close(size=bench.size)]) == bench.size
    assert await bench.held() == bench.size * 2


@case(125, Feature.KEEPER)
async def a_close_never_takes_what_came_later(bench: Bench) -> None:
    """A close of all that is held waits while another open fills: it closes its own size, and leaves the newcomer."""
    await bench.open()
    bench.venue.hold_orders()
    closing, opening = await bench.prepared_close(), await bench.prepared(size=bench.size * 2)
    for submission in (opening, closing):
        await bench.provider.submit(submission)
    await bench.slots(6)
    bench.venue.release_orders()
    assert (await bench.settled(opening)).state is OutcomeState.FILLED
    assert delta([await bench.settled(closing)]) == bench.size
    assert await bench.held() == bench.size * 2
