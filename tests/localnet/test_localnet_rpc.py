"""JSON-RPC methods as callers use them: reads, listings, history, malformed requests."""

from __future__ import annotations

import json
from typing import Any

import pybase64
import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from router.localnet import base58
from router.localnet.history import TOKEN_PROGRAM
from tests.localnet.localnet_bench import SOL, SYSTEM, Bench, encoded

NOW = {"encoding": "base64", "commitment": "processed"}
MINT = Keypair.from_seed(bytes([3] * 32)).pubkey()


def token_account(owner: Pubkey, amount: int) -> Account:
    """Return a token account of `MINT`."""
    data = bytes(MINT) + bytes(owner) + amount.to_bytes(8, "little") + bytes(36) + b"\x01" + bytes(56)
    return Account(2_039_280, data, TOKEN_PROGRAM)


@pytest.fixture
def bench() -> Bench:
    """Return a cluster with a mint of six decimals."""
    bench = Bench()
    bench.cluster.set_account(MINT, Account(1_461_600, bytes(36) + bytes(8) + b"\x06\x01" + bytes(36), TOKEN_PROGRAM))
    return bench


def test_token_balances_stand_in_the_metadata(bench: Bench) -> None:
    """A real token transfer shows before and after, and its accounts are listed by owner and by mint."""
    wallet = bench.wallet.pubkey()
    mine, theirs, other = Keypair().pubkey(), Keypair().pubkey(), Keypair().pubkey()
    bench.cluster.set_account(mine, token_account(wallet, 5_000_000))
    bench.cluster.set_account(theirs, token_account(other, 0))
    metas = [AccountMeta(mine, False, True), AccountMeta(theirs, False, True), AccountMeta(wallet, True, False)]
    tx = bench.signed(Instruction(TOKEN_PROGRAM, b"\x03" + (1_250_000).to_bytes(8, "little"), metas))
    assert bench.cluster.execute(tx).ok
    balance = bench.rpc("getTokenAccountBalance", str(mine), NOW)["value"]
    assert balance == {"amount": "3750000", "decimals": 6, "uiAmount": 3.75, "uiAmountString": "3.75"}
    for by in ({"mint": str(MINT)}, {"programId": str(TOKEN_PROGRAM)}):
        found = bench.rpc("getTokenAccountsByOwner", str(wallet), by, NOW)["value"]
        assert [each["pubkey"] for each in found] == [str(mine)]
    bench.cluster.advance()
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    meta = bench.rpc("getTransaction", str(tx.signatures[0]), config)["meta"]

    def amounts(side: str) -> dict[str, str]:
        return {each["owner"]: each["uiTokenAmount"]["amount"] for each in meta[side]}

    assert amounts("preTokenBalances") == {str(wallet): "5000000", str(other): "0"}
    assert amounts("postTokenBalances") == {str(wallet): "3750000", str(other): "1250000"}


def test_program_accounts_are_filtered(bench: Bench) -> None:
    """By size and by bytes at an offset, sliced, with and without context."""
    program = Keypair().pubkey()
    keys = [Keypair().pubkey() for _ in range(3)]
    for index, key in enumerate(keys):
        bench.cluster.set_account(key, Account(SOL, bytes([index, 7, 8]) + bytes(index), program))

    def found(**config: object) -> list[str]:
        return [each["pubkey"] for each in bench.rpc("getProgramAccounts", str(program), {**NOW, **config})]

    assert found() == [str(key) for key in keys]
    assert found(filters=[{"dataSize": 4}]) == [str(keys[1])]
    assert found(filters=[{"memcmp": {"offset": 0, "bytes": base58.encode(b"\x02\x07")}}]) == [str(keys[2])]
    memcmp = {"offset": 1, "bytes": "Bwg=", "encoding": "base64"}
    assert len(found(filters=[{"memcmp": memcmp}])) == 3
    with_context = bench.rpc(
        "getProgramAccounts", str(program), {**NOW, "withContext": True, "dataSlice": {"offset": 1, "length": 1}}
    )
    assert with_context["context"]["slot"] == bench.cluster.slot
    assert with_context["value"][0]["account"]["data"] == [pybase64.b64encode(b"\x07").decode(), "base64"]
    bench.cluster.advance()
    bench.cluster.set_account(keys[0], None)
    assert len(found()) == 2
    assert len(found(commitment="confirmed")) == 3


def test_signatures_for_address_page_backwards(bench: Bench) -> None:
    """Newest first, with limit, before and until; failed ones carry their error."""
    to = Keypair().pubkey()
    sent: list[str] = []
    for index in range(5):
        lamports = SOL if index != 2 else 1_000 * SOL
        tx = bench.signed(bench.pay(to, lamports + index))
        bench.cluster.execute(tx)
        sent.append(str(tx.signatures[0]))
        bench.cluster.advance()

    def page(**config: object) -> list[str]:
        found = bench.rpc("getSignaturesForAddress", str(to), {"commitment": "confirmed", **config})
        return [each["signature"] for each in found]

    assert page() == sent[::-1]
    assert page(limit=2) == [sent[4], sent[3]]
    assert page(before=sent[3], limit=2) == [sent[2], sent[1]]
    assert page(until=sent[2]) == [sent[4], sent[3]]
    listed = bench.rpc("getSignaturesForAddress", str(to), {"commitment": "confirmed"})
    assert listed[2]["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert all(each["memo"] is None and each["blockTime"] > 0 for each in listed)
    assert bench.error("getSignaturesForAddress", str(to), {"commitment": "processed"})["code"] == -32602


def test_a_transaction_is_shown_whole(bench: Bench) -> None:
    """Keys, instructions, balances, logs, fee and units; versions are refused unless asked for."""
    to = Keypair().pubkey()
    tx = bench.signed(bench.pay(to, SOL))
    bench.cluster.execute(tx)
    bench.cluster.advance()
    signature = str(tx.signatures[0])
    assert bench.error("getTransaction", signature, {"commitment": "confirmed"})["code"] == -32015
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    shown = bench.rpc("getTransaction", signature, config)
    message, meta = shown["transaction"]["message"], shown["meta"]
    assert shown["version"] == 0
    assert shown["blockTime"] == bench.rpc("getBlockTime", shown["slot"])
    assert message["accountKeys"] == [str(bench.wallet.pubkey()), str(to), str(SYSTEM)]
    assert base58.decode(message["instructions"][0]["data"]) == b"\x02\0\0\0" + SOL.to_bytes(8, "little")
    assert [post - pre for pre, post in zip(meta["preBalances"], meta["postBalances"], strict=True)] == [
        -SOL - 5_000,
        SOL,
        0,
    ]
    assert (meta["err"], meta["fee"], meta["computeUnitsConsumed"]) == (None, 5_000, 150)
    raw = bench.rpc("getTransaction", signature, {**config, "encoding": "base64"})["transaction"]
    assert raw == [encoded(tx), "base64"]


def test_simulation_of_an_unsigned_transaction_shows_accounts(bench: Bench) -> None:
    """No signature is needed; the accounts asked for are shown as they would be, and nothing is kept."""
    to = Keypair().pubkey()
    message = MessageV0.try_compile(bench.wallet.pubkey(), [bench.pay(to, SOL)], [], bench.cluster.latest_blockhash())
    unsigned = VersionedTransaction.populate(message, [Keypair().sign_message(b"nobody")])
    config = {**NOW, "sigVerify": False, "accounts": {"encoding": "base64", "addresses": [str(to), str(MINT)]}}
    value = bench.rpc("simulateTransaction", encoded(unsigned), config)["value"]
    assert (value["err"], value["unitsConsumed"]) == (None, 150)
    assert value["accounts"][0]["lamports"] == SOL
    assert value["accounts"][1]["owner"] == str(TOKEN_PROGRAM)
    assert bench.lamports(to) == 0
    assert bench.error("simulateTransaction", encoded(unsigned), {**NOW, "sigVerify": True})["code"] == -32003


def test_recent_fees_are_those_paid_for_writing_the_accounts(bench: Bench) -> None:
    """The lowest price of a slot counts, and only where all given accounts were written."""
    from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price  # noqa: PLC0415

    to = Keypair().pubkey()
    for price in (9_000, 4_000):
        budget = (set_compute_unit_limit(1_000), set_compute_unit_price(price))
        assert bench.cluster.execute(bench.signed(*budget, bench.pay(to, SOL))).ok
    fees = bench.rpc("getRecentPrioritizationFees", [str(to)])
    assert fees[-1] == {"slot": bench.cluster.slot, "prioritizationFee": 4_000}
    assert bench.rpc("getRecentPrioritizationFees", [str(Keypair().pubkey())])[-1]["prioritizationFee"] == 0


def test_old_history_is_forgotten_and_said_so() -> None:
    """Behind the first available block a transaction is unknown."""
    bench = Bench()
    tx = bench.signed(bench.pay(Keypair().pubkey(), SOL))
    bench.cluster.execute(tx)
    slot = bench.cluster.slot
    bench.cluster.warp(432_000)
    bench.cluster.advance(2)
    assert bench.rpc("getFirstAvailableBlock") > slot
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    assert bench.rpc("getTransaction", str(tx.signatures[0]), config) is None
    assert bench.error("getBlockTime", slot)["code"] == -32004


def test_a_status_is_cached_for_300_slots() -> None:
    """Later it is found only by searching the history."""
    bench = Bench()
    tx = bench.signed(bench.pay(Keypair().pubkey(), SOL))
    bench.cluster.execute(tx)
    bench.cluster.advance(301)
    signatures = [str(tx.signatures[0])]
    assert bench.rpc("getSignatureStatuses", signatures)["value"] == [None]
    found = bench.rpc("getSignatureStatuses", signatures, {"searchTransactionHistory": True})["value"][0]
    assert (found["confirmations"], found["confirmationStatus"], found["err"]) == (None, "finalized", None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[", -32700),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"getNothing"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":["xyz"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":[1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":[{"commitment":"soon"}]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["!!",{"encoding":"base64"}]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["AAAA",{"encoding":"base64"}]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"localnet_warp","params":[{"slots":-1}]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"localnet_airdrop","params":[{"pubkey":"x"}]}', -32602),
    ],
)
def test_malformed_requests_get_the_right_code(body: bytes, code: int) -> None:
    """Each is answered as a node answers it."""
    assert json.loads(Bench().cluster.handle(body))["error"]["code"] == code


def test_a_batch_is_answered_in_order() -> None:
    """Each request of it on its own, errors included."""
    calls: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": "a", "method": "getGenesisHash"},
        {"jsonrpc": "2.0", "id": 2, "method": "getNothing"},
        {"jsonrpc": "2.0", "id": None, "method": "getHealth", "params": []},
    ]
    bench = Bench()
    answers = json.loads(bench.cluster.handle(json.dumps(calls).encode()))
    assert [answer["id"] for answer in answers] == ["a", 2, None]
    assert answers[0]["result"] == str(bench.cluster.genesis_hash)
    assert answers[1]["error"]["code"] == -32601
    assert answers[2]["result"] == "ok"


def test_a_transaction_too_large_is_refused() -> None:
    """More than 1,232 bytes cannot travel in a packet."""
    bench = Bench()
    tx = bench.signed(Instruction(SYSTEM, bytes(1_200), []))
    error = bench.error("sendTransaction", encoded(tx), {"encoding": "base64"})
    assert error["code"] == -32602
    assert "too large" in error["message"]


def test_the_world_may_add_controls() -> None:
    """A registered control is a method; one that does not say that it is the localnet's is refused."""
    bench = Bench()
    bench.cluster.register_control("localnet_echo", json.loads)
    assert bench.rpc("localnet_echo", {"a": 1}) == {"a": 1}
    assert bench.rpc("localnet_status")["slot"] == bench.cluster.slot
    with pytest.raises(ValueError, match="localnet_"):
        bench.cluster.register_control("getSlot", lambda _: None)
