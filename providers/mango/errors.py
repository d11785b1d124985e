"""What Mango's refusals mean: every code of its program, of Anchor, and of the system and token programs.

The key is program id and numeric code. Codes are listed by leaf of `providers.base.errors`; each of the 73 codes of the
interface description is in exactly one list, and a test holds that. One failure has no code: the program panics when
the market's event queue is full, which only its log tells from an exhausted compute budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import msgspec

from providers.base.errors import (
    AccountMissing,
    BeingLiquidated,
    CustodyLimit,
    ErrorInfo,
    FeePayerShort,
    InsufficientCollateral,
    MarketPaused,
    MarketReduceOnly,
    NodeBehind,
    NoFreeSlot,
    NoLiquidity,
    OracleStale,
    Phase,
    ProviderError,
    RequestRejected,
    UnknownCode,
    UnsupportedProgram,
    UserReduceOnly,
    VenueHalted,
)
from providers.mango.constants import SYSTEM_PROGRAM, TOKEN_PROGRAM
from providers.solana.errors import error_of_transaction
from providers.solana.records import ProgramFailure

__all__ = ["MANGO_ERRORS", "Refusal", "at_phase", "classify", "mango_refusal"]

Leaf = type[ProviderError]


class Refusal(msgspec.Struct, frozen=True):
    """What one code stands for: the venue's own name, and the leaf that it is raised as."""

    name: str
    leaf: Leaf


def _table(groups: Mapping[Leaf, str]) -> dict[int, Refusal]:
    """Read `code Name` pairs by leaf."""
    table: dict[int, Refusal] = {}
    for leaf, text in groups.items():
        words = text.split()
        for code, name in zip(words[::2], words[1::2], strict=True):
            if int(code) in table:
                raise ValueError(f"code {code} is listed twice")
            table[int(code)] = Refusal(name, leaf)
    return table


MANGO_ERRORS: Final[Mapping[int, Refusal]] = _table(
    {
        InsufficientCollateral: "6006 HealthMustBePositive 6007 HealthMustBePositiveOrIncrease 6072 InvalidHealth",
        MarketPaused: "6042 IxIsDisabled",
        VenueHalted: "6032 GroupIsHalted",
        MarketReduceOnly: "6030 TokenInReduceOnlyMode 6031 MarketInReduceOnlyMode 6046 TokenInForceClose",
        # Caps of a token or of the whole group: what a deposit, a withdrawal or a borrow meets.
        CustodyLimit: """
            6015 InsufficentBankVaultFunds 6026 BankBorrowLimitReached 6027 BankNetBorrowsLimitReached
            6041 DepositLimit 6062 BankDepositLimit""",
        # The venue cannot price now; it passes with the next update.
        OracleStale: """
            6023 OracleConfidence 6024 OracleStale 6066 InvalidCLMMOracle 6067 InvalidFeedForCLMMOracle""",
        NoFreeSlot: "6011 NoFreeTokenPositionIndex 6013 NoFreePerpPositionIndex",
        BeingLiquidated: "6009 IsBankrupt 6016 BeingLiquidated 6029 DepositsIntoLiquidatingMustRecover",
        # The owner froze the account for a while: it trades again by itself.
        UserReduceOnly: "6038 AccountIsFrozen",
        # The account changed under us: read again.
        NodeBehind: "6071 InvalidSequenceNumber",
        # The account's own order rests in the way: the book has nothing for this account at that price.
        NoLiquidity: "6048 WouldSelfTrade",
        # A general assertion, and arithmetic: neither tells what a caller could do about it. And an account that was
        # not passed, or another than the venue wants by now: something changed after it was read, by another's hand.
        UnknownCode: """
            6000 SomeError 6002 MathError 6003 UnexpectedOracle 6017 InvalidBank 6047 InvalidHealthAccountCount""",
        # Wrong arguments, wrong accounts, and everything that only instructions answer that this adapter never sends.
        RequestRejected: """
            6001 NotImplementedError 6004 UnknownOracleType 6005 InvalidFlashLoanTargetCpiProgram
            6008 HealthMustBeNegative 6010 IsNotBankrupt 6012 NoFreeSerum3OpenOrdersIndex
            6014 Serum3OpenOrdersExistAlready 6018 ProfitabilityMismatch 6019 CannotSettleWithSelf
            6020 PerpPositionDoesNotExist 6021 MaxSettleAmountMustBeGreaterThanZero 6022 HasOpenPerpOrders
            6025 SettlementAmountMustBePositive 6028 TokenPositionDoesNotExist 6033 PerpHasBaseLots
            6034 HasOpenOrUnsettledSerum3Orders 6035 HasLiquidatableTokenPosition 6036 HasLiquidatablePerpBasePosition
            6037 HasLiquidatablePositivePerpPnl 6039 InitAssetWeightCantBeNegative 6040 HasOpenPerpTakerFills
            6043 NoLiquidatablePerpBasePosition 6044 PerpOrderIdNotFound 6045 HealthRegionBadInnerInstruction
            6049 TokenConditionalSwapPriceNotInRange
            6050 TokenConditionalSwapExpired 6051 TokenConditionalSwapNotStarted
            6052 TokenConditionalSwapAlreadyStarted 6053 TokenConditionalSwapNotSet
            6054 TokenConditionalSwapMinBuyTokenNotReached 6055 TokenConditionalSwapCantPayIncentive
            6056 TokenConditionalSwapTakerPriceTooLow 6057 TokenConditionalSwapIndexIdMismatch
            6058 TokenConditionalSwapTooSmallForStartIncentive 6059 TokenConditionalSwapTypeNotStartable
            6060 HealthAccountBankNotWritable 6061 Serum3PriceBandExceeded 6063 DelegateWithdrawOnlyToOwnerAta
            6064 DelegateWithdrawMustClosePosition 6065 DelegateWithdrawSmall 6068 MissingFeedForCLMMOracle
            6069 TokenAssetLiquidationDisabled 6070 BorrowsRequireHealthAccountBank""",
    }
)

# Anchor answers before the program's own code runs. Those with a meaning of their own; all others of its range are
# accounts or arguments that do not fit.
_ANCHOR_ERRORS: Final[Mapping[int, Refusal]] = _table(
    {
        VenueHalted: "101 InstructionFallbackNotFound",
        # A trading account that does not exist belongs to the system program, and is empty.
        AccountMissing: "3007 AccountOwnedByWrongProgram 3012 AccountNotInitialized",
        UnsupportedProgram: "4100 DeclaredProgramIdMismatch 5000 Deprecated",
        RequestRejected: """
            100 InstructionMissing 102 InstructionDidNotDeserialize 103 InstructionDidNotSerialize
            2000 ConstraintMut 2001 ConstraintHasOne 2002 ConstraintSigner 2003 ConstraintRaw 2004 ConstraintOwner
            2005 ConstraintRentExempt 2006 ConstraintSeeds 2012 ConstraintAddress 2500 RequireViolated
            2501 RequireEqViolated 2502 RequireKeysEqViolated 2503 RequireNeqViolated 2504 RequireKeysNeqViolated
            2505 RequireGtViolated 2506 RequireGteViolated 3001 AccountDiscriminatorNotFound
            3002 AccountDiscriminatorMismatch 3003 AccountDidNotDeserialize 3005 AccountNotEnoughKeys
            3006 AccountNotMutable 3008 InvalidProgramId 3010 AccountNotSigner""",
    }
)
_SYSTEM_ERRORS: Final[Mapping[int, Refusal]] = _table(
    {
        FeePayerShort: "1 ResultWithNegativeLamports",
        RequestRejected: """
            0 AccountAlreadyInUse 2 InvalidProgramId 3 InvalidAccountDataLength 4 MaxSeedLengthExceeded
            5 AddressWithSeedMismatch 6 NonceNoRecentBlockhashes 7 NonceBlockhashNotExpired
            8 NonceUnexpectedBlockhashValue""",
    }
)
_TOKEN_ERRORS: Final[Mapping[int, Refusal]] = _table(
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
_FIRST_MANGO_CODE: Final = 6000
_ANCHOR_ACCOUNT_CODES: Final = range(2000, 4000)

_PANICKING_KINDS: Final = frozenset({"ProgramFailedToComplete"})
# What the runtime writes when a program panics, and not when it runs out of compute.
_PANIC: Final = "Program log: panicked at"


@cache
def _inner_tables() -> Mapping[str, Mapping[int, Refusal]]:
    return {str(SYSTEM_PROGRAM): _SYSTEM_ERRORS, str(TOKEN_PROGRAM): _TOKEN_ERRORS}


def mango_refusal(code: int, detail: str = "") -> ProviderError:
    """Return the error that the program's `code` stands for, named as the program names it; phase `not_sent`."""
    refusal = MANGO_ERRORS[code]
    return refusal.leaf(detail or refusal.name, raw_code=code, raw_name=refusal.name)


def classify(failure: ProgramFailure, logs: tuple[str, ...] = (), *, program_id: str) -> ProviderError:
    """Return what a failed simulation or transaction means, phase `not_sent` (see `at_phase`).

    Args:
        failure: instruction, program and code, as the node reported them.
        logs: looked at only for a failure without any code, to tell a panic from an exhausted compute budget.
        program_id: the Mango deployment that the adapter stands on.
    """
    code = failure.code
    if code is None:
        return _without_code(failure, logs, program_id)
    refusal: Refusal | None = None
    if failure.program_id == program_id:
        # A code below 100 at the venue's instruction comes from a program that it called, and which one is not known.
        if code >= _FIRST_MANGO_CODE:
            refusal = MANGO_ERRORS.get(code)
        elif code >= _FIRST_ANCHOR_CODE:
            refusal = _ANCHOR_ERRORS.get(code)
            if refusal is None and code in _ANCHOR_ACCOUNT_CODES:
                return RequestRejected(f"the framework's code {code}", raw_code=code)
    elif failure.program_id is not None:
        refusal = _inner_tables().get(failure.program_id, {}).get(code)
    if refusal is None:
        where = failure.program_id or "an unknown program"
        return UnknownCode(f"code {code} of {where}", raw_code=code)
    return refusal.leaf(refusal.name, raw_code=code, raw_name=refusal.name)


def _without_code(failure: ProgramFailure, logs: tuple[str, ...], program_id: str) -> ProviderError:
    if failure.instruction_index is None:
        return error_of_transaction(failure.kind)
    panicked = failure.kind in _PANICKING_KINDS and any(line.startswith(_PANIC) for line in logs)
    if panicked and failure.program_id == program_id:
        return NoLiquidity("the program panicked: the market's event queue is full", raw_name=failure.kind)
    leaf = _RUNTIME_FAILURES.get(failure.kind, UnknownCode)
    return leaf(f"the runtime refused: {failure.kind}", raw_name=failure.kind)


def at_phase(error: ProviderError, phase: Phase) -> ErrorInfo:
    """Return the error as a record of `phase`."""
    return msgspec.structs.replace(error.info(), phase=phase)
