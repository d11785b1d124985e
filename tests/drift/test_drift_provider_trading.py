"""Opening and closing through the provider, over the wire, on the model and on the real program alike."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from providers.base.errors import (
    BelowMinimum,
    ErrorClass,
    InvalidSize,
    LeverageAboveMaximum,
    LiveTradingOff,
    NotListed,
    WouldNet,
)
from providers.base.types import Lifecycle, LockRef, LockTerms, OrderKind, OutcomeState, Purpose, QuoteTerms, Side
from providers.drift.build import decode_order
from providers.drift.constants import PROGRAM_ID
from providers.solana.body import decode_body
from tests.drift.drift_desk import SOL, Desk, at_desk


def test_markets_are_read_from_the_chain(binary: Path | None) -> None:
    """Symbols, steps, ticks, minimums and margins are the accounts' own."""

    async def play(desk: Desk) -> None:
        markets = {each.symbol: each for each in await desk.provider.markets()}
        assert set(markets) == {"SOL-PERP", "BTC-PERP"}
        sol = markets[SOL]
        assert (sol.step_size, sol.min_size, sol.tick_size) == (Decimal("0.01"), Decimal("0.1"), Decimal("0.0001"))
        assert (sol.max_leverage, sol.maintenance_margin_ratio) == (Decimal(10), Decimal("0.05"))
        assert sol.lifecycle is Lifecycle.LIVE
        assert sol.oracle_price == 150
        state = await desk.provider.state()
        assert state.lifecycle is Lifecycle.LIVE
        assert len(state.capacity) == 4
        with pytest.raises(NotListed):
            await desk.provider.quote(QuoteTerms(market="DOGE-PERP", side=Side.LONG, size=Decimal(1)))

    at_desk(play, binary=binary)


@pytest.mark.parametrize(("side", "size"), [(Side.LONG, "0.1"), (Side.SHORT, "3.21"), (Side.LONG, "150")])
def test_a_fill_costs_what_was_quoted(binary: Path | None, side: Side, size: str) -> None:
    """The AMM fills at the quoted price and fee, to the last unit, for small and large sizes on both sides."""

    async def play(desk: Desk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=side, size=Decimal(size), leverage=Decimal(5)))
        submission = await desk.open(side, size, leverage="5")
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        (fill,) = outcome.fills
        assert (fill.size, fill.size_usd, fill.fee_usd) == (Decimal(size), quote.size_usd, quote.fee_usd)
        assert fill.signature == submission.handle
        assert fill.venue_fill_id.startswith(f"{submission.handle}:")
        assert await desk.held() == Decimal(size) * (1 if side is Side.LONG else -1)

    at_desk(play, binary=binary)


@pytest.mark.parametrize("side", list(Side))
def test_open_then_close_is_flat(binary: Path | None, side: Side) -> None:
    """A reduce-only close of all that is held leaves nothing, and both are on record with their own fills."""

    async def play(desk: Desk) -> None:
        opened = await desk.open(side, "2")
        first = await desk.settled(opened)
        closed = await desk.close(side, "2")
        assert closed.purpose is Purpose.CLOSE
        second = await desk.settled(closed)
        assert [first.state, second.state] == [OutcomeState.FILLED] * 2
        assert {each.venue_fill_id for each in first.fills}.isdisjoint(each.venue_fill_id for each in second.fills)
        assert await desk.held() == 0
        assert await desk.provider.positions() == ()

    at_desk(play, binary=binary)


def test_a_fill_becomes_final(binary: Path | None) -> None:
    """The same outcome is settled again and again; it is marked finalized once the block is, never before."""

    async def play(desk: Desk) -> None:
        submission = await desk.open()
        first = await desk.settled(submission)
        assert not first.finalized
        await desk.slots(40)
        again = await desk.restarted().settle(submission)
        assert again.finalized
        assert again.fills == first.fills
        assert again.evidence[0].commitment == "finalized"

    at_desk(play, binary=binary)


def test_positions_say_what_the_account_holds(binary: Path | None) -> None:
    """Size, entry price, profit and liquidation price of a short are the venue's."""

    async def play(desk: Desk) -> None:
        fill = (await desk.settled(await desk.open(Side.SHORT, "100", leverage="5"))).fills[0]
        desk.controls.set_oracle_price(SOL, Decimal(151))
        await desk.slots(2)
        (position,) = await desk.provider.positions()
        assert (position.side, position.size) == (Side.SHORT, Decimal(100))
        assert position.entry_price == fill.price
        assert position.unrealized_pnl_usd == (fill.price - 151) * 100
        assert position.liquidation_price is not None
        # 10,000 dollars behind a short of 100: it falls where 5 % of the notional is left.
        assert Decimal(230) < position.liquidation_price < Decimal(245)
        (shown,) = (await desk.provider.show()).positions
        assert msgspec.structs.replace(shown, slot=position.slot) == position

    at_desk(play, binary=binary)


def test_sizes_are_rounded_down_and_count_as_full(binary: Path | None) -> None:
    """1.017 becomes 1.01, in the quote, in the submission and in the fill."""

    async def play(desk: Desk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal("1.017")))
        assert quote.size == Decimal("1.01")
        submission = await desk.open(Side.LONG, "1.017")
        assert submission.size == Decimal("1.01")
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        assert outcome.fills[0].size == Decimal("1.01")

    at_desk(play, binary=binary)


def test_dollars_are_turned_into_base_at_the_curve(binary: Path | None) -> None:
    """A thousand dollars buy the most whole steps that cost no more than a thousand dollars."""

    async def play(desk: Desk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size_usd=Decimal(1000)))
        assert quote.size == Decimal("6.66")
        assert quote.size_usd <= 1000 < quote.size_usd + quote.expected_price / 100

    at_desk(play, binary=binary)


def test_what_is_too_small_is_refused_with_the_numbers(binary: Path | None) -> None:
    """Below a step and below the smallest order are refused before anything is built; zero is no size at all."""

    async def play(desk: Desk) -> None:
        for size, code in (("0.001", "6059"), ("0.05", "6056")):
            with pytest.raises(BelowMinimum) as refused:
                await desk.provider.prepare_open(await desk.terms(Side.LONG, size, worst="200"))
            assert refused.value.raw_code == code
            assert "step 10000000" in refused.value.detail
        with pytest.raises(InvalidSize):
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(0)))

    at_desk(play, binary=binary)


def test_an_open_against_a_holding_is_refused(binary: Path | None) -> None:
    """An open that would net is the next provider's, whatever its size; a close is not one."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open(Side.LONG, "1"))
        with pytest.raises(WouldNet) as refused:
            await desk.provider.prepare_open(await desk.terms(Side.SHORT, "1", worst="100"))
        assert refused.value.error_class is ErrorClass.CAPACITY
        with pytest.raises(WouldNet):
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.SHORT, size=Decimal(1)))
        assert (await desk.settled(await desk.open(Side.LONG, "1"))).state is OutcomeState.FILLED
        assert await desk.held() == 2

    at_desk(play, binary=binary)


def test_leverage_above_the_markets_is_refused(binary: Path | None) -> None:
    """More leverage than a size may have is refused; larger sizes may have less."""

    async def play(desk: Desk) -> None:
        with pytest.raises(LeverageAboveMaximum):
            await desk.provider.quote(
                QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1), leverage=Decimal("10.01"))
            )
        with pytest.raises(LeverageAboveMaximum):
            await desk.provider.prepare_open(await desk.terms(leverage="11", worst="200"))
        large = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(4_000)))
        small = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        assert large.max_leverage < small.max_leverage == 10

    at_desk(play, binary=binary)


def test_a_close_never_takes_more_than_is_held(binary: Path | None) -> None:
    """A close of more than is held closes what is; with nothing held, or on the other side, it is refused."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open(Side.LONG, "1"))
        with pytest.raises(InvalidSize) as refused:
            await desk.provider.prepare_close(await desk.terms(Side.SHORT, "1", kind=OrderKind.CLOSE, worst="200"))
        assert refused.value.raw_code == "6010"
        closed = await desk.close(Side.LONG, "5")
        assert closed.size == 1
        assert (await desk.settled(closed)).state is OutcomeState.FILLED
        with pytest.raises(InvalidSize):
            await desk.provider.prepare_close(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE, worst="100"))

    at_desk(play, binary=binary)


def test_a_bound_in_the_middle_of_the_curve_fills_a_part(binary: Path | None) -> None:
    """What is left of an immediate order beyond its bound is gone; what filled is final and never dearer than it."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms(Side.LONG, "600", worst="150.1", leverage="9.5"))
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.PARTIALLY_FILLED
        assert not outcome.resting
        (fill,) = outcome.fills
        assert 0 < fill.size < 600
        assert fill.price <= Decimal("150.1")
        assert await desk.held() == fill.size

    at_desk(play, binary=binary)


def test_the_bound_is_never_widened(binary: Path | None) -> None:
    """The price in the order is on a tick, at most the caller's to buy and at least the caller's to sell."""

    async def play(desk: Desk) -> None:
        long = await desk.provider.prepare_open(await desk.terms(Side.LONG, "1", worst="155.00019"))
        order = decode_order(decode_body(long).venue)
        assert order is not None
        assert order.price == 155_000_100
        short = await desk.provider.prepare_open(await desk.terms(Side.SHORT, "1", worst="145.00011"))
        order = decode_order(decode_body(short).venue)
        assert order is not None
        assert order.price == 145_000_200
        deadline = short.may_fill_until
        assert deadline is not None
        assert deadline <= desk.clock.now() + timedelta(seconds=31)

    at_desk(play, binary=binary)


def test_orders_in_two_markets_at_once(binary: Path | None) -> None:
    """An order that was built before another market was held still finds that market's accounts with it."""

    async def play(desk: Desk) -> None:
        sol = await desk.provider.prepare_open(await desk.terms(Side.LONG, "1"))
        btc = await desk.provider.prepare_open(await desk.terms(Side.SHORT, "0.01", market="BTC-PERP"))
        again = await desk.provider.prepare_open(await desk.terms(Side.LONG, "1"))
        numbers = [decode_order(decode_body(each).venue) for each in (sol, btc, again)]
        assert len({each.user_order_id for each in numbers if each is not None}) == 3
        for submission in (btc, again):
            await desk.provider.submit(submission)
        outcomes = [await desk.settled(each) for each in (btc, again)]
        assert [each.state for each in outcomes] == [OutcomeState.FILLED] * 2
        assert await desk.held() == 1
        assert await desk.held("BTC-PERP") == Decimal("-0.01")

    at_desk(play, binary=binary)


def test_dollars_and_capacity_of_the_cap(binary: Path | None) -> None:
    """Capacity is what the open interest cap leaves, where that is less than one fill of the AMM."""

    async def play(desk: Desk) -> None:
        desk.controls.set_open_interest_cap(SOL, Decimal(100))
        await desk.slots(2)
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        assert quote.capacity_usd == Decimal("99.99") * 150

    at_desk(play, binary=binary)


def test_without_a_key_there_are_quotes_and_no_orders(binary: Path | None) -> None:
    """A service without a key prices with the first fee tier and refuses to build anything."""

    async def play(desk: Desk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        assert quote.fee_bps >= 10
        assert quote.liquidation_price is None
        assert await desk.provider.positions() == ()
        lock = LockRef(
            terms=LockTerms(base=str(PROGRAM_ID), nonce="a" * 26, base_lamports=890_880), part=0, generation=0
        )
        with pytest.raises(LiveTradingOff):
            await desk.provider.prepare_open(await desk.terms(Side.LONG, "1", worst="160", lock=lock))
        with pytest.raises(LiveTradingOff):
            await desk.provider.show()

    at_desk(play, binary=binary, quotes_only=True)
