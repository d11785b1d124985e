"""Problem documents (RFC 9457): one catalogue of codes, and how every exception becomes one of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from providers.base.errors import Phase
from router.api.answers import candidate_answer, later_try_can_help, plain
from router.api.observe import current_request_id
from router.api.schemas import FieldError, Problem, Retryable
from router.engine.requests import Candidate, OpensHeld, QuoteFailed, Refusal
from router.ledger.protocol import LedgerError

__all__ = [
    "CATALOGUE",
    "PROBLEM_JSON",
    "ApiError",
    "HttpRequest",
    "Kind",
    "make_problem",
    "problem_response",
    "refused",
    "unexpected",
    "unroutable",
]

PROBLEM_JSON: Final = "application/problem+json"

HttpRequest = Request[str, None, State]
logger = logging.getLogger(__name__)


class Kind(msgspec.Struct, frozen=True):
    """What is always true of a code."""

    status: int
    title: str
    retryable: Retryable
    about: str


CATALOGUE: Final[Mapping[str, Kind]] = {
    # 400: the request cannot be read
    "malformed_json": Kind(400, "The body is not JSON", "no", "The body must be one JSON object in UTF-8."),
    "duplicate_field": Kind(400, "A field is given twice", "no", "Which one was meant cannot be known; send it once."),
    "unknown_field": Kind(400, "A field is not known", "no", "Unknown fields are refused: they may carry a wish."),
    "missing_field": Kind(400, "A field is missing", "no", "See `errors[]` for its name."),
    "invalid_field": Kind(
        400, "A field has the wrong form", "no", "Amounts are plain decimal strings: no number, no NaN."
    ),
    "unknown_parameter": Kind(
        400, "A query parameter is not known", "no", "A filter that is ignored would show too much."
    ),
    "invalid_parameter": Kind(400, "A query parameter has the wrong form", "no", "See `errors[]`."),
    "invalid_idempotency_key": Kind(400, "The idempotency key has the wrong form", "no", "1 to 255 printable ASCII."),
    "bad_request": Kind(400, "The request cannot be read", "no", "The request is not valid HTTP for this service."),
    # 401 to 421: the request reached the wrong place
    "unauthorized": Kind(401, "No valid API key", "no", "Send `Authorization: Bearer KEY`."),
    "scope_missing": Kind(403, "The key may not do that", "no", "`scope` is what the key's line would have to name."),
    "not_found": Kind(404, "There is nothing here", "no", "The address is not one of the API's; see /schema."),
    "unknown_market": Kind(404, "The market is not known", "no", "No provider lists it; `nearest` has similar names."),
    "order_not_found": Kind(404, "The order is not known", "no", "No order has this id."),
    "position_not_found": Kind(404, "The position is not known", "no", "No position has this id."),
    "finding_not_found": Kind(404, "The finding is not known", "no", "No finding has this id."),
    "nothing_foreign": Kind(404, "Nothing foreign is held", "no", "Only what the router did not open can be adopted."),
    "provider_not_found": Kind(404, "The provider is not known", "no", "It is not in the chain; see `providers`."),
    "method_not_allowed": Kind(405, "The method is not allowed here", "no", "See the `Allow` header."),
    "position_closed": Kind(409, "The position is closed", "no", "Nothing of it is left that could be protected."),
    "trading_halted": Kind(
        409,
        "Opens are switched off",
        "yes_same_key",
        "By an operator: see `scope`, `reason` and `since`. Closes and cancels work.",
    ),
    "body_too_large": Kind(413, "The body is too large", "no", "No request of this API needs more than 64 KiB."),
    "unsupported_media_type": Kind(
        415,
        "The body is not declared as JSON",
        "no",
        "Send `Content-Type: application/json`. A web page cannot send it to another site unasked: that keeps pages"
        " in a browser on this machine from trading.",
    ),
    "host_not_allowed": Kind(
        421, "The host name is not this service's", "no", "Without API keys only localhost and addresses are answered."
    ),
    # 422: well formed, but impossible
    "invalid_request": Kind(422, "The request is impossible", "no", "Its fields contradict each other."),
    "invalid_size": Kind(422, "The size is impossible", "no", "Give one of `size` and `size_usd`, above zero."),
    "invalid_fraction": Kind(422, "The fraction is impossible", "no", "Above 0, at most 1, and without `size`."),
    "invalid_leverage": Kind(422, "The leverage is impossible", "no", "At least 1."),
    "invalid_slippage": Kind(422, "The slippage is impossible", "no", "`slippage_bps` is from 0 to 10000."),
    "invalid_worst_price": Kind(422, "The worst price is impossible", "no", "Above zero."),
    "invalid_ttl": Kind(422, "The time to live is impossible", "no", "`ttl_s` is from 1 to 3600."),
    "invalid_target": Kind(422, "It is not clear what to close", "no", "`position_id`, or `provider` and `market`."),
    "invalid_stop_loss": Kind(
        422,
        "The stop loss is impossible",
        "no",
        "A long's lies below the price, a short's above; else it fires at once.",
    ),
    "invalid_take_profit": Kind(
        422,
        "The take profit is impossible",
        "no",
        "A long's lies above the price, a short's below; else it fires at once.",
    ),
    "trigger_beyond_liquidation": Kind(
        422, "The liquidation comes first", "no", "A stop beyond the liquidation price would never fire."
    ),
    "protection_above_position": Kind(
        422, "More than the position", "no", "A stop or take profit closes what there is at the most."
    ),
    "unknown_provider": Kind(422, "The provider is not known", "no", "`providers` lists the chain; or send auto."),
    "below_minimum": Kind(422, "Below every minimum", "no", "`minimums` lists the smallest order of each provider."),
    "leverage_too_high": Kind(422, "More leverage than anybody gives", "no", "See `max_leverage`."),
    "idempotency_key_reused": Kind(
        422, "The key belongs to another request", "yes_new_key", "A key stands for one body for ever."
    ),
    "side_needed": Kind(422, "Both sides are held", "no", "Say `side`."),
    "entry_price_unknown": Kind(
        422, "The entry price is not known", "no", "Neither the venue nor a booked fill shows it: close it by hand."
    ),
    "nothing_to_close": Kind(422, "Nothing is left to close", "no", "It is closed, or other closes hold all of it."),
    "would_leave_dust": Kind(
        422,
        "The close would leave dust",
        "no",
        "Neither it nor what it leaves may be below `min_size`; close all instead.",
    ),
    "order_above_limit": Kind(422, "Above the router's limit", "no", "See ROUTER_MAX_ORDER_USD."),
    "leverage_above_limit": Kind(422, "More leverage than the router allows", "no", "See ROUTER_MAX_LEVERAGE."),
    "limit_exceeded": Kind(
        422,
        "A limit of the router's is reached",
        "yes_same_key",
        "`limit` names it, `value` is what it allows, `used` what is used of it, `asked` what the order would add. No"
        " order was made. GET /v1/limits shows them all.",
    ),
    "rate_limited": Kind(
        429,
        "Too many requests",
        "yes_same_key",
        "Of this caller, in this second: see `Retry-After`. Closes, cancels and protection are never refused for it.",
    ),
    # 500 and 503: the router, or everybody it asked
    "internal_error": Kind(
        500,
        "Something went wrong in the router",
        "unknown",
        "Look at GET /v1/orders before trying again; the same idempotency key never trades twice.",
    ),
    "ledger_unavailable": Kind(
        503,
        "The ledger takes no writes",
        "unknown",
        "A full disk, or another process that holds the file. Nothing is sent that is not written down; the same"
        " idempotency key never trades twice.",
    ),
    "no_quote": Kind(503, "No provider gave a quote", "yes_same_key", "`candidates` tells why. No order was made."),
    "no_provider_filled": Kind(
        503,
        "No provider filled the order",
        "yes_new_key",
        "Every attempt is proven dead: nothing was traded, and nothing of it ever will be. 503 when a later try can"
        " help, else 422.",
    ),
    "opens_held": Kind(503, "Opens are held", "yes_same_key", "See `reason`. Closes and cancels work."),
    "not_ready": Kind(503, "Not ready", "yes_same_key", "`failing` names the parts that are not ready, and why."),
}


class ApiError(Exception):
    """A request that the API itself refuses; nothing was recorded. `code` is one of `CATALOGUE`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] | None = None,
        **data: object,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.data = data


def problem_response(
    request: HttpRequest, problem: Problem, *, data: Mapping[str, object] | None = None, headers: Mapping[str, str]
) -> Response[bytes]:
    """Return a problem as an answer; members of `data` come after the standard ones and never replace one."""
    document = msgspec.to_builtins(problem)
    for name, value in (data or {}).items():
        document.setdefault(name, _member(value))
    sent = {"Cache-Control": "no-store", **headers}
    if problem.status == 503:  # noqa: PLR2004 - the status that says when to come back
        sent.setdefault("Retry-After", "2")
    request.scope["state"]["problem_code"] = problem.code
    return Response(
        content=msgspec.json.encode(document), status_code=problem.status, media_type=PROBLEM_JSON, headers=sent
    )


def make_problem(
    request: HttpRequest,
    code: str,
    detail: str,
    *,
    status: int | None = None,
    retryable: Retryable | None = None,
    phase: Phase = Phase.NOT_SENT,
    errors: tuple[FieldError, ...] = (),
) -> Problem:
    """Return the document of a code; one that is not in the catalogue is well formed but impossible."""
    kind = CATALOGUE.get(code) or Kind(422, code.replace("_", " ").capitalize(), "no", "")
    return Problem(
        type=f"/problems/{code}",
        title=kind.title,
        status=status or kind.status,
        detail=detail or kind.about,
        instance=request.scope["path"],
        code=code,
        phase=phase,
        retryable=retryable or kind.retryable,
        request_id=current_request_id(),
        errors=errors,
    )


def refused(request: HttpRequest, error: ApiError | Refusal) -> Response[bytes]:
    """Answer a request that made no order."""
    status: int | None = None
    retryable: Retryable | None = None
    if isinstance(error, QuoteFailed):
        candidates = cast("tuple[Candidate, ...]", error.data.get("candidates", ()))
        if not later_try_can_help([candidate.error for candidate in candidates if candidate.error]):
            status, retryable = 422, "no"
    if isinstance(error, OpensHeld) and error.data.get("reason") == "live_trading_off":
        status, retryable = 422, "no"
    errors, headers = (error.errors, error.headers) if isinstance(error, ApiError) else ((), {})
    problem = make_problem(request, error.code, error.detail, status=status, retryable=retryable, errors=errors)
    return problem_response(request, problem, data=error.data, headers=headers)


_HTTP_CODES: Final = {
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def unroutable(request: HttpRequest, error: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses: unknown addresses, wrong methods, bodies that are too large."""
    if error.status_code >= 500:  # noqa: PLR2004 - a server error of the framework's is no caller's mistake
        return unexpected(request, error)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    problem = make_problem(request, code, CATALOGUE[code].about, status=error.status_code)
    return problem_response(request, problem, headers=dict(error.headers or {}))


def unexpected(request: HttpRequest, error: Exception) -> Response[bytes]:
    """Answer a fault of the router's, or of what it stands on: its text goes to the log, never to the caller.

    An order may have been recorded before the fault, so the caller is told to look, not to try again.
    """
    code = "ledger_unavailable" if isinstance(error, LedgerError) else "internal_error"
    logger.error(code, exc_info=error, extra={"path": request.scope["path"]})
    keyed = "idempotency-key" in request.headers
    problem = make_problem(
        request,
        code,
        CATALOGUE[code].about,
        retryable="yes_same_key" if keyed else None,
        phase=Phase.MAYBE_SENT,
    )
    return problem_response(request, problem, headers={})


def _member(value: object) -> object:
    """Return a value that a refusal carries as the API writes it: amounts in plain notation, records as documents."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Candidate):
        return msgspec.to_builtins(candidate_answer(value))
    if isinstance(value, msgspec.Struct):
        return {name: _member(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): _member(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_member(item) for item in cast("tuple[object, ...]", value)]
    return msgspec.to_builtins(value, enc_hook=str)
