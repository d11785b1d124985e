"""The order lock's address and instruction (DESIGN 6). The system program does the rest.

Of all transactions that carry `CreateAccountWithSeed` for one address at most one can ever succeed, on whatever venue,
since the second finds lamports there and fails as a whole with custom error 0.
"""

from __future__ import annotations

from functools import lru_cache

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import (
    ID,
    CreateAccountWithSeedParams,
    TransferWithSeedParams,
    create_account_with_seed,
    transfer_with_seed,
)

from providers.base.types import LockRef

__all__ = ["ACCOUNT_IN_USE", "RESULT_WITH_NEGATIVE_LAMPORTS", "lock_address", "lock_instruction", "reclaim_instruction"]

# Custom errors of the system program (SystemError).
ACCOUNT_IN_USE = 0
RESULT_WITH_NEGATIVE_LAMPORTS = 1


def lock_address(lock: LockRef) -> Pubkey:
    """Return the address of one generation of an order's lock."""
    return _address(lock.terms.base, lock.seed)


def lock_instruction(lock: LockRef, *, payer: Pubkey, number: int) -> Instruction:
    """Return the instruction that takes the lock.

    Args:
        lock: the generation.
        payer: gives the lamports.
        number: of the attempt (k, from 1); 0 is the fence. It makes every attempt's bytes differ.
    """
    return create_account_with_seed(
        CreateAccountWithSeedParams(
            from_pubkey=payer,
            to_pubkey=lock_address(lock),
            base=Pubkey.from_string(lock.terms.base),
            seed=lock.seed,
            lamports=lock.terms.base_lamports + number,
            space=0,
            owner=ID,
        )
    )


def reclaim_instruction(lock: LockRef, *, to: Pubkey, lamports: int) -> Instruction:
    """Return the instruction that gives the lamports of a lock back, all of them: less would leave it below rent."""
    return transfer_with_seed(
        TransferWithSeedParams(
            from_pubkey=lock_address(lock),
            from_base=Pubkey.from_string(lock.terms.base),
            from_seed=lock.seed,
            from_owner=ID,
            to_pubkey=to,
            lamports=lamports,
        )
    )


@lru_cache(maxsize=4096)
def _address(base: str, seed: str) -> Pubkey:
    return Pubkey.create_with_seed(Pubkey.from_string(base), seed, ID)
