"""A made-up Hermes server: answers of the recorded shape, on a loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiohttp import web

SOL = "ef0d8b6fda2ceba41da15d4095d1da392a0d2f8ed0c6c7bc0f4cfac8c280b56d"
BTC = "e62df6c8b4a85fe1a67db44dc12de5db330f7ac66b72dc658afedf0f4a415b43"


def latest(
    feed: str = SOL, *, price: str = "15000000000", conf: str = "3000000", expo: int = -8, at: datetime
) -> dict[str, Any]:
    """Return an answer for one feed, with every member that Hermes gives."""
    quoted: dict[str, Any] = {"price": price, "conf": conf, "expo": expo, "publish_time": int(at.timestamp())}
    return {
        "binary": {"encoding": "hex", "data": ["504e41550100000003b8010000"]},
        "parsed": [
            {
                "id": feed,
                "price": quoted,
                "ema_price": quoted,
                "metadata": {"slot": 1, "proof_available_time": quoted["publish_time"] + 1, "prev_publish_time": 0},
            }
        ],
    }


class HermesServer:
    """What the next answers are, and what was asked.

    Attributes:
        answer: the document (or any text) of the next answers.
        silent: never answers.
    """

    def __init__(self) -> None:
        self.answer: dict[str, Any] | str = ""
        self.status = 200
        self.silent = False
        self.asked: list[list[str]] = []
        self.url = ""
        self.released = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer as told."""
        assert request.path == "/v2/updates/price/latest"
        assert request.query["parsed"] == "true"
        self.asked.append(request.query.getall("ids[]"))
        if self.silent:
            await self.released.wait()
        text = self.answer if isinstance(self.answer, str) else json.dumps(self.answer)
        return web.Response(text=text, status=self.status, content_type="application/json")


@asynccontextmanager
async def hermes() -> AsyncGenerator[HermesServer]:
    """Serve until the end of the block."""
    server = HermesServer()
    app = web.Application()
    app.router.add_get("/v2/updates/price/latest", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        server.released.set()
        await runner.cleanup()
