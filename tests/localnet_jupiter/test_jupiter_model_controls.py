"""The controls on the wire, events as any client sees them, and the venue on a cluster from before it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from solders.keypair import Keypair

from router.localnet import base58
from router.localnet.anchor import event_discriminator
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.controls import run_world
from router.localnet.drift.model import DriftModel
from router.localnet.host import open_venues
from router.localnet.jupiter.actors import code_of, read_content
from router.localnet.jupiter.addresses import EVENT_PREFIX, event_authority
from router.localnet.jupiter.calls import instant_increase
from router.localnet.jupiter.controls import SideName
from router.localnet.jupiter.events import InstantDecreasePositionEvent, InstantIncreasePositionEvent
from router.localnet.jupiter.layouts import AgPriceFeed
from router.localnet.jupiter.world import JUPITER_MARKETS
from router.localnet.sending import send
from router.localnet.world import WorldKeys, build_world
from tests.localnet.localnet_bench import FixedClock
from tests.localnet_jupiter.jupiter_bench import SLOT_MS, SOL, USD, Venue
from tests.localnet_jupiter.test_jupiter_model_requests import increase


class Call(msgspec.Struct, frozen=True, rename="camel"):
    """An instruction as the node shows it."""

    program_id_index: int
    accounts: list[int]
    data: str
    stack_height: int | None = None


class Group(msgspec.Struct, frozen=True):
    """The calls of one instruction."""

    index: int
    instructions: list[Call]


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """What the node says of a transaction's effects."""

    err: object
    inner_instructions: list[Group]
    log_messages: list[str]


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """The keys of a transaction."""

    account_keys: list[str]
    instructions: list[Call]


class Sent(msgspec.Struct, frozen=True):
    """The transaction itself."""

    message: Message


class Shown(msgspec.Struct, frozen=True):
    """A transaction as the node shows it."""

    meta: Meta
    transaction: Sent


def shown(venue: Venue) -> Shown:
    """Return the last transaction as any client reads it."""
    assert venue.last is not None
    options = {"encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    return msgspec.convert(venue.call("getTransaction", venue.last.signature, options), Shown)


def test_events_are_calls_of_the_program_by_itself(venue: Venue) -> None:
    """A request's transaction shows its steps and then the event, signed for by the event authority; logs are whole."""
    venue.open()
    venue.cluster.advance(2)
    answer = shown(venue)
    keys = answer.transaction.message.account_keys
    (group,) = answer.meta.inner_instructions
    assert answer.transaction.message.instructions[group.index].program_id_index == keys.index(
        str(venue.world.program_id)
    )
    programs = [keys[each.program_id_index] for each in group.instructions]
    assert programs == [
        "11111111111111111111111111111111",
        "11111111111111111111111111111111",
        "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL",
        "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
        str(venue.world.program_id),
    ]
    event = group.instructions[-1]
    assert [keys[index] for index in event.accounts] == [str(event_authority()[0])]
    data = base58.decode(event.data)
    assert data.startswith(EVENT_PREFIX + event_discriminator("CreatePositionRequestEvent"))
    program = venue.world.program_id
    logs = answer.meta.log_messages
    assert logs.count(f"Program {program} invoke [1]") == logs.count(f"Program {program} invoke [2]") == 1
    assert logs.count(f"Program {program} success") == 2
    assert logs[-1] == f"Program {program} success"


def test_what_failed_shows_no_event(venue: Venue) -> None:
    """Where the collateral cannot be taken, the calls end with the one that failed."""
    assert venue.send(increase(venue, collateral=10**15)) == 1
    venue.cluster.advance(2)
    answer = shown(venue)
    keys = answer.transaction.message.account_keys
    (group,) = answer.meta.inner_instructions
    assert keys[group.instructions[-1].program_id_index] == "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
    assert f"Program {venue.world.program_id} invoke [2]" not in answer.meta.log_messages
    assert answer.meta.log_messages[-1] == f"Program {venue.world.program_id} failed: custom program error: 0x1"


def test_every_control_is_on_the_wire(tended: Venue) -> None:
    """Each method does what it says, and refuses what it does not know."""
    stranger = Keypair().pubkey()

    def ask(name: str, **params: object) -> object:
        return tended.call(f"localnet_jupiter_{name}", params)

    assert ask("setOraclePrice", symbol="SOL", price="151.5") is True
    assert read_content(tended.cluster, tended.world.custody("SOL").feed, AgPriceFeed).price == 15_150_000_000
    assert ask("setCaps", market="SOL-PERP", position_usd="5000") is True
    assert tended.custody("SOL").max_position_size_usd == 5_000 * USD
    assert ask("setFreeTokens", symbol="USDC", amount="1000") is True
    assets = tended.custody("USDC").assets
    assert assets.owned - assets.locked == 1_000 * USD
    assert ask("setMaxLeverage", market="SOL-PERP", leverage="100") is True
    assert tended.custody("SOL").pricing.max_leverage == 1_000_000
    assert ask("fundWallet", address=str(stranger), symbol="BTC", amount="0.5") is True
    assert tended.tokens("BTC", stranger) == 50_000_000
    assert ask("fundWallet", address=str(stranger), symbol="SOL", amount="2") is True
    assert tended.lamports(stranger) == 2 * SOL
    for name, params in (
        ("pause", {"what": "increase", "market": "SOL-PERP"}),
        ("pause", {"what": "increase", "market": "SOL-PERP", "paused": False}),
        ("freezeOracle", {"symbol": "SOL", "frozen": False}),
        ("halt", {"on": False}),
        ("disableOwnerClose", {"on": False}),
        ("setExecutionWindow", {"seconds": 30}),
        ("keeper", {"running": True}),
        ("setKeeperDelay", {"slots": 1}),
        ("reject", {"reason": None}),
        ("separateSteps", {"on": False}),
        ("dieBetweenSteps", {}),
        ("revive", {}),
    ):
        assert ask(name, **params) is True, name
    tended.open()
    tended.cluster.advance(2)
    assert tended.position().size_usd == 1_000 * USD
    world = ask("world")
    assert isinstance(world, dict)
    assert world["markets"] == list(JUPITER_MARKETS)
    assert world["custodies"]["ETH"]["mint"] == str(tended.world.custody("ETH").mint)


def test_somebody_else_trades_with_the_trader_s_key(tended: Venue) -> None:
    """A foreign trade is a request and its execution, whatever the keeper does; a position can be taken away, too."""
    tended.controls.run_keeper(running=False)
    long = {"market": "ETH-PERP", "side": "long", "size_usd": "600"}
    signature = tended.call("localnet_jupiter_foreignTrade", long)
    assert isinstance(signature, str)
    assert tended.landed(signature).err == b"null"
    position = tended.controls.position("ETH-PERP", "long")
    assert position is not None
    assert position.size_usd == 600 * USD
    tended.call("localnet_jupiter_foreignTrade", {**long, "size_usd": "200", "reduce": True})
    reduced = tended.controls.position("ETH-PERP", "long")
    assert reduced is not None
    assert reduced.size_usd == 400 * USD
    tended.call("localnet_jupiter_foreignTrade", {"market": "SOL-PERP", "side": "short", "size_usd": "50"})
    assert tended.position().size_usd == 50 * USD
    tended.call("localnet_jupiter_liquidate", {"market": "ETH-PERP", "side": "long"})
    gone = tended.controls.position("ETH-PERP", "long")
    assert gone is not None
    assert (gone.size_usd, gone.collateral_usd) == (0, 0)


def test_a_node_can_forget_its_history(venue: Venue) -> None:
    """Transactions older than a few slots are gone, and the node says from where on it has them; the state stays."""
    key = venue.open()
    assert venue.last is not None
    signature = venue.last.signature
    venue.cluster.advance(40)
    options = {"encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    assert venue.call("getTransaction", signature, options) is not None
    venue.call("localnet_forgetHistory", {"slots": 5})
    assert venue.call("getTransaction", signature, options) is None
    assert venue.call("getSignaturesForAddress", str(key)) == []
    assert venue.call("getFirstAvailableBlock") == venue.cluster.slot - 4
    assert venue.request(key) is not None
    venue.cluster.advance(3)
    later = venue.open()
    assert venue.last is not None
    venue.cluster.advance(2)
    assert venue.call("getTransaction", venue.last.signature, options) is not None
    assert venue.request(later) is not None


def cluster_in(folder: Path) -> Cluster:
    """Return a cluster that keeps its state on disk."""
    return Cluster(FixedClock(1), ClusterConfig(slot_time_ms=SLOT_MS, state_dir=folder))


def test_a_state_from_before_the_venue_is_given_it(tmp_path: Path) -> None:
    """A cluster left on disk when there was only Drift gets the venue, at the prices of then, and keeps it."""
    old = cluster_in(tmp_path)
    world = build_world(old, keys=WorldKeys())
    old.register(DriftModel(world.program_id))
    run_world(old, world).set_oracle_price("SOL-PERP", Decimal(163))
    old.advance(3)
    genesis = old.genesis_hash
    old.abandon()

    resumed = cluster_in(tmp_path)
    venues = open_venues(resumed)
    assert resumed.genesis_hash == genesis
    feed = read_content(resumed, venues.jupiter.world.market("SOL-PERP").feed, AgPriceFeed)
    assert feed.price == 163 * 10**8
    venues.jupiter.run_keeper(running=False)
    venues.jupiter.foreign_trade("BTC-PERP", "long", Decimal(500))
    resumed.abandon()

    again = cluster_in(tmp_path)
    position = open_venues(again).jupiter.position("BTC-PERP", "long")
    assert position is not None
    assert position.size_usd == 500 * USD
    again.abandon()


def test_one_price_control_moves_every_venue(tmp_path: Path) -> None:
    """`localnet_setOraclePrice` is the market's price here too, also for the market that only this venue lists."""
    cluster = cluster_in(tmp_path)
    venues = open_venues(cluster)
    for market, price in (("SOL-PERP", "161"), ("ETH-PERP", "3100")):
        body = {"jsonrpc": "2.0", "id": 1, "method": "localnet_setOraclePrice"}
        body |= {"params": [{"market": market, "price": price}]}
        answer = msgspec.json.decode(cluster.handle(msgspec.json.encode(body)), type=dict[str, object])
        assert answer["result"] is True
        feed = read_content(cluster, venues.jupiter.world.market(market).feed, AgPriceFeed)
        assert feed.price == int(Decimal(price).scaleb(8))
    cluster.abandon()


@pytest.mark.parametrize("side", ["long", "short"])
def test_instant_trades_leave_no_request(venue: Venue, side: SideName) -> None:
    """Opened and closed in single transactions that the keeper signs too; the same numbers as by requests."""
    before = venue.custody("BTC" if side == "long" else "USDC").assets
    opened = venue.controls.foreign_trade("BTC-PERP", side, Decimal(1_000), instant=True)
    (more,) = venue.events(InstantIncreasePositionEvent, opened)
    fee = 700_000
    assert (more.size_usd_delta, more.price, more.fee_usd) == (1_000 * USD, 60_000 * USD, fee)
    position = venue.controls.position("BTC-PERP", side)
    assert position is not None
    assert abs(position.collateral_usd - (500 * USD - fee)) <= 1_000
    closed = venue.controls.foreign_trade("BTC-PERP", side, Decimal(400), reduce=True, instant=True)
    (less,) = venue.events(InstantDecreasePositionEvent, closed)
    assert (less.size_usd_delta, less.position_size_usd, less.fee_usd) == (400 * USD, 600 * USD, 280_000)
    venue.controls.foreign_trade("BTC-PERP", side, Decimal(0), reduce=True, instant=True)
    rest = venue.controls.position("BTC-PERP", side)
    assert rest is not None
    assert (rest.size_usd, rest.collateral_usd) == (0, 0)
    assert venue.custody("BTC" if side == "long" else "USDC").assets.locked == before.locked
    assert len(venue.landed(opened).signatures) == 2


def test_instant_trades_need_a_keeper_and_the_time(venue: Venue) -> None:
    """Signed by somebody else than a keeper 6034; for another time than now 6051."""
    slot, now = venue.slot(), venue.cluster.unix_timestamp
    keeper, maker = venue.world.keeper, venue.world.maker

    def attempt(signer: Keypair, at: int) -> int | None:
        call = instant_increase(slot, signer.pubkey(), size_usd=100 * USD, collateral_tokens=50 * USD, now=at)
        return code_of(send(venue.cluster, venue.world.trader, [call], number=at % 1_000, cosigners=[signer]))

    assert attempt(maker, now) == 6034
    assert attempt(keeper, now + 60) == 6051
    assert attempt(keeper, now - 60) == 6051
    assert attempt(keeper, now) is None
    assert venue.position().size_usd == 100 * USD
