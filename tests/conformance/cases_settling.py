"""Cases of sending and settling: an attempt is what can be proven of it, and it fills at most once."""

from __future__ import annotations

from decimal import Decimal

from providers.base.errors import NotLanded, Phase
from providers.base.types import OutcomeState, Side
from tests.conformance.bench import Bench, Feature, delta, journaled
from tests.conformance.cases import case


@case(40)
async def a_long_is_the_venues_delta(bench: Bench) -> None:
    """What the fills of a long add up to is what the venue's position grew by, each with its own id."""
    outcome = await bench.open(Side.LONG)
    assert outcome.state is OutcomeState.FILLED
    assert (outcome.landed, outcome.executed, outcome.resting) == (True, True, False)
    assert delta([outcome]) == await bench.held() == bench.size
    assert len({fill.venue_fill_id for fill in outcome.fills}) == len(outcome.fills)
    assert not any(fill.provisional for fill in outcome.fills)
    assert outcome.evidence


@case(41)
async def a_short_is_the_venues_delta(bench: Bench) -> None:
    """What the fills of a short add up to is what the venue's position fell by."""
    outcome = await bench.open(Side.SHORT)
    assert outcome.state is OutcomeState.FILLED
    assert delta([outcome]) == -await bench.held() == bench.size
    (position,) = await bench.provider.positions()
    assert (position.provider, position.market, position.side) == (bench.provider_name, bench.market, Side.SHORT)


@case(42)
async def settling_again_changes_nothing(bench: Bench) -> None:
    """Asked again and again an outcome has the same fills; once its block is final it says so."""
    submission = await bench.prepared()
    first = await bench.sent(submission)
    assert not first.finalized
    for _ in range(3):
        assert (await bench.provider.settle(submission)).fills == first.fills
    await bench.slots(40)
    last = await bench.provider.settle(submission)
    assert last.finalized
    assert (last.state, last.fills) == (first.state, first.fills)


@case(43)
async def the_journal_is_enough(bench: Bench) -> None:
    """A provider that remembers nothing settles from the written submission alone, to the same fills."""
    submission = await bench.prepared()
    first = await bench.sent(submission)
    read = journaled(submission)
    assert read == submission
    again = await bench.restarted().settle(read)
    assert (again.state, again.fills) == (first.state, first.fills)


@case(44)
async def a_lost_answer_is_not_a_failure(bench: Bench) -> None:
    """Every node's answer is lost after executing: the ack proves nothing, and the fill is found by its signature."""
    submission = await bench.prepared()
    bench.strike("lost_after", "sendTransaction")
    ack = await bench.provider.submit(submission)
    assert ack.accepted == 0
    assert not ack.not_sent
    assert all(error.phase is not Phase.NOT_SENT for error in ack.errors)
    outcome = await bench.settled(journaled(submission), provider=bench.restarted())
    assert outcome.state is OutcomeState.FILLED
    assert await bench.held() == bench.size


@case(45)
async def what_never_arrived_is_dead_by_expiry(bench: Bench) -> None:
    """Dropped on the way it stays unknown until expiry and a free lock at `finalized` prove that it cannot land."""
    submission = await bench.prepared()
    bench.strike("dropped_before", "sendTransaction")
    ack = await bench.provider.submit(submission)
    assert ack.accepted == 0
    assert (await bench.provider.settle(submission)).state is OutcomeState.UNKNOWN
    outcome = await bench.settled(submission)
    assert (outcome.state, outcome.landed, outcome.finalized) == (OutcomeState.DEAD, False, True)
    assert outcome.error is not None
    assert outcome.error.code == NotLanded.code
    assert outcome.evidence
    await bench.provider.submit(submission)
    await bench.slots(4)
    assert await bench.held() == 0


@case(46)
async def what_lands_late_fills_once(bench: Bench) -> None:
    """Its answer lost and landed forty slots later: unknown until then, filled from then on, once."""
    submission = await bench.prepared()
    bench.strike("lost_then_late", "sendTransaction", slots=40)
    await bench.provider.submit(submission)
    await bench.slots(20)
    assert (await bench.provider.settle(submission)).state is OutcomeState.UNKNOWN
    assert (await bench.settled(submission)).state is OutcomeState.FILLED
    await bench.provider.submit(submission)
    await bench.slots(4)
    assert await bench.held() == bench.size


@case(47)
async def the_same_bytes_fill_once(bench: Bench) -> None:
    """A submission that is given again and again executes once."""
    submission = await bench.prepared()
    for _ in range(5):
        await bench.provider.submit(submission)
        await bench.slots(1)
    outcome = await bench.settled(submission)
    assert outcome.state is OutcomeState.FILLED
    assert delta([outcome]) == await bench.held() == bench.size


@case(48)
async def landed_with_an_error_is_dead(bench: Bench) -> None:
    """True only once it reaches its block: a refusal there is dead by its own record, with the venue's code."""
    submission = await bench.prepared()
    bench.venue.pause()
    outcome = await bench.sent(submission)
    assert outcome.state is OutcomeState.DEAD
    assert (outcome.landed, outcome.executed, outcome.resting) == (True, False, False)
    assert outcome.error is not None
    assert outcome.error.phase is Phase.ANSWERED
    assert outcome.error.error_class.allows_next_provider
    assert outcome.error.raw_code
    assert outcome.error.raw_name
    assert outcome.evidence[0].kind == "landed_with_err"
    bench.venue.pause(paused=False)
    await bench.slots(10)
    assert await bench.held() == 0


@case(49)
async def landed_without_a_fill_is_dead(bench: Bench) -> None:
    """It executed and met no price inside its bound: dead by complete logs, nothing rests, the next may be asked."""
    submission = await bench.prepared()
    bench.venue.move_price(bench.price * Decimal("1.2"))
    outcome = await bench.sent(submission)
    assert (outcome.state, outcome.landed, outcome.fills) == (OutcomeState.DEAD, True, ())
    assert not outcome.resting
    assert outcome.error is not None
    assert outcome.error.error_class.allows_next_provider
    bench.venue.move_price(bench.price)
    await bench.slots(40)
    assert await bench.held() == 0


@case(50)
async def siblings_fill_once(bench: Bench) -> None:
    """Two attempts of one lock generation sent together: one fills, the other is superseded by its signature."""
    lock = await bench.lock()
    first = await bench.prepared(lock=lock, number=1)
    second = await bench.prepared(lock=lock, number=2)
    await bench.provider.submit(second)
    await bench.provider.submit(first)
    won, lost = await bench.settled(second), await bench.settled(first)
    assert won.state is OutcomeState.FILLED
    assert (lost.state, lost.holder, lost.fills) == (OutcomeState.SUPERSEDED, second.handle, ())
    assert await bench.held() == bench.size


@case(51)
async def a_fence_ends_what_was_not_sent(bench: Bench) -> None:
    """Once our fence holds the lock an attempt can never execute, whoever sends it."""
    submission = await bench.prepared()
    assert submission.lock is not None
    fence = await bench.solana.lock.prepare_fence(submission.lock)
    await bench.solana.lock.submit(fence)
    outcome = await bench.settled(submission)
    assert (outcome.state, outcome.holder) == (OutcomeState.SUPERSEDED, fence.handle)
    await bench.provider.submit(submission)
    await bench.slots(4)
    assert await bench.held() == 0


@case(52, Feature.PARTIAL)
async def a_part_is_a_part(bench: Bench) -> None:
    """What the bound lets fill is a partial fill, never dearer than the bound; the rest is gone for good."""
    size, worst, leverage = bench.venue.part
    terms = await bench.terms(size=size, worst=worst, leverage=leverage)
    submission = await bench.provider.prepare_open(terms)
    outcome = await bench.sent(submission)
    assert outcome.state is OutcomeState.PARTIALLY_FILLED
    assert not outcome.resting
    assert 0 < delta([outcome]) < submission.size
    assert all(fill.price <= terms.worst_price for fill in outcome.fills)
    await bench.slots(40)
    assert await bench.held() == delta([outcome])


@case(53)
async def a_fork_takes_a_fill_back(bench: Bench) -> None:
    """A confirmed fill that disappears with its block is unknown again, and is settled anew."""
    submission = await bench.prepared()
    await bench.slots(12)
    assert (await bench.sent(submission)).state is OutcomeState.FILLED
    assert submission.handle in bench.cluster.fork(9)
    await bench.slots(2)
    again = await bench.provider.settle(submission)
    assert (again.state, again.fills) == (OutcomeState.UNKNOWN, ())
    assert (await bench.sent(submission)).state is OutcomeState.FILLED
    assert await bench.held() == bench.size


@case(54)
async def a_lagging_node_is_not_believed(bench: Bench) -> None:
    """A node twenty slots behind, that says it is not, takes no fill away and hides no position."""
    submission = await bench.prepared()
    await bench.sent(submission)
    bench.lag(20)
    for _ in range(3):
        (position,) = await bench.provider.positions()
        assert position.size == bench.size
    assert (await bench.settled(submission)).state is OutcomeState.FILLED
    assert (await bench.close()).state is OutcomeState.FILLED
    bench.faults.clear()
    assert await bench.held() == 0


@case(55)
async def anothers_fill_is_not_ours(bench: Bench) -> None:
    """A trade of the same account in the same market, behind the router's back, is in no outcome of ours."""
    foreign = await bench.foreign_trade(Side.LONG, bench.size)
    submission = await bench.prepared(size=bench.size * 2)
    await bench.foreign_trade(Side.LONG, bench.size)
    outcome = await bench.sent(submission)
    assert delta([outcome]) == bench.size * 2
    ids = {fill.venue_fill_id for fill in foreign.fills}
    assert ids.isdisjoint(fill.venue_fill_id for fill in outcome.fills)
    assert await bench.held() == bench.size * 4


@case(56)
async def nothing_rests_of_what_is_settled(bench: Bench) -> None:
    """There is nothing to cancel of an attempt that filled, or that never landed and never can."""
    filled = await bench.prepared()
    await bench.sent(filled)
    assert await bench.provider.cancel(filled) is None
    dead = await bench.prepared()
    bench.strike("dropped_before", "sendTransaction")
    await bench.provider.submit(dead)
    await bench.settled(dead)
    assert await bench.provider.cancel(dead) is None


@case(57, Feature.REST)
async def what_rests_is_cancelled_by_proof(bench: Bench) -> None:
    """An order that rests is unknown until its cancel has ended it; then it is dead by that transaction's record."""
    bench.venue.hold_orders()
    await bench.slots(2)
    submission = await bench.prepared()
    await bench.provider.submit(submission)
    assert (await bench.until(submission, lambda each: each.resting)).state is OutcomeState.UNKNOWN
    cancel = await bench.cancelled(submission)
    outcome = await bench.settled(submission)
    assert (outcome.state, outcome.fills, outcome.resting) == (OutcomeState.DEAD, (), False)
    assert outcome.evidence[0].signature == cancel.handle
    assert await bench.held() == 0
