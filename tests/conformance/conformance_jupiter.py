"""Jupiter Perps at the bench: on the model in Python, with a keeper at work. There is no program to load beside it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

from solders.account import Account
from solders.keypair import Keypair
from solders.token.associated import get_associated_token_address

from providers.base.protocol import Provider
from providers.jupiter.config import JupiterConfig
from providers.jupiter.provider import JupiterProvider
from providers.solana.cluster import SolanaCluster
from providers.solana.settings import SolanaSettings
from router.localnet.cluster import Cluster
from router.localnet.jupiter.controls import open_jupiter
from router.localnet.jupiter.model import JupiterModel
from router.localnet.jupiter.world import jupiter_keepers
from router.localnet.world import WorldKeys, build_world
from tests.conformance.bench import Feature, Venue

LAMPORTS = 10**9
# Of an open, on loan: position, request, escrow, a wrapped account, the lock; and one that a refund goes to.
RENTS_SOL = Decimal("0.013")


class JupiterVenue(Venue):
    """The model in Python, its keeper and its publisher of prices at work."""

    name = "jupiter"
    too_small = Decimal("0.000005")
    uneven = Decimal("1.000017")
    # Sizes are kept in millionths of a dollar, much finer than steps.
    nothing = Decimal("0.000000001")
    part = (Decimal(1), Decimal(1), Decimal(1))
    missing: ClassVar[Mapping[Feature, str]] = {
        Feature.NETTING: "a market's long and short are two positions",
        Feature.PARTIAL: "a request is executed whole, or not at all",
        Feature.ACCOUNT: "there is no account to set up: positions belong to the wallet",
    }

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        keys = WorldKeys()
        cluster.register(JupiterModel(jupiter_keepers(keys)))
        if cluster.account(keys.keypair("maker").pubkey()) is None:
            # Alone on its cluster: wallets and their dollars come with the world around it.
            build_world(cluster, keys=keys)
        self.world, self.controls = open_jupiter(cluster, keys)

    def provider(self, solana: SolanaCluster) -> Provider:
        """The adapter with its defaults."""
        return JupiterProvider(solana, JupiterConfig())

    @property
    def trader(self) -> Keypair:
        """The world's trader."""
        return self.world.trader

    def move_price(self, price: Decimal) -> None:
        """The oracle: nothing trades that could follow."""
        self.controls.set_oracle_price(self.market, price)

    def stale_oracle(self) -> None:
        """Nobody publishes."""
        self.controls.freeze_oracle(self.market)

    def remove_liquidity(self) -> None:
        """Every token of the pool is locked by others' positions."""
        for symbol in ("SOL", "USDC"):
            self.controls.set_free_tokens(symbol, Decimal(0))

    def pause(self, *, paused: bool = True) -> None:
        """The whole program's permissions."""
        self.controls.pause("increase", paused=paused)
        self.controls.pause("decrease", paused=paused)

    def reduce_only(self, *, on: bool = True) -> None:
        """The market's permission to increase."""
        self.controls.pause("increase", self.market, paused=on)

    def collateral(self, usd: Decimal) -> None:
        """The wallet's SOL, that longs are backed by, beside the reserve and what one open lends to rents."""
        reserve = Decimal(SolanaSettings().sol_reserve_lamports) / LAMPORTS
        sol = min(reserve + RENTS_SOL + usd / self.price, Decimal(10**9))
        wallet = self.trader.pubkey()
        account = self.cluster.account(wallet)
        assert account is not None
        self.cluster.set_account(wallet, Account(int(sol * LAMPORTS), b"", account.owner))

    def cap_open_interest(self) -> None:
        """The dollars of all longs and of all shorts."""
        self.controls.set_caps(self.market, long_usd=Decimal(1), short_usd=Decimal(1))

    def hold_orders(self) -> None:
        """Requests wait: the keeper stands still."""
        self.controls.run_keeper(running=False)

    def release_orders(self) -> None:
        """The keeper works again; it closes what it had executed."""
        self.controls.revive()

    def reject_orders(self) -> None:
        """The keeper gives back every request."""
        self.controls.reject()

    def interrupt_orders(self) -> None:
        """The keeper executes the next one, and dies."""
        self.controls.die_between_steps()

    def wealth(self) -> Decimal:
        """SOL, wrapped SOL and USDC."""
        wallet = self.trader.pubkey()
        account = self.cluster.account(wallet)
        assert account is not None
        total = Decimal(account.lamports) / LAMPORTS * self.price
        for symbol, price in (("SOL", self.price), ("USDC", Decimal(1))):
            custody = self.world.custody(symbol)
            tokens = self.cluster.account(get_associated_token_address(wallet, custody.mint))
            if tokens is not None:
                # The amount is the token account's third field.
                amount = int.from_bytes(bytes(tokens.data)[64:72], "little")
                total += Decimal(amount).scaleb(-custody.terms.decimals) * price
        return total

    def liquidate(self) -> None:
        """All of the position, by the world's maker."""
        self.controls.liquidate(self.market, "long")

    def forget_account(self) -> None:
        """There is none."""
        raise AssertionError(self.missing[Feature.ACCOUNT])

    def halt(self, *, on: bool = True) -> None:
        """101 to everything."""
        self.controls.halt(on=on)
