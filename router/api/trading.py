"""Quote, open, close, cancel: from a strict body to the engine's request, and from the order to its answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NoReturn

import msgspec
from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from router.api.answers import quote_document
from router.api.context import DEFAULT_WAIT_S, MAX_WAIT_S, Api, json_response, order_document, order_response, read_body
from router.api.operations import IDEMPOTENCY_KEY, PREFER, Example, Operation, id_parameter
from router.api.parsing import Preference, amount, fingerprint, idempotency_key, preference
from router.api.problems import ApiError, HttpRequest
from router.api.protecting import PROTECTION_PROBLEMS, PROTECTION_WAIT_S, protection_terms
from router.api.schemas import CloseBody, EmptyBody, FieldError, OpenBody, OrderAnswer, QuoteBody, QuoteDocument
from router.engine.requests import AUTO, CloseRequest, OpenRequest, QuoteRequest
from router.engine.symbols import canonical

__all__ = ["Trading"]

_MAX_SLIPPAGE_BPS: Final = 10_000
_MAX_TTL_S: Final = 3_600

_ORDER_STATUSES: Final = {"no_provider_filled": (422, 503), "opens_held": (422, 503), "no_quote": (422, 503)}
_TERMS: Final = (
    "unknown_market",
    "unknown_provider",
    "invalid_request",
    "invalid_size",
    "invalid_leverage",
    "invalid_slippage",
    "invalid_worst_price",
    "below_minimum",
    "leverage_too_high",
    "no_quote",
    "not_ready",
)
_LIMITS: Final = ("order_above_limit", "leverage_above_limit", "limit_exceeded", "trading_halted")
_PLACING: Final = ("invalid_idempotency_key", "idempotency_key_reused", "invalid_ttl", "no_provider_filled")


class Trading(Controller):
    """Everything that can move money, and the price of it."""

    path = "/v1"

    @post(
        "/quote",
        status_code=200,
        opt={
            "operation": Operation(
                id="quote",
                scope="read",
                summary="Price an order",
                description="The first provider of the chain that can take the order, and what every other one says.",
                body=QuoteBody,
                examples={
                    "by_notional": Example(
                        summary="100 dollars of SOL, long, at twice the margin",
                        value={"market": "SOL-PERP", "side": "long", "size_usd": "100", "leverage": "2"},
                    ),
                    "by_size": Example(
                        summary="1.5 SOL short, as exchanges write the market",
                        value={"market": "SOLUSDT", "side": "short", "size": "1.5", "slippage_bps": 20},
                    ),
                },
                answers={200: QuoteDocument},
                problems=_TERMS,
                statuses=_ORDER_STATUSES,
            )
        },
    )
    async def quote(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Price an order."""
        body = await read_body(request, QuoteBody)
        api.check_started()
        answer = await api.engine.quote(QuoteRequest(**_terms(body)))  # type: ignore[arg-type]
        return json_response(quote_document(answer))

    @post(
        "/open",
        status_code=201,
        opt={
            "operation": Operation(
                id="open",
                opens=True,
                summary="Open a position",
                description="Goes through the chain until exactly one provider fills it.",
                body=OpenBody,
                examples={
                    "by_notional": Example(
                        summary="100 dollars of SOL, long",
                        value={"market": "SOL-PERP", "side": "long", "size_usd": "100", "leverage": "2"},
                    ),
                    "bounded": Example(
                        summary="1 SOL long on any provider, within 30 seconds, under a name of the caller's",
                        value={
                            "market": "SOL/USDC",
                            "side": "long",
                            "size": "1",
                            "provider": "auto",
                            "slippage_bps": 100,
                            "client_order_id": "desk-7-0001",
                            "ttl_s": 30,
                        },
                    ),
                    "protected": Example(
                        summary="2 SOL long that close by themselves at 140, and half of them at 180",
                        value={
                            "market": "SOL-PERP",
                            "side": "long",
                            "size": "2",
                            "stop_loss": "140",
                            "take_profit": "180",
                            "take_profit_size": "1",
                        },
                    ),
                },
                parameters=(IDEMPOTENCY_KEY, PREFER),
                answers={200: OrderAnswer, 201: OrderAnswer, 202: OrderAnswer},
                problems=(*_TERMS, *_PLACING, *PROTECTION_PROBLEMS, *_LIMITS, "opens_held"),
                statuses=_ORDER_STATUSES,
            )
        },
    )
    async def open(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Open a position."""
        body = await read_body(request, OpenBody)
        key = idempotency_key(request.headers.getall("idempotency-key", []))
        wanted = _preference(request)
        terms = _terms(body)
        _check_ttl(body.ttl_s)
        api.check_started()
        order = OpenRequest(
            **terms,  # type: ignore[arg-type]
            caller=request.user,
            key=key or body.client_order_id,
            client_order_id=body.client_order_id,
            fingerprint=fingerprint("/v1/open", body, canonical(body.market)),
            ttl_s=body.ttl_s,
            request=_as_sent(body),
            protection=protection_terms(body),
        )
        placed = await api.lifecycle.protected(api.engine.open(order))
        view = await api.lifecycle.wait(api.engine, placed.view, wanted.wait_s)
        if order.protection and view.order.status.final:
            # A caller learns at once when what was filled could not be protected.
            await api.lifecycle.wait_protected(api.engine, view, min(wanted.wait_s, PROTECTION_WAIT_S))
        return order_response(request, api, view, replayed=placed.replayed, preference=wanted)

    @post(
        "/close",
        status_code=200,
        opt={
            "operation": Operation(
                id="close",
                summary="Close a position, or a part of it",
                description="On the position's own provider only, reduce-only. By provider and market: oldest first.",
                body=CloseBody,
                examples={
                    "half_of_one": Example(
                        summary="Half of one position",
                        value={"position_id": "pos_ahh3fz5uaaaaaaaaaaaaaaaaaa", "fraction": "0.5"},
                    ),
                    "all_in_a_market": Example(
                        summary="Everything that the router holds long in SOL on Drift",
                        value={"provider": "drift", "market": "SOL-PERP", "side": "long"},
                    ),
                },
                parameters=(IDEMPOTENCY_KEY, PREFER),
                answers={200: OrderAnswer, 202: OrderAnswer},
                problems=(
                    *_PLACING,
                    "position_not_found",
                    "nothing_to_close",
                    "would_leave_dust",
                    "unknown_market",
                    "unknown_provider",
                    "invalid_request",
                    "invalid_target",
                    "invalid_size",
                    "invalid_fraction",
                    "invalid_slippage",
                    "invalid_worst_price",
                    "not_ready",
                ),
                statuses=_ORDER_STATUSES,
            )
        },
    )
    async def close(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Close a position, or a part of it."""
        body = await read_body(request, CloseBody)
        key = idempotency_key(request.headers.getall("idempotency-key", []))
        wanted = _preference(request)
        _check_target(body)
        _check_slippage(body.slippage_bps)
        _check_ttl(body.ttl_s)
        if body.size is not None and body.fraction is not None:
            _refuse("invalid_fraction", "fraction", "give size or fraction, not both")
        fraction = None if body.fraction is None else amount(body.fraction)
        if fraction is not None and not 0 < fraction <= 1:
            _refuse("invalid_fraction", "fraction", "above 0 and at most 1")
        market = None if body.market is None else canonical(body.market)
        api.check_started()
        order = CloseRequest(
            caller=request.user,
            key=key or body.client_order_id,
            client_order_id=body.client_order_id,
            fingerprint=fingerprint("/v1/close", body, market),
            position_id=body.position_id,
            provider=body.provider,
            market=market,
            side=body.side,
            size=_positive(body.size, "size", "invalid_size"),
            fraction=fraction,
            slippage_bps=body.slippage_bps,
            worst_price=_positive(body.worst_price, "worst_price", "invalid_worst_price"),
            ttl_s=body.ttl_s,
            request=_as_sent(body),
        )
        placed = await api.lifecycle.protected(api.engine.close(order))
        view = await api.lifecycle.wait(api.engine, placed.view, wanted.wait_s)
        return order_response(request, api, view, replayed=placed.replayed, preference=wanted)

    @post(
        "/orders/{order_id:str}/cancel",
        status_code=200,
        opt={
            "operation": Operation(
                id="cancel_order",
                summary="End an order by proof",
                description="No further provider is asked. What may still fill is fenced or cancelled, and then proven:"
                " the order may end filled. 200 when it has ended, 202 while it is still being proven.",
                body=EmptyBody,
                examples={"cancel": Example(summary="No body is needed", value={})},
                parameters=(id_parameter("order_id", "The order.", "ord_ahh3fz5uaaaaaaaaaaaaaaaaaa"), PREFER),
                answers={200: OrderAnswer, 202: OrderAnswer},
                problems=("order_not_found", "not_ready"),
            )
        },
    )
    async def cancel(self, request: HttpRequest, api: NamedDependency[Api], order_id: FromPath[str]) -> Response[bytes]:
        """End an order by proof."""
        await read_body(request, EmptyBody, may_be_empty=True)
        wanted = _preference(request)
        api.check_started()
        view = await api.lifecycle.protected(api.engine.cancel(order_id))
        view = await api.lifecycle.wait(api.engine, view, wanted.wait_s)
        request.scope["state"]["order_id"] = order_id
        headers = {"Location": f"/v1/orders/{order_id}"}
        if wanted.applied:
            headers["Preference-Applied"] = wanted.applied
        if not view.order.status.final:
            headers["Retry-After"] = "1"
        answer = order_document(api, view)
        return json_response(answer, 200 if view.order.status.final else 202, headers)


def _refuse(code: str, name: str, detail: str) -> NoReturn:
    raise ApiError(code, f"{name}: {detail}", errors=(FieldError(pointer=f"/{name}", code=code, detail=detail),))


def _preference(request: HttpRequest) -> Preference:
    return preference(request.headers.getall("prefer", []), default_s=DEFAULT_WAIT_S, cap_s=MAX_WAIT_S)


def _positive(text: str | None, name: str, code: str) -> Decimal | None:
    if text is None:
        return None
    value = amount(text)
    if value == 0:
        _refuse(code, name, "must be above zero")
    return value


def _check_slippage(slippage_bps: int) -> None:
    if not 0 <= slippage_bps <= _MAX_SLIPPAGE_BPS:
        _refuse("invalid_slippage", "slippage_bps", f"from 0 to {_MAX_SLIPPAGE_BPS}")


def _check_ttl(ttl_s: int) -> None:
    if not 1 <= ttl_s <= _MAX_TTL_S:
        _refuse("invalid_ttl", "ttl_s", f"from 1 to {_MAX_TTL_S}")


def _check_target(body: CloseBody) -> None:
    if body.position_id is not None:
        for name in ("provider", "market", "side"):
            if getattr(body, name) is not None:
                _refuse("invalid_target", name, "not beside position_id, which says it already")
    elif body.provider is None or body.market is None:
        name = "provider" if body.market is not None else "market" if body.provider is not None else "position_id"
        _refuse("invalid_target", name, "give position_id, or provider and market")
    elif body.provider == AUTO:
        _refuse("invalid_target", "provider", "a close names the provider that holds the position")


def _terms(body: QuoteBody) -> dict[str, object]:
    """Return what quote and open share, as the engine takes it."""
    if (body.size is None) == (body.size_usd is None):
        detail = "give one of size and size_usd"
        errors = tuple(
            FieldError(pointer=f"/{name}", code="invalid_size", detail=detail) for name in ("size", "size_usd")
        )
        raise ApiError("invalid_size", detail, errors=errors)
    leverage = amount(body.leverage)
    if leverage < 1:
        _refuse("invalid_leverage", "leverage", "at least 1")
    _check_slippage(body.slippage_bps)
    return {
        "market": canonical(body.market),
        "side": body.side,
        "size": _positive(body.size, "size", "invalid_size"),
        "size_usd": _positive(body.size_usd, "size_usd", "invalid_size"),
        "leverage": leverage,
        "provider": body.provider,
        "slippage_bps": body.slippage_bps,
        "worst_price": _positive(body.worst_price, "worst_price", "invalid_worst_price"),
    }


def _as_sent(body: msgspec.Struct) -> bytes:
    """Return the body for the answer's `requested`: as sent, defaults filled in, without nulls."""
    members = {name: value for name, value in msgspec.to_builtins(body).items() if value is not None}
    return msgspec.json.encode(members)
