"""The program's error codes that the model can answer, by name."""

from __future__ import annotations

from collections.abc import Sequence

from router.localnet.programs import ModelRefusal

__all__ = ["CODES", "refusal"]

_ANCHOR = {
    "InstructionMissing": 100,
    "InstructionFallbackNotFound": 101,
    "InstructionDidNotDeserialize": 102,
    "ConstraintMut": 2000,
    "ConstraintHasOne": 2001,
    "ConstraintRaw": 2003,
    "ConstraintSeeds": 2006,
    "ConstraintTokenOwner": 2015,
    "AccountDiscriminatorNotFound": 3001,
    "AccountDiscriminatorMismatch": 3002,
    "AccountNotEnoughKeys": 3005,
    "AccountOwnedByWrongProgram": 3007,
    "InvalidProgramId": 3008,
    "AccountNotSigner": 3010,
    "AccountNotInitialized": 3012,
    "AccountSysvarMismatch": 3015,
}
_DRIFT = {
    "InsufficientDeposit": 6002,
    "InsufficientCollateral": 6003,
    "SufficientCollateral": 6004,
    "MaxNumberOfPositions": 6005,
    "UserHasNoPositionInMarket": 6010,
    "MathError": 6019,
    "UnableToLoadOracle": 6022,
    "PriceBandsBreached": 6023,
    "ExchangePaused": 6024,
    "ReferrerNotFound": 6029,
    "ReferrerStatsNotFound": 6030,
    "ReferrerMustBeWritable": 6031,
    "ReferrerAndReferrerStatsAuthorityUnequal": 6033,
    "InvalidReferrer": 6034,
    "InvalidOracle": 6035,
    "OracleNotFound": 6036,
    "MaxDeposit": 6038,
    "InvalidFundingProfitability": 6040,
    "CastingFailure": 6041,
    "InvalidOrder": 6042,
    "InvalidOrderMarketType": 6044,
    "InvalidOrderNotRiskReducing": 6046,
    "InvalidOrderSizeTooSmall": 6047,
    "InvalidOrderNotStepSizeMultiple": 6048,
    "InvalidOrderIOC": 6050,
    "InvalidOrderPostOnly": 6051,
    "InvalidOrderTrigger": 6053,
    "InvalidOrderAuction": 6054,
    "InvalidOrderOracleOffset": 6055,
    "InvalidOrderMinOrderSize": 6056,
    "PlacePostOnlyLimitFailure": 6057,
    "OrderAmountTooSmall": 6059,
    "MaxNumberOfOrders": 6060,
    "OrderDoesNotExist": 6061,
    "OrderNotOpen": 6062,
    "UnableToLoadAccountLoader": 6065,
    "UserOrderIdAlreadyInUse": 6071,
    "PerpMarketNotFound": 6078,
    "InvalidMarketAccount": 6079,
    "UnableToLoadPerpMarketAccount": 6080,
    "MarketWrongMutability": 6081,
    "CouldNotFindSpotPosition": 6083,
    "NoSpotPositionAvailable": 6084,
    "SpotMarketNotFound": 6087,
    "InvalidSpotMarketAccount": 6088,
    "SpotMarketWrongMutability": 6090,
    "SpotMarketInsufficientDeposits": 6092,
    "UserMustSettleTheirOwnPositiveUnsettledPNL": 6093,
    "InsufficientCollateralForSettlingPNL": 6095,
    "OrderMustBeTriggeredFirst": 6110,
    "OrderNotTriggerable": 6111,
    "OrderDidNotSatisfyTriggerCondition": 6112,
    "PositionDoesntHaveOpenPositionOrOrders": 6114,
    "UserIsBeingLiquidated": 6117,
    "UserCantLiquidateThemself": 6120,
    "InvalidBaseAssetAmountForLiquidatePerp": 6122,
    "InvalidPositionLastFundingRate": 6123,
    "UserBankrupt": 6125,
    "DailyWithdrawLimit": 6128,
    "DefaultError": 6129,
    "IsolatedAssetTierViolation": 6151,
    "MarketActionPaused": 6146,
    "MarketPlaceOrderPaused": 6147,
    "MarketFillOrderPaused": 6148,
    "MarketWithdrawPaused": 6149,
    "ReduceOnlyWithdrawIncreasedRisk": 6153,
    "MaxOpenInterest": 6154,
    "LiquidationDoesntSatisfyLimitPrice": 6156,
    "InvalidMarketStatusToSettlePnl": 6158,
    "InvalidAmmDetected": 6168,
    "InvalidAmmForFillDetected": 6169,
    "InvalidAmmLimitPriceOverride": 6170,
    "InvalidOrderFillPrice": 6171,
    "SpotMarketVaultInvariantViolated": 6173,
    "InvalidOrderLimitPrice": 6191,
    "MarketBeingInitialized": 6213,
    "InvalidUserSubAccountId": 6214,
    "InvalidTriggerOrderCondition": 6215,
    "InvalidPerpPosition": 6218,
    "UnableToGetLimitPrice": 6219,
    "InvalidLiquidation": 6220,
    "MaxNumberOfUsers": 6224,
    "UserWrongMutability": 6229,
    "InvalidUserAccount": 6230,
    "UserStatsWrongMutability": 6232,
    "InvalidUserStatsAccount": 6233,
    "UnableToLoadUserAccount": 6235,
    "UserStatsNotFound": 6236,
    "ImpossibleFill": 6252,
    "UserReduceOnly": 6254,
    "CantPayUserInitFee": 6256,
    "NoUnsettledPnl": 6259,
    "PnlPoolCantSettleUser": 6260,
}
CODES = _ANCHOR | _DRIFT


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
