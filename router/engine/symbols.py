"""Market names: what callers write, and the one canonical form (`SOL-PERP`) that everything behind the edge uses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["canonical", "nearest"]

_SEPARATORS = re.compile(r"[-/_.: ]+")
# Longest first: `SOLUSDT` ends in `USDT`, not in `T`.
_SUFFIXES = ("PERPETUAL", "PERP", "USDT", "USDC", "USD")


def canonical(text: str) -> str:
    """Return the canonical symbol of what a caller wrote.

    Upper case, without separators, and without contract and quote words at the end: `SOLUSDT`, `SOL-USD`, `SOL/USDC`,
    `sol_perp`, `SOL/USDT:USDT` and `SOL` are all `SOL-PERP`. A name that consists of such a word alone keeps it
    (`USDC` is `USDC-PERP`). Nothing is looked up: the result need not be a market.

    Raises:
        ValueError: nothing but separators.
    """
    words = [word for word in _SEPARATORS.split(text.upper()) if word]
    if not words:
        raise ValueError("a market name needs a letter or digit")
    while len(words) > 1 and words[-1] in _SUFFIXES:
        words.pop()
    base = "".join(words)
    # `SOLUSDTPERP` carries two of them in a row; contract word first, then the quote currency.
    for group in (_SUFFIXES[:2], _SUFFIXES[2:]):
        suffix = next((suffix for suffix in group if base.endswith(suffix) and base != suffix), "")
        base = base[: len(base) - len(suffix)]
    return f"{base}-PERP"


def nearest(symbol: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return up to `count` of the known symbols that look most like `symbol`, best first."""
    by_base = {name.removesuffix("-PERP"): name for name in known}
    bases = difflib.get_close_matches(symbol.removesuffix("-PERP"), by_base, n=count, cutoff=0.4)
    return tuple(by_base[base] for base in bases)
