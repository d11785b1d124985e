"""Filling one order: who may fill it, in which order, and what ends it instead."""

from __future__ import annotations

from dataclasses import dataclass, field

from solders.pubkey import Pubkey

from router.localnet.drift.averages import count_trade
from router.localnet.drift.curve import ask_price, bid_price, reserve_price
from router.localnet.drift.enums import (
    ContractTier,
    Direction,
    ExchangeStatus,
    MarketStatus,
    MarketType,
    OrderExplanation,
    OrderStatus,
    PerpOperation,
    UserStatus,
)
from router.localnet.drift.filling import Filling, Party, fill_against_amm, fill_against_maker
from router.localnet.drift.funding import settle_funding, update_funding_rate
from router.localnet.drift.layouts import Order, User
from router.localnet.drift.maps import Makers, Maps
from router.localnet.drift.margin import MarginKind, account_margin
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import BASE_PRECISION, MARGIN_PRECISION, PERCENTAGE_PRECISION, QUOTE_PRECISION, div
from router.localnet.drift.order_rules import (
    auction_complete,
    auction_end_limit,
    cross,
    direction_of,
    expired,
    is_limit,
    is_reducing,
    is_resting,
    limit_price,
    market_takes_orders,
    must_be_triggered,
    rests_below_step,
    was_triggered,
)
from router.localnet.drift.orders import cancel_order, check_not_liquidated, pay_flat_fee, touch
from router.localnet.drift.positions import find_position
from router.localnet.programs import ModelRefusal

__all__ = ["Fill", "fill_order"]

_LIMIT_GRACE_S = 15
_MOST_METHODS = 6
_DRAWDOWN_STEP = -25 * QUOTE_PRECISION


@dataclass(slots=True)
class Fill:
    """A request to fill.

    Attributes:
        taker: whose order.
        filler: who asks; the taker itself when it takes as it places.
        filler_key: the filler's account.
        makers: whose resting orders may be used.
        takes: the order takes as it is placed, at the end price of its auction.
    """

    maps: Maps
    taker: Party
    filler: Party | None
    filler_key: Pubkey
    makers: Makers
    takes: bool
    offers: list[_Offer] = field(default_factory=list["_Offer"])


@dataclass(frozen=True, slots=True)
class _Offer:
    """A maker's resting order and its price."""

    maker: Party
    order: Order
    price: int


def fill_order(fill: Fill, order_id: int) -> int:
    """Fill what can be filled of an order, or end it when its time or its position is over.

    Returns:
        Base filled (1e9).

    Raises:
        ModelRefusal: the order is not there or not fillable, or somebody cannot carry the fill.
    """
    maps, taker = fill.maps, fill.taker
    run = maps.run
    order = next((order for order in taker.user.orders if order.order_id == order_id), None)
    if order is None:
        raise run.refuse("OrderDoesNotExist")
    market = _checked_market(fill, order)
    if taker.user.status & UserStatus.BANKRUPT:
        run.log("user is bankrupt")
        return 0
    try:
        check_not_liquidated(taker.user, maps)
    except ModelRefusal:
        run.log("user is being liquidated")
        return 0
    run.check(market_takes_orders(market, run.now), "MarketFillOrderPaused")
    filling = _filling(fill, order, market)
    amm_available = _amm_available(fill, market)
    fill.offers = _offers(fill, filling)
    run.check(taker.stats.referrer == Pubkey.default(), "ReferrerStatsNotFound")
    if _oracle_jumped(maps, market, filling.oracle_price):
        if filling.filler is not None:
            touch(filling.filler.user, run.slot)
        return 0
    open_to_amm = auction_complete(order.slot, maps.state.min_perp_auction_duration, run.slot)
    run.check(
        open_to_amm or bool(fill.makers.users) or not is_limit(order),
        "ImpossibleFill",
        "invalid fill. order is limit order, amm is not available and no makers present",
    )
    if _ended(fill, filling):
        return 0
    base, quote = _fulfil(fill, filling, amm_available=amm_available and open_to_amm)
    if base:
        _check_bands(maps, market, filling.side, quote * BASE_PRECISION // base, filling.oracle_price)
    held = _held(taker.user, market)
    if rests_below_step(order, held, market.amm.order_step_size):
        _end(fill, filling, OrderExplanation.REDUCE_ONLY_ORDER_INCREASED_POSITION)
    if base == 0:
        return 0
    interest = max(abs(market.amm.base_asset_amount_long), abs(market.amm.base_asset_amount_short))
    most = market.amm.max_open_interest
    run.check(most == 0 or most > interest, "MaxOpenInterest")
    paused = bool(maps.state.exchange_status & ExchangeStatus.FUNDING)
    update_funding_rate(maps, market, paused=paused, middle=filling.middle)
    touch(taker.user, run.slot)
    return base


def _held(user: User, market: PerpMarket) -> int:
    position = find_position(user, market.market_index)
    return 0 if position is None else position.base_asset_amount


def _checked_market(fill: Fill, order: Order) -> PerpMarket:
    """Check market and order, and pay the taker's funding."""
    run = fill.maps.run
    run.check(order.market_type == MarketType.PERP, "InvalidOrderMarketType")
    market = fill.maps.perp_market(order.market_index)
    settle_funding(run, fill.taker.user, fill.taker.key, market)
    active = market.status in {MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY}
    run.check(active, "MarketFillOrderPaused", "Market not active")
    run.check(not market.paused_operations & PerpOperation.FILL, "MarketFillOrderPaused", "Market fills paused")
    run.check(order.status == OrderStatus.OPEN, "OrderNotOpen")
    run.check(not must_be_triggered(order) or was_triggered(order), "OrderMustBeTriggeredFirst")
    return market


def _filling(fill: Fill, order: Order, market: PerpMarket) -> Filling:
    maps = fill.maps
    oracle_price = maps.price(market.amm.oracle).price
    priced = maps.perp_validity(market).prices_orders
    if not priced:
        maps.run.log(f"Perp market = {market.market_index} oracle deemed invalid")
    filler = fill.filler
    if filler is not None:
        own = filler.user.authority == fill.taker.user.authority or fill.filler_key in fill.makers.users
        filler = None if own else filler
    return Filling(
        maps=maps,
        market=market,
        taker=fill.taker,
        order=order,
        filler_key=fill.filler_key,
        filler=filler,
        makers=fill.makers,
        middle=reserve_price(market.amm),
        oracle_price=oracle_price,
        valid_oracle_price=oracle_price if priced else None,
    )


def _amm_available(fill: Fill, market: PerpMarket) -> bool:
    """Whether the AMM trades at all: not paused, oracle fresh and narrow, no heavy loss this hour."""
    paused = fill.maps.state.exchange_status & ExchangeStatus.AMM or market.paused_operations & PerpOperation.AMM_FILL
    return not paused and fill.maps.perp_validity(market).fills_amm and not _lost_too_much(market)


def _lost_too_much(market: PerpMarket) -> bool:
    amm, tier = market.amm, ContractTier(market.contract_tier)
    safe = tier in {ContractTier.A, ContractTier.B}
    if amm.net_revenue_since_last_funding > _DRAWDOWN_STEP * (400 if safe else 200):
        return False
    lost = div(amm.net_revenue_since_last_funding * PERCENTAGE_PRECISION, max(amm.total_fee_minus_distributions, 1))
    divisor = {ContractTier.A: 50, ContractTier.B: 33, ContractTier.C: 25}.get(tier, 20)
    return lost <= -div(PERCENTAGE_PRECISION, divisor)


def _oracle_jumped(maps: Maps, market: PerpMarket, price: int) -> bool:
    """Whether the oracle is too far from its 5-minute average to fill anything."""
    average = market.amm.historical_oracle_data.last_oracle_price_twap_5min
    away = div(abs(price - average) * PERCENTAGE_PRECISION, abs(average))
    return away >= _most_divergence(maps)


def _most_divergence(maps: Maps) -> int:
    rails = maps.state.oracle_guard_rails.price_divergence
    return max(rails.oracle_twap_5min_percent_divergence, PERCENTAGE_PRECISION // 2)


def _offers(fill: Fill, filling: Filling) -> list[_Offer]:
    """Return the makers' orders that may fill this one, best first; dead ones are cancelled on the way."""
    run, market = fill.maps.run, filling.market
    maker_side = filling.side.opposite
    offers: list[_Offer] = []
    for key, user in fill.makers.users.items():
        if key == fill.taker.key or user.status & (UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT):
            continue
        resting = [
            (order, price)
            for order in user.orders
            if _is_offer(order, maker_side, market.market_index)
            and (price := limit_price(run, order, filling.oracle_price, run.slot, market.amm.order_tick_size))
        ]
        if not resting:
            continue
        stats = fill.makers.stats.get(user.authority)
        if stats is None:
            raise run.refuse("UserStatsNotFound")
        maker = Party(key, user, stats)
        touch(user, run.slot)
        settle_funding(run, user, key, market)
        for order, price in resting:
            if not _may_make(order, filling.order, run.slot):
                continue
            dead = _why_dead(filling, user, order, price)
            if dead is not None:
                _cancel_for(fill, filling, maker, order, dead)
                continue
            _insert(offers, _Offer(maker, order, price), maker_side)
    return offers


def _insert(offers: list[_Offer], offer: _Offer, maker_side: Direction) -> None:
    """Keep the best price first; among equal prices the place is wherever a bisection first meets one of them."""
    step = 1 if maker_side is Direction.SHORT else -1
    left, right = 0, len(offers)
    while left < right:
        middle = left + (right - left) // 2
        better = (offer.price - offers[middle].price) * step
        if better == 0:
            left = right = middle
        elif better > 0:
            left = middle + 1
        else:
            right = middle
    offers.insert(left, offer)


def _is_offer(order: Order, side: Direction, market_index: int) -> bool:
    return (
        order.status == OrderStatus.OPEN
        and order.direction == side
        and order.market_type == MarketType.PERP
        and order.market_index == market_index
        and is_limit(order)
        and (was_triggered(order) or not must_be_triggered(order))
    )


def _may_make(made: Order, taken: Order, slot: int) -> bool:
    """Whether the one order rests and the other takes, or the resting one was there first."""
    jit = made.post_only and made.immediate_or_cancel
    if slot == made.slot == taken.slot and not jit:
        return False
    if taken.post_only or not is_resting(made, slot):
        return False
    if made.post_only or not is_resting(taken, slot):
        return True
    return made.slot + made.auction_duration <= taken.slot + taken.auction_duration


def _why_dead(filling: Filling, user: User, order: Order, price: int) -> OrderExplanation | None:
    """Return why a maker's order has to go, if it has to."""
    oracle = abs(filling.oracle_price)
    beyond = price - oracle if order.direction == Direction.LONG else oracle - price
    if beyond > 0 and beyond * MARGIN_PRECISION // oracle >= filling.market.margin_ratio_initial:
        return OrderExplanation.ORACLE_PRICE_BREACHED_LIMIT_PRICE
    if expired(order, filling.maps.run.now):
        return OrderExplanation.ORDER_EXPIRED
    if rests_below_step(order, _held(user, filling.market), filling.market.amm.order_step_size):
        return OrderExplanation.REDUCE_ONLY_ORDER_INCREASED_POSITION
    return None


def _cancel_for(fill: Fill, filling: Filling, owner: Party, order: Order, explanation: OrderExplanation) -> None:
    """Cancel an order on somebody's request; the owner pays the filler a flat fee."""
    filler = None if filling.filler is None else filling.filler.user
    reward = pay_flat_fee(fill.maps, owner.user, filler, filling.market)
    cancel_order(fill.maps, owner.user, owner.key, order, explanation, filler=fill.filler_key, filler_reward=reward)


def _end(fill: Fill, filling: Filling, explanation: OrderExplanation) -> None:
    _cancel_for(fill, filling, fill.taker, filling.order, explanation)


def _ended(fill: Fill, filling: Filling) -> bool:
    """Cancel an order whose time is over, or that has nothing to reduce; tell whether it was."""
    run, order = fill.maps.run, filling.order
    over = expired(order, run.now)
    if over and is_limit(order):
        run.check(expired(order, run.now - _LIMIT_GRACE_S), "ImpossibleFill", "cant force expire limit order yet")
    idle = rests_below_step(order, _held(fill.taker.user, filling.market), filling.market.amm.order_step_size)
    if over or idle:
        _end(
            fill,
            filling,
            OrderExplanation.ORDER_EXPIRED if over else OrderExplanation.REDUCE_ONLY_ORDER_INCREASED_POSITION,
        )
    return over or idle


_Method = _Offer | int | None
"""A maker's order, or the AMM: up to a price, or (null) as far as the limit goes."""


def _methods(fill: Fill, filling: Filling, *, amm_available: bool) -> list[_Method]:
    """Return who fills, in order: makers and the AMM by price."""
    amm, limit, side = filling.market.amm, filling.limit, filling.side
    maker_side = side.opposite
    methods: list[_Method] = []
    if filling.order.post_only:
        price = ask_price(amm, filling.middle) if side is Direction.LONG else bid_price(amm, filling.middle)
        return [None] if amm_available and limit is not None and cross(side, limit, price) else []
    amm_price = bid_price(amm, filling.middle) if side is Direction.SHORT else ask_price(amm, filling.middle)
    for offer in fill.offers:
        if limit is not None and not cross(maker_side, offer.price, limit):
            break
        worse = offer.price > amm_price if side is Direction.LONG else offer.price < amm_price
        if amm_available and worse:
            methods.append(offer.price)
            amm_price = offer.price
        methods.append(offer)
        if len(methods) > _MOST_METHODS:
            break
    if amm_available and (limit is None or cross(maker_side, amm_price, limit)):
        methods.append(None)
    return methods


def _fulfil(fill: Fill, filling: Filling, *, amm_available: bool) -> tuple[int, int]:
    """Fill against everybody in turn, then check that all can carry it; return base and quote."""
    maps, run, order, market = fill.maps, fill.maps.run, filling.order, filling.market
    reducing = is_reducing(order, _held(fill.taker.user, market))
    price_of = auction_end_limit if fill.takes else limit_price
    filling.limit = price_of(run, order, filling.valid_oracle_price, run.slot, market.amm.order_tick_size)
    side = direction_of(order)
    total_base = total_quote = 0
    made: dict[Pubkey, tuple[Party, int]] = {}
    methods = _methods(fill, filling, amm_available=amm_available)
    if not methods:
        return 0, 0
    for method in methods:
        if order.status != OrderStatus.OPEN:
            break
        if isinstance(method, _Offer):
            base, quote = fill_against_maker(filling, method.maker, method.order)
            signed = -base if side is Direction.LONG else base
            before = made.get(method.maker.key, (method.maker, 0))[1]
            made[method.maker.key] = (method.maker, before + signed)
        else:
            base, quote = fill_against_amm(filling, method)
        total_base, total_quote = total_base + base, total_quote + quote
        count_trade(market.amm, quote, side, run.now)
    run.check((total_base > 0) == (total_quote > 0), "DefaultError")
    margin = account_margin(fill.taker.user, maps, MarginKind.MAINTENANCE if reducing else MarginKind.FILL)
    run.check(
        margin.met,
        "InsufficientCollateral",
        f"taker breached fill requirements (margin requirement {margin.requirement}) "
        f"(total_collateral {margin.collateral})",
    )
    for maker, base in made.values():
        if base:
            _check_maker(fill, maker, market, base)
    return total_base, total_quote


def _check_maker(fill: Fill, maker: Party, market: PerpMarket, base: int) -> None:
    after = _held(maker.user, market)
    before = after - base
    smaller = after == 0 or ((after > 0) == (before > 0) and abs(after) < abs(before))
    margin = account_margin(maker.user, fill.maps, MarginKind.MAINTENANCE if smaller else MarginKind.FILL)
    fill.maps.run.check(
        margin.met,
        "InsufficientCollateral",
        f"maker ({maker.key}) breached fill requirements (margin requirement {margin.requirement}) "
        f"(total_collateral {margin.collateral})",
    )


def _check_bands(maps: Maps, market: PerpMarket, side: Direction, price: int, oracle: int) -> None:
    """Refuse a fill too far from the oracle or its 5-minute average."""
    average = abs(market.amm.historical_oracle_data.last_oracle_price_twap_5min)
    oracle = abs(oracle)
    away = (price - oracle, price - average) if side is Direction.LONG else (oracle - price, average - price)
    if max(away) < 0:
        return
    from_oracle = max(away[0], 0) * MARGIN_PRECISION // oracle
    from_average = max(away[1], 0) * PERCENTAGE_PRECISION // average
    maps.run.check(from_oracle < market.margin_ratio_initial, "PriceBandsBreached")
    maps.run.check(from_average < _most_divergence(maps), "PriceBandsBreached")
