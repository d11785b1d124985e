"""The published document against the running service: every example works, every answer is as described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from providers.base.errors import ErrorClass
from router.api.problems import CATALOGUE
from router.engine import requests
from router.ledger.records import OrderStatus
from tests.api.running import Running
from tests.api.scripted_engine import error

METHODS = {"get", "post", "patch", "put", "delete"}


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    """Return the document as published."""
    published: dict[str, Any] = client.get("/schema").json()
    return published


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def check_answer(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response) -> None:
    """Check status, media type and body against what is published for the operation."""
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{answer.status_code} is not described: {answer.text}"
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in described["content"], media_type
    schema = described["content"][media_type].get("schema")
    if schema is not None:
        validate(document, schema, answer.json())
    for name in described.get("headers", {}):
        assert described["headers"][name]["schema"] == {"type": "string"}


def validate(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """Validate a value against a schema of the document; members that the schema does not have are refused."""
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(closed(whole)).validate(value)


def closed(schema: Any) -> Any:
    """Return the schema with every object closed that does not say otherwise, so that an unlisted member is found."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        result.setdefault("additionalProperties", False)
    return result


def ids_of(service: Running) -> dict[str, str]:
    """Open a position, and return what stands for the ids of the examples."""
    body = {"market": "SOL-PERP", "side": "long", "size_usd": "100"}
    order = service.client.post("/v1/open", json=body).json()
    return {
        "order_id": order["order_id"],
        "position_id": order["position_id"],
        "name": "drift",
        "code": "no_provider_filled",
        "finding_id": "fnd_1",
    }


def test_every_route_is_published_and_every_operation_exists(client: httpx.Client, document: dict[str, Any]) -> None:
    """Names of operations are unique, and no published address is a 404 of the router's."""
    found = list(operations(document))
    names = [operation["operationId"] for _, _, operation in found]

    assert len(set(names)) == len(names) >= 17
    assert {path for path, _, _ in found} >= {
        "/v1/quote", "/v1/open", "/v1/close", "/v1/orders", "/v1/orders/{order_id}", "/v1/orders/{order_id}/cancel",
        "/v1/positions", "/v1/positions/{position_id}", "/v1/markets", "/v1/providers", "/v1/providers/{name}",
        "/health/live", "/health/ready", "/metrics", "/schema",
    }  # fmt: skip
    for path, method, _ in found:
        answer = client.request(method, path.replace("{", "").replace("}", ""), json={})
        assert answer.status_code != 405
        assert answer.status_code != 404 or answer.json()["code"] != "not_found" or "/problems/" in path


def test_every_example_is_a_request_that_works(service: Running, document: dict[str, Any]) -> None:
    """With the ids of a position that exists; the answer is 2xx and as published."""
    tried = 0
    for path, method, operation in operations(document):
        bodies = [None]
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            assert content["examples"], operation["operationId"]
            bodies = [example["value"] for example in content["examples"].values()]
            for body in bodies:
                validate(document, content["schema"], body)
        for body in bodies:
            service.engine.reset()
            ids = ids_of(service)
            parameters = operation["parameters"]
            place = {parameter["name"]: parameter for parameter in parameters if parameter["in"] == "path"}
            address = path.format(**{name: ids[name] for name in place})
            query = {p["name"]: p["example"] for p in parameters if p["in"] == "query" and "example" in p}
            headers = {p["name"]: p["example"] for p in parameters if p["in"] == "header"}
            if body is not None and "position_id" in body:
                body["position_id"] = ids["position_id"]
            answer = service.client.request(method, address, params=query, headers=headers, json=body)
            assert answer.is_success, (operation["operationId"], answer.text)
            check_answer(document, operation, answer)
            tried += 1
    assert tried >= 20


@pytest.mark.parametrize("status", list(OrderStatus))
def test_an_order_in_every_status_is_as_published(
    service: Running, document: dict[str, Any], status: OrderStatus
) -> None:
    """201, 200, 202, 503: each described, each as described; so is the order read by itself and in a list."""
    service.engine.script = status
    service.engine.failures = (error("no_liquidity", ErrorClass.CAPACITY, raw="NoLiquidity"),)

    answer = service.client.post(
        "/v1/open",
        json={"market": "SOL-PERP", "side": "long", "size": "1", "client_order_id": "a"},
        headers={"Prefer": "wait=0"},
    )

    check_answer(document, document["paths"]["/v1/open"]["post"], answer)
    for path, address in {"/v1/orders/{order_id}": "/v1/orders/ord_1", "/v1/orders": "/v1/orders"}.items():
        check_answer(document, document["paths"][path]["get"], service.client.get(address))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/open", {"market": "SOL-PERP", "side": "long", "size": "0"}),
        ("/v1/open", {"market": "SOL-PERP", "side": "long", "size": 1, "x": 1}),
        ("/v1/open", {"market": "NONE", "side": "long", "size": "1"}),
        ("/v1/open", {"market": "SOL-PERP", "side": "long", "size": "1", "provider": "none"}),
        ("/v1/open", {"market": "SOL-PERP", "side": "long", "size": "1", "stop_loss": "900"}),
        ("/v1/open", {"market": "SOL-PERP", "side": "long", "size": "0.001"}),
        ("/v1/quote", {"market": "SOL-PERP", "side": "long", "size": "1", "leverage": "21"}),
        ("/v1/close", {"position_id": "pos_9"}),
        ("/v1/close", {"provider": "drift", "market": "SOL-PERP"}),
        ("/v1/close", {"market": "SOL-PERP"}),
    ],
)
def test_a_live_problem_is_as_published(
    client: httpx.Client, document: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    """Its status and its code are described for the very operation that answered it."""
    operation = document["paths"][path]["post"]

    answer = client.post(path, json=body)

    check_answer(document, operation, answer)
    examples = operation["responses"][str(answer.status_code)]["content"]["application/problem+json"]["examples"]
    assert answer.json()["code"] in examples


def test_every_problem_has_a_page_and_a_valid_example(client: httpx.Client, document: dict[str, Any]) -> None:
    """`type` leads to a page of the service; every published example is a problem document."""
    for code in CATALOGUE:
        assert client.get(f"/problems/{code}").json()["code"] == code
    for _, _, operation in operations(document):
        for described in operation["responses"].values():
            content = described["content"].get("application/problem+json", {"examples": {}, "schema": {}})
            for code, example in content["examples"].items():
                validate(document, content["schema"], example["value"])
                assert example["value"]["code"] == code


def test_every_refusal_of_the_engine_has_its_place_in_the_catalogue() -> None:
    """A new leaf without a status and a title of its own would answer 422 whatever it means."""
    leaves = [leaf for leaf in vars(requests).values() if isinstance(leaf, type) and issubclass(leaf, requests.Refusal)]

    assert len(leaves) > 10
    assert {leaf.code for leaf in leaves if leaf is not requests.Refusal} <= CATALOGUE.keys()


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    """Every reference leads somewhere, and every schema is one."""
    assert document["openapi"] == "3.1.0"
    names = document["components"]["schemas"]

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} <= names.keys()
    for schema in names.values():
        jsonschema.Draft202012Validator.check_schema(schema)
