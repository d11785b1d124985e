"""What the program refuses, with which code; and what it lets succeed without a position."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from solders.keypair import Keypair

from router.localnet.drift.enums import MarketStatus
from router.localnet.drift.layouts import State, User
from router.localnet.drift.market_layouts import PerpMarket, SpotMarket
from router.localnet.drift.wire import OrderParams
from tests.localnet_drift.drift_bench import BASE, PRICE, USDC, Bench, changed, limit, market_order, meta

STRANGER = Keypair.from_seed(bytes([3] * 32))


def _open(bench: Bench, base: int = BASE) -> int | None:
    return bench.send([bench.take(limit(0, base, 155 * PRICE, immediate_or_cancel=True))]).code


def _close(bench: Bench, base: int = BASE) -> int | None:
    return bench.send([bench.take(limit(1, base, 145 * PRICE, reduce_only=True))]).code


def test_too_little_collateral(bench: Bench) -> None:
    """An order beyond the initial margin is refused, with the sums in the log."""
    outcome = bench.send([bench.take(limit(0, 700 * BASE, 155 * PRICE))])
    assert outcome.code == 6003
    assert any("total_collateral=10000000000, margin_requirement=" in line for line in outcome.logs)


def test_below_maintenance_even_a_close_is_refused(bench: Bench) -> None:
    """Open and reduce-only close are refused alike."""
    _open(bench, 50 * BASE)
    bench.control(lambda controls: controls.set_collateral(Decimal(100)))
    assert (_open(bench), _close(bench)) == (6003, 6003)


@pytest.mark.parametrize(
    ("what", "takes", "places"), [("exchange", 6024, 6024), ("fills", 6024, None), ("funding", None, None)]
)
def test_exchange_pauses(bench: Bench, what: str, takes: int | None, places: int | None) -> None:
    """All bits stop everything; the fill bit stops taking, and placing still succeeds."""
    bench.control(lambda controls: controls.pause(what))
    assert _open(bench) == takes
    assert bench.send([bench.place(limit(0, BASE, 140 * PRICE))]).code == places
    bench.control(lambda controls: controls.pause(what, paused=False))
    assert _open(bench) is None


def test_paused_funds(bench: Bench) -> None:
    """Deposits, withdrawals and settling are paused one by one."""
    _open(bench)
    for what, instruction in (
        ("deposits", bench.funds("deposit", USDC)),
        ("withdrawals", bench.funds("withdraw", USDC)),
        ("settle_pnl", bench.settle()),
    ):
        bench.control(lambda controls, what=what: controls.pause(what))  # type: ignore[misc]
        assert bench.send([instruction]).code == 6024
        bench.control(lambda controls, what=what: controls.pause(what, paused=False))  # type: ignore[misc]
        assert bench.send([instruction]).code is None


def test_open_interest_cap(bench: Bench) -> None:
    """An order that could pass the cap is refused as it is placed; one that meets it, as it is filled."""
    bench.control(lambda controls: controls.set_open_interest_cap("SOL-PERP", Decimal("0.5")))
    assert _open(bench) == 6154
    assert _open(bench, BASE // 2) == 6154
    assert _open(bench, BASE // 4) is None


def test_market_fills_paused(bench: Bench) -> None:
    """Fills of one market paused."""
    bench.control(lambda controls: controls.pause("market_fills", "SOL-PERP"))
    assert _open(bench) == 6148


def test_market_in_reduce_only(bench: Bench) -> None:
    """Opening is refused, closing works."""
    _open(bench)
    bench.control(lambda controls: controls.set_market_status("SOL-PERP", MarketStatus.REDUCE_ONLY))
    assert (_open(bench), _close(bench)) == (6046, None)


def test_market_past_its_expiry(bench: Bench) -> None:
    """Neither opens nor closes."""
    _open(bench)
    bench.control(lambda controls: controls.set_market_status("SOL-PERP", MarketStatus.REDUCE_ONLY, expires_in_s=-1))
    assert (_open(bench), _close(bench)) == (6147, 6147)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (MarketStatus.INITIALIZED, 6213),
        (MarketStatus.AMM_PAUSED, 6148),
        (MarketStatus.SETTLEMENT, 6147),
        (MarketStatus.DELISTED, 6147),
    ],
)
def test_other_market_states(bench: Bench, status: MarketStatus, code: int) -> None:
    """A market that is not active, each with its code."""
    bench.control(lambda controls: controls.set_market_status("SOL-PERP", status))
    assert _open(bench) == code


@pytest.mark.parametrize(
    ("base", "code"), [(0, 6059), (1, 6059), (9_999_999, 6059), (10_000_000, 6056), (99_999_999, 6056)]
)
def test_small_sizes(bench: Bench, base: int, code: int) -> None:
    """Below the step, and below the smallest order."""
    assert _open(bench, base) == code


def _auction(duration: int, start: int, end: int) -> OrderParams:
    prices = {"auction_start_price": start * PRICE, "auction_end_price": end * PRICE}
    return limit(0, BASE, 140 * PRICE, auction_duration=duration, **prices)


def _trigger(condition: int) -> OrderParams:
    order = limit(1, BASE, 0, trigger_price=140 * PRICE, trigger_condition=condition)
    order.order_type = 2
    return order


ORDERS: list[tuple[OrderParams, int | None]] = [
    (market_order(0, BASE, immediate_or_cancel=True), 6050),
    (limit(0, BASE, 140 * PRICE, immediate_or_cancel=True), 6050),
    (limit(0, BASE, 0), 6191),
    (limit(0, BASE, 5 * PRICE, oracle_price_offset=-50_000), 6191),
    (limit(0, BASE, 0, oracle_price_offset=-50_000), None),
    (limit(0, BASE, 155 * PRICE, post_only=1), 6057),
    (limit(0, BASE, 155 * PRICE, post_only=2), None),
    (limit(0, BASE, 155 * PRICE, post_only=3), None),
    (limit(0, BASE, 140 * PRICE, market_type=0), 6044),
    (limit(0, BASE, 140 * PRICE, market_index=5), 6078),
    (limit(0, BASE, 140 * PRICE, trigger_price=PRICE), 6053),
    (_auction(5, 141, 139), 6054),
    (_auction(5, 139, 141), 6054),
    (_auction(0, 139, 140), 6042),
    (_trigger(1), None),
    (_trigger(2), 6215),
    (OrderParams(order_type=4, market_index=0, direction=0, base_asset_amount=BASE), 6054),
]


@pytest.mark.parametrize(("params", "code"), ORDERS)
def test_rules_of_orders(bench: Bench, params: OrderParams, code: int | None) -> None:
    """Orders that contradict themselves, when they are placed."""
    assert bench.send([bench.place(params)]).code == code


def test_market_order_must_not_be_immediate(bench: Bench) -> None:
    """A market order cannot carry the flag in place-and-take either."""
    assert bench.send([bench.take(market_order(0, BASE, immediate_or_cancel=True))]).code == 6050


def test_post_only_cannot_take(bench: Bench) -> None:
    """A maker's order does not go through place-and-take."""
    assert bench.send([bench.take(limit(0, BASE, 155 * PRICE, post_only=1))]).code == 6051


def test_immediate_order_during_the_auction(bench: Bench) -> None:
    """Without a maker, and with the AMM still closed to it, an immediate limit order is refused."""
    bench.control(lambda controls: controls.set_auction(10))
    assert _open(bench) == 6252


def test_order_that_is_over_already(bench: Bench) -> None:
    """`max_ts` in the past: nothing is placed, so there is no order to take."""
    assert bench.send([bench.take(limit(0, BASE, 155 * PRICE, max_ts=5))]).code == 6061


def test_user_order_id_in_use(bench: Bench) -> None:
    """A caller's own order id serves once at a time."""
    order = limit(0, BASE, 140 * PRICE, user_order_id=7)
    assert bench.send([bench.place(order)]).code is None
    assert bench.send([bench.place(order)]).code == 6071


def test_thirty_third_order(bench: Bench) -> None:
    """32 orders are open at most."""
    codes = [bench.send([bench.place(limit(0, BASE // 10, 140 * PRICE))]).code for _ in range(33)]
    assert codes == [None] * 32 + [6060]


def test_user_may_only_reduce(bench: Bench) -> None:
    """An account flagged so opens nothing."""
    _open(bench)
    bench.control(lambda controls: controls.set_user_reduce_only())
    assert (_open(bench), _close(bench)) == (6254, None)


def test_exchange_full(bench: Bench) -> None:
    """No more accounts than the exchange takes."""
    bench.fund(STRANGER.pubkey(), 10**9)
    bench.edit(State, bench.world.state, "max_number_of_sub_accounts", 3)
    instructions = [bench.initialize_stats(STRANGER), bench.initialize_user(STRANGER)]
    assert bench.send(instructions, [STRANGER]).code == 6224


def test_deposit_cap_and_empty_wallet(bench: Bench) -> None:
    """The cap of the market, and the token program's own refusal, which comes first."""
    bench.edit(SpotMarket, bench.world.spot_market, "max_token_deposits", 1)
    assert bench.send([bench.funds("deposit", USDC)]).code == 6038
    assert bench.send([bench.funds("deposit", 10**12)]).code == 1
    assert bench.send([bench.funds("deposit", 0)]).code == 6002


def test_withdrawal_beyond_the_margin(bench: Bench) -> None:
    """More than is free stays; reduce-only takes all that there is, which rounding puts past the margin by one unit."""
    assert bench.send([bench.funds("withdraw", 10**12, reduce_only=True)]).code is None
    assert bench.send([bench.funds("deposit", 10_000 * USDC)]).code is None
    _open(bench, 50 * BASE)
    assert bench.send([bench.funds("withdraw", 9_900 * USDC)]).code == 6003
    assert bench.send([bench.funds("withdraw", 10**12, reduce_only=True)]).code == 6003
    assert bench.send([bench.funds("withdraw", 9_000 * USDC)]).code is None


def test_missing_account(bench: Bench) -> None:
    """A trader without an account is told 3007, not 3012."""
    bench.fund(STRANGER.pubkey(), 10**9)
    order = bench.take(limit(0, BASE, 155 * PRICE))
    absent = changed(order, at=1, to=meta(STRANGER.pubkey(), writable=True))
    assert bench.send([absent]).code == 3007
    assert bench.send([changed(order, at=0, to=meta(STRANGER.pubkey()))]).code == 3007
    nobody = Keypair.from_seed(bytes([4] * 32)).pubkey()
    assert bench.send([changed(order, at=0, to=meta(nobody))]).code == 3012


ACCOUNTS: list[tuple[Callable[[Bench], object], int]] = [
    (lambda b: (1, meta(b.world.trader_account.user_stats, writable=True)), 3002),
    (lambda b: (1, meta(b.world.trader_account.user)), 2000),
    (lambda b: (2, meta(b.world.trader_account.user_stats)), 2000),
    (lambda b: (2, meta(b.world.maker.user_stats, writable=True)), 2003),
    (lambda b: (0, meta(b.world.trader_account.user)), 3002),
]


@pytest.mark.parametrize(("wrong", "code"), ACCOUNTS)
def test_wrong_accounts(bench: Bench, wrong: Callable[[Bench], tuple[int, object]], code: int) -> None:
    """Each account of an order is checked for signature, type, owner and belonging."""
    at, account = wrong(bench)
    order = bench.take(limit(0, BASE, 155 * PRICE))
    assert bench.send([changed(order, at=at, to=account)]).code == code  # type: ignore[arg-type]


def test_signed_by_another_wallet(bench: Bench) -> None:
    """Somebody else's signature is 2003."""
    maker, trader = bench.world.maker.wallet, bench.world.trader
    order = bench.take(limit(0, BASE, 155 * PRICE))
    assert bench.send([changed(order, at=3, to=meta(maker.pubkey(), signer=True))], [maker]).code == 2003
    assert bench.send([changed(order, at=3, to=meta(trader.pubkey()))], [maker]).code == 3010


@pytest.mark.parametrize(
    ("dropped", "code"), [(4, 6036), (5, 6036), (7, 6087), (8, 6078)], ids=["usdc oracle", "sol oracle", "spot", "perp"]
)
def test_markets_and_oracles_have_to_be_passed(bench: Bench, dropped: int, code: int) -> None:
    """What the margin needs and was not passed is refused by name."""
    assert bench.send([changed(bench.take(limit(0, BASE, 155 * PRICE)), dropped=dropped)]).code == code


def test_other_held_markets_have_to_be_passed(bench: Bench) -> None:
    """An order on one market needs the others that the account holds."""
    bench.send([bench.take(limit(0, BASE // 10, 61_000 * PRICE, market_index=1))])
    order = bench.take(limit(0, BASE, 155 * PRICE))
    assert bench.send([changed(order, dropped=9)]).code == 6078


def test_market_must_be_writable(bench: Bench) -> None:
    """The market that is traded has to be passed writable."""
    order = bench.take(limit(0, BASE, 155 * PRICE))
    read_only = meta(bench.world.market("SOL-PERP").address)
    assert bench.send([changed(order, at=8, to=read_only)]).code == 6081


def test_too_few_accounts(bench: Bench) -> None:
    """An instruction cut short in its accounts."""
    order = bench.take(limit(0, BASE, 155 * PRICE))
    assert [bench.send([changed(order, kept=kept)]).code for kept in (0, 3, 4)] == [3005, 3005, 6078]


def test_unreadable_instructions(bench: Bench) -> None:
    """Arguments that do not decode, and instructions that do not exist."""
    order = bench.take(limit(0, BASE, 155 * PRICE))
    data = bytes(order.data)
    codes = [
        bench.send([changed(order, data=each)]).code
        for each in (data[:20], data[:8] + b"\x09" + data[9:], b"12345678", data + b"more")
    ]
    assert codes == [102, 102, 101, None]


def test_maker_pairs_are_checked(bench: Bench) -> None:
    """Makers come in writable pairs of account and stats, and nobody is his own maker."""
    world = bench.world
    order = bench.take(limit(0, BASE, 155 * PRICE, immediate_or_cancel=True), makers=[world.maker])
    assert bench.send([changed(order, dropped=11)]).code == 6236
    assert bench.send([changed(order, at=10, to=meta(world.maker.user))]).code == 6229
    assert bench.send([changed(order, at=11, to=meta(world.maker.user_stats))]).code == 6232
    own = bench.take(limit(0, BASE, 155 * PRICE), makers=[world.trader_account])
    assert bench.send([own]).code == 6235


@pytest.mark.parametrize("slots", [11, 20, 100, 130])
def test_stale_oracle_is_never_an_error(bench: Bench, slots: int) -> None:
    """Beyond 10 slots the AMM fills nothing: the transaction succeeds and an order rests, for open and close alike."""
    _open(bench, 2 * BASE)
    bench.control(lambda controls: controls.freeze_oracle("SOL-PERP"))
    bench.advance(slots + 4)
    assert bench.send([bench.take(market_order(0, BASE))]).code is None
    assert bench.send([bench.take(limit(1, BASE, 140 * PRICE, reduce_only=True))]).code is None
    assert (bench.base(), len(bench.open_orders())) == (2 * BASE, 2)


def test_oracle_five_slots_old_fills(bench: Bench) -> None:
    """Up to 10 slots the AMM trades."""
    bench.control(lambda controls: controls.freeze_oracle("SOL-PERP"))
    bench.advance(5)
    _open(bench)
    assert bench.base() == BASE


def test_wide_oracle_fills_nothing(bench: Bench) -> None:
    """A confidence interval of 5 % keeps the AMM out, without an error."""
    bench.control(lambda controls: controls.set_oracle_confidence("SOL-PERP", Decimal("7.5")))
    assert (_open(bench), bench.base()) == (None, 0)


@pytest.mark.parametrize(("what", "market"), [("amm", None), ("market_amm", "SOL-PERP")])
def test_paused_amm_fills_nothing(bench: Bench, what: str, market: str | None) -> None:
    """A paused AMM is no error; the order rests."""
    bench.control(lambda controls: controls.pause(what, market))
    assert bench.send([bench.take(market_order(0, BASE))]).code is None
    assert (bench.base(), len(bench.open_orders())) == (0, 1)


def test_market_order_with_a_bound_that_is_not_met_rests(bench: Bench) -> None:
    """A market order below the AMM's price succeeds and waits."""
    assert bench.send([bench.take(market_order(0, BASE, price=149 * PRICE))]).code is None
    assert (bench.base(), len(bench.open_orders())) == (0, 1)


@pytest.mark.parametrize("price", ["151", "160", "900", "40"])
def test_oracle_away_from_the_amm(bench: Bench, price: str) -> None:
    """When the oracle jumps and the AMM stays, what fills, what rests and what is refused is the program's."""
    bench.control(lambda controls: controls.set_oracle_price("SOL-PERP", Decimal(price), amm_follows=False))
    for side, bound in ((0, 155), (1, 145)):
        bench.send([bench.take(limit(side, BASE, bound * PRICE, immediate_or_cancel=True))])
        bench.advance(3)


def test_account_in_liquidation_recovers_or_is_refused(bench: Bench) -> None:
    """An account flagged for liquidation trades again once it is above the margin."""
    bench.edit(User, bench.world.trader_account.user, "status", 1)
    assert _open(bench, 50 * BASE) is None
    bench.edit(User, bench.world.trader_account.user, "status", 1)
    bench.control(lambda controls: controls.set_collateral(Decimal(100)))
    assert _open(bench) == 6117


def test_settling_refusals(bench: Bench) -> None:
    """Nothing to settle, no position, a market that is not there, a paused market."""
    assert bench.send([bench.settle()]).code == 6010
    assert bench.send([bench.settle(9)]).code == 6078
    _open(bench)
    assert bench.send([bench.settle(by=bench.world.maker.wallet)], [bench.world.maker.wallet]).code is None
    assert bench.send([bench.settle()]).code == 6259
    bench.edit(PerpMarket, bench.world.market("SOL-PERP").address, "paused_operations", 8)
    assert bench.send([bench.settle()]).code == 6158


def test_halted_program_answers_101_to_everything(model_bench: Bench) -> None:
    """Emulated: instructions are gone, accounts stay readable."""
    bench = model_bench
    bench.control(lambda controls: controls.halt())
    assert _open(bench) == 101
    assert bench.send([bench.cancel(1)]).code == 101
    assert bench.user().spot_positions[0].scaled_balance == 10_000 * USDC * 1_000
    bench.control(lambda controls: controls.halt(on=False))
    assert _open(bench) is None
