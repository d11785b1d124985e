"""Liquidation: who may, when, how much is taken, at what price, and what is printed."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount, PerpPosition
from router.localnet.mango.actors import oracle_lots, read_account
from router.localnet.mango.calls import OrderCall, health_metas, liquidate_base, place_order
from router.localnet.mango.enums import IxGate, PlaceOrderType, Side
from router.localnet.mango.layouts import Group, PerpMarket
from router.localnet.mango.numbers import ONE
from router.localnet.mango.world import MangoTrader, mango_world_of
from router.localnet.world import WorldKeys
from tests.localnet_mango.test_mango_funds import meta
from tests.localnet_mango.venue_bench import Venue

SOL = "SOL-PERP"
USDC = 10**6
ALL = (1 << 63) - 1
LOT_PRICE = 150 * 10**8 * 2_815 * 10**6
"""Native quote (I80F48) of a lot of 0.001 SOL at 150 dollars; 2815 is the program's own 10^-11 in 2^-48."""
FEE = ONE // 20 // 2
"""Half of the maintenance margin, which is 5 %."""

WORLD = mango_world_of(WorldKeys())
GROUP, MARKET, ORACLE, LIQOR, OWNER, LIQEE, BANK, VAULT, BANK_ORACLE = range(9)


def holding(base: int, usd: str, side: Side = Side.BID) -> Venue:
    """Return a venue whose trader holds SOL bought (or sold) near 150 dollars on this much collateral."""
    venue = Venue()
    venue.controls.foreign_trade(SOL, "long" if side is Side.BID else "short", Decimal(base))
    venue.controls.cranker.crank(venue.world.market(SOL))
    venue.controls.set_collateral(Decimal(usd))
    return venue


def liquidation(venue: Venue, most: int = ALL, *, liqor: MangoTrader | None = None, pnl: int = 0) -> Instruction:
    """Return the liquidation of the trader's SOL by the maker, or another."""
    world = venue.world
    by = world.maker if liqor is None else liqor
    built = liquidate_base(world, world.market(SOL), by, world.trader_account.account, most)
    return Instruction(built.program_id, built.data[:-8] + pnl.to_bytes(8, "little"), built.accounts)


def liquidate(venue: Venue, most: int = ALL, *, pnl: int = 0) -> int | str | None:
    """Send the maker's liquidation; return the program's code."""
    return venue.send_as(venue.world.maker.wallet, liquidation(venue, most, pnl=pnl))


def with_meta(instruction: Instruction, place: int, changed: AccountMeta) -> Instruction:
    """Return the instruction with another account in a place."""
    metas = [*instruction.accounts[:place], changed, *instruction.accounts[place + 1 :]]
    return Instruction(instruction.program_id, bytes(instruction.data), metas)


def account(venue: Venue) -> MangoAccount:
    """Return the trader's account."""
    return read_account(venue.cluster, venue.world.trader_account.account)


def positions(venue: Venue) -> tuple[PerpPosition, PerpPosition]:
    """Return the trader's position and the maker's."""
    found = account(venue).perp(2), read_account(venue.cluster, venue.world.maker.account).perp(2)
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def marked(venue: Venue) -> bool:
    """Tell whether the trader is being liquidated."""
    return account(venue).head.being_liquidated == 1


# Who may, and when


def test_an_account_that_is_well_is_left_as_it_is_with_success() -> None:
    """Nothing of either account changes where maintenance health is not negative."""
    venue = holding(10, "80")
    before = [venue.cluster.account(key.account) for key in (venue.world.trader_account, venue.world.maker)]

    assert liquidate(venue) is None

    assert before == [venue.cluster.account(key.account) for key in (venue.world.trader_account, venue.world.maker)]


def test_who_liquidates_is_another_account_and_its_owner_or_delegate_signs() -> None:
    """Oneself is refused with 2504, a stranger's signature with 6000; a delegate's is as good as the owner's."""
    venue = holding(10, "60")
    world = venue.world
    assert venue.send(liquidation(venue, liqor=world.trader_account)) == 2504
    foreign = with_meta(liquidation(venue), OWNER, meta(world.keeper.wallet.pubkey(), signer=True))
    assert venue.send_as(world.keeper.wallet, foreign) == 6000

    def appoint(maker: MangoAccount) -> None:
        maker.head.delegate = world.keeper.wallet.pubkey()

    venue.edit(MangoAccount, world.maker.account, appoint)
    assert venue.send_as(world.keeper.wallet, foreign) is None
    assert positions(venue)[0].base_position_lots < 10_000


def test_who_is_being_liquidated_liquidates_nobody() -> None:
    """The liquidator's own mark is refused with 6016."""
    venue = holding(10, "60")
    venue.controls.set_being_liquidated(authority=venue.world.maker.wallet.pubkey())

    assert liquidate(venue) == 6016


def test_the_groups_gate_stops_it() -> None:
    """Bit 19 refuses with 6042."""
    venue = holding(10, "60")
    venue.controls.set_ix_gate(IxGate.PERP_LIQ_BASE_OR_POSITIVE_PNL)

    assert liquidate(venue) == 6042


@pytest.mark.parametrize("party", ["maker", "trader_account"])
def test_a_frozen_account_is_on_neither_side(party: str) -> None:
    """6038, for the liquidator and the liquidated alike."""
    venue = holding(10, "60")

    def freeze(content: MangoAccount) -> None:
        content.head.frozen_until = venue.cluster.unix_timestamp + 60

    venue.edit(MangoAccount, getattr(venue.world, party).account, freeze)
    assert liquidate(venue) == 6038


@pytest.mark.parametrize(
    ("place", "given", "code"),
    [
        (MARKET, meta(WORLD.market(SOL).address), 2000),
        (MARKET, meta(WORLD.market("BTC-PERP").address, writable=True), 2001),
        (ORACLE, meta(WORLD.market("BTC-PERP").oracle), 2001),
        (LIQOR, meta(WORLD.maker.account), 2000),
        (OWNER, meta(WORLD.keeper.wallet.pubkey()), 3010),
        (LIQEE, meta(WORLD.trader_account.account), 2000),
        (LIQEE, meta(WORLD.market(SOL).bids, writable=True), 3002),
        (BANK, meta(WORLD.usdc.address), 2000),
        (BANK, meta(WORLD.banks[1].address, writable=True), 6017),
        (VAULT, meta(WORLD.usdc.vault), 2000),
        (VAULT, meta(WORLD.banks[1].vault, writable=True), 2012),
        (VAULT, meta(WORLD.group, writable=True), 3007),
        (BANK_ORACLE, meta(WORLD.market(SOL).oracle), 2012),
    ],
)
def test_every_account_is_the_right_one(place: int, given: AccountMeta, code: int) -> None:
    """The framework's checks of writable, related, signing and addressed accounts."""
    venue = holding(10, "60")
    instruction = liquidation(venue)
    assert venue.send_as(venue.world.maker.wallet, with_meta(instruction, place, given)) == code


def test_another_group_is_refused() -> None:
    """The market has to be of the group that is given: 2001."""
    venue = holding(10, "60")
    other = Pubkey.from_bytes(bytes([7] * 32))
    held = venue.cluster.account(venue.world.group)
    assert held is not None
    venue.cluster.set_account(other, held)
    assert venue.read(Group, other) == venue.read(Group, venue.world.group)

    assert venue.send_as(venue.world.maker.wallet, with_meta(liquidation(venue), GROUP, meta(other))) == 2001


def test_orders_that_rest_come_first() -> None:
    """They have to be cancelled before the position is touched: 6022, whether the account is well or not."""
    venue = Venue()
    world, market = venue.world, venue.world.market(SOL)
    price = oracle_lots(venue.cluster, market) // 2
    order = OrderCall(side=Side.BID, price_lots=price, base_lots=1_000, order_type=PlaceOrderType.POST_ONLY)
    owner = world.trader.pubkey()
    health = health_metas(world, [2])
    assert venue.send(place_order(world, market, world.trader_account.account, owner, order, health=health)) is None

    assert liquidate(venue) == 6022


def test_fills_that_wait_come_first() -> None:
    """A position with fills in the queue is refused with 6040 until somebody has consumed them."""
    venue = Venue()
    venue.controls.foreign_trade(SOL, "long", Decimal(10))
    venue.controls.set_collateral(Decimal(60))

    assert liquidate(venue) == 6040
    venue.controls.cranker.crank(venue.world.market(SOL))
    assert liquidate(venue) is None
    assert positions(venue)[0].base_position_lots < 10_000


def test_there_has_to_be_a_position_and_the_amount_points_towards_it() -> None:
    """Without a slot in the market 6020; a sign that would make the position larger, 6000."""
    venue = Venue()
    venue.controls.foreign_trade("BTC-PERP", "long", Decimal(1))
    venue.controls.cranker.crank(venue.world.market("BTC-PERP"))
    venue.controls.set_collateral(Decimal(1_000))
    assert liquidate(venue) == 6020

    assert liquidate(holding(10, "60"), -1) == 6000
    assert liquidate(holding(10, "60", Side.ASK), 1) == 6000


def test_prices_have_to_be_fresh_and_certain() -> None:
    """Health asks for both: 6024 and 6023."""
    venue = holding(10, "60")
    market = venue.world.market(SOL)

    def never(content: PerpMarket) -> None:
        content.oracle_config.max_staleness_slots = 0

    venue.controls.set_oracle_confidence(SOL, Decimal(20))
    assert liquidate(venue) == 6023
    venue.controls.set_oracle_confidence(SOL, Decimal("0.01"))
    venue.edit(PerpMarket, market.address, never)
    venue.controls.freeze_oracle(SOL)
    venue.cluster.warp(slots=5)
    assert liquidate(venue) == 6024


def test_every_token_of_the_account_has_to_be_among_the_health_accounts() -> None:
    """Without the bank of USDC behind it the instruction finds no position to price: 6028."""
    venue = holding(10, "60")
    instruction = liquidation(venue)
    tail = instruction.accounts[BANK_ORACLE + 1 :]
    world = venue.world
    kept = [each for each in tail if each.pubkey not in (world.usdc.address, world.usdc.oracle)]
    bare = Instruction(instruction.program_id, bytes(instruction.data), [*instruction.accounts[:9], *kept])

    assert venue.send_as(world.maker.wallet, bare) == 6028


# How much, and at what price


@pytest.mark.parametrize("side", [Side.BID, Side.ASK])
def test_base_goes_over_at_the_oracles_price_less_the_fees(side: Side) -> None:
    """A liquidator of 2 SOL pays 2.5 % less than the price; the platform's 0.5 % are the account's too."""
    venue = holding(10, "60", side)
    market = venue.world.market(SOL)

    def charge(content: PerpMarket) -> None:
        content.platform_liquidation_fee = ONE // 200

    venue.edit(PerpMarket, market.address, charge)
    accrued = venue.read(PerpMarket, market.address).fees_accrued
    trader, maker = positions(venue)
    sign = 1 if side is Side.BID else -1

    assert liquidate(venue, 2_000 * sign) is None

    value = 2_000 * LOT_PRICE * sign
    liqor_paid = value * (ONE - sign * FEE) >> 48
    liqee_got = value * (ONE - sign * (FEE + ONE // 200)) >> 48
    after, taken = positions(venue)
    assert after.base_position_lots - trader.base_position_lots == -2_000 * sign
    assert taken.base_position_lots - maker.base_position_lots == 2_000 * sign
    assert after.quote_position_native - trader.quote_position_native == liqee_got
    assert abs(taken.quote_position_native - maker.quote_position_native + liqor_paid) <= 1
    content = venue.read(PerpMarket, market.address)
    fee = maker.quote_position_native - taken.quote_position_native - liqee_got
    assert content.accrued_liquidation_fees == content.fees_accrued - accrued == fee
    assert abs(fee - (2_000 * LOT_PRICE * (ONE // 200) >> 48)) <= 3


def test_both_sides_settle_their_funding_first() -> None:
    """What longs owe since they were last settled is taken from their quote, and shorts are given it."""
    venue = holding(10, "60")
    owed = 7 * ONE

    def accrue(content: PerpMarket) -> None:
        content.long_funding += owed
        content.short_funding += owed

    venue.edit(PerpMarket, venue.world.market(SOL).address, accrue)
    trader, maker = positions(venue)
    assert maker.base_position_lots == -10_000

    assert liquidate(venue, 1_000) is None

    value = 1_000 * LOT_PRICE * (ONE - FEE) >> 48
    after, taken = positions(venue)
    assert after.quote_position_native == trader.quote_position_native - 10_000 * owed + value
    assert abs(taken.quote_position_native - (maker.quote_position_native + 10_000 * owed - value)) <= 1
    settled = venue.read(PerpMarket, venue.world.market(SOL).address).long_funding
    assert after.long_settled_funding == taken.long_settled_funding == settled


def test_no_more_is_taken_than_health_needs() -> None:
    """At 4 % of its value in collateral a position is cut to a fifth: what is left carries its initial margin."""
    venue = holding(10, "61.17")

    assert liquidate(venue) is None

    assert abs(positions(venue)[0].base_position_lots - 2_000) <= 10
    assert not marked(venue)
    assert liquidate(venue) is None
    assert abs(positions(venue)[0].base_position_lots - 2_000) <= 10


def test_a_position_may_be_taken_to_its_end() -> None:
    """Where nothing would be left to carry a rest, all goes, and the account stays marked as one in liquidation."""
    venue = holding(10, "20")

    assert liquidate(venue) is None

    assert positions(venue)[0].base_position_lots == 0
    assert marked(venue)


def test_a_mark_stays_until_initial_health_is_back() -> None:
    """Once begun, liquidation goes on though maintenance health is positive again; recovered, the mark goes alone."""
    venue = holding(10, "60")
    assert liquidate(venue, 1_000) is None
    assert marked(venue)
    venue.controls.set_collateral(Decimal(100))
    assert liquidate(venue, 1_000) is None
    assert marked(venue)
    assert positions(venue)[0].base_position_lots == 8_000
    venue.controls.set_collateral(Decimal(1_000))

    assert liquidate(venue, 1_000) is None

    assert not marked(venue)
    assert positions(venue)[0].base_position_lots == 8_000


def test_a_liquidator_has_to_carry_what_it_takes() -> None:
    """Its own initial health may not be negative afterwards: 6006, and nothing has happened."""
    venue = holding(10, "60")
    keeper = venue.world.keeper
    venue.controls.set_collateral(Decimal(10), authority=keeper.wallet.pubkey())
    instruction = liquidation(venue, liqor=keeper)

    assert venue.send_as(keeper.wallet, instruction) == 6006
    assert not marked(venue)
    venue.controls.set_collateral(Decimal(1_000), authority=keeper.wallet.pubkey())
    assert venue.send_as(keeper.wallet, instruction) is None
    taken = read_account(venue.cluster, keeper.account).perp(2)
    assert taken is not None
    assert taken.base_position_lots == 10_000 - positions(venue)[0].base_position_lots


def test_fees_beyond_the_margin_abort_the_program() -> None:
    """Where a lot would cost health more than it brings, the program panics."""
    venue = holding(10, "60")

    def charge(content: PerpMarket) -> None:
        content.platform_liquidation_fee = ONE // 10

    venue.edit(PerpMarket, venue.world.market(SOL).address, charge)
    assert liquidate(venue) == "ProgramFailedToComplete"


def winning(btc: str) -> Venue:
    """Return a venue whose trader has a profit of some 500 dollars that counts for nothing, and owes for BTC."""
    venue = holding(10, "10000")
    market = venue.world.market(SOL)

    def discount(content: PerpMarket) -> None:
        content.maint_overall_asset_weight = content.init_overall_asset_weight = 0

    venue.edit(PerpMarket, market.address, discount)
    venue.controls.set_oracle_price(SOL, Decimal(200))
    venue.controls.foreign_trade("BTC-PERP", "long", Decimal(btc))
    venue.controls.cranker.crank(venue.world.market("BTC-PERP"))
    venue.controls.set_collateral(Decimal(1))
    return venue


def test_profit_that_does_not_count_is_bought() -> None:
    """As much as health lacks goes over for 98 % of it, which is a deposit then; base stays where it is."""
    venue = winning("0.01")
    world = venue.world
    trader, maker = positions(venue)
    before = [read_account(venue.cluster, each.account).token(0) for each in (world.trader_account, world.maker)]

    assert liquidate(venue, pnl=400 * USDC) is None

    after, taken = positions(venue)
    pnl = trader.quote_position_native - after.quote_position_native
    assert 30 * USDC < pnl >> 48 < 35 * USDC
    assert taken.quote_position_native - maker.quote_position_native == pnl
    assert after.base_position_lots == trader.base_position_lots
    tokens = [read_account(venue.cluster, each.account).token(0) for each in (world.trader_account, world.maker)]
    moved = [
        (new.indexed_position - old.indexed_position) * USDC
        for old, new in zip(before, tokens, strict=True)
        if old is not None and new is not None
    ]
    paid = pnl * 98 // 100
    assert [abs(each) for each in moved] == pytest.approx([paid, paid], abs=10 * USDC)
    assert moved[0] > 0 > moved[1]
    assert after.perp_spot_transfers == -taken.perp_spot_transfers == paid >> 48
    assert account(venue).head.perp_spot_transfers == paid >> 48
    limit = taken.recurring_settle_pnl_allowance - maker.recurring_settle_pnl_allowance
    once = (taken.oneshot_settle_pnl_allowance - maker.oneshot_settle_pnl_allowance) >> 48
    assert 0 < limit + once <= -(-pnl >> 48)
    assert not marked(venue)


def test_base_follows_where_profit_may_be_bought_later() -> None:
    """What the allowed profit brings too little for is reduced too, in the hope that it is bought: both end at zero."""
    venue = winning("1")

    assert liquidate(venue, pnl=100_000 * USDC) is None

    after, taken = positions(venue)
    assert after.base_position_lots == taken.base_position_lots == 0
    assert after.quote_position_native >> 48 == 0
    assert marked(venue)


def test_without_leave_to_buy_profit_nothing_is_taken_there() -> None:
    """Base would bring health nothing then; the account is marked, and that is all."""
    venue = winning("1")
    before = positions(venue)

    assert liquidate(venue) is None

    for old, new in zip(before, positions(venue), strict=True):
        assert new.base_position_lots == old.base_position_lots
        assert new.quote_position_native == old.quote_position_native
    assert marked(venue)


# What is printed


def test_the_record_is_in_the_programs_encoding() -> None:
    """Group, market, both accounts, base, both quotes, fee, profit, its limits, price: 218 bytes behind the name."""
    venue = holding(10, "60")
    world = venue.world
    trader, maker = positions(venue)

    assert liquidate(venue, 1_000) is None

    after, taken = positions(venue)
    (record,) = venue.printed("PerpLiqBaseOrPositivePnlLogV3")
    keys = bytes(world.group), bytes(world.maker.account), bytes(world.trader_account.account)
    quotes = [
        after.quote_position_native - trader.quote_position_native,
        taken.quote_position_native - maker.quote_position_native,
    ]
    wide = [value.to_bytes(16, "little", signed=True) for value in (*quotes, -sum(quotes), 0)]
    price = (150 * 10**8 * 2_815).to_bytes(16, "little")
    head = keys[0] + struct.pack("<H", 2) + keys[1] + keys[2] + struct.pack("<q", -1_000)
    assert record == head + b"".join(wide) + struct.pack("<qq", 0, 0) + price
    assert [len(each) for each in venue.printed("PerpBalanceLog")] == [154, 154]
    assert venue.printed("TokenBalanceLog") == []


def test_nothing_taken_prints_no_record() -> None:
    """An account that is well, and one of which nothing can be taken, leave no record."""
    venue = holding(10, "80")
    assert liquidate(venue) is None
    assert venue.printed("PerpLiqBaseOrPositivePnlLogV3") == []
    venue = winning("1")
    assert liquidate(venue) is None
    assert venue.printed("PerpLiqBaseOrPositivePnlLogV3") == []
    assert len(venue.printed("PerpBalanceLog")) == 2
