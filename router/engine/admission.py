"""Which requests become orders: what is refused here leaves no trace and uses up no key."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from providers.base.types import Market
from router.engine.catalog import Catalog
from router.engine.context import EngineContext
from router.engine.requests import (
    AUTO,
    BelowEveryMinimum,
    CloseRequest,
    DeadlineTooFar,
    InvalidRequest,
    LeverageTooHigh,
    MarketUnknown,
    NothingToClose,
    OpenRequest,
    OpensHeld,
    PositionUnknown,
    ProviderUnknown,
    QuoteRequest,
    WouldLeaveDust,
)
from router.engine.symbols import nearest
from router.ledger.protocol import Ledger
from router.ledger.records import PositionRecord, PositionStatus, Reservation

__all__ = ["Admission", "lots_to_close", "reservations_for"]

LOTS_PER_PAGE = 100
_CENT: Final = Decimal("0.01")


class Admission:
    """Checks requests against the chain's markets, as they were a moment ago. Not a promise: the venue decides."""

    def __init__(self, context: EngineContext, catalog: Catalog) -> None:
        self._context = context
        self._catalog = catalog

    def chain(self, provider: str) -> tuple[str, ...]:
        """Return the providers that a request may be given to; raise `ProviderUnknown`."""
        known = tuple(name for name in self._context.settings.chain if name in self._context.providers)
        if provider == AUTO:
            return known
        if provider not in known:
            raise ProviderUnknown(f"{provider!r} is not in the chain", provider=provider, providers=[AUTO, *known])
        return (provider,)

    async def check_quote(self, request: QuoteRequest, chain: tuple[str, ...]) -> None:
        """Raise a `Refusal` for what no provider of the chain could ever quote."""
        if (request.size is None) == (request.size_usd is None):
            raise InvalidRequest("give exactly one of size and size_usd", field="size")
        for field in ("size", "size_usd", "worst_price"):
            value = getattr(request, field)
            if value is not None and value <= 0:
                raise InvalidRequest(f"{field} must be above zero", field=field)
        if request.leverage < 1:
            raise InvalidRequest("leverage must be at least 1", field="leverage")
        await self._catalog.refresh(chain)
        markets = self._listed(request.market, chain)
        if not markets:
            # Every provider that could not be read might list it: then the chain decides, not this check.
            return
        self._check_leverage(request, markets)
        self._check_minimum(request, markets)

    async def check_open(self, request: OpenRequest, chain: tuple[str, ...]) -> Decimal | None:
        """Return what it is worth in dollars, null where nobody tells a price.

        Raises:
            Refusal: it could not be opened anywhere, or is above our own limit of an order.
        """
        if not 1 <= request.ttl_s <= self._context.settings.ttl_s_max:
            raise DeadlineTooFar(
                f"ttl_s must be from 1 to {self._context.settings.ttl_s_max}",
                ttl_s_max=self._context.settings.ttl_s_max,
            )
        await self.check_quote(request, chain)
        limit = self._context.settings.max_order_usd
        size_usd = request.size_usd
        if size_usd is None and request.size is not None:
            prices = [m.oracle_price for m in self._listed(request.market, chain) if m.oracle_price is not None]
            size_usd = request.size * max(prices) if prices else None
        if limit is not None and size_usd is None:
            raise OpensHeld("nobody tells a price: the limit of an order cannot be held", reason="price_unknown")
        if limit is not None and size_usd is not None and size_usd > limit:
            raise InvalidRequest(
                f"the order is above the limit of {limit:f} USD",
                field="size_usd",
                code="order_above_limit",
                limit=f"{limit:f}",
            )
        return size_usd

    def _listed(self, symbol: str, chain: tuple[str, ...]) -> tuple[Market, ...]:
        markets = [m for m in (self._catalog.market(name, symbol) for name in chain) if m is not None]
        if not markets and all(self._catalog.read(name) for name in chain):
            known = {market.symbol for name in chain for market in self._catalog.markets(name)}
            raise MarketUnknown(
                f"no provider of the chain lists {symbol}", market=symbol, nearest=list(nearest(symbol, sorted(known)))
            )
        return tuple(markets)

    def _check_leverage(self, request: QuoteRequest, markets: Iterable[Market]) -> None:
        highest = {market.provider: market.max_leverage for market in markets}
        if request.leverage > max(highest.values()):
            raise LeverageTooHigh(
                "no provider of the chain gives that much leverage",
                max_leverage={name: f"{value:f}" for name, value in highest.items()},
            )

    def _check_minimum(self, request: QuoteRequest, markets: Iterable[Market]) -> None:
        """Refuse what is below the smallest order of every provider.

        Minimums are listed rounded up, never down: the size to the market's step, and what that costs at the venue's
        oracle price to the cent.
        """
        minimums: list[dict[str, str | None]] = []
        for market in markets:
            smallest = _in_steps(market)
            minimum_usd = None if market.oracle_price is None else smallest * market.oracle_price
            if request.size is not None:
                enough = request.size >= smallest
            else:
                # The price moves between this look and the order: half the minimum is certainly too little.
                enough = minimum_usd is None or (request.size_usd or Decimal(0)) * 2 >= minimum_usd
            if enough:
                return
            minimums.append(
                {
                    "provider": market.provider,
                    "min_size": f"{smallest:f}",
                    "min_size_usd": None if minimum_usd is None else f"{_up_to_the_cent(minimum_usd):f}",
                }
            )
        raise BelowEveryMinimum("the size is below the smallest order of every provider asked", minimums=minimums)


def _in_steps(market: Market) -> Decimal:
    """Return a market's smallest order, rounded up to its step."""
    if not market.min_size % market.step_size:
        return market.min_size
    return (market.min_size / market.step_size).to_integral_value(ROUND_CEILING) * market.step_size


def _up_to_the_cent(usd: Decimal) -> Decimal:
    return usd.quantize(_CENT, ROUND_CEILING)


def lots_to_close(ledger: Ledger, request: CloseRequest) -> tuple[PositionRecord, ...]:
    """Return the lots that a close names, oldest first; raise `PositionUnknown`, `NothingToClose`, `InvalidRequest`."""
    if (request.position_id is None) == (request.provider is None or request.market is None):
        raise InvalidRequest("give position_id, or provider and market", field="position_id")
    if request.position_id is not None:
        lot = ledger.position(request.position_id)
        if lot is None:
            raise PositionUnknown(f"there is no position {request.position_id}", position_id=request.position_id)
        if lot.status is PositionStatus.CLOSED:
            raise NothingToClose(f"{lot.position_id} is closed", position_id=lot.position_id)
        return (lot,)
    lots = _open_lots(ledger, request)
    if not lots:
        raise NothingToClose(f"nothing is open in {request.market} on {request.provider}")
    if len({lot.side for lot in lots}) > 1:
        raise InvalidRequest("both sides are open: say which with side", field="side")
    return lots


def _open_lots(ledger: Ledger, request: CloseRequest) -> tuple[PositionRecord, ...]:
    lots: list[PositionRecord] = []
    cursor: str | None = None
    while True:
        page, cursor = ledger.positions(
            limit=LOTS_PER_PAGE,
            cursor=cursor,
            provider=request.provider,
            market=request.market,
            side=request.side,
            status=PositionStatus.OPEN,
        )
        lots.extend(page)
        if cursor is None:
            return tuple(lots)


def reservations_for(
    request: CloseRequest, lots: tuple[PositionRecord, ...], market: Market | None
) -> tuple[Reservation, ...]:
    """Spread what is to be closed over the lots, oldest first.

    A size that is not all of what is left is rounded down to the market's step. It must neither be below the venue's
    smallest order nor leave less than that behind: such a rest could only be closed together with another lot. With
    `market` null (the venue cannot be read) the venue decides.

    Raises:
        NothingToClose: other closes have reserved all of it.
        InvalidRequest: more than is left, or a size that rounds to nothing (never sent as "close all").
        WouldLeaveDust: too small, or too little would be left.
    """
    available = [(lot, lot.size - lot.reserved_size) for lot in lots]
    total = sum((left for _, left in available), Decimal(0))
    if total <= 0:
        raise NothingToClose("other closes hold all that is left of it")
    wanted = _wanted(request, total)
    if market is not None and wanted < total:
        wanted = (wanted / market.step_size).to_integral_value(ROUND_FLOOR) * market.step_size
        _check_dust(wanted, total, market)
    reservations: list[Reservation] = []
    for lot, left in available:
        part = min(left, wanted)
        if part > 0:
            reservations.append(Reservation(position_id=lot.position_id, size=part))
            wanted -= part
    return tuple(reservations)


def _check_dust(wanted: Decimal, total: Decimal, market: Market) -> None:
    if wanted <= 0:
        raise InvalidRequest(
            "the size rounds to nothing on this venue", field="size", step_size=f"{market.step_size:f}"
        )
    if min(wanted, total - wanted) < market.min_size:
        raise WouldLeaveDust(
            f"closing {wanted:f} would leave {total - wanted:f}; neither may be below {market.min_size:f}",
            min_size=f"{market.min_size:f}",
            left=f"{total:f}",
        )


def _wanted(request: CloseRequest, total: Decimal) -> Decimal:
    if request.size is not None and request.fraction is not None:
        raise InvalidRequest("give size or fraction, not both", field="size")
    if request.size is not None:
        if request.size <= 0:
            raise InvalidRequest("size must be above zero", field="size")
        if request.size > total:
            raise InvalidRequest(f"only {total:f} is left to close", field="size", left=f"{total:f}")
        return request.size
    if request.fraction is not None:
        if not 0 < request.fraction <= 1:
            raise InvalidRequest("fraction must be above 0 and at most 1", field="fraction")
        return total * request.fraction
    return total
