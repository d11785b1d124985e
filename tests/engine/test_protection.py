"""Stop loss and take profit: held by the venue or watched by the router, never left to nobody."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from providers.base.errors import NoFreeSlot, NoLiquidity, OracleStale
from providers.base.types import Side
from router.engine.protection import LegState
from router.engine.protection_terms import ProtectionStatus
from router.engine.requests import (
    AbovePosition,
    BeyondLiquidation,
    NothingToClose,
    PositionEnded,
    PositionUnknown,
    ProtectionRefused,
    StopLossRefused,
    TakeProfitRefused,
)
from router.ledger.records import Cause, Leg, LegKind, LegTerms, OrderStatus, PositionStatus
from tests.engine.harness import Desk
from tests.engine.protection_desk import TriggerVenue, guard, leg_of, open_protected, patch, protection
from tests.engine.scripted import Play

STOP, TAKE = Leg.STOP_LOSS, Leg.TAKE_PROFIT


async def closed(desk: Desk, within_s: float = 60) -> None:
    """Wait until the only lot is closed and nothing of its protection is left."""
    for _ in range(int(within_s * 2)):
        if desk.lots()[0].status is PositionStatus.CLOSED and not desk.ledger.protected_lots():
            return
        await desk.clock.sleep(0.5)
    raise AssertionError(f"{desk.lots()[0]} with {await protection(desk, desk.lots()[0])}")


# -- held by the venue ------------------------------------------------------------------------------------------------


def test_both_legs_rest_on_a_venue_that_holds_them() -> None:
    """With the lot's size, on the right side of the price, and the answer says so with ids."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        view = await open_protected(desk)
        report = desk.engine.protection(view)
        assert report is not None
        assert report.status is ProtectionStatus.ACTIVE
        assert [(leg.leg, leg.kind, leg.state, leg.size) for leg in report.legs] == [
            (STOP, LegKind.NATIVE, LegState.RESTING, Decimal(2)),
            (TAKE, LegKind.NATIVE, LegState.RESTING, Decimal(2)),
        ]
        assert sorted(venue.resting().values()) == [(Decimal(140), Decimal(2)), (Decimal(160), Decimal(2))]
        order = desk.engine.order(report.legs[0].order_id or "").order
        assert order.cause is Cause.STOP_LOSS
        assert order.trigger is not None
        assert (order.trigger.price, order.trigger.above) == (Decimal(140), False)
        assert order.worst_price == Decimal(133)

    guard(story)


@pytest.mark.parametrize(("price", "fires", "other"), [("139", STOP, TAKE), ("161", TAKE, STOP)])
def test_a_trigger_that_the_venue_fires_closes_the_position_and_ends_the_other(
    price: str, fires: Leg, other: Leg
) -> None:
    """The fill is booked like any close's, and nothing of the protection is left behind."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        venue.move(price)
        await closed(desk)
        assert venue.resting() == {}
        assert venue.exposure() == 0
        lot = desk.lots()[0]
        assert lot.realized_pnl_usd == (Decimal(price) - 150) * 2 - Decimal("0.2")
        legs = {leg.leg: leg for leg in (await protection(desk, lot)).legs}
        assert legs[fires].reason == "it closed the position"
        assert legs[fires].size == Decimal(2)
        assert legs[other].reason == "the position is closed"
        statuses = {view.order.cause: view.order.status for view in desk.ledger.orders(limit=10)[0]}
        assert statuses[Cause(fires.value)] is OrderStatus.FILLED
        assert statuses[Cause(other.value)] is OrderStatus.CANCELLED

    guard(story)


def test_what_rests_is_asked_about_seldom_and_holds_up_nothing() -> None:
    """An hour of resting costs few questions; a drain does not wait for it, and it is no unclear order."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        handle = next(iter(venue.resting()))
        before = venue.settled[handle]
        await desk.clock.sleep(3600)
        assert venue.settled[handle] - before <= 3600 / 5 + 2
        assert venue.sent.count(handle) == 1
        assert desk.chain.fences_sent == 0
        assert desk.told.alerts == []
        assert desk.engine.unknown_ages_s() == ()
        assert desk.engine.open_order_count == 0
        began = desk.clock.monotonic()
        await desk.engine.drain(30)
        assert desk.clock.monotonic() - began < 1

    guard(story)


def test_a_trigger_that_fired_while_the_service_was_down_is_booked_at_start(tmp_path: Path) -> None:
    """By asking; nothing is sent for it."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        await desk.engine.aclose()
        venue.move("139")
        sent = len(venue.sent)
        await desk.crash()
        await closed(desk)
        assert len(venue.sent) == sent
        assert desk.lots()[0].realized_pnl_usd == Decimal("-22.2")

    guard(story, path=tmp_path / "ledger.db")


def test_a_partial_close_cancels_the_triggers_first_and_places_them_anew_for_what_is_left() -> None:
    """The close waits for the proof that they are gone; then both carry the smaller size."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        lot = desk.lots()[0]
        venue.cancels_lost = 2
        view = await desk.close(lot.position_id, size="0.5", wait=False)
        await desk.clock.sleep(1)
        assert len(venue.resting()) == 2
        assert not desk.engine.order(view.order.order_id).attempts
        ended = await desk.end_of(view.order.order_id)
        assert ended.order.status is OrderStatus.FILLED
        assert (await leg_of(desk, lot, STOP, LegState.RESTING)).size == Decimal("1.5")
        await leg_of(desk, lot, TAKE, LegState.RESTING)
        assert {size for _, size in venue.resting().values()} == {Decimal("1.5")}

    guard(story)


def test_what_a_fired_trigger_leaves_is_closed_by_the_router() -> None:
    """The venue filled half of it: the rest goes by a close of the same leg, and the other leg is gone first."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        venue.fires_half = True
        await open_protected(desk)
        venue.move("139")
        await closed(desk)
        orders = [v.order for v in desk.ledger.orders(limit=10)[0] if v.order.cause is Cause.STOP_LOSS]
        assert [(o.status, o.trigger is not None) for o in orders] == [
            (OrderStatus.FILLED, False),
            (OrderStatus.PARTIALLY_FILLED, True),
        ]

    guard(story)


def test_a_provider_that_is_not_configured_keeps_its_triggers(tmp_path: Path) -> None:
    """Nothing of it is touched, with an alert, until it is back."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        desk.providers.pop("alpha")
        await desk.crash()
        await desk.clock.sleep(120)
        assert len(venue.resting()) == 2
        assert "protection_blind" in desk.told.alerts
        assert "cancel_failed" not in desk.told.alerts
        desk.providers["alpha"] = venue
        await desk.crash()
        venue.move("139")
        await closed(desk)

    guard(story, path=tmp_path / "ledger.db")


def test_a_close_that_meets_a_firing_stop_closes_nothing_twice() -> None:
    """The stop takes the lot while the close has it cancelled: the close says that nothing is left."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        lot = desk.lots()[0]
        venue.cancels_lost = 100
        view = await desk.close(lot.position_id, wait=False)
        venue.move("139")
        ended = await desk.end_of(view.order.order_id)
        assert ended.order.status is OrderStatus.FAILED
        assert ended.order.error is not None
        assert ended.order.error.code == "nothing_left"
        await closed(desk)

    guard(story)


def test_a_changed_price_replaces_the_trigger_and_null_takes_it_away() -> None:
    """The old one is proven gone before the new one is placed; doing the same again does nothing."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        lot = desk.lots()[0]
        for _ in range(2):
            answer = await patch(desk, lot, stop_loss="145")
            assert answer.position.protection.stop_loss == LegTerms(price=Decimal(145))
            await desk.clock.sleep(20)
            prices = sorted(price for price, _ in venue.resting().values())
            assert prices == [Decimal(145), Decimal(160)]
        placed = len(venue.triggers)
        assert placed == 3
        await patch(desk, lot, take_profit=None)
        await desk.clock.sleep(20)
        assert [price for price, _ in venue.resting().values()] == [Decimal(145)]
        await patch(desk, lot, stop_loss=None)
        await desk.clock.sleep(20)
        assert venue.resting() == {}
        assert (await protection(desk, lot)).status is ProtectionStatus.NONE
        assert desk.ledger.protected_lots() == ()

    guard(story)


def test_on_a_shared_slot_only_the_stop_rests() -> None:
    """Two triggers of one lot could close another's; the router watches the take profit, and fires it alone."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        first = desk.lots()[0]
        await desk.open(size="3")
        await desk.clock.sleep(20)
        assert [price for price, _ in venue.resting().values()] == [Decimal(140)]
        assert (await leg_of(desk, first, TAKE)).kind is LegKind.MANAGED
        venue.move("161")
        await leg_of(desk, first, TAKE, LegState.ENDED)
        assert [lot.size for lot in desk.lots()] == [Decimal(0), Decimal(3)]
        assert venue.resting() == {}

    guard(story)


def test_an_open_waits_for_the_triggers_that_a_closed_position_left() -> None:
    """One that still rests would reduce what is opened: after a while the next provider is asked, or nobody."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        venue.cancels_lost = 1
        venue.move("139")
        await leg_of(desk, desk.lots()[0], STOP, LegState.ENDED)
        assert len(venue.resting()) == 1
        view = await desk.open(size="3")
        assert view.order.status is OrderStatus.FILLED
        assert venue.resting() == {}
        assert venue.exposure() == Decimal(3)

    async def stuck(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        venue.cancels_lost = 3
        venue.move("139")
        await leg_of(desk, desk.lots()[0], STOP, LegState.ENDED)
        view = await desk.open(size="3")
        assert view.order.status is OrderStatus.FAILED
        assert [a.error.code for a in view.attempts if a.error is not None] == ["would_net"]
        await closed(desk)

    guard(story)
    guard(stuck)


def test_a_refused_placement_is_told_at_once_and_the_router_watches_meanwhile() -> None:
    """`failed` with its reason, until another try rests."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        venue.refusals = [NoFreeSlot("all order slots are taken")] * 2
        view = await open_protected(desk, take=None)
        report = desk.engine.protection(view)
        assert report is not None
        assert report.status is ProtectionStatus.FAILED
        assert report.legs[0].reason == "no_free_slot: all order slots are taken"
        assert report.legs[0].state is LegState.FAILED
        assert "protection_failed" in desk.told.alerts
        lot = desk.lots()[0]
        assert (await leg_of(desk, lot, STOP, LegState.RESTING)).kind is LegKind.NATIVE
        assert (await protection(desk, lot)).status is ProtectionStatus.ACTIVE

    guard(story)


def test_a_stop_that_cannot_be_placed_fires_all_the_same() -> None:
    """The router closes the position when the price is reached before the venue takes the trigger."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        venue.refusals = [NoFreeSlot("all order slots are taken")] * 100
        await open_protected(desk)
        venue.move("139")
        await closed(desk)
        assert venue.exposure() == 0

    guard(story)


def test_a_trigger_that_no_keeper_fires_is_taken_back_and_fired_here() -> None:
    """A minute past its price: cancelled, proven, and closed by the router; never both."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        venue.move("139", keeper=False)
        await desk.clock.sleep(30)
        assert len(venue.resting()) == 2
        await closed(desk, 120)
        assert venue.exposure() == 0

    guard(story)


# -- watched by the router --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("price", "fires"), [("140", STOP), ("160", TAKE)])
def test_a_watched_leg_fires_at_its_price(price: str, fires: Leg) -> None:
    """As a reduce-only close of the caller's, whose cause is the leg."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        view = await open_protected(desk)
        report = desk.engine.protection(view)
        assert report is not None
        assert {(leg.kind, leg.state) for leg in report.legs} == {(LegKind.MANAGED, LegState.WATCHING)}
        venue.move("141" if fires is STOP else "159")
        await desk.clock.sleep(30)
        assert desk.lots()[0].status is PositionStatus.OPEN
        venue.move(price)
        await closed(desk)
        order = desk.ledger.orders(limit=1)[0][0].order
        assert (order.cause, order.caller, order.trigger) == (Cause(fires.value), "local", None)

    guard(story, native=False)


def test_a_price_that_was_crossed_while_the_service_was_down_fires_at_start(tmp_path: Path) -> None:
    """If it is still beyond the stop; and what fired before a restart goes on after it, once."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        await desk.engine.aclose()
        venue.move("130")
        await desk.crash()
        await closed(desk)
        closes = [v for v in desk.ledger.orders(limit=10)[0] if v.order.cause is not Cause.CALLER]
        assert len(closes) == 1

    guard(story, native=False, path=tmp_path / "ledger.db")


def test_a_stop_goes_on_until_nothing_is_left() -> None:
    """Tries that fill nothing or a part are followed by others, also when the price comes back."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        lot = desk.lots()[0]
        venue.plays = [NoLiquidity("nobody there"), Play(what="nothing"), Play(what="part"), Play(what="lost")]
        venue.move("139")
        await leg_of(desk, lot, STOP, LegState.FIRING)
        venue.move("150")
        await closed(desk, 400)
        tries = [v.order.status for v in desk.ledger.orders(limit=20)[0] if v.order.cause is Cause.STOP_LOSS]
        assert tries[-1] is OrderStatus.FAILED
        assert tries[0] is OrderStatus.FILLED
        assert OrderStatus.PARTIALLY_FILLED in tries

    guard(story, native=False)


def test_an_old_price_fires_nothing_and_is_told() -> None:
    """A stale oracle and a price that is not there: the position stays, with an alert; the next good price fires."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        lot = desk.lots()[0]
        venue.stale = OracleStale("30 s old")
        venue.move("139")
        await desk.clock.sleep(30)
        assert desk.lots()[0].size == Decimal(2)
        assert "protection_blind" in desk.told.alerts
        report = await protection(desk, lot)
        assert report.status is ProtectionStatus.FAILED
        assert "cannot be read" in (report.legs[0].reason or "")
        venue.stale = None
        await closed(desk)

    guard(story, native=False)


def test_a_missing_price_is_told_and_comes_back() -> None:
    """The market list without a price."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk)
        venue.oracle = None
        await desk.clock.sleep(30)
        assert (await protection(desk, desk.lots()[0])).status is ProtectionStatus.FAILED
        venue.move("150")
        await desk.clock.sleep(10)
        assert (await protection(desk, desk.lots()[0])).status is ProtectionStatus.ACTIVE

    guard(story, native=False)


def test_a_leg_of_a_part_closes_that_part_and_is_then_done() -> None:
    """Half taken at the target; the stop then guards the rest."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take_size="0.5")
        lot = desk.lots()[0]
        venue.move("161")
        await desk.clock.sleep(30)
        assert desk.lots()[0].size == Decimal("1.5")
        report = await protection(desk, lot)
        assert [(leg.leg, leg.size) for leg in report.legs] == [(STOP, Decimal("1.5"))]
        assert desk.lots()[0].protection.take_profit is None
        venue.move("139")
        await closed(desk)

    for native in (True, False):
        guard(story, native=native)


def test_changing_a_stop_while_it_fires_ends_that_firing() -> None:
    """What has not filled is proven gone; then the new price counts."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        lot = desk.lots()[0]
        venue.plays = [Play(what="lost")]
        venue.move("139")
        await leg_of(desk, lot, STOP, LegState.FIRING)
        await desk.clock.sleep(1)
        await patch(desk, lot, stop_loss="130")
        await leg_of(desk, lot, STOP, LegState.WATCHING)
        await desk.clock.sleep(60)
        assert desk.lots()[0].size == Decimal(2)
        venue.move("129")
        await closed(desk)

    guard(story, native=False)


def test_a_close_while_a_watched_leg_fires_is_refused_and_the_leg_waits_for_a_close() -> None:
    """Both share the lot: who is first has it, the other takes what is left."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        lot = desk.lots()[0]
        venue.plays = [Play(seen_after_s=5)]
        venue.move("139")
        await leg_of(desk, lot, STOP, LegState.FIRING)
        await desk.clock.sleep(1)
        with pytest.raises(NothingToClose):
            await desk.close(lot.position_id)
        await closed(desk)

    async def other(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        lot = desk.lots()[0]
        venue.plays = [Play(what="part", seen_after_s=10)]
        view = await desk.close(lot.position_id, wait=False)
        venue.move("139")
        assert (await desk.end_of(view.order.order_id)).order.status is OrderStatus.PARTIALLY_FILLED
        await closed(desk)

    guard(story, native=False)
    guard(other, native=False)


def test_a_short_is_protected_the_other_way_round() -> None:
    """Its stop lies above the price."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        with pytest.raises(StopLossRefused):
            await open_protected(desk, side=Side.SHORT)
        await open_protected(desk, side=Side.SHORT, stop="160", take="140")
        venue.move("160")
        await closed(desk)
        assert desk.ledger.orders(limit=1)[0][0].order.cause is Cause.STOP_LOSS

    guard(story, native=False)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_could_not_work_is_refused_before_anything_is_traded() -> None:
    """On the wrong side, larger than the order; by the list's price, and by the quote's where that has moved."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        with pytest.raises(StopLossRefused):
            await open_protected(desk, stop="150")
        with pytest.raises(TakeProfitRefused):
            await open_protected(desk, take="150")
        with pytest.raises(AbovePosition):
            await open_protected(desk, take_size="2.01")
        assert desk.ledger.orders(limit=1)[0] == ()
        await desk.engine.markets()
        venue.move("139")
        view = await open_protected(desk)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert view.order.error.code == "invalid_trigger"
        assert venue.sent == []

    guard(story)


def test_a_patch_that_could_not_work_is_refused() -> None:
    """No such position, a closed one, the wrong side; a leg that stands is not judged anew."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        lot = desk.lots()[0]
        with pytest.raises(ProtectionRefused):
            await patch(desk, lot, stop_loss="151")
        venue.plays = [Play(what="lost")] * 50
        venue.move("139")
        await leg_of(desk, lot, STOP, LegState.FIRING)
        await desk.clock.sleep(6)
        answer = await patch(desk, lot, stop_loss="140", take_profit="170")
        assert answer.position.protection.take_profit == LegTerms(price=Decimal(170))
        venue.plays = []
        await closed(desk, 400)
        with pytest.raises(PositionEnded):
            await patch(desk, lot, stop_loss="120")
        gone = msgspec.structs.replace(lot, position_id="pos_none")
        with pytest.raises(PositionUnknown):
            await patch(desk, gone, stop_loss="120")

    guard(story, native=False)


def test_a_stop_beyond_the_liquidation_is_refused() -> None:
    """By the quote when opening, by the account's when changing; a take profit is not concerned."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        venue.liquidation_price = Decimal(141)
        view = await open_protected(desk)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert "liquidation" in view.order.error.detail
        await open_protected(desk, stop="142")
        with pytest.raises(BeyondLiquidation):
            await patch(desk, desk.lots()[0], stop_loss="141")
        await patch(desk, desk.lots()[0], stop_loss="143")

    guard(story)


def test_a_deadline_far_away_reaches_the_venue() -> None:
    """A trigger is not bound by the life of an order."""

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        await open_protected(desk, take=None)
        terms = next(iter(venue.triggers.values()))
        assert terms.expires_at - desk.clock.now() > timedelta(days=3000)

    guard(story)
