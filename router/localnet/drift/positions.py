"""Perpetual positions: finding a slot, moving it by a fill or a payment, and the market's sums that move with it.

Quote in 1e6, base in 1e9. A long's quote entry is negative: what it paid.
"""

from __future__ import annotations

from router.localnet.drift.enums import Direction
from router.localnet.drift.execution import Execution
from router.localnet.drift.layouts import PerpPosition, User
from router.localnet.drift.market_layouts import AMM, PerpMarket
from router.localnet.drift.numbers import div, sign

__all__ = [
    "add_quote",
    "add_quote_and_break_even",
    "apply_fill",
    "change_open_amount",
    "find_position",
    "force_position",
    "is_free",
    "worst_case_base",
]


def is_free(position: PerpPosition) -> bool:
    """Whether the slot holds nothing: no base, no unsettled PnL, no orders, no liquidity."""
    has_order = position.open_orders != 0 or position.open_bids != 0 or position.open_asks != 0
    return not (position.base_asset_amount or position.quote_asset_amount or has_order or position.lp_shares)


def find_position(user: User, market_index: int) -> PerpPosition | None:
    """Return the slot that the user uses for the market."""
    for position in user.perp_positions:
        if position.market_index == market_index and not is_free(position):
            return position
    return None


def force_position(run: Execution, user: User, market_index: int) -> PerpPosition:
    """Return the user's slot for the market, a free one when there is none yet.

    Raises:
        ModelRefusal: all eight are in use.
    """
    found = find_position(user, market_index)
    if found is not None:
        return found
    for position in user.perp_positions:
        if is_free(position):
            fresh = PerpPosition.zero()
            fresh.market_index = market_index
            position.copy_from(fresh)
            return position
    raise run.refuse("MaxNumberOfPositions")


def worst_case_base(position: PerpPosition) -> int:
    """Return the base if all bids or all asks filled, whichever is larger."""
    bids = position.base_asset_amount + position.open_bids
    asks = position.base_asset_amount + position.open_asks
    return bids if abs(bids) > abs(asks) else asks


def change_open_amount(position: PerpPosition, direction: int, base: int) -> None:
    """Add `base` (negative: take away) to what waits on one side."""
    if direction == Direction.LONG:
        position.open_bids += base
    else:
        position.open_asks -= base


def add_quote(position: PerpPosition, market: PerpMarket, quote: int) -> None:
    """Pay `quote` (1e6, negative: charge) into the position."""
    if quote == 0:
        return
    if position.quote_asset_amount == 0 and position.base_asset_amount == 0:
        market.number_of_users += 1
    position.quote_asset_amount += quote
    market.amm.quote_asset_amount += quote
    if position.quote_asset_amount == 0 and position.base_asset_amount == 0:
        market.number_of_users = max(0, market.number_of_users - 1)


def add_quote_and_break_even(position: PerpPosition, market: PerpMarket, quote: int) -> None:
    """Pay `quote` into the position; while it is open, its break-even moves too."""
    add_quote(position, market, quote)
    if quote == 0 or position.base_asset_amount == 0:
        return
    position.quote_break_even_amount += quote
    if position.base_asset_amount >= 0:
        market.amm.quote_break_even_amount_long += quote
    else:
        market.amm.quote_break_even_amount_short += quote


def apply_fill(run: Execution, position: PerpPosition, market: PerpMarket, base: int, quote: int) -> None:
    """Move a position by a fill.

    Args:
        run: for refusals.
        position: to be changed.
        market: its sums change too.
        base: signed base (1e9).
        quote: signed quote (1e6), of the other sign.
    """
    amm = market.amm
    before = position.base_asset_amount
    after = before + base
    quote_after = position.quote_asset_amount + quote
    opens, closes = before == 0, before != 0 and after == 0
    grows = opens or sign(before) == sign(base)
    flips = not grows and abs(base) > abs(before)

    if grows:
        entry, break_even = position.quote_entry_amount + quote, position.quote_break_even_amount + quote
    elif flips:
        entry = break_even = quote - div(quote * abs(before), abs(base))
    else:
        entry = position.quote_entry_amount - div(position.quote_entry_amount * abs(base), abs(before))
        break_even = position.quote_break_even_amount - div(position.quote_break_even_amount * abs(base), abs(before))

    if opens:
        market.number_of_users += 1 if position.quote_asset_amount == 0 else 0
        market.number_of_users_with_base += 1
    elif closes:
        market.number_of_users -= 1 if quote_after == 0 else 0
        market.number_of_users_with_base -= 1

    amm.quote_asset_amount += quote
    if before != 0:
        _add_to_side(amm, before, -before, -position.quote_entry_amount, -position.quote_break_even_amount)
    if after != 0:
        _add_to_side(amm, after, after, entry, break_even)
    elif not grows:
        # What rounding leaves of a closed position's entry stays in the side's sum.
        _add_to_side(amm, before, 0, entry, break_even)

    funding = amm.cumulative_funding_rate_long if before > 0 else amm.cumulative_funding_rate_short
    run.check(before == 0 or position.last_cumulative_funding_rate == funding, "InvalidPositionLastFundingRate")
    if closes:
        position.last_cumulative_funding_rate = 0
    elif grows or flips:
        position.last_cumulative_funding_rate = (
            amm.cumulative_funding_rate_long if after > 0 else amm.cumulative_funding_rate_short
        )
    position.base_asset_amount = after
    position.quote_asset_amount = quote_after
    position.quote_entry_amount, position.quote_break_even_amount = entry, break_even


def _add_to_side(amm: AMM, side: int, base: int, entry: int, break_even: int) -> None:
    """Add to the sums over all longs (`side` positive) or all shorts."""
    if side > 0:
        amm.base_asset_amount_long += base
        amm.quote_entry_amount_long += entry
        amm.quote_break_even_amount_long += break_even
    else:
        amm.base_asset_amount_short += base
        amm.quote_entry_amount_short += entry
        amm.quote_break_even_amount_short += break_even
