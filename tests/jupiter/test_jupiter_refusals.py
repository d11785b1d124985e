"""What is refused before anything is signed, by its class and the venue's own code."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from solders.keypair import Keypair

from providers.base.errors import (
    CustodyLimit,
    FeePayerShort,
    InsufficientCollateral,
    LeverageAboveMaximum,
    LiveTradingOff,
    MarketPaused,
    MarketReduceOnly,
    OpenInterestCap,
    OracleStale,
    Phase,
    ProviderError,
    UnsupportedProgram,
    VenueHalted,
    WorstPriceNotMet,
)
from providers.base.types import Lifecycle, OrderKind, OutcomeState, QuoteTerms, Side
from providers.jupiter.config import JupiterConfig
from tests.jupiter.jupiter_desk import SOL, JupiterDesk, at_jupiter_desk

Trouble = Callable[[JupiterDesk], None]


def _free(symbol: str, amount: int) -> Trouble:
    return lambda desk: desk.controls.set_free_tokens(symbol, Decimal(amount))


# What stands in the way of an open of 10 SOL (1,500 dollars) at twice the collateral, on a side.
TROUBLES: list[tuple[Side, Trouble, type[ProviderError], int | None]] = [
    (Side.LONG, _free("SOL", 9), CustodyLimit, 6023),
    (Side.SHORT, _free("USDC", 1_499), CustodyLimit, 6023),
    (Side.LONG, lambda desk: desk.controls.set_caps(SOL, long_usd=Decimal(40_001_000)), OpenInterestCap, None),
    (Side.SHORT, lambda desk: desk.controls.set_caps(SOL, short_usd=Decimal(12_001_000)), OpenInterestCap, None),
    (Side.SHORT, lambda desk: desk.controls.set_caps(SOL, position_usd=Decimal(1_000)), CustodyLimit, 6025),
    (Side.LONG, lambda desk: desk.controls.set_max_leverage(SOL, Decimal("1.9")), LeverageAboveMaximum, None),
    (Side.LONG, lambda desk: desk.controls.pause("increase"), MarketReduceOnly, 6027),
    (Side.SHORT, lambda desk: desk.controls.pause("increase", SOL), MarketReduceOnly, 6027),
    (Side.LONG, lambda desk: desk.controls.freeze_oracle(SOL), OracleStale, 6003),
    (Side.SHORT, lambda desk: desk.controls.freeze_oracle("USDC"), OracleStale, 6003),
    (Side.LONG, lambda desk: desk.controls.halt(), VenueHalted, 101),
]


# A venue that is full, stricter, or takes no more.
FULL: list[Trouble] = [
    _free("USDC", 0),
    lambda desk: desk.controls.set_caps(SOL, short_usd=Decimal(0), position_usd=Decimal(1)),
    lambda desk: desk.controls.set_max_leverage(SOL, Decimal("1.5")),
    lambda desk: desk.controls.pause("increase"),
    lambda desk: desk.controls.pause("increase", SOL),
]


@pytest.mark.parametrize(("side", "trouble", "leaf", "code"), TROUBLES)
def test_an_open_is_refused_before_it_is_signed(
    side: Side, trouble: Trouble, leaf: type[ProviderError], code: int | None
) -> None:
    """Quote and open say the same, with the venue's own code where it has one; nothing was sent."""

    async def play(desk: JupiterDesk) -> None:
        terms = await desk.terms(side, "10", leverage="2")
        before = desk.lamports()
        trouble(desk)
        await desk.slots(20)
        asked = QuoteTerms(market=SOL, side=side, size=Decimal(10), leverage=Decimal(2))
        fresh = desk.restarted()
        for refused in (fresh.quote(asked), fresh.prepare_open(terms)):
            with pytest.raises(leaf) as caught:
                await refused
            assert caught.value.phase is Phase.NOT_SENT
            assert caught.value.raw_code == (None if code is None else str(code))
        assert desk.lamports() == before

    at_jupiter_desk(play)


@pytest.mark.parametrize("trouble", FULL)
def test_what_stops_opens_stops_no_close(trouble: Trouble) -> None:
    """A full, paused or stricter venue still closes."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "10", leverage="1.2")
        trouble(desk)
        await desk.slots(2)
        closed = await desk.closed(Side.SHORT, "10", worst="200")
        assert closed.state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_jupiter_desk(play)


def test_a_close_that_cannot_be_executed() -> None:
    """A venue where nothing may be decreased refuses, as does a bound that the price is beyond; neither costs a fee."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        before = desk.lamports()
        with pytest.raises(WorstPriceNotMet) as caught:
            await desk.prepared(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE, worst="150.01"))
        assert caught.value.raw_code == "6021"
        terms = await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE)
        desk.controls.pause("decrease")
        await desk.slots(2)
        with pytest.raises(MarketPaused):
            await desk.prepared(terms)
        assert MarketPaused.blocks_close
        assert desk.lamports() == before

    at_jupiter_desk(play)


def test_a_stale_price_holds_no_close_back() -> None:
    """The request is made all the same, and is executed once the price is there again."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "1")
        terms = await desk.terms(Side.SHORT, "1", kind=OrderKind.CLOSE, worst="200")
        desk.controls.freeze_oracle(SOL)
        await desk.slots(20)
        submission = await desk.sent(terms)
        await desk.slots(20)
        assert (await desk.provider.settle(submission)).resting
        desk.controls.freeze_oracle(SOL, frozen=False)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED

    at_jupiter_desk(play)


@pytest.mark.parametrize(("side", "worst"), [(Side.LONG, "149.99"), (Side.SHORT, "150.01")])
def test_a_price_beyond_the_bound(side: Side, worst: str) -> None:
    """An open that would be given back at once is not sent."""

    async def play(desk: JupiterDesk) -> None:
        with pytest.raises(WorstPriceNotMet):
            await desk.prepared(await desk.terms(side, "1", worst=worst))

    at_jupiter_desk(play)


def test_collateral_that_the_wallet_does_not_have() -> None:
    """What is missing is told with token and amount; SOL that is kept as a reserve does not count."""

    async def play(desk: JupiterDesk) -> None:
        for market, side, size, says in (
            (SOL, Side.SHORT, "20000", "USDC"),
            (SOL, Side.LONG, "99.99", "SOL"),
            ("BTC-PERP", Side.LONG, "1.5", "1.00000000 BTC"),
        ):
            with pytest.raises(InsufficientCollateral, match=says) as caught:
                await desk.prepared(await desk.terms(side, size, market=market))
            assert caught.value.raw_code == "6019"

    at_jupiter_desk(play)


def test_too_little_sol_for_the_rents() -> None:
    """The wallet must hold what the venue's accounts cost beside the reserve; a close needs no reserve."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "1")
        terms = await desk.terms(Side.SHORT, "1")
        closing = await desk.terms(Side.SHORT, "1", kind=OrderKind.CLOSE)
        desk.set_lamports(21_000_000)
        await desk.slots(2)
        with pytest.raises(FeePayerShort, match="reserve"):
            await desk.provider.prepare_open(terms)
        assert (await desk.settled(await desk.sent(closing))).state is OutcomeState.FILLED

    at_jupiter_desk(play)


def test_a_quote_tells_what_an_open_takes() -> None:
    """The collateral's token and amount, which is what the wallet is then short of; closes take none."""

    async def play(desk: JupiterDesk) -> None:
        asked = QuoteTerms(market=SOL, side=Side.SHORT, size_usd=Decimal(1_000), leverage=Decimal(4))
        quote = await desk.provider.quote(asked)
        assert (quote.size, quote.size_usd) == (Decimal("6.66666"), Decimal("999.999"))
        assert quote.fee_usd == Decimal("0.7")
        assert quote.margin_required_usd == Decimal("250.69975")
        assert (quote.collateral_token, quote.collateral_amount) == ("USDC", Decimal("250.69975"))
        assert quote.expected_price == quote.oracle_price == 150
        assert quote.liquidation_price is not None
        assert quote.liquidation_price > 185
        before = desk.tokens("USDC")
        submission = await desk.open(Side.SHORT, str(quote.size), leverage="4")
        assert before is not None
        assert before - desk.tokens("USDC") == 250_699_750  # type: ignore[operator]
        await desk.settled(submission)
        (position,) = await desk.provider.positions()
        assert position.liquidation_price == quote.liquidation_price
        closing = await desk.provider.quote(
            QuoteTerms(kind=OrderKind.CLOSE, market=SOL, side=Side.SHORT, size=position.size)
        )
        assert closing.collateral_token is None
        assert closing.liquidation_price is None
        assert closing.size == position.size

    at_jupiter_desk(play)


def test_lifecycle_is_read_from_the_chain() -> None:
    """Live, reduce-only, halted in the accounts, halted in the program, and not there at all."""

    async def play(desk: JupiterDesk) -> None:
        assert (await desk.provider.state()).lifecycle is Lifecycle.LIVE
        desk.controls.pause("increase", SOL)
        await desk.slots(2)
        assert (await desk.provider.state()).lifecycle is Lifecycle.LIVE
        found = {each.symbol: each.lifecycle for each in await desk.provider.markets()}
        assert found == {SOL: Lifecycle.REDUCE_ONLY, "ETH-PERP": Lifecycle.LIVE, "BTC-PERP": Lifecycle.LIVE}
        capacity = {(each.market, each.side): each.capacity_usd for each in (await desk.provider.state()).capacity}
        assert capacity[SOL, Side.LONG] == 0
        assert capacity["ETH-PERP", Side.LONG] == 10_000_000
        desk.controls.pause("increase")
        await desk.slots(2)
        assert (await desk.provider.state()).lifecycle is Lifecycle.REDUCE_ONLY
        desk.controls.pause("decrease")
        await desk.slots(2)
        assert (await desk.provider.state()).lifecycle is Lifecycle.HALTED
        desk.controls.halt()
        await desk.slots(2)
        fresh = desk.restarted()
        assert (await fresh.state()).lifecycle is Lifecycle.HALTED
        assert {each.lifecycle for each in await fresh.markets()} == {Lifecycle.HALTED}
        elsewhere = desk.with_config(JupiterConfig(pool=Keypair().pubkey()))
        assert (await elsewhere.state()).lifecycle is Lifecycle.UNSUPPORTED_PROGRAM
        with pytest.raises(UnsupportedProgram):
            await elsewhere.markets()

    at_jupiter_desk(play)


def test_without_a_key_it_only_quotes() -> None:
    """Prices are for everybody, orders and holdings are not."""

    async def play(desk: JupiterDesk) -> None:
        terms = await desk.terms(Side.LONG, "1")
        desk.connect(signer=None)
        await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        assert await desk.provider.positions() == ()
        for refused in (
            desk.provider.prepare_open(terms),
            desk.provider.prepare_close(terms),
            desk.provider.holdings(),
            desk.provider.show(),
        ):
            with pytest.raises(LiveTradingOff):
                await refused

    at_jupiter_desk(play)
