"""Drift v2's numbers and enumerations, as its program has them. Integers only; precisions are powers of ten.

Source: `programs/drift/src/math/constants.rs` and the `state` modules of the program, version 2.84; the interface
description 2.142 in `idl/drift.json` has the same values.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from solders.pubkey import Pubkey

__all__ = [
    "AMM_RESERVE_PRECISION",
    "BASE_PRECISION",
    "CLOCK_SYSVAR",
    "FUNDING_RATE_PRECISION",
    "MARGIN_PRECISION",
    "MAX_PERP_POSITIONS",
    "MAX_SPOT_POSITIONS",
    "MAX_USER_ORDERS",
    "OPEN_ORDER_MARGIN",
    "PERCENTAGE_PRECISION",
    "PRICE_PRECISION",
    "PROGRAM_ID",
    "QUOTE_PRECISION",
    "QUOTE_SPOT_MARKET",
    "RENT_SYSVAR",
    "ContractTier",
    "Direction",
    "ExchangeStatus",
    "MarginType",
    "MarketStatus",
    "MarketType",
    "OracleSource",
    "OrderAction",
    "OrderActionExplanation",
    "OrderStatus",
    "OrderType",
    "PerpOperation",
    "SpotBalanceType",
    "TriggerCondition",
    "UserStatus",
]

PROGRAM_ID: Final = Pubkey.from_string("dRiftyHA39MWEi3m9aunc5MzRF1JYuBsbn6VPcn33UH")
RENT_SYSVAR: Final = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")

AMM_RESERVE_PRECISION: Final = 10**9
BASE_PRECISION: Final = 10**9
PRICE_PRECISION: Final = 10**6
QUOTE_PRECISION: Final = 10**6
PERCENTAGE_PRECISION: Final = 10**6
FUNDING_RATE_PRECISION: Final = 10**9
MARGIN_PRECISION: Final = 10**4

# Margin that every open order adds, in quote precision: one cent.
OPEN_ORDER_MARGIN: Final = QUOTE_PRECISION // 100

QUOTE_SPOT_MARKET: Final = 0
MAX_SPOT_POSITIONS: Final = 8
MAX_PERP_POSITIONS: Final = 8
MAX_USER_ORDERS: Final = 32


class Direction(IntEnum):
    """Which way an order trades."""

    LONG = 0
    SHORT = 1


class MarketType(IntEnum):
    """What an order is for."""

    SPOT = 0
    PERP = 1


class OrderType(IntEnum):
    """How an order is priced."""

    MARKET = 0
    LIMIT = 1
    TRIGGER_MARKET = 2
    TRIGGER_LIMIT = 3
    ORACLE = 4


class TriggerCondition(IntEnum):
    """When a trigger order goes off; the last two say that it has."""

    ABOVE = 0
    BELOW = 1
    TRIGGERED_ABOVE = 2
    TRIGGERED_BELOW = 3


class OrderStatus(IntEnum):
    """State of an order slot; an ended order's slot is zeroed, which reads as `INIT`."""

    INIT = 0
    OPEN = 1
    FILLED = 2
    CANCELED = 3


class SpotBalanceType(IntEnum):
    """Side of a token balance."""

    DEPOSIT = 0
    BORROW = 1


class MarketStatus(IntEnum):
    """Status byte of a perp market. Fills happen in `ACTIVE` and `REDUCE_ONLY` only."""

    INITIALIZED = 0
    ACTIVE = 1
    FUNDING_PAUSED = 2
    AMM_PAUSED = 3
    FILL_PAUSED = 4
    WITHDRAW_PAUSED = 5
    REDUCE_ONLY = 6
    SETTLEMENT = 7
    DELISTED = 8


class ContractTier(IntEnum):
    """How safe a market is held to be; scales guard rails."""

    A = 0
    B = 1
    C = 2
    SPECULATIVE = 3
    HIGHLY_SPECULATIVE = 4
    ISOLATED = 5


class OracleSource(IntEnum):
    """Which program writes a market's price account, and its scale."""

    PYTH = 0
    SWITCHBOARD = 1
    QUOTE_ASSET = 2
    PYTH_1K = 3
    PYTH_1M = 4
    PYTH_STABLE_COIN = 5
    PRELAUNCH = 6
    PYTH_PULL = 7
    PYTH_1K_PULL = 8
    PYTH_1M_PULL = 9
    PYTH_STABLE_COIN_PULL = 10
    SWITCHBOARD_ON_DEMAND = 11
    PYTH_LAZER = 12
    PYTH_LAZER_1K = 13
    PYTH_LAZER_1M = 14
    PYTH_LAZER_STABLE_COIN = 15


class ExchangeStatus(IntFlag):
    """Pause bits of `State.exchange_status`; `ALL` is every bit that version 2.84 knows."""

    DEPOSIT_PAUSED = 1
    WITHDRAW_PAUSED = 2
    AMM_PAUSED = 4
    FILL_PAUSED = 8
    LIQ_PAUSED = 16
    FUNDING_PAUSED = 32
    SETTLE_PNL_PAUSED = 64
    ALL = 127


class PerpOperation(IntFlag):
    """Pause bits of `PerpMarket.paused_operations`."""

    UPDATE_FUNDING = 1
    AMM_FILL = 2
    FILL = 4
    SETTLE_PNL = 8
    SETTLE_PNL_WITH_POSITION = 16
    LIQUIDATION = 32


class UserStatus(IntFlag):
    """Flags of `User.status`."""

    BEING_LIQUIDATED = 1
    BANKRUPT = 2
    REDUCE_ONLY = 4


class OrderAction(IntEnum):
    """What an `OrderActionRecord` tells."""

    PLACE = 0
    CANCEL = 1
    FILL = 2
    TRIGGER = 3
    EXPIRE = 4


class OrderActionExplanation(IntEnum):
    """Why; only those that the adapter tells apart."""

    NONE = 0
    INSUFFICIENT_FREE_COLLATERAL = 1
    ORDER_EXPIRED = 4
    LIQUIDATION = 5
    RISK_INCREASING_ORDER = 11
    REDUCE_ONLY_ORDER_INCREASED_POSITION = 12


class MarginType(IntEnum):
    """Which margin ratios apply: placing (initial), filling (half way), keeping (maintenance)."""

    INITIAL = 0
    FILL = 1
    MAINTENANCE = 2
