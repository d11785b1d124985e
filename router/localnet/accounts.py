"""Accounts with their versions per slot, over LiteSVM's single state.

LiteSVM knows only now, does not list accounts, and answers a closed account as one with zero lamports. Here every
account that was written keeps a version per slot as far back as any view may look; what was never written (builtin
programs, sysvars) is LiteSVM's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import pybase64
from solders.account import Account
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey

__all__ = ["SYSTEM_PROGRAM", "AccountStore", "Version"]

SYSTEM_PROGRAM = Pubkey.default()
_CLOSED = Account(0, b"", SYSTEM_PROGRAM)


class Version:
    """An account as it was from `slot` on, until the next version."""

    __slots__ = ("_base64", "account", "owner", "size", "slot")

    def __init__(self, slot: int, account: Account | None) -> None:
        self.slot = slot
        self.account = account
        self.owner = None if account is None else account.owner
        self.size = 0 if account is None else len(account.data)
        self._base64: str | None = None

    def base64(self) -> str:
        """Return the data in base64, encoded once."""
        if self._base64 is None:
            self._base64 = "" if self.account is None else pybase64.b64encode_as_string(self.account.data)
        return self._base64


class AccountStore:
    """Every account: now in LiteSVM, and earlier for the views and for lagging nodes."""

    def __init__(self, svm: LiteSVM) -> None:
        self._svm = svm
        self._versions: dict[Pubkey, list[Version]] = {}
        self._by_owner: dict[Pubkey, dict[Pubkey, None]] = {}
        self._touched: deque[tuple[int, Pubkey]] = deque()
        self._outside: set[Pubkey] = set()
        # What the runtime writes by itself in every slot (the clock): made for the slot that is looked at.
        self.derived: dict[Pubkey, Callable[[int], Account]] = {}

    def current(self, key: Pubkey) -> Account | None:
        """Return the account now, or null when it does not exist."""
        versions = self._versions.get(key)
        if versions is not None:
            return versions[-1].account
        account = self._svm.get_account(key)
        return None if account is None or account.lamports == 0 else account

    def at(self, key: Pubkey, slot: int) -> Version | None:
        """Return the account's version at the end of `slot`, or null when it did not exist."""
        derived = self.derived.get(key)
        if derived is not None:
            return Version(slot, derived(slot))
        versions = self._versions.get(key)
        if versions is None:
            account = self._svm.get_account(key)
            return None if account is None or account.lamports == 0 else Version(0, account)
        for version in reversed(versions):
            if version.slot <= slot:
                return version if version.account is not None else None
        return None

    def changed_after(self, key: Pubkey, slot: int) -> bool:
        """Whether the account was written after `slot`."""
        versions = self._versions.get(key)
        return versions is not None and versions[-1].slot > slot

    def put(self, key: Pubkey, account: Account | None, slot: int, *, in_svm: bool = True) -> None:
        """Write an account in `slot`; null or zero lamports closes it.

        Args:
            key: its address.
            account: what it becomes.
            slot: the current slot.
            in_svm: false for the stand-in of a modelled program, which LiteSVM must not load.
        """
        if account is not None and account.lamports == 0:
            account = None
        if in_svm:
            self._svm.set_account(key, _CLOSED if account is None else account)
            self._outside.discard(key)
        else:
            self._outside.add(key)
        versions = self._versions.setdefault(key, [])
        if versions and versions[-1].slot == slot:
            versions[-1] = Version(slot, account)
        else:
            versions.append(Version(slot, account))
            self._touched.append((slot, key))
        owner = versions[-1].owner
        if owner is not None:
            self._by_owner.setdefault(owner, {})[key] = None

    def owned_by(self, owner: Pubkey, slot: int) -> list[tuple[Pubkey, Version]]:
        """Return the accounts that `owner` owned at the end of `slot`, in order of their first writing."""
        found: list[tuple[Pubkey, Version]] = []
        gone: list[Pubkey] = []
        keys = self._by_owner.get(owner, {})
        for key in keys:
            version = self.at(key, slot)
            if version is not None and version.owner == owner:
                found.append((key, version))
            elif all(each.owner != owner for each in self._versions[key]):
                gone.append(key)
        for key in gone:
            del keys[key]
        return found

    def collapse(self, slot: int) -> None:
        """Drop versions that no view at `slot` or later can see."""
        while self._touched and self._touched[0][0] <= slot:
            _, key = self._touched.popleft()
            versions = self._versions.get(key)
            if versions is None:
                continue
            keep = 0
            while keep + 1 < len(versions) and versions[keep + 1].slot <= slot:
                keep += 1
            del versions[:keep]

    def undo(self, slot: int) -> None:
        """Take back every write after `slot` (a fork); writes older than the retained views stay."""
        for touched, key in [entry for entry in self._touched if entry[0] > slot]:
            versions = self._versions[key]
            if versions[-1].slot != touched:
                continue
            while versions and versions[-1].slot > slot:
                versions.pop()
            account = versions[-1].account if versions else None
            if not versions:
                versions.append(Version(slot, None))
            if key not in self._outside:
                self._svm.set_account(key, _CLOSED if account is None else account)
        self._touched = deque(entry for entry in self._touched if entry[0] <= slot)

    def everything(self) -> Iterator[tuple[Pubkey, Account | None]]:
        """Yield every written account that LiteSVM holds, as it is now; null marks a closed one."""
        for key, versions in self._versions.items():
            if key not in self._outside:
                yield key, versions[-1].account
