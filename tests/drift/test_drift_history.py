"""What reconciliation learns of a Drift account over the wire: every change, whoever made it, no silent hole."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from providers.base.errors import NodeBehind
from providers.base.types import OutcomeState, Side, VenueEventKind, VenueHistory
from providers.drift.history import AccountHistory
from providers.drift.provider import DriftProvider
from providers.drift.reading import VenueReader
from providers.solana.cluster import SolanaCluster
from providers.solana.signer import KeypairSigner
from router.localnet.drift.enums import Direction
from router.localnet.transport import InProcessTransport
from tests.drift.drift_desk import SOL, Desk, at_desk
from tests.solana.solana_world import Json, LyingTransport


async def seen(desk: Desk) -> int:
    """Let what happened become confirmed, and return a slot that has it."""
    await desk.slots(3)
    return await desk.solana.all_nodes.slot("confirmed")


async def mark(desk: Desk) -> str:
    """Make a first transaction of the account, and return it as the known one."""
    desk.controls.foreign_trade(SOL, "long", Decimal("0.1"))
    read = await desk.provider.history(None, await seen(desk))
    assert read.newest is not None
    assert read == VenueHistory(events=(), complete=True, newest=read.newest)
    return read.newest


def test_own_fills_have_the_id_that_settlement_gives() -> None:
    """The fills of our own open and close are in history once, under the ids that settlement booked."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        opened = await desk.settled(await desk.open(size="2"))
        closed = await desk.settled(await desk.close(size="2"))
        read = await desk.provider.history(start, await seen(desk))
        booked = [*opened.fills, *closed.fills]
        assert opened.state is closed.state is OutcomeState.FILLED
        assert read.complete
        assert [each.venue_fill_id for each in read.events] == [each.venue_fill_id for each in booked]
        assert [each.base_delta for each in read.events] == [Decimal(2), Decimal(-2)]
        for event, fill in zip(read.events, booked, strict=True):
            assert (event.price, event.fee_usd, event.signature) == (fill.price, fill.fee_usd, fill.signature)
            assert (event.kind, event.market, event.at) == (VenueEventKind.TRADE, SOL, fill.filled_at)
        again = await desk.provider.history(read.newest, await seen(desk))
        assert again == VenueHistory(events=(), complete=True, newest=read.newest)

    at_desk(play)


def test_the_first_transaction_of_an_account_is_told() -> None:
    """An account that no transaction ever named has a mark too, and nothing of what follows is passed over."""

    async def play(desk: Desk) -> None:
        assert await desk.solana.all_nodes.signatures_for(desk.world.trader_account.user) == ()
        start = await desk.provider.history(None, await seen(desk))
        assert start.newest is not None
        assert start == VenueHistory(events=(), complete=True, newest=start.newest)
        desk.controls.foreign_trade(SOL, "long", Decimal(2))
        await desk.slots(2)
        sold = desk.controls.foreign_trade(SOL, "short", Decimal(2))
        read = await desk.provider.history(start.newest, await seen(desk))
        assert read.complete
        assert [each.base_delta for each in read.events] == [Decimal(2), Decimal(-2)]
        assert read.newest == sold

    at_desk(play)


def test_trades_past_the_router_and_liquidation() -> None:
    """A delegate's trade, one of our own key, a liquidation in part: each with its kind; their sum is the holding."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        by_delegate = desk.controls.foreign_trade(SOL, "long", Decimal(4))
        await desk.slots(1)
        by_key = desk.controls.foreign_trade(SOL, "short", Decimal(1), own_key=True)
        await desk.slots(1)
        taken = desk.controls.liquidate(SOL)
        through = await seen(desk)
        read = await desk.provider.history(start, through)
        assert read.complete
        assert [each.signature for each in read.events] == [by_delegate, by_key, taken]
        trade, liquidation = VenueEventKind.TRADE, VenueEventKind.LIQUIDATION
        assert [each.kind for each in read.events] == [trade, trade, liquidation]
        assert [each.base_delta for each in read.events[:2]] == [Decimal(4), Decimal(-1)]
        assert read.events[2].base_delta < 0
        assert read.events[2].fee_usd > 0
        holdings = await desk.provider.holdings(through)
        (position,) = holdings.positions
        assert position.side is Side.LONG
        assert position.size == Decimal("0.1") + sum(each.base_delta for each in read.events)
        assert holdings.slot >= through

    at_desk(play)


def test_failed_transactions_change_nothing() -> None:
    """A refused trade is read past: no event, and the history stays whole."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        desk.controls.pause("fills")
        failed = desk.controls.outsiders.trade(desk.world.market(SOL), Direction.LONG, Decimal(1))
        assert not failed.ok
        read = await desk.provider.history(start, await seen(desk))
        assert read == VenueHistory(events=(), complete=True, newest=failed.signature)

    at_desk(play)


def test_history_without_the_known_transaction_is_not_whole() -> None:
    """Where nodes no longer list the known transaction, what they list is told, and that it is not all."""

    async def play(desk: Desk) -> None:
        await mark(desk)
        traded = desk.controls.foreign_trade(SOL, "long", Decimal(1))
        gone = "1" * 64 + "2" * 23
        read = await desk.provider.history(gone, await seen(desk))
        assert not read.complete
        assert read.newest == traded
        assert [each.base_delta for each in read.events] == [Decimal("0.1"), Decimal(1)]

    at_desk(play)


def test_long_history_is_read_in_parts() -> None:
    """A part says that it is not all; going on from its newest gives everything once, and the last part is whole."""

    async def play(desk: Desk) -> None:
        start: str | None = await mark(desk)
        sent: list[str] = []
        for _ in range(5):
            sent.append(desk.controls.foreign_trade(SOL, "long", Decimal("0.1")))
            await desk.slots(1)
        through = await seen(desk)
        user = desk.world.trader_account.user
        reader = VenueReader(desk.solana.pool, desk.config, desk.world.trader.pubkey(), desk.clock)
        history = AccountHistory(desk.solana, reader, desk.config)
        found: list[str] = []
        whole: list[bool] = []
        for _ in range(3):
            read = await history.read(user, start, through, most_transactions=2)
            found.extend(each.signature for each in read.events)
            whole.append(read.complete)
            assert read.more is not read.complete
            start = read.newest
        assert found == sent
        assert whole == [False, False, True]

    at_desk(play)


def test_resting_order_names_who_placed_it() -> None:
    """Holdings show a resting order with the transaction of ours that placed it, as one read of one slot."""

    async def play(desk: Desk) -> None:
        desk.controls.set_auction(20)
        desk.controls.run_keeper(running=False)
        submission = await desk.open(size="1")
        through = await seen(desk)
        holdings = await desk.provider.holdings(through)
        (order,) = holdings.orders
        assert order.placed_by == submission.handle
        assert (order.side, order.size, order.market) == (Side.LONG, Decimal(1), SOL)
        assert not holdings.positions

    at_desk(play)


def test_slot_that_no_node_has_reached_is_refused() -> None:
    """Neither holdings nor history are told of a slot that the nodes have not seen."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        far = await seen(desk) + 10_000
        with pytest.raises(NodeBehind):
            await desk.provider.holdings(far)
        for after in (None, start):
            with pytest.raises(NodeBehind):
                await desk.provider.history(after, far)

    at_desk(play)


def lied_to(desk: Desk, method: str, lie: Callable[[Json, list[Json]], Json]) -> DriftProvider:
    """Return a provider whose two nodes alter their answers to one method."""
    transports = [
        LyingTransport(InProcessTransport(desk.cluster, desk.clock, name=f"lying{at}", faults=desk.faults))
        for at in range(2)
    ]
    for each in transports:
        each.lies[method] = lie
    signer = KeypairSigner(bytes(desk.signer))
    cluster = SolanaCluster.of_transports(transports, signer, desk.clock, desk.settings)
    return DriftProvider(cluster, desk.config)


@pytest.mark.parametrize("absent", [False, True])
def test_truncated_or_absent_logs_are_not_whole(absent: bool) -> None:  # noqa: FBT001 - parameter of the test
    """A transaction whose logs are cut or missing is passed over, and history says that it is not whole."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        traded = desk.controls.foreign_trade(SOL, "long", Decimal(1))

        def cut(result: Json, _: list[Json]) -> Json:
            logs = result["meta"]["logMessages"]
            result["meta"]["logMessages"] = None if absent else [*logs[: len(logs) // 3], "Log truncated"]
            return result

        read = await lied_to(desk, "getTransaction", cut).history(start, await seen(desk))
        assert read == VenueHistory(events=(), complete=False, newest=traded)

    at_desk(play)


def test_listed_transaction_that_no_node_has_is_waited_for() -> None:
    """Reading stops before a transaction that cannot be had, so that the next call asks for it again."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        desk.controls.foreign_trade(SOL, "long", Decimal(1))
        through = await seen(desk)
        read = await lied_to(desk, "getTransaction", lambda _result, _params: None).history(start, through)
        assert read == VenueHistory(events=(), complete=False, newest=start)
        assert len((await desk.provider.history(start, through)).events) == 1

    at_desk(play)


def test_controls_act_over_the_wire() -> None:
    """The controls answer with the signature of the transaction that they sent."""

    async def play(desk: Desk) -> None:
        start = await mark(desk)
        transport = InProcessTransport(desk.cluster, desk.clock, name="hands", faults=desk.faults)
        sent: list[str] = []
        for method, body in (
            ("localnet_foreignTrade", {"market": SOL, "side": "long", "base": "3"}),
            ("localnet_liquidate", {"market": SOL, "collateral_bps": 100}),
        ):
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [body]}
            reply = await transport.post(msgspec.json.encode(request), timeout_s=5)
            sent.append(msgspec.json.decode(reply.body, type=dict[str, Json])["result"])
            await desk.slots(1)
        read = await desk.provider.history(start, await seen(desk))
        assert [each.signature for each in read.events] == sent
        assert not (await desk.provider.holdings()).positions

    at_desk(play)
