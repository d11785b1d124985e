"""What our key has signed, whoever sent it: a restored backup, or a second router on the key (DESIGN 5)."""

from __future__ import annotations

import asyncio
from typing import Final

from providers.base.errors import BadAnswer, LiveTradingOff
from providers.solana.account_history import MOST_TRANSACTIONS, lines_after, newest_mark
from providers.solana.pool import NodePool
from providers.solana.records import TransactionRecord
from providers.solana.settings import SolanaSettings
from providers.solana.signer import Signer

__all__ = ["SolanaSignerHistory"]

_AT_ONCE: Final = 8


class SolanaSignerHistory:
    """History of the wallet of one cluster (`providers.base.protocol.SignerHistory`).

    Args:
        pool: every node of the cluster.
        signer: null: nothing is signed, and nothing can be asked.
        settings: `proof_commitment`.
        most_transactions: read by one call.
    """

    def __init__(
        self,
        pool: NodePool,
        signer: Signer | None,
        settings: SolanaSettings,
        *,
        most_transactions: int = MOST_TRANSACTIONS,
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._settings = settings
        self._most = most_transactions

    async def own_transactions(self, after: str | None, through_slot: int) -> tuple[tuple[str, ...], str | None]:
        """Return landed transactions signed by our key after a mark, oldest first, and the next mark.

        A transaction that failed is among them: it landed and paid its fees. One that merely names the key (a gift of
        lamports, for one) is not. At most a thousand are read by one call; the next one goes on from there.

        Raises:
            LiveTradingOff: there is no key.
            BadAnswer: too few nodes list the history back to `after`, or they differ, or a transaction of it cannot
                be had.
            NodeBehind: no sane node has reached `through_slot`.
        """
        if self._signer is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        key, commitment = self._signer.public_key, self._settings.proof_commitment
        if after is None:
            return (), await newest_mark(self._pool, key, through_slot=through_slot, commitment=commitment)
        found = await lines_after(self._pool, key, after=after, through_slot=through_slot, commitment=commitment)
        if not found.complete:
            raise BadAnswer(f"the nodes do not show the wallet's history back to {after}")
        lines = found.lines[: self._most]
        own: list[str] = []
        for start in range(0, len(lines), _AT_ONCE):
            some = lines[start : start + _AT_ONCE]
            records = await asyncio.gather(*(self._record(line.signature) for line in some))
            own.extend(each.signature for each in records if key in each.signers)
        return tuple(own), lines[-1].signature if lines else after

    async def _record(self, signature: str) -> TransactionRecord:
        record = await self._pool.transaction(signature, self._settings.proof_commitment)
        if record is None:
            raise BadAnswer(f"{signature} is listed in the wallet's history, and no node has it")
        return record
