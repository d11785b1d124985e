"""Orders that were built a moment ago and may be in flight."""

from __future__ import annotations

from typing import Final

import msgspec

from providers.base.clock import Clock
from providers.drift.build import DriftOrder

__all__ = ["Reservations", "Reserved"]

# A blockhash is good for 150 blocks: a minute at 0.4 s, two where blocks are slow.
_TRANSACTION_S: Final = 120.0


class Reserved(msgspec.Struct, frozen=True):
    """An order's number, its market, and until when it may still execute (monotonic seconds)."""

    user_order_id: int
    market_index: int
    until: float


class Reservations:
    """Remembers the orders that one account has in flight: their numbers are taken.

    Args:
        clock: for their ends.
        margin_s: beyond an order's own expiry.
    """

    def __init__(self, clock: Clock, margin_s: float) -> None:
        self._clock = clock
        self._margin_s = margin_s
        self._orders: list[Reserved] = []

    def add(self, order: DriftOrder) -> None:
        """Remember an order until it has expired, or (without an expiry) its transaction has."""
        left = max(order.max_ts - self._clock.now().timestamp(), 0.0) if order.max_ts else _TRANSACTION_S
        until = self._clock.monotonic() + left + self._margin_s
        self._orders.append(Reserved(order.user_order_id, order.market_index, until))

    def current(self) -> tuple[Reserved, ...]:
        """Return those that may still execute; the others are forgotten."""
        now = self._clock.monotonic()
        self._orders = [each for each in self._orders if each.until > now]
        return tuple(self._orders)
