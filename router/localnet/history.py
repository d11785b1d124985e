"""Transactions that landed, as far back as the node keeps them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

from router.localnet.messages import Loaded
from router.localnet.runtime import Inner, Run

__all__ = ["TOKEN_2022_PROGRAM", "TOKEN_PROGRAM", "History", "Landed", "TokenBalance", "record", "token_mints"]

TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
_TOKEN_PROGRAMS = frozenset({TOKEN_PROGRAM, TOKEN_2022_PROGRAM})
_TOKEN_ACCOUNT = 165


class TokenBalance(msgspec.Struct, frozen=True, array_like=True):
    """A token account's balance before or after a transaction, in the mint's smallest unit."""

    index: int
    mint: bytes
    owner: bytes
    program: bytes
    amount: int
    decimals: int


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction in a block, successful or not; also the journal's record of it.

    Attributes:
        err: JSON of the RPC's error; `null` on success.
        keys: addresses in the message's order, the loaded ones last; `static` of them stand in the message itself,
            `loaded_writable` of the rest are writable.
        pre, post: lamports by key.
    """

    signature: str
    message_hash: bytes
    signatures: tuple[str, ...]
    slot: int
    wire: bytes
    err: bytes
    fee: int
    logs: tuple[str, ...]
    units: int
    inner: tuple[tuple[int, tuple[Inner, ...]], ...]
    keys: tuple[bytes, ...]
    static: int
    loaded_writable: int
    pre: tuple[int, ...]
    post: tuple[int, ...]
    pre_tokens: tuple[TokenBalance, ...]
    post_tokens: tuple[TokenBalance, ...]
    return_data: tuple[bytes, bytes] | None = None
    priority_price: int = 0
    writable: tuple[bool, ...] = ()


def record(
    wire: bytes,
    message_hash: bytes,
    signatures: Sequence[str],
    *,
    slot: int,
    loaded: Loaded,
    run: Run,
    before: Mapping[Pubkey, Account | None],
    mints: Mapping[Pubkey, Account | None],
) -> Landed:
    """Return the record of a transaction that landed.

    Args:
        wire: the transaction as it was sent.
        message_hash: what the status cache knows it by.
        signatures: its signatures; the first is its name.
        slot: where it landed.
        loaded: its message.
        run: what it did.
        before: its accounts before it.
        mints: accounts of mints that its token accounts may name.
    """
    after = {key: run.changes.get(key, before[key]) for key in loaded.keys}
    return Landed(
        signature=signatures[0],
        message_hash=message_hash,
        signatures=tuple(signatures),
        slot=slot,
        wire=wire,
        err=msgspec.json.encode(run.err),
        fee=run.fee,
        logs=run.logs,
        units=run.units,
        inner=run.inner,
        keys=tuple(bytes(key) for key in loaded.keys),
        static=loaded.static,
        loaded_writable=len(loaded.from_tables[0]),
        pre=_lamports(loaded.keys, before),
        post=_lamports(loaded.keys, after),
        pre_tokens=_tokens(loaded.keys, before, mints),
        post_tokens=_tokens(loaded.keys, after, mints),
        return_data=None if run.return_data is None else (bytes(run.return_data[0]), run.return_data[1]),
        priority_price=-(-loaded.priority_fee * 1_000_000 // max(loaded.compute_limit, 1)),
        writable=loaded.writable,
    )


def token_mints(accounts: Mapping[Pubkey, Account | None]) -> set[Pubkey]:
    """Return the mints that the token accounts among `accounts` belong to."""
    return {
        Pubkey(account.data[:32])
        for account in accounts.values()
        if account is not None and account.owner in _TOKEN_PROGRAMS and len(account.data) >= _TOKEN_ACCOUNT
    }


def _lamports(keys: Sequence[Pubkey], accounts: Mapping[Pubkey, Account | None]) -> tuple[int, ...]:
    found = (accounts[key] for key in keys)
    return tuple(0 if account is None else account.lamports for account in found)


def _tokens(
    keys: Sequence[Pubkey], accounts: Mapping[Pubkey, Account | None], mints: Mapping[Pubkey, Account | None]
) -> tuple[TokenBalance, ...]:
    balances: list[TokenBalance] = []
    for index, key in enumerate(keys):
        account = accounts[key]
        if account is None or account.owner not in _TOKEN_PROGRAMS:
            continue
        data = account.data
        if len(data) < _TOKEN_ACCOUNT:
            continue
        mint = mints.get(Pubkey(data[:32]))
        if mint is None:
            continue
        balances.append(
            TokenBalance(
                index,
                data[:32],
                data[32:64],
                bytes(account.owner),
                int.from_bytes(data[64:72], "little"),
                mint.data[44],
            )
        )
    return tuple(balances)


class History:
    """Landed transactions by signature, by address and in order."""

    def __init__(self) -> None:
        self._in_order: deque[Landed] = deque()
        self._by_signature: dict[str, Landed] = {}
        self._by_message: dict[bytes, Landed] = {}
        self._by_address: dict[bytes, deque[Landed]] = {}

    def __len__(self) -> int:
        return len(self._in_order)

    def __iter__(self) -> Iterator[Landed]:
        return iter(self._in_order)

    def add(self, landed: Landed) -> None:
        """Add the newest transaction."""
        self._in_order.append(landed)
        self._by_signature[landed.signature] = landed
        self._by_message[landed.message_hash] = landed
        for key in landed.keys:
            self._by_address.setdefault(key, deque()).append(landed)

    def get(self, signature: str) -> Landed | None:
        """Return the transaction with `signature`."""
        return self._by_signature.get(signature)

    def of_message(self, message_hash: bytes) -> Landed | None:
        """Return the transaction with this message, whoever signed it."""
        return self._by_message.get(message_hash)

    def newest_first(self) -> Iterator[Landed]:
        """Yield every transaction, the newest first."""
        return reversed(self._in_order)

    def of_address(self, key: bytes) -> Iterator[Landed]:
        """Yield the transactions that name `key`, the newest first."""
        return reversed(self._by_address.get(key, deque()))

    def prune(self, before_slot: int) -> None:
        """Forget what landed before `before_slot`."""
        while self._in_order and self._in_order[0].slot < before_slot:
            landed = self._in_order.popleft()
            self._by_signature.pop(landed.signature, None)
            self._by_message.pop(landed.message_hash, None)
            for key in landed.keys:
                entries = self._by_address[key]
                entries.popleft()
                if not entries:
                    del self._by_address[key]

    def undo(self, slot: int) -> list[Landed]:
        """Take back what landed after `slot` and return it, the newest first."""
        taken: list[Landed] = []
        while self._in_order and self._in_order[-1].slot > slot:
            landed = self._in_order.pop()
            taken.append(landed)
            self._by_signature.pop(landed.signature, None)
            self._by_message.pop(landed.message_hash, None)
            for key in landed.keys:
                entries = self._by_address[key]
                entries.pop()
                if not entries:
                    del self._by_address[key]
        return taken
