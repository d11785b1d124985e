"""What the ledger keeps: orders, attempts, secondary transactions, fills, positions.

Every struct here is a row as the engine sees it. The storage may lay them out as it likes.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from providers.base.errors import ErrorInfo
from providers.base.types import (
    Ack,
    Evidence,
    Fill,
    LockTerms,
    OrderKind,
    Outcome,
    Purpose,
    Side,
    Submission,
)

__all__ = [
    "AttemptRecord",
    "AttemptState",
    "FillRecord",
    "NewOrder",
    "OrderRecord",
    "OrderStatus",
    "OrderView",
    "PositionRecord",
    "PositionStatus",
    "Reservation",
    "SecondaryRecord",
    "SecondaryState",
]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every ledger struct."""


class OrderStatus(StrEnum):
    """`pending` and `unknown` are open; the other four are final (but for a fill that a fork takes back)."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    FILLED = "filled"
    PARTIALLY_FILLED = "partially_filled"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the order has ended."""
        return self not in {OrderStatus.PENDING, OrderStatus.UNKNOWN}


class AttemptState(StrEnum):
    """States of an attempt; `router.ledger.transitions` holds the legal steps.

    `refused` attempts never had a submission: they are kept so that the answer can tell why a provider was passed.
    """

    REFUSED = "refused"
    JOURNALED = "journaled"
    SENT = "sent"
    UNKNOWN = "unknown"
    FILLED = "filled"
    PARTIALLY_FILLED = "partially_filled"
    DEAD = "dead"
    SUPERSEDED = "superseded"

    @property
    def final(self) -> bool:
        """Whether nothing of the attempt can change money any more."""
        return self not in {AttemptState.JOURNALED, AttemptState.SENT, AttemptState.UNKNOWN}


class SecondaryState(StrEnum):
    """States of a secondary transaction: written, given to the nodes, and then landed or never."""

    JOURNALED = "journaled"
    SENT = "sent"
    LANDED = "landed"
    DEAD = "dead"


class PositionStatus(StrEnum):
    """A lot is `open` until reductions have taken all of it."""

    OPEN = "open"
    CLOSED = "closed"


class Reservation(Row, frozen=True, kw_only=True):
    """How much of one lot a close order may reduce; `filled_size` of it has been."""

    position_id: str
    size: Decimal
    filled_size: Decimal = Decimal(0)


class NewOrder(Row, frozen=True, kw_only=True):
    """An order as the caller gave it, before anything is known of prices.

    Attributes:
        caller: name of the authenticated caller (`local` where there are no keys).
        key: idempotency key; null when the caller gave neither key nor client order id.
        fingerprint: hash of the parsed body and path; the same key with another one is refused.
        provider: `auto` or the pinned name.
        request: the body as parsed, JSON, for the answer's `requested`.
        reservations: for a close, the lots that it reduces, oldest first, and how much of each.
        chain: the providers that this order may be given to, in order, as configured when it was made.
    """

    order_id: str
    caller: str
    key: str | None
    client_order_id: str | None
    fingerprint: str
    kind: OrderKind
    market: str
    side: Side
    provider: str
    size: Decimal | None
    size_usd: Decimal | None
    leverage: Decimal
    slippage_bps: int
    worst_price: Decimal | None
    request: bytes
    created_at: datetime
    deadline: datetime
    lock: LockTerms | None
    reservations: tuple[Reservation, ...] = ()
    chain: tuple[str, ...] = ()


class OrderRecord(Row, frozen=True, kw_only=True):
    """An order as it is now.

    `size` and `worst_price` are null until the first quote fixed them, once; `filled_by` is null until a fill.
    """

    order_id: str
    caller: str
    client_order_id: str | None
    kind: OrderKind
    status: OrderStatus
    market: str
    side: Side
    provider: str
    requested_size: Decimal | None
    requested_size_usd: Decimal | None
    requested_worst_price: Decimal | None
    leverage: Decimal
    slippage_bps: int
    request: bytes
    size: Decimal | None
    worst_price: Decimal | None
    expected_price: Decimal | None
    deadline: datetime
    lock: LockTerms | None
    lock_reclaimed: bool
    cancel_requested_at: datetime | None
    filled_by: str | None
    position_id: str | None
    reservations: tuple[Reservation, ...]
    created_at: datetime
    updated_at: datetime
    error: ErrorInfo | None = None
    chain: tuple[str, ...] = ()
    fingerprint: str = ""


class AttemptRecord(Row, frozen=True, kw_only=True):
    """One provider's try.

    Attributes:
        number: within the order, from 1, never reused: k of the lock.
        part, generation: the exclusion domain (with `order_id`); generation 0 first.
        submission: null only when `refused`.
        landed, executed: facts of their own beside `state`; null while not known.
        ack: null until the first hand-over returned: null with a submission means *perhaps never sent*.
    """

    attempt_id: str
    order_id: str
    number: int
    provider: str
    part: int
    generation: int
    state: AttemptState
    landed: bool | None = None
    executed: bool | None = None
    submission: Submission | None
    ack: Ack | None
    error: ErrorInfo | None
    holder: str | None
    evidence: tuple[Evidence, ...]
    resting: bool
    finalized: bool
    started_at: datetime
    updated_at: datetime


class SecondaryRecord(Row, frozen=True, kw_only=True):
    """A cancel, fence, reclaim, set-up or deposit: written ahead like an attempt.

    `order_id` and `attempt_id` name the parents, where there are any.
    """

    secondary_id: str
    purpose: Purpose
    provider: str
    order_id: str | None
    attempt_id: str | None
    part: int
    generation: int
    state: SecondaryState
    submission: Submission
    created_at: datetime
    updated_at: datetime


class FillRecord(Row, frozen=True, kw_only=True):
    """A booked fill with its order, attempt and the lot that it opened or reduced."""

    provider: str
    order_id: str
    attempt_id: str
    fill: Fill


class PositionRecord(Row, frozen=True, kw_only=True):
    """A lot: what one open filled, tied to its provider for life.

    Attributes:
        size: base units still held.
        opened_size: base units ever opened.
        entry_price: volume-weighted over the opening fills, dollars.
        reserved_size: of open close orders, not yet filled.
        realized_pnl_usd: of the reductions so far, fees of opening and closing deducted.
        fees_usd: of opening and closing so far.
    """

    position_id: str
    provider: str
    market: str
    side: Side
    status: PositionStatus
    size: Decimal
    opened_size: Decimal
    entry_price: Decimal
    leverage: Decimal
    opened_by_order: str
    caller: str
    reserved_size: Decimal
    realized_pnl_usd: Decimal
    fees_usd: Decimal
    opened_at: datetime
    closed_at: datetime | None


class OrderView(Row, frozen=True, kw_only=True):
    """An order with everything that hangs on it, attempts in their order of number.

    `generation` is the one that a new attempt belongs to: the open exclusion domain's, or one more than the last
    closed.
    """

    order: OrderRecord
    attempts: tuple[AttemptRecord, ...]
    secondaries: tuple[SecondaryRecord, ...]
    fills: tuple[FillRecord, ...]
    generation: int = 0


def state_of(outcome: Outcome) -> AttemptState:
    """Return the attempt state that an outcome stands for."""
    return AttemptState(outcome.state.value)
