"""What never becomes an order, and what a close may take."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from providers.base.types import Market, Side
from router.engine.requests import (
    BelowEveryMinimum,
    CloseRequest,
    DeadlineTooFar,
    InvalidRequest,
    LeverageTooHigh,
    MarketUnknown,
    NothingToClose,
    OpenRequest,
    OpensHeld,
    PositionUnknown,
    ProviderUnknown,
    QuoteRequest,
    Refusal,
    WouldLeaveDust,
)
from router.ledger.records import OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play, ScriptedProvider

GOOD: dict[str, object] = {
    "caller": "local",
    "key": "k",
    "client_order_id": None,
    "fingerprint": "f",
    "market": "SOL-PERP",
    "side": Side.LONG,
    "size": Decimal(1),
}


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"market": "SOLL-PERP"}, MarketUnknown),
        ({"provider": "mango"}, ProviderUnknown),
        ({"size": None}, InvalidRequest),
        ({"size_usd": Decimal(100)}, InvalidRequest),
        ({"size": Decimal(0)}, InvalidRequest),
        ({"size": Decimal("0.05")}, BelowEveryMinimum),
        ({"size": None, "size_usd": Decimal("0.5")}, BelowEveryMinimum),
        ({"leverage": Decimal("0.5")}, InvalidRequest),
        ({"leverage": Decimal(50)}, LeverageTooHigh),
        ({"worst_price": Decimal(0)}, InvalidRequest),
        ({"ttl_s": 0}, DeadlineTooFar),
        ({"ttl_s": 10**6}, DeadlineTooFar),
    ],
)
def test_what_nobody_could_open_leaves_no_trace(change: dict[str, object], refusal: type[Refusal]) -> None:
    """A refused request makes no order and uses up no key: the same key works afterwards."""

    async def story(desk: Desk) -> None:
        with pytest.raises(refusal):
            await desk.engine.open(OpenRequest(**(GOOD | change)))  # type: ignore[arg-type]
        assert desk.ledger.orders(limit=10) == ((), None)
        placed = await desk.engine.open(OpenRequest(**GOOD))  # type: ignore[arg-type]
        assert not placed.replayed
        await desk.end_of(placed.view.order.order_id)

    trade(story)


def test_an_unknown_market_names_its_neighbours() -> None:
    """The caller is told what was probably meant."""

    async def story(desk: Desk) -> None:
        with pytest.raises(MarketUnknown) as caught:
            await desk.engine.quote(QuoteRequest(market="SOLL-PERP", side=Side.LONG, size=Decimal(1)))
        assert caught.value.data["nearest"] == ["SOL-PERP"]

    trade(story)


def test_below_every_minimum_lists_each_of_them() -> None:
    """The answer says what each provider takes at least, in base units and dollars."""

    async def story(desk: Desk) -> None:
        with pytest.raises(BelowEveryMinimum) as caught:
            await desk.engine.quote(QuoteRequest(market="SOL-PERP", side=Side.LONG, size=Decimal("0.01")))
        minimums = caught.value.data["minimums"]
        assert isinstance(minimums, list)
        assert [row["provider"] for row in minimums] == ["alpha", "beta", "gamma"]
        assert minimums[0]["min_size_usd"] == "15.00"

    trade(story)


def test_minimums_are_rounded_up() -> None:
    """A smallest order between two steps is listed as the higher one, and its dollars as the next whole cent."""

    class Odd(ScriptedProvider):
        async def markets(self) -> tuple[Market, ...]:
            change = {"step_size": Decimal("0.02"), "min_size": Decimal("0.05"), "oracle_price": Decimal("150.0001")}
            return tuple(msgspec.structs.replace(market, **change) for market in await super().markets())

    async def story(desk: Desk) -> None:
        desk.providers["alpha"] = Odd("alpha", desk.chain)
        asked = QuoteRequest(market="SOL-PERP", side=Side.LONG, size=Decimal("0.05"), provider="alpha")
        with pytest.raises(BelowEveryMinimum) as caught:
            await desk.engine.quote(asked)
        assert caught.value.data["minimums"] == [{"provider": "alpha", "min_size": "0.06", "min_size_usd": "9.01"}]

    trade(story)


def test_a_hold_stops_opens_and_never_a_close() -> None:
    """Whatever holds opens, what is open can be closed."""

    async def story(desk: Desk) -> None:
        await desk.open()
        desk.engine._context.hold_opens("test", "no more")
        with pytest.raises(OpensHeld):
            await desk.open()
        view = await desk.close(desk.lots()[0].position_id)
        desk.check(view)
        assert view.order.status is OrderStatus.FILLED

    trade(story)


def close(**change: object) -> CloseRequest:
    fields: dict[str, object] = {"caller": "local", "key": None, "client_order_id": None, "fingerprint": "c"}
    return CloseRequest(**(fields | change))  # type: ignore[arg-type]


def test_a_close_by_market_takes_the_oldest_lots_first() -> None:
    """Two lots, one close over one and a half of them: the older is gone, the newer is halved."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        await desk.open(size="4")
        placed = await desk.engine.close(close(provider="alpha", market="SOL-PERP", size=Decimal(4)))
        view = await desk.end_of(placed.view.order.order_id)
        desk.check(view)
        assert [lot.size for lot in desk.lots()] == [Decimal(0), Decimal(2)]

    trade(story)


def test_a_fraction_is_rounded_down_to_the_step_and_never_to_all() -> None:
    """A third of 2.00 at a step of 0.01 is 0.66, and a sliver that rounds to nothing is refused."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        lot = desk.lots()[0].position_id
        with pytest.raises(InvalidRequest):
            await desk.engine.close(close(position_id=lot, fraction=Decimal("0.001")))
        placed = await desk.engine.close(close(position_id=lot, fraction=Decimal("0.3333")))
        view = await desk.end_of(placed.view.order.order_id)
        desk.check(view)
        assert desk.lots()[0].size == Decimal("1.34")

    trade(story)


@pytest.mark.parametrize("size", ["0.05", "1.95"])
def test_a_close_leaves_no_dust(size: str) -> None:
    """Neither the close nor what it leaves may be below the venue's smallest order; all of it always may."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        lot = desk.lots()[0].position_id
        with pytest.raises(WouldLeaveDust):
            await desk.engine.close(close(position_id=lot, size=Decimal(size)))
        desk.check(await desk.close(lot))
        assert desk.exposure() == 0

    trade(story)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"position_id": "pos_none"}, PositionUnknown),
        ({}, InvalidRequest),
        ({"provider": "alpha", "market": "BTC-PERP"}, NothingToClose),
        ({"size": Decimal(3)}, InvalidRequest),
        ({"size": Decimal(1), "fraction": Decimal("0.5")}, InvalidRequest),
        ({"fraction": Decimal("1.5")}, InvalidRequest),
        ({"size": Decimal(0)}, InvalidRequest),
    ],
)
def test_a_close_that_names_nothing_or_too_much_is_refused(change: dict[str, object], refusal: type[Refusal]) -> None:
    """Nothing is reserved by a close that was refused: the whole lot can be closed afterwards."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        lot = desk.lots()[0].position_id
        named = {} if {"position_id", "provider"} & change.keys() or not change else {"position_id": lot}
        with pytest.raises(refusal):
            await desk.engine.close(close(**named, **change))
        desk.check(await desk.close(lot))
        assert desk.exposure() == 0

    trade(story)


def test_what_a_failed_close_had_reserved_is_free_again() -> None:
    """A close that filled in part leaves exactly the rest for the next."""

    async def story(desk: Desk) -> None:
        await desk.open(size="2")
        lot = desk.lots()[0].position_id
        first = await desk.close(lot)
        assert first.order.status is OrderStatus.PARTIALLY_FILLED
        assert desk.lots()[0].size == Decimal(1)
        desk.check(await desk.close(lot))
        assert desk.exposure() == 0

    trade(story, alpha=(Play(), Play(what="part"), Play()))
