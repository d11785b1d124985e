"""What a market recomputes before every order: funding, and the price that follows the oracle slowly."""

from __future__ import annotations

import struct

from solders.pubkey import Pubkey

from router.localnet.mango.book import BookSide
from router.localnet.mango.events import perp_update_funding_log
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import PerpMarket, StablePriceModel
from router.localnet.mango.numbers import ONE, add, div, f32, from_int, mul, to_float
from router.localnet.mango.oracles import OracleState, check_confidence, check_staleness, oracle_state
from router.localnet.mango.positions import lot_to_native_price, native_price_to_lot

__all__ = ["market_oracle", "reset_stable_price", "update_funding"]

_DAY_SECONDS = 86_400
_LONGEST_STEP_SECONDS = 3_600
_DELAYS = struct.Struct("<24d")
_SHORTEST_UPDATE_SECONDS = 10
_LONGEST_UPDATE_SECONDS = 600


def market_oracle(run: Execution, market: PerpMarket, oracle: Pubkey, *, fresh: bool) -> OracleState:
    """Return what the market's oracle says.

    Raises:
        ModelRefusal: it is another oracle, an uncertain price or, where it has to be `fresh`, an old one.
    """
    run.check(market.oracle == oracle, "RequireKeysEqViolated")
    state = oracle_state(run, oracle, market.base_decimals)
    if fresh:
        check_staleness(run, state, market.oracle_config)
    check_confidence(run, state, market.oracle_config)
    return state


def update_funding(run: Execution, market: PerpMarket, bids: BookSide, asks: BookSide, oracle: OracleState) -> None:
    """Apply funding since the last update, for an hour at most, and move the slow price; once a second.

    The daily rate is how far the middle of the book, at the market's depth, is from the oracle.
    """
    if run.now <= market.funding_last_updated:
        return
    rate = _funding_rate(run, market, bids, asks, oracle.price)
    seconds = min(run.now - market.funding_last_updated, _LONGEST_STEP_SECONDS)
    share = div(from_int(seconds), from_int(_DAY_SECONDS))
    delta = mul(mul(mul(oracle.price, from_int(market.base_lot_size)), rate), share)
    market.long_funding = add(market.long_funding, delta)
    market.short_funding = add(market.short_funding, delta)
    market.funding_last_updated = run.now
    _follow(market.stable_price_model, run.now, to_float(oracle.price))
    run.emit(perp_update_funding_log(market, oracle, rate))


def _funding_rate(run: Execution, market: PerpMarket, bids: BookSide, asks: BookSide, oracle_price: int) -> int:
    oracle_lots = native_price_to_lot(market, oracle_price)
    bid = bids.impact_price(market.impact_quantity, run.now, oracle_lots)
    ask = asks.impact_price(market.impact_quantity, run.now, oracle_lots)
    if bid is None:
        return 0 if ask is None else market.min_funding
    if ask is None:
        return market.max_funding
    difference = div(lot_to_native_price(market, (bid + ask) // 2), oracle_price) - ONE
    return max(market.min_funding, min(market.max_funding, difference))


def reset_stable_price(model: StablePriceModel, price: float, now: int) -> None:
    """Let the slow price begin anew at a price."""
    model.stable_price = price
    model.delay_prices = _DELAYS.pack(*[price] * 24)
    model.delay_accumulator_price = 0.0
    model.delay_accumulator_time = 0
    model.last_update_timestamp = now
    model.reset_on_nonzero_price = 0 if price > 0 else 1


def _clamped(target: float, previous: float, growth: float) -> float:
    return max(previous * (1.0 - growth), min(previous * (1.0 + growth), target))


def _follow(model: StablePriceModel, now: int, oracle_price: float) -> None:
    """Move the slow price towards the oracle.

    It moves by a limited fraction a second, and less the further it is from the price of a day ago, which itself is
    made of hourly averages.
    """
    if model.reset_on_nonzero_price == 1 and oracle_price > 0:
        reset_stable_price(model, oracle_price, now)
    elapsed = max(0, now - model.last_update_timestamp)
    if elapsed < _SHORTEST_UPDATE_SECONDS:
        return
    counted = float(min(elapsed, _LONGEST_UPDATE_SECONDS))
    model.last_update_timestamp = now
    model.delay_accumulator_time += elapsed
    model.delay_accumulator_price += oracle_price * counted
    delays = list(_DELAYS.unpack(model.delay_prices))
    interval = now // model.delay_interval_seconds % len(delays)
    if interval != model.last_delay_interval_index:
        _next_interval(model, delays, interval, whole=elapsed > len(delays) * model.delay_interval_seconds)
    delayed, stable = delays[interval], model.stable_price
    fraction = stable / delayed if delayed >= stable else delayed / stable
    growth = f32(model.stable_growth_limit) * fraction * fraction * counted
    model.stable_price = _clamped(oracle_price, stable, growth)


def _next_interval(model: StablePriceModel, delays: list[float], interval: int, *, whole: bool) -> None:
    """Store the average of the interval that is over in its place, and in those that were skipped."""
    last = model.last_delay_interval_index
    average = model.delay_accumulator_price / float(model.delay_accumulator_time)
    price = _clamped(average, delays[last - 1], f32(model.delay_growth_limit))
    if whole:
        changed = [*range(len(delays))]
    elif interval > last:
        changed = [*range(last, interval)]
    else:
        changed = [*range(last, len(delays)), *range(interval)]
    for index in changed:
        delays[index] = price
    model.delay_prices = _DELAYS.pack(*delays)
    model.delay_accumulator_price = 0.0
    model.delay_accumulator_time = 0
    model.last_delay_interval_index = interval
