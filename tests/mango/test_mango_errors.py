"""What the venue's refusals mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.base.errors import (
    AccountMissing,
    BeingLiquidated,
    ErrorClass,
    FeePayerShort,
    InsufficientCollateral,
    MarketPaused,
    MarketReduceOnly,
    NoFreeSlot,
    NoLiquidity,
    OracleStale,
    Phase,
    RequestRejected,
    UnknownCode,
    UnsupportedProgram,
    VenueHalted,
)
from providers.mango.constants import PROGRAM_ID
from providers.mango.errors import MANGO_ERRORS, classify, mango_refusal
from providers.solana.idl import Idl
from providers.solana.program_errors import at_phase
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM
from providers.solana.records import ProgramFailure
from tests.mango.mango_samples import SHARED

MANGO = str(PROGRAM_ID)


def failure(
    code: int | None, program: str | None = MANGO, kind: str = "Custom", index: int | None = 3
) -> ProgramFailure:
    """Return a failure as a node reports it."""
    return ProgramFailure(instruction_index=index, program_id=program, code=code, kind=kind)


def test_every_code_of_the_program_has_an_entry() -> None:
    """All 73 codes are classified under the venue's own name, and none is unknown by accident."""
    codes = {each.code: each.name for each in Idl.load("mango_v4").errors}
    assert len(codes) == 73
    assert {code: refusal.name for code, refusal in MANGO_ERRORS.items()} == codes
    unknown = {code for code, refusal in MANGO_ERRORS.items() if refusal.leaf is UnknownCode}
    assert unknown == {6000, 6002, 6003, 6017, 6047}


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (6007, InsufficientCollateral),
        (6013, NoFreeSlot),
        (6016, BeingLiquidated),
        (6023, OracleStale),
        (6024, OracleStale),
        (6031, MarketReduceOnly),
        (6032, VenueHalted),
        (6042, MarketPaused),
        (101, VenueHalted),
        (2006, RequestRejected),
        (2500, RequestRejected),
        (3007, AccountMissing),
        (3012, AccountMissing),
        (4100, UnsupportedProgram),
    ],
)
def test_codes_of_the_venue_instruction(code: int, leaf: type[Exception]) -> None:
    """A code at the venue's program gives its leaf and the raw code."""
    error = classify(failure(code), program_id=MANGO)
    assert type(error) is leaf
    assert (error.phase, error.raw_code) == (Phase.NOT_SENT, str(code))
    assert error.raw_name


@pytest.mark.parametrize("code", [0, 1, 99, 199, 5999, 6073, 2**32 - 1])
def test_codes_in_no_table_are_unclassified(code: int) -> None:
    """A code below 100 at the venue's instruction comes from an inner program that is not known: nothing is guessed."""
    error = classify(failure(code), program_id=MANGO)
    assert type(error) is UnknownCode
    assert error.raw_code == str(code)


def test_other_codes_of_the_framework_are_our_bug() -> None:
    """Whatever the framework says of an account, the request was wrong."""
    assert type(classify(failure(2023), program_id=MANGO)) is RequestRejected
    assert type(classify(failure(3017), program_id=MANGO)) is RequestRejected


def test_codes_of_inner_programs_are_keyed_by_their_program() -> None:
    """The same number means different things at different programs."""
    assert type(classify(failure(1, str(TOKEN_PROGRAM)), program_id=MANGO)) is InsufficientCollateral
    assert type(classify(failure(1, str(SYSTEM_PROGRAM)), program_id=MANGO)) is FeePayerShort
    assert type(classify(failure(6007, str(TOKEN_PROGRAM)), program_id=MANGO)) is UnknownCode
    assert type(classify(failure(1, None), program_id=MANGO)) is UnknownCode


def test_a_full_event_queue_panics() -> None:
    """Only the log tells a panic from an exhausted budget; of another program's panic nothing is concluded."""
    panic = ("Program log: panicked at 'called `Option::unwrap()` on a `None` value'",)
    died = failure(None, kind="ProgramFailedToComplete")
    assert type(classify(died, panic, program_id=MANGO)) is NoLiquidity
    assert type(classify(died, ("Program failed: exceeded CUs meter",), program_id=MANGO)) is UnknownCode
    assert type(classify(failure(None, "other", "ProgramFailedToComplete"), panic, program_id=MANGO)) is UnknownCode


def test_failures_without_a_code() -> None:
    """The runtime's own refusals keep their name."""
    assert type(classify(failure(None, None, "AccountNotFound", None), program_id=MANGO)) is FeePayerShort
    assert type(classify(failure(None, kind="MissingRequiredSignature"), program_id=MANGO)) is RequestRejected


def test_a_landed_refusal_is_recorded_as_answered() -> None:
    """The same refusal after landing carries the phase of what happened."""
    info = at_phase(mango_refusal(6031), Phase.ANSWERED)
    assert (info.code, info.phase, info.raw_code) == ("market_reduce_only", Phase.ANSWERED, "6031")


@pytest.mark.shared
def test_codes_have_the_class_that_was_found_for_them() -> None:
    """Classes are those of the venue's page, but for codes where the tree of errors is finer."""
    path = SHARED / "venues" / "errors.json"
    if not path.exists():
        pytest.skip("the reference data is not beside the project")
    table: dict[str, Any] = json.loads(path.read_text())["mango_v4"]
    classes = {
        "unknown": ErrorClass.UNCLASSIFIED,
        "our_bug": ErrorClass.OUR_BUG,
        "collateral": ErrorClass.COLLATERAL,
        "venue_account": ErrorClass.VENUE_ACCOUNT,
        "capacity": ErrorClass.CAPACITY,
        "connection/transient": ErrorClass.CONNECTION,
        "not reachable from perp trading": ErrorClass.OUR_BUG,
    }
    finer = {
        # An uncertain or old price is the tree's own leaf, with the connection's class.
        **dict.fromkeys((6023, 6024, 6066, 6067), ErrorClass.CONNECTION),
        # A bankrupt, liquidated or frozen account is the account's state.
        **dict.fromkeys((6009, 6029, 6038), ErrorClass.VENUE_ACCOUNT),
        # An account that changed after it was read.
        **dict.fromkeys((6003, 6017, 6047), ErrorClass.UNCLASSIFIED),
        # One's own order in the way.
        6048: ErrorClass.CAPACITY,
    }
    assert len(table) == 73
    for code, entry in table.items():
        number = int(code)
        expected = finer.get(number, classes[entry["class"]])
        assert MANGO_ERRORS[number].leaf.error_class is expected, code
        assert MANGO_ERRORS[number].name == entry["name"]
