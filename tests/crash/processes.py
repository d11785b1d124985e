"""The real thing in processes of its own: a cluster and a router that can be killed."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx

from router.localnet.drift.layouts import User
from router.localnet.world import WorldKeys, world_of

ROOT = Path(__file__).resolve().parents[2]
SLOT_MS = 20
START_S = 60.0


def free_port() -> int:
    """Return a port of which the next one is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Process:
    """One of our commands, running."""

    def __init__(self, name: str, ready_url: str, folder: Path, *command: str, **environment: str) -> None:
        self.name = name
        self.ready_url = ready_url
        self.log = folder / f"{name}.log"
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "router.cli", *self._command],
                cwd=ROOT,
                env=env | self._environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, f"{self.name} is not ready: {self.log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
        try:
            return httpx.get(self.ready_url, timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


class Stage:
    """A cluster and a router on it; by default with one venue, so that its size tells what became of an order."""

    def __init__(self, folder: Path, *, chain: str = "drift") -> None:
        rpc_port, port = free_port(), free_port()
        self.rpc_url, self.url = f"http://127.0.0.1:{rpc_port}", f"http://127.0.0.1:{port}"
        key = folder / "trader.json"
        key.write_text(str(list(bytes(world_of(WorldKeys()).trader))))
        key.chmod(0o600)
        slots = {"ROUTER_LOCALNET_SLOT_MS": str(SLOT_MS)}
        self.cluster = Process(
            "localnet",
            f"{self.rpc_url}/health",
            folder,
            "localnet",
            ROUTER_LOCALNET_DIR=str(folder / "localnet"),
            ROUTER_LOCALNET_PORT=str(rpc_port),
            **slots,
        )
        self.router = Process(
            "router",
            f"{self.url}/health/ready",
            folder,
            "serve",
            ROUTER_RPC_URLS=self.rpc_url,
            ROUTER_KEYPAIR=str(key),
            ROUTER_PORT=str(port),
            ROUTER_CHAIN=chain,
            ROUTER_LEDGER_URL=f"sqlite:///{folder}/ledger.db",
            **slots,
        )

    def rpc(self, method: str, *params: object) -> object:
        """Call the cluster."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.rpc_url, json=body, timeout=20).json()
        assert "error" not in answer, answer
        return answer["result"]

    def post(self, path: str, body: dict[str, object], *, key: str | None = None, wait: int = 20) -> httpx.Response:
        """Post to the router."""
        headers = {"Prefer": f"wait={wait}"} | ({"Idempotency-Key": key} if key else {})
        return httpx.post(self.url + path, json=body, headers=headers, timeout=wait + 20)

    def get(self, path: str) -> dict[str, object]:
        """Read from the router."""
        answer = httpx.get(self.url + path, timeout=20)
        answer.raise_for_status()
        result: dict[str, object] = answer.json()
        return result

    def venue_size(self) -> Decimal:
        """Return what the venue's own account holds in SOL-PERP, read past the router."""
        user = world_of(WorldKeys()).trader_account.user
        answer = self.rpc("getAccountInfo", str(user), {"encoding": "base64", "commitment": "processed"})
        assert isinstance(answer, dict)
        account = User.decode(base64.b64decode(answer["value"]["data"][0]), 8)
        base = sum(position.base_asset_amount for position in account.perp_positions if position.market_index == 0)
        return Decimal(base) / 10**9

    def end_of(self, order_id: str) -> dict[str, object]:
        """Return an order once it has ended."""
        found: dict[str, object] = {}

        def ended() -> bool:
            found.update(self.get(f"/v1/orders/{order_id}"))
            return found["status"] not in {"pending", "unknown"}

        wait_until(ended, f"order {order_id} does not end: {found}")
        return found


@contextmanager
def stage(folder: Path, *, chain: str = "drift") -> Iterator[Stage]:
    """Run a cluster and a router; kill both at the end."""
    built = Stage(folder, chain=chain)
    try:
        built.cluster.start()
        built.router.start()
        yield built
    finally:
        built.router.kill()
        built.cluster.kill()


def wait_until(condition: object, failure: str, within_s: float = START_S) -> None:
    """Ask until it is so; real processes have no virtual time."""
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, failure
        time.sleep(0.05)
