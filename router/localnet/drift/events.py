"""Events as the program prints them: discriminator and borsh fields."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from solders.pubkey import Pubkey

from router.localnet.anchor import event_discriminator
from router.localnet.drift.enums import OrderAction, OrderExplanation
from router.localnet.drift.layouts import Order, User
from router.localnet.drift.market_layouts import AMM, SpotMarket

__all__ = [
    "FillFigures",
    "Liquidation",
    "OrderParty",
    "deposit_record",
    "funding_payment_record",
    "funding_rate_record",
    "liquidation_record",
    "new_user_record",
    "order_action_record",
    "order_record",
    "settle_pnl_record",
    "spot_interest_record",
]


def _wide(value: int, *, signed: bool = False) -> bytes:
    return value.to_bytes(16, "little", signed=signed)


def _some(letter: str, value: int | None) -> bytes:
    return b"\0" if value is None else b"\1" + struct.pack("<" + letter, value)


def _some_key(key: Pubkey | None) -> bytes:
    return b"\0" if key is None else b"\1" + bytes(key)


class OrderParty(msgspec.Struct, frozen=True):
    """A user and its order, as it stood when the event was printed."""

    user: Pubkey
    order: Order


class FillFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a fill was: base in 1e9, all quote amounts in 1e6."""

    record_id: int
    base: int
    quote: int
    taker_fee: int
    maker_rebate: int | None = None
    surplus: int | None = None


def order_record(now: int, user: Pubkey, order: Order) -> bytes:
    """Return the event of a placed order."""
    return event_discriminator("OrderRecord") + struct.pack("<q", now) + bytes(user) + order.encode()


def _party(party: OrderParty | None) -> bytes:
    if party is None:
        return b"\0" * 6
    order = party.order
    return b"".join(
        (
            _some_key(party.user),
            _some("I", order.order_id),
            _some("B", order.direction),
            _some("Q", order.base_asset_amount),
            _some("Q", order.base_asset_amount_filled),
            _some("Q", order.quote_asset_amount_filled),
        )
    )


def order_action_record(
    now: int,
    action: OrderAction,
    explanation: OrderExplanation,
    *,
    taker: OrderParty | None,
    maker: OrderParty | None = None,
    filler: Pubkey | None = None,
    filler_reward: int | None = None,
    fill: FillFigures | None = None,
    trigger_fee: int | None = None,
    oracle_price: int,
) -> bytes:
    """Return the event of an order placed, filled, triggered or cancelled; it ends at the oracle price in this build.

    What a triggered order's owner paid for that (1e6), `trigger_fee`, stands in the place of the taker's fee.
    """
    order = taker.order if taker is not None else maker.order if maker is not None else None
    if order is None:
        raise ValueError("an order event needs a taker or a maker")
    rebate = None if fill is None or fill.maker_rebate is None else -fill.maker_rebate
    return b"".join(
        (
            event_discriminator("OrderActionRecord"),
            struct.pack("<qBBHB", now, action, explanation, order.market_index, order.market_type),
            _some_key(filler),
            _some("Q", filler_reward),
            _some("Q", None if fill is None else fill.record_id),
            _some("Q", None if fill is None else fill.base),
            _some("Q", None if fill is None else fill.quote),
            _some("Q", trigger_fee if fill is None else fill.taker_fee),
            _some("q", rebate),
            _some("I", None),
            _some("q", None if fill is None else fill.surplus),
            _some("Q", None),
            _party(taker),
            _party(maker),
            struct.pack("<q", oracle_price),
        )
    )


def new_user_record(now: int, user: Pubkey, account: User, referrer: Pubkey) -> bytes:
    """Return the event of a new sub-account."""
    fixed = struct.pack("<H32s", account.sub_account_id, account.name)
    parts = (struct.pack("<q", now), bytes(account.authority), bytes(user), fixed, bytes(referrer))
    return event_discriminator("NewUserRecord") + b"".join(parts)


def deposit_record(
    now: int,
    user: Pubkey,
    account: User,
    market: SpotMarket,
    *,
    withdraw: bool,
    record_id: int,
    amount: int,
    oracle_price: int,
    explanation: int,
) -> bytes:
    """Return the event of a deposit or withdrawal; `amount` in the token's smallest unit."""
    return b"".join(
        (
            event_discriminator("DepositRecord"),
            struct.pack("<q", now),
            bytes(account.authority),
            bytes(user),
            struct.pack("<BQQHq", withdraw, record_id, amount, market.market_index, oracle_price),
            _wide(market.deposit_balance),
            _wide(market.borrow_balance),
            _wide(market.cumulative_deposit_interest),
            _wide(market.cumulative_borrow_interest),
            struct.pack("<QQB", account.total_deposits, account.total_withdraws, explanation),
            b"\0",
        )
    )


def spot_interest_record(now: int, market: SpotMarket) -> bytes:
    """Return the event of interest paid on a spot market."""
    return b"".join(
        (
            event_discriminator("SpotInterestRecord"),
            struct.pack("<qH", now, market.market_index),
            _wide(market.deposit_balance),
            _wide(market.cumulative_deposit_interest),
            _wide(market.borrow_balance),
            _wide(market.cumulative_borrow_interest),
            struct.pack("<III", market.optimal_utilization, market.optimal_borrow_rate, market.max_borrow_rate),
        )
    )


def settle_pnl_record(
    now: int, user: Pubkey, market_index: int, pnl: int, *, base: int, quote_after: int, entry: int, price: int
) -> bytes:
    """Return the event of PnL settled into the deposit; amounts in 1e6, base in 1e9."""
    fixed = struct.pack("<qqqqB", base, quote_after, entry, price, 0)
    head = struct.pack("<q", now) + bytes(user) + struct.pack("<H", market_index)
    return event_discriminator("SettlePnlRecord") + head + _wide(pnl, signed=True) + fixed


def funding_payment_record(
    now: int, user: Pubkey, authority: Pubkey, market_index: int, payment: int, *, base: int, rate_before: int, amm: AMM
) -> bytes:
    """Return the event of funding paid by or to a position; payment in 1e6."""
    return b"".join(
        (
            event_discriminator("FundingPaymentRecord"),
            struct.pack("<q", now),
            bytes(authority),
            bytes(user),
            struct.pack("<Hqqq", market_index, payment, base, rate_before),
            _wide(amm.cumulative_funding_rate_long, signed=True),
            _wide(amm.cumulative_funding_rate_short, signed=True),
        )
    )


def funding_rate_record(
    now: int,
    market_index: int,
    amm: AMM,
    *,
    record_id: int,
    rates: tuple[int, int, int],
    oracle_average: int,
    mark: int,
) -> bytes:
    """Return the event of a new funding rate (1e9): rate, and the ones for longs and shorts."""
    rate, long_rate, short_rate = rates
    return b"".join(
        (
            event_discriminator("FundingRateRecord"),
            struct.pack("<qQHq", now, record_id, market_index, rate),
            _wide(long_rate, signed=True),
            _wide(short_rate, signed=True),
            _wide(amm.cumulative_funding_rate_long, signed=True),
            _wide(amm.cumulative_funding_rate_short, signed=True),
            struct.pack("<qQq", oracle_average, mark, amm.net_revenue_since_last_funding),
            _wide(amm.base_asset_amount_with_amm, signed=True),
            _wide(amm.base_asset_amount_with_unsettled_lp, signed=True),
        )
    )


class Liquidation(msgspec.Struct, frozen=True, kw_only=True):
    """What a liquidation of a perpetual position was: base signed in 1e9 as the user sees it, quote in 1e6.

    Without a transfer, only the market and the price are set.
    """

    market_index: int
    oracle_price: int
    base: int = 0
    quote: int = 0
    fill_record_id: int = 0
    user_order_id: int = 0
    liquidator_order_id: int = 0
    liquidator_fee: int = 0
    insurance_fee: int = 0


# The kinds of liquidation that this one is not: three of tokens and PnL, two of bankruptcy.
_OTHER_LIQUIDATIONS = 60 + 52 + 52 + 52 + 50


def liquidation_record(
    now: int,
    user_key: Pubkey,
    liquidator: Pubkey,
    what: Liquidation,
    *,
    requirement: int,
    collateral: int,
    margin_freed: int,
    liquidation_id: int,
    bankrupt: bool,
    cancelled: Sequence[int],
) -> bytes:
    """Return the event of a perpetual position's liquidation; requirement and collateral as they were before it."""
    return b"".join(
        (
            event_discriminator("LiquidationRecord"),
            struct.pack("<qB", now, 0),
            bytes(user_key),
            bytes(liquidator),
            _wide(requirement),
            _wide(collateral, signed=True),
            struct.pack("<QH?I", margin_freed, liquidation_id, bankrupt, len(cancelled)),
            struct.pack(f"<{len(cancelled)}I", *cancelled),
            struct.pack("<HqqqQQ", what.market_index, what.oracle_price, what.base, what.quote, 0, what.fill_record_id),
            struct.pack("<II", what.user_order_id, what.liquidator_order_id),
            struct.pack("<QQ", what.liquidator_fee, what.insurance_fee),
            bytes(_OTHER_LIQUIDATIONS),
        )
    )
