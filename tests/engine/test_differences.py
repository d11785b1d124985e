"""Books against a venue, number by number and event by event: the pure functions of reconciliation."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from providers.base.types import HoldingKey, Holdings, Side, VenueEvent, VenueEventKind, VenueOrder, VenuePosition
from router.engine import differences
from router.engine.reports import MarketReport, MarketStatus
from router.ledger.records import FindingKind, ForeignPart, OutsideBooked

SOL = "SOL-PERP"
NET = HoldingKey(market=SOL)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def position(size: str, *, market: str = SOL, tolerance: str = "0") -> VenuePosition:
    """Return a holding; negative for a short."""
    signed = Decimal(size)
    return VenuePosition(
        provider="drift",
        market=market,
        side=Side.LONG if signed > 0 else Side.SHORT,
        size=abs(signed),
        entry_price=None,
        liquidation_price=None,
        unrealized_pnl_usd=None,
        oracle_price=None,
        slot=7,
        size_tolerance=Decimal(tolerance),
    )


def holdings(*positions: VenuePosition) -> Holdings:
    """Return all that the account holds."""
    return Holdings(provider="drift", slot=7, positions=positions)


def event(delta: str = "-1", *, number: int = 1, market: str = SOL, **changes: object) -> VenueEvent:
    """Return a trade of somebody's."""
    made = VenueEvent(
        kind=VenueEventKind.TRADE,
        market=market,
        venue_fill_id=f"fill-{number}",
        base_delta=Decimal(delta),
        price=Decimal("150.5"),
        fee_usd=Decimal("0.1"),
        signature=f"signature-{number}",
        slot=number,
        at=AT,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("held", "lots", "foreign", "status", "difference"),
    [
        ("3", "2", "1", MarketStatus.OK, "0"),
        ("-3", "-2", "-1", MarketStatus.OK, "0"),
        ("1", "2", "-1", MarketStatus.OK, "0"),
        ("3", "2", "0", MarketStatus.DIFFERS, "1"),
        ("1", "2", "0", MarketStatus.DIFFERS, "-1"),
        ("-2", "2", "0", MarketStatus.DIFFERS, "-4"),
        (None, "2", "0", MarketStatus.DIFFERS, "-2"),
        ("2", None, "0", MarketStatus.DIFFERS, "2"),
        (None, "2", "-2", MarketStatus.OK, "0"),
    ],
)
def test_lots_and_foreign_part_make_the_venues_size(
    held: str | None, lots: str | None, foreign: str, status: MarketStatus, difference: str
) -> None:
    """Whatever the signs, the market agrees exactly when they add up; what is off is told with its sign."""
    (report,) = differences.compare(
        holdings(*([] if held is None else [position(held)])),
        {} if lots is None else {NET: Decimal(lots)},
        {NET: Decimal(foreign)},
        (),
        netting=True,
    )
    assert (report.status, report.difference) == (status, Decimal(difference))


def test_a_busy_market_is_never_told_to_differ() -> None:
    """While an attempt may change it, a market says nothing; the others do."""
    reports = differences.compare(
        holdings(position("3"), position("1", market="BTC-PERP")), {NET: Decimal(2)}, {}, {SOL}, netting=True
    )
    assert {report.market: report.status for report in reports} == {
        SOL: MarketStatus.BUSY,
        "BTC-PERP": MarketStatus.DIFFERS,
    }


def test_what_is_within_the_venues_rounding_is_no_difference() -> None:
    """A venue that keeps positions in dollars may be off by its own tolerance, and by no more."""
    for size, status in (("2.001", MarketStatus.OK), ("2.0011", MarketStatus.DIFFERS)):
        (report,) = differences.compare(
            holdings(position(size, tolerance="0.001")), {NET: Decimal(2)}, {}, (), netting=True
        )
        assert report.status is status


def test_a_venue_that_does_not_net_is_compared_side_by_side() -> None:
    """A long and a short of one market are two holdings there: one may differ while the other agrees."""
    both = holdings(position("2"), position("-3"))
    long, short = (HoldingKey(market=SOL, side=side) for side in (Side.LONG, Side.SHORT))
    reports = differences.compare(both, {long: Decimal(2), short: Decimal(-1)}, {}, (), netting=False)
    assert {report.side: report.status for report in reports} == {
        Side.LONG: MarketStatus.OK,
        Side.SHORT: MarketStatus.DIFFERS,
    }
    (netted,) = differences.compare(both, {NET: Decimal(-1)}, {}, (), netting=True)
    assert netted.status is MarketStatus.OK


def test_what_neither_side_holds_is_not_listed() -> None:
    """A market of which nothing is left on either side is no line of the report."""
    assert differences.compare(holdings(), {NET: Decimal(0)}, {}, (), netting=True) == ()


def test_events_go_to_whoever_they_are_of() -> None:
    """Booked ones are left out, a busy market's wait, our attempts' are for settlement, the rest came from outside."""
    booked, ours, theirs = event(number=1), event(number=2), event(number=3)
    waiting = event(number=4, market="BTC-PERP")
    booked_and_busy = event(number=5, market="BTC-PERP")
    found = differences.sort_events(
        (booked, ours, theirs, waiting, booked_and_busy),
        busy={"BTC-PERP"},
        is_booked={"fill-1", "fill-5"}.__contains__,
        is_attempts={"signature-2", "signature-4"}.__contains__,
    )
    assert (found.outside, found.unbooked, found.left) == ((theirs,), (ours,), (waiting,))


@pytest.mark.parametrize(
    ("held", "lots", "surplus"),
    [("3", "2", True), ("-3", "-2", True), ("1", "2", False), ("-1", "2", False), ("2", "0", True), ("-2", "0", True)],
)
def test_only_more_on_the_books_own_side_is_a_surplus(held: str, lots: str, surplus: bool) -> None:  # noqa: FBT001 - the expected answer
    """What the venue lacks, or holds on the other side, is never taken for somebody else's."""
    report = MarketReport(
        market=SOL,
        side=None,
        booked_size=Decimal(lots),
        foreign_size=Decimal(0),
        venue_size=Decimal(held),
        status=MarketStatus.DIFFERS,
    )
    assert differences.is_surplus(report) is surplus


def booked(**reduced: str) -> OutsideBooked:
    """Return what booking an outside fill did to the lots."""
    return OutsideBooked(new=True, reduced={key: Decimal(size) for key, size in reduced.items()})


def test_findings_of_events_say_what_they_did_to_the_lots() -> None:
    """A liquidation is told in any case, a trade only where it reduced a lot of ours, each with its transaction."""
    assert differences.event_finding("drift", event(), booked()) is None
    trade = differences.event_finding("drift", event(), booked(pos_1="0.25", pos_2="0.75"))
    assert trade is not None
    assert (trade.kind, trade.subject, trade.market) == (FindingKind.CLOSED_ELSEWHERE, "fill-1", SOL)
    assert (trade.detail["reduced_pos_1"], trade.detail["reduced_pos_2"]) == ("0.25", "0.75")
    assert [each.signature for each in trade.evidence] == ["signature-1"]
    for effect in (booked(), booked(pos_1="1")):
        taken = differences.event_finding("drift", event(kind=VenueEventKind.LIQUIDATION), effect)
        assert taken is not None
        assert taken.kind is FindingKind.LIQUIDATED


def test_findings_of_states_name_their_subject() -> None:
    """The same difference, order, part or signature has the same subject, so that it is found once."""
    part = ForeignPart(
        provider="drift",
        market=SOL,
        side=Side.SHORT,
        size=Decimal("1.5"),
        entry_price=Decimal(150),
        since=AT,
        updated_at=AT,
        holding=NET,
    )
    foreign = differences.foreign_finding(part)
    assert (foreign.kind, foreign.subject) == (FindingKind.FOREIGN_POSITION, SOL)
    assert (foreign.detail["side"], foreign.detail["size"], foreign.detail["entry_price"]) == ("short", "1.5", "150")

    (report,) = differences.compare(holdings(position("3")), {NET: Decimal(2)}, {}, (), netting=True)
    size = differences.size_finding("drift", report, 7, "nothing explains it")
    assert (size.kind, size.subject) == (FindingKind.SIZE_DIFFERS, SOL)
    assert (size.detail["booked_size"], size.detail["venue_size"]) == ("2", "3")
    assert size.evidence[0].detail == "nothing explains it"

    order = VenueOrder(
        provider="drift",
        market=SOL,
        venue_order_id="41",
        side=Side.LONG,
        size=Decimal(2),
        price=None,
        reduce_only=True,
        placed_by="signature-9",
    )
    orphan = differences.orphan_finding(order, 7, "no attempt of this ledger placed it")
    assert (orphan.kind, orphan.subject) == (FindingKind.ORPHAN_ORDER, "41")
    assert (orphan.detail["reduce_only"], "price" in orphan.detail) == ("yes", False)
    priced = differences.orphan_finding(msgspec.structs.replace(order, price=Decimal("149.5")), 7, "")
    assert priced.detail["price"] == "149.5"

    signed = differences.signature_finding("wallet", "signature-5")
    assert (signed.kind, signed.subject, signed.market) == (FindingKind.UNKNOWN_SIGNATURE, "signature-5", None)
    broken = differences.violation_finding("drift", event(), "ord_1", "att_1")
    assert (broken.kind, broken.subject) == (FindingKind.PROMISE_VIOLATION, "att_1")
    assert broken.evidence[0].signature == "signature-1"
