"""What the engine tells whoever counts: metrics in the service, nothing in most tests."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Protocol

from providers.base.errors import ErrorClass
from providers.base.types import OrderKind
from router.ledger.records import AttemptState, OrderStatus

__all__ = ["EngineObserver", "SilentObserver"]


class EngineObserver(Protocol):
    """Called on the event loop; must not block or raise."""

    def order_ended(self, kind: OrderKind, status: OrderStatus) -> None:
        """Count an order that reached a final status."""
        ...

    def attempt_ended(self, provider: str, state: AttemptState, error_class: ErrorClass | None) -> None:
        """Count an attempt that reached a final state, or was refused."""
        ...

    def failed_over(self, from_provider: str, to_provider: str, error_class: ErrorClass | None) -> None:
        """Count a step to the next provider; the class is null for a sibling (the first is not dead yet)."""
        ...

    def fenced(self, result: str) -> None:
        """Count a fence: `sent`, or ended as `held` (by it) or `lost` (somebody else holds the generation)."""
        ...

    def alert(self, kind: str) -> None:
        """Count something that an operator should look at."""
        ...

    def locks_unreclaimed(self, count: int) -> None:
        """Set how many ended orders have a lock whose lamports are still on loan."""
        ...

    def stage(self, stage: str, provider: str, seconds: float) -> None:
        """Measure a `quote`, `prepare`, `journal`, `submit` or `settle`."""
        ...

    def slippage(self, provider: str, slippage_bps: Decimal) -> None:
        """Measure a fill's distance from the order's expected price; positive is against the caller."""
        ...

    def reconciled(self, provider: str, status: str) -> None:
        """Count a run of reconciliation over one provider (or the wallet)."""
        ...

    def findings_open(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many findings are open, by kind and provider; those not named are none."""
        ...

    def halted(self, scopes: AbstractSet[str]) -> None:
        """Set where opens are switched off: `router`, or providers; everything else is on."""
        ...

    def protection_legs(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many legs of protection there are, by provider and state; those not named are none."""
        ...


class SilentObserver:
    """Counts nothing."""

    def order_ended(self, kind: OrderKind, status: OrderStatus) -> None:
        """Do nothing."""

    def attempt_ended(self, provider: str, state: AttemptState, error_class: ErrorClass | None) -> None:
        """Do nothing."""

    def failed_over(self, from_provider: str, to_provider: str, error_class: ErrorClass | None) -> None:
        """Do nothing."""

    def fenced(self, result: str) -> None:
        """Do nothing."""

    def alert(self, kind: str) -> None:
        """Do nothing."""

    def locks_unreclaimed(self, count: int) -> None:
        """Do nothing."""

    def stage(self, stage: str, provider: str, seconds: float) -> None:
        """Do nothing."""

    def slippage(self, provider: str, slippage_bps: Decimal) -> None:
        """Do nothing."""

    def reconciled(self, provider: str, status: str) -> None:
        """Do nothing."""

    def findings_open(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Do nothing."""

    def halted(self, scopes: AbstractSet[str]) -> None:
        """Do nothing."""

    def protection_legs(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Do nothing."""
