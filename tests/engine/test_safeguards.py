"""Halts and limits on a running engine: what they stop, and that they never stop a close, a cancel or a fence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.base.clock import VirtualClock
from providers.base.errors import ErrorClass, PriceReferenceMissing
from providers.base.prices import ReferencePrice
from providers.base.types import Side
from router.engine.limits import Limits
from router.engine.requests import (
    InvalidRequest,
    LeverageAboveLimit,
    LimitExceeded,
    OpenRequest,
    OpensHalted,
    OpensHeld,
    ProviderUnknown,
    QuoteFailed,
    QuoteRequest,
)
from router.ledger.protocol import LedgerError
from router.ledger.records import AttemptState, OrderStatus, OrderView
from tests.engine.harness import SETTINGS, Desk, trade
from tests.engine.scripted import PRICE, Play

AT = datetime(2026, 1, 1, tzinfo=UTC)
ASK = QuoteRequest(market="SOL-PERP", side=Side.LONG, size=Decimal(2))


class Prices:
    """An independent source that says what the test tells it to."""

    def __init__(self, price: Decimal | None) -> None:
        self.now = price
        self.asked = 0

    async def price(self, market: str) -> ReferencePrice:
        """Return the price, or say that there is none."""
        self.asked += 1
        if self.now is None:
            raise PriceReferenceMissing("the source is down")
        return ReferencePrice(market=market, price=self.now, confidence=Decimal(0), published_at=AT)

    async def aclose(self) -> None:
        """Release nothing."""


def limited(
    story: Callable[[Desk], Awaitable[None]], limits: Limits, prices: Prices | None = None, **plays: Any
) -> None:
    """Run a story under limits."""
    trade(story, settings=msgspec.structs.replace(SETTINGS, limits=limits), prices=prices, **plays)


def told(view: OrderView) -> list[tuple[str, str | None]]:
    """Return each attempt's provider with the code of its error."""
    return [(attempt.provider, None if attempt.error is None else attempt.error.code) for attempt in view.attempts]


# --- the switches ----------------------------------------------------------------------------------------------------


def test_a_halt_refuses_opens_and_lets_go_of_what_is_open() -> None:
    """No order and no key is used up; quotes are given, closes fill; after a resume the same open goes through."""

    async def story(desk: Desk) -> None:
        await desk.open()
        guards = desk.engine.safeguards
        await guards.halt(None, "drill", "ops")
        with pytest.raises(OpensHalted) as caught:
            await desk.place()
        assert caught.value.data["scope"] == "router"
        assert len(desk.ledger.orders(limit=10)[0]) == 1
        assert (await desk.engine.quote(ASK)).quote.provider == "alpha"
        assert desk.told.scopes == {"router"}
        closed = await desk.close(desk.lots()[0].position_id)
        desk.check(closed)
        assert closed.order.status is OrderStatus.FILLED
        await guards.resume(None, "over", "ops")
        assert desk.told.scopes == set()
        desk.check(await desk.open())

    trade(story)


def test_a_halted_provider_is_passed_and_the_next_one_fills() -> None:
    """The refusal is on record; a caller who wants that provider alone is refused; a quote shows why."""

    async def story(desk: Desk) -> None:
        guards = desk.engine.safeguards
        await guards.halt("alpha", "odd prices", "ops")
        view = await desk.open()
        desk.check(view)
        assert told(view) == [("alpha", "halted_by_operator"), ("beta", None)]
        with pytest.raises(OpensHalted):
            await desk.place(provider="alpha")
        answer = await desk.engine.quote(ASK)
        assert answer.quote.provider == "beta"
        error = answer.candidates[0].error
        assert error is not None
        assert (error.code, error.error_class, error.detail) == (
            "halted_by_operator", ErrorClass.CAPACITY, "odd prices",
        )  # fmt: skip
        for name in ("beta", "gamma"):
            await guards.halt(name, "all of them", "ops")
        with pytest.raises(OpensHalted):
            await desk.place()

    trade(story)


def test_an_unknown_provider_cannot_be_halted() -> None:
    """A slip of the pen is told, instead of a halt that stops nothing."""

    async def story(desk: Desk) -> None:
        guards = desk.engine.safeguards
        for act in (guards.halt, guards.resume):
            with pytest.raises(ProviderUnknown):
                await act("alhpa", "drill", "ops")
        assert guards.halts() == ()

    trade(story)


def test_a_halt_survives_a_restart(tmp_path: Path) -> None:
    """With its reason, and until it is lifted."""

    async def story(desk: Desk) -> None:
        await desk.engine.safeguards.halt(None, "drill", "ops")
        await desk.engine.safeguards.halt("beta", "odd", "eve")
        await desk.crash()
        halts = desk.engine.safeguards.halts()
        assert [(each.provider, each.reason, each.caller) for each in halts] == [
            (None, "drill", "ops"),
            ("beta", "odd", "eve"),
        ]
        with pytest.raises(OpensHalted):
            await desk.place()
        await desk.engine.safeguards.resume(None, "over", "ops")
        await desk.crash()
        assert [each.provider for each in desk.engine.safeguards.halts()] == ["beta"]
        desk.check(await desk.open())

    trade(story, path=tmp_path / "ledger.db")


def test_a_halt_that_cannot_be_written_still_stops_opens() -> None:
    """The operator hears that it is not durable; until a restart nothing opens."""

    async def story(desk: Desk) -> None:
        async def fails(record: object) -> object:
            raise LedgerError(f"disk full: {record}")

        desk.ledger.halt = fails  # type: ignore[method-assign,assignment]
        with pytest.raises(LedgerError):
            await desk.engine.safeguards.halt(None, "drill", "ops")
        with pytest.raises(OpensHalted):
            await desk.place()

    trade(story)


@pytest.mark.parametrize("moment", ["quote", "prepare_open", "add_attempt"])
def test_an_order_that_has_sent_nothing_stops_at_a_halt(moment: str) -> None:
    """While it is priced, while it is built, or once it is journaled: nothing is sent, and it ends with `policy`."""

    async def story(desk: Desk) -> None:
        target: Any = desk.ledger if moment == "add_attempt" else desk.providers["alpha"]
        real = getattr(target, moment)

        async def halting(*arguments: object) -> object:
            result = await real(*arguments)
            setattr(target, moment, real)
            await desk.engine.safeguards.halt(None, "stop", "ops")
            return result

        setattr(target, moment, halting)
        view = await desk.open()
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert (view.order.error.code, view.order.error.error_class) == ("trading_halted", ErrorClass.POLICY)
        assert [each.sent for each in desk.providers.values()] == [[], [], []]
        assert desk.venue_exposure() == 0
        if moment == "add_attempt":
            (attempt,) = view.attempts
            assert (attempt.state, attempt.evidence[0].kind) == (AttemptState.DEAD, "never_sent")

    trade(story)


def test_what_was_sent_is_settled_under_a_halt() -> None:
    """A fill that is seen late is booked; no sibling is sent meanwhile, though the first one is unclear for long."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place()
        await desk.clock.sleep(1)
        await desk.engine.safeguards.halt(None, "stop", "ops")
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED
        assert desk.providers["beta"].sent == desk.providers["gamma"].sent == []

    trade(story, alpha=(Play(seen_after_s=9.0),))


def test_an_unclear_order_is_fenced_under_a_halt() -> None:
    """What was lost is shut out by a fence of ours, as ever; then the order ends, since nobody else may be asked."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place()
        await desk.clock.sleep(1)
        await desk.engine.safeguards.halt(None, "stop", "ops")
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FAILED
        assert view.order.error is not None
        assert view.order.error.code == "trading_halted"
        assert desk.chain.fences_sent >= 1
        assert desk.providers["beta"].sent == desk.providers["gamma"].sent == []

    trade(story, alpha=(Play(what="lost"),))


def test_what_rests_is_cancelled_under_a_halt() -> None:
    """A caller's cancel ends a resting order; the halt is in nobody's way."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place()
        await desk.clock.sleep(1)
        await desk.engine.safeguards.halt(None, "stop", "ops")
        await desk.engine.cancel(order_id)
        view = await desk.end_of(order_id)
        desk.check(view)
        assert view.order.status is OrderStatus.CANCELLED
        assert desk.providers["alpha"].cancels == 1

    trade(story, alpha=(Play(what="rest"),))


def _pass(desk: Desk, time: timedelta) -> None:
    """Let the wall clock go on, and nothing else."""
    assert isinstance(desk.clock, VirtualClock)
    desk.clock._start += time


# --- limits on sums --------------------------------------------------------------------------------------------------


def test_the_limit_of_a_market_is_given_back_by_closes() -> None:
    """Held and perhaps held: two lots of 300 dollars fill 600; after a close there is room again."""

    async def story(desk: Desk) -> None:
        await desk.open()
        await desk.open()
        with pytest.raises(LimitExceeded) as caught:
            await desk.place()
        assert (caught.value.data["limit"], caught.value.data["used"]) == ("market_usd", Decimal(600))
        assert len(desk.ledger.orders(limit=10)[0]) == 2
        desk.check(await desk.close(desk.lots()[0].position_id))
        desk.check(await desk.open())

    limited(story, Limits(market_usd=Decimal(600)))


def test_the_limit_of_a_day_is_given_back_by_time_alone() -> None:
    """Closing does not make room for more turnover; a day does."""

    async def story(desk: Desk) -> None:
        await desk.open()
        desk.check(await desk.close(desk.lots()[0].position_id))
        with pytest.raises(LimitExceeded) as caught:
            await desk.place()
        assert caught.value.data["limit"] == "day_usd"
        _pass(desk, timedelta(hours=23, minutes=55))
        with pytest.raises(LimitExceeded):
            await desk.place()
        _pass(desk, timedelta(minutes=10))
        desk.check(await desk.open())

    limited(story, Limits(day_usd=Decimal(500)))


def test_an_unclear_open_counts_as_held() -> None:
    """What may yet fill leaves no room for another; once it is proven dead everywhere, it does."""

    async def story(desk: Desk) -> None:
        order_id = await desk.place(provider="alpha", ttl_s=10)
        await desk.clock.sleep(2)
        for _ in range(2):
            with pytest.raises(LimitExceeded) as caught:
                await desk.place()
            assert caught.value.data["limit"] == "positions"
        view = await desk.end_of(order_id)
        assert view.order.status is OrderStatus.FAILED
        desk.check(await desk.open())

    limited(story, Limits(positions=1), alpha=tuple(Play(what="lost") for _ in range(4)))


def test_of_many_opens_at_once_no_more_than_fit_are_made() -> None:
    """Ten at the same moment, room for three: three orders, seven refusals, and nothing beyond the limit is held."""

    async def story(desk: Desk) -> None:
        results = await asyncio.gather(*(desk.place() for _ in range(10)), return_exceptions=True)
        made = [result for result in results if isinstance(result, str)]
        assert len(made) == 3
        assert sum(isinstance(result, LimitExceeded) for result in results) == 7
        for order_id in made:
            desk.check(await desk.end_of(order_id))
        assert desk.exposure() * PRICE == Decimal(900)

    limited(story, Limits(day_usd=Decimal(1000)))


def test_a_full_provider_is_passed_and_the_next_one_fills() -> None:
    """`provider_limit` on record; pinned to it, the order ends so, and a close of what it holds goes through."""

    async def story(desk: Desk) -> None:
        await desk.open()
        second = await desk.open()
        desk.check(second)
        assert told(second) == [("alpha", "provider_limit"), ("beta", None)]
        pinned = await desk.open(provider="alpha")
        assert told(pinned) == [("alpha", "provider_limit")]
        assert pinned.order.status is OrderStatus.FAILED
        assert (await desk.close(desk.lots()[0].position_id)).order.status is OrderStatus.FILLED
        assert told(await desk.open(provider="alpha")) == [("alpha", None)]

    limited(story, Limits(provider_usd={"alpha": Decimal(500)}))


def test_of_many_attempts_at_once_no_more_than_fit_reach_a_provider() -> None:
    """Five at the same moment, room for one at each: no venue gets more, and what found no room ends so."""

    async def story(desk: Desk) -> None:
        orders = await asyncio.gather(*(desk.place() for _ in range(5)))
        views = [await desk.end_of(order_id) for order_id in orders]
        statuses = [view.order.status for view in views]
        assert statuses.count(OrderStatus.FILLED) == 3
        assert statuses.count(OrderStatus.FAILED) == 2
        assert {provider.exposure() for provider in desk.providers.values()} == {Decimal(2)}

    limited(story, Limits(provider_usd=dict.fromkeys(("alpha", "beta", "gamma"), Decimal(400))))


def test_leverage_and_size_are_limited_before_there_is_an_order() -> None:
    """The router's own caps, whatever venues would give."""

    async def story(desk: Desk) -> None:
        request = OpenRequest(
            caller="local",
            key="k",
            client_order_id=None,
            fingerprint="f",
            market="SOL-PERP",
            side=Side.LONG,
            size=Decimal(2),
            leverage=Decimal(4),
        )
        with pytest.raises(LeverageAboveLimit):
            await desk.engine.open(request)
        above = msgspec.structs.replace(request, leverage=Decimal(3), size=Decimal(10))
        with pytest.raises(InvalidRequest):
            await desk.engine.open(above)
        assert desk.ledger.orders(limit=10) == ((), None)
        await desk.engine.open(msgspec.structs.replace(request, leverage=Decimal(3)))

    settings = msgspec.structs.replace(SETTINGS, limits=Limits(leverage=Decimal(3)), max_order_usd=Decimal(1000))
    trade(story, settings=settings)


def test_a_limit_in_dollars_needs_a_price() -> None:
    """A size in base units that nobody can price is refused; a limit that cannot be held would be none."""

    async def story(desk: Desk) -> None:
        async def no_markets() -> tuple[()]:
            raise PriceReferenceMissing("nothing can be read")

        for provider in desk.providers.values():
            provider.markets = no_markets  # type: ignore[method-assign]
        with pytest.raises(OpensHeld) as caught:
            await desk.place()
        assert caught.value.data["reason"] == "price_unknown"

    limited(story, Limits(market_usd=Decimal(600)))


def test_a_close_passes_every_limit() -> None:
    """With all of them used up, the router halted and the source of prices gone, a position can be left."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        desk.check(view)
        prices.now = None
        await desk.engine.safeguards.halt(None, "stop", "ops")
        await desk.engine.safeguards.halt("alpha", "stop", "ops")
        desk.providers["alpha"].price = PRICE * 2
        closed = await desk.close(desk.lots()[0].position_id)
        desk.check(closed)
        assert closed.order.status is OrderStatus.FILLED

    prices = Prices(PRICE)
    everything = Limits(
        market_usd=Decimal(300),
        day_usd=Decimal(300),
        provider_usd={"alpha": Decimal(300)},
        positions=1,
        leverage=Decimal(1),
        quote_deviation_bps=Decimal(1),
        oracle_deviation_bps=Decimal(1),
    )
    limited(story, everything, prices)


# --- prices ----------------------------------------------------------------------------------------------------------


def test_a_quote_far_from_its_oracle_is_not_taken_and_not_the_orders_bound() -> None:
    """The next provider's price is the one that the order is bound by."""

    async def story(desk: Desk) -> None:
        desk.providers["alpha"].price = PRICE * Decimal("1.02")
        view = await desk.open()
        desk.check(view)
        assert told(view) == [("alpha", "quote_deviates"), ("beta", None)]
        assert view.order.expected_price == PRICE
        answer = await desk.engine.quote(ASK)
        assert answer.quote.provider == "beta"
        assert answer.candidates[0].error is not None
        desk.providers["beta"].price = desk.providers["gamma"].price = PRICE * 2
        with pytest.raises(QuoteFailed):
            await desk.engine.quote(ASK)

    limited(story, Limits(quote_deviation_bps=Decimal(100)))


def test_every_provider_is_held_against_its_own_oracle() -> None:
    """Also one that is asked second, and whose price fixed nothing."""

    async def story(desk: Desk) -> None:
        desk.providers["beta"].price = PRICE * 2
        view = await desk.open()
        desk.check(view)
        assert told(view) == [("alpha", "worst_price_not_met"), ("beta", "quote_deviates"), ("gamma", None)]

    limited(story, Limits(quote_deviation_bps=Decimal(100)), alpha=(Play(what="err"),))


def test_an_oracle_far_from_the_independent_price_stops_opens_at_every_venue_that_believes_it() -> None:
    """All three share it here: each refuses, an alert is raised, nothing is sent."""

    async def story(desk: Desk) -> None:
        view = await desk.open()
        assert told(view) == [(name, "oracle_deviates") for name in ("alpha", "beta", "gamma")]
        assert view.order.status is OrderStatus.FAILED
        assert "oracle_deviates" in desk.told.alerts
        assert desk.venue_exposure() == 0

    limited(story, Limits(oracle_deviation_bps=Decimal(50)), Prices(PRICE * Decimal("1.01")))


def test_without_an_independent_price_opens_are_held_before_there_is_an_order() -> None:
    """503 for the caller, no key used up; once it is back the same request goes through."""

    async def story(desk: Desk) -> None:
        with pytest.raises(OpensHeld) as caught:
            await desk.place()
        assert caught.value.data["reason"] == "price_reference_missing"
        assert desk.ledger.orders(limit=10) == ((), None)
        assert "price_reference_missing" in desk.told.alerts
        prices.now = PRICE
        desk.check(await desk.open())

    prices = Prices(None)
    limited(story, Limits(oracle_deviation_bps=Decimal(50)), prices)


def test_a_price_that_goes_missing_under_way_ends_the_order_with_policy() -> None:
    """Between the request and the attempt: no other provider is asked, since none of them has another price."""

    async def story(desk: Desk) -> None:
        real = desk.providers["alpha"].quote

        async def quote(terms: Any) -> object:
            prices.now = None
            return await real(terms)

        desk.providers["alpha"].quote = quote  # type: ignore[method-assign,assignment]
        view = await desk.open()
        assert told(view) == [("alpha", "price_reference_missing")]
        assert view.order.error is not None
        assert view.order.error.error_class is ErrorClass.POLICY

    prices = Prices(PRICE)
    limited(story, Limits(oracle_deviation_bps=Decimal(50)), prices)


def test_an_operator_may_rather_trade_without_the_independent_price() -> None:
    """Then it is an alert, and the check is made again as soon as there is one."""

    async def story(desk: Desk) -> None:
        desk.check(await desk.open())
        assert "price_reference_missing" in desk.told.alerts
        prices.now = PRICE * 2
        assert (await desk.open()).order.status is OrderStatus.FAILED

    prices = Prices(None)
    limited(story, Limits(oracle_deviation_bps=Decimal(50), reference_required=False), prices)


def test_nobody_is_asked_for_a_price_that_no_limit_needs() -> None:
    """Off by default: no source is asked, and a venue is asked for one quote an order, as before."""

    async def story(desk: Desk) -> None:
        quotes = 0
        real = desk.providers["alpha"].quote

        async def quote(terms: Any) -> object:
            nonlocal quotes
            quotes += 1
            return await real(terms)

        desk.providers["alpha"].quote = quote  # type: ignore[method-assign,assignment]
        desk.check(await desk.open())
        assert (quotes, prices.asked) == (1, 0)

    prices = Prices(PRICE)
    limited(story, Limits(day_usd=Decimal(1000)), prices)
