"""Every code that the program, Anchor and the inner programs can answer has a meaning."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from providers.base.errors import (
    AccountMissing,
    BelowMinimum,
    ErrorClass,
    FeePayerShort,
    InsufficientCollateral,
    MarketPaused,
    NodeBehind,
    NoLiquidity,
    OpenInterestCap,
    Phase,
    RequestRejected,
    UnknownCode,
    UnsupportedProgram,
    UserReduceOnly,
    VenueHalted,
)
from providers.drift.constants import PROGRAM_ID
from providers.drift.errors import DRIFT_ERRORS, classify, drift_refusal
from providers.solana.program_errors import ANCHOR_ERRORS, at_phase
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM
from providers.solana.records import ProgramFailure
from tests.drift.drift_samples import full_idl

DRIFT = str(PROGRAM_ID)

# The program's own arithmetic and invariants, and accounts that changed between reading and landing: there is no better
# class for them, and an operator should look.
DELIBERATELY_UNKNOWN = {
    6019, 6020, 6021, 6036, 6041, 6078, 6082, 6087, 6091, 6123, 6124, 6129, 6144, 6166,
    6167, 6168, 6170, 6172, 6173, 6192, 6193, 6202, 6203, 6206, 6216, 6218, 6219, 6223,
    6255,
}  # fmt: skip


def failure(
    code: int | None, program: str | None = DRIFT, kind: str = "Custom", index: int | None = 3
) -> ProgramFailure:
    """Return a failure as a node reports it."""
    return ProgramFailure(instruction_index=index, program_id=program, code=code, kind=kind)


def test_every_code_of_the_program_has_an_entry() -> None:
    """All 325 codes are classified under the venue's own name, and none is unknown by accident."""
    codes = {each["code"]: each["name"] for each in full_idl()["errors"]}
    assert len(codes) == 325
    assert {code: refusal.name for code, refusal in DRIFT_ERRORS.items()} == codes
    assert {code for code, refusal in DRIFT_ERRORS.items() if refusal.leaf is UnknownCode} == DELIBERATELY_UNKNOWN


def test_every_code_of_anchor_has_an_entry() -> None:
    """The framework's codes that its Python client knows are all in the table, under the same names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from anchorpy.error import _LangErrorCode  # noqa: PLC0415 - warns on import

    theirs = {each.value: each.name.replace("_", "").lower() for each in _LangErrorCode}
    for code, name in theirs.items():
        # 4000 went away with the state namespace, years before this program.
        assert code == 4000 or ANCHOR_ERRORS[code].name.lower() == name


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        (6003, InsufficientCollateral),
        (6024, MarketPaused),
        (6056, BelowMinimum),
        (6154, OpenInterestCap),
        (6252, NoLiquidity),
        (6254, UserReduceOnly),
        (101, VenueHalted),
        (2003, RequestRejected),
        (3007, AccountMissing),
        (3012, AccountMissing),
        (4100, UnsupportedProgram),
    ],
)
def test_codes_of_the_venue_instruction(code: int, leaf: type[Exception]) -> None:
    """A code at the venue's program gives its leaf, the raw code and the venue's name."""
    error = classify(failure(code), program_id=DRIFT)
    assert type(error) is leaf
    assert error.phase is Phase.NOT_SENT
    assert error.raw_code == str(code)
    assert error.raw_name == (DRIFT_ERRORS.get(code) or ANCHOR_ERRORS[code]).name


@pytest.mark.parametrize("code", [0, 1, 99, 199, 5999, 6325, 2**32 - 1])
def test_codes_in_no_table_are_unclassified(code: int) -> None:
    """A code below 100 at the venue's instruction comes from an inner program that is not known: nothing is guessed."""
    error = classify(failure(code), program_id=DRIFT)
    assert type(error) is UnknownCode
    assert error.raw_code == str(code)


def test_codes_of_inner_programs_are_keyed_by_their_program() -> None:
    """The same number means different things at different programs."""
    assert type(classify(failure(1, str(TOKEN_PROGRAM)), program_id=DRIFT)) is InsufficientCollateral
    assert type(classify(failure(1, str(SYSTEM_PROGRAM)), program_id=DRIFT)) is FeePayerShort
    assert type(classify(failure(0, str(SYSTEM_PROGRAM)), program_id=DRIFT)) is RequestRejected
    assert type(classify(failure(6154, str(TOKEN_PROGRAM)), program_id=DRIFT)) is UnknownCode
    assert type(classify(failure(6154, str(PROGRAM_ID)), program_id=str(TOKEN_PROGRAM))) is UnknownCode
    assert type(classify(failure(1, None), program_id=DRIFT)) is UnknownCode


def test_failures_without_a_code() -> None:
    """The runtime's own refusals keep their name; what is in no table stays unclassified."""
    assert type(classify(failure(None, None, "AccountNotFound", None), program_id=DRIFT)) is FeePayerShort
    assert type(classify(failure(None, None, "BlockhashNotFound", None), program_id=DRIFT)) is NodeBehind
    exceeded = classify(failure(None, kind="ProgramFailedToComplete"), program_id=DRIFT)
    assert type(exceeded) is UnknownCode
    assert exceeded.raw_name == "ProgramFailedToComplete"
    assert type(classify(failure(None, kind="MissingRequiredSignature"), program_id=DRIFT)) is RequestRejected


def test_a_landed_refusal_is_recorded_as_answered() -> None:
    """The same refusal after landing carries the phase of what happened."""
    info = at_phase(drift_refusal(6154), Phase.ANSWERED)
    assert (info.code, info.phase, info.raw_code, info.raw_name) == (
        "open_interest_cap",
        Phase.ANSWERED,
        "6154",
        "MaxOpenInterest",
    )


@pytest.fixture
def measured() -> dict[str, Any]:
    """Return the classes that were measured on the real program, where that data is at hand."""
    path = Path(__file__).parents[3] / "shared" / "venues" / "errors.json"
    if not path.exists():
        pytest.skip("the reference data is not beside the project")
    loaded: dict[str, Any] = json.loads(path.read_text())["drift_v2"]
    return loaded


@pytest.mark.shared
def test_measured_codes_keep_their_class(measured: dict[str, Any]) -> None:
    """What was measured on the real program has the class that it was given there."""
    classes = {
        "collateral": {ErrorClass.COLLATERAL},
        "capacity": {ErrorClass.CAPACITY},
        "capacity (halted)": {ErrorClass.CAPACITY},
        "below_minimum": {ErrorClass.CAPACITY},
        "venue_account": {ErrorClass.VENUE_ACCOUNT},
        "our_bug": {ErrorClass.OUR_BUG},
        "price": {ErrorClass.PRICE},
    }
    # A deposit cap is the venue's custody limit, not a fault of our account.
    otherwise = {6038: ErrorClass.CAPACITY}
    checked = 0
    for code, entry in measured.items():
        if entry["class"] == "unclassified":
            continue
        number = int(code)
        leaf = (DRIFT_ERRORS.get(number) or ANCHOR_ERRORS[number]).leaf
        assert leaf.error_class in classes[entry["class"]] | {otherwise.get(number)}, code
        checked += 1
    assert checked > 15
