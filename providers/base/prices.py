"""A price from somebody who is not the venue, to hold the venue's own oracle against."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Protocol

from providers.base.types import Record

__all__ = ["PriceSource", "ReferencePrice"]


class ReferencePrice(Record, frozen=True, kw_only=True):
    """An independent price of a market's underlying.

    Attributes:
        price: dollars per base unit.
        confidence: dollars; the publisher holds the price to lie within this of `price`.
        published_at: by the publisher's clock.
    """

    market: str
    price: Decimal
    confidence: Decimal
    published_at: datetime


class PriceSource(Protocol):
    """Where independent prices come from. It knows no venue and no order."""

    async def price(self, market: str) -> ReferencePrice:
        """Return a price that is fresh and narrow enough to be believed.

        Raises:
            PriceReferenceMissing: the source cannot be reached or read, has no such market, or its price is too old
                or too wide. Never another error.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
