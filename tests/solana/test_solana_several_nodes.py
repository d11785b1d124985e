"""Health and sanity of each node, and what still works with one of two down (docs/nodes.md)."""

from __future__ import annotations

import pytest

from providers.solana.body import decode_body
from tests.solana.solana_world import Json, World, run_world
from tests.solana.test_solana_lying_nodes import QUESTIONS, UNCLEAR, ahead

# What one node is enough for: presence. All else is absence, or who holds a lock, and waits.
ANSWERED_BY_ONE = {
    "what became of it: landed": "landed",
    "what became of it: failed": "failed 1",
    "for good: landed": "landed True",
    "for good: failed": "landed False",
}


# One kind of trouble is enough for what waits.
DOWN = [(question, "refused") for question in QUESTIONS] + [
    (question, trouble) for question in ANSWERED_BY_ONE for trouble in ("dropped_before", "http_429", "html")
]


@pytest.mark.parametrize(("question", "fault"), DOWN)
def test_with_one_of_two_down_only_presence_is_proven(question: str, fault: str) -> None:
    """What landed is known, whatever the other node's trouble; the rest is unclear until it is back."""

    async def story(world: World) -> None:
        asked = QUESTIONS[question]
        case = await asked.make(world)
        world.fault(fault, node="node1", count=None)
        await world.clock.sleep(1.1)
        assert await asked.ask(case) == ANSWERED_BY_ONE.get(question, UNCLEAR)
        world.faults.clear()
        await world.clock.sleep(1.1)
        assert await asked.ask(case) == asked.truth

    run_world(story, nodes=2)


def test_with_one_of_two_down_an_attempt_is_built_and_sent() -> None:
    """Building, signing, sending and reading go on by the node that is there."""

    async def story(world: World) -> None:
        world.fault("refused", node="node0", count=None)
        submission = await world.attempt(await world.lock())
        ack = await world.solana.sender.submit(submission)
        assert (ack.accepted, len(ack.errors), ack.not_sent) == (1, 1, False)
        await world.slots(3)
        assert world.venue_fills() == 1

    run_world(story, nodes=2)


def test_everything_is_sent_to_every_node() -> None:
    """A node that lost the bytes is no matter while another took them, whichever it is."""

    async def story(world: World) -> None:
        for lost in range(3):
            for transport in world.transports:
                transport.asked.clear()
            for node in {0, 1, 2} - {lost}:
                world.fault("dropped_before", method="sendTransaction", node=f"node{node}")
            submission = await world.attempt(await world.lock())
            await world.solana.sender.submit(submission)
            assert [transport.asked.count("sendTransaction") for transport in world.transports] == [1, 1, 1]
            await world.slots(3)
            assert world.venue_fills() == lost + 1

    run_world(story, nodes=3)


def test_a_slot_given_for_a_height_keeps_nothing_unprovable() -> None:
    """The node's own blockhash gives it away: what is signed meanwhile expires when it should."""

    async def story(world: World) -> None:
        # As on mainnet: there are far more slots than blocks.
        world.chain.warp(30_000, blocks=False)
        await world.slots(3)
        world.transports[1].lies = {"getBlockHeight": lambda *_: world.chain.slot - 3}
        submission = await world.attempt(await world.lock())
        assert decode_body(submission).expiry_height <= world.chain.block_height + 151
        assert [node.name for node in await world.solana.pool.sane_nodes()] == ["localnet://node0"]

    run_world(story, nodes=2)


def test_a_last_valid_height_that_cannot_be_is_asked_of_the_next_node() -> None:
    """A height further ahead than the slots is no answer; the other node gives one."""

    async def story(world: World) -> None:
        world.transports[0].lies = {
            "getLatestBlockhash": lambda result, _: {
                **result,
                "value": {**result["value"], "lastValidBlockHeight": 2**40},
            }
        }
        submission = await world.attempt(await world.lock())
        assert decode_body(submission).last_valid_block_height <= world.chain.block_height + 151

    run_world(story, nodes=2)


def test_a_slot_from_the_future_does_not_shorten_the_window_that_is_searched() -> None:
    """A node gives a blockhash at a slot that is not there yet: it may land before that, and is looked for there."""

    async def story(world: World) -> None:
        slot = world.chain.slot

        def simulated(*_: object) -> Json:
            return {"context": {"slot": slot + 5_000}, "value": {"err": None, "logs": [], "unitsConsumed": 1_000}}

        world.transports[0].lies = {"getLatestBlockhash": ahead(5_000), "simulateTransaction": simulated}
        submission = await world.attempt(None)
        assert decode_body(submission).slot_at_signing <= world.chain.slot

    run_world(story, nodes=2)


@pytest.mark.parametrize("still", [True, False], ids=["the lower one stands still", "both go on"])
def test_which_of_two_far_apart_is_believed(still: bool) -> None:  # noqa: FBT001 - parameter of a test
    """One that stands still is passed; of two that go on the one far ahead is, so that nobody looks behind for it."""

    async def story(world: World) -> None:
        first = world.chain.slot
        slots_ahead = 50_000
        world.transports[1].lies = {"getSlot": ahead(slots_ahead)}
        if still:
            world.transports[0].lies = {"getSlot": lambda *_: first}
        for _ in range(5):
            await world.clock.sleep(5)
            for node in world.solana.pool.nodes:
                await node.slot("confirmed")
        assert (world.solana.pool.last_slot > slots_ahead) is still
        assert world.solana.pool.lowest_slot == world.solana.pool.last_slot

    run_world(story, nodes=2)


def test_a_node_that_stands_still_is_read_last() -> None:
    """Reads go to the node that goes on, though the other was first in the list and answers."""

    async def story(world: World) -> None:
        slot = world.chain.slot
        world.transports[0].lies = {"getSlot": lambda *_: slot}
        for _ in range(5):
            await world.clock.sleep(5)
            await world.solana.pool.nodes[0].slot("confirmed")
        assert await world.solana.pool.slot() > slot

    run_world(story, nodes=2)
