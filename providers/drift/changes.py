"""What of an account's positions one landed transaction changed, by the program's own records.

A fill, in which the account is taker or maker, is on record once however it came about. A liquidation's transfer is
printed as a fill and as a liquidation with the same number; liquidations that take over profit and loss, and
bankruptcies, move no base. A market that expired closes a position with a settlement record, and giving liquidity
back moves its share of the pool's position to the account.
"""

from __future__ import annotations

from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.base.types import VenueEventKind
from providers.drift.constants import AMM_RESERVE_PRECISION
from providers.drift.events import fill_id, program_events, role_of
from providers.solana.codec import Value
from providers.solana.records import TransactionRecord

__all__ = ["BaseChange", "changes_of"]

_SIGNS: Final = {"Long": 1, "Short": -1}


class BaseChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a position, in the program's precision.

    Attributes:
        venue_fill_id: unique for ever.
        base: signed (1e9).
        quote: what that base was worth, unsigned (1e6).
        fee: what the account paid (1e6), negative for a rebate; null where the record does not say.
    """

    kind: VenueEventKind
    market_index: int
    venue_fill_id: str
    base: int
    quote: int
    fee: int | None
    ts: int


def changes_of(record: TransactionRecord, program_id: Pubkey, user: Pubkey) -> tuple[BaseChange, ...]:
    """Return how a landed transaction changed `user`'s positions, in order; nothing where it failed.

    Raises:
        BadAnswer: a record of the program cannot be read.
    """
    changes: list[BaseChange] = []
    if record.err is not None:
        return ()
    for name, event in program_events(record.logs, program_id):
        change: BaseChange | None = None
        if name == "OrderActionRecord":
            change = _filled(event, record.signature, user)
        elif name == "LiquidationRecord":
            change = _liquidated(event, record.signature, user)
        elif name == "SettlePnlRecord":
            change = _expired(event, record.signature, user)
        elif name == "LPRecord":
            change = _liquidity(event, f"{record.signature}:lp:{len(changes)}", user)
        if change is None or change.base == 0:
            continue
        known = [each for each in changes if each.venue_fill_id == change.venue_fill_id]
        if not known:
            changes.append(change)
        elif name != "LiquidationRecord" and known[0].market_index != change.market_index:
            # Each market counts its own fills; an order of ours never shares a transaction with another market's.
            changes.append(msgspec.structs.replace(change, venue_fill_id=f"{change.venue_fill_id}:{_market(event)}"))
    return tuple(changes)


def _filled(event: dict[str, Value], signature: str, user: Pubkey) -> BaseChange | None:
    role = role_of(event, user)
    if role is None or event["action"] != "Fill":
        return None
    direction = event[f"{role}_order_direction"]
    if not isinstance(direction, str) or direction not in _SIGNS:
        raise BadAnswer("a fill without its direction")
    fee = event[f"{role}_fee"]
    # A liquidator takes over by a fill too, as its maker: that is a trade of its own.
    liquidated = role == "taker" and event["action_explanation"] == "Liquidation"
    return BaseChange(
        kind=VenueEventKind.LIQUIDATION if liquidated else VenueEventKind.TRADE,
        market_index=_market(event),
        venue_fill_id=fill_id(signature, _number(event["fill_record_id"])),
        base=_SIGNS[direction] * _number(event["base_asset_amount_filled"]),
        quote=_number(event["quote_asset_amount_filled"]),
        fee=0 if fee is None else _number(fee),
        ts=_number(event["ts"]),
    )


def _liquidated(event: dict[str, Value], signature: str, user: Pubkey) -> BaseChange | None:
    """Return the transfer of a liquidation, for a version that prints it without a fill."""
    role = next((each for each in ("user", "liquidator") if event[each] == user), None)
    transfer = event["liquidate_perp"]
    if role is None or event["liquidation_type"] != "LiquidatePerp" or not isinstance(transfer, dict):
        return None
    base, charged = _number(transfer["base_asset_amount"]), _number(transfer["liquidator_fee"])
    return BaseChange(
        kind=VenueEventKind.LIQUIDATION if role == "user" else VenueEventKind.TRADE,
        market_index=_market(transfer),
        venue_fill_id=fill_id(signature, _number(transfer["fill_record_id"])),
        base=base if role == "user" else -base,
        quote=abs(_number(transfer["quote_asset_amount"])),
        fee=charged + _number(transfer["if_fee"]) if role == "user" else -charged,
        ts=_number(event["ts"]),
    )


def _expired(event: dict[str, Value], signature: str, user: Pubkey) -> BaseChange | None:
    """Return the closing of a position whose market expired; an ordinary settlement of profit moves no base."""
    if event["user"] != user or event["explanation"] != "ExpiredPosition":
        return None
    # The record names what was held before.
    held = _number(event["base_asset_amount"])
    return BaseChange(
        kind=VenueEventKind.SETTLEMENT,
        market_index=_market(event),
        venue_fill_id=f"{signature}:expired:{_market(event)}",
        base=-held,
        quote=abs(held) * _number(event["settle_price"]) // AMM_RESERVE_PRECISION,
        fee=None,
        ts=_number(event["ts"]),
    )


def _liquidity(event: dict[str, Value], venue_fill_id: str, user: Pubkey) -> BaseChange | None:
    if event["user"] != user:
        return None
    return BaseChange(
        kind=VenueEventKind.TRADE,
        market_index=_market(event),
        venue_fill_id=venue_fill_id,
        base=_number(event["delta_base_asset_amount"]),
        quote=abs(_number(event["delta_quote_asset_amount"])),
        fee=0,
        ts=_number(event["ts"]),
    )


def _market(event: dict[str, Value]) -> int:
    return _number(event["market_index"])


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise BadAnswer("a record without its amounts")
    return value
