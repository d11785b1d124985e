"""Prometheus metrics of one service. Labels come from small closed sets: never an id, an address or a wallet."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["Metrics"]

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STAGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_BPS: Final = (-50.0, -20.0, -10.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0)


class Metrics:
    """Every metric, on a registry of its own: two services in one process do not mix.

    Attributes:
        http_requests: answers by route template, method and status.
        http_seconds: from the first byte of a request to the last of its answer, waiting for the order included.
        orders: orders that became final (`status`), by kind.
        attempts: attempts that ended (`outcome`), by provider and class of error (empty when none).
        failovers: the chain went on to another provider, and why.
        open_orders, unknown_orders: now; `unknown_oldest_seconds`: age of the oldest unknown one.
        stage_seconds: quote, prepare, journal, submit, settle..., by provider (empty where there is none).
        rpc_requests, rpc_seconds: calls of nodes, by the node's host, method and outcome.
        fill_slippage_bps: fill price against the expected price, positive when worse.
        alerts: something that an operator should look at, by kind.
        fences: fences that ended, by result.
        locks_unreclaimed: order locks whose lamports are still on loan.
        protection_legs: stops and take profits that have not ended, by provider and state.
        halted: 1 where an operator has switched opens off: `router`, or a provider; nothing where they are on.
        reconciliation_findings: open findings, by kind and provider (or `wallet`).
        reconciliation_runs: comparisons of one provider with the books, by what came of them.
    """

    def __init__(self, *, version: str, network: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.http_requests = Counter(
            "router_http_requests_total", "Answered HTTP requests.", ("route", "method", "status"), registry=registry
        )
        self.http_seconds = Histogram(
            "router_http_request_seconds",
            "Duration of HTTP requests, the wait for an order included.",
            ("route",),
            buckets=_FAST,
            registry=registry,
        )
        self.orders = Counter("router_orders_total", "Orders that ended.", ("kind", "status"), registry=registry)
        self.attempts = Counter(
            "router_attempts_total",
            "Attempts that ended.",
            ("provider", "outcome", "error_class"),
            registry=registry,
        )
        self.failovers = Counter(
            "router_failovers_total",
            "The chain went on to the next provider.",
            ("from_provider", "to_provider", "error_class"),
            registry=registry,
        )
        self.open_orders = Gauge("router_open_orders", "Orders that are not final.", registry=registry)
        self.unknown_orders = Gauge("router_unknown_orders", "Orders with an unclear attempt.", registry=registry)
        self.unknown_oldest_seconds = Gauge(
            "router_unknown_oldest_seconds", "Age of the oldest order with an unclear attempt.", registry=registry
        )
        self.stage_seconds = Histogram(
            "router_stage_seconds",
            "Duration of one stage of an order.",
            ("stage", "provider"),
            buckets=_STAGES,
            registry=registry,
        )
        self.rpc_requests = Counter(
            "router_rpc_requests_total", "Calls of nodes.", ("node", "method", "outcome"), registry=registry
        )
        self.rpc_seconds = Histogram(
            "router_rpc_seconds", "Duration of calls of nodes.", ("node", "method"), buckets=_FAST, registry=registry
        )
        self.fill_slippage_bps = Histogram(
            "router_fill_slippage_bps",
            "Fill price against the expected price, positive when worse.",
            ("provider",),
            buckets=_BPS,
            registry=registry,
        )
        self.alerts = Counter(
            "router_alerts_total", "Things that an operator should look at.", ("kind",), registry=registry
        )
        self.fences = Counter("router_fences_total", "Fences that ended.", ("result",), registry=registry)
        self.locks_unreclaimed = Gauge(
            "router_locks_unreclaimed", "Order locks whose lamports are on loan.", registry=registry
        )
        self.protection_legs = Gauge(
            "router_protection_legs",
            "Stops and take profits that have not ended.",
            ("provider", "state"),
            registry=registry,
        )
        self.halted = Gauge(
            "router_halted", "Opens are switched off here by an operator.", ("scope",), registry=registry
        )
        self.reconciliation_findings = Gauge(
            "router_reconciliation_findings", "Findings that are open.", ("kind", "provider"), registry=registry
        )
        self.reconciliation_runs = Counter(
            "router_reconciliation_runs_total",
            "Comparisons of a provider with the books.",
            ("provider", "status"),
            registry=registry,
        )
        build = Gauge("router_build_info", "The running build.", ("version", "network"), registry=registry)
        build.labels(version, network).set(1)

    @property
    def content_type(self) -> str:
        """The media type of `render`."""
        return CONTENT_TYPE_LATEST

    def render(self) -> bytes:
        """Return every metric in Prometheus' text format."""
        return generate_latest(self.registry)
