"""Imports the venue's own library once, with the warnings that its dependencies give on import silenced."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Sum types of anchorpy and driftpy use what attrs has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import driftpy.drift_user
    import driftpy.math.amm  # noqa: F401 - imported for its side effect: later imports find it loaded

from pathlib import Path

import pytest

from tests.drift.drift_desk import BINARY_VARIABLE, program_binary


@pytest.fixture(params=["model", "program"])
def binary(request: pytest.FixtureRequest) -> Path | None:
    """Return where the venue's program comes from: the model in Python, or the real one where its file is named."""
    if request.param == "model":
        return None
    path = program_binary()
    if path is None:
        pytest.skip(f"{BINARY_VARIABLE} names no file: the real program is not run")
    if not path.is_file():
        pytest.fail(f"{BINARY_VARIABLE} is {path}, which is no file")
    return path
