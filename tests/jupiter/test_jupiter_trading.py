"""Opening and closing over the wire: collateral, sizes, lots, what comes back to the last lamport."""

from __future__ import annotations

from decimal import Decimal

import pytest
from solders.pubkey import Pubkey

from providers.base.errors import (
    AuctionExpired,
    BelowMinimum,
    InvalidSize,
    LockHeld,
    NotListed,
)
from providers.base.types import OrderKind, OutcomeState, Purpose, QuoteTerms, Side
from providers.jupiter.addresses import escrow_address, funding_address, funding_seed
from providers.jupiter.quote import base_of_usd
from providers.solana.body import decode_body
from tests.jupiter.jupiter_desk import SOL, JupiterDesk, at_jupiter_desk, order_in

LAMPORTS = 10**9
PACKET = 1232


@pytest.mark.parametrize("market", ["SOL-PERP", "ETH-PERP", "BTC-PERP"])
@pytest.mark.parametrize("side", list(Side))
def test_open_and_close(market: str, side: Side) -> None:
    """A request fills, the position is what was filled, and closing the fill's own size leaves nothing."""

    async def play(desk: JupiterDesk) -> None:
        size = {"SOL-PERP": "1.23456", "ETH-PERP": "0.123456", "BTC-PERP": "0.0123456"}[market]
        opened = await desk.opened(side, size, market=market, leverage="3")
        (fill,) = opened.fills
        assert opened.state is OutcomeState.FILLED
        assert fill.size == Decimal(size)
        assert opened.evidence[0].kind == "request_executed"
        (position,) = await desk.provider.positions()
        assert (position.market, position.side, position.size) == (market, side, fill.size)
        assert position.entry_price == fill.price
        closed = await desk.closed(side, f"{fill.size:f}", market=market)
        assert closed.state is OutcomeState.FILLED
        assert closed.fills[0].size == fill.size
        assert closed.fills[0].size_usd == fill.size * closed.fills[0].price
        assert await desk.provider.positions() == ()

    at_jupiter_desk(play)


def test_a_price_that_moves_between_quote_and_fill() -> None:
    """An open fills dollars: at a better price it is a little more base than was accepted, and closes to nothing."""

    async def play(desk: JupiterDesk) -> None:
        submission = await desk.open(Side.LONG, "10", worst="160")
        await desk.slots(1)
        desk.controls.set_oracle_price("SOL-PERP", Decimal("149.123457"))
        outcome = await desk.settled(submission)
        (fill,) = outcome.fills
        assert outcome.state is OutcomeState.FILLED
        assert submission.size == 10
        assert fill.size == base_of_usd(1_500_000_000, 149_123_457, Decimal("1e-9")) > 10
        assert fill.size_usd == 1_500
        (position,) = await desk.provider.positions()
        assert position.size == fill.size
        closed = await desk.closed(Side.LONG, f"{fill.size:f}")
        assert closed.fills[0].size == fill.size
        assert await desk.provider.positions() == ()

    at_jupiter_desk(play)


def test_lots_on_one_slot() -> None:
    """A second open grows the position; closing one lot closes its part, and the other is left as it was."""

    async def play(desk: JupiterDesk) -> None:
        first = (await desk.opened(Side.SHORT, "2", leverage="4", worst="100")).fills[0]
        desk.controls.set_oracle_price("SOL-PERP", Decimal("157.7"))
        second = (await desk.opened(Side.SHORT, "3.3", leverage="2", worst="100")).fills[0]
        (together,) = await desk.provider.positions()
        assert abs(together.size - first.size - second.size) <= together.size_tolerance
        desk.controls.set_oracle_price("SOL-PERP", Decimal("140.1"))
        await desk.slots(2)
        usdc = desk.tokens("USDC")
        closed = await desk.closed(Side.SHORT, f"{first.size:f}", worst="142")
        assert (closed.state, closed.fills[0].size) == (OutcomeState.FILLED, first.size)
        # Its share of the collateral and its profit came back.
        assert usdc is not None
        assert desk.tokens("USDC") > usdc + 70 * 10**6  # type: ignore[operator]
        (rest,) = await desk.provider.positions()
        assert abs(rest.size - second.size) <= rest.size_tolerance
        last = await desk.closed(Side.SHORT, f"{second.size:f}", worst="200")
        assert (last.state, last.fills[0].size) == (OutcomeState.FILLED, second.size)
        assert await desk.provider.positions() == ()

    at_jupiter_desk(play)


def test_both_sides_at_once() -> None:
    """A long and a short of one market are held side by side, and closed each for itself."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.LONG, "1")
        await desk.opened(Side.SHORT, "2")
        held = {each.side: each.size for each in await desk.provider.positions()}
        assert held == {Side.LONG: 1, Side.SHORT: 2}
        await desk.closed(Side.LONG, "1")
        assert [each.side for each in await desk.provider.positions()] == [Side.SHORT]

    at_jupiter_desk(play)


def test_a_partial_close() -> None:
    """Part of a lot closes with its share of the collateral, but for what it may lose until it executes."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "8", leverage="5")
        before = desk.controls.position("SOL-PERP", "short")
        closed = await desk.closed(Side.SHORT, "2.5", worst="150")
        assert closed.fills[0].size == Decimal("2.5")
        after = desk.controls.position("SOL-PERP", "short")
        assert before is not None
        assert after is not None
        assert after.size_usd * 8 == before.size_usd * 55 // 10
        assert 0 <= after.collateral_usd - before.collateral_usd * after.size_usd // before.size_usd <= 1
        assert (await desk.held()) == Decimal("-5.5")
        # At the bound it could lose a tenth of its value: that much stays.
        await desk.closed(Side.SHORT, "2.5", worst="165")
        rest = desk.controls.position("SOL-PERP", "short")
        assert rest is not None
        kept = rest.collateral_usd - after.collateral_usd * rest.size_usd // after.size_usd
        assert abs(kept - 37_500_000) <= 1

    at_jupiter_desk(play)


@pytest.mark.parametrize("price", ["168", "171"])
def test_a_lot_that_closes_at_a_loss_costs_the_others_nothing(price: str) -> None:
    """Six tenths of the collateral are lost: what one lot gets back is its own, and the other is as safe as before."""

    async def play(desk: JupiterDesk) -> None:
        await desk.opened(Side.SHORT, "2", leverage="5", worst="1")
        await desk.opened(Side.SHORT, "2", leverage="5", worst="1")
        desk.controls.set_oracle_price("SOL-PERP", Decimal(price))
        await desk.slots(2)
        (before,) = await desk.provider.positions()
        await desk.closed(Side.SHORT, "2", worst="175")
        (after,) = await desk.provider.positions()
        assert after.size == 2
        assert before.liquidation_price is not None
        assert after.liquidation_price is not None
        assert after.liquidation_price >= before.liquidation_price
        usdc = desk.tokens("USDC")
        await desk.closed(Side.SHORT, "2", worst="200")
        assert usdc is not None
        assert desk.tokens("USDC") > usdc  # type: ignore[operator]

    at_jupiter_desk(play)


def test_every_lamport_comes_back() -> None:
    """After a long and back nothing is gone but fees, the order locks and the rent of the position's account."""

    async def play(desk: JupiterDesk) -> None:
        before = desk.lamports()
        terms = await desk.terms(Side.LONG, "2", leverage="2")
        opening = await desk.sent(terms)
        order = order_in(opening)
        opened = await desk.settled(opening)
        assert opened.state is OutcomeState.FILLED
        position = Pubkey.from_string(order.position)
        assert not desk.exists(order.request)
        assert not desk.exists(escrow_address(order.request_key, Pubkey.from_string(order.mint)))
        assert not desk.exists(funding_address(desk.owner, funding_seed(terms.order_id, terms.number)))
        assert terms.lock is not None
        lock = terms.lock.terms.base_lamports + terms.number
        token_rent = await desk.solana.pool.minimum_balance(165)
        wrapped = desk.tokens("SOL")
        assert wrapped == 0
        spent = before - desk.lamports()
        fees = await desk.fees(opening)
        assert spent == order.collateral_delta + lock + token_rent + desk.lamports(position) + fees
        closing = await desk.close(Side.LONG, "2")
        closed = await desk.settled(closing)
        assert closed.state is OutcomeState.FILLED
        assert not desk.exists(order_in(closing).request)
        # The collateral less the fees of both ways, in tokens at the price that did not move.
        paid = sum((each.fee_usd for each in (*opened.fills, *closed.fills)), Decimal(0))
        tokens = desk.tokens("SOL")
        assert tokens is not None
        assert abs(order.collateral_delta - tokens - paid / 150 * LAMPORTS) <= 20
        unwrapping = await desk.provider.unwrap()
        assert unwrapping is not None
        await desk.provider.submit(unwrapping)
        await desk.slots(3)
        assert desk.tokens("SOL") is None
        everything = 2 * lock + desk.lamports(position) + fees + await desk.fees(closing) + await desk.fees(unwrapping)
        assert before - desk.lamports() == order.collateral_delta - tokens + everything

    at_jupiter_desk(play)


@pytest.mark.parametrize("kind", ["open", "close", "trigger", "cancel"])
def test_transactions_fit_a_packet(kind: str) -> None:
    """The largest of each kind: lock, compute budget, every account made, wrapped SOL."""

    async def play(desk: JupiterDesk) -> None:
        if kind == "open":
            submission = await desk.prepared(await desk.terms(Side.LONG, "1"))
        else:
            await desk.opened(Side.LONG, "1")
            if kind == "close":
                submission = await desk.prepared(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE))
            else:
                terms = await desk.trigger_terms(Side.LONG, Decimal(1), "200", above=True, worst="190")
                submission = await desk.provider.prepare_trigger(terms)
                if kind == "cancel":
                    await desk.provider.submit(submission)
                    await desk.until(submission, lambda each: each.resting)
                    cancel = await desk.provider.cancel(submission)
                    assert cancel is not None
                    submission = cancel
        assert len(decode_body(submission).signed) <= PACKET - 100
        assert submission.purpose is {"open": Purpose.OPEN, "cancel": Purpose.CANCEL}.get(kind, Purpose.CLOSE)

    at_jupiter_desk(play)


def test_the_lock_lets_one_of_two_siblings_through() -> None:
    """Two attempts of one generation, sent together: one request exists, the other can never."""

    async def play(desk: JupiterDesk) -> None:
        lock = await desk.lock()
        submissions = [
            await desk.prepared(await desk.terms(Side.SHORT, "1", lock=lock, number=number)) for number in (1, 2)
        ]
        assert len({order_in(each).request for each in submissions}) == 2
        for each in reversed(submissions):
            await desk.provider.submit(each)
        outcomes = [await desk.settled(each) for each in submissions]
        assert {each.state for each in outcomes} == {OutcomeState.FILLED, OutcomeState.SUPERSEDED}
        assert await desk.held() == -1
        with pytest.raises(LockHeld):
            await desk.prepared(await desk.terms(Side.SHORT, "1", lock=lock, number=3))

    at_jupiter_desk(play)


def test_sizes_that_are_none() -> None:
    """Nothing, less than a step, a market that is not there, a deadline that has passed."""

    async def play(desk: JupiterDesk) -> None:
        prepare = desk.provider.prepare_open
        with pytest.raises(InvalidSize):
            await prepare(await desk.terms(Side.LONG, "0", worst="160"))
        with pytest.raises(BelowMinimum):
            await prepare(await desk.terms(Side.LONG, "0.000009", worst="160"))
        with pytest.raises(NotListed):
            await prepare(await desk.terms(Side.LONG, "1", worst="160", market="DOGE-PERP"))
        with pytest.raises(AuctionExpired):
            await prepare(await desk.terms(Side.LONG, "1", ttl_s=-5))
        with pytest.raises(InvalidSize):
            await desk.provider.quote(QuoteTerms(market=SOL, side=Side.LONG, size=Decimal(-1)))

    at_jupiter_desk(play)


def test_nothing_to_close() -> None:
    """A close without a position, or after it, is refused; more than is held closes what is held."""

    async def play(desk: JupiterDesk) -> None:
        with pytest.raises(InvalidSize):
            await desk.prepared(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE))
        await desk.opened(Side.LONG, "1")
        closed = await desk.closed(Side.LONG, "5")
        assert closed.state is OutcomeState.FILLED
        assert closed.fills[0].size == 1
        with pytest.raises(InvalidSize):
            await desk.prepared(await desk.terms(Side.LONG, "1", kind=OrderKind.CLOSE))

    at_jupiter_desk(play)


def test_an_account_to_show_and_none_to_fill() -> None:
    """The wallet's tokens, positions and waiting requests; there is nothing to set up, and nothing to deposit into."""

    async def play(desk: JupiterDesk) -> None:
        assert await desk.provider.init() is None
        with pytest.raises(InvalidSize, match="stays in the wallet"):
            await desk.provider.deposit(Decimal(100))
        await desk.opened(Side.LONG, "1")
        terms = await desk.trigger_terms(Side.LONG, Decimal(1), "100", above=False, worst="90")
        submission = await desk.provider.prepare_trigger(terms)
        await desk.provider.submit(submission)
        await desk.until(submission, lambda each: each.resting)
        summary = await desk.provider.show()
        assert summary.tokens["BTC"] == 1
        assert summary.tokens["SOL"] == 0
        assert [each.size for each in summary.positions] == [1]
        assert [each.placed_by for each in summary.requests] == [submission.handle]

    at_jupiter_desk(play)
