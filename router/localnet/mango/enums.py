"""Small numbers with a name."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "FREE_SLOT",
    "NO_EXPIRY",
    "EventType",
    "IxGate",
    "NodeTag",
    "OracleType",
    "OrderTree",
    "PlaceOrderType",
    "SelfTradeBehavior",
    "Side",
]

FREE_SLOT = 65535
"""The token or market index of a position that is not in use."""

NO_EXPIRY = (1 << 64) - 1


class Side(IntEnum):
    """Of an order or of a book."""

    BID = 0
    ASK = 1

    @property
    def other(self) -> Side:
        """The opposing side."""
        return Side.ASK if self is Side.BID else Side.BID

    def is_better(self, price_lots: int, than_lots: int) -> bool:
        """Tell whether an order on this side at one price goes before one at the other."""
        return price_lots > than_lots if self is Side.BID else price_lots < than_lots

    def is_within(self, price_lots: int, limit_lots: int) -> bool:
        """Tell whether an order of this side with that limit may trade at a price."""
        return price_lots <= limit_lots if self is Side.BID else price_lots >= limit_lots


class PlaceOrderType(IntEnum):
    """What becomes of an order."""

    LIMIT = 0
    IMMEDIATE_OR_CANCEL = 1
    POST_ONLY = 2
    MARKET = 3
    POST_ONLY_SLIDE = 4


class SelfTradeBehavior(IntEnum):
    """What happens when an order meets one of its own account."""

    DECREMENT_TAKE = 0
    CANCEL_PROVIDE = 1
    ABORT_TRANSACTION = 2


class OrderTree(IntEnum):
    """The two trees of a side."""

    FIXED = 0
    ORACLE_PEGGED = 1


class NodeTag(IntEnum):
    """What a node of a book is."""

    UNINITIALIZED = 0
    INNER = 1
    LEAF = 2
    FREE = 3
    LAST_FREE = 4


class EventType(IntEnum):
    """What stands in the queue of a market."""

    FILL = 0
    OUT = 1
    LIQUIDATE = 2


class OracleType(IntEnum):
    """Kinds of oracle, as events name them."""

    PYTH = 0
    STUB = 1
    PYTH_V2 = 7


class IxGate(IntEnum):
    """Bits of the group's gate; a set bit disables the instruction."""

    ACCOUNT_CREATE = 1
    ACCOUNT_EXPAND = 3
    PERP_CANCEL_ALL_ORDERS = 11
    PERP_CANCEL_ALL_ORDERS_BY_SIDE = 12
    PERP_CANCEL_ORDER = 13
    PERP_CANCEL_ORDER_BY_CLIENT_ORDER_ID = 14
    PERP_CONSUME_EVENTS = 16
    PERP_DEACTIVATE_POSITION = 18
    PERP_LIQ_BASE_OR_POSITIVE_PNL = 19
    PERP_PLACE_ORDER = 22
    PERP_SETTLE_PNL = 24
    PERP_UPDATE_FUNDING = 25
    TOKEN_DEPOSIT = 40
    TOKEN_WITHDRAW = 47
