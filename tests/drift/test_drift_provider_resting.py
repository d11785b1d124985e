"""Orders that wait for an auction: filled by a keeper, watched, cancelled, expired, and proven to have ended."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from solders.message import MessageV0
from solders.transaction import VersionedTransaction

from providers.base.errors import AuctionExpired
from providers.base.types import Outcome, OutcomeState, Purpose, Side, Submission
from providers.drift.build import decode_order
from providers.drift.config import DriftConfig
from providers.solana.body import decode_body
from providers.solana.codec import Value, build_instruction
from providers.solana.idl import Idl
from providers.solana.proofs import Landed
from router.localnet.actors import remaining_accounts
from router.localnet.faults import Fault
from router.localnet.world import WorldKeys, world_of
from tests.drift.drift_desk import SOL, Desk, at_desk

AUCTION = 10


async def resting(desk: Desk, side: Side = Side.LONG, size: str = "1", **more: object) -> Submission:
    """Open with the keeper standing still, and wait until the order rests."""
    desk.controls.run_keeper(running=False)
    desk.controls.set_auction(AUCTION)
    await desk.slots(2)
    submission = await desk.open(side, size, **more)
    outcome = await desk.until(submission, lambda each: each.resting)
    assert outcome.state is OutcomeState.UNKNOWN
    assert outcome.resting
    assert (outcome.landed, outcome.executed, outcome.fills) == (True, True, ())
    return submission


async def cancelled(desk: Desk, submission: Submission) -> Submission:
    """Cancel what rests of a submission, and wait until the cancel has landed."""
    cancel = await desk.provider.cancel(submission)
    assert cancel is not None
    assert (cancel.purpose, cancel.lock) == (Purpose.CANCEL, None)
    await desk.provider.submit(cancel)
    for _ in range(20):
        await desk.slots(1)
        if isinstance(await desk.solana.proofs.examine(cancel), Landed):
            return cancel
    raise AssertionError("the cancel did not land")


def shown_by(outcome: Outcome) -> tuple[str, str | None]:
    """Return kind and signature of the evidence."""
    return outcome.evidence[0].kind, outcome.evidence[0].signature


def test_the_order_has_the_auctions_shape(binary: Path | None) -> None:
    """With an auction to wait for, the order starts at the oracle, ends at the bound, and ends with the deadline."""

    async def play(desk: Desk) -> None:
        desk.controls.set_auction(AUCTION)
        await desk.slots(2)
        order = decode_order(decode_body(await desk.provider.prepare_open(await desk.terms(worst="151"))).venue)
        assert order is not None
        assert (order.mode, order.auction_start_price, order.price) == ("auction", 150_000_000, 151_000_000)
        assert order.auction_slots == AUCTION
        better = decode_order(decode_body(await desk.provider.prepare_open(await desk.terms(worst="149"))).venue)
        assert better is not None
        assert better.auction_start_price == better.price == 149_000_000

    at_desk(play, binary=binary)


@pytest.mark.parametrize("side", list(Side))
def test_a_keepers_fill_is_ours(binary: Path | None, side: Side) -> None:
    """The keeper's transaction fills the order; its record, by account and order id, is the fill and the end."""

    async def play(desk: Desk) -> None:
        submission = await resting(desk, side, "2")
        assert await desk.held() == 0
        desk.controls.run_keeper()
        outcome = await desk.settled(submission, provider=desk.restarted())
        assert outcome.state is OutcomeState.FILLED
        (fill,) = outcome.fills
        assert fill.size == 2
        assert fill.signature != submission.handle
        assert shown_by(outcome) == ("order_ended", fill.signature)
        assert await desk.held() == (2 if side is Side.LONG else -2)
        await desk.slots(40)
        assert (await desk.provider.settle(submission)).finalized

    at_desk(play, binary=binary)


def test_a_close_by_a_keeper(binary: Path | None) -> None:
    """A reduce-only auction order is filled like any other, and leaves the account flat."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        desk.controls.set_auction(AUCTION)
        await desk.slots(2)
        outcome = await desk.settled(await desk.close())
        assert outcome.state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_cancelled_order_is_dead_by_the_cancels_record(binary: Path | None) -> None:
    """The cancel names the venue's order id; its record, not its success, proves the end."""

    async def play(desk: Desk) -> None:
        submission = await resting(desk)
        cancel = await cancelled(desk, submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert not outcome.resting
        assert outcome.error is not None
        assert outcome.error.code == AuctionExpired.code
        assert shown_by(outcome) == ("order_ended", cancel.handle)
        assert await desk.provider.cancel(submission) is None
        desk.controls.run_keeper()
        await desk.slots(40)
        assert await desk.held() == 0
        assert (await desk.provider.settle(submission)).finalized

    at_desk(play, binary=binary)


def test_a_cancel_touches_no_other_order(binary: Path | None) -> None:
    """Two orders rest; cancelling one leaves the other to be filled."""

    async def play(desk: Desk) -> None:
        first = await resting(desk, size="1")
        second = await desk.open(size="2")
        await desk.until(second, lambda each: each.resting)
        await cancelled(desk, first)
        assert (await desk.settled(first)).state is OutcomeState.DEAD
        desk.controls.run_keeper()
        outcome = await desk.settled(second)
        assert (outcome.state, outcome.fills[0].size) == (OutcomeState.FILLED, Decimal(2))
        assert await desk.held() == 2

    at_desk(play, binary=binary)


def test_a_cancel_that_comes_too_late_proves_nothing(binary: Path | None) -> None:
    """The keeper fills first, and the cancel succeeds all the same: the order is filled."""

    async def play(desk: Desk) -> None:
        submission = await resting(desk)
        cancel = await desk.provider.cancel(submission)
        assert cancel is not None
        desk.controls.run_keeper()
        await desk.slots(15)
        await desk.provider.submit(cancel)
        await desk.slots(4)
        assert isinstance(await desk.solana.proofs.examine(cancel), Landed)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        assert await desk.held() == 1

    at_desk(play, binary=binary)


def test_an_expired_order_is_taken_off_by_a_keeper(binary: Path | None) -> None:
    """A bound that is never met: after the deadline a keeper's transaction fills nothing and ends the order."""

    async def play(desk: Desk) -> None:
        submission = await resting(desk, worst="149", ttl_s=12)
        desk.controls.run_keeper()
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.raw_name) == (AuctionExpired.code, "OrderExpired")
        assert outcome.evidence[0].kind == "order_ended"
        # The keeper's flat fee.
        assert outcome.evidence[0].fee_usd == Decimal("0.01")
        deadline = submission.may_fill_until
        assert deadline is not None
        assert desk.clock.now() >= deadline

    at_desk(play, binary=binary)


def test_an_expired_order_that_nobody_takes_off(binary: Path | None) -> None:
    """Its deadline passed on the finalized clock, and the order lies there unfilled: proof without any keeper."""

    async def play(desk: Desk) -> None:
        submission = await resting(desk, ttl_s=10)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.finalized
        assert outcome.evidence[0].kind == "expired_on_chain_clock"
        deadline = submission.may_fill_until
        assert deadline is not None
        assert desk.clock.now() > deadline
        desk.controls.run_keeper()
        await desk.slots(20)
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_partial_fill_rests_until_it_ends(binary: Path | None) -> None:
    """An order above one fill of the AMM is filled in parts: fills are shown as they come, the end by the last."""

    async def play(desk: Desk) -> None:
        desk.controls.set_collateral(Decimal(2_000_000))
        # The AMM can be told to give less a fill only by its reserves: the bound stops it in the middle instead.
        submission = await resting(desk, size="3000", worst="150.3", ttl_s=60, leverage="5")
        desk.controls.run_keeper()
        partial = await desk.until(submission, lambda each: bool(each.fills))
        assert partial.state is OutcomeState.UNKNOWN
        assert partial.resting
        assert 0 < partial.fills[0].size < 3000
        held = await desk.held()
        assert held == sum(each.size for each in partial.fills)
        await cancelled(desk, submission)
        outcome = await desk.settled(submission, provider=desk.restarted())
        assert outcome.state is OutcomeState.PARTIALLY_FILLED
        assert outcome.fills[: len(partial.fills)] == partial.fills
        assert await desk.held() == sum(each.size for each in outcome.fills)

    at_desk(play, binary=binary)


def test_a_placement_that_lands_after_its_deadline(binary: Path | None) -> None:
    """The program skips such an order without an error: executed, no order in complete logs, dead."""

    async def play(desk: Desk) -> None:
        desk.controls.set_auction(AUCTION)
        await desk.slots(2)
        submission = await desk.provider.prepare_open(await desk.terms(ttl_s=4))
        await desk.slots(16)
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert (outcome.landed, outcome.executed) == (True, True)
        assert outcome.evidence[0].kind == "no_order_in_logs"
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_history_with_a_hole_stays_unknown(binary: Path | None) -> None:
    """While a transaction of the history cannot be had, a vanished order proves nothing; later it is settled."""

    async def play(desk: Desk) -> None:
        submission = await resting(desk)
        desk.controls.run_keeper()
        await desk.slots(30)
        assert await desk.held() == 1
        desk.faults.add(Fault(kind="internal_error", method="getSignaturesForAddress", count=None))
        outcome = await desk.provider.settle(submission)
        assert outcome.state is OutcomeState.UNKNOWN
        assert (outcome.landed, outcome.executed) == (True, True)
        desk.faults.clear()
        await desk.slots(30)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED

    at_desk(play, binary=binary)


def test_others_transactions_are_not_ours(binary: Path | None) -> None:
    """Fills of other orders of the same account, before and after, are never booked on this one."""

    async def play(desk: Desk) -> None:
        before = await desk.open(size="1")
        assert (await desk.settled(before)).state is OutcomeState.FILLED
        submission = await resting(desk, size="2")
        desk.controls.set_auction(0)
        await desk.slots(2)
        after = await desk.open(size="3")
        assert (await desk.settled(after)).state is OutcomeState.FILLED
        await cancelled(desk, submission)
        outcome = await desk.settled(submission)
        assert (outcome.state, outcome.fills) == (OutcomeState.DEAD, ())
        assert await desk.held() == 4

    at_desk(play, binary=binary)


def test_a_known_maker_that_crosses_is_taken_at_once(binary: Path | None) -> None:
    """With a known maker's order resting inside the bound, an order takes it in one transaction, auction or not."""
    world = world_of(WorldKeys())
    config = DriftConfig(makers=(world.maker.user,))

    async def play(desk: Desk) -> None:
        desk.controls.run_keeper(running=False)
        desk.controls.set_auction(AUCTION)
        await desk.slots(2)
        place_resting_sell(desk, price=150_005_000, base=5 * 10**9)
        await desk.slots(15)
        submission = await desk.open(Side.LONG, "2", worst="151")
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        (fill,) = outcome.fills
        assert (fill.price, fill.signature) == (Decimal("150.005"), submission.handle)

    at_desk(play, binary=binary, config=config)


def place_resting_sell(desk: Desk, *, price: int, base: int) -> None:
    """Have the world's maker place a post-only sell, by a transaction of its own."""
    maker = desk.world.maker
    market = desk.world.market(SOL)
    params: dict[str, Value] = {
        "order_type": "Limit",
        "market_type": "Perp",
        "direction": "Short",
        "user_order_id": 1,
        "base_asset_amount": base,
        "price": price,
        "market_index": market.terms.index,
        "reduce_only": False,
        "post_only": "MustPostOnly",
        "bit_flags": 0,
        "max_ts": None,
        "trigger_price": None,
        "trigger_condition": "Above",
        "oracle_price_offset": None,
        "auction_duration": None,
        "auction_start_price": None,
        "auction_end_price": None,
    }
    wallet = maker.wallet.pubkey()
    instruction = build_instruction(
        Idl.load("drift"),
        desk.world.program_id,
        "place_perp_order",
        {"state": desk.world.state, "user": maker.user, "authority": wallet},
        {"params": params},
        remaining=remaining_accounts(desk.world, writable=market.terms.index),
    )
    message = MessageV0.try_compile(wallet, [instruction], [], desk.cluster.latest_blockhash())
    result = desk.cluster.execute(VersionedTransaction(message, [maker.wallet]))
    assert result.ok, result
