"""What Jupiter Perps' accounts hold, as frozen structs; `layouts` reads them.

Scales are the program's (see `constants`). What the chain keeps as a float is held as its bits.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.jupiter.constants import RATE_ONE, RequestChange, RequestType, Side

__all__ = ["Custody", "OraclePrice", "Permissions", "Perpetuals", "Pool", "Position", "PositionRequest", "TokenAccount"]

_F32: Final = struct.Struct("<f")


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue lets anybody do now."""

    increase: bool
    decrease: bool

    def with_(self, other: Permissions) -> Permissions:
        """Return what both let anybody do."""
        return Permissions(increase=self.increase and other.increase, decrease=self.decrease and other.decrease)


class Perpetuals(msgspec.Struct, frozen=True, kw_only=True):
    """The program's global state."""

    permissions: Permissions
    pools: tuple[Pubkey, ...]


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of custodies that traders trade against.

    Attributes:
        max_request_execution_sec: how long after its creation a market request may be executed.
        disable_close_position_request: the older instruction that closes a request is switched off.
    """

    custodies: tuple[Pubkey, ...]
    max_request_execution_sec: int
    max_trigger_price_diff_bps: int
    disable_close_position_request: bool


class Custody(msgspec.Struct, frozen=True, kw_only=True):
    """A token of the pool: its tokens, and the trading of its market. Names as in the interface description."""

    pool: Pubkey
    mint: Pubkey
    token_account: Pubkey
    decimals: int
    is_stable: bool
    oracle_account: Pubkey
    max_price_age_sec: int
    trade_impact_fee_scalar: int
    max_leverage: int
    max_global_long_sizes: int
    max_global_short_sizes: int
    allow_increase_position: bool
    allow_decrease_position: bool
    owned: int
    locked: int
    guaranteed_usd: int
    global_short_sizes: int
    cumulative_interest_rate: int
    last_update: int
    hourly_funding_dbps: int
    increase_position_bps: int
    decrease_position_bps: int
    max_position_size_usd: int
    doves_oracle: Pubkey
    min_rate_bps: int
    max_rate_bps: int
    target_rate_bps: int
    target_utilization_rate: int
    doves_ag_oracle: Pubkey
    open_interest: tuple[int, ...]
    impact_last_updated: int
    impact_fee_factor: int
    impact_exponent_bits: int
    impact_threshold_usd: int
    impact_max_fee_bps: int
    debt: int
    borrow_interest_accrued: int

    @property
    def permissions(self) -> Permissions:
        """What may be done with positions of this custody."""
        return Permissions(increase=self.allow_increase_position, decrease=self.allow_decrease_position)

    @property
    def impact_exponent(self) -> tuple[int, int]:
        """The exponent of the additive impact as an exact fraction.

        Raises:
            BadAnswer: not a number, or infinite.
        """
        try:
            numerator, denominator = _F32.unpack(self.impact_exponent_bits.to_bytes(4, "little"))[0].as_integer_ratio()
        except (OverflowError, ValueError):
            raise BadAnswer("a custody whose impact exponent is no number") from None
        return int(numerator), int(denominator)

    @property
    def lent(self) -> int:
        """Tokens that are lent out, rounded up."""
        return -(-max(self.debt - self.borrow_interest_accrued, 0) // RATE_ONE)

    @property
    def free(self) -> int:
        """Tokens that are there and back no position."""
        return max(self.owned - self.locked, 0)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """An owner's holding in one market, on one side, on one collateral; `size_usd` 0: none.

    Attributes:
        price: average entry.
        size_usd: at that price.
        collateral_usd: as it was worth when deposited, opening fees already taken.
        cumulative_interest_snapshot: up to which borrowing was paid.
    """

    owner: Pubkey
    pool: Pubkey
    custody: Pubkey
    collateral_custody: Pubkey
    open_time: int
    update_time: int
    side: int
    price: int
    size_usd: int
    collateral_usd: int
    realised_pnl_usd: int
    cumulative_interest_snapshot: int
    locked_amount: int
    bump: int


class PositionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits for a keeper, or for its trigger price."""

    owner: Pubkey
    pool: Pubkey
    custody: Pubkey
    position: Pubkey
    mint: Pubkey
    open_time: int
    update_time: int
    size_usd_delta: int
    collateral_delta: int
    change: RequestChange
    kind: RequestType
    side: Side
    price_slippage: int | None
    trigger_price: int | None
    trigger_above_threshold: bool | None
    entire_position: bool | None
    executed: bool
    counter: int
    bump: int


class OraclePrice(msgspec.Struct, frozen=True, kw_only=True):
    """The price that the program uses, dollars 1e6 per whole token, rounded down; `timestamp` on the chain's clock."""

    price: int
    timestamp: int


class TokenAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A token account's mint, owner and amount."""

    mint: Pubkey
    owner: Pubkey
    amount: int
