"""A desk at the embedded cluster: the provider over the wire, on virtual time, on the model or on the real program."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from solders.keypair import Keypair

from providers.base.clock import VirtualClock
from providers.base.types import (
    LockRef,
    LockTerms,
    OrderKind,
    OrderTerms,
    Outcome,
    OutcomeState,
    QuoteTerms,
    Side,
    Submission,
)
from providers.drift.config import DriftConfig
from providers.drift.provider import DriftProvider
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from providers.solana.signer import KeypairSigner
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.controls import Controls, run_world
from router.localnet.drift.model import DriftModel
from router.localnet.faults import WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual
from router.localnet.world import World, WorldKeys, build_world, world_of

T = TypeVar("T")

BINARY_VARIABLE = "PERP_ROUTER_DRIFT_SO"
SLOT_S = 0.4
SOL = "SOL-PERP"


def program_binary() -> Path | None:
    """Return the real program's file, when the environment names one."""
    name = os.environ.get(BINARY_VARIABLE)
    return Path(name) if name else None


class Desk:
    """One cluster with its world, and the provider that trades in it.

    Attributes:
        cluster, world, controls, faults: of the embedded cluster.
        provider: under test.
        solana: what the provider stands on.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        seed: int = 1,
        nodes: int = 2,
        config: DriftConfig | None = None,
        signer: Keypair | None = None,
        settings: SolanaSettings | None = None,
        quotes_only: bool = False,
    ) -> None:
        self.clock = VirtualClock(seed)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        keys = WorldKeys()
        self.world: World = world_of(keys)
        if binary is None:
            self.cluster.register(DriftModel(self.world.program_id))
        else:
            self.cluster.add_program(self.world.program_id, binary)
        build_world(self.cluster, keys=keys)
        self.controls: Controls = run_world(self.cluster, self.world)
        self.faults = WireFaults(self.clock)
        self.signer = signer or self.world.trader
        self.settings = settings or SolanaSettings()
        self.config = config or DriftConfig()
        self.nodes = nodes
        self.solana = self._connect(quotes_only=quotes_only)
        self.provider = DriftProvider(self.solana, self.config)
        self._orders = 0
        self._terms: LockTerms | None = None

    def _connect(self, *, quotes_only: bool = False) -> SolanaCluster:
        transports = [
            InProcessTransport(self.cluster, self.clock, name=f"node{index}", faults=self.faults, latency_s=0.02)
            for index in range(self.nodes)
        ]
        signer = None if quotes_only else KeypairSigner(bytes(self.signer))
        return SolanaCluster.of_transports(transports, signer, self.clock, self.settings)

    def restarted(self) -> DriftProvider:
        """Return a provider that remembers nothing, on new connections to the same cluster."""
        return DriftProvider(self._connect(), self.config)

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
            quote = await self.provider.quote(
                QuoteTerms(kind=kind, market=market, side=side, size=Decimal(size), leverage=Decimal(leverage))
            )
            away = Decimal("1.01") if kind.buys(side) else Decimal("0.99")
            worst = str(quote.expected_price * away)
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

    async def open(self, side: Side = Side.LONG, size: str = "1", **more: object) -> Submission:
        """Prepare and send an open."""
        submission = await self.provider.prepare_open(await self.terms(side, size, **more))  # type: ignore[arg-type]
        await self.provider.submit(submission)
        return submission

    async def close(self, side: Side = Side.LONG, size: str = "1", **more: object) -> Submission:
        """Prepare and send a close."""
        terms = await self.terms(side, size, kind=OrderKind.CLOSE, **more)  # type: ignore[arg-type]
        submission = await self.provider.prepare_close(terms)
        await self.provider.submit(submission)
        return submission

    async def settled(
        self, submission: Submission, *, within_s: float = 120, provider: DriftProvider | None = None
    ) -> Outcome:
        """Settle again and again, as the engine does, until the outcome is final."""
        outcome = await self.until(submission, lambda each: each.state is not OutcomeState.UNKNOWN, within_s, provider)
        assert outcome.state is not OutcomeState.UNKNOWN, outcome
        return outcome

    async def until(
        self,
        submission: Submission,
        wanted: Callable[[Outcome], bool],
        within_s: float = 60,
        provider: DriftProvider | None = None,
    ) -> Outcome:
        """Settle until an outcome is as wanted, or the time is over; return the last."""
        end = self.clock.monotonic() + within_s
        while True:
            outcome = await (provider or self.provider).settle(submission)
            if wanted(outcome) or self.clock.monotonic() >= end:
                return outcome
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


def at_desk(play: Callable[[Desk], Awaitable[T]], **options: object) -> T:
    """Run a play at a new desk on virtual time; its slots begin two slots before."""

    async def run() -> T:
        desk = Desk(**options)  # type: ignore[arg-type]
        await desk.cluster.start()
        try:
            await desk.slots(3)
            return await play(desk)
        finally:
            await desk.solana.aclose()
            await desk.cluster.aclose()

    return run_virtual(run())
