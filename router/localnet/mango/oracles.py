"""What an oracle says: stub, Pyth's account of old, Pyth's receiver."""

from __future__ import annotations

import struct

import msgspec
from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator
from router.localnet.mango.addresses import PYTH_RECEIVER
from router.localnet.mango.enums import OracleType
from router.localnet.mango.execution import Execution
from router.localnet.mango.layouts import OracleConfig, StubOracle
from router.localnet.mango.numbers import I80F48_MIN, U64_MAX, FixedOverflow, from_int, mul, power_of_ten

__all__ = ["OracleState", "check_confidence", "check_staleness", "oracle_state"]

_PYTH_MAGIC = 0xA1B2C3D4
_PYTH_TRADING = 1
_PYTH_BYTES = 240
_RECEIVER_BYTES = 133
_RECEIVER_FULL = 1
_QUOTE_DECIMALS = 6
_SLOT_MS = 450


class OracleState(msgspec.Struct, frozen=True, kw_only=True):
    """A price and how good it is.

    Attributes:
        price, deviation: native quote a native base, I80F48.
        last_update_time: Unix seconds, where the kind of oracle has it.
    """

    price: int
    deviation: int
    last_update_slot: int
    last_update_time: int | None = None
    oracle_type: OracleType


def oracle_state(run: Execution, key: Pubkey, base_decimals: int) -> OracleState:
    """Return what an oracle says, without a look at age or confidence.

    Raises:
        ModelRefusal: the kind cannot be told, or the price is negative.
    """
    account = run.read(key)
    data = b"" if account is None else bytes(account.data)
    if account is None or len(data) < 8:  # noqa: PLR2004 - the program reads these bytes before anything else
        raise run.panic("range end index out of range")
    if int.from_bytes(data[:4], "little") == _PYTH_MAGIC:
        state = _pyth(run, data, base_decimals)
    elif data[:8] == account_discriminator("StubOracle"):
        run.check(account.owner == run.program_id, "AccountOwnedByWrongProgram")
        return _stub(data)
    elif account.owner == PYTH_RECEIVER:
        state = _receiver(run, data, base_decimals)
    else:
        raise run.refuse("UnknownOracleType")
    run.check(state.price >= 0, "RequireGteViolated")
    return state


def check_confidence(run: Execution, state: OracleState, config: OracleConfig) -> None:
    """Refuse a price whose deviation exceeds the configured fraction of it."""
    run.check(state.deviation <= mul(config.conf_filter, state.price), "OracleConfidence")


def check_staleness(run: Execution, state: OracleState, config: OracleConfig) -> None:
    """Refuse a price that is older than configured, in slots and, where its time is known, in milliseconds."""
    if config.max_staleness_slots < 0:
        return
    run.check(min(U64_MAX, state.last_update_slot + config.max_staleness_slots) >= run.slot, "OracleStale")
    if state.last_update_time is None:
        return
    oldest_ms = max(0, run.now * 1000 - config.max_staleness_slots * _SLOT_MS)
    run.check(state.last_update_time * 1000 >= oldest_ms, "OracleStale")


def _stub(data: bytes) -> OracleState:
    stub = StubOracle.decode(data, 8)
    return OracleState(
        price=stub.price,
        deviation=stub.deviation or I80F48_MIN,
        last_update_slot=stub.last_update_slot or U64_MAX,
        oracle_type=OracleType.STUB,
    )


def _pyth(run: Execution, data: bytes, base_decimals: int) -> OracleState:
    run.rely(len(data) >= _PYTH_BYTES, "called `Result::unwrap()` on an `Err` value")
    (exponent,) = struct.unpack_from("<i", data, 20)
    price, confidence, status, _, slot = struct.unpack_from("<qQIIQ", data, 208)
    if status != _PYTH_TRADING:
        slot, price, confidence = struct.unpack_from("<QqQ", data, 176)
    return _scaled(run, price, confidence, exponent, base_decimals, slot=slot, kind=OracleType.PYTH)


def _receiver(run: Execution, data: bytes, base_decimals: int) -> OracleState:
    run.rely(len(data) >= _RECEIVER_BYTES, "called `Result::unwrap()` on an `Err` value")
    run.check(data[40] == _RECEIVER_FULL, "OracleConfidence")
    price, confidence, exponent, published = struct.unpack_from("<qQiq", data, 73)
    (slot,) = struct.unpack_from("<Q", data, 125)
    kind = OracleType.PYTH_V2
    return _scaled(run, price, confidence, exponent, base_decimals, slot=slot, kind=kind, time=published)


def _scaled(
    run: Execution,
    price: int,
    confidence: int,
    exponent: int,
    base_decimals: int,
    *,
    slot: int,
    kind: OracleType,
    time: int | None = None,
) -> OracleState:
    try:
        scale = power_of_ten(exponent + _QUOTE_DECIMALS - base_decimals)
        return OracleState(
            price=mul(from_int(price), scale),
            deviation=mul(from_int(confidence), scale),
            last_update_slot=slot,
            last_update_time=time,
            oracle_type=kind,
        )
    except FixedOverflow as error:
        raise run.panic("overflow") from error
