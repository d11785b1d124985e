"""Fees, borrowing and liquidation prices: the venue's own numbers of live accounts and of a real fill."""

from __future__ import annotations

import struct
from decimal import Decimal

import msgspec
import pytest
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.base.types import Side, VenueEventKind
from providers.jupiter.constants import PROGRAM_ID, RATE_ONE, RequestChange
from providers.jupiter.constants import Side as PositionSide
from providers.jupiter.events import to_venue_event, told_by
from providers.jupiter.fees import (
    accrued_borrow_fee,
    cumulative_interest,
    hourly_borrow_rate,
    liquidation_price,
    pnl,
    position_fee,
    utilization,
)
from providers.jupiter.state import Custody
from providers.solana.records import InnerInstruction
from tests.jupiter import jupiter_samples as samples

ONE = 10**6
NOW = 1_790_000_000


def custody_of(**changes: object) -> Custody:
    """Return a custody like SOL's: 6 bp, one more for every started 375,000 dollars, 11% used."""
    key = Pubkey.default()
    made = Custody(
        pool=key,
        mint=key,
        token_account=key,
        decimals=9,
        is_stable=False,
        oracle_account=key,
        max_price_age_sec=5,
        trade_impact_fee_scalar=3_750_000_000_000_000,
        max_leverage=5_000_000,
        max_global_long_sizes=0,
        max_global_short_sizes=0,
        allow_increase_position=True,
        allow_decrease_position=True,
        owned=1_000,
        locked=100,
        guaranteed_usd=0,
        global_short_sizes=0,
        cumulative_interest_rate=0,
        last_update=NOW,
        hourly_funding_dbps=0,
        increase_position_bps=6,
        decrease_position_bps=7,
        max_position_size_usd=0,
        doves_oracle=key,
        min_rate_bps=1_000,
        max_rate_bps=15_000,
        target_rate_bps=3_500,
        target_utilization_rate=800_000_000,
        doves_ag_oracle=key,
        open_interest=(0,) * 60,
        impact_last_updated=0,
        impact_fee_factor=0,
        impact_exponent_bits=_bits(1.0),
        impact_threshold_usd=1_500_000 * ONE,
        impact_max_fee_bps=50,
        debt=0,
        borrow_interest_accrued=0,
    )
    return msgspec.structs.replace(made, **changes)


def _bits(number: float) -> int:
    return int.from_bytes(struct.pack("<f", number), "little")


# --- of the chain -----------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_borrow_rates_of_the_chain() -> None:
    """Utilization and hourly rates of two live custodies, one with tokens lent out, to the last digit."""
    golden = samples.snapshot(samples.SEPTEMBER)["golden"]
    found = {each.is_stable: each for each in samples.custodies(samples.SEPTEMBER).values()}
    for stable, name in ((False, "sol_custody"), (True, "usdc_custody")):
        assert utilization(found[stable]) == golden[name]["util_raw"]
        assert hourly_borrow_rate(found[stable]) == golden[name]["hourly_rate_raw"]
    assert found[True].lent == golden["usdc_custody"]["debt_tokens"]


@pytest.mark.shared
def test_liquidation_prices_of_the_chain() -> None:
    """Borrow fees and liquidation prices of three live positions, to the last digit."""
    snapshot = samples.snapshot(samples.SEPTEMBER)
    custodies = samples.custodies(samples.SEPTEMBER)
    checked = 0
    for key, golden in snapshot["golden"]["positions"].items():
        position = samples.positions()[key]
        market = custodies[str(position.custody)]
        collateral = custodies[str(position.collateral_custody)]
        # The numbers were taken as of the custodies' last update.
        now = collateral.last_update
        owed = accrued_borrow_fee(
            collateral, size_usd=position.size_usd, snapshot=position.cumulative_interest_snapshot, now=now
        )
        assert owed == golden["accrued_borrow_fee_raw"]
        closing = position_fee(market, position.size_usd, RequestChange.DECREASE, now).total
        price = liquidation_price(
            market,
            long=position.side == PositionSide.LONG,
            size_usd=position.size_usd,
            collateral_usd=position.collateral_usd,
            entry=position.price,
            fees=closing + owed,
        )
        assert Decimal(price).scaleb(-6) == Decimal(str(golden["liq_usd"]))
        checked += 1
    assert checked == 3


@pytest.mark.shared
def test_a_fill_of_the_chain() -> None:
    """A recorded take profit: what it says, its fee and its profit by our formulas, its name, its end."""
    record, _ = samples.recorded("3MnCnWjL")
    told = told_by(record, PROGRAM_ID)
    (change,), (closing,) = told.changes, told.closings
    golden = samples.snapshot(samples.FEBRUARY)["golden"]["3MnCnWjL"]
    assert (change.size_usd, change.price, change.entry_price) == (
        golden["size_usd_delta"],
        golden["price"],
        golden["position_price"],
    )
    assert (change.fee_usd, change.position_fee_usd, change.borrow_fee_usd) == (
        golden["fee_usd"],
        golden["position_fee_usd"],
        golden["funding_fee_usd"],
    )
    assert change.fee_usd == change.position_fee_usd + change.borrow_fee_usd
    (custody,) = samples.custodies(samples.FEBRUARY).values()
    fee = position_fee(custody, change.size_usd, RequestChange.DECREASE, custody.impact_last_updated + 60)
    assert (fee.total, fee.impact) == (golden["position_fee_usd"], golden["price_impact_fee_usd"])
    assert pnl(long=True, size_usd=change.size_usd, entry=84_500_000, price=84_650_000) == golden["pnl_delta"]
    assert change.request == closing.request
    assert (closing.executed, closing.amount) == (True, 0)
    event = to_venue_event(change, record)
    assert (event.kind, event.market, event.side) == (VenueEventKind.TRADE, "SOL-PERP", Side.LONG)
    assert event.base_delta == -Decimal(3_285_360_000) / 84_500_000
    assert event.venue_fill_id == f"{record.signature}:0"
    assert event.price == Decimal("84.65")


@pytest.mark.shared
def test_a_transaction_of_something_else_tells_nothing() -> None:
    """A loan out of a custody is an event of the program and changes no position."""
    record, _ = samples.recorded("5mYEUYXC")
    assert record.inner_instructions
    told = told_by(record, PROGRAM_ID)
    assert (told.changes, told.closings) == ((), ())


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_of_others_do_not_count() -> None:
    """The same bytes called by another program are no event of the venue."""
    data = bytes.fromhex("e445a52e51cb9a1d") + bytes.fromhex("409c2b4a6d83107f") + bytes(400)
    stranger = InnerInstruction(parent=0, program_id=Pubkey.new_unique(), accounts=(), data=data, stack_height=2)
    assert told_by(samples.record_of("s", (stranger,)), PROGRAM_ID).changes == ()
    ours = msgspec.structs.replace(stranger, program_id=PROGRAM_ID)
    with pytest.raises(BadAnswer):
        # A position on no side.
        told_by(samples.record_of("s", (ours,)), PROGRAM_ID)


def test_a_node_without_inner_instructions_proves_nothing() -> None:
    """That no event is shown means nothing where the node keeps none."""
    with pytest.raises(BadAnswer):
        told_by(samples.record_of("s", (), inner_known=False), PROGRAM_ID)


# --- fees -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "increase", "decrease"),
    [
        # Every trade pays at least one basis point of impact.
        (1, 1, 1),
        (100 * ONE, 70_000, 80_000),
        (375_000 * ONE, 262_500_000, 300_000_000),
        (375_000 * ONE + 1, 300_000_001, 337_500_001),
    ],
)
def test_the_fee_of_a_trade(size: int, increase: int, decrease: int) -> None:
    """A base rate for each direction, one basis point for every started step of size, rounded up."""
    custody = custody_of()
    assert position_fee(custody, size, RequestChange.INCREASE, NOW).total == increase
    assert position_fee(custody, size, RequestChange.DECREASE, NOW).total == decrease


def test_no_impact_where_the_scalar_is_zero() -> None:
    """A custody without a scalar takes the base rate alone."""
    fee = position_fee(custody_of(trade_impact_fee_scalar=0), 100 * ONE, RequestChange.INCREASE, NOW)
    assert (fee.total, fee.impact) == (60_000, 0)


@pytest.mark.parametrize(
    ("buckets", "age", "change", "basis_points"),
    [
        # Alone, below the threshold.
        ({}, 100, RequestChange.INCREASE, 9),
        # With the minute's flow it is above: twice and a bit of the threshold makes three more.
        ({30: 2_500_000}, 0, RequestChange.INCREASE, 12),
        # What goes the other way takes off.
        ({30: 2_500_000}, 0, RequestChange.DECREASE, 10),
        # Old flow counts for nothing.
        ({30: 2_500_000}, 60, RequestChange.INCREASE, 9),
        ({(NOW + 1) % 60: 2_500_000}, 1, RequestChange.INCREASE, 9),
        ({NOW % 60: 2_500_000}, 1, RequestChange.INCREASE, 12),
        # The market's most.
        ({30: 900_000_000}, 0, RequestChange.INCREASE, 50),
    ],
)
def test_flow_in_one_direction_costs_more(
    buckets: dict[int, int], age: int, change: RequestChange, basis_points: int
) -> None:
    """Above a threshold of the last minute's flow every trade pays more, up to a limit."""
    flow = tuple(buckets.get(index, 0) * ONE for index in range(60))
    custody = custody_of(open_interest=flow, impact_last_updated=NOW, impact_fee_factor=1)
    size = 1_000_000 * ONE
    fee = position_fee(custody, size, change, NOW + age)
    assert fee.total == size * basis_points // 10_000


def test_an_exponent_of_the_impact() -> None:
    """The flow's multiple of the threshold is raised to the custody's power, and rounded up."""
    flow = (5_000_000 * ONE, *(0 for _ in range(59)))
    custody = custody_of(
        open_interest=flow, impact_last_updated=NOW, impact_fee_factor=2, impact_exponent_bits=_bits(2.0)
    )
    # (6 / 1.5)^2 = 16, halved.
    fee = position_fee(custody, 1_000_000 * ONE, RequestChange.INCREASE, NOW)
    assert fee.total == 1_000_000 * ONE * (6 + 3 + 8) // 10_000
    broken = custody_of(
        open_interest=flow, impact_last_updated=NOW, impact_fee_factor=2, impact_exponent_bits=_bits(float("nan"))
    )
    with pytest.raises(BadAnswer):
        position_fee(broken, 1_000_000 * ONE, RequestChange.INCREASE, NOW)


# --- borrowing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locked", "annual_bps"), [(0, 1_000), (400, 2_250), (800, 3_500), (900, 9_250), (1_000, 15_000)]
)
def test_the_rate_rises_with_use_and_faster_above_the_target(locked: int, annual_bps: int) -> None:
    """Two straight lines that meet at the target."""
    rate = hourly_borrow_rate(custody_of(locked=locked))
    assert rate == annual_bps * RATE_ONE // 10_000 // 8_760


def test_the_older_rate() -> None:
    """A custody with an hourly rate of its own takes that, by use."""
    assert hourly_borrow_rate(custody_of(hourly_funding_dbps=10, locked=500)) == 50_000
    assert hourly_borrow_rate(custody_of(owned=0, locked=0, hourly_funding_dbps=10)) == 0
    assert utilization(custody_of(owned=0, locked=0)) == 0


def test_interest_grows_by_the_second() -> None:
    """What has accrued is the rate's share of an hour, rounded up; time never runs back."""
    custody = custody_of(cumulative_interest_rate=7, locked=800)
    hourly = hourly_borrow_rate(custody)
    assert cumulative_interest(custody, NOW + 3_600) == 7 + hourly
    assert cumulative_interest(custody, NOW + 1) == 7 + -(-hourly // 3_600)
    assert cumulative_interest(custody, NOW - 10) == 7
    fee = accrued_borrow_fee(custody, size_usd=1_000 * ONE, snapshot=7, now=NOW + 3_600)
    assert fee == hourly * 1_000 * ONE // RATE_ONE


# --- liquidation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("long", "collateral", "fees", "expected"),
    [
        # 1,000 dollars at 100: 2 must stay.
        (True, 102, 0, 90_000_000),
        (False, 102, 0, 110_000_000),
        (True, 102, 10, 91_000_000),
        # Already beyond: the price that would save it.
        (True, 1, 0, 100_100_000),
        (False, 1, 0, 99_900_000),
        # Collateral that no price above zero can use up.
        (True, 2_000, 0, 0),
    ],
)
def test_where_a_position_is_liquidated(long: bool, collateral: int, fees: int, expected: int) -> None:  # noqa: FBT001 - a parameter of the table
    """Collateral less what must stay and what closing costs, as a move of the entry price."""
    price = liquidation_price(
        custody_of(),
        long=long,
        size_usd=1_000 * ONE,
        collateral_usd=collateral * ONE,
        entry=100 * ONE,
        fees=fees * ONE,
    )
    assert price == expected


def test_profit_and_loss() -> None:
    """By the side, toward zero."""
    assert pnl(long=True, size_usd=1_000, entry=300, price=301) == 3
    assert pnl(long=True, size_usd=1_000, entry=300, price=299) == -3
    assert pnl(long=False, size_usd=1_000, entry=300, price=299) == 3
