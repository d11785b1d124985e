"""How much a close may still reduce, asked before each of its tries.

Reduce-only is no protection of other lots: on a venue with one slot a market, a close that is larger than its lots eats
into the others'. So a try is never larger than what its lots hold at that moment.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from router.engine.plan import unresolved
from router.ledger.protocol import Ledger
from router.ledger.records import OrderView, PositionRecord

__all__ = ["Room", "room_to_close"]


class Room(msgspec.Struct, frozen=True):
    """What a close may reduce now, in base units.

    `held_up` says that it is less than its lots hold because another close of the same lots is under way.
    """

    size: Decimal
    held_up: bool = False


def room_to_close(ledger: Ledger, view: OrderView) -> Room:
    """Return what the order's reservations have left, at most what its lots hold beside closes that are under way.

    A close and the triggers of its lots share one reservation: it waits until each of those is proven to have ended,
    and then takes what they have left. A trigger in turn waits for closes.

    Reservations never add up to more than the lot when they are made. A lot that was reduced from outside since may be
    reserved for more than it holds: then who is sent first is served first, and the others wait for the proof.
    """
    if _protection_in_the_way(ledger, view):
        return Room(Decimal(0), held_up=True)
    total, held_up = Decimal(0), False
    for reservation in view.order.reservations:
        lot = ledger.position(reservation.position_id)
        if lot is None:
            continue
        wanted = min(max(reservation.size - reservation.filled_size, Decimal(0)), lot.size)
        room = wanted
        if lot.reserved_size > lot.size:
            room = min(wanted, max(lot.size - _under_way(ledger, lot, view.order.order_id), Decimal(0)))
        total += room
        held_up = held_up or room < wanted
    if view.order.size is not None:
        total = min(total, view.order.size)
    return Room(total, held_up)


def _protection_in_the_way(ledger: Ledger, view: OrderView) -> bool:
    lots = [reservation.position_id for reservation in view.order.reservations]
    if view.order.trigger is None:
        return bool(ledger.open_triggers(lots))
    protected = (ledger.protected_lot(position_id) for position_id in lots)
    return any(lot is not None and bool(lot.closes) for lot in protected)


def _under_way(ledger: Ledger, lot: PositionRecord, but_order: str) -> Decimal:
    """Return what unclear tries of other closes may still reduce of a lot."""
    return sum(
        (
            reservation.size - reservation.filled_size
            for other in ledger.open_orders()
            if other.order.order_id != but_order and unresolved(other)
            for reservation in other.order.reservations
            if reservation.position_id == lot.position_id
        ),
        Decimal(0),
    )
