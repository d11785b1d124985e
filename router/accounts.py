"""What an operator does to the trading account on a venue: set it up, deposit, look at it, unwrap what it was paid.

A deposit that is repeated is a deposit twice. So it is written ahead, carries a lock like an attempt, and a second one
is not begun while the first is not proven. The service has its ledger to itself; this has a small one beside it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Protocol, cast

import msgspec

from providers.base.clock import Clock, SystemClock
from providers.base.errors import NothingLeft, Phase, TimedOut
from providers.base.protocol import AccountKeeper
from providers.base.types import LockRef, Submission
from providers.solana.cluster import SolanaCluster
from router.ledger.records import SecondaryRecord, SecondaryState
from router.ledger.secondaries import send_written_ahead
from router.ledger.sqlite import SqliteLedger
from router.service import build_cluster, build_provider, ledger_path
from router.settings import Settings

__all__ = ["Done", "account_deposit", "account_init", "account_show", "account_unwrap"]

LOOK_S = 0.5
# A blockhash lives about a minute, and finality takes a quarter of one: by then the outcome is proven.
PATIENCE_S = 180.0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `signature` is null when there was nothing to do."""

    done: str
    signature: str | None


class _Unwraps(Protocol):
    """A venue that pays into a wrapped form of SOL (Jupiter)."""

    async def unwrap(self) -> Submission | None: ...


class _Session(msgspec.Struct, frozen=True):
    """What one command works with."""

    cluster: SolanaCluster
    keeper: AccountKeeper
    ledger: SqliteLedger
    clock: Clock


async def account_init(settings: Settings, provider: str) -> Done:
    """Set the account up; nothing is sent when it is there. Raise a `ProviderError` when it could not be done."""
    async with _session(settings, provider) as session:
        submission = await session.keeper.init()
        if submission is None:
            return Done(done="the account is there already", signature=None)
        await _carry_out(session, submission)
        return Done(done="the account is set up", signature=submission.handle)


async def account_deposit(settings: Settings, provider: str, amount_usd: Decimal) -> Done:
    """Deposit collateral once. Raise a `ProviderError`; after one with phase `maybe_sent`, ask again."""
    async with _session(settings, provider) as session:
        lock = LockRef(terms=await session.cluster.lock.new_terms(), part=0, generation=0)
        submission = await session.keeper.deposit(amount_usd, lock)
        await _carry_out(session, submission)
        return Done(done=f"{amount_usd:f} deposited", signature=submission.handle)


async def account_unwrap(settings: Settings, provider: str) -> Done:
    """Turn what the venue paid in wrapped SOL into SOL. Raise a `ProviderError` where it may not be done now."""
    async with _session(settings, provider) as session:
        if not callable(getattr(session.keeper, "unwrap", None)):
            raise NothingLeft(f"{provider} pays nothing that would have to be unwrapped")
        submission = await cast("_Unwraps", session.keeper).unwrap()
        if submission is None:
            return Done(done="there is nothing to unwrap", signature=None)
        await _carry_out(session, submission)
        return Done(done="unwrapped", signature=submission.handle)


async def account_show(settings: Settings, provider: str) -> msgspec.Struct:
    """Return the account as it is."""
    clock = SystemClock()
    cluster = build_cluster(settings, clock)
    try:
        return await cast("AccountKeeper", build_provider(settings, cluster, provider, clock)).show()
    finally:
        await cluster.aclose()


@asynccontextmanager
async def _session(settings: Settings, provider: str) -> AsyncGenerator[_Session]:
    clock = SystemClock()
    cluster = build_cluster(settings, clock)
    path = ledger_path(settings)
    try:
        ledger = SqliteLedger.open(path.with_name(f"{path.stem}.accounts{path.suffix}"), clock)
        try:
            await ledger.bind(await cluster.genesis_hash())
            keeper = cast("AccountKeeper", build_provider(settings, cluster, provider, clock))
            session = _Session(cluster, keeper, ledger, clock)
            for secondary in ledger.unsettled_secondaries():
                await _settle(session, secondary)
            yield session
        finally:
            await ledger.aclose()
    finally:
        await cluster.aclose()


async def _carry_out(session: _Session, submission: Submission) -> None:
    """Write it down, send it, and wait for the proof of what became of it."""
    secondary = await send_written_ahead(session.ledger, session.clock, submission, session.cluster.sender.submit)
    if not await _settle(session, secondary):
        raise TimedOut(f"{submission.handle} did not execute", phase=Phase.ANSWERED)


async def _settle(session: _Session, secondary: SecondaryRecord) -> bool:
    """Wait until it is proven at `finalized` whether the transaction executed."""
    until = session.clock.monotonic() + PATIENCE_S
    while session.clock.monotonic() < until:
        landed = await session.cluster.lock.landed(secondary.submission)
        if landed is not None:
            state = SecondaryState.LANDED if landed else SecondaryState.DEAD
            await session.ledger.set_secondary(secondary.secondary_id, state, session.clock.now())
            return landed
        await session.clock.sleep(LOOK_S)
    raise TimedOut(
        f"what became of {secondary.submission.handle} is not proven yet; the next command asks again",
        phase=Phase.MAYBE_SENT,
    )
