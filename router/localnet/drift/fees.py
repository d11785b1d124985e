"""Fees of a fill: taker fee, maker rebate, keeper's reward (1e6)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from router.localnet.drift.layouts import FeeStructure, FeeTier, UserStats
from router.localnet.drift.numbers import PERCENTAGE_PRECISION, QUOTE_PRECISION, ceil_div, clamp

__all__ = ["filler_multiplier", "filler_reward", "maker_rebate", "taker_fee", "tier_of"]

_ADJUSTMENT = 100
_TEN_BPS = PERCENTAGE_PRECISION // 1_000
_USD = QUOTE_PRECISION


@dataclass(frozen=True, slots=True)
class _Level:
    """What it takes to reach a tier: 30-day volume or stake, 1e6."""

    tier: int
    volume: int
    stake: int


_LEVELS = (
    _Level(5, 100_000_000 * _USD, 9_999 * _USD),
    _Level(4, 50_000_000 * _USD, 4_999 * _USD),
    _Level(3, 10_000_000 * _USD, 1_999 * _USD),
    _Level(2, 5_000_000 * _USD, 999 * _USD),
    _Level(1, 1_000_000 * _USD, 499 * _USD),
)


def tier_of(stats: UserStats, fees: FeeStructure) -> FeeTier:
    """Return the fee tier of a trader."""
    volume = stats.taker_volume_30d + stats.maker_volume_30d
    for level in _LEVELS:
        if volume >= level.volume or stats.if_staked_quote_asset_amount >= level.stake:
            return fees.fee_tiers[level.tier]
    return fees.fee_tiers[0]


def taker_fee(quote: int, tier: FeeTier, adjustment: int) -> int:
    """Return the fee on a fill, rounded up; `adjustment` is the market's, in percent."""
    fee = ceil_div(quote * tier.fee_numerator, tier.fee_denominator)
    if adjustment < 0:
        return max(fee - fee * -adjustment // _ADJUSTMENT, 0)
    return fee + ceil_div(fee * adjustment, _ADJUSTMENT)


def maker_rebate(quote: int, tier: FeeTier, adjustment: int) -> int:
    """Return what a maker gets, rounded down; `adjustment` is the market's, in percent."""
    rebate = quote * tier.maker_rebate_numerator // tier.maker_rebate_denominator
    if adjustment < 0:
        return max(rebate - ceil_div(rebate * -adjustment, _ADJUSTMENT), 0)
    return rebate + rebate * adjustment // _ADJUSTMENT


def filler_multiplier(maker_price: int, oracle_price: int, *, maker_is_long: bool) -> int:
    """Return how much more a keeper may earn for a match at a good price (1e6)."""
    away = abs(oracle_price - maker_price) * PERCENTAGE_PRECISION // oracle_price
    above = away if oracle_price >= maker_price else -away
    better = -above if maker_is_long else above
    return clamp(better + 2 * _TEN_BPS, _TEN_BPS, 100 * _TEN_BPS)


def filler_reward(fee: int, waited: int, multiplier: int, fees: FeeStructure) -> int:
    """Return the keeper's reward: a part of the fee, at most an amount that grows with the order's age in slots."""
    terms = fees.filler_reward_structure
    by_size = fee * terms.reward_numerator // terms.reward_denominator
    least = terms.time_based_reward_lower_bound * clamp(multiplier, _TEN_BPS, 100 * _TEN_BPS) // _TEN_BPS
    fourth_root = isqrt(isqrt(max(1, waited) * 100_000_000))
    return min(by_size, fourth_root * least // 100)
