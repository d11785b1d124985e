"""The bench on the model alone, and on model and real program side by side where a binary is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.localnet_drift.drift_bench import Bench

BINARY_VARIABLE = "PERP_ROUTER_DRIFT_SO"


def drift_binary() -> Path:
    """Return the real program's file; leave the test out where none is given."""
    name = os.environ.get(BINARY_VARIABLE)
    if not name:
        pytest.skip(f"{BINARY_VARIABLE} names no file: not compared with the real program")
    path = Path(name)
    if not path.is_file():
        pytest.fail(f"{BINARY_VARIABLE} is {name}, which is no file")
    return path


@pytest.fixture(params=["model", "model and program"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Return a new world; every step on the second one is made on the real program too and has to end the same."""
    return Bench(None if request.param == "model" else drift_binary())


@pytest.fixture
def model_bench() -> Bench:
    """Return a new world on the model alone."""
    return Bench(None)
