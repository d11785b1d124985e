"""How long the engine waits before it does something about what stays as it is."""

from __future__ import annotations

from datetime import timedelta

import msgspec

__all__ = ["Patience"]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long an attempt may stay unclear, and how soon what failed is tried again.

    Attributes:
        unproven: without proof, before a sibling goes to the next provider (or a fence, where there is none).
        resting: of an order that rests without a fill, before it is cancelled in favour of the next provider.
        fence: before another fence is sent (the first may have been lost).
        cancel: before another cancel is sent.
        retry: before a provider that was passed or dead is asked again.
        blocked: before a close that the venue refuses is tried again; doubles up to `blocked_max`.
        blocked_sent_max: the same limit once many tries of the order were sent: each of those costs a fee and a row.
        blocked_ttl: the life of a try after the order's own deadline.
    """

    unproven: timedelta
    resting: timedelta
    fence: timedelta
    cancel: timedelta
    retry: timedelta = timedelta(seconds=1)
    blocked: timedelta = timedelta(seconds=1)
    blocked_max: timedelta = timedelta(seconds=60)
    blocked_sent_max: timedelta = timedelta(minutes=15)
    blocked_ttl: timedelta = timedelta(seconds=60)
