"""What a program's refusal means: the part of the tables that every Solana venue shares, and how they are asked.

The key is program id and numeric code, never a text. A venue adds the table of its own program's codes; Anchor's, the
system program's and the token program's are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from providers.base.errors import (
    AccountMissing,
    ErrorInfo,
    FeePayerShort,
    InsufficientCollateral,
    Phase,
    ProviderError,
    RequestRejected,
    UnknownCode,
    UnsupportedProgram,
    VenueHalted,
)
from providers.solana.errors import error_of_transaction
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM
from providers.solana.records import ProgramFailure

__all__ = ["ANCHOR_ERRORS", "Refusal", "at_phase", "error_of_failure", "refusals"]

Leaf = type[ProviderError]


class Refusal(msgspec.Struct, frozen=True):
    """What one code stands for: the program's own name, and the leaf that it is raised as."""

    name: str
    leaf: Leaf

    def error(self, code: int, detail: str = "") -> ProviderError:
        """Return it as an error, phase `not_sent`, named as the program names it."""
        return self.leaf(detail or self.name, raw_code=code, raw_name=self.name)


def refusals(groups: Mapping[Leaf, str]) -> dict[int, Refusal]:
    """Read a table from `code Name` pairs listed by leaf; raise `ValueError` where a code is listed twice."""
    table: dict[int, Refusal] = {}
    for leaf, text in groups.items():
        words = text.split()
        for code, name in zip(words[::2], words[1::2], strict=True):
            if int(code) in table:
                raise ValueError(f"code {code} is listed twice")
            table[int(code)] = Refusal(name, leaf)
    return table


# Anchor answers before the program's own code runs. Numbers as of anchor-lang 0.29 to 0.31.
ANCHOR_ERRORS: Final[Mapping[int, Refusal]] = refusals(
    {
        # Every instruction was taken out of the program: the venue is halted, whatever its accounts say.
        VenueHalted: "101 InstructionFallbackNotFound",
        # A trading account that does not exist belongs to the system program, and is empty.
        AccountMissing: "3007 AccountOwnedByWrongProgram 3012 AccountNotInitialized",
        UnsupportedProgram: "4100 DeclaredProgramIdMismatch 5000 Deprecated",
        RequestRejected: """
            100 InstructionMissing 102 InstructionDidNotDeserialize 103 InstructionDidNotSerialize
            1000 IdlInstructionStub 1001 IdlInstructionInvalidProgram 1002 IdlAccountNotEmpty 1500 EventInstructionStub
            2000 ConstraintMut 2001 ConstraintHasOne 2002 ConstraintSigner 2003 ConstraintRaw 2004 ConstraintOwner
            2005 ConstraintRentExempt 2006 ConstraintSeeds 2007 ConstraintExecutable 2008 ConstraintState
            2009 ConstraintAssociated 2010 ConstraintAssociatedInit 2011 ConstraintClose 2012 ConstraintAddress
            2013 ConstraintZero 2014 ConstraintTokenMint 2015 ConstraintTokenOwner 2016 ConstraintMintMintAuthority
            2017 ConstraintMintFreezeAuthority 2018 ConstraintMintDecimals 2019 ConstraintSpace
            2020 ConstraintAccountIsNone 2021 ConstraintTokenTokenProgram 2022 ConstraintMintTokenProgram
            2023 ConstraintAssociatedTokenTokenProgram
            2500 RequireViolated 2501 RequireEqViolated 2502 RequireKeysEqViolated 2503 RequireNeqViolated
            2504 RequireKeysNeqViolated 2505 RequireGtViolated 2506 RequireGteViolated
            3000 AccountDiscriminatorAlreadySet 3001 AccountDiscriminatorNotFound 3002 AccountDiscriminatorMismatch
            3003 AccountDidNotDeserialize 3004 AccountDidNotSerialize 3005 AccountNotEnoughKeys 3006 AccountNotMutable
            3008 InvalidProgramId 3009 InvalidProgramExecutable 3010 AccountNotSigner 3011 AccountNotSystemOwned
            3013 AccountNotProgramData 3014 AccountNotAssociatedTokenAccount 3015 AccountSysvarMismatch
            3016 AccountReallocExceedsLimit 3017 AccountDuplicateReallocs 4101 TryingToInitPayerAsProgramAccount
            4102 InvalidNumericConversion""",
    }
)

# Programs that venues' transactions call beside the venue's own.
_SYSTEM_ERRORS: Final[Mapping[int, Refusal]] = refusals(
    {
        FeePayerShort: "1 ResultWithNegativeLamports",
        RequestRejected: """
            0 AccountAlreadyInUse 2 InvalidProgramId 3 InvalidAccountDataLength 4 MaxSeedLengthExceeded
            5 AddressWithSeedMismatch 6 NonceNoRecentBlockhashes 7 NonceBlockhashNotExpired
            8 NonceUnexpectedBlockhashValue""",
    }
)
_TOKEN_ERRORS: Final[Mapping[int, Refusal]] = refusals(
    {
        InsufficientCollateral: "1 InsufficientFunds",
        FeePayerShort: "0 NotRentExempt",
        RequestRejected: """
            2 InvalidMint 3 MintMismatch 4 OwnerMismatch 5 FixedSupply 6 AlreadyInUse 7 InvalidNumberOfProvidedSigners
            8 InvalidNumberOfRequiredSigners 9 UninitializedState 10 NativeNotSupported 11 NonNativeHasBalance
            12 InvalidInstruction 13 InvalidState 14 Overflow 15 AuthorityTypeNotSupported 16 MintCannotFreeze
            17 AccountFrozen 18 MintDecimalsMismatch 19 NonNativeNotSupported""",
    }
)

# Failures of one instruction that carry no code, by Solana's name for them (the runtime's InstructionError).
_RUNTIME_FAILURES: Final[Mapping[str, Leaf]] = {
    "InsufficientFunds": FeePayerShort,
    "IncorrectProgramId": UnsupportedProgram,
    "UnsupportedProgramId": UnsupportedProgram,
    "AccountNotExecutable": UnsupportedProgram,
    "MissingAccount": RequestRejected,
    "NotEnoughAccountKeys": RequestRejected,
    "MissingRequiredSignature": RequestRejected,
    "InvalidInstructionData": RequestRejected,
    "InvalidArgument": RequestRejected,
}

_FIRST_ANCHOR_CODE: Final = 100
_FIRST_PROGRAM_CODE: Final = 6000
_INNER_TABLES: Final[Mapping[str, Mapping[int, Refusal]]] = {
    str(SYSTEM_PROGRAM): _SYSTEM_ERRORS,
    str(TOKEN_PROGRAM): _TOKEN_ERRORS,
}


def error_of_failure(failure: ProgramFailure, codes: Mapping[int, Refusal], *, program_id: str) -> ProviderError:
    """Return what a failed simulation or transaction means, phase `not_sent` (see `at_phase`).

    Args:
        failure: instruction, program and code, as the node reported them.
        codes: the table of the venue's own program, an Anchor program.
        program_id: the deployment of it that the adapter stands on.
    """
    code = failure.code
    if code is None:
        if failure.instruction_index is None:
            return error_of_transaction(failure.kind)
        leaf = _RUNTIME_FAILURES.get(failure.kind, UnknownCode)
        return leaf(f"the runtime refused: {failure.kind}", raw_name=failure.kind)
    refusal: Refusal | None = None
    if failure.program_id == program_id:
        # A code below 100 at the venue's instruction comes from a program that it called, and which one is not known.
        if code >= _FIRST_PROGRAM_CODE:
            refusal = codes.get(code)
        elif code >= _FIRST_ANCHOR_CODE:
            refusal = ANCHOR_ERRORS.get(code)
    elif failure.program_id is not None:
        refusal = _INNER_TABLES.get(failure.program_id, {}).get(code)
    if refusal is None:
        where = failure.program_id or "an unknown program"
        return UnknownCode(f"code {code} of {where}", raw_code=code)
    return refusal.error(code)


def at_phase(error: ProviderError, phase: Phase) -> ErrorInfo:
    """Return the error as a record of `phase`."""
    return msgspec.structs.replace(error.info(), phase=phase)
