"""Arguments of the instructions, as they stand behind the discriminator."""

from __future__ import annotations

from dataclasses import dataclass

from router.localnet.borsh import Borsh, OptFlag, OptU64
from router.localnet.codec import I64, U8, U64

__all__ = [
    "CreateDecreaseMarketParams",
    "CreateDecreaseParams",
    "CreateIncreaseParams",
    "InstantDecreaseParams",
    "InstantIncreaseParams",
    "UpdateDecreaseParams",
]


@dataclass(slots=True)
class CreateIncreaseParams(Borsh):
    """Of `createIncreasePositionMarketRequest`: collateral in tokens, the worst price absolute."""

    size_usd_delta: U64
    collateral_token_delta: U64
    side: U8
    price_slippage: U64
    jupiter_minimum_out: OptU64
    counter: U64


@dataclass(slots=True)
class CreateDecreaseMarketParams(Borsh):
    """Of `createDecreasePositionMarketRequest`."""

    collateral_usd_delta: U64
    size_usd_delta: U64
    price_slippage: U64
    jupiter_minimum_out: OptU64
    entire_position: OptFlag
    counter: U64


@dataclass(slots=True)
class CreateDecreaseParams(Borsh):
    """Of `createDecreasePositionRequest2`."""

    collateral_usd_delta: U64
    size_usd_delta: U64
    request_type: U8
    price_slippage: OptU64
    jupiter_minimum_out: OptU64
    trigger_price: OptU64
    trigger_above_threshold: OptFlag
    entire_position: OptFlag
    counter: U64


@dataclass(slots=True)
class UpdateDecreaseParams(Borsh):
    """Of `updateDecreasePositionRequest2`."""

    size_usd_delta: U64
    trigger_price: U64


@dataclass(slots=True)
class InstantIncreaseParams(Borsh):
    """Of `instantIncreasePosition`."""

    size_usd_delta: U64
    collateral_token_delta: OptU64
    side: U8
    price_slippage: U64
    request_time: I64


@dataclass(slots=True)
class InstantDecreaseParams(Borsh):
    """Of `instantDecreasePosition`."""

    collateral_usd_delta: U64
    size_usd_delta: U64
    price_slippage: U64
    entire_position: OptFlag
    request_time: I64
