"""The program itself: instructions by their first eight bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.mango.addresses import MANGO_PROGRAM
from router.localnet.mango.crank import consume_events, deactivate_position, update_funding_now
from router.localnet.mango.execution import Execution
from router.localnet.mango.funds import (
    account_close,
    account_create,
    account_create_v2,
    account_expand_v2,
    deposit,
    withdraw,
)
from router.localnet.mango.liquidation import liquidate_base_or_pnl
from router.localnet.mango.numbers import FixedOverflow
from router.localnet.mango.orders import (
    cancel_all_orders,
    cancel_all_orders_by_side,
    cancel_order,
    cancel_order_by_client_order_id,
    place_order,
    place_order_pegged,
    place_order_pegged_v2,
    place_order_v2,
)
from router.localnet.mango.refusals import refusal
from router.localnet.mango.settling import settle_pnl
from router.localnet.programs import Call, Effects

__all__ = ["MangoModel", "halt_marker"]

_DISCRIMINATOR = 8


@lru_cache
def halt_marker(program_id: Pubkey) -> Pubkey:
    """Return the account whose existence halts the model: every instruction is then answered with 101.

    That is what a program answers whose instructions were taken out.
    """
    return Pubkey.find_program_address([b"localnet_halted"], program_id)[0]


class _Handler(msgspec.Struct, frozen=True):
    """What runs an instruction (it returns the compute units), and the name that is printed."""

    run: Callable[[Execution], int]
    name: str


def _instructions() -> dict[str, Callable[[Execution], int]]:
    return {
        "perp_place_order": place_order,
        "perp_place_order_v2": place_order_v2,
        "perp_place_order_pegged": place_order_pegged,
        "perp_place_order_pegged_v2": place_order_pegged_v2,
        "perp_cancel_order": cancel_order,
        "perp_cancel_order_by_client_order_id": cancel_order_by_client_order_id,
        "perp_cancel_all_orders": cancel_all_orders,
        "perp_cancel_all_orders_by_side": cancel_all_orders_by_side,
        "perp_consume_events": consume_events,
        "perp_update_funding": update_funding_now,
        "perp_deactivate_position": deactivate_position,
        "perp_settle_pnl": settle_pnl,
        "perp_liq_base_or_positive_pnl": liquidate_base_or_pnl,
        "account_create": account_create,
        "account_create_v2": account_create_v2,
        "account_expand_v2": account_expand_v2,
        "account_close": account_close,
        "token_deposit": deposit,
        "token_withdraw": withdraw,
    }


def _handlers(table: Mapping[str, Callable[[Execution], int]]) -> dict[bytes, _Handler]:
    return {
        instruction_discriminator(name): _Handler(run, name.title().replace("_", "")) for name, run in table.items()
    }


class MangoModel:
    """The Mango v4 program in Python (0.24), as its published source behaves.

    What it does not model is answered like an instruction that the program does not have: spot markets, conditional
    swaps, flash loans, liquidations of tokens and losses, administration.

    Args:
        program_id: where it stands.
    """

    def __init__(self, program_id: Pubkey = MANGO_PROGRAM) -> None:
        self._program_id = program_id
        self._handlers = _handlers(_instructions())

    @property
    def program_id(self) -> Pubkey:
        """The address that the model stands at."""
        return self._program_id

    def execute(self, call: Call) -> Effects:
        """Run one instruction.

        Raises:
            ModelRefusal: with the program's own code; a `ModelPanic` where the program aborts.
        """
        if len(call.data) < _DISCRIMINATOR:
            raise refusal("InstructionMissing")
        halted = call.read(halt_marker(self._program_id)) is not None
        handler = None if halted else self._handlers.get(call.data[:_DISCRIMINATOR])
        if handler is None:
            raise refusal("InstructionFallbackNotFound")
        run = Execution(call, handler.name)
        try:
            units = handler.run(run)
        except FixedOverflow as error:
            raise run.panic(str(error)) from error
        return run.effects(units)
