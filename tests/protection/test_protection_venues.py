"""Stop loss and take profit over the wire: on Drift, on Mango and on Jupiter, each as it can hold them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from router.engine.context import EngineContext, EngineSettings
from router.engine.engine import Engine
from router.engine.protection import LegState
from router.engine.protection_terms import ProtectionStatus
from router.engine.reports import MarketStatus, ProviderReport
from router.engine.requests import ProtectRequest
from router.ledger.records import (
    Cause,
    Leg,
    LegKind,
    LegTerms,
    OrderStatus,
    PositionRecord,
    PositionStatus,
    ProtectionTerms,
)
from tests.failover.failover_desk import DRIFT, JUPITER, MANGO, PATIENCE, SLOT_S, Desk, at_desk

KINDS = {DRIFT: LegKind.NATIVE, MANGO: LegKind.MANAGED, JUPITER: LegKind.NATIVE}
STATES = {LegKind.NATIVE: LegState.RESTING, LegKind.MANAGED: LegState.WATCHING}


def legs_around(price: Decimal) -> ProtectionTerms:
    """Return a stop a twentieth below a price and a take profit as far above it."""
    below, above = (price * Decimal(factor) for factor in ("0.95", "1.05"))
    return ProtectionTerms(
        stop_loss=LegTerms(price=below.quantize(Decimal(1))), take_profit=LegTerms(price=above.quantize(Decimal(1)))
    )


async def guarded(desk: Desk, venue: str) -> PositionRecord:
    """Open with both legs and wait until they are there."""
    view = await desk.open(protection=legs_around(desk.venues[venue].price))
    assert view.order.status is OrderStatus.FILLED, view
    await desk.engine.wait_protected(view.order.order_id, 60)
    report = desk.engine.protection(view)
    assert report is not None
    assert report.status is ProtectionStatus.ACTIVE, report
    assert {leg.kind for leg in report.legs} == {KINDS[venue]}
    assert {leg.state for leg in report.legs} == {STATES[KINDS[venue]]}
    return desk.lots(venue)[0]


def cross(desk: Desk, venue: str, leg: Leg) -> None:
    """Move the price well beyond a leg."""
    factor = Decimal("0.94") if leg is Leg.STOP_LOSS else Decimal("1.06")
    desk.venues[venue].move_price(desk.venues[venue].price * factor)


async def wound_up(desk: Desk, lot: PositionRecord, within_slots: int = 400) -> PositionRecord:
    """Return a lot once it is closed and nothing of its protection is left."""
    for _ in range(within_slots // 5):
        await desk.slots(5)
        now = desk.ledger.position(lot.position_id)
        assert now is not None
        if now.status is PositionStatus.CLOSED and not desk.ledger.protected_lots():
            return now
    raise AssertionError((await desk.engine.position(lot.position_id)).protection)


def causes(desk: Desk) -> list[tuple[Cause, OrderStatus]]:
    """Return the orders that legs made, oldest first."""
    views = reversed(desk.ledger.orders(limit=50)[0])
    return [(v.order.cause, v.order.status) for v in views if v.order.cause is not Cause.CALLER]


async def restarted(desk: Desk) -> None:
    """Start the router anew on the same ledger."""
    desk.engine = Engine(
        EngineContext(
            ledger=desk.ledger,
            providers=desk.providers,
            lock=desk.solana.lock,
            clock=desk.clock,
            settings=EngineSettings(chain=tuple(desk.providers), patience=PATIENCE, settle_interval_s=SLOT_S),
            observer=desk.observer,
        )
    )
    await desk.engine.start()


@pytest.mark.parametrize("leg", list(Leg))
@pytest.mark.parametrize("venue", list(KINDS))
def test_a_leg_fires_on_its_venue_and_ends_the_other(venue: str, leg: Leg) -> None:
    """The position closes with what the fill realised, and nothing rests any more."""

    async def play(desk: Desk) -> None:
        lot = await guarded(desk, venue)
        cross(desk, venue, leg)
        ended = await wound_up(desk, lot)
        assert (ended.realized_pnl_usd > 0) == (leg is Leg.TAKE_PROFIT)
        assert (Cause(leg.value), OrderStatus.FILLED) in causes(desk)
        assert await desk.held(venue) == 0

    at_desk(play, chain=(venue,))


@pytest.mark.parametrize("venue", list(KINDS))
def test_a_price_that_was_crossed_while_the_service_was_down_is_not_lost(venue: str) -> None:
    """A trigger that fired meanwhile is booked, a watched one fires at start; once, and the legs are gone."""

    async def play(desk: Desk) -> None:
        lot = await guarded(desk, venue)
        await desk.engine.aclose()
        cross(desk, venue, Leg.STOP_LOSS)
        await desk.slots(40)
        await restarted(desk)
        await wound_up(desk, lot)
        filled = [cause for cause, status in causes(desk) if status is OrderStatus.FILLED]
        assert filled == [Cause.STOP_LOSS]

    at_desk(play, chain=(venue,))


@pytest.mark.parametrize("venue", list(KINDS))
def test_a_restart_repeats_nothing(venue: str) -> None:
    """Neither with legs that wait, nor in the middle of a firing; after a partial close both legs have the new size."""

    async def play(desk: Desk) -> None:
        lot = await guarded(desk, venue)
        made = len(causes(desk))
        await desk.engine.aclose()
        await restarted(desk)
        await desk.slots(50)
        assert len(causes(desk)) == made
        view = await desk.ended(await desk.place_close(lot.position_id, fraction=Decimal("0.5")))
        assert view.order.status is OrderStatus.FILLED
        await desk.slots(50)
        report = (await desk.engine.position(lot.position_id)).protection
        assert report.status is ProtectionStatus.ACTIVE
        left = desk.lots(venue)[0].size
        assert {leg.size for leg in report.legs} == {left}
        cross(desk, venue, Leg.STOP_LOSS)
        await desk.slots(3)
        await desk.engine.aclose()
        await restarted(desk)
        await wound_up(desk, lot)
        assert [cause for cause, status in causes(desk) if status is OrderStatus.FILLED] == [Cause.STOP_LOSS]

    at_desk(play, chain=(venue,))


@pytest.mark.parametrize("venue", list(KINDS))
def test_a_leg_is_changed_and_taken_away_on_its_venue(venue: str) -> None:
    """The old price does nothing any more."""

    async def play(desk: Desk) -> None:
        lot = await guarded(desk, venue)
        lower = (desk.venues[venue].price * Decimal("0.9")).quantize(Decimal(1))
        legs = {Leg.STOP_LOSS: LegTerms(price=lower), Leg.TAKE_PROFIT: None}
        await desk.engine.protect(ProtectRequest(caller="desk", position_id=lot.position_id, legs=legs))
        await desk.slots(60)
        report = (await desk.engine.position(lot.position_id)).protection
        assert [(leg.leg, leg.trigger_price) for leg in report.legs] == [(Leg.STOP_LOSS, lower)]
        assert report.status is ProtectionStatus.ACTIVE
        cross(desk, venue, Leg.STOP_LOSS)
        await desk.slots(30)
        assert desk.lots(venue)[0].size == lot.size

    at_desk(play, chain=(venue,))


@pytest.mark.parametrize("venue", [DRIFT, JUPITER])
def test_reconciliation_knows_a_keepers_fill_for_ours(venue: str) -> None:
    """The books are held against the venue also while a trigger rests, and its fill is nobody else's trade."""

    async def play(desk: Desk) -> None:
        lot = await guarded(desk, venue)
        await desk.slots(10)
        await desk.engine.reconcile()
        markets = [market for report in _reports(desk) if report.provider == venue for market in report.markets]
        assert [market.status for market in markets] == [MarketStatus.OK]
        cross(desk, venue, Leg.STOP_LOSS)
        for _ in range(20):
            await desk.slots(1)
            await desk.engine.reconcile()
        await wound_up(desk, lot)
        await desk.engine.reconcile()
        assert desk.ledger.standing_findings() == ()
        assert desk.engine.holds() == {}

    at_desk(play, chain=(venue,))


def _reports(desk: Desk) -> tuple[ProviderReport, ...]:
    return desk.engine.reconciliation(limit=10, cursor=None, kind=None, provider=None, status=None).providers


def test_a_trigger_of_dollars_follows_its_lot_when_the_slot_grows() -> None:
    """Another lot at another price moves what a Jupiter trigger's dollars stand for: it is placed anew, for its lot."""

    async def play(desk: Desk) -> None:
        stop = ProtectionTerms(stop_loss=LegTerms(price=Decimal(140)))
        view = await desk.open(protection=stop)
        await desk.engine.wait_protected(view.order.order_id, 60)
        desk.venues[JUPITER].move_price(Decimal(160))
        await desk.slots(5)
        second = await desk.open()
        assert second.order.status is OrderStatus.FILLED
        await desk.slots(120)
        placed = [v for v in desk.ledger.orders(limit=50)[0] if v.order.cause is Cause.STOP_LOSS]
        assert [v.order.status for v in placed] == [OrderStatus.PENDING, OrderStatus.CANCELLED]
        first, other = desk.lots(JUPITER)
        desk.venues[JUPITER].move_price(Decimal(139))
        ended = await wound_up(desk, first)
        left = desk.ledger.position(other.position_id)
        assert left is not None
        assert (ended.status, left.size) == (PositionStatus.CLOSED, other.size)

    at_desk(play, chain=(JUPITER,))
