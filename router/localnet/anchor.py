"""What venue programs that are built with Anchor share: discriminators, error codes, how a refusal is printed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from router.localnet.programs import ModelPanic, ModelRefusal

__all__ = [
    "ANCHOR_CODES",
    "account_discriminator",
    "event_discriminator",
    "instruction_discriminator",
    "panic",
    "refusal_of",
]

ANCHOR_CODES: Mapping[str, int] = {
    "InstructionMissing": 100,
    "InstructionFallbackNotFound": 101,
    "InstructionDidNotDeserialize": 102,
    "ConstraintMut": 2000,
    "ConstraintHasOne": 2001,
    "ConstraintRaw": 2003,
    "ConstraintSeeds": 2006,
    "ConstraintAssociated": 2009,
    "ConstraintAddress": 2012,
    "ConstraintTokenMint": 2014,
    "ConstraintTokenOwner": 2015,
    "RequireViolated": 2500,
    "RequireEqViolated": 2501,
    "RequireKeysEqViolated": 2502,
    "RequireNeqViolated": 2503,
    "RequireKeysNeqViolated": 2504,
    "RequireGtViolated": 2505,
    "RequireGteViolated": 2506,
    "AccountDiscriminatorAlreadySet": 3000,
    "AccountDiscriminatorNotFound": 3001,
    "AccountDiscriminatorMismatch": 3002,
    "AccountDidNotDeserialize": 3003,
    "AccountNotEnoughKeys": 3005,
    "AccountNotMutable": 3006,
    "AccountOwnedByWrongProgram": 3007,
    "InvalidProgramId": 3008,
    "AccountNotSigner": 3010,
    "AccountNotInitialized": 3012,
    "AccountSysvarMismatch": 3015,
}
"""The framework's errors by name (anchor-lang's `ErrorCode`)."""


def refusal_of(
    codes: Mapping[str, int], name: str, logs: Sequence[str] = (), *, account: str | None = None
) -> ModelRefusal:
    """Return the refusal with this name; the last log line is the framework's, as clients parse it.

    Args:
        codes: the program's errors and the framework's.
        name: the error's name.
        logs: what was printed before.
        account: the account that an account check failed on.
    """
    code = codes[name]
    cause = "occurred" if account is None else f"caused by account: {account}"
    line = f"Program log: AnchorError {cause}. Error Code: {name}. Error Number: {code}. Error Message: {name}."
    return ModelRefusal(code, name, (*logs, line))


def panic(reason: str, logs: Sequence[str] = ()) -> ModelPanic:
    """Return the failure of a program that aborts, as it does where it relies on something that does not hold."""
    return ModelPanic((*logs, f"Program log: panicked: {reason}"))


@lru_cache
def _discriminator(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:8]


def account_discriminator(name: str) -> bytes:
    """Return the first 8 bytes of an account of this type."""
    return _discriminator(f"account:{name}")


def event_discriminator(name: str) -> bytes:
    """Return the first 8 bytes of an event (behind a tag of its own where it is not printed)."""
    return _discriminator(f"event:{name}")


def instruction_discriminator(name: str) -> bytes:
    """Return the first 8 bytes of an instruction, by its snake_case name."""
    return _discriminator(f"global:{name}")
