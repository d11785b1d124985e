"""Instruction bytes and account lists, as a caller of the program writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.drift.addresses import state_address
from router.localnet.drift.enums import Direction, MarketType, OrderType

__all__ = [
    "FillAccounts",
    "OrderParams",
    "OwnAccounts",
    "cancel_orders",
    "decode_order_params",
    "encode_order_params",
    "fill_perp_order",
    "liquidate_perp",
    "place_and_take",
    "place_perp_order",
    "read_option",
    "trigger_order",
]

_FIXED = struct.Struct("<BBBBQQH?BB")


class OrderParams(msgspec.Struct, kw_only=True):
    """An order as a caller asks for it; base in 1e9, prices in 1e6. The program fills in the auction."""

    order_type: int
    market_type: int = MarketType.PERP
    direction: int
    user_order_id: int = 0
    base_asset_amount: int
    price: int = 0
    market_index: int
    reduce_only: bool = False
    post_only: int = 0
    immediate_or_cancel: bool = False
    max_ts: int | None = None
    trigger_price: int | None = None
    trigger_condition: int = 0
    oracle_price_offset: int | None = None
    auction_duration: int | None = None
    auction_start_price: int | None = None
    auction_end_price: int | None = None


def read_option(data: bytes, offset: int, letter: str) -> tuple[int | None, int]:
    """Read an optional number; return it and where the next field starts.

    Raises:
        struct.error, ValueError: the bytes are not one.
    """
    tag = data[offset]
    if tag == 0:
        return None, offset + 1
    if tag != 1:
        raise ValueError(tag)
    (value,) = struct.unpack_from("<" + letter, data, offset + 1)
    return int(value), offset + 1 + struct.calcsize("<" + letter)


def _option(letter: str, value: int | None) -> bytes:
    return b"\0" if value is None else b"\1" + struct.pack("<" + letter, value)


def encode_order_params(params: OrderParams) -> bytes:
    """Return the bytes of an order."""
    fixed = _FIXED.pack(
        params.order_type,
        params.market_type,
        params.direction,
        params.user_order_id,
        params.base_asset_amount,
        params.price,
        params.market_index,
        params.reduce_only,
        params.post_only,
        int(params.immediate_or_cancel),
    )
    return b"".join(
        (
            fixed,
            _option("q", params.max_ts),
            _option("Q", params.trigger_price),
            bytes([params.trigger_condition]),
            _option("i", params.oracle_price_offset),
            _option("B", params.auction_duration),
            _option("q", params.auction_start_price),
            _option("q", params.auction_end_price),
        )
    )


def decode_order_params(data: bytes, offset: int) -> tuple[OrderParams, int]:
    """Read an order; return it and where the next argument starts.

    Raises:
        struct.error, ValueError, IndexError: the bytes are not an order.
    """
    kind, market_type, direction, user_id, base, price, market, reduce_only, post_only, ioc = _FIXED.unpack_from(
        data, offset
    )
    offset += _FIXED.size
    if kind > OrderType.ORACLE or market_type > 1 or direction > Direction.SHORT or post_only > 3 or ioc > 1:  # noqa: PLR2004 - last variant of each
        raise ValueError(data)
    max_ts, offset = read_option(data, offset, "q")
    trigger_price, offset = read_option(data, offset, "Q")
    trigger_condition, offset = data[offset], offset + 1
    if trigger_condition > 3:  # noqa: PLR2004 - last variant
        raise ValueError(data)
    oracle_offset, offset = read_option(data, offset, "i")
    duration, offset = read_option(data, offset, "B")
    start, offset = read_option(data, offset, "q")
    end, offset = read_option(data, offset, "q")
    params = OrderParams(
        order_type=kind,
        market_type=market_type,
        direction=direction,
        user_order_id=user_id,
        base_asset_amount=base,
        price=price,
        market_index=market,
        reduce_only=reduce_only,
        post_only=post_only,
        immediate_or_cancel=bool(ioc),
        max_ts=max_ts,
        trigger_price=trigger_price,
        trigger_condition=trigger_condition,
        oracle_price_offset=oracle_offset,
        auction_duration=duration,
        auction_start_price=start,
        auction_end_price=end,
    )
    return params, offset


class FillAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """Who fills whose order: wallets and their Drift accounts."""

    authority: Pubkey
    filler: Pubkey
    filler_stats: Pubkey
    user: Pubkey
    user_stats: Pubkey


class OwnAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """A trader acting for itself."""

    authority: Pubkey
    user: Pubkey


def place_perp_order(
    program_id: Pubkey, accounts: OwnAccounts, remaining: Sequence[AccountMeta], params: OrderParams
) -> Instruction:
    """Return a trader's instruction to place an order that rests."""
    data = instruction_discriminator("place_perp_order") + encode_order_params(params)
    return Instruction(program_id, data, [*_own_metas(program_id, accounts), *remaining])


def place_and_take(
    program_id: Pubkey,
    accounts: OwnAccounts,
    user_stats: Pubkey,
    remaining: Sequence[AccountMeta],
    params: OrderParams,
) -> Instruction:
    """Return a trader's instruction to place an order and take with it at once."""
    state, user, authority = _own_metas(program_id, accounts)
    stats = AccountMeta(user_stats, is_signer=False, is_writable=True)
    data = instruction_discriminator("place_and_take_perp_order") + encode_order_params(params) + _option("I", None)
    return Instruction(program_id, data, [state, user, stats, authority, *remaining])


def cancel_orders(program_id: Pubkey, accounts: OwnAccounts, remaining: Sequence[AccountMeta]) -> Instruction:
    """Return a trader's instruction to cancel all its orders."""
    data = instruction_discriminator("cancel_orders") + b"\0\0\0"
    return Instruction(program_id, data, [*_own_metas(program_id, accounts), *remaining])


def _own_metas(program_id: Pubkey, accounts: OwnAccounts) -> list[AccountMeta]:
    return [
        AccountMeta(state_address(program_id), is_signer=False, is_writable=False),
        AccountMeta(accounts.user, is_signer=False, is_writable=True),
        AccountMeta(accounts.authority, is_signer=True, is_writable=False),
    ]


def fill_perp_order(
    program_id: Pubkey, accounts: FillAccounts, remaining: Sequence[AccountMeta], order_id: int
) -> Instruction:
    """Return a keeper's instruction to fill one order."""
    data = instruction_discriminator("fill_perp_order") + _option("I", order_id) + _option("I", None)
    return Instruction(program_id, data, [*_fill_metas(program_id, accounts), *remaining])


def trigger_order(
    program_id: Pubkey, accounts: FillAccounts, remaining: Sequence[AccountMeta], order_id: int
) -> Instruction:
    """Return a keeper's instruction to set off one order; the stats of neither side take part."""
    metas = [
        AccountMeta(state_address(program_id), is_signer=False, is_writable=False),
        AccountMeta(accounts.authority, is_signer=True, is_writable=False),
        AccountMeta(accounts.filler, is_signer=False, is_writable=True),
        AccountMeta(accounts.user, is_signer=False, is_writable=True),
    ]
    data = instruction_discriminator("trigger_order") + struct.pack("<I", order_id)
    return Instruction(program_id, data, [*metas, *remaining])


def liquidate_perp(
    program_id: Pubkey,
    accounts: FillAccounts,
    remaining: Sequence[AccountMeta],
    *,
    market_index: int,
    most_base: int,
    limit_price: int | None = None,
) -> Instruction:
    """Return a liquidator's (the filler's) instruction to take at most `most_base` (1e9) of a position over."""
    data = instruction_discriminator("liquidate_perp") + struct.pack("<HQ", market_index, most_base)
    metas = [*_fill_metas(program_id, accounts), *remaining]
    return Instruction(program_id, data + _option("Q", limit_price), metas)


def _fill_metas(program_id: Pubkey, accounts: FillAccounts) -> list[AccountMeta]:
    return [
        AccountMeta(state_address(program_id), is_signer=False, is_writable=False),
        AccountMeta(accounts.authority, is_signer=True, is_writable=False),
        AccountMeta(accounts.filler, is_signer=False, is_writable=True),
        AccountMeta(accounts.filler_stats, is_signer=False, is_writable=True),
        AccountMeta(accounts.user, is_signer=False, is_writable=True),
        AccountMeta(accounts.user_stats, is_signer=False, is_writable=True),
    ]
