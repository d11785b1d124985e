"""Oracle accounts as the program reads them, and what it thinks of a price."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

import msgspec

from router.localnet.drift.layouts import ValidityGuardRails
from router.localnet.drift.numbers import PERCENTAGE_PRECISION, PRICE_PRECISION, div

__all__ = ["OraclePrice", "OracleValidity", "read_pyth", "validity"]

_EXPONENT = struct.Struct("<i")
_COUNTS = struct.Struct("<II")
_VALID_SLOT = struct.Struct("<Q")
_AGGREGATE = struct.Struct("<qQ")
_EXPONENT_AT, _COUNTS_AT, _VALID_SLOT_AT, _AGGREGATE_AT = 20, 24, 40, 208
_STABLE_BAND = 500
"""5 basis points around one dollar, 1e6."""


class OracleValidity(IntEnum):
    """What is wrong with a price, worst first."""

    NON_POSITIVE = 0
    TOO_VOLATILE = 1
    TOO_UNCERTAIN = 2
    STALE_FOR_MARGIN = 3
    INSUFFICIENT_DATA_POINTS = 4
    STALE_FOR_AMM = 5
    VALID = 6

    @property
    def fills_amm(self) -> bool:
        """Whether the AMM may trade on it."""
        return self is OracleValidity.VALID

    @property
    def prices_orders(self) -> bool:
        """Whether limit prices may be worked out from it."""
        return self >= OracleValidity.INSUFFICIENT_DATA_POINTS

    @property
    def margins(self) -> bool:
        """Whether margin may be worked out from it when a withdrawal depends on it."""
        return self >= OracleValidity.INSUFFICIENT_DATA_POINTS

    @property
    def settles(self) -> bool:
        """Whether funding and PnL may be settled on it."""
        return self >= OracleValidity.STALE_FOR_MARGIN


class OraclePrice(msgspec.Struct, frozen=True, kw_only=True):
    """A price and its confidence (1e6) and its age in slots."""

    price: int
    confidence: int
    delay: int
    enough_publishers: bool


def read_pyth(data: bytes, slot: int, *, stable_coin: bool) -> OraclePrice:
    """Read a Pyth price account at `slot`; a stable coin within its confidence of one dollar is one dollar."""
    (exponent,) = _EXPONENT.unpack_from(data, _EXPONENT_AT)
    publishers, quoting = _COUNTS.unpack_from(data, _COUNTS_AT)
    (valid_slot,) = _VALID_SLOT.unpack_from(data, _VALID_SLOT_AT)
    price, confidence = _AGGREGATE.unpack_from(data, _AGGREGATE_AT)
    precision = 10 ** abs(exponent)
    if precision > PRICE_PRECISION:
        scale = precision // PRICE_PRECISION
        price, confidence = div(price, scale), confidence // scale
    else:
        scale = PRICE_PRECISION // precision
        price, confidence = price * scale, confidence * scale
    if stable_coin and abs(price - PRICE_PRECISION) <= min(_STABLE_BAND, confidence):
        price = PRICE_PRECISION
    return OraclePrice(
        price=price,
        confidence=confidence,
        delay=slot - valid_slot,
        enough_publishers=quoting >= min(publishers, 3),
    )


def validity(
    quote: OraclePrice, average: int, rails: ValidityGuardRails, multiplier: int, log: Callable[[str], None] | None
) -> OracleValidity:
    """Return what is wrong with a price.

    Args:
        quote: the price.
        average: the market's hourly average, 1e6.
        rails: the exchange's limits.
        multiplier: how much more confidence interval the market's tier allows.
        log: told each thing that is wrong.
    """
    width = max(1, quote.confidence) * PERCENTAGE_PRECISION // max(quote.price, 1)
    volatile = div(max(quote.price, average), max(min(average, quote.price), 1)) > rails.too_volatile_ratio
    wide = width > rails.confidence_interval_max_size * multiplier
    stale_for_amm = quote.delay > rails.slots_before_stale_for_amm
    stale_for_margin = quote.delay > rails.slots_before_stale_for_margin
    findings = (
        (quote.price <= 0, OracleValidity.NON_POSITIVE, "Non-positive (oracle_price <=0)"),
        (
            volatile,
            OracleValidity.TOO_VOLATILE,
            f"Too Volatile (last_oracle_price_twap={average} vs oracle_price={quote.price})",
        ),
        (wide, OracleValidity.TOO_UNCERTAIN, f"Confidence Too Large (is_conf_too_large={width})"),
        (stale_for_margin, OracleValidity.STALE_FOR_MARGIN, f"Stale (oracle_delay={quote.delay})"),
        (not quote.enough_publishers, OracleValidity.INSUFFICIENT_DATA_POINTS, "Insufficient Data Points"),
        (stale_for_amm, OracleValidity.STALE_FOR_AMM, f"Stale (oracle_delay={quote.delay})"),
    )
    if log is not None:
        for text in dict.fromkeys(text for holds, _, text in findings if holds):
            log(text)
    return next((finding for holds, finding, _ in findings if holds), OracleValidity.VALID)
