"""A venue with nodes of its own that fail: what goes to every node of the cluster at once."""

from __future__ import annotations

import pytest

from providers.base.types import Purpose
from providers.solana.pool import NodePool
from router.localnet.faults import Fault, WireFaults
from router.localnet.transport import InProcessTransport
from tests.solana.solana_world import World, run_world


@pytest.mark.parametrize(
    ("purpose", "everywhere"), [(Purpose.OPEN, False), (Purpose.CLOSE, True), (Purpose.CANCEL, True)]
)
def test_what_must_not_wait_for_a_venues_own_nodes_goes_to_all_at_once(purpose: Purpose, everywhere: bool) -> None:  # noqa: FBT001 - the expected answer
    """With its own node refusing, an open is not sent, for the next provider; a close or cancel lands all the same."""

    async def story(world: World) -> None:
        own_faults = WireFaults(world.clock)
        own = InProcessTransport(world.chain, world.clock, name="own", faults=own_faults)
        world.solana = cluster = world.solana.with_read_pool(NodePool([own], world.clock))
        submission = await world.attempt(await world.lock(), purpose=purpose)
        own_faults.add(Fault(kind="refused", count=None))
        ack = await cluster.sender.submit(submission)
        assert (ack.accepted, ack.not_sent) == ((1, False) if everywhere else (0, True))
        await world.slots(3)
        assert (world.venue_fills() > 0) is everywhere

    run_world(story)
