"""Mango's controls as `localnet_mango_*` methods of the node: one object in, `true` or a signature out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from router.localnet.control_params import (
    Confidence,
    ForeignTrade,
    Freeze,
    MarketSwitch,
    OwnedSwitch,
    OwnedUsd,
    Params,
    Running,
    Switch,
    control,
    positive,
)
from router.localnet.mango.enums import IxGate
from router.localnet.mango.world import MangoWorld
from router.localnet.wire import Json

if TYPE_CHECKING:
    from router.localnet.mango.controls import MangoControls

__all__ = ["register_mango_controls"]

P = TypeVar("P", bound=msgspec.Struct)


class _OraclePrice(Params, frozen=True, kw_only=True):
    market: str
    price: Decimal
    book_follows: bool = True


class _Gate(Params, frozen=True, kw_only=True):
    instruction: str
    closed: bool = True


class _Book(Params, frozen=True, kw_only=True):
    market: str
    side: Literal["bids", "asks"]


class _Queue(Params, frozen=True, kw_only=True):
    market: str
    full: bool = True


class _Liquidate(Params, frozen=True, kw_only=True):
    market: str
    margin_share: Decimal = Decimal("0.8")


def register_mango_controls(controls: MangoControls) -> None:
    """Put the controls on the wire of their cluster."""

    def add(name: str, kind: type[P], act: Callable[[P], str | None]) -> None:
        controls.cluster.register_control(f"localnet_mango_{name}", control(kind, act))

    add(
        "setOraclePrice",
        _OraclePrice,
        lambda each: controls.set_oracle_price(each.market, positive(each.price), book_follows=each.book_follows),
    )
    add("freezeOracle", Freeze, lambda each: controls.freeze_oracle(each.market, frozen=each.frozen))
    add("setOracleConfidence", Confidence, lambda each: controls.set_oracle_confidence(each.market, each.confidence))
    add("halt", Switch, lambda each: controls.halt(on=each.on))
    add("setIxGate", _Gate, lambda each: controls.set_ix_gate(_gate(each.instruction), closed=each.closed))
    add("setReduceOnly", MarketSwitch, lambda each: controls.set_reduce_only(each.market, on=each.on))
    add("setForceClose", MarketSwitch, lambda each: controls.set_force_close(each.market, on=each.on))
    add("emptyBook", _Book, lambda each: controls.empty_book(each.market, each.side))
    add("fillEventQueue", _Queue, lambda each: controls.fill_event_queue(each.market, full=each.full))
    add("setCollateral", OwnedUsd, lambda each: controls.set_collateral(each.usd, authority=each.key()))
    add(
        "setBeingLiquidated",
        OwnedSwitch,
        lambda each: controls.set_being_liquidated(on=each.on, authority=each.key()),
    )
    add("liquidate", _Liquidate, lambda each: controls.liquidate(each.market, margin_share=each.margin_share))
    add("foreignTrade", ForeignTrade, lambda each: controls.foreign_trade(each.market, each.side, each.base))
    add("maker", Running, lambda each: controls.run_maker(running=each.running))
    add("cranker", Running, lambda each: controls.run_cranker(running=each.running))
    controls.cluster.register_control("localnet_mango_world", lambda _: _describe(controls.world))


def _gate(name: str) -> IxGate:
    """Return the bit of an instruction by its name (`perp_place_order`)."""
    try:
        return IxGate[name.upper()]
    except KeyError:
        known = ", ".join(each.name.lower() for each in IxGate)
        raise ValueError(f"no gate {name!r}; there are {known}") from None


def _describe(world: MangoWorld) -> dict[str, Json]:
    """Return the venue's addresses."""
    return {
        "programId": str(world.program_id),
        "group": str(world.group),
        "usdcMint": str(world.usdc_mint),
        "trader": str(world.trader.pubkey()),
        "account": str(world.trader_account.account),
        "maker": str(world.maker.wallet.pubkey()),
        "keeper": str(world.keeper.wallet.pubkey()),
        "markets": {
            market.terms.symbol: {
                "address": str(market.address),
                "oracle": str(market.oracle),
                "bids": str(market.bids),
                "asks": str(market.asks),
                "eventQueue": str(market.event_queue),
            }
            for market in world.markets
        },
    }
