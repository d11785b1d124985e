"""Books held against scripted venues: what history proves is booked, the rest is found, and nothing is invented."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.types import HoldingKey, Holdings, Side, VenueEvent, VenueEventKind, VenueHistory, VenuePosition
from router.engine.reconcile import GAP_S
from router.engine.requests import OpensHeld
from router.ledger.records import Finding, FindingKind, FindingStatus, OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import PRICE, Play, ScriptedProvider


class Told:
    """What a venue tells of itself: our own exposure, and what others did."""

    def __init__(self, venue: ScriptedProvider) -> None:
        self.venue = venue
        self.events: list[VenueEvent] = []
        self.hidden = Decimal(0)
        self.part: int | None = None
        self.broken = False
        self.newest = "mark"
        venue.holdings = self.holdings  # type: ignore[attr-defined]
        venue.history = self.history  # type: ignore[attr-defined]

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return ours and theirs as one slot."""
        size = self.venue.exposure() + self.hidden + sum((e.base_delta for e in self.events), Decimal(0))
        position = VenuePosition(
            provider=self.venue.name,
            market="SOL-PERP",
            side=Side.LONG if size > 0 else Side.SHORT,
            size=abs(size),
            entry_price=PRICE,
            liquidation_price=None,
            unrealized_pnl_usd=None,
            oracle_price=PRICE,
            slot=100,
        )
        return Holdings(provider=self.venue.name, slot=100, positions=(position,) if size else ())

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return everything that others did, again and again: booking must be idempotent. Or part by part."""
        if self.part is None or after is None:
            return VenueHistory(events=() if after is None else tuple(self.events), complete=True, newest=self.newest)
        known = next((at for at, event in enumerate(self.events, 1) if event.signature == after), 0)
        events = tuple(self.events[known : known + self.part])
        more = known + self.part < len(self.events)
        newest = events[-1].signature if events else after
        return VenueHistory(
            events=events,
            complete=not more and not self.broken,
            newest=newest,
            more=more and not self.broken,
        )

    def trade(self, delta: str, kind: VenueEventKind = VenueEventKind.TRADE) -> None:
        """Let somebody else trade on the account."""
        number = len(self.events)
        self.events.append(
            VenueEvent(
                kind=kind,
                market="SOL-PERP",
                venue_fill_id=f"theirs-{number}",
                base_delta=Decimal(delta),
                price=PRICE,
                fee_usd=Decimal(0),
                signature=f"their-signature-{number}",
                slot=50,
                at=self.venue.chain.clock.now(),
            )
        )


def kinds(desk: Desk) -> list[tuple[str, str]]:
    """Return kind and status of every finding, oldest first."""
    found, _ = desk.ledger.findings(limit=100)
    return [(f.kind.value, f.status.value) for f in reversed(found)]


def test_a_reduction_takes_the_foreign_part_then_the_oldest_lot_and_is_booked_once() -> None:
    """Running again, on the same history, changes nothing."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        await desk.engine.reconcile()
        await desk.open(size="2")
        await desk.open(size="3")
        told.trade("1")
        await desk.engine.reconcile()
        assert kinds(desk) == [("foreign_position", "open")]
        told.trade("-2.5")
        for _ in range(2):
            await desk.engine.reconcile()
            assert [lot.size for lot in desk.lots()] == [Decimal("0.5"), Decimal(3)]
            assert desk.ledger.foreign_part("alpha", HoldingKey(market="SOL-PERP")) is None
        assert kinds(desk) == [("foreign_position", "resolved"), ("closed_elsewhere", "open")]

    trade(story)


def test_a_liquidation_closes_the_lot_and_is_found() -> None:
    """The lot ends with what it realised."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        await desk.engine.reconcile()
        await desk.open(size="2")
        told.trade("-2", VenueEventKind.LIQUIDATION)
        await desk.engine.reconcile()
        assert kinds(desk) == [("liquidated", "open")]
        assert desk.lots()[0].size == 0

    trade(story)


def test_what_no_history_explains_leaves_the_lots_alone(tmp_path: Path) -> None:
    """Neither a run nor a warm restart flattens a position; agreeing again resolves the finding."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        await desk.engine.reconcile()
        await desk.open(size="2")
        told.hidden = Decimal(-1)
        await desk.engine.reconcile()
        await desk.crash()
        await desk.engine.reconcile()
        assert desk.lots()[0].size == 2
        assert kinds(desk) == [("size_differs", "open")]
        told.hidden = Decimal(0)
        await desk.engine.reconcile()
        assert kinds(desk) == [("size_differs", "resolved")]

    trade(story, path=tmp_path / "ledger.db")


def test_a_market_that_is_busy_at_the_first_look_is_looked_at_again() -> None:
    """What it held from before us is taken as foreign once the attempt is settled, and is no difference for ever."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        told.hidden = Decimal(1)
        await desk.open(size="2")
        pending = await desk.place(size="2")
        await desk.clock.sleep(1)
        assert desk.ledger.busy_markets("alpha") == {"SOL-PERP"}
        await desk.engine.reconcile()
        assert desk.ledger.watermark("alpha") is None
        await desk.end_of(pending)
        await desk.engine.reconcile()
        part = desk.ledger.foreign_part("alpha", HoldingKey(market="SOL-PERP"))
        assert part is not None
        assert part.signed_size == 1
        assert kinds(desk) == [("foreign_position", "open")]
        assert desk.ledger.watermark("alpha") is not None

    trade(story, alpha=(Play(), Play(seen_after_s=20)))


def test_a_history_with_a_gap_at_the_first_look_takes_nothing_as_foreign() -> None:
    """What the gap hides may explain all of the difference; once it is shown it counts, and counts once."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        await desk.open(size="2")
        told.trade("1")
        told.part, told.broken = 0, True
        await desk.engine.reconcile()
        assert desk.ledger.foreign_parts("alpha") == ()
        assert kinds(desk) == [("size_differs", "open")]
        told.part, told.broken = None, False
        await desk.engine.reconcile()
        part = desk.ledger.foreign_part("alpha", HoldingKey(market="SOL-PERP"))
        assert part is not None
        assert part.signed_size == 1
        assert kinds(desk) == [("size_differs", "resolved"), ("foreign_position", "open")]

    trade(story)


def test_long_history_is_booked_in_parts_by_one_run() -> None:
    """A service that was away for long reads on until it has everything; a part that is not whole stops the mark."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        lot = (await desk.open(size="2")).order.position_id or ""
        await desk.engine.reconcile()
        for delta in ("-0.5", "1", "-0.75"):
            told.trade(delta)
        told.part = 1
        await desk.engine.reconcile()
        left = desk.ledger.position(lot)
        assert left is not None
        assert left.size == Decimal("1.5")
        mark = desk.ledger.watermark("alpha")
        assert mark is not None
        assert mark.signature == "their-signature-2"
        told.trade("-0.25")
        told.broken = True
        await desk.engine.reconcile()
        assert desk.ledger.watermark("alpha") == mark

    trade(story)


def test_a_history_that_nobody_can_show_any_more_is_passed_over_while_books_and_venue_agree() -> None:
    """Pruned nodes must not blind the comparison for ever; while sizes differ the mark waits for an explanation."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        await desk.open(size="2")
        await desk.engine.reconcile()
        told.part, told.broken = 1, True
        told.hidden = Decimal(1)
        for _ in range(2):
            await desk.engine.reconcile()
            await desk.clock.sleep(GAP_S + 1)
        mark = desk.ledger.watermark("alpha")
        assert mark is not None
        before = mark.signature
        told.hidden = Decimal(0)
        await desk.engine.reconcile()
        assert desk.ledger.watermark("alpha") == mark
        told.newest = "newer"
        await desk.clock.sleep(GAP_S + 1)
        await desk.engine.reconcile()
        passed = desk.ledger.watermark("alpha")
        assert passed is not None
        assert (before, passed.signature) == ("mark", "newer")
        assert "history_gap_passed" in desk.told.alerts

    trade(story)


def test_a_foreign_part_is_a_holding_and_can_be_adopted_and_closed() -> None:
    """An open against it goes to the next venue; adopted, it closes like any other."""

    async def story(desk: Desk) -> None:
        told = Told(desk.providers["alpha"])
        told.trade("3")
        await desk.engine.reconcile()
        view = await desk.open(size="1", side=Side.SHORT)
        assert view.order.filled_by == "beta"
        adopted = (await desk.engine.adopt("alpha", "SOL-PERP", None, "local")).position
        assert (adopted.size, adopted.opened_by_order, adopted.entry_price) == (Decimal(3), None, PRICE)
        assert kinds(desk) == [("foreign_position", "resolved")]
        closed = await desk.close(adopted.position_id)
        assert closed.order.status is OrderStatus.FILLED

    trade(story)


@pytest.mark.parametrize("kind", [FindingKind.UNKNOWN_SIGNATURE, FindingKind.PROMISE_VIOLATION])
def test_a_hold_outlives_a_restart_until_it_is_acknowledged(tmp_path: Path, kind: FindingKind) -> None:
    """It holds opens alone: a close goes through meanwhile."""

    async def story(desk: Desk) -> None:
        lot = (await desk.open(size="2")).order.position_id or ""
        finding = Finding(kind=kind, provider="wallet", market=None, subject="signature", detail={})
        found = await desk.ledger.find(finding, desk.clock.now())
        assert found is not None
        await desk.crash()
        with pytest.raises(OpensHeld):
            await desk.open(size="1")
        assert (await desk.close(lot)).order.status is OrderStatus.FILLED
        acknowledged = await desk.engine.acknowledge(found.finding_id, "seen", "local")
        assert acknowledged.status is FindingStatus.ACKNOWLEDGED
        assert (await desk.open(size="1")).order.status is OrderStatus.FILLED

    trade(story, path=tmp_path / "ledger.db")
