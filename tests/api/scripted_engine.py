"""An engine that does what a test tells it to: the API is tested on it over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from providers.base.errors import ErrorClass, ErrorInfo, Phase
from providers.base.types import (
    Evidence,
    Fill,
    Lifecycle,
    Market,
    OrderKind,
    Purpose,
    Quote,
    Side,
    Submission,
)
from router.engine.blocked import Block
from router.engine.limits import Limits
from router.engine.protection import LegState
from router.engine.protection_terms import (
    LegReport,
    Protection,
    ProtectionStatus,
    misplaced_leg,
    oversized_leg,
)
from router.engine.reports import MarketReport, MarketStatus, ProviderReport, Reconciliation, ReportStatus
from router.engine.requests import (
    BelowEveryMinimum,
    Candidate,
    CloseRequest,
    FindingNotFound,
    KeyMismatch,
    LeverageTooHigh,
    MarketListing,
    MarketUnknown,
    NothingForeignHeld,
    NothingToClose,
    OpenRequest,
    OpensHeld,
    OrderUnknown,
    Placed,
    PositionAnswer,
    PositionEnded,
    PositionUnknown,
    ProtectionRefused,
    ProtectRequest,
    ProviderListing,
    ProviderUnknown,
    QuoteAnswer,
    QuoteFailed,
    QuoteRequest,
)
from router.engine.symbols import nearest
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    FillRecord,
    FindingKind,
    FindingRecord,
    FindingStatus,
    Leg,
    LegKind,
    OrderRecord,
    OrderStatus,
    OrderView,
    PositionRecord,
    PositionStatus,
    ProtectionTerms,
)
from tests.api.scripted_venues import CHAIN, scripted_listings, scripted_safeguards

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PRICE = Decimal("150.25")
MARKETS = ("SOL-PERP", "BTC-PERP", "ETH-PERP")
SIGNATURE = "5" * 88

FINDING = FindingRecord(
    finding_id="fnd_1",
    kind=FindingKind.SIZE_DIFFERS,
    provider="drift",
    market="SOL-PERP",
    subject="SOL-PERP",
    detail={"venue_size": "-1.5"},
    evidence=(Evidence(kind="holdings", slot=7),),
    status=FindingStatus.OPEN,
    first_seen_at=NOW,
    last_seen_at=NOW,
    resolved_at=None,
    reason=None,
)


def error(code: str, error_class: ErrorClass, phase: Phase = Phase.NOT_SENT, raw: str | None = None) -> ErrorInfo:
    """Return an error as a provider would have it."""
    return ErrorInfo(code=code, error_class=error_class, phase=phase, detail=f"{code} happened", raw_name=raw)


class ScriptedEngine:
    """Implements `EngineFacade` in memory.

    Attributes:
        script: what the next orders become: a final status, or `pending` and `unknown` until `finish` is called.
        failures: with `failed`: the error of each attempt.
        opened, closed: every request that made an order.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next test begins."""
        self.script = OrderStatus.FILLED
        self.failures: tuple[ErrorInfo, ...] = ()
        self.failing: dict[str, str] = {}
        self.held_kinds: dict[str, str] = {}
        self.safeguards = scripted_safeguards(Limits())
        self.waited_protected: list[str] = []
        self.held: str | None = None
        self.block: Block | None = None
        self.candidates: tuple[Candidate, ...] | None = None
        self.explode: Exception | None = None
        self.placing_takes_s = 0.0
        self.reconciled = 0
        self.opened: list[OpenRequest] = []
        self.closed: list[CloseRequest] = []
        self.views: dict[str, OrderView] = {}
        self.lots: dict[str, PositionRecord] = {}
        self._keys: dict[tuple[str, str], tuple[str, str]] = {}

    def holds(self) -> Mapping[str, str]:
        return self.held_kinds

    def limit(self, limits: Limits) -> None:
        """Set limits, as at another start."""
        self.safeguards = scripted_safeguards(limits)

    # --- reconciliation ----------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        self.reconciled += 1

    def reconciliation(
        self,
        *,
        limit: int,
        cursor: str | None,
        kind: FindingKind | None,
        provider: str | None,
        status: FindingStatus | None,
    ) -> Reconciliation:
        market = MarketReport(
            market="SOL-PERP",
            side=None,
            booked_size=Decimal(-2),
            foreign_size=Decimal(0),
            venue_size=Decimal("-1.5"),
            status=MarketStatus.DIFFERS,
        )
        report = ProviderReport(
            provider="drift", status=ReportStatus.DIFFERS, detail="", slot=7, as_of=NOW, markets=(market,)
        )
        return Reconciliation(providers=(report,), findings=(FINDING,), next_cursor=None)

    async def acknowledge(self, finding_id: str, reason: str, caller: str) -> FindingRecord:
        if finding_id != "fnd_1":
            raise FindingNotFound(f"there is no finding {finding_id}", finding_id=finding_id)
        return replace(FINDING, status=FindingStatus.ACKNOWLEDGED, reason=f"{caller}: {reason}")

    async def adopt(self, provider: str, market: str, side: Side | None, caller: str) -> PositionAnswer:
        if market != "SOL-PERP" or side is Side.SHORT:
            raise NothingForeignHeld("nothing foreign is held", provider=provider, market=market)
        position = PositionRecord(
            position_id="pos_adopted",
            provider=provider,
            market=market,
            side=Side.LONG,
            status=PositionStatus.OPEN,
            size=Decimal(3),
            opened_size=Decimal(3),
            entry_price=PRICE,
            leverage=Decimal(1),
            opened_by_order=None,
            caller=caller,
            reserved_size=Decimal(0),
            realized_pnl_usd=Decimal(0),
            fees_usd=Decimal(0),
            opened_at=NOW,
            closed_at=None,
        )
        return PositionAnswer(
            position=position,
            mark_price=None,
            unrealized_pnl_usd=None,
            liquidation_price=None,
            protection=self._protection(position),
        )

    # --- quotes ------------------------------------------------------------------------------------------------------

    async def quote(self, request: QuoteRequest) -> QuoteAnswer:
        self._check(request.market, request.provider)
        if self.candidates is not None:
            raise QuoteFailed("nobody quotes", candidates=self.candidates)
        quote = self._quote(request)
        other = Candidate(provider="mango", error=error("retired", ErrorClass.CAPACITY))
        candidates = (Candidate(provider="drift", quote=quote), other)
        return QuoteAnswer(quote=quote, worst_price=PRICE * Decimal("1.005"), candidates=candidates)

    def _quote(self, request: QuoteRequest) -> Quote:
        size = request.size if request.size is not None else (request.size_usd or Decimal(0)) / PRICE
        size = size.quantize(Decimal("0.01"), rounding="ROUND_DOWN")
        if size < Decimal("0.01"):
            raise BelowEveryMinimum(
                "too small", minimums=[{"provider": "drift", "size": Decimal("0.01"), "size_usd": Decimal("1.5025")}]
            )
        if request.leverage > Decimal(20):
            raise LeverageTooHigh("nobody gives it", max_leverage={"drift": Decimal(20)})
        return Quote(
            provider="drift",
            market=request.market,
            side=request.side,
            size=size,
            size_usd=size * PRICE,
            leverage=request.leverage,
            oracle_price=Decimal("150.2"),
            expected_price=PRICE,
            price_impact_bps=Decimal("1.5"),
            fee_usd=Decimal("0.1"),
            fee_bps=Decimal(10),
            carry_rate_1h=Decimal("-1E-7"),
            margin_required_usd=size * PRICE / request.leverage,
            liquidation_price=None,
            max_leverage=Decimal(20),
            capacity_usd=Decimal("1E+6"),
            slot=1000,
            as_of=NOW,
            expires_at=NOW + timedelta(seconds=5),
        )

    def _check(self, market: str | None, provider: str | None) -> None:
        if self.explode is not None:
            raise self.explode
        if market is not None and market not in MARKETS:
            raise MarketUnknown(f"{market} is not known", nearest=nearest(market, MARKETS))
        if provider not in {"auto", None, *CHAIN}:
            raise ProviderUnknown(f"{provider} is not known", providers=CHAIN)

    # --- orders ------------------------------------------------------------------------------------------------------

    async def open(self, request: OpenRequest) -> Placed:
        self._check(request.market, request.provider)
        quote = self._quote(request)
        await self.safeguards.admit(request, CHAIN, quote.size_usd)
        if self.held is not None:
            raise OpensHeld("opens are held", reason=self.held)
        self._check_protection(request.protection, request.side, request.size)
        if (known := self._known(request.caller, request.key, request.fingerprint)) is not None:
            return Placed(view=known, replayed=True)
        await asyncio.sleep(self.placing_takes_s)
        self.opened.append(request)
        order = self._order(request, OrderKind.OPEN, request.market, request.side, quote.size)
        if self.script in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}:
            order = self._book_lot(order, quote.size)
            lot = self.lots[order.position_id or ""]
            self.lots[lot.position_id] = replace(lot, protection=request.protection)
            order = replace(order, protection=request.protection)
        return Placed(view=self._store(request, order), replayed=False)

    async def close(self, request: CloseRequest) -> Placed:
        self._check(request.market, request.provider)
        if (known := self._known(request.caller, request.key, request.fingerprint)) is not None:
            return Placed(view=known, replayed=True)
        lot = self._lot_of(request)
        size = request.size or lot.size * (request.fraction or Decimal(1))
        self.closed.append(request)
        left = lot.size - size
        self.lots[lot.position_id] = replace(
            lot,
            size=left,
            status=PositionStatus.OPEN if left else PositionStatus.CLOSED,
            closed_at=None if left else NOW,
        )
        order = self._order(request, OrderKind.CLOSE, lot.market, lot.side, size)
        return Placed(view=self._store(request, replace(order, position_id=lot.position_id)), replayed=False)

    def _lot_of(self, request: CloseRequest) -> PositionRecord:
        if request.position_id is not None:
            if request.position_id not in self.lots:
                raise PositionUnknown("no such position")
            lots = [self.lots[request.position_id]]
        else:
            lots = [lot for lot in self.lots.values() if lot.market == request.market]
        lots = [lot for lot in lots if lot.status is PositionStatus.OPEN]
        if not lots:
            raise NothingToClose("nothing is left")
        return lots[0]

    def _known(self, caller: str, key: str | None, fingerprint: str) -> OrderView | None:
        if key is None or (caller, key) not in self._keys:
            return None
        order_id, known = self._keys[caller, key]
        if known != fingerprint:
            raise KeyMismatch("the key belongs to another body", order_id=order_id)
        return self.views[order_id]

    def _order(
        self, request: OpenRequest | CloseRequest, kind: OrderKind, market: str, side: Side, size: Decimal
    ) -> OrderRecord:
        filled = self.script in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}
        opening = isinstance(request, OpenRequest)
        return OrderRecord(
            order_id=f"ord_{len(self.views) + 1}",
            caller=request.caller,
            client_order_id=request.client_order_id,
            kind=kind,
            status=self.script,
            market=market,
            side=side,
            provider=request.provider or "auto",
            requested_size=request.size,
            requested_size_usd=request.size_usd if isinstance(request, OpenRequest) else None,
            requested_worst_price=request.worst_price,
            leverage=request.leverage if opening and isinstance(request, OpenRequest) else Decimal(1),
            slippage_bps=request.slippage_bps,
            request=request.request,
            size=size,
            worst_price=PRICE * Decimal("1.005"),
            expected_price=PRICE,
            deadline=NOW + timedelta(seconds=request.ttl_s),
            lock=None,
            lock_reclaimed=False,
            cancel_requested_at=None,
            filled_by="drift" if filled else None,
            position_id=None,
            reservations=(),
            created_at=NOW,
            updated_at=NOW + timedelta(milliseconds=800),
            chain=CHAIN,
        )

    def _book_lot(self, order: OrderRecord, size: Decimal) -> OrderRecord:
        position_id = f"pos_{len(self.lots) + 1}"
        self.lots[position_id] = PositionRecord(
            position_id=position_id,
            provider="drift",
            market=order.market,
            side=order.side,
            status=PositionStatus.OPEN,
            size=size,
            opened_size=size,
            entry_price=PRICE,
            leverage=order.leverage,
            opened_by_order=order.order_id,
            caller=order.caller,
            reserved_size=Decimal(0),
            realized_pnl_usd=Decimal(0),
            fees_usd=Decimal("0.1"),
            opened_at=NOW,
            closed_at=None,
        )
        return replace(order, position_id=position_id)

    def _store(self, request: OpenRequest | CloseRequest, order: OrderRecord) -> OrderView:
        view = OrderView(order=order, attempts=self._attempts(order), secondaries=(), fills=self._fills(order))
        self.views[order.order_id] = view
        if request.key is not None:
            self._keys[request.caller, request.key] = (order.order_id, request.fingerprint)
        return view

    def _attempts(self, order: OrderRecord) -> tuple[AttemptRecord, ...]:
        if order.status is OrderStatus.FAILED:
            return tuple(
                attempt(order.order_id, number, AttemptState.DEAD, failure)
                for number, failure in enumerate(self.failures, start=1)
            )
        states = {
            OrderStatus.PENDING: AttemptState.SENT,
            OrderStatus.UNKNOWN: AttemptState.UNKNOWN,
            OrderStatus.FILLED: AttemptState.FILLED,
            OrderStatus.PARTIALLY_FILLED: AttemptState.PARTIALLY_FILLED,
            OrderStatus.CANCELLED: AttemptState.DEAD,
        }
        return (attempt(order.order_id, 1, states[order.status], None),)

    def _fills(self, order: OrderRecord) -> tuple[FillRecord, ...]:
        if order.filled_by is None or order.size is None:
            return ()
        half = order.size / 2
        fills = [
            Fill(
                venue_fill_id=f"{order.order_id}-{number}",
                price=price,
                size=half,
                size_usd=half * price,
                fee_usd=Decimal("0.05"),
                signature=SIGNATURE,
                slot=1000 + number,
                filled_at=NOW + timedelta(milliseconds=400),
            )
            for number, price in enumerate((PRICE - 1, PRICE + 1))
        ]
        return tuple(FillRecord(provider="drift", order_id=order.order_id, attempt_id="att_1", fill=f) for f in fills)

    async def finish(self, order_id: str, status: OrderStatus) -> None:
        """Give an open order its end."""
        view = self.views[order_id]
        filled = status in {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}
        order = replace(view.order, status=status, filled_by="drift" if filled else None)
        self.views[order_id] = replace(view, order=order, attempts=self._attempts(order), fills=self._fills(order))
        async with self._changed:
            self._changed.notify_all()

    async def cancel(self, order_id: str) -> OrderView:
        view = self.order(order_id)
        if not view.order.status.final:
            await self.finish(order_id, OrderStatus.CANCELLED)
        return self.order(order_id)

    async def wait(self, order_id: str, seconds: float) -> OrderView:
        async def final() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: self.order(order_id).order.status.final)

        try:
            await asyncio.wait_for(final(), seconds)
        except TimeoutError:
            return self.order(order_id)
        return self.order(order_id)

    def order(self, order_id: str) -> OrderView:
        if order_id not in self.views:
            raise OrderUnknown("no such order")
        return self.views[order_id]

    def orders(
        self, *, limit: int, cursor: str | None, provider: str | None, market: str | None, status: OrderStatus | None
    ) -> tuple[tuple[OrderView, ...], str | None]:
        views = [
            view
            for view in reversed(self.views.values())
            if status in {None, view.order.status}
            and market in {None, view.order.market}
            and provider in {None, view.order.filled_by}
        ]
        start = int(cursor or 0)
        return tuple(views[start : start + limit]), str(start + limit) if len(views) > start + limit else None

    # --- positions, markets, providers -------------------------------------------------------------------------------

    async def protect(self, request: ProtectRequest) -> PositionAnswer:
        if request.position_id not in self.lots:
            raise PositionUnknown("no such position")
        lot = self.lots[request.position_id]
        if lot.status is PositionStatus.CLOSED:
            raise PositionEnded("it is closed")
        terms = lot.protection
        for leg, wanted in request.legs.items():
            terms = terms.but(leg, wanted)
        self._check_protection(terms, lot.side, lot.size)
        self.lots[lot.position_id] = replace(lot, protection=terms)
        return await self.position(lot.position_id)

    def _check_protection(self, terms: ProtectionTerms, side: Side, size: Decimal | None) -> None:
        wrong = misplaced_leg(terms, side, PRICE, None) or (None if size is None else oversized_leg(terms, size))
        if wrong is not None:
            refusal = next(each for each in ProtectionRefused.__subclasses__() if each.code == wrong.code)
            raise refusal(wrong.detail, field=wrong.leg.value)

    async def wait_protected(self, order_id: str, seconds: float) -> None:
        self.waited_protected.append(order_id)

    def protection(self, view: OrderView) -> Protection | None:
        asked = view.order.position_id if view.order.protection else None
        return None if asked is None else self._protection(self.lots[asked])

    def _protection(self, position: PositionRecord) -> Protection:
        """The venue holds the stop; the take profit is watched here."""
        terms = [(leg, position.protection.of(leg)) for leg in Leg]
        legs = tuple(
            LegReport(
                leg=leg,
                kind=LegKind.NATIVE if leg is Leg.STOP_LOSS else LegKind.MANAGED,
                trigger_price=wanted.price,
                size=wanted.size or position.size,
                state=LegState.RESTING if leg is Leg.STOP_LOSS else LegState.WATCHING,
                reason=None,
                order_id="ord_99" if leg is Leg.STOP_LOSS else None,
                signature=SIGNATURE if leg is Leg.STOP_LOSS else None,
            )
            for leg, wanted in terms
            if wanted is not None
        )
        return Protection(status=ProtectionStatus.ACTIVE if legs else ProtectionStatus.NONE, legs=legs)

    async def position(self, position_id: str) -> PositionAnswer:
        if position_id not in self.lots:
            raise PositionUnknown("no such position")
        return PositionAnswer(
            position=self.lots[position_id],
            mark_price=PRICE,
            protection=self._protection(self.lots[position_id]),
            unrealized_pnl_usd=Decimal("-0E-9"),
            liquidation_price=None,
        )

    async def positions(
        self, *, limit: int, cursor: str | None, provider: str | None, market: str | None, status: PositionStatus | None
    ) -> tuple[tuple[PositionAnswer, ...], str | None]:
        lots = [
            lot
            for lot in self.lots.values()
            if status in {None, lot.status} and market in {None, lot.market} and provider in {None, lot.provider}
        ]
        start = int(cursor or 0)
        page = [await self.position(lot.position_id) for lot in lots[start : start + limit]]
        return tuple(page), str(start + limit) if len(lots) > start + limit else None

    async def markets(self) -> tuple[MarketListing, ...]:
        return tuple(
            MarketListing(
                symbol=symbol,
                providers=(
                    Market(
                        provider="drift",
                        symbol=symbol,
                        venue_symbol=symbol,
                        step_size=Decimal("0.01"),
                        min_size=Decimal("0.01"),
                        tick_size=Decimal("1E-4"),
                        max_leverage=Decimal(20),
                        initial_margin_ratio=Decimal("0.05"),
                        maintenance_margin_ratio=Decimal("0.03"),
                        lifecycle=Lifecycle.LIVE,
                        oracle_price=PRICE,
                    ),
                ),
            )
            for symbol in MARKETS
        )

    async def providers(self) -> tuple[ProviderListing, ...]:
        listings = scripted_listings(NOW, error("timed_out", ErrorClass.CONNECTION))
        return tuple(map(self.safeguards.marked, listings))

    def readiness(self) -> Mapping[str, str]:
        return self.failing

    def blocked(self, view: OrderView) -> Block | None:
        return self.block if not view.order.status.final else None

    def explorer_url(self, signature: str) -> str:
        return f"https://explorer.example/tx/{signature}"


def attempt(order_id: str, number: int, state: AttemptState, failure: ErrorInfo | None) -> AttemptRecord:
    """Return one attempt of an order; without a submission when the provider refused."""
    refused = failure is not None and failure.phase is Phase.NOT_SENT
    submission = Submission(
        provider="drift",
        purpose=Purpose.OPEN,
        handle=SIGNATURE,
        body=b"{}",
        may_fill_until=NOW + timedelta(seconds=60 + number),
    )
    return AttemptRecord(
        attempt_id=f"att_{number}",
        order_id=order_id,
        number=number,
        provider=CHAIN[number - 1],
        part=0,
        generation=0,
        state=AttemptState.REFUSED if refused else state,
        submission=None if refused else submission,
        ack=None,
        error=failure,
        holder=None,
        evidence=() if refused else (Evidence(kind="fill_record", signature=SIGNATURE, slot=1000),),
        resting=False,
        finalized=False,
        started_at=NOW,
        updated_at=NOW + timedelta(milliseconds=412),
    )
