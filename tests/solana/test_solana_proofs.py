"""Proofs over a real runtime on virtual time; the venue is a transfer of 1,000 lamports, so fills can be counted."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from solders.instruction import AccountMeta, Instruction

from providers.base.errors import Phase
from providers.base.types import Purpose, Submission
from providers.solana.body import decode_body
from providers.solana.errors import LockHeld
from providers.solana.lock import lock_address
from providers.solana.proofs import Expired, FailedOnChain, Landed, Superseded, Unclear
from tests.solana.solana_world import VENUE, WALLET, World, pay, run_world


async def examine(world: World, submission: Submission, *known: str) -> object:
    """Examine as a process does that has nothing but the journal: the body goes through JSON first."""
    journaled = msgspec.json.decode(msgspec.json.encode(submission), type=Submission)
    return await world.solana.proofs.examine(journaled, known)


def test_a_landed_transaction_is_proven_from_its_record() -> None:
    """An attempt that executed is `Landed`, with balances, logs and finality read from the chain."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        ack = await world.solana.sender.submit(submission)
        assert (ack.accepted, ack.errors, ack.not_sent) == (1, (), False)
        await world.slots(3)
        found = await examine(world, submission)
        assert isinstance(found, Landed)
        record = found.record
        assert record.signature == submission.handle
        assert record.err is None
        assert record.logs_complete
        assert not record.finalized
        index = record.account_keys.index(VENUE)
        assert record.post_balances[index] - record.pre_balances[index] == 1_000
        assert submission.lock is not None
        assert record.took(lock_address(submission.lock))
        await world.slots(40)
        later = await examine(world, submission)
        assert isinstance(later, Landed)
        assert later.record.finalized

    run_world(story)


@pytest.mark.parametrize(
    "kind",
    [
        "lost_after",
        "http_503_after",
        "cut_after",
        "html",
        "null",
        "wrong_id",
        "truncated",
        "unknown_code",
        "internal_error",
    ],
)
def test_an_answer_lost_after_execution_proves_nothing_and_the_record_everything(kind: str) -> None:
    """Whatever the answer to the hand-over was, an executed transaction is found landed, once."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        world.fault(kind, method="sendTransaction")
        ack = await world.solana.sender.submit(submission)
        assert ack.accepted == 0
        assert not ack.not_sent
        assert [error.phase for error in ack.errors] == [Phase.MAYBE_SENT]
        await world.slots(3)
        assert isinstance(await examine(world, submission), Landed)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert world.venue_fills() == 1

    run_world(story)


@pytest.mark.parametrize("kind", ["dropped_before", "http_503_before", "cut_before", "http_429"])
def test_what_never_arrived_expires_and_only_then_is_dead(kind: str) -> None:
    """Dropped before execution: unclear until the height has passed at `finalized`, then expired with the lock free."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        body = decode_body(submission)
        world.fault(kind, method="sendTransaction")
        ack = await world.solana.sender.submit(submission)
        assert ack.accepted == 0
        assert not ack.not_sent
        while world.chain.block_height <= body.expiry_height + 30:
            assert isinstance(await examine(world, submission), Unclear)
            await world.slots(10)
        await world.slots(40)
        found = await examine(world, submission)
        assert isinstance(found, Expired)
        assert found.height > body.expiry_height
        assert world.venue_fills() == 0
        # What is proven dead stays dead, though its bytes go round again.
        await world.solana.sender.submit(submission)
        await world.slots(40)
        assert isinstance(await examine(world, submission), Expired)
        assert world.venue_fills() == 0

    run_world(story)


def test_a_refused_connection_is_not_sent() -> None:
    """Where no byte was written to any node the ack says so; one node that may have read is enough to say otherwise."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        world.fault("refused", method="sendTransaction", count=2)
        ack = await world.solana.sender.submit(submission)
        assert ack.not_sent
        assert {error.phase for error in ack.errors} == {Phase.NOT_SENT}
        world.faults.clear()
        world.fault("refused", method="sendTransaction", node="node0")
        world.fault("dropped_before", method="sendTransaction", node="node1")
        ack = await world.solana.sender.submit(submission)
        assert not ack.not_sent
        assert ack.accepted == 0

    run_world(story, nodes=2)


def test_a_transaction_that_lands_late_is_found() -> None:
    """Accepted and executed a hundred slots later: unclear in between, landed at the end, never expired."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        world.fault("landed_late", method="sendTransaction", slots=100)
        await world.solana.sender.submit(submission)
        for _ in range(9):
            await world.slots(10)
            assert isinstance(await examine(world, submission), Unclear)
        await world.slots(20)
        assert isinstance(await examine(world, submission), Landed)
        await world.expire()
        assert isinstance(await examine(world, submission), Landed)
        assert world.venue_fills() == 1

    run_world(story)


@pytest.mark.parametrize("nodes", [1, 2])
def test_reads_that_lag_behind_the_heights_show_no_expiry(nodes: int) -> None:
    """It executed late in its window; nodes whose accounts and transactions lag behind their heights prove nothing."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        body = decode_body(submission)
        world.fault("landed_late", method="sendTransaction", slots=140, count=nodes)
        await world.solana.sender.submit(submission)
        for method in ("getMultipleAccounts", "getTransaction"):
            world.fault("stale", method=method, slots=80, count=None)
        while world.chain.block_height <= body.expiry_height + 28:
            await world.slots(1)
        assert world.venue_fills() == 1
        # From here on the finalized height passes the expiry, and what the nodes read is from before the execution.
        for _ in range(20):
            assert isinstance(await examine(world, submission), Unclear)
            await world.slots(1)
        world.faults.clear()
        assert isinstance(await examine(world, submission), Landed)

    run_world(story, nodes=nodes)


def test_landed_with_an_error_is_dead_at_once() -> None:
    """An attempt whose venue instruction fails on chain is `FailedOnChain`, and leaves the lock free."""

    async def story(world: World) -> None:
        lock = await world.lock()
        wallet = world.chain.account(WALLET.pubkey())
        assert wallet is not None
        submission = await world.attempt(lock, lamports=50_000_000_000)
        # Another payment takes the money between simulation and landing.
        first = await world.attempt(None, lamports=60_000_000_000)
        await world.solana.sender.submit(first)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        found = await examine(world, submission)
        assert isinstance(found, FailedOnChain)
        assert found.failure.instruction_index == 3
        assert found.failure.code == 1
        assert found.failure.program_id == "11111111111111111111111111111111"
        assert found.record.logs_complete
        assert (await world.solana.lock.state(lock)).held is False

    run_world(story)


def test_a_fence_settles_an_unclear_attempt_in_slots() -> None:
    """A fence takes the lock: the attempt is superseded by it, and its bytes can never execute any more."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        world.fault("dropped_before", method="sendTransaction")
        await world.solana.sender.submit(submission)
        fence = await world.solana.lock.prepare_fence(lock)
        assert fence.purpose is Purpose.FENCE
        await world.solana.lock.submit(fence)
        await world.slots(3)
        for known in ((), (submission.handle, fence.handle)):
            found = await examine(world, submission, *known)
            assert isinstance(found, Superseded)
            assert found.holder == fence.handle
        await world.solana.sender.submit(submission)
        await world.slots(3)
        # Now it landed, and failed at its lock instruction: superseded still, by the same holder.
        assert isinstance(await examine(world, submission), Superseded)
        assert world.venue_fills() == 0
        assert await world.solana.lock.landed(fence) is None
        await world.slots(40)
        assert await world.solana.lock.landed(fence) is True
        assert not await world.solana.lock.expired(fence)
        await world.expire()
        assert await world.solana.lock.expired(fence)

    run_world(story)


def test_a_fence_that_comes_second_fails_and_the_attempt_stands() -> None:
    """The attempt had landed: the fence is refused in simulation, and a fence in flight loses."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        fence = await world.solana.lock.prepare_fence(lock)
        await world.solana.sender.submit(submission)
        await world.solana.lock.submit(fence)
        await world.slots(3)
        with pytest.raises(LockHeld):
            await world.solana.lock.prepare_fence(lock)
        assert isinstance(await examine(world, submission), Landed)
        state = await world.solana.lock.state(lock, (fence.handle,))
        assert (state.held, state.holder) == (True, submission.handle)
        await world.slots(40)
        assert await world.solana.lock.landed(fence) is False

    run_world(story)


def test_of_siblings_in_flight_exactly_one_executes() -> None:
    """Five attempts of one generation on the wire together: one fill, the rest superseded by it."""

    async def story(world: World) -> None:
        lock = await world.lock()
        siblings = [await world.attempt(lock, number) for number in range(1, 6)]
        assert len({each.handle for each in siblings}) == 5
        world.fault("lost_after", method="sendTransaction", count=3)
        await asyncio.gather(*(world.solana.sender.submit(each) for each in siblings))
        await world.slots(3)
        found = [await examine(world, each) for each in siblings]
        landed = [each for each in found if isinstance(each, Landed)]
        assert len(landed) == 1
        holders = {each.holder for each in found if isinstance(each, Superseded)}
        assert holders == {landed[0].record.signature}
        assert world.venue_fills() == 1
        with pytest.raises(LockHeld) as raised:
            await world.attempt(lock, 6)
        assert raised.value.phase is Phase.NOT_SENT

    run_world(story)


def test_dust_after_landing_does_not_change_the_holder() -> None:
    """Strangers add lamports to a held lock, many times: the holder stays who took it from zero."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        await world.solana.sender.submit(submission)
        await world.slots(2)
        for lamports in range(1, 8):
            world.stranger_pays(lock_address(lock), lamports)
            await world.slots(1)
        await world.slots(2)
        state = await world.solana.lock.state(lock)
        assert (state.held, state.holder) == (True, submission.handle)
        assert isinstance(await examine(world, submission), Landed)

    run_world(story)


def test_a_stranger_who_takes_the_lock_first_kills_every_attempt() -> None:
    """Lamports before landing make a stranger the holder: superseded by a signature that is none of ours."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        stranger = world.stranger_pays(lock_address(lock), 1_000_000)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        found = await examine(world, submission)
        assert isinstance(found, Superseded)
        assert found.holder == stranger
        with pytest.raises(LockHeld):
            await world.attempt(lock, 2)
        assert world.venue_fills() == 0

    run_world(story)


def test_lines_in_the_locks_history_that_took_nothing_are_no_holders() -> None:
    """A transaction that only names the lock, and one that failed on it, come before the holder and are passed over."""

    async def story(world: World) -> None:
        lock = await world.lock()
        address = lock_address(lock)
        await world.slots(1)
        plain = pay(WALLET.pubkey(), VENUE, 1_000)
        naming = Instruction(plain.program_id, plain.data, [*plain.accounts, AccountMeta(address, False, False)])
        named = await world.attempt(None, instructions=(naming,), purpose=Purpose.DEPOSIT)
        await world.solana.sender.submit(named)
        await world.slots(2)
        assert isinstance(await examine(world, named), Landed)
        assert (await world.solana.lock.state(lock)).held is False
        submission = await world.attempt(lock)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        state = await world.solana.lock.state(lock, (named.handle,))
        assert (state.held, state.holder) == (True, submission.handle)

    run_world(story)
