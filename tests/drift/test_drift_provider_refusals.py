"""Every refusal of the venue that was measured on the real program, as the provider reports it.

Each is provoked in up to three ways: seen in the accounts before anything is built; answered by the simulation;
answered by the chain after the state changed between building and landing. Nothing is ever left on the venue.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from providers.base.errors import (
    AccountMissing,
    AuctionExpired,
    CustodyLimit,
    ErrorClass,
    FeePayerShort,
    InsufficientCollateral,
    InvalidSize,
    MarketPaused,
    MarketReduceOnly,
    NoFreeSlot,
    NoLiquidity,
    OpenInterestCap,
    OracleStale,
    Phase,
    ProviderError,
    RequestRejected,
    UnsupportedProgram,
    UserReduceOnly,
    VenueHalted,
)
from providers.base.types import Lifecycle, OrderKind, OutcomeState, QuoteTerms, Side
from providers.drift.config import DriftConfig
from router.localnet.drift.enums import MarketStatus
from tests.drift.drift_desk import SOL, Desk, at_desk

# What cannot be played on the real program, and why.
MODEL_ONLY = {
    "program without instructions (101)": "emulated: the binary's instructions cannot be taken out",
    "exchange full (6224)": "not played on either: the world has no control for the number of accounts",
}

Change = Callable[[Desk], None]


def cap(desk: Desk) -> None:
    """Leave no room under the open interest cap."""
    desk.controls.set_open_interest_cap(SOL, Decimal("0.5"))


def pause_all(desk: Desk) -> None:
    """Pause the whole exchange."""
    desk.controls.pause("exchange")


def pause_fills(desk: Desk) -> None:
    """Pause fills on the exchange."""
    desk.controls.pause("fills")


def pause_market_fills(desk: Desk) -> None:
    """Pause fills in the market."""
    desk.controls.pause("market_fills", SOL)


def reduce_only_market(desk: Desk) -> None:
    """Let the market take reductions only."""
    desk.controls.set_market_status(SOL, MarketStatus.REDUCE_ONLY)


def expired_market(desk: Desk) -> None:
    """Let the market have expired."""
    desk.controls.set_market_status(SOL, MarketStatus.REDUCE_ONLY, expires_in_s=-10)


def initialized_market(desk: Desk) -> None:
    """Put the market back into its warm-up."""
    desk.controls.set_market_status(SOL, MarketStatus.INITIALIZED)


def reduce_only_user(desk: Desk) -> None:
    """Let the account only reduce."""
    desk.controls.set_user_reduce_only()


def no_collateral(desk: Desk) -> None:
    """Take nearly all collateral out."""
    desk.controls.set_collateral(Decimal(5))


BEFORE = [
    (cap, OpenInterestCap, "6154"),
    (pause_all, MarketPaused, "6024"),
    (pause_fills, MarketPaused, "6024"),
    (pause_market_fills, MarketPaused, "6148"),
    (reduce_only_market, MarketReduceOnly, "6046"),
    (expired_market, MarketPaused, "6147"),
    (initialized_market, MarketPaused, "6213"),
    (reduce_only_user, UserReduceOnly, "6254"),
    (no_collateral, InsufficientCollateral, "6003"),
]


@pytest.mark.parametrize(("change", "leaf", "raw"), BEFORE)
def test_seen_before_building(binary: Path | None, change: Change, leaf: type[ProviderError], raw: str) -> None:
    """An open that the accounts rule out is refused with nothing built; the phase says that nothing was sent."""

    async def play(desk: Desk) -> None:
        terms = await desk.terms()
        change(desk)
        await desk.slots(2)
        with pytest.raises(leaf) as refused:
            await desk.provider.prepare_open(terms)
        assert refused.value.phase is Phase.NOT_SENT
        assert refused.value.raw_code == raw
        assert refused.value.error_class.allows_next_provider

    at_desk(play, binary=binary)


LANDED = [
    (cap, OpenInterestCap, "6154", "MaxOpenInterest"),
    (pause_all, MarketPaused, "6024", "ExchangePaused"),
    (pause_fills, MarketPaused, "6024", "ExchangePaused"),
    (pause_market_fills, MarketPaused, "6148", "MarketFillOrderPaused"),
    (reduce_only_market, MarketReduceOnly, "6046", "InvalidOrderNotRiskReducing"),
    (expired_market, MarketPaused, "6147", "MarketPlaceOrderPaused"),
    (initialized_market, MarketPaused, "6213", "MarketBeingInitialized"),
    (reduce_only_user, UserReduceOnly, "6254", "UserReduceOnly"),
    (no_collateral, InsufficientCollateral, "6003", "InsufficientCollateral"),
]


@pytest.mark.parametrize(("change", "leaf", "raw", "name"), LANDED)
def test_answered_by_the_chain(
    binary: Path | None, change: Change, leaf: type[ProviderError], raw: str, name: str
) -> None:
    """True only once it reaches the block: it lands with an error, is dead by its own record, and changed nothing."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms())
        change(desk)
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert (outcome.landed, outcome.executed, outcome.resting) == (True, False, False)
        error = outcome.error
        assert error is not None
        assert (error.code, error.phase, error.raw_code, error.raw_name) == (leaf.code, Phase.ANSWERED, raw, name)
        assert outcome.evidence[0].kind == "landed_with_err"
        assert await desk.held() == 0

    at_desk(play, binary=binary)


CLOSES = [
    (pause_all, MarketPaused, "6024"),
    (pause_fills, MarketPaused, "6024"),
    (pause_market_fills, MarketPaused, "6148"),
    (expired_market, MarketPaused, "6147"),
    (initialized_market, MarketPaused, "6213"),
]


@pytest.mark.parametrize(("change", "leaf", "raw"), CLOSES)
def test_closes_are_refused_by_the_program_alone(
    binary: Path | None, change: Change, leaf: type[ProviderError], raw: str
) -> None:
    """A close is built whatever the flags say; the simulation brings the program's own answer."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        terms = await desk.terms(kind=OrderKind.CLOSE)
        change(desk)
        await desk.slots(2)
        with pytest.raises(leaf) as refused:
            await desk.provider.prepare_close(terms)
        assert (refused.value.phase, refused.value.raw_code) == (Phase.NOT_SENT, raw)

    at_desk(play, binary=binary)


@pytest.mark.parametrize("change", [reduce_only_market, reduce_only_user, cap])
def test_what_stops_opens_does_not_stop_closes(binary: Path | None, change: Change) -> None:
    """Reduce-only markets and accounts, and a full market, take a close."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        change(desk)
        await desk.slots(2)
        assert (await desk.settled(await desk.close())).state is OutcomeState.FILLED
        assert await desk.held() == 0

    at_desk(play, binary=binary)


def test_a_close_below_maintenance_is_the_programs_to_refuse(binary: Path | None) -> None:
    """An account below maintenance cannot even close: collateral, seen in the simulation."""

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open(Side.LONG, "100", leverage="5"))
        desk.controls.set_collateral(Decimal(1))
        await desk.slots(2)
        with pytest.raises(InsufficientCollateral) as refused:
            await desk.provider.prepare_close(await desk.terms(Side.LONG, "100", kind=OrderKind.CLOSE))
        assert refused.value.raw_code == "6003"

    at_desk(play, binary=binary)


def test_leverage_is_a_check_of_free_collateral(binary: Path | None) -> None:
    """The caller's own leverage decides: 100 SOL at 1x need 15,000 dollars, at 5x the 10,000 are enough."""

    async def play(desk: Desk) -> None:
        with pytest.raises(InsufficientCollateral):
            await desk.provider.prepare_open(await desk.terms(Side.LONG, "100", leverage="1"))
        assert (await desk.settled(await desk.open(Side.LONG, "100", leverage="5"))).state is OutcomeState.FILLED

    at_desk(play, binary=binary)


def test_more_than_one_fill_takes_is_refused(binary: Path | None) -> None:
    """An open above the AMM's share of one fill is the next provider's; a close of it fills what it can."""

    async def play(desk: Desk) -> None:
        desk.controls.set_collateral(Decimal(3_000_000))
        await desk.slots(2)
        with pytest.raises(NoLiquidity):
            await desk.provider.prepare_open(await desk.terms(Side.LONG, "5001", worst="170", leverage="5"))
        assert (await desk.settled(await desk.open(Side.LONG, "4000"))).state is OutcomeState.FILLED
        assert (await desk.settled(await desk.open(Side.LONG, "4000", worst="170"))).state is OutcomeState.FILLED
        closed = await desk.settled(await desk.close(Side.LONG, "8000", worst="130"))
        assert closed.state is OutcomeState.PARTIALLY_FILLED
        assert await desk.held() == 8000 - closed.fills[0].size > 0

    at_desk(play, binary=binary)


def test_an_account_that_is_not_set_up(binary: Path | None) -> None:
    """A wallet without a Drift account gets quotes, and an alert instead of an order."""

    async def play(desk: Desk) -> None:
        desk.cluster.airdrop(desk.signer.pubkey(), 10**10)
        await desk.slots(2)
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        assert quote.size == 1
        with pytest.raises(AccountMissing) as refused:
            await desk.provider.prepare_open(await desk.terms())
        assert refused.value.error_class is ErrorClass.VENUE_ACCOUNT
        assert refused.value.error_class.wants_alert
        assert await desk.provider.positions() == ()
        assert not (await desk.provider.show()).exists

    at_desk(play, binary=binary, signer=Keypair.from_seed(bytes(range(32))))


def test_signed_by_another_wallet(binary: Path | None) -> None:
    """A key that is neither owner nor delegate is our own mistake: no other provider, and an alert."""
    from router.localnet.world import WorldKeys, world_of  # noqa: PLC0415 - used once

    world = world_of(WorldKeys())
    config = DriftConfig(authority=world.trader.pubkey())

    async def play(desk: Desk) -> None:
        with pytest.raises(RequestRejected) as refused:
            await desk.provider.prepare_open(await desk.terms())
        assert (refused.value.raw_code, refused.value.raw_name) == ("2003", "ConstraintRaw")
        assert not refused.value.error_class.allows_next_provider

    at_desk(play, binary=binary, signer=world.maker.wallet, config=config)


def test_a_wallet_without_sol(binary: Path | None) -> None:
    """Too little SOL for the lock, or for the reserve of closes, stops an open before it is signed."""

    async def play(desk: Desk) -> None:
        terms = await desk.terms()
        wallet = desk.world.trader.pubkey()
        desk.cluster.set_account(wallet, Account(1_000_000, b"", Pubkey.default()))
        await desk.slots(2)
        with pytest.raises(FeePayerShort):
            await desk.provider.prepare_open(terms)

    at_desk(play, binary=binary)


def test_a_deadline_that_passed_on_the_way(binary: Path | None) -> None:
    """A taking order that lands after its deadline fails with the venue's word for an order that is not there."""

    async def play(desk: Desk) -> None:
        submission = await desk.provider.prepare_open(await desk.terms(ttl_s=4))
        await desk.slots(16)
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.raw_code) == (AuctionExpired.code, "6061")
        assert await desk.held() == 0
        with pytest.raises(AuctionExpired):
            await desk.provider.prepare_open(await desk.terms(ttl_s=-5))

    at_desk(play, binary=binary)


def test_no_free_place_for_an_order(binary: Path | None) -> None:
    """With 32 orders resting the account has no place for another; each of them has a number of its own."""

    async def play(desk: Desk) -> None:
        desk.controls.run_keeper(running=False)
        desk.controls.set_auction(10)
        await desk.slots(2)
        for _ in range(32):
            submission = await desk.provider.prepare_open(await desk.terms(Side.LONG, "0.1", worst="151", ttl_s=600))
            await desk.provider.submit(submission)
            await desk.until(submission, lambda outcome: outcome.resting)
        with pytest.raises(NoFreeSlot) as refused:
            await desk.provider.prepare_open(await desk.terms(Side.LONG, "0.1", worst="151"))
        assert refused.value.raw_code == "6060"

    at_desk(play, binary=binary)


def test_deposits_meet_caps_and_the_wallets_balance(binary: Path | None) -> None:
    """A deposit above the venue's cap, or above what the wallet has, is refused by the program it belongs to."""

    async def play(desk: Desk) -> None:
        with pytest.raises(InsufficientCollateral) as refused:
            await desk.provider.deposit(Decimal(1_000_000))
        assert refused.value.raw_code == "1"
        desk.controls.set_deposit_cap(Decimal(1))
        await desk.slots(2)
        with pytest.raises(CustodyLimit) as capped:
            await desk.provider.deposit(Decimal(10))
        assert capped.value.raw_code == "6038"
        with pytest.raises(InvalidSize):
            await desk.provider.deposit(Decimal(0))

    at_desk(play, binary=binary)


def test_a_halted_program() -> None:
    """Accounts that read healthy do not matter: a program that answers 101 is halted in state, quotes and orders.

    Only on the model: see `MODEL_ONLY`.
    """

    async def play(desk: Desk) -> None:
        await desk.settled(await desk.open())
        desk.controls.halt()
        await desk.slots(100)
        state = await desk.provider.state()
        assert state.lifecycle is Lifecycle.HALTED
        assert {each.lifecycle for each in await desk.provider.markets()} == {Lifecycle.HALTED}
        with pytest.raises(VenueHalted) as refused:
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        assert refused.value.raw_code == "101"
        with pytest.raises(VenueHalted):
            await desk.provider.prepare_open(await desk.terms(worst="160"))
        with pytest.raises(VenueHalted):
            await desk.provider.prepare_close(await desk.terms(kind=OrderKind.CLOSE, worst="140"))
        desk.controls.halt(on=False)
        await desk.slots(100)
        assert (await desk.provider.state()).lifecycle is Lifecycle.LIVE

    at_desk(play)


def test_another_program_at_the_address(binary: Path | None) -> None:
    """Where no exchange is, there is no market and no order, and the state says why."""

    async def play(desk: Desk) -> None:
        assert (await desk.provider.state()).lifecycle is Lifecycle.UNSUPPORTED_PROGRAM
        with pytest.raises(UnsupportedProgram):
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))

    at_desk(play, binary=binary, config=DriftConfig(program_id=Pubkey.from_string("11111111111111111111111111111112")))


STALE: list[tuple[Change, type[ProviderError]]] = [
    (lambda desk: desk.controls.freeze_oracle(SOL), OracleStale),
    (lambda desk: desk.controls.set_oracle_confidence(SOL, Decimal(8)), OracleStale),
    (lambda desk: desk.controls.pause("amm"), MarketPaused),
    (lambda desk: desk.controls.pause("market_amm", SOL), MarketPaused),
]


@pytest.mark.parametrize(("change", "leaf"), STALE)
def test_what_the_program_would_accept_and_not_fill(
    binary: Path | None, change: Change, leaf: type[ProviderError]
) -> None:
    """The venue takes these opens without an error and fills nothing: they are refused before anything is sent."""

    async def play(desk: Desk) -> None:
        change(desk)
        await desk.slots(20)
        with pytest.raises(leaf):
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        with pytest.raises(leaf):
            await desk.provider.prepare_open(await desk.terms(worst="160"))
        quote = await desk.provider.quote(QuoteTerms(kind=OrderKind.CLOSE, market=SOL, side=Side.LONG, size=Decimal(1)))
        assert quote.expected_price > 0

    at_desk(play, binary=binary)


@pytest.mark.parametrize(("change", "leaf"), STALE)
def test_success_without_a_fill_is_no_fill(binary: Path | None, change: Change, leaf: type[ProviderError]) -> None:
    """Executed without an error, filled nothing, left nothing: dead by its own complete logs, for opens and closes."""

    async def play(desk: Desk) -> None:
        held = await desk.settled(await desk.open())
        assert held.state is OutcomeState.FILLED
        opened = await desk.provider.prepare_open(await desk.terms())
        closed = await desk.provider.prepare_close(await desk.terms(kind=OrderKind.CLOSE))
        change(desk)
        await desk.slots(20)
        for submission in (opened, closed):
            await desk.provider.submit(submission)
            outcome = await desk.settled(submission)
            assert outcome.state is OutcomeState.DEAD, leaf
            assert (outcome.landed, outcome.executed, outcome.resting) == (True, True, False)
            assert outcome.error is not None
            assert outcome.error.error_class is ErrorClass.PRICE
            assert outcome.evidence[0].kind == "no_fill_logs"
        assert await desk.held() == 1
        assert (await desk.provider.show()).open_orders == 0

    at_desk(play, binary=binary)
