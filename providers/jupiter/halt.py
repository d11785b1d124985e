"""How Jupiter Perps' program is asked whether it still answers instructions (`providers.solana.halt`)."""

from __future__ import annotations

from functools import partial
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from providers.jupiter.config import JupiterConfig
from providers.jupiter.errors import classify
from providers.solana.cluster import SolanaCluster
from providers.solana.halt import HaltWatch
from providers.solana.idl import discriminator

__all__ = ["halt_watch"]

# The request that the adapter opens with, without arguments: a live program cannot read them (102), before it looks at
# any account.
_PROBE: Final = discriminator("global", "create_increase_position_market_request")


def halt_watch(cluster: SolanaCluster, config: JupiterConfig, payer: Pubkey | None) -> HaltWatch:
    """Return the watch over the deployment's program; without a payer nothing is asked."""
    return HaltWatch(
        cluster,
        probe=Instruction(config.program_id, _PROBE, []),
        classify=partial(classify, program_id=str(config.program_id)),
        max_age_s=config.halt_check_s,
        payer=payer,
    )
