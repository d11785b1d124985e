"""The attempt's state machine, written down. The ledger refuses every step that is not in the table."""

from __future__ import annotations

from router.ledger.records import AttemptState as S

__all__ = ["ATTEMPT_TRANSITIONS", "IllegalTransition", "check_transition"]

# A row: from -> the states that evidence may lead to. A state may always be confirmed again (settling is repeatable).
ATTEMPT_TRANSITIONS: dict[S, frozenset[S]] = {
    # Nothing was built: the provider refused. There is nothing to settle.
    S.REFUSED: frozenset(),
    # Durable, and perhaps never sent. A crash can leave it here for good, so every proof may follow.
    S.JOURNALED: frozenset({S.SENT, S.UNKNOWN, S.FILLED, S.PARTIALLY_FILLED, S.DEAD, S.SUPERSEDED}),
    S.SENT: frozenset({S.UNKNOWN, S.FILLED, S.PARTIALLY_FILLED, S.DEAD, S.SUPERSEDED}),
    S.UNKNOWN: frozenset({S.FILLED, S.PARTIALLY_FILLED, S.DEAD, S.SUPERSEDED}),
    # A fork may take back what was confirmed: the attempt is unclear again.
    # Landed again in another block, it may have filled less.
    S.FILLED: frozenset({S.UNKNOWN, S.PARTIALLY_FILLED}),
    S.PARTIALLY_FILLED: frozenset({S.UNKNOWN, S.FILLED}),
    # A proof of death that a fork takes back, or a fill on a dead attempt (a promise violation): booked, never hidden.
    S.DEAD: frozenset({S.UNKNOWN, S.FILLED, S.PARTIALLY_FILLED}),
    S.SUPERSEDED: frozenset({S.UNKNOWN, S.DEAD, S.FILLED, S.PARTIALLY_FILLED}),
}


class IllegalTransition(Exception):
    """An attempt was asked to take a step that the table does not have."""

    def __init__(self, attempt_id: str, before: S, after: S) -> None:
        super().__init__(f"attempt {attempt_id}: {before} -> {after} is not a legal transition")


def check_transition(attempt_id: str, before: S, after: S) -> None:
    """Raise `IllegalTransition` unless `after` may follow `before`."""
    if before is not after and after not in ATTEMPT_TRANSITIONS[before]:
        raise IllegalTransition(attempt_id, before, after)
