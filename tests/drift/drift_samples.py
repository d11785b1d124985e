"""Drift accounts made of numbers, encoded by the interface description's own coder (the oracle of these tests)."""

from __future__ import annotations

import json
import random
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import driftpy
from anchorpy import AccountsCoder
from anchorpy_core.idl import Idl
from driftpy.constants.numeric_constants import AMM_RESERVE_PRECISION
from solders.pubkey import Pubkey

FULL_IDL_PATH = Path(driftpy.__file__).parent / "idl" / "drift.json"

_INTEGERS = {
    "u8": (0, 2**8 - 1),
    "i8": (-(2**7), 2**7 - 1),
    "u16": (0, 2**16 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "u64": (0, 2**64 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "u128": (0, 2**128 - 1),
    "i128": (-(2**127), 2**127 - 1),
}


@cache
def full_idl() -> dict[str, Any]:
    """Return driftpy's whole interface description."""
    loaded: dict[str, Any] = json.loads(FULL_IDL_PATH.read_text())
    return loaded


@cache
def coder() -> Any:
    """Return anchorpy's account coder for it."""
    with warnings.catch_warnings():
        # anchorpy's sum types use what attrs has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AccountsCoder(Idl.from_json(FULL_IDL_PATH.read_text()))


@cache
def _types() -> dict[str, dict[str, Any]]:
    return {each["name"]: each["type"] for each in full_idl()["types"]}


def _encode(kind: Any, path: str, values: dict[str, Any], rng: random.Random | None) -> bytes:
    """Encode a value of an IDL type: the one given for `path`, else a random or a zero one."""
    if isinstance(kind, str):
        if kind == "publicKey":
            return bytes(values.get(path, Pubkey(rng.randbytes(32) if rng else bytes(32))))
        if kind == "bool":
            return bytes([int(values.get(path, rng.random() < 0.5 if rng else False))])
        low, high = _INTEGERS[kind]
        value = int(values.get(path, rng.randint(low, high) if rng else 0))
        return value.to_bytes(int(kind[1:]) // 8, "little", signed=low < 0)
    if "defined" in kind:
        body = _types()[kind["defined"]]
        if body["kind"] == "enum":
            return bytes([values.get(path, rng.randrange(len(body["variants"])) if rng else 0)])
        return b"".join(_encode(each["type"], f"{path}.{each['name']}", values, rng) for each in body["fields"])
    item, count = kind["array"]
    if item == "u8" and path in values:
        return bytes(values[path]).ljust(count, b"\0")
    return b"".join(_encode(item, f"{path}.{index}", values, rng) for index in range(count))


def account_bytes(name: str, values: dict[str, Any] | None = None, rng: random.Random | None = None) -> bytes:
    """Return an account's bytes: `values` by dotted path as the description spells it, all else zero, or from `rng`."""
    body = next(each["type"] for each in full_idl()["accounts"] if each["name"] == name)
    known = {f".{path}": value for path, value in (values or {}).items()}
    content = b"".join(_encode(each["type"], f".{each['name']}", known, rng) for each in body["fields"])
    return bytes(coder().acc_name_to_discriminator[name]) + content


def decoded(data: bytes) -> Any:
    """Return what the oracle reads in an account."""
    return coder().decode(data)


SOL_MARKET: dict[str, Any] = {
    "amm.oracle": Pubkey.from_string("J83w4HKfqxwcq3BEMMkPFSppX3gqekLyLJBexebFVkix"),
    "amm.historicalOracleData.lastOraclePrice": 100_000_000,
    "amm.historicalOracleData.lastOraclePriceTwap": 100_000_000,
    "amm.historicalOracleData.lastOraclePriceTwap5min": 100_000_000,
    "amm.baseAssetReserve": 500_000 * AMM_RESERVE_PRECISION,
    "amm.quoteAssetReserve": 500_000 * AMM_RESERVE_PRECISION,
    "amm.sqrtK": 500_000 * AMM_RESERVE_PRECISION,
    "amm.minBaseAssetReserve": 353_555 * AMM_RESERVE_PRECISION,
    "amm.maxBaseAssetReserve": 707_100 * AMM_RESERVE_PRECISION,
    "amm.concentrationCoef": 1_414_200,
    "amm.terminalQuoteAssetReserve": 500_000 * AMM_RESERVE_PRECISION,
    "amm.pegMultiplier": 100_000_000,
    "amm.fundingPeriod": 3600,
    "amm.orderStepSize": 10_000_000,
    "amm.orderTickSize": 100,
    "amm.minOrderSize": 50_000_000,
    "amm.baseSpread": 1_000,
    "amm.maxSpread": 100_000,
    "amm.maxFillReserveFraction": 100,
    "amm.maxSlippageRatio": 50,
    "name": b"SOL-PERP".ljust(32),
    "marginRatioInitial": 2_000,
    "marginRatioMaintenance": 500,
    "unrealizedPnlInitialAssetWeight": 10_000,
    "unrealizedPnlMaintenanceAssetWeight": 10_000,
    "status": 1,
}

USDC_MARKET: dict[str, Any] = {
    "historicalOracleData.lastOraclePriceTwap5min": 1_000_000,
    "cumulativeDepositInterest": 10**10,
    "cumulativeBorrowInterest": 10**10,
    "initialAssetWeight": 10_000,
    "maintenanceAssetWeight": 10_000,
    "initialLiabilityWeight": 10_000,
    "maintenanceLiabilityWeight": 10_000,
    "decimals": 6,
    "oracleSource": 2,
    "status": 1,
}
