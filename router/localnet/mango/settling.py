"""Settling: profit of one account's position becomes its deposit, out of the deposit of an account with a loss."""

from __future__ import annotations

import msgspec
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount, TokenPosition
from router.localnet.mango.banks import bank_price, deposit_tokens, withdraw_tokens
from router.localnet.mango.enums import FREE_SLOT, IxGate
from router.localnet.mango.events import (
    deactivate_token_position_log,
    perp_balance_log,
    perp_settle_pnl_log,
    token_balance_log,
)
from router.localnet.mango.execution import Execution
from router.localnet.mango.health import Health, HealthKind, health_of
from router.localnet.mango.health_accounts import ScannedAccounts, market_price
from router.localnet.mango.layouts import Bank, Group, PerpMarket
from router.localnet.mango.numbers import add, div, from_float, mul, round_to_zero
from router.localnet.mango.positions import (
    base_native,
    bound_to_settle_limit,
    ensure_token_position,
    is_delegate,
    is_operational,
    perp_position,
    record_settle,
    settle_funding,
    token_position,
    unsettled_pnl,
    update_settle_limit,
)

__all__ = ["settle_pnl"]

_UNITS = 130_000
_WORTHWHILE = 100
"""A settler is paid where the profit is more than one part in so many of the position's value."""


class _Settling(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of the instruction; the settler may be one of the two."""

    group: Pubkey
    settler_key: Pubkey
    settler: MangoAccount
    settler_owner: Pubkey
    market: PerpMarket
    winner_key: Pubkey
    winner: MangoAccount
    loser_key: Pubkey
    loser: MangoAccount
    oracle: Pubkey
    bank: Bank
    bank_oracle: Pubkey


def _check_party(run: Execution, meta: AccountMeta, account: MangoAccount, group: Pubkey, name: str) -> None:
    run.check_writable(meta, name)
    run.check_same(account.head.group, group, name)
    run.check(is_operational(account, run.now), "AccountIsFrozen", name)


def _take_settling(run: Execution) -> _Settling:
    group_meta, group = run.take_account(Group, "group")
    settler_meta, settler = run.take_account(MangoAccount, "settler")
    owner = run.signer("settler_owner").pubkey
    _, market = run.take_account(PerpMarket, "perp_market")
    winner_meta, winner = run.take_account(MangoAccount, "account_a")
    loser_meta, loser = run.take_account(MangoAccount, "account_b")
    oracle = run.take().pubkey
    bank_meta, bank = run.take_account(Bank, "settle_bank")
    bank_oracle = run.take().pubkey
    key = group_meta.pubkey
    run.check_gate(group, IxGate.PERP_SETTLE_PNL)
    _check_party(run, settler_meta, settler, key, "settler")
    run.check_same(market.group, key, "perp_market")
    run.check_same(market.oracle, oracle, "perp_market")
    _check_party(run, winner_meta, winner, key, "account_a")
    _check_party(run, loser_meta, loser, key, "account_b")
    run.check_writable(bank_meta, "settle_bank")
    run.check_same(bank.group, key, "settle_bank")
    run.check(bank.oracle == bank_oracle, "ConstraintAddress", "settle_oracle")
    return _Settling(
        group=key,
        settler_key=settler_meta.pubkey,
        settler=settler,
        settler_owner=owner,
        market=market,
        winner_key=winner_meta.pubkey,
        winner=winner,
        loser_key=loser_meta.pubkey,
        loser=loser,
        oracle=oracle,
        bank=bank,
        bank_oracle=bank_oracle,
    )


def settle_pnl(run: Execution) -> int:
    """Run `perpSettlePnl`: the first account has to have a profit, the second a loss; both within their limits."""
    case = _take_settling(run)
    market, bank = case.market, case.bank
    run.check(case.winner_key != case.loser_key, "CannotSettleWithSelf")
    for account in (case.winner, case.loser):
        perp_position(run, account, market.perp_market_index)
        token_position(run, account, market.settle_token_index)
    accounts = ScannedAccounts(run, case.group, run.remaining())
    covered = health_of(run, case.loser, accounts).max_settle(market.settle_token_index)
    health = health_of(run, case.winner, accounts)
    run.check(bank.token_index == market.settle_token_index, "InvalidBank")
    price = market_price(run, market, case.oracle, fresh=False)
    token_price = bank_price(run, bank, case.bank_oracle, fresh=False)
    profit, settlement = _settlement(run, case, price, 0 if covered is None else covered)
    position = perp_position(run, case.winner, market.perp_market_index)
    fee = _fee(
        run,
        market,
        settlement,
        profit=mul(profit, token_price),
        position=mul(abs(base_native(position, market)), price),
        health=health,
    )
    _move_tokens(run, case, settlement, fee)
    run.emit(
        perp_settle_pnl_log(
            case.group,
            case.winner_key,
            case.loser_key,
            case.settler_key,
            market_index=market.perp_market_index,
            settlement=settlement,
            fee=fee,
        )
    )
    return _UNITS


def _settlement(run: Execution, case: _Settling, price: int, covered: int) -> tuple[int, int]:
    """Take the settled part out of both positions; return the winner's whole profit and that part (I80F48)."""
    market = case.market
    winner = perp_position(run, case.winner, market.perp_market_index)
    loser = perp_position(run, case.loser, market.perp_market_index)
    settle_funding(winner, market)
    settle_funding(loser, market)
    profit, loss = unsettled_pnl(winner, market, price), unsettled_pnl(loser, market, price)
    run.check(profit > 0, "ProfitabilityMismatch")
    run.check(loss < 0, "ProfitabilityMismatch")
    update_settle_limit(winner, market, run.now)
    settled_profit = bound_to_settle_limit(winner, market, profit)
    update_settle_limit(loser, market, run.now)
    settled_loss = bound_to_settle_limit(loser, market, loss)
    run.check(settled_profit > 0, "ProfitabilityMismatch")
    run.check(settled_loss < 0, "ProfitabilityMismatch")
    run.check(covered > 0, "HealthMustBePositive")
    settlement = min(settled_profit, -settled_loss, covered)
    record_settle(winner, market, settlement)
    record_settle(loser, market, -settlement)
    run.emit(perp_balance_log(case.group, case.winner_key, winner, market))
    run.emit(perp_balance_log(case.group, case.loser_key, loser, market))
    return profit, settlement


def _fee(run: Execution, market: PerpMarket, settlement: int, *, profit: int, position: int, health: Health) -> int:
    """Return what the settler is paid: a flat fee for much, or a part where the winner's health was low."""
    if profit * _WORTHWHILE <= position:
        return 0
    end, maint = health.value(HealthKind.LIQUIDATION_END), health.value(HealthKind.MAINT)
    run.rely(maint >= end, "assertion failed: source_maint_health >= source_liq_end_health")
    flat = from_float(market.settle_fee_flat)
    if settlement >= from_float(market.settle_fee_amount_threshold):
        fee = flat
    elif end < 0:
        part = mul(settlement, from_float(market.settle_fee_fraction_low_health))
        part = part if maint < 0 else mul(part, div(-end, maint - end))
        fee = min(part, 2 * flat)
    else:
        fee = 0
    fee = min(fee, settlement)
    run.check(fee >= 0, "SettlementAmountMustBePositive")
    return fee


def _move_tokens(run: Execution, case: _Settling, settlement: int, fee: int) -> None:
    """Move the settlement from the loser's deposit to the winner's, and the fee out of it to the settler's."""
    market, bank = case.market, case.bank
    moved, kept = round_to_zero(settlement), round_to_zero(fee)
    for account, change in ((case.winner, moved - kept), (case.loser, -moved)):
        perp_position(run, account, market.perp_market_index).perp_spot_transfers += change
        account.head.perp_spot_transfers += change
    winner = token_position(run, case.winner, bank.token_index)
    loser = token_position(run, case.loser, bank.token_index)
    deposit_tokens(run, bank, winner, add(settlement, -fee))
    withdraw_tokens(run, bank, loser, settlement, with_fee=False)
    _emit_balance(run, case, case.winner_key, winner)
    _emit_balance(run, case, case.loser_key, loser)
    allowed = case.settler.head.owner == case.settler_owner or is_delegate(case.settler, case.settler_owner, run.now)
    run.check(allowed, "SomeError")
    settler = ensure_token_position(run, case.settler, bank.token_index)
    is_active = deposit_tokens(run, bank, settler, fee)
    _emit_balance(run, case, case.settler_key, settler)
    if not is_active:
        run.rely(settler.in_use_count == 0, "assertion failed: token_position.in_use_count == 0")
        run.emit(deactivate_token_position_log(case.group, case.settler_key, settler))
        settler.token_index = FREE_SLOT


def _emit_balance(run: Execution, case: _Settling, key: Pubkey, position: TokenPosition) -> None:
    indexes = {"deposit_index": case.bank.deposit_index, "borrow_index": case.bank.borrow_index}
    run.emit(token_balance_log(case.group, key, position, **indexes))
