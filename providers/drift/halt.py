"""How Drift's program is asked whether it still answers instructions (`providers.solana.halt`)."""

from __future__ import annotations

from functools import partial
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from providers.drift.config import DriftConfig
from providers.drift.errors import classify
from providers.solana.cluster import SolanaCluster
from providers.solana.halt import HaltWatch
from providers.solana.idl import discriminator

__all__ = ["halt_watch"]

# A cancel of any order, without an account: a live program complains about the accounts.
_PROBE: Final = discriminator("global", "cancel_order") + b"\0"


def halt_watch(cluster: SolanaCluster, config: DriftConfig, payer: Pubkey | None) -> HaltWatch:
    """Return the watch over the deployment's program; without a payer nothing is asked."""
    return HaltWatch(
        cluster,
        probe=Instruction(config.program_id, _PROBE, []),
        classify=partial(classify, program_id=str(config.program_id)),
        max_age_s=config.halt_check_s,
        payer=payer,
    )
