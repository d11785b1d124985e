"""Trades that two keepers sign with the owner: made and filled in one transaction, without any request."""

from __future__ import annotations

import dataclasses

from router.localnet.jupiter.addresses import position_address, transfer_authority
from router.localnet.jupiter.events import InstantDecreasePositionEvent, InstantIncreasePositionEvent
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.growth import Growth, GrowthTerms
from router.localnet.jupiter.layouts import Position
from router.localnet.jupiter.params import InstantDecreaseParams, InstantIncreaseParams
from router.localnet.jupiter.pricing import LONG, SHORT
from router.localnet.jupiter.reduction import Sides, apply, check_what_is_left, reduction
from router.localnet.jupiter.venue import (
    check_decreasing_allowed,
    check_increasing_allowed,
    check_pairing,
    custody_of,
    perpetuals_of,
    pool_of,
    position_of,
    price_of,
    vault_of,
)
from router.localnet.spl import transfer_tokens

__all__ = ["INSTANT_DECREASE", "INSTANT_INCREASE", "instant_decrease", "instant_increase"]

_BOTH_FEEDS = (
    "custody_doves_price_account custody_pythnet_price_account collateral_custody:w "
    "collateral_custody_doves_price_account collateral_custody_pythnet_price_account "
    "collateral_custody_token_account:w "
)
INSTANT_INCREASE = (
    "keeper:s api_keeper:s owner:ws funding_account:w perpetuals pool:w position:w custody:w "
    + _BOTH_FEEDS
    + "token_ledger:o referral:o token_program system_program event_authority program"
)
INSTANT_DECREASE = (
    "keeper:s api_keeper:s owner:ws receiving_account:w transfer_authority perpetuals pool:w position:w custody:w "
    + _BOTH_FEEDS
    + "desired_mint referral:o token_program associated_token_program system_program event_authority program"
)

_UNITS = 120_000
_REQUEST_AGE_S = 45


def _check_signed(run: Execution, request_time: int) -> None:
    """Refuse what a keeper did not sign, and what was signed too long ago or for later."""
    run.check(run.is_keeper("keeper") and run.is_keeper("api_keeper"), "InvalidKeeper")
    run.check(0 <= run.now - request_time <= _REQUEST_AGE_S, "InvalidRequestTime")


def instant_increase(run: Execution) -> int:
    """Run `instantIncreasePosition`."""
    params = run.params(InstantIncreaseParams)
    settings, owner = perpetuals_of(run), run.key("owner")
    pool_of(run)
    _check_signed(run, params.request_time)
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    address, bump = position_address(
        owner, run.key("pool"), run.key("custody"), run.key("collateral_custody"), params.side
    )
    run.check(run.key("position") == address, "ConstraintSeeds", "position")
    run.check(params.side in {LONG, SHORT}, "CustodyAmountLimit")
    position = run.load_if_any(Position, "position")
    if position is None:
        position = Position.zero()
        position.owner, position.pool, position.side, position.bump = owner, run.key("pool"), params.side, bump
        position.custody, position.collateral_custody = run.key("custody"), run.key("collateral_custody")
        run.create("position", position, owner)
    check_increasing_allowed(run, settings, custody)
    check_pairing(run, params.side, custody, collateral)
    run.token_account("funding_account", mint=collateral.mint, owner=owner)
    vault_of(run, collateral)
    price, token = price_of(run, custody, "custody"), price_of(run, collateral, "collateral_custody")
    limit, tokens = params.price_slippage, params.collateral_token_delta or 0
    run.check(price.usd <= limit if params.side == LONG else price.usd >= limit, "MaxPriceSlippage")
    growth = Growth(
        run,
        GrowthTerms(
            position=position,
            custody=custody,
            collateral=collateral,
            price=price,
            token=token,
            size_usd=params.size_usd_delta,
            collateral_tokens=tokens,
        ),
    )
    growth.check_capacity()
    growth.apply()
    if tokens:
        funding, vault = run.key("funding_account"), run.key("collateral_custody_token_account")
        run.instructions.append(transfer_tokens(funding, vault, owner, tokens))
    run.emit(
        InstantIncreasePositionEvent(
            position_key=run.key("position"),
            position_side=position.side,
            position_custody=position.custody,
            position_collateral_custody=position.collateral_custody,
            position_size_usd=position.size_usd,
            position_mint=custody.mint,
            owner=owner,
            pool=position.pool,
            size_usd_delta=params.size_usd_delta,
            collateral_usd_delta=growth.added_usd,
            collateral_token_delta=tokens,
            price=price.usd,
            price_slippage=limit,
            fee_token=growth.fee_tokens,
            fee_usd=growth.fee_usd,
            open_time=run.now,
            referral=None,
            position_fee_usd=growth.trade_fee.total,
            funding_fee_usd=growth.borrow_fee,
            price_impact_fee_usd=growth.trade_fee.impact,
        )
    )
    return _UNITS


def instant_decrease(run: Execution) -> int:
    """Run `instantDecreasePosition`: what is paid goes to the owner's account at once."""
    params = run.params(InstantDecreaseParams)
    settings, owner = perpetuals_of(run), run.key("owner")
    pool_of(run)
    _check_signed(run, params.request_time)
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    position = position_of(run)
    withdrawn = params.collateral_usd_delta
    check_decreasing_allowed(run, settings, custody, withdraws=withdrawn > 0)
    run.check(run.key("transfer_authority") == transfer_authority()[0], "ConstraintSeeds", "transfer_authority")
    run.check(run.key("desired_mint") == collateral.mint, "InvalidMint")
    run.token_account("receiving_account", mint=collateral.mint, owner=owner)
    held = vault_of(run, collateral)
    size = position.size_usd if params.entire_position else params.size_usd_delta
    run.check(0 < position.size_usd >= size and bool(size or withdrawn), "InvalidPositionState")
    price, token = price_of(run, custody, "custody").usd, price_of(run, collateral, "collateral_custody")
    limit = params.price_slippage
    run.check(price >= limit if position.side == LONG else price <= limit, "MaxPriceSlippage")
    sides = Sides(position=position, custody=custody, collateral=collateral, price=price, token=token, now=run.now)
    done = reduction(sides, size, withdrawn)
    check_what_is_left(run, sides, done)
    run.check(done.paid_tokens <= held, "InvalidCustodyBalance")
    before = dataclasses.replace(position)
    apply(sides, done)
    if done.paid_tokens:
        vault, receiver = run.key("collateral_custody_token_account"), run.key("receiving_account")
        run.instructions.append(transfer_tokens(vault, receiver, transfer_authority()[0], done.paid_tokens))
    run.emit(
        InstantDecreasePositionEvent(
            position_key=run.key("position"),
            position_side=position.side,
            position_custody=position.custody,
            position_collateral_custody=position.collateral_custody,
            position_size_usd=position.size_usd,
            position_mint=custody.mint,
            desired_mint=collateral.mint,
            has_profit=done.pnl > 0,
            pnl_delta=abs(done.pnl),
            owner=owner,
            pool=position.pool,
            size_usd_delta=size,
            transfer_amount_usd=done.paid,
            transfer_token=done.paid_tokens,
            price=price,
            price_slippage=limit,
            fee_usd=done.fee_usd,
            open_time=run.now,
            referral=None,
            position_fee_usd=done.fee.total,
            funding_fee_usd=done.borrow_fee,
            original_position_collateral_usd=before.collateral_usd,
            position_collateral_usd=position.collateral_usd,
            price_impact_fee_usd=done.fee.impact,
            position_open_time=position.open_time,
            position_price=before.price,
            position_request=None,
        )
    )
    return _UNITS
