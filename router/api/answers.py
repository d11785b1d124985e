"""From the engine's records to the documents of the API. Nothing is decided here, and nothing is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

import msgspec

from providers.base.errors import ErrorInfo, NothingLeft, Phase
from providers.base.types import Evidence, OrderKind, OutcomeState, Quote, Trigger
from router.api.schemas import (
    AttemptAnswer,
    BlockAnswer,
    CandidateAnswer,
    CapacityAnswer,
    ErrorAnswer,
    EvidenceAnswer,
    FillAnswer,
    HaltAnswer,
    LegAnswer,
    MarketAnswer,
    MarketProviderAnswer,
    OrderAnswer,
    PositionDocument,
    PriceAnswer,
    ProtectionAnswer,
    ProviderAnswer,
    QuoteDocument,
    TriggerAnswer,
)
from router.engine.blocked import Block
from router.engine.protection_terms import Protection
from router.engine.requests import Candidate, MarketListing, PositionAnswer, ProviderListing, QuoteAnswer
from router.ledger.records import AttemptRecord, AttemptState, FillRecord, HaltRecord, LegTerms, OrderStatus, OrderView

__all__ = [
    "candidate_answer",
    "furthest_phase",
    "halt_answer",
    "later_try_can_help",
    "market_answer",
    "order_answer",
    "order_status",
    "plain",
    "position_document",
    "protection_answer",
    "provider_answer",
    "quote_document",
]

_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
_FINEST: Final = Decimal(1).scaleb(-18)
_PRICE_STEP: Final = Decimal(1).scaleb(-12)

# What no waiting changes: the order itself is wrong for that venue, or the venue is gone.
_FOR_GOOD: Final = frozenset(
    {"retired", "unsupported_program", "not_listed", "below_minimum", "leverage_above_maximum"}
)

# What ends an order though it passes by itself, or by an operator's hand.
_PASSING: Final = frozenset({"trading_halted", "price_reference_missing"})

_OUTCOMES: Final = {
    AttemptState.REFUSED: OutcomeState.DEAD,
    AttemptState.JOURNALED: OutcomeState.UNKNOWN,
    AttemptState.SENT: OutcomeState.UNKNOWN,
    AttemptState.UNKNOWN: OutcomeState.UNKNOWN,
    AttemptState.FILLED: OutcomeState.FILLED,
    AttemptState.PARTIALLY_FILLED: OutcomeState.PARTIALLY_FILLED,
    AttemptState.DEAD: OutcomeState.DEAD,
    AttemptState.SUPERSEDED: OutcomeState.SUPERSEDED,
}


def plain(amount: Decimal) -> str:
    """Return a finite amount in plain notation: no exponent, no zeros at the end, no negative zero.

    At most 18 digits after the point (half to even beyond). Raises `ValueError` for NaN and infinities: they are no
    amounts, and must not reach a caller.
    """
    if not amount.is_finite():
        raise ValueError(f"{amount} is not an amount")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -18:  # noqa: PLR2004 - digits that the API prints
        amount = amount.quantize(_FINEST, context=_WIDE)
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def error_answer(error: ErrorInfo | None) -> ErrorAnswer | None:
    """Return an error as the API shows it; the venue's name, or its code where it has no name."""
    if error is None:
        return None
    return ErrorAnswer(
        code=error.code,
        error_class=error.error_class,
        name=error.raw_name or error.raw_code,
        detail=error.detail,
        phase=error.phase,
    )


def later_try_can_help(errors: Iterable[ErrorInfo]) -> bool:
    """Whether the same order, tried later, may end otherwise; so too when nobody said anything."""
    hopeless = [
        error.code in _FOR_GOOD or not (error.error_class.allows_next_provider or error.code in _PASSING)
        for error in errors
    ]
    return not hopeless or not all(hopeless)


# --- quotes ----------------------------------------------------------------------------------------------------------


def _price_fields(quote: Quote) -> dict[str, object]:
    amounts = {
        name: _plain(getattr(quote, name))
        for name in (
            "size",
            "size_usd",
            "leverage",
            "oracle_price",
            "expected_price",
            "price_impact_bps",
            "fee_usd",
            "fee_bps",
            "carry_rate_1h",
            "margin_required_usd",
            "liquidation_price",
            "max_leverage",
            "capacity_usd",
            "collateral_amount",
        )
    }
    named = ("market", "side", "provider", "collateral_token", "slot", "as_of", "expires_at")
    same = {name: getattr(quote, name) for name in named}
    return {**amounts, **same}


def candidate_answer(candidate: Candidate) -> CandidateAnswer:
    """Return one provider's quote or error."""
    quote = candidate.quote
    return CandidateAnswer(
        provider=candidate.provider,
        quote=None if quote is None else PriceAnswer(**_price_fields(quote)),  # type: ignore[arg-type]
        error=error_answer(candidate.error),
    )


def quote_document(answer: QuoteAnswer) -> QuoteDocument:
    """Return the chosen quote with everybody's."""
    return QuoteDocument(
        **_price_fields(answer.quote),  # type: ignore[arg-type]
        worst_price=plain(answer.worst_price),
        candidates=tuple(map(candidate_answer, answer.candidates)),
    )


# --- orders ----------------------------------------------------------------------------------------------------------


def order_status(view: OrderView) -> int:
    """Return the HTTP status that belongs to an open or close as it is now; 422 and 503 are problem documents."""
    order = view.order
    match order.status:
        case OrderStatus.PENDING | OrderStatus.UNKNOWN:
            return 202
        case OrderStatus.FILLED | OrderStatus.PARTIALLY_FILLED:
            return 201 if order.kind is OrderKind.OPEN else 200
        case OrderStatus.CANCELLED:
            return 200
        case OrderStatus.FAILED:
            return 503 if later_try_can_help(_errors(view)) else 422


def furthest_phase(view: OrderView) -> Phase:
    """Return how far the order came: whether anything of it landed, or may have been sent."""
    phases = {error.phase for error in _errors(view)}
    # An attempt without an error was journaled at the least, and perhaps sent.
    if any(attempt.error is None for attempt in view.attempts):
        phases.add(Phase.MAYBE_SENT)
    return next((phase for phase in (Phase.ANSWERED, Phase.MAYBE_SENT) if phase in phases), Phase.NOT_SENT)


def order_answer(
    view: OrderView,
    explorer_url: Callable[[str], str],
    block: Block | None,
    protection: Protection | None = None,
) -> OrderAnswer:
    """Return an order with its attempts, the sum of its fills, what blocks it, and the protection it asked for."""
    order = view.order
    size = _accepted_size(view)
    asked_first = (order.chain or tuple(attempt.provider for attempt in view.attempts))[:1]
    return OrderAnswer(
        order_id=order.order_id,
        kind=order.kind,
        cause=order.cause,
        trigger=_trigger_answer(order.trigger),
        status=order.status,
        market=order.market,
        side=order.side,
        size=_plain(size),
        size_usd=_plain(_accepted_usd(view, size)),
        requested=msgspec.json.decode(order.request, type=dict[str, str | int]),
        worst_price=_plain(order.worst_price),
        deadline=order.deadline,
        leverage=plain(order.leverage),
        provider=order.filled_by,
        fallback_used=order.filled_by is not None and (order.filled_by,) != asked_first,
        position_id=order.position_id,
        client_order_id=order.client_order_id,
        may_fill_until=max(
            (
                attempt.submission.may_fill_until
                for attempt in view.attempts
                if not attempt.state.final and attempt.submission and attempt.submission.may_fill_until
            ),
            default=None,
        ),
        fill=_fill_answer(view.fills, explorer_url),
        attempts=attempt_answers(view),
        blocked=None if block is None else _block_answer(block),
        protection=None if protection is None else protection_answer(protection),
        created_at=order.created_at,
        updated_at=order.updated_at,
    )


def _trigger_answer(trigger: Trigger | None) -> TriggerAnswer | None:
    return None if trigger is None else TriggerAnswer(price=plain(trigger.price), above=trigger.above)


def protection_answer(protection: Protection) -> ProtectionAnswer:
    """Return how far a position's protection is."""
    return ProtectionAnswer(
        status=protection.status,
        legs=tuple(
            LegAnswer(
                leg=leg.leg,
                kind=leg.kind,
                trigger_price=plain(leg.trigger_price),
                size=plain(leg.size),
                state=leg.state,
                reason=leg.reason,
                order_id=leg.order_id,
                signature=leg.signature,
            )
            for leg in protection.legs
        ),
    )


def _block_answer(block: Block) -> BlockAnswer:
    return BlockAnswer(
        code="close_blocked",
        cause=block.cause.code,
        detail=block.cause.detail,
        advice=block.advice,
        since=block.since,
        next_try_at=block.next_try_at,
    )


def attempt_answers(view: OrderView) -> tuple[AttemptAnswer, ...]:
    """Return every attempt of an order, in order."""
    return tuple(map(_attempt_answer, view.attempts))


def _attempt_answer(attempt: AttemptRecord) -> AttemptAnswer:
    return AttemptAnswer(
        provider=attempt.provider,
        outcome=_OUTCOMES[attempt.state],
        error=error_answer(attempt.error),
        signature=attempt.submission.handle if attempt.submission else None,
        evidence=tuple(map(_evidence_answer, attempt.evidence)),
        started_at=attempt.started_at,
        elapsed_ms=(attempt.updated_at - attempt.started_at) // timedelta(milliseconds=1),
    )


def _evidence_answer(evidence: Evidence) -> EvidenceAnswer:
    return EvidenceAnswer(
        kind=evidence.kind,
        detail=evidence.detail,
        signature=evidence.signature,
        slot=evidence.slot,
        commitment=evidence.commitment,
    )


def _fill_answer(fills: Sequence[FillRecord], explorer_url: Callable[[str], str]) -> FillAnswer | None:
    if not fills:
        return None
    size = sum((record.fill.size for record in fills), Decimal(0))
    paid = Decimal(0)
    for record in fills:
        paid = _WIDE.add(paid, _WIDE.multiply(record.fill.price, record.fill.size))
    # A fill that a fork took back leaves nothing to divide by.
    price = _WIDE.divide(paid, size).quantize(_PRICE_STEP, context=_WIDE) if size else fills[-1].fill.price
    latest = max((record.fill for record in fills), key=lambda fill: (fill.slot, fill.filled_at))
    return FillAnswer(
        price=plain(price),
        size=plain(size),
        size_usd=plain(sum((record.fill.size_usd for record in fills), Decimal(0))),
        fee_usd=plain(sum((record.fill.fee_usd for record in fills), Decimal(0))),
        signature=latest.signature,
        slot=latest.slot,
        filled_at=latest.filled_at,
        explorer_url=explorer_url(latest.signature),
    )


def _accepted_size(view: OrderView) -> Decimal | None:
    """Return the base units that count as full: of the attempt that filled, else of the latest, else of the order."""
    built = [attempt for attempt in view.attempts if attempt.submission and attempt.submission.size]
    filled = [attempt for attempt in built if attempt.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}]
    for attempt in (*filled[-1:], *built[-1:]):
        if attempt.submission:
            return attempt.submission.size
    return view.order.size if view.order.size is not None else view.order.requested_size


def _accepted_usd(view: OrderView, size: Decimal | None) -> Decimal | None:
    """Return the accepted size at the expected price, to a millionth of a dollar; as asked until that is known."""
    expected = view.order.expected_price
    if expected is None or size is None:
        return view.order.requested_size_usd
    return _WIDE.multiply(size, expected).quantize(Decimal("0.000001"), context=_WIDE)


def _errors(view: OrderView) -> list[ErrorInfo]:
    if view.order.error and view.order.error.code == NothingLeft.code:
        # Whatever was in the way before: there is nothing left to try again.
        return [view.order.error]
    errors = [attempt.error for attempt in view.attempts if attempt.error]
    return [*errors, view.order.error] if view.order.error and not errors else errors


# --- positions, markets, providers -----------------------------------------------------------------------------------


def position_document(answer: PositionAnswer) -> PositionDocument:
    """Return a position with what the market says of it now."""
    position = answer.position
    price = position.entry_price if answer.mark_price is None else answer.mark_price
    return PositionDocument(
        position_id=position.position_id,
        provider=position.provider,
        market=position.market,
        side=position.side,
        size=plain(position.size),
        size_usd=plain(_WIDE.multiply(position.size, price).quantize(Decimal("0.000001"), context=_WIDE)),
        entry_price=plain(position.entry_price),
        leverage=plain(position.leverage),
        opened_by_order=position.opened_by_order,
        adopted=position.opened_by_order is None,
        mark_price=_plain(answer.mark_price),
        unrealized_pnl_usd=_plain(answer.unrealized_pnl_usd),
        liquidation_price=_plain(answer.liquidation_price),
        stop_loss=_leg_price(position.protection.stop_loss),
        take_profit=_leg_price(position.protection.take_profit),
        protection=protection_answer(answer.protection),
        status=position.status,
        opened_at=position.opened_at,
        closed_at=position.closed_at,
        realized_pnl_usd=plain(position.realized_pnl_usd),
        fees_usd=plain(position.fees_usd),
        funding_usd=_plain(position.funding_usd),
    )


def _leg_price(terms: LegTerms | None) -> str | None:
    return None if terms is None else plain(terms.price)


def market_answer(listing: MarketListing) -> MarketAnswer:
    """Return a market and where it trades."""
    return MarketAnswer(
        market=listing.symbol,
        providers=tuple(
            MarketProviderAnswer(
                provider=market.provider,
                venue_symbol=market.venue_symbol,
                lifecycle=market.lifecycle,
                reason=market.lifecycle_reason,
                step_size=plain(market.step_size),
                min_size=plain(market.min_size),
                tick_size=plain(market.tick_size),
                max_leverage=plain(market.max_leverage),
                initial_margin_ratio=plain(market.initial_margin_ratio),
                maintenance_margin_ratio=plain(market.maintenance_margin_ratio),
                oracle_price=_plain(market.oracle_price),
            )
            for market in listing.providers
        ),
    )


def provider_answer(listing: ProviderListing) -> ProviderAnswer:
    """Return a provider as it was last read."""
    return ProviderAnswer(
        provider=listing.provider,
        position_in_chain=listing.position_in_chain,
        lifecycle=listing.lifecycle,
        reason=listing.reason,
        capacity=tuple(
            CapacityAnswer(market=capacity.market, side=capacity.side, capacity_usd=_plain(capacity.capacity_usd))
            for capacity in listing.capacity
        ),
        slot=listing.slot,
        as_of=listing.as_of,
        error=error_answer(listing.error),
        halted=None if listing.halt is None else halt_answer(listing.halt),
    )


def halt_answer(record: HaltRecord) -> HaltAnswer:
    """Return where opens are switched off, and by whom."""
    return HaltAnswer(provider=record.provider, reason=record.reason, caller=record.caller, since=record.since)
