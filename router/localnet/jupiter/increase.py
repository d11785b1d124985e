"""Executing a request that makes a position larger."""

from __future__ import annotations

from router.localnet.jupiter.events import IncreasePositionEvent
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.growth import Growth, GrowthTerms
from router.localnet.jupiter.layouts import PositionRequest
from router.localnet.jupiter.pricing import (
    LONG,
)
from router.localnet.jupiter.venue import (
    INCREASE,
    MARKET,
    check_increasing_allowed,
    check_request,
    custody_of,
    perpetuals_of,
    pool_of,
    position_of,
    price_of,
    vault_of,
)
from router.localnet.spl import transfer_tokens

__all__ = ["INCREASE_POSITION", "increase_position"]

INCREASE_POSITION = (
    "keeper:s perpetuals pool:w position_request:w position_request_ata:w position:w custody:w "
    "custody_doves_price_account custody_pythnet_price_account collateral_custody:w "
    "collateral_custody_doves_price_account collateral_custody_pythnet_price_account "
    "collateral_custody_token_account:w token_program event_authority program"
)

_UNITS = 100_000


def increase_position(run: Execution) -> int:
    """Run `increasePosition4`: the escrow's collateral goes into the vault, the position grows at the oracle's price.

    Size is bought without a spread; the fee is taken from the collateral.
    """
    settings, pool = perpetuals_of(run), pool_of(run)
    run.check(run.is_keeper("keeper"), "InvalidKeeper")
    request = run.load(PositionRequest, "position_request")
    check_request(run, request)
    custody, collateral = custody_of(run, "custody"), custody_of(run, "collateral_custody")
    position = position_of(run, owner=False)
    key, escrow = run.key("position_request"), run.key("position_request_ata")
    run.check(request.request_change == INCREASE, "InvalidPositionRequest")
    run.check(request.request_type == MARKET, "InvalidRequestType")
    run.check(not request.executed, "InvalidPositionRequest")
    run.check(run.now <= request.open_time + pool.max_request_execution_sec, "ExceedExecutionPeriod")
    run.check(request.mint == collateral.mint, "InvalidMint")
    held = run.token_account("position_request_ata", mint=request.mint, owner=key)
    run.check(held >= request.collateral_delta, "InsufficientTokenAmount")
    vault_of(run, collateral)
    check_increasing_allowed(run, settings, custody)
    price, token = price_of(run, custody, "custody"), price_of(run, collateral, "collateral_custody")
    limit = request.price_slippage
    if limit is None:
        raise run.refuse("MissingPriceSlippage")
    run.check(price.usd <= limit if request.side == LONG else price.usd >= limit, "MaxPriceSlippage")
    if request.collateral_delta:
        vault = run.key("collateral_custody_token_account")
        run.instructions.append(transfer_tokens(escrow, vault, key, request.collateral_delta))
    growth = Growth(
        run,
        GrowthTerms(
            position=position,
            custody=custody,
            collateral=collateral,
            price=price,
            token=token,
            size_usd=request.size_usd_delta,
            collateral_tokens=request.collateral_delta,
        ),
    )
    growth.check_capacity()
    growth.apply()
    request.executed = True
    run.emit(
        IncreasePositionEvent(
            position_key=run.key("position"),
            position_side=position.side,
            position_custody=position.custody,
            position_collateral_custody=position.collateral_custody,
            position_size_usd=position.size_usd,
            position_mint=custody.mint,
            position_request_key=key,
            position_request_mint=request.mint,
            position_request_change=request.request_change,
            position_request_type=request.request_type,
            position_request_collateral_delta=request.collateral_delta,
            owner=request.owner,
            pool=request.pool,
            size_usd_delta=request.size_usd_delta,
            collateral_usd_delta=growth.added_usd,
            collateral_token_delta=request.collateral_delta,
            price=price.usd,
            price_slippage=limit,
            fee_token=growth.fee_tokens,
            fee_usd=growth.fee_usd,
            open_time=run.now,
            referral=request.referral,
            position_fee_usd=growth.trade_fee.total,
            funding_fee_usd=growth.borrow_fee,
            price_impact_fee_usd=growth.trade_fee.impact,
        )
    )
    return _UNITS
