"""How a venue's program can be modelled inside the embedded cluster.

A model sees one instruction of a transaction at a time, as the program would: accounts in order with their flags, the
data, the state as the earlier instructions left it. It answers with effects or refuses with the program's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

__all__ = ["Call", "Effects", "ModelPanic", "ModelRefusal", "ProgramModel"]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction as the runtime would hand it to the program.

    Attributes:
        accounts: in the instruction's order, with the transaction's signer and writable flags.
        read: the account as it is now, earlier instructions of the transaction included; null when absent.
        slot, unix_timestamp: the cluster's clock.
    """

    program_id: Pubkey
    accounts: tuple[AccountMeta, ...]
    data: bytes
    read: Callable[[Pubkey], Account | None]
    slot: int
    unix_timestamp: int


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What the instruction does when the transaction succeeds as a whole.

    Attributes:
        instructions: system and token instructions run in its place, inside the real transaction; addresses that the
            program could sign for may be signers. Those of the program itself are not run: they are the calls by which
            it emits events, and stand in the transaction's inner instructions.
        writes: account data to be written after success; the account keeps its lamports, and its owner where `owners`
            names no other.
        lamports: changes of balances made directly by the program (its own accounts may pay); they sum to zero, and an
            account left with none is closed.
        logs: lines between the program's `invoke` and `success`, as the program would print them
            (`Program log: ...`, `Program data: <base64>`).
        compute_units: what the program would have used.
    """

    instructions: tuple[Instruction, ...] = ()
    writes: Mapping[Pubkey, bytes] = msgspec.field(default_factory=dict[Pubkey, bytes])
    owners: Mapping[Pubkey, Pubkey] = msgspec.field(default_factory=dict[Pubkey, Pubkey])
    lamports: Mapping[Pubkey, int] = msgspec.field(default_factory=dict[Pubkey, int])
    logs: tuple[str, ...] = ()
    compute_units: int = 50_000


class ModelRefusal(Exception):
    """The program fails with a custom code; `logs` are what it printed before."""

    def __init__(self, code: int, name: str, logs: tuple[str, ...] = ()) -> None:
        super().__init__(f"{name} ({code})")
        self.code = code
        self.name = name
        self.logs = logs


class ModelPanic(ModelRefusal):
    """The program aborts: the runtime answers `ProgramFailedToComplete`, without a code of the program's own."""

    def __init__(self, logs: tuple[str, ...] = ()) -> None:
        super().__init__(0, "ProgramFailedToComplete", logs)


class ProgramModel(Protocol):
    """A venue's program in Python."""

    @property
    def program_id(self) -> Pubkey:
        """The address that the model stands at."""
        ...

    def execute(self, call: Call) -> Effects:
        """Run one instruction; raise `ModelRefusal` where the program would fail."""
        ...
