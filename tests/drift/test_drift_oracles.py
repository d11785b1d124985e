"""Price accounts of every supported kind, held against the venue's own readers, and the program's verdicts on them."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from driftpy.accounts.oracle import (
    decode_pyth_lazer_price_info,
    decode_pyth_price_info,
    decode_pyth_pull_price_info,
)
from hypothesis import given
from hypothesis import strategies as st

from providers.base.errors import BadAnswer, NotListed, OracleStale
from providers.drift.constants import ContractTier, OracleSource
from providers.drift.layouts import GuardRails
from providers.drift.oracles import (
    OraclePrice,
    OracleValidity,
    confidence_multiplier,
    is_supported,
    oracle_error,
    oracle_validity,
    read_oracle,
    too_far_from_twap,
)
from router.localnet.oracle import PythPrice, price_account
from tests.drift.drift_samples import account_bytes

RAILS = GuardRails(500_000, 10, 120, 20_000, 5)


def legacy(price: int, confidence: int, exponent: int, slot: int, *, publishers: int = 5, counted: int = 5) -> bytes:
    """Return a price account of Pyth's first program."""
    data = bytearray(3312)
    struct.pack_into("<IIII", data, 0, 0xA1B2C3D4, 2, 3, 240)
    struct.pack_into("<IiII", data, 16, 1, exponent, publishers, counted)
    struct.pack_into("<QQ", data, 32, slot, slot)
    struct.pack_into("<qQIIQ", data, 208, price, confidence, 1, 0, slot)
    return bytes(data)


def pull(price: int, confidence: int, exponent: int, slot: int, *, full: bool = True) -> bytes:
    """Return a price update account of Pyth's second program."""
    level = b"\x01" if full else b"\x00\x05"
    body = bytes(32) + struct.pack("<qQiqqqQQ", price, confidence, exponent, 0, 0, price, confidence, slot)
    return bytes(8) + bytes(32) + level + body + bytes(8)


PRICES = st.integers(10**4, 10**12)
SLOTS = st.integers(1, 2**40)


@given(price=PRICES, confidence=st.integers(0, 10**9), slot=SLOTS)
def test_legacy_pyth(price: int, confidence: int, slot: int) -> None:
    """Scaled to six digits and truncated, with its slot."""
    data = legacy(price, confidence, -8, slot)
    mine, theirs = read_oracle(OracleSource.PYTH, data), decode_pyth_price_info(data)
    assert mine.price == price // 100
    assert abs(mine.price - theirs.price) <= 1  # the library goes by floats
    assert mine.confidence == confidence // 100
    assert mine.slot == theirs.slot == slot


@given(price=PRICES, confidence=st.integers(0, 10**9), slot=SLOTS, full=st.booleans())
def test_pyth_pull(price: int, confidence: int, slot: int, full: bool) -> None:  # noqa: FBT001 - drawn by name
    """Both levels of verification, which differ in length."""
    data = pull(price, confidence, -8, slot, full=full)
    mine, theirs = read_oracle(OracleSource.PYTH_PULL, data), decode_pyth_pull_price_info(data)
    assert abs(mine.price - theirs.price) <= 1
    assert (mine.price, mine.confidence, mine.slot) == (price // 100, confidence // 100, theirs.slot)


@given(price=PRICES, confidence=st.integers(0, 10**9), slot=SLOTS)
def test_pyth_lazer(price: int, confidence: int, slot: int) -> None:
    """The program's own account of Pyth's third service, at each of its scales."""
    values = {"price": price, "conf": confidence, "postedSlot": slot, "exponent": -8}
    data = account_bytes("PythLazerOracle", values)
    for source, multiple in ((OracleSource.PYTH_LAZER, 1), (OracleSource.PYTH_LAZER_1K, 1000)):
        mine, theirs = read_oracle(source, data), decode_pyth_lazer_price_info(data, multiple)
        assert abs(mine.price - theirs.price) <= multiple
        assert mine.slot == theirs.slot == slot


def test_scales_and_stable_coins() -> None:
    """A millionth of a token is priced by the million; within five points and its confidence a dollar is a dollar."""
    data = legacy(2_000, 10, -10, 7)
    assert read_oracle(OracleSource.PYTH_1M, data).price == 200_000
    near = legacy(99_960_000, 100_000, -8, 7)
    assert read_oracle(OracleSource.PYTH_STABLE_COIN, near).price == 1_000_000
    assert read_oracle(OracleSource.PYTH, near).price == 999_600
    far = legacy(99_900_000, 100_000, -8, 7)
    assert read_oracle(OracleSource.PYTH_STABLE_COIN, far).price == 999_000
    assert read_oracle(OracleSource.QUOTE_ASSET, None).price == 1_000_000
    assert read_oracle(OracleSource.PYTH, legacy(-1_999, 10, -8, 7)).price == -19


def test_too_few_publishers() -> None:
    """Three publishers, or all there are, must stand behind a price."""
    assert read_oracle(OracleSource.PYTH, legacy(100, 1, -8, 7, publishers=9, counted=3)).sufficient
    assert not read_oracle(OracleSource.PYTH, legacy(100, 1, -8, 7, publishers=9, counted=2)).sufficient
    assert read_oracle(OracleSource.PYTH, legacy(100, 1, -8, 7, publishers=1, counted=1)).sufficient


def test_the_embedded_clusters_prices_are_read() -> None:
    """What the world publishes is read as what it meant."""
    account = price_account(PythPrice(price=Decimal("150.25"), confidence=Decimal("0.03"), slot=99))
    assert read_oracle(OracleSource.PYTH, bytes(account.data)) == OraclePrice(150_250_000, 30_000, 99, True)


@pytest.mark.parametrize(
    "source", [OracleSource.SWITCHBOARD, OracleSource.SWITCHBOARD_ON_DEMAND, OracleSource.PRELAUNCH, 16, 255]
)
def test_other_sources_are_not_offered(source: int) -> None:
    """A source that is not read, or not known, is a market that is not offered, with the reason."""
    assert not is_supported(source)
    with pytest.raises(NotListed, match="not supported"):
        read_oracle(source, bytes(1000))


@pytest.mark.parametrize("data", [None, b"", bytes(100)])
@pytest.mark.parametrize("source", [OracleSource.PYTH, OracleSource.PYTH_PULL, OracleSource.PYTH_LAZER])
def test_what_cannot_be_read_is_an_error(source: OracleSource, data: bytes | None) -> None:
    """A missing or short account is never a price."""
    with pytest.raises(BadAnswer):
        read_oracle(source, data)


@pytest.mark.parametrize(
    ("price", "verdict"),
    [
        (OraclePrice(100_000_000, 1_000, 100), OracleValidity.VALID),
        (OraclePrice(100_000_000, 1_000, 90), OracleValidity.VALID),
        (OraclePrice(100_000_000, 1_000, 89), OracleValidity.STALE_FOR_AMM),
        (OraclePrice(100_000_000, 1_000, -21), OracleValidity.STALE_FOR_MARGIN),
        (OraclePrice(100_000_000, 2_000_000, 100), OracleValidity.VALID),
        (OraclePrice(100_000_000, 2_000_100, 100), OracleValidity.TOO_UNCERTAIN),
        (OraclePrice(600_000_000, 1_000, 100), OracleValidity.TOO_VOLATILE),
        (OraclePrice(599_999_999, 1_000, 100), OracleValidity.VALID),
        (OraclePrice(16_000_000, 1_000, 100), OracleValidity.TOO_VOLATILE),
        (OraclePrice(0, 1_000, 100), OracleValidity.NON_POSITIVE),
        (OraclePrice(100_000_000, 1_000, 100, False), OracleValidity.INSUFFICIENT_DATA_POINTS),
        (OraclePrice(1_000_000, 1, None), OracleValidity.TOO_VOLATILE),
    ],
)
def test_verdicts(price: OraclePrice, verdict: OracleValidity) -> None:
    """Each guard rail at its edge, at slot 100 with an average of 100 dollars."""
    assert oracle_validity(price, slot=100, twap=100_000_000, rails=RAILS, multiplier=1) is verdict
    error = oracle_error(verdict, price, 100)
    if verdict is OracleValidity.VALID:
        assert error is None
    else:
        assert isinstance(error, OracleStale)
        assert error.raw_code is not None


def test_riskier_markets_take_wider_prices() -> None:
    """The guard rail is scaled by the market's tier."""
    assert [confidence_multiplier(tier) for tier in ContractTier] == [1, 1, 2, 10, 50, 50]


def test_a_price_that_left_its_average() -> None:
    """At half of the average away nothing fills; an average of nothing is never trusted."""
    assert not too_far_from_twap(149_999_900, 100_000_000, RAILS)
    assert too_far_from_twap(150_000_000, 100_000_000, RAILS)
    assert too_far_from_twap(50_000_000, 100_000_000, RAILS)
    assert too_far_from_twap(1, 0, RAILS)
