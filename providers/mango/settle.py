"""What an order became, by the venue's own records (DESIGN 6, proof 3; 1, 2, 4 and 5 are the cluster's).

*A confirmed transaction is not a fill.* Every order is immediate or cancel, so its own transaction tells all: the
program's `PerpTakerTradeLog` with what was taken, or complete logs without one. That record is printed once an order
has matched all that it will, so one that is there is whole even where later lines were cut off. Nothing else of the
chain's state would do: the account's `sequence_number` is raised by `sequence_check` alone, and a position tells
nothing of whose order moved it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from solders.pubkey import Pubkey

from providers.base.errors import (
    AuctionExpired,
    BadAnswer,
    NodeBehind,
    NoLiquidity,
    Phase,
    ProviderError,
)
from providers.base.types import Fill, Outcome, OutcomeState, Side, Submission
from providers.mango.build import MangoOrder, decode_order
from providers.mango.config import MangoConfig
from providers.mango.constants import Side as OrderSide
from providers.mango.errors import classify
from providers.mango.events import AccountChange, PerpEvents, carry_index_of, perp_events, to_fill
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster
from providers.solana.outcomes import dead, evidence_of, not_executed, unknown
from providers.solana.program_errors import at_phase
from providers.solana.proofs import Landed
from providers.solana.records import ProgramFailure, TransactionRecord

__all__ = ["Settler", "order_failure", "own_trades", "unfilled_in"]

# Codes of a health list that does not fit the account or the venue any more: UnexpectedOracle, InvalidBank,
# InvalidHealthAccountCount, and Anchor's RequireGteViolated (more banks than active slots).
_LIST_IS_OLD: Final = frozenset({6003, 6017, 6047, 2506})

_NO_MATCH: Final = "matched nothing at its bound or better"


class Settler:
    """Settles orders.

    Args:
        cluster: proofs and nodes.
        config: program.
    """

    def __init__(self, cluster: SolanaCluster, config: MangoConfig) -> None:
        self._cluster = cluster
        self._program_id = config.program_id

    async def settle(self, submission: Submission) -> Outcome:
        """Return what can be proven now of an order, from its submission alone."""
        order = decode_order(decode_body(submission).venue)
        examination = await self._cluster.proofs.examine(submission)
        if not isinstance(examination, Landed):
            return not_executed(submission, examination, partial(order_failure, program_id=self._program_id))
        record = examination.record
        if order is None:
            return unknown("no order: nothing of it can be settled", record.slot, landed=True)
        try:
            return self._landed(order, record)
        except BadAnswer as error:
            # Another node, or the same one later, may show it readably.
            return unknown(str(error), record.slot, landed=True)

    def _landed(self, order: MangoOrder, record: TransactionRecord) -> Outcome:
        account, group = Pubkey.from_string(order.account), Pubkey.from_string(order.group)
        events = perp_events(record.logs, self._program_id, group, account)
        trades = own_trades(order, events)
        if trades:
            return _filled(order, record, events, trades)
        if not record.logs_complete:
            return unknown("the logs of its transaction are not complete", record.slot, landed=True)
        return _unfilled(order, record, events)


def order_failure(failure: ProgramFailure, logs: tuple[str, ...], program_id: Pubkey) -> ProviderError:
    """Return what an order's failure means (`errors.classify`), phase `not_sent`.

    The list of accounts for the health check is exact, and made from what was read a moment before: another order that
    takes a slot in between, or an admin, makes it wrong without a mistake of ours. That passes with the next read.
    """
    error = classify(failure, logs, program_id=str(program_id))
    if failure.program_id == str(program_id) and failure.code in _LIST_IS_OLD:
        return NodeBehind(
            "the account or the venue changed after the order was built",
            raw_code=error.raw_code,
            raw_name=error.raw_name,
        )
    return error


def own_trades(order: MangoOrder, events: PerpEvents) -> tuple[AccountChange, ...]:
    """Return what the order took, of the events of its own transaction.

    A transaction of ours has one order, so a taker's record of our account and market is this order's.
    """
    return tuple(each for each in events.changes if each.taker and each.market_index == order.market_index)


def unfilled_in(order: MangoOrder, logs: tuple[str, ...], program_id: Pubkey) -> ProviderError | None:
    """Return what an order would die of whose simulation shows that nothing of it matches; else null.

    Args:
        order: that was simulated.
        logs: complete, of a simulation that succeeded.
        program_id: of the venue.

    Raises:
        BadAnswer: a record of the program cannot be read.
    """
    account, group = Pubkey.from_string(order.account), Pubkey.from_string(order.group)
    events = perp_events(logs, program_id, group, account)
    return None if own_trades(order, events) else NoLiquidity(f"{_sized(order)} {_NO_MATCH}")


def _filled(
    order: MangoOrder, record: TransactionRecord, events: PerpEvents, trades: tuple[AccountChange, ...]
) -> Outcome:
    buys = order.side == OrderSide.BID
    # What a close fills ends the carry of the side that it closes.
    long = buys != order.reduce_only
    carry = carry_index_of(events.funding.get(order.market_index), order.units, Side.LONG if long else Side.SHORT)
    fills: tuple[Fill, ...] = tuple(to_fill(each, record, order.units, carry) for each in trades)
    filled_lots = sum(abs(each.base_lots) for each in trades)
    return Outcome(
        state=OutcomeState.FILLED if filled_lots >= order.base_lots else OutcomeState.PARTIALLY_FILLED,
        landed=True,
        executed=True,
        fills=fills,
        evidence=(evidence_of("fill_record", record, f"{filled_lots} of {order.base_lots} lots"),),
        finalized=record.finalized,
        slot=record.slot,
    )


def _unfilled(order: MangoOrder, record: TransactionRecord, events: PerpEvents) -> Outcome:
    """Return the death of an order whose complete logs show no trade: it matched nothing, or was skipped as expired.

    An immediate order that matches nothing pays the market's penalty; one that was skipped is never looked at, so it
    pays none and leaves the market's funding alone.
    """
    at = record.block_time
    skipped = at is not None and at >= order.expiry and order.market_index not in events.funding
    error: ProviderError
    if skipped:
        error = AuctionExpired("its deadline had passed when it executed")
        evidence = evidence_of("no_fill_logs", record, f"block time {at}, expiry {order.expiry}: it was skipped")
    else:
        error = NoLiquidity(f"{_sized(order)} {_NO_MATCH}")
        evidence = evidence_of(
            "no_fill_logs",
            record,
            f"it matched nothing; penalty fee {order.fee_penalty_usd:f} dollars",
            fee_usd=order.fee_penalty_usd,
        )
    return dead(at_phase(error, Phase.ANSWERED), evidence, landed=True, executed=True, finalized=record.finalized)


def _sized(order: MangoOrder) -> str:
    return f"{order.units.size(order.base_lots)} {order.market}"
