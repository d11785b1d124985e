"""The model's layouts, addresses and arithmetic, held against real accounts and a real fill."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator
from router.localnet.jupiter.addresses import (
    event_authority,
    lp_mint_address,
    perpetuals_address,
    pool_address,
    position_address,
    request_address,
    transfer_authority,
)
from router.localnet.jupiter.calls import close, execute
from router.localnet.jupiter.events import ClosePositionRequestEvent, DecreasePositionEvent, event_data
from router.localnet.jupiter.layouts import SPACE, Content, Custody, Pool, Position, PositionRequest, account_data
from router.localnet.jupiter.pricing import (
    LONG,
    Price,
    borrow_fee,
    cumulative_rate,
    hourly_rate,
    profit,
    trade_fee,
    utilization,
)
from router.localnet.jupiter.reduction import Sides, is_liquidatable
from router.localnet.jupiter.venue import DECREASE, TRIGGER
from router.localnet.jupiter.world import JUPITER_CUSTODIES, jupiter_world_of
from router.localnet.world import WorldKeys

MAINNET = "jupiter_perps_mainnet_450101361.json"
REQUESTS = "jupiter_perps_requests_450102114.json"
FILL = "jupiter_perps_vixen_2026-02.json"
KINDS = {account_discriminator(kind.__name__): kind for kind in SPACE}
ONE_TOKEN = Price(mantissa=10**8, exponent=-8, timestamp=0)


def read(folder: Path, name: str) -> dict[str, Any]:
    """Return one file of real data."""
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def accounts(folder: Path, name: str) -> dict[str, tuple[bytes, Content]]:
    """Return the venue's accounts of a file by address: the bytes, and what they hold."""
    found: dict[str, tuple[bytes, Content]] = {}
    for entry in read(folder, name)["accounts"]:
        data = base64.b64decode(entry["data"][0])
        kind = KINDS.get(data[:8])
        if kind is not None:
            found[entry["pubkey"]] = (data, kind.decode(data, 8))
    return found


def positions(folder: Path) -> dict[str, Position]:
    """Return the real positions by address."""
    return {key: each for key, (_, each) in accounts(folder, MAINNET).items() if isinstance(each, Position)}


def custody(folder: Path, symbol: str) -> Custody:
    """Return a real custody."""
    address = jupiter_world_of(WorldKeys()).custody(symbol).address
    content = accounts(folder, MAINNET)[str(address)][1]
    assert isinstance(content, Custody)
    return content


def test_addresses_are_mainnets() -> None:
    """Everything stands where it does on mainnet."""
    assert str(perpetuals_address()[0]) == "H4ND9aYttUVLFmNypZqLjZ52FYiGvdEB45GmwNoKEjTj"
    assert str(event_authority()[0]) == "37hJBDnntwqhGbK7L6M1bLyvccj4u55CCUiLPdYkiqBN"
    assert str(transfer_authority()[0]) == "AVzP2GeRmqGphJsMxWoqjpUifPpCret7LqWhD8NWQK49"
    assert str(pool_address()[0]) == "5BUwFW4nRbftYTDMbgxykoFWqWHPzahFSNAaaaJtVKsq"
    assert str(lp_mint_address(pool_address()[0])[0]) == "27G8MtK7VtTcCHkpASjSDdkWWYfoqT6ggEuKidVJidD4"
    world = jupiter_world_of(WorldKeys())
    assert str(world.custody("SOL").address) == "7xS2gz2bTp3fwCC7knJvUWTEU9Tycczu6VhJYKgi1wdz"
    assert str(world.custody("USDT").vault) == "Gex24YznvguMad1mBzTQ7a64U1CJy59gvsStQmNnnwAd"


@pytest.mark.shared
def test_real_accounts_come_out_as_they_went_in(snapshots: Path) -> None:
    """Pools of five and six custodies, custodies, positions and requests are read and written byte for byte."""
    kinds: list[str] = []
    for name in (MAINNET, REQUESTS, FILL):
        for key, (data, content) in accounts(snapshots, name).items():
            assert account_data(content) == data, key
            kinds.append(type(content).__name__)
    assert sorted(kinds) == ["Custody"] * 3 + ["Pool"] * 2 + ["Position"] * 4 + ["PositionRequest"] * 4


@pytest.mark.shared
def test_real_positions_and_requests_stand_where_the_model_puts_them(snapshots: Path) -> None:
    """Address and bump of every real position and request are derived from its own content."""
    for key, position in positions(snapshots).items():
        address, bump = position_address(
            position.owner, position.pool, position.custody, position.collateral_custody, position.side
        )
        assert (str(address), bump) == (key, position.bump)
    for key, (_, request) in accounts(snapshots, REQUESTS).items():
        assert isinstance(request, PositionRequest)
        address, bump = request_address(request.position, request.counter, request.request_change)
        assert (str(address), bump) == (key, request.bump)


@pytest.mark.shared
def test_the_pool_lists_the_model_s_custodies_in_its_order(snapshots: Path) -> None:
    """The first five custodies of the real pool are the model's; a market request may be executed for 45 seconds."""
    pool = accounts(snapshots, MAINNET)[str(pool_address()[0])][1]
    assert isinstance(pool, Pool)
    world = jupiter_world_of(WorldKeys())
    assert pool.custodies[:5] == [each.address for each in world.custodies]
    assert pool.max_request_execution_sec == 45
    for symbol in ("SOL", "USDC"):
        real = custody(snapshots, symbol)
        terms = next(each for each in JUPITER_CUSTODIES if each.symbol == symbol)
        assert (real.mint, real.decimals, real.is_stable) == (terms.mint, terms.decimals, terms.stable)
        assert (real.oracle.oracle_account, real.doves_ag_oracle) == (terms.oracle, terms.feed)
        assert real.token_account == world.custody(symbol).vault


@pytest.mark.shared
def test_borrow_rates_are_the_recorded_ones(snapshots: Path) -> None:
    """Utilisation and hourly rate of both custodies, and what the positions owe, as recorded."""
    golden = read(snapshots, MAINNET)["golden"]
    for symbol, name in (("SOL", "sol_custody"), ("USDC", "usdc_custody")):
        real = custody(snapshots, symbol)
        assert utilization(real) == golden[name]["util_raw"]
        assert hourly_rate(real) == golden[name]["hourly_rate_raw"]
    for key, expected in golden["positions"].items():
        position = positions(snapshots)[key]
        collateral = custody(snapshots, "SOL" if position.side == LONG else "USDC")
        # Recorded as of the custody's last update, and rounded down.
        now = collateral.funding_rate_state.last_update
        assert borrow_fee(position, cumulative_rate(collateral, now)) == expected["accrued_borrow_fee_raw"] + 1


@pytest.mark.shared
def test_positions_are_liquidated_at_the_recorded_prices(snapshots: Path) -> None:
    """A real position can be liquidated on the far side of its recorded liquidation price and not on the near one."""
    data = read(snapshots, MAINNET)
    for key, expected in data["golden"]["positions"].items():
        position = positions(snapshots)[key]
        asset = custody(snapshots, "SOL")
        collateral = asset if position.side == LONG else custody(snapshots, "USDC")
        price = round(expected["liq_usd"] * 10**6)
        away = -2 if position.side == LONG else 2

        def liquidatable(
            at: int, position: Position = position, asset: Custody = asset, collateral: Custody = collateral
        ) -> bool:
            sides = Sides(
                position=position,
                custody=asset,
                collateral=collateral,
                price=at,
                token=ONE_TOKEN,
                now=collateral.funding_rate_state.last_update,
            )
            return is_liquidatable(sides)

        assert liquidatable(price + away), key
        assert not liquidatable(price - away), key


@pytest.mark.shared
def test_a_real_fill_is_priced_alike(snapshots: Path) -> None:
    """Fee, impact, profit and what was paid of a real take profit; its two events are written byte for byte."""
    data = read(snapshots, FILL)
    fill, closed = (bytes.fromhex(each["data_hex"]) for each in data["transactions"][0]["instructions"][2:4])
    event = DecreasePositionEvent.decode(fill, 16)
    assert event_data(event) == fill
    assert event_data(ClosePositionRequestEvent.decode(closed, 16)) == closed
    asset = custody(snapshots, "SOL")
    asset.price_impact_buffer.fee_factor = 0
    fee = trade_fee(asset, event.size_usd_delta, base_bps=6, signed_usd=-event.size_usd_delta, now=event.open_time)
    assert (fee.total, fee.impact) == (event.position_fee_usd, event.price_impact_fee_usd)
    position = Position.zero()
    position.side, position.price = event.position_side, event.position_price
    gain = profit(position, event.size_usd_delta, event.price)
    assert gain == event.pnl_delta
    assert event.original_position_collateral_usd + gain - event.fee_usd == event.transfer_amount_usd


@pytest.mark.shared
def test_the_keeper_s_instructions_have_the_recorded_accounts(snapshots: Path) -> None:
    """Executing and closing a request name the accounts that a real keeper named, in its order."""
    fill, closing, emitted = read(snapshots, FILL)["transactions"][0]["instructions"][:3]
    event = DecreasePositionEvent.decode(bytes.fromhex(emitted["data_hex"]), 16)
    world = jupiter_world_of(WorldKeys())
    keeper = Pubkey.from_string(fill["accounts"][0])
    position = Position.zero()
    position.owner, position.side = event.owner, event.position_side
    position.custody, position.collateral_custody = event.position_custody, event.position_collateral_custody
    request = PositionRequest(
        owner=event.owner,
        pool=event.pool,
        custody=event.position_custody,
        position=event.position_key,
        mint=event.position_request_mint,
        open_time=0,
        update_time=0,
        size_usd_delta=0,
        collateral_delta=0,
        request_change=DECREASE,
        request_type=TRIGGER,
        side=event.position_side,
        price_slippage=None,
        jupiter_minimum_out=None,
        pre_swap_amount=None,
        trigger_price=None,
        trigger_above_threshold=None,
        entire_position=None,
        executed=False,
        counter=0,
        bump=0,
        referral=None,
    )
    built = (
        execute(world, event.position_request_key, request, position, keeper),
        close(world, event.position_request_key, request, keeper=keeper),
    )
    for instruction, recorded in zip(built, (fill, closing), strict=True):
        assert [str(meta.pubkey) for meta in instruction.accounts] == recorded["accounts"]
        assert bytes(instruction.data).hex() == recorded["data_hex"]
