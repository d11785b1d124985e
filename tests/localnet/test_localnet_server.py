"""Over sockets: another library's client, subscriptions, faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException
from solana.rpc.types import TxOpts
from solana.rpc.websocket_api import connect
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from providers.base.clock import SystemClock
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.server import LocalnetServer, serve
from tests.localnet.localnet_bench import SOL

WALLET = Keypair.from_seed(bytes([4] * 32))


def served(test: Callable[[LocalnetServer], Awaitable[None]]) -> None:
    """Run a test against a server whose slots take 10 ms."""

    async def run() -> None:
        cluster = Cluster(SystemClock(), ClusterConfig(slot_time_ms=10))
        cluster.airdrop(WALLET.pubkey(), 10 * SOL)
        await cluster.start()
        server = await serve(cluster, "127.0.0.1", 0)
        try:
            await asyncio.wait_for(test(server), 20)
        finally:
            await server.aclose()
            await cluster.aclose()

    asyncio.run(run())


def payment(to: Pubkey, lamports: int, blockhash: Hash) -> VersionedTransaction:
    """Return a signed payment."""
    pay = transfer(TransferParams(from_pubkey=WALLET.pubkey(), to_pubkey=to, lamports=lamports))
    return VersionedTransaction(MessageV0.try_compile(WALLET.pubkey(), [pay], [], blockhash), [WALLET])


def test_solana_py_sends_and_confirms() -> None:
    """Airdrop, blockhash, send, confirm, read, history and simulation as that library decodes them."""

    async def test(server: LocalnetServer) -> None:
        to = Keypair().pubkey()
        async with AsyncClient(server.url) as client:
            assert await client.is_connected()
            dropped = await client.request_airdrop(WALLET.pubkey(), SOL)
            await client.confirm_transaction(dropped.value, Finalized)
            latest = (await client.get_latest_blockhash(Confirmed)).value
            tx = payment(to, SOL, latest.blockhash)
            simulated = (await client.simulate_transaction(tx, commitment=Confirmed)).value
            assert simulated.err is None
            assert simulated.units_consumed == 150
            sent = await client.send_transaction(tx, TxOpts(preflight_commitment=Confirmed))
            status = await client.confirm_transaction(
                sent.value, Confirmed, last_valid_block_height=latest.last_valid_block_height
            )
            assert status.value[0] is not None
            assert status.value[0].err is None
            assert (await client.get_balance(to, Confirmed)).value == SOL
            accounts = (await client.get_multiple_accounts([to, Keypair().pubkey()], Confirmed)).value
            assert accounts[0] is not None
            assert accounts[1] is None
            shown = await client.get_transaction(sent.value, "json", Confirmed, max_supported_transaction_version=0)
            assert shown.value is not None
            history = (await client.get_signatures_for_address(to, commitment=Confirmed)).value
            assert [each.signature for each in history] == [sent.value]
            assert (await client.get_epoch_info(Confirmed)).value.absolute_slot > 1_000
            fee = await client.get_fee_for_message(tx.message, Confirmed)
            assert fee.value == 5_000
            with pytest.raises(RPCException):
                await client.send_transaction(payment(to, 1_000 * SOL, latest.blockhash))

    served(test)


def test_solana_py_subscribes() -> None:
    """Account, signature, logs, program, slot and root notifications, and an end to them."""

    async def test(server: LocalnetServer) -> None:
        to = Keypair().pubkey()
        tx = payment(to, SOL, server.cluster.latest_blockhash())
        async with connect(f"ws://127.0.0.1:{server.port + 1}") as websocket:
            await websocket.account_subscribe(to, commitment=Confirmed, encoding="base64")
            account_id = (await websocket.recv())[0].result
            await websocket.signature_subscribe(tx.signatures[0], commitment=Processed)
            await websocket.recv()
            await websocket.logs_subscribe(commitment=Finalized)
            await websocket.recv()
            await websocket.program_subscribe(Pubkey.default(), commitment=Confirmed, encoding="base64")
            await websocket.recv()
            assert server.cluster.execute(tx).ok
            seen: list[tuple[str, int]] = []
            while len(seen) < 5:
                notes = await websocket.recv()
                seen.extend((type(note).__name__, note.result.context.slot) for note in notes)
            landed = server.cluster.transaction(str(tx.signatures[0]))
            assert landed is not None
            assert seen[0] == ("SignatureNotification", landed.slot)
            assert sorted(seen[1:4]) == [
                ("AccountNotification", landed.slot),
                ("ProgramNotification", landed.slot),
                ("ProgramNotification", landed.slot),
            ]
            assert seen[4] == ("LogsNotification", landed.slot)
            await websocket.account_unsubscribe(account_id)
            assert (await websocket.recv())[0].result is True
            await websocket.slot_subscribe()
            await websocket.recv()
            slots = [(await websocket.recv())[0].result.slot for _ in range(3)]
            assert slots == list(range(slots[0], slots[0] + 3))
            await websocket.root_subscribe()

    served(test)


def test_a_signature_that_has_landed_is_told_at_once() -> None:
    """Who subscribes late hears it all the same, after the answer to the subscription."""

    async def test(server: LocalnetServer) -> None:
        tx = payment(Keypair().pubkey(), SOL, server.cluster.latest_blockhash())
        server.cluster.execute(tx)
        async with connect(f"ws://127.0.0.1:{server.port + 1}") as websocket:
            await websocket.signature_subscribe(tx.signatures[0], commitment=Processed)
            notes = [each for _ in range(2) for each in await websocket.recv()]
            assert [type(note).__name__ for note in notes] == ["SubscriptionResult", "SignatureNotification"]

    served(test)


def test_faults_hold_over_http_and_can_always_be_cleared() -> None:
    """Set by a control: 503 after execution, a cut connection, a refused one; controls pass untouched."""

    async def test(server: LocalnetServer) -> None:
        async with aiohttp.ClientSession() as session:

            async def ask(method: str, *params: object, node: str = "") -> tuple[int, object]:
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                async with session.post(f"{server.url}/{node}", json=body) as response:
                    return response.status, await response.json(content_type=None) if response.ok else None

            await ask("localnet_setFault", {"kind": "http_503_after", "method": "getSlot", "node": "b"})
            assert (await ask("getSlot"))[0] == 200
            assert (await ask("getSlot", node="b"))[0] == 503
            assert (await ask("getSlot", node="b"))[0] == 200
            await ask("localnet_setFault", {"kind": "cut_after", "count": None})
            with pytest.raises(aiohttp.ClientError):
                await ask("getSlot")
            await ask("localnet_setFault", {"kind": "lost_after"})
            await ask("localnet_clearFaults")
            assert (await ask("getSlot"))[0] == 200
            await ask("localnet_setFault", {"kind": "lost_after"})
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.3):
                    await ask("getSlot")
            status, answer = await ask("localnet_setFault", {"kind": "nonsense"})
            assert status == 200
            assert isinstance(answer, dict)
            assert answer["error"]["code"] == -32602

    served(test)


def test_controls_move_the_chain() -> None:
    """Airdrop, account, warp and status over the wire."""

    async def test(server: LocalnetServer) -> None:
        key = Keypair().pubkey()
        async with aiohttp.ClientSession() as session:

            async def ask(method: str, **params: object) -> dict[str, object]:
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [params]}
                async with session.post(server.url, json=body) as response:
                    answer = await response.json()
                    assert isinstance(answer["result"], dict)
                    return answer["result"]

            await ask("localnet_airdrop", pubkey=str(key), lamports=SOL)
            account = server.cluster.account(key)
            assert account is not None
            assert account.lamports == SOL
            await ask("localnet_setAccount", pubkey=str(key), lamports=5, data="AQI=", owner=str(WALLET.pubkey()))
            account = server.cluster.account(key)
            assert account is not None
            assert (account.data, account.owner) == (b"\x01\x02", WALLET.pubkey())
            before = server.cluster.slot
            after = await ask("localnet_warp", slots=500, seconds=1_000)
            assert isinstance(after["slot"], int)
            assert after["slot"] >= before + 500

    served(test)
