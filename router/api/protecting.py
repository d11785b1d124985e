"""Stop loss and take profit: with an open, and of a position that is there."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar import Controller, Response, patch
from litestar.di import NamedDependency
from litestar.params import FromPath

from router.api.answers import position_document
from router.api.context import Api, json_response, read_body
from router.api.operations import Example, Operation, id_parameter
from router.api.parsing import amount
from router.api.problems import ApiError, HttpRequest
from router.api.schemas import FieldError, OpenBody, PositionDocument, ProtectionBody
from router.engine.requests import ProtectRequest
from router.ledger.records import Leg, LegTerms, ProtectionTerms

__all__ = ["PROTECTION_PROBLEMS", "PROTECTION_WAIT_S", "Protecting", "protection_terms"]

PROTECTION_WAIT_S: Final = 3.0
"""An open that has filled is answered so much later at the most, so that the answer can tell of its protection."""

PROTECTION_PROBLEMS: Final = (
    "invalid_stop_loss",
    "invalid_take_profit",
    "trigger_beyond_liquidation",
    "protection_above_position",
)


class Protecting(Controller):
    """What a position shall be protected by."""

    path = "/v1"

    @patch(
        "/positions/{position_id:str}",
        opt={
            "operation": Operation(
                id="protect_position",
                summary="Set, change or take away stop loss and take profit",
                description="What is left out stays as it is. The answer shows what is wanted at once; `protection`"
                " tells how far it is: where the venue cannot hold a trigger the router watches the price itself.",
                body=ProtectionBody,
                examples={
                    "both": Example(
                        summary="A stop and a take profit", value={"stop_loss": "140", "take_profit": "180"}
                    ),
                    "half": Example(
                        summary="Half a SOL at 180; the stop stays as it is",
                        value={"take_profit": "180", "take_profit_size": "0.5"},
                    ),
                    "none": Example(summary="No protection", value={"stop_loss": None, "take_profit": None}),
                },
                parameters=(id_parameter("position_id", "The position.", "pos_ahh3fz5uaaaaaaaaaaaaaaaaaa"),),
                answers={200: PositionDocument},
                problems=(
                    "position_not_found",
                    "position_closed",
                    "invalid_request",
                    *PROTECTION_PROBLEMS,
                    "not_ready",
                ),
            )
        },
    )
    async def protect(
        self, request: HttpRequest, api: NamedDependency[Api], position_id: FromPath[str]
    ) -> Response[bytes]:
        """Set, change or take away a position's protection."""
        body = await read_body(request, ProtectionBody)
        legs = {leg: terms for leg in Leg if not isinstance(terms := _given(body, leg), msgspec.UnsetType)}
        if not legs:
            raise ApiError("invalid_request", "give stop_loss or take_profit")
        api.check_started()
        wanted = ProtectRequest(caller=request.user, position_id=position_id, legs=legs)
        return json_response(position_document(await api.lifecycle.protected(api.engine.protect(wanted))))


def protection_terms(body: OpenBody) -> ProtectionTerms:
    """Return what the position of an open shall be protected by."""
    terms = ProtectionTerms()
    for leg in Leg:
        given = _given(body, leg)
        if isinstance(given, LegTerms):
            terms = terms.but(leg, given)
    return terms


def _given(body: OpenBody | ProtectionBody, leg: Leg) -> LegTerms | msgspec.UnsetType | None:
    """Return what a body says of a leg: its terms, null to take it away, or nothing."""
    price: str | msgspec.UnsetType | None = getattr(body, leg.value)
    size: str | None = getattr(body, f"{leg.value}_size")
    if not isinstance(price, str):
        if size is not None:
            _refuse(f"{leg.value}_size", f"send {leg.value} with it")
        return price
    terms = LegTerms(price=amount(price), size=None if size is None else amount(size))
    if terms.price <= 0:
        _refuse(leg.value, "must be above zero", code=f"invalid_{leg.value}")
    if terms.size is not None and terms.size <= 0:
        _refuse(f"{leg.value}_size", "must be above zero")
    return terms


def _refuse(name: str, detail: str, code: str = "invalid_request") -> None:
    raise ApiError(code, f"{name}: {detail}", errors=(FieldError(pointer=f"/{name}", code=code, detail=detail),))
