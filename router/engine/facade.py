"""What the API, or any other front, may ask of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from providers.base.types import Side
from router.engine.blocked import Block
from router.engine.protection_terms import Protection
from router.engine.reports import Reconciliation
from router.engine.requests import (
    CloseRequest,
    MarketListing,
    OpenRequest,
    Placed,
    PositionAnswer,
    ProtectRequest,
    ProviderListing,
    QuoteAnswer,
    QuoteRequest,
)
from router.engine.safeguards import Safeguards
from router.ledger.records import FindingKind, FindingRecord, FindingStatus, OrderStatus, OrderView, PositionStatus

__all__ = ["EngineFacade"]


class EngineFacade(Protocol):
    """The engine as its callers see it. Every refusal is a leaf of `router.engine.requests.Refusal`.

    Orders run in tasks of the engine's own: a caller who stops waiting, or whose task is cancelled, cancels nothing.
    """

    async def quote(self, request: QuoteRequest) -> QuoteAnswer:
        """Return the price that the chain would use now, and what every provider of it said."""
        ...

    async def open(self, request: OpenRequest) -> Placed:
        """Record an order to open and start it; return once it is durable, without waiting for its end."""
        ...

    async def close(self, request: CloseRequest) -> Placed:
        """Record an order to close and start it; return once it is durable, without waiting for its end."""
        ...

    async def cancel(self, order_id: str) -> OrderView:
        """End the order's chain by proof; the order stays open until nothing of it can fill. Raise `OrderUnknown`."""
        ...

    async def wait(self, order_id: str, seconds: float) -> OrderView:
        """Return the order when it is final, or as it is when `seconds` have passed. Raise `OrderUnknown`."""
        ...

    def order(self, order_id: str) -> OrderView:
        """Return one order; raise `OrderUnknown`."""
        ...

    def orders(
        self,
        *,
        limit: int,
        cursor: str | None,
        provider: str | None,
        market: str | None,
        status: OrderStatus | None,
    ) -> tuple[tuple[OrderView, ...], str | None]:
        """Return a page of orders, newest first, and the cursor of the next page."""
        ...

    async def position(self, position_id: str) -> PositionAnswer:
        """Return one lot with what the market says of it; raise `PositionUnknown`."""
        ...

    async def positions(
        self,
        *,
        limit: int,
        cursor: str | None,
        provider: str | None,
        market: str | None,
        status: PositionStatus | None,
    ) -> tuple[tuple[PositionAnswer, ...], str | None]:
        """Return a page of lots, oldest first, and the cursor of the next page."""
        ...

    async def protect(self, request: ProtectRequest) -> PositionAnswer:
        """Set, change or take away a position's stop loss and take profit; the same again changes nothing.

        Raises:
            PositionUnknown, PositionEnded, ProtectionRefused, InvalidRequest.
        """
        ...

    async def wait_protected(self, order_id: str, seconds: float) -> None:
        """Wait until the protection that an open asked for is there or has failed, at most `seconds`."""
        ...

    def protection(self, view: OrderView) -> Protection | None:
        """Return how far the protection is that an open asked for; null where it asked for none or has no lot yet."""
        ...

    async def markets(self) -> tuple[MarketListing, ...]:
        """Return what can be traded, and where."""
        ...

    async def providers(self) -> tuple[ProviderListing, ...]:
        """Return the chain: lifecycle, capacity, and the error where a venue cannot be read."""
        ...

    async def reconcile(self) -> None:
        """Hold every venue against the books now."""
        ...

    def reconciliation(
        self,
        *,
        limit: int,
        cursor: str | None,
        kind: FindingKind | None,
        provider: str | None,
        status: FindingStatus | None,
    ) -> Reconciliation:
        """Return the last comparison and a page of findings, newest first."""
        ...

    async def acknowledge(self, finding_id: str, reason: str, caller: str) -> FindingRecord:
        """Note why a finding may stand; raise `FindingNotFound`."""
        ...

    async def adopt(self, provider: str, market: str, side: Side | None, caller: str) -> PositionAnswer:
        """Make a position of what the account holds beside ours.

        Raises:
            NothingForeignHeld, EntryPriceUnknown, SideNeeded: a leaf of `Refusal`.
        """
        ...

    @property
    def safeguards(self) -> Safeguards:
        """Halts and limits."""
        ...

    def holds(self) -> Mapping[str, str]:
        """Return the reasons for which opens are refused now, halts by a person left out."""
        ...

    def readiness(self) -> Mapping[str, str]:
        """Return each failing part with its reason; nothing when the service is ready."""
        ...

    def blocked(self, view: OrderView) -> Block | None:
        """Return what keeps an open close from its venue; null when nothing does."""
        ...

    def explorer_url(self, signature: str) -> str:
        """Return the address of a page that shows the transaction."""
        ...
