"""Attempts: the state machine, exclusion domains, acks, secondary transactions."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from providers.base.errors import NoLiquidity, Phase, ServerError
from providers.base.types import Ack, LockRef, Outcome, OutcomeState, Purpose
from router.ledger.protocol import LedgerError
from router.ledger.records import AttemptState, OrderStatus, SecondaryRecord, SecondaryState
from router.ledger.sqlite import SqliteLedger
from router.ledger.transitions import ATTEMPT_TRANSITIONS, IllegalTransition, check_transition
from tests.ledger.ledger_cases import (
    ACK,
    LOCK,
    UNKNOWN,
    a_fill,
    at,
    dead,
    filled,
    finish_filled,
    kinds,
    new_attempt,
    new_order,
    opened,
    ready,
    refused,
    with_ledger,
)

LEGAL = {
    "refused": "",
    "journaled": "sent unknown filled partially_filled dead superseded",
    "sent": "unknown filled partially_filled dead superseded",
    "unknown": "filled partially_filled dead superseded",
    "filled": "unknown partially_filled",
    "partially_filled": "unknown filled",
    "dead": "unknown filled partially_filled",
    "superseded": "unknown dead filled partially_filled",
}
PAIRS = [(before, after) for before in AttemptState for after in AttemptState]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_the_table_has_these_steps_and_no_other(before: AttemptState, after: AttemptState) -> None:
    """Every pair of states, against a table written by hand a second time."""
    legal = before is after or after.value in LEGAL[before.value].split()

    if legal:
        check_transition("att", before, after)
    else:
        with pytest.raises(IllegalTransition):
            check_transition("att", before, after)
    assert set(ATTEMPT_TRANSITIONS) == set(AttemptState)


def test_a_refusal_that_comes_again_is_the_same_row() -> None:
    """Only its words and its time change: no row, no event, no number more, however often it comes."""

    async def story(ledger: SqliteLedger) -> None:
        await ready(ledger)
        first = refused()
        await ledger.add_attempt(first)
        told = kinds(ledger)
        for second in (5, 9):
            again = NoLiquidity(f"still nothing at {second}", raw_code=6099).info()
            await ledger.repeat_refusal(first.attempt_id, again, at(second))
            view = ledger.order("ord_1")
            assert view is not None
            assert view.attempts == (msgspec.structs.replace(first, error=again, updated_at=at(second)),)
        assert kinds(ledger) == told

    with_ledger(story)


@pytest.mark.parametrize("state", ["another code", "sent", "unknown row"])
def test_only_the_same_refusal_is_repeated(state: str) -> None:
    """A row of another refusal, of an attempt that was journaled, or of none stays as it is."""

    async def story(ledger: SqliteLedger) -> None:
        await ready(ledger)
        attempt = new_attempt() if state == "sent" else refused()
        await ledger.add_attempt(attempt)
        error = ServerError("503").info() if state == "another code" else NoLiquidity("nothing").info()
        with pytest.raises(LedgerError):
            await ledger.repeat_refusal("att_9" if state == "unknown row" else attempt.attempt_id, error, at(5))
        view = ledger.order("ord_1")
        assert view is not None
        assert view.attempts == (attempt,)

    with_ledger(story)


OUTCOMES = {
    OutcomeState.FILLED: filled(),
    OutcomeState.PARTIALLY_FILLED: filled(state=OutcomeState.PARTIALLY_FILLED),
    OutcomeState.DEAD: dead(),
    OutcomeState.SUPERSEDED: Outcome(state=OutcomeState.SUPERSEDED, holder="sig_other"),
    OutcomeState.UNKNOWN: UNKNOWN,
}


@pytest.mark.parametrize("after", OutcomeState)
@pytest.mark.parametrize("before", [state for state in AttemptState if state is not AttemptState.REFUSED])
def test_the_ledger_takes_the_steps_of_the_table(before: AttemptState, after: OutcomeState) -> None:
    """From every state that an attempt can be in, each outcome is stored or refused as the table says."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        if before is AttemptState.SENT:
            await ledger.record_ack("att_ord_1_1", ACK, at(2))
        elif before is not AttemptState.JOURNALED:
            await ledger.record_outcome("att_ord_1_1", OUTCOMES[OutcomeState(before.value)], at(3))

        if before.value == after.value or after.value in LEGAL[before.value].split():
            await ledger.record_outcome("att_ord_1_1", OUTCOMES[after], at(4))
            expected: str = after.value
        else:
            with pytest.raises(IllegalTransition):
                await ledger.record_outcome("att_ord_1_1", OUTCOMES[after], at(4))
            expected = before.value
        view = ledger.order("ord_1")
        assert view is not None
        assert view.attempts[0].state.value == expected

    with_ledger(test)


@pytest.mark.parametrize("after", OutcomeState)
def test_a_refused_attempt_has_no_outcome(after: OutcomeState) -> None:
    """Nothing was built, so nothing can become of it; nor can it be sent."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(refused())

        with pytest.raises(IllegalTransition):
            await ledger.record_outcome("att_ord_1_1", OUTCOMES[after], at(4))
        with pytest.raises(LedgerError):
            await ledger.record_ack("att_ord_1_1", ACK, at(4))

    with_ledger(test)


def test_an_attempt_comes_back_as_it_was_given() -> None:
    """Submission bytes, lock and refusal included."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        passed, tried = refused(number=1), new_attempt(number=2)
        await ledger.add_attempt(passed)
        await ledger.add_attempt(tried)

        view = ledger.order("ord_1")
        assert view is not None
        assert view.attempts == (passed, tried)
        assert ledger.knows_handle("sig_ord_1_2")
        assert not ledger.knows_handle("sig_ord_1_1")

    with_ledger(test)


def test_the_first_ack_counts() -> None:
    """It makes `sent` of `journaled`; a second one changes nothing."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        error = ServerError("503", phase=Phase.MAYBE_SENT).info()
        await ledger.record_ack("att_ord_1_1", Ack(accepted=0, errors=(error,)), at(2))
        await ledger.record_ack("att_ord_1_1", Ack(accepted=2), at(3))

        view = ledger.order("ord_1")
        assert view is not None
        attempt = view.attempts[0]
        assert (attempt.state, attempt.ack) == (AttemptState.SENT, Ack(accepted=0, errors=(error,)))
        assert attempt.updated_at == at(2)

    with_ledger(test)


def test_an_ack_after_the_proof_keeps_the_proof() -> None:
    """Settlement may be faster than the answer of a slow node."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome("att_ord_1_1", filled(), at(2))
        await ledger.record_ack("att_ord_1_1", ACK, at(3))

        view = ledger.order("ord_1")
        assert view is not None
        assert (view.attempts[0].state, view.attempts[0].ack) == (AttemptState.FILLED, ACK)

    with_ledger(test)


def test_siblings_share_an_open_generation() -> None:
    """Under the same lock several attempts may be in flight."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt(number=1))
        await ledger.add_attempt(new_attempt(number=2, provider="mango"))

        view = ledger.order("ord_1")
        assert view is not None
        assert view.generation == 0

    with_ledger(test)


def test_a_number_is_never_reused() -> None:
    """Neither by another attempt nor after a refusal: it is k of the lock."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(refused(number=1))

        with pytest.raises(LedgerError):
            await ledger.add_attempt(new_attempt(number=1, attempt_id="att_again"))

    with_ledger(test)


def test_the_next_generation_waits_for_the_open_one() -> None:
    """Generation g + 1 is refused while g is open, g + 2 always, g once it is closed."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt(number=1))
        with pytest.raises(LedgerError, match="generation 0 of ord_1 is open"):
            await ledger.add_attempt(new_attempt(number=2, generation=1))
        await ledger.record_outcome("att_ord_1_1", dead(), at(3))
        with pytest.raises(LedgerError, match="generation 0 of ord_1 is open"):
            await ledger.add_attempt(new_attempt(number=2, generation=1))

        await ledger.close_domain("ord_1", 0, 0, at(4))
        await ledger.close_domain("ord_1", 0, 0, at(5))
        assert kinds(ledger).count("domain_closed") == 1
        view = ledger.order("ord_1")
        assert view is not None
        assert view.generation == 1
        for generation in (0, 2):
            with pytest.raises(LedgerError, match="the next generation"):
                await ledger.add_attempt(new_attempt(number=2, generation=generation))
        await ledger.add_attempt(new_attempt(number=2, generation=1))

    with_ledger(test)


def test_a_generation_taken_by_a_stranger_can_be_closed_unused() -> None:
    """The lock may be found held before any attempt of it was journaled; a later one has not begun."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        with pytest.raises(LedgerError, match="has not begun"):
            await ledger.close_domain("ord_1", 0, 1, at(2))
        await ledger.close_domain("ord_1", 0, 0, at(2))

        await ledger.add_attempt(new_attempt(generation=1))

    with_ledger(test)


def test_a_generation_that_filled_stays_open() -> None:
    """Nothing of the order may ever be tried again."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome("att_ord_1_1", filled(), at(3))

        with pytest.raises(LedgerError, match="has filled"):
            await ledger.close_domain("ord_1", 0, 0, at(4))
        with pytest.raises(LedgerError, match="has filled"):
            await ledger.add_attempt(new_attempt(number=2, provider="mango"))

    with_ledger(test)


def test_a_partial_fill_that_rests_shuts_others_out() -> None:
    """The first fill decides where the order is, also while more may come."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        outcome = Outcome(state=OutcomeState.UNKNOWN, fills=(a_fill(size="1"),), resting=True)
        await ledger.record_outcome("att_ord_1_1", outcome, at(3))

        with pytest.raises(LedgerError, match="has filled"):
            await ledger.add_attempt(new_attempt(number=2, provider="mango"))

    with_ledger(test)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
def test_without_a_lock_an_attempt_is_alone(first: bool, second: bool) -> None:  # noqa: FBT001 - parameters of a test
    """It is a domain of its own: nothing runs beside it, and the next waits for its proof."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt(number=1, locked=first))
        if not first:
            with pytest.raises(LedgerError, match="no lock"):
                await ledger.close_domain("ord_1", 0, 0, at(2))
        with pytest.raises(LedgerError, match="nothing may run beside it"):
            await ledger.add_attempt(new_attempt(number=2, provider="mango", locked=second))

        await ledger.record_outcome("att_ord_1_1", dead(), at(3))
        await ledger.add_attempt(new_attempt(number=2, provider="mango", locked=second))

    with_ledger(test)


def test_an_ended_order_takes_no_attempt() -> None:
    """Neither to send nor to tell of a refusal."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger)

        for attempt in (new_attempt(number=2), refused(number=2)):
            with pytest.raises(LedgerError, match="no further attempt"):
                await ledger.add_attempt(attempt)

    with_ledger(test)


def test_an_attempt_needs_fixed_terms() -> None:
    """Size and worst price are durable before the first attempt."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order())

        with pytest.raises(LedgerError, match="not fixed"):
            await ledger.add_attempt(new_attempt())
        await ledger.add_attempt(refused())

    with_ledger(test)


def test_a_submission_is_its_attempts_own() -> None:
    """Another purpose, provider, lock generation, a larger size, or no submission at all is refused."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        good = new_attempt()
        submission = good.submission
        assert submission is not None
        change = msgspec.structs.replace
        next_lock = LockRef(terms=LOCK, part=0, generation=1)
        for wrong in (
            change(submission, purpose=Purpose.CLOSE),
            change(submission, provider="mango"),
            change(submission, lock=next_lock),
            change(submission, size=Decimal("10.000000001")),
            None,
        ):
            with pytest.raises(LedgerError):
                await ledger.add_attempt(change(good, submission=wrong))
        with pytest.raises(LedgerError):
            await ledger.add_attempt(change(good, state=AttemptState.SENT))
        await ledger.add_attempt(good)

    with_ledger(test)


def test_the_same_bytes_are_one_attempt() -> None:
    """A handle names one transaction of one provider: a second attempt with it is refused."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt(number=1))

        twin = msgspec.structs.replace(new_attempt(number=2), submission=new_attempt(number=1).submission)
        with pytest.raises(LedgerError):
            await ledger.add_attempt(twin)

    with_ledger(test)


def a_fence(state: SecondaryState = SecondaryState.JOURNALED) -> SecondaryRecord:
    """Return a fence of generation 0."""
    submission = new_attempt(number=99, provider="solana").submission
    assert submission is not None
    return SecondaryRecord(
        secondary_id="sec_1",
        purpose=Purpose.FENCE,
        provider="solana",
        order_id="ord_1",
        attempt_id=None,
        part=0,
        generation=0,
        state=state,
        submission=msgspec.structs.replace(submission, purpose=Purpose.FENCE),
        created_at=at(5),
        updated_at=at(5),
    )


def test_a_secondary_transaction_is_written_ahead() -> None:
    """It comes back as given, moves on, and is never unsent."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        with pytest.raises(LedgerError):
            await ledger.add_secondary(a_fence(SecondaryState.SENT))
        await ledger.add_secondary(a_fence())
        view = ledger.order("ord_1")
        assert view is not None
        assert view.secondaries == (a_fence(),)
        assert ledger.knows_handle("sig_ord_1_99")

        await ledger.set_secondary("sec_1", SecondaryState.LANDED, at(6))
        await ledger.set_secondary("sec_1", SecondaryState.SENT, at(7))
        view = ledger.order("ord_1")
        assert view is not None
        assert view.secondaries[0].state is SecondaryState.LANDED
        with pytest.raises(LedgerError, match="unsent"):
            await ledger.set_secondary("sec_1", SecondaryState.JOURNALED, at(8))
        with pytest.raises(LedgerError, match="no secondary"):
            await ledger.set_secondary("sec_2", SecondaryState.SENT, at(8))

    with_ledger(test)


def test_a_row_without_its_parent_is_refused() -> None:
    """Foreign keys are on: nothing hangs in the air."""

    async def test(ledger: SqliteLedger) -> None:
        with pytest.raises(LedgerError):
            await ledger.add_secondary(a_fence())
        with pytest.raises(LedgerError):
            await ledger.add_attempt(new_attempt())
        for act in (ledger.record_outcome("att_x", UNKNOWN, at(1)), ledger.record_ack("att_x", ACK, at(1))):
            with pytest.raises(LedgerError, match="no attempt"):
                await act
        with pytest.raises(LedgerError, match="no order"):
            await ledger.finish_order("ord_x", OrderStatus.FAILED, at(1))

    with_ledger(test)


def test_what_is_known_of_landing_stays_known() -> None:
    """A look that shows less does not forget; an attempt unclear after its end starts anew."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome(
            "att_ord_1_1", Outcome(state=OutcomeState.UNKNOWN, landed=True, executed=True), at(3)
        )
        await ledger.record_outcome("att_ord_1_1", UNKNOWN, at(4))
        view = ledger.order("ord_1")
        assert view is not None
        assert (view.attempts[0].landed, view.attempts[0].executed) == (True, True)

        await ledger.record_outcome("att_ord_1_1", filled(), at(5))
        await finish_filled(ledger, "ord_1")
        await ledger.record_outcome("att_ord_1_1", UNKNOWN, at(6))
        view = ledger.order("ord_1")
        assert view is not None
        assert (view.attempts[0].landed, view.attempts[0].executed) == (None, None)

    with_ledger(test)
