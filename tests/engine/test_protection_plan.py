"""The rules of protection over generated states: what is never done, whatever the ledger says."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from providers.base.types import OrderKind, Purpose, Side, Submission, Trigger
from router.engine.protection import (
    Add,
    Around,
    Cancel,
    End,
    Fire,
    Move,
    Place,
    Trip,
    Write,
    next_moves,
)
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    Cause,
    Leg,
    LegKind,
    LegRecord,
    LegTerms,
    OrderRecord,
    OrderStatus,
    OrderView,
    PositionRecord,
    PositionStatus,
    ProtectedLot,
    ProtectionTerms,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = {Leg.STOP_LOSS: Decimal(90), Leg.TAKE_PROFIT: Decimal(110)}


def a_position(dice: random.Random) -> PositionRecord:
    """Return a long, open or closed, with none, one or both legs wanted."""
    closed = dice.random() < 0.2
    terms = ProtectionTerms()
    for leg in Leg:
        if dice.random() < 0.7:
            price = PRICES[leg] if dice.random() < 0.8 else PRICES[leg] + 1
            terms = terms.but(leg, LegTerms(price=price, size=dice.choice([None, Decimal(1)])))
    return PositionRecord(
        position_id="pos",
        provider="alpha",
        market="SOL-PERP",
        side=Side.LONG,
        status=PositionStatus.CLOSED if closed else PositionStatus.OPEN,
        size=Decimal(0) if closed else dice.choice([Decimal(1), Decimal(2)]),
        opened_size=Decimal(2),
        entry_price=Decimal(100),
        leverage=Decimal(1),
        opened_by_order="ord",
        caller="desk",
        reserved_size=Decimal(0),
        realized_pnl_usd=Decimal(0),
        fees_usd=Decimal(0),
        opened_at=NOW,
        closed_at=NOW if closed else None,
        protection=terms,
    )


def a_leg(dice: random.Random, leg: Leg, order_id: str | None) -> LegRecord:
    """Return a leg somewhere on its way."""
    failures = dice.choice([0, 0, 1])
    return LegRecord(
        leg_id=f"leg_{leg}",
        position_id="pos",
        leg=leg,
        price=PRICES[leg],
        size=dice.choice([None, Decimal(1)]),
        kind=dice.choice(list(LegKind)),
        created_at=NOW,
        updated_at=NOW,
        order_id=order_id,
        fired_at=NOW if dice.random() < 0.2 else None,
        failure="no" if failures else None,
        failures=failures,
        next_try_at=NOW + timedelta(seconds=dice.choice([-1, 1])) if failures else None,
        filled_size=dice.choice([Decimal(0), Decimal(0), Decimal(1)]),
    )


def an_order(dice: random.Random, leg: Leg) -> OrderView:
    """Return an order of a leg: a trigger or a close, open or ended."""
    trigger = Trigger(price=PRICES[leg], above=leg is Leg.TAKE_PROFIT) if dice.random() < 0.7 else None
    order = OrderRecord(
        order_id=f"ord_{leg}",
        caller="desk",
        client_order_id=None,
        kind=OrderKind.CLOSE,
        status=dice.choice([OrderStatus.PENDING] * 3 + [s for s in OrderStatus if s.final]),
        market="SOL-PERP",
        side=Side.LONG,
        provider="alpha",
        requested_size=dice.choice([Decimal(1), Decimal(2)]),
        requested_size_usd=None,
        requested_worst_price=None,
        leverage=Decimal(1),
        slippage_bps=500,
        request=b"{}",
        size=None,
        worst_price=None,
        expected_price=None,
        deadline=NOW,
        lock=None,
        lock_reclaimed=False,
        cancel_requested_at=NOW if dice.random() < 0.3 else None,
        filled_by=None,
        position_id="pos",
        reservations=(),
        created_at=NOW,
        updated_at=NOW,
        cause=Cause(leg.value),
        trigger=trigger,
    )
    attempt = AttemptRecord(
        attempt_id="att",
        order_id=order.order_id,
        number=1,
        provider="alpha",
        part=0,
        generation=0,
        state=AttemptState.DEAD if order.status.final else AttemptState.UNKNOWN,
        submission=Submission(provider="alpha", purpose=Purpose.CLOSE, handle="sig", body=b"{}"),
        ack=None,
        error=None,
        holder=None,
        evidence=(),
        resting=not order.status.final and trigger is not None and dice.random() < 0.7,
        finalized=False,
        started_at=NOW,
        updated_at=NOW,
    )
    return OrderView(order=order, attempts=(attempt,), secondaries=(), fills=())


def a_lot(dice: random.Random) -> tuple[ProtectedLot, Around]:
    """Return a state and what is around it."""
    legs: list[LegRecord] = []
    orders: dict[str, OrderView] = {}
    for leg in Leg:
        if dice.random() < 0.75:
            view = an_order(dice, leg) if dice.random() < 0.6 else None
            legs.append(a_leg(dice, leg, None if view is None else view.order.order_id))
            if view is not None:
                orders[view.order.order_id] = view
    closes = ("ord_caller",) if dice.random() < 0.2 else ()
    lot = ProtectedLot(
        position=a_position(dice), legs=tuple(legs), orders=orders, closes=closes, opening=dice.random() < 0.1
    )
    crossed = {leg.leg_id: NOW - timedelta(minutes=5) for leg in legs if dice.random() < 0.2}
    around = Around(
        now=NOW,
        price=dice.choice([None, Decimal(85), Decimal(100), Decimal(115)]),
        native=dice.random() < 0.7,
        shared=dice.random() < 0.4,
        crossed_since=crossed,
    )
    return lot, around


def check(lot: ProtectedLot, around: Around, move: Move) -> None:
    """Hold one move against what must never be done."""
    if isinstance(move, (Place, Fire, Trip, End, Write)):
        order = None if move.leg.order_id is None else lot.orders[move.leg.order_id]
        if isinstance(move, (Place, Fire, End)):
            assert order is None, "a leg has an order, and is given another or ended"
    if isinstance(move, (Place, Fire)):
        assert lot.position.status is PositionStatus.OPEN
        assert 0 < move.size <= lot.position.size, "more than the lot holds"
        wanted = lot.position.protection.of(move.leg.leg)
        assert wanted is not None
        assert wanted.price == move.leg.price
    if isinstance(move, Place):
        assert around.native
        assert not lot.closes, "placed while somebody closes the lot"
        assert move.leg.fired_at is None
        others = [view for view in lot.orders.values() if view.order.leg_id != move.leg.leg_id]
        assert not (around.shared and others), "two triggers on a shared slot"
    if isinstance(move, Fire):
        assert move.leg.fired_at is not None
    if isinstance(move, Trip):
        reached = move.leg.leg_id in around.crossed_since
        price = around.price
        above = move.leg.leg is Leg.TAKE_PROFIT
        assert reached or (price is not None and (price >= move.leg.price if above else price <= move.leg.price))
    if isinstance(move, Cancel):
        assert lot.orders[move.order_id].order.cancel_requested_at is None
        assert not lot.orders[move.order_id].order.status.final
    if isinstance(move, Add):
        assert move.leg not in {leg.leg for leg in lot.legs}


@pytest.mark.parametrize("seed", range(20))
def test_no_state_leads_to_what_must_never_be_done(seed: int) -> None:
    """No second order of a leg, no more than the lot, nothing beside a close, no leg fired without its price."""
    dice = random.Random(seed)  # noqa: S311 - repeats from its seed
    for _ in range(500):
        lot, around = a_lot(dice)
        for move in next_moves(lot, around):
            check(lot, around, move)


def test_an_open_lot_is_never_bare() -> None:
    """Every leg that is wanted rests, is on its way, is watched, fires, or is begun now."""
    dice = random.Random(1)  # noqa: S311 - repeats from its seed
    for _ in range(5000):
        lot, around = a_lot(dice)
        if lot.position.status is PositionStatus.CLOSED:
            continue
        moves = next_moves(lot, around)
        for leg in Leg:
            wanted = lot.position.protection.of(leg)
            there = any(record.leg is leg for record in lot.legs)
            # What is not there is begun as soon as what has ended is noted, and what is in its way has gone.
            assert wanted is None or there or moves, (lot, around)
