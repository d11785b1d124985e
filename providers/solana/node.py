"""One node: the JSON-RPC methods that are used, typed and checked, and what is known of the node's health."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Literal, NoReturn, TypeVar

import msgspec
import pybase64
from solders.hash import Hash
from solders.pubkey import Pubkey

from providers.base.clock import Clock
from providers.base.errors import BadAnswer, NodeBehind, Phase
from providers.solana.base58 import encode_base58
from providers.solana.body import BLOCKHASH_LIFE_BLOCKS
from providers.solana.logs import trace
from providers.solana.records import ProgramFailure, TransactionRecord, decode_transaction, parse_failure, programs_of
from providers.solana.rpc import RpcClient

__all__ = [
    "STALL_S",
    "AccountData",
    "AccountsAt",
    "Blockhash",
    "Commitment",
    "Node",
    "ProgramAccountsAt",
    "SignatureInfo",
    "SignatureStatus",
    "Simulation",
]

# `processed` is never evidence, and nothing here asks for it.
Commitment = Literal["confirmed", "finalized"]

MAX_ACCOUNTS = 100
MAX_SIGNATURES = 1000

STALL_S = 15.0
"""A node whose slot has not moved for this long stands still. A slot takes about 0.4 s."""
# A node's heights are read a moment apart; a whole cluster has skipped more slots than this within a day.
_BELIEVABLE_SPREAD_BLOCKS = 10_000

# Slots, heights and lamports: all far below 2^63, which is as far as the bounds of a decoder go.
_COUNT = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_T = TypeVar("_T")


class AccountData(msgspec.Struct, frozen=True):
    """An account that exists."""

    data: bytes
    owner: Pubkey
    lamports: int


class AccountsAt(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts in the order of the keys that were asked for (null: none there), all read at `slot`."""

    slot: int
    accounts: tuple[AccountData | None, ...]


class ProgramAccountsAt(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts of a program by address, all read at `slot`."""

    slot: int
    accounts: Mapping[Pubkey, AccountData]


class Blockhash(msgspec.Struct, frozen=True, kw_only=True):
    """A recent blockhash, the last block height that takes it, and the slot that it was read at."""

    blockhash: Hash
    last_valid_block_height: int
    slot: int


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """What an unsigned transaction would do; `units` are the compute units that it used.

    Only where `logs_complete` is a line that is *missing* evidence, as in `TransactionRecord`.
    """

    slot: int
    err: ProgramFailure | None
    logs: tuple[str, ...]
    logs_complete: bool
    units: int
    node: str


class SignatureInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an address's history; `failed` when the transaction landed with an error."""

    signature: str
    slot: int
    failed: bool


class SignatureStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A node's word on a signature: a hint where to look, never evidence (it mixes forks)."""

    slot: int
    failed: bool
    confirmation_status: str | None


class _Context(msgspec.Struct, frozen=True):
    slot: _COUNT


class _Account(msgspec.Struct, frozen=True):
    data: tuple[str, str]
    owner: str
    lamports: _COUNT


class _Accounts(msgspec.Struct, frozen=True):
    context: _Context
    value: tuple[_Account | None, ...]


class _Keyed(msgspec.Struct, frozen=True):
    pubkey: str
    account: _Account


class _ProgramAccounts(msgspec.Struct, frozen=True):
    context: _Context
    value: tuple[_Keyed, ...]


class _BlockhashValue(msgspec.Struct, frozen=True, rename="camel"):
    blockhash: str
    last_valid_block_height: _COUNT


class _LatestBlockhash(msgspec.Struct, frozen=True):
    context: _Context
    value: _BlockhashValue


class _Fee(msgspec.Struct, frozen=True, rename="camel"):
    prioritization_fee: _COUNT


class _SimulationValue(msgspec.Struct, frozen=True, rename="camel"):
    err: msgspec.Raw
    logs: tuple[str, ...] | None = None
    units_consumed: _COUNT | None = None


class _SimulationAnswer(msgspec.Struct, frozen=True):
    context: _Context
    value: _SimulationValue


class _Signature(msgspec.Struct, frozen=True):
    signature: str
    slot: _COUNT
    err: msgspec.Raw = msgspec.Raw(b"null")


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    slot: _COUNT
    err: msgspec.Raw = msgspec.Raw(b"null")
    confirmation_status: str | None = None


class _Statuses(msgspec.Struct, frozen=True):
    context: _Context
    value: tuple[_Status | None, ...]


_INTEGER: msgspec.json.Decoder[int] = msgspec.json.Decoder(_COUNT)
_TEXT = msgspec.json.Decoder(str)
_ACCOUNTS = msgspec.json.Decoder(_Accounts)
_BLOCKHASH = msgspec.json.Decoder(_LatestBlockhash)
_PROGRAM_ACCOUNTS = msgspec.json.Decoder(_ProgramAccounts)
_FEES = msgspec.json.Decoder(tuple[_Fee, ...])
_SIMULATION = msgspec.json.Decoder(_SimulationAnswer)
_SIGNATURES = msgspec.json.Decoder(tuple[_Signature, ...])
_STATUSES = msgspec.json.Decoder(_Statuses)


@lru_cache(maxsize=4096)
def _pubkey(text: str) -> Pubkey:
    return Pubkey.from_string(text)


class Node:
    """One node of the cluster.

    Attributes:
        genesis: hash that it answered, once asked; a node of another cluster than the pool's is never used.
        slot_seen: highest slot that any of its answers was read at.
        height_seen: highest confirmed block height that it spoke of and that its slot bears out.
        moved_at: monotonic second at which `slot_seen` last grew beyond an earlier answer; null before.
        slot_from, slot_asked_at: monotonic seconds at which `slot_seen` was first seen, and any slot last.
        sane_at: monotonic second at which the pool last found it fit for proofs; null before.
        failures, retry_at: failures in a row, and the monotonic second until which others are asked first.
    """

    def __init__(self, client: RpcClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self.genesis: str | None = None
        self.genesis_at = 0.0
        self.slot_seen = 0
        self.height_seen = 0
        self.moved_at: float | None = None
        self.slot_from = 0.0
        self.slot_asked_at = 0.0
        self.sane_at: float | None = None
        self.failures = 0
        self.retry_at = 0.0

    @property
    def name(self) -> str:
        """Its name in errors, logs and metrics."""
        return self._client.name

    @property
    def stands_still(self) -> bool:
        """Whether it went on to answer with the same slot for longer than a cluster that runs does."""
        return self.slot_asked_at - self.slot_from > STALL_S

    async def aclose(self) -> None:
        """Release connections."""
        await self._client.aclose()

    async def genesis_hash(self) -> str:
        """Return the cluster's genesis hash, and remember it."""
        genesis = await self._typed(_TEXT, "getGenesisHash", [])
        self.genesis, self.genesis_at = genesis, self._clock.monotonic()
        return genesis

    async def slot(self, commitment: Commitment) -> int:
        """Return the newest slot at a commitment."""
        slot = await self._typed(_INTEGER, "getSlot", [{"commitment": commitment}])
        self._see_slot(slot)
        return slot

    async def block_height(self, commitment: Commitment) -> int:
        """Return the newest block height at a commitment."""
        return await self._typed(_INTEGER, "getBlockHeight", [{"commitment": commitment}])

    async def tip(self) -> int:
        """Return the confirmed block height and remember it.

        Raises:
            BadAnswer: it is above the confirmed slot, or far from what the node's own newest blockhash says (a node
                that gives slots for heights: on a cluster that has skipped slots a transaction would never expire).
            ConnectionFailed: another leaf of it.
        """
        height = await self.block_height("confirmed")
        newest = await self.latest_blockhash("confirmed")
        if height > newest.slot:
            self._bad(f"block height {height} above slot {newest.slot}")
        by_blockhash = newest.last_valid_block_height - BLOCKHASH_LIFE_BLOCKS
        if abs(height - by_blockhash) > _BELIEVABLE_SPREAD_BLOCKS:
            self._bad(f"block height {height}, and {by_blockhash} by its newest blockhash")
        self.height_seen = max(self.height_seen, height)
        return height

    async def first_available_block(self) -> int:
        """Return the lowest slot whose transactions the node still serves."""
        return await self._typed(_INTEGER, "getFirstAvailableBlock", [])

    async def minimum_balance(self, space: int) -> int:
        """Return the lamports that make an account of `space` bytes exempt from rent."""
        return await self._typed(_INTEGER, "getMinimumBalanceForRentExemption", [space])

    async def latest_blockhash(self, commitment: Commitment = "confirmed") -> Blockhash:
        """Return the newest blockhash and how long it is valid; `BadAnswer` when that is longer than can be."""
        answer = await self._typed(_BLOCKHASH, "getLatestBlockhash", [{"commitment": commitment}])
        self._see_slot(answer.context.slot)
        # No chain has more blocks than slots. What is signed with such a height could not be proven for hours.
        if answer.value.last_valid_block_height > answer.context.slot + _BELIEVABLE_SPREAD_BLOCKS:
            self._bad(f"a last valid height of {answer.value.last_valid_block_height} at slot {answer.context.slot}")
        try:
            blockhash = Hash.from_string(answer.value.blockhash)
        except ValueError as error:
            self._bad("a blockhash that is none", error)
        return Blockhash(
            blockhash=blockhash,
            last_valid_block_height=answer.value.last_valid_block_height,
            slot=answer.context.slot,
        )

    async def accounts(
        self, keys: Sequence[Pubkey], *, commitment: Commitment = "confirmed", min_context_slot: int = 0
    ) -> AccountsAt:
        """Read up to 100 accounts at one slot; `NodeBehind` when that slot is below `min_context_slot`."""
        if len(keys) > MAX_ACCOUNTS:
            raise ValueError(f"{len(keys)} accounts asked for at once, {MAX_ACCOUNTS} is the most")
        config: dict[str, object] = {"commitment": commitment, "encoding": "base64"}
        if min_context_slot:
            config["minContextSlot"] = min_context_slot
        answer = await self._typed(_ACCOUNTS, "getMultipleAccounts", [[str(key) for key in keys], config])
        self._see_context(answer.context.slot, min_context_slot)
        if len(answer.value) != len(keys):
            self._bad(f"{len(answer.value)} accounts for {len(keys)} keys")
        try:
            accounts = tuple(_account(each) for each in answer.value)
        except (binascii.Error, ValueError) as error:
            self._bad("an account that cannot be read", error)
        return AccountsAt(slot=answer.context.slot, accounts=accounts)

    async def program_accounts(
        self,
        program_id: Pubkey,
        holding: Sequence[tuple[int, bytes]],
        *,
        commitment: Commitment = "confirmed",
        min_context_slot: int = 0,
    ) -> ProgramAccountsAt:
        """Read the accounts of a program that hold certain bytes; `NodeBehind` below `min_context_slot`.

        Args:
            program_id: their owner.
            holding: places, from the first byte of the account, and what stands there.
            commitment: to read at.
            min_context_slot: at or after which to read.
        """
        filters = [{"memcmp": {"offset": at, "bytes": encode_base58(content)}} for at, content in holding]
        config: dict[str, object] = {
            "commitment": commitment,
            "encoding": "base64",
            "filters": filters,
            "withContext": True,
        }
        if min_context_slot:
            config["minContextSlot"] = min_context_slot
        answer = await self._typed(_PROGRAM_ACCOUNTS, "getProgramAccounts", [str(program_id), config])
        self._see_context(answer.context.slot, min_context_slot)
        try:
            found = {_pubkey(each.pubkey): _account(each.account) for each in answer.value}
        except (binascii.Error, ValueError) as error:
            self._bad("an account that cannot be read", error)
        return ProgramAccountsAt(
            slot=answer.context.slot, accounts={key: account for key, account in found.items() if account is not None}
        )

    async def recent_fees(self, keys: Sequence[Pubkey]) -> tuple[int, ...]:
        """Return the priority fees of recent blocks that wrote these accounts, micro-lamports per compute unit."""
        answer = await self._typed(_FEES, "getRecentPrioritizationFees", [[str(key) for key in keys]])
        return tuple(each.prioritization_fee for each in answer)

    async def simulate(self, unsigned: bytes, *, min_context_slot: int = 0) -> Simulation:
        """Run an unsigned transaction (zeroed signatures, its own blockhash) against the confirmed state."""
        config: dict[str, object] = {
            "sigVerify": False,
            "replaceRecentBlockhash": False,
            "commitment": "confirmed",
            "encoding": "base64",
        }
        if min_context_slot:
            config["minContextSlot"] = min_context_slot
        wire = pybase64.b64encode(unsigned).decode("ascii")
        answer = await self._typed(_SIMULATION, "simulateTransaction", [wire, config])
        self._see_context(answer.context.slot, min_context_slot)
        logs = answer.value.logs or ()
        programs = programs_of(unsigned)
        err = parse_failure(answer.value.err, logs, programs)
        if err is None and not answer.value.units_consumed:
            self._bad("a simulation that does not say what it used")
        return Simulation(
            slot=answer.context.slot,
            err=err,
            logs=logs,
            logs_complete=trace(logs, programs, None if err is None else err.instruction_index).complete,
            units=answer.value.units_consumed or 0,
            node=self.name,
        )

    async def send(self, signed: str) -> str:
        """Hand over signed bytes (base64) without preflight or the node's own retries; return the signature it says."""
        config = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        return await self._typed(_TEXT, "sendTransaction", [signed, config])

    async def transaction(self, signature: str, commitment: Commitment) -> TransactionRecord | None:
        """Return a landed transaction, or null when this node does not know it."""
        config = {"encoding": "base64", "commitment": commitment, "maxSupportedTransactionVersion": 0}
        raw = await self._client.call("getTransaction", [signature, config])
        return decode_transaction(raw, signature, finalized=commitment == "finalized")

    async def signatures_for(
        self,
        address: Pubkey,
        *,
        before: str | None = None,
        until: str | None = None,
        limit: int = MAX_SIGNATURES,
        commitment: Commitment = "confirmed",
        min_context_slot: int = 0,
    ) -> tuple[SignatureInfo, ...]:
        """Return transactions that name an address, newest first."""
        config: dict[str, object] = {"commitment": commitment, "limit": limit}
        if before is not None:
            config["before"] = before
        if until is not None:
            config["until"] = until
        if min_context_slot:
            config["minContextSlot"] = min_context_slot
        answer = await self._typed(_SIGNATURES, "getSignaturesForAddress", [str(address), config])
        return tuple(
            SignatureInfo(signature=each.signature, slot=each.slot, failed=bytes(each.err) != b"null")
            for each in answer
        )

    async def signature_statuses(
        self, signatures: Sequence[str], *, search_history: bool = False
    ) -> tuple[SignatureStatus | None, ...]:
        """Return what the node says of up to 256 signatures: hints only."""
        config = {"searchTransactionHistory": search_history}
        answer = await self._typed(_STATUSES, "getSignatureStatuses", [list(signatures), config])
        if len(answer.value) != len(signatures):
            self._bad(f"{len(answer.value)} statuses for {len(signatures)} signatures")
        return tuple(None if each is None else _status(each) for each in answer.value)

    async def _typed(self, decoder: msgspec.json.Decoder[_T], method: str, params: list[object]) -> _T:
        raw = await self._client.call(method, params)
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._bad(f"{method} in a shape that it does not have", error)

    def _bad(self, detail: str, cause: Exception | None = None) -> NoReturn:
        # There was an answer, so the request had left.
        raise BadAnswer(f"{self.name}: {detail}", phase=Phase.MAYBE_SENT) from cause

    def _see_context(self, slot: int, min_context_slot: int) -> None:
        self._see_slot(slot)
        if slot < min_context_slot:
            raise NodeBehind(f"{self.name}: read at slot {slot}, {min_context_slot} was asked for")

    def _see_slot(self, slot: int) -> None:
        now = self._clock.monotonic()
        self.slot_asked_at = now
        if slot > self.slot_seen:
            if self.slot_seen:
                self.moved_at = now
            self.slot_seen, self.slot_from = slot, now


def _account(raw: _Account | None) -> AccountData | None:
    if raw is None:
        return None
    text, encoding = raw.data
    if encoding != "base64":
        raise ValueError(encoding)
    return AccountData(pybase64.b64decode(text, validate=True), _pubkey(raw.owner), raw.lamports)


def _status(raw: _Status) -> SignatureStatus:
    failed = bytes(raw.err) != b"null"
    return SignatureStatus(slot=raw.slot, failed=failed, confirmation_status=raw.confirmation_status)
