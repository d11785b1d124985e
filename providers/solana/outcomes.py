"""What every Solana venue says alike of an attempt: that it never executed, that it is dead, that nothing is proven."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from providers.base.errors import ErrorInfo, NotLanded, Phase, ProviderError
from providers.base.types import Evidence, Fill, Outcome, OutcomeState, Submission
from providers.solana.program_errors import at_phase
from providers.solana.proofs import Examination, Expired, FailedOnChain, Landed, Superseded, Unclear
from providers.solana.records import ProgramFailure, TransactionRecord

__all__ = ["Classifier", "dead", "evidence_of", "not_executed", "unknown"]

Classifier = Callable[[ProgramFailure, tuple[str, ...]], ProviderError]
"""What a failure and the logs of its transaction mean at a venue, phase `not_sent`."""


def not_executed(submission: Submission, examination: Examination, classify: Classifier) -> Outcome:
    """Return the outcome of a submission whose transaction executed nothing, or of which that is not known yet."""
    match examination:
        case FailedOnChain(record=record, failure=failure):
            error = classify(failure, record.logs)
            what = failure.kind if failure.code is None else f"{failure.kind} {failure.code}"
            evidence = evidence_of("landed_with_err", record, what)
            return dead(at_phase(error, Phase.ANSWERED), evidence, landed=True, finalized=record.finalized)
        case Superseded(holder=holder, slot=slot):
            return Outcome(
                state=OutcomeState.SUPERSEDED,
                executed=False,
                holder=holder,
                evidence=(Evidence(kind="lock_held", signature=holder, slot=slot, commitment="confirmed"),),
                slot=slot,
            )
        case Expired(slot=slot, height=height):
            kind = "expired_unknown" if submission.lock is None else "expired_lock_free"
            return dead(
                at_phase(NotLanded("it never executed, and its blockhash is past"), Phase.MAYBE_SENT),
                Evidence(kind=kind, detail=f"height {height}", slot=slot, commitment="finalized"),
                landed=False,
                finalized=True,
            )
        case Landed(record=record):
            return unknown("executed", record.slot, landed=True)
        case Unclear(reason=reason):
            return unknown(reason, None)


def evidence_of(kind: str, record: TransactionRecord, detail: str = "", *, fee_usd: Decimal | None = None) -> Evidence:
    """Return a transaction as evidence, at the commitment that it was read at."""
    return Evidence(
        kind=kind,
        detail=detail,
        signature=record.signature,
        slot=record.slot,
        commitment="finalized" if record.finalized else "confirmed",
        fee_usd=fee_usd,
    )


def dead(error: ErrorInfo, evidence: Evidence, *, landed: bool, executed: bool = False, finalized: bool) -> Outcome:
    """Return the outcome of an attempt that changed nothing and never can."""
    return Outcome(
        state=OutcomeState.DEAD,
        landed=landed,
        executed=executed,
        error=error,
        evidence=(evidence,),
        finalized=finalized,
        slot=evidence.slot,
    )


def unknown(
    reason: str,
    slot: int | None,
    *,
    landed: bool | None = None,
    fills: tuple[Fill, ...] = (),
    resting: bool = False,
) -> Outcome:
    """Return the outcome of an attempt of which nothing more can be shown; what `landed` executed too."""
    return Outcome(
        state=OutcomeState.UNKNOWN,
        landed=landed,
        executed=landed,
        fills=fills,
        resting=resting,
        evidence=(Evidence(kind="unclear", detail=reason, slot=slot),),
        slot=slot,
    )
