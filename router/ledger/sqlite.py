"""The ledger in one SQLite file: WAL, full sync, one writer."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from providers.base.clock import Clock, new_id
from providers.base.errors import ErrorInfo
from providers.base.types import Ack, HoldingKey, Outcome, Side, VenueEvent
from router.ledger import attempts, audit, findings, limits, orders, outcomes, outside, protection, queries
from router.ledger.audit import AuditEvent
from router.ledger.codec import time_text
from router.ledger.guard import FileGuard
from router.ledger.protocol import Claim, Created, Explain, LedgerError
from router.ledger.records import (
    AttemptRecord,
    Finding,
    FindingKind,
    FindingRecord,
    FindingStatus,
    ForeignPart,
    HaltRecord,
    LegRecord,
    NewOrder,
    OrderRecord,
    OrderStatus,
    OrderView,
    OutsideBooked,
    PositionRecord,
    PositionStatus,
    ProtectedLot,
    ProtectionTerms,
    SecondaryRecord,
    SecondaryState,
    Usage,
    Watermark,
)
from router.ledger.schema import migrate
from router.ledger.writer import InlineWriter, ThreadWriter, Writer

__all__ = ["MEMORY", "SqliteLedger"]

logger = logging.getLogger(__name__)

MEMORY = ":memory:"

WAL_AUTOCHECKPOINT_PAGES = 4000
"""About 16 MB: the default of 1000 copies pages into the file four times as often as the load needs."""


class SqliteLedger:
    """`Ledger` on SQLite; what each method promises stands there.

    Open with `open`. Writes are queued to one writer; reads run on the calling thread on a connection of their own and
    see every write that was awaited.
    """

    def __init__(
        self, *, writer: Writer, reader: sqlite3.Connection, clock: Clock, guard: FileGuard | None, owns_reader: bool
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._guard = guard
        self._owns_reader = owns_reader
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        clock: Clock,
        *,
        writer: Literal["thread", "inline"] = "thread",
        busy_timeout_ms: int = 5000,
    ) -> SqliteLedger:
        """Open or make a ledger.

        Args:
            path: the file, or `:memory:` (always `inline`: its only connection is the caller's).
            clock: the source of position ids.
            writer: `thread` for a service; `inline` commits on the calling thread, for simulation on virtual time.
            busy_timeout_ms: how long a write waits for a foreign process that holds the database (a backup).

        Raises:
            LedgerError: another service has the file, it is no ledger, or a newer program wrote it.
        """
        if str(path) == MEMORY:
            connection = _connect(MEMORY, busy_timeout_ms)
            migrate(connection)
            return cls(writer=InlineWriter(connection), reader=connection, clock=clock, guard=None, owns_reader=False)
        file = Path(path).resolve()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            guard = FileGuard(file)
        except OSError as error:
            raise LedgerError(f"the ledger {file.name} cannot be opened: {error.strerror}") from error
        try:
            connection = _open_file(file, busy_timeout_ms)
        except BaseException:
            guard.close()
            raise
        if writer == "inline":
            return cls(writer=InlineWriter(connection), reader=connection, clock=clock, guard=guard, owns_reader=False)
        reader = _connect(str(file), busy_timeout_ms)
        reader.execute("PRAGMA query_only = ON")
        return cls(writer=ThreadWriter(connection), reader=reader, clock=clock, guard=guard, owns_reader=True)

    @property
    def commits(self) -> int:
        """Transactions committed since the ledger was opened: under load fewer than writes."""
        return self._writer.commits

    async def bind(self, genesis_hash: str) -> None:
        """Bind to a cluster on first use."""
        at = self._clock.now()
        await self._writer.run(lambda connection: orders.bind(connection, genesis_hash, at))

    async def create_order(self, order: NewOrder, claim: Claim | None = None) -> Created:
        """Store order, key, reservations and claim in one transaction."""
        return await self._writer.run(lambda connection: limits.create_order(connection, order, claim))

    async def fix_terms(
        self, order_id: str, *, size: Decimal, worst_price: Decimal, expected_price: Decimal, at: datetime
    ) -> None:
        """Write base size and absolute worst price, once."""
        await self._writer.run(
            lambda connection: orders.fix_terms(
                connection, order_id, size=size, worst_price=worst_price, expected_price=expected_price, at=at
            )
        )

    async def request_cancel(self, order_id: str, at: datetime) -> None:
        """Note that the caller wants the chain to end."""
        await self._writer.run(lambda connection: orders.request_cancel(connection, order_id, at))

    async def add_attempt(self, attempt: AttemptRecord, claim: Claim | None = None) -> None:
        """Store a new attempt before anything of it is sent."""

        def add(connection: sqlite3.Connection) -> None:
            limits.check(connection, claim)
            attempts.add(connection, attempt)

        await self._writer.run(add)

    async def repeat_refusal(self, attempt_id: str, error: ErrorInfo, at: datetime) -> None:
        """Note that a provider refuses again what it refused before."""
        await self._writer.run(lambda connection: attempts.repeat_refusal(connection, attempt_id, error, at))

    async def record_ack(self, attempt_id: str, ack: Ack, at: datetime) -> None:
        """Store the answer of the first hand-over."""
        await self._writer.run(lambda connection: attempts.record_ack(connection, attempt_id, ack, at))

    async def record_outcome(self, attempt_id: str, outcome: Outcome, at: datetime) -> tuple[str, ...]:
        """Store evidence, state, fills and what the fills do to lots; return the ids of the fills that were new."""
        position_id = new_id(self._clock, "pos") if outcome.fills else ""
        return await self._writer.run(
            lambda connection: outcomes.record(connection, attempt_id, outcome, at, position_id)
        )

    async def close_domain(self, order_id: str, part: int, generation: int, at: datetime) -> None:
        """Close the open exclusion domain."""
        await self._writer.run(lambda connection: attempts.close_domain(connection, order_id, part, generation, at))

    async def finish_order(
        self, order_id: str, status: OrderStatus, at: datetime, *, error: ErrorInfo | None = None
    ) -> None:
        """Set a status that attempts and fills bear out."""
        await self._writer.run(lambda connection: orders.finish(connection, order_id, status, at, error))

    async def add_secondary(self, secondary: SecondaryRecord) -> None:
        """Store a secondary transaction before it is sent."""
        await self._writer.run(lambda connection: attempts.add_secondary(connection, secondary))

    async def set_secondary(self, secondary_id: str, state: SecondaryState, at: datetime) -> None:
        """Move a secondary transaction on."""
        await self._writer.run(lambda connection: attempts.set_secondary(connection, secondary_id, state, at))

    async def mark_reclaimed(self, order_ids: Sequence[str], at: datetime) -> None:
        """Note that the locks of these orders were returned: of all or of none."""
        await self._writer.run(lambda connection: orders.mark_reclaimed(connection, order_ids, at))

    async def note(
        self, kind: str, at: datetime, *, order_id: str | None = None, detail: dict[str, str] | None = None
    ) -> None:
        """Append to the audit log."""
        told = dict(detail or {})
        await self._writer.run(lambda connection: audit.append_told(connection, kind, at, order_id=order_id, told=told))

    def order(self, order_id: str) -> OrderView | None:
        """Return one order with all that hangs on it."""
        with self._snapshot() as connection:
            return queries.view(connection, order_id)

    def order_by_key(self, caller: str, key: str) -> OrderRecord | None:
        """Return the order that a key made."""
        with self._snapshot() as connection:
            return queries.order_by_key(connection, caller, key)

    def order_by_client_order_id(self, caller: str, client_order_id: str) -> OrderRecord | None:
        """Return the caller's order of that name."""
        with self._snapshot() as connection:
            return queries.order_by_client_order_id(connection, caller, client_order_id)

    def orders(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        provider: str | None = None,
        market: str | None = None,
        status: OrderStatus | None = None,
    ) -> tuple[tuple[OrderView, ...], str | None]:
        """Return a page of orders, newest first; at most `queries.PAGE_MAX`."""
        with self._snapshot() as connection:
            return queries.page_of_orders(
                connection, limit=limit, cursor=cursor, provider=provider, market=market, status=status
            )

    def open_orders(self) -> tuple[OrderView, ...]:
        """Return every order that is not final, oldest first."""
        with self._snapshot() as connection:
            return queries.open_views(connection)

    def open_order_ids(self) -> tuple[str, ...]:
        """Return the id of every order that is not final, oldest first."""
        with self._snapshot() as connection:
            return queries.open_order_ids(connection)

    def unclear_open(self, *, provider: str, market: str, side: Side) -> str | None:
        """Return the id of an open of this side whose attempt at the provider may still fill; else null."""
        with self._snapshot() as connection:
            return queries.unclear_open(connection, provider, market, side)

    def watched_orders(self, since: datetime) -> tuple[OrderView, ...]:
        """Return final orders updated after `since` with an attempt not finalized, or dead."""
        with self._snapshot() as connection:
            return queries.watched_views(connection, since)

    def unreclaimed_orders(self, before: datetime) -> tuple[OrderView, ...]:
        """Return final orders with a lock not reclaimed, whose deadline is before `before`."""
        with self._snapshot() as connection:
            return queries.unreclaimed_views(connection, before)

    def unsettled_secondaries(self) -> tuple[SecondaryRecord, ...]:
        """Return secondary transactions of no order whose end is not known, oldest first."""
        with self._snapshot() as connection:
            return queries.unsettled_secondaries(connection)

    def position(self, position_id: str) -> PositionRecord | None:
        """Return one lot."""
        with self._snapshot() as connection:
            return queries.find_position(connection, position_id)

    def positions(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        provider: str | None = None,
        market: str | None = None,
        side: Side | None = None,
        status: PositionStatus | None = None,
    ) -> tuple[tuple[PositionRecord, ...], str | None]:
        """Return a page of lots, oldest first; at most `queries.PAGE_MAX`."""
        with self._snapshot() as connection:
            return queries.page_of_positions(
                connection, limit=limit, cursor=cursor, provider=provider, market=market, side=side, status=status
            )

    def events(self, *, after: int = 0, limit: int = 1000, order_id: str | None = None) -> tuple[AuditEvent, ...]:
        """Return audit events with a `seq` above `after`, oldest first."""
        with self._snapshot() as connection:
            return audit.read(connection, after=after, limit=limit, order_id=order_id)

    def knows_handle(self, handle: str) -> bool:
        """Whether a signature or client order id belongs to an attempt or secondary transaction of this ledger."""
        with self._snapshot() as connection:
            return queries.known_handle(connection, handle)

    # -- limits --------------------------------------------------------------------------------------------------

    def usage(self, day_began: datetime | None) -> Usage:
        """Return what counts against the router's limits."""
        with self._snapshot() as connection:
            return limits.usage(connection, day_began)

    async def halt(self, record: HaltRecord) -> HaltRecord:
        """Store a halt and return it as it stands."""
        return await self._writer.run(lambda connection: limits.halt(connection, record))

    async def resume(self, provider: str | None, reason: str, caller: str, at: datetime) -> bool:
        """Take a halt away."""
        return await self._writer.run(lambda connection: limits.resume(connection, provider, reason, caller, at))

    def halts(self) -> tuple[HaltRecord, ...]:
        """Return every halt that stands."""
        with self._snapshot() as connection:
            return limits.halts(connection)

    # -- reconciliation ------------------------------------------------------------------------------------------

    async def find(self, finding: Finding, at: datetime) -> FindingRecord | None:
        """Store what was found; return it where it is new."""
        return await self._writer.run(lambda connection: findings.find(connection, finding, at))

    async def resolve_finding(self, finding_id: str, reason: str, at: datetime) -> bool:
        """Note that what was found is gone."""
        return await self._writer.run(lambda connection: findings.resolve(connection, finding_id, reason, at))

    async def acknowledge_finding(self, finding_id: str, reason: str, caller: str, at: datetime) -> FindingRecord:
        """Note that a person has seen it and why it may stand."""
        return await self._writer.run(
            lambda connection: findings.acknowledge(connection, finding_id, reason, caller, at)
        )

    def findings(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        kind: FindingKind | None = None,
        provider: str | None = None,
        status: FindingStatus | None = None,
    ) -> tuple[tuple[FindingRecord, ...], str | None]:
        """Return a page of findings, newest first; at most `queries.PAGE_MAX`."""
        with self._snapshot() as connection:
            return queries.page_of_findings(
                connection, limit=limit, cursor=cursor, kind=kind, provider=provider, status=status
            )

    def standing_findings(self) -> tuple[FindingRecord, ...]:
        """Return every finding that is not resolved, oldest first."""
        with self._snapshot() as connection:
            return findings.standing(connection)

    async def book_outside(
        self, provider: str, event: VenueEvent, at: datetime, *, explain: Explain | None = None
    ) -> OutsideBooked:
        """Book a change of the holding that no attempt made, once."""
        return await self._writer.run(lambda connection: outside.book(connection, provider, event, at, explain))

    async def set_foreign_part(
        self,
        provider: str,
        holding: HoldingKey,
        signed_size: Decimal,
        *,
        entry_price: Decimal | None,
        at: datetime,
        because: str,
    ) -> None:
        """Write what the account holds beside the lots."""
        await self._writer.run(
            lambda connection: outside.set_foreign_part(
                connection, provider, holding, signed_size, entry_price=entry_price, at=at, because=because
            )
        )

    async def adopt(
        self, provider: str, holding: HoldingKey, *, entry_price: Decimal | None, caller: str, at: datetime
    ) -> PositionRecord:
        """Make a lot of the foreign part."""
        new = new_id(self._clock, "pos")
        position_id = await self._writer.run(
            lambda connection: outside.adopt(
                connection, provider, holding, entry_price=entry_price, caller=caller, position_id=new, at=at
            )
        )
        position = self.position(position_id)
        if position is None:
            raise LedgerError(f"{position_id} was adopted and is not there")
        return position

    def foreign_part(self, provider: str, holding: HoldingKey) -> ForeignPart | None:
        """Return what is held beside the lots."""
        with self._snapshot() as connection:
            return outside.foreign_part(connection, provider, holding)

    def foreign_parts(self, provider: str) -> tuple[ForeignPart, ...]:
        """Return the foreign parts on a provider."""
        with self._snapshot() as connection:
            return outside.foreign_parts(connection, provider)

    def lot_sizes(self, provider: str, *, netting: bool) -> dict[HoldingKey, Decimal]:
        """Return the sum of the open lots of each holding, negative for shorts."""
        with self._snapshot() as connection:
            return outside.lot_sizes(connection, provider, netting=netting)

    def booked_slots(self, provider: str) -> dict[str, int]:
        """Return the newest slot of a booked fill by market."""
        with self._snapshot() as connection:
            return outside.booked_slots(connection, provider)

    def first_fill_signature(self, provider: str) -> str | None:
        """Return the transaction of a provider's first fill, by its slot; null when there is none."""
        with self._snapshot() as connection:
            return outside.first_fill_signature(connection, provider)

    def busy_markets(self, provider: str) -> frozenset[str]:
        """Return the markets in which an attempt at the provider may still change something."""
        with self._snapshot() as connection:
            return outside.busy_markets(connection, provider)

    def is_booked(self, provider: str, venue_fill_id: str) -> bool:
        """Whether a fill counts already."""
        with self._snapshot() as connection:
            return outside.is_booked(connection, provider, venue_fill_id)

    def attempt_of_handle(self, handle: str) -> tuple[str, str] | None:
        """Return order id and attempt id of the attempt that has a signature."""
        with self._snapshot() as connection:
            return outside.attempt_of_handle(connection, handle)

    def watermark(self, name: str) -> Watermark | None:
        """Return how far a history was read."""
        with self._snapshot() as connection:
            return outside.watermark(connection, name)

    async def set_watermark(self, name: str, mark: Watermark, at: datetime) -> None:
        """Note how far a history was read."""
        await self._writer.run(lambda connection: outside.set_watermark(connection, name, mark, at))

    # -- protection ----------------------------------------------------------------------------------------------

    async def set_protection(self, position_id: str, terms: ProtectionTerms, caller: str, at: datetime) -> bool:
        """Write what a lot shall be protected by."""
        return await self._writer.run(
            lambda connection: protection.set_protection(connection, position_id, terms, caller, at)
        )

    async def add_leg(self, leg: LegRecord) -> None:
        """Store a new leg."""
        await self._writer.run(lambda connection: protection.add_leg(connection, leg))

    async def update_leg(self, leg: LegRecord) -> None:
        """Write how far a leg is."""
        await self._writer.run(lambda connection: protection.update_leg(connection, leg))

    async def end_leg(self, leg_id: str, reason: str, at: datetime, *, done: bool = False) -> None:
        """End a leg."""
        await self._writer.run(lambda connection: protection.end_leg(connection, leg_id, reason, at, done=done))

    def legs_of(self, position_id: str) -> tuple[LegRecord, ...]:
        """Return the newest leg of each sort that a lot has or had."""
        with self._snapshot() as connection:
            return protection.legs_of(connection, position_id)

    def protected_lots(self) -> tuple[ProtectedLot, ...]:
        """Return every lot that shall be protected or has a leg that has not ended."""
        with self._snapshot() as connection:
            return protection.protected_lots(connection)

    def protected_lot(self, position_id: str) -> ProtectedLot | None:
        """Return one lot with its live legs and their orders."""
        with self._snapshot() as connection:
            return protection.protected_lot(connection, position_id)

    def stray_trigger(self, provider: str, market: str, side: Side | None) -> str | None:
        """Return a closed lot that has a trigger which has not ended."""
        with self._snapshot() as connection:
            return protection.stray_trigger(connection, provider, market, side)

    def open_triggers(self, position_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the ids of the triggers of these lots that have not ended."""
        with self._snapshot() as connection:
            return protection.open_triggers(connection, position_ids)

    async def healthy(self) -> bool:
        """Write, commit and say whether that worked."""
        at = time_text(self._clock.now())
        try:
            await self._writer.run(
                lambda connection: connection.execute("INSERT OR REPLACE INTO meta VALUES ('checked_at', ?)", (at,))
            )
        except LedgerError as error:
            logger.warning("ledger_unhealthy", extra={"reason": str(error)})
            return False
        return True

    async def aclose(self) -> None:
        """Finish what is queued and close; calling again does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._writer.aclose()
        if self._owns_reader:
            self._reader.close()
        if self._guard is not None:
            self._guard.close()

    @contextmanager
    def _snapshot(self) -> Generator[sqlite3.Connection]:
        """Give a connection on which all reads see the same moment."""
        if self._closed:
            raise LedgerError("the ledger is closed")
        try:
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger could not be read: {error}") from error


def _connect(target: str, busy_timeout_ms: int) -> sqlite3.Connection:
    connection = sqlite3.connect(target, isolation_level=None, check_same_thread=False, timeout=busy_timeout_ms / 1000)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _open_file(file: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    """Return the writing connection with tables up to date."""
    try:
        # Signed transactions lie in it: for its owner only. SQLite gives its side files the same mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _connect(str(file), busy_timeout_ms)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"the ledger {file.name} cannot be opened: {error}") from error
    try:
        # A file system that cannot hold a write-ahead log keeps another mode: slower, and as safe.
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns. NORMAL may lose the last ones with the power: not for fills.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}")
        migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        raise LedgerError(f"the ledger {file.name} cannot be opened: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection
