"""Stops and take profits that rest on the venue: reduce-only trigger market orders.

Anybody may set one off once the venue's oracle has *passed* its trigger price (`trigger_order`, version 2.84); it then
is a market order with an auction, which anybody may fill. Three things follow from the program's rules:

- **It has no expiry.** The program never ends a trigger order by `max_ts`, before or after it went off
  (`should_expire_order`): the passing of an expiry would prove nothing, so none is set. A landing that comes late is
  held off by the order lock, and an order that rests ends by its fill, by a cancel, or by a liquidation.
- **It has no price.** A trigger market order takes none; the venue's price bands bound its fill. One with a limit could
  be passed by the price and then protect nothing.
- **It counts as an order, not as size**, until it goes off: one cent of margin, one of the account's order places.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from solders.pubkey import Pubkey

from providers.base.errors import BelowMinimum, InvalidSize, InvalidTrigger
from providers.base.types import OrderKind, OrderTerms, Side, Trigger
from providers.drift.build import DriftOrder, free_user_order_id
from providers.drift.constants import BASE_PRECISION, PRICE_PRECISION, MarketType, OrderType
from providers.drift.curve import round_size
from providers.drift.errors import drift_refusal
from providers.drift.layouts import Order, User
from providers.drift.quote import close_refusal, direction_of
from providers.drift.reading import Snapshot

__all__ = ["is_placed_by", "plan_trigger", "trigger_price_of"]

_MAX_PRICE: Final = 2**64 - 1


def plan_trigger(
    snapshot: Snapshot, terms: OrderTerms, *, user: User, user_key: Pubkey, taken_ids: Iterable[int] = ()
) -> DriftOrder:
    """Return the order that rests until `terms.trigger` and then closes `terms.size`, rounded down to the step.

    Its size is the lot's, whatever else the slot holds or has lost meanwhile: the program fills no more of a
    reduce-only order than is held. Where the price stands is not looked at: past the trigger, it goes off at once.

    Raises:
        InvalidTrigger: there is no trigger, or none that a price could pass.
        InvalidSize: not a size, or nothing is held on this side.
        BelowMinimum: less than a step, or a part that the AMM would never fill (`close_refusal`).
        NoFreeSlot: every place for an open order is taken.
    """
    if terms.trigger is None or terms.kind is not OrderKind.CLOSE:
        raise InvalidTrigger("a trigger order is a close with a trigger")
    if terms.size <= 0:
        raise InvalidSize(f"{terms.size} is not a size")
    held = snapshot.held_base if terms.side is Side.LONG else -snapshot.held_base
    if held <= 0:
        raise drift_refusal(6010, f"the account holds no {terms.side} {terms.market} to protect")
    market = snapshot.market
    base = round_size(int(terms.size * BASE_PRECISION), market.order_step_size)
    if base == 0:
        raise BelowMinimum(
            f"{terms.size} is less than a step of {Decimal(market.order_step_size) / BASE_PRECISION}",
            raw_code=6059,
            raw_name="OrderAmountTooSmall",
        )
    refusal = close_refusal(snapshot, terms.side, base)
    if refusal is not None:
        raise refusal
    return DriftOrder(
        market=snapshot.listed.symbol,
        market_index=market.market_index,
        user=str(user_key),
        user_order_id=free_user_order_id(user, terms.attempt_id, terms.number, taken_ids),
        next_order_id=user.next_order_id,
        direction=int(direction_of(OrderKind.CLOSE, terms.side)),
        size=base,
        price=0,
        reduce_only=True,
        mode="trigger",
        max_ts=0,
        trigger_price=trigger_price_of(terms.trigger, market.order_tick_size),
        trigger_above=terms.trigger.above,
    )


def trigger_price_of(trigger: Trigger, tick: int) -> int:
    """Return the venue's trigger price (1e6): the last tick that the price has not reached while it is on its way.

    The program fires only once the oracle is *past* it (`order_satisfies_trigger_condition`), and the contract says at
    the price or past it: with the tick before, it fires at the price itself, and at most one tick ahead of it.

    Raises:
        InvalidTrigger: no price of the venue's lies before it, or it is beyond what the venue can write.
    """
    rounding = ROUND_CEILING if trigger.above else ROUND_FLOOR
    ticks = int((trigger.price * PRICE_PRECISION / tick).to_integral_value(rounding))
    price = (ticks - 1 if trigger.above else ticks + 1) * tick
    if trigger.price <= 0 or not 0 < price <= _MAX_PRICE:
        raise InvalidTrigger(f"the venue has no trigger price for {trigger.price}")
    return price


def is_placed_by(lying: Order, order: DriftOrder) -> bool:
    """Whether an order that lies on the venue is this trigger, by our number and all of its terms.

    Its slot is the caller's to judge: a number is used again once its order has ended.
    """
    return (
        lying.market_type == MarketType.PERP
        and lying.order_type == OrderType.TRIGGER_MARKET
        and lying.order_id >= order.next_order_id
        and (lying.user_order_id, lying.market_index) == (order.user_order_id, order.market_index)
        and (lying.direction, lying.base_asset_amount) == (order.direction, order.size)
        and (lying.trigger_price, lying.fires_above) == (order.trigger_price, order.trigger_above)
        and lying.reduce_only
    )
