"""What became of a submission, by proof (DESIGN 6, proofs of death). Nothing here is concluded from an error answer.

| proof | read | nodes |
|---|---|---|
| landed (with or without `err`) | `getTransaction` at `confirmed` | one (`err` without a lock: as for absence) |
| superseded or fenced: another transaction holds the lock generation | its metadata at `confirmed` | two |
| expired, with lock: height past the expiry height, and the lock free at a slot past that height | `finalized` | two |
| expired, without: height past it, signature unknown where the whole window is served | `finalized` | two |

"Two" is two sane nodes where two are configured. `proof_commitment=finalized` raises the first two. Whether an executed
transaction filled anything is the venue's to say (proof 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import msgspec

from providers.base.errors import ConnectionFailed
from providers.base.types import LockRef, Submission
from providers.solana.body import SolanaBody, decode_body
from providers.solana.lock_account import ACCOUNT_IN_USE, lock_address
from providers.solana.lock_state import read_lock_state
from providers.solana.node import Commitment, Node
from providers.solana.pool import NodePool
from providers.solana.records import ProgramFailure, TransactionRecord
from providers.solana.settings import SolanaSettings

__all__ = ["Examination", "Expired", "FailedOnChain", "Landed", "Proofs", "Superseded", "Unclear"]

# A node writes a transaction's status a little after its block; without a lock to read, absence waits this much longer.
_STATUS_LAG_BLOCKS = 32


class Landed(msgspec.Struct, frozen=True, kw_only=True, tag="landed"):
    """It executed. What it filled is the venue's to say."""

    record: TransactionRecord


class FailedOnChain(msgspec.Struct, frozen=True, kw_only=True, tag="failed_on_chain"):
    """It landed with an error and changed nothing but the fee: dead by proof 2."""

    record: TransactionRecord
    failure: ProgramFailure


class Superseded(msgspec.Struct, frozen=True, kw_only=True, tag="superseded"):
    """Another transaction holds the lock generation, so this one can never execute; `holder` is its signature."""

    holder: str
    slot: int


class Expired(msgspec.Struct, frozen=True, kw_only=True, tag="expired"):
    """It never executed and never can: dead by proof 4, read at `finalized` at `slot`."""

    slot: int
    height: int


class Unclear(msgspec.Struct, frozen=True, kw_only=True, tag="unclear"):
    """Nothing is proven yet."""

    reason: str


Examination = Landed | FailedOnChain | Superseded | Expired | Unclear


class _Past(msgspec.Struct, frozen=True, kw_only=True):
    """One node's reading past the expiry height; `gone` when it shows that nothing executed."""

    gone: bool
    slot: int
    height: int


class Proofs:
    """Examines submissions with every node of the cluster.

    Args:
        pool: every node, whatever a venue reads with.
        settings: `proof_commitment`.
    """

    def __init__(self, pool: NodePool, settings: SolanaSettings) -> None:
        self._pool = pool
        self._settings = settings

    async def examine(
        self, submission: Submission, known: Sequence[str] = (), *, commitment: Commitment | None = None
    ) -> Examination:
        """Return what is proven now; callable at any time, again and again, from the submission alone.

        An order that was settled as filled at `finalized` must not be examined again after its lock was reclaimed: a
        reclaimed lock reads as free.

        Args:
            submission: what was journaled.
            known: signatures of its siblings and fences, to find a holder sooner.
            commitment: of the presence reads; the setting when null.
        """
        try:
            return await self._examine(submission, known, commitment or self._settings.proof_commitment)
        except ConnectionFailed as error:
            return Unclear(reason=str(error))

    async def expired(self, submission: Submission) -> bool:
        """Whether the blockhash is past at `finalized` for good, by as many nodes as absence needs."""
        limit = decode_body(submission).expiry_height
        try:
            heights = await self._pool.each(lambda node: node.block_height("finalized"))
        except ConnectionFailed:
            return False
        return sum(height > limit for height in heights) >= self._pool.required_for_absence

    async def landed(self, submission: Submission) -> bool | None:
        """Whether it executed, everything read at `finalized`; false once it never can, null while not known."""
        examination = await self.examine(submission, commitment="finalized")
        if isinstance(examination, Unclear):
            return None
        return isinstance(examination, Landed)

    async def _examine(self, submission: Submission, known: Sequence[str], commitment: Commitment) -> Examination:
        body = decode_body(submission)
        if await self._pool.genesis_hash() != body.genesis_hash:
            return Unclear(reason="the submission belongs to another cluster")
        record, height, root = await asyncio.gather(
            self._pool.transaction(submission.handle, commitment),
            _or_zero(self._pool.block_height("finalized")),
            _or_zero(self._pool.slot("finalized")),
        )
        if record is not None and record.wire != body.signed:
            return Unclear(reason="a node shows other bytes under this signature")
        if record is not None:
            if not record.finalized and root >= record.slot:
                record = await self._pool.transaction(submission.handle, "finalized") or record
            found = await self._found(submission, body, record, known, commitment)
            if found is not None:
                return found
        if submission.lock is not None:
            holder = await self._superseded(submission.handle, submission.lock, known, commitment)
            if holder is not None:
                return holder
        if record is None and height > body.expiry_height:
            return await self._expired(submission, body)
        return Unclear(reason="not landed, and not expired" if record is None else "its error cannot be confirmed yet")

    async def _found(
        self,
        submission: Submission,
        body: SolanaBody,
        record: TransactionRecord,
        known: Sequence[str],
        commitment: Commitment,
    ) -> Examination | None:
        failure = record.err
        if failure is None:
            return Landed(record=record)
        if submission.lock is None:
            # No lock excludes a second execution if this node is wrong, so its word alone does not do.
            records = await self._pool.each(lambda node: node.transaction(submission.handle, commitment))
            failed = sum(each is not None and each.err is not None for each in records)
            return FailedOnChain(record=record, failure=failure) if failed >= self._pool.required_for_absence else None
        if failure.instruction_index == body.lock_instruction_index and failure.code == ACCOUNT_IN_USE:
            return await self._superseded(submission.handle, submission.lock, known, commitment)
        return FailedOnChain(record=record, failure=failure)

    async def _superseded(
        self, handle: str, lock: LockRef, known: Sequence[str], commitment: Commitment
    ) -> Superseded | None:
        state = await read_lock_state(self._pool, lock, known, commitment)
        if not state.held or state.holder is None or state.holder == handle:
            return None
        return Superseded(holder=state.holder, slot=state.holder_slot or state.slot)

    async def _expired(self, submission: Submission, body: SolanaBody) -> Examination:
        lock = submission.lock
        readings = await self._pool.each(
            lambda node: (
                _past_without_lock(node, submission.handle, body) if lock is None else _past_with_lock(node, lock, body)
            )
        )
        past = [reading for reading in readings if reading is not None]
        if any(not reading.gone for reading in past):
            return Unclear(reason="past its height, but a node does not show that nothing executed")
        if len(past) < self._pool.required_for_absence:
            return Unclear(reason=f"{len(past)} nodes show it expired, {self._pool.required_for_absence} are needed")
        return Expired(slot=min(each.slot for each in past), height=min(each.height for each in past))


async def _past_with_lock(node: Node, lock: LockRef, body: SolanaBody) -> _Past | None:
    """Read height, then a slot at or after it, then the lock at or after that slot: all at `finalized`."""
    height = await node.block_height("finalized")
    if height <= body.expiry_height:
        return None
    slot = await node.slot("finalized")
    at = await node.accounts([lock_address(lock)], commitment="finalized", min_context_slot=slot)
    account = at.accounts[0]
    return _Past(gone=account is None or account.lamports == 0, slot=at.slot, height=height)


async def _past_without_lock(node: Node, handle: str, body: SolanaBody) -> _Past | None:
    """Show that a node which serves every slot since the signing does not know the signature."""
    height = await node.block_height("finalized")
    if height <= body.expiry_height + _STATUS_LAG_BLOCKS:
        return None
    slot = await node.slot("finalized")
    record, (status,) = await asyncio.gather(
        node.transaction(handle, "confirmed"), node.signature_statuses([handle], search_history=True)
    )
    # Asked last: what it still serves now, it served a moment ago.
    served_from = await node.first_available_block()
    gone = record is None and status is None and served_from <= body.slot_at_signing
    return _Past(gone=gone, slot=slot, height=height)


async def _or_zero(answer: Awaitable[int]) -> int:
    try:
        return await answer
    except ConnectionFailed:
        return 0
