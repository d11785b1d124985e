"""Run as a program: the real server and signal handling of `serve`, around a scripted engine.

Arguments: what the service does (`well`, `fails_to_start`, `recovers_slowly`, `never_drains`), and the port.
"""

from __future__ import annotations

import asyncio
import sys

from providers.base.clock import SystemClock
from router.cli.serve import run_until_signalled
from router.ledger.records import OrderStatus
from router.ops.log import configure_logging
from router.ops.metrics import Metrics
from router.settings import Settings
from tests.api.scripted_engine import ScriptedEngine


class ScriptedService:
    """What the server needs of a service."""

    def __init__(self, manner: str) -> None:
        self.engine = ScriptedEngine()
        self.engine.script = OrderStatus.PENDING
        self._manner = manner

    async def start(self) -> None:
        if self._manner == "fails_to_start":
            raise RuntimeError("the ledger is of another cluster")
        if self._manner == "recovers_slowly":
            await asyncio.sleep(30)

    async def drain(self) -> None:
        self.engine.held = "draining"
        if self._manner == "never_drains":
            await asyncio.sleep(30)
        await asyncio.sleep(0.5)
        for order_id in list(self.engine.views):
            await self.engine.finish(order_id, OrderStatus.FILLED)

    async def aclose(self) -> None:
        sys.stderr.write("closed\n")


async def run(manner: str, port: str) -> int:
    """Serve until a signal."""
    settings = Settings.load({"ROUTER_PORT": port, "ROUTER_DRAIN_SECONDS": "2"})
    metrics = Metrics(version="test", network="localnet")
    return await run_until_signalled(ScriptedService(manner), settings, metrics=metrics, keys=None, clock=SystemClock())


if __name__ == "__main__":
    configure_logging("info")
    sys.exit(asyncio.run(run(sys.argv[1], sys.argv[2])))
