"""What the ledger holds of protection: it begins with the fill, and one leg has one order at a time."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from providers.base.types import Purpose, Trigger
from router.ledger.protocol import LedgerError, OverReserved, PositionClosed
from router.ledger.records import (
    Cause,
    Leg,
    LegKind,
    LegRecord,
    LegTerms,
    NewOrder,
    OrderStatus,
    PositionRecord,
    PositionStatus,
    ProtectionTerms,
)
from router.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import (
    ACK,
    UNKNOWN,
    a_fill,
    at,
    closing,
    dead,
    filled,
    finish_filled,
    fix,
    kinds,
    new_attempt,
    new_close,
    opened,
    with_ledger,
)

TERMS = ProtectionTerms(stop_loss=LegTerms(price=Decimal(90)), take_profit=LegTerms(price=Decimal(120)))
TRIGGER = Trigger(price=Decimal(90), above=False)


def a_leg(position: PositionRecord, leg: Leg = Leg.STOP_LOSS, number: int = 1) -> LegRecord:
    """Return a new leg of a lot."""
    wanted = TERMS.of(leg)
    assert wanted is not None
    return LegRecord(
        leg_id=f"leg_{leg}_{number}",
        position_id=position.position_id,
        leg=leg,
        price=wanted.price,
        size=None,
        kind=LegKind.NATIVE,
        created_at=at(4),
        updated_at=at(4),
    )


def a_trigger(position: PositionRecord, leg: LegRecord, order_id: str, size: str = "10") -> NewOrder:
    """Return the order of a leg that rests on the venue."""
    return new_close(
        order_id, {position.position_id: size}, cause=Cause(leg.leg.value), trigger=TRIGGER, leg_id=leg.leg_id
    )


async def resting(ledger: SqliteLedger, position: PositionRecord, leg: LegRecord, order_id: str) -> str:
    """Have a leg's trigger on record with an attempt, and return the attempt's id."""
    await ledger.create_order(a_trigger(position, leg, order_id))
    await fix(ledger, order_id, Decimal(10))
    await ledger.add_attempt(new_attempt(order_id, purpose=Purpose.CLOSE))
    attempt_id = f"att_{order_id}_1"
    await ledger.record_ack(attempt_id, ACK, at(5))
    return attempt_id


def test_a_lot_says_what_it_shall_be_protected_by_from_its_first_fill() -> None:
    """In the write that makes it, and then its legs are wanted."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger, protection=TERMS)
        assert position.protection == TERMS
        lot = ledger.protected_lots()[0]
        assert (lot.position.position_id, lot.legs, lot.closes, lot.opening) == (position.position_id, (), (), False)
        bare = await opened(ledger, "ord_2")
        assert not bare.protection
        assert len(ledger.protected_lots()) == 1

    with_ledger(test)


def test_protection_is_set_once_and_not_of_a_closed_lot() -> None:
    """The same again is no change and no event; what is closed is refused."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger)
        assert await ledger.set_protection(position.position_id, TERMS, "desk", at(4))
        assert not await ledger.set_protection(position.position_id, TERMS, "desk", at(5))
        assert kinds(ledger).count("protection_set") == 1
        assert await ledger.set_protection(position.position_id, ProtectionTerms(), "desk", at(6))
        assert ledger.protected_lots() == ()
        attempt_id = await closing(ledger, "ord_2", {position.position_id: "10"})
        await ledger.record_outcome(attempt_id, filled(a_fill("f2")), at(7))
        with pytest.raises(PositionClosed):
            await ledger.set_protection(position.position_id, TERMS, "desk", at(8))
        with pytest.raises(LedgerError):
            await ledger.set_protection("pos_none", TERMS, "desk", at(8))

    with_ledger(test)


def test_a_leg_has_one_order_at_a_time() -> None:
    """A second one is refused until the first has ended and its end is noted; a lot has one leg of each sort."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger, protection=TERMS)
        leg = a_leg(position)
        await ledger.add_leg(leg)
        with pytest.raises(LedgerError):
            await ledger.add_leg(a_leg(position, number=2))
        attempt_id = await resting(ledger, position, leg, "ord_2")
        for order in (a_trigger(position, leg, "ord_3"), new_close("ord_4", {position.position_id: "10"}, leg_id="no")):
            with pytest.raises(LedgerError):
                await ledger.create_order(order)
        with pytest.raises(LedgerError):
            await ledger.update_leg(leg)
        with pytest.raises(LedgerError):
            await ledger.end_leg(leg.leg_id, "no", at(6))
        await ledger.record_outcome(attempt_id, dead(), at(6))
        await ledger.finish_order("ord_2", OrderStatus.FAILED, at(6))
        await ledger.create_order(a_trigger(position, leg, "ord_3"))
        known = ledger.legs_of(position.position_id)[0]
        assert (known.order_id, known.tries, known.last_order_id) == ("ord_3", 2, "ord_3")

    with_ledger(test)


def test_a_close_and_a_trigger_exclude_each_other() -> None:
    """Triggers reserve nothing; a close asks them to end in the write that makes it, and none is made beside it."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger, protection=TERMS)
        stop, take = a_leg(position), a_leg(position, Leg.TAKE_PROFIT)
        for leg, order_id in ((stop, "ord_2"), (take, "ord_3")):
            await ledger.add_leg(leg)
            await resting(ledger, position, leg, order_id)
        known = ledger.position(position.position_id)
        assert known is not None
        assert known.reserved_size == 0
        assert ledger.open_triggers([position.position_id]) == ("ord_2", "ord_3")
        await ledger.create_order(new_close("ord_4", {position.position_id: "10"}))
        for order_id in ("ord_2", "ord_3"):
            view = ledger.order(order_id)
            assert view is not None
            assert view.order.cancel_requested_at is not None
        lot = ledger.protected_lot(position.position_id)
        assert lot is not None
        assert lot.closes == ("ord_4",)
        await ledger.record_outcome("att_ord_2_1", dead(), at(6))
        await ledger.finish_order("ord_2", OrderStatus.CANCELLED, at(6))
        with pytest.raises(OverReserved):
            await ledger.create_order(a_trigger(position, stop, "ord_5"))

    with_ledger(test)


def test_a_triggers_fill_closes_its_lot_also_when_a_close_has_reserved_it() -> None:
    """It was first; what it took counts as the leg's, and nothing of it is unallocated."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger, protection=TERMS)
        leg = a_leg(position)
        await ledger.add_leg(leg)
        attempt_id = await resting(ledger, position, leg, "ord_2")
        await ledger.create_order(new_close("ord_3", {position.position_id: "10"}))
        await ledger.record_outcome(attempt_id, filled(a_fill("f2", price="90")), at(6))
        await finish_filled(ledger, "ord_2")
        closed = ledger.position(position.position_id)
        assert closed is not None
        assert closed.status is PositionStatus.CLOSED
        assert "unallocated_fill" not in kinds(ledger)
        assert ledger.legs_of(position.position_id)[0].filled_size == Decimal(10)

    with_ledger(test)


def test_a_leg_that_has_done_its_part_is_no_longer_wanted() -> None:
    """Unless what is wanted has changed meanwhile."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger, protection=TERMS)
        for leg in (a_leg(position), a_leg(position, Leg.TAKE_PROFIT)):
            await ledger.add_leg(leg)
        await ledger.end_leg("leg_stop_loss_1", "done", at(5), done=True)
        after = ledger.position(position.position_id)
        assert after is not None
        assert after.protection == ProtectionTerms(take_profit=TERMS.take_profit)
        other = ProtectionTerms(take_profit=LegTerms(price=Decimal(130)))
        await ledger.set_protection(position.position_id, other, "desk", at(6))
        await ledger.end_leg("leg_take_profit_1", "done", at(7), done=True)
        after = ledger.position(position.position_id)
        assert after is not None
        assert after.protection == other

    with_ledger(test)


def test_a_resting_trigger_makes_no_market_busy_and_a_stray_one_is_found() -> None:
    """Until it is being cancelled; of a closed lot it could reduce another's."""

    async def test(ledger: SqliteLedger) -> None:
        position = await opened(ledger, protection=TERMS)
        stop, take = a_leg(position), a_leg(position, Leg.TAKE_PROFIT)
        for leg, order_id in ((stop, "ord_2"), (take, "ord_3")):
            await ledger.add_leg(leg)
            attempt_id = await resting(ledger, position, leg, order_id)
            assert ledger.busy_markets("drift") == {"SOL-PERP"}
            await ledger.record_outcome(attempt_id, msgspec.structs.replace(UNKNOWN, resting=True), at(6))
            assert ledger.busy_markets("drift") == frozenset()
        assert ledger.stray_trigger("drift", "SOL-PERP", None) is None
        await ledger.record_outcome("att_ord_2_1", filled(a_fill("f2", price="90")), at(7))
        await finish_filled(ledger, "ord_2")
        assert ledger.stray_trigger("drift", "SOL-PERP", None) == position.position_id
        assert ledger.stray_trigger("drift", "SOL-PERP", position.side.other) is None
        await ledger.request_cancel("ord_3", at(8))
        assert ledger.busy_markets("drift") == {"SOL-PERP"}

    with_ledger(test)
