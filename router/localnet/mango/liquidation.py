"""Liquidation: another account takes over base, or profit, of one whose health is too low, until it has recovered.

How much is taken is settled in five steps on a projection of the account's health, and only then done: a base lot
sold may be worth nothing to health by itself, and yet allow that profit is settled afterwards.
"""

from __future__ import annotations

import struct

import msgspec
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount, PerpPosition
from router.localnet.mango.banks import deposit_tokens, withdraw_tokens
from router.localnet.mango.enums import IxGate
from router.localnet.mango.events import perp_balance_log, perp_liquidation_log, token_balance_log
from router.localnet.mango.execution import Execution
from router.localnet.mango.funds import token_data
from router.localnet.mango.health import (
    Health,
    HealthKind,
    TokenPart,
    amount_given_for_zero,
    health_of,
    printed,
    recover,
)
from router.localnet.mango.health_accounts import ScannedAccounts, market_price
from router.localnet.mango.layouts import Bank, Group, PerpMarket
from router.localnet.mango.numbers import I64_MIN, ONE, add, ceil, div, floor, from_int, mul, round_to_zero
from router.localnet.mango.orders import check_actor
from router.localnet.mango.positions import (
    ensure_perp_position,
    is_operational,
    perp_position,
    record_pnl_takeover,
    record_settle,
    record_trade,
    settle_funding,
    settle_limit,
    token_position,
    unsettled_pnl,
    update_settle_limit,
)

__all__ = ["liquidate_base_or_pnl"]

_END = HealthKind.LIQUIDATION_END
_UNITS = 110_000
_HEALTH_ACCOUNT_UNITS = 2_500
_NEARLY_RECOVERED = -ONE // 2
"""Base whose profit counts for less than its worth is taken until health is within half a native unit of zero."""


# Accounts


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of the instruction; `owner` signs for the liquidator."""

    group: Pubkey
    market: PerpMarket
    oracle: Pubkey
    liqor_key: Pubkey
    liqor: MangoAccount
    owner: Pubkey
    liqee_key: Pubkey
    liqee: MangoAccount
    bank: Bank


def _take_case(run: Execution) -> _Case:
    group_meta, group = run.take_account(Group, "group")
    market_meta, market = run.take_account(PerpMarket, "perp_market")
    oracle = run.take().pubkey
    liqor_meta, liqor = run.take_account(MangoAccount, "liqor")
    owner = run.signer("liqor_owner").pubkey
    liqee_meta, liqee = run.take_account(MangoAccount, "liqee")
    bank_meta, bank = run.take_account(Bank, "settle_bank")
    vault_meta = run.take()
    token_data(run, vault_meta.pubkey, "settle_vault")
    bank_oracle = run.take().pubkey
    key = group_meta.pubkey
    run.check_gate(group, IxGate.PERP_LIQ_BASE_OR_POSITIVE_PNL)
    run.check_writable(market_meta, "perp_market")
    run.check_same(market.group, key, "perp_market")
    run.check_same(market.oracle, oracle, "perp_market")
    for name, meta, account in (("liqor", liqor_meta, liqor), ("liqee", liqee_meta, liqee)):
        run.check_writable(meta, name)
        run.check_same(account.head.group, key, name)
        run.check(is_operational(account, run.now), "AccountIsFrozen", name)
    run.check_writable(bank_meta, "settle_bank")
    run.check_same(bank.group, key, "settle_bank")
    run.check(bank.token_index == market.settle_token_index, "InvalidBank", "settle_bank")
    run.check_writable(vault_meta, "settle_vault")
    run.check(bank.vault == vault_meta.pubkey, "ConstraintAddress", "settle_vault")
    run.check(bank.oracle == bank_oracle, "ConstraintAddress", "settle_oracle")
    return _Case(
        group=key,
        market=market,
        oracle=oracle,
        liqor_key=liqor_meta.pubkey,
        liqor=liqor,
        owner=owner,
        liqee_key=liqee_meta.pubkey,
        liqee=liqee,
        bank=bank,
    )


# The instruction


def liquidate_base_or_pnl(run: Execution) -> int:
    """Run `perpLiqBaseOrPositivePnl`; an account that is not to be liquidated is left as it is, with success."""
    try:
        most_base, most_pnl = struct.unpack_from("<qQ", run.args)
    except struct.error as error:
        raise run.refuse("InstructionDidNotDeserialize") from error
    case = _take_case(run)
    run.check(case.liqor_key != case.liqee_key, "RequireKeysNeqViolated")
    check_actor(run, case.liqor, case.owner)
    run.check(not case.liqor.head.being_liquidated, "BeingLiquidated")
    metas = run.remaining()
    health = health_of(run, case.liqee, ScannedAccounts(run, case.group, metas))
    before = health.value(_END)
    run.check(not any(part.has_open_orders for part in health.markets), "HasOpenPerpOrders")
    units = _UNITS + _HEALTH_ACCOUNT_UNITS * len(metas)
    if not _is_liquidatable(run, case.liqee, health):
        return units
    price = market_price(run, case.market, case.oracle, fresh=False)
    _settle_funding(run, case)
    taken = _plan(run, case, health, before, most_base=max(most_base, I64_MIN + 1), most_pnl=from_int(most_pnl))
    _carry_out(run, case, health, taken, price)
    after = health.value(_END)
    recover(case.liqee, after)
    run.check(after >= before, "RequireGteViolated")
    run.log(f"liqee liq end health: {printed(before)} -> {printed(after)}")
    if not case.liqor.head.in_health_region:
        left = health_of(run, case.liqor, ScannedAccounts(run, case.group, metas)).value(HealthKind.INIT)
        run.check(left >= 0, "HealthMustBePositive")
    return units


def _is_liquidatable(run: Execution, liqee: MangoAccount, health: Health) -> bool:
    """Mark an account whose maintenance health is negative; one that is marked already stays so until it recovered."""
    if liqee.head.being_liquidated:
        if recover(liqee, health.value(_END)):
            run.log("Liqee init_health above zero")
            return False
        return True
    if health.value(HealthKind.MAINT) >= 0:
        run.log("Liqee is not liquidatable")
        return False
    liqee.head.being_liquidated = 1
    return True


def _settle_funding(run: Execution, case: _Case) -> None:
    market = case.market
    position = perp_position(run, case.liqee, market.perp_market_index)
    run.check(not position.has_open_taker_fills, "HasOpenPerpTakerFills")
    taker = ensure_perp_position(run, case.liqor, market.perp_market_index, market.settle_token_index)
    settle_funding(position, market)
    settle_funding(taker, market)
    update_settle_limit(position, market, run.now)


# How much is taken


class _Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one base lot nearer to zero does; I80F48, factors as fractions of the oracle's price.

    Attributes:
        direction: sign of what the liquidated account's base changes by.
        lots: base lots that it has, unsigned.
        lot_price: native quote a base lot.
        liqor_factor: what the liquidator pays, or is paid, of the price.
        liqee_factor: the same of the liquidated account, the platform's fee included.
        pnl_per_lot: by how much its weighed PnL grows a lot, before the overall weight.
    """

    direction: int
    lots: int
    lot_price: int
    liqor_factor: int
    liqee_factor: int
    pnl_per_lot: int


def _terms(run: Execution, market: PerpMarket, price: int, lots: int, most_base: int) -> _Terms:
    lot_price = mul(from_int(market.base_lot_size), price)
    if lots > 0:
        run.check(most_base >= 0, "SomeError")
        direction = -1
        liqor_factor = ONE - market.base_liquidation_fee
        liqee_factor = liqor_factor - market.platform_liquidation_fee
        pnl_per_lot = mul(lot_price, liqee_factor - market.init_base_asset_weight)
    else:
        run.check(most_base <= 0, "SomeError")
        direction = 1
        liqor_factor = ONE + market.base_liquidation_fee
        liqee_factor = liqor_factor + market.platform_liquidation_fee
        pnl_per_lot = mul(lot_price, market.init_base_liab_weight - liqee_factor)
    run.rely(pnl_per_lot > 0, "assertion failed: uhupnl_per_lot > 0")
    return _Terms(
        direction=direction,
        lots=abs(lots),
        lot_price=lot_price,
        liqor_factor=liqor_factor,
        liqee_factor=liqee_factor,
        pnl_per_lot=pnl_per_lot,
    )


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What the liquidator takes: base lots (as the liquidated account's change) and profit (native, I80F48)."""

    terms: _Terms
    base: int
    pnl: int


class _Projection:
    """The liquidated account's health as base is reduced and profit settled, before either is done.

    Attributes:
        pnl: the market's weighed PnL before the overall weight.
        balance: effective balance of the settlement token.
        health: at the end of a liquidation.
        reduced: base lots taken so far.
        settled: profit taken so far.
    """

    def __init__(self, token: TokenPart, terms: _Terms, *, most_base: int, most_pnl: int) -> None:
        self._token, self._terms = token, terms
        self._most_base, self._most_pnl = most_base, most_pnl
        self.pnl = self.balance = self.health = 0
        self.reduced = self.settled = 0

    def _wanted(self) -> int:
        """Return how much of the settlement token would bring health to zero."""
        token = self._token
        return amount_given_for_zero(self.health, self.balance, token.asset_price(_END), token.liab_price(_END))

    def _gain(self, amount: int) -> None:
        token, after = self._token, self.balance + amount
        self.health += token.value(_END, after) - token.value(_END, self.balance)
        self.balance = after

    def reduce(self, *, limit: int | None, expected: int, actual: int) -> None:
        """Take base lots until health is zero.

        Args:
            limit: the most settlement token to gain.
            expected: settlement token gained a lot, counting what settling it later brings.
            actual: settlement token gained a lot at once.
        """
        wanted = self._wanted()
        wanted = wanted if limit is None else min(wanted, limit)
        room = min(self._terms.lots, self._most_base) - self.reduced
        lots = max(min(ceil(div(wanted, expected)), room), 0)
        self._gain(actual * lots)
        self.pnl += self._terms.pnl_per_lot * lots
        self.reduced += lots

    def settle(self, gain: int) -> None:
        """Take profit until health is zero; `gain` is settlement token gained for each that is settled."""
        wanted = div(self._wanted(), gain)
        amount = max(min(wanted, self._most_pnl - self.settled, self.pnl), 0)
        self._gain(mul(amount, gain))
        self.pnl -= amount
        self.settled += amount


def _plan(run: Execution, case: _Case, health: Health, before: int, *, most_base: int, most_pnl: int) -> _Taken:
    """Return what is taken, at most so much base and profit."""
    market = case.market
    token, part = health.token(market.settle_token_index), health.market(market.perp_market_index)
    if token is None or part is None:
        raise run.panic("called `Option::unwrap()` on a `None` value")
    lots = perp_position(run, case.liqee, market.perp_market_index).base_position_lots
    terms = _terms(run, market, part.prices.oracle, lots, most_base)
    projection = _Projection(token, terms, most_base=abs(most_base), most_pnl=most_pnl)
    projection.pnl = part.unweighed(_END)
    projection.balance = health.balances(_END)[token.token_index]
    projection.health = before
    each, overall = terms.pnl_per_lot, market.init_overall_asset_weight
    paid = ONE - market.positive_pnl_liquidation_fee
    # A loss counts in full, so base helps by all that it brings; profit counts by the overall weight, or once settled.
    if projection.pnl < 0:
        projection.reduce(limit=-projection.pnl, expected=each, actual=each)
    if projection.pnl >= 0 and paid > overall:
        projection.settle(paid - overall)
    if projection.pnl >= 0 and projection.settled < most_pnl:
        projection.reduce(limit=most_pnl - projection.settled, expected=mul(each, paid), actual=mul(each, overall))
    if projection.pnl >= 0 and paid > overall:
        projection.settle(paid - overall)
    if projection.health < _NEARLY_RECOVERED and overall > 0:
        weighed = mul(each, overall)
        projection.reduce(limit=None, expected=weighed, actual=weighed)
    run.rely(projection.reduced <= terms.lots, "assertion failed: base_reduction <= liqee_base_lots.abs()")
    return _Taken(terms=terms, base=terms.direction * projection.reduced, pnl=projection.settled)


# Taking it


def _carry_out(run: Execution, case: _Case, health: Health, taken: _Taken, price: int) -> None:
    """Move base, profit and fees, and print what the program prints."""
    market, terms = case.market, taken.terms
    liqee = perp_position(run, case.liqee, market.perp_market_index)
    liqor = perp_position(run, case.liqor, market.perp_market_index)
    highest = settle_limit(liqee, market)[1]
    quote = -taken.base * terms.lot_price
    liqee_quote, liqor_quote = mul(quote, terms.liqee_factor), mul(-quote, terms.liqor_factor)
    if taken.base:
        run.log(f"transfering: {taken.base} base lots and {printed(liqee_quote)} quote")
        record_trade(liqee, market, taken.base, liqee_quote)
        record_trade(liqor, market, -taken.base, liqor_quote)
    fee = max(-liqor_quote - liqee_quote, 0)
    market.fees_accrued = add(market.fees_accrued, fee)
    market.accrued_liquidation_fees = add(market.accrued_liquidation_fees, fee)
    limits = (0, 0)
    if taken.pnl > 0:
        limits = _shared_limit(liqee, market, taken.pnl, highest=highest, price=price)
        record_pnl_takeover(liqor, taken.pnl, recurring=limits[0], oneshot=limits[1])
        record_settle(liqee, market, taken.pnl)
        _pay_for_pnl(run, case, health, taken.pnl)
    health.reprice(liqee, market)
    run.emit(perp_balance_log(case.group, case.liqor_key, liqor, market))
    run.emit(perp_balance_log(case.group, case.liqee_key, liqee, market))
    if taken.pnl:
        _emit_tokens(run, case, case.liqee_key, case.liqee)
        _emit_tokens(run, case, case.liqor_key, case.liqor)
    if taken.base or taken.pnl:
        run.emit(
            perp_liquidation_log(
                case.group,
                case.liqor_key,
                case.liqee_key,
                market_index=market.perp_market_index,
                base=taken.base,
                quotes=(liqee_quote, liqor_quote),
                fee=fee,
                pnl=taken.pnl,
                limits=limits,
                price=price,
            )
        )


def _shared_limit(liqee: PerpPosition, market: PerpMarket, pnl: int, *, highest: int, price: int) -> tuple[int, int]:
    """Return the parts of the settle limit that go with the profit: of every window, and once.

    More profit may be taken than the limit allows to settle; the liquidator then gets a part of the limit only.
    """
    once = max(ceil(liqee.oneshot_settle_pnl_allowance), 0)
    recurring = max(highest - once, 0)
    settled = floor(pnl)
    total = max(ceil(unsettled_pnl(liqee, market, price)), 1, settled)
    most = ceil(pnl)
    every_window = max(min(recurring * settled // total, most), 1)
    return every_window, max(min(once * settled // total, most - every_window), 0)


def _pay_for_pnl(run: Execution, case: _Case, health: Health, pnl: int) -> None:
    """Move what the liquidator pays for the profit from its deposit to the other's."""
    market, bank = case.market, case.bank
    paid = mul(pnl, ONE - market.positive_pnl_liquidation_fee)
    moved = round_to_zero(paid)
    for account, change in ((case.liqor, -moved), (case.liqee, moved)):
        perp_position(run, account, market.perp_market_index).perp_spot_transfers += change
        account.head.perp_spot_transfers += change
    deposit_tokens(run, bank, token_position(run, case.liqee, bank.token_index), paid)
    withdraw_tokens(run, bank, token_position(run, case.liqor, bank.token_index), paid, with_fee=False)
    part = health.token(bank.token_index)
    if part is not None:
        part.balance += paid


def _emit_tokens(run: Execution, case: _Case, key: Pubkey, account: MangoAccount) -> None:
    position = token_position(run, account, case.bank.token_index)
    indexes = {"deposit_index": case.bank.deposit_index, "borrow_index": case.bank.borrow_index}
    run.emit(token_balance_log(case.group, key, position, **indexes))
