"""What counts against the router's limits, and halts: sums within the write that they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from providers.base.clock import VirtualClock
from providers.base.types import OutcomeState
from router.ledger.protocol import Claim, KeyReused, LimitReached
from router.ledger.records import HaltRecord, OrderStatus, Usage
from router.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import (
    UNKNOWN,
    a_fill,
    at,
    closing,
    dead,
    filled,
    kinds,
    new_attempt,
    new_order,
    opened,
    ready,
    with_ledger,
)


class No(msgspec.Struct, frozen=True):
    """A check's refusal."""

    why: str = "full"


def claiming(size_usd: str | None, check: Callable[[Usage], No | None] | None = None) -> Claim:
    """Return a claim of so many dollars; the day began before everything."""
    return Claim(size_usd=None if size_usd is None else Decimal(size_usd), check=check, day_began=at(0))


def test_nothing_is_used_of_an_empty_ledger() -> None:
    """No lots, no open orders: nothing."""

    async def test(ledger: SqliteLedger) -> None:
        assert ledger.usage(at(0)) == Usage(positions=0, day_usd=Decimal(0), markets={}, providers={})

    with_ledger(test)


def test_an_open_counts_from_its_first_moment() -> None:
    """As admitted while nothing is known of prices, at its first quote then; at no provider until one may fill it."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order(), claiming("1234"))
        assert ledger.usage(at(0)) == Usage(
            positions=1, day_usd=Decimal(1234), markets={"SOL-PERP": Decimal(1234)}, providers={}
        )
        await ledger.fix_terms(
            "ord_1", size=Decimal(10), worst_price=Decimal(101), expected_price=Decimal(100), at=at(1)
        )
        assert ledger.usage(at(0)).markets == {"SOL-PERP": Decimal(1000)}
        await ledger.add_attempt(new_attempt("ord_1"))
        assert ledger.usage(at(0)).providers == {"drift": Decimal(1000)}

    with_ledger(test)


def test_an_unclear_open_counts_whole_and_a_dead_one_for_nothing() -> None:
    """What may still fill is used; what is proven not to is free again."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt("ord_1"))
        await ledger.record_outcome("att_ord_1_1", UNKNOWN, at(2))
        await ledger.finish_order("ord_1", OrderStatus.UNKNOWN, at(2))
        assert ledger.usage(at(0)) == Usage(
            positions=1,
            day_usd=Decimal(1000),
            markets={"SOL-PERP": Decimal(1000)},
            providers={"drift": Decimal(1000)},
        )
        await ledger.record_outcome("att_ord_1_1", dead(), at(3))
        assert ledger.usage(at(0)).providers == {}
        assert ledger.usage(at(0)).positions == 1, "another provider may be asked"
        await ledger.finish_order("ord_1", OrderStatus.FAILED, at(4))
        assert ledger.usage(at(0)) == Usage(positions=0, day_usd=Decimal(0), markets={}, providers={})

    with_ledger(test)


def test_a_partial_fill_is_not_counted_twice() -> None:
    """The lot, and what of the order may still fill: together the order."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt("ord_1"))
        resting = filled(a_fill(size="4"), state=OutcomeState.UNKNOWN, resting=True)
        await ledger.record_outcome("att_ord_1_1", resting, at(2))

        assert ledger.usage(at(0)) == Usage(
            positions=1,
            day_usd=Decimal(1000),
            markets={"SOL-PERP": Decimal(1000)},
            providers={"drift": Decimal(1000)},
        )

    with_ledger(test)


def test_a_day_counts_what_was_opened_since_it_began() -> None:
    """Opening fills by when they were booked; lots count however old they are; closes give nothing back to the day."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        assert ledger.usage(at(3)).day_usd == Decimal(1000)
        assert ledger.usage(at(4)).day_usd == Decimal(0)
        attempt = await closing(ledger, "ord_2", {lot.position_id: "10"})
        assert ledger.usage(at(3)).positions == 1, "a close that is open takes nothing"
        await ledger.record_outcome(attempt, filled(a_fill("c1")), at(5))
        await ledger.finish_order("ord_2", OrderStatus.FILLED, at(6))
        assert ledger.usage(at(3)) == Usage(positions=0, day_usd=Decimal(1000), markets={}, providers={})
        assert ledger.usage(None).day_usd == Decimal(0), "nobody asked for the day"

    with_ledger(test)


def test_a_fill_that_a_fork_took_back_is_used_no_more() -> None:
    """Neither in the lot nor in the day; the order, unclear again, counts whole."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt("ord_1"))
        resting = filled(a_fill(size="4"), state=OutcomeState.UNKNOWN, resting=True)
        await ledger.record_outcome("att_ord_1_1", resting, at(2))
        await ledger.record_outcome("att_ord_1_1", dead(), at(3))

        assert ledger.usage(at(0)).day_usd == Decimal(1000), "the order is open and may try elsewhere"
        await ledger.finish_order("ord_1", OrderStatus.FAILED, at(4))
        assert ledger.usage(at(0)).day_usd == Decimal(0)

    with_ledger(test)


def test_a_refused_claim_stores_nothing() -> None:
    """No order, no key, no event: the same key works later."""

    async def test(ledger: SqliteLedger) -> None:
        seen: list[Usage] = []

        def full(usage: Usage) -> No:
            seen.append(usage)
            return No()

        with pytest.raises(LimitReached) as caught:
            await ledger.create_order(new_order(key="k"), claiming("1000", full))
        assert caught.value.refusal == No()
        assert (seen[0].positions, ledger.orders(limit=10)[0], kinds(ledger)) == (0, (), [])
        assert not (await ledger.create_order(new_order(key="k"), claiming("1000"))).replayed

    with_ledger(test)


def test_a_replay_is_never_checked() -> None:
    """The same key gives the same order whatever the limits have become; another body is told so first."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order(key="k"), claiming("1000"))
        again = await ledger.create_order(new_order("ord_2", key="k"), claiming("1000", lambda _: No()))
        assert (again.replayed, again.order.order_id) == (True, "ord_1")
        other = new_order("ord_3", key="k", fingerprint="other")
        with pytest.raises(KeyReused):
            await ledger.create_order(other, claiming("1000", lambda _: No()))

    with_ledger(test)


def test_of_many_at_once_only_as_many_pass_as_there_is_room_for(tmp_path: Path) -> None:
    """Twenty orders in one batch of the writer thread, room for three."""

    def room(usage: Usage) -> No | None:
        return No() if usage.day_usd + 100 > 350 else None

    async def main() -> None:
        ledger = SqliteLedger.open(tmp_path / "ledger.db", VirtualClock(seed=1))
        orders = [new_order(f"ord_{number}") for number in range(20)]
        results = await asyncio.gather(
            *(ledger.create_order(order, claiming("100", room)) for order in orders), return_exceptions=True
        )
        assert sum(isinstance(result, LimitReached) for result in results) == 17
        assert ledger.usage(at(0)).day_usd == Decimal(300)
        await ledger.aclose()

    asyncio.run(main())


def test_an_attempt_is_held_against_its_claim_in_the_same_write() -> None:
    """Nothing is journaled beyond a limit, and so nothing is sent."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        with pytest.raises(LimitReached):
            await ledger.add_attempt(new_attempt("ord_1"), Claim(check=lambda _: No()))
        view = ledger.order("ord_1")
        assert view is not None
        assert view.attempts == ()
        await ledger.add_attempt(new_attempt("ord_1"), Claim(check=lambda _: None))

    with_ledger(test)


def test_a_halt_survives_the_process_and_keeps_its_beginning(tmp_path: Path) -> None:
    """The whole router and one provider apart; a second halt changes the reason only; each act is an event."""

    async def main() -> None:
        path = tmp_path / "ledger.db"
        ledger = SqliteLedger.open(path, VirtualClock(seed=1), writer="inline")
        whole = HaltRecord(provider=None, reason="drill", caller="ops", since=at(1))
        assert await ledger.halt(whole) == whole
        await ledger.halt(HaltRecord(provider="drift", reason="odd prices", caller="ops", since=at(2)))
        later = await ledger.halt(HaltRecord(provider="drift", reason="odder", caller="eve", since=at(3)))
        assert (later.since, later.reason, later.caller) == (at(2), "odder", "eve")
        await ledger.aclose()

        ledger = SqliteLedger.open(path, VirtualClock(seed=1), writer="inline")
        assert ledger.halts() == (whole, later)
        assert await ledger.resume("drift", "fine again", "ops", at(4))
        assert not await ledger.resume("drift", "twice", "ops", at(5))
        assert ledger.halts() == (whole,)
        assert kinds(ledger) == ["halted", "halted", "halted", "resumed"]
        await ledger.aclose()

    asyncio.run(main())
