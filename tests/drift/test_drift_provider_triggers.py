"""Stops and takes profit that rest on the venue: set off by a keeper, filled, cancelled, and proven to have ended."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from providers.base.errors import (
    AuctionExpired,
    BeingLiquidated,
    BelowMinimum,
    InsufficientCollateral,
    InvalidSize,
    InvalidTrigger,
    NoFreeSlot,
    NothingLeft,
    ProviderError,
)
from providers.base.types import OrderKind, Outcome, OutcomeState, Purpose, Side, Submission, Trigger
from providers.drift.build import decode_order
from providers.drift.layouts import PerpPosition, User, read_user
from providers.drift.provider import DriftProvider
from providers.drift.triggers import trigger_price_of
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster
from providers.solana.errors import LockHeld
from providers.solana.proofs import Landed
from providers.solana.signer import KeypairSigner
from router.localnet.faults import Fault
from router.localnet.transport import InProcessTransport
from tests.drift.drift_desk import SOL, Desk, at_desk
from tests.solana.solana_world import LyingTransport

FLAT_FEE = Decimal("0.01")
AUCTION_SLOTS = 60
"""More than an auction after a trigger lasts here, and the keeper's pace on top."""

LEGS = [
    pytest.param(Side.LONG, "145", False, id="stop of a long"),
    pytest.param(Side.LONG, "155", True, id="take profit of a long"),
    pytest.param(Side.SHORT, "155", True, id="stop of a short"),
    pytest.param(Side.SHORT, "145", False, id="take profit of a short"),
]


async def holding(desk: Desk, side: Side = Side.LONG, size: str = "10") -> Outcome:
    """Open, and return the fill's outcome."""
    outcome = await desk.settled(await desk.open(side, size))
    assert outcome.state is OutcomeState.FILLED
    return outcome


def move(desk: Desk, price: str) -> None:
    """Move the price, the AMM with it."""
    desk.controls.set_oracle_price(SOL, Decimal(price))


async def cancelled(desk: Desk, submission: Submission) -> Submission:
    """Cancel what rests, and wait until the cancel has landed."""
    cancel = await desk.provider.cancel(submission)
    assert cancel is not None
    assert cancel.purpose is Purpose.CANCEL
    await desk.provider.submit(cancel)
    for _ in range(20):
        await desk.slots(1)
        if isinstance(await desk.solana.proofs.examine(cancel), Landed):
            return cancel
    raise AssertionError("the cancel did not land")


def shown_by(outcome: Outcome) -> str:
    """Return the kind of the evidence."""
    return outcome.evidence[0].kind


def account(desk: Desk) -> User:
    """Return the trading account as it is on the chain."""
    found = desk.cluster.account(desk.world.trader_account.user)
    assert found is not None
    return read_user(bytes(found.data))


def slot_of(desk: Desk) -> PerpPosition:
    """Return the account's position slot of SOL."""
    position = account(desk).perp_position(0)
    assert position is not None
    return position


def cash(outcome: Outcome) -> Decimal:
    """Return what an outcome says that it brought to or took from the account (1e6): of a sell, fees taken off."""
    fees = sum((each.fee_usd for each in outcome.fills), Decimal(0))
    charged = sum((each.fee_usd or Decimal(0) for each in outcome.evidence), Decimal(0))
    return (sum((each.size_usd for each in outcome.fills), Decimal(0)) - fees - charged) * 10**6


@pytest.mark.parametrize(("side", "price", "above"), LEGS)
def test_fires_when_the_price_is_there(binary: Path | None, side: Side, price: str, above: bool) -> None:  # noqa: FBT001 - parameter of the test
    """It rests while the price is short of it, goes off at the price itself, and is filled by a keeper: books exact."""

    async def play(desk: Desk) -> None:
        opened = await holding(desk, side)
        leg = await desk.protect(side, "10", price, above=above)
        assert leg.purpose is Purpose.CLOSE
        assert leg.size == 10
        assert leg.may_fill_until is None
        short_of_it = Decimal(price) + (Decimal("-0.1") if above else Decimal("0.1"))
        move(desk, str(short_of_it))
        await desk.slots(20)
        waiting = await desk.provider.settle(leg)
        assert (waiting.resting, waiting.fills, shown_by(waiting)) == (True, (), "trigger_resting")
        move(desk, price)
        outcome = await desk.settled(leg, provider=desk.restarted())
        assert outcome.state is OutcomeState.FILLED
        assert sum(each.size for each in outcome.fills) == 10
        assert not outcome.resting
        assert await desk.held() == 0
        # What the books say is what the account has, to the unit: the keeper's flat fee is in the first fill.
        sign = 1 if side is Side.LONG else -1
        (entry,) = opened.fills
        entry_cash = -sign * entry.size_usd - entry.fee_usd
        exit_cash = sum(sign * each.size_usd - each.fee_usd for each in outcome.fills)
        assert slot_of(desk).quote_asset_amount == (entry_cash + exit_cash) * 10**6
        assert (await desk.provider.settle(leg)).fills == outcome.fills
        assert await desk.provider.cancel(leg) is None
        await desk.slots(40)
        assert (await desk.provider.settle(leg)).finalized

    at_desk(play, binary=binary)


def test_the_flat_fee_is_in_the_first_fill_once(binary: Path | None) -> None:
    """A fill after a trigger costs the trading fee and the keeper's cent; history names the trading fee alone."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        start = await desk.provider.history(None, desk.cluster.slot - 2)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        move(desk, "144")
        fills = (await desk.settled(leg)).fills
        await desk.slots(3)
        read = await desk.provider.history(start.newest, await desk.solana.all_nodes.slot("confirmed"))
        assert [each.venue_fill_id for each in read.events] == [each.venue_fill_id for each in fills]
        more = [fill.fee_usd - event.fee_usd for fill, event in zip(fills, read.events, strict=True)]
        assert more == [FLAT_FEE, *[0] * (len(fills) - 1)]

    at_desk(play, binary=binary)


def test_only_its_lot_is_closed(binary: Path | None) -> None:
    """With another lot on the slot, the trigger closes its own size and leaves the rest."""

    async def play(desk: Desk) -> None:
        await holding(desk, size="4")
        await holding(desk, size="6")
        leg = await desk.protect(Side.LONG, "4", "145", above=False)
        move(desk, "144")
        assert (await desk.settled(leg)).state is OutcomeState.FILLED
        assert await desk.held() == 6

    at_desk(play, binary=binary)


def test_one_leg_fires_and_the_other_is_cancelled(binary: Path | None) -> None:
    """Stop and take profit rest side by side; the stop fires, the other is taken off and proven dead, for nothing."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        stop = await desk.protect(Side.LONG, "10", "145", above=False)
        profit = await desk.protect(Side.LONG, "10", "155", above=True)
        move(desk, "144")
        assert (await desk.settled(stop)).state is OutcomeState.FILLED
        assert (await desk.provider.settle(profit)).resting
        await cancelled(desk, profit)
        outcome = await desk.settled(profit)
        assert (outcome.state, outcome.fills, outcome.evidence[0].fee_usd) == (OutcomeState.DEAD, (), None)
        assert account(desk).orders == ()

    at_desk(play, binary=binary)


def test_cancelled_before_it_fires(binary: Path | None) -> None:
    """Its cancel names the venue's order id; its record proves the end, and a price that passes later does nothing."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        cancel = await cancelled(desk, leg)
        outcome = await desk.settled(leg, provider=desk.restarted())
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert outcome.error.code == AuctionExpired.code
        assert (shown_by(outcome), outcome.evidence[0].signature) == ("order_ended", cancel.handle)
        assert outcome.evidence[0].fee_usd is None
        move(desk, "144")
        await desk.slots(AUCTION_SLOTS)
        assert await desk.held() == 10

    at_desk(play, binary=binary)


def test_cancelled_after_it_went_off(binary: Path | None) -> None:
    """Set off and not filled, it can be cancelled still; what the keeper had for it is in the evidence."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        before = slot_of(desk).quote_asset_amount
        desk.controls.pause("market_fills", SOL)
        move(desk, "144")
        fired = await desk.until(leg, lambda each: shown_by(each) == "trigger_fired")
        assert (fired.state, fired.resting, fired.fills) == (OutcomeState.UNKNOWN, True, ())
        await cancelled(desk, leg)
        outcome = await desk.settled(leg, provider=desk.restarted())
        assert (outcome.state, outcome.evidence[0].fee_usd) == (OutcomeState.DEAD, FLAT_FEE)
        assert slot_of(desk).quote_asset_amount - before == cash(outcome)
        assert await desk.held() == 10

    at_desk(play, binary=binary)


def test_its_position_is_gone_when_it_fires(binary: Path | None) -> None:
    """The program takes it off itself, and charges for both steps: dead, the fees in the evidence."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        assert (await desk.settled(await desk.close(size="10"))).state is OutcomeState.FILLED
        before = slot_of(desk).quote_asset_amount
        assert (await desk.provider.settle(leg)).resting
        move(desk, "144")
        outcome = await desk.settled(leg, provider=desk.restarted())
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.raw_name) == (NothingLeft.code, "ReduceOnlyOrderIncreasedPosition")
        assert outcome.evidence[0].fee_usd == 2 * FLAT_FEE
        assert slot_of(desk).quote_asset_amount - before == cash(outcome)
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_part_of_its_position_is_gone_when_it_fires(binary: Path | None) -> None:
    """It fills what is left, and the program takes the rest off: partially filled, nothing opened on the other side."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        await desk.settled(await desk.close(size="7"))
        before = slot_of(desk).quote_asset_amount
        move(desk, "144")
        outcome = await desk.settled(leg, provider=desk.restarted())
        assert outcome.state is OutcomeState.PARTIALLY_FILLED
        assert sum(each.size for each in outcome.fills) == 3
        assert slot_of(desk).quote_asset_amount - before == cash(outcome)
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_resting_trigger_keeps_nobody_in(binary: Path | None) -> None:
    """It takes a cent of margin and no side of the book, and a close goes through beside it."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        free = (await desk.provider.show()).free_collateral_usd
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        position = slot_of(desk)
        assert (position.open_bids, position.open_asks, position.open_orders) == (0, 0, 1)
        now = (await desk.provider.show()).free_collateral_usd
        assert free is not None
        assert now == free - Decimal("0.01")
        assert (await desk.settled(await desk.close(size="10"))).state is OutcomeState.FILLED
        await cancelled(desk, leg)
        assert (await desk.settled(leg)).state is OutcomeState.DEAD

    at_desk(play, binary=binary)


def test_a_lost_answer_while_placing(binary: Path | None) -> None:
    """Every node's answer is lost after executing: settling finds the order, and exactly one rests."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.provider.prepare_trigger(await desk.leg(Side.LONG, "10", "145", above=False))
        desk.faults.add(Fault(kind="lost_after", method="sendTransaction", count=2))
        assert (await desk.provider.submit(leg)).accepted == 0
        await desk.provider.submit(leg)
        outcome = await desk.until(leg, lambda each: each.resting, provider=desk.restarted())
        assert outcome.resting
        assert len(account(desk).orders) == 1
        move(desk, "144")
        assert (await desk.settled(leg)).state is OutcomeState.FILLED

    at_desk(play, binary=binary)


def test_never_placed_twice_under_one_lock(binary: Path | None) -> None:
    """Two placements of one generation, sent together: one rests, the other never can, and a third is refused."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        lock = await desk.lock()
        legs = [
            await desk.provider.prepare_trigger(
                await desk.leg(Side.LONG, "10", "145", above=False, lock=lock, number=number)
            )
            for number in (1, 2)
        ]
        orders = [decode_order(decode_body(each).venue) for each in legs]
        assert len({order.user_order_id for order in orders if order is not None}) == 2
        for each in reversed(legs):
            await desk.provider.submit(each)
        lost = await desk.settled(legs[0])
        assert (lost.state, lost.holder) == (OutcomeState.SUPERSEDED, legs[1].handle)
        assert (await desk.provider.settle(legs[1])).resting
        assert len(account(desk).orders) == 1
        with pytest.raises(LockHeld):
            await desk.provider.prepare_trigger(await desk.leg(Side.LONG, "10", "145", above=False, lock=lock))

    at_desk(play, binary=binary)


def test_no_expiry_leaves_a_position_bare(binary: Path | None) -> None:
    """Long past the order's own deadline it rests and protects still."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False, ttl_s=5)
        await desk.clock.sleep(timedelta(minutes=2).total_seconds())
        assert (await desk.provider.settle(leg)).resting
        move(desk, "144")
        assert (await desk.settled(leg)).state is OutcomeState.FILLED

    at_desk(play, binary=binary)


def test_past_the_price_already_it_fires_at_once(binary: Path | None) -> None:
    """The program takes a stop on the wrong side of the price, and a keeper sets it off."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.provider.prepare_trigger(await desk.leg(Side.LONG, "10", "160", above=False))
        await desk.provider.submit(leg)
        assert (await desk.settled(leg)).state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_liquidation_takes_it_off(binary: Path | None) -> None:
    """An account in liquidation loses its orders: dead, by the liquidation's own transaction."""

    async def play(desk: Desk) -> None:
        await holding(desk, size="20")
        leg = await desk.protect(Side.LONG, "20", "140", above=False)
        signature = desk.controls.liquidate(SOL)
        outcome = await desk.settled(leg)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert outcome.error.code == BeingLiquidated.code
        assert outcome.evidence[0].signature == signature

    at_desk(play, binary=binary)


def test_who_placed_it_is_known_before_and_after_it_went_off(binary: Path | None) -> None:
    """Holdings name the transaction that placed it, also once the venue dates it by its trigger, to any reader."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        stop = await desk.protect(Side.LONG, "4", "145", above=False)
        profit = await desk.protect(Side.LONG, "10", "155", above=True)
        placed = {stop.handle, profit.handle}
        (one, other) = (await desk.provider.holdings(desk.cluster.slot - 2)).orders
        assert {one.placed_by, other.placed_by} == placed
        assert {one.size, other.size} == {4, 10}
        for each in (one, other):
            assert (each.market, each.side, each.price, each.reduce_only) == (SOL, Side.SHORT, None, True)
        desk.controls.pause("market_fills", SOL)
        move(desk, "144")
        await desk.until(stop, lambda each: shown_by(each) == "trigger_fired")
        for provider in (desk.provider, desk.restarted()):
            orders = (await provider.holdings()).orders
            assert {each.placed_by for each in orders} == placed
        await desk.slots(100)
        assert {each.placed_by for each in (await desk.provider.holdings()).orders} == placed

    at_desk(play, binary=binary)


def watched(desk: Desk) -> tuple[DriftProvider, list[LyingTransport]]:
    """Return a provider whose questions to its nodes can be counted."""
    nodes = [
        LyingTransport(InProcessTransport(desk.cluster, desk.clock, name=f"node{at}", faults=desk.faults))
        for at in range(2)
    ]
    cluster = SolanaCluster.of_transports(nodes, KeypairSigner(bytes(desk.signer)), desk.clock, desk.settings)
    return DriftProvider(cluster, desk.config), nodes


def test_what_happened_while_nobody_looked(binary: Path | None) -> None:
    """It fired behind forty other transactions: who watched it reads the last ones, who did not as many as needed."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        provider, nodes = watched(desk)
        for _ in range(40):
            desk.controls.foreign_trade(SOL, "long", Decimal("0.1"))
            await desk.slots(1)
        await desk.slots(70)
        assert (await provider.settle(leg)).resting
        move(desk, "144")
        await desk.slots(AUCTION_SLOTS)
        for node in nodes:
            node.asked.clear()
        outcome = await provider.settle(leg)
        assert outcome.state is OutcomeState.FILLED
        assert sum(node.asked.count("getTransaction") for node in nodes) < 20
        assert (await desk.restarted().settle(leg)).fills == outcome.fills
        assert await desk.held() == 4

    at_desk(play, binary=binary)


LONG_AGO_SLOTS = 700
"""After this many slots nobody doubts any more whether a transaction could land still."""


def test_nodes_that_have_forgotten_the_placement(binary: Path | None) -> None:
    """A stop outlives the nodes' history: who saw it placed goes on; who did not finds it by number, terms and slot."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        twin = await desk.protect(Side.LONG, "10", "145", above=False)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        await desk.slots(40)
        assert (await desk.provider.settle(leg)).resting
        await desk.slots(LONG_AGO_SLOTS)
        desk.cluster.forget_history(2)
        newcomer = desk.restarted()
        orders = {each.order_id for each in account(desk).orders}
        seen = [await newcomer.settle(each) for each in (twin, leg)]
        assert all(each.resting and each.landed and shown_by(each) == "trigger_resting" for each in seen)
        assert {each.evidence[0].detail for each in seen} == {f"order {order_id}" for order_id in orders}
        cancel = await newcomer.cancel(twin)
        assert cancel is not None
        await newcomer.submit(cancel)
        assert (await desk.settled(twin, provider=newcomer)).state is OutcomeState.DEAD
        desk.cluster.forget_history(0)
        assert not (await desk.restarted().settle(twin)).resting
        move(desk, "144")
        outcome = await desk.settled(leg)
        assert outcome.state is OutcomeState.FILLED
        assert (await newcomer.settle(leg)).fills == outcome.fills
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_forgotten_and_gone_proves_nothing(binary: Path | None) -> None:
    """Neither its placement nor the order is there for who never saw it: unknown, and nothing to cancel."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        leg = await desk.protect(Side.LONG, "10", "145", above=False)
        move(desk, "144")
        assert (await desk.settled(leg)).state is OutcomeState.FILLED
        await desk.slots(LONG_AGO_SLOTS)
        desk.cluster.forget_history(2)
        newcomer = desk.restarted()
        outcome = await newcomer.settle(leg)
        assert (outcome.state, outcome.fills, outcome.resting) == (OutcomeState.UNKNOWN, (), False)
        assert await newcomer.cancel(leg) is None

    at_desk(play, binary=binary)


async def refused(desk: Desk, leaf: type[ProviderError], size: str = "10", price: str = "145") -> ProviderError:
    """Require that a stop of the long is refused, and that nothing rests more than before."""
    before = len(account(desk).orders)
    with pytest.raises(leaf) as caught:
        await desk.provider.prepare_trigger(await desk.leg(Side.LONG, size, price, above=False))
    assert len(account(desk).orders) == before
    return caught.value


def test_refused_before_anything_is_sent(binary: Path | None) -> None:
    """No position, nothing to size, no price, no trigger, a part that is never filled, too little margin."""

    async def play(desk: Desk) -> None:
        assert (await refused(desk, InvalidSize)).raw_code == "6010"
        await holding(desk)
        await refused(desk, InvalidSize, size="0")
        await refused(desk, BelowMinimum, size="0.001")
        await refused(desk, BelowMinimum, size="0.01")
        await refused(desk, InvalidTrigger, price="0")
        await refused(desk, InvalidTrigger, price="18446744073709.5516")
        with pytest.raises(InvalidTrigger):
            await desk.provider.prepare_trigger(await desk.terms(kind=OrderKind.CLOSE, worst="1"))
        with pytest.raises(InvalidSize):
            await desk.provider.prepare_trigger(await desk.leg(Side.SHORT, "10", "155", above=True))
        desk.controls.set_collateral(Decimal(10))
        await desk.slots(2)
        assert (await refused(desk, InsufficientCollateral)).raw_code == "6003"

    at_desk(play, binary=binary)


def test_every_order_place_is_taken(binary: Path | None) -> None:
    """With 32 orders resting there is no place for another: the account's own trouble."""

    async def play(desk: Desk) -> None:
        await holding(desk)
        for number in range(32):
            leg = await desk.leg(Side.LONG, "1", str(100 + number), above=False)
            await desk.provider.submit(await desk.provider.prepare_trigger(leg))
            await desk.slots(2)
        assert len(account(desk).orders) == 32
        assert (await refused(desk, NoFreeSlot)).raw_code == "6060"

    at_desk(play, binary=binary)


@pytest.mark.parametrize(
    ("price", "above", "tick", "expected"),
    [
        ("145", False, 100, 145_000_100),
        ("145", True, 100, 144_999_900),
        ("145.00005", False, 100, 145_000_100),
        ("145.00005", True, 100, 145_000_000),
        ("60000.07", False, 100_000, 60_000_100_000),
        ("60000.07", True, 100_000, 60_000_000_000),
    ],
)
def test_the_tick_before_the_price(price: str, above: bool, tick: int, expected: int) -> None:  # noqa: FBT001 - parameter of the test
    """The venue fires past its trigger price: the last tick short of the caller's, so that it fires at that price."""
    found = trigger_price_of(Trigger(price=Decimal(price), above=above), tick)
    assert found == expected
    reached = Decimal(price) * 10**6
    assert (found < reached) if above else (found > reached)
    assert abs(found - reached) <= tick


def test_older_journals_still_read() -> None:
    """An order that was journaled before triggers were is read as one without."""

    async def play(desk: Desk) -> None:
        order = decode_order(decode_body(await desk.provider.prepare_open(await desk.terms())).venue)
        assert order is not None
        fields = msgspec.to_builtins(order)
        older = {key: value for key, value in fields.items() if not key.startswith("trigger")}
        assert decode_order(msgspec.json.encode(older)) == order

    at_desk(play)
