"""Transactions with instructions of modelled programs.

Each modelled instruction is replaced in place by the system and token instructions that the model answers with; these
run in LiteSVM together with the rest of the transaction, the program's addresses as signers. A refusal ends the
transaction at its index, after all that stands before it has run. Account data that the models write is laid over the
result. Nothing is kept here: a transaction fails as a whole by not being kept.

What a model reads: the state after everything before it in the same transaction, by running the instructions so far
(only when one of them can have changed anything).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from solders.account import Account
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from router.localnet.logs import consumed, nested, split
from router.localnet.messages import COMPUTE_BUDGET_PROGRAM, Loaded
from router.localnet.programs import Call, Effects, ModelPanic, ModelRefusal, ProgramModel
from router.localnet.txerrors import custom, describe, instruction_error
from router.localnet.wire import Json

__all__ = ["Plan", "PlanResult", "Prefix"]


class Prefix(msgspec.Struct, frozen=True, kw_only=True):
    """What LiteSVM made of the instructions so far."""

    err: Json
    logs: list[str]
    units: int
    after: Mapping[Pubkey, Account]


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the transaction does, in terms of its own instructions."""

    err: Json
    logs: list[str]
    units: int
    after: Mapping[Pubkey, Account]
    inner: list[tuple[int, tuple[Instruction, ...]]]


class _Step(msgspec.Struct, kw_only=True):
    """One instruction of the transaction: as it is, or a model's effects or refusal in its place."""

    program: Pubkey
    effects: Effects | None = None
    refusal: ModelRefusal | None = None
    fault: str | None = None
    count: int = 1


class Plan:
    """One transaction on its way through the models and LiteSVM."""

    def __init__(
        self,
        loaded: Loaded,
        models: Mapping[Pubkey, ProgramModel],
        read: Callable[[Pubkey], Account | None],
        simulate: Callable[[Sequence[Instruction]], Prefix],
        *,
        slot: int,
        unix_timestamp: int,
    ) -> None:
        self._loaded = loaded
        self._models = models
        self._base = read
        self._simulate = simulate
        self._slot = slot
        self._unix_timestamp = unix_timestamp
        self._instructions: list[Instruction] = []
        self._steps: list[_Step] = []
        self._data: dict[Pubkey, bytes] = {}
        self._owners: dict[Pubkey, Pubkey] = {}
        self._lamports: dict[Pubkey, int] = {}
        self._prefix: tuple[int, Prefix] | None = None

    def run(self) -> PlanResult:
        """Run the whole transaction."""
        for instruction in self._loaded.instructions:
            model = self._models.get(instruction.program_id)
            if model is None:
                self._instructions.append(instruction)
                self._steps.append(_Step(program=instruction.program_id))
                continue
            step = self._call(model, instruction)
            self._steps.append(step)
            if step.effects is None:
                break
        return self._result(self._so_far())

    def _call(self, model: ProgramModel, instruction: Instruction) -> _Step:
        call = Call(
            program_id=instruction.program_id,
            accounts=tuple(instruction.accounts),
            data=bytes(instruction.data),
            read=self._read,
            slot=self._slot,
            unix_timestamp=self._unix_timestamp,
        )
        try:
            effects = model.execute(call)
        except ModelRefusal as refusal:
            return _Step(program=instruction.program_id, refusal=refusal, count=0)
        fault = _forbidden(instruction, effects)
        if fault is not None:
            return _Step(program=instruction.program_id, fault=fault, count=0)
        called = _run_in_litesvm(instruction.program_id, effects)
        self._instructions.extend(called)
        self._data.update(effects.writes)
        self._owners.update(effects.owners)
        for key, change in effects.lamports.items():
            self._lamports[key] = self._lamports.get(key, 0) + change
        return _Step(program=instruction.program_id, effects=effects, count=len(called))

    def _so_far(self) -> Prefix:
        if self._prefix is None or self._prefix[0] != len(self._instructions):
            self._prefix = (len(self._instructions), self._simulate(self._instructions))
        return self._prefix[1]

    def _read(self, key: Pubkey) -> Account | None:
        """Return the account as the instructions so far left it."""
        account = self._base(key)
        if key in self._loaded.keys:
            if any(instruction.program_id != COMPUTE_BUDGET_PROGRAM for instruction in self._instructions):
                account = self._so_far().after.get(key, account)
            elif key == self._loaded.payer and account is not None:
                account = Account(account.lamports - self._loaded.fee, account.data, account.owner)
        if account is None or account.lamports == 0:
            return None
        return self._laid_over(key, account)

    def _laid_over(self, key: Pubkey, account: Account) -> Account:
        if key not in self._data and key not in self._owners and key not in self._lamports:
            return account
        return Account(
            account.lamports + self._lamports.get(key, 0),
            self._data.get(key, account.data),
            self._owners.get(key, account.owner),
            account.executable,
            account.rent_epoch,
        )

    def _result(self, prefix: Prefix) -> PlanResult:
        """Return the outcome in the transaction's own indexes, with the log that the real programs would print."""
        groups = split(prefix.logs, [instruction.program_id for instruction in self._instructions])
        failed_at, error = _instruction_failure(prefix.err)
        logs: list[str] = []
        inner: list[tuple[int, tuple[Instruction, ...]]] = []
        used = position = 0
        for index, step in enumerate(self._steps):
            own = groups[position : position + step.count]
            fails = failed_at is not None and position <= failed_at < position + step.count
            position += step.count
            if step.effects is None and step.refusal is None and step.fault is None:
                logs.extend(line for group in own for line in group)
                used += sum(consumed(group) for group in own)
            else:
                if step.effects is not None and step.effects.instructions:
                    inner.append((index, _called(step, own, fails=fails)))
                own_error = self._model_error(step, used, index, error if fails else None)
                units = min(_units(step), self._loaded.compute_limit - used)
                logs.extend(_log(step, own, own_error, units, self._loaded.compute_limit - used, called=not fails))
                used += units
                if own_error is not None:
                    return self._failure(own_error, logs, used, inner)
            if fails:
                return self._failure(instruction_error(index, error), logs, used, inner)
        if prefix.err is not None:
            return self._failure(prefix.err, logs, used, inner)
        after = {key: self._laid_over(key, account) for key, account in prefix.after.items()}
        for key in {*self._data, *self._owners, *self._lamports} - after.keys():
            account = self._base(key)
            if account is None:
                raise LookupError(f"a model wrote {key}, which does not exist")
            after[key] = self._laid_over(key, account)
        return PlanResult(err=None, logs=logs, units=used, after=after, inner=inner)

    def _model_error(self, step: _Step, used: int, index: int, called: Json) -> Json:
        if called is not None:
            return instruction_error(index, called)
        if used + _units(step) > self._loaded.compute_limit:
            return instruction_error(index, "ProgramFailedToComplete")
        if isinstance(step.refusal, ModelPanic):
            return instruction_error(index, "ProgramFailedToComplete")
        if step.refusal is not None:
            return custom(index, step.refusal.code)
        return None if step.fault is None else instruction_error(index, step.fault)

    @staticmethod
    def _failure(err: Json, logs: list[str], used: int, inner: list[tuple[int, tuple[Instruction, ...]]]) -> PlanResult:
        return PlanResult(err=err, logs=logs, units=used, after={}, inner=inner)


_EVENT_UNITS = 2_000  # what a program uses to emit an event by calling itself
_REFUSAL_UNITS = 5_000  # what a program has typically used when it refuses


def _units(step: _Step) -> int:
    return _REFUSAL_UNITS if step.effects is None else step.effects.compute_units


def _run_in_litesvm(program: Pubkey, effects: Effects) -> list[Instruction]:
    """Return the calls of a model that do something: those of itself only show what it emits."""
    return [instruction for instruction in effects.instructions if instruction.program_id != program]


def _called(step: _Step, groups: Sequence[Sequence[str]], *, fails: bool) -> tuple[Instruction, ...]:
    """Return the calls that were made: where one fails, it is the last."""
    assert step.effects is not None  # noqa: S101 - only steps with effects call anything
    instructions = step.effects.instructions
    if not fails:
        return instructions
    left = sum(1 for group in groups if group)
    for position, instruction in enumerate(instructions):
        left -= instruction.program_id != step.program
        if left <= 0 and instruction.program_id != step.program:
            return instructions[: position + 1]
    return instructions


def _instruction_failure(err: Json) -> tuple[int | None, Json]:
    """Return the index and the error of a failed instruction; (null, null) for anything else."""
    if isinstance(err, Mapping) and "InstructionError" in err:
        value = err["InstructionError"]
        if isinstance(value, list) and isinstance(value[0], int):
            return value[0], value[1]
    return None, None


def _forbidden(instruction: Instruction, effects: Effects) -> str | None:
    """Return the runtime's error when the effects reach beyond the accounts that the instruction was given."""
    writable = {meta.pubkey for meta in instruction.accounts if meta.is_writable}
    given = {meta.pubkey for meta in instruction.accounts} | {instruction.program_id}
    for called in effects.instructions:
        if called.program_id not in given or any(meta.pubkey not in given for meta in called.accounts):
            return "MissingAccount"
        if any(meta.is_writable and meta.pubkey not in writable for meta in called.accounts):
            return "PrivilegeEscalation"
    if not writable.issuperset(effects.lamports):
        return "ReadonlyLamportChange"
    if sum(effects.lamports.values()):
        return "UnbalancedInstruction"
    return None if writable.issuperset({*effects.writes, *effects.owners}) else "ReadonlyDataModified"


def _self_call(program: Pubkey, remaining: int) -> list[str]:
    """Return what a program prints that calls itself to emit an event."""
    return [
        f"Program {program} invoke [2]",
        f"Program {program} consumed {_EVENT_UNITS} of {remaining} compute units",
        f"Program {program} success",
    ]


def _log(
    step: _Step, groups: Sequence[Sequence[str]], err: Json, units: int, remaining: int, *, called: bool
) -> list[str]:
    """Return what the real program would have printed."""
    program = step.program
    lines = [f"Program {program} invoke [1]"]
    waiting = iter(groups)
    for instruction in () if step.effects is None else step.effects.instructions:
        if instruction.program_id != program:
            group = next(waiting, ())
            lines.extend(nested(group))
            if not group or group[-1].startswith(f"Program {instruction.program_id} failed"):
                break
        else:
            lines.extend(_self_call(program, remaining))
    if step.effects is not None and called:
        lines.extend(step.effects.logs)
    if step.refusal is not None:
        lines.extend(step.refusal.logs)
    lines.append(f"Program {program} consumed {units} of {remaining} compute units")
    if err is None:
        lines.append(f"Program {program} success")
    else:
        words = describe(err).split(": ", 1)[-1]
        lines.append(f"Program {program} failed: {words}")
    return lines
