"""`serve`: the service, its HTTP server, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Protocol, cast

import uvicorn

from providers.base.clock import Clock, SystemClock
from providers.solana.signer import KeyFileError
from router import __version__
from router.api.app import create_app
from router.api.auth import KeyRing
from router.api.lifecycle import Lifecycle
from router.api.rates import Rates
from router.cli.exits import Exit
from router.cli.main import complain
from router.engine.facade import EngineFacade
from router.ledger.protocol import LedgerError
from router.ops.log import configure_logging
from router.ops.metrics import Metrics
from router.service import ServiceError, build_service
from router.settings import Settings, SettingsError

__all__ = ["RunningService", "run_until_signalled", "serve"]

logger = logging.getLogger(__name__)
_LAST_ANSWERS_S: Final = 2


class RunningService(Protocol):
    """What `router.service.build_service` returns, as far as the server needs it."""

    @property
    def engine(self) -> EngineFacade:
        """What the API stands on."""
        ...

    async def start(self) -> None:
        """Recover: ask once about every open attempt, then be ready."""
        ...

    async def drain(self) -> None:
        """Refuse opens, and return when no order is open, or every open one may be left to the next start."""
        ...

    async def aclose(self) -> None:
        """Stop everything and release it."""
        ...


class _Server(uvicorn.Server):
    """A server that leaves signals to us: its own handling closes the door before the orders are done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(settings: Settings) -> int:
    """Serve until a signal; return the exit status."""
    configure_logging(settings.log_level)
    try:
        clock = SystemClock()
        keys = None if settings.api_keys_file is None else KeyRing(settings.api_keys_file, clock)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(_serve(settings, keys, clock))
    except SettingsError as error:
        complain(*error.problems)
        return Exit.USAGE
    except (ServiceError, KeyFileError) as error:
        complain(str(error))
        return Exit.USAGE
    except (LedgerError, OSError) as error:
        complain(f"cannot start: {error}")
        return Exit.FAILED


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - not where only the settings are looked at

    return uvloop.new_event_loop()


async def _serve(settings: Settings, keys: KeyRing | None, clock: Clock) -> int:
    service = await build_service(settings, clock)
    if keys is not None:
        keys.rejected = service.metrics.alerts.labels("api_keys_rejected").inc
    return await run_until_signalled(service, settings, metrics=service.metrics, keys=keys, clock=service.clock)


async def run_until_signalled(
    service: RunningService, settings: Settings, *, metrics: Metrics, keys: KeyRing | None, clock: Clock
) -> int:
    """Listen, recover, serve; at the first signal drain and end, at the second end. SIGHUP reads the key file anew.

    The port is open before recovery has finished, so that probes are answered: `/health/ready` says 503 and orders are
    refused until then.
    """
    lifecycle = Lifecycle(started=False)
    rates = Rates(
        opens_per_s=settings.rate_opens_per_s, reads_per_s=settings.rate_reads_per_s, burst_s=settings.rate_burst_s
    )
    app = create_app(engine=service.engine, metrics=metrics, clock=clock, lifecycle=lifecycle, keys=keys, rates=rates)
    if keys is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keys.reload)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        complain(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}")
        await service.aclose()
        return Exit.FAILED
    server = _Server(
        uvicorn.Config(
            cast("Any", app),
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
    )
    ending = asyncio.create_task(_end_on_signal(service, settings, lifecycle, server))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        return await _run(service, settings, lifecycle, serving, listener)
    finally:
        ending.cancel()
        server.should_exit = True
        lifecycle.stop_waiting()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        await service.aclose()
        logger.info("stopped")


async def _run(
    service: RunningService,
    settings: Settings,
    lifecycle: Lifecycle,
    serving: asyncio.Task[None],
    listener: socket.socket,
) -> int:
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"host": host, "port": port, "network": settings.network, "version": __version__})
    starting = asyncio.create_task(service.start())
    await asyncio.wait({starting, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return Exit.DONE  # a signal came before recovery had finished
    if (error := starting.exception()) is not None:
        logger.critical("start_failed", exc_info=error)
        complain(f"cannot start: {error}")
        return Exit.FAILED
    lifecycle.started = True
    # What start-up made lives as long as the service; a collection that looks through it stops the loop for nothing.
    gc.collect()
    gc.freeze()
    logger.info("ready", extra={"host": host, "port": port, "failing": dict(lifecycle.failing(service.engine))})
    await serving
    return Exit.DONE


async def _end_on_signal(
    service: RunningService, settings: Settings, lifecycle: Lifecycle, server: uvicorn.Server
) -> None:
    """Drain at the first signal, end at the second."""
    signals: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number.name)
    name = await signals.get()
    logger.info("draining", extra={"signal": name, "seconds": settings.drain_seconds})
    lifecycle.drain()
    second = asyncio.create_task(signals.get())
    draining = asyncio.create_task(_drained(service.drain, settings.drain_seconds + 1))
    await asyncio.wait({second, draining}, return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    second.cancel()
    # Whoever waits for an order now gets it as it is: 202, and it goes on at the next start.
    lifecycle.stop_waiting()
    server.should_exit = True


async def _drained(drain: Callable[[], Awaitable[None]], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await drain()
    except TimeoutError:
        logger.warning("drain_incomplete", extra={"seconds": seconds})
    except Exception:
        # The end must come whatever the drain says: every open order is in the ledger.
        logger.exception("drain_failed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.listen(2048)
    listener.setblocking(False)
    return listener
