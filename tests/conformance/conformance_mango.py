"""Mango at the bench: on the model in Python. There is no program to load beside it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

from solders.keypair import Keypair

from providers.base.protocol import Provider
from providers.mango.config import MangoConfig
from providers.mango.provider import MangoProvider
from providers.solana.cluster import SolanaCluster
from router.localnet.cluster import Cluster
from router.localnet.mango.controls import open_mango
from router.localnet.mango.enums import IxGate
from router.localnet.mango.model import MangoModel
from router.localnet.world import WorldKeys
from tests.conformance.bench import Feature, Venue


class MangoVenue(Venue):
    """The model in Python, its maker and its cranker at work."""

    name = "mango"
    too_small = Decimal("0.0005")
    uneven = Decimal("1.0017")
    part = (Decimal(600), Decimal("150.10"), Decimal("9.5"))
    missing: ClassVar[Mapping[Feature, str]] = {
        Feature.OPEN_INTEREST_CAP: "the venue has no cap",
        Feature.REST: "orders are immediate-or-cancel",
        Feature.KEEPER: "an order fills in its own transaction",
    }

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.register(MangoModel())
        self.world, self.controls = open_mango(cluster, WorldKeys())

    def provider(self, solana: SolanaCluster) -> Provider:
        """The adapter with its defaults."""
        return MangoProvider(solana, MangoConfig())

    @property
    def trader(self) -> Keypair:
        """The world's trader."""
        return self.world.trader

    def move_price(self, price: Decimal) -> None:
        """Oracle, slow price and the maker's orders."""
        self.controls.set_oracle_price(self.market, price)

    def stale_oracle(self) -> None:
        """Nobody publishes."""
        self.controls.freeze_oracle(self.market)

    def remove_liquidity(self) -> None:
        """Both sides of the book are empty."""
        self.controls.empty_book(self.market, "bids")
        self.controls.empty_book(self.market, "asks")

    def pause(self, *, paused: bool = True) -> None:
        """The group's gate for perp orders."""
        self.controls.set_ix_gate(IxGate.PERP_PLACE_ORDER, closed=paused)

    def reduce_only(self, *, on: bool = True) -> None:
        """The market's flag."""
        self.controls.set_reduce_only(self.market, on=on)

    def collateral(self, usd: Decimal) -> None:
        """The account's USDC."""
        self.controls.set_collateral(usd)

    def liquidate(self) -> None:
        """A part of the position, by the world's maker."""
        self.controls.liquidate(self.market)

    def forget_account(self) -> None:
        """As before it was ever set up."""
        self.cluster.set_account(self.world.trader_account.account, None)

    def halt(self, *, on: bool = True) -> None:
        """101 to everything."""
        self.controls.halt(on=on)
