"""What happens to the trader's account without the router: a liquidator, and somebody else who may trade on it.

All by ordinary transactions, so that history shows them as a real chain's does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal

from solders.account import Account
from solders.instruction import Instruction
from solders.keypair import Keypair

from router.localnet.actors import ActorCluster, remaining_accounts, send_as
from router.localnet.bank import Execution
from router.localnet.drift.enums import Direction, OrderType
from router.localnet.drift.genesis import account_data
from router.localnet.drift.layouts import User
from router.localnet.drift.numbers import BASE_PRECISION, QUOTE_PRECISION, U64_MAX
from router.localnet.drift.oracles import read_pyth
from router.localnet.drift.positions import find_position
from router.localnet.drift.wire import FillAccounts, OrderParams, OwnAccounts, liquidate_perp, place_and_take
from router.localnet.spl import SYSTEM_PROGRAM
from router.localnet.world import World, WorldMarket

__all__ = ["Outsiders"]

_DISCRIMINATOR = 8
_DELEGATE_LAMPORTS = 10**9
_BPS = 10_000
_AWAY_BPS = 200


class Outsiders:
    """A liquidator (the world's maker), and a delegate of the trader.

    Args:
        cluster: where the world is.
        world: its addresses.
        set_collateral: of the trader, in dollars.
    """

    def __init__(self, cluster: ActorCluster, world: World, set_collateral: Callable[[Decimal], None]) -> None:
        self._cluster = cluster
        self._world = world
        self._set_collateral = set_collateral
        self._sent = 0

    @property
    def delegate(self) -> Keypair:
        """The key that may trade on the trader's account without owning it; the same for the same trader."""
        return Keypair.from_seed(hashlib.sha256(b"delegate/" + bytes(self._world.trader.pubkey())).digest())

    def liquidate(self, market: WorldMarket, *, collateral_bps: int = 300) -> Execution:
        """Leave the trader with too little collateral for its position, and have it liquidated.

        Args:
            market: of the position.
            collateral_bps: what the account is worth then, of the position's value. With the world's terms
                (maintenance 5 %, buffer 2 %, fees 2 %) a part goes at 300, all of it at 100.

        Raises:
            ValueError: there is no position, or its profit alone keeps it.
        """
        world, index = self._world, market.terms.index
        position = find_position(self._trader(), index)
        if position is None or position.base_asset_amount == 0:
            raise ValueError(f"the trader has no position in {market.terms.symbol}")
        price = self._price(market)
        value = abs(position.base_asset_amount) * price // BASE_PRECISION
        profit = position.base_asset_amount * price // BASE_PRECISION + position.quote_asset_amount
        deposit = value * collateral_bps // _BPS - profit
        if deposit < 0:
            raise ValueError(f"its profit of {profit} alone is more than {collateral_bps} bps of {value}")
        self._set_collateral(Decimal(deposit) / QUOTE_PRECISION)
        maker, trader = world.maker, world.trader_account
        accounts = FillAccounts(
            authority=maker.wallet.pubkey(),
            filler=maker.user,
            filler_stats=maker.user_stats,
            user=trader.user,
            user_stats=trader.user_stats,
        )
        remaining = remaining_accounts(world, writable=index)
        instruction = liquidate_perp(
            world.program_id, accounts, remaining, market_index=index, most_base=U64_MAX - U64_MAX % BASE_PRECISION
        )
        return self._send(maker.wallet, instruction)

    def trade(self, market: WorldMarket, direction: Direction, base: Decimal, *, own_key: bool = False) -> Execution:
        """Trade on the trader's account past the router, signed by its delegate or by the trader's own key.

        Args:
            market: of the trade.
            direction: of the trade; the other side's closes.
            base: whole units.
            own_key: sign with the trader's key, as a second router on the key would.
        """
        world, trader = self._world, self._world.trader_account
        signer = trader.wallet if own_key else self._appointed()
        away = _BPS + (_AWAY_BPS if direction is Direction.LONG else -_AWAY_BPS)
        params = OrderParams(
            order_type=OrderType.LIMIT,
            direction=direction,
            base_asset_amount=int(base * BASE_PRECISION),
            price=self._price(market) * away // _BPS,
            market_index=market.terms.index,
            immediate_or_cancel=True,
        )
        own = OwnAccounts(authority=signer.pubkey(), user=trader.user)
        remaining = remaining_accounts(world, writable=market.terms.index)
        return self._send(signer, place_and_take(world.program_id, own, trader.user_stats, remaining, params))

    def _send(self, wallet: Keypair, instruction: Instruction) -> Execution:
        self._sent += 1
        return send_as(self._cluster, wallet, instruction, number=self._sent)

    def _price(self, market: WorldMarket) -> int:
        """Return the oracle's price (1e6)."""
        oracle = self._cluster.account(market.oracle)
        if oracle is None:
            raise ValueError(f"{market.oracle} is not there")
        return read_pyth(bytes(oracle.data), self._cluster.slot, stable_coin=False).price

    def _trader(self) -> User:
        return User.decode(bytes(self._account().data), _DISCRIMINATOR)

    def _account(self) -> Account:
        account = self._cluster.account(self._world.trader_account.user)
        if account is None:
            raise ValueError("the trader's account is not there")
        return account

    def _appointed(self) -> Keypair:
        """Appoint the delegate, and give it lamports for fees, where that is not done yet."""
        delegate, account, user = self.delegate, self._account(), self._trader()
        if user.delegate != delegate.pubkey():
            user.delegate = delegate.pubkey()
            changed = Account(account.lamports, account_data(user), account.owner)
            self._cluster.set_account(self._world.trader_account.user, changed)
        wallet = self._cluster.account(delegate.pubkey())
        if wallet is None or wallet.lamports < _DELEGATE_LAMPORTS // 2:
            self._cluster.set_account(delegate.pubkey(), Account(_DELEGATE_LAMPORTS, b"", SYSTEM_PROGRAM))
        return delegate
