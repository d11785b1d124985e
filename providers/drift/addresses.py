"""Program-derived addresses of Drift, each derived once (a derivation costs twenty microseconds, a hit nothing)."""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey

__all__ = [
    "perp_market_address",
    "signer_address",
    "spot_market_address",
    "spot_vault_address",
    "state_address",
    "user_address",
    "user_stats_address",
]


@lru_cache(maxsize=4096)
def _derive(program_id: Pubkey, *seeds: bytes) -> Pubkey:
    return Pubkey.find_program_address(seeds, program_id)[0]


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def state_address(program_id: Pubkey) -> Pubkey:
    """Return the address of the exchange's `State`."""
    return _derive(program_id, b"drift_state")


def signer_address(program_id: Pubkey) -> Pubkey:
    """Return the address that the program signs token transfers with."""
    return _derive(program_id, b"drift_signer")


def perp_market_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return the address of a perp market."""
    return _derive(program_id, b"perp_market", _u16(market_index))


def spot_market_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return the address of a spot market."""
    return _derive(program_id, b"spot_market", _u16(market_index))


def spot_vault_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return the token vault of a spot market."""
    return _derive(program_id, b"spot_market_vault", _u16(market_index))


def user_address(program_id: Pubkey, authority: Pubkey, sub_account_id: int) -> Pubkey:
    """Return the address of a sub-account of `authority`."""
    return _derive(program_id, b"user", bytes(authority), _u16(sub_account_id))


def user_stats_address(program_id: Pubkey, authority: Pubkey) -> Pubkey:
    """Return the address of what all sub-accounts of `authority` share."""
    return _derive(program_id, b"user_stats", bytes(authority))
