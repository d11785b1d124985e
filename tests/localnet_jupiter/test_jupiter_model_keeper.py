"""The keeper: when it executes, when it gives back, what it leaves behind when it dies."""

from __future__ import annotations

from decimal import Decimal

from solders.pubkey import Pubkey

from router.localnet.history import Landed
from router.localnet.jupiter.events import ClosePositionRequestEvent, DecreasePositionEvent, IncreasePositionEvent
from router.localnet.jupiter.pricing import LONG
from tests.localnet_jupiter.jupiter_bench import SOL, USD, Venue, events_in


def history(venue: Venue, key: Pubkey) -> list[Landed]:
    """Return the transactions of an address, the oldest first."""
    return list(venue.cluster.bank.history.of_address(bytes(key)))[::-1]


def closed(venue: Venue, key: Pubkey) -> ClosePositionRequestEvent:
    """Return the event of a request's end, the last that happened at its address."""
    (event,) = events_in(history(venue, key)[-1], ClosePositionRequestEvent)
    return event


def test_a_request_is_executed_and_closed_in_one_transaction(tended: Venue) -> None:
    """After the delay, and not before; both events stand in the transaction that ended the request."""
    key = tended.open()
    tended.cluster.advance(3)
    assert tended.request(key) is not None
    tended.cluster.advance(1)
    assert tended.request(key) is None
    assert tended.position().size_usd == 1_000 * USD
    created, ended = history(tended, key)
    assert created.signature != ended.signature
    (fill,) = events_in(ended, IncreasePositionEvent)
    assert (fill.position_request_key, fill.size_usd_delta) == (key, 1_000 * USD)
    assert closed(tended, key).executed


def test_the_delay_is_a_setting(tended: Venue) -> None:
    """A slow keeper is a slow fill."""
    tended.controls.set_keeper_delay(20)
    key = tended.open()
    tended.cluster.advance(20)
    assert tended.request(key) is not None
    tended.cluster.advance(1)
    assert tended.request(key) is None


def test_a_keeper_that_rejects(tended: Venue) -> None:
    """The request ends with nothing executed, the collateral is back; then it executes again."""
    before = tended.tokens("USDC")
    tended.controls.reject("liquidity")
    key = tended.open()
    tended.cluster.advance(5)
    assert tended.request(key) is None
    assert (closed(tended, key).executed, closed(tended, key).amount) == (False, 100 * USD)
    assert tended.tokens("USDC") == before
    assert tended.position().size_usd == 0
    tended.controls.reject(None)
    tended.open()
    tended.cluster.advance(5)
    assert tended.position().size_usd == 1_000 * USD


def test_what_cannot_be_executed_is_given_back(tended: Venue) -> None:
    """A worst price that is not met and a full pool end a request at once; both tries are on record."""
    for price, free in ((151 * USD, 1_000_000), (None, 500)):
        tended.controls.set_free_tokens("USDC", Decimal(free))
        key = tended.open(price=price)
        tended.cluster.advance(5)
        assert tended.request(key) is None
        assert not closed(tended, key).executed
        created, tried, ended = history(tended, key)
        assert [landed.err == b"null" for landed in (created, tried, ended)] == [True, False, True]
    assert tended.position().size_usd == 0


def test_a_price_that_is_too_old_is_waited_for_until_the_time_is_over(tended: Venue) -> None:
    """The keeper tries again while the request may be executed, and then gives it back."""
    tended.controls.freeze_oracle("SOL")
    tended.wait(6)
    first = tended.open()
    tended.wait(20)
    assert tended.request(first) is not None
    tended.controls.set_oracle_price("SOL", Decimal(151))
    tended.controls.freeze_oracle("SOL", frozen=False)
    tended.wait(10)
    assert tended.request(first) is None
    assert tended.position().price == 151 * USD
    tended.controls.freeze_oracle("SOL")
    tended.wait(6)
    late = tended.open()
    tended.wait(60)
    assert tended.request(late) is None
    assert not closed(tended, late).executed


def test_a_keeper_that_stands_still(tended: Venue) -> None:
    """Nothing happens to a request; when the keeper comes back too late it gives the collateral back."""
    before = tended.tokens("USDC")
    tended.controls.run_keeper(running=False)
    key = tended.open()
    tended.wait(50)
    assert tended.request(key) is not None
    tended.controls.run_keeper()
    tended.cluster.advance(5)
    assert tended.request(key) is None
    assert not closed(tended, key).executed
    assert tended.tokens("USDC") == before


def test_a_keeper_that_dies_between_its_steps(tended: Venue) -> None:
    """The position is there, the request too, marked executed; nothing else happens until the keeper is revived."""
    tended.controls.die_between_steps()
    key = tended.open()
    other = tended.open(market="BTC-PERP")
    tended.cluster.advance(50)
    request = tended.request(key)
    assert request is not None
    assert request.executed
    assert tended.position().size_usd == 1_000 * USD
    assert tended.tokens("USDC", key) == 0
    assert tended.request(other) is not None
    assert not tended.position("BTC-PERP").size_usd
    tended.controls.revive()
    tended.cluster.advance(5)
    assert tended.request(key) is None
    assert closed(tended, key).executed
    assert tended.position().size_usd == 1_000 * USD
    assert tended.position("BTC-PERP").size_usd == 1_000 * USD


def test_the_owner_may_close_what_a_dead_keeper_left(tended: Venue) -> None:
    """After the window an executed close is closed by its owner, and what it brought is paid out by that."""
    tended.open()
    tended.cluster.advance(5)
    before = tended.tokens("USDC")
    tended.controls.die_between_steps()
    key = tended.reduce()
    tended.cluster.advance(5)
    assert tended.position().size_usd == 0
    assert tended.tokens("USDC") == before
    assert tended.cancel(key) == 6016
    paid = tended.tokens("USDC", key)
    assert 98_590_000 < paid <= 98_600_000
    tended.wait(46)
    assert tended.cancel(key) is None
    assert closed(tended, key).executed
    assert tended.tokens("USDC") == before + paid


def test_two_steps(tended: Venue) -> None:
    """In two transactions the request is seen executed for a slot."""
    tended.controls.separate_steps()
    key = tended.open()
    tended.cluster.advance(4)
    request = tended.request(key)
    assert request is not None
    assert request.executed
    tended.cluster.advance(1)
    assert tended.request(key) is None
    assert len(history(tended, key)) == 3


def test_a_stop_and_a_take_profit(tended: Venue) -> None:
    """The one whose price is reached closes the position at that price; the other is swept away with its rents."""
    tended.open()
    tended.cluster.advance(5)
    stop, profit = tended.reduce(trigger=(160 * USD, True)), tended.reduce(trigger=(140 * USD, False))
    lamports = tended.lamports()
    tended.wait(100)
    assert tended.request(stop) is not None
    tended.controls.set_oracle_price("SOL-PERP", Decimal("139.5"))
    tended.cluster.advance(10)
    assert tended.request(stop) is None
    assert tended.request(profit) is None
    (event,) = events_in(history(tended, profit)[-1], DecreasePositionEvent)
    assert (event.price, event.position_size_usd) == (140 * USD, 0)
    assert not closed(tended, stop).executed
    assert tended.lamports() == lamports + 2 * (3_062_400 + 2_039_280)


def test_a_stop_whose_owner_cannot_be_paid_waits(tended: Venue) -> None:
    """Without the token account that it pays into it is tried in vain, and executed when the account is there."""
    tended.wrap(SOL)
    tended.open(side=LONG, collateral=SOL)
    tended.cluster.advance(5)
    key = tended.reduce(side=LONG, trigger=(140 * USD, False))
    tended.cluster.set_account(tended.slot(side=LONG).wallet_tokens, None)
    tended.controls.set_oracle_price("SOL-PERP", Decimal(139))
    tended.cluster.advance(50)
    assert tended.request(key) is not None
    assert tended.position(side=LONG).size_usd == 1_000 * USD
    tended.wrap(0)
    tended.cluster.advance(25)
    assert tended.request(key) is None
    assert tended.position(side=LONG).size_usd == 0
    assert tended.tokens("SOL") > 0


def test_in_the_same_slot_the_owner_s_close_can_win(tended: Venue) -> None:
    """A stop taken away in the slot in which it would be executed is gone, and the position stays."""
    tended.open()
    tended.cluster.advance(5)
    key = tended.reduce(trigger=(160 * USD, True))
    tended.cluster.advance(10)
    tended.controls.set_oracle_price("SOL-PERP", Decimal(161))
    assert tended.cancel(key) is None
    tended.cluster.advance(10)
    assert tended.position().size_usd == 1_000 * USD
    assert not closed(tended, key).executed
