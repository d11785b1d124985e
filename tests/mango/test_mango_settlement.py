"""What an order became, from made-up logs: fills, zero matches, expiry, cut logs, failures, other people's."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from decimal import Decimal
from typing import cast

import msgspec
import pybase64
import pytest
from solders.pubkey import Pubkey

from providers.base.types import Outcome, OutcomeState, Purpose, Side, Submission, VenueEventKind
from providers.mango.build import MangoOrder, encode_order
from providers.mango.config import MangoConfig
from providers.mango.constants import ONE, PROGRAM_ID
from providers.mango.events import LotUnits, PerpEvents, carry_index_of, perp_events, to_venue_event
from providers.mango.settle import Settler
from providers.solana.body import SolanaBody
from providers.solana.cluster import SolanaCluster
from providers.solana.proofs import Examination, Expired, FailedOnChain, Landed, Superseded, Unclear
from providers.solana.records import ProgramFailure, TransactionRecord
from tests.mango.mango_instruction_samples import order_of

OURS, OTHER, GROUP = (Pubkey.from_bytes(bytes([each]) * 32) for each in (1, 2, 3))
UNITS = LotUnits(base_decimals=9, base_lot_size=10_000_000, quote_lot_size=100)
EXPIRY = 1_700_000_000


def printed(name: str, *parts: bytes) -> str:
    """Return an event as the program prints it."""
    payload = hashlib.sha256(f"event:{name}".encode()).digest()[:8] + b"".join(parts)
    return f"Program data: {pybase64.b64encode(payload).decode()}"


def fixed(value: int) -> bytes:
    """Return an `I80F48` given by its bits."""
    return value.to_bytes(16, "little", signed=True)


def taker_trade(
    *, base: int, quote: int, fee: int = 0, penalty: int = 0, account: Pubkey = OURS, market: int = 2, side: int = 0,
    own: tuple[int, int] = (0, 0), group: Pubkey = GROUP,
) -> str:  # fmt: skip
    """Return `PerpTakerTradeLog`; `own` are lots that met orders of the same account."""
    numbers = struct.pack("<HBqqqq", market, side, base + own[0], own[0], quote + own[1], own[1])
    return printed("PerpTakerTradeLog", bytes(group), bytes(account), numbers, fixed(fee), fixed(penalty))


def funding(long: int, short: int, market: int = 2) -> str:
    """Return `PerpUpdateFundingLogV2`."""
    head = bytes(GROUP) + struct.pack("<H", market) + fixed(long) + fixed(short) + fixed(ONE)
    rest = struct.pack("<Q", 1) + fixed(0) + b"\0" + fixed(ONE) + fixed(0) + fixed(0) + struct.pack("<q", 0) + fixed(0)
    return printed("PerpUpdateFundingLogV2", head, rest)


def fill_log(*, maker: Pubkey, taker: Pubkey, price: int, quantity: int, side: int = 0, fee: float = -0.0003) -> str:
    """Return `FillLogV3`, printed when the queue is consumed."""
    head = struct.pack("<HBB?QQ", 2, side, 0, True, EXPIRY, 1)
    made = struct.pack("<QfQ", 0, fee, EXPIRY)
    took = struct.pack("<Qfqqdd", 0, 0.0006, price, quantity, 0.0, 0.0)
    return printed("FillLogV3", bytes(GROUP), head, bytes(maker), made, bytes(taker), took)


def liquidation(*, base: int, liqee: Pubkey, liqor: Pubkey) -> str:
    """Return `PerpLiqBaseOrPositivePnlLogV3` of a base transfer at 15,000 native a lot."""
    quote = abs(base) * 15_000 * ONE
    head = bytes(GROUP) + struct.pack("<H", 2) + bytes(liqor) + bytes(liqee) + struct.pack("<q", base)
    tail = fixed(quote) + fixed(-quote) + fixed(0) + fixed(0) + struct.pack("<qq", 0, 0) + fixed(ONE)
    return printed("PerpLiqBaseOrPositivePnlLogV3", head, tail)


def forced_close(*, base: int, long: Pubkey, short: Pubkey) -> str:
    """Return `PerpForceClosePositionLog`."""
    head = bytes(GROUP) + struct.pack("<H", 2) + bytes(long) + bytes(short) + struct.pack("<q", base)
    return printed("PerpForceClosePositionLog", head, fixed(base * 15_000 * ONE), fixed(ONE))


def record_of(*lines: str, complete: bool = True, block_time: int | None = EXPIRY - 10) -> TransactionRecord:
    """Return a landed transaction with these lines between the program's first and last."""
    program = str(PROGRAM_ID)
    logs = (f"Program {program} invoke [1]", *lines, *((f"Program {program} success",) if complete else ()))
    return TransactionRecord(
        signature="sig", slot=7, block_time=block_time, err=None, logs=logs, logs_complete=complete, account_keys=(),
        pre_balances=(), post_balances=(), inner_instructions=(), programs=(program,), signers=(), fee=0,
        finalized=False, wire=b"",
    )  # fmt: skip


class Examined:
    """Proofs that have been found already."""

    def __init__(self, examination: Examination) -> None:
        self.proofs = self
        self._examination = examination

    async def examine(self, _: Submission) -> Examination:
        """Return what was found."""
        return self._examination


def settled(examination: Examination, order: MangoOrder | None = None) -> Outcome:
    """Settle an order (10 lots bought of market 2) by what was found of its transaction."""
    order = order or order_of(market_index=2, base_lots=10, expiry=EXPIRY, account=OURS, group=GROUP)
    body = SolanaBody(
        signed=b"", blockhash="", last_valid_block_height=0, height_at_signing=0, slot_at_signing=0, genesis_hash="",
        lock_instruction_index=None, signer="", venue=msgspec.Raw(encode_order(order)),
    )  # fmt: skip
    submission = Submission(provider="mango", purpose=Purpose.OPEN, handle="sig", body=msgspec.json.encode(body))
    cluster = cast("SolanaCluster", Examined(examination))
    return asyncio.run(Settler(cluster, MangoConfig(group=GROUP)).settle(submission))


def landed(*lines: str, complete: bool = True, block_time: int | None = EXPIRY - 10) -> Outcome:
    """Settle an order whose transaction executed with these lines."""
    return settled(Landed(record=record_of(*lines, complete=complete, block_time=block_time)))


def test_a_trade_record_is_the_fill() -> None:
    """Price, size, fee with penalty rounded up, carry and name come from the transaction's own records."""
    trade = taker_trade(base=10, quote=1_500_500, fee=90_000 * ONE + 1, penalty=1_000 * ONE)
    outcome = landed(funding(5 * ONE, 7 * ONE), trade)
    (fill,) = outcome.fills
    assert outcome.state is OutcomeState.FILLED
    assert (fill.size, fill.size_usd, fill.price) == (Decimal("0.1"), Decimal("150.05"), Decimal("1500.5"))
    assert fill.fee_usd == Decimal("0.091001")
    assert fill.venue_fill_id == "sig:1"
    # Five native quote for a lot of 0.01.
    assert fill.carry_index == Decimal("0.0005")
    assert (outcome.landed, outcome.executed, outcome.resting) == (True, True, False)


def test_less_than_asked_is_partial_and_own_lots_do_not_count() -> None:
    """An immediate order leaves nothing: a part is final. Lots that met the account's own order are no fill."""
    outcome = landed(taker_trade(base=4, quote=400, own=(6, 600)))
    assert outcome.state is OutcomeState.PARTIALLY_FILLED
    assert [each.size for each in outcome.fills] == [Decimal("0.04")]
    assert outcome.fills[0].carry_index is None


def test_complete_logs_without_a_trade_are_death_and_the_penalty_is_told() -> None:
    """Zero match: capacity, with the fee that was paid all the same in its evidence."""
    outcome = landed(funding(0, 0))
    assert outcome.state is OutcomeState.DEAD
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.error_class, outcome.error.phase) == (
        "no_liquidity", "capacity", "answered",
    )  # fmt: skip
    assert (outcome.evidence[0].kind, outcome.evidence[0].fee_usd) == ("no_fill_logs", Decimal("0.001"))


@pytest.mark.parametrize(("lines", "code"), [((), "auction_expired"), ((funding(0, 0),), "no_liquidity")])
def test_past_its_expiry_it_was_skipped_unless_the_market_was_touched(lines: tuple[str, ...], code: str) -> None:
    """A skipped order pays no penalty; the market's funding in the logs shows that it was not skipped."""
    outcome = landed(*lines, block_time=EXPIRY)
    assert outcome.error is not None
    assert outcome.error.code == code
    assert (outcome.evidence[0].fee_usd is None) == (code == "auction_expired")


def test_cut_logs_show_what_they_show_and_no_more() -> None:
    """Without a trade record they prove nothing; a record before the cut is whole."""
    assert landed(complete=False).state is OutcomeState.UNKNOWN
    assert landed(taker_trade(base=10, quote=1), complete=False).state is OutcomeState.FILLED


def test_records_of_others_are_not_ours() -> None:
    """Another account, market or group, another program's line, or our own earlier fill being consumed: no fill."""
    foreign = "Program 11111111111111111111111111111111"
    outcome = landed(
        taker_trade(base=10, quote=1, account=OTHER),
        taker_trade(base=10, quote=1, market=3),
        taker_trade(base=10, quote=1, group=OTHER),
        fill_log(maker=OTHER, taker=OURS, price=1, quantity=10),
        fill_log(maker=OURS, taker=OTHER, price=1, quantity=10),
        f"{foreign} invoke [2]",
        taker_trade(base=10, quote=1),
        f"{foreign} success",
    )
    assert outcome.state is OutcomeState.DEAD


def test_a_record_that_cannot_be_read_leaves_it_unknown() -> None:
    """A trade record that ends too early is neither a fill nor its absence."""
    assert landed(printed("PerpTakerTradeLog", bytes(GROUP))).state is OutcomeState.UNKNOWN
    assert landed(taker_trade(base=10, quote=1), block_time=None).state is OutcomeState.UNKNOWN


@pytest.mark.parametrize(
    ("code", "leaf", "error_class"),
    [
        (6007, "insufficient_collateral", "collateral"),
        (6047, "node_behind", "connection"),
        (6031, "market_reduce_only", "capacity"),
    ],
)
def test_a_failure_on_chain_is_death_by_its_code(code: int, leaf: str, error_class: str) -> None:
    """A health list that became old by another's hand is not our bug."""
    failure = ProgramFailure(instruction_index=0, program_id=str(PROGRAM_ID), code=code, kind="Custom")
    outcome = settled(FailedOnChain(record=record_of(), failure=failure))
    assert outcome.state is OutcomeState.DEAD
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.error_class) == (leaf, error_class)


def test_what_never_executed_is_told_as_the_proofs_tell_it() -> None:
    """A held lock is superseded, expiry is death of connection, and no proof is no outcome."""
    assert settled(Superseded(holder="h", slot=1)).holder == "h"
    expired = settled(Expired(slot=1, height=2))
    assert (expired.state, expired.landed, expired.finalized) == (OutcomeState.DEAD, False, True)
    assert settled(Unclear(reason="")).state is OutcomeState.UNKNOWN


def read(*lines: str) -> PerpEvents:
    """Return what a transaction with these lines says of our account."""
    return perp_events(record_of(*lines).logs, PROGRAM_ID, GROUP, OURS)


@pytest.mark.parametrize("ours_is", ["liqee", "liqor", "long", "short", "maker"])
def test_what_others_did_to_the_account_is_an_event(ours_is: str) -> None:
    """Liquidations on either side, forced closes and a maker's fills change the holding by kind, sign and price."""
    line, kind, delta, price = {
        "liqee": (liquidation(base=-5, liqee=OURS, liqor=OTHER), VenueEventKind.LIQUIDATION, -5, "1.5"),
        "liqor": (liquidation(base=-5, liqee=OTHER, liqor=OURS), VenueEventKind.LIQUIDATION, 5, "1.5"),
        "long": (forced_close(base=5, long=OURS, short=OTHER), VenueEventKind.SETTLEMENT, -5, "1.5"),
        "short": (forced_close(base=5, long=OTHER, short=OURS), VenueEventKind.SETTLEMENT, 5, "1.5"),
        "maker": (fill_log(maker=OURS, taker=OTHER, price=150, quantity=5), VenueEventKind.TRADE, -5, "1.5"),
    }[ours_is]
    (change,) = read(line).changes
    event = to_venue_event(change, record_of(line), UNITS, "SOL-PERP")
    assert (event.kind, event.base_delta, event.price) == (kind, delta * UNITS.lot, Decimal(price))
    # A maker's rebate is rounded down in what it gives.
    assert event.fee_usd == (Decimal("-0.000022") if ours_is == "maker" else 0)


def test_longs_pay_the_carry_that_shorts_receive() -> None:
    """One index of a market is two indexes of sides."""
    index = read(funding(3 * ONE, 3 * ONE)).funding[2]
    assert carry_index_of(index, UNITS, Side.LONG) == Decimal("0.0003")
    assert carry_index_of(index, UNITS, Side.SHORT) == Decimal("-0.0003")
    assert carry_index_of(None, UNITS, Side.LONG) is None
