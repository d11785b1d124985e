"""The real thing in processes of its own: a cluster and a router that can be killed."""

from __future__ import annotations

import base64
import ctypes
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from router.localnet.drift.layouts import User
from router.localnet.world import WorldKeys, world_of

ROOT = Path(__file__).resolve().parents[2]
SLOT_MS = 20
START_S = 60.0
FOREVER_MS = 3_600_000
OPEN: dict[str, object] = {"market": "SOL-PERP", "side": "long", "size_usd": "100", "slippage_bps": 200, "ttl_s": 20}
CLOSE: dict[str, object] = {"provider": "drift", "market": "SOL-PERP", "slippage_bps": 300}

# Linux: prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE).
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1


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
    """One of our commands, running.

    Args:
        module: whose `__main__` takes the command.
        bound_by_modes: file modes hold for it although it may run as root.
    """

    def __init__(
        self,
        name: str,
        ready_url: str,
        folder: Path,
        *command: str,
        environment: Mapping[str, str],
        module: str = "router.cli",
        bound_by_modes: bool = False,
    ) -> None:
        self.name = name
        self.ready_url = ready_url
        self.log = folder / f"{name}.log"
        self.environment = dict(environment)
        self.module = module
        self._command = command
        self._bound_by_modes = bound_by_modes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        wait_until(self._ready, f"{self.name} is not ready")

    def launch(self) -> None:
        """Start it."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", self.module, *self._command],
                cwd=ROOT,
                env=env | self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=_heed_modes if self._bound_by_modes else None,  # noqa: PLW1509 - before any thread is there
            )

    def _ready(self) -> bool:
        assert self.running, f"{self.name} ended: {self.log.read_text()[-2000:]}"
        try:
            return httpx.get(self.ready_url, timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def terminate(self) -> None:
        """Ask it to end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Return its exit code once it has ended."""
        assert self._process is not None
        return self._process.wait(30)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.terminate()
        return self.ended()

    def limit_files(self, size: int | None) -> None:
        """Let no file of it grow beyond `size` bytes, as on a disk that is full; null: any size."""
        assert self._process is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        limit = resource.RLIM_INFINITY if size is None else size
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, hard))


def _heed_modes() -> None:
    """Give up root's way past file modes; nothing to give up for anybody else."""
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


class Stage:
    """A cluster and a router on it.

    Args:
        folder: of everything that they write.
        chain: one venue, so that its size tells what became of an order, unless a test is about two.
    """

    def __init__(self, folder: Path, *, chain: str = "drift") -> None:
        rpc_port, port = free_port(), free_port()
        self.folder = folder
        self.rpc_url, self.url = f"http://127.0.0.1:{rpc_port}", f"http://127.0.0.1:{port}"
        self._key_file = folder / "trader.json"
        self._key_file.write_text(str(list(bytes(world_of(WorldKeys()).trader))))
        self._key_file.chmod(0o600)
        self._slots = {"ROUTER_LOCALNET_SLOT_MS": str(SLOT_MS)}
        self.cluster = Process(
            "localnet",
            f"{self.rpc_url}/health",
            folder,
            "localnet",
            environment={
                "ROUTER_LOCALNET_DIR": str(folder / "localnet"),
                "ROUTER_LOCALNET_PORT": str(rpc_port),
                **self._slots,
            },
        )
        self.ledger = folder / "ledger.db"
        self._chain = chain
        self.router = self.new_router("router", port)

    def new_router(self, name: str, port: int, *, bound_by_modes: bool = False, **more: str) -> Process:
        """Return a router on this cluster and ledger that has not been started."""
        environment = {
            "ROUTER_RPC_URLS": self.rpc_url,
            "ROUTER_KEYPAIR": str(self._key_file),
            "ROUTER_PORT": str(port),
            "ROUTER_CHAIN": self._chain,
            "ROUTER_LEDGER_URL": f"sqlite:///{self.ledger}",
            **self._slots,
            **more,
        }
        return Process(
            name,
            f"http://127.0.0.1:{port}/health/ready",
            self.folder,
            "serve",
            environment=environment,
            bound_by_modes=bound_by_modes,
        )

    def restart(self) -> None:
        """Kill the router, take every fault away, start it again."""
        self.router.kill()
        self.clear_faults()
        self.router.start()

    def begin_ledger(self, name: str) -> None:
        """Go on with a ledger of its own; nothing may be open in the one before."""
        self.router.kill()
        self.ledger = self.folder / name
        self.router.environment["ROUTER_LEDGER_URL"] = f"sqlite:///{self.ledger}"
        self.router.start()

    # --- the cluster --------------------------------------------------------------------------------------------------

    def rpc(self, method: str, *params: object) -> object:
        """Call the cluster."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.rpc_url, json=body, timeout=20).json()
        assert "error" not in answer, answer
        return answer["result"]

    def fault(self, kind: str, method: str, **more: object) -> None:
        """Set a fault on the wire, without end unless told."""
        self.rpc("localnet_setFault", {"kind": kind, "method": method, "count": None, **more})

    def clear_faults(self) -> None:
        """Take every fault away."""
        self.rpc("localnet_clearFaults")

    def struck(self) -> int:
        """Return how many requests a fault has struck."""
        status = self.rpc("localnet_faults")
        assert isinstance(status, dict)
        count = status["struck"]
        assert isinstance(count, int)
        return count

    @contextmanager
    def striking(self, kind: str, method: str, **more: object) -> Iterator[None]:
        """Set a fault, do what is inside, and go on when it has struck."""
        before = self.struck()
        self.fault(kind, method, **more)
        yield
        wait_until(lambda: self.struck() > before, "the fault did not strike")

    def venue_size(self) -> Decimal:
        """Return what the venue's own account holds in SOL-PERP, read past the router."""
        user = world_of(WorldKeys()).trader_account.user
        answer = self.rpc("getAccountInfo", str(user), {"encoding": "base64", "commitment": "processed"})
        assert isinstance(answer, dict)
        account = User.decode(base64.b64decode(answer["value"]["data"][0]), 8)
        base = sum(position.base_asset_amount for position in account.perp_positions if position.market_index == 0)
        return Decimal(base) / 10**9

    # --- the router ---------------------------------------------------------------------------------------------------

    def post(self, path: str, body: dict[str, object], *, key: str | None = None, wait: int = 20) -> httpx.Response:
        """Post to the router."""
        headers = {"Prefer": f"wait={wait}"} | ({"Idempotency-Key": key} if key else {})
        return httpx.post(self.url + path, json=body, headers=headers, timeout=wait + 20)

    def post_in_background(self, path: str, body: dict[str, object], key: str) -> threading.Thread:
        """Post without waiting for the answer, which may never come."""

        def post() -> None:
            # The process dies under it: that is the test.
            with suppress(httpx.TransportError):
                self.post(path, body, key=key, wait=0)

        thread = threading.Thread(target=post, daemon=True)
        thread.start()
        return thread

    def get(self, path: str) -> dict[str, Any]:
        """Read from the router."""
        answer = httpx.get(self.url + path, timeout=20)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    def held(self) -> Decimal:
        """Return the sum of open lots."""
        return sum((Decimal(item["size"]) for item in self.get("/v1/positions?status=open")["items"]), Decimal(0))

    def end_of(self, order_id: str) -> dict[str, Any]:
        """Return an order once it has ended."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.get(f"/v1/orders/{order_id}"))
            return found["status"] not in {"pending", "unknown"}

        wait_until(ended, f"order {order_id} does not end: {found}")
        return found

    def close_all(self) -> None:
        """Close everything that is open; nothing is left on the venue."""
        if self.held():
            answer = self.post("/v1/close", CLOSE)
            assert answer.status_code == httpx.codes.OK, answer.text
        assert self.venue_size() == self.held() == 0

    # --- the ledger, read past the router -----------------------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the ledger's file."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(query, values).fetchall()

    def row_within(self, query: str, *values: object) -> None:
        """Wait until the ledger's file has such a row."""
        wait_until(lambda: bool(self.rows(query, *values)), f"no row: {query} {values}", pause_s=0.002)

    def order_of(self, key: str) -> str | None:
        """Return the order that a key made; there is never a second one."""
        found = self.rows("SELECT order_id FROM orders WHERE idempotency_key = ?", key)
        assert len(found) <= 1, found
        return str(found[0][0]) if found else None

    @contextmanager
    def ledger_locked(self) -> Iterator[None]:
        """Hold the ledger's write lock, as a foreign process may."""
        with closing(sqlite3.connect(self.ledger, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


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


def wait_until(
    condition: Callable[[], bool], failure: str, within_s: float = START_S, *, pause_s: float = 0.02
) -> None:
    """Ask until it is so; real processes have no virtual time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, failure
        time.sleep(pause_s)
