"""Holding the books against a venue, as pure functions: numbers and events in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from providers.base.types import Evidence, HoldingKey, Holdings, Side, VenueEvent, VenueEventKind, VenueOrder
from router.engine.reports import MarketReport, MarketStatus
from router.ledger.records import Finding, FindingKind, ForeignPart, OutsideBooked

__all__ = [
    "WALLET",
    "Sorted",
    "compare",
    "event_finding",
    "foreign_finding",
    "is_surplus",
    "orphan_finding",
    "signature_finding",
    "size_finding",
    "sort_events",
    "violation_finding",
]

_ZERO = Decimal(0)
CONFIRMED = "confirmed"

WALLET: Final = "wallet"
"""Name of the wallet among the providers, and of its watermark."""


class Sorted(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a history by what is to be done with them, oldest first.

    Attributes:
        outside: no attempt of ours made them: to be booked.
        unbooked: a known attempt's, and not on record: for settlement, never booked here.
        left: of markets that are busy: for the next run.
    """

    outside: tuple[VenueEvent, ...]
    unbooked: tuple[VenueEvent, ...]
    left: tuple[VenueEvent, ...]


def compare(
    holdings: Holdings,
    lots: Mapping[HoldingKey, Decimal],
    foreign: Mapping[HoldingKey, Decimal],
    busy: Collection[str],
    *,
    netting: bool,
) -> tuple[MarketReport, ...]:
    """Return what the venue or the books hold, by name of holding; amounts negative for a short.

    A venue that nets has one holding a market, another one a market and side. `busy` names markets.
    """
    venue: dict[HoldingKey, Decimal] = {}
    tolerance: dict[HoldingKey, Decimal] = {}
    for position in holdings.positions:
        key = HoldingKey(market=position.market, side=None if netting else position.side)
        size = position.size if position.side is Side.LONG else -position.size
        venue[key] = venue.get(key, _ZERO) + size
        tolerance[key] = tolerance.get(key, _ZERO) + position.size_tolerance
    reports: list[MarketReport] = []
    for key in sorted({*venue, *lots, *foreign}, key=str):
        booked, beside, held = (table.get(key, _ZERO) for table in (lots, foreign, venue))
        if key.market in busy:
            status = MarketStatus.BUSY
        else:
            off = abs(held - booked - beside)
            status = MarketStatus.OK if off <= tolerance.get(key, _ZERO) else MarketStatus.DIFFERS
        if held or booked or beside:
            reports.append(
                MarketReport(
                    market=key.market,
                    side=key.side,
                    booked_size=booked,
                    foreign_size=beside,
                    venue_size=held,
                    status=status,
                )
            )
    return tuple(reports)


def sort_events(
    events: Iterable[VenueEvent],
    *,
    busy: Collection[str],
    is_booked: Callable[[str], bool],
    is_attempts: Callable[[str], bool],
) -> Sorted:
    """Sort a history by whose it is: what is booked is left out.

    Args:
        events: oldest first.
        busy: markets in which an attempt is unclear: a fill there may be its own, whatever its signature (a keeper's).
        is_booked: whether a venue fill id counts already.
        is_attempts: whether a signature belongs to an attempt of ours.
    """
    outside: list[VenueEvent] = []
    unbooked: list[VenueEvent] = []
    left: list[VenueEvent] = []
    for event in events:
        if is_booked(event.venue_fill_id):
            continue
        if event.market in busy:
            left.append(event)
        elif is_attempts(event.signature):
            unbooked.append(event)
        else:
            outside.append(event)
    return Sorted(outside=tuple(outside), unbooked=tuple(unbooked), left=tuple(left))


def is_surplus(report: MarketReport) -> bool:
    """Whether the venue holds more than the books, on their side; less of it, or the other side, is a lack."""
    expected = report.booked_size + report.foreign_size
    return expected == 0 or (report.difference > 0) == (expected > 0)


def event_finding(provider: str, event: VenueEvent, booked: OutsideBooked) -> Finding | None:
    """Return what a booked outside fill means for the lots; null where it touched only what is not ours."""
    if event.kind is VenueEventKind.LIQUIDATION:
        kind = FindingKind.LIQUIDATED
    elif booked.reduced:
        kind = FindingKind.CLOSED_ELSEWHERE
    else:
        return None
    detail = {
        "reason": event.kind.value,
        "base_delta": f"{event.base_delta:f}",
        "price": f"{event.price:f}",
        "fee_usd": f"{event.fee_usd:f}",
        "at": event.at.isoformat(),
        "foreign_before": f"{booked.foreign_before:f}",
        "foreign_after": f"{booked.foreign_after:f}",
        **{f"reduced_{position_id}": f"{size:f}" for position_id, size in booked.reduced.items()},
    }
    evidence = Evidence(
        kind=event.kind.value,
        detail=event.venue_fill_id,
        signature=event.signature,
        slot=event.slot,
        commitment=CONFIRMED,
    )
    return Finding(
        kind=kind,
        provider=provider,
        market=event.market,
        subject=event.venue_fill_id,
        detail=detail,
        evidence=(evidence,),
    )


def foreign_finding(part: ForeignPart) -> Finding:
    """Return the finding of a holding that is not ours."""
    detail = {"side": part.side.value, "size": f"{part.size:f}"}
    if part.entry_price is not None:
        detail["entry_price"] = f"{part.entry_price:f}"
    return Finding(
        kind=FindingKind.FOREIGN_POSITION,
        provider=part.provider,
        market=part.market,
        subject=str(part.holding),
        detail=detail,
    )


def size_finding(provider: str, report: MarketReport, slot: int, why: str) -> Finding:
    """Return the finding of a difference that no history explains; the lots stay as they are."""
    detail = {
        "booked_size": f"{report.booked_size:f}",
        "foreign_size": f"{report.foreign_size:f}",
        "venue_size": f"{report.venue_size:f}",
    }
    evidence = Evidence(kind="holdings", detail=why, slot=slot, commitment=CONFIRMED)
    return Finding(
        kind=FindingKind.SIZE_DIFFERS,
        provider=provider,
        market=report.market,
        subject=str(report.holding),
        detail=detail,
        evidence=(evidence,),
    )


def orphan_finding(order: VenueOrder, slot: int, why: str) -> Finding:
    """Return the finding of an order that rests on the venue and that nobody here waits for."""
    detail = {
        "why": why,
        "side": order.side.value,
        "size": f"{order.size:f}",
        "reduce_only": "yes" if order.reduce_only else "no",
    }
    if order.price is not None:
        detail["price"] = f"{order.price:f}"
    return Finding(
        kind=FindingKind.ORPHAN_ORDER,
        provider=order.provider,
        market=order.market,
        subject=order.venue_order_id,
        detail=detail,
        evidence=(Evidence(kind="resting", signature=order.placed_by, slot=slot, commitment=CONFIRMED),),
    )


def signature_finding(provider: str, signature: str) -> Finding:
    """Return the finding of a transaction that our key signed and nobody here wrote down."""
    return Finding(
        kind=FindingKind.UNKNOWN_SIGNATURE,
        provider=provider,
        market=None,
        subject=signature,
        detail={"what": "signed by our key, and in no ledger of this service"},
        evidence=(Evidence(kind="signed", signature=signature, commitment=CONFIRMED),),
    )


def violation_finding(provider: str, event: VenueEvent, order_id: str, attempt_id: str) -> Finding:
    """Return the finding of a fill by an attempt that was proven dead."""
    evidence = Evidence(
        kind="fill_record",
        detail=event.venue_fill_id,
        signature=event.signature,
        slot=event.slot,
        commitment=CONFIRMED,
    )
    return Finding(
        kind=FindingKind.PROMISE_VIOLATION,
        provider=provider,
        market=event.market,
        subject=attempt_id,
        detail={"order_id": order_id, "attempt_id": attempt_id, "what": "was proven dead, and filled"},
        evidence=(evidence,),
    )
