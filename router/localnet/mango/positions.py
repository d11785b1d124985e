"""What trades, fees, funding and settling do to a perpetual position, and which slots an account uses.

Quote amounts are native units as I80F48 where the field has fractions; sizes are base lots.
"""

from __future__ import annotations

from router.localnet.mango.account_layouts import MangoAccount, PerpPosition, TokenPosition
from router.localnet.mango.enums import FREE_SLOT, Side
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import Group, PerpMarket
from router.localnet.mango.numbers import (
    I64_MAX,
    I64_MIN,
    U64_MAX,
    FixedOverflow,
    add,
    ceil,
    clamp_to_i64,
    div,
    floor,
    from_float,
    from_int,
    mul,
    round_to_zero,
    saturated_i64,
    to_float,
)

__all__ = [
    "accrue_buyback_fees",
    "adjust_maker_lots",
    "available_settle_limit",
    "base_native",
    "bound_to_settle_limit",
    "ensure_perp_position",
    "ensure_token_position",
    "expire_buyback_fees",
    "is_delegate",
    "is_operational",
    "lot_to_native_price",
    "native_price_to_lot",
    "perp_position",
    "record_pnl_takeover",
    "record_settle",
    "record_trade",
    "record_trading_fee",
    "settle_funding",
    "settle_limit",
    "stable_price",
    "token_position",
    "unsettled_funding",
    "unsettled_pnl",
    "update_settle_limit",
]


# Who may act, and since when


def is_operational(account: MangoAccount, now: int) -> bool:
    """Tell whether the account is not frozen."""
    return account.head.frozen_until < now


def is_delegate(account: MangoAccount, signer: object, now: int) -> bool:
    """Tell whether a key acts for the owner."""
    head = account.head
    return head.delegate == signer or (now <= head.temporary_delegate_expiry and head.temporary_delegate == signer)


# Slots


def ensure_token_position(run: Execution, account: MangoAccount, token_index: int) -> TokenPosition:
    """Return the slot of a token; a free one is taken when there is none."""
    found = account.token(token_index)
    if found is not None:
        return found
    index = next((index for index, slot in enumerate(account.tokens) if not slot.is_active), None)
    if index is None:
        raise run.refuse("NoFreeTokenPositionIndex")
    account.tokens[index] = TokenPosition.zero()
    account.tokens[index].token_index = token_index
    return account.tokens[index]


def ensure_perp_position(
    run: Execution, account: MangoAccount, market_index: int, settle_token_index: int
) -> PerpPosition:
    """Return the slot of a market; a new one keeps a slot of the settle token alive."""
    found = account.perp(market_index)
    if found is not None:
        return found
    index = next((index for index, slot in enumerate(account.perps) if not slot.is_active), None)
    if index is None:
        raise run.refuse("NoFreePerpPositionIndex")
    account.perps[index] = PerpPosition.zero()
    account.perps[index].market_index = market_index
    ensure_token_position(run, account, settle_token_index).in_use_count += 1
    return account.perps[index]


def perp_position(run: Execution, account: MangoAccount, market_index: int) -> PerpPosition:
    """Return the slot of a market; refuse when there is none."""
    found = account.perp(market_index)
    if found is None or market_index == FREE_SLOT:
        raise run.refuse("PerpPositionDoesNotExist")
    return found


def token_position(run: Execution, account: MangoAccount, token_index: int) -> TokenPosition:
    """Return the slot of a token; refuse when there is none."""
    found = account.token(token_index)
    if found is None:
        raise run.refuse("TokenPositionDoesNotExist")
    return found


# Prices of a market


def lot_to_native_price(market: PerpMarket, price_lots: int) -> int:
    """Return a price in lots as native quote a native base."""
    return div(mul(from_int(price_lots), from_int(market.quote_lot_size)), from_int(market.base_lot_size))


def native_price_to_lot(market: PerpMarket, price: int) -> int:
    """Return native quote a native base as a price in lots, rounded down."""
    lots = floor(div(mul(price, from_int(market.base_lot_size)), from_int(market.quote_lot_size)))
    if saturated_i64(lots) != lots:
        raise FixedOverflow("the price does not fit 64 bits")
    return lots


def stable_price(market: PerpMarket) -> int:
    """Return the slow price: native quote a native base."""
    return from_float(market.stable_price_model.stable_price)


# Funding


def unsettled_funding(position: PerpPosition, market: PerpMarket) -> int:
    """Return what the position owes since it was last settled; negative when it is owed."""
    lots = position.base_position_lots
    if lots == 0:
        return 0
    current, settled = (
        (market.long_funding, position.long_settled_funding)
        if lots > 0
        else (market.short_funding, position.short_settled_funding)
    )
    return mul(add(current, -settled), from_int(lots))


def settle_funding(position: PerpPosition, market: PerpMarket) -> None:
    """Move what the position owes into its quote position."""
    funding = unsettled_funding(position, market)
    position.quote_position_native = add(position.quote_position_native, -funding)
    position.oneshot_settle_pnl_allowance = add(position.oneshot_settle_pnl_allowance, -funding)
    position.realized_pnl_for_position_native = add(position.realized_pnl_for_position_native, -funding)
    if position.base_position_lots > 0:
        position.cumulative_long_funding += to_float(funding)
    else:
        position.cumulative_short_funding -= to_float(funding)
    position.long_settled_funding = market.long_funding
    position.short_settled_funding = market.short_funding


# Trades


def base_native(position: PerpPosition, market: PerpMarket) -> int:
    """Return the settled base position in native units, I80F48."""
    return from_int(position.base_position_lots * market.base_lot_size)


def unsettled_pnl(position: PerpPosition, market: PerpMarket, price: int) -> int:
    """Return what the settled position is worth at a price."""
    return add(position.quote_position_native, mul(base_native(position, market), price))


def adjust_maker_lots(position: PerpPosition, side: Side, lots: int) -> None:
    """Change the size of the orders that rest, or wait in the queue, on a side."""
    if side is Side.BID:
        position.bids_base_lots += lots
    else:
        position.asks_base_lots += lots


def record_trading_fee(position: PerpPosition, fee: int) -> None:
    """Take a fee from the quote position."""
    position.quote_position_native = add(position.quote_position_native, -fee)
    position.oneshot_settle_pnl_allowance = add(position.oneshot_settle_pnl_allowance, -fee)
    position.realized_pnl_for_position_native = add(position.realized_pnl_for_position_native, -fee)


def record_trade(position: PerpPosition, market: PerpMarket, base_change: int, quote_change: int) -> int:
    """Apply a trade to the position and to the market's open interest; return the PnL that it realized.

    The changes are lots, negative when sold, and native quote (I80F48), negative when paid.
    """
    realized = _update_statistics(position, market, base_change, quote_change)
    before = abs(position.base_position_lots)
    position.base_position_lots += base_change
    market.open_interest += abs(position.base_position_lots) - before
    position.quote_position_native = add(position.quote_position_native, quote_change)
    _bound_recurring_allowance(position, market)
    return realized


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _as_i64(value: float) -> int:
    """Convert as the program's casts do: without the fraction, kept within the type."""
    return saturated_i64(int(value))


def _update_statistics(position: PerpPosition, market: PerpMarket, base_change: int, quote_change: int) -> int:
    """Keep entry price, running quote, realized PnL and the recurring allowance up with a trade."""
    if base_change == 0:
        return 0
    old, new = position.base_position_lots, position.base_position_lots + base_change
    entry = position.avg_entry_price_per_base_lot
    reduced, increased = abs(old), 0
    if new == 0:
        realized = add(quote_change, mul(from_int(base_change), from_float(entry)))
        position.avg_entry_price_per_base_lot = 0.0
        position.quote_running_native = 0
        position.realized_pnl_for_position_native = 0
    elif _sign(old) != _sign(new):
        increased = abs(new)
        new_entry = abs(to_float(quote_change) / float(base_change))
        realized = from_float(float(old) * (new_entry - entry))
        position.avg_entry_price_per_base_lot = new_entry
        position.quote_running_native = _as_i64(-float(new) * new_entry)
        position.realized_pnl_for_position_native = 0
    else:
        position.quote_running_native += round_to_zero(quote_change)
        if _sign(old) == _sign(base_change):
            reduced, increased = 0, abs(base_change)
            realized = 0
            value = float(abs(old)) * entry + abs(to_float(quote_change))
            position.avg_entry_price_per_base_lot = value / float(abs(new))
        else:
            reduced = abs(base_change)
            realized = add(quote_change, mul(from_int(base_change), from_float(entry)))
            position.realized_pnl_for_position_native = add(position.realized_pnl_for_position_native, realized)
    grown_native = from_int((increased - reduced) * market.base_lot_size)
    factor = from_float(market.settle_pnl_limit_factor)
    change = clamp_to_i64(mul(mul(grown_native, stable_price(market)), factor))
    position.recurring_settle_pnl_allowance = max(0, abs(position.recurring_settle_pnl_allowance) - change)
    return realized


def _bound_recurring_allowance(position: PerpPosition, market: PerpMarket) -> int:
    """Keep the recurring allowance within the PnL at the slow price; return by how much it changed."""
    before = abs(position.recurring_settle_pnl_allowance)
    position.deprecated_realized_trade_pnl_native = 0
    bound = ceil(abs(unsettled_pnl(position, market, stable_price(market))))
    position.recurring_settle_pnl_allowance = max(0, min(before, bound))
    return position.recurring_settle_pnl_allowance - before


# Settling


def update_settle_limit(position: PerpPosition, market: PerpMarket, now: int) -> None:
    """Begin a new window of the settle limit when the last one is over."""
    size = market.settle_pnl_limit_window_size_ts
    start = position.settle_pnl_limit_window * size
    if now >= start + size or now < start:
        if size == 0:
            raise FixedOverflow("division by zero")
        position.settle_pnl_limit_window = now // size
        position.settle_pnl_limit_settled_in_current_window_native = 0


def settle_limit(position: PerpPosition, market: PerpMarket) -> tuple[int, int]:
    """Return the lowest and highest PnL (native) that may be settled in one window; any without a limit."""
    if market.settle_pnl_limit_factor < 0:
        return I64_MIN, I64_MAX
    value = mul(stable_price(market), base_native(position, market))
    unrealized = _as_i64(market.settle_pnl_limit_factor * to_float(abs(value)))
    pnl = ceil(abs(add(position.quote_position_native, value)))
    highest = unrealized + min(abs(position.recurring_settle_pnl_allowance), pnl)
    lowest = -highest
    oneshot = position.oneshot_settle_pnl_allowance
    if oneshot >= 0:
        highest = saturated_i64(highest + saturated_i64(ceil(oneshot)))
    else:
        lowest = saturated_i64(lowest + clamp_to_i64(oneshot))
    return min(lowest, 0), max(highest, 0)


def available_settle_limit(position: PerpPosition, market: PerpMarket) -> tuple[int, int] | None:
    """Return the lowest and highest PnL (native) that may still be settled in this window; null without a limit."""
    if market.settle_pnl_limit_factor < 0:
        return None
    lowest, highest = settle_limit(position, market)
    used = position.settle_pnl_limit_settled_in_current_window_native
    return min(saturated_i64(lowest - used), 0), max(saturated_i64(highest - used), 0)


def bound_to_settle_limit(position: PerpPosition, market: PerpMarket, pnl: int) -> int:
    """Return the part of a PnL (I80F48) that may be settled in this window; all of it without a limit."""
    limit = available_settle_limit(position, market)
    if limit is None:
        return pnl
    lowest, highest = limit
    return max(pnl, from_int(lowest)) if pnl < 0 else min(pnl, from_int(highest))


def record_settle(position: PerpPosition, market: PerpMarket, settled: int) -> None:
    """Take settled PnL (I80F48) out of the quote position and count it against the limits."""
    position.quote_position_native = add(position.quote_position_native, -settled)
    oneshot = position.oneshot_settle_pnl_allowance
    reduction = max(min(settled, oneshot), 0) if settled > 0 else min(max(settled, oneshot), 0)
    position.oneshot_settle_pnl_allowance = add(oneshot, -reduction)
    used = saturated_i64(round_to_zero(add(settled, -reduction)))
    change = _bound_recurring_allowance(position, market)
    if change < 0:
        used = max(used + change, 0) if used > 0 else min(used - change, 0)
    position.settle_pnl_limit_settled_in_current_window_native += used


def record_pnl_takeover(position: PerpPosition, pnl: int, *, recurring: int, oneshot: int) -> None:
    """Add another account's profit (I80F48), and what of its settle limit goes with it (native)."""
    position.quote_position_native = add(position.quote_position_native, pnl)
    position.recurring_settle_pnl_allowance += recurring
    position.oneshot_settle_pnl_allowance = add(position.oneshot_settle_pnl_allowance, from_int(oneshot))


# Fees that may be bought back


def expire_buyback_fees(account: MangoAccount, group: Group, now: int) -> None:
    """Let the fees of the interval before last expire."""
    head, interval = account.head, group.buyback_fees_expiry_interval
    if interval == 0 or now < head.buyback_fees_expiry_timestamp:
        return
    recent = now < head.buyback_fees_expiry_timestamp + interval
    head.buyback_fees_accrued_previous = head.buyback_fees_accrued_current if recent else 0
    head.buyback_fees_accrued_current = 0
    head.buyback_fees_expiry_timestamp = (now // interval + 1) * interval


def accrue_buyback_fees(account: MangoAccount, fee: int) -> None:
    """Count a fee (I80F48) among those that may be bought back."""
    head = account.head
    head.buyback_fees_accrued_current = min(U64_MAX, head.buyback_fees_accrued_current + floor(fee))
