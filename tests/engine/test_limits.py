"""The limits as functions: what is taken, what is refused, and by which of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base.errors import OracleDeviates, QuoteDeviates
from providers.base.prices import ReferencePrice
from providers.base.types import Quote, Side
from router.engine.limits import (
    LimitBreach,
    Limits,
    LimitUse,
    check_oracle,
    check_quote,
    deviation_bps,
    of_open,
    of_provider,
    use_of,
)
from router.ledger.records import Usage

NOW = datetime(2026, 1, 2, tzinfo=UTC)
USED = Usage(
    positions=3,
    day_usd=Decimal(900),
    markets={"SOL-PERP": Decimal(400), "BTC-PERP": Decimal(500)},
    providers={"alpha": Decimal(900)},
)


def quote(price: str, oracle: str = "100") -> Quote:
    """Return a quote with these two prices."""
    return Quote(
        provider="alpha",
        market="SOL-PERP",
        side=Side.LONG,
        size=Decimal(1),
        size_usd=Decimal(price),
        leverage=Decimal(1),
        oracle_price=Decimal(oracle),
        expected_price=Decimal(price),
        price_impact_bps=Decimal(0),
        fee_usd=Decimal(0),
        fee_bps=Decimal(0),
        carry_rate_1h=Decimal(0),
        margin_required_usd=Decimal(1),
        liquidation_price=None,
        max_leverage=Decimal(10),
        capacity_usd=None,
        slot=1,
        as_of=NOW,
        expires_at=NOW,
    )


def breach(limits: Limits, size_usd: str | None, market: str = "SOL-PERP") -> LimitBreach | None:
    """Return what an open of that size is told."""
    claim = of_open(limits, market, None if size_usd is None else Decimal(size_usd), NOW)
    if claim.check is None:
        return None
    said = claim.check(USED)
    assert said is None or isinstance(said, LimitBreach)
    return said


def test_without_limits_nothing_is_summed() -> None:
    """The claim is stored, and nothing is asked of the ledger: an open costs what it cost before."""
    claim = of_open(Limits(leverage=Decimal(1)), "SOL-PERP", Decimal(10), NOW)

    assert (claim.size_usd, claim.check, claim.day_began) == (Decimal(10), None, None)
    assert of_provider(Limits(provider_usd={"beta": Decimal(1)}), "alpha", Decimal(10)) is None


@pytest.mark.parametrize(
    ("limits", "size_usd", "limit"),
    [
        (Limits(market_usd=Decimal(500)), "100", None),
        (Limits(market_usd=Decimal(500)), "100.01", "market_usd"),
        (Limits(day_usd=Decimal(1000)), "100", None),
        (Limits(day_usd=Decimal(1000)), "100.01", "day_usd"),
        (Limits(positions=4), "1", None),
        (Limits(positions=3), "1", "positions"),
        (Limits(positions=3), None, "positions"),
        (Limits(positions=3, day_usd=Decimal(1), market_usd=Decimal(1)), "1", "positions"),
    ],
)
def test_a_limit_is_what_may_be_reached_and_not_passed(limits: Limits, size_usd: str, limit: str | None) -> None:
    """To the cent; the first that says no is named."""
    said = breach(limits, size_usd)

    assert (None if said is None else said.limit) == limit


def test_a_market_that_nobody_holds_has_all_its_room() -> None:
    """One market's limit says nothing about another's."""
    assert breach(Limits(market_usd=Decimal(500)), "500", "ETH-PERP") is None
    assert breach(Limits(market_usd=Decimal(500)), "1", "BTC-PERP") is not None


def test_a_breach_says_all_its_numbers() -> None:
    """Limit, what is used of it, what was asked: in the answer, and in one sentence."""
    said = breach(Limits(day_usd=Decimal(1000)), "150")

    assert said == LimitBreach(limit="day_usd", value=Decimal(1000), used=Decimal(900), asked=Decimal(150))
    assert str(said) == "day_usd is limited to 1000; 900 is used, 150 more was asked for"


def test_the_day_is_the_last_24_hours() -> None:
    """No hour at which twice as much can be opened."""
    assert of_open(Limits(day_usd=Decimal(1)), "SOL-PERP", Decimal(1), NOW).day_began == NOW - timedelta(hours=24)


def test_a_providers_limit_counts_what_is_held_there() -> None:
    """And nothing of the others."""
    limits = Limits(provider_usd={"alpha": Decimal(1000), "beta": Decimal(1000)})
    for provider, room in (("alpha", 100), ("beta", 1000)):
        for size, passes in ((room, True), (room + 1, False)):
            claim = of_provider(limits, provider, Decimal(size))
            assert claim is not None
            assert claim.check is not None
            assert (claim.check(USED) is None) is passes


@given(
    st.decimals(min_value="0.0001", max_value="1000000", places=4),
    st.decimals(min_value="0.0001", max_value="1000000", places=4),
)
def test_a_deviation_is_a_distance(price: Decimal, reference: Decimal) -> None:
    """Never negative, nothing only for the same price, and as far above as below."""
    away = deviation_bps(price, reference)

    assert away >= 0
    assert (away == 0) == (price == reference)
    assert deviation_bps(reference * 2 - price, reference) == away


@pytest.mark.parametrize(("price", "passes"), [("101", True), ("99", True), ("101.01", False), ("98.99", False)])
def test_a_quote_too_far_from_its_oracle_is_a_fault_either_way(price: str, *, passes: bool) -> None:
    """A price that is too good is no gift: one of the two is wrong."""
    limits = Limits(quote_deviation_bps=Decimal(100))
    check_quote(Limits(), quote(price))
    if passes:
        check_quote(limits, quote(price))
        return
    with pytest.raises(QuoteDeviates, match=r"101\.0 bps from the oracle's 100; at most 100"):
        check_quote(limits, quote(price))


@pytest.mark.parametrize("oracle", ["0", "-1"])
def test_a_quote_without_an_oracle_is_refused_where_it_is_to_be_compared(oracle: str) -> None:
    """Nothing can be shown by it."""
    with pytest.raises(QuoteDeviates):
        check_quote(Limits(quote_deviation_bps=Decimal(10_000)), quote("1", oracle))


@pytest.mark.parametrize(("oracle", "passes"), [("100.5", True), ("99.5", True), ("100.51", False), ("99.49", False)])
def test_an_oracle_too_far_from_the_independent_price_is_refused(oracle: str, *, passes: bool) -> None:
    """By the price itself: a wide confidence interval allows nothing more."""
    limits = Limits(oracle_deviation_bps=Decimal(50))
    reference = ReferencePrice(market="SOL-PERP", price=Decimal(100), confidence=Decimal(5), published_at=NOW)
    check_oracle(Limits(), quote("100", oracle), reference)
    if passes:
        check_oracle(limits, quote("100", oracle), reference)
        return
    with pytest.raises(OracleDeviates, match="alpha's oracle says"):
        check_oracle(limits, quote("100", oracle), reference)


def test_the_use_of_every_limit_is_told() -> None:
    """Each market and provider by its name; what has no limit is not there."""
    limits = Limits(
        day_usd=Decimal(1000), positions=5, market_usd=Decimal(600), provider_usd={"beta": Decimal(50)},
        leverage=Decimal(3),
    )  # fmt: skip

    assert use_of(limits, USED) == (
        LimitUse(limit="day_usd", scope=None, value=Decimal(1000), used=Decimal(900)),
        LimitUse(limit="positions", scope=None, value=Decimal(5), used=Decimal(3)),
        LimitUse(limit="market_usd", scope="BTC-PERP", value=Decimal(600), used=Decimal(500)),
        LimitUse(limit="market_usd", scope="SOL-PERP", value=Decimal(600), used=Decimal(400)),
        LimitUse(limit="provider_usd", scope="beta", value=Decimal(50), used=Decimal(0)),
    )
    assert use_of(Limits(), USED) == ()
