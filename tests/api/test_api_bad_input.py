"""Every bad input is a problem document with a stable code, and nothing of it reaches the engine's record."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from router.api.problems import CATALOGUE
from tests.api.running import Running

GOOD: dict[str, Any] = {"market": "SOL-PERP", "side": "long", "size_usd": "100"}
JSON = {"Content-Type": "application/json"}


def without(name: str) -> dict[str, Any]:
    """Return the good body without one field."""
    return {key: value for key, value in GOOD.items() if key != name}


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check everything that is true of every problem, and return it."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{code}"
    assert problem["title"] == CATALOGUE[code].title
    assert problem["phase"] == "not_sent"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["attempts"] == []
    return problem


@pytest.mark.parametrize("name", ["size_usd", "size", "leverage", "worst_price"])
@pytest.mark.parametrize(
    "value",
    [
        "-1", "+1", "NaN", "nan", "Infinity", "1e400", "1E2", "0x10", "1_000", "1,5", ".5", "1.", "", " 1", "1 ", "1\n",
        "1\u00a0", "١٢", "\uff11", "1" * 30, "1." + "1" * 19, 1, 100.5, 0, True, [], {}, ["1"],
    ],
)  # fmt: skip
def test_an_amount_that_is_no_plain_decimal_string_is_refused(service: Running, name: str, value: object) -> None:
    """Numbers, exponents, signs, other scripts' digits, white space: 400 with a pointer to the field."""
    body = {**without("size_usd"), "size_usd": "100", name: value}
    for path in ("/v1/quote", "/v1/open"):
        problem = assert_problem(service.client.post(path, json=body), 400, "invalid_field")
        assert [error["pointer"] for error in problem["errors"]] == [f"/{name}"]
    assert not service.engine.opened


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"null", "malformed_json"),
        (b"[]", "malformed_json"),
        (b'"x"', "malformed_json"),
        (b"<html>", "malformed_json"),
        (b"\xff\xfe{\x00}\x00", "malformed_json"),
        (b'\xef\xbb\xbf{"market":"SOL"}', "malformed_json"),
        (b'{"market": "SOL", "size": NaN}', "malformed_json"),
        (b'{"market": "SOL", "size": -Infinity}', "malformed_json"),
        (b'{"size": 1' + b"0" * 5000 + b"}", "malformed_json"),
        (b"[" * 30_000, "malformed_json"),
        (b'{"a":' * 10_000, "malformed_json"),
        (b'{"market":"SOL","market":"SOL","side":"long","size":"1"}', "duplicate_field"),
        (b'{"market":"SOL","side":"long","size":"1","size":"2"}', "duplicate_field"),
        (b'{"market":"SOL","side":"long","s\\u0069ze":"1","size":"2"}', "duplicate_field"),
        (b'{"market":{"a":1,"a":2},"side":"long","size":"1"}', "duplicate_field"),
        (b'{"market":"SOL","side":"long","size":"1","stop":"2"}', "unknown_field"),
        (b'{"market":"SOL","side":"long","size":"1","Size":"2"}', "unknown_field"),
        (b'{"side":"long","size":"1"}', "missing_field"),
        (b'{"market":"SOL","size":"1"}', "missing_field"),
        (b'{"market":"SOL","side":"LONG","size":"1"}', "invalid_field"),
        (b'{"market":"SOL","side":"long\\n","size":"1"}', "invalid_field"),
        (b'{"market":"","side":"long","size":"1"}', "invalid_field"),
        (b'{"market":"SOL\\u0000","side":"long","size":"1"}', "invalid_field"),
        (b'{"market":"\\ud800","side":"long","size":"1"}', "invalid_field"),
        (b'{"market":"SOL","side":"long","size":"1","slippage_bps":"50"}', "invalid_field"),
        (b'{"market":"SOL","side":"long","size":"1","slippage_bps":50.5}', "invalid_field"),
        (b'{"market":"SOL","side":"long","size":"1","slippage_bps":true}', "invalid_field"),
        (b'{"market":"SOL","side":"long","size":"1","provider":""}', "invalid_field"),
        (b'{"market":"SOL","side":"long","size":"1","provider":null}', "invalid_field"),
    ],
)
def test_a_body_with_more_than_one_reading_or_none_is_refused(service: Running, body: bytes, code: str) -> None:
    """What is not one JSON object of known fields, each once, is 400."""
    assert_problem(service.client.post("/v1/open", content=body, headers=JSON), 400, code)
    assert not service.engine.opened


def test_every_mistake_is_named_at_once(client: httpx.Client) -> None:
    """A caller need not send a body five times to learn of five mistakes."""
    body = {"side": "up", "size_usd": 1, "leverage": "1e1", "a/b~": 1}

    problem = assert_problem(client.post("/v1/open", json=body), 400, "invalid_field")

    assert {(error["pointer"], error["code"]) for error in problem["errors"]} == {
        ("/side", "invalid_field"),
        ("/size_usd", "invalid_field"),
        ("/leverage", "invalid_field"),
        ("/a~1b~0", "unknown_field"),
        ("/market", "missing_field"),
    }


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"size_usd": "0"}, "invalid_size", "/size_usd"),
        ({"size_usd": "0.000"}, "invalid_size", "/size_usd"),
        ({"size": "1"}, "invalid_size", "/size"),
        ({"size_usd": None}, "invalid_size", "/size"),
        ({"size_usd": None, "size": "0"}, "invalid_size", "/size"),
        ({"leverage": "0"}, "invalid_leverage", "/leverage"),
        ({"leverage": "0.999"}, "invalid_leverage", "/leverage"),
        ({"slippage_bps": -1}, "invalid_slippage", "/slippage_bps"),
        ({"slippage_bps": 10_001}, "invalid_slippage", "/slippage_bps"),
        ({"worst_price": "0"}, "invalid_worst_price", "/worst_price"),
    ],
)
def test_what_is_well_formed_but_impossible_is_422(
    service: Running, changes: dict[str, Any], code: str, pointer: str
) -> None:
    """Zero sizes, both sizes or none, leverage below one, slippage out of range."""
    for path in ("/v1/quote", "/v1/open"):
        problem = assert_problem(service.client.post(path, json={**GOOD, **changes}), 422, code)
        assert pointer in [error["pointer"] for error in problem["errors"]]
    assert not service.engine.opened


@pytest.mark.parametrize("ttl_s", [0, -1, 3601, 10**12])
def test_a_time_to_live_out_of_range_is_422(client: httpx.Client, ttl_s: int) -> None:
    """From 1 second to 1 hour."""
    assert_problem(client.post("/v1/open", json={**GOOD, "ttl_s": ttl_s}), 422, "invalid_ttl")


@pytest.mark.parametrize(
    ("protection", "status", "code"),
    [
        ({"stop_loss": "151"}, 422, "invalid_stop_loss"),
        ({"take_profit": "150"}, 422, "invalid_take_profit"),
        ({"stop_loss": "0"}, 422, "invalid_stop_loss"),
        ({"stop_loss": 140}, 400, "invalid_field"),
        ({"stop_loss": "-1"}, 400, "invalid_field"),
        ({"take_profit": "160", "take_profit_size": "1000"}, 422, "protection_above_position"),
        ({"take_profit": "160", "take_profit_size": "0"}, 422, "invalid_request"),
        ({"stop_loss_size": "1"}, 422, "invalid_request"),
        ({"stop_loss": {"price": "140"}}, 400, "invalid_field"),
    ],
)
def test_protection_that_cannot_work_is_refused_before_anything_is_traded(
    service: Running, protection: dict[str, Any], status: int, code: str
) -> None:
    """On the wrong side of the price, larger than the order, or without a price."""
    body = {"market": "SOL-PERP", "side": "long", "size": "2", **protection}
    assert_problem(service.client.post("/v1/open", json=body), status, code)
    assert not service.engine.opened


def test_protection_that_is_null_is_no_protection(client: httpx.Client) -> None:
    """Clients that send every field may send nulls."""
    answer = client.post("/v1/open", json={**GOOD, "stop_loss": None, "take_profit": None, "worst_price": None})

    assert answer.status_code == 201


def test_protection_of_a_position_is_refused_clearly(client: httpx.Client) -> None:
    """A wrong price, too much, nothing at all, an unknown field, no such position, a closed one."""
    address = f"/v1/positions/{client.post('/v1/open', json=GOOD).json()['position_id']}"

    assert_problem(client.patch(address, json={"stop_loss": "999"}), 422, "invalid_stop_loss")
    too_much = {"take_profit": "999", "take_profit_size": "1000000"}
    assert_problem(client.patch(address, json=too_much), 422, "protection_above_position")
    assert_problem(client.patch(address, json={}), 422, "invalid_request")
    assert_problem(client.patch(address, json={"stop_loss_size": "1"}), 422, "invalid_request")
    assert_problem(client.patch(address, json={"stoploss": "1"}), 400, "unknown_field")
    assert_problem(client.patch(address, json={"stop_loss": 1.5}), 400, "invalid_field")
    assert_problem(client.patch("/v1/positions/pos_9", json={"stop_loss": "1"}), 404, "position_not_found")
    client.post("/v1/close", json={"position_id": address.rpartition("/")[2]})
    assert_problem(client.patch(address, json={"stop_loss": "1"}), 409, "position_closed")


def test_an_unknown_market_is_404_with_the_nearest_names(client: httpx.Client) -> None:
    """A slip of the finger is answered with what was probably meant."""
    problem = assert_problem(client.post("/v1/open", json={**GOOD, "market": "SLO-USD"}), 404, "unknown_market")

    assert problem["nearest"][0] == "SOL-PERP"


def test_an_unknown_provider_is_422_with_the_chain(client: httpx.Client) -> None:
    """The caller learns which there are."""
    problem = assert_problem(client.post("/v1/open", json={**GOOD, "provider": "binance"}), 422, "unknown_provider")

    assert problem["providers"] == ["drift", "mango"]


def test_below_every_minimum_lists_the_minimums(client: httpx.Client) -> None:
    """Amounts in problems are plain decimal strings too."""
    problem = assert_problem(client.post("/v1/open", json={**GOOD, "size_usd": "0.5"}), 422, "below_minimum")

    assert problem["minimums"] == [{"provider": "drift", "size": "0.01", "size_usd": "1.5025"}]


def test_leverage_that_nobody_gives_is_422(client: httpx.Client) -> None:
    """The caller learns what each provider gives."""
    problem = assert_problem(client.post("/v1/quote", json={**GOOD, "leverage": "1000"}), 422, "leverage_too_high")

    assert problem["max_leverage"] == {"drift": "20"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_target"),
        ({"market": "SOL"}, "invalid_target"),
        ({"provider": "drift"}, "invalid_target"),
        ({"provider": "auto", "market": "SOL"}, "invalid_target"),
        ({"position_id": "pos_1", "market": "SOL"}, "invalid_target"),
        ({"position_id": "pos_1", "side": "long"}, "invalid_target"),
        ({"position_id": "pos_1", "size": "1", "fraction": "0.5"}, "invalid_fraction"),
        ({"position_id": "pos_1", "fraction": "0"}, "invalid_fraction"),
        ({"position_id": "pos_1", "fraction": "1.01"}, "invalid_fraction"),
        ({"position_id": "pos_1", "size": "0"}, "invalid_size"),
        ({"position_id": "pos_1", "slippage_bps": 10_001}, "invalid_slippage"),
        ({"position_id": "pos_1", "worst_price": "0"}, "invalid_worst_price"),
        ({"provider": "drift", "market": "SOL"}, "nothing_to_close"),
    ],
)
def test_a_close_that_is_impossible_is_422(service: Running, body: dict[str, Any], code: str) -> None:
    """It must be clear what is to be closed, and how much of it."""
    assert_problem(service.client.post("/v1/close", json=body), 422, code)
    assert not service.engine.closed


def test_what_is_not_there_is_404(client: httpx.Client) -> None:
    """Orders, positions, providers, addresses."""
    for path, code in {
        "/v1/orders/ord_9": "order_not_found",
        "/v1/positions/pos_9": "position_not_found",
        "/v1/providers/binance": "provider_not_found",
        "/": "not_found",
        "/problems/nothing": "not_found",
    }.items():
        assert_problem(client.get(path), 404, code)
    assert_problem(client.post("/v1/orders/ord_9/cancel"), 404, "order_not_found")
    assert_problem(client.post("/v1/close", json={"position_id": "pos_9"}), 404, "position_not_found")


def test_a_wrong_method_is_405_and_says_which_are_right(client: httpx.Client) -> None:
    """With `Allow`."""
    answer = client.get("/v1/open")

    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_that_a_web_page_can_send_unasked_is_refused(service: Running, content_type: str | None) -> None:
    """A page open in a browser on this machine must not be able to trade."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = b'{"market":"SOL","side":"long","size":"1"}'

    assert_problem(service.client.post("/v1/open", content=body, headers=headers), 415, "unsupported_media_type")
    assert not service.engine.opened


def test_a_name_that_points_here_is_refused_without_keys(service: Running) -> None:
    """DNS rebinding: a page's own host name resolves to this machine."""
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert_problem(service.client.post("/v1/open", json=GOOD, headers={"Host": host}), 421, "host_not_allowed")
    for host in ("localhost", f"localhost:{service.port}", "127.0.0.1:1", "[::1]:8080"):
        assert service.client.get("/v1/orders", headers={"Host": host}).status_code == 200


def test_a_body_that_is_too_large_is_413(client: httpx.Client) -> None:
    """Nothing that this API takes is larger than 64 KiB."""
    assert_problem(client.post("/v1/open", content=b" " * 70_000, headers=JSON), 413, "body_too_large")


@pytest.mark.parametrize("key", ["", "k" * 256, "schl\u00fcssel".encode("latin-1"), b"tab\tkey"])
def test_an_idempotency_key_that_cannot_be_one_is_400(service: Running, key: str | bytes) -> None:
    """A key that would be cut or changed on its way protects nobody."""
    headers = [(b"Idempotency-Key", key if isinstance(key, bytes) else key.encode())]

    assert_problem(service.client.post("/v1/open", json=GOOD, headers=headers), 400, "invalid_idempotency_key")
    assert not service.engine.opened


def test_two_idempotency_keys_are_400(service: Running) -> None:
    """Which one counts cannot be known."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    assert_problem(service.client.post("/v1/open", json=GOOD, headers=headers), 400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("makret=SOL", "unknown_parameter"),
        ("limit=0", "invalid_parameter"),
        ("limit=501", "invalid_parameter"),
        ("limit=ten", "invalid_parameter"),
        ("limit=1&limit=2", "invalid_parameter"),
        ("status=done", "invalid_parameter"),
        ("market=", "invalid_parameter"),
        ("market=%00", "invalid_parameter"),
        ("cursor=%F0%9F%98%80", "invalid_parameter"),
        ("limit", "invalid_parameter"),
        ("%ff=1", "invalid_parameter"),
    ],
)
def test_a_query_that_is_not_understood_is_400(client: httpx.Client, query: str, code: str) -> None:
    """A filter with a typing error must not show everything."""
    for path in ("/v1/orders", "/v1/positions"):
        assert_problem(client.get(f"{path}?{query}"), 400, code)


def test_a_fault_of_the_router_tells_no_secret_and_no_retry(service: Running) -> None:
    """The text of an exception may hold anything; an order may have been recorded before it."""
    service.engine.explode = RuntimeError("keypair [1,2,3] at /etc/secret")

    answer = service.client.post("/v1/open", json=GOOD)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert (answer.json()["code"], answer.json()["phase"]) == ("internal_error", "maybe_sent")
    assert answer.json()["retryable"] == "unknown"
    keyed = service.client.post("/v1/open", json=GOOD, headers={"Idempotency-Key": "k"})
    assert keyed.json()["retryable"] == "yes_same_key"
