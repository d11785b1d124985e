"""Cases of holdings and history: what reconciliation holds the ledger against."""

from __future__ import annotations

from decimal import Decimal

from providers.base.types import Side, VenueEvent, VenueEventKind
from tests.conformance.bench import Bench, Feature
from tests.conformance.cases import case


def shown(bench: Bench) -> int:
    """Return a slot that every node has confirmed."""
    return bench.cluster.slot - 2


async def mark(bench: Bench) -> str:
    """Trade once, so that there is a history, and return its newest transaction."""
    await bench.open()
    await bench.close()
    await bench.slots(3)
    first = await bench.reconcilable.history(None, shown(bench))
    assert first.complete
    assert first.events == ()
    assert first.newest is not None
    return first.newest


async def since(bench: Bench, known: str | None) -> tuple[VenueEvent, ...]:
    """Return what happened after a mark, read by a provider that remembers nothing."""
    await bench.slots(3)
    history = await bench.reconcilable.history(known, shown(bench))
    assert history.complete
    return history.events


@case(80, Feature.HOLDINGS)
async def holdings_are_the_positions(bench: Bench) -> None:
    """Holdings are read at one slot, at or after the one that is asked for, with everything that is held."""
    await bench.open(Side.SHORT)
    wanted = bench.cluster.slot
    await bench.slots(3)
    holdings = await bench.reconcilable.holdings(wanted)
    assert holdings.provider == bench.provider_name
    assert holdings.slot >= wanted
    (position,) = holdings.positions
    assert (position.market, position.side, position.size) == (bench.market, Side.SHORT, bench.size)
    assert holdings.orders == ()


@case(81, Feature.HOLDINGS)
async def holdings_of_nothing_are_empty(bench: Bench) -> None:
    """A market that was closed is no holding."""
    assert (await bench.reconcilable.holdings()).positions == ()
    await bench.open()
    await bench.close()
    assert (await bench.reconcilable.holdings()).positions == ()


@case(82, Feature.HOLDINGS, Feature.REST)
async def holdings_show_what_rests(bench: Bench) -> None:
    """An order that rests is listed with its side, its size and the transaction that placed it."""
    bench.venue.hold_orders()
    await bench.slots(2)
    submission = await bench.prepared()
    await bench.provider.submit(submission)
    await bench.until(submission, lambda each: each.resting)
    (order,) = (await bench.reconcilable.holdings()).orders
    assert (order.market, order.side, order.size) == (bench.market, Side.LONG, bench.size)
    assert not order.reduce_only
    assert order.placed_by in {submission.handle, None}


@case(83, Feature.HISTORY)
async def history_names_fills_as_settling_does(bench: Bench) -> None:
    """A fill of ours is in the history under the id, size, price and fee that settling gave it."""
    known = await mark(bench)
    opened = await bench.open()
    closed = await bench.close()
    events = await since(bench, known)
    fills = [*opened.fills, *closed.fills]
    assert [event.venue_fill_id for event in events] == [fill.venue_fill_id for fill in fills]
    assert [event.base_delta for event in events] == [bench.size, -bench.size]
    assert [event.price for event in events] == [fill.price for fill in fills]
    assert [event.fee_usd for event in events] == [fill.fee_usd for fill in fills]
    assert {event.kind for event in events} == {VenueEventKind.TRADE}


@case(84, Feature.HISTORY)
async def history_shows_foreign_trades(bench: Bench) -> None:
    """What was traded behind the router's back is there with its evidence, and adds up to what is held."""
    known = await mark(bench)
    ours = await bench.open()
    foreign = await bench.foreign_trade(Side.LONG, bench.size * 2)
    events = await since(bench, known)
    assert sum((event.base_delta for event in events), Decimal(0)) == await bench.held() == bench.size * 3
    ids = {fill.venue_fill_id for fill in ours.fills}
    strangers = [event for event in events if event.venue_fill_id not in ids]
    assert {event.signature for event in strangers} == {fill.signature for fill in foreign.fills}


@case(85, Feature.HISTORY)
async def history_goes_on_from_its_mark(bench: Bench) -> None:
    """Each part of the history begins where the one before ended: nothing twice, nothing left out."""
    known: str | None = await mark(bench)
    seen: list[str] = []
    for _ in range(3):
        await bench.open()
        await bench.slots(3)
        history = await bench.reconcilable.history(known, shown(bench))
        assert history.complete
        seen += [event.venue_fill_id for event in history.events]
        known = history.newest
    assert len(set(seen)) == len(seen) == 3
    assert await since(bench, known) == ()


@case(86, Feature.HISTORY)
async def history_ends_at_the_slot_that_is_asked(bench: Bench) -> None:
    """Transactions of later slots are left for the next time."""
    known = await mark(bench)
    await bench.open()
    await bench.slots(3)
    through = shown(bench)
    await bench.open()
    await bench.slots(3)
    first = await bench.reconcilable.history(known, through)
    assert len(first.events) == 1
    rest = await bench.reconcilable.history(first.newest, shown(bench))
    assert len(rest.events) == 1
    assert rest.events[0].slot > through


@case(87, Feature.HISTORY, Feature.LIQUIDATION)
async def history_shows_liquidations(bench: Bench) -> None:
    """What a liquidator took is an event of its own kind, and adds up to what is left."""
    known = await mark(bench)
    await bench.open(size=bench.size * 10, leverage=Decimal(2))
    bench.venue.liquidate()
    events = await since(bench, known)
    taken = [event for event in events if event.kind is VenueEventKind.LIQUIDATION]
    assert taken
    assert all(event.base_delta < 0 for event in taken)
    assert sum((event.base_delta for event in events), Decimal(0)) == await bench.held()
