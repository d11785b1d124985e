"""The venue's accounts in the world: the same wallets and tokens as the rest of it, at mainnet's addresses.

Ether and bitcoin of the trader are here for its longs, which are backed by the asset itself.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.jupiter.addresses import (
    DOVES_PROGRAM,
    PERPS_PROGRAM,
    custody_address,
    lp_mint_address,
    perpetuals_address,
    pool_address,
    position_address,
    transfer_authority,
    vault_address,
)
from router.localnet.jupiter.genesis import CustodyTerms, first_custody, first_feed, first_perpetuals, first_pool
from router.localnet.jupiter.layouts import account_data
from router.localnet.jupiter.pricing import LONG, SHORT
from router.localnet.spl import (
    associated_token_account,
    mint_account,
    rent_exempt,
    token_account,
    token_amount,
    with_more_supply,
    with_token_amount,
    wrapped_sol,
)
from router.localnet.world import USDC_MINT, WorldCluster, WorldKeys

__all__ = [
    "JUPITER_CUSTODIES",
    "JUPITER_MARKETS",
    "SOL_MINT",
    "JupiterCustody",
    "JupiterWorld",
    "build_jupiter_world",
    "give_tokens",
    "jupiter_keepers",
    "jupiter_world_of",
    "open_jupiter_world",
]

SOL_MINT = Pubkey.from_string("So11111111111111111111111111111111111111112")

_LAMPORTS_PER_SOL = 10**9
_KEEPER_SOL = 1_000
_KEEPER = "jupiter/keeper"


def _key(text: str) -> Pubkey:
    return Pubkey.from_string(text)


JUPITER_CUSTODIES = (
    CustodyTerms(
        symbol="SOL",
        mint=SOL_MINT,
        decimals=9,
        stable=False,
        oracle=_key("7UVimffxr9ow1uXYxsr4LHAcV58mLzhmwaeKvJ1pjLiE"),
        feed=_key("FYq2BWQ1V5P1WFBqr3qB2Kb5yHVvSv7upzKodgQE5zXh"),
        older_feed=_key("39cWjvHrpHNz2SbXv6ME4NPhqBDBd4KsjUYv5JkHEAJU"),
        price_usd=150,
        owned=4_000_000,
        locked=450_000,
        guaranteed_usd=40_000_000,
        short_usd=12_000_000,
        max_long_usd=250_000_000,
        max_short_usd=110_000_000,
        max_position_usd=10_000_000,
        impact_scalar=3_750_000_000,
        rates=(1_000, 3_500, 15_000, 80),
        ratio_bps=4_700,
    ),
    CustodyTerms(
        symbol="ETH",
        mint=_key("7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"),
        decimals=8,
        stable=False,
        oracle=_key("42amVS4KgzR9rA28tkVYqVXjq9Qa8dcZQMbH5EYFX6XC"),
        feed=_key("AFZnHPzy4mvVCffrVwhewHbFc93uTHvDSFrVH7GtfXF1"),
        older_feed=_key("5URYohbPy32nxK1t3jAHVNfdWY2xTubHiFvLrE3VhXEp"),
        price_usd=3_000,
        owned=30_000,
        locked=4_000,
        guaranteed_usd=9_000_000,
        short_usd=6_000_000,
        max_long_usd=70_000_000,
        max_short_usd=50_000_000,
        max_position_usd=10_000_000,
        impact_scalar=3_000_000_000,
        rates=(1_000, 3_500, 15_000, 80),
        ratio_bps=800,
    ),
    CustodyTerms(
        symbol="BTC",
        mint=_key("3NZ9JMVBmGAqocybic2c7LQCJScmgsAZ6vQqTDzcqmJh"),
        decimals=8,
        stable=False,
        oracle=_key("4cSM2e6rvbGQUFiJbqytoVMi5GgghSMr8LwVrT9VPSPo"),
        feed=_key("hUqAT1KQ7eW1i6Csp9CXYtpPfSAvi835V7wKi5fRfmC"),
        older_feed=_key("4HBbPx9QJdjJ7GUe6bsiJjGybvfpDhQMMPXP1UEa7VT5"),
        price_usd=60_000,
        owned=2_000,
        locked=250,
        guaranteed_usd=11_000_000,
        short_usd=8_000_000,
        max_long_usd=90_000_000,
        max_short_usd=60_000_000,
        max_position_usd=10_000_000,
        impact_scalar=3_000_000_000,
        rates=(1_000, 3_500, 15_000, 80),
        ratio_bps=1_300,
    ),
    CustodyTerms(
        symbol="USDC",
        mint=USDC_MINT,
        decimals=6,
        stable=True,
        oracle=_key("Dpw1EAVrSB1ibxiDQyTAW6Zip3J4Btk2x4SgApQCeFbX"),
        feed=_key("6Jp2xZUTWdDD2ZyUPRzeMdc6AFQ5K3pFgZxk2EijfjnM"),
        older_feed=_key("A28T5pKtscnhDo6C1Sz786Tup88aTjt8uyKewjVvPrGk"),
        price_usd=1,
        owned=300_000_000,
        locked=25_000_000,
        rates=(0, 850, 1_500, 90),
        ratio_bps=2_700,
    ),
    CustodyTerms(
        symbol="USDT",
        mint=_key("Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"),
        decimals=6,
        stable=True,
        oracle=_key("HT2PLQBcG5EiCcNSaMHAjSgd9F98ecpATbk4Sk5oYuM"),
        feed=_key("Fgc93D641F8N2d1xLjQ4jmShuD3GE3BsCXA56KBQbF5u"),
        older_feed=_key("AGW7q2a3WxCzh5TB2Q6yNde1Nf41g3HLaaXdybz7cbBU"),
        price_usd=1,
        owned=30_000_000,
        locked=1_000_000,
        rates=(0, 850, 1_500, 90),
        ratio_bps=500,
    ),
)
JUPITER_MARKETS = ("SOL-PERP", "ETH-PERP", "BTC-PERP")

_PURSE = {"ETH": Decimal(20), "BTC": Decimal(1)}
"""What the trader starts with, besides SOL and USDC."""


class JupiterCustody(msgspec.Struct, frozen=True, kw_only=True):
    """One token's addresses."""

    terms: CustodyTerms
    address: Pubkey
    vault: Pubkey

    @property
    def mint(self) -> Pubkey:
        """The token."""
        return self.terms.mint

    @property
    def feed(self) -> Pubkey:
        """Its price."""
        return self.terms.feed


class JupiterWorld(msgspec.Struct, frozen=True, kw_only=True):
    """All addresses of the venue; nothing in it changes with trading."""

    program_id: Pubkey
    perpetuals: Pubkey
    pool: Pubkey
    custodies: tuple[JupiterCustody, ...]
    admin: Keypair
    trader: Keypair
    maker: Keypair
    keeper: Keypair

    def custody(self, symbol: str) -> JupiterCustody:
        """Return a custody by its token's symbol, or that of a market's asset.

        Raises:
            KeyError: there is none.
        """
        wanted = symbol.removesuffix("-PERP")
        for custody in self.custodies:
            if custody.terms.symbol == wanted:
                return custody
        raise KeyError(symbol)

    def market(self, symbol: str) -> JupiterCustody:
        """Return the custody of a market's asset.

        Raises:
            KeyError: there is no such market.
        """
        if symbol not in JUPITER_MARKETS:
            raise KeyError(symbol)
        return self.custody(symbol)

    def at(self, address: Pubkey) -> JupiterCustody:
        """Return a custody by its address.

        Raises:
            KeyError: there is none.
        """
        for custody in self.custodies:
            if custody.address == address:
                return custody
        raise KeyError(str(address))

    def collateral(self, symbol: str, side: int) -> JupiterCustody:
        """Return what backs a side of a market: the asset itself a long, USDC a short."""
        return self.market(symbol) if side == LONG else self.custody("USDC")

    def position(self, owner: Pubkey, symbol: str, side: int) -> Pubkey:
        """Return an owner's position on a side (1 long, 2 short)."""
        asset, collateral = self.market(symbol), self.collateral(symbol, side)
        return position_address(owner, self.pool, asset.address, collateral.address, side)[0]

    def positions(self, owner: Pubkey) -> list[Pubkey]:
        """Return every position that an owner can have here."""
        return [self.position(owner, symbol, side) for symbol in JUPITER_MARKETS for side in (LONG, SHORT)]


def jupiter_keepers(keys: WorldKeys) -> tuple[Pubkey, ...]:
    """Return who may execute requests in the world of these keys."""
    return (keys.keypair(_KEEPER).pubkey(),)


def jupiter_world_of(keys: WorldKeys) -> JupiterWorld:
    """Return the venue's addresses without touching a cluster."""
    pool = pool_address()[0]
    custodies = tuple(
        JupiterCustody(
            terms=terms,
            address=custody_address(pool, terms.mint)[0],
            vault=vault_address(pool, terms.mint)[0],
        )
        for terms in JUPITER_CUSTODIES
    )
    return JupiterWorld(
        program_id=PERPS_PROGRAM,
        perpetuals=perpetuals_address()[0],
        pool=pool,
        custodies=custodies,
        admin=keys.keypair("admin"),
        trader=keys.keypair("trader"),
        maker=keys.keypair("maker"),
        keeper=keys.keypair(_KEEPER),
    )


def build_jupiter_world(cluster: WorldCluster, keys: WorldKeys) -> JupiterWorld:
    """Write every account of the venue, as at the cluster's slot and time, and return the addresses.

    Wallets and mints are those of the world around it; where they are not there yet, the bare needs are made. The
    program itself is the caller's to add. Accounts of the venue that are there already are overwritten.
    """
    world, now = jupiter_world_of(keys), cluster.unix_timestamp
    _write(cluster, world.perpetuals, account_data(first_perpetuals(world.admin.pubkey(), now)))
    mints = [custody.mint for custody in world.custodies]
    aum = sum(custody.terms.owned * custody.terms.price_usd for custody in world.custodies)
    _write(cluster, world.pool, account_data(first_pool(mints, aum, now)))
    admin = world.admin.pubkey()
    cluster.set_account(lp_mint_address(world.pool)[0], mint_account(transfer_authority()[0], supply=0, decimals=6))
    for custody in world.custodies:
        terms = custody.terms
        if cluster.account(terms.mint) is None:
            cluster.set_account(terms.mint, mint_account(admin, supply=0, decimals=terms.decimals))
        _write(cluster, custody.address, account_data(first_custody(terms, now)))
        _write(cluster, terms.feed, account_data(first_feed(terms, now)), owner=DOVES_PROGRAM)
        held = terms.owned * 10**terms.decimals
        _put_tokens(cluster, custody.vault, terms.mint, transfer_authority()[0], held)
    _write_wallets(cluster, world)
    return world


def open_jupiter_world(cluster: WorldCluster, keys: WorldKeys) -> JupiterWorld:
    """Return the venue that the cluster holds from an earlier run, or build it."""
    world = jupiter_world_of(keys)
    if cluster.account(world.pool) is not None:
        return world
    return build_jupiter_world(cluster, keys)


def give_tokens(cluster: WorldCluster, wallet: Pubkey, custody: JupiterCustody, amount: Decimal) -> None:
    """Give a wallet tokens (whole units) on top of what it has; its token account is made where it has none."""
    address = associated_token_account(wallet, custody.mint)
    before = cluster.account(address)
    held = 0 if before is None else token_amount(bytes(before.data))
    added = int(amount * 10**custody.terms.decimals)
    _put_tokens(cluster, address, custody.mint, wallet, held + added)


def _put_tokens(cluster: WorldCluster, address: Pubkey, mint: Pubkey, owner: Pubkey, amount: int) -> None:
    """Set what a token account holds; wrapped SOL is lamports, anything else the mint knows of."""
    before = cluster.account(address)
    if mint == SOL_MINT:
        cluster.set_account(address, wrapped_sol(mint, owner, amount))
        return
    held = 0 if before is None else token_amount(bytes(before.data))
    account = token_account(mint, owner, amount) if before is None else with_token_amount(before, amount)
    cluster.set_account(address, account)
    supply = cluster.account(mint)
    if supply is not None and amount > held:
        cluster.set_account(mint, with_more_supply(supply, amount - held))


def _write(cluster: WorldCluster, address: Pubkey, data: bytes, *, owner: Pubkey = PERPS_PROGRAM) -> None:
    cluster.set_account(address, Account(rent_exempt(len(data)), data, owner))


def _write_wallets(cluster: WorldCluster, world: JupiterWorld) -> None:
    trader, keeper = world.trader.pubkey(), world.keeper.pubkey()
    for wallet, sol in ((trader, 100), (keeper, _KEEPER_SOL)):
        if cluster.account(wallet) is None:
            cluster.set_account(wallet, Account(sol * _LAMPORTS_PER_SOL, b"", Pubkey.default()))
    for symbol, amount in _PURSE.items():
        custody = world.custody(symbol)
        if cluster.account(associated_token_account(trader, custody.mint)) is None:
            give_tokens(cluster, trader, custody, amount)
    usdc = world.custody("USDC")
    if cluster.account(associated_token_account(trader, usdc.mint)) is None:
        give_tokens(cluster, trader, usdc, Decimal(0))
