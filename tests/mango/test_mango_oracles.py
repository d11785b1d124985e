"""Price accounts: what they say, and when the venue would not use it."""

from __future__ import annotations

import struct
from decimal import Decimal
from pathlib import Path

import pytest

from providers.base.errors import BadAnswer, OracleStale, UnsupportedProgram
from providers.mango.constants import PYTH_RECEIVER_PROGRAM
from providers.mango.oracles import OraclePrice, OracleRules, oracle_error, oracle_kind, read_oracle
from tests.mango import mango_samples as samples
from tests.mango.mango_samples import ONE, SNAPSHOTS, fixed, key

RULES = OracleRules(fixed("0.1"), 100)


@pytest.fixture
def snapshots() -> Path:
    """Return the folder with accounts of the chain, where it is at hand."""
    if not SNAPSHOTS.is_dir():
        pytest.skip("the reference data is not beside the project")
    return SNAPSHOTS


@pytest.mark.shared
def test_a_legacy_account_of_the_chain(snapshots: Path) -> None:
    """The dollar token's price account reads as it did on chain."""
    data = (snapshots / "Gnt27xtC473ZT2Mw5u8wZ68Z3gULkSTb5DuxJy7eJotD.bin").read_bytes()
    price = read_oracle(data, key(1), 6)
    assert price.slot == 234590446
    assert round(Decimal(price.price) / ONE, 6) == Decimal("1.000008")
    assert price.time is None
    assert oracle_error(price, RULES, slot=234590546, now=0) is None
    assert isinstance(oracle_error(price, RULES, slot=234590547, now=0), OracleStale)


@pytest.mark.shared
def test_a_pull_account_of_the_chain(snapshots: Path) -> None:
    """A pull price is too old by its slot, or by its publishing time."""
    data = (snapshots / "7UVimffxr9ow1uXYxsr4LHAcV58mLzhmwaeKvJ1pjLiE.bin").read_bytes()
    price = read_oracle(data, PYTH_RECEIVER_PROGRAM, 6)
    assert round(Decimal(price.price) / ONE, 4) == Decimal("140.6159")
    assert (price.slot, price.time) == (276582011, 1720533480)
    assert oracle_error(price, RULES, slot=276582111, now=1720533480 + 45) is None
    late = oracle_error(price, RULES, slot=276582012, now=1720533480 + 46)
    assert isinstance(late, OracleStale)
    assert (late.raw_code, late.raw_name) == ("6024", "OracleStale")
    partly = bytearray(data)
    partly[40] = 0
    with pytest.raises(OracleStale) as refused:
        read_oracle(bytes(partly), PYTH_RECEIVER_PROGRAM, 6)
    assert refused.value.raw_code == "6023"


@pytest.mark.shared
def test_kinds_that_are_not_read_are_named(snapshots: Path) -> None:
    """An oracle of another kind is refused by its name."""
    data = (snapshots / "GvDMxPzN1sCj7L26YDK2HnMRXEQmQ2aemov8YBtPS7vR.bin").read_bytes()
    with pytest.raises(UnsupportedProgram, match="switchboard"):
        read_oracle(data, key(1), 6)


def legacy(price: int, confidence: int, *, status: int, exponent: int = -8) -> bytes:
    """Return a legacy price account with previous values 7, 3 of slot 50."""
    data = bytearray(3312)
    data[:4] = b"\xd4\xc3\xb2\xa1"
    struct.pack_into("<i", data, 20, exponent)
    struct.pack_into("<QqQ", data, 176, 50, 7, 3)
    struct.pack_into("<qQI4xQ", data, 208, price, confidence, status, 60)
    return bytes(data)


def test_a_price_that_does_not_trade_gives_the_one_before() -> None:
    """Previous price, confidence and slot stand in while the aggregate is not trading."""
    assert read_oracle(legacy(11, 2, status=1, exponent=0), key(1), 6) == OraclePrice(11 * ONE, 2 * ONE, 60)
    assert read_oracle(legacy(11, 2, status=0, exponent=0), key(1), 6) == OraclePrice(7 * ONE, 3 * ONE, 50)


def test_powers_of_ten_are_the_nearest_numbers() -> None:
    """A price below one native unit is scaled with the venue's own rounding of the power of ten."""
    price = read_oracle(legacy(14_000_000_000, 0, status=1), key(1), 9)
    # $140 with nine decimals is 0.14 native; ten to the minus eleventh is 2815 units of 2**-48.
    assert price.price == 14_000_000_000 * 2815
    with pytest.raises(BadAnswer):
        read_oracle(legacy(1, 1, status=1, exponent=-18), key(1), 9)


def test_stub_oracle() -> None:
    """Zero as a slot or a deviation stands for never too old and never too wide."""
    stub = read_oracle(samples.stub_bytes(fixed("0.5")), key(1), 6)
    assert stub == OraclePrice(ONE // 2, None, None)
    assert oracle_error(stub, RULES, slot=10**9, now=0) is None
    dated = read_oracle(samples.stub_bytes(fixed(1), slot=10, deviation=fixed("0.1") + 1), key(1), 6)
    wide = oracle_error(dated, RULES, slot=110, now=0)
    assert isinstance(wide, OracleStale)
    assert wide.raw_code == "6023"
    stale = oracle_error(dated, RULES, slot=111, now=0)
    assert stale is not None
    assert stale.raw_code == "6024"
    anyhow = oracle_error(dated, OracleRules(fixed("0.2"), -1), slot=10**9, now=0)
    assert anyhow is None


def test_what_is_no_price_account_is_refused() -> None:
    """A missing, short or foreign account gives no price."""
    assert oracle_kind(b"nothing of the kind", key(1)) == "unknown"
    with pytest.raises(BadAnswer):
        read_oracle(None, None, 6)
    with pytest.raises(BadAnswer):
        read_oracle(b"\xd4\xc3\xb2\xa1", key(1), 6)
    with pytest.raises(BadAnswer):
        read_oracle(legacy(-1, 1, status=1), key(1), 6)
    with pytest.raises(UnsupportedProgram):
        read_oracle(b"nothing of the kind", key(1), 6)
