"""Nine thousand slots on three venues: keepers that reject, stall and die, stops and take profits, others at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.localnet.virtual_time import run_virtual
from tests.simulation.keepers import ThreeVenueDesk
from tests.simulation.outside import live_through

STEPS_PER_SEED = 150


@pytest.mark.parametrize("seed", range(8))
def test_a_thousand_slots_of_three_venues_are_explained(seed: int, tmp_path: Path) -> None:
    """Every order ends, nothing fills twice, and lots and foreign part make what each side of each venue holds."""
    report = run_virtual(live_through(seed, STEPS_PER_SEED, tmp_path / "ledger.db", ThreeVenueDesk))

    assert report["slots"] > 1_125
    assert report["filled_by:jupiter"] > 0
    assert sum(count for kind, count in report.items() if kind.startswith("leg:")) > 0
