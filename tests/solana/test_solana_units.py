"""Fees, wire bytes and the tables of errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from providers.base.errors import (
    BadAnswer,
    ErrorClass,
    NodeBehind,
    Phase,
    RateLimited,
    TimedOut,
    UnknownCode,
    Unreachable,
)
from providers.solana.errors import (
    RPC_ERRORS,
    TRANSACTION_ERRORS,
    error_of_rpc,
    error_of_status,
    error_of_transaction,
    error_of_wire,
)
from providers.solana.fees import priority_fee
from providers.solana.transactions import (
    ComputeBudget,
    compile_message,
    message_bytes,
    required_signers,
    wire_of,
    written_accounts,
)
from providers.solana.transport import WireError

FEES = st.lists(st.integers(0, 10**9), max_size=150)


@given(FEES, st.integers(0, 100), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_fee_stays_between_floor_and_cap(recent: list[int], percentile: int, one: int, other: int) -> None:
    """Whatever blocks paid, never below the floor and never above the cap."""
    floor, cap = sorted((one, other))
    assert floor <= priority_fee(recent, percentile=percentile, floor=floor, cap=cap) <= cap


def test_the_fee_is_the_nearest_rank() -> None:
    """The 75th percentile of 1..100 is 75; of one value that value; of nothing the floor."""
    numbers = list(range(100, 0, -1))
    assert priority_fee(numbers, percentile=75, floor=1, cap=1000) == 75
    assert priority_fee(numbers, percentile=0, floor=1, cap=1000) == 1
    assert priority_fee(numbers, percentile=100, floor=1, cap=1000) == 100
    assert priority_fee([40], percentile=75, floor=1, cap=1000) == 40
    assert priority_fee([], percentile=75, floor=9, cap=1000) == 9


def test_wire_bytes_are_those_of_solders() -> None:
    """Message, signatures and their count are laid out as the reference implementation lays them out."""
    payer, other = Keypair(), Keypair()
    instruction = Instruction(
        Pubkey.new_unique(), b"\1\2", [AccountMeta(other.pubkey(), is_signer=True, is_writable=True)]
    )
    budget = ComputeBudget(units=1234, price=5, loaded_bytes=50_000_000).instructions()
    message = compile_message(payer.pubkey(), [*budget, instruction], [], Hash.new_unique())
    reference = VersionedTransaction(message, [payer, other])
    content = message_bytes(message)
    signatures = [bytes(key.sign_message(content)) for key in (payer, other)]
    assert wire_of(content, signatures) == bytes(reference)
    assert required_signers(message) == [payer.pubkey(), other.pubkey()]
    unsigned = VersionedTransaction.from_bytes(wire_of(content, [bytes(64)] * 2))
    assert unsigned.message == message
    assert written_accounts([instruction, instruction]) == [other.pubkey()]


@pytest.mark.parametrize("code", [*RPC_ERRORS, 0, 1, -1, -32099, 2**40])
def test_every_rpc_error_is_a_connection_error(code: int) -> None:
    """Known or not, a node's error code lets the next node, and then the next provider, be asked."""
    error = error_of_rpc(code, "words" * 1000, "node")
    assert error.error_class is ErrorClass.CONNECTION
    assert error.raw_code == str(code)
    assert len(error.detail) < 300


def test_known_codes_have_their_leaves() -> None:
    """Behind, rate limited, unknown: by number, whatever the message says."""
    assert type(error_of_rpc(-32016, "rate limit 429", "n")) is NodeBehind
    assert type(error_of_rpc(-32005, "", "n")) is NodeBehind
    assert type(error_of_rpc(-32429, "Node is behind", "n")) is RateLimited
    assert type(error_of_rpc(-31337, "Blockhash not found", "n")) is BadAnswer
    assert error_of_status(429, "n", 3.0).retry_after_s == 3.0
    assert type(error_of_wire(WireError("timeout", maybe_sent=True), "n")) is TimedOut
    assert type(error_of_wire(WireError("dns", maybe_sent=False), "n")) is Unreachable
    assert error_of_wire(WireError("cut", maybe_sent=True), "n", phase=Phase.MAYBE_SENT).phase is Phase.MAYBE_SENT


def test_transaction_errors_are_looked_up_by_name() -> None:
    """Every row gives its leaf with the runtime's name; a name in no table is unclassified."""
    for kind, leaf in TRANSACTION_ERRORS.items():
        error = error_of_transaction(kind)
        assert (type(error), error.raw_name, error.phase) == (leaf, kind, Phase.NOT_SENT)
    assert type(error_of_transaction("NeverHeardOf")) is UnknownCode
