"""Token mints and token accounts as bytes, and the few token and system facts that a world needs."""

from __future__ import annotations

import struct

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

__all__ = [
    "ASSOCIATED_TOKEN_PROGRAM",
    "RENT_SYSVAR",
    "SYSTEM_PROGRAM",
    "TOKEN_PROGRAM",
    "associated_token_account",
    "mint_account",
    "rent_exempt",
    "token_account",
    "token_amount",
    "token_mint",
    "token_owner",
    "transfer_tokens",
    "with_more_supply",
    "with_token_amount",
    "wrapped_sol",
]

SYSTEM_PROGRAM = Pubkey.from_string("11111111111111111111111111111111")
TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
RENT_SYSVAR = Pubkey.from_string("SysvarRent111111111111111111111111111111111")

_MINT = struct.Struct("<I32sQBBI32s")
_TOKEN = struct.Struct("<32s32sQI32sBIQQI32s")
_TOKEN_AMOUNT = struct.Struct("<Q")
_TOKEN_AMOUNT_OFFSET = 64
_SUPPLY_OFFSET = 36
_NATIVE = struct.Struct("<IQ")
_NATIVE_OFFSET = 109
_INITIALIZED = 1
_LAMPORTS_PER_BYTE = 6_960
_ACCOUNT_OVERHEAD = 128
_TRANSFER = 3


def rent_exempt(space: int) -> int:
    """Return the lamports that free an account of `space` bytes from rent, at the cluster's default rent."""
    return (_ACCOUNT_OVERHEAD + space) * _LAMPORTS_PER_BYTE


def mint_account(authority: Pubkey, *, supply: int, decimals: int) -> Account:
    """Return a mint; `supply` in the token's smallest unit."""
    data = _MINT.pack(1, bytes(authority), supply, decimals, _INITIALIZED, 0, bytes(32))
    return Account(rent_exempt(len(data)), data, TOKEN_PROGRAM)


def token_account(mint: Pubkey, owner: Pubkey, amount: int) -> Account:
    """Return a token account; `amount` in the token's smallest unit."""
    none = bytes(32)
    data = _TOKEN.pack(bytes(mint), bytes(owner), amount, 0, none, _INITIALIZED, 0, 0, 0, 0, none)
    return Account(rent_exempt(len(data)), data, TOKEN_PROGRAM)


def token_amount(data: bytes) -> int:
    """Return the amount of a token account, in the token's smallest unit."""
    (amount,) = _TOKEN_AMOUNT.unpack_from(data, _TOKEN_AMOUNT_OFFSET)
    return int(amount)


def token_mint(data: bytes) -> Pubkey:
    """Return the mint of a token account."""
    return Pubkey(data[:32])


def token_owner(data: bytes) -> Pubkey:
    """Return the owner of a token account."""
    return Pubkey(data[32:64])


def with_more_supply(mint: Account, amount: int) -> Account:
    """Return the mint with `amount` more in the world."""
    data = bytearray(mint.data)
    (supply,) = _TOKEN_AMOUNT.unpack_from(data, _SUPPLY_OFFSET)
    _TOKEN_AMOUNT.pack_into(data, _SUPPLY_OFFSET, supply + amount)
    return Account(mint.lamports, bytes(data), mint.owner)


def with_token_amount(account: Account, amount: int) -> Account:
    """Return the token account holding `amount` instead."""
    data = bytearray(account.data)
    _TOKEN_AMOUNT.pack_into(data, _TOKEN_AMOUNT_OFFSET, amount)
    return Account(account.lamports, bytes(data), account.owner)


def wrapped_sol(mint: Pubkey, owner: Pubkey, lamports: int) -> Account:
    """Return a token account that holds wrapped SOL: it says how many of its own lamports are rent."""
    account = token_account(mint, owner, lamports)
    data = bytearray(account.data)
    _NATIVE.pack_into(data, _NATIVE_OFFSET, 1, account.lamports)
    return Account(account.lamports + lamports, bytes(data), account.owner)


def associated_token_account(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the wallet's usual account for a mint."""
    seeds = [bytes(owner), bytes(TOKEN_PROGRAM), bytes(mint)]
    return Pubkey.find_program_address(seeds, ASSOCIATED_TOKEN_PROGRAM)[0]


def transfer_tokens(source: Pubkey, destination: Pubkey, owner: Pubkey, amount: int) -> Instruction:
    """Return the token program's transfer, signed by `owner`."""
    metas = [AccountMeta(source, False, True), AccountMeta(destination, False, True), AccountMeta(owner, True, False)]
    return Instruction(TOKEN_PROGRAM, struct.pack("<BQ", _TRANSFER, amount), metas)
