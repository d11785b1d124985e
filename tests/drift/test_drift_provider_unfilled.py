"""Orders that the venue would take and never fill: refused before anything is sent, dead by proof where they land."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.errors import BelowMinimum, MarketPaused, OracleStale, Phase, ProviderError, WorstPriceNotMet
from providers.base.types import OrderKind, OutcomeState, QuoteTerms, Side
from providers.drift.config import DriftConfig
from providers.drift.provider import DriftProvider
from providers.solana.cluster import SolanaCluster
from providers.solana.signer import KeypairSigner
from router.localnet.transport import InProcessTransport
from router.localnet.world import WorldKeys, world_of
from tests.drift.drift_desk import SOL, Desk, at_desk
from tests.solana.solana_world import Json, LyingTransport

Change = Callable[[Desk], object]


def listened(desk: Desk) -> tuple[DriftProvider, LyingTransport]:
    """Return a provider on one more node, and the wire to it."""
    wire = LyingTransport(InProcessTransport(desk.cluster, desk.clock, name="listened", faults=desk.faults))
    cluster = SolanaCluster.of_transports([wire], KeypairSigner(bytes(desk.signer)), desk.clock, desk.settings)
    return DriftProvider(cluster, desk.config), wire


@pytest.mark.parametrize("side", list(Side))
def test_a_close_below_the_smallest_order_is_refused_while_more_is_held(binary: Path | None, side: Side) -> None:
    """A part that the AMM never fills is refused in quote and order, saying what would do; all of it closes."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open(side, "1"))
        worst = "100" if side is Side.LONG else "200"
        with pytest.raises(BelowMinimum) as quoted:
            await desk.provider.quote(QuoteTerms(kind=OrderKind.CLOSE, market=SOL, side=side, size=Decimal("0.09")))
        provider, wire = listened(desk)
        with pytest.raises(BelowMinimum) as refused:
            await provider.prepare_close(await desk.terms(side, "0.09", kind=OrderKind.CLOSE, worst=worst))
        for error in (quoted.value, refused.value):
            assert error.phase is Phase.NOT_SENT
            assert "together with other lots of SOL-PERP, or all of it" in error.detail
        assert "simulateTransaction" not in wire.asked
        assert (await desk.settled(await desk.close(side, "0.9"))).state is OutcomeState.FILLED
        # A tenth is left, which is the smallest order and not more: now the AMM fills any step of it.
        assert (await desk.settled(await desk.close(side, "0.04"))).state is OutcomeState.FILLED
        assert (await desk.settled(await desk.close(side, "0.06"))).state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_the_program_never_fills_a_small_part_of_a_larger_holding(binary: Path | None) -> None:
    """Built while a step was enough and landed after the holding had grown, such a close executes and fills nothing."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open(Side.LONG, "0.1"))
        closed = await desk.provider.prepare_close(await desk.terms(Side.LONG, "0.05", kind=OrderKind.CLOSE))
        await desk.settled(await desk.open(Side.LONG, "1"))
        await desk.provider.submit(closed)
        outcome = await desk.settled(closed)
        assert (outcome.state, outcome.executed, outcome.fills) == (OutcomeState.DEAD, True, ())
        assert outcome.evidence[0].kind == "no_fill_logs"
        assert await desk.held() == Decimal("1.1")

    at_desk(play, binary=binary)


def test_a_small_close_goes_to_a_known_maker_that_crosses(binary: Path | None) -> None:
    """What the AMM would not fill a configured maker does, inside the bound; outside of it the close is refused."""
    config = DriftConfig(makers=(world_of(WorldKeys()).maker.user,))

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open(Side.LONG, "1"))
        desk.controls.maker_order(SOL, "long", Decimal(1), Decimal("149.9"))
        await desk.slots(2)
        with pytest.raises(BelowMinimum):
            await desk.provider.prepare_close(await desk.terms(Side.LONG, "0.05", kind=OrderKind.CLOSE, worst="149.95"))
        quote = await desk.provider.quote(
            QuoteTerms(kind=OrderKind.CLOSE, market=SOL, side=Side.LONG, size=Decimal("0.05"))
        )
        assert quote.size == Decimal("0.05")
        outcome = await desk.settled(await desk.close(Side.LONG, "0.05", worst="149.8"))
        assert outcome.state is OutcomeState.FILLED
        assert outcome.fills[0].price == Decimal("149.9")
        assert await desk.held() == Decimal("0.95")

    at_desk(play, binary=binary, config=config)


def dearer(desk: Desk) -> None:
    """Move the price beyond the bounds of the tests: up for buyers."""
    desk.controls.set_oracle_price(SOL, Decimal(152))


def cheaper(desk: Desk) -> None:
    """Move the price beyond the bounds of the tests: down for sellers."""
    desk.controls.set_oracle_price(SOL, Decimal(148))


UNFILLED: list[tuple[OrderKind, Change, type[ProviderError]]] = [
    (OrderKind.OPEN, dearer, WorstPriceNotMet),
    (OrderKind.CLOSE, cheaper, WorstPriceNotMet),
    (OrderKind.CLOSE, lambda desk: desk.controls.freeze_oracle(SOL), OracleStale),
    (OrderKind.CLOSE, lambda desk: desk.controls.set_oracle_confidence(SOL, Decimal(8)), OracleStale),
    (OrderKind.CLOSE, lambda desk: desk.controls.pause("amm"), MarketPaused),
    (OrderKind.CLOSE, lambda desk: desk.controls.pause("market_amm", SOL), MarketPaused),
]


@pytest.mark.parametrize(("kind", "change", "leaf"), UNFILLED)
def test_a_simulation_that_fills_nothing_is_a_refusal(
    binary: Path | None, kind: OrderKind, change: Change, leaf: type[ProviderError]
) -> None:
    """An immediate order that its simulation shows unfilled is refused by its cause; nothing was sent."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        worst = "151" if kind is OrderKind.OPEN else "149"
        change(desk)
        await desk.slots(20)
        provider, wire = listened(desk)
        terms = await desk.terms(kind=kind, worst=worst)
        with pytest.raises(leaf) as refused:
            await (provider.prepare_open if kind is OrderKind.OPEN else provider.prepare_close)(terms)
        assert refused.value.phase is Phase.NOT_SENT
        assert "simulateTransaction" in wire.asked
        assert "sendTransaction" not in wire.asked
        assert await desk.held() == 1

    at_desk(play, binary=binary)


Lines = list[str]
INCOMPLETE: list[Callable[[Lines], Lines | None]] = [
    lambda _: None,
    lambda _: [],
    lambda lines: [*lines, "Log truncated"],
    lambda lines: lines[:-1],
    lambda lines: [line for line in lines if "Program log: " not in line],
]


@pytest.mark.parametrize("logs", INCOMPLETE, ids=["no logs", "empty", "truncated", "without the end", "no records"])
def test_a_simulation_that_does_not_show_everything_refuses_nothing(
    binary: Path | None, logs: Callable[[Lines], Lines | None]
) -> None:
    """Without the order's own end in complete logs it is sent; the landed record decides."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        provider, wire = listened(desk)

        def lie(result: Json, _: list[Json]) -> Json:
            result["value"]["logs"] = logs(result["value"]["logs"])
            return result

        terms = await desk.terms(kind=OrderKind.CLOSE, worst="149")
        cheaper(desk)
        await desk.slots(3)
        with pytest.raises(WorstPriceNotMet):
            await provider.prepare_close(terms)
        wire.lies["simulateTransaction"] = lie
        submission = await provider.prepare_close(terms)
        await provider.submit(submission)
        outcome = await desk.settled(submission)
        assert (outcome.state, outcome.executed, outcome.fills) == (OutcomeState.DEAD, True, ())
        assert await desk.held() == 1

    at_desk(play, binary=binary)


CUT: list[Callable[[Lines], Lines | None]] = [
    lambda _: None,
    lambda _: [],
    lambda lines: [*lines[: len(lines) // 4], "Log truncated"],
    lambda lines: [line for line in lines if "Program log: " not in line][:-1],
]


@pytest.mark.parametrize("logs", CUT, ids=["no logs", "empty", "truncated", "no records and no end"])
def test_a_fill_that_cut_logs_do_not_show_is_not_taken_for_none(
    binary: Path | None, logs: Callable[[Lines], Lines | None]
) -> None:
    """It landed and filled; while a node shows its logs in part it stays unknown, and then it is a fill."""

    async def play(desk: Desk) -> None:
        provider, wire = listened(desk)
        submission = await desk.open()
        await desk.slots(3)

        def lie(result: Json, _: list[Json]) -> Json:
            result["meta"]["logMessages"] = logs(result["meta"]["logMessages"])
            return result

        wire.lies["getTransaction"] = lie
        for _ in range(3):
            outcome = await provider.settle(submission)
            assert (outcome.state, outcome.landed, outcome.executed) == (OutcomeState.UNKNOWN, True, True)
            assert outcome.fills == ()
            await desk.slots(20)
        wire.lies.clear()
        outcome = await provider.settle(submission)
        assert outcome.state is OutcomeState.FILLED
        assert outcome.fills[0].size == await desk.held() == 1

    at_desk(play, binary=binary)


def test_a_simulation_that_fills_a_part_is_sent(binary: Path | None) -> None:
    """Some is better than nothing: a part that fills inside the bound is no reason to refuse."""

    async def play(desk: Desk) -> None:
        provider, wire = listened(desk)
        submission = await provider.prepare_open(await desk.terms(Side.LONG, "600", worst="150.1", leverage="9.5"))
        await provider.submit(submission)
        assert "sendTransaction" in wire.asked
        assert (await desk.settled(submission)).state is OutcomeState.PARTIALLY_FILLED

    at_desk(play, binary=binary)
