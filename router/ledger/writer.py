"""Who commits: one thread with group commit, or the caller itself on virtual time.

Each write is a function of the connection, run between SAVEPOINT and RELEASE: one that fails is undone alone, and its
error goes to its own caller. A write's caller goes on only after the COMMIT that holds it has reached the disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar, cast

from router.ledger.protocol import LedgerError

__all__ = ["InlineWriter", "ThreadWriter", "Work", "Writer"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BATCH_MAX = 256
"""Writes in one transaction at the most: bounds how long the first of them waits."""


class Writer(Protocol):
    """Runs writes, each wholly or not at all."""

    commits: int
    """Transactions committed so far."""

    async def run(self, work: Work[T]) -> T:
        """Run one write; return its value once it is durable.

        Raises:
            LedgerError: the storage refused (disk full, locked, read-only); nothing of this write is there.
        """
        ...

    async def aclose(self) -> None:
        """Finish what is queued and close the connection."""
        ...


class _Job:
    """A write and what became of it. What it returns is an object here; `run` gives it back its type."""

    __slots__ = ("error", "future", "loop", "value", "work")

    def __init__(
        self, work: Work[object], loop: asyncio.AbstractEventLoop | None, future: asyncio.Future[object] | None
    ) -> None:
        self.work = work
        self.loop = loop
        self.future = future
        self.value: object = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Give value or error to the waiting task, unless it has gone away."""
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


def _refused(error: sqlite3.Error) -> LedgerError:
    refused = LedgerError(f"the ledger could not write: {error}")
    refused.__cause__ = error
    return refused


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _run_savepoint(connection: sqlite3.Connection, job: _Job) -> None:
    """Run one job; an error of its own undoes it alone. Raises `sqlite3.Error` when the whole transaction is gone."""
    connection.execute("SAVEPOINT job")
    try:
        job.value = job.work(connection)
    except Exception as error:
        job.error = _refused(error) if isinstance(error, sqlite3.Error) else error
        if not connection.in_transaction:
            # SQLite undid everything (disk full, I/O error): the writes before this one are gone too.
            raise sqlite3.OperationalError(str(error)) from error
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")


def _commit(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> bool:
    """Run `jobs` in one transaction and say whether it was committed; each job then has its value or its error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            _run_savepoint(connection, job)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        try:
            _rollback(connection)
        except sqlite3.Error:
            logger.exception("ledger_rollback_failed")
        for job in jobs:
            job.error = job.error or _refused(error)
        logger.error("ledger_commit_failed", extra={"writes": len(jobs), "reason": str(error)})  # noqa: TRY400 - told
        return False
    return True


class InlineWriter:
    """Commits on the calling thread, one write a transaction: for simulation on virtual time, where order is all."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._closed = False
        self.commits = 0

    async def run(self, work: Work[T]) -> T:
        """Run one write now."""
        if self._closed:
            raise LedgerError("the ledger is closed")
        job = _Job(work, None, None)
        self.commits += _commit(self._connection, [job])
        if job.error is not None:
            raise job.error
        return cast("T", job.value)

    async def aclose(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._closed = True
            self._connection.close()


class ThreadWriter:
    """One thread that commits all that has queued up while it was busy with the last commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self.commits = 0
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Queue one write and wait for its commit. A caller that is cancelled meanwhile does not undo it."""
        if self._closed:
            raise LedgerError("the ledger is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._queue.put(_Job(work, loop, future))
        return cast("T", await future)

    async def aclose(self) -> None:
        """Commit what is queued, then end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _main(self) -> None:
        while (job := self._queue.get()) is not None:
            jobs = [job]
            ended = False
            while len(jobs) < BATCH_MAX:
                try:
                    following = self._queue.get_nowait()
                except Empty:
                    break
                if following is None:
                    ended = True
                    break
                jobs.append(following)
            self.commits += _commit(self._connection, jobs)
            self._resolve(jobs)
            if ended:
                break
        self._connection.close()

    @staticmethod
    def _resolve(jobs: Sequence[_Job]) -> None:
        """Wake every waiting task with one call into each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            if job.loop is not None:
                by_loop.setdefault(job.loop, []).append(job)
        for loop, theirs in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve_all, theirs)
            except RuntimeError:
                # The loop ended before its writes did: they are durable, and nobody is left to be told.
                logger.warning("ledger_caller_gone", extra={"writes": len(theirs)})


def _resolve_all(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.resolve()
