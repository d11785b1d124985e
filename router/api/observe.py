"""One ASGI middleware around everything: request id, metrics, and one log line for each request.

Ready-made middlewares for the same cost ten times as much as the request itself (docs/decisions.md).
"""

from __future__ import annotations

import contextvars
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Final, cast

from providers.base.clock import Clock, new_id
from router.ops.log import log_context
from router.ops.metrics import Metrics

__all__ = ["AsgiApp", "Observed", "current_request_id"]

Scope = MutableMapping[str, object]
Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
_USABLE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_METHODS: Final = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"})
_QUIET: Final = frozenset({"/metrics", "/health/live", "/health/ready"})
_GONE: Final = 499  # nobody was there to read the answer


def current_request_id() -> str:
    """Return the id of the request that this task serves."""
    return _request_id.get()


class Observed:
    """Wraps an ASGI application. A usable `X-Request-Id` of the caller is kept, any other is replaced."""

    def __init__(self, app: AsgiApp, *, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
        given = next((value for name, value in headers if name == b"x-request-id"), b"")
        request_id = given.decode() if _USABLE_ID.fullmatch(given) else new_id(self._clock, "req")
        status = _GONE
        started = self._clock.monotonic()

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = cast("int", message["status"])
                sent = cast("Iterable[tuple[bytes, bytes]]", message.get("headers", ()))
                message["headers"] = [*sent, (b"x-request-id", request_id.encode())]
            await send(message)

        scope.setdefault("state", {})
        _request_id.set(request_id)
        with log_context(request_id=request_id):
            try:
                await self._app(scope, receive, observed_send)
            finally:
                self._record(scope, status, self._clock.monotonic() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The template, never the address: a label for each order would be a metric for each order.
        route = str(scope.get("path_template") or "unmatched")
        method = str(scope["method"])
        method = method if method in _METHODS else "other"
        quiet = route in _QUIET
        if not quiet:
            self._metrics.http_requests.labels(route, method, str(status)).inc()
            self._metrics.http_seconds.labels(route).observe(seconds)
        level = logging.DEBUG if quiet else logging.INFO
        if logger.isEnabledFor(level):
            state = cast("MutableMapping[str, object]", scope["state"])
            extra: dict[str, object] = {
                "method": method,
                "route": route,
                "path": scope["path"],
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
            }
            extra.update({name: state[name] for name in ("caller", "order_id", "problem_code") if name in state})
            logger.log(level, "http_request", extra=extra)
