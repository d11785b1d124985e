"""What the venue's refusals mean."""

from __future__ import annotations

import pytest

from providers.base.errors import (
    AccountMissing,
    CustodyLimit,
    ErrorClass,
    FeePayerShort,
    InsufficientCollateral,
    InvalidTrigger,
    LeverageAboveMaximum,
    MarketPaused,
    NodeBehind,
    OracleStale,
    Phase,
    RequestRejected,
    TimedOut,
    UnknownCode,
    VenueHalted,
    WorstPriceNotMet,
)
from providers.jupiter.constants import PROGRAM_ID
from providers.jupiter.errors import JUPITER_ERRORS, classify, jupiter_refusal
from providers.solana.idl import Idl
from providers.solana.program_errors import at_phase
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM
from providers.solana.records import ProgramFailure
from tests.jupiter import jupiter_samples as samples

JUPITER = str(PROGRAM_ID)


def failure(code: int, program: str | None = JUPITER) -> ProgramFailure:
    """Return a failure as a node reports it."""
    return ProgramFailure(instruction_index=3, program_id=program, code=code, kind="Custom")


def test_every_code_of_the_program_has_an_entry() -> None:
    """All 67 codes are classified under the venue's own name, and none is unknown by accident."""
    codes = {each.code: each.name for each in Idl.load("jupiter_perps").errors}
    assert len(codes) == 67
    assert {code: refusal.name for code, refusal in JUPITER_ERRORS.items()} == codes
    unknown = {code for code, refusal in JUPITER_ERRORS.items() if refusal.leaf is UnknownCode}
    assert unknown == {6000, 6031, 6032, 6056, 6057}


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (6002, NodeBehind),
        (6003, OracleStale),
        (6019, InsufficientCollateral),
        (6021, WorstPriceNotMet),
        (6022, LeverageAboveMaximum),
        (6023, CustodyLimit),
        (6025, CustodyLimit),
        (6027, MarketPaused),
        (6034, RequestRejected),
        (6035, TimedOut),
        (6037, InvalidTrigger),
        (101, VenueHalted),
        (2006, RequestRejected),
        (3012, AccountMissing),
    ],
)
def test_codes_of_the_venue_instruction(code: int, leaf: type[Exception]) -> None:
    """A code at the venue's program gives its leaf and the raw code."""
    error = classify(failure(code), program_id=JUPITER)
    assert type(error) is leaf
    assert (error.phase, error.raw_code) == (Phase.NOT_SENT, str(code))
    assert error.raw_name


@pytest.mark.parametrize("code", [0, 1, 99, 5999, 6067, 2**32 - 1])
def test_codes_in_no_table_are_unclassified(code: int) -> None:
    """Nothing is guessed of a code that no table has."""
    assert type(classify(failure(code), program_id=JUPITER)) is UnknownCode


def test_codes_of_inner_programs_are_keyed_by_their_program() -> None:
    """The same number means different things at different programs."""
    assert type(classify(failure(1, str(TOKEN_PROGRAM)), program_id=JUPITER)) is InsufficientCollateral
    assert type(classify(failure(1, str(SYSTEM_PROGRAM)), program_id=JUPITER)) is FeePayerShort
    assert type(classify(failure(6023, str(TOKEN_PROGRAM)), program_id=JUPITER)) is UnknownCode


def test_a_landed_refusal_is_recorded_as_answered() -> None:
    """The same refusal after landing carries the phase of what happened."""
    info = at_phase(jupiter_refusal(6023), Phase.ANSWERED)
    assert (info.code, info.phase, info.raw_code) == ("custody_limit", Phase.ANSWERED, "6023")


@pytest.mark.shared
def test_codes_have_the_class_that_was_found_for_them() -> None:
    """Classes are those of the venue's page, but for codes where the tree of errors is finer."""
    table = samples.shared_json("venues", "errors.json")["jupiter_perps"]
    classes = {
        "unknown": ErrorClass.UNCLASSIFIED,
        "our_bug": ErrorClass.OUR_BUG,
        "collateral": ErrorClass.COLLATERAL,
        "price moved": ErrorClass.PRICE,
        "capacity": ErrorClass.CAPACITY,
        "connection/transient": ErrorClass.CONNECTION,
        "not reachable from perp trading": ErrorClass.OUR_BUG,
    }
    finer = {
        # A price that cannot be used is the tree's own leaf, with the connection's class.
        **dict.fromkeys((6003, 6004, *range(6044, 6051), 6055), ErrorClass.CONNECTION),
        # An oracle that has moved passes with the next read.
        6002: ErrorClass.CONNECTION,
        # What the venue does not take is no fault of the request.
        **dict.fromkeys((6007, 6022), ErrorClass.CAPACITY),
        6037: ErrorClass.INVALID,
    }
    assert len(table) == 67
    for code, row in table.items():
        found = JUPITER_ERRORS[int(code)].leaf.error_class
        assert found is finer.get(int(code), classes[row["class"]]), code
