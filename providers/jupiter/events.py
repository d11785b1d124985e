"""What the program says that it did: the events of one owner's positions and requests.

The program records an event by calling itself, so that it stands among a transaction's inner instructions and cannot be
cut off like a log line. Only its own authority can make such a call, so nobody imitates it. An event's *place* is its
number among the program's own events of the transaction, from 0; transaction and place name it for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.base.types import Side, VenueEvent, VenueEventKind
from providers.jupiter.constants import BASES, EVENT_TAG, TOKENS, BaseUnits
from providers.jupiter.constants import Side as PositionSide
from providers.jupiter.quote import base_of_usd, size_tolerance, to_usd
from providers.jupiter.reading import market_symbol
from providers.solana.codec import EventDecoder, Value
from providers.solana.idl import Idl
from providers.solana.records import TransactionRecord

__all__ = ["Closing", "PositionChange", "Told", "filled_at", "to_venue_event", "told_by", "venue_fill_id"]


class PositionChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a position.

    Attributes:
        place: of the event in its transaction.
        request: whose execution it was; null where it was none (instant trades, liquidations).
        mint: of the market's token.
        grows: whether it increased the position.
        size_usd: by how much, at the entry price for a decrease, at `price` for an increase.
        entry_price: of the position that a decrease is of; null for an increase.
        fee_usd: what it cost, borrowing included.
        position_fee_usd, borrow_fee_usd: the two parts of `fee_usd`.
    """

    place: int
    kind: VenueEventKind
    position: Pubkey
    owner: Pubkey
    request: Pubkey | None
    mint: Pubkey
    side: Side
    grows: bool
    size_usd: int
    price: int
    entry_price: int | None
    fee_usd: int
    position_fee_usd: int
    borrow_fee_usd: int

    @property
    def units(self) -> BaseUnits:
        """Base units of the market; raise `BadAnswer` for a token that is no market here."""
        symbol = TOKENS.get(self.mint)
        if symbol is None or symbol not in BASES:
            raise BadAnswer(f"a position in {self.mint}, which is no market")
        return BASES[symbol]

    @property
    def valued_at(self) -> int:
        """The price that its dollars are base units at; raise `BadAnswer` where it names no price or no size."""
        price = self.price if self.entry_price is None else self.entry_price
        if price <= 0 or self.size_usd <= 0:
            raise BadAnswer("a change of a position without its size or price")
        return price

    @property
    def base(self) -> Decimal:
        """Base units that it opened, or took off what the position stands for; rounded down.

        Raises:
            BadAnswer: it names no price or no size.
        """
        return base_of_usd(self.size_usd, self.valued_at, self.units.unit)


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a request.

    Attributes:
        amount: tokens that were left in its escrow and went back to the owner.
    """

    place: int
    request: Pubkey
    owner: Pubkey
    mint: Pubkey
    executed: bool
    amount: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction says, in order."""

    changes: tuple[PositionChange, ...] = ()
    closings: tuple[Closing, ...] = ()


class _Increase(msgspec.Struct, frozen=True):
    position_key: Pubkey
    position_side: int
    position_mint: Pubkey
    owner: Pubkey
    size_usd_delta: int
    price: int
    fee_usd: int
    position_fee_usd: int
    funding_fee_usd: int


class _Decrease(_Increase, frozen=True):
    position_price: int


class _Liquidation(msgspec.Struct, frozen=True):
    position_key: Pubkey
    position_side: int
    position_mint: Pubkey
    owner: Pubkey
    position_size_usd: int
    price: int
    fee_usd: int
    liquidation_fee_usd: int
    position_fee_usd: int
    funding_fee_usd: int
    position_price: int


class _Closing(msgspec.Struct, frozen=True):
    position_request_key: Pubkey
    owner: Pubkey
    mint: Pubkey
    executed: bool
    amount: int


# Event -> the field that names the request which was executed; null: there is none.
_INCREASES: Final[Mapping[str, str | None]] = {
    "IncreasePositionEvent": "position_request_key",
    "InstantIncreasePositionEvent": None,
}
_DECREASES: Final[Mapping[str, str | None]] = {
    "DecreasePositionEvent": "position_request_key",
    "InstantDecreasePositionEvent": "position_request",
}
_SIDES: Final = {PositionSide.LONG: Side.LONG, PositionSide.SHORT: Side.SHORT}


@cache
def _decoder() -> EventDecoder:
    return EventDecoder(Idl.load("jupiter_perps"))


def _side(number: int) -> Side:
    try:
        return _SIDES[PositionSide(number)]
    except (ValueError, KeyError):
        raise BadAnswer(f"a position on side {number}") from None


def _request(values: Mapping[str, Value], field: str | None) -> Pubkey | None:
    key = None if field is None else values[field]
    return key if isinstance(key, Pubkey) else None


def _increase(payload: bytes, place: int, field: str | None) -> PositionChange:
    event = _decoder().decode_as(payload, _Increase)
    return PositionChange(
        place=place,
        kind=VenueEventKind.TRADE,
        position=event.position_key,
        owner=event.owner,
        request=_request(_decoder().decode(payload), field),
        mint=event.position_mint,
        side=_side(event.position_side),
        grows=True,
        size_usd=event.size_usd_delta,
        price=event.price,
        entry_price=None,
        fee_usd=event.fee_usd,
        position_fee_usd=event.position_fee_usd,
        borrow_fee_usd=event.funding_fee_usd,
    )


def _decrease(payload: bytes, place: int, field: str | None) -> PositionChange:
    event = _decoder().decode_as(payload, _Decrease)
    return PositionChange(
        place=place,
        kind=VenueEventKind.TRADE,
        position=event.position_key,
        owner=event.owner,
        request=_request(_decoder().decode(payload), field),
        mint=event.position_mint,
        side=_side(event.position_side),
        grows=False,
        size_usd=event.size_usd_delta,
        price=event.price,
        entry_price=event.position_price,
        fee_usd=event.fee_usd,
        position_fee_usd=event.position_fee_usd,
        borrow_fee_usd=event.funding_fee_usd,
    )


def _liquidation(payload: bytes, place: int) -> PositionChange:
    event = _decoder().decode_as(payload, _Liquidation)
    return PositionChange(
        place=place,
        kind=VenueEventKind.LIQUIDATION,
        position=event.position_key,
        owner=event.owner,
        request=None,
        mint=event.position_mint,
        side=_side(event.position_side),
        grows=False,
        size_usd=event.position_size_usd,
        price=event.price,
        entry_price=event.position_price,
        # Whether the liquidator's share is part of the fee is not published: a cost is never understated.
        fee_usd=max(event.fee_usd, event.position_fee_usd + event.funding_fee_usd + event.liquidation_fee_usd),
        position_fee_usd=event.position_fee_usd,
        borrow_fee_usd=event.funding_fee_usd,
    )


def _closing(payload: bytes, place: int) -> Closing:
    event = _decoder().decode_as(payload, _Closing)
    return Closing(
        place=place,
        request=event.position_request_key,
        owner=event.owner,
        mint=event.mint,
        executed=event.executed,
        amount=event.amount,
    )


def told_by(record: TransactionRecord, program_id: Pubkey) -> Told:
    """Return what a transaction says of positions and requests, whoever's they are; nothing where it failed.

    Raises:
        BadAnswer: an event cannot be read, or the node does not say which instructions were called.
    """
    if record.err is not None:
        return Told()
    if not record.inner_known:
        raise BadAnswer(f"the node does not show the inner instructions of {record.signature}")
    payloads = [
        inner.data[len(EVENT_TAG) :]
        for inner in record.inner_instructions
        if inner.program_id == program_id and inner.data.startswith(EVENT_TAG)
    ]
    changes: list[PositionChange] = []
    closings: list[Closing] = []
    for place, payload in enumerate(payloads):
        name = _decoder().name_of(payload)
        if name is None:
            continue
        if name in _INCREASES:
            changes.append(_increase(payload, place, _INCREASES[name]))
        elif name in _DECREASES:
            changes.append(_decrease(payload, place, _DECREASES[name]))
        elif name == "LiquidateFullPositionEvent":
            changes.append(_liquidation(payload, place))
        elif name == "ClosePositionRequestEvent":
            closings.append(_closing(payload, place))
    return Told(changes=tuple(changes), closings=tuple(closings))


# --- in the shared units ----------------------------------------------------------------------------------------------


def venue_fill_id(signature: str, place: int) -> str:
    """Return the name of a change for ever: its transaction and its place in it."""
    return f"{signature}:{place}"


def filled_at(record: TransactionRecord) -> datetime:
    """Return the block's time, which is what the program calls now.

    Raises:
        BadAnswer: the node does not say when the block was made.
    """
    if record.block_time is None:
        raise BadAnswer("the node does not say when the block was made")
    return datetime.fromtimestamp(record.block_time, UTC)


def to_venue_event(change: PositionChange, record: TransactionRecord) -> VenueEvent:
    """Return a change as a position's history tells it.

    Raises:
        BadAnswer: of a market that is none here, without its amounts, or without the block's time.
    """
    buys = change.grows == (change.side is Side.LONG)
    return VenueEvent(
        kind=change.kind,
        market=market_symbol(TOKENS.get(change.mint, "")),
        venue_fill_id=venue_fill_id(record.signature, change.place),
        base_delta=change.base if buys else -change.base,
        price=to_usd(change.price),
        fee_usd=to_usd(change.fee_usd),
        signature=record.signature,
        slot=record.slot,
        at=filled_at(record),
        side=change.side,
        size_tolerance=size_tolerance(change.size_usd, change.valued_at, change.units.unit),
    )
