"""Health of an account in the program's own integers: what it can still open, and when it is liquidated.

Source: `health/cache.rs` and the weights of `state/bank.rs` of the program, version 0.24.3. Health is native quote
(millionths of a dollar) as `I80F48`. Funds in spot market accounts are left out, which can only understate it; two
weights that the program scales in 64-bit floats are scaled in integers here, equal to fifteen digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import msgspec

from providers.mango.constants import FRACTION_BITS, ONE
from providers.mango.state import Bank, MangoAccount, PerpMarket, PerpPosition, i80f48_of_f64

__all__ = [
    "HealthBook",
    "HealthType",
    "PricedBank",
    "PricedPerp",
    "after_order",
    "empty_position",
    "health",
    "health_allows",
    "initial_margin_ratio",
    "is_in_liquidation",
    "liquidation_price",
    "maintenance_margin_ratio",
    "unrealized_pnl",
]

_I80F48_MAX: Final = (1 << 127) - 1
# How far above today's price a short's liquidation price is looked for.
_MOST_DOUBLINGS: Final = 10
_TINY_HEALTH: Final = 1000 * ONE


class HealthType(IntEnum):
    """Which weights and prices apply: for opening, for keeping, or for an end of a liquidation that has begun."""

    INIT = 0
    MAINT = 1
    LIQUIDATION_END = 2


class PricedBank(msgspec.Struct, frozen=True):
    """A token with its price, `I80F48` native quote per native token."""

    bank: Bank
    price: int


class PricedPerp(msgspec.Struct, frozen=True):
    """A perp market with its price, `I80F48` native quote per native base."""

    market: PerpMarket
    price: int


class HealthBook(msgspec.Struct, frozen=True, kw_only=True):
    """An account with all that its health depends on.

    Attributes:
        account: as read.
        banks: by token index, of every token that counts: one whose price the program would not use is left out when
            the account owes none of it, as the program leaves it out.
        perps: by market index, of every market that the account has a slot in, and of the one that is traded.
        now: the chain's clock in seconds.
    """

    account: MangoAccount
    banks: Mapping[int, PricedBank]
    perps: Mapping[int, PricedPerp]
    now: int

    @property
    def exact(self) -> bool:
        """Whether health is exactly the program's: not where spot markets hold funds."""
        return not self.account.active_serum3


def _mul(left: int, right: int) -> int:
    return (left * right) >> FRACTION_BITS


def _prices(price: int, stable: int, kind: HealthType) -> tuple[int, int]:
    """Return the price of an asset and of a liability."""
    if kind is HealthType.INIT:
        return min(price, stable), max(price, stable)
    return price, price


def _maint_weights(bank: Bank, now: int) -> tuple[int, int]:
    """Return a token's maintenance weights, which may be on their way to others."""
    asset, liability = bank.maint_asset_weight, bank.maint_liab_weight
    if bank.maint_weight_shift_duration_inv == 0 or now <= bank.maint_weight_shift_start:
        return asset, liability
    if now >= bank.maint_weight_shift_end:
        return bank.maint_weight_shift_asset_target, bank.maint_weight_shift_liab_target
    scale = (now - bank.maint_weight_shift_start) * bank.maint_weight_shift_duration_inv
    return (
        asset + _mul(scale, bank.maint_weight_shift_asset_target - asset),
        liability + _mul(scale, bank.maint_weight_shift_liab_target - liability),
    )


def _init_weights(bank: Bank, liability_price: int) -> tuple[int, int]:
    """Return a token's initial weights, worse where much of it is deposited or borrowed on the whole venue."""
    asset, liability = bank.init_asset_weight, bank.init_liab_weight
    deposits = _mul(bank.indexed_deposits, bank.deposit_index) + bank.potential_serum_tokens * ONE
    deposited = _mul(deposits, liability_price)
    start = i80f48_of_f64(bank.deposit_weight_scale_start_quote_bits)
    if deposited > start:
        asset = _mul(asset, start * ONE // deposited)
    borrowed = _mul(_mul(bank.indexed_borrows, bank.borrow_index), liability_price)
    start = i80f48_of_f64(bank.borrow_weight_scale_start_quote_bits)
    if borrowed > start:
        liability = _I80F48_MAX if start == 0 else _mul(liability, borrowed * ONE // start)
    return asset, liability


def _token_contribution(priced: PricedBank, balance: int, kind: HealthType, now: int) -> int:
    bank = priced.bank
    asset_price, liability_price = _prices(priced.price, bank.stable_price, kind)
    if kind is HealthType.INIT:
        weights = _init_weights(bank, liability_price)
    elif kind is HealthType.MAINT:
        weights = _maint_weights(bank, now)
    else:
        weights = bank.init_asset_weight, bank.init_liab_weight
    if balance < 0:
        return _mul(balance, _mul(weights[1], liability_price))
    return _mul(balance, _mul(weights[0], asset_price))


def _perp_contribution(position: PerpPosition, priced: PricedPerp, kind: HealthType) -> int:
    """Return what a perp slot adds to its settle token: the worse of all its bids or all its asks being filled."""
    market = priced.market
    asset_price, liability_price = _prices(priced.price, market.stable_price, kind)
    if kind is HealthType.MAINT:
        asset, liability = market.maint_base_asset_weight, market.maint_base_liab_weight
        overall = market.maint_overall_asset_weight
    else:
        asset, liability = market.init_base_asset_weight, market.init_base_liab_weight
        overall = market.init_overall_asset_weight

    def case(order_lots: int, order_price: int) -> int:
        base = (position.effective_base_lots + order_lots) * market.base_lot_size
        weight, price = (liability, liability_price) if base < 0 else (asset, asset_price)
        return _mul(base * weight, price) - order_lots * market.base_lot_size * order_price

    quote = position.quote_position_native - position.unsettled_funding(market)
    quote += position.taker_quote_lots * market.quote_lot_size * ONE
    bids, asks = case(position.bids_base_lots, liability_price), case(-position.asks_base_lots, asset_price)
    total = quote + min(bids, asks)
    return _mul(overall, total) if total > 0 else total


def health(book: HealthBook, kind: HealthType) -> int:
    """Return the account's health, native quote as `I80F48`.

    Raises:
        KeyError: a market of the account, its settle token, or a token that it owes is not in the book.
    """
    balances = dict.fromkeys(book.banks, 0)
    for token in book.account.active_tokens:
        if token.token_index in balances:
            balances[token.token_index] += book.banks[token.token_index].bank.native(token.indexed_position)
        elif token.indexed_position < 0:
            raise KeyError(f"the bank of token {token.token_index}")
    for position in book.account.active_perps:
        priced = book.perps[position.market_index]
        balances[priced.market.settle_token_index] += _perp_contribution(position, priced, kind)
    return sum(_token_contribution(book.banks[index], balance, kind, book.now) for index, balance in balances.items())


def empty_position(market: PerpMarket) -> PerpPosition:
    """Return the slot that the program opens for a first order."""
    return PerpPosition(
        market_index=market.perp_market_index,
        base_position_lots=0,
        quote_position_native=0,
        quote_running_native=0,
        long_settled_funding=market.long_funding,
        short_settled_funding=market.short_funding,
        bids_base_lots=0,
        asks_base_lots=0,
        taker_base_lots=0,
        taker_quote_lots=0,
        avg_entry_price_per_base_lot_bits=0,
        oneshot_settle_pnl_allowance=0,
        recurring_settle_pnl_allowance=0,
        realized_pnl_for_position_native=0,
    )


def after_order(book: HealthBook, market_index: int, *, base_lots: int, quote_lots: int, fee: int) -> HealthBook:
    """Return the account as it is after a taking order: fills wait in the queue, the fee is booked at once.

    Args:
        book: before.
        market_index: of a market in the book.
        base_lots: bought; negative: sold.
        quote_lots: paid; negative: received.
        fee: native quote, `I80F48`, the penalty included.
    """
    account = book.account
    held = account.perp(market_index) or empty_position(book.perps[market_index].market)
    filled = msgspec.structs.replace(
        held,
        taker_base_lots=held.taker_base_lots + base_lots,
        taker_quote_lots=held.taker_quote_lots - quote_lots,
        quote_position_native=held.quote_position_native - fee,
    )
    others = tuple(each for each in account.perps if each.market_index != market_index)
    return msgspec.structs.replace(book, account=msgspec.structs.replace(account, perps=(*others, filled)))


def _at_price(book: HealthBook, market_index: int, price: int) -> HealthBook:
    """Return the book with another price of one market's oracle: tokens on the same oracle move with it."""
    moved = book.perps[market_index]
    perps = {
        index: PricedPerp(each.market, price * each.price // moved.price)
        if each.market.oracle == moved.market.oracle
        else each
        for index, each in book.perps.items()
    }
    banks = {
        index: PricedBank(each.bank, price * each.price // moved.price)
        if each.bank.oracle == moved.market.oracle
        else each
        for index, each in book.banks.items()
    }
    return msgspec.structs.replace(book, perps=perps, banks=banks)


def liquidation_price(book: HealthBook, market_index: int) -> int | None:
    """Return the price at which the whole account's maintenance health reaches zero, all else as it is.

    `I80F48`, native quote per native base; null without a position, without a price, or where no price does it. An
    account that is below zero already gets the price of now.
    """
    position, priced = book.account.perp(market_index), book.perps[market_index]
    if position is None or position.effective_base_lots == 0 or priced.price <= 0:
        return None

    def holds(price: int) -> bool:
        return health(_at_price(book, market_index, price), HealthType.MAINT) >= 0

    if not holds(priced.price):
        return priced.price
    good = priced.price
    if position.effective_base_lots > 0:
        bad = 0
        if holds(bad):
            return None
    else:
        bad = good
        for _ in range(_MOST_DOUBLINGS):
            bad *= 2
            if not holds(bad):
                break
        else:
            return None
    # To a millionth of the price of now, on the side that still holds.
    while abs(good - bad) > max(priced.price // 1_000_000, 1):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def health_allows(before: int, after: int) -> bool:
    """Whether the program lets an order through that moves initial health so.

    Health must end at zero or above, or not get worse; below a thousandth of a dollar it is compared in whole units.
    """
    if after >= 0:
        return True
    if after < -_TINY_HEALTH:
        return -(-after >> FRACTION_BITS) >= -(-before >> FRACTION_BITS)
    return after >= before


def is_in_liquidation(book: HealthBook) -> bool:
    """Whether the program holds the account in liquidation: a flag that ends by itself once health has recovered."""
    if not book.account.being_liquidated:
        return False
    return health(book, HealthType.INIT) < 0 and health(book, HealthType.LIQUIDATION_END) < 0


def unrealized_pnl(position: PerpPosition, priced: PricedPerp) -> int:
    """Return a slot's profit at the oracle with funding owed, native quote as `I80F48`."""
    market = priced.market
    base = position.effective_base_lots * market.base_lot_size * priced.price
    quote = position.quote_position_native + position.taker_quote_lots * market.quote_lot_size * ONE
    return base + quote - position.unsettled_funding(market)


def initial_margin_ratio(market: PerpMarket, *, long: bool) -> int:
    """Return the part of its value that a new position needs, `I80F48`."""
    return ONE - market.init_base_asset_weight if long else market.init_base_liab_weight - ONE


def maintenance_margin_ratio(market: PerpMarket, *, long: bool) -> int:
    """Return the part of its value that a position must keep, `I80F48`."""
    return ONE - market.maint_base_asset_weight if long else market.maint_base_liab_weight - ONE
