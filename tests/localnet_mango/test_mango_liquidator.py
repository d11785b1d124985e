"""The liquidator at work: what the control leaves of a position, and what the provider reads of it afterwards."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import pytest

from providers.base.types import OrderKind, Side, VenueEventKind
from router.localnet.mango.actors import read_account
from router.localnet.mango.controls import run_mango
from router.localnet.mango.numbers import ONE
from tests.localnet_mango.venue_bench import Venue
from tests.mango.mango_desk import SOL, MangoDesk, at_mango_desk

USDC = 10**6
MINUS_FEE = ONE - ONE // 20 // 2


@pytest.mark.parametrize(
    ("market", "side", "base", "margin_share", "left"),
    [
        ("SOL-PERP", "long", "10", "0.8", "2"),
        ("SOL-PERP", "short", "10", "0.8", "-2"),
        ("BTC-PERP", "long", "1", "0.8", "0.2"),
        ("SOL-PERP", "long", "10", "0.5", "0"),
        ("BTC-PERP", "short", "1", "0", "0"),
    ],
)
def test_a_part_or_all_is_liquidated(
    market: str, side: Literal["long", "short"], base: str, margin_share: str, left: str
) -> None:
    """Four fifths go where the account is worth 80 % of its maintenance margin; all at half of it and below."""
    venue = Venue()
    venue.controls.foreign_trade(market, side, Decimal(base))

    signature = venue.controls.liquidate(market, margin_share=Decimal(margin_share))

    assert venue.base(market) == Decimal(left)
    landed = venue.cluster.transaction(signature)
    assert landed is not None
    assert landed.err == b"null"


def test_another_position_of_the_account_is_left_alone() -> None:
    """Only the market that is named loses base, and the account's other margin is counted."""
    venue = Venue()
    venue.controls.foreign_trade("BTC-PERP", "short", Decimal("0.01"))
    venue.controls.foreign_trade(SOL, "long", Decimal(10))
    venue.controls.cranker.crank(venue.world.market("BTC-PERP"))

    venue.controls.liquidate(SOL)

    assert venue.base("BTC-PERP") == Decimal("-0.01")
    assert Decimal(0) < venue.base(SOL) < 2


def test_what_cannot_be_liquidated_is_said() -> None:
    """No position; one whose profit keeps it; a price that is too old to tell. The collateral stays as it was."""
    venue = Venue()
    with pytest.raises(ValueError, match="no position in SOL-PERP"):
        venue.controls.liquidate(SOL)
    venue.controls.foreign_trade(SOL, "long", Decimal(1))
    venue.controls.set_oracle_price(SOL, Decimal(200))
    with pytest.raises(ValueError, match="profit alone"):
        venue.controls.liquidate(SOL)
    venue.controls.freeze_oracle(SOL)
    venue.cluster.warp(slots=200)
    with pytest.raises(ValueError, match="OracleStale"):
        venue.controls.liquidate(SOL)
    assert venue.collateral() == 10_000 * USDC


def test_the_provider_reads_it_as_a_liquidation_with_its_numbers() -> None:
    """Lots, price after the fee, transaction and slot are the chain's; what is left is the position's size."""

    async def play(desk: MangoDesk) -> None:
        controls = run_mango(desk.cluster, desk.world)
        await desk.settled(await desk.sent(await desk.terms(size="10")))
        await desk.slots(8)
        mark = (await desk.provider.history(None, desk.cluster.slot - 1)).newest
        quoted = read_account(desk.cluster, desk.world.trader_account.account).perp(2)

        signature = controls.liquidate(SOL)
        await desk.slots(8)

        history = await desk.provider.history(mark, desk.cluster.slot - 2)
        (event,) = history.events
        landed = desk.cluster.transaction(signature)
        position = read_account(desk.cluster, desk.world.trader_account.account).perp(2)
        assert landed is not None
        assert position is not None
        assert quoted is not None
        assert history.complete
        assert history.newest == signature
        assert event.kind is VenueEventKind.LIQUIDATION
        assert (event.market, event.base_delta, event.fee_usd) == (SOL, Decimal(-8), Decimal(0))
        assert (event.signature, event.slot) == (signature, landed.slot)
        quote = 8_000 * (150 * 10**8 * 2_815 * 10**6) * MINUS_FEE >> 48
        assert quote == position.quote_position_native - quoted.quote_position_native
        assert event.price == Decimal(quote) / ONE / USDC / 8
        assert await desk.held() == 2

    at_mango_desk(play)


def test_a_rest_that_was_left_can_be_closed() -> None:
    """The account has recovered: nothing stands between the position's rest and a close."""

    async def play(desk: MangoDesk) -> None:
        controls = run_mango(desk.cluster, desk.world)
        await desk.settled(await desk.sent(await desk.terms(Side.SHORT, size="10")))
        controls.liquidate(SOL)
        await desk.slots(8)
        assert await desk.held() == -2

        terms = await desk.terms(Side.SHORT, size="2", kind=OrderKind.CLOSE)
        outcome = await desk.settled(await desk.sent(terms))

        assert sum(fill.size for fill in outcome.fills) == 2
        await desk.slots(8)
        assert await desk.held() == 0

    at_mango_desk(play)
