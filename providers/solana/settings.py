"""What an operator may set about Solana, with defaults that are safe on mainnet."""

from __future__ import annotations

import msgspec

from providers.solana.node import Commitment

__all__ = ["MAINNET_GENESIS", "SolanaSettings"]

MAINNET_GENESIS = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"


class SolanaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of everything that is sent to Solana.

    Attributes:
        proof_commitment: where proofs are read that may be read at `confirmed`; `finalized` removes the one accepted
            risk (DESIGN 1) for about 13 seconds more.
        live_trading: the second switch; without it nothing is signed for mainnet, whatever the network is called.
        priority_fee_floor, priority_fee_cap: micro-lamports per compute unit.
        priority_fee_percentile: of recent fees on the written accounts.
        compute_margin_percent: on top of what the simulation used.
        sol_reserve_lamports: kept in the wallet for closes, cancels and fences; an open that would go below is refused.
        rpc_timeout_s: for one call of one node.
        explorer_url: with `{signature}`; for answers to people.
    """

    proof_commitment: Commitment = "confirmed"
    live_trading: bool = False
    priority_fee_floor: int = 1_000
    priority_fee_cap: int = 2_000_000
    priority_fee_percentile: int = 75
    compute_margin_percent: int = 25
    sol_reserve_lamports: int = 20_000_000
    rpc_timeout_s: float = 4.0
    explorer_url: str = "https://explorer.solana.com/tx/{signature}"
