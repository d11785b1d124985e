"""Addresses of the program."""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey

__all__ = [
    "DOVES_PROGRAM",
    "EVENT_PREFIX",
    "PERPS_PROGRAM",
    "custody_address",
    "event_authority",
    "lp_mint_address",
    "perpetuals_address",
    "pool_address",
    "position_address",
    "request_address",
    "transfer_authority",
    "vault_address",
]

PERPS_PROGRAM = Pubkey.from_string("PERPHjGBqRHArX4DySjwM6UJHiR3sWAatqfdBS2qQJu")
DOVES_PROGRAM = Pubkey.from_string("DoVEsk76QybCEHQGzkvYPWLQu9gzNoZZZt3TPiL597e")
EVENT_PREFIX = bytes.fromhex("e445a52e51cb9a1d")
"""What an instruction begins with by which a program emits an event."""


@lru_cache(4096)
def _find(*seeds: bytes) -> tuple[Pubkey, int]:
    return Pubkey.find_program_address(seeds, PERPS_PROGRAM)


def perpetuals_address() -> tuple[Pubkey, int]:
    """Return the program's settings, and their bump."""
    return _find(b"perpetuals")


def transfer_authority() -> tuple[Pubkey, int]:
    """Return who signs for the vaults, and its bump."""
    return _find(b"transfer_authority")


def event_authority() -> tuple[Pubkey, int]:
    """Return who signs the program's calls of itself, and its bump."""
    return _find(b"__event_authority")


def pool_address() -> tuple[Pubkey, int]:
    """Return the liquidity pool, and its bump."""
    return _find(b"pool", b"Pool")


def lp_mint_address(pool: Pubkey) -> tuple[Pubkey, int]:
    """Return the mint of the pool's shares, and its bump."""
    return _find(b"lp_token_mint", bytes(pool))


def custody_address(pool: Pubkey, mint: Pubkey) -> tuple[Pubkey, int]:
    """Return the pool's account of a token, and its bump."""
    return _find(b"custody", bytes(pool), bytes(mint))


def vault_address(pool: Pubkey, mint: Pubkey) -> tuple[Pubkey, int]:
    """Return the token account that holds the pool's tokens of a mint, and its bump."""
    return _find(b"custody_token_account", bytes(pool), bytes(mint))


def position_address(
    owner: Pubkey, pool: Pubkey, custody: Pubkey, collateral_custody: Pubkey, side: int
) -> tuple[Pubkey, int]:
    """Return an owner's position on one side (1 long, 2 short), and its bump."""
    return _find(b"position", bytes(owner), bytes(pool), bytes(custody), bytes(collateral_custody), bytes([side]))


def request_address(position: Pubkey, counter: int, change: int) -> tuple[Pubkey, int]:
    """Return a request to change a position (1 increase, 2 decrease), and its bump."""
    return _find(b"position_request", bytes(position), counter.to_bytes(8, "little"), bytes([change]))
