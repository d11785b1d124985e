"""What the engine asks of a ledger. Every method that writes returns only when the write is durable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from providers.base.errors import ErrorInfo
from providers.base.types import Ack, Outcome, Side
from router.ledger.records import (
    AttemptRecord,
    NewOrder,
    OrderRecord,
    OrderStatus,
    OrderView,
    PositionRecord,
    PositionStatus,
    SecondaryRecord,
    SecondaryState,
)

__all__ = ["BadCursor", "Created", "KeyReused", "Ledger", "LedgerError", "OverReserved", "WrongCluster"]


class LedgerError(Exception):
    """The ledger would not, or could not, take a write."""


class KeyReused(LedgerError):
    """The key (or client order id) was used before with another body; carries the order that it made."""

    def __init__(self, order_id: str, key: str) -> None:
        super().__init__(f"the key {key!r} belongs to {order_id} with another body")
        self.order_id = order_id
        self.key = key


class OverReserved(LedgerError):
    """A close asks for more of a lot than is left beside the other closes of it."""

    def __init__(self, position_id: str, asked: Decimal, available: Decimal) -> None:
        super().__init__(f"{position_id} has {available} left to close, {asked} was asked for")
        self.position_id = position_id
        self.asked = asked
        self.available = available


class WrongCluster(LedgerError):
    """The ledger is bound to another cluster's genesis hash."""


class BadCursor(LedgerError):
    """A page was asked for with a cursor that no page gave out."""


class Created(msgspec.Struct, frozen=True):
    """The order of a request: a new one, or (`replayed`) the one that the same key and body made before."""

    order: OrderRecord
    replayed: bool


class Ledger(Protocol):
    """Orders, attempts, fills, positions, keys. Reads are cheap and synchronous; they see every finished write."""

    async def bind(self, genesis_hash: str) -> None:
        """Bind to a cluster on first use; raise `WrongCluster` when bound to another."""
        ...

    async def create_order(self, order: NewOrder) -> Created:
        """Store order, key and reservations in one transaction.

        Raises:
            KeyReused: same caller and key (or client order id), other fingerprint; or a known client order id under
                another key.
            OverReserved: a reservation exceeds what its lot has left.
        """
        ...

    async def fix_terms(
        self, order_id: str, *, size: Decimal, worst_price: Decimal, expected_price: Decimal, at: datetime
    ) -> None:
        """Write base size and absolute worst price, once; a second call with other values raises `LedgerError`."""
        ...

    async def request_cancel(self, order_id: str, at: datetime) -> None:
        """Note that the caller wants the chain to end; the first time counts."""
        ...

    async def add_attempt(self, attempt: AttemptRecord) -> None:
        """Store a new attempt, `journaled` with its submission or `refused` with its error.

        Raises:
            LedgerError: another generation of the same part is open, or the number is taken.
        """
        ...

    async def record_ack(self, attempt_id: str, ack: Ack, at: datetime) -> None:
        """Store the answer of the first hand-over (`journaled` becomes `sent`); later acks change nothing."""
        ...

    async def record_outcome(self, attempt_id: str, outcome: Outcome, at: datetime) -> tuple[str, ...]:
        """Store evidence, state, fills and what the fills do to lots, in one transaction.

        Fills are keyed by (provider, venue fill id): what is booked already changes nothing. The first fill of an open
        makes its position; fills of a close reduce its reserved lots, oldest first, and realise PnL. A provisional fill
        is replaced when the same attempt's outcome brings a record that is not. A fill booked before that a *finalized
        or confirmed* outcome of the attempt no longer has is taken back by a compensating entry. An open order with
        fills gets `filled_by`.

        Returns:
            The venue fill ids that were new.

        Raises:
            IllegalTransition: the state machine has no such step.
        """
        ...

    async def close_domain(self, order_id: str, part: int, generation: int, at: datetime) -> None:
        """Close the open exclusion domain, so that generation + 1 may be used."""
        ...

    async def finish_order(
        self, order_id: str, status: OrderStatus, at: datetime, *, error: ErrorInfo | None = None
    ) -> None:
        """Set a status; a final one releases what its reservations have not filled."""
        ...

    async def add_secondary(self, secondary: SecondaryRecord) -> None:
        """Store a secondary transaction before it is sent."""
        ...

    async def set_secondary(self, secondary_id: str, state: SecondaryState, at: datetime) -> None:
        """Move a secondary transaction on."""
        ...

    async def mark_reclaimed(self, order_ids: Sequence[str], at: datetime) -> None:
        """Note that the locks of these orders were returned."""
        ...

    async def note(
        self, kind: str, at: datetime, *, order_id: str | None = None, detail: dict[str, str] | None = None
    ) -> None:
        """Append to the audit log: findings, promise violations, operator's acts."""
        ...

    def order(self, order_id: str) -> OrderView | None:
        """Return one order with all that hangs on it."""
        ...

    def order_by_key(self, caller: str, key: str) -> OrderRecord | None:
        """Return the order that a key made."""
        ...

    def order_by_client_order_id(self, caller: str, client_order_id: str) -> OrderRecord | None:
        """Return the caller's order of that name."""
        ...

    def orders(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        provider: str | None = None,
        market: str | None = None,
        status: OrderStatus | None = None,
    ) -> tuple[tuple[OrderView, ...], str | None]:
        """Return a page of orders, newest first, and the cursor of the next page."""
        ...

    def open_orders(self) -> tuple[OrderView, ...]:
        """Return every order that is not final, oldest first (for recovery)."""
        ...

    def open_order_ids(self) -> tuple[str, ...]:
        """Return the id of every order that is not final, oldest first."""
        ...

    def unclear_open(self, *, provider: str, market: str, side: Side) -> str | None:
        """Return the id of an open of this side whose attempt at the provider may still fill; else null."""
        ...

    def watched_orders(self, since: datetime) -> tuple[OrderView, ...]:
        """Return final orders updated after `since` that have an attempt not yet finalized, or dead and watched."""
        ...

    def unreclaimed_orders(self, before: datetime) -> tuple[OrderView, ...]:
        """Return final orders with a lock not reclaimed, whose deadline is before `before`."""
        ...

    def unsettled_secondaries(self) -> tuple[SecondaryRecord, ...]:
        """Return secondary transactions of no order (reclaims, deposits) whose end is not known, oldest first."""
        ...

    def position(self, position_id: str) -> PositionRecord | None:
        """Return one lot."""
        ...

    def positions(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        provider: str | None = None,
        market: str | None = None,
        side: Side | None = None,
        status: PositionStatus | None = None,
    ) -> tuple[tuple[PositionRecord, ...], str | None]:
        """Return a page of lots, oldest first, and the cursor of the next page."""
        ...

    async def healthy(self) -> bool:
        """Whether a write is durable now (for readiness)."""
        ...

    async def aclose(self) -> None:
        """Finish writes and close."""
        ...
