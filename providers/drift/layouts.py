"""Drift's accounts, read by offset: only the fields that the adapter uses, one `struct` call an account.

Offsets come from the layouts of `idl/drift.json`; a test holds them against the interface description's own decoder.
Units are the program's: base 1e9, quote and price 1e6, ratios and weights 1e4, AMM reserves 1e9, funding rates 1e9.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, Generic, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.drift.constants import PERCENTAGE_PRECISION, OrderStatus, OrderType, TriggerCondition, UserStatus
from providers.solana.idl import Idl
from providers.solana.layout import AccountLayout, Field, LayoutError, Reader

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
    trigger_price: int
    max_ts: int
    order_id: int
    market_index: int
    status: int
    market_type: int
    user_order_id: int
    direction: int
    reduce_only: bool
    order_type: int
    post_only: bool
    trigger_condition: int
    auction_duration: int

    @property
    def is_open(self) -> bool:
        """Whether the order rests."""
        return self.status == OrderStatus.OPEN

    @property
    def has_trigger(self) -> bool:
        """Whether the order waits for a trigger, or did."""
        return self.order_type in {OrderType.TRIGGER_MARKET, OrderType.TRIGGER_LIMIT}

    @property
    def has_gone_off(self) -> bool:
        """Whether it had a trigger, and has been set off: `slot` is then that of the trigger."""
        return self.has_trigger and self.trigger_condition >= TriggerCondition.TRIGGERED_ABOVE

    @property
    def fires_above(self) -> bool:
        """Whether it waits for a higher price, or did."""
        return self.trigger_condition in {TriggerCondition.ABOVE, TriggerCondition.TRIGGERED_ABOVE}


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


_S = TypeVar("_S", bound=msgspec.Struct)

SIZES: Final = {"State": 992, "User": 4376, "UserStats": 240, "PerpMarket": 1216, "SpotMarket": 776}

# Where the description's spelling differs from ours: it writes digits without an underscore before them.
_SPELLING: Final = {
    "last_oracle_price_twap_5min": "last_oracle_price_twap5min",
    "maker_volume_30d": "maker_volume30d",
    "taker_volume_30d": "taker_volume30d",
}


class _StateScalars(msgspec.Struct, frozen=True):
    number_of_markets: int
    number_of_spot_markets: int
    min_perp_auction_duration: int
    exchange_status: int


class _UserScalars(msgspec.Struct, frozen=True):
    authority: Pubkey
    delegate: Pubkey
    next_order_id: int
    max_margin_ratio: int
    sub_account_id: int
    status: int


class _Slots(Generic[_S]):
    """An array of slots in an account: those that are all zero are passed over without being read."""

    def __init__(self, layout: AccountLayout, path: str, into: type[_S]) -> None:
        array = layout.field(path)
        stride = layout.offset(f"{path}.1") - array.offset
        fields: dict[str, Field] = {}
        for name in into.__struct_fields__:
            where = layout.field(f"{path}.0.{_SPELLING.get(name, name)}")
            fields[name] = Field(offset=where.offset - array.offset, size=where.size, type=where.type)
        self._reader = Reader(into, fields, idl=Idl.load("drift"), size=0)
        self._offsets = range(array.offset, array.offset + array.size, stride)
        self._stride = stride
        self._empty = bytes(stride)

    def __call__(self, data: bytes) -> list[_S]:
        return [
            self._reader.at(data, offset)
            for offset in self._offsets
            if data[offset : offset + self._stride] != self._empty
        ]


def _reader(layout: AccountLayout, into: type[_S], prefixes: Sequence[str] = ("",)) -> Reader[_S]:
    """Return a reader of the fields of `into`, each below the first of `prefixes` that has it."""
    return layout.reader({_path(layout, name, prefixes): name for name in into.__struct_fields__}, into)


def _path(layout: AccountLayout, name: str, prefixes: Sequence[str]) -> str:
    spelling = _SPELLING.get(name, name)
    for prefix in prefixes:
        try:
            layout.field(f"{prefix}{spelling}")
        except LayoutError:
            continue
        return f"{prefix}{spelling}"
    raise LayoutError(f"{layout.name} has no {name}")


class _Accounts:
    """Every reader, built once on first use (a few milliseconds)."""

    def __init__(self) -> None:
        described = Idl.load("drift")
        state, user, stats, perp, spot = (
            AccountLayout(described, name, size=SIZES[name])
            for name in ("State", "User", "UserStats", "PerpMarket", "SpotMarket")
        )
        validity = "oracle_guard_rails.validity."
        rails = {f"{validity}{name}": name for name in GuardRails.__struct_fields__[1:]}
        rails["oracle_guard_rails.price_divergence.oracle_twap5min_percent_divergence"] = "twap_divergence"
        self.state = _reader(state, _StateScalars)
        self.guard_rails = state.reader(rails, GuardRails)
        self.fee_tiers = state.array_reader(
            "perp_fee_structure.fee_tiers", {name: name for name in FeeTier.__struct_fields__}, FeeTier
        )
        self.perp = _reader(perp, PerpMarket, ("", "amm.", "amm.historical_oracle_data."))
        self.spot = _reader(spot, SpotMarket, ("", "historical_oracle_data."))
        self.stats = _reader(stats, UserStats)
        self.user = _reader(user, _UserScalars)
        self.spot_positions = _Slots(user, "spot_positions", SpotPosition)
        self.perp_positions = _Slots(user, "perp_positions", PerpPosition)
        self.orders = _Slots(user, "orders", Order)


@cache
def _accounts() -> _Accounts:
    return _Accounts()


def _check(name: str, data: bytes) -> None:
    """Refuse another length: a longer account is a newer layout, and is not trusted either."""
    if len(data) != SIZES[name]:
        raise BadAnswer(f"{len(data)} bytes are not a {name} account of this program")


def read_state(data: bytes) -> State:
    """Read the exchange's account; raise `BadAnswer` when it is not one."""
    _check("State", data)
    accounts = _accounts()
    scalars = accounts.state(data)
    return State(
        fee_tiers=accounts.fee_tiers(data),
        guard_rails=accounts.guard_rails(data),
        number_of_markets=scalars.number_of_markets,
        number_of_spot_markets=scalars.number_of_spot_markets,
        min_perp_auction_duration=scalars.min_perp_auction_duration,
        exchange_status=scalars.exchange_status,
    )


def read_perp_market(data: bytes) -> PerpMarket:
    """Read a perp market; raise `BadAnswer` when it is not one."""
    _check("PerpMarket", data)
    return _accounts().perp(data)


def read_spot_market(data: bytes) -> SpotMarket:
    """Read a spot market; raise `BadAnswer` when it is not one."""
    _check("SpotMarket", data)
    return _accounts().spot(data)


def read_user_stats(data: bytes) -> UserStats:
    """Read what an owner's sub-accounts share; raise `BadAnswer` when it is not that."""
    _check("UserStats", data)
    return _accounts().stats(data)


def read_user(data: bytes) -> User:
    """Read a sub-account, empty slots left out; raise `BadAnswer` when it is not one."""
    _check("User", data)
    accounts = _accounts()
    scalars = accounts.user(data)
    return User(
        authority=scalars.authority,
        delegate=scalars.delegate,
        spot_positions=tuple(each for each in accounts.spot_positions(data) if not each.is_available),
        perp_positions=tuple(each for each in accounts.perp_positions(data) if not each.is_available),
        orders=tuple(each for each in accounts.orders(data) if each.is_open),
        next_order_id=scalars.next_order_id,
        max_margin_ratio=scalars.max_margin_ratio,
        sub_account_id=scalars.sub_account_id,
        status=scalars.status,
    )
