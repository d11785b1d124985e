"""The venue's accounts and addresses, held against those of the chain."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import Any

import pytest
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.jupiter import addresses, layouts
from providers.jupiter.build import close_request_instruction, counter_of
from providers.jupiter.config import JupiterConfig
from providers.jupiter.constants import (
    BASES,
    MAIN_POOL,
    NATIVE_MINT,
    PROGRAM_ID,
    TOKENS,
    USDC_MINT,
    RequestChange,
    Side,
)
from providers.solana.idl import Idl, discriminator
from providers.solana.layout import AccountLayout
from providers.solana.programs import ASSOCIATED_TOKEN_PROGRAM, TOKEN_PROGRAM
from tests.jupiter import jupiter_samples as samples
from tests.jupiter.test_jupiter_requests import order_of

ORACLE_BYTES = discriminator("account", "AgPriceFeed") + bytes(160)


def oracle(price: int, exponent: int, timestamp: int) -> bytes:
    """Return an oracle's account."""
    numbers = ((price, 8), (exponent % 256, 1), (timestamp, 8))
    return ORACLE_BYTES + b"".join(number.to_bytes(size, "little") for number, size in numbers)


def test_addresses_of_the_public_deployment() -> None:
    """Derived addresses are those that the venue publishes."""
    assert str(addresses.perpetuals_address(PROGRAM_ID)) == "H4ND9aYttUVLFmNypZqLjZ52FYiGvdEB45GmwNoKEjTj"
    assert str(addresses.event_authority_address(PROGRAM_ID)) == "37hJBDnntwqhGbK7L6M1bLyvccj4u55CCUiLPdYkiqBN"
    assert str(addresses.transfer_authority_address(PROGRAM_ID)) == "AVzP2GeRmqGphJsMxWoqjpUifPpCret7LqWhD8NWQK49"
    assert addresses.pool_address(PROGRAM_ID, "Pool") == MAIN_POOL
    custodies = {symbol: addresses.custody_address(PROGRAM_ID, MAIN_POOL, mint) for mint, symbol in TOKENS.items()}
    assert {symbol: str(key) for symbol, key in custodies.items()} == {
        "SOL": "7xS2gz2bTp3fwCC7knJvUWTEU9Tycczu6VhJYKgi1wdz",
        "ETH": "AQCGyheWPLeo6Qp9WpYS9m3Qj479t7R636N9ey1rEjEn",
        "BTC": "5Pv3gM9JrFFH883SWAhvJC9RPYmo8UNxuFtv5bMMALkm",
        "USDC": "G18jKKXQwBbrHeiK3C9MRXhkHsLHf7XgCSisykV46EZa",
        "USDT": "4vkNeXiYEUizLdrpdPS1eC2mccyM4NUPRtERrk6ZETkk",
        "JupUSD": "DdwY1ELc9rRK7xNL3hTXabSFBmVrTPpfsUZSv2Y3LL1U",
    }
    vault = addresses.custody_token_address(PROGRAM_ID, MAIN_POOL, NATIVE_MINT)
    assert str(vault) == "BUvduFTd2sWFagCunBPLupG8fBTJqweLw9DuhruNFSCm"


def test_a_funding_account_is_of_one_attempt() -> None:
    """The account that an open wraps its SOL in differs by order and attempt, and its seed is one of the runtime's."""
    owner = Pubkey.new_unique()
    seeds = {addresses.funding_seed(order, number) for order in ("a", "b") for number in (1, 2)}
    assert len({addresses.funding_address(owner, seed) for seed in seeds}) == 4
    assert all(len(seed) == 32 for seed in seeds)


def test_settings() -> None:
    """Settings are read from text, and refused when unknown or not what they must be."""
    assert JupiterConfig.of({}) == JupiterConfig()
    key = Pubkey.new_unique()
    config = JupiterConfig.of({"pool": str(key), "lookup_tables": f"{key}, {key}", "program_id": " "})
    assert (config.pool, config.lookup_tables, config.program_id) == (key, (key, key), PROGRAM_ID)
    for wrong in ({"nonsense": "1"}, {"pool": "x"}):
        with pytest.raises(ValueError, match=r"."):
            JupiterConfig.of(wrong)


@pytest.mark.parametrize(
    ("price", "exponent", "expected"),
    [(15_012_345_678, -8, 150_123_456), (15_012_345, -5, 150_123_450), (7, 0, 7_000_000), (99, -8, 0)],
)
def test_an_oracle(price: int, exponent: int, expected: int) -> None:
    """Whatever its power of ten, the price is in millionths of a dollar, rounded down."""
    read = layouts.read_oracle(oracle(price, exponent, 1_790_000_000))
    assert (read.price, read.timestamp) == (expected, 1_790_000_000)


def test_other_accounts_are_refused() -> None:
    """Another discriminator, or too few bytes, is no account of that kind."""
    readers: dict[str, Any] = {
        "Custody": layouts.read_custody,
        "Position": layouts.read_position,
        "Pool": layouts.read_pool,
        "Perpetuals": layouts.read_perpetuals,
        "PositionRequest": layouts.read_request,
        "AgPriceFeed": layouts.read_oracle,
    }
    for name, reader in readers.items():
        for data in (b"", discriminator("account", name), discriminator("account", "Other") + bytes(3_000)):
            with pytest.raises(BadAnswer):
                reader(data)
    with pytest.raises(BadAnswer):
        layouts.read_token_account(bytes(164))


# --- against the chain ------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_positions_of_the_chain() -> None:
    """Addresses, bumps and amounts of four live positions."""
    found = samples.positions()
    assert len(found) == 4
    for key, position in found.items():
        seeds = (bytes(each) for each in (position.owner, position.pool, position.custody, position.collateral_custody))
        address, bump = Pubkey.find_program_address([b"position", *seeds, bytes([position.side])], PROGRAM_ID)
        assert (str(address), bump) == (key, position.bump)
        ours = addresses.position_address(
            PROGRAM_ID,
            owner=position.owner,
            pool=position.pool,
            custody=position.custody,
            collateral_custody=position.collateral_custody,
            side=Side(position.side),
        )
        assert ours == address
    amounts = sorted((each.price, each.size_usd, each.collateral_usd, each.side) for each in found.values())
    assert [(price, size, collateral) for price, size, collateral, _ in amounts] == [
        (76_093_217, 0, 0),
        (113_130_153, 992_903_150, 99_293_700),
        (116_018_022, 7_412_757_896, 272_733_845),
        (117_515_445, 1_183_738_004, 43_133_504),
    ]


@pytest.mark.shared
def test_requests_of_the_chain() -> None:
    """Addresses, bumps and escrows of four live requests; each is a trigger that waits."""
    found = samples.requests()
    assert len(found) == 4
    for key, request in found.items():
        seeds = [b"position_request", bytes(request.position), request.counter.to_bytes(8, "little")]
        address, bump = Pubkey.find_program_address([*seeds, bytes([request.change])], PROGRAM_ID)
        assert (str(address), bump) == (key, request.bump)
        assert addresses.request_address(PROGRAM_ID, request.position, request.counter, request.change) == address
        escrow = Pubkey.find_program_address(
            [bytes(address), bytes(TOKEN_PROGRAM), bytes(request.mint)], ASSOCIATED_TOKEN_PROGRAM
        )[0]
        assert addresses.escrow_address(address, request.mint) == escrow
        assert not request.executed
        assert request.trigger_price is not None
        assert request.kind.name == "TRIGGER"
    decreases = [each for each in found.values() if each.change is RequestChange.DECREASE]
    assert {each.entire_position for each in decreases} == {False}
    assert {each.collateral_delta for each in decreases} == {0}


@pytest.mark.shared
def test_pools_of_the_chain() -> None:
    """A pool of five custodies and one of six read alike, whatever the fields before have shifted."""
    older, newer = samples.pool(samples.FEBRUARY), samples.pool(samples.SEPTEMBER)
    assert newer.custodies[:5] == older.custodies
    assert len(newer.custodies) == 6
    for each in (older, newer):
        assert each.max_request_execution_sec == 45
        assert each.max_trigger_price_diff_bps == 500
        assert not each.disable_close_position_request


@pytest.mark.shared
def test_custodies_of_the_chain() -> None:
    """A custody's fields are where the venue's page has them, in both versions."""
    raw = samples.accounts_of(samples.SEPTEMBER, "custody")
    for key, custody in samples.custodies(samples.SEPTEMBER).items():
        data = raw[key]
        assert str(addresses.custody_address(PROGRAM_ID, custody.pool, custody.mint)) == key
        assert custody.token_account == addresses.custody_token_address(PROGRAM_ID, custody.pool, custody.mint)
        for name, offset, size in (
            ("max_price_age_sec", 147, 4),
            ("trade_impact_fee_scalar", 151, 8),
            ("max_leverage", 175, 8),
            ("max_global_long_sizes", 183, 8),
            ("max_global_short_sizes", 191, 8),
            ("allow_increase_position", 202, 1),
            ("allow_decrease_position", 203, 1),
            ("owned", 222, 8),
            ("locked", 230, 8),
            ("guaranteed_usd", 238, 8),
            ("global_short_sizes", 246, 8),
            ("cumulative_interest_rate", 262, 16),
            ("last_update", 278, 8),
            ("increase_position_bps", 296, 8),
            ("decrease_position_bps", 304, 8),
            ("max_position_size_usd", 312, 8),
            ("target_utilization_rate", 376, 8),
            ("impact_last_updated", 896, 8),
            ("impact_fee_factor", 904, 8),
            ("impact_threshold_usd", 916, 8),
            ("impact_max_fee_bps", 924, 8),
            ("debt", 1004, 16),
            ("borrow_interest_accrued", 1020, 16),
        ):
            assert getattr(custody, name) == int.from_bytes(data[offset : offset + size], "little"), name
        assert bytes(custody.doves_ag_oracle) == data[384:416]
        assert len(custody.open_interest) == 60
    sol = next(each for each in samples.custodies(samples.SEPTEMBER).values() if each.mint == NATIVE_MINT)
    assert (sol.decimals, sol.is_stable, sol.impact_exponent) == (9, False, (1, 1))
    assert str(sol.doves_ag_oracle) == "FYq2BWQ1V5P1WFBqr3qB2Kb5yHVvSv7upzKodgQE5zXh"


@pytest.mark.shared
def test_accounts_of_a_recorded_close_are_ours() -> None:
    """The instruction by which a keeper closed a request has the accounts and data that we would give it."""
    _, instructions = samples.recorded("3MnCnWjL")
    closing = next(each for each in instructions if each["data_hex"].startswith("7944a21cd82fc842"))
    accounts = [Pubkey.from_string(each) for each in closing["accounts"]]
    order = order_of(
        owner=accounts[1],
        position=accounts[6],
        request=accounts[4],
        mint=NATIVE_MINT,
        pool=MAIN_POOL,
    )
    ours = close_request_instruction(order, PROGRAM_ID, keeper=accounts[0])
    assert [each.pubkey for each in ours.accounts] == accounts
    assert ours.data.hex() == closing["data_hex"]
    own = close_request_instruction(order, PROGRAM_ID)
    assert [each.pubkey for each in own.accounts] == [PROGRAM_ID, *accounts[1:]]
    assert [(each.is_signer, each.is_writable) for each in own.accounts[:2]] == [(False, False), (True, True)]


@pytest.mark.shared
def test_the_oracles_layout_is_its_programs() -> None:
    """Price, exponent and timestamp stand where the oracle program's own description has them."""
    described = next(
        each for each in samples.shared_json("idl", "doves.json")["accounts"] if each["name"] == "agPriceFeed"
    )
    sizes = {"publicKey": 32, "u64": 8, "i8": 1, "i64": 8}
    offset, offsets = 8, {}
    for field in described["type"]["fields"]:
        offsets[field["name"]] = offset
        if field["name"] == "config":
            break
        kind = field["type"]
        offset += sizes[kind] if isinstance(kind, str) else kind["array"][1]
    assert (offsets["price"], offsets["expo"], offsets["timestamp"]) == (168, 176, 177)
    assert len(ORACLE_BYTES) == 168


@pytest.mark.shared
def test_own_description_is_part_of_the_venues() -> None:
    """The trimmed description has nothing that the venue's does not have, and all of its error codes."""
    full = samples.shared_json("idl", "jupiter_perps_2026-03.json")
    ours = json.loads(resources.files("idl").joinpath("jupiter_perps.json").read_bytes())
    for kind in ("instructions", "accounts", "types", "events"):
        theirs = {each["name"]: without_extras(each) for each in full[kind]}
        assert ours[kind]
        for each in ours[kind]:
            assert each == theirs[each["name"]], each["name"]
    assert ours["errors"] == [{"code": each["code"], "name": each["name"]} for each in full["errors"]]
    assert len(ours["errors"]) == 67


def without_extras(value: Any) -> Any:
    """Return a part of a description without prose."""
    extras = {"docs", "index", "pda", "relations", "returns"}
    if isinstance(value, dict):
        return {name: without_extras(each) for name, each in value.items() if name not in extras}
    return [without_extras(each) for each in value] if isinstance(value, list) else value


def test_sizes_follow_from_the_description() -> None:
    """A position's fields add up to what the program writes; the account has six bytes of padding."""
    assert AccountLayout(Idl.load("jupiter_perps"), "Position").size == 210


def test_a_request_is_named_by_order_and_attempt() -> None:
    """The counter comes from order and number alone, fits 64 bits, and differs between attempts."""
    expected = int.from_bytes(hashlib.sha256(b"order-1:2").digest()[:8], "little")
    assert counter_of("order-1", 2) == expected
    assert len({counter_of(order, number) for order in ("a", "b") for number in (1, 2, 3)}) == 6


def test_markets_are_tokens_of_the_pool() -> None:
    """Every market is a known token, and a short's collateral is known too."""
    assert set(BASES) <= set(TOKENS.values())
    assert TOKENS[USDC_MINT] == "USDC"
