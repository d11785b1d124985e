"""Setting up an account, making it wider, closing it; deposit and withdrawal."""

from __future__ import annotations

import struct

import msgspec
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer

from router.localnet.anchor import event_discriminator
from router.localnet.mango.account_layouts import AccountHead, MangoAccount, TokenPosition
from router.localnet.mango.addresses import mango_account_address
from router.localnet.mango.banks import (
    bank_price,
    check_borrow_limits,
    check_deposit_limit,
    check_no_excess_borrows,
    deposit_tokens,
    native_balance,
    withdraw_tokens,
)
from router.localnet.mango.enums import FREE_SLOT, IxGate
from router.localnet.mango.events import deactivate_token_position_log, token_balance_log, wide
from router.localnet.mango.execution import Execution
from router.localnet.mango.health import HealthKind, check_after, check_before, fixed_health, recover
from router.localnet.mango.layouts import Bank, Group
from router.localnet.mango.numbers import U64_MAX, ceil, floor, from_int, mul
from router.localnet.mango.oracles import check_confidence, check_staleness, oracle_state
from router.localnet.mango.positions import ensure_token_position, is_delegate, is_operational
from router.localnet.spl import (
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    associated_token_account,
    rent_exempt,
    token_amount,
    token_owner,
    transfer_tokens,
)

__all__ = [
    "account_close",
    "account_create",
    "account_create_v2",
    "account_expand_v2",
    "deposit",
    "token_data",
    "withdraw",
]

_NAME_BYTES = 32
_MOST_HEALTH_ACCOUNTS = 28
_MOST_ORDERS = 64
_CLOSE_GATE = 0
_TOKEN_WITHDRAW_LOAN = 6


class _Counts(msgspec.Struct, frozen=True):
    """How many slots of each kind."""

    tokens: int
    serum3: int
    perps: int
    perp_open_orders: int
    token_conditional_swaps: int

    @property
    def health_accounts(self) -> int:
        """How many accounts health may need."""
        return 2 * self.tokens + self.serum3 + 2 * self.perps

    @property
    def space(self) -> int:
        """The width of the account."""
        return MangoAccount.space(**msgspec.structs.asdict(self))

    def check(self, run: Execution, before: _Counts) -> None:
        """Refuse more than an account may have, unless it had as many."""
        grows = self.health_accounts > before.health_accounts
        run.check(not grows or self.health_accounts <= _MOST_HEALTH_ACCOUNTS, "RequireGteViolated")
        for now, then in (
            (self.perp_open_orders, before.perp_open_orders),
            (self.token_conditional_swaps, before.token_conditional_swaps),
        ):
            run.check(now <= then or now <= _MOST_ORDERS, "RequireGteViolated")


def _unpack(run: Execution, letters: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from("<" + letters, run.args)
    except struct.error as error:
        raise run.refuse("InstructionDidNotDeserialize") from error


def _take_system(run: Execution) -> None:
    if run.take().pubkey != SYSTEM_PROGRAM:
        raise run.refuse("InvalidProgramId", "system_program")


# Accounts


def account_create(run: Execution) -> int:
    """Run `accountCreate`: an account without slots for conditional swaps."""
    return _create(run, counts=4)


def account_create_v2(run: Execution) -> int:
    """Run `accountCreateV2`."""
    return _create(run, counts=5)


def _create(run: Execution, *, counts: int) -> int:
    account_num, *slots, length = _unpack(run, f"I{counts}BI")
    name = run.args[8 + counts : 8 + counts + length]
    run.check(len(name) == length, "InstructionDidNotDeserialize")
    group_meta, group = run.take_account(Group, "group")
    meta = run.take()
    owner, payer = run.signer("owner"), run.signer("payer")
    _take_system(run)
    address, bump = mango_account_address(run.program_id, group_meta.pubkey, owner.pubkey, account_num)
    run.check(meta.pubkey == address, "ConstraintSeeds", "account")
    shape = _Counts(*slots, *([] if counts == 5 else [0]))  # noqa: PLR2004 - the second version names all five
    existing = run.read(address)
    params = CreateAccountParams(
        from_pubkey=payer.pubkey,
        to_pubkey=address,
        lamports=rent_exempt(shape.space),
        space=shape.space,
        owner=run.program_id,
    )
    run.instructions.append(create_account(params))
    if existing is not None:
        # The system program refuses to make it again.
        return 10_000
    run.check_gate(group, IxGate.ACCOUNT_CREATE)
    run.check_writable(payer, "payer")
    shape.check(run, _Counts(0, 0, 0, 0, 0))
    run.check(length <= _NAME_BYTES, "SomeError")
    head = AccountHead.zero()
    head.group, head.owner, head.account_num, head.bump = group_meta.pubkey, owner.pubkey, account_num, bump
    head.name = name.ljust(_NAME_BYTES, b"\0")
    run.create(address, MangoAccount.empty(head, **msgspec.structs.asdict(shape)))
    return 40_000


def account_expand_v2(run: Execution) -> int:
    """Run `accountExpandV2`: slots in use move to the front, but for orders, whose places the book knows."""
    shape = _Counts(*_unpack(run, "5B"))
    group_meta, group = run.take_account(Group, "group")
    meta, account = run.take_account(MangoAccount, "account")
    owner, payer = run.signer("owner"), run.signer("payer")
    _take_system(run)
    run.check_gate(group, IxGate.ACCOUNT_EXPAND)
    _check_own(run, meta, account, group_meta.pubkey, owner.pubkey)
    run.check_writable(payer, "payer")
    before = _Counts(
        len(account.tokens),
        len(account.serum3),
        len(account.perps),
        len(account.perp_open_orders),
        len(account.token_conditional_swaps),
    )
    shape.check(run, before)
    tokens = [slot for slot in account.tokens if slot.is_active]
    serum3 = [slot for slot in account.serum3 if slot.is_active]
    perps = [slot for slot in account.perps if slot.is_active]
    orders = max((place + 1 for place, slot in enumerate(account.perp_open_orders) if slot.is_active), default=0)
    used = (len(tokens), len(serum3), len(perps), orders)
    room = (shape.tokens, shape.serum3, shape.perps, shape.perp_open_orders)
    run.check(all(have <= most for have, most in zip(used, room, strict=True)), "RequireGteViolated")
    wide_one = MangoAccount.empty(account.head, **msgspec.structs.asdict(shape))
    wide_one.tokens[: len(tokens)] = tokens
    wide_one.serum3[: len(serum3)] = serum3
    wide_one.perps[: len(perps)] = perps
    wide_one.perp_open_orders[:orders] = account.perp_open_orders[:orders]
    swaps = min(shape.token_conditional_swaps, before.token_conditional_swaps)
    wide_one.token_conditional_swaps[:swaps] = account.token_conditional_swaps[:swaps]
    held = run.read(meta.pubkey)
    missing = rent_exempt(shape.space) - (0 if held is None else held.lamports)
    if missing > 0:
        params = TransferParams(from_pubkey=payer.pubkey, to_pubkey=meta.pubkey, lamports=missing)
        run.instructions.append(transfer(params))
    elif missing < 0:
        run.lamports = {meta.pubkey: missing, payer.pubkey: -missing}
    run.replace(meta.pubkey, wide_one)
    return 40_000


def account_close(run: Execution) -> int:
    """Run `accountClose`: an account without positions is given up and its rent paid out."""
    (forced,) = _unpack(run, "B")
    group_meta, group = run.take_account(Group, "group")
    meta, account = run.take_account(MangoAccount, "account")
    owner, destination = run.signer("owner"), run.take()
    if run.take().pubkey != TOKEN_PROGRAM:
        raise run.refuse("InvalidProgramId", "token_program")
    run.check(not group.ix_gate >> _CLOSE_GATE & 1, "IxIsDisabled", "group")
    _check_own(run, meta, account, group_meta.pubkey, owner.pubkey)
    run.check_writable(destination, "sol_destination")
    run.check(not forced or group.testing == 1, "SomeError")
    run.check(forced == 1 or not account.head.being_liquidated, "SomeError")
    used = [slot.is_active for slot in account.tokens] + [slot.is_active for slot in account.serum3]
    idle = not any(used + [slot.is_active for slot in account.perps])
    run.check(forced == 1 or idle, "RequireEqViolated")
    held = run.read(meta.pubkey)
    lamports = 0 if held is None else held.lamports
    run.lamports = {meta.pubkey: -lamports, destination.pubkey: lamports}
    return 20_000


def _check_own(run: Execution, meta: AccountMeta, account: MangoAccount, group: Pubkey, owner: Pubkey) -> None:
    run.check_writable(meta, "account")
    run.check_same(account.head.group, group, "account")
    run.check_same(account.head.owner, owner, "account")
    run.check(is_operational(account, run.now), "AccountIsFrozen", "account")


# Tokens


class _Moving(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of a deposit or a withdrawal; `signer` signs for what leaves the wallet."""

    group_key: Pubkey
    group: Group
    key: Pubkey
    account: MangoAccount
    owner: Pubkey
    bank: Bank
    vault: Pubkey
    vault_data: bytes
    oracle: Pubkey
    wallet: Pubkey
    wallet_data: bytes
    signer: Pubkey


def token_data(run: Execution, key: Pubkey, name: str) -> bytes:
    """Return what a token account holds; refuse where it is none."""
    account = run.read(key)
    if account is None:
        raise run.refuse("AccountNotInitialized", name)
    run.check(account.owner == TOKEN_PROGRAM, "AccountOwnedByWrongProgram", name)
    return bytes(account.data)


def _take_moving(run: Execution, gate: IxGate, *, deposits: bool) -> _Moving:
    group_meta, group = run.take_account(Group, "group")
    meta, account = run.take_account(MangoAccount, "account")
    owner = run.signer("owner").pubkey
    bank_meta, bank = run.take_account(Bank, "bank")
    vault = run.take()
    vault_data = token_data(run, vault.pubkey, "vault")
    oracle = run.take().pubkey
    wallet = run.take()
    wallet_data = token_data(run, wallet.pubkey, "token_account")
    signer = run.signer("token_authority").pubkey if deposits else group_meta.pubkey
    if run.take().pubkey != TOKEN_PROGRAM:
        raise run.refuse("InvalidProgramId", "token_program")
    run.check_gate(group, gate)
    run.check_writable(meta, "account")
    run.check_same(account.head.group, group_meta.pubkey, "account")
    run.check(is_operational(account, run.now), "AccountIsFrozen", "account")
    run.check(account.head.owner == owner or is_delegate(account, owner, run.now), "ConstraintRaw", "account")
    run.check_writable(bank_meta, "bank")
    run.check_same(bank.group, group_meta.pubkey, "bank")
    run.check_same(bank.vault, vault.pubkey, "bank")
    run.check_same(bank.oracle, oracle, "bank")
    run.check_writable(vault, "vault")
    run.check_writable(wallet, "token_account")
    return _Moving(
        group_key=group_meta.pubkey,
        group=group,
        key=meta.pubkey,
        account=account,
        owner=owner,
        bank=bank,
        vault=vault.pubkey,
        vault_data=vault_data,
        oracle=oracle,
        wallet=wallet.pubkey,
        wallet_data=wallet_data,
        signer=signer,
    )


def _emit_balance(run: Execution, moving: _Moving, position: TokenPosition) -> None:
    bank = moving.bank
    indexes = {"deposit_index": bank.deposit_index, "borrow_index": bank.borrow_index}
    run.emit(token_balance_log(moving.group_key, moving.key, position, **indexes))


def _emit_moved(run: Execution, moving: _Moving, event: str, amount: int, price: int) -> None:
    keys = bytes(moving.group_key) + bytes(moving.key)
    signer = moving.signer if event == "DepositLog" else moving.owner
    figures = struct.pack("<HQ", moving.bank.token_index, amount) + wide(price)
    run.emit(event_discriminator(event) + keys + bytes(signer) + figures)


def _release(run: Execution, moving: _Moving, position: TokenPosition) -> None:
    """Free the slot of a position that is no more."""
    run.rely(position.in_use_count == 0, "assertion failed: token_position.in_use_count == 0")
    run.emit(deactivate_token_position_log(moving.group_key, moving.key, position))
    position.token_index = FREE_SLOT


def deposit(run: Execution) -> int:
    """Run `tokenDeposit`: tokens of a wallet go to the vault, and pay back a borrow first."""
    amount, reduce_only = _unpack(run, "QB")
    moving = _take_moving(run, IxGate.TOKEN_DEPOSIT, deposits=True)
    bank, account = moving.bank, moving.account
    if account.token(bank.token_index) is None:
        bank_price(run, bank, moving.oracle)
    position = ensure_token_position(run, account, bank.token_index)
    run.check(amount > 0, "SomeError")
    closed = bank.reduce_only == 1
    taken = amount
    if reduce_only or closed:
        taken = min(ceil(max(-native_balance(bank, position), 0)), amount)
    run.check(not closed or reduce_only == 1 or taken == amount, "TokenInReduceOnlyMode")
    is_active = deposit_tokens(run, bank, position, from_int(taken))
    run.instructions.append(transfer_tokens(moving.wallet, moving.vault, moving.signer, taken))
    price = oracle_state(run, moving.oracle, bank.mint_decimals).price
    if position.indexed_position > 0:
        check_deposit_limit(run, bank)
    account.head.net_deposits += floor(mul(from_int(taken), price))
    _emit_balance(run, moving, position)
    health = fixed_health(run, account, run.remaining())
    if account.head.being_liquidated and not account.head.in_health_region:
        recovered = recover(account, health.value(HealthKind.LIQUIDATION_END))
        run.check(recovered, "DepositsIntoLiquidatingMustRecover")
    if moving.group.deposit_limit_quote > 0:
        run.check(len(health.tokens) == sum(slot.is_active for slot in account.tokens), "RequireEqViolated")
        worth = floor(health.assets(HealthKind.INIT))
        run.check(worth <= moving.group.deposit_limit_quote, "DepositLimit")
    if not is_active:
        _release(run, moving, position)
    _emit_moved(run, moving, "DepositLog", taken, price)
    return 60_000


def withdraw(run: Execution) -> int:
    """Run `tokenWithdraw`: tokens go from the vault to a wallet, as far as initial health allows."""
    amount, allow_borrow = _unpack(run, "QB")
    moving = _take_moving(run, IxGate.TOKEN_WITHDRAW, deposits=False)
    bank, account = moving.bank, moving.account
    run.check(amount > 0, "SomeError")
    position = ensure_token_position(run, account, bank.token_index)
    in_region = account.head.in_health_region == 1
    before = None if in_region else check_before(run, account, fixed_health(run, account, run.remaining()))
    held = native_balance(bank, position)
    if amount == U64_MAX and not allow_borrow:
        if held < 0:
            return 40_000
        amount = floor(held)
    borrows = from_int(amount) > held
    run.check(allow_borrow == 1 or not borrows, "SomeError")
    run.check(not borrows or bank.reduce_only == 0, "TokenInReduceOnlyMode")
    state = oracle_state(run, moving.oracle, bank.mint_decimals)
    done = withdraw_tokens(run, bank, position, from_int(amount), with_fee=True)
    run.check(token_amount(moving.vault_data) >= amount, "InsufficentBankVaultFunds")
    run.instructions.append(transfer_tokens(moving.vault, moving.wallet, moving.signer, amount))
    _emit_balance(run, moving, position)
    account.head.net_deposits -= floor(mul(from_int(amount), state.price))
    _check_delegate(run, moving, closed=not done.is_active)
    if before is not None:
        health = fixed_health(run, account, run.remaining())
        after = health.value(HealthKind.INIT)
        if health.token(bank.token_index) is not None:
            check_after(run, before, after)
        else:
            run.check(not borrows, "BorrowsRequireHealthAccountBank")
            run.check(before >= 0, "HealthMustBePositive")
    if not done.is_active:
        _release(run, moving, position)
    _emit_moved(run, moving, "WithdrawLog", amount, state.price)
    if done.fee > 0:
        head = bytes(moving.group_key) + bytes(moving.key) + struct.pack("<H", bank.token_index)
        tail = bytes([_TOKEN_WITHDRAW_LOAN, 1]) + wide(state.price)
        run.emit(event_discriminator("WithdrawLoanLog") + head + wide(done.loan) + wide(done.fee) + tail)
    if borrows:
        check_borrow_limits(run, bank, state.price, "utilization")
        check_staleness(run, state, bank.oracle_config)
        check_confidence(run, state, bank.oracle_config)
        check_borrow_limits(run, bank, state.price, "net")
    else:
        check_no_excess_borrows(run, bank)
    return 80_000


def _check_delegate(run: Execution, moving: _Moving, *, closed: bool) -> None:
    """Have a delegate withdraw whole positions, and to the owner's own account, only."""
    head = moving.account.head
    if not is_delegate(moving.account, moving.owner, run.now):
        return
    own = associated_token_account(head.owner, moving.bank.mint)
    right = moving.wallet == own and token_owner(moving.wallet_data) == head.owner
    run.check(right, "DelegateWithdrawOnlyToOwnerAta")
    run.check(closed, "DelegateWithdrawMustClosePosition")
