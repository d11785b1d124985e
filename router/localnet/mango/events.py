"""Events of perpetual markets as the program prints them: discriminator and borsh fields.

I80F48 figures are raw bits, prices and sizes lots, other amounts native units.
"""

from __future__ import annotations

import struct

from solders.pubkey import Pubkey

from router.localnet.anchor import event_discriminator
from router.localnet.mango.account_layouts import PerpPosition, TokenPosition
from router.localnet.mango.enums import Side
from router.localnet.mango.layouts import PerpMarket
from router.localnet.mango.oracles import OracleState
from router.localnet.mango.positions import stable_price
from router.localnet.mango.queue import FillEvent

__all__ = [
    "deactivate_perp_position_log",
    "deactivate_token_position_log",
    "fill_log",
    "filled_perp_order_log",
    "perp_balance_log",
    "perp_liquidation_log",
    "perp_settle_pnl_log",
    "perp_taker_trade_log",
    "perp_update_funding_log",
    "token_balance_log",
    "wide",
]


def wide(value: int) -> bytes:
    """Return a signed 128-bit number."""
    return value.to_bytes(16, "little", signed=True)


def _market(market: PerpMarket, account: Pubkey | None = None) -> bytes:
    owner = b"" if account is None else bytes(account)
    return bytes(market.group) + owner + struct.pack("<H", market.perp_market_index)


def perp_taker_trade_log(
    market: PerpMarket,
    account: Pubkey,
    side: Side,
    *,
    base_lots: tuple[int, int],
    quote_lots: tuple[int, int],
    fees_paid: int,
    fee_penalty: int,
) -> bytes:
    """Return the event of an order that took; lots are (taken, of these against the account's own orders)."""
    lots = struct.pack("<Bqqqq", side, *base_lots, *quote_lots)
    name = event_discriminator("PerpTakerTradeLog")
    return name + _market(market, account) + lots + wide(fees_paid) + wide(fee_penalty)


def filled_perp_order_log(market: PerpMarket, seq_num: int) -> bytes:
    """Return the event of one match."""
    return event_discriminator("FilledPerpOrderLog") + _market(market) + struct.pack("<Q", seq_num)


def fill_log(market: PerpMarket, group: Pubkey, fill: FillEvent, *, maker_pnl: float, taker_pnl: float) -> bytes:
    """Return the event of a fill that was taken from the queue; the PnL are native units."""
    return b"".join(
        (
            event_discriminator("FillLogV3"),
            bytes(group),
            struct.pack(
                "<HBBBQQ",
                market.perp_market_index,
                fill.taker_side,
                fill.maker_slot,
                fill.maker_out == 1,
                fill.timestamp,
                fill.seq_num,
            ),
            bytes(fill.maker),
            struct.pack("<QfQ", fill.maker_client_order_id, fill.maker_fee, fill.maker_timestamp),
            bytes(fill.taker),
            struct.pack("<Qf", fill.taker_client_order_id, fill.taker_fee),
            struct.pack("<qqdd", fill.price, fill.quantity, maker_pnl, taker_pnl),
        )
    )


def perp_update_funding_log(market: PerpMarket, oracle: OracleState, rate: int) -> bytes:
    """Return the event of new funding; `rate` a day."""
    return b"".join(
        (
            event_discriminator("PerpUpdateFundingLogV2"),
            _market(market),
            wide(market.long_funding),
            wide(market.short_funding),
            wide(oracle.price),
            struct.pack("<Q", oracle.last_update_slot),
            wide(oracle.deviation),
            struct.pack("<B", oracle.oracle_type),
            wide(stable_price(market)),
            wide(market.fees_accrued),
            wide(market.fees_settled),
            struct.pack("<q", market.open_interest),
            wide(rate),
        )
    )


def perp_balance_log(group: Pubkey, account: Pubkey, position: PerpPosition, market: PerpMarket) -> bytes:
    """Return the event of a changed perpetual position."""
    return b"".join(
        (
            event_discriminator("PerpBalanceLog"),
            bytes(group),
            bytes(account),
            struct.pack("<Hq", market.perp_market_index, position.base_position_lots),
            wide(position.quote_position_native),
            wide(position.long_settled_funding),
            wide(position.short_settled_funding),
            wide(market.long_funding),
            wide(market.short_funding),
        )
    )


def deactivate_perp_position_log(group: Pubkey, account: Pubkey, position: PerpPosition) -> bytes:
    """Return the event of a perpetual slot that becomes free."""
    floats = struct.pack("<dd", position.cumulative_long_funding, position.cumulative_short_funding)
    volumes = struct.pack("<QQq", position.maker_volume, position.taker_volume, position.perp_spot_transfers)
    head = bytes(group) + bytes(account) + struct.pack("<H", position.market_index)
    return event_discriminator("DeactivatePerpPositionLog") + head + floats + volumes


def deactivate_token_position_log(group: Pubkey, account: Pubkey, position: TokenPosition) -> bytes:
    """Return the event of a token slot that becomes free."""
    interest = struct.pack("<dd", position.cumulative_deposit_interest, position.cumulative_borrow_interest)
    head = bytes(group) + bytes(account) + struct.pack("<H", position.token_index)
    return event_discriminator("DeactivateTokenPositionLog") + head + interest


def token_balance_log(
    group: Pubkey, account: Pubkey, position: TokenPosition, *, deposit_index: int, borrow_index: int
) -> bytes:
    """Return the event of a changed deposit or borrow."""
    head = bytes(group) + bytes(account) + struct.pack("<H", position.token_index)
    figures = wide(position.indexed_position) + wide(deposit_index) + wide(borrow_index)
    return event_discriminator("TokenBalanceLog") + head + figures


def perp_settle_pnl_log(
    group: Pubkey, winner: Pubkey, loser: Pubkey, settler: Pubkey, *, market_index: int, settlement: int, fee: int
) -> bytes:
    """Return the event of profit that moved from one account's position to another's deposit."""
    head = bytes(group) + bytes(winner) + bytes(loser) + struct.pack("<H", market_index)
    return event_discriminator("PerpSettlePnlLog") + head + wide(settlement) + bytes(settler) + wide(fee)


def perp_liquidation_log(
    group: Pubkey,
    liqor: Pubkey,
    liqee: Pubkey,
    *,
    market_index: int,
    base: int,
    quotes: tuple[int, int],
    fee: int,
    pnl: int,
    limits: tuple[int, int],
    price: int,
) -> bytes:
    """Return the event of a position, or a profit, that a liquidator took over.

    Args:
        group: of both accounts.
        liqor: who takes over.
        liqee: whose position it was.
        market_index: of the position.
        base: lots by which the liquidated account's position changed.
        quotes: by how much both quote positions changed, the liquidated account's first.
        fee: what the platform kept.
        pnl: profit that was taken.
        limits: settle limit that went with it, of every window and once (native).
        price: the oracle's, native quote a native base.
    """
    head = bytes(group) + struct.pack("<H", market_index) + bytes(liqor) + bytes(liqee) + struct.pack("<q", base)
    amounts = wide(quotes[0]) + wide(quotes[1]) + wide(fee) + wide(pnl)
    return (
        event_discriminator("PerpLiqBaseOrPositivePnlLogV3")
        + head
        + amounts
        + struct.pack("<qq", *limits)
        + wide(price)
    )
