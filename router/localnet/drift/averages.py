"""Time-weighted averages of oracle and mark prices that a market keeps, all in 1e6."""

from __future__ import annotations

from router.localnet.drift.curve import ask_price, bid_price, reserve_price
from router.localnet.drift.enums import ContractTier, Direction
from router.localnet.drift.market_layouts import AMM, PerpMarket
from router.localnet.drift.numbers import (
    FIVE_MINUTES,
    ONE_DAY,
    ONE_HOUR,
    PERCENTAGE_PRECISION,
    QUOTE_PRECISION,
    clamp,
    div,
)
from router.localnet.drift.oracles import OraclePrice

__all__ = [
    "clamp_denominator",
    "count_trade",
    "new_average",
    "rolling_sum",
    "sanitized",
    "update_mark_average",
    "update_oracle_average",
    "weighted_average",
]

_DEFAULT_CLAMP = 3
_ONE_MINUTE = 60


def rolling_sum(before: int, added: int, elapsed: int, window: int) -> int:
    """Return the sum over a window that slides on by `elapsed`."""
    return before * max(0, window - elapsed) // window + added


def weighted_average(newer: int, older: int, newer_weight: int, older_weight: int) -> int:
    """Return the weighted average, pushed one unit toward the heavier product so that it never stands still."""
    if newer_weight == 0:
        return older
    if older_weight == 0:
        return newer
    newer_part, older_part = newer * newer_weight, older * older_weight
    bias = 0
    if older_weight > 1:
        bias = (older_part > newer_part) - (older_part < newer_part)
    average = div(newer_part + older_part, newer_weight + older_weight)
    return average if average == 0 and bias < 0 else average + bias


def new_average(price: int, now: int, average: int, then: int, period: int) -> int:
    """Return an average over `period` seconds moved on from `then` to `now`."""
    elapsed = max(0, now - then)
    return weighted_average(price, average, elapsed, max(1, period - elapsed))


def clamp_denominator(market: PerpMarket) -> int:
    """Return which fraction of the average a new price may be away from it."""
    tiers = {ContractTier.A: 10, ContractTier.B: 5, ContractTier.C: 2}
    return tiers.get(ContractTier(market.contract_tier), _DEFAULT_CLAMP)


def sanitized(price: int, average: int, denominator: int) -> int:
    """Return the price held inside the band around its average."""
    if average == 0 or denominator == 0:
        return price
    band = abs(div(average, denominator))
    return clamp(price, average - band, average + band)


def _oracle_average(amm: AMM, now: int, price: int, *, period: int, mark: int, average: int) -> int:
    then = amm.historical_oracle_data.last_oracle_price_twap_ts
    elapsed = max(1 if period == 0 else 0, now - then)
    if amm.last_mark_price_twap_ts > then:
        # The oracle was not usable for a while: what it missed is taken from the mark price.
        missed = amm.last_mark_price_twap_ts - then
        price = weighted_average(mark, price, missed, max(1, period - missed))
    return weighted_average(price, average, elapsed, max(0, period - elapsed))


def _confidence(amm: AMM, confidence: int, middle: int, now: int) -> int:
    """Return the confidence as a part of the price, which shrinks slowly only."""
    elapsed = max(0, now - amm.historical_oracle_data.last_oracle_price_twap_ts)
    floor = amm.last_oracle_conf_pct
    if elapsed > 0:
        floor -= floor // max(21 - elapsed, 5)
    return max(confidence * PERCENTAGE_PRECISION // middle, floor)


def update_oracle_average(market: PerpMarket, now: int, quote: OraclePrice, middle: int) -> int:
    """Take a new oracle price into the averages; return the hourly one.

    Args:
        market: to be changed.
        now: seconds.
        quote: the oracle's price.
        middle: the AMM's reserve price.
    """
    amm, data = market.amm, market.amm.historical_oracle_data
    band = div(middle, 4_000)
    if middle > quote.price:
        normalised = min(max(middle - band, quote.price), quote.price + quote.confidence)
    else:
        normalised = max(min(middle + band, quote.price), quote.price - quote.confidence)
    capped = sanitized(normalised, data.last_oracle_price_twap, clamp_denominator(market))
    if capped <= 0 or normalised <= 0:
        return data.last_oracle_price_twap
    hourly = _oracle_average(
        amm,
        now,
        capped,
        period=amm.funding_period,
        mark=amm.last_mark_price_twap,
        average=data.last_oracle_price_twap,
    )
    five_minutes = _oracle_average(
        amm,
        now,
        capped,
        period=FIVE_MINUTES,
        mark=amm.last_mark_price_twap_5min,
        average=data.last_oracle_price_twap_5min,
    )
    amm.last_oracle_normalised_price = capped
    data.last_oracle_price = quote.price
    amm.last_oracle_conf_pct = _confidence(amm, quote.confidence, middle, now)
    data.last_oracle_delay = quote.delay
    amm.last_oracle_reserve_price_spread_pct = div((middle - quote.price) * PERCENTAGE_PRECISION, middle)
    data.last_oracle_price_twap_5min, data.last_oracle_price_twap = five_minutes, hourly
    elapsed = max(1, now - data.last_oracle_price_twap_ts)
    amm.oracle_std = rolling_sum(amm.oracle_std, abs(normalised - hourly), max(ONE_HOUR, elapsed), ONE_HOUR)
    data.last_oracle_price_twap_ts = now
    return hourly


def _best_prices(amm: AMM, trade: int, direction: Direction | None) -> tuple[int, int]:
    """Return bid and ask as a trade at `trade` lets one guess."""
    oracle = amm.historical_oracle_data.last_oracle_price
    middle = reserve_price(amm)
    amm_bid, amm_ask = bid_price(amm, middle), ask_price(amm, middle)
    premium = trade - oracle
    bid = ask = trade
    if premium > 0:
        bid = oracle - min(amm.base_spread, amm.short_spread // 2, premium)
    if premium < 0:
        ask = oracle + min(amm.base_spread, amm.long_spread // 2, -premium)
    bid, ask = max(bid, amm_bid), min(ask, amm_ask)
    if direction is Direction.LONG:
        return bid, max(trade, bid)
    if direction is Direction.SHORT:
        return min(trade, ask), ask
    inside = min(max(trade, amm_bid), amm_ask)
    return inside, inside


def update_mark_average(market: PerpMarket, now: int, trade: int, direction: Direction | None) -> int:
    """Take a trade's price into the mark averages; return the hourly one."""
    amm = market.amm
    bid, ask = _best_prices(amm, trade, direction)
    denominator = clamp_denominator(market)
    capped_bid = sanitized(bid, amm.last_bid_price_twap, denominator)
    capped_ask = sanitized(ask, amm.last_ask_price_twap, denominator)
    last_bid, last_ask, then = amm.last_bid_price_twap, amm.last_ask_price_twap, amm.last_mark_price_twap_ts
    data = amm.historical_oracle_data
    behind = data.last_oracle_price_twap_ts - then
    if behind > max(div(amm.funding_period, 60), _ONE_MINUTE):
        rest = max(0, amm.funding_period - behind)
        last_bid = weighted_average(data.last_oracle_price_twap, last_bid, behind, rest)
        last_ask = weighted_average(data.last_oracle_price_twap, last_ask, behind, rest)
    amm.last_bid_price_twap = new_average(capped_bid, now, last_bid, then, amm.funding_period)
    amm.last_ask_price_twap = new_average(capped_ask, now, last_ask, then, amm.funding_period)
    middle = (amm.last_bid_price_twap + amm.last_ask_price_twap) // 2
    elapsed = max(1, now - then)
    change = abs(trade - amm.last_mark_price_twap)
    amm.mark_std = rolling_sum(amm.mark_std, change, max(ONE_HOUR, elapsed), ONE_HOUR)
    amm.last_mark_price_twap = middle
    amm.last_mark_price_twap_5min = new_average(
        (capped_bid + capped_ask) // 2, now, amm.last_mark_price_twap_5min, then, FIVE_MINUTES
    )
    amm.last_mark_price_twap_ts = now
    return middle


def count_trade(amm: AMM, quote: int, direction: Direction, now: int) -> None:
    """Count a trade's quote (1e6) into volume and intensity."""
    elapsed = max(1, now - amm.last_trade_ts)
    long_quote, short_quote = (quote, 0) if direction is Direction.LONG else (0, quote)
    amm.long_intensity_count = weighted_average(
        amm.long_intensity_count, long_quote // QUOTE_PRECISION, elapsed, ONE_HOUR
    )
    amm.long_intensity_volume = rolling_sum(amm.long_intensity_volume, long_quote, elapsed, ONE_HOUR)
    amm.short_intensity_count = weighted_average(
        amm.short_intensity_count, short_quote // QUOTE_PRECISION, elapsed, ONE_HOUR
    )
    amm.short_intensity_volume = rolling_sum(amm.short_intensity_volume, short_quote, elapsed, ONE_HOUR)
    amm.volume_24h = rolling_sum(amm.volume_24h, quote, elapsed, ONE_DAY)
    amm.last_trade_ts = now
