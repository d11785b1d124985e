"""Every case at every provider: the test ids read as a capability matrix (`docs/conformance.md`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.bench import Bench, at_bench
from tests.conformance.cases import Case
from tests.conformance.matrix import ALL_CASES, BENCHES, Result, recorded, unavailable

PAIRS = [pytest.param(case, name, id=f"{case}-{name}") for name in BENCHES for case in ALL_CASES]


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_conformance(case: Case, name: str, record_result: Callable[[str, str, Result], None]) -> None:
    """The case holds at the provider, or does not apply for the reason that is on record."""
    reason = unavailable(name)
    if reason is not None:
        pytest.skip(reason)
    result: Result = "pass"

    async def play(bench: Bench) -> None:
        nonlocal result
        lacks = case.lacks(bench)
        if lacks is None:
            await case.play(bench)
        else:
            result = f"not applicable: {lacks}"

    at_bench(play, BENCHES[name])
    record_result(str(case), name, result)
    if result != "pass":
        pytest.skip(result)


def test_the_record_is_of_these_cases() -> None:
    """The matrix in the docs has every case and every provider, and none that is gone."""
    record = recorded()

    assert set(record) == set(BENCHES)
    for name, results in record.items():
        assert list(results) == [str(case) for case in ALL_CASES], name


def test_numbers_are_of_topics() -> None:
    """Cases are numbered in their topics' order, each with a sentence that ends."""
    assert [case.number for case in ALL_CASES] == sorted(case.number for case in ALL_CASES)
    assert all(case.statement.endswith(".") for case in ALL_CASES)
