"""A running service: the real application on a real server and a loopback port, with a scripted engine behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import uvicorn

from providers.base.clock import SystemClock
from router.api.app import create_app
from router.api.auth import Keys
from router.api.lifecycle import Lifecycle
from router.api.rates import Rates
from router.ops.metrics import Metrics
from tests.api.scripted_engine import ScriptedEngine

T = TypeVar("T")


class Running:
    """A service under test and its client."""

    def __init__(self, keys: Keys | None = None, rates: Rates | None = None) -> None:
        self.engine: ScriptedEngine
        self.lifecycle: Lifecycle
        self.metrics = Metrics(version="test", network="localnet")
        self._keys = keys
        self._rates = rates
        self._loop: asyncio.AbstractEventLoop
        self._up = threading.Event()
        self._server: uvicorn.Server
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.engine = ScriptedEngine()
        self.lifecycle = Lifecycle()
        app = create_app(
            engine=self.engine,
            metrics=self.metrics,
            clock=SystemClock(),
            lifecycle=self.lifecycle,
            keys=self._keys,
            rates=self._rates,
        )
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has a flag, and no event
            await asyncio.sleep(0.005)
        self._up.set()
        await serving

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the service's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @contextmanager
    def running(self) -> Iterator[httpx.Client]:
        """Serve until the end of the block."""
        self._thread.start()
        assert self._up.wait(10)
        try:
            with httpx.Client(base_url=self.url, timeout=10) as client:
                self.client = client
                yield client
        finally:
            self._server.should_exit = True
            self._thread.join(10)
