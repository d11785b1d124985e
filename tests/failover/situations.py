"""The registry of the failover matrix: what is wrong with a venue, and what the chain does about it.

Every row is played in quote, open and close with the venue first in the chain and the other behind it; the table of
`docs/failover.md` is made of the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Literal

import msgspec

from providers.base.errors import CLOSE_BLOCKING_CODES, ErrorClass
from router.localnet.faults import FaultKind
from tests.failover.failover_desk import DRIFT, JUPITER, MANGO, Desk

__all__ = ["SITUATIONS", "Situation"]

# What a venue in trouble does to a close of what it holds.
Closes = Literal["fills", "waits", "fails"] | None


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a venue in trouble.

    Attributes:
        provider: whose venue it is.
        name: for test ids.
        text: for people.
        arrange: brings it about.
        slots: that pass until it is so.
        error_class, code, raw_code: of the passed provider's attempt; the raw code is null where the router reads the
            trouble from accounts or wires, before the program would say it.
        quoted: whether the venue still gives a quote.
        close: what becomes of a close there; it never goes elsewhere. Null where nothing can be held.
    """

    provider: str
    name: str
    text: str
    arrange: Callable[[Desk], object]
    slots: int = 5
    error_class: ErrorClass
    code: str
    raw_code: str | None = None
    quoted: bool = False
    close: Closes = "fills"

    def __str__(self) -> str:
        """Return the test id."""
        return f"{self.provider}-{self.name}"

    @property
    def other(self) -> str:
        """The provider that is asked next."""
        return MANGO if self.provider == DRIFT else DRIFT

    @property
    def blocks(self) -> bool:
        """Whether a close waits for the venue, however long (`close_blocked`)."""
        return self.code in CLOSE_BLOCKING_CODES


CAPACITY, CONNECTION, COLLATERAL = ErrorClass.CAPACITY, ErrorClass.CONNECTION, ErrorClass.COLLATERAL

# What can be wrong with a provider's own nodes, and what its errors are then called.
_WIRES: tuple[tuple[FaultKind, str, str | None, str], ...] = (
    ("refused", "unreachable", None, "its own nodes refuse connections"),
    ("dropped_before", "timed_out", None, "its own nodes are silent"),
    ("cut_before", "bad_answer", None, "its own nodes break connections"),
    ("http_429", "rate_limited", "429", "its own nodes answer 429"),
    ("http_503_before", "server_error", "503", "its own nodes answer 503"),
    ("html", "bad_answer", None, "its own nodes answer with a page of HTML"),
)


def _wires(provider: str) -> Iterator[Situation]:
    """Return the rows of a provider whose own nodes (`ROUTER_<PROVIDER>_RPC_URLS`) are in trouble."""
    for kind, code, raw_code, text in _WIRES:
        yield Situation(
            provider=provider,
            name=f"nodes_{kind}",
            text=text,
            arrange=partial(_cut_off, provider=provider, kind=kind),
            error_class=CONNECTION,
            code=code,
            raw_code=raw_code,
            close="fills",
        )


def _cut_off(desk: Desk, *, provider: str, kind: FaultKind) -> None:
    desk.cut_off(provider, kind)


SITUATIONS: tuple[Situation, ...] = (
    Situation(
        provider=DRIFT,
        name="open_interest_cap",
        text="at its open interest cap",
        arrange=lambda desk: desk.venues[DRIFT].cap_open_interest(),
        error_class=CAPACITY,
        code="open_interest_cap",
        raw_code="6154",
    ),
    Situation(
        provider=DRIFT,
        name="halted",
        text="halted: the program answers 101 to everything",
        arrange=lambda desk: desk.venues[DRIFT].halt(),
        slots=150,
        error_class=CAPACITY,
        code="halted",
        raw_code="101",
        close="waits",
    ),
    Situation(
        provider=DRIFT,
        name="paused",
        text="paused",
        arrange=lambda desk: desk.venues[DRIFT].pause(),
        error_class=CAPACITY,
        code="market_paused",
        raw_code="6024",
        close="waits",
    ),
    Situation(
        provider=DRIFT,
        name="reduce_only",
        text="the market takes reductions only",
        arrange=lambda desk: desk.venues[DRIFT].reduce_only(),
        error_class=CAPACITY,
        code="market_reduce_only",
        raw_code="6046",
    ),
    Situation(
        provider=DRIFT,
        name="no_liquidity",
        text="nobody to trade against (its AMM is paused)",
        arrange=lambda desk: desk.venues[DRIFT].remove_liquidity(),
        error_class=CAPACITY,
        code="market_paused",
        close="waits",
    ),
    Situation(
        provider=DRIFT,
        name="stale_oracle",
        text="its oracle has stopped",
        arrange=lambda desk: desk.venues[DRIFT].stale_oracle(),
        slots=30,
        error_class=CONNECTION,
        code="oracle_stale",
        raw_code="6266",
        close="waits",
    ),
    Situation(
        provider=DRIFT,
        name="out_of_collateral",
        text="the account's collateral is used up",
        arrange=lambda desk: desk.venues[DRIFT].collateral(Decimal(20)),
        error_class=COLLATERAL,
        code="insufficient_collateral",
        raw_code="6003",
        quoted=True,
    ),
    Situation(
        provider=DRIFT,
        name="account_missing",
        text="the account is not set up",
        arrange=lambda desk: desk.venues[DRIFT].forget_account(),
        error_class=ErrorClass.VENUE_ACCOUNT,
        code="account_missing",
        raw_code="3007",
        quoted=True,
        close=None,
    ),
    *_wires(DRIFT),
    Situation(
        provider=MANGO,
        name="halted",
        text="halted: the program answers 101 to everything",
        arrange=lambda desk: desk.venues[MANGO].halt(),
        slots=150,
        error_class=CAPACITY,
        code="halted",
        raw_code="101",
        close="waits",
    ),
    Situation(
        provider=MANGO,
        name="gate_closed",
        text="the group's gate closes perp orders",
        arrange=lambda desk: desk.venues[MANGO].pause(),
        error_class=CAPACITY,
        code="market_paused",
        raw_code="6042",
        close="waits",
    ),
    Situation(
        provider=MANGO,
        name="reduce_only",
        text="the market takes reductions only",
        arrange=lambda desk: desk.venues[MANGO].reduce_only(),
        error_class=CAPACITY,
        code="market_reduce_only",
        raw_code="6031",
    ),
    Situation(
        provider=MANGO,
        name="no_liquidity",
        text="its book is empty",
        arrange=lambda desk: desk.venues[MANGO].remove_liquidity(),
        error_class=CAPACITY,
        code="no_liquidity",
        close="fails",
    ),
    Situation(
        provider=MANGO,
        name="stale_oracle",
        text="its oracle has stopped",
        arrange=lambda desk: desk.venues[MANGO].stale_oracle(),
        slots=150,
        error_class=CONNECTION,
        code="oracle_stale",
        raw_code="6024",
        close="waits",
    ),
    Situation(
        provider=MANGO,
        name="out_of_collateral",
        text="the account's collateral is used up",
        arrange=lambda desk: desk.venues[MANGO].collateral(Decimal(12)),
        error_class=COLLATERAL,
        code="insufficient_collateral",
        raw_code="6007",
    ),
    Situation(
        provider=MANGO,
        name="account_missing",
        text="the account is not set up",
        arrange=lambda desk: desk.venues[MANGO].forget_account(),
        error_class=ErrorClass.VENUE_ACCOUNT,
        code="account_missing",
        raw_code="3012",
        quoted=True,
        close=None,
    ),
    *_wires(MANGO),
    Situation(
        provider=JUPITER,
        name="halted",
        text="halted: the program answers 101 to everything",
        arrange=lambda desk: desk.venues[JUPITER].halt(),
        slots=150,
        error_class=CAPACITY,
        code="halted",
        raw_code="101",
        close="waits",
    ),
    Situation(
        provider=JUPITER,
        name="paused",
        text="the program's permissions are off",
        arrange=lambda desk: desk.venues[JUPITER].pause(),
        error_class=CAPACITY,
        code="market_paused",
        raw_code="6027",
        close="waits",
    ),
    Situation(
        provider=JUPITER,
        name="reduce_only",
        text="the market takes reductions only",
        arrange=lambda desk: desk.venues[JUPITER].reduce_only(),
        error_class=CAPACITY,
        code="market_reduce_only",
        raw_code="6027",
    ),
    Situation(
        provider=JUPITER,
        name="side_cap",
        text="at the cap of one side",
        arrange=lambda desk: desk.venues[JUPITER].cap_open_interest(),
        error_class=CAPACITY,
        code="open_interest_cap",
    ),
    Situation(
        provider=JUPITER,
        name="custody_limit",
        text="the pool has no free tokens (`CustodyAmountLimit`)",
        arrange=lambda desk: desk.venues[JUPITER].remove_liquidity(),
        error_class=CAPACITY,
        code="custody_limit",
        raw_code="6023",
    ),
    Situation(
        provider=JUPITER,
        name="stale_oracle",
        text="its oracle has stopped",
        arrange=lambda desk: desk.venues[JUPITER].stale_oracle(),
        slots=30,
        error_class=CONNECTION,
        code="oracle_stale",
        raw_code="6003",
        close="waits",
    ),
    Situation(
        provider=JUPITER,
        name="out_of_collateral",
        text="the wallet has too little of the collateral's token",
        arrange=lambda desk: desk.venues[JUPITER].collateral(Decimal(20)),
        error_class=COLLATERAL,
        code="insufficient_collateral",
        raw_code="6019",
        quoted=True,
    ),
    *_wires(JUPITER),
)
