"""The failover matrix: every trouble of a venue, in quote, open and close, with the other venue behind it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.types import Side
from router.engine.requests import QuoteFailed
from router.ledger.records import AttemptState, OrderStatus
from tests.failover.failover_desk import Desk, at_desk
from tests.failover.situations import SITUATIONS, Situation

ROWS = pytest.mark.parametrize("row", SITUATIONS, ids=str)


async def arranged(desk: Desk, row: Situation) -> None:
    """Bring the trouble about, and let it be seen."""
    row.arrange(desk)
    await desk.slots(row.slots)


@ROWS
def test_open_goes_to_the_next(row: Situation) -> None:
    """The open fills on the other venue; the first attempt says why, in the venue's own code."""

    async def play(desk: Desk) -> None:
        await arranged(desk, row)
        view = await desk.open()
        answer = desk.answer(view)
        assert (answer.status, answer.provider, answer.fallback_used) == (OrderStatus.FILLED, row.other, True)
        passed, filled = view.attempts
        assert (passed.provider, passed.state) == (row.provider, AttemptState.REFUSED)
        error = passed.error
        assert error is not None
        assert (error.error_class, error.code, error.raw_code) == (row.error_class, row.code, row.raw_code)
        assert (filled.provider, filled.state) == (row.other, AttemptState.FILLED)
        assert await desk.held(row.other) == 1
        assert desk.booked(row.provider) == 0

    at_desk(play, (row.provider, row.other))


@ROWS
def test_quote_is_the_next_ones(row: Situation) -> None:
    """Every provider of the chain says its price or its reason, in order; the first price is the answer."""

    async def play(desk: Desk) -> None:
        await arranged(desk, row)
        answer = await desk.quote()
        assert [each.provider for each in answer.candidates] == [row.provider, row.other]
        first, second = answer.candidates
        assert second.quote is not None
        if row.quoted:
            assert first.quote is not None
            assert answer.quote == first.quote
        else:
            assert first.error is not None
            assert (first.error.error_class, first.error.code) == (row.error_class, row.code)
            assert answer.quote == second.quote

    at_desk(play, (row.provider, row.other))


@pytest.mark.parametrize("row", [row for row in SITUATIONS if row.close is not None], ids=str)
def test_close_stays(row: Situation) -> None:
    """A close is asked of the position's own venue alone: it fills there, or waits, and the lot stays on record."""

    async def play(desk: Desk) -> None:
        opened = await desk.open()
        (lot,) = desk.lots(row.provider)
        assert opened.order.filled_by == row.provider
        await arranged(desk, row)
        order_id = await desk.place_close(lot.position_id)
        await desk.engine.wait(order_id, 45)
        view = desk.engine.order(order_id)
        assert {attempt.provider for attempt in view.attempts} == {row.provider}
        assert await desk.held(row.other) == 0
        if row.close == "fills":
            assert (view.order.status, view.order.filled_by) == (OrderStatus.FILLED, row.provider)
            assert desk.lots(row.provider) == ()
            return
        assert view.fills == ()
        assert {attempt.error.code for attempt in view.attempts if attempt.error} == {row.code}
        assert (row.close == "waits") == row.blocks
        if row.blocks:
            assert view.order.status is OrderStatus.PENDING
            await desk.engine.cancel(order_id)
            view = await desk.ended(order_id)
        assert view.order.status in {OrderStatus.FAILED, OrderStatus.CANCELLED}
        assert [each.size for each in desk.lots(row.provider)] == [Decimal(1)]

    at_desk(play, (row.provider, row.other))


@ROWS
def test_pinned_stays(row: Situation) -> None:
    """A caller who names the provider gets its refusal, and nobody else's fill."""

    async def play(desk: Desk) -> None:
        await arranged(desk, row)
        view = await desk.open(provider=row.provider)
        assert view.order.status is OrderStatus.FAILED
        assert [attempt.provider for attempt in view.attempts] == [row.provider]
        assert view.order.error is not None
        assert view.order.error.code == row.code
        assert await desk.held(row.other) == 0

    at_desk(play, (row.provider, row.other))


def _pairs() -> list[tuple[Situation, Situation]]:
    """Return each trouble of one venue with the next trouble of the other."""
    pairs: list[tuple[Situation, Situation]] = []
    for first in SITUATIONS:
        others = [each for each in SITUATIONS if each.provider == first.other]
        if others:
            pairs.append((first, others[SITUATIONS.index(first) % len(others)]))
    return pairs


@pytest.mark.parametrize(("first", "second"), _pairs(), ids=str)
def test_both_down_is_one_answer_with_both(first: Situation, second: Situation) -> None:
    """With both venues in trouble the open fails at once, with both reasons in chain order, and nothing is held."""

    async def play(desk: Desk) -> None:
        first.arrange(desk)
        second.arrange(desk)
        await desk.slots(max(first.slots, second.slots))
        view = await desk.open()
        assert view.order.status is OrderStatus.FAILED
        errors = {attempt.provider: attempt.error for attempt in view.attempts}
        assert list(errors) == [first.provider, second.provider]
        for row in (first, second):
            error = errors[row.provider]
            assert error is not None
            assert (error.error_class, error.code) == (row.error_class, row.code)
        assert desk.status(view) == 503
        if not (first.quoted or second.quoted):
            with pytest.raises(QuoteFailed) as none:
                await desk.quote()
            assert len(none.value.data["candidates"]) == 2  # type: ignore[arg-type]
        for name in (first.provider, second.provider):
            assert await desk.held(name) == 0

    at_desk(play, (first.provider, second.provider))


def test_the_other_side_of_the_matrix() -> None:
    """Both sides of the market go through the same chain."""

    async def play(desk: Desk) -> None:
        desk.venues["drift"].pause()
        await desk.slots(5)
        view = await desk.open(side=Side.SHORT)
        assert view.order.filled_by == "mango"
        assert await desk.held("mango") == -1

    at_desk(play)
