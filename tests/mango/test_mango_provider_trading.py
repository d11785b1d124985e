"""Trading over the wire on the venue's model: opens, closes, partial fills, zero matches, expiry, lost answers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.base.errors import BelowMinimum, ProviderError, WorstPriceNotMet, WouldNet
from providers.base.types import OrderKind, OutcomeState, QuoteTerms, Side
from tests.mango.mango_desk import SOL, MangoDesk, at_mango_desk


def test_an_open_fills_at_its_quote_and_is_held() -> None:
    """Price, fee and size of the fill are the quote's, and the account holds it at once, nothing consumed yet."""

    async def play(desk: MangoDesk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(60)))
        submission = await desk.sent(await desk.terms(Side.LONG, "60"))
        outcome = await desk.settled(submission)
        (fill,) = outcome.fills
        assert outcome.state is OutcomeState.FILLED
        assert fill.size == 60
        assert fill.size_usd == quote.size_usd
        assert fill.fee_usd == quote.fee_usd
        assert fill.carry_index is not None
        assert await desk.held() == 60
        assert await desk.provider.cancel(submission) is None

    at_mango_desk(play)


@pytest.mark.parametrize("side", list(Side))
def test_a_close_takes_the_position_back_to_nothing(side: Side) -> None:
    """A position is closed in two parts on its own side; the second part may ask for more than there is."""

    async def play(desk: MangoDesk) -> None:
        await desk.settled(await desk.sent(await desk.terms(side, "3")))
        first = await desk.settled(await desk.sent(await desk.terms(side, "1", kind=OrderKind.CLOSE)))
        assert (first.state, sum(each.size for each in first.fills)) == (OutcomeState.FILLED, 1)
        assert abs(await desk.held()) == 2
        terms = await desk.terms(side, "2.5", kind=OrderKind.CLOSE)
        rest = await desk.sent(terms)
        assert rest.size == 2
        assert (await desk.settled(rest)).state is OutcomeState.FILLED
        assert await desk.held() == 0
        with pytest.raises(ProviderError, match="holds no"):
            await desk.provider.prepare_close(terms)

    at_mango_desk(play)


def test_an_open_that_would_net_or_round_to_nothing_is_refused() -> None:
    """Against a holding on the other side, and below a lot, nothing is sent; a close below a lot neither."""

    async def play(desk: MangoDesk) -> None:
        await desk.settled(await desk.sent(await desk.terms(Side.LONG, "1")))
        with pytest.raises(WouldNet):
            await desk.provider.prepare_open(await desk.terms(Side.SHORT, "1", worst="1"))
        for kind in OrderKind:
            with pytest.raises(BelowMinimum):
                await desk.prepared(await desk.terms(Side.LONG, "0.0009", kind=kind, worst="150"))
        assert await desk.held() == 1

    at_mango_desk(play)


def test_a_bound_inside_the_book_fills_in_part_and_one_before_it_is_refused() -> None:
    """What the bound lets through is filled and the rest is gone; with nothing at the bound nothing is sent."""

    async def play(desk: MangoDesk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        # The first level has 50 SOL, the next is five ticks above.
        partial = await desk.settled(await desk.sent(await desk.terms(size="60", worst=str(quote.expected_price))))
        assert partial.state is OutcomeState.PARTIALLY_FILLED
        assert sum(each.size for each in partial.fills) == 50
        assert all(each.price <= quote.expected_price for each in partial.fills)
        assert not partial.resting
        with pytest.raises(WorstPriceNotMet):
            await desk.provider.prepare_open(await desk.terms(size="1", worst=str(quote.expected_price)))

    at_mango_desk(play)


def test_what_others_took_first_is_a_zero_match_and_its_penalty_is_on_record() -> None:
    """Two orders at a bound with room for one: the second lands, matches nothing, is dead of capacity, and paid."""

    async def play(desk: MangoDesk) -> None:
        quote = await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(1)))
        worst = str(quote.expected_price)
        first = await desk.prepared(await desk.terms(size="50", worst=worst))
        second = await desk.prepared(await desk.terms(size="50", worst=worst))
        await desk.provider.submit(first)
        assert (await desk.settled(first)).state is OutcomeState.FILLED
        await desk.provider.submit(second)
        outcome = await desk.settled(second)
        assert outcome.state is OutcomeState.DEAD
        assert (outcome.landed, outcome.executed, outcome.fills) == (True, True, ())
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.error_class) == ("no_liquidity", "capacity")
        (evidence,) = outcome.evidence
        assert evidence.kind == "no_fill_logs"
        assert evidence.fee_usd is not None
        assert await desk.held() == 50

    at_mango_desk(play)


def test_an_order_past_its_expiry_is_skipped_and_dead() -> None:
    """Sent after its deadline it lands, does nothing, and pays nothing."""

    async def play(desk: MangoDesk) -> None:
        submission = await desk.prepared(await desk.terms(ttl_s=5))
        await desk.slots(20)
        await desk.provider.submit(submission)
        outcome = await desk.settled(submission)
        assert outcome.state is OutcomeState.DEAD
        assert outcome.error is not None
        assert outcome.error.code == "auction_expired"
        assert outcome.evidence[0].fee_usd is None
        assert await desk.held() == 0

    at_mango_desk(play)


def test_a_lost_answer_is_settled_from_the_submission_alone_and_sent_again_fills_once() -> None:
    """A provider that never saw the answer proves the fill; the same bytes again change nothing."""

    async def play(desk: MangoDesk) -> None:
        submission = await desk.sent(await desk.terms())
        other = desk.restarted()
        outcome = await desk.settled(submission, provider=other)
        assert outcome.state is OutcomeState.FILLED
        await other.submit(submission)
        await desk.slots(5)
        again = await other.settle(submission)
        assert [each.venue_fill_id for each in again.fills] == [each.venue_fill_id for each in outcome.fills]
        assert await desk.held() == 1

    at_mango_desk(play)


def test_history_tells_the_fills_by_the_same_names_and_adds_up_to_the_holding() -> None:
    """Events after a mark are the fills of our attempts, by their ids; their sum is what is held."""

    async def play(desk: MangoDesk) -> None:
        await desk.settled(await desk.sent(await desk.terms(size="1")))
        holdings = await desk.provider.holdings()
        mark = (await desk.provider.history(None, holdings.slot)).newest
        opened = await desk.settled(await desk.sent(await desk.terms(size="3")))
        closed = await desk.settled(await desk.sent(await desk.terms(size="2", kind=OrderKind.CLOSE)))
        holdings = await desk.provider.holdings(closed.slot or 0)
        history = await desk.provider.history(mark, holdings.slot)
        fills = [*opened.fills, *closed.fills]
        assert history.complete
        assert [each.venue_fill_id for each in history.events] == [each.venue_fill_id for each in fills]
        assert [each.base_delta for each in history.events] == [Decimal(3), Decimal(-2)]
        assert [each.fee_usd for each in history.events] == [each.fee_usd for each in fills]
        (position,) = holdings.positions
        assert position.size == 2

    at_mango_desk(play)
