"""Accounts of the program with fixed layouts, after the 8 bytes of discriminator.

I80F48 fields are raw bits (see `numbers`). The names are the program's own, so that its interface description reads
the same bytes under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from router.localnet.codec import I64, I128, U8, U16, U32, U64, U128, Key, Layout

__all__ = [
    "F32",
    "F64",
    "Bank",
    "Group",
    "MintInfo",
    "OracleConfig",
    "PerpMarket",
    "StablePriceModel",
    "StubOracle",
]

F32 = Annotated[float, "f"]
F64 = Annotated[float, "d"]


@dataclass(slots=True)
class Group(Layout):
    """What all accounts, banks and markets belong to."""

    creator: Key
    group_num: U32
    admin: Key
    fast_listing_admin: Key
    mngo_token_index: U16
    padding: Annotated[bytes, 2]
    insurance_vault: Key
    insurance_mint: Key
    bump: U8
    testing: U8
    version: U8
    buyback_fees: U8
    buyback_fees_mngo_bonus_factor: F32
    address_lookup_tables: Annotated[bytes, 640]
    security_admin: Key
    deposit_limit_quote: U64
    ix_gate: U128
    buyback_fees_swap_mango_account: Key
    buyback_fees_expiry_interval: U64
    fast_listing_interval_start: U64
    fast_listings_in_interval: U16
    allowed_fast_listings_per_interval: U16
    padding2: Annotated[bytes, 4]
    collateral_fee_interval: U64
    reserved: Annotated[bytes, 1800]


@dataclass(slots=True)
class OracleConfig(Layout):
    """How uncertain (a fraction, I80F48) and how old a price may be; negative staleness: any age."""

    conf_filter: I128
    max_staleness_slots: I64
    reserved: Annotated[bytes, 72]


@dataclass(slots=True)
class StablePriceModel(Layout):
    """A price that follows the oracle slowly; the program computes it in floats."""

    stable_price: F64
    last_update_timestamp: U64
    delay_prices: Annotated[bytes, 192]
    delay_accumulator_price: F64
    delay_accumulator_time: U32
    delay_interval_seconds: U32
    delay_growth_limit: F32
    stable_growth_limit: F32
    last_delay_interval_index: U8
    reset_on_nonzero_price: U8
    padding: Annotated[bytes, 6]
    reserved: Annotated[bytes, 48]


@dataclass(slots=True)
class Bank(Layout):
    """Deposits and borrows of one token; weights and rates are I80F48."""

    group: Key
    name: Annotated[bytes, 16]
    mint: Key
    vault: Key
    oracle: Key
    oracle_config: OracleConfig
    stable_price_model: StablePriceModel
    deposit_index: I128
    borrow_index: I128
    indexed_deposits: I128
    indexed_borrows: I128
    index_last_updated: U64
    bank_rate_last_updated: U64
    avg_utilization: I128
    adjustment_factor: I128
    util0: I128
    rate0: I128
    util1: I128
    rate1: I128
    max_rate: I128
    collected_fees_native: I128
    loan_origination_fee_rate: I128
    loan_fee_rate: I128
    maint_asset_weight: I128
    init_asset_weight: I128
    maint_liab_weight: I128
    init_liab_weight: I128
    liquidation_fee: I128
    dust: I128
    flash_loan_token_account_initial: U64
    flash_loan_approved_amount: U64
    token_index: U16
    bump: U8
    mint_decimals: U8
    bank_num: U32
    min_vault_to_deposits_ratio: F64
    net_borrow_limit_window_size_ts: U64
    last_net_borrows_window_start_ts: U64
    net_borrow_limit_per_window_quote: I64
    net_borrows_in_window: I64
    borrow_weight_scale_start_quote: F64
    deposit_weight_scale_start_quote: F64
    reduce_only: U8
    force_close: U8
    disable_asset_liquidation: U8
    force_withdraw: U8
    tier: Annotated[bytes, 4]
    fees_withdrawn: U64
    token_conditional_swap_taker_fee_rate: F32
    token_conditional_swap_maker_fee_rate: F32
    flash_loan_swap_fee_rate: F32
    interest_target_utilization: F32
    interest_curve_scaling: F64
    potential_serum_tokens: U64
    maint_weight_shift_start: U64
    maint_weight_shift_end: U64
    maint_weight_shift_duration_inv: I128
    maint_weight_shift_asset_target: I128
    maint_weight_shift_liab_target: I128
    fallback_oracle: Key
    deposit_limit: U64
    zero_util_rate: I128
    platform_liquidation_fee: I128
    collected_liquidation_fees: I128
    collected_collateral_fees: I128
    collateral_fee_per_day: F32
    reserved: Annotated[bytes, 1900]


@dataclass(slots=True)
class MintInfo(Layout):
    """Which banks a mint has in the group; keys not in use are zero."""

    group: Key
    token_index: U16
    group_insurance_fund: U8
    padding1: Annotated[bytes, 5]
    mint: Key
    banks: Annotated[bytes, 192]
    vaults: Annotated[bytes, 192]
    oracle: Key
    registration_time: U64
    fallback_oracle: Key
    reserved: Annotated[bytes, 2528]


@dataclass(slots=True)
class PerpMarket(Layout):
    """One perpetual market: sizes in base lots, funding in native quote a base lot (I80F48)."""

    group: Key
    settle_token_index: U16
    perp_market_index: U16
    blocked1: U8
    group_insurance_fund: U8
    bump: U8
    base_decimals: U8
    name: Annotated[bytes, 16]
    bids: Key
    asks: Key
    event_queue: Key
    oracle: Key
    oracle_config: OracleConfig
    stable_price_model: StablePriceModel
    quote_lot_size: I64
    base_lot_size: I64
    maint_base_asset_weight: I128
    init_base_asset_weight: I128
    maint_base_liab_weight: I128
    init_base_liab_weight: I128
    open_interest: I64
    seq_num: U64
    registration_time: U64
    min_funding: I128
    max_funding: I128
    impact_quantity: I64
    long_funding: I128
    short_funding: I128
    funding_last_updated: U64
    base_liquidation_fee: I128
    maker_fee: I128
    taker_fee: I128
    fees_accrued: I128
    fees_settled: I128
    fee_penalty: F32
    settle_fee_flat: F32
    settle_fee_amount_threshold: F32
    settle_fee_fraction_low_health: F32
    settle_pnl_limit_factor: F32
    padding3: Annotated[bytes, 4]
    settle_pnl_limit_window_size_ts: U64
    reduce_only: U8
    force_close: U8
    padding4: Annotated[bytes, 6]
    maint_overall_asset_weight: I128
    init_overall_asset_weight: I128
    positive_pnl_liquidation_fee: I128
    fees_withdrawn: U64
    platform_liquidation_fee: I128
    accrued_liquidation_fees: I128
    reserved: Annotated[bytes, 1848]


@dataclass(slots=True)
class StubOracle(Layout):
    """A price that somebody sets: native quote a native base (I80F48).

    A slot of zero is never stale, a deviation of zero always confident.
    """

    group: Key
    mint: Key
    price: I128
    last_update_ts: I64
    last_update_slot: U64
    deviation: I128
    reserved: Annotated[bytes, 104]
