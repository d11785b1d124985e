"""A bench for one provider: the adapter over the wire, on virtual time, and every control that a case may pull.

A case knows nothing of the venue. What a venue cannot do is said by `missing`, with the reason that the matrix shows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Protocol, TypeVar, cast

import msgspec
from solders.keypair import Keypair

from providers.base.clock import VirtualClock
from providers.base.protocol import Protector, Provider, Reconcilable
from providers.base.types import (
    LockRef,
    LockTerms,
    OrderKind,
    OrderTerms,
    Outcome,
    OutcomeState,
    Quote,
    QuoteTerms,
    Side,
    Submission,
    Trigger,
)
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from providers.solana.signer import KeypairSigner
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import Fault, FaultKind, WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual
from tests.solana.solana_world import LyingTransport

__all__ = ["Bench", "Feature", "Venue", "Wire", "at_bench", "delta", "journaled"]

T = TypeVar("T")

SLOT_S = 0.4
NODES = 2


class Feature(StrEnum):
    """What not every venue has, or not every build of a provider."""

    HALT = "halt"
    OPEN_INTEREST_CAP = "open_interest_cap"
    REST = "rest"
    HOLDINGS = "holdings"
    HISTORY = "history"
    LIQUIDATION = "liquidation"
    NETTING = "netting"
    PARTIAL = "partial"
    ACCOUNT = "account"
    NATIVE_TRIGGERS = "native_triggers"
    KEEPER = "keeper"


class Wire(Protocol):
    """One node's wire, listened to: the JSON-RPC methods that were asked, in order."""

    asked: list[str]


class Venue(ABC):
    """One venue in its world: what it is called, what its sizes are, and every control that it offers.

    Class attributes are the venue's own numbers, in whole units and dollars.

    Attributes:
        name: as in the registry.
        market: traded by the cases.
        price: what its oracle says at first.
        size: an ordinary order, many steps and several smallest orders large.
        too_small: below the smallest order, and above zero.
        uneven: `size` and a part of a step.
        nothing: a part of a position that rounds to nothing; null for half a step.
        part: size, bound and leverage of a buy of which the bound lets a part fill, and not all.
        missing: features that it has not, and why.
    """

    name: ClassVar[str]
    market: ClassVar[str] = "SOL-PERP"
    price: ClassVar[Decimal] = Decimal(150)
    size: ClassVar[Decimal] = Decimal(1)
    too_small: ClassVar[Decimal]
    uneven: ClassVar[Decimal]
    nothing: ClassVar[Decimal | None] = None
    part: ClassVar[tuple[Decimal, Decimal, Decimal]]
    missing: ClassVar[Mapping[Feature, str]] = {}

    @abstractmethod
    def __init__(self, cluster: Cluster) -> None:
        """Put program, world and controls on a cluster."""

    @property
    @abstractmethod
    def trader(self) -> Keypair:
        """The key that signs, with a funded account."""

    @abstractmethod
    def provider(self, solana: SolanaCluster) -> Provider:
        """Return an adapter that remembers nothing."""

    @abstractmethod
    def move_price(self, price: Decimal) -> None:
        """Set the price of the market: oracle and liquidity alike."""

    @abstractmethod
    def stale_oracle(self) -> None:
        """Stop the market's price; it is too old once slots have passed."""

    @abstractmethod
    def remove_liquidity(self) -> None:
        """Leave nobody to trade against, while venue and oracle are well."""

    @abstractmethod
    def pause(self, *, paused: bool = True) -> None:
        """Let the venue take no orders at all, or go on."""

    @abstractmethod
    def reduce_only(self, *, on: bool = True) -> None:
        """Let the market take reductions only, or everything again."""

    @abstractmethod
    def collateral(self, usd: Decimal) -> None:
        """Set what the account has deposited."""

    @abstractmethod
    def forget_account(self) -> None:
        """Leave the trader without an account on the venue."""

    def cap_open_interest(self) -> None:
        """Leave no room under the market's open interest cap (`OPEN_INTEREST_CAP`)."""
        raise AssertionError(self.missing[Feature.OPEN_INTEREST_CAP])

    def halt(self, *, on: bool = True) -> None:
        """Let the program answer no instruction (`HALT`)."""
        raise AssertionError(f"{on}: {self.missing[Feature.HALT]}")

    def hold_orders(self) -> None:
        """Let orders rest from now on, filled by nobody (`REST`)."""
        raise AssertionError(self.missing[Feature.REST])

    def release_orders(self) -> None:
        """Let whoever fills orders fill them again, after `hold_orders` and the like (`KEEPER`)."""
        raise AssertionError(self.missing[Feature.KEEPER])

    def reject_orders(self) -> None:
        """Let whoever fills orders give back every one unexecuted (`KEEPER`)."""
        raise AssertionError(self.missing[Feature.KEEPER])

    def interrupt_orders(self) -> None:
        """Let whoever fills orders die after the next, before it is cleared away (`KEEPER`)."""
        raise AssertionError(self.missing[Feature.KEEPER])

    def wealth(self) -> Decimal:
        """Return what the wallet owns in dollars of the first price, fees and rents included (`KEEPER`)."""
        raise AssertionError(self.missing[Feature.KEEPER])

    def liquidate(self) -> None:
        """Have a liquidator take part of what the account holds (`LIQUIDATION`)."""
        raise AssertionError(self.missing[Feature.LIQUIDATION])


class Bench:
    """One cluster, one venue, one provider under test.

    Args:
        make: what puts the venue on the bench's cluster.
        seed: of the clock's chance.
    """

    def __init__(self, make: Callable[[Cluster], Venue], *, seed: int = 1) -> None:
        self.clock = VirtualClock(seed)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        self.faults = WireFaults(self.clock)
        self.settings = SolanaSettings()
        self.venue = make(self.cluster)
        self.provider_name, self.market = self.venue.name, self.venue.market
        self.price, self.size = self.venue.price, self.venue.size
        self._orders = 0
        self._connections: list[SolanaCluster] = []
        self.solana = self._connect()
        self.provider = self.venue.provider(self.solana)

    def lacks(self, feature: Feature) -> str | None:
        """Return why the provider has not a feature, or null where it has."""
        if feature in {Feature.HOLDINGS, Feature.HISTORY} and not hasattr(self.provider, feature.value):
            return "the provider does not answer it"
        if feature is Feature.NATIVE_TRIGGERS and not self.provider.capabilities.native_triggers:
            return "the venue keeps no triggers: the router watches the price itself"
        return self.venue.missing.get(feature)

    def supports(self, feature: Feature) -> bool:
        """Whether the provider has a feature."""
        return self.lacks(feature) is None

    @property
    def reconcilable(self) -> Reconcilable:
        """The provider's part that reconciliation asks (`HOLDINGS`, `HISTORY`)."""
        return cast("Reconcilable", self.provider)

    @property
    def protector(self) -> Protector:
        """The provider's part that places triggers (`NATIVE_TRIGGERS`)."""
        return self.protector_of(self.provider)

    def protector_of(self, provider: Provider) -> Protector:
        """Return the part of any provider of the venue that places triggers."""
        return cast("Protector", provider)

    # -- wire, clock -----------------------------------------------------------------------------------------------

    def _connect(self) -> SolanaCluster:
        nodes = [
            InProcessTransport(self.cluster, self.clock, name=f"node{index}", faults=self.faults, latency_s=0.02)
            for index in range(NODES)
        ]
        connection = SolanaCluster.of_transports(
            nodes, KeypairSigner(bytes(self.venue.trader)), self.clock, self.settings
        )
        self._connections.append(connection)
        return connection

    def restarted(self) -> Provider:
        """Return a provider that remembers nothing, on new connections to the same cluster."""
        return self.venue.provider(self._connect())

    def listened(self) -> tuple[Provider, Wire]:
        """Return a provider on a node of its own, and its wire."""
        wire = LyingTransport(InProcessTransport(self.cluster, self.clock, name="listened", faults=self.faults))
        signer = KeypairSigner(bytes(self.venue.trader))
        connection = SolanaCluster.of_transports([wire], signer, self.clock, self.settings)
        self._connections.append(connection)
        return self.venue.provider(connection), wire

    def strike(self, kind: FaultKind, method: str | None = None, *, count: int | None = NODES, slots: int = 0) -> None:
        """Set a fault on every node's wire; by default it strikes once a node."""
        self.faults.add(Fault(kind=kind, method=method, count=count, slots=slots))

    def lag(self, slots: int) -> None:
        """Let one of the nodes answer with what was `slots` ago, and call it new."""
        self.faults.add(Fault(kind="stale", node="node0", count=None, slots=slots))

    async def slots(self, count: int) -> None:
        """Let slots pass."""
        await self.clock.sleep(count * SLOT_S)

    async def start(self) -> None:
        """Let slots pass by themselves; the first few are over on return."""
        await self.cluster.start()
        await self.slots(3)

    async def aclose(self) -> None:
        """Release everything."""
        for connection in self._connections:
            await connection.aclose()
        await self.cluster.aclose()

    # -- orders ----------------------------------------------------------------------------------------------------

    async def lock(self) -> LockRef:
        """Return a new order's first generation."""
        terms: LockTerms = await self.solana.lock.new_terms()
        return LockRef(terms=terms, part=0, generation=0)

    async def quote(
        self,
        side: Side = Side.LONG,
        size: Decimal | None = None,
        *,
        kind: OrderKind = OrderKind.OPEN,
        leverage: Decimal = Decimal(1),
    ) -> Quote:
        """Ask for a quote."""
        base = self.size if size is None else size
        return await self.provider.quote(
            QuoteTerms(kind=kind, market=self.market, side=side, size=base, leverage=leverage)
        )

    async def terms(
        self,
        side: Side = Side.LONG,
        size: Decimal | None = None,
        *,
        kind: OrderKind = OrderKind.OPEN,
        worst: Decimal | None = None,
        leverage: Decimal = Decimal(1),
        ttl_s: float = 30,
        lock: LockRef | None = None,
        number: int = 1,
        trigger: Trigger | None = None,
    ) -> OrderTerms:
        """Return an order's terms; without `worst`, a bound five percent beyond the first price."""
        self._orders += 1
        away = Decimal("1.05") if kind.buys(side) else Decimal("0.95")
        return OrderTerms(
            order_id=f"order-{self._orders}",
            attempt_id=f"attempt-{self._orders}-{number}",
            number=number,
            kind=kind,
            market=self.market,
            side=side,
            size=self.size if size is None else size,
            leverage=leverage,
            worst_price=self.price * away if worst is None else worst,
            expires_at=self.clock.now() + timedelta(seconds=ttl_s),
            lock=await self.lock() if lock is None else lock,
            trigger=trigger,
        )

    async def prepared(self, side: Side = Side.LONG, size: Decimal | None = None, **more: object) -> Submission:
        """Prepare an open."""
        return await self.provider.prepare_open(await self.terms(side, size, **more))  # type: ignore[arg-type]

    async def prepared_close(self, side: Side = Side.LONG, size: Decimal | None = None, **more: object) -> Submission:
        """Prepare a close."""
        terms = await self.terms(side, size, kind=OrderKind.CLOSE, **more)  # type: ignore[arg-type]
        return await self.provider.prepare_close(terms)

    async def sent(self, submission: Submission) -> Outcome:
        """Give a submission to the nodes and settle it."""
        await self.provider.submit(submission)
        return await self.settled(submission)

    async def open(self, side: Side = Side.LONG, size: Decimal | None = None, **more: object) -> Outcome:
        """Open, and settle."""
        return await self.sent(await self.prepared(side, size, **more))

    async def close(self, side: Side = Side.LONG, size: Decimal | None = None, **more: object) -> Outcome:
        """Close, and settle."""
        return await self.sent(await self.prepared_close(side, size, **more))

    async def foreign_trade(self, side: Side, size: Decimal, *, kind: OrderKind = OrderKind.OPEN) -> Outcome:
        """Trade with the same key behind the router's back: another process, another order."""
        other = self.restarted()
        terms = await self.terms(side, size, kind=kind)
        prepare = other.prepare_open if kind is OrderKind.OPEN else other.prepare_close
        submission = await prepare(terms)
        await other.submit(submission)
        return await self.settled(submission, provider=other)

    async def cancelled(self, submission: Submission) -> Submission:
        """Send a cancel of what rests, as soon as the venue lets its owner cancel, and return it."""
        for _ in range(300):
            cancel = await self.provider.cancel(submission)
            if cancel is not None:
                await self.provider.submit(cancel)
                return cancel
            await self.slots(1)
        raise AssertionError("what rests can never be cancelled")

    async def ended(self, submission: Submission) -> Outcome:
        """Cancel what rests until it has ended, by the cancel or by itself."""
        for _ in range(300):
            outcome = await self.provider.settle(submission)
            if outcome.state is not OutcomeState.UNKNOWN:
                return outcome
            cancel = await self.provider.cancel(submission)
            if cancel is not None:
                await self.provider.submit(cancel)
            await self.slots(1)
        raise AssertionError("what rests never ends")

    async def settled(self, submission: Submission, *, provider: Provider | None = None) -> Outcome:
        """Settle again and again, as the engine does, until the outcome is final."""
        outcome = await self.until(submission, lambda each: each.state is not OutcomeState.UNKNOWN, provider)
        assert outcome.state is not OutcomeState.UNKNOWN, outcome
        return outcome

    async def until(
        self, submission: Submission, wanted: Callable[[Outcome], bool], provider: Provider | None = None
    ) -> Outcome:
        """Settle until an outcome is as wanted, or two minutes are over; return the last."""
        end = self.clock.monotonic() + 120
        while True:
            outcome = await (provider or self.provider).settle(submission)
            if wanted(outcome) or self.clock.monotonic() >= end:
                return outcome
            await self.slots(1)

    async def held(self) -> Decimal:
        """Return what the account holds, shorts negative, as a provider that remembers nothing reads it."""
        sizes = (
            position.size if position.side is Side.LONG else -position.size
            for position in await self.restarted().positions()
            if position.market == self.market
        )
        return sum(sizes, Decimal(0))


def journaled(submission: Submission) -> Submission:
    """Return a submission as a restart finds it: written down, and read back from the bytes alone."""
    return msgspec.json.decode(msgspec.json.encode(submission), type=Submission)


def delta(outcomes: Sequence[Outcome]) -> Decimal:
    """Return the base that outcomes say was filled."""
    return sum((fill.size for outcome in outcomes for fill in outcome.fills), Decimal(0))


def at_bench(play: Callable[[Bench], Awaitable[None]], make: Callable[[], Bench]) -> None:
    """Run a case at a new bench on virtual time."""

    async def run() -> None:
        bench = make()
        await bench.start()
        try:
            await play(bench)
        finally:
            await bench.aclose()

    run_virtual(run())
