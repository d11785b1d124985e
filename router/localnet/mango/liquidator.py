"""Somebody who takes over the trader's position when its health is too low, by ordinary transactions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from router.localnet.actors import ActorCluster
from router.localnet.bank import Execution
from router.localnet.mango.actors import MangoCranker, read_account
from router.localnet.mango.calls import liquidate_base, scanned_metas
from router.localnet.mango.execution import Execution as Instruction
from router.localnet.mango.health import Health, HealthKind, MarketPart, health_of
from router.localnet.mango.health_accounts import ScannedAccounts
from router.localnet.mango.numbers import I64_MAX, ONE
from router.localnet.mango.world import MangoMarket, MangoWorld
from router.localnet.programs import Call, ModelRefusal
from router.localnet.sending import send

__all__ = ["MangoLiquidator"]

_USDC = 10**6


class MangoLiquidator:
    """The world's maker, liquidating the trader.

    Args:
        cluster: where the venue is.
        world: its addresses.
        cranker: applies fills that still wait; a position with such fills cannot be liquidated.
        set_collateral: of the trader, in dollars.
    """

    def __init__(
        self, cluster: ActorCluster, world: MangoWorld, cranker: MangoCranker, set_collateral: Callable[[Decimal], None]
    ) -> None:
        self._cluster = cluster
        self._world = world
        self._cranker = cranker
        self._set_collateral = set_collateral
        self._sent = 0

    def liquidate(self, market: MangoMarket, *, margin_share: Decimal) -> Execution:
        """Leave the trader with too little collateral, and have its position in a market liquidated.

        Args:
            market: of the position.
            margin_share: how much of the position's maintenance margin the account covers then, over that of its
                other positions. With the world's terms (initial margin twice maintenance, fee half of it) a part
                goes at 0.8, all of it at 0.5 and less.

        Raises:
            ValueError: there is no position, or profit alone keeps the account, or a price is too old or uncertain.
        """
        self._cranker.crank(market)
        self._set_collateral(self._collateral(market, margin_share))
        self._sent += 1
        world, key = self._world, self._world.trader_account.account
        position = read_account(self._cluster, key).perp(market.terms.index)
        long = position is not None and position.base_position_lots > 0
        call = liquidate_base(world, market, world.maker, key, I64_MAX if long else -I64_MAX)
        return send(self._cluster, world.maker.wallet, [call], number=self._sent)

    def _collateral(self, market: MangoMarket, margin_share: Decimal) -> Decimal:
        """Return the deposit in dollars at which maintenance health lacks the rest of the position's margin."""
        try:
            health = self._health()
        except ModelRefusal as error:
            raise ValueError(f"the trader's health cannot be told: {error.name}") from error
        token, part = health.token(self._world.usdc.terms.token_index), health.market(market.terms.index)
        if token is None or part is None or part.base_lots == 0:
            raise ValueError(f"the trader has no position in {market.terms.symbol}")
        kept = health.value(HealthKind.MAINT) - token.value(HealthKind.MAINT, token.balance)
        lacking = Decimal(_margin(part)) * (1 - margin_share)
        deposit = (-lacking - kept) / ONE / _USDC
        if deposit < 0:
            raise ValueError(f"profit alone keeps the trader {-deposit:f} dollars too well for that")
        return deposit

    def _health(self) -> Health:
        """Return the trader's health as the program would find it now."""
        world = self._world
        call = Call(
            program_id=world.program_id,
            accounts=tuple(scanned_metas(world)),
            data=b"",
            read=self._cluster.account,
            slot=self._cluster.slot,
            unix_timestamp=self._cluster.unix_timestamp,
        )
        run = Instruction(call, "Health")
        account = read_account(self._cluster, world.trader_account.account)
        return health_of(run, account, ScannedAccounts(run, world.group, call.accounts))


def _margin(part: MarketPart) -> int:
    """Return a position's maintenance margin (native quote, I80F48)."""
    market = part.market
    weight = ONE - market.maint_base_asset_weight if part.base_lots > 0 else market.maint_base_liab_weight - ONE
    return abs(part.base_lots) * market.base_lot_size * part.prices.oracle * weight // ONE
