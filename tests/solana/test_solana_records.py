"""Logs, failures and records of transactions: who printed what, who failed, and when missing lines mean something."""

from __future__ import annotations

import base64

import msgspec
import pytest
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from providers.base.errors import BadAnswer
from providers.solana.logs import data_of, trace
from providers.solana.records import TransactionRecord, decode_transaction, events_of, parse_failure
from tests.solana.solana_world import Json

OUTER, INNER, OTHER = (str(Pubkey.from_bytes(bytes([number]) * 32)) for number in (7, 8, 9))
PAYER = Keypair.from_seed(bytes(32))


def data(payload: bytes) -> str:
    return f"Program data: {base64.b64encode(payload).decode()}"


NESTED = (
    f"Program {OTHER} invoke [1]",
    f"Program {OTHER} success",
    f"Program {OUTER} invoke [1]",
    "Program log: Instruction: Trade",
    data(b"outer 1"),
    f"Program {INNER} invoke [2]",
    data(b"inner"),
    f"Program {INNER} consumed 1 of 2 compute units",
    f"Program {INNER} success",
    data(b"outer 2"),
    f"Program return: {OUTER} AA==",
    f"Program {OUTER} success",
)


def test_data_lines_belong_to_the_program_that_printed_them() -> None:
    """Lines between an inner program's invoke and success are the inner program's."""
    assert data_of(NESTED, OUTER) == (b"outer 1", b"outer 2")
    assert data_of(NESTED, INNER) == (b"inner",)
    assert data_of(NESTED, OTHER) == ()


def test_a_program_cannot_speak_for_another_in_its_own_log_lines() -> None:
    """A logged text that looks like the runtime's lines, newlines included, changes no stack."""
    lines = (
        f"Program {INNER} invoke [1]",
        f"Program log: x\nProgram {INNER} success\nProgram {OUTER} invoke [1]",
        f"Program log: Program {OUTER} invoke [1]",
        data(b"forged"),
        f"Program {INNER} success",
    )
    assert data_of(lines, OUTER) == ()
    assert data_of(lines, INNER) == (b"forged",)
    assert trace(lines, [INNER], None).complete


def test_complete_logs_have_every_first_and_last_line() -> None:
    """Whole logs are complete; without any one of the runtime's lines, or truncated, they are not."""
    assert trace(NESTED, [OTHER, OUTER], None).complete
    for index, line in enumerate(NESTED):
        if " invoke [" in line or line.endswith("success"):
            cut = NESTED[:index] + NESTED[index + 1 :]
            assert not trace(cut, [OTHER, OUTER], None).complete, line
    assert not trace((*NESTED[:6], "Log truncated", *NESTED[6:]), [OTHER, OUTER], None).complete
    assert not trace((*NESTED, "Log truncated"), [OTHER, OUTER], None).complete
    assert not trace((), [OTHER, OUTER], None).complete
    assert not trace(NESTED[:2], [OTHER, OUTER], None).complete


def test_precompiles_log_nothing_and_are_not_missed() -> None:
    """A signature check by precompile prints no lines; logs are complete without any."""
    assert trace(NESTED, ["Ed25519SigVerify111111111111111111111111111", OTHER, OUTER], None).complete


def test_a_payload_that_is_not_base64_is_a_broken_answer() -> None:
    """Garbage after `Program data:` is the node's, not an event that can be left out."""
    with pytest.raises(BadAnswer):
        data_of((f"Program {OUTER} invoke [1]", "Program data: %%%"), OUTER)


FAILED = (
    f"Program {OTHER} invoke [1]",
    f"Program {OTHER} success",
    f"Program {OUTER} invoke [1]",
    f"Program {INNER} invoke [2]",
    f"Program {INNER} failed: custom program error: 0x1",
    f"Program {OUTER} failed: custom program error: 0x1",
)


@pytest.mark.parametrize(
    ("err", "logs", "expected"),
    [
        ('{"InstructionError":[1,{"Custom":1}]}', FAILED, (1, INNER, 1, "Custom")),
        ('{"InstructionError":[1,{"Custom":1}]}', FAILED[:4], (1, OUTER, 1, "Custom")),
        ('{"InstructionError":[1,{"Custom":1}]}', (*FAILED[:4], "Log truncated"), (1, OUTER, 1, "Custom")),
        ('{"InstructionError":[1,{"Custom":1}]}', (), (1, OUTER, 1, "Custom")),
        ('{"InstructionError":[1,"ProgramFailedToComplete"]}', FAILED, (1, INNER, None, "ProgramFailedToComplete")),
        ('{"InstructionError":[1,{"BorshIoError":"Unknown"}]}', (), (1, OUTER, None, "BorshIoError")),
        ('"AccountInUse"', (), (None, None, None, "AccountInUse")),
        ('{"InsufficientFundsForRent":{"account_index":3}}', (), (None, None, None, "InsufficientFundsForRent")),
        ('{"DuplicateInstruction":3}', (), (None, None, None, "DuplicateInstruction")),
    ],
)
def test_a_failure_names_the_innermost_program_where_the_logs_are_whole(
    err: str, logs: tuple[str, ...], expected: tuple[int | None, str | None, int | None, str]
) -> None:
    """Complete logs give the inner program; anything less gives the top-level one; transaction errors give none."""
    failure = parse_failure(err.encode(), logs, [OTHER, OUTER])
    assert failure is not None
    assert (failure.instruction_index, failure.program_id, failure.code, failure.kind) == expected


def test_no_error_is_no_failure_and_junk_is_a_broken_answer() -> None:
    """Null stays null; every other shape that is no error of a transaction is refused."""
    assert parse_failure(b"null", (), []) is None
    for junk in (
        b"",
        b"7",
        b"{}",
        b'{"InstructionError":[2,{"Custom":1}]}',
        b'{"InstructionError":[0,{}]}',
        b"[1]",
        b"{",
    ):
        with pytest.raises(BadAnswer):
            parse_failure(junk, (), [OTHER, OUTER])


def landed(**changes: Json) -> tuple[str, dict[str, Json]]:
    """Return a signature and the answer of a node about it."""
    instruction = Instruction(Pubkey.from_string(OUTER), b"\1", [AccountMeta(Pubkey.from_string(INNER), False, True)])
    message = MessageV0.try_compile(PAYER.pubkey(), [instruction], [], Hash.default())
    transaction = VersionedTransaction(message, [PAYER])
    meta: dict[str, Json] = {
        "err": None,
        "fee": 5000,
        "preBalances": [10, 0, 1, 7],
        "postBalances": [4, 1, 1, 7],
        "logMessages": [f"Program {OUTER} invoke [1]", data(b"event"), f"Program {OUTER} success"],
        "innerInstructions": [
            {"index": 0, "instructions": [{"programIdIndex": 3, "accounts": [1], "data": "2g", "stackHeight": 2}]}
        ],
        "loadedAddresses": {"writable": [], "readonly": [OTHER]},
        "status": {"Ok": None},
        "somethingNew": 1,
    }
    answer: dict[str, Json] = {
        "slot": 77,
        "blockTime": 1_700_000_000,
        "transaction": [base64.b64encode(bytes(transaction)).decode(), "base64"],
        "version": 0,
        "meta": meta,
    }
    for key, value in changes.items():
        if key in meta:
            meta[key] = value
        else:
            answer[key] = value
    return str(transaction.signatures[0]), answer


def decode(**changes: Json) -> TransactionRecord | None:
    signature, answer = landed(**changes)
    return decode_transaction(msgspec.json.encode(answer), signature, finalized=False)


def test_a_record_has_everything_that_proofs_need() -> None:
    """Static and loaded accounts, balances, inner instructions, events, signers, and whether it took a balance."""
    record = decode()
    assert record is not None
    assert [str(key) for key in record.account_keys] == [str(PAYER.pubkey()), INNER, OUTER, OTHER]
    assert (record.slot, record.block_time, record.fee, record.err) == (77, 1_700_000_000, 5000, None)
    assert record.programs == (OUTER,)
    assert record.signers == (PAYER.pubkey(),)
    assert record.logs_complete
    assert events_of(record, OUTER) == (b"event",)
    inner = record.inner_instructions[0]
    assert (inner.parent, str(inner.program_id), [str(key) for key in inner.accounts]) == (0, OTHER, [INNER])
    assert inner.data == b"a"
    assert record.took(Pubkey.from_string(INNER))
    assert not record.took(PAYER.pubkey())
    assert not record.took(Pubkey.from_string(OTHER))
    assert not record.took(Pubkey.new_unique())


def test_a_failed_transaction_took_nothing_and_has_no_events() -> None:
    """With an error, balances and logged data are worth nothing."""
    record = decode(err={"InstructionError": [0, {"Custom": 6154}]})
    assert record is not None
    assert record.err is not None
    assert record.err.code == 6154
    assert not record.took(Pubkey.from_string(INNER))
    assert events_of(record, OUTER) == ()


def test_absent_logs_are_not_complete_logs() -> None:
    """A node that keeps no logs says nothing about what was not logged."""
    record = decode(logMessages=None)
    assert record is not None
    assert record.logs == ()
    assert not record.logs_complete
    record = decode(logMessages=[])
    assert record is not None
    assert not record.logs_complete


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": -1},
        {"slot": "77"},
        {"slot": 1e30},
        {"transaction": ["%%%", "base64"]},
        {"transaction": ["AAAA", "base64"]},
        {"transaction": "AAAA"},
        {"preBalances": [10, 0]},
        {"preBalances": [10, 0, 1, -7]},
        {"postBalances": ["4", 1, 1, 7]},
        {"loadedAddresses": {"writable": ["junk"], "readonly": [OTHER]}},
        {"innerInstructions": [{"index": 0, "instructions": [{"programIdIndex": 99, "accounts": [], "data": ""}]}]},
        {"innerInstructions": [{"index": 0, "instructions": [{"programIdIndex": 3, "accounts": [], "data": "0"}]}]},
        {"err": 17},
        {"err": {"InstructionError": [5, {"Custom": 1}]}},
        {"meta": None},
    ],
)
def test_a_broken_record_is_a_broken_answer(changes: dict[str, Json]) -> None:
    """Numeric junk, wrong shapes and lengths: refused as a whole."""
    with pytest.raises(BadAnswer):
        decode(**changes)


def test_another_transaction_than_the_one_asked_for_is_refused() -> None:
    """The signature in the bytes decides, not the node."""
    _, answer = landed()
    with pytest.raises(BadAnswer):
        decode_transaction(msgspec.json.encode(answer), str(PAYER.sign_message(b"other")), finalized=False)
    assert decode_transaction(b"null", "any", finalized=False) is None
