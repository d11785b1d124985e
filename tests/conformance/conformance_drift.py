"""Drift at the bench: on the model in Python, or on the real program."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from solders.keypair import Keypair

from providers.base.protocol import Provider
from providers.base.types import OrderTerms
from providers.drift.config import DriftConfig
from providers.drift.provider import DriftProvider
from providers.solana.cluster import SolanaCluster
from router.localnet.controls import Controls, run_world
from router.localnet.drift.enums import MarketStatus
from router.localnet.drift.model import DriftModel
from router.localnet.world import World, WorldKeys, build_world, world_of
from tests.conformance.bench import Bench, Feature

AUCTION_SLOTS = 10


class DriftBench(Bench):
    """The model: every control is there."""

    provider_name = "drift"
    too_small = Decimal("0.05")
    uneven = Decimal("1.017")
    missing: ClassVar[Mapping[Feature, str]] = {}

    controls: Controls
    world: World

    def __init__(self, *, seed: int = 1, binary: Path | None = None) -> None:
        self.binary = binary
        super().__init__(seed=seed)

    def _build(self) -> None:
        keys = WorldKeys()
        self.world = world_of(keys)
        if self.binary is None:
            self.cluster.register(DriftModel(self.world.program_id))
        else:
            self.cluster.add_program(self.world.program_id, self.binary)
        build_world(self.cluster, keys=keys)
        self.controls = run_world(self.cluster, self.world)

    def _provider(self, solana: SolanaCluster) -> Provider:
        return DriftProvider(solana, DriftConfig())

    @property
    def trader(self) -> Keypair:
        """The world's trader."""
        return self.world.trader

    def move_price(self, price: Decimal) -> None:
        """Oracle and AMM."""
        self.controls.set_oracle_price(self.market, price)

    def stale_oracle(self) -> None:
        """Nobody publishes."""
        self.controls.freeze_oracle(self.market)

    def remove_liquidity(self) -> None:
        """The AMM is all there is to trade against."""
        self.controls.pause("market_amm", self.market)

    def pause(self, *, paused: bool = True) -> None:
        """The whole exchange."""
        self.controls.pause("exchange", paused=paused)

    def reduce_only(self, *, on: bool = True) -> None:
        """The market's status."""
        status = MarketStatus.REDUCE_ONLY if on else MarketStatus.ACTIVE
        self.controls.set_market_status(self.market, status)

    def collateral(self, usd: Decimal) -> None:
        """The account's USDC."""
        self.controls.set_collateral(usd)

    async def partial(self) -> OrderTerms:
        """The bound stops the AMM in the middle of its curve."""
        return await self.terms(size=Decimal(600), worst=Decimal("150.1"), leverage=Decimal("9.5"))

    def cap_open_interest(self) -> None:
        """Less than what an ordinary order needs."""
        self.controls.set_open_interest_cap(self.market, Decimal("0.5"))

    def halt(self, *, on: bool = True) -> None:
        """101 to everything."""
        self.controls.halt(on=on)

    def hold_orders(self) -> None:
        """An auction to wait for, and no keeper to end it."""
        self.controls.run_keeper(running=False)
        self.controls.set_auction(AUCTION_SLOTS)


class DriftProgramBench(DriftBench):
    """The real program."""

    missing: ClassVar[Mapping[Feature, str]] = {
        **DriftBench.missing,
        Feature.HALT: "the binary's instructions cannot be taken out",
    }
