"""The chain and the promise, on scripted venues: what is asked next, and what never is."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.errors import (
    AccountMissing,
    ErrorClass,
    InsufficientCollateral,
    LockHeld,
    OpenInterestCap,
    ProviderError,
    RequestRejected,
    SignerRefused,
    TimedOut,
    UnknownCode,
    VenueHalted,
    WorstPriceNotMet,
)
from providers.base.types import LockRef, Side
from router.engine.requests import KeyMismatch, NothingToClose, OpenRequest
from router.ledger.records import AttemptState, OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play


def outcomes(view: object) -> list[tuple[str, str]]:
    """Return each attempt's provider and state."""
    return [(a.provider, a.state.value) for a in view.attempts]  # type: ignore[attr-defined]


def test_the_first_provider_that_fills_ends_the_order() -> None:
    """One fill by the first provider: nobody else is asked, and a lot is on record."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert outcomes(view) == [("alpha", "filled")]
        assert desk.lots()[0].size == Decimal(2)
        assert desk.providers["beta"].sent == []

    trade(story)


@pytest.mark.parametrize(
    "refusal",
    [OpenInterestCap, VenueHalted, TimedOut, InsufficientCollateral, AccountMissing, WorstPriceNotMet, UnknownCode],
)
def test_a_refusal_before_sending_asks_the_next_provider(refusal: type[ProviderError]) -> None:
    """Every class that allows it fails over at once, and the answer tells why."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "refused"), ("beta", "filled")]
        error = view.attempts[0].error
        assert error is not None
        assert (error.code, error.raw_code) == (refusal.code, "6154")
        assert desk.providers["alpha"].sent == []

    trade(story, alpha=(refusal("no", raw_code=6154),))


@pytest.mark.parametrize("refusal", [SignerRefused, RequestRejected])
def test_a_policy_refusal_or_a_bug_of_ours_asks_nobody_else(refusal: type[ProviderError]) -> None:
    """Classes that forbid the next provider end the order."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        assert outcomes(view) == [("alpha", "refused")]
        assert desk.providers["beta"].terms == []

    trade(story, alpha=(refusal("no"),))


def test_a_provider_that_cannot_quote_is_passed_with_its_reason() -> None:
    """The bound comes from the first provider that quotes, and the one before it is on record."""

    async def story(desk: Desk) -> None:
        desk.providers["alpha"].quote_error = VenueHalted("halted", raw_code=101)
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "refused"), ("beta", "filled")]
        assert view.order.worst_price == Decimal("150.75")

    trade(story)


def test_failover_never_widens_the_price() -> None:
    """The second provider is given the bound that the first one's quote fixed."""

    async def story(desk: Desk) -> None:
        desk.providers["beta"].price = Decimal(170)
        view = await desk.open()
        desk.check(view)
        assert [terms.worst_price for terms in desk.providers["beta"].terms] == [Decimal("150.75")]

    trade(story, alpha=(OpenInterestCap("full"),))


def test_all_dead_is_failed_with_every_attempt() -> None:
    """When nobody fills, the order says what each of them said."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        codes = [a.error.code for a in view.attempts if a.error is not None]
        assert codes == ["open_interest_cap", "worst_price_not_met", "halted"]

    trade(story, alpha=(OpenInterestCap("full"),), beta=(Play(what="err"),), gamma=(VenueHalted("halted"),))


def test_a_lost_answer_is_not_a_failure() -> None:
    """The node answered nothing, the transaction executed: one fill, no second provider."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "filled")]

    trade(story, alpha=(Play(ack="cut", seen_after_s=2.0),))


def test_an_unclear_attempt_gets_a_sibling_under_the_same_lock() -> None:
    """After patience the next provider runs under the same generation, and exactly one of the two executes."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "superseded"), ("beta", "filled")]
        assert [a.generation for a in view.attempts] == [0, 0]
        assert [a.number for a in view.attempts] == [1, 2]

    trade(story, alpha=(Play(what="fill", after_s=30.0),))


def test_a_sibling_that_lands_first_wins_even_when_it_was_asked_first() -> None:
    """The first attempt lands late but before its sibling, which is superseded; the first fill is booked."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert sorted(outcomes(view)) == [("alpha", "filled"), ("beta", "superseded")]
        assert view.order.filled_by == "alpha"

    trade(story, alpha=(Play(what="fill", after_s=5.0),), beta=(Play(what="fill", after_s=20.0),))


def test_without_a_next_provider_a_fence_settles_what_is_unclear() -> None:
    """A transaction that never arrives is shut out by our fence in moments instead of a minute."""

    async def story(desk: Desk) -> None:
        began = desk.clock.monotonic()
        view = await desk.open(provider="alpha", ttl_s=12)
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        assert desk.chain.fences_sent >= 1
        assert desk.clock.monotonic() - began < 15
        assert {a.state for a in view.attempts} == {AttemptState.DEAD}
        assert view.attempts[0].error is not None
        assert view.attempts[0].error.code == "not_landed"

    trade(story, alpha=(Play(what="lost"), Play(what="lost"), Play(what="lost"), Play(what="lost")))


def test_after_a_fence_the_same_provider_is_tried_again_in_a_new_generation() -> None:
    """What did not land was no refusal: the order goes on while its deadline allows."""

    async def story(desk: Desk) -> None:
        view = await desk.open(provider="alpha")
        desk.check(view)
        assert outcomes(view) == [("alpha", "dead"), ("alpha", "filled")]
        assert [a.generation for a in view.attempts] == [0, 1]

    trade(story, alpha=(Play(what="lost"), Play()))


def test_a_lost_fence_is_sent_again() -> None:
    """A fence is a transaction like any other and may get lost."""

    async def story(desk: Desk) -> None:
        desk.chain.fences_fail = 2
        view = await desk.open(provider="alpha")
        desk.check(view)
        assert desk.chain.fences_sent == 3
        assert outcomes(view) == [("alpha", "dead"), ("alpha", "filled")]

    trade(story, alpha=(Play(what="lost"), Play()))


def test_a_stranger_in_the_lock_makes_the_attempt_dead_and_the_next_generation_begins() -> None:
    """Dust sent to the lock before we landed holds it: nothing of ours can execute there."""

    async def story(desk: Desk) -> None:
        desk.providers["alpha"].plays = [Play(what="fill", after_s=3.0), Play()]
        order_id = await desk.place(provider="alpha")
        await desk.clock.sleep(1.0)
        lock = desk.ledger.order(order_id).attempts[0].submission.lock  # type: ignore[union-attr]
        desk.chain.take(lock, "stranger-1", desk.clock.monotonic())
        view = await desk.end_of(order_id)
        desk.check(view)
        assert outcomes(view) == [("alpha", "dead"), ("alpha", "filled")]

    trade(story)


def test_landed_without_a_fill_lets_the_next_provider_run_in_the_next_generation() -> None:
    """Proof 3: the attempt holds the lock and left nothing, so the lock steps."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "dead"), ("beta", "filled")]
        assert [a.generation for a in view.attempts] == [0, 1]

    trade(story, alpha=(Play(what="nothing"),))


def test_landed_with_an_error_leaves_the_lock_free_and_the_generation_as_it_is() -> None:
    """A failed transaction takes no lock: the next attempt shares the generation."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert [a.generation for a in view.attempts] == [0, 0]

    trade(story, alpha=(Play(what="err"),))


def test_nothing_written_to_any_url_is_dead_at_once() -> None:
    """An unreachable node costs no patience."""

    async def story(desk: Desk) -> None:
        began = desk.clock.monotonic()
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "dead"), ("beta", "filled")]
        assert desk.clock.monotonic() - began < 2

    trade(story, alpha=(Play(what="not_sent"),))


def test_without_a_lock_nobody_else_is_asked_until_expiry_is_proven() -> None:
    """A venue that cannot carry the lock keeps the order to itself while it is unclear."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place(ttl_s=300)
        await desk.clock.sleep(50)
        assert desk.providers["beta"].terms == []
        view = await desk.end_of(order_id)
        desk.check(view)
        assert outcomes(view) == [("alpha", "dead"), ("beta", "filled")]

    trade(story, alpha=(Play(what="lost"),), order_lock=False)


def test_a_resting_order_is_cancelled_and_its_end_proven_before_the_next_provider() -> None:
    """It executed, so it holds the lock: no sibling, no fence; the cancel is named and proven."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        assert outcomes(view) == [("alpha", "dead"), ("beta", "filled")]
        assert desk.providers["alpha"].cancels == 1
        assert desk.chain.fences_sent == 0
        assert [a.generation for a in view.attempts] == [0, 1]

    trade(story, alpha=(Play(what="rest"),))


def test_the_rest_of_a_partial_fill_is_never_failed_over() -> None:
    """What a keeper filled in part is booked at once, and the remainder waits on its own venue."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place(ttl_s=40)
        await desk.clock.sleep(5)
        desk.providers["alpha"].fill_resting(Decimal("0.5"), ends=False)
        await desk.clock.sleep(5)
        assert desk.lots()[0].size == Decimal("0.5")
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.PARTIALLY_FILLED
        assert desk.providers["beta"].terms == []

    trade(story, alpha=(Play(what="rest"),))


def test_no_attempt_starts_after_the_deadline() -> None:
    """A chain that is still unclear at its deadline is fenced and ends."""

    async def story(desk: Desk) -> None:
        view = await desk.open(ttl_s=5)
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        assert all(a.started_at < view.order.deadline for a in view.attempts)
        assert desk.providers["gamma"].terms == []

    trade(story, alpha=(Play(what="lost"),), beta=(Play(what="lost"),))


def test_cancel_ends_the_chain_by_proof() -> None:
    """A cancel while an attempt is unclear fences it, and the order ends cancelled with nothing filled."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place()
        await desk.clock.sleep(1.0)
        await desk.engine.cancel(order_id)
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.CANCELLED
        assert desk.chain.fences_sent == 1

    trade(story, alpha=(Play(what="fill", after_s=30.0),))


def test_a_cancel_that_comes_too_late_reports_the_fill() -> None:
    """A fill that won the race against the fence is the end of the order, whatever was asked for."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place()
        await desk.clock.sleep(1.0)
        await desk.engine.cancel(order_id)
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED

    trade(story, alpha=(Play(what="fill", seen_after_s=8.0),))


def test_an_open_against_the_other_side_is_refused_as_would_net() -> None:
    """A long on a netting slot is never eaten by a new short; the next provider takes it."""

    async def story(desk: Desk) -> None:
        await desk.open()
        view = await desk.open(side=Side.SHORT)
        assert outcomes(view) == [("alpha", "refused"), ("beta", "filled")]
        assert view.attempts[0].error is not None
        assert view.attempts[0].error.code == "would_net"

    trade(story)


def test_an_unclear_attempt_counts_as_a_holding() -> None:
    """While a long may still fill, a short on the same slot is not sent there."""

    async def story(desk: Desk) -> None:
        first = await desk.place(provider="alpha")
        await desk.clock.sleep(0.5)
        second = await desk.open(side=Side.SHORT, provider="alpha", ttl_s=2)
        assert second.order.status is OrderStatus.FAILED
        assert second.attempts[0].error is not None
        assert second.attempts[0].error.code == "would_net"
        await desk.end_of(first)

    trade(story, alpha=(Play(what="fill", seen_after_s=3.5),))


def test_a_close_goes_to_the_position_s_own_provider_and_nowhere_else() -> None:
    """A close that dies does not fail over."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        view = await desk.close(lot.position_id)
        assert view.order.status is OrderStatus.FAILED
        assert {a.provider for a in view.attempts} == {"alpha"}
        view = await desk.close(lot.position_id)
        desk.check(view)
        assert desk.lots()[0].size == Decimal(0)

    trade(story, alpha=(Play(), Play(what="err"), Play()))


@pytest.mark.parametrize("refusals", [1, 3])
def test_a_close_that_reaches_nobody_is_tried_again(refusals: int) -> None:
    """A close has no other provider to go to: a node that was out of reach is asked again, within the deadline."""

    async def story(desk: Desk) -> None:
        await desk.open()
        desk.providers["alpha"].plays = [TimedOut("no answer") for _ in range(refusals)]
        view = await desk.close(desk.lots()[0].position_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert [a.state for a in view.attempts] == [AttemptState.REFUSED] * refusals + [AttemptState.FILLED]

    trade(story)


def test_two_closes_at_once_never_close_more_than_the_lot() -> None:
    """The second close finds nothing left to reserve while the first is unclear."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        first = await desk.close(lot.position_id, size="1.5", wait=False)
        await desk.clock.sleep(0.5)
        second = await desk.close(lot.position_id, wait=False)
        assert second.order.requested_size == Decimal("0.5")
        with pytest.raises(NothingToClose):
            await desk.close(lot.position_id, wait=False)
        await desk.end_of(first.order.order_id)
        await desk.end_of(second.order.order_id)
        assert desk.lots()[0].size == Decimal(0)
        assert desk.venue_exposure() == 0

    trade(story, alpha=(Play(), Play(seen_after_s=3.0), Play()))


def test_the_same_key_gives_the_same_order_however_often_it_is_asked() -> None:
    """A hundred identical posts at once make one order and one fill; another body is refused."""

    async def story(desk: Desk) -> None:
        request = OpenRequest(
            caller="local",
            key="k",
            client_order_id=None,
            fingerprint="body",
            market="SOL-PERP",
            side=Side.LONG,
            size=Decimal(1),
        )
        placed = await asyncio.gather(*(desk.engine.open(request) for _ in range(100)))
        assert len({p.view.order.order_id for p in placed}) == 1
        assert sum(not p.replayed for p in placed) == 1
        view = await desk.end_of(placed[0].view.order.order_id)
        desk.check(view)
        assert desk.venue_exposure() == Decimal(1)
        other = OpenRequest(
            caller="local",
            key="k",
            client_order_id=None,
            fingerprint="another",
            market="SOL-PERP",
            side=Side.LONG,
            size=Decimal(2),
        )
        with pytest.raises(KeyMismatch):
            await desk.engine.open(other)

    trade(story)


def test_a_held_lock_found_while_preparing_is_resolved_before_anything_is_sent() -> None:
    """A simulation that meets a held lock is no refusal: the holder is found, and the generation steps past it."""

    async def story(desk: Desk) -> None:
        desk.providers["alpha"].plays = [LockHeld("held"), Play()]
        original = desk.chain.new_terms

        terms = await original()

        async def fixed() -> object:
            return terms

        desk.chain.new_terms = fixed  # type: ignore[method-assign,assignment]
        desk.chain.take(LockRef(terms=terms, part=0, generation=0), "stranger", 0.0)
        view = await desk.open()
        desk.check(view)
        assert [(a.provider, a.generation, a.state.value) for a in view.attempts] == [("alpha", 1, "filled")]

    trade(story)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("what", ["fill", "lost", "nothing", "err", "rest"])
def test_a_crash_at_any_moment_opens_nothing_twice_and_loses_nothing(what: str, delay: float, tmp_path: Path) -> None:
    """Killed and restarted on its ledger, the engine ends the order with one fill at most, and the book agrees."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place()
        if delay:
            await desk.clock.sleep(delay)
        await desk.crash()
        view = await desk.end_of(order_id)
        desk.check(view)
        executed = sum(1 for p in desk.providers.values() for e in p.truth.values() if e.filled)
        assert executed <= 1

    trade(story, alpha=(Play(what=what, seen_after_s=2.0),), path=tmp_path / "ledger.db")


def test_an_open_that_was_journaled_and_perhaps_never_sent_is_not_sent_after_a_restart(tmp_path: Path) -> None:
    """The bytes of a dead process's open are fenced, never sent again."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]
        hang = asyncio.Event()
        original = alpha.submit

        async def never(submission: object) -> object:
            await hang.wait()
            return await original(submission)  # type: ignore[arg-type]

        alpha.submit = never  # type: ignore[method-assign,assignment]
        order_id = await desk.place()
        await desk.clock.sleep(0.5)
        journaled = desk.ledger.order(order_id).attempts[0]  # type: ignore[union-attr]
        assert journaled.state is AttemptState.JOURNALED
        alpha.submit = original  # type: ignore[method-assign]
        await desk.crash()
        view = await desk.end_of(order_id)
        desk.check(view)
        assert journaled.submission is not None
        assert journaled.submission.handle not in alpha.sent
        assert view.attempts[0].error is not None
        assert view.attempts[0].error.code == "not_landed"
        assert view.attempts[0].error.error_class is ErrorClass.CONNECTION

    trade(story, path=tmp_path / "ledger.db")


def test_locks_are_returned_only_when_nothing_that_carries_them_can_land() -> None:
    """Reclaim waits for the deadline and for the expiry of every attempt and fence."""

    async def story(desk: Desk) -> None:
        desk.chain.expiry_s = 200.0
        await desk.open(ttl_s=10)
        await desk.clock.sleep(150)
        assert desk.chain.reclaimed == []
        await desk.clock.sleep(120)
        assert desk.chain.reclaimed != []

    trade(story)
