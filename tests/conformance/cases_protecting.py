"""Cases of stops and take profits that the venue itself keeps: they rest, fire once, and take their size alone."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.errors import Phase, ProviderError
from providers.base.types import OrderKind, OrderTerms, Outcome, OutcomeState, Purpose, Side, Submission, Trigger
from tests.conformance.bench import Bench, Feature, delta, journaled
from tests.conformance.cases import case

# Of the first price, where triggers are set.
NEAR = Decimal("0.02")
BEYOND = Decimal("0.03")


def away(bench: Bench, side: Side, share: Decimal, *, loss: bool) -> Decimal:
    """Return a price that a share of the first one is lost or won at."""
    down = (side is Side.LONG) is loss
    return bench.price * (1 - share if down else 1 + share)


async def terms_of(
    bench: Bench, side: Side, *, loss: bool, size: Decimal | None = None, share: Decimal = NEAR, **more: object
) -> OrderTerms:
    """Return the terms of a stop (`loss`) or a take profit, bounded so that only the trigger decides."""
    price = away(bench, side, share, loss=loss)
    bound = bench.price * (Decimal("0.5") if side is Side.LONG else Decimal("1.5"))
    trigger = Trigger(price=price, above=(side is Side.LONG) is not loss)
    return await bench.terms(
        side,
        size,
        kind=OrderKind.CLOSE,
        worst=bound,
        trigger=trigger,
        **more,  # type: ignore[arg-type]
    )


async def placed(bench: Bench, side: Side, *, loss: bool, size: Decimal | None = None) -> Submission:
    """Place a stop or take profit and wait until it rests."""
    submission = await bench.protector.prepare_trigger(await terms_of(bench, side, loss=loss, size=size))
    await bench.provider.submit(submission)
    outcome = await bench.until(submission, lambda each: each.resting)
    assert (outcome.state, outcome.landed, outcome.resting) == (OutcomeState.UNKNOWN, True, True)
    return submission


async def fired(bench: Bench, submission: Submission, side: Side, *, loss: bool) -> Outcome:
    """Move the market past the trigger price and settle."""
    bench.venue.move_price(away(bench, side, BEYOND, loss=loss))
    return await bench.settled(submission)


@case(100, Feature.NATIVE_TRIGGERS)
async def a_trigger_rests_until_its_price(bench: Bench) -> None:
    """Placed, it is unknown and resting, and fills nothing while its price is not reached; the journal is enough."""
    await bench.open()
    submission = await placed(bench, Side.LONG, loss=True)
    assert submission.purpose is Purpose.CLOSE
    assert submission.size == bench.size
    bench.venue.move_price(away(bench, Side.LONG, NEAR / 2, loss=True))
    await bench.slots(30)
    outcome = await bench.restarted().settle(journaled(submission))
    assert (outcome.state, outcome.resting, outcome.fills) == (OutcomeState.UNKNOWN, True, ())
    assert await bench.held() == bench.size


@case(101, Feature.NATIVE_TRIGGERS)
async def a_stop_fires(bench: Bench) -> None:
    """Once the price has passed it, a stop closes its size, on both sides; the fill has its own id and evidence."""
    for side in Side:
        await bench.open(side)
        submission = await placed(bench, side, loss=True)
        outcome = await fired(bench, submission, side, loss=True)
        assert outcome.state is OutcomeState.FILLED
        assert delta([outcome]) == bench.size
        assert outcome.evidence
        assert await bench.held() == 0
        bench.venue.move_price(bench.price)
        await bench.slots(10)


@case(102, Feature.NATIVE_TRIGGERS)
async def a_take_profit_fires(bench: Bench) -> None:
    """Once the price has passed it, a take profit closes its size with a gain, on both sides."""
    for side in Side:
        opened = await bench.open(side)
        submission = await placed(bench, side, loss=False)
        outcome = await fired(bench, submission, side, loss=False)
        assert outcome.state is OutcomeState.FILLED
        assert delta([outcome]) == bench.size
        gain = outcome.fills[0].price - opened.fills[0].price
        assert (gain if side is Side.LONG else -gain) > 0
        assert await bench.held() == 0
        bench.venue.move_price(bench.price)
        await bench.slots(10)


@case(103, Feature.NATIVE_TRIGGERS)
async def a_trigger_takes_its_own_size(bench: Bench) -> None:
    """With other lots on the slot a trigger closes its own size, and leaves the rest."""
    await bench.open(size=bench.size * 3)
    submission = await placed(bench, Side.LONG, loss=True, size=bench.size)
    outcome = await fired(bench, submission, Side.LONG, loss=True)
    assert delta([outcome]) == bench.size
    await bench.slots(20)
    assert await bench.held() == bench.size * 2


@case(104, Feature.NATIVE_TRIGGERS)
async def a_cancelled_trigger_never_fires(bench: Bench) -> None:
    """Cancelled it is dead by the record of its end, and the price that follows moves nothing."""
    await bench.open()
    submission = await placed(bench, Side.LONG, loss=True)
    cancel = await bench.cancelled(submission)
    outcome = await bench.settled(submission)
    assert (outcome.state, outcome.fills, outcome.resting) == (OutcomeState.DEAD, (), False)
    assert outcome.evidence[0].signature == cancel.handle
    bench.venue.move_price(away(bench, Side.LONG, BEYOND, loss=True))
    await bench.slots(30)
    assert await bench.held() == bench.size


@case(105, Feature.NATIVE_TRIGGERS)
async def a_trigger_is_placed_once(bench: Bench) -> None:
    """Two placements under one lock: one rests, the other is superseded by it; the bytes sent again place nothing."""
    await bench.open(size=bench.size * 2)
    lock = await bench.lock()
    first, second = [
        await bench.protector.prepare_trigger(
            await terms_of(bench, Side.LONG, loss=True, size=bench.size, lock=lock, number=number)
        )
        for number in (1, 2)
    ]
    for submission in (first, second, first):
        await bench.provider.submit(submission)
    assert (await bench.until(first, lambda each: each.resting)).resting
    lost = await bench.settled(second)
    assert (lost.state, lost.holder) == (OutcomeState.SUPERSEDED, first.handle)
    outcome = await fired(bench, first, Side.LONG, loss=True)
    assert delta([outcome]) == bench.size
    await bench.slots(20)
    assert await bench.held() == bench.size


@case(106, Feature.NATIVE_TRIGGERS)
async def a_lost_placement_is_found(bench: Bench) -> None:
    """A placement whose answer was lost is found resting by its signature, and fires once."""
    await bench.open()
    submission = await bench.protector.prepare_trigger(await terms_of(bench, Side.LONG, loss=True))
    bench.strike("lost_after", "sendTransaction")
    assert (await bench.provider.submit(submission)).accepted == 0
    assert (await bench.until(journaled(submission), lambda each: each.resting, bench.restarted())).resting
    outcome = await fired(bench, submission, Side.LONG, loss=True)
    assert delta([outcome]) == bench.size
    assert await bench.held() == 0


@case(107, Feature.NATIVE_TRIGGERS)
async def a_trigger_opens_nothing(bench: Bench) -> None:
    """Its position closed by another order, a trigger that is reached fills nothing and never opens the other side."""
    await bench.open()
    submission = await placed(bench, Side.LONG, loss=True)
    assert (await bench.close()).state is OutcomeState.FILLED
    bench.venue.move_price(away(bench, Side.LONG, BEYOND, loss=True))
    await bench.slots(60)
    outcome = await bench.ended(submission)
    assert (outcome.state, outcome.fills) == (OutcomeState.DEAD, ())
    assert await bench.held() == 0


@case(108, Feature.NATIVE_TRIGGERS)
async def two_legs_close_one_lot_once(bench: Bench) -> None:
    """Of a stop and a take profit on the only lot of a slot one fires; the other can be cancelled, and is dead."""
    await bench.open()
    stop = await placed(bench, Side.LONG, loss=True)
    profit = await placed(bench, Side.LONG, loss=False)
    outcome = await fired(bench, profit, Side.LONG, loss=False)
    assert delta([outcome]) == bench.size
    left = await bench.ended(stop)
    assert (left.state, left.fills) == (OutcomeState.DEAD, ())
    assert await bench.held() == 0


@case(109, Feature.NATIVE_TRIGGERS, Feature.HOLDINGS)
async def holdings_show_triggers(bench: Bench) -> None:
    """A trigger that rests is listed with the transaction that placed it, as an order that can only reduce."""
    await bench.open()
    submission = await placed(bench, Side.LONG, loss=True)
    (order,) = (await bench.reconcilable.holdings()).orders
    assert (order.market, order.size, order.reduce_only) == (bench.market, bench.size, True)
    assert order.placed_by == submission.handle


@case(110, Feature.NATIVE_TRIGGERS)
async def a_trigger_needs_something_to_close(bench: Bench) -> None:
    """With nothing held, or only the other side, a trigger is refused or can open nothing."""
    terms = await terms_of(bench, Side.LONG, loss=True)
    provider, wire = bench.listened()
    with pytest.raises(ProviderError) as refused:
        await bench.protector_of(provider).prepare_trigger(terms)
    assert refused.value.phase is Phase.NOT_SENT
    assert "sendTransaction" not in wire.asked
