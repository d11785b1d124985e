"""What the router or anybody else holds, or may hold, on a venue's slot, so that an open never nets against it."""

from __future__ import annotations

from providers.base.types import HoldingKey
from router.ledger.protocol import Ledger
from router.ledger.records import OrderRecord, PositionStatus

__all__ = ["opposite_holding", "stray_trigger"]


def opposite_holding(ledger: Ledger, provider: str, order: OrderRecord) -> str | None:
    """Say what an open of `order` at `provider` would net against, or null when nothing is in the way.

    An attempt whose outcome is unclear counts as a holding of its side, and so does the foreign part of the slot.
    """
    lots, _ = ledger.positions(
        limit=1, provider=provider, market=order.market, side=order.side.other, status=PositionStatus.OPEN
    )
    if lots:
        return f"{lots[0].position_id} holds the {order.side.other} side of {order.market} on {provider}"
    part = ledger.foreign_part(provider, HoldingKey(market=order.market))
    if part is not None and part.side is order.side.other:
        return f"{part.size:f} of the {part.side} side of {order.market} on {provider} is held by somebody else"
    other = ledger.unclear_open(provider=provider, market=order.market, side=order.side.other)
    if other is not None:
        return f"{other} may still open the {order.side.other} side of {order.market} on {provider}"
    return None


def stray_trigger(ledger: Ledger, provider: str, order: OrderRecord, *, netting: bool) -> str | None:
    """Say which trigger of a closed lot could still reduce what `order` opens at `provider`, or null when none could.

    Its cancel is on its way: seconds, as a rule.
    """
    lot = ledger.stray_trigger(provider, order.market, None if netting else order.side)
    return None if lot is None else f"{lot} is closed, and a trigger of it still rests on {provider}"
