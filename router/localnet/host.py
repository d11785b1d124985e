"""One cluster with every venue's world in it, ready to trade: what a first run and `perp-router localnet` start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from providers.base.clock import Clock
from providers.solana.signer import KeypairSigner
from providers.solana.transport import NodeTransport
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.controls import Controls, PriceFollower, run_world
from router.localnet.drift.model import DriftModel
from router.localnet.faults import WireFaults
from router.localnet.jupiter.controls import JupiterControls, open_jupiter
from router.localnet.jupiter.model import JupiterModel
from router.localnet.jupiter.world import jupiter_keepers, jupiter_world_of
from router.localnet.mango.controls import MangoControls, open_mango
from router.localnet.mango.model import MangoModel
from router.localnet.mango.world import mango_world_of
from router.localnet.oracle import read_price
from router.localnet.server import LocalnetServer, serve
from router.localnet.transport import InProcessTransport
from router.localnet.world import World, WorldKeys, build_world, world_of

__all__ = ["HostConfig", "LocalnetHost", "Venues", "open_venues"]

log = logging.getLogger(__name__)


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to start.

    Attributes:
        state_dir: where the chain's state is kept.
        port: of the JSON-RPC; the websocket is one above.
        slot_time_ms: length of a slot.
        drift_so: a binary of the real Drift program, in place of the model.
        reset: begin anew, with a new genesis hash.
    """

    state_dir: Path
    port: int
    slot_time_ms: int
    drift_so: Path | None = None
    reset: bool = False


class Venues(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on a cluster: the world's addresses, and the controls of Drift, Mango and Jupiter."""

    world: World
    controls: Controls
    mango: MangoControls
    jupiter: JupiterControls


def open_venues(cluster: Cluster, *, drift_so: Path | None = None) -> Venues:
    """Put every venue on a cluster, at work; what is not there yet is built, what is there stays as it was left.

    Args:
        cluster: new, or resumed from disk, also from a time before one of the venues.
        drift_so: a binary of the real Drift program, in place of the model.
    """
    keys = WorldKeys()
    world = world_of(keys)
    if drift_so is None:
        cluster.register(DriftModel(world.program_id))
    else:
        cluster.add_program(world.program_id, drift_so)
    cluster.register(MangoModel())
    cluster.register(JupiterModel(jupiter_keepers(keys)))
    if cluster.account(world.state) is None:
        world = build_world(cluster, keys=keys)
    controls = run_world(cluster, world)
    new_mango = cluster.account(mango_world_of(keys).group) is None
    new_jupiter = cluster.account(jupiter_world_of(keys).pool) is None
    _, mango = open_mango(cluster, keys)
    _, jupiter = open_jupiter(cluster, keys)
    controls.price_followers += [mango.follow_price, jupiter.follow_price]
    # A venue that comes late finds the prices where they are by then.
    _bring_prices(cluster, world, [mango.follow_price] * new_mango + [jupiter.follow_price] * new_jupiter)
    return Venues(world=world, controls=controls, mango=mango, jupiter=jupiter)


def _bring_prices(cluster: Cluster, world: World, followers: Sequence[PriceFollower]) -> None:
    for market in world.markets:
        account = cluster.account(market.oracle)
        if account is None:
            continue
        price = read_price(account).price
        for follow in followers:
            follow(market.terms.symbol, price, True)


class LocalnetHost:
    """A running cluster with its world, its actors, and its server."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        venues: Venues,
        faults: WireFaults,
        server: LocalnetServer,
        clock: Clock,
    ) -> None:
        self.cluster = cluster
        self.world = venues.world
        self.controls = venues.controls
        self.mango = venues.mango
        self.jupiter = venues.jupiter
        self.faults = faults
        self._server = server
        self._clock = clock

    @classmethod
    async def start(cls, config: HostConfig, clock: Clock) -> LocalnetHost:
        """Start or resume the cluster; a new one is given its world."""
        cluster = Cluster(
            clock, ClusterConfig(slot_time_ms=config.slot_time_ms, state_dir=config.state_dir, reset=config.reset)
        )
        venues = open_venues(cluster, drift_so=config.drift_so)
        faults = WireFaults(clock)
        server = await serve(cluster, "127.0.0.1", config.port, faults=faults)
        await cluster.start()
        log.info(
            "localnet_ready",
            extra={"port": config.port, "slot": cluster.slot, "genesis_hash": str(cluster.genesis_hash)},
        )
        return cls(cluster=cluster, venues=venues, faults=faults, server=server, clock=clock)

    def transport(self) -> NodeTransport:
        """Return the way in for a router in the same process."""
        return InProcessTransport(self.cluster, self._clock, name="embedded", faults=self.faults)

    def trader_signer(self) -> KeypairSigner:
        """Return the signer of the world's funded account."""
        return KeypairSigner(bytes(self.world.trader))

    async def aclose(self) -> None:
        """Stop serving and producing slots; the state stays on disk."""
        await self._server.aclose()
        await self.cluster.aclose()
