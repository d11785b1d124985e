"""The bench on the model alone, and on model and real program side by side where a binary is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.localnet_drift.drift_bench import Bench

BINARY_VARIABLE = "PERP_ROUTER_DRIFT_SO"


def _binary() -> Path | None:
    name = os.environ.get(BINARY_VARIABLE)
    return Path(name) if name else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the model; and again on model and real program side by side, where a binary is given."""
    if "bench" in metafunc.fixturenames:
        kinds = ["model"] if _binary() is None else ["model", "model and program"]
        metafunc.parametrize("bench", kinds, indirect=True)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Bench:
    """Return a new world; with the real program every step is made on both and has to end the same."""
    return Bench(None if request.param == "model" else _binary())


@pytest.fixture
def drift_binary() -> Path:
    """Return the real program's file; leave the test out where none is given."""
    binary = _binary()
    if binary is None:
        pytest.skip(f"{BINARY_VARIABLE} names no file: the model is not compared with the real program")
    return binary


@pytest.fixture
def model_bench() -> Bench:
    """Return a new world on the model alone."""
    return Bench(None)
