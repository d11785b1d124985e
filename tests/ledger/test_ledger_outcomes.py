"""Outcomes: fills booked once, lots, realised PnL, provisional fills, forks, broken promises."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from providers.base.types import Evidence, Outcome, OutcomeState, Purpose, Side
from router.ledger.protocol import LedgerError, OverReserved
from router.ledger.records import OrderRecord, OrderStatus, PositionRecord, PositionStatus
from router.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import (
    UNKNOWN,
    a_fill,
    at,
    closing,
    dead,
    filled,
    finish_filled,
    kinds,
    new_attempt,
    new_close,
    opened,
    ready,
    with_ledger,
)

FORKED = Outcome(
    state=OutcomeState.UNKNOWN, landed=False, evidence=(Evidence(kind="not_on_chain", commitment="confirmed"),)
)


def lot_of(ledger: SqliteLedger, position_id: str | None) -> PositionRecord:
    """Return a lot that must be there."""
    assert position_id is not None
    position = ledger.position(position_id)
    assert position is not None
    return position


def order_of(ledger: SqliteLedger, order_id: str) -> OrderRecord:
    """Return an order that must be there."""
    view = ledger.order(order_id)
    assert view is not None
    return view.order


def test_the_first_fill_makes_the_position() -> None:
    """Before the attempt is final: what has filled is exposure."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        resting = Outcome(
            state=OutcomeState.UNKNOWN, landed=True, fills=(a_fill("f1", "4", "100", "0.2"),), resting=True
        )
        assert await ledger.record_outcome("att_ord_1_1", resting, at(3)) == ("f1",)

        order = order_of(ledger, "ord_1")
        assert (order.status, order.filled_by) == (OrderStatus.PENDING, "drift")
        lot = lot_of(ledger, order.position_id)
        assert (lot.size, lot.entry_price, lot.fees_usd, lot.status) == (
            Decimal(4),
            Decimal(100),
            Decimal("0.2"),
            PositionStatus.OPEN,
        )
        assert (lot.opened_by_order, lot.provider, lot.side, lot.leverage) == ("ord_1", "drift", Side.LONG, Decimal(2))

        both = filled(a_fill("f1", "4", "100", "0.2"), a_fill("f2", "6", "105", "0.3"))
        assert await ledger.record_outcome("att_ord_1_1", both, at(4)) == ("f2",)
        lot = lot_of(ledger, order.position_id)
        assert (lot.size, lot.entry_price, lot.fees_usd) == (Decimal(10), Decimal(103), Decimal("0.5"))
        assert ledger.positions(limit=9)[0] == (lot,)

    with_ledger(test)


def test_settling_again_books_nothing_twice() -> None:
    """The same outcome any number of times gives one fill."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        for second in range(5, 9):
            assert await ledger.record_outcome("att_ord_1_1", filled(a_fill("fill_ord_1")), at(second)) == ()

        assert lot_of(ledger, lot.position_id) == lot
        view = ledger.order("ord_1")
        assert view is not None
        assert len(view.fills) == 1

    with_ledger(test)


def test_a_fill_belongs_to_one_attempt() -> None:
    """A second attempt that claims it is refused, with all else of its outcome."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "ord_1", a_fill("f1"))
        await ready(ledger, "ord_2")
        await ledger.add_attempt(new_attempt("ord_2"))

        with pytest.raises(LedgerError, match="booked for att_ord_1_1"):
            await ledger.record_outcome("att_ord_2_1", filled(a_fill("f2"), a_fill("f1")), at(5))
        view = ledger.order("ord_2")
        assert view is not None
        assert (view.fills, view.order.filled_by) == ((), None)
        assert len(ledger.positions(limit=9)[0]) == 1

    with_ledger(test)


def test_two_venues_may_use_the_same_fill_id() -> None:
    """Fill ids are unique within a provider."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "ord_1", a_fill("1"))
        await opened(ledger, "ord_2", a_fill("1"), on="mango")

        assert [lot.provider for lot in ledger.positions(limit=9)[0]] == ["drift", "mango"]

    with_ledger(test)


@pytest.mark.parametrize(
    "wrong", [{"size": "0"}, {"size": "-1"}, {"price": "0"}, {"price": "NaN"}, {"fee": "Infinity"}]
)
def test_a_fill_of_nothing_is_refused(wrong: dict[str, str]) -> None:
    """Sizes and prices above zero, every amount a number."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())

        with pytest.raises(LedgerError):
            await ledger.record_outcome("att_ord_1_1", filled(a_fill("f", **wrong)), at(3))
        assert ledger.positions(limit=1)[0] == ()

    with_ledger(test)


@pytest.mark.parametrize(("side", "pnl"), [(Side.LONG, "39.6"), (Side.SHORT, "-40.4")])
def test_a_reduction_realises_its_share(side: Side, pnl: str) -> None:
    """4 of 10 at 110 against 100: 40 up or down, less 0.2 of closing and 4/10 of 0.5 of opening fee."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger, "ord_1", side=side)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "4"}, side=side)
        assert lot_of(ledger, lot.position_id).reserved_size == 4
        await ledger.record_outcome(attempt_id, filled(a_fill("c1", "4", "110", "0.2")), at(9))

        after = lot_of(ledger, lot.position_id)
        assert (after.size, after.opened_size, after.reserved_size, after.entry_price) == (
            Decimal(6),
            Decimal(10),
            Decimal(0),
            Decimal(100),
        )
        assert (after.realized_pnl_usd, after.fees_usd) == (Decimal(pnl), Decimal("0.7"))
        assert order_of(ledger, "ord_2").position_id == lot.position_id

    with_ledger(test)


def test_a_lot_reduced_to_nothing_is_closed() -> None:
    """With the time, and nothing left to close."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "10"})
        await ledger.record_outcome(attempt_id, filled(a_fill("c1", price="90")), at(9))

        after = lot_of(ledger, lot.position_id)
        assert (after.status, after.size, after.closed_at) == (PositionStatus.CLOSED, Decimal(0), at(9))
        assert after.realized_pnl_usd == Decimal(-101)
        assert "position_closed" in kinds(ledger, "ord_2")
        with pytest.raises(OverReserved):
            await ledger.create_order(new_close("ord_3", {lot.position_id: "0.1"}))

    with_ledger(test)


def test_a_close_of_several_lots_takes_the_oldest_first() -> None:
    """One fill reduces the reserved lots in their order, dollars and fee shared by size."""

    async def test(ledger: SqliteLedger) -> None:
        first = await opened(ledger, "ord_1")
        second = await opened(ledger, "ord_2", a_fill("f2", "10", "102"))
        attempt_id = await closing(ledger, "ord_3", {first.position_id: "10", second.position_id: "5"})
        partial = Outcome(state=OutcomeState.PARTIALLY_FILLED, landed=True, fills=(a_fill("c1", "12", "110", "1.2"),))
        await ledger.record_outcome(attempt_id, partial, at(9))

        assert [lot_of(ledger, lot.position_id).size for lot in (first, second)] == [0, 8]
        assert lot_of(ledger, first.position_id).realized_pnl_usd == Decimal("98.5")
        assert lot_of(ledger, second.position_id).realized_pnl_usd == Decimal("15.7")
        assert lot_of(ledger, second.position_id).reserved_size == 3
        assert [item.filled_size for item in order_of(ledger, "ord_3").reservations] == [10, 2]
        await ledger.finish_order("ord_3", OrderStatus.PARTIALLY_FILLED, at(10))
        assert lot_of(ledger, second.position_id).reserved_size == 0

    with_ledger(test)


def test_a_reduction_never_exceeds_its_lots() -> None:
    """What no lot holds is on record as a fill, and as a finding."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "4"})
        await ledger.record_outcome(attempt_id, filled(a_fill("c1", "12", "110")), at(9))

        assert lot_of(ledger, lot.position_id).size == 0
        finding = next(event for event in ledger.events() if event.kind == "unallocated_fill")
        assert finding.data == {"venue_fill_id": "c1", "size": "2"}
        view = ledger.order("ord_2")
        assert view is not None
        assert view.fills[0].fill.size == 12

    with_ledger(test)


def test_what_another_close_reserved_is_not_taken() -> None:
    """A venue that gave too much takes only what nobody has reserved."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.create_order(new_close("other", {lot.position_id: "5"}))
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "4"})
        await ledger.record_outcome(attempt_id, filled(a_fill("c1", "7", "110")), at(9))

        after = lot_of(ledger, lot.position_id)
        assert (after.size, after.reserved_size) == (Decimal(5), Decimal(5))

    with_ledger(test)


def test_a_close_goes_to_the_lots_own_provider() -> None:
    """Another venue does not hold the position."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger, on="mango")

        with pytest.raises(LedgerError, match="own provider"):
            await closing(ledger, "ord_2", {lot.position_id: "4"})

    with_ledger(test)


def test_a_provisional_fill_is_replaced_by_the_venues_record() -> None:
    """What was known from state only gives way, whatever its id; the position stays the same one."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        guess = a_fill("state:7", "9", "101", "0", provisional=True)
        seen = Outcome(state=OutcomeState.UNKNOWN, landed=True, fills=(guess,), resting=True)
        await ledger.record_outcome("att_ord_1_1", seen, at(3))
        position_id = order_of(ledger, "ord_1").position_id
        assert lot_of(ledger, position_id).size == 9

        record = a_fill("sig:0", "10", "100", "0.5")
        assert await ledger.record_outcome("att_ord_1_1", filled(record), at(4)) == ("sig:0",)
        lot = lot_of(ledger, position_id)
        assert (lot.size, lot.entry_price, lot.fees_usd) == (Decimal(10), Decimal(100), Decimal("0.5"))
        view = ledger.order("ord_1")
        assert view is not None
        assert [item.fill for item in view.fills] == [record]
        assert "fill_taken_back" in kinds(ledger)

    with_ledger(test)


def test_a_provisional_fill_grows_under_its_own_id() -> None:
    """The venue's cumulative amount, read again: the newest reading counts, once."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        for size in ("3", "5", "5"):
            guess = a_fill("state", size, provisional=True)
            seen = Outcome(state=OutcomeState.UNKNOWN, landed=True, fills=(guess,), resting=True)
            await ledger.record_outcome("att_ord_1_1", seen, at(3))

        assert lot_of(ledger, order_of(ledger, "ord_1").position_id).size == 5

    with_ledger(test)


def test_a_look_that_shows_nothing_takes_nothing_back() -> None:
    """`unknown` without proof of absence leaves booked fills alone."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        seen = Outcome(state=OutcomeState.UNKNOWN, landed=True, fills=(a_fill("f1", "1"),), resting=True)
        await ledger.record_outcome("att_ord_1_1", seen, at(3))
        landed = Evidence(kind="landed", commitment="confirmed")
        for nothing in (UNKNOWN, Outcome(state=OutcomeState.UNKNOWN, landed=True, evidence=(landed,))):
            await ledger.record_outcome("att_ord_1_1", nothing, at(4))

        assert lot_of(ledger, order_of(ledger, "ord_1").position_id).size == 1

    with_ledger(test)


def test_a_fork_takes_a_fill_back() -> None:
    """The lot is empty, the order is unknown again, and the next provider may be asked after the proof of death."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.record_outcome("att_ord_1_1", FORKED, at(5))

        order = order_of(ledger, "ord_1")
        assert (order.status, order.filled_by, order.position_id) == (OrderStatus.UNKNOWN, None, None)
        gone = lot_of(ledger, lot.position_id)
        assert (gone.status, gone.size, gone.realized_pnl_usd, gone.fees_usd) == (
            PositionStatus.CLOSED,
            Decimal(0),
            Decimal(0),
            Decimal(0),
        )
        assert [view.order.order_id for view in ledger.open_orders()] == ["ord_1"]
        assert any(event.kind == "order_status" and "reason" in event.data for event in ledger.events())

        await ledger.record_outcome("att_ord_1_1", dead(), at(6))
        await ledger.add_attempt(new_attempt(number=2, provider="mango"))
        await ledger.record_outcome("att_ord_1_2", filled(a_fill("m1")), at(7))
        await finish_filled(ledger, "ord_1")
        order = order_of(ledger, "ord_1")
        assert order.filled_by == "mango"
        assert lot_of(ledger, order.position_id).provider == "mango"
        assert "promise_violation" not in kinds(ledger)

    with_ledger(test)


def test_a_fill_in_doubt_keeps_its_lot_until_the_proof() -> None:
    """An end that is unclear again opens the order; the fill goes only when it is shown to be gone."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.record_outcome("att_ord_1_1", UNKNOWN, at(5))
        assert order_of(ledger, "ord_1").status is OrderStatus.UNKNOWN
        assert lot_of(ledger, lot.position_id).size == 10

        await ledger.record_outcome("att_ord_1_1", dead(), at(6))
        assert lot_of(ledger, lot.position_id).size == 0
        assert order_of(ledger, "ord_1").filled_by is None

    with_ledger(test)


def test_a_fill_that_comes_back_opens_the_same_lot() -> None:
    """After the fork the transaction landed again, at another price."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.record_outcome("att_ord_1_1", FORKED, at(5))
        again = filled(a_fill("fill_ord_1", price="104", slot=9))
        assert await ledger.record_outcome("att_ord_1_1", again, at(6)) == ("fill_ord_1",)
        await finish_filled(ledger, "ord_1")

        back = lot_of(ledger, lot.position_id)
        assert (back.size, back.entry_price, back.closed_at) == (Decimal(10), Decimal(104), None)
        assert kinds(ledger).count("position_opened") == 2

    with_ledger(test)


def test_a_fill_that_landed_in_another_slot_replaces_the_first() -> None:
    """The fork and the landing may both have gone unseen between two looks."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.record_outcome("att_ord_1_1", filled(a_fill("fill_ord_1", price="104", slot=9)), at(5))

        assert lot_of(ledger, lot.position_id).entry_price == 104

    with_ledger(test)


def test_the_first_fill_is_the_earliest_on_the_chain() -> None:
    """An attempt that was unclear for long is booked late: the history is read from its fill all the same."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "ord_1", a_fill("late", slot=9))
        await opened(ledger, "ord_2", a_fill("early", slot=8))

        assert ledger.first_fill_signature("drift") == "sig_early"
        assert ledger.first_fill_signature("mango") is None

    with_ledger(test)


def test_a_record_that_says_something_else_of_one_slot_is_a_finding() -> None:
    """The first record stands."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.record_outcome("att_ord_1_1", filled(a_fill("fill_ord_1", price="104")), at(5))

        assert lot_of(ledger, lot.position_id).entry_price == 100
        assert "fill_differs" in kinds(ledger)

    with_ledger(test)


def test_a_fork_under_a_close_gives_the_size_back_and_reserves_it() -> None:
    """The close is unclear again: nobody else may close the same size meanwhile."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "4"})
        await ledger.record_outcome(attempt_id, filled(a_fill("c1", "4", "110")), at(5))
        await finish_filled(ledger, "ord_2")
        await ledger.record_outcome(attempt_id, FORKED, at(6))

        after = lot_of(ledger, lot.position_id)
        assert (after.size, after.reserved_size, after.realized_pnl_usd) == (Decimal(10), Decimal(4), Decimal(0))
        with pytest.raises(OverReserved):
            await ledger.create_order(new_close("ord_3", {lot.position_id: "7"}))

    with_ledger(test)


def test_a_size_reserved_twice_by_a_fork_is_a_finding() -> None:
    """Another close may have taken the rest while this one counted as ended."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "10"})
        await ledger.record_outcome(attempt_id, dead(), at(5))
        await ledger.finish_order("ord_2", OrderStatus.FAILED, at(6))
        await ledger.create_order(new_close("ord_3", {lot.position_id: "10"}))
        await ledger.record_outcome(attempt_id, UNKNOWN, at(7))

        assert order_of(ledger, "ord_2").status is OrderStatus.UNKNOWN
        finding = next(event for event in ledger.events() if event.kind == "over_reserved")
        assert (finding.data["reserved"], finding.data["size"]) == ("20", "10")

    with_ledger(test)


def test_a_fill_on_a_dead_attempt_is_booked_and_reported() -> None:
    """The promise was broken: the books say so, and the order is what it is."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome("att_ord_1_1", dead(), at(3))
        await ledger.finish_order("ord_1", OrderStatus.FAILED, at(4))
        assert await ledger.record_outcome("att_ord_1_1", filled(a_fill("f1")), at(5)) == ("f1",)

        order = order_of(ledger, "ord_1")
        assert (order.status, order.filled_by) == (OrderStatus.FILLED, "drift")
        assert lot_of(ledger, order.position_id).size == 10
        violation = next(event for event in ledger.events() if event.kind == "promise_violation")
        assert (violation.attempt_id, violation.data["venue_fill_ids"]) == ("att_ord_1_1", "f1")

    with_ledger(test)


def test_a_second_fill_on_another_venue_is_a_lot_of_its_own() -> None:
    """Both are exposure; the order keeps the first, and the violation is on record."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome("att_ord_1_1", dead(), at(3))
        await ledger.add_attempt(new_attempt(number=2, provider="mango"))
        await ledger.record_outcome("att_ord_1_2", filled(a_fill("m1")), at(4))
        await finish_filled(ledger, "ord_1")
        await ledger.record_outcome("att_ord_1_1", filled(a_fill("d1")), at(5))

        assert sorted(lot.provider for lot in ledger.positions(limit=9)[0]) == ["drift", "mango"]
        assert order_of(ledger, "ord_1").filled_by == "mango"
        assert "promise_violation" in kinds(ledger)

    with_ledger(test)


def test_a_late_fill_of_an_ended_close_still_reduces_its_lot() -> None:
    """The reservation was let go with the proof of death; the fill is a fact all the same."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "4"})
        await ledger.record_outcome(attempt_id, dead(), at(5))
        await ledger.finish_order("ord_2", OrderStatus.FAILED, at(6))
        await ledger.record_outcome(attempt_id, filled(a_fill("c1", "4", "110")), at(7))

        assert lot_of(ledger, lot.position_id).size == 6
        assert order_of(ledger, "ord_2").status is OrderStatus.FILLED
        assert "promise_violation" in kinds(ledger)

    with_ledger(test)


def test_more_than_was_asked_for_is_a_finding() -> None:
    """Booked in full, and told."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        attempt = new_attempt()
        assert attempt.submission is not None
        sized = msgspec.structs.replace(attempt.submission, size=Decimal(10))
        await ledger.add_attempt(msgspec.structs.replace(attempt, submission=sized))
        await ledger.record_outcome("att_ord_1_1", filled(a_fill("f1", "11")), at(3))

        assert lot_of(ledger, order_of(ledger, "ord_1").position_id).size == 11
        assert "overfill" in kinds(ledger)

    with_ledger(test)


def test_a_refused_outcome_leaves_nothing_behind() -> None:
    """An illegal step with fills books none of them."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        before = ledger.events()

        with pytest.raises(Exception, match="not a legal transition"):
            await ledger.record_outcome("att_ord_1_1", dead(fills=(a_fill("f9"),)), at(5))
        assert lot_of(ledger, lot.position_id) == lot
        assert ledger.events() == before

    with_ledger(test)


def test_a_close_may_be_retried_after_its_attempt_died() -> None:
    """The reservation is the order's, not the attempt's."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "10"})
        await ledger.record_outcome(attempt_id, dead(), at(5))
        assert lot_of(ledger, lot.position_id).reserved_size == 10

        await ledger.add_attempt(new_attempt("ord_2", 2, purpose=Purpose.CLOSE))
        await ledger.record_outcome("att_ord_2_2", filled(a_fill("c1")), at(6))
        assert lot_of(ledger, lot.position_id).status is PositionStatus.CLOSED

    with_ledger(test)
