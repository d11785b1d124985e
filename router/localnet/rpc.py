"""JSON-RPC over the cluster: requests and batches in, answers out, byte for byte as a node would give them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from router.localnet.params import Params, WireState
from router.localnet.rpc_accounts import ACCOUNT_METHODS
from router.localnet.rpc_chain import CHAIN_METHODS
from router.localnet.rpc_transactions import TRANSACTION_METHODS
from router.localnet.wire import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Json,
    RpcError,
)

if TYPE_CHECKING:
    from router.localnet.cluster import Cluster

__all__ = ["Control", "RpcServer", "methods_of"]

_LOG = logging.getLogger(__name__)
_INTERNAL_ERROR = -32603

Control: TypeAlias = "Callable[[bytes], Json]"
"""A `localnet_*` method: JSON of the first parameter in (`{}` when there is none), the result out."""


class _Request(msgspec.Struct, frozen=True):
    method: str
    jsonrpc: str = "2.0"
    id: msgspec.Raw = msgspec.Raw(b"null")
    params: list[msgspec.Raw] | None = None


class _Method(msgspec.Struct, frozen=True):
    method: str = ""


class _Error(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    data: Json | msgspec.UnsetType = msgspec.UNSET


_REQUEST = msgspec.json.Decoder(_Request)
_BATCH = msgspec.json.Decoder(list[msgspec.Raw])
_METHOD = msgspec.json.Decoder(_Method)
_ENCODER = msgspec.json.Encoder()


def methods_of(body: bytes) -> list[str]:
    """Return the methods that a request or batch names; what is malformed names none."""
    try:
        if body.lstrip()[:1] == b"[":
            return [_METHOD.decode(each).method for each in _BATCH.decode(body)]
        return [_METHOD.decode(body).method]
    except msgspec.DecodeError:
        return []


class RpcServer:
    """The methods of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._methods = {**CHAIN_METHODS, **ACCOUNT_METHODS, **TRANSACTION_METHODS}
        self._controls: dict[str, Control] = {}

    def register_control(self, name: str, handler: Control) -> None:
        """Add a control; its name begins with `localnet_`."""
        if not name.startswith("localnet_"):
            raise ValueError("a control's name begins with localnet_")
        self._controls[name] = handler

    def handle(self, body: bytes, wire: WireState) -> bytes:
        """Answer one body."""
        if body.lstrip()[:1] != b"[":
            return self._one(body, wire)
        try:
            batch = _BATCH.decode(body)
        except msgspec.DecodeError:
            return _failure(b"null", RpcError(PARSE_ERROR, "Parse error"))
        if not batch:
            return _failure(b"null", RpcError(INVALID_REQUEST, "Invalid request"))
        return b"[" + b",".join(self._one(bytes(each), wire) for each in batch) + b"]"

    def _one(self, body: bytes, wire: WireState) -> bytes:
        try:
            request = _REQUEST.decode(body)
        except msgspec.ValidationError:
            return _failure(b"null", RpcError(INVALID_REQUEST, "Invalid request"))
        except msgspec.DecodeError:
            return _failure(b"null", RpcError(PARSE_ERROR, "Parse error"))
        identity = bytes(request.id)
        try:
            result = self._call(request, wire)
        except RpcError as error:
            return _failure(identity, error)
        except Exception:  # noqa: BLE001 - answered as a node would, and logged with its trace
            # A bug here must look like a broken node to the caller, and be seen in the log.
            _LOG.exception("localnet_rpc_failed", extra={"method": request.method})
            return _failure(identity, RpcError(_INTERNAL_ERROR, "Internal error"))
        return b'{"jsonrpc":"2.0","result":' + _ENCODER.encode(result) + b',"id":' + identity + b"}"

    def _call(self, request: _Request, wire: WireState) -> Json | msgspec.Raw:
        raw = request.params or []
        method = self._methods.get(request.method)
        if method is not None:
            return method(self._cluster, Params(raw), wire)
        control = self._controls.get(request.method)
        if control is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        try:
            return control(bytes(raw[0]) if raw else b"{}")
        except (ValueError, msgspec.DecodeError) as error:
            raise RpcError(INVALID_PARAMS, f"Invalid params: {error}") from None


def _failure(identity: bytes, error: RpcError) -> bytes:
    detail = _Error(error.code, error.message, msgspec.UNSET if error.data is None else error.data)
    return b'{"jsonrpc":"2.0","error":' + _ENCODER.encode(detail) + b',"id":' + identity + b"}"
