"""Faults on the wire: what the caller sees, apart from what happened."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from providers.base.clock import VirtualClock
from providers.solana.transport import Reply, WireError
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.faults import Fault, FaultKind, WireFaults
from router.localnet.transport import InProcessTransport
from router.localnet.virtual_time import run_virtual
from tests.localnet.localnet_bench import SOL, encoded


class Wire:
    """A cluster on virtual time with two nodes."""

    def __init__(self) -> None:
        self.clock = VirtualClock(5)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=400))
        self.faults = WireFaults(self.clock)
        self.a, self.b = (
            InProcessTransport(self.cluster, self.clock, name=name, faults=self.faults) for name in ("a", "b")
        )
        self.wallet = Keypair()
        self.to = Keypair().pubkey()
        self.cluster.airdrop(self.wallet.pubkey(), 10 * SOL)

    async def send(self, node: InProcessTransport | None = None) -> Reply:
        """Send one SOL to `to`."""
        pay = transfer(TransferParams(from_pubkey=self.wallet.pubkey(), to_pubkey=self.to, lamports=SOL))
        message = MessageV0.try_compile(self.wallet.pubkey(), [pay], [], self.cluster.latest_blockhash())
        tx = VersionedTransaction(message, [self.wallet])
        return await self.ask("sendTransaction", encoded(tx), {"encoding": "base64", "skipPreflight": True}, node=node)

    async def ask(self, method: str, *params: object, node: InProcessTransport | None = None) -> Reply:
        """Send one request with two seconds of patience."""
        body = json.dumps({"jsonrpc": "2.0", "id": 3, "method": method, "params": params}).encode()
        return await (node or self.a).post(body, timeout_s=2.0)

    @property
    def paid(self) -> bool:
        """Whether the payment was executed."""
        return self.cluster.account(self.to) is not None


def on_wire(test: Callable[[Wire], Awaitable[None]]) -> None:
    """Run a test with slots passing in virtual time."""

    async def run() -> None:
        wire = Wire()
        await wire.cluster.start()
        await test(wire)
        await wire.cluster.aclose()

    run_virtual(run())


@pytest.mark.parametrize(
    ("kind", "wire_kind", "maybe_sent", "executed", "seconds"),
    [
        ("refused", "refused", False, False, 0),
        ("dropped_before", "timeout", True, False, 2),
        ("lost_after", "timeout", True, True, 2),
        ("cut_before", "cut", True, False, 0),
        ("cut_after", "cut", True, True, 0),
    ],
)
def test_no_answer_says_nothing_about_execution(
    kind: FaultKind, wire_kind: str, *, maybe_sent: bool, executed: bool, seconds: int
) -> None:
    """The same error may stand for a payment that ran and for one that did not."""

    async def test(wire: Wire) -> None:
        wire.faults.add(Fault(kind=kind, method="sendTransaction"))
        begun = wire.clock.monotonic()
        with pytest.raises(WireError) as caught:
            await wire.send()
        assert (caught.value.kind, caught.value.maybe_sent) == (wire_kind, maybe_sent)
        assert wire.clock.monotonic() - begun == pytest.approx(seconds)
        assert wire.paid is executed

    on_wire(test)


@pytest.mark.parametrize(
    ("kind", "status", "executed"),
    [("http_429", 429, False), ("http_503_before", 503, False), ("http_503_after", 503, True)],
)
def test_an_http_error_says_nothing_about_execution(kind: FaultKind, status: int, *, executed: bool) -> None:
    """A 503 comes before or after execution alike; Retry-After is passed on."""

    async def test(wire: Wire) -> None:
        wire.faults.add(Fault(kind=kind, retry_after_s=7))
        reply = await wire.send()
        assert (reply.status, reply.retry_after_s) == (status, 7)
        assert wire.paid is executed

    on_wire(test)


def test_garbage_comes_after_execution_or_without_it() -> None:
    """HTML, null, wrong id, truncated JSON and unknown codes, with status 200."""

    async def test(wire: Wire) -> None:
        seen: list[bytes] = []
        kinds: tuple[FaultKind, ...] = ("html", "null", "wrong_id", "truncated", "unknown_code", "internal_error")
        for kind in kinds:
            wire.faults.add(Fault(kind=kind, method="getSlot"))
            reply = await wire.ask("getSlot")
            assert reply.status == 200
            seen.append(reply.body)
        assert seen[0].startswith(b"<html>")
        assert json.loads(seen[1]) == {"jsonrpc": "2.0", "result": None, "id": 3}
        assert json.loads(seen[2])["id"] == "another"
        with pytest.raises(json.JSONDecodeError):
            json.loads(seen[3])
        assert [json.loads(each)["error"]["code"] for each in seen[4:]] == [-32429, -32603]
        wire.faults.add(Fault(kind="html", unexecuted=True))
        await wire.send()
        assert not wire.paid
        wire.faults.add(Fault(kind="html"))
        await wire.send()
        assert wire.paid

    on_wire(test)


def test_a_transaction_lands_late() -> None:
    """The signature comes back, or nothing does; the payment is made five slots later."""

    async def test(wire: Wire) -> None:
        wire.faults.add(Fault(kind="landed_late", method="sendTransaction", slots=5))
        assert b"result" in (await wire.send()).body
        await wire.clock.sleep(4 * 0.4)
        assert not wire.paid
        await wire.clock.sleep(1.2 * 0.4)
        assert wire.paid
        wire.to = Keypair().pubkey()
        wire.faults.add(Fault(kind="lost_then_late", method="sendTransaction", slots=20))
        with pytest.raises(WireError):
            await wire.send()
        assert not wire.paid
        await wire.clock.sleep(20 * 0.4)
        assert wire.paid

    on_wire(test)


def test_a_stale_node_answers_calmly_and_one_behind_says_so() -> None:
    """Twenty slots back without a word, or with -32005 when asked about its health."""

    async def test(wire: Wire) -> None:
        await wire.clock.sleep(30)
        slot = wire.cluster.slot
        config = {"commitment": "processed"}
        wire.faults.add(Fault(kind="stale", slots=20, count=3))
        assert json.loads((await wire.ask("getSlot", config)).body)["result"] == slot - 20
        error = json.loads((await wire.ask("getSlot", {**config, "minContextSlot": slot})).body)["error"]
        assert error["code"] == -32016
        assert json.loads((await wire.ask("getHealth")).body)["result"] == "ok"
        wire.faults.add(Fault(kind="behind", slots=20))
        error = json.loads((await wire.ask("getHealth")).body)["error"]
        assert (error["code"], error["data"]) == (-32005, {"numSlotsBehind": 20})
        assert json.loads((await wire.ask("getHealth")).body)["result"] == "ok"

    on_wire(test)


def test_a_fault_strikes_its_node_method_and_count_only() -> None:
    """The second and third getSlot at node `a`, and nothing else."""

    async def test(wire: Wire) -> None:
        wire.faults.add(Fault(kind="http_429", node="a", method="getSlot", after=1, count=2))
        asked = [("getSlot", wire.a), ("getSlot", wire.b), ("getHealth", wire.a)]
        asked += [("getSlot", wire.a), ("getSlot", wire.a), ("getSlot", wire.a)]
        statuses = [(await wire.ask(method, node=node)).status for method, node in asked]
        assert statuses == [200, 200, 200, 429, 429, 200]
        assert wire.faults.struck == [("a", "http_429")] * 2

    on_wire(test)


def test_chance_repeats_from_its_seed() -> None:
    """A fault at 300 in a thousand strikes the same requests on every run."""

    def run() -> list[int]:
        statuses: list[int] = []

        async def test(wire: Wire) -> None:
            wire.faults.add(Fault(kind="http_429", permille=300, count=None))
            statuses.extend([(await wire.ask("getSlot")).status for _ in range(100)])

        on_wire(test)
        return statuses

    first = run()
    assert first == run()
    assert 15 < first.count(429) < 50


def test_latency_and_slowness_cost_virtual_time_up_to_the_timeout() -> None:
    """A round trip takes its latency; an answer held back too long is lost though the request ran."""

    async def test(wire: Wire) -> None:
        wire.a.latency_s = 0.3
        begun = wire.clock.monotonic()
        await wire.ask("getSlot")
        assert wire.clock.monotonic() - begun == pytest.approx(0.3)
        wire.faults.add(Fault(kind="slow", delay_ms=5_000))
        begun = wire.clock.monotonic()
        with pytest.raises(WireError):
            await wire.send()
        assert wire.clock.monotonic() - begun == pytest.approx(2.0)
        assert wire.paid

    on_wire(test)
