"""JSON as it goes over the wire, and the errors a node answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = [
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "MIN_CONTEXT_SLOT",
    "NODE_UNHEALTHY",
    "PARSE_ERROR",
    "PREFLIGHT_FAILED",
    "SIGNATURE_FAILED",
    "UNSUPPORTED_VERSION",
    "Json",
    "RpcError",
]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
PREFLIGHT_FAILED = -32002
SIGNATURE_FAILED = -32003
NODE_UNHEALTHY = -32005
UNSUPPORTED_VERSION = -32015
MIN_CONTEXT_SLOT = -32016


class RpcError(Exception):
    """A JSON-RPC error object; codes are those of Agave's RPC server."""

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
