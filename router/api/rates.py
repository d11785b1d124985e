"""How often a caller may ask: token buckets, one for opens and one for reads. Nothing that ends a risk is counted.

A close, a cancel, a change of protection and an operator's switch are never refused for coming too often: whoever has
to leave a position must not wait for a bucket that opens have emptied.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from providers.base.clock import Clock

__all__ = ["Metered", "RateLimiter", "Rates"]

Metered = Literal["opens", "reads"]
"""What is counted, each by itself: reading can not use up what a caller needs to open, nor the reverse."""

_LEAST_WAIT_S: Final = 1


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a second that one caller may make in the long run; 0 for any number.

    Attributes:
        burst_s: how many seconds' worth may come at once.
    """

    opens_per_s: int = 50
    reads_per_s: int = 200
    burst_s: int = 4

    def of(self, metered: Metered) -> int:
        """Return the rate of one sort."""
        return self.opens_per_s if metered == "opens" else self.reads_per_s


class RateLimiter:
    """A bucket for each caller and sort. There are as many as there are keys."""

    def __init__(self, rates: Rates, clock: Clock) -> None:
        self._rates = rates
        self._clock = clock
        self._buckets: dict[tuple[str, Metered], tuple[float, float]] = {}

    def wait_s(self, caller: str, metered: Metered) -> int:
        """Take one token; return 0, or after how many whole seconds there will be one. A refusal takes nothing."""
        rate = self._rates.of(metered)
        if rate == 0:
            return 0
        now = self._clock.monotonic()
        full = float(max(rate * self._rates.burst_s, 1))
        tokens, at = self._buckets.get((caller, metered), (full, now))
        tokens = min(full, tokens + (now - at) * rate)
        if tokens < 1:
            self._buckets[caller, metered] = (tokens, now)
            return max(math.ceil((1 - tokens) / rate), _LEAST_WAIT_S)
        self._buckets[caller, metered] = (tokens - 1, now)
        return 0
