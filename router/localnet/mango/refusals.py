"""The program's errors by name, and the framework's."""

from __future__ import annotations

from collections.abc import Sequence

from router.localnet.programs import ModelPanic, ModelRefusal

__all__ = ["CODES", "panic", "refusal"]

_ANCHOR = {
    "InstructionMissing": 100,
    "InstructionFallbackNotFound": 101,
    "InstructionDidNotDeserialize": 102,
    "ConstraintMut": 2000,
    "ConstraintHasOne": 2001,
    "ConstraintRaw": 2003,
    "ConstraintSeeds": 2006,
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
}
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
CODES: dict[str, int] = _ANCHOR | {name: _FIRST + index for index, name in enumerate(_MANGO.split())}


def refusal(name: str, logs: Sequence[str] = (), *, account: str | None = None) -> ModelRefusal:
    """Return the refusal with this name; the last log line is the framework's, as clients parse it.

    Args:
        name: the error's name in the program.
        logs: what was printed before.
        account: the account that an account check failed on.
    """
    code = CODES[name]
    cause = "occurred" if account is None else f"caused by account: {account}"
    line = f"Program log: AnchorError {cause}. Error Code: {name}. Error Number: {code}. Error Message: {name}."
    return ModelRefusal(code, name, (*logs, line))


def panic(reason: str, logs: Sequence[str] = ()) -> ModelPanic:
    """Return the failure of a program that aborts, as it does where it relies on something that does not hold."""
    return ModelPanic((*logs, f"Program log: panicked: {reason}"))
