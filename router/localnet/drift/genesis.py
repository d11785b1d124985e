"""First state of the exchange, as account data: the program's own defaults with markets that are ready to trade.

The AMM's update intensity is 0 and the spread fixed, so that the program never moves the peg or the spread by itself
and the stored ask and bid reserves are always the ones that the next trade uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator
from router.localnet.drift.addresses import (
    insurance_vault_address,
    perp_market_address,
    signer_address,
    spot_market_address,
    spot_vault_address,
)
from router.localnet.drift.curve import bid_ask_bounds, refresh_spreads
from router.localnet.drift.enums import BalanceType, ContractTier, MarketStatus, OracleSource, OrderStatus, OrderType
from router.localnet.drift.layouts import FeeStructure, FeeTier, Order, State, User, UserStats
from router.localnet.drift.market_layouts import HistoricalOracleData, PerpMarket, SpotMarket
from router.localnet.drift.numbers import MARGIN_PRECISION, ONE_HOUR, PERCENTAGE_PRECISION, PRICE_PRECISION

__all__ = [
    "INTEREST_ONE",
    "PerpMarketTerms",
    "account_data",
    "first_perp_market",
    "first_spot_market",
    "first_state",
    "first_user",
    "first_user_stats",
    "free_order",
    "name_bytes",
    "scaled_deposit",
    "settle_prices",
]

INTEREST_ONE = 10**10
_SCALED_PER_TOKEN = 1_000
"""Scaled balances are in 1e9 and USDC in 1e6, at an interest of one."""
_FEE_BPS_TENTHS = (100, 90, 80, 70, 60, 50)
_FEE_DENOMINATOR = 100_000
_CONCENTRATION = 1_414_200
_MILLION_USD = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class PerpMarketTerms:
    """What tells one perpetual market from another; base in 1e9, prices in 1e6, ratios in 1e4."""

    symbol: str
    index: int
    price: int
    reserve: int
    step: int
    tick: int
    min_order: int
    margin_initial: int
    margin_maintenance: int
    imf_factor: int
    max_open_interest: int


def account_data(layout: State | User | UserStats | PerpMarket | SpotMarket) -> bytes:
    """Return the account's data, discriminator first."""
    return account_discriminator(type(layout).__name__) + layout.encode()


def name_bytes(name: str) -> bytes:
    """Return a display name padded with blanks to 32 bytes."""
    return name.encode().ljust(32)


def scaled_deposit(usdc: int) -> int:
    """Return the scaled balance of a USDC amount (1e6) before any interest."""
    return usdc * _SCALED_PER_TOKEN


def first_state(program_id: Pubkey, admin: Pubkey) -> State:
    """Return the exchange with nothing paused and no auctions."""
    state = State.zero()
    state.admin = admin
    state.signer, state.signer_nonce = signer_address(program_id)
    _set_fees(state.perp_fee_structure, _FEE_BPS_TENTHS, referrer=15, referee=5)
    _set_fees(state.spot_fee_structure, _FEE_BPS_TENTHS[:1], referrer=0, referee=0)
    rails = state.oracle_guard_rails
    rails.price_divergence.mark_oracle_percent_divergence = PERCENTAGE_PRECISION // 10
    rails.price_divergence.oracle_twap_5min_percent_divergence = PERCENTAGE_PRECISION // 2
    rails.validity.slots_before_stale_for_amm = 10
    rails.validity.slots_before_stale_for_margin = 120
    rails.validity.confidence_interval_max_size = 20_000
    rails.validity.too_volatile_ratio = 5
    state.lp_cooldown_time = ONE_HOUR
    state.liquidation_margin_buffer_ratio = MARGIN_PRECISION // 50
    state.settlement_duration = 1
    state.number_of_spot_markets = 1
    state.default_market_order_time_in_force = 60
    state.default_spot_auction_duration = 10
    state.max_number_of_sub_accounts = 1_000
    return state


def _set_fees(fees: FeeStructure, tiers: tuple[int, ...], *, referrer: int, referee: int) -> None:
    for index, tier in enumerate(fees.fee_tiers):
        used = index < len(tiers)
        tier.copy_from(
            FeeTier(
                fee_numerator=tiers[index] if used else 0,
                fee_denominator=_FEE_DENOMINATOR,
                maker_rebate_numerator=20 if used else 0,
                maker_rebate_denominator=_FEE_DENOMINATOR,
                referrer_reward_numerator=referrer if used else 0,
                referrer_reward_denominator=100,
                referee_fee_numerator=referee if used else 0,
                referee_fee_denominator=100,
            )
        )
    fees.filler_reward_structure.reward_numerator = 10
    fees.filler_reward_structure.reward_denominator = 100
    fees.filler_reward_structure.time_based_reward_lower_bound = 10_000
    fees.flat_filler_fee = 10_000
    fees.referrer_reward_epoch_upper_bound = 4_000 * 10**6


def _settle_oracle(data: HistoricalOracleData, price: int, now: int) -> None:
    data.last_oracle_price = data.last_oracle_price_twap = data.last_oracle_price_twap_5min = price
    data.last_oracle_price_twap_ts = now


def first_spot_market(program_id: Pubkey, mint: Pubkey, oracle: Pubkey, now: int) -> SpotMarket:
    """Return the USDC market without a deposit."""
    market = SpotMarket.zero()
    market.pubkey, market.oracle, market.mint = spot_market_address(program_id, 0), oracle, mint
    market.vault = spot_vault_address(program_id, 0)
    market.insurance_fund.vault = insurance_vault_address(program_id, 0)
    market.insurance_fund.unstaking_period = 13 * 24 * ONE_HOUR
    market.insurance_fund.revenue_settle_period = ONE_HOUR
    market.name = name_bytes("USDC")
    _settle_oracle(market.historical_oracle_data, PRICE_PRECISION, now)
    market.cumulative_deposit_interest = market.cumulative_borrow_interest = INTEREST_ONE
    market.withdraw_guard_threshold = 100 * _MILLION_USD
    market.max_token_deposits = 500 * _MILLION_USD
    market.last_interest_ts = market.last_twap_ts = now
    market.order_step_size = market.order_tick_size = market.min_order_size = 1
    market.next_fill_record_id = market.next_deposit_record_id = 1
    market.initial_asset_weight = market.maintenance_asset_weight = MARGIN_PRECISION
    market.initial_liability_weight = market.maintenance_liability_weight = MARGIN_PRECISION
    market.optimal_utilization = 800_000
    market.optimal_borrow_rate = 100_000
    market.max_borrow_rate = 1_000_000
    market.decimals = 6
    market.oracle_source = OracleSource.PYTH_STABLE_COIN
    market.status = MarketStatus.ACTIVE
    return market


def first_perp_market(
    program_id: Pubkey, terms: PerpMarketTerms, oracle: Pubkey, *, now: int, slot: int, pools: int
) -> PerpMarket:
    """Return a market in balance, with `pools` USDC (1e6) in its fee pool and as much in its PnL pool."""
    market = PerpMarket.zero()
    market.pubkey = perp_market_address(program_id, terms.index)
    market.market_index = terms.index
    market.name = name_bytes(terms.symbol)
    market.status = MarketStatus.ACTIVE
    market.contract_tier = ContractTier.A
    market.margin_ratio_initial = terms.margin_initial
    market.margin_ratio_maintenance = terms.margin_maintenance
    market.imf_factor = terms.imf_factor
    market.liquidator_fee = market.if_liquidation_fee = 10_000
    market.unrealized_pnl_initial_asset_weight = MARGIN_PRECISION
    market.unrealized_pnl_maintenance_asset_weight = MARGIN_PRECISION
    market.unrealized_pnl_max_imbalance = 5 * _MILLION_USD
    market.next_fill_record_id = market.next_funding_rate_record_id = market.next_curve_record_id = 1
    market.pnl_pool.scaled_balance = market.amm.fee_pool.scaled_balance = scaled_deposit(pools)

    amm = market.amm
    amm.oracle, amm.oracle_source = oracle, OracleSource.PYTH
    amm.base_asset_reserve = amm.quote_asset_reserve = amm.terminal_quote_asset_reserve = terms.reserve
    amm.sqrt_k = terms.reserve
    amm.concentration_coef = _CONCENTRATION
    amm.min_base_asset_reserve, amm.max_base_asset_reserve = bid_ask_bounds(_CONCENTRATION, terms.reserve)
    amm.max_open_interest = terms.max_open_interest
    amm.total_fee = amm.total_mm_fee = amm.total_fee_minus_distributions = pools
    amm.order_step_size, amm.order_tick_size, amm.min_order_size = terms.step, terms.tick, terms.min_order
    amm.base_spread, amm.max_spread = 200, 20_000
    amm.max_fill_reserve_fraction, amm.max_slippage_ratio = 100, 50
    amm.funding_period, amm.last_funding_rate_ts = ONE_HOUR, now
    amm.last_update_slot, amm.last_oracle_valid = slot, True
    settle_prices(market, terms.price, now)
    return market


def settle_prices(market: PerpMarket, price: int, now: int) -> None:
    """Set peg and every average so as if the oracle had stood at `price` (1e6) for an hour."""
    amm = market.amm
    amm.peg_multiplier = price * amm.base_asset_reserve // amm.quote_asset_reserve
    _settle_oracle(amm.historical_oracle_data, price, now)
    amm.last_oracle_normalised_price = price
    amm.last_oracle_reserve_price_spread_pct = 0
    amm.last_bid_price_twap = price * (PERCENTAGE_PRECISION - amm.base_spread // 2) // PERCENTAGE_PRECISION
    amm.last_ask_price_twap = price * (PERCENTAGE_PRECISION + amm.base_spread // 2) // PERCENTAGE_PRECISION
    amm.last_mark_price_twap = amm.last_mark_price_twap_5min = price
    amm.last_mark_price_twap_ts = now
    amm.mark_std = amm.oracle_std = 0
    refresh_spreads(amm)


def free_order() -> Order:
    """Return an order place that is not in use."""
    order = Order.zero()
    order.status, order.order_type, order.market_type = OrderStatus.INIT, OrderType.LIMIT, 1
    return order


def first_user(authority: Pubkey, *, deposit: int) -> User:
    """Return a trader's first sub-account with a USDC deposit (1e6)."""
    user = User.zero()
    user.authority = authority
    user.name = name_bytes("Main Account")
    user.next_order_id = user.next_liquidation_id = 1
    position = user.spot_positions[0]
    position.scaled_balance, position.balance_type = scaled_deposit(deposit), BalanceType.DEPOSIT
    position.cumulative_deposits = user.total_deposits = deposit
    return user


def first_user_stats(authority: Pubkey, now: int) -> UserStats:
    """Return the stats that go with `first_user`."""
    stats = UserStats.zero()
    stats.authority = authority
    stats.last_maker_volume_30d_ts = stats.last_taker_volume_30d_ts = stats.last_filler_volume_30d_ts = now
    stats.number_of_sub_accounts = stats.number_of_sub_accounts_created = 1
    return stats
