"""`kill -9` on the real process at each step of an order: no second position, none lost, and it can be closed."""

from __future__ import annotations

import contextlib
import threading
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.crash.processes import Stage, stage, wait_until

OPEN: dict[str, object] = {"market": "SOL-PERP", "side": "long", "size_usd": "100", "slippage_bps": 200, "ttl_s": 20}
FOREVER_MS = 3_600_000

# Where the order stands when the process dies, and the fault on the wire that holds it there.
STEPS: dict[str, dict[str, object]] = {
    "1 stored, no terms yet": {"kind": "slow", "method": "getMultipleAccounts", "delay_ms": FOREVER_MS},
    "1 terms fixed, being simulated": {"kind": "slow", "method": "simulateTransaction", "delay_ms": FOREVER_MS},
    "2 journaled, bytes lost on the way": {"kind": "dropped_before", "method": "sendTransaction"},
    "2 journaled, nothing written": {"kind": "refused", "method": "sendTransaction"},
    "3 executed, no ack stored": {"kind": "slow", "method": "sendTransaction", "delay_ms": FOREVER_MS},
    "3 ack stored, outcome not read": {"kind": "slow", "method": "getTransaction", "delay_ms": FOREVER_MS},
}


def ask_in_background(run: Stage, path: str, body: dict[str, object], key: str) -> threading.Thread:
    """Post without waiting for the answer, which may never come."""

    def post() -> None:
        # The process dies under it: that is the test.
        with contextlib.suppress(httpx.TransportError):
            run.post(path, body, key=key, wait=0)

    thread = threading.Thread(target=post, daemon=True)
    thread.start()
    return thread


def struck(run: Stage) -> int:
    """Return how many requests a fault has struck."""
    status = run.rpc("localnet_faults")
    assert isinstance(status, dict)
    count = status["struck"]
    assert isinstance(count, int)
    return count


def held(run: Stage) -> Decimal:
    """Return the sum of open lots."""
    items = run.get("/v1/positions?status=open")["items"]
    assert isinstance(items, list)
    return sum((Decimal(item["size"]) for item in items), Decimal(0))


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_of_an_open(step: str, tmp_path: Path) -> None:
    """Restarted, the router finds out what became of the order; the same key asks for the same order."""
    with stage(tmp_path) as run:
        before = struck(run)
        run.rpc("localnet_setFault", {**STEPS[step], "count": None})
        ask_in_background(run, "/v1/open", OPEN, "the-key")
        wait_until(lambda: struck(run) > before, "the fault did not strike")
        run.router.kill()
        run.rpc("localnet_clearFaults")
        run.router.start()

        again = run.post("/v1/open", OPEN, key="the-key")
        orders = run.get("/v1/orders")["items"]
        assert isinstance(orders, list)
        assert len(orders) == 1
        order = run.end_of(orders[0]["order_id"])
        if order["status"] == "filled":
            assert again.json()["order_id"] == order["order_id"]
            assert Decimal(str(order["size"])) == held(run)
            assert len([a for a in order["attempts"] if a["outcome"] == "filled"]) == 1  # type: ignore[attr-defined]
        else:
            assert order["status"] == "failed"
            assert held(run) == 0
        assert run.venue_size() == held(run)
        close_all(run)
        assert run.venue_size() == 0


@pytest.mark.parametrize("step", ["2 journaled, bytes lost on the way", "3 executed, no ack stored"])
def test_killed_at_a_step_of_a_close(step: str, tmp_path: Path) -> None:
    """A close that was interrupted closes once, or can be asked for again; it never closes more than there is."""
    with stage(tmp_path) as run:
        assert run.post("/v1/open", OPEN).status_code == 201
        before = struck(run)
        run.rpc("localnet_setFault", {**STEPS[step], "count": None})
        ask_in_background(run, "/v1/close", {"provider": "drift", "market": "SOL-PERP"}, "the-key")
        wait_until(lambda: struck(run) > before, "the fault did not strike")
        run.router.kill()
        run.rpc("localnet_clearFaults")
        run.router.start()

        orders = run.get("/v1/orders")["items"]
        assert isinstance(orders, list)
        run.end_of(orders[0]["order_id"])
        assert run.venue_size() == held(run)
        close_all(run)
        assert run.venue_size() == 0


def test_killed_after_the_answer(tmp_path: Path) -> None:
    """What was answered as filled is on record after a kill of router and cluster, and can be closed."""
    with stage(tmp_path) as run:
        answer = run.post("/v1/open", OPEN, key="the-key")
        assert answer.status_code == 201
        run.router.kill()
        run.cluster.kill()
        run.cluster.start()
        run.router.start()

        again = run.post("/v1/open", OPEN, key="the-key")
        assert again.status_code == 201
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json()["order_id"] == answer.json()["order_id"]
        assert run.venue_size() == held(run) == Decimal(answer.json()["fill"]["size"])
        close_all(run)
        assert run.venue_size() == 0


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    """SIGTERM drains and exits with 0; the next start finds everything as it was."""
    with stage(tmp_path) as run:
        assert run.post("/v1/open", OPEN).status_code == 201
        assert run.router.stop() == 0
        run.router.start()
        assert run.venue_size() == held(run) > 0


def close_all(run: Stage) -> None:
    """Close everything that is open."""
    if held(run):
        answer = run.post("/v1/close", {"provider": "drift", "market": "SOL-PERP", "slippage_bps": 300})
        assert answer.status_code == 200, answer.text
