"""What an order would match: walks worked out by hand, and random books against a second, naive walk."""

from __future__ import annotations

import random

import pytest

from providers.base.errors import BadAnswer
from providers.mango.book import StopReason, Taker, Walk, best_price, impact_price, oracle_price_lots, orders, walk_book
from providers.mango.constants import BookSideOrderTree, SelfTradeBehavior
from providers.mango.layouts import read_book_side, read_perp_market
from providers.mango.orderbook import BookSide
from tests.mango import mango_samples as samples
from tests.mango.mango_samples import I64_MAX, Resting, fixed, key, node_key

NOW = 1_000
ME = key(50)


def asks(*fixed_orders: Resting, pegged: tuple[Resting, ...] = ()) -> BookSide:
    """Return a side of sellers."""
    return read_book_side(samples.book_bytes(bids=False, fixed_orders=fixed_orders, pegged=pegged))


def bids(*fixed_orders: Resting, pegged: tuple[Resting, ...] = ()) -> BookSide:
    """Return a side of buyers."""
    return read_book_side(samples.book_bytes(bids=True, fixed_orders=fixed_orders, pegged=pegged))


def walked(side: BookSide, taker: Taker, oracle: int = 100) -> Walk:
    """Walk a side at the test's time."""
    return walk_book(side, taker, now=NOW, oracle_lots=oracle)


def test_a_buy_takes_the_cheapest_first() -> None:
    """3 at 100, 4 at 102, then 1 of 5 at 103: 811 quote lots for eight base lots."""
    side = asks(Resting(103, 5, 3), Resting(100, 3, 9), Resting(102, 4, 1))
    walk = walked(side, Taker(max_base_lots=8))
    assert (walk.base_lots, walk.quote_lots, walk.matches) == (8, 300 + 408 + 103, 3)
    assert (walk.first_price, walk.last_price, walk.stopped) == (100, 103, StopReason.FILLED)


def test_a_sell_takes_the_dearest_first() -> None:
    """2 at 99, then 3 of 4 at 97."""
    side = bids(Resting(97, 4, 1), Resting(99, 2, 2), Resting(90, 9, 3))
    walk = walked(side, Taker(max_base_lots=5))
    assert (walk.base_lots, walk.quote_lots, walk.first_price, walk.last_price) == (5, 198 + 291, 99, 97)


def test_both_trees_are_one_queue() -> None:
    """Orders that follow the oracle stand between the fixed ones at their price of now; at one price age decides."""
    side = asks(Resting(101, 1, 5), Resting(103, 1, 6), pegged=(Resting(2, 1, 2), Resting(1, 1, 9), Resting(3, 1, 4)))
    met = [(each.price, each.leaf.key & 0xFF, each.tree) for each in orders(side, now=NOW, oracle_lots=100)]
    fixed_tree, pegged_tree = BookSideOrderTree.FIXED, BookSideOrderTree.ORACLE_PEGGED
    assert met == [
        (101, 5, fixed_tree),
        (101, 9, pegged_tree),
        (102, 2, pegged_tree),
        (103, 4, pegged_tree),
        (103, 6, fixed_tree),
    ]


def test_older_bids_come_first_at_one_price() -> None:
    """A bid's age is inverted in its key, so that the larger key is the older order."""
    side = bids(Resting(99, 1, 8), Resting(99, 2, 3), pegged=(Resting(-1, 4, 5),))
    assert [each.leaf.quantity for each in orders(side, now=NOW, oracle_lots=100)] == [2, 4, 1]


def test_orders_past_their_time_are_skipped() -> None:
    """An order ends in the second that its time is over, and takes a place in the queue when it is removed."""
    side = asks(
        Resting(100, 1, 1, timestamp=900, time_in_force=100),
        Resting(101, 1, 2, timestamp=901, time_in_force=100),
        Resting(102, 1, 3),
    )
    walk = walked(side, Taker(max_base_lots=2))
    assert (walk.quote_lots, walk.matches, walk.dropped, walk.events) == (203, 2, 1, 3)
    assert best_price(side, now=NOW + 1, oracle_lots=100) == 102


def test_pegs_past_their_limit_are_skipped() -> None:
    """A pegged ask below its limit, and a pegged bid above it, are not matched; at the limit they are."""
    sellers = asks(pegged=(Resting(-5, 1, 1, peg_limit=96), Resting(-4, 1, 2, peg_limit=96), Resting(0, 1, 3)))
    assert walked(sellers, Taker(max_base_lots=2)).quote_lots == 196
    buyers = bids(pegged=(Resting(5, 1, 1, peg_limit=104), Resting(4, 1, 2, peg_limit=104)))
    assert walked(buyers, Taker(max_base_lots=2)).quote_lots == 104
    assert walked(buyers, Taker(max_base_lots=2)).dropped == 1


def test_pegs_out_of_range_are_passed_over() -> None:
    """An offset that takes the price below one lot, or to the largest number, is no order now and is not removed."""
    side = asks(pegged=(Resting(-100, 1, 1), Resting(-99, 1, 2), Resting(I64_MAX - 100, 1, 3)))
    walk = walked(side, Taker(max_base_lots=9))
    assert (walk.base_lots, walk.quote_lots, walk.dropped) == (1, 1, 0)
    far = asks(pegged=(Resting(I64_MAX, 1, 3), Resting(-(1 << 63), 1, 4)))
    assert walked(far, Taker()).matches == 0


def test_the_price_limit_ends_a_walk() -> None:
    """The worst price itself is still taken; the order stays partly unfilled."""
    side = asks(Resting(100, 1, 1), Resting(101, 1, 2), Resting(102, 1, 3))
    walk = walked(side, Taker(max_base_lots=3, price_limit=101))
    assert (walk.base_lots, walk.last_price, walk.stopped) == (2, 101, StopReason.PRICE_LIMIT)
    buyers = bids(Resting(100, 1, 1), Resting(99, 1, 2))
    assert walked(buyers, Taker(max_base_lots=3, price_limit=100)).base_lots == 1


def test_the_match_limit_ends_a_walk_in_silence() -> None:
    """The venue stops after so many matches and lets the rest go."""
    side = asks(*(Resting(100 + each, 1, each) for each in range(10)))
    walk = walked(side, Taker(max_base_lots=10, limit=4))
    assert (walk.base_lots, walk.matches, walk.stopped) == (4, 4, StopReason.MATCH_LIMIT)
    assert walked(side, Taker(max_base_lots=4, limit=4)).stopped is StopReason.FILLED


def test_a_quote_limit_buys_whole_lots() -> None:
    """250 quote lots buy two at 100, and nothing of the next at 110."""
    side = asks(Resting(100, 2, 1), Resting(110, 2, 2))
    walk = walked(side, Taker(max_quote_lots=250))
    assert (walk.base_lots, walk.quote_lots, walk.stopped) == (2, 200, StopReason.QUOTE_SPENT)
    spent = walked(side, Taker(max_quote_lots=310))
    assert (spent.base_lots, spent.quote_lots, spent.stopped) == (3, 310, StopReason.QUOTE_SPENT)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (SelfTradeBehavior.ABORT_TRANSACTION, (1, 100, 0, 0, StopReason.OWN_ORDER)),
        (SelfTradeBehavior.DECREMENT_TAKE, (2, 202, 2, 202, StopReason.FILLED)),
        (SelfTradeBehavior.CANCEL_PROVIDE, (4, 406, 0, 0, StopReason.FILLED)),
    ],
)
def test_own_orders(behaviour: SelfTradeBehavior, expected: tuple[int, int, int, int, StopReason]) -> None:
    """An own order refuses the whole, cancels out without a fee, or leaves the book, as the order says."""
    side = asks(Resting(100, 1, 1), Resting(101, 2, 2, owner=ME), Resting(102, 9, 3))
    walk = walked(side, Taker(max_base_lots=4, account=ME, self_trade=behaviour))
    taken = (walk.base_lots, walk.quote_lots, walk.decremented_base_lots, walk.decremented_quote_lots, walk.stopped)
    assert taken == expected
    assert walk.canceled == (behaviour is SelfTradeBehavior.CANCEL_PROVIDE)


def test_impact_price() -> None:
    """The price at which the side reaches a quantity; none where it holds less."""
    side = asks(Resting(100, 5, 1), Resting(104, 5, 2))
    assert impact_price(side, 5, now=NOW, oracle_lots=1) == 100
    assert impact_price(side, 6, now=NOW, oracle_lots=1) == 104
    assert impact_price(side, 11, now=NOW, oracle_lots=1) is None


def test_an_empty_side() -> None:
    """A side without leaves has no price, whatever its root says."""
    data = bytearray(samples.book_bytes(bids=True))
    data[8:12] = (5).to_bytes(4, "little")
    side = read_book_side(bytes(data))
    assert best_price(side, now=NOW, oracle_lots=1) is None
    assert walked(side, Taker()).stopped is StopReason.BOOK_ENDED


def test_oracle_price_in_lots_is_cut_off() -> None:
    """0.14 native for lots of 10,000,000 and 100 is 14,000 lots; a little less is 13,999."""
    market = read_perp_market(samples.market_bytes())
    assert oracle_price_lots(market, fixed("0.14") + 1) == 14_000
    assert oracle_price_lots(market, fixed("0.14") - 1) == 13_999


def naive(
    fixed_orders: list[Resting], pegged: list[Resting], taker: Taker, *, side_bids: bool, oracle: int
) -> tuple[int, int, int]:
    """Return base, quote and matches by sorting everything, without any tree."""
    candidates: list[tuple[int, Resting]] = []
    for order, is_pegged in [*((each, False) for each in fixed_orders), *((each, True) for each in pegged)]:
        price = oracle + order.price if is_pegged else order.price
        if not 1 <= price < I64_MAX:
            continue
        over = is_pegged and order.peg_limit != -1
        if over and (price > order.peg_limit if side_bids else price < order.peg_limit):
            continue
        if order.time_in_force and order.timestamp + order.time_in_force <= NOW:
            continue
        candidates.append((price, order))
    candidates.sort(key=lambda each: (-each[0] if side_bids else each[0], each[1].sequence))
    base = quote = matches = 0
    for price, order in candidates:
        limit = taker.price_limit
        crossed = limit is not None and (price < limit if side_bids else price > limit)
        wanted = min(taker.max_base_lots - base, (taker.max_quote_lots - quote) // price)
        if crossed or matches == taker.limit or wanted <= 0:
            break
        got = min(wanted, order.quantity)
        base, quote, matches = base + got, quote + got * price, matches + 1
    return base, quote, matches


@pytest.mark.parametrize("seed", range(60))
def test_random_books_walk_like_a_sorted_list(seed: int) -> None:
    """Any book, however its nodes lie, gives what a sorted list of its orders gives."""
    dice = random.Random(seed)  # noqa: S311 - must repeat from its seed
    side_bids, oracle = dice.random() < 0.5, dice.randint(1, 200)
    sequences = iter(dice.sample(range(1, 10_000), 400))

    def some(count: int, least: int, most: int, *, pegs: bool) -> list[Resting]:
        return [
            Resting(
                dice.randint(least, most),
                dice.randint(1, 50),
                next(sequences),
                timestamp=dice.randint(900, 1000),
                time_in_force=dice.choice((0, 0, 50, 90, 200)),
                peg_limit=dice.choice((-1, -1, dice.randint(1, 300))) if pegs else -1,
            )
            for _ in range(count)
        ]

    fixed_orders = some(dice.randint(0, 120), 1, 300, pegs=False)
    pegged = some(dice.randint(0, 120), -250, 100, pegs=True)
    places = dice.sample(range(1024), 1024)
    side = read_book_side(samples.book_bytes(bids=side_bids, fixed_orders=fixed_orders, pegged=pegged, places=places))
    keys = [each.key for each in side.leaves(BookSideOrderTree.FIXED)]
    assert keys == sorted((node_key(each, bids=side_bids, pegged=False) for each in fixed_orders), reverse=side_bids)
    for _ in range(8):
        taker = Taker(
            max_base_lots=dice.randint(0, 3000),
            max_quote_lots=dice.choice((I64_MAX, dice.randint(0, 200_000))),
            price_limit=dice.choice((None, dice.randint(1, 300))),
            limit=dice.choice((1, 5, 30, 255)),
        )
        walk = walk_book(side, taker, now=NOW, oracle_lots=oracle)
        expected = naive(fixed_orders, pegged, taker, side_bids=side_bids, oracle=oracle)
        assert (walk.base_lots, walk.quote_lots, walk.matches) == expected


def test_a_walk_reads_only_what_it_takes() -> None:
    """Ten matches never come near the far end of a book: nodes that could not be read there do no harm."""
    data = bytearray(samples.book_bytes(bids=False, fixed_orders=[Resting(100 + each, 1, each) for each in range(500)]))
    for node in range(1024):
        at = 840 + 120 * node
        if data[at] == 2 and int.from_bytes(data[at + 16 : at + 24], "little") >= 200:
            data[at] = 3
    side = read_book_side(bytes(data))
    assert walked(side, Taker(max_base_lots=10)).matches == 10
    with pytest.raises(BadAnswer):
        walked(side, Taker(max_base_lots=150))
