"""Whether the program still answers instructions. Its accounts cannot tell: a halted program's read healthy."""

from __future__ import annotations

import logging
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from providers.base.errors import ConnectionFailed, ProviderError, UnsupportedProgram, VenueHalted
from providers.drift.config import DriftConfig
from providers.drift.errors import classify
from providers.solana.cluster import SolanaCluster
from providers.solana.errors import error_of_transaction
from providers.solana.idl import discriminator
from providers.solana.transactions import compile_message, message_bytes, required_signers, wire_of

__all__ = ["HaltWatch"]

logger = logging.getLogger(__name__)

# A cancel without any account: a program that has the instruction complains about the accounts, one that was emptied
# does not know the instruction (Anchor's code 101). Nothing is signed and nothing is sent.
_PROBE: Final = discriminator("global", "cancel_order") + b"\0"


class HaltWatch:
    """Asks by simulation, at most every `halt_check_s`, and remembers the answer.

    Args:
        cluster: nodes and clock.
        config: program, and how often.
        payer: any funded wallet, for the simulation only; null: nothing is asked, and nothing is known.
    """

    def __init__(self, cluster: SolanaCluster, config: DriftConfig, payer: Pubkey | None) -> None:
        self._cluster = cluster
        self._config = config
        self._payer = payer
        self._asked_at: float | None = None
        self._error: ProviderError | None = None

    def note(self, error: ProviderError) -> None:
        """Remember what an order's own simulation has just answered."""
        if isinstance(error, VenueHalted | UnsupportedProgram):
            self._error = error
            self._asked_at = self._cluster.clock.monotonic()

    async def error(self) -> ProviderError | None:
        """Return why the program takes nothing, or null. A node that cannot be asked leaves the answer as it was."""
        now = self._cluster.clock.monotonic()
        if self._payer is None or (self._asked_at is not None and now - self._asked_at < self._config.halt_check_s):
            return self._error
        self._asked_at = now
        try:
            self._error = await self._ask(self._payer)
        except ConnectionFailed as error:
            logger.warning("drift_halt_check_failed", extra={"code": error.code, "detail": error.detail})
        return self._error

    async def check(self) -> None:
        """Raise why the program takes nothing.

        Raises:
            VenueHalted: it answers no instruction.
            UnsupportedProgram: it is not there, or not a program.
        """
        error = await self.error()
        if error is not None:
            raise type(error)(error.detail, raw_code=error.raw_code, raw_name=error.raw_name)

    async def _ask(self, payer: Pubkey) -> ProviderError | None:
        blockhash = await self._cluster.pool.latest_blockhash()
        instruction = Instruction(self._config.program_id, _PROBE, [])
        message = compile_message(payer, [instruction], [], blockhash.blockhash)
        unsigned = wire_of(message_bytes(message), [bytes(64)] * len(required_signers(message)))
        simulation = await self._cluster.pool.simulate(unsigned, min_context_slot=blockhash.slot)
        if simulation.err is None:
            return None
        if simulation.err.instruction_index is None:
            error = error_of_transaction(simulation.err.kind)
        else:
            error = classify(simulation.err, simulation.logs, program_id=str(self._config.program_id))
        return error if isinstance(error, VenueHalted | UnsupportedProgram) else None
