"""An embedded Solana cluster: the real runtime in this process, behind Solana's own JSON-RPC.

Transactions execute when they arrive, in the current slot; the views `processed`, `confirmed` and `finalized` show the
state 0, 1 and 32 blocks back. Slots pass on the injected clock, so that a simulation runs in virtual time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from providers.base.clock import Clock
from router.localnet.bank import (
    CONFIRMED_DEPTH,
    FINALIZED_DEPTH,
    Bank,
    Execution,
    faucet_seed,
    signatures_hold,
)
from router.localnet.chain_controls import register_chain_controls
from router.localnet.history import Landed
from router.localnet.journal import Journal
from router.localnet.params import WireState
from router.localnet.programs import ProgramModel
from router.localnet.rpc import Control, RpcServer
from router.localnet.wire import Json

__all__ = ["Cluster", "ClusterConfig", "Execution"]

_LOG = logging.getLogger(__name__)
_DEPTHS = {"processed": 0, "confirmed": CONFIRMED_DEPTH, "finalized": FINALIZED_DEPTH}
_CATCH_UP_SLOTS = 64  # produced in one go when the event loop was held up
_FAUCET_LAMPORTS = 500_000_000 * 10**9
_FAUCET_UNITS = 1_000


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a cluster runs.

    Attributes:
        slot_time_ms: length of a slot on the injected clock, and how far it moves the chain's clock.
        state_dir: where state is kept; null keeps it in memory only.
        reset: throw away what `state_dir` holds and begin with a new genesis hash.
        first_slot: the slot of a new cluster; its block height begins lower, as on every real one.
        retained_slots: how far back account versions go (32 for the finalized view, the rest for lagging nodes).
        history_slots: how long transactions are kept.
    """

    slot_time_ms: int = 50
    state_dir: Path | None = None
    reset: bool = False
    first_slot: int = 1_000
    retained_slots: int = 300
    history_slots: int = 432_000


class Cluster:
    """One chain. Everything but `start` and `aclose` is synchronous.

    Args:
        clock: time and randomness.
        config: settings.
    """

    def __init__(self, clock: Clock, config: ClusterConfig) -> None:
        self.clock = clock
        self.config = config
        journal = None
        if config.state_dir is not None:
            journal = Journal(config.state_dir, reset=config.reset)
        self.bank = Bank(
            genesis=Hash(clock.random_bytes(32)),
            unix_time_ms=int(clock.now().timestamp() * 1000),
            slot_time_ms=config.slot_time_ms,
            first_slot=config.first_slot,
            retained_slots=config.retained_slots,
            history_slots=config.history_slots,
            journal=journal,
        )
        self.rpc = RpcServer(self)
        register_chain_controls(self)
        self._slot_callbacks: list[Callable[[int], None]] = []
        self._scheduled: list[tuple[int, bytes]] = []
        self._task: asyncio.Task[None] | None = None
        self._faucet = Keypair.from_seed(faucet_seed(self.genesis_hash))
        self._airdrops = 0
        if self.account(self._faucet.pubkey()) is None:
            self.set_account(self._faucet.pubkey(), Account(_FAUCET_LAMPORTS, b"", Pubkey.default()))

    # What the chain is

    @property
    def identity(self) -> Pubkey:
        """The node's own address."""
        return self._faucet.pubkey()

    @property
    def genesis_hash(self) -> Hash:
        """What tells this cluster from every other."""
        return self.bank.timeline.genesis

    @property
    def slot(self) -> int:
        """The current slot (processed)."""
        return self.bank.slot

    @property
    def block_height(self) -> int:
        """The current block height (processed)."""
        return self.bank.timeline.height(self.slot)

    @property
    def unix_timestamp(self) -> int:
        """The chain's clock in whole seconds."""
        return self.bank.unix_timestamp

    def latest_blockhash(self) -> Hash:
        """Return the newest blockhash."""
        return self.bank.timeline.blockhash(self.slot)

    def minimum_balance(self, size: int) -> int:
        """Return the lamports that exempt `size` bytes from rent."""
        return self.bank.rent(size)

    def account(self, pubkey: Pubkey, commitment: str = "processed") -> Account | None:
        """Return an account as a commitment shows it, or null when it does not exist."""
        return self.bank.account(pubkey, self.bank.view(_DEPTHS[commitment]))

    def accounts_by_owner(self, owner: Pubkey) -> list[tuple[Pubkey, Account]]:
        """Return every account that a program owns now."""
        found = self.bank.store.owned_by(owner, self.slot)
        return [(key, version.account) for key, version in found if version.account is not None]

    def transaction(self, signature: str) -> Landed | None:
        """Return a landed transaction."""
        return self.bank.history.get(signature)

    # World building

    def register(self, model: ProgramModel) -> None:
        """Stand a modelled program at its address."""
        self.bank.models[model.program_id] = model
        self.bank.stand_in(model.program_id)

    def add_program(self, program_id: Pubkey, so_path: Path) -> None:
        """Load a real program; raises OSError when the file cannot be read and ValueError when it is no program."""
        binary = so_path.read_bytes()
        if not binary.startswith(b"\x7fELF"):
            raise ValueError(f"{so_path.name} is not a program (no ELF header)")
        self.bank.models.pop(program_id, None)
        self.bank.svm.add_program(program_id, binary)

    def set_account(self, pubkey: Pubkey, account: Account | None) -> None:
        """Write an account past every rule; null closes it."""
        self.bank.set_account(pubkey, account)

    def set_rent(self, lamports_per_byte_year: int) -> None:
        """Change the price of storage (3,480 at first: 890,880 lamports for an account without data)."""
        self.bank.set_rent(lamports_per_byte_year)

    def airdrop(self, pubkey: Pubkey, lamports: int) -> Execution:
        """Send lamports from the faucet by an ordinary transaction; raises ValueError when it fails."""
        faucet = self._faucet.pubkey()
        self._airdrops = (self._airdrops + 1) % 100_000
        instructions = [
            set_compute_unit_limit(_FAUCET_UNITS + self._airdrops),  # two equal airdrops are two transactions
            transfer(TransferParams(from_pubkey=faucet, to_pubkey=pubkey, lamports=lamports)),
        ]
        message = MessageV0.try_compile(faucet, instructions, [], self.latest_blockhash())
        result = self.execute(VersionedTransaction(message, [self._faucet]))
        if not result.ok:
            raise ValueError(f"airdrop of {lamports} lamports refused: {result.err}")
        return result

    def execute(self, tx: VersionedTransaction) -> Execution:
        """Execute a signed transaction in the current slot, as `sendTransaction` without preflight does."""
        return self.execute_wire(bytes(tx), tx)

    def execute_wire(self, wire: bytes, tx: VersionedTransaction | None = None) -> Execution:
        """Execute a transaction as it came over the wire."""
        tx = VersionedTransaction.from_bytes(wire) if tx is None else tx
        if not signatures_hold(tx):
            return Execution(signature=str(tx.signatures[0]), landed=False, slot=self.slot, err="SignatureFailure")
        return self.bank.land(tx, wire)

    def forget_history(self, slots: int) -> None:
        """Forget the transactions of all but the last `slots` slots (pruned history); a restart finds them again."""
        self.bank.forget_history(slots)

    def schedule(self, wire: bytes, slots: int) -> None:
        """Execute a transaction when `slots` more slots have begun (a transaction that lands late)."""
        self._scheduled.append((self.slot + slots, wire))

    # Slots

    async def start(self) -> None:
        """Let slots pass on the clock."""
        if self._task is None:
            self._task = asyncio.create_task(self._produce(), name="localnet-slots")
            self._task.add_done_callback(_report)

    async def aclose(self) -> None:
        """Stop the slots, write the state and close the files; raises what ended the slots early."""
        task, self._task = self._task, None
        try:
            if task is not None and not task.done():
                task.cancel()
            if task is not None:
                await asyncio.gather(task, return_exceptions=True)
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error
        finally:
            self.bank.close()

    def abandon(self) -> None:
        """Let go of the state on disk as a kill would; for tests of recovery within one process."""
        if self._task is not None:
            self._task.cancel()
        self.bank.abandon()

    def advance(self, slots: int = 1) -> None:
        """Produce slots by hand."""
        for _ in range(slots):
            self.bank.tick()
            self._slot_began()

    def warp(self, slots: int = 0, *, seconds: int | None = None, blocks: bool = True) -> None:
        """Jump ahead in slots and time at once; actors see only the last slot.

        Args:
            slots: how far; at least one slot always passes.
            seconds: how far the chain's clock moves; by default as far as the slots would have taken it.
            blocks: whether every slot has a block (block heights, and so blockhashes, pass with them).
        """
        self.bank.warp(max(slots, 1), seconds, blocks=blocks)
        self._slot_began()

    def fork(self, slots: int) -> tuple[str, ...]:
        """Take back the last `slots` slots (1 to 31); returns the signatures that vanished."""
        taken = self.bank.fork(slots)
        self._slot_began()
        return tuple(landed.signature for landed in taken)

    def on_slot(self, callback: Callable[[int], None]) -> None:
        """Have `callback` called with each new slot."""
        self._slot_callbacks.append(callback)

    def on_landed(self, callback: Callable[[Landed], None]) -> None:
        """Have `callback` called with each landed transaction."""
        self.bank.on_landed.append(callback)

    def on_account(self, callback: Callable[[Pubkey], None]) -> None:
        """Have `callback` called with each address that was written."""
        self.bank.on_account.append(callback)

    # JSON-RPC

    def handle(self, body: bytes, *, lag_slots: int = 0, send_delay_slots: int = 0, unhealthy: bool = False) -> bytes:
        """Answer a JSON-RPC request or batch.

        Args:
            body: as it came.
            lag_slots: how far behind the answering node is.
            send_delay_slots: how late a transaction sent here lands.
            unhealthy: whether the node says that it is behind.
        """
        return self.rpc.handle(body, WireState(lag_slots, send_delay_slots, unhealthy))

    def register_control(self, name: str, handler: Control) -> None:
        """Add a `localnet_*` method; the handler takes the first parameter (an object) and returns JSON."""
        self.rpc.register_control(name, handler)

    def status(self) -> dict[str, Json]:
        """Return where the chain is."""
        return {
            "slot": self.slot,
            "blockHeight": self.block_height,
            "unixTimestamp": self.unix_timestamp,
            "slotTimeMs": self.config.slot_time_ms,
            "genesisHash": str(self.genesis_hash),
            "transactions": len(self.bank.history),
            "firstAvailableBlock": self.bank.first_available,
            "modelled": [str(program) for program in self.bank.models],
        }

    # Inside

    async def _produce(self) -> None:
        slot_time = self.config.slot_time_ms / 1000
        begun = self.clock.monotonic()
        produced = 0
        while True:
            due = begun + (produced + 1) * slot_time
            await self.clock.sleep(max(due - self.clock.monotonic(), 0.0))
            behind = int((self.clock.monotonic() - begun) / slot_time + 1e-6) - produced
            slots = min(max(behind, 1), _CATCH_UP_SLOTS)
            self.advance(slots)
            produced += slots

    def _slot_began(self) -> None:
        slot = self.slot
        if self._scheduled:
            due = [wire for when, wire in self._scheduled if when <= slot]
            self._scheduled = [entry for entry in self._scheduled if entry[0] > slot]
            for wire in due:
                self.execute_wire(wire)
        for callback in self._slot_callbacks:
            callback(slot)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("localnet_slots_stopped", exc_info=error)
