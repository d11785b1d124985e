"""What is read for callers beside the ledger: a position at its market's price, a provider as its venue says it is."""

from __future__ import annotations

import asyncio

from providers.base.errors import ErrorInfo, ProviderError, TimedOut
from providers.base.types import Side
from router.engine.catalog import Catalog
from router.engine.context import EngineContext
from router.engine.protection_terms import Protection
from router.engine.requests import PositionAnswer, ProviderListing
from router.ledger.records import PositionRecord, PositionStatus

__all__ = ["marked", "provider_listing"]


async def marked(
    context: EngineContext, catalog: Catalog, position: PositionRecord, protection: Protection
) -> PositionAnswer:
    """Return a lot with what its market says of it now."""
    adapter = context.providers.get(position.provider)
    held = None
    if position.status is PositionStatus.OPEN:
        side = None if adapter is None or adapter.capabilities.netting else position.side
        held = await catalog.held(position.provider, position.market, side)
    mark = None if held is None else held.oracle_price
    unrealized = None
    if mark is not None:
        sign = 1 if position.side is Side.LONG else -1
        unrealized = (mark - position.entry_price) * position.size * sign
    return PositionAnswer(
        position=position,
        mark_price=mark,
        unrealized_pnl_usd=unrealized,
        liquidation_price=None if held is None else held.liquidation_price,
        protection=protection,
    )


async def provider_listing(context: EngineContext, place: int, name: str) -> ProviderListing:
    """Return a provider of the chain with its state, or with the error that kept it from being read."""
    error: ErrorInfo
    now = context.clock.now()
    try:
        async with asyncio.timeout(context.settings.quote_timeout_s):
            state = await context.providers[name].state()
    except TimeoutError:
        error = TimedOut("no answer in time").info()
    except ProviderError as e:
        error = e.info()
    else:
        return ProviderListing(
            provider=name,
            position_in_chain=place,
            lifecycle=state.lifecycle,
            reason=state.reason,
            capacity=state.capacity,
            slot=state.slot,
            as_of=state.as_of,
            error=None,
        )
    return ProviderListing(
        provider=name,
        position_in_chain=place,
        lifecycle=None,
        reason=error.detail,
        capacity=(),
        slot=None,
        as_of=now,
        error=error,
    )
