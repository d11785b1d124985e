"""Executing a request that makes a position smaller, and taking away one that its collateral no longer carries."""

from __future__ import annotations

import dataclasses

import msgspec

from router.localnet.jupiter.addresses import transfer_authority
from router.localnet.jupiter.events import DecreasePositionEvent, LiquidateFullPositionEvent
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.layouts import Pool, Position, PositionRequest
from router.localnet.jupiter.pricing import BPS, LONG, Price
from router.localnet.jupiter.reduction import Reduction, Sides, apply, check_what_is_left, is_liquidatable, reduction
from router.localnet.jupiter.venue import (
    DECREASE,
    MARKET,
    TRIGGER,
    check_decreasing_allowed,
    check_request,
    custody_of,
    perpetuals_of,
    pool_of,
    position_of,
    price_of,
    vault_of,
)
from router.localnet.spl import transfer_tokens

__all__ = [
    "DECREASE_POSITION",
    "DECREASE_WITH_TPSL",
    "LIQUIDATE",
    "decrease_position",
    "decrease_with_tpsl",
    "liquidate",
]

_HEAD = "transfer_authority perpetuals pool:w position_request:w position_request_ata:w position:w custody:w "
_BOTH_FEEDS = (
    "custody_doves_price_account custody_pythnet_price_account collateral_custody:w "
    "collateral_custody_doves_price_account collateral_custody_pythnet_price_account "
)
_ONE_FEED = "custody_doves_price_account collateral_custody:w collateral_custody_doves_price_account "
_TAIL = "collateral_custody_token_account:w token_program event_authority program"
DECREASE_POSITION = "keeper:s owner:w " + _HEAD + _BOTH_FEEDS + _TAIL
DECREASE_WITH_TPSL = "keeper:s owner " + _HEAD + _ONE_FEED + _TAIL
LIQUIDATE = (
    "signer:s perpetuals pool:w position:w custody:w "
    + _BOTH_FEEDS
    + "collateral_custody_token_account:w event_authority program"
)

_UNITS = 104_000


def decrease_position(run: Execution) -> int:
    """Run `decreasePosition4`: a market request, at the oracle's price."""
    return _decrease(run, MARKET)


def decrease_with_tpsl(run: Execution) -> int:
    """Run `decreasePositionWithTpsl`: a request that waited for a price, at that price.

    Where the oracle is farther past it than the pool's limit it is filled at the oracle's; what the venue does then
    is not published.
    """
    return _decrease(run, TRIGGER)


def _decrease(run: Execution, kind: int) -> int:
    settings, pool = perpetuals_of(run), pool_of(run)
    run.check(run.is_keeper("keeper"), "InvalidKeeper")
    request = run.load(PositionRequest, "position_request")
    check_request(run, request)
    run.check(request.owner == run.key("owner"), "ConstraintHasOne", "position_request")
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    position = position_of(run)
    key, escrow = run.key("position_request"), run.key("position_request_ata")
    run.check(request.request_change == DECREASE, "InvalidPositionRequest")
    run.check(request.request_type == kind, "InvalidRequestType")
    run.check(not request.executed, "InvalidPositionRequest")
    over = run.now > request.open_time + pool.max_request_execution_sec
    run.check(kind == TRIGGER or not over, "ExceedExecutionPeriod")
    run.check(request.mint == collateral.mint, "InvalidMint")
    run.check(run.key("transfer_authority") == transfer_authority()[0], "ConstraintSeeds", "transfer_authority")
    run.token_account("position_request_ata", mint=request.mint, owner=key)
    held = vault_of(run, collateral)
    check_decreasing_allowed(run, settings, custody, withdraws=request.collateral_delta > 0)
    run.check(position.size_usd > 0, "InvalidPositionState")
    oracle, token = price_of(run, custody, "custody"), price_of(run, collateral, "collateral_custody")
    price = oracle.usd if kind == MARKET else _trigger_price(run, request, pool, oracle)
    _check_slippage(run, request, position, price)
    size = _size(run, request, position)
    sides = Sides(position=position, custody=custody, collateral=collateral, price=price, token=token, now=run.now)
    done = reduction(sides, size, request.collateral_delta)
    check_what_is_left(run, sides, done)
    run.check(done.paid_tokens <= held, "InvalidCustodyBalance")
    before = dataclasses.replace(position)
    apply(sides, done)
    if done.paid_tokens:
        vault = run.key("collateral_custody_token_account")
        run.instructions.append(transfer_tokens(vault, escrow, transfer_authority()[0], done.paid_tokens))
    request.executed = True
    run.emit(_decreased(run, request, sides, done, before))
    return _UNITS


def _trigger_price(run: Execution, request: PositionRequest, pool: Pool, oracle: Price) -> int:
    trigger = request.trigger_price
    if trigger is None:
        raise run.refuse("MissingTriggerPrice")
    reached = oracle.usd >= trigger if request.trigger_above_threshold else oracle.usd <= trigger
    run.check(reached, "TriggerPriceSlippage")
    near = abs(oracle.usd - trigger) * BPS <= trigger * pool.max_trigger_price_diff_bps
    return trigger if near else oracle.usd


def _check_slippage(run: Execution, request: PositionRequest, position: Position, price: int) -> None:
    limit = request.price_slippage
    if limit is None:
        run.check(request.request_type == TRIGGER, "MissingPriceSlippage")
        return
    run.check(price >= limit if position.side == LONG else price <= limit, "MaxPriceSlippage")


def _size(run: Execution, request: PositionRequest, position: Position) -> int:
    """Return how much is closed: a request that waited closes at most what is left by then."""
    if request.entire_position:
        return position.size_usd
    if request.request_type == TRIGGER:
        return min(request.size_usd_delta, position.size_usd)
    run.check(request.size_usd_delta <= position.size_usd, "InvalidPositionState")
    return request.size_usd_delta


def _decreased(
    run: Execution, request: PositionRequest, sides: Sides, done: Reduction, before: Position
) -> DecreasePositionEvent:
    position = sides.position
    return DecreasePositionEvent(
        position_key=run.key("position"),
        position_side=position.side,
        position_custody=position.custody,
        position_collateral_custody=position.collateral_custody,
        position_size_usd=position.size_usd,
        position_mint=sides.custody.mint,
        position_request_key=run.key("position_request"),
        position_request_mint=request.mint,
        position_request_change=request.request_change,
        position_request_type=request.request_type,
        has_profit=done.pnl > 0,
        pnl_delta=abs(done.pnl),
        owner=position.owner,
        pool=position.pool,
        size_usd_delta=done.size,
        transfer_amount_usd=done.paid,
        transfer_token=done.paid_tokens,
        price=sides.price,
        price_slippage=request.price_slippage,
        fee_usd=done.fee_usd,
        open_time=run.now,
        referral=request.referral,
        position_fee_usd=done.fee.total,
        funding_fee_usd=done.borrow_fee,
        price_impact_fee_usd=done.fee.impact,
        original_position_collateral_usd=before.collateral_usd,
        position_collateral_usd=position.collateral_usd,
        position_open_time=position.open_time,
        position_price=before.price,
    )


def liquidate(run: Execution) -> int:
    """Run `liquidateFullPosition4`: anybody may, once the collateral is worth no more than the margin it has to be.

    The instruction has no account of the owner's, so that nothing is paid out.
    """
    settings = perpetuals_of(run)
    pool_of(run)
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    position = position_of(run, owner=False)
    allowed = settings.allow_liquidate_position and custody.permissions.allow_liquidate_position
    run.check(allowed, "InstructionNotAllowed")
    vault_of(run, collateral)
    run.check(position.size_usd > 0, "InvalidPositionState")
    price, token = price_of(run, custody, "custody"), price_of(run, collateral, "collateral_custody")
    sides = Sides(position=position, custody=custody, collateral=collateral, price=price.usd, token=token, now=run.now)
    run.check(is_liquidatable(sides), "InvalidPositionState")
    closed = reduction(sides, position.size_usd, 0)
    before, kept = dataclasses.replace(position), closed.paid
    apply(sides, msgspec.structs.replace(closed, paid=0, paid_tokens=0))
    run.emit(
        LiquidateFullPositionEvent(
            position_key=run.key("position"),
            position_side=position.side,
            position_custody=position.custody,
            position_collateral_custody=position.collateral_custody,
            position_collateral_mint=collateral.mint,
            position_mint=custody.mint,
            position_size_usd=before.size_usd,
            has_profit=closed.pnl > 0,
            pnl_delta=abs(closed.pnl),
            owner=position.owner,
            pool=position.pool,
            transfer_amount_usd=0,
            transfer_token=0,
            price=price.usd,
            fee_usd=closed.fee_usd,
            liquidation_fee_usd=kept,
            open_time=run.now,
            position_fee_usd=closed.fee.total,
            funding_fee_usd=closed.borrow_fee,
            price_impact_fee_usd=closed.fee.impact,
            original_position_collateral_usd=before.collateral_usd,
            position_collateral_usd=0,
            position_open_time=position.open_time,
            position_price=before.price,
        )
    )
    return _UNITS
