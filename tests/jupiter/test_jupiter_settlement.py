"""Landed is not filled: keepers that reject, stall and die, owners that cancel, histories that are gone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from solders.pubkey import Pubkey

from providers.base.errors import ErrorClass, Phase
from providers.base.types import LockRef, OrderKind, Outcome, OutcomeState, Purpose, Side, Submission
from providers.jupiter.addresses import escrow_address
from providers.solana.body import decode_body
from router.localnet.faults import Fault
from tests.jupiter.jupiter_desk import SLOT_S, SOL, JupiterDesk, at_jupiter_desk, order_in

WINDOW_S = 45


async def waiting(desk: JupiterDesk, submission: Submission) -> Outcome:
    """Settle until the request waits."""
    outcome = await desk.until(submission, lambda each: each.resting)
    assert (outcome.state, outcome.resting, outcome.executed) == (OutcomeState.UNKNOWN, True, True)
    assert outcome.evidence[0].kind == "request_waiting"
    return outcome


def chain_time(desk: JupiterDesk) -> int:
    """Return the chain's clock."""
    return desk.cluster.unix_timestamp


async def until_cancellable(desk: JupiterDesk, submission: Submission) -> Submission:
    """Ask for a cancel until there is one."""
    for _ in range(200):
        cancel = await desk.provider.cancel(submission)
        if cancel is not None:
            return cancel
        await desk.slots(1)
    raise AssertionError("no cancel was given")


def test_a_landed_request_is_no_fill() -> None:
    """While no keeper comes it is unknown and rests, for the engine to settle again; then it fills."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.run_keeper(running=False)
        submission = await desk.open(Side.LONG, "1")
        await waiting(desk, submission)
        assert await desk.provider.positions() == ()
        assert submission.may_fill_until is not None
        assert submission.may_fill_until > datetime.fromtimestamp(chain_time(desk) + WINDOW_S, UTC)
        desk.controls.revive()
        outcome = await desk.settled(submission, provider=desk.restarted())
        assert outcome.state is OutcomeState.FILLED
        assert outcome.fills[0].signature != submission.handle

    at_jupiter_desk(play)


@pytest.mark.parametrize("side", list(Side))
def test_a_rejected_open_is_refunded(side: Side) -> None:
    """A keeper gives it back without a reason: dead as capacity, and but for fees and lock everything is back."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.reject()
        usdc, lamports = desk.tokens("USDC"), desk.lamports()
        terms = await desk.terms(side, "1")
        submission = await desk.sent(terms)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert (outcome.landed, outcome.executed) == (True, True)
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.error_class) == ("custody_limit", ErrorClass.CAPACITY)
        assert outcome.error.phase is Phase.ANSWERED
        assert outcome.evidence[0].kind == "request_closed"
        assert "went back" in outcome.evidence[0].detail
        order = order_in(submission)
        assert not desk.exists(order.request)
        assert not desk.exists(escrow_address(order.request_key, Pubkey.from_string(order.mint)))
        assert desk.tokens("USDC") == usdc
        assert terms.lock is not None
        spent = terms.lock.terms.base_lamports + terms.number + await desk.fees(submission)
        spent += desk.lamports(Pubkey.from_string(order.position))
        if side is Side.LONG:
            # What was wrapped comes back wrapped, into an account that was made for it.
            assert desk.tokens("SOL") == order.collateral_delta
            spent += order.collateral_delta + await desk.solana.pool.minimum_balance(165)
        assert lamports - desk.lamports() == spent

    at_jupiter_desk(play)


def test_a_price_that_left_the_bound() -> None:
    """The keeper's own refusal is on the chain: dead as price."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.open(Side.LONG, "1", worst="150.5")
        desk.controls.set_oracle_price(SOL, Decimal(151))
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert (outcome.error.error_class, outcome.error.raw_code) == (ErrorClass.PRICE, "6021")
        assert await desk.held() == 0

    at_jupiter_desk(play)


def test_a_custody_that_filled_up() -> None:
    """The limit that the quote did not meet and the keeper does: dead as capacity, with the venue's code."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.open(Side.SHORT, "100")
        desk.controls.set_free_tokens("USDC", Decimal(100))
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.raw_code) == ("custody_limit", "6023")

    at_jupiter_desk(play)


def test_two_steps() -> None:
    """Executed in one transaction and closed in another: one fill, the same before and after the second step."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.separate_steps()
        submission = await desk.open(Side.SHORT, "1")
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        await desk.slots(6)
        assert not desk.exists(order_in(submission).request)
        again = await desk.provider.settle(submission)
        assert (again.state, again.fills[0].venue_fill_id) == (outcome.state, outcome.fills[0].venue_fill_id)

    at_jupiter_desk(play)


def test_a_keeper_that_dies_between_its_steps() -> None:
    """Executed and never closed is filled; once its window has passed the owner can have the rents back."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.die_between_steps()
        submission = await desk.open(Side.SHORT, "1")
        outcome = await desk.settled(submission)
        assert (outcome.state, len(outcome.fills)) == (OutcomeState.FILLED, 1)
        order = order_in(submission)
        assert desk.exists(order.request)
        assert await desk.provider.cancel(submission) is None
        # It waits for nobody any more.
        assert (await desk.provider.holdings()).orders == ()
        await desk.clock.sleep(WINDOW_S)
        before = desk.lamports()
        cancel = await until_cancellable(desk, submission)
        await desk.provider.submit(cancel)
        await desk.slots(3)
        assert not desk.exists(order.request)
        rents = await desk.solana.pool.minimum_balance(312) + await desk.solana.pool.minimum_balance(165)
        assert desk.lamports() - before == rents - await desk.fees(cancel)
        again = await desk.provider.settle(submission)
        assert (again.state, again.fills) == (OutcomeState.FILLED, outcome.fills)

    at_jupiter_desk(play)


@pytest.mark.parametrize("side", list(Side))
def test_nobody_comes(side: Side) -> None:
    """No cancel within the window; after it the owner closes, the escrow comes back, and it is dead as connection."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.run_keeper(running=False)
        usdc = desk.tokens("USDC")
        submission = await desk.open(side, "1")
        await waiting(desk, submission)
        began = chain_time(desk)
        assert await desk.provider.cancel(submission) is None
        cancel = await until_cancellable(desk, submission)
        assert cancel.purpose is Purpose.CANCEL
        assert chain_time(desk) > began + WINDOW_S - 2
        # A cancel that is only built, or sent, proves nothing.
        assert (await desk.provider.settle(submission)).resting
        await desk.provider.submit(cancel)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.raw_code) == ("timed_out", "6035")
        assert outcome.error.error_class is ErrorClass.CONNECTION
        assert outcome.evidence[0].signature == cancel.handle
        assert desk.tokens("USDC") == usdc
        assert not desk.exists(order_in(submission).request)
        assert await desk.provider.cancel(submission) is None

    at_jupiter_desk(play)


def test_a_cancel_needs_its_token_account() -> None:
    """A refund whose token account was closed meanwhile: the cancel makes it anew."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.run_keeper(running=False)
        submission = await desk.open(Side.LONG, "1")
        await waiting(desk, submission)
        desk.drop_token_account("SOL")
        cancel = await until_cancellable(desk, submission)
        await desk.provider.submit(cancel)
        assert (await desk.settled(submission)).state is OutcomeState.DEAD
        assert desk.tokens("SOL") == order_in(submission).collateral_delta

    at_jupiter_desk(play)


def test_the_older_instruction_switched_off() -> None:
    """Owners close with the newer one then."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.run_keeper(running=False)
        desk.controls.disable_owner_close()
        submission = await desk.open(Side.SHORT, "1")
        await waiting(desk, submission)
        await desk.clock.sleep(WINDOW_S + 3)
        cancel = await until_cancellable(desk, submission)
        await desk.provider.submit(cancel)
        assert (await desk.settled(submission)).state is OutcomeState.DEAD

    at_jupiter_desk(play)


@pytest.mark.parametrize("executes", [True, False])
def test_a_keeper_and_our_cancel_at_once(executes: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """The request ends in the slot in which our cancel lands: the history says which of the two it was."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.run_keeper(running=False)
        desk.controls.set_execution_window(20)
        submission = await desk.open(Side.SHORT, "1")
        await waiting(desk, submission)
        cancel = await until_cancellable(desk, submission)
        if executes:
            desk.controls.set_execution_window(WINDOW_S)
            desk.controls.revive()
            desk.controls.keeper.on_slot(desk.cluster.slot)
            desk.controls.keeper.on_slot(desk.cluster.slot + 3)
        await desk.provider.submit(cancel)
        outcome = await desk.settled(submission)
        assert outcome.state is (OutcomeState.FILLED if executes else OutcomeState.DEAD)
        assert abs(await desk.held()) == (1 if executes else 0)

    at_jupiter_desk(play)


def test_pruned_history_is_no_death() -> None:
    """A request that is gone, and no node that shows how, stays unknown, whatever the position looks like."""

    async def play(desk: JupiterDesk) -> None:
        filled = await desk.open(Side.SHORT, "1")
        await desk.slots(8)
        desk.controls.reject()
        rejected = await desk.open(Side.LONG, "1")
        await desk.slots(8)
        desk.cluster.forget_history(1)
        for submission in (filled, rejected):
            outcome = await desk.provider.settle(submission)
            assert (outcome.state, outcome.fills) == (OutcomeState.UNKNOWN, ())

    at_jupiter_desk(play)


def test_a_history_that_cannot_be_read_now() -> None:
    """Nodes that do not list the request's transactions leave it unknown; when they do, it is filled."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.open(Side.SHORT, "1")
        await desk.slots(8)
        desk.faults.add(Fault(kind="internal_error", method="getSignaturesForAddress", count=2))
        outcome = await desk.provider.settle(submission)
        assert (outcome.state, outcome.landed) == (OutcomeState.UNKNOWN, True)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED

    at_jupiter_desk(play)


@pytest.mark.parametrize("rejected", [False, True])
def test_the_deciding_transaction_cannot_be_had(rejected: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """The request is gone and its end is listed, but no node shows it: neither filled nor dead until one does."""

    async def play(desk: JupiterDesk) -> None:
        if rejected:
            desk.controls.reject()
        submission = await desk.open(Side.SHORT, "1")
        await desk.slots(8)
        # Each node is asked once for the transaction that made the request; nothing else is shown.
        desk.faults.add(Fault(kind="null", method="getTransaction", after=desk.nodes, count=None))
        outcome = await desk.provider.settle(submission)
        assert (outcome.state, outcome.landed, outcome.fills) == (OutcomeState.UNKNOWN, True, ())
        assert "cannot be read whole" in outcome.evidence[0].detail
        desk.faults.clear()
        outcome = await desk.settled(submission)
        assert outcome.state is (OutcomeState.DEAD if rejected else OutcomeState.FILLED)

    at_jupiter_desk(play)


def test_one_node_that_lags() -> None:
    """A node that has not seen the execution must not make it dead."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.open(Side.SHORT, "1")
        desk.faults.add(Fault(kind="stale", node="node1", slots=10, count=None))
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED

    at_jupiter_desk(play)


def test_a_lost_answer() -> None:
    """No node answers the send, and it landed: one request, one fill, however often it is sent."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.prepared(await desk.terms(Side.LONG, "1"))
        desk.faults.add(Fault(kind="lost_after", method="sendTransaction", count=2))
        assert (await desk.provider.submit(submission)).accepted == 0
        for _ in range(5):
            await desk.provider.submit(submission)
            await desk.slots(2)
        outcome = await desk.settled(submission, provider=desk.restarted())
        assert (outcome.state, len(outcome.fills)) == (OutcomeState.FILLED, 1)
        assert await desk.held() == 1

    at_jupiter_desk(play)


def test_never_landed() -> None:
    """Sent to nobody: once the blockhash is past and the lock free, it is dead, and never was a request."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.prepared(await desk.terms(Side.LONG, "1"))
        outcome = await desk.settled(submission, within_s=SLOT_S * 250)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.evidence[0].kind == "expired_lock_free"
        assert outcome.error is not None
        assert outcome.error.code == "not_landed"

    at_jupiter_desk(play)


def test_a_fence_shuts_it_out() -> None:
    """A request that was never sent cannot be made any more once our fence holds the lock."""

    async def play(desk: JupiterDesk) -> None:
        terms = await desk.terms(Side.LONG, "1")
        submission = await desk.prepared(terms)
        lock: LockRef | None = terms.lock
        assert lock is not None
        fence = await desk.solana.lock.prepare_fence(lock)
        await desk.solana.lock.submit(fence)
        await desk.slots(3)
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert (outcome.state, outcome.holder) == (OutcomeState.SUPERSEDED, fence.handle)

    at_jupiter_desk(play)


def test_landed_with_an_error() -> None:
    """The venue refuses between simulation and landing: dead at once, by the transaction itself."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.prepared(await desk.terms(Side.LONG, "1"))
        desk.controls.pause("increase")
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.evidence[0].kind == "landed_with_err"
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.raw_code) == ("market_paused", "6027")

    at_jupiter_desk(play)


def test_a_position_changed_by_somebody_else() -> None:
    """A foreign open and a foreign close between request and execution: our close takes its own dollars, no more."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "4", leverage="2")
        desk.controls.run_keeper(running=False)
        closing = await desk.close(Side.SHORT, "4")
        await waiting(desk, closing)
        desk.controls.foreign_trade(SOL, "short", Decimal(300))
        desk.controls.revive()
        outcome = await desk.settled(closing)
        assert (outcome.state, outcome.fills[0].size) == (OutcomeState.FILLED, Decimal(4))
        assert await desk.held() == -2
        desk.controls.run_keeper(running=False)
        closing = await desk.close(Side.SHORT, "2")
        await waiting(desk, closing)
        desk.controls.foreign_trade(SOL, "short", Decimal(150), reduce=True)
        desk.controls.revive()
        refused = await desk.settled(closing)
        # More than is left is no partial fill on this venue: it is given back, to be tried again with what there is.
        assert refused.state is OutcomeState.DEAD
        assert refused.error is not None
        assert (refused.error.error_class, refused.error.raw_code) == (ErrorClass.CONNECTION, "6009")
        assert await desk.held() == -1
        assert (await desk.closed(Side.SHORT, "2")).fills[0].size == 1

    at_jupiter_desk(play)


def test_a_submission_without_an_order() -> None:
    """Of an unwrapping nothing can be settled; it is no order."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        await desk.closed(Side.LONG, "1")
        unwrapping = await desk.provider.unwrap()
        assert unwrapping is not None
        assert bytes(decode_body(unwrapping).venue) == b"null"
        await desk.provider.submit(unwrapping)
        outcome = await desk.until(unwrapping, lambda each: bool(each.landed))
        assert (outcome.state, outcome.resting) == (OutcomeState.UNKNOWN, False)
        assert await desk.provider.cancel(unwrapping) is None
        assert await desk.provider.unwrap() is None

    at_jupiter_desk(play)


def test_a_close_that_nobody_takes_can_be_tried_again() -> None:
    """Its request is closed after the window, and the next attempt has an address of its own."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        desk.controls.run_keeper(running=False)
        first = await desk.sent(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE))
        await waiting(desk, first)
        await desk.provider.submit(await until_cancellable(desk, first))
        assert (await desk.settled(first)).state is OutcomeState.DEAD
        desk.controls.revive()
        assert (await desk.closed(Side.LONG, "1")).state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_jupiter_desk(play)
