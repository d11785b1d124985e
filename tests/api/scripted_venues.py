"""The providers of the scripted engine, and real safeguards over them, on a ledger of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from providers.base.clock import SystemClock
from providers.base.errors import ErrorInfo
from providers.base.types import Capacity, Lifecycle, Side
from router.engine.limits import Limits
from router.engine.observer import SilentObserver
from router.engine.requests import ProviderListing
from router.engine.safeguards import Safeguards
from router.ledger.sqlite import MEMORY, SqliteLedger

CHAIN: Final = ("drift", "mango")


def scripted_safeguards(limits: Limits) -> Safeguards:
    """Return what nobody has halted and nothing was opened under."""
    clock = SystemClock()
    return Safeguards(
        ledger=SqliteLedger.open(MEMORY, clock),
        clock=clock,
        observer=SilentObserver(),
        providers=CHAIN,
        limits=limits,
        prices=None,
        quote_timeout_s=5,
    )


def scripted_listings(at: datetime, error: ErrorInfo) -> tuple[ProviderListing, ...]:
    """Return the chain: one that lives, and one that cannot be read."""
    return (
        ProviderListing(
            provider="drift",
            position_in_chain=0,
            lifecycle=Lifecycle.LIVE,
            reason="",
            capacity=(Capacity(market="SOL-PERP", side=Side.LONG, capacity_usd=None),),
            slot=1000,
            as_of=at,
            error=None,
        ),
        ProviderListing(
            provider="mango",
            position_in_chain=1,
            lifecycle=None,
            reason="cannot be read",
            capacity=(),
            slot=None,
            as_of=at,
            error=error,
        ),
    )
