"""What can be traded and what is held, as the venues said it a moment ago."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from providers.base.errors import ErrorInfo, ProviderError
from providers.base.protocol import Provider
from providers.base.types import Market, ProviderState, Side, VenuePosition
from router.engine.context import EngineContext

__all__ = ["Catalog"]

log = logging.getLogger(__name__)


class Catalog:
    """Keeps each provider's markets and positions for `catalog_ttl_s`; an error keeps what was known before."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._markets: dict[str, tuple[float, tuple[Market, ...]]] = {}
        self._positions: dict[str, tuple[float, tuple[VenuePosition, ...]]] = {}
        self._errors: dict[str, ErrorInfo] = {}

    async def refresh(self, providers: Sequence[str]) -> None:
        """Read the markets of these providers where they are older than the limit."""
        await asyncio.gather(*(self._read_markets(self._context.providers[name]) for name in providers))

    def markets(self, provider: str) -> tuple[Market, ...]:
        """Return what is known of a provider's markets."""
        return self._markets.get(provider, (0.0, ()))[1]

    def market(self, provider: str, symbol: str) -> Market | None:
        """Return one market of a provider, as far as known."""
        return next((market for market in self.markets(provider) if market.symbol == symbol), None)

    def read(self, provider: str) -> bool:
        """Whether a provider's markets were ever read."""
        return provider in self._markets

    def error(self, provider: str) -> ErrorInfo | None:
        """Return why the last reading failed; null when it did not."""
        return self._errors.get(provider)

    async def state(self, provider: str) -> ProviderState:
        """Return a venue's lifecycle and capacity now."""
        return await self._context.providers[provider].state()

    async def held(self, provider: str, symbol: str, side: Side | None = None) -> VenuePosition | None:
        """Return what the venue holds in a market, at most a moment old; null when nothing, or nothing readable.

        Without a side the first holding is taken, which is all there is on a venue that nets.
        """
        now = self._context.clock.monotonic()
        read_at, positions = self._positions.get(provider, (None, ()))
        if read_at is None or now - read_at > self._context.settings.catalog_ttl_s:
            adapter = self._context.providers.get(provider)
            if adapter is None:
                return None
            try:
                positions = await adapter.positions()
            except ProviderError as e:
                self._errors[provider] = e.info()
                return None
            self._positions[provider] = (now, positions)
        return next((held for held in positions if held.market == symbol and side in {None, held.side}), None)

    async def _read_markets(self, provider: Provider) -> None:
        now = self._context.clock.monotonic()
        known = self._markets.get(provider.name)
        if known is not None and now - known[0] <= self._context.settings.catalog_ttl_s:
            return
        try:
            async with asyncio.timeout(self._context.settings.quote_timeout_s):
                markets = await provider.markets()
        except ProviderError as e:
            self._errors[provider.name] = e.info()
            return
        except TimeoutError:
            return
        except Exception:
            # What is kept here is a help to callers; a fault in reading it must refuse nothing, a close least of all.
            log.exception("markets_failed", extra={"provider": provider.name})
            return
        self._errors.pop(provider.name, None)
        self._markets[provider.name] = (now, markets)
