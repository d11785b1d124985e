"""From instructions to signed bytes, and from signed bytes to every node.

`prepare` only ever shows nodes an *unsigned* message, so whatever goes wrong in it proves that nothing was sent.
`submit` is the only call that sends.

Two attempts must never have the same bytes. With an order lock its lamports (base + k) differ; without one, the limit
of loaded account data carries 24 random bits (any value of the range is far above what is loaded, and costs nothing).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature

from providers.base.clock import Clock
from providers.base.errors import (
    BadAnswer,
    ConnectionFailed,
    FeePayerShort,
    LiveTradingOff,
    LockHeld,
    NodeBehind,
    ProviderError,
    RequestRejected,
    SignerRefused,
)
from providers.base.types import Ack, LockRef, Purpose, Submission
from providers.solana.body import BLOCKHASH_LIFE_BLOCKS, SolanaBody, decode_body
from providers.solana.errors import ForeignLockBase, error_of_transaction
from providers.solana.fees import priority_fee
from providers.solana.lock_account import ACCOUNT_IN_USE, RESULT_WITH_NEGATIVE_LAMPORTS, lock_instruction
from providers.solana.node import Blockhash
from providers.solana.pool import NodePool
from providers.solana.records import ProgramFailure
from providers.solana.settings import MAINNET_GENESIS, SolanaSettings
from providers.solana.signer import Signer
from providers.solana.transactions import (
    MAX_COMPUTE_UNITS,
    MAX_LOADED_BYTES,
    SIGNATURE_FEE_LAMPORTS,
    ComputeBudget,
    compile_message,
    message_bytes,
    required_signers,
    table_of,
    wire_of,
    written_accounts,
)

__all__ = ["Classify", "Inspect", "Sender", "SolanaBody", "decode_body"]

logger = logging.getLogger(__name__)

# The venue's own table: the failure and the logs in, a leaf of `ProviderError` out.
Classify = Callable[[ProgramFailure, tuple[str, ...]], ProviderError]
# The venue's look at what a simulation that succeeded would do; raises a leaf of `ProviderError` to refuse it.
Inspect = Callable[[tuple[str, ...]], None]

_NO_SIGNATURE = bytes(64)
_UNIQUE_BITS = 24
# A last valid height further ahead would keep what is signed unprovable for an hour.
_BELIEVABLE_LEAD_BLOCKS = 10_000
_TIPS_GRACE_S = 0.5
_TO_ALL_NODES = frozenset({Purpose.CLOSE, Purpose.CANCEL, Purpose.FENCE, Purpose.RECLAIM})
_REMEMBERED_HANDLES = 10_000


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a transaction that is known before its compute limit."""

    instructions: tuple[Instruction, ...]
    locked: bool
    tables: tuple[AddressLookupTableAccount, ...]
    blockhash: Blockhash
    price: int
    loaded_bytes: int | None
    payer_lamports: int

    def message(self, payer: Pubkey, units: int) -> MessageV0:
        budget = ComputeBudget(units=units, price=self.price, loaded_bytes=self.loaded_bytes).instructions()
        return compile_message(payer, (*budget, *self.instructions), self.tables, self.blockhash.blockhash)

    @property
    def budget_count(self) -> int:
        return 2 if self.loaded_bytes is None else 3

    @property
    def lock_index(self) -> int | None:
        return self.budget_count if self.locked else None


class Sender:
    """Builds, simulates, signs and sends.

    Args:
        pool: where reads, simulations and the first send go.
        signer: pays and signs; null: the service quotes only.
        clock: for randomness.
        settings: fees, margins, switches.
        all_nodes: every node of the cluster, which every later send also goes to; `pool` when null.
        co_signers: further keys that may have to sign (a lock key that is not the payer).
    """

    def __init__(
        self,
        pool: NodePool,
        signer: Signer | None,
        clock: Clock,
        settings: SolanaSettings,
        *,
        all_nodes: NodePool | None = None,
        co_signers: Sequence[Signer] = (),
    ) -> None:
        self._pool = pool
        self._all = all_nodes if all_nodes is not None else pool
        self._signer = signer
        self._clock = clock
        self._settings = settings
        self._signers: Mapping[Pubkey, Signer] = {
            each.public_key: each for each in (*co_signers, *(() if signer is None else (signer,)))
        }
        self._tables: dict[Pubkey, AddressLookupTableAccount] = {}
        self._sent_before: OrderedDict[str, None] = OrderedDict()

    async def prepare(
        self,
        *,
        provider: str,
        purpose: Purpose,
        instructions: Sequence[Instruction],
        lock: LockRef | None,
        number: int,
        size: Decimal,
        may_fill_until: datetime | None,
        venue: bytes,
        classify: Classify,
        lookup_tables: Sequence[Pubkey] = (),
        inspect: Inspect | None = None,
    ) -> Submission:
        """Build, simulate unsigned, and sign. Nothing has been sent, whatever is raised.

        Args:
            provider: whose submission it is.
            purpose: of the transaction; an open also leaves the SOL reserve untouched.
            instructions: the venue's own; compute budget and lock go ahead of them.
            lock: the generation to carry; null for what needs none.
            number: of the attempt (k of the lock).
            size: base units that count as filled in full.
            may_fill_until: copied into the submission.
            venue: the venue's own JSON, kept in the body.
            classify: called with the failure of a venue instruction (`program_id` is that of the innermost failing
                program in complete logs) and the logs.
            lookup_tables: addresses of tables to compile with.
            inspect: called with the logs of a simulation that succeeded, only when they are complete; what it raises
                is raised, and nothing has been sent.

        Raises:
            LiveTradingOff: mainnet without the second switch, or no key.
            SignerRefused: a required key is not ours, or the signer would not.
            ForeignLockBase: the lock belongs to another key than the signer's.
            LockHeld: the simulation finds the lock taken (custom 0 at the lock instruction).
            FeePayerShort: too little SOL for fees, rent or the lock, or (open) for the reserve.
            ProviderError: what `classify` makes of the venue's error, or a leaf of `ConnectionFailed`.
        """
        genesis, signer = await self._may_sign()
        payer = signer.public_key
        locking: tuple[Instruction, ...] = ()
        if lock is not None:
            if Pubkey.from_string(lock.terms.base) not in self._signers:
                raise ForeignLockBase(f"the order's lock belongs to {lock.terms.base}; the signer is {payer}")
            locking = (lock_instruction(lock, payer=payer, number=number),)
        # Every node is asked how high the chain is: one that gives too low a last valid height must not make a proof
        # of expiry early. It goes on beside the rest.
        tips = self._all.ask_tips()
        draft = await self._draft(payer, locking, tuple(instructions), lookup_tables)
        units = await self._simulate(draft, payer, classify, inspect)
        height = await self._height(tips, draft.blockhash)
        limit = min(units + units * self._settings.compute_margin_percent // 100, MAX_COMPUTE_UNITS)
        if purpose is Purpose.OPEN:
            lamports = 0 if lock is None else lock.terms.base_lamports + number
            self._check_reserve(draft, limit, lamports)
        message = draft.message(payer, limit)
        signed, signature = await self._sign(message)
        body = SolanaBody(
            signed=signed,
            blockhash=str(draft.blockhash.blockhash),
            last_valid_block_height=draft.blockhash.last_valid_block_height,
            height_at_signing=height,
            slot_at_signing=min(draft.blockhash.slot, self._all.lowest_slot or draft.blockhash.slot),
            genesis_hash=genesis,
            lock_instruction_index=draft.lock_index,
            signer=str(payer),
            venue=msgspec.Raw(venue or b"null"),
        )
        return Submission(
            provider=provider,
            purpose=purpose,
            handle=signature,
            body=msgspec.json.encode(body),
            size=size,
            may_fill_until=may_fill_until,
            lock=lock,
        )

    async def submit(self, submission: Submission) -> Ack:
        """Give the signed bytes to every node; an open the first time to the venue's own nodes, where it has some.

        Never raises for what a node answers. What must not wait for a venue's own nodes (closes, cancels, fences,
        reclaims) goes to all nodes of the cluster at once.
        """
        body = decode_body(submission)
        again = submission.handle in self._sent_before or submission.purpose in _TO_ALL_NODES
        self._sent_before[submission.handle] = None
        if len(self._sent_before) > _REMEMBERED_HANDLES:
            self._sent_before.popitem(last=False)
        if self._all is self._pool or not again:
            return await self._pool.send_to_all(body.signed, submission.handle)
        acks = await asyncio.gather(
            self._pool.send_to_all(body.signed, submission.handle),
            self._all.send_to_all(body.signed, submission.handle),
        )
        return Ack(
            accepted=sum(ack.accepted for ack in acks),
            errors=tuple(error for ack in acks for error in ack.errors),
            not_sent=all(ack.not_sent for ack in acks),
        )

    async def _may_sign(self) -> tuple[str, Signer]:
        if self._signer is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        genesis = await self._all.genesis_hash()
        if self._pool is not self._all and await self._pool.genesis_hash() != genesis:
            raise BadAnswer("the venue's nodes belong to another cluster than the router's")
        if genesis == MAINNET_GENESIS and not self._settings.live_trading:
            raise LiveTradingOff("mainnet needs live trading switched on")
        return genesis, self._signer

    async def _height(self, tips: asyncio.Task[tuple[int, ...]], blockhash: Blockhash) -> int:
        """Return the highest block height known, waiting for slow nodes no longer than a moment."""
        grace = asyncio.ensure_future(self._clock.sleep(_TIPS_GRACE_S))
        await asyncio.wait({tips, grace}, return_when=asyncio.FIRST_COMPLETED)
        grace.cancel()
        now = max(tips.result(), default=0) if tips.done() else 0
        last_valid = blockhash.last_valid_block_height
        if now and last_valid > now + _BELIEVABLE_LEAD_BLOCKS:
            raise BadAnswer(f"a last valid height of {last_valid} at a height of {now}")
        return max(self._all.highest_height, last_valid - BLOCKHASH_LIFE_BLOCKS)

    async def _draft(
        self,
        payer: Pubkey,
        locking: tuple[Instruction, ...],
        instructions: tuple[Instruction, ...],
        tables: Sequence[Pubkey],
    ) -> _Draft:
        missing = [key for key in tables if key not in self._tables]
        blockhash, fees, accounts = await asyncio.gather(
            self._pool.latest_blockhash(),
            self._recent_fees(instructions),
            self._pool.accounts([payer, *missing]),
        )
        for key, account in zip(missing, accounts.accounts[1:], strict=True):
            self._tables[key] = table_of(key, account)
        wallet = accounts.accounts[0]
        unique = int.from_bytes(self._clock.random_bytes(_UNIQUE_BITS // 8), "big")
        return _Draft(
            instructions=(*locking, *instructions),
            locked=bool(locking),
            tables=tuple(self._tables[key] for key in tables),
            blockhash=blockhash,
            price=priority_fee(
                fees,
                percentile=self._settings.priority_fee_percentile,
                floor=self._settings.priority_fee_floor,
                cap=self._settings.priority_fee_cap,
            ),
            loaded_bytes=None if locking else MAX_LOADED_BYTES - unique,
            payer_lamports=0 if wallet is None else wallet.lamports,
        )

    async def _recent_fees(self, instructions: Sequence[Instruction]) -> tuple[int, ...]:
        try:
            return await self._pool.recent_fees(written_accounts(instructions))
        except ConnectionFailed as error:
            # The fee decides how soon it lands, not whether it is right: the floor will do.
            logger.warning("recent_fees_unavailable", extra={"code": error.code, "detail": error.detail})
            return ()

    async def _simulate(self, draft: _Draft, payer: Pubkey, classify: Classify, inspect: Inspect | None) -> int:
        message = draft.message(payer, MAX_COMPUTE_UNITS)
        unsigned = wire_of(message_bytes(message), [_NO_SIGNATURE] * len(required_signers(message)))
        try:
            simulation = await self._pool.simulate(unsigned, min_context_slot=draft.blockhash.slot)
        except NodeBehind:
            # A lookup table that no node knows any more was closed: read them anew the next time.
            self._tables.clear()
            raise
        if simulation.err is not None:
            raise _refusal(simulation.err, simulation.logs, draft, classify)
        if inspect is not None and simulation.logs_complete:
            inspect(simulation.logs)
        return simulation.units

    def _check_reserve(self, draft: _Draft, units: int, lock_lamports: int) -> None:
        fee = SIGNATURE_FEE_LAMPORTS * len(self._signers) + -(-draft.price * units // 1_000_000)
        needed = self._settings.sol_reserve_lamports + lock_lamports + fee
        if draft.payer_lamports < needed:
            raise FeePayerShort(
                f"the wallet has {draft.payer_lamports} lamports, an open needs {needed} (reserve included)"
            )

    async def _sign(self, message: MessageV0) -> tuple[bytes, str]:
        content = message_bytes(message)
        signatures: list[bytes] = []
        for key in required_signers(message):
            signer = self._signers.get(key)
            if signer is None:
                raise SignerRefused(f"the transaction needs the signature of {key}")
            signature = await signer.sign(content)
            if len(signature) != len(_NO_SIGNATURE):
                raise SignerRefused("the signer gave something that is not a signature")
            signatures.append(signature)
        return wire_of(content, signatures), str(Signature.from_bytes(signatures[0]))


def _refusal(
    failure: ProgramFailure,
    logs: tuple[str, ...],
    draft: _Draft,
    classify: Classify,
) -> ProviderError:
    """Return what a failed simulation means (DESIGN 6, sending 1)."""
    index = failure.instruction_index
    if index is None:
        return error_of_transaction(failure.kind)
    name = failure.kind if failure.code is None else f"SystemError {failure.code}"
    if index == draft.lock_index:
        if failure.code == ACCOUNT_IN_USE:
            return LockHeld("the order lock is taken", raw_code=failure.code, raw_name="AccountAlreadyInUse")
        if failure.code == RESULT_WITH_NEGATIVE_LAMPORTS:
            return FeePayerShort(
                "too little SOL for the order lock", raw_code=failure.code, raw_name="ResultWithNegativeLamports"
            )
        return RequestRejected("the lock instruction fails", raw_code=failure.code, raw_name=name)
    if index < draft.budget_count:
        return RequestRejected("a compute budget instruction fails", raw_code=failure.code, raw_name=name)
    return classify(failure, logs)
