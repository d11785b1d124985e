"""Reading the venue: which markets there are, and everything that one quote or order needs, at one slot in one call."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.clock import Clock
from providers.base.errors import BadAnswer, NotListed, ProviderError, UnsupportedProgram
from providers.mango.addresses import bank_address, mango_account_address, perp_market_address
from providers.mango.config import MangoConfig
from providers.mango.constants import CLOCK_SYSVAR, QUOTE_TOKEN
from providers.mango.health import HealthBook, PricedBank, PricedPerp
from providers.mango.layouts import (
    Bank,
    BookSide,
    EventQueue,
    Group,
    MangoAccount,
    PerpMarket,
    read_bank,
    read_book_side,
    read_event_queue,
    read_group,
    read_mango_account,
    read_perp_market,
)
from providers.mango.oracles import OraclePrice, OracleRules, oracle_error, read_oracle
from providers.solana.node import AccountData, AccountsAt, Commitment
from providers.solana.pool import NodePool

__all__ = ["AccountView", "ListedMarket", "Listing", "MarketView", "Overview", "Snapshot", "VenueReader"]

_PERP_SUFFIX: Final = "-PERP"
_ACCOUNTS_PER_CALL: Final = 100
# How many indices are looked up at once; the list ends at the first range without any market.
_INDICES_PER_RANGE: Final = 32
_MOST_RANGES: Final = 8
# What an order needs is known when it has been read: an account's slots name banks and markets, and these name oracles.
_MOST_ROUNDS: Final = 4
# Clock sysvar: slot, epoch start, epoch, leader schedule epoch, unix timestamp.
_CLOCK: Final = struct.Struct("<Q24xq")
_T = TypeVar("_T")


class ListedMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market's name, index and addresses, as last read."""

    symbol: str
    index: int
    address: Pubkey
    oracle: Pubkey
    bids: Pubkey
    asks: Pubkey
    event_queue: Pubkey
    settle_token_index: int


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Every perp market of the group, by index."""

    perps: Mapping[int, ListedMarket]
    read_at: float

    def market(self, symbol: str) -> ListedMarket:
        """Return a market by its canonical symbol; raise `NotListed` when there is none."""
        found = next((each for each in self.perps.values() if each.symbol == symbol), None)
        if found is None:
            raise NotListed(f"mango has no market {symbol}")
        return found


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The venue as one order meets it, every account read at `slot`.

    Attributes:
        now: the chain's clock in seconds.
        oracle: of `market`.
        oracle_refusal: why the program would not use that price now; null when it would.
        account: null where it is not set up, or none was asked for.
        book: the account with all that its health depends on, and `market`; null without an account, or where
            `book_refusal` says why the program could not compute its health.
    """

    slot: int
    now: int
    group: Group
    listed: ListedMarket
    market: PerpMarket
    bids: BookSide
    asks: BookSide
    events: EventQueue
    oracle: OraclePrice
    oracle_refusal: ProviderError | None
    account: MangoAccount | None
    account_key: Pubkey | None
    book: HealthBook | None
    book_refusal: ProviderError | None

    @property
    def held_lots(self) -> int:
        """Base lots that the account holds in the market, signed, fills that wait included; 0 without an account."""
        position = None if self.account is None else self.account.perp(self.market.perp_market_index)
        return 0 if position is None else position.effective_base_lots


class MarketView(msgspec.Struct, frozen=True, kw_only=True):
    """A market with its price; null where it cannot be read."""

    listed: ListedMarket
    market: PerpMarket
    oracle: OraclePrice | None
    oracle_refusal: ProviderError | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The group and all of its markets with their prices, at `slot`."""

    slot: int
    now: int
    group: Group
    markets: tuple[MarketView, ...]


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """The account at `slot`; `account` is null when it is not set up, `book` as in `Snapshot`.

    Attributes:
        perps: markets that the account has a slot in, by index, whatever their price is worth.
        prices: of these markets; one that cannot be read is left out.
        markets: every market of the group.
    """

    slot: int
    now: int
    group: Group
    account: MangoAccount | None
    book: HealthBook | None
    book_refusal: ProviderError | None
    perps: Mapping[int, PerpMarket]
    prices: Mapping[int, OraclePrice]
    markets: Mapping[int, ListedMarket]


class _Accounts:
    """Accounts by address, of one answer."""

    def __init__(self, keys: Sequence[Pubkey], at: AccountsAt, program_id: Pubkey) -> None:
        self.slot = at.slot
        self._program_id = program_id
        self._accounts = dict(zip(keys, at.accounts, strict=True))

    def has(self, key: Pubkey) -> bool:
        """Whether the account was asked for, whatever the answer."""
        return key in self._accounts

    def any(self, key: Pubkey) -> AccountData | None:
        return self._accounts.get(key)

    def data(self, key: Pubkey) -> bytes | None:
        """Return an account of the venue's own program; other venues have accounts of the same kinds."""
        account = self._accounts.get(key)
        return None if account is None or account.owner != self._program_id else account.data

    def required(self, key: Pubkey, what: str) -> bytes:
        data = self.data(key)
        if data is None:
            raise BadAnswer(f"{what} is missing")
        return data

    def now(self) -> int:
        clock = self._accounts.get(CLOCK_SYSVAR)
        if clock is None or len(clock.data) < _CLOCK.size:
            raise BadAnswer("the chain's clock cannot be read")
        return int(_CLOCK.unpack_from(clock.data)[1])


class VenueReader:
    """Reads one group with one account.

    Args:
        pool: nodes.
        config: program, group and account.
        owner: of the account; null: no account is read.
        clock: for the age of the listing.
    """

    def __init__(self, pool: NodePool, config: MangoConfig, owner: Pubkey | None, clock: Clock) -> None:
        self._pool = pool
        self._config = config
        self._clock = clock
        self._listing: Listing | None = None
        # What the last reads of the account and of banks named.
        self._held: frozenset[Pubkey] = frozenset()
        self.owner = owner

    @property
    def account_key(self) -> Pubkey | None:
        """Address of the trading account."""
        if self.owner is None:
            return None
        config = self._config
        return mango_account_address(config.program_id, config.group, self.owner, config.account_num)

    async def listing(self, *, fresh: bool = False) -> Listing:
        """Return the markets, read again when they are too old.

        Raises:
            UnsupportedProgram: there is no such group at this program.
            ConnectionFailed: a leaf of it.
        """
        known = self._listing
        if known is not None and not fresh and self._clock.monotonic() - known.read_at < self._config.markets_max_age_s:
            return known
        config = self._config
        perps: dict[int, ListedMarket] = {}
        for start in range(0, _INDICES_PER_RANGE * _MOST_RANGES, _INDICES_PER_RANGE):
            indices = range(start, start + _INDICES_PER_RANGE)
            keys = [perp_market_address(config.program_id, config.group, index) for index in indices]
            accounts = await self._read([config.group, *keys])
            self._group(accounts)
            found = [(key, data) for key in keys if (data := accounts.data(key)) is not None]
            if not found:
                break
            perps |= {each.index: each for key, data in found if (each := _listed(key, data)) is not None}
        self._listing = Listing(perps=perps, read_at=self._clock.monotonic())
        return self._listing

    async def snapshot(self, symbol: str) -> Snapshot:
        """Return everything that an order in this market depends on.

        Raises:
            NotListed: no such market.
            UnsupportedProgram: no such group, or the market stands on a kind of oracle that cannot be read.
            ConnectionFailed: see `listing`.
        """
        listing = await self.listing()
        try:
            listed = listing.market(symbol)
        except NotListed:
            # It may be younger than the listing.
            listing = await self.listing(fresh=True)
            listed = listing.market(symbol)
        accounts = await self._read_all(listed)
        market = read_perp_market(accounts.required(listed.address, symbol))
        now, account = accounts.now(), self._account(accounts)
        oracle = _price(accounts, market.oracle, market.base_decimals)
        book, refusal = (None, None) if account is None else self._book(accounts, account, market, now)
        return Snapshot(
            slot=accounts.slot,
            now=now,
            group=self._group(accounts),
            listed=listed,
            market=market,
            bids=read_book_side(accounts.required(market.bids, f"the bids of {symbol}")),
            asks=read_book_side(accounts.required(market.asks, f"the asks of {symbol}")),
            events=read_event_queue(accounts.required(market.event_queue, f"the event queue of {symbol}")),
            oracle=oracle,
            oracle_refusal=oracle_error(oracle, _rules(market), slot=accounts.slot, now=now),
            account=account,
            account_key=self.account_key,
            book=book,
            book_refusal=refusal,
        )

    async def account(self) -> AccountView:
        """Return the account with everything that its health depends on; errors as in `listing`."""
        listing = await self.listing()
        accounts = await self._read_all(None)
        now, account = accounts.now(), self._account(accounts)
        book, refusal = (None, None) if account is None else self._book(accounts, account, None, now)
        perps: dict[int, PerpMarket] = {}
        prices: dict[int, OraclePrice] = {}
        for position in () if account is None else account.active_perps:
            index = position.market_index
            key = perp_market_address(self._config.program_id, self._config.group, index)
            perps[index] = read_perp_market(accounts.required(key, f"market {index}"))
            price = _price_or_none(accounts, perps[index])
            if price is not None:
                prices[index] = price
        return AccountView(
            slot=accounts.slot,
            now=now,
            group=self._group(accounts),
            account=account,
            book=book,
            book_refusal=refusal,
            perps=perps,
            prices=prices,
            markets=listing.perps,
        )

    async def overview(self) -> Overview:
        """Return the group with every market and its price; errors as in `listing`."""
        listing = await self.listing()
        config, views = self._config, list[MarketView]()
        listed = list(listing.perps.values())
        per_call = _ACCOUNTS_PER_CALL // 2 - 1
        group, slot, now = None, 0, 0
        for start in range(0, max(len(listed), 1), per_call):
            some = listed[start : start + per_call]
            accounts = await self._read(
                [config.group, CLOCK_SYSVAR, *(key for each in some for key in (each.address, each.oracle))]
            )
            group, slot, now = self._group(accounts), accounts.slot, accounts.now()
            views.extend(view for each in some if (view := _market_view(accounts, each, now)) is not None)
        if group is None:
            raise UnsupportedProgram(f"there is no group {config.group}")
        return Overview(slot=slot, now=now, group=group, markets=tuple(views))

    async def account_at(self, commitment: Commitment, min_context_slot: int) -> tuple[MangoAccount | None, int, int]:
        """Return the account as it was at a slot at or after `min_context_slot`, with that slot and the chain's clock.

        Raises:
            BadAnswer: no account was configured, or its bytes are not one.
        """
        if self.account_key is None:
            raise BadAnswer("no account is configured")
        keys = [self.account_key, CLOCK_SYSVAR]
        accounts = await self._read(keys, commitment=commitment, min_context_slot=min_context_slot)
        return self._account(accounts), accounts.slot, accounts.now()

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _read_all(self, listed: ListedMarket | None) -> _Accounts:
        """Read in one call all that was last known to be needed; again while the answer names more."""
        keys = self._first_keys(listed)
        for _ in range(_MOST_ROUNDS):
            accounts = await self._read(keys)
            self._held = self._named_by_account(accounts, listed)
            named = self._held | _named_by_market(accounts, listed)
            if all(accounts.has(key) for key in named):
                return accounts
            keys = list(dict.fromkeys([*self._first_keys(listed), *sorted(named, key=bytes)]))
        raise BadAnswer("what the account holds kept changing while it was read")

    def _first_keys(self, listed: ListedMarket | None) -> list[Pubkey]:
        config = self._config
        keys = [config.group, CLOCK_SYSVAR, bank_address(config.program_id, config.group, QUOTE_TOKEN)]
        if self.account_key is not None:
            keys.append(self.account_key)
        if listed is not None:
            keys += [listed.address, listed.oracle, listed.bids, listed.asks, listed.event_queue]
        return list(dict.fromkeys([*keys, *sorted(self._held, key=bytes)]))

    def _named_by_account(self, accounts: _Accounts, listed: ListedMarket | None) -> frozenset[Pubkey]:
        """Return every bank and market that the account's health needs, and the oracles that these name."""
        config, named = self._config, set[Pubkey]()
        account = self._account(accounts)
        tokens = {QUOTE_TOKEN} if listed is None else {QUOTE_TOKEN, listed.settle_token_index}
        if account is not None:
            tokens |= {each.token_index for each in account.active_tokens}
            for slot in account.active_perps:
                key = perp_market_address(config.program_id, config.group, slot.market_index)
                named.add(key)
                market = _maybe(read_perp_market, accounts.data(key))
                if market is not None:
                    named.add(market.oracle)
                    tokens.add(market.settle_token_index)
        for token in tokens:
            key = bank_address(config.program_id, config.group, token)
            named.add(key)
            bank = _maybe(read_bank, accounts.data(key))
            if bank is not None:
                named.add(bank.oracle)
        return frozenset(named)

    async def _read(
        self, keys: Sequence[Pubkey], *, commitment: Commitment = "confirmed", min_context_slot: int | None = None
    ) -> _Accounts:
        floor = self._pool.last_slot if min_context_slot is None else min_context_slot
        at = await self._pool.accounts(keys, commitment=commitment, min_context_slot=floor)
        return _Accounts(keys, at, self._config.program_id)

    def _group(self, accounts: _Accounts) -> Group:
        data = accounts.data(self._config.group)
        if data is None:
            raise UnsupportedProgram(f"there is no group {self._config.group} at program {self._config.program_id}")
        try:
            return read_group(data)
        except BadAnswer as error:
            raise UnsupportedProgram(error.detail) from error

    def _account(self, accounts: _Accounts) -> MangoAccount | None:
        key = self.account_key
        data = None if key is None else accounts.data(key)
        return None if data is None else read_mango_account(data)

    def _book(
        self, accounts: _Accounts, account: MangoAccount, listed: PerpMarket | None, now: int
    ) -> tuple[HealthBook | None, ProviderError | None]:
        """Return the account with all that its health depends on, or why the program could not compute it."""
        config = self._config
        perps: dict[int, PricedPerp] = {}
        banks: dict[int, PricedBank] = {}
        try:
            markets = {} if listed is None else {listed.perp_market_index: listed}
            for slot in account.active_perps:
                key = perp_market_address(config.program_id, config.group, slot.market_index)
                markets[slot.market_index] = read_perp_market(accounts.required(key, f"market {slot.market_index}"))
            for index, market in markets.items():
                perps[index] = PricedPerp(market, _usable_perp_price(accounts, market, now))
            settle = {QUOTE_TOKEN, *(market.settle_token_index for market in markets.values())}
            owed = {each.token_index for each in account.active_tokens if each.indexed_position < 0}
            for index in sorted(settle | {each.token_index for each in account.active_tokens}):
                bank_key = bank_address(config.program_id, config.group, index)
                bank = read_bank(accounts.required(bank_key, f"the bank of token {index}"))
                price = _bank_price(accounts, bank, now, required=index in settle | owed)
                if price is not None:
                    banks[index] = PricedBank(bank, price)
        except ProviderError as error:
            return None, error
        return HealthBook(account=account, banks=banks, perps=perps, now=now), None


def _named_by_market(accounts: _Accounts, listed: ListedMarket | None) -> frozenset[Pubkey]:
    """Return what a market names itself: it may stand on another oracle by now than when it was listed."""
    market = None if listed is None else _maybe(read_perp_market, accounts.data(listed.address))
    if market is None:
        return frozenset()
    return frozenset((market.oracle, market.bids, market.asks, market.event_queue))


def _maybe(read: Callable[[bytes], _T], data: bytes | None) -> _T | None:
    return None if data is None else read(data)


def _listed(key: Pubkey, data: bytes) -> ListedMarket | None:
    """Return a market's listing; null for one that is no perpetual future by its name."""
    market = read_perp_market(data)
    symbol = market.venue_symbol.upper()
    if not symbol.endswith(_PERP_SUFFIX):
        return None
    return ListedMarket(
        symbol=symbol,
        index=market.perp_market_index,
        address=key,
        oracle=market.oracle,
        bids=market.bids,
        asks=market.asks,
        event_queue=market.event_queue,
        settle_token_index=market.settle_token_index,
    )


def _rules(stands_on: PerpMarket | Bank) -> OracleRules:
    return OracleRules(stands_on.conf_filter, stands_on.max_staleness_slots)


def _price(accounts: _Accounts, key: Pubkey, decimals: int) -> OraclePrice:
    account = accounts.any(key)
    return read_oracle(None if account is None else account.data, None if account is None else account.owner, decimals)


def _price_or_none(accounts: _Accounts, market: PerpMarket) -> OraclePrice | None:
    try:
        return _price(accounts, market.oracle, market.base_decimals)
    except ProviderError:
        return None


def _usable_perp_price(accounts: _Accounts, market: PerpMarket, now: int) -> int:
    oracle = _price(accounts, market.oracle, market.base_decimals)
    refusal = oracle_error(oracle, _rules(market), slot=accounts.slot, now=now)
    if refusal is not None:
        raise refusal
    return oracle.price


def _bank_price(accounts: _Accounts, bank: Bank, now: int, *, required: bool) -> int | None:
    """Return a token's price; null where the program would leave the token out instead.

    A token that is not owed, and that nothing settles in, counts for nothing when its price cannot be used. Fallback
    oracles are not looked at: the health list does not name them either.
    """
    try:
        oracle = _price(accounts, bank.oracle, bank.mint_decimals)
        refusal = oracle_error(oracle, _rules(bank), slot=accounts.slot, now=now)
        if refusal is not None:
            raise refusal
    except ProviderError:
        if required:
            raise
        return None
    return oracle.price


def _market_view(accounts: _Accounts, listed: ListedMarket, now: int) -> MarketView | None:
    data = accounts.data(listed.address)
    if data is None:
        return None
    market = read_perp_market(data)
    oracle: OraclePrice | None = None
    try:
        oracle = _price(accounts, market.oracle, market.base_decimals)
        refusal = oracle_error(oracle, _rules(market), slot=accounts.slot, now=now)
    except ProviderError as error:
        refusal = error
    return MarketView(listed=listed, market=market, oracle=oracle, oracle_refusal=refusal)
