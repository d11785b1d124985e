"""What every part of the engine stands on: ledger, providers, lock, clock, settings."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

import msgspec

from providers.base.clock import Clock
from providers.base.prices import PriceSource
from providers.base.protocol import OrderLock, Provider
from providers.base.types import Capabilities
from router.engine.limits import Limits
from router.engine.observer import EngineObserver, SilentObserver
from router.engine.plan import Patience
from router.engine.safeguards import Safeguards
from router.ledger.protocol import Ledger

__all__ = ["EngineContext", "EngineSettings"]

log = logging.getLogger(__name__)


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine paces itself, and its own limits. Durations in seconds.

    Attributes:
        chain: providers in the order in which `auto` asks them.
        max_order_usd: larger opens are refused; null for no limit of ours.
        limits: further limits on opens.
        ttl_s_max: longest life that a caller may give an order.
        settle_interval_s: between two looks at an unclear attempt.
        rebroadcast_s: between two sendings of the same bytes.
        watch_interval_s: between two looks at outcomes that are not finalized yet.
        dead_watch: how long dead attempts stay watched; `dead_watch_interval_s` between two looks.
        reclaim_interval_s: between two rounds of lock reclaim.
        quote_ttl_s: how long a quote is said to hold.
        catalog_ttl_s: how long market lists are kept.
        quote_timeout_s: for one provider's quote.
        unknown_alert_s: an order unclear for longer raises an alert.
        reconcile_interval_s: between two comparisons of the books with the venues.
        protection_interval_s: between two looks at the prices that legs of protection wait for.
        protection_slippage_bps: of the closes that they make, and of triggers from their price.
        trigger_settle_s: between two looks at a trigger that rests on a venue.
    """

    chain: tuple[str, ...]
    patience: Patience = Patience(
        unproven=timedelta(seconds=8),
        resting=timedelta(seconds=15),
        fence=timedelta(seconds=4),
        cancel=timedelta(seconds=4),
    )
    max_order_usd: Decimal | None = None
    limits: Limits = Limits()
    ttl_s_max: int = 3600
    settle_interval_s: float = 0.2
    rebroadcast_s: float = 1.5
    watch_interval_s: float = 5.0
    dead_watch: timedelta = timedelta(days=1)
    dead_watch_interval_s: float = 900.0
    reclaim_interval_s: float = 60.0
    catalog_ttl_s: float = 5.0
    quote_timeout_s: float = 5.0
    unknown_alert_s: float = 120.0
    reconcile_interval_s: float = 30.0
    protection_interval_s: float = 2.0
    protection_slippage_bps: int = 500
    trigger_settle_s: float = 5.0


class EngineContext:
    """The engine's surroundings, shared by its parts; it decides nothing."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        providers: Mapping[str, Provider],
        lock: OrderLock | None,
        clock: Clock,
        settings: EngineSettings,
        observer: EngineObserver | None = None,
        prices: PriceSource | None = None,
    ) -> None:
        self.ledger = ledger
        self.providers = providers
        self.lock = lock
        self.clock = clock
        self.settings = settings
        self.observer: EngineObserver = observer or SilentObserver()
        self.capabilities: Mapping[str, Capabilities] = {name: p.capabilities for name, p in providers.items()}
        # Reasons for which no open may start, by kind. Nothing here ever holds a close, a cancel or a fence.
        self.holds: dict[str, str] = {}
        self.safeguards = Safeguards(
            ledger=ledger,
            clock=clock,
            observer=self.observer,
            providers=tuple(providers),
            limits=settings.limits,
            prices=prices,
            quote_timeout_s=settings.quote_timeout_s,
        )
        self._market_locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def market_lock(self, provider: str, market: str) -> asyncio.Lock:
        """Return the lock under which holdings are checked and an attempt is journaled: two cannot both pass."""
        return self._market_locks[provider, market]

    def hold_opens(self, kind: str, reason: str) -> None:
        """Let no open start until `release_opens(kind)`, and raise an alert the first time."""
        if kind not in self.holds:
            log.error("opens_held", extra={"reason": kind, "detail": reason})
            self.observer.alert(kind)
        self.holds[kind] = reason

    def release_opens(self, kind: str) -> None:
        """Lift one hold."""
        if self.holds.pop(kind, None) is not None:
            log.info("opens_released", extra={"reason": kind})
