"""What became of a submission, by proof (DESIGN 6, proofs of death). Nothing here is concluded from an error answer.

| proof | read | nodes |
|---|---|---|
| landed, executed | `getTransaction` at `confirmed`; final once the nodes agree at `finalized` | one |
| landed with `err` | `getTransaction` at `confirmed` | one, if no other that answers differs; without a lock two |
| superseded or fenced: another transaction holds the lock generation | its metadata at `confirmed` | two |
| expired, with lock: height past the expiry height, and the lock free at a slot past that height | `finalized` | two |
| expired, without: height past it, signature unknown where the whole window is served | `finalized` | two |

"Two" is two sane nodes where two are configured. `proof_commitment=finalized` raises the first two. Whether an executed
transaction filled anything is the venue's to say (proof 3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

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

logger = logging.getLogger(__name__)

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
        record, (height, root) = await asyncio.gather(
            self._pool.transaction(submission.handle, commitment, wire=body.signed), self._pool.horizon()
        )
        if record is not None:
            found = await self._found(submission, body, record, known, commitment)
            if isinstance(found, Landed):
                return await self._finalized(found, body, root)
            if found is not None:
                return found
        if submission.lock is not None:
            holder = await self._superseded(submission.handle, submission.lock, known, commitment)
            if holder is not None:
                return holder
        # With a lock that is free past its height nothing of the generation executed, whatever one node shows.
        failed = record is not None and record.err is not None and submission.lock is not None
        if (record is None or failed) and height > body.expiry_height:
            return await self._expired(submission, body)
        return Unclear(reason="not landed, and not expired" if record is None else "its end cannot be confirmed yet")

    async def _found(
        self,
        submission: Submission,
        body: SolanaBody,
        record: TransactionRecord,
        known: Sequence[str],
        commitment: Commitment,
    ) -> Examination | None:
        lock, failure = submission.lock, record.err
        if failure is None and commitment == "confirmed":
            return Landed(record=record)
        own_index = (
            lock is not None and failure is not None and failure.instruction_index == body.lock_instruction_index
        )
        if lock is not None and failure is not None and own_index and failure.code == ACCOUNT_IN_USE:
            return await self._superseded(submission.handle, lock, known, commitment)
        # Nothing looks at a death, or at a landing for good, again after this.
        return _ended(await self._agreed(body, record, commitment, alone=failure is None or lock is not None))

    async def _finalized(self, found: Landed, body: SolanaBody, root: int) -> Examination:
        """Return the same at `finalized` once the nodes agree on that: it is looked at again until then."""
        if found.record.finalized or root < found.record.slot:
            return found
        return _ended(await self._agreed(body, found.record, "finalized")) or found

    async def _agreed(
        self, body: SolanaBody, record: TransactionRecord, commitment: Commitment, *, alone: bool = True
    ) -> TransactionRecord | None:
        """Return the record as the nodes agree on it: as many as absence needs show the same end of it.

        Fewer will do while nobody else can be asked, with a lock or for a success: presence needs one node. But a node
        that answers, and does not have it, holds it up: it is a slot behind, or one of the two is on another fork.
        Where they show both ends, the one that more show.

        Args:
            body: whose bytes they are.
            record: as one node shows it.
            commitment: to ask at.
            alone: whether one node will do where no other can be asked.
        """
        answers = await self._pool.each(lambda node: node.transaction(record.signature, commitment))
        shown = [each for each in answers if each is not None and each.wire == body.signed]
        needed = self._pool.required_for_absence
        executed = [each for each in shown if each.err is None]
        failed = [each for each in shown if each.err is not None]
        if executed and failed:
            logger.error("nodes_disagree", extra={"signature": record.signature, "what": "whether it failed"})
            most = max(executed, failed, key=len)
            return most[0] if len(most) >= needed and len(executed) != len(failed) else None
        enough = len(shown) >= needed or (alone and len(shown) == len(answers))
        return shown[0] if shown and enough else None

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


def _ended(record: TransactionRecord | None) -> Landed | FailedOnChain | None:
    if record is None:
        return None
    return Landed(record=record) if record.err is None else FailedOnChain(record=record, failure=record.err)


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
    gone = record is None and status is None
    if gone and served_from > body.slot_at_signing:
        return None  # it has forgotten a part of the window: it can say nothing
    return _Past(gone=gone, slot=slot, height=height)
