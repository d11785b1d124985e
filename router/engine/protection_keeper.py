"""Keeps every lot's protection as it shall be: watches prices, and does the moves that the rules name.

It holds nothing that a restart would lose but since when a price is crossed or unreadable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from providers.base.clock import new_id
from providers.base.errors import OracleStale, ProviderError
from providers.base.types import LockTerms, OrderKind, QuoteTerms, Trigger
from router.engine.context import EngineContext
from router.engine.protection import (
    Add,
    Around,
    Cancel,
    End,
    Fire,
    Move,
    Place,
    Trip,
    Write,
    crossed,
    leg_state,
    next_moves,
    shares_slot,
)
from router.engine.trigger_sizes import TriggerSizes
from router.ledger.protocol import LedgerError
from router.ledger.records import (
    Cause,
    LegKind,
    LegRecord,
    NewOrder,
    PositionRecord,
    PositionStatus,
    ProtectedLot,
    Reservation,
)

__all__ = ["ProtectionKeeper"]

log = logging.getLogger(__name__)

# A trigger has no deadline of its own: it rests until it fires or is cancelled. Far away, and a time that every venue
# can write.
NO_DEADLINE: Final = timedelta(days=3650)
FIRE_TTL: Final = timedelta(seconds=60)
# Moves of one lot in one round: more than any change needs, so that a fault of ours ends.
ROUNDS_PER_LOT: Final = 12
# Between two looks while there is nothing to look after; whatever changes that wakes the keeper.
IDLE_S: Final = 60.0
# A price that cannot be read for so long is told of.
BLIND: Final = timedelta(seconds=10)


class _Price(msgspec.Struct, frozen=True):
    """A market's price as it was read at `at` (monotonic seconds)."""

    price: Decimal | None
    at: float


class ProtectionKeeper:
    """One task for all lots.

    Args:
        place: makes an order durable and starts it.
        new_lock: terms of a lock for a close on a provider; null where none can be had.
        nudge: has an order's runner look again now.
    """

    def __init__(
        self,
        context: EngineContext,
        *,
        place: Callable[[NewOrder], Awaitable[object]],
        new_lock: Callable[[str], Awaitable[LockTerms | None]],
        nudge: Callable[[str], None],
    ) -> None:
        self._context = context
        self._ledger = context.ledger
        self._clock = context.clock
        self._place_order = place
        self._new_lock = new_lock
        self._nudge = nudge
        self._sizes = TriggerSizes(context)
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._expected: set[str] = set()
        self._prices: dict[tuple[str, str], _Price] = {}
        self._read_at: dict[str, float] = {}
        self._crossed_since: dict[str, datetime] = {}
        self._blind_since: dict[tuple[str, str], datetime] = {}
        self._told_blind: set[tuple[str, str]] = set()
        self._stale: set[tuple[str, str]] = set()

    # -- for the engine ------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again now: something that matters has changed."""
        self._wake.set()

    def expect(self, order_id: str) -> None:
        """Look out for the lot of an open that asks for protection: it exists from the first fill."""
        self._expected.add(order_id)
        self.wake()

    def forget(self, order_id: str) -> None:
        """Note that an order has ended: a fill to protect, or the end of what a leg or a close waited for."""
        self._expected.discard(order_id)
        self.wake()

    def next_change(self) -> asyncio.Event:
        """Return the event that is set after the next round."""
        return self._changed

    def blind(self, position: PositionRecord) -> str | None:
        """Say why the price that a lot's watched legs wait for cannot be read; null when it can."""
        since = self._blind_since.get((position.provider, position.market))
        if since is None or self._clock.now() - since < BLIND:
            return None
        return f"the price on {position.provider} cannot be read since {since:%Y-%m-%dT%H:%M:%SZ}"

    async def run(self) -> None:
        """Look after every lot for ever."""
        busy = True
        while True:
            try:
                busy = await self.round()
            except Exception:
                # Without this task stops would not fire: whatever it was, go on.
                log.exception("protection_round_failed")
                self._context.observer.alert("protection_round_failed")
            self._changed.set()
            self._changed = asyncio.Event()
            await self._pause(busy=busy or bool(self._expected))

    async def round(self) -> bool:
        """Bring every lot's protection as far as it can be brought now; whether there is any lot to look after."""
        lots = self._ledger.protected_lots()
        await asyncio.gather(*(self._read_prices(name) for name in {lot.position.provider for lot in lots}))
        await self._sizes.look(lots)
        self._forget({leg.leg_id for lot in lots for leg in lot.legs})
        for lot in lots:
            # One lot with much to do must not keep anybody else waiting.
            await self._clock.sleep(0)
            try:
                await self._look_after(lot)
            except LedgerError:
                # Something else was faster, or the write failed: the next look sees how it is.
                log.warning("protection_move_failed", extra={"position_id": lot.position.position_id}, exc_info=True)
            except Exception:
                log.exception("protection_failed", extra={"position_id": lot.position.position_id})
                self._context.observer.alert("protection_failed")
        self._measure(lots)
        return bool(lots)

    # -- one lot -------------------------------------------------------------------------------------------------

    async def _look_after(self, seen: ProtectedLot) -> None:
        """Do moves until there are none; what was seen a moment ago is read again before anything is done.

        Of a provider that is not configured now nothing can be asked, and nothing is touched: its triggers stay.
        """
        if seen.position.provider not in self._context.providers:
            self._price(seen.position)
            return
        if not next_moves(seen, self._around(seen)):
            return
        for _ in range(ROUNDS_PER_LOT):
            lot = self._ledger.protected_lot(seen.position.position_id)
            moves = () if lot is None else next_moves(lot, self._around(lot))
            if lot is None or not [await self._do(lot, move) for move in moves].count(True):
                return
        log.error("protection_restless", extra={"position_id": seen.position.position_id})
        self._context.observer.alert("protection_restless")

    def _around(self, lot: ProtectedLot) -> Around:
        position, now = lot.position, self._clock.now()
        capabilities = self._context.capabilities.get(position.provider)
        price = self._price(position)
        for leg in lot.legs:
            if not crossed(leg, position.side, price):
                self._crossed_since.pop(leg.leg_id, None)
            else:
                self._crossed_since.setdefault(leg.leg_id, now)
        return Around(
            now=now,
            price=price,
            native=capabilities is not None and capabilities.native_triggers,
            shared=shares_slot(self._ledger, position, netting=capabilities is None or capabilities.netting),
            crossed_since=self._crossed_since,
            adrift=self._sizes.adrift,
        )

    async def _do(self, lot: ProtectedLot, move: Move) -> bool:
        """Do one move; whether it changed anything, so that another look is worth while."""
        now = self._clock.now()
        match move:
            case Add(leg, terms, kind):
                record = LegRecord(
                    leg_id=new_id(self._clock, "leg"),
                    position_id=lot.position.position_id,
                    leg=leg,
                    price=terms.price,
                    size=terms.size,
                    kind=kind,
                    created_at=now,
                    updated_at=now,
                )
                await self._ledger.add_leg(record)
            case Write(leg):
                await self._write(lot, leg)
            case Trip(leg):
                return await self._trip(lot, leg)
            case End(leg, reason, done):
                await self._ledger.end_leg(leg.leg_id, reason, now, done=done)
                log.info("protection_leg_ended", extra={"leg_id": leg.leg_id, "reason": reason})
            case Cancel(order_id):
                await self._ledger.request_cancel(order_id, now)
                self._nudge(order_id)
            case Place(leg, size):
                await self._place(lot, leg, size)
            case Fire(leg, size):
                await self._fire(lot, leg, size)
        return True

    async def _write(self, lot: ProtectedLot, leg: LegRecord) -> None:
        before = next(known for known in lot.legs if known.leg_id == leg.leg_id)
        await self._ledger.update_leg(leg)
        if leg.failures > before.failures:
            log.warning(
                "protection_leg_failed",
                extra={
                    "leg_id": leg.leg_id,
                    "position_id": leg.position_id,
                    "leg": leg.leg.value,
                    "failures": leg.failures,
                    "reason": leg.failure,
                },
            )
            if leg.failures == 1 and lot.position.status is PositionStatus.OPEN:
                self._context.observer.alert("protection_failed")

    async def _trip(self, lot: ProtectedLot, leg: LegRecord) -> bool:
        """Fire a leg once a price read for it says the same; an old price fires nothing."""
        position = lot.position
        provider = self._context.providers.get(position.provider)
        if provider is None:
            return False
        terms = QuoteTerms(kind=OrderKind.CLOSE, market=position.market, side=position.side, size=position.size)
        price = self._price(position)
        try:
            async with asyncio.timeout(self._context.settings.quote_timeout_s):
                price = (await provider.quote(terms)).oracle_price
            self._stale.discard((position.provider, position.market))
        except OracleStale as e:
            self._stale.add((position.provider, position.market))
            self._note_blind(position, e.detail)
            return False
        except (ProviderError, TimeoutError) as e:
            # It is no word about the price: what the market's list says stands, and the close finds out what is wrong.
            log.info("protection_quote_failed", extra={"leg_id": leg.leg_id, "reason": str(e)})
        if not crossed(leg, position.side, price):
            self._prices[position.provider, position.market] = _Price(price, self._clock.monotonic())
            return False
        now = self._clock.now()
        fired = msgspec.structs.replace(
            leg,
            kind=leg.kind if leg.order_id is not None else LegKind.MANAGED,
            fired_at=now,
            failure=None,
            failures=0,
            next_try_at=None,
            updated_at=now,
        )
        await self._ledger.update_leg(fired)
        log.warning(
            "protection_fired",
            extra={
                "leg_id": leg.leg_id,
                "position_id": leg.position_id,
                "leg": leg.leg.value,
                "trigger_price": f"{leg.price:f}",
                "price": f"{price:f}",
            },
        )
        return True

    # -- orders --------------------------------------------------------------------------------------------------

    async def _place(self, lot: ProtectedLot, leg: LegRecord, size: Decimal) -> None:
        trigger = Trigger(price=leg.price, above=leg.leg.fires_above(lot.position.side))
        await self._place_order(await self._order(lot.position, leg, size, NO_DEADLINE, trigger))

    async def _fire(self, lot: ProtectedLot, leg: LegRecord, size: Decimal) -> None:
        triggers = self._ledger.open_triggers([lot.position.position_id])
        await self._place_order(await self._order(lot.position, leg, size, FIRE_TTL, None))
        for order_id in triggers:
            self._nudge(order_id)

    async def _order(
        self, position: PositionRecord, leg: LegRecord, size: Decimal, life: timedelta, trigger: Trigger | None
    ) -> NewOrder:
        """Return a close of the lot's own; the leg and the number of the try are its key."""
        now = self._clock.now()
        key = f"{leg.leg_id}:{leg.tries + 1}"
        request = {"position_id": position.position_id, "size": f"{size:f}", "cause": leg.leg.value}
        if trigger is not None:
            request["trigger_price"] = f"{trigger.price:f}"
        return NewOrder(
            order_id=new_id(self._clock, "ord"),
            caller=position.caller,
            key=key,
            client_order_id=None,
            fingerprint=key,
            kind=OrderKind.CLOSE,
            market=position.market,
            side=position.side,
            provider=position.provider,
            size=size,
            size_usd=None,
            leverage=position.leverage,
            slippage_bps=self._context.settings.protection_slippage_bps,
            worst_price=None,
            request=msgspec.json.encode(request),
            created_at=now,
            deadline=now + life,
            lock=await self._new_lock(position.provider),
            reservations=(Reservation(position_id=position.position_id, size=size),),
            chain=(position.provider,),
            cause=Cause(leg.leg.value),
            trigger=trigger,
            leg_id=leg.leg_id,
        )

    # -- prices --------------------------------------------------------------------------------------------------

    async def _read_prices(self, name: str) -> None:
        """Read a provider's prices, at most as often as the setting says."""
        provider, now = self._context.providers.get(name), self._clock.monotonic()
        before = self._read_at.get(name)
        if provider is None or (before is not None and now - before < self._context.settings.protection_interval_s):
            return
        self._read_at[name] = now
        try:
            async with asyncio.timeout(self._context.settings.quote_timeout_s):
                markets = await provider.markets()
        except (ProviderError, TimeoutError) as e:
            log.info("protection_prices_unread", extra={"provider": name, "reason": str(e)})
            return
        except Exception:
            log.exception("protection_prices_failed", extra={"provider": name})
            return
        for market in markets:
            self._prices[name, market.symbol] = _Price(market.oracle_price, now)

    def _price(self, position: PositionRecord) -> Decimal | None:
        """Return a market's price; null where it was not read lately."""
        known = self._prices.get((position.provider, position.market))
        oldest = self._clock.monotonic() - 3 * self._context.settings.protection_interval_s
        price = None if known is None or known.at < oldest else known.price
        if price is None and position.status is PositionStatus.OPEN:
            self._note_blind(position, "its market list has no price, or is not read")
        elif price is not None and (position.provider, position.market) not in self._stale:
            self._blind_since.pop((position.provider, position.market), None)
            self._told_blind.discard((position.provider, position.market))
        return price

    def _note_blind(self, position: PositionRecord, why: str) -> None:
        """Tell once of a price that cannot be had for longer than a moment: what is watched here cannot fire."""
        key = (position.provider, position.market)
        since = self._blind_since.setdefault(key, self._clock.now())
        if key not in self._told_blind and self._clock.now() - since >= BLIND:
            self._told_blind.add(key)
            log.error("protection_blind", extra={"provider": key[0], "market": key[1], "reason": why})
            self._context.observer.alert("protection_blind")

    # -- the rest ------------------------------------------------------------------------------------------------

    def _forget(self, live: set[str]) -> None:
        self._crossed_since = {leg_id: at for leg_id, at in self._crossed_since.items() if leg_id in live}

    def _measure(self, lots: tuple[ProtectedLot, ...]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for lot in lots:
            for leg in lot.legs:
                order = None if leg.order_id is None else lot.orders[leg.order_id]
                counts[lot.position.provider, leg_state(leg, order).value] += 1
        self._context.observer.protection_legs(counts)

    async def _pause(self, *, busy: bool) -> None:
        seconds = self._context.settings.protection_interval_s if busy else IDLE_S
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
        self._wake.clear()
