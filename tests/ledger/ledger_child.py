"""Run in a process of its own: commits without end and prints each acknowledged order, until it is killed."""

from __future__ import annotations

import asyncio
import itertools
import sys

from providers.base.clock import SystemClock
from router.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import a_fill, at, filled, new_attempt, ready


def tell(step: str, order_id: str) -> None:
    """Say on standard output what was acknowledged."""
    sys.stdout.write(f"{step} {order_id}\n")
    sys.stdout.flush()


async def trade(ledger: SqliteLedger, order_id: str) -> None:
    """Take one order to its fill; print its id once each step is acknowledged."""
    await ready(ledger, order_id, key=order_id)
    tell("created", order_id)
    await ledger.add_attempt(new_attempt(order_id))
    tell("journaled", order_id)
    await ledger.record_outcome(f"att_{order_id}_1", filled(a_fill(f"fill_{order_id}")), at(3))
    tell("filled", order_id)


async def main(path: str) -> None:
    """Trade with eight orders in flight for ever."""
    ledger = SqliteLedger.open(path, SystemClock())
    for round_number in itertools.count():
        await asyncio.gather(*(trade(ledger, f"ord_{round_number}_{i}") for i in range(8)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
