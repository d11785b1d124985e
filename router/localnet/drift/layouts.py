"""Accounts of a trader and of the exchange, as build 2.84 lays them out (after the 8 bytes of discriminator)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from router.localnet.codec import I8, I32, I64, U8, U16, U32, U64, U128, Flag, Key, Layout

__all__ = [
    "FeeStructure",
    "FeeTier",
    "OracleGuardRails",
    "Order",
    "OrderFillerRewardStructure",
    "PerpPosition",
    "PriceDivergenceGuardRails",
    "SpotPosition",
    "State",
    "User",
    "UserFees",
    "UserStats",
    "ValidityGuardRails",
]


@dataclass(slots=True)
class SpotPosition(Layout):
    """A deposit or borrow of one token, and the spot orders on it."""

    scaled_balance: U64
    open_bids: I64
    open_asks: I64
    cumulative_deposits: I64
    market_index: U16
    balance_type: U8
    open_orders: U8
    padding: Annotated[bytes, 4]


@dataclass(slots=True)
class PerpPosition(Layout):
    """The slot of one perpetual market: base in 1e9, quote in 1e6."""

    last_cumulative_funding_rate: I64
    base_asset_amount: I64
    quote_asset_amount: I64
    quote_break_even_amount: I64
    quote_entry_amount: I64
    open_bids: I64
    open_asks: I64
    settled_pnl: I64
    lp_shares: U64
    last_base_asset_amount_per_lp: I64
    last_quote_asset_amount_per_lp: I64
    remainder_base_asset_amount: I32
    market_index: U16
    open_orders: U8
    per_lp_base: I8


@dataclass(slots=True)
class Order(Layout):
    """One of the 32 order places of a user; all zero but for defaults when free."""

    slot: U64
    price: U64
    base_asset_amount: U64
    base_asset_amount_filled: U64
    quote_asset_amount_filled: U64
    trigger_price: U64
    auction_start_price: I64
    auction_end_price: I64
    max_ts: I64
    oracle_price_offset: I32
    order_id: U32
    market_index: U16
    status: U8
    order_type: U8
    market_type: U8
    user_order_id: U8
    existing_position_direction: U8
    direction: U8
    reduce_only: Flag
    post_only: Flag
    immediate_or_cancel: Flag
    trigger_condition: U8
    auction_duration: U8
    padding: Annotated[bytes, 3]


@dataclass(slots=True)
class User(Layout):
    """A sub-account: 8 spot positions, 8 perpetual positions, 32 orders."""

    authority: Key
    delegate: Key
    name: Annotated[bytes, 32]
    spot_positions: Annotated[list[SpotPosition], 8]
    perp_positions: Annotated[list[PerpPosition], 8]
    orders: Annotated[list[Order], 32]
    last_add_perp_lp_shares_ts: I64
    total_deposits: U64
    total_withdraws: U64
    total_social_loss: U64
    settled_perp_pnl: I64
    cumulative_spot_fees: I64
    cumulative_perp_funding: I64
    liquidation_margin_freed: U64
    last_active_slot: U64
    next_order_id: U32
    max_margin_ratio: U32
    next_liquidation_id: U16
    sub_account_id: U16
    status: U8
    is_margin_trading_enabled: Flag
    idle: Flag
    open_orders: U8
    has_open_order: Flag
    open_auctions: U8
    has_open_auction: Flag
    padding: Annotated[bytes, 21]


@dataclass(slots=True)
class UserFees(Layout):
    """Fees paid and earned since the beginning, 1e6."""

    total_fee_paid: U64
    total_fee_rebate: U64
    total_token_discount: U64
    total_referee_discount: U64
    total_referrer_reward: U64
    current_epoch_referrer_reward: U64


@dataclass(slots=True)
class UserStats(Layout):
    """What all sub-accounts of an authority share: fees, 30-day volumes."""

    authority: Key
    referrer: Key
    fees: UserFees
    next_epoch_ts: I64
    maker_volume_30d: U64
    taker_volume_30d: U64
    filler_volume_30d: U64
    last_maker_volume_30d_ts: I64
    last_taker_volume_30d_ts: I64
    last_filler_volume_30d_ts: I64
    if_staked_quote_asset_amount: U64
    number_of_sub_accounts: U16
    number_of_sub_accounts_created: U16
    is_referrer: Flag
    disable_update_perp_bid_ask_twap: Flag
    padding: Annotated[bytes, 50]


@dataclass(slots=True)
class FeeTier(Layout):
    """Fractions of one fee tier."""

    fee_numerator: U32
    fee_denominator: U32
    maker_rebate_numerator: U32
    maker_rebate_denominator: U32
    referrer_reward_numerator: U32
    referrer_reward_denominator: U32
    referee_fee_numerator: U32
    referee_fee_denominator: U32


@dataclass(slots=True)
class OrderFillerRewardStructure(Layout):
    """What a keeper earns for a fill."""

    reward_numerator: U32
    reward_denominator: U32
    time_based_reward_lower_bound: U128


@dataclass(slots=True)
class FeeStructure(Layout):
    """Ten fee tiers and the keeper's reward."""

    fee_tiers: Annotated[list[FeeTier], 10]
    filler_reward_structure: OrderFillerRewardStructure
    referrer_reward_epoch_upper_bound: U64
    flat_filler_fee: U64


@dataclass(slots=True)
class PriceDivergenceGuardRails(Layout):
    """How far mark and oracle may part, 1e6."""

    mark_oracle_percent_divergence: U64
    oracle_twap_5min_percent_divergence: U64


@dataclass(slots=True)
class ValidityGuardRails(Layout):
    """When an oracle price counts as stale, wide or volatile."""

    slots_before_stale_for_amm: I64
    slots_before_stale_for_margin: I64
    confidence_interval_max_size: U64
    too_volatile_ratio: I64


@dataclass(slots=True)
class OracleGuardRails(Layout):
    """Guard rails of all oracles."""

    price_divergence: PriceDivergenceGuardRails
    validity: ValidityGuardRails


@dataclass(slots=True)
class State(Layout):
    """The exchange: fees, guard rails, pauses, counters."""

    admin: Key
    whitelist_mint: Key
    discount_mint: Key
    signer: Key
    srm_vault: Key
    perp_fee_structure: FeeStructure
    spot_fee_structure: FeeStructure
    oracle_guard_rails: OracleGuardRails
    number_of_authorities: U64
    number_of_sub_accounts: U64
    lp_cooldown_time: U64
    liquidation_margin_buffer_ratio: U32
    settlement_duration: U16
    number_of_markets: U16
    number_of_spot_markets: U16
    signer_nonce: U8
    min_perp_auction_duration: U8
    default_market_order_time_in_force: U8
    default_spot_auction_duration: U8
    exchange_status: U8
    liquidation_duration: U8
    initial_pct_to_liquidate: U16
    max_number_of_sub_accounts: U16
    max_initialize_user_fee: U16
    padding: Annotated[bytes, 10]
