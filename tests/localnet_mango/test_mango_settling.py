"""Settling: profit becomes a deposit, out of the deposit of an account with a loss."""

from __future__ import annotations

from decimal import Decimal

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import NoLiquidity
from router.localnet.anchor import instruction_discriminator
from router.localnet.mango.actors import read_account
from router.localnet.mango.calls import scanned_metas
from router.localnet.mango.controls import run_mango
from router.localnet.mango.layouts import PerpMarket
from router.localnet.mango.numbers import FRACTION_BITS
from tests.localnet_mango.test_mango_funds import meta
from tests.localnet_mango.venue_bench import Venue
from tests.mango.mango_desk import SOL, MangoDesk, at_mango_desk

USDC = 10**6


def settle(venue: Venue, winner: Pubkey, loser: Pubkey) -> Instruction:
    """Return the settlement of SOL-PERP between two accounts, with the trader as the settler."""
    world, market = venue.world, venue.world.market(SOL)
    metas: list[AccountMeta] = [
        meta(world.group),
        meta(world.trader_account.account, writable=True),
        meta(world.trader.pubkey(), signer=True),
        meta(market.address),
        meta(winner, writable=True),
        meta(loser, writable=True),
        meta(market.oracle),
        meta(world.usdc.address, writable=True),
        meta(world.usdc.oracle),
        *scanned_metas(world),
    ]
    return Instruction(world.program_id, instruction_discriminator("perp_settle_pnl"), metas)


def deposits(venue: Venue) -> tuple[int, int]:
    """Return the trader's and the maker's USDC, in units of the vault with fractions cut."""
    found: list[int] = []
    for party in (venue.world.trader_account, venue.world.maker):
        position = read_account(venue.cluster, party.account).token(0)
        assert position is not None
        found.append(position.indexed_position * USDC >> FRACTION_BITS)
    return found[0], found[1]


def holding(base: int, price: int) -> Venue:
    """Return a venue whose trader holds SOL that it bought near 150 dollars, at another price now."""
    venue = Venue()
    venue.controls.foreign_trade(SOL, "long", Decimal(base))
    venue.controls.cranker.crank(venue.world.market(SOL))
    venue.controls.set_oracle_price(SOL, Decimal(price))
    return venue


def test_a_loss_leaves_the_deposit_and_the_winner_has_it() -> None:
    """20 SOL that fell from 150 to 140 cost their holder 200 dollars and what opening cost; no money appears."""
    venue = holding(20, 140)
    trader, maker = venue.world.trader_account.account, venue.world.maker.account
    before = deposits(venue)

    assert venue.send(settle(venue, maker, trader)) is None

    after = deposits(venue)
    assert 200 * USDC < before[0] - after[0] < 203 * USDC
    assert abs(sum(after) - sum(before)) <= 2
    position = venue.perp()
    assert position is not None
    assert position.base_position_lots == 20_000


def test_the_sides_have_to_be_the_right_ones_and_to_differ() -> None:
    """The first account needs a profit and the second a loss; nobody settles with itself."""
    venue = holding(20, 140)
    trader, maker = venue.world.trader_account.account, venue.world.maker.account

    assert venue.send(settle(venue, trader, maker)) == 6018
    assert venue.send(settle(venue, trader, trader)) == 6019
    venue.controls.set_ix_gate(24)
    assert venue.send(settle(venue, maker, trader)) == 6042


def test_the_limit_of_a_window_stops_the_rest() -> None:
    """A hundredth of the position's value is all that a window lets through; a second time there is none left."""
    venue = holding(20, 140)
    trader, maker = venue.world.trader_account.account, venue.world.maker.account
    place = venue.world.market(SOL)

    def edit(market: PerpMarket) -> None:
        market.settle_pnl_limit_factor = 0.01

    venue.edit(PerpMarket, place.address, edit)
    before, _ = deposits(venue)

    assert venue.send(settle(venue, maker, trader)) is None
    after, _ = deposits(venue)
    assert 27 * USDC < before - after < 33 * USDC
    assert venue.send(settle(venue, maker, trader)) == 6018


def test_the_provider_settles_a_profit_over_the_wire() -> None:
    """It finds the maker in the queue, and the deposit grows by the profit; then there is nothing left."""

    async def play(desk: MangoDesk) -> None:
        controls = run_mango(desk.cluster, desk.world)
        await desk.settled(await desk.sent(await desk.terms(size="20")))
        await desk.slots(10)
        controls.set_oracle_price(SOL, Decimal(160))
        await desk.slots(2)
        before = await desk.provider.show()
        submission = await desk.provider.settle_pnl()
        await desk.solana.sender.submit(submission)
        await desk.slots(45)
        assert await desk.solana.proofs.landed(submission)
        after = await desk.provider.show()
        assert Decimal(197) < after.usdc - before.usdc < Decimal(200)
        assert after.unsettled_pnl_usd is not None
        assert abs(after.unsettled_pnl_usd) < Decimal("0.01")
        assert await desk.held() == 20
        with pytest.raises(NoLiquidity):
            await desk.provider.settle_pnl()

    at_mango_desk(play)
