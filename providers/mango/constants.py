"""Mango v4's numbers and enumerations, as its program has them. Integers only.

`I80F48` is a signed 128-bit integer in units of 2**-48; everything of that type is held as that raw integer.

Source: program 0.24.3 (`state`, `health` and `accounts_ix` modules); the interface description in `idl/mango_v4.json`
has the same values.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from solders.pubkey import Pubkey

__all__ = [
    "BOOK_NODES",
    "CLOCK_SYSVAR",
    "DROP_EXPIRED_ORDER_LIMIT",
    "EVENT_QUEUE_SLOTS",
    "FRACTION_BITS",
    "FREE_INDEX",
    "HOURS_PER_DAY",
    "I64_MAX",
    "I64_MIN",
    "MAIN_GROUP",
    "MAX_EVENTS_PER_CONSUME",
    "NO_PEG_LIMIT",
    "ONE",
    "PROGRAM_ID",
    "PYTH_RECEIVER_PROGRAM",
    "QUOTE_DECIMALS",
    "QUOTE_TOKEN",
    "SLOT_MS",
    "BookSideOrderTree",
    "BookSideType",
    "EventType",
    "IxGate",
    "NodeTag",
    "PlaceOrderType",
    "SelfTradeBehavior",
    "Side",
]

PROGRAM_ID: Final = Pubkey.from_string("4MangoMjqJ2firMokCjjGgoK8d4MXcrgL7XJaL3w6fVg")
MAIN_GROUP: Final = Pubkey.from_string("78b8f4cGCwmZ9ysPFMWLaLTkkaYnUjwMJYStWe5RTSSX")
CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
PYTH_RECEIVER_PROGRAM: Final = Pubkey.from_string("rec5EKMGg6MxZYaMdyBfgwp4d5rB9T1VQH5pJv5LtFJ")

FRACTION_BITS: Final = 48
ONE: Final = 1 << FRACTION_BITS

I64_MAX: Final = (1 << 63) - 1
I64_MIN: Final = -(1 << 63)

# Index of a token or market in a slot that nothing uses.
FREE_INDEX: Final = 65535

# The token that perp markets settle in, and the decimals of every quote amount.
QUOTE_TOKEN: Final = 0
QUOTE_DECIMALS: Final = 6

BOOK_NODES: Final = 1024
EVENT_QUEUE_SLOTS: Final = 488
NO_PEG_LIMIT: Final = -1

# Expired or invalid orders that one taking order removes from the book; each takes a place in the event queue.
DROP_EXPIRED_ORDER_LIMIT: Final = 5
MAX_EVENTS_PER_CONSUME: Final = 8

# What the program takes a slot to last when it turns a slot limit into an age.
SLOT_MS: Final = 450
HOURS_PER_DAY: Final = 24


class Side(IntEnum):
    """Side of an order."""

    BID = 0
    ASK = 1


class PlaceOrderType(IntEnum):
    """How an order is placed."""

    LIMIT = 0
    IMMEDIATE_OR_CANCEL = 1
    POST_ONLY = 2
    MARKET = 3
    POST_ONLY_SLIDE = 4


class SelfTradeBehavior(IntEnum):
    """What happens when an order meets one of the same account."""

    DECREMENT_TAKE = 0
    CANCEL_PROVIDE = 1
    ABORT_TRANSACTION = 2


class BookSideOrderTree(IntEnum):
    """The two trees of a book side; the number is the root's index."""

    FIXED = 0
    ORACLE_PEGGED = 1


class BookSideType(IntEnum):
    """Which side a book account holds."""

    BIDS = 0
    ASKS = 1


class NodeTag(IntEnum):
    """What a node of a tree is."""

    UNINITIALIZED = 0
    INNER = 1
    LEAF = 2
    FREE = 3
    LAST_FREE = 4


class EventType(IntEnum):
    """What an entry of the event queue tells."""

    FILL = 0
    OUT = 1


class IxGate(IntEnum):
    """Bits of `Group.ix_gate`; a set bit disables the instruction. Only those that the adapter uses."""

    ACCOUNT_CREATE = 1
    ACCOUNT_EXPAND = 3
    PERP_CANCEL_ORDER = 13
    PERP_CANCEL_ORDER_BY_CLIENT_ORDER_ID = 14
    PERP_CONSUME_EVENTS = 16
    PERP_DEACTIVATE_POSITION = 18
    PERP_PLACE_ORDER = 22
    PERP_SETTLE_PNL = 24
    PERP_UPDATE_FUNDING = 25
    TOKEN_DEPOSIT = 40
    TOKEN_WITHDRAW = 47
