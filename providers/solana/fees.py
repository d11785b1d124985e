"""The priority fee: a percentile of what recent blocks paid for the same accounts, between a floor and a cap."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["priority_fee"]


def priority_fee(recent: Sequence[int], *, percentile: int, floor: int, cap: int) -> int:
    """Return micro-lamports per compute unit.

    Args:
        recent: fee of each recent block that wrote the accounts, micro-lamports per compute unit.
        percentile: 0 to 100, nearest rank.
        floor: never less; also what is paid when nothing is known.
        cap: never more.
    """
    if not recent:
        return min(floor, cap)
    ordered = sorted(recent)
    rank = -(-percentile * len(ordered) // 100)
    return min(max(ordered[max(rank, 1) - 1], floor), cap)
