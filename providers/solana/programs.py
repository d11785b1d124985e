"""Programs of Solana itself that every venue's transactions name."""

from __future__ import annotations

from typing import Final

from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM

__all__ = ["ASSOCIATED_TOKEN_PROGRAM", "SYSTEM_PROGRAM", "TOKEN_PROGRAM"]

ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
