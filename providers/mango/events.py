"""What the program says that it did: the records of one account's perp trades, read out of a transaction's logs.

Only what the program itself printed as data counts. An event's *place* is its number among the program's own data
lines of the transaction, from 0; transaction and place name it for ever, and lines that were cut off behind it change
nothing. A taker's trade is told by `PerpTakerTradeLog` when it is made: the `FillLogV3` that follows when somebody
consumes the queue moves nothing of the taker's effective position, and counts for the maker alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.base.types import Fill, Side, VenueEvent, VenueEventKind
from providers.solana.codec import EventDecoder, Value
from providers.solana.idl import Idl
from providers.solana.logs import data_of
from providers.solana.records import TransactionRecord

__all__ = [
    "AccountChange",
    "FundingIndex",
    "LotUnits",
    "PerpEvents",
    "carry_index_of",
    "perp_events",
    "quote_usd",
    "to_fill",
    "to_venue_event",
    "venue_fill_id",
]

_FIXED_ONE: Final = 1 << 48
_QUOTE_ONE: Final = 1_000_000
_USD_STEP: Final = Decimal("0.000001")
_BID: Final = 0


class LotUnits(msgspec.Struct, frozen=True, kw_only=True):
    """What a market's lots are in the shared units; fixed for the life of a market.

    Attributes:
        base_decimals: of the base unit.
        base_lot_size: native base in a base lot.
        quote_lot_size: native quote (1e-6 dollars) in a quote lot.
    """

    base_decimals: int
    base_lot_size: int
    quote_lot_size: int

    @property
    def lot(self) -> Decimal:
        """Base units in a lot."""
        return Decimal(self.base_lot_size).scaleb(-self.base_decimals)

    def size(self, base_lots: int) -> Decimal:
        """Return base units, exactly."""
        return base_lots * self.lot


class FundingIndex(msgspec.Struct, frozen=True, kw_only=True):
    """A market's cumulative funding, native quote per base lot (I80F48 bits)."""

    long: int
    short: int


class AccountChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an account's effective base position in one market.

    Attributes:
        kind: a trade, or what another did to the account.
        taker: a trade that the account made by an order that took; its own record tells all of it at once.
        place: of the event in its transaction.
        base_lots: signed, negative for a sell.
        quote_lots: of a trade, unsigned; null where `quote` says it.
        quote: native quote of a transfer, unsigned (I80F48 bits).
        fee: native quote that the account paid, the penalty included (I80F48 bits); negative for a rebate.
        fee_rate: of a maker's fill, whose record has no amount: the f32 as it is.
        at: chain time of the record; null where it has none.
    """

    kind: VenueEventKind
    place: int
    market_index: int
    base_lots: int
    taker: bool = False
    quote_lots: int | None = None
    quote: int = 0
    fee: int = 0
    fee_rate: Decimal = Decimal(0)
    at: int | None = None


class PerpEvents(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction says of one account: its changes in order, and each market's funding as last printed."""

    changes: tuple[AccountChange, ...] = ()
    funding: Mapping[int, FundingIndex] = {}


@cache
def _decoder() -> EventDecoder:
    return EventDecoder(Idl.load("mango_v4"))


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise BadAnswer("a trade record without its amounts")
    return value


def _taker_trade(event: Mapping[str, Value], account: Pubkey, place: int) -> AccountChange | None:
    if event["mango_account"] != account:
        return None
    base = _number(event["total_base_lots_taken"]) - _number(event["total_base_lots_decremented"])
    quote = _number(event["total_quote_lots_taken"]) - _number(event["total_quote_lots_decremented"])
    return AccountChange(
        kind=VenueEventKind.TRADE,
        place=place,
        market_index=_number(event["perp_market_index"]),
        base_lots=base if event["taker_side"] == _BID else -base,
        taker=True,
        quote_lots=quote,
        fee=_number(event["taker_fees_paid"]) + _number(event["fee_penalty"]),
    )


def _maker_fill(event: Mapping[str, Value], account: Pubkey, place: int) -> AccountChange | None:
    """Return a maker's fill; null for one that the account took as well.

    The taker's record has left such lots out already (they are its `decremented`): they change no position.
    """
    if event["maker"] != account or event["taker"] == account:
        return None
    base = _number(event["quantity"])
    rate = event["maker_fee"]
    if not isinstance(rate, float):
        raise BadAnswer("a fill record without its fee")
    return AccountChange(
        kind=VenueEventKind.TRADE,
        place=place,
        market_index=_number(event["market_index"]),
        base_lots=-base if event["taker_side"] == _BID else base,
        quote_lots=base * _number(event["price"]),
        fee_rate=Decimal(rate),
        at=_number(event["timestamp"]),
    )


def _liquidation(event: Mapping[str, Value], account: Pubkey, place: int) -> AccountChange | None:
    """Return what a liquidation did to the base of either side; the liquidator's side is a liquidation as well."""
    base = _number(event["base_transfer_liqee"])
    if event["liqee"] == account:
        signed, quote = base, _number(event["quote_transfer_liqee"])
    elif event["liqor"] == account:
        signed, quote = -base, _number(event["quote_transfer_liqor"])
    else:
        return None
    if base == 0:
        return None  # only profit changed hands
    return AccountChange(
        kind=VenueEventKind.LIQUIDATION,
        place=place,
        market_index=_number(event["perp_market_index"]),
        base_lots=signed,
        quote=abs(quote),
    )


def _forced_close(event: Mapping[str, Value], account: Pubkey, place: int) -> AccountChange | None:
    """Return the part of a position that the venue closed: `account_a` is the long side of the pair."""
    base = _number(event["base_transfer"])
    if account not in (event["account_a"], event["account_b"]) or base == 0:
        return None
    return AccountChange(
        kind=VenueEventKind.SETTLEMENT,
        place=place,
        market_index=_number(event["perp_market_index"]),
        base_lots=-base if event["account_a"] == account else base,
        quote=abs(_number(event["quote_transfer"])),
    )


_CHANGES: Final = {
    "PerpTakerTradeLog": _taker_trade,
    "FillLogV3": _maker_fill,
    "PerpLiqBaseOrPositivePnlLogV3": _liquidation,
    "PerpForceClosePositionLog": _forced_close,
}


def perp_events(logs: Sequence[str], program_id: Pubkey, group: Pubkey, account: Pubkey) -> PerpEvents:
    """Return what log lines say of an account's perp positions: of a transaction that executed, or of a simulation.

    Raises:
        BadAnswer: a record of the program cannot be read.
    """
    decoder = _decoder()
    changes: list[AccountChange] = []
    funding: dict[int, FundingIndex] = {}
    for place, payload in enumerate(data_of(logs, str(program_id))):
        name = decoder.name_of(payload)
        if name is None or (name not in _CHANGES and name != "PerpUpdateFundingLogV2"):
            continue
        event = decoder.decode(payload)
        if event["mango_group"] != group:
            continue
        if name == "PerpUpdateFundingLogV2":
            index = FundingIndex(long=_number(event["long_funding"]), short=_number(event["short_funding"]))
            funding[_number(event["market_index"])] = index
            continue
        change = _CHANGES[name](event, account, place)
        if change is not None and change.base_lots != 0:
            changes.append(change)
    return PerpEvents(changes=tuple(changes), funding=funding)


# --- in the shared units ----------------------------------------------------------------------------------------------


def venue_fill_id(signature: str, place: int) -> str:
    """Return the name of a change for ever: its transaction and its place in it."""
    return f"{signature}:{place}"


def quote_usd(bits: int) -> Decimal:
    """Return native quote (I80F48 bits) in dollars, exactly."""
    return Decimal(bits) / _FIXED_ONE / _QUOTE_ONE


def carry_index_of(funding: FundingIndex | None, units: LotUnits, side: Side) -> Decimal | None:
    """Return what a base unit on this side has paid since the market began, in dollars; null where it is not known.

    Longs pay a positive funding and shorts receive it (`PerpPosition::unsettled_funding`, version 0.24.3).
    """
    if funding is None:
        return None
    bits = funding.long if side is Side.LONG else -funding.short
    return quote_usd(bits) / units.lot


def _size_usd(change: AccountChange, units: LotUnits) -> Decimal:
    if change.quote_lots is None:
        return quote_usd(change.quote)
    return Decimal(change.quote_lots * units.quote_lot_size) / _QUOTE_ONE


def _fee_usd(change: AccountChange, units: LotUnits) -> Decimal:
    """Return what a change cost, rounded up to the smallest unit of the quote token (a rebate is rounded down)."""
    fee = quote_usd(change.fee) + _size_usd(change, units) * change.fee_rate
    return fee.quantize(_USD_STEP, ROUND_CEILING)


def to_fill(change: AccountChange, record: TransactionRecord, units: LotUnits, carry: Decimal | None) -> Fill:
    """Return a trade of our own attempt as a fill.

    Raises:
        BadAnswer: the node does not say when the transaction's block was made.
    """
    size, size_usd = units.size(abs(change.base_lots)), _size_usd(change, units)
    return Fill(
        venue_fill_id=venue_fill_id(record.signature, change.place),
        price=size_usd / size,
        size=size,
        size_usd=size_usd,
        fee_usd=_fee_usd(change, units),
        signature=record.signature,
        slot=record.slot,
        filled_at=_at(change, record),
        carry_index=carry,
    )


def to_venue_event(change: AccountChange, record: TransactionRecord, units: LotUnits, market: str) -> VenueEvent:
    """Return a change as the account's history tells it.

    Raises:
        BadAnswer: the node does not say when the transaction's block was made.
    """
    size = units.size(change.base_lots)
    return VenueEvent(
        kind=change.kind,
        market=market,
        venue_fill_id=venue_fill_id(record.signature, change.place),
        base_delta=size,
        price=_size_usd(change, units) / abs(size),
        fee_usd=_fee_usd(change, units),
        signature=record.signature,
        slot=record.slot,
        at=_at(change, record),
    )


def _at(change: AccountChange, record: TransactionRecord) -> datetime:
    """Return the block's time: what the program calls now, whatever a record repeats of it."""
    at = record.block_time if record.block_time is not None else change.at
    if at is None:
        raise BadAnswer("the node does not say when the block was made")
    return datetime.fromtimestamp(at, UTC)
