"""One cluster and one router for all crash tests: starting them takes longer than most of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.crash.processes import Stage, stage


class _Shared:
    """The stage that the next test gets; a new one when a test has left it in disorder."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._stage: Stage | None = None
        self._running = ExitStack()

    def give(self) -> Stage:
        if self._stage is None or not in_order(self._stage):
            self.end()
            self._stage = self._running.enter_context(stage(self._folders.mktemp("stage")))
        return self._stage

    def end(self) -> None:
        self._running.close()
        self._stage = None


def in_order(run: Stage) -> bool:
    """Whether both run, nothing is held or unclear, and nothing holds opens."""
    if not (run.cluster.running and run.router.running):
        return False
    try:
        run.clear_faults()
        run.router.limit_files(None)
        open_orders = run.rows("SELECT 1 FROM orders WHERE status IN ('pending', 'unknown')")
        ready = httpx.get(run.router.ready_url, timeout=5).status_code == httpx.codes.OK
        return ready and not open_orders and run.venue_size() == run.held() == 0
    except (httpx.HTTPError, OSError):
        return False


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shared]:
    """Keep a stage from test to test."""
    kept = _Shared(tmp_path_factory)
    yield kept
    kept.end()


@pytest.fixture
def run(shared: _Shared) -> Stage:
    """Return a stage on which nothing is open."""
    return shared.give()
