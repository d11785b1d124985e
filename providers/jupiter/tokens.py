"""Instructions of the token programs: the accounts that an order pays from and is paid into."""

from __future__ import annotations

from typing import Final

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed

from providers.jupiter.addresses import funding_address, token_address
from providers.jupiter.constants import NATIVE_MINT, TOKEN_ACCOUNT_BYTES
from providers.solana.programs import ASSOCIATED_TOKEN_PROGRAM, SYSTEM_PROGRAM, TOKEN_PROGRAM

__all__ = ["close_token_account", "create_token_account", "wrap_sol"]

# Numbers of the token program's instructions, and of the associated token program's.
_CLOSE_ACCOUNT: Final = 9
_INITIALIZE_ACCOUNT_3: Final = 18
_CREATE_IDEMPOTENT: Final = 1


def create_token_account(owner: Pubkey, mint: Pubkey, payer: Pubkey) -> Instruction:
    """Return the instruction that makes the owner's associated token account, and does nothing where it is there."""
    return Instruction(
        ASSOCIATED_TOKEN_PROGRAM,
        bytes([_CREATE_IDEMPOTENT]),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(token_address(owner, mint), is_signer=False, is_writable=True),
            AccountMeta(owner, is_signer=False, is_writable=False),
            AccountMeta(mint, is_signer=False, is_writable=False),
            AccountMeta(SYSTEM_PROGRAM, is_signer=False, is_writable=False),
            AccountMeta(TOKEN_PROGRAM, is_signer=False, is_writable=False),
        ],
    )


def wrap_sol(owner: Pubkey, seed: str, *, lamports: int, rent: int) -> tuple[Instruction, Instruction]:
    """Return the instructions that make a token account of the owner's holding `lamports` of wrapped SOL.

    What an account of the native mint holds beyond its rent when it is initialized is its amount: nothing needs to be
    transferred or synced. No key signs for its address: it is the owner's, with a seed.

    Args:
        owner: pays, and owns the account.
        seed: see `addresses.funding_seed`.
        lamports: to wrap.
        rent: of the account; it comes back when the account is closed.
    """
    address = funding_address(owner, seed)
    created = create_account_with_seed(
        CreateAccountWithSeedParams(
            from_pubkey=owner,
            to_pubkey=address,
            base=owner,
            seed=seed,
            lamports=rent + lamports,
            space=TOKEN_ACCOUNT_BYTES,
            owner=TOKEN_PROGRAM,
        )
    )
    initialized = Instruction(
        TOKEN_PROGRAM,
        bytes([_INITIALIZE_ACCOUNT_3]) + bytes(owner),
        [
            AccountMeta(address, is_signer=False, is_writable=True),
            AccountMeta(NATIVE_MINT, is_signer=False, is_writable=False),
        ],
    )
    return created, initialized


def close_token_account(account: Pubkey, owner: Pubkey) -> Instruction:
    """Return the instruction that closes a token account into its owner's wallet; wrapped SOL comes out as SOL."""
    return Instruction(
        TOKEN_PROGRAM,
        bytes([_CLOSE_ACCOUNT]),
        [
            AccountMeta(account, is_signer=False, is_writable=True),
            AccountMeta(owner, is_signer=False, is_writable=True),
            AccountMeta(owner, is_signer=True, is_writable=False),
        ],
    )
