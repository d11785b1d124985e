"""Holds each result against the record; with `PERP_ROUTER_RECORD=1` writes the record anew instead."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.conformance.matrix import RECORD_VARIABLE, Result, recorded, write_record

_RESULTS: dict[tuple[str, str], Result] = {}


@pytest.fixture
def record_result() -> Callable[[str, str, Result], None]:
    """Return what takes a case's result at a provider."""

    def take(case: str, name: str, result: Result) -> None:
        _RESULTS[case, name] = result
        if not os.environ.get(RECORD_VARIABLE):
            assert recorded().get(name, {}).get(case) == result, (
                f"the record says otherwise: run with {RECORD_VARIABLE}=1"
            )

    return take


def pytest_sessionfinish() -> None:
    """Write the record, where it was asked for."""
    if os.environ.get(RECORD_VARIABLE) and _RESULTS:
        write_record(_RESULTS)
