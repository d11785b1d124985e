"""The application: routes, guard, error handlers, and the one middleware around them."""

from __future__ import annotations

from typing import Final, cast

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException

from providers.base.clock import Clock
from router import __version__
from router.api.auth import Keys, guard_for
from router.api.context import Api
from router.api.lifecycle import Lifecycle
from router.api.observe import AsgiApp, Observed
from router.api.operating import Operating
from router.api.problems import ApiError, refused, unexpected, unroutable
from router.api.protecting import Protecting
from router.api.rates import RateLimiter, Rates
from router.api.reading import Reading
from router.api.reconciling import Reconciling
from router.api.service_pages import ServicePages
from router.api.trading import Trading
from router.engine.facade import EngineFacade
from router.engine.requests import Refusal
from router.ops.metrics import Metrics

__all__ = ["create_app"]

MAX_BODY_BYTES: Final = 64 * 1024


def create_app(
    *,
    engine: EngineFacade,
    metrics: Metrics,
    clock: Clock,
    lifecycle: Lifecycle | None = None,
    keys: Keys | None = None,
    rates: Rates | None = None,
) -> AsgiApp:
    """Return the ASGI application for an engine. Without `keys` every caller is `local`, and may do everything."""
    api = Api(engine=engine, lifecycle=lifecycle or Lifecycle(), metrics=metrics, version=__version__, keys=keys)
    limiter = RateLimiter(rates or Rates(), clock)

    def provide_api() -> Api:
        return api

    guarded = Router(
        path="/",
        route_handlers=[Trading, Protecting, Reading, Reconciling, Operating],
        guards=[guard_for(keys, limiter)],
    )
    app = Litestar(
        route_handlers=[guarded, ServicePages],
        dependencies={"api": Provide(provide_api, sync_to_thread=False, use_cache=True)},
        exception_handlers={
            ApiError: refused,
            Refusal: refused,
            HTTPException: unroutable,
            Exception: unexpected,
        },
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )
    return Observed(cast("AsgiApp", app), metrics=metrics, clock=clock)
