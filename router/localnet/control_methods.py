"""The world's controls as `localnet_*` methods of the node: one object of parameters in, `true` or a signature out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from solders.pubkey import Pubkey

from router.localnet.drift.enums import MarketStatus
from router.localnet.wire import Json
from router.localnet.world import World

if TYPE_CHECKING:
    from router.localnet.controls import Controls

__all__ = ["register_controls"]

P = TypeVar("P", bound=msgspec.Struct)


class _Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a control."""


class _OraclePrice(_Params, frozen=True, kw_only=True):
    market: str
    price: Decimal
    amm_follows: bool = True


class _Freeze(_Params, frozen=True, kw_only=True):
    market: str
    frozen: bool = True


class _Confidence(_Params, frozen=True, kw_only=True):
    market: str
    confidence: Decimal


class _Cap(_Params, frozen=True, kw_only=True):
    market: str
    base: Decimal


class _Cash(_Params, frozen=True, kw_only=True):
    usd: Decimal


class _Owned(_Params, frozen=True, kw_only=True):
    """A control of one account: the world's trader's when no wallet is named."""

    authority: str | None = None

    def key(self) -> Pubkey | None:
        """Return the wallet whose account is meant."""
        return None if self.authority is None else Pubkey.from_string(self.authority)


class _Usd(_Owned, frozen=True, kw_only=True):
    usd: Decimal


class _UserSwitch(_Owned, frozen=True, kw_only=True):
    on: bool = True


class _Funds(_Params, frozen=True, kw_only=True):
    address: str
    sol: Decimal = Decimal(0)
    usdc: Decimal = Decimal(0)


class _MakerOrder(_Params, frozen=True, kw_only=True):
    market: str
    side: Literal["long", "short"]
    base: Decimal
    price: Decimal


class _Liquidate(_Params, frozen=True, kw_only=True):
    market: str
    collateral_bps: int = 300


class _ForeignTrade(_Params, frozen=True, kw_only=True):
    market: str
    side: Literal["long", "short"]
    base: Decimal
    own_key: bool = False


class _Pause(_Params, frozen=True, kw_only=True):
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


class _Status(_Params, frozen=True, kw_only=True):
    market: str
    status: _StatusName
    expires_in_s: int | None = None


class _Auction(_Params, frozen=True, kw_only=True):
    slots: int


class _Switch(_Params, frozen=True, kw_only=True):
    on: bool = True


class _Running(_Params, frozen=True, kw_only=True):
    running: bool = True


def register_controls(controls: Controls) -> None:
    """Put the controls on the wire of their cluster."""

    def add(name: str, kind: type[P], act: Callable[[P], str | None]) -> None:
        controls.cluster.register_control(name, _handler(kind, act))

    add("localnet_setOraclePrice", _OraclePrice, lambda each: _set_oracle_price(controls, each))
    add("localnet_freezeOracle", _Freeze, lambda each: controls.freeze_oracle(each.market, frozen=each.frozen))
    add(
        "localnet_setOracleConfidence",
        _Confidence,
        lambda each: controls.set_oracle_confidence(each.market, each.confidence),
    )
    add("localnet_setOpenInterestCap", _Cap, lambda each: controls.set_open_interest_cap(each.market, each.base))
    add("localnet_setDepositCap", _Cash, lambda each: controls.set_deposit_cap(each.usd))
    add("localnet_pause", _Pause, lambda each: controls.pause(each.what, each.market, paused=each.paused))
    add("localnet_setMarketStatus", _Status, lambda each: _set_market_status(controls, each))
    add("localnet_setAuction", _Auction, lambda each: controls.set_auction(each.slots))
    add("localnet_halt", _Switch, lambda each: controls.halt(on=each.on))
    add(
        "localnet_setUserReduceOnly",
        _UserSwitch,
        lambda each: controls.set_user_reduce_only(on=each.on, authority=each.key()),
    )
    add("localnet_setCollateral", _Usd, lambda each: controls.set_collateral(each.usd, authority=each.key()))
    add("localnet_withdrawCollateral", _Usd, lambda each: controls.withdraw_collateral(each.usd, authority=each.key()))
    add("localnet_fundWallet", _Funds, lambda each: _fund_wallet(controls, each))
    add(
        "localnet_makerOrder",
        _MakerOrder,
        lambda each: controls.maker_order(each.market, each.side, each.base, each.price),
    )
    add("localnet_makerCancel", _Params, lambda _: controls.maker_cancel())
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
    add("localnet_keeper", _Running, lambda each: controls.run_keeper(running=each.running))
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


def _handler(kind: type[P], act: Callable[[P], str | None]) -> Callable[[bytes], Json]:
    decoder = msgspec.json.Decoder(kind)

    def handler(body: bytes) -> Json:
        try:
            answer = act(decoder.decode(body))
        except KeyError as error:
            raise ValueError(f"no market {error}") from None
        return True if answer is None else answer

    return handler


def _set_oracle_price(controls: Controls, each: _OraclePrice) -> None:
    if each.price <= 0:
        raise ValueError("a price is positive")
    controls.set_oracle_price(each.market, each.price, amm_follows=each.amm_follows)


def _fund_wallet(controls: Controls, each: _Funds) -> None:
    controls.fund_wallet(Pubkey.from_string(each.address), sol=each.sol, usdc=each.usdc)


def _set_market_status(controls: Controls, each: _Status) -> None:
    controls.set_market_status(each.market, _STATUS[each.status], expires_in_s=each.expires_in_s)
