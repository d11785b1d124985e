"""What the engine takes from a caller and gives back, free of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from providers.base.errors import ErrorInfo
from providers.base.types import Capacity, Lifecycle, Market, Quote, Side
from router.engine.protection_terms import Protection
from router.ledger.records import HaltRecord, Leg, LegTerms, OrderView, PositionRecord, ProtectionTerms

__all__ = [
    "AbovePosition",
    "BelowEveryMinimum",
    "BeyondLiquidation",
    "Candidate",
    "CloseRequest",
    "CursorInvalid",
    "DeadlineTooFar",
    "EntryPriceUnknown",
    "FindingNotFound",
    "InvalidRequest",
    "KeyMismatch",
    "LeverageAboveLimit",
    "LeverageTooHigh",
    "LimitExceeded",
    "MarketListing",
    "MarketUnknown",
    "NothingForeignHeld",
    "NothingToClose",
    "OpenRequest",
    "OpensHalted",
    "OpensHeld",
    "OrderAboveLimit",
    "OrderUnknown",
    "Placed",
    "PositionAnswer",
    "PositionEnded",
    "PositionUnknown",
    "ProtectRequest",
    "ProtectionRefused",
    "ProviderListing",
    "ProviderUnknown",
    "QuoteAnswer",
    "QuoteFailed",
    "QuoteRequest",
    "Refusal",
    "SideNeeded",
    "StopLossRefused",
    "TakeProfitRefused",
    "WouldLeaveDust",
]

AUTO = "auto"


class QuoteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A price request; exactly one of `size` and `size_usd` is given. `market` is canonical (`SOL-PERP`)."""

    market: str
    side: Side
    size: Decimal | None = None
    size_usd: Decimal | None = None
    leverage: Decimal = Decimal(1)
    provider: str = AUTO
    slippage_bps: int = 50
    worst_price: Decimal | None = None


class OpenRequest(QuoteRequest, frozen=True, kw_only=True):
    """An open. `key` is the idempotency key, or the client order id, or null."""

    caller: str
    key: str | None
    client_order_id: str | None
    fingerprint: str
    ttl_s: int = 60
    request: bytes = b"{}"
    protection: ProtectionTerms = ProtectionTerms()


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A close by `position_id`, or by `provider` and `market` (and `side`), oldest lots first.

    With neither `size` nor `fraction`, all that is left to close.
    """

    caller: str
    key: str | None
    client_order_id: str | None
    fingerprint: str
    position_id: str | None = None
    provider: str | None = None
    market: str | None = None
    side: Side | None = None
    size: Decimal | None = None
    fraction: Decimal | None = None
    slippage_bps: int = 50
    worst_price: Decimal | None = None
    ttl_s: int = 60
    request: bytes = b"{}"


class ProtectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a position's protection: the legs that are named get these terms, or (null) are taken away."""

    caller: str
    position_id: str
    legs: Mapping[Leg, LegTerms | None]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's quote or its error, in chain order."""

    provider: str
    quote: Quote | None = None
    error: ErrorInfo | None = None


class QuoteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The first provider's quote that the chain would use, and everybody's."""

    quote: Quote
    worst_price: Decimal
    candidates: tuple[Candidate, ...]


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The order that a request made, or made before (`replayed`)."""

    view: OrderView
    replayed: bool


class PositionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A lot with what the market says of it now; null where the venue could not be read."""

    position: PositionRecord
    mark_price: Decimal | None
    unrealized_pnl_usd: Decimal | None
    liquidation_price: Decimal | None
    protection: Protection


class MarketListing(msgspec.Struct, frozen=True, kw_only=True):
    """A canonical market and what each provider of the chain says of it."""

    symbol: str
    providers: tuple[Market, ...]


class ProviderListing(msgspec.Struct, frozen=True, kw_only=True):
    """A provider of the chain: lifecycle, capacity, and the error when it cannot be read."""

    provider: str
    position_in_chain: int
    lifecycle: Lifecycle | None
    reason: str
    capacity: tuple[Capacity, ...]
    slot: int | None
    as_of: datetime
    error: ErrorInfo | None
    halt: HaltRecord | None = None


class Refusal(Exception):
    """The engine will not make an order of this request; nothing was recorded and no key used up.

    `code` is stable; `data` goes into the answer as it is.
    """

    code = "refused"

    def __init__(self, detail: str, **data: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data


class InvalidRequest(Refusal):
    """Well formed but impossible (both sizes, a zero size, a fraction above one)."""

    code = "invalid_request"


class MarketUnknown(Refusal):
    """No provider of the chain lists the market; `data["nearest"]` has the nearest names."""

    code = "unknown_market"


class ProviderUnknown(Refusal):
    """Not a provider of the chain; `data["providers"]` lists them."""

    code = "unknown_provider"


class BelowEveryMinimum(Refusal):
    """Below the smallest order of every provider asked; `data["minimums"]` lists them with size and size_usd."""

    code = "below_minimum"


class LeverageTooHigh(Refusal):
    """Above what any provider asked gives; `data["max_leverage"]` by provider."""

    code = "leverage_too_high"


class OrderAboveLimit(Refusal):
    """Above the router's own limit per order; `data["limit_usd"]`."""

    code = "order_above_limit"


class LeverageAboveLimit(Refusal):
    """More leverage than the router allows; `data["limit"]`."""

    code = "leverage_above_limit"


class LimitExceeded(Refusal):
    """A limit on what may be opened in all is reached; `data` has `limit`, `value`, `used` and `asked`."""

    code = "limit_exceeded"


class OpensHalted(Refusal):
    """An operator has switched opens off; `data` has `scope` (`router`, or a provider), `reason` and `since`."""

    code = "trading_halted"


class DeadlineTooFar(Refusal):
    """`ttl_s` outside the allowed range."""

    code = "invalid_ttl"


class KeyMismatch(Refusal):
    """The idempotency key or client order id belongs to another body."""

    code = "idempotency_key_reused"


class CursorInvalid(Refusal):
    """The cursor is none that this service gave."""

    code = "invalid_parameter"


class OrderUnknown(Refusal):
    """No such order."""

    code = "order_not_found"


class PositionUnknown(Refusal):
    """No such position."""

    code = "position_not_found"


class PositionEnded(Refusal):
    """The position is closed: there is nothing left to protect."""

    code = "position_closed"


class ProtectionRefused(Refusal):
    """A stop or take profit that could not do its work; `data["field"]` names it."""

    code = "invalid_request"


class StopLossRefused(ProtectionRefused):
    """It would fire at once."""

    code = "invalid_stop_loss"


class TakeProfitRefused(ProtectionRefused):
    """It would fire at once."""

    code = "invalid_take_profit"


class BeyondLiquidation(ProtectionRefused):
    """The liquidation would come first."""

    code = "trigger_beyond_liquidation"


class AbovePosition(ProtectionRefused):
    """It would close more than there is."""

    code = "protection_above_position"


class NothingToClose(Refusal):
    """The position is closed, or other closes hold all that is left of it."""

    code = "nothing_to_close"


class WouldLeaveDust(Refusal):
    """The close, or what it leaves, is below the venue's smallest order; `data["min_size"]` and `data["left"]`."""

    code = "would_leave_dust"


class OpensHeld(Refusal):
    """Opens are held (a finding, too little SOL, live trading off); closes still work. `data["reason"]`."""

    code = "opens_held"


class QuoteFailed(Refusal):
    """No provider gave a quote; `data["candidates"]` are `Candidate`s and tell why."""

    code = "no_quote"


class FindingNotFound(Refusal):
    """No such finding."""

    code = "finding_not_found"


class NothingForeignHeld(Refusal):
    """Nothing is held in that market beside the router's own positions: there is nothing to adopt."""

    code = "nothing_foreign"


class SideNeeded(Refusal):
    """Both sides of the market are held: the request must name one."""

    code = "side_needed"


class EntryPriceUnknown(Refusal):
    """Neither the venue nor a booked fill tells at what price the foreign part was entered."""

    code = "entry_price_unknown"
