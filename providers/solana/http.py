"""JSON-RPC over HTTP with kept-alive connections.

Whether a byte of a request may have left is decided by one fact: whether aiohttp had a connection for it. Before that
(DNS, connect, TLS, waiting for a free connection) nothing can have been written; after it anything may have been.
aiohttp never repeats a POST, and redirects are not followed: bytes go to the configured URL or nowhere.
"""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

from providers.solana.transport import Reply, WireError

__all__ = ["HttpTransport"]

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
# Shorter than the idle time of common proxies (60 s), so that a connection is seldom closed under our feet.
_KEEPALIVE_S = 20.0
_LARGEST_ANSWER = 64 * 1024 * 1024
_CHUNK = 1 << 16


class _Progress(SimpleNamespace):
    connected: bool = False


class HttpTransport:
    """One node behind an HTTP address.

    Args:
        url: with whatever key it needs; only scheme, host and port are ever shown.
        connections: most at once.
    """

    def __init__(self, url: str, *, connections: int = 64) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a node's address begins with http:// or https://")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._origin = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")
        self._address = url
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port: paths and queries of RPC addresses carry keys."""
        return self._origin

    async def post(self, body: bytes, *, timeout_s: float) -> Reply:
        """Send one request and return the whole answer.

        Raises:
            WireError: none came whole; `maybe_sent` is false only when no connection was ever had.
        """
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._post(body, progress)
        except TimeoutError as error:
            raise WireError("timeout", maybe_sent=progress.connected) from error
        except aiohttp.ClientError as error:
            raise WireError(_kind(error), maybe_sent=progress.connected, detail=type(error).__name__) from None
        except (OSError, EOFError) as error:
            raise WireError("cut", maybe_sent=progress.connected, detail=type(error).__name__) from None

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, body: bytes, progress: _Progress) -> Reply:
        session = self._open()
        async with session.post(
            self._address, data=body, headers=_HEADERS, allow_redirects=False, trace_request_ctx=progress
        ) as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.content.iter_chunked(_CHUNK):
                size += len(part)
                if size > _LARGEST_ANSWER:
                    raise WireError("cut", maybe_sent=True, detail="the answer is too large")
                parts.append(part)
            return Reply(
                status=response.status,
                body=b"".join(parts),
                retry_after_s=_seconds(response.headers.get("Retry-After")),
            )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_KEEPALIVE_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
                trace_configs=[_trace()],
            )
        return self._session


def _trace() -> aiohttp.TraceConfig:
    async def connected(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
        del session, params
        context.trace_request_ctx.connected = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    return trace


def _kind(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "refused"
    return "cut"


def _seconds(text: str | None) -> float | None:
    """Read `Retry-After` in seconds; its other form, a date, is left out: our clock need not be the node's."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else None  # noqa: PLR2004 - a day has five digits
