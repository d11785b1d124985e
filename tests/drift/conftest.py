"""Imports the venue's own library once, with the warnings that its dependencies give on import silenced."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Sum types of anchorpy and driftpy use what attrs has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import anchorpy.error
    import driftpy.drift_user
    import driftpy.math.amm  # noqa: F401 - imported for its side effect: later imports find it loaded
