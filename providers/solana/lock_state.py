"""Who holds a generation of an order lock, as far as it is proven (DESIGN 6).

The holder is the transaction whose metadata takes the lock's balance from 0 to more. The balance itself only says
*that* the lock is held: anybody may add lamports to the account, before or after, so it never says by whom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from solders.pubkey import Pubkey

from providers.base.types import LockRef, LockState
from providers.solana.lock_account import lock_address
from providers.solana.node import MAX_SIGNATURES, Commitment, Node
from providers.solana.pool import NodePool
from providers.solana.records import TransactionRecord

__all__ = ["read_lock_state"]

logger = logging.getLogger(__name__)

# A stranger pays for every line of history that he puts between us and the holder; past this an operator should look.
_MOST_PAGES = 20
_MOST_LOOKUPS = 500


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """One node's answer: `held` is null when it shows a balance but not who took it."""

    held: bool | None
    slot: int
    holder: str | None = None
    holder_slot: int | None = None
    holder_number: int | None = None


async def read_lock_state(pool: NodePool, lock: LockRef, known: Sequence[str], commitment: Commitment) -> LockState:
    """Return what as many sane nodes as are required agree on; `held` is null when they do not.

    Args:
        pool: every node of the cluster.
        lock: the generation.
        known: our own signatures that carry it, looked at first.
        commitment: of every read.
    """
    address = lock_address(lock)
    views = await pool.each(lambda node: _view(node, lock, known, commitment))
    finalized = commitment == "finalized"
    nothing = LockState(held=None, finalized=finalized)
    holders = {view.holder for view in views if view.held}
    if len(holders) > 1:
        logger.error("lock_holders_disagree", extra={"lock": str(address), "holders": sorted(map(str, holders))})
        return nothing
    agreeing = [view for view in views if view.held is bool(holders)]
    if len(agreeing) < pool.required_for_absence or (not holders and len(agreeing) < len(views)):
        return nothing
    return LockState(
        held=bool(holders),
        holder=agreeing[0].holder,
        holder_slot=agreeing[0].holder_slot,
        holder_number=agreeing[0].holder_number,
        slot=min(view.slot for view in agreeing),
        finalized=finalized,
        sane_nodes=len(agreeing),
    )


async def _view(node: Node, lock: LockRef, known: Sequence[str], commitment: Commitment) -> _View:
    address = lock_address(lock)
    at, records = await asyncio.gather(
        node.accounts([address], commitment=commitment),
        asyncio.gather(*(node.transaction(signature, commitment) for signature in known)),
    )
    for record in records:
        if record is not None and record.took(address):
            return _held_by(record, lock, at.slot)
    account = at.accounts[0]
    if account is None or account.lamports == 0:
        return _View(held=False, slot=at.slot)
    return await _search(node, lock, at.slot, commitment)


def _held_by(record: TransactionRecord, lock: LockRef, slot: int) -> _View:
    """Return the holder; only the lock's own key can have made the account, with base lamports and k."""
    own = Pubkey.from_string(lock.terms.base) in record.signers
    number = record.given_to(lock_address(lock)) - lock.terms.base_lamports if own else None
    return _View(held=True, slot=slot, holder=record.signature, holder_slot=record.slot, holder_number=number)


async def _search(node: Node, lock: LockRef, slot: int, commitment: Commitment) -> _View:
    """Look through the lock's history, oldest first: the holder comes before whoever added lamports later."""
    address = lock_address(lock)
    history: list[str] = []
    before: str | None = None
    for _ in range(_MOST_PAGES):
        page = await node.signatures_for(address, before=before, commitment=commitment, min_context_slot=slot)
        history.extend(line.signature for line in page if not line.failed)
        if len(page) < MAX_SIGNATURES:
            break
        before = page[-1].signature
    else:
        logger.error("lock_history_too_long", extra={"lock": str(address), "node": node.name})
        return _View(held=None, slot=slot)
    for signature in list(reversed(history))[:_MOST_LOOKUPS]:
        record = await node.transaction(signature, commitment)
        if record is not None and record.took(address):
            return _held_by(record, lock, slot)
    return _View(held=None, slot=slot)
