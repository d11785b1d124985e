"""The venue's accounts as they are read, held against bytes of the chain and offsets written down elsewhere."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from anchorpy import Idl as AnchorIdl
from anchorpy.coder.accounts import AccountsCoder
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.mango.addresses import bank_address, mango_account_address, mint_info_address, perp_market_address
from providers.mango.config import MangoConfig
from providers.mango.constants import MAIN_GROUP, PROGRAM_ID, BookSideOrderTree, IxGate, Side
from providers.mango.layouts import (
    ACCOUNT_SIZES,
    i80f48_of_f32,
    i80f48_of_f64,
    mango_account_size,
    read_bank,
    read_book_side,
    read_event_queue,
    read_group,
    read_mango_account,
    read_perp_market,
)
from providers.mango.orderbook import FillEvent, OutEvent
from providers.solana.idl import Idl
from providers.solana.layout import AccountLayout
from tests.mango import mango_samples as samples
from tests.mango.mango_samples import ONE, SHARED, SNAPSHOTS, Perp, Resting, fixed, key


def test_addresses_of_the_public_deployment() -> None:
    """Derived addresses are those that the venue's markets and tokens have."""
    markets = {
        0: "HwhVGkfsSQ9JSQeQYu2CbkRCLvsh3qRZxG6m4oMVwZpN",
        2: "ESdnpnNLgTkBCZRuTJkZLi5wKEZ2z47SG3PJrhundSQ2",
        4: "GcMimCLCU8aQhUpZwB5dWTQDxkTzuMy8uKQfujjYjz4b",
    }
    for index, address in markets.items():
        assert str(perp_market_address(PROGRAM_ID, MAIN_GROUP, index)) == address
    assert str(bank_address(PROGRAM_ID, MAIN_GROUP, 0)) == "J6MsZiJUU6bjKSCkbfQsiHkd8gvJoddG2hsdSFsZQEZV"
    assert str(bank_address(PROGRAM_ID, MAIN_GROUP, 4)) == "FqEhSJSP3ao8RwRSekaAQ9sNQBSANhfb6EPtxQBByyh5"
    usdc = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
    assert str(mint_info_address(PROGRAM_ID, MAIN_GROUP, usdc)) == "9jPkVdufMKbg62ndJHv5CqCAkzssmstyDi9kxsvrjbSc"
    assert mango_account_address(PROGRAM_ID, MAIN_GROUP, key(1), 0) != mango_account_address(
        PROGRAM_ID, MAIN_GROUP, key(1), 1
    )


def test_settings() -> None:
    """Settings are read from text, and refused when unknown or out of range."""
    assert MangoConfig.of({}) == MangoConfig()
    config = MangoConfig.of({"group": str(key(1)), "account_num": "3", "match_limit": "8", "lookup_tables": ""})
    assert (config.group, config.account_num, config.match_limit) == (key(1), 3, 8)
    for wrong in ({"nonsense": "1"}, {"match_limit": "0"}, {"match_limit": "256"}, {"account_num": "-1"}):
        with pytest.raises(ValueError, match=r"mango has no setting|must"):
            MangoConfig.of(wrong)


def test_sizes_follow_from_the_description() -> None:
    """Every account of fixed size has the size that its description adds up to."""
    described = Idl.load("mango_v4")
    for name, size in ACCOUNT_SIZES.items():
        assert AccountLayout(described, name).size == size


def test_group() -> None:
    """A group's gate is a bit an instruction; empty places of lookup tables are left out."""
    group = read_group(samples.group_bytes(ix_gate=1 << 22 | 1 << 40, tables=[key(9), samples.PROGRAM]))
    assert group.group_num == 7
    assert group.lookup_tables == (key(9), samples.PROGRAM)
    closed = {each for each in IxGate if group.is_disabled(each)}
    assert closed == {IxGate.PERP_PLACE_ORDER, IxGate.TOKEN_DEPOSIT}


def test_bank() -> None:
    """Balances grow with the deposit index, debts with the borrow index."""
    bank = read_bank(samples.bank_bytes(token=4, decimals=9, name="SOL", indices=("1.5", "2"), staleness=99))
    assert (bank.symbol, bank.token_index, bank.mint_decimals, bank.max_staleness_slots) == ("SOL", 4, 9, 99)
    assert (bank.mint, bank.vault, bank.oracle) == (key(104), key(204), key(304))
    assert bank.native(fixed(10)) == fixed(15)
    assert bank.native(fixed(-10)) == fixed(-20)
    assert bank.stable_price == ONE


def test_perp_market() -> None:
    """A market's fields are where the venue's page has them."""
    market = read_perp_market(samples.market_bytes(index=3, stable=0.25, penalty=12.5, reduce_only=True))
    keys = samples.market_keys(3)
    assert (market.bids, market.asks, market.event_queue, market.oracle) == keys
    assert (market.perp_market_index, market.base_decimals, market.venue_symbol) == (3, 9, "SOL-PERP")
    assert (market.base_lot_size, market.quote_lot_size) == (10_000_000, 100)
    assert (market.maint_base_asset_weight, market.init_base_liab_weight) == (fixed("0.95"), fixed("1.1"))
    assert (market.min_funding, market.max_funding, market.impact_quantity) == (fixed("-0.05"), fixed("0.05"), 100)
    assert (market.stable_price, market.fee_penalty) == (ONE // 4, ONE * 25 // 2)
    assert (market.reduce_only, market.force_close, market.open_interest) == (1, 0, 12345)
    assert market.taker_fee == fixed("0.0006")


@pytest.mark.parametrize("name", ["Group", "Bank", "PerpMarket", "BookSide", "EventQueue"])
def test_other_accounts_are_refused(name: str) -> None:
    """Another discriminator or another length is no account of that kind."""
    readers = {
        "Group": read_group,
        "Bank": read_bank,
        "PerpMarket": read_perp_market,
        "BookSide": read_book_side,
        "EventQueue": read_event_queue,
    }
    size = ACCOUNT_SIZES[name]
    good = samples.lead(name) + bytes(size - 8)
    for data in (b"", good[:-1], good + b"\0", samples.lead("Other") + bytes(size - 8)):
        with pytest.raises(BadAnswer):
            readers[name](data)


def test_floats_become_fixed_numbers_as_on_chain() -> None:
    """A float becomes the nearest `I80F48`, ties to the even one; what is no number is refused."""
    assert i80f48_of_f64(0x3FF0000000000000) == ONE
    assert i80f48_of_f64(0xBFE0000000000000) == -ONE // 2
    # Half a unit of 2**-48 goes to the even neighbour: 0.5 to 0, 1.5 to 2.
    assert i80f48_of_f64((1023 - 49) << 52) == 0
    assert i80f48_of_f64((1023 - 48) << 52 | 1 << 51) == 2
    assert i80f48_of_f32(0x3F800000) == ONE
    for bits in (0x7FF0000000000000, 0x7FF8000000000000):
        with pytest.raises(BadAnswer):
            i80f48_of_f64(bits)


def test_trading_account() -> None:
    """Every slot is listed in its place; free ones are told by their index."""
    data = samples.account_bytes(
        tokens=[(0, fixed(5)), (FREE_SLOT, 0), (4, fixed(-1))],
        perps=[Perp(), Perp(market=2, base=-7, quote=fixed(3), taker_base=4, taker_quote=-9, bids=1, asks=2)],
        orders=[(0, FREE_SLOT, 0), (3, 2, 11)],
        being_liquidated=True,
        frozen_until=1234,
    )
    account = read_mango_account(data)
    assert len(data) == mango_account_size(tokens=4, serum3=0, perps=4, perp_open_orders=8)
    assert (account.owner, account.delegate, account.sequence_number) == (key(2), key(3), 5)
    assert (account.being_liquidated, account.frozen_until) == (1, 1234)
    assert [each.is_active for each in account.tokens] == [True, False, True, False]
    assert [each.token_index for each in account.active_tokens] == [0, 4]
    (perp,) = account.active_perps
    assert (perp.market_index, perp.effective_base_lots, perp.taker_quote_lots) == (2, -3, -9)
    assert (perp.bids_base_lots, perp.asks_base_lots, perp.quote_position_native) == (1, 2, fixed(3))
    assert perp.has_open_orders
    assert perp.has_open_taker_fills
    assert account.perp(2) == account.perps[1]
    assert account.perp(3) is None
    (order,) = account.open_orders
    assert (order.market, order.side, order.quantity) == (2, Side.ASK, 11)


FREE_SLOT = samples.FREE


@pytest.mark.parametrize("cut", [0, 7, 100, 410, 500, 1500])
def test_a_cut_trading_account_is_refused(cut: int) -> None:
    """An account that ends inside its slots is not read in part."""
    with pytest.raises(BadAnswer):
        read_mango_account(samples.account_bytes()[:cut])


def test_event_queue_is_a_ring() -> None:
    """Entries follow from the head, around the end; each kind has its own fields."""
    queue = read_event_queue(samples.queue_bytes(count=5, head=486))
    events = list(queue.events())
    assert (queue.count, queue.free, queue.seq_num) == (5, 483, 500)
    assert [type(each) for each in events] == [FillEvent, FillEvent, OutEvent, FillEvent, FillEvent]
    assert [each.seq_num for each in events] == [0, 1, 2, 3, 4]
    fill, out = events[1], events[2]
    assert isinstance(fill, FillEvent)
    assert isinstance(out, OutEvent)
    assert (fill.price, fill.quantity, fill.taker_side, fill.maker, fill.taker) == (1001, 2, Side.ASK, key(6), key(7))
    assert (fill.taker_client_order_id, fill.maker_order_id, fill.maker_client_order_id) == (11, 21, 31)
    assert (out.owner, out.quantity, out.order_id, out.owner_slot) == (key(8), 12, 3, 9)


def test_a_tree_that_leads_nowhere_is_refused() -> None:
    """A root that names a free node, or nodes that form a ring, never end in a quote."""
    data = bytearray(samples.book_bytes(bids=False, fixed_orders=[Resting(5, 1, 1), Resting(6, 1, 2)]))
    free = bytearray(data)
    free[8:12] = (7).to_bytes(4, "little")
    ring = bytearray(data)
    root = int.from_bytes(data[8:12], "little")
    at = 840 + 120 * root + 24
    ring[at : at + 8] = root.to_bytes(4, "little") * 2
    beyond = bytearray(data)
    beyond[8:12] = (1024).to_bytes(4, "little")
    for broken in (free, ring, beyond):
        with pytest.raises(BadAnswer):
            list(read_book_side(bytes(broken)).leaves(BookSideOrderTree.FIXED))


# --- against the venue's own data -------------------------------------------------------------------------------------


@pytest.fixture
def snapshots() -> Path:
    """Return the folder with accounts of the chain, where it is at hand."""
    if not SNAPSHOTS.is_dir():
        pytest.skip("the reference data is not beside the project")
    return SNAPSHOTS


@pytest.fixture
def full_idl() -> dict[str, Any]:
    """Return the venue's whole interface description, where it is at hand."""
    path = SHARED / "idl" / "mango_v4.json"
    if not path.exists():
        pytest.skip("the reference data is not beside the project")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.mark.shared
def test_an_account_of_the_chain_is_read_like_its_own_decoder_does(snapshots: Path, full_idl: dict[str, Any]) -> None:
    """A real trading account gives field by field what the interface description's decoder gives."""
    data = (snapshots / "mangoaccount-v0.21.3.bin").read_bytes()
    ours = read_mango_account(data)
    assert len(data) == mango_account_size(tokens=8, serum3=4, perps=4, perp_open_orders=64, swaps=8)
    coder = AccountsCoder(AnchorIdl.from_json(json.dumps(full_idl)))
    theirs: Any = coder.decode(data)
    for name in ("group", "owner", "delegate", "account_num", "net_deposits", "frozen_until", "sequence_number"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert [(each.token_index, each.indexed_position) for each in ours.tokens] == [
        (each.token_index, each.indexed_position.val) for each in theirs.tokens
    ]
    for mine, other in zip(ours.perps, theirs.perps, strict=True):
        assert mine.market_index == other.market_index
        assert mine.long_settled_funding == other.long_settled_funding.val
        assert mine.quote_position_native == other.quote_position_native.val
        assert mine.base_position_lots == other.base_position_lots
    assert [each.market for each in ours.perp_open_orders] == [each.market for each in theirs.perp_open_orders]
    assert [each.market_index for each in ours.serum3] == [each.market_index for each in theirs.serum3]
    assert len(ours.active_tokens) == 7


@pytest.mark.shared
def test_own_description_is_part_of_the_venues(full_idl: dict[str, Any]) -> None:
    """The trimmed description has nothing that the venue's does not have, and all of its error codes."""
    ours = json.loads(resources.files("idl").joinpath("mango_v4.json").read_bytes())
    for kind in ("instructions", "accounts", "types", "events"):
        theirs = {each["name"]: without_extras(each) for each in full_idl[kind]}
        assert ours[kind]
        for each in ours[kind]:
            assert each == theirs[each["name"]], each["name"]
    assert ours["errors"] == [{"code": each["code"], "name": each["name"]} for each in full_idl["errors"]]
    assert len(ours["errors"]) == 73


def without_extras(value: Any) -> Any:
    """Return a part of a description without prose, derivations and flags."""
    extras = {"docs", "index", "pda", "relations", "returns"}
    if isinstance(value, dict):
        return {name: without_extras(each) for name, each in value.items() if name not in extras}
    return [without_extras(each) for each in value] if isinstance(value, list) else value
