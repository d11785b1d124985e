"""Where banks and markets are, and by which oracles they are priced: what health lists are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from providers.base.clock import Clock
from providers.base.errors import BadAnswer
from providers.mango.addresses import bank_address, perp_market_address
from providers.mango.build import MarketAccounts
from providers.mango.config import MangoConfig
from providers.mango.health_accounts import (
    PricedAccount,
    fixed_order_accounts,
    perp_indexes,
    scanned_accounts,
    token_indexes,
)
from providers.mango.layouts import read_bank, read_perp_market
from providers.mango.state import Bank, MangoAccount, PerpMarket
from providers.solana.pool import NodePool

__all__ = ["Directory"]

_ACCOUNTS_PER_CALL = 100


class Directory:
    """Reads banks and markets as they are needed, and keeps them for a while: an admin moves one once in a year.

    A list of what has moved since is refused by the program (6003), in simulation; `forget` then reads it anew.

    Args:
        pool: nodes.
        config: program and group; `markets_max_age_s`.
        clock: for the age.
    """

    def __init__(self, pool: NodePool, config: MangoConfig, clock: Clock) -> None:
        self._pool = pool
        self._config = config
        self._clock = clock
        self._banks: dict[int, Bank] = {}
        self._perps: dict[int, PerpMarket] = {}
        self._read_at = 0.0

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._banks.clear()
        self._perps.clear()

    async def bank(self, token_index: int) -> Bank:
        """Return a token's first bank; raise `BadAnswer` when there is none."""
        await self._know([token_index], [])
        return self._banks[token_index]

    async def perp(self, market_index: int) -> PerpMarket:
        """Return a market as it was last read: what of it never changes; raise `BadAnswer` when there is none."""
        await self._know([], [market_index])
        return self._perps[market_index]

    async def market_accounts(self, market_index: int) -> MarketAccounts:
        """Return a market's own accounts; raise `BadAnswer` when there is none."""
        return MarketAccounts.of(self._perp_key(market_index), await self.perp(market_index))

    async def fixed_order(
        self, account: MangoAccount, *, token_index: int, market_index: int | None = None
    ) -> tuple[AccountMeta, ...]:
        """Return the health list of an instruction on one account (see `health_accounts.fixed_order_accounts`).

        Raises:
            NoFreeSlot, BadAnswer: see there.
            ConnectionFailed: a leaf of it.
        """
        tokens, perps = token_indexes(account, token_index), perp_indexes(account, market_index)
        await self._know(tokens, perps)
        return fixed_order_accounts(
            account,
            banks=self._priced_banks(tokens),
            perps=self._priced_perps(perps),
            token_index=token_index,
            market_index=market_index,
        )

    async def scanned(self, accounts: tuple[MangoAccount, ...]) -> tuple[AccountMeta, ...]:
        """Return the health list of an instruction on several accounts; errors as `fixed_order`."""
        tokens = tuple(dict.fromkeys(index for each in accounts for index in token_indexes(each)))
        perps = tuple(dict.fromkeys(index for each in accounts for index in perp_indexes(each)))
        await self._know(tokens, perps)
        return scanned_accounts(accounts, banks=self._priced_banks(tokens), perps=self._priced_perps(perps))

    # --- inside -------------------------------------------------------------------------------------------------------

    def bank_key(self, index: int) -> Pubkey:
        """Return the address of a token's first bank."""
        return bank_address(self._config.program_id, self._config.group, index)

    def _perp_key(self, index: int) -> Pubkey:
        return perp_market_address(self._config.program_id, self._config.group, index)

    def _priced_banks(self, indexes: Iterable[int]) -> Mapping[int, PricedAccount]:
        return {index: PricedAccount(self.bank_key(index), self._banks[index].oracle) for index in indexes}

    def _priced_perps(self, indexes: Iterable[int]) -> Mapping[int, PricedAccount]:
        return {index: PricedAccount(self._perp_key(index), self._perps[index].oracle) for index in indexes}

    async def _know(self, tokens: Iterable[int], perps: Iterable[int]) -> None:
        if self._clock.monotonic() - self._read_at >= self._config.markets_max_age_s:
            self.forget()
        banks = [index for index in tokens if index not in self._banks]
        markets = [index for index in perps if index not in self._perps]
        if not banks and not markets:
            return
        keys = [*(self.bank_key(index) for index in banks), *(self._perp_key(index) for index in markets)]
        found: dict[Pubkey, bytes] = {}
        for start in range(0, len(keys), _ACCOUNTS_PER_CALL):
            some = keys[start : start + _ACCOUNTS_PER_CALL]
            at = await self._pool.accounts(some, min_context_slot=self._pool.last_slot)
            for key, account in zip(some, at.accounts, strict=True):
                if account is None or account.owner != self._config.program_id:
                    raise BadAnswer(f"{key} is no account of the venue")
                found[key] = account.data
        if not self._banks and not self._perps:
            self._read_at = self._clock.monotonic()
        self._banks |= {index: read_bank(found[self.bank_key(index)]) for index in banks}
        self._perps |= {index: read_perp_market(found[self._perp_key(index)]) for index in markets}
