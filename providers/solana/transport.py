"""The wire to one node: JSON-RPC bytes out, bytes back. HTTP in production; in-process to the localnet in tests."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["NodeTransport", "Reply", "WireError"]


class Reply(msgspec.Struct, frozen=True):
    """A whole HTTP answer: status, body, and `Retry-After` in seconds where it was given."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class WireError(Exception):
    """No whole answer came.

    Args:
        kind: `refused`, `dns`, `tls`, `timeout`, `cut`.
        maybe_sent: false only when no byte of the request was written.
    """

    def __init__(self, kind: str, *, maybe_sent: bool, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.maybe_sent = maybe_sent
        self.detail = detail


class NodeTransport(Protocol):
    """One node's JSON-RPC endpoint."""

    @property
    def url(self) -> str:
        """Where it is, without credentials (safe to log)."""
        ...

    async def post(self, body: bytes, *, timeout_s: float) -> Reply:
        """Send one request body and return the answer; raise `WireError` when none came whole."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
