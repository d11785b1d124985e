"""What the engine and the nodes' clients report, turned into metrics."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal

from providers.base.errors import ErrorClass
from providers.base.types import OrderKind
from router.ledger.records import AttemptState, OrderStatus
from router.ops.metrics import Metrics

__all__ = ["EngineMetrics", "RpcMetrics"]


class EngineMetrics:
    """Counts for `router.engine.observer.EngineObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def order_ended(self, kind: OrderKind, status: OrderStatus) -> None:
        """Count an order that reached a final status."""
        self._metrics.orders.labels(kind.value, status.value).inc()

    def attempt_ended(self, provider: str, state: AttemptState, error_class: ErrorClass | None) -> None:
        """Count an attempt that reached a final state, or was refused."""
        self._metrics.attempts.labels(provider, state.value, _class(error_class)).inc()

    def failed_over(self, from_provider: str, to_provider: str, error_class: ErrorClass | None) -> None:
        """Count a step to the next provider."""
        self._metrics.failovers.labels(from_provider, to_provider, _class(error_class)).inc()

    def fenced(self, result: str) -> None:
        """Count a fence."""
        self._metrics.fences.labels(result).inc()

    def alert(self, kind: str) -> None:
        """Count something that an operator should look at."""
        self._metrics.alerts.labels(kind).inc()

    def locks_unreclaimed(self, count: int) -> None:
        """Set how many locks are on loan."""
        self._metrics.locks_unreclaimed.set(count)

    def stage(self, stage: str, provider: str, seconds: float) -> None:
        """Measure a stage of an order."""
        self._metrics.stage_seconds.labels(stage, provider).observe(seconds)

    def slippage(self, provider: str, slippage_bps: Decimal) -> None:
        """Measure a fill's distance from the expected price."""
        self._metrics.fill_slippage_bps.labels(provider).observe(float(slippage_bps))  # a statistic, not money

    def reconciled(self, provider: str, status: str) -> None:
        """Count a run of reconciliation."""
        self._metrics.reconciliation_runs.labels(provider, status).inc()

    def findings_open(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many findings are open."""
        self._metrics.reconciliation_findings.clear()
        for (kind, provider), count in counts.items():
            self._metrics.reconciliation_findings.labels(kind, provider).set(count)

    def protection_legs(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many legs of protection there are."""
        self._metrics.protection_legs.clear()
        for (provider, state), count in counts.items():
            self._metrics.protection_legs.labels(provider, state).set(count)

    def halted(self, scopes: AbstractSet[str]) -> None:
        """Set where opens are switched off."""
        self._metrics.halted.clear()
        for scope in scopes:
            self._metrics.halted.labels(scope).set(1)


class RpcMetrics:
    """Counts for `providers.solana.rpc.RpcObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_call(self, node: str, method: str, outcome: str, seconds: float) -> None:
        """Count one call of a node."""
        self._metrics.rpc_requests.labels(node, method, outcome).inc()
        self._metrics.rpc_seconds.labels(node, method).observe(seconds)


def _class(error_class: ErrorClass | None) -> str:
    return "" if error_class is None else error_class.value
