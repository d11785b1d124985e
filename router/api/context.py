"""What every handler works with, and the two ways in which it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from litestar import Litestar, Response

from router.api.answers import attempt_answers, furthest_phase, order_answer, order_status
from router.api.auth import Keys
from router.api.lifecycle import Lifecycle
from router.api.openapi import document
from router.api.parsing import Preference, parse_body
from router.api.problems import ApiError, HttpRequest, make_problem, problem_response
from router.api.schemas import OrderAnswer
from router.engine.facade import EngineFacade
from router.ledger.records import OrderView
from router.ops.metrics import Metrics

__all__ = ["Api", "json_response", "order_document", "order_response", "read_body"]

T = TypeVar("T", bound=msgspec.Struct)

DEFAULT_WAIT_S: Final = 10.0
MAX_WAIT_S: Final = 60.0
_encoder = msgspec.json.Encoder()


class Api:
    """The engine and what the API adds to it."""

    def __init__(
        self,
        *,
        engine: EngineFacade,
        lifecycle: Lifecycle,
        metrics: Metrics,
        version: str,
        keys: Keys | None = None,
    ) -> None:
        self.engine = engine
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.version = version
        self._keys = keys
        self._schema: bytes | None = None

    def schema(self, app: Litestar) -> bytes:
        """Return the OpenAPI document, which is made on first use."""
        if self._schema is None:
            self._schema = _encoder.encode(document(app, version=self.version))
        return self._schema

    def warnings(self) -> Mapping[str, str]:
        """Return what somebody should look at, though everything works."""
        problem = None if self._keys is None else self._keys.problem
        return {} if problem is None else {"api_keys_rejected": problem}

    def check_started(self) -> None:
        """Refuse until recovery has asked about every open attempt."""
        if not self.lifecycle.started:
            raise ApiError("not_ready", "the service is starting", failing=self.lifecycle.failing(self.engine))


def json_response(
    answer: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Return a document as an answer that nobody keeps."""
    sent = {"Cache-Control": "no-store", **(headers or {})}
    return Response(content=_encoder.encode(answer), status_code=status, media_type="application/json", headers=sent)


async def read_body(request: HttpRequest, into: type[T], *, may_be_empty: bool = False) -> T:
    """Return the request's body, strictly read.

    The media type must be declared: a browser sends `application/json` to another site only after asking it, which is
    what keeps a web page from trading on the machine of the person who looks at it.
    """
    body = await request.body()
    if may_be_empty and not body.strip():
        body = b"{}"
    elif request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError("unsupported_media_type", "send Content-Type: application/json")
    return parse_body(body, into)


def order_document(api: Api, view: OrderView) -> OrderAnswer:
    """Return an order as the API shows it now."""
    engine = api.engine
    return order_answer(view, engine.explorer_url, engine.blocked(view), engine.protection(view))


def order_response(
    request: HttpRequest, api: Api, view: OrderView, *, replayed: bool, preference: Preference
) -> Response[bytes]:
    """Answer an open or a close with the status that belongs to what became of it."""
    order = view.order
    request.scope["state"]["order_id"] = order.order_id
    location = f"/v1/orders/{order.order_id}"
    headers = {"Location": location}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if preference.applied:
        headers["Preference-Applied"] = preference.applied
    status = order_status(view)
    if status < 400:  # noqa: PLR2004 - an order that is open, filled or cancelled is no problem
        if status == 202:  # noqa: PLR2004 - accepted: ask again
            headers["Retry-After"] = "1"
        return json_response(
            order_document(api, view),
            status,
            headers,
        )
    problem = make_problem(
        request,
        "no_provider_filled",
        _what_happened(view),
        status=status,
        retryable="yes_new_key" if status == 503 else "no",  # noqa: PLR2004 - service unavailable
        phase=furthest_phase(view),
    )
    problem = msgspec.structs.replace(problem, instance=location, attempts=attempt_answers(view))
    data = {"order_id": order.order_id, "order_status": order.status}
    return problem_response(request, problem, data=data, headers=headers)


def _what_happened(view: OrderView) -> str:
    if not view.attempts:
        return "no attempt was made before the deadline" if view.order.error is None else view.order.error.detail
    said = [
        f"{attempt.provider}: {attempt.error.code if attempt.error else attempt.state}" for attempt in view.attempts
    ]
    return f"nothing was traded; {', '.join(said)}"
