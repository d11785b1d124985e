"""The AMM of a perpetual market: constant product, peg, spread reserves.

Reserves in 1e9, peg and prices in 1e6, quote in 1e6. `x` is the base reserve, `y` the quote reserve, `k = sqrt_k ** 2`;
price is `y * peg / x`. Buyers trade against the ask reserves and sellers against the bid reserves, which are the plain
reserves moved by the spread; the plain reserves move by the same base amount, and the difference is the AMM's surplus.
"""

from __future__ import annotations

from math import isqrt

from router.localnet.drift.enums import Direction
from router.localnet.drift.market_layouts import AMM
from router.localnet.drift.numbers import (
    BASE_PRECISION,
    PERCENTAGE_PRECISION,
    PRICE_PRECISION,
    U64_MAX,
    div,
    proportion,
)

__all__ = [
    "ask_price",
    "available_liquidity",
    "base_to_price",
    "bid_ask_bounds",
    "bid_price",
    "refresh_spread_reserves",
    "refresh_spreads",
    "reserve_price",
    "spread_reserves",
    "standardize_base",
    "swap_base",
]


def standardize_base(base: int, step: int) -> int:
    """Return `base` rounded down to the step."""
    return base - base % step


def reserve_price(amm: AMM) -> int:
    """Return the price in the middle of the spread."""
    return amm.quote_asset_reserve * amm.peg_multiplier // amm.base_asset_reserve


def bid_price(amm: AMM, middle: int) -> int:
    """Return what a seller of nothing would get."""
    return middle * (PERCENTAGE_PRECISION - amm.short_spread) // PERCENTAGE_PRECISION


def ask_price(amm: AMM, middle: int) -> int:
    """Return what a buyer of nothing would pay."""
    return middle * (PERCENTAGE_PRECISION + amm.long_spread) // PERCENTAGE_PRECISION


def bid_ask_bounds(concentration: int, sqrt_k: int) -> tuple[int, int]:
    """Return the least and the greatest base reserve that the AMM trades at."""
    least = proportion(sqrt_k, PERCENTAGE_PRECISION, concentration)
    return least, proportion(sqrt_k, concentration, PERCENTAGE_PRECISION)


def spread_reserves(amm: AMM, direction: Direction) -> tuple[int, int]:
    """Return the base and quote reserve that a taker of this side trades against."""
    if direction is Direction.LONG:
        return amm.ask_base_asset_reserve, amm.ask_quote_asset_reserve
    return amm.bid_base_asset_reserve, amm.bid_quote_asset_reserve


def _moved_reserves(amm: AMM, spread: int) -> tuple[int, int]:
    """Return base and quote reserve with the price moved by `spread` (1e6; half of it on the quote reserve)."""
    quote = amm.quote_asset_reserve
    if abs(spread) > 1:
        quote += div(quote, div(PERCENTAGE_PRECISION, div(spread, 2)))
    return amm.sqrt_k**2 // quote, quote


def refresh_spread_reserves(amm: AMM) -> None:
    """Work out the ask and bid reserves from the reserves and the spreads."""
    ask_base, ask_quote = _moved_reserves(amm, amm.long_spread + amm.reference_price_offset)
    bid_base, bid_quote = _moved_reserves(amm, -amm.short_spread + amm.reference_price_offset)
    amm.ask_base_asset_reserve = min(ask_base, amm.base_asset_reserve)
    amm.ask_quote_asset_reserve = max(ask_quote, amm.quote_asset_reserve)
    amm.bid_base_asset_reserve = max(bid_base, amm.base_asset_reserve)
    amm.bid_quote_asset_reserve = min(bid_quote, amm.quote_asset_reserve)


def refresh_spreads(amm: AMM) -> None:
    """Set the spreads as the program does at update intensity 0 (half the base spread on each side)."""
    amm.long_spread = amm.short_spread = amm.base_spread // 2
    amm.reference_price_offset = 0
    refresh_spread_reserves(amm)


def base_to_price(amm: AMM, price: int, direction: Direction) -> tuple[int, Direction]:
    """Return the base amount that brings the taker's side of the curve to `price`, and the side that it takes."""
    target = isqrt(amm.sqrt_k**2 * PRICE_PRECISION // price * amm.peg_multiplier // PRICE_PRECISION)
    before = spread_reserves(amm, direction)[0] if amm.base_spread > 0 else amm.base_asset_reserve
    if target > before:
        return min(target - before, U64_MAX), Direction.SHORT
    return min(before - target, U64_MAX), Direction.LONG


def available_liquidity(amm: AMM, direction: Direction) -> int:
    """Return the most that one fill may take: a fraction of the reserve, and half of what the side has left."""
    share = min(amm.base_asset_reserve // amm.max_fill_reserve_fraction, U64_MAX)
    if direction is Direction.LONG:
        side = max(amm.base_asset_reserve - amm.min_base_asset_reserve, 0) // 2
    else:
        side = max(amm.max_base_asset_reserve - amm.base_asset_reserve, 0) // 2
    return standardize_base(min(share, side), amm.order_step_size)


def _quote_amount(reserve: int, peg: int) -> int:
    return reserve * peg // (BASE_PRECISION * PRICE_PRECISION // 10**6)


def swap_base(amm: AMM, base: int, direction: Direction) -> tuple[int, int]:
    """Trade `base` on the curve and move the reserves.

    Returns:
        Quote that the taker pays (long) or gets (short), and the AMM's surplus over its plain curve; both 1e6.
    """
    removed = direction is Direction.LONG
    delta = -base if removed else base
    spread_base, spread_quote = spread_reserves(amm, direction)
    spread_change = abs(amm.sqrt_k**2 // (spread_base + delta) - spread_quote)
    quote = _quote_amount(spread_change + (1 if removed else 0), amm.peg_multiplier) + (1 if removed else 0)

    new_base = amm.base_asset_reserve + delta
    new_quote = amm.sqrt_k**2 // new_base
    plain = _quote_amount(abs(new_quote - amm.quote_asset_reserve), amm.peg_multiplier) + (1 if removed else 0)
    amm.base_asset_reserve, amm.quote_asset_reserve = new_base, new_quote
    return quote, abs(plain - quote)
