"""The program's errors by name, and the framework's."""

from __future__ import annotations

from collections.abc import Sequence

from router.localnet.anchor import ANCHOR_CODES, panic, refusal_of
from router.localnet.programs import ModelRefusal

__all__ = ["CODES", "panic", "refusal"]

_FIRST = 6000
_MANGO = (
    "SomeError NotImplementedError MathError UnexpectedOracle UnknownOracleType InvalidFlashLoanTargetCpiProgram "
    "HealthMustBePositive HealthMustBePositiveOrIncrease HealthMustBeNegative IsBankrupt IsNotBankrupt "
    "NoFreeTokenPositionIndex NoFreeSerum3OpenOrdersIndex NoFreePerpPositionIndex Serum3OpenOrdersExistAlready "
    "InsufficentBankVaultFunds BeingLiquidated InvalidBank ProfitabilityMismatch CannotSettleWithSelf "
    "PerpPositionDoesNotExist MaxSettleAmountMustBeGreaterThanZero HasOpenPerpOrders OracleConfidence OracleStale "
    "SettlementAmountMustBePositive BankBorrowLimitReached BankNetBorrowsLimitReached TokenPositionDoesNotExist "
    "DepositsIntoLiquidatingMustRecover TokenInReduceOnlyMode MarketInReduceOnlyMode GroupIsHalted PerpHasBaseLots "
    "HasOpenOrUnsettledSerum3Orders HasLiquidatableTokenPosition HasLiquidatablePerpBasePosition "
    "HasLiquidatablePositivePerpPnl AccountIsFrozen InitAssetWeightCantBeNegative HasOpenPerpTakerFills DepositLimit "
    "IxIsDisabled NoLiquidatablePerpBasePosition PerpOrderIdNotFound HealthRegionBadInnerInstruction TokenInForceClose "
    "InvalidHealthAccountCount WouldSelfTrade TokenConditionalSwapPriceNotInRange TokenConditionalSwapExpired "
    "TokenConditionalSwapNotStarted TokenConditionalSwapAlreadyStarted TokenConditionalSwapNotSet "
    "TokenConditionalSwapMinBuyTokenNotReached TokenConditionalSwapCantPayIncentive "
    "TokenConditionalSwapTakerPriceTooLow TokenConditionalSwapIndexIdMismatch "
    "TokenConditionalSwapTooSmallForStartIncentive TokenConditionalSwapTypeNotStartable HealthAccountBankNotWritable "
    "Serum3PriceBandExceeded BankDepositLimit DelegateWithdrawOnlyToOwnerAta DelegateWithdrawMustClosePosition "
    "DelegateWithdrawSmall InvalidCLMMOracle InvalidFeedForCLMMOracle MissingFeedForCLMMOracle "
    "TokenAssetLiquidationDisabled BorrowsRequireHealthAccountBank InvalidSequenceNumber InvalidHealth"
)
CODES: dict[str, int] = {**ANCHOR_CODES, **{name: _FIRST + index for index, name in enumerate(_MANGO.split())}}


def refusal(name: str, logs: Sequence[str] = (), *, account: str | None = None) -> ModelRefusal:
    """Return the refusal with this name; the last log line is the framework's, as clients parse it.

    Args:
        name: the error's name in the program.
        logs: what was printed before.
        account: the account that an account check failed on.
    """
    return refusal_of(CODES, name, logs, account=account)
