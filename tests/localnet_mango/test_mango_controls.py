"""The venue's controls, by the node's own wire; and both venues on one cluster."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.controls import run_world
from router.localnet.drift.model import DriftModel
from router.localnet.host import open_venues
from router.localnet.mango.actors import read_account
from router.localnet.mango.world import mango_world_of
from router.localnet.oracle import read_price
from router.localnet.world import WorldKeys, build_world
from tests.localnet_mango.test_mango_funds import USDC, moving
from tests.localnet_mango.venue_bench import StillClock, Venue

SOL = "SOL-PERP"


def asked(cluster: Cluster, method: str, **params: object) -> dict[str, object]:
    """Call a control as any client of the node would."""
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": [params]})
    return msgspec.json.decode(cluster.handle(body), type=dict[str, object])


def traded(cluster: Cluster, side: str = "long") -> str | None:
    """Trade one SOL by the wire; return null when it filled, else what the answer says."""
    answer = asked(cluster, "localnet_mango_foreignTrade", market=SOL, side=side, base="1")
    cluster.advance(2)
    error = answer.get("error")
    if error is None:
        assert isinstance(answer["result"], str)
        return None
    assert isinstance(error, dict)
    assert error["code"] == -32602
    return str(error["message"])


def bench(tmp_path: Path | None = None) -> Cluster:
    """Return a cluster whose clock stands, with its state on disk where a folder is given."""
    return Cluster(StillClock(1), ClusterConfig(slot_time_ms=400, state_dir=tmp_path))


def test_a_halted_program_answers_nothing_and_its_accounts_stay() -> None:
    """Every instruction is refused with 101 until the halt is taken away; no money is touched meanwhile."""
    venue = Venue()
    assert asked(venue.cluster, "localnet_mango_halt")["result"] is True

    assert venue.send(moving(venue, "token_deposit", USDC)) == 101
    assert venue.send(moving(venue, "token_withdraw", USDC)) == 101
    assert venue.collateral() == 10_000 * USDC
    assert asked(venue.cluster, "localnet_mango_halt", on=False)["result"] is True
    assert venue.send(moving(venue, "token_deposit", USDC)) is None


@pytest.mark.parametrize(
    ("method", "stop", "go", "code"),
    [
        ("halt", {"on": True}, {"on": False}, "101"),
        (
            "setIxGate",
            {"instruction": "perp_place_order"},
            {"instruction": "perp_place_order", "closed": False},
            "6042",
        ),
        ("setReduceOnly", {"market": SOL}, {"market": SOL, "on": False}, "6031"),
        ("setForceClose", {"market": SOL}, {"market": SOL, "on": False}, "6031"),
        (
            "setOracleConfidence",
            {"market": SOL, "confidence": "30"},
            {"market": SOL, "confidence": "0.01"},
            "6023",
        ),
        ("setCollateral", {"usd": "1"}, {"usd": "10000"}, "6007"),
    ],
)
def test_what_stops_the_venue_is_seen_in_the_next_order(
    method: str, stop: dict[str, object], go: dict[str, object], code: str
) -> None:
    """A control on the wire refuses the next order with the program's own code, and lets the one after it through."""
    cluster = Venue().cluster
    assert traded(cluster) is None
    assert asked(cluster, f"localnet_mango_{method}", **stop)["result"] is True
    refusal = traded(cluster)
    assert refusal is not None
    assert code in refusal
    assert asked(cluster, f"localnet_mango_{method}", **go)["result"] is True
    assert traded(cluster) is None


def test_book_queue_maker_and_cranker_by_the_wire() -> None:
    """An emptied side stays empty while the maker stands; a full queue aborts orders until it is emptied again."""
    venue = Venue()
    cluster, world = venue.cluster, venue.world
    assert asked(cluster, "localnet_mango_emptyBook", market=SOL, side="asks")["result"] is True
    assert traded(cluster) is None
    assert venue.base() == 0
    assert asked(cluster, "localnet_mango_maker")["result"] is True
    cluster.advance(3)
    assert traded(cluster) is None
    assert venue.base() == 1
    cluster.advance(5)

    assert asked(cluster, "localnet_mango_fillEventQueue", market=SOL)["result"] is True
    assert traded(cluster) is not None
    assert asked(cluster, "localnet_mango_fillEventQueue", market=SOL, full=False)["result"] is True
    assert traded(cluster) is None

    def waiting() -> int:
        position = read_account(cluster, world.trader_account.account).perp(world.market(SOL).terms.index)
        return 0 if position is None else position.taker_base_lots

    assert asked(cluster, "localnet_mango_cranker", running=False)["result"] is True
    assert traded(cluster) is None
    assert waiting() > 0
    assert asked(cluster, "localnet_mango_cranker")["result"] is True
    cluster.advance(3)
    assert waiting() == 0


def test_accounts_by_the_wire() -> None:
    """A liquidator takes from the trader's position; the mark of a liquidation lasts until health is looked at."""
    venue = Venue()
    cluster = venue.cluster
    assert traded(cluster) is None
    assert isinstance(asked(cluster, "localnet_mango_liquidate", market=SOL)["result"], str)
    cluster.advance(2)
    assert venue.base() < 1
    venue = Venue()
    assert asked(venue.cluster, "localnet_mango_setBeingLiquidated")["result"] is True
    assert read_account(venue.cluster, venue.world.trader_account.account).head.being_liquidated == 1


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("setOraclePrice", {"market": SOL, "price": "0"}),
        ("setReduceOnly", {"market": "DOGE-PERP"}),
        ("setIxGate", {"instruction": "print_money"}),
        ("emptyBook", {"market": SOL, "side": "both"}),
        ("halt", {"on": True, "colour": "red"}),
    ],
)
def test_what_a_control_does_not_know_is_refused(method: str, params: dict[str, object]) -> None:
    """A wrong name, a price that is none, or a field too many is an error of the call."""
    error = asked(Venue().cluster, f"localnet_mango_{method}", **params)["error"]
    assert isinstance(error, dict)
    assert error["code"] == -32602


def test_the_venue_is_described_by_the_wire() -> None:
    """A caller can ask the node where everything is."""
    venue = Venue()
    result = asked(venue.cluster, "localnet_mango_world")["result"]
    assert isinstance(result, dict)
    assert result["account"] == str(venue.world.trader_account.account)
    assert result["markets"][SOL]["oracle"] == str(venue.world.market(SOL).oracle)


def test_one_price_control_moves_both_venues() -> None:
    """`localnet_setOraclePrice` is the market's price everywhere; Mango's own method is for Mango alone."""
    cluster = bench()
    venues = open_venues(cluster)
    world, mango = venues.world, venues.mango
    oracles = (world.market(SOL).oracle, mango.world.market(SOL).oracle)

    def prices() -> list[Decimal]:
        accounts = [cluster.account(oracle) for oracle in oracles]
        return [read_price(account).price for account in accounts if account is not None]

    assert asked(cluster, "localnet_setOraclePrice", market=SOL, price="175.5")["result"] is True
    assert prices() == [Decimal("175.5"), Decimal("175.5")]
    assert traded(cluster) is None
    assert asked(cluster, "localnet_mango_setOraclePrice", market=SOL, price="180")["result"] is True
    assert prices() == [Decimal("175.5"), Decimal(180)]
    assert "error" in asked(cluster, "localnet_setOraclePrice", market="DOGE-PERP", price="1")


def test_a_state_from_before_the_venue_is_given_it(tmp_path: Path) -> None:
    """A cluster left on disk when there was only Drift gets Mango's accounts on its next start, and keeps its own."""
    keys = WorldKeys()
    old = bench(tmp_path)
    world = build_world(old, keys=keys)
    old.register(DriftModel(world.program_id))
    run_world(old, world).set_oracle_price(SOL, Decimal(163))
    old.advance(3)
    genesis, group = old.genesis_hash, mango_world_of(keys).group
    assert old.account(group) is None
    old.abandon()

    resumed = bench(tmp_path)
    open_venues(resumed)
    assert resumed.genesis_hash == genesis
    account = resumed.account(world.market(SOL).oracle)
    assert account is not None
    assert read_price(account).price == 163
    resumed.advance(3)
    assert traded(resumed) is None
    resumed.abandon()

    again = bench(tmp_path)
    mango = open_venues(again).mango
    place = mango.world.market(SOL)
    position = read_account(again, mango.world.trader_account.account).perp(place.terms.index)
    assert position is not None
    assert position.effective_base_lots * place.terms.base_lot == 10**place.terms.base_decimals
    again.abandon()
