"""The ledger refuses, the process dies, at every single write and every question of an order's life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.base.errors import WorstPriceNotMet
from router.ledger.protocol import LedgerError
from router.ledger.records import OrderStatus
from tests.engine.harness import Desk, trade
from tests.engine.scripted import Play

WRITES = (
    "fix_terms",
    "add_attempt",
    "record_ack",
    "record_outcome",
    "close_domain",
    "finish_order",
    "add_secondary",
    "set_secondary",
    "request_cancel",
    "note",
    "mark_reclaimed",
)
QUESTIONS = ("quote", "prepare_open", "prepare_close", "submit", "settle", "cancel")
LOCK_QUESTIONS = ("prepare_fence", "submit", "state", "expired")

# Later steps are the watch's, again and again the same.
STEPS_MAX = 24

STORIES: dict[str, dict[str, tuple[Any, ...]]] = {
    "fill": {},
    "fill_late": {"alpha": (Play(seen_after_s=2.0),)},
    "lost": {"alpha": (Play(what="lost"),)},
    "nothing": {"alpha": (Play(what="nothing", seen_after_s=1.0),)},
    "err": {"alpha": (Play(what="err", seen_after_s=1.0),)},
    "rest": {"alpha": (Play(what="rest", seen_after_s=1.0),)},
    "part": {"alpha": (Play(what="part", seen_after_s=1.0),)},
    "not_sent": {"alpha": (Play(what="not_sent"),)},
    "refused": {"alpha": (WorstPriceNotMet("no"),)},
    "sibling": {"alpha": (Play(after_s=6.0),), "beta": (Play(after_s=3.0),)},
    "sibling_second": {"alpha": (Play(after_s=30.0),), "beta": (Play(after_s=1.0, seen_after_s=2.0),)},
    "all_lost": {name: (Play(what="lost"),) * 4 for name in ("alpha", "beta", "gamma")},
}


def plays_of(story: str) -> dict[str, Any]:
    """Return a story's scripts by provider."""
    return dict(STORIES[story])


class Fault:
    """Strikes at the n-th step of the router: a write that fails before or after its commit, or the end of it all."""

    def __init__(self, desk: Desk, at: int, kind: str) -> None:
        self.desk = desk
        self.at = at
        self.kind = kind
        self.steps = 0
        self.dead = asyncio.Event()

    def arm(self) -> None:
        """Wrap every write and every question."""
        for name in WRITES:
            self._wrap(self.desk.ledger, name, write=True)
        if self.kind == "die":
            for provider in self.desk.providers.values():
                for name in QUESTIONS:
                    self._wrap(provider, name, write=False)
            for name in LOCK_QUESTIONS:
                self._wrap(self.desk.chain, name, write=False)

    def _wrap(self, target: object, name: str, *, write: bool) -> None:
        # Providers outlive a restart: the wrap is taken from the class's own method, not stacked.
        original: Callable[..., Awaitable[object]] = getattr(type(target), name).__get__(target)

        async def step(*args: object, **kwargs: object) -> object:
            self.steps += 1
            if self.steps != self.at:
                return await original(*args, **kwargs)
            if self.kind == "before":
                raise LedgerError("the disk says no")
            value = await original(*args, **kwargs)
            if self.kind == "after":
                raise LedgerError("the disk says no, after the commit")
            if write or self.kind == "die":
                self.dead.set()
                # The process is killed here: nothing after this await ever runs.
                await asyncio.Event().wait()
            return value

        setattr(target, name, step)


async def _life(desk: Desk, fault: Fault) -> None:
    """Open, close half, and hold the end against the promise, however often the process died meanwhile."""
    order_id = await desk.place(ttl_s=40)
    view = await _end(desk, fault, order_id)
    desk.check(view)
    executed = [e for p in desk.providers.values() for e in p.truth.values() if e.filled]
    assert len(executed) <= 1
    await desk.clock.sleep(90)
    assert desk.ledger.open_orders() == ()
    assert desk.exposure() == desk.venue_exposure()
    if view.order.status in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}:
        lot = desk.lots()[0]
        placed = await desk.close(lot.position_id, wait=False)
        closed = await _end(desk, fault, placed.order.order_id)
        desk.check(closed)
        assert desk.lots()[0].size == Decimal(0)
        assert desk.lots()[0].reserved_size == Decimal(0)


async def _end(desk: Desk, fault: Fault, order_id: str) -> Any:
    ending = asyncio.ensure_future(desk.engine.wait(order_id, 900))
    dying = asyncio.ensure_future(fault.dead.wait())
    await asyncio.wait({ending, dying}, return_when=asyncio.FIRST_COMPLETED)
    dying.cancel()
    if not ending.done():
        ending.cancel()
        fault.dead.clear()
        await desk.crash()
        return await desk.end_of(order_id, 900)
    view = ending.result()
    assert view.order.status.final, view.order.status
    return view


def _count(story: str, path: Path) -> int:
    steps = 0

    async def run(desk: Desk) -> None:
        nonlocal steps
        fault = Fault(desk, at=0, kind="die")
        fault.arm()
        await _life(desk, fault)
        steps = fault.steps

    trade(run, path=path, **plays_of(story))
    return steps


@pytest.mark.parametrize("kind", ["before", "after", "die"])
@pytest.mark.parametrize("story", list(STORIES))
def test_a_fault_at_any_step_breaks_no_promise(story: str, kind: str, tmp_path: Path) -> None:
    """Whatever fails at the n-th write or question, for every n: one fill at most, none lost, every order ends."""
    steps = min(_count(story, tmp_path / "count.db"), STEPS_MAX)
    for at in range(1, steps + 1):

        async def run(desk: Desk, at: int = at) -> None:
            fault = Fault(desk, at=at, kind=kind)
            fault.arm()
            await _life(desk, fault)

        try:
            trade(run, path=tmp_path / f"{at}.db", **plays_of(story))
        except BaseException as e:
            e.add_note(f"at step {at}")
            raise


@pytest.mark.parametrize("story", ["lost", "rest", "sibling", "nothing", "all_lost"])
def test_dying_again_during_recovery_breaks_no_promise(story: str, tmp_path: Path) -> None:
    """Killed at the n-th step, and again at the m-th step of the recovery from that."""
    for first in range(1, 16, 2):
        for second in (1, 3):

            async def run(desk: Desk, first: int = first, second: int = second) -> None:
                fault = Fault(desk, at=first, kind="die")
                fault.arm()
                order_id = await desk.place(ttl_s=40)
                dying = asyncio.ensure_future(fault.dead.wait())
                ending = asyncio.ensure_future(desk.engine.wait(order_id, 900))
                await asyncio.wait({ending, dying}, return_when=asyncio.FIRST_COMPLETED)
                dying.cancel()
                ending.cancel()
                fault.steps, fault.at = 0, second
                fault.dead.clear()
                crash = asyncio.ensure_future(desk.crash())
                dying = asyncio.ensure_future(fault.dead.wait())
                await asyncio.wait({crash, dying}, return_when=asyncio.FIRST_COMPLETED)
                fault.at = 0
                dying.cancel()
                crash.cancel()
                await desk.crash()
                view = await desk.end_of(order_id, 900)
                desk.check(view)
                assert sum(1 for p in desk.providers.values() for e in p.truth.values() if e.filled) <= 1

            try:
                trade(run, path=tmp_path / f"{first}-{second}.db", **plays_of(story))
            except BaseException as e:
                e.add_note(f"at steps {first} and {second}")
                raise
