"""Accounts of the markets, as build 2.84 lays them out (after the 8 bytes of discriminator)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from router.localnet.codec import I8, I16, I32, I64, I128, U8, U16, U32, U64, U128, Flag, Key, Layout

__all__ = [
    "AMM",
    "HistoricalIndexData",
    "HistoricalOracleData",
    "InsuranceClaim",
    "InsuranceFund",
    "PerpMarket",
    "PoolBalance",
    "SpotMarket",
]


@dataclass(slots=True)
class HistoricalOracleData(Layout):
    """The oracle price as the market saw it, and its averages, 1e6."""

    last_oracle_price: I64
    last_oracle_conf: U64
    last_oracle_delay: I64
    last_oracle_price_twap: I64
    last_oracle_price_twap_5min: I64
    last_oracle_price_twap_ts: I64


@dataclass(slots=True)
class HistoricalIndexData(Layout):
    """Index prices of a spot market, 1e6."""

    last_index_bid_price: U64
    last_index_ask_price: U64
    last_index_price_twap: U64
    last_index_price_twap_5min: U64
    last_index_price_twap_ts: I64


@dataclass(slots=True)
class PoolBalance(Layout):
    """A token balance that the market itself holds, scaled to 1e9."""

    scaled_balance: U128
    market_index: U16
    padding: Annotated[bytes, 6]


@dataclass(slots=True)
class InsuranceClaim(Layout):
    """What the market may take from the insurance fund."""

    revenue_withdraw_since_last_settle: I64
    max_revenue_withdraw_per_period: U64
    quote_max_insurance: U64
    quote_settled_insurance: U64
    last_revenue_withdraw_ts: I64


@dataclass(slots=True)
class AMM(Layout):
    """The constant-product curve of a perpetual market and all that is counted on it."""

    oracle: Key
    historical_oracle_data: HistoricalOracleData
    base_asset_amount_per_lp: I128
    quote_asset_amount_per_lp: I128
    fee_pool: PoolBalance
    base_asset_reserve: U128
    quote_asset_reserve: U128
    concentration_coef: U128
    min_base_asset_reserve: U128
    max_base_asset_reserve: U128
    sqrt_k: U128
    peg_multiplier: U128
    terminal_quote_asset_reserve: U128
    base_asset_amount_long: I128
    base_asset_amount_short: I128
    base_asset_amount_with_amm: I128
    base_asset_amount_with_unsettled_lp: I128
    max_open_interest: U128
    quote_asset_amount: I128
    quote_entry_amount_long: I128
    quote_entry_amount_short: I128
    quote_break_even_amount_long: I128
    quote_break_even_amount_short: I128
    user_lp_shares: U128
    last_funding_rate: I64
    last_funding_rate_long: I64
    last_funding_rate_short: I64
    last_24h_avg_funding_rate: I64
    total_fee: I128
    total_mm_fee: I128
    total_exchange_fee: U128
    total_fee_minus_distributions: I128
    total_fee_withdrawn: U128
    total_liquidation_fee: U128
    cumulative_funding_rate_long: I128
    cumulative_funding_rate_short: I128
    total_social_loss: U128
    ask_base_asset_reserve: U128
    ask_quote_asset_reserve: U128
    bid_base_asset_reserve: U128
    bid_quote_asset_reserve: U128
    last_oracle_normalised_price: I64
    last_oracle_reserve_price_spread_pct: I64
    last_bid_price_twap: U64
    last_ask_price_twap: U64
    last_mark_price_twap: U64
    last_mark_price_twap_5min: U64
    last_update_slot: U64
    last_oracle_conf_pct: U64
    net_revenue_since_last_funding: I64
    last_funding_rate_ts: I64
    funding_period: I64
    order_step_size: U64
    order_tick_size: U64
    min_order_size: U64
    max_position_size: U64
    volume_24h: U64
    long_intensity_volume: U64
    short_intensity_volume: U64
    last_trade_ts: I64
    mark_std: U64
    oracle_std: U64
    last_mark_price_twap_ts: I64
    base_spread: U32
    max_spread: U32
    long_spread: U32
    short_spread: U32
    long_intensity_count: U32
    short_intensity_count: U32
    max_fill_reserve_fraction: U16
    max_slippage_ratio: U16
    curve_update_intensity: U8
    amm_jit_intensity: U8
    oracle_source: U8
    last_oracle_valid: Flag
    target_base_asset_amount_per_lp: I32
    per_lp_base: I8
    padding1: U8
    padding2: U16
    total_fee_earned_per_lp: U64
    net_unsettled_funding_pnl: I64
    quote_asset_amount_with_unsettled_lp: I64
    reference_price_offset: I32
    padding: Annotated[bytes, 12]


@dataclass(slots=True)
class PerpMarket(Layout):
    """A perpetual market."""

    pubkey: Key
    amm: AMM
    pnl_pool: PoolBalance
    name: Annotated[bytes, 32]
    insurance_claim: InsuranceClaim
    unrealized_pnl_max_imbalance: U64
    expiry_ts: I64
    expiry_price: I64
    next_fill_record_id: U64
    next_funding_rate_record_id: U64
    next_curve_record_id: U64
    imf_factor: U32
    unrealized_pnl_imf_factor: U32
    liquidator_fee: U32
    if_liquidation_fee: U32
    margin_ratio_initial: U32
    margin_ratio_maintenance: U32
    unrealized_pnl_initial_asset_weight: U32
    unrealized_pnl_maintenance_asset_weight: U32
    number_of_users_with_base: U32
    number_of_users: U32
    market_index: U16
    status: U8
    contract_type: U8
    contract_tier: U8
    paused_operations: U8
    quote_spot_market_index: U16
    fee_adjustment: I16
    padding: Annotated[bytes, 46]


@dataclass(slots=True)
class InsuranceFund(Layout):
    """The insurance fund of a spot market."""

    vault: Key
    total_shares: U128
    user_shares: U128
    shares_base: U128
    unstaking_period: I64
    last_revenue_settle_ts: I64
    revenue_settle_period: I64
    total_factor: U32
    user_factor: U32


@dataclass(slots=True)
class SpotMarket(Layout):
    """A token that can be deposited and borrowed."""

    pubkey: Key
    oracle: Key
    mint: Key
    vault: Key
    name: Annotated[bytes, 32]
    historical_oracle_data: HistoricalOracleData
    historical_index_data: HistoricalIndexData
    revenue_pool: PoolBalance
    spot_fee_pool: PoolBalance
    insurance_fund: InsuranceFund
    total_spot_fee: U128
    deposit_balance: U128
    borrow_balance: U128
    cumulative_deposit_interest: U128
    cumulative_borrow_interest: U128
    total_social_loss: U128
    total_quote_social_loss: U128
    withdraw_guard_threshold: U64
    max_token_deposits: U64
    deposit_token_twap: U64
    borrow_token_twap: U64
    utilization_twap: U64
    last_interest_ts: U64
    last_twap_ts: U64
    expiry_ts: I64
    order_step_size: U64
    order_tick_size: U64
    min_order_size: U64
    max_position_size: U64
    next_fill_record_id: U64
    next_deposit_record_id: U64
    initial_asset_weight: U32
    maintenance_asset_weight: U32
    initial_liability_weight: U32
    maintenance_liability_weight: U32
    imf_factor: U32
    liquidator_fee: U32
    if_liquidation_fee: U32
    optimal_utilization: U32
    optimal_borrow_rate: U32
    max_borrow_rate: U32
    decimals: U32
    market_index: U16
    orders_enabled: Flag
    oracle_source: U8
    status: U8
    asset_tier: U8
    paused_operations: U8
    if_paused_operations: U8
    fee_adjustment: I16
    max_token_borrows_fraction: U16
    flash_loan_amount: U64
    flash_loan_initial_token_amount: U64
    total_swap_fee: U64
    scale_initial_asset_weight_start: U64
    min_borrow_rate: U8
    padding: Annotated[bytes, 47]
