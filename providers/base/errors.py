"""What can go wrong at a provider: one tree, and the only thing that the engine looks at.

Each class below has a stable `code`; its parent fixes the `error_class`, which decides whether the next provider is
asked (DESIGN 8). `phase` is given where the error is raised: the same refusal may come before or after bytes left.

A leaf with `blocks_close` is a state of the venue or of the account on it that refuses even a reduce-only close, and
that passes without the order being changed: such a close is tried again until it fills or is cancelled.

ProviderError
├── CapacityError               the venue cannot take this order now: next provider
│   ├── OpenInterestCap         the market's open interest is at its limit
│   ├── CustodyLimit            the venue's token custody is at its limit
│   ├── NoLiquidity             nothing to trade against at this size
│   ├── MarketReduceOnly        the market takes reductions only
│   ├── MarketPaused            fills or orders of the market, or the exchange, are paused
│   ├── VenueHalted             the program answers no instruction
│   ├── VenueRetired            the venue is closed for good
│   ├── UnsupportedProgram      the program is not one that this adapter knows
│   ├── NotListed               the venue has no such market
│   ├── WouldNet                an open would reduce a holding on the other side
│   ├── LeverageAboveMaximum    more leverage than the market gives
│   ├── BelowMinimum            less than the market's smallest order
│   ├── ProviderLimit           our own limit of what may be held there is reached
│   └── HaltedByOperator        an operator has switched opens off there
├── ConnectionFailed            no usable answer, or nothing landed: next provider once dead
│   ├── Unreachable             refused, DNS, TLS
│   ├── TimedOut                no answer in time
│   ├── RateLimited             429, or the node's own word for it
│   ├── ServerError             5xx
│   ├── BadAnswer               an answer that cannot be read
│   ├── NodeBehind              the node has not reached the slot that was asked for
│   ├── OracleStale             the venue's price is too old to trade on
│   ├── BreakerOpen             too many failures lately: not asked
│   ├── LockHeld                another transaction holds the order lock: its holder decides
│   └── NotLanded               sent, and proven never to execute
├── CollateralError             the account on that venue cannot carry it: next provider
│   └── InsufficientCollateral  free collateral is below the margin that is needed
├── VenueAccountError           the account itself: next provider, with an alert
│   ├── AccountMissing          not set up on this venue
│   ├── NoFreeSlot              no free place for an order or a position
│   ├── BeingLiquidated         the account is in liquidation
│   ├── UserReduceOnly          the account may only reduce
│   └── FeePayerShort           too little SOL for fees, rent or the order lock
├── PriceError                  the market left the caller's bound: next provider, within the bound
│   ├── WorstPriceNotMet        no fill at the worst price or better
│   ├── AuctionExpired          the auction ended without a fill
│   ├── QuoteDeviates           the quote is too far from the venue's own oracle
│   └── OracleDeviates          the venue's oracle is too far from the independent price
├── InvalidOrder                wrong whatever the venue: answer at once
│   ├── InvalidSize             rounds to nothing, or is not a size
│   ├── InvalidTrigger          a stop or take profit that could not do its work
│   └── NothingLeft             nothing is left of what was to be closed
├── PolicyRefusal               our own rules: answer at once
│   ├── LiveTradingOff          mainnet without the second switch
│   ├── TradingHalted           an operator has switched opens off everywhere
│   ├── PriceReferenceMissing   no independent price can be had to hold the venue's against
│   └── SignerRefused           the signer would not sign
├── OurBug                      wrong accounts or arguments: answer at once, alert
│   └── RequestRejected         the venue says that the request itself is wrong
└── UnclassifiedError           a code in no table
    └── UnknownCode             see the raw code
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

import msgspec

__all__ = [
    "CLOSE_BLOCKING_CODES",
    "AccountMissing",
    "AuctionExpired",
    "BadAnswer",
    "BeingLiquidated",
    "BelowMinimum",
    "BreakerOpen",
    "CapacityError",
    "CollateralError",
    "ConnectionFailed",
    "CustodyLimit",
    "ErrorClass",
    "ErrorInfo",
    "FeePayerShort",
    "HaltedByOperator",
    "InsufficientCollateral",
    "InvalidOrder",
    "InvalidSize",
    "InvalidTrigger",
    "LeverageAboveMaximum",
    "LiveTradingOff",
    "LockHeld",
    "MarketPaused",
    "MarketReduceOnly",
    "NoFreeSlot",
    "NoLiquidity",
    "NodeBehind",
    "NotLanded",
    "NotListed",
    "NothingLeft",
    "OpenInterestCap",
    "OracleDeviates",
    "OracleStale",
    "OurBug",
    "Phase",
    "PolicyRefusal",
    "PriceError",
    "PriceReferenceMissing",
    "ProviderError",
    "ProviderLimit",
    "QuoteDeviates",
    "RateLimited",
    "RequestRejected",
    "ServerError",
    "SignerRefused",
    "TimedOut",
    "TradingHalted",
    "UnclassifiedError",
    "UnknownCode",
    "Unreachable",
    "UnsupportedProgram",
    "UserReduceOnly",
    "VenueAccountError",
    "VenueHalted",
    "VenueRetired",
    "WorstPriceNotMet",
    "WouldNet",
]


class ErrorClass(StrEnum):
    """The nine classes of DESIGN 8; `allows_next_provider` is the engine's whole failover rule."""

    CAPACITY = "capacity"
    CONNECTION = "connection"
    COLLATERAL = "collateral"
    VENUE_ACCOUNT = "venue_account"
    PRICE = "price"
    INVALID = "invalid"
    POLICY = "policy"
    OUR_BUG = "our_bug"
    UNCLASSIFIED = "unclassified"

    @property
    def allows_next_provider(self) -> bool:
        """Whether a *dead* attempt of this class lets the chain ask the next provider."""
        return self not in {ErrorClass.INVALID, ErrorClass.POLICY, ErrorClass.OUR_BUG}

    @property
    def wants_alert(self) -> bool:
        """Whether an operator should look even when the next provider fills."""
        return self in {ErrorClass.VENUE_ACCOUNT, ErrorClass.OUR_BUG, ErrorClass.UNCLASSIFIED}


class Phase(StrEnum):
    """How far the request had come: `not_sent` means that no byte of it was written to any URL."""

    NOT_SENT = "not_sent"
    MAYBE_SENT = "maybe_sent"
    ANSWERED = "answered"


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as a record: what the ledger stores and the answer shows.

    `raw_code` and `raw_name` are the venue's own (`"6154"`, `"MaxOpenInterest"`); null where the venue said nothing.
    """

    code: str
    error_class: ErrorClass
    phase: Phase
    detail: str = ""
    raw_code: str | None = None
    raw_name: str | None = None


class ProviderError(Exception):
    """Base of the tree; raise a leaf.

    Args:
        detail: one sentence for people; never a secret, never a server's whole answer.
        phase: how far the request had come.
        raw_code: the venue's own code, as it writes it.
        raw_name: the venue's own name for the code.
        retry_after_s: when the venue or node said so.
    """

    code: ClassVar[str] = "provider_error"
    error_class: ClassVar[ErrorClass] = ErrorClass.UNCLASSIFIED
    blocks_close: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        phase: Phase = Phase.NOT_SENT,
        raw_code: str | int | None = None,
        raw_name: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.phase = phase
        self.raw_code = None if raw_code is None else str(raw_code)
        self.raw_name = raw_name
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Return `code: detail (raw code and name)`."""
        raw = " ".join(part for part in (self.raw_code, self.raw_name) if part)
        return f"{self.code}: {self.detail}" + (f" ({raw})" if raw else "")

    def info(self) -> ErrorInfo:
        """Return the error as a record."""
        return ErrorInfo(
            code=self.code,
            error_class=self.error_class,
            phase=self.phase,
            detail=self.detail,
            raw_code=self.raw_code,
            raw_name=self.raw_name,
        )


class CapacityError(ProviderError):
    """The venue cannot take this order now: next provider."""

    error_class = ErrorClass.CAPACITY


class OpenInterestCap(CapacityError):
    """The market's open interest is at its limit."""

    code = "open_interest_cap"
    blocks_close = True


class CustodyLimit(CapacityError):
    """The venue's token custody is at its limit."""

    code = "custody_limit"
    blocks_close = True


class NoLiquidity(CapacityError):
    """Nothing to trade against at this size."""

    code = "no_liquidity"


class MarketReduceOnly(CapacityError):
    """The market takes reductions only."""

    code = "market_reduce_only"


class MarketPaused(CapacityError):
    """Fills or orders of the market, or the exchange, are paused."""

    code = "market_paused"
    blocks_close = True


class VenueHalted(CapacityError):
    """The program answers no instruction."""

    code = "halted"
    blocks_close = True


class VenueRetired(CapacityError):
    """The venue is closed for good."""

    code = "retired"
    blocks_close = True


class UnsupportedProgram(CapacityError):
    """The program is not one that this adapter knows."""

    code = "unsupported_program"
    blocks_close = True


class NotListed(CapacityError):
    """The venue has no such market."""

    code = "not_listed"


class WouldNet(CapacityError):
    """An open would reduce a holding on the other side."""

    code = "would_net"


class LeverageAboveMaximum(CapacityError):
    """More leverage than the market gives."""

    code = "leverage_above_maximum"


class BelowMinimum(CapacityError):
    """Less than the market's smallest order."""

    code = "below_minimum"


class ProviderLimit(CapacityError):
    """Our own limit of what may be held there is reached."""

    code = "provider_limit"


class HaltedByOperator(CapacityError):
    """An operator has switched opens off there."""

    code = "halted_by_operator"


class ConnectionFailed(ProviderError):
    """No usable answer, or nothing landed: next provider once dead."""

    error_class = ErrorClass.CONNECTION


class Unreachable(ConnectionFailed):
    """Refused, DNS, TLS."""

    code = "unreachable"


class TimedOut(ConnectionFailed):
    """No answer in time."""

    code = "timed_out"


class RateLimited(ConnectionFailed):
    """429, or the node's own word for it."""

    code = "rate_limited"


class ServerError(ConnectionFailed):
    """5xx."""

    code = "server_error"


class BadAnswer(ConnectionFailed):
    """An answer that cannot be read."""

    code = "bad_answer"


class NodeBehind(ConnectionFailed):
    """The node has not reached the slot that was asked for."""

    code = "node_behind"


class OracleStale(ConnectionFailed):
    """The venue's price is too old to trade on."""

    code = "oracle_stale"
    blocks_close = True


class BreakerOpen(ConnectionFailed):
    """Too many failures lately: not asked."""

    code = "breaker_open"


class LockHeld(ConnectionFailed):
    """Another transaction holds the order lock: its holder decides."""

    code = "lock_held"


class NotLanded(ConnectionFailed):
    """Sent, and proven never to execute."""

    code = "not_landed"


class CollateralError(ProviderError):
    """The account on that venue cannot carry it: next provider."""

    error_class = ErrorClass.COLLATERAL


class InsufficientCollateral(CollateralError):
    """Free collateral is below the margin that is needed."""

    code = "insufficient_collateral"
    blocks_close = True


class VenueAccountError(ProviderError):
    """The account itself: next provider, with an alert."""

    error_class = ErrorClass.VENUE_ACCOUNT


class AccountMissing(VenueAccountError):
    """Not set up on this venue."""

    code = "account_missing"


class NoFreeSlot(VenueAccountError):
    """No free place for an order or a position."""

    code = "no_free_slot"


class BeingLiquidated(VenueAccountError):
    """The account is in liquidation."""

    code = "being_liquidated"
    blocks_close = True


class UserReduceOnly(VenueAccountError):
    """The account may only reduce."""

    code = "user_reduce_only"


class FeePayerShort(VenueAccountError):
    """Too little SOL for fees, rent or the order lock."""

    code = "fee_payer_short"


class PriceError(ProviderError):
    """The market left the caller's bound: next provider, within the bound."""

    error_class = ErrorClass.PRICE


class WorstPriceNotMet(PriceError):
    """No fill at the worst price or better."""

    code = "worst_price_not_met"


class AuctionExpired(PriceError):
    """The auction ended without a fill."""

    code = "auction_expired"


class QuoteDeviates(PriceError):
    """The quote is too far from the venue's own oracle."""

    code = "quote_deviates"


class OracleDeviates(PriceError):
    """The venue's oracle is too far from the independent price."""

    code = "oracle_deviates"


class InvalidOrder(ProviderError):
    """Wrong whatever the venue: answer at once."""

    error_class = ErrorClass.INVALID


class InvalidSize(InvalidOrder):
    """Rounds to nothing, or is not a size."""

    code = "invalid_size"


class InvalidTrigger(InvalidOrder):
    """A stop or take profit that could not do its work."""

    code = "invalid_trigger"


class NothingLeft(InvalidOrder):
    """Nothing is left of what was to be closed."""

    code = "nothing_left"


class PolicyRefusal(ProviderError):
    """Our own rules: answer at once."""

    error_class = ErrorClass.POLICY


class LiveTradingOff(PolicyRefusal):
    """Mainnet without the second switch."""

    code = "live_trading_off"


class TradingHalted(PolicyRefusal):
    """An operator has switched opens off everywhere."""

    code = "trading_halted"


class PriceReferenceMissing(PolicyRefusal):
    """No independent price can be had to hold the venue's against."""

    code = "price_reference_missing"


class SignerRefused(PolicyRefusal):
    """The signer would not sign."""

    code = "signer_refused"


class OurBug(ProviderError):
    """Wrong accounts or arguments: answer at once, alert."""

    error_class = ErrorClass.OUR_BUG


class RequestRejected(OurBug):
    """The venue says that the request itself is wrong."""

    code = "request_rejected"


class UnclassifiedError(ProviderError):
    """A code in no table."""

    error_class = ErrorClass.UNCLASSIFIED


class UnknownCode(UnclassifiedError):
    """See the raw code."""

    code = "unknown_code"


def _leaves(cls: type[ProviderError]) -> list[type[ProviderError]]:
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] if below else [cls]


CLOSE_BLOCKING_CODES: Final = frozenset(leaf.code for leaf in _leaves(ProviderError) if leaf.blocks_close)
"""Codes of the leaves with `blocks_close`."""
