"""What a test or a person may change at the venue while it runs: by editing account bytes, or by real transactions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeVar

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

from router.localnet.codec import Layout
from router.localnet.controls import ControlCluster
from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.actors import (
    MangoCranker,
    MangoMaker,
    MangoOracles,
    active_markets,
    oracle_lots,
    read_account,
)
from router.localnet.mango.book import BookSide
from router.localnet.mango.calls import OrderCall, health_metas, place_order
from router.localnet.mango.control_methods import register_mango_controls
from router.localnet.mango.enums import PlaceOrderType, Side
from router.localnet.mango.genesis import account_data, event_queue_data, settle_stable_price
from router.localnet.mango.layouts import Bank, Group, PerpMarket
from router.localnet.mango.liquidator import MangoLiquidator
from router.localnet.mango.model import halt_marker
from router.localnet.mango.numbers import FRACTION_BITS
from router.localnet.mango.queue import EventQueue, OutEvent
from router.localnet.mango.world import MangoWorld, build_mango_world, open_mango_world
from router.localnet.oracle import PythPrice, read_price, with_price
from router.localnet.sending import send, signature_of
from router.localnet.spl import rent_exempt, token_amount, with_token_amount
from router.localnet.world import WorldKeys

__all__ = ["MangoControls", "open_mango", "run_mango"]

_DISCRIMINATOR = 8
_USDC = 10**6
_CROSSING = 10
"""A foreign taker's limit is this fraction of the price away: a tenth."""

C = TypeVar("C", bound=Layout)


class MangoControls:
    """The venue's controls, for the same process; edits count from the next transaction on.

    Args:
        cluster: where the venue is.
        world: its addresses.
    """

    def __init__(self, cluster: ControlCluster, world: MangoWorld) -> None:
        self.cluster = cluster
        self.world = world
        self.oracles = MangoOracles(cluster, world)
        self.maker = MangoMaker(cluster, world)
        self.cranker = MangoCranker(cluster, world)
        self.liquidator = MangoLiquidator(cluster, world, self.cranker, self.set_collateral)
        self._trades = 0

    # Prices

    def set_oracle_price(self, market: str, price: Decimal, *, book_follows: bool = True) -> None:
        """Set an oracle's price in dollars; by default the slow price and the maker's orders follow at once."""
        place = self.world.market(market)
        account = self._account(place.oracle)
        quote = read_price(account)
        confidence = price * quote.confidence / quote.price
        fresh = PythPrice(price=price, confidence=confidence, slot=self.cluster.slot)
        self.cluster.set_account(place.oracle, with_price(account, fresh))
        if book_follows:
            native = float(price * 10**6 / 10**place.terms.base_decimals)
            now = self.cluster.unix_timestamp

            def edit(content: PerpMarket) -> None:
                settle_stable_price(content.stable_price_model, native, now)

            self._edit(PerpMarket, place.address, edit)
            if self.maker.running:
                self.maker.requote(place)

    def follow_price(self, market: str, price: Decimal, book_follows: bool) -> bool:  # noqa: FBT001 - a `PriceFollower`
        """Set the price where the market is listed here, and say whether it is."""
        listed = any(place.terms.symbol == market for place in self.world.markets)
        if listed:
            self.set_oracle_price(market, price, book_follows=book_follows)
        return listed

    def freeze_oracle(self, market: str, *, frozen: bool = True) -> None:
        """Stop publishing a market's price: beyond 120 slots orders are refused with 6024."""
        oracle = self.world.market(market).oracle
        if frozen:
            self.oracles.frozen.add(oracle)
        else:
            self.oracles.frozen.discard(oracle)

    def set_oracle_confidence(self, market: str, confidence: Decimal) -> None:
        """Set the half width of a price's interval in dollars; beyond 10 % orders are refused with 6023."""
        oracle = self.world.market(market).oracle
        account = self._account(oracle)
        quote = msgspec.structs.replace(read_price(account), confidence=confidence, slot=self.cluster.slot)
        self.cluster.set_account(oracle, with_price(account, quote))

    # Group and markets

    def halt(self, *, on: bool = True) -> None:
        """Have the program answer every instruction with 101; its accounts stay as they are."""
        account = Account(rent_exempt(0), b"", self.world.program_id) if on else None
        self.cluster.set_account(halt_marker(self.world.program_id), account)

    def set_reduce_only(self, market: str, *, on: bool = True) -> None:
        """Have a market take nothing but orders that reduce a position."""

        def edit(content: PerpMarket) -> None:
            content.reduce_only = int(on)

        self._edit(PerpMarket, self.world.market(market).address, edit)

    def set_force_close(self, market: str, *, on: bool = True) -> None:
        """Set a market to be wound down; it is reduce-only with it."""

        def edit(content: PerpMarket) -> None:
            content.force_close = content.reduce_only = int(on)

        self._edit(PerpMarket, self.world.market(market).address, edit)

    def set_ix_gate(self, bit: int, *, closed: bool = True) -> None:
        """Switch one instruction off for everybody, or on again; bits as the program numbers them."""

        def edit(content: Group) -> None:
            content.ix_gate = content.ix_gate | 1 << bit if closed else content.ix_gate & ~(1 << bit)

        self._edit(Group, self.world.group, edit)

    def empty_book(self, market: str, side: Literal["bids", "asks"]) -> None:
        """Take every order off one side of a book, without any event; the maker then stands still."""
        self.maker.running = False
        place, which = self.world.market(market), Side.BID if side == "bids" else Side.ASK
        self._write(place.book(which), BookSide.empty(which))
        maker = read_account(self.cluster, self.world.maker.account)
        position = maker.perp(place.terms.index)
        for slot in maker.perp_open_orders:
            if slot.market == place.terms.index and slot.side_and_tree % 2 == which:
                slot.clear()
        if position is not None and which is Side.BID:
            position.bids_base_lots = 0
        elif position is not None:
            position.asks_base_lots = 0
        self._write(self.world.maker.account, maker)

    def fill_event_queue(self, market: str, *, full: bool = True) -> None:
        """Have 488 events wait in a market and the cranker stand still; or empty the queue and let it work."""
        place = self.world.market(market)
        self.cranker.running = not full
        account = self._account(place.event_queue)
        if not full:
            self.cluster.set_account(place.event_queue, Account(account.lamports, event_queue_data(), account.owner))
            return
        queue = EventQueue.decode(bytes(account.data), _DISCRIMINATOR)
        event = OutEvent.zero()
        event.event_type, event.owner = 1, self.world.maker.account
        while queue.push(event):
            pass
        self._write(place.event_queue, queue)

    # Accounts

    def set_collateral(self, usd: Decimal, *, authority: Pubkey | None = None) -> None:
        """Set an account's USDC deposit (a borrow is forgotten); vault and bank follow, positions stay."""
        key = self._account_of(authority)
        account = read_account(self.cluster, key)
        place = self.world.usdc
        bank = Bank.decode(bytes(self._account(place.address).data), _DISCRIMINATOR)
        position = account.token(place.terms.token_index)
        if position is None:
            raise ValueError("the account has no USDC position")
        before, native = position.indexed_position, int(usd * _USDC)
        position.indexed_position = (native << 2 * FRACTION_BITS) // bank.deposit_index
        bank.indexed_deposits += position.indexed_position - max(before, 0)
        bank.indexed_borrows -= max(-before, 0)
        held = max(before, 0) * bank.deposit_index >> 2 * FRACTION_BITS
        self._write(key, account)
        self._write(place.address, bank)
        vault = self._account(place.vault)
        amount = max(token_amount(bytes(vault.data)) + native - held, 0)
        self.cluster.set_account(place.vault, with_token_amount(vault, amount))

    def set_being_liquidated(self, *, on: bool = True, authority: Pubkey | None = None) -> None:
        """Mark an account as being liquidated; an action that finds its health positive takes the mark away."""
        key = self._account_of(authority)
        account = read_account(self.cluster, key)
        account.head.being_liquidated = int(on)
        self._write(key, account)

    def foreign_trade(self, market: str, side: Literal["long", "short"], base: Decimal) -> str:
        """Have a delegate (the keeper's wallet) trade on the trader's account at market; return the signature.

        Raises:
            ValueError: the program refused it.
        """
        world, place = self.world, self.world.market(market)
        key = world.trader_account.account
        account = read_account(self.cluster, key)
        account.head.delegate = world.keeper.wallet.pubkey()
        self._write(key, account)
        markets = active_markets(account)
        if place.terms.index not in markets:
            rank = next(number for number, slot in enumerate(account.perps) if not slot.is_active)
            markets.insert(sum(slot.is_active for slot in account.perps[:rank]), place.terms.index)
        price = oracle_lots(self.cluster, place)
        away = price // _CROSSING
        order = OrderCall(
            side=Side.BID if side == "long" else Side.ASK,
            price_lots=price + away if side == "long" else price - away,
            base_lots=int(base * 10**place.terms.base_decimals) // place.terms.base_lot,
            order_type=PlaceOrderType.IMMEDIATE_OR_CANCEL,
        )
        health, signer = health_metas(world, markets), world.keeper.wallet
        instruction = place_order(world, place, key, signer.pubkey(), order, health=health)
        self._trades += 1
        return signature_of(send(self.cluster, signer, [instruction], number=self._trades))

    def liquidate(self, market: str, *, margin_share: Decimal = Decimal("0.8")) -> str:
        """Have the trader's position liquidated, a part of it or all (`MangoLiquidator`); return the signature.

        Raises:
            ValueError: there is no position, its profit alone keeps it, or the program refused.
        """
        return signature_of(self.liquidator.liquidate(self.world.market(market), margin_share=margin_share))

    def run_maker(self, *, running: bool = True) -> None:
        """Let the maker work, or stand still."""
        self.maker.running = running

    def run_cranker(self, *, running: bool = True) -> None:
        """Let the cranker work, or stand still: fills then wait in the queue."""
        self.cranker.running = running

    # Bytes

    def _account_of(self, authority: Pubkey | None) -> Pubkey:
        return self.world.trader_account.account if authority is None else self.world.account_of(authority)

    def _account(self, key: Pubkey) -> Account:
        account = self.cluster.account(key)
        if account is None:
            raise ValueError(f"{key} is not there")
        return account

    def _write(self, key: Pubkey, content: Layout | MangoAccount | BookSide | EventQueue) -> None:
        account = self._account(key)
        self.cluster.set_account(key, Account(account.lamports, account_data(content), account.owner))

    def _edit(self, layout: type[C], key: Pubkey, change: Callable[[C], None]) -> None:
        content = layout.decode(bytes(self._account(key).data), _DISCRIMINATOR)
        change(content)
        self._write(key, content)


def run_mango(cluster: ControlCluster, world: MangoWorld) -> MangoControls:
    """Set the oracles' publisher, the cranker and the maker to work on the cluster's slots; register the controls."""
    controls = MangoControls(cluster, world)
    for actor in (controls.oracles, controls.cranker, controls.maker):
        cluster.on_slot(actor.on_slot)
    register_mango_controls(controls)
    return controls


def open_mango(cluster: ControlCluster, keys: WorldKeys, *, fresh: bool = False) -> tuple[MangoWorld, MangoControls]:
    """Return the venue on a cluster (built where it is not there, or anew if `fresh`) and its controls, at work.

    The model is the caller's to register.
    """
    world = build_mango_world(cluster, keys) if fresh else open_mango_world(cluster, keys)
    return world, run_mango(cluster, world)
