"""What stands between a caller and an open: halts by an operator, limits, and an independent price.

A close, a cancel and a fence never come here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from providers.base.clock import Clock
from providers.base.errors import (
    HaltedByOperator,
    PriceReferenceMissing,
    ProviderError,
    ProviderLimit,
    TimedOut,
    TradingHalted,
)
from providers.base.prices import PriceSource, ReferencePrice
from providers.base.protocol import Provider
from providers.base.types import OrderKind, Quote, QuoteTerms
from router.engine import limits as rules
from router.engine.limits import Limits, LimitUse
from router.engine.observer import EngineObserver
from router.engine.requests import (
    LeverageAboveLimit,
    LimitExceeded,
    OpenRequest,
    OpensHalted,
    OpensHeld,
    ProviderListing,
    ProviderUnknown,
)
from router.ledger.protocol import Claim, Ledger, LimitReached
from router.ledger.records import HaltRecord, OrderRecord

__all__ = ["Safeguards"]

log = logging.getLogger(__name__)


class Safeguards:
    """Halts and limits of one router.

    Args:
        providers: names that may be halted.
        prices: independent prices; null where nobody asked for that check.
        quote_timeout_s: for a quote that is asked for only to hold it against the limits.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        observer: EngineObserver,
        providers: Sequence[str],
        limits: Limits,
        prices: PriceSource | None,
        quote_timeout_s: float,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._observer = observer
        self._providers = tuple(providers)
        self.limits = limits
        self._prices = prices
        self._quote_timeout_s = quote_timeout_s
        self._halts: dict[str | None, HaltRecord] = {}

    # -- the switches --------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Halt what was halted before a restart."""
        self._halts = {record.provider: record for record in self._ledger.halts()}
        self._tell()

    def halts(self) -> tuple[HaltRecord, ...]:
        """Return every halt that stands, the whole router's first."""
        return tuple(sorted(self._halts.values(), key=lambda record: record.provider or ""))

    def halt_of(self, provider: str) -> HaltRecord | None:
        """Return what keeps opens from a provider: its own halt, else the whole router's."""
        return self._halts.get(provider) or self._halts.get(None)

    async def halt(self, provider: str | None, reason: str, caller: str) -> None:
        """Switch opens off, from this moment and durably; raise `ProviderUnknown`.

        Should the ledger refuse, opens stay off until a restart, and the caller hears of it.
        """
        self._check_known(provider)
        record = HaltRecord(provider=provider, reason=reason, caller=caller, since=self._clock.now())
        self._halts.setdefault(provider, record)
        self._tell()
        log.warning("trading_halted", extra={"scope": provider or "router", "detail": reason, "by": caller})
        self._halts[provider] = await self._ledger.halt(record)

    async def resume(self, provider: str | None, reason: str, caller: str) -> None:
        """Switch opens on again, once that is durable; what is not halted stays so. Raise `ProviderUnknown`."""
        if provider not in self._halts:
            self._check_known(provider)
            return
        await self._ledger.resume(provider, reason, caller, self._clock.now())
        self._halts.pop(provider, None)
        self._tell()
        log.warning("trading_resumed", extra={"scope": provider or "router", "detail": reason, "by": caller})

    def _check_known(self, provider: str | None) -> None:
        if provider is not None and provider not in self._providers:
            raise ProviderUnknown(
                f"{provider!r} is not configured", provider=provider, providers=sorted(self._providers)
            )

    def _tell(self) -> None:
        self._observer.halted(frozenset(provider or "router" for provider in self._halts))

    # -- before there is an order --------------------------------------------------------------------------------

    async def admit(self, request: OpenRequest, chain: Sequence[str], size_usd: Decimal | None) -> Claim:
        """Return what an open claims of the limits, to be stored with it.

        Raises:
            OpensHalted, LeverageAboveLimit, OpensHeld: refusals that use up no key.
        """
        halts = [self.halt_of(provider) for provider in chain]
        if self._halts.get(None) is not None or (halts and None not in halts):
            record = self._halts.get(None) or halts[0]
            if record is not None:
                raise OpensHalted(
                    record.reason, scope=record.provider or "router", reason=record.reason, since=record.since
                )
        cap = self.limits.leverage
        if cap is not None and request.leverage > cap:
            raise LeverageAboveLimit(f"at most {cap:f} is allowed here", limit=f"{cap:f}")
        if size_usd is None and (self.limits.market_usd is not None or self.limits.day_usd is not None):
            raise OpensHeld("nobody tells a price: the limits in dollars cannot be held", reason="price_unknown")
        if self.limits.oracle_deviation_bps is not None and self.limits.reference_required:
            try:
                await self._reference(request.market)
            except PriceReferenceMissing as e:
                raise OpensHeld(e.detail, reason="price_reference_missing") from e
        return rules.of_open(self.limits, request.market, size_usd, self._clock.now())

    def exceeded(self, reached: LimitReached) -> LimitExceeded:
        """Return the refusal of a claim that the ledger did not take."""
        breach = reached.refusal
        if not isinstance(breach, rules.LimitBreach):
            raise reached
        return LimitExceeded(str(breach), limit=breach.limit, value=breach.value, used=breach.used, asked=breach.asked)

    # -- at one provider -----------------------------------------------------------------------------------------

    def stopped(self, order: OrderRecord, provider: str) -> ProviderError | None:
        """Return why an order may not begin at a provider, or not at all; null for everything but opens."""
        if order.kind is not OrderKind.OPEN:
            return None
        whole = self._halts.get(None)
        if whole is not None:
            return TradingHalted(whole.reason)
        own = self._halts.get(provider)
        return None if own is None else HaltedByOperator(own.reason)

    def check_halts(self, order: OrderRecord, provider: str) -> None:
        """Raise `TradingHalted` or `HaltedByOperator` for an open."""
        stopped = self.stopped(order, provider)
        if stopped is not None:
            raise stopped

    async def check_quote(self, quote: Quote, kind: OrderKind = OrderKind.OPEN) -> None:
        """Raise `QuoteDeviates`, `OracleDeviates` or `PriceReferenceMissing` for an open."""
        if kind is not OrderKind.OPEN:
            return
        rules.check_quote(self.limits, quote)
        if self.limits.oracle_deviation_bps is None:
            return
        try:
            reference = await self._reference(quote.market)
        except PriceReferenceMissing:
            if self.limits.reference_required:
                raise
            return
        try:
            rules.check_oracle(self.limits, quote, reference)
        except ProviderError:
            self._observer.alert("oracle_deviates")
            raise

    async def check_candidate(self, quote: Quote) -> None:
        """Raise what an open at this quote would be refused with; a quote stands while the whole router is halted."""
        own = self._halts.get(quote.provider)
        if own is not None:
            raise HaltedByOperator(own.reason)
        await self.check_quote(quote)

    async def check_attempt(self, order: OrderRecord, provider: Provider, *, quoted: bool) -> None:
        """Raise a leaf of `ProviderError` where an open may not be tried at a provider now.

        With `quoted` a quote of this provider has passed `check_quote` a moment ago, and none is asked for.
        """
        self.check_halts(order, provider.name)
        watches = self.limits.quote_deviation_bps is not None or self.limits.oracle_deviation_bps is not None
        if order.kind is not OrderKind.OPEN or quoted or not watches:
            return
        terms = QuoteTerms(
            kind=order.kind, market=order.market, side=order.side, size=order.size, leverage=order.leverage
        )
        try:
            async with asyncio.timeout(self._quote_timeout_s):
                quote = await provider.quote(terms)
        except TimeoutError as e:
            raise TimedOut("no quote in time") from e
        await self.check_quote(quote)

    def claim_at(self, order: OrderRecord, provider: str) -> Claim | None:
        """Return what an attempt claims of a provider's limit; null for everything but opens."""
        if order.kind is not OrderKind.OPEN or order.size is None or order.expected_price is None:
            return None
        return rules.of_provider(self.limits, provider, order.size * order.expected_price)

    def provider_limit(self, reached: LimitReached) -> ProviderLimit:
        """Return the refusal of an attempt that the ledger did not take."""
        return ProviderLimit(str(reached.refusal))

    # -- reads ---------------------------------------------------------------------------------------------------

    def marked(self, listing: ProviderListing) -> ProviderListing:
        """Return a provider's listing with what keeps opens from it."""
        return msgspec.structs.replace(listing, halt=self.halt_of(listing.provider))

    def use(self) -> tuple[LimitUse, ...]:
        """Return every limit on a sum with what is used of it now."""
        began = None if self.limits.day_usd is None else self._clock.now() - rules.DAY
        return rules.use_of(self.limits, self._ledger.usage(began))

    async def _reference(self, market: str) -> ReferencePrice:
        if self._prices is None:
            raise PriceReferenceMissing("no source of independent prices is set")
        try:
            return await self._prices.price(market)
        except PriceReferenceMissing:
            self._observer.alert("price_reference_missing")
            raise
