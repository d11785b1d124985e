"""Remaining accounts of an instruction: oracles, then spot markets, then perpetual markets, then makers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from solders.pubkey import Pubkey

from router.localnet.drift.addresses import USDC_ORACLE
from router.localnet.drift.enums import ContractTier, MarketType
from router.localnet.drift.execution import Execution
from router.localnet.drift.layouts import State, User, UserStats
from router.localnet.drift.market_layouts import PerpMarket, SpotMarket
from router.localnet.drift.numbers import PRICE_PRECISION
from router.localnet.drift.oracles import OraclePrice, OracleValidity, read_pyth, validity
from router.localnet.oracle import PYTH_PROGRAM

__all__ = ["Makers", "Maps", "load_makers", "load_maps", "perp_confidence_multiplier"]

_NO_ORACLE = Pubkey.default()
_QUOTE_ASSET = OraclePrice(price=PRICE_PRECISION, confidence=1, delay=0, enough_publishers=True)
_CONFIDENCE_MULTIPLIER = {ContractTier.A: 1, ContractTier.B: 1, ContractTier.C: 2, ContractTier.SPECULATIVE: 10}
_ANY_CONFIDENCE = 50
_SPOT_CONFIDENCE_MULTIPLIER = (1, 1, 5, 50, 50)
"""By asset tier: collateral, protected, cross, isolated, unlisted."""


def perp_confidence_multiplier(market: PerpMarket) -> int:
    """Return how much more confidence interval the market's tier allows."""
    return _CONFIDENCE_MULTIPLIER.get(ContractTier(market.contract_tier), _ANY_CONFIDENCE)


@dataclass(slots=True)
class Maps:
    """Markets and oracles that the caller passed; what was not passed cannot be used."""

    run: Execution
    state: State
    oracles: set[Pubkey] = field(default_factory=set[Pubkey])
    spot: dict[int, SpotMarket] = field(default_factory=dict[int, SpotMarket])
    perp: dict[int, PerpMarket] = field(default_factory=dict[int, PerpMarket])
    _prices: dict[Pubkey, OraclePrice] = field(default_factory=dict[Pubkey, OraclePrice])
    _validity: dict[Pubkey, OracleValidity] = field(default_factory=dict[Pubkey, OracleValidity])

    def spot_market(self, index: int) -> SpotMarket:
        """Return a spot market.

        Raises:
            ModelRefusal: it was not passed.
        """
        self.run.check(index in self.spot, "SpotMarketNotFound", f"Could not find spot market {index}")
        return self.spot[index]

    def perp_market(self, index: int) -> PerpMarket:
        """Return a perpetual market.

        Raises:
            ModelRefusal: it was not passed.
        """
        self.run.check(index in self.perp, "PerpMarketNotFound", f"Could not find perp market {index}")
        return self.perp[index]

    def price(self, oracle: Pubkey) -> OraclePrice:
        """Return an oracle's price, the same all through the instruction.

        Raises:
            ModelRefusal: the oracle was not passed.
        """
        if oracle == _NO_ORACLE:
            return _QUOTE_ASSET
        if oracle not in self._prices:
            account = self.run.read(oracle) if oracle in self.oracles else None
            if account is None:
                self.run.log(f"oracle pubkey not found in oracle_map: {oracle}")
                raise self.run.refuse("OracleNotFound")
            self._prices[oracle] = read_pyth(account.data, self.run.slot, stable_coin=oracle == USDC_ORACLE)
        return self._prices[oracle]

    def _judged(self, oracle: Pubkey, average: int, multiplier: int, words: str) -> OracleValidity:
        if oracle == _NO_ORACLE:
            return OracleValidity.VALID
        quote = self.price(oracle)
        if oracle not in self._validity:
            rails = self.state.oracle_guard_rails.validity
            self._validity[oracle] = validity(
                quote, average, rails, multiplier, lambda text: self.run.log(f"Invalid {words} Oracle: {text}")
            )
        return self._validity[oracle]

    def judge_perp(self, market: PerpMarket, *, log: bool) -> OracleValidity:
        """Return what is wrong with a perpetual market's oracle by its averages as they are now."""
        words = f"{MarketType.PERP.name.title()} {market.market_index}"
        return validity(
            self.price(market.amm.oracle),
            market.amm.historical_oracle_data.last_oracle_price_twap,
            self.state.oracle_guard_rails.validity,
            perp_confidence_multiplier(market),
            (lambda text: self.run.log(f"Invalid {words} Oracle: {text}")) if log else None,
        )

    def perp_validity(self, market: PerpMarket) -> OracleValidity:
        """Return what is wrong with a perpetual market's oracle, as first judged in this instruction."""
        amm = market.amm
        average = amm.historical_oracle_data.last_oracle_price_twap
        words = f"{MarketType.PERP.name.title()} {market.market_index}"
        return self._judged(amm.oracle, average, perp_confidence_multiplier(market), words)

    def spot_validity(self, market: SpotMarket) -> OracleValidity:
        """Return what is wrong with a spot market's oracle, as first judged in this instruction."""
        average = market.historical_oracle_data.last_oracle_price_twap
        words = f"{MarketType.SPOT.name.title()} {market.market_index}"
        return self._judged(market.oracle, average, _SPOT_CONFIDENCE_MULTIPLIER[market.asset_tier], words)


def load_maps(
    run: Execution,
    state: State,
    *,
    writable_perp: Collection[int] = (),
    writable_spot: Collection[int] = (),
) -> Maps:
    """Take the oracles and markets off the remaining accounts; the first that is neither ends it.

    Raises:
        ModelRefusal: a market stands there twice, cannot be written, or belongs to another program.
    """
    maps = Maps(run, state)
    while (meta := run.peek()) is not None:
        account = run.read(meta.pubkey)
        if account is None or account.owner != PYTH_PROGRAM:
            break
        maps.oracles.add(run.take().pubkey)
    while (meta := run.peek()) is not None and run.has_type(meta.pubkey, SpotMarket):
        _check_owner(run, meta.pubkey, "InvalidSpotMarketAccount")
        spot = run.load(SpotMarket, run.take().pubkey)
        run.check(spot.market_index not in maps.spot, "InvalidSpotMarketAccount")
        run.check(meta.is_writable or spot.market_index not in writable_spot, "SpotMarketWrongMutability")
        maps.spot[spot.market_index] = spot
    while (meta := run.peek()) is not None and run.has_type(meta.pubkey, PerpMarket):
        _check_owner(run, meta.pubkey, "InvalidMarketAccount")
        perp = run.load(PerpMarket, run.take().pubkey)
        run.check(perp.market_index not in maps.perp, "InvalidMarketAccount")
        run.check(meta.is_writable or perp.market_index not in writable_perp, "MarketWrongMutability")
        maps.perp[perp.market_index] = perp
    for index in writable_perp:
        maps.perp_market(index)
    return maps


def _check_owner(run: Execution, key: Pubkey, name: str) -> None:
    account = run.read(key)
    run.check(account is not None and account.owner == run.program_id, name)


@dataclass(slots=True)
class Makers:
    """Users whose resting orders may be filled against, by address, and their stats, by authority."""

    users: dict[Pubkey, User]
    stats: dict[Pubkey, UserStats]


def load_makers(run: Execution) -> Makers:
    """Take pairs of user and stats off the remaining accounts; they have to be writable.

    Raises:
        ModelRefusal: half a pair, not writable, or of another program.
    """
    makers = Makers({}, {})
    while (meta := run.peek()) is not None and run.has_type(meta.pubkey, User):
        run.check(meta.is_writable, "UserWrongMutability")
        _check_owner(run, meta.pubkey, "InvalidUserAccount")
        makers.users[meta.pubkey] = run.load(User, run.take().pubkey)
        stats_meta = run.peek()
        if stats_meta is None:
            raise run.refuse("UserStatsNotFound")
        run.check(run.has_type(stats_meta.pubkey, UserStats), "InvalidUserStatsAccount")
        stats = run.load(UserStats, run.take().pubkey)
        if stats.authority in makers.stats:
            continue
        run.check(stats_meta.is_writable, "UserStatsWrongMutability")
        _check_owner(run, stats_meta.pubkey, "InvalidUserStatsAccount")
        makers.stats[stats.authority] = stats
    # The program keeps them in the order of their addresses.
    makers.users = dict(sorted(makers.users.items(), key=lambda item: bytes(item[0])))
    return makers
