"""What the ledger's tests are made of: a clock, rows with sensible values, short ways to a filled order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from providers.base.clock import VirtualClock
from providers.base.errors import NoLiquidity, NotLanded, Phase
from providers.base.types import (
    Ack,
    Evidence,
    Fill,
    LockRef,
    LockTerms,
    OrderKind,
    Outcome,
    OutcomeState,
    Purpose,
    Side,
    Submission,
)
from router.ledger.records import AttemptRecord, AttemptState, NewOrder, OrderStatus, PositionRecord, Reservation
from router.ledger.sqlite import MEMORY, SqliteLedger

START = datetime(2026, 1, 1, tzinfo=UTC)
LOCK = LockTerms(base="LockKey1111", nonce="a" * 26, base_lamports=890_880)
NOT_LANDED = NotLanded("our fence holds the lock", phase=Phase.ANSWERED).info()
CONFIRMED = Evidence(kind="fill_record", signature="sig", slot=7, commitment="confirmed")


def at(seconds: int) -> datetime:
    """Return an instant of the tests' day."""
    return START + timedelta(seconds=seconds)


def with_ledger(test: Callable[[SqliteLedger], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a fresh ledger in memory."""

    async def main() -> None:
        ledger = SqliteLedger.open(MEMORY, VirtualClock(seed=1))
        try:
            await test(ledger)
        finally:
            await ledger.aclose()

    asyncio.run(main())


def new_order(order_id: str = "ord_1", **changes: object) -> NewOrder:
    """Return an open of 10 SOL, changed as asked."""
    order = NewOrder(
        order_id=order_id,
        caller="local",
        key=None,
        client_order_id=None,
        fingerprint="body",
        kind=OrderKind.OPEN,
        market="SOL-PERP",
        side=Side.LONG,
        provider="auto",
        size=Decimal(10),
        size_usd=None,
        leverage=Decimal(2),
        slippage_bps=50,
        worst_price=None,
        request=b'{"size":"10"}',
        created_at=at(0),
        deadline=at(60),
        lock=LOCK,
        chain=("drift", "mango"),
    )
    return msgspec.structs.replace(order, **changes)


def new_close(order_id: str, position_ids: dict[str, str], **changes: object) -> NewOrder:
    """Return a close that reserves these sizes of these lots."""
    reservations = tuple(Reservation(position_id=key, size=Decimal(size)) for key, size in position_ids.items())
    size = sum((item.size for item in reservations), Decimal(0))
    return new_order(order_id, kind=OrderKind.CLOSE, reservations=reservations, size=size, **changes)


def new_attempt(order_id: str = "ord_1", number: int = 1, **changes: object) -> AttemptRecord:
    """Return a journaled attempt that carries the order's lock, changed as asked (`locked=False` leaves it out)."""
    locked = changes.pop("locked", True)
    purpose = changes.pop("purpose", Purpose.OPEN)
    provider = changes.get("provider", "drift")
    generation, part = changes.get("generation", 0), changes.get("part", 0)
    assert isinstance(purpose, Purpose)
    assert isinstance(provider, str)
    assert isinstance(generation, int)
    assert isinstance(part, int)
    submission = Submission(
        provider=provider,
        purpose=purpose,
        handle=f"sig_{order_id}_{number}",
        body=b'{"tx":"\xc3\xa9"}',
        size=Decimal(0),
        may_fill_until=at(60),
        lock=LockRef(terms=LOCK, part=part, generation=generation) if locked else None,
    )
    attempt = AttemptRecord(
        attempt_id=f"att_{order_id}_{number}",
        order_id=order_id,
        number=number,
        provider=provider,
        part=part,
        generation=generation,
        state=AttemptState.JOURNALED,
        submission=submission,
        ack=None,
        error=None,
        holder=None,
        evidence=(),
        resting=False,
        finalized=False,
        started_at=at(1),
        updated_at=at(1),
    )
    return msgspec.structs.replace(attempt, **changes)


def refused(order_id: str = "ord_1", number: int = 1, **changes: object) -> AttemptRecord:
    """Return an attempt that its provider refused to build."""
    error = NoLiquidity("nothing to trade against").info()
    return new_attempt(order_id, number, state=AttemptState.REFUSED, submission=None, error=error, **changes)


def a_fill(fill_id: str = "f1", size: str = "10", price: str = "100", fee: str = "0.5", **changes: object) -> Fill:
    """Return a fill worth size times price."""
    fill = Fill(
        venue_fill_id=fill_id,
        price=Decimal(price),
        size=Decimal(size),
        size_usd=Decimal(size) * Decimal(price),
        fee_usd=Decimal(fee),
        signature=f"sig_{fill_id}",
        slot=7,
        filled_at=at(2),
    )
    return msgspec.structs.replace(fill, **changes)


def filled(*fills: Fill, **changes: object) -> Outcome:
    """Return a proven fill in full."""
    outcome = Outcome(
        state=OutcomeState.FILLED, landed=True, executed=True, fills=fills or (a_fill(),), evidence=(CONFIRMED,)
    )
    return msgspec.structs.replace(outcome, **changes)


def dead(**changes: object) -> Outcome:
    """Return a proof of death."""
    outcome = Outcome(
        state=OutcomeState.DEAD,
        landed=False,
        executed=False,
        error=NOT_LANDED,
        evidence=(Evidence(kind="lock_held", commitment="confirmed"),),
    )
    return msgspec.structs.replace(outcome, **changes)


UNKNOWN = Outcome(state=OutcomeState.UNKNOWN)
ACK = Ack(accepted=1)


async def ready(ledger: SqliteLedger, order_id: str = "ord_1", **changes: object) -> None:
    """Make an open with fixed terms."""
    order = new_order(order_id, **changes)
    await ledger.create_order(order)
    await fix(ledger, order_id, order.size or Decimal(10))


async def fix(ledger: SqliteLedger, order_id: str, size: Decimal) -> None:
    """Fix an order's terms."""
    await ledger.fix_terms(order_id, size=size, worst_price=Decimal(101), expected_price=Decimal(100), at=at(1))


async def opened(ledger: SqliteLedger, order_id: str = "ord_1", *fills: Fill, **changes: object) -> PositionRecord:
    """Open a position that is filled in full, and end its order; fills get ids of their own where none are given."""
    provider = changes.pop("on", "drift")
    await ready(ledger, order_id, **changes)
    await ledger.add_attempt(new_attempt(order_id, provider=provider))
    await ledger.record_outcome(f"att_{order_id}_1", filled(*(fills or (a_fill(f"fill_{order_id}"),))), at(3))
    await finish_filled(ledger, order_id)
    view = ledger.order(order_id)
    assert view is not None
    position = ledger.position(view.order.position_id or "")
    assert position is not None
    return position


async def closing(ledger: SqliteLedger, order_id: str, position_ids: dict[str, str], **changes: object) -> str:
    """Make a close with a journaled attempt and return the attempt's id."""
    order = new_close(order_id, position_ids, **changes)
    await ledger.create_order(order)
    await fix(ledger, order_id, order.size or Decimal(0))
    attempt = new_attempt(order_id, purpose=Purpose.CLOSE)
    await ledger.add_attempt(attempt)
    return attempt.attempt_id


async def finish_filled(ledger: SqliteLedger, order_id: str) -> None:
    """End an order as filled."""
    await ledger.finish_order(order_id, OrderStatus.FILLED, at(4))


def kinds(ledger: SqliteLedger, order_id: str | None = None) -> list[str]:
    """Return the kinds of audit events so far."""
    return [event.kind for event in ledger.events(order_id=order_id)]
