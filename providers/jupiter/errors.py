"""What Jupiter Perps' refusals mean: every code of its program, listed by leaf of `providers.base.errors`.

The key is program id and numeric code. Each of the 67 codes of the interface description is in exactly one list, and a
test holds that. The program is closed source: what a code stands for is known from its name, the venue's published
examples and observed transactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from providers.base.errors import (
    BelowMinimum,
    CustodyLimit,
    InsufficientCollateral,
    InvalidTrigger,
    LeverageAboveMaximum,
    MarketPaused,
    NodeBehind,
    OracleStale,
    ProviderError,
    RequestRejected,
    TimedOut,
    UnknownCode,
    WorstPriceNotMet,
)
from providers.solana.program_errors import Refusal, error_of_failure, refusals
from providers.solana.records import ProgramFailure

__all__ = ["JUPITER_ERRORS", "classify", "jupiter_refusal"]

JUPITER_ERRORS: Final[Mapping[int, Refusal]] = refusals(
    {
        # A permission of the program, or of a custody, is off.
        MarketPaused: "6027 InstructionNotAllowed",
        # What the pool, a custody or one position may hold.
        CustodyLimit: """
            6014 InvalidCustodyBalance 6023 CustodyAmountLimit 6024 PoolAmountLimit 6025 PersonalPoolAmountLimit
            6043 ExceedTokenWeightage 6066 LpTokenPriceChangeLimitExceeded""",
        LeverageAboveMaximum: "6022 MaxLeverage",
        # The fees would eat the collateral: the order is too small.
        BelowMinimum: "6007 InvalidCollateralAmount",
        # The venue cannot price now; it passes with the next update.
        OracleStale: """
            6003 StaleOraclePrice 6004 InvalidOraclePrice 6044 OraclePublishTimeTooEarly
            6045 PullOraclePublishTimeTooEarly 6046 StalePullOraclePrice 6047 InvalidPullOraclePrice
            6048 PullOracleNotVerified 6049 PriceDiffTooLarge 6050 InvalidDovesOraclePrice
            6055 OraclePriceDifferenceTooLarge""",
        InsufficientCollateral: "6019 InsufficientTokenAmount",
        WorstPriceNotMet: """
            6008 CollateralSlippage 6020 InsufficientAmountReturned 6021 MaxPriceSlippage 6038 TriggerPriceSlippage""",
        # The market has passed it already, or is too far from it.
        InvalidTrigger: "6037 InvalidTriggerPrice",
        # No keeper took the request within its window.
        TimedOut: "6035 ExceedExecutionPeriod",
        # Somebody touched it a moment ago, or an oracle has moved to another account: read again.
        NodeBehind: "6002 InvalidOracleAccount 6042 RequestUpdatedTooRecent 6052 PositionUpdatedTooRecent",
        # Arithmetic, and what only keepers and oracle posters are told.
        UnknownCode: """
            6000 MathOverflow 6031 KeeperATAMissing 6032 SwapAmountMismatch 6056 InvalidOracleSigner
            6057 InvalidOracleTimestamp""",
        # Wrong arguments, wrong accounts, and everything that only instructions answer that this adapter never sends.
        RequestRejected: """
            6001 UnsupportedOracle 6005 InvalidEnvironment 6006 InvalidCollateralAccount 6009 InvalidPositionState
            6010 InvalidPerpetualsConfig 6011 InvalidPoolConfig 6012 InvalidInstruction 6013 InvalidCustodyConfig
            6015 InvalidArgument 6016 InvalidPositionRequest 6017 InvalidPositionRequestInputAta 6018 InvalidMint
            6026 UnsupportedToken 6028 JupiterProgramMismatch 6029 ProgramMismatch 6030 AddressMismatch
            6033 CPINotAllowed 6034 InvalidKeeper 6036 InvalidRequestType 6039 MissingTriggerPrice
            6040 MissingPriceSlippage 6041 InvalidPriceCalcMode 6051 InvalidRequestTime
            6053 LedgerTokenAccountDoesNotMatch 6054 InvalidTokenLedger 6058 InvalidMaxGlobalLongSize
            6059 InvalidMaxGlobalShortSize 6060 BorrowsDisabled 6061 BorrowLimitsExceeded
            6062 WithdrawExceedsMarginLimits 6063 CannotLiquidate 6064 CannotDelegateStake
            6065 ExceededMaxTotalStakedAmount""",
    }
)


def jupiter_refusal(code: int, detail: str = "") -> ProviderError:
    """Return the error that the program's `code` stands for, named as the program names it; phase `not_sent`."""
    return JUPITER_ERRORS[code].error(code, detail)


def classify(failure: ProgramFailure, logs: tuple[str, ...] = (), *, program_id: str) -> ProviderError:
    """Return what a failed simulation or transaction means, phase `not_sent`.

    Args:
        failure: instruction, program and code, as the node reported them.
        logs: not looked at: every failure of this venue has a code.
        program_id: the deployment that the adapter stands on.
    """
    del logs
    return error_of_failure(failure, JUPITER_ERRORS, program_id=program_id)
