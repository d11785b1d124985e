"""The registry of conformance cases: what every provider must do, whatever its venue is.

A case has a number for life, a name that test ids and the matrix carry, and one sentence. It takes a `Bench` and
raises where the provider does otherwise. Numbers of cases that are taken away are not used again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from tests.conformance.bench import Bench, Feature

__all__ = ["CASES", "Case", "case"]

Play = Callable[[Bench], Awaitable[None]]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered case.

    Attributes:
        statement: what is promised, in one sentence.
        needs: features without which it does not apply.
    """

    number: int
    name: str
    topic: str
    statement: str
    play: Play
    needs: tuple[Feature, ...] = ()

    def __str__(self) -> str:
        """Return number and name, as test ids carry them."""
        return f"C{self.number:02}-{self.name}"

    def lacks(self, bench: Bench) -> str | None:
        """Return why the case does not apply at a bench, or null where it does."""
        return next((reason for feature in self.needs if (reason := bench.lacks(feature)) is not None), None)


CASES: dict[int, Case] = {}


def case(number: int, *needs: Feature) -> Callable[[Play], Play]:
    """Register an async function as a case; its name and first line are the case's."""

    def register(play: Play) -> Play:
        if number in CASES:
            raise ValueError(f"two cases are number {number}")
        name = play.__name__
        statement = (play.__doc__ or "").strip().partition("\n")[0]
        topic = play.__module__.rpartition("_")[2]
        CASES[number] = Case(number=number, name=name, topic=topic, statement=statement, play=play, needs=needs)
        return play

    return register
