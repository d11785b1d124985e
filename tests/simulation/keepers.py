"""The third venue of the simulation: Jupiter, where requests wait for a stranger who may reject, stall or die."""

from __future__ import annotations

from decimal import Decimal

from solders.account import Account

from providers.base.types import HoldingKey, Side
from router.engine.requests import PositionEnded, ProtectRequest, Refusal
from router.ledger.records import Cause, Leg, LegTerms, OrderRecord, OrderStatus, PositionStatus, ProtectionTerms
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
    """A desk on all three venues, with stops and take profits near enough to fire."""

    chain_of_providers = ("drift", "mango", "jupiter")
    venue_kinds = (DriftVenue, MangoVenue, JupiterVenue)

    def protection(self, market: str, side: Side) -> ProtectionTerms:
        """Protect two opens of three by one leg or both."""
        if self.random.random() < 0.33:
            return ProtectionTerms()
        legs = ProtectionTerms()
        for leg in Leg:
            if self.random.random() < 0.7:
                legs = legs.but(leg, self._leg(market, side, leg))
        return legs

    def _leg(self, market: str, side: Side, leg: Leg) -> LegTerms:
        away = Decimal(self.random.randint(15, 60)) / 1_000
        return LegTerms(price=self.price(market) * (1 + away if leg.fires_above(side) else 1 - away))

    def most_filled(self, order: OrderRecord) -> Decimal:
        """Jupiter takes dollars: at a keeper's price that has fallen by a swing they buy so much more."""
        most = super().most_filled(order)
        return most * Decimal("1.15") if order.filled_by == "jupiter" else most

    async def change_protection(self) -> None:
        """Set, move or take away a leg of a random lot."""
        lots, _ = self.ledger.positions(limit=100, status=PositionStatus.OPEN)
        if not lots:
            return
        lot, leg = self.random.choice(lots), self.random.choice(list(Leg))
        terms = self._leg(lot.market, lot.side, leg) if self.random.random() < 0.7 else None
        try:
            await self.engine.protect(ProtectRequest(caller="sim", position_id=lot.position_id, legs={leg: terms}))
            self.report[f"protect:{leg.value}:{'off' if terms is None else 'on'}"] += 1
        except Refusal as e:
            self.report[f"refused:{e.code}"] += 1

    async def act(self) -> None:
        """Place an order, or change what protects a lot."""
        dice = self.random.random()
        if dice < 0.15:
            await self.change_protection()
        elif dice < 0.25:
            self.swing()
        else:
            await super().act()

    def swing(self) -> None:
        """Move a market on every venue at once, far enough for some leg to fire."""
        market = self.random.choice(MARKETS)
        price = self.price(market) * self.random.randint(94, 106) / 100
        for controls in (self.controls, *(venue.controls for venue in self.venues if hasattr(venue, "controls"))):
            controls.set_oracle_price(market, price)
        self.report["swing"] += 1

    async def settle(self) -> None:
        """Take every leg away, so that nothing waits for a price; then let everything end."""
        self.faults.clear()
        for venue in self.venues:
            venue.calm()
        # An open that ends meanwhile brings legs of its own.
        for _ in range(60):
            await self._unprotect()
            if not self.ledger.open_orders():
                break
            await self.clock.sleep(5)
        await super().settle()

    async def _unprotect(self) -> None:
        for lot in self.ledger.positions(limit=500, status=PositionStatus.OPEN)[0]:
            off: dict[Leg, LegTerms | None] = dict.fromkeys(Leg)
            try:
                await self.engine.protect(ProtectRequest(caller="sim", position_id=lot.position_id, legs=off))
            except PositionEnded:
                self.report["ended while it was asked"] += 1

    def check(self) -> None:
        """Hold the ledger against the venues, and count what fired."""
        super().check()
        for view in self.views():
            if view.order.cause is not Cause.CALLER:
                native = "native" if view.order.trigger is not None else "managed"
                self.report[f"leg:{native}:{view.order.cause.value}:{view.order.status.value}"] += 1
            if view.order.status is OrderStatus.FAILED:
                code = "none" if view.order.error is None else view.order.error.code
                self.report[f"failed:{view.order.kind.value}:{view.order.cause.value}:{code}"] += 1
