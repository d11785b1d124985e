"""Orders against the book, with figures computed by hand: price 100 lots, 10 base native a lot, taker fee 1 %."""

from __future__ import annotations

import struct

import pytest

from router.localnet.mango.enums import PlaceOrderType, SelfTradeBehavior, Side
from router.localnet.mango.numbers import ONE
from router.localnet.mango.queue import CAPACITY, FillEvent, OutEvent
from router.localnet.programs import ModelPanic, ModelRefusal
from tests.localnet_mango.market_bench import START, Bench

_IOC = PlaceOrderType.IMMEDIATE_OR_CANCEL


def _stocked() -> Bench:
    """Return a bench where `maker` asks 5 at 101 and 7 at 102, and bids 4 at 99."""
    bench = Bench()
    maker = bench.trader("maker")
    for side, price, base in ((Side.ASK, 101, 5), (Side.ASK, 102, 7), (Side.BID, 99, 4)):
        bench.place(maker, bench.order(side, price, base))
    return bench


def test_a_taker_walks_the_asks_and_is_booked_at_once() -> None:
    """8 lots cost 5x101 + 3x102 = 811; the fee is 8.11 plus the penalty of 0.5, all before any event is consumed."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 102, 8, _IOC, client_id=77))
    position = bench.position(taker)
    assert (position.taker_base_lots, position.taker_quote_lots) == (8, -811)
    assert position.base_position_lots == 0
    fee = (811 * ONE * bench.market.taker_fee) >> 48
    assert position.quote_position_native == -fee - ONE // 2
    assert abs(fee / ONE - 8.11) < 1e-9
    maker_fee = (811 * ONE * bench.market.maker_fee) >> 48
    assert bench.market.fees_accrued == fee + maker_fee + ONE // 2
    assert bench.book(Side.ASK) == [(102, 4)]
    fills = [event for event in bench.events.events() if isinstance(event, FillEvent)]
    assert [(fill.price, fill.quantity, fill.maker_out) for fill in fills] == [(101, 5, 1), (102, 3, 0)]
    assert {fill.taker_client_order_id for fill in fills} == {77}
    (log,) = bench.printed("PerpTakerTradeLog")
    side, base, own_base, quote, own_quote = struct.unpack_from("<Bqqqq", log, 66)
    assert (side, base, own_base, quote, own_quote) == (Side.BID, 8, 0, 811, 0)
    assert int.from_bytes(log[99:115], "little", signed=True) == fee
    assert int.from_bytes(log[115:131], "little", signed=True) == ONE // 2
    assert len(bench.printed("FilledPerpOrderLog")) == 2


def test_an_unfilled_ioc_pays_the_penalty_and_prints_no_trade() -> None:
    """Nothing matches at 100, yet the penalty is charged; a market order that fills pays none."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 100, 8, _IOC))
    assert bench.position(taker).quote_position_native == -(ONE // 2)
    assert bench.printed("PerpTakerTradeLog") == []
    other = bench.trader("other")
    bench.place(other, bench.order(Side.BID, 0, 1, PlaceOrderType.MARKET))
    assert bench.position(other).quote_position_native == -((101 * ONE * bench.market.taker_fee) >> 48)


def test_the_quote_limit_cuts_the_size() -> None:
    """With 607 quote lots 5 lots at 101 leave 102, which is one more lot at 102."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 200, 100, _IOC, quote=607))
    assert bench.position(taker).taker_base_lots == 6
    assert bench.position(taker).taker_quote_lots == -607


def test_reaching_the_match_limit_ends_quietly_and_nothing_rests() -> None:
    """A limit order that may meet one order takes it, and its remainder does not rest."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 102, 8, limit=1))
    assert bench.position(taker).taker_base_lots == 5
    assert bench.book(Side.BID) == [(99, 4)]
    assert "Program log: Order matching limit reached" in bench.logs


def test_a_limit_order_rests_with_what_is_left() -> None:
    """The remainder stands at the limit, is counted on the position and holds a slot of the account."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 101, 8, client_id=5))
    assert bench.book(Side.BID) == [(101, 3), (99, 4)]
    assert bench.position(taker).bids_base_lots == 3
    place = bench.account(taker).perp_open_orders[0]
    assert (place.market, place.client_id, place.quantity, place.id >> 64) == (3, 5, 3, 101)


def test_post_only_does_nothing_where_it_would_take_and_slide_moves() -> None:
    """A crossing post-only order vanishes; the sliding kind stands one lot below the best ask."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 101, 8, PlaceOrderType.POST_ONLY))
    assert bench.book(Side.BID) == [(99, 4)]
    bench.place(taker, bench.order(Side.BID, 105, 8, PlaceOrderType.POST_ONLY_SLIDE))
    assert bench.book(Side.BID) == [(100, 8), (99, 4)]
    assert bench.events.count == 0


def test_an_order_too_far_from_the_oracle_does_not_rest() -> None:
    """A bid may rest up to 1.5 times the oracle of 100, an ask down to half of it."""
    bench = Bench()
    maker = bench.trader("maker")
    bench.place(maker, bench.order(Side.BID, 151, 1))
    bench.place(maker, bench.order(Side.ASK, 49, 1))
    assert (bench.book(Side.BID), bench.book(Side.ASK)) == ([], [])
    bench.place(maker, bench.order(Side.BID, 50, 1))
    bench.place(maker, bench.order(Side.ASK, 150, 1))
    assert (bench.book(Side.BID), bench.book(Side.ASK)) == ([(50, 1)], [(150, 1)])


def test_a_pegged_order_trades_at_the_oracle_and_its_offset() -> None:
    """An ask pegged at +0 is at 100 with an oracle of 100, in front of the fixed ask at 101."""
    bench = _stocked()
    bench.place_pegged(bench.trader("pegger"), Side.ASK, 0, 2)
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 101, 4, _IOC))
    assert bench.position(taker).taker_quote_lots == -(2 * 100 + 2 * 101)
    assert bench.book(Side.ASK) == [(101, 3), (102, 7)]


def test_the_three_ways_of_meeting_oneself() -> None:
    """Decrement trades without fees, cancel-provide drops the resting order, abort refuses with 6048."""
    bench = _stocked()
    maker = bench.trader("maker2")
    bench.place(maker, bench.order(Side.ASK, 100, 2))
    with pytest.raises(ModelRefusal) as caught:
        bench.place(maker, bench.order(Side.BID, 101, 3, _IOC, self_trade=SelfTradeBehavior.ABORT_TRANSACTION))
    assert (caught.value.code, caught.value.name) == (6048, "WouldSelfTrade")
    bench.place(maker, bench.order(Side.BID, 101, 3, PlaceOrderType.MARKET))
    (log,) = bench.printed("PerpTakerTradeLog")
    assert struct.unpack_from("<qqqq", log, 67) == (3, 2, 301, 200)
    assert bench.position(maker).quote_position_native == -((101 * ONE * bench.market.taker_fee) >> 48)
    bench.place(maker, bench.order(Side.ASK, 100, 2))
    behavior = SelfTradeBehavior.CANCEL_PROVIDE
    bench.place(maker, bench.order(Side.BID, 101, 3, PlaceOrderType.MARKET, self_trade=behavior))
    (log,) = bench.printed("PerpTakerTradeLog")
    assert struct.unpack_from("<qqqq", log, 67) == (3, 0, 303, 0)
    assert isinstance(bench.events.events()[-2], OutEvent)


def test_expired_orders_are_dropped_while_matching() -> None:
    """An expired ask in front is taken out with an event, and the order behind it trades."""
    bench = Bench()
    maker, taker = bench.trader("maker"), bench.trader("taker")
    bench.place(maker, bench.order(Side.ASK, 100, 5, expiry=START + 10))
    bench.place(maker, bench.order(Side.ASK, 101, 5))
    bench.now += 10
    bench.place(taker, bench.order(Side.BID, 101, 2, _IOC))
    assert [type(event) for event in bench.events.events()] == [OutEvent, FillEvent]
    assert bench.book(Side.ASK) == [(101, 3)]
    bench.consume(maker, taker)
    assert bench.position(maker).asks_base_lots == 3
    assert [place.is_active for place in bench.account(maker).perp_open_orders[:2]] == [False, True]


def test_an_order_that_expired_before_it_ran_does_nothing_and_succeeds() -> None:
    """Only the line of the program tells: no position is opened, no penalty charged."""
    bench = _stocked()
    taker = bench.trader("taker")
    effects = bench.place(taker, bench.order(Side.BID, 102, 8, _IOC, expiry=START))
    assert not effects.writes
    assert "Program log: Order is already expired" in bench.logs


def test_reduce_only_is_cut_to_the_position_and_otherwise_zero() -> None:
    """Without a position nothing trades; a long of 3 (still in the queue) lets 3 be sold."""
    bench = _stocked()
    taker = bench.trader("taker")
    bench.place(taker, bench.order(Side.BID, 102, 3, PlaceOrderType.MARKET, reduce_only=True))
    assert bench.position(taker).taker_base_lots == 0
    bench.place(taker, bench.order(Side.BID, 102, 3, PlaceOrderType.MARKET))
    bench.place(taker, bench.order(Side.ASK, 1, 9, PlaceOrderType.MARKET, reduce_only=True))
    assert bench.position(taker).effective_base_lots == 0


def test_a_market_in_reduce_only_mode_refuses_what_would_grow() -> None:
    """An opening order without the flag is refused with 6031."""
    bench = _stocked()
    market = bench.market
    market.reduce_only = 1
    bench.put(bench.market_key, market)
    taker = bench.trader("taker")
    with pytest.raises(ModelRefusal) as caught:
        bench.place(taker, bench.order(Side.BID, 102, 3, PlaceOrderType.MARKET))
    assert caught.value.code == 6031


def test_a_full_queue_aborts_the_program() -> None:
    """With 488 events waiting a match cannot be recorded: the program panics and nothing changes."""
    bench = _stocked()
    queue = bench.events
    while queue.push(OutEvent.of(Side.BID, slot=0, timestamp=0, seq_num=0, owner=bench.group, quantity=1, order_id=1)):
        pass
    assert queue.count == CAPACITY
    bench.put(bench.queue, queue)
    with pytest.raises(ModelPanic) as caught:
        bench.place(bench.trader("taker"), bench.order(Side.BID, 102, 3, _IOC))
    assert caught.value.name == "ProgramFailedToComplete"
