"""Transactions as the chain recorded them: typed, checked, and free of the node's loose JSON."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Annotated

import msgspec
import pybase64
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from providers.base.errors import BadAnswer
from providers.solana.base58 import decode_base58
from providers.solana.logs import data_of, trace

__all__ = [
    "InnerInstruction",
    "ProgramFailure",
    "TransactionRecord",
    "decode_transaction",
    "events_of",
    "parse_failure",
    "programs_of",
]


class ProgramFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a transaction failed.

    Attributes:
        instruction_index: of the top-level instruction, in the whole message; null when the transaction as a whole
            was refused.
        program_id: of the innermost program that failed where the logs are complete, else of the top-level
            instruction; null with `instruction_index`.
        code: the program's custom code.
        kind: the runtime's own name, `Custom` for a program's code (`BlockhashNotFound`, `ProgramFailedToComplete`).
    """

    instruction_index: int | None
    program_id: str | None
    code: int | None
    kind: str


class InnerInstruction(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction that a program called; `parent` is the index of the top-level instruction."""

    parent: int
    program_id: Pubkey
    accounts: tuple[Pubkey, ...]
    data: bytes
    stack_height: int | None


class TransactionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A landed transaction.

    Attributes:
        err: null when it executed.
        logs_complete: the last line of every instruction that ran is there and nothing was truncated; only then is a
            line that is *missing* evidence.
        account_keys: static and loaded, in the runtime's order.
        pre_balances, post_balances: lamports of `account_keys`.
        programs: program of each top-level instruction.
        signers: keys that signed.
        finalized: read at `finalized`.
        wire: the signed bytes.
        inner_known: the node says which instructions its programs called; only then is one that is *missing* evidence.
    """

    signature: str
    slot: int
    block_time: int | None
    err: ProgramFailure | None
    logs: tuple[str, ...]
    logs_complete: bool
    account_keys: tuple[Pubkey, ...]
    pre_balances: tuple[int, ...]
    post_balances: tuple[int, ...]
    inner_instructions: tuple[InnerInstruction, ...]
    programs: tuple[str, ...]
    signers: tuple[Pubkey, ...]
    fee: int
    finalized: bool
    wire: bytes
    inner_known: bool = True

    def took(self, key: Pubkey) -> bool:
        """Whether it executed and took the balance of `key` from 0 to more."""
        if self.err is not None or key not in self.account_keys:
            return False
        index = self.account_keys.index(key)
        return self.pre_balances[index] == 0 and self.post_balances[index] > 0

    def given_to(self, key: Pubkey) -> int:
        """Return the lamports that `key` held after it."""
        return self.post_balances[self.account_keys.index(key)] if key in self.account_keys else 0


def events_of(record: TransactionRecord, program_id: str | Pubkey) -> tuple[bytes, ...]:
    """Return the event payloads that `program_id` itself logged, in order; empty when the transaction failed."""
    return () if record.err is not None else data_of(record.logs, str(program_id))


# Slots, heights and lamports: all far below 2^63, which is as far as the bounds of a decoder go.
_COUNT = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Loaded(msgspec.Struct, frozen=True):
    writable: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()


class _InnerCall(msgspec.Struct, frozen=True, rename="camel"):
    program_id_index: int
    accounts: tuple[int, ...]
    data: str
    stack_height: int | None = None


class _Inner(msgspec.Struct, frozen=True):
    index: int
    instructions: tuple[_InnerCall, ...]


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    err: msgspec.Raw
    fee: _COUNT
    pre_balances: tuple[_COUNT, ...]
    post_balances: tuple[_COUNT, ...]
    log_messages: tuple[str, ...] | None = None
    inner_instructions: tuple[_Inner, ...] | None = None
    loaded_addresses: _Loaded | None = None


class _Transaction(msgspec.Struct, frozen=True, rename="camel"):
    slot: _COUNT
    transaction: tuple[str, str]
    meta: _Meta
    block_time: int | None = None


_ERR = msgspec.json.Decoder(str | dict[str, msgspec.Raw] | None)
_INSTRUCTION_ERROR = msgspec.json.Decoder(tuple[int, str | dict[str, msgspec.Raw]])
_CUSTOM = msgspec.json.Decoder(int)
_TRANSACTION = msgspec.json.Decoder(_Transaction | None)


def parse_failure(raw: bytes | msgspec.Raw, logs: Sequence[str], programs: Sequence[str]) -> ProgramFailure | None:
    """Read a `TransactionError` as JSON; null stays null.

    Raises:
        BadAnswer: not the shape of one.
    """
    try:
        err = _ERR.decode(raw)
        if err is None:
            return None
        if isinstance(err, str):
            return ProgramFailure(instruction_index=None, program_id=None, code=None, kind=err)
        kind, detail = next(iter(err.items()))
        if kind != "InstructionError":
            return ProgramFailure(instruction_index=None, program_id=None, code=None, kind=kind)
        index, inner = _INSTRUCTION_ERROR.decode(detail)
        name = inner if isinstance(inner, str) else next(iter(inner))
        code = None if isinstance(inner, str) or name != "Custom" else _CUSTOM.decode(inner[name])
        outer = programs[index]
    except (msgspec.DecodeError, StopIteration, IndexError) as error:
        raise BadAnswer("a transaction error that cannot be read") from error
    seen = trace(logs, programs, index)
    program = seen.failed_program if seen.complete and seen.failed_program is not None else outer
    return ProgramFailure(instruction_index=index, program_id=program, code=code, kind=name)


def programs_of(wire: bytes) -> tuple[str, ...]:
    """Return the program of each top-level instruction of a transaction."""
    message = VersionedTransaction.from_bytes(wire).message
    # Programs are never loaded from lookup tables.
    return tuple(str(message.account_keys[each.program_id_index]) for each in message.instructions)


def decode_transaction(raw: bytes | msgspec.Raw, signature: str, *, finalized: bool) -> TransactionRecord | None:
    """Read an answer of `getTransaction` in base64 encoding; null stays null.

    Raises:
        BadAnswer: it cannot be read, or it is not the transaction that was asked for.
    """
    try:
        answer = _TRANSACTION.decode(raw)
        if answer is None:
            return None
        wire = pybase64.b64decode(answer.transaction[0], validate=True)
        return _record(answer, wire, signature, finalized=finalized)
    except BadAnswer:
        raise
    except (msgspec.DecodeError, binascii.Error, ValueError, IndexError, TypeError) as error:
        raise BadAnswer("a transaction that cannot be read") from error


def _record(answer: _Transaction, wire: bytes, signature: str, *, finalized: bool) -> TransactionRecord:
    transaction = VersionedTransaction.from_bytes(wire)
    if str(transaction.signatures[0]) != signature:
        raise BadAnswer("the node answered another transaction than the one that was asked for")
    message, meta = transaction.message, answer.meta
    loaded = meta.loaded_addresses or _Loaded()
    keys = (*message.account_keys, *map(Pubkey.from_string, (*loaded.writable, *loaded.readonly)))
    if not len(keys) == len(meta.pre_balances) == len(meta.post_balances):
        raise BadAnswer("balances of a transaction do not match its accounts")
    programs = tuple(str(keys[each.program_id_index]) for each in message.instructions)
    logs = meta.log_messages or ()
    err = parse_failure(meta.err, logs, programs)
    failed_index = None if err is None else err.instruction_index
    inner = tuple(
        InnerInstruction(
            parent=group.index,
            program_id=keys[call.program_id_index],
            accounts=tuple(keys[index] for index in call.accounts),
            data=decode_base58(call.data),
            stack_height=call.stack_height,
        )
        for group in meta.inner_instructions or ()
        for call in group.instructions
    )
    return TransactionRecord(
        signature=signature,
        slot=answer.slot,
        block_time=answer.block_time,
        err=err,
        logs=logs,
        logs_complete=meta.log_messages is not None and trace(logs, programs, failed_index).complete,
        account_keys=keys,
        pre_balances=meta.pre_balances,
        post_balances=meta.post_balances,
        inner_instructions=inner,
        programs=programs,
        signers=tuple(message.account_keys[: message.header.num_required_signatures]),
        fee=meta.fee,
        finalized=finalized,
        wire=wire,
        inner_known=meta.inner_instructions is not None,
    )
