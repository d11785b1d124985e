"""Methods about accounts: reads, listings, tokens, rent."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import msgspec
import pybase64
from solders.pubkey import Pubkey

from router.localnet import base58
from router.localnet.accounts import Version
from router.localnet.history import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from router.localnet.params import Config, DataSlice, Filter, Memcmp, Params, TokenFilter, WireState
from router.localnet.rpc_chain import Method, view_of, with_context
from router.localnet.wire import INVALID_PARAMS, Json, RpcError

if TYPE_CHECKING:
    from router.localnet.cluster import Cluster

__all__ = ["ACCOUNT_METHODS", "encode_account", "matches", "token_amount"]

_MAX_KEYS = 100
_MAX_BASE58_BYTES = 128
_RENT_EXEMPT_EPOCH = 2**64 - 1
_TOKEN_ACCOUNT_BYTES = 165
_MINT_BYTES = 82
_OWNER_OFFSET = 32


def encode_account(version: Version | None, encoding: str | None, data_slice: DataSlice | None = None) -> Json:
    """Return an account as the RPC shows it; raises `RpcError` for an encoding that is not offered."""
    if version is None or version.account is None:
        return None
    account = version.account
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "data": _encode_data(version, encoding, data_slice),
        "executable": account.executable,
        "rentEpoch": _RENT_EXEMPT_EPOCH,
        "space": version.size,
    }


def _encode_data(version: Version, encoding: str | None, data_slice: DataSlice | None) -> Json:
    if encoding == "base64" and data_slice is None:
        return (version.base64(), "base64")
    data = b"" if version.account is None else version.account.data
    if data_slice is not None:
        data = data[data_slice.offset : data_slice.offset + data_slice.length]
    if encoding == "base64":
        return (pybase64.b64encode_as_string(data), "base64")
    if encoding == "base64+zstd":
        return (pybase64.b64encode_as_string(_compress(data)), "base64+zstd")
    if encoding in {None, "binary", "base58"}:
        if len(data) > _MAX_BASE58_BYTES:
            raise RpcError(
                INVALID_PARAMS,
                "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.",
            )
        text = base58.encode(data)
        return (text, "base58") if encoding == "base58" else text
    raise RpcError(INVALID_PARAMS, f"Invalid params: encoding `{encoding}` is not offered by the localnet.")


def _compress(data: bytes) -> bytes:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise RpcError(INVALID_PARAMS, "base64+zstd needs the package zstandard on the localnet's side.") from None
    compressed: bytes = zstandard.ZstdCompressor().compress(data)
    return compressed


def _get_account_info(cluster: Cluster, params: Params, wire: WireState) -> Json:
    key, config = params.pubkey(0), params.config(1)
    slot = view_of(cluster, config, wire)
    version = cluster.bank.store.at(key, slot)
    return with_context(slot, encode_account(version, config.encoding, config.data_slice))


def _get_multiple_accounts(cluster: Cluster, params: Params, wire: WireState) -> Json:
    keys, config = params.texts(0), params.config(1)
    if len(keys) > _MAX_KEYS:
        raise RpcError(INVALID_PARAMS, f"Too many inputs provided; max {_MAX_KEYS}")
    slot = view_of(cluster, config, wire)
    store = cluster.bank.store
    encoding = config.encoding or "base64"
    found = [encode_account(store.at(params.pubkey_of(key), slot), encoding, config.data_slice) for key in keys]
    return with_context(slot, found)


def _get_balance(cluster: Cluster, params: Params, wire: WireState) -> Json:
    key, config = params.pubkey(0), params.config(1)
    slot = view_of(cluster, config, wire)
    account = cluster.bank.account(key, slot)
    return with_context(slot, 0 if account is None else account.lamports)


def _get_program_accounts(cluster: Cluster, params: Params, wire: WireState) -> Json:
    program, config = params.pubkey(0), params.config(1)
    slot = view_of(cluster, config, wire)
    filters = config.filters or []
    found = [entry for entry in cluster.bank.store.owned_by(program, slot) if matches(entry[1], filters)]
    listed = _listed(found, config)
    return with_context(slot, listed) if config.with_context else listed


def _listed(found: list[tuple[Pubkey, Version]], config: Config) -> Json:
    return [
        {"pubkey": str(key), "account": encode_account(version, config.encoding, config.data_slice)}
        for key, version in found
    ]


def matches(version: Version, filters: list[Filter]) -> bool:
    """Whether an account meets every condition; raises `RpcError` for a condition that cannot be read."""
    for condition in filters:
        if condition.data_size is not None:
            if version.size != condition.data_size:
                return False
        elif condition.memcmp is not None:
            wanted = _memcmp_bytes(condition.memcmp)
            if _part(version, condition.memcmp.offset, len(wanted)) != wanted:
                return False
        else:
            raise RpcError(INVALID_PARAMS, "Invalid params: a filter is memcmp or dataSize.")
    return True


def _memcmp_bytes(condition: Memcmp) -> bytes:
    given, encoding = condition.bytes, condition.encoding
    try:
        if isinstance(given, list):
            return bytes(given)
        return pybase64.b64decode(given, validate=True) if encoding == "base64" else base58.decode(given)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"Invalid param: {error}") from None


def _part(version: Version, offset: int, length: int) -> bytes:
    return b"" if version.account is None else version.account.data[offset : offset + length]


def _get_token_accounts_by_owner(cluster: Cluster, params: Params, wire: WireState) -> Json:
    owner, by, config = params.pubkey(0), params.struct(1, TokenFilter), params.config(2)
    slot = view_of(cluster, config, wire)
    store = cluster.bank.store
    if by.mint is not None:
        mint = params.pubkey_of(by.mint)
        account = cluster.bank.account(mint, slot)
        if account is None or account.owner not in {TOKEN_PROGRAM, TOKEN_2022_PROGRAM}:
            raise RpcError(INVALID_PARAMS, "Invalid param: could not find mint")
        accounts = [entry for entry in store.owned_by(account.owner, slot) if _part(entry[1], 0, 32) == bytes(mint)]
    elif by.program_id is not None:
        program = params.pubkey_of(by.program_id)
        if program not in {TOKEN_PROGRAM, TOKEN_2022_PROGRAM}:
            raise RpcError(INVALID_PARAMS, "Invalid param: unrecognized Token program id")
        accounts = store.owned_by(program, slot)
    else:
        raise RpcError(INVALID_PARAMS, "Invalid params: mint or programId is needed.")
    found = [
        entry
        for entry in accounts
        if entry[1].size >= _TOKEN_ACCOUNT_BYTES and _part(entry[1], _OWNER_OFFSET, 32) == bytes(owner)
    ]
    return with_context(slot, _listed(found, config))


def _get_token_account_balance(cluster: Cluster, params: Params, wire: WireState) -> Json:
    key, config = params.pubkey(0), params.config(1)
    slot = view_of(cluster, config, wire)
    account = cluster.bank.account(key, slot)
    if account is None:
        raise RpcError(INVALID_PARAMS, "Invalid param: could not find account")
    if account.owner not in {TOKEN_PROGRAM, TOKEN_2022_PROGRAM} or len(account.data) < _TOKEN_ACCOUNT_BYTES:
        raise RpcError(INVALID_PARAMS, "Invalid param: not a Token account")
    mint = cluster.bank.account(Pubkey(account.data[:32]), slot)
    if mint is None:
        raise RpcError(INVALID_PARAMS, "Invalid param: could not find mint")
    return with_context(slot, token_amount(int.from_bytes(account.data[64:72], "little"), mint.data[44]))


def _get_token_supply(cluster: Cluster, params: Params, wire: WireState) -> Json:
    key, config = params.pubkey(0), params.config(1)
    slot = view_of(cluster, config, wire)
    mint = cluster.bank.account(key, slot)
    if mint is None or mint.owner not in {TOKEN_PROGRAM, TOKEN_2022_PROGRAM} or len(mint.data) < _MINT_BYTES:
        raise RpcError(INVALID_PARAMS, "Invalid param: not a Token mint")
    return with_context(slot, token_amount(int.from_bytes(mint.data[36:44], "little"), mint.data[44]))


def token_amount(amount: int, decimals: int) -> Json:
    """Return a token amount in the RPC's four forms; the number with a fraction is the RPC's own, for display."""
    whole, fraction = divmod(amount, 10**decimals)
    text = f"{whole}.{fraction:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return {"amount": str(amount), "decimals": decimals, "uiAmount": _number(text), "uiAmountString": text}


def _number(text: str) -> Json:
    """Return a decimal text as a JSON number, digit by digit."""
    number: Json = msgspec.Raw(text.encode())  # pyright: ignore[reportAssignmentType] - raw JSON is JSON
    return number


def _get_minimum_balance(cluster: Cluster, params: Params, _wire: WireState) -> Json:
    return cluster.minimum_balance(params.integer(0))


ACCOUNT_METHODS: dict[str, Method] = {
    "getAccountInfo": _get_account_info,
    "getMultipleAccounts": _get_multiple_accounts,
    "getBalance": _get_balance,
    "getProgramAccounts": _get_program_accounts,
    "getTokenAccountsByOwner": _get_token_accounts_by_owner,
    "getTokenAccountBalance": _get_token_account_balance,
    "getTokenSupply": _get_token_supply,
    "getMinimumBalanceForRentExemption": _get_minimum_balance,
}
