"""Executing a request that makes a position larger."""

from __future__ import annotations

import msgspec

from router.localnet.jupiter.events import IncreasePositionEvent
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.layouts import Custody, Position, PositionRequest
from router.localnet.jupiter.pricing import (
    BPS,
    LONG,
    Price,
    TradeFee,
    borrow_fee,
    cumulative_rate,
    mean_price,
    record_trade,
    trade_fee,
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
    subject = _Subject(position=position, custody=custody, collateral=collateral, price=price, token=token)
    growth = _Growth(run, request, subject)
    growth.check_capacity()
    growth.apply()
    request.executed = True
    run.emit(growth.event())
    return _UNITS


class _Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A position with its custodies and the prices of both tokens."""

    position: Position
    custody: Custody
    collateral: Custody
    price: Price
    token: Price


class _Growth:
    """What the request adds to the position and to the pool."""

    def __init__(self, run: Execution, request: PositionRequest, subject: _Subject) -> None:
        position, custody, collateral = subject.position, subject.custody, subject.collateral
        price, token = subject.price, subject.token
        self._run = run
        self._request = request
        self._position = position
        self._custody = custody
        self._collateral = collateral
        self._price = price
        self._token = token
        self._size = request.size_usd_delta
        self._cumulative = cumulative_rate(collateral, run.now)
        self._borrow_fee = borrow_fee(position, self._cumulative) if position.size_usd else 0
        self._trade_fee = self._fee()
        self._added_usd = token.value(request.collateral_delta, collateral.decimals)
        self._lock = token.tokens_up(self._size, collateral.decimals)
        if position.side == LONG:
            self._lock = price.tokens_up(self._size, custody.decimals)

    def _fee(self) -> TradeFee:
        custody, size = self._custody, self._size
        base = custody.increase_position_bps
        return trade_fee(custody, size, base_bps=base, signed_usd=size, now=self._run.now)

    @property
    def _fee_usd(self) -> int:
        return self._trade_fee.total + self._borrow_fee

    @property
    def _collateral_after(self) -> int:
        return self._position.collateral_usd + self._added_usd - self._fee_usd

    @property
    def _size_after(self) -> int:
        return self._position.size_usd + self._size

    def check_capacity(self) -> None:
        """Refuse what the collateral, the position's limits or the pool cannot carry."""
        run, assets, pricing = self._run, self._collateral.assets, self._custody.pricing
        run.check(self._collateral_after > 0, "InvalidCollateralAmount")
        leverage = self._size_after * BPS
        run.check(leverage <= self._collateral_after * pricing.max_leverage, "MaxLeverage")
        largest = self._custody.max_position_size_usd
        run.check(not largest or self._size_after <= largest, "PersonalPoolAmountLimit")
        run.check(self._lock <= max(assets.owned - assets.locked, 0), "CustodyAmountLimit")
        if self._position.side == LONG:
            held, cap = self._custody.assets.guaranteed_usd, pricing.max_global_long_sizes
        else:
            held, cap = self._custody.assets.global_short_sizes, pricing.max_global_short_sizes
        run.check(not self._size or held + self._size <= cap, "CustodyAmountLimit")

    def apply(self) -> None:
        """Change position and custodies."""
        run, position, now = self._run, self._position, self._run.now
        self._book_pool()
        if not position.size_usd:
            position.open_time = now
        if self._size:
            held = position.size_usd
            position.price = mean_price(position.side, held, position.price, self._size, self._price.usd)
        position.update_time = now
        position.collateral_usd = self._collateral_after
        position.size_usd += self._size
        position.locked_amount += self._lock
        position.cumulative_interest_snapshot = self._cumulative
        record_trade(self._custody, self._size, run.now)

    def _book_pool(self) -> None:
        assets, state = self._collateral.assets, self._collateral.funding_rate_state
        state.cumulative_interest_rate, state.last_update = self._cumulative, self._run.now
        fee_tokens = self._fee_tokens
        assets.fees_reserves += fee_tokens
        assets.locked += self._lock
        if self._position.side == LONG:
            # The collateral of a long is the pool's own token, and becomes part of the pool.
            assets.owned = max(assets.owned + self._request.collateral_delta - fee_tokens, 0)
            grown = self._collateral_after - self._position.collateral_usd
            assets.guaranteed_usd = max(assets.guaranteed_usd + self._size - grown, 0)
        elif self._size:
            sums = self._custody.assets
            held, held_price = sums.global_short_sizes, sums.global_short_average_prices
            sums.global_short_average_prices = mean_price(
                self._position.side, held, held_price or self._price.usd, self._size, self._price.usd
            )
            sums.global_short_sizes += self._size

    @property
    def _fee_tokens(self) -> int:
        return self._token.tokens_up(self._fee_usd, self._collateral.decimals)

    def event(self) -> IncreasePositionEvent:
        """Return what is emitted."""
        position, request, run = self._position, self._request, self._run
        return IncreasePositionEvent(
            position_key=run.key("position"),
            position_side=position.side,
            position_custody=position.custody,
            position_collateral_custody=position.collateral_custody,
            position_size_usd=position.size_usd,
            position_mint=self._custody.mint,
            position_request_key=run.key("position_request"),
            position_request_mint=request.mint,
            position_request_change=request.request_change,
            position_request_type=request.request_type,
            position_request_collateral_delta=request.collateral_delta,
            owner=request.owner,
            pool=request.pool,
            size_usd_delta=self._size,
            collateral_usd_delta=self._added_usd,
            collateral_token_delta=request.collateral_delta,
            price=self._price.usd,
            price_slippage=request.price_slippage,
            fee_token=self._fee_tokens,
            fee_usd=self._fee_usd,
            open_time=run.now,
            referral=request.referral,
            position_fee_usd=self._trade_fee.total,
            funding_fee_usd=self._borrow_fee,
            price_impact_fee_usd=self._trade_fee.impact,
        )
