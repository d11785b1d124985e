"""What Mango's refusals mean: every code of its program, listed by leaf of `providers.base.errors`.

The key is program id and numeric code. Each of the 73 codes of the interface description is in exactly one list, and a
test holds that. One failure has no code: the program panics when the market's event queue is full, which only its log
tells from an exhausted compute budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from providers.base.errors import (
    BeingLiquidated,
    CustodyLimit,
    InsufficientCollateral,
    MarketPaused,
    MarketReduceOnly,
    NodeBehind,
    NoFreeSlot,
    NoLiquidity,
    OracleStale,
    ProviderError,
    RequestRejected,
    UnknownCode,
    UserReduceOnly,
    VenueHalted,
)
from providers.solana.program_errors import Refusal, error_of_failure, refusals
from providers.solana.records import ProgramFailure

__all__ = ["MANGO_ERRORS", "classify", "mango_refusal"]

MANGO_ERRORS: Final[Mapping[int, Refusal]] = refusals(
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

_PANICKING_KINDS: Final = frozenset({"ProgramFailedToComplete"})
# What the runtime writes when a program panics, and not when it runs out of compute.
_PANIC: Final = "Program log: panicked at"


def mango_refusal(code: int, detail: str = "") -> ProviderError:
    """Return the error that the program's `code` stands for, named as the program names it; phase `not_sent`."""
    return MANGO_ERRORS[code].error(code, detail)


def classify(failure: ProgramFailure, logs: tuple[str, ...] = (), *, program_id: str) -> ProviderError:
    """Return what a failed simulation or transaction means, phase `not_sent`.

    Args:
        failure: instruction, program and code, as the node reported them.
        logs: looked at only for a failure without any code, to tell a panic from an exhausted compute budget.
        program_id: the Mango deployment that the adapter stands on.
    """
    panicked = failure.kind in _PANICKING_KINDS and any(line.startswith(_PANIC) for line in logs)
    if failure.code is None and panicked and failure.program_id == program_id:
        return NoLiquidity("the program panicked: the market's event queue is full", raw_name=failure.kind)
    return error_of_failure(failure, MANGO_ERRORS, program_id=program_id)
