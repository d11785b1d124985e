"""After an order has ended: outcomes watched until they are final, dead attempts for a day, nobody starved."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest

from providers.base.errors import NotLanded
from providers.base.types import Outcome, OutcomeState, Submission
from router.ledger.protocol import Claim, Created, LedgerError
from router.ledger.records import AttemptState, NewOrder, OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Executed, Play


def test_a_dead_attempt_whose_sibling_took_the_lock_stays_dead_and_harms_nobody() -> None:
    """Looked at again, it reads as superseded: that is no news, and the watch goes on."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        assert [a.state.value for a in view.attempts] == ["dead", "filled"]
        assert {a.generation for a in view.attempts} == {0}
        await desk.clock.sleep(3000)
        assert desk.told.alerts == []
        again = desk.engine.order(view.order.order_id)
        assert [a.state.value for a in again.attempts] == ["dead", "filled"]
        assert again.attempts[0].error is not None
        desk.check(again)

    trade(story, alpha=(Play(what="not_sent"),))


def test_an_order_that_cannot_be_looked_at_starves_no_other_and_no_other_duty() -> None:
    """One adapter answers nonsense about one old order: funds are still checked, and later orders looked at."""

    async def story(desk: Desk) -> None:
        alpha, looked = desk.providers["alpha"], []
        first = await desk.open()
        second = await desk.open()
        bad, fill = first.attempts[0].submission, first.fills[0].fill
        assert bad is not None

        async def settle(submission: Submission) -> Outcome:
            looked.append(submission.handle)
            if submission.handle == bad.handle:
                broken = msgspec.structs.replace(fill, venue_fill_id="other", size=Decimal(-1))
                return Outcome(state=OutcomeState.PARTIALLY_FILLED, fills=(broken,))
            return Outcome(state=OutcomeState.UNKNOWN)

        async def shortage() -> str | None:
            looked.append("shortage")
            return None

        alpha.settle = settle  # type: ignore[method-assign]
        desk.chain.shortage = shortage  # type: ignore[method-assign]
        await desk.clock.sleep(60)
        assert second.attempts[0].submission is not None
        assert second.attempts[0].submission.handle in looked
        assert "shortage" in looked

    trade(story, alpha=(Play(finalized=False), Play(finalized=False)))


def test_a_fenced_attempt_becomes_final_and_its_lock_is_returned() -> None:
    """Once it can never land any more it is asked for the last time, and the rent comes back."""

    async def story(desk: Desk) -> None:
        view = await desk.open(provider="alpha", ttl_s=10)
        assert view.order.status is OrderStatus.FAILED
        assert not view.attempts[0].finalized
        await desk.clock.sleep(300)
        assert desk.engine.order(view.order.order_id).attempts[0].finalized
        assert desk.chain.reclaimed != []
        assert desk.engine.order(view.order.order_id).order.lock_reclaimed

    trade(story, alpha=(Play(what="lost"),) * 4)


def test_a_lock_is_returned_only_when_its_fill_is_beyond_forks() -> None:
    """Its blockhash is past, but the fill could still be undone: a reclaimed lock would then exclude nobody."""

    async def story(desk: Desk) -> None:
        desk.chain.expiry_s = 20.0
        view = await desk.open(provider="alpha", ttl_s=10)
        attempt = view.attempts[0].submission
        assert attempt is not None
        await desk.clock.sleep(300)
        assert await desk.chain.expired(attempt)
        assert desk.chain.reclaimed == []
        desk.providers["alpha"].truth[attempt.handle].finalized = True
        await desk.clock.sleep(100)
        assert desk.chain.reclaimed != []
        assert desk.engine.order(view.order.order_id).order.lock_reclaimed

    trade(story, alpha=(Play(finalized=False),))


def test_a_fence_and_a_stranger_are_counted_and_noted_once() -> None:
    """The watch asks again and again; what it finds again is no second finding."""

    async def story(desk: Desk) -> None:
        fenced = await desk.open(provider="alpha", ttl_s=10)
        order_id = await desk.place(provider="alpha", ttl_s=10)
        await desk.clock.sleep(0.5)
        attempt = desk.engine.order(order_id).attempts[0]
        assert attempt.submission is not None
        desk.chain.take(attempt.submission.lock, "stranger-1", desk.clock.monotonic())
        await desk.end_of(order_id)
        await desk.clock.sleep(50)
        sent = sum(len(desk.engine.order(o).secondaries) for o in (fenced.order.order_id, order_id))
        assert desk.told.fences.count("held") + desk.told.fences.count("lost") <= sent
        assert [event.kind for event in desk.ledger.events(limit=10_000)].count("stranger_holds_lock") == 1
        assert desk.told.alerts.count("stranger_holds_lock") == 1

    trade(story, alpha=(Play(what="lost"),) * 12)


def test_an_order_that_is_durable_though_its_write_was_reported_failed_is_carried_on() -> None:
    """The caller got an error, the ledger has the order: it must not hold a lot, or a key, for ever."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        create = desk.ledger.create_order

        async def fails(order: NewOrder, claim: Claim | None = None) -> Created:
            await create(order, claim)
            raise LedgerError("the disk says no, after the commit")

        desk.ledger.create_order = fails  # type: ignore[method-assign]
        with pytest.raises(LedgerError):
            await desk.close(lot.position_id)
        desk.ledger.create_order = create  # type: ignore[method-assign]
        await desk.clock.sleep(30)
        assert desk.ledger.open_orders() == ()
        assert desk.lots()[0].size == 0
        desk.check(desk.ledger.orders(limit=1)[0][0])

    trade(story)


def test_a_runner_that_ended_by_itself_is_started_again() -> None:
    """A cancellation that is not ours (an adapter's) must not leave an order that nobody settles."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]
        original = alpha.settle

        async def cancelled(_: Submission) -> Outcome:
            alpha.settle = original  # type: ignore[method-assign]
            raise asyncio.CancelledError

        alpha.settle = cancelled  # type: ignore[method-assign,assignment]
        view = await desk.open()
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED

    trade(story)


def test_a_dead_attempt_that_turns_up_on_the_venue_is_booked_and_holds_opens() -> None:
    """Proven dead, and yet it rests there and has filled: booked at once, reported, and no open starts."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]
        view = await desk.open(provider="alpha", ttl_s=2)
        assert view.order.status is OrderStatus.FAILED
        handle = view.attempts[0].submission.handle  # type: ignore[union-attr]
        lock = view.attempts[0].submission.lock  # type: ignore[union-attr]
        assert lock is not None
        desk.chain.holders[lock.seed] = (handle, desk.clock.monotonic())
        now = desk.clock.monotonic()
        alpha.truth[handle] = Executed(what="rest", at=now, seen_at=now, filled=Decimal("0.5"), ended=False)
        await desk.clock.sleep(6)
        assert "promise_violation" in desk.engine.holds()
        assert desk.exposure() == desk.venue_exposure() == Decimal("0.5")
        again = await desk.end_of(view.order.order_id)
        assert again.order.status is OrderStatus.PARTIALLY_FILLED
        assert desk.exposure() == desk.venue_exposure()

    trade(story, alpha=(Play(what="lost"),) * 4)


def test_a_holder_that_was_believed_dead_is_asked_again_before_the_order_ends() -> None:
    """Its sibling reads as superseded by it: it executed after all, and its fill is the order's."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]
        original = alpha.settle
        lied = False

        async def settle(submission: Submission) -> Outcome:
            nonlocal lied
            if not lied and desk.clock.monotonic() > 1:
                lied = True
                return alpha._dead(NotLanded("expired, it seems"), landed=False, finalized=True)
            return await original(submission)

        alpha.settle = settle  # type: ignore[method-assign]
        desk.chain.simulates_behind = True
        view = await desk.open(ttl_s=8)
        assert view.order.status is OrderStatus.FILLED
        assert view.order.filled_by == "alpha"
        assert {a.provider: a.state for a in view.attempts} == {
            "alpha": AttemptState.FILLED,
            "beta": AttemptState.SUPERSEDED,
        }
        assert "promise_violation" in desk.engine.holds()
        assert desk.exposure() == desk.venue_exposure()

    trade(story, alpha=(Play(seen_after_s=3.0),), beta=(Play(what="fill", after_s=1.0),))


def test_ended_orders_of_a_provider_that_is_gone_hold_nothing() -> None:
    """A chain that was configured anew: what has ended there needs nobody, and opens go on."""

    async def story(desk: Desk) -> None:
        await desk.open()
        del desk.providers["alpha"]
        await desk.clock.sleep(60)
        assert desk.engine.holds() == {}

    trade(story, alpha=(Play(finalized=False),))


def test_an_order_that_stays_unclear_raises_an_alert_once() -> None:
    """Nobody may have to look at a gauge to learn that money is unaccounted for."""

    async def story(desk: Desk) -> None:
        desk.chain.expiry_s = 3600.0
        desk.chain.fences_fail = 10_000
        await desk.place(provider="alpha", ttl_s=10)
        await desk.clock.sleep(100)
        assert "order_unknown" not in desk.told.alerts
        await desk.clock.sleep(100)
        assert desk.told.alerts.count("order_unknown") == 1

    trade(story, alpha=(Play(what="lost"),))


def test_an_attempt_that_executed_is_final_only_when_its_venue_says_so() -> None:
    """That its bytes are past says nothing of the transaction that ended what it placed: that one may be younger."""

    async def story(desk: Desk) -> None:
        view = await desk.open(provider="alpha", ttl_s=5)
        assert view.attempts[0].executed
        await desk.clock.sleep(300)
        assert not desk.engine.order(view.order.order_id).attempts[0].finalized

    trade(story, alpha=(Play(what="nothing"),))
