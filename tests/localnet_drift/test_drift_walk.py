"""A long random walk over everything that traders, keeper and controls do, from a seed."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from router.localnet.drift.layouts import User
from tests.localnet_drift.drift_bench import BASE, PRICE, USDC, Bench, limit, market_order, trigger


def _step(bench: Bench, dice: random.Random) -> None:
    world = bench.world
    index = dice.randrange(2)
    price, unit = ((150, BASE // 100), (60_000, BASE // 10_000))[index]
    base = dice.randrange(1, 3_000) * unit + dice.randrange(unit)
    side = dice.randrange(2)
    bound = int(price * PRICE * (1 + (dice.random() - 0.4) * (0.02 if side == 0 else -0.02)))
    extra = {"market_index": index, "reduce_only": dice.random() < 0.2}
    makers = [world.maker] if dice.random() < 0.5 else []
    act = dice.randrange(13)
    if act <= 4:
        order = limit(side, base, bound, immediate_or_cancel=dice.random() < 0.6, **extra)
        if act == 4:
            order = market_order(side, base, price=bound if dice.random() < 0.3 else 0, **extra)
        bench.send([bench.take(order, makers=makers)])
    elif act <= 6:
        resting = limit(side, base, bound, post_only=dice.choice((0, 2, 3)), market_index=index)
        resting.max_ts = bench.now + dice.randrange(60) if dice.random() < 0.4 else None
        bench.send([bench.place(resting, world.maker)], [world.maker.wallet])
    elif act == 7:
        bench.send([bench.cancel_all(trader=dice.choice((world.trader_account, None)))])
    elif act == 8:
        bench.send([bench.settle(index)])
    elif act == 9:
        bench.send([bench.funds(dice.choice(("deposit", "withdraw")), dice.randrange(1, 2_000 * USDC))])
    elif act == 10:
        moved = Decimal(price) * (Decimal(1) + Decimal(dice.randrange(-150, 151)) / 10_000)
        follows = dice.random() < 0.5
        symbol = ("SOL-PERP", "BTC-PERP")[index]
        bench.control(lambda controls: controls.set_oracle_price(symbol, moved, amm_follows=follows))
    elif act == 11:
        stop = trigger(
            side, base, bound, above=dice.random() < 0.5, market_index=index, reduce_only=dice.random() < 0.8
        )
        bench.send([bench.place(stop)])
    else:
        auction = dice.choice((0, 0, 10))
        bench.control(lambda controls: controls.set_auction(auction))


def _pass_time(bench: Bench, dice: random.Random) -> None:
    if dice.random() < 0.6:
        bench.advance(dice.randrange(1, 15))
    elif dice.random() < 0.1:
        bench.advance(10, seconds=dice.randrange(1, 4_000))


def _check_sums(bench: Bench) -> None:
    """Require the market's sums to be those of its users."""
    world = bench.world
    users: list[User] = [bench.user(each) for each in (world.trader_account, world.maker, world.keeper)]
    for index, symbol in enumerate(("SOL-PERP", "BTC-PERP")):
        amm = bench.market(symbol).amm
        held = [each for user in users for each in user.perp_positions if each.market_index == index]
        longs = sum(each.base_asset_amount for each in held if each.base_asset_amount > 0)
        shorts = sum(each.base_asset_amount for each in held if each.base_asset_amount < 0)
        assert (amm.base_asset_amount_long, amm.base_asset_amount_short) == (longs, shorts)
        assert amm.base_asset_amount_with_amm == longs + shorts
        assert amm.quote_asset_amount == sum(each.quote_asset_amount for each in held)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_walk(bench: Bench, seed: int) -> None:
    """After every step market and users agree; beside the real program, every byte is the same."""
    dice = random.Random(seed)  # noqa: S311 - must repeat from its seed
    bench.control(lambda controls: controls.run_keeper())
    for _ in range(120):
        _step(bench, dice)
        _pass_time(bench, dice)
        _check_sums(bench)
    if bench.binary is not None:
        bench.compare()
    assert bench.last_order() > 20
