"""Answers that are lost, transactions that land late or never, siblings on one lock: settled by proof alone."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from solders.keypair import Keypair
from solders.token.associated import get_associated_token_address

from providers.base.errors import ConnectionFailed, NotLanded, Phase
from providers.base.types import OrderKind, OutcomeState, QuoteTerms, Side
from providers.solana.errors import LockHeld
from providers.solana.settings import SolanaSettings
from router.localnet.faults import Fault, FaultKind
from router.localnet.spl import token_account
from tests.drift.drift_desk import SOL, Desk, at_desk

EXECUTED: list[FaultKind] = ["lost_after", "cut_after", "http_503_after", "html", "null", "truncated", "internal_error"]
NOT_EXECUTED: list[FaultKind] = ["dropped_before", "cut_before", "http_429", "http_503_before"]


@pytest.mark.parametrize("kind", EXECUTED)
def test_a_lost_answer_is_not_a_failure(binary: Path | None, kind: FaultKind) -> None:
    """Every node's answer is lost after executing: the ack proves nothing, and the fill is found by its signature."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms())
        desk.faults.add(Fault(kind=kind, method="sendTransaction", count=2))
        ack = await desk.provider.submit(submission)
        assert ack.accepted == 0
        assert not ack.not_sent
        assert {each.phase for each in ack.errors} <= {Phase.MAYBE_SENT, Phase.ANSWERED}
        outcome = await desk.settled(submission, provider=desk.restarted())
        assert outcome.state is OutcomeState.FILLED
        assert await desk.held() == 1

    at_desk(play, binary=binary)


@pytest.mark.parametrize("kind", NOT_EXECUTED)
def test_what_never_arrived_is_dead_only_once_it_expired(kind: FaultKind) -> None:
    """Nothing arrived; it stays unknown until its blockhash is past at `finalized` and the lock reads free there."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms())
        desk.faults.add(Fault(kind=kind, method="sendTransaction", count=2))
        ack = await desk.provider.submit(submission)
        assert ack.accepted == 0
        assert (await desk.provider.settle(submission)).state is OutcomeState.UNKNOWN
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert (outcome.landed, outcome.finalized) == (False, True)
        assert outcome.error is not None
        assert outcome.error.code == NotLanded.code
        assert outcome.evidence[0].kind == "expired_lock_free"
        # Its bytes are dead now, whoever sends them.
        await desk.provider.submit(submission)
        await desk.slots(4)
        assert await desk.held() == 0

    at_desk(play)


def test_a_transaction_that_lands_late(binary: Path | None) -> None:
    """Sent into the dark and landed 40 slots later: unknown until then, filled from then on, once."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms())
        desk.faults.add(Fault(kind="lost_then_late", method="sendTransaction", count=2, slots=40))
        await desk.provider.submit(submission)
        await desk.slots(20)
        assert (await desk.provider.settle(submission)).state is OutcomeState.UNKNOWN
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        await desk.provider.submit(submission)
        await desk.slots(4)
        assert await desk.held() == 1

    at_desk(play, binary=binary)


def test_the_same_bytes_again_fill_once(binary: Path | None) -> None:
    """A submission may be given again and again: it executes once."""

    async def play(desk: Desk) -> None:
        submission = await desk.open()
        for _ in range(5):
            await desk.provider.submit(submission)
            await desk.slots(1)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED
        assert await desk.held() == 1

    at_desk(play, binary=binary)


def test_siblings_on_one_lock_fill_once(binary: Path | None) -> None:
    """Two attempts of one generation are sent together: one fills, the other is superseded by its signature."""

    async def play(desk: Desk) -> None:
        lock = await desk.lock()
        first = await desk.provider.prepare_open(await desk.terms(lock=lock, number=1))
        second = await desk.provider.prepare_open(await desk.terms(lock=lock, number=2))
        await desk.provider.submit(second)
        await desk.provider.submit(first)
        won, lost = await desk.settled(second), await desk.settled(first)
        assert won.state is OutcomeState.FILLED
        assert (lost.state, lost.holder) == (OutcomeState.SUPERSEDED, second.handle)
        assert lost.executed is False
        assert await desk.held() == 1
        with pytest.raises(LockHeld):
            await desk.provider.prepare_open(await desk.terms(lock=lock, number=3))

    at_desk(play, binary=binary)


def test_a_fence_ends_what_was_never_sent(binary: Path | None) -> None:
    """The fence holds the lock: the attempt can never execute, and says by whom it was superseded."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms())
        assert submission.lock is not None
        fence = await desk.solana.lock.prepare_fence(submission.lock)
        await desk.solana.lock.submit(fence)
        outcome = await desk.settled(submission)
        assert (outcome.state, outcome.holder) == (OutcomeState.SUPERSEDED, fence.handle)
        await desk.provider.submit(submission)
        await desk.slots(4)
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_fill_that_a_fork_takes_back(binary: Path | None) -> None:
    """A confirmed fill disappears with its block: it is unknown again, and settled anew."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms())
        await desk.slots(12)  # its blockhash is older than the fork, so that it can land again
        await desk.provider.submit(submission)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED
        assert desk.cluster.fork(6) == (submission.handle,)
        await desk.slots(2)
        again = await desk.provider.settle(submission)
        assert (again.state, again.fills) == (OutcomeState.UNKNOWN, ())
        await desk.provider.submit(submission)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED
        assert await desk.held() == 1

    at_desk(play, binary=binary)


def test_reads_go_on_while_one_node_fails(binary: Path | None) -> None:
    """Quotes, orders and settlement need one node that answers."""

    async def play(desk: Desk) -> None:
        desk.faults.add(Fault(kind="refused", node="node0", count=None))
        outcome = await desk.settled(await desk.open())
        assert outcome.state is OutcomeState.FILLED

    at_desk(play, binary=binary)


@pytest.mark.parametrize("kind", ["refused", "html", "null", "wrong_id", "truncated", "unknown_code"])
def test_broken_answers_before_sending_are_connection_errors(kind: FaultKind) -> None:
    """No node gives a usable answer: nothing was sent, and the next provider may be asked at once."""

    async def play(desk: Desk) -> None:
        terms = await desk.terms()
        desk.faults.add(Fault(kind=kind, count=None))
        with pytest.raises(ConnectionFailed) as failed:
            await desk.provider.prepare_open(terms)
        assert failed.value.phase is Phase.NOT_SENT
        with pytest.raises(ConnectionFailed):
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))

    at_desk(play)


def test_a_node_that_is_behind_is_not_believed(binary: Path | None) -> None:
    """After a fill, a node 20 slots behind cannot say that nothing is held: what was seen is the least that is read."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        desk.faults.add(Fault(kind="stale", node="node0", count=None, slots=20))
        for _ in range(3):
            (position,) = await desk.provider.positions()
            assert position.size == 1
        closed = await desk.close()
        assert (await desk.settled(closed)).state is OutcomeState.FILLED

    at_desk(play, binary=binary)


def test_proofs_at_finalized(binary: Path | None) -> None:
    """With the stricter setting nothing counts before its block is final."""

    async def play(desk: Desk) -> None:
        submission = await desk.open()
        await desk.slots(10)
        assert (await desk.provider.settle(submission)).state is OutcomeState.UNKNOWN
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.FILLED
        assert outcome.finalized

    at_desk(play, binary=binary, settings=SolanaSettings(proof_commitment="finalized"))


def test_a_close_without_a_lock_is_proven_all_the_same(binary: Path | None) -> None:
    """Where SOL is too short for a lock, a close goes without, and is settled by its own record."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        terms = await desk.terms(kind=OrderKind.CLOSE)
        submission = await desk.provider.prepare_close(msgspec.structs.replace(terms, lock=None))
        assert submission.lock is None
        await desk.provider.submit(submission)
        assert (await desk.settled(submission)).state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_the_account_is_set_up_and_funded_once(binary: Path | None) -> None:
    """A new wallet's account is initialised, a second time finds it there, and a deposit on a lock lands once."""
    wallet = Keypair.from_seed(bytes(range(1, 33)))

    async def play(desk: Desk) -> None:
        desk.cluster.airdrop(wallet.pubkey(), 10**10)
        tokens = token_account(desk.world.usdc_mint, wallet.pubkey(), 500 * 10**6)
        desk.cluster.set_account(get_associated_token_address(wallet.pubkey(), desk.world.usdc_mint), tokens)
        await desk.slots(2)
        setup = await desk.provider.init()
        assert setup is not None
        await desk.provider.submit(setup)
        await desk.slots(3)
        assert await desk.provider.init() is None
        lock = await desk.lock()
        deposit = await desk.provider.deposit(Decimal("400.25"), lock)
        again = await desk.provider.deposit(Decimal("400.25"), lock)
        for submission in (deposit, again, deposit):
            await desk.provider.submit(submission)
        await desk.slots(3)
        account = await desk.provider.show()
        assert (account.exists, account.usdc, account.wallet_usdc) == (True, Decimal("400.25"), Decimal("99.75"))
        assert (account.collateral_usd, account.open_orders) == (Decimal("400.25"), 0)
        assert (await desk.settled(await desk.open())).state is OutcomeState.FILLED

    at_desk(play, binary=binary, signer=wallet)
