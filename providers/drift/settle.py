"""What an order became, by the venue's own records (DESIGN 6, proof 3; 1, 2, 4 and 5 are the cluster's).

*A confirmed transaction is not a fill.* A taking order is judged by its own transaction: complete logs with fills, or
without. An order that rests is followed through the account's history by the venue's order id; its end is shown by the
transaction that ended it (the fill that completed it, a cancel, an expiry), or, once `max_ts` has passed on the
finalized chain's clock, by the order itself still lying there with what was filled of it. Either way the fills that
were found must add up to what the venue says was filled in all: an empty slot alone proves nothing, and a history with
a hole stays unknown.

An order that waits for its trigger has no expiry. Setting it off costs its owner a flat fee that no fill names: the
first fill carries it, or the evidence of an end without one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import (
    AuctionExpired,
    BeingLiquidated,
    ConnectionFailed,
    InsufficientCollateral,
    InvalidSize,
    NothingLeft,
    Phase,
    ProviderError,
    WorstPriceNotMet,
)
from providers.base.types import Evidence, Fill, Outcome, OutcomeState, Submission
from providers.drift.build import DriftOrder, decode_order
from providers.drift.config import DriftConfig
from providers.drift.constants import BASE_PRECISION, QUOTE_PRECISION
from providers.drift.errors import classify
from providers.drift.events import OrderEnd, OrderPlaced, OrderTrail, own_events, to_fill, trail_of
from providers.drift.reading import VenueReader
from providers.drift.triggers import is_placed_by
from providers.solana.body import SolanaBody, decode_body
from providers.solana.cluster import SolanaCluster
from providers.solana.node import Commitment, SignatureInfo
from providers.solana.outcomes import dead, not_executed, unknown
from providers.solana.program_errors import at_phase
from providers.solana.proofs import Landed, Unclear
from providers.solana.records import TransactionRecord

__all__ = ["Settler", "unfilled_in"]

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

_PAGE: Final = 1_000
_MAX_PAGES: Final = 10
_AT_ONCE: Final = 8
_REMEMBERED: Final = 4_096
# A slot this far back is final.
_FINAL_SLOTS: Final = 64
# A blockhash is good for 150 blocks: as many slots, and what was skipped among them.
_LANDING_SLOTS: Final = 600

# Why the venue took an order off, by its own word for it. All else is the price: nothing met the bound in time.
_ENDS: Final[dict[str, type[ProviderError]]] = {
    "InsufficientFreeCollateral": InsufficientCollateral,
    "RiskingIncreasingOrder": InsufficientCollateral,
    "Liquidation": BeingLiquidated,
    "ReduceOnlyOrderIncreasedPosition": InvalidSize,
    "OrderExpired": AuctionExpired,
    "MarketExpired": AuctionExpired,
}
# Nothing is left of what it was to close; for the rest as above.
_TRIGGER_ENDS: Final[dict[str, type[ProviderError]]] = {**_ENDS, "ReduceOnlyOrderIncreasedPosition": NothingLeft}


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the records found so far say of one order.

    Attributes:
        fills: oldest first; the first carries what setting the order off cost.
        base: sum of its fills (1e9).
        triggered: a record shows it set off.
        fee: what no fill carries (1e6): for taking it off, and without a fill for setting it off.
        end: how it was taken off; null while it was not, or when a fill completed it.
        complete: a fill says that nothing is left of it.
        last: of the records, the one that decides.
    """

    fills: tuple[Fill, ...]
    base: int
    triggered: bool
    fee: int
    end: OrderEnd | None
    complete: bool
    cumulative: int
    last: OrderTrail
    finalized: bool

    @property
    def is_whole(self) -> bool:
        """Whether its end is shown, with every fill there was."""
        return (self.complete or self.end is not None) and self.base == self.cumulative


class Settler:
    """Settles orders of one account.

    Args:
        cluster: proofs and nodes.
        reader: of the venue.
        config: program and margins.
    """

    def __init__(self, cluster: SolanaCluster, reader: VenueReader, config: DriftConfig) -> None:
        self._cluster = cluster
        self._reader = reader
        self._config = config
        self._commitment: Commitment = cluster.settings.proof_commitment
        # Finalized transactions never change: what they say is kept.
        self._trails: OrderedDict[tuple[str, str], OrderTrail] = OrderedDict()
        # A final slot at which an order still lay as it was placed: nothing had happened to it before.
        self._untouched: OrderedDict[tuple[str, int], int] = OrderedDict()
        # What placed an order that rested, by signature: nodes forget transactions sooner than a stop its price.
        self._placements: OrderedDict[str, OrderTrail] = OrderedDict()

    async def settle(self, submission: Submission) -> Outcome:
        """Return what can be proven now of an order, from its submission alone."""
        body = decode_body(submission)
        order = decode_order(body.venue)
        placing = self._placements.get(submission.handle)
        if order is not None and placing is not None:
            return await _answered(self._follow(order, placing), placing.slot)
        examination = await self._cluster.proofs.examine(submission)
        if isinstance(examination, Landed):
            record = examination.record
            if order is None:
                return unknown("no order: nothing of it can be settled", record.slot, landed=True)
            return await _answered(self._landed(order, record), record.slot)
        if order is not None and isinstance(examination, Unclear):
            try:
                placing = await self._recovered(order, submission.handle, body)
            except ConnectionFailed as error:
                return unknown(str(error), None)
            if placing is not None:
                return await _answered(self._follow(order, placing), placing.slot)
        return not_executed(submission, examination, partial(classify, program_id=str(self._config.program_id)))

    async def resting(self, submission: Submission) -> tuple[DriftOrder, OrderPlaced] | None:
        """Return the order of a submission and the venue's id for it while it lies on the venue; null when it does not.

        Raises:
            ConnectionFailed: a leaf of it; then nothing is known.
        """
        body = decode_body(submission)
        order = decode_order(body.venue)
        if order is None:
            return None
        trail = self._placements.get(submission.handle)
        if trail is None:
            examination = await self._cluster.proofs.examine(submission)
            if isinstance(examination, Landed):
                trail = self._trail(examination.record, order)
            elif isinstance(examination, Unclear):
                trail = await self._recovered(order, submission.handle, body)
        placed = None if trail is None else _placed_by(order, trail)
        if trail is None or placed is None:
            return None
        user, _, _ = await self._reader.user_at(self._commitment, trail.slot)
        return (order, placed) if user is not None and user.order(placed.order_id) is not None else None

    async def _recovered(self, order: DriftOrder, handle: str, body: SolanaBody) -> OrderTrail | None:
        """Return the placement of a trigger order that rests, where no node has its transaction any more.

        The order itself shows it: our own number, which no two open orders share, with all of our terms, dated by the
        venue in the slots in which the transaction could land. Null while nodes may have the transaction still.
        """
        if order.mode != "trigger":
            return None
        user, slot, _ = await self._reader.user_at(self._commitment, body.slot_at_signing)
        landed_by = body.slot_at_signing + _LANDING_SLOTS
        if user is None or slot <= landed_by + _FINAL_SLOTS:
            return None
        ours = next((each for each in user.orders if is_placed_by(each, order)), None)
        if ours is None or ours.slot < body.slot_at_signing or (ours.slot > landed_by and not ours.has_gone_off):
            return None
        placed = OrderPlaced(
            order_id=ours.order_id,
            user_order_id=ours.user_order_id,
            market_index=ours.market_index,
            base_asset_amount=ours.base_asset_amount,
            ts=0,
        )
        logger.warning("placement_forgotten_by_nodes", extra={"signature": handle, "order_id": ours.order_id})
        trail = OrderTrail(signature=handle, slot=body.slot_at_signing, finalized=True, placed=(placed,))
        _keep(self._placements, handle, trail)
        return trail

    # --- executed -----------------------------------------------------------------------------------------------------

    async def _landed(self, order: DriftOrder, record: TransactionRecord) -> Outcome:
        trail = self._trail(record, order)
        placed = _placed_by(order, trail)
        if placed is None:
            if not record.logs_complete:
                return unknown("the logs of its transaction are not complete", record.slot, landed=True)
            # Executed, and no order: the program skips one whose deadline had passed.
            return dead(
                at_phase(AuctionExpired("its deadline had passed when it executed"), Phase.ANSWERED),
                _evidence("no_order_in_logs", trail),
                landed=True,
                executed=True,
                finalized=trail.finalized,
            )
        found = _found([trail], placed.order_id)
        if found.complete or found.end is not None:
            # Whatever the order's kind: its own transaction shows its end.
            return self._ended(order, found, "fill_record" if found.fills else "no_fill_logs")
        if order.mode == "take" and record.logs_complete:
            # Neither end nor rest: the program always takes off what an immediate order leaves.
            return unknown("its records do not say how it ended", record.slot, landed=True)
        if trail.finalized and record.logs_complete:
            _keep(self._placements, record.signature, trail)
        return await self._follow(order, trail)

    async def _follow(self, order: DriftOrder, trail: OrderTrail) -> Outcome:
        """Follow an order that rested: read the account first, then as much history as that asks for.

        Args:
            order: of the submission.
            trail: of the transaction that placed it.
        """
        placed = _placed_by(order, trail)
        if placed is None:
            return unknown("its transaction placed no order", trail.slot, landed=True)
        user, slot, now = await self._reader.user_at(self._commitment, trail.slot)
        open_order = None if user is None else user.order(placed.order_id)
        base_here = sum(fill.base for fill in trail.fills if fill.order_id == placed.order_id)
        if open_order is not None and open_order.base_asset_amount_filled == base_here:
            found = _found([trail], placed.order_id)
            if base_here == 0 and not open_order.has_gone_off:
                _keep(self._untouched, (order.user, placed.order_id), slot - _FINAL_SLOTS)
        else:
            trails = await self._history(order, placed, trail)
            if trails is None:
                return unknown("its history cannot be read whole", slot, landed=True, resting=True)
            found = _found([trail, *trails], placed.order_id)
        if open_order is None:
            if found.complete or found.end is not None:
                return self._ended(order, found, "order_ended")
            return unknown("it is gone, and no transaction shows how", slot, landed=True, fills=found.fills)
        if order.max_ts and now > order.max_ts + self._config.expiry_margin_s:
            expired = await self._expired_in_place(order, placed, trail)
            if expired is not None:
                return expired
        kind = "order_resting"
        if open_order.has_trigger:
            kind = "trigger_fired" if open_order.has_gone_off else "trigger_resting"
        return Outcome(
            state=OutcomeState.UNKNOWN,
            landed=True,
            executed=True,
            fills=found.fills,
            resting=True,
            evidence=(Evidence(kind=kind, detail=f"order {placed.order_id}", slot=slot),),
            slot=slot,
        )

    async def _expired_in_place(self, order: DriftOrder, placed: OrderPlaced, trail: OrderTrail) -> Outcome | None:
        """Prove by the finalized clock that an order still lying there can fill no more; null when it is too early.

        Account and clock are of one finalized state: every fill there was is in the order's own count.
        """
        user, slot, now = await self._reader.user_at("finalized", trail.slot)
        open_order = None if user is None else user.order(placed.order_id)
        if open_order is None or now <= order.max_ts + self._config.expiry_margin_s:
            return None
        trails = await self._history(order, placed, trail)
        if trails is None:
            return None
        found = _found([trail, *trails], placed.order_id)
        if found.base != open_order.base_asset_amount_filled:
            return None
        evidence = Evidence(
            kind="expired_on_chain_clock",
            detail=f"max_ts {order.max_ts}, clock {now}, filled {open_order.base_asset_amount_filled}",
            slot=slot,
            commitment="finalized",
        )
        if found.fills:
            return Outcome(
                state=OutcomeState.PARTIALLY_FILLED,
                landed=True,
                executed=True,
                fills=found.fills,
                evidence=(evidence,),
                finalized=True,
                slot=slot,
            )
        error = at_phase(AuctionExpired("its deadline passed without a fill"), Phase.ANSWERED)
        return dead(error, evidence, landed=True, executed=True, finalized=True)

    def _ended(self, order: DriftOrder, found: _Found, kind: str) -> Outcome:
        """Return the outcome of an order whose end is on record, if the fills that were found are all there were."""
        if found.base != found.cumulative:
            return unknown(
                f"{found.base} of {found.cumulative} filled are on record",
                found.last.slot,
                landed=True,
                fills=found.fills,
            )
        explanation = "" if found.end is None else found.end.explanation
        evidence = _evidence(kind, found.last, explanation, fee=found.fee)
        if not found.fills:
            return dead(
                at_phase(_error_of_end(order, explanation), Phase.ANSWERED),
                evidence,
                landed=True,
                executed=True,
                finalized=found.finalized,
            )
        return Outcome(
            state=OutcomeState.FILLED if found.base >= order.size else OutcomeState.PARTIALLY_FILLED,
            landed=True,
            executed=True,
            fills=found.fills,
            evidence=(evidence,),
            finalized=found.finalized,
            slot=found.last.slot,
        )

    # --- the account's history ----------------------------------------------------------------------------------------

    async def _history(self, order: DriftOrder, placed: OrderPlaced, placing: OrderTrail) -> list[OrderTrail] | None:
        """Return what transactions after the one that placed it say of the account's orders, oldest first.

        They are read from the newest back, to one before which nothing is left to find: the order's own end shows by
        its sums whether its fills are all there. Null when one is listed that cannot be had, or when the history is
        longer than is read and shows no end.
        """
        oldest = max(placing.slot, self._untouched.get((order.user, placed.order_id), 0))
        trails: list[OrderTrail] = []
        before: str | None = None
        for _ in range(_MAX_PAGES):
            page = await self._cluster.all_nodes.signatures_for(
                Pubkey.from_string(order.user),
                before=before,
                until=placing.signature,
                limit=_PAGE,
                commitment=self._commitment,
                min_context_slot=placing.slot,
            )
            infos = [each for each in page if each.slot >= oldest and not each.failed]
            for start in range(0, len(infos), _AT_ONCE):
                read = await asyncio.gather(*(self._trail_at(each, order) for each in infos[start : start + _AT_ONCE]))
                some = [each for each in read if each is not None]
                if len(some) < len(read):
                    return None
                trails.extend(some)
                found = _found(trails[::-1], placed.order_id)
                if found.is_whole and (found.triggered or order.mode != "trigger"):
                    return trails[::-1]
            if len(page) < _PAGE or page[-1].slot < oldest:
                return trails[::-1]
            before = page[-1].signature
        return trails[::-1] if trails and _found(trails[::-1], placed.order_id).is_whole else None

    async def _trail_at(self, info: SignatureInfo, order: DriftOrder) -> OrderTrail | None:
        known = self._trails.get((order.user, info.signature))
        if known is not None:
            return known
        record = await self._cluster.all_nodes.transaction(info.signature, "finalized")
        if record is None and self._commitment != "finalized":
            record = await self._cluster.all_nodes.transaction(info.signature, self._commitment)
        return None if record is None else self._trail(record, order)

    def _trail(self, record: TransactionRecord, order: DriftOrder) -> OrderTrail:
        trail = trail_of(record, self._config.program_id, Pubkey.from_string(order.user))
        if record.finalized and record.logs_complete:
            _keep(self._trails, (order.user, record.signature), trail)
        return trail


async def _answered(outcome: Awaitable[Outcome], slot: int) -> Outcome:
    """Return the outcome of what executed in `slot`; unknown where the nodes give no answer."""
    try:
        return await outcome
    except ConnectionFailed as error:
        return unknown(str(error), slot, landed=True)


def _keep(store: OrderedDict[K, V], key: K, value: V) -> None:
    """Remember a value; the oldest are forgotten."""
    store[key] = value
    if len(store) > _REMEMBERED:
        store.popitem(last=False)


def unfilled_in(order: DriftOrder, logs: Sequence[str], program_id: Pubkey) -> ProviderError | None:
    """Return what an immediate order would die of whose simulation shows that nothing of it fills; else null.

    Judged as settlement judges the landed transaction. Only the order's own end without a fill counts: where the
    logs do not show it placed, they show nothing.

    Args:
        order: in mode `take`.
        logs: complete, of a simulation that succeeded.
        program_id: of the venue.

    Raises:
        BadAnswer: an order record cannot be read.
    """
    trail = own_events(logs, program_id, Pubkey.from_string(order.user))
    placed = _placed_by(order, trail)
    if placed is None:
        return None
    found = _found([trail], placed.order_id)
    if found.end is None or found.fills or found.cumulative:
        return None
    return _error_of_end(order, found.end.explanation)


def _placed_by(order: DriftOrder, trail: OrderTrail) -> OrderPlaced | None:
    """Return the order that the submission's own transaction placed."""
    return next(
        (
            each
            for each in trail.placed
            if each.user_order_id == order.user_order_id and each.market_index == order.market_index
        ),
        None,
    )


def _found(trails: Sequence[OrderTrail], order_id: int) -> _Found:
    """Gather what the records, oldest first, say of one order; each fill counts once."""
    fills: dict[str, Fill] = {}
    base = cumulative = trigger_fee = 0
    complete = triggered = False
    end: OrderEnd | None = None
    last = trails[0]
    for trail in trails:
        for set_off in trail.triggered:
            if set_off.order_id == order_id:
                triggered, trigger_fee = True, set_off.fee
        for event in trail.fills:
            if event.order_id != order_id:
                continue
            fill = to_fill(event, trail)
            if fill.venue_fill_id not in fills:
                fills[fill.venue_fill_id] = fill
                base += event.base
            cumulative = max(cumulative, event.cumulative_base)
            complete = complete or event.cumulative_base >= event.order_base
            last = trail
        for ended in trail.ends:
            if ended.order_id == order_id:
                end, last = ended, trail
                cumulative = max(cumulative, ended.cumulative_base)
    booked = list(fills.values())
    if booked:
        with_trigger = booked[0].fee_usd + Decimal(trigger_fee) / QUOTE_PRECISION
        booked[0] = msgspec.structs.replace(booked[0], fee_usd=with_trigger)
    return _Found(
        fills=tuple(booked),
        base=base,
        triggered=triggered,
        fee=(0 if end is None else end.fee) + (0 if booked else trigger_fee),
        end=end,
        complete=complete,
        cumulative=cumulative,
        last=last,
        finalized=trails[0].finalized and last.finalized,
    )


def _error_of_end(order: DriftOrder, explanation: str) -> ProviderError:
    size = Decimal(order.size) / BASE_PRECISION
    if order.mode == "trigger":
        ended = _TRIGGER_ENDS.get(explanation, AuctionExpired)
        return ended(f"the trigger of {size} {order.market} was taken off unfilled", raw_name=explanation or None)
    leaf = _ENDS.get(explanation)
    if leaf is None:
        leaf = WorstPriceNotMet if order.mode == "take" else AuctionExpired
    return leaf(f"{size} {order.market} found no fill at its bound or better", raw_name=explanation or None)


def _evidence(kind: str, trail: OrderTrail, detail: str = "", *, fee: int = 0) -> Evidence:
    return Evidence(
        kind=kind,
        detail=detail,
        signature=trail.signature,
        slot=trail.slot,
        commitment="finalized" if trail.finalized else "confirmed",
        fee_usd=Decimal(fee) / QUOTE_PRECISION if fee else None,
    )
