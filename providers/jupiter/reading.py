"""Reading the venue: everything that quotes, orders and holdings need, at one slot in one call.

The pool has six custodies, and an owner can hold twelve positions at the most, so one call reads it all: no order
needs to say beforehand what it will look at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer, NodeBehind, NotListed, OracleStale, ProviderError, UnsupportedProgram
from providers.base.types import Side
from providers.jupiter.addresses import perpetuals_address, position_address, token_address
from providers.jupiter.config import JupiterConfig
from providers.jupiter.constants import BASES, CLOCK_SYSVAR, TOKENS, USDC_MINT, BaseUnits
from providers.jupiter.constants import Side as PositionSide
from providers.jupiter.errors import jupiter_refusal
from providers.jupiter.layouts import (
    read_custody,
    read_oracle,
    read_perpetuals,
    read_pool,
    read_position,
    read_token_account,
)
from providers.jupiter.state import Custody, OraclePrice, Permissions, Perpetuals, Pool, Position
from providers.solana.node import AccountData, AccountsAt, Commitment
from providers.solana.pool import NodePool
from providers.solana.programs import TOKEN_PROGRAM

__all__ = ["CustodyView", "Place", "VenueReader", "View", "Wallet", "market_symbol"]

_PERP_SUFFIX: Final = "-PERP"
# The pool names its custodies and these their oracles and vaults: known from the last read, and rarely new.
_MOST_ROUNDS: Final = 4
# Clock sysvar: slot, epoch start, epoch, leader schedule epoch, unix timestamp.
_CLOCK: Final = struct.Struct("<Q24xq")
_T = TypeVar("_T")


def market_symbol(token: str) -> str:
    """Return the canonical symbol of a token's market."""
    return f"{token}{_PERP_SUFFIX}"


class CustodyView(msgspec.Struct, frozen=True, kw_only=True):
    """A custody with its price.

    Attributes:
        symbol: of its token.
        price: null where the oracle cannot be read.
        refusal: why the program would not use that price now; null when it would.
        vault: tokens in its token account.
    """

    key: Pubkey
    symbol: str
    custody: Custody
    price: OraclePrice | None
    refusal: ProviderError | None
    vault: int

    @property
    def is_market(self) -> bool:
        """Whether positions in this token can be held."""
        return not self.custody.is_stable and self.symbol in BASES

    def priced(self) -> int:
        """Return the price whatever its age, dollars 1e6; raise `OracleStale` where there is none."""
        if self.price is None or self.price.price <= 0:
            raise self.refusal or OracleStale(f"the oracle of {self.symbol} has no price")
        return self.price.price


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner has: lamports, and amounts by mint of its associated token accounts (missing: none there)."""

    owner: Pubkey
    lamports: int
    tokens: Mapping[Pubkey, int]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order's position is, or would be: one market, side and collateral.

    Attributes:
        key: of the position's account; null without an owner.
        position: null where there is no account; its size may be 0.
    """

    market: CustodyView
    side: Side
    collateral: CustodyView
    key: Pubkey | None
    position: Position | None

    @property
    def symbol(self) -> str:
        """Canonical symbol of the market."""
        return market_symbol(self.market.symbol)

    @property
    def units(self) -> BaseUnits:
        """Base units of the market."""
        return BASES[self.market.symbol]

    @property
    def held(self) -> Position | None:
        """The position, when it is not flat."""
        return self.position if self.position is not None and self.position.size_usd > 0 else None

    @property
    def refusal(self) -> ProviderError | None:
        """Why the program would not use one of the two prices now."""
        return self.market.refusal or self.collateral.refusal


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The venue, every account read at `slot`.

    Attributes:
        now: the chain's clock in seconds.
        custodies: by key, in the pool's order; those of unknown tokens are left out.
        positions: accounts of the owner that exist, by key; flat ones among them.
        wallet: null without an owner.
    """

    slot: int
    now: int
    perpetuals: Perpetuals
    pool: Pool
    custodies: Mapping[Pubkey, CustodyView]
    places: tuple[Place, ...]
    wallet: Wallet | None

    @property
    def markets(self) -> tuple[CustodyView, ...]:
        """Custodies of tokens that can be traded."""
        return tuple(each for each in self.custodies.values() if each.is_market)

    def place(self, symbol: str, side: Side) -> Place:
        """Return where this adapter's orders go: a long is backed by the asset itself, a short by USDC.

        Raises:
            NotListed: no such market, or no USDC to back a short with.
        """
        for each in self.places:
            backed = each.side is Side.LONG or each.collateral.custody.mint == USDC_MINT
            if each.symbol == symbol and each.side is side and backed:
                return each
        raise NotListed(f"jupiter has no market {symbol}")

    def permissions(self, market: CustodyView) -> Permissions:
        """Return what the program and a market's custody both let anybody do."""
        return self.perpetuals.permissions.with_(market.custody.permissions)


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the last read named: custodies, and each one's mint, stability, oracle and vault."""

    custodies: tuple[Pubkey, ...]
    mints: Mapping[Pubkey, tuple[Pubkey, bool]]
    named: frozenset[Pubkey]


class _Accounts:
    """Accounts by address, of one answer."""

    def __init__(self, keys: Sequence[Pubkey], at: AccountsAt, program_id: Pubkey) -> None:
        self.slot = at.slot
        self._program_id = program_id
        self._accounts = dict(zip(keys, at.accounts, strict=True))

    def any(self, key: Pubkey) -> AccountData | None:
        return self._accounts.get(key)

    def data(self, key: Pubkey) -> bytes | None:
        """Return an account of the venue's own program."""
        account = self._accounts.get(key)
        return None if account is None or account.owner != self._program_id else account.data

    def read(self, reader: Callable[[bytes], _T], key: Pubkey) -> _T | None:
        data = self.data(key)
        return None if data is None else reader(data)

    def tokens(self, key: Pubkey) -> int | None:
        account = self._accounts.get(key)
        if account is None or account.owner != TOKEN_PROGRAM:
            return None
        return read_token_account(account.data).amount

    def now(self) -> int:
        clock = self._accounts.get(CLOCK_SYSVAR)
        if clock is None or len(clock.data) < _CLOCK.size:
            raise BadAnswer("the chain's clock cannot be read")
        return int(_CLOCK.unpack_from(clock.data)[1])


class VenueReader:
    """Reads one pool for one owner.

    Args:
        pool: nodes.
        config: program and pool.
        owner: of the positions; null: none are read.
    """

    def __init__(self, pool: NodePool, config: JupiterConfig, owner: Pubkey | None) -> None:
        self._pool = pool
        self._config = config
        self._known = _Known(custodies=(), mints={}, named=frozenset())
        self.owner = owner

    async def view(self, min_slot: int = 0) -> View:
        """Return the venue as it is.

        Args:
            min_slot: at or after which it must be read.

        Raises:
            UnsupportedProgram: the program's state or the pool is not there.
            NodeBehind: no node has reached `min_slot`.
            ConnectionFailed: a leaf of it.
        """
        for _ in range(_MOST_ROUNDS):
            known = self._known
            keys = self._keys(known)
            # Never older than what was seen before, whichever node answers.
            at = await self._pool.accounts(keys, min_context_slot=max(self._pool.last_slot, min_slot))
            accounts = _Accounts(keys, at, self._config.program_id)
            pool = accounts.read(read_pool, self._config.pool)
            perpetuals = accounts.read(read_perpetuals, perpetuals_address(self._config.program_id))
            if pool is None or perpetuals is None:
                raise UnsupportedProgram(f"there is no pool {self._config.pool} of {self._config.program_id}")
            self._known = _named(accounts, pool)
            if self._known == known:
                return self._view(accounts, perpetuals, pool)
        raise NodeBehind("the pool's custodies kept changing while they were read")

    async def accounts(
        self, keys: Sequence[Pubkey], *, commitment: Commitment, min_slot: int = 0
    ) -> tuple[tuple[bytes | None, ...], int, int]:
        """Return accounts of the program, with the slot they were read at and the chain's clock then."""
        at = await self._pool.accounts([*keys, CLOCK_SYSVAR], commitment=commitment, min_context_slot=min_slot)
        accounts = _Accounts([*keys, CLOCK_SYSVAR], at, self._config.program_id)
        return tuple(accounts.data(key) for key in keys), at.slot, accounts.now()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _keys(self, known: _Known) -> list[Pubkey]:
        config = self._config
        keys = [perpetuals_address(config.program_id), config.pool, CLOCK_SYSVAR, *known.custodies]
        keys += sorted(known.named, key=bytes)
        if self.owner is not None:
            keys += [self.owner, *(token_address(self.owner, mint) for mint, _ in known.mints.values())]
            keys += [self._position_key(*each) for each in _places(known)]
        return list(dict.fromkeys(keys))

    def _position_key(self, market: Pubkey, side: Side, collateral: Pubkey) -> Pubkey:
        if self.owner is None:
            raise BadAnswer("no owner is configured")
        return position_address(
            self._config.program_id,
            owner=self.owner,
            pool=self._config.pool,
            custody=market,
            collateral_custody=collateral,
            side=PositionSide.LONG if side is Side.LONG else PositionSide.SHORT,
        )

    def _view(self, accounts: _Accounts, perpetuals: Perpetuals, pool: Pool) -> View:
        now = accounts.now()
        custodies = {key: _custody_view(accounts, key, now) for key in self._known.mints}
        places: list[Place] = []
        for market, side, collateral in _places(self._known):
            key = None if self.owner is None else self._position_key(market, side, collateral)
            position = None if key is None else accounts.read(read_position, key)
            places.append(
                Place(
                    market=custodies[market],
                    side=side,
                    collateral=custodies[collateral],
                    key=key,
                    position=position,
                )
            )
        return View(
            slot=accounts.slot,
            now=now,
            perpetuals=perpetuals,
            pool=pool,
            custodies=custodies,
            places=tuple(places),
            wallet=self._wallet(accounts),
        )

    def _wallet(self, accounts: _Accounts) -> Wallet | None:
        if self.owner is None:
            return None
        account, tokens = accounts.any(self.owner), dict[Pubkey, int]()
        for mint, _ in self._known.mints.values():
            amount = accounts.tokens(token_address(self.owner, mint))
            if amount is not None:
                tokens[mint] = amount
        return Wallet(owner=self.owner, lamports=0 if account is None else account.lamports, tokens=tokens)


def _places(known: _Known) -> list[tuple[Pubkey, Side, Pubkey]]:
    """Return every place that a position can be in: longs on the asset, shorts on each stable token."""
    stables = [key for key, (_, stable) in known.mints.items() if stable]
    places: list[tuple[Pubkey, Side, Pubkey]] = []
    for key, (mint, stable) in known.mints.items():
        if not stable and TOKENS[mint] in BASES:
            places.append((key, Side.LONG, key))
            places.extend((key, Side.SHORT, each) for each in stables)
    return places


def _named(accounts: _Accounts, pool: Pool) -> _Known:
    """Return what an answer names, as far as it has the accounts that name it."""
    mints: dict[Pubkey, tuple[Pubkey, bool]] = {}
    named: set[Pubkey] = set()
    for key in pool.custodies:
        custody = accounts.read(read_custody, key)
        if custody is not None and custody.mint in TOKENS:
            mints[key] = (custody.mint, custody.is_stable)
            named |= {custody.doves_ag_oracle, custody.token_account}
    return _Known(custodies=pool.custodies, mints=mints, named=frozenset(named))


def _custody_view(accounts: _Accounts, key: Pubkey, now: int) -> CustodyView:
    custody = accounts.read(read_custody, key)
    if custody is None:
        raise BadAnswer(f"the custody {key} is missing")
    symbol, feed = TOKENS[custody.mint], accounts.any(custody.doves_ag_oracle)
    price: OraclePrice | None = None
    refusal: ProviderError | None
    try:
        price = None if feed is None else read_oracle(feed.data)
        refusal = _oracle_refusal(symbol, price, custody, now)
    except BadAnswer as error:
        refusal = jupiter_refusal(6004, f"the oracle of {symbol} cannot be read: {error.detail}")
    return CustodyView(
        key=key,
        symbol=symbol,
        custody=custody,
        price=price,
        refusal=refusal,
        vault=accounts.tokens(custody.token_account) or 0,
    )


def _oracle_refusal(symbol: str, price: OraclePrice | None, custody: Custody, now: int) -> ProviderError | None:
    """Return why the program would not use a price now. A feed that is ahead of the chain's clock is not old."""
    if price is None or price.price <= 0:
        return jupiter_refusal(6004, f"the oracle of {symbol} has no price")
    age = now - price.timestamp
    if age > custody.max_price_age_sec:
        return jupiter_refusal(6003, f"the price of {symbol} is {age} s old, {custody.max_price_age_sec} s is the most")
    return None
