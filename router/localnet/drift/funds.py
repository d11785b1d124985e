"""Setting up an account, deposit and withdrawal."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey
from solders.system_program import (
    AllocateParams,
    AssignParams,
    CreateAccountParams,
    TransferParams,
    allocate,
    assign,
    create_account,
    transfer,
)

from router.localnet.codec import Layout
from router.localnet.drift.addresses import spot_vault_address, user_address, user_stats_address
from router.localnet.drift.enums import BalanceType, ExchangeStatus, MarketStatus, UserStatus
from router.localnet.drift.events import deposit_record, new_user_record
from router.localnet.drift.execution import Execution
from router.localnet.drift.handlers import check_not_paused, may_sign, take_state
from router.localnet.drift.layouts import SpotPosition, State, User, UserStats
from router.localnet.drift.maps import Maps, load_maps
from router.localnet.drift.margin import MarginKind, account_margin, check_withdraw_margin
from router.localnet.drift.market_layouts import SpotMarket
from router.localnet.drift.numbers import U64_MAX
from router.localnet.drift.orders import touch
from router.localnet.drift.spot import (
    accrue_interest,
    change_balance,
    check_vault,
    check_withdraw_limits,
    signed_tokens,
    token_amount,
)
from router.localnet.spl import (
    RENT_SYSVAR,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    rent_exempt,
    token_mint,
    token_owner,
    transfer_tokens,
)
from router.localnet.spl import token_amount as wallet_amount

__all__ = ["deposit", "initialize_user", "initialize_user_stats", "withdraw"]

_DISCRIMINATOR = 8
_DEPOSIT_ARGUMENTS = struct.Struct("<HQ?")
_USER_ARGUMENTS = struct.Struct("<H32s")
_TOKEN_ACCOUNT_SIZE = 165
_PLAIN_CAP = 5
_BORROW, _REPAY = 2, 3
"""Why tokens moved, in the event: a borrow taken, a borrow paid back."""


def _take_rent_and_system(run: Execution) -> None:
    if run.take().pubkey != RENT_SYSVAR:
        raise run.refuse("AccountSysvarMismatch", "rent")
    if run.take().pubkey != SYSTEM_PROGRAM:
        raise run.refuse("InvalidProgramId", "system_program")


def _make_account(run: Execution, meta: AccountMeta, payer: Pubkey, address: Pubkey, layout: type[Layout]) -> bool:
    """Add the instructions that make an account of the program at its address; false when they are bound to fail."""
    if meta.pubkey != address:
        raise run.refuse("ConstraintSeeds", layout.__name__)
    space = _DISCRIMINATOR + layout.size()
    lamports, target, owner = rent_exempt(space), meta.pubkey, run.program_id
    existing = run.read(target)
    if existing is None:
        run.instructions.append(
            create_account(
                CreateAccountParams(from_pubkey=payer, to_pubkey=target, lamports=lamports, space=space, owner=owner)
            )
        )
        return True
    if existing.lamports < lamports:
        missing = lamports - existing.lamports
        run.instructions.append(transfer(TransferParams(from_pubkey=payer, to_pubkey=target, lamports=missing)))
    run.instructions.append(allocate(AllocateParams(pubkey=target, space=space)))
    run.instructions.append(assign(AssignParams(pubkey=target, owner=owner)))
    return existing.owner == SYSTEM_PROGRAM and not existing.data


def _most_users(state: State) -> int:
    """Return the cap; the field counts in hundreds beyond a few."""
    cap = state.max_number_of_sub_accounts
    return cap if cap <= _PLAIN_CAP else cap * 100


def initialize_user_stats(run: Execution) -> int:
    """Make the account that all sub-accounts of an authority share."""
    meta = run.take()
    state_meta, state = run.take_account(State, "state", boxed=True)
    authority = run.signer("authority")
    payer = run.signer("payer", writable=True)
    _take_rent_and_system(run)
    run.check_writable(state_meta, "state")
    if not _make_account(run, meta, payer, user_stats_address(run.program_id, authority), UserStats):
        return 10_000
    stats = UserStats.zero()
    stats.authority = authority
    stats.last_taker_volume_30d_ts = stats.last_maker_volume_30d_ts = stats.last_filler_volume_30d_ts = run.now
    run.create(meta.pubkey, stats)
    state.number_of_authorities += 1
    most = _most_users(state)
    run.check(most == 0 or state.number_of_authorities <= most, "MaxNumberOfUsers")
    return 20_000


def initialize_user(run: Execution) -> int:
    """Make a sub-account."""
    sub_account_id, name = _USER_ARGUMENTS.unpack_from(run.call.data, _DISCRIMINATOR)
    meta = run.take()
    stats_meta, stats = run.take_account(UserStats, "user_stats")
    state_meta, state = run.take_account(State, "state", boxed=True)
    authority = run.signer("authority")
    payer = run.signer("payer", writable=True)
    _take_rent_and_system(run)
    fresh = _make_account(run, meta, payer, user_address(run.program_id, authority, sub_account_id), User)
    if not fresh:
        return 10_000
    run.check_writable(stats_meta, "user_stats")
    if stats.authority != authority:
        raise run.refuse("ConstraintHasOne", "user_stats")
    run.check_writable(state_meta, "state")
    user = User.zero()
    user.authority, user.sub_account_id, user.name = authority, sub_account_id, name
    user.next_order_id = user.next_liquidation_id = 1
    run.create(meta.pubkey, user)
    stats.number_of_sub_accounts += 1
    run.check(sub_account_id == stats.number_of_sub_accounts_created, "InvalidUserSubAccountId")
    stats.number_of_sub_accounts_created += 1
    state.number_of_sub_accounts += 1
    most = _most_users(state)
    run.check(most == 0 or state.number_of_sub_accounts <= most, "MaxNumberOfUsers")
    run.emit(new_user_record(run.now, meta.pubkey, user, stats.referrer))
    fee = _opening_fee(state)
    if fee > 0:
        funds = run.read(payer)
        run.check(funds is not None and funds.lamports >= fee, "CantPayUserInitFee")
        run.instructions.append(transfer(TransferParams(from_pubkey=payer, to_pubkey=meta.pubkey, lamports=fee)))
    return 30_000


def _opening_fee(state: State) -> int:
    """Return the lamports that a new account costs when the exchange is more than 80 % full."""
    full = state.number_of_sub_accounts * 10**6 // max(_most_users(state), 1)
    target = 800_000
    most = state.max_initialize_user_fee * 10**9 // 100
    return most * (full - target) // (10**6 - target) if full > target else 0


class _Purse(msgspec.Struct, frozen=True, kw_only=True):
    """The token side of a deposit or withdrawal: vault and wallet, and (for a withdrawal) the vaults' owner."""

    vault: AccountMeta
    wallet: AccountMeta
    signer: Pubkey | None
    vault_data: bytes
    wallet_data: bytes

    def check(self, run: Execution, market_index: int, *, state: State, authority: Pubkey) -> None:
        """Refuse a vault or a wallet that is not the right one."""
        if self.vault.pubkey != spot_vault_address(run.program_id, market_index):
            raise run.refuse("ConstraintSeeds", "spot_market_vault")
        run.check_writable(self.vault, "spot_market_vault")
        if self.signer is not None and self.signer != state.signer:
            raise run.refuse("ConstraintRaw", "drift_signer")
        run.check_writable(self.wallet, "user_token_account")
        if token_mint(self.vault_data) != token_mint(self.wallet_data):
            raise run.refuse("ConstraintRaw", "user_token_account")
        if self.signer is None and token_owner(self.wallet_data) != authority:
            raise run.refuse("ConstraintTokenOwner", "user_token_account")


def _take_tokens(run: Execution, *, with_signer: bool) -> _Purse:
    """Take vault and wallet, and the token program behind them."""
    vault = run.take()
    vault_data = _token_data(run, vault.pubkey, "spot_market_vault")
    signer = run.take().pubkey if with_signer else None
    wallet = run.take()
    wallet_data = _token_data(run, wallet.pubkey, "user_token_account")
    if run.take().pubkey != TOKEN_PROGRAM:
        raise run.refuse("InvalidProgramId", "token_program")
    return _Purse(vault=vault, wallet=wallet, signer=signer, vault_data=vault_data, wallet_data=wallet_data)


def _token_data(run: Execution, key: Pubkey, name: str) -> bytes:
    account = run.read(key)
    if account is None:
        raise run.refuse("AccountNotInitialized", name)
    if account.owner != TOKEN_PROGRAM or len(account.data) < _TOKEN_ACCOUNT_SIZE:
        raise run.refuse("AccountOwnedByWrongProgram", name)
    return bytes(account.data)


def _spot_position(run: Execution, user: User, market_index: int) -> SpotPosition:
    """Return the user's place for a token: the first for USDC, another free one for the rest."""
    if market_index == 0:
        return user.spot_positions[0]
    others: Sequence[SpotPosition] = user.spot_positions[1:]
    for position in others:
        if position.market_index == market_index:
            return position
    for position in others:
        if position.scaled_balance == 0 and position.open_orders == 0:
            fresh = SpotPosition.zero()
            fresh.market_index = market_index
            position.copy_from(fresh)
            return position
    raise run.refuse("NoSpotPositionAvailable")


def _take_user(run: Execution) -> tuple[State, AccountMeta, User, Pubkey, tuple[AccountMeta, UserStats]]:
    state = take_state(run)
    meta, user = run.take_account(User, "user")
    stats = run.take_account(UserStats, "user_stats")
    return state, meta, user, run.signer("authority"), stats


def _value(amount: int, price: int, market: SpotMarket) -> int:
    return int(amount * price // 10**market.decimals)


def deposit(run: Execution) -> int:
    """Move tokens from the wallet into the account; it pays back a borrow first."""
    market_index, amount, reduce_only = _DEPOSIT_ARGUMENTS.unpack_from(run.call.data, _DISCRIMINATOR)
    state, meta, user, authority, (stats_meta, stats) = _take_user(run)
    purse = _take_tokens(run, with_signer=False)
    run.check_writable(meta, "user")
    if not may_sign(user, authority):
        raise run.refuse("ConstraintRaw", "user")
    run.check_writable(stats_meta, "user_stats")
    if stats.authority != user.authority:
        raise run.refuse("ConstraintRaw", "user_stats")
    purse.check(run, market_index, state=state, authority=authority)
    check_not_paused(run, state, ExchangeStatus.DEPOSIT)
    maps = load_maps(run, state, writable_spot=(market_index,))
    run.check(amount != 0, "InsufficientDeposit")
    run.check(not user.status & UserStatus.BANKRUPT, "UserBankrupt")
    market = maps.spot_market(market_index)
    quote = maps.price(market.oracle)
    run.check(market.status != MarketStatus.INITIALIZED, "MarketBeingInitialized")
    accrue_interest(run, market, quote)
    position = _spot_position(run, user, market_index)
    borrowed = position.scaled_balance > 0 and position.balance_type == BalanceType.BORROW
    if (reduce_only or market.status == MarketStatus.REDUCE_ONLY) and position.balance_type == BalanceType.BORROW:
        amount = min(amount, token_amount(market, position.scaled_balance, position.balance_type))
    user.total_deposits = min(user.total_deposits + _value(amount, quote.price, market), U64_MAX)
    change_balance(run, market, position, amount, BalanceType.DEPOSIT)
    position.cumulative_deposits += amount
    if position.balance_type == BalanceType.DEPOSIT and position.scaled_balance > 0:
        run.check(market.status == MarketStatus.ACTIVE, "MarketActionPaused")
    _leave_liquidation(maps, user)
    touch(user, run.slot)
    run.instructions.append(transfer_tokens(purse.wallet.pubkey, purse.vault.pubkey, authority, amount))
    record_id = market.next_deposit_record_id
    market.next_deposit_record_id += 1
    run.emit(
        deposit_record(
            run.now,
            meta.pubkey,
            user,
            market,
            withdraw=False,
            record_id=record_id,
            amount=amount,
            oracle_price=quote.price,
            explanation=_REPAY if borrowed else 0,
        )
    )
    if wallet_amount(purse.wallet_data) >= amount:
        # With too little in the wallet the token program refuses before the cap is looked at.
        held = token_amount(market, market.deposit_balance, BalanceType.DEPOSIT)
        run.check(market.max_token_deposits == 0 or held <= market.max_token_deposits, "MaxDeposit")
    return 45_000


def _leave_liquidation(maps: Maps, user: User) -> None:
    if user.status & UserStatus.BEING_LIQUIDATED:
        buffer = maps.state.liquidation_margin_buffer_ratio
        margin = account_margin(user, maps, MarginKind.MAINTENANCE, buffer=buffer)
        if margin.collateral >= margin.buffered:
            user.status &= ~(UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT)
            user.liquidation_margin_freed = 0


def withdraw(run: Execution) -> int:
    """Move tokens from the account into the wallet, as far as the initial margin allows."""
    market_index, amount, reduce_only = _DEPOSIT_ARGUMENTS.unpack_from(run.call.data, _DISCRIMINATOR)
    state, meta, user, authority, (stats_meta, stats) = _take_user(run)
    purse = _take_tokens(run, with_signer=True)
    for account, name, owner in ((meta, "user", user.authority), (stats_meta, "user_stats", stats.authority)):
        run.check_writable(account, name)
        if owner != authority:
            raise run.refuse("ConstraintHasOne", name)
    purse.check(run, market_index, state=state, authority=authority)
    check_not_paused(run, state, ExchangeStatus.WITHDRAW)
    maps = load_maps(run, state, writable_spot=(market_index,))
    run.check(not user.status & UserStatus.BANKRUPT, "UserBankrupt")
    market = maps.spot_market(market_index)
    quote = maps.price(market.oracle)
    accrue_interest(run, market, quote)
    position = _spot_position(run, user, market_index)
    if reduce_only or market.status == MarketStatus.REDUCE_ONLY:
        run.check(position.balance_type == BalanceType.DEPOSIT, "ReduceOnlyWithdrawIncreasedRisk")
        amount = min(amount, _free_tokens(maps, user, market, position))
    user.total_withdraws = min(user.total_withdraws + _value(amount, quote.price, market), U64_MAX)
    change_balance(run, market, position, amount, BalanceType.BORROW, leaves=True)
    position.cumulative_deposits -= amount
    check_withdraw_limits(run, market, user, amount)
    open_status = {MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY, MarketStatus.SETTLEMENT}
    run.check(market.status in open_status and not market.paused_operations & 4, "MarketWithdrawPaused")
    check_withdraw_margin(user, maps)
    if user.status & UserStatus.BEING_LIQUIDATED:
        user.status &= ~(UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT)
        user.liquidation_margin_freed = 0
    touch(user, run.slot)
    borrows = position.scaled_balance > 0 and position.balance_type == BalanceType.BORROW
    record_id = market.next_deposit_record_id
    market.next_deposit_record_id += 1
    run.emit(
        deposit_record(
            run.now,
            meta.pubkey,
            user,
            market,
            withdraw=True,
            record_id=record_id,
            amount=amount,
            oracle_price=quote.price,
            explanation=_BORROW if borrows else 0,
        )
    )
    run.instructions.append(transfer_tokens(purse.vault.pubkey, purse.wallet.pubkey, state.signer, amount))
    check_vault(run, market, wallet_amount(purse.vault_data) - amount)
    return 60_000


def _free_tokens(maps: Maps, user: User, market: SpotMarket, position: SpotPosition) -> int:
    """Return what can be taken out without a borrow and without breaking the initial margin."""
    held = signed_tokens(market, position)
    margin = account_margin(user, maps, MarginKind.INITIAL)
    if margin.perp_liabilities + margin.spot_liabilities == 0:
        return held
    free = max(margin.collateral - margin.requirement, 0)
    return min(held, free * 10**6 // maps.price(market.oracle).price)
