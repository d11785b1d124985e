"""What reconciliation asks of the account: how its positions changed, and what rests for whom.

The account's history names every transaction that could change it, whoever sent it: our orders, a delegate's, the
owner's own by another program, a liquidator's, a keeper's fill of what rests.
"""

from __future__ import annotations

from collections.abc import Iterable
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
# How far back the transaction that placed a resting order is looked for: a stop may rest for weeks.
_MOST_LINES: Final = 50_000
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
        return tuple([await _resting(self._reader, each, placed.get(each.order_id)) for each in orders])

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

    async def _placers(self, user: Pubkey, orders: list[Order], slot: int) -> dict[int, str]:
        """Return the transactions that placed these orders, by order id, as far as history shows them.

        An order's slot is the one that it was placed in; only of a trigger order that has gone off it is not.
        """
        current = {(each.order_id, each.slot) for each in orders if not each.has_gone_off}
        gone_off = {each.order_id for each in orders if each.has_gone_off}
        self._placed = {key: value for key, value in self._placed.items() if key in current or key[0] in gone_off}
        found = dict(self._placed)
        slots = {order_slot for _, order_slot in current - found.keys()}
        if slots:
            lines = [each for each in await self._lines_back_to(user, min(slots), slot) if each.slot in slots]
            placed = await self._placed_in(user, lines, frozenset())
            found |= {key: value for key, value in placed.items() if key in current}
        unseen = gone_off - {order_id for order_id, _ in found}
        if unseen:
            lines = await self._lines_back_to(user, 0, slot, most=MOST_TRANSACTIONS)
            placed = await self._placed_in(user, lines, unseen)
            found |= {key: value for key, value in placed.items() if key[0] in unseen}
        self._placed = {key: value for key, value in found.items() if key[1] + _SETTLED_SLOTS <= slot}
        return {order_id: signature for (order_id, _), signature in found.items()}

    async def _placed_in(
        self, user: Pubkey, lines: Iterable[SignatureInfo], wanted: frozenset[int] | set[int]
    ) -> dict[tuple[int, int], str]:
        """Return what these transactions placed, by order id and slot; read no further once all `wanted` are found."""
        found: dict[tuple[int, int], str] = {}
        for line in lines:
            record = None if line.failed else await self._nodes.transaction(line.signature, self._commitment)
            if record is None:
                continue
            placed = trail_of(record, self._config.program_id, user).placed
            found |= {(each.order_id, line.slot): line.signature for each in placed}
            if wanted and wanted <= {order_id for order_id, _ in found}:
                break
        return found

    async def _lines_back_to(
        self, user: Pubkey, oldest_slot: int, slot: int, *, most: int = _MOST_LINES
    ) -> list[SignatureInfo]:
        lines: list[SignatureInfo] = []
        before: str | None = None
        while len(lines) < most:
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
