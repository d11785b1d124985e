"""A desk whose one venue may hold triggers itself, and whose prices the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path

import msgspec

from providers.base.clock import VirtualClock
from providers.base.errors import InvalidTrigger, ProviderError
from providers.base.types import Ack, OrderTerms, Outcome, Purpose, Quote, QuoteTerms, Side, Submission, VenuePosition
from router.engine.protection import LegState
from router.engine.protection_terms import LegReport, Protection
from router.engine.requests import OpenRequest, PositionAnswer, ProtectRequest
from router.ledger.records import Leg, LegTerms, OrderView, PositionRecord, ProtectionTerms
from router.localnet.virtual_time import run_virtual
from tests.engine.harness import Desk
from tests.engine.scripted import STEP, Executed, Play, ScriptedChain, ScriptedProvider

__all__ = ["TriggerVenue", "guard", "leg_of", "open_protected", "patch", "protection"]


class TriggerVenue(ScriptedProvider):
    """A venue that holds triggers, or (`native` false) none; every order of it fills at once unless scripted.

    Attributes:
        refusals: what the next placements of triggers are answered with.
        stale: what quotes raise; null while prices are good.
        settled: how often each submission was asked about.
        cancels_lost: cancels that never arrive.
        liquidation_price: of the account.
        fires_half: whether triggers fill only half of their size.
    """

    def __init__(self, chain: ScriptedChain, *, native: bool) -> None:
        super().__init__("alpha", chain)
        self.capabilities = msgspec.structs.replace(self.capabilities, native_triggers=native)
        self.triggers: dict[str, OrderTerms] = {}
        self.refusals: list[ProviderError] = []
        self.stale: ProviderError | None = None
        self.settled: dict[str, int] = {}
        self.cancels_lost = 0
        self.liquidation_price: Decimal | None = None
        self.fires_half = False
        self._cancels: dict[str, str] = {}

    async def quote(self, terms: QuoteTerms) -> Quote:
        """Return a price, unless the oracle is too old for it."""
        if self.stale is not None:
            raise self.stale
        return msgspec.structs.replace(await super().quote(terms), liquidation_price=self.liquidation_price)

    async def positions(self) -> tuple[VenuePosition, ...]:
        """Return the truth of the book."""
        held = await super().positions()
        return tuple(msgspec.structs.replace(each, liquidation_price=self.liquidation_price) for each in held)

    async def prepare_trigger(self, terms: OrderTerms) -> Submission:
        """Return a close that rests."""
        assert terms.trigger is not None
        if self.refusals:
            raise self.refusals.pop(0)
        if self.oracle is not None and (self.oracle >= terms.trigger.price) == terms.trigger.above:
            raise InvalidTrigger("it would fire at once")
        submission = self._prepare(terms, Purpose.CLOSE)
        self.triggers[submission.handle] = terms
        return submission

    async def submit(self, submission: Submission) -> Ack:
        """Let a trigger rest, and a cancel end the one order that it names."""
        if submission.handle in self.triggers and submission.handle not in self.truth:
            self.plays.insert(0, Play(what="rest"))
        if submission.purpose is not Purpose.CANCEL:
            return await super().submit(submission)
        self.chain.arrive(submission)
        self.sent.append(submission.handle)
        if self.cancels_lost:
            self.cancels_lost -= 1
        else:
            self.truth[self._cancels[submission.handle]].ended = True
        return Ack(accepted=1)

    async def settle(self, submission: Submission) -> Outcome:
        """Count the question."""
        self.settled[submission.handle] = self.settled.get(submission.handle, 0) + 1
        return await super().settle(submission)

    async def cancel(self, submission: Submission) -> Submission | None:
        """Return a cancel of this order alone."""
        cancel = await super().cancel(submission)
        if cancel is not None:
            self._cancels[cancel.handle] = submission.handle
        return cancel

    def resting(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Return the triggers that rest: price and size, by handle."""
        self._execute_due()
        sizes = {submission.handle: submission.size for submission in self.submissions}
        return {
            handle: (terms.trigger.price, sizes[handle])
            for handle, terms in self.triggers.items()
            if terms.trigger is not None and (truth := self.truth.get(handle)) is not None and not truth.ended
        }

    def move(self, oracle: str, *, keeper: bool = True) -> None:
        """Move the price; a keeper then fires every trigger that it has reached."""
        self.oracle = Decimal(oracle)
        self.price = self.oracle
        for handle, (price, size) in self.resting().items():
            terms = self.triggers[handle].trigger
            if keeper and terms is not None and (self.oracle >= price) == terms.above:
                self._fire(self.truth[handle], size)

    def _fire(self, truth: Executed, size: Decimal) -> None:
        # Reduce-only: never more than what the account holds.
        part = size / 2 if self.fires_half else size
        truth.filled = min(part, self.exposure()).quantize(STEP, rounding=ROUND_FLOOR)
        truth.ended = True


def guard(
    story: Callable[[Desk, TriggerVenue], Awaitable[None]], *, native: bool = True, path: str | Path = ":memory:"
) -> None:
    """Run a story on virtual time with one venue, and hold its end against what the venue holds."""

    async def main() -> None:
        chain = ScriptedChain(VirtualClock(seed=1))
        venue = TriggerVenue(chain, native=native)
        desk = Desk(chain, {"alpha": venue}, path)
        await desk.engine.start()
        try:
            await asyncio.wait_for(_told(story, desk, venue), timeout=36_000)
        finally:
            await desk.engine.aclose()
            await desk.ledger.aclose()

    run_virtual(main())


async def _told(story: Callable[[Desk, TriggerVenue], Awaitable[None]], desk: Desk, venue: TriggerVenue) -> None:
    await story(desk, venue)
    assert desk.exposure() == venue.exposure(), "the ledger and the venue disagree"
    assert desk.chain.unjournaled == []
    assert "protection_restless" not in desk.told.alerts
    assert "protection_round_failed" not in desk.told.alerts


async def open_protected(
    desk: Desk,
    *,
    stop: str | None = "140",
    take: str | None = "160",
    size: str = "2",
    take_size: str | None = None,
    side: Side = Side.LONG,
    wait: bool = True,
) -> OrderView:
    """Open with a stop and a take profit and wait until they are there."""
    count = len(desk.ledger.orders(limit=200)[0])
    request = OpenRequest(
        caller="local",
        key=f"open-{count}",
        client_order_id=None,
        fingerprint=f"body-{count}",
        market="SOL-PERP",
        side=side,
        size=Decimal(size),
        protection=ProtectionTerms(stop_loss=_terms(stop), take_profit=_terms(take, take_size)),
    )
    placed = await desk.engine.open(request)
    if not wait:
        return placed.view
    view = await desk.end_of(placed.view.order.order_id)
    await desk.engine.wait_protected(view.order.order_id, 60)
    return view


def _terms(price: str | None, size: str | None = None) -> LegTerms | None:
    return None if price is None else LegTerms(price=Decimal(price), size=None if size is None else Decimal(size))


async def patch(desk: Desk, lot: PositionRecord, **legs: str | None) -> PositionAnswer:
    """Set, change or take away legs."""
    wanted = {Leg(name): _terms(price) for name, price in legs.items()}
    return await desk.engine.protect(ProtectRequest(caller="local", position_id=lot.position_id, legs=wanted))


async def protection(desk: Desk, lot: PositionRecord) -> Protection:
    """Return how far a lot's protection is."""
    return (await desk.engine.position(lot.position_id)).protection


async def leg_of(desk: Desk, lot: PositionRecord, leg: Leg, state: LegState | None = None) -> LegReport:
    """Return one leg, once it is in a state where one is named."""
    for _ in range(200):
        found = {report.leg: report for report in (await protection(desk, lot)).legs}
        if leg in found and state in {None, found[leg].state}:
            return found[leg]
        await desk.clock.sleep(0.5)
    raise AssertionError(f"{leg} never became {state}: {await protection(desk, lot)}")
