"""Making, changing and closing requests: what owners do, and keepers at the end."""

from __future__ import annotations

import struct

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.jupiter.addresses import position_address, request_address
from router.localnet.jupiter.events import ClosePositionRequestEvent, CreatePositionRequestEvent
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.layouts import Custody, Pool, Position, PositionRequest
from router.localnet.jupiter.params import (
    CreateDecreaseMarketParams,
    CreateDecreaseParams,
    CreateIncreaseParams,
    UpdateDecreaseParams,
)
from router.localnet.jupiter.pricing import LONG, SHORT
from router.localnet.jupiter.venue import (
    DECREASE,
    INCREASE,
    MARKET,
    TRIGGER,
    check_decreasing_allowed,
    check_increasing_allowed,
    check_pairing,
    check_request,
    custody_of,
    perpetuals_of,
    pool_of,
    position_of,
    price_of,
)
from router.localnet.spl import (
    ASSOCIATED_TOKEN_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    associated_token_account,
    transfer_tokens,
)

__all__ = [
    "CLOSE_2",
    "CLOSE_3",
    "CREATE_DECREASE",
    "CREATE_DECREASE_MARKET",
    "CREATE_INCREASE",
    "UPDATE_DECREASE",
    "close_request",
    "create_decrease",
    "create_decrease_market",
    "create_increase",
    "update_decrease",
]

_TAIL = "token_program associated_token_program system_program event_authority program"
CREATE_INCREASE = (
    "owner:ws funding_account:w perpetuals pool position:w position_request:w position_request_ata:w custody "
    "collateral_custody input_mint referral:o " + _TAIL
)
CREATE_DECREASE_MARKET = (
    "owner:ws receiving_account:w perpetuals pool position position_request:w position_request_ata:w custody "
    "collateral_custody desired_mint referral:o " + _TAIL
)
CREATE_DECREASE = (
    "owner:ws receiving_account:w perpetuals pool position position_request:w position_request_ata:w custody "
    "custody_doves_price_account custody_pythnet_price_account collateral_custody desired_mint referral:o " + _TAIL
)
UPDATE_DECREASE = (
    "owner:s perpetuals pool position position_request:w custody custody_doves_price_account "
    "custody_pythnet_price_account"
)
_CLOSING = "keeper:wso owner:w owner_ata:w pool:w position_request:w position_request_ata:w position "
_CLOSING_TAIL = "mint token_program system_program associated_token_program event_authority program"
CLOSE_2 = _CLOSING + _CLOSING_TAIL
CLOSE_3 = _CLOSING + "custody:w " + _CLOSING_TAIL

_CREATE_UNITS = 75_000
_UPDATE_UNITS = 20_000
_CLOSE_UNITS = 42_000
_CLOSE_TOKEN_ACCOUNT = struct.pack("<B", 9)


def create_increase(run: Execution) -> int:
    """Run `createIncreasePositionMarketRequest`: the collateral goes into the request's escrow."""
    params = run.params(CreateIncreaseParams)
    owner, pool = run.key("owner"), run.key("pool")
    settings = perpetuals_of(run)
    pool_of(run)
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    mint = _mint(run, "input_mint")
    run.token_account("funding_account", mint=mint, owner=owner)
    address, bump = position_address(owner, pool, run.key("custody"), run.key("collateral_custody"), params.side)
    run.check(run.key("position") == address, "ConstraintSeeds", "position")
    position = run.load_if_any(Position, "position")
    # Seen on requests without a side.
    run.check(params.side in {LONG, SHORT}, "CustodyAmountLimit")
    if position is None:
        position = _new_position(run, params.side, bump)
        run.create("position", position, owner)
    check_increasing_allowed(run, settings, custody)
    check_pairing(run, params.side, custody, collateral)
    run.check(mint == collateral.mint or params.jupiter_minimum_out is not None, "InvalidMint")
    # A position without collateral cannot be; more size on what is there already may be.
    run.check(params.collateral_token_delta > 0 or position.size_usd > 0, "InvalidCollateralAmount")
    run.check(params.size_usd_delta > 0 or params.collateral_token_delta > 0, "InvalidCollateralAmount")
    # With every token locked there is nothing to trade against at any price.
    run.check(collateral.assets.owned > collateral.assets.locked, "CustodyAmountLimit")
    request = _request(
        run,
        mint=mint,
        change=INCREASE,
        kind=MARKET,
        side=params.side,
        counter=params.counter,
        size_usd=params.size_usd_delta,
        collateral=params.collateral_token_delta,
    )
    request.price_slippage, request.jupiter_minimum_out = params.price_slippage, params.jupiter_minimum_out
    _store(run, request)
    if params.collateral_token_delta:
        funding, escrow = run.key("funding_account"), run.key("position_request_ata")
        run.instructions.append(transfer_tokens(funding, escrow, owner, params.collateral_token_delta))
    _emit_created(run, request, custody, collateral)
    return _CREATE_UNITS


def create_decrease_market(run: Execution) -> int:
    """Run `createDecreasePositionMarketRequest`."""
    params = run.params(CreateDecreaseMarketParams)
    wanted = CreateDecreaseParams(
        collateral_usd_delta=params.collateral_usd_delta,
        size_usd_delta=params.size_usd_delta,
        request_type=MARKET,
        price_slippage=params.price_slippage,
        jupiter_minimum_out=params.jupiter_minimum_out,
        trigger_price=None,
        trigger_above_threshold=None,
        entire_position=params.entire_position,
        counter=params.counter,
    )
    return _create_decrease(run, wanted, priced=False)


def create_decrease(run: Execution) -> int:
    """Run `createDecreasePositionRequest2`: at market, or when a price is reached."""
    return _create_decrease(run, run.params(CreateDecreaseParams), priced=True)


def _create_decrease(run: Execution, params: CreateDecreaseParams, *, priced: bool) -> int:
    owner, settings = run.key("owner"), perpetuals_of(run)
    pool_of(run)
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    position = position_of(run)
    mint = _mint(run, "desired_mint")
    run.token_account("receiving_account", mint=mint, owner=owner)
    check_decreasing_allowed(run, settings, custody, withdraws=params.collateral_usd_delta > 0)
    run.check(params.request_type in {MARKET, TRIGGER}, "InvalidRequestType")
    run.check(mint == collateral.mint or params.jupiter_minimum_out is not None, "InvalidMint")
    run.check(position.size_usd > 0, "InvalidPositionState")
    run.check(params.size_usd_delta <= position.size_usd, "InvalidPositionState")
    something = params.entire_position or params.size_usd_delta or params.collateral_usd_delta
    run.check(bool(something), "InvalidPositionState")
    if params.request_type == TRIGGER:
        trigger, above = params.trigger_price, params.trigger_above_threshold
        if trigger is None or above is None:
            raise run.refuse("MissingTriggerPrice")
        _check_trigger(run, custody, trigger, above=above)
    else:
        run.check(params.price_slippage is not None, "MissingPriceSlippage")
        if priced:
            price_of(run, custody, "custody")
    request = _request(
        run,
        mint=mint,
        change=DECREASE,
        kind=params.request_type,
        side=position.side,
        counter=params.counter,
        size_usd=params.size_usd_delta,
        collateral=params.collateral_usd_delta,
    )
    request.price_slippage, request.jupiter_minimum_out = params.price_slippage, params.jupiter_minimum_out
    request.trigger_price, request.trigger_above_threshold = params.trigger_price, params.trigger_above_threshold
    request.entire_position = params.entire_position
    _store(run, request)
    _emit_created(run, request, custody, collateral)
    return _CREATE_UNITS


def update_decrease(run: Execution) -> int:
    """Run `updateDecreasePositionRequest2`: another size or trigger price for a request that waits for a price."""
    params = run.params(UpdateDecreaseParams)
    perpetuals_of(run)
    pool_of(run)
    custody = custody_of(run, "custody")
    position, request = run.load(Position, "position"), run.load(PositionRequest, "position_request")
    check_request(run, request)
    run.check(request.owner == run.key("owner"), "ConstraintHasOne", "position_request")
    run.check(request.custody == run.key("custody"), "ConstraintHasOne", "position_request")
    run.check(request.request_type == TRIGGER and request.request_change == DECREASE, "InvalidRequestType")
    run.check(not request.executed, "InvalidPositionRequest")
    run.check(params.size_usd_delta <= position.size_usd, "InvalidPositionState")
    run.check(params.size_usd_delta > 0 or bool(request.entire_position), "InvalidPositionState")
    _check_trigger(run, custody, params.trigger_price, above=bool(request.trigger_above_threshold))
    request.size_usd_delta, request.trigger_price = params.size_usd_delta, params.trigger_price
    request.update_time = run.now
    return _UPDATE_UNITS


def close_request(run: Execution) -> int:
    """Run `closePositionRequest2` or `3`: what is in the escrow and both rents go to the owner.

    A keeper may at any time; the owner once a market request can no longer be executed, and at any time before its
    execution where it waits for a price.
    """
    pool = pool_of(run)
    request = run.load(PositionRequest, "position_request")
    check_request(run, request)
    owner, key, escrow = run.key("owner"), run.key("position_request"), run.key("position_request_ata")
    run.check(request.owner == owner, "ConstraintHasOne", "position_request")
    run.check(request.mint == run.key("mint"), "InvalidMint")
    run.check(escrow == associated_token_account(key, request.mint), "ConstraintAssociated", "position_request_ata")
    amount = run.token_account("position_request_ata", mint=request.mint, owner=key)
    receiver = run.key("owner_ata")
    run.check(receiver == associated_token_account(owner, request.mint), "ConstraintAssociated", "owner_ata")
    run.token_account("owner_ata", mint=request.mint, owner=owner)
    if run.has("keeper"):
        run.check(run.is_keeper("keeper"), "InvalidKeeper")
    else:
        run.check(run.signed("owner"), "InvalidKeeper")
        run.check(not _closing_disabled(run, pool), "InstructionNotAllowed")
        over = run.now > request.open_time + pool.max_request_execution_sec
        run.check(request.request_type == TRIGGER or over, "InvalidPositionRequest")
    run.emit(
        ClosePositionRequestEvent(
            entire_position=request.entire_position,
            executed=request.executed,
            request_change=request.request_change,
            request_type=request.request_type,
            side=request.side,
            position_request_key=key,
            owner=owner,
            mint=request.mint,
            amount=0 if request.executed else amount,
            open_time=request.open_time,
        )
    )
    if amount:
        run.instructions.append(transfer_tokens(escrow, receiver, key, amount))
    run.instructions.append(_close_token_account(escrow, owner, key))
    run.close("position_request", owner)
    return _CLOSE_UNITS


def _closing_disabled(run: Execution, pool: Pool) -> bool:
    """Tell whether owners may not close: the pool says it for the older instruction, the custody for the newer."""
    if run.has("custody"):
        return custody_of(run, "custody").disable_close_position_request
    return pool.disable_close_position_request


def _mint(run: Execution, name: str) -> Pubkey:
    account = run.read(run.key(name))
    if account is None:
        raise run.refuse("AccountNotInitialized", name)
    run.check(account.owner == TOKEN_PROGRAM, "AccountOwnedByWrongProgram", name)
    return run.key(name)


def _check_trigger(run: Execution, custody: Custody, trigger: int, *, above: bool) -> None:
    """Refuse a trigger price that is reached already."""
    price = price_of(run, custody, "custody").usd
    run.check(trigger > price if above else 0 < trigger < price, "InvalidTriggerPrice")


def _new_position(run: Execution, side: int, bump: int) -> Position:
    position = Position.zero()
    position.owner, position.pool, position.side, position.bump = run.key("owner"), run.key("pool"), side, bump
    position.custody, position.collateral_custody = run.key("custody"), run.key("collateral_custody")
    return position


def _request(
    run: Execution, *, mint: Pubkey, change: int, kind: int, side: int, counter: int, size_usd: int, collateral: int
) -> PositionRequest:
    """Return the request; refused where it would not stand at the address given."""
    address, bump = request_address(run.key("position"), counter, change)
    run.check(run.key("position_request") == address, "ConstraintSeeds", "position_request")
    return PositionRequest(
        owner=run.key("owner"),
        pool=run.key("pool"),
        custody=run.key("custody"),
        position=run.key("position"),
        mint=mint,
        open_time=run.now,
        update_time=run.now,
        size_usd_delta=size_usd,
        collateral_delta=collateral,
        request_change=change,
        request_type=kind,
        side=side,
        price_slippage=None,
        jupiter_minimum_out=None,
        pre_swap_amount=None,
        trigger_price=None,
        trigger_above_threshold=None,
        entire_position=None,
        executed=False,
        counter=counter,
        bump=bump,
        referral=run.key("referral") if run.has("referral") else None,
    )


def _store(run: Execution, request: PositionRequest) -> None:
    """Make the request's account and its escrow."""
    owner, key = request.owner, run.key("position_request")
    run.create("position_request", request, owner)
    metas = [
        AccountMeta(owner, is_signer=True, is_writable=True),
        AccountMeta(run.key("position_request_ata"), is_signer=False, is_writable=True),
        *(AccountMeta(each, is_signer=False, is_writable=False) for each in (key, request.mint)),
        *(AccountMeta(each, is_signer=False, is_writable=False) for each in (SYSTEM_PROGRAM, TOKEN_PROGRAM)),
    ]
    run.instructions.append(Instruction(ASSOCIATED_TOKEN_PROGRAM, b"", metas))


def _emit_created(run: Execution, request: PositionRequest, custody: Custody, collateral: Custody) -> None:
    run.emit(
        CreatePositionRequestEvent(
            owner=request.owner,
            pool=request.pool,
            position_key=request.position,
            position_side=request.side,
            position_mint=custody.mint,
            position_custody=request.custody,
            position_collateral_mint=collateral.mint,
            position_collateral_custody=run.key("collateral_custody"),
            position_request_key=run.key("position_request"),
            position_request_mint=request.mint,
            size_usd_delta=request.size_usd_delta,
            collateral_delta=request.collateral_delta,
            price_slippage=request.price_slippage,
            jupiter_minimum_out=request.jupiter_minimum_out,
            pre_swap_amount=None,
            request_change=request.request_change,
            open_time=request.open_time,
            referral=request.referral,
        )
    )


def _close_token_account(account: Pubkey, receiver: Pubkey, authority: Pubkey) -> Instruction:
    metas = [
        AccountMeta(account, is_signer=False, is_writable=True),
        AccountMeta(receiver, is_signer=False, is_writable=True),
        AccountMeta(authority, is_signer=True, is_writable=False),
    ]
    return Instruction(TOKEN_PROGRAM, _CLOSE_TOKEN_ACCOUNT, metas)
