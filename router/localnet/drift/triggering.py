"""Setting a trigger order off: it becomes a market order with an auction of its own (build 2.84)."""

from __future__ import annotations

import struct

from router.localnet.drift.enums import (
    ContractTier,
    Direction,
    ExchangeStatus,
    MarketType,
    OrderAction,
    OrderExplanation,
    OrderStatus,
    TriggerCondition,
    UserStatus,
)
from router.localnet.drift.events import OrderParty, order_action_record
from router.localnet.drift.execution import Execution
from router.localnet.drift.handlers import check_not_paused, may_sign, take_state
from router.localnet.drift.layouts import Order, User, ValidityGuardRails
from router.localnet.drift.maps import Maps, load_maps, perp_confidence_multiplier
from router.localnet.drift.margin import MarginKind, account_margin
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import PERCENTAGE_PRECISION, PRICE_PRECISION, ceil_div, clamp, div
from router.localnet.drift.oracles import OracleValidity, validity
from router.localnet.drift.order_rules import direction_of, must_be_triggered, trigger_holds, was_triggered
from router.localnet.drift.orders import cancel_order, check_not_liquidated, copy_order, pay_flat_fee, touch
from router.localnet.drift.positions import change_open_amount, find_position, worst_case_base

__all__ = ["TRIGGER_RAILS", "trigger_order"]

_ARGUMENTS_AT = 8
_LEAST_AUCTION_SLOTS = 30
_APART_S = 60

TRIGGER_RAILS = ValidityGuardRails(
    slots_before_stale_for_amm=10,
    slots_before_stale_for_margin=120,
    confidence_interval_max_size=20_000,
    too_volatile_ratio=5,
)
"""What a price is judged by when an order is triggered: the program's own defaults, not the exchange's settings."""

# The buffer at the end of an auction, as parts of the hourly average: at least one of the first, at most of the second.
_END_DIVISORS = {
    ContractTier.A: (1_000, 50),
    ContractTier.B: (1_000, 20),
    ContractTier.C: (500, 20),
    ContractTier.SPECULATIVE: (100, 10),
}
_WIDE_END_DIVISORS = (50, 5)


def trigger_order(run: Execution) -> int:
    """Set off somebody's order whose trigger price the oracle has passed; the owner pays the filler a flat fee."""
    (order_id,) = struct.unpack_from("<I", run.call.data, _ARGUMENTS_AT)
    state = take_state(run)
    authority = run.signer("authority")
    filler_meta, filler = run.take_account(User, "filler")
    user_meta, user = run.take_account(User, "user")
    run.check_writable(filler_meta, "filler")
    if not may_sign(filler, authority):
        raise run.refuse("ConstraintRaw", "filler")
    run.check_writable(user_meta, "user")
    check_not_paused(run, state, ExchangeStatus.ALL)
    maps = load_maps(run, state)
    order = next((order for order in user.orders if order.order_id == order_id), None)
    if order is None:
        run.log(f"order_id not found {order_id}")
        return 10_000
    market = _checked(maps, user, order)
    position = find_position(user, order.market_index)
    if position is None:
        raise run.refuse("UserHasNoPositionInMarket")
    before = worst_case_base(position)
    _set_off(maps, user, order, market)
    change_open_amount(position, order.direction, order.base_asset_amount)
    own = user_meta.pubkey == filler_meta.pubkey
    reward = pay_flat_fee(maps, user, None if own else filler, market)
    run.emit(
        order_action_record(
            run.now,
            OrderAction.TRIGGER,
            OrderExplanation.NONE,
            taker=OrderParty(user_meta.pubkey, copy_order(order)),
            filler=filler_meta.pubkey,
            filler_reward=reward,
            trigger_fee=reward,
            oracle_price=maps.price(market.amm.oracle).price,
        )
    )
    grows = abs(worst_case_base(position)) > abs(before)
    if grows and not order.reduce_only and not account_margin(user, maps, MarginKind.INITIAL).met:
        short = OrderExplanation.INSUFFICIENT_FREE_COLLATERAL
        cancel_order(maps, user, user_meta.pubkey, order, short, filler=filler_meta.pubkey)
    touch(user, run.slot)
    return 45_000


def _checked(maps: Maps, user: User, order: Order) -> PerpMarket:
    """Refuse an order that cannot be set off now; return its market."""
    run = maps.run
    run.check(order.status == OrderStatus.OPEN, "OrderNotOpen", "Order not open")
    run.check(must_be_triggered(order), "OrderNotTriggerable", "Order is not triggerable")
    run.check(not was_triggered(order), "OrderNotTriggerable", "Order is already triggered")
    run.check(order.market_type == MarketType.PERP, "InvalidOrderMarketType", "Order must be a perp order")
    check_not_liquidated(user, maps)
    run.check(not user.status & UserStatus.BANKRUPT, "UserBankrupt")
    market = maps.perp_market(order.market_index)
    writable = any(meta.pubkey == market.pubkey and meta.is_writable for meta in run.call.accounts)
    run.check(writable, "UnableToLoadPerpMarketAccount")
    oracle = maps.price(market.amm.oracle)
    average = market.amm.historical_oracle_data.last_oracle_price_twap
    found = validity(oracle, average, TRIGGER_RAILS, perp_confidence_multiplier(market), run.log)
    run.check(found not in {OracleValidity.NON_POSITIVE, OracleValidity.TOO_VOLATILE}, "InvalidOracle")
    run.check(trigger_holds(order, oracle.price), "OrderDidNotSatisfyTriggerCondition")
    return market


def _set_off(maps: Maps, user: User, order: Order, market: PerpMarket) -> None:
    """Turn the order into one with an auction that begins now."""
    run = maps.run
    above = order.trigger_condition == TriggerCondition.ABOVE
    order.trigger_condition = TriggerCondition.TRIGGERED_ABOVE if above else TriggerCondition.TRIGGERED_BELOW
    order.slot = run.slot
    oracle = maps.price(market.amm.oracle).price
    start, end, duration = _auction(market, direction_of(order), oracle, order.price)
    run.log(f"new auction duration {duration} start price {start} end price {end}")
    order.auction_start_price, order.auction_end_price, order.auction_duration = start, end, duration
    user.open_auctions = min(user.open_auctions + 1, 255)
    user.has_open_auction = True


def _auction(market: PerpMarket, side: Direction, oracle: int, limit: int) -> tuple[int, int, int]:
    """Return start and end price (1e6) and slots of a triggered order's auction; `limit` 0 for none."""
    offsets = _start_offset(market, side), _end_offset(market, side, scale=2 if limit else 1)
    start, end = (oracle + offset for offset in offsets)
    if limit:
        bound = min if side is Direction.LONG else max
        start, end = bound(start, limit), bound(end, limit)
    safe = ContractTier(market.contract_tier) in {ContractTier.A, ContractTier.B}
    away = abs(end - start) * PERCENTAGE_PRECISION // oracle
    slots = clamp(ceil_div(away * (100 if safe else 60), PERCENTAGE_PRECISION // 100), 10, 180)
    return start, end, max(slots, _LEAST_AUCTION_SLOTS)


def _start_offset(market: PerpMarket, side: Direction) -> int:
    """Return where an auction starts, from the oracle: by the averages of the market's prices against the oracle's."""
    amm = market.amm
    history = amm.historical_oracle_data
    buys = side is Direction.LONG
    slow = amm.last_bid_price_twap if buys else amm.last_ask_price_twap
    if abs(history.last_oracle_price_twap_ts - amm.last_mark_price_twap_ts) >= _APART_S:
        safe = ContractTier(market.contract_tier) in {ContractTier.A, ContractTier.B}
        away = slow // (500 if safe else 100)
        return away if buys else -away
    fast = amm.last_mark_price_twap_5min - history.last_oracle_price_twap_5min
    long_part = amm.long_spread * slow // (PRICE_PRECISION * 10)
    short_part = amm.short_spread * slow // (PRICE_PRECISION * 10)
    apart = slow - history.last_oracle_price_twap
    return min(apart + long_part, fast - short_part) if buys else max(apart - short_part, fast + long_part)


def _end_offset(market: PerpMarket, side: Direction, *, scale: int) -> int:
    """Return where an auction ends, from the oracle: beyond the market's own price by its usual deviation."""
    amm = market.amm
    average = amm.historical_oracle_data.last_oracle_price_twap
    least, most = _END_DIVISORS.get(ContractTier(market.contract_tier), _WIDE_END_DIVISORS)
    spread = amm.short_spread if side is Direction.SHORT else amm.long_spread
    buffer = max(amm.mark_std, amm.oracle_std, div(spread * abs(average), PERCENTAGE_PRECISION)) * scale
    buffer = clamp(buffer, abs(average) // least, abs(average) // most)
    start = _start_offset(market, side)
    if side is Direction.SHORT:
        return min(amm.last_bid_price_twap - buffer - average, start)
    return max(amm.last_ask_price_twap + buffer - average, start)
