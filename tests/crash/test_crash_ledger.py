"""The ledger's file under the real process: full disk, foreign locks, no right to write, a damaged write-ahead log."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.crash.processes import FOREVER_MS, OPEN, Stage, free_port, wait_until


@pytest.fixture
def own_ledger(run: Stage) -> Iterator[Stage]:
    """Return the stage on a ledger that no other test goes on with."""
    before = run.ledger.name
    run.begin_ledger(f"{uuid4().hex}.db")
    yield run
    run.begin_ledger(before)


def fill_disk(run: Stage) -> None:
    """Let no file of the router grow any more: a write-ahead log that is as long as it is now takes no further commit.

    The log may have room from before it was last rewound; from now on it is as if the disk had none.
    """
    log = Path(f"{run.ledger}-wal")
    run.router.limit_files(log.stat().st_size if log.exists() else 0)


def assert_not_taken(answer: httpx.Response) -> None:
    """The caller is told to ask again under the same key, which cannot trade twice."""
    assert (answer.status_code, answer.json()["retryable"]) == (503, "yes_same_key"), answer.text


def test_a_full_disk_takes_no_order_and_sends_nothing(run: Stage) -> None:
    """Nothing is sent that could not be written down; with room again the same key makes its one order."""
    key = uuid4().hex
    fill_disk(run)
    assert_not_taken(run.post("/v1/open", OPEN, key=key))
    assert run.order_of(key) is None
    assert run.venue_size() == 0
    run.router.limit_files(None)

    again = run.post("/v1/open", OPEN, key=key)
    assert again.status_code == httpx.codes.CREATED, again.text
    assert run.venue_size() == run.held() == Decimal(again.json()["size"])
    run.close_all()


@pytest.mark.parametrize("killed", [False, True], ids=["room again", "killed, then room again"])
def test_a_disk_that_fills_up_under_an_order(run: Stage, killed: bool) -> None:  # noqa: FBT001 - parameter of a test
    """It executed and could not be booked: it is booked as soon as there is room, or by the next start, once."""
    key = uuid4().hex
    with run.striking("slow", "sendTransaction", delay_ms=1_000):
        run.post_in_background("/v1/open", OPEN, key)
    fill_disk(run)
    order_id = run.order_of(key)
    assert order_id is not None
    log = run.router.log
    wait_until(lambda: "ledger_commit_failed" in log.read_text(), "no write was refused", within_s=10)
    assert run.rows("SELECT status FROM orders WHERE idempotency_key = ?", key) == [("pending",)]
    if killed:
        run.restart()
    else:
        run.router.limit_files(None)
        run.clear_faults()

    order = run.end_of(order_id)
    assert order["status"] == "filled"
    assert len(order["attempts"]) == 1
    assert run.venue_size() == run.held() == Decimal(order["size"])
    assert run.post("/v1/open", OPEN, key=key).json()["order_id"] == order_id
    run.close_all()


def test_a_ledger_that_another_process_has_locked(run: Stage) -> None:
    """A write waits for a foreign lock as long as it may, then is refused; nothing is sent meanwhile."""
    key = uuid4().hex
    with run.ledger_locked():
        assert_not_taken(run.post("/v1/open", OPEN, key=key))
        assert run.venue_size() == 0
    assert run.order_of(key) is None
    again = run.post("/v1/open", OPEN, key=key)
    assert again.status_code == httpx.codes.CREATED
    assert run.venue_size() == run.held() == Decimal(again.json()["size"])
    run.close_all()


def test_a_second_service_on_the_ledger_does_not_start(run: Stage) -> None:
    """It says why, ends with 1, and leaves the first one alone."""
    second = run.new_router("second", free_port())
    second.launch()
    assert second.ended() == 1
    assert "another service has the ledger" in second.log.read_text()
    assert run.post("/v1/open", OPEN).status_code == httpx.codes.CREATED
    run.close_all()


def test_a_ledger_that_may_not_be_written_does_not_start(run: Stage) -> None:
    """It says so and ends with 1: no order can be taken that could not be written down."""
    assert run.post("/v1/open", OPEN).status_code == httpx.codes.CREATED
    run.router.kill()
    files = [run.ledger, Path(f"{run.ledger}-wal"), Path(f"{run.ledger}-shm")]
    for file in files:
        file.chmod(0o400)
    reader = run.new_router("reader", free_port(), bound_by_modes=True)
    reader.launch()
    assert reader.ended() == 1
    assert "cannot be opened" in reader.log.read_text()
    for file in files:
        file.chmod(0o600)

    run.router.start()
    assert run.venue_size() == run.held() > 0
    run.close_all()


_WAL_HEADER, _FRAME_HEADER = 32, 24


def damage(log: Path, transactions: int) -> None:
    """Damage the last page of a write-ahead log, and of the transactions before it, as far back as said.

    A frame counts when it carries the log's salts; one that ends a transaction names the size of the database.
    """
    data = bytearray(log.read_bytes())
    page = struct.unpack(">I", data[8:12])[0]
    salts = data[16:24]
    ends: list[int] = []
    for start in range(_WAL_HEADER, len(data) - page, _FRAME_HEADER + page):
        if data[start + 8 : start + 16] != salts:
            break
        if struct.unpack(">I", data[start + 4 : start + 8])[0]:
            ends.append(start)
    assert len(ends) >= transactions
    for start in ends[-transactions:]:
        place = start + _FRAME_HEADER + page // 2
        data[place] ^= 0xFF
    log.write_bytes(data)


@pytest.mark.parametrize("transactions", [1, 2, 3], ids=["the last page", "two transactions", "the order itself"])
def test_a_damaged_write_ahead_log(transactions: int, own_ledger: Stage) -> None:
    """What was lost with the log is found on the chain: no second fill under the same key, and opens are held."""
    run, key = own_ledger, uuid4().hex
    with run.striking("slow", "sendTransaction", delay_ms=FOREVER_MS):
        run.post_in_background("/v1/open", OPEN, key)
    wait_until(lambda: run.venue_size() > 0, "it did not fill")
    filled = run.venue_size()
    run.router.kill()
    # The last transactions of the file: the order, its terms, its attempt.
    damage(Path(f"{run.ledger}-wal"), transactions)
    run.clear_faults()
    run.router.start()

    again = run.post("/v1/open", OPEN, key=key)
    assert run.venue_size() == filled
    order_id = run.order_of(key)
    if order_id is not None:
        order = run.end_of(order_id)
        assert len([each for each in order["attempts"] if each["outcome"] == "filled"]) <= 1
    else:
        assert (again.status_code, again.json()["code"]) == (httpx.codes.SERVICE_UNAVAILABLE, "opens_held")
    findings = run.get("/v1/reconciliation")
    assert run.venue_size() == filled
    if run.held() != filled:
        assert "unknown_signature" in str(findings)
        assert run.post("/v1/open", OPEN).json()["code"] == "opens_held"
    wait_until(lambda: run.held() == filled or "foreign_position" in str(run.get("/v1/reconciliation")), "not told")
