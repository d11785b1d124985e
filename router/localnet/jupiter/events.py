"""What the program emits, by calling itself: the bytes of its events."""

from __future__ import annotations

from dataclasses import dataclass

from router.localnet.anchor import event_discriminator
from router.localnet.borsh import Borsh, OptFlag, OptKey, OptU64
from router.localnet.codec import I64, U8, U64, Flag, Key
from router.localnet.jupiter.addresses import EVENT_PREFIX

__all__ = [
    "ClosePositionRequestEvent",
    "CreatePositionRequestEvent",
    "DecreasePositionEvent",
    "IncreasePositionEvent",
    "InstantDecreasePositionEvent",
    "InstantIncreasePositionEvent",
    "LiquidateFullPositionEvent",
    "event_data",
]


@dataclass(slots=True)
class CreatePositionRequestEvent(Borsh):
    """A request was made."""

    owner: Key
    pool: Key
    position_key: Key
    position_side: U8
    position_mint: Key
    position_custody: Key
    position_collateral_mint: Key
    position_collateral_custody: Key
    position_request_key: Key
    position_request_mint: Key
    size_usd_delta: U64
    collateral_delta: U64
    price_slippage: OptU64
    jupiter_minimum_out: OptU64
    pre_swap_amount: OptU64
    request_change: U8
    open_time: I64
    referral: OptKey


@dataclass(slots=True)
class ClosePositionRequestEvent(Borsh):
    """A request is over: executed, or given back."""

    entire_position: OptFlag
    executed: Flag
    request_change: U8
    request_type: U8
    side: U8
    position_request_key: Key
    owner: Key
    mint: Key
    amount: U64
    open_time: I64


@dataclass(slots=True)
class IncreasePositionEvent(Borsh):
    """A position became larger."""

    position_key: Key
    position_side: U8
    position_custody: Key
    position_collateral_custody: Key
    position_size_usd: U64
    position_mint: Key
    position_request_key: Key
    position_request_mint: Key
    position_request_change: U8
    position_request_type: U8
    position_request_collateral_delta: U64
    owner: Key
    pool: Key
    size_usd_delta: U64
    collateral_usd_delta: U64
    collateral_token_delta: U64
    price: U64
    price_slippage: OptU64
    fee_token: U64
    fee_usd: U64
    open_time: I64
    referral: OptKey
    position_fee_usd: U64
    funding_fee_usd: U64
    price_impact_fee_usd: U64


@dataclass(slots=True)
class DecreasePositionEvent(Borsh):
    """A position became smaller, or flat."""

    position_key: Key
    position_side: U8
    position_custody: Key
    position_collateral_custody: Key
    position_size_usd: U64
    position_mint: Key
    position_request_key: Key
    position_request_mint: Key
    position_request_change: U8
    position_request_type: U8
    has_profit: Flag
    pnl_delta: U64
    owner: Key
    pool: Key
    size_usd_delta: U64
    transfer_amount_usd: U64
    transfer_token: OptU64
    price: U64
    price_slippage: OptU64
    fee_usd: U64
    open_time: I64
    referral: OptKey
    position_fee_usd: U64
    funding_fee_usd: U64
    price_impact_fee_usd: U64
    original_position_collateral_usd: U64
    position_collateral_usd: U64
    position_open_time: I64
    position_price: U64


@dataclass(slots=True)
class InstantIncreasePositionEvent(Borsh):
    """A position became larger without a request."""

    position_key: Key
    position_side: U8
    position_custody: Key
    position_collateral_custody: Key
    position_size_usd: U64
    position_mint: Key
    owner: Key
    pool: Key
    size_usd_delta: U64
    collateral_usd_delta: U64
    collateral_token_delta: U64
    price: U64
    price_slippage: U64
    fee_token: U64
    fee_usd: U64
    open_time: I64
    referral: OptKey
    position_fee_usd: U64
    funding_fee_usd: U64
    price_impact_fee_usd: U64


@dataclass(slots=True)
class InstantDecreasePositionEvent(Borsh):
    """A position became smaller without a request."""

    position_key: Key
    position_side: U8
    position_custody: Key
    position_collateral_custody: Key
    position_size_usd: U64
    position_mint: Key
    desired_mint: Key
    has_profit: Flag
    pnl_delta: U64
    owner: Key
    pool: Key
    size_usd_delta: U64
    transfer_amount_usd: U64
    transfer_token: U64
    price: U64
    price_slippage: U64
    fee_usd: U64
    open_time: I64
    referral: OptKey
    position_fee_usd: U64
    funding_fee_usd: U64
    original_position_collateral_usd: U64
    position_collateral_usd: U64
    price_impact_fee_usd: U64
    position_open_time: I64
    position_price: U64
    position_request: OptKey


@dataclass(slots=True)
class LiquidateFullPositionEvent(Borsh):
    """A position was taken away from its owner."""

    position_key: Key
    position_side: U8
    position_custody: Key
    position_collateral_custody: Key
    position_collateral_mint: Key
    position_mint: Key
    position_size_usd: U64
    has_profit: Flag
    pnl_delta: U64
    owner: Key
    pool: Key
    transfer_amount_usd: U64
    transfer_token: U64
    price: U64
    fee_usd: U64
    liquidation_fee_usd: U64
    open_time: I64
    position_fee_usd: U64
    funding_fee_usd: U64
    price_impact_fee_usd: U64
    original_position_collateral_usd: U64
    position_collateral_usd: U64
    position_open_time: I64
    position_price: U64


def event_data(event: Borsh) -> bytes:
    """Return the data of the instruction that emits the event."""
    return EVENT_PREFIX + event_discriminator(type(event).__name__) + event.encode()
