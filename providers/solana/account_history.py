"""An address's history after a known transaction, as several nodes list it.

That nothing else happened is a statement of absence, so it takes two sane nodes where two are configured (DESIGN 6). A
node that does not know `until` lists everything it has, without a word: so every page is read without it, back to the
known transaction itself. Only a list that reaches it is whole. Pages of one list come from one node: another one that
lags would answer an empty page for a `before` that it does not know.

What is known is said by a *mark*: the signature of the newest transaction that was read or, where an address had none
at all, the slot up to which it had none (`@` and its number).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer, NodeBehind
from providers.base.types import VenueEvent, VenueHistory
from providers.solana.node import Commitment, Node, SignatureInfo
from providers.solana.pool import NodePool
from providers.solana.records import TransactionRecord

__all__ = ["MOST_TRANSACTIONS", "AccountLines", "EventReader", "events_after", "lines_after", "newest_mark"]

logger = logging.getLogger(__name__)

EventReader = Callable[[TransactionRecord], Awaitable[Iterable[VenueEvent]]]
"""What a transaction that executed changed; raises `BadAnswer` where its records cannot be read."""

MOST_TRANSACTIONS: Final = 1_000
"""Bounds the work of one call that reads transactions; the rest is for the next one."""
_NOTHING_UP_TO: Final = "@"
# Of no signature: base58 has no such letter.
_AT_ONCE: Final = 8
_FIRST_PAGE: Final = 100
_PAGE: Final = 1_000
_MAX_PAGES: Final = 20


class AccountLines(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of an address's history, oldest first.

    Attributes:
        lines: after the known transaction, up to and with the asked slot, of any node that reached it; where none did,
            all that any node has (earlier ones may be among them).
        complete: enough sane nodes reached the known transaction, and all that did list the same.
    """

    lines: tuple[SignatureInfo, ...]
    complete: bool


async def newest_mark(pool: NodePool, address: Pubkey, *, through_slot: int, commitment: Commitment) -> str:
    """Return the mark of the newest transaction that names an address, of a slot up to and with `through_slot`.

    Where there is none, the mark says so: what comes next is then new, the first transaction included.

    Raises:
        NodeBehind: no sane node has reached `through_slot`.
    """
    answers = await pool.each(partial(_newest, address=address, through_slot=through_slot, commitment=commitment))
    if not answers:
        raise NodeBehind(f"no sane node lists the history of {address} up to slot {through_slot}")
    known = [answer for answer in answers if answer is not None]
    return max(known, key=lambda each: each.slot).signature if known else f"{_NOTHING_UP_TO}{through_slot}"


async def lines_after(
    pool: NodePool, address: Pubkey, *, after: str, through_slot: int, commitment: Commitment
) -> AccountLines:
    """Return what names an address after the mark `after`, up to and with `through_slot`.

    Raises:
        NodeBehind: no sane node has reached `through_slot`.
    """
    lists = await pool.each(
        partial(_list, address=address, after=after, through_slot=through_slot, commitment=commitment)
    )
    if not lists:
        raise NodeBehind(f"no sane node lists the history of {address} up to slot {through_slot}")
    whole = [each for each in lists if each.complete]
    # The longest list's own order within a slot is kept; what only another node lists goes in by its slot.
    merged: dict[str, SignatureInfo] = {}
    for each in sorted(whole or lists, key=lambda one: len(one.lines), reverse=True):
        for line in each.lines:
            # What one node calls executed is read, whatever another says.
            if line.signature not in merged or (merged[line.signature].failed and not line.failed):
                merged[line.signature] = line
    enough = len(whole) >= pool.required_for_absence
    agree = all({line.signature: line for line in each.lines} == merged for each in whole)
    return AccountLines(lines=tuple(sorted(merged.values(), key=lambda line: line.slot)), complete=enough and agree)


async def events_after(
    pool: NodePool,
    address: Pubkey,
    events_of: EventReader,
    *,
    after: str | None,
    through_slot: int,
    commitment: Commitment,
    most_transactions: int = MOST_TRANSACTIONS,
) -> VenueHistory:
    """Return what an address's transactions after a mark changed (`Reconcilable.history`).

    At most `most_transactions` are read by one call, the oldest first: `newest` is the last of them, `more` is set, and
    the next call goes on from there. A transaction that is listed and that no node has ends the reading before it.

    Raises:
        NodeBehind: no sane node has reached `through_slot`.
        ConnectionFailed: a leaf of it; then nothing is known.
    """
    if after is None:
        newest = await newest_mark(pool, address, through_slot=through_slot, commitment=commitment)
        return VenueHistory(events=(), complete=True, newest=newest)
    found = await lines_after(pool, address, after=after, through_slot=through_slot, commitment=commitment)
    lines = found.lines[:most_transactions]
    whole = found.complete
    events: list[VenueEvent] = []
    newest = after
    for start in range(0, len(lines), _AT_ONCE):
        some = lines[start : start + _AT_ONCE]
        for line, record in zip(some, await _records(pool, some, commitment), strict=True):
            if record is None and not line.failed:
                logger.warning("history_transaction_missing", extra={"signature": line.signature})
                return VenueHistory(events=tuple(events), complete=False, newest=newest)
            if record is not None and record.err is not None:
                # The list says that it executed, and the node that was first to answer that it did not.
                logger.warning("history_transaction_disputed", extra={"signature": line.signature})
                return VenueHistory(events=tuple(events), complete=False, newest=newest)
            newest = line.signature
            if record is None:
                continue
            try:
                events.extend(await events_of(record))
            except BadAnswer as error:
                logger.warning("history_unreadable", extra={"signature": line.signature, "detail": error.detail})
                whole = False
            whole = whole and record.logs_complete
    more = len(lines) < len(found.lines)
    return VenueHistory(events=tuple(events), complete=whole and not more, newest=newest, more=whole and more)


async def _records(
    pool: NodePool, lines: Iterable[SignatureInfo], commitment: Commitment
) -> tuple[TransactionRecord | None, ...]:
    """Read transactions at once; one that failed changed nothing, and is not asked for."""

    async def one(line: SignatureInfo) -> TransactionRecord | None:
        return None if line.failed else await pool.transaction(line.signature, commitment)

    return tuple(await asyncio.gather(*(one(line) for line in lines)))


async def _newest(node: Node, *, address: Pubkey, through_slot: int, commitment: Commitment) -> SignatureInfo | None:
    before: str | None = None
    while True:
        page = await node.signatures_for(
            address,
            before=before,
            limit=_FIRST_PAGE if before is None else _PAGE,
            commitment=commitment,
            min_context_slot=through_slot,
        )
        found = next((line for line in page if line.slot <= through_slot), None)
        if found is not None or not page:
            return found
        before = page[-1].signature


async def _list(node: Node, *, address: Pubkey, after: str, through_slot: int, commitment: Commitment) -> AccountLines:
    """Return one node's list; not complete where it ends before `after`, or is longer than is read."""
    # Where there was no transaction yet, a list that ends is whole.
    nothing_up_to = int(after.removeprefix(_NOTHING_UP_TO)) if after.startswith(_NOTHING_UP_TO) else None
    newest_first: list[SignatureInfo] = []
    before: str | None = None
    for number in range(_MAX_PAGES):
        page = await node.signatures_for(
            address,
            before=before,
            limit=_PAGE if number else _FIRST_PAGE,
            commitment=commitment,
            min_context_slot=through_slot,
        )
        for line in page:
            if line.signature == after or (nothing_up_to is not None and line.slot <= nothing_up_to):
                return _oldest_first(newest_first, through_slot, complete=True)
            newest_first.append(line)
        if not page:
            return _oldest_first(newest_first, through_slot, complete=nothing_up_to is not None)
        before = page[-1].signature
    return _oldest_first(newest_first, through_slot, complete=False)


def _oldest_first(lines: list[SignatureInfo], through_slot: int, *, complete: bool) -> AccountLines:
    kept = tuple(line for line in reversed(lines) if line.slot <= through_slot)
    return AccountLines(lines=kept, complete=complete)
