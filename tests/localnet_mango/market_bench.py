"""A market on a bench: the program's accounts in a dictionary, and instructions run one by one."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from solders.account import Account
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator, event_discriminator, instruction_discriminator
from router.localnet.mango.account_layouts import AccountHead, MangoAccount, PerpPosition
from router.localnet.mango.addresses import MANGO_PROGRAM
from router.localnet.mango.book import BookSide
from router.localnet.mango.enums import PlaceOrderType, SelfTradeBehavior, Side
from router.localnet.mango.execution import Content
from router.localnet.mango.layouts import Group, PerpMarket, StubOracle
from router.localnet.mango.market import reset_stable_price
from router.localnet.mango.model import MangoModel
from router.localnet.mango.numbers import I64_MAX, ONE, from_float
from router.localnet.mango.queue import EventQueue
from router.localnet.programs import Call, Effects

START = 1_700_000_000
ORACLE_LOTS = 100


def printed_in(logs: Sequence[str], event: str) -> list[bytes]:
    """Return the fields of the events of a kind among log lines."""
    prefix = "Program data: "
    data = [base64.b64decode(line.removeprefix(prefix)) for line in logs if line.startswith(prefix)]
    return [each[8:] for each in data if each[:8] == event_discriminator(event)]


def key_of(name: str) -> Pubkey:
    """Return an address for a name."""
    return Pubkey(name.encode().ljust(32, b"."))


class Bench:
    """One market at 100 lots (base lots of 10 native, quote lots of 1), with accounts that health does not watch.

    The accounts are inside a health region: what is tested here is the market, not the margin.
    """

    def __init__(self) -> None:
        self.accounts: dict[Pubkey, Account] = {}
        self.model = MangoModel()
        self.now = START
        self.slot = 1_000
        self.logs: tuple[str, ...] = ()
        self.group, self.market_key = key_of("group"), key_of("market")
        self.bids, self.asks, self.queue = key_of("bids"), key_of("asks"), key_of("queue")
        self.oracle = key_of("oracle")
        self.put(self.group, Group.zero())
        self.put(self.bids, BookSide.empty(Side.BID))
        self.put(self.asks, BookSide.empty(Side.ASK))
        self.put(self.queue, EventQueue())
        oracle = StubOracle.zero()
        oracle.price = 10 * ONE
        self.put(self.oracle, oracle)
        self.put(self.market_key, self._market())

    def _market(self) -> PerpMarket:
        market = PerpMarket.zero()
        market.group, market.bids, market.asks = self.group, self.bids, self.asks
        market.event_queue, market.oracle = self.queue, self.oracle
        market.perp_market_index, market.base_lot_size, market.quote_lot_size = 3, 10, 1
        market.oracle_config.max_staleness_slots, market.oracle_config.conf_filter = 100, ONE // 10
        market.maint_base_asset_weight, market.maint_base_liab_weight = from_float(0.5), from_float(1.5)
        market.taker_fee, market.maker_fee = from_float(0.01), from_float(-0.0025)
        market.fee_penalty = 0.5
        market.min_funding, market.max_funding = from_float(-0.05), from_float(0.05)
        market.impact_quantity = 10
        market.funding_last_updated = START
        market.settle_pnl_limit_factor, market.settle_pnl_limit_window_size_ts = 1.0, 86_400
        model = market.stable_price_model
        model.delay_interval_seconds, model.delay_growth_limit, model.stable_growth_limit = 3_600, 0.06, 0.0003
        reset_stable_price(model, 10.0, START)
        model.last_delay_interval_index = START // 3_600 % 24
        return market

    # State

    def put(self, key: Pubkey, content: Content) -> None:
        """Write an account of the program."""
        data = account_discriminator(type(content).__name__) + content.encode()
        self.accounts[key] = Account(1_000_000, data, MANGO_PROGRAM)

    def trader(self, name: str) -> Pubkey:
        """Open an account, owned by the key `<name> owner`."""
        head = AccountHead.zero()
        head.group, head.owner, head.in_health_region = self.group, key_of(f"{name} owner"), 1
        self.put(key_of(name), MangoAccount.empty(head, tokens=2, serum3=0, perps=2, perp_open_orders=8))
        return key_of(name)

    def account(self, key: Pubkey) -> MangoAccount:
        """Return an account as it is."""
        return MangoAccount.decode(self.accounts[key].data, 8)

    def position(self, key: Pubkey) -> PerpPosition:
        """Return the position in the market."""
        found = self.account(key).perp(3)
        assert found is not None
        return found

    @property
    def market(self) -> PerpMarket:
        """The market as it is."""
        return PerpMarket.decode(self.accounts[self.market_key].data, 8)

    def book(self, side: Side) -> list[tuple[int, int]]:
        """Return (price, quantity) of all orders of a side, best first."""
        key = self.bids if side is Side.BID else self.asks
        book = BookSide.decode(self.accounts[key].data, 8)
        return [(item.price_lots, item.leaf.quantity) for item in book.items(self.now, ORACLE_LOTS)]

    @property
    def events(self) -> EventQueue:
        """The queue as it is."""
        return EventQueue.decode(self.accounts[self.queue].data, 8)

    # Instructions

    def run(self, name: str, args: bytes, metas: list[AccountMeta]) -> Effects:
        """Run one instruction and keep what it wrote."""
        call = Call(
            program_id=MANGO_PROGRAM,
            accounts=tuple(metas),
            data=instruction_discriminator(name) + args,
            read=self.accounts.get,
            slot=self.slot,
            unix_timestamp=self.now,
        )
        effects = self.model.execute(call)
        for key, data in effects.writes.items():
            self.accounts[key] = Account(1_000_000, data, MANGO_PROGRAM)
        self.logs = effects.logs
        return effects

    def market_metas(self, trader: Pubkey, signer: Pubkey | None = None) -> list[AccountMeta]:
        """Return group, account, owner, market and book of an instruction of a trader."""
        owner = self.account(trader).head.owner if signer is None else signer
        return [
            AccountMeta(self.group, is_signer=False, is_writable=False),
            AccountMeta(trader, is_signer=False, is_writable=True),
            AccountMeta(owner, is_signer=True, is_writable=False),
            *[AccountMeta(key, is_signer=False, is_writable=True) for key in (self.market_key, self.bids, self.asks)],
        ]

    def place_metas(self, trader: Pubkey, signer: Pubkey | None = None) -> list[AccountMeta]:
        """Return the accounts of an instruction that places an order."""
        queue = AccountMeta(self.queue, is_signer=False, is_writable=True)
        oracle = AccountMeta(self.oracle, is_signer=False, is_writable=False)
        return [*self.market_metas(trader, signer), queue, oracle]

    @staticmethod
    def order(
        side: Side,
        price: int,
        base: int,
        kind: PlaceOrderType = PlaceOrderType.LIMIT,
        *,
        quote: int = I64_MAX,
        client_id: int = 0,
        self_trade: SelfTradeBehavior = SelfTradeBehavior.DECREMENT_TAKE,
        reduce_only: bool = False,
        expiry: int = 0,
        limit: int = 10,
    ) -> bytes:
        """Return the arguments of `perpPlaceOrderV2`."""
        head = struct.pack("<BqqqQBBB", side, price, base, quote, client_id, kind, self_trade, reduce_only)
        return head + struct.pack("<QB", expiry, limit)

    def place(self, trader: Pubkey, args: bytes) -> Effects:
        """Run `perpPlaceOrderV2`."""
        return self.run("perp_place_order_v2", args, self.place_metas(trader))

    def place_pegged(self, trader: Pubkey, side: Side, offset: int, base: int, *, peg_limit: int = -1) -> Effects:
        """Run `perpPlaceOrderPeggedV2` with a limit order."""
        args = struct.pack("<BqqqqQBBBQBi", side, offset, peg_limit, base, I64_MAX, 0, 0, 0, 0, 0, 10, -1)
        return self.run("perp_place_order_pegged_v2", args, self.place_metas(trader))

    def consume(self, *traders: Pubkey, limit: int = 8) -> Effects:
        """Run `perpConsumeEvents` with these accounts."""
        metas = [
            AccountMeta(self.group, is_signer=False, is_writable=False),
            AccountMeta(self.market_key, is_signer=False, is_writable=True),
            AccountMeta(self.queue, is_signer=False, is_writable=True),
            *[AccountMeta(key, is_signer=False, is_writable=True) for key in traders],
        ]
        return self.run("perp_consume_events", struct.pack("<Q", limit), metas)

    def printed(self, event: str) -> list[bytes]:
        """Return the fields of the events of a kind that the last instruction printed."""
        return printed_in(self.logs, event)
