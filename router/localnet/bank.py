"""The chain's state and what changes it: transactions, direct writes, slots, forks; with its journal.

Everything here is synchronous. A change is journaled first (a landed transaction with a sync), then made, then told to
whoever listens.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import msgspec
from solders.account import Account
from solders.clock import Clock as ClockSysvar
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.rent import Rent
from solders.transaction import VersionedTransaction

from router.localnet.accounts import SYSTEM_PROGRAM, AccountStore
from router.localnet.history import TOKEN_PROGRAM, History, Landed, record, token_mints
from router.localnet.journal import Entry, Journal, Snapshot, StoredAccount
from router.localnet.messages import LOOKUP_TABLE_PROGRAM, SLOT_HASHES, Loaded, LoadFailure, load
from router.localnet.programs import ProgramModel
from router.localnet.runtime import Run, Runtime
from router.localnet.timeline import Segment, Timeline
from router.localnet.wire import Json

__all__ = [
    "CONFIRMED_DEPTH",
    "FINALIZED_DEPTH",
    "WRAPPED_SOL",
    "Bank",
    "Execution",
    "Simulated",
    "faucet_seed",
    "signatures_hold",
]

CONFIRMED_DEPTH = 1
FINALIZED_DEPTH = 32
SLOTS_PER_EPOCH = 432_000
WRAPPED_SOL = Pubkey.from_string("So11111111111111111111111111111111111111112")
CLOCK_SYSVAR = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
SYSVAR_OWNER = Pubkey.from_string("Sysvar1111111111111111111111111111111111111")
# Slot, start of the epoch, epoch, epoch of the next leader schedule, seconds.
_CLOCK_LAYOUT = struct.Struct("<QqQQq")
_HASHES_KEPT = 512
_CLOSED = Account(0, b"", SYSTEM_PROGRAM)


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a transaction that was sent.

    Attributes:
        landed: whether it is in a block; a failed one is, and paid its fee.
        err: the RPC's error in JSON form; null when it landed and succeeded.
    """

    signature: str
    landed: bool
    slot: int
    err: Json
    logs: tuple[str, ...] = ()
    units: int = 0
    fee: int = 0

    @property
    def ok(self) -> bool:
        """Whether it landed and did what it says."""
        return self.landed and self.err is None


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """A simulation: the run, and the accounts as they would be."""

    run: Run
    slot: int
    replaced: tuple[Hash, int] | None
    account: Callable[[Pubkey], Account | None]


class Bank:
    """State at the tip, versions behind it, and history."""

    def __init__(
        self,
        *,
        genesis: Hash,
        unix_time_ms: int,
        slot_time_ms: int,
        first_slot: int,
        retained_slots: int,
        history_slots: int,
        journal: Journal | None,
    ) -> None:
        self.svm = (
            LiteSVM()
            .with_sigverify(sigverify=False)
            .with_blockhash_check(check=False)
            .with_transaction_history(0)
            .with_log_bytes_limit(None)
        )
        self.models: dict[Pubkey, ProgramModel] = {}
        self.store = AccountStore(self.svm)
        self.store.derived[CLOCK_SYSVAR] = self._clock_account
        self.history = History()
        self.runtime = Runtime(self.svm, self.models)
        self.on_account: list[Callable[[Pubkey], None]] = []
        self.on_landed: list[Callable[[Landed], None]] = []
        self._retained = max(retained_slots, FINALIZED_DEPTH + 1)
        self._history_slots = max(history_slots, 2 * _HASHES_KEPT)
        self._forgotten_before = 0
        self._journal = journal
        self._clock_slot = -1
        self._fork_floor = 0
        self.lamports_per_byte_year = self.svm.get_rent().lamports_per_byte_year
        stored = None if journal is None else journal.load()
        if stored is None:
            first = Segment(start_slot=first_slot, start_height=first_slot * 9 // 10, start_time_ms=unix_time_ms)
            self.timeline = Timeline(genesis, [first], first_slot, slot_time_ms)
            self.store.put(WRAPPED_SOL, _wrapped_sol_mint(self.rent(82)), first_slot)
        else:
            self.timeline = self._restore(*stored, slot_time_ms)
            self.timeline.jump(1, time_ms=max(unix_time_ms, self.timeline.time_ms(self.slot) + slot_time_ms))
        if journal is not None:
            self._compact(journal)
            journal.mark_slot(self.slot)

    @property
    def slot(self) -> int:
        """The current slot."""
        return self.timeline.slot

    @property
    def unix_timestamp(self) -> int:
        """The chain's clock, in whole seconds."""
        return self.timeline.time_ms(self.slot) // 1000

    @property
    def first_available(self) -> int:
        """The oldest slot whose transactions are kept."""
        return max(self.timeline.first_slot, self.slot - self._history_slots, self._forgotten_before)

    def forget_history(self, slots: int) -> None:
        """Forget the transactions of all but the last `slots` slots, as a node does that keeps little.

        The state stays, and so does what is on disk: a restart finds them again.
        """
        self._forgotten_before = max(self.slot - slots + 1, self._forgotten_before)
        self.history.prune(self._forgotten_before)

    def view(self, depth: int, lag_slots: int = 0) -> int:
        """Return the slot that a node `lag_slots` behind shows at a commitment `depth` blocks back."""
        slot = self.slot - min(lag_slots, self._retained - FINALIZED_DEPTH - 1)
        return self.timeline.block_slot(max(slot - depth, self.timeline.first_slot))

    def rent(self, size: int) -> int:
        """Return the lamports that exempt an account of `size` bytes from rent."""
        return self.svm.minimum_balance_for_rent_exemption(size)

    def account(self, key: Pubkey, slot: int) -> Account | None:
        """Return an account at the end of `slot`."""
        version = self.store.at(key, slot)
        return None if version is None else version.account

    # Changes

    def set_account(self, key: Pubkey, account: Account | None) -> None:
        """Write an account past every rule."""
        self._append(Entry(slot=self.slot, accounts=(_stored(key, account),)), sync=False)
        self.store.put(key, account, self.slot)
        self._tell(key)

    def stand_in(self, program_id: Pubkey) -> None:
        """Show an executable account at a modelled program's address."""
        account = Account(self.rent(36), b"", Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111"), True)
        self.store.put(program_id, account, self.slot, in_svm=False)

    def set_rent(self, lamports_per_byte_year: int) -> None:
        """Change the price of storage for everybody from now on."""
        self._append(Entry(slot=self.slot, lamports_per_byte_year=lamports_per_byte_year), sync=False)
        self._apply_rent(lamports_per_byte_year)

    def tick(self) -> int:
        """Begin the next slot."""
        slot = self.timeline.tick()
        self._settle_slot()
        return slot

    def warp(self, slots: int, seconds: int | None, *, blocks: bool) -> int:
        """Jump ahead; `seconds` is how far the chain's clock moves, by default as far as the slots would take it."""
        time_ms = None if seconds is None else self.timeline.time_ms(self.slot) + seconds * 1000
        self.timeline.jump(slots, time_ms=time_ms, blocks=blocks)
        self._append(Entry(slot=self.slot, segments=tuple(self.timeline.segments)), sync=False)
        self._settle_slot()
        return self.slot

    def fork(self, slots: int) -> list[Landed]:
        """Take the last `slots` slots back; returns the transactions that vanished, the newest first."""
        to_slot = self.view(slots)
        if slots < 1 or slots >= FINALIZED_DEPTH or to_slot < self._fork_floor:
            raise ValueError("a fork takes back 1 to 31 slots, and none from before the last start or snapshot")
        self._append(Entry(slot=self.slot + 1, fork_to=to_slot), sync=True)
        return self._apply_fork(to_slot)

    def land(self, tx: VersionedTransaction, wire: bytes) -> Execution:
        """Execute a transaction in the current slot; what cannot land leaves no trace."""
        signatures = [str(each) for each in tx.signatures]
        signature = signatures[0]
        prepared = self._prepare(tx, self.slot)
        run = self._run(tx, prepared, self.slot) if isinstance(prepared, Loaded) else prepared
        if not run.lands or not isinstance(prepared, Loaded):
            return Execution(signature=signature, landed=False, slot=self.slot, err=run.err)
        before = {key: self.store.current(key) for key in prepared.keys}
        mints = {
            key: run.changes.get(key, self.store.current(key)) for key in token_mints(before) | token_mints(run.changes)
        }
        landed = record(
            wire,
            bytes(tx.message.hash()),
            signatures,
            slot=self.slot,
            loaded=prepared,
            run=run,
            before=before,
            mints=mints,
        )
        accounts = tuple(_stored(key, account) for key, account in run.changes.items())
        self._append(Entry(slot=self.slot, accounts=accounts, landed=landed), sync=True)
        for key, account in run.changes.items():
            self.store.put(key, account, self.slot)
        self.history.add(landed)
        for key in run.changes:
            self._tell(key)
        for callback in self.on_landed:
            callback(landed)
        return Execution(
            signature=signature,
            landed=True,
            slot=self.slot,
            err=run.err,
            logs=run.logs,
            units=run.units,
            fee=run.fee,
        )

    def simulate(self, tx: VersionedTransaction, slot: int, *, replace_blockhash: bool = False) -> Simulated:
        """Run a transaction on the state at the end of `slot` and keep nothing; signatures are not looked at."""
        prepared = self._prepare(tx, slot, any_blockhash=replace_blockhash)
        run = self._run(tx, prepared, slot) if isinstance(prepared, Loaded) else prepared
        replaced = None
        if replace_blockhash:
            replaced = (self.timeline.blockhash(slot), self.timeline.last_valid_height(slot))

        def after(key: Pubkey) -> Account | None:
            return run.changes[key] if run.err is None and key in run.changes else self.account(key, slot)

        return Simulated(run=run, slot=slot, replaced=replaced, account=after)

    def load(self, message: Message | MessageV0, slot: int) -> Loaded:
        """Return a message with its tables as they are at `slot`; raises `LoadFailure`."""
        return load(message, lambda key: self.account(key, slot), slot)

    def close(self) -> None:
        """Write a last snapshot and close the files."""
        if self._journal is not None:
            self._journal.compact(self._snapshot())
            self._journal.close()
            self._journal = None

    def abandon(self) -> None:
        """Let go of the files as a kill would, without a last snapshot."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # Inside

    def _prepare(self, tx: VersionedTransaction, slot: int, *, any_blockhash: bool = False) -> Loaded | Run:
        """Return the loaded message, or why the transaction cannot land."""
        known = self.history.of_message(bytes(tx.message.hash()))
        if known is not None and known.slot <= slot:
            return Run(err="AlreadyProcessed", lands=False)
        if not any_blockhash and not self.timeline.is_valid(tx.message.recent_blockhash, slot):
            return Run(err="BlockhashNotFound", lands=False)
        try:
            return self.load(tx.message, slot)
        except LoadFailure as failure:
            return Run(err=failure.err, lands=False)

    def _run(self, tx: VersionedTransaction, loaded: Loaded, slot: int) -> Run:
        tables = LOOKUP_TABLE_PROGRAM in loaded.keys or SLOT_HASHES in loaded.keys
        if tables:
            oldest = max(self.timeline.first_slot, slot - _HASHES_KEPT)
            hashes = [(each, self.timeline.blockhash(each)) for each in range(slot, oldest - 1, -1)]
            self.svm.set_slot_hashes(hashes[:_HASHES_KEPT])
        self._set_clock(slot)
        unix_timestamp = self.timeline.time_ms(slot) // 1000
        if slot == self.slot:
            return self.runtime.run(tx.message, loaded, self.store.current, slot, unix_timestamp)
        swapped = [key for key in loaded.keys if self.store.changed_after(key, slot)]
        for key in swapped:
            self.svm.set_account(key, self.account(key, slot) or _CLOSED)
        try:
            return self.runtime.run(tx.message, loaded, lambda key: self.account(key, slot), slot, unix_timestamp)
        finally:
            for key in swapped:
                self.svm.set_account(key, self.store.current(key) or _CLOSED)

    def _clock(self, slot: int) -> ClockSysvar:
        epoch = slot // SLOTS_PER_EPOCH
        start = max(epoch * SLOTS_PER_EPOCH, self.timeline.first_slot)
        now = self.timeline.time_ms(slot) // 1000
        return ClockSysvar(slot, self.timeline.time_ms(start) // 1000, epoch, epoch + 1, now)

    def _clock_account(self, slot: int) -> Account:
        """Return the clock's account as every slot has its own: LiteSVM's shows the slot that last executed."""
        clock = self._clock(slot)
        data = _CLOCK_LAYOUT.pack(
            clock.slot, clock.epoch_start_timestamp, clock.epoch, clock.leader_schedule_epoch, clock.unix_timestamp
        )
        return Account(self.rent(len(data)), data, SYSVAR_OWNER)

    def _set_clock(self, slot: int) -> None:
        if self._clock_slot == slot:
            return
        self.svm.set_clock(self._clock(slot))
        self._clock_slot = slot

    def _settle_slot(self) -> None:
        slot = self.slot
        self.store.collapse(slot - self._retained)
        self.history.prune(slot - self._history_slots)
        self.timeline.prune(slot - self._history_slots)
        if self._journal is not None:
            self._journal.mark_slot(slot)
            if self._journal.full:
                self._compact(self._journal)

    def _tell(self, key: Pubkey) -> None:
        for callback in self.on_account:
            callback(key)

    def _append(self, entry: Entry, *, sync: bool) -> None:
        if self._journal is not None:
            self._journal.append(entry, sync=sync)

    def _apply_rent(self, lamports_per_byte_year: int) -> None:
        rent = self.svm.get_rent()
        self.svm.set_rent(Rent(lamports_per_byte_year, rent.exemption_threshold, rent.burn_percent))
        self.lamports_per_byte_year = lamports_per_byte_year

    def _apply_fork(self, to_slot: int) -> list[Landed]:
        self.store.undo(to_slot)
        taken = self.history.undo(to_slot)
        self.timeline.fork(to_slot)
        self._clock_slot = -1
        return taken

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            genesis=bytes(self.timeline.genesis),
            slot=self.slot,
            segments=tuple(self.timeline.segments),
            lamports_per_byte_year=self.lamports_per_byte_year,
            accounts=tuple(_stored(key, account) for key, account in self.store.everything()),
            landed=tuple(self.history),
        )

    def _compact(self, journal: Journal) -> None:
        journal.compact(self._snapshot())
        self._fork_floor = self.slot

    def _restore(self, snapshot: Snapshot, entries: list[Entry], last_slot: int, slot_time_ms: int) -> Timeline:
        """Rebuild what was stored; every slot that was answered is behind the one that comes next."""
        timeline = Timeline(Hash(snapshot.genesis), list(snapshot.segments), snapshot.slot, slot_time_ms)
        self.timeline = timeline
        self._apply_rent(snapshot.lamports_per_byte_year)
        for account in snapshot.accounts:
            self.store.put(Pubkey(account.key), _account(account), 0)  # every view shows what was kept
        for landed in snapshot.landed:
            self.history.add(landed)
        for entry in entries:
            timeline.advance_to(entry.slot - 1 if entry.fork_to is not None else entry.slot)
            if entry.segments:
                timeline.adopt(list(entry.segments))
            if entry.lamports_per_byte_year is not None:
                self._apply_rent(entry.lamports_per_byte_year)
            if entry.fork_to is not None:
                self._apply_fork(entry.fork_to)
            for account in entry.accounts:
                self.store.put(Pubkey(account.key), _account(account), entry.slot)
            if entry.landed is not None:
                self.history.add(entry.landed)
        timeline.advance_to(last_slot)
        return timeline


def _stored(key: Pubkey, account: Account | None) -> StoredAccount:
    if account is None:
        return StoredAccount(bytes(key), 0, b"", bytes(SYSTEM_PROGRAM))
    return StoredAccount(bytes(key), account.lamports, account.data, bytes(account.owner), account.executable)


def _account(stored: StoredAccount) -> Account | None:
    if stored.lamports == 0:
        return None
    return Account(stored.lamports, stored.data, Pubkey(stored.owner), stored.executable)


def _wrapped_sol_mint(lamports: int) -> Account:
    """Return the native mint: no authority, supply 0, 9 decimals, initialised (SPL token `Mint`, 82 bytes)."""
    return Account(lamports, bytes(36) + bytes(8) + bytes([9, 1]) + bytes(36), TOKEN_PROGRAM)


def faucet_seed(genesis: Hash) -> bytes:
    """Return the seed of the faucet's key: it belongs to one cluster only."""
    return hashlib.sha256(b"localnet faucet" + bytes(genesis)).digest()


def signatures_hold(tx: VersionedTransaction) -> bool:
    """Whether every signature of the transaction verifies."""
    return all(tx.verify_with_results())
