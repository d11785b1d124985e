"""Accounts read by offset, held against the interface description's own decoder."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from providers.base.errors import BadAnswer
from providers.drift import layouts
from providers.drift.addresses import (
    perp_market_address,
    signer_address,
    spot_market_address,
    spot_vault_address,
    state_address,
    user_address,
    user_stats_address,
)
from providers.drift.constants import PROGRAM_ID
from tests.drift.drift_samples import account_bytes, coder, decoded, full_idl

READERS = {
    "State": layouts.read_state,
    "User": layouts.read_user,
    "UserStats": layouts.read_user_stats,
    "PerpMarket": layouts.read_perp_market,
    "SpotMarket": layouts.read_spot_market,
}
SIZES = {"State": 992, "User": 4376, "UserStats": 240, "PerpMarket": 1216, "SpotMarket": 776}


def numbers(seed: int) -> random.Random:
    """Return numbers that repeat."""
    return random.Random(seed)  # noqa: S311 - nothing secret


def squeeze(name: str) -> str:
    """Return a name without underscores: the oracle and the adapter place them differently around digits."""
    return name.replace("_", "")


def plain(value: Any) -> Any:
    """Return a decoded value as the adapter has it: an enumeration by number, bytes for arrays of bytes."""
    if type(value).__module__ in {"sumtypes", "types"} and hasattr(type(value), "_attrs_class"):
        raise AssertionError("a struct is not a scalar")
    return bytes(value) if isinstance(value, list) else value


def variant_number(type_name: str, value: Any) -> int:
    """Return the number of an enumeration's variant."""
    body = next(each["type"] for each in full_idl()["types"] if each["name"] == type_name)
    names = [each["name"] for each in body["variants"]]
    return names.index(type(value).__name__)


def find(source: Any, name: str) -> Any:
    """Return the field of that name in a decoded account or in the structs that the adapter flattens."""
    for holder in (source, getattr(source, "amm", None)):
        if holder is None:
            continue
        for inner in (holder, getattr(holder, "historical_oracle_data", None)):
            for field in vars(inner) if inner is not None else ():
                if squeeze(field) == squeeze(name):
                    return getattr(inner, field)
    raise AssertionError(f"the oracle has no {name}")


def same(mine: Any, theirs: Any, context: str) -> None:
    """Compare a scalar of both readers."""
    if isinstance(mine, int) and not isinstance(theirs, int):
        body = [each for each in full_idl()["types"] if each["type"]["kind"] == "enum"]
        name = type(theirs).__name__
        owners = [each["name"] for each in body if name in {variant["name"] for variant in each["type"]["variants"]}]
        assert mine in {variant_number(owner, theirs) for owner in owners}, context
    else:
        assert mine == plain(theirs), context


def compare(mine: msgspec.Struct, theirs: Any, skip: frozenset[str] = frozenset()) -> None:
    """Compare every field that the adapter reads with the oracle's."""
    for field in type(mine).__struct_fields__:
        if field not in skip:
            same(getattr(mine, field), find(theirs, field), field)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_programs(name: str) -> None:
    """An account is exactly as long as the program makes it, discriminator included."""
    assert len(account_bytes(name)) == SIZES[name]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["UserStats", "PerpMarket", "SpotMarket"])
def test_flat_accounts_read_as_the_oracle_reads_them(name: str, seed: int) -> None:
    """Every field of random bytes is what the interface description's decoder finds there."""
    data = account_bytes(name, rng=numbers(seed))
    compare(READERS[name](data), decoded(data))


@pytest.mark.parametrize("seed", range(5))
def test_state_reads_as_the_oracle_reads_it(seed: int) -> None:
    """Fee tiers and guard rails of random bytes are what the decoder finds there."""
    data = account_bytes("State", rng=numbers(seed))
    mine, theirs = layouts.read_state(data), decoded(data)
    compare(mine, theirs, frozenset({"fee_tiers", "guard_rails"}))
    assert [(tier.fee_numerator, tier.fee_denominator) for tier in mine.fee_tiers] == [
        (tier.fee_numerator, tier.fee_denominator) for tier in theirs.perp_fee_structure.fee_tiers
    ]
    rails = theirs.oracle_guard_rails
    compare(mine.guard_rails, rails.validity, frozenset({"twap_divergence"}))
    assert mine.guard_rails.twap_divergence == rails.price_divergence.oracle_twap5min_percent_divergence


@pytest.mark.parametrize("seed", range(5))
def test_user_reads_as_the_oracle_reads_it(seed: int) -> None:
    """Positions and open orders are the oracle's, slot for slot; empty slots and ended orders are left out."""
    rng = numbers(seed)
    values = {f"orders.{index}.status": rng.randrange(4) for index in range(32)}
    data = account_bytes("User", values, rng=rng)
    mine, theirs = layouts.read_user(data), decoded(data)
    compare(mine, theirs, frozenset({"spot_positions", "perp_positions", "orders"}))
    assert len(mine.spot_positions) == len(mine.perp_positions) == 8
    for own, other in zip(mine.spot_positions, theirs.spot_positions, strict=True):
        compare(own, other)
    for own_perp, other in zip(mine.perp_positions, theirs.perp_positions, strict=True):
        compare(own_perp, other)
    open_orders = [each for each in theirs.orders if type(each.status).__name__ == "Open"]
    assert len(open_orders) == len(mine.orders)
    for own_order, other in zip(mine.orders, open_orders, strict=True):
        compare(own_order, other)


def test_empty_slots_are_left_out() -> None:
    """A fresh account holds nothing, and one position in the third slot is found by its market."""
    assert layouts.read_user(account_bytes("User")).perp_positions == ()
    data = account_bytes("User", {"perpPositions.2.baseAssetAmount": -7, "perpPositions.2.marketIndex": 1})
    user = layouts.read_user(data)
    position = user.perp_position(1)
    assert position is not None
    assert position.base_asset_amount == -7
    assert user.perp_position(0) is None


@pytest.mark.parametrize("name", SIZES)
def test_what_is_not_the_account_is_refused(name: str) -> None:
    """Another account's bytes, or a cut or longer account, are never read as this one."""
    data = account_bytes(name)
    other = account_bytes("User" if name != "User" else "State")
    for wrong in (other, data[:-1], data + b"\0", bytes(len(data)), b""):
        with pytest.raises(BadAnswer):
            READERS[name](wrong)


def test_addresses_are_the_venues() -> None:
    """Every derived address is the one that the venue's own library derives."""
    from driftpy import addresses as theirs  # noqa: PLC0415 - one second to import

    key = PROGRAM_ID
    assert state_address(key) == theirs.get_state_public_key(key)
    assert signer_address(key) == theirs.get_drift_client_signer_public_key(key)
    for index in (0, 1, 300):
        assert perp_market_address(key, index) == theirs.get_perp_market_public_key(key, index)
        assert spot_market_address(key, index) == theirs.get_spot_market_public_key(key, index)
        assert spot_vault_address(key, index) == theirs.get_spot_market_vault_public_key(key, index)
        assert user_address(key, key, index) == theirs.get_user_account_public_key(key, key, index)
    assert user_stats_address(key, key) == theirs.get_user_stats_account_public_key(key, key)


def test_own_description_is_part_of_the_venues() -> None:
    """The trimmed description has nothing that the venue's does not have, and all of its error codes."""
    ours = layouts_description()
    whole = full_idl()
    for kind in ("instructions", "accounts", "types", "events"):
        theirs = {each["name"]: without_docs(each) for each in whole[kind]}
        assert ours[kind]
        for each in ours[kind]:
            if kind == "events":
                # Older programs log fewer fields at the end: events stop where every version has them.
                fields = theirs[each["name"]]["fields"]
                assert each["fields"] == fields[: len(each["fields"])]
            else:
                assert each == theirs[each["name"]], each["name"]
    assert ours["errors"] == [{"code": each["code"], "name": each["name"]} for each in whole["errors"]]
    assert len(ours["errors"]) == 325
    assert set(coder().acc_name_to_discriminator) >= {each["name"] for each in ours["accounts"]}


def layouts_description() -> Any:
    """Return the package's own description, parsed."""
    from importlib import resources  # noqa: PLC0415 - used once

    return msgspec.json.decode(resources.files("idl").joinpath("drift.json").read_bytes())


def without_docs(value: Any) -> Any:
    """Return a part of a description without prose and without index flags."""
    if isinstance(value, dict):
        return {key: without_docs(each) for key, each in value.items() if key not in {"docs", "index"}}
    return [without_docs(each) for each in value] if isinstance(value, list) else value
