"""The chain's own rules: fees, blockhashes, rent, views, once and only once."""

from __future__ import annotations

from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed
from solders.transaction import VersionedTransaction

from providers.base.clock import VirtualClock
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.messages import LOOKUP_TABLE_PROGRAM
from router.localnet.virtual_time import run_virtual
from tests.localnet.localnet_bench import SOL, SYSTEM, Bench, encoded

PROCESSED = {"encoding": "base64", "preflightCommitment": "processed", "commitment": "processed"}
UNCHECKED = {"encoding": "base64", "skipPreflight": True}


def test_a_transfer_costs_base_and_priority_fee() -> None:
    """The payer loses the amount, 5,000 lamports a signature, and price times limit."""
    bench = Bench()
    to = Keypair().pubkey()
    before = bench.lamports(bench.wallet.pubkey())
    tx = bench.signed(set_compute_unit_limit(100_000), set_compute_unit_price(30_001), bench.pay(to, SOL))
    result = bench.cluster.execute(tx)
    assert result.ok
    assert result.fee == 5_000 + 3_001  # 100,000 x 30,001 micro-lamports, rounded up
    assert bench.lamports(bench.wallet.pubkey()) == before - SOL - 8_001
    assert bench.lamports(to) == SOL


def test_the_whole_balance_can_be_sent_but_for_the_fee() -> None:
    """The program sees the balance that is left after the priority fee, to the lamport."""
    bench = Bench()
    balance = bench.lamports(bench.wallet.pubkey())
    fee = 5_000 + 1_000
    budget = (set_compute_unit_limit(1_000), set_compute_unit_price(1_000_000))
    too_much = bench.signed(*budget, bench.pay(Keypair().pubkey(), balance - fee + 1))
    assert bench.cluster.execute(too_much).err == {"InstructionError": [2, {"Custom": 1}]}
    balance -= fee
    assert bench.cluster.execute(bench.signed(*budget, bench.pay(Keypair().pubkey(), balance - fee))).ok
    assert bench.lamports(bench.wallet.pubkey()) == 0


def test_a_failed_transaction_changes_nothing_but_the_fee() -> None:
    """It lands with its error, and what its first instruction did is taken back."""
    bench = Bench()
    to = Keypair().pubkey()
    before = bench.lamports(bench.wallet.pubkey())
    tx = bench.signed(bench.pay(to, SOL), bench.pay(to, 1_000 * SOL))
    result = bench.cluster.execute(tx)
    assert result.landed
    assert result.err == {"InstructionError": [1, {"Custom": 1}]}
    assert bench.lamports(to) == 0
    assert bench.lamports(bench.wallet.pubkey()) == before - 5_000


def test_preflight_refusal_leaves_no_trace() -> None:
    """The node's answer is -32002 with the error and the logs; nothing lands and no fee is paid."""
    bench = Bench()
    before = bench.lamports(bench.wallet.pubkey())
    tx = bench.signed(bench.pay(Keypair().pubkey(), 1_000 * SOL))
    error = bench.error("sendTransaction", encoded(tx), PROCESSED)
    assert error["code"] == -32002
    assert error["message"].endswith("Error processing Instruction 0: custom program error: 0x1")
    assert error["data"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert error["data"]["logs"][-1] == f"Program {SYSTEM} failed: custom program error: 0x1"
    assert bench.lamports(bench.wallet.pubkey()) == before
    assert bench.rpc("getSignatureStatuses", [str(tx.signatures[0])])["value"] == [None]


def test_the_same_transaction_never_runs_twice() -> None:
    """Sent again it is refused in preflight, and without preflight its signature comes back and nothing happens."""
    bench = Bench()
    to = Keypair().pubkey()
    tx = bench.signed(bench.pay(to, SOL))
    signature = bench.rpc("sendTransaction", encoded(tx), UNCHECKED)
    assert signature == bench.rpc("sendTransaction", encoded(tx), UNCHECKED)
    bench.cluster.advance(3)
    assert bench.rpc("sendTransaction", encoded(tx), UNCHECKED) == signature
    assert bench.error("sendTransaction", encoded(tx), PROCESSED)["data"]["err"] == "AlreadyProcessed"
    unsigned = VersionedTransaction.populate(tx.message, [Signature.default()])
    assert bench.rpc("simulateTransaction", encoded(unsigned), PROCESSED)["value"]["err"] == "AlreadyProcessed"
    assert bench.lamports(to) == SOL


def test_a_blockhash_is_good_for_150_blocks() -> None:
    """At the last valid height a transaction runs; one block later it is refused, and dropped without preflight."""
    bench = Bench()
    to = Keypair().pubkey()
    answer = bench.rpc("getLatestBlockhash", {"commitment": "processed"})["value"]
    blockhash = bench.cluster.latest_blockhash()
    assert answer["blockhash"] == str(blockhash)
    bench.cluster.advance(answer["lastValidBlockHeight"] - bench.cluster.block_height)
    assert bench.rpc("isBlockhashValid", str(blockhash), {"commitment": "processed"})["value"] is True
    assert bench.cluster.execute(bench.signed(bench.pay(to, SOL), blockhash=blockhash)).ok
    bench.cluster.advance()
    assert bench.rpc("isBlockhashValid", str(blockhash), {"commitment": "processed"})["value"] is False
    late = bench.signed(bench.pay(to, 2 * SOL), blockhash=blockhash)
    assert bench.error("sendTransaction", encoded(late), PROCESSED)["data"]["err"] == "BlockhashNotFound"
    assert bench.rpc("simulateTransaction", encoded(late), PROCESSED)["value"]["err"] == "BlockhashNotFound"
    assert bench.rpc("sendTransaction", encoded(late), UNCHECKED) == str(late.signatures[0])
    assert bench.lamports(to) == SOL
    replaced = bench.rpc("simulateTransaction", encoded(late), {**PROCESSED, "replaceRecentBlockhash": True})["value"]
    assert replaced["err"] is None
    assert replaced["replacementBlockhash"]["blockhash"] == str(bench.cluster.latest_blockhash())


def test_a_fresh_blockhash_is_unknown_to_an_older_view() -> None:
    """Preflight at the default commitment, finalized, does not know a blockhash of now."""
    bench = Bench()
    bench.cluster.advance(40)
    tx = bench.signed(bench.pay(Keypair().pubkey(), SOL))
    error = bench.error("sendTransaction", encoded(tx), {"encoding": "base64"})
    assert error["data"]["err"] == "BlockhashNotFound"


def test_rent_is_asked_of_every_writable_account() -> None:
    """An account left between nothing and the exempt minimum fails the transaction, with its index."""
    bench = Bench()
    to = Keypair().pubkey()
    short = bench.cluster.execute(bench.signed(bench.pay(to, 890_879)))
    assert short.err == {"InsufficientFundsForRent": {"account_index": 1}}
    assert bench.cluster.execute(bench.signed(bench.pay(to, 890_880))).ok
    bench.cluster.set_rent(1_740)
    assert bench.rpc("getMinimumBalanceForRentExemption", 0) == 445_440
    assert bench.cluster.execute(bench.signed(bench.pay(Keypair().pubkey(), 445_440))).ok


def test_a_payer_that_cannot_pay_never_lands() -> None:
    """No account, too little for the fee, or not exempt afterwards: refused in simulation, dropped when sent."""
    bench = Bench()
    poor = Keypair()
    message = MessageV0.try_compile(poor.pubkey(), [], [], bench.cluster.latest_blockhash())
    tx = VersionedTransaction(message, [poor])
    for lamports, err in (
        (0, "AccountNotFound"),
        (4_999, "InsufficientFundsForFee"),
        (890_880, {"InsufficientFundsForRent": {"account_index": 0}}),
    ):
        bench.cluster.set_account(poor.pubkey(), Account(lamports, b"", SYSTEM) if lamports else None)
        assert bench.rpc("simulateTransaction", encoded(tx), PROCESSED)["value"]["err"] == err
        bench.rpc("sendTransaction", encoded(tx), UNCHECKED)
        assert bench.lamports(poor.pubkey()) == lamports


def test_a_bad_signature_is_refused_or_dropped() -> None:
    """Preflight answers -32003; without it the node takes the bytes and no leader does."""
    bench = Bench()
    to = Keypair().pubkey()
    good = bench.signed(bench.pay(to, SOL))
    forged = VersionedTransaction.populate(good.message, [Keypair().sign_message(b"another")])
    assert bench.error("sendTransaction", encoded(forged), PROCESSED)["code"] == -32003
    assert bench.rpc("sendTransaction", encoded(forged), UNCHECKED) == str(forged.signatures[0])
    assert bench.lamports(to) == 0
    assert bench.rpc("simulateTransaction", encoded(forged), PROCESSED)["value"]["err"] is None


def test_the_three_commitments_show_0_1_and_32_blocks_back() -> None:
    """A payment is processed at once, confirmed a slot later, finalized 32 slots later."""
    bench = Bench()
    bench.cluster.advance(40)
    to = Keypair().pubkey()
    tx = bench.signed(bench.pay(to, SOL))
    bench.cluster.execute(tx)

    def seen() -> tuple[int, int, int, str]:
        balances = [bench.lamports(to, commitment) for commitment in ("processed", "confirmed", "finalized")]
        status = bench.rpc("getSignatureStatuses", [str(tx.signatures[0])])["value"][0]
        return balances[0], balances[1], balances[2], status["confirmationStatus"]

    assert seen() == (SOL, 0, 0, "processed")
    assert bench.rpc("getTransaction", str(tx.signatures[0]), {"commitment": "confirmed"}) is None
    bench.cluster.advance()
    assert seen() == (SOL, SOL, 0, "confirmed")
    bench.cluster.advance(30)
    assert seen()[2] == 0
    bench.cluster.advance()
    assert seen() == (SOL, SOL, SOL, "finalized")


def test_a_lagging_node_shows_the_past_and_honours_min_context_slot() -> None:
    """Twenty slots behind it knows nothing of the payment, and refuses to answer for a later slot."""
    bench = Bench()
    bench.cluster.advance(60)
    to = Keypair().pubkey()
    tx = bench.signed(bench.pay(to, SOL))
    bench.cluster.execute(tx)
    bench.cluster.advance(5)
    slot = bench.cluster.slot
    config = {"commitment": "processed"}
    assert bench.rpc("getBalance", str(to), config)["value"] == SOL
    behind = bench.rpc("getBalance", str(to), config, lag_slots=20)
    assert (behind["context"]["slot"], behind["value"]) == (slot - 20, 0)
    assert bench.rpc("getSignatureStatuses", [str(tx.signatures[0])], lag_slots=20)["value"] == [None]
    error = bench.error("getBalance", str(to), {**config, "minContextSlot": slot - 5}, lag_slots=20)
    assert (error["code"], error["data"]) == (-32016, {"contextSlot": slot - 20})


def test_simulation_on_an_older_view_runs_on_the_state_of_then() -> None:
    """At `confirmed` a payment of this slot is not there yet to be spent, and nothing of now is disturbed."""
    bench = Bench()
    bench.cluster.advance(40)
    middle = Keypair()
    blockhash = bench.cluster.bank.timeline.blockhash(bench.cluster.slot - 2)
    bench.cluster.execute(bench.signed(bench.pay(middle.pubkey(), SOL)))
    message = MessageV0.try_compile(middle.pubkey(), [], [], blockhash)
    tx = encoded(VersionedTransaction(message, [middle]))
    confirmed = bench.rpc("simulateTransaction", tx, {"encoding": "base64", "commitment": "confirmed"})
    assert confirmed["value"]["err"] == "AccountNotFound"
    assert bench.rpc("simulateTransaction", tx, PROCESSED)["value"]["err"] is None
    assert bench.lamports(middle.pubkey()) == SOL


def test_one_of_two_transactions_takes_the_lock() -> None:
    """The seeded account of the order lock: the second creation fails with custom 0 at its own instruction."""
    bench = Bench()
    base = bench.wallet.pubkey()
    lock = Pubkey.create_with_seed(base, "abc", SYSTEM)
    results = []
    for extra in (1, 2):
        create = create_account_with_seed(
            CreateAccountWithSeedParams(
                from_pubkey=base, to_pubkey=lock, base=base, seed="abc", lamports=890_880 + extra, space=0, owner=SYSTEM
            )
        )
        results.append(bench.cluster.execute(bench.signed(create, bench.pay(base, extra))))
    assert results[0].ok
    assert results[1].err == {"InstructionError": [0, {"Custom": 0}]}
    assert bench.lamports(lock) == 890_881


def test_a_closed_account_is_null() -> None:
    """An account emptied by a transaction is gone from reads and listings, and was there a slot before."""
    bench = Bench()
    other = Keypair()
    bench.cluster.airdrop(other.pubkey(), SOL)
    bench.cluster.advance(2)
    message = MessageV0.try_compile(
        other.pubkey(),
        [
            Instruction(
                SYSTEM,
                b"\x02\0\0\0" + (SOL - 5_000).to_bytes(8, "little"),
                [AccountMeta(other.pubkey(), True, True), AccountMeta(bench.wallet.pubkey(), False, True)],
            )
        ],
        [],
        bench.cluster.latest_blockhash(),
    )
    assert bench.cluster.execute(VersionedTransaction(message, [other])).ok
    key, config = str(other.pubkey()), {"encoding": "base64", "commitment": "processed"}
    assert bench.rpc("getAccountInfo", key, config)["value"] is None
    assert bench.rpc("getMultipleAccounts", [key], config)["value"] == [None]
    assert other.pubkey() not in [each for each, _ in bench.cluster.accounts_by_owner(SYSTEM)]
    assert bench.rpc("getAccountInfo", key, {**config, "commitment": "confirmed"})["value"]["lamports"] == SOL


def test_lookup_tables_are_resolved_and_their_rules_kept() -> None:
    """A table made by the program works a slot after it was extended; a missing one is refused."""
    bench = Bench()
    bench.cluster.advance(3)
    wallet, to = bench.wallet.pubkey(), Keypair().pubkey()
    recent = bench.cluster.slot - 1
    table, bump = Pubkey.find_program_address([bytes(wallet), recent.to_bytes(8, "little")], LOOKUP_TABLE_PROGRAM)
    metas = [AccountMeta(table, False, True), AccountMeta(wallet, True, False), AccountMeta(wallet, True, True)]
    metas.append(AccountMeta(SYSTEM, False, False))
    create = Instruction(LOOKUP_TABLE_PROGRAM, b"\0\0\0\0" + recent.to_bytes(8, "little") + bytes([bump]), metas)
    extend = Instruction(LOOKUP_TABLE_PROGRAM, b"\2\0\0\0" + (1).to_bytes(8, "little") + bytes(to), metas)
    made = bench.cluster.execute(bench.signed(create, extend))
    assert made.ok, made
    content = AddressLookupTableAccount(key=table, addresses=[to])
    early = bench.signed(bench.pay(to, SOL), tables=[content])
    assert bench.cluster.execute(early).err == "InvalidAddressLookupTableIndex"
    bench.cluster.advance()
    tx = bench.signed(bench.pay(to, SOL), tables=[content])
    assert len(tx.message.account_keys) == 2
    assert bench.cluster.execute(tx).ok
    assert bench.lamports(to) == SOL
    bench.cluster.advance()
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    meta = bench.rpc("getTransaction", str(tx.signatures[0]), config)["meta"]
    assert meta["loadedAddresses"] == {"writable": [str(to)], "readonly": []}
    assert meta["postBalances"][-1] == SOL
    missing = AddressLookupTableAccount(key=Keypair().pubkey(), addresses=[to])
    refused = bench.cluster.execute(bench.signed(bench.pay(to, 2 * SOL), tables=[missing]))
    assert (refused.landed, refused.err) == (False, "AddressLookupTableNotFound")


def test_slots_and_chain_time_follow_the_clock() -> None:
    """In virtual time, 100 slots of 400 ms take 40 seconds of the chain's clock, and block times say so."""

    async def run() -> None:
        clock = VirtualClock(3)
        cluster = Cluster(clock, ClusterConfig(slot_time_ms=400))
        slots: list[int] = []
        cluster.on_slot(slots.append)
        slot, time_s = cluster.slot, cluster.unix_timestamp
        await cluster.start()
        await clock.sleep(40.1)
        await cluster.aclose()
        assert (cluster.slot - slot, cluster.unix_timestamp - time_s) == (100, 40)
        assert slots == list(range(slot + 1, slot + 101))

    run_virtual(run())


def test_a_warp_moves_slots_heights_and_time() -> None:
    """Skipped slots move no block height; blocks do, and expire blockhashes."""
    bench = Bench()
    blockhash = bench.cluster.latest_blockhash()
    height, slot, time_s = bench.cluster.block_height, bench.cluster.slot, bench.cluster.unix_timestamp
    bench.cluster.warp(100, seconds=3_600, blocks=False)
    assert (bench.cluster.slot, bench.cluster.block_height) == (slot + 100, height + 1)
    assert bench.cluster.unix_timestamp == time_s + 3_600
    assert bench.cluster.bank.timeline.is_valid(blockhash, bench.cluster.slot)
    assert bench.rpc("getSlot", {"commitment": "confirmed"}) == slot
    bench.cluster.warp(150)
    assert bench.cluster.block_height == height + 151
    assert not bench.cluster.bank.timeline.is_valid(blockhash, bench.cluster.slot)


def test_a_fork_takes_the_last_slots_back() -> None:
    """The payment, its record and its status vanish; the same bytes may land again."""
    bench = Bench()
    bench.cluster.advance(40)
    to = Keypair().pubkey()
    tx = bench.signed(bench.pay(to, SOL))
    bench.cluster.advance()
    bench.cluster.execute(tx)
    bench.cluster.advance()
    slot = bench.cluster.slot
    assert bench.cluster.fork(2) == (str(tx.signatures[0]),)
    assert bench.cluster.slot == slot + 1
    assert bench.lamports(to) == 0
    assert bench.rpc("getSignatureStatuses", [str(tx.signatures[0])])["value"] == [None]
    assert bench.cluster.execute(tx).ok
    assert bench.lamports(to) == SOL
