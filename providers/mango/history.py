"""What reconciliation asks of the account: how its positions changed, and what rests for it.

The account's history names every transaction that could change it, whoever sent it: our orders, a delegate's, a
liquidator's, and whoever consumes the queue that its fills wait in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.base.types import Side, VenueEvent, VenueHistory, VenueOrder
from providers.mango.build import lot_units
from providers.mango.config import MangoConfig
from providers.mango.constants import QUOTE_DECIMALS
from providers.mango.constants import Side as OrderSide
from providers.mango.directory import Directory
from providers.mango.events import perp_events, to_venue_event
from providers.mango.state import MangoAccount, PerpMarket, PerpOpenOrder
from providers.solana.account_history import lines_after, newest_line
from providers.solana.cluster import SolanaCluster
from providers.solana.node import Commitment, SignatureInfo
from providers.solana.records import TransactionRecord

__all__ = ["AccountHistory"]

logger = logging.getLogger(__name__)

_NAME: Final = "mango"
_AT_ONCE: Final = 8
# Bounds the work of one call; the rest is for the next one.
_MOST_TRANSACTIONS: Final = 1_000
# Of the number that an account keeps of an order: 0 bid, 1 ask, and 2 more for the oracle-pegged tree.
_PEGGED_BIT: Final = 2


class AccountHistory:
    """History of one account of the venue.

    Args:
        cluster: every node of it is asked.
        directory: of the venue, for the names and lots of markets.
        config: program and group.
        most_transactions: read by one call.
    """

    def __init__(
        self,
        cluster: SolanaCluster,
        directory: Directory,
        config: MangoConfig,
        *,
        most_transactions: int = _MOST_TRANSACTIONS,
    ) -> None:
        self._nodes = cluster.all_nodes
        self._directory = directory
        self._config = config
        self._most = most_transactions
        self._commitment: Commitment = cluster.settings.proof_commitment

    async def read(self, account: Pubkey, after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed the account's positions after a transaction, up to and with `through_slot`.

        At most a thousand transactions are read by one call, the oldest first: `newest` is the last of them, and the
        next call goes on from there. A transaction that is listed and that no node has ends the reading before it.

        Raises:
            NodeBehind: no sane node has reached `through_slot`.
            ConnectionFailed: a leaf of it; then nothing is known.
        """
        if after is None:
            newest = await newest_line(self._nodes, account, through_slot=through_slot, commitment=self._commitment)
            return VenueHistory(events=(), complete=True, newest=newest)
        found = await lines_after(
            self._nodes, account, after=after, through_slot=through_slot, commitment=self._commitment
        )
        lines = found.lines[: self._most]
        complete = found.complete and len(lines) == len(found.lines)
        events: list[VenueEvent] = []
        newest = after
        for start in range(0, len(lines), _AT_ONCE):
            some = lines[start : start + _AT_ONCE]
            for line, record in zip(some, await self._records(some), strict=True):
                if record is None and not line.failed:
                    logger.warning("history_transaction_missing", extra={"signature": line.signature})
                    return VenueHistory(events=tuple(events), complete=False, newest=newest)
                newest = line.signature
                if record is not None and record.err is None:
                    read = await self._events(record, account)
                    events.extend(read or ())
                    complete = complete and read is not None and record.logs_complete
        return VenueHistory(events=tuple(events), complete=complete, newest=newest)

    async def resting(self, account: MangoAccount) -> tuple[VenueOrder, ...]:
        """Return the account's perp orders that lie on the venue.

        Whose they are is not shown: the venue keeps no transaction of an order, and no attempt of ours ever rests.
        """
        return tuple([_resting(each, await self._directory.perp(each.market)) for each in account.open_orders])

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _records(self, lines: Iterable[SignatureInfo]) -> tuple[TransactionRecord | None, ...]:
        """Read transactions at once; one that failed changed nothing, and is not asked for."""

        async def one(line: SignatureInfo) -> TransactionRecord | None:
            return None if line.failed else await self._nodes.transaction(line.signature, self._commitment)

        return tuple(await asyncio.gather(*(one(line) for line in lines)))

    async def _events(self, record: TransactionRecord, account: Pubkey) -> list[VenueEvent] | None:
        """Return what a transaction changed; null when its records cannot be read."""
        events: list[VenueEvent] = []
        try:
            changes = perp_events(record.logs, self._config.program_id, self._config.group, account).changes
            for change in changes:
                market = await self._directory.perp(change.market_index)
                events.append(to_venue_event(change, record, lot_units(market), market.venue_symbol.upper()))
        except BadAnswer as error:
            logger.warning("history_unreadable", extra={"signature": record.signature, "detail": error.detail})
            return None
        return events


def _resting(order: PerpOpenOrder, market: PerpMarket) -> VenueOrder:
    units = lot_units(market)
    pegged = bool(order.side_and_tree & _PEGGED_BIT)
    # The upper half of an order's id is its price in lots, or where it is pegged its distance from the oracle.
    dollars = Decimal((order.id >> 64) * units.quote_lot_size).scaleb(-QUOTE_DECIMALS) / units.lot
    return VenueOrder(
        provider=_NAME,
        market=market.venue_symbol.upper(),
        venue_order_id=str(order.id),
        side=Side.LONG if order.side is OrderSide.BID else Side.SHORT,
        size=units.size(order.quantity),
        price=None if pegged else dollars,
        reduce_only=False,
    )
