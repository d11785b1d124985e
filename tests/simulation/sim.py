"""A day at the desk on virtual time: an engine, the Drift adapter, a localnet, and a wire that cannot be trusted.

Everything is real but the clock and the network: the ledger is SQLite on disk, transactions are signed and run in the
Solana runtime, the venue keeps its own book. One seed decides orders, faults and restarts, and repeats them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
from solders.keypair import Keypair

from providers import registry
from providers.base.clock import VirtualClock
from providers.base.protocol import Provider
from providers.base.types import OrderKind, Purpose, Side
from providers.solana.cluster import SolanaCluster, SolanaSettings
from providers.solana.signer import KeypairSigner
from router.engine.context import EngineContext, EngineSettings
from router.engine.engine import Engine
from router.engine.plan import Patience
from router.engine.requests import CloseRequest, OpenRequest, Refusal
from router.ledger.records import AttemptState, OrderRecord, OrderStatus, OrderView, PositionStatus, ProtectionTerms
from router.ledger.sqlite import SqliteLedger
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.controls import run_world
from router.localnet.drift.layouts import User
from router.localnet.drift.model import DriftModel
from router.localnet.faults import Fault, FaultKind, WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.world import World, WorldKeys, build_world

__all__ = ["Desk", "Report", "simulate"]

SLOT_S = 0.4
BASE = 10**9
MARKETS = ("SOL-PERP", "BTC-PERP")
SETTINGS = EngineSettings(
    chain=("drift",),
    patience=Patience(
        unproven=timedelta(seconds=5),
        resting=timedelta(seconds=15),
        fence=timedelta(seconds=3),
        cancel=timedelta(seconds=3),
    ),
    settle_interval_s=SLOT_S,
    reclaim_interval_s=40.0,
)
# What may go wrong while bytes that can move money are on the wire.
SEND_FAULTS: tuple[FaultKind, ...] = (
    "lost_after",
    "dropped_before",
    "cut_after",
    "cut_before",
    "http_503_after",
    "http_503_before",
    "http_429",
    "html",
    "null",
    "wrong_id",
    "truncated",
    "unknown_code",
    "internal_error",
    "landed_late",
    "lost_then_late",
    "refused",
)
READ_FAULTS: tuple[FaultKind, ...] = (
    "http_429",
    "html",
    "null",
    "wrong_id",
    "truncated",
    "unknown_code",
    "cut_before",
    "dropped_before",
    "stale",
    "behind",
    "refused",
)
READS = ("getTransaction", "getMultipleAccounts", "simulateTransaction", "getLatestBlockhash", "getBlockHeight")


class Report(Counter[str]):
    """What happened, by kind."""

    def text(self) -> str:
        """Return it in one line."""
        return ", ".join(f"{kind} {count}" for kind, count in sorted(self.items()))


class Desk:
    """The router's side, which can be crashed, and the world's side, which goes on."""

    chain_of_providers: tuple[str, ...] = ("drift",)

    def __init__(self, seed: int, path: Path, *, nodes: int = 1) -> None:
        self.random = random.Random(seed)  # noqa: S311 - must repeat from its seed
        self.clock = VirtualClock(seed)
        self.chain = Cluster(self.clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        self.chain.register(DriftModel())
        self.world: World = build_world(self.chain, keys=WorldKeys())
        self.controls = run_world(self.chain, self.world)
        self.faults = WireFaults(self.clock)
        self.nodes = nodes
        self.path = path
        self.report = Report()
        self.ledger: SqliteLedger
        self.engine: Engine
        self.providers: dict[str, Provider] = {}
        self._keys = 0

    async def start(self) -> None:
        """Begin to produce slots, then start the router."""
        await self.chain.start()
        await self.clock.sleep(SLOT_S * 3)
        await self.boot()

    async def boot(self, key: Keypair | None = None) -> None:
        """Start a router on the ledger as it is, signing with the trader's key or another."""
        transports = [
            InProcessTransport(self.chain, self.clock, name=f"node{index}", faults=self.faults, latency_s=0.05)
            for index in range(self.nodes)
        ]
        solana = SolanaCluster.of_transports(
            transports, KeypairSigner(bytes(key or self.world.trader)), self.clock, SolanaSettings()
        )
        self.providers = {name: registry.load(name)(solana, {}) for name in self.chain_of_providers}
        self.ledger = SqliteLedger.open(self.path, self.clock, writer="inline")
        self.engine = self.build_engine(solana)
        await self.engine.start()

    def build_engine(self, solana: SolanaCluster) -> Engine:
        """Put the engine on the ledger and the providers of this boot."""
        settings = msgspec.structs.replace(SETTINGS, chain=self.chain_of_providers)
        context = EngineContext(
            ledger=self.ledger, providers=self.providers, lock=solana.lock, clock=self.clock, settings=settings
        )
        return Engine(context)

    async def crash(self) -> None:
        """Kill the router and start it anew: whatever it was doing stops at an await."""
        await self.stop()
        self.report["restart"] += 1
        await self.clock.sleep(self.random.choice([0.0, 0.4, 5.0, 30.0]))
        await self.boot()

    async def stop(self) -> None:
        """Kill the router."""
        await self.engine.aclose()
        await self.ledger.aclose()

    # -- what the caller does ------------------------------------------------------------------------------------

    async def act(self) -> None:
        """Place one random order: mostly opens while little is open, closes otherwise."""
        lots, _ = self.ledger.positions(limit=100, status=PositionStatus.OPEN)
        free = [lot for lot in lots if lot.size > lot.reserved_size]
        self._keys += 1
        try:
            if free and self.random.random() < 0.25 + 0.05 * len(free):
                lot = self.random.choice(free)
                await self.engine.close(
                    CloseRequest(
                        caller="sim",
                        key=f"key-{self._keys}",
                        client_order_id=None,
                        fingerprint=f"body-{self._keys}",
                        position_id=lot.position_id,
                        fraction=self.random.choice([None, Decimal("0.5"), Decimal("0.25")]),
                        slippage_bps=200,
                        ttl_s=self.random.choice([10, 60, 90]),
                    )
                )
            else:
                market, side = self.random.choice(MARKETS), self.random.choice([Side.LONG, Side.LONG, Side.SHORT])
                await self.engine.open(
                    OpenRequest(
                        caller="sim",
                        key=f"key-{self._keys}",
                        client_order_id=None,
                        fingerprint=f"body-{self._keys}",
                        market=market,
                        side=side,
                        protection=self.protection(market, side),
                        size_usd=Decimal(self.random.randint(50, 400)),
                        leverage=Decimal(2),
                        slippage_bps=self.random.choice([0, 50, 200]),
                        ttl_s=self.random.choice([5, 30, 60, 90]),
                    )
                )
            self.report["order"] += 1
        except Refusal as e:
            self.report[f"refused:{e.code}"] += 1

    def protection(self, market: str, side: Side) -> ProtectionTerms:
        """Return what an open asks to be protected by: nothing here."""
        return ProtectionTerms()

    def break_something(self) -> None:
        """Set one random fault on the wire."""
        if self.random.random() < 0.6:
            method, kind = "sendTransaction", self.random.choice(SEND_FAULTS)
        else:
            method, kind = self.random.choice(READS), self.random.choice(READ_FAULTS)
        self.report[f"fault:{kind}"] += 1
        self.faults.add(
            Fault(
                kind=kind,
                method=method,
                count=self.random.choice([1, 1, 2, 5]),
                slots=self.random.choice([2, 10, 20, 40]),
                unexecuted=self.random.random() < 0.5,
            )
        )

    def move_the_market(self) -> None:
        """Change something about the venue: price, auction length, keeper, pauses, caps."""
        controls, dice = self.controls, self.random
        change = dice.choice(["price", "price", "auction", "auction", "keeper", "pause", "oracle", "cap"])
        self.report[f"venue:{change}"] += 1
        market = dice.choice(MARKETS)
        if change == "price":
            controls.set_oracle_price(market, self.price(market) * dice.randint(97, 103) / 100)
        elif change == "auction":
            controls.set_auction(dice.choice([0, 0, 10]))
        elif change == "keeper":
            controls.run_keeper(running=dice.random() < 0.7)
        elif change == "pause":
            controls.pause("fills", paused=dice.random() < 0.3)
        elif change == "oracle":
            controls.freeze_oracle(market, frozen=dice.random() < 0.3)
        else:
            controls.set_open_interest_cap(market, Decimal(dice.choice([1, 5_000])))

    def calm_the_market(self) -> None:
        """Undo every change that would keep orders from ending."""
        for market in MARKETS:
            self.controls.freeze_oracle(market, frozen=False)
            # A close at the cap is blocked, and by right never ends.
            self.controls.set_open_interest_cap(market, Decimal(5_000))
        self.controls.pause("fills", paused=False)
        self.controls.run_keeper(running=True)

    # -- what must hold ------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Let every order end and every outcome become final, on a wire that works again."""
        self.faults.clear()
        self.calm_the_market()
        for _ in range(120):
            if not self.ledger.open_orders():
                break
            await self.clock.sleep(5)
        await self.clock.sleep(SLOT_S * 400)

    def check(self) -> None:
        """Hold ledger and venue against the promise."""
        views = self.views()
        for view in views:
            self._check_order(view)
            self.report[f"{view.order.kind.value}:{view.order.status.value}"] += 1
            for attempt in view.attempts:
                code = "" if attempt.error is None else f":{attempt.error.code}"
                self.report[f"attempt:{attempt.state.value}{code}"] += 1
            for secondary in view.secondaries:
                self.report[f"{secondary.purpose.value}:{secondary.state.value}"] += 1
        for market in MARKETS:
            booked = self.booked(market)
            held = self.held(market)
            assert booked == held, f"{market}: the ledger holds {booked}, the venue {held}"

    def views(self) -> list[OrderView]:
        """Return every order of the ledger."""
        views: list[OrderView] = []
        cursor: str | None = None
        while True:
            page, cursor = self.ledger.orders(limit=100, cursor=cursor)
            views += page
            if cursor is None:
                return views

    def booked(self, market: str) -> Decimal:
        """Return what the ledger believes to hold, shorts negative."""
        total, cursor = Decimal(0), None
        while True:
            lots, cursor = self.ledger.positions(limit=100, cursor=cursor, market=market)
            total += sum((lot.size if lot.side is Side.LONG else -lot.size for lot in lots), Decimal(0))
            if cursor is None:
                return total

    def price(self, market: str) -> Decimal:
        """Return the first price of a market."""
        return Decimal(self.world.market(market).terms.price) / 10**6

    def held(self, market: str) -> Decimal:
        """Return what the venue's own account says, shorts negative."""
        account = self.chain.account(self.world.trader_account.user)
        assert account is not None
        user = User.decode(bytes(account.data), 8)
        index = self.world.market(market).terms.index
        base = sum(p.base_asset_amount for p in user.perp_positions if p.market_index == index)
        return Decimal(base) / BASE

    def _check_lock(self, view: OrderView) -> None:
        """Of one lock generation the chain has executed one transaction at the most, attempts and fences alike."""
        sent = [(a.generation, a.submission.handle) for a in view.attempts if a.submission is not None]
        sent += [(s.generation, s.submission.handle) for s in view.secondaries if s.purpose is Purpose.FENCE]
        executed = Counter(generation for generation, handle in sent if self._executed(handle))
        assert all(count == 1 for count in executed.values()), f"{view.order.order_id}: {executed} of a generation"
        for attempt in view.attempts:
            if attempt.submission is not None and attempt.executed:
                assert self._executed(attempt.submission.handle), f"{attempt.attempt_id} never executed"

    def _executed(self, handle: str) -> bool:
        landed = self.chain.bank.history.get(handle)
        return landed is not None and landed.err == b"null"

    def most_filled(self, order: OrderRecord) -> Decimal:
        """Return the most base that an open may have filled."""
        assert order.size is not None
        return order.size

    def _check_order(self, view: OrderView) -> None:
        order = view.order
        self._check_lock(view)
        assert order.status.final, f"{order.order_id} never ended: {order.status}"
        filled = {
            a.attempt_id for a in view.attempts if a.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}
        }
        assert len(filled) <= 1, f"{order.order_id} filled twice"
        assert {fill.attempt_id for fill in view.fills} <= filled
        has_fill = order.status in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}
        assert has_fill == bool(view.fills), f"{order.order_id} is {order.status} with {len(view.fills)} fills"
        if order.kind is OrderKind.OPEN and order.size is not None:
            assert sum((f.fill.size for f in view.fills), Decimal(0)) <= self.most_filled(order)


async def simulate(seed: int, orders: int, path: Path) -> Report:
    """Run `orders` orders with faults and restarts, and hold the end against the promise.

    Raises:
        AssertionError: the promise is broken; the seed repeats it.
    """
    desk = Desk(seed, path, nodes=1 + seed % 2)
    await desk.start()
    try:
        for _ in range(orders):
            await desk.act()
            if desk.random.random() < 0.5:
                desk.break_something()
            await desk.clock.sleep(desk.random.choice([0.0, 0.1, 0.5, 1.0, 3.0]))
            if desk.random.random() < 0.03:
                await desk.crash()
            if desk.random.random() < 0.1:
                desk.move_the_market()
            if desk.random.random() < 0.05:
                desk.faults.clear()
        await asyncio.wait_for(desk.settle(), timeout=36_000)
        desk.check()
    finally:
        await desk.stop()
        await desk.chain.aclose()
    return desk.report
