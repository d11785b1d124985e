"""Health: what an account is worth once every position is weighed, in native quote (I80F48)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec
from solders.instruction import AccountMeta

from router.localnet.mango.account_layouts import MangoAccount, PerpPosition
from router.localnet.mango.banks import (
    maint_weights,
    native_balance,
    scaled_init_asset_weight,
    scaled_init_liab_weight,
    stable_price,
)
from router.localnet.mango.execution import Execution
from router.localnet.mango.health_accounts import FixedAccounts, HealthAccounts
from router.localnet.mango.layouts import Bank, PerpMarket
from router.localnet.mango.numbers import ONE, ceil, div, from_float, from_int, mul
from router.localnet.programs import ModelRefusal

__all__ = [
    "Health",
    "HealthKind",
    "MarketPart",
    "TokenPart",
    "amount_given_for_zero",
    "amount_taken_for_zero",
    "check_after",
    "check_before",
    "fixed_health",
    "health_of",
    "init_health",
    "printed",
    "recover",
    "require_init_health",
    "unsettled_funding",
]

_SMALL = -1_000 * ONE
_ORACLE_ERRORS = frozenset({"OracleConfidence", "OracleStale"})


class HealthKind(Enum):
    """Which weights and prices count: opening positions, being liquidated, ending a liquidation."""

    INIT = "init"
    MAINT = "maint"
    LIQUIDATION_END = "liquidation_end"


class _Prices(msgspec.Struct, frozen=True):
    """The oracle's price and the slow one (I80F48)."""

    oracle: int
    stable: int

    def liab(self, kind: HealthKind) -> int:
        """Return the price of what is owed."""
        return max(self.oracle, self.stable) if kind is HealthKind.INIT else self.oracle

    def asset(self, kind: HealthKind) -> int:
        """Return the price of what is owned."""
        return min(self.oracle, self.stable) if kind is HealthKind.INIT else self.oracle


class TokenPart(msgspec.Struct, kw_only=True):
    """A token's balance (native, I80F48) and what a unit of it is worth."""

    token_index: int
    balance: int
    prices: _Prices
    asset_weights: dict[HealthKind, int]
    liab_weights: dict[HealthKind, int]
    is_liquidatable: bool

    def asset_price(self, kind: HealthKind) -> int:
        """Return the weighed price of a deposit."""
        return mul(self.asset_weights[kind], self.prices.asset(kind))

    def liab_price(self, kind: HealthKind) -> int:
        """Return the weighed price of a borrow."""
        return mul(self.liab_weights[kind], self.prices.liab(kind))

    def value(self, kind: HealthKind, balance: int) -> int:
        """Return what a balance of the token adds to health."""
        return mul(balance, self.liab_price(kind) if balance < 0 else self.asset_price(kind))


class MarketPart(msgspec.Struct, kw_only=True):
    """A perpetual position with its fills and orders, and the market that it is in; quote native (I80F48)."""

    market: PerpMarket
    prices: _Prices
    base_lots: int
    bids_base_lots: int
    asks_base_lots: int
    quote: int
    has_open_orders: bool
    has_open_fills: bool

    def _case(self, kind: HealthKind, orders_lots: int, order_price: int) -> int:
        """Return what base and quote are worth once these orders are filled at this price."""
        market, lot = self.market, self.market.base_lot_size
        base = from_int((self.base_lots + orders_lots) * lot)
        if base < 0:
            weight = market.maint_base_liab_weight if kind is HealthKind.MAINT else market.init_base_liab_weight
            price = self.prices.liab(kind)
        else:
            weight = market.maint_base_asset_weight if kind is HealthKind.MAINT else market.init_base_asset_weight
            price = self.prices.asset(kind)
        return mul(mul(base, weight), price) + mul(-from_int(orders_lots * lot), order_price)

    def unweighed(self, kind: HealthKind) -> int:
        """Return the PnL in the worse of two cases: all bids are filled, or all asks are."""
        bids = self._case(kind, self.bids_base_lots, self.prices.liab(kind))
        asks = self._case(kind, -self.asks_base_lots, self.prices.asset(kind))
        return self.quote + min(bids, asks)

    def weighed(self, kind: HealthKind) -> int:
        """Return the PnL as it counts: a profit by the market's overall weight."""
        pnl, market = self.unweighed(kind), self.market
        overall = market.maint_overall_asset_weight if kind is HealthKind.MAINT else market.init_overall_asset_weight
        return mul(overall, pnl) if pnl > 0 else pnl


class Health(msgspec.Struct, kw_only=True):
    """An account's positions, ready to be weighed."""

    tokens: list[TokenPart]
    markets: list[MarketPart]

    def token(self, token_index: int) -> TokenPart | None:
        """Return a token's part, null when it was left out."""
        return next((part for part in self.tokens if part.token_index == token_index), None)

    def market(self, market_index: int) -> MarketPart | None:
        """Return a market's part, null when the account has no position in it."""
        return next((part for part in self.markets if part.market.perp_market_index == market_index), None)

    def reprice(self, position: PerpPosition, market: PerpMarket) -> None:
        """Take over a position that changed, at the price that the market had before."""
        for place, part in enumerate(self.markets):
            if part.market.perp_market_index == market.perp_market_index:
                self.markets[place] = _market_part(position, market, part.prices.oracle)

    def balances(self, kind: HealthKind, *, losses: bool = True) -> dict[int, int]:
        """Return every token's balance with the PnL of the markets settled in it, losses too unless told not to."""
        sums = {part.token_index: part.balance for part in self.tokens}
        for part in self.markets:
            pnl = part.weighed(kind)
            if losses or pnl > 0:
                sums[part.market.settle_token_index] += pnl
        return sums

    def value(self, kind: HealthKind, *, losses: bool = True) -> int:
        """Return the account's health."""
        sums = self.balances(kind, losses=losses)
        return sum(part.value(kind, sums[part.token_index]) for part in self.tokens)

    def assets(self, kind: HealthKind) -> int:
        """Return the positive part of health, where debts are set off against assets of the same token."""
        total = 0
        for token in self.tokens:
            parts = [token.balance]
            settled = [each for each in self.markets if each.market.settle_token_index == token.token_index]
            parts.extend(each.weighed(kind) for each in settled)
            total += mul(sum(part for part in parts if part > 0), token.asset_price(kind))
        return total

    def max_settle(self, token_index: int) -> int | None:
        """Return how much of a loss the account's other assets cover, in native units of the settlement token."""
        token = self.token(token_index)
        if token is None:
            return None
        kind = HealthKind.MAINT
        balance = self.balances(kind, losses=False)[token_index]
        health = self.value(kind, losses=False)
        return amount_taken_for_zero(health, balance, token.asset_price(kind), token.liab_price(kind))


def amount_taken_for_zero(health: int, balance: int, asset_price: int, liab_price: int) -> int:
    """Return how much of a token can be taken away until health is zero; 0 when it is not positive."""
    if health <= 0:
        return 0
    taken = 0
    if balance > 0:
        if asset_price > 0 and (most := div(health, asset_price)) <= balance:
            return most
        taken = balance
        health -= mul(balance, asset_price)
    return taken + div(health, liab_price) if health > 0 else taken


def amount_given_for_zero(health: int, balance: int, asset_price: int, liab_price: int) -> int:
    """Return how much of a token has to be added until health is zero; 0 when it is not negative."""
    return amount_taken_for_zero(-health, -balance, liab_price, asset_price)


def unsettled_funding(position: PerpPosition, market: PerpMarket) -> int:
    """Return the funding (native quote, I80F48) that the position still owes."""
    lots = position.base_position_lots
    if lots > 0:
        return mul(market.long_funding - position.long_settled_funding, from_int(lots))
    return mul(market.short_funding - position.short_settled_funding, from_int(lots)) if lots < 0 else 0


# From accounts to health


def _token_part(run: Execution, bank: Bank, price: int, balance: int) -> TokenPart:
    prices = _Prices(price, stable_price(bank))
    liab = prices.liab(HealthKind.INIT)
    maint_asset, maint_liab = maint_weights(bank, run.now)
    return TokenPart(
        token_index=bank.token_index,
        balance=balance,
        prices=prices,
        asset_weights={
            HealthKind.INIT: scaled_init_asset_weight(bank, liab),
            HealthKind.MAINT: maint_asset,
            HealthKind.LIQUIDATION_END: bank.init_asset_weight,
        },
        liab_weights={
            HealthKind.INIT: scaled_init_liab_weight(bank, liab),
            HealthKind.MAINT: maint_liab,
            HealthKind.LIQUIDATION_END: bank.init_liab_weight,
        },
        is_liquidatable=not bank.disable_asset_liquidation,
    )


def _market_part(position: PerpPosition, market: PerpMarket, price: int) -> MarketPart:
    taken = from_int(position.taker_quote_lots * market.quote_lot_size)
    return MarketPart(
        market=market,
        prices=_Prices(price, from_float(market.stable_price_model.stable_price)),
        base_lots=position.effective_base_lots,
        bids_base_lots=position.bids_base_lots,
        asks_base_lots=position.asks_base_lots,
        quote=position.quote_position_native - unsettled_funding(position, market) + taken,
        has_open_orders=position.has_open_orders,
        has_open_fills=position.has_open_taker_fills,
    )


def health_of(run: Execution, account: MangoAccount, accounts: HealthAccounts, *, skipping: bool = False) -> Health:
    """Collect an account's positions with their prices. Spot markets are not modelled: nobody here has orders there.

    Args:
        run: the instruction.
        account: whose health it is.
        accounts: where banks and markets are found.
        skipping: leave out tokens whose bank was not passed or whose oracle is bad, unless they are owed.
    """
    passed = accounts.token_indexes() if skipping else frozenset[int]()
    health = Health(tokens=[], markets=[])
    for rank, slot in enumerate(each for each in account.tokens if each.is_active):
        if skipping and slot.token_index not in passed:
            run.check(slot.indexed_position >= 0, "InvalidBank")
            continue
        try:
            bank, price = accounts.bank(rank, slot.token_index)
        except ModelRefusal as error:
            if skipping and error.name in _ORACLE_ERRORS and slot.indexed_position >= 0:
                continue
            raise
        health.tokens.append(_token_part(run, bank, price, native_balance(bank, slot)))
    for rank, position in enumerate(each for each in account.perps if each.is_active):
        market, price = accounts.market(rank, position.market_index)
        run.check(health.token(market.settle_token_index) is not None, "TokenPositionDoesNotExist")
        health.markets.append(_market_part(position, market, price))
    return health


def fixed_health(run: Execution, account: MangoAccount, metas: Sequence[AccountMeta]) -> Health:
    """Return health from accounts in the fixed order, as orders, deposits and withdrawals pass them."""
    return health_of(run, account, FixedAccounts(run, account, metas), skipping=True)


# What has to hold


def recover(account: MangoAccount, health: int) -> bool:
    """End a liquidation once health is back at zero (a unit less will do); tell whether that was so."""
    if account.head.being_liquidated and health > -ONE:
        account.head.being_liquidated = 0
        return True
    return False


def printed(bits: int) -> str:
    """Return a number as the program prints it."""
    return f"{bits / ONE:.6f}"


def check_before(run: Execution, account: MangoAccount, health: Health) -> int:
    """Return the initial health before an action; refuse an account that is being liquidated and stays so."""
    before = health.value(HealthKind.INIT)
    run.log(f"pre_init_health: {printed(before)}")
    recover(account, before)
    if account.head.being_liquidated:
        recover(account, health.value(HealthKind.LIQUIDATION_END))
    run.check(not account.head.being_liquidated, "BeingLiquidated")
    return before


def check_after(run: Execution, before: int, after: int) -> None:
    """Refuse an action that leaves initial health negative, unless it has not become less."""
    run.log(f"post_init_health: {printed(after)}")
    kept = ceil(after) >= ceil(before) if after < _SMALL else after >= before
    run.check(after >= 0 or kept, "HealthMustBePositiveOrIncrease")


def init_health(
    run: Execution, account: MangoAccount, metas: Sequence[AccountMeta], *, settle_token_index: int | None = None
) -> int:
    """Return the initial health before an order; it ends a liquidation that is over.

    Args:
        run: the instruction.
        account: after the positions that it needs were opened.
        metas: the remaining accounts, in the fixed order.
        settle_token_index: a token whose bank has to be among them with a good price.

    Raises:
        ModelRefusal: the accounts are not the right ones, a price is bad, or the account is being liquidated.
    """
    health = fixed_health(run, account, metas)
    if settle_token_index is not None:
        run.check(health.token(settle_token_index) is not None, "TokenPositionDoesNotExist")
    return check_before(run, account, health)


def require_init_health(run: Execution, account: MangoAccount, metas: Sequence[AccountMeta], before: int) -> None:
    """Refuse an action after which initial health is negative and less than `before`."""
    check_after(run, before, fixed_health(run, account, metas).value(HealthKind.INIT))
