"""Two thousand steps beside others who trade on the same accounts: the books follow the venues, or say where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.localnet.virtual_time import run_virtual
from tests.simulation.outside import live_through

STEPS_PER_SEED = 200


@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_steps_are_explained(seed: int, tmp_path: Path) -> None:
    """Lots and foreign part make what each venue holds, and liquidations are told as such; a seed repeats itself."""
    report = run_virtual(live_through(seed, STEPS_PER_SEED, tmp_path / "ledger.db"))

    assert report["open:filled"] > 0
    assert sum(count for kind, count in report.items() if kind.startswith("outside:")) > 10
