"""The file: durability, group commit, one service a file, refused writes, migrations."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from providers.base.clock import VirtualClock
from router.ledger import schema
from router.ledger.protocol import LedgerError
from router.ledger.records import OrderStatus, PositionStatus
from router.ledger.sqlite import SqliteLedger
from router.ledger.writer import Writer
from tests.ledger.ledger_cases import at, kinds, new_order, opened, ready, with_ledger

CLOCK = VirtualClock(seed=1)
ROOT = Path(__file__).parents[2]


def on_file(path: Path, test: Callable[[SqliteLedger], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test on a ledger file and close it."""

    async def main() -> None:
        ledger = SqliteLedger.open(path, CLOCK, **options)
        try:
            await test(ledger)
        finally:
            await ledger.aclose()

    asyncio.run(main())


def writing(ledger: SqliteLedger) -> Writer:
    """Return the ledger's writer, to give it writes that no method makes."""
    return ledger._writer  # pyright: ignore[reportPrivateUsage]


def start_child(path: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a process that trades on a ledger file until it is killed."""
    command = [sys.executable, "-m", "tests.ledger.ledger_child", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)  # noqa: S603 - our own


async def run_on_writer(ledger: SqliteLedger, statement: str) -> None:
    """Give the writing connection a statement outside any write, as a full disk would come over it."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute(statement)

    await writing(ledger).run(work)


@pytest.mark.parametrize("writer", ["thread", "inline"])
def test_what_was_written_is_there_after_reopening(tmp_path: Path, writer: str) -> None:
    """By either writer, with a clean end."""
    path = tmp_path / "new folder" / "ledger.db"

    async def write(ledger: SqliteLedger) -> None:
        await opened(ledger)

    async def read(ledger: SqliteLedger) -> None:
        view = ledger.order("ord_1")
        assert view is not None
        assert view.order.status is OrderStatus.FILLED
        assert len(ledger.positions(limit=9, status=PositionStatus.OPEN)[0]) == 1
        assert "position_opened" in kinds(ledger)

    on_file(path, write, writer=writer)
    on_file(path, read)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Signed transactions lie in it."""

    async def nothing(ledger: SqliteLedger) -> None:
        assert await ledger.healthy()
        for name in ("ledger.db", "ledger.db-wal", "ledger.db.lock"):
            assert (tmp_path / name).stat().st_mode & 0o077 == 0

    on_file(tmp_path / "ledger.db", nothing)


def test_commits_are_synced_to_the_disk(tmp_path: Path) -> None:
    """WAL with full sync and foreign keys, on the connection that writes."""

    async def test(ledger: SqliteLedger) -> None:
        found: dict[str, object] = {}

        def read(connection: sqlite3.Connection) -> None:
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint"):
                found[name] = connection.execute(f"PRAGMA {name}").fetchone()[0]

        await writing(ledger).run(read)
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "busy_timeout": 5000,
            "wal_autocheckpoint": 4000,
        }

    on_file(tmp_path / "ledger.db", test)


def test_reads_see_every_awaited_write(tmp_path: Path) -> None:
    """From their own connection, at once."""

    async def test(ledger: SqliteLedger) -> None:
        for i in range(50):
            await ledger.create_order(new_order(f"ord_{i}", key=str(i)))
            assert ledger.order(f"ord_{i}") is not None
            assert ledger.order_by_key("local", str(i)) is not None

    on_file(tmp_path / "ledger.db", test)


def test_concurrent_writes_share_commits(tmp_path: Path) -> None:
    """Two hundred writes that queue up together need far fewer syncs than two hundred."""

    async def test(ledger: SqliteLedger) -> None:
        before = ledger.commits
        await asyncio.gather(*(ledger.create_order(new_order(f"ord_{i}")) for i in range(200)))

        assert len(ledger.orders(limit=200)[0]) == 200
        assert 1 <= ledger.commits - before <= 100

    on_file(tmp_path / "ledger.db", test)


@pytest.mark.parametrize("writer", ["thread", "inline"])
def test_a_write_that_fails_undoes_itself_alone(tmp_path: Path, writer: str) -> None:
    """Its neighbours in the same transaction are kept; its own caller gets the error."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order("taken"))
        writes = [ledger.create_order(new_order("taken" if i % 3 == 0 else f"ord_{i}", key=f"k{i}")) for i in range(30)]
        results = await asyncio.gather(*writes, return_exceptions=True)

        assert [isinstance(result, LedgerError) for result in results] == [i % 3 == 0 for i in range(30)]
        stored = {view.order.order_id for view in ledger.orders(limit=99)[0]}
        assert stored == {"taken"} | {f"ord_{i}" for i in range(30) if i % 3}
        assert ledger.order_by_key("local", "k0") is None

    on_file(tmp_path / "ledger.db", test, writer=writer)


def test_a_caller_that_goes_away_undoes_nothing(tmp_path: Path) -> None:
    """A cancelled task's write is durable all the same, and its neighbour is answered."""

    async def test(ledger: SqliteLedger) -> None:
        gone = asyncio.ensure_future(ledger.create_order(new_order("ord_1")))
        await asyncio.sleep(0)
        gone.cancel()
        await ledger.create_order(new_order("ord_2"))

        with pytest.raises(asyncio.CancelledError):
            await gone
        assert ledger.order("ord_1") is not None

    on_file(tmp_path / "ledger.db", test)


def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    """Queued writes are committed and answered; later ones are refused."""
    path = tmp_path / "ledger.db"

    async def write() -> None:
        ledger = SqliteLedger.open(path, CLOCK)
        writes = [asyncio.ensure_future(ledger.create_order(new_order(f"ord_{i}"))) for i in range(40)]
        await asyncio.sleep(0)
        await ledger.aclose()
        await asyncio.gather(*writes)
        await ledger.aclose()
        with pytest.raises(LedgerError, match="closed"):
            await ledger.create_order(new_order("late"))
        with pytest.raises(LedgerError, match="closed"):
            ledger.order("ord_1")
        assert not await ledger.healthy()

    async def read(ledger: SqliteLedger) -> None:
        assert len(ledger.orders(limit=99)[0]) == 40

    asyncio.run(write())
    on_file(path, read)


def test_one_file_serves_one_service(tmp_path: Path) -> None:
    """A second opener gets a clear error, from this process or another; the first goes on."""
    path = tmp_path / "ledger.db"

    async def test(ledger: SqliteLedger) -> None:
        with pytest.raises(LedgerError, match="another service has the ledger"):
            SqliteLedger.open(path, CLOCK)
        child = start_child(path, stderr=subprocess.PIPE)
        _, told = child.communicate()
        assert "another service has the ledger ledger.db open" in told
        await ready(ledger)

    on_file(path, test)


@pytest.mark.parametrize("kill_after", [40, 200])
def test_every_acknowledged_write_survives_a_kill(tmp_path: Path, kill_after: int) -> None:
    """A child is killed with -9 amid a stream of commits; the next opener finds all that it had told."""
    path = tmp_path / "ledger.db"
    child = start_child(path)
    assert child.stdout is not None
    with child.stdout as told:
        lines = [next(told).split() for _ in range(kill_after)]
        child.send_signal(signal.SIGKILL)
        lines += [line.split() for line in told if line.endswith("\n")]
    child.wait()

    async def read(ledger: SqliteLedger) -> None:
        for step, order_id in lines:
            view = ledger.order(order_id)
            assert view is not None
            assert view.order.size is not None
            assert step == "created" or view.attempts
            assert step != "filled" or (view.fills and ledger.position(view.order.position_id or ""))
        for view in ledger.open_orders():
            # Nothing half-written: a fill and its position, or neither.
            assert bool(view.fills) == (view.order.position_id is not None)
        assert await ledger.healthy()

    assert {step for step, _ in lines} == {"created", "journaled", "filled"}
    on_file(path, read)


def test_a_full_disk_refuses_writes_and_nothing_is_half_written(tmp_path: Path) -> None:
    """Orders are refused while it is full and taken again when there is room; all that was acknowledged is kept."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger, "before")
        await run_on_writer(ledger, "PRAGMA max_page_count = 1")  # SQLite makes it the size that the file has
        big = b'"' + b"x" * 100_000 + b'"'
        writes = [ledger.create_order(new_order(f"ord_{i}", request=big)) for i in range(20)]
        results = await asyncio.gather(*writes, return_exceptions=True)

        assert all(isinstance(result, LedgerError) and "full" in str(result) for result in results)
        assert [view.order.order_id for view in ledger.orders(limit=99)[0]] == ["before"]
        assert len(ledger.events()) == 2

        await run_on_writer(ledger, "PRAGMA max_page_count = 1000000")
        await ledger.create_order(new_order("after", request=big))
        assert await ledger.healthy()

    on_file(tmp_path / "ledger.db", test)


def test_a_read_only_database_refuses_writes(tmp_path: Path) -> None:
    """Reads go on, `healthy` says so, and writing goes on when it can."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        ledger._reader.execute("PRAGMA query_only = ON")  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(LedgerError, match="readonly"):
            await ledger.create_order(new_order("ord_2"))
        assert not await ledger.healthy()
        assert ledger.order("ord_1") is not None

        ledger._reader.execute("PRAGMA query_only = OFF")  # pyright: ignore[reportPrivateUsage]
        assert await ledger.healthy()
        assert ledger.order("ord_2") is None

    on_file(tmp_path / "ledger.db", test, writer="inline")


def test_a_locked_database_refuses_writes_until_it_is_free(tmp_path: Path) -> None:
    """A foreign tool that holds the write lock for longer than the patience costs writes, not the writer."""
    path = tmp_path / "ledger.db"

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        writes = [ledger.create_order(new_order(f"ord_{i}", key=f"k{i}")) for i in range(2, 5)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(result, LedgerError) and "locked" in str(result) for result in results)
        assert not await ledger.healthy()
        assert ledger.order("ord_1") is not None

        foreign.execute("ROLLBACK")
        foreign.close()
        assert await ledger.healthy()
        await ledger.create_order(new_order("ord_2", key="k2"))

    on_file(path, test, busy_timeout_ms=50)


def test_a_backup_beside_the_service_has_what_was_acknowledged(tmp_path: Path) -> None:
    """SQLite's own backup, taken from another connection between writes, opens as a ledger."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "before")
        source, copy = sqlite3.connect(tmp_path / "ledger.db"), sqlite3.connect(tmp_path / "copy.db")
        source.backup(copy)
        source.close()
        copy.close()
        await ready(ledger, "after")

    async def read(ledger: SqliteLedger) -> None:
        assert [view.order.order_id for view in ledger.orders(limit=9)[0]] == ["before"]
        assert len(ledger.positions(limit=9)[0]) == 1

    on_file(tmp_path / "ledger.db", test)
    on_file(tmp_path / "copy.db", read)


def test_a_fault_of_ours_in_a_write_goes_to_its_caller_alone(tmp_path: Path) -> None:
    """The writer survives an exception of any kind, and nothing of that write is kept."""

    async def test(ledger: SqliteLedger) -> None:
        def broken(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO meta VALUES ('half', 'written')")
            raise ZeroDivisionError

        broken_write = writing(ledger).run(broken)
        results = await asyncio.gather(broken_write, ledger.create_order(new_order()), return_exceptions=True)
        assert isinstance(results[0], ZeroDivisionError)
        assert ledger.order("ord_1") is not None

        def count(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT count(*) FROM meta WHERE name = 'half'").fetchone()[0])

        assert await writing(ledger).run(count) == 0

    on_file(tmp_path / "ledger.db", test)


def version_of(path: Path) -> int:
    """Return the schema version of a closed ledger file."""
    connection = sqlite3.connect(path)
    try:
        return schema.schema_version(connection)
    finally:
        connection.close()


def test_a_ledger_of_version_1_moves_forward_with_its_rows(
    tmp_path: Path,
) -> None:
    """A later migration runs once, in one transaction, and keeps what was there."""
    path = tmp_path / "ledger.db"

    async def write(ledger: SqliteLedger) -> None:
        await opened(ledger)

    on_file(path, write)
    later = (*schema.MIGRATIONS, ("ALTER TABLE orders ADD COLUMN desk TEXT NOT NULL DEFAULT 'main'",))
    connection = sqlite3.connect(path, isolation_level=None)
    assert schema.migrate(connection, later) == len(schema.MIGRATIONS)
    assert schema.migrate(connection, later) == len(later)
    assert connection.execute("SELECT order_id, desk FROM orders").fetchall() == [("ord_1", "main")]
    connection.close()
    assert version_of(path) == len(later)


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    """No statement of it is kept, and the version says so."""
    path = tmp_path / "ledger.db"

    async def write(ledger: SqliteLedger) -> None:
        await ready(ledger)

    on_file(path, write)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, (*schema.MIGRATIONS, ("CREATE TABLE extra (x)", "CREATE TABLE nonsense nonsense")))
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone()[0] == 0
    connection.close()
    assert version_of(path) == len(schema.MIGRATIONS)


def test_a_ledger_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """An older program would not keep its promises; the file is left as it is and free for the right one."""
    path = tmp_path / "ledger.db"

    async def write(ledger: SqliteLedger) -> None:
        await ready(ledger)

    on_file(path, write)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '999' WHERE name = 'schema_version'")
    connection.commit()
    connection.close()
    for _ in range(2):
        with pytest.raises(LedgerError, match="schema version 999"):
            SqliteLedger.open(path, CLOCK)
    assert version_of(path) == 999


@pytest.mark.parametrize("content", ["database", "text", "folder"])
def test_what_is_no_ledger_is_refused(tmp_path: Path, content: str) -> None:
    """Another program's database, a text file, a folder: a clear error, and nothing written to it."""
    path = tmp_path / "ledger.db"
    if content == "database":
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE theirs (x)")
        other.close()
    elif content == "text":
        path.write_text("not a database at all, but long enough to look like one\n" * 20)
    else:
        path.mkdir()

    with pytest.raises(LedgerError):
        SqliteLedger.open(path, CLOCK)


def test_a_page_has_a_bound() -> None:
    """However many rows are asked for."""

    async def test(ledger: SqliteLedger) -> None:
        for i in range(205):
            await ledger.create_order(new_order(f"ord_{i}", created_at=at(i), deadline=at(i + 60)))

        page, cursor = ledger.orders(limit=10_000)
        assert len(page) == 200
        assert cursor is not None
        assert len(ledger.orders(limit=10_000, cursor=cursor)[0]) == 5

    with_ledger(test)
