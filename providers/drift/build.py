"""Orders and cancels as instructions: which shape of order the auction's state wants, its bounds, its accounts."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import sha256
from typing import Final, Literal

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import AuctionExpired, NoFreeSlot, WorstPriceNotMet
from providers.base.types import OrderTerms
from providers.drift import curve
from providers.drift.addresses import state_address, user_stats_address
from providers.drift.constants import (
    MAX_USER_ORDERS,
    PRICE_PRECISION,
    QUOTE_SPOT_MARKET,
    Direction,
    MarketType,
    OracleSource,
    OrderType,
    TriggerCondition,
)
from providers.drift.layouts import PerpMarket, User
from providers.drift.reading import ListedMarket, Listing, Snapshot
from providers.solana.idl import discriminator

__all__ = [
    "DriftOrder",
    "Mode",
    "OrderAccounts",
    "cancel_instruction",
    "decode_order",
    "free_user_order_id",
    "market_accounts",
    "may_fill_until",
    "order_instruction",
    "plan_order",
    "worst_price_of",
]

Mode = Literal["take", "auction", "trigger"]

_IMMEDIATE_OR_CANCEL: Final = 1
_USER_ORDER_IDS: Final = 255
_PLACE: Final = discriminator("global", "place_perp_order")
_PLACE_AND_TAKE: Final = discriminator("global", "place_and_take_perp_order")
_CANCEL: Final = discriminator("global", "cancel_order")

# Order type, market type, direction, own id, base, price, market, reduce only, post only, flags.
_PARAMS: Final = struct.Struct("<BBBBQQHBBB")
_U32: Final = struct.Struct("<I")


class DriftOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's part of a submission: all that settling needs to know of the order.

    Attributes:
        market: canonical symbol.
        user: account that trades.
        user_order_id: our own number of the order among the account's open ones, 1 to 255.
        next_order_id: the venue's next id when the order was built; the order's own is this or a later one.
        direction: 0 buys, 1 sells.
        size: base (1e9).
        price: bound (1e6), rounded to the tick; 0 for none.
        mode: `take` fills in its own transaction or never; `auction` rests and is filled by a keeper; `trigger` rests
            until a keeper sets it off, and is filled then.
        max_ts: chain time in seconds after which nothing of it fills; 0 for never.
        trigger_price: that the oracle has to pass (1e6).
        trigger_above: it has to rise above it, else fall below.
    """

    market: str
    market_index: int
    user: str
    user_order_id: int
    next_order_id: int
    direction: int
    size: int
    price: int
    reduce_only: bool
    mode: Mode
    max_ts: int
    auction_start_price: int = 0
    auction_slots: int = 0
    trigger_price: int = 0
    trigger_above: bool = False


class OrderAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts of an order's instruction: who trades, and what follows in the program's order.

    Attributes:
        authority: signs; the owner or the account's delegate.
        owner: of the account.
        markets: prices, tokens, perp markets.
        parties: makers and the referrer, each with its statistics.
    """

    program_id: Pubkey
    user: Pubkey
    owner: Pubkey
    authority: Pubkey
    markets: tuple[AccountMeta, ...]
    parties: tuple[AccountMeta, ...] = ()


_ORDER: Final = msgspec.json.Decoder(DriftOrder)


def decode_order(venue: bytes | msgspec.Raw) -> DriftOrder | None:
    """Return the venue's part of a submission; null for one that is no order (a set-up, a deposit)."""
    return None if bytes(venue) == b"null" else _ORDER.decode(venue)


def worst_price_of(worst_price: Decimal, market: PerpMarket, direction: Direction) -> int:
    """Return the caller's bound in price precision, on a tick, never wider than it was.

    Raises:
        WorstPriceNotMet: nothing can trade at such a bound.
    """
    rounding = ROUND_FLOOR if direction is Direction.LONG else ROUND_CEILING
    scaled = int((worst_price * PRICE_PRECISION).to_integral_value(rounding))
    price = curve.round_price(scaled, market.order_tick_size, direction)
    if price <= 0:
        raise WorstPriceNotMet(f"{worst_price} is less than a tick")
    return price


def free_user_order_id(user: User, attempt_id: str, number: int, taken: Iterable[int] = ()) -> int:
    """Return a number from 1 to 255 that no open order of the account has, starting from the attempt's own.

    Raises:
        NoFreeSlot: every place for an open order is taken.
    """
    if len(user.orders) >= MAX_USER_ORDERS:
        raise NoFreeSlot(f"the account has {len(user.orders)} open orders", raw_code=6060, raw_name="MaxNumberOfOrders")
    used = {each.user_order_id for each in user.orders} | set(taken)
    # Orders that are built at the same moment should not meet: each starts elsewhere.
    first = sha256(attempt_id.encode()).digest()[0] + number
    candidates = [(first + step) % _USER_ORDER_IDS + 1 for step in range(_USER_ORDER_IDS)]
    free = next((each for each in candidates if each not in used), None)
    if free is None:
        raise NoFreeSlot("every order number of the account is in use")
    return free


def max_ts_of(terms: OrderTerms, now: int) -> int:
    """Return the order's deadline on the chain's clock, in whole seconds, never later than the caller's.

    Raises:
        AuctionExpired: it has passed.
    """
    max_ts = int(terms.expires_at.timestamp())
    if max_ts <= now:
        raise AuctionExpired("the order's deadline has passed on the chain's clock")
    return max_ts


def may_fill_until(order: DriftOrder) -> datetime | None:
    """Return the instant after which nothing of it starts to fill: the chain's clock counts whole seconds.

    Null for an order that does not expire.
    """
    if order.max_ts == 0:
        return None
    return datetime.fromtimestamp(order.max_ts, UTC) + timedelta(seconds=1)


def plan_order(
    snapshot: Snapshot,
    terms: OrderTerms,
    *,
    user: User,
    user_key: Pubkey,
    direction: Direction,
    base: int,
    reduce_only: bool,
    take: bool,
    auction_slots: int,
    taken_ids: Iterable[int] = (),
) -> DriftOrder:
    """Return the order that the venue's state wants.

    With no auction to wait for (or a maker that crosses) it is a limit order, immediate or cancel, at the worst price:
    it fills in its own transaction or leaves nothing. Else it is a market order with an auction that starts at the
    oracle's price, or at the bound where that is better, and ends at the bound.

    Raises:
        WorstPriceNotMet, AuctionExpired, NoFreeSlot: see the helpers.
    """
    market = snapshot.market
    price = worst_price_of(terms.worst_price, market, direction)
    oracle = max(snapshot.oracle.price, market.order_tick_size)
    start = min(oracle, price) if direction is Direction.LONG else max(oracle, price)
    return DriftOrder(
        market=snapshot.listed.symbol,
        market_index=market.market_index,
        user=str(user_key),
        user_order_id=free_user_order_id(user, terms.attempt_id, terms.number, taken_ids),
        next_order_id=user.next_order_id,
        direction=int(direction),
        size=base,
        price=price,
        reduce_only=reduce_only,
        mode="take" if take else "auction",
        max_ts=max_ts_of(terms, snapshot.now),
        auction_start_price=0 if take else start,
        auction_slots=0 if take else max(auction_slots, snapshot.state.min_perp_auction_duration),
    )


def _option(value: int | None, code: str) -> bytes:
    return b"\0" if value is None else b"\x01" + struct.pack("<" + code, value)


def _order_params(order: DriftOrder) -> bytes:
    """Encode `OrderParams`; an option that is not there is one zero byte."""
    take, auction, waits = (order.mode == mode for mode in ("take", "auction", "trigger"))
    head = _PARAMS.pack(
        OrderType.LIMIT if take else OrderType.TRIGGER_MARKET if waits else OrderType.MARKET,
        MarketType.PERP,
        order.direction,
        order.user_order_id,
        order.size,
        order.price,
        order.market_index,
        order.reduce_only,
        0,
        _IMMEDIATE_OR_CANCEL if take else 0,
    )
    condition = TriggerCondition.BELOW if waits and not order.trigger_above else TriggerCondition.ABOVE
    return b"".join(
        (
            head,
            _option(None if waits else order.max_ts, "q"),
            _option(order.trigger_price if waits else None, "Q"),
            bytes([condition]),
            _option(None, "i"),
            _option(order.auction_slots if auction else None, "B"),
            _option(order.auction_start_price if auction else None, "q"),
            _option(order.price if auction else None, "q"),
        )
    )


def order_instruction(order: DriftOrder, accounts: OrderAccounts) -> Instruction:
    """Return the instruction that places (and, in mode `take`, fills) the order."""
    metas = [
        AccountMeta(state_address(accounts.program_id), is_signer=False, is_writable=False),
        AccountMeta(accounts.user, is_signer=False, is_writable=True),
    ]
    if order.mode == "take":
        stats = user_stats_address(accounts.program_id, accounts.owner)
        metas.append(AccountMeta(stats, is_signer=False, is_writable=True))
    metas.append(AccountMeta(accounts.authority, is_signer=True, is_writable=False))
    metas.extend(accounts.markets)
    if order.mode == "take":
        metas.extend(accounts.parties)
        data = _PLACE_AND_TAKE + _order_params(order) + _option(None, "I")
    else:
        data = _PLACE + _order_params(order)
    return Instruction(accounts.program_id, data, metas)


def cancel_instruction(order_id: int, accounts: OrderAccounts) -> Instruction:
    """Return the instruction that cancels one order by the venue's id. It succeeds where there is no such order."""
    metas = [
        AccountMeta(state_address(accounts.program_id), is_signer=False, is_writable=False),
        AccountMeta(accounts.user, is_signer=False, is_writable=True),
        AccountMeta(accounts.authority, is_signer=True, is_writable=False),
        *accounts.markets,
    ]
    return Instruction(accounts.program_id, _CANCEL + b"\x01" + _U32.pack(order_id), metas)


def market_accounts(
    listing: Listing,
    *,
    perps: Iterable[int],
    spots: Iterable[int],
    writable: Sequence[int] = (),
    token: int | None = None,
) -> tuple[AccountMeta, ...]:
    """Return the accounts that an instruction needs for its margin check: prices, then tokens, then perp markets.

    Args:
        listing: of the venue.
        perps: markets that the account holds or trades.
        spots: tokens that it holds; the quote token is always there.
        writable: perp markets that the instruction changes.
        token: a token whose balance the instruction changes.
    """
    tokens = [listing.spots[index] for index in sorted({*spots, QUOTE_SPOT_MARKET}) if index in listing.spots]
    markets = [listing.perps[index] for index in sorted(set(perps)) if index in listing.perps]
    priced: list[ListedMarket] = [
        each for each in (*tokens, *markets) if each.oracle_source != OracleSource.QUOTE_ASSET
    ]
    oracles = dict.fromkeys(each.oracle for each in priced)
    metas = [AccountMeta(key, is_signer=False, is_writable=False) for key in oracles]
    metas.extend(AccountMeta(each.address, is_signer=False, is_writable=each.index == token) for each in tokens)
    metas.extend(AccountMeta(each.address, is_signer=False, is_writable=each.index in writable) for each in markets)
    return tuple(metas)
