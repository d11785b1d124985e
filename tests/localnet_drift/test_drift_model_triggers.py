"""Trigger orders: resting, set off by a keeper, filled through their auction, and what ends them without a fill."""

from __future__ import annotations

import base64
import struct
from decimal import Decimal

import pytest

from router.localnet.anchor import event_discriminator
from router.localnet.drift.enums import TriggerCondition
from router.localnet.drift.layouts import State, User
from router.localnet.drift.market_layouts import PerpMarket
from tests.localnet_drift.drift_bench import BASE, PRICE, Bench, Outcome, changed, limit, market_order, meta, trigger

LONG, SHORT = 0, 1
FLAT_FEE = 10_000
PLACE, CANCEL, FILL, TRIGGER = 0, 1, 2, 3


def actions(outcome: Outcome) -> list[tuple[int, int]]:
    """Return action and explanation of the order events of a transaction."""
    found: list[tuple[int, int]] = []
    for event in outcome.events:
        data = base64.b64decode(event)
        if data[:8] == event_discriminator("OrderActionRecord"):
            _, action, explanation = struct.unpack_from("<qBB", data, 8)
            found.append((action, explanation))
    return found


def hold(bench: Bench, base: int = 10 * BASE, side: int = LONG) -> None:
    """Open a position of the trader."""
    bound = 155 * PRICE if side == LONG else 145 * PRICE
    assert bench.send([bench.take(limit(side, base, bound, immediate_or_cancel=True))]).code is None


def move(bench: Bench, price: str, *, follows: bool = True) -> None:
    """Move SOL's price."""
    bench.control(lambda controls: controls.set_oracle_price("SOL-PERP", Decimal(price), amm_follows=follows))


def set_off(bench: Bench, order_id: int) -> Outcome:
    """Have the keeper set an order off."""
    return bench.send([bench.trigger(order_id)], [bench.world.keeper.wallet])


def filled(bench: Bench, order_id: int) -> Outcome:
    """Have the keeper fill an order."""
    return bench.send([bench.fill(order_id)], [bench.world.keeper.wallet])


def quote_of(bench: Bench) -> int:
    """Return the quote amount of the trader's position in SOL."""
    position = bench.position()
    assert position is not None
    return position.quote_asset_amount


def test_a_waiting_trigger_takes_no_side_of_the_book(bench: Bench) -> None:
    """It counts as an open order and adds no bid and no ask; cancelling it leaves the slot as it was."""
    hold(bench)
    before = bench.position()
    bench.send([bench.place(trigger(SHORT, 10 * BASE, 140 * PRICE, above=False))])
    position = bench.position()
    assert position is not None
    assert (position.open_orders, position.open_bids, position.open_asks) == (1, 0, 0)
    bench.send([bench.cancel(bench.last_order())])
    assert bench.position() == before


@pytest.mark.parametrize("price", ["141", "140"])
def test_a_price_that_has_not_passed_sets_nothing_off(bench: Bench, price: str) -> None:
    """Above the stop and on it alike the program refuses; below it the order goes off."""
    hold(bench)
    bench.send([bench.place(trigger(SHORT, 10 * BASE, 140 * PRICE, above=False))])
    move(bench, price)
    assert set_off(bench, bench.last_order()).code == 6112
    move(bench, "139.9999")
    assert set_off(bench, bench.last_order()).code is None
    assert set_off(bench, bench.last_order()).code == 6111


@pytest.mark.parametrize(
    ("side", "at", "price"), [(LONG, 146, "145"), (LONG, 155, "156"), (SHORT, 155, "156"), (SHORT, 146, "145")]
)
def test_set_off_and_filled(bench: Bench, side: int, at: int, price: str) -> None:
    """Stop and take profit of a long and a short: the flat fee at the trigger, then the auction, then flat."""
    hold(bench, side=side)
    above = at > 150
    bench.send([bench.place(trigger(1 - side, 10 * BASE, at * PRICE, above=above))])
    order_id = bench.last_order()
    assert filled(bench, order_id).code == 6110
    move(bench, price)
    quote = quote_of(bench)
    outcome = set_off(bench, order_id)
    assert actions(outcome) == [(TRIGGER, 0)]
    assert any(line.startswith("Program data:") for line in outcome.logs)
    assert quote_of(bench) == quote - FLAT_FEE
    (order,) = bench.open_orders()
    expected = TriggerCondition.TRIGGERED_ABOVE if above else TriggerCondition.TRIGGERED_BELOW
    assert (order.trigger_condition, order.slot, order.price) == (expected, bench.cluster.slot, 0)
    assert order.auction_duration >= 30
    position = bench.position()
    assert position is not None
    assert (position.open_bids, position.open_asks) == ((0, -10 * BASE) if side == LONG else (10 * BASE, 0))
    for _ in range(20):
        bench.advance(3)
        if actions(filled(bench, order_id)):
            break
    assert (bench.base(), bench.open_orders()) == (0, [])
    assert bench.user().has_open_order is False


def test_only_its_size_is_closed(bench: Bench) -> None:
    """Of a larger position a trigger closes its own size and no more."""
    hold(bench, 10 * BASE)
    bench.send([bench.place(trigger(SHORT, 4 * BASE, 145 * PRICE, above=False))])
    move(bench, "144")
    set_off(bench, bench.last_order())
    bench.advance(40)
    filled(bench, bench.last_order())
    assert (bench.base(), bench.open_orders()) == (6 * BASE, [])


def test_a_trigger_without_its_position(bench: Bench) -> None:
    """With the position gone it still goes off; the fill then takes it off, and each costs the flat fee."""
    hold(bench)
    bench.send([bench.place(trigger(SHORT, 10 * BASE, 145 * PRICE, above=False))])
    order_id = bench.last_order()
    bench.send([bench.take(limit(SHORT, 10 * BASE, 145 * PRICE, reduce_only=True))])
    assert (bench.base(), len(bench.open_orders())) == (0, 1)
    quote = quote_of(bench)
    move(bench, "144")
    assert actions(set_off(bench, order_id)) == [(TRIGGER, 0)]
    assert actions(filled(bench, order_id)) == [(CANCEL, 12)]
    assert (quote_of(bench), bench.open_orders()) == (quote - 2 * FLAT_FEE, [])


def test_max_ts_does_not_end_a_trigger(bench: Bench) -> None:
    """An expiry in the past keeps the order from being placed; one that passes later changes nothing for ever."""
    hold(bench)
    assert bench.send([bench.place(trigger(SHORT, BASE, 145 * PRICE, above=False, max_ts=bench.now - 1))]).events == ()
    bench.send([bench.place(trigger(SHORT, 10 * BASE, 145 * PRICE, above=False, max_ts=bench.now + 5))])
    order_id = bench.last_order()
    bench.advance(30, seconds=600)
    bench.send([bench.place(limit(LONG, BASE, 100 * PRICE))])
    assert len(bench.open_orders()) == 2
    move(bench, "144")
    set_off(bench, order_id)
    bench.advance(300, seconds=120)
    move(bench, "144")
    filled(bench, order_id)
    assert bench.base() == 0


def test_cancelled_after_it_went_off(bench: Bench) -> None:
    """Its side of the book goes with it."""
    hold(bench)
    bench.send([bench.place(trigger(SHORT, 10 * BASE, 145 * PRICE, above=False))])
    move(bench, "144")
    set_off(bench, bench.last_order())
    assert actions(bench.send([bench.cancel(bench.last_order())])) == [(CANCEL, 0)]
    position = bench.position()
    assert position is not None
    assert (position.open_orders, position.open_bids, position.open_asks) == (0, 0, 0)


def test_who_and_what_may_set_off(bench: Bench) -> None:
    """Other orders, orders that are not there, a stranger's filler, a read-only market, pauses, a wild price."""
    hold(bench)
    keeper = [bench.world.keeper.wallet]
    bench.send([bench.place(limit(LONG, BASE, 100 * PRICE))])
    assert set_off(bench, bench.last_order()).code == 6111
    assert set_off(bench, 99).code is None
    assert set_off(bench, 0).code == 6062
    bench.send([bench.place(trigger(SHORT, BASE, 145 * PRICE, above=False))])
    order_id = bench.last_order()
    move(bench, "144")
    instruction = bench.trigger(order_id)
    assert bench.send([changed(instruction, at=2, to=meta(bench.world.maker.user, writable=True))], keeper).code == 2003
    assert bench.send([changed(instruction, at=3, to=meta(bench.world.trader_account.user))], keeper).code == 2000
    readonly = bench.trigger(order_id)
    at = next(i for i, each in enumerate(readonly.accounts) if each.pubkey == bench.world.market("SOL-PERP").address)
    readonly = changed(readonly, at=at, to=meta(readonly.accounts[at].pubkey))
    assert bench.send([readonly], keeper).code == 6080
    bench.control(lambda controls: controls.pause("exchange"))
    assert set_off(bench, order_id).code == 6024
    bench.control(lambda controls: controls.pause("exchange", paused=False))
    bench.control(lambda controls: controls.pause("fills"))
    move(bench, "20", follows=False)
    assert set_off(bench, order_id).code == 6035
    move(bench, "144")
    # A stale or wide price stops no trigger.
    bench.edit(State, bench.world.state, "oracle_guard_rails.validity.too_volatile_ratio", 1)
    bench.control(lambda controls: controls.set_oracle_confidence("SOL-PERP", Decimal(20)))
    bench.control(lambda controls: controls.freeze_oracle("SOL-PERP"))
    bench.advance(200)
    assert set_off(bench, order_id).code is None


def test_a_trigger_that_opens(bench: Bench) -> None:
    """One that is not reduce-only needs its margin when it goes off, and is cancelled where it is not there."""
    bench.send([bench.place(trigger(LONG, 10 * BASE, 155 * PRICE, above=True, reduce_only=False))])
    bench.send([bench.place(trigger(LONG, 400 * BASE, 155 * PRICE, above=True, reduce_only=False))])
    order_id = bench.last_order()
    move(bench, "156")
    assert actions(set_off(bench, order_id - 1)) == [(TRIGGER, 0)]
    bench.control(lambda controls: controls.set_collateral(Decimal(1_000)))
    assert actions(set_off(bench, order_id)) == [(TRIGGER, 0), (CANCEL, 1)]
    assert [order.order_id for order in bench.open_orders()] == [order_id - 1]


def test_a_filler_without_a_place_is_not_paid(bench: Bench) -> None:
    """The owner pays all the same, and the record says nothing of it."""
    hold(bench)
    bench.send([bench.place(trigger(SHORT, BASE, 145 * PRICE, above=False))])
    move(bench, "144")
    for index in range(8):
        bench.edit(User, bench.world.keeper.user, f"perp_positions.{index}.market_index", index + 2)
        bench.edit(User, bench.world.keeper.user, f"perp_positions.{index}.open_orders", 1)
    quote = quote_of(bench)
    outcome = set_off(bench, bench.last_order())
    data = base64.b64decode(outcome.events[0])
    assert struct.unpack_from("<BQ", data, 8 + 13 + 33) == (1, 0)
    assert quote_of(bench) == quote - FLAT_FEE


@pytest.mark.parametrize("tier", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("side", [LONG, SHORT])
def test_the_auction_of_a_triggered_order(bench: Bench, tier: int, side: int) -> None:
    """Start, end and length follow the market's averages, spreads, deviations and tier, to the unit."""
    hold(bench, side=side)
    key = bench.world.market("SOL-PERP").address
    bench.edit(PerpMarket, key, "contract_tier", tier)
    for step, deviation in enumerate((0, 300_000, 40_000_000)):
        bench.edit(PerpMarket, key, "amm.mark_std", deviation)
        bench.edit(PerpMarket, key, "amm.last_bid_price_twap", 149 * PRICE + step * 400_000)
        bench.edit(PerpMarket, key, "amm.last_ask_price_twap", 150 * PRICE + step * 300_000)
        bench.send([bench.place(trigger(1 - side, BASE, 100 * PRICE, above=True))])
        assert set_off(bench, bench.last_order()).code is None
        (order,) = [each for each in bench.open_orders() if each.order_id == bench.last_order()]
        ends_beyond = order.auction_end_price - order.auction_start_price
        assert (ends_beyond <= 0) if side == LONG else (ends_beyond >= 0)
        assert 30 <= order.auction_duration <= 180
    bench.advance(200, seconds=200)
    bench.send([bench.take(market_order(side, BASE))])
    bench.send([bench.place(trigger(1 - side, BASE, 100 * PRICE, above=True))])
    assert set_off(bench, bench.last_order()).code is None


def test_averages_that_are_apart_in_time(bench: Bench) -> None:
    """With the oracle's average a minute older than the market's, the auction starts at a fixed distance."""
    hold(bench)
    key = bench.world.market("SOL-PERP").address
    bench.edit(PerpMarket, key, "amm.last_mark_price_twap_ts", bench.now - 100)
    bench.send([bench.place(trigger(SHORT, BASE, 100 * PRICE, above=True))])
    set_off(bench, bench.last_order())
    (order,) = bench.open_orders()
    ask = bench.market().amm.last_ask_price_twap
    assert order.auction_start_price == 150 * PRICE - ask // 500


def test_a_limit_trigger_keeps_its_limit(bench: Bench) -> None:
    """A trigger limit order's auction stays inside its limit, and it rests there afterwards."""
    hold(bench)
    params = trigger(SHORT, 10 * BASE, 145 * PRICE, above=False)
    params.order_type, params.price = 3, 144_500_000
    bench.send([bench.place(params)])
    move(bench, "144")
    set_off(bench, bench.last_order())
    (order,) = bench.open_orders()
    assert order.auction_end_price == 144_500_000
    bench.advance(60)
    assert actions(filled(bench, bench.last_order())) == []
    assert bench.base() == 10 * BASE
    move(bench, "145")
    assert actions(filled(bench, bench.last_order())) == [(FILL, 6)]
    assert bench.base() == 0


def test_a_keeper_does_both(bench: Bench) -> None:
    """The world's keeper sets the order off when the price passes and fills it in its auction."""
    hold(bench)
    bench.send([bench.place(trigger(SHORT, 10 * BASE, 145 * PRICE, above=False))])
    bench.control(lambda controls: controls.run_keeper())
    bench.advance(20)
    assert bench.base() == 10 * BASE
    move(bench, "144")
    bench.advance(60)
    assert (bench.base(), bench.open_orders()) == (0, [])
    bench.compare()


def test_a_liquidation_takes_triggers_off(bench: Bench) -> None:
    """An account that is liquidated loses its resting protection with its other orders."""
    hold(bench, 20 * BASE)
    bench.send([bench.place(trigger(SHORT, 20 * BASE, 140 * PRICE, above=False))])
    for side in bench.sides:
        side.controls.liquidate("SOL-PERP")
    assert bench.open_orders() == []
    bench.compare()
