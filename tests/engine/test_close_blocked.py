"""A venue that refuses even a reduce-only close: the close stands, says why, and is tried until it fills."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from providers.base.errors import (
    CLOSE_BLOCKING_CODES,
    BeingLiquidated,
    InsufficientCollateral,
    OpenInterestCap,
    ProviderError,
    Unreachable,
    VenueHalted,
    WorstPriceNotMet,
)
from providers.base.types import OrderTerms, Submission
from router.engine.blocked import ADVICE
from router.ledger.records import OrderStatus, OrderView
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play

NIGHT_S = 9 * 3600.0


class Gate:
    """Refuses the closes of a desk's first venue while it has an error, and counts them."""

    def __init__(self, desk: Desk, error: ProviderError) -> None:
        self.error: ProviderError | None = error
        self.refused_at: list[float] = []
        self._desk = desk
        venue = desk.providers["alpha"]
        self._pass = venue.prepare_close
        venue.prepare_close = self._prepare  # type: ignore[method-assign]

    async def _prepare(self, terms: OrderTerms) -> Submission:
        if self.error is None:
            return await self._pass(terms)
        self.refused_at.append(self._desk.clock.monotonic())
        raise self.error


async def blocked_close(desk: Desk) -> str:
    await desk.open()
    return (await desk.close(desk.lots()[0].position_id, wait=False)).order.order_id


async def at_rest(desk: Desk, order_id: str) -> OrderView:
    await asyncio.sleep(0)
    return desk.engine.order(order_id)


def test_every_code_that_blocks_has_its_advice() -> None:
    """A caller is never told that he is blocked without being told what he can do."""
    assert set(ADVICE) == CLOSE_BLOCKING_CODES


def test_a_blocked_close_outlives_its_deadline_and_fills_when_the_venue_takes_it() -> None:
    """The deadline is 60 seconds; the account is out of liquidation after ten minutes."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, BeingLiquidated("the account is in liquidation", raw_code=6117))
        order_id = await blocked_close(desk)
        await desk.clock.sleep(600)
        view = await at_rest(desk, order_id)
        block = desk.engine.blocked(view)
        assert view.order.status is OrderStatus.PENDING
        assert block is not None
        assert (block.cause.code, block.cause.raw_code) == ("being_liquidated", "6117")
        assert "collateral" in block.advice
        assert timedelta() < block.next_try_at - desk.clock.now() <= timedelta(seconds=60)
        assert "close_blocked" in desk.told.alerts
        gate.error = None
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert desk.engine.blocked(view) is None
        submission = view.attempts[-1].submission
        assert submission is not None
        assert submission.may_fill_until is not None
        assert submission.may_fill_until > view.order.deadline
        assert desk.venue_exposure() == 0

    trade(story)


def test_the_waits_double_from_a_second_to_a_minute_and_a_night_leaves_one_row() -> None:
    """Some 540 refusals, one attempt in the ledger, and one alert."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, OpenInterestCap("the cap counts closes", raw_code=6154))
        order_id = await blocked_close(desk)
        await desk.clock.sleep(NIGHT_S)
        times = gate.refused_at
        waits = [round(b - a) for a, b in pairwise(times)]
        assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
        assert set(waits[6:]) == {60}
        view = await at_rest(desk, order_id)
        assert len(view.attempts) == 1
        assert len(desk.ledger.events(order_id=order_id)) < 10
        assert desk.told.alerts.count("close_blocked") == 1

    trade(story)


def test_a_cancel_ends_a_blocked_close_at_once_and_frees_the_lot() -> None:
    """Not only when the venue is asked again."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, InsufficientCollateral("below maintenance"))
        order_id = await blocked_close(desk)
        await desk.clock.sleep(300)
        began = desk.clock.monotonic()
        await desk.engine.cancel(order_id)
        view = await desk.end_of(order_id)
        assert desk.clock.monotonic() - began < 1
        assert view.order.status is OrderStatus.CANCELLED
        assert view.order.error is not None
        assert view.order.error.code == "insufficient_collateral"
        assert desk.lots()[0].reserved_size == 0
        gate.error = None
        assert (await desk.close(desk.lots()[0].position_id)).order.status is OrderStatus.FILLED

    trade(story)


def test_a_restart_keeps_the_block_and_its_pace(tmp_path: Path) -> None:
    """What is waited for is in the ledger alone."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, VenueHalted("no instruction is answered"))
        order_id = await blocked_close(desk)
        await desk.clock.sleep(300)
        before, tries = desk.engine.blocked(await at_rest(desk, order_id)), len(gate.refused_at)
        await desk.crash()
        after = desk.engine.blocked(await at_rest(desk, order_id))
        assert before is not None
        assert after is not None
        assert (after.cause.code, after.since) == (before.cause.code, before.since)
        assert after.next_try_at == before.next_try_at
        await desk.clock.sleep(121)
        assert len(gate.refused_at) - tries in {2, 3}
        gate.error = None
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED

    trade(story, path=tmp_path / "ledger.db")


def test_causes_that_take_turns_have_a_row_each_and_a_dead_node_lifts_no_block() -> None:
    """A node that cannot be reached says nothing of the venue."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, VenueHalted("halted"))
        order_id = await blocked_close(desk)
        causes = (Unreachable("no node"), InsufficientCollateral("short"), VenueHalted("halted"))
        for turn in range(60):
            await desk.clock.sleep(61)
            gate.error = causes[turn % 3]
        view = await at_rest(desk, order_id)
        assert view.order.status is OrderStatus.PENDING
        assert len(view.attempts) == 3
        gate.error = Unreachable("no node")
        await desk.clock.sleep(600)
        block = desk.engine.blocked(await at_rest(desk, order_id))
        assert block is not None
        assert block.cause.code in {"halted", "insufficient_collateral"}
        gate.error = None
        assert (await desk.end_of(order_id)).order.status is OrderStatus.FILLED

    trade(story)


def test_a_block_that_gives_way_to_a_price_ends_the_order_with_that() -> None:
    """Past the deadline nothing but a block keeps a close; the caller must say at which price he still wants it."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, OpenInterestCap("full"))
        order_id = await blocked_close(desk)
        await desk.clock.sleep(300)
        gate.error = WorstPriceNotMet("the market has left the bound")
        view = await desk.end_of(order_id)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert view.order.error.code == "worst_price_not_met"

    trade(story)


def test_a_late_try_that_is_lost_is_proven_dead_before_the_next(tmp_path: Path) -> None:
    """Also past the deadline: fenced, then tried again, and closed once."""

    async def story(desk: Desk) -> None:
        gate = Gate(desk, OpenInterestCap("full"))
        order_id = await blocked_close(desk)
        await desk.clock.sleep(300)
        desk.providers["alpha"].plays = [Play(what="lost"), Play()]
        gate.error = None
        await desk.clock.sleep(62)
        await desk.crash()
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert [a.state.value for a in view.attempts if a.submission] == ["dead", "filled"]
        assert desk.venue_exposure() == Decimal(0)

    trade(story, path=tmp_path / "ledger.db")


def test_an_open_is_never_kept_alive_by_what_blocks_closes() -> None:
    """The chain of an open goes on or ends, as it always did."""

    async def story(desk: Desk) -> None:
        view = await desk.open(provider="alpha")
        assert view.order.status is OrderStatus.FAILED
        assert desk.engine.blocked(view) is None
        assert len(view.attempts) == 1

    trade(story, alpha=(OpenInterestCap("full"),))
