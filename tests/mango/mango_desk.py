"""A desk at the embedded cluster: the Mango provider over the wire, on virtual time, on the venue's model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from solders.keypair import Keypair

from providers.mango.config import MangoConfig
from providers.mango.provider import MangoProvider
from providers.solana.cluster import SolanaCluster
from router.localnet.mango.model import MangoModel
from router.localnet.mango.world import MangoWorld, build_mango_world
from router.localnet.world import WorldKeys, build_world
from tests.venue_desk import SLOT_S, SOL, VenueDesk, play_at

__all__ = ["SLOT_S", "SOL", "MangoDesk", "at_mango_desk"]

T = TypeVar("T")


class MangoDesk(VenueDesk[MangoProvider]):
    """Mango; `world` is the embedded cluster's."""

    def __init__(
        self, *, seed: int = 1, nodes: int = 2, config: MangoConfig | None = None, signer: Keypair | None = None
    ) -> None:
        super().__init__(seed=seed, nodes=nodes)
        keys = WorldKeys()
        self.cluster.register(MangoModel())
        build_world(self.cluster, keys=keys)
        self.world: MangoWorld = build_mango_world(self.cluster, keys)
        self.signer = signer or self.world.trader
        self.config = config or MangoConfig()
        self.connect(signer=self.signer)

    def provider_on(self, solana: SolanaCluster) -> MangoProvider:
        """Return a provider that remembers nothing."""
        return MangoProvider(solana, self.config)


def at_mango_desk(play: Callable[[MangoDesk], Awaitable[T]], **options: object) -> T:
    """Run a play at a new desk on virtual time; its slots begin two slots before."""
    return play_at(lambda: MangoDesk(**options), play)  # type: ignore[arg-type]
