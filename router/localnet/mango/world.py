"""The venue's accounts in the world: the same wallets and the same USDC as the rest of it, on Mango's main group.

Group, banks and markets stand at their mainnet addresses; books, queues and oracles have keys of their own.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.mango.addresses import (
    MANGO_PROGRAM,
    bank_address,
    insurance_vault_address,
    mango_account_address,
    mint_info_address,
    perp_market_address,
    vault_address,
)
from router.localnet.mango.enums import OrderTree, Side
from router.localnet.mango.genesis import (
    BankTerms,
    Level,
    MarketTerms,
    account_data,
    book_side_data,
    event_queue_data,
    first_account,
    first_bank,
    first_group,
    first_market,
    first_mint_info,
    rest_orders,
    resting_orders,
    token_deposit,
)
from router.localnet.mango.layouts import Bank
from router.localnet.mango.numbers import ONE
from router.localnet.oracle import PythPrice, price_account
from router.localnet.spl import (
    associated_token_account,
    mint_account,
    rent_exempt,
    token_account,
    with_more_supply,
    wrapped_sol,
)
from router.localnet.world import USDC_MINT, WorldCluster, WorldKeys

__all__ = [
    "MANGO_BANKS",
    "MANGO_GROUP",
    "MANGO_MARKETS",
    "MangoBank",
    "MangoMarket",
    "MangoTrader",
    "MangoWorld",
    "build_mango_world",
    "mango_world_of",
    "open_mango_world",
]

MANGO_GROUP = Pubkey.from_string("78b8f4cGCwmZ9ysPFMWLaLTkkaYnUjwMJYStWe5RTSSX")
SOL_MINT = Pubkey.from_string("So11111111111111111111111111111111111111112")

_USDC = 10**6
_LAMPORTS_PER_SOL = 10**9
_ORACLE_CONFIDENCE = Decimal("0.0002")
_ORDER_SLOTS = 32
_MAKER_ORDER_SLOTS = 64

_PEGGED, _FIXED = OrderTree.ORACLE_PEGGED, OrderTree.FIXED


def _levels(*levels: tuple[OrderTree, int, int]) -> tuple[Level, ...]:
    return tuple(Level(tree=tree, offset_lots=offset, base_lots=base) for tree, offset, base in levels)


MANGO_MARKETS = (
    MarketTerms(
        symbol="SOL-PERP",
        index=2,
        base_decimals=9,
        base_lot=1_000_000,
        quote_lot=10,
        price_usd=150,
        maint=50,
        init=100,
        taker_fee=6 * ONE // 10_000,
        # A tick is $0.01, a lot 0.001 SOL: 6,200 SOL a side within 1.5 %.
        levels=_levels(
            (_PEGGED, 3, 50_000),
            (_PEGGED, 8, 150_000),
            (_FIXED, 15, 200_000),
            (_PEGGED, 25, 400_000),
            (_FIXED, 60, 800_000),
            (_PEGGED, 90, 1_600_000),
            (_FIXED, 225, 3_000_000),
        ),
    ),
    MarketTerms(
        symbol="BTC-PERP",
        index=0,
        base_decimals=6,
        base_lot=100,
        quote_lot=10,
        price_usd=60_000,
        maint=25,
        init=50,
        taker_fee=6 * ONE // 10_000,
        # A tick is $0.10, a lot 0.0001 BTC: 16 BTC a side within 1.5 %.
        levels=_levels(
            (_PEGGED, 100, 2_500),
            (_PEGGED, 300, 5_000),
            (_FIXED, 600, 7_500),
            (_PEGGED, 1_000, 10_000),
            (_FIXED, 2_400, 20_000),
            (_PEGGED, 3_600, 40_000),
            (_FIXED, 9_000, 75_000),
        ),
    ),
)

MANGO_BANKS = (
    BankTerms(
        symbol="USDC",
        token_index=0,
        decimals=6,
        price_usd=1,
        maint_asset=1_000,
        init_asset=1_000,
        maint_liab=1_000,
        init_liab=1_000,
    ),
    BankTerms(
        symbol="SOL",
        token_index=4,
        decimals=9,
        price_usd=150,
        maint_asset=900,
        init_asset=800,
        maint_liab=1_100,
        init_liab=1_200,
    ),
)


class MangoTrader(msgspec.Struct, frozen=True, kw_only=True):
    """One party with a wallet, USDC and a Mango account."""

    wallet: Keypair
    token_account: Pubkey
    account: Pubkey


class MangoBank(msgspec.Struct, frozen=True, kw_only=True):
    """One token's addresses."""

    terms: BankTerms
    address: Pubkey
    mint: Pubkey
    vault: Pubkey
    oracle: Pubkey


class MangoMarket(msgspec.Struct, frozen=True, kw_only=True):
    """One perpetual market's addresses."""

    terms: MarketTerms
    address: Pubkey
    bids: Pubkey
    asks: Pubkey
    event_queue: Pubkey
    oracle: Pubkey

    def book(self, side: Side) -> Pubkey:
        """Return the account that holds a side."""
        return self.bids if side is Side.BID else self.asks


class MangoWorld(msgspec.Struct, frozen=True, kw_only=True):
    """All addresses of the venue; nothing in it changes with trading."""

    program_id: Pubkey
    group: Pubkey
    usdc_mint: Pubkey
    banks: tuple[MangoBank, ...]
    markets: tuple[MangoMarket, ...]
    admin: Keypair
    trader_account: MangoTrader
    maker: MangoTrader
    keeper: MangoTrader

    @property
    def trader(self) -> Keypair:
        """The trader's keypair."""
        return self.trader_account.wallet

    @property
    def usdc(self) -> MangoBank:
        """The bank that all markets settle in."""
        return self.banks[0]

    @property
    def oracles(self) -> tuple[Pubkey, ...]:
        """Every oracle once."""
        oracles = [bank.oracle for bank in self.banks] + [market.oracle for market in self.markets]
        return tuple(dict.fromkeys(oracles))

    def market(self, symbol: str) -> MangoMarket:
        """Return a market by its symbol.

        Raises:
            KeyError: there is none.
        """
        for market in self.markets:
            if market.terms.symbol == symbol:
                return market
        raise KeyError(symbol)

    def account_of(self, wallet: Pubkey) -> Pubkey:
        """Return the first Mango account of a wallet."""
        return mango_account_address(self.program_id, self.group, wallet)[0]


def _oracle(keys: WorldKeys, symbol: str) -> Pubkey:
    return keys.keypair(f"mango/oracle/{symbol}").pubkey()


def mango_world_of(keys: WorldKeys, *, program_id: Pubkey = MANGO_PROGRAM) -> MangoWorld:
    """Return the venue's addresses without touching a cluster."""
    group = MANGO_GROUP

    def trader(role: str) -> MangoTrader:
        wallet = keys.keypair(role)
        owner = wallet.pubkey()
        account = mango_account_address(program_id, group, owner)[0]
        return MangoTrader(wallet=wallet, token_account=associated_token_account(owner, USDC_MINT), account=account)

    banks = tuple(
        MangoBank(
            terms=terms,
            address=bank_address(program_id, group, terms.token_index)[0],
            mint=USDC_MINT if terms.symbol == "USDC" else SOL_MINT,
            vault=vault_address(program_id, group, terms.token_index)[0],
            oracle=_oracle(keys, terms.symbol),
        )
        for terms in MANGO_BANKS
    )
    markets = tuple(
        MangoMarket(
            terms=terms,
            address=perp_market_address(program_id, group, terms.index)[0],
            bids=keys.keypair(f"mango/bids/{terms.symbol}").pubkey(),
            asks=keys.keypair(f"mango/asks/{terms.symbol}").pubkey(),
            event_queue=keys.keypair(f"mango/events/{terms.symbol}").pubkey(),
            oracle=_oracle(keys, terms.symbol.removesuffix("-PERP")),
        )
        for terms in MANGO_MARKETS
    )
    return MangoWorld(
        program_id=program_id,
        group=group,
        usdc_mint=USDC_MINT,
        banks=banks,
        markets=markets,
        admin=keys.keypair("admin"),
        trader_account=trader("trader"),
        maker=trader("maker"),
        keeper=trader("keeper"),
    )


class _Purse(msgspec.Struct, frozen=True, kw_only=True):
    """What a party starts with: USDC deposited, and how many orders it may rest."""

    trader: MangoTrader
    usdc: int
    order_slots: int = _ORDER_SLOTS


def build_mango_world(cluster: WorldCluster, keys: WorldKeys, *, program_id: Pubkey = MANGO_PROGRAM) -> MangoWorld:
    """Write every account of the venue, as at the cluster's slot and time, and return the addresses.

    Wallets and the mint are those of the world around it; where they are not there yet, the bare needs are made.
    The program itself is the caller's to add. Accounts of the venue that are there already are overwritten.
    """
    world = mango_world_of(keys, program_id=program_id)
    purses = (
        _Purse(trader=world.trader_account, usdc=10_000),
        _Purse(trader=world.maker, usdc=5_000_000, order_slots=_MAKER_ORDER_SLOTS),
        _Purse(trader=world.keeper, usdc=500_000),
    )
    group = first_group(program_id, world.group, world.admin.pubkey(), world.usdc_mint)
    _write(cluster, world, world.group, account_data(group))
    _write_oracles(cluster, world)
    banks = {place.terms.token_index: _first_bank(cluster, world, place) for place in world.banks}
    _write_accounts(cluster, world, purses, banks[world.usdc.terms.token_index])
    for place in world.banks:
        _write(cluster, world, place.address, account_data(banks[place.terms.token_index]))
    _write_tokens(cluster, world, sum(purse.usdc for purse in purses) * _USDC)
    _write_wallets(cluster, world, purses)
    return world


def open_mango_world(cluster: WorldCluster, keys: WorldKeys, *, program_id: Pubkey = MANGO_PROGRAM) -> MangoWorld:
    """Return the venue that the cluster holds from an earlier run, or build it."""
    world = mango_world_of(keys, program_id=program_id)
    if cluster.account(world.group) is not None:
        return world
    return build_mango_world(cluster, keys, program_id=program_id)


def _write(cluster: WorldCluster, world: MangoWorld, address: Pubkey, data: bytes) -> None:
    cluster.set_account(address, Account(rent_exempt(len(data)), data, world.program_id))


def _write_oracles(cluster: WorldCluster, world: MangoWorld) -> None:
    prices = {bank.oracle: bank.terms.price_usd for bank in world.banks}
    prices |= {market.oracle: market.terms.price_usd for market in world.markets}
    for oracle, usd in prices.items():
        price = Decimal(usd)
        quote = PythPrice(price=price, confidence=price * _ORACLE_CONFIDENCE, slot=cluster.slot)
        cluster.set_account(oracle, price_account(quote))


def _first_bank(cluster: WorldCluster, world: MangoWorld, place: MangoBank) -> Bank:
    bump = bank_address(world.program_id, world.group, place.terms.token_index)[1]
    bank = first_bank(
        place.terms,
        group=world.group,
        mint=place.mint,
        vault=place.vault,
        oracle=place.oracle,
        bump=bump,
        now=cluster.unix_timestamp,
    )
    info = first_mint_info(bank, bank_address=place.address, now=cluster.unix_timestamp)
    _write(cluster, world, mint_info_address(world.program_id, world.group, place.mint)[0], account_data(info))
    return bank


def _write_accounts(cluster: WorldCluster, world: MangoWorld, purses: tuple[_Purse, ...], usdc: Bank) -> None:
    """Write the parties' accounts, and the markets whose books the maker's orders stand in."""
    now, maker = cluster.unix_timestamp, world.maker.account
    for purse in purses:
        owner = purse.trader.wallet.pubkey()
        bump = mango_account_address(world.program_id, world.group, owner)[1]
        account = first_account(world.group, owner, bump=bump, perp_open_orders=purse.order_slots)
        token_deposit(account, usdc, purse.usdc * _USDC)
        if purse.trader.account == maker:
            first_slot = 0
            for place in world.markets:
                bump = perp_market_address(world.program_id, world.group, place.terms.index)[1]
                market = first_market(
                    place.terms,
                    group=world.group,
                    bids=place.bids,
                    asks=place.asks,
                    event_queue=place.event_queue,
                    oracle=place.oracle,
                    bump=bump,
                    now=now,
                )
                orders = resting_orders(place.terms, first_slot)
                first_slot += len(orders)
                rest_orders(account, market, orders)
                _write(cluster, world, place.address, account_data(market))
                for side in Side:
                    _write(cluster, world, place.book(side), book_side_data(side, orders, owner=maker, now=now))
                _write(cluster, world, place.event_queue, event_queue_data())
        _write(cluster, world, purse.trader.account, account_data(account))


def _write_tokens(cluster: WorldCluster, world: MangoWorld, deposits: int) -> None:
    """Write the vaults, and have the mint know of what is in them."""
    admin = world.admin.pubkey()
    for bank in world.banks:
        held = deposits if bank is world.usdc else 0
        mint = cluster.account(bank.mint)
        if mint is None:
            mint = mint_account(admin, supply=0, decimals=bank.terms.decimals)
        cluster.set_account(bank.mint, with_more_supply(mint, held) if held else mint)
        made = wrapped_sol if bank.mint == SOL_MINT else token_account
        cluster.set_account(bank.vault, made(bank.mint, world.group, held))
    insurance = insurance_vault_address(world.program_id, world.group)[0]
    cluster.set_account(insurance, token_account(world.usdc_mint, world.group, 0))


def _write_wallets(cluster: WorldCluster, world: MangoWorld, purses: tuple[_Purse, ...]) -> None:
    for purse in purses:
        wallet = purse.trader.wallet.pubkey()
        if cluster.account(wallet) is None:
            cluster.set_account(wallet, Account(100 * _LAMPORTS_PER_SOL, b"", Pubkey.default()))
        if cluster.account(purse.trader.token_account) is None:
            cluster.set_account(purse.trader.token_account, token_account(world.usdc_mint, wallet, 0))
