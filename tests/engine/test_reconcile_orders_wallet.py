"""What rests without an owner, what our key signed without a record, and first looks: reconciliation end to end."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.errors import BadAnswer
from providers.base.types import HoldingKey, Holdings, Side, VenueEventKind, VenueHistory, VenueOrder
from router.engine.reconcile import WALLET
from router.engine.reports import MarketStatus, ProviderReport, ReportStatus
from router.engine.requests import OpensHeld
from router.ledger.records import FindingKind, OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play, ScriptedProvider
from tests.engine.test_reconcile_venues import Told, kinds


class Resting(Told):
    """A venue that also tells what rests, and whose history may be cut."""

    def __init__(self, venue: ScriptedProvider) -> None:
        super().__init__(venue)
        self.orders: list[VenueOrder] = []
        self.whole = True

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return the holding, and what rests."""
        held = await super().holdings(min_slot)
        return Holdings(provider=held.provider, slot=held.slot, positions=held.positions, orders=tuple(self.orders))

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return what others did, whole or not."""
        read = await super().history(after, through_slot)
        return VenueHistory(events=read.events, complete=self.whole, newest=read.newest)

    def rest(self, number: str, placed_by: str | None) -> None:
        """Let an order rest on the venue."""
        order = VenueOrder(
            provider=self.venue.name,
            market="SOL-PERP",
            venue_order_id=number,
            side=Side.LONG,
            size=Decimal(1),
            price=Decimal(140),
            reduce_only=False,
            placed_by=placed_by,
        )
        self.orders.append(order)


class Wallet:
    """What our key has signed, as the chain lists it; the first answer is a mark only."""

    def __init__(self) -> None:
        self.signed: list[str] = []
        self.asked: list[str | None] = []
        self.cut = False

    async def own_transactions(self, after: str | None, through_slot: int) -> tuple[tuple[str, ...], str | None]:
        """Return what was signed after a mark (`mark-N`: so many were known)."""
        self.asked.append(after)
        if self.cut:
            raise BadAnswer("the nodes do not show the wallet's history")
        known = len(self.signed) if after is None else int(after.removeprefix("mark-"))
        return tuple(self.signed[known:]), f"mark-{len(self.signed)}"


async def reconciled(desk: Desk, provider: str = "alpha") -> ProviderReport:
    """Hold everything against the books; return what it says of one provider, or of the wallet."""
    await desk.engine.reconcile()
    told = desk.engine.reconciliation(limit=10, cursor=None, kind=None, provider=None, status=None)
    return next(report for report in told.providers if report.provider == provider)


def size_of(desk: Desk, position_id: str) -> Decimal:
    """Return what a lot still holds."""
    lot = desk.ledger.position(position_id)
    assert lot is not None
    return lot.size


def test_orders_that_nobody_waits_for_are_found_until_they_are_gone() -> None:
    """Placed by a stranger, by nobody that history knows, or by an attempt that has ended: an orphan each."""

    async def story(desk: Desk) -> None:
        told = Resting(desk.providers["alpha"])
        ended = await desk.open(size="2")
        handle = ended.attempts[0].submission
        assert handle is not None
        told.rest("11", "a-stranger's-signature")
        told.rest("12", None)
        told.rest("13", handle.handle)
        await desk.engine.reconcile()
        found, _ = desk.ledger.findings(limit=10)
        assert {f.kind for f in found} == {FindingKind.ORPHAN_ORDER}
        why = {f.subject: f.detail["why"] for f in found}
        assert "no attempt" in why["11"]
        assert "does not show" in why["12"]
        assert "filled" in why["13"]
        # Seen again they are the same findings; gone, they are resolved.
        await desk.engine.reconcile()
        assert len(desk.ledger.findings(limit=10)[0]) == 3
        told.orders = told.orders[1:]
        await desk.engine.reconcile()
        assert {f.subject: f.status.value for f in desk.ledger.findings(limit=10)[0]} == {
            "11": "resolved",
            "12": "open",
            "13": "open",
        }
        # They are no hold: an open goes through.
        assert (await desk.open(size="1")).order.status is OrderStatus.FILLED

    trade(story)


def test_an_order_that_an_attempt_waits_for_is_no_orphan() -> None:
    """While its attempt is unclear, what rests is ours, whatever its market's books say."""

    async def story(desk: Desk) -> None:
        told = Resting(desk.providers["alpha"])
        order_id = await desk.place(size="2", ttl_s=300, provider="alpha")
        await desk.clock.sleep(2)
        (attempt,) = desk.engine.order(order_id).attempts
        assert attempt.submission is not None
        assert attempt.resting
        told.rest("21", attempt.submission.handle)
        await desk.engine.reconcile()
        assert kinds(desk) == []
        await desk.engine.cancel(order_id)
        await desk.end_of(order_id)

    trade(story, alpha=(Play(what="rest"),))


def test_a_signature_of_our_key_that_nobody_wrote_down_holds_opens(tmp_path: Path) -> None:
    """What the ledgers of this service know is ours; one that none knows is found once, holds opens, and no close."""

    async def story(desk: Desk) -> None:
        wallet = Wallet()
        wallet.signed = ["before-us"]
        desk.wallet, desk.known_elsewhere = wallet, {"a-deposit"}.__contains__
        await desk.crash()
        Told(desk.providers["alpha"])
        assert (await reconciled(desk, WALLET)).status is ReportStatus.OK
        lot = await desk.open(size="2")
        submission = lot.attempts[0].submission
        assert submission is not None
        wallet.signed += [submission.handle, "a-deposit"]
        await desk.engine.reconcile()
        assert kinds(desk) == []
        assert (wallet.asked[0], wallet.asked[-1]) == (None, "mark-1")
        wallet.signed += ["a-second-router's"]
        for _ in range(2):
            assert (await reconciled(desk, WALLET)).status is ReportStatus.DIFFERS
            assert kinds(desk) == [("unknown_signature", "open")]
        with pytest.raises(OpensHeld):
            await desk.open(size="1")
        assert (await desk.close(lot.order.position_id or "")).order.status is OrderStatus.FILLED
        assert "unknown_signature" in desk.told.alerts

    trade(story, path=tmp_path / "ledger.db")


def test_a_wallet_that_cannot_be_read_moves_no_mark(tmp_path: Path) -> None:
    """What was signed meanwhile is found by the next run that can read: nothing is passed over."""

    async def story(desk: Desk) -> None:
        wallet = Wallet()
        desk.wallet = wallet
        await desk.crash()
        Told(desk.providers["alpha"])
        await desk.engine.reconcile()
        wallet.signed.append("a-second-router's")
        wallet.cut = True
        assert (await reconciled(desk, WALLET)).status is ReportStatus.ERROR
        assert kinds(desk) == []
        wallet.cut = False
        await desk.engine.reconcile()
        assert kinds(desk) == [("unknown_signature", "open")]

    trade(story, path=tmp_path / "ledger.db")


def test_a_market_with_an_unclear_attempt_waits() -> None:
    """Neither what it holds nor what happened there counts until the attempt is proven; then all of it does, once."""

    async def story(desk: Desk) -> None:
        told = Resting(desk.providers["alpha"])
        await desk.engine.reconcile()
        lot = (await desk.open(size="2")).order.position_id or ""
        await desk.engine.reconcile()
        order_id = await desk.place(size="1", provider="alpha")
        await desk.clock.sleep(1)
        told.trade("-1", VenueEventKind.TRADE)
        (report,) = (await reconciled(desk)).markets
        assert report.status is MarketStatus.BUSY
        assert kinds(desk) == []
        assert size_of(desk, lot) == 2
        await desk.end_of(order_id)
        await desk.engine.reconcile()
        assert kinds(desk) == [("closed_elsewhere", "open")]
        (report,) = (await reconciled(desk)).markets
        assert (report.status, report.booked_size) == (MarketStatus.OK, Decimal(2))
        assert kinds(desk) == [("closed_elsewhere", "open")]

    trade(story, alpha=(Play(), Play(seen_after_s=10)))


def test_a_history_that_is_not_whole_books_what_it_proves_and_keeps_the_mark() -> None:
    """What it lists is proven, and booked; that nothing else was is not: the mark stays, and all is read again."""

    async def story(desk: Desk) -> None:
        told = Resting(desk.providers["alpha"])
        await desk.engine.reconcile()
        lot = (await desk.open(size="2")).order.position_id or ""
        mark = desk.ledger.watermark("alpha")
        told.trade("-0.5")
        told.hidden = Decimal("-0.5")
        told.whole, told.newest = False, "newer"
        await desk.engine.reconcile()
        assert kinds(desk) == [("closed_elsewhere", "open"), ("size_differs", "open")]
        found, _ = desk.ledger.findings(limit=10, kind=FindingKind.SIZE_DIFFERS)
        assert "could not be read whole" in found[0].evidence[0].detail
        assert size_of(desk, lot) == Decimal("1.5")
        assert desk.ledger.watermark("alpha") == mark
        # The nodes show all of it by now.
        told.trade("-0.5")
        told.hidden = Decimal(0)
        told.whole = True
        await desk.engine.reconcile()
        assert size_of(desk, lot) == 1
        assert ("size_differs", "resolved") in kinds(desk)
        assert desk.ledger.watermark("alpha") != mark

    trade(story)


@pytest.mark.parametrize("hidden", ["0", "1", "-1"])
def test_a_first_look_with_lots_on_the_books(hidden: str) -> None:
    """Lots from before the first run stay: what is beside them is foreign, what they lack is a difference."""

    async def story(desk: Desk) -> None:
        lot = (await desk.open(size="2")).order.position_id or ""
        told = Resting(desk.providers["alpha"])
        told.hidden = Decimal(hidden)
        await desk.engine.reconcile()
        assert size_of(desk, lot) == 2
        part = desk.ledger.foreign_part("alpha", HoldingKey(market="SOL-PERP"))
        expected = {"0": [], "1": [("foreign_position", "open")], "-1": [("size_differs", "open")]}
        assert kinds(desk) == expected[hidden]
        assert (None if part is None else part.signed_size) == (Decimal(1) if hidden == "1" else None)

    trade(story)


def test_what_happened_between_our_first_fill_and_the_first_look_is_booked() -> None:
    """Without a mark our first fill is one: a close elsewhere after it is told as such, not as a difference."""

    async def story(desk: Desk) -> None:
        told = Resting(desk.providers["alpha"])
        lot = (await desk.open(size="2")).order.position_id or ""
        told.trade("-2")
        await desk.engine.reconcile()
        assert kinds(desk) == [("closed_elsewhere", "open")]
        assert size_of(desk, lot) == 0

    trade(story)
