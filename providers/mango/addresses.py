"""Program-derived addresses of Mango v4, each derived once (a derivation costs twenty microseconds, a hit nothing).

Order books, event queues and oracles are ordinary accounts: a market names them.
"""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey

__all__ = [
    "bank_address",
    "group_address",
    "insurance_vault_address",
    "mango_account_address",
    "mint_info_address",
    "perp_market_address",
    "vault_address",
]


@lru_cache(maxsize=4096)
def _derive(program_id: Pubkey, *seeds: bytes) -> Pubkey:
    return Pubkey.find_program_address(seeds, program_id)[0]


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def group_address(program_id: Pubkey, creator: Pubkey, group_num: int) -> Pubkey:
    """Return the address of a group: a deployment's markets, tokens and accounts."""
    return _derive(program_id, b"Group", bytes(creator), _u32(group_num))


def mango_account_address(program_id: Pubkey, group: Pubkey, owner: Pubkey, account_num: int) -> Pubkey:
    """Return the address of a trading account."""
    return _derive(program_id, b"MangoAccount", bytes(group), bytes(owner), _u32(account_num))


def perp_market_address(program_id: Pubkey, group: Pubkey, market_index: int) -> Pubkey:
    """Return the address of a perp market."""
    return _derive(program_id, b"PerpMarket", bytes(group), _u16(market_index))


def bank_address(program_id: Pubkey, group: Pubkey, token_index: int, bank_num: int = 0) -> Pubkey:
    """Return the address of a token's bank."""
    return _derive(program_id, b"Bank", bytes(group), _u16(token_index), _u32(bank_num))


def vault_address(program_id: Pubkey, group: Pubkey, token_index: int, bank_num: int = 0) -> Pubkey:
    """Return the token account that a bank keeps its tokens in."""
    return _derive(program_id, b"Vault", bytes(group), _u16(token_index), _u32(bank_num))


def mint_info_address(program_id: Pubkey, group: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the address of what a group knows of a mint: its token index, banks, vaults and oracle."""
    return _derive(program_id, b"MintInfo", bytes(group), bytes(mint))


def insurance_vault_address(program_id: Pubkey, group: Pubkey) -> Pubkey:
    """Return the token account of a group's insurance fund."""
    return _derive(program_id, b"InsuranceVault", bytes(group))
