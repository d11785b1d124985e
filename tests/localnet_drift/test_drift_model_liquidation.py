"""Liquidating a perpetual position, on the model and, where it is given, on the real program beside it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from solders.instruction import Instruction

from router.localnet.controls import Controls
from router.localnet.drift.enums import ExchangeStatus, PerpOperation, UserStatus
from router.localnet.drift.layouts import State, User
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.wire import FillAccounts, liquidate_perp
from router.localnet.world import Trader
from tests.localnet_drift.drift_bench import BASE, Bench, limit, market_order

SOL = 0
WHOLE = 10**6 * BASE


def liquidation(
    bench: Bench,
    *,
    most: int = WHOLE,
    bound: int | None = None,
    by: Trader | None = None,
    index: int = SOL,
) -> Instruction:
    """Return the maker's (or another's) liquidation of the trader."""
    liquidator, trader = by or bench.world.maker, bench.world.trader_account
    accounts = FillAccounts(
        authority=liquidator.wallet.pubkey(),
        filler=liquidator.user,
        filler_stats=liquidator.user_stats,
        user=trader.user,
        user_stats=trader.user_stats,
    )
    remaining = bench.remaining(index)
    return liquidate_perp(
        bench.world.program_id, accounts, remaining, market_index=index, most_base=most, limit_price=bound
    )


def hold(bench: Bench, side: int, base: int = 10 * BASE) -> None:
    """Give the trader a position."""
    assert bench.send([bench.take(market_order(side, base))]).code is None
    assert abs(bench.base()) == base


def impoverish(bench: Bench, usd: str) -> None:
    """Leave the trader with this much USDC."""

    def act(controls: Controls) -> None:
        controls.set_collateral(Decimal(usd))

    bench.control(act)


def run(bench: Bench, instruction: Instruction) -> int | None:
    """Send as the maker and return the code."""
    return bench.send([instruction], [bench.world.maker.wallet]).code


@pytest.mark.parametrize("side", [0, 1])
def test_all_of_a_position_goes_when_little_is_left(bench: Bench, side: int) -> None:
    """Far below maintenance the whole position goes to the liquidator, and the account is out of liquidation."""
    hold(bench, side)
    held = bench.base()
    impoverish(bench, "10")
    outcome = bench.send([liquidation(bench)], [bench.world.maker.wallet])
    assert outcome.code is None
    assert bench.base() == 0
    assert bench.base(trader=bench.world.maker) == held
    # Two orders, one fill, one liquidation.
    assert len(outcome.events) >= 4


@pytest.mark.parametrize("side", [0, 1])
def test_a_part_goes_where_that_restores_the_margin(bench: Bench, side: int) -> None:
    """A little below maintenance only as much goes as restores the margin with its buffer; then no more can."""
    hold(bench, side)
    market = bench.market()
    price = market.amm.historical_oracle_data.last_oracle_price
    impoverish(bench, str(Decimal(10 * price) / 10**6 * Decimal("0.045")))
    held = abs(bench.base())
    assert run(bench, liquidation(bench)) is None
    assert 0 < abs(bench.base()) < held
    assert not bench.user().status & UserStatus.BEING_LIQUIDATED
    assert bench.market().amm.total_liquidation_fee > market.amm.total_liquidation_fee
    assert run(bench, liquidation(bench)) == 6004


def test_liquidator_may_take_less(bench: Bench) -> None:
    """A liquidator that takes little leaves the account in liquidation; the next one goes on under the same number."""
    hold(bench, 0)
    impoverish(bench, "20")
    assert run(bench, liquidation(bench, most=BASE)) is None
    assert bench.base() == 9 * BASE
    user = bench.user()
    assert user.status & UserStatus.BEING_LIQUIDATED
    assert user.next_liquidation_id == 2
    bench.advance(3)
    assert run(bench, liquidation(bench, most=2 * BASE)) is None
    assert bench.base() == 7 * BASE
    assert bench.user().next_liquidation_id == 2
    assert bench.user().liquidation_margin_freed > user.liquidation_margin_freed


def test_orders_are_cancelled_first_and_may_be_enough(bench: Bench) -> None:
    """What rests is cancelled before base moves; an account that is saved by that keeps its position."""
    hold(bench, 0, BASE)
    assert bench.send([bench.place(limit(0, 50 * BASE, bench.market().amm.peg_multiplier // 2))]).code is None
    value = Decimal(bench.market().amm.historical_oracle_data.last_oracle_price) / 10**6
    impoverish(bench, str(value))
    outcome = bench.send([liquidation(bench)], [bench.world.maker.wallet])
    assert outcome.code is None
    assert not bench.open_orders()
    assert bench.base() == BASE
    assert not bench.user().status & UserStatus.BEING_LIQUIDATED


def test_recovered_account_leaves_liquidation(bench: Bench) -> None:
    """An account in liquidation that has its margin again is let out, and nothing moves."""
    hold(bench, 0)
    impoverish(bench, "20")
    assert run(bench, liquidation(bench, most=BASE)) is None
    impoverish(bench, "5000")
    assert run(bench, liquidation(bench)) is None
    assert bench.base() == 9 * BASE
    assert not bench.user().status & UserStatus.BEING_LIQUIDATED


def test_healthy_account_is_left_alone(bench: Bench) -> None:
    """Above maintenance the program refuses."""
    hold(bench, 0)
    assert run(bench, liquidation(bench)) == 6004
    assert bench.base() == 10 * BASE


def test_what_is_refused(bench: Bench) -> None:
    """Its own account, nothing at all, a price beyond its limit, a pause, bankruptcy: each has the program's code."""
    hold(bench, 0)
    own = liquidation(bench, by=bench.world.trader_account)
    assert bench.send([own]).code == 6120
    impoverish(bench, "20")
    assert run(bench, liquidation(bench, most=1)) == 6122
    assert run(bench, liquidation(bench, bound=10**6)) == 6156
    assert run(bench, liquidation(bench, index=1)) == 6010
    state, market = bench.world.state, bench.world.market("SOL-PERP").address
    bench.edit(State, state, "exchange_status", int(ExchangeStatus.LIQUIDATION))
    assert run(bench, liquidation(bench)) == 6024
    bench.edit(State, state, "exchange_status", 0)
    bench.edit(PerpMarket, market, "paused_operations", int(PerpOperation.LIQUIDATION))
    assert run(bench, liquidation(bench)) == 6220
    bench.edit(PerpMarket, market, "paused_operations", 0)
    bench.edit(User, bench.world.trader_account.user, "status", int(UserStatus.BANKRUPT))
    assert run(bench, liquidation(bench)) == 6125


def test_liquidator_needs_its_own_margin(bench: Bench) -> None:
    """A liquidator that cannot carry the position is refused, and nothing moves."""
    hold(bench, 0, 50 * BASE)
    impoverish(bench, "50")
    keeper = bench.world.keeper
    bench.control(lambda controls: controls.set_collateral(Decimal(100), authority=keeper.wallet.pubkey()))
    assert bench.send([liquidation(bench, by=keeper)], [keeper.wallet]).code == 6003
    assert bench.base() == 50 * BASE


def test_controls_liquidate_and_trade(bench: Bench) -> None:
    """The controls trade by the delegate and by the owner's key, and have the position liquidated in part and whole."""
    bench.control(lambda controls: _text(controls.foreign_trade("SOL-PERP", "long", Decimal(5))))
    assert bench.base() == 5 * BASE
    bench.control(lambda controls: _text(controls.foreign_trade("SOL-PERP", "short", Decimal(1), own_key=True)))
    assert bench.base() == 4 * BASE
    bench.control(lambda controls: _text(controls.liquidate("SOL-PERP")))
    assert 0 < bench.base() < 4 * BASE
    bench.control(lambda controls: _text(controls.liquidate("SOL-PERP", collateral_bps=100)))
    assert bench.base() == 0
    bench.compare()
    with pytest.raises(ValueError, match="no position"):
        bench.sides[0].controls.liquidate("SOL-PERP")


def _text(signature: str) -> None:
    assert signature
