"""Starting, running, draining: what the API may do while the engine is not, or no longer, there for everybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from router.engine.facade import EngineFacade
from router.engine.requests import Refusal
from router.ledger.records import OrderView

__all__ = ["Lifecycle"]

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Lifecycle:
    """The state of the service as its callers feel it.

    Until `started`, orders are refused: recovery must have asked about every open attempt first. From `drain` on the
    service is unready, and from `stop_waiting` on a request that waits for an order is answered with what is known.
    """

    def __init__(self, *, started: bool = True) -> None:
        self.started = started
        self.draining = False
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def failing(self, engine: EngineFacade) -> Mapping[str, str]:
        """Return each part that is not ready, with the reason."""
        own: dict[str, str] = {}
        if not self.started:
            own["start"] = "recovery is asking about open attempts"
        if self.draining:
            own["drain"] = "the service is stopping"
        return {**engine.readiness(), **own}

    def drain(self) -> None:
        """Become unready."""
        self.draining = True

    def stop_waiting(self) -> None:
        """Answer every request that waits for an order with what is known."""
        self._stopped.set()

    async def protected(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end even if the task that waits for it is cancelled: half an order must not be recorded."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_abandoned)
            raise

    async def wait(self, engine: EngineFacade, view: OrderView, seconds: float) -> OrderView:
        """Return the order when it is final, when `seconds` have passed, or when the service stops waiting."""
        if view.order.status.final or seconds <= 0 or self._stopped.is_set():
            return view
        waiting = asyncio.create_task(engine.wait(view.order.order_id, seconds))
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else engine.order(view.order.order_id)
        finally:
            stopped.cancel()
            waiting.cancel()

    async def wait_protected(self, engine: EngineFacade, view: OrderView, seconds: float) -> None:
        """Wait until the protection that an open asked for is there or has failed, or the service stops waiting."""
        if seconds <= 0 or self._stopped.is_set():
            return
        waiting = asyncio.create_task(engine.wait_protected(view.order.order_id, seconds))
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            waiting.cancel()


def _log_abandoned(task: asyncio.Task[Any]) -> None:
    """Tell of an error that nobody is there to receive; refusals are answers, not errors."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, Refusal):
        logger.error("abandoned_request_failed", exc_info=error)
