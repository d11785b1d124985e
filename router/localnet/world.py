"""A world to trade in: exchange, markets, oracles, a trader, a maker and a keeper, as raw accounts.

The same accounts serve the model of the Drift program and the real one, so a test can run on either. Every key comes
from one seed: the same seed gives the same addresses.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Protocol

import msgspec
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.drift.addresses import (
    DRIFT_PROGRAM,
    USDC_ORACLE,
    insurance_vault_address,
    perp_market_address,
    signer_address,
    spot_market_address,
    spot_vault_address,
    state_address,
    user_address,
    user_stats_address,
)
from router.localnet.drift.genesis import (
    PerpMarketTerms,
    account_data,
    first_perp_market,
    first_spot_market,
    first_state,
    first_user,
    first_user_stats,
    scaled_deposit,
)
from router.localnet.oracle import PythPrice, price_account
from router.localnet.spl import (
    associated_token_account,
    mint_account,
    rent_exempt,
    token_account,
    token_amount,
    with_more_supply,
    with_token_amount,
)

__all__ = [
    "PERP_MARKETS",
    "USDC_MINT",
    "Trader",
    "World",
    "WorldCluster",
    "WorldKeys",
    "WorldMarket",
    "build_world",
    "fund_wallet",
    "open_world",
    "world_of",
]

USDC_MINT = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")

_BASE, _PRICE, _USDC = 10**9, 10**6, 10**6
_LAMPORTS_PER_SOL = 10**9
_POOLS_USDC = 500_000
_ORACLE_CONFIDENCE = Decimal("0.0002")

PERP_MARKETS = (
    PerpMarketTerms(
        symbol="SOL-PERP",
        index=0,
        price=150 * _PRICE,
        reserve=500_000 * _BASE,
        step=_BASE // 100,
        tick=100,
        min_order=_BASE // 10,
        margin_initial=1_000,
        margin_maintenance=500,
        imf_factor=450,
        max_open_interest=2_000_000 * _BASE,
    ),
    PerpMarketTerms(
        symbol="BTC-PERP",
        index=1,
        price=60_000 * _PRICE,
        reserve=5_000 * _BASE,
        step=_BASE // 10_000,
        tick=100_000,
        min_order=_BASE // 1_000,
        margin_initial=500,
        margin_maintenance=300,
        imf_factor=0,
        max_open_interest=10_000 * _BASE,
    ),
)


class WorldCluster(Protocol):
    """What a world needs of a cluster."""

    @property
    def slot(self) -> int:
        """The newest slot."""
        ...

    @property
    def unix_timestamp(self) -> int:
        """The newest slot's time, in seconds."""
        ...

    def account(self, pubkey: Pubkey, /) -> Account | None:
        """Return an account as it is in the newest slot."""
        ...

    def set_account(self, pubkey: Pubkey, account: Account, /) -> None:
        """Write an account as it is, without a transaction."""
        ...


class WorldKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Where every key of the world comes from."""

    seed: bytes = b"perp-router localnet"

    def keypair(self, role: str) -> Keypair:
        """Return the keypair of a role; anybody who knows the seed can sign for it."""
        return Keypair.from_seed(hashlib.sha256(self.seed + b"/" + role.encode()).digest())


class Trader(msgspec.Struct, frozen=True, kw_only=True):
    """One party with a wallet, USDC and a Drift account."""

    wallet: Keypair
    token_account: Pubkey
    user: Pubkey
    user_stats: Pubkey


class WorldMarket(msgspec.Struct, frozen=True, kw_only=True):
    """One perpetual market's addresses."""

    terms: PerpMarketTerms
    address: Pubkey
    oracle: Pubkey


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All addresses of the world; nothing in it changes with trading."""

    program_id: Pubkey
    state: Pubkey
    signer: Pubkey
    usdc_mint: Pubkey
    usdc_oracle: Pubkey
    spot_market: Pubkey
    spot_vault: Pubkey
    insurance_vault: Pubkey
    markets: tuple[WorldMarket, ...]
    admin: Keypair
    trader_account: Trader
    maker: Trader
    keeper: Trader

    @property
    def trader(self) -> Keypair:
        """The trader's keypair."""
        return self.trader_account.wallet

    def market(self, symbol: str) -> WorldMarket:
        """Return a market by its symbol.

        Raises:
            KeyError: there is none.
        """
        for market in self.markets:
            if market.terms.symbol == symbol:
                return market
        raise KeyError(symbol)


def world_of(keys: WorldKeys, *, program_id: Pubkey = DRIFT_PROGRAM) -> World:
    """Return the world's addresses without touching a cluster."""
    markets = tuple(
        WorldMarket(
            terms=terms,
            address=perp_market_address(program_id, terms.index),
            oracle=keys.keypair(f"oracle/{terms.symbol}").pubkey(),
        )
        for terms in PERP_MARKETS
    )
    return World(
        program_id=program_id,
        state=state_address(program_id),
        signer=signer_address(program_id)[0],
        usdc_mint=USDC_MINT,
        usdc_oracle=USDC_ORACLE,
        spot_market=spot_market_address(program_id, 0),
        spot_vault=spot_vault_address(program_id, 0),
        insurance_vault=insurance_vault_address(program_id, 0),
        markets=markets,
        admin=keys.keypair("admin"),
        trader_account=_trader(program_id, keys.keypair("trader")),
        maker=_trader(program_id, keys.keypair("maker")),
        keeper=_trader(program_id, keys.keypair("keeper")),
    )


def _trader(program_id: Pubkey, wallet: Keypair) -> Trader:
    authority = wallet.pubkey()
    return Trader(
        wallet=wallet,
        token_account=associated_token_account(authority, USDC_MINT),
        user=user_address(program_id, authority),
        user_stats=user_stats_address(program_id, authority),
    )


class _Purse(msgspec.Struct, frozen=True, kw_only=True):
    """What a party starts with: whole SOL, and USDC in its wallet and deposited."""

    trader: Trader
    sol: int
    wallet_usdc: int
    deposit_usdc: int


def build_world(cluster: WorldCluster, *, keys: WorldKeys, program_id: Pubkey = DRIFT_PROGRAM) -> World:
    """Write every account of the world, as at the cluster's slot and time, and return the addresses.

    The program itself (model or binary) is the caller's to add. Accounts that are there already are overwritten.
    """
    world = world_of(keys, program_id=program_id)
    purses = (
        _Purse(trader=world.trader_account, sol=100, wallet_usdc=100_000, deposit_usdc=10_000),
        _Purse(trader=world.maker, sol=100, wallet_usdc=0, deposit_usdc=5_000_000),
        _Purse(trader=world.keeper, sol=1_000, wallet_usdc=0, deposit_usdc=1_000),
    )
    _write_exchange(cluster, world, purses)
    for purse in purses:
        _write_purse(cluster, world, purse)
    _write_native(cluster, world.admin.pubkey(), 10)
    return world


def open_world(cluster: WorldCluster, *, keys: WorldKeys, program_id: Pubkey = DRIFT_PROGRAM) -> World:
    """Return the world that the cluster holds from an earlier run, or build it."""
    world = world_of(keys, program_id=program_id)
    if cluster.account(world.state) is not None:
        return world
    return build_world(cluster, keys=keys, program_id=program_id)


def fund_wallet(cluster: WorldCluster, world: World, wallet: Pubkey, *, sol: Decimal, usdc: Decimal) -> None:
    """Give a wallet SOL and USDC on top of what it has; its token account is made where it has none."""
    native = cluster.account(wallet)
    lamports = (0 if native is None else native.lamports) + int(sol * _LAMPORTS_PER_SOL)
    cluster.set_account(wallet, Account(lamports, b"", Pubkey.default()))
    address, amount = associated_token_account(wallet, world.usdc_mint), int(usdc * _USDC)
    tokens, mint = cluster.account(address), cluster.account(world.usdc_mint)
    if tokens is None:
        tokens = token_account(world.usdc_mint, wallet, 0)
    cluster.set_account(address, with_token_amount(tokens, token_amount(bytes(tokens.data)) + amount))
    if mint is not None:
        cluster.set_account(world.usdc_mint, with_more_supply(mint, amount))


def _write_exchange(cluster: WorldCluster, world: World, purses: tuple[_Purse, ...]) -> None:
    now, slot = cluster.unix_timestamp, cluster.slot
    pools = _POOLS_USDC * _USDC
    state = first_state(world.program_id, world.admin.pubkey())
    state.number_of_markets = len(world.markets)
    state.number_of_authorities = state.number_of_sub_accounts = len(purses)
    _write_owned(cluster, world, world.state, account_data(state))

    deposits = sum(purse.deposit_usdc for purse in purses) * _USDC + 2 * pools * len(world.markets)
    spot = first_spot_market(world.program_id, world.usdc_mint, world.usdc_oracle, now)
    spot.deposit_balance = scaled_deposit(deposits)
    spot.deposit_token_twap = deposits
    _write_owned(cluster, world, world.spot_market, account_data(spot))
    cluster.set_account(world.spot_vault, token_account(world.usdc_mint, world.signer, deposits))
    cluster.set_account(world.insurance_vault, token_account(world.usdc_mint, world.signer, 0))
    supply = deposits + sum(purse.wallet_usdc for purse in purses) * _USDC
    cluster.set_account(world.usdc_mint, mint_account(world.admin.pubkey(), supply=supply, decimals=6))

    _write_oracle(cluster, world.usdc_oracle, Decimal(1), slot)
    for market in world.markets:
        terms = market.terms
        perp = first_perp_market(world.program_id, terms, market.oracle, now=now, slot=slot, pools=pools)
        _write_owned(cluster, world, market.address, account_data(perp))
        _write_oracle(cluster, market.oracle, Decimal(terms.price) / _PRICE, slot)


def _write_purse(cluster: WorldCluster, world: World, purse: _Purse) -> None:
    authority = purse.trader.wallet.pubkey()
    _write_native(cluster, authority, purse.sol)
    tokens = token_account(world.usdc_mint, authority, purse.wallet_usdc * _USDC)
    cluster.set_account(purse.trader.token_account, tokens)
    user = first_user(authority, deposit=purse.deposit_usdc * _USDC)
    _write_owned(cluster, world, purse.trader.user, account_data(user))
    stats = first_user_stats(authority, cluster.unix_timestamp)
    _write_owned(cluster, world, purse.trader.user_stats, account_data(stats))


def _write_owned(cluster: WorldCluster, world: World, address: Pubkey, data: bytes) -> None:
    cluster.set_account(address, Account(rent_exempt(len(data)), data, world.program_id))


def _write_native(cluster: WorldCluster, address: Pubkey, sol: int) -> None:
    cluster.set_account(address, Account(sol * _LAMPORTS_PER_SOL, b"", Pubkey.default()))


def _write_oracle(cluster: WorldCluster, address: Pubkey, price: Decimal, slot: int) -> None:
    quote = PythPrice(price=price, confidence=price * _ORACLE_CONFIDENCE, slot=slot)
    cluster.set_account(address, price_account(quote))
