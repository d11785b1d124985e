"""Orders over HTTP: statuses, keys, waiting, and what an answer says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from providers.base.errors import ErrorClass, Phase
from router.engine.blocked import Block
from router.engine.requests import Candidate
from router.ledger.records import OrderStatus
from tests.api.running import Running
from tests.api.scripted_engine import NOW, error
from tests.api.scripted_venues import CHAIN

BODY: dict[str, Any] = {"market": "SOLUSDT", "side": "long", "size_usd": "100", "leverage": "2"}


def open_order(service: Running, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    """Open, with headers written as `Idempotency_Key="..."`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post("/v1/open", json=BODY if body is None else body, headers=named)


def test_an_open_that_fills_is_201_with_its_fill(service: Running) -> None:
    """Price weighted over all fills, fees summed, the latest transaction; what was asked beside what was accepted."""
    answer = open_order(service)

    assert answer.status_code == 201
    order = answer.json()
    assert answer.headers["location"] == f"/v1/orders/{order['order_id']}"
    assert "idempotency-replayed" not in answer.headers
    assert order["status"] == "filled"
    assert order["provider"] == "drift"
    assert order["fallback_used"] is False
    assert order["requested"] == {
        "market": "SOLUSDT", "side": "long", "size_usd": "100", "leverage": "2", "provider": "auto",
        "slippage_bps": 50, "ttl_s": 60,
    }  # fmt: skip
    assert (order["market"], order["size"], order["size_usd"]) == ("SOL-PERP", "0.66", "99.165")
    assert order["fill"] == {
        "price": "150.25", "size": "0.66", "size_usd": "99.165", "fee_usd": "0.1", "signature": "5" * 88,
        "slot": 1001, "filled_at": "2026-01-01T12:00:00.400000Z",
        "explorer_url": f"https://explorer.example/tx/{'5' * 88}",
    }  # fmt: skip
    assert order["attempts"][0]["outcome"] == "filled"
    assert order["attempts"][0]["elapsed_ms"] == 412
    assert order["may_fill_until"] is None


def test_amounts_are_plain_whatever_the_engine_computed(service: Running) -> None:
    """No exponents, no zeros at the end, no negative zero."""
    quote = service.client.post("/v1/quote", json=BODY).json()

    assert quote["carry_rate_1h"] == "-0.0000001"
    assert quote["capacity_usd"] == "1000000"
    open_order(service)
    assert service.client.get("/v1/positions").json()["items"][0]["unrealized_pnl_usd"] == "0"


def test_a_close_that_fills_is_200(service: Running) -> None:
    """A part by fraction, then the rest by market."""
    position = open_order(service).json()["position_id"]

    half = service.client.post("/v1/close", json={"position_id": position, "fraction": "0.5"})
    rest = service.client.post("/v1/close", json={"provider": "drift", "market": "sol"})

    assert (half.status_code, rest.status_code) == (200, 200)
    assert half.json()["kind"] == "close"
    assert half.json()["position_id"] == position
    assert service.client.get(f"/v1/positions/{position}").json()["status"] == "closed"


@pytest.mark.parametrize("status", [OrderStatus.PENDING, OrderStatus.UNKNOWN])
def test_an_order_that_has_not_ended_is_202_and_never_an_error(service: Running, status: OrderStatus) -> None:
    """An error would invite a second order; 202 says where to look and when."""
    service.engine.script = status

    answer = open_order(service, Prefer="respond-async")

    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["preference-applied"] == "respond-async"
    order = service.client.get(answer.headers["location"]).json()
    assert order["status"] == status
    assert order["provider"] is None
    assert order["attempts"][0]["outcome"] == "unknown"
    assert order["may_fill_until"] == "2026-01-01T12:01:01Z"


def test_a_wait_ends_when_the_order_does(service: Running) -> None:
    """The answer comes with the end of the order, not with the end of the wait."""
    service.engine.script = OrderStatus.PENDING
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(open_order(service, Prefer="wait=9")))
    caller.start()
    _until(lambda: bool(service.engine.views))

    service.run(service.engine.finish("ord_1", OrderStatus.FILLED))
    caller.join(5)

    assert answers[0].status_code == 201
    assert answers[0].headers["preference-applied"] == "wait=9"


def test_a_wait_that_is_over_answers_202(service: Running) -> None:
    """What cannot be read in `Prefer` is ignored, as its standard wants; `wait` goes before `respond-async`."""
    service.engine.script = OrderStatus.UNKNOWN
    before = time.monotonic()

    answer = open_order(service, Prefer="respond-async, handling=lenient; x=1, wait=1, wait=50")

    assert answer.status_code == 202
    assert 0.9 < time.monotonic() - before < 5


def test_a_service_that_stops_answers_those_who_wait() -> None:
    """A stop must not cost the callers their answers: 202, and the order is in the ledger."""
    own = Running()
    with own.running() as client:
        own.engine.script = OrderStatus.PENDING
        answers: list[httpx.Response] = []
        headers = {"Prefer": "wait=30"}
        caller = threading.Thread(target=lambda: answers.append(client.post("/v1/open", json=BODY, headers=headers)))
        caller.start()
        _until(lambda: bool(own.engine.views))

        async def stop() -> None:
            own.lifecycle.stop_waiting()

        own.run(stop())
        caller.join(5)

        assert answers[0].status_code == 202


@pytest.mark.parametrize(
    ("errors", "status", "phase", "retryable"),
    [
        ([("open_interest_cap", ErrorClass.CAPACITY, Phase.NOT_SENT)], 503, "not_sent", "yes_new_key"),
        ([("not_landed", ErrorClass.CONNECTION, Phase.MAYBE_SENT)], 503, "maybe_sent", "yes_new_key"),
        ([("worst_price_not_met", ErrorClass.PRICE, Phase.ANSWERED)], 503, "answered", "yes_new_key"),
        ([("insufficient_collateral", ErrorClass.COLLATERAL, Phase.NOT_SENT)], 503, "not_sent", "yes_new_key"),
        ([("fee_payer_short", ErrorClass.VENUE_ACCOUNT, Phase.NOT_SENT)], 503, "not_sent", "yes_new_key"),
        ([("unknown_code", ErrorClass.UNCLASSIFIED, Phase.ANSWERED)], 503, "answered", "yes_new_key"),
        ([("retired", ErrorClass.CAPACITY, Phase.NOT_SENT)], 422, "not_sent", "no"),
        ([("request_rejected", ErrorClass.OUR_BUG, Phase.ANSWERED)], 422, "answered", "no"),
        ([("signer_refused", ErrorClass.POLICY, Phase.NOT_SENT)], 422, "not_sent", "no"),
        (
            [
                ("retired", ErrorClass.CAPACITY, Phase.NOT_SENT),
                ("not_landed", ErrorClass.CONNECTION, Phase.MAYBE_SENT),
            ],
            503,
            "maybe_sent",
            "yes_new_key",
        ),
        ([], 503, "not_sent", "yes_new_key"),
    ],
)
def test_an_order_that_nobody_filled_is_503_or_422_with_its_attempts(
    service: Running, errors: list[tuple[str, ErrorClass, Phase]], status: int, phase: str, retryable: str
) -> None:
    """503 when a later try can help, else 422; with each provider's reason, and the order's address."""
    service.engine.script = OrderStatus.FAILED
    service.engine.failures = tuple(error(code, kind, where, "VenueName") for code, kind, where in errors)

    answer = open_order(service)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, "no_provider_filled")
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status == 503)
    assert (problem["phase"], problem["retryable"]) == (phase, retryable)
    assert problem["instance"] == answer.headers["location"] == f"/v1/orders/{problem['order_id']}"
    assert [attempt["provider"] for attempt in problem["attempts"]] == list(CHAIN[: len(errors)])
    for attempt, (code, kind, where) in zip(problem["attempts"], errors, strict=True):
        assert attempt["outcome"] == "dead"
        assert attempt["error"] == {
            "code": code, "class": kind, "name": "VenueName", "detail": f"{code} happened", "phase": where,
        }  # fmt: skip
    order = service.client.get(problem["instance"])
    assert (order.status_code, order.json()["status"]) == (200, "failed")


def test_a_fallback_is_told(service: Running) -> None:
    """`fallback_used` is true when another than the first provider of the chain filled."""
    open_order(service)
    view = service.engine.views["ord_1"]
    service.engine.views["ord_1"] = replace(view, order=replace(view.order, filled_by="mango"))

    assert service.client.get("/v1/orders/ord_1").json()["fallback_used"] is True


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "again",
    [
        BODY,
        {**BODY, "provider": "auto", "slippage_bps": 50, "ttl_s": 60, "worst_price": None},
        {**BODY, "size_usd": "0100.000", "leverage": "2.0"},
        {**BODY, "market": "SOL-PERP"},
        dict(reversed(BODY.items())),
    ],
)
def test_the_same_key_and_body_answer_the_same_order(service: Running, again: dict[str, Any]) -> None:
    """The same means equal after parsing: order, defaults, zeros and ways to write the market do not matter."""
    first = open_order(service, Idempotency_Key="k1")
    second = open_order(service, again, Idempotency_Key="k1")

    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(service.engine.opened) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"size_usd": "100.000000000000000001"},
        {"side": "short"},
        {"leverage": "3"},
        {"slippage_bps": 51},
        {"ttl_s": 61},
        {"client_order_id": "x"},
        {"market": "BTC"},
        {"size_usd": None, "size": "100"},
    ],
)
def test_the_same_key_with_another_body_is_422(service: Running, change: dict[str, Any]) -> None:
    """A key stands for one body for ever."""
    open_order(service, Idempotency_Key="k1")

    answer = open_order(service, {**BODY, **change}, Idempotency_Key="k1")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(service.engine.opened) == 1


def test_a_key_is_not_shared_between_open_and_close(service: Running) -> None:
    """The address is part of what a key stands for."""
    position = open_order(service, Idempotency_Key="k1").json()["position_id"]

    answer = service.client.post("/v1/close", json={"position_id": position}, headers={"Idempotency-Key": "k1"})

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert not service.engine.closed


def test_a_client_order_id_is_the_key_when_no_key_is_sent(service: Running) -> None:
    """Sent twice, it is one order."""
    body = {**BODY, "client_order_id": "desk-1"}
    first = open_order(service, body)
    second = open_order(service, body)

    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["order_id"] == second.json()["order_id"]
    assert first.json()["client_order_id"] == "desk-1"
    assert [order.key for order in service.engine.opened] == ["desk-1"]


def test_without_a_key_every_post_is_a_new_order(service: Running) -> None:
    """Nobody asked for them to be the same."""
    assert open_order(service).json()["order_id"] != open_order(service).json()["order_id"]
    assert [order.key for order in service.engine.opened] == [None, None]


def test_a_replay_answers_the_order_as_it_is_now(service: Running) -> None:
    """Pending first, failed later: 202, then the 503 that belongs to it, both marked as replays."""
    service.engine.script = OrderStatus.PENDING
    open_order(service, Idempotency_Key="k1", Prefer="respond-async")
    pending = open_order(service, Idempotency_Key="k1", Prefer="respond-async")
    service.engine.failures = (error("not_landed", ErrorClass.CONNECTION, Phase.MAYBE_SENT),)
    service.run(service.engine.finish("ord_1", OrderStatus.FAILED))
    failed = open_order(service, Idempotency_Key="k1")

    assert (pending.status_code, pending.headers["idempotency-replayed"]) == (202, "true")
    assert (failed.status_code, failed.headers["idempotency-replayed"]) == (503, "true")
    assert failed.json()["code"] == "no_provider_filled"


# --- cancel, holds, quotes -------------------------------------------------------------------------------------------


def test_a_cancel_answers_the_order_and_so_does_the_open(service: Running) -> None:
    """Cancelled is an end like any other: 200, and nothing was traded."""
    service.engine.script = OrderStatus.PENDING
    open_order(service, Idempotency_Key="k1", Prefer="wait=0")

    answer = service.client.post("/v1/orders/ord_1/cancel")
    again = service.client.post("/v1/orders/ord_1/cancel", json={})
    replay = open_order(service, Idempotency_Key="k1")

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert (replay.status_code, replay.json()["status"]) == (200, "cancelled")
    wrong = service.client.post("/v1/orders/ord_1/cancel", json={"all": True})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "unknown_field")


@pytest.mark.parametrize(("reason", "status"), [("draining", 503), ("sol_reserve", 503), ("live_trading_off", 422)])
def test_held_opens_say_why(service: Running, reason: str, status: int) -> None:
    """503 with `Retry-After` when it passes, 422 when only the operator can change it; closes still work."""
    position = open_order(service).json()["position_id"]
    service.engine.held = reason

    answer = open_order(service)

    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (status, "opens_held", reason)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert service.client.post("/v1/close", json={"position_id": position}).status_code == 200


@pytest.mark.parametrize(("code", "status"), [("oracle_stale", 503), ("unsupported_program", 422)])
def test_a_quote_that_nobody_gives_tells_why(service: Running, code: str, status: int) -> None:
    """With every candidate's error."""
    kind = ErrorClass.CONNECTION if code == "oracle_stale" else ErrorClass.CAPACITY
    service.engine.candidates = (Candidate(provider="drift", error=error(code, kind)),)

    answer = service.client.post("/v1/quote", json=BODY)

    assert (answer.status_code, answer.json()["code"]) == (status, "no_quote")
    assert answer.json()["candidates"][0]["error"]["code"] == code
    assert answer.json()["candidates"][0]["error"]["class"] == kind


def test_a_blocked_close_is_202_and_says_what_to_do(service: Running) -> None:
    """Not a failure: the order stands, with its cause, advice and the next try; a cancel takes it all away."""
    position = open_order(service).json()["position_id"]
    service.engine.script = OrderStatus.PENDING
    cause = error("being_liquidated", ErrorClass.VENUE_ACCOUNT)
    service.engine.block = Block(cause=cause, since=NOW, next_try_at=NOW + timedelta(seconds=8))

    answer = service.client.post("/v1/close", json={"position_id": position}, headers={"Prefer": "respond-async"})

    assert answer.status_code == 202
    blocked = answer.json()["blocked"]
    assert (blocked["code"], blocked["cause"]) == ("close_blocked", "being_liquidated")
    assert (blocked["detail"], blocked["next_try_at"]) == ("being_liquidated happened", "2026-01-01T12:00:08Z")
    assert "collateral" in blocked["advice"]
    assert service.client.get(answer.headers["location"]).json()["blocked"] == blocked


# --- lists and service pages -----------------------------------------------------------------------------------------


def test_lists_come_in_pages(service: Running) -> None:
    """`next_cursor` leads through everything once, and is null at the end."""
    for _ in range(5):
        open_order(service)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = service.client.get("/v1/orders", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [order["order_id"] for order in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == ["ord_5", "ord_4", "ord_3", "ord_2", "ord_1"]
    filtered = service.client.get("/v1/positions?market=sol/usdc&status=open&provider=drift&limit=3").json()
    assert len(filtered["items"]) == 3
    assert service.client.get("/v1/orders?market=BTC").json() == {"items": [], "next_cursor": None}


def test_readiness_names_the_failing_parts(service: Running) -> None:
    """503 with each part and its reason; the process itself lives."""
    assert service.client.get("/health/ready").json()["status"] == "ready"
    service.engine.failing = {"ledger": "disk full"}

    answer = service.client.get("/health/ready")

    assert (answer.status_code, answer.json()["failing"]) == (503, {"ledger": "disk full"})
    assert service.client.get("/health/live").json() == {"status": "live"}


def test_nothing_is_placed_before_recovery() -> None:
    """Until every open attempt has been asked about, orders are refused and probes say so."""
    own = Running()
    with own.running() as client:
        own.lifecycle.started = False

        answers = [
            client.post("/v1/open", json=BODY),
            client.post("/v1/close", json={"position_id": "pos_1"}),
            client.get("/health/ready"),
        ]

        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "not_ready")] * 3
        assert "start" in answers[0].json()["failing"]
        assert not own.engine.opened


def test_metrics_count_by_route_and_never_by_id(service: Running) -> None:
    """Labels come from closed sets: a scanner cannot make series."""
    service.client.get("/v1/orders/ord_77")
    service.client.get("/wp-login.php")
    service.client.request("BREW", "/v1/orders/ord_77")

    text = service.client.get("/metrics").text

    assert 'router_http_requests_total{method="GET",route="/v1/orders/{order_id}",status="404"}' in text
    assert "ord_77" not in text
    assert "wp-login" not in text
    assert "BREW" not in text
    assert 'router_build_info{network="localnet",version="test"} 1.0' in text


def test_a_request_id_is_kept_or_made(client: httpx.Client) -> None:
    """A usable id comes back; one that could forge a log line is replaced."""
    assert client.get("/health/live", headers={"X-Request-Id": "desk-1/a"}).headers["x-request-id"] == "desk-1/a"
    for unusable in ("", "a b", "x" * 129, '"}\t{'):
        assert client.get("/health/live", headers={"X-Request-Id": unusable}).headers["x-request-id"][:4] == "req_"


# --- a caller who hangs up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placing_takes_s", [0.0, 0.3])
def test_a_caller_who_hangs_up_cancels_nothing(service: Running, placing_takes_s: float) -> None:
    """Cut while the order is written down, or while it is tried: it is recorded, and its key answers it later."""
    service.engine.script = OrderStatus.PENDING
    service.engine.placing_takes_s = placing_takes_s
    body = json.dumps(BODY).encode()
    head = (
        f"POST /v1/open HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: gone\r\nPrefer: wait=30\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.1)

    _until(lambda: bool(service.engine.views))
    service.run(service.engine.finish("ord_1", OrderStatus.FILLED))

    answer = open_order(service, Idempotency_Key="gone")
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")
    assert len(service.engine.opened) == 1


def test_a_caller_who_hangs_up_before_the_end_of_the_body_orders_nothing(service: Running) -> None:
    """Half a body is no order."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            b"POST /v1/open HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"market":"SOL","side":"long","size":"1"}'
        )
        time.sleep(0.1)

    assert service.client.get("/v1/orders").json()["items"] == []
    assert not service.engine.opened


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
