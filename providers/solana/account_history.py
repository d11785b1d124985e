"""An address's history after a known transaction, as several nodes list it.

That nothing else happened is a statement of absence, so it takes two sane nodes where two are configured (DESIGN 6). A
node that does not know `until` lists everything it has, without a word: so every page is read without it, back to the
known transaction itself. Only a list that reaches it is whole. Pages of one list come from one node: another one that
lags would answer an empty page for a `before` that it does not know.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import NodeBehind
from providers.solana.node import Commitment, Node, SignatureInfo
from providers.solana.pool import NodePool

__all__ = ["AccountLines", "lines_after", "newest_line"]

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


async def newest_line(pool: NodePool, address: Pubkey, *, through_slot: int, commitment: Commitment) -> str | None:
    """Return the newest transaction that names an address, of a slot up to and with `through_slot`.

    Raises:
        NodeBehind: no sane node has reached `through_slot`.
    """
    answers = await pool.each(partial(_newest, address=address, through_slot=through_slot, commitment=commitment))
    if not answers:
        raise NodeBehind(f"no sane node lists the history of {address} up to slot {through_slot}")
    known = [answer for answer in answers if answer is not None]
    return max(known, key=lambda each: each.slot).signature if known else None


async def lines_after(
    pool: NodePool, address: Pubkey, *, after: str, through_slot: int, commitment: Commitment
) -> AccountLines:
    """Return what names an address after the transaction `after`, up to and with `through_slot`.

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
        merged |= {line.signature: line for line in each.lines if line.signature not in merged}
    enough = len(whole) >= pool.required_for_absence
    agree = all(len(each.lines) == len(merged) for each in whole)
    return AccountLines(lines=tuple(sorted(merged.values(), key=lambda line: line.slot)), complete=enough and agree)


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
            if line.signature == after:
                return _oldest_first(newest_first, through_slot, complete=True)
            newest_first.append(line)
        if not page:
            break
        before = page[-1].signature
    return _oldest_first(newest_first, through_slot, complete=False)


def _oldest_first(lines: list[SignatureInfo], through_slot: int, *, complete: bool) -> AccountLines:
    kept = tuple(line for line in reversed(lines) if line.slot <= through_slot)
    return AccountLines(lines=kept, complete=complete)
