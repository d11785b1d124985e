"""A trader's account: a fixed head, then five lists of slots whose lengths the account itself states."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Self, TypeVar

from router.localnet.codec import I64, I128, U8, U16, U32, U64, U128, Key, Layout
from router.localnet.mango.enums import FREE_SLOT
from router.localnet.mango.layouts import F64

__all__ = [
    "AccountHead",
    "MangoAccount",
    "PerpOpenOrder",
    "PerpPosition",
    "Serum3Orders",
    "TokenConditionalSwap",
    "TokenPosition",
]

_HEADER_BYTES = 8
_RESERVED_BYTES = 64
_VERSION = 1
_SWAP_EXPIRY = slice(40, 48)
_SWAP_TOKENS = slice(80, 84)


@dataclass(slots=True)
class AccountHead(Layout):
    """Who may act for the account, and what holds for it as a whole."""

    group: Key
    owner: Key
    name: Annotated[bytes, 32]
    delegate: Key
    account_num: U32
    being_liquidated: U8
    in_health_region: U8
    bump: U8
    sequence_number: U8
    net_deposits: I64
    perp_spot_transfers: I64
    health_region_begin_init_health: I64
    frozen_until: U64
    buyback_fees_accrued_current: U64
    buyback_fees_accrued_previous: U64
    buyback_fees_expiry_timestamp: U64
    next_token_conditional_swap_id: U64
    temporary_delegate: Key
    temporary_delegate_expiry: U64
    last_collateral_fee_charge: U64
    reserved: Annotated[bytes, 152]


@dataclass(slots=True)
class TokenPosition(Layout):
    """A deposit (positive) or borrow of one token, scaled by the bank's index."""

    indexed_position: I128
    token_index: U16
    in_use_count: U16
    padding: Annotated[bytes, 4]
    previous_index: I128
    cumulative_deposit_interest: F64
    cumulative_borrow_interest: F64
    reserved: Annotated[bytes, 128]

    @property
    def is_active(self) -> bool:
        """Tell whether the slot is in use."""
        return self.token_index != FREE_SLOT

    @classmethod
    def free(cls) -> Self:
        """Return a slot that is not in use."""
        slot = cls.zero()
        slot.token_index = FREE_SLOT
        return slot


@dataclass(slots=True)
class Serum3Orders(Layout):
    """The open orders account of one spot market."""

    open_orders: Key
    base_borrows_without_fee: U64
    quote_borrows_without_fee: U64
    market_index: U16
    base_token_index: U16
    quote_token_index: U16
    padding: Annotated[bytes, 2]
    highest_placed_bid_inv: F64
    lowest_placed_ask: F64
    potential_base_tokens: U64
    potential_quote_tokens: U64
    lowest_placed_bid_inv: F64
    highest_placed_ask: F64
    reserved: Annotated[bytes, 16]

    @property
    def is_active(self) -> bool:
        """Tell whether the slot is in use."""
        return self.market_index != FREE_SLOT

    @classmethod
    def free(cls) -> Self:
        """Return a slot that is not in use."""
        slot = cls.zero()
        slot.market_index = slot.base_token_index = slot.quote_token_index = FREE_SLOT
        return slot


@dataclass(slots=True)
class PerpPosition(Layout):
    """A position in one perpetual market: base in lots, quote in native units (I80F48 where it has fractions)."""

    market_index: U16
    padding: Annotated[bytes, 2]
    settle_pnl_limit_window: U32
    settle_pnl_limit_settled_in_current_window_native: I64
    base_position_lots: I64
    quote_position_native: I128
    quote_running_native: I64
    long_settled_funding: I128
    short_settled_funding: I128
    bids_base_lots: I64
    asks_base_lots: I64
    taker_base_lots: I64
    taker_quote_lots: I64
    cumulative_long_funding: F64
    cumulative_short_funding: F64
    maker_volume: U64
    taker_volume: U64
    perp_spot_transfers: I64
    avg_entry_price_per_base_lot: F64
    deprecated_realized_trade_pnl_native: I128
    oneshot_settle_pnl_allowance: I128
    recurring_settle_pnl_allowance: I64
    realized_pnl_for_position_native: I128
    reserved: Annotated[bytes, 88]

    @property
    def is_active(self) -> bool:
        """Tell whether the slot is in use."""
        return self.market_index != FREE_SLOT

    @property
    def has_open_orders(self) -> bool:
        """Tell whether orders rest, or have been matched and wait in the queue."""
        return self.asks_base_lots != 0 or self.bids_base_lots != 0

    @property
    def has_open_taker_fills(self) -> bool:
        """Tell whether fills wait in the queue."""
        return self.taker_base_lots != 0 or self.taker_quote_lots != 0

    @property
    def effective_base_lots(self) -> int:
        """The position with the fills that wait in the queue."""
        return self.base_position_lots + self.taker_base_lots

    @classmethod
    def free(cls) -> Self:
        """Return a slot that is not in use."""
        slot = cls.zero()
        slot.market_index = FREE_SLOT
        return slot


@dataclass(slots=True)
class PerpOpenOrder(Layout):
    """One order: its side and tree in one byte (bid, ask, pegged bid, pegged ask), its key, what is left of it."""

    side_and_tree: U8
    padding1: Annotated[bytes, 1]
    market: U16
    padding2: Annotated[bytes, 4]
    client_id: U64
    id: U128
    quantity: I64
    reserved: Annotated[bytes, 56]

    @property
    def is_active(self) -> bool:
        """Tell whether the slot is in use."""
        return self.market != FREE_SLOT

    @classmethod
    def free(cls) -> Self:
        """Return a slot that is not in use."""
        slot = cls.zero()
        slot.market = FREE_SLOT
        return slot

    def clear(self) -> None:
        """Free the slot."""
        self.market = FREE_SLOT
        self.side_and_tree = self.client_id = self.id = self.quantity = 0


@dataclass(slots=True)
class TokenConditionalSwap(Layout):
    """A conditional swap; nothing here trades them, so its bytes are carried as they are."""

    content: Annotated[bytes, 200]

    @classmethod
    def free(cls) -> Self:
        """Return a slot as the program makes them: never expiring, and of no token."""
        content = bytearray(cls.size())
        content[_SWAP_EXPIRY] = b"\xff" * 8
        content[_SWAP_TOKENS] = b"\xff" * 4
        return cls.decode(bytes(content))


S = TypeVar("S", bound=Layout)


@dataclass(slots=True)
class MangoAccount:
    """A trader's account with all its slots; encoding gives back every byte that decoding read.

    Attributes:
        header: version byte and padding in front of the lists.
        paddings: the four bytes in front of each list's length.
        tail: what follows the lists.
    """

    head: AccountHead
    header: bytes
    tokens: list[TokenPosition]
    serum3: list[Serum3Orders]
    perps: list[PerpPosition]
    perp_open_orders: list[PerpOpenOrder]
    token_conditional_swaps: list[TokenConditionalSwap]
    paddings: tuple[bytes, ...]
    tail: bytes

    @classmethod
    def empty(
        cls,
        head: AccountHead,
        *,
        tokens: int = 8,
        serum3: int = 4,
        perps: int = 4,
        perp_open_orders: int = 32,
        token_conditional_swaps: int = 0,
    ) -> Self:
        """Return an account whose slots are all free."""
        return cls(
            head=head,
            header=bytes([_VERSION]) + bytes(_HEADER_BYTES - 1),
            tokens=[TokenPosition.free() for _ in range(tokens)],
            serum3=[Serum3Orders.free() for _ in range(serum3)],
            perps=[PerpPosition.free() for _ in range(perps)],
            perp_open_orders=[PerpOpenOrder.free() for _ in range(perp_open_orders)],
            token_conditional_swaps=[TokenConditionalSwap.free() for _ in range(token_conditional_swaps)],
            paddings=(bytes(4),) * 5,
            tail=bytes(_RESERVED_BYTES),
        )

    @classmethod
    def decode(cls, data: bytes, offset: int = 0) -> Self:
        """Read one from `data`, which it fills to its end; accounts of older versions end before the last list.

        Raises:
            struct.error: the bytes end within the account.
        """
        position = offset + AccountHead.size()
        header = bytes(data[position : position + _HEADER_BYTES])
        position += _HEADER_BYTES
        paddings: list[bytes] = []

        def slots(layout: type[S]) -> list[S]:
            nonlocal position
            padding, count = struct.unpack_from("<4sI", data, position)
            paddings.append(padding)
            first = position + 8
            position = first + count * layout.size()
            return [layout.decode(data, first + index * layout.size()) for index in range(count)]

        tokens, serum3, perps, orders = (
            slots(TokenPosition),
            slots(Serum3Orders),
            slots(PerpPosition),
            slots(PerpOpenOrder),
        )
        swaps = slots(TokenConditionalSwap) if len(data) >= position + 8 else []
        return cls(
            head=AccountHead.decode(data, offset),
            header=header,
            tokens=tokens,
            serum3=serum3,
            perps=perps,
            perp_open_orders=orders,
            token_conditional_swaps=swaps,
            paddings=tuple(paddings),
            tail=bytes(data[position:]),
        )

    def encode(self) -> bytes:
        """Return the bytes."""
        lists: tuple[list[Layout], ...] = (
            [*self.tokens],
            [*self.serum3],
            [*self.perps],
            [*self.perp_open_orders],
            [*self.token_conditional_swaps],
        )
        parts = [self.head.encode(), self.header]
        for padding, slots in zip(self.paddings, lists, strict=False):
            parts.append(padding + struct.pack("<I", len(slots)))
            parts.extend(slot.encode() for slot in slots)
        return b"".join((*parts, self.tail))

    @staticmethod
    def space(*, tokens: int, serum3: int, perps: int, perp_open_orders: int, token_conditional_swaps: int = 0) -> int:
        """Return the width of an account with so many slots, discriminator included."""
        slots = (
            (tokens, TokenPosition),
            (serum3, Serum3Orders),
            (perps, PerpPosition),
            (perp_open_orders, PerpOpenOrder),
            (token_conditional_swaps, TokenConditionalSwap),
        )
        fixed = 8 + AccountHead.size() + _HEADER_BYTES + _RESERVED_BYTES
        return fixed + sum(8 + count * layout.size() for count, layout in slots)

    # Slots in use

    def token(self, token_index: int) -> TokenPosition | None:
        """Return the slot of a token, null when the account has none."""
        return next((slot for slot in self.tokens if slot.token_index == token_index), None)

    def perp(self, market_index: int) -> PerpPosition | None:
        """Return the slot of a market, null when the account has none."""
        return next((slot for slot in self.perps if slot.market_index == market_index), None)
