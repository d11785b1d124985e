"""Cases of markets, state and quotes: what a venue says of itself."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.errors import (
    BelowMinimum,
    ConnectionFailed,
    ErrorClass,
    InvalidSize,
    LeverageAboveMaximum,
    NotListed,
    OracleStale,
    Phase,
    ProviderError,
    VenueHalted,
)
from providers.base.types import Lifecycle, Market, OrderKind, OutcomeState, QuoteTerms, Side
from tests.conformance.bench import Bench, Feature
from tests.conformance.cases import case

STALE_SLOTS = 600


def near(price: Decimal | None, wanted: Decimal) -> bool:
    """Whether a price is the oracle's, as exact as the venue's own numbers are."""
    return price is not None and abs(price / wanted - 1) < Decimal("0.0001")


async def listed(bench: Bench) -> Market:
    """Return the market that the cases trade."""
    (market,) = (each for each in await bench.provider.markets() if each.symbol == bench.market)
    return market


@case(1)
async def markets_say_what_can_be_traded(bench: Bench) -> None:
    """Every market has a step, a smallest order of whole steps, a tick, margins and a price."""
    markets = await bench.provider.markets()
    assert len({each.symbol for each in markets}) == len(markets) > 0
    for market in markets:
        assert market.provider == bench.provider.name == bench.provider_name
        assert market.symbol.endswith("-PERP")
        assert market.step_size > 0
        assert market.tick_size > 0
        assert market.min_size >= market.step_size
        assert market.min_size % market.step_size == 0
        assert 0 < market.maintenance_margin_ratio < market.initial_margin_ratio <= 1
        assert 1 <= market.max_leverage <= 1 / market.initial_margin_ratio
        assert market.lifecycle is Lifecycle.LIVE
    assert near((await listed(bench)).oracle_price, bench.price)


@case(2)
async def lifecycle_is_read_from_the_chain(bench: Bench) -> None:
    """A market that takes reductions only says so as soon as the chain does, and is live again with it."""
    bench.venue.reduce_only()
    await bench.slots(150)
    assert (await listed(bench)).lifecycle is Lifecycle.REDUCE_ONLY
    bench.venue.reduce_only(on=False)
    await bench.slots(150)
    assert (await listed(bench)).lifecycle is Lifecycle.LIVE


@case(3)
async def unknown_markets_are_not_listed(bench: Bench) -> None:
    """A market that the venue has not is refused as `not_listed`, in quote and order alike."""
    with pytest.raises(NotListed) as quoted:
        await bench.provider.quote(QuoteTerms(market="DOGE-PERP", side=Side.LONG, size=Decimal(1)))
    assert quoted.value.phase is Phase.NOT_SENT
    assert quoted.value.error_class.allows_next_provider


@case(4)
async def state_is_live_with_capacity(bench: Bench) -> None:
    """A venue that works is live, as of a slot, with what each market takes on each side."""
    state = await bench.provider.state()
    assert (state.provider, state.lifecycle) == (bench.provider_name, Lifecycle.LIVE)
    assert state.slot > 0
    sides = {each.side: each.capacity_usd for each in state.capacity if each.market == bench.market}
    assert set(sides) == set(Side)
    assert all(usd is None or usd > 0 for usd in sides.values())


@case(5, Feature.HALT)
async def halted_programs_are_halted(bench: Bench) -> None:
    """A program that answers nothing is halted in state, markets, quote, open and close, and live again after it."""
    await bench.open()
    bench.venue.halt()
    await bench.slots(150)
    assert (await bench.provider.state()).lifecycle is Lifecycle.HALTED
    assert (await listed(bench)).lifecycle is Lifecycle.HALTED
    terms, closing = await bench.terms(), await bench.terms(kind=OrderKind.CLOSE)
    for refused in (bench.quote(), bench.provider.prepare_open(terms), bench.provider.prepare_close(closing)):
        with pytest.raises(VenueHalted) as halted:
            await refused
        assert (halted.value.phase, halted.value.raw_code) == (Phase.NOT_SENT, "101")
    bench.venue.halt(on=False)
    await bench.slots(150)
    assert (await bench.provider.state()).lifecycle is Lifecycle.LIVE


@case(6)
async def sizes_are_rounded_down(bench: Bench) -> None:
    """A size between two steps is the lower one, in quote, submission and fill, and that counts as full."""
    step = (await listed(bench)).step_size
    wanted = bench.venue.uneven // step * step
    assert wanted < bench.venue.uneven
    assert (await bench.quote(size=bench.venue.uneven)).size == wanted
    submission = await bench.prepared(size=bench.venue.uneven)
    assert submission.size == wanted
    outcome = await bench.sent(submission)
    assert outcome.state is OutcomeState.FILLED
    assert sum(fill.size for fill in outcome.fills) == wanted


@case(7)
async def dollars_buy_no_more_than_they_are(bench: Bench) -> None:
    """A size in dollars is the most whole steps that cost no more, at the price that is expected."""
    step = (await listed(bench)).step_size
    quote = await bench.provider.quote(QuoteTerms(market=bench.market, side=Side.LONG, size_usd=Decimal(1000)))
    assert quote.size % step == 0
    assert quote.size_usd <= 1000 < quote.size_usd + 2 * step * quote.expected_price


@case(8)
async def fills_cost_what_was_quoted(bench: Bench) -> None:
    """On a market that stands still a fill is at the quoted price, or better, and its fee is the quoted one at most."""
    for side in (Side.LONG, Side.SHORT):
        quote = await bench.quote(side)
        outcome = await bench.open(side)
        (fill,) = outcome.fills
        assert fill.size == quote.size
        sign = 1 if side is Side.LONG else -1
        assert sign * fill.size_usd <= sign * quote.size_usd
        assert 0 < fill.fee_usd <= quote.fee_usd
        await bench.close(side)


@case(9)
async def quotes_add_up(bench: Bench) -> None:
    """Price, notional, fee, margin and expiry of a quote are of one piece, on both sides."""
    for side in Side:
        quote = await bench.quote(side, leverage=Decimal(2))
        assert (quote.provider, quote.market, quote.side) == (bench.provider_name, bench.market, side)
        assert near(quote.oracle_price, bench.price)
        assert abs(quote.size_usd - quote.size * quote.expected_price) <= Decimal("0.000001")
        worse = quote.expected_price - quote.oracle_price
        assert (worse if side is Side.LONG else -worse) >= 0
        assert quote.price_impact_bps >= 0
        assert abs(quote.fee_usd - quote.size_usd * quote.fee_bps / 10_000) <= Decimal("0.01")
        assert quote.margin_required_usd >= quote.size_usd / 2
        assert quote.as_of <= bench.clock.now() < quote.expires_at
        assert quote.slot <= bench.cluster.slot


@case(10)
async def larger_orders_are_dearer(bench: Bench) -> None:
    """Twenty times the size is never cheaper a unit, and its impact never smaller."""
    for side in Side:
        small = await bench.quote(side, leverage=Decimal(5))
        large = await bench.quote(side, bench.size * 20, leverage=Decimal(5))
        sign = 1 if side is Side.LONG else -1
        assert sign * large.expected_price >= sign * small.expected_price
        assert large.price_impact_bps >= small.price_impact_bps


@case(11)
async def stale_prices_are_no_quotes(bench: Bench) -> None:
    """When the oracle has stopped an open is neither quoted nor built; the reason is the connection's, not sent."""
    bench.venue.stale_oracle()
    await bench.slots(STALE_SLOTS)
    terms = await bench.terms()
    for refused in (bench.quote(), bench.provider.prepare_open(terms)):
        with pytest.raises(OracleStale) as stale:
            await refused
        assert stale.value.phase is Phase.NOT_SENT
        assert stale.value.error_class is ErrorClass.CONNECTION


@case(12)
async def small_sizes_are_refused(bench: Bench) -> None:
    """Below the smallest order is refused in quote and open, saying the numbers; nothing at all is no size."""
    terms = await bench.terms(size=bench.venue.too_small)
    for refused in (bench.quote(size=bench.venue.too_small), bench.provider.prepare_open(terms)):
        with pytest.raises(BelowMinimum) as small:
            await refused
        assert small.value.phase is Phase.NOT_SENT
        assert any(letter.isdigit() for letter in small.value.detail)
    with pytest.raises(InvalidSize):
        await bench.quote(size=Decimal(0))
    assert bench.venue.too_small < (await listed(bench)).min_size


@case(13)
async def leverage_has_a_maximum(bench: Bench) -> None:
    """More leverage than the market gives is refused in quote and open."""
    beyond = (await listed(bench)).max_leverage + 1
    terms = await bench.terms(leverage=beyond)
    for refused in (bench.quote(leverage=beyond), bench.provider.prepare_open(terms)):
        with pytest.raises(LeverageAboveMaximum) as above:
            await refused
        assert above.value.phase is Phase.NOT_SENT


@case(14)
async def a_venue_has_an_end(bench: Bench) -> None:
    """An order beyond all that the venue can give now is refused as capacity, in quote and open."""
    bench.venue.collateral(Decimal(10**9))
    await bench.slots(2)
    size = bench.size * 10**6
    terms = await bench.terms(size=size)
    for refused in (bench.quote(size=size), bench.provider.prepare_open(terms)):
        with pytest.raises(ProviderError) as full:
            await refused
        assert full.value.error_class is ErrorClass.CAPACITY
        assert full.value.phase is Phase.NOT_SENT


@case(15)
async def unreachable_nodes_are_a_connection_error(bench: Bench) -> None:
    """While no node answers, nothing is quoted or built: class `connection`, nothing sent."""
    terms = await bench.terms()
    bench.strike("refused", count=None)
    for refused in (bench.quote(), bench.provider.prepare_open(terms)):
        with pytest.raises(ConnectionFailed) as failed:
            await refused
        assert failed.value.phase is Phase.NOT_SENT
        assert failed.value.error_class.allows_next_provider
    bench.faults.clear()
    await bench.slots(120)
    assert (await bench.quote()).size == bench.size
