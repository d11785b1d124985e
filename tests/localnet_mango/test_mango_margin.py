"""Orders in the venue's first world: the genesis book is traded, and health decides what may be opened."""

from __future__ import annotations

import pytest
from solders.account import Account
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.addresses import MANGO_PROGRAM
from router.localnet.mango.enums import PlaceOrderType, Side
from router.localnet.mango.layouts import PerpMarket
from router.localnet.mango.model import MangoModel
from router.localnet.mango.queue import EventQueue, FillEvent
from router.localnet.mango.world import MangoWorld, build_mango_world
from router.localnet.programs import Call, ModelRefusal
from router.localnet.world import WorldKeys
from tests.localnet_mango.market_bench import START, Bench


class _Accounts:
    """A cluster that is a dictionary."""

    def __init__(self) -> None:
        self.slot = 1_000
        self.unix_timestamp = START
        self.accounts: dict[Pubkey, Account] = {}

    def account(self, pubkey: Pubkey, /) -> Account | None:
        return self.accounts.get(pubkey)

    def set_account(self, pubkey: Pubkey, account: Account, /) -> None:
        self.accounts[pubkey] = account


class _Venue:
    """The first world and a trader that places orders in it."""

    def __init__(self) -> None:
        self.cluster = _Accounts()
        self.world: MangoWorld = build_mango_world(self.cluster, WorldKeys())
        self.market = self.world.market("SOL-PERP")
        self.trader = self.world.trader_account
        self.model = MangoModel()

    def metas(self, health: list[Pubkey] | None = None) -> list[AccountMeta]:
        """Return the accounts of an order, with those that health needs in their order."""
        market, usdc = self.market, self.world.usdc
        written = (market.address, market.bids, market.asks, market.event_queue)
        read = [usdc.address, usdc.oracle, market.address, market.oracle] if health is None else health
        return [
            AccountMeta(self.world.group, is_signer=False, is_writable=False),
            AccountMeta(self.trader.account, is_signer=False, is_writable=True),
            AccountMeta(self.trader.wallet.pubkey(), is_signer=True, is_writable=False),
            *[AccountMeta(key, is_signer=False, is_writable=True) for key in written],
            *[AccountMeta(key, is_signer=False, is_writable=False) for key in (market.oracle, *read)],
        ]

    def buy(self, base_lots: int, metas: list[AccountMeta] | None = None) -> tuple[str, ...]:
        """Buy at the market; return what the program printed."""
        args = Bench.order(Side.BID, 0, base_lots, PlaceOrderType.MARKET, limit=50)
        call = Call(
            program_id=MANGO_PROGRAM,
            accounts=tuple(self.metas() if metas is None else metas),
            data=instruction_discriminator("perp_place_order_v2") + args,
            read=self.cluster.account,
            slot=self.cluster.slot,
            unix_timestamp=self.cluster.unix_timestamp,
        )
        effects = self.model.execute(call)
        for key, data in effects.writes.items():
            self.cluster.set_account(key, Account(10**9, data, MANGO_PROGRAM))
        return effects.logs

    def data(self, key: Pubkey) -> bytes:
        account = self.cluster.account(key)
        assert account is not None
        return bytes(account.data)


def _code(venue: _Venue, base_lots: int, metas: list[AccountMeta] | None = None) -> int:
    with pytest.raises(ModelRefusal) as caught:
        venue.buy(base_lots, metas)
    return caught.value.code


def test_a_market_order_trades_the_first_book() -> None:
    """60 SOL take 50 at 3 ticks and 10 at 8 ticks over the oracle; the position is the taker's at once.

    The oracle says 150.00. The program's 10^-11 is 2815 / 2^48, which is 0.9 basis points too much: 15,001.3 ticks.
    """
    venue = _Venue()
    logs = venue.buy(60_000)
    account = MangoAccount.decode(venue.data(venue.trader.account), 8)
    position = account.perp(2)
    assert position is not None
    assert position.taker_base_lots == 60_000
    assert position.taker_quote_lots == -(50_000 * 15_004 + 10_000 * 15_009)
    queue = EventQueue.decode(venue.data(venue.market.event_queue), 8)
    fills = [event for event in queue.events() if isinstance(event, FillEvent)]
    assert [(fill.price, fill.quantity) for fill in fills] == [(15_004, 50_000), (15_009, 10_000)]
    assert {fill.maker for fill in fills} == {venue.world.maker.account}
    assert any("post_init_health" in line for line in logs)
    usdc = account.token(0)
    assert usdc is not None
    assert usdc.in_use_count == 1


def test_health_stops_what_the_collateral_does_not_carry() -> None:
    """10,000 USDC carry ten times that at an initial margin of 10 %: 600 SOL pass, 700 are refused with 6007."""
    assert _Venue().buy(600_000)
    assert _code(_Venue(), 700_000) == 6007


def test_an_account_in_liquidation_may_not_order_until_it_recovered() -> None:
    """A flag left over from a liquidation goes when health is good, and the order passes."""
    venue = _Venue()
    account = MangoAccount.decode(venue.data(venue.trader.account), 8)
    account.head.being_liquidated = 1
    data = venue.data(venue.trader.account)[:8] + account.encode()
    venue.cluster.set_account(venue.trader.account, Account(10**9, data, MANGO_PROGRAM))
    venue.buy(1_000)
    assert MangoAccount.decode(venue.data(venue.trader.account), 8).head.being_liquidated == 0


def test_a_stale_oracle_stops_the_order_in_the_health_check() -> None:
    """The order itself does not ask for freshness; health does, with 6024."""
    venue = _Venue()
    market = PerpMarket.decode(venue.data(venue.market.address), 8)
    venue.cluster.slot += market.oracle_config.max_staleness_slots + 1
    assert _code(venue, 1_000) == 6024


def test_too_few_health_accounts_are_refused() -> None:
    """Without the market's oracle at the end the count is wrong: 6047."""
    venue = _Venue()
    assert _code(venue, 1_000, venue.metas()[:-1]) == 6047
