"""Funding: payments to and from positions, and the hourly rate.

Rates in 1e9 (quote per base, times a thousand); payments in 1e6.
"""

from __future__ import annotations

from solders.pubkey import Pubkey

from router.localnet.drift.averages import new_average, update_mark_average, update_oracle_average
from router.localnet.drift.curve import ask_price, bid_price
from router.localnet.drift.enums import ContractTier, Direction, PerpOperation
from router.localnet.drift.events import funding_payment_record, funding_rate_record
from router.localnet.drift.execution import Execution
from router.localnet.drift.layouts import PerpPosition, User
from router.localnet.drift.maps import Maps
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import ONE_DAY, ONE_HOUR, PERCENTAGE_PRECISION, clamp, div
from router.localnet.drift.positions import add_quote_and_break_even, find_position

__all__ = ["funding_owed", "settle_funding", "total_fee_lower_bound", "update_funding_rate"]

_RATE_SCALE = 1_000
_RATE_PRECISION = 10**9
_OFFSET = 5_000
"""1/5000 of the price a day is added: 7.3 % a year."""
_LIMIT_PRECISION = 10**12


def _payment(rate_change: int, base: int) -> int:
    """Return what a position gets for a change of rate, base and payment in 1e9."""
    size = abs(rate_change) * abs(base) // 10**6 // _RATE_SCALE
    return (-size if base > 0 else size) * (1 if rate_change > 0 else -1)


def funding_owed(position: PerpPosition, market: PerpMarket) -> int:
    """Return the funding that the position has not been paid yet (1e6, negative: it owes)."""
    amm = market.amm
    rate = amm.cumulative_funding_rate_long if position.base_asset_amount > 0 else amm.cumulative_funding_rate_short
    change = rate - position.last_cumulative_funding_rate
    return div(_payment(change, position.base_asset_amount), 1_000) if change else 0


def settle_funding(run: Execution, user: User, user_key: Pubkey, market: PerpMarket) -> None:
    """Pay a position the funding since its last payment."""
    position = find_position(user, market.market_index)
    if position is None or position.base_asset_amount == 0:
        return
    amm = market.amm
    rate = amm.cumulative_funding_rate_long if position.base_asset_amount > 0 else amm.cumulative_funding_rate_short
    if rate == position.last_cumulative_funding_rate:
        return
    payment = funding_owed(position, market)
    user.cumulative_perp_funding += payment
    run.emit(
        funding_payment_record(
            run.now,
            user_key,
            user.authority,
            market.market_index,
            payment,
            base=position.base_asset_amount,
            rate_before=position.last_cumulative_funding_rate,
            amm=amm,
        )
    )
    position.last_cumulative_funding_rate = rate
    add_quote_and_break_even(position, market, payment)
    amm.net_unsettled_funding_pnl -= payment


def total_fee_lower_bound(market: PerpMarket) -> int:
    """Return the fees that the market keeps: half of the exchange fees (1e6)."""
    return market.amm.total_exchange_fee // 2


def _seconds_to_update(now: int, last: int, period: int) -> int:
    """Return how long until the next rate: on the hour, unless the last one came too late."""
    wait = period
    if period > 1:
        delay = last % period
        if delay > period // 3:
            wait = 2 * period - delay
        elif delay != 0:
            wait = period - delay
        if wait > 2 * period:
            wait -= period
    return max(wait - (now - last), 0)


def _blocked(maps: Maps, market: PerpMarket, middle: int) -> bool:
    """Whether oracle or AMM are in no state to set a rate."""
    amm = market.amm
    average = amm.historical_oracle_data.last_oracle_price_twap_5min
    spread = abs(div((middle - average) * PERCENTAGE_PRECISION, middle))
    limit = max(
        maps.state.oracle_guard_rails.price_divergence.mark_oracle_percent_divergence, PERCENTAGE_PRECISION // 10
    )
    return (
        max(maps.run.slot - amm.last_update_slot, 0) > amm.funding_period
        or not maps.judge_perp(market, log=False).settles
        or spread > limit
        or bool(market.paused_operations & PerpOperation.UPDATE_FUNDING)
    )


def update_funding_rate(maps: Maps, market: PerpMarket, *, paused: bool, middle: int) -> None:
    """Set a new rate when an hour has passed.

    Args:
        maps: markets and oracles.
        market: to be changed.
        paused: on the exchange or the market.
        middle: the AMM's price before the trade.
    """
    run, amm = maps.run, market.amm
    due = _seconds_to_update(run.now, amm.last_funding_rate_ts, amm.funding_period) == 0
    if _blocked(maps, market, middle) or paused or not due:
        return
    oracle_average = update_oracle_average(market, run.now, maps.price(amm.oracle), middle)
    trade, direction = middle, None
    if amm.long_spread > amm.short_spread:
        trade, direction = ask_price(amm, middle), Direction.LONG
    elif amm.long_spread < amm.short_spread:
        trade, direction = bid_price(amm, middle), Direction.SHORT
    mark = update_mark_average(market, run.now, trade, direction)
    periods = div(24 * ONE_HOUR, max(ONE_HOUR, amm.funding_period))
    spread = mark - oracle_average + div(abs(oracle_average), _OFFSET)
    divisor = {ContractTier.A: 33, ContractTier.B: 33, ContractTier.C: 20}.get(ContractTier(market.contract_tier), 10)
    most = div(oracle_average, divisor)
    rate = div(clamp(spread, -most, most) * _RATE_SCALE, periods)
    long_rate, short_rate, revenue = _both_sides(run, market, rate)
    amm.cumulative_funding_rate_long += long_rate
    amm.cumulative_funding_rate_short += short_rate
    amm.last_funding_rate, amm.last_funding_rate_long, amm.last_funding_rate_short = rate, long_rate, short_rate
    amm.last_24h_avg_funding_rate = new_average(
        rate, run.now, amm.last_24h_avg_funding_rate, amm.last_funding_rate_ts, ONE_DAY
    )
    amm.net_unsettled_funding_pnl -= revenue
    amm.last_funding_rate_ts = run.now
    record_id = market.next_funding_rate_record_id
    market.next_funding_rate_record_id += 1
    run.emit(
        funding_rate_record(
            run.now,
            market.market_index,
            amm,
            record_id=record_id,
            rates=(rate, long_rate, short_rate),
            oracle_average=oracle_average,
            mark=mark,
        )
    )
    amm.net_revenue_since_last_funding = 0


def _both_sides(run: Execution, market: PerpMarket, rate: int) -> tuple[int, int, int]:
    """Return the rates of longs and shorts and the exchange's revenue; its loss is capped by the fees it has."""
    amm = market.amm
    net = amm.base_asset_amount_with_amm + amm.base_asset_amount_with_unsettled_lp
    revenue = -div(_payment(rate, net), 1_000)
    if revenue >= 0:
        amm.total_fee_minus_distributions += revenue
        amm.net_revenue_since_last_funding += revenue
        return rate, rate, revenue
    bound = total_fee_lower_bound(market)
    pool = max(amm.total_fee_minus_distributions - (bound + amm.total_liquidation_fee - amm.total_fee_withdrawn), 0)
    limit = -(pool // 3)
    capped = rate
    if revenue < limit:
        payers = amm.base_asset_amount_long if rate > 0 else amm.base_asset_amount_short
        receivers = amm.base_asset_amount_long if rate < 0 else amm.base_asset_amount_short
        total = limit - abs(div(_payment(rate, payers), 1_000))
        capped = div((total + 1 if total < 0 else total) * _LIMIT_PRECISION, receivers) if receivers else 0
    paid = max(revenue, limit)
    left = amm.total_fee_minus_distributions + paid
    run.check(paid == 0 or left >= bound, "InvalidFundingProfitability")
    amm.total_fee_minus_distributions = left
    amm.net_revenue_since_last_funding -= abs(paid)
    return (capped if rate < 0 else rate), (capped if rate > 0 else rate), revenue
