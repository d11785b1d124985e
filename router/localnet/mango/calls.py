"""Instruction bytes and account lists, as a caller of the program writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.mango.enums import PlaceOrderType, SelfTradeBehavior, Side
from router.localnet.mango.world import MangoMarket, MangoTrader, MangoWorld

__all__ = [
    "FAR_QUOTE_LOTS",
    "OrderCall",
    "cancel_order",
    "consume_events",
    "health_metas",
    "liquidate_base",
    "place_order",
    "scanned_metas",
]

FAR_QUOTE_LOTS = (1 << 63) - 1
_MATCHES = 32
_NO_PEG_LIMIT = -1
_NO_STALENESS = -1


def _meta(key: Pubkey, *, signer: bool = False, writable: bool = False) -> AccountMeta:
    return AccountMeta(key, is_signer=signer, is_writable=writable)


class OrderCall(msgspec.Struct, frozen=True, kw_only=True):
    """An order as a caller asks for it, in lots; `pegged` makes the price an offset from the oracle's."""

    side: Side
    price_lots: int
    base_lots: int
    client_order_id: int = 0
    order_type: PlaceOrderType = PlaceOrderType.LIMIT
    self_trade: SelfTradeBehavior = SelfTradeBehavior.DECREMENT_TAKE
    reduce_only: bool = False
    pegged: bool = False


def health_metas(world: MangoWorld, market_indexes: Sequence[int]) -> list[AccountMeta]:
    """Return the health accounts of an account with USDC alone and positions in these markets, in its own order."""
    markets = [next(each for each in world.markets if each.terms.index == index) for index in market_indexes]
    keys = [world.usdc.address, world.usdc.oracle]
    keys += [market.address for market in markets] + [market.oracle for market in markets]
    return [_meta(key) for key in keys]


def scanned_metas(world: MangoWorld) -> list[AccountMeta]:
    """Return the health accounts of any account here, for instructions that look through them."""
    keys = [bank.address for bank in world.banks] + [bank.oracle for bank in world.banks]
    keys += [market.address for market in world.markets] + [market.oracle for market in world.markets]
    return [_meta(key) for key in keys]


def place_order(
    world: MangoWorld,
    market: MangoMarket,
    account: Pubkey,
    signer: Pubkey,
    order: OrderCall,
    *,
    health: Sequence[AccountMeta],
) -> Instruction:
    """Return the instruction that places an order for an account, signed by its owner or delegate."""
    metas = [
        _meta(world.group),
        _meta(account, writable=True),
        _meta(signer, signer=True),
        *(_meta(key, writable=True) for key in (market.address, market.bids, market.asks, market.event_queue)),
        _meta(market.oracle),
        *health,
    ]
    prices = (order.price_lots, _NO_PEG_LIMIT) if order.pegged else (order.price_lots,)
    data = struct.pack(
        f"<B{len(prices)}qqqQBB?QB",
        order.side,
        *prices,
        order.base_lots,
        FAR_QUOTE_LOTS,
        order.client_order_id,
        order.order_type,
        order.self_trade,
        order.reduce_only,
        0,
        _MATCHES,
    )
    name = "perp_place_order_v2"
    if order.pegged:
        name, data = "perp_place_order_pegged_v2", data + struct.pack("<i", _NO_STALENESS)
    return Instruction(world.program_id, instruction_discriminator(name) + data, metas)


def cancel_order(world: MangoWorld, market: MangoMarket, trader: MangoTrader, order_id: int) -> Instruction:
    """Return the instruction that takes an order from the book."""
    metas = [
        _meta(world.group),
        _meta(trader.account, writable=True),
        _meta(trader.wallet.pubkey(), signer=True),
        *(_meta(key, writable=True) for key in (market.address, market.bids, market.asks)),
    ]
    data = instruction_discriminator("perp_cancel_order") + order_id.to_bytes(16, "little")
    return Instruction(world.program_id, data, metas)


def consume_events(world: MangoWorld, market: MangoMarket, accounts: Sequence[Pubkey], limit: int) -> Instruction:
    """Return the instruction that applies the first events of a market to these accounts."""
    metas = [
        _meta(world.group),
        _meta(market.address, writable=True),
        _meta(market.event_queue, writable=True),
        *(_meta(account, writable=True) for account in accounts),
    ]
    data = instruction_discriminator("perp_consume_events") + struct.pack("<Q", limit)
    return Instruction(world.program_id, data, metas)


def liquidate_base(
    world: MangoWorld, market: MangoMarket, liqor: MangoTrader, liqee: Pubkey, base_lots: int
) -> Instruction:
    """Return the instruction by which one account takes over another's position, at most so many lots (signed)."""
    metas = [
        _meta(world.group),
        _meta(market.address, writable=True),
        _meta(market.oracle),
        _meta(liqor.account, writable=True),
        _meta(liqor.wallet.pubkey(), signer=True),
        _meta(liqee, writable=True),
        _meta(world.usdc.address, writable=True),
        _meta(world.usdc.vault, writable=True),
        _meta(world.usdc.oracle),
        *scanned_metas(world),
    ]
    data = instruction_discriminator("perp_liq_base_or_positive_pnl") + struct.pack("<qQ", base_lots, 0)
    return Instruction(world.program_id, data, metas)
