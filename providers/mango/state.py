"""What Mango's accounts hold, as frozen structs; `layouts` reads them.

Units are the program's: native amounts (smallest units of a token), lots of a market, and `I80F48` as raw integers in
units of 2**-48. What the chain keeps as a float is held as its bits, and given as the `I80F48` that the program makes
of it.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.mango.constants import FRACTION_BITS, FREE_INDEX, QUOTE_DECIMALS, IxGate, Side

__all__ = [
    "Bank",
    "Group",
    "MangoAccount",
    "MintInfo",
    "PerpMarket",
    "PerpOpenOrder",
    "PerpPosition",
    "Serum3Slot",
    "StubOracle",
    "TokenPosition",
    "i80f48_of_f32",
    "i80f48_of_f64",
]

_F32: Final = struct.Struct("<f")
_F64: Final = struct.Struct("<d")


def i80f48_of_f64(bits: int) -> int:
    """Return the `I80F48` nearest to a 64-bit float given by its bits, ties to even, as the program converts.

    Raises:
        BadAnswer: not a number, or infinite.
    """
    return _nearest(_F64.unpack(bits.to_bytes(8, "little"))[0])


def i80f48_of_f32(bits: int) -> int:
    """Return the `I80F48` nearest to a 32-bit float given by its bits; as `i80f48_of_f64`."""
    return _nearest(_F32.unpack(bits.to_bytes(4, "little"))[0])


def _nearest(value: float) -> int:
    try:
        numerator, denominator = value.as_integer_ratio()
    except (OverflowError, ValueError):
        raise BadAnswer("a float that is no number") from None
    whole, rest = divmod(numerator << FRACTION_BITS, denominator)
    if rest * 2 > denominator or (rest * 2 == denominator and whole & 1):
        whole += 1
    return whole


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment: what every market and account of it shares."""

    creator: Pubkey
    group_num: int
    admin: Pubkey
    insurance_vault: Pubkey
    insurance_mint: Pubkey
    deposit_limit_quote: int
    ix_gate: int
    lookup_tables: tuple[Pubkey, ...] = ()

    def is_disabled(self, instruction: IxGate) -> bool:
        """Whether the group's gate closes an instruction."""
        return bool(self.ix_gate >> instruction & 1)


class Bank(msgspec.Struct, frozen=True, kw_only=True):
    """A token that accounts hold as collateral or owe."""

    group: Pubkey
    name: bytes
    mint: Pubkey
    vault: Pubkey
    oracle: Pubkey
    conf_filter: int
    max_staleness_slots: int
    stable_price_bits: int
    deposit_index: int
    borrow_index: int
    indexed_deposits: int
    indexed_borrows: int
    maint_asset_weight: int
    init_asset_weight: int
    maint_liab_weight: int
    init_liab_weight: int
    token_index: int
    mint_decimals: int
    bank_num: int
    borrow_weight_scale_start_quote_bits: int
    deposit_weight_scale_start_quote_bits: int
    reduce_only: int
    force_close: int
    force_withdraw: int
    potential_serum_tokens: int
    maint_weight_shift_start: int
    maint_weight_shift_end: int
    maint_weight_shift_duration_inv: int
    maint_weight_shift_asset_target: int
    maint_weight_shift_liab_target: int
    fallback_oracle: Pubkey
    deposit_limit: int

    @property
    def symbol(self) -> str:
        """The token's name as the venue writes it."""
        return self.name.decode("utf-8", "replace").strip("\0 ")

    @property
    def stable_price(self) -> int:
        """Slow-moving price, native quote per native token, `I80F48`."""
        return i80f48_of_f64(self.stable_price_bits)

    def native(self, indexed_position: int) -> int:
        """Return a balance in native tokens, `I80F48`: deposits grow with one index, borrows with the other."""
        index = self.deposit_index if indexed_position >= 0 else self.borrow_index
        return (indexed_position * index) >> FRACTION_BITS


class PerpMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A perp market; names as in the interface description."""

    group: Pubkey
    settle_token_index: int
    perp_market_index: int
    base_decimals: int
    name: bytes
    bids: Pubkey
    asks: Pubkey
    event_queue: Pubkey
    oracle: Pubkey
    conf_filter: int
    max_staleness_slots: int
    stable_price_bits: int
    quote_lot_size: int
    base_lot_size: int
    maint_base_asset_weight: int
    init_base_asset_weight: int
    maint_base_liab_weight: int
    init_base_liab_weight: int
    open_interest: int
    seq_num: int
    min_funding: int
    max_funding: int
    impact_quantity: int
    long_funding: int
    short_funding: int
    funding_last_updated: int
    maker_fee: int
    taker_fee: int
    fees_accrued: int
    fee_penalty_bits: int
    reduce_only: int
    force_close: int
    maint_overall_asset_weight: int
    init_overall_asset_weight: int

    @property
    def venue_symbol(self) -> str:
        """The market's name as the venue writes it."""
        return self.name.decode("utf-8", "replace").strip("\0 ")

    @property
    def stable_price(self) -> int:
        """Slow-moving price, native quote per native base, `I80F48`."""
        return i80f48_of_f64(self.stable_price_bits)

    @property
    def fee_penalty(self) -> int:
        """What an immediate-or-cancel order pays whatever it matches, native quote, `I80F48`."""
        return i80f48_of_f32(self.fee_penalty_bits)

    @property
    def price_exponent(self) -> int:
        """Dollars per whole base unit are native quote per native base times ten to this."""
        return self.base_decimals - QUOTE_DECIMALS


class StubOracle(msgspec.Struct, frozen=True, kw_only=True):
    """A price that the group's admin sets."""

    group: Pubkey
    mint: Pubkey
    price: int
    last_update_ts: int
    last_update_slot: int
    deviation: int


class MintInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a group knows of a mint."""

    group: Pubkey
    token_index: int
    mint: Pubkey
    first_bank: Pubkey
    first_vault: Pubkey
    oracle: Pubkey
    fallback_oracle: Pubkey


class TokenPosition(msgspec.Struct, frozen=True):
    """A token slot of an account."""

    indexed_position: int
    token_index: int
    in_use_count: int

    @property
    def is_active(self) -> bool:
        """Whether the slot is taken."""
        return self.token_index != FREE_INDEX


class Serum3Slot(msgspec.Struct, frozen=True):
    """A spot market slot of an account; the adapter trades no spot, but the health list names these."""

    open_orders: Pubkey
    market_index: int
    base_token_index: int
    quote_token_index: int

    @property
    def is_active(self) -> bool:
        """Whether the slot is taken."""
        return self.market_index != FREE_INDEX


class PerpPosition(msgspec.Struct, frozen=True):
    """A perp slot of an account. Taker amounts are filled and wait for the event queue to be consumed."""

    market_index: int
    base_position_lots: int
    quote_position_native: int
    quote_running_native: int
    long_settled_funding: int
    short_settled_funding: int
    bids_base_lots: int
    asks_base_lots: int
    taker_base_lots: int
    taker_quote_lots: int
    avg_entry_price_per_base_lot_bits: int
    oneshot_settle_pnl_allowance: int
    recurring_settle_pnl_allowance: int
    realized_pnl_for_position_native: int

    @property
    def is_active(self) -> bool:
        """Whether the slot is taken."""
        return self.market_index != FREE_INDEX

    @property
    def effective_base_lots(self) -> int:
        """The position with taker fills that wait to be consumed."""
        return self.base_position_lots + self.taker_base_lots

    @property
    def avg_entry_price_per_base_lot(self) -> int:
        """Native quote per base lot, `I80F48`; without fills that wait to be consumed."""
        return i80f48_of_f64(self.avg_entry_price_per_base_lot_bits)

    @property
    def has_open_taker_fills(self) -> bool:
        """Whether fills wait in the event queue."""
        return self.taker_base_lots != 0 or self.taker_quote_lots != 0

    @property
    def has_open_orders(self) -> bool:
        """Whether orders rest, or taker fills wait."""
        return self.bids_base_lots != 0 or self.asks_base_lots != 0 or self.has_open_taker_fills

    def unsettled_funding(self, market: PerpMarket) -> int:
        """Return what the position owes in funding since it was last settled, native quote, `I80F48`."""
        if self.base_position_lots > 0:
            return (market.long_funding - self.long_settled_funding) * self.base_position_lots
        if self.base_position_lots < 0:
            return (market.short_funding - self.short_settled_funding) * self.base_position_lots
        return 0


class PerpOpenOrder(msgspec.Struct, frozen=True):
    """An order slot of an account."""

    side_and_tree: int
    market: int
    client_id: int
    id: int
    quantity: int

    @property
    def is_active(self) -> bool:
        """Whether an order rests in this slot."""
        return self.market != FREE_INDEX

    @property
    def side(self) -> Side:
        """Side of the order: bids have even numbers, asks odd ones, in either tree."""
        return Side(self.side_and_tree & 1)


class MangoAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A trading account; every slot is listed, free ones too, in the order of the account."""

    group: Pubkey
    owner: Pubkey
    delegate: Pubkey
    account_num: int
    being_liquidated: int
    in_health_region: int
    sequence_number: int
    net_deposits: int
    frozen_until: int
    tokens: tuple[TokenPosition, ...]
    serum3: tuple[Serum3Slot, ...]
    perps: tuple[PerpPosition, ...]
    perp_open_orders: tuple[PerpOpenOrder, ...]

    @property
    def active_tokens(self) -> tuple[TokenPosition, ...]:
        """Token slots in use, in slot order."""
        return tuple(each for each in self.tokens if each.is_active)

    @property
    def active_perps(self) -> tuple[PerpPosition, ...]:
        """Perp slots in use, in slot order."""
        return tuple(each for each in self.perps if each.is_active)

    @property
    def active_serum3(self) -> tuple[Serum3Slot, ...]:
        """Spot market slots in use, in slot order."""
        return tuple(each for each in self.serum3 if each.is_active)

    @property
    def open_orders(self) -> tuple[PerpOpenOrder, ...]:
        """Perp orders that rest."""
        return tuple(each for each in self.perp_open_orders if each.is_active)

    def perp(self, market_index: int) -> PerpPosition | None:
        """Return the slot of a market, if there is one."""
        return next((each for each in self.perps if each.market_index == market_index and each.is_active), None)

    def token(self, token_index: int) -> TokenPosition | None:
        """Return the slot of a token, if there is one."""
        return next((each for each in self.tokens if each.token_index == token_index and each.is_active), None)
