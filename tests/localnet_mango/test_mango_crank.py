"""Queue, funding, cancelling, giving a slot back, and who may act."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.enums import IxGate, PlaceOrderType, Side
from router.localnet.mango.layouts import Group, StubOracle
from router.localnet.mango.numbers import ONE, div, from_int, mul
from router.localnet.programs import ModelRefusal
from tests.localnet_mango.market_bench import START, Bench, key_of

_SNAPSHOT = Path(__file__).resolve().parents[3] / "shared" / "snapshots" / "mango" / "mangoaccount-v0.21.3.bin"


def _traded() -> tuple[Bench, Pubkey, Pubkey]:
    """Return a bench where `taker` bought 4 of the 5 lots that `maker` asks at 100."""
    bench = Bench()
    maker, taker = bench.trader("maker"), bench.trader("taker")
    bench.place(maker, bench.order(Side.ASK, 100, 5))
    bench.place(taker, bench.order(Side.BID, 100, 4, PlaceOrderType.MARKET))
    return bench, maker, taker


def _code(error: pytest.ExceptionInfo[ModelRefusal]) -> int:
    return error.value.code


def test_consuming_moves_the_match_into_both_positions() -> None:
    """The taker is long 4 at 100 native a lot, the maker short 4 with its rebate, open interest counts both."""
    bench, maker, taker = _traded()
    assert bench.market.open_interest == 0
    bench.consume(maker, taker)
    long, short, market = bench.position(taker), bench.position(maker), bench.market
    assert (long.base_position_lots, long.taker_base_lots, long.taker_quote_lots) == (4, 0, 0)
    assert long.quote_position_native == -400 * ONE - mul(400 * ONE, market.taker_fee)
    assert long.avg_entry_price_per_base_lot == 100.0
    assert (long.quote_running_native, long.taker_volume) == (-400, 404)
    assert (short.base_position_lots, short.asks_base_lots, short.maker_volume) == (-4, 1, 400)
    rebate = -mul(400 * ONE, market.maker_fee)
    assert abs(short.quote_position_native - (400 * ONE + rebate)) < ONE // 1_000
    assert market.open_interest == 8
    assert bench.account(maker).perp_open_orders[0].quantity == 1
    assert [len(bench.printed(name)) for name in ("PerpBalanceLog", "FillLogV3")] == [2, 1]
    assert bench.events.count == 0


def test_closing_realizes_the_difference_and_frees_the_slot() -> None:
    """Sold at 103 after bought at 100: 12 native of PnL; an emptied position can be given back."""
    bench, maker, taker = _traded()
    bench.consume(maker, taker)
    bench.run("perp_cancel_all_orders", bytes([10]), bench.market_metas(maker))
    bench.place(maker, bench.order(Side.BID, 103, 4))
    bench.place(taker, bench.order(Side.ASK, 103, 4, PlaceOrderType.MARKET, reduce_only=True))
    bench.consume(maker, taker)
    (log,) = bench.printed("FillLogV3")
    maker_pnl, taker_pnl = struct.unpack_from("<dd", log, len(log) - 16)
    assert (maker_pnl, taker_pnl) == (-12.0, 12.0)
    assert bench.position(taker).base_position_lots == 0
    metas = bench.market_metas(taker)[:4]
    with pytest.raises(ModelRefusal) as caught:
        bench.run("perp_deactivate_position", b"", metas)
    assert _code(caught) == 6000
    account = bench.account(taker)
    account.perps[0].quote_position_native = 0
    bench.put(taker, account)
    bench.run("perp_deactivate_position", b"", metas)
    assert not bench.account(taker).perps[0].is_active
    assert bench.account(taker).tokens[0].in_use_count == 0
    assert len(bench.printed("DeactivatePerpPositionLog")) == 1


def test_a_missing_account_ends_the_consuming_and_keeps_what_was_done() -> None:
    """Without the taker nothing is consumed, and the instruction succeeds."""
    bench, maker, taker = _traded()
    bench.consume(maker)
    assert bench.events.count == 1
    assert any("Unable to find taker account" in line for line in bench.logs)
    bench.consume(taker, maker)
    assert bench.events.count == 0


def test_funding_follows_the_middle_of_the_book_for_an_hour_at_most() -> None:
    """Bids at 102 and asks at 104 are 3 % above the oracle of 100; after two hours one hour is applied."""
    bench = Bench()
    maker = bench.trader("maker")
    bench.place(maker, bench.order(Side.BID, 102, 10))
    bench.place(maker, bench.order(Side.ASK, 104, 10))
    bench.now += 7_200
    bench.place(maker, bench.order(Side.BID, 50, 1))
    rate = div(103 * ONE // 10, 10 * ONE) - ONE
    hour = div(from_int(3_600), from_int(86_400))
    assert abs(bench.market.long_funding - mul(mul(100 * ONE, rate), hour)) <= 100
    assert bench.market.short_funding == bench.market.long_funding
    assert bench.market.funding_last_updated == START + 7_200
    (log,) = bench.printed("PerpUpdateFundingLogV2")
    assert abs(int.from_bytes(log[-16:], "little", signed=True) - ONE * 3 // 100) < 100


def test_funding_alone_asks_for_a_fresh_oracle() -> None:
    """A price of 101 slots ago with 100 allowed fails `perpUpdateFunding` with 6024, but not the order itself."""
    bench = Bench()
    maker = bench.trader("maker")
    oracle = StubOracle.zero()
    oracle.price, oracle.last_update_slot = 10 * ONE, bench.slot - 101
    bench.put(bench.oracle, oracle)
    bench.place(maker, bench.order(Side.BID, 99, 1))
    metas = [bench.market_metas(maker)[index] for index in (0, 3, 4, 5)]
    metas.append(AccountMeta(bench.oracle, is_signer=False, is_writable=False))
    with pytest.raises(ModelRefusal) as caught:
        bench.run("perp_update_funding", b"", metas)
    assert _code(caught) == 6024
    oracle.last_update_slot, oracle.deviation = bench.slot, 2 * ONE
    bench.put(bench.oracle, oracle)
    with pytest.raises(ModelRefusal) as caught:
        bench.place(maker, bench.order(Side.BID, 99, 1))
    assert _code(caught) == 6023


def test_cancelling_frees_book_slot_and_lots() -> None:
    """By number, by client's number, and all of a side; an unknown number is 6044."""
    bench = Bench()
    maker = bench.trader("maker")
    for price in (97, 98, 99):
        bench.place(maker, bench.order(Side.BID, price, 1, client_id=price))
    bench.place(maker, bench.order(Side.ASK, 101, 1))
    order_id = bench.account(maker).perp_open_orders[0].id
    metas = bench.market_metas(maker)
    bench.run("perp_cancel_order", order_id.to_bytes(16, "little"), metas)
    with pytest.raises(ModelRefusal) as caught:
        bench.run("perp_cancel_order", order_id.to_bytes(16, "little"), metas)
    assert _code(caught) == 6044
    bench.run("perp_cancel_order_by_client_order_id", struct.pack("<Q", 98), metas)
    assert bench.book(Side.BID) == [(99, 1)]
    bench.run("perp_cancel_all_orders_by_side", bytes([1, Side.BID, 10]), metas)
    assert (bench.book(Side.BID), bench.book(Side.ASK)) == ([], [(101, 1)])
    bench.run("perp_cancel_all_orders", bytes([10]), metas)
    assert bench.book(Side.ASK) == []
    assert not bench.position(maker).has_open_orders


def test_an_order_cancelled_after_its_match_keeps_the_matched_lots_until_consumed() -> None:
    """The slot is free at once, the lots of the event only when it is consumed."""
    bench, maker, taker = _traded()
    bench.run("perp_cancel_all_orders", bytes([10]), bench.market_metas(maker))
    assert bench.position(maker).asks_base_lots == 4
    assert not bench.account(maker).perp_open_orders[0].is_active
    bench.consume(maker, taker)
    assert bench.position(maker).asks_base_lots == 0


def test_only_owner_and_delegates_may_act() -> None:
    """A stranger gets the generic error 6000, an unsigned owner 3010, a delegate may trade."""
    bench = Bench()
    maker = bench.trader("maker")
    order = bench.order(Side.BID, 99, 1)
    with pytest.raises(ModelRefusal) as caught:
        bench.run("perp_place_order_v2", order, bench.place_metas(maker, key_of("stranger")))
    assert _code(caught) == 6000
    metas = bench.place_metas(maker)
    metas[2] = AccountMeta(metas[2].pubkey, is_signer=False, is_writable=False)
    with pytest.raises(ModelRefusal) as caught:
        bench.run("perp_place_order_v2", order, metas)
    assert _code(caught) == 3010
    account = bench.account(maker)
    account.head.delegate = key_of("delegate")
    bench.put(maker, account)
    bench.run("perp_place_order_v2", order, bench.place_metas(maker, key_of("delegate")))
    assert bench.book(Side.BID) == [(99, 1)]


def test_gates_frozen_accounts_and_wrong_accounts_are_refused() -> None:
    """6042 for a closed gate, 6038 for a frozen account, 2001 for another's book, 2000 read-only, 3007 no account."""
    bench = Bench()
    maker = bench.trader("maker")
    order, metas = bench.order(Side.BID, 99, 1), bench.place_metas(maker)

    def code(changed: list[AccountMeta]) -> int:
        with pytest.raises(ModelRefusal) as caught:
            bench.run("perp_place_order_v2", order, changed)
        return _code(caught)

    assert code([*metas[:4], metas[5], metas[4], *metas[6:]]) == 2001
    assert code([*metas[:3], AccountMeta(metas[3].pubkey, is_signer=False, is_writable=False), *metas[4:]]) == 2000
    assert code([AccountMeta(key_of("nobody"), is_signer=False, is_writable=False), *metas[1:]]) == 3007
    assert code([metas[1], *metas[1:]]) == 3002
    assert code(metas[:5]) == 3005
    account = bench.account(maker)
    account.head.frozen_until = START
    bench.put(maker, account)
    assert code(metas) == 6038
    group = Group.zero()
    group.ix_gate = 1 << IxGate.PERP_PLACE_ORDER
    bench.put(bench.group, group)
    assert code(metas) == 6042


def test_arguments_are_read_before_the_accounts() -> None:
    """Short or impossible arguments are 102, an unknown instruction is 101, a negative size is 2506."""
    bench = Bench()
    maker = bench.trader("maker")
    for args in (b"\x00", bench.order(Side.BID, 99, 1)[:-1], b"\x02" + bench.order(Side.BID, 99, 1)[1:]):
        with pytest.raises(ModelRefusal) as caught:
            bench.run("perp_place_order_v2", args, [])
        assert _code(caught) == 102
    with pytest.raises(ModelRefusal) as caught:
        bench.run("perp_place_nothing", b"", [])
    assert _code(caught) == 101
    with pytest.raises(ModelRefusal) as caught:
        bench.place(maker, bench.order(Side.BID, 99, -1))
    assert _code(caught) == 2506


@pytest.mark.shared
def test_an_account_of_mainnet_is_encoded_as_it_was_read() -> None:
    """Every byte of a real account survives decoding and encoding."""
    if not _SNAPSHOT.exists():
        pytest.skip(f"{_SNAPSHOT.name} is not there")
    data = _SNAPSHOT.read_bytes()
    account = MangoAccount.decode(data, 8)
    assert account.encode() == data[8:]
    sizes = (account.tokens, account.serum3, account.perps, account.perp_open_orders, account.token_conditional_swaps)
    assert [len(slots) for slots in sizes] == [8, 4, 4, 64, 8]
    space = MangoAccount.space(tokens=8, serum3=4, perps=4, perp_open_orders=64, token_conditional_swaps=8)
    assert space == len(data)
