"""Each thing that goes wrong on the way, once, through the whole router: what becomes of the order.

The names of the cases are the rows of a table that an operator can read: what happened, and how the order ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from providers.base.types import LockRef, Side
from providers.solana.lock_account import lock_address
from router.engine.requests import OpenRequest
from router.ledger.records import OrderStatus, OrderView
from router.localnet.faults import Fault
from router.localnet.virtual_time import run_virtual
from tests.simulation.sim import SLOT_S, Desk

Story = Callable[[Desk], Awaitable[OrderView]]

FILLED, FAILED = OrderStatus.FILLED, OrderStatus.FAILED


async def place(desk: Desk, *, ttl_s: int = 60) -> str:
    """Open one SOL without waiting and return the order id."""
    request = OpenRequest(
        caller="sim",
        key=None,
        client_order_id=None,
        fingerprint="",
        market="SOL-PERP",
        side=Side.LONG,
        size=Decimal(1),
        slippage_bps=200,
        ttl_s=ttl_s,
    )
    return (await desk.engine.open(request)).view.order.order_id


async def end(desk: Desk, order_id: str) -> OrderView:
    """Wait until an order has ended."""
    view = await desk.engine.wait(order_id, 900)
    assert view.order.status.final
    return view


def on_send(kind: str, **more: object) -> Story:
    """Open while the next transaction meets a fault."""

    async def story(desk: Desk) -> OrderView:
        desk.faults.add(Fault(kind=kind, method="sendTransaction", **more))  # type: ignore[arg-type]
        return await end(desk, await place(desk))

    return story


def give(desk: Desk, address: Pubkey, lamports: int) -> None:
    """Have a stranger send lamports."""
    stranger = desk.world.maker.wallet
    instruction = transfer(TransferParams(from_pubkey=stranger.pubkey(), to_pubkey=address, lamports=lamports))
    message = MessageV0.try_compile(stranger.pubkey(), [instruction], [], desk.chain.latest_blockhash())
    assert desk.chain.execute(VersionedTransaction(message, [stranger])).ok


def lock_of(desk: Desk, order_id: str) -> Pubkey:
    """Return the address of the first generation of an order's lock."""
    view = desk.ledger.order(order_id)
    assert view is not None
    assert view.order.lock is not None
    return lock_address(LockRef(terms=view.order.lock, part=0, generation=0))


async def landed_with_err(desk: Desk) -> OrderView:
    """The market is closed between simulation and execution."""
    desk.faults.add(Fault(kind="landed_late", method="sendTransaction", slots=6))
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S)
    desk.controls.pause("exchange")
    view = await end(desk, order_id)
    assert view.attempts[0].error is not None
    assert view.attempts[0].error.raw_code == "6024"
    return view


async def landed_and_unfilled(desk: Desk) -> OrderView:
    """The price runs away between simulation and execution."""
    desk.faults.add(Fault(kind="landed_late", method="sendTransaction", slots=6))
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S)
    desk.controls.set_oracle_price("SOL-PERP", Decimal(160))
    view = await end(desk, order_id)
    assert view.attempts[0].executed
    return view


async def long_auctions(desk: Desk) -> None:
    """Have the exchange run auctions, and let the change become one that can be read."""
    desk.controls.set_auction(10)
    await desk.clock.sleep(SLOT_S * 3)


async def resting_then_cancelled(desk: Desk) -> OrderView:
    """An auction that no keeper fills is cancelled by its id and proven ended."""
    await long_auctions(desk)
    desk.controls.run_keeper(running=False)
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S * 10)
    await desk.engine.cancel(order_id)
    return await end(desk, order_id)


async def resting_then_filled(desk: Desk) -> OrderView:
    """An auction is filled by a keeper's transaction."""
    await long_auctions(desk)
    return await end(desk, await place(desk))


async def node_behind(desk: Desk) -> OrderView:
    """Every read comes from a node 20 slots behind, for a while."""
    desk.faults.add(Fault(kind="stale", count=40, slots=20, method="getTransaction"))
    desk.faults.add(Fault(kind="stale", count=40, slots=20, method="getMultipleAccounts", after=6))
    return await end(desk, await place(desk))


async def dusted_before_landing(desk: Desk) -> OrderView:
    """A stranger sends lamports to the lock before the attempt lands: it is dead, and the next generation fills."""
    desk.faults.add(Fault(kind="landed_late", method="sendTransaction", slots=8))
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S * 2)
    give(desk, lock_of(desk, order_id), 1_000_000)
    view = await end(desk, order_id)
    assert [a.generation for a in view.attempts] == [0, 1]
    return view


async def dusted_after_landing(desk: Desk) -> OrderView:
    """A stranger adds lamports after the fill: the holder is found by its transaction, not by the balance."""
    desk.faults.add(Fault(kind="lost_after", method="sendTransaction"))
    desk.faults.add(Fault(kind="null", method="getTransaction", count=6))
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S * 4)
    give(desk, lock_of(desk, order_id), 777)
    return await end(desk, order_id)


async def rent_lowered(desk: Desk) -> OrderView:
    """The network's rent goes down between two attempts: the lock keeps the lamports that it was made with."""
    desk.faults.add(Fault(kind="dropped_before", method="sendTransaction", count=3))
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S * 2)
    desk.chain.set_rent(1_000)
    return await end(desk, order_id)


async def key_changed(desk: Desk) -> OrderView:
    """The router comes back with another key: nothing can be fenced, expiry is waited for, nothing is opened twice."""
    desk.faults.add(Fault(kind="dropped_before", method="sendTransaction", count=1))
    order_id = await place(desk)
    await desk.clock.sleep(SLOT_S)
    await desk.stop()
    await desk.boot(desk.world.maker.wallet)
    view = await end(desk, order_id)
    await desk.stop()
    await desk.boot()
    return view


async def dust_in_the_wallet(desk: Desk) -> OrderView:
    """Strangers fill the wallet's history with dust."""
    for lamports in range(1, 31):
        give(desk, desk.world.trader.pubkey(), lamports)
    desk.faults.add(Fault(kind="lost_after", method="sendTransaction"))
    return await end(desk, await place(desk))


CASES: dict[str, tuple[Story, OrderStatus]] = {
    "answer lost after execution": (on_send("lost_after"), FILLED),
    "connection cut after execution": (on_send("cut_after"), FILLED),
    "503 after execution": (on_send("http_503_after"), FILLED),
    "html instead of an answer": (on_send("html"), FILLED),
    "null instead of a signature": (on_send("null"), FILLED),
    "an answer to another request": (on_send("wrong_id"), FILLED),
    "truncated answer": (on_send("truncated"), FILLED),
    "an error code that nobody knows": (on_send("unknown_code"), FILLED),
    "dropped before it arrived": (on_send("dropped_before"), FILLED),
    "503 before execution": (on_send("http_503_before"), FILLED),
    "429": (on_send("http_429"), FILLED),
    "connection refused": (on_send("refused"), FAILED),
    "landed late": (on_send("landed_late", slots=10), FILLED),
    "answer lost, landed late": (on_send("lost_then_late", slots=10), FILLED),
    "landed after our patience": (on_send("lost_then_late", slots=40, count=20), FILLED),
    "landed with an error": (landed_with_err, FAILED),
    "landed and unfilled": (landed_and_unfilled, FAILED),
    "resting, filled by a keeper": (resting_then_filled, FILLED),
    "resting, then cancelled": (resting_then_cancelled, OrderStatus.CANCELLED),
    "node 20 slots behind": (node_behind, FILLED),
    "lock dusted before landing": (dusted_before_landing, FILLED),
    "lock dusted after landing": (dusted_after_landing, FILLED),
    "rent lowered": (rent_lowered, FILLED),
    "key changed between attempts": (key_changed, FAILED),
    "dust in the wallet's history": (dust_in_the_wallet, FILLED),
}


@pytest.mark.parametrize("case", CASES)
def test_what_becomes_of_the_order(case: str, tmp_path: Path) -> None:
    """The order ends as the table says, the book equals the venue's, and a restart changes nothing."""
    story, expected = CASES[case]

    async def main() -> None:
        desk = Desk(seed=7, path=tmp_path / "ledger.db")
        await desk.start()
        try:
            view = await story(desk)
            assert view.order.status is expected, [(a.state, a.error) for a in view.attempts]
            await desk.settle()
            desk.check()
            await desk.crash()
            await desk.settle()
            desk.check()
            again = desk.engine.order(view.order.order_id)
            assert again.order.status is expected
            assert again.fills == view.fills
        finally:
            await desk.stop()
            await desk.chain.aclose()

    run_virtual(main())
