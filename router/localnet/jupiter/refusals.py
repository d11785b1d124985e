"""The program's errors by name, and the framework's."""

from __future__ import annotations

from collections.abc import Sequence

from router.localnet.anchor import ANCHOR_CODES, refusal_of
from router.localnet.programs import ModelRefusal

__all__ = ["CODES", "refusal"]

_FIRST = 6000
_PERPS = (
    "MathOverflow UnsupportedOracle InvalidOracleAccount StaleOraclePrice InvalidOraclePrice InvalidEnvironment "
    "InvalidCollateralAccount InvalidCollateralAmount CollateralSlippage InvalidPositionState InvalidPerpetualsConfig "
    "InvalidPoolConfig InvalidInstruction InvalidCustodyConfig InvalidCustodyBalance InvalidArgument "
    "InvalidPositionRequest InvalidPositionRequestInputAta InvalidMint InsufficientTokenAmount "
    "InsufficientAmountReturned MaxPriceSlippage MaxLeverage CustodyAmountLimit PoolAmountLimit "
    "PersonalPoolAmountLimit UnsupportedToken InstructionNotAllowed JupiterProgramMismatch ProgramMismatch "
    "AddressMismatch KeeperATAMissing SwapAmountMismatch CPINotAllowed InvalidKeeper ExceedExecutionPeriod "
    "InvalidRequestType InvalidTriggerPrice TriggerPriceSlippage MissingTriggerPrice MissingPriceSlippage "
    "InvalidPriceCalcMode RequestUpdatedTooRecent ExceedTokenWeightage OraclePublishTimeTooEarly "
    "PullOraclePublishTimeTooEarly StalePullOraclePrice InvalidPullOraclePrice PullOracleNotVerified "
    "PriceDiffTooLarge InvalidDovesOraclePrice InvalidRequestTime PositionUpdatedTooRecent "
    "LedgerTokenAccountDoesNotMatch InvalidTokenLedger OraclePriceDifferenceTooLarge InvalidOracleSigner "
    "InvalidOracleTimestamp InvalidMaxGlobalLongSize InvalidMaxGlobalShortSize BorrowsDisabled BorrowLimitsExceeded "
    "WithdrawExceedsMarginLimits CannotLiquidate CannotDelegateStake ExceededMaxTotalStakedAmount "
    "LpTokenPriceChangeLimitExceeded"
)
CODES: dict[str, int] = {**ANCHOR_CODES, **{name: _FIRST + index for index, name in enumerate(_PERPS.split())}}


def refusal(name: str, logs: Sequence[str] = (), *, account: str | None = None) -> ModelRefusal:
    """Return the refusal with this name; `account` is the one that an account check failed on."""
    return refusal_of(CODES, name, logs, account=account)
