"""The documents of the API: what callers send, and what they get.

Money, prices, sizes, fractions and rates are decimal strings in plain notation in both directions. A field that is null
is not known, or not yet; it is never left out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from providers.base.errors import ErrorClass, Phase
from providers.base.types import Lifecycle, OrderKind, OutcomeState, Side
from router.engine.protection import LegState
from router.engine.protection_terms import ProtectionStatus
from router.engine.reports import MarketStatus, ReportStatus
from router.ledger.records import Cause, FindingKind, FindingStatus, Leg, LegKind, OrderStatus, PositionStatus

__all__ = [
    "AcknowledgeBody",
    "AdoptBody",
    "AttemptAnswer",
    "CandidateAnswer",
    "CapacityAnswer",
    "CloseBody",
    "EmptyBody",
    "ErrorAnswer",
    "EvidenceAnswer",
    "FieldError",
    "FillAnswer",
    "FindingAnswer",
    "FindingPage",
    "HaltAnswer",
    "LegAnswer",
    "LiveAnswer",
    "MarketAnswer",
    "MarketProviderAnswer",
    "Markets",
    "OpenBody",
    "OrderAnswer",
    "Orders",
    "PositionDocument",
    "PositionPage",
    "PriceAnswer",
    "Problem",
    "ProblemKind",
    "ProtectionAnswer",
    "ProtectionBody",
    "ProviderAnswer",
    "Providers",
    "QuoteBody",
    "QuoteDocument",
    "ReadyAnswer",
    "ReconciledMarket",
    "ReconciledProvider",
    "ReconciliationAnswer",
    "Retryable",
    "TriggerAnswer",
]

AMOUNT_PATTERN: Final = r"^[0-9]{1,18}(\.[0-9]{1,18})?$"

# `hint` is what a caller is told whose value does not fit; the pattern is what the published schema says.
AmountText = Annotated[
    str,
    Meta(
        pattern=AMOUNT_PATTERN,
        extra={"hint": 'a plain decimal string such as "100.5", at most 18 digits on each side of the point'},
    ),
]
MarketText = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9:/_. -]{0,39}$",
        description="Canonical (SOL-PERP), or as exchanges write it: SOLUSDT, SOL-USD, SOL/USDC, SOL.",
        extra={"hint": 'a market name such as "SOL-PERP"'},
    ),
]
ProviderText = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$", extra={"hint": "a provider of the chain, or auto"})
]
ClientOrderId = Annotated[
    str,
    Meta(
        pattern=r"^[!-~]{1,128}$",
        description="The caller's own name for the order, unique per caller. The idempotency key when no key is sent.",
        extra={"hint": "1 to 128 printable ASCII characters without spaces"},
    ),
]
IdText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$", extra={"hint": "an id as the router gave it"})]
SlippageBps = Annotated[
    int,
    Meta(
        description="Hundredths of a percent from the expected price of the first quote.",
        extra_json_schema={"minimum": 0, "maximum": 10_000},
        extra={"hint": "a whole number from 0 to 10000"},
    ),
]
TtlSeconds = Annotated[
    int,
    Meta(
        description="No attempt starts later than this many seconds after the order, but for a blocked close.",
        extra_json_schema={"minimum": 1, "maximum": 3_600},
        extra={"hint": "a whole number from 1 to 3600"},
    ),
]
SideText = Annotated[Side, Meta(extra={"hint": "long or short"})]
# Answers may be negative (PnL, rebates, carry).
Amount = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Moment = Annotated[datetime, Meta(tz=True)]
Retryable = Literal["yes_same_key", "yes_new_key", "no", "unknown"]


# --- what callers send -----------------------------------------------------------------------------------------------


class QuoteBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to price. Give one of `size` (base units) and `size_usd` (notional)."""

    market: MarketText
    side: SideText
    size_usd: AmountText | None = None
    size: AmountText | None = None
    leverage: AmountText = "1"
    provider: ProviderText = "auto"
    slippage_bps: SlippageBps = 50
    worst_price: AmountText | None = None


class OpenBody(QuoteBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to open. `stop_loss` and `take_profit` are prices at which the position closes by itself.

    With `stop_loss_size` or `take_profit_size` (base units) only so much of it does.
    """

    stop_loss: AmountText | None = None
    stop_loss_size: AmountText | None = None
    take_profit: AmountText | None = None
    take_profit_size: AmountText | None = None
    client_order_id: ClientOrderId | None = None
    ttl_s: TtlSeconds = 60


class CloseBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to close: `position_id`, or `provider` and `market` (oldest lots first). All of it without a size."""

    position_id: IdText | None = None
    provider: ProviderText | None = None
    market: MarketText | None = None
    side: SideText | None = None
    size: AmountText | None = None
    fraction: AmountText | None = None
    slippage_bps: SlippageBps = 50
    worst_price: AmountText | None = None
    client_order_id: ClientOrderId | None = None
    ttl_s: TtlSeconds = 60


class ProtectionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices at which a position closes by itself: null takes one away, and what is left out stays as it is.

    With `stop_loss_size` or `take_profit_size` (base units) only so much closes; without, all that is left.
    """

    stop_loss: AmountText | msgspec.UnsetType | None = msgspec.UNSET
    stop_loss_size: AmountText | None = None
    take_profit: AmountText | msgspec.UnsetType | None = msgspec.UNSET
    take_profit_size: AmountText | None = None


class AdoptBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The slot whose foreign part becomes a position."""

    provider: ProviderText
    market: MarketText
    side: SideText | None = None


class AcknowledgeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the finding may stand: kept with it."""

    reason: Annotated[str, Meta(min_length=1, max_length=500, extra={"hint": "1 to 500 characters"})]


class EmptyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing: the address says it all. `{}` and no body are the same."""


# --- what they get ---------------------------------------------------------------------------------------------------


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why a provider did not fill. `code` and `class` are the router's and stable; `name` is the venue's own."""

    code: str
    error_class: ErrorClass = msgspec.field(name="class")
    name: str | None
    detail: str
    phase: Phase


class PriceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's price for a size.

    `expected_price` includes the impact of the size and excludes fees. `carry_rate_1h` is what this side pays per hour,
    as a fraction of notional. `liquidation_price` is the whole account's on cross-margin venues. `collateral_token` and
    `collateral_amount` are what an open takes out of the wallet, where margin is not what an account holds already.
    """

    market: str
    side: Side
    size: Amount
    size_usd: Amount
    leverage: Amount
    provider: str
    oracle_price: Amount
    expected_price: Amount
    price_impact_bps: Amount
    fee_usd: Amount
    fee_bps: Amount
    carry_rate_1h: Amount
    margin_required_usd: Amount
    liquidation_price: Amount | None
    max_leverage: Amount
    capacity_usd: Amount | None
    collateral_token: str | None
    collateral_amount: Amount | None
    slot: int
    as_of: Moment
    expires_at: Moment


class CandidateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider of the chain: its price, or why it has none."""

    provider: str
    quote: PriceAnswer | None
    error: ErrorAnswer | None


class QuoteDocument(PriceAnswer, frozen=True, kw_only=True):
    """The price that the chain would use now, with every provider's in chain order."""

    worst_price: Amount
    candidates: tuple[CandidateAnswer, ...]


class EvidenceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why an outcome is believed, in a form that a person can check."""

    kind: str
    detail: str
    signature: str | None
    slot: int | None
    commitment: str | None


class AttemptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's try.

    `outcome` is `unknown` until it is proven, and `dead` when the attempt changed nothing and never can. A provider
    that refused before anything was sent is `dead` with an error of phase `not_sent`.
    """

    provider: str
    outcome: OutcomeState
    error: ErrorAnswer | None
    signature: str | None
    evidence: tuple[EvidenceAnswer, ...]
    started_at: Moment
    elapsed_ms: int


class FillAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All fills of the order as one: price weighted by size, fees summed, transaction and time of the latest."""

    price: Amount
    size: Amount
    size_usd: Amount
    fee_usd: Amount
    signature: str
    slot: int
    filled_at: Moment
    explorer_url: str


class BlockAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why the venue refuses this close though it only reduces, what to do, and when it is tried again.

    `cause` is the code of the refusal, as in `attempts[].error`. Until it fills the order holds its part of the
    position; a cancel ends it.
    """

    code: Literal["close_blocked"]
    cause: str
    detail: str
    advice: str
    since: Moment
    next_try_at: Moment


class TriggerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The price that a resting close waits for: it fires once the venue's price is there, or `above` or below it."""

    price: Amount
    above: bool


class LegAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A stop loss or take profit as it is now.

    `kind` says who watches the price: the venue (`native`) or the router (`managed`). `size` is what it would close,
    or has closed. `reason` tells why it is not as it shall be, or how it ended. `order_id` is its newest order: the
    trigger on the venue, or the close that it fired; `signature` is that order's transaction.
    """

    leg: Leg
    kind: LegKind
    trigger_price: Amount
    size: Amount
    state: LegState
    reason: str | None
    order_id: str | None
    signature: str | None


class ProtectionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Stop loss and take profit of a position: `failed` while any of them is not as it shall be, with its reason."""

    status: ProtectionStatus
    legs: tuple[LegAnswer, ...]


class OrderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it is now.

    `requested` is what the caller sent, `size` and `size_usd` what was accepted (rounded down to the venue's step).
    `provider` is the one that filled. `may_fill_until` is the last instant at which an unclear attempt can still fill.
    `cause` is who wanted it: the caller, or a leg of a position's protection; with a `trigger` it rests until then.
    `protection` is that of the position, where the order asked for one.
    """

    order_id: str
    kind: OrderKind
    cause: Cause
    trigger: TriggerAnswer | None
    status: OrderStatus
    market: str
    side: Side
    size: Amount | None
    size_usd: Amount | None
    requested: dict[str, str | int]
    worst_price: Amount | None
    deadline: Moment
    leverage: Amount
    provider: str | None
    fallback_used: bool
    position_id: str | None
    client_order_id: str | None
    may_fill_until: Moment | None
    fill: FillAnswer | None
    attempts: tuple[AttemptAnswer, ...]
    blocked: BlockAnswer | None
    protection: ProtectionAnswer | None
    created_at: Moment
    updated_at: Moment


class PositionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A position of the router's, tied to its provider for life.

    `size_usd` is at the mark, or at entry where the mark is not known. An adopted one was opened by no order.
    `realized_pnl_usd`, `fees_usd` (opening and closing) and `funding_usd` (what was closed has paid, negative
    when received; null where not known) are so far.
    """

    position_id: str
    provider: str
    market: str
    side: Side
    size: Amount
    size_usd: Amount
    entry_price: Amount
    leverage: Amount
    opened_by_order: str | None
    adopted: bool
    mark_price: Amount | None
    unrealized_pnl_usd: Amount | None
    liquidation_price: Amount | None
    stop_loss: Amount | None
    take_profit: Amount | None
    protection: ProtectionAnswer
    status: PositionStatus
    opened_at: Moment
    closed_at: Moment | None
    realized_pnl_usd: Amount
    fees_usd: Amount
    funding_usd: Amount | None


class MarketProviderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider says of a market."""

    provider: str
    venue_symbol: str
    lifecycle: Lifecycle
    reason: str
    step_size: Amount
    min_size: Amount
    tick_size: Amount
    max_leverage: Amount
    initial_margin_ratio: Amount
    maintenance_margin_ratio: Amount
    oracle_price: Amount | None


class MarketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A canonical market and where it trades."""

    market: str
    providers: tuple[MarketProviderAnswer, ...]


class CapacityAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a market still takes on one side; null where the venue sets no limit."""

    market: str
    side: Side
    capacity_usd: Amount | None


class HaltAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Opens are switched off by `caller`: at `provider`, or (null) everywhere."""

    provider: str | None
    reason: str
    caller: str
    since: Moment


class ProviderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider of the chain, as read from the venue at `slot`; `error` when it could not be read.

    `halted` is the operator's switch (its own, else the whole router's): opens are not given to it.
    """

    provider: str
    position_in_chain: int
    lifecycle: Lifecycle | None
    reason: str
    capacity: tuple[CapacityAnswer, ...]
    slot: int | None
    as_of: Moment
    error: ErrorAnswer | None
    halted: HaltAnswer | None


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """A page of orders, newest first."""

    items: tuple[OrderAnswer, ...]
    next_cursor: str | None


class PositionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of positions, oldest first."""

    items: tuple[PositionDocument, ...]
    next_cursor: str | None


class Markets(msgspec.Struct, frozen=True, kw_only=True):
    """Every market of the chain."""

    items: tuple[MarketAnswer, ...]
    next_cursor: None = None


class Providers(msgspec.Struct, frozen=True, kw_only=True):
    """The chain, in order."""

    items: tuple[ProviderAnswer, ...]
    next_cursor: None = None


class ReconciledMarket(msgspec.Struct, frozen=True, kw_only=True):
    """One holding of a venue, negative for a short: positions and foreign part should make the venue's size.

    `side` tells two holdings of a market apart where the venue does not net; else null.
    """

    market: str
    side: Side | None
    booked_size: Amount
    foreign_size: Amount
    venue_size: Amount
    status: MarketStatus


class ReconciledProvider(msgspec.Struct, frozen=True, kw_only=True):
    """One provider (or the `wallet`) as the last comparison found it; `detail` says why it was not compared."""

    provider: str
    status: ReportStatus
    detail: str
    slot: int | None
    as_of: Moment
    markets: tuple[ReconciledMarket, ...]


class FindingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A difference between the books and a venue, with its evidence; `reason` is why it went or may stand."""

    finding_id: str
    kind: FindingKind
    provider: str
    market: str | None
    subject: str
    status: FindingStatus
    detail: dict[str, str]
    evidence: tuple[EvidenceAnswer, ...]
    first_seen_at: Moment
    last_seen_at: Moment
    resolved_at: Moment | None
    reason: str | None


class FindingPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of findings, newest first."""

    items: tuple[FindingAnswer, ...]
    next_cursor: str | None


class ReconciliationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every provider as it was last compared, and a page of findings."""

    providers: tuple[ReconciledProvider, ...]
    findings: FindingPage


class LiveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The process turns."""

    status: Literal["live"] = "live"


class ReadyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Send traffic here: closes and cancels are served even where opens are not.

    `halted` is where an operator has switched opens off (`router`, or providers), `holds` why they are refused besides,
    `warnings` what somebody should look at.
    """

    status: Literal["ready"] = "ready"
    halted: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ProblemKind(msgspec.Struct, frozen=True, kw_only=True):
    """What a problem's `type` leads to: what is always true of its code."""

    code: str
    title: str
    status: int
    retryable: Retryable
    about: str


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one field; `pointer` is a JSON pointer into the body, or names a header or parameter."""

    pointer: str
    code: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem document.

    `code` is stable. `phase` tells how far an order had come: with `not_sent` nothing left the router. `retryable` says
    whether to try again, and with which idempotency key. Some codes carry further members (`nearest`, `providers`,
    `minimums`, `candidates`, `order_id`, `failing`).
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    phase: Phase
    retryable: Retryable
    request_id: str
    attempts: tuple[AttemptAnswer, ...] = ()
    errors: tuple[FieldError, ...] = ()
