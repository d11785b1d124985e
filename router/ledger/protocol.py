"""What the engine asks of a ledger. Every method that writes returns only when the write is durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from providers.base.errors import ErrorInfo
from providers.base.types import Ack, HoldingKey, Outcome, Side, VenueEvent
from router.ledger.records import (
    AttemptRecord,
    Finding,
    FindingKind,
    FindingRecord,
    FindingStatus,
    ForeignPart,
    HaltRecord,
    LegRecord,
    NewOrder,
    OrderRecord,
    OrderStatus,
    OrderView,
    OutsideBooked,
    PositionRecord,
    PositionStatus,
    ProtectedLot,
    ProtectionTerms,
    SecondaryRecord,
    SecondaryState,
    Usage,
    Watermark,
)

__all__ = [
    "BadCursor",
    "Claim",
    "Created",
    "EntryUnknown",
    "Explain",
    "FindingUnknown",
    "KeyReused",
    "Ledger",
    "LedgerError",
    "LimitReached",
    "NothingForeign",
    "OverReserved",
    "PositionClosed",
    "WrongCluster",
]

Explain = Callable[[OutsideBooked], Finding | None]
"""What an outside fill means, told from what booking it did: a pure function, run within the write."""


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


class LimitReached(LedgerError):
    """A claim's check said no: nothing was stored. `refusal` is what it said."""

    def __init__(self, refusal: msgspec.Struct) -> None:
        super().__init__("a limit of the router's is reached")
        self.refusal = refusal


class PositionClosed(LedgerError):
    """Nothing of the position is left that could be protected."""

    def __init__(self, position_id: str) -> None:
        super().__init__(f"{position_id} is closed")
        self.position_id = position_id


class WrongCluster(LedgerError):
    """The ledger is bound to another cluster's genesis hash."""


class BadCursor(LedgerError):
    """A page was asked for with a cursor that no page gave out."""


class FindingUnknown(LedgerError):
    """No finding has that id."""

    def __init__(self, finding_id: str) -> None:
        super().__init__(f"there is no finding {finding_id}")
        self.finding_id = finding_id


class NothingForeign(LedgerError):
    """Nothing is held in the market beside the router's own lots."""

    def __init__(self, provider: str, market: str) -> None:
        super().__init__(f"nothing foreign is held in {market} on {provider}")
        self.provider = provider
        self.market = market


class EntryUnknown(LedgerError):
    """Nothing tells at what price a foreign part was entered."""

    def __init__(self, provider: str, market: str) -> None:
        super().__init__(f"nothing tells at what price the foreign part of {market} on {provider} was entered")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an open takes of the router's limits.

    Attributes:
        size_usd: notional as admitted; null where nobody knows a price yet.
        check: told what is used already, within the write: a pure function that returns why not, or null. Null where
            there is nothing to check.
        day_began: since when fills count for the day; null where no limit is by day.
    """

    size_usd: Decimal | None = None
    check: Callable[[Usage], msgspec.Struct | None] | None = None
    day_began: datetime | None = None


class Created(msgspec.Struct, frozen=True):
    """The order of a request: a new one, or (`replayed`) the one that the same key and body made before."""

    order: OrderRecord
    replayed: bool


class Ledger(Protocol):
    """Orders, attempts, fills, positions, keys. Reads are cheap and synchronous; they see every finished write."""

    async def bind(self, genesis_hash: str) -> None:
        """Bind to a cluster on first use; raise `WrongCluster` when bound to another."""
        ...

    async def create_order(self, order: NewOrder, claim: Claim | None = None) -> Created:
        """Store order, key, reservations and claim in one transaction.

        Raises:
            LimitReached: the claim's check said no; a replay is never checked.
            KeyReused: same caller and key (or client order id), other fingerprint; or a known client order id under
                another key.
            OverReserved: a reservation exceeds what its lot has left; or a trigger for a lot that is being closed.
            LedgerError: a leg's order while the one before has not ended.
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

    async def add_attempt(self, attempt: AttemptRecord, claim: Claim | None = None) -> None:
        """Store a new attempt, `journaled` with its submission or `refused` with its error.

        Raises:
            LimitReached: the claim's check said no.
            LedgerError: another generation of the same part is open, or the number is taken.
        """
        ...

    async def repeat_refusal(self, attempt_id: str, error: ErrorInfo, at: datetime) -> None:
        """Note that a provider refuses again what it refused before, without another row or event.

        Raises:
            LedgerError: the attempt is not `refused`, or was for another reason.
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

    # -- limits --------------------------------------------------------------------------------------------------

    def usage(self, day_began: datetime | None) -> Usage:
        """Return what counts against the router's limits."""
        ...

    async def halt(self, record: HaltRecord) -> HaltRecord:
        """Store a halt and return it as it stands: one that stood before keeps its beginning."""
        ...

    async def resume(self, provider: str | None, reason: str, caller: str, at: datetime) -> bool:
        """Take a halt away; return whether there was one."""
        ...

    def halts(self) -> tuple[HaltRecord, ...]:
        """Return every halt that stands, the whole router's first."""
        ...

    # -- reconciliation ------------------------------------------------------------------------------------------

    async def find(self, finding: Finding, at: datetime) -> FindingRecord | None:
        """Store what was found; return it where it is new, and null where it stands already."""
        ...

    async def resolve_finding(self, finding_id: str, reason: str, at: datetime) -> bool:
        """Note that what was found is gone; return whether it had not been so before. Raise `FindingUnknown`."""
        ...

    async def acknowledge_finding(self, finding_id: str, reason: str, caller: str, at: datetime) -> FindingRecord:
        """Note that a person has seen it and why it may stand, and return it as it is. Raise `FindingUnknown`."""
        ...

    def findings(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        kind: FindingKind | None = None,
        provider: str | None = None,
        status: FindingStatus | None = None,
    ) -> tuple[tuple[FindingRecord, ...], str | None]:
        """Return a page of findings, newest first, and the cursor of the next page."""
        ...

    def standing_findings(self) -> tuple[FindingRecord, ...]:
        """Return every finding that is not resolved, oldest first."""
        ...

    async def book_outside(
        self, provider: str, event: VenueEvent, at: datetime, *, explain: Explain | None = None
    ) -> OutsideBooked:
        """Book a change of the holding that no attempt made, once by (provider, venue fill id).

        It takes the foreign part first, then the oldest lot (realising PnL); what is left of it makes or grows the
        foreign part. A fill that an attempt has booked changes nothing. Should it turn out to be an attempt's later,
        `record_outcome` takes the outside booking back. What `explain` finds is stored in the same transaction.
        """
        ...

    async def set_foreign_part(
        self,
        provider: str,
        holding: HoldingKey,
        signed_size: Decimal,
        *,
        entry_price: Decimal | None,
        at: datetime,
        because: str,
    ) -> None:
        """Write what the account holds beside the lots, negative for a short; zero takes it away."""
        ...

    async def adopt(
        self, provider: str, holding: HoldingKey, *, entry_price: Decimal | None, caller: str, at: datetime
    ) -> PositionRecord:
        """Make a lot of the foreign part; `entry_price` serves where no fill shows one.

        Raises:
            NothingForeign: there is no foreign part.
            EntryUnknown: nothing tells at what price it was entered.
        """
        ...

    def foreign_part(self, provider: str, holding: HoldingKey) -> ForeignPart | None:
        """Return what is held beside the lots; null when nothing is."""
        ...

    def foreign_parts(self, provider: str) -> tuple[ForeignPart, ...]:
        """Return the foreign parts on a provider, by market."""
        ...

    def lot_sizes(self, provider: str, *, netting: bool) -> dict[HoldingKey, Decimal]:
        """Return the sum of the open lots of each holding, negative for shorts; `netting`: of both sides at once."""
        ...

    def booked_slots(self, provider: str) -> dict[str, int]:
        """Return the newest slot of a booked fill, ours or not, by market."""
        ...

    def first_fill_signature(self, provider: str) -> str | None:
        """Return the transaction of a provider's first fill, by its slot; null when there is none."""
        ...

    def busy_markets(self, provider: str) -> frozenset[str]:
        """Return the markets in which an attempt at the provider may still change something."""
        ...

    def is_booked(self, provider: str, venue_fill_id: str) -> bool:
        """Whether a fill counts already, as an attempt's or as an outside one."""
        ...

    def attempt_of_handle(self, handle: str) -> tuple[str, str] | None:
        """Return order id and attempt id of the attempt that has a signature; null where none has."""
        ...

    def knows_handle(self, handle: str) -> bool:
        """Whether a signature or client order id belongs to an attempt or secondary transaction of this ledger."""
        ...

    def watermark(self, name: str) -> Watermark | None:
        """Return how far a history was read; null before the first reading."""
        ...

    async def set_watermark(self, name: str, mark: Watermark, at: datetime) -> None:
        """Note how far a history was read: after everything that it showed is durable."""
        ...

    async def set_protection(self, position_id: str, terms: ProtectionTerms, caller: str, at: datetime) -> bool:
        """Write what a lot shall be protected by; return whether that changed anything. Raise `PositionClosed`."""
        ...

    async def add_leg(self, leg: LegRecord) -> None:
        """Store a new leg; a lot has at most one stop loss and one take profit that have not ended."""
        ...

    async def update_leg(self, leg: LegRecord) -> None:
        """Write how far a leg is; raise `LedgerError` where that would forget an order that has not ended."""
        ...

    async def end_leg(self, leg_id: str, reason: str, at: datetime, *, done: bool = False) -> None:
        """End a leg; one that has `done` its part is also no longer wanted of its lot."""
        ...

    def legs_of(self, position_id: str) -> tuple[LegRecord, ...]:
        """Return the newest leg of each sort that a lot has or had, the stop first."""
        ...

    def protected_lots(self) -> tuple[ProtectedLot, ...]:
        """Return every lot that shall be protected or has a leg that has not ended, oldest first."""
        ...

    def protected_lot(self, position_id: str) -> ProtectedLot | None:
        """Return one lot with its live legs and their orders; null where there is no such lot."""
        ...

    def stray_trigger(self, provider: str, market: str, side: Side | None) -> str | None:
        """Return a closed lot that has a trigger which has not ended, and could reduce another of the slot; else null.

        A null `side` stands for both, where the venue nets.
        """
        ...

    def open_triggers(self, position_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the ids of the triggers of these lots that have not ended, oldest first."""
        ...

    async def healthy(self) -> bool:
        """Whether a write is durable now (for readiness)."""
        ...

    async def aclose(self) -> None:
        """Finish writes and close."""
        ...
