"""Other accounts that a taking order brings along: makers whose resting orders cross it, and the owner's referrer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from providers.drift.addresses import user_address, user_stats_address
from providers.drift.config import DriftConfig
from providers.drift.constants import MARGIN_PRECISION, Direction, MarketType, OrderType
from providers.drift.layouts import Order, User, UserStats, read_user
from providers.drift.reading import Snapshot
from providers.solana.pool import NodePool

__all__ = ["Maker", "crossing_makers", "party_accounts"]


class Maker(msgspec.Struct, frozen=True):
    """A maker's account and its owner."""

    account: Pubkey
    owner: Pubkey


_NOBODY: Final = Pubkey.default()
# More makers than this do not fit a transaction with an order lock.
_MAX_MAKERS: Final = 4


async def crossing_makers(
    pool: NodePool, config: DriftConfig, snapshot: Snapshot, *, direction: Direction, base: int, price: int
) -> tuple[Maker, ...]:
    """Return known makers that together can fill `base` at `price` or better; else none.

    Only resting limit orders at a fixed price count, inside the venue's bands around its oracle.

    Args:
        pool: nodes.
        config: with the makers to look at.
        snapshot: of the market.
        direction: of the taker.
        base: that is to be filled (1e9).
        price: the taker's bound (1e6).
    """
    if not config.makers:
        return ()
    at = await pool.accounts(list(config.makers), min_context_slot=snapshot.slot)
    chosen: list[Maker] = []
    left = base
    for key, account in zip(config.makers, at.accounts, strict=True):
        if account is None or left <= 0 or len(chosen) == _MAX_MAKERS:
            continue
        maker = read_user(account.data)
        offered = _offered(maker, snapshot, direction=direction, price=price)
        if offered > 0 and maker.authority != _owner(snapshot):
            chosen.append(Maker(key, maker.authority))
            left -= offered
    return tuple(chosen) if left <= 0 else ()


def _owner(snapshot: Snapshot) -> Pubkey:
    return _NOBODY if snapshot.user is None else snapshot.user.authority


def _offered(maker: User, snapshot: Snapshot, *, direction: Direction, price: int) -> int:
    if maker.is_being_liquidated:
        return 0
    return sum(
        order.base_asset_amount - order.base_asset_amount_filled
        for order in maker.orders
        if _crosses(order, snapshot, direction=direction, price=price)
    )


def _crosses(order: Order, snapshot: Snapshot, *, direction: Direction, price: int) -> bool:
    rests = order.post_only or snapshot.slot > order.slot + order.auction_duration
    if not (
        order.market_type == MarketType.PERP
        and order.market_index == snapshot.market.market_index
        and order.order_type == OrderType.LIMIT
        and order.direction != direction
        and order.price > 0
        and rests
        and not order.reduce_only
        and (order.max_ts == 0 or order.max_ts > snapshot.now)
    ):
        return False
    if order.price > price if direction is Direction.LONG else order.price < price:
        return False
    # The program takes off a maker's order that crosses the oracle by the initial margin ratio.
    oracle = max(snapshot.oracle.price, 1)
    beyond = oracle - order.price if direction is Direction.LONG else order.price - oracle
    return beyond * MARGIN_PRECISION // oracle < snapshot.market.margin_ratio_initial


def party_accounts(program_id: Pubkey, makers: Sequence[Maker], stats: UserStats | None) -> tuple[AccountMeta, ...]:
    """Return the accounts of makers and of the owner's referrer, each with its statistics, in the program's order.

    An owner that was referred cannot take without its referrer's accounts.
    """
    pairs = [(maker.account, user_stats_address(program_id, maker.owner)) for maker in makers]
    if stats is not None and stats.referrer != _NOBODY:
        referrer = (user_address(program_id, stats.referrer, 0), user_stats_address(program_id, stats.referrer))
        if referrer not in pairs:
            pairs.append(referrer)
    keys = dict.fromkeys(key for pair in pairs for key in pair)
    return tuple(AccountMeta(key, is_signer=False, is_writable=True) for key in keys)
