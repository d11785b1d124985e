"""What fills do to lots: pure functions on exact numbers.

A lot is never adjusted in place. It is computed anew from its entries, so that taking an entry back (a fork, a
provisional fill that the venue's record replaces) leaves exactly what would be there had it never come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum

import msgspec

from providers.base.types import Fill, Outcome, OutcomeState, Side

__all__ = [
    "EXACT",
    "Allocation",
    "Changes",
    "Entry",
    "LotEffect",
    "LotState",
    "Room",
    "allocate",
    "changes",
    "fold",
    "proves_absence",
    "tidy",
]

EXACT = Context(prec=90, rounding=ROUND_HALF_EVEN)
"""Wide enough for the product of two amounts of 30 digits; only divisions ever round."""
PLACES = 18
_LAST_PLACE = Decimal(1).scaleb(-PLACES)
"""Quotients that do not end (a volume-weighted price) are kept to 18 places, half to even."""

_ZERO = Decimal(0)


class LotEffect(StrEnum):
    """What an entry does to its lot."""

    OPEN = "open"
    REDUCE = "reduce"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One fill's effect on one lot, amounts positive (`fee_usd` negative for a rebate); `carry_index` is the fill's."""

    effect: LotEffect
    size: Decimal
    size_usd: Decimal
    fee_usd: Decimal
    carry_index: Decimal | None = None


class LotState(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries of a lot add up to.

    Attributes:
        size: base units held; never negative.
        entry_price: dollars paid over base units opened; 0 while nothing was opened.
        realized_pnl_usd: price difference of what was reduced, less the reductions' fees and, pro rata, the opening's,
            and less `funding_usd` where that is known.
        funding_usd: dollars that what was reduced has paid to be held (negative: received); null when the carry index
            of any entry is not known.
        excess: base units reduced beyond what was ever opened (0 unless a fork took the opening back).
    """

    size: Decimal
    opened_size: Decimal
    entry_price: Decimal
    realized_pnl_usd: Decimal
    fees_usd: Decimal
    excess: Decimal
    funding_usd: Decimal | None = None


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a lot a close's fill may take: first what the close reserved, then what nobody has reserved."""

    position_id: str
    reserved: Decimal
    free: Decimal


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """A share of a closing fill for one lot."""

    position_id: str
    entry: Entry


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What an outcome does to the fills booked before.

    Attributes:
        new: to be booked, in the outcome's order.
        taken_back: venue fill ids to be compensated, before `new` is booked.
        differing: ids whose record says something else about the same slot; the first record stands.
    """

    new: tuple[Fill, ...] = ()
    taken_back: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()


def tidy(value: Decimal) -> Decimal:
    """Return `value` at 18 places at the most, without trailing zeros."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -PLACES:
        value = value.quantize(_LAST_PLACE, context=EXACT)
    value = value.normalize(EXACT)
    return value.quantize(Decimal(1), context=EXACT) if value == value.to_integral_value() else value


def fold(side: Side, entries: Iterable[Entry]) -> LotState:
    """Add up the entries of a lot of `side`; their order does not matter.

    Realised PnL is (reduced dollars - opened dollars * reduced / opened), negated for a short, less fees: average cost,
    so a lot reduced to nothing has realised exactly what went out less what came in. Funding is, over the reductions,
    size * (carry index at the reduction - average carry index of the opening); the index is the side's own, so a short
    needs no other sign.
    """
    carry: dict[LotEffect, Decimal] | None = dict.fromkeys(LotEffect, _ZERO)
    size = dict.fromkeys(LotEffect, _ZERO)
    usd = dict.fromkeys(LotEffect, _ZERO)
    fees = dict.fromkeys(LotEffect, _ZERO)
    for entry in entries:
        size[entry.effect] = EXACT.add(size[entry.effect], entry.size)
        usd[entry.effect] = EXACT.add(usd[entry.effect], entry.size_usd)
        fees[entry.effect] = EXACT.add(fees[entry.effect], entry.fee_usd)
        if carry is None or entry.carry_index is None:
            carry = None
        else:
            carry[entry.effect] = EXACT.add(carry[entry.effect], EXACT.multiply(entry.size, entry.carry_index))
    opened, reduced = size[LotEffect.OPEN], size[LotEffect.REDUCE]
    entry_price = basis = opening_fees = _ZERO
    funding: Decimal | None = None
    if opened:
        entry_price = EXACT.divide(usd[LotEffect.OPEN], opened)
        basis = EXACT.divide(EXACT.multiply(usd[LotEffect.OPEN], reduced), opened)
        opening_fees = EXACT.divide(EXACT.multiply(fees[LotEffect.OPEN], reduced), opened)
        if carry is not None:
            paid_at_opening = EXACT.divide(EXACT.multiply(carry[LotEffect.OPEN], reduced), opened)
            funding = EXACT.subtract(carry[LotEffect.REDUCE], paid_at_opening)
    gain = EXACT.subtract(usd[LotEffect.REDUCE], basis)
    if side is Side.SHORT:
        gain = EXACT.minus(gain)
    realized = EXACT.subtract(EXACT.subtract(gain, fees[LotEffect.REDUCE]), opening_fees)
    realized = EXACT.subtract(realized, funding or _ZERO)
    left = EXACT.subtract(opened, reduced)
    return LotState(
        size=tidy(max(left, _ZERO)),
        opened_size=tidy(opened),
        entry_price=tidy(entry_price),
        realized_pnl_usd=tidy(realized),
        fees_usd=tidy(EXACT.add(fees[LotEffect.OPEN], fees[LotEffect.REDUCE])),
        excess=tidy(max(EXACT.minus(left), _ZERO)),
        funding_usd=None if funding is None else tidy(funding),
    )


def allocate(fill: Fill, rooms: Sequence[Room]) -> tuple[tuple[Allocation, ...], Decimal]:
    """Share a closing fill out over lots, oldest first, and return the shares and what no lot could take.

    What the close reserved is used first; a venue that gave more than was asked for takes unreserved size of the same
    lots. Dollars and fee are shared by size; the last share takes what rounding left, so that the shares add up.
    """
    taken = {room.position_id: _ZERO for room in rooms}
    left = fill.size
    for limit in ("reserved", "free"):
        for room in rooms:
            take = min(left, room.reserved if limit == "reserved" else room.free)
            if take > 0:
                taken[room.position_id] = EXACT.add(taken[room.position_id], take)
                left = EXACT.subtract(left, take)
    shares = [(position_id, size) for position_id, size in taken.items() if size > 0]
    allocations: list[Allocation] = []
    usd_left, fee_left = fill.size_usd, fill.fee_usd
    for place, (position_id, size) in enumerate(shares):
        usd, fee = usd_left, fee_left
        if left > 0 or place < len(shares) - 1:
            usd = tidy(EXACT.divide(EXACT.multiply(fill.size_usd, size), fill.size))
            fee = tidy(EXACT.divide(EXACT.multiply(fill.fee_usd, size), fill.size))
        usd_left, fee_left = EXACT.subtract(usd_left, usd), EXACT.subtract(fee_left, fee)
        entry = Entry(effect=LotEffect.REDUCE, size=size, size_usd=usd, fee_usd=fee, carry_index=fill.carry_index)
        allocations.append(Allocation(position_id=position_id, entry=entry))
    return tuple(allocations), left


def proves_absence(outcome: Outcome) -> bool:
    """Whether a fill that the outcome does not list is shown not to be there.

    A decided outcome lists all there is. `unknown` does so only where it was shown that the transaction is not on the
    chain: one that could not read the history must not take back what an earlier read has proven.
    """
    if outcome.state is not OutcomeState.UNKNOWN:
        return True
    shown = outcome.finalized or any(item.commitment in {"confirmed", "finalized"} for item in outcome.evidence)
    return shown and outcome.landed is False


def changes(booked: Mapping[str, Fill], outcome: Outcome) -> Changes:
    """Compare an attempt's booked fills, by venue fill id, with what an outcome says."""
    told = {fill.venue_fill_id: fill for fill in outcome.fills}
    recorded = any(not fill.provisional for fill in outcome.fills)
    absent_is_gone = proves_absence(outcome)
    new: list[Fill] = []
    taken_back: list[str] = []
    differing: list[str] = []
    for fill_id, old in booked.items():
        now = told.get(fill_id)
        if now is None:
            if absent_is_gone or (old.provisional and recorded):
                taken_back.append(fill_id)
        elif now != old and (old.provisional or (now.slot != old.slot and not now.provisional)):
            # The venue's record of what was known from state only, or the same transaction landed again after a fork.
            taken_back.append(fill_id)
        elif now != old and not now.provisional:
            differing.append(fill_id)
    for fill_id, fill in told.items():
        if fill_id not in booked or fill_id in taken_back:
            new.append(fill)
    return Changes(new=tuple(new), taken_back=tuple(taken_back), differing=tuple(differing))
