"""Which stops and take profits make sense, and how far a lot's protection is, for callers."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from providers.base.types import Side
from router.engine.protection import LegState, leg_state
from router.ledger.protocol import Ledger
from router.ledger.records import (
    Leg,
    LegKind,
    LegRecord,
    LegTerms,
    OrderView,
    PositionRecord,
    PositionStatus,
    ProtectionTerms,
)

__all__ = [
    "LegReport",
    "Misplaced",
    "Protection",
    "ProtectionStatus",
    "misplaced_leg",
    "oversized_leg",
    "protection_of",
]


class ProtectionStatus(StrEnum):
    """A lot's protection as a whole; `failed` when any leg of it is not as it shall be for want of something."""

    NONE = "none"
    PLACING = "placing"
    ACTIVE = "active"
    FAILED = "failed"


class Misplaced(msgspec.Struct, frozen=True):
    """A leg that could not do its work; `code` is that of the refusal."""

    leg: Leg
    code: str
    detail: str


class LegReport(msgspec.Struct, frozen=True, kw_only=True):
    """One leg. `order_id` is of its trigger, or of the close that it fired; `signature` placed or sent that."""

    leg: Leg
    kind: LegKind
    trigger_price: Decimal
    size: Decimal
    state: LegState
    reason: str | None
    order_id: str | None
    signature: str | None


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """How far the protection of a lot is."""

    status: ProtectionStatus
    legs: tuple[LegReport, ...]


def misplaced_leg(
    terms: ProtectionTerms, side: Side, price: Decimal | None, liquidation_price: Decimal | None
) -> Misplaced | None:
    """Return the first leg that would fire at once, or that the liquidation would come before; null when none would.

    Dollars per base unit; a price that is not known refuses nothing.
    """
    for leg in Leg:
        wanted = terms.of(leg)
        if wanted is None:
            continue
        above = leg.fires_above(side)
        name = leg.value.replace("_", " ")
        if price is not None and (price >= wanted.price if above else price <= wanted.price):
            detail = (
                f"the {name} of a {side} must be {'above' if above else 'below'} the price, which is"
                f" {price.normalize():f}; {wanted.price.normalize():f} would fire at once"
            )
            return Misplaced(leg, f"invalid_{leg.value}", detail)
        if leg is not Leg.STOP_LOSS or liquidation_price is None:
            continue
        if wanted.price >= liquidation_price if above else wanted.price <= liquidation_price:
            detail = (
                f"the {name} at {wanted.price.normalize():f} lies beyond the liquidation price"
                f" {liquidation_price.normalize():f}: it would never fire"
            )
            return Misplaced(leg, "trigger_beyond_liquidation", detail)
    return None


def oversized_leg(terms: ProtectionTerms, size: Decimal) -> Misplaced | None:
    """Return the first leg that would close more than there is."""
    for leg in Leg:
        wanted = terms.of(leg)
        if wanted is not None and wanted.size is not None and wanted.size > size:
            name = leg.value.replace("_", " ")
            detail = f"the {name} would close {wanted.size.normalize():f}, the position is {size.normalize():f}"
            return Misplaced(leg, "protection_above_position", detail)
    return None


def protection_of(ledger: Ledger, position: PositionRecord, blind: str | None) -> Protection:
    """Return how far the protection of a lot is; `blind` says why the price that it waits for cannot be read.

    Of a lot that is closed, the legs that it had last.
    """
    closed = position.status is PositionStatus.CLOSED
    legs = {leg.leg: leg for leg in ledger.legs_of(position.position_id) if closed or leg.ended_at is None}
    reports: list[LegReport] = []
    for leg in Leg:
        wanted = position.protection.of(leg)
        record = legs.get(leg)
        if record is not None:
            reports.append(_report(ledger, position, record, blind))
        elif wanted is not None and not closed:
            reports.append(_to_come(position, leg, wanted))
    return Protection(status=_status(position, reports), legs=tuple(reports))


def _status(position: PositionRecord, reports: list[LegReport]) -> ProtectionStatus:
    if position.status is PositionStatus.CLOSED or not reports:
        return ProtectionStatus.NONE
    if any(report.state is LegState.FAILED or report.reason for report in reports):
        return ProtectionStatus.FAILED
    wanted = {leg for leg in Leg if position.protection.of(leg) is not None}
    pending = {LegState.PLACING, LegState.CANCELLING}
    if any(report.state in pending for report in reports if report.leg in wanted):
        return ProtectionStatus.PLACING
    return ProtectionStatus.ACTIVE if wanted else ProtectionStatus.NONE


def _report(ledger: Ledger, position: PositionRecord, leg: LegRecord, blind: str | None) -> LegReport:
    view = None if leg.last_order_id is None else ledger.order(leg.last_order_id)
    state = leg_state(leg, None if leg.order_id is None else view)
    left = position.size if leg.size is None else min(leg.size - leg.filled_size, position.size)
    reason = None if state is LegState.RESTING else leg.failure
    if state is LegState.WATCHING:
        reason = reason or blind
    if state is LegState.ENDED:
        reason, left = leg.end_reason, leg.filled_size
    return LegReport(
        leg=leg.leg,
        kind=leg.kind,
        trigger_price=leg.price,
        size=max(left, Decimal(0)),
        state=state,
        reason=reason,
        order_id=leg.last_order_id,
        signature=_signature(view),
    )


def _signature(view: OrderView | None) -> str | None:
    handles = [] if view is None else [a.submission.handle for a in view.attempts if a.submission is not None]
    return handles[-1] if handles else None


def _to_come(position: PositionRecord, leg: Leg, terms: LegTerms) -> LegReport:
    """Return a leg that is wanted and that nobody has begun yet."""
    return LegReport(
        leg=leg,
        kind=LegKind.MANAGED,
        trigger_price=terms.price,
        size=position.size if terms.size is None else min(terms.size, position.size),
        state=LegState.PLACING,
        reason=None,
        order_id=None,
        signature=None,
    )
