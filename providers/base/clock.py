"""Time, sleep, randomness and ids: the only source of each, injected everywhere.

Nothing else in the project reads a clock, sleeps, or rolls dice; that is what lets a test run an hour of
trading in a second and repeat it from a seed.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "SystemClock", "VirtualClock", "base32_lower", "new_id"]


def base32_lower(data: bytes) -> str:
    """Return `data` in lower-case base32 without padding (16 bytes give 26 characters)."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


class Clock(Protocol):
    """What the project may know of time and chance."""

    def now(self) -> datetime:
        """Return the wall time in UTC (for records and deadlines that people read)."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back (for durations and patience)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Give way to other tasks for at least `seconds`."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        ...

    def jitter(self) -> float:
        """Return a number in [0, 1) to spread retries."""
        ...


def new_id(clock: Clock, prefix: str) -> str:
    """Return an id that sorts by creation time: prefix, 48 bits of milliseconds, 80 random bits, in base32."""
    milliseconds = int(clock.now().timestamp() * 1000)
    return f"{prefix}_{base32_lower(milliseconds.to_bytes(6, 'big') + clock.random_bytes(10))}"


class SystemClock:
    """The machine's clock and the operating system's randomness."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)

    def random_bytes(self, count: int) -> bytes:
        """Return bytes from the operating system."""
        return os.urandom(count)

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries; nothing secret depends on it


class VirtualClock:
    """Time of the running event loop counted from a fixed start, and seeded randomness.

    On `router.localnet.virtual_time.VirtualLoop` the loop's time jumps to the next timer, so an hour of sleeping
    takes no time. The same seed gives the same ids and the same jitter.
    """

    def __init__(self, seed: int = 0, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._random = random.Random(seed)  # noqa: S311 - must repeat from its seed
        self._start = start

    def now(self) -> datetime:
        """Return the start plus the loop's time."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep in the loop's time."""
        await asyncio.sleep(seconds)

    def random_bytes(self, count: int) -> bytes:
        """Return bytes from the seed."""
        return self._random.randbytes(count)

    def jitter(self) -> float:
        """Return a number in [0, 1) from the seed."""
        return self._random.random()
