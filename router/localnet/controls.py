"""What a test or a person may change in the world while it runs.

Prices, caps, pauses and account states are changed by editing account bytes, so they hold on the model of the program
and on the real one alike; only `localnet_halt` is emulated, by the model. Edits count from the next transaction on.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, Protocol, TypeVar

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

from router.localnet.actors import ActorCluster, Keeper, Maker, OraclePublisher
from router.localnet.control_methods import register_controls
from router.localnet.drift.addresses import user_address
from router.localnet.drift.enums import BalanceType, Direction, ExchangeStatus, MarketStatus, PerpOperation, UserStatus
from router.localnet.drift.genesis import INTEREST_ONE, account_data, scaled_deposit, settle_prices
from router.localnet.drift.layouts import State, User
from router.localnet.drift.market_layouts import PerpMarket, SpotMarket
from router.localnet.drift.model import halt_marker
from router.localnet.drift.spot import token_amount as scaled_tokens
from router.localnet.oracle import PythPrice, read_price, with_price
from router.localnet.outsiders import Outsiders
from router.localnet.sending import signature_of
from router.localnet.spl import rent_exempt, token_amount, with_token_amount
from router.localnet.wire import Json
from router.localnet.world import World, fund_wallet

__all__ = ["ControlCluster", "Controls", "PriceFollower", "run_world"]

_DISCRIMINATOR = 8
_BASE, _PRICE, _USDC = 10**9, 10**6, 10**6

Account_ = TypeVar("Account_", State, User, PerpMarket, SpotMarket)

_EXCHANGE_PAUSES = {
    "exchange": ExchangeStatus.ALL,
    "deposits": ExchangeStatus.DEPOSIT,
    "withdrawals": ExchangeStatus.WITHDRAW,
    "amm": ExchangeStatus.AMM,
    "fills": ExchangeStatus.FILL,
    "funding": ExchangeStatus.FUNDING,
    "settle_pnl": ExchangeStatus.SETTLE_PNL,
}
_MARKET_PAUSES = {
    "market_funding": PerpOperation.UPDATE_FUNDING,
    "market_amm": PerpOperation.AMM_FILL,
    "market_fills": PerpOperation.FILL,
    "market_settle_pnl": PerpOperation.SETTLE_PNL,
}


# Another venue's answer to a price set for all: market, dollars, and whether what trades there follows. It says whether
# the venue lists the market.
PriceFollower = Callable[[str, Decimal, bool], bool]


class ControlCluster(ActorCluster, Protocol):
    """What the controls need of a cluster."""

    def set_account(self, pubkey: Pubkey, account: Account | None, /) -> None:
        """Write an account, or close it with null."""
        ...

    def on_slot(self, callback: Callable[[int], None], /) -> None:
        """Have `callback` called with each new slot."""
        ...

    def register_control(self, name: str, handler: Callable[[bytes], Json], /) -> None:
        """Add a `localnet_*` method."""
        ...


class Controls:
    """The world's controls, for the same process; `control_methods` puts them on the wire.

    Args:
        cluster: where the world is.
        world: its addresses.
        oracles: who keeps prices fresh.
        keeper: who fills orders.

    Attributes:
        price_followers: venues beside this one, whose prices `localnet_setOraclePrice` moves too.
    """

    def __init__(self, cluster: ControlCluster, world: World, oracles: OraclePublisher, keeper: Keeper) -> None:
        self.cluster = cluster
        self.world = world
        self.oracles = oracles
        self.keeper = keeper
        self.maker = Maker(cluster, world)
        self.outsiders = Outsiders(cluster, world, self.set_collateral)
        self.price_followers: list[PriceFollower] = []

    # Prices

    def set_oracle_price(self, market: str, price: Decimal, *, amm_follows: bool = True) -> None:
        """Set an oracle's price in dollars.

        By default the AMM follows at once: its peg is set so that the middle of its spread is the new price, and the
        averages stand there as if for an hour. (The program of this world never moves the peg by itself.) Without
        that, oracle and AMM are apart, as they are in a jump of the market.
        """
        place = self.world.market(market)
        account = self._account(place.oracle)
        quote = read_price(account)
        confidence = price * quote.confidence / quote.price
        self.cluster.set_account(
            place.oracle, with_price(account, PythPrice(price=price, confidence=confidence, slot=self.cluster.slot))
        )
        if amm_follows:
            scaled = int(price * _PRICE)
            self._edit(PerpMarket, place.address, lambda perp: settle_prices(perp, scaled, self.cluster.unix_timestamp))

    def freeze_oracle(self, market: str, *, frozen: bool = True) -> None:
        """Stop publishing a market's price: beyond 10 slots the program's AMM fills nothing, without any error."""
        oracle = self.world.market(market).oracle
        if frozen:
            self.oracles.frozen.add(oracle)
        else:
            self.oracles.frozen.discard(oracle)

    def set_oracle_confidence(self, market: str, confidence: Decimal) -> None:
        """Set the half width of an oracle's confidence interval in dollars; beyond 2 % the AMM fills nothing."""
        oracle = self.world.market(market).oracle
        account = self._account(oracle)
        quote = msgspec.structs.replace(read_price(account), confidence=confidence, slot=self.cluster.slot)
        self.cluster.set_account(oracle, with_price(account, quote))

    # Exchange and markets

    def pause(self, what: str, market: str | None = None, *, paused: bool = True) -> None:
        """Pause something, or let it go on.

        Args:
            what: `exchange`, `deposits`, `withdrawals`, `amm`, `fills`, `funding`, `settle_pnl`; of one market:
                `market_fills`, `market_amm`, `market_funding`, `market_settle_pnl`.
            market: symbol, for the last four.
            paused: false to let it go on.

        Raises:
            ValueError: there is nothing of that name.
        """
        if what in _EXCHANGE_PAUSES:
            flag = int(_EXCHANGE_PAUSES[what])

            def edit_state(state: State) -> None:
                state.exchange_status = state.exchange_status | flag if paused else state.exchange_status & ~flag

            self._edit(State, self.world.state, edit_state)
        elif what in _MARKET_PAUSES and market is not None:
            bit = int(_MARKET_PAUSES[what])

            def edit_market(perp: PerpMarket) -> None:
                perp.paused_operations = perp.paused_operations | bit if paused else perp.paused_operations & ~bit

            self._edit(PerpMarket, self.world.market(market).address, edit_market)
        else:
            names = ", ".join([*_EXCHANGE_PAUSES, *_MARKET_PAUSES])
            raise ValueError(f"cannot pause {what!r}; one of {names} (the market_ ones with a market)")

    def set_market_status(self, market: str, status: MarketStatus, *, expires_in_s: int | None = None) -> None:
        """Set a market's status, and when it expires (seconds from now on the chain's clock; null for never)."""
        expiry = 0 if expires_in_s is None else self.cluster.unix_timestamp + expires_in_s

        def edit(perp: PerpMarket) -> None:
            perp.status, perp.expiry_ts = status, expiry

        self._edit(PerpMarket, self.world.market(market).address, edit)

    def set_open_interest_cap(self, market: str, base: Decimal) -> None:
        """Set the most base (in whole units of it) that all longs, or all shorts, may hold; 0 for no cap."""

        def edit(perp: PerpMarket) -> None:
            perp.amm.max_open_interest = int(base * _BASE)

        self._edit(PerpMarket, self.world.market(market).address, edit)

    def set_auction(self, slots: int) -> None:
        """Set how long orders have to wait before the AMM fills them: 0 here at first, 10 on a fresh exchange."""

        def edit(state: State) -> None:
            state.min_perp_auction_duration = slots

        self._edit(State, self.world.state, edit)

    def halt(self, *, on: bool = True) -> None:
        """Have the model answer every instruction with 101; its accounts stay as they are. Emulated: model only."""
        marker = halt_marker(self.world.program_id)
        account = Account(rent_exempt(0), b"", self.world.program_id) if on else None
        self.cluster.set_account(marker, account)

    def set_deposit_cap(self, usd: Decimal) -> None:
        """Set the most USDC that all deposits together may hold; 0 for no cap."""

        def edit(spot: SpotMarket) -> None:
            spot.max_token_deposits = int(usd * _USDC)

        self._edit(SpotMarket, self.world.spot_market, edit)

    # Accounts

    def set_user_reduce_only(self, *, on: bool = True, authority: Pubkey | None = None) -> None:
        """Let an account only reduce: the trader's, or that of another authority."""

        def edit(user: User) -> None:
            user.status = user.status | UserStatus.REDUCE_ONLY if on else user.status & ~UserStatus.REDUCE_ONLY

        self._edit(User, self._user(authority), edit)

    def set_collateral(self, usd: Decimal, *, authority: Pubkey | None = None) -> None:
        """Set an account's USDC deposit (a borrow is forgotten); vault and market sums follow, positions stay."""
        spot = self._read(SpotMarket, self.world.spot_market)
        user_key = self._user(authority)
        user = self._read(User, user_key)
        holding, wanted, held = user.spot_positions[0], int(usd * _USDC), 0
        if holding.balance_type == BalanceType.DEPOSIT:
            held = scaled_tokens(spot, holding.scaled_balance, BalanceType.DEPOSIT)
            spot.deposit_balance -= holding.scaled_balance
        else:
            spot.borrow_balance -= holding.scaled_balance
        holding.balance_type = BalanceType.DEPOSIT
        holding.scaled_balance = scaled_deposit(wanted) * INTEREST_ONE // spot.cumulative_deposit_interest
        spot.deposit_balance += holding.scaled_balance
        self._write(self.world.spot_market, spot)
        self._write(user_key, user)
        vault = self._account(self.world.spot_vault)
        amount = max(token_amount(bytes(vault.data)) + wanted - held, 0)
        self.cluster.set_account(self.world.spot_vault, with_token_amount(vault, amount))

    def withdraw_collateral(self, usd: Decimal, *, authority: Pubkey | None = None) -> None:
        """Take USDC out of an account's deposit, past every margin check (down to nothing)."""
        spot = self._read(SpotMarket, self.world.spot_market)
        holding = self._read(User, self._user(authority)).spot_positions[0]
        held = Decimal(scaled_tokens(spot, holding.scaled_balance, holding.balance_type)) / _USDC
        self.set_collateral(max(held - usd, Decimal(0)), authority=authority)

    def run_keeper(self, *, running: bool = True) -> None:
        """Let the keeper work, or stand still."""
        self.keeper.running = running

    def fund_wallet(self, wallet: Pubkey, *, sol: Decimal, usdc: Decimal) -> None:
        """Give a wallet SOL and USDC on top of what it has."""
        fund_wallet(self.cluster, self.world, wallet, sol=sol, usdc=usdc)

    def maker_order(self, market: str, side: Literal["long", "short"], base: Decimal, price: Decimal) -> str:
        """Have the maker rest an order (base in whole units, price in dollars); return the signature.

        Raises:
            ValueError: the program refused it.
        """
        direction = Direction.LONG if side == "long" else Direction.SHORT
        return signature_of(self.maker.place(self.world.market(market), direction, base, price))

    def maker_cancel(self) -> str:
        """Have the maker cancel all that rests; return the signature."""
        return signature_of(self.maker.cancel_all())

    def liquidate(self, market: str, *, collateral_bps: int = 300) -> str:
        """Have the trader's position liquidated, a part of it or all (`Outsiders.liquidate`); return the signature.

        Raises:
            ValueError: there is no position, its profit alone keeps it, or the program refused.
        """
        return signature_of(self.outsiders.liquidate(self.world.market(market), collateral_bps=collateral_bps))

    def foreign_trade(
        self, market: str, side: Literal["long", "short"], base: Decimal, *, own_key: bool = False
    ) -> str:
        """Trade on the trader's account past the router, by its delegate or by its own key; return the signature.

        Raises:
            ValueError: the program refused it.
        """
        direction = Direction.LONG if side == "long" else Direction.SHORT
        return signature_of(self.outsiders.trade(self.world.market(market), direction, base, own_key=own_key))

    # Bytes

    def _user(self, authority: Pubkey | None) -> Pubkey:
        if authority is None:
            return self.world.trader_account.user
        return user_address(self.world.program_id, authority)

    def _account(self, key: Pubkey) -> Account:
        account = self.cluster.account(key)
        if account is None:
            raise ValueError(f"{key} is not there")
        return account

    def _read(self, layout: type[Account_], key: Pubkey) -> Account_:
        return layout.decode(bytes(self._account(key).data), _DISCRIMINATOR)

    def _write(self, key: Pubkey, content: State | User | PerpMarket | SpotMarket) -> None:
        account = self._account(key)
        self.cluster.set_account(key, Account(account.lamports, account_data(content), account.owner))

    def _edit(self, layout: type[Account_], key: Pubkey, change: Callable[[Account_], None]) -> None:
        content = self._read(layout, key)
        change(content)
        self._write(key, content)


def run_world(cluster: ControlCluster, world: World) -> Controls:
    """Set the oracles' publisher and the keeper to work on the cluster's slots, and register the controls."""
    oracles, keeper = OraclePublisher(cluster, world), Keeper(cluster, world)
    cluster.on_slot(oracles.on_slot)
    cluster.on_slot(keeper.on_slot)
    controls = Controls(cluster, world, oracles, keeper)
    register_controls(controls)
    return controls
