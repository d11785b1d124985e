"""`kill -9` on the real process at each step of an order: no second position, none lost, and it can be closed.

No step is marked in the code that is killed. Each is reached from outside: a fault on the wire holds the answer that
the step waits for, a foreign lock on the ledger's file holds its write, or the row that ends it is seen in the file
(`docs/crash.md`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from uuid import uuid4

import httpx
import pytest

from tests.crash.processes import CLOSE, FOREVER_MS, OPEN, Stage

Ask = Callable[[Stage, str], None]
Reach = Callable[[Stage, str, Ask], None]

ATTEMPT = "SELECT 1 FROM attempts JOIN orders USING (order_id) WHERE idempotency_key = ?"
# Longer than it takes to see that the fault has struck and to lock the file.
HELD_MS = 1_500


def open_it(run: Stage, key: str) -> None:
    """Ask for an open, and do not wait for it."""
    run.post_in_background("/v1/open", OPEN, key)


def close_it(run: Stage, key: str) -> None:
    """Ask for a close, and do not wait for it."""
    run.post_in_background("/v1/close", CLOSE, key)


def on_the_wire(kind: str, method: str, **more: object) -> Reach:
    """Reach the step that waits for this answer."""

    def reach(run: Stage, key: str, ask: Ask) -> None:
        with run.striking(kind, method, **more):
            ask(run, key)

    return reach


def being_stored(run: Stage, key: str, ask: Ask) -> None:
    """Reach the step that writes the order, and let it wait for the file."""
    with run.ledger_locked():
        ask(run, key)
        time.sleep(0.3)
        run.router.kill()


def journaled(run: Stage, key: str, ask: Ask) -> None:
    """Reach the moment at which the attempt is in the file, whatever has been sent of it."""
    ask(run, key)
    run.row_within(ATTEMPT, key)


def outcome_being_written(run: Stage, key: str, ask: Ask) -> None:
    """Reach the step that has read the outcome, and let its write wait for the file."""
    with run.striking("slow", "getTransaction", delay_ms=HELD_MS):
        ask(run, key)
    run.row_within(f"{ATTEMPT} AND ack IS NOT NULL", key)
    run.clear_faults()
    with run.ledger_locked():
        time.sleep(HELD_MS / 1000)
        run.router.kill()


def outcome_stored(run: Stage, key: str, ask: Ask) -> None:
    """Reach the moment at which fill and position are in the file."""
    ask(run, key)
    run.row_within("SELECT 1 FROM fills JOIN orders USING (order_id) WHERE idempotency_key = ?", key)


# Where the order stands when the process dies (DESIGN 5), and how it is held there.
STEPS: dict[str, Reach] = {
    "1 order and key being stored": being_stored,
    "1 stored, no terms yet": on_the_wire("slow", "getMultipleAccounts", delay_ms=FOREVER_MS),
    "1 terms fixed, being simulated": on_the_wire("slow", "simulateTransaction", delay_ms=FOREVER_MS),
    "2 journaled, being sent": journaled,
    "2 journaled, nothing written": on_the_wire("refused", "sendTransaction"),
    "2 journaled, bytes lost on the way": on_the_wire("dropped_before", "sendTransaction"),
    "3 on its way, lands when we are dead": on_the_wire("lost_then_late", "sendTransaction", slots=40),
    "3 executed, no ack stored": on_the_wire("slow", "sendTransaction", delay_ms=FOREVER_MS),
    "3 ack stored, outcome not read": on_the_wire("slow", "getTransaction", delay_ms=FOREVER_MS),
    "4 outcome being written": outcome_being_written,
    "4 outcome stored, nobody told": outcome_stored,
}
OF_A_CLOSE = (
    "2 journaled, being sent",
    "2 journaled, bytes lost on the way",
    "3 on its way, lands when we are dead",
    "3 executed, no ack stored",
    "4 outcome being written",
)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_of_an_open(step: str, run: Stage) -> None:
    """Restarted, the router finds out what became of the order; the same key asks for the same order."""
    key = uuid4().hex
    STEPS[step](run, key, open_it)
    run.router.kill()
    known = run.order_of(key)
    run.restart()

    again = run.post("/v1/open", OPEN, key=key)
    assert known in {None, run.order_of(key)}
    order_id = run.order_of(key)
    assert order_id is not None
    order = run.end_of(order_id)
    filled = [attempt for attempt in order["attempts"] if attempt["outcome"] == "filled"]
    if order["status"] == "filled":
        assert again.json()["order_id"] == order_id
        assert len(filled) == 1
        assert Decimal(order["size"]) == run.held()
    else:
        assert (order["status"], filled) == ("failed", [])
        assert run.held() == 0
    assert run.venue_size() == run.held()
    run.close_all()


@pytest.mark.parametrize("step", OF_A_CLOSE)
def test_killed_at_a_step_of_a_close(step: str, run: Stage) -> None:
    """A close that was interrupted closes once, or can be asked for again; it never closes more than there is."""
    assert run.post("/v1/open", OPEN).status_code == httpx.codes.CREATED
    key = uuid4().hex
    STEPS[step](run, key, close_it)
    run.router.kill()
    run.restart()

    order_id = run.order_of(key)
    if order_id is not None:
        run.end_of(order_id)
    assert run.venue_size() == run.held() >= 0
    run.close_all()


def test_killed_with_a_fence_on_its_way(run: Stage) -> None:
    """The fence has executed and nobody read the answer: after the restart the order ends by it, unfilled."""
    key = uuid4().hex
    with run.striking("cut_before", "sendTransaction"):
        open_it(run, key)
    order_id = run.order_of(key)
    assert order_id is not None
    assert run.post(f"/v1/orders/{order_id}/cancel", {}, wait=0).is_success
    run.row_within("SELECT 1 FROM secondaries WHERE order_id = ? AND purpose = 'fence'", order_id)
    run.clear_faults()
    with run.striking("slow", "sendTransaction", delay_ms=FOREVER_MS):
        pass
    run.restart()

    order = run.end_of(order_id)
    assert order["status"] == "cancelled"
    assert run.venue_size() == run.held() == 0


def test_killed_while_recovering(run: Stage) -> None:
    """A second kill, before the recovery from the first one has ended, changes nothing."""
    key = uuid4().hex
    with run.striking("slow", "sendTransaction", delay_ms=FOREVER_MS):
        open_it(run, key)
    run.router.kill()
    run.clear_faults()
    with run.striking("slow", "getTransaction", delay_ms=FOREVER_MS):
        run.router.launch()
    run.restart()

    order_id = run.order_of(key)
    assert order_id is not None
    order = run.end_of(order_id)
    assert order["status"] == "filled"
    assert run.venue_size() == run.held() == Decimal(order["size"])
    run.close_all()


def test_killed_after_the_answer(run: Stage) -> None:
    """What was answered as filled is on record after a kill of router and cluster, and can be closed."""
    key = uuid4().hex
    answer = run.post("/v1/open", OPEN, key=key)
    assert answer.status_code == httpx.codes.CREATED
    run.router.kill()
    run.cluster.kill()
    run.cluster.start()
    run.router.start()

    again = run.post("/v1/open", OPEN, key=key)
    assert again.status_code == httpx.codes.CREATED
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["order_id"] == answer.json()["order_id"]
    assert run.venue_size() == run.held() == Decimal(answer.json()["fill"]["size"])
    run.close_all()
