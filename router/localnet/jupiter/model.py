"""The program itself: instructions by their first eight bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import msgspec
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.jupiter.addresses import PERPS_PROGRAM
from router.localnet.jupiter.decrease import (
    DECREASE_POSITION,
    DECREASE_WITH_TPSL,
    LIQUIDATE,
    decrease_position,
    decrease_with_tpsl,
    liquidate,
)
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.increase import INCREASE_POSITION, increase_position
from router.localnet.jupiter.instant import INSTANT_DECREASE, INSTANT_INCREASE, instant_decrease, instant_increase
from router.localnet.jupiter.refusals import refusal
from router.localnet.jupiter.requests import (
    CLOSE_2,
    CLOSE_3,
    CREATE_DECREASE,
    CREATE_DECREASE_MARKET,
    CREATE_INCREASE,
    UPDATE_DECREASE,
    close_request,
    create_decrease,
    create_decrease_market,
    create_increase,
    update_decrease,
)
from router.localnet.programs import Call, Effects

__all__ = ["JupiterModel", "halt_marker"]

_DISCRIMINATOR = 8


@lru_cache
def halt_marker() -> Pubkey:
    """Return the account whose existence halts the model: every instruction is then answered with 101.

    That is what a program answers whose instructions were taken out.
    """
    return Pubkey.find_program_address([b"localnet_halted"], PERPS_PROGRAM)[0]


class _Handler(msgspec.Struct, frozen=True):
    """What runs an instruction (it returns the compute units), its accounts, and the name that is printed."""

    run: Callable[[Execution], int]
    accounts: str
    name: str


def _handlers() -> Mapping[bytes, _Handler]:
    table: dict[str, tuple[Callable[[Execution], int], str]] = {
        "create_increase_position_market_request": (create_increase, CREATE_INCREASE),
        "create_decrease_position_market_request": (create_decrease_market, CREATE_DECREASE_MARKET),
        "create_decrease_position_request2": (create_decrease, CREATE_DECREASE),
        "update_decrease_position_request2": (update_decrease, UPDATE_DECREASE),
        "close_position_request2": (close_request, CLOSE_2),
        "close_position_request3": (close_request, CLOSE_3),
        "increase_position4": (increase_position, INCREASE_POSITION),
        "decrease_position4": (decrease_position, DECREASE_POSITION),
        "decrease_position_with_tpsl": (decrease_with_tpsl, DECREASE_WITH_TPSL),
        "instant_increase_position": (instant_increase, INSTANT_INCREASE),
        "instant_decrease_position": (instant_decrease, INSTANT_DECREASE),
        "liquidate_full_position4": (liquidate, LIQUIDATE),
    }
    return {
        instruction_discriminator(name): _Handler(run, accounts, name.title().replace("_", ""))
        for name, (run, accounts) in table.items()
    }


class JupiterModel:
    """The Jupiter Perps program in Python, as its interface, its documents and its transactions show it.

    Its source is not published; what is guessed is said where it is done. What it does not model is answered like an
    instruction that the program does not have: liquidity, swaps, loans, limit orders and stops that a keeper signs.

    Args:
        keepers: who may execute requests, and close those of others.
    """

    def __init__(self, keepers: Collection[Pubkey]) -> None:
        self._keepers = frozenset(keepers)
        self._handlers = _handlers()

    @property
    def program_id(self) -> Pubkey:
        """The address that the model stands at."""
        return PERPS_PROGRAM

    def execute(self, call: Call) -> Effects:
        """Run one instruction.

        Raises:
            ModelRefusal: with the program's own code.
        """
        if len(call.data) < _DISCRIMINATOR:
            raise refusal("InstructionMissing")
        halted = call.read(halt_marker()) is not None
        handler = None if halted else self._handlers.get(call.data[:_DISCRIMINATOR])
        if handler is None:
            raise refusal("InstructionFallbackNotFound")
        run = Execution(call, handler.name, handler.accounts, self._keepers)
        return run.effects(handler.run(run))
