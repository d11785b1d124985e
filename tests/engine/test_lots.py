"""Several lots on one venue slot: what closes may take of which, and what a lot has earned, paid and cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from providers.base.errors import OpenInterestCap
from providers.base.types import Side, VenueEvent, VenueEventKind
from router.engine.requests import CloseRequest, InvalidRequest, NothingToClose
from router.ledger.records import AttemptState, OrderStatus, PositionStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play


def close_of(position_id: str, name: str, **terms: object) -> CloseRequest:
    """Return a close request."""
    given = {"key": name, "client_order_id": None, "fingerprint": f"body of {name}", **terms}
    return CloseRequest(caller="local", position_id=position_id, **given)  # type: ignore[arg-type]


async def reduce_outside(desk: Desk, size: str) -> None:
    """Let the chain show that somebody else has sold this much of the account's SOL on alpha."""
    event = VenueEvent(
        kind=VenueEventKind.LIQUIDATION,
        market="SOL-PERP",
        venue_fill_id=f"outside-{desk.clock.monotonic()}",
        base_delta=-Decimal(size),
        price=Decimal(140),
        fee_usd=Decimal(0),
        signature="outside",
        slot=5,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    await desk.ledger.book_outside("alpha", event, desk.clock.now())


def sizes(desk: Desk) -> list[Decimal]:
    return [lot.size for lot in desk.lots()]


def test_a_close_of_one_lot_leaves_the_others_of_the_slot() -> None:
    """Three lots, one venue position; only the one that is named goes."""

    async def story(desk: Desk) -> None:
        for size in ("1", "2", "3"):
            await desk.open(size=size)
        view = await desk.close(desk.lots()[1].position_id)
        desk.check(view)
        assert sizes(desk) == [Decimal(1), Decimal(0), Decimal(3)]

    trade(story)


def test_fractions_to_the_last_piece_leave_no_dust() -> None:
    """A third, then a third of the rest, each in whole steps; the last close takes what is left to the last digit."""

    async def story(desk: Desk) -> None:
        await desk.open(size="1")
        lot = desk.lots()[0]
        for turn in range(2):
            placed = await desk.engine.close(close_of(lot.position_id, f"f{turn}", fraction=Decimal(1) / Decimal(3)))
            desk.check(await desk.end_of(placed.view.order.order_id))
        assert sizes(desk) == [Decimal("0.45")]
        desk.check(await desk.close(lot.position_id, size="0.2"))
        desk.check(await desk.close(lot.position_id))
        assert desk.lots()[0].status is PositionStatus.CLOSED
        assert desk.venue_exposure() == 0

    trade(story)


def test_a_size_that_rounds_to_nothing_is_refused_and_nothing_is_sent() -> None:
    """By the request's check; and by the engine itself where the market could not be read."""

    async def story(desk: Desk) -> None:
        await desk.open(size="1")
        lot, alpha = desk.lots()[0], desk.providers["alpha"]
        sent = len(alpha.sent)
        with pytest.raises(InvalidRequest, match="rounds to nothing"):
            await desk.close(lot.position_id, size="0.004")
        await desk.clock.sleep(30)

        async def unreadable() -> tuple[()]:
            return ()

        alpha.markets = unreadable  # type: ignore[method-assign]
        view = await desk.close(lot.position_id, size="0.004")
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert view.order.error.code in {"invalid_size", "below_minimum"}
        assert len(alpha.sent) == sent
        assert sizes(desk) == [Decimal(1)]

    trade(story)


def test_a_close_beside_an_unclear_one_takes_only_what_that_leaves() -> None:
    """What may still be reduced is not reduced twice; all of it is refused."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        lot = desk.lots()[0]
        first = await desk.close(lot.position_id, size="1.5", wait=False)
        with pytest.raises(InvalidRequest, match="left to close"):
            await desk.close(lot.position_id, size="1")
        second = await desk.close(lot.position_id)
        desk.check(await desk.end_of(first.order.order_id))
        assert [fill.fill.size for fill in second.fills] == [Decimal("0.5")]
        with pytest.raises(NothingToClose):
            await desk.close(lot.position_id)
        assert desk.venue_exposure() == 0

    trade(story, alpha=(Play(), Play(after_s=1, seen_after_s=30)))


def test_a_lot_reduced_from_outside_never_lets_its_close_eat_another_lot() -> None:
    """The close was made for 2; somebody took 1.5 of the lot while it was blocked: it sends a half."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        await desk.open(size="3")
        desk.providers["alpha"].plays = [OpenInterestCap("full")] * 3
        close = await desk.close(desk.lots()[0].position_id, wait=False)
        await desk.clock.sleep(2)
        await reduce_outside(desk, "1.5")
        view = await desk.end_of(close.order.order_id)
        assert view.order.status is OrderStatus.FILLED
        assert [fill.fill.size for fill in view.fills] == [Decimal("0.5")]
        assert sizes(desk) == [Decimal(0), Decimal(3)]

    trade(story)


def test_a_close_whose_lot_is_gone_ends_with_nothing_left() -> None:
    """No attempt is made for it, and the other lot stays."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        await desk.open(size="3")
        desk.providers["alpha"].plays = [OpenInterestCap("full")] * 3
        close = await desk.close(desk.lots()[0].position_id, wait=False)
        await desk.clock.sleep(2)
        await reduce_outside(desk, "2")
        view = await desk.end_of(close.order.order_id)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert view.order.error.code == "nothing_left"
        assert [attempt.state for attempt in view.attempts] == [AttemptState.REFUSED]
        assert sizes(desk) == [Decimal(0), Decimal(3)]

    trade(story)


def test_two_closes_of_a_lot_that_shrank_below_both_never_reduce_more_than_it_holds() -> None:
    """Each reserved 1 of 2; one is under way when 1 is taken from outside. The other waits for the proof."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        await desk.open(size="3")
        lot, alpha = desk.lots()[0], desk.providers["alpha"]
        alpha.plays = [OpenInterestCap("full"), OpenInterestCap("full")]
        waiting = await desk.close(lot.position_id, size="1", wait=False)
        await desk.clock.sleep(0.5)
        alpha.plays = [Play(after_s=1, seen_after_s=20)]
        under_way = await desk.close(lot.position_id, size="1", wait=False)
        await desk.clock.sleep(0.2)
        await reduce_outside(desk, "1")
        first, second = await asyncio.gather(desk.end_of(under_way.order.order_id), desk.end_of(waiting.order.order_id))
        assert first.order.status is OrderStatus.FILLED
        assert second.order.error is not None
        assert second.order.error.code == "nothing_left"
        assert sizes(desk) == [Decimal(0), Decimal(3)]

    trade(story)


def test_an_open_goes_elsewhere_while_an_attempt_of_the_other_side_is_unclear() -> None:
    """The unclear long may be a holding by now: the short goes to the next venue."""

    async def story(desk: Desk) -> None:
        long = await desk.place(side=Side.LONG, provider="alpha")
        await desk.clock.sleep(0.5)
        short = await desk.open(side=Side.SHORT)
        assert short.attempts[0].error is not None
        assert short.attempts[0].error.code == "would_net"
        assert short.order.filled_by == "beta"
        await desk.end_of(long)

    trade(story, alpha=(Play(after_s=1, seen_after_s=20),))


def test_what_a_lot_earned_paid_and_cost_is_what_a_hand_reckons() -> None:
    """10 opened at 150 with index 2; 4 closed at 160 with index 2.5, 6 at 145 with index 1.75; 0.1 of fee a fill.

    By hand: 4 * 10 - 6 * 5 = 10 of price; fees 0.3; funding 4 * 0.5 - 6 * 0.25 = 0.5 paid. 10 - 0.3 - 0.5 = 9.2.
    """

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]
        alpha.carry_index = Decimal(2)
        await desk.open(size="10")
        lot = desk.lots()[0]
        assert (lot.realized_pnl_usd, lot.fees_usd, lot.funding_usd) == (Decimal(0), Decimal("0.1"), Decimal(0))
        alpha.price, alpha.carry_index = Decimal(160), Decimal("2.5")
        await desk.close(lot.position_id, size="4")
        lot = desk.lots()[0]
        # 40 of price, 0.1 of fee and four tenths of the opening's 0.1, 4 * 0.5 of funding.
        assert (lot.realized_pnl_usd, lot.funding_usd) == (Decimal("37.86"), Decimal(2))
        alpha.price, alpha.carry_index = Decimal(145), Decimal("1.75")
        await desk.close(lot.position_id)
        lot = desk.lots()[0]
        assert lot.status is PositionStatus.CLOSED
        assert (lot.realized_pnl_usd, lot.fees_usd, lot.funding_usd) == (
            Decimal("9.2"),
            Decimal("0.3"),
            Decimal("0.5"),
        )

    trade(story)


def test_funding_is_unknown_where_any_index_is() -> None:
    """And the realised PnL is then without it, not with a part of it."""

    async def story(desk: Desk) -> None:
        alpha = desk.providers["alpha"]
        alpha.carry_index = Decimal(2)
        await desk.open(size="10")
        alpha.price, alpha.carry_index = Decimal(160), None
        await desk.close(desk.lots()[0].position_id)
        lot = desk.lots()[0]
        assert lot.funding_usd is None
        assert lot.realized_pnl_usd == Decimal("99.8")

    trade(story)
