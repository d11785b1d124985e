"""Whether a program still answers instructions. Its accounts cannot tell: a halted program's read healthy."""

from __future__ import annotations

import logging
from collections.abc import Callable

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from providers.base.errors import ConnectionFailed, ProviderError, UnsupportedProgram, VenueHalted
from providers.base.types import Lifecycle
from providers.solana.cluster import SolanaCluster
from providers.solana.errors import error_of_transaction
from providers.solana.records import ProgramFailure
from providers.solana.transactions import compile_message, message_bytes, required_signers, wire_of

__all__ = ["HaltWatch", "lifecycle_of"]

logger = logging.getLogger(__name__)


class HaltWatch:
    """Asks by simulation, at most every `max_age_s`, and remembers the answer.

    Args:
        cluster: nodes and clock.
        probe: an instruction that a live program refuses for what it lacks (accounts, arguments), and one that was
            emptied does not know (Anchor's code 101). It is simulated unsigned; nothing is sent.
        classify: the venue's own table: the failure and the logs in, a leaf of `ProviderError` out.
        max_age_s: how often at most.
        payer: any funded wallet, for the simulation only; null: nothing is asked, and nothing is known.
    """

    def __init__(
        self,
        cluster: SolanaCluster,
        *,
        probe: Instruction,
        classify: Callable[[ProgramFailure, tuple[str, ...]], ProviderError],
        max_age_s: float,
        payer: Pubkey | None,
    ) -> None:
        self._cluster = cluster
        self._probe = probe
        self._classify = classify
        self._max_age_s = max_age_s
        self._payer = payer
        self._asked_at: float | None = None
        self._error: ProviderError | None = None

    def note(self, error: ProviderError) -> None:
        """Remember what an order's own simulation has just answered."""
        if isinstance(error, VenueHalted | UnsupportedProgram):
            self._error = error
            self._asked_at = self._cluster.clock.monotonic()

    async def error(self, *, closing: bool = False) -> ProviderError | None:
        """Return why the program takes nothing, or null. A node that cannot be asked leaves the answer as it was.

        Args:
            closing: a halt that was seen before is looked at again whatever its age: it may be over.
        """
        now = self._cluster.clock.monotonic()
        young = self._asked_at is not None and now - self._asked_at < self._max_age_s
        if self._payer is None or (young and not (closing and self._error is not None)):
            return self._error
        self._asked_at = now
        try:
            self._error = await self._ask(self._payer)
        except ConnectionFailed as error:
            program = str(self._probe.program_id)
            logger.warning(
                "halt_check_failed", extra={"program_id": program, "code": error.code, "detail": error.detail}
            )
        return self._error

    async def check(self, *, closing: bool = False) -> None:
        """Raise why the program takes nothing (`error`).

        Raises:
            VenueHalted: it answers no instruction.
            UnsupportedProgram: it is not there, or not a program.
        """
        error = await self.error(closing=closing)
        if error is not None:
            raise type(error)(error.detail, raw_code=error.raw_code, raw_name=error.raw_name)

    async def _ask(self, payer: Pubkey) -> ProviderError | None:
        blockhash = await self._cluster.pool.latest_blockhash()
        message = compile_message(payer, [self._probe], [], blockhash.blockhash)
        unsigned = wire_of(message_bytes(message), [bytes(64)] * len(required_signers(message)))
        simulation = await self._cluster.pool.simulate(unsigned, min_context_slot=blockhash.slot)
        if simulation.err is None:
            return None
        if simulation.err.instruction_index is None:
            error = error_of_transaction(simulation.err.kind)
        else:
            error = self._classify(simulation.err, simulation.logs)
        return error if isinstance(error, VenueHalted | UnsupportedProgram) else None


def lifecycle_of(error: ProviderError) -> Lifecycle:
    """Return the lifecycle of a venue whose program takes nothing, by what `HaltWatch.error` gave."""
    return Lifecycle.HALTED if isinstance(error, VenueHalted) else Lifecycle.UNSUPPORTED_PROGRAM
