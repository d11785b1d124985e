"""The service that the tests of this folder talk to."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.running import Running


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """Return a service without API keys, for every test that leaves it running."""
    running = Running()
    with running.running():
        yield running


@pytest.fixture
def service(server: Running) -> Running:
    """Return the service with an engine that has seen nothing."""
    server.engine.reset()
    return server


@pytest.fixture
def client(service: Running) -> httpx.Client:
    """Return a client of the service."""
    return service.client
