"""The AMM's arithmetic, integer for integer as the program rounds it.

Sources, version 2.84 of the program: `math/amm.rs` (calculate_swap_output, calculate_quote_asset_amount_swapped,
calculate_amm_available_liquidity), `math/amm_spread.rs` (calculate_spread_reserves), `controller/amm.rs`
(update_spreads), `math/fees.rs` (calculate_taker_fee), `math/orders.rs` (price bands, standardising).

What is exact and what is not: before every fill the program updates the market. With `curve_update_intensity` 0 the
reserves stand and the spread is half the base spread on each side: `fill_reserves` gives what the program will use.
Above 0 the program first moves the peg towards the oracle as far as its fee budget allows and recomputes the spread;
both depend on the slot it happens in. The reserve price then lands between the stored one and the oracle's, so both
ends are priced and the one worse for the taker is taken.
"""

from __future__ import annotations

import msgspec

from providers.drift.constants import (
    AMM_RESERVE_PRECISION,
    MARGIN_PRECISION,
    PERCENTAGE_PRECISION,
    QUOTE_PRECISION,
    ContractTier,
    Direction,
    MarketStatus,
)
from providers.drift.layouts import FeeTier, PerpMarket

__all__ = [
    "Reserves",
    "available_liquidity",
    "breaches_price_bands",
    "fill_price_of",
    "fill_quote_amount",
    "fill_reserves",
    "has_too_much_drawdown",
    "reserve_price",
    "round_price",
    "round_size",
    "swap_quote_amount",
    "taker_fee",
]

# Numerators of the guards in `PerpMarket::has_too_much_drawdown`: 25 dollars of loss per unit, and the part of the fee
# pool that may be lost in an hour, by tier.
_DRAWDOWN_UNIT = -25 * QUOTE_PRECISION
_DRAWDOWN_DIVISOR = {ContractTier.A: 50, ContractTier.B: 33, ContractTier.C: 25}
_DRAWDOWN_DIVISOR_ELSE = 20
_FEE_ADJUSTMENT_MAX = 100


class Reserves(msgspec.Struct, frozen=True):
    """One side of the curve: what a taker trades against. Reserves in AMM precision (1e9), peg in 1e6."""

    base: int
    quote: int
    sqrt_k: int
    peg: int

    def price(self) -> int:
        """Return the marginal price in price precision (1e6), rounded down."""
        return self.quote * self.peg // self.base


def _truncated(numerator: int, denominator: int) -> int:
    """Divide and round toward zero, as the program's signed division does."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def round_size(size: int, step: int) -> int:
    """Round a base size down to a multiple of `step` (`standardize_base_asset_amount`)."""
    return size - size % step


def round_price(price: int, tick: int, direction: Direction) -> int:
    """Round a limit price to a tick so that it never widens: down to buy, up to sell (`standardize_price`)."""
    rest = price % tick
    if rest == 0:
        return price
    return price - rest if direction is Direction.LONG else price + tick - rest


def reserve_price(market: PerpMarket) -> int:
    """Return the AMM's price without spread, price precision, rounded down (`calculate_price`)."""
    return market.quote_asset_reserve * market.peg_multiplier // market.base_asset_reserve


def _spread_reserves(market: PerpMarket, direction: Direction, spread: int, peg: int) -> Reserves:
    """Shift the reserves by half of `spread` (1e6 is all of the price); see `calculate_spread_reserves`."""
    signed = spread if direction is Direction.LONG else -spread
    quote = market.quote_asset_reserve
    delta = 0
    if abs(signed) > 1:
        delta = _truncated(quote, _truncated(PERCENTAGE_PRECISION, _truncated(signed, 2)))
    quote += delta
    base = market.sqrt_k * market.sqrt_k // quote
    if direction is Direction.LONG:
        base, quote = min(base, market.base_asset_reserve), max(quote, market.quote_asset_reserve)
    else:
        base, quote = max(base, market.base_asset_reserve), min(quote, market.quote_asset_reserve)
    return Reserves(base, quote, market.sqrt_k, peg)


def _stored_reserves(market: PerpMarket, direction: Direction) -> Reserves:
    if direction is Direction.LONG:
        return Reserves(
            market.ask_base_asset_reserve, market.ask_quote_asset_reserve, market.sqrt_k, market.peg_multiplier
        )
    return Reserves(market.bid_base_asset_reserve, market.bid_quote_asset_reserve, market.sqrt_k, market.peg_multiplier)


def fill_reserves(market: PerpMarket, direction: Direction, oracle_price: int) -> tuple[Reserves, ...]:
    """Return the side of the curve that a fill will meet: one entry where exact, else both ends of what it can be.

    Args:
        market: as stored.
        direction: of the taker.
        oracle_price: price precision, positive.
    """
    if market.status in {MarketStatus.SETTLEMENT, MarketStatus.DELISTED}:
        return (_stored_reserves(market, direction),)
    if market.curve_update_intensity == 0:
        return (_spread_reserves(market, direction, market.base_spread // 2, market.peg_multiplier),)
    # The peg at which the reserve price is the oracle's, rounded against the taker, under the wider of both spreads.
    numerator = oracle_price * market.base_asset_reserve
    peg = numerator // market.quote_asset_reserve
    if direction is Direction.LONG and numerator % market.quote_asset_reserve:
        peg += 1
    stored_spread = market.long_spread if direction is Direction.LONG else market.short_spread
    spread = max(stored_spread, market.base_spread // 2)
    return (_stored_reserves(market, direction), _spread_reserves(market, direction, spread, max(peg, 1)))


def swap_quote_amount(reserves: Reserves, size: int, direction: Direction) -> int | None:
    """Return the quote (1e6) that `size` (1e9) costs or brings; null when the side holds less than `size`.

    A buyer pays one unit of reserve and one of quote more, as in `calculate_quote_asset_amount_swapped`.
    """
    k = reserves.sqrt_k * reserves.sqrt_k
    if direction is Direction.LONG:
        if size >= reserves.base:
            return None
        change = k // (reserves.base - size) - reserves.quote + 1
        return change * reserves.peg // AMM_RESERVE_PRECISION + 1
    change = reserves.quote - k // (reserves.base + size)
    return change * reserves.peg // AMM_RESERVE_PRECISION


def fill_quote_amount(sides: tuple[Reserves, ...], size: int, direction: Direction) -> int | None:
    """Return the worst of `swap_quote_amount` over the sides: the most for a buyer, the least for a seller."""
    amounts = [swap_quote_amount(side, size, direction) for side in sides]
    known = [amount for amount in amounts if amount is not None]
    if len(known) != len(amounts):
        return None
    return max(known) if direction is Direction.LONG else min(known)


def available_liquidity(market: PerpMarket, direction: Direction) -> int:
    """Return the most base that one fill takes from the AMM: a share of the reserves, at most half the side's room."""
    share = market.base_asset_reserve // max(market.max_fill_reserve_fraction, 1)
    if direction is Direction.LONG:
        room = max(market.base_asset_reserve - market.min_base_asset_reserve, 0) // 2
    else:
        room = max(market.max_base_asset_reserve - market.base_asset_reserve, 0) // 2
    return round_size(min(share, room), market.order_step_size)


def taker_fee(quote_amount: int, tier: FeeTier, fee_adjustment: int) -> int:
    """Return the taker's fee in quote precision, rounded up; `fee_adjustment` is in percent of the fee, -100 to 100.

    A referee's discount is left out: it depends on the referrer, and without it the fee is never too low.
    """
    fee = -(-quote_amount * tier.fee_numerator // tier.fee_denominator)
    if fee_adjustment < 0:
        return max(fee - fee * -fee_adjustment // _FEE_ADJUSTMENT_MAX, 0)
    return fee - (-fee * fee_adjustment // _FEE_ADJUSTMENT_MAX)


def has_too_much_drawdown(market: PerpMarket) -> bool:
    """Whether the AMM has lost too much since the last funding update to take a fill (`has_too_much_drawdown`)."""
    units = 400 if market.contract_tier <= ContractTier.B else 200
    if market.net_revenue_since_last_funding > _DRAWDOWN_UNIT * units:
        return False
    percent = _truncated(
        market.net_revenue_since_last_funding * PERCENTAGE_PRECISION, max(market.total_fee_minus_distributions, 1)
    )
    divisor = _DRAWDOWN_DIVISOR.get(ContractTier(market.contract_tier), _DRAWDOWN_DIVISOR_ELSE)
    return percent <= -(PERCENTAGE_PRECISION // divisor)


def breaches_price_bands(
    market: PerpMarket, *, fill_price: int, oracle_price: int, direction: Direction, twap_divergence: int
) -> bool:
    """Whether the program would revert a fill at `fill_price` as too far from the oracle (`PriceBandsBreached`).

    Prices in price precision; `twap_divergence` is the guard rail for the five minute average, 1e6 is all of it.
    """
    twap = market.last_oracle_price_twap_5min
    if direction is Direction.LONG:
        if fill_price < oracle_price and fill_price < twap:
            return False
        from_oracle, from_twap = max(fill_price - oracle_price, 0), max(fill_price - twap, 0)
    else:
        if fill_price > oracle_price and fill_price > twap:
            return False
        from_oracle, from_twap = max(oracle_price - fill_price, 0), max(twap - fill_price, 0)
    if from_oracle * MARGIN_PRECISION // max(oracle_price, 1) >= market.margin_ratio_initial:
        return True
    return from_twap * PERCENTAGE_PRECISION // max(twap, 1) >= twap_divergence


def fill_price_of(quote_amount: int, size: int) -> int:
    """Return the average price of a fill in price precision, rounded down (`calculate_fill_price`)."""
    return quote_amount * AMM_RESERVE_PRECISION // size
