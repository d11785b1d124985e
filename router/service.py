"""The composition root: settings in, a running service out. The only place that knows every part."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from providers import registry
from providers.base.clock import Clock, SystemClock
from providers.base.prices import PriceSource
from providers.base.protocol import Provider
from providers.solana.cluster import SolanaCluster, SolanaSettings
from providers.solana.http import HttpTransport
from providers.solana.pool import NodePool
from providers.solana.signer import KeypairSigner, Signer
from providers.solana.transport import NodeTransport
from router import __version__
from router.engine.context import EngineContext, EngineSettings
from router.engine.engine import Engine
from router.engine.limits import Limits
from router.engine.plan import Patience
from router.ledger.elsewhere import knows_handle_in
from router.ledger.sqlite import SqliteLedger
from router.ops.metrics import Metrics
from router.ops.observers import EngineMetrics, RpcMetrics
from router.ops.redaction import redact_url
from router.settings import Network, Settings

if TYPE_CHECKING:
    from router.localnet.host import LocalnetHost

__all__ = [
    "Service",
    "ServiceError",
    "build_cluster",
    "build_provider",
    "build_service",
    "ledger_path",
    "run_localnet",
]

log = logging.getLogger(__name__)

LAMPORTS_PER_SOL = 1_000_000_000
# Solana's own pace; a localnet's is a setting.
SLOT_SECONDS = 0.4
EXPLORER_URLS = {
    Network.MAINNET: "https://explorer.solana.com/tx/{signature}",
    Network.DEVNET: "https://explorer.solana.com/tx/{signature}?cluster=devnet",
    Network.LOCALNET: "https://explorer.solana.com/tx/{signature}?cluster=custom&customUrl={rpc_url}",
}


class ServiceError(Exception):
    """The service cannot be put together; the text says what to change."""


class Service:
    """Everything that runs: engine, ledger, connections, and the embedded cluster where there is one.

    `start` before anything else; `drain` then `aclose` at the end. A kill at any moment is as safe as `aclose`.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        ledger: SqliteLedger,
        cluster: SolanaCluster,
        providers: Mapping[str, Provider],
        engine: Engine,
        localnet: LocalnetHost | None,
        prices: PriceSource | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.ledger = ledger
        self.cluster = cluster
        self.providers = providers
        self.engine = engine
        self.localnet = localnet
        self.prices = prices

    async def start(self) -> None:
        """Bind the ledger to the cluster, recover every open order, begin to work."""
        await self.ledger.bind(await self.cluster.genesis_hash())
        await self.engine.start()

    async def drain(self) -> None:
        """Refuse opens, and give open orders their time to end; the ledger keeps the rest."""
        await self.engine.drain(self.settings.drain_seconds)

    async def aclose(self) -> None:
        """Stop everything, the innermost last."""
        await self.engine.aclose()
        for provider in self.providers.values():
            await provider.aclose()
        if self.prices is not None:
            await self.prices.aclose()
        await self.cluster.aclose()
        await self.ledger.aclose()
        if self.localnet is not None:
            await self.localnet.aclose()


async def build_service(settings: Settings, clock: Clock | None = None) -> Service:
    """Put the parts together; nothing has been asked of a node yet but of the embedded cluster's own.

    Raises:
        ServiceError, KeyFileError, LedgerError: what is missing or wrong, for the operator.
    """
    clock = clock or SystemClock()
    metrics = Metrics(version=__version__, network=settings.network.value)
    localnet = await _start_localnet(settings, clock)
    try:
        cluster = build_cluster(settings, clock, localnet=localnet, metrics=metrics)
        providers = {name: build_provider(settings, cluster, name, clock, metrics) for name in settings.chain}
        ledger = SqliteLedger.open(ledger_path(settings), clock)
    except BaseException:
        if localnet is not None:
            await localnet.aclose()
        raise
    prices = _prices(settings, clock)
    context = EngineContext(
        ledger=ledger,
        providers=providers,
        lock=cluster.lock,
        clock=clock,
        settings=_engine_settings(settings),
        observer=EngineMetrics(metrics),
        prices=prices,
    )
    explorer = EXPLORER_URLS[settings.network].replace("{rpc_url}", _shown_rpc_url(settings))
    accounts = accounts_ledger_path(settings)
    engine = Engine(
        context,
        explorer=explorer,
        wallet=None if cluster.signer is None else cluster.signer_history,
        known_elsewhere=lambda signature: knows_handle_in(accounts, signature),
    )
    metrics.open_orders.set_function(lambda: engine.open_order_count)
    metrics.unknown_orders.set_function(lambda: len(engine.unknown_ages_s()))
    metrics.unknown_oldest_seconds.set_function(lambda: max(engine.unknown_ages_s(), default=0.0))
    log.info(
        "service_built",
        extra={
            "network": settings.network.value,
            "chain": list(settings.chain),
            "wallet": None if cluster.signer is None else str(cluster.signer.public_key),
        },
    )
    return Service(
        settings=settings,
        clock=clock,
        metrics=metrics,
        ledger=ledger,
        cluster=cluster,
        providers=providers,
        engine=engine,
        localnet=localnet,
        prices=prices,
    )


def build_cluster(
    settings: Settings, clock: Clock, *, localnet: LocalnetHost | None = None, metrics: Metrics | None = None
) -> SolanaCluster:
    """Return the Solana cluster of the settings, or the embedded one.

    Raises:
        ServiceError: no nodes are configured.
        KeyFileError: the key file cannot be used.
    """
    transports: list[NodeTransport]
    if localnet is not None:
        transports = [localnet.transport()]
    elif settings.rpc_urls:
        transports = [HttpTransport(url) for url in settings.rpc_urls]
    elif settings.embedded_cluster:
        # Another process of ours has started it.
        transports = [HttpTransport(f"http://127.0.0.1:{settings.localnet_port}")]
    else:
        raise ServiceError(f"set ROUTER_RPC_URLS: {settings.network} has no nodes of its own")
    solana = SolanaSettings(
        proof_commitment=settings.proof_commitment,
        live_trading=settings.live_trading,
        priority_fee_floor=settings.priority_fee_floor,
        priority_fee_cap=settings.priority_fee_cap,
        sol_reserve_lamports=int(settings.sol_reserve * LAMPORTS_PER_SOL),
        explorer_url=EXPLORER_URLS[settings.network],
    )
    return SolanaCluster.of_transports(
        transports,
        _signer(settings, localnet),
        clock,
        solana,
        observer=None if metrics is None else RpcMetrics(metrics),
    )


def build_provider(
    settings: Settings, cluster: SolanaCluster, name: str, clock: Clock, metrics: Metrics | None = None
) -> Provider:
    """Return one venue's adapter, on its own nodes where it has some; raise `ServiceError` for a setting it refuses."""
    own = dict(settings.providers.get(name, {}))
    # A limit is the router's business: the adapter never hears of it.
    own.pop("max_usd", None)
    urls = own.pop("rpc_urls", "")
    if urls:
        pool = NodePool(
            [HttpTransport(url) for url in urls.split(",")],
            clock,
            timeout_s=cluster.settings.rpc_timeout_s,
            observer=None if metrics is None else RpcMetrics(metrics),
        )
        cluster = cluster.with_read_pool(pool)
    try:
        return registry.load(name)(cluster, own)
    except ValueError as e:
        raise ServiceError(f"a ROUTER_{name.upper()}_ setting: {e}") from e


async def run_localnet(settings: Settings, reset: bool) -> None:  # noqa: FBT001 - as the command line gives it
    """Run the embedded cluster alone until SIGTERM or SIGINT."""
    host = await _host(settings, SystemClock(), reset=reset)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await ended.wait()
    finally:
        await host.aclose()


async def _start_localnet(settings: Settings, clock: Clock) -> LocalnetHost | None:
    return await _host(settings, clock, reset=False) if settings.embedded_cluster else None


async def _host(settings: Settings, clock: Clock, *, reset: bool) -> LocalnetHost:
    # Only a localnet pays for loading it.
    from router.localnet.host import HostConfig, LocalnetHost  # noqa: PLC0415

    config = HostConfig(
        state_dir=settings.localnet_dir / "cluster",
        port=settings.localnet_port,
        slot_time_ms=settings.localnet_slot_ms,
        drift_so=settings.drift_so,
        reset=reset,
    )
    return await LocalnetHost.start(config, clock)


def _signer(settings: Settings, localnet: LocalnetHost | None) -> Signer | None:
    if settings.keypair is not None:
        return KeypairSigner.from_file(settings.keypair) if settings.may_sign else None
    if localnet is not None:
        # The first run trades at once, with the world's own funded trader.
        return localnet.trader_signer()
    if settings.embedded_cluster:
        from router.localnet.world import WorldKeys, world_of  # noqa: PLC0415 - as above

        return KeypairSigner(bytes(world_of(WorldKeys()).trader))
    if settings.network is Network.LOCALNET:
        raise ServiceError("set ROUTER_KEYPAIR: a cluster of yours has no trader of ours")
    return None


def _prices(settings: Settings, clock: Clock) -> PriceSource | None:
    """Return where independent prices come from; null where nobody asked for that check."""
    if settings.max_oracle_deviation_bps is None:
        return None
    # Loaded only where it is asked for, as providers are.
    from providers.pyth.hermes import HermesPrices, HermesRules  # noqa: PLC0415

    rules = HermesRules(
        max_age=timedelta(seconds=settings.pyth_max_age_s), max_confidence_bps=settings.pyth_max_confidence_bps
    )
    feeds = dict(feed.split("=", 1) for feed in settings.pyth_feeds)
    return HermesPrices(settings.pyth_url, feeds, clock, rules)


def _engine_settings(settings: Settings) -> EngineSettings:
    slot_s = settings.localnet_slot_ms / 1000 if settings.network is Network.LOCALNET else SLOT_SECONDS
    unproven = timedelta(seconds=settings.slot_patience * slot_s)
    return EngineSettings(
        chain=settings.chain,
        patience=Patience(
            unproven=unproven,
            resting=unproven * 3,
            fence=max(unproven / 2, timedelta(seconds=1)),
            cancel=max(unproven / 2, timedelta(seconds=1)),
        ),
        max_order_usd=settings.max_order_usd,
        limits=Limits(
            market_usd=settings.max_market_usd,
            day_usd=settings.max_day_usd,
            provider_usd=settings.max_provider_usd(),
            leverage=settings.max_leverage,
            positions=settings.max_open_positions,
            quote_deviation_bps=settings.max_quote_deviation_bps,
            oracle_deviation_bps=settings.max_oracle_deviation_bps,
            reference_required=settings.pyth_required,
        ),
        # A confirmed answer is a slot away: looking more often than twice a slot finds nothing sooner.
        settle_interval_s=slot_s / 2,
        rebroadcast_s=max(1.0, slot_s * 4),
        reconcile_interval_s=float(settings.reconcile_s),
        protection_interval_s=slot_s * 5,
        protection_slippage_bps=settings.protection_slippage_bps,
        trigger_settle_s=slot_s * 12,
    )


def ledger_path(settings: Settings) -> Path:
    """Return the file that `ROUTER_LEDGER_URL` names."""
    return Path(settings.ledger_url.removeprefix("sqlite:///"))


def accounts_ledger_path(settings: Settings) -> Path:
    """Return the small ledger of the account commands, beside the service's."""
    path = ledger_path(settings)
    return path.with_name(f"{path.stem}.accounts{path.suffix}")


def _shown_rpc_url(settings: Settings) -> str:
    if settings.rpc_urls:
        # A key may be part of the address, and every caller sees the answers.
        return redact_url(settings.rpc_urls[0])
    return f"http://127.0.0.1:{settings.localnet_port}"
