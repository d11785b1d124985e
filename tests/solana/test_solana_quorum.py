"""Proofs with several nodes: absence needs two sane ones, presence one; lagging, lying and foreign nodes."""

from __future__ import annotations

import msgspec
import pytest
from solders.hash import Hash

from providers.base.errors import BadAnswer, ConnectionFailed, NodeBehind
from providers.base.types import LockState
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaSettings
from providers.solana.lock import lock_address
from providers.solana.proofs import Expired, FailedOnChain, Landed, Superseded, Unclear
from tests.solana.solana_world import VENUE, WALLET, Json, World, run_world

FINALIZED = SolanaSettings(proof_commitment="finalized")


def absent(result: Json, params: list[Json]) -> Json:
    """Say that there is nothing."""
    del params
    return (
        {**result, "value": [None for _ in result["value"]]} if isinstance(result, dict) and "value" in result else None
    )


def test_one_node_that_hides_the_lock_cannot_make_an_executed_attempt_expire() -> None:
    """A node that denies the transaction and the lock is outvoted by one that shows the transaction."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        liar = world.transports[0]
        liar.lies = {"getTransaction": absent, "getMultipleAccounts": absent}
        await world.expire()
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story, nodes=2)


def test_expiry_is_not_proven_by_one_node_of_two() -> None:
    """With the second node down, past its height an attempt stays unclear; with both it is expired."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        await world.expire()
        world.fault("refused", node="node1", count=None)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        assert not await world.solana.lock.expired(submission)
        world.faults.clear()
        await world.slots(5)
        assert isinstance(await world.solana.proofs.examine(submission), Expired)
        assert await world.solana.lock.expired(submission)

    run_world(story, nodes=2)


def test_a_node_that_runs_ahead_does_not_expire_what_is_still_valid() -> None:
    """One of two nodes claims heights past the expiry: not expired, and it executes when it arrives."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())

        def nothing_ahead(_: Json, params: list[Json]) -> Json:
            slot = max(params[1].get("minContextSlot", 0), world.chain.slot + 400)
            return {"context": {"slot": slot}, "value": [None for _ in params[0]]}

        world.transports[0].lies = {
            "getBlockHeight": lambda result, _: result + 400,
            "getSlot": lambda result, _: result + 400,
            "getMultipleAccounts": nothing_ahead,
        }
        await world.slots(5)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story, nodes=2)


def test_a_blockhash_with_too_low_a_last_height_does_not_shorten_the_wait() -> None:
    """The node that signs lies about the last valid height; the height that another node showed sets the limit."""

    async def story(world: World) -> None:
        def lowered(result: Json, _: list[Json]) -> Json:
            return {**result, "value": {**result["value"], "lastValidBlockHeight": 10}}

        world.transports[0].lies = {"getLatestBlockhash": lowered, "getBlockHeight": lambda *_: 5}
        height = world.chain.block_height
        submission = await world.attempt(await world.lock())
        body = decode_body(submission)
        assert body.last_valid_block_height == 10
        assert body.expiry_height >= height + 148
        world.transports[0].lies = {}
        world.fault("landed_late", method="sendTransaction", count=None, slots=120)
        await world.solana.sender.submit(submission)
        await world.slots(100)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        await world.slots(30)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story, nodes=2)


def test_an_absurd_last_valid_height_is_refused_before_signing() -> None:
    """A last valid height that would keep an attempt unprovable for hours is a broken answer."""

    async def story(world: World) -> None:
        def raised(result: Json, _: list[Json]) -> Json:
            return {**result, "value": {**result["value"], "lastValidBlockHeight": 2**60}}

        world.transports[0].lies = {"getLatestBlockhash": raised}
        with pytest.raises(BadAnswer):
            await world.attempt(await world.lock())

    run_world(story)


def test_a_holder_that_only_one_node_shows_does_not_count() -> None:
    """A lock that one of two nodes shows as held by a stranger is not proven held, so no generation steps."""

    async def story(world: World) -> None:
        lock = await world.lock()
        address = lock_address(lock)
        submission = await world.attempt(lock)
        stranger = world.stranger_pays(address, 1_000_000)
        await world.slots(3)
        # node1 has not seen it.
        world.transports[1].lies = {"getMultipleAccounts": absent, "getTransaction": absent}
        assert await world.solana.lock.state(lock) == LockState(held=None)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        world.transports[1].lies = {}
        state = await world.solana.lock.state(lock)
        assert (state.held, state.holder, state.sane_nodes) == (True, stranger, 2)
        assert isinstance(await world.solana.proofs.examine(submission), Superseded)

    run_world(story, nodes=2)


def test_a_balance_without_the_transaction_that_took_it_proves_nothing() -> None:
    """History gone: a held balance names no holder, and the state is neither held nor free."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        world.transports[0].lies = {
            "getTransaction": absent,
            "getSignaturesForAddress": lambda *_: [],
        }
        assert (await world.solana.lock.state(lock)).held is None
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        await world.expire()
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)

    run_world(story)


def test_a_node_twenty_slots_behind_proves_nothing_early_and_reads_refuse_it() -> None:
    """A lagging node cannot outvote: landed is seen through the other; reads with a minimum slot go elsewhere."""

    async def story(world: World) -> None:
        world.fault("stale", node="node0", slots=20, count=None)
        await world.slots(30)
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        await world.slots(3)
        found = await world.solana.proofs.examine(submission)
        assert isinstance(found, Landed)
        assert submission.lock is not None
        # Two nodes do not agree yet that it is held.
        assert (await world.solana.lock.state(submission.lock)).held is None
        read = await world.solana.pool.accounts([VENUE], min_context_slot=found.record.slot)
        account = read.accounts[0]
        assert account is not None
        assert read.slot >= found.record.slot
        assert account.lamports == 1_000_000_000 + 1_000
        await world.slots(25)
        assert (await world.solana.lock.state(submission.lock)).held is True

    run_world(story, nodes=2)


def test_a_lagging_single_node_is_behind_rather_than_wrong() -> None:
    """With nobody else to ask, a read at a slot that the node has not reached fails as `node_behind`."""

    async def story(world: World) -> None:
        await world.solana.pool.slot()
        world.fault("stale", slots=20, count=None)
        with pytest.raises(NodeBehind):
            await world.solana.pool.accounts([WALLET.pubkey()], min_context_slot=world.solana.pool.last_slot)

    run_world(story)


def test_a_node_that_ignores_the_minimum_slot_is_caught() -> None:
    """A node that answers from an older slot than was asked for, without saying so, is behind."""

    async def story(world: World) -> None:
        world.transports[0].lies = {"getMultipleAccounts": lambda result, _: {**result, "context": {"slot": 7}}}
        with pytest.raises(NodeBehind):
            await world.solana.pool.accounts([WALLET.pubkey()], min_context_slot=8)

    run_world(story)


def test_a_node_of_another_cluster_is_never_used() -> None:
    """A foreign genesis hash: not for reads, not for proofs; and at the first start the disagreement is an error."""

    async def story(world: World) -> None:
        world.transports[1].lies = {"getGenesisHash": lambda *_: str(Hash.new_unique())}
        await world.clock.sleep(301)
        world.transports[1].asked.clear()
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        await world.expire()
        assert set(world.transports[1].asked) <= {"getGenesisHash", "sendTransaction"}
        lock = await world.lock()
        assert (await world.solana.lock.state(lock)).held is None
        fresh = type(world.solana).of_transports(world.transports, world.signer, world.clock, world.solana.settings)
        with pytest.raises(BadAnswer):
            await fresh.genesis_hash()

    run_world(story, nodes=2)


@pytest.mark.parametrize(
    "lies",
    [
        {
            "getSlot": lambda *_: 1_003,
            "getBlockHeight": lambda *_: 1_000,
            "getLatestBlockhash": lambda result, _: {
                "context": {"slot": 1_003},
                "value": {**result["value"], "lastValidBlockHeight": 1_150},
            },
        },
        {"getBlockHeight": lambda result, _: result + 10_000_000},
        {"getGenesisHash": lambda *_: str(Hash.new_unique())},
    ],
    ids=["a slot that stands still", "a height above its slot", "another cluster"],
)
def test_an_insane_node_is_no_second_witness(lies: Json) -> None:
    """Beside one sane node, one that stands still, has an impossible height or is of elsewhere proves no absence."""

    async def story(world: World) -> None:
        lock = await world.lock()
        assert (await world.solana.lock.state(lock)).held is False
        world.transports[1].lies = lies
        await world.clock.sleep(400)
        assert (await world.solana.lock.state(lock)).held is None
        world.transports[1].lies = {}
        await world.clock.sleep(20)
        await world.solana.pool.ask(lambda node: node.slot("confirmed"))
        assert (await world.solana.lock.state(lock)).held is False

    run_world(story, nodes=2)


def test_an_attempt_without_a_lock_expires_only_where_the_whole_window_is_served() -> None:
    """No lock: the signature must be unknown to nodes whose history reaches back to the signing."""

    async def story(world: World) -> None:
        submission = await world.attempt(None)
        slot = decode_body(submission).slot_at_signing
        await world.expire()
        world.transports[1].lies = {"getFirstAvailableBlock": lambda *_: slot + 1}
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        world.transports[1].lies = {}
        assert isinstance(await world.solana.proofs.examine(submission), Expired)
        world.transports[1].lies = {
            "getSignatureStatuses": lambda result, _: {
                **result,
                "value": [{"slot": slot + 3, "confirmations": None, "err": None, "confirmationStatus": "finalized"}],
            }
        }
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)

    run_world(story, nodes=2)


def test_without_a_lock_an_error_that_one_node_shows_is_not_death() -> None:
    """A failed close without lock is dead only when two nodes show the error: nothing else would stop a second one."""

    async def story(world: World) -> None:
        submission = await world.attempt(None, lamports=50_000_000_000)
        first = await world.attempt(None, lamports=60_000_000_000)
        await world.solana.sender.submit(first)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        world.transports[1].lies = {"getTransaction": absent}
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        world.transports[1].lies = {}
        assert isinstance(await world.solana.proofs.examine(submission), FailedOnChain)

    run_world(story, nodes=2)


def test_a_fork_takes_a_proof_back() -> None:
    """A confirmed landing that a fork undoes is unclear again, and expires when it never comes back."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)
        assert submission.handle in world.chain.fork(6)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        await world.expire()
        assert isinstance(await world.solana.proofs.examine(submission), Expired)

    run_world(story)


def test_a_lock_read_from_before_the_expiry_height_is_not_read_as_free() -> None:
    """History gone and the lock read by a node far behind: without its minimum slot that read would free the lock."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        world.fault("landed_late", method="sendTransaction", slots=120)
        await world.solana.sender.submit(submission)
        await world.expire()
        world.transports[0].lies = {"getTransaction": absent}
        # At `confirmed` it reads as free too: only the read at `finalized` has a slot to hold it to.
        world.fault("stale", method="getMultipleAccounts", slots=180, count=None)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        assert ("node0", "stale") in world.faults.struck
        asked = [msgspec.json.decode(body)["params"][1] for body in world.transports[0].sent if b"getMultipleA" in body]
        assert asked[-1]["commitment"] == "finalized"
        assert asked[-1]["minContextSlot"] > decode_body(submission).slot_at_signing + 150

    run_world(story)


def test_at_finalized_commitment_nothing_confirmed_is_proof() -> None:
    """`proof_commitment=finalized`: landing, holder and lock state are only seen 32 blocks later."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission, sibling = await world.attempt(lock), await world.attempt(lock, 2)
        await world.solana.sender.submit(submission)
        await world.slots(10)
        assert isinstance(await world.solana.proofs.examine(submission), Unclear)
        assert isinstance(await world.solana.proofs.examine(sibling), Unclear)
        state = await world.solana.lock.state(lock)
        assert (state.held, state.finalized) == (False, True)
        await world.slots(30)
        found = await world.solana.proofs.examine(submission)
        assert isinstance(found, Landed)
        assert found.record.finalized
        assert isinstance(await world.solana.proofs.examine(sibling), Superseded)
        assert (await world.solana.lock.state(lock)).holder == submission.handle

    run_world(story, settings=FINALIZED)


def test_nothing_is_ever_read_at_processed() -> None:
    """In a whole life of an attempt no request names `processed`, and every read that can names its commitment."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        await world.slots(3)
        await world.solana.proofs.examine(submission)
        await world.expire()
        await world.solana.proofs.examine(submission)
        bodies = world.transports[0].sent
        assert not [body for body in bodies if b"processed" in body]
        without = {
            "getGenesisHash",
            "getMinimumBalanceForRentExemption",
            "getRecentPrioritizationFees",
            "sendTransaction",
        }
        for method, body in zip(world.transports[0].asked, bodies, strict=True):
            assert method in without or b'"commitment":"' in body, method

    run_world(story)


def test_nodes_that_answer_garbage_leave_an_attempt_unclear() -> None:
    """When no node can be read the examination says so instead of raising, and the next one proves."""

    async def story(world: World) -> None:
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        await world.slots(3)
        for kind in ("html", "null", "wrong_id", "truncated", "unknown_code", "http_503_after", "refused"):
            world.fault(kind, count=None)
            assert isinstance(await world.solana.proofs.examine(submission), Unclear)
            with pytest.raises(ConnectionFailed):
                await world.solana.pool.accounts([WALLET.pubkey()])
            world.faults.clear()
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story)
