"""A walk of random steps: whatever happens, the pool's books are the sum of its positions, and nothing is lost."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from solders.pubkey import Pubkey

from router.localnet.jupiter.calls import create_decrease, create_increase, liquidate
from router.localnet.jupiter.controls import SideName
from router.localnet.jupiter.pricing import LONG, SHORT
from router.localnet.jupiter.venue import DECREASE, INCREASE
from router.localnet.jupiter.world import JUPITER_MARKETS
from tests.localnet_jupiter.jupiter_bench import USD, Venue

STEPS = 80
SIDES: dict[int, SideName] = {LONG: "long", SHORT: "short"}


class Walk:
    """The trader and its keeper, doing whatever comes to mind."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a walk that can be repeated
        self.venue = Venue(keeper=True)
        self.requests: list[Pubkey] = []
        self.counter = 0
        self.prices = {market: Decimal(self.venue.world.market(market).terms.price_usd) for market in JUPITER_MARKETS}
        self.begun = {each.terms.symbol: self.venue.custody(each.terms.symbol) for each in self.venue.world.custodies}
        for symbol in ("ETH", "BTC"):
            self.venue.controls.fund_wallet(self.venue.trader, symbol, Decimal(100))
        self.venue.wrap(1_000 * 10**9)

    def step(self) -> None:
        """Do one thing, and let a few slots pass."""
        act = self.chance.choice(
            [self.open, self.open, self.reduce, self.reduce, self.wait_for_price, self.move, self.trouble, self.cancel]
        )
        act()
        self.venue.cluster.advance(self.chance.choice([1, 3, 8, 140]))

    def _next(self) -> int:
        self.counter += 1
        return self.counter

    def _slot(self) -> tuple[str, int]:
        return self.chance.choice(JUPITER_MARKETS), self.chance.choice([LONG, SHORT])

    def open(self) -> None:
        """Ask for more, with a leverage of up to twelve."""
        (market, side), venue = self._slot(), self.venue
        slot, size = venue.slot(market, side), self.chance.randrange(50, 4_000) * USD + self.chance.randrange(USD)
        backing = Decimal(size) / USD / self.chance.randrange(1, 12) / slot.collateral.terms.price_usd
        tokens = int(backing * 10**slot.collateral.terms.decimals)
        call = create_increase(slot, self._next(), size_usd=size, collateral_tokens=tokens)
        if venue.send(call) is None:
            self.requests.append(slot.request(self.counter, INCREASE))

    def reduce(self) -> None:
        """Ask for less, or for nothing more, of what is there."""
        (market, side), venue = self._slot(), self.venue
        position = venue.controls.position(market, SIDES[side])
        if position is None or not position.size_usd:
            return
        size = self.chance.choice([0, position.size_usd // 3, position.size_usd // 2])
        taken = self.chance.choice([0, 0, position.collateral_usd // 10]) if size else 0
        slot = venue.slot(market, side)
        if venue.send(create_decrease(slot, self._next(), size_usd=size, collateral_usd=taken)) is None:
            self.requests.append(slot.request(self.counter, DECREASE))

    def wait_for_price(self) -> None:
        """Place a stop or a take profit near the price."""
        (market, side), venue = self._slot(), self.venue
        position = venue.controls.position(market, SIDES[side])
        if position is None or not position.size_usd:
            return
        above = self.chance.random() < 0.5
        price = self.prices[market]
        trigger = int(price * USD * (Decimal("1.02") if above else Decimal("0.98")))
        slot, size = venue.slot(market, side), position.size_usd // self.chance.choice([1, 2])
        if venue.send(create_decrease(slot, self._next(), size_usd=size, trigger=(trigger, above))) is None:
            self.requests.append(slot.request(self.counter, DECREASE))

    def move(self) -> None:
        """Move a price by up to four per cent."""
        market = self.chance.choice(JUPITER_MARKETS)
        price = self.prices[market] * self.chance.randrange(960, 1_041) / 1_000
        self.prices[market] = price.quantize(Decimal("0.01"))
        self.venue.controls.set_oracle_price(market, self.prices[market])

    def trouble(self) -> None:
        """Have the keeper stop, die, reject or work again; have somebody else trade or liquidate."""
        (market, side), controls = self._slot(), self.venue.controls
        what = self.chance.randrange(6)
        if what == 0:
            controls.die_between_steps()
        elif what == 1:
            controls.reject("no reason")
        elif what == 2:
            controls.run_keeper(running=False)
        elif what == 3:
            controls.foreign_trade(market, SIDES[side], Decimal(100))
        else:
            controls.revive()
        if what == 5 and self.chance.random() < 0.5:
            position = controls.position(market, SIDES[side])
            if position is not None and position.size_usd:
                self._liquidate(market, side)

    def _liquidate(self, market: str, side: int) -> None:
        """Let the price run away from a position until somebody may take it; then let it come back."""
        held, venue = self.prices[market], self.venue
        venue.controls.set_oracle_price(market, held * (Decimal("0.3") if side == LONG else Decimal(3)))
        slot = venue.slot(market, side)
        position = venue.position(market, side)
        maker = venue.world.maker
        venue.send(liquidate(venue.world, slot.address, position, maker.pubkey()), wallet=maker)
        venue.controls.set_oracle_price(market, held)

    def cancel(self) -> None:
        """Close one of the requests that are there as their owner, whether that is allowed or not."""
        alive = [key for key in self.requests if self.venue.request(key) is not None]
        if alive:
            self.venue.cancel(self.chance.choice(alive))

    def check(self) -> None:
        """Hold the custodies against the positions."""
        venue, world = self.venue, self.venue.world
        held = [
            (market, side, position)
            for market in JUPITER_MARKETS
            for side in (LONG, SHORT)
            if (position := venue.controls.position(market, SIDES[side])) is not None
        ]
        for place in world.custodies:
            symbol = place.terms.symbol
            begun, now = self.begun[symbol].assets, venue.custody(symbol).assets
            backed = [position for _, _, position in held if position.collateral_custody == place.address]
            assert now.locked == begun.locked + sum(position.locked_amount for position in backed)
            longs = [position for position in backed if position.side == LONG]
            assert now.guaranteed_usd == begun.guaranteed_usd + sum(p.size_usd - p.collateral_usd for p in longs)
            shorts = [p for _, side, p in held if side == SHORT and p.custody == place.address]
            assert now.global_short_sizes == begun.global_short_sizes + sum(p.size_usd for p in shorts)
            others = sum(position.collateral_usd for position in backed if position.side == SHORT)
            rest = venue.vault(symbol) - now.owned - now.fees_reserves - others
            # Rounding of dollars to tokens, always so that the vault has enough.
            assert -STEPS <= rest <= 3 * STEPS, (symbol, rest)
        assert all(position.size_usd or not position.collateral_usd for _, _, position in held)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_books_hold_whatever_happens(seed: int) -> None:
    """After every step the custodies are what the positions make of them; in the end every request is over."""
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
        walk.check()
    walk.venue.controls.revive()
    walk.venue.wait(2)
    for key in walk.requests:
        if walk.venue.request(key) is not None:
            assert walk.venue.cancel(key) is None
    assert len(walk.requests) > STEPS // 3
    walk.check()
