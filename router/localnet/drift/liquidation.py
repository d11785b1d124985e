"""Liquidating a perpetual position: its orders go, and base goes to the liquidator at the oracle's price, less fees."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from solders.pubkey import Pubkey

from router.localnet.drift.curve import standardize_base
from router.localnet.drift.enums import (
    BalanceType,
    Direction,
    ExchangeStatus,
    MarketStatus,
    MarketType,
    OrderAction,
    OrderExplanation,
    OrderStatus,
    OrderType,
    PerpOperation,
    UserStatus,
)
from router.localnet.drift.events import (
    FillFigures,
    Liquidation,
    OrderParty,
    liquidation_record,
    order_action_record,
    order_record,
)
from router.localnet.drift.execution import Execution
from router.localnet.drift.filling import Party, count_made, count_taken
from router.localnet.drift.funding import settle_funding
from router.localnet.drift.handlers import check_not_paused, may_sign, take_state, update_amm
from router.localnet.drift.layouts import Order, PerpPosition, User, UserStats
from router.localnet.drift.maps import Maps, load_maps
from router.localnet.drift.margin import Margin, MarginKind, account_margin, margin_ratio
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import (
    BASE_PRECISION,
    MARGIN_PRECISION,
    PERCENTAGE_PRECISION,
    PRICE_PRECISION,
    QUOTE_PRECISION,
    U64_MAX,
    ceil_div,
    div,
)
from router.localnet.drift.oracles import OracleValidity
from router.localnet.drift.orders import cancel_order, copy_order, touch
from router.localnet.drift.positions import (
    add_quote_and_break_even,
    apply_fill,
    find_position,
    force_position,
    worst_case_base,
)
from router.localnet.drift.wire import read_option

__all__ = ["liquidate_perp"]

_FEE_PRECISION = 10**6
_FEE_PER_MARGIN = _FEE_PRECISION // MARGIN_PRECISION
_ALL = 10_000
_SMALL_QUOTE = 50 * QUOTE_PRECISION
_IN_LIQUIDATION = UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT
_U32_MAX = 2**32 - 1
_U16_MAX = 2**16 - 1


@dataclass(slots=True)
class _Case:
    """One liquidation on its way: who, where, and the margin as it was at first."""

    maps: Maps
    user: Party
    liquidator: Party
    market: PerpMarket
    position: PerpPosition
    margin: Margin
    liquidation_id: int
    price: int = 0
    margin_freed: int = 0
    cancelled: list[int] = field(default_factory=list[int])

    @property
    def run(self) -> Execution:
        """The instruction's run."""
        return self.maps.run

    def free_margin(self, amount: int) -> None:
        """Count margin that the liquidation freed."""
        self.margin_freed += amount
        self.user.user.liquidation_margin_freed += amount

    def announce(self, what: Liquidation) -> None:
        """Print the record."""
        self.run.emit(
            liquidation_record(
                self.run.now,
                self.user.key,
                self.liquidator.key,
                what,
                requirement=self.margin.requirement,
                collateral=self.margin.collateral,
                margin_freed=self.margin_freed,
                liquidation_id=self.liquidation_id,
                bankrupt=bool(self.user.user.status & UserStatus.BANKRUPT),
                cancelled=self.cancelled,
            )
        )


def liquidate_perp(run: Execution) -> int:
    """Take a position over, as far as that restores the account's margin with its buffer."""
    market_index, most_base = struct.unpack_from("<HQ", run.call.data, 8)
    limit, _ = read_option(run.call.data, 18, "Q")
    state = take_state(run)
    authority = run.signer("authority")
    liquidator = _take_party(run, "liquidator", authority)
    user = _take_party(run, "user", None)
    check_not_paused(run, state, ExchangeStatus.LIQUIDATION)
    run.check(user.key != liquidator.key, "UserCantLiquidateThemself")
    maps = load_maps(run, state, writable_perp=(market_index,))
    for party, words in ((user, "user bankrupt"), (liquidator, "liquidator bankrupt")):
        run.check(not party.user.status & UserStatus.BANKRUPT, "UserBankrupt", words)
    market = maps.perp_market(market_index)
    run.check(not market.paused_operations & PerpOperation.LIQUIDATION, "InvalidLiquidation")
    settle_funding(run, user.user, user.key, market)
    settle_funding(run, liquidator.user, liquidator.key, market)
    margin = _margin(user.user, maps)
    if not user.user.status & _IN_LIQUIDATION:
        run.check(not margin.met, "SufficientCollateral")
    elif _may_leave(margin):
        _leave(user.user)
        return 40_000
    position = find_position(user.user, market_index)
    if position is None:
        raise run.refuse("UserHasNoPositionInMarket")
    force_position(run, liquidator.user, market_index)
    case = _Case(
        maps=maps,
        user=user,
        liquidator=liquidator,
        market=market,
        position=position,
        margin=margin,
        liquidation_id=_enter(user.user, run.slot),
    )
    run.check(bool(position.base_asset_amount or position.open_orders), "PositionDoesntHaveOpenPositionOrOrders")
    run.check(position.lp_shares == 0, "DefaultError", "liquidity providers are not modelled")
    _liquidate(case, most_base, limit)
    return 150_000


def _take_party(run: Execution, name: str, authority: Pubkey | None) -> Party:
    """Take an account and its owner's stats; `authority`, where given, has to be allowed to act for it."""
    meta, user = run.take_account(User, name)
    stats_meta, stats = run.take_account(UserStats, f"{name}_stats")
    run.check_writable(meta, name)
    if authority is not None and not may_sign(user, authority):
        raise run.refuse("ConstraintRaw", name)
    run.check_writable(stats_meta, f"{name}_stats")
    if stats.authority != user.authority:
        raise run.refuse("ConstraintRaw", f"{name}_stats")
    return Party(meta.pubkey, user, stats)


def _margin(user: User, maps: Maps) -> Margin:
    return account_margin(user, maps, MarginKind.MAINTENANCE, buffer=maps.state.liquidation_margin_buffer_ratio)


def _may_leave(margin: Margin) -> bool:
    return margin.collateral >= margin.buffered


def _shortage(margin: Margin) -> int:
    return abs(margin.buffered - margin.collateral)


def _enter(user: User, slot: int) -> int:
    """Put the account into liquidation, unless it is there; return the liquidation's number."""
    if user.status & _IN_LIQUIDATION:
        return user.next_liquidation_id - 1
    user.status |= UserStatus.BEING_LIQUIDATED
    user.liquidation_margin_freed, user.last_active_slot = 0, slot
    number = user.next_liquidation_id
    user.next_liquidation_id = 1 if number == _U16_MAX else number + 1
    return number


def _leave(user: User) -> None:
    user.status &= ~_IN_LIQUIDATION
    user.liquidation_margin_freed = 0


def _liquidate(case: _Case, most_base: int, limit: int | None) -> None:
    """Cancel all orders; when that is not enough, take base over."""
    run, maps, user, market = case.run, case.maps, case.user.user, case.market
    for order in user.orders:
        if order.status == OrderStatus.OPEN:
            case.cancelled.append(order.order_id)
            why = OrderExplanation.LIQUIDATION
            cancel_order(maps, user, case.user.key, order, why, filler=case.liquidator.key)
    touch(user, run.slot)
    update_amm(maps, market)
    run.check(maps.judge_perp(market, log=False) > OracleValidity.TOO_VOLATILE, "InvalidOracle")
    settled = market.status == MarketStatus.SETTLEMENT
    case.price = market.expiry_price if settled else maps.price(market.amm.oracle).price
    margin = case.margin
    if case.cancelled:
        margin = _margin(user, maps)
        case.free_margin(max(_shortage(case.margin) - _shortage(margin), 0))
        if _may_leave(margin):
            case.announce(Liquidation(market_index=market.market_index, oracle_price=case.price))
            _leave(user)
            return
    if case.position.base_asset_amount == 0:
        run.log("User has no base asset amount")
        return
    step = market.amm.order_step_size
    most_base = standardize_base(most_base, step)
    run.check(most_base != 0, "InvalidBaseAssetAmountForLiquidatePerp")
    average = market.amm.historical_oracle_data.last_oracle_price_twap_5min
    away = div(abs(case.price - average) * PERCENTAGE_PRECISION, abs(average))
    rail = maps.state.oracle_guard_rails.price_divergence.oracle_twap_5min_percent_divergence
    run.check(away < max(rail, PERCENTAGE_PRECISION // 2), "PriceBandsBreached")
    insurance_rate, covering = _covering(case, margin)
    allowed = covering * _share(case, _shortage(margin)) // _ALL
    if allowed == 0:
        run.log("max_base_asset_amount_allowed_to_be_transferred == 0")
        return
    held = abs(case.position.base_asset_amount)
    # A small position may be taken whole.
    least = 0 if _value(held, case.price) > _SMALL_QUOTE else held
    base = ceil_div(min(held, most_base, max(allowed, least)), step) * step
    if limit is not None:
        is_long = case.position.base_asset_amount >= 0
        fits = case.price <= limit if is_long else case.price >= limit
        run.check(fits, "LiquidationDoesntSatisfyLimitPrice")
    _transfer(case, base, insurance_rate, covering=covering, shortage=_shortage(margin), limit=limit)


def _value(base: int, price: int) -> int:
    return abs(base) * max(price, 0) // BASE_PRECISION


def _covering(case: _Case, margin: Margin) -> tuple[int, int]:
    """Return the insurance fund's fee (1e6) and the base whose transfer covers the shortage, up to the step."""
    run, maps, market = case.run, case.maps, case.market
    quote_price = maps.price(maps.spot_market(market.quote_spot_market_index).oracle).price
    worst, held = abs(worst_case_base(case.position)), abs(case.position.base_asset_amount)
    ratio = margin_ratio(market, worst, MarginKind.MAINTENANCE) + maps.state.liquidation_margin_buffer_ratio
    ratio *= _FEE_PER_MARGIN
    shortage = _shortage(margin)
    own = 0
    if margin.requirement:
        own = shortage * margin.by_market.get(market.market_index, 0) // margin.requirement
    fee, price = market.liquidator_fee, case.price
    insurance = 0
    if price and quote_price and ratio > fee:
        short_ratio = own * BASE_PRECISION // held * PRICE_PRECISION // (price * quote_price // PRICE_PRECISION)
        short_ratio = min(short_ratio, _U32_MAX)
        insurance = min(market.if_liquidation_fee, max(ratio - fee - short_ratio, 0) * 19 // 20)
    if price == 0 or ratio <= fee:
        covering = U64_MAX
    else:
        restored = price * quote_price // PRICE_PRECISION * (ratio - fee) // _FEE_PRECISION
        restored -= price * insurance // _FEE_PRECISION
        run.check(restored >= 0, "MathError")
        covering = shortage * BASE_PRECISION // restored
    covering = ceil_div(covering, market.amm.order_step_size) * market.amm.order_step_size
    run.check(covering <= U64_MAX, "MathError")
    return insurance, covering


def _share(case: _Case, shortage: int) -> int:
    """Return how much of the shortage may be covered by now (1e4): all of a small one, else more with every slot."""
    if shortage < _SMALL_QUOTE:
        return _ALL
    state, user = case.maps.state, case.user.user
    elapsed, duration = case.run.slot - user.last_active_slot, state.liquidation_duration
    share = min((elapsed * _ALL // duration if duration else _ALL) + state.initial_pct_to_liquidate, _ALL)
    freed = user.liquidation_margin_freed
    return max((shortage + freed) * share // _ALL - freed, 0) * _ALL // shortage


def _transfer(case: _Case, base: int, insurance_rate: int, *, covering: int, shortage: int, limit: int | None) -> None:
    """Move base from the user to the liquidator at the oracle's price."""
    run, maps, market = case.run, case.maps, case.market
    user, liquidator, position = case.user, case.liquidator, case.position
    quote = _value(base, case.price)
    fee = quote * market.liquidator_fee // _FEE_PRECISION
    insurance_fee = quote * insurance_rate // _FEE_PRECISION
    count_taken(user.stats, quote, run.now)
    count_made(liquidator.stats, quote, run.now)
    sold = position.base_asset_amount >= 0
    held, closing = (Direction.LONG, Direction.SHORT) if sold else (Direction.SHORT, Direction.LONG)
    delta = (-base, quote) if sold else (base, -quote)
    apply_fill(run, position, market, *delta)
    add_quote_and_break_even(position, market, -fee)
    add_quote_and_break_even(position, market, -insurance_fee)
    taken = force_position(run, liquidator.user, market.market_index)
    existing = Direction.LONG if taken.base_asset_amount >= 0 else Direction.SHORT
    apply_fill(run, taken, market, -delta[0], -delta[1])
    add_quote_and_break_even(taken, market, fee)
    step = market.amm.order_step_size
    for each in (position, taken):
        run.check(each.base_asset_amount % step == 0, "InvalidPerpPosition")
    market.amm.total_liquidation_fee += insurance_fee
    case.free_margin(max(shortage - _shortage(_margin(user.user, maps)), 0))
    if base >= covering:
        _leave(user.user)
    elif _bankrupt(user.user):
        user.user.status = (user.user.status & ~UserStatus.BEING_LIQUIDATED) | UserStatus.BANKRUPT
    run.check(account_margin(liquidator.user, maps, MarginKind.INITIAL).met, "InsufficientCollateral")
    given = _order(case, user.user, base, closing, held, limit=None)
    got = _order(case, liquidator.user, base, held, existing, limit=limit)
    fill_id = market.next_fill_record_id
    market.next_fill_record_id += 1
    run.emit(order_record(run.now, user.key, given))
    run.emit(order_record(run.now, liquidator.key, got))
    run.emit(
        order_action_record(
            run.now,
            OrderAction.FILL,
            OrderExplanation.LIQUIDATION,
            taker=OrderParty(user.key, _filled(given, quote)),
            maker=OrderParty(liquidator.key, _filled(got, quote)),
            fill=FillFigures(
                record_id=fill_id, base=base, quote=quote, taker_fee=fee + insurance_fee, maker_rebate=fee
            ),
            oracle_price=case.price,
        )
    )
    case.announce(
        Liquidation(
            market_index=market.market_index,
            oracle_price=case.price,
            base=delta[0],
            quote=delta[1],
            fill_record_id=fill_id,
            user_order_id=given.order_id,
            liquidator_order_id=got.order_id,
            liquidator_fee=fee,
            insurance_fee=insurance_fee,
        )
    )


def _order(case: _Case, user: User, base: int, side: Direction, existing: Direction, *, limit: int | None) -> Order:
    """Return the order that the records pretend, under the account's next number."""
    order = Order.zero()
    order.slot, order.base_asset_amount, order.order_id = case.run.slot, base, user.next_order_id
    order.market_index, order.status, order.market_type = case.market.market_index, OrderStatus.OPEN, MarketType.PERP
    order.order_type = OrderType.MARKET if limit is None else OrderType.LIMIT
    order.price = limit or 0
    order.direction, order.existing_position_direction = side, existing
    user.next_order_id = user.next_order_id + 1 if user.next_order_id < _U32_MAX else 1
    return order


def _filled(order: Order, quote: int) -> Order:
    done = copy_order(order)
    done.base_asset_amount_filled, done.quote_asset_amount_filled = order.base_asset_amount, quote
    return done


def _bankrupt(user: User) -> bool:
    """Whether nothing is left but debts."""
    owes = False
    for holding in user.spot_positions:
        if holding.scaled_balance > 0:
            if holding.balance_type == BalanceType.DEPOSIT:
                return False
            owes = True
    for position in user.perp_positions:
        waits = position.open_orders or position.open_bids or position.open_asks
        if position.base_asset_amount or position.quote_asset_amount > 0 or waits or position.lp_shares:
            return False
        owes = owes or position.quote_asset_amount < 0
    return owes
