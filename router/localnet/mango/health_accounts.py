"""Where health finds banks, markets and their oracles among an instruction's remaining accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.banks import bank_price
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import Bank, PerpMarket
from router.localnet.mango.oracles import check_confidence, check_staleness, oracle_state

__all__ = ["FixedAccounts", "HealthAccounts", "ScannedAccounts", "market_price"]


def market_price(run: Execution, market: PerpMarket, oracle: Pubkey, *, fresh: bool = True) -> int:
    """Return a market's oracle price, native quote a native base (I80F48); its age is only looked at if `fresh`."""
    run.check(market.oracle == oracle, "RequireKeysEqViolated")
    state = oracle_state(run, oracle, market.base_decimals)
    if fresh:
        check_staleness(run, state, market.oracle_config)
    check_confidence(run, state, market.oracle_config)
    return state.price


class HealthAccounts(Protocol):
    """Finds what an account's positions are priced with; every price is checked on the way."""

    def token_indexes(self) -> frozenset[int]:
        """Return the tokens whose banks were passed."""
        ...

    def bank(self, rank: int, token_index: int) -> tuple[Bank, int]:
        """Return a bank and its price; `rank` counts the account's active token positions."""
        ...

    def market(self, rank: int, market_index: int) -> tuple[PerpMarket, int]:
        """Return a market and its price; `rank` counts the account's active perpetual positions."""
        ...


class FixedAccounts:
    """Banks, their oracles, markets, their oracles, spot orders, and whatever else, in the account's own order.

    Banks may be left out; the others may not. Fallback oracles are not modelled.

    Raises:
        ModelRefusal: there are too few accounts, or more banks than the account has tokens.
    """

    def __init__(self, run: Execution, account: MangoAccount, metas: Sequence[AccountMeta]) -> None:
        self._run = run
        self._keys = [meta.pubkey for meta in metas]
        self._group = account.head.group
        self._banks = 0
        while self._banks < len(self._keys) and run.has_type(self._keys[self._banks], Bank):
            self._banks += 1
        tokens = sum(slot.is_active for slot in account.tokens)
        run.check(tokens >= self._banks, "RequireGteViolated")
        self._markets = sum(slot.is_active for slot in account.perps)
        spots = sum(slot.is_active for slot in account.serum3)
        needed = 2 * self._banks + 2 * self._markets + spots
        run.check(len(self._keys) >= needed, "InvalidHealthAccountCount")

    def token_indexes(self) -> frozenset[int]:
        """Return the tokens whose banks were passed."""
        return frozenset(self._run.open(Bank, key).token_index for key in self._keys[: self._banks])

    def bank(self, rank: int, token_index: int) -> tuple[Bank, int]:
        """Return a bank and its price; it stands at its rank or before."""
        for place in range(min(rank + 1, self._banks) - 1, -1, -1):
            bank = self._run.open(Bank, self._keys[place])
            if bank.token_index == token_index:
                self._run.check(bank.group == self._group, "RequireKeysEqViolated")
                return bank, bank_price(self._run, bank, self._keys[self._banks + place])
        raise self._run.refuse("InvalidHealthAccountCount")

    def market(self, rank: int, market_index: int) -> tuple[PerpMarket, int]:
        """Return a market and its price; it stands at its rank."""
        place = 2 * self._banks + rank
        market = self._run.open(PerpMarket, self._keys[place])
        self._run.check(market.group == self._group, "RequireKeysEqViolated")
        self._run.check(market.perp_market_index == market_index, "RequireEqViolated")
        return market, market_price(self._run, market, self._keys[place + self._markets])


class ScannedAccounts:
    """Banks in any order, their oracles in the same one, then markets and their oracles likewise.

    Raises:
        ModelRefusal: one is of another group, or there twice.
    """

    def __init__(self, run: Execution, group: Pubkey, metas: Sequence[AccountMeta]) -> None:
        self._run = run
        keys = [meta.pubkey for meta in metas]
        self._banks: dict[int, tuple[Bank, Pubkey]] = {}
        self._markets: dict[int, tuple[PerpMarket, Pubkey]] = {}
        found: list[Bank] = []
        while len(found) < len(keys) and run.has_type(keys[len(found)], Bank):
            found.append(run.open(Bank, keys[len(found)]))
        run.rely(len(keys) >= 2 * len(found), "range start index out of range for slice")
        for place, bank in enumerate(found):
            run.check(bank.group == group, "RequireKeysEqViolated")
            run.check(bank.token_index not in self._banks, "SomeError")
            self._banks[bank.token_index] = bank, keys[len(found) + place]
        rest = keys[2 * len(found) :]
        markets: list[PerpMarket] = []
        while len(markets) < len(rest) and run.has_type(rest[len(markets)], PerpMarket):
            markets.append(run.open(PerpMarket, rest[len(markets)]))
        run.rely(len(rest) >= 2 * len(markets), "range end index out of range for slice")
        for place, market in enumerate(markets):
            run.check(market.group == group, "RequireKeysEqViolated")
            run.check(market.perp_market_index not in self._markets, "SomeError")
            self._markets[market.perp_market_index] = market, rest[len(markets) + place]

    def token_indexes(self) -> frozenset[int]:
        """Return the tokens whose banks were passed."""
        return frozenset(self._banks)

    def bank(self, rank: int, token_index: int) -> tuple[Bank, int]:  # noqa: ARG002 - the order says nothing here
        """Return a bank and its price."""
        self._run.check(token_index in self._banks, "TokenPositionDoesNotExist")
        bank, oracle = self._banks[token_index]
        return bank, bank_price(self._run, bank, oracle)

    def market(self, rank: int, market_index: int) -> tuple[PerpMarket, int]:  # noqa: ARG002 - as above
        """Return a market and its price."""
        self._run.check(market_index in self._markets, "SomeError")
        market, oracle = self._markets[market_index]
        return market, market_price(self._run, market, oracle)
