"""A program that answers nothing: noticed before an order where it can be, and never in the way of a close."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.errors import VenueHalted
from providers.base.types import Lifecycle, OrderKind, OutcomeState, QuoteTerms, Side
from providers.mango.provider import MangoProvider
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from router.localnet.mango.controls import MangoControls
from router.localnet.transport import InProcessTransport
from tests.mango.mango_desk import SOL, MangoDesk, at_mango_desk

ASKED = QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1))


def test_what_an_order_met_is_remembered() -> None:
    """Between two looks a halt is met by an order's own simulation, and from then on the quote says it too."""

    async def play(desk: MangoDesk) -> None:
        controls = MangoControls(desk.cluster, desk.world)
        terms = await desk.terms()
        assert (await desk.provider.quote(ASKED)).size == 1
        controls.halt()
        await desk.slots(2)
        # The last look is seconds old: the quote does not know yet.
        assert (await desk.provider.quote(ASKED)).size == 1
        for _ in range(2):
            with pytest.raises(VenueHalted) as refused:
                await desk.provider.prepare_open(terms)
            assert refused.value.raw_code == "101"
        with pytest.raises(VenueHalted):
            await desk.provider.quote(ASKED)
        state = await desk.provider.state()
        assert (state.lifecycle, state.capacity) == (Lifecycle.HALTED, ())

    at_mango_desk(play)


def test_a_halt_that_is_over_stops_no_close() -> None:
    """The look at the program is for opens alone: a close asks the program itself, as soon as it answers again."""

    async def play(desk: MangoDesk) -> None:
        controls = MangoControls(desk.cluster, desk.world)
        await desk.settled(await desk.sent(await desk.terms(size="2")))
        closing = await desk.terms(size="2", kind=OrderKind.CLOSE)
        controls.halt()
        await desk.slots(2)
        with pytest.raises(VenueHalted):
            await desk.provider.prepare_close(closing)
        controls.halt(on=False)
        await desk.slots(2)
        with pytest.raises(VenueHalted):
            await desk.provider.quote(ASKED)
        asked = QuoteTerms(kind=OrderKind.CLOSE, market=SOL, side=Side.LONG, size=Decimal(2))
        assert (await desk.provider.quote(asked)).size == 2
        closed = await desk.settled(await desk.sent(closing))
        assert closed.state is OutcomeState.FILLED

    at_mango_desk(play)


def test_without_a_key_only_the_gates_are_read() -> None:
    """There is nobody to simulate as: the venue counts as what its accounts say."""

    async def play(desk: MangoDesk) -> None:
        MangoControls(desk.cluster, desk.world).halt()
        node = InProcessTransport(desk.cluster, desk.clock, name="keyless", faults=desk.faults)
        keyless = MangoProvider(SolanaCluster.of_transports([node], None, desk.clock, SolanaSettings()), desk.config)
        await desk.slots(2)
        assert (await keyless.state()).lifecycle is Lifecycle.LIVE

    at_mango_desk(play)
