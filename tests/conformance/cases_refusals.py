"""Cases of preparing: a refusal proves that nothing was sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from providers.base.errors import (
    ErrorClass,
    FeePayerShort,
    InsufficientCollateral,
    InvalidOrder,
    LockHeld,
    MarketPaused,
    MarketReduceOnly,
    OpenInterestCap,
    Phase,
    ProviderError,
    VenueHalted,
    WouldNet,
)
from providers.base.types import OrderKind, OrderTerms, OutcomeState, Purpose, Side
from tests.conformance.bench import Bench, Feature
from tests.conformance.cases import case

Change = Callable[[], object]


async def refused(
    bench: Bench, change: Change, leaf: type[ProviderError], terms: OrderTerms | None = None
) -> ProviderError:
    """Have an open refused after a change; nothing signed may have left."""
    asked = await bench.terms() if terms is None else terms
    provider, wire = bench.listened()
    change()
    await bench.slots(3)
    prepare: Callable[[OrderTerms], Awaitable[object]] = (
        provider.prepare_open if asked.kind is OrderKind.OPEN else provider.prepare_close
    )
    with pytest.raises(leaf) as caught:
        await prepare(asked)
    error = caught.value
    assert error.phase is Phase.NOT_SENT
    assert error.detail
    assert "sendTransaction" not in wire.asked
    return error


@case(20)
async def an_open_is_built_and_not_sent(bench: Bench) -> None:
    """Preparing signs, and names the bytes by their handle; the venue hears of it only by `submit`."""
    provider, wire = bench.listened()
    submission = await provider.prepare_open(await bench.terms())
    assert (submission.provider, submission.purpose) == (bench.provider_name, Purpose.OPEN)
    assert submission.handle
    assert submission.lock is not None
    assert submission.size == bench.size
    assert submission.may_fill_until is not None
    await bench.slots(5)
    assert "sendTransaction" not in wire.asked
    assert await bench.held() == 0


@case(21, Feature.HALT)
async def a_halted_program_refuses(bench: Bench) -> None:
    """A halted program is class `capacity`, raw code 101, nothing sent."""
    error = await refused(bench, bench.venue.halt, VenueHalted)
    assert error.raw_code == "101"


@case(22)
async def a_paused_venue_refuses(bench: Bench) -> None:
    """A venue that takes no orders refuses an open as `market_paused`, nothing sent."""
    await refused(bench, bench.venue.pause, MarketPaused)


@case(23)
async def a_reduce_only_market_refuses(bench: Bench) -> None:
    """A market that takes reductions only refuses an open, nothing sent."""
    await refused(bench, bench.venue.reduce_only, MarketReduceOnly)


@case(24, Feature.OPEN_INTEREST_CAP)
async def a_full_market_refuses(bench: Bench) -> None:
    """A market at its open interest cap refuses an open, nothing sent."""
    await refused(bench, bench.venue.cap_open_interest, OpenInterestCap)


@case(25)
async def short_collateral_refuses(bench: Bench) -> None:
    """An account that cannot carry the margin refuses an open as `insufficient_collateral`, nothing sent."""
    await refused(bench, lambda: bench.venue.collateral(Decimal(5)), InsufficientCollateral)


@case(26)
async def leverage_is_a_check(bench: Bench) -> None:
    """The caller's leverage decides what must be free: at 1x too much, at 4x enough, for the same size."""
    size = bench.size * 10
    bench.venue.collateral(size * bench.price / 2)
    await bench.slots(2)
    with pytest.raises(InsufficientCollateral):
        await bench.prepared(size=size)
    assert (await bench.open(size=size, leverage=Decimal(4))).state is OutcomeState.FILLED


@case(27)
async def nobody_to_trade_against_refuses(bench: Bench) -> None:
    """With nobody on the other side an open is refused as capacity, nothing sent."""
    error = await refused(bench, bench.venue.remove_liquidity, ProviderError)
    assert error.error_class is ErrorClass.CAPACITY


@case(28)
async def the_bound_is_kept_before_sending(bench: Bench) -> None:
    """A market beyond the worst price refuses an open, nothing sent; the bound is never widened."""
    terms = await bench.terms()
    error = await refused(bench, lambda: bench.venue.move_price(bench.price * Decimal("1.2")), ProviderError, terms)
    assert error.error_class in {ErrorClass.PRICE, ErrorClass.CAPACITY}
    assert await bench.held() == 0


@case(29, Feature.NETTING)
async def an_open_never_nets(bench: Bench) -> None:
    """An open against what is held on the other side is refused as `would_net`, by whoever it was opened."""
    await bench.foreign_trade(Side.LONG, bench.size)
    terms = await bench.terms(Side.SHORT)
    await refused(bench, lambda: None, WouldNet, terms)
    with pytest.raises(WouldNet):
        await bench.quote(Side.SHORT)
    assert (await bench.open(Side.LONG)).state is OutcomeState.FILLED
    assert await bench.held() == 2 * bench.size


@case(30)
async def a_wallet_without_sol_refuses(bench: Bench) -> None:
    """Too little SOL for lock, fees and the reserve of closes stops an open before it is signed."""
    wallet = bench.venue.trader.pubkey()
    poor = Account(1_000_000, b"", Pubkey.default())
    error = await refused(bench, lambda: bench.cluster.set_account(wallet, poor), FeePayerShort)
    assert error.error_class is ErrorClass.VENUE_ACCOUNT


@case(31)
async def a_taken_lock_refuses(bench: Bench) -> None:
    """Once a sibling has executed, the simulation of another attempt of its generation meets the lock."""
    lock = await bench.lock()
    assert (await bench.open(lock=lock)).state is OutcomeState.FILLED
    with pytest.raises(LockHeld) as held:
        await bench.prepared(lock=lock, number=2)
    assert held.value.phase is Phase.NOT_SENT


@case(32)
async def a_passed_deadline_refuses(bench: Bench) -> None:
    """An order whose deadline is over is not built."""
    terms = await bench.terms(ttl_s=-5)
    await refused(bench, lambda: None, ProviderError, terms)


@case(33)
async def nothing_is_no_size(bench: Bench) -> None:
    """An open or a close of nothing is invalid, whatever is held."""
    await bench.open()
    for kind in OrderKind:
        terms = await bench.terms(size=Decimal(0), kind=kind)
        error = await refused(bench, lambda: None, InvalidOrder, terms)
        assert not error.error_class.allows_next_provider


@case(34)
async def refusals_tell_no_secret(bench: Bench) -> None:
    """No refusal, record of one, or submission holds the key that signs."""
    secret = bench.venue.trader
    words = (str(secret), bytes(secret).hex(), bytes(secret)[:32].hex(), str(list(bytes(secret))))
    said: list[str] = []
    submission = await bench.prepared()
    said += [repr(submission), submission.body.decode()]
    changes: tuple[Change, ...] = (
        bench.venue.reduce_only,
        bench.venue.pause,
        lambda: bench.strike("refused", count=None),
    )
    terms = await bench.terms()
    for change in changes:
        change()
        await bench.slots(3)
        with pytest.raises(ProviderError) as caught:
            await bench.provider.prepare_open(terms)
        said += [str(caught.value), repr(caught.value.info())]
    assert not any(word in text for text in said for word in words)
