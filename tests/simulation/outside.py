"""A desk on which others act too: trades on the same accounts, liquidations, and two venues to fill on.

Whatever happens past the router is in the chain's history, so at the end the books explain every venue's holding: lots
and foreign part make what the venue holds, or a finding says that they do not; and every liquidation and every trade
that took from a lot is a finding of its own.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import msgspec

from providers.base.types import HoldingKey
from providers.solana.cluster import SolanaCluster
from router.engine.context import EngineContext
from router.engine.engine import Engine
from router.engine.reports import MarketStatus, ProviderReport
from router.ledger.records import FindingKind, FindingRecord, FindingStatus
from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.controls import open_mango
from router.localnet.mango.model import MangoModel
from router.localnet.world import WorldKeys
from tests.simulation.sim import MARKETS, SETTINGS, SLOT_S, Desk, Report

__all__ = ["BusyDesk", "Outside", "Venue", "live_through"]

LIQUIDATED = FindingKind.LIQUIDATED
TradeSide = Literal["long", "short"]


class Venue(Protocol):
    """What the world can do to the trader's account on one venue, past the router."""

    @property
    def name(self) -> str:
        """As the provider is called."""
        ...

    @property
    def signs_itself(self) -> bool:
        """Whether a trade past the router is signed by the router's own key: that is a finding of its own."""
        ...

    def holdings(self, market: str) -> dict[HoldingKey, tuple[Decimal, Decimal]]:
        """Return what the venue's own accounts say: size, shorts negative, and by how much rounding may be off."""
        ...

    def trade(self, market: str) -> str:
        """Trade past the router; return the signature. Raise `ValueError` when the program refuses."""
        ...

    def liquidate(self, market: str) -> str:
        """Liquidate a part of the position; return the signature. Raise `ValueError` when there is nothing to."""
        ...

    def heal(self) -> None:
        """Give the account its collateral back."""
        ...

    def disturb(self) -> None:
        """Change something about the venue that an order may meet."""
        ...

    def calm(self) -> None:
        """Undo every change that keeps orders from ending."""
        ...


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done past the router."""

    venue: str
    market: str
    signature: str
    liquidation: bool


class NettingVenue(ABC):
    """A venue with one holding a market, on which an account's delegate trades past the router."""

    name: str
    signs_itself = False

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @abstractmethod
    def held(self, market: str) -> Decimal:
        """Return what the venue's own account says, shorts negative."""

    @abstractmethod
    def trade_by_delegate(self, market: str, side: TradeSide, base: Decimal) -> str:
        """Trade by the account's delegate; return the signature."""

    def holdings(self, market: str) -> dict[HoldingKey, tuple[Decimal, Decimal]]:
        """Return the one holding of a market; sizes are exact."""
        return {HoldingKey(market=market): (self.held(market), Decimal(0))}

    def trade(self, market: str) -> str:
        """Trade some steps: back to nothing more often than not, since against a foreign part nothing can be opened."""
        dice = self._desk.random
        foreign = self._desk.ledger.foreign_part(self.name, HoldingKey(market=market))
        side: TradeSide = "short" if foreign is not None and foreign.signed_size > 0 else "long"
        if dice.random() < 0.3:
            side = "long" if side == "short" else "short"
        step = Decimal("0.1") if self._desk.price(market) < 1_000 else Decimal("0.001")
        return self.trade_by_delegate(market, side, step * dice.randint(1, 12))


class DriftVenue(NettingVenue):
    """Drift's side of the world; the desk's own controls are Drift's."""

    name = "drift"

    def held(self, market: str) -> Decimal:
        """Return what the account holds, shorts negative."""
        return self._desk.held(market)

    def trade_by_delegate(self, market: str, side: TradeSide, base: Decimal) -> str:
        """Trade by the account's delegate."""
        return self._desk.controls.foreign_trade(market, side, base)

    def liquidate(self, market: str) -> str:
        """Leave too little collateral and liquidate."""
        return self._desk.controls.liquidate(market, collateral_bps=self._desk.random.choice([100, 300]))

    def heal(self) -> None:
        """Give the account ten thousand dollars."""
        self._desk.controls.set_collateral(Decimal(10_000))

    def disturb(self) -> None:
        """Move price, auction, keeper, pauses, caps."""
        self._desk.move_the_market()

    def calm(self) -> None:
        """Let orders end."""
        self._desk.calm_the_market()


class MangoVenue(NettingVenue):
    """Mango's side of the world, in the same cluster."""

    name = "mango"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        desk.chain.register(MangoModel())
        self.world, self.controls = open_mango(desk.chain, WorldKeys())

    def held(self, market: str) -> Decimal:
        """Return what the account holds, fills still in the event queue included, shorts negative."""
        place = self.world.market(market)
        account = self._desk.chain.account(self.world.trader_account.account)
        assert account is not None
        decoded = MangoAccount.decode(bytes(account.data), 8)
        lots = sum(
            position.base_position_lots + position.taker_base_lots
            for position in decoded.perps
            if position.market_index == place.terms.index
        )
        return (Decimal(lots * place.terms.base_lot) / Decimal(10) ** place.terms.base_decimals).normalize()

    def trade_by_delegate(self, market: str, side: TradeSide, base: Decimal) -> str:
        """Trade by the account's delegate."""
        return self.controls.foreign_trade(market, side, base)

    def liquidate(self, market: str) -> str:
        """Leave too little collateral and liquidate: a part, or all."""
        return self.controls.liquidate(market, margin_share=self._desk.random.choice([Decimal("0.5"), Decimal("0.8")]))

    def heal(self) -> None:
        """Give the account ten thousand dollars."""
        self.controls.set_collateral(Decimal(10_000))

    def disturb(self) -> None:
        """Move price, cranker, maker, gates."""
        dice, controls = self._desk.random, self.controls
        change = dice.choice(["price", "price", "cranker", "reduce_only", "oracle", "book"])
        self._desk.report[f"venue:mango:{change}"] += 1
        market = dice.choice(MARKETS)
        if change == "price":
            controls.set_oracle_price(market, self._desk.price(market) * dice.randint(97, 103) / 100)
        elif change == "cranker":
            controls.run_cranker(running=dice.random() < 0.7)
        elif change == "reduce_only":
            controls.set_reduce_only(market, on=dice.random() < 0.3)
        elif change == "oracle":
            controls.freeze_oracle(market, frozen=dice.random() < 0.3)
        else:
            controls.empty_book(market, dice.choice(["bids", "asks"]))

    def calm(self) -> None:
        """Let orders end."""
        self.controls.run_cranker(running=True)
        self.controls.run_maker(running=True)
        for market in MARKETS:
            self.controls.set_reduce_only(market, on=False)
            self.controls.freeze_oracle(market, frozen=False)


class BusyDesk(Desk):
    """A desk that reconciles, on venues where others trade too."""

    chain_of_providers: tuple[str, ...] = ("drift", "mango")
    venue_kinds: ClassVar[tuple[Callable[[Desk], Venue], ...]] = (DriftVenue, MangoVenue)

    def __init__(self, seed: int, path: Path, *, nodes: int = 1) -> None:
        super().__init__(seed, path, nodes=nodes)
        self.venues: tuple[Venue, ...] = tuple([kind(self) for kind in self.venue_kinds])
        self.done: list[Outside] = []

    def build_engine(self, solana: SolanaCluster) -> Engine:
        """Put an engine on the ledger that knows what its key has signed."""
        settings = msgspec.structs.replace(SETTINGS, chain=self.chain_of_providers, reconcile_interval_s=10.0)
        context = EngineContext(
            ledger=self.ledger, providers=self.providers, lock=solana.lock, clock=self.clock, settings=settings
        )
        return Engine(context, wallet=solana.signer_history)

    # -- what others do ------------------------------------------------------------------------------------------

    async def meddle(self) -> None:
        """Do one random thing past the router."""
        venue = self.random.choice(self.venues)
        market = self.random.choice(MARKETS)
        holds = any(size for size, _ in venue.holdings(market).values())
        liquidation = holds and self.random.random() < 0.2
        try:
            signature = venue.liquidate(market) if liquidation else venue.trade(market)
            self.done.append(Outside(venue=venue.name, market=market, signature=signature, liquidation=liquidation))
            self.report[f"outside:{venue.name}:{'liquidation' if liquidation else 'trade'}"] += 1
        except ValueError as e:
            self.report[f"outside:{venue.name}:refused"] += 1
            self.report[f"outside:{type(e).__name__}"] += 1
        venue.heal()

    async def acknowledge(self) -> None:
        """Do what an operator does about a trade past the router by the router's own key: see it, and go on."""
        for found in self.findings():
            if (found.kind, found.status) == (FindingKind.UNKNOWN_SIGNATURE, FindingStatus.OPEN):
                await self.engine.acknowledge(found.finding_id, "traded by hand", "sim")

    # -- what must hold ------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Let every order end, then hold the books against the venues until nothing new is found."""
        for venue in self.venues:
            venue.calm()
            venue.heal()
        await super().settle()
        for _ in range(3):
            await self.engine.reconcile()
            await self.acknowledge()
            await self.clock.sleep(SLOT_S * 5)

    def check(self) -> None:
        """Hold ledger and venues against the promise, and the findings against what was done."""
        for view in self.views():
            self._check_order(view)
            self.report[f"{view.order.kind.value}:{view.order.status.value}"] += 1
            if view.order.filled_by is not None:
                self.report[f"filled_by:{view.order.filled_by}"] += 1
        findings = self.findings()
        for kind in FindingKind:
            self.report[f"finding:{kind.value}"] += sum(1 for found in findings if found.kind is kind)
        for venue in self.venues:
            for market in MARKETS:
                self._check_market(venue, market, findings)
        self._check_meddling(findings)

    def findings(self) -> list[FindingRecord]:
        """Return every finding on record."""
        found: list[FindingRecord] = []
        cursor: str | None = None
        while True:
            page, cursor = self.ledger.findings(limit=100, cursor=cursor)
            found += page
            if cursor is None:
                return found

    def _check_market(self, venue: Venue, market: str, findings: list[FindingRecord]) -> None:
        netting = self.providers[venue.name].capabilities.netting
        for holding, (held, tolerance) in venue.holdings(market).items():
            lots = self.ledger.lot_sizes(venue.name, netting=netting).get(holding, Decimal(0))
            part = self.ledger.foreign_part(venue.name, holding)
            foreign = Decimal(0) if part is None else part.signed_size
            open_kinds = {
                found.kind
                for found in findings
                if (found.provider, found.subject, found.status) == (venue.name, str(holding), FindingStatus.OPEN)
            }
            explained = abs(lots + foreign - held) <= tolerance
            assert explained or FindingKind.SIZE_DIFFERS in open_kinds, (
                f"{holding} on {venue.name}: lots {lots}, foreign {foreign}, the venue {held}, and nothing says so"
            )
            assert explained, (
                f"{holding} on {venue.name}: history was whole, and the books did not follow it: "
                f"lots {lots}, foreign {foreign}, the venue {held} within {tolerance}"
            )
            assert (part is not None) == (FindingKind.FOREIGN_POSITION in open_kinds)
        statuses = {
            row.market: row.status
            for report in self._reports()
            if report.provider == venue.name
            for row in report.markets
        }
        assert statuses.get(market, MarketStatus.OK) is MarketStatus.OK

    def _reports(self) -> tuple[ProviderReport, ...]:
        return self.engine.reconciliation(limit=1, cursor=None, kind=None, provider=None, status=None).providers

    def _check_meddling(self, findings: list[FindingRecord]) -> None:
        """Every liquidation is told as one, and nothing is told that nobody did."""
        told = {evidence.signature for found in findings for evidence in found.evidence if evidence.signature}
        done = {outside.signature: outside for outside in self.done}
        for outside in self.done:
            if outside.liquidation:
                assert outside.signature in told, f"the liquidation {outside.signature} is no finding"
        for found in findings:
            if found.kind in {FindingKind.CLOSED_ELSEWHERE, LIQUIDATED}:
                signature = found.evidence[0].signature
                assert signature in done, f"{found.kind} {found.subject} was done by nobody"
                assert done[signature].liquidation == (found.kind is LIQUIDATED)
        signing = {venue.name for venue in self.venues if venue.signs_itself}
        assert not [found for found in findings if found.kind is FindingKind.PROMISE_VIOLATION]
        # What others asked of a keeper rests for a moment: it was found, and is gone.
        orphans = [found for found in findings if found.kind is FindingKind.ORPHAN_ORDER]
        by_nobody = [found for found in orphans if found.status is FindingStatus.OPEN or found.provider not in signing]
        assert not by_nobody, by_nobody
        by_own_key = [each for each in self.done if each.venue in signing and not each.liquidation]
        unknown = [found for found in findings if found.kind is FindingKind.UNKNOWN_SIGNATURE]
        # One that the program refused in the end had sent its request before.
        refused = sum(self.report[f"outside:{name}:refused"] for name in signing)
        assert len(by_own_key) <= len(unknown) <= len(by_own_key) + refused


async def live_through(seed: int, steps: int, path: Path, desk_of: type[BusyDesk] = BusyDesk) -> Report:
    """Take `steps` steps with orders, meddling, faults and restarts, and hold the end against the promise.

    Raises:
        AssertionError: the promise is broken; the seed repeats it.
    """
    desk = desk_of(seed, path, nodes=1 + seed % 2)
    await desk.start()
    try:
        for _ in range(steps):
            dice = desk.random.random()
            if dice < 0.7:
                await desk.act()
            elif dice < 0.9:
                await desk.meddle()
            else:
                desk.random.choice(desk.venues).disturb()
            if desk.random.random() < 0.3:
                desk.break_something()
            await desk.clock.sleep(desk.random.choice([0.0, 0.5, 1.0, 3.0]))
            await desk.acknowledge()
            if desk.random.random() < 0.03:
                await desk.crash()
            if desk.random.random() < 0.05:
                desk.faults.clear()
        await asyncio.wait_for(desk.settle(), timeout=36_000)
        desk.check()
        desk.report["slots"] = desk.chain.slot
    finally:
        await desk.stop()
        await desk.chain.aclose()
    return desk.report
