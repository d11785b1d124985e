"""Running one transaction in LiteSVM without keeping what it did.

Every run is a simulation: what it would change comes back, and the cluster decides whether to keep it. So a failed
transaction needs no roll-back, a preflight and a real execution are the same code, and rent is checked before anything
is written.

LiteSVM charges the base fee for the signers of the message that it is given, and no priority fee. The payer is
therefore shown to it with exactly the balance that leaves the right amount after LiteSVM's own charge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import msgspec
from solders.account import Account
from solders.hash import Hash
from solders.instruction import Instruction
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, InnerInstruction
from solders.transaction_status import TransactionReturnData

from router.localnet.accounts import SYSTEM_PROGRAM
from router.localnet.logs import limited
from router.localnet.messages import LAMPORTS_PER_SIGNATURE, Loaded
from router.localnet.modelled import Plan, Prefix
from router.localnet.programs import ProgramModel
from router.localnet.txerrors import failure_of
from router.localnet.wire import Json

__all__ = ["Inner", "Run", "Runtime"]

_CLOSED = Account(0, b"", SYSTEM_PROGRAM)
_NO_SIGNATURE = Signature.default()
_NO_HASH = Hash.default()


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction that a program called: indexes into the transaction's keys."""

    program: int
    accounts: bytes
    data: bytes
    stack_height: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction does to the state that it ran on.

    Attributes:
        err: in the RPC's JSON form; null on success.
        lands: whether a leader would include it (a failed one included: it pays its fee).
        changes: accounts as they become; null closes one.
        inner: by index of the calling instruction.
    """

    err: Json
    lands: bool
    fee: int = 0
    logs: tuple[str, ...] = ()
    units: int = 0
    changes: Mapping[Pubkey, Account | None] = msgspec.field(default_factory=dict[Pubkey, Account | None])
    inner: tuple[tuple[int, tuple[Inner, ...]], ...] = ()
    return_data: tuple[Pubkey, bytes] | None = None


class _Raw(msgspec.Struct, frozen=True, kw_only=True):
    """LiteSVM's answer for one message."""

    err: Json
    logs: list[str]
    units: int
    inner: list[list[InnerInstruction]]
    after: dict[Pubkey, Account]
    keys: list[Pubkey]
    return_data: tuple[Pubkey, bytes] | None


class _Returning(Protocol):
    """The stub of solders names this method otherwise than the library."""

    def return_data(self) -> TransactionReturnData: ...


Read = Callable[[Pubkey], Account | None]


class Runtime:
    """LiteSVM, the modelled programs, and the rules that LiteSVM leaves out."""

    def __init__(self, svm: LiteSVM, models: Mapping[Pubkey, ProgramModel]) -> None:
        self._svm = svm
        self._models = models

    def run(self, message: Message | MessageV0, loaded: Loaded, read: Read, slot: int, unix_timestamp: int) -> Run:
        """Run a loaded message on the state that `read` shows (LiteSVM must hold the same)."""
        refused = self._fee_payer_error(loaded, read)
        if refused is not None:
            return Run(err=refused, lands=False)
        missing = self._program_error(loaded, read)
        if missing is not None:
            return self._failed(loaded, read, missing)
        if any(instruction.program_id in self._models for instruction in loaded.instructions):
            return self._run_modelled(loaded, read, slot, unix_timestamp)
        if any(loaded.from_tables):
            message = _flat(loaded.payer, loaded.instructions)
        raw = self._simulate(message, loaded, read)
        inner = _inner(raw, loaded.keys)
        if raw.err is not None:
            err = _renumbered_account(raw, loaded)
            return self._failed(loaded, read, err, logs=raw.logs, units=raw.units, inner=inner)
        return self._succeeded(
            loaded, read, raw.after, logs=raw.logs, units=raw.units, inner=inner, return_data=raw.return_data
        )

    def _run_modelled(self, loaded: Loaded, read: Read, slot: int, unix_timestamp: int) -> Run:
        def prefix(instructions: Sequence[Instruction]) -> Prefix:
            raw = self._simulate(_flat(loaded.payer, instructions), loaded, read)
            return Prefix(err=_renumbered_account(raw, loaded), logs=raw.logs, units=raw.units, after=raw.after)

        plan = Plan(loaded, self._models, read, prefix, slot=slot, unix_timestamp=unix_timestamp)
        result = plan.run()
        inner = tuple(
            (index, tuple(_inner_of(instruction, loaded.keys) for instruction in instructions))
            for index, instructions in result.inner
        )
        if result.err is not None:
            return self._failed(loaded, read, result.err, logs=result.logs, units=result.units, inner=inner)
        return self._succeeded(loaded, read, result.after, logs=result.logs, units=result.units, inner=inner)

    def _simulate(self, message: Message | MessageV0, loaded: Loaded, read: Read) -> _Raw:
        signers = message.header.num_required_signatures
        payer = read(loaded.payer)
        shown = None
        balance = 0 if payer is None else payer.lamports
        lamports = balance - loaded.fee + LAMPORTS_PER_SIGNATURE * signers
        if payer is not None and lamports != balance:
            shown = payer
            self._svm.set_account(
                loaded.payer, Account(lamports, payer.data, payer.owner, payer.executable, payer.rent_epoch)
            )
        try:
            result = self._svm.simulate_transaction(VersionedTransaction.populate(message, [_NO_SIGNATURE] * signers))
        finally:
            if shown is not None:
                self._svm.set_account(loaded.payer, shown)
        meta = result.meta()
        returned = cast("_Returning", meta).return_data()
        data = bytes(returned.data)
        return _Raw(
            err=failure_of(result) if isinstance(result, FailedTransactionMetadata) else None,
            logs=meta.logs(),
            units=meta.compute_units_consumed(),
            inner=meta.inner_instructions(),
            after={} if isinstance(result, FailedTransactionMetadata) else dict(result.post_accounts()),
            keys=list(message.account_keys),
            return_data=(returned.program_id, data) if data else None,
        )

    def _fee_payer_error(self, loaded: Loaded, read: Read) -> Json:
        """Return why nobody would include the transaction, by Agave's `validate_fee_payer`."""
        payer = read(loaded.payer)
        if payer is None:
            return "AccountNotFound"
        if payer.owner != SYSTEM_PROGRAM:
            return "InvalidAccountForFee"
        kept = self._svm.minimum_balance_for_rent_exemption(len(payer.data)) if payer.data else 0
        left = payer.lamports - loaded.fee
        if left < kept:
            return "InsufficientFundsForFee"
        minimum = self._svm.minimum_balance_for_rent_exemption(len(payer.data))
        if 0 < left < minimum <= payer.lamports:
            return {"InsufficientFundsForRent": {"account_index": 0}}
        return None

    def _program_error(self, loaded: Loaded, read: Read) -> Json:
        for instruction in loaded.instructions:
            program = instruction.program_id
            if program in self._models:
                continue
            account = read(program)
            if account is None:
                return "ProgramAccountNotFound"
            if not account.executable:
                return "InvalidProgramForExecution"
        return None

    def _failed(
        self,
        loaded: Loaded,
        read: Read,
        err: Json,
        *,
        logs: Sequence[str] = (),
        units: int = 0,
        inner: tuple[tuple[int, tuple[Inner, ...]], ...] = (),
    ) -> Run:
        payer = read(loaded.payer)
        changes: dict[Pubkey, Account | None] = {}
        if payer is not None:
            changes[loaded.payer] = Account(
                payer.lamports - loaded.fee, payer.data, payer.owner, payer.executable, payer.rent_epoch
            )
        return Run(
            err=err, lands=True, fee=loaded.fee, logs=tuple(limited(logs)), units=units, changes=changes, inner=inner
        )

    def _succeeded(
        self,
        loaded: Loaded,
        read: Read,
        after: Mapping[Pubkey, Account],
        *,
        logs: Sequence[str],
        units: int,
        inner: tuple[tuple[int, tuple[Inner, ...]], ...],
        return_data: tuple[Pubkey, bytes] | None = None,
    ) -> Run:
        changes: dict[Pubkey, Account | None] = {}
        for index, key in enumerate(loaded.keys):
            now = after.get(key)
            if now is None or not loaded.writable[index]:
                continue
            before = read(key)
            if before == now or (before is None and now.lamports == 0):
                continue
            if not self._rent_allows(before, now):
                err: Json = {"InsufficientFundsForRent": {"account_index": index}}
                return self._failed(loaded, read, err, logs=logs, units=units, inner=inner)
            changes[key] = now if now.lamports else None
        return Run(
            err=None,
            lands=True,
            fee=loaded.fee,
            logs=tuple(limited(logs)),
            units=units,
            changes=changes,
            inner=inner,
            return_data=return_data,
        )

    def _rent_allows(self, before: Account | None, now: Account) -> bool:
        """Whether an account may end a transaction so: empty, exempt, or short as before and no richer (Agave)."""
        size = len(now.data)
        if now.lamports == 0 or now.lamports >= self._svm.minimum_balance_for_rent_exemption(size):
            return True
        if before is None or before.lamports >= self._svm.minimum_balance_for_rent_exemption(len(before.data)):
            return False
        return len(before.data) == size and now.lamports <= before.lamports


def _flat(payer: Pubkey, instructions: Sequence[Instruction]) -> MessageV0:
    return MessageV0.try_compile(payer, list(instructions), [], _NO_HASH)


def _renumbered_account(raw: _Raw, loaded: Loaded) -> Json:
    """Return the error with an account index of the original message."""
    err = raw.err
    if isinstance(err, Mapping) and "InsufficientFundsForRent" in err:
        detail = err["InsufficientFundsForRent"]
        index = detail["account_index"] if isinstance(detail, Mapping) else None
        if isinstance(index, int) and raw.keys[index] in loaded.keys:
            return {"InsufficientFundsForRent": {"account_index": loaded.keys.index(raw.keys[index])}}
    return err


def _inner(raw: _Raw, keys: Sequence[Pubkey]) -> tuple[tuple[int, tuple[Inner, ...]], ...]:
    """Return LiteSVM's inner instructions with indexes into `keys`."""
    groups: list[tuple[int, tuple[Inner, ...]]] = []
    for index, calls in enumerate(raw.inner):
        if not calls:
            continue
        positions = [keys.index(key) for key in raw.keys]
        found: list[Inner] = []
        for call in calls:
            compiled = call.instruction()
            height: int = msgspec.json.decode(call.to_json()).get("stack_height", 2)
            found.append(
                Inner(
                    program=positions[compiled.program_id_index],
                    accounts=bytes(positions[each] for each in bytes(compiled.accounts)),
                    data=bytes(compiled.data),
                    stack_height=height,
                )
            )
        groups.append((index, tuple(found)))
    return tuple(groups)


def _inner_of(instruction: Instruction, keys: Sequence[Pubkey]) -> Inner:
    return Inner(
        program=keys.index(instruction.program_id),
        accounts=bytes(keys.index(meta.pubkey) for meta in instruction.accounts),
        data=bytes(instruction.data),
        stack_height=2,
    )
