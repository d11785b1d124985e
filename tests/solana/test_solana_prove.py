"""What a fence saves: the measurement of `scripts/prove`, on virtual time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROVE = Path(__file__).resolve().parents[2] / "scripts" / "prove"


def test_a_fence_proves_death_more_than_ten_times_sooner_than_expiry() -> None:
    """At mainnet's slot time a fence takes a few slots, and expiry more than a minute."""
    run = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(PROVE), "--repetitions", "2"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    medians = {
        name: float(median) for name, median in re.findall(r"^(fence|expiry) +([\d.]+)", run.stdout, re.MULTILINE)
    }
    assert set(medians) == {"fence", "expiry"}, run.stdout
    assert medians["expiry"] > 150 * 0.4
    assert medians["expiry"] > 10 * medians["fence"]
