"""The program itself: instructions by their first eight bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

import msgspec
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.drift.addresses import DRIFT_PROGRAM
from router.localnet.drift.execution import Execution
from router.localnet.drift.funds import deposit, initialize_user, initialize_user_stats, withdraw
from router.localnet.drift.handlers import cancel_one, cancel_orders, fill_perp_order, place_and_take, place_perp_order
from router.localnet.drift.liquidation import liquidate_perp
from router.localnet.drift.refusals import refusal
from router.localnet.drift.settling import settle_pnl
from router.localnet.drift.triggering import trigger_order
from router.localnet.programs import Call, Effects

__all__ = ["DriftModel", "halt_marker"]

_DISCRIMINATOR = 8


@lru_cache
def halt_marker(program_id: Pubkey) -> Pubkey:
    """Return the account whose existence halts the model: every instruction is then answered with 101.

    That is what the venue's program answers since its instructions were taken out; the binary knows no such account.
    """
    return Pubkey.find_program_address([b"localnet_halted"], program_id)[0]


class _Handler(msgspec.Struct, frozen=True):
    """What runs an instruction (it returns the compute units), and the name that is printed."""

    run: Callable[[Execution], int]
    name: str


def _handlers() -> dict[bytes, _Handler]:
    table: dict[str, Callable[[Execution], int]] = {
        "initialize_user_stats": initialize_user_stats,
        "initialize_user": initialize_user,
        "deposit": deposit,
        "withdraw": withdraw,
        "place_perp_order": place_perp_order,
        "place_and_take_perp_order": place_and_take,
        "fill_perp_order": fill_perp_order,
        "trigger_order": trigger_order,
        "cancel_order": cancel_one,
        "cancel_orders": cancel_orders,
        "settle_pnl": settle_pnl,
        "liquidate_perp": liquidate_perp,
    }
    return {
        instruction_discriminator(name): _Handler(run, name.title().replace("_", "")) for name, run in table.items()
    }


class DriftModel:
    """The Drift program in Python (build 2.84, as its mainnet binary behaves).

    What it does not model is answered like an instruction that the program does not have. Liquidity providers,
    just-in-time fills by the AMM, referrals and curve updates are left out.

    Args:
        program_id: where it stands.
    """

    def __init__(self, program_id: Pubkey = DRIFT_PROGRAM) -> None:
        self._program_id = program_id
        self._handlers = _handlers()

    @property
    def program_id(self) -> Pubkey:
        """The address that the model stands at."""
        return self._program_id

    def execute(self, call: Call) -> Effects:
        """Run one instruction.

        Raises:
            ModelRefusal: with the program's own code.
        """
        halted = call.read(halt_marker(self._program_id)) is not None
        handler = None if halted else self._handlers.get(call.data[:_DISCRIMINATOR])
        if len(call.data) < _DISCRIMINATOR:
            raise refusal("InstructionMissing")
        if handler is None:
            raise refusal("InstructionFallbackNotFound")
        run = Execution(call, handler.name)
        try:
            units = handler.run(run)
        except (struct.error, IndexError, ValueError) as error:
            raise run.refuse("InstructionDidNotDeserialize") from error
        except ZeroDivisionError as error:
            raise run.refuse("MathError") from error
        return run.effects(units)
