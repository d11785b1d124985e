"""Pyth's pull feeds over HTTP: `GET /v2/updates/price/latest` of a Hermes server.

The signed update itself is not verified: the price is only a second opinion about a venue's oracle, and no money moves
at it. Whoever could forge it (the server, or the way to it) can stop opens or take the check away, and nothing more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import aiohttp
import msgspec

from providers.base.clock import Clock
from providers.base.errors import PriceReferenceMissing
from providers.base.prices import ReferencePrice

__all__ = ["HermesPrices", "HermesRules", "read_latest"]

log = logging.getLogger(__name__)

_PATH = "/v2/updates/price/latest"
_LARGEST_ANSWER = 256 * 1024
_CHUNK = 1 << 14
# Hermes' own are from -12 to 0; beyond these bounds it is no price of dollars.
_EXPONENTS = range(-18, 13)
_BPS = Decimal(10_000)


class HermesRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a price is believed.

    Attributes:
        max_age: older by our clock, or further in its future, is not.
        max_confidence_bps: a wider confidence interval (its half, of the price) is not.
        cache_s: how long an answer, or its absence, serves for the next question too.
        timeout_s: for one answer.
    """

    max_age: timedelta = timedelta(seconds=15)
    max_confidence_bps: Decimal = Decimal(50)
    cache_s: float = 0.5
    timeout_s: float = 2.0


class _Price(msgspec.Struct, frozen=True):
    price: str
    conf: str
    expo: int
    publish_time: int


class _Feed(msgspec.Struct, frozen=True):
    id: str
    price: _Price


class _Latest(msgspec.Struct, frozen=True):
    parsed: tuple[_Feed, ...]


class HermesPrices:
    """A `PriceSource` on one Hermes server.

    Args:
        url: of the server; only scheme, host and port are ever told.
        feeds: feed id (64 hexadecimal digits) by market, `{"SOL-PERP": "ef0d..."}`.
    """

    def __init__(self, url: str, feeds: Mapping[str, str], clock: Clock, rules: HermesRules | None = None) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._address = url.rstrip("/") + _PATH
        self._feeds = {market: feed.lower().removeprefix("0x") for market, feed in feeds.items()}
        self._clock = clock
        self._rules = rules or HermesRules()
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[str, tuple[float, ReferencePrice | PriceReferenceMissing]] = {}
        self._asking: dict[str, asyncio.Task[ReferencePrice | PriceReferenceMissing]] = {}

    async def price(self, market: str) -> ReferencePrice:
        """Return a fresh and narrow price; raise `PriceReferenceMissing`."""
        feed = self._feeds.get(market)
        if feed is None:
            raise PriceReferenceMissing(f"no price feed is set for {market}")
        found = await self._latest(market, feed)
        if isinstance(found, PriceReferenceMissing):
            # A new one each: an exception keeps the traceback of whoever raised it.
            raise PriceReferenceMissing(found.detail)
        self._believe(found)
        return found

    async def aclose(self) -> None:
        """Close connections."""
        for task in tuple(self._asking.values()):
            task.cancel()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _believe(self, found: ReferencePrice) -> None:
        age = self._clock.now() - found.published_at
        if abs(age) > self._rules.max_age:
            raise PriceReferenceMissing(
                f"the price of {found.market} is {age.total_seconds():.0f} s old; at most"
                f" {self._rules.max_age.total_seconds():.0f} s are allowed"
            )
        width_bps = found.confidence * _BPS / found.price
        if width_bps > self._rules.max_confidence_bps:
            raise PriceReferenceMissing(
                f"the price of {found.market} is uncertain by {width_bps:.1f} bps; at most"
                f" {self._rules.max_confidence_bps:f} are allowed"
            )

    async def _latest(self, market: str, feed: str) -> ReferencePrice | PriceReferenceMissing:
        known = self._known.get(market)
        if known is not None and self._clock.monotonic() - known[0] < self._rules.cache_s:
            return known[1]
        asking = self._asking.get(market)
        if asking is None:
            # Everybody who asks meanwhile waits for the same answer; one who gives up takes it from nobody.
            asking = asyncio.create_task(self._ask(market, feed))
            self._asking[market] = asking
            asking.add_done_callback(lambda _: self._asking.pop(market, None))
        return await asyncio.shield(asking)

    async def _ask(self, market: str, feed: str) -> ReferencePrice | PriceReferenceMissing:
        found: ReferencePrice | PriceReferenceMissing
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                found = read_latest(await self._get(feed), market, feed)
        except TimeoutError:
            found = PriceReferenceMissing(f"{self._origin} gave no price in time")
        except (aiohttp.ClientError, OSError) as error:
            found = PriceReferenceMissing(f"{self._origin} could not be asked: {type(error).__name__}")
        except PriceReferenceMissing as error:
            found = error
        if isinstance(found, PriceReferenceMissing):
            log.warning("price_reference_missing", extra={"market": market, "detail": found.detail})
        self._known[market] = (self._clock.monotonic(), found)
        return found

    async def _get(self, feed: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        query = {"ids[]": feed, "parsed": "true", "encoding": "hex"}
        async with self._session.get(self._address, params=query, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - the only status with a price
                raise PriceReferenceMissing(f"{self._origin} answered {response.status}")
            body = bytearray()
            async for part in response.content.iter_chunked(_CHUNK):
                body += part
                if len(body) > _LARGEST_ANSWER:
                    raise PriceReferenceMissing(f"{self._origin} answered too much")
            return bytes(body)


def read_latest(body: bytes, market: str, feed: str) -> ReferencePrice:
    """Return the price of one feed from Hermes' answer, exact; raise `PriceReferenceMissing` for anything else.

    A price is `price * 10 ** expo`, its confidence `conf * 10 ** expo` (https://docs.pyth.network, "best practices").
    """
    try:
        latest = msgspec.json.decode(body, type=_Latest)
        found = next(each.price for each in latest.parsed if each.id.lower().removeprefix("0x") == feed)
        price, confidence = int(found.price), int(found.conf)
        published_at = datetime.fromtimestamp(found.publish_time, UTC)
    except StopIteration:
        raise PriceReferenceMissing(f"the answer has no price of {market}") from None
    except (msgspec.DecodeError, ValueError, OverflowError, OSError) as error:
        raise PriceReferenceMissing(f"the price of {market} cannot be read: {type(error).__name__}") from error
    if price <= 0 or confidence < 0 or found.expo not in _EXPONENTS:
        raise PriceReferenceMissing(f"the price of {market} is none: {price}e{found.expo} +- {confidence}")
    return ReferencePrice(
        market=market,
        price=Decimal(price).scaleb(found.expo),
        confidence=Decimal(confidence).scaleb(found.expo),
        published_at=published_at,
    )
