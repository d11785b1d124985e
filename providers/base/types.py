"""The words that engine and providers share: markets, terms, quotes, submissions, outcomes.

Quantities are `Decimal` here and integers in the venue's precision inside a provider. Base sizes are in whole base
units (SOL, BTC), `_usd` in dollars, `_bps` in hundredths of a percent. Times are aware UTC datetimes.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from providers.base.errors import ErrorInfo

__all__ = [
    "Ack",
    "Capabilities",
    "Capacity",
    "Evidence",
    "Fill",
    "HoldingKey",
    "Holdings",
    "Lifecycle",
    "LockRef",
    "LockState",
    "LockTerms",
    "Market",
    "OrderKind",
    "OrderTerms",
    "Outcome",
    "OutcomeState",
    "ProviderState",
    "Purpose",
    "Quote",
    "QuoteTerms",
    "Side",
    "Submission",
    "Trigger",
    "VenueEvent",
    "VenueEventKind",
    "VenueHistory",
    "VenueOrder",
    "VenuePosition",
]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every shared struct: immutable, named fields only."""


class Side(StrEnum):
    """The side of a position. A close of a long sells and is still `long`."""

    LONG = "long"
    SHORT = "short"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.SHORT if self is Side.LONG else Side.LONG


class OrderKind(StrEnum):
    """What the caller asked for."""

    OPEN = "open"
    CLOSE = "close"

    def buys(self, side: Side) -> bool:
        """Whether this kind of order on a position of `side` buys base."""
        return (self is OrderKind.OPEN) == (side is Side.LONG)


class Lifecycle(StrEnum):
    """What a venue or market lets anybody do now, as read from the chain."""

    LIVE = "live"
    REDUCE_ONLY = "reduce_only"
    HALTED = "halted"
    RETIRED = "retired"
    UNSUPPORTED_PROGRAM = "unsupported_program"


class Purpose(StrEnum):
    """What a submission is for; everything that is sent is journaled with one."""

    OPEN = "open"
    CLOSE = "close"
    CANCEL = "cancel"
    FENCE = "fence"
    RECLAIM = "reclaim"
    SETUP = "setup"
    DEPOSIT = "deposit"
    WITHDRAW = "withdraw"
    SETTLEMENT = "settlement"


class Capabilities(Record, frozen=True, kw_only=True):
    """What a provider is, as data.

    Attributes:
        order_lock: its transactions can carry the order lock, so that siblings may be in flight together.
        netting: one slot per market and account; an open against the other side would net.
        cross_margin: leverage is a check against the whole account, and so is the liquidation price.
        rests: an attempt may rest on the venue and fill later (so it has a `cancel`).
        native_triggers: stops and take profits rest on the venue itself (so it has `prepare_trigger`).
        triggers_in_dollars: they rest as dollars at the holding's entry, which other lots move (so: `trigger_size`).
    """

    order_lock: bool
    netting: bool
    cross_margin: bool
    rests: bool
    native_triggers: bool = False
    triggers_in_dollars: bool = False


class Market(Record, frozen=True, kw_only=True):
    """One market of one venue.

    Attributes:
        symbol: canonical, `SOL-PERP`.
        step_size: base units; sizes are rounded down to it.
        min_size: base units; the smallest order.
        tick_size: dollars; prices are rounded to it against the caller's favour never, for the caller's bound.
        max_leverage: from the initial margin ratio.
        lifecycle: of this market on this venue.
    """

    provider: str
    symbol: str
    venue_symbol: str
    step_size: Decimal
    min_size: Decimal
    tick_size: Decimal
    max_leverage: Decimal
    initial_margin_ratio: Decimal
    maintenance_margin_ratio: Decimal
    lifecycle: Lifecycle
    lifecycle_reason: str = ""
    oracle_price: Decimal | None = None


class Capacity(Record, frozen=True, kw_only=True):
    """What a market still takes on one side, in dollars; null where the venue sets no limit."""

    market: str
    side: Side
    capacity_usd: Decimal | None


class ProviderState(Record, frozen=True, kw_only=True):
    """A venue as a whole, at `slot`."""

    provider: str
    lifecycle: Lifecycle
    reason: str = ""
    capacity: tuple[Capacity, ...] = ()
    slot: int = 0
    as_of: datetime


class QuoteTerms(Record, frozen=True, kw_only=True):
    """What to price. Exactly one of `size` (base) and `size_usd` is given; base is rounded down to the venue's step."""

    kind: OrderKind = OrderKind.OPEN
    market: str
    side: Side
    size: Decimal | None = None
    size_usd: Decimal | None = None
    leverage: Decimal = Decimal(1)


class Quote(Record, frozen=True, kw_only=True):
    """A provider's all-in price for a size now.

    Attributes:
        size: base units that the venue would take (rounded down to its step).
        size_usd: `size` times `expected_price`.
        oracle_price: the venue's own oracle.
        expected_price: volume-weighted, impact included, fees not.
        price_impact_bps: of `expected_price` against the price of the smallest order on the same side; never negative.
        fee_usd, fee_bps: taker fee, rounded up.
        carry_rate_1h: what this side pays per hour as a fraction of notional (negative: it receives).
        margin_required_usd: free collateral that the open needs at the asked leverage, rounded up.
        liquidation_price: of the position after the order; of the whole account on cross-margin venues.
        capacity_usd: what the market still takes on this side; null where there is no limit.
        slot: at or after which every account was read.
        collateral_token: symbol of what the open takes out of the wallet (`SOL`, `USDC`); null where margin is what the
            venue's account holds already.
        collateral_amount: how much of it, in whole tokens, rounded up; null likewise.
    """

    provider: str
    market: str
    side: Side
    size: Decimal
    size_usd: Decimal
    leverage: Decimal
    oracle_price: Decimal
    expected_price: Decimal
    price_impact_bps: Decimal
    fee_usd: Decimal
    fee_bps: Decimal
    carry_rate_1h: Decimal
    margin_required_usd: Decimal
    liquidation_price: Decimal | None
    max_leverage: Decimal
    capacity_usd: Decimal | None
    slot: int
    as_of: datetime
    expires_at: datetime
    collateral_token: str | None = None
    collateral_amount: Decimal | None = None


class LockTerms(Record, frozen=True, kw_only=True):
    """The order's half of its lock, fixed when the order is made (DESIGN 6).

    Attributes:
        base: public key (base58) that the lock address derives from, and that co-signs.
        nonce: 128 random bits in base32, 26 characters.
        base_lamports: rent-exempt minimum of an empty account when the order was made.
    """

    base: str
    nonce: str
    base_lamports: int


class LockRef(Record, frozen=True, kw_only=True):
    """One generation of an order's lock: the exclusion domain of every attempt that carries it.

    `seed` is at most 32 characters: nonce (26), part (2), generation (4), both in base 32, zero-padded.
    """

    terms: LockTerms
    part: int
    generation: int

    @property
    def seed(self) -> str:
        """The seed of the lock account."""
        return f"{self.terms.nonce}{_base32_digits(self.part, 2)}{_base32_digits(self.generation, 4)}"


_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"


def _base32_digits(number: int, width: int) -> str:
    if not 0 <= number < 32**width:
        raise ValueError(f"{number} does not fit {width} base-32 digits")
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits


class LockState(Record, frozen=True, kw_only=True):
    """What is proven about one generation of a lock.

    Attributes:
        held: true with a holder, false when proven free at `slot`, null when nothing is proven.
        holder: signature of the transaction that took the account's balance from 0 to more.
        holder_number: number of the attempt that the holder is, 0 for a fence, where the lock's own key signed it, on
            record or not; null for a stranger.
        finalized: whether `held` was read at `finalized`.
        sane_nodes: how many sane nodes agree; the engine lets a generation step on what the provider calls proven.
    """

    held: bool | None
    holder: str | None = None
    holder_slot: int | None = None
    holder_number: int | None = None
    slot: int = 0
    finalized: bool = False
    sane_nodes: int = 0


class Trigger(Record, frozen=True, kw_only=True):
    """When a resting reduce-only close starts to fill: once the venue's trigger price has reached `price`.

    Attributes:
        price: dollars per base unit.
        above: it fires at or above `price`, else at or below: true for a long's take profit and a short's stop.
    """

    price: Decimal
    above: bool


class OrderTerms(Record, frozen=True, kw_only=True):
    """What one attempt may do, at the most.

    Attributes:
        number: of the attempt within its order, from 1, never reused (k of the lock).
        side: of the position; a close of a long sells.
        size: base units, as the order fixed them; the provider rounds down to its step, and that counts as full.
        worst_price: absolute bound, fixed for the life of the order; the provider never widens it.
        expires_at: the order's deadline; the venue's own expiry is set to it.
        lock: the generation that this attempt carries; null for a venue without order locks.
        trigger: of a close that rests on the venue until then (`prepare_trigger`); null for one that fills now.
    """

    order_id: str
    attempt_id: str
    number: int
    kind: OrderKind
    market: str
    side: Side
    size: Decimal
    leverage: Decimal
    worst_price: Decimal
    expires_at: datetime
    lock: LockRef | None
    trigger: Trigger | None = None


class Submission(Record, frozen=True, kw_only=True):
    """Something ready to be sent, and all that settling it needs after a restart.

    Attributes:
        handle: the name by which the venue knows it: transaction signature, or client order id.
        body: the provider's own document (JSON); the engine stores it and never looks inside. For Solana: signed
            bytes, blockhash, last valid height, genesis hash, order lock, and the venue's part.
        size: base units that count as filled in full (rounded down to the step).
        may_fill_until: past this instant on the venue's clock nothing of it can start to fill.
        lock: the generation that it carries, if any.
    """

    provider: str
    purpose: Purpose
    handle: str
    body: bytes
    size: Decimal = Decimal(0)
    may_fill_until: datetime | None = None
    lock: LockRef | None = None


class Ack(Record, frozen=True, kw_only=True):
    """What a node or venue said when it was given the bytes. It proves nothing (DESIGN 6, sending 3).

    Attributes:
        accepted: how many URLs took it.
        errors: what the others said; `maybe_sent` or `answered`, never evidence of death.
        not_sent: no byte of the request was written to any URL.
    """

    accepted: int
    errors: tuple[ErrorInfo, ...] = ()
    not_sent: bool = False


class Evidence(Record, frozen=True, kw_only=True):
    """Why an outcome is believed, in a form that a person can check.

    Attributes:
        kind: stable snake_case: `fill_record`, `landed_with_err`, `no_fill_logs`, `expired_lock_free`, `lock_held`,
            `refused_before_sending`, `order_ended`, ...
        signature: the transaction that shows it.
        commitment: at which it was read.
        fee_usd: what the venue charged although nothing was filled (a fill has its own); null where it charged nothing.
    """

    kind: str
    detail: str = ""
    signature: str | None = None
    slot: int | None = None
    commitment: str | None = None
    fee_usd: Decimal | None = None


class Fill(Record, frozen=True, kw_only=True):
    """Something the venue gave.

    Attributes:
        venue_fill_id: unique within the provider for ever; settling again books nothing twice.
        price: dollars per base unit, volume-weighted, fees not included.
        fee_usd: what the venue charged (negative: a rebate).
        provisional: known only from state; replaced by the venue's own record.
        carry_index: cumulative carry of this side when it filled, dollars per base unit paid since the market began
            (negative: received); the difference of two is what a base unit paid between them. Null where not known.
    """

    venue_fill_id: str
    price: Decimal
    size: Decimal
    size_usd: Decimal
    fee_usd: Decimal
    signature: str
    slot: int
    filled_at: datetime
    provisional: bool = False
    carry_index: Decimal | None = None


class OutcomeState(StrEnum):
    """What an attempt became (DESIGN 1)."""

    FILLED = "filled"
    PARTIALLY_FILLED = "partially_filled"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"


class Outcome(Record, frozen=True, kw_only=True):
    """What settling an attempt could prove so far; callable again and again.

    Attributes:
        state: `filled` and `partially_filled` only once nothing of it can fill any more.
        landed, executed: null while not known.
        fills: all fills proven so far, also while `unknown` (a resting order).
        resting: the venue still holds something of it that can fill or be cancelled.
        holder: with `superseded`: the signature that holds the lock generation.
        error: with `dead`: why.
        finalized: the deciding reads were made at `finalized`.
        slot: of the deciding transaction or read.
    """

    state: OutcomeState
    landed: bool | None = None
    executed: bool | None = None
    fills: tuple[Fill, ...] = ()
    resting: bool = False
    holder: str | None = None
    error: ErrorInfo | None = None
    evidence: tuple[Evidence, ...] = ()
    finalized: bool = False
    slot: int | None = None


class VenuePosition(Record, frozen=True, kw_only=True):
    """What the venue itself says that the account holds in one market (and side, where the venue does not net).

    Attributes:
        size_tolerance: base units that `size` may be off by rounding: a venue that keeps positions in dollars knows the
            base size only through a rounded average price.
    """

    provider: str
    market: str
    side: Side
    size: Decimal
    entry_price: Decimal | None
    liquidation_price: Decimal | None
    unrealized_pnl_usd: Decimal | None
    oracle_price: Decimal | None
    slot: int
    size_tolerance: Decimal = Decimal(0)


class HoldingKey(Record, frozen=True, kw_only=True):
    """Under what a venue keeps one holding: a market, and the side too where it does not net (else null)."""

    market: str
    side: Side | None = None

    def __str__(self) -> str:
        return self.market if self.side is None else f"{self.market} {self.side}"


class VenueOrder(Record, frozen=True, kw_only=True):
    """An order of the account that rests on the venue.

    Attributes:
        side: of the position that it would open or grow when not reduce-only: a resting buy is `long`.
        size: base units still unfilled.
        price: its limit in dollars; null where it follows the oracle or the market.
        placed_by: signature of the transaction that placed it, where the account's history shows it.
    """

    provider: str
    market: str
    venue_order_id: str
    side: Side
    size: Decimal
    price: Decimal | None
    reduce_only: bool
    placed_by: str | None = None


class Holdings(Record, frozen=True, kw_only=True):
    """What the venue's account holds, read at once at `confirmed`.

    Attributes:
        slot: that every part was read at or after.
        positions: one a market (where the venue does not net: one a market and side), sizes above zero, fills that the
            venue has yet to settle included.
        orders: what rests.
    """

    provider: str
    slot: int
    positions: tuple[VenuePosition, ...]
    orders: tuple[VenueOrder, ...] = ()


class VenueEventKind(StrEnum):
    """Why the account's holding changed."""

    TRADE = "trade"
    LIQUIDATION = "liquidation"
    SETTLEMENT = "settlement"


class VenueEvent(Record, frozen=True, kw_only=True):
    """One change of the account's holding in one market, as the chain's history proves it.

    Attributes:
        venue_fill_id: unique within the provider; of a trade by one of our attempts it equals its `Fill.venue_fill_id`.
        base_delta: base units, negative for a sell.
        price: dollars per base unit.
        fee_usd: what it cost the account.
        side: of the position that changed, where the venue holds both sides of a market at once; null where it nets.
        size_tolerance: as in `VenuePosition`: a lot that this would leave with no more than that is left with nothing.
    """

    kind: VenueEventKind
    market: str
    venue_fill_id: str
    base_delta: Decimal
    price: Decimal
    fee_usd: Decimal
    signature: str
    slot: int
    at: datetime
    side: Side | None = None
    size_tolerance: Decimal = Decimal(0)

    @property
    def holding(self) -> HoldingKey:
        """What it changed."""
        return HoldingKey(market=self.market, side=self.side)


class VenueHistory(Record, frozen=True, kw_only=True):
    """What happened to the venue's account after a mark (`Reconcilable.history`).

    Attributes:
        events: changes of holdings, oldest first.
        complete: every transaction of the account after the mark, up to the asked slot, was read with whole logs; when
            false, `events` proves what it lists and nothing about what it does not.
        newest: the mark of what was read: signature of the newest transaction, or the mark that was given.
        more: it is not complete only because it is long: up to `newest` it is whole, and a call from there goes on.
    """

    events: tuple[VenueEvent, ...]
    complete: bool
    newest: str | None
    more: bool = False
