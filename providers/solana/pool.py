"""Several nodes as one: reads fail over, sends go to all, absence needs two (DESIGN 6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
import pybase64
from solders.pubkey import Pubkey

from providers.base.clock import Clock
from providers.base.errors import BadAnswer, ConnectionFailed, ErrorInfo, NodeBehind, Phase, Unreachable
from providers.base.types import Ack
from providers.solana.node import (
    STALL_S,
    AccountData,
    AccountsAt,
    Blockhash,
    Commitment,
    Node,
    ProgramAccountsAt,
    SignatureInfo,
    SignatureStatus,
    Simulation,
)
from providers.solana.records import TransactionRecord
from providers.solana.rpc import RpcClient, RpcObserver
from providers.solana.transport import NodeTransport

__all__ = [
    "AccountData",
    "AccountsAt",
    "Blockhash",
    "Commitment",
    "NodeHealth",
    "NodePool",
    "RpcObserver",
    "Simulation",
]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

SANE_FOR_S = 1.0
GENESIS_MAX_AGE_S = 300.0
FOREIGN_MAX_AGE_S = 15.0
_BELIEVABLE_LEAD_SLOTS = 10_000
_FASTEST_SLOTS_PER_S = 3
_FIRST_MOVE_TRIES = 5
_FIRST_MOVE_WAIT_S = 0.4
_PENALTY_FIRST_S = 0.5
_PENALTY_MOST_S = 15.0


class NodeHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One node as the metrics show it."""

    name: str
    slot: int
    failures: int
    genesis: str | None


class NodePool:
    """The nodes of one cluster.

    A read asks one node after the other until one answers; nodes that failed lately come last. What several nodes must
    agree on is asked with `each`. Every failure is a leaf of `ConnectionFailed` with phase `not_sent`: a read is not
    part of any order.

    Args:
        transports: one per node, in order of preference.
        clock: for back-off and stall detection.
        timeout_s: for one call of one node.
        observer: gets every call, for metrics.
        genesis_hash: of the ledger's cluster; learnt from the nodes when null.
    """

    def __init__(
        self,
        transports: Sequence[NodeTransport],
        clock: Clock,
        *,
        timeout_s: float = 4.0,
        observer: RpcObserver | None = None,
        genesis_hash: str | None = None,
    ) -> None:
        if not transports:
            raise ValueError("a pool needs at least one node")
        names = _names(transports)
        self._clock = clock
        self._genesis = genesis_hash
        self._background: set[asyncio.Task[Any]] = set()
        self.nodes: tuple[Node, ...] = tuple(
            Node(RpcClient(transport, name=name, clock=clock, timeout_s=timeout_s, observer=observer), clock)
            for name, transport in zip(names, transports, strict=True)
        )

    @property
    def required_for_absence(self) -> int:
        """How many sane nodes must agree that something is not there: two where two are configured."""
        return min(2, len(self.nodes))

    @property
    def last_slot(self) -> int:
        """Highest slot ever seen in an answer; the usual `min_context_slot` of a read that must not go back.

        A node that is alone more than an hour ahead of all others does not count: one absurd number must not make
        every honest node look behind. The hour begins where the others were last heard; one that stands still does
        not count among them.
        """
        known = [node for node in self.nodes if node.slot_seen]
        moving = [node for node in known if not node.stands_still] or known
        slots = sorted(((node.slot_seen, node.slot_from) for node in moving), reverse=True)
        if len(slots) > 1:
            (first, _), (second, since) = slots[:2]
            unheard_s = max(self._clock.monotonic() - since, 0.0)
            if first - second > _BELIEVABLE_LEAD_SLOTS + int(unheard_s * _FASTEST_SLOTS_PER_S):
                return second
        return slots[0][0] if slots else 0

    @property
    def lowest_slot(self) -> int:
        """Lowest of the slots last seen at nodes that go on: nothing that is signed now can land before it."""
        known = [node for node in self.nodes if node.slot_seen]
        return min((node.slot_seen for node in known if not node.stands_still), default=self.last_slot)

    @property
    def highest_height(self) -> int:
        """Highest block height that any node ever spoke of."""
        return max(node.height_seen for node in self.nodes)

    def health(self) -> tuple[NodeHealth, ...]:
        """Return what is known of each node."""
        return tuple(
            NodeHealth(name=node.name, slot=node.slot_seen, failures=node.failures, genesis=node.genesis)
            for node in self.nodes
        )

    async def aclose(self) -> None:
        """Release connections and stop what is still under way."""
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(node.aclose() for node in self.nodes))

    # --- reads of one node, with failover -----------------------------------------------------------------------------

    async def genesis_hash(self) -> str:
        """Return the cluster's genesis hash; the first time, every node that answers must say the same.

        Raises:
            BadAnswer: the nodes belong to different clusters.
        """
        if self._genesis is not None:
            return self._genesis
        answers = await self._gather(self.nodes, Node.genesis_hash)
        hashes = {answer for answer in answers if isinstance(answer, str)}
        if len(hashes) > 1:
            raise BadAnswer(f"the nodes belong to different clusters: {', '.join(sorted(hashes))}")
        if not hashes:
            raise _worst([answer for answer in answers if isinstance(answer, ConnectionFailed)])
        self._genesis = hashes.pop()
        return self._genesis

    async def accounts(
        self, keys: Sequence[Pubkey], *, commitment: Commitment = "confirmed", min_context_slot: int = 0
    ) -> AccountsAt:
        """Read up to 100 accounts in one call, all at one slot at or after `min_context_slot`."""
        return await self.ask(
            lambda node: node.accounts(keys, commitment=commitment, min_context_slot=min_context_slot)
        )

    async def program_accounts(
        self,
        program_id: Pubkey,
        holding: Sequence[tuple[int, bytes]],
        *,
        commitment: Commitment = "confirmed",
        min_context_slot: int = 0,
    ) -> ProgramAccountsAt:
        """Read the accounts of a program that hold certain bytes at certain places, all at one slot."""
        return await self.ask(
            lambda node: node.program_accounts(
                program_id, holding, commitment=commitment, min_context_slot=min_context_slot
            )
        )

    async def latest_blockhash(self) -> Blockhash:
        """Return the newest confirmed blockhash with its last valid block height and the slot it was read at."""
        return await self.ask(lambda node: node.latest_blockhash("confirmed"))

    async def slot(self, commitment: Commitment = "confirmed") -> int:
        """Return the newest slot at a commitment, of one node."""
        return await self.ask(lambda node: node.slot(commitment))

    async def block_height(self, commitment: Commitment = "confirmed") -> int:
        """Return the newest block height at a commitment, of one node."""
        return await self.ask(lambda node: node.block_height(commitment))

    async def minimum_balance(self, space: int) -> int:
        """Return the lamports that make an account of `space` bytes exempt from rent."""
        return await self.ask(lambda node: node.minimum_balance(space))

    async def recent_fees(self, keys: Sequence[Pubkey]) -> tuple[int, ...]:
        """Return the priority fees of recent blocks that wrote these accounts, micro-lamports per compute unit."""
        return await self.ask(lambda node: node.recent_fees(keys))

    async def signature_statuses(self, signatures: Sequence[str]) -> tuple[SignatureStatus | None, ...]:
        """Return what one node says of these signatures: hints only."""
        return await self.ask(lambda node: node.signature_statuses(signatures))

    async def signatures_for(
        self,
        address: Pubkey,
        *,
        before: str | None = None,
        until: str | None = None,
        limit: int = 1000,
        commitment: Commitment = "confirmed",
        min_context_slot: int = 0,
    ) -> tuple[SignatureInfo, ...]:
        """Return one page of transactions that name an address, newest first."""
        return await self.ask(
            lambda node: node.signatures_for(
                address,
                before=before,
                until=until,
                limit=limit,
                commitment=commitment,
                min_context_slot=min_context_slot,
            )
        )

    async def simulate(self, unsigned: bytes, *, min_context_slot: int = 0) -> Simulation:
        """Simulate unsigned bytes; a node that does not know their blockhash or lookup table is behind: the next."""

        async def one(node: Node) -> Simulation:
            simulation = await node.simulate(unsigned, min_context_slot=min_context_slot)
            kind = None if simulation.err is None else simulation.err.kind
            if kind in {"BlockhashNotFound", "AddressLookupTableNotFound"}:
                raise NodeBehind(f"{node.name}: the simulation answers {kind}", raw_name=kind)
            return simulation

        return await self.ask(one)

    async def ask(self, call: Callable[[Node], Awaitable[_T]]) -> _T:
        """Return the first answer, asking one node after the other.

        A node whose connection was cut (a kept-alive one that it had closed) is asked once more before giving up.

        Raises:
            ConnectionFailed: no node answered; the error of the first that was asked.
        """
        errors: list[ConnectionFailed] = []
        again: list[Node] = []
        for node in self._ordered():
            try:
                return await self._one(node, call)
            except ConnectionFailed as error:
                errors.append(error)
                if error.raw_name == "cut":
                    again.append(node)
        for node in again:
            try:
                return await self._one(node, call)
            except ConnectionFailed as error:
                errors.append(error)
        raise _worst(errors)

    # --- all nodes ----------------------------------------------------------------------------------------------------

    async def transaction(
        self, signature: str, commitment: Commitment = "confirmed", *, wire: bytes | None = None
    ) -> TransactionRecord | None:
        """Ask every node for a landed transaction and return the first that knows it.

        Null means that no node that answered knows it: a hint, not a proof of absence. Where its signed bytes are known
        (`wire`), a node that shows others under this signature has not answered.

        Raises:
            ConnectionFailed: no node answered.
        """

        async def one(node: Node) -> TransactionRecord | None:
            record = await node.transaction(signature, commitment)
            if record is not None and wire is not None and record.wire != wire:
                raise BadAnswer(f"{node.name}: other bytes under the signature {signature}", phase=Phase.MAYBE_SENT)
            return record

        tasks = [self._spawn(self._one(node, one)) for node in self.nodes]
        errors: list[ConnectionFailed] = []
        for next_done in asyncio.as_completed(tasks):
            try:
                record = await next_done
            except ConnectionFailed as error:
                errors.append(error)
                continue
            if record is not None:
                return record
        if len(errors) == len(self.nodes):
            raise _worst(errors)
        return None

    async def send_to_all(self, signed: bytes, signature: str) -> Ack:
        """Give signed bytes to every node at once, without preflight and without the nodes' own retries.

        Nothing that a node answers proves anything; `not_sent` is set only when no byte was written to any of them.
        """
        wire = pybase64.b64encode(signed).decode("ascii")
        targets = [node for node in self.nodes if not self._foreign(node)]
        answers = await asyncio.gather(*(self._send_one(node, wire, signature) for node in targets))
        errors = tuple(answer for answer in answers if answer is not None)
        return Ack(
            accepted=len(answers) - len(errors),
            errors=errors,
            not_sent=all(answer is not None and answer.phase is Phase.NOT_SENT for answer in answers),
        )

    async def horizon(self) -> tuple[int, int]:
        """Return the highest confirmed block height and the highest finalized slot of any node, 0 where none answers.

        Hints what is worth asking: one node that is behind must not hold up a proof, and proves nothing by itself.
        """
        heights, roots = await asyncio.gather(
            self._gather(self.nodes, lambda node: node.block_height("confirmed")),
            self._gather(self.nodes, lambda node: node.slot("finalized")),
        )
        return _highest(heights), _highest(roots)

    def ask_tips(self) -> asyncio.Task[tuple[int, ...]]:
        """Begin to ask every node for its confirmed block height; the task gives the heights that came."""
        return self._spawn(self._tips())

    async def _tips(self) -> tuple[int, ...]:
        answers = await self._gather(self.nodes, Node.tip)
        return tuple(answer for answer in answers if isinstance(answer, int))

    async def sane_nodes(self) -> tuple[Node, ...]:
        """Return the nodes fit for a proof: right genesis hash, height at most the slot, a slot that moves."""
        verdicts = await self._gather(self.nodes, self._sane)
        return tuple(node for node, verdict in zip(self.nodes, verdicts, strict=True) if verdict is True)

    async def each(self, call: Callable[[Node], Awaitable[_T]]) -> tuple[_T, ...]:
        """Return the answers of all *sane* nodes that gave one (for proofs that need two)."""
        answers = await self._gather(await self.sane_nodes(), call)
        return tuple(answer for answer in answers if not isinstance(answer, ConnectionFailed))

    # --- one node -----------------------------------------------------------------------------------------------------

    async def _send_one(self, node: Node, wire: str, signature: str) -> ErrorInfo | None:
        try:
            said = await node.send(wire)
        except ConnectionFailed as error:
            self._punish(node, error)
            return error.info()
        if said != signature:
            return BadAnswer(f"{node.name} names another signature", phase=Phase.MAYBE_SENT).info()
        return None

    async def _one(self, node: Node, call: Callable[[Node], Awaitable[_T]]) -> _T:
        """Ask one node of our cluster; its failures count against it, and come out as `not_sent`."""
        try:
            await self._check_genesis(node)
            answer = await call(node)
        except ConnectionFailed as error:
            error.phase = Phase.NOT_SENT
            self._punish(node, error)
            raise
        node.failures = 0
        node.retry_at = 0.0
        return answer

    async def _check_genesis(self, node: Node) -> None:
        genesis = await self.genesis_hash()
        max_age_s = GENESIS_MAX_AGE_S if node.genesis == genesis else FOREIGN_MAX_AGE_S
        if node.genesis is None or self._clock.monotonic() - node.genesis_at > max_age_s:
            await node.genesis_hash()
        if node.genesis != genesis:
            raise Unreachable(f"{node.name} belongs to another cluster", raw_name="foreign_genesis")

    def _foreign(self, node: Node) -> bool:
        return self._genesis is not None and node.genesis is not None and node.genesis != self._genesis

    async def _sane(self, node: Node) -> bool:
        now = self._clock.monotonic()
        if node.sane_at is not None and now - node.sane_at < SANE_FOR_S:
            return True
        await node.tip()
        for _ in range(_FIRST_MOVE_TRIES):
            if node.moved_at is not None:
                break
            # Seen for the first time: give it the time of a slot or two to move.
            await self._clock.sleep(_FIRST_MOVE_WAIT_S)
            await node.slot("confirmed")
        now = self._clock.monotonic()
        if node.moved_at is None or now - node.moved_at > STALL_S:
            logger.warning("node_stands_still", extra={"node": node.name, "slot": node.slot_seen})
            return False
        node.sane_at = now
        return True

    def _ordered(self) -> list[Node]:
        now = self._clock.monotonic()
        return sorted(self.nodes, key=lambda node: (node.stands_still, node.retry_at if node.retry_at > now else 0.0))

    def _punish(self, node: Node, error: ConnectionFailed) -> None:
        node.failures += 1
        wait = min(_PENALTY_FIRST_S * 2 ** min(node.failures - 1, 8), _PENALTY_MOST_S)
        if isinstance(error, NodeBehind):
            wait = _PENALTY_FIRST_S
        node.retry_at = self._clock.monotonic() + max(wait, error.retry_after_s or 0.0)
        logger.debug("node_failed", extra={"node": node.name, "code": error.code, "failures": node.failures})

    async def _gather(
        self, nodes: Sequence[Node], call: Callable[[Node], Awaitable[_T]]
    ) -> tuple[_T | ConnectionFailed, ...]:
        async def one(node: Node) -> _T | ConnectionFailed:
            try:
                # The hash itself cannot be checked against what is still being learnt.
                return await (call(node) if self._genesis is None else self._one(node, call))
            except ConnectionFailed as error:
                error.phase = Phase.NOT_SENT
                return error

        return tuple(await asyncio.gather(*(one(node) for node in nodes)))

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            # A slower node's failure, after another node had answered: it was counted against the node already.
            task.exception()


def _worst(errors: Sequence[ConnectionFailed]) -> ConnectionFailed:
    """Return the error to show when every node failed: the first asked, the preferred node."""
    return errors[0] if errors else Unreachable("no node to ask")


def _highest(answers: Sequence[int | ConnectionFailed]) -> int:
    return max((answer for answer in answers if isinstance(answer, int)), default=0)


def _names(transports: Sequence[NodeTransport]) -> list[str]:
    names: list[str] = []
    for transport in transports:
        name, number = transport.url, 2
        while name in names:
            name, number = f"{transport.url}#{number}", number + 1
        names.append(name)
    return names
