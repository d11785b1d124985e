"""Fixtures: a venue, and the real accounts and transactions beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.localnet_jupiter.jupiter_bench import Venue

SNAPSHOTS = Path(__file__).parents[3] / "shared" / "snapshots"


@pytest.fixture
def venue() -> Venue:
    """Return a new venue whose keeper stands still."""
    return Venue()


@pytest.fixture
def tended() -> Venue:
    """Return a new venue whose keeper works."""
    return Venue(keeper=True)


@pytest.fixture
def snapshots() -> Path:
    """Return the folder of real accounts; leave the test out where it is not there."""
    if not SNAPSHOTS.is_dir():
        pytest.skip("no real accounts beside the project: the model is not held against them")
    return SNAPSHOTS
