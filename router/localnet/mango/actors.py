"""Who is at work at the venue: its oracles' publisher, its maker, its cranker.

All are called with each new slot, and use nothing but accounts and ordinary transactions. What they were told (a
frozen oracle, a paused maker) is not kept over a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from router.localnet.actors import ActorCluster
from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.calls import OrderCall, cancel_order, consume_events, health_metas, place_order
from router.localnet.mango.enums import FREE_SLOT, OrderTree, PlaceOrderType, Side
from router.localnet.mango.genesis import Level
from router.localnet.mango.queue import EventQueue, FillEvent, OutEvent
from router.localnet.mango.world import MangoMarket, MangoWorld
from router.localnet.oracle import read_price, with_price
from router.localnet.sending import send

__all__ = ["MangoCranker", "MangoMaker", "MangoOracles", "active_markets", "oracle_lots", "read_account"]

_LOG = logging.getLogger(__name__)

_DISCRIMINATOR = 8
_COMPUTE_LIMIT = 1_400_000
_PUBLISH_EVERY_SLOTS = 4
_CRANK_EVERY_SLOTS = 3
_QUOTE_EVERY_SLOTS = 5
_EVENTS = 8
_NUMBERS = 1_000
_ROUNDS = 4
_ORDERS_A_TRANSACTION = 4


def _data(cluster: ActorCluster, key: Pubkey) -> bytes:
    account = cluster.account(key)
    if account is None:
        raise ValueError(f"{key} is not there")
    return bytes(account.data)


def read_account(cluster: ActorCluster, key: Pubkey) -> MangoAccount:
    """Return a trader's account as it is now."""
    return MangoAccount.decode(_data(cluster, key), _DISCRIMINATOR)


def active_markets(account: MangoAccount) -> list[int]:
    """Return the markets in which an account has a position, in its own order."""
    return [slot.market_index for slot in account.perps if slot.is_active]


def oracle_lots(cluster: ActorCluster, market: MangoMarket) -> int:
    """Return a market's oracle price in the book's unit."""
    account = cluster.account(market.oracle)
    if account is None:
        raise ValueError(f"{market.oracle} is not there")
    terms = market.terms
    scaled = read_price(account).price * 10**6 * terms.base_lot
    return int(scaled / (10**terms.base_decimals * terms.quote_lot))


class MangoOracles:
    """Keeps the venue's prices fresh, but for those that are frozen."""

    def __init__(self, cluster: ActorCluster, world: MangoWorld) -> None:
        self._cluster = cluster
        self._world = world
        self.frozen: set[Pubkey] = set()

    def on_slot(self, slot: int) -> None:
        """Publish the last price again when it is a few slots old."""
        for oracle in self._world.oracles:
            account = None if oracle in self.frozen else self._cluster.account(oracle)
            if account is None:
                continue
            quote = read_price(account)
            if slot - quote.slot >= _PUBLISH_EVERY_SLOTS:
                self._cluster.set_account(oracle, with_price(account, msgspec.structs.replace(quote, slot=slot)))


class MangoCranker:
    """Has waiting events applied to the accounts that they are of.

    Attributes:
        running: set to false to have it stand still.
    """

    def __init__(self, cluster: ActorCluster, world: MangoWorld) -> None:
        self._cluster = cluster
        self._world = world
        self.running = True

    def on_slot(self, slot: int) -> None:
        """Look at every queue, every few slots."""
        if self.running and slot % _CRANK_EVERY_SLOTS == 0:
            for market in self._world.markets:
                self.crank(market)

    def crank(self, market: MangoMarket) -> None:
        """Apply what waits in a market, a few times eight events."""
        for number in range(_ROUNDS):
            queue = EventQueue.decode(_data(self._cluster, market.event_queue), _DISCRIMINATOR)
            if queue.count == 0:
                return
            accounts: dict[Pubkey, None] = {}
            for event in queue.events()[:_EVENTS]:
                if isinstance(event, FillEvent):
                    accounts |= {event.maker: None, event.taker: None}
                elif isinstance(event, OutEvent):
                    accounts[event.owner] = None
            call = consume_events(self._world, market, list(accounts), _EVENTS)
            result = send(self._cluster, self._world.keeper.wallet, [call], number=number)
            if not result.ok:
                _LOG.warning("mango_crank_refused", extra={"market": market.terms.symbol, "err": result.err})
                return


class MangoMaker:
    """Rests orders on both sides, and replaces what was taken or has fallen behind the price.

    Attributes:
        running: set to false to have it stand still.
    """

    def __init__(self, cluster: ActorCluster, world: MangoWorld) -> None:
        self._cluster = cluster
        self._world = world
        self.running = True

    def on_slot(self, slot: int) -> None:
        """Look at the own orders, every few slots."""
        if self.running and slot % _QUOTE_EVERY_SLOTS == 0:
            account = read_account(self._cluster, self._world.maker.account)
            for market in self._world.markets:
                self._attend(market, account)

    def requote(self, market: MangoMarket) -> None:
        """Bring one market's orders to where they belong now."""
        self._attend(market, read_account(self._cluster, self._world.maker.account))

    def _attend(self, market: MangoMarket, account: MangoAccount) -> None:
        own = {slot.client_id: slot for slot in account.perp_open_orders if slot.market == market.terms.index}
        price = oracle_lots(self._cluster, market)
        cancelled: list[Instruction] = []
        placed: list[OrderCall] = []
        for number, level in enumerate(market.terms.levels):
            for side in Side:
                client_order_id = 2 * number + side + 1
                order = _order(level, side, price, client_order_id)
                slot = own.get(client_order_id)
                if slot is not None and slot.market != FREE_SLOT:
                    resting = slot.id >> 64
                    misplaced = (
                        level.tree is OrderTree.FIXED and abs(resting - order.price_lots) * 4 > level.offset_lots
                    )
                    if 2 * slot.quantity >= level.base_lots and not misplaced:
                        continue
                    cancelled.append(cancel_order(self._world, market, self._world.maker, slot.id))
                placed.append(order)
        for start in range(0, len(cancelled), _ORDERS_A_TRANSACTION):
            self._send(cancelled[start : start + _ORDERS_A_TRANSACTION])
        for start in range(0, len(placed), _ORDERS_A_TRANSACTION):
            self._send(
                [self._placing(market, account, order) for order in placed[start : start + _ORDERS_A_TRANSACTION]]
            )

    def _placing(self, market: MangoMarket, account: MangoAccount, order: OrderCall) -> Instruction:
        markets = active_markets(account)
        if market.terms.index not in markets:
            markets.append(market.terms.index)
        maker = self._world.maker
        health = health_metas(self._world, markets)
        return place_order(self._world, market, maker.account, maker.wallet.pubkey(), order, health=health)

    def _send(self, instructions: Sequence[Instruction]) -> None:
        result = send(self._cluster, self._world.maker.wallet, instructions)
        if not result.ok:
            # A market that takes no orders, or an order that was taken in this very slot: the next round sees.
            _LOG.debug("mango_maker_refused", extra={"err": result.err})


def _order(level: Level, side: Side, oracle_price_lots: int, client_order_id: int) -> OrderCall:
    away = level.offset_lots if side is Side.ASK else -level.offset_lots
    pegged = level.tree is OrderTree.ORACLE_PEGGED
    return OrderCall(
        side=side,
        price_lots=away if pegged else max(oracle_price_lots + away, 1),
        base_lots=level.base_lots,
        client_order_id=client_order_id,
        order_type=PlaceOrderType.POST_ONLY,
        pegged=pegged,
    )
