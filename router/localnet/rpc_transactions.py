"""Methods about transactions: simulating, sending, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import pybase64
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from router.localnet import base58
from router.localnet.accounts import Version
from router.localnet.bank import CONFIRMED_DEPTH, FINALIZED_DEPTH, Simulated, signatures_hold
from router.localnet.history import Landed
from router.localnet.messages import LoadFailure
from router.localnet.params import Config, Params, WireState
from router.localnet.rpc_accounts import encode_account
from router.localnet.rpc_chain import Method, check_health, view_of, with_context
from router.localnet.transaction_json import inner_json, transaction_json
from router.localnet.txerrors import describe
from router.localnet.wire import (
    INVALID_PARAMS,
    PREFLIGHT_FAILED,
    SIGNATURE_FAILED,
    UNSUPPORTED_VERSION,
    Json,
    RpcError,
)

if TYPE_CHECKING:
    from router.localnet.cluster import Cluster

__all__ = ["TRANSACTION_METHODS"]

_MAX_BYTES = 1_232
_MAX_ENCODED = {"base58": 1_683, "base64": 1_644}
_MAX_STATUSES = 256
_MAX_SIGNATURES = 1_000
_STATUS_CACHE_SLOTS = 300
_MAX_SIMULATED_ACCOUNTS = 64


def _decode(text: str, encoding: str) -> tuple[bytes, VersionedTransaction]:
    kind = "solana_transaction::versioned::VersionedTransaction"
    limit = _MAX_ENCODED.get(encoding)
    if limit is None:
        raise RpcError(INVALID_PARAMS, f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    if len(text) > limit:
        words = f"{encoding} encoded {kind} too large: {len(text)} bytes (max: encoded/raw {limit}/{_MAX_BYTES})"
        raise RpcError(INVALID_PARAMS, words)
    try:
        wire = base58.decode(text) if encoding == "base58" else pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"invalid {encoding} encoding: {error}") from None
    if len(wire) > _MAX_BYTES:
        raise RpcError(INVALID_PARAMS, f"decoded {kind} too large: {len(wire)} bytes (max: {_MAX_BYTES} bytes)")
    try:
        tx = VersionedTransaction.from_bytes(wire)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"failed to deserialize {kind}: {error}") from None
    try:
        tx.sanitize()
    except Exception as error:  # noqa: BLE001 - solders raises its own class per reason
        raise RpcError(INVALID_PARAMS, f"invalid transaction: {error}") from None
    if bytes(tx) != wire:
        raise RpcError(INVALID_PARAMS, f"failed to deserialize {kind}: trailing bytes")
    return wire, tx


def _send_transaction(cluster: Cluster, params: Params, wire_state: WireState) -> Json:
    config = params.config(1)
    wire, tx = _decode(params.text(0), config.encoding or "base58")
    if not config.skip_preflight:
        slot = view_of(cluster, config, wire_state, config.preflight_commitment or config.commitment)
        if not signatures_hold(tx):
            raise RpcError(SIGNATURE_FAILED, "Transaction signature verification failure")
        check_health(wire_state)
        simulated = cluster.bank.simulate(tx, slot)
        if simulated.run.err is not None:
            words = f"Transaction simulation failed: {describe(simulated.run.err)}"
            raise RpcError(PREFLIGHT_FAILED, words, _simulation_json(simulated, Config()))
    if wire_state.send_delay_slots > 0:
        cluster.schedule(wire, wire_state.send_delay_slots)
    else:
        cluster.execute_wire(wire, tx)
    return str(tx.signatures[0])


def _simulate_transaction(cluster: Cluster, params: Params, wire_state: WireState) -> Json:
    config = params.config(1)
    _, tx = _decode(params.text(0), config.encoding or "base58")
    if config.sig_verify and config.replace_recent_blockhash:
        raise RpcError(INVALID_PARAMS, "sigVerify may not be used with replaceRecentBlockhash")
    slot = view_of(cluster, config, wire_state)
    if config.sig_verify and not signatures_hold(tx):
        raise RpcError(SIGNATURE_FAILED, "Transaction signature verification failure")
    if config.accounts is not None and len(config.accounts.addresses) > _MAX_SIMULATED_ACCOUNTS:
        raise RpcError(INVALID_PARAMS, f"Too many accounts provided; max {_MAX_SIMULATED_ACCOUNTS}")
    simulated = cluster.bank.simulate(tx, slot, replace_blockhash=bool(config.replace_recent_blockhash))
    return with_context(slot, _simulation_json(simulated, config))


def _simulation_json(simulated: Simulated, config: Config) -> Json:
    run = simulated.run
    accounts: Json = None
    if config.accounts is not None:
        encoding = config.accounts.encoding or "base64"
        accounts = [
            None
            if run.err is not None
            else encode_account(Version(simulated.slot, simulated.account(Params.pubkey_of(each))), encoding)
            for each in config.accounts.addresses
        ]
    replaced = simulated.replaced
    returned = run.return_data
    return {
        "accounts": accounts,
        "err": run.err,
        "innerInstructions": inner_json(run.inner) if config.inner_instructions else None,
        "loadedAccountsDataSize": 0,
        "logs": run.logs,
        "replacementBlockhash": None
        if replaced is None
        else {"blockhash": str(replaced[0]), "lastValidBlockHeight": replaced[1]},
        "returnData": None
        if returned is None
        else {"programId": str(returned[0]), "data": (pybase64.b64encode_as_string(returned[1]), "base64")},
        "unitsConsumed": run.units,
    }


def _get_signature_statuses(cluster: Cluster, params: Params, wire_state: WireState) -> Json:
    signatures, config = params.texts(0), params.config(1)
    if len(signatures) > _MAX_STATUSES:
        raise RpcError(INVALID_PARAMS, f"Too many inputs provided; max {_MAX_STATUSES}")
    bank = cluster.bank
    processed = bank.view(0, wire_state.lag_slots)
    confirmed = bank.view(CONFIRMED_DEPTH, wire_state.lag_slots)
    finalized = bank.view(FINALIZED_DEPTH, wire_state.lag_slots)
    statuses: list[Json] = []
    for signature in signatures:
        _check_signature(signature)
        landed = bank.history.get(signature)
        if (
            landed is None
            or landed.slot > processed
            or (landed.slot < processed - _STATUS_CACHE_SLOTS and not config.search_transaction_history)
        ):
            statuses.append(None)
        else:
            statuses.append(_status(landed, processed, confirmed, finalized))
    return with_context(processed, statuses)


def _status(landed: Landed, processed: int, confirmed: int, finalized: int) -> Json:
    err = msgspec.json.decode(landed.err)
    rooted = landed.slot <= finalized
    return {
        "slot": landed.slot,
        "confirmations": None if rooted else processed - landed.slot,
        "err": err,
        "status": {"Ok": None} if err is None else {"Err": err},
        "confirmationStatus": "finalized" if rooted else "confirmed" if landed.slot <= confirmed else "processed",
    }


def _check_signature(signature: str) -> None:
    try:
        whole = len(base58.decode(signature)) == 64  # noqa: PLR2004 - an ed25519 signature
    except ValueError:
        whole = False
    if not whole:
        raise RpcError(INVALID_PARAMS, "Invalid param: WrongSize")


def _history_view(cluster: Cluster, config: Config, wire_state: WireState) -> int:
    if config.commitment in {"processed", "recent"}:
        raise RpcError(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
    return view_of(cluster, config, wire_state)


def _get_transaction(cluster: Cluster, params: Params, wire_state: WireState) -> Json:
    signature, config = params.text(0), params.encoding_or_config(1)
    _check_signature(signature)
    slot = _history_view(cluster, config, wire_state)
    landed = cluster.bank.history.get(signature)
    if landed is None or landed.slot > slot:
        return None
    tx = VersionedTransaction.from_bytes(landed.wire)
    supported = config.max_supported_transaction_version
    if isinstance(tx.message, MessageV0) and supported is None:
        raise RpcError(
            UNSUPPORTED_VERSION,
            "Transaction version (0) is not supported by the requesting client. Please try the request again with "
            'the following configuration parameter: "maxSupportedTransactionVersion": 0',
        )
    time_s = cluster.bank.timeline.time_ms(landed.slot) // 1000
    return transaction_json(landed, tx, config.encoding or "json", time_s, with_version=supported is not None)


def _get_signatures_for_address(cluster: Cluster, params: Params, wire_state: WireState) -> Json:
    key, config = params.pubkey(0), params.config(1)
    limit = _MAX_SIGNATURES if config.limit is None else config.limit
    if not 1 <= limit <= _MAX_SIGNATURES:
        raise RpcError(INVALID_PARAMS, f"Invalid limit; max {_MAX_SIGNATURES}")
    slot = _history_view(cluster, config, wire_state)
    bank = cluster.bank
    finalized = bank.view(FINALIZED_DEPTH, wire_state.lag_slots)
    landed: Iterator[Landed] = (each for each in bank.history.of_address(bytes(key)) if each.slot <= slot)
    if config.before is not None:
        _check_signature(config.before)
        landed = _after_match(landed, config.before)
    found: list[Json] = []
    for each in islice(landed, limit):
        if each.signature == config.until:
            break
        found.append(
            {
                "signature": each.signature,
                "slot": each.slot,
                "err": msgspec.json.decode(each.err),
                "memo": None,
                "blockTime": bank.timeline.time_ms(each.slot) // 1000,
                "confirmationStatus": "finalized" if each.slot <= finalized else "confirmed",
            }
        )
    return found


def _after_match(landed: Iterable[Landed], signature: str) -> Iterator[Landed]:
    """Yield what follows `signature`; nothing when it is not there."""
    passed = False
    for each in landed:
        if passed:
            yield each
        passed = passed or each.signature == signature


def _get_fee_for_message(cluster: Cluster, params: Params, wire_state: WireState) -> Json:
    config = params.config(1)
    slot = view_of(cluster, config, wire_state)
    try:
        message: Message | MessageV0 = from_bytes_versioned(pybase64.b64decode(params.text(0), validate=True))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"invalid base64 encoding: {error}") from None
    bank = cluster.bank
    if not bank.timeline.is_valid(message.recent_blockhash, slot):
        return with_context(slot, None)
    try:
        loaded = bank.load(message, slot)
    except LoadFailure as failure:
        raise RpcError(INVALID_PARAMS, f"invalid transaction: {describe(failure.err)}") from None
    return with_context(slot, loaded.fee)


def _request_airdrop(cluster: Cluster, params: Params, _wire: WireState) -> Json:
    key: Pubkey = params.pubkey(0)
    try:
        return cluster.airdrop(key, params.integer(1)).signature
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, str(error)) from None


TRANSACTION_METHODS: dict[str, Method] = {
    "sendTransaction": _send_transaction,
    "simulateTransaction": _simulate_transaction,
    "getSignatureStatuses": _get_signature_statuses,
    "getTransaction": _get_transaction,
    "getSignaturesForAddress": _get_signatures_for_address,
    "getFeeForMessage": _get_fee_for_message,
    "requestAirdrop": _request_airdrop,
}
