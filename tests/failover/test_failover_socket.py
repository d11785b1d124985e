"""Failover as a caller sees it: the real service in a process of its own, asked over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.crash.processes import Stage, stage

Document = dict[str, Any]

OPEN: Document = {"market": "SOL-PERP", "side": "long", "size": "1", "slippage_bps": 200, "ttl_s": 20}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return a cluster and a router with both venues in its chain."""
    with stage(tmp_path_factory.mktemp("socket"), chain="drift,mango") as started:
        yield started


def reasons(document: Document) -> list[tuple[str, str, str | None]]:
    """Return provider, outcome and code of each attempt."""
    return [
        (each["provider"], each["outcome"], each["error"] and each["error"]["code"]) for each in document["attempts"]
    ]


def test_the_next_provider_fills(run: Stage) -> None:
    """With the first venue paused the answer is 201, filled by the second, and tells why the first was passed."""
    run.rpc("localnet_pause", {"what": "exchange"})
    try:
        answer = run.post("/v1/open", OPEN, key="next")
    finally:
        run.rpc("localnet_pause", {"what": "exchange", "paused": False})
    order = answer.json()
    assert answer.status_code == httpx.codes.CREATED
    assert (order["status"], order["provider"], order["fallback_used"]) == ("filled", "mango", True)
    assert reasons(order) == [("drift", "dead", "market_paused"), ("mango", "filled", None)]
    assert order["attempts"][0]["error"]["class"] == "capacity"
    assert order["attempts"][0]["error"]["phase"] == "not_sent"
    closing = run.post("/v1/close", {"position_id": order["position_id"], "slippage_bps": 300}, key="next-closed")
    assert (closing.status_code, closing.json()["provider"]) == (httpx.codes.OK, "mango")


def test_both_down_is_a_503_with_both(run: Stage) -> None:
    """With both venues down the answer is one problem document with both reasons, and the order is on record."""
    run.rpc("localnet_pause", {"what": "exchange"})
    run.rpc("localnet_mango_setIxGate", {"instruction": "perp_place_order"})
    try:
        answer = run.post("/v1/open", OPEN, key="both")
        again = run.post("/v1/open", OPEN, key="both")
    finally:
        run.rpc("localnet_pause", {"what": "exchange", "paused": False})
        run.rpc("localnet_mango_setIxGate", {"instruction": "perp_place_order", "closed": False})
    problem = answer.json()
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert int(answer.headers["retry-after"]) > 0
    assert (problem["status"], problem["code"]) == (503, "no_provider_filled")
    assert reasons(problem) == [("drift", "dead", "market_paused"), ("mango", "dead", "market_paused")]
    order = run.get(f"/v1/orders/{problem['order_id']}")
    assert (order["status"], order["fallback_used"], order["provider"]) == ("failed", False, None)
    assert order["attempts"] == problem["attempts"]
    # The key stands for this order for ever: a later try needs a new one.
    assert (again.status_code, again.json()["order_id"]) == (503, problem["order_id"])
    assert again.headers["idempotency-replayed"] == "true"
    assert run.get("/v1/positions?status=open")["items"] == []


def test_a_close_on_an_empty_book_says_so_and_can_be_asked_again(run: Stage) -> None:
    """Where nobody bids, a close fails at once with `no_liquidity`, the position stays, and a new close fills it."""
    opened = run.post("/v1/open", {**OPEN, "provider": "mango"}, key="empty").json()
    close = {"position_id": opened["position_id"], "slippage_bps": 300}
    run.rpc("localnet_mango_emptyBook", {"market": "SOL-PERP", "side": "bids"})
    try:
        answer = run.post("/v1/close", close, key="nobody")
    finally:
        run.rpc("localnet_mango_maker", {"running": True})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "no_provider_filled")
    assert reasons(problem) == [("mango", "dead", "no_liquidity")]
    assert problem["attempts"][0]["error"]["detail"]
    held: Any = run.get("/v1/positions?status=open")["items"]
    assert [(each["position_id"], each["size"]) for each in held] == [(opened["position_id"], "1")]
    again = run.post("/v1/close", close, key="nobody-again")
    assert (again.status_code, again.json()["status"]) == (200, "filled")
    assert run.get("/v1/positions?status=open")["items"] == []
