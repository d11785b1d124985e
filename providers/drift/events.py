"""What the program says that it did: its order records, read out of a landed transaction's logs.

The program prints them as base64 text (`emit_stack` in `state/events.rs`, version 2.84) or as data, by version; both
are read, and only from lines that the program itself printed. A line is an event when all of it is base64 and begins
with the discriminator of one.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Final

import msgspec
import pybase64
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.base.types import Fill
from providers.drift.constants import BASE_PRECISION, QUOTE_PRECISION
from providers.solana.codec import EventDecoder, Value
from providers.solana.idl import Idl
from providers.solana.logs import printed_by
from providers.solana.records import TransactionRecord

__all__ = [
    "OrderEnd",
    "OrderFill",
    "OrderPlaced",
    "OrderTrail",
    "OrderTriggered",
    "fill_id",
    "own_events",
    "program_events",
    "role_of",
    "to_fill",
    "trail_of",
]


class OrderPlaced(msgspec.Struct, frozen=True, kw_only=True):
    """An order was taken in under the venue's own id."""

    order_id: int
    user_order_id: int
    market_index: int
    base_asset_amount: int
    ts: int


class OrderFill(msgspec.Struct, frozen=True, kw_only=True):
    """An order was filled, wholly or in part; amounts in the program's precision.

    Attributes:
        fee: that the order's owner paid; negative for a maker's rebate.
        cumulative_base: filled of the order so far, this fill included.
        order_base: what the order asked for.
    """

    order_id: int
    record_id: int
    base: int
    quote: int
    fee: int
    cumulative_base: int
    order_base: int
    ts: int


class OrderTriggered(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger order was set off, and is a market order from then on.

    Attributes:
        fee: that its owner paid for it (1e6).
    """

    order_id: int
    fee: int
    ts: int


class OrderEnd(msgspec.Struct, frozen=True, kw_only=True):
    """An order was taken off: cancelled or expired, `explanation` by the program's name for it.

    Attributes:
        fee: that its owner paid for it (1e6): a keeper that takes an order off has its flat fee.
    """

    order_id: int
    cumulative_base: int
    explanation: str
    fee: int
    ts: int


class OrderTrail(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one transaction says of one account's perp orders, in order."""

    signature: str
    slot: int
    finalized: bool
    placed: tuple[OrderPlaced, ...] = ()
    triggered: tuple[OrderTriggered, ...] = ()
    fills: tuple[OrderFill, ...] = ()
    ends: tuple[OrderEnd, ...] = ()


_ACTION_ENDS: Final = frozenset({"Cancel", "Expire"})


@cache
def _decoder() -> EventDecoder:
    return EventDecoder(Idl.load("drift"))


def _payloads(logs: Iterable[str], program_id: Pubkey) -> Iterator[bytes]:
    for line in printed_by(tuple(logs), str(program_id)):
        try:
            yield pybase64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            continue  # a message, not an event


def program_events(logs: Iterable[str], program_id: Pubkey) -> Iterator[tuple[str, dict[str, Value]]]:
    """Yield the events that the program itself printed, with their names, in order; unknown ones are left out.

    Raises:
        BadAnswer: one of them cannot be read.
    """
    decoder = _decoder()
    for payload in _payloads(logs, program_id):
        name = decoder.name_of(payload)
        if name is not None:
            yield name, decoder.decode(payload)


def fill_id(signature: str, record_id: int) -> str:
    """Return what a fill is known by for ever: its transaction, and the market's own number of the fill."""
    return f"{signature}:{record_id}"


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise BadAnswer("an order record without its amounts")
    return value


def _amount(value: Value) -> int:
    """Return an amount that the record may leave out where it is none."""
    return 0 if value is None else _number(value)


def _placed(event: dict[str, Value], user: Pubkey) -> OrderPlaced | None:
    order = event["order"]
    if event["user"] != user or not isinstance(order, dict) or order["market_type"] != "Perp":
        return None
    return OrderPlaced(
        order_id=_number(order["order_id"]),
        user_order_id=_number(order["user_order_id"]),
        market_index=_number(order["market_index"]),
        base_asset_amount=_number(order["base_asset_amount"]),
        ts=_number(event["ts"]),
    )


def role_of(event: dict[str, Value], user: Pubkey) -> str | None:
    """Return as what the account stands in an action: the same account is never both sides of a fill."""
    if event["market_type"] != "Perp":
        return None
    return next((role for role in ("taker", "maker") if event[role] == user), None)


def _fill(event: dict[str, Value], role: str) -> OrderFill:
    return OrderFill(
        order_id=_number(event[f"{role}_order_id"]),
        record_id=_number(event["fill_record_id"]),
        base=_number(event["base_asset_amount_filled"]),
        quote=_number(event["quote_asset_amount_filled"]),
        fee=_amount(event[f"{role}_fee"]),
        cumulative_base=_number(event[f"{role}_order_cumulative_base_asset_amount_filled"]),
        order_base=_number(event[f"{role}_order_base_asset_amount"]),
        ts=_number(event["ts"]),
    )


def _triggered(event: dict[str, Value], role: str) -> OrderTriggered:
    return OrderTriggered(
        order_id=_number(event[f"{role}_order_id"]),
        fee=_amount(event["filler_reward"]),
        ts=_number(event["ts"]),
    )


def _end(event: dict[str, Value], role: str) -> OrderEnd:
    return OrderEnd(
        order_id=_number(event[f"{role}_order_id"]),
        cumulative_base=_number(event[f"{role}_order_cumulative_base_asset_amount_filled"]),
        explanation=str(event["action_explanation"]),
        fee=_amount(event["filler_reward"]),
        ts=_number(event["ts"]),
    )


def trail_of(record: TransactionRecord, program_id: Pubkey, user: Pubkey) -> OrderTrail:
    """Return what a landed transaction says of `user`'s perp orders; nothing where it failed.

    Raises:
        BadAnswer: an order record of the program cannot be read.
    """
    trail = own_events(() if record.err is not None else record.logs, program_id, user)
    return msgspec.structs.replace(trail, signature=record.signature, slot=record.slot, finalized=record.finalized)


def own_events(logs: Iterable[str], program_id: Pubkey, user: Pubkey) -> OrderTrail:
    """Return what log lines say of `user`'s perp orders, of no transaction yet: a simulation's, for one.

    Only what the program itself logged counts.

    Raises:
        BadAnswer: an order record of the program cannot be read.
    """
    placed: list[OrderPlaced] = []
    triggered: list[OrderTriggered] = []
    fills: list[OrderFill] = []
    ends: list[OrderEnd] = []
    decoder = _decoder()
    for payload in _payloads(logs, program_id):
        name = decoder.name_of(payload)
        if name == "OrderRecord":
            order = _placed(decoder.decode(payload), user)
            if order is not None:
                placed.append(order)
        elif name == "OrderActionRecord":
            event = decoder.decode(payload)
            role = role_of(event, user)
            if role is not None and event["action"] == "Fill":
                fills.append(_fill(event, role))
            elif role is not None and event["action"] == "Trigger":
                triggered.append(_triggered(event, role))
            elif role is not None and event["action"] in _ACTION_ENDS:
                ends.append(_end(event, role))
    return OrderTrail(
        signature="",
        slot=0,
        finalized=False,
        placed=tuple(placed),
        triggered=tuple(triggered),
        fills=tuple(fills),
        ends=tuple(ends),
    )


def to_fill(fill: OrderFill, trail: OrderTrail) -> Fill:
    """Return a fill in the shared units. Its id is the transaction and the market's own number of the fill."""
    size, size_usd = Decimal(fill.base) / BASE_PRECISION, Decimal(fill.quote) / QUOTE_PRECISION
    return Fill(
        venue_fill_id=fill_id(trail.signature, fill.record_id),
        price=size_usd / size,
        size=size,
        size_usd=size_usd,
        fee_usd=Decimal(fill.fee) / QUOTE_PRECISION,
        signature=trail.signature,
        slot=trail.slot,
        filled_at=datetime.fromtimestamp(fill.ts, UTC),
    )
