"""Precisions, and divisions that round as the program's do (toward zero unless said)."""

from __future__ import annotations

__all__ = [
    "BASE_PRECISION",
    "FIVE_MINUTES",
    "MARGIN_PRECISION",
    "ONE_DAY",
    "ONE_HOUR",
    "PERCENTAGE_PRECISION",
    "PRICE_PRECISION",
    "QUOTE_PRECISION",
    "U64_MAX",
    "ceil_div",
    "clamp",
    "div",
    "proportion",
    "sign",
]

BASE_PRECISION = 10**9
"""Base amounts and AMM reserves."""
QUOTE_PRECISION = 10**6
PRICE_PRECISION = 10**6
"""Prices and the AMM's peg."""
PERCENTAGE_PRECISION = 10**6
"""Spreads and percentages: 1e6 is all of it."""
MARGIN_PRECISION = 10**4
"""Margin ratios and asset weights."""
U64_MAX = 2**64 - 1

FIVE_MINUTES = 300
ONE_HOUR = 3_600
ONE_DAY = 86_400


def div(numerator: int, denominator: int) -> int:
    """Return the quotient rounded toward zero."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient of two positive numbers rounded up."""
    return -(-numerator // denominator)


def sign(value: int) -> int:
    """Return -1, 0 or 1."""
    return (value > 0) - (value < 0)


def clamp(value: int, low: int, high: int) -> int:
    """Return the nearest number to `value` inside the bounds."""
    return max(low, min(value, high))


def proportion(value: int, numerator: int, denominator: int) -> int:
    """Return `value * numerator / denominator` for positive numbers, rounded as the program does.

    Small values with a fraction between one half and one are worked out from the other side, which can round one lower.
    """
    if numerator == denominator:
        return value
    if value >= U64_MAX or numerator >= U64_MAX:
        return value * numerator // denominator
    if denominator // 2 < numerator < denominator:
        taken, remainder = divmod(value * (denominator - numerator), denominator)
        return value - taken - (1 if remainder else 0)
    return value * numerator // denominator
