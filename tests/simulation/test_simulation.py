"""A thousand orders on a wire that cannot be trusted, with restarts: nothing twice, nothing lost, everything ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.localnet.virtual_time import run_virtual
from tests.simulation.sim import simulate

ORDERS_PER_SEED = 100


@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_orders_keep_the_promise(seed: int, tmp_path: Path) -> None:
    """At most one fill an order, ledger and venue agree, every order ends; a failing seed repeats itself."""
    report = run_virtual(simulate(seed, ORDERS_PER_SEED, tmp_path / "ledger.db"))

    assert report["order"] + sum(count for kind, count in report.items() if kind.startswith("refused:")) == 100
    # The run was worth something: orders filled, faults struck.
    assert report["open:filled"] > 0
    assert sum(count for kind, count in report.items() if kind.startswith("fault:")) > 10


def test_a_seed_repeats_its_story(tmp_path: Path) -> None:
    """The same seed gives the same orders, faults and outcomes."""
    first = run_virtual(simulate(3, 30, tmp_path / "one.db"))
    second = run_virtual(simulate(3, 30, tmp_path / "two.db"))

    assert first == second
