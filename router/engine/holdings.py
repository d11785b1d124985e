"""What the router holds or may hold on a venue's slot, so that an open never nets against it."""

from __future__ import annotations

from providers.base.types import OrderKind
from router.engine.plan import unresolved
from router.ledger.protocol import Ledger
from router.ledger.records import OrderRecord, PositionStatus

__all__ = ["opposite_holding"]


def opposite_holding(ledger: Ledger, provider: str, order: OrderRecord) -> str | None:
    """Say what an open of `order` at `provider` would net against, or null when nothing is in the way.

    An attempt whose outcome is unclear counts as a holding of its side.
    """
    lots, _ = ledger.positions(
        limit=1, provider=provider, market=order.market, side=order.side.other, status=PositionStatus.OPEN
    )
    if lots:
        return f"{lots[0].position_id} holds the {order.side.other} side of {order.market} on {provider}"
    for view in ledger.open_orders():
        other = view.order
        if other.kind is not OrderKind.OPEN or other.market != order.market or other.side is order.side:
            continue
        if any(attempt.provider == provider for attempt in unresolved(view)):
            return f"{other.order_id} may still open the {other.side} side of {order.market} on {provider}"
    return None
