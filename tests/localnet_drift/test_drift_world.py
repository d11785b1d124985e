"""The world around the program: its keys, its actors, its controls."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from solders.keypair import Keypair

from router.localnet.drift.addresses import DRIFT_PROGRAM, user_address, user_stats_address
from router.localnet.drift.curve import ask_price, bid_price, reserve_price
from router.localnet.oracle import read_price
from router.localnet.spl import associated_token_account, token_amount
from router.localnet.world import Trader, WorldKeys, open_world, world_of
from tests.localnet_drift.drift_bench import BASE, PRICE, USDC, Bench, limit, market_order


def _call(bench: Bench, method: str, **params: object) -> dict[str, object]:
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": [params]})
    answers = [msgspec.json.decode(side.cluster.handle(body)) for side in bench.sides]
    assert all(answer == answers[0] for answer in answers)
    answer: dict[str, object] = answers[0]
    return answer


def test_same_seed_gives_the_same_world() -> None:
    """Every address and key follows from the seed."""
    one, two, other = (world_of(WorldKeys(seed=seed)) for seed in (b"a", b"a", b"b"))
    assert (one.trader.pubkey(), one.markets) == (two.trader.pubkey(), two.markets)
    assert one.trader.pubkey() != other.trader.pubkey()
    assert one.program_id == DRIFT_PROGRAM


def test_books_of_the_new_world_add_up(model_bench: Bench) -> None:
    """The vault holds what depositors and pools may claim, and the mint has made no more than exists."""
    bench, world = model_bench, model_bench.world
    spot, vault = bench.cluster.account(world.spot_market), bench.cluster.account(world.spot_vault)
    assert spot is not None
    assert vault is not None
    held = token_amount(bytes(vault.data))
    users = [
        bench.user(each).spot_positions[0].scaled_balance for each in (world.trader_account, world.maker, world.keeper)
    ]
    pools = [
        pool.scaled_balance
        for symbol in ("SOL-PERP", "BTC-PERP")
        for pool in (bench.market(symbol).pnl_pool, bench.market(symbol).amm.fee_pool)
    ]
    assert held * 1_000 == sum(users) + sum(pools)


def test_spread_stays_one_basis_point_a_side(bench: Bench) -> None:
    """The stored ask and bid reserves are the ones of the fixed spread, before and after trades."""
    for _ in range(3):
        amm = bench.market().amm
        middle = reserve_price(amm)
        ask = amm.ask_quote_asset_reserve * amm.peg_multiplier // amm.ask_base_asset_reserve
        bid = amm.bid_quote_asset_reserve * amm.peg_multiplier // amm.bid_base_asset_reserve
        assert abs(ask - ask_price(amm, middle)) <= 1
        assert abs(bid - bid_price(amm, middle)) <= 1
        bench.send([bench.take(limit(0, 20 * BASE, 155 * PRICE))])
        bench.advance(50)


def test_oracle_stays_fresh_while_slots_pass(bench: Bench) -> None:
    """The publisher keeps every price a few slots young; a jump of the chain is caught up with at once."""
    for slots in (1, 7, 40):
        bench.advance(slots)
        account = bench.cluster.account(bench.world.market("SOL-PERP").oracle)
        assert account is not None
        assert bench.cluster.slot - read_price(account).slot < 4
    bench.advance(5_000, seconds=3_000)
    assert bench.send([bench.take(limit(0, BASE, 155 * PRICE, immediate_or_cancel=True))]).code is None
    assert bench.base() == BASE


def test_frozen_oracle_ages_alone(bench: Bench) -> None:
    """Freezing one market's oracle leaves the other's fresh; thawing brings it back."""
    bench.control(lambda controls: controls.freeze_oracle("SOL-PERP"))
    bench.advance(30)
    bench.send([bench.take(limit(0, BASE, 155 * PRICE, immediate_or_cancel=True))])
    bench.send([bench.take(limit(0, BASE // 100, 61_000 * PRICE, market_index=1, immediate_or_cancel=True))])
    assert (bench.base(0), bench.base(1)) == (0, BASE // 100)
    bench.control(lambda controls: controls.freeze_oracle("SOL-PERP", frozen=False))
    bench.advance(1)
    bench.send([bench.take(limit(0, BASE, 155 * PRICE, immediate_or_cancel=True))])
    assert bench.base(0) == BASE


def test_keeper_fills_when_the_auction_is_over(bench: Bench) -> None:
    """The keeper needs no asking: the order is filled in the first slot that allows it."""
    bench.control(lambda controls: controls.set_auction(10))
    bench.control(lambda controls: controls.run_keeper())
    bench.send([bench.take(market_order(0, 5 * BASE))])
    bench.advance(10)
    assert bench.base() == 0
    bench.advance(1)
    assert bench.base() == 5 * BASE
    bench.compare()


def test_keeper_removes_what_is_over(bench: Bench) -> None:
    """An order that no price could fill goes when its time is over."""
    bench.control(lambda controls: controls.run_keeper())
    bench.send([bench.take(market_order(0, BASE, price=149 * PRICE))])
    bench.advance(70)
    assert len(bench.open_orders()) == 1
    bench.advance(10)
    assert (bench.base(), bench.open_orders()) == (0, [])
    bench.compare()


def test_keeper_matches_with_makers_while_the_auction_runs(bench: Bench) -> None:
    """A resting order of another user is brought to the taker as soon as the auction reaches its price."""
    maker = bench.world.maker
    bench.control(lambda controls: controls.set_auction(10))
    bench.control(lambda controls: controls.run_keeper())
    bench.send([bench.place(limit(1, 5 * BASE, 150_300_000, post_only=1), maker)], [maker.wallet])
    bench.advance(2)
    bench.send([bench.take(market_order(0, 2 * BASE))])
    bench.advance(6)
    assert (bench.base(), bench.base(trader=maker)) == (2 * BASE, -2 * BASE)
    bench.compare()


def test_stalled_keeper_leaves_orders_alone(bench: Bench) -> None:
    """A keeper that stands still neither fills nor removes."""
    bench.control(lambda controls: controls.set_auction(10))
    bench.send([bench.take(market_order(0, BASE))])
    bench.advance(200)
    assert (bench.base(), len(bench.open_orders())) == (0, 1)


@pytest.mark.parametrize("price", ["75.5", "150", "301.25"])
def test_price_control_moves_oracle_and_amm(bench: Bench, price: str) -> None:
    """After a move the next fill is at the new price, in both directions."""
    answer = _call(bench, "localnet_setOraclePrice", market="SOL-PERP", price=price)
    assert answer["result"] is True
    target = Decimal(price)
    for side in (0, 1):
        bound = int(target * PRICE * (102 if side == 0 else 98)) // 100
        bench.send([bench.take(limit(side, 10 * BASE, bound, immediate_or_cancel=True))])
        if side == 0:
            position = bench.position()
            assert position is not None
            paid = Decimal(-position.quote_entry_amount) / (10 * USDC)
            assert abs(paid / target - 1) < Decimal("0.0005")
    assert bench.base() == 0


def test_controls_over_the_wire(bench: Bench) -> None:
    """Every control is a method of the node, and what it changed shows in the next order."""
    for method, params, code in (
        ("localnet_pause", {"what": "fills"}, 6024),
        ("localnet_pause", {"what": "fills", "paused": False}, None),
        ("localnet_pause", {"what": "market_fills", "market": "SOL-PERP"}, 6148),
        ("localnet_pause", {"what": "market_fills", "market": "SOL-PERP", "paused": False}, None),
        ("localnet_setMarketStatus", {"market": "SOL-PERP", "status": "reduce_only"}, 6046),
        ("localnet_setMarketStatus", {"market": "SOL-PERP", "status": "active"}, None),
        ("localnet_setOpenInterestCap", {"market": "SOL-PERP", "base": "0.1"}, 6154),
        ("localnet_setOpenInterestCap", {"market": "SOL-PERP", "base": "0"}, None),
        ("localnet_setAuction", {"slots": 10}, 6252),
        ("localnet_setAuction", {"slots": 0}, None),
        ("localnet_setUserReduceOnly", {"on": True}, 6254),
        ("localnet_setUserReduceOnly", {"on": False}, None),
        ("localnet_setCollateral", {"usd": "5"}, 6003),
        ("localnet_setCollateral", {"usd": "10000"}, None),
        ("localnet_withdrawCollateral", {"usd": "9995"}, 6003),
        ("localnet_setCollateral", {"usd": "500.5"}, None),
    ):
        assert _call(bench, method, **params)["result"] is True, method
        order = bench.take(limit(0, BASE, 155 * PRICE, immediate_or_cancel=True))
        assert bench.send([order]).code == code, (method, params)
        bench.advance(1)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("localnet_setOraclePrice", {"market": "DOGE-PERP", "price": "1"}),
        ("localnet_setOraclePrice", {"market": "SOL-PERP", "price": "-1"}),
        ("localnet_setOraclePrice", {"market": "SOL-PERP"}),
        ("localnet_pause", {"what": "gravity"}),
        ("localnet_setMarketStatus", {"market": "SOL-PERP", "status": "asleep"}),
        ("localnet_setAuction", {"slots": 1, "colour": "red"}),
    ],
)
def test_controls_refuse_what_they_do_not_know(model_bench: Bench, method: str, params: dict[str, object]) -> None:
    """A wrong name or a field too many is an error of the call, not of the cluster."""
    error = _call(model_bench, method, **params)["error"]
    assert isinstance(error, dict)
    assert error["code"] == -32602


def test_collateral_control_keeps_the_books(bench: Bench) -> None:
    """After it was set, the deposit can be withdrawn to the last unit."""
    bench.control(lambda controls: controls.set_collateral(Decimal("1234.567891")))
    assert bench.send([bench.funds("withdraw", 10**12, reduce_only=True)]).code is None
    assert bench.user().spot_positions[0].scaled_balance == 0


def test_maker_rests_orders_on_request(bench: Bench) -> None:
    """The maker fills a taker while an auction keeps the AMM out; what is left of its orders is withdrawn."""
    maker = bench.world.maker
    for price in ("150.005", "150.01"):
        params = {"market": "SOL-PERP", "side": "short", "base": "2", "price": price}
        assert isinstance(_call(bench, "localnet_makerOrder", **params)["result"], str)
    bench.advance(1)
    bench.control(lambda controls: controls.set_auction(10))
    bench.send([bench.take(limit(0, 3 * BASE, 151 * PRICE, immediate_or_cancel=True), makers=[maker])])
    assert bench.base() == 3 * BASE
    assert isinstance(_call(bench, "localnet_makerCancel")["result"], str)
    assert bench.open_orders(maker) == []


def test_any_wallet_can_be_funded_and_set_up(bench: Bench) -> None:
    """A wallet that the world does not know gets SOL and USDC, makes its account, deposits and trades."""
    wallet = Keypair.from_seed(bytes([5] * 32))
    authority = str(wallet.pubkey())
    assert _call(bench, "localnet_fundWallet", address=authority, sol="2", usdc="1000")["result"] is True
    trader = Trader(
        wallet=wallet,
        token_account=associated_token_account(wallet.pubkey(), bench.world.usdc_mint),
        user=user_address(DRIFT_PROGRAM, wallet.pubkey()),
        user_stats=user_stats_address(DRIFT_PROGRAM, wallet.pubkey()),
    )
    setup = [bench.initialize_stats(wallet), bench.initialize_user(wallet), bench.funds("deposit", 900 * USDC, trader)]
    assert bench.send(setup, [wallet]).code is None
    assert bench.send([bench.take(limit(0, BASE, 155 * PRICE), trader)], [wallet]).code is None
    assert bench.base(trader=trader) == BASE
    assert _call(bench, "localnet_setCollateral", usd="1", authority=authority)["result"] is True
    assert bench.send([bench.take(limit(0, BASE, 155 * PRICE), trader)], [wallet]).code == 6003


def test_world_is_opened_again_as_it_was_left(model_bench: Bench) -> None:
    """Opening a world that is there changes nothing in it."""
    bench = model_bench
    bench.send([bench.take(limit(0, BASE, 155 * PRICE))])
    world = open_world(bench.cluster, keys=WorldKeys())
    assert (world.trader.pubkey(), bench.base()) == (bench.world.trader.pubkey(), BASE)


def test_world_is_described_over_the_wire(model_bench: Bench) -> None:
    """A caller can ask the node where everything is."""
    result = _call(model_bench, "localnet_world")["result"]
    assert isinstance(result, dict)
    assert result["trader"] == str(model_bench.world.trader.pubkey())
    assert set(result["markets"]) == {"SOL-PERP", "BTC-PERP"}
