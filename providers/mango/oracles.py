"""Price accounts that Mango's markets and tokens stand on: reading them, and whether the program would use them now.

Layouts: legacy Pyth price accounts (pyth-client version 2), Pyth's pull accounts (`PriceUpdateV2`), and Mango's own
`StubOracle`. Rules: `state/oracle.rs` of the program, version 0.24.3. Prices are `I80F48`, native quote per native
base, with the program's own rounding: the power of ten is itself an `I80F48`, the nearest one.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer, ProviderError, UnsupportedProgram
from providers.mango.constants import FRACTION_BITS, ONE, PYTH_RECEIVER_PROGRAM, QUOTE_DECIMALS, SLOT_MS
from providers.mango.errors import mango_refusal
from providers.mango.layouts import read_stub_oracle
from providers.solana.idl import discriminator

__all__ = ["OraclePrice", "OracleRules", "confidence_error", "oracle_error", "oracle_kind", "read_oracle"]


class OraclePrice(msgspec.Struct, frozen=True):
    """What a price account says.

    Attributes:
        price: `I80F48`, native quote per native base.
        deviation: `I80F48`; null: never too wide.
        slot: when it was last updated; null: never too old.
        time: publishing time in seconds, where an age limit applies to it too.
    """

    price: int
    deviation: int | None
    slot: int | None
    time: int | None = None


class OracleRules(msgspec.Struct, frozen=True):
    """How old and how wide a price may be: a market's or a token's `oracle_config`.

    Attributes:
        conf_filter: widest deviation as a fraction of the price, `I80F48`.
        max_staleness_slots: greatest age; negative: any.
    """

    conf_filter: int
    max_staleness_slots: int


_LEGACY_MAGIC: Final = b"\xd4\xc3\xb2\xa1"
_STUB_LEAD: Final = discriminator("account", "StubOracle")
_PULL_LEAD: Final = discriminator("account", "PriceUpdateV2")
_SWITCHBOARD_V2_LEAD: Final = bytes((217, 230, 65, 101, 201, 162, 27, 125))
# Owners of the kinds that only their program tells.
_OWNERS: Final = {
    Pubkey.from_string("SBondMDrcV3K4kxZR1HNVT7osZxAHVHgYXL5Ze1oMUv"): "switchboard on demand",
    Pubkey.from_string("whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"): "orca pool",
    Pubkey.from_string("CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK"): "raydium pool",
    PYTH_RECEIVER_PROGRAM: "pyth pull",
}

_EXPONENT: Final = struct.Struct("<20xi")
_LEGACY_PREVIOUS: Final = struct.Struct("<QqQ")  # slot, price, confidence
_LEGACY_PREVIOUS_AT: Final = 176
_LEGACY_AGGREGATE: Final = struct.Struct("<qQI4xQ")  # price, confidence, status, slot
_LEGACY_AGGREGATE_AT: Final = 208
_TRADING: Final = 1

_PULL_LEVEL_AT: Final = 40
_PULL_FULL: Final = 1
# After a full verification level: feed id; price, confidence, exponent, publishing time, averages, slot.
_PULL_BODY: Final = struct.Struct("<32xqQiq24xQ")

# As far as the program's own table of powers goes.
_LEAST_EXPONENT: Final = -12
_MOST_EXPONENT: Final = 12


def oracle_kind(data: bytes, owner: Pubkey) -> str:
    """Return which kind of price account this is, in the program's order of recognition; `unknown` for none."""
    if data.startswith(_LEGACY_MAGIC):
        return "pyth"
    if data.startswith(_STUB_LEAD):
        return "stub"
    if data.startswith(_SWITCHBOARD_V2_LEAD):
        return "switchboard"
    return _OWNERS.get(owner, "unknown")


def read_oracle(data: bytes | None, owner: Pubkey | None, base_decimals: int) -> OraclePrice:
    """Read a price account for a token of so many decimals.

    Raises:
        UnsupportedProgram: a kind that the adapter does not read; the detail names it.
        OracleStale: the program itself refuses the account (a pull price that is not fully verified).
        BadAnswer: the account is missing, or shorter than its layout, or its price is negative.
    """
    if data is None or owner is None:
        raise BadAnswer("the price account is missing")
    kind = oracle_kind(data, owner)
    try:
        if kind == "stub":
            stub = read_stub_oracle(data)
            # Zero stands for a price that is never too old, and never too wide.
            return OraclePrice(stub.price, stub.deviation or None, stub.last_update_slot or None)
        if kind == "pyth":
            return _legacy(data, base_decimals)
        if kind == "pyth pull":
            return _pull(data, base_decimals)
    except (struct.error, IndexError) as error:
        raise BadAnswer(f"a price account of {len(data)} bytes is too short") from error
    raise UnsupportedProgram(f"prices of kind {kind} are not supported")


def _legacy(data: bytes, base_decimals: int) -> OraclePrice:
    (exponent,) = _EXPONENT.unpack_from(data)
    price, confidence, status, slot = _LEGACY_AGGREGATE.unpack_from(data, _LEGACY_AGGREGATE_AT)
    if status != _TRADING:
        slot, price, confidence = _LEGACY_PREVIOUS.unpack_from(data, _LEGACY_PREVIOUS_AT)
    factor = _power_of_ten(exponent + QUOTE_DECIMALS - base_decimals)
    return OraclePrice(_not_negative(price) * factor, confidence * factor, slot)


def _pull(data: bytes, base_decimals: int) -> OraclePrice:
    if not data.startswith(_PULL_LEAD):
        raise BadAnswer("an account of the price program that holds no price")
    if data[_PULL_LEVEL_AT] != _PULL_FULL:
        raise mango_refusal(6023, "the price is not fully verified")
    price, confidence, exponent, time, slot = _PULL_BODY.unpack_from(data, _PULL_LEVEL_AT + 1)
    factor = _power_of_ten(exponent + QUOTE_DECIMALS - base_decimals)
    return OraclePrice(_not_negative(price) * factor, confidence * factor, slot, time)


def _not_negative(price: int) -> int:
    if price < 0:
        raise BadAnswer("a price below zero")
    return price


def _power_of_ten(exponent: int) -> int:
    """Return a power of ten as the program's `I80F48`: below one, the nearest."""
    if not _LEAST_EXPONENT <= exponent <= _MOST_EXPONENT:
        raise BadAnswer(f"a price scaled by ten to the {exponent}")
    if exponent >= 0:
        return ONE * int(10**exponent)
    divisor = int(10**-exponent)
    return (ONE + divisor // 2) // divisor


def oracle_error(oracle: OraclePrice, rules: OracleRules, *, slot: int, now: int) -> ProviderError | None:
    """Return why the program would not use this price at `slot` and `now` (seconds); null when it would.

    Age first, then width, as the program asks.
    """
    limit = rules.max_staleness_slots
    if limit >= 0:
        if oracle.slot is not None and oracle.slot + limit < slot:
            return mango_refusal(6024, f"the price is {slot - oracle.slot} slots old, {limit} is the most")
        if oracle.time is not None and oracle.time * 1000 < max(now * 1000 - limit * SLOT_MS, 0):
            return mango_refusal(6024, f"the price is {now - oracle.time} s old, {limit * SLOT_MS} ms is the most")
    return confidence_error(oracle, rules)


def confidence_error(oracle: OraclePrice, rules: OracleRules) -> ProviderError | None:
    """Return why the price is too wide for the program; null when it is not."""
    if oracle.deviation is not None and oracle.deviation > (rules.conf_filter * oracle.price) >> FRACTION_BITS:
        return mango_refusal(6023, f"the price is uncertain by {oracle.deviation} of {oracle.price} (2**-48)")
    return None
