"""What making a position larger does to it and to the pool, whoever asked for it."""

from __future__ import annotations

import msgspec

from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.layouts import Custody, Position
from router.localnet.jupiter.pricing import (
    BPS,
    LONG,
    Price,
    borrow_fee,
    cumulative_rate,
    mean_price,
    record_trade,
    trade_fee,
)

__all__ = ["Growth", "GrowthTerms"]


class GrowthTerms(msgspec.Struct, frozen=True, kw_only=True):
    """A position with its custodies, the prices of both tokens, and what is added: dollars (1e6), tokens native."""

    position: Position
    custody: Custody
    collateral: Custody
    price: Price
    token: Price
    size_usd: int
    collateral_tokens: int


class Growth:
    """An addition worked out.

    Args:
        run: the instruction, for its time and its refusals.
        terms: what is added to what.

    Attributes:
        trade_fee, borrow_fee, fee_usd: in dollars; the last is the sum.
        fee_tokens: the same in the collateral token, rounded up.
        added_usd: what the collateral that comes in is worth.
    """

    def __init__(self, run: Execution, terms: GrowthTerms) -> None:
        self._run = run
        self._terms = terms
        position, custody, collateral, size = terms.position, terms.custody, terms.collateral, terms.size_usd
        self._cumulative = cumulative_rate(collateral, run.now)
        self.trade_fee = trade_fee(custody, size, base_bps=custody.increase_position_bps, signed_usd=size, now=run.now)
        self.borrow_fee = borrow_fee(position, self._cumulative)
        self.fee_usd = self.trade_fee.total + self.borrow_fee
        self.fee_tokens = terms.token.tokens_up(self.fee_usd, collateral.decimals)
        self.added_usd = terms.token.value(terms.collateral_tokens, collateral.decimals)
        self._collateral_after = position.collateral_usd + self.added_usd - self.fee_usd
        self._size_after = position.size_usd + size
        backing, decimals = (
            (terms.price, custody.decimals) if position.side == LONG else (terms.token, collateral.decimals)
        )
        self._lock = backing.tokens_up(size, decimals)

    def check_capacity(self) -> None:
        """Refuse what the collateral, the position's limits or the pool cannot carry."""
        run, terms = self._run, self._terms
        assets, pricing = terms.collateral.assets, terms.custody.pricing
        run.check(self._size_after > 0, "InvalidPositionState")
        run.check(self._collateral_after > 0, "InvalidCollateralAmount")
        run.check(self._size_after * BPS <= self._collateral_after * pricing.max_leverage, "MaxLeverage")
        largest = terms.custody.max_position_size_usd
        run.check(not largest or self._size_after <= largest, "PersonalPoolAmountLimit")
        run.check(self._lock <= max(assets.owned - assets.locked, 0), "CustodyAmountLimit")
        if terms.position.side == LONG:
            held, cap = terms.custody.assets.guaranteed_usd, pricing.max_global_long_sizes
        else:
            held, cap = terms.custody.assets.global_short_sizes, pricing.max_global_short_sizes
        run.check(not terms.size_usd or held + terms.size_usd <= cap, "CustodyAmountLimit")

    def apply(self) -> None:
        """Change position and custodies; the tokens are moved by the caller."""
        terms, now = self._terms, self._run.now
        position, size = terms.position, terms.size_usd
        self._book_pool()
        if not position.size_usd:
            position.open_time = now
        if size:
            position.price = mean_price(position.side, position.size_usd, position.price, size, terms.price.usd)
        position.update_time = now
        position.collateral_usd = self._collateral_after
        position.size_usd += size
        position.locked_amount += self._lock
        position.cumulative_interest_snapshot = self._cumulative
        record_trade(terms.custody, size, now)

    def _book_pool(self) -> None:
        terms, size = self._terms, self._terms.size_usd
        assets, state = terms.collateral.assets, terms.collateral.funding_rate_state
        state.cumulative_interest_rate, state.last_update = self._cumulative, self._run.now
        assets.fees_reserves += self.fee_tokens
        assets.locked += self._lock
        if terms.position.side == LONG:
            # The collateral of a long is the pool's own token, and becomes part of the pool.
            assets.owned = max(assets.owned + terms.collateral_tokens - self.fee_tokens, 0)
            grown = self._collateral_after - terms.position.collateral_usd
            assets.guaranteed_usd = max(assets.guaranteed_usd + size - grown, 0)
        elif size:
            sums, price = terms.custody.assets, terms.price.usd
            sums.global_short_average_prices = mean_price(
                terms.position.side, sums.global_short_sizes, sums.global_short_average_prices or price, size, price
            )
            sums.global_short_sizes += size
