"""What making a position smaller does to it and to the pool, whoever asked for it."""

from __future__ import annotations

import msgspec

from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.layouts import Custody, Position
from router.localnet.jupiter.pricing import (
    BPS,
    LONG,
    Price,
    TradeFee,
    borrow_fee,
    cumulative_rate,
    profit,
    record_trade,
    trade_fee,
)

__all__ = ["Reduction", "Sides", "apply", "check_what_is_left", "is_liquidatable", "reduction"]


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """A position with its custodies and the prices of both tokens; `price` is the trade's, in dollars (1e6)."""

    position: Position
    custody: Custody
    collateral: Custody
    price: int
    token: Price
    now: int


class Reduction(msgspec.Struct, frozen=True, kw_only=True):
    """A reduction worked out: dollars (1e6), tokens native.

    Attributes:
        pnl: realised; negative a loss.
        collateral: of the position afterwards; negative where it does not carry the loss.
        paid, paid_tokens: what leaves the pool for the owner.
    """

    size: int
    pnl: int
    fee: TradeFee
    borrow_fee: int
    cumulative: int
    collateral: int
    paid: int
    paid_tokens: int

    @property
    def fee_usd(self) -> int:
        """All fees."""
        return self.fee.total + self.borrow_fee


def reduction(sides: Sides, size: int, withdrawn: int) -> Reduction:
    """Return what closing `size` of a position and withdrawing so many dollars of its collateral comes to.

    A profit is paid out, a loss taken from the collateral; the fee comes out of what is paid, or of the collateral
    where that is not enough. On a full close everything that is left is paid.
    """
    position, custody = sides.position, sides.custody
    fee = trade_fee(custody, size, base_bps=custody.decrease_position_bps, signed_usd=-size, now=sides.now)
    cumulative = cumulative_rate(sides.collateral, sides.now)
    owed = borrow_fee(position, cumulative)
    pnl = profit(position, size, sides.price)
    left, paid = position.collateral_usd + min(pnl, 0), max(pnl, 0)
    if size == position.size_usd:
        paid, left = max(paid + left, 0), 0
    else:
        paid, left = paid + withdrawn, left - withdrawn
    total = fee.total + owed
    if paid >= total or size == position.size_usd:
        paid = max(paid - total, 0)
    else:
        left -= total
    tokens = sides.token.tokens(paid, sides.collateral.decimals)
    return Reduction(
        size=size,
        pnl=pnl,
        fee=fee,
        borrow_fee=owed,
        cumulative=cumulative,
        collateral=left,
        paid=paid,
        paid_tokens=tokens,
    )


def is_liquidatable(sides: Sides) -> bool:
    """Tell whether what a full close would leave is at most the maintenance margin (size over largest leverage)."""
    position = sides.position
    closed = reduction(sides, position.size_usd, 0)
    left = position.collateral_usd + closed.pnl - closed.fee_usd
    maximum = sides.custody.pricing.max_leverage
    return left * maximum <= position.size_usd * BPS


def check_what_is_left(run: Execution, sides: Sides, done: Reduction) -> None:
    """Refuse to leave a position that its collateral does not carry."""
    left = sides.position.size_usd - done.size
    if left:
        run.check(done.collateral > 0, "InvalidCollateralAmount")
        run.check(left * BPS <= done.collateral * sides.custody.pricing.max_leverage, "MaxLeverage")


def apply(sides: Sides, done: Reduction) -> None:
    """Change position and custodies; the tokens are moved by the caller."""
    position, custody, collateral = sides.position, sides.custody, sides.collateral
    assets, state = collateral.assets, collateral.funding_rate_state
    state.cumulative_interest_rate, state.last_update = done.cumulative, sides.now
    fee_tokens = sides.token.tokens_up(done.fee_usd, collateral.decimals)
    unlocked = position.locked_amount * done.size // position.size_usd
    assets.fees_reserves += fee_tokens
    assets.locked = max(assets.locked - unlocked, 0)
    if position.side == LONG:
        # A long's collateral is part of the pool, so that whatever is paid comes out of it.
        assets.owned = max(assets.owned - done.paid_tokens - fee_tokens, 0)
        returned = position.collateral_usd - max(done.collateral, 0)
        assets.guaranteed_usd = max(assets.guaranteed_usd - done.size + returned, 0)
    else:
        # A short's collateral is not: the pool gains or gives whatever of it is not left, paid or a fee.
        gained = position.collateral_usd - max(done.collateral, 0) - done.paid - done.fee_usd
        assets.owned = max(assets.owned + sides.token.tokens(gained, collateral.decimals), 0)
        custody.assets.global_short_sizes = max(custody.assets.global_short_sizes - done.size, 0)
    position.size_usd -= done.size
    position.locked_amount -= unlocked
    position.collateral_usd = max(done.collateral, 0)
    position.cumulative_interest_snapshot = done.cumulative
    position.update_time = sides.now
    record_trade(custody, -done.size, sides.now)
