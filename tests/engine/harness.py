"""An engine on a real ledger, virtual time and scripted venues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from providers.base.clock import VirtualClock
from providers.base.errors import ProviderError
from providers.base.prices import PriceSource
from providers.base.protocol import SignerHistory
from providers.base.types import OrderKind, Side
from router.engine.context import EngineContext, EngineSettings
from router.engine.engine import Engine
from router.engine.observer import SilentObserver
from router.engine.plan import Patience
from router.engine.requests import CloseRequest, OpenRequest
from router.ledger.records import OrderStatus, OrderView, PositionRecord
from router.ledger.sqlite import SqliteLedger
from router.localnet.virtual_time import run_virtual
from tests.engine.scripted import Play, ScriptedChain, ScriptedProvider


class Alerts(SilentObserver):
    """Keeps what an operator would have been told."""

    def __init__(self) -> None:
        self.alerts: list[str] = []
        self.fences: list[str] = []
        self.scopes: AbstractSet[str] = frozenset()

    def alert(self, kind: str) -> None:
        """Keep it."""
        self.alerts.append(kind)

    def fenced(self, result: str) -> None:
        """Keep it."""
        self.fences.append(result)

    def halted(self, scopes: AbstractSet[str]) -> None:
        """Keep it."""
        self.scopes = scopes


SETTINGS = EngineSettings(
    chain=("alpha", "beta", "gamma"),
    patience=Patience(
        unproven=timedelta(seconds=4),
        resting=timedelta(seconds=10),
        fence=timedelta(seconds=3),
        cancel=timedelta(seconds=3),
    ),
    reclaim_interval_s=30.0,
)


class Desk:
    """One caller's view of an engine, with the venues behind it in reach."""

    def __init__(
        self,
        chain: ScriptedChain,
        providers: dict[str, ScriptedProvider],
        path: str | Path,
        settings: EngineSettings = SETTINGS,
        prices: PriceSource | None = None,
    ) -> None:
        self.chain = chain
        self.providers = providers
        self.clock = chain.clock
        self._path = path
        self._settings = settings
        self._prices = prices
        self.told = Alerts()
        self.ledger = SqliteLedger.open(path, self.clock, writer="inline")
        self.wallet: SignerHistory | None = None
        self.known_elsewhere: Callable[[str], bool] | None = None
        self.engine = self._engine()
        self._keys = 0
        chain.is_journaled = self._is_journaled

    def _is_journaled(self, handle: str) -> bool:
        views, _ = self.ledger.orders(limit=100)
        attempts = {a.submission.handle for view in views for a in view.attempts if a.submission is not None}
        secondaries = {s.submission.handle for view in views for s in view.secondaries}
        return handle in attempts | secondaries or handle.startswith("reclaim")

    def _engine(self) -> Engine:
        context = EngineContext(
            ledger=self.ledger,
            providers=self.providers,
            lock=self.chain,
            clock=self.clock,
            settings=self._settings,
            observer=self.told,
            prices=self._prices,
        )
        return Engine(context, wallet=self.wallet, known_elsewhere=self.known_elsewhere)

    async def crash(self) -> None:
        """Stop as a kill would, and start anew on the same ledger file."""
        await self.engine.aclose()
        await self.ledger.aclose()
        self.ledger = SqliteLedger.open(self._path, self.clock, writer="inline")
        self.engine = self._engine()
        await self.engine.start()

    async def place(self, *, size: str = "2", side: Side = Side.LONG, ttl_s: int = 60, provider: str = "auto") -> str:
        """Open without waiting and return the order id."""
        self._keys += 1
        request = OpenRequest(
            caller="local",
            key=f"key-{self._keys}",
            client_order_id=None,
            fingerprint=f"body-{self._keys}",
            market="SOL-PERP",
            side=side,
            size=Decimal(size),
            ttl_s=ttl_s,
            provider=provider,
        )
        return (await self.engine.open(request)).view.order.order_id

    async def open(
        self, *, size: str = "2", side: Side = Side.LONG, ttl_s: int = 60, provider: str = "auto"
    ) -> OrderView:
        """Open and wait for the end."""
        return await self.end_of(await self.place(size=size, side=side, ttl_s=ttl_s, provider=provider))

    async def close(self, position_id: str, *, size: str | None = None, wait: bool = True) -> OrderView:
        """Close and wait for the end."""
        self._keys += 1
        request = CloseRequest(
            caller="local",
            key=f"key-{self._keys}",
            client_order_id=None,
            fingerprint=f"body-{self._keys}",
            position_id=position_id,
            size=None if size is None else Decimal(size),
        )
        placed = await self.engine.close(request)
        return await self.end_of(placed.view.order.order_id) if wait else placed.view

    async def end_of(self, order_id: str, within_s: float = 600.0) -> OrderView:
        """Wait for an order's end; one that does not come is a failure."""
        view = await self.engine.wait(order_id, within_s)
        assert view.order.status.final, f"order did not end within {within_s} s: {view.order.status}"
        return view

    def exposure(self, market: str = "SOL-PERP") -> Decimal:
        """Return what the ledger believes to hold over all venues."""
        lots, _ = self.ledger.positions(limit=100, market=market)
        return sum((lot.size for lot in lots), Decimal(0))

    def venue_exposure(self) -> Decimal:
        """Return what really executed over all venues."""
        return sum((provider.exposure() for provider in self.providers.values()), Decimal(0))

    def lots(self) -> tuple[PositionRecord, ...]:
        """Return all lots."""
        return self.ledger.positions(limit=100)[0]

    def check(self, view: OrderView) -> None:
        """Hold an ended order against the promise."""
        providers = {fill.provider for fill in view.fills}
        assert len(providers) <= 1, "an order filled on two providers"
        filled = view.order.status in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}
        assert bool(view.fills) == filled
        if view.order.kind is OrderKind.OPEN:
            assert view.order.filled_by == (providers.pop() if providers else None)
        assert self.exposure() == self.venue_exposure(), "the ledger and the venues disagree"
        assert self.chain.unjournaled == [], "bytes were sent before they were on record"


def trade(
    story: Callable[[Desk], Awaitable[None]],
    *,
    alpha: tuple[Play | ProviderError, ...] = (),
    beta: tuple[Play | ProviderError, ...] = (),
    gamma: tuple[Play | ProviderError, ...] = (),
    path: str | Path = ":memory:",
    order_lock: bool = True,
    settings: EngineSettings = SETTINGS,
    prices: PriceSource | None = None,
) -> None:
    """Run a story on virtual time with three scripted venues."""

    async def main() -> None:
        chain = ScriptedChain(VirtualClock(seed=1))
        plays = {"alpha": alpha, "beta": beta, "gamma": gamma}
        providers = {
            name: ScriptedProvider(name, chain, *script, order_lock=order_lock) for name, script in plays.items()
        }
        desk = Desk(chain, providers, path, settings, prices)
        await desk.engine.start()
        try:
            await asyncio.wait_for(_finish(story(desk)), timeout=36_000)
        finally:
            await desk.engine.aclose()
            await desk.ledger.aclose()

    run_virtual(main())


async def _finish(story: Awaitable[None]) -> None:
    await story
