"""Drift's accounts, read by offset: only the fields that the adapter uses, one `struct` call an account.

Offsets come from the layouts of `idl/drift.json`; a test holds them against the interface description's own decoder.
Units are the program's: base 1e9, quote and price 1e6, ratios and weights 1e4, AMM reserves 1e9, funding rates 1e9.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.drift.constants import (
    MAX_PERP_POSITIONS,
    MAX_SPOT_POSITIONS,
    MAX_USER_ORDERS,
    PERCENTAGE_PRECISION,
    OrderStatus,
    UserStatus,
)
from providers.drift.fields import DISCRIMINATOR_LENGTH, Layout, Reader, StructReader, read_description

__all__ = [
    "FeeTier",
    "GuardRails",
    "Order",
    "PerpMarket",
    "PerpPosition",
    "SpotMarket",
    "SpotPosition",
    "State",
    "User",
    "UserStats",
    "read_perp_market",
    "read_spot_market",
    "read_state",
    "read_user",
    "read_user_stats",
]


class FeeTier(msgspec.Struct, frozen=True):
    """Taker fee as a fraction of the quote amount."""

    fee_numerator: int
    fee_denominator: int


class GuardRails(msgspec.Struct, frozen=True):
    """When the exchange does not trust a price. Ages in slots, widths 1e6 of the price."""

    twap_divergence: int
    slots_before_stale_for_amm: int
    slots_before_stale_for_margin: int
    confidence_interval_max_size: int
    too_volatile_ratio: int

    @property
    def max_twap_divergence(self) -> int:
        """Divergence from the five minute average at which nothing fills: never below one half."""
        return max(self.twap_divergence, PERCENTAGE_PRECISION // 2)


class State(msgspec.Struct, frozen=True):
    """The exchange."""

    fee_tiers: tuple[FeeTier, ...]
    guard_rails: GuardRails
    number_of_markets: int
    number_of_spot_markets: int
    min_perp_auction_duration: int
    exchange_status: int


class PerpMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A perp market with its AMM; names as in the interface description."""

    oracle: Pubkey
    last_oracle_price: int
    last_oracle_price_twap: int
    last_oracle_price_twap_5min: int
    base_asset_reserve: int
    quote_asset_reserve: int
    min_base_asset_reserve: int
    max_base_asset_reserve: int
    sqrt_k: int
    peg_multiplier: int
    base_asset_amount_long: int
    base_asset_amount_short: int
    base_asset_amount_with_amm: int
    base_asset_amount_with_unsettled_lp: int
    max_open_interest: int
    quote_asset_amount: int
    last_funding_rate_long: int
    last_funding_rate_short: int
    total_fee_minus_distributions: int
    cumulative_funding_rate_long: int
    cumulative_funding_rate_short: int
    ask_base_asset_reserve: int
    ask_quote_asset_reserve: int
    bid_base_asset_reserve: int
    bid_quote_asset_reserve: int
    net_revenue_since_last_funding: int
    funding_period: int
    order_step_size: int
    order_tick_size: int
    min_order_size: int
    base_spread: int
    long_spread: int
    short_spread: int
    max_fill_reserve_fraction: int
    curve_update_intensity: int
    oracle_source: int
    net_unsettled_funding_pnl: int
    quote_asset_amount_with_unsettled_lp: int
    name: bytes
    unrealized_pnl_max_imbalance: int
    expiry_ts: int
    expiry_price: int
    imf_factor: int
    unrealized_pnl_imf_factor: int
    margin_ratio_initial: int
    margin_ratio_maintenance: int
    unrealized_pnl_initial_asset_weight: int
    unrealized_pnl_maintenance_asset_weight: int
    market_index: int
    status: int
    contract_tier: int
    paused_operations: int
    quote_spot_market_index: int
    fee_adjustment: int

    @property
    def venue_symbol(self) -> str:
        """The market's name as the venue writes it."""
        return self.name.decode("utf-8", "replace").strip("\0 ")


class SpotMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A token that accounts hold as collateral or owe."""

    oracle: Pubkey
    mint: Pubkey
    vault: Pubkey
    last_oracle_price_twap_5min: int
    deposit_balance: int
    cumulative_deposit_interest: int
    cumulative_borrow_interest: int
    max_token_deposits: int
    initial_asset_weight: int
    maintenance_asset_weight: int
    initial_liability_weight: int
    maintenance_liability_weight: int
    imf_factor: int
    decimals: int
    market_index: int
    oracle_source: int
    status: int
    scale_initial_asset_weight_start: int


class SpotPosition(msgspec.Struct, frozen=True):
    """Tokens of an account, deposited or borrowed."""

    scaled_balance: int
    open_bids: int
    open_asks: int
    market_index: int
    balance_type: int
    open_orders: int

    @property
    def is_available(self) -> bool:
        """Whether the slot holds nothing."""
        return self.scaled_balance == 0 and self.open_orders == 0


class PerpPosition(msgspec.Struct, frozen=True):
    """A perp slot of an account; flat is `base_asset_amount == 0`, whatever else it still holds."""

    last_cumulative_funding_rate: int
    base_asset_amount: int
    quote_asset_amount: int
    quote_entry_amount: int
    open_bids: int
    open_asks: int
    lp_shares: int
    market_index: int
    open_orders: int

    @property
    def is_available(self) -> bool:
        """Whether the slot holds nothing: no position, order, unsettled profit or liquidity share."""
        return not (
            self.base_asset_amount
            or self.quote_asset_amount
            or self.open_orders
            or self.open_bids
            or self.open_asks
            or self.lp_shares
        )


class Order(msgspec.Struct, frozen=True):
    """An order slot."""

    slot: int
    price: int
    base_asset_amount: int
    base_asset_amount_filled: int
    quote_asset_amount_filled: int
    max_ts: int
    order_id: int
    market_index: int
    status: int
    market_type: int
    user_order_id: int
    direction: int
    reduce_only: bool

    @property
    def is_open(self) -> bool:
        """Whether the order rests."""
        return self.status == OrderStatus.OPEN


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A sub-account; empty slots are left out."""

    authority: Pubkey
    delegate: Pubkey
    spot_positions: tuple[SpotPosition, ...]
    perp_positions: tuple[PerpPosition, ...]
    orders: tuple[Order, ...]
    next_order_id: int
    max_margin_ratio: int
    sub_account_id: int
    status: int

    def perp_position(self, market_index: int) -> PerpPosition | None:
        """Return the slot of a market, if it holds anything."""
        return next((each for each in self.perp_positions if each.market_index == market_index), None)

    def order(self, order_id: int) -> Order | None:
        """Return an open order by the venue's id."""
        return next((each for each in self.orders if each.order_id == order_id), None)

    @property
    def is_being_liquidated(self) -> bool:
        """Whether the account is in liquidation or bankrupt."""
        return bool(self.status & (UserStatus.BEING_LIQUIDATED | UserStatus.BANKRUPT))

    @property
    def is_reduce_only(self) -> bool:
        """Whether the account may only reduce."""
        return bool(self.status & UserStatus.REDUCE_ONLY)


class UserStats(msgspec.Struct, frozen=True):
    """What all sub-accounts of an owner share; amounts in quote precision."""

    authority: Pubkey
    referrer: Pubkey
    maker_volume_30d: int
    taker_volume_30d: int
    if_staked_quote_asset_amount: int


def _discriminator(account: str) -> bytes:
    return sha256(f"account:{account}".encode()).digest()[:DISCRIMINATOR_LENGTH]


class _Accounts:
    """Every reader, built once on first use (the description is parsed once, in about a millisecond)."""

    def __init__(self) -> None:
        described = read_description("drift")
        state, user = Layout(described, "State"), Layout(described, "User")
        stats, perp, spot = (Layout(described, name) for name in ("UserStats", "PerpMarket", "SpotMarket"))
        self.sizes = {
            "State": state.size,
            "User": user.size,
            "UserStats": stats.size,
            "PerpMarket": perp.size,
            "SpotMarket": spot.size,
        }
        self.discriminators = {name: _discriminator(name) for name in self.sizes}
        rails = ("oracleGuardRails.validity.",)
        self.state = StructReader(State, state, skip=("fee_tiers", "guard_rails"))
        self.guard_rails = StructReader(GuardRails, state, rails, skip=("twap_divergence",))
        self.twap_divergence = Reader(state, ["oracleGuardRails.priceDivergence.oracleTwap5minPercentDivergence"])
        tiers, self.tier_step = state.item("perpFeeStructure.feeTiers", "feeNumerator")
        self.tier_offset = tiers
        self.fee_tier = StructReader(FeeTier, state, ("perpFeeStructure.feeTiers.0.",), base=tiers)
        self.perp = StructReader(PerpMarket, perp, ("", "amm.", "amm.historicalOracleData."))
        self.spot = StructReader(SpotMarket, spot, ("", "historicalOracleData."))
        self.stats = StructReader(UserStats, stats)
        self.user = StructReader(User, user, skip=("spot_positions", "perp_positions", "orders"))
        self.spots, self.spot_step = user.item("spotPositions", "scaledBalance")
        self.perps, self.perp_step = user.item("perpPositions", "lastCumulativeFundingRate")
        self.orders, self.order_step = user.item("orders", "slot")
        self.spot_position = StructReader(SpotPosition, user, ("spotPositions.0.",), base=self.spots)
        self.perp_position = StructReader(PerpPosition, user, ("perpPositions.0.",), base=self.perps)
        self.order = StructReader(Order, user, ("orders.0.",), base=self.orders)

    def check(self, name: str, data: bytes) -> None:
        """Refuse what is not an account of this kind; a longer one is a newer layout and is not trusted either."""
        if len(data) != self.sizes[name] or data[:DISCRIMINATOR_LENGTH] != self.discriminators[name]:
            raise BadAnswer(f"{len(data)} bytes are not a {name} account of this program")


@cache
def _accounts() -> _Accounts:
    return _Accounts()


def read_state(data: bytes) -> State:
    """Read the exchange's account; raise `BadAnswer` when it is not one."""
    accounts = _accounts()
    accounts.check("State", data)
    (divergence,) = accounts.twap_divergence.read(data)
    return accounts.state.read(
        data,
        guard_rails=accounts.guard_rails.read(data, twap_divergence=divergence),
        fee_tiers=tuple(
            accounts.fee_tier.read(data, accounts.tier_offset + accounts.tier_step * tier) for tier in range(10)
        ),
    )


def read_perp_market(data: bytes) -> PerpMarket:
    """Read a perp market; raise `BadAnswer` when it is not one."""
    accounts = _accounts()
    accounts.check("PerpMarket", data)
    return accounts.perp.read(data)


def read_spot_market(data: bytes) -> SpotMarket:
    """Read a spot market; raise `BadAnswer` when it is not one."""
    accounts = _accounts()
    accounts.check("SpotMarket", data)
    return accounts.spot.read(data)


def read_user_stats(data: bytes) -> UserStats:
    """Read what an owner's sub-accounts share; raise `BadAnswer` when it is not that."""
    accounts = _accounts()
    accounts.check("UserStats", data)
    return accounts.stats.read(data)


def read_user(data: bytes) -> User:
    """Read a sub-account, empty slots left out; raise `BadAnswer` when it is not one."""
    accounts = _accounts()
    accounts.check("User", data)
    # Most of the 48 slots are empty: an all-zero slot is passed over without being read.
    spots = [
        accounts.spot_position.read(data, offset)
        for offset in _filled_slots(data, accounts.spots, accounts.spot_step, MAX_SPOT_POSITIONS)
    ]
    perps = [
        accounts.perp_position.read(data, offset)
        for offset in _filled_slots(data, accounts.perps, accounts.perp_step, MAX_PERP_POSITIONS)
    ]
    orders = [
        accounts.order.read(data, offset)
        for offset in _filled_slots(data, accounts.orders, accounts.order_step, MAX_USER_ORDERS)
    ]
    return accounts.user.read(
        data,
        spot_positions=tuple(each for each in spots if not each.is_available),
        perp_positions=tuple(each for each in perps if not each.is_available),
        orders=tuple(each for each in orders if each.is_open),
    )


def _filled_slots(data: bytes, start: int, step: int, count: int) -> list[int]:
    empty = bytes(step)
    return [offset for offset in range(start, start + step * count, step) if data[offset : offset + step] != empty]
