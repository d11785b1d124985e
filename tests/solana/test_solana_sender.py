"""Building, simulating and signing over a real runtime: nothing signed leaves before `submit`; errors have classes."""

from __future__ import annotations

import msgspec
import pybase64
import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from providers.base.errors import (
    AccountMissing,
    BadAnswer,
    ConnectionFailed,
    ErrorClass,
    FeePayerShort,
    LiveTradingOff,
    NodeBehind,
    Phase,
    ProviderError,
    RequestRejected,
    SignerRefused,
    UnknownCode,
    UnsupportedProgram,
    WorstPriceNotMet,
)
from providers.base.types import LockRef, Purpose
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster, SolanaSettings
from providers.solana.errors import ForeignLockBase, LockHeld
from providers.solana.lock import lock_address, lock_instruction
from providers.solana.pool import NodePool
from providers.solana.proofs import Landed, Superseded
from providers.solana.sender import Sender
from providers.solana.settings import MAINNET_GENESIS
from providers.solana.signer import KeypairSigner
from tests.solana.solana_world import (
    SETTINGS,
    SOL,
    STRANGER,
    VENUE,
    WALLET,
    Json,
    LyingTransport,
    World,
    pay,
    run_world,
    terms_of,
    unclassified,
    with_logs,
)

SYSTEM = Pubkey.default()


def signatures_in(body: bytes) -> list[bytes]:
    """Return the signatures of the transaction that a request carries."""
    request = msgspec.json.decode(body, type=dict[str, Json])
    wire = pybase64.b64decode(request["params"][0])
    return [bytes(each) for each in VersionedTransaction.from_bytes(wire).signatures]


def test_only_an_unsigned_message_is_shown_before_submit() -> None:
    """Every transaction that leaves during `prepare` has zeroed signatures, is simulated and never sent."""

    async def story(world: World) -> None:
        node = world.transports[0]
        submission = await world.attempt(await world.lock())
        simulated = [
            body for method, body in zip(node.asked, node.sent, strict=True) if method == "simulateTransaction"
        ]
        assert [signatures_in(body) for body in simulated] == [[bytes(64)]]
        assert b'"sigVerify":false' in simulated[0]
        assert b'"replaceRecentBlockhash":false' in simulated[0]
        assert "sendTransaction" not in node.asked
        signed = decode_body(submission).signed
        assert not [body for body in node.sent if pybase64.b64encode(signed[1:65])[:40] in body]
        await world.solana.sender.submit(submission)
        last = node.sent[-1]
        assert node.asked[-1] == "sendTransaction"
        assert pybase64.b64encode(signed) in last
        assert b'"skipPreflight":true' in last
        assert b'"maxRetries":0' in last

    run_world(story)


def test_the_message_has_budget_lock_and_venue_in_this_order() -> None:
    """Compute limit (simulated use plus margin) and price lead, the lock is ahead of every venue instruction."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock, 7)
        body = decode_body(submission)
        transaction = VersionedTransaction.from_bytes(body.signed)
        transaction.verify_and_hash_message()
        message = transaction.message
        assert isinstance(message, MessageV0)
        limit, price, locking, venue = message.instructions
        units = int.from_bytes(limit.data[1:5], "little")
        # Two budget instructions and two of the system program use 150 units each.
        assert units == 600 + 600 * SETTINGS.compute_margin_percent // 100
        assert int.from_bytes(price.data[1:9], "little") == SETTINGS.priority_fee_floor
        assert body.lock_instruction_index == 2
        assert message.account_keys[locking.accounts[1]] == lock_address(lock)
        assert int.from_bytes(locking.data[-48:-40], "little") == lock.terms.base_lamports + 7
        assert message.account_keys[venue.accounts[1]] == VENUE
        assert body.venue == msgspec.Raw(b'{"kind":"transfer"}')
        assert submission.handle == str(transaction.signatures[0])
        assert submission.lock == lock
        assert body.genesis_hash == str(world.chain.genesis_hash)

    run_world(story)


def test_two_attempts_never_have_the_same_bytes() -> None:
    """Equal instructions, equal blockhash, no lock: signatures differ; with a lock they differ by the number."""

    async def story(world: World) -> None:
        free = [await world.attempt(None) for _ in range(4)]
        lock = await world.lock()
        locked = [await world.attempt(lock, number) for number in (1, 2)]
        fences = [await world.solana.lock.prepare_fence(lock), await world.attempt(lock, 3)]
        handles = [each.handle for each in (*free, *locked, *fences)]
        assert len(set(handles)) == len(handles)
        for each in free:
            await world.solana.sender.submit(each)
        await world.slots(2)
        assert world.venue_fills() == 4

    run_world(story)


def test_a_held_lock_is_found_in_the_simulation() -> None:
    """Custom 0 at the lock instruction is `LockHeld`, class connection, nothing sent."""

    async def story(world: World) -> None:
        lock = await world.lock()
        await world.solana.sender.submit(await world.attempt(lock))
        await world.slots(2)
        with pytest.raises(LockHeld) as raised:
            await world.attempt(lock, 2)
        info = raised.value.info()
        assert (info.code, info.error_class, info.phase) == ("lock_held", ErrorClass.CONNECTION, Phase.NOT_SENT)
        assert info.raw_code == "0"

    run_world(story)


def test_custom_zero_at_a_venue_instruction_is_the_venues_and_not_the_locks() -> None:
    """The same code from the same program at another instruction goes to the venue's own table."""

    async def story(world: World) -> None:
        other = LockRef(terms=terms_of(WALLET.pubkey()), part=0, generation=0)
        lock = await world.lock()
        world.chain.airdrop(lock_address(other), SOL)
        await world.slots(2)
        with pytest.raises(UnknownCode) as raised:
            await world.attempt(lock, instructions=(lock_instruction(other, payer=WALLET.pubkey(), number=1),))
        assert raised.value.raw_code == "0"
        assert raised.value.raw_name == str(SYSTEM)

    run_world(story)


@pytest.mark.parametrize("lamports", [0, 4_000, 891_000, 1_785_000])
def test_a_wallet_without_sol_is_fee_payer_short(lamports: int) -> None:
    """No account, no fee, no lock, no rent left over: each is `fee_payer_short`, and nothing is signed."""

    async def story(world: World) -> None:
        poor = Keypair()
        if lamports:
            world.chain.airdrop(poor.pubkey(), max(lamports, 890_880))
            await world.slots(2)
        if 0 < lamports < 890_880:
            # No transfer leaves so little behind, so it is written past the rules.
            world.chain.set_account(poor.pubkey(), Account(lamports, b"", SYSTEM))
            await world.slots(2)
        cluster = SolanaCluster(world.solana.pool, KeypairSigner(bytes(poor)), world.clock, SETTINGS)
        lock = LockRef(terms=await cluster.lock.new_terms(), part=0, generation=0)
        world.transports[0].sent.clear()
        with pytest.raises(FeePayerShort) as raised:
            await cluster.lock.prepare_fence(lock)
        assert raised.value.phase is Phase.NOT_SENT

    run_world(story)


def test_an_open_leaves_the_reserve_and_a_close_may_use_it() -> None:
    """Below the SOL reserve opens are refused as `fee_payer_short` while closes and fences go on."""

    async def story(world: World) -> None:
        wallet = Keypair()
        world.chain.airdrop(wallet.pubkey(), SETTINGS.sol_reserve_lamports)
        await world.slots(2)
        cluster = SolanaCluster(world.solana.pool, KeypairSigner(bytes(wallet)), world.clock, SETTINGS)
        world.solana = cluster
        lock = await world.lock()
        instructions = (pay(wallet.pubkey(), VENUE, 1_000),)
        with pytest.raises(FeePayerShort):
            await world.attempt(lock, instructions=instructions)
        close = await world.attempt(lock, 2, purpose=Purpose.CLOSE, instructions=instructions)
        await cluster.sender.submit(close)
        await world.slots(3)
        assert isinstance(await cluster.proofs.examine(close), Landed)

    run_world(story)


def test_a_node_that_does_not_know_the_blockhash_is_passed_over() -> None:
    """The simulation goes to the next node when one answers `BlockhashNotFound`; alone it is `node_behind`."""

    async def story(world: World) -> None:
        def unknown(result: Json, _: list[Json]) -> Json:
            return {**result, "value": {"err": "BlockhashNotFound", "logs": [], "unitsConsumed": 0}}

        world.transports[0].lies = {"simulateTransaction": unknown}
        assert (await world.attempt(await world.lock())).handle
        world.transports[1].lies = {"simulateTransaction": unknown}
        with pytest.raises(NodeBehind) as raised:
            await world.attempt(await world.lock())
        assert raised.value.phase is Phase.NOT_SENT

    run_world(story, nodes=2)


def test_a_venue_may_refuse_what_complete_logs_of_a_simulation_show() -> None:
    """The venue's look gets the logs and what it raises is the refusal; without complete logs it is not asked."""

    async def story(world: World) -> None:
        seen: list[tuple[str, ...]] = []

        def refuse(logs: tuple[str, ...]) -> None:
            seen.append(logs)
            raise WorstPriceNotMet("nothing would fill")

        node = world.transports[0]
        lock = await world.lock()
        with pytest.raises(WorstPriceNotMet) as raised:
            await world.attempt(lock, inspect=refuse)
        assert raised.value.phase is Phase.NOT_SENT
        assert seen[0][-1] == "Program 11111111111111111111111111111111 success"
        assert "sendTransaction" not in node.asked
        for logs in (None, [], list(seen[0][:-1]), [*seen[0], "Log truncated"]):
            node.lies["simulateTransaction"] = with_logs(logs)
            assert (await world.attempt(lock, inspect=refuse)).handle
        assert len(seen) == 1

    run_world(story)


def test_a_lagging_node_is_not_asked_to_simulate() -> None:
    """A node twenty slots behind cannot simulate what was built on a newer blockhash: another node does."""

    async def story(world: World) -> None:
        await world.slots(30)
        world.fault("stale", node="node0", method="simulateTransaction", slots=20, count=None)
        submission = await world.attempt(await world.lock())
        assert ("node0", "stale") in world.faults.struck
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story, nodes=2)


@pytest.mark.parametrize(
    ("err", "expected"),
    [
        ("AccountNotFound", FeePayerShort),
        ("InsufficientFundsForFee", FeePayerShort),
        ({"InsufficientFundsForRent": {"account_index": 0}}, FeePayerShort),
        ({"InstructionError": [2, {"Custom": 0}]}, LockHeld),
        ({"InstructionError": [2, {"Custom": 1}]}, FeePayerShort),
        ({"InstructionError": [2, {"Custom": 5}]}, RequestRejected),
        ({"InstructionError": [2, "MissingRequiredSignature"]}, RequestRejected),
        ({"InstructionError": [0, "InvalidInstructionData"]}, RequestRejected),
        ({"InstructionError": [3, {"Custom": 0}]}, UnknownCode),
        ({"InstructionError": [3, "ProgramFailedToComplete"]}, UnknownCode),
        ("ProgramAccountNotFound", UnsupportedProgram),
        ("AlreadyProcessed", RequestRejected),
        ("SomethingNobodyKnows", UnknownCode),
        ({"SomethingNobodyKnows": {"with": 1}}, UnknownCode),
        (17, BadAnswer),
        ([], BadAnswer),
        ({}, BadAnswer),
        ({"InstructionError": [99, {"Custom": 0}]}, BadAnswer),
        ({"InstructionError": [-9, {"Custom": 0}]}, BadAnswer),
        ({"InstructionError": "junk"}, BadAnswer),
        ({"InstructionError": [2, {"Custom": "junk"}]}, BadAnswer),
    ],
)
def test_every_answer_of_a_simulation_has_its_class(err: Json, expected: type[ProviderError]) -> None:
    """The runtime's own errors are classed by name and index, broken ones are `bad_answer`; none of them was sent."""

    async def story(world: World) -> None:
        world.transports[0].lies = {
            "simulateTransaction": lambda result, _: {**result, "value": {"err": err, "logs": [], "unitsConsumed": 9}}
        }
        with pytest.raises(expected) as raised:
            await world.attempt(await world.lock())
        assert type(raised.value) is expected
        assert raised.value.phase is Phase.NOT_SENT
        assert "sendTransaction" not in world.transports[0].asked

    run_world(story)


def test_a_simulation_that_does_not_say_what_it_used_is_a_broken_answer() -> None:
    """Without the units consumed there is no compute limit to set."""

    async def story(world: World) -> None:
        world.transports[0].lies = {
            "simulateTransaction": lambda result, _: {**result, "value": {"err": None, "logs": []}}
        }
        with pytest.raises(BadAnswer):
            await world.attempt(await world.lock())

    run_world(story)


@pytest.mark.parametrize(
    "kind",
    ["refused", "dropped_before", "cut_before", "http_429", "http_503_before", "html", "null", "wrong_id", "truncated"],
)
@pytest.mark.parametrize(
    "method",
    [
        "getLatestBlockhash",
        "getBlockHeight",
        "getRecentPrioritizationFees",
        "getMultipleAccounts",
        "simulateTransaction",
    ],
)
def test_before_sending_another_node_stands_in_for_a_broken_one(kind: str, method: str) -> None:
    """Whatever one node answers to whichever read, the other makes the attempt possible."""

    async def story(world: World) -> None:
        world.fault(kind, method=method, node="node0", count=None)
        submission = await world.attempt(await world.lock())
        world.faults.clear()
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story, nodes=2)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("refused", "unreachable"),
        ("dropped_before", "timed_out"),
        ("http_429", "rate_limited"),
        ("http_503_before", "server_error"),
        ("html", "bad_answer"),
        ("null", "bad_answer"),
        ("wrong_id", "bad_answer"),
        ("truncated", "bad_answer"),
        ("internal_error", "server_error"),
        ("behind", "node_behind"),
    ],
)
def test_when_no_node_answers_the_error_is_connection_and_nothing_was_sent(kind: str, code: str) -> None:
    """Each broken answer has its leaf; the phase is `not_sent`, since a read is no part of any order."""

    async def story(world: World) -> None:
        lock = await world.lock()
        await world.slots(30)
        await world.solana.pool.slot()
        world.fault(kind, method="simulateTransaction", slots=20, count=None)
        with pytest.raises(ConnectionFailed) as raised:
            await world.attempt(lock)
        assert (raised.value.code, raised.value.phase) == (code, Phase.NOT_SENT)
        assert raised.value.error_class is ErrorClass.CONNECTION

    run_world(story)


def test_a_changed_key_is_a_clear_error_and_only_expiry_is_left() -> None:
    """The order's lock belongs to the old key: neither an attempt nor a fence can be made with a new one."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        other = SolanaCluster(world.solana.pool, KeypairSigner(bytes(STRANGER)), world.clock, SETTINGS)
        for making in (
            other.lock.prepare_fence(lock),
            other.sender.prepare(
                provider="transfer",
                purpose=Purpose.OPEN,
                instructions=(pay(STRANGER.pubkey(), VENUE, 1),),
                lock=lock,
                number=2,
                size=submission.size,
                may_fill_until=None,
                venue=b"null",
                classify=unclassified,
            ),
        ):
            with pytest.raises(ForeignLockBase) as raised:
                await making
            assert str(WALLET.pubkey()) in raised.value.detail
            assert raised.value.phase is Phase.NOT_SENT
        assert await other.lock.prepare_reclaim([lock]) is None
        # The old attempt is still settled, by whoever has the journal.
        await other.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await other.proofs.examine(submission), Landed)

    run_world(story)


def test_a_key_change_with_the_old_key_as_co_signer_keeps_the_lock() -> None:
    """A provider whose own key pays co-signs with the lock key, and the lock still excludes."""

    async def story(world: World) -> None:
        lock = await world.lock()
        sender = Sender(
            world.solana.pool, KeypairSigner(bytes(STRANGER)), world.clock, SETTINGS, co_signers=[world.signer]
        )
        theirs = await sender.prepare(
            provider="other",
            purpose=Purpose.OPEN,
            instructions=(pay(STRANGER.pubkey(), VENUE, 1_000),),
            lock=lock,
            number=2,
            size=(await world.attempt(lock)).size,
            may_fill_until=None,
            venue=b"null",
            classify=unclassified,
        )
        ours = await world.attempt(lock)
        await sender.submit(theirs)
        await world.solana.sender.submit(ours)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(theirs), Landed)
        lost = await world.solana.proofs.examine(ours)
        assert isinstance(lost, Superseded)
        assert lost.holder == theirs.handle

    run_world(story)


def test_a_transaction_that_needs_a_foreign_signature_is_refused() -> None:
    """Instructions that ask for somebody else's signature are never half signed."""

    async def story(world: World) -> None:
        with pytest.raises(SignerRefused):
            await world.attempt(None, instructions=(pay(STRANGER.pubkey(), VENUE, 1),))

    run_world(story)


def test_mainnet_needs_its_second_switch() -> None:
    """By the genesis hash, whatever the network was called: without live trading nothing is signed, reads work."""

    async def story(world: World) -> None:
        world.transports[0].lies = {"getGenesisHash": lambda *_: MAINNET_GENESIS}

        def cluster(*, live: bool) -> SolanaCluster:
            settings = SolanaSettings(live_trading=live)
            return SolanaCluster.of_transports(world.transports, world.signer, world.clock, settings)

        world.solana = cluster(live=False)
        lock = await world.lock()
        with pytest.raises(LiveTradingOff):
            await world.attempt(lock)
        with pytest.raises(LiveTradingOff):
            await world.solana.lock.prepare_fence(lock)
        assert "simulateTransaction" not in world.transports[0].asked
        assert (await world.solana.pool.accounts([VENUE])).accounts[0] is not None
        world.solana = cluster(live=True)
        assert (await world.attempt(lock)).handle

    run_world(story)


def test_without_a_key_the_service_reads_and_refuses_to_prepare() -> None:
    """No signer: reads and lock states work, everything that would sign is `live_trading_off`."""

    async def story(world: World) -> None:
        lock = await world.lock()
        world.solana = SolanaCluster(world.solana.pool, None, world.clock, SETTINGS)
        with pytest.raises(LiveTradingOff):
            await world.attempt(lock)
        with pytest.raises(LiveTradingOff):
            await world.solana.lock.new_terms()
        assert (await world.solana.lock.state(lock)).held is False

    run_world(story)


def test_a_lookup_table_shortens_the_message_and_its_accounts_are_in_the_record() -> None:
    """Accounts come through a table, and the record lists them after the static ones with their balances."""

    async def story(world: World) -> None:
        table, others = Pubkey.new_unique(), [Pubkey.new_unique() for _ in range(20)]
        # Kind 1, never deactivated, extended in slot 1, no authority; 56 bytes, and then the addresses.
        meta = b"\1\0\0\0" + b"\xff" * 8 + (1).to_bytes(8, "little") + bytes(36)
        program = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
        world.chain.set_account(table, Account(SOL, meta + b"".join(map(bytes, (VENUE, *others))), program))
        await world.slots(2)
        plain = pay(WALLET.pubkey(), VENUE, 1_000)
        metas = [AccountMeta(key, is_signer=False, is_writable=False) for key in others]
        wide = Instruction(plain.program_id, plain.data, [*plain.accounts, *metas])
        direct = await world.attempt(await world.lock(), instructions=(wide,))
        short = await world.attempt(await world.lock(), instructions=(wide,), lookup_tables=(table,))
        assert len(decode_body(short).signed) < len(decode_body(direct).signed) - 500
        await world.solana.sender.submit(short)
        await world.slots(3)
        found = await world.solana.proofs.examine(short)
        assert isinstance(found, Landed)
        record = found.record
        assert set(others) <= set(record.account_keys)
        index = record.account_keys.index(VENUE)
        assert record.post_balances[index] - record.pre_balances[index] == 1_000
        with pytest.raises(AccountMissing):
            await world.attempt(await world.lock(), lookup_tables=(Pubkey.new_unique(),))

    run_world(story)


def test_a_transaction_that_does_not_fit_a_packet_is_our_bug() -> None:
    """Too many accounts for 1,232 bytes: refused before anything is asked to simulate."""

    async def story(world: World) -> None:
        metas = [AccountMeta(Pubkey.new_unique(), is_signer=False, is_writable=False) for _ in range(40)]
        with pytest.raises(RequestRejected):
            await world.attempt(None, instructions=(Instruction(SYSTEM, b"\2\0\0\0", metas),))
        assert "simulateTransaction" not in world.transports[0].asked

    run_world(story)


def test_a_venue_with_its_own_nodes_reads_there_and_is_fenced_everywhere() -> None:
    """Reads, simulation and the first send use the venue's node; rebroadcasts and fences use all."""

    async def story(world: World) -> None:
        own = LyingTransport(world.transports[0]._inner)
        cluster = world.solana.with_read_pool(NodePool([own], world.clock))
        world.solana = cluster
        lock = await world.lock()
        shared = world.transports[0]
        shared.asked.clear()
        submission = await world.attempt(lock)
        assert set(shared.asked) <= {"getBlockHeight", "getLatestBlockhash", "getGenesisHash"}
        assert "simulateTransaction" in own.asked
        world.fault("dropped_before", method="sendTransaction")
        await cluster.sender.submit(submission)
        assert "sendTransaction" not in shared.asked
        fence = await cluster.lock.prepare_fence(lock)
        await cluster.lock.submit(fence)
        assert "sendTransaction" in shared.asked
        assert own.asked.count("sendTransaction") == 1
        ack = await cluster.sender.submit(submission)
        assert ack.accepted == 2
        await world.slots(3)
        found = await cluster.proofs.examine(submission)
        assert isinstance(found, Superseded)
        assert found.holder == fence.handle
        assert world.venue_fills() == 0

    run_world(story)


def test_the_priority_fee_follows_what_recent_blocks_paid() -> None:
    """A high price on the written account is met up to the cap; a node without the method means the floor."""

    async def story(world: World) -> None:
        def price_of(signed: bytes) -> int:
            message = VersionedTransaction.from_bytes(signed).message
            return int.from_bytes(message.instructions[1].data[1:9], "little")

        node = world.transports[0]
        for paid, expected in ((50_000, 50_000), (10**12, SETTINGS.priority_fee_cap), (3, SETTINGS.priority_fee_floor)):
            node.lies = {
                "getRecentPrioritizationFees": lambda *_, paid=paid: [
                    {"slot": slot, "prioritizationFee": paid} for slot in range(150)
                ]
            }
            assert price_of(decode_body(await world.attempt(await world.lock())).signed) == expected
        node.lies = {}
        world.fault("internal_error", method="getRecentPrioritizationFees", count=None)
        signed = decode_body(await world.attempt(await world.lock())).signed
        assert price_of(signed) == SETTINGS.priority_fee_floor

    run_world(story)
