"""Reading the venue: which markets there are, and everything that one quote or order needs, at one slot in one call."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.clock import Clock
from providers.base.errors import BadAnswer, NotListed, ProviderError, UnsupportedProgram
from providers.drift.addresses import (
    perp_market_address,
    spot_market_address,
    state_address,
    user_address,
    user_stats_address,
)
from providers.drift.config import DriftConfig
from providers.drift.constants import CLOCK_SYSVAR, QUOTE_SPOT_MARKET, OracleSource
from providers.drift.layouts import (
    PerpMarket,
    SpotMarket,
    State,
    User,
    UserStats,
    read_perp_market,
    read_spot_market,
    read_state,
    read_user,
    read_user_stats,
)
from providers.drift.margin import Book
from providers.drift.oracles import OraclePrice, is_supported, read_oracle
from providers.solana.node import AccountData, AccountsAt, Commitment
from providers.solana.pool import NodePool

__all__ = ["AccountView", "ListedMarket", "Listing", "Overview", "Snapshot", "VenueReader"]

_PERP_SUFFIX: Final = "-PERP"
_ACCOUNTS_PER_CALL: Final = 100
# Clock sysvar: slot, epoch start, epoch, leader schedule epoch, unix timestamp.
_CLOCK: Final = struct.Struct("<Q24xq")


class ListedMarket(msgspec.Struct, frozen=True, kw_only=True):
    """What of a market does not change: its addresses, and whether the adapter can price it."""

    symbol: str
    index: int
    address: Pubkey
    oracle: Pubkey
    oracle_source: int

    @property
    def is_offered(self) -> bool:
        """Whether it is a perpetual future (prediction markets are priced otherwise) on an oracle that can be read."""
        return self.symbol.endswith(_PERP_SUFFIX) and is_supported(self.oracle_source)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Every perp market and token of the venue, as last read."""

    perps: Mapping[int, ListedMarket]
    spots: Mapping[int, ListedMarket]
    read_at: float

    def market(self, symbol: str) -> ListedMarket:
        """Return a market by its canonical symbol.

        Raises:
            NotListed: the venue has none of that name, or it stands on an oracle that the adapter does not read.
        """
        found = next((each for each in self.perps.values() if each.symbol == symbol), None)
        if found is None:
            raise NotListed(f"drift has no market {symbol}")
        if not found.is_offered:
            raise NotListed(f"{symbol} is not offered: its kind or its oracle ({found.oracle_source}) is not supported")
        return found


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The venue as one order meets it, every account read at `slot`.

    Attributes:
        now: the chain's clock in seconds.
        oracle: of `market`.
        user, stats: null where the account is not set up, or no account was asked for.
        book: the account with every market it holds and `market`; null without an account, or where a price that its
            margin depends on cannot be read.
    """

    slot: int
    now: int
    state: State
    listed: ListedMarket
    market: PerpMarket
    oracle: OraclePrice
    user: User | None
    stats: UserStats | None
    book: Book | None

    @property
    def held_base(self) -> int:
        """Base that the account holds in the market, signed; 0 without an account."""
        position = None if self.user is None else self.user.perp_position(self.market.market_index)
        return 0 if position is None else position.base_asset_amount


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange and all of its markets with their prices (null where a price cannot be read), at `slot`."""

    slot: int
    now: int
    state: State
    markets: tuple[tuple[ListedMarket, PerpMarket, OraclePrice | None], ...]


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """The account at `slot`; `user` is null when it is not set up, `book` as in `Snapshot`."""

    slot: int
    now: int
    user: User | None
    book: Book | None
    prices: Mapping[Pubkey, OraclePrice]


class _Accounts:
    """Accounts by address, of one or several answers."""

    def __init__(self, keys: Sequence[Pubkey], at: AccountsAt) -> None:
        self.slot = at.slot
        self._accounts = dict(zip(keys, at.accounts, strict=True))

    def data(self, key: Pubkey) -> bytes | None:
        account: AccountData | None = self._accounts.get(key)
        return None if account is None else account.data


class VenueReader:
    """Reads one deployment with one account.

    Args:
        pool: nodes.
        config: program and account.
        owner: of the account; null: no account is read.
        clock: for the age of the listing.
    """

    def __init__(self, pool: NodePool, config: DriftConfig, owner: Pubkey | None, clock: Clock) -> None:
        self._pool = pool
        self._config = config
        self._clock = clock
        self._listing: Listing | None = None
        self._held: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
        self.owner = owner

    @property
    def user_key(self) -> Pubkey | None:
        """Address of the account."""
        if self.owner is None:
            return None
        return user_address(self._config.program_id, self.owner, self._config.sub_account_id)

    @property
    def stats_key(self) -> Pubkey | None:
        """Address of what the owner's accounts share."""
        return None if self.owner is None else user_stats_address(self._config.program_id, self.owner)

    async def listing(self, *, fresh: bool = False) -> Listing:
        """Return the markets, read again when they are too old.

        Raises:
            UnsupportedProgram: there is no exchange at this program.
            ConnectionFailed: a leaf of it.
        """
        known = self._listing
        if known is not None and not fresh and self._clock.monotonic() - known.read_at < self._config.markets_max_age_s:
            return known
        program = self._config.program_id
        exchange = await self._read([state_address(program)])
        state = self._state(exchange)
        perps = [perp_market_address(program, index) for index in range(state.number_of_markets)]
        spots = [spot_market_address(program, index) for index in range(state.number_of_spot_markets)]
        found: dict[Pubkey, bytes | None] = {}
        for start in range(0, len(perps) + len(spots), _ACCOUNTS_PER_CALL):
            keys = [*perps, *spots][start : start + _ACCOUNTS_PER_CALL]
            answer = await self._read(keys)
            found |= {key: answer.data(key) for key in keys}
        self._listing = Listing(
            perps={each.index: each for key in perps if (each := _listed_perp(key, found[key])) is not None},
            spots={each.index: each for key in spots if (each := _listed_spot(key, found[key])) is not None},
            read_at=self._clock.monotonic(),
        )
        return self._listing

    async def symbol(self, market_index: int) -> str:
        """Return a perp market's canonical symbol.

        Raises:
            BadAnswer: the venue lists no market of that number.
        """
        listed = (await self.listing()).perps.get(market_index)
        if listed is None:
            # It may be younger than the listing.
            listed = (await self.listing(fresh=True)).perps.get(market_index)
        if listed is None:
            raise BadAnswer(f"there is no perp market {market_index}")
        return listed.symbol

    async def snapshot(self, symbol: str) -> Snapshot:
        """Return everything that an order in this market depends on.

        Raises:
            NotListed: no such market, or one that cannot be priced.
            UnsupportedProgram, ConnectionFailed: see `listing`.
        """
        listing = await self.listing()
        try:
            listed = listing.market(symbol)
        except NotListed:
            # It may be younger than the listing.
            listing = await self.listing(fresh=True)
            listed = listing.market(symbol)
        accounts, user = await self._account_read(listing, listed)
        market_data = accounts.data(listed.address)
        if market_data is None:
            raise BadAnswer(f"the account of {symbol} is missing")
        market = read_perp_market(market_data)
        oracle = read_oracle(market.oracle_source, accounts.data(market.oracle))
        stats_data = None if self.stats_key is None else accounts.data(self.stats_key)
        return Snapshot(
            slot=accounts.slot,
            now=self._now(accounts),
            state=self._state(accounts),
            listed=listed,
            market=market,
            oracle=oracle,
            user=user,
            stats=None if stats_data is None else read_user_stats(stats_data),
            book=None if user is None else _book(listing, accounts, user, listed)[0],
        )

    async def account(self, min_slot: int = 0) -> AccountView:
        """Return the account with everything that its margin depends on, read at or after `min_slot`.

        Raises:
            NodeBehind: no node has reached `min_slot`.
        """
        listing = await self.listing()
        accounts, user = await self._account_read(listing, None, min_slot)
        book, prices = (None, {}) if user is None else _book(listing, accounts, user, None)
        return AccountView(slot=accounts.slot, now=self._now(accounts), user=user, book=book, prices=prices)

    async def overview(self) -> Overview:
        """Return the exchange with every market and its price."""
        listing = await self.listing()
        priced = [each for each in listing.perps.values() if each.is_offered]
        state_key, slot, now = state_address(self._config.program_id), 0, 0
        state: State | None = None
        markets: list[tuple[ListedMarket, PerpMarket, OraclePrice | None]] = []
        for start in range(0, max(len(priced), 1), _ACCOUNTS_PER_CALL // 2 - 1):
            some = priced[start : start + _ACCOUNTS_PER_CALL // 2 - 1]
            keys = [state_key, CLOCK_SYSVAR, *(key for each in some for key in (each.address, each.oracle))]
            accounts = await self._read(keys)
            state, slot, now = self._state(accounts), accounts.slot, self._now(accounts)
            for each in some:
                data = accounts.data(each.address)
                if data is not None:
                    market = read_perp_market(data)
                    markets.append((each, market, _price_or_none(market.oracle_source, accounts.data(market.oracle))))
        if state is None:
            raise UnsupportedProgram("there is no exchange at this program")
        return Overview(slot=slot, now=now, state=state, markets=tuple(markets))

    async def user_at(self, commitment: Commitment, min_context_slot: int) -> tuple[User | None, int, int]:
        """Return the account as it was at a slot at or after `min_context_slot`, with that slot and the chain's clock.

        Raises:
            BadAnswer: no account was configured, or its bytes are not one.
        """
        if self.user_key is None:
            raise BadAnswer("no account is configured")
        at = await self._read([self.user_key, CLOCK_SYSVAR], commitment=commitment, min_context_slot=min_context_slot)
        data = at.data(self.user_key)
        return (None if data is None else read_user(data)), at.slot, self._now(at)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _account_read(
        self, listing: Listing, listed: ListedMarket | None, min_slot: int = 0
    ) -> tuple[_Accounts, User | None]:
        """Read the account and what it was last known to hold; once more when it holds something else by now."""
        accounts, user = await self._read_held(listing, listed, min_slot)
        held = _held_by(user)
        if held[0] <= self._held[0] and held[1] <= self._held[1]:
            self._held = held
            return accounts, user
        self._held = held
        if not (held[0] <= listing.perps.keys() and held[1] <= listing.spots.keys()):
            listing = await self.listing(fresh=True)
        return await self._read_held(listing, listed, min_slot)

    async def _read_held(
        self, listing: Listing, listed: ListedMarket | None, min_slot: int
    ) -> tuple[_Accounts, User | None]:
        floor = max(self._pool.last_slot, min_slot)
        accounts = await self._read(self._keys(listing, listed, *self._held), min_context_slot=floor)
        data = None if self.user_key is None else accounts.data(self.user_key)
        return accounts, None if data is None else read_user(data)

    def _keys(
        self, listing: Listing, listed: ListedMarket | None, perps: frozenset[int], spots: frozenset[int]
    ) -> list[Pubkey]:
        keys = [state_address(self._config.program_id), CLOCK_SYSVAR]
        keys.extend(key for key in (self.user_key, self.stats_key) if key is not None)
        wanted = [listing.spots[index] for index in sorted(spots | {QUOTE_SPOT_MARKET}) if index in listing.spots]
        wanted.extend(listing.perps[index] for index in sorted(perps) if index in listing.perps)
        if listed is not None:
            wanted.append(listed)
        for each in wanted:
            keys.append(each.address)
            if each.oracle_source != OracleSource.QUOTE_ASSET:
                keys.append(each.oracle)
        return list(dict.fromkeys(keys))

    async def _read(
        self, keys: Sequence[Pubkey], *, commitment: Commitment = "confirmed", min_context_slot: int | None = None
    ) -> _Accounts:
        floor = self._pool.last_slot if min_context_slot is None else min_context_slot
        return _Accounts(keys, await self._pool.accounts(keys, commitment=commitment, min_context_slot=floor))

    def _state(self, accounts: _Accounts) -> State:
        data = accounts.data(state_address(self._config.program_id))
        if data is None:
            raise UnsupportedProgram(f"there is no exchange at program {self._config.program_id}")
        try:
            return read_state(data)
        except BadAnswer as error:
            raise UnsupportedProgram(error.detail) from error

    @staticmethod
    def _now(accounts: _Accounts) -> int:
        data = accounts.data(CLOCK_SYSVAR)
        if data is None or len(data) < _CLOCK.size:
            raise BadAnswer("the chain's clock cannot be read")
        _, now = _CLOCK.unpack_from(data)
        return int(now)


def _held_by(user: User | None) -> tuple[frozenset[int], frozenset[int]]:
    if user is None:
        return frozenset(), frozenset()
    perps = frozenset(each.market_index for each in user.perp_positions)
    return perps, frozenset(each.market_index for each in user.spot_positions)


def _listed_perp(key: Pubkey, data: bytes | None) -> ListedMarket | None:
    if data is None:
        return None
    market = read_perp_market(data)
    return ListedMarket(
        symbol=market.venue_symbol.upper(),
        index=market.market_index,
        address=key,
        oracle=market.oracle,
        oracle_source=market.oracle_source,
    )


def _listed_spot(key: Pubkey, data: bytes | None) -> ListedMarket | None:
    if data is None:
        return None
    token = read_spot_market(data)
    return ListedMarket(
        symbol=str(token.market_index),
        index=token.market_index,
        address=key,
        oracle=token.oracle,
        oracle_source=token.oracle_source,
    )


def _price_or_none(source: int, data: bytes | None) -> OraclePrice | None:
    try:
        return read_oracle(source, data)
    except ProviderError:
        return None


def _book(
    listing: Listing, accounts: _Accounts, user: User, listed: ListedMarket | None
) -> tuple[Book | None, dict[Pubkey, OraclePrice]]:
    """Return the account with all that it holds; null where something of it was not read or has no price."""
    perps: dict[int, PerpMarket] = {}
    spots: dict[int, SpotMarket] = {}
    prices: dict[Pubkey, OraclePrice] = {}
    held_perps, held_spots = _held_by(user)
    whole = True
    wanted = held_perps if listed is None else held_perps | {listed.index}
    for index in sorted(wanted):
        place = listing.perps.get(index)
        data = None if place is None else accounts.data(place.address)
        if data is None:
            whole = False
            continue
        perps[index] = read_perp_market(data)
    for index in sorted(held_spots | {market.quote_spot_market_index for market in perps.values()}):
        place = listing.spots.get(index)
        data = None if place is None else accounts.data(place.address)
        if data is None:
            whole = False
            continue
        spots[index] = read_spot_market(data)
    sources = [(each.oracle, each.oracle_source) for each in perps.values()]
    sources.extend((each.oracle, each.oracle_source) for each in spots.values())
    for key, source in sources:
        price = _price_or_none(source, accounts.data(key))
        if price is None:
            whole = False
        else:
            prices[key] = price
    if not whole:
        return None, prices
    current = {key: price.price for key, price in prices.items()}
    return Book(user=user, perp_markets=perps, spot_markets=spots, prices=current), prices
