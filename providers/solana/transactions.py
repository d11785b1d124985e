"""Version 0 messages, compute budget, lookup tables, and wire bytes with zeroed or real signatures."""

from __future__ import annotations

from collections.abc import Sequence

from solders.address_lookup_table_account import AddressLookupTable, AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey

from providers.base.errors import AccountMissing, RequestRejected
from providers.solana.node import AccountData

__all__ = [
    "MAX_COMPUTE_UNITS",
    "SIGNATURE_FEE_LAMPORTS",
    "ComputeBudget",
    "compile_message",
    "message_bytes",
    "required_signers",
    "table_of",
    "wire_of",
    "written_accounts",
]

MAX_COMPUTE_UNITS = 1_400_000
SIGNATURE_FEE_LAMPORTS = 5_000
MAX_TRANSACTION_BYTES = 1232
_SIGNATURE_BYTES = 64
_COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
_LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
_SET_LOADED_ACCOUNTS_DATA_SIZE_LIMIT = 4
MAX_LOADED_BYTES = 64 * 1024 * 1024


class ComputeBudget:
    """The instructions that lead a transaction.

    Args:
        units: compute unit limit.
        price: micro-lamports per compute unit.
        loaded_bytes: limit of loaded account data; null leaves the runtime's 64 MiB. A transaction without order lock
            is made unique by a random value here, which costs nothing (see `sender`).
    """

    def __init__(self, *, units: int, price: int, loaded_bytes: int | None) -> None:
        self.units = units
        self.price = price
        self.loaded_bytes = loaded_bytes

    def instructions(self) -> list[Instruction]:
        """Return them in order: limit, price, and the data limit where there is one."""
        instructions = [set_compute_unit_limit(self.units), set_compute_unit_price(self.price)]
        if self.loaded_bytes is not None:
            data = bytes([_SET_LOADED_ACCOUNTS_DATA_SIZE_LIMIT]) + self.loaded_bytes.to_bytes(4, "little")
            instructions.append(Instruction(_COMPUTE_BUDGET, data, []))
        return instructions


def table_of(key: Pubkey, account: AccountData | None) -> AddressLookupTableAccount:
    """Read a lookup table's account.

    Raises:
        AccountMissing: there is no such table.
    """
    if account is None or account.owner != _LOOKUP_TABLE_PROGRAM:
        raise AccountMissing(f"{key} is not a lookup table")
    return AddressLookupTableAccount(key, AddressLookupTable.deserialize(account.data).addresses)


def compile_message(
    payer: Pubkey,
    instructions: Sequence[Instruction],
    tables: Sequence[AddressLookupTableAccount],
    blockhash: Hash,
) -> MessageV0:
    """Compile a version 0 message.

    Raises:
        RequestRejected: it does not fit a packet (1,232 bytes with its signatures).
    """
    message = MessageV0.try_compile(payer, list(instructions), list(tables), blockhash)
    signatures = message.header.num_required_signatures
    size = 1 + signatures * _SIGNATURE_BYTES + len(message_bytes(message))
    if size > MAX_TRANSACTION_BYTES:
        raise RequestRejected(f"a transaction of {size} bytes does not fit {MAX_TRANSACTION_BYTES}")
    return message


def message_bytes(message: MessageV0) -> bytes:
    """Return what is signed: the version byte and the message."""
    return bytes(to_bytes_versioned(message))


def required_signers(message: MessageV0) -> list[Pubkey]:
    """Return the keys that must sign, the fee payer first."""
    return message.account_keys[: message.header.num_required_signatures]


def wire_of(message: bytes, signatures: Sequence[bytes]) -> bytes:
    """Put signatures before a message; 64 zero bytes stand for one that is not given (for simulations)."""
    return bytes([len(signatures)]) + b"".join(signatures) + message


def written_accounts(instructions: Sequence[Instruction], limit: int = 128) -> list[Pubkey]:
    """Return the accounts that the instructions write, each once, in order; at most `limit`."""
    written: dict[Pubkey, None] = {}
    for instruction in instructions:
        for meta in instruction.accounts:
            if meta.is_writable:
                written[meta.pubkey] = None
    return list(written)[:limit]
