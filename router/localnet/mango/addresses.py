"""Addresses of the program."""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey

__all__ = [
    "MANGO_PROGRAM",
    "PYTH_RECEIVER",
    "bank_address",
    "group_address",
    "insurance_vault_address",
    "mango_account_address",
    "mint_info_address",
    "perp_market_address",
    "vault_address",
]

MANGO_PROGRAM = Pubkey.from_string("4MangoMjqJ2firMokCjjGgoK8d4MXcrgL7XJaL3w6fVg")
PYTH_RECEIVER = Pubkey.from_string("rec5EKMGg6MxZYaMdyBfgwp4d5rB9T1VQH5pJv5LtFJ")


def _find(program_id: Pubkey, *seeds: bytes) -> tuple[Pubkey, int]:
    return Pubkey.find_program_address(seeds, program_id)


def _little(value: int, width: int) -> bytes:
    return value.to_bytes(width, "little")


@lru_cache
def group_address(program_id: Pubkey, creator: Pubkey, group_num: int = 0) -> tuple[Pubkey, int]:
    """Return a group and its bump."""
    return _find(program_id, b"Group", bytes(creator), _little(group_num, 4))


@lru_cache
def mango_account_address(program_id: Pubkey, group: Pubkey, owner: Pubkey, account_num: int = 0) -> tuple[Pubkey, int]:
    """Return a trader's account and its bump."""
    return _find(program_id, b"MangoAccount", bytes(group), bytes(owner), _little(account_num, 4))


@lru_cache
def perp_market_address(program_id: Pubkey, group: Pubkey, market_index: int) -> tuple[Pubkey, int]:
    """Return a perpetual market and its bump."""
    return _find(program_id, b"PerpMarket", bytes(group), _little(market_index, 2))


@lru_cache
def bank_address(program_id: Pubkey, group: Pubkey, token_index: int, bank_num: int = 0) -> tuple[Pubkey, int]:
    """Return a token's bank and its bump."""
    return _find(program_id, b"Bank", bytes(group), _little(token_index, 2), _little(bank_num, 4))


@lru_cache
def vault_address(program_id: Pubkey, group: Pubkey, token_index: int, bank_num: int = 0) -> tuple[Pubkey, int]:
    """Return the token account that holds a bank's deposits, and its bump."""
    return _find(program_id, b"Vault", bytes(group), _little(token_index, 2), _little(bank_num, 4))


@lru_cache
def mint_info_address(program_id: Pubkey, group: Pubkey, mint: Pubkey) -> tuple[Pubkey, int]:
    """Return what the group knows of a mint, and its bump."""
    return _find(program_id, b"MintInfo", bytes(group), bytes(mint))


@lru_cache
def insurance_vault_address(program_id: Pubkey, group: Pubkey) -> tuple[Pubkey, int]:
    """Return the group's insurance fund, and its bump."""
    return _find(program_id, b"InsuranceVault", bytes(group))
