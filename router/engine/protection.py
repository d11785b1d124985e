"""What a lot's protection needs next: one pure function from what the ledger knows to the next moves.

What a lot shall have is durable on the lot; this says what is to be done about the difference, and the keeper does it
and asks again. So a restart needs no logic of its own, and a change of mind is a change of one row.

The rules:

1. what became of a leg's order is noted before anything else is done about the leg;
2. a leg that is not wanted any more (the lot is closed, the price was changed, it has done its part) ends; an order of
   it that is still open is cancelled first, and its end is proven;
3. a leg rests on the venue where the venue can hold it: both where the lot has its slot to itself, else the stop alone.
   It carries the lot's size, and is placed anew when that changes;
4. whatever does not rest on the venue is watched here: a leg that failed to be placed, one that is being placed anew,
   one that the venue has no room for. Nothing is ever left to nobody;
5. a leg that has fired closes the lot until nothing of it is left, with a new close for each try, whatever the price
   does meanwhile; the other leg's trigger is cancelled;
6. while somebody closes the lot nothing is placed for it: the close shares the lot's size with its protection.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from providers.base.types import HoldingKey, Side
from router.engine.plan import unresolved
from router.ledger.protocol import Ledger
from router.ledger.records import (
    Leg,
    LegKind,
    LegRecord,
    LegTerms,
    OrderStatus,
    OrderView,
    PositionRecord,
    PositionStatus,
    ProtectedLot,
)

__all__ = [
    "Add",
    "Around",
    "Cancel",
    "End",
    "Fire",
    "LegState",
    "Move",
    "Place",
    "Trip",
    "Write",
    "crossed",
    "leg_state",
    "next_moves",
    "shares_slot",
]

# A fire that gave nothing is tried again soon, since the price is past the stop; a placement less soon, since the
# router watches meanwhile.
FIRE_AGAIN: Final = timedelta(seconds=1)
FIRE_AGAIN_MAX: Final = timedelta(seconds=30)
PLACE_AGAIN: Final = timedelta(seconds=5)
PLACE_AGAIN_MAX: Final = timedelta(minutes=5)
# How long the price may stand beyond a trigger that the venue holds before the router closes the lot itself: for one
# that rests (keepers take their time), and for one that is not known to rest.
OVERDUE_RESTING: Final = timedelta(seconds=60)
OVERDUE_PLACING: Final = timedelta(seconds=5)


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What matters beside the lot and its orders.

    Attributes:
        price: the venue's oracle price now; null where it cannot be had.
        native: whether the venue holds triggers itself.
        shared: whether others hold something of the lot's slot too.
        crossed_since: since when the price is beyond each leg, by leg id.
        adrift: orders whose triggers would close something else than their size (`router.engine.trigger_sizes`).
    """

    now: datetime
    price: Decimal | None
    native: bool
    shared: bool
    crossed_since: Mapping[str, datetime]
    adrift: frozenset[str] = frozenset()


class Add(msgspec.Struct, frozen=True):
    """Begin a leg that is wanted and not there."""

    leg: Leg
    terms: LegTerms
    kind: LegKind


class Write(msgspec.Struct, frozen=True):
    """Write what is new about a leg."""

    leg: LegRecord


class Trip(msgspec.Struct, frozen=True):
    """Fire a leg whose price has been reached, once a fresh price says the same."""

    leg: LegRecord


class End(msgspec.Struct, frozen=True):
    """End a leg; `done` when it has closed its part, so that it is no longer wanted."""

    leg: LegRecord
    reason: str
    done: bool = False


class Cancel(msgspec.Struct, frozen=True):
    """Ask an order of a leg to end."""

    order_id: str


class Place(msgspec.Struct, frozen=True):
    """Have the venue hold a trigger of this size."""

    leg: LegRecord
    size: Decimal


class Fire(msgspec.Struct, frozen=True):
    """Close this much now."""

    leg: LegRecord
    size: Decimal


Move = Add | Write | Trip | End | Cancel | Place | Fire


class LegState(StrEnum):
    """How far a leg is. `failed`: its last order gave nothing; the router watches the price until the next try."""

    PLACING = "placing"
    RESTING = "resting"
    WATCHING = "watching"
    FIRING = "firing"
    CANCELLING = "cancelling"
    FAILED = "failed"
    ENDED = "ended"


def next_moves(lot: ProtectedLot, around: Around) -> tuple[Move, ...]:
    """Return what is to be done now; nothing when all is as it shall be, or something has to end first."""
    ended = [
        Write(_concluded(leg, order, around.now))
        for leg, order in _with_orders(lot)
        if order is not None and order.order.status.final
    ]
    if ended:
        return tuple(ended)
    wanted = _wanted(lot)
    unwanted = [leg for leg in lot.legs if not _is(leg, wanted.get(leg.leg))]
    done = [leg for leg in lot.legs if leg not in unwanted and _remaining(leg, lot.position) <= 0]
    if unwanted or done:
        moves = [_wind_down(lot, leg, done=leg in done) for leg in (*unwanted, *done)]
        found = tuple(move for move in moves if move is not None)
        if found:
            return found
    kept = [leg for leg in lot.legs if leg not in unwanted and leg not in done]
    there = {leg.leg for leg in lot.legs}
    missing = tuple(
        Add(leg, terms, LegKind.NATIVE if leg in _native_legs(wanted, around) else LegKind.MANAGED)
        for leg, terms in wanted.items()
        if leg not in there
    )
    return missing or tuple(move for leg in kept for move in _tend(lot, leg, wanted, around))


def _wanted(lot: ProtectedLot) -> dict[Leg, LegTerms]:
    if lot.position.status is PositionStatus.CLOSED:
        return {}
    terms = {leg: lot.position.protection.of(leg) for leg in Leg}
    return {leg: each for leg, each in terms.items() if each is not None}


def _is(leg: LegRecord, terms: LegTerms | None) -> bool:
    return terms is not None and (leg.price, leg.size) == (terms.price, terms.size)


def _native_legs(wanted: Mapping[Leg, LegTerms], around: Around) -> tuple[Leg, ...]:
    """Return the legs that the venue shall hold: on a shared slot a second one could close what is another's."""
    if not around.native:
        return ()
    legs = tuple(leg for leg in Leg if leg in wanted)
    return legs[:1] if around.shared else legs


def _with_orders(lot: ProtectedLot) -> list[tuple[LegRecord, OrderView | None]]:
    return [(leg, _order(lot, leg)) for leg in lot.legs]


def _order(lot: ProtectedLot, leg: LegRecord) -> OrderView | None:
    return None if leg.order_id is None else lot.orders[leg.order_id]


def _remaining(leg: LegRecord, position: PositionRecord) -> Decimal:
    """Return how much a leg still has to close."""
    return position.size if leg.size is None else min(leg.size - leg.filled_size, position.size)


def _wind_down(lot: ProtectedLot, leg: LegRecord, *, done: bool) -> Move | None:
    order = _order(lot, leg)
    if order is not None:
        return None if order.order.cancel_requested_at is not None else Cancel(order.order.order_id)
    if done:
        return End(leg, "it has closed its part", done=True)
    if lot.position.status is PositionStatus.CLOSED:
        return End(leg, "it closed the position" if leg.filled_size else "the position is closed")
    return End(leg, "it was changed or taken away")


def _tend(lot: ProtectedLot, leg: LegRecord, wanted: Mapping[Leg, LegTerms], around: Around) -> tuple[Move, ...]:
    """Return the moves of one leg that is wanted."""
    order = _order(lot, leg)
    native = leg.leg in _native_legs(wanted, around)
    if order is not None and order.order.trigger is not None:
        return _tend_trigger(lot, leg, order, around, native=native)
    if order is not None:
        return ()
    if leg.fired_at is not None:
        free = min(_remaining(leg, lot.position), lot.position.size - lot.position.reserved_size)
        due = leg.next_try_at is None or leg.next_try_at <= around.now
        return (Fire(leg, free),) if due and free > 0 else ()
    if _other_fires(lot, leg):
        return ()
    if crossed(leg, lot.position.side, around.price):
        return (Trip(leg),)
    return _tend_watched(lot, leg, around, native=native)


def _tend_watched(lot: ProtectedLot, leg: LegRecord, around: Around, *, native: bool) -> tuple[Move, ...]:
    """Return the moves of a leg that only the router watches now."""
    if not native:
        return () if leg.kind is LegKind.MANAGED else (Write(_renewed(leg, around.now, kind=LegKind.MANAGED)),)
    if not _may_place(lot, leg, around):
        return ()
    if leg.kind is LegKind.MANAGED:
        return (Write(_renewed(leg, around.now, kind=LegKind.NATIVE)),)
    return (Place(leg, _remaining(leg, lot.position)),)


def _may_place(lot: ProtectedLot, leg: LegRecord, around: Around) -> bool:
    if lot.closes or lot.opening or (leg.next_try_at is not None and leg.next_try_at > around.now):
        return False
    # On a shared slot the other leg's trigger has to be proven gone before this one is placed.
    return not (around.shared and any(order is not None for other, order in _with_orders(lot) if other is not leg))


def _tend_trigger(
    lot: ProtectedLot, leg: LegRecord, order: OrderView, around: Around, *, native: bool
) -> tuple[Move, ...]:
    """Return the moves of a leg whose trigger the venue holds, or may hold."""
    if order.order.cancel_requested_at is not None or order.fills:
        return ()
    misfit = order.order.requested_size != _remaining(leg, lot.position) or order.order.order_id in around.adrift
    if misfit or not native or lot.closes or leg.fired_at is not None or _other_fires(lot, leg):
        return (Cancel(order.order.order_id),)
    resting = _rests(order)
    since = around.crossed_since.get(leg.leg_id)
    if since is not None and around.now - since >= (OVERDUE_RESTING if resting else OVERDUE_PLACING):
        return (Trip(leg),)
    if resting and leg.failures:
        return (Write(_renewed(leg, around.now, failure=None, failures=0, next_try_at=None)),)
    return ()


def _other_fires(lot: ProtectedLot, leg: LegRecord) -> bool:
    return any(
        other.fired_at is not None or (order is not None and bool(order.fills))
        for other, order in _with_orders(lot)
        if other is not leg
    )


def _concluded(leg: LegRecord, order: OrderView, now: datetime) -> LegRecord:
    """Return the leg with what became of its order, which it then has no more."""
    status = order.order.status
    trigger = order.order.trigger is not None
    if order.fills and trigger:
        # The venue has fired it: what it left of the lot is closed from here.
        return _renewed(leg, now, order_id=None, kind=LegKind.MANAGED, fired_at=leg.fired_at or now, **_NO_FAILURE)
    if status is OrderStatus.FILLED:
        return _renewed(leg, now, order_id=None, **_NO_FAILURE)
    if status is OrderStatus.PARTIALLY_FILLED:
        return _renewed(leg, now, order_id=None, failure=None, failures=0, next_try_at=now + FIRE_AGAIN)
    if trigger and status is OrderStatus.CANCELLED:
        # By us: it is placed anew, the leg ends, or (it was overdue) the router closes the lot itself.
        return _renewed(leg, now, order_id=None, kind=leg.kind if leg.fired_at is None else LegKind.MANAGED)
    failures = leg.failures + 1
    first, most = (PLACE_AGAIN, PLACE_AGAIN_MAX) if trigger else (FIRE_AGAIN, FIRE_AGAIN_MAX)
    wait = min(first * 2 ** min(leg.failures, 16), most)
    return _renewed(
        leg,
        now,
        order_id=None,
        kind=LegKind.MANAGED,
        failure=_why(order),
        failures=failures,
        next_try_at=now + wait,
    )


_NO_FAILURE: Final[dict[str, object]] = {"failure": None, "failures": 0, "next_try_at": None}


def _renewed(leg: LegRecord, now: datetime, **changes: object) -> LegRecord:
    return msgspec.structs.replace(leg, updated_at=now, **changes)


def _why(order: OrderView) -> str:
    error = order.order.error or next((a.error for a in reversed(order.attempts) if a.error is not None), None)
    if error is None:
        return f"its order ended {order.order.status.value}"
    return f"{error.code}: {error.detail}" if error.detail else error.code


def crossed(leg: LegRecord, side: Side, price: Decimal | None) -> bool:
    """Whether a price is at or beyond the leg's; an unknown price is not."""
    if price is None:
        return False
    return price >= leg.price if leg.leg.fires_above(side) else price <= leg.price


def _rests(order: OrderView) -> bool:
    return any(attempt.resting for attempt in unresolved(order))


def leg_state(leg: LegRecord, order: OrderView | None) -> LegState:
    """Return how far a leg is, by its row and the order that it has now."""
    if leg.ended_at is not None:
        return LegState.ENDED
    if leg.fired_at is not None or (order is not None and bool(order.fills)):
        return LegState.FIRING
    if order is not None and order.order.cancel_requested_at is not None:
        return LegState.CANCELLING
    if order is not None and _rests(order):
        return LegState.RESTING
    if leg.failure is not None:
        return LegState.FAILED
    return LegState.WATCHING if leg.kind is LegKind.MANAGED else LegState.PLACING


def shares_slot(ledger: Ledger, position: PositionRecord, *, netting: bool) -> bool:
    """Whether the venue's slot of a lot holds anything else: other lots, or a part that is not the router's."""
    side = None if netting else position.side
    if ledger.foreign_part(position.provider, HoldingKey(market=position.market, side=side)) is not None:
        return True
    lots, _ = ledger.positions(
        limit=2, provider=position.provider, market=position.market, side=side, status=PositionStatus.OPEN
    )
    return any(lot.position_id != position.position_id for lot in lots)
