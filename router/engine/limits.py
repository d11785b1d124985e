"""The router's own limits on opens: pure functions over what is used, a quote and an independent price.

Nothing here ever concerns a close, a cancel or a fence. What makes an order impossible whoever fills it is refused
before there is one; what concerns one provider is a refused attempt there, and the chain goes on (docs/limits.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from providers.base.errors import OracleDeviates, QuoteDeviates
from providers.base.prices import ReferencePrice
from providers.base.types import Quote
from router.ledger.protocol import Claim
from router.ledger.records import Usage

__all__ = [
    "DAY",
    "LimitBreach",
    "LimitUse",
    "Limits",
    "check_oracle",
    "check_quote",
    "deviation_bps",
    "of_open",
    "of_provider",
    "use_of",
]

DAY = timedelta(hours=24)
"""The day slides: within any 24 hours no more than the limit is opened, at no hour twice as much."""

_BPS = Decimal(10_000)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What opens may take; null for no limit. Amounts in dollars of notional, deviations in hundredths of a percent.

    Attributes:
        market_usd: held and perhaps held in one market, over all providers, both sides added.
        day_usd: opened within 24 hours.
        provider_usd: held and perhaps held at one provider, by its name.
        leverage: that a caller may ask for.
        positions: open lots, each of them one open's.
        quote_deviation_bps: of a quote's expected price from the venue's own oracle, either way.
        oracle_deviation_bps: of the venue's oracle from an independent price, either way.
        reference_required: whether an open is refused when the independent price cannot be had.
    """

    market_usd: Decimal | None = None
    day_usd: Decimal | None = None
    provider_usd: Mapping[str, Decimal] = {}
    leverage: Decimal | None = None
    positions: int | None = None
    quote_deviation_bps: Decimal | None = None
    oracle_deviation_bps: Decimal | None = None
    reference_required: bool = True


class LimitBreach(msgspec.Struct, frozen=True, kw_only=True):
    """Which limit says no: `value` is the limit, `used` what is used of it, `asked` what the open would add."""

    limit: str
    value: Decimal
    used: Decimal
    asked: Decimal

    def __str__(self) -> str:
        """Return one sentence for people."""
        return f"{self.limit} is limited to {self.value:f}; {self.used:f} is used, {self.asked:f} more was asked for"


class LimitUse(msgspec.Struct, frozen=True, kw_only=True):
    """One limit and how much of it is used; `scope` is a market's or provider's name, where there are several."""

    limit: str
    scope: str | None
    value: Decimal
    used: Decimal


Check = Callable[[Usage], LimitBreach | None]


def _breach(limit: str, value: Decimal | None, used: Decimal, asked: Decimal | None) -> LimitBreach | None:
    if value is None or asked is None or used + asked <= value:
        return None
    return LimitBreach(limit=limit, value=value, used=used, asked=asked)


def of_open(limits: Limits, market: str, size_usd: Decimal | None, now: datetime) -> Claim:
    """Return what an open of this size claims, to be held against the sums in the write that stores it."""
    if limits.market_usd is None and limits.day_usd is None and limits.positions is None:
        return Claim(size_usd=size_usd)

    def check(usage: Usage) -> LimitBreach | None:
        positions = None if limits.positions is None else Decimal(limits.positions)
        return (
            _breach("positions", positions, Decimal(usage.positions), Decimal(1))
            or _breach("market_usd", limits.market_usd, usage.markets.get(market, Decimal(0)), size_usd)
            or _breach("day_usd", limits.day_usd, usage.day_usd, size_usd)
        )

    day_began = None if limits.day_usd is None else now - DAY
    return Claim(size_usd=size_usd, check=check, day_began=day_began)


def of_provider(limits: Limits, provider: str, size_usd: Decimal) -> Claim | None:
    """Return what an attempt of this size claims at a provider; null where that has no limit."""
    value = limits.provider_usd.get(provider)
    if value is None:
        return None

    def check(usage: Usage) -> LimitBreach | None:
        return _breach("provider_usd", value, usage.providers.get(provider, Decimal(0)), size_usd)

    return Claim(check=check)


def deviation_bps(price: Decimal, reference: Decimal) -> Decimal:
    """Return the distance of two prices in hundredths of a percent of `reference`, never negative."""
    return abs(price - reference) * _BPS / reference


def check_quote(limits: Limits, quote: Quote) -> None:
    """Raise `QuoteDeviates` for a price too far from the venue's own oracle, better or worse: either is a fault."""
    limit = limits.quote_deviation_bps
    if limit is None:
        return
    if quote.oracle_price <= 0:
        raise QuoteDeviates(f"{quote.provider} gave a quote and no oracle price")
    away = deviation_bps(quote.expected_price, quote.oracle_price)
    if away > limit:
        raise QuoteDeviates(
            f"{quote.expected_price:f} is {away:.1f} bps from the oracle's {quote.oracle_price:f}; at most {limit:f}"
        )


def check_oracle(limits: Limits, quote: Quote, reference: ReferencePrice) -> None:
    """Raise `OracleDeviates` for an oracle too far from the independent price.

    The distance is to the price itself, not to the edge of its confidence interval: uncertainty allows nothing.
    """
    limit = limits.oracle_deviation_bps
    if limit is None:
        return
    away = deviation_bps(quote.oracle_price, reference.price)
    if away > limit:
        raise OracleDeviates(
            f"{quote.provider}'s oracle says {quote.oracle_price:f}, {away:.1f} bps from {reference.price:f};"
            f" at most {limit:f}"
        )


def use_of(limits: Limits, usage: Usage) -> tuple[LimitUse, ...]:
    """Return every limit on a sum with what is used of it, markets and providers by name."""
    rows: list[LimitUse] = []
    if limits.day_usd is not None:
        rows.append(LimitUse(limit="day_usd", scope=None, value=limits.day_usd, used=usage.day_usd))
    if limits.positions is not None:
        value, used = Decimal(limits.positions), Decimal(usage.positions)
        rows.append(LimitUse(limit="positions", scope=None, value=value, used=used))
    if limits.market_usd is not None:
        rows += [
            LimitUse(limit="market_usd", scope=market, value=limits.market_usd, used=used)
            for market, used in sorted(usage.markets.items())
        ]
    rows += [
        LimitUse(limit="provider_usd", scope=name, value=value, used=usage.providers.get(name, Decimal(0)))
        for name, value in sorted(limits.provider_usd.items())
    ]
    return tuple(rows)
