"""Secondary transactions (cancel, fence, reclaim, set-up, deposit) are written down before they are sent, all alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from providers.base.clock import Clock, new_id
from providers.base.types import Ack, Submission
from router.ledger.protocol import Ledger
from router.ledger.records import SecondaryRecord, SecondaryState

__all__ = ["send_written_ahead"]


async def send_written_ahead(
    ledger: Ledger,
    clock: Clock,
    submission: Submission,
    send: Callable[[Submission], Awaitable[Ack]],
    *,
    order_id: str | None = None,
    attempt_id: str | None = None,
    generation: int = 0,
) -> SecondaryRecord:
    """Write a secondary transaction down, send it, and note that it was sent; what becomes of it is settled later.

    `send` gives the bytes to the nodes; its ack proves nothing and is not kept. `order_id` and `attempt_id` are the
    parents and `generation` that of the order's lock, where there are any.

    Raises:
        LedgerError: it could not be written down; then nothing was sent. Or it was sent, and stays `journaled`.
        ProviderError: what `send` raises; the row stays `journaled`, which means *perhaps sent*.
    """
    now = clock.now()
    secondary = SecondaryRecord(
        secondary_id=new_id(clock, "sec"),
        purpose=submission.purpose,
        provider=submission.provider,
        order_id=order_id,
        attempt_id=attempt_id,
        part=0,
        generation=generation,
        state=SecondaryState.JOURNALED,
        submission=submission,
        created_at=now,
        updated_at=now,
    )
    await ledger.add_secondary(secondary)
    await send(submission)
    await ledger.set_secondary(secondary.secondary_id, SecondaryState.SENT, clock.now())
    return secondary
