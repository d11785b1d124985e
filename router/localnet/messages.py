"""A transaction's message with its lookup tables resolved, as the runtime loads it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey

__all__ = [
    "COMPUTE_BUDGET_PROGRAM",
    "LAMPORTS_PER_SIGNATURE",
    "LOOKUP_TABLE_PROGRAM",
    "SLOT_HASHES",
    "LoadFailure",
    "Loaded",
    "load",
]

COMPUTE_BUDGET_PROGRAM = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
SLOT_HASHES = Pubkey.from_string("SysvarS1otHashes111111111111111111111111111")
LAMPORTS_PER_SIGNATURE = 5_000
MAX_COMPUTE_UNITS = 1_400_000
_UNITS_PER_INSTRUCTION = 200_000
_UNITS_PER_BUILTIN = 3_000
_BUILTINS = frozenset({Pubkey.default(), COMPUTE_BUDGET_PROGRAM, LOOKUP_TABLE_PROGRAM})
_TABLE_HEADER = 56  # bytes before the addresses in a lookup table account
_COOL_DOWN_SLOTS = 512  # a deactivated table stays readable while its slot is in SlotHashes
_MAX_LOCKS = 64
_SET_LIMIT, _SET_PRICE = 2, 3


class LoadFailure(Exception):
    """The transaction cannot be loaded; it never lands. `err` is the runtime's error in JSON form."""

    def __init__(self, err: str | dict[str, int]) -> None:
        super().__init__(str(err))
        self.err = err


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A message ready to run.

    Attributes:
        keys: static keys, then those loaded writable, then those loaded read-only.
        static: how many of them are static.
        signers: how many of the first must sign; the first pays.
        writable: for each key.
        instructions: with the transaction's flags on every account.
        from_tables: loaded writable and loaded read-only addresses.
        compute_limit: compute units that the transaction may use.
        fee: base and priority fee in lamports.
    """

    keys: tuple[Pubkey, ...]
    static: int
    signers: int
    writable: tuple[bool, ...]
    instructions: tuple[Instruction, ...]
    from_tables: tuple[tuple[Pubkey, ...], tuple[Pubkey, ...]]
    compute_limit: int
    fee: int
    priority_fee: int

    @property
    def payer(self) -> Pubkey:
        """Who pays the fee."""
        return self.keys[0]


def load(message: Message | MessageV0, read: Callable[[Pubkey], Account | None], slot: int) -> Loaded:
    """Resolve `message` at `slot`; raises `LoadFailure`."""
    static = list(message.account_keys)
    header = message.header
    writable_tables: list[Pubkey] = []
    readonly_tables: list[Pubkey] = []
    if isinstance(message, MessageV0):
        for lookup in message.address_table_lookups:
            addresses = _table(read(lookup.account_key), slot)
            try:
                writable_tables.extend(addresses[index] for index in bytes(lookup.writable_indexes))
                readonly_tables.extend(addresses[index] for index in bytes(lookup.readonly_indexes))
            except IndexError:
                raise LoadFailure("InvalidAddressLookupTableIndex") from None
    keys = (*static, *writable_tables, *readonly_tables)
    if len(keys) > _MAX_LOCKS:
        raise LoadFailure("TooManyAccountLocks")
    if len(set(keys)) != len(keys):
        raise LoadFailure("AccountLoadedTwice")
    signers = header.num_required_signatures
    last_writable_signer = signers - header.num_readonly_signed_accounts
    last_writable = len(static) - header.num_readonly_unsigned_accounts
    called = {instruction.program_id_index for instruction in message.instructions}
    writable = tuple(
        index not in called
        and (
            index < last_writable_signer
            or signers <= index < last_writable
            or len(static) <= index < len(static) + len(writable_tables)
        )
        for index in range(len(keys))
    )
    metas = tuple(AccountMeta(key, index < signers, writable[index]) for index, key in enumerate(keys))
    try:
        instructions = tuple(
            Instruction(
                keys[instruction.program_id_index],
                bytes(instruction.data),
                [metas[index] for index in bytes(instruction.accounts)],
            )
            for instruction in message.instructions
        )
    except IndexError:
        raise LoadFailure("SanitizeFailure") from None
    limit, price = _compute_budget(instructions)
    priority_fee = -(-limit * price // 1_000_000)
    return Loaded(
        keys=keys,
        static=len(static),
        signers=signers,
        writable=writable,
        instructions=instructions,
        from_tables=(tuple(writable_tables), tuple(readonly_tables)),
        compute_limit=limit,
        fee=LAMPORTS_PER_SIGNATURE * signers + priority_fee,
        priority_fee=priority_fee,
    )


def _table(account: Account | None, slot: int) -> list[Pubkey]:
    """Return the addresses of a lookup table that may be used at `slot`.

    Layout: u32 kind, u64 deactivation slot, u64 last extended slot, u8 first index of the last extension (Agave).
    """
    if account is None:
        raise LoadFailure("AddressLookupTableNotFound")
    if account.owner != LOOKUP_TABLE_PROGRAM:
        raise LoadFailure("InvalidAddressLookupTableOwner")
    data = account.data
    if len(data) < _TABLE_HEADER or int.from_bytes(data[:4], "little") != 1 or (len(data) - _TABLE_HEADER) % 32:
        raise LoadFailure("InvalidAddressLookupTableData")
    deactivated = int.from_bytes(data[4:12], "little")
    if deactivated != 2**64 - 1 and slot > deactivated + _COOL_DOWN_SLOTS:
        raise LoadFailure("AddressLookupTableNotFound")
    count = (len(data) - _TABLE_HEADER) // 32
    if slot <= int.from_bytes(data[12:20], "little"):
        count = min(count, data[20])
    return [Pubkey(data[start : start + 32]) for start in range(_TABLE_HEADER, _TABLE_HEADER + 32 * count, 32)]


def _compute_budget(instructions: tuple[Instruction, ...]) -> tuple[int, int]:
    """Return the compute limit in units and the price in micro-lamports per unit."""
    limit: int | None = None
    price: int | None = None
    default = 0
    for index, instruction in enumerate(instructions):
        if instruction.program_id != COMPUTE_BUDGET_PROGRAM:
            builtin = instruction.program_id in _BUILTINS
            default += _UNITS_PER_BUILTIN if builtin else _UNITS_PER_INSTRUCTION
            continue
        default += _UNITS_PER_BUILTIN
        data = bytes(instruction.data)
        if data[:1] == bytes([_SET_LIMIT]) and len(data) >= 5:  # noqa: PLR2004 - tag and u32
            if limit is not None:
                raise LoadFailure({"DuplicateInstruction": index})
            limit = int.from_bytes(data[1:5], "little")
        elif data[:1] == bytes([_SET_PRICE]) and len(data) >= 9:  # noqa: PLR2004 - tag and u64
            if price is not None:
                raise LoadFailure({"DuplicateInstruction": index})
            price = int.from_bytes(data[1:9], "little")
    return min(default if limit is None else limit, MAX_COMPUTE_UNITS), price or 0
