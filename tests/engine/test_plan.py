"""The plan, held against its rules over every order that hypothesis can think of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base.errors import ErrorClass, ErrorInfo, Phase
from providers.base.types import (
    Ack,
    Capabilities,
    Fill,
    LockRef,
    LockTerms,
    OrderKind,
    Purpose,
    Side,
    Submission,
)
from router.engine.plan import (
    CancelResting,
    Fence,
    Finish,
    FixTerms,
    Patience,
    PlanContext,
    Settle,
    Step,
    Supersede,
    Try,
    next_step,
    unresolved,
)
from router.ledger.records import (
    AttemptRecord,
    AttemptState,
    FillRecord,
    OrderRecord,
    OrderStatus,
    OrderView,
    SecondaryRecord,
    SecondaryState,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHAIN = ("alpha", "beta", "gamma")
PATIENCE = Patience(
    unproven=timedelta(seconds=4),
    resting=timedelta(seconds=10),
    fence=timedelta(seconds=3),
    cancel=timedelta(seconds=3),
)
LOCK = LockTerms(base="base", nonce="a" * 26, base_lamports=890_880)


def capabilities(*, order_lock: bool = True) -> Capabilities:
    return Capabilities(order_lock=order_lock, netting=True, cross_margin=True, rests=True)


def order(**changes: object) -> OrderRecord:
    fields: dict[str, object] = {
        "order_id": "ord_1",
        "caller": "local",
        "client_order_id": None,
        "kind": OrderKind.OPEN,
        "status": OrderStatus.PENDING,
        "market": "SOL-PERP",
        "side": Side.LONG,
        "provider": "auto",
        "requested_size": Decimal(1),
        "requested_size_usd": None,
        "requested_worst_price": None,
        "leverage": Decimal(1),
        "slippage_bps": 50,
        "request": b"{}",
        "size": Decimal(1),
        "worst_price": Decimal(151),
        "expected_price": Decimal(150),
        "deadline": NOON + timedelta(seconds=60),
        "lock": LOCK,
        "lock_reclaimed": False,
        "cancel_requested_at": None,
        "filled_by": None,
        "position_id": None,
        "reservations": (),
        "created_at": NOON,
        "updated_at": NOON,
        "chain": CHAIN,
    }
    return OrderRecord(**(fields | changes))  # type: ignore[arg-type]


@st.composite
def attempts(draw: st.DrawFn, number: int) -> AttemptRecord:
    state = draw(st.sampled_from(AttemptState))
    locked = draw(st.booleans())
    generation = draw(st.integers(0, 1))
    lock = LockRef(terms=LOCK, part=0, generation=generation) if locked else None
    error_class = draw(st.sampled_from(ErrorClass))
    refused = state is AttemptState.REFUSED
    dead = state is AttemptState.DEAD or refused
    return AttemptRecord(
        attempt_id=f"att_{number}",
        order_id="ord_1",
        number=number,
        provider=draw(st.sampled_from(CHAIN)),
        part=0,
        generation=generation,
        state=state,
        submission=None
        if refused
        else Submission(provider="alpha", purpose=Purpose.OPEN, handle=f"sig-{number}", body=b"{}", lock=lock),
        ack=draw(st.sampled_from([None, Ack(accepted=1)])),
        error=ErrorInfo(code="not_landed", error_class=error_class, phase=Phase.NOT_SENT) if dead else None,
        holder=None,
        evidence=(),
        resting=not state.final and draw(st.booleans()),
        finalized=False,
        started_at=NOON + timedelta(seconds=draw(st.integers(0, 80))),
        updated_at=NOON,
    )


@st.composite
def views(draw: st.DrawFn) -> OrderView:
    tried = tuple(draw(attempts(number)) for number in range(1, draw(st.integers(0, 4)) + 1))
    fence = SecondaryRecord(
        secondary_id="sec_1",
        purpose=draw(st.sampled_from([Purpose.FENCE, Purpose.CANCEL])),
        provider="solana",
        order_id="ord_1",
        attempt_id=None,
        part=0,
        generation=draw(st.integers(0, 1)),
        state=draw(st.sampled_from(SecondaryState)),
        submission=Submission(provider="solana", purpose=Purpose.FENCE, handle="fence", body=b"{}"),
        created_at=NOON + timedelta(seconds=draw(st.integers(0, 80))),
        updated_at=NOON,
    )
    fill = Fill(
        venue_fill_id="f",
        price=Decimal(150),
        size=Decimal(1),
        size_usd=Decimal(150),
        fee_usd=Decimal(0),
        signature="s",
        slot=1,
        filled_at=NOON,
    )
    filled = [a for a in tried if a.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}]
    return OrderView(
        order=order(
            kind=draw(st.sampled_from(OrderKind)),
            size=draw(st.sampled_from([None, Decimal(1)])) if not tried else Decimal(1),
            cancel_requested_at=draw(st.sampled_from([None, NOON])),
        ),
        attempts=tried,
        secondaries=draw(st.sampled_from([(), (fence,)])),
        fills=tuple(
            FillRecord(provider=a.provider, order_id="ord_1", attempt_id=a.attempt_id, fill=fill) for a in filled
        ),
        generation=max((a.generation for a in tried), default=0),
    )


@st.composite
def questions(draw: st.DrawFn) -> tuple[OrderView, PlanContext]:
    view = draw(views())
    context = PlanContext(
        now=NOON + timedelta(seconds=draw(st.integers(0, 90))),
        capabilities={name: capabilities(order_lock=draw(st.booleans())) for name in CHAIN},
        patience=PATIENCE,
        recovered=frozenset(draw(st.sets(st.sampled_from([a.attempt_id for a in view.attempts] or ["none"])))),
    )
    return view, context


def ask(question: tuple[OrderView, PlanContext]) -> Step:
    return next_step(*question)


@settings(max_examples=400, deadline=None)
@given(questions())
def test_an_order_never_ends_while_an_attempt_is_unclear(question: tuple[OrderView, PlanContext]) -> None:
    """Finish only when every outcome is proven."""
    view, _ = question
    if isinstance(ask(question), Finish):
        assert not unresolved(view)


@settings(max_examples=400, deadline=None)
@given(questions())
def test_beside_an_unclear_attempt_only_a_sibling_under_the_same_lock_is_tried(
    question: tuple[OrderView, PlanContext],
) -> None:
    """A second attempt beside an unclear one shares its lock generation, and the first does not rest."""
    view, context = question
    step = ask(question)
    if isinstance(step, Try):
        assert context.now < view.order.deadline
        assert view.order.cancel_requested_at is None
        assert not any(a.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED} for a in view.attempts)
        for attempt in unresolved(view):
            assert attempt.submission is not None
            assert attempt.submission.lock is not None
            assert not attempt.resting
            assert context.capabilities[step.provider].order_lock
            assert attempt.provider != step.provider
            assert attempt.generation == step.generation


@settings(max_examples=400, deadline=None)
@given(questions())
def test_after_a_class_that_forbids_it_nobody_else_is_asked(question: tuple[OrderView, PlanContext]) -> None:
    """Invalid, policy and our own bugs end the chain."""
    view, _ = question
    if view.attempts and isinstance(ask(question), Try) and not unresolved(view):
        error = view.attempts[-1].error
        assert error is None or error.error_class.allows_next_provider


@settings(max_examples=400, deadline=None)
@given(questions())
def test_nothing_is_resent_once_the_order_is_ending(question: tuple[OrderView, PlanContext]) -> None:
    """After the deadline or a cancel the bytes are left to expire or are fenced."""
    view, context = question
    step = ask(question)
    if isinstance(step, Settle) and step.rebroadcast:
        assert context.now < view.order.deadline
        assert view.order.cancel_requested_at is None


@settings(max_examples=400, deadline=None)
@given(questions())
def test_a_fence_is_only_built_for_attempts_that_carry_the_lock(question: tuple[OrderView, PlanContext]) -> None:
    """What rests holds the lock already, and what has no lock cannot be fenced."""
    view, _ = question
    step = ask(question)
    if isinstance(step, Fence):
        assert all(a.submission is not None and a.submission.lock is not None for a in unresolved(view))
        assert not any(a.resting for a in unresolved(view))


@settings(max_examples=400, deadline=None)
@given(questions())
def test_terms_are_fixed_only_before_the_first_submission(question: tuple[OrderView, PlanContext]) -> None:
    """The bound of an order is written once, and nothing is tried before it stands."""
    view, _ = question
    step = ask(question)
    if isinstance(step, FixTerms):
        assert view.order.size is None
    if isinstance(step, Try):
        assert view.order.size is not None


@settings(max_examples=400, deadline=None)
@given(questions())
def test_only_a_resting_attempt_is_cancelled_and_only_siblings_of_a_fill_are_superseded(
    question: tuple[OrderView, PlanContext],
) -> None:
    """A cancel names an attempt that rests; a sibling is written off only under the lock of an attempt that filled."""
    step = ask(question)
    if isinstance(step, CancelResting):
        assert step.attempt.resting
    if isinstance(step, Supersede):
        assert step.holder.state in {AttemptState.FILLED, AttemptState.PARTIALLY_FILLED}
        assert all(sibling.generation == step.holder.generation for sibling in step.siblings)
