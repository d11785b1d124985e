"""What an order became, by the venue's own records (DESIGN 6, proof 3; 1, 2, 4 and 5 are the cluster's).

*A landed request is not a fill.* A keeper executes it later, or closes it unexecuted; a trigger waits until its price.
While the request's account is there, nothing is decided. Once it is gone, the history of its address tells: the event
of its execution is a fill, whichever transaction closed it; the event of its end without one is proof of none, and its
escrow went back. That it is gone is proof of nothing, and neither is a position's size: others move that too. A history
that lacks the deciding transaction leaves the order unknown.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import (
    BadAnswer,
    ConnectionFailed,
    CustodyLimit,
    NodeBehind,
    NothingLeft,
    Phase,
    ProviderError,
    TimedOut,
    WorstPriceNotMet,
)
from providers.base.types import Evidence, Fill, Outcome, OutcomeState, Submission
from providers.jupiter.build import JupiterOrder, decode_order
from providers.jupiter.config import JupiterConfig
from providers.jupiter.errors import JUPITER_ERRORS, classify, jupiter_refusal
from providers.jupiter.events import Closing, PositionChange, filled_at, told_by, venue_fill_id
from providers.jupiter.layouts import read_request
from providers.jupiter.quote import base_of_usd, check_capacity, size_tolerance, to_usd
from providers.jupiter.reading import VenueReader
from providers.jupiter.state import PositionRequest
from providers.solana.account_history import lines_after
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster
from providers.solana.node import Commitment
from providers.solana.outcomes import dead, evidence_of, not_executed, unknown
from providers.solana.program_errors import at_phase
from providers.solana.proofs import Landed
from providers.solana.records import TransactionRecord

__all__ = ["Settler", "Waiting"]

_FIRST_PROGRAM_CODE: Final = 6000
_INVALID_POSITION_STATE: Final = 6009


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is there; `now` is the chain's clock when it was read."""

    order: JupiterOrder
    request: PositionRequest
    now: int


class _Trail(msgspec.Struct, frozen=True, kw_only=True):
    """What the history of a request's address shows so far.

    Attributes:
        change, changed_by: its execution, and the transaction that shows it.
        closing, closed_by: its end.
        refusal: of a keeper's transaction on it that failed; the newest one.
        complete: nothing is missing between its creation and the slot that was read through.
    """

    change: PositionChange | None = None
    changed_by: TransactionRecord | None = None
    closing: Closing | None = None
    closed_by: TransactionRecord | None = None
    refusal: ProviderError | None = None
    complete: bool = False


class Settler:
    """Settles orders.

    Args:
        cluster: proofs and nodes.
        reader: of the venue, with every node of the cluster.
        config: program.
    """

    def __init__(self, cluster: SolanaCluster, reader: VenueReader, config: JupiterConfig) -> None:
        self._cluster = cluster
        self._reader = reader
        self._program_id = config.program_id
        self._commitment: Commitment = cluster.settings.proof_commitment

    async def settle(self, submission: Submission) -> Outcome:
        """Return what can be proven now of an order, from its submission alone."""
        order = decode_order(decode_body(submission).venue)
        examination = await self._cluster.proofs.examine(submission)
        if not isinstance(examination, Landed):
            classifier = partial(classify, program_id=str(self._program_id))
            return not_executed(submission, examination, classifier)
        record = examination.record
        if order is None:
            return unknown("no order: nothing of it can be settled", record.slot, landed=True)
        try:
            return await self._landed(order, record)
        except ConnectionFailed as error:
            # Whether it rests is not known now: what the engine knew stays.
            return unknown(str(error), record.slot, landed=True, resting=True)

    async def waiting(self, submission: Submission) -> Waiting | None:
        """Return a submission's request while it is there; null when it never landed, or is gone.

        Raises:
            ConnectionFailed: a leaf of it; then nothing is known.
        """
        order = decode_order(decode_body(submission).venue)
        examination = await self._cluster.proofs.examine(submission)
        if order is None or not isinstance(examination, Landed):
            return None
        request, _, now = await self._request(order, examination.record.slot)
        return None if request is None else Waiting(order=order, request=request, now=now)

    # --- landed -------------------------------------------------------------------------------------------------------

    async def _request(self, order: JupiterOrder, min_slot: int) -> tuple[PositionRequest | None, int, int]:
        """Return the request as it is (null: gone), with the slot it was read at and the chain's clock then."""
        (data,), slot, now = await self._reader.accounts(
            [order.request_key], commitment=self._commitment, min_slot=min_slot
        )
        return None if data is None else read_request(data), slot, now

    async def _landed(self, order: JupiterOrder, record: TransactionRecord) -> Outcome:
        request, slot, now = await self._request(order, record.slot)
        if request is not None and not request.executed:
            past = order.kind != "trigger" and now > request.open_time + order.window_s
            detail = "its window has passed, and nobody has closed it" if past else "it waits for a keeper"
            return Outcome(
                state=OutcomeState.UNKNOWN,
                landed=True,
                executed=True,
                resting=True,
                evidence=(Evidence(kind="request_waiting", detail=f"{order.request}: {detail}", slot=slot),),
                slot=slot,
            )
        trail = await self._trail(order, record, slot)
        if trail.change is not None and trail.changed_by is not None:
            return _filled(order, trail.change, trail.changed_by)
        if request is not None:
            return unknown(
                "a keeper has executed it, and no transaction shows how yet", slot, landed=True, resting=True
            )
        if trail.closing is not None and trail.closed_by is not None and not trail.closing.executed:
            error = await self._why(order, trail)
            return _refunded(order, trail.closing, trail.closed_by, error)
        if trail.closing is not None:
            return unknown("it was executed, and no transaction shows how", slot, landed=True)
        missing = "no transaction shows how it ended" if trail.complete else "its history cannot be read whole"
        return unknown(f"it is gone, and {missing}", slot, landed=True)

    async def _trail(self, order: JupiterOrder, record: TransactionRecord, through_slot: int) -> _Trail:
        """Read the transactions that name the request after the one that created it.

        What one of them shows counts, whatever else is missing; what none shows counts for nothing.
        """
        nodes = self._cluster.all_nodes
        found = await lines_after(
            nodes,
            order.request_key,
            after=record.signature,
            through_slot=through_slot,
            commitment=self._commitment,
        )
        signatures = [line.signature for line in found.lines if line.signature != record.signature]
        records = await asyncio.gather(*(self._record(each) for each in signatures))
        trail = _Trail(complete=found.complete and all(each is not None for each in records))
        for each in records:
            if each is not None and each.slot >= record.slot:
                trail = self._read(order, each, trail)
        return trail

    async def _record(self, signature: str) -> TransactionRecord | None:
        """Return a transaction as the most settled commitment shows it; null where no node has it."""
        record = await self._cluster.all_nodes.transaction(signature, "finalized")
        if record is not None or self._commitment == "finalized":
            return record
        return await self._cluster.all_nodes.transaction(signature, self._commitment)

    def _read(self, order: JupiterOrder, record: TransactionRecord, trail: _Trail) -> _Trail:
        if record.err is not None:
            return msgspec.structs.replace(trail, refusal=self._refusal(order, record) or trail.refusal)
        try:
            told = told_by(record, self._program_id)
        except BadAnswer:
            # Another node, or the same one later, may show it readably.
            return msgspec.structs.replace(trail, complete=False)
        change = next((each for each in told.changes if each.request == order.request_key), None)
        closing = next((each for each in told.closings if each.request == order.request_key), None)
        if change is not None:
            trail = msgspec.structs.replace(trail, change=change, changed_by=record)
        if closing is not None:
            trail = msgspec.structs.replace(trail, closing=closing, closed_by=record)
        return trail

    def _refusal(self, order: JupiterOrder, record: TransactionRecord) -> ProviderError | None:
        """Return what the program said to a keeper whose transaction failed; null where it failed of something else."""
        failure = record.err
        program = str(self._program_id)
        if failure is None or failure.program_id != program or (failure.code or 0) < _FIRST_PROGRAM_CODE:
            return None
        error = classify(failure, record.logs, program_id=program)
        if failure.code == _INVALID_POSITION_STATE and order.kind != "open":
            # Less is held than was to be closed: somebody else was faster, and the next try takes what there is.
            detail = "the position changed after the close was built"
            return NodeBehind(detail, raw_code=error.raw_code, raw_name=error.raw_name)
        return error

    # --- why it was not executed --------------------------------------------------------------------------------------

    async def _why(self, order: JupiterOrder, trail: _Trail) -> ProviderError:
        """Return why a request ended unexecuted, as far as the chain tells.

        The owner's own closing says that no keeper took it in time. A keeper's says nothing by itself: a failed
        transaction of its own does where there is one; else what can be seen of the venue now.
        """
        if trail.closed_by is not None and Pubkey.from_string(order.owner) in trail.closed_by.signers:
            if order.kind == "trigger":
                return WorstPriceNotMet("it was cancelled before its trigger price was reached")
            return TimedOut(
                f"no keeper executed it within {order.window_s} s, and it was closed",
                raw_code=6035,
                raw_name=JUPITER_ERRORS[6035].name,
            )
        if trail.refusal is not None:
            return trail.refusal
        try:
            seen = await self._seen(order)
        except ProviderError as error:
            seen = error if not isinstance(error, ConnectionFailed) else None
        return seen or CustodyLimit("the venue's keeper closed it unexecuted, and gave no reason")

    async def _seen(self, order: JupiterOrder) -> ProviderError | None:
        """Return what now stands in the way of such a request; null when nothing does that can be seen.

        Raises:
            ProviderError: the same, where it is a limit; or nothing could be read.
        """
        view = await self._reader.view()
        place = view.place(order.market, order.side)
        price = place.market.priced()
        if price > order.price_bound if order.buys else price < order.price_bound:
            return jupiter_refusal(6021, f"the price is {to_usd(price)}, the bound {to_usd(order.price_bound)}")
        if order.kind != "open" and place.held is None:
            return NothingLeft(f"nothing is held of {order.side} {order.market} any more")
        permissions = view.permissions(place.market)
        if not (permissions.increase if order.kind == "open" else permissions.decrease):
            return jupiter_refusal(6027)
        if order.kind == "open":
            check_capacity(place, order.size_usd)
        return place.refusal


def _fill(order: JupiterOrder, change: PositionChange, record: TransactionRecord) -> Fill:
    """Return an execution as a fill.

    An open fills what its dollars buy at the price, a close what the dollars that were taken off stood for at the
    position's entry price *then*: it may have moved since the close was built, by an increase that was executed before
    it. Where only rounding keeps that from what was asked for, it is what was asked for.

    Raises:
        BadAnswer: the record lacks its amounts, or the node its time.
    """
    price = to_usd(change.price)
    if order.kind == "open":
        size, size_usd = base_of_usd(change.size_usd, change.valued_at, order.unit), to_usd(change.size_usd)
    else:
        size = base_of_usd(change.size_usd, change.valued_at, order.unit)
        if abs(size - order.size) <= size_tolerance(change.size_usd, change.valued_at, order.unit):
            size = order.size
        size_usd = size * price
    if size <= 0:
        raise BadAnswer("an execution of nothing")
    return Fill(
        venue_fill_id=venue_fill_id(record.signature, change.place),
        price=price,
        size=size,
        size_usd=size_usd,
        fee_usd=to_usd(change.fee_usd),
        signature=record.signature,
        slot=record.slot,
        filled_at=filled_at(record),
    )


def _filled(order: JupiterOrder, change: PositionChange, record: TransactionRecord) -> Outcome:
    fill = _fill(order, change, record)
    whole = change.size_usd >= order.size_usd and (order.kind == "open" or fill.size >= order.size)
    detail = (
        f"{to_usd(change.size_usd)} of {to_usd(order.size_usd)} dollars; position fee"
        f" {to_usd(change.position_fee_usd)}, borrowing {to_usd(change.borrow_fee_usd)}"
    )
    return Outcome(
        state=OutcomeState.FILLED if whole else OutcomeState.PARTIALLY_FILLED,
        landed=True,
        executed=True,
        fills=(fill,),
        evidence=(evidence_of("request_executed", record, detail),),
        finalized=record.finalized,
        slot=record.slot,
    )


def _refunded(order: JupiterOrder, closing: Closing, record: TransactionRecord, error: ProviderError) -> Outcome:
    detail = f"closed unexecuted; {closing.amount} of {closing.mint} went back"
    return dead(
        at_phase(error, Phase.ANSWERED),
        evidence_of("request_closed", record, f"{order.request}: {detail}"),
        landed=True,
        executed=True,
        finalized=record.finalized,
    )
