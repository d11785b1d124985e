"""What reconciliation asks of the account: how its positions changed, and what rests for it.

The account's history names every transaction that could change it, whoever sent it: our orders, a delegate's, a
liquidator's, and whoever consumes the queue that its fills wait in.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from solders.pubkey import Pubkey

from providers.base.types import Side, VenueEvent, VenueHistory, VenueOrder
from providers.mango.build import lot_units
from providers.mango.config import MangoConfig
from providers.mango.constants import QUOTE_DECIMALS
from providers.mango.constants import Side as OrderSide
from providers.mango.directory import Directory
from providers.mango.events import perp_events, to_venue_event
from providers.mango.state import MangoAccount, PerpMarket, PerpOpenOrder
from providers.solana.account_history import events_after
from providers.solana.cluster import SolanaCluster
from providers.solana.node import Commitment
from providers.solana.records import TransactionRecord

__all__ = ["AccountHistory"]

_NAME: Final = "mango"
# Of the number that an account keeps of an order: 0 bid, 1 ask, and 2 more for the oracle-pegged tree.
_PEGGED_BIT: Final = 2


class AccountHistory:
    """History of one account of the venue.

    Args:
        cluster: every node of it is asked.
        directory: of the venue, for the names and lots of markets.
        config: program and group.
    """

    def __init__(
        self,
        cluster: SolanaCluster,
        directory: Directory,
        config: MangoConfig,
    ) -> None:
        self._nodes = cluster.all_nodes
        self._directory = directory
        self._config = config
        self._commitment: Commitment = cluster.settings.proof_commitment

    async def read(self, account: Pubkey, after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed the account's positions after a transaction, up to and with `through_slot`.

        Paged, and raising, as `events_after` does.
        """
        return await events_after(
            self._nodes,
            account,
            partial(self._events, account),
            after=after,
            through_slot=through_slot,
            commitment=self._commitment,
        )

    async def resting(self, account: MangoAccount) -> tuple[VenueOrder, ...]:
        """Return the account's perp orders that lie on the venue.

        Whose they are is not shown: the venue keeps no transaction of an order, and no attempt of ours ever rests.
        """
        return tuple([_resting(each, await self._directory.perp(each.market)) for each in account.open_orders])

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _events(self, account: Pubkey, record: TransactionRecord) -> list[VenueEvent]:
        events: list[VenueEvent] = []
        for change in perp_events(record.logs, self._config.program_id, self._config.group, account).changes:
            market = await self._directory.perp(change.market_index)
            events.append(to_venue_event(change, record, lot_units(market), market.venue_symbol.upper()))
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
