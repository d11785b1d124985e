"""The pages of the documentation, their snippets, and a service to run them against."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAM = Path(sys.executable).with_name("perp-router")

# Where the documentation says that things are.
PORT, LOCALNET_PORT = 8080, 8899
_SNIPPET = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_START_S = 30.0
_RUN_S = 60.0


class Snippet(msgspec.Struct, frozen=True):
    """One `sh` block of a page."""

    page: str
    number: int
    command: str

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self.page}-{self.number}"


def snippets(page: Path) -> list[Snippet]:
    """Return the `sh` blocks of a page, in order; blocks of no language are for the eye."""
    found = _SNIPPET.findall(page.read_text("utf-8"))
    return [Snippet(page.name, number, command) for number, command in enumerate(found, start=1)]


class Desk:
    """A service on ports of its own, in a folder of its own, and the shell that a reader types into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.localnet_port = _free_ports()
        self.base = f"http://127.0.0.1:{self.port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
        self._environment = environment | {"ROUTER_LOCALNET_PORT": str(self.localnet_port)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start `perp-router serve` and wait until it is ready."""
        log = self.folder / "service.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [PROGRAM, "serve"],
                cwd=self.folder,
                env=self._environment | {"ROUTER_PORT": str(self.port)},
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + _START_S
        while not self._ready():
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def run(self, command: str) -> str:
        """Run a snippet in bash, word by word but for its ports and where the program is; return what it printed."""
        for port, own in ((PORT, self.port), (LOCALNET_PORT, self.localnet_port)):
            command = command.replace(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{own}")
        command = command.replace(".venv/bin/perp-router", str(PROGRAM))
        done = subprocess.run(  # noqa: S603 - from our own pages
            ["bash", "-euo", "pipefail", "-c", command],  # noqa: S607 - the reader's own
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def answers(self, command: str) -> list[dict[str, Any]]:
        """Run a snippet and return the JSON documents that it printed, one after the other."""
        text = self.run(command).strip()
        found: list[dict[str, Any]] = []
        while text:
            document, length = json.JSONDecoder().raw_decode(text)
            found.append(document)
            text = text[length:].lstrip()
        return found

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.base}/health/ready", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """Give a started desk; leave the test out where a reader's tools are missing."""
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the snippets are not run")
    service = Desk(folder)
    service.start()
    try:
        yield service
    finally:
        service.end()


def _free_ports() -> tuple[int, int]:
    """Return a free port, and one whose neighbour is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            port = int(second.getsockname()[1])
            try:
                third.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return int(first.getsockname()[1]), port
