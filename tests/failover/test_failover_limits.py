"""Halts and limits with real adapters on one cluster: where an open goes, and that what is held can be left."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from providers.base.prices import ReferencePrice
from providers.base.types import Purpose
from router.engine.limits import Limits
from router.engine.requests import LimitExceeded, OpensHalted
from router.ledger.records import OrderStatus, OrderView
from tests.failover.failover_desk import DRIFT, MANGO, MARKET, Desk, at_desk


class Reference:
    """An independent price that the test sets."""

    def __init__(self) -> None:
        self.now = Decimal(0)

    async def price(self, market: str) -> ReferencePrice:
        """Return it, certain and fresh."""
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return ReferencePrice(market=market, price=self.now, confidence=Decimal(0), published_at=at)

    async def aclose(self) -> None:
        """Release nothing."""


def tried(view: OrderView) -> list[tuple[str, str | None]]:
    """Return the providers that were tried, each with its error's code."""
    return [(attempt.provider, None if attempt.error is None else attempt.error.code) for attempt in view.attempts]


def test_a_halted_venue_is_passed_and_what_it_holds_is_closed() -> None:
    """Drift halted: the next open is Mango's. Everything halted: no open, and both lots are closed on their venues."""

    async def play(desk: Desk) -> None:
        guards = desk.engine.safeguards
        assert (await desk.open()).order.filled_by == DRIFT
        await guards.halt(DRIFT, "odd prices", "ops")
        view = await desk.open()
        assert tried(view) == [(DRIFT, "halted_by_operator"), (MANGO, None)]
        await guards.halt(None, "drill", "ops")
        with pytest.raises(OpensHalted):
            await desk.place()
        for name in (DRIFT, MANGO):
            (lot,) = desk.lots(name)
            closed = await desk.ended(await desk.place_close(lot.position_id))
            assert closed.order.status is OrderStatus.FILLED
            assert await desk.held(name) == 0
        await desk.check()

    at_desk(play)


def test_a_fill_whose_answer_was_lost_is_booked_under_a_halt() -> None:
    """It was sent before the switch: the chain's own record of it counts, and no second venue is asked."""

    async def play(desk: Desk) -> None:
        desk.strike("lost_after")
        order_id = await desk.place()
        await desk.slots(3)
        await desk.engine.safeguards.halt(None, "stop", "ops")
        desk.heal()
        view = await desk.ended(order_id)
        assert (view.order.status, view.order.filled_by) == (OrderStatus.FILLED, DRIFT)
        assert await desk.held(MANGO) == 0
        await desk.check()

    at_desk(play)


def test_an_open_that_never_arrived_is_fenced_under_a_halt() -> None:
    """A fence of ours holds the order lock on the cluster; nothing was traded, and the order ends with the halt."""

    async def play(desk: Desk) -> None:
        desk.strike("dropped_before", count=2)
        order_id = await desk.place()
        await desk.slots(1)
        await desk.engine.safeguards.halt(None, "stop", "ops")
        view = await desk.ended(order_id)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert view.order.error.code == "trading_halted"
        assert Purpose.FENCE in {secondary.purpose for secondary in view.secondaries}
        assert await desk.held(MANGO) == 0
        await desk.check()

    at_desk(play)


def test_a_venue_whose_oracle_went_astray_is_passed() -> None:
    """Drift's oracle three percent from the independent price: Mango's, which is not, fills; back again, Drift does."""

    async def play(desk: Desk) -> None:
        price = desk.venues[DRIFT].price
        reference.now = desk.venues[MANGO].price
        desk.venues[DRIFT].move_price(price * Decimal("1.03"))
        await desk.slots(5)
        view = await desk.open(slippage_bps=500)
        assert tried(view) == [(DRIFT, "oracle_deviates"), (MANGO, None)]
        assert "oracle_deviates" in desk.observer.alerts
        desk.venues[DRIFT].move_price(price)
        await desk.slots(5)
        assert (await desk.open()).order.filled_by == DRIFT
        await desk.check()

    reference = Reference()
    at_desk(play, limits=Limits(oracle_deviation_bps=Decimal(100)), prices=reference)


def test_a_full_venue_is_passed_and_a_full_market_is_refused() -> None:
    """A venue's limit sends the order on; a market's is held against both venues' lots together."""

    async def play(desk: Desk) -> None:
        assert (await desk.open()).order.filled_by == DRIFT
        view = await desk.open()
        assert tried(view) == [(DRIFT, "provider_limit"), (MANGO, None)]
        with pytest.raises(LimitExceeded) as caught:
            await desk.place()
        assert caught.value.data["limit"] == "positions"
        used = {(use.limit, use.scope): use.used for use in desk.engine.safeguards.use()}
        lots = [lot.size * lot.entry_price for name in (DRIFT, MANGO) for lot in desk.lots(name)]
        assert used["market_usd", MARKET] == sum(lots)
        assert used["provider_usd", DRIFT] == lots[0]
        (lot,) = desk.lots(DRIFT)
        assert (await desk.ended(await desk.place_close(lot.position_id))).order.status is OrderStatus.FILLED
        assert (await desk.open()).order.filled_by == DRIFT
        await desk.check()

    limits = Limits(positions=2, market_usd=Decimal(10_000), provider_usd={DRIFT: Decimal(200)})
    at_desk(play, limits=limits)
