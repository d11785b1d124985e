"""Reading the venue over the wire, and what its accounts let anybody do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from providers.base.clock import VirtualClock
from providers.base.errors import (
    BeingLiquidated,
    BelowMinimum,
    InsufficientCollateral,
    InvalidSize,
    LeverageAboveMaximum,
    MarketPaused,
    MarketReduceOnly,
    NoLiquidity,
    NotListed,
    OracleStale,
    ProviderError,
    UnsupportedProgram,
    UserReduceOnly,
    WorstPriceNotMet,
)
from providers.base.types import Lifecycle, OrderKind, Quote, QuoteTerms, Side
from providers.mango.addresses import bank_address, mango_account_address, perp_market_address
from providers.mango.build import lot_units, price_lots_of
from providers.mango.config import MangoConfig
from providers.mango.constants import MAIN_GROUP, ONE, PROGRAM_ID
from providers.mango.constants import Side as OrderSide
from providers.mango.quote import (
    funding_rate_1h,
    gate_refusal,
    group_lifecycle,
    market_of,
    quote_of,
    reduce_only_lots,
)
from providers.mango.reading import Snapshot, VenueReader
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import VirtualLoop
from tests.mango import mango_samples as samples
from tests.mango.mango_samples import Perp, Resting, fixed, key

T = TypeVar("T")
OWNER = key(2)
DOLLAR = 10**6
SOL = "SOL-PERP"
# A lot is 0.01 SOL; a price of 1,000 lots is $10, and the oracle stands at 10,000 lots, $100.
BIDS = (Resting(9_990, 50, 1), Resting(9_980, 100, 2), Resting(9_000, 1_000, 3))
ASKS = (Resting(10_010, 50, 1), Resting(10_020, 100, 2), Resting(11_000, 1_000, 3))


class Desk:
    """A cluster that holds the venue's accounts as bytes, and a reader of them."""

    def __init__(self, *, owner: Pubkey | None = OWNER) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.clock = VirtualClock(1)
        self.runner.run(self._build(owner))

    async def _build(self, owner: Pubkey | None) -> None:
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=400))
        transports = [InProcessTransport(self.cluster, self.clock, name="node0", faults=WireFaults(self.clock))]
        self.solana = SolanaCluster.of_transports(transports, None, self.clock, SolanaSettings())
        self.reader = VenueReader(self.solana.pool, MangoConfig(), owner, self.clock)
        self.put(MAIN_GROUP, samples.group_bytes())
        self.put(bank_address(PROGRAM_ID, MAIN_GROUP, 0), samples.bank_bytes())
        self.put(key(300), samples.stub_bytes(ONE))
        self.market()
        self.book()
        self.account(tokens=[(0, 1000 * DOLLAR * ONE)])

    def close(self) -> None:
        """End the loop."""
        self.runner.close()

    def put(self, address: Pubkey, data: bytes, owner: Pubkey = PROGRAM_ID) -> None:
        """Write an account."""
        self.cluster.set_account(address, Account(10**9, data, owner))

    def market(self, *, price: str = "0.1", slot: int = 0, index: int = 2, **fields: Any) -> None:
        """Write a market and its oracle."""
        keys = samples.market_keys(index)
        self.put(perp_market_address(PROGRAM_ID, MAIN_GROUP, index), samples.market_bytes(index=index, **fields))
        # One unit more than rounded down: the price in lots comes out whole.
        self.put(keys.oracle, samples.stub_bytes(fixed(price) + 1, slot=slot))

    def book(
        self, *, bids: tuple[Resting, ...] = BIDS, asks: tuple[Resting, ...] = ASKS, events: int = 0, index: int = 2
    ) -> None:
        """Write a market's book and event queue."""
        keys = samples.market_keys(index)
        self.put(keys.bids, samples.book_bytes(bids=True, fixed_orders=bids))
        self.put(keys.asks, samples.book_bytes(bids=False, fixed_orders=asks))
        self.put(keys.events, samples.queue_bytes(count=events))

    def account(self, **fields: Any) -> None:
        """Write the trading account."""
        address = mango_account_address(PROGRAM_ID, MAIN_GROUP, OWNER, 0)
        self.put(address, samples.account_bytes(**fields))

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run one question, on virtual time."""

        async def asked() -> T:
            # What was written must be confirmed before it is read.
            self.cluster.advance(40)
            return await main

        return self.runner.run(asked())

    def snapshot(self) -> Snapshot:
        """Read the market."""
        return self.run(self.reader.snapshot(SOL))

    def refusal(self, kind: OrderKind = OrderKind.OPEN, side: Side = Side.LONG) -> ProviderError | None:
        """Return why nothing would be taken."""
        return gate_refusal(self.snapshot(), kind, side)

    def quote(self, limit: int = 30, **terms: Any) -> Quote:
        """Price an order."""
        asked = QuoteTerms(market=SOL, **({"side": Side.LONG} | terms))
        as_of = datetime(2026, 1, 1, tzinfo=UTC)
        return quote_of(asked, self.snapshot(), match_limit=limit, as_of=as_of, lifetime_s=5)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Return a desk with one live market and an account of a thousand dollars."""
    with closing(Desk()) as opened:
        yield opened


# --- reading ----------------------------------------------------------------------------------------------------------


def test_markets_are_found_by_their_addresses(desk: Desk) -> None:
    """Every market of the group is listed; one that the group has not is not."""
    desk.market(index=30, name="BTC-PERP")
    listing = desk.run(desk.reader.listing())
    assert {each.symbol: each.index for each in listing.perps.values()} == {"SOL-PERP": 2, "BTC-PERP": 30}
    assert listing.market("SOL-PERP").address == perp_market_address(PROGRAM_ID, MAIN_GROUP, 2)
    with pytest.raises(NotListed):
        desk.run(desk.reader.snapshot("ETH-PERP"))


def test_no_group_is_no_venue(desk: Desk) -> None:
    """An account of another program, or none, is not the group."""
    desk.put(MAIN_GROUP, samples.group_bytes(), key(9))
    with pytest.raises(UnsupportedProgram):
        desk.run(desk.reader.listing())


def test_a_snapshot_has_all_that_an_order_depends_on(desk: Desk) -> None:
    """Books, queue, oracle, account and its health come from one answer."""
    snapshot = desk.snapshot()
    assert snapshot.slot > 0
    assert snapshot.market.venue_symbol == SOL
    assert snapshot.oracle_refusal is None
    assert snapshot.account_key == mango_account_address(PROGRAM_ID, MAIN_GROUP, OWNER, 0)
    assert snapshot.book is not None
    assert set(snapshot.book.banks) == {0}
    assert snapshot.held_lots == 0


def test_what_the_account_holds_is_read_with_it(desk: Desk) -> None:
    """Slots name markets and tokens that no listing gave: they are read until nothing is missing, then at once."""
    desk.market(index=5, name="ETH-PERP")
    desk.put(bank_address(PROGRAM_ID, MAIN_GROUP, 7), samples.bank_bytes(token=7, name="JUP"))
    desk.put(key(307), samples.stub_bytes(ONE))
    desk.account(
        tokens=[(7, fixed(3)), (0, 100 * DOLLAR * ONE)], perps=[Perp(market=5, base=-4), Perp(market=2, taker_base=9)]
    )
    snapshot = desk.snapshot()
    assert snapshot.book is not None
    assert set(snapshot.book.banks) == {0, 7}
    assert set(snapshot.book.perps) == {2, 5}
    assert snapshot.held_lots == 9
    view = desk.run(desk.reader.account())
    assert set(view.perps) == {2, 5}
    assert set(view.prices) == {2, 5}
    assert view.book is not None


def test_without_an_account_markets_are_read_all_the_same() -> None:
    """No owner, or an account that is not set up, leaves the account empty."""
    for owner in (None, key(99)):
        with closing(Desk(owner=owner)) as desk:
            snapshot = desk.snapshot()
            assert snapshot.account is None
            assert snapshot.book is None
            assert desk.run(desk.reader.account()).account is None


def test_an_unusable_price_is_told_apart_by_what_depends_on_it(desk: Desk) -> None:
    """A token that is held is left out; one that is owed keeps the program from computing any health."""
    desk.put(bank_address(PROGRAM_ID, MAIN_GROUP, 7), samples.bank_bytes(token=7, staleness=10))
    desk.put(key(307), samples.stub_bytes(ONE, slot=1))
    desk.account(tokens=[(0, DOLLAR * ONE), (7, fixed(3))])
    held = desk.snapshot()
    desk.account(tokens=[(0, DOLLAR * ONE), (7, fixed(-3))])
    owed = desk.snapshot()
    assert held.book is not None
    assert set(held.book.banks) == {0}
    assert owed.book is None
    assert isinstance(owed.book_refusal, OracleStale)


def test_overview(desk: Desk) -> None:
    """Every market with its price; one whose price cannot be read says why."""
    desk.market(index=3, name="BTC-PERP")
    desk.put(samples.market_keys(3).oracle, b"nothing of the kind")
    overview = desk.run(desk.reader.overview())
    views = {each.listed.symbol: each for each in overview.markets}
    assert isinstance(views["BTC-PERP"].oracle_refusal, UnsupportedProgram)
    market = market_of(views[SOL], overview.group)
    assert (market.step_size, market.min_size, market.tick_size) == (Decimal("0.01"), Decimal("0.01"), Decimal("0.01"))
    assert (market.max_leverage, market.lifecycle) == (Decimal(10), Lifecycle.LIVE)
    assert (market.initial_margin_ratio, market.maintenance_margin_ratio) == (Decimal("0.1"), Decimal("0.05"))
    assert round(market.oracle_price or Decimal(0), 6) == 100
    assert group_lifecycle(overview.group) == (Lifecycle.LIVE, "")


# --- gates ------------------------------------------------------------------------------------------------------------


def test_a_live_market_refuses_nothing(desk: Desk) -> None:
    """Opens and closes on both sides pass."""
    for kind in OrderKind:
        for side in Side:
            assert desk.refusal(kind, side) is None


def test_the_groups_gate(desk: Desk) -> None:
    """The bit of perp orders halts the venue, for closes too; other bits do nothing."""
    desk.put(MAIN_GROUP, samples.group_bytes(ix_gate=1 << 21 | 1 << 23 | 1 << 47))
    assert desk.refusal() is None
    desk.put(MAIN_GROUP, samples.group_bytes(ix_gate=1 << 22))
    for kind in OrderKind:
        refusal = desk.refusal(kind)
        assert isinstance(refusal, MarketPaused)
        assert (refusal.raw_code, refusal.raw_name) == ("6042", "IxIsDisabled")
    overview = desk.run(desk.reader.overview())
    assert market_of(overview.markets[0], overview.group).lifecycle is Lifecycle.HALTED


@pytest.mark.parametrize("flags", [{"reduce_only": True}, {"reduce_only": True, "force_close": True}])
def test_a_market_that_only_reduces(desk: Desk, flags: dict[str, Any]) -> None:
    """Opens are refused with the venue's own code; closes pass."""
    desk.market(**flags)
    refusal = desk.refusal()
    assert isinstance(refusal, MarketReduceOnly)
    assert refusal.raw_code == "6031"
    assert desk.refusal(OrderKind.CLOSE) is None
    overview = desk.run(desk.reader.overview())
    assert market_of(overview.markets[0], overview.group).lifecycle is Lifecycle.REDUCE_ONLY


def test_a_stale_oracle(desk: Desk) -> None:
    """The program's health check refuses opens and closes on it."""
    desk.market(slot=1, staleness=5)
    for kind in OrderKind:
        refusal = desk.refusal(kind)
        assert isinstance(refusal, OracleStale)
        assert refusal.raw_code == "6024"


def test_an_empty_side_and_a_full_queue(desk: Desk) -> None:
    """Only the side that an order takes from matters; a queue without a free place takes no order at all."""
    desk.book(asks=())
    assert isinstance(desk.refusal(side=Side.LONG), NoLiquidity)
    assert isinstance(desk.refusal(OrderKind.CLOSE, Side.SHORT), NoLiquidity)
    assert desk.refusal(side=Side.SHORT) is None
    desk.book(events=488)
    assert isinstance(desk.refusal(side=Side.SHORT), NoLiquidity)
    desk.book(events=487)
    assert desk.refusal() is None
    # One place is enough for one match.
    assert desk.quote(size=Decimal("0.5")).size == Decimal("0.5")
    with pytest.raises(NoLiquidity, match="event queue"):
        desk.quote(size=Decimal("0.6"))


def test_the_state_of_the_account(desk: Desk) -> None:
    """A frozen account and one in liquidation are the account's trouble."""
    desk.account(tokens=[(0, 1000 * DOLLAR * ONE)], frozen_until=1 << 40)
    refusal = desk.refusal()
    assert isinstance(refusal, UserReduceOnly)
    assert refusal.raw_code == "6038"
    desk.account(tokens=[(0, -1000 * DOLLAR * ONE)], being_liquidated=True)
    assert isinstance(desk.refusal(), BeingLiquidated)
    desk.account(tokens=[(0, 1000 * DOLLAR * ONE)], being_liquidated=True)
    assert desk.refusal() is None


# --- quotes -----------------------------------------------------------------------------------------------------------


def test_a_quote_worked_out_by_hand(desk: Desk) -> None:
    """1 SOL: 50 lots at $100.10 and 50 at $100.20 make $100.15; 6 bps of fee and a tenth of a cent of penalty."""
    quote = desk.quote(size=Decimal("1.009"), leverage=Decimal(5))
    assert (quote.size, quote.size_usd, quote.expected_price) == (Decimal(1), Decimal("100.15"), Decimal("100.15"))
    assert quote.price_impact_bps == Decimal("4.9951")
    # $0.06009 and $0.001, rounded up to a millionth.
    assert quote.fee_usd == Decimal("0.061090")
    assert quote.margin_required_usd == Decimal("20.03")
    assert quote.max_leverage == Decimal(10)
    assert round(quote.oracle_price, 6) == 100
    # All that rests for sale: 50, 100 and 1,000 lots.
    assert quote.capacity_usd == Decimal("50.05") + Decimal("100.20") + Decimal(1100)
    assert quote.liquidation_price is None


def test_a_sell_is_priced_on_the_bids(desk: Desk) -> None:
    """1 SOL sold: 50 lots at $99.90 and 50 at $99.80; a close needs no margin."""
    desk.account(tokens=[(0, 10 * DOLLAR * ONE)], perps=[Perp(market=2, base=100, quote=-100 * DOLLAR * ONE)])
    quote = desk.quote(kind=OrderKind.CLOSE, side=Side.LONG, size=Decimal(1))
    assert (quote.expected_price, quote.margin_required_usd) == (Decimal("99.85"), Decimal(0))
    short = desk.quote(side=Side.SHORT, size=Decimal("0.5"))
    assert short.expected_price == Decimal("99.9")
    assert short.price_impact_bps == 0


def test_dollars_buy_what_they_buy_in_the_book(desk: Desk) -> None:
    """$60.08 buy 50 lots at $1.001 and ten more at $1.002 with a rest."""
    quote = desk.quote(size_usd=Decimal("60.08"))
    assert (quote.size, quote.size_usd) == (Decimal("0.60"), Decimal("60.07"))


def test_liquidation_price_of_the_account_after_the_order(desk: Desk) -> None:
    """$20 behind 1 SOL bought at $100.15: 0.95 p = 100.15 + 0.06109 - 20."""
    desk.account(tokens=[(0, 20 * DOLLAR * ONE)])
    quote = desk.quote(size=Decimal(1))
    assert quote.liquidation_price is not None
    assert abs(quote.liquidation_price - Decimal("80.21109") / Decimal("0.95")) < Decimal("0.001")


def test_what_is_too_small_says_the_minimum_in_dollars(desk: Desk) -> None:
    """The smallest order is a lot: 0.01 SOL, a dollar."""
    with pytest.raises(BelowMinimum, match=r"0\.01 \(\$1\.0000"):
        desk.quote(size=Decimal("0.0099"))
    with pytest.raises(BelowMinimum, match=r"\$0\.5 is less than"):
        desk.quote(size_usd=Decimal("0.5"))
    wrong: tuple[dict[str, Any], ...] = ({"size": Decimal(0)}, {"size_usd": Decimal(-1)}, {})
    for terms in wrong:
        with pytest.raises(InvalidSize):
            desk.quote(**terms)


def test_what_the_venue_would_not_take(desk: Desk) -> None:
    """Too much for the book, for the match limit, for the weights or for the account is refused before it is sent."""
    with pytest.raises(NoLiquidity, match=r"11\.5\d* of 12"):
        desk.quote(size=Decimal(12))
    with pytest.raises(NoLiquidity, match="match limit"):
        desk.quote(size=Decimal(1), limit=1)
    with pytest.raises(LeverageAboveMaximum):
        desk.quote(size=Decimal(1), leverage=Decimal("10.01"))
    desk.account(tokens=[(0, 10 * DOLLAR * ONE)])
    with pytest.raises(InsufficientCollateral) as refused:
        desk.quote(size=Decimal(1))
    assert refused.value.raw_code == "6007"
    assert desk.quote(size=Decimal("0.5")).margin_required_usd == Decimal("50.05")


def test_an_own_order_in_the_way(desk: Desk) -> None:
    """The program would refuse the whole order, so it is not sent."""
    mine = mango_account_address(PROGRAM_ID, MAIN_GROUP, OWNER, 0)
    desk.book(asks=(Resting(10_010, 50, 1), Resting(10_020, 50, 2, owner=mine)))
    assert desk.quote(size=Decimal("0.5")).size == Decimal("0.5")
    with pytest.raises(NoLiquidity, match="own order"):
        desk.quote(size=Decimal("0.6"))


def test_funding(desk: Desk) -> None:
    """The middle of the book at the impact size against the oracle, a day's rate, longs pay what shorts receive."""
    # 100 lots are reached at 9,980 and 10,020: the middle is the oracle, but for the unit that it lies above.
    assert funding_rate_1h(desk.snapshot(), Side.LONG) == 0
    desk.book(bids=(Resting(10_180, 500, 1),), asks=(Resting(10_220, 500, 2),))
    snapshot = desk.snapshot()
    assert funding_rate_1h(snapshot, Side.LONG) == Decimal("0.000833333")
    assert funding_rate_1h(snapshot, Side.SHORT) == Decimal("-0.000833333")
    desk.book(bids=(Resting(20_000, 500, 1),), asks=(Resting(20_220, 500, 2),))
    assert funding_rate_1h(desk.snapshot(), Side.LONG) == Decimal("0.002083333")
    desk.book(bids=())
    assert funding_rate_1h(desk.snapshot(), Side.LONG) == Decimal("-0.002083333")
    desk.book(bids=(), asks=())
    assert funding_rate_1h(desk.snapshot(), Side.LONG) == 0


def test_what_a_reduce_only_order_lets_through(desk: Desk) -> None:
    """The position bounds it; in a market that only reduces, orders on the same side count as filled."""
    desk.account(perps=[Perp(market=2, base=8, taker_base=2, asks=3)])
    snapshot = desk.snapshot()
    assert reduce_only_lots(snapshot, OrderSide.ASK, 99) == 10
    assert reduce_only_lots(snapshot, OrderSide.ASK, 4) == 4
    assert reduce_only_lots(snapshot, OrderSide.BID, 4) == 0
    desk.market(reduce_only=True)
    assert reduce_only_lots(desk.snapshot(), OrderSide.ASK, 99) == 7
    desk.account(perps=[Perp(market=2, base=-8, bids=9)])
    assert reduce_only_lots(desk.snapshot(), OrderSide.BID, 99) == 0


def test_the_worst_price_is_never_passed(desk: Desk) -> None:
    """A bound between two prices goes to the better one; a buy below the smallest price is refused."""
    units = lot_units(desk.snapshot().market)
    assert price_lots_of(Decimal("100.019"), units, OrderSide.BID) == 10_001
    assert price_lots_of(Decimal("100.011"), units, OrderSide.ASK) == 10_002
    assert price_lots_of(Decimal("0.001"), units, OrderSide.ASK) == 1
    with pytest.raises(WorstPriceNotMet):
        price_lots_of(Decimal("0.001"), units, OrderSide.BID)
