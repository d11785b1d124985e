"""What trading and holding costs, and where a position is liquidated: the venue's integers, rounded as it rounds.

Dollars, prices and fees are 1e6, rates 1e9. Source: the venue's published examples; tests hold them against a fill, the
borrow rates and the liquidation prices of live accounts. Whether a short's trade enters the impact buckets with the
opposite sign is not published: it counts as a long's does here, which matters only above the buckets' threshold
($1.5M a minute).
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Final

import msgspec

from providers.jupiter.constants import BPS, DBPS, HOURS_PER_YEAR, RATE_ONE, SECONDS_PER_HOUR, RequestChange
from providers.jupiter.state import Custody

__all__ = [
    "PositionFee",
    "accrued_borrow_fee",
    "cumulative_interest",
    "hourly_borrow_rate",
    "liquidation_price",
    "pnl",
    "position_fee",
    "utilization",
]

_BUCKETS: Final = 60
_POWER_DIGITS: Final = 60


class PositionFee(msgspec.Struct, frozen=True, kw_only=True):
    """What changing a position by some dollars costs; `impact` is part of `total`."""

    total: int
    impact: int


def _ceil_div(number: int, by: int) -> int:
    return -(-number // by)


def position_fee(custody: Custody, size_usd: int, change: RequestChange, now: int) -> PositionFee:
    """Return the fee of a trade: a base rate, a linear impact of at least 1 bp, and an additive one above a threshold.

    Args:
        custody: of the market (not of the collateral).
        size_usd: of the trade.
        change: increase or decrease.
        now: chain clock.
    """
    base = custody.increase_position_bps if change is RequestChange.INCREASE else custody.decrease_position_bps
    scalar = custody.trade_impact_fee_scalar
    linear = _ceil_div(size_usd * BPS, scalar) if scalar else 0
    extra = _additive_bps(custody, size_usd if change is RequestChange.INCREASE else -size_usd, now)
    rate = base + linear if extra is None else min(base + linear + extra, custody.impact_max_fee_bps)
    total = _ceil_div(size_usd * rate, BPS)
    return PositionFee(total=total, impact=max(total - size_usd * base // BPS, 0))


def _additive_bps(custody: Custody, signed_usd: int, now: int) -> int | None:
    """Return the additive impact in basis points; null where the last minute's flow does not reach the threshold."""
    threshold = custody.impact_threshold_usd
    if not custody.impact_fee_factor or not threshold:
        return None
    delta = abs(_flow(custody, now) + signed_usd)
    if delta <= threshold:
        return None
    numerator, denominator = custody.impact_exponent
    with localcontext() as context:
        context.prec = _POWER_DIGITS
        power = (Decimal(delta) / threshold) ** (Decimal(numerator) / denominator)
        return _ceil_div(int(power.to_integral_value(ROUND_CEILING)), custody.impact_fee_factor)


def _flow(custody: Custody, now: int) -> int:
    """Return the signed flow of the last minute: one bucket a second, of which those since the last write are old."""
    last = custody.impact_last_updated
    if now - last >= _BUCKETS:
        return 0
    stale = {second % _BUCKETS for second in range(last + 1, now + 1)}
    return sum(flow for index, flow in enumerate(custody.open_interest) if index not in stale)


# --- borrowing --------------------------------------------------------------------------------------------------------


def utilization(custody: Custody) -> int:
    """Return how much of a custody's tokens is used, 1e9: locked behind positions, or lent out."""
    owned = custody.owned + custody.lent
    return (custody.locked + custody.lent) * RATE_ONE // owned if owned else 0


def hourly_borrow_rate(custody: Custody) -> int:
    """Return what a position on this collateral pays per hour on its size, 1e9."""
    if custody.hourly_funding_dbps:
        owned = custody.owned + custody.lent
        used = (custody.locked + custody.lent) * custody.hourly_funding_dbps * RATE_ONE
        return _ceil_div(_ceil_div(used, DBPS), owned) if owned else 0
    used, target = utilization(custody), custody.target_utilization_rate
    if used <= target:
        rise = (custody.target_rate_bps - custody.min_rate_bps) * used
        annual = custody.min_rate_bps + (_ceil_div(rise, target) if target else 0)
    else:
        rise = (custody.max_rate_bps - custody.target_rate_bps) * (used - target)
        annual = custody.target_rate_bps + (_ceil_div(rise, RATE_ONE - target) if target < RATE_ONE else 0)
    return annual * RATE_ONE // BPS // HOURS_PER_YEAR


def cumulative_interest(custody: Custody, now: int) -> int:
    """Return the interest that a dollar of size has paid since the custody began, 1e9."""
    elapsed = max(now - custody.last_update, 0)
    return custody.cumulative_interest_rate + _ceil_div(hourly_borrow_rate(custody) * elapsed, SECONDS_PER_HOUR)


def accrued_borrow_fee(custody: Custody, *, size_usd: int, snapshot: int, now: int) -> int:
    """Return what a position owes for borrowing, rounded down; its next change takes it, whatever part is changed.

    Args:
        custody: of the collateral.
        size_usd: of the whole position.
        snapshot: the position's cumulative interest when it was last paid.
        now: chain clock.
    """
    return max(cumulative_interest(custody, now) - snapshot, 0) * size_usd // RATE_ONE


# --- positions --------------------------------------------------------------------------------------------------------


def pnl(*, long: bool, size_usd: int, entry: int, price: int) -> int:
    """Return a position's profit or loss at a price, before fees, toward zero."""
    difference = (price - entry) if long else (entry - price)
    amount = size_usd * abs(difference) // entry
    return amount if difference >= 0 else -amount


def liquidation_price(
    custody: Custody, *, long: bool, size_usd: int, collateral_usd: int, entry: int, fees: int
) -> int:
    """Return the price at which a position may be liquidated; 0 where no price above zero can do it.

    Args:
        custody: of the market.
        long: the side.
        size_usd: above zero.
        collateral_usd: of the position.
        entry: its average price.
        fees: what closing it costs: the position fee and what it owes for borrowing.
    """
    keeping = size_usd * BPS // custody.max_leverage + fees
    distance = abs(keeping - collateral_usd) * entry // size_usd
    below = long == (keeping <= collateral_usd)
    return max(entry - distance, 0) if below else entry + distance
