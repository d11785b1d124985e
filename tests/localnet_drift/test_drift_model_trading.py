"""Opening, closing, resting, cancelling, filling: what an order does to the account, and what is printed."""

from __future__ import annotations

import base64
import struct
from decimal import Decimal

import pytest
from solders.keypair import Keypair

from router.localnet.anchor import event_discriminator
from tests.localnet_drift.drift_bench import BASE, PRICE, USDC, Bench, limit, market_order

SOL = 0


def _action(event: str) -> tuple[int, int]:
    """Return action and explanation of an order event."""
    data = base64.b64decode(event)
    assert data[:8] == event_discriminator("OrderActionRecord")
    _, action, explanation = struct.unpack_from("<qBB", data, 8)
    return action, explanation


def test_open_fills_against_the_amm_at_once(bench: Bench) -> None:
    """An immediate limit order that crosses is filled in its own transaction, at curve price plus spread and fee."""
    outcome = bench.send([bench.take(limit(0, 10 * BASE, 152 * PRICE, immediate_or_cancel=True))])

    position = bench.position()
    assert position is not None
    assert position.base_asset_amount == 10 * BASE
    # 0.5 bp of half spread on the reserve is 1 bp on the price; impact of 10 in 500,000 is 0.2 bp on average.
    assert position.quote_entry_amount == -1_500_180_010
    fee = 1_500_181  # 10 bps of the quote, rounded up
    assert position.quote_asset_amount == position.quote_break_even_amount == -1_500_180_010 - fee
    assert bench.open_orders() == []
    assert [_action(event) for event in (outcome.events[0], outcome.events[2])] == [(0, 0), (2, 6)]
    assert 80_000 < outcome.units < 110_000


def test_order_events_are_ordinary_log_lines(bench: Bench) -> None:
    """The build prints order events with `Program log:`, not `Program data:`, and they end at the oracle price."""
    outcome = bench.send([bench.take(limit(0, BASE, 152 * PRICE, immediate_or_cancel=True))])

    assert not any(line.startswith("Program data:") for line in outcome.logs)
    fill = base64.b64decode(outcome.events[2])
    assert struct.unpack("<q", fill[-8:]) == (150 * PRICE,)


def test_close_leaves_unsettled_loss_and_settling_clears_it(bench: Bench) -> None:
    """A reduce-only close leaves base 0 and the loss in the slot until it is settled into the deposit."""
    bench.send([bench.take(limit(0, 10 * BASE, 152 * PRICE, immediate_or_cancel=True))])
    bench.advance(3)
    bench.send([bench.take(limit(1, 10 * BASE, 148 * PRICE, immediate_or_cancel=True, reduce_only=True))])

    position = bench.position()
    assert position is not None
    assert position.base_asset_amount == 0
    assert position.quote_asset_amount < 0
    before = bench.user().spot_positions[0].scaled_balance
    bench.send([bench.settle()])
    assert bench.position() is None
    assert bench.user().spot_positions[0].scaled_balance == before + position.quote_asset_amount * 1_000


def test_opposite_orders_net_and_reduce_only_repeats(bench: Bench) -> None:
    """A larger order on the other side flips the position; two reduce-only closes of one lot close two."""
    bench.send([bench.take(limit(0, 2 * BASE, 152 * PRICE))])
    bench.send([bench.take(limit(1, 5 * BASE, 148 * PRICE))])
    assert bench.base() == -3 * BASE
    for left in (-2, -1):
        bench.send([bench.take(limit(0, BASE, 152 * PRICE, reduce_only=True))])
        assert bench.base() == left * BASE


def test_market_order_fills_at_the_end_of_its_auction(bench: Bench) -> None:
    """A market order without prices takes up to half a percent from the oracle."""
    bench.send([bench.take(market_order(1, 3_456_000_000))])
    assert bench.base() == -3_450_000_000  # on the step of 0.01


def test_size_is_rounded_down_to_the_step(bench: Bench) -> None:
    """1.017 is filled as 1.01."""
    bench.send([bench.take(limit(0, 1_017_000_000, 152 * PRICE, immediate_or_cancel=True))])
    assert bench.base() == 1_010_000_000


def test_limit_that_does_not_cross_rests(bench: Bench) -> None:
    """Success without a position: the order stays, and the next id is used up."""
    outcome = bench.send([bench.take(limit(0, BASE, 140 * PRICE))])

    assert outcome.code is None
    assert bench.base() == 0
    (order,) = bench.open_orders()
    assert (order.order_id, order.price, order.base_asset_amount) == (1, 140 * PRICE, BASE)
    assert bench.user().next_order_id == 2


def test_immediate_order_that_does_not_cross_leaves_nothing(bench: Bench) -> None:
    """Placed, not filled, cancelled, all in one transaction; the id is used up."""
    outcome = bench.send([bench.take(limit(0, BASE, 140 * PRICE, immediate_or_cancel=True))])

    assert [_action(outcome.events[index])[0] for index in (0, 2)] == [0, 1]
    assert bench.open_orders() == []
    assert bench.last_order() == 1


def test_refused_order_uses_no_id(bench: Bench) -> None:
    """The next order id rises with every order that executed, and not with a refused one."""
    assert bench.send([bench.take(limit(0, 4_000 * BASE, 152 * PRICE))]).code == 6003
    assert bench.user().next_order_id == 1


def test_cancel_frees_the_slot_and_a_second_cancel_succeeds(bench: Bench) -> None:
    """Cancelling an order that is not there is a success that prints no event."""
    bench.send([bench.take(limit(0, BASE, 140 * PRICE))])
    first = bench.send([bench.cancel(1)])
    second = bench.send([bench.cancel(1)])

    assert (len(first.events), len(second.events), second.code) == (1, 0, None)
    place = bench.user().orders[0]
    assert (place.order_id, place.status, place.order_type, place.market_type) == (0, 0, 1, 1)


def test_cancel_all_of_one_side(bench: Bench) -> None:
    """Orders can be cancelled by market and side."""
    for side, price in ((0, 140), (0, 141), (1, 160)):
        bench.send([bench.place(limit(side, BASE, price * PRICE))])
    outcome = bench.send([bench.cancel_all(b"\1\1\1\0\0\1\0")])

    assert len(outcome.events) == 2
    assert [order.direction for order in bench.open_orders()] == [1]


def test_amm_fills_its_share_and_the_rest_waits(bench: Bench) -> None:
    """One fill takes at most 1 % of the reserve (5,000 SOL); the remainder rests for a keeper."""
    bench.control(lambda controls: controls.set_collateral(Decimal(2_000_000)))
    bench.send([bench.take(limit(0, 6_000 * BASE, 160 * PRICE))])

    assert bench.base() == 5_000 * BASE
    (order,) = bench.open_orders()
    assert order.base_asset_amount - order.base_asset_amount_filled == 1_000 * BASE
    bench.send([bench.fill(order.order_id)], [bench.world.keeper.wallet])
    assert bench.base() == 6_000 * BASE


def test_taker_meets_a_maker_before_the_amm(bench: Bench) -> None:
    """A resting order inside the AMM's spread is taken first, at its price; the AMM fills the rest."""
    maker = bench.world.maker
    bench.send([bench.place(limit(1, 5 * BASE, 150_005_000, post_only=1), maker)], [maker.wallet])
    bench.advance(2)
    outcome = bench.send([bench.take(limit(0, 8 * BASE, 151 * PRICE, immediate_or_cancel=True), makers=[maker])])

    explanations = [_action(event) for event in outcome.events if event.startswith(_prefix("OrderActionRecord"))]
    assert explanations == [(0, 0), (2, 8), (2, 6)]
    assert (bench.base(), bench.base(trader=maker)) == (8 * BASE, -5 * BASE)


def _prefix(event: str) -> str:
    return base64.b64encode(event_discriminator(event)).decode()[:10]


def test_expired_maker_is_removed_on_the_way(bench: Bench) -> None:
    """A taker that passes a maker whose order is over cancels it and goes on."""
    maker = bench.world.maker
    bench.send([bench.place(limit(1, BASE, 150_005_000, max_ts=bench.now + 2), maker)], [maker.wallet])
    bench.advance(10)
    bench.send([bench.take(market_order(0, BASE), makers=[maker])])

    assert (bench.base(), bench.open_orders(maker)) == (BASE, [])


@pytest.mark.parametrize("slots", [1, 9, 10])
def test_auction_keeps_the_amm_out(bench: Bench, slots: int) -> None:
    """With an auction of 10 slots an order rests; a keeper's earlier fill succeeds and fills nothing."""
    bench.control(lambda controls: controls.set_auction(10))
    bench.send([bench.take(market_order(0, 5 * BASE))])
    assert bench.base() == 0
    bench.advance(slots)
    outcome = bench.send([bench.fill(1)], [bench.world.keeper.wallet])
    assert (outcome.code, bench.base()) == (None, 0)


def test_keeper_fills_after_the_auction_and_is_paid(bench: Bench) -> None:
    """After more than 10 slots the keeper's fill goes to the AMM; the keeper gets a part of the fee."""
    bench.control(lambda controls: controls.set_auction(10))
    bench.send([bench.take(market_order(0, 5 * BASE))])
    bench.advance(11)
    bench.send([bench.fill(1)], [bench.world.keeper.wallet])

    assert bench.base() == 5 * BASE
    keeper = bench.position(trader=bench.world.keeper)
    assert keeper is not None
    assert keeper.quote_asset_amount > 0


def test_maker_fills_during_the_auction(bench: Bench) -> None:
    """While the auction runs, a maker inside the auction's price may fill."""
    maker = bench.world.maker
    bench.control(lambda controls: controls.set_auction(10))
    bench.send([bench.place(limit(1, BASE, 150_300_000), maker)], [maker.wallet])
    bench.advance(2)
    bench.send([bench.take(market_order(0, 2 * BASE), makers=[maker])])
    assert bench.base() == BASE


def test_expired_order_is_removed_unfilled(bench: Bench) -> None:
    """After `max_ts` a keeper's transaction fills nothing, takes the flat fee and removes the order."""
    bench.control(lambda controls: controls.set_auction(10))
    bench.send([bench.take(market_order(0, BASE))])
    bench.advance(11, seconds=31)
    outcome = bench.send([bench.fill(1)], [bench.world.keeper.wallet])

    assert [_action(event) for event in outcome.events] == [(1, 4)]
    assert (bench.base(), bench.open_orders()) == (0, [])
    position = bench.position()
    assert position is not None
    assert position.quote_asset_amount == -10_000


def test_expired_limit_order_waits_fifteen_seconds(bench: Bench) -> None:
    """A limit order is not removed by force until 15 s after its `max_ts`."""
    bench.send([bench.place(limit(0, BASE, 149 * PRICE, max_ts=bench.now + 5))])
    bench.advance(10, seconds=10)
    assert bench.send([bench.fill(1)], [bench.world.keeper.wallet]).code == 6252
    bench.advance(10, seconds=20)
    assert bench.send([bench.fill(1)], [bench.world.keeper.wallet]).code is None
    assert bench.open_orders() == []


def test_reduce_only_without_position_comes_to_nothing(bench: Bench) -> None:
    """The order is placed and cancelled in one transaction."""
    outcome = bench.send([bench.take(limit(0, BASE, 152 * PRICE, reduce_only=True))])
    assert [_action(outcome.events[index]) for index in (0, 2)] == [(0, 0), (1, 12)]
    assert (bench.base(), bench.open_orders()) == (0, [])


def test_oracle_order_prices_itself_off_the_oracle(bench: Bench) -> None:
    """An oracle order goes through its auction of offsets and is filled by a keeper at its end."""
    params = market_order(1, 2 * BASE, auction_start_price=100_000, auction_end_price=-200_000, auction_duration=5)
    params.order_type = 4
    bench.send([bench.place(params)])
    bench.advance(6)
    bench.send([bench.fill(1)], [bench.world.keeper.wallet])
    assert bench.base() == -2 * BASE


def test_funding_is_paid_by_the_hour(bench: Bench) -> None:
    """Trades after a full hour set a rate; the position that stood through it pays on its next trade."""
    bench.send([bench.take(limit(0, 10 * BASE, 152 * PRICE))])
    for _ in range(4):
        bench.advance(20, seconds=1_900)
        bench.send([bench.take(limit(0, BASE, 155 * PRICE, immediate_or_cancel=True))])
    assert bench.market().amm.cumulative_funding_rate_long != 0
    assert bench.user().cumulative_perp_funding < 0


def test_two_markets_margin_together(bench: Bench) -> None:
    """BTC-PERP trades beside SOL-PERP, and the margin of both is asked of one deposit."""
    bench.send([bench.take(limit(0, 100 * BASE, 152 * PRICE))])
    outcome = bench.send([bench.take(limit(0, 3 * BASE, 61_000 * PRICE, market_index=1))])
    assert outcome.code == 6003
    bench.send([bench.take(limit(0, BASE // 10, 61_000 * PRICE, market_index=1))])
    assert (bench.base(0), bench.base(1)) == (100 * BASE, BASE // 10)


def test_largest_size_means_as_much_as_the_margin_carries(bench: Bench) -> None:
    """The largest number is not a size: the program works out the most that the account can carry."""
    bench.send([bench.take(market_order(0, 2**64 - 1))])
    assert 600 * BASE < bench.base() < 700 * BASE


def test_deposit_and_withdrawal_move_tokens(bench: Bench) -> None:
    """A deposit leaves the wallet for the vault, a withdrawal comes back, each with its event."""
    deposit = bench.send([bench.funds("deposit", 500 * USDC)])
    withdrawal = bench.send([bench.funds("withdraw", 300 * USDC)])

    for outcome in (deposit, withdrawal):
        assert any(line.startswith("Program data: " + _prefix("DepositRecord")) for line in outcome.logs)
    # What leaves the exchange is rounded up by one unit of the scaled balance.
    assert bench.user().spot_positions[0].scaled_balance == 10_200 * USDC * 1_000 - 1
    assert (bench.user().total_deposits, bench.user().total_withdraws) == (10_500 * USDC, 300 * USDC)


def test_new_account_is_set_up_in_one_transaction(bench: Bench) -> None:
    """Stats and sub-account are made for a wallet that has none, dusted addresses included."""
    wallet = Keypair.from_seed(bytes([7] * 32))
    bench.fund(wallet.pubkey(), 10**9)
    outcome = bench.send([bench.initialize_stats(wallet), bench.initialize_user(wallet)], [wallet])

    assert outcome.code is None
    assert bench.send([bench.initialize_user(wallet, 1)], [wallet]).code is None
    assert bench.send([bench.initialize_user(wallet, 1)], [wallet]).code == 0
    assert bench.send([bench.initialize_user(wallet, 5)], [wallet]).code == 6214
