"""A bank's arithmetic: positions against its indexes, its weights, its limits."""

from __future__ import annotations

from typing import Literal

import msgspec
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import TokenPosition
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import Bank
from router.localnet.mango.numbers import (
    ONE,
    add,
    ceil,
    div,
    from_float,
    from_int,
    mul,
    saturated_i64,
    to_float,
)
from router.localnet.mango.oracles import check_confidence, check_staleness, oracle_state

__all__ = [
    "Withdrawal",
    "bank_price",
    "check_borrow_limits",
    "check_deposit_limit",
    "check_no_excess_borrows",
    "deposit_tokens",
    "maint_weights",
    "native_balance",
    "scaled_init_asset_weight",
    "scaled_init_liab_weight",
    "stable_price",
    "withdraw_tokens",
]

_F64_MAX = 1.7976931348623157e308
_I80F48_MAX = (1 << 127) - 1


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a withdrawal; fee and loan in native units (I80F48)."""

    is_active: bool
    fee: int = 0
    loan: int = 0


def native_balance(bank: Bank, position: TokenPosition) -> int:
    """Return a position in native units (I80F48); negative for a borrow."""
    index = bank.deposit_index if position.indexed_position > 0 else bank.borrow_index
    return mul(position.indexed_position, index)


def stable_price(bank: Bank) -> int:
    """Return the slow price, native quote a native unit (I80F48)."""
    return from_float(bank.stable_price_model.stable_price)


def bank_price(run: Execution, bank: Bank, oracle: Pubkey, *, fresh: bool = True) -> int:
    """Return the oracle's price (I80F48) once it is the bank's own oracle and good enough; its age only if `fresh`."""
    run.check(bank.oracle == oracle, "RequireKeysEqViolated")
    state = oracle_state(run, oracle, bank.mint_decimals)
    if fresh:
        check_staleness(run, state, bank.oracle_config)
    check_confidence(run, state, bank.oracle_config)
    return state.price


def _native_deposits(bank: Bank) -> int:
    return mul(bank.deposit_index, bank.indexed_deposits)


def _native_borrows(bank: Bank) -> int:
    return mul(bank.borrow_index, bank.indexed_borrows)


# Weights


def maint_weights(bank: Bank, now: int) -> tuple[int, int]:
    """Return the maintenance weights of assets and liabilities, within a shift to others where one is configured."""
    asset, liab = bank.maint_asset_weight, bank.maint_liab_weight
    if bank.maint_weight_shift_duration_inv == 0 or now <= bank.maint_weight_shift_start:
        return asset, liab
    target_asset, target_liab = bank.maint_weight_shift_asset_target, bank.maint_weight_shift_liab_target
    if now >= bank.maint_weight_shift_end:
        return target_asset, target_liab
    scale = mul(from_int(now - bank.maint_weight_shift_start), bank.maint_weight_shift_duration_inv)
    return add(asset, mul(scale, target_asset - asset)), add(liab, mul(scale, target_liab - liab))


def scaled_init_asset_weight(bank: Bank, price: int) -> int:
    """Return the initial asset weight, lowered when all deposits together are worth more than the bank's soft limit."""
    start = bank.deposit_weight_scale_start_quote
    if start == _F64_MAX:
        return bank.init_asset_weight
    quote = (to_float(_native_deposits(bank)) + float(bank.potential_serum_tokens)) * to_float(price)
    return bank.init_asset_weight if quote <= start else mul(bank.init_asset_weight, from_float(start / quote))


def scaled_init_liab_weight(bank: Bank, price: int) -> int:
    """Return the initial liability weight, raised when all borrows are worth more than the bank's soft limit."""
    start = bank.borrow_weight_scale_start_quote
    if start == _F64_MAX:
        return bank.init_liab_weight
    quote = to_float(_native_borrows(bank)) * to_float(price)
    if quote <= start:
        return bank.init_liab_weight
    return _I80F48_MAX if start == 0.0 else mul(bank.init_liab_weight, from_float(quote / start))


# Deposits and withdrawals


def _indexed_up(native: int, index: int) -> int:
    """Return a native amount by the index, so that it is worth no less than before."""
    indexed = div(native, index)
    return indexed + 1 if mul(indexed, index) < native else indexed


def _accrue(bank: Bank, position: TokenPosition, opening: int) -> None:
    """Note for display what the index has brought since the last change, and where it stands."""
    if opening > 0:
        interest = mul(bank.deposit_index - position.previous_index, opening)
        position.cumulative_deposit_interest += to_float(interest)
    else:
        interest = mul(bank.borrow_index - position.previous_index, opening)
        position.cumulative_borrow_interest -= to_float(interest)
    position.previous_index = bank.deposit_index if position.indexed_position > 0 else bank.borrow_index


def deposit_tokens(run: Execution, bank: Bank, position: TokenPosition, native: int) -> bool:
    """Add a native amount (I80F48) to a position; false when less than one unit was left, and written off."""
    run.check(native >= 0, "RequireGteViolated")
    opening = position.indexed_position
    is_active = _deposit(bank, position, native, run.now)
    _accrue(bank, position, opening)
    return is_active


def _deposit(bank: Bank, position: TokenPosition, native: int, now: int) -> bool:
    held = native_balance(bank, position)
    if held < 0:
        _count_borrows(bank, max(held, -native), now)
        after = held + native
        change = _indexed_up(native, bank.borrow_index)
        indexed = position.indexed_position + change
        if indexed < 0:
            bank.indexed_borrows -= change
            position.indexed_position = indexed
            return True
        bank.indexed_borrows += position.indexed_position
        position.indexed_position = 0
        if after < ONE and position.in_use_count == 0:
            bank.dust += after
            return False
        native = max(after, 0)
    change = _indexed_up(native, bank.deposit_index)
    bank.indexed_deposits += change
    position.indexed_position += change
    return True


def withdraw_tokens(run: Execution, bank: Bank, position: TokenPosition, native: int, *, with_fee: bool) -> Withdrawal:
    """Take a native amount (I80F48) out of a position; what it does not hold is borrowed, at a fee if `with_fee`."""
    run.check(native >= 0, "RequireGteViolated")
    opening = position.indexed_position
    done = _withdraw(bank, position, native, run.now, with_fee=with_fee)
    _accrue(bank, position, opening)
    return done


def _withdraw(bank: Bank, position: TokenPosition, native: int, now: int, *, with_fee: bool) -> Withdrawal:
    held = native_balance(bank, position)
    if held >= 0:
        after = held - native
        if after >= 0:
            if after < ONE and position.in_use_count == 0:
                bank.dust += after
                bank.indexed_deposits -= position.indexed_position
                position.indexed_position = 0
                return Withdrawal(is_active=False)
            change = div(native, bank.deposit_index)
            bank.indexed_deposits -= change
            position.indexed_position -= change
            return Withdrawal(is_active=True)
        bank.indexed_deposits -= position.indexed_position
        position.indexed_position = 0
        native = -after
    fee = mul(bank.loan_origination_fee_rate, native) if with_fee else 0
    bank.collected_fees_native += fee
    native += fee
    change = div(native, bank.borrow_index)
    bank.indexed_borrows += change
    position.indexed_position -= change
    _count_borrows(bank, native, now)
    return Withdrawal(is_active=True, fee=fee, loan=native)


# Limits


def _count_borrows(bank: Bank, native: int, now: int) -> None:
    amount = saturated_i64(ceil(native))
    window = bank.net_borrow_limit_window_size_ts
    if now >= bank.last_net_borrows_window_start_ts + window:
        bank.last_net_borrows_window_start_ts = now // window * window
        bank.net_borrows_in_window = amount
    else:
        bank.net_borrows_in_window += amount


def _check_utilization(run: Execution, bank: Bank, most: int) -> None:
    run.check(_native_borrows(bank) <= mul(most, _native_deposits(bank)), "BankBorrowLimitReached")


def check_no_excess_borrows(run: Execution, bank: Bank) -> None:
    """Refuse when more is borrowed than deposited."""
    _check_utilization(run, bank, ONE)


def check_borrow_limits(run: Execution, bank: Bank, price: int, step: Literal["utilization", "net"]) -> None:
    """Refuse a borrow that leaves too little in the vault, or, as another step, exceeds the window's net borrows."""
    if step == "utilization":
        _check_utilization(run, bank, ONE - from_float(bank.min_vault_to_deposits_ratio))
        return
    borrowed, limit = bank.net_borrows_in_window, bank.net_borrow_limit_per_window_quote
    if borrowed < 0 or limit < 0:
        return
    quote = max(price, stable_price(bank)) * borrowed
    run.check(from_int(limit) >= quote, "BankNetBorrowsLimitReached")


def check_deposit_limit(run: Execution, bank: Bank) -> None:
    """Refuse when all deposits together exceed the bank's limit, where it has one."""
    if bank.deposit_limit:
        held = _native_deposits(bank) + from_int(bank.potential_serum_tokens)
        run.check(held <= from_int(bank.deposit_limit), "BankDepositLimit")
