"""What must work while a venue's own nodes do not: closing and cancelling."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from providers.base.errors import ErrorClass, ProviderError, TimedOut

__all__ = ["OWN_NODES_S", "by_any_node"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

OWN_NODES_S: Final = 2.0
"""How long a venue's own nodes may take, in seconds; less than half of what the engine gives a quote."""


async def by_any_node(own: Callable[[], Awaitable[T]], everywhere: Callable[[], Awaitable[T]]) -> T:
    """Return what a venue's own nodes give; where they refuse, or are slow, what all nodes of the cluster give.

    A node that cannot be asked, that lags behind, or that belongs to another cluster must keep nobody in a position: a
    refusal counts only once every node could be asked. Only for what sends nothing: `own` is cancelled when it is slow.

    Raises:
        ProviderError: what `everywhere` raises; what `own` raises where that has nothing to do with nodes (`policy`).
    """
    refusal: ProviderError
    try:
        async with asyncio.timeout(OWN_NODES_S):
            return await own()
    except TimeoutError:
        refusal = TimedOut("the venue's own nodes are slow")
    except ProviderError as error:
        if error.error_class is ErrorClass.POLICY:
            raise
        refusal = error
    logger.warning("own_nodes_passed", extra={"code": refusal.code, "detail": refusal.detail})
    return await everywhere()
