"""Drift's controls as `localnet_*` methods of the node: one object of parameters in, `true` or a signature out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from solders.pubkey import Pubkey

from router.localnet.control_params import (
    Confidence,
    ForeignTrade,
    Freeze,
    OwnedSwitch,
    OwnedUsd,
    Params,
    Running,
    Switch,
    control,
    positive,
)
from router.localnet.drift.enums import MarketStatus
from router.localnet.wire import Json
from router.localnet.world import World

if TYPE_CHECKING:
    from router.localnet.controls import Controls

__all__ = ["register_controls"]

P = TypeVar("P", bound=msgspec.Struct)


class _OraclePrice(Params, frozen=True, kw_only=True):
    market: str
    price: Decimal
    amm_follows: bool = True


class _Cap(Params, frozen=True, kw_only=True):
    market: str
    base: Decimal


class _Cash(Params, frozen=True, kw_only=True):
    usd: Decimal


class _Funds(Params, frozen=True, kw_only=True):
    address: str
    sol: Decimal = Decimal(0)
    usdc: Decimal = Decimal(0)


class _MakerOrder(Params, frozen=True, kw_only=True):
    market: str
    side: Literal["long", "short"]
    base: Decimal
    price: Decimal


class _Liquidate(Params, frozen=True, kw_only=True):
    market: str
    collateral_bps: int = 300


class _ForeignTrade(ForeignTrade, frozen=True, kw_only=True):
    own_key: bool = False


class _Pause(Params, frozen=True, kw_only=True):
    what: str
    market: str | None = None
    paused: bool = True


_StatusName = Literal["initialized", "active", "reduce_only", "settlement", "delisted"]
_STATUS: dict[_StatusName, MarketStatus] = {
    "initialized": MarketStatus.INITIALIZED,
    "active": MarketStatus.ACTIVE,
    "reduce_only": MarketStatus.REDUCE_ONLY,
    "settlement": MarketStatus.SETTLEMENT,
    "delisted": MarketStatus.DELISTED,
}


class _Status(Params, frozen=True, kw_only=True):
    market: str
    status: _StatusName
    expires_in_s: int | None = None


class _Auction(Params, frozen=True, kw_only=True):
    slots: int


def register_controls(controls: Controls) -> None:
    """Put the controls on the wire of their cluster."""

    def add(name: str, kind: type[P], act: Callable[[P], str | None]) -> None:
        controls.cluster.register_control(name, control(kind, act))

    add("localnet_setOraclePrice", _OraclePrice, lambda each: _set_oracle_price(controls, each))
    add("localnet_freezeOracle", Freeze, lambda each: controls.freeze_oracle(each.market, frozen=each.frozen))
    add(
        "localnet_setOracleConfidence",
        Confidence,
        lambda each: controls.set_oracle_confidence(each.market, each.confidence),
    )
    add("localnet_setOpenInterestCap", _Cap, lambda each: controls.set_open_interest_cap(each.market, each.base))
    add("localnet_setDepositCap", _Cash, lambda each: controls.set_deposit_cap(each.usd))
    add("localnet_pause", _Pause, lambda each: controls.pause(each.what, each.market, paused=each.paused))
    add("localnet_setMarketStatus", _Status, lambda each: _set_market_status(controls, each))
    add("localnet_setAuction", _Auction, lambda each: controls.set_auction(each.slots))
    add("localnet_halt", Switch, lambda each: controls.halt(on=each.on))
    add(
        "localnet_setUserReduceOnly",
        OwnedSwitch,
        lambda each: controls.set_user_reduce_only(on=each.on, authority=each.key()),
    )
    add("localnet_setCollateral", OwnedUsd, lambda each: controls.set_collateral(each.usd, authority=each.key()))
    add(
        "localnet_withdrawCollateral",
        OwnedUsd,
        lambda each: controls.withdraw_collateral(each.usd, authority=each.key()),
    )
    add("localnet_fundWallet", _Funds, lambda each: _fund_wallet(controls, each))
    add(
        "localnet_makerOrder",
        _MakerOrder,
        lambda each: controls.maker_order(each.market, each.side, each.base, each.price),
    )
    add("localnet_makerCancel", Params, lambda _: controls.maker_cancel())
    add(
        "localnet_liquidate",
        _Liquidate,
        lambda each: controls.liquidate(each.market, collateral_bps=each.collateral_bps),
    )
    add(
        "localnet_foreignTrade",
        _ForeignTrade,
        lambda each: controls.foreign_trade(each.market, each.side, each.base, own_key=each.own_key),
    )
    add("localnet_keeper", Running, lambda each: controls.run_keeper(running=each.running))
    controls.cluster.register_control("localnet_world", lambda _: _describe(controls.world))


def _describe(world: World) -> dict[str, Json]:
    """Return the world's addresses."""
    return {
        "programId": str(world.program_id),
        "state": str(world.state),
        "usdcMint": str(world.usdc_mint),
        "trader": str(world.trader.pubkey()),
        "maker": str(world.maker.wallet.pubkey()),
        "keeper": str(world.keeper.wallet.pubkey()),
        "markets": {
            market.terms.symbol: {"address": str(market.address), "oracle": str(market.oracle)}
            for market in world.markets
        },
    }


def _set_oracle_price(controls: Controls, each: _OraclePrice) -> None:
    """Move the price wherever the market is listed; raise `KeyError` where no venue lists it."""
    price, listed = positive(each.price), any(place.terms.symbol == each.market for place in controls.world.markets)
    if listed:
        controls.set_oracle_price(each.market, price, amm_follows=each.amm_follows)
    elsewhere = [follow(each.market, price, each.amm_follows) for follow in controls.price_followers]
    if not listed and not any(elsewhere):
        raise KeyError(each.market)


def _fund_wallet(controls: Controls, each: _Funds) -> None:
    controls.fund_wallet(Pubkey.from_string(each.address), sol=each.sol, usdc=each.usdc)


def _set_market_status(controls: Controls, each: _Status) -> None:
    controls.set_market_status(each.market, _STATUS[each.status], expires_in_s=each.expires_in_s)
