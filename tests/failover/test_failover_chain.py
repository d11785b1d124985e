"""What the chain keeps while it goes from one venue to the next: bound, minimums, sides, deadline, one fill."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.errors import ErrorClass
from providers.base.types import Side
from providers.drift.config import DriftConfig
from router.engine.requests import BelowEveryMinimum
from router.ledger.records import AttemptState, OrderStatus, OrderView
from router.localnet.world import WorldKeys, world_of
from tests.conformance.conformance_drift import DriftVenue
from tests.failover.failover_desk import DRIFT, MANGO, VENUES, Desk, at_desk


def tried(view: OrderView) -> list[tuple[str, str | None]]:
    """Return the providers that were tried, each with its error's code."""
    return [(attempt.provider, None if attempt.error is None else attempt.error.code) for attempt in view.attempts]


def outcomes(view: OrderView) -> list[AttemptState]:
    """Return what became of each attempt."""
    return [attempt.state for attempt in view.attempts]


@pytest.mark.parametrize("side", list(Side))
def test_the_bound_is_kept_when_the_second_venue_is_dearer(side: Side) -> None:
    """The first quote fixes the bound: a venue that is three percent dearer is passed, not paid."""

    async def play(desk: Desk) -> None:
        desk.venues[DRIFT].collateral(Decimal(20))
        away = Decimal("1.03") if side is Side.LONG else Decimal("0.97")
        desk.venues[MANGO].move_price(desk.venues[MANGO].price * away)
        await desk.slots(5)
        first = (await desk.quote(side=side)).quote
        assert first.provider == DRIFT
        view = await desk.open(side=side, slippage_bps=50)
        assert view.order.status is OrderStatus.FAILED
        assert [provider for provider, _ in tried(view)] == [DRIFT, MANGO]
        bound = view.order.worst_price
        assert bound is not None
        assert abs(bound / first.expected_price - 1) < Decimal("0.0051")
        assert view.attempts[1].error is not None
        assert view.attempts[1].error.error_class in {ErrorClass.PRICE, ErrorClass.CAPACITY}
        assert desk.status(view) == 503
        assert await desk.held(MANGO) == 0

    at_desk(play)


def test_within_the_bound_the_dearer_venue_fills() -> None:
    """A caller whose slippage allows for it gets the dearer venue's fill, at the bound or better."""

    async def play(desk: Desk) -> None:
        desk.venues[DRIFT].collateral(Decimal(20))
        desk.venues[MANGO].move_price(desk.venues[MANGO].price * Decimal("1.03"))
        await desk.slots(5)
        view = await desk.open(slippage_bps=500)
        assert (view.order.status, view.order.filled_by) == (OrderStatus.FILLED, MANGO)
        assert view.order.worst_price is not None
        assert view.order.expected_price is not None
        (record,) = view.fills
        assert view.order.expected_price < record.fill.price <= view.order.worst_price

    at_desk(play)


def test_a_bound_that_only_the_second_venue_meets() -> None:
    """The first venue is beyond the caller's price: class `price`, and the second fills inside of it."""

    async def play(desk: Desk) -> None:
        desk.venues[DRIFT].move_price(Decimal(160))
        await desk.slots(5)
        view = await desk.open(worst_price=Decimal(152))
        assert tried(view) == [(DRIFT, "worst_price_not_met"), (MANGO, None)]
        assert view.attempts[0].error is not None
        assert view.attempts[0].error.error_class is ErrorClass.PRICE
        assert view.fills[0].fill.price <= 152

    at_desk(play)


def test_too_small_for_one_and_not_for_the_other() -> None:
    """Fifty cents are below one venue's smallest order; the other fills them, and the answer says why."""

    async def play(desk: Desk) -> None:
        answer = await desk.quote(size_usd=Decimal("0.50"))
        first, second = answer.candidates
        assert first.error is not None
        assert (first.error.error_class, first.error.code) == (ErrorClass.CAPACITY, "below_minimum")
        assert second.quote == answer.quote
        view = await desk.open(size_usd=Decimal("0.50"))
        assert tried(view) == [(DRIFT, "below_minimum"), (MANGO, None)]
        assert view.order.filled_by == MANGO
        assert Decimal("0.4") < view.fills[0].fill.size_usd <= Decimal("0.5")
        assert desk.answer(view).fallback_used

    at_desk(play)


@pytest.mark.parametrize("size", [{"size_usd": Decimal("0.01")}, {"size": Decimal("0.0001")}])
def test_too_small_for_both_lists_each_minimum(size: dict[str, Decimal]) -> None:
    """Below every minimum no order is made; the answer has each venue's smallest order in base and dollars."""

    async def play(desk: Desk) -> None:
        with pytest.raises(BelowEveryMinimum) as refused:
            await desk.open(**size)
        minimums = refused.value.data["minimums"]
        assert isinstance(minimums, list)
        least = {each["provider"]: Decimal(each["min_size"]) for each in minimums}
        dollars = {each["provider"]: Decimal(each["min_size_usd"]) for each in minimums}
        assert least == {DRIFT: Decimal("0.1"), MANGO: Decimal("0.001")}
        assert dollars[DRIFT] == 15
        assert dollars[MANGO] in {Decimal("0.15"), Decimal("0.16")}
        assert desk.ledger.orders(limit=10)[0] == ()

    at_desk(play)


def test_an_open_against_a_holding_goes_elsewhere() -> None:
    """With a long on the first venue a short would net there: `would_net`, and the second opens it."""

    async def play(desk: Desk) -> None:
        assert (await desk.open()).order.filled_by == DRIFT
        view = await desk.open(side=Side.SHORT)
        assert tried(view) == [(DRIFT, "would_net"), (MANGO, None)]
        assert (await desk.held(DRIFT), await desk.held(MANGO)) == (Decimal(1), Decimal(-1))
        again = await desk.open(side=Side.SHORT, provider=DRIFT)
        assert tried(again) == [(DRIFT, "would_net")]
        assert again.order.status is OrderStatus.FAILED

    at_desk(play)


def test_holdings_on_both_sides_leave_no_venue() -> None:
    """Long on one venue and short on the other: each takes its own side alone, and with one paused there is nobody."""

    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.open(side=Side.SHORT)
        assert (await desk.open()).order.filled_by == DRIFT
        view = await desk.open(side=Side.SHORT)
        assert (view.order.filled_by, tried(view)[0]) == (MANGO, (DRIFT, "would_net"))
        desk.venues[DRIFT].pause()
        await desk.slots(5)
        nobody = await desk.open()
        assert tried(nobody) == [(DRIFT, "market_paused"), (MANGO, "would_net")]
        assert nobody.order.status is OrderStatus.FAILED
        assert (await desk.held(DRIFT), await desk.held(MANGO)) == (Decimal(2), Decimal(-2))

    at_desk(play)


def test_an_unresolved_attempt_counts_as_a_holding() -> None:
    """While a long may still land on the first venue, a short is not opened there; both end on record."""

    async def play(desk: Desk) -> None:
        desk.strike("dropped_before")
        long = await desk.place(provider=DRIFT)
        await desk.slots(3)
        assert [attempt.state.final for attempt in desk.engine.order(long).attempts] == [False]
        short = await desk.place(side=Side.SHORT)
        await desk.slots(3)
        refused = desk.engine.order(short).attempts[0]
        assert (refused.provider, refused.state) == (DRIFT, AttemptState.REFUSED)
        assert refused.error is not None
        assert refused.error.code == "would_net"
        assert "may still open" in refused.error.detail
        desk.heal()
        ended = await desk.ended(short)
        assert ended.order.filled_by == MANGO
        await desk.ended(long)
        assert await desk.held(DRIFT) in {0, 1}

    at_desk(play)


@pytest.mark.parametrize("ttl_s", [3, 5, 16])
def test_a_deadline_in_the_middle_of_the_chain(ttl_s: int) -> None:
    """No attempt starts after the deadline; what is unclear then is proven, and the order ends in one of two ways."""

    async def play(desk: Desk) -> None:
        desk.strike("dropped_before")
        order_id = await desk.place(ttl_s=ttl_s)
        await desk.clock.sleep(ttl_s + 1)
        deadline = desk.engine.order(order_id).order.deadline
        desk.heal()
        view = await desk.ended(order_id)
        assert all(attempt.started_at < deadline for attempt in view.attempts)
        assert (len(view.attempts) == 2) == (ttl_s > 10)
        held = await desk.held(DRIFT) + await desk.held(MANGO)
        assert held == sum(record.fill.size for record in view.fills)
        assert (view.order.status is OrderStatus.FILLED) == (held == 1)

    at_desk(play)


@pytest.mark.parametrize("slots", [6, 12, 14, 16, 20, 60])
def test_siblings_in_flight_fill_once(slots: int) -> None:
    """The first answer is lost and its transaction lands late, with a sibling on the next venue: exactly one fills."""

    async def play(desk: Desk) -> None:
        desk.strike("lost_then_late", slots=slots)
        order_id = await desk.place()
        while len(desk.engine.order(order_id).attempts) < 2:
            if desk.engine.order(order_id).order.status.final:
                break
            await desk.slots(1)
        desk.heal()
        view = await desk.ended(order_id)
        assert view.order.status is OrderStatus.FILLED
        assert outcomes(view).count(AttemptState.FILLED) == 1
        assert len({attempt.generation for attempt in view.attempts}) == 1
        await desk.slots(80)
        held = {name: await desk.held(name) for name in (DRIFT, MANGO)}
        assert held == {DRIFT: 0, MANGO: 0} | {str(view.order.filled_by): 1}
        assert desk.answer(view).fallback_used == (view.order.filled_by == MANGO)

    at_desk(play)


def test_a_fill_that_cannot_be_read_stops_the_chain() -> None:
    """The first venue filled, and nobody can say so: the sibling meets the lock, and the fill is found later."""

    async def play(desk: Desk) -> None:
        desk.strike("lost_after")
        desk.strike("internal_error", "getTransaction")
        order_id = await desk.place()
        await desk.clock.sleep(20)
        assert not desk.engine.order(order_id).order.status.final
        assert await desk.held(MANGO) == 0
        desk.heal()
        view = await desk.ended(order_id)
        assert view.order.filled_by == DRIFT
        assert not desk.answer(view).fallback_used
        assert (await desk.held(DRIFT), await desk.held(MANGO)) == (Decimal(1), Decimal(0))

    at_desk(play)


def test_what_was_dropped_is_filled_by_the_next() -> None:
    """Nothing of the first attempt arrives: the sibling fills under the same lock, which shuts the first out."""

    async def play(desk: Desk) -> None:
        desk.strike("dropped_before")
        order_id = await desk.place()
        while len(desk.engine.order(order_id).attempts) < 2:
            await desk.clock.sleep(0.002)
        desk.heal()
        view = await desk.ended(order_id)
        assert view.order.filled_by == MANGO
        assert outcomes(view) == [AttemptState.SUPERSEDED, AttemptState.FILLED]
        assert view.attempts[0].holder == view.attempts[1].submission.handle  # type: ignore[union-attr]

    at_desk(play)


class WrongWallet(DriftVenue):
    """An adapter that is set up with somebody else's account: our own mistake."""

    config = DriftConfig(authority=world_of(WorldKeys()).maker.wallet.pubkey())


def test_our_own_mistake_stops_the_chain() -> None:
    """Accounts that are wrong are nobody's capacity: class `our_bug`, no other venue, an alert."""

    async def play(desk: Desk) -> None:
        view = await desk.open()
        assert tried(view) == [(DRIFT, "request_rejected")]
        assert view.attempts[0].error is not None
        assert view.attempts[0].error.raw_code == "2003"
        assert view.order.status is OrderStatus.FAILED
        assert desk.status(view) == 422
        assert await desk.held(MANGO) == 0
        assert desk.observer.alerts

    at_desk(play, venues={**VENUES, DRIFT: WrongWallet})
