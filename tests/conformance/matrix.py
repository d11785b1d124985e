"""Which cases run at which providers, and what came of it the last time: the table of `docs/conformance.md`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from tests.conformance import (
    cases_closing,
    cases_protecting,
    cases_reading,
    cases_reconciling,
    cases_refusals,
    cases_settling,
    cases_waiting,
)
from tests.conformance.bench import Bench
from tests.conformance.cases import CASES, Case
from tests.conformance.conformance_drift import DriftProgramVenue, DriftVenue
from tests.conformance.conformance_jupiter import JupiterVenue
from tests.conformance.conformance_mango import MangoVenue

__all__ = ["ALL_CASES", "BENCHES", "RECORD_VARIABLE", "Result", "recorded", "unavailable", "write_record"]

RECORD_VARIABLE = "PERP_ROUTER_RECORD"
BINARY_VARIABLE = "PERP_ROUTER_DRIFT_SO"
_RECORD = Path(__file__).with_name("record.json")
_TOPICS = (
    cases_reading,
    cases_refusals,
    cases_settling,
    cases_closing,
    cases_reconciling,
    cases_protecting,
    cases_waiting,
)

# "pass", or "not applicable: " and why.
Result: TypeAlias = str


def _program() -> Bench:
    binary = Path(os.environ[BINARY_VARIABLE])
    return Bench(lambda cluster: DriftProgramVenue(cluster, binary=binary))


BENCHES: Mapping[str, Callable[[], Bench]] = {
    "drift": lambda: Bench(DriftVenue),
    "drift_program": _program,
    "mango": lambda: Bench(MangoVenue),
    "jupiter": lambda: Bench(JupiterVenue),
}
ALL_CASES: tuple[Case, ...] = tuple(
    case for topic in _TOPICS for case in CASES.values() if case.play.__module__ == topic.__name__
)


def unavailable(name: str) -> str | None:
    """Return why a bench cannot be set up here, or null where it can."""
    if name == "drift_program" and not os.environ.get(BINARY_VARIABLE):
        return f"{BINARY_VARIABLE} names no file: the real program is not run"
    return None


def recorded() -> dict[str, dict[str, Result]]:
    """Return what is on record: results by case, by provider."""
    if not _RECORD.exists():
        return {}
    return msgspec.json.decode(_RECORD.read_bytes(), type=dict[str, dict[str, Result]])


def write_record(results: Mapping[tuple[str, str], Result]) -> None:
    """Put results, by case and provider, into the record; what was not run now stays as it was."""
    old = recorded()
    fresh: dict[str, dict[str, Result]] = {}
    for name in BENCHES:
        found = {str(case): results.get((str(case), name), old.get(name, {}).get(str(case))) for case in ALL_CASES}
        fresh[name] = {case: result for case, result in found.items() if result is not None}
    _RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(fresh)) + b"\n")
