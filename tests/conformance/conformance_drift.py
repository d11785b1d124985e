"""Drift at the bench: on the model in Python, or on the real program."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from solders.keypair import Keypair

from providers.base.protocol import Provider
from providers.drift.config import DriftConfig
from providers.drift.provider import DriftProvider
from providers.solana.cluster import SolanaCluster
from router.localnet.cluster import Cluster
from router.localnet.controls import run_world
from router.localnet.drift.enums import MarketStatus
from router.localnet.drift.model import DriftModel
from router.localnet.world import WorldKeys, build_world, world_of
from tests.conformance.bench import Feature, Venue

AUCTION_SLOTS = 10


class DriftVenue(Venue):
    """The model in Python."""

    name = "drift"
    too_small = Decimal("0.05")
    uneven = Decimal("1.017")
    part = (Decimal(600), Decimal("150.1"), Decimal("9.5"))
    missing: ClassVar[Mapping[Feature, str]] = {
        Feature.KEEPER: "an order meets the venue itself in its own transaction, and rests at the most",
    }

    config = DriftConfig()

    def __init__(self, cluster: Cluster, *, binary: Path | None = None) -> None:
        self.cluster = cluster
        keys = WorldKeys()
        self.world = world_of(keys)
        if binary is None:
            cluster.register(DriftModel(self.world.program_id))
        else:
            cluster.add_program(self.world.program_id, binary)
        build_world(cluster, keys=keys)
        self.controls = run_world(cluster, self.world)

    def provider(self, solana: SolanaCluster) -> Provider:
        """The adapter with its defaults."""
        return DriftProvider(solana, self.config)

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

    def forget_account(self) -> None:
        """As before it was ever set up."""
        self.cluster.set_account(self.world.trader_account.user, None)

    def cap_open_interest(self) -> None:
        """Less than what an ordinary order needs."""
        self.controls.set_open_interest_cap(self.market, Decimal("0.5"))

    def halt(self, *, on: bool = True) -> None:
        """101 to everything."""
        self.controls.halt(on=on)

    def liquidate(self) -> None:
        """A part of the position, by the world's maker."""
        self.controls.liquidate(self.market)

    def hold_orders(self) -> None:
        """An auction to wait for, and no keeper to end it."""
        self.controls.run_keeper(running=False)
        self.controls.set_auction(AUCTION_SLOTS)


class DriftProgramVenue(DriftVenue):
    """The real program."""

    missing: ClassVar[Mapping[Feature, str]] = {
        **DriftVenue.missing,
        Feature.HALT: "the binary's instructions cannot be taken out",
    }
