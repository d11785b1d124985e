"""Stops and take profits that rest on the venue."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from providers.base.errors import ErrorClass, InvalidSize, InvalidTrigger, LockHeld, MarketPaused
from providers.base.types import OrderKind, OutcomeState, Side, Submission
from router.localnet.faults import Fault
from tests.jupiter.jupiter_desk import SOL, JupiterDesk, at_jupiter_desk, order_in

# Side, trigger price, whether above, the bound, and the price that sets it off.
LEGS = [
    (Side.LONG, "160", True, "100", "161"),
    (Side.LONG, "140", False, "100", "139.5"),
    (Side.SHORT, "140", False, "200", "139.99"),
    (Side.SHORT, "160", True, "200", "160"),
]


async def placed(
    desk: JupiterDesk, side: Side, size: str, price: str, *, above: bool, worst: str | None = None
) -> Submission:
    """Place a trigger and see it rest."""
    worst = worst or ("1" if side is Side.LONG else "10000")
    terms = await desk.trigger_terms(side, Decimal(size), price, above=above, worst=worst)
    submission = await desk.provider.prepare_trigger(terms)
    await desk.provider.submit(submission)
    outcome = await desk.until(submission, lambda each: each.resting)
    assert (outcome.state, outcome.resting) == (OutcomeState.UNKNOWN, True)
    return submission


@pytest.mark.parametrize(("side", "price", "above", "worst", "moved"), LEGS)
def test_it_waits_and_fires(side: Side, price: str, above: bool, worst: str, moved: str) -> None:  # noqa: FBT001 - a parameter of the table
    """It rests until its price, closes the lot's size, and leaves no account behind."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(side, "2")
        submission = await placed(desk, side, "2", price, above=above, worst=worst)
        await desk.clock.sleep(timedelta(minutes=3).total_seconds())
        assert (await desk.provider.settle(submission)).resting
        desk.controls.set_oracle_price(SOL, Decimal(moved))
        outcome = await desk.settled(submission, provider=desk.restarted())
        assert (outcome.state, outcome.fills[0].size) == (OutcomeState.FILLED, Decimal(2))
        assert await desk.held() == 0
        assert not desk.exists(order_in(submission).request)

    at_jupiter_desk(play)


def test_it_closes_the_lot_and_no_more() -> None:
    """With other lots on the slot, and after the slot has grown, it takes its own size."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "2")
        submission = await placed(desk, Side.SHORT, "2", "155", above=True)
        await desk.opened(Side.SHORT, "3")
        desk.controls.set_oracle_price(SOL, Decimal(156))
        outcome = await desk.settled(submission)
        assert (outcome.state, outcome.fills[0].size) == (OutcomeState.FILLED, Decimal(2))
        assert await desk.held() == -3

    at_jupiter_desk(play)


def test_its_fill_tells_what_it_took_off() -> None:
    """Dollars of a lot stand for more base once the entry price has fallen: fill and holding say so alike."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "2")
        submission = await placed(desk, Side.SHORT, "2", "170", above=True)
        desk.controls.set_oracle_price(SOL, Decimal(120))
        await desk.slots(2)
        await desk.opened(Side.SHORT, "2")
        (before,) = await desk.provider.positions()
        desk.controls.set_oracle_price(SOL, Decimal(171))
        (fill,) = (await desk.settled(submission)).fills
        assert fill.size > 2
        (after,) = await desk.provider.positions()
        assert abs(before.size - fill.size - after.size) <= after.size_tolerance

    at_jupiter_desk(play)


def test_it_can_be_cancelled_at_any_time() -> None:
    """No window holds its owner back; the end is shown, and it fires no more."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        submission = await placed(desk, Side.LONG, "1", "140", above=False)
        cancel = await desk.provider.cancel(submission)
        assert cancel is not None
        await desk.provider.submit(cancel)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert outcome.error.error_class is ErrorClass.PRICE
        desk.controls.set_oracle_price(SOL, Decimal(130))
        await desk.slots(10)
        assert await desk.held() == 1
        assert await desk.provider.cancel(submission) is None

    at_jupiter_desk(play)


def test_it_ends_with_its_position() -> None:
    """What waits on a position that was closed is taken off by a keeper: dead, for nothing is left."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "1")
        submission = await placed(desk, Side.SHORT, "1", "170", above=True)
        await desk.closed(Side.SHORT, "1")
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert outcome.error.code == "nothing_left"

    at_jupiter_desk(play)


def test_a_price_that_the_market_has_passed() -> None:
    """The venue takes no trigger that is reached already; nothing is sent."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        for price, above in (("149", True), ("151", False)):
            terms = await desk.trigger_terms(Side.LONG, Decimal(1), price, above=above, worst="1")
            with pytest.raises(InvalidTrigger) as caught:
                await desk.provider.prepare_trigger(terms)
            assert caught.value.raw_code == "6037"
        with pytest.raises(InvalidTrigger):
            await desk.provider.prepare_trigger(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE))

    at_jupiter_desk(play)


def test_no_position_to_protect() -> None:
    """Without a holding on this side there is nothing that a trigger could close."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "1")
        terms = await desk.trigger_terms(Side.LONG, Decimal(1), "160", above=True, worst="1")
        with pytest.raises(InvalidSize):
            await desk.provider.prepare_trigger(terms)

    at_jupiter_desk(play)


def test_never_placed_twice_under_one_lock() -> None:
    """Two placements of one generation, sent together: one rests, the other never can, a third is refused."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        lock = await desk.lock()
        legs = [
            await desk.provider.prepare_trigger(
                await desk.trigger_terms(Side.LONG, Decimal(1), "140", above=False, worst="1", lock=lock, number=number)
            )
            for number in (1, 2)
        ]
        for each in reversed(legs):
            await desk.provider.submit(each)
        lost = await desk.settled(legs[0])
        assert (lost.state, lost.holder) == (OutcomeState.SUPERSEDED, legs[1].handle)
        assert (await desk.until(legs[1], lambda each: each.resting)).resting
        assert len((await desk.provider.holdings()).orders) == 1
        with pytest.raises(LockHeld):
            await desk.provider.prepare_trigger(
                await desk.trigger_terms(Side.LONG, Decimal(1), "140", above=False, worst="1", lock=lock, number=3)
            )

    at_jupiter_desk(play)


def test_a_lost_answer_while_placing() -> None:
    """Every node's answer is lost after executing: settling finds the request, and exactly one rests."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        terms = await desk.trigger_terms(Side.LONG, Decimal(1), "140", above=False, worst="1")
        leg = await desk.provider.prepare_trigger(terms)
        desk.faults.add(Fault(kind="lost_after", method="sendTransaction", count=2))
        assert (await desk.provider.submit(leg)).accepted == 0
        await desk.provider.submit(leg)
        assert (await desk.until(leg, lambda each: each.resting, provider=desk.restarted())).resting
        assert len((await desk.provider.holdings()).orders) == 1

    at_jupiter_desk(play)


def test_wrapped_sol_stays_while_anything_waits() -> None:
    """No unwrapping while a trigger may pay into the account; once it has ended, there is."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        submission = await placed(desk, Side.LONG, "1", "140", above=False)
        with pytest.raises(MarketPaused, match=order_in(submission).request):
            await desk.provider.unwrap()
        desk.controls.set_oracle_price(SOL, Decimal(139))
        assert (await desk.settled(submission)).state is OutcomeState.FILLED
        assert await desk.provider.unwrap() is not None

    at_jupiter_desk(play)


def test_a_receiving_account_that_is_gone_when_it_fires() -> None:
    """It cannot pay and keeps waiting; a close of ours makes the account anew, and then it fires."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "2")
        submission = await placed(desk, Side.LONG, "1", "140", above=False)
        desk.drop_token_account("SOL")
        desk.controls.set_oracle_price(SOL, Decimal(139))
        await desk.slots(10)
        assert (await desk.provider.settle(submission)).resting
        assert (await desk.closed(Side.LONG, "1", worst="1")).state is OutcomeState.FILLED
        assert (await desk.settled(submission)).state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_jupiter_desk(play)
