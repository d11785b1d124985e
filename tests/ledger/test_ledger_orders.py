"""Orders: keys, terms, status, pages, and what recovery and the watch load."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from providers.base.types import Side
from router.ledger.protocol import BadCursor, KeyReused, LedgerError, OverReserved, WrongCluster
from router.ledger.records import OrderStatus, PositionStatus
from router.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import (
    NOT_LANDED,
    UNKNOWN,
    a_fill,
    at,
    closing,
    dead,
    filled,
    finish_filled,
    kinds,
    new_attempt,
    new_close,
    new_order,
    opened,
    ready,
    refused,
    with_ledger,
)


def test_an_order_comes_back_as_it_was_given() -> None:
    """Every field that a caller gave is read back, to the last digit."""

    async def test(ledger: SqliteLedger) -> None:
        given = new_order(size=None, size_usd=Decimal("1000.10"), worst_price=Decimal("0.000000001230"), key="k")
        created = await ledger.create_order(given)

        view = ledger.order("ord_1")
        assert view is not None
        assert view.order == created.order
        order = created.order
        assert (order.requested_size, str(order.requested_size_usd)) == (None, "1000.10")
        assert str(order.requested_worst_price) == "1.230E-9"
        assert (order.request, order.chain, order.fingerprint) == (given.request, given.chain, given.fingerprint)
        assert (order.created_at, order.deadline, order.lock) == (given.created_at, given.deadline, given.lock)
        assert (order.status, order.size, order.filled_by) == (OrderStatus.PENDING, None, None)

    with_ledger(test)


def test_the_same_key_and_body_give_the_same_order() -> None:
    """A replay returns the first order and makes none."""

    async def test(ledger: SqliteLedger) -> None:
        first = await ledger.create_order(new_order(key="k"))
        again = await ledger.create_order(new_order("ord_2", key="k"))

        assert (first.replayed, again.replayed) == (False, True)
        assert again.order == first.order
        assert ledger.order("ord_2") is None
        assert ledger.order_by_key("local", "k") == first.order

    with_ledger(test)


def test_a_hundred_identical_creates_make_one_order() -> None:
    """Concurrency does not split a key."""

    async def test(ledger: SqliteLedger) -> None:
        made = await asyncio.gather(*(ledger.create_order(new_order(f"ord_{i}", key="k")) for i in range(100)))

        assert len({created.order.order_id for created in made}) == 1
        assert sum(not created.replayed for created in made) == 1
        assert len(ledger.orders(limit=200)[0]) == 1

    with_ledger(test)


def test_a_key_with_another_body_is_refused() -> None:
    """The refusal names the order that the key made."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order(key="k"))

        with pytest.raises(KeyReused) as refusal:
            await ledger.create_order(new_order("ord_2", key="k", fingerprint="other"))
        assert refusal.value.order_id == "ord_1"

    with_ledger(test)


def test_keys_are_per_caller() -> None:
    """Two callers may use the same key and the same client order id."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order(key="k", client_order_id="c"))
        other = await ledger.create_order(new_order("ord_2", key="k", client_order_id="c", caller="desk"))

        assert not other.replayed
        assert ledger.order_by_key("nobody", "k") is None

    with_ledger(test)


def test_a_client_order_id_is_the_key_where_there_is_none() -> None:
    """Without a key the client order id replays, and refuses another body."""

    async def test(ledger: SqliteLedger) -> None:
        first = await ledger.create_order(new_order(client_order_id="c"))
        again = await ledger.create_order(new_order("ord_2", client_order_id="c"))

        assert again.order == first.order
        assert ledger.order_by_key("local", "c") == first.order
        with pytest.raises(KeyReused):
            await ledger.create_order(new_order("ord_3", client_order_id="c", fingerprint="other"))

    with_ledger(test)


@pytest.mark.parametrize("first_key", [None, "k1"])
def test_a_known_client_order_id_under_another_key_is_refused(first_key: str | None) -> None:
    """Even with the same body: another key says that it is another request."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order(key=first_key, client_order_id="c"))

        with pytest.raises(KeyReused) as refusal:
            await ledger.create_order(new_order("ord_2", key="k2", client_order_id="c"))
        assert refusal.value.order_id == "ord_1"

    with_ledger(test)


def test_a_client_order_id_alone_finds_the_order_made_under_a_key() -> None:
    """A retry that lost its key is still the same request."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order(key="k", client_order_id="c"))

        assert (await ledger.create_order(new_order("ord_2", client_order_id="c"))).replayed

    with_ledger(test)


def test_without_a_key_every_request_is_new() -> None:
    """Equal bodies make two orders."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.create_order(new_order())

        assert not (await ledger.create_order(new_order("ord_2"))).replayed

    with_ledger(test)


def test_terms_are_fixed_once() -> None:
    """The same values again change nothing; other ones are refused."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        terms = {"size": Decimal("10.0"), "worst_price": Decimal(101), "expected_price": Decimal(100)}

        await ledger.fix_terms("ord_1", **terms, at=at(9))
        with pytest.raises(LedgerError, match="never change"):
            await ledger.fix_terms("ord_1", **{**terms, "worst_price": Decimal(102)}, at=at(9))
        view = ledger.order("ord_1")
        assert view is not None
        assert view.order.worst_price == Decimal(101)
        assert kinds(ledger).count("terms_fixed") == 1

    with_ledger(test)


def test_the_first_cancel_counts() -> None:
    """Later cancels, and those of an ended order, leave no trace."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.request_cancel("ord_1", at(5))
        await ledger.request_cancel("ord_1", at(6))
        await ledger.finish_order("ord_1", OrderStatus.CANCELLED, at(7))
        await ledger.request_cancel("ord_1", at(8))

        view = ledger.order("ord_1")
        assert view is not None
        assert view.order.cancel_requested_at == at(5)
        assert kinds(ledger).count("cancel_requested") == 1

    with_ledger(test)


def test_an_order_ends_only_as_its_attempts_bear_out() -> None:
    """No `failed` beside an unclear attempt, no `filled` without a fill, no way back from an end."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        for status in (OrderStatus.FAILED, OrderStatus.CANCELLED):
            with pytest.raises(LedgerError, match="nothing is proven about att_ord_1_1"):
                await ledger.finish_order("ord_1", status, at(5))
        with pytest.raises(LedgerError, match="no fill"):
            await ledger.finish_order("ord_1", OrderStatus.FILLED, at(5))

        await ledger.record_outcome("att_ord_1_1", filled(), at(6))
        with pytest.raises(LedgerError, match="has fills"):
            await ledger.finish_order("ord_1", OrderStatus.FAILED, at(7))
        await finish_filled(ledger, "ord_1")
        with pytest.raises(LedgerError, match="cannot become"):
            await ledger.finish_order("ord_1", OrderStatus.PENDING, at(8))

    with_ledger(test)


def test_a_resting_fill_does_not_end_an_order() -> None:
    """While an attempt may fill more, its order is not `partially_filled`."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome("att_ord_1_1", filled(a_fill(size="1"), state=UNKNOWN.state, resting=True), at(6))

        with pytest.raises(LedgerError, match="no attempt"):
            await ledger.finish_order("ord_1", OrderStatus.PARTIALLY_FILLED, at(7))

    with_ledger(test)


def test_the_error_of_a_failed_order_is_kept() -> None:
    """The answer can tell why nothing filled."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.finish_order("ord_1", OrderStatus.FAILED, at(5), error=NOT_LANDED)

        view = ledger.order("ord_1")
        assert view is not None
        assert (view.order.status, view.order.error, view.order.updated_at) == (OrderStatus.FAILED, NOT_LANDED, at(5))

    with_ledger(test)


def test_a_ledger_belongs_to_one_cluster() -> None:
    """The first genesis hash stays."""

    async def test(ledger: SqliteLedger) -> None:
        await ledger.bind("genesis-a")
        await ledger.bind("genesis-a")

        with pytest.raises(WrongCluster):
            await ledger.bind("genesis-b")

    with_ledger(test)


def test_a_close_reserves_what_no_other_close_has() -> None:
    """Two closes of one lot never ask for more than the lot together."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.create_order(new_close("ord_2", {lot.position_id: "7"}))

        with pytest.raises(OverReserved) as refusal:
            await ledger.create_order(new_close("ord_3", {lot.position_id: "3.000000001"}))
        assert (refusal.value.position_id, refusal.value.available) == (lot.position_id, Decimal(3))
        assert ledger.order("ord_3") is None
        await ledger.create_order(new_close("ord_4", {lot.position_id: "3"}))
        after = ledger.position(lot.position_id)
        assert after is not None
        assert after.reserved_size == after.size == Decimal(10)

    with_ledger(test)


def test_concurrent_closes_share_a_lot_without_overlap() -> None:
    """Of fifty closes of three quarters of a lot, one is taken."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        closes = [ledger.create_order(new_close(f"close_{i}", {lot.position_id: "7.5"})) for i in range(50)]

        made = await asyncio.gather(*closes, return_exceptions=True)
        assert sum(isinstance(item, OverReserved) for item in made) == 49

    with_ledger(test)


def test_a_replayed_close_reserves_nothing_more() -> None:
    """The key is looked at before what is left of the lot."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        await ledger.create_order(new_close("ord_2", {lot.position_id: "10"}, key="k"))

        assert (await ledger.create_order(new_close("ord_3", {lot.position_id: "10"}, key="k"))).replayed

    with_ledger(test)


def test_a_failed_close_lets_its_lot_go() -> None:
    """A final status releases what was reserved and not filled."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)
        attempt_id = await closing(ledger, "ord_2", {lot.position_id: "10"})
        await ledger.record_outcome(attempt_id, dead(), at(5))
        await ledger.finish_order("ord_2", OrderStatus.FAILED, at(6))

        assert not (await ledger.create_order(new_close("ord_3", {lot.position_id: "10"}))).replayed

    with_ledger(test)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"side": Side.SHORT}, "the close is of another"),
        ({"market": "BTC-PERP"}, "the close is of another"),
        ({"provider": "mango"}, "held on drift"),
    ],
)
def test_a_close_is_of_its_lots_own_kind(changes: dict[str, object], text: str) -> None:
    """Another side, market or provider than the lot's is refused."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger)

        with pytest.raises(LedgerError, match=text):
            await ledger.create_order(new_close("ord_2", {lot.position_id: "1"}, **changes))

    with_ledger(test)


def test_a_page_stays_where_it_is_while_orders_come_in() -> None:
    """Newest first; what is created between two pages appears in neither twice nor instead of another."""

    async def test(ledger: SqliteLedger) -> None:
        for i in range(7):
            await ledger.create_order(new_order(f"ord_{i}"))
        first, cursor = ledger.orders(limit=3)
        await ledger.create_order(new_order("late"))
        second, cursor = ledger.orders(limit=3, cursor=cursor)
        third, end = ledger.orders(limit=3, cursor=cursor)

        seen = [view.order.order_id for view in (*first, *second, *third)]
        assert seen == [f"ord_{i}" for i in reversed(range(7))]
        assert end is None

    with_ledger(test)


def test_pages_are_filtered() -> None:
    """By the provider that filled (else the one asked for), market, status; lots by side too."""

    async def test(ledger: SqliteLedger) -> None:
        lot = await opened(ledger, "ord_1")
        await opened(ledger, "ord_2", side=Side.SHORT, on="mango")
        await ledger.create_order(new_order("ord_3", provider="drift", market="BTC-PERP"))

        def ids(**filters: object) -> list[str]:
            return [view.order.order_id for view in ledger.orders(limit=9, **filters)[0]]  # type: ignore[arg-type]

        assert ids(provider="drift") == ["ord_3", "ord_1"]
        assert ids(market="SOL-PERP", status=OrderStatus.FILLED) == ["ord_2", "ord_1"]
        assert ids(status=OrderStatus.PENDING) == ["ord_3"]
        assert ledger.positions(limit=9, side=Side.LONG)[0] == (lot,)
        assert ledger.positions(limit=9, provider="mango", status=PositionStatus.CLOSED)[0] == ()

    with_ledger(test)


@pytest.mark.parametrize("cursor", ["", "x", "b3JkZXJzOg", "cG9zaXRpb25zOjE", "b3JkZXJzOi0x", "\u0661", "AA" * 99])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    """What no page gave out is no cursor, and nothing of it reaches the query."""

    async def test(ledger: SqliteLedger) -> None:
        with pytest.raises(BadCursor):
            ledger.orders(limit=1, cursor=cursor)

    with_ledger(test)


def test_recovery_loads_what_has_not_ended_oldest_first() -> None:
    """Pending and unknown orders, with their attempts."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "ord_1")
        await ready(ledger, "ord_2")
        await ledger.add_attempt(new_attempt("ord_2"))
        await ready(ledger, "ord_3")
        await ledger.finish_order("ord_3", OrderStatus.UNKNOWN, at(5))

        views = ledger.open_orders()
        assert [view.order.order_id for view in views] == ["ord_2", "ord_3"]
        assert [attempt.attempt_id for attempt in views[0].attempts] == ["att_ord_2_1"]

    with_ledger(test)


def test_the_watch_sees_what_a_fork_could_take_back() -> None:
    """Ended orders with an attempt not finalized, or dead, and not those of before."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "confirmed")
        await opened(ledger, "finalized", a_fill("f2"))
        await ledger.record_outcome("att_finalized_1", filled(a_fill("f2"), finalized=True), at(6))
        await ready(ledger, "dead")
        await ledger.add_attempt(new_attempt("dead"))
        await ledger.record_outcome("att_dead_1", dead(finalized=True), at(6))
        await ledger.finish_order("dead", OrderStatus.FAILED, at(7))
        await ready(ledger, "refused")
        await ledger.add_attempt(refused("refused"))
        await ledger.finish_order("refused", OrderStatus.FAILED, at(7))
        await ready(ledger, "open")

        assert [view.order.order_id for view in ledger.watched_orders(at(0))] == ["confirmed", "dead"]
        assert [view.order.order_id for view in ledger.watched_orders(at(5))] == ["dead"]

    with_ledger(test)


def test_settling_again_does_not_make_an_order_new() -> None:
    """Otherwise a dead attempt, watched for a day from the last change, would be watched for ever."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.add_attempt(new_attempt())
        await ledger.record_outcome("att_ord_1_1", dead(finalized=True), at(6))
        await ledger.finish_order("ord_1", OrderStatus.FAILED, at(7))
        events = len(kinds(ledger))
        await ledger.record_outcome("att_ord_1_1", dead(finalized=True), at(100))
        await ledger.record_outcome("att_ord_1_1", dead(evidence=()), at(101))

        view = ledger.order("ord_1")
        assert view is not None
        assert view.order.updated_at == at(7)
        assert view.attempts[0].finalized
        assert len(view.attempts[0].evidence) == 1
        assert len(kinds(ledger)) == events

    with_ledger(test)


def test_a_lock_is_returned_once_the_order_has_ended() -> None:
    """Ended, past its deadline, with a lock, not returned yet."""

    async def test(ledger: SqliteLedger) -> None:
        await opened(ledger, "ord_1")
        await opened(ledger, "later", deadline=at(600))
        await ready(ledger, "open")
        await ready(ledger, "bare", lock=None)
        await ledger.finish_order("bare", OrderStatus.FAILED, at(5))

        assert [view.order.order_id for view in ledger.unreclaimed_orders(at(61))] == ["ord_1"]
        with pytest.raises(LedgerError, match="must stay"):
            await ledger.mark_reclaimed(["ord_1", "open"], at(62))
        assert len(ledger.unreclaimed_orders(at(61))) == 1
        await ledger.mark_reclaimed(["ord_1"], at(63))
        assert ledger.unreclaimed_orders(at(61)) == ()

    with_ledger(test)


def test_notes_go_to_the_audit_log() -> None:
    """Findings and operators' acts stand beside the changes, in order."""

    async def test(ledger: SqliteLedger) -> None:
        await ready(ledger)
        await ledger.note("unknown_signature", at(5), order_id="ord_1", detail={"kind": "stranger", "at": "slot 7"})

        event = ledger.events(order_id="ord_1")[-1]
        assert (event.kind, event.at, event.data) == ("unknown_signature", at(5), {"kind": "stranger", "at": "slot 7"})
        assert ledger.events(after=event.seq) == ()

    with_ledger(test)


def test_an_open_that_may_still_fill_is_found_by_its_slot_and_side() -> None:
    """While it is unclear it counts, once proven it does not; other markets, sides, providers and closes never do."""

    async def story(ledger: SqliteLedger) -> None:
        await ready(ledger)
        attempt = new_attempt()
        await ledger.add_attempt(attempt)
        slot = {"provider": "drift", "market": "SOL-PERP", "side": Side.LONG}
        assert ledger.unclear_open(**slot) == "ord_1"  # type: ignore[arg-type]
        for other in ({"provider": "mango"}, {"market": "BTC-PERP"}, {"side": Side.SHORT}):
            assert ledger.unclear_open(**{**slot, **other}) is None  # type: ignore[arg-type]
        await ledger.record_outcome(attempt.attempt_id, dead(), at(2))
        assert ledger.unclear_open(**slot) is None  # type: ignore[arg-type]

    with_ledger(story)
