"""The order lock for the engine: terms, fence, holder, expiry, reclaim (DESIGN 6)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal

from solders.pubkey import Pubkey

from providers.base.clock import Clock, base32_lower
from providers.base.errors import ConnectionFailed, LiveTradingOff, ProviderError, RequestRejected
from providers.base.types import Ack, LockRef, LockState, LockTerms, Purpose, Submission
from providers.solana.lock_account import lock_address, lock_instruction, reclaim_instruction
from providers.solana.lock_state import read_lock_state
from providers.solana.node import Commitment
from providers.solana.pool import NodePool
from providers.solana.proofs import Proofs
from providers.solana.records import ProgramFailure
from providers.solana.sender import Sender
from providers.solana.settings import SolanaSettings
from providers.solana.signer import Signer
from providers.solana.transactions import MAX_COMPUTE_UNITS, SIGNATURE_FEE_LAMPORTS

__all__ = ["RECLAIM_BATCH", "SolanaOrderLock", "lock_address", "lock_instruction"]

logger = logging.getLogger(__name__)

_NAME = "solana"
_NONCE_BYTES = 16
# What fits one transaction of 1,232 bytes; further locks wait for the next call.
RECLAIM_BATCH = 8


class SolanaOrderLock:
    """The on-chain idempotency key, for every provider of one cluster (`providers.base.protocol.OrderLock`).

    Args:
        pool: every node of the cluster.
        sender: that signs fences and reclaims and sends to all nodes.
        proofs: reads them back.
        signer: the lock key and wallet; null: no order can be made.
        clock: for the random half of the seed.
        settings: `proof_commitment`.
    """

    def __init__(
        self,
        pool: NodePool,
        sender: Sender,
        *,
        proofs: Proofs,
        signer: Signer | None,
        clock: Clock,
        settings: SolanaSettings,
    ) -> None:
        self._pool = pool
        self._sender = sender
        self._proofs = proofs
        self._signer = signer
        self._clock = clock
        self._settings = settings

    async def new_terms(self) -> LockTerms:
        """Return the terms of a new order's lock, with the rent minimum as it is now.

        Raises:
            LiveTradingOff: there is no key.
            ConnectionFailed: a leaf of it.
        """
        return LockTerms(
            base=str(self._key().public_key),
            nonce=base32_lower(self._clock.random_bytes(_NONCE_BYTES)),
            base_lamports=await self._pool.minimum_balance(0),
        )

    async def prepare_fence(self, lock: LockRef) -> Submission:
        """Build and sign the bare lock instruction with k = 0.

        Raises:
            LockHeld: the generation is held already: no fence is needed, `state` tells by whom.
            ForeignLockBase: the signer is not the lock's key any more; only expiry can settle what is in flight.
            ProviderError: as `Sender.prepare`.
        """
        return await self._sender.prepare(
            provider=_NAME,
            purpose=Purpose.FENCE,
            instructions=(),
            lock=lock,
            number=0,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=_own_instruction_failed,
        )

    async def submit(self, submission: Submission) -> Ack:
        """Give a fence or reclaim to every node."""
        return await self._sender.submit(submission)

    async def state(
        self, lock: LockRef, known: Sequence[str] = (), *, commitment: Commitment | None = None
    ) -> LockState:
        """Return who holds a generation, by two sane nodes where two are configured.

        A holder only counts when its own metadata takes the balance from 0 to more. Nothing is proven (`held` null)
        while the nodes disagree, too few of them are sane, or a balance is there but not the transaction that took it.
        """
        try:
            return await read_lock_state(self._pool, lock, known, commitment or self._settings.proof_commitment)
        except ConnectionFailed as error:
            logger.warning("lock_state_unavailable", extra={"code": error.code, "detail": error.detail})
            return LockState(held=None)

    async def expired(self, submission: Submission) -> bool:
        """Whether the submission can never land any more, shown at `finalized`, whatever became of it before."""
        return await self._proofs.expired(submission)

    async def shortage(self) -> str | None:
        """Say what the wallet is short of for one more open; null when nothing, or no key.

        An open needs the reserve that is kept for closing, cancelling and fencing, its lock, and at most its fees.

        Raises:
            ConnectionFailed: no node answers; nothing is known then.
        """
        if self._signer is None:
            return None
        at = await self._pool.accounts([self._signer.public_key])
        wallet = at.accounts[0]
        lamports = 0 if wallet is None else wallet.lamports
        most_fees = SIGNATURE_FEE_LAMPORTS + self._settings.priority_fee_cap * MAX_COMPUTE_UNITS // 1_000_000
        needed = self._settings.sol_reserve_lamports + await self._pool.minimum_balance(0) + most_fees
        if lamports >= needed:
            return None
        return f"the wallet has {lamports} lamports, an open needs {needed} (reserve, one lock, fees)"

    async def landed(self, submission: Submission) -> bool | None:
        """Whether a fence or reclaim landed without error at `finalized`; null while not known."""
        return await self._proofs.landed(submission)

    async def prepare_reclaim(self, locks: Sequence[LockRef]) -> Submission | None:
        """Build the return of the lamports of held locks; null when none of them holds any that we can take.

        All that a lock holds goes back, a stranger's gift included: less would leave it below rent. When the
        transaction would fail (lamports were added meanwhile), the amounts are read anew and each lock is tried alone.

        Args:
            locks: at most `RECLAIM_BATCH` are taken by one transaction; those beyond it stay as they are.
        """
        key = str(self._key().public_key)
        ours = [lock for lock in locks if lock.terms.base == key]
        held = await self._held(ours)
        if not held:
            return None
        if len(held) > RECLAIM_BATCH:
            logger.info("reclaim_batch_full", extra={"locks": len(held), "taken": RECLAIM_BATCH})
            held = held[:RECLAIM_BATCH]
        try:
            return await self._reclaim(held)
        except ConnectionFailed:
            raise
        except ProviderError as error:
            logger.info("reclaim_tried_singly", extra={"code": error.code, "locks": len(held)})
        sound = [pair for pair in await self._held([lock for lock, _ in held]) if await self._reclaimable(pair)]
        return await self._reclaim(sound) if sound else None

    async def _held(self, locks: Sequence[LockRef]) -> list[tuple[LockRef, int]]:
        held: list[tuple[LockRef, int]] = []
        for start in range(0, len(locks), 100):
            some = locks[start : start + 100]
            at = await self._pool.accounts([lock_address(lock) for lock in some])
            held.extend(
                (lock, account.lamports)
                for lock, account in zip(some, at.accounts, strict=True)
                if account is not None and account.lamports > 0
            )
        return held

    async def _reclaimable(self, pair: tuple[LockRef, int]) -> bool:
        try:
            await self._reclaim([pair])
        except ConnectionFailed:
            raise
        except ProviderError as error:
            logger.warning("reclaim_refused", extra={"code": error.code, "lock": str(lock_address(pair[0]))})
            return False
        return True

    async def _reclaim(self, held: Sequence[tuple[LockRef, int]]) -> Submission:
        wallet: Pubkey = self._key().public_key
        return await self._sender.prepare(
            provider=_NAME,
            purpose=Purpose.RECLAIM,
            instructions=[reclaim_instruction(lock, to=wallet, lamports=lamports) for lock, lamports in held],
            lock=None,
            number=0,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=_own_instruction_failed,
        )

    def _key(self) -> Signer:
        if self._signer is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        return self._signer


def _own_instruction_failed(failure: ProgramFailure, logs: tuple[str, ...]) -> ProviderError:
    del logs  # the system program prints nothing that would help
    return RequestRejected("the system program refuses", raw_code=failure.code, raw_name=failure.kind)
