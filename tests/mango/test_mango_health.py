"""Health of an account, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from providers.mango.constants import ONE
from providers.mango.health import (
    HealthBook,
    HealthType,
    PricedBank,
    PricedPerp,
    after_order,
    health,
    health_allows,
    is_in_liquidation,
    liquidation_price,
    unrealized_pnl,
)
from providers.mango.layouts import read_bank, read_mango_account, read_perp_market
from tests.mango import mango_samples as samples
from tests.mango.mango_samples import Perp, fixed

# One base lot is 0.01 SOL; at $100 (0.1 native) it is worth one dollar, a million native.
DOLLAR = 10**6


def book(
    *,
    usdc: int = 1000 * DOLLAR,
    perps: Sequence[Perp] = (),
    price: str = "0.1",
    stable: float = 0.1,
    tokens: Sequence[tuple[int, int]] = (),
    overall: tuple[str, str] = ("1", "1"),
    sol: bytes | None = None,
    being_liquidated: bool = False,
    cumulative: tuple[int, int] = (0, 0),
) -> HealthBook:
    """Return an account with dollars, perp slots in one market at a price, and perhaps another token at $100."""
    account = samples.account_bytes(tokens=[(0, usdc * ONE), *tokens], perps=perps, being_liquidated=being_liquidated)
    market = read_perp_market(samples.market_bytes(stable=stable, overall=overall, cumulative=cumulative))
    banks = {0: PricedBank(read_bank(samples.bank_bytes()), ONE)}
    if sol is not None:
        banks[4] = PricedBank(read_bank(sol), fixed(price))
    return HealthBook(
        account=read_mango_account(account), banks=banks, perps={2: PricedPerp(market, fixed(price))}, now=1000
    )


def usd(raw: int) -> Decimal:
    """Return health in dollars to a thousandth."""
    return round(Decimal(raw) / ONE / DOLLAR, 3)


def test_dollars_count_in_full() -> None:
    """An account that only holds dollars is worth them."""
    assert health(book(), HealthType.INIT) == 1000 * DOLLAR * ONE


def test_a_long_counts_with_its_asset_weight() -> None:
    """1,000 lots bought for $1,000: 0.9 of $1,000 against a debt of $1,000 leaves $900 of $1,000."""
    held = book(perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE)])
    assert usd(health(held, HealthType.INIT)) == 900
    assert usd(health(held, HealthType.MAINT)) == 950


def test_a_short_counts_with_its_liability_weight() -> None:
    """1,000 lots sold for $1,000: a debt of 1.1 times $1,000 against $1,000 leaves $900 of $1,000."""
    held = book(perps=[Perp(market=2, base=-1000, quote=1000 * DOLLAR * ONE)])
    assert usd(health(held, HealthType.INIT)) == 900
    assert usd(health(held, HealthType.MAINT)) == 950


def test_initial_health_takes_the_worse_of_oracle_and_stable_price() -> None:
    """A long is valued at the lower price, a short at the higher one; for keeping only the oracle counts."""
    long = book(perps=[Perp(market=2, base=1000)], stable=0.08)
    assert usd(health(long, HealthType.INIT)) == 1000 + 720
    assert usd(health(long, HealthType.MAINT)) == 1000 + 950
    assert usd(health(long, HealthType.LIQUIDATION_END)) == 1000 + 900
    short = book(perps=[Perp(market=2, base=-100)], stable=0.12)
    assert usd(health(short, HealthType.INIT)) == 1000 - 132


def test_fills_that_wait_count_as_held() -> None:
    """Taker amounts wait in the event queue and are part of the position already."""
    waiting = book(perps=[Perp(market=2, taker_base=1000, taker_quote=-10_000_000)])
    assert usd(health(waiting, HealthType.INIT)) == 900


def test_resting_orders_count_by_their_worse_side() -> None:
    """500 lots bid above a long of 1,000 cost 0.1 of their $500; asks up to the position cost nothing."""
    bids = book(perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE, bids=500)])
    assert usd(health(bids, HealthType.INIT)) == 850
    asks = book(perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE, asks=500)])
    assert usd(health(asks, HealthType.INIT)) == 900
    flipping = book(perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE, asks=2500)])
    assert usd(health(flipping, HealthType.INIT)) == 850


def test_funding_that_is_owed_counts() -> None:
    """A long owes what the long index has grown by, per lot; a short receives it."""
    per_lot = fixed(1000)
    long = book(perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE)], cumulative=(per_lot, per_lot))
    assert usd(health(long, HealthType.INIT)) == 899
    short = book(perps=[Perp(market=2, base=-1000, quote=1000 * DOLLAR * ONE)], cumulative=(per_lot, per_lot))
    assert usd(health(short, HealthType.INIT)) == 901
    assert usd(unrealized_pnl(long.account.perps[0], long.perps[2])) == -1
    assert usd(unrealized_pnl(short.account.perps[0], short.perps[2])) == 1


def test_profit_counts_with_the_markets_overall_weight() -> None:
    """A profit of $100 counts for half where the market is trusted for half; a loss always counts in full."""
    gain = book(perps=[Perp(market=2, quote=100 * DOLLAR * ONE)], overall=("1", "0.5"))
    assert usd(health(gain, HealthType.INIT)) == 1050
    assert usd(health(gain, HealthType.MAINT)) == 1100
    loss = book(perps=[Perp(market=2, quote=-100 * DOLLAR * ONE)], overall=("1", "0.5"))
    assert usd(health(loss, HealthType.INIT)) == 900


def test_other_tokens_count_with_their_weights() -> None:
    """10 SOL at $100 count 0.8 as collateral, and 1.25 as a debt."""
    bank = samples.bank_bytes(token=4, decimals=9, stable=0.1, weights=("0.9", "0.8", "1.1", "1.25"))
    deposit = book(sol=bank, tokens=[(4, 10 * 10**9 * ONE)])
    assert usd(health(deposit, HealthType.INIT)) == 1800
    assert usd(health(deposit, HealthType.MAINT)) == 1900
    debt = book(sol=bank, tokens=[(4, -10 * 10**9 * ONE)])
    assert usd(health(debt, HealthType.INIT)) == -250
    assert usd(health(debt, HealthType.MAINT)) == -100


def test_large_deposits_count_for_less() -> None:
    """Twice the deposits that count in full halve the weight; borrows above their start raise theirs."""
    bank = samples.bank_bytes(
        token=4,
        decimals=9,
        stable=0.1,
        weights=("0.9", "0.8", "1.1", "1.25"),
        totals=(2000 * 10**9, 1000 * 10**9),
        scale_start=(50_000.0 * DOLLAR, 100_000.0 * DOLLAR),
    )
    deposit = book(sol=bank, tokens=[(4, 10 * 10**9 * ONE)])
    assert usd(health(deposit, HealthType.INIT)) == 1400
    assert usd(health(deposit, HealthType.MAINT)) == 1900
    debt = book(sol=bank, tokens=[(4, -(10**9) * ONE)])
    assert usd(health(debt, HealthType.INIT)) == 750


def test_a_token_without_a_usable_price_counts_for_nothing_unless_owed() -> None:
    """Such a token is left out of the book; a debt in it cannot be left out."""
    assert usd(health(book(tokens=[(4, 10**9 * ONE)]), HealthType.INIT)) == 1000
    with pytest.raises(KeyError):
        health(book(tokens=[(4, -(10**9) * ONE)]), HealthType.INIT)


def test_an_order_that_is_not_placed_yet() -> None:
    """Buying 1,000 lots for $1,001 with a fee of $0.60 costs $101.60 of initial health, in a new slot."""
    before = book()
    after = after_order(before, 2, base_lots=1000, quote_lots=10_010_000, fee=600_000 * ONE)
    assert usd(health(before, HealthType.INIT) - health(after, HealthType.INIT)) == Decimal("101.6")
    closed = after_order(after, 2, base_lots=-1000, quote_lots=-10_010_000, fee=0)
    assert usd(health(closed, HealthType.INIT)) == Decimal("999.4")
    assert [each.market_index for each in closed.account.active_perps] == [2]


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        (5 * ONE, 0, True),
        (5 * ONE, -1, False),
        (-1, -1, True),
        (-2000 * ONE, -2000 * ONE, True),
        (-2000 * ONE, -2000 * ONE - 1, True),
        (-2000 * ONE, -2001 * ONE, False),
        (-1001 * ONE, -1000 * ONE, True),
        (-999 * ONE, -999 * ONE - 1, False),
    ],
)
def test_what_health_allows(before: int, after: int, *, allowed: bool) -> None:
    """Health ends at zero or above or does not get worse; well below zero it is compared in whole units."""
    assert health_allows(before, after) is allowed


def test_liquidation_price_of_a_long() -> None:
    """$200 behind 1,000 lots bought at $100: 950 p + 200 - 1000 = 0 at p = 0.8421 of the price."""
    held = book(usdc=200 * DOLLAR, perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE)])
    price = liquidation_price(held, 2)
    assert price is not None
    assert abs(Decimal(price) / ONE - Decimal("0.1") * 800 / 950) < Decimal("0.0000002")


def test_liquidation_price_of_a_short() -> None:
    """$200 behind 1,000 lots sold at $100: 1200 - 1050 p = 0 at p = 1.1429 of the price."""
    held = book(usdc=200 * DOLLAR, perps=[Perp(market=2, base=-1000, quote=1000 * DOLLAR * ONE)])
    price = liquidation_price(held, 2)
    assert price is not None
    assert abs(Decimal(price) / ONE - Decimal("0.1") * 1200 / 1050) < Decimal("0.0000002")


def test_there_may_be_no_liquidation_price() -> None:
    """None without a position, or where the collateral covers every price; now, where it is reached already."""
    assert liquidation_price(book(), 2) is None
    assert liquidation_price(book(perps=[Perp(market=2, base=1000, quote=-900 * DOLLAR * ONE)]), 2) is None
    under = book(usdc=1, perps=[Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE)])
    assert liquidation_price(under, 2) == fixed("0.1")


def test_a_liquidation_ends_by_itself() -> None:
    """The flag alone does not hold an account: with its health back the program lets it trade."""
    assert not is_in_liquidation(book(being_liquidated=True))
    poor = [Perp(market=2, base=1000, quote=-1000 * DOLLAR * ONE)]
    assert is_in_liquidation(book(usdc=50 * DOLLAR, perps=poor, being_liquidated=True))
    assert not is_in_liquidation(book(usdc=50 * DOLLAR, perps=poor))
