"""What the venue would do with an order now: price, fee, borrowing, collateral, liquidation price, capacity, refusals.

The venue trades at its oracle's price, without a spread: what size costs is in the fee. All arithmetic is in its
integers (`fees`); this module puts it together and turns it into dollars, rounded against the caller. Nothing here
reads the chain.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Final

import msgspec

from providers.base.errors import (
    BelowMinimum,
    CustodyLimit,
    InvalidSize,
    LeverageAboveMaximum,
    MarketReduceOnly,
    OpenInterestCap,
    ProviderError,
)
from providers.base.types import Capacity, Lifecycle, Market, OrderKind, Quote, QuoteTerms, Side
from providers.jupiter.constants import (
    BASES,
    BPS,
    MOST_LEVERAGE,
    RATE_ONE,
    USD_DECIMALS,
    USD_ONE,
    RequestChange,
)
from providers.jupiter.errors import JUPITER_ERRORS, jupiter_refusal
from providers.jupiter.fees import accrued_borrow_fee, hourly_borrow_rate, liquidation_price, position_fee
from providers.jupiter.reading import CustodyView, Place, View, market_symbol
from providers.jupiter.state import Permissions, Position

__all__ = [
    "OpenCost",
    "base_of_usd",
    "capacities",
    "check_capacity",
    "check_leverage",
    "close_refusal",
    "held_base",
    "lifecycle_of",
    "market_of",
    "max_leverage",
    "open_cost",
    "open_refusal",
    "position_liquidation",
    "quote_of",
    "size_tolerance",
    "stepped",
    "to_usd",
    "usd_of_base",
]

# Changes of a position whose roundings its tolerance has room for.
_ROUNDED_CHANGES: Final = 64
_BPS_STEP: Final = Decimal("0.0001")
_USD_STEP: Final = Decimal(1).scaleb(-USD_DECIMALS)
_RATE_STEP: Final = Decimal("0.000000001")
_RATIO_STEP: Final = Decimal("0.000001")
_LEVERAGE_STEP: Final = Decimal("0.01")


# --- units ------------------------------------------------------------------------------------------------------------


def to_usd(raw: int) -> Decimal:
    """Return dollars of the venue's 1e-6, exactly."""
    return Decimal(raw).scaleb(-USD_DECIMALS)


def base_of_usd(size_usd: int, price: int, unit: Decimal) -> Decimal:
    """Return the base units that dollars stand for at a price, rounded down to `unit`."""
    count: int = math.floor(Fraction(size_usd, price) / Fraction(unit))
    return count * unit


def usd_of_base(size: Decimal, price: int) -> int:
    """Return the dollars (1e-6) that a base size stands for at a price, rounded half to even.

    What `base_of_usd` rounded down comes out as it was, wherever a unit is worth less than half of 1e-6 dollars.
    """
    return round(Fraction(size) * price)


def stepped(size: Decimal, step: Decimal) -> Decimal:
    """Return a base size rounded down to the step."""
    count: int = math.floor(Fraction(size) / Fraction(step))
    return count * step


def held_base(position: Position, unit: Decimal) -> Decimal:
    """Return the base units that a position stands for at its entry price."""
    return base_of_usd(position.size_usd, position.price, unit)


def size_tolerance(size_usd: int, price: int, unit: Decimal) -> Decimal:
    """Return by how much base sizes and what a position stands for may differ by rounding alone, rounded up.

    The venue rounds the average price to 1e-6 dollars with every increase, and each change of ours its dollars to the
    nearest 1e-6: a change moves the base by at most `size / price` and `1 / price` of these. It holds for as many as
    64 changes of a position since it was last flat.
    """
    base = Fraction(size_usd, price)
    moved = _ROUNDED_CHANGES * (base + 1) / price
    count: int = math.ceil((moved + Fraction(unit)) / Fraction(unit))
    return count * unit


# --- lifecycle and permissions ----------------------------------------------------------------------------------------


def lifecycle_of(permissions: Permissions) -> tuple[Lifecycle, str]:
    """Return what the venue lets anybody do, and why not more."""
    if permissions.increase and permissions.decrease:
        return Lifecycle.LIVE, ""
    if permissions.decrease:
        return Lifecycle.REDUCE_ONLY, "positions may not be increased"
    return Lifecycle.HALTED, "positions may not be changed"


def open_refusal(view: View, place: Place) -> ProviderError | None:
    """Return why the venue would take no open here now, whatever its size; null when it would."""
    permissions = view.permissions(place.market)
    if not permissions.increase:
        detail = lifecycle_of(permissions)[1]
        if permissions.decrease:
            return MarketReduceOnly(detail, raw_code=6027, raw_name=JUPITER_ERRORS[6027].name)
        return jupiter_refusal(6027, detail)
    return place.refusal


def close_refusal(view: View, place: Place) -> ProviderError | None:
    """Return why the venue can execute no close here now; null when it can."""
    if not view.permissions(place.market).decrease:
        return jupiter_refusal(6027, "positions may not be decreased")
    return None


def max_leverage(market: CustodyView) -> Decimal:
    """Return the most leverage of an open: the venue's own limit, or the market's where that is less."""
    return min(MOST_LEVERAGE, (Decimal(market.custody.max_leverage) / BPS).quantize(_LEVERAGE_STEP, ROUND_FLOOR))


def market_of(view: View, market: CustodyView) -> Market:
    """Return a market in the shared terms."""
    lifecycle, reason = lifecycle_of(view.permissions(market))
    units, most = BASES[market.symbol], max_leverage(market)
    return Market(
        provider="jupiter",
        symbol=market_symbol(market.symbol),
        venue_symbol=market.symbol,
        step_size=units.step,
        min_size=units.step,
        tick_size=_USD_STEP,
        max_leverage=most,
        initial_margin_ratio=(1 / most).quantize(_RATIO_STEP, ROUND_CEILING),
        maintenance_margin_ratio=(BPS / Decimal(market.custody.max_leverage)).quantize(_RATIO_STEP, ROUND_CEILING),
        lifecycle=lifecycle,
        lifecycle_reason=reason,
        oracle_price=None if market.price is None else to_usd(market.price.price),
    )


# --- capacity ---------------------------------------------------------------------------------------------------------


def _token_usd(custody: CustodyView, tokens: int) -> int:
    """Return what tokens are worth, dollars 1e-6, rounded down."""
    whole: int = 10**custody.custody.decimals
    return tokens * custody.priced() // whole


def _free_tokens(place: Place) -> int:
    """Return what can be locked behind a position: neither locked nor lent out, and there."""
    return min(place.collateral.custody.free, place.collateral.vault)


def _side_room(place: Place) -> int:
    """Return what the market still takes on this side, dollars 1e-6.

    `guaranteed_usd` counts longs less their collateral, so that it is a little lenient: the program's own counter is
    not published.
    """
    custody = place.market.custody
    if place.side is Side.LONG:
        return max(custody.max_global_long_sizes - custody.guaranteed_usd, 0)
    return max(custody.max_global_short_sizes - custody.global_short_sizes, 0)


def _position_room(place: Place) -> int | None:
    """Return what the owner's own position may still grow by, dollars 1e-6; null where there is no limit."""
    most = place.market.custody.max_position_size_usd
    held = 0 if place.held is None else place.held.size_usd
    return max(most - held, 0) if most else None


def _capacity(place: Place) -> int:
    room = min(_token_usd(place.collateral, _free_tokens(place)), _side_room(place))
    own = _position_room(place)
    return room if own is None else min(room, own)


def capacities(view: View) -> tuple[Capacity, ...]:
    """Return what each market still takes on each side; nothing where it may not be increased or not priced."""
    found: list[Capacity] = []
    for market in view.markets:
        for side in Side:
            place = view.place(market_symbol(market.symbol), side)
            usd = 0 if open_refusal(view, place) is not None else _capacity(place)
            found.append(Capacity(market=place.symbol, side=side, capacity_usd=to_usd(usd)))
    return tuple(found)


def check_capacity(place: Place, size_usd: int) -> None:
    """Refuse an open that the pool has no room for.

    The tokens that back it must be free: of the asset for a long, of USDC for a short. These are the rules as they are
    known; the keeper may still meet one that is not.

    Raises:
        CustodyLimit: too little is free, or the owner's position would be too large.
        OpenInterestCap: the market's cap on this side.
    """
    free = _free_tokens(place)
    needed = -(-size_usd * 10**place.collateral.custody.decimals // place.collateral.priced())
    if needed > free:
        room = to_usd(_token_usd(place.collateral, free))
        raise CustodyLimit(
            f"{room} dollars of {place.collateral.symbol} are free, {to_usd(size_usd)} are asked for",
            raw_code=6023,
            raw_name=JUPITER_ERRORS[6023].name,
        )
    if size_usd > _side_room(place):
        raise OpenInterestCap(f"the market takes {to_usd(_side_room(place))} dollars more on the {place.side} side")
    room_here = _position_room(place)
    if room_here is not None and size_usd > room_here:
        raise jupiter_refusal(6025, f"the position may grow by {to_usd(room_here)} dollars")


# --- what an open costs -----------------------------------------------------------------------------------------------


class OpenCost(msgspec.Struct, frozen=True, kw_only=True):
    """An open in the venue's integers.

    Attributes:
        size: base units, stepped.
        price: of the oracle, dollars 1e6.
        size_usd: at that price, rounded down.
        fee: of opening, dollars 1e-6.
        collateral_usd: to send: the caller's share, and the fee that is taken out of it.
        collateral_tokens: the same in the smallest units of the collateral's token, rounded up.
    """

    size: Decimal
    price: int
    size_usd: int
    fee: int
    collateral_usd: int
    collateral_tokens: int


def _size_of(terms: QuoteTerms, place: Place) -> Decimal:
    """Return the base size that is asked for: an open's rounded down to the step, a close's to what lots have.

    Raises:
        InvalidSize: not a positive size.
        BelowMinimum: it rounds to nothing.
    """
    price = place.market.priced()
    step = place.units.step if terms.kind is OrderKind.OPEN else place.units.unit
    if terms.size is not None:
        if terms.size <= 0:
            raise InvalidSize(f"{terms.size} is not a size")
        asked, size = f"{terms.size}", stepped(terms.size, step)
    elif terms.size_usd is not None and terms.size_usd > 0:
        asked, size = f"${terms.size_usd}", base_of_usd(math.floor(Fraction(terms.size_usd) * USD_ONE), price, step)
    else:
        raise InvalidSize(f"{terms.size_usd} is not a size")
    if size <= 0:
        usd = (step * to_usd(price)).quantize(_USD_STEP, ROUND_CEILING)
        raise BelowMinimum(f"{asked} is less than the smallest order of {step.normalize():f} (${usd:f})")
    return size


def open_cost(terms: QuoteTerms, place: Place, now: int) -> OpenCost:
    """Return what an open takes; the caller's leverage is met once the fee is out of the collateral.

    Raises:
        InvalidSize, BelowMinimum: not a size that the venue can open.
    """
    size, price = _size_of(terms, place), place.market.priced()
    size_usd = math.floor(Fraction(size) * price)
    if size_usd == 0:
        raise BelowMinimum(f"{size} is worth nothing at {to_usd(price)}")
    fee = position_fee(place.market.custody, size_usd, RequestChange.INCREASE, now).total
    collateral_usd = math.ceil(Fraction(size_usd) / Fraction(terms.leverage)) + fee
    tokens = -(-collateral_usd * 10**place.collateral.custody.decimals // place.collateral.priced())
    return OpenCost(
        size=size, price=price, size_usd=size_usd, fee=fee, collateral_usd=collateral_usd, collateral_tokens=tokens
    )


def check_leverage(place: Place, cost: OpenCost, leverage: Decimal) -> None:
    """Refuse an open above the market's leverage, alone or together with what is held.

    Raises:
        LeverageAboveMaximum: it is.
    """
    most = max_leverage(place.market)
    if leverage > most:
        raise LeverageAboveMaximum(f"{leverage} was asked for, {most} is the most")
    held = place.held
    size_usd = cost.size_usd + (0 if held is None else held.size_usd)
    collateral = cost.collateral_usd - cost.fee + (0 if held is None else held.collateral_usd)
    if size_usd * BPS > place.market.custody.max_leverage * collateral:
        raise jupiter_refusal(6022, "with what is held already, the position would exceed the market's leverage")


# --- liquidation ------------------------------------------------------------------------------------------------------


def position_liquidation(view: View, place: Place, position: Position) -> Decimal | None:
    """Return the price at which a position may be liquidated now; null where none above zero can do it."""
    owed = accrued_borrow_fee(
        place.collateral.custody,
        size_usd=position.size_usd,
        snapshot=position.cumulative_interest_snapshot,
        now=view.now,
    )
    return _liquidation(
        view,
        place,
        size_usd=position.size_usd,
        collateral_usd=position.collateral_usd,
        entry=position.price,
        owed=owed,
    )


def _liquidation(
    view: View, place: Place, *, size_usd: int, collateral_usd: int, entry: int, owed: int
) -> Decimal | None:
    custody = place.market.custody
    closing = position_fee(custody, size_usd, RequestChange.DECREASE, view.now).total
    price = liquidation_price(
        custody,
        long=place.side is Side.LONG,
        size_usd=size_usd,
        collateral_usd=collateral_usd,
        entry=entry,
        fees=closing + owed,
    )
    return to_usd(price) if price > 0 else None


def _liquidation_after_open(view: View, place: Place, cost: OpenCost) -> Decimal | None:
    """Return the liquidation price once the open is filled: entries are weighed by base units, borrowing is paid."""
    held, collateral = place.held, cost.collateral_usd - cost.fee
    size_usd, entry = cost.size_usd, cost.price
    if held is not None:
        owed = accrued_borrow_fee(
            place.collateral.custody,
            size_usd=held.size_usd,
            snapshot=held.cumulative_interest_snapshot,
            now=view.now,
        )
        base = Fraction(held.size_usd, held.price) + Fraction(cost.size_usd, cost.price)
        size_usd += held.size_usd
        collateral += held.collateral_usd - owed
        entry = round(size_usd / base)
    return _liquidation(view, place, size_usd=size_usd, collateral_usd=collateral, entry=entry, owed=0)


def _liquidation_after_close(view: View, place: Place, size: Decimal) -> Decimal | None:
    """Return the liquidation price of what a close leaves, its share of the collateral given back; null: nothing."""
    held = place.held
    if held is None:
        return None
    left = held.size_usd - usd_of_base(size, held.price)
    if left <= 0:
        return None
    rest = msgspec.structs.replace(held, size_usd=left, collateral_usd=held.collateral_usd * left // held.size_usd)
    return position_liquidation(view, place, rest)


# --- the quote --------------------------------------------------------------------------------------------------------


def quote_of(terms: QuoteTerms, view: View, *, as_of: datetime, lifetime_s: float) -> Quote:
    """Return the all-in price of an order.

    Args:
        terms: what to price.
        view: of the venue.
        as_of: when it was read.
        lifetime_s: how long the quote is shown as good.

    Raises:
        ProviderError: a leaf that tells why the venue would not take the order now.
    """
    place = view.place(terms.market, terms.side)
    opens = terms.kind is OrderKind.OPEN
    refusal = open_refusal(view, place) if opens else close_refusal(view, place) or place.refusal
    if refusal is not None:
        raise refusal
    cost: OpenCost | None = None
    if opens:
        cost = open_cost(terms, place, view.now)
        check_leverage(place, cost, terms.leverage)
        check_capacity(place, cost.size_usd)
        size, size_usd, fee = cost.size, cost.size_usd, cost.fee
    else:
        size = _size_of(terms, place)
        size_usd = math.floor(Fraction(size) * place.market.priced())
        fee = position_fee(place.market.custody, size_usd, RequestChange.DECREASE, view.now).total
    price, value, charge = to_usd(place.market.priced()), to_usd(size_usd), to_usd(fee)
    return Quote(
        provider="jupiter",
        market=place.symbol,
        side=terms.side,
        size=size,
        size_usd=value,
        leverage=terms.leverage,
        oracle_price=price,
        expected_price=price,
        price_impact_bps=Decimal(0),
        fee_usd=charge,
        fee_bps=(charge * BPS / value).quantize(_BPS_STEP, ROUND_CEILING) if size_usd else Decimal(0),
        carry_rate_1h=(Decimal(hourly_borrow_rate(place.collateral.custody)) / RATE_ONE).quantize(_RATE_STEP),
        margin_required_usd=Decimal(0) if cost is None else to_usd(cost.collateral_usd),
        liquidation_price=(
            _liquidation_after_close(view, place, size) if cost is None else _liquidation_after_open(view, place, cost)
        ),
        max_leverage=max_leverage(place.market),
        capacity_usd=to_usd(_capacity(place)),
        slot=view.slot,
        as_of=as_of,
        expires_at=as_of + timedelta(seconds=lifetime_s),
        collateral_token=None if cost is None else place.collateral.symbol,
        collateral_amount=(
            None if cost is None else Decimal(cost.collateral_tokens).scaleb(-place.collateral.custody.decimals)
        ),
    )
