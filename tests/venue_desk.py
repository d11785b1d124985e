"""What the desks of all venues share: a provider over the wire at an embedded cluster, on virtual time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

from solders.keypair import Keypair

from providers.base.clock import VirtualClock
from providers.base.protocol import Provider
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
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from providers.solana.signer import KeypairSigner
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual

SLOT_S = 0.4
SOL = "SOL-PERP"

P = TypeVar("P", bound=Provider)
T = TypeVar("T")
D = TypeVar("D", bound="VenueDesk[Any]")


class VenueDesk(ABC, Generic[P]):
    """One cluster with its world, and the provider that trades in it. A subclass builds the world, then connects.

    Attributes:
        cluster, faults: of the embedded cluster.
        signer: whose key the provider signs with; set by the subclass before `connect`.
        provider: under test.
        solana: what the provider stands on.
    """

    signer: Keypair

    def __init__(self, *, seed: int, nodes: int, settings: SolanaSettings | None = None) -> None:
        self.clock = VirtualClock(seed)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        self.faults = WireFaults(self.clock)
        self.nodes = nodes
        self.settings = settings or SolanaSettings()
        self._orders = 0

    @abstractmethod
    def provider_on(self, solana: SolanaCluster) -> P:
        """Return a provider that remembers nothing."""

    def connect(self, *, signer: Keypair | None) -> None:
        """Put the provider on connections of its own; without a signer it only quotes."""
        self.solana = self._connection(signer)
        self.provider = self.provider_on(self.solana)

    def _connection(self, signer: Keypair | None) -> SolanaCluster:
        transports = [
            InProcessTransport(self.cluster, self.clock, name=f"node{index}", faults=self.faults, latency_s=0.02)
            for index in range(self.nodes)
        ]
        key = None if signer is None else KeypairSigner(bytes(signer))
        return SolanaCluster.of_transports(transports, key, self.clock, self.settings)

    def restarted(self) -> P:
        """Return a provider that remembers nothing, on new connections to the same cluster."""
        return self.of(self.signer)

    def of(self, signer: Keypair) -> P:
        """Return another party's provider."""
        return self.provider_on(self._connection(signer))

    # --- orders ------------------------------------------------------------------------------------------------------

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

    async def open(self, side: Side = Side.LONG, size: str = "1", **more: object) -> Submission:
        """Prepare and send an open."""
        return await self.sent(await self.terms(side, size, **more))  # type: ignore[arg-type]

    async def close(self, side: Side = Side.LONG, size: str = "1", **more: object) -> Submission:
        """Prepare and send a close."""
        return await self.sent(await self.terms(side, size, kind=OrderKind.CLOSE, **more))  # type: ignore[arg-type]

    async def settled(
        self, submission: Submission, *, within_s: float = 120, provider: Provider | None = None
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
        provider: Provider | None = None,
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
        total = Decimal(0)
        for position in await self.restarted().positions():
            if position.market == market:
                total += position.size if position.side is Side.LONG else -position.size
        return total


def play_at(desk_of: Callable[[], D], play: Callable[[D], Awaitable[T]]) -> T:
    """Run a play at a new desk on virtual time; its slots begin two slots before."""

    async def run() -> T:
        desk = desk_of()
        await desk.cluster.start()
        try:
            await desk.slots(3)
            return await play(desk)
        finally:
            await desk.solana.aclose()
            await desk.cluster.aclose()

    return run_virtual(run())
