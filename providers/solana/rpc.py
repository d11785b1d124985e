"""JSON-RPC 2.0 with one node: request bytes, the envelope of answers, and what can be wrong with them."""

from __future__ import annotations

import itertools
from typing import Protocol

import msgspec

from providers.base.clock import Clock
from providers.base.errors import BadAnswer, ConnectionFailed, Phase
from providers.solana.errors import error_of_rpc, error_of_status, error_of_wire
from providers.solana.transport import NodeTransport, Reply, WireError

__all__ = ["RpcClient", "RpcObserver"]


class RpcObserver(Protocol):
    """What metrics want to know of every call."""

    def on_call(self, node: str, method: str, outcome: str, seconds: float) -> None:
        """Take one finished call; `outcome` is `ok` or the code of the error."""
        ...


class _ErrorBody(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _ErrorBody | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_ENCODER = msgspec.json.Encoder()
_HTTP_OK = 200


class RpcClient:
    """Calls of one node, each answered with the raw `result` or a leaf of `ConnectionFailed`.

    Args:
        transport: the wire.
        name: of the node in errors, logs and metrics; never with a key in it.
        clock: measures how long calls take.
        timeout_s: for one call.
        observer: gets every finished call.
    """

    def __init__(
        self,
        transport: NodeTransport,
        *,
        name: str,
        clock: Clock,
        timeout_s: float,
        observer: RpcObserver | None = None,
    ) -> None:
        self.name = name
        self._transport = transport
        self._clock = clock
        self._timeout_s = timeout_s
        self._observer = observer
        self._ids = itertools.count(1)

    async def call(self, method: str, params: list[object]) -> msgspec.Raw:
        """Return the `result` of one call.

        Raises:
            ConnectionFailed: a leaf of it. The phase is `maybe_sent` as soon as one byte of the request may have been
                written, `not_sent` only when none was; what that means is the caller's to say.
        """
        started = self._clock.monotonic()
        outcome = "cancelled"
        try:
            result = await self._call(method, params)
        except ConnectionFailed as error:
            outcome = error.code
            raise
        else:
            outcome = "ok"
            return result
        finally:
            if self._observer is not None:
                self._observer.on_call(self.name, method, outcome, self._clock.monotonic() - started)

    async def aclose(self) -> None:
        """Release connections."""
        await self._transport.aclose()

    async def _call(self, method: str, params: list[object]) -> msgspec.Raw:
        request_id = next(self._ids)
        body = _ENCODER.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        try:
            reply = await self._transport.post(body, timeout_s=self._timeout_s)
        except WireError as error:
            phase = Phase.MAYBE_SENT if error.maybe_sent else Phase.NOT_SENT
            raise error_of_wire(error, self.name, phase=phase) from error
        try:
            return self._read(reply, request_id)
        except ConnectionFailed as error:
            error.phase = Phase.MAYBE_SENT
            raise

    def _read(self, reply: Reply, request_id: int) -> msgspec.Raw:
        if reply.status != _HTTP_OK:
            raise error_of_status(reply.status, self.name, reply.retry_after_s)
        try:
            answer = _ANSWER.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadAnswer(f"{self.name}: not a JSON-RPC answer") from error
        if answer.error is not None:
            raise error_of_rpc(answer.error.code, answer.error.message, self.name)
        if answer.id != request_id:
            raise BadAnswer(f"{self.name}: the answer belongs to another request")
        if not bytes(answer.result):
            raise BadAnswer(f"{self.name}: an answer without a result")
        return answer.result
