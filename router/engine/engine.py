"""The engine: takes requests, runs one runner per open order, and recovers them all after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial

from providers.base.clock import new_id
from providers.base.errors import ErrorClass, ProviderError, TimedOut
from providers.base.protocol import SignerHistory
from providers.base.types import LockTerms, OrderKind, Quote, QuoteTerms, Side
from router.engine.admission import Admission, lots_to_close, reservations_for
from router.engine.blocked import Block, blocked_now
from router.engine.catalog import Catalog
from router.engine.context import EngineContext
from router.engine.oversight import Oversight
from router.engine.plan import unresolved, waits_for_price
from router.engine.pricing import worst_price_of
from router.engine.protecting import Protecting
from router.engine.protection_keeper import ProtectionKeeper
from router.engine.protection_terms import Protection
from router.engine.reading import marked, provider_listing
from router.engine.reconcile import Reconciler
from router.engine.reports import Reconciliation
from router.engine.requests import (
    Candidate,
    CloseRequest,
    CursorInvalid,
    KeyMismatch,
    MarketListing,
    NothingToClose,
    OpenRequest,
    OpensHeld,
    OrderUnknown,
    Placed,
    PositionAnswer,
    PositionUnknown,
    ProtectRequest,
    ProviderListing,
    ProviderUnknown,
    QuoteAnswer,
    QuoteFailed,
    QuoteRequest,
)
from router.engine.runner import OrderRunner
from router.engine.safeguards import Safeguards
from router.engine.settlement import order_view
from router.engine.watch import Watch
from router.ledger.protocol import BadCursor, Claim, KeyReused, LimitReached, OverReserved
from router.ledger.records import (
    FindingKind,
    FindingRecord,
    FindingStatus,
    NewOrder,
    OrderStatus,
    OrderView,
    PositionRecord,
    PositionStatus,
    Reservation,
)

__all__ = ["Engine"]

log = logging.getLogger(__name__)

# Settling goes on behind the open port; what is unclear holds back only its own order.
RECOVERY_S = 10.0
# A close that others overtake looks again at what they left; more often than this they hold it all.
CLOSE_TRIES = 8
# Between two looks at an order that nobody drives at the moment.
IDLE_LOOK_S = 0.5


class Engine:
    """See `router.engine.facade.EngineFacade`. Orders run in tasks of the engine's own.

    Args:
        explorer: template of a transaction's page, with `{signature}`.
        wallet: what our key has signed; null where nobody can tell.
        known_elsewhere: whether a signature is on record in another ledger of this service.
    """

    def __init__(
        self,
        context: EngineContext,
        *,
        explorer: str = "{signature}",
        wallet: SignerHistory | None = None,
        known_elsewhere: Callable[[str], bool] | None = None,
    ) -> None:
        self._context = context
        self._ledger = context.ledger
        self._clock = context.clock
        self._explorer = explorer
        self._catalog = Catalog(context)
        self._admission = Admission(context, self._catalog)
        self._watch = Watch(context, self._start_runner)
        reconciler = Reconciler(context, wallet=wallet, known_elsewhere=known_elsewhere, reopen=self._start_runner)
        self._oversight = Oversight(context, self._catalog, reconciler)
        self._keeper = ProtectionKeeper(
            context,
            place=self._place,
            new_lock=lambda provider: self._new_lock(OrderKind.CLOSE, (provider,)),
            nudge=self._nudge,
        )
        self._protecting = Protecting(context, self._catalog, self._keeper)
        self._runners: dict[str, tuple[OrderRunner, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovered = False
        self._draining = False
        self._closing = False

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load every open order, ask once what became of its attempts, then let all of them go on (DESIGN 5)."""
        # What held opens before a restart holds them after it.
        self._oversight.restore_holds()
        self._context.safeguards.restore()
        runners: list[OrderRunner] = []
        for view in self._ledger.open_orders():
            journaled = [attempt.attempt_id for attempt in unresolved(view)]
            runners.append(OrderRunner(self._context, view.order.order_id, recovered=journaled))
        # What rests until a price is reached may rest for weeks: nothing waits for it.
        await self._ask_once([runner for runner in runners if not waits_for_price(runner.view())])
        for runner in runners:
            self._run(runner)
        self._keep(await self._oversight.start())
        self._recovered = True
        self._keep(asyncio.create_task(self._watch.run(), name="watch"))
        self._keep(asyncio.create_task(self._keeper.run(), name="protection"))
        log.info("engine_ready", extra={"recovered_orders": len(runners)})

    async def _ask_once(self, runners: list[OrderRunner]) -> None:
        """Ask once about every unclear attempt, all at once; nodes that do not answer must not hold up closes."""
        if not runners:
            return
        asking = [asyncio.create_task(runner.settle_once()) for runner in runners]
        timer = asyncio.create_task(self._clock.sleep(RECOVERY_S))
        everything = asyncio.create_task(asyncio.wait(asking))
        await asyncio.wait({timer, everything}, return_when=asyncio.FIRST_COMPLETED)
        for task in (timer, everything, *asking):
            task.cancel()
        for error in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("recovery_failed", exc_info=error)

    async def drain(self, seconds: float) -> None:
        """Refuse new opens and wait for open orders, at most `seconds`; what remains is in the ledger."""
        self._draining = True
        tasks = [task for runner, task in self._runners.values() if not waits_for_price(runner.view())]
        if tasks:
            timer = asyncio.create_task(self._clock.sleep(seconds))
            ended = asyncio.create_task(asyncio.wait(tasks))
            await asyncio.wait({timer, ended}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            ended.cancel()
        log.info("engine_drained", extra={"open_orders": len(self._runners)})

    async def aclose(self) -> None:
        """Stop every task. As safe as a crash: whatever was sent is journaled."""
        self._closing = True
        tasks = [*self._tasks, *(task for _, task in self._runners.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- requests ------------------------------------------------------------------------------------------------

    async def quote(self, request: QuoteRequest) -> QuoteAnswer:
        """Ask every provider of the chain at once; `auto` would use the first of the chain that quotes."""
        chain = self._admission.chain(request.provider)
        await self._admission.check_quote(request, chain)
        terms = QuoteTerms(
            market=request.market,
            side=request.side,
            size=request.size,
            size_usd=request.size_usd,
            leverage=request.leverage,
        )
        candidates = tuple(await asyncio.gather(*(self._candidate(name, terms) for name in chain)))
        quote = next((candidate.quote for candidate in candidates if candidate.quote is not None), None)
        if quote is None:
            raise QuoteFailed("no provider of the chain gave a quote", candidates=candidates)
        worst_price = worst_price_of(
            OrderKind.OPEN, request.side, quote.expected_price, request.slippage_bps, request.worst_price
        )
        return QuoteAnswer(quote=quote, worst_price=worst_price, candidates=candidates)

    async def open(self, request: OpenRequest) -> Placed:
        """Make the order durable with its key, then start it. The same key and body give the same order."""
        replayed = self._replay(request)
        if replayed is not None:
            return replayed
        chain = self._admission.chain(request.provider)
        size_usd = await self._admission.check_open(request, chain)
        self._protecting.check_open(request, chain)
        if self._draining:
            raise OpensHeld("the service is stopping", reason="draining")
        if self._context.holds:
            kind, reason = next(iter(self._context.holds.items()))
            raise OpensHeld(reason, reason=kind)
        claim = await self._context.safeguards.admit(request, chain, size_usd)
        now = self._clock.now()
        order = NewOrder(
            order_id=new_id(self._clock, "ord"),
            caller=request.caller,
            key=request.key,
            client_order_id=request.client_order_id,
            fingerprint=request.fingerprint,
            kind=OrderKind.OPEN,
            market=request.market,
            side=request.side,
            provider=request.provider,
            size=request.size,
            size_usd=request.size_usd,
            leverage=request.leverage,
            slippage_bps=request.slippage_bps,
            worst_price=request.worst_price,
            request=request.request,
            created_at=now,
            deadline=now + timedelta(seconds=request.ttl_s),
            lock=await self._new_lock(OrderKind.OPEN, chain),
            chain=chain,
            protection=request.protection,
        )
        return await self._place(order, claim)

    async def close(self, request: CloseRequest) -> Placed:
        """Reserve what is to be closed and start the order. Nothing that holds opens holds a close."""
        replayed = self._replay(request)
        if replayed is not None:
            return replayed
        lock: LockTerms | None = None
        for attempt in range(CLOSE_TRIES):
            lots = lots_to_close(self._ledger, request)
            lot = lots[0]
            if lot.provider not in self._context.providers:
                raise ProviderUnknown(
                    f"{lot.provider} holds {lot.position_id} and is not configured: put it back in the chain",
                    provider=lot.provider,
                    providers=sorted(self._context.providers),
                )
            await self._catalog.refresh([lot.provider])
            market = self._catalog.market(lot.provider, lot.market)
            reservations = reservations_for(request, lots, market)
            if attempt == 0:
                lock = await self._new_lock(OrderKind.CLOSE, (lot.provider,))
            try:
                return await self._place(self._new_close(request, lot, reservations, lock))
            except OverReserved as e:
                # Another close was faster: look again at what it left.
                log.info("close_overtaken", extra={"position_id": e.position_id})
        raise NothingToClose("other closes hold all that is left of it")

    def _new_close(
        self,
        request: CloseRequest,
        lot: PositionRecord,
        reservations: tuple[Reservation, ...],
        lock: LockTerms | None,
    ) -> NewOrder:
        now = self._clock.now()
        return NewOrder(
            order_id=new_id(self._clock, "ord"),
            caller=request.caller,
            key=request.key,
            client_order_id=request.client_order_id,
            fingerprint=request.fingerprint,
            kind=OrderKind.CLOSE,
            market=lot.market,
            side=lot.side,
            provider=lot.provider,
            size=sum((reservation.size for reservation in reservations), Decimal(0)),
            size_usd=None,
            leverage=lot.leverage,
            slippage_bps=request.slippage_bps,
            worst_price=request.worst_price,
            request=request.request,
            created_at=now,
            deadline=now + timedelta(seconds=request.ttl_s),
            lock=lock,
            reservations=reservations,
            chain=(lot.provider,),
        )

    async def cancel(self, order_id: str) -> OrderView:
        """Note the wish and wake the order's runner; the order ends when nothing of it can fill any more."""
        view = self.order(order_id)
        if not view.order.status.final:
            await self._ledger.request_cancel(order_id, self._clock.now())
            self._nudge(order_id)
        return self.order(order_id)

    async def protect(self, request: ProtectRequest) -> PositionAnswer:
        """Set, change or take away a position's stop loss and take profit."""
        return await self._marked(await self._protecting.protect(request))

    async def wait_protected(self, order_id: str, seconds: float) -> None:
        """Wait until the protection that an open asked for is there or has failed."""
        await self._protecting.wait(order_id, seconds)

    def protection(self, view: OrderView) -> Protection | None:
        """Return how far the protection is that an open asked for."""
        return self._protecting.of_order(view)

    async def wait(self, order_id: str, seconds: float) -> OrderView:
        """Return the order once it is final, or as it is after `seconds`."""
        view = self.order(order_id)
        if view.order.status.final or seconds <= 0:
            return view
        timer = asyncio.create_task(self._clock.sleep(seconds))
        try:
            while not timer.done():
                running = self._runners.get(order_id)
                # The event is taken before the look: a step that ends in between is not missed. An order without a
                # runner is given one by the watch.
                change = self._clock.sleep(IDLE_LOOK_S) if running is None else running[0].next_change().wait()
                step = asyncio.ensure_future(change)
                if self.order(order_id).order.status.final:
                    step.cancel()
                    break
                await asyncio.wait({step, timer}, return_when=asyncio.FIRST_COMPLETED)
                step.cancel()
            view = self.order(order_id)
        finally:
            timer.cancel()
        return view

    # -- reconciliation ------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Hold every venue against the books now; `reconciliation` tells what came of it."""
        await self._oversight.reconcile()

    def reconciliation(
        self,
        *,
        limit: int,
        cursor: str | None,
        kind: FindingKind | None,
        provider: str | None,
        status: FindingStatus | None,
    ) -> Reconciliation:
        """Return the last comparison and a page of findings, newest first; raise `CursorInvalid`."""
        return self._oversight.reconciliation(limit=limit, cursor=cursor, kind=kind, provider=provider, status=status)

    async def acknowledge(self, finding_id: str, reason: str, caller: str) -> FindingRecord:
        """Note why a finding may stand, and let go the opens that it alone held; raise `FindingNotFound`."""
        return await self._oversight.acknowledge(finding_id, reason, caller)

    async def adopt(self, provider: str, market: str, side: Side | None, caller: str) -> PositionAnswer:
        """Make a position of what the account holds beside ours; after that it is closed like any other."""
        return await self._marked(await self._oversight.adopt(provider, market, side, caller))

    # -- reads ---------------------------------------------------------------------------------------------------

    def order(self, order_id: str) -> OrderView:
        """Return one order; raise `OrderUnknown`."""
        view = self._ledger.order(order_id)
        if view is None:
            raise OrderUnknown(f"there is no order {order_id}", order_id=order_id)
        return view

    def orders(
        self,
        *,
        limit: int,
        cursor: str | None,
        provider: str | None,
        market: str | None,
        status: OrderStatus | None,
    ) -> tuple[tuple[OrderView, ...], str | None]:
        """Return a page of orders, newest first; raise `CursorInvalid`."""
        try:
            return self._ledger.orders(limit=limit, cursor=cursor, provider=provider, market=market, status=status)
        except BadCursor as e:
            raise CursorInvalid("the cursor is none that this service gave") from e

    async def position(self, position_id: str) -> PositionAnswer:
        """Return one lot with what the market says of it; raise `PositionUnknown`."""
        position = self._ledger.position(position_id)
        if position is None:
            raise PositionUnknown(f"there is no position {position_id}", position_id=position_id)
        return await self._marked(position)

    async def positions(
        self,
        *,
        limit: int,
        cursor: str | None,
        provider: str | None,
        market: str | None,
        status: PositionStatus | None,
    ) -> tuple[tuple[PositionAnswer, ...], str | None]:
        """Return a page of lots, oldest first; raise `CursorInvalid`."""
        try:
            lots, next_cursor = self._ledger.positions(
                limit=limit, cursor=cursor, provider=provider, market=market, status=status
            )
        except BadCursor as e:
            raise CursorInvalid("the cursor is none that this service gave") from e
        return tuple([await self._marked(lot) for lot in lots]), next_cursor

    async def markets(self) -> tuple[MarketListing, ...]:
        """Return every market of the chain with what each provider says of it."""
        chain = [name for name in self._context.settings.chain if name in self._context.providers]
        await self._catalog.refresh(chain)
        by_symbol: dict[str, list[str]] = {}
        for name in chain:
            for market in self._catalog.markets(name):
                by_symbol.setdefault(market.symbol, []).append(name)
        listings: list[MarketListing] = []
        for symbol in sorted(by_symbol):
            found = [self._catalog.market(name, symbol) for name in by_symbol[symbol]]
            listings.append(MarketListing(symbol=symbol, providers=tuple(m for m in found if m is not None)))
        return tuple(listings)

    async def providers(self) -> tuple[ProviderListing, ...]:
        """Return the chain in order, each with its state or the error that kept it from being read."""
        chain = [name for name in self._context.settings.chain if name in self._context.providers]
        listings = await asyncio.gather(*(provider_listing(self._context, i, name) for i, name in enumerate(chain)))
        return tuple(self._context.safeguards.marked(listing) for listing in listings)

    def readiness(self) -> Mapping[str, str]:
        """Return each failing part with its reason."""
        failing: dict[str, str] = {}
        if not self._recovered:
            failing["recovery"] = "open orders are still being settled"
        if self._draining:
            failing["draining"] = "the service is stopping"
        if not self._watch.ledger_healthy:
            failing["ledger"] = "writes are not durable"
        return failing

    @property
    def safeguards(self) -> Safeguards:
        """Halts and limits."""
        return self._context.safeguards

    def holds(self) -> Mapping[str, str]:
        """Return the reasons for which opens are refused now."""
        return dict(self._context.holds)

    def unknown_ages_s(self) -> tuple[float, ...]:
        """Return how long each order that is unclear has been so, for gauges."""
        now = self._clock.now()
        views = [order_view(self._ledger, order_id) for order_id in self._runners]
        return tuple(
            (now - unresolved(view)[0].started_at).total_seconds()
            for view in views
            if view.order.status is OrderStatus.UNKNOWN and unresolved(view)
        )

    @property
    def open_order_count(self) -> int:
        """How many orders have not ended."""
        return sum(1 for runner, _ in self._runners.values() if not waits_for_price(runner.view()))

    def blocked(self, view: OrderView) -> Block | None:
        """Return what keeps an open close from its venue, and when it is tried again."""
        return blocked_now(view, self._context.settings.patience)

    def explorer_url(self, signature: str) -> str:
        """Return the address of a page that shows the transaction."""
        return self._explorer.format(signature=signature)

    # -- inside --------------------------------------------------------------------------------------------------

    def _replay(self, request: OpenRequest | CloseRequest) -> Placed | None:
        """Return the order that the same key made before; checked first, so that nothing can refuse a replay."""
        key = request.key or request.client_order_id
        existing = None if key is None else self._ledger.order_by_key(request.caller, key)
        if existing is None and request.client_order_id is not None:
            existing = self._ledger.order_by_client_order_id(request.caller, request.client_order_id)
            if existing is not None and key != request.client_order_id:
                raise KeyMismatch("the client order id is known under another key", order_id=existing.order_id)
        if existing is None:
            return None
        if existing.fingerprint != request.fingerprint:
            raise KeyMismatch("the key was used with another body", order_id=existing.order_id)
        return Placed(view=self.order(existing.order_id), replayed=True)

    async def _place(self, order: NewOrder, claim: Claim | None = None) -> Placed:
        try:
            created = await self._ledger.create_order(order, claim)
        except LimitReached as e:
            raise self._context.safeguards.exceeded(e) from e
        except KeyReused as e:
            raise KeyMismatch("the key was used with another body", order_id=e.order_id) from e
        if not created.replayed:
            self._start_runner(order.order_id)
            # Its lots' triggers were asked to end with the write that made it: it waits for that.
            for order_id in self._ledger.open_triggers([r.position_id for r in order.reservations]):
                self._nudge(order_id)
        return Placed(view=self.order(created.order.order_id), replayed=created.replayed)

    def _nudge(self, order_id: str) -> None:
        running = self._runners.get(order_id)
        if running is not None:
            running[0].nudge()

    def _start_runner(self, order_id: str) -> None:
        if order_id not in self._runners and not self._closing:
            self._run(OrderRunner(self._context, order_id))

    def _run(self, runner: OrderRunner) -> None:
        task = asyncio.create_task(runner.run(), name=runner.order_id)
        self._runners[runner.order_id] = (runner, task)
        if runner.view().order.protection:
            self._keeper.expect(runner.order_id)
        task.add_done_callback(partial(self._ended, runner.order_id))

    def _ended(self, order_id: str, task: asyncio.Task[None]) -> None:
        self._runners.pop(order_id, None)
        self._keeper.forget(order_id)
        if task.cancelled() and not self._closing:
            # Not by us: an adapter's own cancellation came through. The watch starts a runner anew.
            log.error("runner_cancelled", extra={"order_id": order_id})
            self._context.observer.alert("runner_cancelled")

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _new_lock(self, kind: OrderKind, chain: tuple[str, ...]) -> LockTerms | None:
        """Return the terms of a lock; an open needs one wherever a provider of its chain can carry it."""
        lock = self._context.lock
        if lock is None or not any(self._context.capabilities[name].order_lock for name in chain):
            return None
        try:
            return await lock.new_terms()
        except ProviderError as e:
            if kind is OrderKind.CLOSE:
                # Alone and proven by expiry: slower, but a close is never refused for want of a lock.
                log.warning("close_without_lock", extra={"code": e.code, "detail": e.detail})
                return None
            reason = e.code if e.error_class is ErrorClass.POLICY else "no_order_lock"
            raise OpensHeld(f"no order lock could be made: {e}", reason=reason) from e

    async def _candidate(self, name: str, terms: QuoteTerms) -> Candidate:
        provider = self._context.providers[name]
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._context.settings.quote_timeout_s):
                quote: Quote = await provider.quote(terms)
            await self._context.safeguards.check_candidate(quote)
        except TimeoutError:
            return Candidate(provider=name, error=TimedOut("no quote in time").info())
        except ProviderError as e:
            return Candidate(provider=name, error=e.info())
        self._context.observer.stage("quote", name, self._clock.monotonic() - began)
        return Candidate(provider=name, quote=quote)

    async def _marked(self, position: PositionRecord) -> PositionAnswer:
        return await marked(self._context, self._catalog, position, self._protecting.report(position))
