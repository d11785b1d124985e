"""A venue's own nodes (`ROUTER_<PROVIDER>_RPC_URLS`) keep nobody in a position: closes and cancels go by any node."""

from __future__ import annotations

import pytest

from providers.base.errors import ConnectionFailed
from providers.base.types import OrderKind, QuoteTerms, Side
from providers.solana.any_node import OWN_NODES_S
from router.ledger.records import OrderStatus
from router.localnet.faults import Fault, FaultKind
from tests.failover.failover_desk import DRIFT, MANGO, MARKET, Desk, at_desk

BOTH = pytest.mark.parametrize("name", [DRIFT, MANGO])


def other(name: str) -> str:
    """Return the other venue."""
    return MANGO if name == DRIFT else DRIFT


@BOTH
@pytest.mark.parametrize("kind", ["dropped_before", "slow"])
def test_a_close_does_not_wait_for_silent_nodes(name: str, kind: FaultKind) -> None:
    """Own nodes that are silent or slow cost a close a few seconds, not its deadline."""

    async def play(desk: Desk) -> None:
        await desk.open()
        (lot,) = desk.lots(name)
        desk.own_nodes[name].add(Fault(kind=kind, count=None, delay_ms=3_000))
        began = desk.clock.monotonic()
        view = await desk.ended(await desk.place_close(lot.position_id))
        assert view.order.status is OrderStatus.FILLED
        assert len(view.attempts) == 1
        # Its quote, its build, and the answers to its bytes, which also go there.
        most = 2 * OWN_NODES_S + desk.solana.settings.rpc_timeout_s
        assert desk.clock.monotonic() - began < most + 2
        assert desk.lots(name) == ()

    at_desk(play, (name, other(name)))


@BOTH
def test_nodes_that_lag_hide_no_position(name: str) -> None:
    """Own nodes that still show the time before an open refuse no close of what it opened."""

    async def play(desk: Desk) -> None:
        await desk.slots(40)
        desk.own_nodes[name].add(Fault(kind="stale", count=None, slots=30))
        await desk.open()
        (lot,) = desk.lots(name)
        assert await desk.providers[name].positions() == ()
        view = await desk.ended(await desk.place_close(lot.position_id))
        assert view.order.status is OrderStatus.FILLED
        assert desk.lots(name) == ()

    at_desk(play, (name, other(name)))


@BOTH
def test_quotes_of_opens_do_not_go_elsewhere(name: str) -> None:
    """With its own nodes down a venue quotes closes, and no opens: those are the next provider's."""

    async def play(desk: Desk) -> None:
        await desk.open()
        desk.cut_off(name)
        provider = desk.providers[name]
        close = QuoteTerms(kind=OrderKind.CLOSE, market=MARKET, side=Side.LONG, size=desk.lots(name)[0].size)
        assert (await provider.quote(close)).size == close.size
        with pytest.raises(ConnectionFailed):
            await provider.quote(QuoteTerms(market=MARKET, side=Side.LONG, size=close.size))

    at_desk(play, (name, other(name)))


def test_what_rests_is_cancelled_by_any_node() -> None:
    """An order that rests is cancelled at the caller's word though the venue's own nodes are down."""

    async def play(desk: Desk) -> None:
        desk.venues[DRIFT].hold_orders()
        await desk.slots(3)
        order_id = await desk.place(ttl_s=300)
        await desk.slots(10)
        assert desk.engine.order(order_id).attempts[0].resting
        desk.cut_off(DRIFT)
        began = desk.clock.monotonic()
        await desk.engine.cancel(order_id)
        view = await desk.ended(order_id)
        assert view.order.status is OrderStatus.CANCELLED
        assert desk.clock.monotonic() - began < 60

    at_desk(play, (DRIFT,))
