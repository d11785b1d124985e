"""What callers may ask about protection: have it with an open, set it, change it, take it away, wait for it."""

from __future__ import annotations

import asyncio

from router.engine.catalog import Catalog
from router.engine.context import EngineContext
from router.engine.protection_keeper import ProtectionKeeper
from router.engine.protection_terms import (
    Misplaced,
    Protection,
    ProtectionStatus,
    misplaced_leg,
    oversized_leg,
    protection_of,
)
from router.engine.requests import (
    InvalidRequest,
    OpenRequest,
    PositionEnded,
    PositionUnknown,
    ProtectionRefused,
    ProtectRequest,
)
from router.ledger.protocol import PositionClosed
from router.ledger.records import Leg, OrderView, PositionRecord, PositionStatus, ProtectionTerms

__all__ = ["Protecting"]


class Protecting:
    """Answers for protection; what is done about it is the keeper's."""

    def __init__(self, context: EngineContext, catalog: Catalog, keeper: ProtectionKeeper) -> None:
        self._context = context
        self._ledger = context.ledger
        self._catalog = catalog
        self._keeper = keeper

    def check_open(self, request: OpenRequest, chain: tuple[str, ...]) -> None:
        """Refuse legs that could not do their work on any provider that might be asked, by its price of a moment ago.

        Raises:
            ProtectionRefused: every provider whose price is known says so.
        """
        if not request.protection:
            return
        _check_prices(request.protection)
        if request.size is not None:
            _refuse(oversized_leg(request.protection, request.size))
        markets = [market for name in chain if (market := self._catalog.market(name, request.market)) is not None]
        found = [
            misplaced_leg(request.protection, request.side, market.oracle_price, None)
            for market in markets
            if market.oracle_price is not None
        ]
        if found and all(each is not None for each in found):
            _refuse(found[0])

    async def protect(self, request: ProtectRequest) -> PositionRecord:
        """Write what a position shall be protected by and return it; doing so again changes nothing.

        Raises:
            PositionUnknown, PositionEnded, InvalidRequest.
            ProtectionRefused: a leg that is new would fire at once, come after the liquidation, or close too much.
        """
        position = self._known(request.position_id)
        terms = position.protection
        for leg in Leg:
            if leg in request.legs:
                terms = terms.but(leg, request.legs[leg])
        if terms != position.protection:
            # What stands already is not judged anew: the price may be past it, and it is firing.
            new = ProtectionTerms()
            for leg in Leg:
                new = new.but(leg, None if terms.of(leg) == position.protection.of(leg) else terms.of(leg))
            await self._check(position, new)
        try:
            changed = await self._ledger.set_protection(
                position.position_id, terms, request.caller, self._context.clock.now()
            )
        except PositionClosed as e:
            raise PositionEnded(f"{position.position_id} is closed", position_id=position.position_id) from e
        if changed:
            self._keeper.wake()
        return self._known(request.position_id)

    def _known(self, position_id: str) -> PositionRecord:
        position = self._ledger.position(position_id)
        if position is None:
            raise PositionUnknown(f"there is no position {position_id}", position_id=position_id)
        return position

    async def _check(self, position: PositionRecord, terms: ProtectionTerms) -> None:
        _check_prices(terms)
        if position.status is PositionStatus.CLOSED:
            raise PositionEnded(f"{position.position_id} is closed", position_id=position.position_id)
        _refuse(oversized_leg(terms, position.size))
        if position.provider not in self._context.providers or not terms:
            return
        await self._catalog.refresh([position.provider])
        market = self._catalog.market(position.provider, position.market)
        netting = self._context.capabilities[position.provider].netting
        held = await self._catalog.held(position.provider, position.market, None if netting else position.side)
        price = None if market is None else market.oracle_price
        liquidation = None if held is None else held.liquidation_price
        _refuse(misplaced_leg(terms, position.side, price, liquidation))

    def report(self, position: PositionRecord) -> Protection:
        """Return how far a position's protection is."""
        return protection_of(self._ledger, position, self._keeper.blind(position))

    def of_order(self, view: OrderView) -> Protection | None:
        """Return how far the protection is that an open asked for; null where it asked for none, or has no lot yet."""
        if not view.order.protection or view.order.position_id is None:
            return None
        return self.report(self._known(view.order.position_id))

    async def wait(self, order_id: str, seconds: float) -> None:
        """Wait until the protection that a filled open asked for is there or has failed, at most `seconds`."""
        timer = asyncio.create_task(self._context.clock.sleep(seconds))
        try:
            while not timer.done():
                change = asyncio.ensure_future(self._keeper.next_change().wait())
                view = self._ledger.order(order_id)
                report = None if view is None else self.of_order(view)
                if report is None or report.status is not ProtectionStatus.PLACING:
                    change.cancel()
                    return
                await asyncio.wait({change, timer}, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
        finally:
            timer.cancel()


def _refuse(misplaced: Misplaced | None) -> None:
    if misplaced is not None:
        refusal = next(each for each in ProtectionRefused.__subclasses__() if each.code == misplaced.code)
        raise refusal(misplaced.detail, field=misplaced.leg.value)


def _check_prices(terms: ProtectionTerms) -> None:
    for leg in Leg:
        wanted = terms.of(leg)
        if wanted is not None and (wanted.price <= 0 or (wanted.size is not None and wanted.size <= 0)):
            raise InvalidRequest(f"{leg.value} must be above zero", field=leg.value)
