"""What reconciliation asks of the owner: how its positions changed, and which requests of it wait.

Keepers' transactions name the position and not always its owner, so that every position's own history is read. They
have no transaction in common, so that a mark says a slot: up to it all of them were read (`@` and its number; a fill's
signature stands for its slot). A list is whole once it has gone back to the mark, or to its end at a node that still
serves that slot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer, NodeBehind
from providers.base.types import VenueEvent, VenueHistory, VenueOrder
from providers.jupiter.config import JupiterConfig
from providers.jupiter.constants import RequestChange
from providers.jupiter.events import to_venue_event, told_by
from providers.jupiter.layouts import POSITION_REQUEST_LEAD, read_request
from providers.jupiter.quote import base_of_usd, to_usd
from providers.jupiter.reading import Place, View
from providers.jupiter.state import PositionRequest
from providers.solana.account_history import MOST_TRANSACTIONS
from providers.solana.cluster import SolanaCluster
from providers.solana.node import Commitment, Node, SignatureInfo

__all__ = ["AccountHistory"]

logger = logging.getLogger(__name__)

_NAME: Final = "jupiter"
# What a mark of a slot begins with: base58 has no such letter, so that it is no signature.
_UP_TO: Final = "@"
_AT_ONCE: Final = 8
_PAGE: Final = 1_000
_MAX_PAGES: Final = 20
# Of a request's account: its owner.
_OWNER_AT: Final = 8


class _Lines(msgspec.Struct, frozen=True, kw_only=True):
    """What one node lists of one address since a slot, oldest first; `whole` when nothing can be missing."""

    lines: tuple[SignatureInfo, ...]
    whole: bool


class AccountHistory:
    """History of one owner's positions.

    Args:
        cluster: every node of it is asked.
        config: program.
        most_transactions: read by one call.
    """

    def __init__(
        self, cluster: SolanaCluster, config: JupiterConfig, *, most_transactions: int = MOST_TRANSACTIONS
    ) -> None:
        self._nodes = cluster.all_nodes
        self._program_id = config.program_id
        self._most = most_transactions
        self._commitment: Commitment = cluster.settings.proof_commitment

    async def read(self, positions: Sequence[Pubkey], after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed positions after a mark, up to and with `through_slot`.

        Args:
            positions: accounts of the owner that exist.
            after: see the module; of a signature's own slot the other transactions are told too. Null reads nothing
                and gives the mark of `through_slot`.
            through_slot: transactions of later slots are left for the next time.

        Raises:
            NodeBehind: no sane node has reached `through_slot`.
            BadAnswer: the mark is none.
            ConnectionFailed: a leaf of it; then nothing is known.
        """
        if after is None:
            return VenueHistory(events=(), complete=True, newest=f"{_UP_TO}{through_slot}")
        since = await self._since(after)
        if since is None:
            return VenueHistory(events=(), complete=False, newest=after)
        found: dict[str, SignatureInfo] = {}
        whole = True
        for lines, all_of_it in await asyncio.gather(*(self._lines(each, since, through_slot) for each in positions)):
            found |= {line.signature: line for line in lines if line.signature != after}
            whole = whole and all_of_it
        ordered = sorted(found.values(), key=lambda line: line.slot)
        some = _up_to(ordered, self._most)
        events, readable = await self._events(some, positions)
        if not (whole and readable):
            return VenueHistory(events=events, complete=False, newest=after)
        more = len(some) < len(ordered)
        newest = f"{_UP_TO}{some[-1].slot if more else through_slot}"
        return VenueHistory(events=events, complete=not more, newest=newest, more=more)

    async def resting(self, owner: Pubkey, view: View) -> tuple[VenueOrder, ...]:
        """Return the owner's requests that wait, read at or after the view's slot.

        Raises:
            ConnectionFailed: a leaf of it, also where a node lists no accounts of a program.
        """
        found = await self._nodes.program_accounts(
            self._program_id,
            [(0, POSITION_REQUEST_LEAD), (_OWNER_AT, bytes(owner))],
            commitment=self._commitment,
            min_context_slot=view.slot,
        )
        places = {place.key: place for place in view.places if place.key is not None}
        orders: list[VenueOrder] = []
        for key, account in found.accounts.items():
            request = read_request(account.data)
            place = places.get(request.position)
            if place is not None and not request.executed:
                orders.append(_resting(key, request, place, await self._placed_by(key)))
        return tuple(orders)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _since(self, after: str) -> int | None:
        """Return the first slot that was not read whole; null where no node knows the transaction that says it."""
        if after.startswith(_UP_TO):
            slot = after.removeprefix(_UP_TO)
            if not slot.isdecimal():
                raise BadAnswer(f"{after} is no mark")
            return int(slot) + 1
        record = await self._nodes.transaction(after, self._commitment)
        return None if record is None else record.slot

    async def _placed_by(self, request: Pubkey) -> str | None:
        """Return the transaction that created a request: the oldest that names it; null where none is listed."""
        lines = await self._nodes.signatures_for(request, limit=_PAGE, commitment=self._commitment)
        made = [line.signature for line in lines if not line.failed]
        return made[-1] if made and len(lines) < _PAGE else None

    async def _lines(
        self, address: Pubkey, since_slot: int, through_slot: int
    ) -> tuple[tuple[SignatureInfo, ...], bool]:
        """Return an address's transactions of slots from `since_slot` to `through_slot`, and whether that is all."""
        lists = await self._nodes.each(
            partial(
                _list, address=address, since_slot=since_slot, through_slot=through_slot, commitment=self._commitment
            )
        )
        if not lists:
            raise NodeBehind(f"no sane node lists the history of {address} up to slot {through_slot}")
        whole = [each for each in lists if each.whole]
        merged = {line.signature: line for each in whole or lists for line in each.lines}
        enough = len(whole) >= self._nodes.required_for_absence
        return tuple(merged.values()), enough and all(len(each.lines) == len(merged) for each in whole)

    async def _events(
        self, lines: Sequence[SignatureInfo], positions: Sequence[Pubkey]
    ) -> tuple[tuple[VenueEvent, ...], bool]:
        """Return what transactions changed, and whether all could be read; those that failed changed nothing."""
        events: list[VenueEvent] = []
        executed, ours, readable = [line for line in lines if not line.failed], frozenset(positions), True
        for start in range(0, len(executed), _AT_ONCE):
            some = executed[start : start + _AT_ONCE]
            for changes in await asyncio.gather(*(self._changes(line.signature, ours) for line in some)):
                events.extend(changes or ())
                readable = readable and changes is not None
        return tuple(events), readable

    async def _changes(self, signature: str, ours: frozenset[Pubkey]) -> list[VenueEvent] | None:
        """Return what one transaction changed; null where no node has it, or shows it readably."""
        record = await self._nodes.transaction(signature, self._commitment)
        if record is None:
            logger.warning("history_transaction_missing", extra={"signature": signature})
            return None
        try:
            changes = told_by(record, self._program_id).changes
            return [to_venue_event(each, record) for each in changes if each.position in ours]
        except BadAnswer as error:
            logger.warning("history_unreadable", extra={"signature": signature, "detail": error.detail})
            return None


def _up_to(lines: Sequence[SignatureInfo], most: int) -> Sequence[SignatureInfo]:
    """Return the oldest lines, at most so many unless one slot alone has more: a slot is never read in part."""
    if len(lines) <= most:
        return lines
    slot = lines[most].slot
    whole = [line for line in lines if line.slot < slot]
    return whole or [line for line in lines if line.slot <= slot]


async def _list(node: Node, *, address: Pubkey, since_slot: int, through_slot: int, commitment: Commitment) -> _Lines:
    """Return one node's list; whole where it goes back beyond `since_slot`, or ends at a node that serves it still."""
    found: list[SignatureInfo] = []
    before: str | None = None
    for _ in range(_MAX_PAGES):
        page = await node.signatures_for(
            address, before=before, limit=_PAGE, commitment=commitment, min_context_slot=through_slot
        )
        found.extend(line for line in page if since_slot <= line.slot <= through_slot)
        if page and page[-1].slot < since_slot:
            return _Lines(lines=tuple(reversed(found)), whole=True)
        if len(page) < _PAGE:
            # Asked last: what it still serves now, it served a moment ago.
            served = await node.first_available_block()
            return _Lines(lines=tuple(reversed(found)), whole=served <= since_slot)
        before = page[-1].signature
    return _Lines(lines=tuple(reversed(found)), whole=False)


def _resting(key: Pubkey, request: PositionRequest, place: Place, placed_by: str | None) -> VenueOrder:
    grows = request.change is RequestChange.INCREASE
    entry = None if place.held is None else place.held.price
    price = request.trigger_price if grows else entry
    if price is None:
        price = place.market.priced()
    return VenueOrder(
        provider=_NAME,
        market=place.symbol,
        venue_order_id=str(key),
        # A close of a long sells, as an order that opens a short does.
        side=place.side if grows else place.side.other,
        size=base_of_usd(request.size_usd_delta, price, place.units.unit),
        price=_shown_price(request),
        reduce_only=not grows,
        placed_by=placed_by,
    )


def _shown_price(request: PositionRequest) -> Decimal | None:
    """Return a request's trigger price, or else its bound; null where it has neither."""
    price = request.price_slippage if request.trigger_price is None else request.trigger_price
    return None if price is None else to_usd(price)
