"""What the account holds, in the shared terms: fills that wait in the event queue included."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from providers.base.types import Side, VenuePosition
from providers.mango.build import lot_units
from providers.mango.constants import FRACTION_BITS
from providers.mango.health import liquidation_price
from providers.mango.quote import native_to_price
from providers.mango.reading import AccountView
from providers.mango.state import PerpMarket, PerpPosition

__all__ = ["positions_of"]

_PRICE_STEP: Final = Decimal("0.000001")


def positions_of(view: AccountView) -> tuple[VenuePosition, ...]:
    """Return the account's positions, one a market, with their effective size; nothing where it is not set up."""
    held = () if view.account is None else view.account.active_perps
    return tuple(_position_of(view, each) for each in held if each.effective_base_lots != 0)


def _position_of(view: AccountView, position: PerpPosition) -> VenuePosition:
    market = view.perps[position.market_index]
    lots, units = position.effective_base_lots, lot_units(market)
    size, entry = units.size(abs(lots)), _entry_price(position, market)
    price = view.prices.get(position.market_index)
    oracle = None if price is None else native_to_price(market, price.price).quantize(_PRICE_STEP)
    # As the venue shows it: at its oracle, before fees and funding.
    profit = None if oracle is None else (oracle - entry) * (size if lots > 0 else -size)
    limit = None
    if view.book is not None and view.book.exact:
        limit = liquidation_price(view.book, position.market_index)
    return VenuePosition(
        provider="mango",
        market=market.venue_symbol.upper(),
        side=Side.LONG if lots > 0 else Side.SHORT,
        size=size,
        entry_price=entry,
        liquidation_price=None if limit is None else native_to_price(market, limit).quantize(_PRICE_STEP),
        unrealized_pnl_usd=None if profit is None else profit.quantize(_PRICE_STEP),
        oracle_price=oracle,
        slot=view.slot,
    )


def _entry_price(position: PerpPosition, market: PerpMarket) -> Decimal:
    """Return the average entry of the effective position, dollars per base unit.

    The account's own average knows nothing of fills that wait: they are weighed in where they add to the position, and
    are all of it where they turn it round; where they reduce it, the average stays.
    """
    settled, waiting = position.base_position_lots, position.taker_base_lots
    # Native quote per base lot, I80F48.
    average = position.avg_entry_price_per_base_lot
    if waiting != 0:
        taken = (abs(position.taker_quote_lots) * market.quote_lot_size << FRACTION_BITS) // abs(waiting)
        if settled * waiting >= 0:
            average = (average * abs(settled) + taken * abs(waiting)) // (abs(settled) + abs(waiting))
        elif abs(waiting) > abs(settled):
            average = taken
    return native_to_price(market, average // market.base_lot_size).quantize(_PRICE_STEP)
