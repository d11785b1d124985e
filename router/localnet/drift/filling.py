"""One perpetual order being filled: who takes part, and what the AMM and makers have to do with it."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from router.localnet.drift.averages import rolling_sum, update_mark_average
from router.localnet.drift.curve import (
    ask_price,
    available_liquidity,
    bid_price,
    refresh_spread_reserves,
    reserve_price,
    swap_base,
)
from router.localnet.drift.enums import Direction, OrderAction, OrderExplanation, OrderStatus
from router.localnet.drift.events import FillFigures, OrderParty, order_action_record
from router.localnet.drift.fees import filler_multiplier, filler_reward, maker_rebate, taker_fee, tier_of
from router.localnet.drift.layouts import Order, User, UserStats
from router.localnet.drift.maps import Makers, Maps
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import BASE_PRECISION, ONE_DAY, clamp, div
from router.localnet.drift.order_rules import (
    base_up_to_limit,
    cross,
    direction_of,
    limit_price,
    quote_for_maker,
    unfilled,
)
from router.localnet.drift.orders import copy_order, free_place, order_parties, touch
from router.localnet.drift.positions import (
    add_quote,
    add_quote_and_break_even,
    apply_fill,
    change_open_amount,
    find_position,
    force_position,
)
from router.localnet.programs import ModelRefusal

__all__ = ["Filling", "Party", "fill_against_amm", "fill_against_maker"]

_THIRTY_DAYS = 30 * ONE_DAY


@dataclass(slots=True)
class Party:
    """A sub-account and the stats of its authority."""

    key: Pubkey
    user: User
    stats: UserStats


@dataclass(slots=True)
class Filling:
    """What stays the same while one order is filled.

    Attributes:
        taker, order: whose order it is, and which.
        filler_key: who sent the fill.
        filler: who is rewarded for it; null when that is the taker itself, or a maker.
        middle: the AMM's price before anything was filled.
        oracle_price: as the oracle says.
        valid_oracle_price: null when the oracle may not price orders.
        limit: the taker's price for this fill.
    """

    maps: Maps
    market: PerpMarket
    taker: Party
    order: Order
    filler_key: Pubkey
    filler: Party | None
    makers: Makers
    middle: int
    oracle_price: int
    valid_oracle_price: int | None
    limit: int | None = None

    @property
    def side(self) -> Direction:
        """The taker's side."""
        return direction_of(self.order)


def _can_reward(filling: Filling, party: Party | None) -> bool:
    """Whether the keeper has a slot for its reward; takes one when it has none yet."""
    if party is None:
        return False
    try:
        force_position(filling.maps.run, party.user, filling.market.market_index)
    except ModelRefusal:
        return False
    return True


def _reward(filling: Filling, party: Party | None, reward: int, quote: int) -> None:
    if party is None:
        return
    run = filling.maps.run
    if reward > 0:
        add_quote(force_position(run, party.user, filling.market.market_index), filling.market, reward)
        elapsed = max(1, run.now - party.stats.last_filler_volume_30d_ts)
        party.stats.filler_volume_30d = rolling_sum(party.stats.filler_volume_30d, quote, elapsed, _THIRTY_DAYS)
        party.stats.last_filler_volume_30d_ts = run.now
    touch(party.user, run.slot)


def count_taken(stats: UserStats, quote: int, now: int) -> None:
    """Count quote (1e6) into the volume taken in 30 days."""
    elapsed = max(1, now - stats.last_taker_volume_30d_ts)
    stats.taker_volume_30d = rolling_sum(stats.taker_volume_30d, quote, elapsed, _THIRTY_DAYS)
    stats.last_taker_volume_30d_ts = now


def count_made(stats: UserStats, quote: int, now: int) -> None:
    """Count quote (1e6) into the volume made in 30 days."""
    elapsed = max(1, now - stats.last_maker_volume_30d_ts)
    stats.maker_volume_30d = rolling_sum(stats.maker_volume_30d, quote, elapsed, _THIRTY_DAYS)
    stats.last_maker_volume_30d_ts = now


def _signed(base: int, quote: int, side: Direction) -> tuple[int, int]:
    """Return base and quote as the position sees them."""
    return (base, -quote) if side is Direction.LONG else (-base, quote)


def _check_price(filling: Filling, base: int, quote: int, side: Direction, limit: int, *, taker: bool) -> None:
    """Refuse a fill that is worse than its limit; a taker may lose one unit to rounding."""
    run = filling.maps.run
    slack = 0 if not taker else -1 if side is Direction.LONG else 1
    price = max(quote + slack, 0) * BASE_PRECISION // base
    holds = price <= limit if side is Direction.LONG else price >= limit
    run.check(holds, "InvalidOrderFillPrice")


def _fill_order(party: Party, market: PerpMarket, order: Order, base: int, quote: int) -> None:
    """Count a fill into the order and into what waits on its side."""
    order.base_asset_amount_filled += base
    order.quote_asset_amount_filled += quote
    if unfilled(order, None) == 0:
        order.status = OrderStatus.FILLED
    position = find_position(party.user, market.market_index)
    if position is not None:
        change_open_amount(position, order.direction, -base)


def _free_if_done(party: Party, market: PerpMarket, order: Order) -> None:
    if unfilled(order, None) == 0:
        position = find_position(party.user, market.market_index)
        if position is not None:
            position.open_orders -= 1
        free_place(party.user, order)


def _next_fill_id(market: PerpMarket) -> int:
    record_id = market.next_fill_record_id
    market.next_fill_record_id += 1
    return record_id


def _amm_amount(filling: Filling, best: int | None, held: int) -> tuple[int, int | None]:
    """Return the base that the AMM fills, and the limit that holds for it."""
    run, order, limit = filling.maps.run, filling.order, filling.limit
    if best is not None:
        if limit is not None:
            better = limit >= best if filling.side is Direction.LONG else limit <= best
            run.check(better, "InvalidAmmLimitPriceOverride")
        limit = best
    bound = limit
    if order.post_only and limit is not None:
        tier = tier_of(filling.taker.stats, filling.maps.state.perp_fee_structure)
        buffer = maker_rebate(limit, tier, filling.market.fee_adjustment)
        bound = limit - buffer if filling.side is Direction.LONG else limit + buffer
    base = base_up_to_limit(run, order, filling.market, bound, held)
    return min(base, available_liquidity(filling.market.amm, filling.side)), limit


def fill_against_amm(filling: Filling, best: int | None) -> tuple[int, int]:
    """Fill what the AMM can of the order.

    Args:
        filling: the order.
        best: the price of the next maker, which the AMM must not go beyond; null when there is none.

    Returns:
        Base (1e9) and quote (1e6).
    """
    run, market, order, taker = filling.maps.run, filling.market, filling.order, filling.taker
    amm, side = market.amm, filling.side
    rewarded = filling.filler or _filling_maker(filling)
    position = find_position(taker.user, market.market_index)
    if position is None:
        raise run.refuse("UserHasNoPositionInMarket")
    held = position.base_asset_amount
    base, limit = _amm_amount(filling, best, held)
    least = amm.min_order_size if abs(held) > amm.min_order_size else amm.order_step_size
    if base < least:
        run.log(
            f"Amm cant fulfill order. market index {market.market_index} base asset amount {base} "
            f"market.amm.min_order_size {amm.min_order_size}"
        )
        return 0, 0
    inside = amm.base_asset_reserve >= amm.min_base_asset_reserve
    if side is Direction.SHORT:
        inside = amm.base_asset_reserve <= amm.max_base_asset_reserve
    run.check(inside, "InvalidAmmForFillDetected")
    trade = ask_price(amm, filling.middle) if side is Direction.LONG else bid_price(amm, filling.middle)
    update_mark_average(market, run.now, trade, side)

    swapped, surplus = swap_base(amm, base, side)
    quote = swapped
    if order.post_only and limit is not None:
        quote = quote_for_maker(base, limit, side)
        surplus = quote - swapped if side is Direction.LONG else swapped - quote
    signed_base, signed_quote = _signed(base, quote, side)
    apply_fill(run, position, market, signed_base, signed_quote)
    amm.base_asset_amount_with_amm += signed_base
    refresh_spread_reserves(amm)
    if limit is not None:
        _check_price(filling, base, quote, side, limit, taker=not order.post_only)
    _settle_amm_fill(filling, rewarded, base=base, quote=quote, surplus=surplus)
    return base, quote


def _settle_amm_fill(filling: Filling, rewarded: Party | None, *, base: int, quote: int, surplus: int) -> None:
    """Charge fees, reward the keeper, print the event, empty a filled order's place."""
    maps, market, order, taker = filling.maps, filling.market, filling.order, filling.taker
    run, amm, fees = maps.run, market.amm, maps.state.perp_fee_structure
    can_reward = _can_reward(filling, rewarded)
    tier = tier_of(taker.stats, fees)
    waited = run.slot - order.slot
    rebate = user_fee = 0
    if order.post_only:
        rebate = maker_rebate(quote, tier, market.fee_adjustment)
        run.check(surplus >= rebate, "MathError")
        fee = surplus - rebate
    else:
        fee = user_fee = taker_fee(quote, tier, market.fee_adjustment)
    reward = filler_reward(fee, waited, 0, fees) if can_reward else 0
    to_market = fee - reward + (0 if order.post_only else surplus)
    amm.total_fee += to_market
    amm.total_exchange_fee += user_fee
    amm.total_mm_fee += surplus
    amm.total_fee_minus_distributions += to_market
    amm.net_revenue_since_last_funding += to_market
    taker.stats.fees.total_fee_paid += user_fee
    taker.stats.fees.total_fee_rebate += rebate
    position = find_position(taker.user, market.market_index)
    if position is not None:
        add_quote_and_break_even(position, market, -user_fee)
        add_quote_and_break_even(position, market, rebate)
    (count_made if order.post_only else count_taken)(taker.stats, quote, run.now)
    _reward(filling, rewarded, reward, quote)
    _fill_order(taker, market, order, base, quote)
    taker_party, maker_party = order_parties(taker.key, order)
    figures = FillFigures(
        record_id=_next_fill_id(market),
        base=base,
        quote=quote,
        taker_fee=user_fee,
        maker_rebate=rebate or None,
        surplus=surplus,
    )
    run.emit_order(
        order_action_record(
            run.now,
            OrderAction.FILL,
            OrderExplanation.ORDER_FILLED_WITH_AMM,
            taker=taker_party,
            maker=maker_party,
            filler=filling.filler_key,
            filler_reward=reward,
            fill=figures,
            oracle_price=filling.oracle_price,
        )
    )
    _free_if_done(taker, market, order)


def _filling_maker(filling: Filling) -> Party | None:
    """Return the maker that sent the fill itself, if it is another's."""
    user = filling.makers.users.get(filling.filler_key)
    if user is filling.taker.user:
        # The program cannot borrow an account twice.
        raise filling.maps.run.refuse("UnableToLoadUserAccount")
    if user is None or user.authority == filling.taker.user.authority:
        return None
    return Party(filling.filler_key, user, filling.makers.stats[user.authority])


def _fallback_price(filling: Filling) -> int:
    """Return the price of a taker that names none: the AMM's with a buffer that grows toward its expiry."""
    amm, side = filling.market.amm, filling.side
    left = max(filling.order.max_ts - filling.maps.run.now, 0)
    step = 1 if side is Direction.LONG else -1
    if available_liquidity(amm, side) >= amm.min_order_size:
        middle = reserve_price(amm)
        price = ask_price(amm, middle) if side is Direction.LONG else bid_price(amm, middle)
        return price + step * (price // clamp(left * 20, 100, 200))
    average = amm.historical_oracle_data.last_oracle_price_twap
    if side is Direction.LONG:
        premium = max(amm.last_ask_price_twap - average, 0)
    else:
        premium = min(amm.last_bid_price_twap - average, 0)
    return max(filling.oracle_price + premium + step * div(filling.oracle_price, clamp(left * 2, 10, 50)), 0)


def fill_against_maker(filling: Filling, maker: Party, made: Order) -> tuple[int, int]:
    """Fill the order against a maker's resting one, at the maker's price.

    Returns:
        Base (1e9) and quote (1e6); zero when they do not meet.
    """
    maps, market, order, taker = filling.maps, filling.market, filling.order, filling.taker
    run, side = maps.run, filling.side
    if made.market_index != order.market_index or made.direction == order.direction:
        return 0, 0
    taking, making = (find_position(party.user, market.market_index) for party in (taker, maker))
    if taking is None or making is None:
        raise run.refuse("UserHasNoPositionInMarket")
    taker_price = filling.limit if filling.limit is not None else _fallback_price(filling)
    price = limit_price(run, made, filling.oracle_price, run.slot, market.amm.order_tick_size)
    if price is None:
        raise run.refuse("UnableToGetLimitPrice")
    maker_side = side.opposite
    if not cross(maker_side, price, taker_price):
        run.log(f"orders dont cross. maker price {price} taker price {taker_price}")
        return 0, 0
    base = min(unfilled(made, making.base_asset_amount), unfilled(order, taking.base_asset_amount))
    if base == 0:
        return 0, 0
    update_mark_average(market, run.now, price, side)
    quote = quote_for_maker(base, price, maker_side)
    _check_price(filling, base, quote, side, taker_price, taker=True)
    _check_price(filling, base, quote, maker_side, price, taker=False)
    apply_fill(run, making, market, *_signed(base, quote, maker_side))
    count_made(maker.stats, quote, run.now)
    apply_fill(run, taking, market, *_signed(base, quote, side))
    count_taken(taker.stats, quote, run.now)
    _settle_match(filling, maker, made, price=price, base=base, quote=quote)
    return base, quote


def _settle_match(filling: Filling, maker: Party, made: Order, *, price: int, base: int, quote: int) -> None:
    """Charge fees, reward the keeper, print the event, empty the places of filled orders."""
    maps, market, order, taker = filling.maps, filling.market, filling.order, filling.taker
    run, amm, fees = maps.run, market.amm, maps.state.perp_fee_structure
    can_reward = _can_reward(filling, filling.filler)
    fee = taker_fee(quote, tier_of(taker.stats, fees), market.fee_adjustment)
    rebate = maker_rebate(quote, tier_of(maker.stats, fees), market.fee_adjustment)
    reward = 0
    if can_reward:
        long_maker = filling.side is Direction.SHORT
        multiplier = filler_multiplier(price, filling.oracle_price, maker_is_long=long_maker)
        reward = filler_reward(fee, run.slot - order.slot, multiplier, fees)
    to_market = fee - reward - rebate
    run.check(to_market >= 0, "MathError")
    amm.total_fee += to_market
    amm.total_exchange_fee += to_market
    amm.total_fee_minus_distributions += to_market
    amm.net_revenue_since_last_funding += to_market
    for party, amount in ((taker, -fee), (maker, rebate)):
        position = find_position(party.user, market.market_index)
        if position is not None:
            add_quote_and_break_even(position, market, amount)
    taker.stats.fees.total_fee_paid += fee
    maker.stats.fees.total_fee_rebate += rebate
    _reward(filling, filling.filler, reward, quote)
    _fill_order(taker, market, order, base, quote)
    _fill_order(maker, market, made, base, quote)
    jit = made.post_only and made.immediate_or_cancel
    figures = FillFigures(record_id=_next_fill_id(market), base=base, quote=quote, taker_fee=fee, maker_rebate=rebate)
    run.emit_order(
        order_action_record(
            run.now,
            OrderAction.FILL,
            OrderExplanation.ORDER_FILLED_WITH_MATCH_JIT if jit else OrderExplanation.ORDER_FILLED_WITH_MATCH,
            taker=OrderParty(taker.key, copy_order(order)),
            maker=OrderParty(maker.key, copy_order(made)),
            filler=filling.filler_key,
            filler_reward=reward,
            fill=figures,
            oracle_price=filling.oracle_price,
        )
    )
    _free_if_done(taker, market, order)
    _free_if_done(maker, market, made)
