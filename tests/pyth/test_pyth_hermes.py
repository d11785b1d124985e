"""Pyth's prices from a Hermes server: when one is believed, and that anything else is `price_reference_missing`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from providers.base.clock import VirtualClock
from providers.base.errors import ErrorClass, PriceReferenceMissing
from providers.pyth.hermes import HermesPrices, HermesRules, read_latest
from tests.pyth.hermes_server import BTC, SOL, HermesServer, hermes, latest

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
FRESH = HermesRules(cache_s=0)


def asking(
    story: Callable[[HermesServer, HermesPrices, VirtualClock], Awaitable[None]], rules: HermesRules = FRESH
) -> None:
    """Run a story on a server and a source for SOL and BTC."""

    async def main() -> None:
        clock = VirtualClock()
        async with hermes() as server:
            prices = HermesPrices(server.url, {"SOL-PERP": SOL, "BTC-PERP": f"0x{BTC.upper()}"}, clock, rules)
            try:
                await story(server, prices, clock)
            finally:
                await prices.aclose()

    asyncio.run(main())


def test_a_price_is_read_to_the_last_digit() -> None:
    """Price, confidence and time of the feed of the market that was asked for."""

    async def story(server: HermesServer, prices: HermesPrices, clock: VirtualClock) -> None:
        server.answer = latest(price="15012345678", conf="1234567", at=clock.now())
        found = await prices.price("SOL-PERP")
        assert (found.market, found.price, found.confidence) == (
            "SOL-PERP", Decimal("150.12345678"), Decimal("0.01234567"),
        )  # fmt: skip
        assert abs(found.published_at - clock.now()) < timedelta(seconds=2)
        server.answer = latest(BTC, price="65000", conf="1", expo=0, at=clock.now())
        assert (await prices.price("BTC-PERP")).price == Decimal(65000)
        assert server.asked == [[SOL], [BTC]]

    asking(story)


def test_a_market_without_a_feed_has_no_price() -> None:
    """Nobody is asked."""

    async def story(server: HermesServer, prices: HermesPrices, _: VirtualClock) -> None:
        with pytest.raises(PriceReferenceMissing, match="no price feed is set for ETH-PERP"):
            await prices.price("ETH-PERP")
        assert server.asked == []

    asking(story)


@pytest.mark.parametrize("age_s", [17, 3600, -17])
def test_a_price_of_another_time_is_not_believed(age_s: int) -> None:
    """Too old, or from the future: then one of two clocks is wrong."""

    async def story(server: HermesServer, prices: HermesPrices, clock: VirtualClock) -> None:
        server.answer = latest(at=clock.now() - timedelta(seconds=age_s))
        with pytest.raises(PriceReferenceMissing, match="s old; at most 15 s"):
            await prices.price("SOL-PERP")
        server.answer = latest(at=clock.now() - timedelta(seconds=12))
        assert (await prices.price("SOL-PERP")).price == Decimal(150)

    asking(story)


def test_an_uncertain_price_is_not_believed() -> None:
    """Half a percent of 150 is 0.75: at it, yes; a hair above, no."""

    async def story(server: HermesServer, prices: HermesPrices, clock: VirtualClock) -> None:
        server.answer = latest(conf="75000000", at=clock.now())
        assert (await prices.price("SOL-PERP")).confidence == Decimal("0.75")
        server.answer = latest(conf="75100000", at=clock.now())
        with pytest.raises(PriceReferenceMissing, match=r"uncertain by 50\.1 bps"):
            await prices.price("SOL-PERP")

    asking(story)


BODIES: dict[str, str] = {
    "html": "<html>",
    "nothing": "",
    "null": "null",
    "no_feed": json.dumps({"binary": {}, "parsed": []}),
    "other_feed": json.dumps(latest(BTC, at=AT)),
    "no_price": json.dumps({"parsed": [{"id": SOL}]}),
    "zero": json.dumps(latest(price="0", at=AT)),
    "negative": json.dumps(latest(price="-15000000000", at=AT)),
    "negative_confidence": json.dumps(latest(conf="-1", at=AT)),
    "not_a_number": json.dumps(latest(price="NaN", at=AT)),
    "fraction": json.dumps(latest(price="150.5", at=AT)),
    "exponent_too_large": json.dumps(latest(expo=13, at=AT)),
    "exponent_too_small": json.dumps(latest(expo=-400, at=AT)),
    "no_such_time": json.dumps(latest(at=AT)).replace(str(int(AT.timestamp())), "99999999999999999"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_an_answer_that_is_no_price_is_none(body: str) -> None:
    """Whatever a server says, it is a price or it is missing: class `policy`, so that no provider is asked on it."""
    with pytest.raises(PriceReferenceMissing) as caught:
        read_latest(body.encode(), "SOL-PERP", SOL)

    assert caught.value.error_class is ErrorClass.POLICY


@pytest.mark.parametrize("status", [301, 404, 429, 500, 503])
def test_a_refusing_server_gives_no_price(status: int) -> None:
    """Redirects are not followed; the status is told, the answer's text is not."""

    async def story(server: HermesServer, prices: HermesPrices, clock: VirtualClock) -> None:
        server.status = status
        server.answer = latest(at=clock.now())
        with pytest.raises(PriceReferenceMissing, match=f"http://127.0.0.1:[0-9]+ answered {status}$"):
            await prices.price("SOL-PERP")

    asking(story)


def test_a_silent_server_is_given_up() -> None:
    """After the time that an answer may take, and the next one is asked for anew."""

    async def story(server: HermesServer, prices: HermesPrices, clock: VirtualClock) -> None:
        server.silent = True
        with pytest.raises(PriceReferenceMissing, match="in time"):
            await prices.price("SOL-PERP")
        server.silent = False
        server.answer = latest(at=clock.now())
        assert (await prices.price("SOL-PERP")).price == Decimal(150)

    asking(story, HermesRules(cache_s=0, timeout_s=0.05))


def test_a_server_that_is_gone_gives_no_price() -> None:
    """A refused connection is told by its kind; a key in the address is not told at all."""

    async def main() -> None:
        async with hermes() as server:
            url = server.url.replace("http://", "http://user:secret@")
        prices = HermesPrices(url, {"SOL-PERP": SOL}, VirtualClock())
        with pytest.raises(PriceReferenceMissing) as caught:
            await prices.price("SOL-PERP")
        assert "could not be asked" in caught.value.detail
        assert "secret" not in caught.value.detail
        await prices.aclose()

    asyncio.run(main())


def test_a_flood_is_given_up() -> None:
    """An answer that does not end is not read to its end."""

    async def story(server: HermesServer, prices: HermesPrices, _: VirtualClock) -> None:
        server.answer = " " * 300_000
        with pytest.raises(PriceReferenceMissing, match="too much"):
            await prices.price("SOL-PERP")

    asking(story)


def test_many_who_ask_at_once_share_one_answer() -> None:
    """Good or bad, for as long as it is kept; one who gives up takes it from nobody."""

    async def story(server: HermesServer, prices: HermesPrices, clock: VirtualClock) -> None:
        server.answer = latest(at=clock.now())
        server.silent = True
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(prices.price("SOL-PERP")) for _ in range(20)]
        while not server.asked:
            await clock.sleep(0.001)
        waiting.pop().cancel()
        server.released.set()
        assert {found.price for found in await asyncio.gather(*waiting)} == {Decimal(150)}
        await prices.price("SOL-PERP")
        assert len(server.asked) == 1

    asking(story, HermesRules(cache_s=3600, max_age=timedelta(hours=2)))
