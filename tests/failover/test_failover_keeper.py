"""The chain of three: Jupiter, where a stranger fills, behind Drift and Mango, or before them."""

from __future__ import annotations

import msgspec

from providers.base.errors import ErrorClass
from router.api.answers import order_status
from router.ledger.records import AttemptState, OrderStatus
from router.localnet.jupiter.controls import JupiterControls
from tests.conformance.conformance_jupiter import JupiterVenue
from tests.failover.failover_desk import DRIFT, JUPITER, MANGO, Desk, at_desk

THREE = (DRIFT, MANGO, JUPITER)


def keeper_of(desk: Desk) -> JupiterControls:
    """Return the controls of Jupiter's side."""
    venue = desk.venues[JUPITER]
    assert isinstance(venue, JupiterVenue)
    return venue.controls


def test_the_third_fills_when_two_cannot() -> None:
    """Drift halted, Mango reduce-only: Jupiter's keeper fills, and the attempts tell the story in order."""

    async def play(desk: Desk) -> None:
        desk.venues[DRIFT].halt()
        desk.venues[MANGO].reduce_only()
        await desk.slots(150)
        view = await desk.open()
        answer = desk.answer(view)
        assert (answer.status, answer.provider, answer.fallback_used) == (OrderStatus.FILLED, JUPITER, True)
        assert desk.status(view) == 201
        told = [(a.provider, a.state, None if a.error is None else a.error.code) for a in view.attempts]
        assert told == [
            (DRIFT, AttemptState.REFUSED, "halted"),
            (MANGO, AttemptState.REFUSED, "market_reduce_only"),
            (JUPITER, AttemptState.FILLED, None),
        ]
        assert await desk.held(JUPITER) == 1

    at_desk(play, THREE)


def test_an_order_that_waits_for_the_keeper_is_no_failure() -> None:
    """While the request waits the answer is 202 and nobody else is asked; once executed the same order is filled."""

    async def play(desk: Desk) -> None:
        keeper_of(desk).set_keeper_delay(40)
        order_id = await desk.place()
        view = await desk.engine.wait(order_id, 8)
        assert order_status(view) == 202
        assert [attempt.provider for attempt in view.attempts] == [JUPITER]
        view = await desk.ended(order_id)
        assert desk.status(view) == 201
        assert view.order.filled_by == JUPITER

    at_desk(play, (JUPITER, MANGO))


def test_a_rejection_goes_to_the_next() -> None:
    """A custody that fills up after the request landed: dead by the keeper's record, and the next provider fills."""

    async def play(desk: Desk) -> None:
        keeper_of(desk).reject("CustodyAmountLimit")
        view = await desk.open()
        answer = desk.answer(view)
        assert (answer.provider, answer.fallback_used) == (MANGO, True)
        rejected, filled = view.attempts
        assert (rejected.provider, rejected.state, rejected.landed) == (JUPITER, AttemptState.DEAD, True)
        assert rejected.error is not None
        assert rejected.error.error_class in {ErrorClass.CAPACITY, ErrorClass.PRICE}
        assert (filled.provider, filled.generation) == (MANGO, rejected.generation + 1)
        assert await desk.held(JUPITER) == 0

    at_desk(play, (JUPITER, MANGO))


def test_a_keeper_that_stands_still_is_waited_out() -> None:
    """Nobody else is asked before the window is over, the owner's cancel landed and the refund shown; then one is."""

    async def play(desk: Desk) -> None:
        keeper_of(desk).run_keeper(running=False)
        order_id = await desk.place(ttl_s=120)
        view = await desk.engine.wait(order_id, 44)
        assert not view.order.status.final
        assert [attempt.provider for attempt in view.attempts] == [JUPITER]
        view = await desk.ended(order_id)
        first, second = view.attempts
        assert (first.state, second.provider, second.state) == (AttemptState.DEAD, MANGO, AttemptState.FILLED)
        cancels = [each for each in view.secondaries if each.purpose.value == "cancel"]
        assert cancels
        assert first.evidence[0].signature in {each.submission.handle for each in cancels}
        keeper_of(desk).run_keeper()
        await desk.slots(40)
        assert await desk.held(JUPITER) == 0

    at_desk(play, (JUPITER, MANGO))


def test_a_keeper_that_stands_still_past_the_deadline_leaves_nothing() -> None:
    """Past its deadline the order ends `failed` once the request is proven gone; no money is left in it."""

    async def play(desk: Desk) -> None:
        keeper_of(desk).run_keeper(running=False)
        view = await desk.open(ttl_s=20)
        assert view.order.status is OrderStatus.FAILED
        assert [attempt.provider for attempt in view.attempts] == [JUPITER]
        assert view.attempts[0].state is AttemptState.DEAD
        assert await desk.held(MANGO) == 0

    at_desk(play, (JUPITER, MANGO))


def test_both_sides_are_held_on_a_venue_that_does_not_net() -> None:
    """A short beside a long is refused by the venues that net and taken by the one that does not."""

    async def play(desk: Desk) -> None:
        for name in (DRIFT, MANGO, JUPITER):
            assert (await desk.open(provider=name)).order.filled_by == name
        terms = msgspec.structs.replace(desk.request(), side=desk.request().side.other)
        view = await desk.ended((await desk.engine.open(terms)).view.order.order_id)
        assert view.order.filled_by == JUPITER
        codes = [None if each.error is None else each.error.code for each in view.attempts]
        assert codes == ["would_net", "would_net", None]
        assert {lot.side.value for lot in desk.lots(JUPITER)} == {"long", "short"}
        for lot in desk.lots(JUPITER):
            closed = await desk.ended(await desk.place_close(lot.position_id))
            assert closed.order.status is OrderStatus.FILLED
        assert desk.lots(JUPITER) == ()

    at_desk(play, THREE)
