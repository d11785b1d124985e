"""Nothing may keep a position from being closed, and no caller is told otherwise than it is."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.errors import FeePayerShort
from providers.base.types import Market, OrderTerms, Purpose, Submission
from router.engine.requests import CloseRequest, KeyMismatch, NothingToClose, ProviderUnknown
from router.ledger.records import OrderStatus, PositionStatus
from tests.engine.harness import Desk, trade


def close_of(position_id: str | None, name: str, **terms: object) -> CloseRequest:
    """Return a close request."""
    given = {"key": name, "client_order_id": None, "fingerprint": f"body of {name}", **terms}
    return CloseRequest(caller="local", position_id=position_id, **given)  # type: ignore[arg-type]


def test_a_lot_of_a_provider_that_is_not_configured_is_refused_by_name(tmp_path: Path) -> None:
    """The caller learns what to put back; it is no fault of the router's."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        del desk.providers["alpha"]
        await desk.crash()
        with pytest.raises(ProviderUnknown, match="alpha"):
            await desk.close(lot.position_id)
        assert desk.lots()[0].reserved_size == 0

    trade(story, path=tmp_path / "ledger.db")


def test_two_closes_of_all_at_the_same_moment_close_it_once() -> None:
    """Both have seen the whole lot free; the second is told that nothing is left, not that the router failed."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        answers = await asyncio.gather(
            *(desk.engine.close(close_of(lot.position_id, f"c{i}")) for i in range(3)), return_exceptions=True
        )
        placed = [a for a in answers if not isinstance(a, BaseException)]
        assert len(placed) == 1
        assert all(isinstance(a, NothingToClose) for a in answers if isinstance(a, BaseException))
        view = await desk.end_of(placed[0].view.order.order_id)
        desk.check(view)
        assert desk.venue_exposure() == 0

    trade(story)


def test_two_closes_of_a_half_at_the_same_moment_close_both_halves() -> None:
    """What is left suffices for both, so both are taken."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        placed = await asyncio.gather(
            *(desk.engine.close(close_of(lot.position_id, f"c{i}", size=Decimal(1))) for i in range(2))
        )
        for each in placed:
            desk.check(await desk.end_of(each.view.order.order_id))
        assert desk.venue_exposure() == 0

    trade(story)


def test_a_close_of_a_market_closes_every_lot_however_many() -> None:
    """No page of a list bounds what all means."""

    async def story(desk: Desk) -> None:
        for _ in range(103):
            await desk.open(size="1")
        placed = await desk.engine.close(close_of(None, "all", provider="alpha", market="SOL-PERP"))
        view = await desk.end_of(placed.view.order.order_id)
        assert view.order.status is OrderStatus.FILLED
        assert desk.venue_exposure() == 0
        assert desk.ledger.positions(limit=200, status=PositionStatus.OPEN)[0] == ()

    trade(story)


def test_a_close_at_any_price_is_bounded_by_the_smallest_price_there_is() -> None:
    """10000 basis points off a sale is no price at all; the close goes out all the same."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        placed = await desk.engine.close(close_of(lot.position_id, "any", slippage_bps=10_000))
        view = await desk.end_of(placed.view.order.order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert view.order.worst_price is not None
        assert view.order.worst_price > 0
        assert desk.told.alerts == []

    trade(story)


def test_a_close_that_is_asked_again_by_its_client_order_id_alone_is_the_same_close() -> None:
    """The position is closed by then, and the answer is the order that closed it, not that nothing is left."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot = desk.lots()[0]
        both = close_of(lot.position_id, "k", client_order_id="mine")
        first = await desk.engine.close(both)
        await desk.end_of(first.view.order.order_id)
        again = await desk.engine.close(
            close_of(lot.position_id, "mine", client_order_id="mine", fingerprint=both.fingerprint)
        )
        assert again.replayed
        assert again.view.order.order_id == first.view.order.order_id
        with pytest.raises(KeyMismatch):
            await desk.engine.close(
                close_of(lot.position_id, "k2", client_order_id="mine", fingerprint=both.fingerprint)
            )

    trade(story)


def test_a_close_goes_without_a_lock_when_sol_is_too_short_for_one() -> None:
    """Alone, and proven by expiry: slower, and never refused for want of rent."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot, alpha = desk.lots()[0], desk.providers["alpha"]
        original = alpha.prepare_close

        async def short(terms: OrderTerms) -> Submission:
            if terms.lock is not None:
                raise FeePayerShort("too little SOL for the order lock")
            return await original(terms)

        alpha.prepare_close = short  # type: ignore[method-assign]
        view = await desk.close(lot.position_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert view.attempts[-1].submission is not None
        assert view.attempts[-1].submission.lock is None
        assert view.attempts[-1].submission.purpose is Purpose.CLOSE

    trade(story)


def test_a_market_list_that_fails_in_an_unforeseen_way_refuses_no_close() -> None:
    """What is read for convenience must not stand between a caller and his position."""

    async def story(desk: Desk) -> None:
        await desk.open()
        lot, alpha = desk.lots()[0], desk.providers["alpha"]
        await desk.clock.sleep(30)

        async def broken() -> tuple[Market, ...]:
            raise KeyError("a field that was always there")

        alpha.markets = broken  # type: ignore[method-assign]
        view = await desk.close(lot.position_id)
        desk.check(view)
        assert desk.venue_exposure() == 0

    trade(story)
