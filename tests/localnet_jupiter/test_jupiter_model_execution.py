"""Executing requests: prices, fees, what is booked in position and pool, and what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.jupiter.actors import read_content
from router.localnet.jupiter.addresses import transfer_authority
from router.localnet.jupiter.calls import execute, liquidate
from router.localnet.jupiter.events import (
    ClosePositionRequestEvent,
    DecreasePositionEvent,
    IncreasePositionEvent,
    LiquidateFullPositionEvent,
)
from router.localnet.jupiter.layouts import AgPriceFeed
from router.localnet.jupiter.pricing import LONG, SHORT, cumulative_rate, hourly_rate
from router.localnet.jupiter.venue import INCREASE, MARKET
from router.localnet.spl import associated_token_account, with_token_amount
from tests.localnet_jupiter.jupiter_bench import SOL, USD, Venue

FEE_BPS = 7
"""Six for the trade, and one that every trade pays for its size."""


def test_a_short_is_opened_at_the_oracle_s_price(venue: Venue) -> None:
    """Size at the oracle's price, the fee out of the collateral, one dollar of the pool locked for each of size."""
    before, vault = venue.custody("USDC").assets, venue.vault("USDC")
    shorts = venue.custody("SOL").assets.global_short_sizes
    key = venue.open(size_usd=1_000, collateral=100 * USD)
    assert venue.execute(key) is None

    fee = 1_000 * USD * FEE_BPS // 10_000
    position = venue.position()
    assert (position.price, position.size_usd) == (150 * USD, 1_000 * USD)
    assert position.collateral_usd == 100 * USD - fee
    assert position.locked_amount == 1_000 * USD
    assert position.open_time == position.update_time == venue.cluster.unix_timestamp
    after = venue.custody("USDC").assets
    assert (after.locked - before.locked, after.owned - before.owned) == (1_000 * USD, 0)
    assert after.fees_reserves - before.fees_reserves == fee
    assert venue.custody("SOL").assets.global_short_sizes - shorts == 1_000 * USD
    assert venue.vault("USDC") - vault == 100 * USD
    (event,) = venue.events(IncreasePositionEvent)
    assert (event.price, event.size_usd_delta, event.position_size_usd) == (150 * USD, 1_000 * USD, 1_000 * USD)
    assert (event.fee_usd, event.position_fee_usd, event.price_impact_fee_usd) == (fee, fee, 100_000)
    assert (event.collateral_usd_delta, event.collateral_token_delta) == (100 * USD, 100 * USD)
    request = venue.request(key)
    assert request is not None
    assert request.executed
    assert venue.tokens("USDC", key) == 0


def test_a_long_is_backed_by_the_asset(venue: Venue) -> None:
    """Collateral in SOL becomes the pool's, the size is locked in SOL, rounded up."""
    venue.wrap(2 * SOL)
    before = venue.custody("SOL").assets
    assert venue.execute(venue.open(side=LONG, size_usd=1_000, collateral=2 * SOL)) is None

    fee = 1_000 * USD * FEE_BPS // 10_000
    position = venue.position(side=LONG)
    assert position.collateral_usd == 300 * USD - fee
    assert position.locked_amount == 6_666_666_667
    after = venue.custody("SOL").assets
    fee_tokens = -(-fee * SOL // (150 * USD))
    assert after.locked - before.locked == 6_666_666_667
    assert after.owned - before.owned == 2 * SOL - fee_tokens
    assert after.fees_reserves - before.fees_reserves == fee_tokens
    assert after.guaranteed_usd - before.guaranteed_usd == 1_000 * USD - position.collateral_usd


def test_a_second_open_is_weighted_by_tokens(venue: Venue) -> None:
    """The entry price of both together leaves the profit of the whole what the parts' is; a short's is rounded down."""
    venue.holding(size_usd=1_000)
    opened = venue.cluster.unix_timestamp
    venue.wait(2)
    venue.controls.set_oracle_price("SOL-PERP", Decimal(100))
    venue.holding(size_usd=1_000)
    position = venue.position()
    assert (position.open_time, position.update_time) == (opened, venue.cluster.unix_timestamp)
    shorts = venue.custody("SOL").assets
    tokens = Decimal(12_001_000) / 150 + Decimal(1_000) / 100
    assert abs(shorts.global_short_average_prices - int(Decimal(12_002_000) / tokens * USD)) <= 1
    assert position.size_usd == 2_000 * USD
    assert position.price == 120 * USD  # 6.67 and 10 SOL
    venue.wait(1)
    venue.controls.set_oracle_price("SOL-PERP", Decimal(110))
    assert venue.execute(venue.reduce()) is None
    (event,) = venue.events(DecreasePositionEvent)
    parts = 1_000 * USD * 40 // 150 - 1_000 * USD * 10 // 100
    assert abs((event.pnl_delta if event.has_profit else -event.pnl_delta) - parts) <= 1


@pytest.mark.parametrize(
    ("side", "price", "gain"),
    [(SHORT, "135", 100), (SHORT, "157.5", -50), (LONG, "165", 100), (LONG, "142.5", -50)],
)
def test_a_full_close_pays_collateral_profit_and_loss(venue: Venue, side: int, price: str, gain: int) -> None:
    """What is paid is collateral plus profit less the fee, in the collateral token at its price of then."""
    symbol, decimals = ("SOL", 9) if side == LONG else ("USDC", 6)
    venue.holding(side=side, collateral=2 * SOL if side == LONG else 300 * USD)
    held, vault, locked = venue.tokens(symbol), venue.vault(symbol), venue.custody(symbol).assets.locked
    collateral = venue.position(side=side).collateral_usd
    venue.controls.set_oracle_price("SOL-PERP", Decimal(price))
    key = venue.reduce(side=side)
    assert venue.execute(key) is None

    (event,) = venue.events(DecreasePositionEvent)
    fee = 1_000 * USD * FEE_BPS // 10_000
    assert (event.has_profit, event.pnl_delta) == (gain > 0, abs(gain) * USD)
    assert (event.price, event.position_size_usd) == (int(Decimal(price) * USD), 0)
    assert event.transfer_amount_usd == collateral + gain * USD - fee
    token_price = Decimal(price) if side == LONG else Decimal(1)
    paid = int(Decimal(event.transfer_amount_usd) / USD / token_price * 10**decimals)
    assert event.transfer_token == paid
    assert venue.tokens(symbol, key) == paid
    assert vault - venue.vault(symbol) == paid
    assert venue.close(key) is None
    (closed,) = venue.events(ClosePositionRequestEvent)
    assert (closed.executed, closed.amount) == (True, 0)
    assert venue.tokens(symbol) - held == paid
    position = venue.position(side=side)
    assert (position.size_usd, position.collateral_usd, position.locked_amount) == (0, 0, 0)
    assert locked - venue.custody(symbol).assets.locked == (6_666_666_667 if side == LONG else 1_000 * USD)


@pytest.mark.parametrize("side", [LONG, SHORT])
def test_the_vault_is_what_the_books_say(venue: Venue, side: int) -> None:
    """After opens, a partial and a full close, the vault holds what the pool owns and its fees; no lock is left."""
    symbol = "SOL" if side == LONG else "USDC"
    start = venue.custody(symbol).assets
    for price in ("151.37", "148.02"):
        venue.controls.set_oracle_price("SOL-PERP", Decimal(price))
        venue.holding(side=side, size_usd=777, collateral=SOL if side == LONG else 150 * USD)
    venue.controls.set_oracle_price("SOL-PERP", Decimal("155.5"))
    for size in (500, 0):
        key = venue.reduce(side=side, size_usd=size)
        assert venue.execute(key) is None
        assert venue.close(key) is None
        venue.wait(3)
    assets = venue.custody(symbol).assets
    assert assets.locked == start.locked
    # Rounding of dollars to tokens: a unit or two a step.
    assert abs(venue.vault(symbol) - assets.owned - assets.fees_reserves) <= 8
    asset = venue.custody("SOL").assets
    assert asset.global_short_sizes == 12_000_000 * USD
    assert asset.guaranteed_usd == 40_000_000 * USD


def test_a_partial_close_keeps_the_collateral(venue: Venue) -> None:
    """Profit is paid for the part closed, a loss and its fee come out of the collateral; the lock shrinks with size."""
    venue.holding(size_usd=1_000, collateral=200 * USD)
    collateral = venue.position().collateral_usd
    venue.controls.set_oracle_price("SOL-PERP", Decimal("157.5"))
    assert venue.execute(venue.reduce(size_usd=400)) is None
    (loss,) = venue.events(DecreasePositionEvent)
    fee = 400 * USD * FEE_BPS // 10_000
    position = venue.position()
    assert (position.size_usd, position.locked_amount) == (600 * USD, 600 * USD)
    assert (loss.has_profit, loss.pnl_delta, loss.transfer_amount_usd) == (False, 20 * USD, 0)
    assert position.collateral_usd == collateral - 20 * USD - fee == loss.position_collateral_usd
    assert position.price == 150 * USD

    venue.controls.set_oracle_price("SOL-PERP", Decimal(135))
    assert venue.execute(venue.reduce(size_usd=300)) is None
    (gain,) = venue.events(DecreasePositionEvent)
    fee = 300 * USD * FEE_BPS // 10_000
    assert (gain.has_profit, gain.pnl_delta, gain.transfer_amount_usd) == (True, 30 * USD, 30 * USD - fee)
    assert venue.position().collateral_usd == position.collateral_usd


def test_collateral_may_be_withdrawn_within_the_leverage(venue: Venue) -> None:
    """Dollars of collateral come out with a part closed; not so many that the rest is too thin (6022, 6007)."""
    venue.holding(size_usd=1_000, collateral=200 * USD)
    assert venue.execute(venue.reduce(collateral_usd=100)) is None
    (event,) = venue.events(DecreasePositionEvent)
    assert (event.size_usd_delta, event.transfer_amount_usd) == (0, 100 * USD)
    assert venue.execute(venue.reduce(collateral_usd=98)) == 6022
    assert venue.execute(venue.reduce(collateral_usd=100)) == 6007


# The borrow fee


def test_borrowing_costs_by_the_hour(venue: Venue) -> None:
    """An hour later a close pays the hourly rate of the collateral's custody on the whole size."""
    venue.holding()
    rate = hourly_rate(venue.custody("USDC"))
    assert rate > 0
    venue.cluster.warp(seconds=3_600)
    expected = -(-(cumulative_rate(venue.custody("USDC"), venue.cluster.unix_timestamp)) * 1_000 * USD // 10**9)
    assert venue.execute(venue.reduce(size_usd=500)) is None
    (event,) = venue.events(DecreasePositionEvent)
    assert event.funding_fee_usd == expected
    assert event.fee_usd == event.position_fee_usd + event.funding_fee_usd
    assert abs(event.funding_fee_usd - rate * 1_000 * USD // 10**9) <= 1
    state = venue.custody("USDC").funding_rate_state
    assert state.last_update == venue.cluster.unix_timestamp
    assert venue.position().cumulative_interest_snapshot == state.cumulative_interest_rate


# Impact


def test_a_crowded_minute_costs_more(venue: Venue) -> None:
    """Beyond the threshold of one minute's surplus the fee grows up to its bound; a minute later it is as before."""
    venue.controls.fund_wallet(venue.trader, "USDC", Decimal(5_000_000))
    bps: list[int] = []
    for wait in (0, 0, 61):
        venue.wait(wait)
        assert venue.execute(venue.open(size_usd=1_000_000, collateral=500_000 * USD)) is None
        (event,) = venue.events(IncreasePositionEvent)
        bps.append(event.position_fee_usd * 10_000 // event.size_usd_delta)
    # Six for the trade, and one a started $375,000 of size; two more for 1.33 times the threshold.
    assert bps == [9, 11, 9]


# Refusals


def test_prices_beyond_the_worst_are_refused(venue: Venue) -> None:
    """6021, for each side in its own direction, for more and for less; the position stays as it was."""
    venue.wrap(SOL)
    assert venue.execute(venue.open(side=SHORT, price=150 * USD)) is None
    assert venue.execute(venue.open(side=SHORT, price=150 * USD + 1)) == 6021
    assert venue.execute(venue.open(side=LONG, collateral=SOL // 2, price=150 * USD - 1)) == 6021
    assert venue.execute(venue.open(side=LONG, collateral=SOL // 2, price=150 * USD)) is None
    assert venue.execute(venue.reduce(side=SHORT, price=150 * USD - 1)) == 6021
    assert venue.execute(venue.reduce(side=LONG, price=150 * USD + 1)) == 6021
    assert venue.position().size_usd == venue.position(side=LONG).size_usd == 1_000 * USD
    assert venue.execute(venue.reduce(side=SHORT, price=150 * USD)) is None


def test_capacity(venue: Venue) -> None:
    """The pool's free tokens and the caps of a side are 6023, the cap of one position 6025."""
    venue.controls.set_free_tokens("USDC", Decimal("999.999999"))
    assert venue.execute(venue.open()) == 6023
    venue.controls.set_free_tokens("USDC", Decimal(1_000))
    assert venue.execute(venue.open()) is None
    venue.controls.set_free_tokens("USDC", Decimal(1_000_000))
    venue.controls.set_caps("SOL-PERP", short_usd=Decimal(12_001_999))
    assert venue.execute(venue.open()) == 6023
    venue.controls.set_caps("SOL-PERP", short_usd=Decimal(12_002_000), position_usd=Decimal(1_999))
    assert venue.execute(venue.open()) == 6025
    venue.controls.set_caps("SOL-PERP", position_usd=Decimal(2_000))
    assert venue.execute(venue.open()) is None
    venue.wrap(2 * SOL)
    venue.controls.set_caps("SOL-PERP", long_usd=Decimal(40_000_999))
    assert venue.execute(venue.open(side=LONG, collateral=SOL)) == 6023
    venue.controls.set_caps("SOL-PERP", long_usd=Decimal(40_001_000))
    assert venue.execute(venue.open(side=LONG, collateral=SOL)) is None


def test_leverage_and_collateral(venue: Venue) -> None:
    """Collateral without a size is 6009, such that the fee eats 6007, more than 500 times of what is left 6022."""
    assert venue.execute(venue.open(size_usd=0, collateral=100 * USD)) == 6009
    assert venue.execute(venue.open(size_usd=1_000, collateral=700_000)) == 6007
    assert venue.execute(venue.open(size_usd=1_000, collateral=2_699_999)) == 6022
    assert venue.execute(venue.open(size_usd=1_000, collateral=2_700_000)) is None
    venue.controls.set_max_leverage("SOL-PERP", Decimal(10))
    assert venue.execute(venue.open(size_usd=1_000, collateral=100 * USD)) == 6022


@pytest.mark.parametrize("symbol", ["SOL", "USDC"])
def test_prices_that_are_too_old(venue: Venue, symbol: str) -> None:
    """The asset's and the collateral's price may be five seconds old: 6003 in the sixth."""
    just, key = venue.open(), venue.open()
    venue.controls.freeze_oracle(symbol)
    venue.wait(5)
    assert venue.execute(just) is None
    venue.wait(1)
    assert venue.execute(key) == 6003
    venue.controls.freeze_oracle(symbol, frozen=False)
    venue.wait(1)
    assert venue.execute(key) is None


def test_pauses_stop_executions(venue: Venue) -> None:
    """A permission that is taken away after the request was made stops its execution: 6027."""
    key = venue.open()
    venue.controls.pause("increase", "SOL-PERP")
    assert venue.execute(key) == 6027
    venue.controls.pause("increase", "SOL-PERP", paused=False)
    assert venue.execute(key) is None
    closing = venue.reduce()
    venue.controls.pause("decrease")
    assert venue.execute(closing) == 6027


def test_only_keepers_execute_and_only_once(venue: Venue) -> None:
    """Anybody else is 6034; what was executed already is 6016."""
    key = venue.open()
    assert venue.execute(key, wallet=venue.world.maker) == 6034
    assert venue.execute(key) is None
    assert venue.execute(key) == 6016
    assert venue.position().size_usd == 1_000 * USD


# Waiting for a price


def test_a_stop_fills_at_its_price(venue: Venue) -> None:
    """Before the price is there: 6038. Then it fills at the price that it waited for, not at the market's."""
    venue.holding()
    key = venue.reduce(trigger=(160 * USD, True))
    assert venue.execute(key) == 6038
    venue.controls.set_oracle_price("SOL-PERP", Decimal("161.5"))
    assert venue.execute(key) is None
    (event,) = venue.events(DecreasePositionEvent)
    assert (event.price, event.position_size_usd) == (160 * USD, 0)


def test_a_stop_that_the_market_jumped_over_fills_at_the_market(venue: Venue) -> None:
    """Farther past than the pool's five per cent the oracle's price is taken."""
    venue.holding(collateral=400 * USD)
    key = venue.reduce(trigger=(160 * USD, True))
    venue.controls.set_oracle_price("SOL-PERP", Decimal("168.01"))
    assert venue.execute(key) is None
    (event,) = venue.events(DecreasePositionEvent)
    assert event.price == 168_010_000


def test_a_stop_waits_longer_than_a_market_request(venue: Venue) -> None:
    """What waits for a price has no window; it closes at most what is left by then."""
    venue.holding()
    key = venue.reduce(size_usd=800, trigger=(140 * USD, False))
    venue.cluster.warp(seconds=86_400)
    assert venue.execute(venue.reduce(size_usd=500)) is None
    venue.controls.set_oracle_price("SOL-PERP", Decimal(139))
    assert venue.execute(key) is None
    (event,) = venue.events(DecreasePositionEvent)
    assert (event.size_usd_delta, event.position_size_usd) == (500 * USD, 0)


# Liquidation


def test_anybody_liquidates_what_its_collateral_no_longer_carries(venue: Venue) -> None:
    """Not before the margin is gone (6009); then the position is flat, its owner has nothing, the pool everything."""
    venue.holding(size_usd=1_000, collateral=20 * USD)
    before, vault = venue.custody("USDC").assets, venue.vault("USDC")
    position, key = venue.position(), venue.slot().address
    maker = venue.world.maker

    def attempt() -> int | None:
        return venue.send(liquidate(venue.world, key, position, maker.pubkey()), wallet=maker)

    venue.controls.set_oracle_price("SOL-PERP", Decimal("152.4"))
    assert attempt() == 6009
    venue.controls.set_oracle_price("SOL-PERP", Decimal("152.5"))
    assert attempt() is None
    (event,) = venue.events(LiquidateFullPositionEvent)
    assert (event.position_size_usd, event.has_profit, event.transfer_token) == (1_000 * USD, False, 0)
    assert (venue.position().size_usd, venue.position().collateral_usd) == (0, 0)
    after = venue.custody("USDC").assets
    assert venue.vault("USDC") == vault
    assert after.owned + after.fees_reserves - before.owned - before.fees_reserves == position.collateral_usd
    assert before.locked - after.locked == 1_000 * USD
    assert attempt() == 6009


def test_liquidations_can_be_paused(venue: Venue) -> None:
    """Without the permission nobody liquidates: 6027."""
    venue.holding(collateral=10 * USD)
    venue.controls.pause("liquidate")
    with pytest.raises(ValueError, match="6027"):
        venue.controls.liquidate("SOL-PERP", "short")


# Accounts


def replaced(venue: Venue, key: Pubkey, old: Pubkey, new: Pubkey) -> int | None:
    """Execute a request with one address replaced by another wherever it stands."""
    request = venue.request(key)
    assert request is not None
    keeper = venue.world.keeper
    call = execute(venue.world, key, request, venue.position(), keeper.pubkey())
    metas = [
        AccountMeta(new if meta.pubkey == old else meta.pubkey, meta.is_signer, meta.is_writable)
        for meta in call.accounts
    ]
    return venue.send(Instruction(call.program_id, bytes(call.data), metas), wallet=keeper)


def test_a_keeper_cannot_choose_prices_or_vaults(venue: Venue) -> None:
    """Feeds other than the custody's are 6002, another vault or authority 2006, another position or collateral 2001."""
    world, ether = venue.world, venue.world.custody("ETH")
    sol, usdc = world.custody("SOL"), world.custody("USDC")
    key = venue.open()
    assert replaced(venue, key, sol.feed, ether.feed) == 6002
    assert replaced(venue, key, usdc.feed, ether.feed) == 6002
    assert replaced(venue, key, sol.terms.oracle, ether.terms.oracle) == 6002
    assert replaced(venue, key, usdc.vault, world.custody("USDT").vault) == 2006
    assert replaced(venue, key, usdc.address, world.custody("USDT").address) == 2001
    assert replaced(venue, key, venue.slot().address, sol.address) == 2001
    escrow = associated_token_account(key, usdc.mint)
    assert replaced(venue, key, escrow, Keypair().pubkey()) == 3012
    venue.controls.fund_wallet(world.keeper.pubkey(), "USDC", Decimal(100))
    own = associated_token_account(world.keeper.pubkey(), usdc.mint)
    assert replaced(venue, key, escrow, own) == 2015
    assert venue.execute(key) is None
    closing = venue.reduce()
    assert replaced(venue, closing, transfer_authority()[0], world.keeper.pubkey()) == 2006
    assert replaced(venue, closing, venue.trader, world.maker.pubkey()) == 2001
    assert venue.execute(closing) is None


def test_instructions_fit_their_kind_of_request(venue: Venue) -> None:
    """A stop is not executed as a market request, nor an open as a close."""
    venue.holding()
    stop = venue.reduce(trigger=(160 * USD, True))
    venue.controls.set_oracle_price("SOL-PERP", Decimal(161))
    request = venue.request(stop)
    assert request is not None
    keeper = venue.world.keeper
    request.request_type = MARKET
    assert venue.send(execute(venue.world, stop, request, venue.position(), keeper.pubkey()), wallet=keeper) == 6036
    request.request_change = INCREASE
    assert venue.send(execute(venue.world, stop, request, venue.position(), keeper.pubkey()), wallet=keeper) == 6016
    assert venue.execute(stop) is None


def test_no_price_is_no_price(venue: Venue) -> None:
    """A feed that says zero is refused: 6004."""
    key = venue.open()
    feed = read_content(venue.cluster, venue.world.custody("SOL").feed, AgPriceFeed)
    feed.price = 0
    venue.edit(venue.world.custody("SOL").feed, feed)
    assert venue.execute(key) == 6004


def test_a_vault_that_has_lent_its_tokens_pays_nothing(venue: Venue) -> None:
    """A close that the vault cannot pay is 6014, and nothing of it happens."""
    venue.holding()
    vault = venue.world.custody("USDC").vault
    account = venue.cluster.account(vault)
    assert account is not None
    venue.cluster.set_account(vault, with_token_amount(account, 98_599_999))
    key = venue.reduce()
    assert venue.execute(key) == 6014
    assert venue.position().size_usd == 1_000 * USD
    venue.cluster.set_account(vault, with_token_amount(account, 98_600_000))
    assert venue.execute(key) is None
