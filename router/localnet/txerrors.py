"""Transaction errors in the JSON form and in the words of Agave's RPC server."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from solders.transaction_metadata import FailedTransactionMetadata

from router.localnet.wire import Json

__all__ = ["custom", "describe", "failure_of", "instruction_error"]

_TRANSACTION_WORDS = {
    "AccountInUse": "Account in use",
    "AccountLoadedTwice": "Account loaded twice",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "TooManyAccountLocks": "Transaction locked too many accounts",
}
_INSTRUCTION_WORDS = {
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "MissingAccount": "An account required by the instruction is missing",
    "MissingRequiredSignature": "missing required signature for instruction",
    "NotEnoughAccountKeys": "insufficient account keys for instruction",
    "PrivilegeEscalation": "Cross-program invocation with unauthorized signer or writable account",
    "ProgramFailedToComplete": "Program failed to complete",
    "ReadonlyDataModified": "instruction modified data of a read-only account",
}


class _Failure(msgspec.Struct):
    """The part of LiteSVM's failure that says what went wrong."""

    err: msgspec.Raw


_FAILURE = msgspec.json.Decoder(_Failure)


def failure_of(failed: FailedTransactionMetadata) -> Json:
    """Return LiteSVM's error in the JSON form of the RPC."""
    decoded: Json = msgspec.json.decode(_FAILURE.decode(failed.to_json()).err)
    return decoded


def instruction_error(index: int, error: Json) -> Json:
    """Return an error of the instruction at `index`."""
    return {"InstructionError": [index, error]}


def custom(index: int, code: int) -> Json:
    """Return a program's own error."""
    return instruction_error(index, {"Custom": code})


def describe(err: Json) -> str:
    """Return the words that a node would put into its message."""
    if isinstance(err, str):
        return _TRANSACTION_WORDS.get(err, _spaced(err))
    if not isinstance(err, Mapping):
        return str(err)
    name, value = next(iter(err.items()))
    if name == "InstructionError" and isinstance(value, list):
        return f"Error processing Instruction {value[0]}: {_describe_instruction(value[1])}"
    if name == "InsufficientFundsForRent" and isinstance(value, Mapping):
        return f"Transaction results in an account ({value['account_index']}) with insufficient funds for rent"
    if name == "DuplicateInstruction":
        return f"Transaction contains a duplicate instruction ({value}) that is not allowed"
    return _spaced(name)


def _describe_instruction(error: Json) -> str:
    if isinstance(error, Mapping):
        name, value = next(iter(error.items()))
        return f"custom program error: {value:#x}" if name == "Custom" and isinstance(value, int) else _spaced(name)
    return _INSTRUCTION_WORDS.get(str(error), _spaced(str(error)))


def _spaced(name: str) -> str:
    """Return `CamelCase` as `camel case`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
