"""The real program, where its binary is given: the same world, the same trades, the same bytes."""

from __future__ import annotations

from pathlib import Path

from tests.localnet_drift.drift_bench import BASE, PRICE, Bench, limit


def test_open_and_close_are_the_same_on_the_real_program(drift_binary: Path) -> None:
    """Fill price, fees, position and events of a round trip agree to the last byte (every other test does so too)."""
    bench = Bench(drift_binary)
    for side, bound in ((0, 152), (1, 148)):
        outcome = bench.send([bench.take(limit(side, 10 * BASE, bound * PRICE, immediate_or_cancel=True))])
        assert (outcome.code, len(outcome.events)) == (None, 3)
        bench.advance(3)
    bench.compare()
    assert bench.base() == 0
