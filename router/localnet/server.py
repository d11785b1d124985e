"""The cluster over HTTP, and its subscriptions over a websocket on the next port (Solana's convention).

Several nodes can be told apart by path: `http://host:port/a` and `http://host:port/b` are nodes `a` and `b` for the
faults; `/` is node `node`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import logging
import socket

from aiohttp import WSMsgType, web

from providers.base.clock import Clock
from providers.solana.transport import WireError
from router.localnet.chain_controls import register_fault_controls
from router.localnet.cluster import Cluster
from router.localnet.faults import WireFaults, answer
from router.localnet.rpc import methods_of
from router.localnet.subscriptions import Hub

__all__ = ["LocalnetServer", "serve"]

_LOG = logging.getLogger(__name__)
_HOLD_S = 120.0  # how long a lost answer keeps its connection open, when the caller is patient
_HOLD_STEP_S = 0.05
_QUEUE = 10_000  # notifications that a slow subscriber may be behind before it is cut off
_BODY_BYTES = 4 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_PAIR_TRIES = 20


class LocalnetServer:
    """A running server. `faults` are those of its wire; they are set by `localnet_setFault` too."""

    def __init__(self, cluster: Cluster, clock: Clock, faults: WireFaults) -> None:
        self.cluster = cluster
        self.faults = faults
        self.host = ""
        self.port = 0
        self._clock = clock
        self._hub = Hub(cluster)
        self._runners: list[web.AppRunner] = []
        self._sockets: set[web.WebSocketResponse] = set()
        self._closing = False
        register_fault_controls(cluster, faults)

    @property
    def url(self) -> str:
        """Where JSON-RPC is answered; the websocket is one port above."""
        return f"http://{self.host}:{self.port}"

    async def start(self, host: str, port: int) -> None:
        """Listen on `port` and the one above; port 0 takes a free pair. Raises OSError when one is taken."""
        listening = _listen(host, port)
        self.host, self.port = host, int(listening[0].getsockname()[1])
        for sock, handler in zip(listening, (self._rpc_app(), self._websocket_app()), strict=True):
            # Some clients label plain JSON as compressed; the bytes tell better.
            runner = web.AppRunner(handler, access_log=None, auto_decompress=False, shutdown_timeout=0.5)
            await runner.setup()
            await web.SockSite(runner, sock).start()
            self._runners.append(runner)
        _LOG.info("localnet_listening", extra={"url": self.url, "genesis": str(self.cluster.genesis_hash)})

    async def aclose(self) -> None:
        """Stop listening and cut every connection."""
        self._closing = True
        for websocket in list(self._sockets):
            await websocket.close(code=1001)
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    def _rpc_app(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_post("/{node:.*}", self._post)
        return app

    def _websocket_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{node:.*}", self._websocket)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if body.startswith(_GZIP):
            body = gzip.decompress(body)
        node = request.match_info["node"] or "node"
        try:
            if any(method.startswith("localnet_") for method in methods_of(body)):
                # Controls stand beside the wire: a fault must always be possible to take away.
                return web.Response(body=self.cluster.handle(body), content_type="application/json")
            reply, held_s = answer(self.cluster, self.faults, node, body)
        except WireError as error:
            if error.kind == "timeout":
                await self._hold(request)
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if held_s > 0:
            await self._clock.sleep(held_s)
        headers = {} if reply.retry_after_s is None else {"Retry-After": f"{reply.retry_after_s:g}"}
        kind = "application/json" if reply.body.startswith((b"{", b"[")) else "text/html"
        return web.Response(status=reply.status, body=reply.body, content_type=kind, headers=headers)

    async def _hold(self, request: web.Request) -> None:
        """Keep silent until the caller gives up."""
        held = 0.0
        while held < _HOLD_S and not self._closing:
            if request.transport is None or request.transport.is_closing():
                return
            await self._clock.sleep(_HOLD_STEP_S)
            held += _HOLD_STEP_S

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(heartbeat=30.0, max_msg_size=_BODY_BYTES)
        await websocket.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)

        def send(message: bytes) -> None:
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                _LOG.warning("localnet_subscriber_too_slow", extra={"peer": request.remote})
                if request.transport is not None:
                    request.transport.abort()

        session = self._hub.join(send)
        self._sockets.add(websocket)
        writer = asyncio.create_task(_write(websocket, queue))
        try:
            async for message in websocket:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    data = message.data
                    send(session.handle(data.encode() if isinstance(data, str) else data))
                    session.after_answer()
        finally:
            self._hub.leave(session)
            self._sockets.discard(websocket)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return websocket


async def serve(cluster: Cluster, host: str, port: int, *, faults: WireFaults | None = None) -> LocalnetServer:
    """Put a cluster on the wire: HTTP on `port`, websocket on `port + 1`."""
    server = LocalnetServer(cluster, cluster.clock, WireFaults(cluster.clock) if faults is None else faults)
    await server.start(host, port)
    return server


async def _write(websocket: web.WebSocketResponse, queue: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(ConnectionError):  # the reader sees the end too, and cleans up
        while True:
            await websocket.send_str((await queue.get()).decode())


def _listen(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return sockets bound to two neighbouring ports."""
    for _ in range(_PAIR_TRIES):
        first = _bound(host, port)
        try:
            return first, _bound(host, int(first.getsockname()[1]) + 1)
        except OSError:
            first.close()
            if port != 0:
                raise
    raise OSError(errno.EADDRINUSE, "no two neighbouring ports are free")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
