"""What reconciliation is told: holdings, waiting requests, and how positions changed, whoever changed them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.errors import BadAnswer, NodeBehind
from providers.base.types import Side, VenueEventKind, VenueHistory
from providers.jupiter.history import AccountHistory
from router.localnet.faults import Fault
from tests.jupiter.jupiter_desk import SOL, JupiterDesk, at_jupiter_desk


async def mark_of(desk: JupiterDesk) -> str:
    """Return the mark of everything until now."""
    mark = (await desk.provider.history(None, (await desk.provider.holdings()).slot)).newest
    assert mark is not None
    return mark


async def since(desk: JupiterDesk, mark: str) -> VenueHistory:
    """Return what happened after a mark."""
    await desk.slots(3)
    return await desk.restarted().history(mark, (await desk.provider.holdings()).slot)


def test_our_own_trades_have_the_names_of_their_fills() -> None:
    """Each change is told once, on its side, by the name that settling gave it."""

    async def play(desk: JupiterDesk) -> None:
        mark = await mark_of(desk)
        fills = [
            (await desk.opened(Side.LONG, "2")).fills[0],
            (await desk.opened(Side.SHORT, "3")).fills[0],
            (await desk.closed(Side.LONG, "0.5")).fills[0],
        ]
        history = await since(desk, mark)
        assert history.complete
        assert [each.venue_fill_id for each in history.events] == [each.venue_fill_id for each in fills]
        assert [(each.side, each.base_delta) for each in history.events] == [
            (Side.LONG, Decimal(2)),
            (Side.SHORT, Decimal(-3)),
            (Side.LONG, Decimal("-0.5")),
        ]
        assert {each.market for each in history.events} == {SOL}
        assert [each.fee_usd for each in history.events] == [each.fee_usd for each in fills]
        # The next time begins where this one ended.
        assert history.newest is not None
        assert (await since(desk, history.newest)).events == ()

    at_jupiter_desk(play)


def test_what_others_do_is_told() -> None:
    """A trade past the router, and a liquidation; both leave the holdings that the history adds up to."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "2", leverage="3")
        mark = await mark_of(desk)
        desk.controls.foreign_trade(SOL, "short", Decimal(300))
        desk.controls.foreign_trade(SOL, "short", Decimal(150), reduce=True)
        await desk.slots(3)
        (held,) = await desk.provider.positions()
        assert held.size == 3
        desk.controls.set_oracle_price(SOL, Decimal(151))
        desk.controls.liquidate(SOL, "short")
        history = await since(desk, mark)
        assert history.complete
        assert [(each.kind, each.base_delta) for each in history.events] == [
            (VenueEventKind.TRADE, Decimal(-2)),
            (VenueEventKind.TRADE, Decimal(1)),
            (VenueEventKind.LIQUIDATION, Decimal(3)),
        ]
        assert (await desk.provider.holdings()).positions == ()

    at_jupiter_desk(play)


def test_a_signature_is_a_mark_too() -> None:
    """What a fill's own transaction is named after is where its ledger began: later changes follow."""

    async def play(desk: JupiterDesk) -> None:
        first = (await desk.opened(Side.LONG, "1")).fills[0]
        second = (await desk.opened(Side.SHORT, "1")).fills[0]
        history = await since(desk, first.signature)
        assert history.complete
        assert [each.venue_fill_id for each in history.events] == [second.venue_fill_id]

    at_jupiter_desk(play)


def test_marks_that_are_none() -> None:
    """A mark that cannot be read is an error; a transaction that no node knows shows nothing."""

    async def play(desk: JupiterDesk) -> None:
        fill = (await desk.opened(Side.LONG, "1")).fills[0]
        slot = (await desk.provider.holdings()).slot
        with pytest.raises(BadAnswer):
            await desk.provider.history("@x", slot)
        unknown = await desk.provider.history(fill.signature[::-1], slot)
        assert not unknown.complete

    at_jupiter_desk(play)


def test_a_pruned_history_is_not_whole() -> None:
    """A node that does not serve the mark's slot any more proves no absence."""

    async def play(desk: JupiterDesk) -> None:
        mark = await mark_of(desk)
        await desk.opened(Side.LONG, "1")
        await desk.slots(10)
        desk.cluster.forget_history(2)
        history = await since(desk, mark)
        assert (history.complete, history.events, history.newest) == (False, (), mark)

    at_jupiter_desk(play)


def test_two_nodes_must_agree() -> None:
    """One node that cannot list the history leaves it incomplete where two are configured."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        mark = await mark_of(desk)
        desk.controls.foreign_trade(SOL, "long", Decimal(150))
        await desk.slots(3)
        desk.faults.add(Fault(kind="internal_error", method="getSignaturesForAddress", node="node1", count=None))
        history = await desk.provider.history(mark, (await desk.provider.holdings()).slot)
        assert not history.complete
        assert [each.base_delta for each in history.events] == [1]

    at_jupiter_desk(play)


def test_a_long_history_comes_in_parts() -> None:
    """At most so many transactions a call, whole slots each, and nothing is told twice or left out."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "1")
        mark = await mark_of(desk)
        for _ in range(5):
            desk.controls.foreign_trade(SOL, "short", Decimal(150))
            await desk.slots(1)
        await desk.slots(3)
        slot = (await desk.provider.holdings()).slot
        reader = AccountHistory(desk.solana, desk.config, most_transactions=4)
        key = desk.world.position(desk.owner, SOL, 2)
        told: list[str] = []
        more = True
        while more:
            history = await reader.read([key], mark, slot)
            told += [each.venue_fill_id for each in history.events]
            assert history.newest is not None
            assert history.complete is not history.more
            assert len(told) <= 5
            mark, more = history.newest, history.more
        assert len(told) == len(set(told)) == 5

    at_jupiter_desk(play)


def test_holdings_tell_what_waits_and_who_placed_it() -> None:
    """An open that waits, with its side, size and the transaction that made it; ours and somebody else's."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "2")
        desk.controls.run_keeper(running=False)
        opening = await desk.open(Side.SHORT, "3", worst="150")
        closing = await desk.close(Side.LONG, "2")
        for each in (opening, closing):
            await desk.until(each, lambda outcome: outcome.resting)
        holdings = await desk.provider.holdings()
        found = {each.placed_by: each for each in holdings.orders}
        assert set(found) == {opening.handle, closing.handle}
        assert (found[opening.handle].side, found[opening.handle].reduce_only) == (Side.SHORT, False)
        assert found[opening.handle].size == 3
        assert found[opening.handle].price == 150
        assert (found[closing.handle].side, found[closing.handle].reduce_only) == (Side.SHORT, True)
        assert found[closing.handle].size == 2
        (position,) = holdings.positions
        assert (position.side, position.size) == (Side.LONG, Decimal(2))
        assert position.size_tolerance < Decimal("0.00001")

    at_jupiter_desk(play)


def test_a_slot_that_no_node_has_reached() -> None:
    """Holdings are never older than they are asked to be."""

    async def play(desk: JupiterDesk) -> None:
        with pytest.raises(NodeBehind):
            await desk.provider.holdings(desk.cluster.slot + 100)

    at_jupiter_desk(play)


def test_a_wallet_that_never_traded() -> None:
    """Nothing is held, nothing has happened, and there is a mark from which everything later counts."""

    async def play(desk: JupiterDesk) -> None:
        mark = await mark_of(desk)
        assert (await since(desk, mark)).events == ()
        desk.controls.foreign_trade(SOL, "long", Decimal(1_500))
        history = await since(desk, mark)
        assert history.complete
        assert [each.base_delta for each in history.events] == [10]

    at_jupiter_desk(play)


def test_requests_of_others_are_not_ours() -> None:
    """Of all that waits on the venue only what is the wallet's own is told."""

    async def play(desk: JupiterDesk) -> None:
        desk.controls.run_keeper(running=False)
        ours = await desk.open(Side.SHORT, "1")
        await desk.until(ours, lambda outcome: outcome.resting)
        maker = desk.world.maker
        stranger = desk.of(maker)
        desk.controls.fund_wallet(maker.pubkey(), "USDC", Decimal(1_000))
        await desk.slots(2)
        terms = await desk.terms(Side.SHORT, "2", lock=await desk.lock_of(maker))
        theirs = await stranger.prepare_open(terms)
        await stranger.submit(theirs)
        await desk.until(theirs, lambda outcome: outcome.resting, provider=stranger)
        assert [each.placed_by for each in (await desk.provider.holdings()).orders] == [ours.handle]
        assert [each.placed_by for each in (await stranger.holdings()).orders] == [theirs.handle]

    at_jupiter_desk(play)


def test_a_short_on_another_token_is_shown_with_ours() -> None:
    """Somebody backed a short with USDT: the holding is the sum, no one price liquidates it, and ours closes alone."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "2")
        desk.copy_short_to("USDT")
        await desk.slots(2)
        (both,) = await desk.provider.positions()
        assert (both.side, both.size, both.entry_price) == (Side.SHORT, Decimal(4), Decimal(150))
        assert both.liquidation_price is None
        closed = await desk.closed(Side.SHORT, "2")
        assert closed.fills[0].size == 2
        (left,) = await desk.provider.positions()
        assert left.size == 2
        assert left.liquidation_price is not None

    at_jupiter_desk(play)
