"""Jupiter Perps' accounts, read by offset where the fields have fixed places and one after the other where not.

Offsets come from the layouts of `idl/jupiter_perps.json`; accounts are longer than their fields and padded with zeros,
and newer versions have appended fields, so that more bytes than described are taken.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Final, TypeVar

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.jupiter.constants import USD_DECIMALS, RequestChange, RequestType, Side
from providers.jupiter.state import (
    Custody,
    OraclePrice,
    Permissions,
    Perpetuals,
    Pool,
    Position,
    PositionRequest,
    TokenAccount,
)
from providers.solana.codec import AccountDecoder
from providers.solana.idl import Idl, discriminator
from providers.solana.layout import AccountLayout, Field, Reader

__all__ = [
    "POSITION_REQUEST_LEAD",
    "read_custody",
    "read_oracle",
    "read_perpetuals",
    "read_pool",
    "read_position",
    "read_request",
    "read_token_account",
]

POSITION_REQUEST_LEAD: Final = discriminator("account", "PositionRequest")

_IDL: Final = "jupiter_perps"
_PATHS: Final = {
    "oracle_account": "oracle.oracle_account",
    "max_price_age_sec": "oracle.max_price_age_sec",
    "trade_impact_fee_scalar": "pricing.trade_impact_fee_scalar",
    "max_leverage": "pricing.max_leverage",
    "max_global_long_sizes": "pricing.max_global_long_sizes",
    "max_global_short_sizes": "pricing.max_global_short_sizes",
    "allow_increase_position": "permissions.allow_increase_position",
    "allow_decrease_position": "permissions.allow_decrease_position",
    "owned": "assets.owned",
    "locked": "assets.locked",
    "guaranteed_usd": "assets.guaranteed_usd",
    "global_short_sizes": "assets.global_short_sizes",
    "cumulative_interest_rate": "funding_rate_state.cumulative_interest_rate",
    "last_update": "funding_rate_state.last_update",
    "hourly_funding_dbps": "funding_rate_state.hourly_funding_dbps",
    "min_rate_bps": "jump_rate_state.min_rate_bps",
    "max_rate_bps": "jump_rate_state.max_rate_bps",
    "target_rate_bps": "jump_rate_state.target_rate_bps",
    "target_utilization_rate": "jump_rate_state.target_utilization_rate",
    "open_interest": "price_impact_buffer.open_interest",
    "impact_last_updated": "price_impact_buffer.last_updated",
    "impact_fee_factor": "price_impact_buffer.fee_factor",
    "impact_exponent_bits": "price_impact_buffer.exponent",
    "impact_threshold_usd": "price_impact_buffer.delta_imbalance_threshold_decimal",
    "impact_max_fee_bps": "price_impact_buffer.max_fee_bps",
    "borrow_interest_accrued": "borrow_lend_interests_accured",
}
# Up to here every version of the program that is known writes a custody.
_CUSTODY_BYTES: Final = 1052
_POSITION_BYTES: Final = 210

# AgPriceFeed of the oracle's program: price, its power of ten, unix seconds.
_ORACLE_LEAD: Final = discriminator("account", "AgPriceFeed")
_ORACLE: Final = struct.Struct("<168xQbq")
_TOKEN: Final = struct.Struct("<32s32sQ")
_TOKEN_BYTES: Final = 165


@cache
def _custody_reader() -> Reader[Custody]:
    layout = AccountLayout(Idl.load(_IDL), "Custody")
    fields: dict[str, Field] = {}
    for name in Custody.__struct_fields__:
        where = layout.field(_PATHS.get(name, name))
        as_bits = name == "impact_exponent_bits"
        fields[name] = Field(offset=where.offset, size=where.size, type="u32" if as_bits else where.type)
    return Reader(Custody, fields, idl=Idl.load(_IDL), size=_CUSTODY_BYTES, lead=layout.discriminator)


@cache
def _position_reader() -> Reader[Position]:
    layout = AccountLayout(Idl.load(_IDL), "Position", size=_POSITION_BYTES)
    return layout.reader({name: name for name in Position.__struct_fields__}, Position)


@cache
def _decoder(name: str) -> AccountDecoder:
    return AccountDecoder(Idl.load(_IDL), name)


def read_custody(data: bytes) -> Custody:
    """Read a custody; raise `BadAnswer` when it is not one."""
    return _custody_reader()(data)


def read_position(data: bytes) -> Position:
    """Read a position; raise `BadAnswer` when it is not one."""
    return _position_reader()(data)


_S = TypeVar("_S", bound=msgspec.Struct)


def _made(into: type[_S], values: Mapping[str, object]) -> _S:
    """Return the fields that `into` names, checked against its types."""
    try:
        return msgspec.convert({name: values[name] for name in into.__struct_fields__}, into)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"a {into.__name__} account that cannot be read") from error


def read_perpetuals(data: bytes) -> Perpetuals:
    """Read the program's global state; raise `BadAnswer` when it is not that."""
    values = _decoder("Perpetuals").decode(data)
    allowed = values["permissions"]
    if not isinstance(allowed, dict):
        raise BadAnswer("a Perpetuals account without permissions")
    permissions = Permissions(
        increase=bool(allowed["allow_increase_position"]), decrease=bool(allowed["allow_decrease_position"])
    )
    return _made(Perpetuals, {**values, "permissions": permissions})


def read_pool(data: bytes) -> Pool:
    """Read a pool; raise `BadAnswer` when it is not one.

    A pool of an older version ends before its newest fields; they read as zeros, which is what they began as.
    """
    return _made(Pool, _decoder("Pool").decode(data))


def read_request(data: bytes) -> PositionRequest:
    """Read a request; raise `BadAnswer` when it is not one."""
    values = _decoder("PositionRequest").decode(data)
    numbered = {
        "change": RequestChange[str(values["request_change"]).upper()],
        "kind": RequestType[str(values["request_type"]).upper()],
        "side": Side[str(values["side"]).upper()],
    }
    return _made(PositionRequest, {**values, **numbered})


def read_oracle(data: bytes) -> OraclePrice:
    """Read the price that a custody's `dovesAgOracle` holds; raise `BadAnswer` when it is no such account."""
    if len(data) < _ORACLE.size or not data.startswith(_ORACLE_LEAD):
        raise BadAnswer(f"{len(data)} bytes that are not an AgPriceFeed account")
    price, exponent, timestamp = _ORACLE.unpack_from(data)
    shift = exponent + USD_DECIMALS
    return OraclePrice(price=price * 10**shift if shift >= 0 else price // 10**-shift, timestamp=timestamp)


def read_token_account(data: bytes) -> TokenAccount:
    """Read a token account; raise `BadAnswer` when it is not one."""
    if len(data) < _TOKEN_BYTES:
        raise BadAnswer(f"{len(data)} bytes that are not a token account")
    mint, owner, amount = _TOKEN.unpack_from(data)
    return TokenAccount(mint=Pubkey.from_bytes(mint), owner=Pubkey.from_bytes(owner), amount=amount)
