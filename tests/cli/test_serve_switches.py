"""Switches, limits, keys and the independent price on the real process, with its own cluster and a made-up Hermes."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from tests.crash.processes import Process, free_port, wait_until
from tests.pyth.hermes_server import HermesServer, hermes, latest

OPEN = {"market": "SOL-PERP", "side": "long", "size_usd": "100", "slippage_bps": 200}
CLOSE = {"provider": "drift", "market": "SOL-PERP", "slippage_bps": 300}


class Hermes:
    """The made-up server on a thread of its own."""

    def __init__(self) -> None:
        self.server: HermesServer
        self._up = threading.Event()
        self._end: Callable[[], object]

    def say(self, price: Decimal) -> None:
        """Answer with this price, published now."""
        self.server.status = 200
        self.server.answer = latest(price=str(int(price * 10**8)), conf="1000", at=datetime.now(UTC))

    def _main(self) -> None:
        async def main() -> None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._end = lambda: loop.call_soon_threadsafe(ended.set)
            async with hermes() as self.server:
                self._up.set()
                await ended.wait()

        asyncio.run(main())

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve; give the address."""
        thread = threading.Thread(target=self._main)
        thread.start()
        assert self._up.wait(10)
        try:
            yield self.server.url
        finally:
            self._end()
            thread.join(10)


def key_lines(*keys: str) -> str:
    """Return lines of a key file: `name:key:scopes` with the key in place of its hash."""
    rows = (key.split(":") for key in keys)
    return "".join(f"{name}:{hashlib.sha256(key.encode()).hexdigest()}:{scopes}\n" for name, key, scopes in rows)


class Served:
    """The router, its callers and its operator."""

    def __init__(self, folder: Path, pyth_url: str) -> None:
        port = free_port()
        self.keys = folder / "keys"
        self.keys.write_text(key_lines("desk:d1:trade", "ops:o1:admin"))
        environment = {
            "ROUTER_PORT": str(port),
            "ROUTER_CHAIN": "drift",
            "ROUTER_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
            "ROUTER_LOCALNET_DIR": str(folder / "localnet"),
            "ROUTER_LOCALNET_PORT": str(free_port()),
            "ROUTER_LOCALNET_SLOT_MS": "20",
            "ROUTER_API_KEYS_FILE": str(self.keys),
            "ROUTER_MAX_ORACLE_DEVIATION_BPS": "200",
            "ROUTER_MAX_DAY_USD": "350",
            "ROUTER_PYTH_URL": pyth_url,
        }
        url = f"http://127.0.0.1:{port}"
        self.process = Process("router", f"{url}/health/ready", folder, "serve", environment=environment)
        self.client = httpx.Client(base_url=url, timeout=20)

    def post(self, path: str, body: dict[str, Any], key: str = "d1") -> httpx.Response:
        """Send a body with a key."""
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})

    def hang_up(self) -> None:
        """Tell it to read its key file now."""
        assert self.process._process is not None
        self.process._process.send_signal(signal.SIGHUP)

    def knows(self, key: str) -> bool:
        """Whether a key is let in."""
        answer = self.client.get("/v1/limits", headers={"Authorization": f"Bearer {key}"})
        return answer.status_code != httpx.codes.UNAUTHORIZED


def test_an_operators_day(tmp_path: Path) -> None:
    """Pyth's price goes astray and away, a halt survives a `kill -9`, keys rotate; what is open is always closed."""
    source = Hermes()
    with source.serving() as pyth_url:
        served = Served(tmp_path, pyth_url)
        served.process.start()
        try:
            _prices(served, source)
            _halt(served, source)
            _rotation(served)
        finally:
            served.client.close()
            assert served.process.stop() == 0


def _prices(served: Served, source: Hermes) -> None:
    source.server.status = 503
    refused = served.post("/v1/open", OPEN)
    assert (refused.status_code, refused.json()["reason"]) == (503, "price_reference_missing")
    time.sleep(0.6)
    source.say(Decimal(1))
    candidates = served.post("/v1/quote", OPEN).json()["candidates"]
    assert candidates[0]["error"]["code"] == "oracle_deviates"
    oracle = Decimal(candidates[0]["error"]["detail"].partition("says ")[2].partition(",")[0])
    refused = served.post("/v1/open", OPEN)
    assert (refused.status_code, refused.json()["attempts"][0]["error"]["code"]) == (503, "oracle_deviates")
    time.sleep(0.6)
    source.say(oracle)
    assert served.post("/v1/open", OPEN).status_code == httpx.codes.CREATED
    assert "router_halted" in served.client.get("/metrics").text


def _halt(served: Served, source: Hermes) -> None:
    switch = {"provider": None, "reason": "drill"}
    assert served.post("/v1/admin/halt", switch).json()["code"] == "scope_missing"
    assert served.post("/v1/open", OPEN, "o1").json()["code"] == "scope_missing"
    assert served.post("/v1/admin/halt", switch, "o1").status_code == httpx.codes.OK
    served.process.kill()
    served.process.start()
    assert served.client.get("/health/ready").json()["halted"] == ["router"]
    assert 'router_halted{scope="router"} 1.0' in served.client.get("/metrics").text
    assert served.post("/v1/open", OPEN).json()["code"] == "trading_halted"
    source.server.status = 503
    assert served.post("/v1/close", CLOSE).json()["status"] == "filled"
    assert served.post("/v1/admin/resume", switch, "o1").json()["items"] == []
    spent = served.client.get("/v1/limits", headers={"Authorization": "Bearer d1"}).json()["items"]
    assert spent[0]["limit"] == "day_usd"
    assert 90 < Decimal(spent[0]["used"]) <= 100, "the day remembers what was opened before the kill"


def _rotation(served: Served) -> None:
    served.keys.write_text(key_lines("desk:d1:trade", "desk:d2:trade", "ops:o1:admin"))
    served.hang_up()
    wait_until(lambda: served.knows("d2"), "the new key is not known")
    assert served.knows("d1")
    served.keys.write_text("half a li")
    wait_until(
        lambda: served.client.get("/health/ready").json()["warnings"] == ["api_keys_rejected"], "nobody was told"
    )
    assert served.knows("d1")
    assert 'router_alerts_total{kind="api_keys_rejected"} 1.0' in served.client.get("/metrics").text
    served.keys.write_text(key_lines("desk:d2:trade"))
    wait_until(lambda: not served.knows("d1"), "the old key is still known")
    assert served.knows("d2")
    assert served.client.get("/health/ready").json()["warnings"] == []
