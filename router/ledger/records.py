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
    HoldingKey,
    LockTerms,
    OrderKind,
    Outcome,
    Purpose,
    Side,
    Submission,
    Trigger,
)

__all__ = [
    "AttemptRecord",
    "AttemptState",
    "Cause",
    "FillRecord",
    "Finding",
    "FindingKind",
    "FindingRecord",
    "FindingStatus",
    "ForeignPart",
    "HaltRecord",
    "Leg",
    "LegKind",
    "LegRecord",
    "LegTerms",
    "NewOrder",
    "OrderRecord",
    "OrderStatus",
    "OrderView",
    "OutsideBooked",
    "PositionRecord",
    "PositionStatus",
    "ProtectedLot",
    "ProtectionTerms",
    "Reservation",
    "SecondaryRecord",
    "SecondaryState",
    "Usage",
    "Watermark",
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


class Cause(StrEnum):
    """Who wanted an order: a caller, or a leg of a position's protection."""

    CALLER = "caller"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"


class Leg(StrEnum):
    """One of the two prices at which a position closes by itself."""

    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"

    def fires_above(self, side: Side) -> bool:
        """Whether it fires at or above its price: a long's take profit, a short's stop loss."""
        return (self is Leg.TAKE_PROFIT) == (side is Side.LONG)


class LegKind(StrEnum):
    """Who watches the price: the venue, or the router."""

    NATIVE = "native"
    MANAGED = "managed"


class LegTerms(Row, frozen=True, kw_only=True):
    """When a leg fires (dollars per base unit), and how much it closes; null for all that the lot holds."""

    price: Decimal
    size: Decimal | None = None


class ProtectionTerms(Row, frozen=True, kw_only=True, omit_defaults=True):
    """What a lot shall be protected by."""

    stop_loss: LegTerms | None = None
    take_profit: LegTerms | None = None

    def of(self, leg: Leg) -> LegTerms | None:
        """Return the terms of one leg."""
        return self.stop_loss if leg is Leg.STOP_LOSS else self.take_profit

    def but(self, leg: Leg, terms: LegTerms | None) -> ProtectionTerms:
        """Return these terms with another one for a leg."""
        if leg is Leg.STOP_LOSS:
            return ProtectionTerms(stop_loss=terms, take_profit=self.take_profit)
        return ProtectionTerms(stop_loss=self.stop_loss, take_profit=terms)

    def __bool__(self) -> bool:
        """Whether there is any leg."""
        return self.stop_loss is not None or self.take_profit is not None


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
        protection: of an open: what its lot shall be protected by from its first fill.
        cause: who wanted it; with `leg_id` where a leg of a position's protection did.
        trigger: of a close that rests on the venue until a price is reached.
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
    protection: ProtectionTerms = ProtectionTerms()
    cause: Cause = Cause.CALLER
    trigger: Trigger | None = None
    leg_id: str | None = None


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
    protection: ProtectionTerms = ProtectionTerms()
    cause: Cause = Cause.CALLER
    trigger: Trigger | None = None
    leg_id: str | None = None


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
        opened_by_order: null for a lot that was adopted.
        reserved_size: of open close orders, not yet filled; triggers that rest on the venue not counted.
        realized_pnl_usd: of the reductions so far, fees of opening and closing deducted, and funding where known.
        fees_usd: of opening and closing so far.
        funding_usd: what the reduced size has paid to be held (negative: received); null where any index is unknown.
        protection: what it shall be protected by; how far it is, its legs tell.
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
    opened_by_order: str | None
    caller: str
    reserved_size: Decimal
    realized_pnl_usd: Decimal
    fees_usd: Decimal
    opened_at: datetime
    closed_at: datetime | None
    funding_usd: Decimal | None = None
    protection: ProtectionTerms = ProtectionTerms()


class LegRecord(Row, frozen=True, kw_only=True):
    """A leg of a lot's protection, as far as it is not told by its order.

    Attributes:
        size: base units that it closes in all; null for all that the lot holds.
        kind: where it is watched now.
        order_id: of its trigger on the venue, or of the close that it fired; null when what became of that is noted.
        tries: orders that it has made so far.
        fired_at: since when it closes the lot, whatever the price does; null before.
        failure: why the last order of it gave nothing; null once one rests, or before the first.
        failures: such orders in a row; `next_try_at` is when another one is made.
        filled_size: base units that its orders have closed.
        last_order_id: the newest order that it made, ended or not.
    """

    leg_id: str
    position_id: str
    leg: Leg
    price: Decimal
    size: Decimal | None
    kind: LegKind
    created_at: datetime
    updated_at: datetime
    order_id: str | None = None
    tries: int = 0
    fired_at: datetime | None = None
    failure: str | None = None
    failures: int = 0
    next_try_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
    filled_size: Decimal = Decimal(0)
    last_order_id: str | None = None


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


class ProtectedLot(Row, frozen=True, kw_only=True):
    """A lot with its live legs, and every order that matters to them.

    Attributes:
        legs: those that have not ended, the stop first.
        orders: of the legs, by id.
        closes: ids of open closes that reserve the lot and rest on no venue: a caller's, or those that legs fired.
        opening: whether the order that opens it is not final yet, so that it may still grow.
    """

    position: PositionRecord
    legs: tuple[LegRecord, ...]
    orders: dict[str, OrderView]
    closes: tuple[str, ...]
    opening: bool


class FindingKind(StrEnum):
    """What can be wrong between the books and the venues (docs/reconciliation.md)."""

    CLOSED_ELSEWHERE = "closed_elsewhere"
    SIZE_DIFFERS = "size_differs"
    FOREIGN_POSITION = "foreign_position"
    LIQUIDATED = "liquidated"
    ORPHAN_ORDER = "orphan_order"
    UNKNOWN_SIGNATURE = "unknown_signature"
    PROMISE_VIOLATION = "promise_violation"


class FindingStatus(StrEnum):
    """`open` until it is gone (`resolved`), or a person has said why it may stand (`acknowledged`)."""

    OPEN = "open"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"


class Finding(Row, frozen=True, kw_only=True):
    """A difference as it was seen.

    Attributes:
        provider: the venue, or `wallet` for what concerns the key alone.
        subject: what it is about, stable from run to run: a market, a fill id, a signature, an attempt id.
        detail: what a person needs to know; amounts as plain decimals.
    """

    kind: FindingKind
    provider: str
    market: str | None
    subject: str
    detail: dict[str, str]
    evidence: tuple[Evidence, ...] = ()


class FindingRecord(Finding, frozen=True, kw_only=True):
    """A finding on record; `reason` is why it went, or why it may stand."""

    finding_id: str
    status: FindingStatus
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    reason: str | None


class ForeignPart(Row, frozen=True, kw_only=True):
    """What the account holds beside the router's lots.

    Attributes:
        holding: what it is a part of.
        entry_price: null where no fill shows it.
    """

    provider: str
    market: str
    side: Side
    size: Decimal
    entry_price: Decimal | None
    since: datetime
    updated_at: datetime
    holding: HoldingKey

    @property
    def signed_size(self) -> Decimal:
        """Return the size, negative for a short."""
        return self.size if self.side is Side.LONG else -self.size


class OutsideBooked(Row, frozen=True, kw_only=True):
    """What booking an outside fill did.

    Attributes:
        new: false when it was on record before; the rest is then empty.
        reduced: size taken from each lot, oldest first.
        foreign_before, foreign_after: the foreign part, negative for a short.
        finding: the new finding that was written with it.
    """

    new: bool
    reduced: dict[str, Decimal]
    foreign_before: Decimal = Decimal(0)
    foreign_after: Decimal = Decimal(0)
    finding: FindingRecord | None = None


class HaltRecord(Row, frozen=True, kw_only=True):
    """Opens switched off by a person: at one provider, or (null) everywhere."""

    provider: str | None
    reason: str
    caller: str
    since: datetime


class Usage(Row, frozen=True, kw_only=True):
    """What counts against the router's limits; amounts in dollars of notional, opens that have not ended included.

    Attributes:
        positions: open lots, and opens that may still make one.
        day_usd: opened since the day began.
        markets, providers: held and perhaps held, both sides added; those without any are not there.
    """

    positions: int
    day_usd: Decimal
    markets: dict[str, Decimal]
    providers: dict[str, Decimal]


class Watermark(Row, frozen=True, kw_only=True):
    """How far an account's history was read, and the slot read through.

    Attributes:
        signature: of the newest transaction; where there was none yet, the provider's own mark of that.
    """

    signature: str
    slot: int


def state_of(outcome: Outcome) -> AttemptState:
    """Return the attempt state that an outcome stands for."""
    return AttemptState(outcome.state.value)
