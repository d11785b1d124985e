"""A desk at the embedded cluster: the Mango provider over the wire, on virtual time, on the venue's model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from solders.keypair import Keypair

from providers.base.clock import VirtualClock
from providers.base.types import (
    LockRef,
    OrderKind,
    OrderTerms,
    Outcome,
    OutcomeState,
    QuoteTerms,
    Side,
    Submission,
)
from providers.mango.config import MangoConfig
from providers.mango.provider import MangoProvider
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from providers.solana.signer import KeypairSigner
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import WireFaults
from router.localnet.mango.model import MangoModel
from router.localnet.mango.world import MangoWorld, build_mango_world
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual
from router.localnet.world import WorldKeys, build_world

T = TypeVar("T")

SLOT_S = 0.4
SOL = "SOL-PERP"


class MangoDesk:
    """One cluster with its world, and the provider that trades in it.

    Attributes:
        cluster, world, faults: of the embedded cluster.
        provider: under test.
        solana: what the provider stands on.
    """

    def __init__(
        self, *, seed: int = 1, nodes: int = 2, config: MangoConfig | None = None, signer: Keypair | None = None
    ) -> None:
        self.clock = VirtualClock(seed)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        keys = WorldKeys()
        self.cluster.register(MangoModel())
        build_world(self.cluster, keys=keys)
        self.world: MangoWorld = build_mango_world(self.cluster, keys)
        self.faults = WireFaults(self.clock)
        self.signer = signer or self.world.trader
        self.config = config or MangoConfig()
        self.nodes = nodes
        self.solana = self._connect()
        self.provider = MangoProvider(self.solana, self.config)
        self._orders = 0

    def _connect(self, signer: Keypair | None = None) -> SolanaCluster:
        transports = [
            InProcessTransport(self.cluster, self.clock, name=f"node{index}", faults=self.faults, latency_s=0.02)
            for index in range(self.nodes)
        ]
        key = KeypairSigner(bytes(signer or self.signer))
        return SolanaCluster.of_transports(transports, key, self.clock, SolanaSettings())

    def restarted(self) -> MangoProvider:
        """Return a provider that remembers nothing, on new connections to the same cluster."""
        return MangoProvider(self._connect(), self.config)

    def of(self, signer: Keypair) -> MangoProvider:
        """Return another party's provider."""
        return MangoProvider(self._connect(signer), self.config)

    async def lock(self) -> LockRef:
        """Return a new order's first generation."""
        return LockRef(terms=await self.solana.lock.new_terms(), part=0, generation=0)

    async def terms(
        self,
        side: Side = Side.LONG,
        size: str = "1",
        *,
        kind: OrderKind = OrderKind.OPEN,
        worst: str | None = None,
        leverage: str = "1",
        ttl_s: float = 30,
        market: str = SOL,
        lock: LockRef | None = None,
        number: int = 1,
    ) -> OrderTerms:
        """Return the terms of an order; without `worst`, a bound one percent beyond the quote."""
        self._orders += 1
        if worst is None:
            asked = QuoteTerms(kind=kind, market=market, side=side, size=Decimal(size), leverage=Decimal(leverage))
            quote = await self.provider.quote(asked)
            worst = str(quote.expected_price * (Decimal("1.01") if kind.buys(side) else Decimal("0.99")))
        return OrderTerms(
            order_id=f"order-{self._orders}",
            attempt_id=f"attempt-{self._orders}-{number}",
            number=number,
            kind=kind,
            market=market,
            side=side,
            size=Decimal(size),
            leverage=Decimal(leverage),
            worst_price=Decimal(worst),
            expires_at=self.clock.now() + timedelta(seconds=ttl_s),
            lock=lock if lock is not None else await self.lock(),
        )

    async def prepared(self, terms: OrderTerms) -> Submission:
        """Prepare an order of either kind."""
        prepare = self.provider.prepare_open if terms.kind is OrderKind.OPEN else self.provider.prepare_close
        return await prepare(terms)

    async def sent(self, terms: OrderTerms) -> Submission:
        """Prepare and send an order of either kind."""
        submission = await self.prepared(terms)
        await self.provider.submit(submission)
        return submission

    async def settled(
        self, submission: Submission, *, within_s: float = 120, provider: MangoProvider | None = None
    ) -> Outcome:
        """Settle again and again, as the engine does, until the outcome is final."""
        end = self.clock.monotonic() + within_s
        while True:
            outcome = await (provider or self.provider).settle(submission)
            if outcome.state is not OutcomeState.UNKNOWN:
                return outcome
            assert self.clock.monotonic() < end, outcome
            await self.clock.sleep(SLOT_S)

    async def slots(self, count: int) -> None:
        """Let slots pass."""
        await self.clock.sleep(count * SLOT_S)

    async def held(self, market: str = SOL) -> Decimal:
        """Return what the account holds on the chain, signed, read by a provider of its own."""
        for position in await self.restarted().positions():
            if position.market == market:
                return position.size if position.side is Side.LONG else -position.size
        return Decimal(0)


def at_mango_desk(play: Callable[[MangoDesk], Awaitable[T]], **options: object) -> T:
    """Run a play at a new desk on virtual time; its slots begin two slots before."""

    async def run() -> T:
        desk = MangoDesk(**options)  # type: ignore[arg-type]
        await desk.cluster.start()
        try:
            await desk.slots(3)
            return await play(desk)
        finally:
            await desk.solana.aclose()
            await desk.cluster.aclose()

    return run_virtual(run())
