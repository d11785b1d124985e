"""The HTTP transport against a real server on loopback: what was written, what was not, and nothing about keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from providers.base.clock import SystemClock
from providers.base.errors import BadAnswer, Phase, RateLimited, ServerError, Unreachable
from providers.solana.http import HttpTransport
from providers.solana.pool import NodePool
from providers.solana.transport import WireError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = "s3cr3t-k3y"


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve on loopback; give the address and the peers of each request."""
    peers: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(str(request.transport.get_extra_info("peername")))
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}", peers
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve bytes by hand; give the port."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())  # type: ignore[arg-type] # a server's callback is always a task
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0.01)


async def post_once(url: str, *, timeout_s: float = 2.0) -> object:
    """Send one body; return the reply or the wire error."""
    transport = HttpTransport(url)
    try:
        return await transport.post(b"{}", timeout_s=timeout_s)
    except WireError as error:
        return error
    finally:
        await transport.aclose()


def echo_answer(result: str) -> Handler:
    """Answer every call with the same result."""

    async def handler(request: web.Request) -> web.StreamResponse:
        number = (await request.json())["id"]
        return web.Response(text=f'{{"jsonrpc":"2.0","id":{number},"result":{result}}}')

    return handler


def test_one_connection_serves_many_calls() -> None:
    """Calls one after another use the connection that is there; status, body and Retry-After come through."""

    async def main() -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            assert request.method == "POST"
            assert request.headers["Content-Type"] == "application/json"
            return web.Response(status=429, body=await request.read(), headers={"Retry-After": "7"})

        async with served(handler) as (url, peers):
            transport = HttpTransport(url)
            for _ in range(5):
                reply = await transport.post(b'{"a":1}', timeout_s=2)
                assert (reply.status, reply.body, reply.retry_after_s) == (429, b'{"a":1}', 7.0)
            await transport.aclose()
            assert len(peers) == 5
            assert len(set(peers)) == 1

    asyncio.run(main())


def test_a_refused_connection_wrote_nothing() -> None:
    """Nobody listens: `refused`, and certainly not sent."""

    async def main() -> None:
        async with raw_server(lambda *_: asyncio.sleep(0)) as port:
            pass
        error = await post_once(f"http://127.0.0.1:{port}")
        assert isinstance(error, WireError)
        assert (error.kind, error.maybe_sent) == ("refused", False)

    asyncio.run(main())


def test_an_unknown_host_wrote_nothing() -> None:
    """No such name: `dns`, and certainly not sent."""

    async def main() -> None:
        error = await post_once("http://no-such-host.invalid")
        assert isinstance(error, WireError)
        assert (error.kind, error.maybe_sent) == ("dns", False)

    asyncio.run(main())


def test_a_failed_tls_handshake_wrote_nothing() -> None:
    """HTTPS to a server that does not speak it: no byte of the request left."""

    async def main() -> None:
        async with served(echo_answer("1")) as (url, peers):
            error = await post_once(url.replace("http://", "https://"))
            assert isinstance(error, WireError)
            assert error.kind in {"tls", "refused", "cut"}
            assert not error.maybe_sent
            assert peers == []

    asyncio.run(main())


def test_a_connection_that_is_never_made_times_out_unsent() -> None:
    """TLS that never answers the hello: the time runs out before there is a connection, so nothing was sent."""

    async def main() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)
            writer.close()

        async with raw_server(silent) as port:
            error = await post_once(f"https://127.0.0.1:{port}", timeout_s=0.3)
        assert isinstance(error, WireError)
        assert (error.kind, error.maybe_sent) == ("timeout", False)

    asyncio.run(main())


def test_no_answer_in_time_may_have_been_sent() -> None:
    """Connected and written, and then silence: `timeout`, maybe sent."""

    async def main() -> None:
        release = asyncio.Event()

        async def hang(request: web.Request) -> web.StreamResponse:
            await request.read()
            await release.wait()
            return web.Response()

        async with served(hang) as (url, peers):
            error = await post_once(url, timeout_s=0.3)
            release.set()
            assert isinstance(error, WireError)
            assert (error.kind, error.maybe_sent) == ("timeout", True)
            assert len(peers) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 200", b"junk\r\n\r\n"],
    ids=["nothing", "half a body", "half a header", "no HTTP"],
)
def test_a_cut_connection_may_have_been_sent(answer: bytes) -> None:
    """The server closes before, within or instead of an answer: `cut`, maybe sent."""

    async def main() -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"{}")
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with raw_server(cut) as port:
            error = await post_once(f"http://127.0.0.1:{port}")
        assert isinstance(error, WireError)
        assert (error.kind, error.maybe_sent) == ("cut", True)

    asyncio.run(main())


def test_a_redirect_is_an_answer_and_not_an_order() -> None:
    """A 307 is not followed: the body goes to the configured address or nowhere."""

    async def main() -> None:
        async with served(echo_answer("1")) as (elsewhere, reached):

            async def redirect(_: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": elsewhere})

            async with served(redirect) as (url, _):
                pool = NodePool([HttpTransport(url)], SystemClock())
                with pytest.raises(BadAnswer):
                    await pool.slot()
                await pool.aclose()
            assert reached == []

    asyncio.run(main())


def test_a_kept_alive_connection_closed_by_the_node_costs_a_read_nothing() -> None:
    """The node closes after each answer without saying so: the read is asked once more instead of failing."""

    async def main() -> None:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = await reader.readexactly(length)
            number = body.split(b'"id":')[1].split(b",")[0].decode()
            result = '"hash"' if b"getGenesisHash" in body else "41"
            text = f'{{"jsonrpc":"2.0","id":{number},"result":{result}}}'
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
            writer.close()

        async with raw_server(once) as port:
            pool = NodePool([HttpTransport(f"http://127.0.0.1:{port}")], SystemClock())
            for _ in range(3):
                assert await pool.slot() == 41
            await pool.aclose()

    asyncio.run(main())


def test_failover_over_http_and_statuses_as_errors() -> None:
    """A dead first node is passed over; alone, each status has its leaf, and Retry-After is kept."""

    async def main() -> None:
        async with raw_server(lambda *_: asyncio.sleep(0)) as port:
            pass
        dead = f"http://127.0.0.1:{port}"
        async with served(echo_answer('"hash"')) as (alive, _):
            pool = NodePool([HttpTransport(dead), HttpTransport(alive)], SystemClock())
            assert await pool.genesis_hash() == "hash"
            await pool.aclose()
        for status, expected in ((429, RateLimited), (500, ServerError), (503, ServerError), (403, BadAnswer)):

            async def refuse(_: web.Request, status: int = status) -> web.StreamResponse:
                return web.Response(status=status, text="<html>no</html>", headers={"Retry-After": "3"})

            async with served(refuse) as (url, _):
                pool = NodePool([HttpTransport(url)], SystemClock())
                with pytest.raises(expected) as raised:
                    await pool.slot()
                assert raised.value.phase is Phase.NOT_SENT
                assert raised.value.raw_code == str(status)
                await pool.aclose()
        pool = NodePool([HttpTransport(dead)], SystemClock())
        with pytest.raises(Unreachable):
            await pool.slot()
        await pool.aclose()

    asyncio.run(main())


def test_keys_in_addresses_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """User, path and query carry keys: none of them is in the name, an error, a log line or a metric."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    class Observer:
        def on_call(self, node: str, method: str, outcome: str, seconds: float) -> None:
            seen.append(f"{node} {method} {outcome} {seconds}")

    async def main() -> None:
        async with raw_server(lambda *_: asyncio.sleep(0)) as port:
            pass
        url = f"http://{KEY}:{KEY}@127.0.0.1:{port}/v2/{KEY}?api-key={KEY}"
        pool = NodePool([HttpTransport(url)], SystemClock(), observer=Observer())
        with pytest.raises(Unreachable) as raised:
            await pool.slot()
        ack = await pool.send_to_all(b"\1", "signature")
        assert ack.not_sent
        shown = [
            str(raised.value),
            repr(raised.value),
            str(ack),
            repr(raised.value.__cause__),
            repr(pool.health()),
            *seen,
        ]
        assert HttpTransport(url).url == f"http://127.0.0.1:{port}"
        assert KEY not in " ".join(shown)
        await pool.aclose()

    asyncio.run(main())
    assert seen
    assert KEY not in caplog.text
    assert KEY not in " ".join(str(vars(record)) for record in caplog.records)


def test_an_address_that_is_none_is_refused_without_being_quoted() -> None:
    """A wrong scheme or a missing host is an error that does not repeat the address, which may hold a key."""
    for url in (f"ftp://{KEY}", KEY, f"https:///{KEY}", ""):
        with pytest.raises(ValueError, match="http") as raised:
            HttpTransport(url)
        assert KEY not in str(raised.value)


def test_a_name_of_an_ipv6_node_is_an_address() -> None:
    """Brackets stay around IPv6 hosts."""
    assert HttpTransport("https://[::1]:8899/key").url == "https://[::1]:8899"
