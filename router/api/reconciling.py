"""What differs between the books and the venues, and what an operator does about it."""

from __future__ import annotations

import re
from typing import Final

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from router.api.answers import plain, position_document
from router.api.context import Api, json_response, read_body
from router.api.operations import Example, Operation, Parameter, id_parameter, page_parameters
from router.api.parsing import bad_parameter, parse_query
from router.api.problems import HttpRequest
from router.api.schemas import (
    AcknowledgeBody,
    AdoptBody,
    EmptyBody,
    EvidenceAnswer,
    FindingAnswer,
    FindingPage,
    PositionDocument,
    ReconciledMarket,
    ReconciledProvider,
    ReconciliationAnswer,
)
from router.engine.reports import ProviderReport, Reconciliation
from router.engine.symbols import canonical
from router.ledger.records import FindingKind, FindingRecord, FindingStatus

__all__ = ["Reconciling"]

_PAGE: Final = tuple(p for p in page_parameters(tuple(FindingStatus)) if p.name != "market")
_KIND: Final = Parameter(
    name="kind",
    place="query",
    description="Only of this kind.",
    schema={"type": "string", "enum": list(FindingKind)},
    example=FindingKind.SIZE_DIFFERS.value,
)
_FINDING_ID: Final = id_parameter("finding_id", "The finding.", "fnd_1")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_CURSOR = re.compile(r"[A-Za-z0-9_.:=+/-]{1,256}")
_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 500


class Reconciling(Controller):
    """The books held against the venues."""

    path = "/v1"

    @get(
        "/reconciliation",
        opt={
            "operation": Operation(
                id="get_reconciliation",
                summary="The last comparison of the books with the venues, and what was found",
                parameters=(*_PAGE, _KIND),
                answers={200: ReconciliationAnswer},
            )
        },
    )
    async def reconciliation(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Return the last run and a page of findings."""
        return json_response(_answer(_asked(request, api)))

    @post(
        "/reconciliation",
        status_code=200,
        opt={
            "operation": Operation(
                id="run_reconciliation",
                scope="admin",
                summary="Compare the books with the venues now",
                body=EmptyBody,
                examples={"now": Example(summary="Nothing more to say", value={})},
                answers={200: ReconciliationAnswer},
                problems=("not_ready",),
            )
        },
    )
    async def run(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Compare now and return what came of it."""
        await read_body(request, EmptyBody, may_be_empty=True)
        api.check_started()
        await api.engine.reconcile()
        return json_response(_answer(_asked(request, api)))

    @post(
        "/reconciliation/findings/{finding_id:str}/acknowledge",
        status_code=200,
        opt={
            "operation": Operation(
                id="acknowledge_finding",
                scope="admin",
                summary="Say why a finding may stand",
                description="Opens that it alone held go on. One that is resolved or acknowledged stays as it is.",
                body=AcknowledgeBody,
                examples={"seen": Example(summary="A trade by hand", value={"reason": "closed by hand, as agreed"})},
                parameters=(_FINDING_ID,),
                answers={200: FindingAnswer},
                problems=("finding_not_found",),
            )
        },
    )
    async def acknowledge(
        self, request: HttpRequest, api: NamedDependency[Api], finding_id: FromPath[str]
    ) -> Response[bytes]:
        """Acknowledge one finding."""
        body = await read_body(request, AcknowledgeBody)
        return json_response(_finding(await api.engine.acknowledge(finding_id, body.reason, request.user)))

    @post(
        "/positions/adopt",
        status_code=200,
        opt={
            "operation": Operation(
                id="adopt_position",
                scope="admin",
                summary="Make a position of what is held beside the router's own",
                body=AdoptBody,
                examples={
                    "foreign": Example(
                        summary="SOL that was opened by hand", value={"provider": "drift", "market": "SOL-PERP"}
                    )
                },
                answers={200: PositionDocument},
                problems=("nothing_foreign", "entry_price_unknown", "side_needed", "unknown_provider", "not_ready"),
            )
        },
    )
    async def adopt(self, request: HttpRequest, api: NamedDependency[Api]) -> Response[bytes]:
        """Adopt the foreign part of a market."""
        body = await read_body(request, AdoptBody)
        api.check_started()
        adopted = await api.engine.adopt(body.provider, canonical(body.market), body.side, request.user)
        return json_response(position_document(adopted))


def _asked(request: HttpRequest, api: Api) -> Reconciliation:
    given = parse_query(request.scope["query_string"], frozenset({"limit", "cursor", "provider", "status", "kind"}))
    limit = given.get("limit", str(_DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
        raise bad_parameter("limit", f"a whole number from 1 to {_MAX_LIMIT}")
    for name, form in (("cursor", _CURSOR), ("provider", _NAME)):
        if name in given and not form.fullmatch(given[name]):
            raise bad_parameter(name, "has characters that it cannot have")
    if "status" in given and given["status"] not in list(FindingStatus):
        raise bad_parameter("status", f"one of {', '.join(FindingStatus)}")
    if "kind" in given and given["kind"] not in list(FindingKind):
        raise bad_parameter("kind", f"one of {', '.join(FindingKind)}")
    return api.engine.reconciliation(
        limit=int(limit),
        cursor=given.get("cursor"),
        kind=FindingKind(given["kind"]) if "kind" in given else None,
        provider=given.get("provider"),
        status=FindingStatus(given["status"]) if "status" in given else None,
    )


def _answer(found: Reconciliation) -> ReconciliationAnswer:
    page = FindingPage(items=tuple(map(_finding, found.findings)), next_cursor=found.next_cursor)
    return ReconciliationAnswer(providers=tuple(map(_provider, found.providers)), findings=page)


def _provider(report: ProviderReport) -> ReconciledProvider:
    return ReconciledProvider(
        provider=report.provider,
        status=report.status,
        detail=report.detail,
        slot=report.slot,
        as_of=report.as_of,
        markets=tuple(
            ReconciledMarket(
                market=market.market,
                side=market.side,
                booked_size=plain(market.booked_size),
                foreign_size=plain(market.foreign_size),
                venue_size=plain(market.venue_size),
                status=market.status,
            )
            for market in report.markets
        ),
    )


def _finding(found: FindingRecord) -> FindingAnswer:
    return FindingAnswer(
        finding_id=found.finding_id,
        kind=found.kind,
        provider=found.provider,
        market=found.market,
        subject=found.subject,
        status=found.status,
        detail=found.detail,
        evidence=tuple(
            EvidenceAnswer(kind=e.kind, detail=e.detail, signature=e.signature, slot=e.slot, commitment=e.commitment)
            for e in found.evidence
        ),
        first_seen_at=found.first_seen_at,
        last_seen_at=found.last_seen_at,
        resolved_at=found.resolved_at,
        reason=found.reason,
    )
