"""Addresses of the program."""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey

__all__ = [
    "DRIFT_PROGRAM",
    "USDC_ORACLE",
    "insurance_vault_address",
    "perp_market_address",
    "signer_address",
    "spot_market_address",
    "spot_vault_address",
    "state_address",
    "user_address",
    "user_stats_address",
]

DRIFT_PROGRAM = Pubkey.from_string("dRiftyHA39MWEi3m9aunc5MzRF1JYuBsbn6VPcn33UH")

# The mainnet build reads this one account as a stable coin's price; any other Pyth account as a plain one.
USDC_ORACLE = Pubkey.from_string("Gnt27xtC473ZT2Mw5u8wZ68Z3gULkSTb5DuxJy7eJotD")


def _find(program_id: Pubkey, *seeds: bytes) -> Pubkey:
    return Pubkey.find_program_address(seeds, program_id)[0]


def _indexed(program_id: Pubkey, seed: bytes, market_index: int) -> Pubkey:
    return _find(program_id, seed, market_index.to_bytes(2, "little"))


@lru_cache
def state_address(program_id: Pubkey) -> Pubkey:
    """Return the exchange's account."""
    return _find(program_id, b"drift_state")


@lru_cache
def signer_address(program_id: Pubkey) -> tuple[Pubkey, int]:
    """Return the address that owns the vaults, and its bump."""
    return Pubkey.find_program_address([b"drift_signer"], program_id)


@lru_cache
def user_address(program_id: Pubkey, authority: Pubkey, sub_account_id: int = 0) -> Pubkey:
    """Return a trader's sub-account."""
    return _find(program_id, b"user", bytes(authority), sub_account_id.to_bytes(2, "little"))


@lru_cache
def user_stats_address(program_id: Pubkey, authority: Pubkey) -> Pubkey:
    """Return what a trader's sub-accounts share."""
    return _find(program_id, b"user_stats", bytes(authority))


@lru_cache
def perp_market_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return a perpetual market."""
    return _indexed(program_id, b"perp_market", market_index)


@lru_cache
def spot_market_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return a spot market."""
    return _indexed(program_id, b"spot_market", market_index)


@lru_cache
def spot_vault_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return the token account with a spot market's deposits."""
    return _indexed(program_id, b"spot_market_vault", market_index)


@lru_cache
def insurance_vault_address(program_id: Pubkey, market_index: int) -> Pubkey:
    """Return the token account with a spot market's insurance fund."""
    return _indexed(program_id, b"insurance_fund_vault", market_index)
