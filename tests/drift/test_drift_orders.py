"""Instructions, settings and records: bytes that the venue's own description reads as what was meant."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from providers import registry
from providers.base.errors import BadAnswer, NoFreeSlot, WorstPriceNotMet
from providers.drift.build import (
    DriftOrder,
    Mode,
    OrderAccounts,
    cancel_instruction,
    free_user_order_id,
    order_instruction,
    worst_price_of,
)
from providers.drift.config import DriftConfig
from providers.drift.constants import PROGRAM_ID, Direction, ExchangeStatus, OracleSource, OrderAction, PerpOperation
from providers.drift.events import trail_of
from providers.drift.layouts import read_perp_market, read_user
from providers.solana.codec import encode_instruction
from providers.solana.idl import Idl, discriminator
from providers.solana.records import ProgramFailure, TransactionRecord
from tests.drift.drift_samples import SOL_MARKET, account_bytes, full_idl

USER = Pubkey.from_string("J83w4HKfqxwcq3BEMMkPFSppX3gqekLyLJBexebFVkix")
MODES: Final[tuple[Mode, Mode, Mode]] = ("take", "auction", "trigger")
ACCOUNTS = OrderAccounts(program_id=PROGRAM_ID, user=USER, owner=USER, authority=USER, markets=())


@st.composite
def orders(draw: st.DrawFn) -> DriftOrder:
    """Draw an order of any shape."""
    mode = draw(st.sampled_from(MODES))
    auction, waits = mode == "auction", mode == "trigger"
    return DriftOrder(
        market="SOL-PERP",
        market_index=draw(st.integers(0, 300)),
        user=str(USER),
        user_order_id=draw(st.integers(1, 255)),
        next_order_id=1,
        direction=draw(st.sampled_from([0, 1])),
        size=draw(st.integers(1, 2**63)),
        price=0 if waits else draw(st.integers(1, 2**62)),
        reduce_only=draw(st.booleans()),
        mode=mode,
        max_ts=0 if waits else draw(st.integers(0, 2**40)),
        auction_start_price=draw(st.integers(1, 2**62)) if auction else 0,
        auction_slots=draw(st.integers(1, 255)) if auction else 0,
        trigger_price=draw(st.integers(1, 2**62)) if waits else 0,
        trigger_above=waits and draw(st.booleans()),
    )


def described(order: DriftOrder) -> dict[str, Any]:
    """Return the order's parameters as the venue's description names them."""
    take, auction, waits = (order.mode == mode for mode in MODES)
    return {
        "order_type": {"take": "Limit", "auction": "Market", "trigger": "TriggerMarket"}[order.mode],
        "market_type": "Perp",
        "direction": "Short" if order.direction else "Long",
        "user_order_id": order.user_order_id,
        "base_asset_amount": order.size,
        "price": order.price,
        "market_index": order.market_index,
        "reduce_only": order.reduce_only,
        "post_only": "None",
        "bit_flags": 1 if take else 0,
        "max_ts": None if waits else order.max_ts,
        "trigger_price": order.trigger_price if waits else None,
        "trigger_condition": "Below" if waits and not order.trigger_above else "Above",
        "oracle_price_offset": None,
        "auction_duration": order.auction_slots if auction else None,
        "auction_start_price": order.auction_start_price if auction else None,
        "auction_end_price": order.price if auction else None,
    }


@given(order=orders())
def test_orders_are_encoded_as_the_description_says(order: DriftOrder) -> None:
    """Packed by hand, the parameters are byte for byte what the interface description's encoder makes."""
    idl, args = Idl.load("drift"), {"params": described(order)}
    if order.mode == "take":
        expected = encode_instruction(idl, "place_and_take_perp_order", args | {"success_condition": None})
    else:
        expected = encode_instruction(idl, "place_perp_order", args)
    instruction = order_instruction(order, ACCOUNTS)
    assert bytes(instruction.data) == expected
    described_accounts = idl.instruction(
        "place_and_take_perp_order" if order.mode == "take" else "place_perp_order"
    ).accounts
    assert [(meta.is_signer, meta.is_writable) for meta in instruction.accounts] == [
        (each.is_signer, each.is_mut) for each in described_accounts
    ]


def test_a_cancel_names_its_order() -> None:
    """A cancel carries the venue's order id, always: without one the venue would cancel another order."""
    instruction = cancel_instruction(7, ACCOUNTS)
    assert bytes(instruction.data) == encode_instruction(Idl.load("drift"), "cancel_order", {"order_id": 7})


def test_enumerations_are_the_programs() -> None:
    """Numbers of the enumerations are the positions in the venue's own description."""
    whole = {each["name"]: each["type"] for each in full_idl()["types"]}

    def names(enum: str) -> list[str]:
        return [variant["name"].replace("_", "").lower() for variant in whole[enum]["variants"]]

    assert [each.name.replace("_", "").lower() for each in OracleSource] == names("OracleSource")
    assert [each.name.lower() for each in OrderAction] == names("OrderAction")
    for flags, enum in ((ExchangeStatus, "ExchangeStatus"), (PerpOperation, "PerpOperation")):
        members = [each for each in flags if each.value.bit_count() == 1]
        for member in members:
            assert names(enum)[member.value.bit_length() - 1] == (member.name or "").replace("_", "").lower()


def test_order_numbers_are_free_and_spread() -> None:
    """A number is from 1 to 255, not one of an open order, not one that was given a moment ago."""
    values = {f"orders.{index}.status": 1 for index in range(31)}
    values |= {f"orders.{index}.userOrderId": index + 1 for index in range(31)}
    user = read_user(account_bytes("User", values))
    taken: list[int] = []
    for attempt in range(200):
        number = free_user_order_id(user, f"attempt-{attempt}", 1, taken)
        assert 31 < number <= 255
        assert number not in taken
        taken.append(number)
    with pytest.raises(NoFreeSlot):
        free_user_order_id(user, "one more", 1, range(1, 256))
    full = read_user(account_bytes("User", {f"orders.{index}.status": 1 for index in range(32)}))
    with pytest.raises(NoFreeSlot):
        free_user_order_id(full, "attempt", 1)


@given(price=st.decimals("0.0001", "1000000", places=9), side=st.sampled_from(list(Direction)))
def test_bounds_are_never_widened(price: Decimal, side: Direction) -> None:
    """The bound on a tick is at most the caller's to buy, at least the caller's to sell, and within a tick of it."""
    market = read_perp_market(account_bytes("PerpMarket", SOL_MARKET))
    scaled = Decimal(worst_price_of(price, market, side)) / 10**6
    away = price - scaled if side is Direction.LONG else scaled - price
    assert 0 <= away < Decimal("0.0001")


def test_a_bound_below_a_tick_is_refused() -> None:
    """Nothing can be bought at less than a tick."""
    market = read_perp_market(account_bytes("PerpMarket", SOL_MARKET))
    with pytest.raises(WorstPriceNotMet):
        worst_price_of(Decimal("0.00001"), market, Direction.LONG)


def test_settings_are_checked() -> None:
    """Unknown names and impossible values are errors; everything is optional."""
    assert DriftConfig.of({}) == DriftConfig()
    own = DriftConfig.of({"program_id": str(USER), "sub_account_id": "3", "makers": f"{USER}, {USER}"})
    assert (own.program_id, own.sub_account_id, own.makers) == (USER, 3, (USER, USER))
    for wrong in ({"programm_id": "x"}, {"program_id": "x"}, {"auction_slots": "0"}, {"auction_slots": "256"}):
        with pytest.raises(ValueError, match=r"."):
            DriftConfig.of(wrong)


def test_the_registry_imports_on_demand() -> None:
    """A provider is named by its module and function, and loads; an unknown name is a KeyError."""
    assert set(registry.PROVIDERS) == {"drift", "mango", "jupiter"}
    assert callable(registry.load("drift"))
    with pytest.raises(KeyError):
        registry.load("nowhere")


def test_the_venues_own_library_is_not_imported() -> None:
    """A start costs neither driftpy nor anchorpy, nor anything of theirs."""
    script = "import sys, providers.registry as r; r.load('drift'); print([m for m in sys.modules if m in %r])"
    banned = ("driftpy", "anchorpy", "solana", "construct", "httpx")
    done = subprocess.run([sys.executable, "-c", script % (banned,)], capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
    assert done.stdout.strip() == "[]"


# --- records ----------------------------------------------------------------------------------------------------------


def record_of(*lines: str, failed: bool = False) -> TransactionRecord:
    """Return a landed transaction with these lines between the program's first and last."""
    program = str(PROGRAM_ID)
    logs = (f"Program {program} invoke [1]", *lines, f"Program {program} success")
    err = ProgramFailure(instruction_index=0, program_id=program, code=1, kind="Custom") if failed else None
    return TransactionRecord(
        signature="s", slot=1, block_time=None, err=err, logs=logs, logs_complete=True, account_keys=(),
        pre_balances=(), post_balances=(), inner_instructions=(), programs=(program,), signers=(), fee=0,
        finalized=False, wire=b"",
    )  # fmt: skip


def fill_event(*, taker: Pubkey | None, maker: Pubkey | None, tail: bytes = b"") -> str:
    """Return a fill's record in base64, as the program of version 2.84 lays it out."""

    def some(code: str, value: int) -> bytes:
        return b"\x01" + struct.pack("<" + code, value)

    def key(value: Pubkey | None) -> bytes:
        return b"\0" if value is None else b"\x01" + bytes(value)

    def side(present: Pubkey | None, order_id: int) -> bytes:
        if present is None:
            return b"\0" * 5
        return some("I", order_id) + b"\x01\x00" + some("Q", 10) + some("Q", 4) + some("Q", 40)

    body = struct.pack("<qBBHB", 1_700_000_000, 2, 6, 0, 1)
    body += b"\0" + b"\0" + some("Q", 77) + some("Q", 4_000_000_000) + some("Q", 600_000_000)
    body += some("Q", 600_000) + some("q", -120_000) + b"\0" + b"\0" + b"\0"
    body += key(taker) + side(taker, 5) + key(maker) + side(maker, 9) + struct.pack("<q", 150_000_000)
    return base64.b64encode(discriminator("event", "OrderActionRecord") + body + tail).decode()


@pytest.mark.parametrize("prefix", ["Program log: ", "Program data: "])
@pytest.mark.parametrize("tail", [b"", bytes(9)])
def test_records_are_read_in_both_forms(prefix: str, tail: bytes) -> None:
    """As text or as data, with or without a newer version's fields at the end; a taker pays, a maker is paid."""
    other = Pubkey.from_string("dRiftyHA39MWEi3m9aunc5MzRF1JYuBsbn6VPcn33UH")
    taken = trail_of(
        record_of("Program log: filling", prefix + fill_event(taker=USER, maker=other, tail=tail)), PROGRAM_ID, USER
    )
    (fill,) = taken.fills
    assert (fill.order_id, fill.record_id, fill.fee, fill.cumulative_base, fill.order_base) == (5, 77, 600_000, 4, 10)
    made = trail_of(record_of(prefix + fill_event(taker=other, maker=USER, tail=tail)), PROGRAM_ID, USER)
    assert (made.fills[0].order_id, made.fills[0].fee) == (9, -120_000)
    assert trail_of(record_of(prefix + fill_event(taker=other, maker=None)), PROGRAM_ID, USER).fills == ()


def test_records_of_others_and_of_failures_do_not_count() -> None:
    """A record that another program printed, or that a failed transaction left in its logs, is none."""
    line = "Program log: " + fill_event(taker=USER, maker=None)
    assert trail_of(record_of(line, failed=True), PROGRAM_ID, USER).fills == ()
    inner = (
        "Program 11111111111111111111111111111112 invoke [2]",
        line,
        "Program 11111111111111111111111111111112 success",
    )
    assert trail_of(record_of(*inner), PROGRAM_ID, USER).fills == ()
    assert len(trail_of(record_of(*inner, line), PROGRAM_ID, USER).fills) == 1


def test_a_record_that_is_cut_is_an_error() -> None:
    """A record that begins as one and ends early is never passed over."""
    whole = base64.b64decode(fill_event(taker=USER, maker=None))
    line = "Program log: " + base64.b64encode(whole[:-20]).decode()
    with pytest.raises(BadAnswer):
        trail_of(record_of(line), PROGRAM_ID, USER)
