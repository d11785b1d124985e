"""The model's hand-written layouts against the venue's own IDL and decoders."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # The sum types of these libraries use what attrs has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from anchorpy.coder.accounts import AccountsCoder
    from anchorpy.coder.instruction import InstructionCoder
    from anchorpy.program.common import NamedInstruction
    from anchorpy_core.idl import Idl
    from driftpy.decode.user import decode_user
    from driftpy.types import MarketType, OrderTriggerCondition, OrderType, PositionDirection, PostOnlyParams
    from driftpy.types import OrderParams as TheirParams

from router.localnet.anchor import account_discriminator, event_discriminator, instruction_discriminator
from router.localnet.codec import Layout
from router.localnet.drift.layouts import State, User, UserStats
from router.localnet.drift.market_layouts import PerpMarket, SpotMarket
from router.localnet.drift.refusals import CODES
from router.localnet.drift.wire import OrderParams, decode_order_params, encode_order_params
from tests.localnet_drift.drift_bench import BASE, PRICE, Bench, limit

SIZES = {"u8": 1, "i8": 1, "bool": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8, "u128": 16,
         "i128": 16, "publicKey": 32}  # fmt: skip
# Padding of build 2.84 that later builds use, and the fields that they put into it.
REUSED = re.compile(
    r"padding|fuel|pool_id|margin_mode|max_margin_ratio$|remainder_base|high_leverage|protected_maker|last_fill_price|"
    r"feature_bit|posted_slot|bit_flags|max_position_size|intensity_count|mm_oracle|referrer_status|is_referrer|"
    r"if_staked_gov|token_program|_padding|oracle_slot_delay|oracle_low_risk|amm_spread_adj|amm_inventory|"
    r"reference_price_offset|default_market_order|last_fuel|taker_speed_bump|last_funding_oracle_twap"
)


@pytest.fixture(scope="module")
def idl() -> dict[str, Any]:
    """Return the IDL that the venue's library ships."""
    spec = importlib.util.find_spec("driftpy")
    assert spec is not None
    assert spec.origin is not None
    loaded: dict[str, Any] = json.loads((Path(spec.origin).parent / "idl" / "drift.json").read_text())
    return loaded


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=\d)|(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _fields(idl: dict[str, Any], definition: dict[str, Any], prefix: str, offset: int) -> list[tuple[str, int, int]]:
    """Return (path, offset, size) of every plain field, walking into structs and arrays."""
    found: list[tuple[str, int, int]] = []
    for each in definition["fields"]:
        inner = _one(idl, each["type"], prefix + _snake(each["name"]), offset)
        found += inner
        offset = max(at + size for _, at, size in inner)
    return found


def _one(idl: dict[str, Any], kind: Any, path: str, offset: int) -> list[tuple[str, int, int]]:
    if isinstance(kind, str):
        return [(path, offset, SIZES[kind])]
    if "array" in kind:
        item, count = kind["array"]
        if item == "u8":
            return [(path, offset, count)]
        found: list[tuple[str, int, int]] = []
        for index in range(count):
            found += _one(idl, item, f"{path}.{index}", offset)
            offset = max(at + size for _, at, size in found)
        return found
    definition = next(each for each in idl["types"] if each["name"] == kind["defined"])["type"]
    if definition["kind"] == "enum":
        return [(path, offset, 1)]
    return _fields(idl, definition, path + ".", offset)


@pytest.mark.parametrize("layout", [State, User, UserStats, PerpMarket, SpotMarket])
def test_every_field_stands_where_the_idl_has_it(idl: dict[str, Any], layout: type[Layout]) -> None:
    """Offsets and widths agree for every field that both know; only reused padding differs."""
    account = next(each for each in idl["accounts"] if each["name"] == layout.__name__)
    theirs = _fields(idl, account["type"], "", 0)
    assert max(at + size for _, at, size in theirs) == layout.size()
    compared = 0
    for path, at, size in theirs:
        try:
            ours = layout.offset_of(path)
        except StopIteration:
            assert REUSED.search(path), path
            continue
        if not REUSED.search(path):
            assert ours == (at, size), path
            compared += 1
    assert compared > 0.6 * len(theirs)


def test_discriminators_are_the_venues(idl: dict[str, Any]) -> None:
    """Accounts, instructions and events begin as the framework derives them from their names."""
    names = {_snake(each["name"]) for each in idl["instructions"]}
    for name in ("place_and_take_perp_order", "fill_perp_order", "cancel_order", "settle_pnl", "initialize_user"):
        assert name in names
    assert instruction_discriminator("place_and_take_perp_order").hex() == "d53301bb6cdce6e0"
    assert account_discriminator("User").hex() == "9f755fe3ef973aec"
    assert event_discriminator("OrderActionRecord").hex() == "e0344347c2ed6d01"


def test_error_codes_are_the_venues(idl: dict[str, Any]) -> None:
    """Every venue code that the model answers has the same name in the IDL."""
    names = {each["code"]: each["name"] for each in idl["errors"]}
    ours = {code: name for name, code in CODES.items() if code >= 6000}
    assert {code: names[code] for code in ours} == ours


def test_accounts_decode_with_the_venues_own_decoder(model_bench: Bench, idl: dict[str, Any]) -> None:
    """What the model writes, the venue's library reads with the same numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        coder = AccountsCoder(Idl.from_json(json.dumps(idl)))

    bench = model_bench
    bench.send([bench.take(limit(0, 10 * BASE, 152 * PRICE))])
    bench.send([bench.take(limit(0, BASE, 140 * PRICE))])
    account = bench.cluster.account(bench.world.trader_account.user)
    market = bench.cluster.account(bench.world.market("SOL-PERP").address)
    assert account is not None
    assert market is not None
    user, perp = decode_user(bytes(account.data)), coder.decode(bytes(market.data))
    position = bench.position()
    assert position is not None
    assert user.perp_positions[0].base_asset_amount == position.base_asset_amount
    assert user.perp_positions[0].quote_entry_amount == position.quote_entry_amount
    assert [order.price for order in user.orders if order.order_id == 2] == [140 * PRICE]
    amm = bench.market().amm
    assert perp.amm.base_asset_reserve == amm.base_asset_reserve
    assert perp.amm.ask_quote_asset_reserve == amm.ask_quote_asset_reserve
    assert perp.amm.historical_oracle_data.last_oracle_price == 150 * PRICE


def test_order_arguments_are_those_of_the_venues_coder(idl: dict[str, Any]) -> None:
    """The instruction coder of the framework, fed with the venue's IDL, writes the same bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        coder = InstructionCoder(Idl.from_json(json.dumps(idl)))
    theirs = TheirParams(
        order_type=OrderType.Limit(),
        market_type=MarketType.Perp(),
        direction=PositionDirection.Short(),
        user_order_id=9,
        base_asset_amount=3 * BASE,
        price=149 * PRICE,
        market_index=1,
        reduce_only=True,
        post_only=PostOnlyParams.NONE(),
        bit_flags=1,
        max_ts=1_780_000_000,
        trigger_condition=OrderTriggerCondition.Above(),
        auction_duration=5,
        auction_start_price=151 * PRICE,
        auction_end_price=149 * PRICE,
    )
    encoded = coder.build(
        NamedInstruction(name="place_and_take_perp_order", data={"params": theirs, "success_condition": None})
    )
    ours = OrderParams(
        order_type=1, direction=1, user_order_id=9, base_asset_amount=3 * BASE, price=149 * PRICE, market_index=1,
        reduce_only=True, immediate_or_cancel=True, max_ts=1_780_000_000, auction_duration=5,
        auction_start_price=151 * PRICE, auction_end_price=149 * PRICE,
    )  # fmt: skip
    assert encoded == instruction_discriminator("place_and_take_perp_order") + encode_order_params(ours) + b"\0"
    assert decode_order_params(encoded, 8) == (ours, len(encoded) - 1)
