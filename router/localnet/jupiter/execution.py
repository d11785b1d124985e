"""One instruction being executed: its accounts by name, what was loaded, what is called, what will be written."""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import TypeVar

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import (
    AllocateParams,
    AssignParams,
    CreateAccountParams,
    TransferParams,
    allocate,
    assign,
    create_account,
    transfer,
)

from router.localnet.anchor import account_discriminator
from router.localnet.borsh import Borsh
from router.localnet.jupiter.addresses import event_authority
from router.localnet.jupiter.events import event_data
from router.localnet.jupiter.layouts import SPACE, Content, account_data
from router.localnet.jupiter.refusals import refusal
from router.localnet.programs import Call, Effects, ModelRefusal
from router.localnet.spl import (
    ASSOCIATED_TOKEN_PROGRAM,
    RENT_SYSVAR,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    rent_exempt,
    token_amount,
    token_mint,
    token_owner,
)

__all__ = ["Execution"]

_DISCRIMINATOR = 8
_OVERHEAD = 128
_RENT = struct.Struct("<Qd")
_TOKEN_ACCOUNT = 165
_PROGRAMS = {
    "token_program": TOKEN_PROGRAM,
    "associated_token_program": ASSOCIATED_TOKEN_PROGRAM,
    "system_program": SYSTEM_PROGRAM,
}

C = TypeVar("C", bound=Content)
B = TypeVar("B", bound=Borsh)


class Execution:
    """The state of one run; accounts are decoded once, shared by all who ask, and encoded again at the end.

    Args:
        call: what the runtime hands over.
        name: the instruction's name as the program prints it.
        accounts: its accounts in order, each `name` or `name:flags` with `w` writable, `s` signer, `o` optional (the
            program's own address stands for none).
        keepers: who may execute requests.

    Raises:
        ModelRefusal: an account is missing, is not flagged as it has to be, or is another program than is wanted.
    """

    def __init__(self, call: Call, name: str, accounts: str, keepers: Collection[Pubkey]) -> None:
        self.call = call
        self.program_id = call.program_id
        self.now = call.unix_timestamp
        self.logs: list[str] = [f"Program log: Instruction: {name}"]
        self.instructions: list[Instruction] = []
        self._keepers = keepers
        self._owners: dict[Pubkey, Pubkey] = {}
        self._lamports: dict[Pubkey, int] = {}
        self._loaded: dict[Pubkey, Content] = {}
        self._closed: set[Pubkey] = set()
        self._metas: dict[str, AccountMeta] = {}
        self._take_accounts(accounts.split())

    def _take_accounts(self, entries: list[str]) -> None:
        if len(self.call.accounts) < len(entries):
            raise self.refuse("AccountNotEnoughKeys")
        for entry, meta in zip(entries, self.call.accounts, strict=False):
            name, _, flags = entry.partition(":")
            if "o" in flags and meta.pubkey == self.program_id:
                continue
            if "s" in flags and not meta.is_signer:
                raise self.refuse("AccountNotSigner", name)
            if "w" in flags and not meta.is_writable:
                raise self.refuse("ConstraintMut", name)
            if meta.pubkey != _PROGRAMS.get(name, meta.pubkey) or (
                name == "program" and meta.pubkey != self.program_id
            ):
                raise self.refuse("InvalidProgramId", name)
            if name == "event_authority" and meta.pubkey != event_authority()[0]:
                raise self.refuse("ConstraintSeeds", name)
            self._metas[name] = meta

    # Accounts

    def has(self, name: str) -> bool:
        """Tell whether an optional account was given."""
        return name in self._metas

    def key(self, name: str) -> Pubkey:
        """Return the address of an account."""
        return self._metas[name].pubkey

    def signed(self, name: str) -> bool:
        """Tell whether an account signed."""
        return self._metas[name].is_signer

    def load(self, kind: type[C], name: str) -> C:
        """Return an account's content after the checks of its owner and type; changes to it are written at the end."""
        content = self.load_if_any(kind, name)
        if content is None:
            raise self.refuse("AccountNotInitialized", name)
        return content

    def load_if_any(self, kind: type[C], name: str) -> C | None:
        """Return an account's content, or null when it does not exist yet."""
        key = self.key(name)
        loaded = self._loaded.get(key)
        if isinstance(loaded, kind):
            return loaded
        account = self.read(key)
        if account is None or (account.owner == SYSTEM_PROGRAM and not account.data):
            return None
        fresh = self.decoded(kind, account, name, self.program_id)
        self._loaded[key] = fresh
        return fresh

    def decoded(self, kind: type[C], account: Account, name: str, owner: Pubkey) -> C:
        """Return the content of an account that has to belong to `owner` and be of this kind."""
        if account.owner != owner:
            raise self.refuse("AccountOwnedByWrongProgram", name)
        data = bytes(account.data)
        if len(data) < _DISCRIMINATOR:
            raise self.refuse("AccountDiscriminatorNotFound", name)
        if data[:_DISCRIMINATOR] != account_discriminator(kind.__name__):
            raise self.refuse("AccountDiscriminatorMismatch", name)
        try:
            return kind.decode(data, _DISCRIMINATOR)
        except (struct.error, ValueError) as error:
            raise self.refuse("AccountDidNotDeserialize", name) from error

    def token_account(self, name: str, *, mint: Pubkey, owner: Pubkey) -> int:
        """Return the amount of a token account that has to be of this mint and owner."""
        account = self.read(self.key(name))
        if account is None or account.owner == SYSTEM_PROGRAM:
            raise self.refuse("AccountNotInitialized", name)
        data = bytes(account.data)
        if account.owner != TOKEN_PROGRAM or len(data) != _TOKEN_ACCOUNT:
            raise self.refuse("AccountOwnedByWrongProgram", name)
        if token_mint(data) != mint:
            raise self.refuse("ConstraintTokenMint", name)
        if token_owner(data) != owner:
            raise self.refuse("ConstraintTokenOwner", name)
        return token_amount(data)

    def read(self, key: Pubkey) -> Account | None:
        """Return an account as the instruction found it; one without lamports does not exist."""
        account = self.call.read(key)
        return None if account is None or account.lamports == 0 else account

    def is_keeper(self, name: str) -> bool:
        """Tell whether the account is one of the keepers, and signed."""
        return self._metas[name].is_signer and self.key(name) in self._keepers

    # Arguments

    def params(self, kind: type[B]) -> B:
        """Return the arguments."""
        try:
            return kind.decode(self.call.data, _DISCRIMINATOR)
        except ValueError as error:
            raise self.refuse("InstructionDidNotDeserialize") from error

    # Checks

    def check(self, holds: bool, name: str, account: str | None = None) -> None:  # noqa: FBT001 - reads as a sentence
        """Refuse unless `holds`; a constraint on an account says which."""
        if not holds:
            raise self.refuse(name, account)

    def refuse(self, name: str, account: str | None = None) -> ModelRefusal:
        """Return the refusal with what was printed so far."""
        return refusal(name, self.logs, account=account)

    # What comes out

    def rent(self, space: int) -> int:
        """Return the lamports that exempt `space` bytes, at the cluster's own rent."""
        account = self.call.read(RENT_SYSVAR)
        if account is None:
            return rent_exempt(space)
        lamports, years = _RENT.unpack_from(account.data)
        return int((_OVERHEAD + space) * lamports * years)

    def create(self, name: str, content: Content, payer: Pubkey) -> None:
        """Make an account of the program, paid by `payer`; lamports that somebody sent there before count."""
        key, space = self.key(name), SPACE[type(content)]
        account, needed = self.read(key), self.rent(space)
        if account is None or account.owner != SYSTEM_PROGRAM or account.data:
            # The system program refuses where there is such an account already.
            params = CreateAccountParams(
                from_pubkey=payer, to_pubkey=key, lamports=needed, space=space, owner=self.program_id
            )
            self.instructions.append(create_account(params))
        else:
            missing = max(needed - account.lamports, 0)
            self.instructions += [
                *([transfer(TransferParams(from_pubkey=payer, to_pubkey=key, lamports=missing))] if missing else []),
                allocate(AllocateParams(pubkey=key, space=space)),
                assign(AssignParams(pubkey=key, owner=self.program_id)),
            ]
        self._loaded[key] = content
        self._owners[key] = self.program_id

    def close(self, name: str, receiver: Pubkey) -> None:
        """Close an account of the program and give its lamports to `receiver`."""
        key = self.key(name)
        account = self.read(key)
        lamports = 0 if account is None else account.lamports
        self._lamports[key] = self._lamports.get(key, 0) - lamports
        self._lamports[receiver] = self._lamports.get(receiver, 0) + lamports
        self._loaded.pop(key, None)
        self._closed.add(key)

    def emit(self, event: Borsh) -> None:
        """Emit an event, by a call of the program itself."""
        meta = AccountMeta(event_authority()[0], is_signer=True, is_writable=False)
        self.instructions.append(Instruction(self.program_id, event_data(event), [meta]))

    def effects(self, compute_units: int) -> Effects:
        """Return what the instruction does.

        Raises:
            ModelRefusal: a number left its field (`MathOverflow`).
        """
        writes: dict[Pubkey, bytes] = {}
        try:
            for key, content in self._loaded.items():
                data = account_data(content)
                before = self.call.read(key)
                if key in self._owners or before is None or bytes(before.data) != data:
                    writes[key] = data
        except (struct.error, OverflowError) as error:
            raise self.refuse("MathOverflow") from error
        return Effects(
            instructions=tuple(self.instructions),
            writes=writes,
            owners=self._owners,
            lamports=self._lamports,
            logs=tuple(self.logs),
            compute_units=compute_units,
        )
