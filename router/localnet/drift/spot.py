"""Balances of a spot market: scaled amounts, interest, averages, withdrawal limits.

Token amounts in the token's smallest unit, scaled balances in 1e9, interest in 1e10.
"""

from __future__ import annotations

from router.localnet.drift.averages import new_average, sanitized, weighted_average
from router.localnet.drift.enums import BalanceType
from router.localnet.drift.events import spot_interest_record
from router.localnet.drift.execution import Execution
from router.localnet.drift.layouts import SpotPosition, User
from router.localnet.drift.market_layouts import PoolBalance, SpotMarket
from router.localnet.drift.numbers import FIVE_MINUTES, ONE_DAY, ONE_HOUR, PERCENTAGE_PRECISION, ceil_div
from router.localnet.drift.oracles import OraclePrice

__all__ = [
    "PoolHolder",
    "accrue_interest",
    "change_balance",
    "check_vault",
    "check_withdraw_limits",
    "max_withdrawal",
    "pool_tokens",
    "signed_tokens",
    "token_amount",
    "transfer_between_pools",
]

_ONE_YEAR = 31_536_000
_SPOT_CLAMP = (10, 10, 5, 3, 3)
"""By asset tier."""


class PoolHolder:
    """A pool looks like a position that is always a deposit."""

    def __init__(self, pool: PoolBalance) -> None:
        self.pool = pool
        self.balance_type: int = BalanceType.DEPOSIT

    @property
    def scaled_balance(self) -> int:
        """The pool's scaled balance."""
        return self.pool.scaled_balance

    @scaled_balance.setter
    def scaled_balance(self, value: int) -> None:
        self.pool.scaled_balance = value


def _interest(market: SpotMarket, kind: int) -> int:
    return market.cumulative_deposit_interest if kind == BalanceType.DEPOSIT else market.cumulative_borrow_interest


def _unit(market: SpotMarket) -> int:
    return int(10 ** (19 - market.decimals))


def token_amount(market: SpotMarket, scaled: int, kind: int) -> int:
    """Return the tokens of a scaled balance; deposits round down, borrows up."""
    product = scaled * _interest(market, kind)
    return product // _unit(market) if kind == BalanceType.DEPOSIT else ceil_div(product, _unit(market))


def signed_tokens(market: SpotMarket, position: SpotPosition) -> int:
    """Return the tokens of a position, negative for a borrow."""
    amount = token_amount(market, position.scaled_balance, position.balance_type)
    return amount if position.balance_type == BalanceType.DEPOSIT else -amount


def pool_tokens(market: SpotMarket, pool: PoolBalance) -> int:
    """Return the tokens of a pool."""
    return token_amount(market, pool.scaled_balance, BalanceType.DEPOSIT)


def _scaled(market: SpotMarket, tokens: int, kind: int, *, round_up: bool) -> int:
    balance = tokens * _unit(market) // _interest(market, kind)
    return balance + 1 if round_up and balance != 0 else balance


def _add_to_market(market: SpotMarket, scaled: int, kind: int) -> None:
    if kind == BalanceType.DEPOSIT:
        market.deposit_balance += scaled
    else:
        market.borrow_balance += scaled


def change_balance(
    run: Execution,
    market: SpotMarket,
    holder: SpotPosition | PoolHolder,
    tokens: int,
    direction: BalanceType,
    *,
    leaves: bool = False,
) -> None:
    """Deposit into or borrow from a balance; a borrow first uses up the deposit, and the other way round.

    Args:
        run: for refusals.
        market: its sums change too.
        holder: position or pool.
        tokens: amount, not negative.
        direction: deposit or borrow.
        leaves: the tokens leave the exchange (rounded against the holder, and deposits must cover borrows).
    """
    if direction == holder.balance_type:
        delta = _scaled(market, tokens, direction, round_up=direction == BalanceType.BORROW)
        holder.scaled_balance += delta
        _add_to_market(market, delta, direction)
    else:
        kind = holder.balance_type
        current = token_amount(market, holder.scaled_balance, kind)
        if current != 0:
            taken, delta = current, holder.scaled_balance
            if current > tokens:
                taken = tokens
                delta = _scaled(market, tokens, kind, round_up=leaves or kind == BalanceType.BORROW)
            _add_to_market(market, -delta, kind)
            holder.scaled_balance -= delta
            tokens -= taken
        if tokens > 0:
            run.check(not isinstance(holder, PoolHolder), "DefaultError")
            holder.balance_type = direction
            delta = _scaled(market, tokens, direction, round_up=direction == BalanceType.BORROW)
            holder.scaled_balance += delta
            _add_to_market(market, delta, direction)
    if leaves and direction == BalanceType.BORROW:
        deposits = token_amount(market, market.deposit_balance, BalanceType.DEPOSIT)
        borrows = token_amount(market, market.borrow_balance, BalanceType.BORROW)
        run.check(deposits >= borrows, "SpotMarketInsufficientDeposits")


def transfer_between_pools(
    run: Execution, market: SpotMarket, source: PoolBalance, target: PoolBalance, tokens: int
) -> None:
    """Move tokens from one pool of a perpetual market to the other."""
    if tokens:
        change_balance(run, market, PoolHolder(source), tokens, BalanceType.BORROW)
        change_balance(run, market, PoolHolder(target), tokens, BalanceType.DEPOSIT)


def _utilization(market: SpotMarket) -> tuple[int, int, int]:
    """Return deposits, borrows, and the lent part (1e6)."""
    deposits = token_amount(market, market.deposit_balance, BalanceType.DEPOSIT)
    borrows = token_amount(market, market.borrow_balance, BalanceType.BORROW)
    if deposits == 0:
        return deposits, borrows, 0 if borrows == 0 else PERCENTAGE_PRECISION
    return deposits, borrows, borrows * PERCENTAGE_PRECISION // deposits


def _accumulated(market: SpotMarket, now: int) -> tuple[int, int]:
    """Return what deposits and borrows have earned and owed since the last time (1e10)."""
    _, _, used = _utilization(market)
    if used == 0:
        return 0, 0
    if used > market.optimal_utilization:
        rest = PERCENTAGE_PRECISION - market.optimal_utilization
        slope = (market.max_borrow_rate - market.optimal_borrow_rate) * PERCENTAGE_PRECISION // rest
        surplus = used - market.optimal_utilization
        rate = market.optimal_borrow_rate + surplus * slope // PERCENTAGE_PRECISION
    else:
        slope = market.optimal_borrow_rate * PERCENTAGE_PRECISION // market.optimal_utilization
        rate = used * slope // PERCENTAGE_PRECISION
    rate = max(rate, market.min_borrow_rate * (PERCENTAGE_PRECISION // 200))
    borrow_rate = rate * (now - market.last_interest_ts)
    deposit_rate = borrow_rate * used // PERCENTAGE_PRECISION
    deposit = market.cumulative_deposit_interest * deposit_rate // _ONE_YEAR // PERCENTAGE_PRECISION
    borrow = market.cumulative_borrow_interest * borrow_rate // _ONE_YEAR // PERCENTAGE_PRECISION + 1
    return deposit, borrow


def accrue_interest(run: Execution, market: SpotMarket, quote: OraclePrice | None) -> None:
    """Bring interest and averages up to now; the oracle's averages only when its price is given."""
    deposit, borrow = _accumulated(market, run.now)
    if deposit > 0 and borrow > 1:
        stakers = deposit * market.insurance_fund.total_factor // PERCENTAGE_PRECISION
        if deposit - stakers > 0:
            market.cumulative_deposit_interest += deposit - stakers
            market.cumulative_borrow_interest += borrow
            market.last_interest_ts = run.now
            revenue = market.deposit_balance * stakers // _unit(market)
            change_balance(run, market, PoolHolder(market.revenue_pool), revenue, BalanceType.DEPOSIT)
            run.emit(spot_interest_record(run.now, market))
    _update_averages(market, run.now, quote)


def _update_averages(market: SpotMarket, now: int, quote: OraclePrice | None) -> None:
    elapsed = max(0, now - market.last_twap_ts)
    rest = max(1, ONE_DAY - elapsed)
    deposits, borrows, used = _utilization(market)
    market.deposit_token_twap = weighted_average(deposits, market.deposit_token_twap, elapsed, rest)
    market.borrow_token_twap = weighted_average(borrows, market.borrow_token_twap, elapsed, rest)
    market.utilization_twap = weighted_average(used, market.utilization_twap, elapsed, rest)
    data = market.historical_oracle_data
    if quote is not None:
        capped = sanitized(quote.price, data.last_oracle_price_twap, _SPOT_CLAMP[market.asset_tier])
        then = data.last_oracle_price_twap_ts
        hourly = new_average(capped, now, data.last_oracle_price_twap, then, ONE_HOUR)
        five_minutes = new_average(capped, now, data.last_oracle_price_twap_5min, then, FIVE_MINUTES)
        data.last_oracle_price_twap, data.last_oracle_price_twap_5min = hourly, five_minutes
        data.last_oracle_price, data.last_oracle_conf = quote.price, quote.confidence
        data.last_oracle_delay, data.last_oracle_price_twap_ts = quote.delay, now
    market.last_twap_ts = now


class _Limits:
    """How far deposits may fall and borrows may rise at once."""

    def __init__(self, market: SpotMarket) -> None:
        self.deposits, self.borrows, _ = _utilization(market)
        guard = market.withdraw_guard_threshold
        average = market.deposit_token_twap
        half_rest = max(PERCENTAGE_PRECISION - market.utilization_twap, 0) // 2
        top = max(market.optimal_utilization, market.utilization_twap + half_rest)
        by_use = min(self.borrows * PERCENTAGE_PRECISION // top, max(self.deposits - guard, 0))
        self.least_deposits = max(average - max(average // 4, min(guard, average)), by_use)
        lesser = min(self.deposits, average)
        by_average = max(guard, min(max(lesser // 6, market.borrow_token_twap + lesser // 10), lesser - lesser // 5))
        self.most_borrows = min(by_average, max(top * self.deposits // PERCENTAGE_PRECISION, guard))


def check_withdraw_limits(run: Execution, market: SpotMarket, user: User, tokens: int) -> None:
    """Refuse a withdrawal that drains the market too fast, but for a small user's own deposit."""
    limits = _Limits(market)
    position = user.spot_positions[0]
    valid = limits.deposits >= limits.least_deposits
    if position.balance_type == BalanceType.BORROW:
        valid = valid and limits.borrows <= limits.most_borrows
    if not valid and position.balance_type == BalanceType.DEPOSIT and position.cumulative_deposits >= 0:
        held = token_amount(market, position.scaled_balance, position.balance_type)
        small = held + tokens < market.withdraw_guard_threshold // 10
        valid = user.total_deposits >= user.total_withdraws and small
    run.check(valid, "DailyWithdrawLimit")


def max_withdrawal(market: SpotMarket, tokens: int) -> int:
    """Return the most that an account with `tokens` (negative: owed) can be charged inside the exchange."""
    limits = _Limits(market)
    guard, average = market.withdraw_guard_threshold, market.deposit_token_twap
    lesser = min(limits.deposits, average)
    most_borrows = max(guard, min(max(lesser // 6, market.borrow_token_twap + lesser // 10), lesser - lesser // 5))
    free = max(limits.deposits - limits.borrows, 0)
    return max(tokens, 0) + min(max(most_borrows - limits.borrows, 0), free)


def check_vault(run: Execution, market: SpotMarket, vault_tokens: int) -> None:
    """Refuse when the vault holds less than depositors may claim."""
    deposits, borrows, _ = _utilization(market)
    run.check(pool_tokens(market, market.revenue_pool) <= deposits, "SpotMarketVaultInvariantViolated")
    run.check(vault_tokens >= deposits - borrows, "SpotMarketVaultInvariantViolated")
