"""What a venue adapter answers, and what the order lock answers. Structural types; nothing inherits from them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from providers.base.types import (
    Ack,
    Capabilities,
    Holdings,
    LockRef,
    LockState,
    LockTerms,
    Market,
    OrderTerms,
    Outcome,
    ProviderState,
    Quote,
    QuoteTerms,
    Submission,
    VenueHistory,
    VenuePosition,
)

__all__ = ["AccountKeeper", "OrderLock", "Protector", "Provider", "Reconcilable", "SignerHistory"]


class Provider(Protocol):
    """One venue. It never decides about failover, and never sends on its own.

    Every method but `submit` may be called at any time, again and again, by any number of tasks. All raise leaves of
    `ProviderError`; from `prepare_*` and `quote` the phase is always `not_sent`.
    """

    @property
    def name(self) -> str:
        """Lower-case name, as in `provider=drift`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What kind of venue this is."""
        ...

    async def markets(self) -> tuple[Market, ...]:
        """Return what can be traded, with steps, minimums and margins, read from the venue."""
        ...

    async def state(self) -> ProviderState:
        """Return the venue's lifecycle and the capacity left per market and side."""
        ...

    async def quote(self, terms: QuoteTerms) -> Quote:
        """Return the all-in price for an order now."""
        ...

    async def prepare_open(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign an open. Nothing has been sent; a refusal proves that nothing was."""
        ...

    async def prepare_close(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a reduce-only close."""
        ...

    async def submit(self, submission: Submission) -> Ack:
        """Give the journaled bytes to every node. The same submission may be given again: the bytes are the same.

        Never raises for what a node answers: errors after the first byte are data in the `Ack`, and prove nothing.
        """
        ...

    async def settle(self, submission: Submission) -> Outcome:
        """Return what this attempt became, as far as it can be proven now, from the submission alone."""
        ...

    async def cancel(self, submission: Submission) -> Submission | None:
        """Build a cancel of what rests from `submission`, by the venue's own order id; null when nothing rests."""
        ...

    async def positions(self) -> tuple[VenuePosition, ...]:
        """Return what the account holds on the venue, at `confirmed`."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class AccountKeeper(Protocol):
    """The part of a provider that an operator uses: set the trading account up, fill it, look at it."""

    async def init(self) -> Submission | None:
        """Build the set-up of the account (purpose `setup`); null when it is there already."""
        ...

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a deposit of collateral (purpose `deposit`); with a lock it can execute only once."""
        ...

    async def show(self) -> msgspec.Struct:
        """Return the account as it is, for people."""
        ...


class Protector(Protocol):
    """The part of a provider whose venue keeps stops and take profits itself (`Capabilities.native_triggers`)."""

    async def prepare_trigger(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a reduce-only close that rests until `terms.trigger`.

        It never closes more than `terms.size`. `terms.worst_price` bounds it where the venue can bound a trigger.
        `settle` reports it `unknown` and `resting` while it waits, its fills once it fired, `dead` once it has ended
        without one; `cancel` ends it by the venue's own order id.
        """
        ...

    async def trigger_size(self, submission: Submission) -> Decimal | None:
        """Return the base units that a trigger which rests would close now; null when there is nothing to close."""
        ...


class OrderLock(Protocol):
    """The on-chain idempotency key of DESIGN 6, for every provider of one cluster."""

    async def new_terms(self) -> LockTerms:
        """Return the terms of a new order's lock."""
        ...

    async def prepare_fence(self, lock: LockRef) -> Submission:
        """Build and sign the bare lock instruction with k = 0 (purpose `fence`)."""
        ...

    async def submit(self, submission: Submission) -> Ack:
        """Give a fence or reclaim to every node."""
        ...

    async def state(self, lock: LockRef, known: Sequence[str] = ()) -> LockState:
        """Return who holds a generation, `known` signatures looked at first, by as many nodes as absence needs."""
        ...

    async def expired(self, submission: Submission) -> bool:
        """Whether the submission can never land any more, shown at `finalized`, whatever became of it before."""
        ...

    async def prepare_reclaim(self, locks: Sequence[LockRef]) -> Submission | None:
        """Build the return of the lamports of held locks (purpose `reclaim`); null when none of them holds any."""
        ...

    async def shortage(self) -> str | None:
        """Say what the fee payer is short of to open (reserve for closing and fencing included); null when nothing."""
        ...

    async def landed(self, submission: Submission) -> bool | None:
        """Whether a fence or reclaim landed without error at `finalized`; null while not known."""
        ...


class Reconcilable(Protocol):
    """The part of a provider that the ledger is held against (reconciliation)."""

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return positions and resting orders, read at once at or after `min_slot`; raise `NodeBehind`."""
        ...

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed the account's holdings after a mark, up to and with `through_slot`.

        Args:
            after: the mark that an earlier call gave as `newest`, or the signature of a transaction; null reads only a
                mark, and no events (`complete` is then true). An account without any transaction has a mark too.
            through_slot: transactions of later slots are left for the next time.
        """
        ...


class SignerHistory(Protocol):
    """What our key has signed, whoever sent it (a restored backup, a second router on the key)."""

    async def own_transactions(self, after: str | None, through_slot: int) -> tuple[tuple[str, ...], str | None]:
        """Return the signatures of landed transactions *signed by our key* after a mark, oldest first.

        The second value is the mark of what was read (of any transaction that names the key): the next `after`. With
        `after` null nothing is returned but that mark. Raises `ProviderError` where history cannot be read whole.
        """
        ...
