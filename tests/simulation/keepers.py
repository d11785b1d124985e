"""The third venue of the simulation: Jupiter, where requests wait for a stranger who may reject, stall or die."""

from __future__ import annotations

from decimal import Decimal

from solders.account import Account

from providers.base.types import HoldingKey, Side
from router.localnet.jupiter.controls import open_jupiter
from router.localnet.jupiter.model import JupiterModel
from router.localnet.jupiter.world import jupiter_keepers
from router.localnet.world import WorldKeys
from tests.simulation.outside import BusyDesk, DriftVenue, MangoVenue
from tests.simulation.sim import MARKETS, Desk

__all__ = ["JupiterVenue", "ThreeVenueDesk"]

USD = 10**6
PLENTY_USD = Decimal(10**8)
LAMPORTS = 10**9


class JupiterVenue:
    """Jupiter's side of the world, in the same cluster."""

    name = "jupiter"
    signs_itself = True

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        keys = WorldKeys()
        desk.chain.register(JupiterModel(jupiter_keepers(keys)))
        self.world, self.controls = open_jupiter(desk.chain, keys)

    def holdings(self, market: str) -> dict[HoldingKey, tuple[Decimal, Decimal]]:
        """Return both sides: dollars at entry, as base at the rounded entry price, and what that rounding may hide."""
        found: dict[HoldingKey, tuple[Decimal, Decimal]] = {}
        for side in Side:
            position = self.controls.position(market, side.value)
            size, off = Decimal(0), Decimal(0)
            if position is not None and position.size_usd:
                size = Decimal(position.size_usd) / position.price
                # A millionth of a dollar of the price, and some of every order that was ever rounded to one.
                off = size / position.price + Decimal(50) / position.price
            found[HoldingKey(market=market, side=side)] = (size if side is Side.LONG else -size, off)
        return found

    def trade(self, market: str) -> str:
        """Grow or reduce one side, by the key itself: positions have no delegates."""
        dice = self._desk.random
        side = dice.choice(list(Side))
        position = self.controls.position(market, side.value)
        if position is not None and position.size_usd and dice.random() < 0.6:
            size = Decimal(position.size_usd * dice.choice([30, 60, 100]) // 100) / USD
            return self.controls.foreign_trade(market, side.value, size, reduce=True)
        return self.controls.foreign_trade(market, side.value, Decimal(dice.randint(20, 200)))

    def liquidate(self, market: str) -> str:
        """Take away what backs one side, and have somebody liquidate it."""
        held = [key.side for key, (size, _) in self.holdings(market).items() if size and key.side is not None]
        if not held:
            raise ValueError(f"nothing is held in {market}")
        return self.controls.liquidate(market, self._desk.random.choice(held).value)

    def heal(self) -> None:
        """Give the wallet SOL and dollars again."""
        wallet = self.world.trader.pubkey()
        account = self._desk.chain.account(wallet)
        assert account is not None
        if account.lamports < 50 * LAMPORTS:
            self._desk.chain.set_account(wallet, Account(100 * LAMPORTS, b"", account.owner))
            for symbol, amount in (("USDC", 10_000), ("BTC", 1)):
                self.controls.fund_wallet(wallet, symbol, Decimal(amount))

    def disturb(self) -> None:
        """Move price, keeper, permissions, caps."""
        dice, controls = self._desk.random, self.controls
        change = dice.choice(["price", "price", "delay", "reject", "stall", "die", "steps", "revive", "oracle", "cap"])
        self._desk.report[f"venue:jupiter:{change}"] += 1
        market = dice.choice(MARKETS)
        if change == "price":
            controls.set_oracle_price(market, self._desk.price(market) * dice.randint(97, 103) / 100)
        elif change == "delay":
            controls.set_keeper_delay(dice.choice([0, 1, 3, 30]))
        elif change == "reject":
            controls.reject(dice.choice(["CustodyAmountLimit", None]))
        elif change == "stall":
            controls.run_keeper(running=dice.random() < 0.5)
        elif change == "die":
            controls.die_between_steps()
        elif change == "steps":
            controls.separate_steps(on=dice.random() < 0.5)
        elif change == "revive":
            controls.revive()
        elif change == "oracle":
            controls.freeze_oracle(market, frozen=dice.random() < 0.3)
        else:
            controls.set_caps(market, long_usd=dice.choice([Decimal(1), PLENTY_USD]))

    def calm(self) -> None:
        """Let orders end."""
        self.controls.run_keeper()
        self.controls.reject(None)
        self.controls.revive()
        for market in MARKETS:
            self.controls.freeze_oracle(market, frozen=False)
            self.controls.set_caps(market, long_usd=PLENTY_USD)


class ThreeVenueDesk(BusyDesk):
    """A desk on all three venues."""

    chain_of_providers = ("drift", "mango", "jupiter")
    venue_kinds = (DriftVenue, MangoVenue, JupiterVenue)
