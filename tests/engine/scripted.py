"""A made-up venue at the provider protocol: it plays a script, and keeps the truth that the engine must find.

The venue has a clock, an order lock with the runtime's guarantee (one holder of a generation, for ever), and a book of
what really executed. What the engine is told, and when, is the script's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal

import msgspec

from providers.base.clock import Clock
from providers.base.errors import LockHeld, NotLanded, Phase, ProviderError, Unreachable, WorstPriceNotMet
from providers.base.types import (
    Ack,
    Capabilities,
    Evidence,
    Fill,
    Lifecycle,
    LockRef,
    LockState,
    LockTerms,
    Market,
    OrderTerms,
    Outcome,
    OutcomeState,
    ProviderState,
    Purpose,
    Quote,
    QuoteTerms,
    Side,
    Submission,
    VenuePosition,
)

PRICE = Decimal(150)
STEP = Decimal("0.01")


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the next submission.

    `what`: fill, part (half, then nothing rests), nothing (executes, fills nothing), err (lands with an error), lost
    (never arrives), rest (rests unfilled until cancelled or filled by `fill_resting`), not_sent.
    `after_s`: when it executes. `seen_after_s`: when settling can see it. `ack`: what the node says at once.
    `finalized`: whether a fill is beyond forks when it is seen.
    """

    what: str = "fill"
    after_s: float = 0.0
    seen_after_s: float = 0.0
    ack: str = "ok"
    finalized: bool = True


class Executed(msgspec.Struct, kw_only=True):
    """The truth about one submission on the venue."""

    what: str
    at: float
    seen_at: float
    filled: Decimal = Decimal(0)
    ended: bool = True
    carry_index: Decimal | None = None
    finalized: bool = True


class ScriptedChain:
    """The cluster: who holds which lock generation, and since when."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.holders: dict[str, tuple[str, float]] = {}
        self.sequence = 0
        self.expiry_s = 60.0
        self.fences_fail = 0
        # Whether simulations run on a node that has not seen the lock taken.
        self.simulates_behind = False
        self.made: dict[str, float] = {}
        self.fences_sent = 0
        self.reclaimed: list[str] = []
        # What arrived on the wire before it was on record: must stay empty.
        self.unjournaled: list[str] = []
        self.is_journaled: Callable[[str], bool] = lambda _: True

    def arrive(self, submission: Submission) -> None:
        """Note bytes that reach the cluster, whatever becomes of them."""
        if not self.is_journaled(submission.handle):
            self.unjournaled.append(submission.handle)

    def handle(self, word: str) -> str:
        """Return a new made-up signature."""
        self.sequence += 1
        handle = f"{word}-{self.sequence}"
        self.made[handle] = self.clock.monotonic()
        return handle

    def take(self, lock: LockRef | None, handle: str, at: float) -> bool:
        """Execute the lock instruction: true for the one transaction that gets the generation."""
        if lock is None:
            return True
        if lock.seed in self.holders:
            return False
        self.holders[lock.seed] = (handle, at)
        return True

    # -- OrderLock -----------------------------------------------------------------------------------------------

    async def new_terms(self) -> LockTerms:
        """Return terms with made-up bits."""
        self.sequence += 1
        return LockTerms(base="base", nonce=f"{self.sequence:026d}", base_lamports=890_880)

    async def prepare_fence(self, lock: LockRef) -> Submission:
        """Return a fence."""
        return Submission(
            provider="scripted", purpose=Purpose.FENCE, handle=self.handle("fence"), body=b"{}", lock=lock
        )

    async def submit(self, submission: Submission) -> Ack:
        """Execute a fence, unless it is one of those that get lost."""
        self.arrive(submission)
        if submission.purpose is Purpose.RECLAIM:
            self.reclaimed.append(submission.handle)
            return Ack(accepted=1)
        self.fences_sent += 1
        if self.fences_fail:
            self.fences_fail -= 1
        else:
            self.take(submission.lock, submission.handle, self.clock.monotonic())
        return Ack(accepted=1)

    async def state(self, lock: LockRef, known: Sequence[str] = ()) -> LockState:
        """Return the holder."""
        holder = self.holders.get(lock.seed)
        return LockState(held=holder is not None, holder=None if holder is None else holder[0], sane_nodes=1)

    async def expired(self, submission: Submission) -> bool:
        """Whether the made-up blockhash has run out."""
        return self.clock.monotonic() >= self.made[submission.handle] + self.expiry_s

    async def prepare_reclaim(self, locks: Sequence[LockRef]) -> Submission | None:
        """Return a reclaim of what is held and not returned yet."""
        held = [lock.seed for lock in locks if lock.seed in self.holders and lock.seed not in self.reclaimed]
        if not held:
            return None
        self.reclaimed += held
        return Submission(provider="scripted", purpose=Purpose.RECLAIM, handle=self.handle("reclaim"), body=b"{}")

    async def landed(self, submission: Submission) -> bool | None:
        """Everything that was not lost has landed."""
        return True

    async def shortage(self) -> str | None:
        """Return null: SOL is never short here."""
        return None


class ScriptedProvider:
    """One venue of the chain."""

    def __init__(self, name: str, chain: ScriptedChain, *plays: Play | ProviderError, order_lock: bool = True) -> None:
        self.name = name
        self.chain = chain
        self.plays: list[Play | ProviderError] = list(plays)
        self.quote_error: ProviderError | None = None
        self.price = PRICE
        self.oracle: Decimal | None = PRICE
        self.carry_index: Decimal | None = None
        self.truth: dict[str, Executed] = {}
        self.submissions: list[Submission] = []
        self.sent: list[str] = []
        self.terms: list[OrderTerms] = []
        self.cancels = 0
        self.settle_error: ProviderError | None = None
        self.capabilities = Capabilities(order_lock=order_lock, netting=True, cross_margin=True, rests=True)

    async def markets(self) -> tuple[Market, ...]:
        """Return SOL-PERP and BTC-PERP."""
        return tuple(
            Market(
                provider=self.name,
                symbol=symbol,
                venue_symbol=symbol,
                step_size=STEP,
                min_size=Decimal("0.1"),
                tick_size=Decimal("0.001"),
                max_leverage=Decimal(10),
                initial_margin_ratio=Decimal("0.1"),
                maintenance_margin_ratio=Decimal("0.05"),
                lifecycle=Lifecycle.LIVE,
                oracle_price=self.oracle,
            )
            for symbol in ("SOL-PERP", "BTC-PERP")
        )

    async def state(self) -> ProviderState:
        """Return live."""
        return ProviderState(provider=self.name, lifecycle=Lifecycle.LIVE, as_of=self.chain.clock.now())

    async def quote(self, terms: QuoteTerms) -> Quote:
        """Return the price, or the error that the test set."""
        if self.quote_error is not None:
            raise self.quote_error
        size = terms.size if terms.size is not None else (terms.size_usd or Decimal(0)) / self.price
        now = self.chain.clock.now()
        return Quote(
            provider=self.name,
            market=terms.market,
            side=terms.side,
            size=size,
            size_usd=size * self.price,
            leverage=terms.leverage,
            oracle_price=self.oracle or PRICE,
            expected_price=self.price,
            price_impact_bps=Decimal(0),
            fee_usd=Decimal("0.1"),
            fee_bps=Decimal(10),
            carry_rate_1h=Decimal(0),
            margin_required_usd=size * self.price,
            liquidation_price=None,
            max_leverage=Decimal(10),
            capacity_usd=None,
            slot=1,
            as_of=now,
            expires_at=now,
        )

    async def prepare_open(self, terms: OrderTerms) -> Submission:
        """Return a submission, or raise the next refusal of the script."""
        return self._prepare(terms, Purpose.OPEN)

    async def prepare_close(self, terms: OrderTerms) -> Submission:
        """Return a submission, or raise the next refusal of the script."""
        return self._prepare(terms, Purpose.CLOSE)

    def _prepare(self, terms: OrderTerms, purpose: Purpose) -> Submission:
        if self.plays and isinstance(refusal := self.plays[0], ProviderError):
            self.plays.pop(0)
            raise refusal
        self._execute_due()
        if terms.lock is not None and terms.lock.seed in self.chain.holders and not self.chain.simulates_behind:
            # As a simulation would meet it.
            raise LockHeld("the order lock is taken")
        self.terms.append(terms)
        submission = Submission(
            provider=self.name,
            purpose=purpose,
            handle=self.chain.handle(self.name),
            body=b"{}",
            # As every venue: in whole steps, rounded down.
            size=(terms.size / STEP).to_integral_value(ROUND_FLOOR) * STEP,
            may_fill_until=terms.expires_at,
            lock=terms.lock,
        )
        self.submissions.append(submission)
        return submission

    async def submit(self, submission: Submission) -> Ack:
        """Execute as the script says; the same submission again executes nothing new."""
        self.chain.arrive(submission)
        self.sent.append(submission.handle)
        if submission.purpose is Purpose.CANCEL:
            for executed in self.truth.values():
                executed.ended = True
            return Ack(accepted=1)
        if submission.handle in self.truth:
            return Ack(accepted=1)
        play = self.plays.pop(0) if self.plays else Play()
        assert isinstance(play, Play)
        if play.what == "not_sent":
            return Ack(accepted=0, errors=(Unreachable("refused").info(),), not_sent=True)
        now = self.chain.clock.monotonic()
        self.truth[submission.handle] = Executed(
            what=play.what,
            at=now + play.after_s,
            seen_at=now + max(play.after_s, play.seen_after_s),
            ended=play.what != "rest",
            finalized=play.finalized,
        )
        if play.ack == "ok":
            return Ack(accepted=1)
        return Ack(accepted=0, errors=(Unreachable("cut", phase=Phase.MAYBE_SENT).info(),))

    def _execute_due(self) -> None:
        """Bring the chain up to now: what was due and not shut out by a lock takes effect in order of time."""
        now = self.chain.clock.monotonic()
        due = sorted((e.at, handle) for handle, e in self.truth.items() if e.at <= now and e.what != "lost")
        for at, handle in due:
            submission = next(s for s in self.submissions if s.handle == handle)
            executed = self.truth[handle]
            held = submission.lock is not None and self.chain.holders.get(submission.lock.seed, ("", 0))[0] == handle
            if executed.what in {"err", "superseded"} or held:
                continue
            if submission.lock is None and executed.filled:
                continue
            if not self.chain.take(submission.lock, handle, at):
                executed.what = "superseded"
                continue
            if executed.what in {"fill", "part"}:
                executed.filled = submission.size if executed.what == "fill" else submission.size / 2
                executed.carry_index = self.carry_index

    async def settle(self, submission: Submission) -> Outcome:
        """Return what can be seen now."""
        if self.settle_error is not None:
            raise self.settle_error
        self._execute_due()
        lock = submission.lock
        holder = None if lock is None else self.chain.holders.get(lock.seed)
        executed = self.truth.get(submission.handle)
        now = self.chain.clock.monotonic()
        if holder is not None and holder[0] != submission.handle:
            return Outcome(state=OutcomeState.SUPERSEDED, landed=False, executed=False, holder=holder[0])
        if executed is None or executed.what == "lost" or now < executed.seen_at:
            expired = now >= self.chain.made[submission.handle] + self.chain.expiry_s
            if expired and holder is None and (executed is None or executed.what == "lost"):
                return self._dead(NotLanded("expired"), landed=False, finalized=True)
            return Outcome(state=OutcomeState.UNKNOWN)
        if executed.what == "err":
            return self._dead(WorstPriceNotMet("err", phase=Phase.ANSWERED), landed=True)
        if executed.what == "nothing":
            return self._dead(WorstPriceNotMet("filled nothing", phase=Phase.ANSWERED), landed=True, executed=True)
        fills = self._fills(submission, executed)
        if executed.what == "rest" and not executed.ended:
            return Outcome(state=OutcomeState.UNKNOWN, landed=True, executed=True, fills=fills, resting=True)
        if not fills:
            return self._dead(WorstPriceNotMet("ended unfilled", phase=Phase.ANSWERED), landed=True, executed=True)
        full = executed.filled >= submission.size
        return Outcome(
            state=OutcomeState.FILLED if full else OutcomeState.PARTIALLY_FILLED,
            landed=True,
            executed=True,
            fills=fills,
            evidence=(Evidence(kind="fill_record", signature=submission.handle, commitment="confirmed"),),
            finalized=executed.finalized,
        )

    def fill_resting(self, size: Decimal, *, ends: bool) -> None:
        """Let a keeper fill some of what rests."""
        for executed in self.truth.values():
            if executed.what == "rest" and not executed.ended:
                executed.filled += size
                executed.ended = ends

    def _dead(self, error: ProviderError, *, landed: bool, executed: bool = False, finalized: bool = False) -> Outcome:
        return Outcome(
            state=OutcomeState.DEAD, landed=landed, executed=executed, error=error.info(), finalized=finalized
        )

    def _fills(self, submission: Submission, executed: Executed) -> tuple[Fill, ...]:
        if not executed.filled:
            return ()
        return (
            Fill(
                venue_fill_id=f"{submission.handle}:{executed.filled}",
                price=self.price,
                size=executed.filled,
                size_usd=executed.filled * self.price,
                fee_usd=Decimal("0.1"),
                signature=submission.handle,
                slot=1,
                filled_at=datetime(2026, 1, 1, tzinfo=UTC),
                carry_index=executed.carry_index,
            ),
        )

    async def cancel(self, submission: Submission) -> Submission | None:
        """Return a cancel of what rests."""
        executed = self.truth.get(submission.handle)
        if executed is None or executed.ended:
            return None
        self.cancels += 1
        return Submission(provider=self.name, purpose=Purpose.CANCEL, handle=self.chain.handle("cancel"), body=b"{}")

    async def positions(self) -> tuple[VenuePosition, ...]:
        """Return the truth of the book."""
        return (
            VenuePosition(
                provider=self.name,
                market="SOL-PERP",
                side=Side.LONG,
                size=self.exposure(),
                entry_price=self.price,
                liquidation_price=None,
                unrealized_pnl_usd=None,
                oracle_price=PRICE,
                slot=1,
            ),
        )

    async def aclose(self) -> None:
        """Release nothing."""

    def exposure(self) -> Decimal:
        """Return what really executed, closes deducted."""
        total = Decimal(0)
        for submission in self.submissions:
            executed = self.truth.get(submission.handle)
            if executed is not None:
                total += executed.filled if submission.purpose is Purpose.OPEN else -executed.filled
        return total
