"""Jupiter's controls as `localnet_jupiter_*` methods of the node: one object in, `true` or a signature out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from solders.pubkey import Pubkey

from router.localnet.control_params import Params, Running, Switch, control, positive
from router.localnet.jupiter.world import JUPITER_MARKETS, JupiterWorld
from router.localnet.wire import Json

if TYPE_CHECKING:
    from router.localnet.jupiter.controls import JupiterControls

__all__ = ["register_jupiter_controls"]

P = TypeVar("P", bound=msgspec.Struct)
_SideName = Literal["long", "short"]


class _OraclePrice(Params, frozen=True, kw_only=True):
    symbol: str
    price: Decimal


class _Freeze(Params, frozen=True, kw_only=True):
    symbol: str
    frozen: bool = True


class _Pause(Params, frozen=True, kw_only=True):
    what: Literal["increase", "decrease", "withdrawal", "liquidate"]
    market: str | None = None
    paused: bool = True


class _FreeTokens(Params, frozen=True, kw_only=True):
    symbol: str
    amount: Decimal


class _Caps(Params, frozen=True, kw_only=True):
    market: str
    long_usd: Decimal | None = None
    short_usd: Decimal | None = None
    position_usd: Decimal | None = None


class _Leverage(Params, frozen=True, kw_only=True):
    market: str
    leverage: Decimal


class _Seconds(Params, frozen=True, kw_only=True):
    seconds: int


class _Slots(Params, frozen=True, kw_only=True):
    slots: int


class _Reject(Params, frozen=True, kw_only=True):
    reason: str | None = "not executable"


class _Funds(Params, frozen=True, kw_only=True):
    address: str
    symbol: str
    amount: Decimal


class _ForeignTrade(Params, frozen=True, kw_only=True):
    market: str
    side: _SideName
    size_usd: Decimal
    reduce: bool = False
    instant: bool = False


class _Slot(Params, frozen=True, kw_only=True):
    market: str
    side: _SideName


def register_jupiter_controls(controls: JupiterControls) -> None:
    """Put the controls on the wire of their cluster."""

    def add(name: str, kind: type[P], act: Callable[[P], str | None]) -> None:
        controls.cluster.register_control(f"localnet_jupiter_{name}", control(kind, act))

    add("setOraclePrice", _OraclePrice, lambda each: controls.set_oracle_price(each.symbol, positive(each.price)))
    add("freezeOracle", _Freeze, lambda each: controls.freeze_oracle(each.symbol, frozen=each.frozen))
    add("halt", Switch, lambda each: controls.halt(on=each.on))
    add("pause", _Pause, lambda each: controls.pause(each.what, each.market, paused=each.paused))
    add("disableOwnerClose", Switch, lambda each: controls.disable_owner_close(on=each.on))
    add("setFreeTokens", _FreeTokens, lambda each: controls.set_free_tokens(each.symbol, each.amount))
    add(
        "setCaps",
        _Caps,
        lambda each: controls.set_caps(
            each.market, long_usd=each.long_usd, short_usd=each.short_usd, position_usd=each.position_usd
        ),
    )
    add("setMaxLeverage", _Leverage, lambda each: controls.set_max_leverage(each.market, positive(each.leverage)))
    add("setExecutionWindow", _Seconds, lambda each: controls.set_execution_window(each.seconds))
    add("keeper", Running, lambda each: controls.run_keeper(running=each.running))
    add("setKeeperDelay", _Slots, lambda each: controls.set_keeper_delay(each.slots))
    add("reject", _Reject, lambda each: controls.reject(each.reason))
    add("separateSteps", Switch, lambda each: controls.separate_steps(on=each.on))
    add("dieBetweenSteps", Params, lambda _: controls.die_between_steps())
    add("revive", Params, lambda _: controls.revive())
    add(
        "fundWallet",
        _Funds,
        lambda each: controls.fund_wallet(Pubkey.from_string(each.address), each.symbol, each.amount),
    )
    add(
        "foreignTrade",
        _ForeignTrade,
        lambda each: controls.foreign_trade(
            each.market, each.side, each.size_usd, reduce=each.reduce, instant=each.instant
        ),
    )
    add("liquidate", _Slot, lambda each: controls.liquidate(each.market, each.side))
    controls.cluster.register_control("localnet_jupiter_world", lambda _: _describe(controls.world))


def _describe(world: JupiterWorld) -> dict[str, Json]:
    """Return the venue's addresses."""
    return {
        "programId": str(world.program_id),
        "perpetuals": str(world.perpetuals),
        "pool": str(world.pool),
        "trader": str(world.trader.pubkey()),
        "keeper": str(world.keeper.pubkey()),
        "markets": list(JUPITER_MARKETS),
        "custodies": {
            custody.terms.symbol: {
                "address": str(custody.address),
                "mint": str(custody.mint),
                "vault": str(custody.vault),
                "oracle": str(custody.feed),
            }
            for custody in world.custodies
        },
    }
