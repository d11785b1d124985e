"""A localnet on virtual time with a funded wallet, and submissions whose venue is a plain transfer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from providers.base.clock import VirtualClock
from providers.base.errors import ProviderError, UnknownCode
from providers.base.types import LockRef, LockTerms, Purpose, Submission
from providers.solana.cluster import SolanaCluster, SolanaSettings
from providers.solana.records import ProgramFailure
from providers.solana.sender import Inspect
from providers.solana.signer import KeypairSigner
from providers.solana.transport import Reply
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import Fault, WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual

# Whatever JSON there is: tests alter it freely.
Json: TypeAlias = Any
SLOT_S = 0.4
WALLET = Keypair.from_seed(b"wallet".ljust(32, b"\0"))
STRANGER = Keypair.from_seed(b"stranger".ljust(32, b"\0"))
VENUE = Pubkey.from_bytes(b"venue".ljust(32, b"\0"))
SOL = 1_000_000_000
SETTINGS = SolanaSettings()


class LyingTransport:
    """A node whose answers are altered on the way.

    `lies` maps a method to what becomes of its result, `before` to what happens just before it is asked.
    """

    def __init__(self, inner: InProcessTransport) -> None:
        self._inner = inner
        self.lies: dict[str, Callable[[Json, list[Json]], Json]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.asked: list[str] = []
        self.sent: list[bytes] = []

    @property
    def url(self) -> str:
        return self._inner.url

    async def post(self, body: bytes, *, timeout_s: float) -> Reply:
        request = msgspec.json.decode(body, type=dict[str, Json])
        method, params = str(request["method"]), request["params"]
        self.asked.append(method)
        self.sent.append(body)
        if method in self.before:
            self.before[method]()
        reply = await self._inner.post(body, timeout_s=timeout_s)
        lie = self.lies.get(method)
        if lie is None:
            return reply
        answer = msgspec.json.decode(reply.body, type=dict[str, Json])
        assert isinstance(params, list)
        answer["result"] = lie(answer.get("result"), params)
        answer.pop("error", None)
        return Reply(200, msgspec.json.encode(answer))

    async def aclose(self) -> None:
        await self._inner.aclose()


class World:
    """One chain, its nodes, and our side of it."""

    def __init__(self, clock: VirtualClock, *, nodes: int = 1, settings: SolanaSettings = SETTINGS) -> None:
        self.clock = clock
        self.chain = Cluster(clock, ClusterConfig(slot_time_ms=int(SLOT_S * 1000)))
        self.faults = WireFaults(clock)
        self.transports = [
            LyingTransport(InProcessTransport(self.chain, clock, name=f"node{index}", faults=self.faults))
            for index in range(nodes)
        ]
        self.signer = KeypairSigner(bytes(WALLET))
        self.solana = SolanaCluster.of_transports(self.transports, self.signer, clock, settings)

    async def start(self) -> None:
        """Fund the wallets, let the slots run and the nodes be known."""
        self.chain.airdrop(WALLET.pubkey(), 100 * SOL)
        self.chain.airdrop(STRANGER.pubkey(), 100 * SOL)
        self.chain.airdrop(VENUE, SOL)
        await self.chain.start()
        await self.slots(3)
        await self.solana.genesis_hash()

    async def slots(self, count: int) -> None:
        """Let slots pass."""
        await self.clock.sleep(count * SLOT_S)

    async def expire(self) -> None:
        """Let every blockhash of now go past at `finalized`."""
        await self.slots(150 + 32 + 40)

    async def lock(self, generation: int = 0) -> LockRef:
        """Return a generation of a new order's lock."""
        return LockRef(terms=await self.solana.lock.new_terms(), part=0, generation=generation)

    async def attempt(
        self,
        lock: LockRef | None,
        number: int = 1,
        *,
        purpose: Purpose = Purpose.OPEN,
        instructions: tuple[Instruction, ...] = (),
        lookup_tables: tuple[Pubkey, ...] = (),
        classify: Callable[[ProgramFailure, tuple[str, ...]], ProviderError] | None = None,
        lamports: int = 1_000,
        inspect: Inspect | None = None,
    ) -> Submission:
        """Prepare a transaction whose fill is a transfer of `lamports` to the venue."""
        return await self.solana.sender.prepare(
            provider="transfer",
            purpose=purpose,
            instructions=instructions or (pay(WALLET.pubkey(), VENUE, lamports),),
            lock=lock,
            number=number,
            size=Decimal(1),
            may_fill_until=None,
            venue=b'{"kind":"transfer"}',
            classify=classify or unclassified,
            lookup_tables=lookup_tables,
            inspect=inspect,
        )

    def fault(self, kind: str, **more: object) -> None:
        """Set a fault on the wire."""
        self.faults.add(Fault(kind=kind, **more))  # type: ignore[arg-type]

    def venue_fills(self, lamports: int = 1_000) -> int:
        """Return how many transfers of `lamports` the venue has got."""
        account = self.chain.account(VENUE)
        assert account is not None
        return (account.lamports - SOL) // lamports

    def stranger_pays(self, to: Pubkey, lamports: int) -> str:
        """Let a stranger send lamports; return the signature."""
        result = self.chain.execute(
            signed(STRANGER, self.chain.latest_blockhash(), pay(STRANGER.pubkey(), to, lamports))
        )
        assert result.ok, result.err
        return result.signature


def pay(source: Pubkey, to: Pubkey, lamports: int) -> Instruction:
    """Return a plain transfer."""
    return transfer(TransferParams(from_pubkey=source, to_pubkey=to, lamports=lamports))


def signed(key: Keypair, blockhash: Hash, *instructions: Instruction) -> VersionedTransaction:
    """Return a signed transaction of somebody's own."""
    return VersionedTransaction(MessageV0.try_compile(key.pubkey(), list(instructions), [], blockhash), [key])


def with_logs(logs: list[str] | None) -> Callable[[Json, list[Json]], Json]:
    """Return a lie about what a simulation printed."""

    def lie(result: Json, _: list[Json]) -> Json:
        return {**result, "value": {**result["value"], "logs": logs}}

    return lie


def unclassified(failure: ProgramFailure, logs: tuple[str, ...]) -> ProviderError:
    """Stand for a venue's table that knows no code."""
    del logs
    return UnknownCode("a venue's error", raw_code=failure.code, raw_name=failure.program_id)


def terms_of(key: Pubkey, lamports: int = 890_880) -> LockTerms:
    """Return fixed lock terms."""
    return LockTerms(base=str(key), nonce="a" * 26, base_lamports=lamports)


def run_world(
    story: Callable[[World], Awaitable[None]],
    *,
    nodes: int = 1,
    seed: int = 1,
    settings: SolanaSettings = SETTINGS,
) -> None:
    """Run a story in its own world, on virtual time."""

    async def main() -> None:
        world = World(VirtualClock(seed), nodes=nodes, settings=settings)
        await world.start()
        try:
            await story(world)
        finally:
            await world.solana.aclose()
            await world.chain.aclose()

    run_virtual(main())
