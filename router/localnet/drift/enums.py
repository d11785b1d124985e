"""Numbers that stand for words in the program's accounts and instructions."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "BalanceType",
    "ContractTier",
    "Direction",
    "ExchangeStatus",
    "MarketStatus",
    "MarketType",
    "OracleSource",
    "OrderAction",
    "OrderExplanation",
    "OrderStatus",
    "OrderType",
    "PerpOperation",
    "PostOnly",
    "TriggerCondition",
    "UserStatus",
]


class Direction(IntEnum):
    """Side of an order."""

    LONG = 0
    SHORT = 1

    @property
    def opposite(self) -> Direction:
        """The other side."""
        return Direction(1 - self)


class MarketType(IntEnum):
    """Which kind of market an order is for."""

    SPOT = 0
    PERP = 1


class OrderType(IntEnum):
    """Kind of order."""

    MARKET = 0
    LIMIT = 1
    TRIGGER_MARKET = 2
    TRIGGER_LIMIT = 3
    ORACLE = 4


class OrderStatus(IntEnum):
    """State of an order's place."""

    INIT = 0
    OPEN = 1
    FILLED = 2
    CANCELED = 3


class TriggerCondition(IntEnum):
    """When a trigger order fires; the last two say that it has."""

    ABOVE = 0
    BELOW = 1
    TRIGGERED_ABOVE = 2
    TRIGGERED_BELOW = 3


class PostOnly(IntEnum):
    """What becomes of an order that would take."""

    NONE = 0
    MUST = 1
    TRY = 2
    SLIDE = 3


class BalanceType(IntEnum):
    """Deposit or borrow."""

    DEPOSIT = 0
    BORROW = 1


class MarketStatus(IntEnum):
    """Life of a market."""

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
    """How safe a market counts."""

    A = 0
    B = 1
    C = 2
    SPECULATIVE = 3
    HIGHLY_SPECULATIVE = 4
    ISOLATED = 5


class OracleSource(IntEnum):
    """How an oracle account is read."""

    PYTH = 0
    SWITCHBOARD = 1
    QUOTE_ASSET = 2
    PYTH_1K = 3
    PYTH_1M = 4
    PYTH_STABLE_COIN = 5


class ExchangeStatus(IntFlag):
    """What is paused on the whole exchange; all seven together stop everything."""

    DEPOSIT = 1
    WITHDRAW = 2
    AMM = 4
    FILL = 8
    LIQUIDATION = 16
    FUNDING = 32
    SETTLE_PNL = 64
    ALL = 127


class PerpOperation(IntFlag):
    """What is paused on one market."""

    UPDATE_FUNDING = 1
    AMM_FILL = 2
    FILL = 4
    SETTLE_PNL = 8
    SETTLE_PNL_WITH_POSITION = 16
    LIQUIDATION = 32


class UserStatus(IntFlag):
    """State of a user account."""

    BEING_LIQUIDATED = 1
    BANKRUPT = 2
    REDUCE_ONLY = 4
    ADVANCED_LP = 8


class OrderAction(IntEnum):
    """What an order record tells of."""

    PLACE = 0
    CANCEL = 1
    FILL = 2
    TRIGGER = 3
    EXPIRE = 4


class OrderExplanation(IntEnum):
    """Why it happened."""

    NONE = 0
    INSUFFICIENT_FREE_COLLATERAL = 1
    ORACLE_PRICE_BREACHED_LIMIT_PRICE = 2
    MARKET_ORDER_FILLED_TO_LIMIT_PRICE = 3
    ORDER_EXPIRED = 4
    LIQUIDATION = 5
    ORDER_FILLED_WITH_AMM = 6
    ORDER_FILLED_WITH_AMM_JIT = 7
    ORDER_FILLED_WITH_MATCH = 8
    ORDER_FILLED_WITH_MATCH_JIT = 9
    MARKET_EXPIRED = 10
    RISK_INCREASING_ORDER = 11
    REDUCE_ONLY_ORDER_INCREASED_POSITION = 12
