"""A desk at the embedded cluster: the provider over the wire, on virtual time, on the model or on the real program."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec
from solders.keypair import Keypair

from providers.base.types import OrderKind, OrderTerms, OutcomeState, Side, Submission, Trigger
from providers.drift.config import DriftConfig
from providers.drift.provider import DriftProvider
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from router.localnet.controls import Controls, run_world
from router.localnet.drift.model import DriftModel
from router.localnet.world import World, WorldKeys, build_world, world_of
from tests.venue_desk import SLOT_S, SOL, VenueDesk, play_at

__all__ = ["BINARY_VARIABLE", "SLOT_S", "SOL", "Desk", "at_desk", "program_binary"]

T = TypeVar("T")

BINARY_VARIABLE = "PERP_ROUTER_DRIFT_SO"


def program_binary() -> Path | None:
    """Return the real program's file, when the environment names one."""
    name = os.environ.get(BINARY_VARIABLE)
    return Path(name) if name else None


class Desk(VenueDesk[DriftProvider]):
    """Drift; `world` and `controls` are the embedded cluster's."""

    def __init__(
        self,
        *,
        binary: Path | None = None,
        seed: int = 1,
        nodes: int = 2,
        config: DriftConfig | None = None,
        signer: Keypair | None = None,
        settings: SolanaSettings | None = None,
        quotes_only: bool = False,
    ) -> None:
        super().__init__(seed=seed, nodes=nodes, settings=settings)
        keys = WorldKeys()
        self.world: World = world_of(keys)
        if binary is None:
            self.cluster.register(DriftModel(self.world.program_id))
        else:
            self.cluster.add_program(self.world.program_id, binary)
        build_world(self.cluster, keys=keys)
        self.controls: Controls = run_world(self.cluster, self.world)
        self.signer = signer or self.world.trader
        self.config = config or DriftConfig()
        self.connect(signer=None if quotes_only else self.signer)

    def provider_on(self, solana: SolanaCluster) -> DriftProvider:
        """Return a provider that remembers nothing."""
        return DriftProvider(solana, self.config)

    async def leg(self, side: Side, size: str, price: str, *, above: bool, **more: object) -> OrderTerms:
        """Return the terms of a stop or take profit of a position of `side`."""
        terms = await self.terms(side, size, kind=OrderKind.CLOSE, worst="1", **more)  # type: ignore[arg-type]
        return msgspec.structs.replace(terms, trigger=Trigger(price=Decimal(price), above=above))

    async def protect(self, side: Side, size: str, price: str, *, above: bool, **more: object) -> Submission:
        """Prepare and send a stop or take profit, and wait until it rests."""
        submission = await self.provider.prepare_trigger(await self.leg(side, size, price, above=above, **more))
        await self.provider.submit(submission)
        outcome = await self.until(submission, lambda each: each.resting)
        assert (outcome.state, outcome.landed, outcome.resting) == (OutcomeState.UNKNOWN, True, True), outcome
        return submission


def at_desk(play: Callable[[Desk], Awaitable[T]], **options: object) -> T:
    """Run a play at a new desk on virtual time; its slots begin two slots before."""
    return play_at(lambda: Desk(**options), play)  # type: ignore[arg-type]
