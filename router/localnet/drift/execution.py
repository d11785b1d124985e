"""One instruction being executed: its accounts, what was loaded, what is printed, what will be written."""

from __future__ import annotations

import base64
import struct
from typing import TypeVar

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator
from router.localnet.codec import Layout
from router.localnet.drift.refusals import refusal
from router.localnet.programs import Call, Effects, ModelRefusal
from router.localnet.spl import SYSTEM_PROGRAM

__all__ = ["Execution"]

L = TypeVar("L", bound=Layout)

_DISCRIMINATOR = 8


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
        self.logs: list[str] = [f"Program log: Instruction: {name}"]
        self.instructions: list[Instruction] = []
        self.owners: dict[Pubkey, Pubkey] = {}
        self._loaded: dict[Pubkey, Layout] = {}
        self._created: dict[Pubkey, Layout] = {}
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

    def peek(self) -> AccountMeta | None:
        """Return the next account without taking it."""
        return self.call.accounts[self._next] if self._next < len(self.call.accounts) else None

    def signer(self, name: str, *, writable: bool = False) -> Pubkey:
        """Take an account that has to have signed."""
        meta = self.take()
        if not meta.is_signer:
            raise self.refuse("AccountNotSigner", name)
        if writable:
            self.check_writable(meta, name)
        return meta.pubkey

    def check_writable(self, meta: AccountMeta, name: str) -> None:
        """Refuse an account that the transaction may not write."""
        if not meta.is_writable:
            raise self.refuse("ConstraintMut", name)

    def take_account(self, layout: type[L], name: str, *, boxed: bool = False) -> tuple[AccountMeta, L]:
        """Take an account of the program.

        Args:
            layout: its type.
            name: its name in the instruction, for the log.
            boxed: it is checked as an ordinary account (the State): one that does not exist has its own code.
        """
        meta = self.take()
        account = self.read(meta.pubkey)
        if boxed and account is None:
            raise self.refuse("AccountNotInitialized", name)
        if account is None or account.owner != self.program_id:
            raise self.refuse("AccountOwnedByWrongProgram", name)
        if len(account.data) < _DISCRIMINATOR:
            raise self.refuse("AccountDiscriminatorNotFound", name)
        if account.data[:_DISCRIMINATOR] != account_discriminator(layout.__name__):
            raise self.refuse("AccountDiscriminatorMismatch", name)
        return meta, self.load(layout, meta.pubkey)

    # State

    def read(self, key: Pubkey) -> Account | None:
        """Return an account as the instruction found it; one without lamports does not exist."""
        account = self.call.read(key)
        return None if account is None or account.lamports == 0 else account

    def has_type(self, key: Pubkey, layout: type[Layout]) -> bool:
        """Tell whether the account's bytes are of this type, whoever owns it."""
        account = self.read(key)
        if account is None or len(account.data) < _DISCRIMINATOR + layout.size():
            return False
        return account.data[:_DISCRIMINATOR] == account_discriminator(layout.__name__)

    def load(self, layout: type[L], key: Pubkey) -> L:
        """Return the account's content; changes to it are written at the end."""
        loaded = self._loaded.get(key)
        if isinstance(loaded, layout):
            return loaded
        account = self.read(key)
        if account is None:
            raise self.refuse("AccountOwnedByWrongProgram")
        fresh = layout.decode(account.data, _DISCRIMINATOR)
        self._loaded[key] = fresh
        return fresh

    def create(self, key: Pubkey, content: Layout) -> None:
        """Say what a new account of the program holds; the caller adds the instructions that make it."""
        self._created[key] = content
        self.owners[key] = self.program_id

    # What comes out

    def log(self, line: str) -> None:
        """Print a line."""
        self.logs.append(f"Program log: {line}")

    def emit(self, event: bytes) -> None:
        """Print an event the framework's way."""
        self.logs.append(f"Program data: {base64.b64encode(event).decode()}")

    def emit_order(self, event: bytes) -> None:
        """Print an order's event: this build prints those as an ordinary log line."""
        self.log(base64.b64encode(event).decode())

    def refuse(self, name: str, account: str | None = None) -> ModelRefusal:
        """Return the refusal with what was printed so far."""
        return refusal(name, self.logs, account=account)

    def check(self, holds: bool, name: str, *lines: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Refuse unless `holds`, with the lines that explain it."""
        if not holds:
            for line in lines:
                self.log(line)
            raise self.refuse(name)

    def effects(self, compute_units: int) -> Effects:
        """Return what the instruction does.

        Raises:
            ModelRefusal: a number left its field, which the program's checked arithmetic refuses.
        """
        writes: dict[Pubkey, bytes] = {}
        try:
            for key, content in (self._loaded | self._created).items():
                data = account_discriminator(type(content).__name__) + content.encode()
                before = self.call.read(key)
                if before is None or before.owner == SYSTEM_PROGRAM or bytes(before.data) != data:
                    writes[key] = data
        except (struct.error, OverflowError) as error:
            raise self.refuse("CastingFailure") from error
        return Effects(
            instructions=tuple(self.instructions),
            writes=writes,
            owners=self.owners,
            logs=tuple(self.logs),
            compute_units=compute_units,
        )
