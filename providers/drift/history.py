"""What reconciliation asks of the account: how its positions changed, and what rests for whom.

The account's history names every transaction that could change it, whoever sent it: our orders, a delegate's, the
owner's own by another program, a liquidator's, a keeper's fill of what rests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Final

from solders.pubkey import Pubkey

from providers.base.types import Side, VenueEvent, VenueHistory, VenueOrder
from providers.drift.changes import BaseChange, changes_of
from providers.drift.config import DriftConfig
from providers.drift.constants import (
    BASE_PRECISION,
    PRICE_PRECISION,
    QUOTE_PRECISION,
    Direction,
    MarketType,
    OrderType,
)
from providers.drift.events import trail_of
from providers.drift.layouts import Order
from providers.drift.reading import AccountView, VenueReader
from providers.solana.account_history import MOST_TRANSACTIONS, events_after
from providers.solana.cluster import SolanaCluster
from providers.solana.node import Commitment, SignatureInfo
from providers.solana.records import TransactionRecord

__all__ = ["AccountHistory"]

_NAME: Final = "drift"
_PAGE: Final = 1_000
# How far back the transaction that placed a resting order is looked for.
_MOST_PAGES: Final = 5
# A slot this far back is final: what was found of it is kept.
_SETTLED_SLOTS: Final = 64


class AccountHistory:
    """History of one account of the venue.

    Args:
        cluster: every node of it is asked.
        reader: of the venue, for the names of markets.
        config: program.
    """

    def __init__(
        self,
        cluster: SolanaCluster,
        reader: VenueReader,
        config: DriftConfig,
    ) -> None:
        self._nodes = cluster.all_nodes
        self._reader = reader
        self._config = config
        self._commitment: Commitment = cluster.settings.proof_commitment
        # By order id and slot; only of orders that still rest.
        self._placed: dict[tuple[int, int], str] = {}

    async def read(
        self, user: Pubkey, after: str | None, through_slot: int, *, most_transactions: int = MOST_TRANSACTIONS
    ) -> VenueHistory:
        """Return what changed the account's positions after a transaction, up to and with `through_slot`.

        Paged, and raising, as `events_after` does.
        """
        return await events_after(
            self._nodes,
            user,
            partial(self._events, user),
            after=after,
            through_slot=through_slot,
            commitment=self._commitment,
            most_transactions=most_transactions,
        )

    async def resting(self, view: AccountView, user: Pubkey) -> tuple[VenueOrder, ...]:
        """Return the account's perp orders that lie on the venue, with who placed them where history shows it."""
        held = () if view.user is None else view.user.orders
        orders = [each for each in held if each.market_type == MarketType.PERP]
        placed = await self._placers(user, orders, view.slot)
        return tuple([await _resting(self._reader, each, placed.get((each.order_id, each.slot))) for each in orders])

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _events(self, user: Pubkey, record: TransactionRecord) -> list[VenueEvent]:
        return [await self._event(change, record) for change in changes_of(record, self._config.program_id, user)]

    async def _event(self, change: BaseChange, record: TransactionRecord) -> VenueEvent:
        base, quote = Decimal(change.base) / BASE_PRECISION, Decimal(change.quote) / QUOTE_PRECISION
        fee = change.fee if change.fee is not None else await self._expiry_fee(change)
        return VenueEvent(
            kind=change.kind,
            market=await self._reader.symbol(change.market_index),
            venue_fill_id=change.venue_fill_id,
            base_delta=base,
            price=quote / abs(base),
            fee_usd=Decimal(fee) / QUOTE_PRECISION,
            signature=record.signature,
            slot=record.slot,
            at=datetime.fromtimestamp(change.ts, UTC),
        )

    async def _expiry_fee(self, change: BaseChange) -> int:
        """Return what the program charges for closing an expired position (`settle_expired_position`): the first tier.

        Its record does not name the fee; the exchange's terms of today are taken.
        """
        tier = (await self._reader.overview()).state.fee_tiers[0]
        return change.quote * tier.fee_numerator // tier.fee_denominator

    async def _placers(self, user: Pubkey, orders: list[Order], slot: int) -> dict[tuple[int, int], str]:
        """Return the transactions that placed these orders, by order id and slot, as far as history shows them."""
        current = {(each.order_id, each.slot) for each in orders}
        self._placed = {key: value for key, value in self._placed.items() if key in current}
        found = dict(self._placed)
        wanted = current - found.keys()
        if not wanted:
            return found
        slots = {order_slot for _, order_slot in wanted}
        for line in await self._lines_back_to(user, min(slots), slot):
            if line.slot not in slots or line.failed:
                continue
            record = await self._nodes.transaction(line.signature, self._commitment)
            if record is None:
                continue
            trail = trail_of(record, self._config.program_id, user)
            found |= {(each.order_id, line.slot): line.signature for each in trail.placed}
        found = {key: value for key, value in found.items() if key in current}
        self._placed = {key: value for key, value in found.items() if key[1] + _SETTLED_SLOTS <= slot}
        return found

    async def _lines_back_to(self, user: Pubkey, oldest_slot: int, slot: int) -> list[SignatureInfo]:
        lines: list[SignatureInfo] = []
        before: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._nodes.signatures_for(
                user, before=before, limit=_PAGE, commitment=self._commitment, min_context_slot=slot
            )
            lines.extend(page)
            if len(page) < _PAGE or page[-1].slot < oldest_slot:
                break
            before = page[-1].signature
        return lines


async def _resting(reader: VenueReader, order: Order, placed_by: str | None) -> VenueOrder:
    priced = order.order_type in {OrderType.LIMIT, OrderType.TRIGGER_LIMIT} and order.price > 0
    return VenueOrder(
        provider=_NAME,
        market=await reader.symbol(order.market_index),
        venue_order_id=str(order.order_id),
        side=Side.LONG if order.direction == Direction.LONG else Side.SHORT,
        size=Decimal(order.base_asset_amount - order.base_asset_amount_filled) / BASE_PRECISION,
        price=Decimal(order.price) / PRICE_PRECISION if priced else None,
        reduce_only=order.reduce_only,
        placed_by=placed_by,
    )
