"""The process dies, the ledger refuses, at every single step of a protected position's life; nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.errors import ProviderError
from router.engine.requests import Refusal
from router.ledger.protocol import LedgerError
from router.ledger.records import PositionStatus
from tests.engine import test_faults_everywhere as faults
from tests.engine.harness import Desk
from tests.engine.protection_desk import TriggerVenue, guard, open_protected
from tests.engine.test_faults_everywhere import Fault

WRITES = ("create_order", "add_leg", "update_leg", "end_leg", "set_protection")
# Later steps are rounds of looking, again and again the same; every few of the others is as good as every one.
STEPS_MAX = 80
STRIDE = 11


class ProtectionFault(Fault):
    """Strikes at the writes of protection too, and at the placing of triggers."""

    def arm(self) -> None:
        """Wrap them all."""
        super().arm()
        for name in WRITES:
            self._wrap(self.desk.ledger, name, write=True)
        if self.kind == "die":
            for provider in self.desk.providers.values():
                self._wrap(provider, "prepare_trigger", write=False)


async def _life(desk: Desk, venue: TriggerVenue, fault: Fault) -> None:
    """Open with protection, close a part, then let the stop fire; whoever dies on the way is started anew."""
    await _survive(desk, fault, open_protected(desk, wait=False))
    await _until(desk, fault, lambda: bool(desk.lots()))
    await _calm(desk, fault)
    await _survive(desk, fault, desk.close(desk.lots()[0].position_id, size="0.5", wait=False))
    await _calm(desk, fault)
    assert desk.exposure() == venue.exposure()
    assert venue.exposure() in {Decimal(2), Decimal("1.5")}
    sizes = [size for _, size in venue.resting().values()]
    assert len(sizes) <= 2, "a trigger rests twice"
    assert all(size == venue.exposure() for size in sizes)
    venue.move("139")
    await _until(desk, fault, lambda: desk.lots()[0].status is PositionStatus.CLOSED)
    await _calm(desk, fault)
    assert venue.exposure() == 0
    assert venue.resting() == {}
    assert desk.ledger.protected_lots() == ()
    assert desk.ledger.open_orders() == ()


async def _survive(desk: Desk, fault: Fault, request: Coroutine[None, None, object]) -> None:
    """Make a request; one that fails, or whose process dies, is not made again."""
    working = asyncio.create_task(request)
    dying = asyncio.create_task(fault.dead.wait())
    await asyncio.wait((working, dying), return_when=asyncio.FIRST_COMPLETED)
    dying.cancel()
    if not working.done():
        working.cancel()
        await _restart(desk, fault)
        return
    error = working.exception()
    assert error is None or isinstance(error, (LedgerError, Refusal, ProviderError)), error


async def _restart(desk: Desk, fault: Fault) -> None:
    fault.dead.clear()
    await desk.crash()


async def _calm(desk: Desk, fault: Fault) -> None:
    """Let two minutes pass, over whatever dies in them."""
    for _ in range(60):
        await desk.clock.sleep(2)
        if fault.dead.is_set():
            await _restart(desk, fault)


async def _until(desk: Desk, fault: Fault, holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        await desk.clock.sleep(1)
        if fault.dead.is_set():
            await _restart(desk, fault)
    raise AssertionError("it never came")


def _run(at: int, kind: str, path: Path, *, native: bool) -> int:
    steps = 0

    async def story(desk: Desk, venue: TriggerVenue) -> None:
        nonlocal steps
        fault = ProtectionFault(desk, at=at, kind=kind)
        fault.arm()
        # The open itself: an order that was never made leaves nothing to protect.
        try:
            await _life(desk, venue, fault)
        except AssertionError as e:
            if str(e) != "it never came" or desk.ledger.orders(limit=10)[0]:
                raise
        steps = fault.steps

    guard(story, native=native, path=path)
    return steps


@pytest.mark.parametrize("legs", ["native", "managed"])
@pytest.mark.parametrize(("kind", "first"), [("before", 1), ("after", 3), ("die", 5)])
def test_a_fault_at_any_step_leaves_nothing_bare_and_does_nothing_twice(
    kind: str, first: int, legs: str, tmp_path: Path
) -> None:
    """From the open to the last leg's end; each sort of fault begins at another step."""
    native = legs == "native"
    total = min(_run(0, "die", tmp_path / "count.db", native=native), STEPS_MAX)
    assert total > faults.STEPS_MAX
    for at in range(first, total + 1, STRIDE):
        _run(at, kind, tmp_path / f"{at}.db", native=native)
