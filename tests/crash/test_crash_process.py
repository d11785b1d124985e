"""What a process meets besides being killed: a signal under load, and a wall clock that jumps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.crash.processes import CLOSE, FOREVER_MS, OPEN, Stage, wait_until

SMALL = OPEN | {"size_usd": "20"}
HOUR_S = 3_600


def draining(run: Stage) -> bool:
    """Whether the router says that it is stopping."""
    return "drain" in httpx.get(run.router.ready_url, timeout=5).text


def test_sigterm_ends_it_cleanly(run: Stage) -> None:
    """SIGTERM drains and exits with 0; the next start finds everything as it was."""
    assert run.post("/v1/open", OPEN).status_code == httpx.codes.CREATED
    assert run.router.stop() == 0
    run.router.start()
    assert run.venue_size() == run.held() > 0
    run.close_all()


def test_sigterm_under_load_loses_nothing(run: Stage) -> None:
    """It refuses opens from then on, ends with 0, and every order that it had taken ends and is answered."""
    keys = [uuid4().hex for _ in range(8)]
    answers: dict[str, httpx.Response] = {}

    def ask(key: str) -> None:
        answers[key] = run.post("/v1/open", SMALL, key=key)

    # What is sent executes at once; the answers are held, so that there is something to drain.
    run.fault("slow", "sendTransaction", delay_ms=2_000)
    threads = [threading.Thread(target=ask, args=(key,), daemon=True) for key in keys]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(run.order_of(key) for key in keys), "the orders were not taken")
    run.router.terminate()
    wait_until(lambda: draining(run), "it does not drain", within_s=10)
    refused = run.post("/v1/open", SMALL, key="too late", wait=0)
    assert run.router.ended() == 0
    for thread in threads:
        thread.join(20)
    assert (refused.status_code, refused.json()["reason"]) == (httpx.codes.SERVICE_UNAVAILABLE, "draining")
    assert run.order_of("too late") is None

    run.clear_faults()
    run.router.start()
    for key in keys:
        assert answers[key].status_code in {httpx.codes.CREATED, httpx.codes.ACCEPTED}, answers[key].text
        assert answers[key].json()["order_id"] == run.order_of(key)
        assert run.end_of(answers[key].json()["order_id"])["status"] == "filled"
    assert run.venue_size() == run.held() > 0
    run.close_all()


class WallClock:
    """The wall time of the router; its other clock goes on as it is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Set the wall clock so many seconds past the right time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)


@pytest.fixture
def wall(run: Stage) -> Iterator[WallClock]:
    """Let the router run on a wall clock that a test can set, and on the right one afterwards."""
    clock = WallClock(run.folder / "offset")
    run.router.environment["CLOCK_OFFSET_FILE"] = str(run.folder / "offset")
    run.router.module = "tests.crash.shifted"
    run.restart()
    yield clock
    run.router.module = "router.cli"
    run.restart()


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["an hour ahead", "an hour back"])
def test_a_clock_that_jumps_under_an_order(jump_s: int, wall: WallClock, run: Stage) -> None:
    """An order whose bytes were lost ends by proof, one that executed is found; with the right time a close closes."""
    lost, landed = uuid4().hex, uuid4().hex
    with run.striking("slow", "sendTransaction", delay_ms=FOREVER_MS, count=1):
        run.post_in_background("/v1/open", SMALL, landed)
    with run.striking("dropped_before", "sendTransaction"):
        run.post_in_background("/v1/open", SMALL, lost)
    wall.jump(jump_s)
    time.sleep(0.5)
    run.clear_faults()

    order_ids = [run.order_of(landed), run.order_of(lost)]
    first, second = (run.end_of(str(order_id)) for order_id in order_ids)
    assert first["status"] == "filled"
    assert second["status"] in {"filled", "failed"}
    for order in (first, second):
        assert len([each for each in order["attempts"] if each["outcome"] == "filled"]) == (order["status"] == "filled")
    assert run.venue_size() == run.held() > 0
    for key, order in ((landed, first), (lost, second)):
        assert run.post("/v1/open", SMALL, key=key).json()["order_id"] == order["order_id"]
    wall.jump(0)
    closed = run.post("/v1/close", CLOSE)
    assert closed.status_code == httpx.codes.OK, closed.text
    assert run.venue_size() == run.held() == 0
