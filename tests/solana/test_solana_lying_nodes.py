"""A node that lies changes no outcome: every lie, put to every question, beside one honest node and beside two.

With a liar among two nodes the answer is the truth, or that nothing is proven yet; with a liar among three it is the
truth, save where `WAITS` says that it waits. The only lie that is believed, and not for good, is in `BELIEVED`. Where
the liar is taken away it is the truth.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from solders.hash import Hash
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from providers.base.types import LockRef, Purpose, Submission
from providers.solana.account_history import lines_after
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster
from providers.solana.lock import lock_address
from providers.solana.proofs import Expired, FailedOnChain, Landed, Superseded, Unclear
from tests.solana.solana_world import VENUE, Json, World, run_world

UNCLEAR = "unclear"
Lies = dict[str, Callable[[Json, list[Json]], Json]]


@dataclass
class Case:
    """An attempt of which something is true, and what else a liar may need to know."""

    world: World
    submission: Submission
    lock: LockRef | None
    fence: Submission | None = None
    landed: bool = False
    mark: str = ""


# --- lies -------------------------------------------------------------------------------------------------------------


def nothing_there(result: Json, _: list[Json]) -> Json:
    """Say that there is nothing, whatever was asked for."""
    if isinstance(result, dict) and isinstance(result.get("value"), list):
        return {**result, "value": [None for _ in result["value"]]}
    return [] if isinstance(result, list) else None


def ahead(by: int) -> Callable[[Json, list[Json]], Json]:
    """Raise a number, a context's slot, or a last valid height; what a slot is too high for is nothing there."""

    def lie(result: Json, params: list[Json]) -> Json:
        if isinstance(result, int):
            return result + by
        if result is None:
            return {"context": {"slot": params[1]["minContextSlot"] + by}, "value": [None for _ in params[0]]}
        value = result["value"]
        if isinstance(value, dict) and "lastValidBlockHeight" in value:
            value = {**value, "lastValidBlockHeight": value["lastValidBlockHeight"] + by}
        return {"context": {**result["context"], "slot": result["context"]["slot"] + by}, "value": value}

    return lie


def pruned(case: Case) -> Lies:
    """Serve no history, and say so."""
    return {
        "getTransaction": nothing_there,
        "getSignaturesForAddress": nothing_there,
        "getSignatureStatuses": nothing_there,
        "getFirstAvailableBlock": lambda *_: case.world.chain.slot,
    }


def hiding(case: Case) -> Lies:
    """Deny transactions, history and accounts."""
    del case
    return dict.fromkeys(
        ("getTransaction", "getSignaturesForAddress", "getSignatureStatuses", "getMultipleAccounts"), nothing_there
    )


def running_ahead(case: Case) -> Lies:
    """Claim slots and heights that are far past every expiry, and show nothing there."""
    far = ahead(5_000)
    return hiding(case) | {
        "getSlot": far,
        "getBlockHeight": far,
        "getLatestBlockhash": far,
        "getMultipleAccounts": lambda result, params: far(nothing_there(result, params), params),
    }


def slots_for_heights(case: Case) -> Lies:
    """Give slots where heights are asked for, on a cluster that has skipped twenty million."""
    return hiding(case) | {"getBlockHeight": ahead(20_000_000)}


def standing_still(case: Case) -> Lies:
    """Go on with the slot and the height of now for ever."""
    slot, height = case.world.chain.slot, case.world.chain.block_height
    return hiding(case) | {
        "getSlot": lambda *_: slot,
        "getBlockHeight": lambda *_: height,
        "getLatestBlockhash": lambda result, _: {
            "context": {"slot": slot},
            "value": {**result["value"], "lastValidBlockHeight": height + 150},
        },
    }


def foreign(case: Case) -> Lies:
    """Belong to another cluster, and know nothing of ours."""
    other = str(Hash.new_unique())
    return running_ahead(case) | {"getGenesisHash": lambda *_: other}


def on_another_fork(case: Case) -> Lies:
    """Say that what landed failed, and that what failed landed."""
    del case

    def other_end(result: Json, _: list[Json]) -> Json:
        if result is None:
            return None
        failed = result["meta"]["err"] is not None
        err = None if failed else {"InstructionError": [3, {"Custom": 1}]}
        return {**result, "meta": {**result["meta"], "err": err}}

    def other_lines(result: Json, _: list[Json]) -> Json:
        return [{**line, "err": {"InstructionError": [3, {"Custom": 1}]}} for line in result]

    return {"getTransaction": other_end, "getSignaturesForAddress": other_lines}


def losing_status(case: Case) -> Lies:
    """Give statuses of a fork that lost: finalized, for what never landed, and failed for what did."""
    err = {"InstructionError": [3, {"Custom": 1}]} if case.landed else None
    status = {"slot": 1, "confirmations": None, "err": err, "confirmationStatus": "finalized"}
    return {"getSignatureStatuses": lambda result, params: {**result, "value": [status for _ in params[0]]}}


def claimed_fence(case: Case) -> Lies:
    """Show a fence, sent and never landed, as the transaction that took the lock."""
    if case.fence is None or case.lock is None:
        return {}
    address, fence = lock_address(case.lock), case.fence
    body, slot = decode_body(fence), case.world.chain.slot
    shown = transaction_of(body.signed, slot, took=str(address))
    held = {
        "data": ["", "base64"],
        "executable": False,
        "lamports": case.lock.terms.base_lamports,
        "owner": "11111111111111111111111111111111",
        "rentEpoch": 0,
        "space": 0,
    }
    lines = [{"signature": fence.handle, "slot": slot, "err": None, "memo": None, "blockTime": None}]
    return {
        "getTransaction": lambda _, params: shown if params[0] == fence.handle else None,
        "getMultipleAccounts": lambda result, params: {
            **result,
            "value": [
                held if key == str(address) else each for key, each in zip(params[0], result["value"], strict=True)
            ],
        },
        "getSignaturesForAddress": lambda result, params: lines if params[0] == str(address) else result,
    }


def other_bytes(case: Case) -> Lies:
    """Show other bytes, and an error, under the attempt's signature."""

    def altered(result: Json, params: list[Json]) -> Json:
        if params[0] != case.submission.handle:
            return result
        signed = bytearray(decode_body(case.submission).signed)
        signed[-2] ^= 1
        return transaction_of(bytes(signed), case.world.chain.slot, took=None)

    return {"getTransaction": altered}


def invented_history(case: Case) -> Lies:
    """Put a transaction in front of every history, and leave out the newest one."""
    line = {"signature": str(Signature.new_unique()), "err": None, "memo": None, "blockTime": None}
    return {
        "getSignaturesForAddress": lambda result, _: [{**line, "slot": max(case.world.chain.slot - 40, 0)}, *result[1:]]
    }


def nonsense(case: Case) -> Lies:
    """Answer in shapes that no method has."""
    del case
    return dict.fromkeys(
        ("getTransaction", "getSlot", "getBlockHeight", "getMultipleAccounts", "getSignaturesForAddress"),
        lambda *_: {"value": "yes"},
    )


LIES: dict[str, Callable[[Case], Lies]] = {
    "pruned": pruned,
    "hiding": hiding,
    "running ahead": running_ahead,
    "slots for heights": slots_for_heights,
    "standing still": standing_still,
    "of another cluster": foreign,
    "on another fork": on_another_fork,
    "a status of a losing fork": losing_status,
    "a fence claimed as landed": claimed_fence,
    "other bytes under the signature": other_bytes,
    "an invented history": invented_history,
    "nonsense": nonsense,
}


def transaction_of(signed: bytes, slot: int, *, took: str | None) -> Json:
    """Return an answer of `getTransaction` about bytes: they took an account's balance from zero, or failed."""
    keys = [str(key) for key in VersionedTransaction.from_bytes(signed).message.account_keys]
    post = [900_000 if key == took else 1 for key in keys]
    pre = [0 if key == took else 1 for key in keys]
    err = None if took else {"InstructionError": [0, {"Custom": 1}]}
    meta = {"err": err, "fee": 5_000, "preBalances": pre, "postBalances": post, "logMessages": []}
    return {"slot": slot, "transaction": [b64encode(signed).decode(), "base64"], "meta": meta, "blockTime": None}


# --- questions --------------------------------------------------------------------------------------------------------


async def landed(world: World) -> Case:
    """Make an attempt that executed."""
    lock = await world.lock()
    submission = await world.attempt(lock)
    await world.solana.sender.submit(submission)
    await world.slots(5)
    return Case(world, submission, lock, landed=True)


async def failed(world: World) -> Case:
    """Make an attempt that landed with an error."""
    lock = await world.lock()
    submission = await world.attempt(lock, lamports=50 * 10**9)
    await world.solana.sender.submit(await world.attempt(None, lamports=60 * 10**9))
    await world.solana.sender.submit(submission)
    await world.slots(5)
    return Case(world, submission, lock, landed=True)


async def failed_without_lock(world: World) -> Case:
    """Make an attempt without a lock that landed with an error."""
    submission = await world.attempt(None, lamports=50 * 10**9)
    await world.solana.sender.submit(await world.attempt(None, lamports=60 * 10**9))
    await world.solana.sender.submit(submission)
    await world.slots(5)
    return Case(world, submission, None, landed=True)


async def absent(world: World) -> Case:
    """Make an attempt that is nowhere and may still land, and a fence that is nowhere either."""
    lock = await world.lock()
    submission = await world.attempt(lock)
    return Case(world, submission, lock, fence=await world.solana.lock.prepare_fence(lock))


async def expired(world: World) -> Case:
    """Make an attempt that never landed and never can."""
    case = await absent(world)
    await world.expire()
    return case


async def expired_without_lock(world: World) -> Case:
    """Make an attempt without a lock that never landed and never can."""
    submission = await world.attempt(None)
    await world.expire()
    await world.slots(32)
    return Case(world, submission, None)


async def fenced(world: World) -> Case:
    """Make an attempt that our fence has shut out."""
    case = await absent(world)
    assert case.fence is not None
    await world.solana.lock.submit(case.fence)
    await world.slots(5)
    return case


async def finalized(world: World) -> Case:
    """Make an attempt that executed long ago."""
    case = await landed(world)
    await world.slots(60)
    return case


async def long_failed(world: World) -> Case:
    """Make an attempt that failed long ago."""
    case = await failed(world)
    await world.slots(60)
    return case


async def with_history(world: World) -> Case:
    """Make an account with a known past, and something that happened since."""
    first = await landed(world)
    submission = await world.attempt(None, purpose=Purpose.DEPOSIT)
    await world.solana.sender.submit(submission)
    await world.slots(45)
    return Case(world, submission, None, landed=True, mark=first.submission.handle)


async def examined(case: Case) -> str:
    """Say what became of the attempt."""
    fence = () if case.fence is None else (case.fence.handle,)
    match await case.world.solana.proofs.examine(case.submission, fence):
        case Landed():
            return "landed"
        case FailedOnChain(failure=failure):
            return f"failed {failure.code}"
        case Superseded(holder=holder):
            return "fenced" if case.fence is not None and holder == case.fence.handle else f"superseded by {holder}"
        case Expired():
            return "expired"
        case Unclear():
            return UNCLEAR


async def finality(case: Case) -> str:
    """Say whether it landed for good."""
    landed_at_all = await case.world.solana.proofs.landed(case.submission)
    return UNCLEAR if landed_at_all is None else f"landed {landed_at_all}"


async def lock_holder(case: Case) -> str:
    """Say who holds the lock."""
    assert case.lock is not None
    known = tuple(each.handle for each in (case.submission, case.fence) if each is not None)
    state = await case.world.solana.lock.state(case.lock, known)
    if state.held is None:
        return UNCLEAR
    names = {case.submission.handle: "attempt"} | ({} if case.fence is None else {case.fence.handle: "fence"})
    return f"held by {names[state.holder or '']}" if state.held else "free"


async def fence_landed(case: Case) -> str:
    """Say whether the fence landed for good."""
    assert case.fence is not None
    answer = await case.world.solana.lock.landed(case.fence)
    return UNCLEAR if answer is None else f"fence {answer}"


async def past_expiry(case: Case) -> str:
    """Say whether the attempt's height is past for good; not past yet is no answer."""
    return "past" if await case.world.solana.lock.expired(case.submission) else UNCLEAR


async def what_happened_since(case: Case) -> str:
    """List what happened to the account since; a list that is not whole is no answer."""
    found = await lines_after(
        case.world.solana.pool,
        VENUE,
        after=case.mark,
        through_slot=case.world.chain.slot - 8,
        commitment="confirmed",
    )
    ours = [("ours" if each.signature == case.submission.handle else "other", each.failed) for each in found.lines]
    return str(ours) if found.complete else UNCLEAR


@dataclass
class Question:
    """Something that is true, how it comes about, and how it is asked for."""

    make: Callable[[World], Awaitable[Case]]
    ask: Callable[[Case], Awaitable[str]]
    truth: str


QUESTIONS: dict[str, Question] = {
    "what became of it: landed": Question(landed, examined, "landed"),
    "what became of it: failed": Question(failed, examined, "failed 1"),
    "what became of it: failed, without a lock": Question(failed_without_lock, examined, "failed 1"),
    "what became of it: nowhere yet": Question(absent, examined, UNCLEAR),
    "what became of it: expired": Question(expired, examined, "expired"),
    "what became of it: expired, without a lock": Question(expired_without_lock, examined, "expired"),
    "what became of it: fenced": Question(fenced, examined, "fenced"),
    "for good: landed": Question(finalized, finality, "landed True"),
    "for good: failed": Question(long_failed, finality, "landed False"),
    "who holds the lock: nobody": Question(absent, lock_holder, "free"),
    "who holds the lock: the attempt": Question(landed, lock_holder, "held by attempt"),
    "who holds the lock: the fence": Question(fenced, lock_holder, "held by fence"),
    "did the fence land: not yet": Question(absent, fence_landed, UNCLEAR),
    "did the fence land: never": Question(expired, fence_landed, "fence False"),
    "is it past its height: yes": Question(expired, past_expiry, "past"),
    "is it past its height: not yet": Question(absent, past_expiry, UNCLEAR),
    "what happened since": Question(with_history, what_happened_since, str([("ours", False)])),
}

# Presence needs one node: who shows that our own signed bytes executed is believed at `confirmed`, and looked at again
# until the nodes agree at `finalized`.
BELIEVED = {
    ("on another fork", "what became of it: failed"): "landed",
    ("on another fork", "what became of it: failed, without a lock"): "landed",
}
# One dissent among three holds up what two agree on: no lie decides, and an operator can take the node away.
WAITS = {
    ("on another fork", "what happened since"),
    ("a status of a losing fork", "what became of it: expired, without a lock"),
    ("a fence claimed as landed", "what became of it: expired"),
    ("a fence claimed as landed", "who holds the lock: nobody"),
    ("a fence claimed as landed", "did the fence land: never"),
    ("other bytes under the signature", "what became of it: expired, without a lock"),
    ("an invented history", "what happened since"),
}


async def put(world: World, question: Question, lie: Callable[[Case], Lies], liar: int) -> tuple[str, str]:
    """Return the answer with the liar, and that of the other nodes alone."""
    case = await question.make(world)
    world.transports[liar].lies = lie(case)
    # Every node's health is asked for anew.
    await world.clock.sleep(1.1)
    said = await question.ask(case)
    await world.solana.aclose()
    honest = [transport for index, transport in enumerate(world.transports) if index != liar]
    world.solana = SolanaCluster.of_transports(honest, world.signer, world.clock, world.solana.settings)
    await world.solana.genesis_hash()
    return said, await question.ask(case)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("liar", [0, 1], ids=["asked first", "asked last"])
def test_one_liar_of_two_changes_no_outcome(lie: str, question: str, liar: int) -> None:
    """The truth, or nothing yet; and the truth without the liar."""

    async def story(world: World) -> None:
        asked = QUESTIONS[question]
        said, after = await put(world, asked, LIES[lie], liar)
        assert said in {asked.truth, UNCLEAR, BELIEVED.get((lie, question))}
        assert after == asked.truth

    run_world(story, nodes=2)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("lie", LIES)
def test_one_liar_of_three_changes_nothing(lie: str, question: str) -> None:
    """Two honest nodes are enough for the truth, save where one dissent must hold it up."""

    async def story(world: World) -> None:
        asked = QUESTIONS[question]
        said, after = await put(world, asked, LIES[lie], 0)
        expected = UNCLEAR if (lie, question) in WAITS else asked.truth
        assert said in {expected, BELIEVED.get((lie, question))}
        assert after == asked.truth

    run_world(story, nodes=3)
