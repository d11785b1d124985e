"""What is: orders, positions, markets, providers. Nothing here changes anything."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, TypeVar

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from router.api.answers import market_answer, position_document, provider_answer
from router.api.context import Api, json_response, order_document
from router.api.operations import Operation, id_parameter, page_parameters
from router.api.parsing import bad_parameter, parse_query
from router.api.problems import ApiError, HttpRequest
from router.api.schemas import (
    Markets,
    OrderAnswer,
    Orders,
    PositionDocument,
    PositionPage,
    ProviderAnswer,
    Providers,
)
from router.engine.symbols import canonical
from router.ledger.records import OrderStatus, PositionStatus

__all__ = ["Reading"]

S = TypeVar("S", bound=StrEnum)

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 500
_LIST: Final = frozenset({"limit", "cursor", "provider", "market", "status"})
_NAME = re.compile(r"[A-Za-z0-9_.:/ -]{1,40}")
_CURSOR = re.compile(r"[A-Za-z0-9_.:=+/-]{1,256}")
_ORDER_ID: Final = id_parameter("order_id", "The order.", "ord_ahh3fz5uaaaaaaaaaaaaaaaaaa")
_POSITION_ID: Final = id_parameter("position_id", "The position.", "pos_ahh3fz5uaaaaaaaaaaaaaaaaaa")


class Page:
    """The page and filters that a list request asks for."""

    def __init__(self, request: HttpRequest, statuses: type[StrEnum]) -> None:
        given = parse_query(request.scope["query_string"], _LIST)
        limit = given.get("limit", str(_DEFAULT_LIMIT))
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
            raise bad_parameter("limit", f"a whole number from 1 to {_MAX_LIMIT}")
        for name, form in (("cursor", _CURSOR), ("provider", _NAME), ("market", _NAME)):
            if name in given and not form.fullmatch(given[name]):
                raise bad_parameter(name, "has characters that it cannot have")
        if "status" in given and given["status"] not in list(statuses):
            raise bad_parameter("status", f"one of {', '.join(statuses)}")
        self.limit = int(limit)
        self.cursor = given.get("cursor")
        self.provider = given.get("provider")
        try:
            self.market = canonical(given["market"]) if "market" in given else None
        except ValueError as error:
            raise bad_parameter("market", "not a market name") from error
        self._status = given.get("status")

    def status(self, statuses: type[S]) -> S | None:
        """Return the status filter."""
        return None if self._status is None else statuses(self._status)


class Reading(Controller):
    """The router's record, and the venues as they are now."""

    path = "/v1"

    @get(
        "/orders",
        opt={
            "operation": Operation(
                id="list_orders",
                summary="Orders, newest first",
                parameters=page_parameters(tuple(OrderStatus)),
                answers={200: Orders},
            )
        },
    )
    async def orders(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return a page of orders."""
        page = Page(request, OrderStatus)
        views, next_cursor = api.engine.orders(
            limit=page.limit,
            cursor=page.cursor,
            provider=page.provider,
            market=page.market,
            status=page.status(OrderStatus),
        )
        items = tuple(order_document(api, view) for view in views)
        return json_response(Orders(items=items, next_cursor=next_cursor))

    @get(
        "/orders/{order_id:str}",
        opt={
            "operation": Operation(
                id="get_order",
                summary="One order as it is now",
                parameters=(_ORDER_ID,),
                answers={200: OrderAnswer},
                problems=("order_not_found",),
            )
        },
    )
    async def order(self, request: HttpRequest, api: NamedDependency[Api], order_id: FromPath[str]) -> Response[bytes]:
        """Return one order."""
        parse_query(request.scope["query_string"], frozenset())
        view = api.engine.order(order_id)
        return json_response(order_document(api, view))

    @get(
        "/positions",
        opt={
            "operation": Operation(
                id="list_positions",
                summary="Positions, oldest first",
                parameters=page_parameters(tuple(PositionStatus)),
                answers={200: PositionPage},
            )
        },
    )
    async def positions(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return a page of positions."""
        page = Page(request, PositionStatus)
        answers, next_cursor = await api.engine.positions(
            limit=page.limit,
            cursor=page.cursor,
            provider=page.provider,
            market=page.market,
            status=page.status(PositionStatus),
        )
        return json_response(PositionPage(items=tuple(map(position_document, answers)), next_cursor=next_cursor))

    @get(
        "/positions/{position_id:str}",
        opt={
            "operation": Operation(
                id="get_position",
                summary="One position, with what the market says of it now",
                parameters=(_POSITION_ID,),
                answers={200: PositionDocument},
                problems=("position_not_found",),
            )
        },
    )
    async def position(
        self, request: HttpRequest, api: NamedDependency[Api], position_id: FromPath[str]
    ) -> Response[bytes]:
        """Return one position."""
        parse_query(request.scope["query_string"], frozenset())
        return json_response(position_document(await api.engine.position(position_id)))

    @get(
        "/markets",
        opt={
            "operation": Operation(
                id="list_markets",
                summary="What can be traded, and where",
                answers={200: Markets},
                problems=("not_ready",),
            )
        },
    )
    async def markets(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return every market of the chain."""
        parse_query(request.scope["query_string"], frozenset())
        return json_response(Markets(items=tuple(map(market_answer, await api.engine.markets()))))

    @get(
        "/providers",
        opt={
            "operation": Operation(
                id="list_providers", summary="The chain, in order", answers={200: Providers}, problems=("not_ready",)
            )
        },
    )
    async def providers(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return the chain with each venue's state."""
        parse_query(request.scope["query_string"], frozenset())
        return json_response(Providers(items=tuple(map(provider_answer, await api.engine.providers()))))

    @get(
        "/providers/{name:str}",
        opt={
            "operation": Operation(
                id="get_provider",
                summary="One provider of the chain",
                parameters=(id_parameter("name", "The provider.", "drift"),),
                answers={200: ProviderAnswer},
                problems=("provider_not_found",),
            )
        },
    )
    async def provider(self, request: HttpRequest, api: NamedDependency[Api], name: FromPath[str]) -> Response[bytes]:
        """Return one provider."""
        parse_query(request.scope["query_string"], frozenset())
        listings = await api.engine.providers()
        for listing in listings:
            if listing.provider == name:
                return json_response(provider_answer(listing))
        raise ApiError("provider_not_found", "not in the chain", providers=[listing.provider for listing in listings])
