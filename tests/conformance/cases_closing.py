"""Cases of closing: reduce-only, never more than is held, and nothing that stops opens stops it."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from providers.base.errors import BelowMinimum, ErrorClass, InvalidSize, Phase, ProviderError
from providers.base.types import OrderKind, OutcomeState, Purpose, Side
from tests.conformance.bench import Bench, delta, journaled
from tests.conformance.cases import case
from tests.conformance.cases_reading import listed


@case(60)
async def open_then_close_is_flat(bench: Bench) -> None:
    """All that is held is closed to nothing, on both sides, with fills of its own."""
    for side in Side:
        opened = await bench.open(side)
        submission = await bench.prepared_close(side)
        assert submission.purpose is Purpose.CLOSE
        closed = await bench.sent(submission)
        assert closed.state is OutcomeState.FILLED
        assert delta([closed]) == delta([opened]) == bench.size
        assert {f.venue_fill_id for f in opened.fills}.isdisjoint(f.venue_fill_id for f in closed.fills)
        assert await bench.held() == 0
        assert await bench.provider.positions() == ()


@case(61)
async def close_is_reduce_only(bench: Bench) -> None:
    """A close that lands after somebody else has closed never opens the other side."""
    for side in Side:
        await bench.open(side, bench.size * 2)
        submission = await bench.prepared_close(side, bench.size * 2)
        await bench.foreign_trade(side, bench.size * 2, kind=OrderKind.CLOSE)
        outcome = await bench.sent(submission)
        assert (outcome.state, outcome.fills) == (OutcomeState.DEAD, ())
        assert await bench.held() == 0


@case(62)
async def close_takes_only_what_is_left(bench: Bench) -> None:
    """A close that lands after somebody else took a part reduces what is left, and says exactly how much."""
    await bench.open(size=bench.size * 3)
    submission = await bench.prepared_close(size=bench.size * 3)
    await bench.foreign_trade(Side.LONG, bench.size * 2, kind=OrderKind.CLOSE)
    outcome = await bench.sent(submission)
    assert outcome.state in {OutcomeState.PARTIALLY_FILLED, OutcomeState.DEAD}
    left = await bench.held()
    assert left == bench.size - delta([outcome]) >= 0


@case(63)
async def a_part_is_closed(bench: Bench) -> None:
    """A close of a part leaves the rest, and the rest is closed by another."""
    await bench.open(size=bench.size * 3)
    assert delta([await bench.close(size=bench.size)]) == bench.size
    assert await bench.held() == bench.size * 2
    assert (await bench.close(size=bench.size * 2)).state is OutcomeState.FILLED
    assert await bench.held() == 0


@case(64)
async def a_close_of_less_than_a_step_is_refused(bench: Bench) -> None:
    """A part that rounds to nothing is refused, and never sent as "close all"."""
    await bench.open()
    nothing = bench.venue.nothing or (await listed(bench)).step_size / 2
    terms = await bench.terms(size=nothing, kind=OrderKind.CLOSE)
    provider, wire = bench.listened()
    with pytest.raises((BelowMinimum, InvalidSize)) as refused:
        await provider.prepare_close(terms)
    assert refused.value.phase is Phase.NOT_SENT
    assert "sendTransaction" not in wire.asked
    assert await bench.held() == bench.size


@case(65)
async def a_close_of_more_closes_what_is_held(bench: Bench) -> None:
    """A close of more than is held closes what is, and its submission says so."""
    await bench.open()
    submission = await bench.prepared_close(size=bench.size * 5)
    assert submission.size == bench.size
    assert (await bench.sent(submission)).state is OutcomeState.FILLED
    assert await bench.held() == 0


@case(66)
async def nothing_to_close_is_refused(bench: Bench) -> None:
    """With nothing held, or only the other side, a close is refused before anything is sent."""
    with pytest.raises(ProviderError) as nothing:
        await bench.prepared_close()
    await bench.open(Side.LONG)
    with pytest.raises(ProviderError) as other:
        await bench.prepared_close(Side.SHORT)
    assert {nothing.value.phase, other.value.phase} == {Phase.NOT_SENT}
    assert await bench.held() == bench.size


@case(67)
async def reduce_only_does_not_stop_a_close(bench: Bench) -> None:
    """A market that takes reductions only takes a close."""
    await bench.open()
    bench.venue.reduce_only()
    await bench.slots(3)
    assert (await bench.close()).state is OutcomeState.FILLED
    assert await bench.held() == 0


@case(68)
async def short_collateral_does_not_stop_a_close(bench: Bench) -> None:
    """An account without free collateral, above maintenance, closes."""
    await bench.open(size=bench.size * 10, leverage=Decimal(2))
    bench.venue.collateral(bench.size * 10 * bench.price * Decimal("0.08"))
    await bench.slots(3)
    with pytest.raises(ProviderError) as refused:
        await bench.prepared()
    assert refused.value.error_class is ErrorClass.COLLATERAL
    assert (await bench.close(size=bench.size * 10)).state is OutcomeState.FILLED
    assert await bench.held() == 0


@case(69)
async def a_close_keeps_its_bound(bench: Bench) -> None:
    """A close outside its worst price is refused or dead, never filled worse."""
    await bench.open()
    submission = await bench.prepared_close(worst=bench.price * Decimal("0.95"))
    bench.venue.move_price(bench.price * Decimal("0.8"))
    outcome = await bench.sent(submission)
    assert (outcome.state, outcome.fills) == (OutcomeState.DEAD, ())
    assert await bench.held() == bench.size


@case(70)
async def a_close_goes_without_a_lock(bench: Bench) -> None:
    """Where SOL is too short for a lock a close goes without, and is settled from the journal by its own record."""
    await bench.open()
    terms = await bench.terms(kind=OrderKind.CLOSE)
    submission = await bench.provider.prepare_close(msgspec.structs.replace(terms, lock=None))
    assert submission.lock is None
    await bench.provider.submit(submission)
    outcome = await bench.settled(journaled(submission), provider=bench.restarted())
    assert outcome.state is OutcomeState.FILLED
    assert await bench.held() == 0


@case(71)
async def a_lost_close_closes_once(bench: Bench) -> None:
    """A close whose answer was lost is found filled; the same bytes again close nothing more."""
    await bench.open(size=bench.size * 3)
    submission = await bench.prepared_close()
    bench.strike("lost_after", "sendTransaction")
    assert (await bench.provider.submit(submission)).accepted == 0
    for _ in range(3):
        await bench.provider.submit(submission)
        await bench.slots(1)
    outcome = await bench.settled(submission)
    assert delta([outcome]) == bench.size
    assert await bench.held() == bench.size * 2


@case(72)
async def a_paused_venue_answers_a_close_itself(bench: Bench) -> None:
    """Flags refuse no close by themselves: the program's own answer does, and the close works once it lets it."""
    await bench.open()
    bench.venue.pause()
    await bench.slots(3)
    with pytest.raises(ProviderError) as refused:
        await bench.prepared_close()
    assert refused.value.phase is Phase.NOT_SENT
    bench.venue.pause(paused=False)
    await bench.slots(3)
    assert (await bench.close()).state is OutcomeState.FILLED
    assert await bench.held() == 0
