"""`serve` as a process: signals, exit status, and what callers feel of a start and an end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
BODY = {"market": "SOL-PERP", "side": "long", "size": "1"}


class Served:
    """A service in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict[str, object]] = []
        assert process.stdout is not None
        while not self.lines or self.lines[-1]["event"] != "listening":
            text = process.stdout.readline()
            assert text, process.communicate()
            self.lines.append(json.loads(text))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.lines[-1]['port']}", timeout=20)

    def until_ready(self) -> None:
        """Wait for the service to be ready."""
        deadline = time.monotonic() + 10
        while self.client.get("/health/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Return the exit status and what was said on standard error."""
        out, errors = self.process.communicate(timeout=20)
        self.lines += [json.loads(text) for text in out.splitlines()]
        return self.process.returncode, errors

    @property
    def events(self) -> list[object]:
        """The events logged so far."""
        return [line["event"] for line in self.lines]


def start(manner: str, port: int = 0) -> subprocess.Popen[str]:
    """Start a scripted service."""
    command = [sys.executable, "-m", "tests.cli.serve_scripted", manner, str(port)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


@contextmanager
def served(manner: str) -> Iterator[Served]:
    """Serve for the length of a block."""
    with start(manner) as process:
        service = Served(process)
        try:
            with service.client:
                yield service
        finally:
            process.kill()


def test_the_first_signal_drains_and_the_callers_get_their_answers() -> None:
    """Unready at once, opens refused, and an order in flight is answered with its end; then exit 0."""
    with served("well") as service:
        service.until_ready()
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(service.client.post("/v1/open", json=BODY)))
        waiting.start()
        while not service.client.get("/v1/orders").json()["items"]:
            time.sleep(0.02)

        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        ready = service.client.get("/health/ready")
        refused = service.client.post("/v1/open", json=BODY)
        waiting.join(10)
        status, errors = service.end()

    assert (ready.status_code, ready.json()["failing"]) == (503, {"drain": "the service is stopping"})
    assert (refused.status_code, refused.json()["reason"]) == (503, "draining")
    assert (answers[0].status_code, answers[0].json()["status"]) == (201, "filled")
    assert (status, errors) == (0, "closed\n")
    assert service.events.index("draining") < service.events.index("stopped")


def test_what_does_not_end_in_time_is_answered_202_and_left_to_the_next_start() -> None:
    """The drain has a limit, and the end is an orderly one."""
    with served("never_drains") as service:
        service.until_ready()
        answers: list[httpx.Response] = []
        body = {"json": BODY, "headers": {"Prefer": "wait=60"}}
        waiting = threading.Thread(target=lambda: answers.append(service.client.post("/v1/open", **body)))  # type: ignore[arg-type]
        waiting.start()
        while not service.client.get("/v1/orders").json()["items"]:
            time.sleep(0.02)
        before = time.monotonic()

        service.process.send_signal(signal.SIGTERM)
        waiting.join(15)
        status, _ = service.end()

    assert answers[0].status_code == 202
    assert status == 0
    assert 2 < time.monotonic() - before < 10
    assert "drain_incomplete" in service.events


def test_a_second_signal_ends_the_drain() -> None:
    """An operator who is in a hurry is obeyed: the ledger has everything."""
    with served("never_drains") as service:
        service.until_ready()
        before = time.monotonic()

        service.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        service.process.send_signal(signal.SIGINT)
        status, _ = service.end()

    assert status == 0
    assert time.monotonic() - before < 2


def test_probes_are_answered_during_recovery() -> None:
    """Live but not ready, orders refused; a signal ends it."""
    with served("recovers_slowly") as service:
        live, ready = service.client.get("/health/live"), service.client.get("/health/ready")
        order = service.client.post("/v1/open", json=BODY)

        service.process.send_signal(signal.SIGTERM)
        status, errors = service.end()

    assert (live.status_code, ready.status_code, order.status_code) == (200, 503, 503)
    assert order.json()["code"] == "not_ready"
    assert (status, errors) == (0, "closed\n")


def test_a_start_that_fails_is_exit_1_with_the_reason() -> None:
    """And everything is closed."""
    process = start("fails_to_start")

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "cannot start: the ledger is of another cluster" in errors
    assert errors.endswith("closed\n")


def test_a_port_that_is_taken_is_exit_1() -> None:
    """Not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("well", taken.getsockname()[1])

        _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "cannot listen on 127.0.0.1" in errors
    assert "Traceback" not in errors
