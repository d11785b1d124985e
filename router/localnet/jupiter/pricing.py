"""Prices, fees, the borrow rate and profit: integers throughout, rounded in the pool's favour.

Dollars and prices are 1e6, rates 1e9, fees basis points.
"""

from __future__ import annotations

import struct
from decimal import ROUND_CEILING, Decimal, localcontext

import msgspec

from router.localnet.jupiter.layouts import AgPriceFeed, Custody, Position

__all__ = [
    "BPS",
    "LONG",
    "RATE",
    "SHORT",
    "USD",
    "Price",
    "TradeFee",
    "borrow_fee",
    "cumulative_rate",
    "hourly_rate",
    "mean_price",
    "profit",
    "record_trade",
    "trade_fee",
    "utilization",
]

LONG, SHORT = 1, 2
USD = 10**6
BPS = 10**4
RATE = 10**9

_DBPS = 10**5
_HOUR_S = 3_600
_YEAR_HOURS = 8_760
_BUCKETS = 60
_BUCKET = struct.Struct(f"<{_BUCKETS}q")


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _ten(exponent: int) -> int:
    """Return ten to a power that is not negative."""
    return int(10**exponent)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed says: `mantissa` times ten to the `exponent`, at `timestamp`."""

    mantissa: int
    exponent: int
    timestamp: int

    @classmethod
    def of(cls, feed: AgPriceFeed) -> Price:
        """Return a feed's price."""
        return cls(mantissa=feed.price, exponent=feed.expo, timestamp=feed.timestamp)

    @property
    def usd(self) -> int:
        """The price of a whole token in 1e6 dollars."""
        return self.mantissa * USD // _ten(-self.exponent)

    def value(self, tokens: int, decimals: int) -> int:
        """Return what native tokens are worth, rounded down."""
        return tokens * self.mantissa * USD // _ten(decimals - self.exponent)

    def tokens(self, usd: int, decimals: int) -> int:
        """Return the native tokens that dollars buy, rounded down."""
        return usd * _ten(decimals - self.exponent) // (self.mantissa * USD)

    def tokens_up(self, usd: int, decimals: int) -> int:
        """Return the native tokens that dollars need, rounded up."""
        return _ceil(usd * _ten(decimals - self.exponent), self.mantissa * USD)


class TradeFee(msgspec.Struct, frozen=True, kw_only=True):
    """The fee of a trade in dollars; `impact` is the part of it that is for the trade's size."""

    total: int
    impact: int


def trade_fee(custody: Custody, size_usd: int, *, base_bps: int, signed_usd: int, now: int) -> TradeFee:
    """Return what a trade costs.

    Args:
        custody: of the asset.
        size_usd: of the trade.
        base_bps: the fee without any impact.
        signed_usd: what the trade adds to the last minute's surplus.
        now: the chain's time.
    """
    scalar = custody.pricing.trade_impact_fee_scalar
    linear = _ceil(size_usd * BPS, scalar) if scalar else 0
    bps = base_bps + linear
    state = custody.price_impact_buffer
    if state.fee_factor:
        delta = abs(sum(_recent(custody, now)) + signed_usd)
        threshold = state.delta_imbalance_threshold_decimal
        if delta > threshold:
            bps += _ceil(_power(delta, threshold, state.exponent), state.fee_factor)
            bps = min(bps, state.max_fee_bps)
    total = _ceil(size_usd * bps, BPS)
    impact = total - _ceil(size_usd * base_bps, BPS) if bps == base_bps + linear else total - size_usd * base_bps // BPS
    return TradeFee(total=total, impact=max(impact, 0))


def _power(delta: int, threshold: int, exponent: float) -> int:
    """Return (delta / threshold) to the exponent, rounded up."""
    with localcontext() as context:
        context.prec = 40
        value = (Decimal(delta) / Decimal(threshold)) ** Decimal(exponent)
        return int(value.to_integral_value(ROUND_CEILING))


def _recent(custody: Custody, now: int) -> list[int]:
    """Return the last minute's trades by second, those that are older as nothing."""
    state = custody.price_impact_buffer
    buckets = list(_BUCKET.unpack(state.open_interest))
    if now - state.last_updated >= _BUCKETS:
        return [0] * _BUCKETS
    for second in range(state.last_updated + 1, now + 1):
        buckets[second % _BUCKETS] = 0
    return buckets


def record_trade(custody: Custody, signed_usd: int, now: int) -> None:
    """Add a trade to the last minute's."""
    buckets = _recent(custody, now)
    buckets[now % _BUCKETS] += signed_usd
    custody.price_impact_buffer.open_interest = _BUCKET.pack(*buckets)
    custody.price_impact_buffer.last_updated = now


# Borrowing


def _lent(custody: Custody) -> int:
    return _ceil(max(custody.debt - custody.borrow_lend_interests_accured, 0), RATE)


def utilization(custody: Custody) -> int:
    """Return how much of the pool's tokens is locked or lent (1e9)."""
    lent = _lent(custody)
    owned = custody.assets.owned + lent
    return (custody.assets.locked + lent) * RATE // owned if owned else 0


def hourly_rate(custody: Custody) -> int:
    """Return what a borrowed dollar costs an hour (1e9)."""
    legacy = custody.funding_rate_state.hourly_funding_dbps
    if legacy:
        lent = _lent(custody)
        owned = custody.assets.owned + lent
        return _ceil((custody.assets.locked + lent) * legacy * RATE, _DBPS * owned) if owned else 0
    curve, used = custody.jump_rate_state, utilization(custody)
    if not curve.target_utilization_rate:
        return 0
    if used <= curve.target_utilization_rate:
        span = curve.target_rate_bps - curve.min_rate_bps
        annual = curve.min_rate_bps + _ceil(span * used, curve.target_utilization_rate)
    else:
        span = curve.max_rate_bps - curve.target_rate_bps
        above = used - curve.target_utilization_rate
        annual = curve.target_rate_bps + _ceil(span * above, RATE - curve.target_utilization_rate)
    return annual * RATE // BPS // _YEAR_HOURS


def cumulative_rate(custody: Custody, now: int) -> int:
    """Return the rate summed up to now (1e9)."""
    state = custody.funding_rate_state
    return state.cumulative_interest_rate + _ceil(hourly_rate(custody) * max(now - state.last_update, 0), _HOUR_S)


def borrow_fee(position: Position, cumulative: int) -> int:
    """Return what a position owes for borrowing since it was last touched."""
    return _ceil((cumulative - position.cumulative_interest_snapshot) * position.size_usd, RATE)


# Profit


def profit(position: Position, size_usd: int, price: int) -> int:
    """Return the profit of a part of a position at a price, rounded down (a loss is rounded up)."""
    moved = price - position.price if position.side == LONG else position.price - price
    return size_usd * moved // position.price


def mean_price(side: int, held_usd: int, held_price: int, size_usd: int, price: int) -> int:
    """Return the entry price of two holdings together.

    Weighted by tokens, so that the profit of the whole is that of its parts; the venue does not publish its own
    formula. A long's is rounded up, a short's down.
    """
    if not held_usd:
        return price
    numerator = (held_usd + size_usd) * held_price * price
    denominator = held_usd * price + size_usd * held_price
    return _ceil(numerator, denominator) if side == LONG else numerator // denominator
