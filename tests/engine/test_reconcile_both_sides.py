"""A venue that does not net: long and short of one market are two holdings, and are held against the books apart."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.types import (
    Capabilities,
    HoldingKey,
    Holdings,
    Side,
    VenueEvent,
    VenueEventKind,
    VenueHistory,
    VenuePosition,
)
from router.engine.requests import NothingForeignHeld, SideNeeded
from router.ledger.records import OrderStatus, PositionStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import PRICE, ScriptedProvider

DUST = Decimal("0.000001")


class BothSides:
    """Makes a venue one that holds both sides at once, and tells what `says` sets."""

    def __init__(self, venue: ScriptedProvider) -> None:
        self.venue = venue
        self.held: dict[Side, Decimal] = {}
        self.events: list[VenueEvent] = []
        venue.capabilities = Capabilities(order_lock=True, netting=False, cross_margin=False, rests=True)
        venue.holdings = self.holdings  # type: ignore[attr-defined]
        venue.history = self.history  # type: ignore[attr-defined]

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return both sides as one slot."""
        positions = tuple(
            VenuePosition(
                provider=self.venue.name,
                market="SOL-PERP",
                side=side,
                size=size,
                entry_price=PRICE,
                liquidation_price=None,
                unrealized_pnl_usd=None,
                oracle_price=PRICE,
                slot=100,
                size_tolerance=DUST,
            )
            for side, size in self.held.items()
            if size
        )
        return Holdings(provider=self.venue.name, slot=100, positions=positions)

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return everything that others did."""
        return VenueHistory(events=() if after is None else tuple(self.events), complete=True, newest="mark")

    def trade(self, side: Side, delta: str) -> None:
        """Let somebody else change one side."""
        number = len(self.events)
        self.events.append(
            VenueEvent(
                kind=VenueEventKind.TRADE,
                market="SOL-PERP",
                venue_fill_id=f"theirs-{number}",
                base_delta=Decimal(delta),
                price=PRICE,
                fee_usd=Decimal(0),
                signature=f"their-signature-{number}",
                slot=50,
                at=self.venue.chain.clock.now(),
                side=side,
                size_tolerance=DUST,
            )
        )
        change = Decimal(delta) if side is Side.LONG else -Decimal(delta)
        self.held[side] = self.held.get(side, Decimal(0)) + change


def kinds(desk: Desk) -> list[tuple[str, str, str]]:
    """Return kind, subject and status of every finding, oldest first."""
    found, _ = desk.ledger.findings(limit=100)
    return [(f.kind.value, f.subject, f.status.value) for f in reversed(found)]


def test_long_and_short_of_one_market_are_opened_and_agree() -> None:
    """Nothing nets, so nothing is refused; off by less than the tolerance is no difference."""

    async def story(desk: Desk) -> None:
        venue = BothSides(desk.providers["alpha"])
        for side in Side:
            assert (await desk.open(size="2", side=side, provider="alpha")).order.status is OrderStatus.FILLED
        venue.held = {Side.LONG: Decimal(2) + DUST, Side.SHORT: Decimal(2) - DUST}
        await desk.engine.reconcile()
        assert kinds(desk) == []
        sizes = {
            (m.side, m.venue_size)
            for p in desk.engine.reconciliation(limit=1, cursor=None, kind=None, provider=None, status=None).providers
            if p.provider == "alpha"
            for m in p.markets
        }
        assert sizes == {(Side.LONG, Decimal(2) + DUST), (Side.SHORT, -(Decimal(2) - DUST))}

    trade(story)


def test_a_growth_of_one_side_never_reduces_the_other() -> None:
    """A short opened by hand is foreign beside our long, and the long stays whole."""

    async def story(desk: Desk) -> None:
        venue = BothSides(desk.providers["alpha"])
        lot = (await desk.open(size="2", provider="alpha")).order.position_id or ""
        venue.held = {Side.LONG: Decimal(2)}
        await desk.engine.reconcile()
        venue.trade(Side.SHORT, "-3")
        await desk.engine.reconcile()
        kept = desk.ledger.position(lot)
        part = desk.ledger.foreign_part("alpha", HoldingKey(market="SOL-PERP", side=Side.SHORT))
        assert kept is not None
        assert kept.size == 2
        assert part is not None
        assert part.signed_size == -3
        assert kinds(desk) == [("foreign_position", "SOL-PERP short", "open")]

    trade(story)


def test_a_reduction_takes_the_lot_of_its_side_whole_in_spite_of_rounding() -> None:
    """What a reduction would leave below the tolerance goes with it: a venue that counts dollars leaves no dust."""

    async def story(desk: Desk) -> None:
        venue = BothSides(desk.providers["alpha"])
        lots = [(await desk.open(size="2", side=side, provider="alpha")).order.position_id or "" for side in Side]
        venue.held = dict.fromkeys(Side, Decimal(2))
        await desk.engine.reconcile()
        venue.trade(Side.LONG, "-1.999999")
        venue.held[Side.LONG] = Decimal(0)
        await desk.engine.reconcile()
        long_lot, short_lot = (desk.ledger.position(lot) for lot in lots)
        assert long_lot is not None
        assert short_lot is not None
        assert long_lot.status is PositionStatus.CLOSED
        assert short_lot.size == 2
        assert [kind for kind, *_ in kinds(desk)] == ["closed_elsewhere"]

    trade(story)


def test_adoption_of_one_of_two_sides_needs_to_be_told_which() -> None:
    """Both sides held by hand: the request must say; the one that is named becomes a lot, the other stays foreign."""

    async def story(desk: Desk) -> None:
        venue = BothSides(desk.providers["alpha"])
        venue.held = {Side.LONG: Decimal(1), Side.SHORT: Decimal(2)}
        await desk.engine.reconcile()
        with pytest.raises(SideNeeded):
            await desk.engine.adopt("alpha", "SOL-PERP", None, "local")
        adopted = (await desk.engine.adopt("alpha", "SOL-PERP", Side.SHORT, "local")).position
        assert adopted.side is Side.SHORT
        assert adopted.size == 2
        assert [p.signed_size for p in desk.ledger.foreign_parts("alpha")] == [1]
        with pytest.raises(NothingForeignHeld):
            await desk.engine.adopt("alpha", "SOL-PERP", Side.SHORT, "local")

    trade(story)
