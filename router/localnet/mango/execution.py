"""One instruction being executed: its accounts, what was loaded, what is printed, what will be written."""

from __future__ import annotations

import base64
import struct
from typing import Protocol, Self, TypeVar

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator
from router.localnet.mango.enums import IxGate
from router.localnet.mango.layouts import Group
from router.localnet.mango.refusals import panic, refusal
from router.localnet.programs import Call, Effects, ModelPanic, ModelRefusal
from router.localnet.spl import SYSTEM_PROGRAM

__all__ = ["Content", "Execution"]

_DISCRIMINATOR = 8


class Content(Protocol):
    """What an account of the program holds after its discriminator; the class has the account type's name."""

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read it from the account's bytes."""
        ...

    def encode(self) -> bytes:
        """Return the bytes."""
        ...


C = TypeVar("C", bound=Content)


class Execution:
    """The state of one run; accounts are decoded once, shared by all who ask, and encoded again at the end.

    Args:
        call: what the runtime hands over.
        name: the instruction's name as the program prints it.
    """

    def __init__(self, call: Call, name: str) -> None:
        self.call = call
        self.program_id = call.program_id
        self.now = call.unix_timestamp
        self.slot = call.slot
        self.args = call.data[_DISCRIMINATOR:]
        self.logs: list[str] = [f"Program log: Instruction: {name}"]
        self.instructions: list[Instruction] = []
        self.owners: dict[Pubkey, Pubkey] = {}
        self.lamports: dict[Pubkey, int] = {}
        self._loaded: dict[Pubkey, Content] = {}
        self._created: dict[Pubkey, Content] = {}
        self._next = 0

    # Accounts, in the instruction's order

    def take(self) -> AccountMeta:
        """Return the next account of the instruction.

        Raises:
            ModelRefusal: there is none.
        """
        if self._next >= len(self.call.accounts):
            raise self.refuse("AccountNotEnoughKeys")
        self._next += 1
        return self.call.accounts[self._next - 1]

    def remaining(self) -> tuple[AccountMeta, ...]:
        """Return the accounts that were not taken."""
        return self.call.accounts[self._next :]

    def signer(self, name: str) -> AccountMeta:
        """Take an account that has to have signed."""
        meta = self.take()
        if not meta.is_signer:
            raise self.refuse("AccountNotSigner", name)
        return meta

    def take_account(self, layout: type[C], name: str) -> tuple[AccountMeta, C]:
        """Take an account of the program; what else has to hold is checked after all were taken.

        Args:
            layout: its type.
            name: its name in the instruction, for the log.
        """
        meta = self.take()
        return meta, self.open(layout, meta.pubkey, name)

    def open(self, layout: type[C], key: Pubkey, name: str | None = None) -> C:
        """Return an account's content after the checks of its owner and type; changes to it are written at the end."""
        account = self.read(key)
        if account is None or account.owner != self.program_id:
            raise self.refuse("AccountOwnedByWrongProgram", name)
        if len(account.data) < _DISCRIMINATOR:
            raise self.refuse("AccountDiscriminatorNotFound", name)
        if account.data[:_DISCRIMINATOR] != account_discriminator(layout.__name__):
            raise self.refuse("AccountDiscriminatorMismatch", name)
        loaded = self._created.get(key, self._loaded.get(key))
        if isinstance(loaded, layout):
            return loaded
        try:
            fresh = layout.decode(account.data, _DISCRIMINATOR)
        except (struct.error, ValueError) as error:
            raise self.panic("range end index out of range") from error
        self._loaded[key] = fresh
        return fresh

    # Checks that many instructions share

    def check_writable(self, meta: AccountMeta, name: str) -> None:
        """Refuse an account that the transaction may not write."""
        if not meta.is_writable:
            raise self.refuse("ConstraintMut", name)

    def check_gate(self, group: Group, gate: IxGate) -> None:
        """Refuse an instruction that the group has switched off."""
        if group.ix_gate >> gate & 1:
            raise self.refuse("IxIsDisabled", "group")

    def check_same(self, expected: Pubkey, given: Pubkey, name: str) -> None:
        """Refuse where an account names another one than was given; `name` is the account that names it."""
        if expected != given:
            raise self.refuse("ConstraintHasOne", name)

    def check(self, holds: bool, name: str, account: str | None = None) -> None:  # noqa: FBT001 - reads as a sentence
        """Refuse unless `holds`; a constraint on an account says which."""
        if not holds:
            raise self.refuse(name, account)

    def rely(self, holds: bool, reason: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Abort unless `holds`, as the program does where it asserts."""
        if not holds:
            raise self.panic(reason)

    # State

    def read(self, key: Pubkey) -> Account | None:
        """Return an account as the instruction found it; one without lamports does not exist."""
        account = self.call.read(key)
        return None if account is None or account.lamports == 0 else account

    def has_type(self, key: Pubkey, layout: type[Content]) -> bool:
        """Tell whether the account is the program's and of this type."""
        account = self.read(key)
        if account is None or account.owner != self.program_id:
            return False
        return account.data[:_DISCRIMINATOR] == account_discriminator(layout.__name__)

    def create(self, key: Pubkey, content: Content) -> None:
        """Say what a new account of the program holds; the caller adds the instructions that make it."""
        self._created[key] = content
        self.owners[key] = self.program_id

    def replace(self, key: Pubkey, content: Content) -> None:
        """Say what an account holds from now on."""
        self._loaded[key] = content

    # What comes out

    def log(self, line: str) -> None:
        """Print a line."""
        self.logs.append(f"Program log: {line}")

    def emit(self, event: bytes) -> None:
        """Print an event."""
        self.logs.append(f"Program data: {base64.b64encode(event).decode()}")

    def refuse(self, name: str, account: str | None = None) -> ModelRefusal:
        """Return the refusal with what was printed so far."""
        return refusal(name, self.logs, account=account)

    def panic(self, reason: str) -> ModelPanic:
        """Return the abort with what was printed so far."""
        return panic(reason, self.logs)

    def effects(self, compute_units: int) -> Effects:
        """Return what the instruction does.

        Raises:
            ModelPanic: a number left its field, where the program's arithmetic aborts.
        """
        writes: dict[Pubkey, bytes] = {}
        try:
            for key, content in (self._loaded | self._created).items():
                data = account_discriminator(type(content).__name__) + content.encode()
                before = self.call.read(key)
                if before is None or before.owner == SYSTEM_PROGRAM or bytes(before.data) != data:
                    writes[key] = data
        except (struct.error, OverflowError) as error:
            raise self.panic("attempt to compute with overflow") from error
        return Effects(
            instructions=tuple(self.instructions),
            writes=writes,
            owners=self.owners,
            lamports=self.lamports,
            logs=tuple(self.logs),
            compute_units=compute_units,
        )
