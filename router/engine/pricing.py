"""Prices: the absolute bound of an order, and how far a fill was from it."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from providers.base.types import OrderKind, Side

__all__ = ["slippage_bps_of", "worst_price_of"]

# Finer than any venue's tick; the provider rounds to its own, inwards.
PRICE_QUANTUM = Decimal("0.000000001")
BPS = Decimal(10_000)


def worst_price_of(
    kind: OrderKind, side: Side, expected_price: Decimal, slippage_bps: int, asked: Decimal | None
) -> Decimal:
    """Return the tighter of the slippage bound and the price that the caller asked for, rounded inwards.

    A buy may pay at most `expected_price * (1 + slippage)`, a sale must bring at least `expected_price *
    (1 - slippage)`, and never less than the smallest price there is; dollars per base unit.
    """
    slippage = expected_price * slippage_bps / BPS
    if kind.buys(side):
        bound = (expected_price + slippage).quantize(PRICE_QUANTUM, rounding=ROUND_FLOOR)
        return bound if asked is None else min(bound, asked)
    bound = (expected_price - slippage).quantize(PRICE_QUANTUM, rounding=ROUND_CEILING)
    bound = max(bound, PRICE_QUANTUM)
    return bound if asked is None else max(bound, asked)


def slippage_bps_of(kind: OrderKind, side: Side, expected_price: Decimal, fill_price: Decimal) -> Decimal:
    """Return how far a fill was from the expected price in basis points; positive is against the caller."""
    distance = fill_price - expected_price if kind.buys(side) else expected_price - fill_price
    return distance / expected_price * BPS
