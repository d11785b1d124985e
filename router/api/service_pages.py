"""Health, metrics, the schema, and what problem types mean. Open to everybody who can reach the service."""

from __future__ import annotations

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from router.api.context import Api, json_response
from router.api.operations import Operation, id_parameter
from router.api.problems import CATALOGUE, ApiError, HttpRequest
from router.api.schemas import LiveAnswer, ProblemKind, ReadyAnswer

__all__ = ["ServicePages"]


class ServicePages(Controller):
    """For probes, scrapers and people who read."""

    @get(
        "/health/live",
        opt={"operation": Operation(id="live", summary="The process turns", answers={200: LiveAnswer}, public=True)},
    )
    async def live(self) -> Response[bytes]:
        """Answer; that is the whole test."""
        return json_response(LiveAnswer())

    @get(
        "/health/ready",
        opt={
            "operation": Operation(
                id="ready",
                summary="Send traffic here",
                description="503 names the failing parts. Opens that are switched off or held make nothing unready:"
                " closes and cancels are served.",
                answers={200: ReadyAnswer},
                problems=("not_ready",),
                public=True,
            )
        },
    )
    async def ready(self, api: NamedDependency[Api]) -> Response[bytes]:
        """Answer whether orders can be served now."""
        failing = api.lifecycle.failing(api.engine)
        if failing:
            raise ApiError("not_ready", f"failing: {', '.join(failing)}", failing=failing)
        halted = tuple(record.provider or "router" for record in api.engine.safeguards.halts())
        return json_response(
            ReadyAnswer(halted=halted, holds=tuple(sorted(api.engine.holds())), warnings=tuple(sorted(api.warnings())))
        )

    @get(
        "/metrics",
        opt={
            "operation": Operation(id="metrics", summary="Prometheus metrics", answers={200: "text/plain"}, public=True)
        },
    )
    async def metrics(self, api: NamedDependency[Api]) -> Response[bytes]:
        """Return every metric."""
        return Response(content=api.metrics.render(), media_type=api.metrics.content_type)

    @get(
        "/schema",
        opt={
            "operation": Operation(
                id="schema", summary="The OpenAPI document", answers={200: "application/json"}, public=True
            )
        },
    )
    async def schema(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return the OpenAPI document."""
        return Response(content=api.schema(request.app), media_type="application/json")

    @get(
        "/problems/{code:str}",
        opt={
            "operation": Operation(
                id="problem_kind",
                summary="What a problem's type means",
                parameters=(id_parameter("code", "The code of a problem.", "no_provider_filled"),),
                answers={200: ProblemKind},
                problems=("not_found",),
                public=True,
            )
        },
    )
    async def problem(self, code: FromPath[str]) -> Response[bytes]:
        """Return what is always true of a code."""
        kind = CATALOGUE.get(code)
        if kind is None:
            raise ApiError("not_found", "no problem has this code")
        return json_response(
            ProblemKind(code=code, title=kind.title, status=kind.status, retryable=kind.retryable, about=kind.about)
        )
