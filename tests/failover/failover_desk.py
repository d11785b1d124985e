"""A whole router on virtual time: the engine, its ledger, and real adapters of all venues on one localnet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import ClassVar

from providers.base.clock import VirtualClock
from providers.base.prices import PriceSource
from providers.base.protocol import Provider
from providers.base.types import Side
from providers.solana.cluster import SolanaCluster, SolanaSettings
from providers.solana.pool import NodePool
from providers.solana.signer import KeypairSigner
from router.api.answers import order_answer, order_status
from router.api.schemas import OrderAnswer
from router.engine.context import EngineContext, EngineSettings
from router.engine.engine import Engine
from router.engine.limits import Limits
from router.engine.observer import SilentObserver
from router.engine.plan import Patience
from router.engine.requests import CloseRequest, OpenRequest, QuoteAnswer, QuoteRequest
from router.ledger.records import OrderView, PositionRecord, PositionStatus
from router.ledger.sqlite import SqliteLedger
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import Fault, FaultKind, WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual
from tests.conformance.bench import Venue
from tests.conformance.conformance_drift import DriftVenue
from tests.conformance.conformance_jupiter import JupiterVenue
from tests.conformance.conformance_mango import MangoVenue

__all__ = ["DRIFT", "JUPITER", "MANGO", "MARKET", "Desk", "at_desk"]

DRIFT, MANGO, JUPITER = "drift", "mango", "jupiter"
MARKET = "SOL-PERP"
SLOT_S = 0.4
VENUES: dict[str, Callable[[Cluster], Venue]] = {DRIFT: DriftVenue, MANGO: MangoVenue, JUPITER: JupiterVenue}
PATIENCE = Patience(
    unproven=timedelta(seconds=5),
    resting=timedelta(seconds=15),
    fence=timedelta(seconds=3),
    cancel=timedelta(seconds=3),
)


class Alerts(SilentObserver):
    """Keeps what an operator would have been told."""

    def __init__(self) -> None:
        self.alerts: list[str] = []

    def alert(self, kind: str) -> None:
        """Keep it."""
        self.alerts.append(kind)


class Desk:
    """The router, its caller, and every control of the venues and wires behind it.

    Args:
        chain: the providers, in order.
        venues: what puts each on the cluster.

    Attributes:
        venues: by provider: what a test may change.
        own_nodes: by provider: faults of the nodes that it reads with (`ROUTER_<PROVIDER>_RPC_URLS`).
        faults: of the nodes that everybody shares.
    """

    caller: ClassVar[str] = "desk"

    def __init__(
        self,
        chain: tuple[str, ...] = (DRIFT, MANGO),
        venues: Mapping[str, Callable[[Cluster], Venue]] = VENUES,
        limits: Limits | None = None,
        prices: PriceSource | None = None,
    ) -> None:
        self.clock = VirtualClock(1)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        self.venues = {name: venues[name](self.cluster) for name in sorted(chain)}
        self.faults = WireFaults(self.clock)
        self.own_nodes = {name: WireFaults(self.clock) for name in chain}
        self.observer = Alerts()
        trader = next(iter(self.venues.values())).trader
        self.solana = SolanaCluster.of_transports(
            [self._node(f"node{index}", self.faults) for index in range(2)],
            KeypairSigner(bytes(trader)),
            self.clock,
            SolanaSettings(),
        )
        self.providers: dict[str, Provider] = {name: self._provider(name) for name in chain}
        self.ledger = SqliteLedger.open(":memory:", self.clock, writer="inline")
        settings = EngineSettings(chain=chain, patience=PATIENCE, settle_interval_s=SLOT_S, limits=limits or Limits())
        self.engine = Engine(
            EngineContext(
                ledger=self.ledger,
                providers=self.providers,
                lock=self.solana.lock,
                clock=self.clock,
                settings=settings,
                observer=self.observer,
                prices=prices,
            )
        )
        self._keys = 0

    def _node(self, name: str, faults: WireFaults) -> InProcessTransport:
        return InProcessTransport(self.cluster, self.clock, name=name, faults=faults, latency_s=0.02)

    def _provider(self, name: str) -> Provider:
        own = NodePool(
            [self._node(f"{name}-own", self.own_nodes[name])], self.clock, timeout_s=self.solana.settings.rpc_timeout_s
        )
        return self.venues[name].provider(self.solana.with_read_pool(own))

    async def start(self) -> None:
        """Let slots pass, then start the router."""
        await self.cluster.start()
        await self.slots(3)
        await self.engine.start()

    async def aclose(self) -> None:
        """Stop everything."""
        await self.engine.aclose()
        await self.ledger.aclose()
        await self.solana.aclose()
        await self.cluster.aclose()

    async def slots(self, count: int) -> None:
        """Let slots pass."""
        await self.clock.sleep(count * SLOT_S)

    def cut_off(self, name: str, kind: FaultKind = "refused") -> None:
        """Let a provider's own nodes fail at everything; everybody else's work."""
        self.own_nodes[name].add(Fault(kind=kind, count=None))

    def strike(
        self, kind: FaultKind, method: str = "sendTransaction", *, count: int | None = None, slots: int = 0
    ) -> None:
        """Set a fault on every wire there is."""
        for faults in (self.faults, *self.own_nodes.values()):
            faults.add(Fault(kind=kind, method=method, count=count, slots=slots))

    def heal(self) -> None:
        """Take every fault away."""
        for faults in (self.faults, *self.own_nodes.values()):
            faults.clear()

    # -- what the caller does ------------------------------------------------------------------------------------

    def request(self, **more: object) -> OpenRequest:
        """Return an open of one SOL long, or as told."""
        self._keys += 1
        given: dict[str, object] = {
            "caller": self.caller,
            "key": f"key-{self._keys}",
            "client_order_id": None,
            "fingerprint": f"body-{self._keys}",
            "market": MARKET,
            "side": Side.LONG,
            "slippage_bps": 100,
            "ttl_s": 60,
            **more,
        }
        if "size" not in given and "size_usd" not in given:
            given["size"] = Decimal(1)
        return OpenRequest(**given)  # type: ignore[arg-type]

    async def place(self, **more: object) -> str:
        """Open without waiting; return the order's id."""
        return (await self.engine.open(self.request(**more))).view.order.order_id

    async def open(self, **more: object) -> OrderView:
        """Open, and wait for the end."""
        return await self.ended(await self.place(**more))

    async def quote(self, **more: object) -> QuoteAnswer:
        """Ask for a quote."""
        given: dict[str, object] = {"market": MARKET, "side": Side.LONG, **more}
        if "size" not in given and "size_usd" not in given:
            given["size"] = Decimal(1)
        return await self.engine.quote(QuoteRequest(**given))  # type: ignore[arg-type]

    async def place_close(self, position_id: str, **more: object) -> str:
        """Close without waiting; return the order's id."""
        self._keys += 1
        given: dict[str, object] = {
            "caller": self.caller,
            "key": f"key-{self._keys}",
            "client_order_id": None,
            "fingerprint": f"body-{self._keys}",
            "position_id": position_id,
            "slippage_bps": 300,
            **more,
        }
        return (await self.engine.close(CloseRequest(**given))).view.order.order_id  # type: ignore[arg-type]

    async def ended(self, order_id: str, within_s: float = 600) -> OrderView:
        """Return an order once it has ended."""
        view = await self.engine.wait(order_id, within_s)
        assert view.order.status.final, f"did not end within {within_s} s: {view.order.status}"
        return view

    # -- what is so ----------------------------------------------------------------------------------------------

    def answer(self, view: OrderView) -> OrderAnswer:
        """Return an order as the API would answer it."""
        return order_answer(view, str, self.engine.blocked(view))

    def status(self, view: OrderView) -> int:
        """Return the HTTP status that belongs to an order."""
        return order_status(view)

    async def held(self, name: str) -> Decimal:
        """Return what the account holds on a venue, shorts negative, read from the shared nodes."""
        provider = self.venues[name].provider(self.solana)
        sizes = (
            position.size if position.side is Side.LONG else -position.size
            for position in await provider.positions()
            if position.market == MARKET
        )
        return sum(sizes, Decimal(0))

    def booked(self, name: str) -> Decimal:
        """Return what the ledger believes to hold on a venue, shorts negative."""
        lots = self.lots(name)
        return sum((lot.size if lot.side is Side.LONG else -lot.size for lot in lots), Decimal(0))

    def lots(self, name: str) -> tuple[PositionRecord, ...]:
        """Return the open lots on a venue."""
        return self.ledger.positions(limit=100, provider=name, status=PositionStatus.OPEN)[0]

    async def check(self) -> None:
        """Hold ledger and venues against each other."""
        self.heal()
        await self.slots(60)
        for name in self.venues:
            assert self.booked(name) == await self.held(name), f"{name}: ledger and venue differ"


def at_desk(
    play: Callable[[Desk], Awaitable[None]],
    chain: tuple[str, ...] = (DRIFT, MANGO),
    venues: Mapping[str, Callable[[Cluster], Venue]] = VENUES,
    limits: Limits | None = None,
    prices: PriceSource | None = None,
) -> None:
    """Run a story at a new desk on virtual time; at its end ledger and venues agree."""

    async def run() -> None:
        desk = Desk(chain, venues, limits, prices)
        await desk.start()
        try:
            await asyncio.wait_for(_whole(play, desk), timeout=36_000)
        finally:
            await desk.aclose()

    run_virtual(run())


async def _whole(play: Callable[[Desk], Awaitable[None]], desk: Desk) -> None:
    await play(desk)
    await desk.check()
