"""Who is at work in the world: the oracles' publisher and a keeper by themselves, a maker when it is told to.

The first two are called with each new slot. All use nothing but accounts and ordinary transactions, so they work on the
model of the program and on the real one. What they were told (a frozen oracle, a paused keeper) is not kept over a
restart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Protocol

import msgspec
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from router.localnet.anchor import account_discriminator
from router.localnet.bank import Execution
from router.localnet.drift.addresses import USDC_ORACLE, user_stats_address
from router.localnet.drift.curve import ask_price, bid_price, reserve_price
from router.localnet.drift.enums import Direction, MarketType, OrderStatus, OrderType, PostOnly
from router.localnet.drift.layouts import Order, State, User
from router.localnet.drift.market_layouts import PerpMarket
from router.localnet.drift.numbers import BASE_PRECISION, PRICE_PRECISION
from router.localnet.drift.oracles import OraclePrice, read_pyth
from router.localnet.drift.order_rules import (
    auction_complete,
    cross,
    direction_of,
    expired,
    is_limit,
    is_resting,
    must_be_triggered,
    price_at,
    rests_below_step,
    trigger_holds,
    was_triggered,
)
from router.localnet.drift.positions import find_position
from router.localnet.drift.wire import (
    FillAccounts,
    OrderParams,
    OwnAccounts,
    cancel_orders,
    fill_perp_order,
    place_perp_order,
    trigger_order,
)
from router.localnet.oracle import read_price, with_price
from router.localnet.world import World, WorldCluster, WorldMarket

__all__ = ["ActorCluster", "Keeper", "Maker", "OraclePublisher", "remaining_accounts", "send_as"]

_LOG = logging.getLogger(__name__)

_DISCRIMINATOR = 8
_COMPUTE_LIMIT = 600_000
_PUBLISH_EVERY_SLOTS = 4
_RETRY_SLOTS = 8
_LIMIT_GRACE_S = 15
_FRESH_SLOTS = 10
_MOST_MAKERS = 3


class ActorCluster(WorldCluster, Protocol):
    """What an actor needs of a cluster."""

    def accounts_by_owner(self, owner: Pubkey, /) -> list[tuple[Pubkey, Account]]:
        """Return every account of a program."""
        ...

    def latest_blockhash(self) -> Hash:
        """Return the newest blockhash."""
        ...

    def execute(self, tx: VersionedTransaction, /) -> Execution:
        """Execute a signed transaction."""
        ...


def remaining_accounts(world: World, *, writable: int | None = None) -> list[AccountMeta]:
    """Return oracles and markets as the program wants them behind an instruction's own accounts.

    Args:
        world: all its markets are passed.
        writable: the perpetual market that the instruction changes.
    """
    oracles = [world.usdc_oracle, *(market.oracle for market in world.markets)]
    metas = [AccountMeta(oracle, is_signer=False, is_writable=False) for oracle in oracles]
    metas.append(AccountMeta(world.spot_market, is_signer=False, is_writable=False))
    for market in world.markets:
        changes = market.terms.index == writable
        metas.append(AccountMeta(market.address, is_signer=False, is_writable=changes))
    return metas


class OraclePublisher:
    """Keeps every oracle's price fresh, but for those that are frozen."""

    def __init__(self, cluster: ActorCluster, world: World) -> None:
        self._cluster = cluster
        self._oracles = (world.usdc_oracle, *(market.oracle for market in world.markets))
        self.frozen: set[Pubkey] = set()

    def on_slot(self, slot: int) -> None:
        """Publish the last price again when it is a few slots old."""
        for oracle in self._oracles:
            if oracle in self.frozen:
                continue
            account = self._cluster.account(oracle)
            if account is None:
                continue
            quote = read_price(account)
            if slot - quote.slot >= _PUBLISH_EVERY_SLOTS:
                self._cluster.set_account(oracle, with_price(account, msgspec.structs.replace(quote, slot=slot)))


class Maker:
    """A trader that rests orders when it is told to."""

    def __init__(self, cluster: ActorCluster, world: World) -> None:
        self._cluster = cluster
        self._world = world

    def place(self, market: WorldMarket, direction: Direction, base: Decimal, price: Decimal) -> Execution:
        """Rest a post-only order: base in whole units, price in dollars; one that would take is left out."""
        params = OrderParams(
            order_type=OrderType.LIMIT,
            direction=direction,
            base_asset_amount=int(base * BASE_PRECISION),
            price=int(price * PRICE_PRECISION),
            market_index=market.terms.index,
            post_only=PostOnly.TRY,
        )
        return self._send(place_perp_order(self._world.program_id, self._own(), self._remaining(), params))

    def cancel_all(self) -> Execution:
        """Cancel everything that rests."""
        return self._send(cancel_orders(self._world.program_id, self._own(), self._remaining()))

    def _own(self) -> OwnAccounts:
        maker = self._world.maker
        return OwnAccounts(authority=maker.wallet.pubkey(), user=maker.user)

    def _remaining(self) -> list[AccountMeta]:
        return remaining_accounts(self._world)

    def _send(self, instruction: Instruction) -> Execution:
        return send_as(self._cluster, self._world.maker.wallet, instruction)


def send_as(cluster: ActorCluster, wallet: Keypair, instruction: Instruction, *, number: int = 0) -> Execution:
    """Execute one instruction, signed and paid by a wallet; `number` tells equal ones of one blockhash apart."""
    instructions = [set_compute_unit_limit(_COMPUTE_LIMIT + number), instruction]
    message = MessageV0.try_compile(wallet.pubkey(), instructions, [], cluster.latest_blockhash())
    return cluster.execute(VersionedTransaction(message, [wallet]))


class _View:
    """The exchange as the keeper sees it in one slot."""

    def __init__(self, cluster: ActorCluster, world: World, users: list[tuple[Pubkey, User]]) -> None:
        self.world = world
        self.users = users
        self.slot, self.now = cluster.slot, cluster.unix_timestamp
        self._cluster = cluster
        self.state = State.decode(self._data(world.state), _DISCRIMINATOR)
        self._markets: dict[int, tuple[PerpMarket, OraclePrice]] = {}

    def _data(self, key: Pubkey) -> bytes:
        account = self._cluster.account(key)
        return b"" if account is None else bytes(account.data)

    def market(self, index: int) -> tuple[PerpMarket, OraclePrice] | None:
        """Return a market and its oracle's price."""
        if index not in self._markets:
            place = next((market for market in self.world.markets if market.terms.index == index), None)
            if place is None:
                return None
            self._markets[index] = self._read(place)
        return self._markets[index]

    def _read(self, place: WorldMarket) -> tuple[PerpMarket, OraclePrice]:
        stable = place.oracle == USDC_ORACLE
        quote = read_pyth(self._data(place.oracle), self.slot, stable_coin=stable)
        return PerpMarket.decode(self._data(place.address), _DISCRIMINATOR), quote


class Keeper:
    """Fills orders that cross, sets trigger orders off, and removes those whose time is over, by transactions.

    Attributes:
        running: set to false to have it stand still.
    """

    def __init__(self, cluster: ActorCluster, world: World) -> None:
        self._cluster = cluster
        self._world = world
        self._not_before: dict[tuple[Pubkey, int], int] = {}
        self.running = True

    def on_slot(self, slot: int) -> None:
        """Look through all open orders once."""
        if not self.running:
            return
        users = list(self._with_orders())
        if not users:
            self._not_before.clear()
            return
        self._not_before = {order: until for order, until in self._not_before.items() if until > slot}
        view = _View(self._cluster, self._world, users)
        for key, user in users:
            for order in user.orders:
                waits = self._not_before.get((key, order.order_id), 0) > slot
                if order.status == OrderStatus.OPEN and order.market_type == MarketType.PERP and not waits:
                    self._attend(view, key, user, order)

    def _with_orders(self) -> Iterator[tuple[Pubkey, User]]:
        """Find the accounts with an open order; only those are decoded."""
        prefix = account_discriminator("User")
        flag = _DISCRIMINATOR + User.offset_of("has_open_order")[0]
        for key, account in self._cluster.accounts_by_owner(self._world.program_id):
            data = bytes(account.data)
            if len(data) == _DISCRIMINATOR + User.size() and data.startswith(prefix) and data[flag]:
                yield key, User.decode(data, _DISCRIMINATOR)

    def _attend(self, view: _View, key: Pubkey, user: User, order: Order) -> None:
        found = view.market(order.market_index)
        if found is None:
            return
        market, quote = found
        if must_be_triggered(order) and not was_triggered(order):
            if trigger_holds(order, quote.price):
                self._trigger(view, key, user, order)
            return
        makers = _makers(view, key, order, market, quote)
        position = find_position(user, order.market_index)
        held = 0 if position is None else position.base_asset_amount
        over = expired(order, view.now - (_LIMIT_GRACE_S if is_limit(order) else 0))
        idle = rests_below_step(order, held, market.amm.order_step_size)
        if over or idle or makers or _crosses_amm(view, order, market, quote):
            self._fill(view, key, user, order, makers)

    def _accounts(self, key: Pubkey, user: User) -> FillAccounts:
        keeper = self._world.keeper
        return FillAccounts(
            authority=keeper.wallet.pubkey(),
            filler=keeper.user,
            filler_stats=keeper.user_stats,
            user=key,
            user_stats=user_stats_address(self._world.program_id, user.authority),
        )

    def _trigger(self, view: _View, key: Pubkey, user: User, order: Order) -> None:
        remaining = remaining_accounts(self._world, writable=order.market_index)
        instruction = trigger_order(self._world.program_id, self._accounts(key, user), remaining, order.order_id)
        result = send_as(self._cluster, self._world.keeper.wallet, instruction)
        if not result.ok:
            self._not_before[key, order.order_id] = view.slot + _RETRY_SLOTS
        _LOG.debug(
            "keeper_triggered",
            extra={"user": str(key), "order_id": order.order_id, "signature": result.signature, "err": result.err},
        )

    def _fill(self, view: _View, key: Pubkey, user: User, order: Order, makers: list[AccountMeta]) -> None:
        remaining = [*remaining_accounts(self._world, writable=order.market_index), *makers]
        instruction = fill_perp_order(self._world.program_id, self._accounts(key, user), remaining, order.order_id)
        result = send_as(self._cluster, self._world.keeper.wallet, instruction)
        # Whatever came of it: not the same order again at once, unless it was filled in part.
        self._not_before[key, order.order_id] = view.slot + _RETRY_SLOTS
        _LOG.debug(
            "keeper_filled",
            extra={"user": str(key), "order_id": order.order_id, "signature": result.signature, "err": result.err},
        )


def _crosses_amm(view: _View, order: Order, market: PerpMarket, quote: OraclePrice) -> bool:
    """Whether the AMM would fill some of the order now."""
    amm, slot = market.amm, view.slot
    waited = auction_complete(order.slot, view.state.min_perp_auction_duration, slot)
    if not waited or quote.delay > _FRESH_SLOTS:
        return False
    side = direction_of(order)
    price = ask_price(amm, reserve_price(amm)) if side is Direction.LONG else bid_price(amm, reserve_price(amm))
    limit = price_at(order, quote.price, slot, amm.order_tick_size)
    if limit is None:
        return True
    return cross(side, limit, price) if order.post_only else cross(side.opposite, price, limit)


def _makers(view: _View, taker_key: Pubkey, order: Order, market: PerpMarket, quote: OraclePrice) -> list[AccountMeta]:
    """Return the accounts of others whose resting orders cross this one."""
    side, tick = direction_of(order), market.amm.order_tick_size
    limit = price_at(order, quote.price, view.slot, tick)
    if order.post_only:
        return []
    metas: list[AccountMeta] = []
    for key, user in view.users:
        if key == taker_key or len(metas) >= 2 * _MOST_MAKERS:
            continue
        prices = [
            price_at(made, quote.price, view.slot, tick)
            for made in user.orders
            if made.status == OrderStatus.OPEN
            and (made.market_type, made.market_index) == (order.market_type, order.market_index)
            and made.direction == side.opposite
            and made.slot < order.slot
            and is_resting(made, view.slot)
        ]
        if any(price is not None and (limit is None or cross(side.opposite, price, limit)) for price in prices):
            stats = user_stats_address(view.world.program_id, user.authority)
            metas += [AccountMeta(account, is_signer=False, is_writable=True) for account in (key, stats)]
    return metas
