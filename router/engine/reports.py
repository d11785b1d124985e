"""What reconciliation answers: each provider held against the books, as of the last run."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from providers.base.types import HoldingKey, Side
from router.ledger.records import FindingRecord

__all__ = ["MarketReport", "MarketStatus", "ProviderReport", "Reconciliation", "ReportStatus"]


class ReportStatus(StrEnum):
    """`skipped`: the provider cannot be read this way, or has not been yet. `error`: `detail` says why."""

    OK = "ok"
    DIFFERS = "differs"
    SKIPPED = "skipped"
    ERROR = "error"


class MarketStatus(StrEnum):
    """`busy`: an attempt may still change it, so it is left for the next run."""

    OK = "ok"
    DIFFERS = "differs"
    BUSY = "busy"


class MarketReport(msgspec.Struct, frozen=True, kw_only=True):
    """One holding of a venue; sizes in base units, negative for a short. Lots and foreign part should make the venue's.

    Attributes:
        side: of the holding where the venue does not net; null where it does.
    """

    market: str
    side: Side | None
    booked_size: Decimal
    foreign_size: Decimal
    venue_size: Decimal
    status: MarketStatus

    @property
    def holding(self) -> HoldingKey:
        """Return which one."""
        return HoldingKey(market=self.market, side=self.side)

    @property
    def difference(self) -> Decimal:
        """Return what the venue holds beyond what the books explain."""
        return self.venue_size - self.booked_size - self.foreign_size


class ProviderReport(msgspec.Struct, frozen=True, kw_only=True):
    """One provider, or the `wallet`; `slot` is the one that its holdings were read at."""

    provider: str
    status: ReportStatus
    detail: str
    slot: int | None
    as_of: datetime
    markets: tuple[MarketReport, ...] = ()


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The last run of every provider, and a page of findings."""

    providers: tuple[ProviderReport, ...]
    findings: tuple[FindingRecord, ...]
    next_cursor: str | None
