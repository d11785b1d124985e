"""Margin of a whole account and its liquidation price, held against the venue's own library over generated accounts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from driftpy.drift_user import DriftUser
from driftpy.math.margin import MarginCategory, calculate_market_margin_ratio
from driftpy.types import OraclePriceData
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from providers.drift.constants import MarginType
from providers.drift.layouts import read_perp_market, read_spot_market, read_user
from providers.drift.margin import Book, account_margin, liquidation_price, perp_margin_ratio
from tests.drift.drift_samples import SOL_MARKET, USDC_MARKET, account_bytes, decoded

BASE, USD = 10**9, 10**6
USDC_KEY, TOKEN_KEY = (
    Pubkey.from_string("11111111111111111111111111111112"),
    Pubkey.from_string("11111111111111111111111111111113"),
)
PERP_KEYS = [Pubkey.from_string(f"1111111111111111111111111111111{digit}") for digit in "45"]
KINDS = {MarginType.INITIAL: MarginCategory.INITIAL, MarginType.MAINTENANCE: MarginCategory.MAINTENANCE}


class Account:
    """One generated account as the adapter and as the venue's library have it."""

    def __init__(
        self, user: dict[str, Any], perps: list[dict[str, Any]], token: dict[str, Any], prices: list[int]
    ) -> None:
        perp_bytes = [account_bytes("PerpMarket", each) for each in perps]
        usdc = account_bytes("SpotMarket", USDC_MARKET | {"oracle": USDC_KEY})
        spot_bytes = [usdc, account_bytes("SpotMarket", token)]
        user_bytes = account_bytes("User", user)
        usdc_price, token_price, *perp_prices = prices
        self.book = Book(
            user=read_user(user_bytes),
            perp_markets={index: read_perp_market(data) for index, data in enumerate(perp_bytes)},
            spot_markets={index: read_spot_market(data) for index, data in enumerate(spot_bytes)},
            prices={USDC_KEY: usdc_price, TOKEN_KEY: token_price} | dict(zip(PERP_KEYS, perp_prices, strict=True)),
        )
        perp_accounts, spot_accounts = [decoded(data) for data in perp_bytes], [decoded(data) for data in spot_bytes]
        oracles = [OraclePriceData(price, 1, 1, 1, 1, True) for price in prices]
        client = SimpleNamespace(
            get_perp_market_account=lambda index: perp_accounts[index],
            get_spot_market_account=lambda index: spot_accounts[index],
            get_spot_market_accounts=lambda: spot_accounts,
            get_oracle_price_data_for_perp_market=lambda index: oracles[2 + index],
            get_oracle_price_data_for_spot_market=lambda index: oracles[index],
        )
        account = decoded(user_bytes)
        self.user: Any = DriftUser.__new__(DriftUser)
        self.user.drift_client = client
        self.user.account_subscriber = SimpleNamespace(
            get_user_account_and_slot=lambda: SimpleNamespace(data=account, slot=1)
        )


def perp_values(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """Draw a market's margin ratios and funding."""
    initial = draw(st.integers(200, 5_000))
    return SOL_MARKET | {
        "marketIndex": index,
        "amm.oracle": PERP_KEYS[index],
        "marginRatioInitial": initial,
        "marginRatioMaintenance": draw(st.integers(100, initial)),
        "imfFactor": draw(st.sampled_from([0, 450, 5_000])),
        "unrealizedPnlMaintenanceAssetWeight": draw(st.sampled_from([10_000, 9_000])),
        "amm.cumulativeFundingRateLong": draw(st.integers(-(10**9), 10**9)),
        "amm.cumulativeFundingRateShort": draw(st.integers(-(10**9), 10**9)),
    }


@st.composite
def accounts(draw: st.DrawFn, *, tokens: bool = True) -> Account:
    """Draw an account with USDC, perhaps another token, and up to two perp positions with open orders."""
    user: dict[str, Any] = {"spotPositions.0.scaledBalance": draw(st.integers(10**9, 10**15))}
    if tokens and draw(st.booleans()):
        user |= {
            "spotPositions.1.scaledBalance": draw(st.integers(10**6, 10**13)),
            "spotPositions.1.marketIndex": 1,
            "spotPositions.1.balanceType": draw(st.sampled_from([0, 1])),
        }
    token = USDC_MARKET | {
        "marketIndex": 1,
        "decimals": 9,
        "oracle": TOKEN_KEY,
        "oracleSource": 0,
        "initialAssetWeight": 8_000,
        "maintenanceAssetWeight": 9_000,
        "initialLiabilityWeight": 12_000,
        "maintenanceLiabilityWeight": 11_000,
        "cumulativeDepositInterest": draw(st.integers(10**10, 2 * 10**10)),
        "cumulativeBorrowInterest": draw(st.integers(10**10, 2 * 10**10)),
    }
    prices = [USD, draw(st.integers(1 * USD, 300 * USD))]
    for index in range(2):
        price = draw(st.integers(1 * USD, 1_000 * USD))
        prices.append(price)
        base = draw(st.integers(-(10**12), 10**12))
        if base == 0:
            continue
        entry = -base * price // BASE
        user |= {
            f"perpPositions.{index}.marketIndex": index,
            f"perpPositions.{index}.baseAssetAmount": base,
            f"perpPositions.{index}.quoteAssetAmount": entry * draw(st.integers(80, 120)) // 100,
            f"perpPositions.{index}.lastCumulativeFundingRate": draw(st.integers(-(10**9), 10**9)),
        }
        if draw(st.booleans()):
            user |= {
                f"perpPositions.{index}.openBids": draw(st.integers(0, 10**11)),
                f"perpPositions.{index}.openAsks": -draw(st.integers(0, 10**11)),
                f"perpPositions.{index}.openOrders": draw(st.integers(1, 5)),
            }
    return Account(user, [perp_values(draw, index) for index in range(2)], token, prices)


@given(size=st.integers(0, 10**15), imf=st.integers(0, 50_000), ratio=st.integers(100, 9_000))
def test_margin_ratios_grow_with_size(size: int, imf: int, ratio: int) -> None:
    """The ratio of a size is the venue's, at the start and to keep."""
    values = SOL_MARKET | {"imfFactor": imf, "marginRatioInitial": ratio, "marginRatioMaintenance": ratio // 2}
    data = account_bytes("PerpMarket", values)
    for kind, category in KINDS.items():
        expected = calculate_market_margin_ratio(decoded(data), size, category)
        assert perp_margin_ratio(read_perp_market(data), size, kind) == expected


@settings(max_examples=150, deadline=None)
@given(account=accounts())
def test_maintenance_margin_is_the_venues(account: Account) -> None:
    """Collateral and requirement to keep the positions are the library's, within its rounding of each part."""
    mine = account_margin(account.book, MarginType.MAINTENANCE)
    # The library rounds some negative amounts the other way: a unit for each of up to four positions.
    assert abs(mine.requirement - account.user.get_margin_requirement(MarginCategory.MAINTENANCE)) <= 4
    assert abs(mine.collateral - account.user.get_total_collateral(MarginCategory.MAINTENANCE)) <= 4


@settings(max_examples=100, deadline=None)
@given(account=accounts(tokens=False))
def test_the_liquidation_price_is_where_the_account_falls(account: Account) -> None:
    """At the price the account fails its maintenance margin, and one unit before it still holds."""
    for index, market in account.book.perp_markets.items():
        position = account.book.user.perp_position(index)
        price = liquidation_price(account.book, index)
        if position is None:
            assert price is None
            continue

        def free(at: int, oracle: Pubkey = market.oracle) -> int:
            book = msgspec.structs.replace(account.book, prices={**account.book.prices, oracle: at})
            return account_margin(book, MarginType.MAINTENANCE).free

        now = account.book.prices[market.oracle]
        if price is None:
            assert free(now) >= 0
            assert free(1 if position.base_asset_amount > 0 else now * 100) >= 0
        elif free(now) < 0:
            assert price == now
        else:
            toward = 1 if position.base_asset_amount > 0 else -1
            assert (price < now) == (position.base_asset_amount > 0)
            assert free(price) < 0 <= free(price + toward)


def test_a_plain_long_falls_where_the_library_says() -> None:
    """One long, no orders: within a hundredth of a percent of the library's closed formula."""
    account = Account(
        {
            "spotPositions.0.scaledBalance": 1_000 * BASE,
            "perpPositions.0.baseAssetAmount": 50 * BASE,
            "perpPositions.0.quoteAssetAmount": -50 * 100 * USD,
        },
        [SOL_MARKET | {"amm.oracle": PERP_KEYS[0]}, SOL_MARKET | {"amm.oracle": PERP_KEYS[1], "marketIndex": 1}],
        USDC_MARKET | {"marketIndex": 1, "oracle": TOKEN_KEY},
        [USD, USD, 100 * USD, 100 * USD],
    )
    price = liquidation_price(account.book, 0)
    assert price is not None
    # 1,000 + 50 (p - 100) = 5 % of 50 p
    assert abs(price - 84_210_526) <= 1
    theirs = account.user.get_perp_liq_price(0)
    assert abs(price - theirs) <= theirs // 10_000


def test_the_worst_of_a_tokens_price_counts_when_placing() -> None:
    """Placing an order values a deposit at the lower of the price and its five minute average."""
    account = Account(
        {"spotPositions.1.scaledBalance": 10 * BASE, "spotPositions.1.marketIndex": 1},
        [SOL_MARKET | {"amm.oracle": key, "marketIndex": index} for index, key in enumerate(PERP_KEYS)],
        USDC_MARKET
        | {
            "marketIndex": 1,
            "decimals": 9,
            "oracle": TOKEN_KEY,
            "initialAssetWeight": 8_000,
            "historicalOracleData.lastOraclePriceTwap5min": 90 * USD,
        },
        [USD, 100 * USD, USD, USD],
    )
    assert account_margin(account.book, MarginType.INITIAL).collateral == 800 * USD
    assert account_margin(account.book, MarginType.INITIAL, strict=True).collateral == 720 * USD


def test_large_deposits_and_debts_are_weighted_by_size() -> None:
    """10,000 tokens at a factor of 0.3 % count for 1.1 / 1.3; 10,000 owed for 0.8 * 1.1 + 0.3 of their value.

    The library rounds this weight up where the program rounds it down, so the numbers are worked out by hand.
    """
    token = USDC_MARKET | {
        "marketIndex": 1,
        "decimals": 9,
        "oracle": TOKEN_KEY,
        "maintenanceAssetWeight": 9_000,
        "maintenanceLiabilityWeight": 11_000,
        "imfFactor": 3_000,
    }
    markets = [SOL_MARKET | {"amm.oracle": key, "marketIndex": index} for index, key in enumerate(PERP_KEYS)]
    held = {"spotPositions.1.scaledBalance": 10_000 * BASE, "spotPositions.1.marketIndex": 1}
    deposit = Account(held, markets, token, [USD, 100 * USD, USD, USD])
    assert account_margin(deposit.book, MarginType.MAINTENANCE).collateral == 1_000_000 * USD * 8_461 // 10_000
    debt = Account(held | {"spotPositions.1.balanceType": 1}, markets, token, [USD, 100 * USD, USD, USD])
    assert account_margin(debt.book, MarginType.MAINTENANCE).requirement == 1_000_000 * USD * 11_800 // 10_000
