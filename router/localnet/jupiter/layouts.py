"""Accounts of the program and of its price feeds, as they lie on the chain.

Dollars and prices are 1e6, rates and cumulative interest 1e9, fees basis points; tokens are native units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, Self

from router.localnet.anchor import account_discriminator
from router.localnet.borsh import Borsh, Keys, OptFlag, OptKey, OptU64, Text
from router.localnet.codec import I8, I64, U8, U32, U64, U128, Flag, Key, Layout

__all__ = [
    "SPACE",
    "AgPriceFeed",
    "Assets",
    "BorrowLendParams",
    "Content",
    "Custody",
    "FundingRateState",
    "JumpRateState",
    "OracleParams",
    "Permissions",
    "Perpetuals",
    "Pool",
    "Position",
    "PositionRequest",
    "PriceImpactBuffer",
    "PricingParams",
    "account_data",
]

F32 = Annotated[float, "f"]


@dataclass(slots=True)
class OracleParams(Layout):
    """The older price account, and how old a price may be in seconds."""

    oracle_account: Key
    oracle_type: U8
    buffer: U64
    max_price_age_sec: U32


@dataclass(slots=True)
class PricingParams(Layout):
    """Impact scale (dollars), largest leverage (bps) and caps of all positions of a side (dollars)."""

    trade_impact_fee_scalar: U64
    buffer: U64
    swap_spread: U64
    max_leverage: U64
    max_global_long_sizes: U64
    max_global_short_sizes: U64


@dataclass(slots=True)
class Permissions(Layout):
    """What may be done."""

    allow_swap: Flag
    allow_add_liquidity: Flag
    allow_remove_liquidity: Flag
    allow_increase_position: Flag
    allow_decrease_position: Flag
    allow_collateral_withdrawal: Flag
    allow_liquidate_position: Flag


@dataclass(slots=True)
class Assets(Layout):
    """Tokens of the pool, those that positions have locked, and the sums over positions of each side (dollars)."""

    fees_reserves: U64
    owned: U64
    locked: U64
    guaranteed_usd: U64
    global_short_sizes: U64
    global_short_average_prices: U64


@dataclass(slots=True)
class FundingRateState(Layout):
    """The borrow rate summed up so far; a set hourly rate (1e5) replaces the curve."""

    cumulative_interest_rate: U128
    last_update: I64
    hourly_funding_dbps: U64


@dataclass(slots=True)
class JumpRateState(Layout):
    """The yearly borrow rate's curve (bps) with its kink (1e9)."""

    min_rate_bps: U64
    max_rate_bps: U64
    target_rate_bps: U64
    target_utilization_rate: U64


@dataclass(slots=True)
class PriceImpactBuffer(Layout):
    """What was traded in the last minute, a signed number of dollars a second, and what a surplus costs."""

    open_interest: Annotated[bytes, 480]
    last_updated: I64
    fee_factor: U64
    exponent: F32
    delta_imbalance_threshold_decimal: U64
    max_fee_bps: U64


@dataclass(slots=True)
class BorrowLendParams(Layout):
    """Terms of loans against the pool's shares, which are not modelled."""

    borrows_limit_in_bps: U64
    maintainance_margin_bps: U64
    protocol_fee_bps: U64
    liquidation_margin: U64
    liquidation_fee_bps: U64


@dataclass(slots=True)
class Custody(Layout):
    """The pool's account of one token."""

    pool: Key
    mint: Key
    token_account: Key
    decimals: U8
    is_stable: Flag
    oracle: OracleParams
    pricing: PricingParams
    permissions: Permissions
    target_ratio_bps: U64
    assets: Assets
    funding_rate_state: FundingRateState
    bump: U8
    token_account_bump: U8
    increase_position_bps: U64
    decrease_position_bps: U64
    max_position_size_usd: U64
    doves_oracle: Key
    jump_rate_state: JumpRateState
    doves_ag_oracle: Key
    price_impact_buffer: PriceImpactBuffer
    borrow_lend_parameters: BorrowLendParams
    borrows_funding_rate_state: FundingRateState
    debt: U128
    borrow_lend_interests_accured: U128
    borrow_limit_in_token_amount: U64
    min_interest_fee_bps: U64
    min_interest_fee_grace_period_seconds: U64
    total_staked_amount_lamports: U64
    max_total_staked_amount_lamports: U64
    external_swap_fee_multiplier_bps: U64
    disable_close_position_request: Flag
    withdrawal_limit_token_amount: U64
    withdrawal_token_amount_accumulated: U64
    withdrawal_limit_last_reset_at: I64
    withdrawal_limit_interval_seconds: U64


@dataclass(slots=True)
class Pool(Borsh):
    """The liquidity pool; `max_request_execution_sec` is how long a market request may be executed."""

    name: Text
    custodies: Keys
    aum_usd: U128
    max_aum_usd: U128
    token_weightage_buffer_bps: U128
    limit_buffer: U64
    swap_multiplier: U64
    stable_swap_multiplier: U64
    add_remove_liquidity_bps: U64
    swap_bps: U64
    tax_bps: U64
    stable_swap_bps: U64
    stable_swap_tax_bps: U64
    liquidation_reward_bps: U64
    protocol_share_bps: U64
    apr_last_updated: I64
    apr_fee_apr_bps: U64
    apr_realized_fee_usd: U64
    max_request_execution_sec: I64
    bump: U8
    lp_token_bump: U8
    inception_time: I64
    parameter_update_oracle: Annotated[bytes, 33]
    aum_usd_updated_at: I64
    max_trigger_price_diff_bps: U64
    disable_close_position_request: Flag
    max_lp_token_price_change_bps: U64
    aum_usd_refreshed_at_slot: U64


@dataclass(slots=True)
class Perpetuals(Borsh):
    """The program's settings."""

    allow_swap: Flag
    allow_add_liquidity: Flag
    allow_remove_liquidity: Flag
    allow_increase_position: Flag
    allow_decrease_position: Flag
    allow_collateral_withdrawal: Flag
    allow_liquidate_position: Flag
    pools: Keys
    admin: Key
    transfer_authority_bump: U8
    perpetuals_bump: U8
    inception_time: I64


@dataclass(slots=True)
class Position(Layout):
    """What an owner holds on one side of a market against one collateral; without a size it is flat."""

    owner: Key
    pool: Key
    custody: Key
    collateral_custody: Key
    open_time: I64
    update_time: I64
    side: U8
    price: U64
    size_usd: U64
    collateral_usd: U64
    realised_pnl_usd: I64
    cumulative_interest_snapshot: U128
    locked_amount: U64
    bump: U8


@dataclass(slots=True)
class PositionRequest(Borsh):
    """What an owner asks the keepers to do with a position."""

    owner: Key
    pool: Key
    custody: Key
    position: Key
    mint: Key
    open_time: I64
    update_time: I64
    size_usd_delta: U64
    collateral_delta: U64
    request_change: U8
    request_type: U8
    side: U8
    price_slippage: OptU64
    jupiter_minimum_out: OptU64
    pre_swap_amount: OptU64
    trigger_price: OptU64
    trigger_above_threshold: OptFlag
    entire_position: OptFlag
    executed: Flag
    counter: U64
    bump: U8
    referral: OptKey


@dataclass(slots=True)
class AgPriceFeed(Layout):
    """A price of the Doves program, gathered from several sources: `price` times ten to the `expo`."""

    mint: Key
    edge_feed: Key
    cl_feed: Key
    pyth_feed: Key
    pyth_feed_id: Annotated[bytes, 32]
    price: U64
    expo: I8
    timestamp: I64
    max_ag_price_age_sec: U32
    max_price_feed_age_sec: U32
    max_price_diff_bps: U64
    bump: U8


class Content(Protocol):
    """What an account holds after its discriminator; the class has the account type's name."""

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read it from the account's bytes."""
        ...

    def encode(self) -> bytes:
        """Return the bytes."""
        ...


SPACE: dict[type[Content], int] = {
    Custody: 2_000,
    Pool: 2_000,
    Perpetuals: 512,
    Position: 216,
    PositionRequest: 312,
    AgPriceFeed: 202,
}
"""How wide the accounts are; what their content does not fill is zero."""


def account_data(content: Content) -> bytes:
    """Return an account's data, discriminator first, zeros behind."""
    kind = type(content)
    return (account_discriminator(kind.__name__) + content.encode()).ljust(SPACE[kind], b"\0")
