"""Program-derived addresses of Jupiter Perps, each derived once: a derivation costs twenty microseconds.

Oracles are accounts of another program: a custody names its own.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from providers.jupiter.constants import RequestChange, Side
from providers.solana.programs import TOKEN_PROGRAM

__all__ = [
    "custody_address",
    "custody_token_address",
    "escrow_address",
    "event_authority_address",
    "funding_address",
    "funding_seed",
    "perpetuals_address",
    "pool_address",
    "position_address",
    "request_address",
    "token_address",
    "transfer_authority_address",
]


@lru_cache(maxsize=4096)
def _derive(program_id: Pubkey, *seeds: bytes) -> Pubkey:
    return Pubkey.find_program_address(seeds, program_id)[0]


def perpetuals_address(program_id: Pubkey) -> Pubkey:
    """Return the address of the program's global state."""
    return _derive(program_id, b"perpetuals")


def event_authority_address(program_id: Pubkey) -> Pubkey:
    """Return the address that signs the program's events."""
    return _derive(program_id, b"__event_authority")


def transfer_authority_address(program_id: Pubkey) -> Pubkey:
    """Return the owner of the custodies' token accounts."""
    return _derive(program_id, b"transfer_authority")


def pool_address(program_id: Pubkey, name: str) -> Pubkey:
    """Return the address of a pool by its name (`Pool`)."""
    return _derive(program_id, b"pool", name.encode())


def custody_address(program_id: Pubkey, pool: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the address of a pool's custody of a token."""
    return _derive(program_id, b"custody", bytes(pool), bytes(mint))


def custody_token_address(program_id: Pubkey, pool: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the token account that a custody keeps its tokens in."""
    return _derive(program_id, b"custody_token_account", bytes(pool), bytes(mint))


def position_address(
    program_id: Pubkey, *, owner: Pubkey, pool: Pubkey, custody: Pubkey, collateral_custody: Pubkey, side: Side
) -> Pubkey:
    """Return the address of an owner's position in one market, on one side, on one collateral."""
    seeds = (bytes(owner), bytes(pool), bytes(custody), bytes(collateral_custody), bytes([side]))
    return _derive(program_id, b"position", *seeds)


def request_address(program_id: Pubkey, position: Pubkey, counter: int, change: RequestChange) -> Pubkey:
    """Return the address of a request on a position; `counter` is a number of the owner's choice (u64)."""
    return _derive(program_id, b"position_request", bytes(position), counter.to_bytes(8, "little"), bytes([change]))


@lru_cache(maxsize=4096)
def token_address(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the owner's associated token account of `mint`."""
    return get_associated_token_address(owner, mint)


def escrow_address(request: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the token account that a request keeps its collateral in while it waits."""
    return token_address(request, mint)


def funding_seed(order_id: str, number: int) -> str:
    """Return the seed of the token account that an attempt to open wraps its SOL in: 32 hexadecimal digits."""
    return sha256(f"funding:{order_id}:{number}".encode()).hexdigest()[:32]


@lru_cache(maxsize=4096)
def funding_address(owner: Pubkey, seed: str) -> Pubkey:
    """Return the address of that token account; no key of it exists, the owner's is its base."""
    return Pubkey.create_with_seed(owner, seed, TOKEN_PROGRAM)
