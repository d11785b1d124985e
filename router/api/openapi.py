"""The OpenAPI 3.1 document: paths and methods from the routes, the rest from the `Operation` beside each handler.

A handler without an `Operation` stops the document from being made, so that it cannot fall behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from router.api.operations import ORDER_HEADERS, Operation, Parameter
from router.api.problems import CATALOGUE, PROBLEM_JSON
from router.api.schemas import OrderAnswer, Problem

__all__ = ["document"]

Json = dict[str, object]

_EVERYWHERE: Final = ("invalid_parameter", "unknown_parameter", "internal_error", "ledger_unavailable")
_GUARDED: Final = ("unauthorized", "host_not_allowed", "scope_missing")
_BODY: Final = (
    "malformed_json",
    "duplicate_field",
    "unknown_field",
    "missing_field",
    "invalid_field",
    "unsupported_media_type",
    "body_too_large",
)
_REQUEST_ID: Final = Parameter(
    name="X-Request-Id",
    place="header",
    description="Comes back in the answer, in problems and in the logs.",
    schema={"type": "string", "pattern": "^[A-Za-z0-9._:/+=@-]{1,128}$"},
    example="req-1",
)


def document(app: Litestar, *, version: str) -> Json:
    """Return the document as JSON values."""
    operations = list(_operations(app))
    structs: set[type[msgspec.Struct]] = {Problem}
    for _, _, operation in operations:
        structs.update(kind for kind in operation.answers.values() if not isinstance(kind, str))
        structs.update({operation.body} if operation.body else set())
    ordered = sorted(structs, key=lambda struct: struct.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    components["Problem"]["additionalProperties"] = True
    paths: dict[str, Json] = {}
    for path, method, operation in sorted(operations, key=lambda row: (row[0], row[1])):
        paths.setdefault(path, {})[method.lower()] = _operation(operation, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "perp-router",
            "version": version,
            "summary": "One request to open or close a perpetual future; it fills at most once, on one provider.",
            "description": "Amounts are decimal strings. Errors are problem documents (RFC 9457) with a stable `code`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: _tidy(schema) for name, schema in components.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operations(app: Litestar) -> Iterator[tuple[str, str, Operation]]:
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            for method in handler.http_methods - {"OPTIONS"}:
                operation = handler.opt.get("operation")
                if not isinstance(operation, Operation):
                    raise TypeError(f"{method} {route.path_format} has no Operation")
                yield route.path_format, method, operation


def _operation(operation: Operation, method: str) -> Json:
    result: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [_parameter(parameter) for parameter in (*operation.parameters, _REQUEST_ID)],
        "responses": {**_answers(operation), **_problems(operation, method)},
        "security": [] if operation.public else [{}, {"key": [operation.scope_of(method)]}],
    }
    if operation.body is not None:
        result["requestBody"] = {
            "required": bool(operation.body.__struct_fields__),
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{operation.body.__name__}"},
                    "examples": {
                        name: {"summary": example.summary, "value": dict(example.value)}
                        for name, example in operation.examples.items()
                    },
                }
            },
        }
    return result


def _parameter(parameter: Parameter) -> Json:
    result: Json = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.place == "path",
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        result["example"] = parameter.example
    return result


def _answers(operation: Operation) -> Json:
    answers: Json = {}
    for status, kind in operation.answers.items():
        if isinstance(kind, str):
            answers[str(status)] = {"description": operation.summary, "content": {kind: {}}}
            continue
        answer: Json = {
            "description": (kind.__doc__ or kind.__name__).partition("\n")[0],
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}},
        }
        if kind is OrderAnswer and operation.body is not None:
            answer["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in ORDER_HEADERS.items()
            }
        answers[str(status)] = answer
    return answers


def _problems(operation: Operation, method: str) -> Json:
    codes = [*_EVERYWHERE, *operation.problems]
    codes += () if operation.public else _GUARDED
    codes += () if operation.public or operation.metered_of(method) is None else ("rate_limited",)
    codes += _BODY if operation.body is not None else ()
    by_status: dict[int, list[str]] = {}
    for code in codes:
        for status in operation.statuses.get(code, (CATALOGUE[code].status,)):
            by_status.setdefault(status, []).append(code)
    return {
        str(status): {
            "description": "; ".join(f"`{code}`: {CATALOGUE[code].title}" for code in sorted(of_status)),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {code: {"value": _problem_example(code, status)} for code in sorted(of_status)},
                }
            },
        }
        for status, of_status in sorted(by_status.items())
    }


def _problem_example(code: str, status: int) -> Json:
    kind = CATALOGUE[code]
    return {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": status,
        "detail": kind.about,
        "instance": "/v1/orders",
        "code": code,
        "phase": "maybe_sent" if code in {"internal_error", "ledger_unavailable"} else "not_sent",
        "retryable": kind.retryable,
        "request_id": "req-1",
        "attempts": [],
        "errors": [],
    }


def _tidy(schema: Mapping[str, object]) -> Json:
    """Return a schema with its docstring's line breaks undone."""
    result = dict(schema)
    text = result.get("description")
    if isinstance(text, str):
        result["description"] = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    properties = result.get("properties")
    if isinstance(properties, dict):
        result["properties"] = {
            name: _tidy(value) for name, value in cast("dict[str, Mapping[str, object]]", properties).items()
        }
    return result
