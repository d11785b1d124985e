"""What nodes and the runtime say, mapped to the error tree. Keys are numeric codes and the runtime's own enum names.

No text is searched: a node's `message` is only carried along for people.
"""

from __future__ import annotations

from providers.base.errors import (
    BadAnswer,
    ConnectionFailed,
    FeePayerShort,
    LockHeld,
    NodeBehind,
    Phase,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServerError,
    TimedOut,
    UnknownCode,
    Unreachable,
    UnsupportedProgram,
)
from providers.solana.transport import WireError

__all__ = [
    "RPC_ERRORS",
    "TRANSACTION_ERRORS",
    "ForeignLockBase",
    "LockHeld",
    "error_of_rpc",
    "error_of_status",
    "error_of_transaction",
    "error_of_wire",
]


class ForeignLockBase(RequestRejected):
    """The order's lock belongs to another key than the one that signs now (the key file was changed)."""

    code = "foreign_lock_base"


# Server errors of a Solana node (rpc-client-api's custom_error) and of JSON-RPC. All of them are the node's trouble, so
# all are `connection`: the next node is asked, and after sending none proves anything.
RPC_ERRORS: dict[int, tuple[type[ConnectionFailed], str]] = {
    429: (RateLimited, "TooManyRequests"),
    -32001: (ServerError, "BlockCleanedUp"),
    -32002: (ServerError, "SendTransactionPreflightFailure"),
    -32003: (ServerError, "TransactionSignatureVerificationFailure"),
    -32004: (NodeBehind, "BlockNotAvailable"),
    -32005: (NodeBehind, "NodeUnhealthy"),
    -32006: (ServerError, "TransactionPrecompileVerificationFailure"),
    -32007: (ServerError, "SlotSkipped"),
    -32008: (ServerError, "NoSnapshot"),
    -32009: (ServerError, "LongTermStorageSlotSkipped"),
    -32010: (ServerError, "KeyExcludedFromSecondaryIndex"),
    -32011: (ServerError, "TransactionHistoryNotAvailable"),
    -32012: (ServerError, "ScanError"),
    -32013: (ServerError, "TransactionSignatureLenMismatch"),
    -32014: (NodeBehind, "BlockStatusNotAvailableYet"),
    -32015: (ServerError, "UnsupportedTransactionVersion"),
    -32016: (NodeBehind, "MinContextSlotNotReached"),
    -32017: (ServerError, "EpochRewardsPeriodActive"),
    -32018: (ServerError, "SlotNotEpochBoundary"),
    -32019: (ServerError, "LongTermStorageUnreachable"),
    -32429: (RateLimited, "TooManyRequests"),
    -32600: (BadAnswer, "InvalidRequest"),
    -32601: (BadAnswer, "MethodNotFound"),
    -32602: (BadAnswer, "InvalidParams"),
    -32603: (ServerError, "InternalError"),
    -32700: (BadAnswer, "ParseError"),
}

# Errors of a transaction as a whole (the runtime's TransactionError), as a simulation of unsigned bytes reports them.
TRANSACTION_ERRORS: dict[str, type[ProviderError]] = {
    "AccountNotFound": FeePayerShort,
    "InsufficientFundsForFee": FeePayerShort,
    "InsufficientFundsForRent": FeePayerShort,
    "InvalidRentPayingAccount": FeePayerShort,
    "BlockhashNotFound": NodeBehind,
    "AddressLookupTableNotFound": NodeBehind,
    "ClusterMaintenance": ServerError,
    "AccountInUse": ServerError,
    "WouldExceedMaxBlockCostLimit": ServerError,
    "WouldExceedMaxVoteCostLimit": ServerError,
    "WouldExceedMaxAccountCostLimit": ServerError,
    "WouldExceedAccountDataBlockLimit": ServerError,
    "WouldExceedAccountDataTotalLimit": ServerError,
    "ResanitizationNeeded": ServerError,
    "ProgramCacheHitMaxLimit": ServerError,
    "CommitCancelled": ServerError,
    "ProgramAccountNotFound": UnsupportedProgram,
    "InvalidProgramForExecution": UnsupportedProgram,
    "ProgramExecutionTemporarilyRestricted": UnsupportedProgram,
    "AccountLoadedTwice": RequestRejected,
    "AlreadyProcessed": RequestRejected,
    "CallChainTooDeep": RequestRejected,
    "DuplicateInstruction": RequestRejected,
    "InvalidAccountForFee": RequestRejected,
    "InvalidAccountIndex": RequestRejected,
    "InvalidAddressLookupTableData": RequestRejected,
    "InvalidAddressLookupTableIndex": RequestRejected,
    "InvalidAddressLookupTableOwner": RequestRejected,
    "InvalidLoadedAccountsDataSizeLimit": RequestRejected,
    "InvalidWritableAccount": RequestRejected,
    "MaxLoadedAccountsDataSizeExceeded": RequestRejected,
    "MissingSignatureForFee": RequestRejected,
    "SanitizeFailure": RequestRejected,
    "SignatureFailure": RequestRejected,
    "TooManyAccountLocks": RequestRejected,
    "UnsupportedVersion": RequestRejected,
}


def error_of_rpc(code: int, message: str, node: str) -> ConnectionFailed:
    """Return the error for a JSON-RPC error object; a code in no table is `BadAnswer`."""
    kind, name = RPC_ERRORS.get(code, (BadAnswer, "UnknownRpcCode"))
    return kind(f"{node}: {message[:200]}", raw_code=code, raw_name=name)


def error_of_status(status: int, node: str, retry_after_s: float | None) -> ConnectionFailed:
    """Return the error for an HTTP status other than 200."""
    if status == 429:  # noqa: PLR2004 - the HTTP status of that name
        return RateLimited(f"{node} answered 429", raw_code=status, retry_after_s=retry_after_s)
    if status >= 500:  # noqa: PLR2004 - the class of HTTP statuses
        return ServerError(f"{node} answered {status}", raw_code=status, retry_after_s=retry_after_s)
    return BadAnswer(f"{node} answered {status}", raw_code=status)


def error_of_wire(error: WireError, node: str, *, phase: Phase = Phase.NOT_SENT) -> ConnectionFailed:
    """Return the error for an answer that did not come whole."""
    kind = {"timeout": TimedOut, "cut": BadAnswer}.get(error.kind, Unreachable)
    return kind(f"{node}: {error.kind}", phase=phase, raw_name=error.kind)


def error_of_transaction(kind: str) -> ProviderError:
    """Return the error for a failure of a simulated transaction as a whole; a name in no table is `UnknownCode`."""
    return TRANSACTION_ERRORS.get(kind, UnknownCode)(f"the simulation answers {kind}", raw_name=kind)
