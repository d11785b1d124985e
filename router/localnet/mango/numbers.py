"""The program's fixed-point numbers: an I80F48 is an integer scaled by 2^48 ("bits").

A product is rounded towards minus infinity, a quotient towards zero, a float to the nearest value (ties to even). A
result beyond 128 bits makes the program panic.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

__all__ = [
    "FRACTION_BITS",
    "I64_MAX",
    "I64_MIN",
    "I80F48_MIN",
    "ONE",
    "U64_MAX",
    "FixedOverflow",
    "add",
    "ceil",
    "check",
    "clamp_to_i64",
    "div",
    "f32",
    "floor",
    "from_float",
    "from_int",
    "mul",
    "power_of_ten",
    "round_to_zero",
    "saturated_i64",
    "to_float",
]

FRACTION_BITS = 48
ONE = 1 << FRACTION_BITS
I80F48_MIN = -(1 << 127)
_MAX = (1 << 127) - 1
_LARGEST_POWER = 12
I64_MAX = (1 << 63) - 1
I64_MIN = -(1 << 63)
U64_MAX = (1 << 64) - 1


class FixedOverflow(ArithmeticError):
    """A number left its type; the program panics."""


def check(bits: int) -> int:
    """Return the number; raise `FixedOverflow` where 128 bits do not hold it."""
    if not I80F48_MIN <= bits <= _MAX:
        raise FixedOverflow("the number does not fit 128 bits")
    return bits


def from_int(value: int) -> int:
    """Return a whole number as I80F48."""
    return check(value << FRACTION_BITS)


def from_float(value: float) -> int:
    """Return a float as I80F48, rounded to the nearest."""
    if not math.isfinite(value):
        raise FixedOverflow("the float is not finite")
    return check(round(Fraction(value) * ONE))


def to_float(bits: int) -> float:
    """Return the nearest float."""
    return float(Fraction(bits, ONE))


def f32(value: float) -> float:
    """Return the value as a 32-bit float holds it."""
    held: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return held


def add(left: int, right: int) -> int:
    """Return the sum of two I80F48."""
    return check(left + right)


def mul(left: int, right: int) -> int:
    """Return the product of two I80F48, rounded down."""
    return check((left * right) >> FRACTION_BITS)


def div(numerator: int, denominator: int) -> int:
    """Return the quotient of two I80F48, rounded towards zero; a zero denominator makes the program panic."""
    if denominator == 0:
        raise FixedOverflow("division by zero")
    magnitude = (abs(numerator) << FRACTION_BITS) // abs(denominator)
    return check(magnitude if (numerator < 0) == (denominator < 0) else -magnitude)


def floor(bits: int) -> int:
    """Return the whole number below."""
    return bits >> FRACTION_BITS


def ceil(bits: int) -> int:
    """Return the whole number above."""
    return -((-bits) >> FRACTION_BITS)


def round_to_zero(bits: int) -> int:
    """Return the whole number without the fraction."""
    return floor(bits) if bits >= 0 else ceil(bits)


def saturated_i64(value: int) -> int:
    """Return a whole number kept within 64 signed bits."""
    return max(I64_MIN, min(I64_MAX, value))


def clamp_to_i64(bits: int) -> int:
    """Return the whole number below, kept within 64 signed bits."""
    return saturated_i64(floor(bits))


def power_of_ten(exponent: int) -> int:
    """Return 10^exponent as the program's table has it, for exponents of -12 to 12.

    The table rounds each negative power to the nearest, not down.
    """
    if abs(exponent) > _LARGEST_POWER:
        raise FixedOverflow("the table of powers ends at 12")
    scale = int(10 ** abs(exponent))
    return ONE * scale if exponent >= 0 else (2 * ONE // scale + 1) // 2
