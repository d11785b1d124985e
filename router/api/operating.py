"""The operator's switches, and how much of the limits is used."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from msgspec import Meta

from router.api.answers import halt_answer, plain
from router.api.context import Api, json_response, read_body
from router.api.operations import Example, Operation
from router.api.parsing import parse_query
from router.api.problems import HttpRequest
from router.api.schemas import Amount, HaltAnswer, ProviderText

__all__ = ["HaltBody", "Halts", "LimitAnswer", "LimitsAnswer", "Operating"]


class HaltBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider, or null for the whole router (said, never meant by leaving it out); and why: kept on record."""

    provider: ProviderText | None
    reason: Annotated[str, Meta(min_length=1, max_length=500, extra={"hint": "1 to 500 characters"})]


class Halts(msgspec.Struct, frozen=True, kw_only=True):
    """Every halt that stands, the whole router's first."""

    items: tuple[HaltAnswer, ...]
    next_cursor: None = None


class LimitAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and how much of it is used; `scope` is a market or provider, where each has its own.

    Dollars of notional, or a number of positions. Whatever may still open counts as used.
    """

    limit: str
    scope: str | None
    value: Amount
    used: Amount
    left: Amount


class LimitsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit on a sum."""

    items: tuple[LimitAnswer, ...]
    next_cursor: None = None


class Operating(Controller):
    """Switches opens off and on. Nothing here ever touches a close, a cancel or a fence."""

    path = "/v1"

    @post(
        "/admin/halt",
        status_code=200,
        opt={
            "operation": Operation(
                id="halt",
                scope="admin",
                summary="Switch opens off, everywhere or at one provider",
                description="At once, and until `resume`, also after a restart. Orders that have sent nothing end; what"
                " was sent is settled as ever. Closes, cancels and protection go on.",
                body=HaltBody,
                examples={
                    "provider": Example(
                        summary="No opens on Drift", value={"provider": "drift", "reason": "odd oracle prices"}
                    ),
                    "everywhere": Example(
                        summary="No opens at all", value={"provider": None, "reason": "drill of the desk"}
                    ),
                },
                answers={200: Halts},
                problems=("unknown_provider",),
            )
        },
    )
    async def halt(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Switch opens off."""
        body = await read_body(request, HaltBody)
        safeguards = api.engine.safeguards
        await api.lifecycle.protected(safeguards.halt(body.provider, body.reason, request.user))
        return _standing(api)

    @post(
        "/admin/resume",
        status_code=200,
        opt={
            "operation": Operation(
                id="resume",
                scope="admin",
                summary="Switch opens on again",
                description="One halt at a time: that of a provider, or (null) that of the whole router. What is not"
                " halted stays as it is.",
                body=HaltBody,
                examples={
                    "provider": Example(
                        summary="Opens on Drift again", value={"provider": "drift", "reason": "prices are fine again"}
                    ),
                    "everywhere": Example(
                        summary="The drill is over", value={"provider": None, "reason": "drill over"}
                    ),
                },
                answers={200: Halts},
                problems=("unknown_provider",),
            )
        },
    )
    async def resume(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Switch opens on."""
        body = await read_body(request, HaltBody)
        safeguards = api.engine.safeguards
        await api.lifecycle.protected(safeguards.resume(body.provider, body.reason, request.user))
        return _standing(api)

    @get(
        "/admin/halts",
        opt={"operation": Operation(id="list_halts", summary="Where opens are switched off", answers={200: Halts})},
    )
    async def halts(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return every halt that stands."""
        parse_query(request.scope["query_string"], frozenset())
        return _standing(api)

    @get(
        "/limits",
        opt={
            "operation": Operation(
                id="limits", summary="The limits on opens, and what is used of them", answers={200: LimitsAnswer}
            )
        },
    )
    async def limits(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return every limit on a sum."""
        parse_query(request.scope["query_string"], frozenset())
        items = tuple(
            LimitAnswer(
                limit=use.limit,
                scope=use.scope,
                value=plain(use.value),
                used=plain(use.used),
                left=plain(max(use.value - use.used, Decimal(0))),
            )
            for use in api.engine.safeguards.use()
        )
        return json_response(LimitsAnswer(items=items))


def _standing(api: Api) -> Response[bytes]:
    return json_response(Halts(items=tuple(map(halt_answer, api.engine.safeguards.halts()))))
