"""What the owner holds, in the shared terms: one a market and side, whatever backs it."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from providers.base.types import Side, VenuePosition
from providers.jupiter.fees import pnl
from providers.jupiter.quote import held_base, position_liquidation, size_tolerance, to_usd
from providers.jupiter.reading import Place, View

__all__ = ["positions_of"]

_PRICE_STEP: Final = Decimal("0.000001")


def positions_of(view: View) -> tuple[VenuePosition, ...]:
    """Return what the owner holds, sizes above zero.

    A short can be backed by several stable tokens. This adapter's is backed by USDC; what else there is belongs to
    somebody else's trading, and is added to it: the engine takes what no lot of its own explains as foreign.
    """
    found: dict[tuple[str, Side], VenuePosition] = {}
    for place in view.places:
        one = _position_of(view, place)
        if one is not None:
            before = found.get((one.market, one.side))
            found[one.market, one.side] = one if before is None else _together(before, one)
    return tuple(found.values())


def _position_of(view: View, place: Place) -> VenuePosition | None:
    held, unit = place.held, place.units.unit
    if held is None or held.price <= 0:
        return None
    price = None if place.market.price is None else place.market.price.price
    # As the venue shows it: at its oracle, before fees and borrowing.
    profit = (
        None
        if price is None
        else pnl(long=place.side is Side.LONG, size_usd=held.size_usd, entry=held.price, price=price)
    )
    return VenuePosition(
        provider="jupiter",
        market=place.symbol,
        side=place.side,
        size=held_base(held, unit),
        entry_price=to_usd(held.price),
        liquidation_price=position_liquidation(view, place, held),
        unrealized_pnl_usd=None if profit is None else to_usd(profit),
        oracle_price=None if price is None else to_usd(price),
        slot=view.slot,
        size_tolerance=size_tolerance(held.size_usd, held.price, unit),
    )


def _together(one: VenuePosition, other: VenuePosition) -> VenuePosition:
    """Return two positions on one side as one; each is liquidated by itself, so that no one price is true of both."""
    size = one.size + other.size
    entry = None
    if one.entry_price is not None and other.entry_price is not None:
        entry = ((one.entry_price * one.size + other.entry_price * other.size) / size).quantize(_PRICE_STEP)
    profit = None
    if one.unrealized_pnl_usd is not None and other.unrealized_pnl_usd is not None:
        profit = one.unrealized_pnl_usd + other.unrealized_pnl_usd
    return VenuePosition(
        provider=one.provider,
        market=one.market,
        side=one.side,
        size=size,
        entry_price=entry,
        liquidation_price=None,
        unrealized_pnl_usd=profit,
        oracle_price=one.oracle_price,
        slot=one.slot,
        size_tolerance=one.size_tolerance + other.size_tolerance,
    )
