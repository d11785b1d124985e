"""Whether a resting trigger still stands for its lot, on venues that keep triggers in dollars.

There, another lot on the slot moves the average entry price, and with it the base units that a trigger's dollars are. A
trigger that is off by more than a thousandth of its size is placed anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, cast

from providers.base.errors import ProviderError
from providers.base.protocol import Protector
from router.engine.context import EngineContext
from router.engine.settlement import submission_of
from router.ledger.records import OrderView, ProtectedLot

__all__ = ["TriggerSizes"]

log = logging.getLogger(__name__)

OFF: Final = Decimal("0.001")
LOOK_S: Final = 5.0
"""Between two looks at one trigger."""


class TriggerSizes:
    """Keeps in mind which triggers have drifted; it is read anew after a restart."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._looked_at: dict[str, float] = {}
        self._adrift: set[str] = set()

    @property
    def adrift(self) -> frozenset[str]:
        """Orders whose triggers would not close what their lot holds."""
        return frozenset(self._adrift)

    async def look(self, lots: Iterable[ProtectedLot]) -> None:
        """Ask about every resting trigger of a venue that counts dollars, each at most every few seconds."""
        live: set[str] = set()
        for lot in lots:
            capabilities = self._context.capabilities.get(lot.position.provider)
            if capabilities is None or not capabilities.triggers_in_dollars:
                continue
            for view in lot.orders.values():
                if view.order.trigger is not None and not view.order.status.final:
                    live.add(view.order.order_id)
                    await self._ask(lot.position.provider, view)
        self._adrift &= live
        self._looked_at = {order_id: at for order_id, at in self._looked_at.items() if order_id in live}

    async def _ask(self, name: str, view: OrderView) -> None:
        order_id, asked = view.order.order_id, view.order.requested_size
        resting = next((attempt for attempt in view.attempts if attempt.resting), None)
        now = self._context.clock.monotonic()
        if resting is None or asked is None or now - self._looked_at.get(order_id, -LOOK_S) < LOOK_S:
            return
        self._looked_at[order_id] = now
        protector = cast("Protector", self._context.providers[name])
        try:
            async with asyncio.timeout(self._context.settings.quote_timeout_s):
                size = await protector.trigger_size(submission_of(resting))
        except (ProviderError, TimeoutError) as e:
            log.info("trigger_size_unread", extra={"order_id": order_id, "reason": str(e)})
            return
        if size is None or abs(size - asked) <= asked * OFF:
            self._adrift.discard(order_id)
        elif order_id not in self._adrift:
            self._adrift.add(order_id)
            log.info("trigger_adrift", extra={"order_id": order_id, "size": f"{size:f}", "asked": f"{asked:f}"})
