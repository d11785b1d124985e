"""Broken answers at the wire: whatever a node says, a read gives a value or a leaf of `ConnectionFailed`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from providers.base.clock import VirtualClock
from providers.base.errors import BadAnswer, ConnectionFailed, Phase, ProviderError, TimedOut
from providers.base.types import Ack
from providers.solana.pool import NodePool
from providers.solana.transactions import compile_message, message_bytes, wire_of
from providers.solana.transport import Reply, WireError
from router.localnet.virtual_time import run_virtual
from tests.solana.solana_world import Json, World, run_world

KEY = Pubkey.new_unique()
SIGNATURE = str(Signature.new_unique())
UNSIGNED = wire_of(message_bytes(compile_message(KEY, [], [], Hash.default())), [bytes(64)])

READS: dict[str, Callable[[NodePool], Awaitable[object]]] = {
    "getMultipleAccounts": lambda pool: pool.accounts([KEY]),
    "getLatestBlockhash": lambda pool: pool.latest_blockhash(),
    "getSlot": lambda pool: pool.slot(),
    "getBlockHeight": lambda pool: pool.block_height(),
    "getMinimumBalanceForRentExemption": lambda pool: pool.minimum_balance(0),
    "getRecentPrioritizationFees": lambda pool: pool.recent_fees([KEY]),
    "simulateTransaction": lambda pool: pool.simulate(UNSIGNED),
    "getTransaction": lambda pool: pool.transaction(SIGNATURE),
    "getSignaturesForAddress": lambda pool: pool.signatures_for(KEY),
    "getSignatureStatuses": lambda pool: pool.signature_statuses([SIGNATURE]),
    "getFirstAvailableBlock": lambda pool: pool.nodes[0].first_available_block(),
}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["base64", str(KEY), SIGNATURE, "AAAA"]),
)
NAMES = st.sampled_from(
    ["context", "value", "slot", "err", "logs", "unitsConsumed", "data", "owner", "lamports", "meta", "x"]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


class ScriptedTransport:
    """A node that answers `getGenesisHash` rightly and everything else as it is told."""

    url = "scripted://node"

    def __init__(self, answer: Callable[[int], bytes | Exception], status: int = 200) -> None:
        self._answer = answer
        self._status = status

    async def post(self, body: bytes, *, timeout_s: float) -> Reply:
        request = msgspec.json.decode(body, type=dict[str, Json])
        if request["method"] == "getGenesisHash":
            return Reply(200, b'{"jsonrpc":"2.0","id":%d,"result":"hash"}' % request["id"])
        answer = self._answer(request["id"])
        if isinstance(answer, Exception):
            raise answer
        return Reply(self._status, answer)

    async def aclose(self) -> None:
        """Nothing is held."""


def ask(method: str, answer: Callable[[int], bytes | Exception], status: int = 200) -> object:
    """Return what one read gives, or the error that it raises."""

    async def main() -> object:
        pool = NodePool([ScriptedTransport(answer, status)], VirtualClock())
        try:
            return await READS[method](pool)
        except ProviderError as error:
            return error

    return run_virtual(main())


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("method", sorted(READS))
@given(result=JSON)
def test_any_json_is_a_value_or_a_connection_error(method: str, result: Any) -> None:
    """Results of every shape: nothing but leaves of `ConnectionFailed` is raised, all of them retryable elsewhere."""
    found = ask(method, lambda number: msgspec.json.encode({"jsonrpc": "2.0", "id": number, "result": result}))
    assert not isinstance(found, ProviderError) or isinstance(found, ConnectionFailed)


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60), status=st.sampled_from([100, 200, 204, 301, 400, 401, 404, 429, 500, 503, 599]))
def test_any_bytes_are_a_connection_error(body: bytes, status: int) -> None:
    """Bodies that are no JSON-RPC and statuses of every kind."""
    assert isinstance(ask("getSlot", lambda _: body, status), ConnectionFailed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html><body>502 Bad Gateway</body></html>",
        b'{"jsonrpc":"2.0","id":%d}',
        b'{"jsonrpc":"2.0","id":%d,"result":null}',
        b'{"jsonrpc":"2.0","id":%d,"result":7',
        b'{"jsonrpc":"2.0","id":99999,"result":7}',
        b'{"jsonrpc":"2.0","id":null,"result":7}',
        b'{"jsonrpc":"2.0","result":7}',
        b'{"jsonrpc":"2.0","id":%d,"result":-7}',
        b'{"jsonrpc":"2.0","id":%d,"result":7.5}',
        b'{"jsonrpc":"2.0","id":%d,"result":1e400}',
        b'{"jsonrpc":"2.0","id":%d,"result":"7"}',
        b'{"jsonrpc":"2.0","id":%d,"result":true}',
        b'{"jsonrpc":"2.0","id":%d,"result":99999999999999999999999999}',
        b'{"jsonrpc":"2.0","id":%d,"error":"no"}',
        b'{"jsonrpc":"2.0","id":%d,"error":{"code":"x"}}',
        b'{"jsonrpc":"2.0","id":%d,"error":{"code":-31337,"message":"who knows"}}',
        b'{"jsonrpc":"2.0","id":%d,"result":7,"error":{"code":-31337,"message":"both"}}',
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":%d,"result":\xff}',
    ],
)
def test_each_broken_answer_is_a_bad_answer(body: bytes) -> None:
    """HTML, null, wrong or missing id, truncation, junk numbers, unknown codes, depth, bad UTF-8."""
    found = ask("getSlot", lambda number: body.replace(b"%d", str(number).encode()))
    assert type(found) is BadAnswer
    assert found.phase is Phase.NOT_SENT


def test_after_sending_no_broken_answer_proves_that_nothing_was_sent() -> None:
    """The same junk after `sendTransaction`: an error in the ack, `maybe_sent`, and never `not_sent`."""
    bodies = [
        b"",
        b"null",
        b"<html>",
        b'{"id":%d,"result":null}',
        b'{"id":%d,"result":7}',
        b'{"id":%d,"result":"other"}',
    ]
    bodies += [b'{"id":%d,"error":{"code":-32002,"message":"Blockhash not found"}}', b'{"id":1']

    async def send(answer: Callable[[int], bytes | Exception]) -> Ack:
        return await NodePool([ScriptedTransport(answer)], VirtualClock()).send_to_all(b"\1", SIGNATURE)

    def filled(body: bytes) -> Callable[[int], bytes]:
        return lambda number: body.replace(b"%d", str(number).encode())

    def failing(kind: str, *, maybe_sent: bool) -> Callable[[int], Exception]:
        return lambda _: WireError(kind, maybe_sent=maybe_sent)

    async def main() -> None:
        for body in bodies:
            ack = await send(filled(body))
            assert (ack.accepted, ack.not_sent, len(ack.errors)) == (0, False, 1), body
            assert ack.errors[0].phase is Phase.MAYBE_SENT
        for kind, maybe in (("timeout", True), ("timeout", False), ("cut", True), ("refused", False)):
            ack = await send(failing(kind, maybe_sent=maybe))
            assert ack.not_sent is not maybe

    run_virtual(main())


def test_a_failing_node_is_asked_last_until_it_has_rested() -> None:
    """After a failure reads go to the other node first; after its rest the preferred one is asked again."""

    async def story(world: World) -> None:
        first, second = world.transports
        world.fault("dropped_before", node="node0", method="getSlot")
        await world.solana.pool.slot()
        for transport in (first, second):
            transport.asked.clear()
        await world.solana.pool.slot()
        assert (first.asked, second.asked) == ([], ["getSlot"])
        await world.clock.sleep(20)
        second.asked.clear()
        await world.solana.pool.slot()
        assert (first.asked, second.asked) == (["getSlot"], [])

    run_world(story, nodes=2)


def test_one_absurd_slot_does_not_make_every_honest_node_look_behind() -> None:
    """A node that speaks of a slot years ahead is not believed, so that reads at the last slot still work."""

    async def story(world: World) -> None:
        await world.solana.pool.sane_nodes()
        world.transports[0].lies = {"getSlot": lambda *_: 2**62}
        await world.solana.pool.slot()
        last = world.solana.pool.last_slot
        assert last <= world.chain.slot
        read = await world.solana.pool.accounts([KEY], min_context_slot=last)
        assert read.slot >= last

    run_world(story, nodes=2)


def test_a_node_that_hangs_does_not_hold_up_an_attempt_by_its_whole_timeout() -> None:
    """The second node never answers: preparing goes on after a moment, and landing is seen by the first alone."""

    async def story(world: World) -> None:
        world.fault("dropped_before", node="node1", count=None)
        lock = await world.lock()
        began = world.clock.monotonic()
        submission = await world.attempt(lock)
        assert world.clock.monotonic() - began < 1.0
        sending = asyncio.ensure_future(world.solana.sender.submit(submission))
        await world.slots(3)
        began = world.clock.monotonic()
        found = await world.solana.pool.transaction(submission.handle)
        assert found is not None
        assert world.clock.monotonic() - began < 0.1
        await sending

    run_world(story, nodes=2)


def test_every_call_is_told_to_the_observer() -> None:
    """Node, method, outcome and seconds of each call, failures by their code."""
    seen: list[tuple[str, str, str]] = []

    class Observer:
        def on_call(self, node: str, method: str, outcome: str, seconds: float) -> None:
            assert seconds >= 0
            seen.append((node, method, outcome))

    async def main() -> None:
        pool = NodePool([ScriptedTransport(lambda _: b"junk")], VirtualClock(), observer=Observer())
        with pytest.raises(BadAnswer):
            await pool.slot()
        pool = NodePool(
            [ScriptedTransport(lambda _: WireError("timeout", maybe_sent=True))], VirtualClock(), observer=Observer()
        )
        with pytest.raises(TimedOut):
            await pool.slot()

    run_virtual(main())
    node = "scripted://node"
    assert [call for call in seen if call[1] == "getSlot"] == [
        (node, "getSlot", "bad_answer"),
        (node, "getSlot", "timed_out"),
    ]
    assert (node, "getGenesisHash", "ok") in seen


def test_a_pool_needs_a_node_and_reads_at_most_a_hundred_accounts() -> None:
    """Both are mistakes of the caller, and say so."""
    with pytest.raises(ValueError, match="at least one"):
        NodePool([], VirtualClock())

    async def main() -> None:
        pool = NodePool([ScriptedTransport(lambda _: b"")], VirtualClock())
        with pytest.raises(ValueError, match="100"):
            await pool.accounts([Keypair().pubkey()] * 101)

    run_virtual(main())
