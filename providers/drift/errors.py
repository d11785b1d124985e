"""What Drift's refusals mean: every code of its program, listed by leaf of `providers.base.errors`.

The key is always program id and numeric code; no text is looked at. Each of the 325 codes of the interface description
is in exactly one list; a test holds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from providers.base.errors import (
    AuctionExpired,
    BeingLiquidated,
    BelowMinimum,
    CustodyLimit,
    FeePayerShort,
    InsufficientCollateral,
    InvalidSize,
    MarketPaused,
    MarketReduceOnly,
    NoFreeSlot,
    NoLiquidity,
    OpenInterestCap,
    OracleStale,
    ProviderError,
    RequestRejected,
    UnknownCode,
    UserReduceOnly,
    WorstPriceNotMet,
)
from providers.solana.program_errors import Refusal, error_of_failure, refusals
from providers.solana.records import ProgramFailure

__all__ = ["DRIFT_ERRORS", "classify", "drift_refusal"]

DRIFT_ERRORS: Final[Mapping[int, Refusal]] = refusals(
    {
        # The account cannot carry the order; an isolated-tier market asks for an account without other liabilities.
        InsufficientCollateral: """
            6003 InsufficientCollateral 6045 InvalidOrderForInitialMarginReq 6095 InsufficientCollateralForSettlingPNL
            6151 IsolatedAssetTierViolation 6157 MarginTradingDisabled""",
        MarketPaused: """
            6007 MarketDelisted 6024 ExchangePaused 6146 MarketActionPaused 6147 MarketPlaceOrderPaused
            6148 MarketFillOrderPaused 6149 MarketWithdrawPaused 6197 InvalidMarketStatusForFills
            6212 SpotOrdersDisabled 6213 MarketBeingInitialized""",
        MarketReduceOnly: """
            6046 InvalidOrderNotRiskReducing 6250 SpotMarketReduceOnly""",
        OpenInterestCap: """
            6154 MaxOpenInterest""",
        # Token caps of a spot market: what a deposit or borrow meets.
        CustodyLimit: """
            6038 MaxDeposit 6128 DailyWithdrawLimit 6268 MaxBorrows""",
        # Nothing would trade inside the venue's own price bands, or the AMM would not take the fill.
        NoLiquidity: """
            6023 PriceBandsBreached 6063 FillOrderDidNotUpdateState 6066 TradeSizeTooLarge
            6096 AMMNotUpdatedInSameSlot 6097 AuctionNotComplete 6105 AuctionPriceDoesNotSatisfyMaker
            6169 InvalidAmmForFillDetected 6239 RevertFill 6252 ImpossibleFill
            6289 PlaceAndTakeOrderSuccessConditionFailed""",
        BelowMinimum: """
            6016 OrderSizeTooSmall 6047 InvalidOrderSizeTooSmall 6056 InvalidOrderMinOrderSize
            6059 OrderAmountTooSmall""",
        # The price account is too old, too wide or too wild to trade on. All of it passes with the next update.
        OracleStale: """
            6035 InvalidOracle 6225 InvalidOracleForSettlePnl 6261 OracleNonPositive 6262 OracleTooVolatile
            6263 OracleTooUncertain 6264 OracleStaleForMargin 6265 OracleInsufficientDataPoints
            6266 OracleStaleForAMM""",
        NoFreeSlot: """
            6005 MaxNumberOfPositions 6060 MaxNumberOfOrders 6084 NoSpotPositionAvailable 6224 MaxNumberOfUsers""",
        BeingLiquidated: """
            6113 PositionAlreadyBeingLiquidated 6117 UserIsBeingLiquidated 6118 LiquidationsOngoing
            6125 UserBankrupt""",
        UserReduceOnly: """
            6254 UserReduceOnly""",
        FeePayerShort: """
            6256 CantPayUserInitFee""",
        WorstPriceNotMet: """
            6015 SlippageOutsideLimit 6109 OrderBreachesOraclePriceLimits 6171 InvalidOrderFillPrice
            6249 SwapLimitPriceBreached""",
        # 6061 is what place-and-take answers when `max_ts` had passed: the order was skipped, so it is not there.
        AuctionExpired: """
            6043 InvalidOrderMaxTs 6061 OrderDoesNotExist 6062 OrderNotOpen""",
        # A reduction of what is not held, or of nothing.
        InvalidSize: """
            6002 InsufficientDeposit 6010 UserHasNoPositionInMarket 6064 ReduceOnlyOrderIncreasedRisk""",
        # The program's own arithmetic or invariants: not of our making, and no code of a table that could help. And an
        # account that was not passed: what the account holds has changed since it was read, by another's hand.
        UnknownCode: """
            6036 OracleNotFound 6078 PerpMarketNotFound 6087 SpotMarketNotFound
            6019 MathError 6020 BnConversionError 6021 ClockUnavailable 6041 CastingFailure 6082 UnableToCastUnixTime
            6091 SpotMarketInterestNotUpToDate 6123 InvalidPositionLastFundingRate 6124 InvalidPositionDelta
            6129 DefaultError 6144 InvalidFeeStructure 6166 InvalidPerpPositionDetected
            6167 InvalidSpotPositionDetected 6168 InvalidAmmDetected 6170 InvalidAmmLimitPriceOverride
            6172 SpotMarketBalanceInvariantViolated 6173 SpotMarketVaultInvariantViolated 6192 InvalidIFDetected
            6193 InvalidAmmMaxSpreadDetected 6202 BlockchainClockInconsistency 6203 InvalidIFSharesDetected
            6206 InvalidMarkTwapUpdateDetected 6216 InvalidSpotPosition 6218 InvalidPerpPosition
            6219 UnableToGetLimitPrice 6223 FailedUnwrap 6255 InvalidMarginCalculation""",
        # Wrong arguments, wrong accounts, and everything that only instructions answer that this adapter never sends.
        RequestRejected: """
            6000 InvalidSpotMarketAuthority 6001 InvalidInsuranceFundAuthority 6004 SufficientCollateral
            6006 AdminControlsPricesDisabled 6008 MarketIndexAlreadyInitialized
            6009 UserAccountAndUserPositionsAccountMismatch 6011 InvalidInitialPeg 6012 InvalidRepegRedundant
            6013 InvalidRepegDirection 6014 InvalidRepegProfitability 6017 InvalidUpdateK 6018 AdminWithdrawTooLarge
            6022 UnableToLoadOracle 6025 InvalidWhitelistToken 6026 WhitelistTokenNotFound 6027 InvalidDiscountToken
            6028 DiscountTokenNotFound 6029 ReferrerNotFound 6030 ReferrerStatsNotFound 6031 ReferrerMustBeWritable
            6032 ReferrerStatsMustBeWritable 6033 ReferrerAndReferrerStatsAuthorityUnequal 6034 InvalidReferrer
            6037 LiquidationsBlockedByOracle 6039 CantDeleteUserWithCollateral
            6040 InvalidFundingProfitability 6042 InvalidOrder 6044 InvalidOrderMarketType
            6048 InvalidOrderNotStepSizeMultiple 6049 InvalidOrderBaseQuoteAsset 6050 InvalidOrderIOC
            6051 InvalidOrderPostOnly 6052 InvalidOrderIOCPostOnly 6053 InvalidOrderTrigger 6054 InvalidOrderAuction
            6055 InvalidOrderOracleOffset 6057 PlacePostOnlyLimitFailure 6058 UserHasNoOrder
            6065 UnableToLoadAccountLoader 6067 UserCantReferThemselves 6068 DidNotReceiveExpectedReferrer
            6069 CouldNotDeserializeReferrer 6070 CouldNotDeserializeReferrerStats 6071 UserOrderIdAlreadyInUse
            6072 NoPositionsLiquidatable 6073 InvalidMarginRatio 6074 CantCancelPostOnlyOrder 6075 InvalidOracleOffset
            6076 CantExpireOrders 6077 CouldNotLoadMarketData 6079 InvalidMarketAccount
            6080 UnableToLoadPerpMarketAccount 6081 MarketWrongMutability 6083 CouldNotFindSpotPosition
            6085 InvalidSpotMarketInitialization 6086 CouldNotLoadSpotMarketData
            6088 InvalidSpotMarketAccount 6089 UnableToLoadSpotMarketAccount 6090 SpotMarketWrongMutability
            6092 SpotMarketInsufficientDeposits 6093 UserMustSettleTheirOwnPositiveUnsettledPNL
            6094 CantUpdatePoolBalanceType 6098 MakerNotFound 6099 MakerStatsNotFound 6100 MakerMustBeWritable
            6101 MakerStatsMustBeWritable 6102 MakerOrderNotFound 6103 CouldNotDeserializeMaker
            6104 CouldNotDeserializeMakerStats 6106 MakerCantFulfillOwnOrder 6107 MakerOrderMustBePostOnly
            6108 CantMatchTwoPostOnlys 6110 OrderMustBeTriggeredFirst 6111 OrderNotTriggerable
            6112 OrderDidNotSatisfyTriggerCondition 6114 PositionDoesntHaveOpenPositionOrOrders
            6115 AllOrdersAreAlreadyLiquidations 6116 CantCancelLiquidationOrder 6119 WrongSpotBalanceType
            6120 UserCantLiquidateThemself 6121 InvalidPerpPositionToLiquidate
            6122 InvalidBaseAssetAmountForLiquidatePerp 6126 UserNotBankrupt 6127 UserHasInvalidBorrow
            6130 InsufficientLPTokens 6131 CantLPWithPerpPosition 6132 UnableToBurnLPTokens
            6133 TryingToRemoveLiquidityTooFast 6134 InvalidSpotMarketVault 6135 InvalidSpotMarketState
            6136 InvalidSerumProgram 6137 InvalidSerumMarket 6138 InvalidSerumBids 6139 InvalidSerumAsks
            6140 InvalidSerumOpenOrders 6141 FailedSerumCPI 6142 FailedToFillOnExternalMarket
            6143 InvalidFulfillmentConfig 6145 InsufficientIFShares 6150 ProtectedAssetTierViolation
            6152 UserCantBeDeleted 6153 ReduceOnlyWithdrawIncreasedRisk 6155 CantResolvePerpBankruptcy
            6156 LiquidationDoesntSatisfyLimitPrice 6158 InvalidMarketStatusToSettlePnl
            6159 PerpMarketNotInSettlement 6160 PerpMarketNotInReduceOnly 6161 PerpMarketSettlementBufferNotReached
            6162 PerpMarketSettlementUserHasOpenOrders 6163 PerpMarketSettlementUserHasActiveLP
            6164 UnableToSettleExpiredUserPosition 6165 UnequalMarketIndexForSpotTransfer 6174 InvalidPDA
            6175 InvalidPDASigner 6176 RevenueSettingsCannotSettleToIF 6177 NoRevenueToSettleToIF
            6178 NoAmmPerpPnlDeficit 6179 SufficientPerpPnlPool 6180 InsufficientPerpPnlPool
            6181 PerpPnlDeficitBelowThreshold 6182 MaxRevenueWithdrawPerPeriodReached 6183 MaxIFWithdrawReached
            6184 NoIFWithdrawAvailable 6185 InvalidIFUnstake 6186 InvalidIFUnstakeSize 6187 InvalidIFUnstakeCancel
            6188 InvalidIFForNewStakes 6189 InvalidIFRebase 6190 InvalidInsuranceUnstakeSize
            6191 InvalidOrderLimitPrice 6194 InvalidConcentrationCoef 6195 InvalidSrmVault 6196 InvalidVaultOwner
            6198 IFWithdrawRequestInProgress 6199 NoIFWithdrawRequestInProgress 6200 IFWithdrawRequestTooSmall
            6201 IncorrectSpotMarketAccountPassed 6204 NewLPSizeTooSmall 6205 MarketStatusInvalidForNewLP
            6207 MarketSettlementAttemptOnActiveMarket 6208 MarketSettlementRequiresSettledLP
            6209 MarketSettlementAttemptTooEarly 6210 MarketSettlementTargetPriceInvalid 6211 UnsupportedSpotMarket
            6214 InvalidUserSubAccountId 6215 InvalidTriggerOrderCondition 6217 CantTransferBetweenSameUserAccount
            6220 InvalidLiquidation 6221 SpotFulfillmentConfigDisabled 6222 InvalidMaker 6226 MarginOrdersOpen
            6227 TierViolationLiquidatingPerpPnl 6228 CouldNotLoadUserData 6229 UserWrongMutability
            6230 InvalidUserAccount 6231 CouldNotLoadUserStatsData 6232 UserStatsWrongMutability
            6233 InvalidUserStatsAccount 6234 UserNotFound 6235 UnableToLoadUserAccount 6236 UserStatsNotFound
            6237 UnableToLoadUserStatsAccount 6238 UserNotInactive 6240 InvalidMarketAccountforDeletion
            6241 InvalidSpotFulfillmentParams 6242 FailedToGetMint 6243 FailedPhoenixCPI
            6244 FailedToDeserializePhoenixMarket 6245 InvalidPricePrecision 6246 InvalidPhoenixProgram
            6247 InvalidPhoenixMarket 6248 InvalidSwap 6251 FundingWasNotUpdated 6253 CantUpdatePerpBidAskTwap
            6257 CantReclaimRent 6258 InsuranceFundOperationPaused 6259 NoUnsettledPnl 6260 PnlPoolCantSettleUser
            6267 UnableToParsePullOracleMessage 6269 OracleUpdatesNotMonotonic 6270 OraclePriceFeedMessageMismatch
            6271 OracleUnsupportedMessageType 6272 OracleDeserializeMessageFailed 6273 OracleWrongGuardianSetOwner
            6274 OracleWrongWriteAuthority 6275 OracleWrongVaaOwner 6276 OracleTooManyPriceAccountUpdates
            6277 OracleMismatchedVaaAndPriceUpdates 6278 OracleBadRemainingAccountPublicKey 6279 FailedOpenbookV2CPI
            6280 InvalidOpenbookV2Program 6281 InvalidOpenbookV2Market 6282 NonZeroTransferFee
            6283 LiquidationOrderFailedToFill 6284 InvalidPredictionMarketOrder 6285 InvalidVerificationIxIndex
            6286 SigVerificationFailed 6287 MismatchedSignedMsgOrderParamsMarketIndex 6288 InvalidSignedMsgOrderParam
            6290 InvalidHighLeverageModeConfig 6291 InvalidRFQUserAccount 6292 RFQUserAccountWrongMutability
            6293 RFQUserAccountFull 6294 RFQOrderNotFilled 6295 InvalidRFQOrder 6296 InvalidRFQMatch
            6297 InvalidSignedMsgUserAccount 6298 SignedMsgUserAccountWrongMutability
            6299 SignedMsgUserOrdersAccountFull 6300 SignedMsgOrderDoesNotExist 6301 InvalidSignedMsgOrderId
            6302 InvalidPoolId 6303 InvalidProtectedMakerModeConfig 6304 InvalidPythLazerStorageOwner
            6305 UnverifiedPythLazerMessage 6306 InvalidPythLazerMessage 6307 PythLazerMessagePriceFeedMismatch
            6308 InvalidLiquidateSpotWithSwap 6309 SignedMsgUserContextUserMismatch
            6310 UserFuelOverflowThresholdNotMet 6311 FuelOverflowAccountNotFound 6312 InvalidTransferPerpPosition
            6313 InvalidSignedMsgUserOrdersResize 6314 CouldNotDeserializeHighLeverageModeConfig
            6315 InvalidIfRebalanceConfig 6316 InvalidIfRebalanceSwap 6317 InvalidRevenueShareResize
            6318 BuilderRevoked 6319 InvalidBuilderFee 6320 RevenueShareEscrowAuthorityMismatch
            6321 RevenueShareEscrowOrdersAccountFull 6322 InvalidRevenueShareAccount
            6323 CannotRevokeBuilderWithOpenOrders 6324 UnableToLoadRevenueShareAccount""",
    }
)


def drift_refusal(code: int, detail: str = "") -> ProviderError:
    """Return the error that the program's `code` stands for, named as the program names it; phase `not_sent`."""
    return DRIFT_ERRORS[code].error(code, detail)


def classify(failure: ProgramFailure, logs: tuple[str, ...] = (), *, program_id: str) -> ProviderError:
    """Return what a failed simulation or transaction means (`error_of_failure`); the logs are not looked at."""
    del logs
    return error_of_failure(failure, DRIFT_ERRORS, program_id=program_id)
