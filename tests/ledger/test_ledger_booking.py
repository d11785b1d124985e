"""Booking as arithmetic: for any fills, sums, limits and PnL are exact."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from providers.base.types import Fill, Outcome, OutcomeState, Side
from router.ledger.booking import Entry, LotEffect, Room, allocate, changes, fold, proves_absence
from tests.ledger.ledger_cases import CONFIRMED, UNKNOWN, a_fill, dead

AMOUNTS = st.decimals(min_value=Decimal("0.000000001"), max_value=Decimal(1000000000), places=9)
FEES = st.decimals(min_value=Decimal(-1000), max_value=Decimal(1000), places=6)
SIDES = st.sampled_from(Side)
TINY = Fraction(1, 10**18)


@st.composite
def entries(draw: st.DrawFn, effect: LotEffect) -> list[Entry]:
    """Draw up to eight entries of one effect."""
    one = st.builds(Entry, effect=st.just(effect), size=AMOUNTS, size_usd=AMOUNTS, fee_usd=FEES)
    return draw(st.lists(one, min_size=1, max_size=8))


def total(items: list[Entry], name: str) -> Fraction:
    """Add up one amount of some entries without rounding."""
    return sum((Fraction(getattr(item, name)) for item in items), Fraction())


@given(SIDES, entries(LotEffect.OPEN), entries(LotEffect.REDUCE))
def test_a_lot_is_the_sum_of_its_fills(side: Side, opens: list[Entry], reductions: list[Entry]) -> None:
    """Size is what was opened less what was reduced, never below zero; fees and entry price likewise."""
    lot = fold(side, [*opens, *reductions])

    left = total(opens, "size") - total(reductions, "size")
    assert Fraction(lot.size) == max(left, 0)
    assert Fraction(lot.excess) == max(-left, 0)
    assert Fraction(lot.opened_size) == total(opens, "size")
    assert Fraction(lot.fees_usd) == total([*opens, *reductions], "fee_usd")
    assert abs(Fraction(lot.entry_price) - total(opens, "size_usd") / total(opens, "size")) <= TINY


@given(SIDES, entries(LotEffect.OPEN), entries(LotEffect.REDUCE))
def test_realised_pnl_is_average_cost(side: Side, opens: list[Entry], reductions: list[Entry]) -> None:
    """Against the same formula in fractions, to the 18th place."""
    lot = fold(side, [*opens, *reductions])

    share = total(reductions, "size") / total(opens, "size")
    gain = total(reductions, "size_usd") - total(opens, "size_usd") * share
    expected = gain if side is Side.LONG else -gain
    expected -= total(reductions, "fee_usd") + total(opens, "fee_usd") * share
    assert abs(Fraction(lot.realized_pnl_usd) - expected) <= TINY


@given(SIDES, entries(LotEffect.OPEN), st.data())
def test_a_closed_lot_has_realised_what_went_out_less_what_came_in(
    side: Side, opens: list[Entry], data: st.DataObject
) -> None:
    """Exactly, however it was opened and reduced: no rounding is left in the books."""
    left = sum((item.size for item in opens), Decimal(0))
    reductions: list[Entry] = []
    while left > 0:
        size = left if len(reductions) == 5 else min(data.draw(AMOUNTS), left)
        left -= size
        reductions.append(
            Entry(effect=LotEffect.REDUCE, size=size, size_usd=data.draw(AMOUNTS), fee_usd=data.draw(FEES))
        )
    lot = fold(side, [*opens, *reductions])

    gain = total(reductions, "size_usd") - total(opens, "size_usd")
    expected = (gain if side is Side.LONG else -gain) - total([*opens, *reductions], "fee_usd")
    assert lot.size == 0
    assert Fraction(lot.realized_pnl_usd) == expected


@given(SIDES, entries(LotEffect.OPEN), entries(LotEffect.REDUCE), st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_matter(
    side: Side, opens: list[Entry], reductions: list[Entry], shuffler: object
) -> None:
    """So taking one back leaves what would be there had it never come."""
    mixed = [*opens, *reductions]
    shuffler.shuffle(mixed)  # type: ignore[attr-defined]

    assert fold(side, mixed) == fold(side, [*opens, *reductions])


ROOMS = st.lists(
    st.tuples(st.one_of(st.just(Decimal(0)), AMOUNTS), st.one_of(st.just(Decimal(0)), AMOUNTS)), max_size=6
)


@given(AMOUNTS, AMOUNTS, FEES, ROOMS)
def test_a_closing_fill_is_shared_out_whole(
    size: Decimal, usd: Decimal, fee: Decimal, rooms: list[tuple[Decimal, Decimal]]
) -> None:
    """No lot gives more than it has room for, sizes add up to the fill, and so do dollars and fees."""
    fill = a_fill("c", str(size), "1", str(fee), size_usd=usd)
    listed = [Room(position_id=f"p{i}", reserved=reserved, free=free) for i, (reserved, free) in enumerate(rooms)]
    shares, left = allocate(fill, listed)

    by_lot = {share.position_id: share.entry for share in shares}
    assert len(by_lot) == len(shares)
    assert sum((entry.size for entry in by_lot.values()), left) == size
    for room in listed:
        taken = by_lot[room.position_id].size if room.position_id in by_lot else Decimal(0)
        assert 0 <= taken <= room.reserved + room.free
        if taken > room.reserved:
            assert sum((item.size for item in by_lot.values()), Decimal(0)) >= sum(r.reserved for r in listed)
    if left == 0:
        assert total(list(by_lot.values()), "size_usd") == Fraction(usd)
        assert total(list(by_lot.values()), "fee_usd") == Fraction(fee)
    else:
        assert left == size - sum(room.reserved + room.free for room in listed)


def test_the_oldest_lot_is_taken_first() -> None:
    """Reserved size of every lot before unreserved size of any."""
    rooms = [
        Room(position_id="old", reserved=Decimal(2), free=Decimal(5)),
        Room(position_id="new", reserved=Decimal(3), free=Decimal(5)),
    ]
    shares, left = allocate(a_fill("c", "7"), rooms)

    assert [(share.position_id, share.entry.size) for share in shares] == [("old", Decimal(4)), ("new", Decimal(3))]
    assert left == 0


def numbered_fill(number: int, size: Decimal, provisional: bool) -> Fill:  # noqa: FBT001 - drawn by position
    return a_fill(f"f{number}", str(size), provisional=provisional)


FILLS = st.lists(
    st.builds(
        numbered_fill,
        st.integers(0, 4),
        AMOUNTS,
        st.booleans(),
    ),
    unique_by=lambda fill: fill.venue_fill_id,
    max_size=5,
)


@given(FILLS, FILLS)
def test_a_decided_outcome_leaves_exactly_its_own_fills(before: list[Fill], told: list[Fill]) -> None:
    """What it lists is booked, what it does not list is gone; the same outcome again changes nothing."""
    booked = {fill.venue_fill_id: fill for fill in before}
    outcome = Outcome(state=OutcomeState.PARTIALLY_FILLED, fills=tuple(told))
    said = changes(booked, outcome)

    after = {key: fill for key, fill in booked.items() if key not in said.taken_back}
    assert not set(after) & {fill.venue_fill_id for fill in said.new}
    after |= {fill.venue_fill_id: fill for fill in said.new}
    assert set(after) == {fill.venue_fill_id for fill in told}
    again = changes(after, outcome)
    assert (again.new, again.taken_back) == ((), ())


def test_only_a_proof_shows_that_a_fill_is_gone() -> None:
    """Every decided state; `unknown` only with the transaction shown not to be on the chain."""
    unclear = OutcomeState.UNKNOWN

    assert proves_absence(dead())
    assert proves_absence(Outcome(state=OutcomeState.FILLED))
    assert proves_absence(Outcome(state=unclear, landed=False, evidence=(CONFIRMED,)))
    assert proves_absence(Outcome(state=unclear, landed=False, finalized=True))
    assert not proves_absence(UNKNOWN)
    assert not proves_absence(Outcome(state=unclear, landed=False))
    assert not proves_absence(Outcome(state=unclear, landed=True, evidence=(CONFIRMED,)))
    assert not proves_absence(Outcome(state=unclear, evidence=(CONFIRMED,)))
