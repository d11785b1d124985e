"""Everything that venues on one Solana cluster share, wired together."""

from __future__ import annotations

from collections.abc import Sequence

from providers.base.clock import Clock
from providers.solana.http import HttpTransport
from providers.solana.lock import SolanaOrderLock
from providers.solana.pool import NodePool
from providers.solana.proofs import Proofs
from providers.solana.rpc import RpcObserver
from providers.solana.sender import Sender
from providers.solana.settings import SolanaSettings
from providers.solana.signer import Signer
from providers.solana.signer_history import SolanaSignerHistory
from providers.solana.transport import NodeTransport

__all__ = ["SolanaCluster", "SolanaSettings"]


class SolanaCluster:
    """Nodes, sender, proofs, order lock and signer of one cluster.

    Attributes:
        pool: what a venue reads and simulates with.
        all_nodes: every node of the cluster: fences, proofs and rebroadcasts use it whatever `pool` is.
        sender, proofs, lock, signer_history: see their modules.
        signer: null: quotes only, and every `prepare` raises `LiveTradingOff`.

    Args:
        pool: every node of the cluster.
        signer: the wallet and lock key.
        clock: the only source of time and randomness.
        settings: what an operator may set.
        read_pool: a venue's own nodes; `pool` when null.
    """

    def __init__(
        self,
        pool: NodePool,
        signer: Signer | None,
        clock: Clock,
        settings: SolanaSettings,
        *,
        read_pool: NodePool | None = None,
    ) -> None:
        self._venue_pools: list[NodePool] = []
        self.all_nodes = pool
        self.pool = read_pool if read_pool is not None else pool
        self.signer = signer
        self.clock = clock
        self.settings = settings
        self.sender = Sender(self.pool, signer, clock, settings, all_nodes=pool)
        self.proofs = Proofs(pool, settings)
        self.lock = SolanaOrderLock(
            pool,
            Sender(pool, signer, clock, settings),
            proofs=self.proofs,
            signer=signer,
            clock=clock,
            settings=settings,
        )
        self.signer_history = SolanaSignerHistory(pool, signer, settings)

    @classmethod
    def of_transports(
        cls,
        transports: Sequence[NodeTransport],
        signer: Signer | None,
        clock: Clock,
        settings: SolanaSettings,
        *,
        observer: RpcObserver | None = None,
        genesis_hash: str | None = None,
    ) -> SolanaCluster:
        """Return the cluster behind these nodes."""
        pool = NodePool(
            transports, clock, timeout_s=settings.rpc_timeout_s, observer=observer, genesis_hash=genesis_hash
        )
        return cls(pool, signer, clock, settings)

    @classmethod
    def of_urls(
        cls,
        urls: Sequence[str],
        signer: Signer | None,
        clock: Clock,
        settings: SolanaSettings,
        *,
        observer: RpcObserver | None = None,
        genesis_hash: str | None = None,
    ) -> SolanaCluster:
        """Return the cluster behind these HTTP addresses."""
        return cls.of_transports(
            [HttpTransport(url) for url in urls], signer, clock, settings, observer=observer, genesis_hash=genesis_hash
        )

    def with_read_pool(self, pool: NodePool) -> SolanaCluster:
        """Return the same cluster for a venue with its own nodes for reads, simulation and first send."""
        self._venue_pools.append(pool)
        return SolanaCluster(self.all_nodes, self.signer, self.clock, self.settings, read_pool=pool)

    def on_all_nodes(self) -> SolanaCluster | None:
        """Return the same cluster for a venue whose own nodes fail; null where it has none of its own."""
        if self.pool is self.all_nodes:
            return None
        return SolanaCluster(self.all_nodes, self.signer, self.clock, self.settings)

    async def genesis_hash(self) -> str:
        """Return the genesis hash that every node agrees on (a ledger is bound to it)."""
        return await self.all_nodes.genesis_hash()

    async def aclose(self) -> None:
        """Release every connection, those of venues with their own nodes included."""
        for pool in dict.fromkeys((self.all_nodes, self.pool, *self._venue_pools)):
            await pool.aclose()
