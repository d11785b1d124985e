"""The operator's switches over HTTP, what they are seen by, and the limits' answers."""

from __future__ import annotations

from decimal import Decimal

import httpx
import pytest

from providers.base.errors import ErrorClass
from router.engine.limits import LimitBreach, Limits
from router.ledger.protocol import LimitReached
from router.ledger.records import OrderStatus
from tests.api.running import Running
from tests.api.scripted_engine import error

OPEN = {"market": "SOL-PERP", "side": "long", "size": "1"}


def halt(client: httpx.Client, provider: str | None, reason: str = "drill") -> httpx.Response:
    """Switch opens off."""
    return client.post("/v1/admin/halt", json={"provider": provider, "reason": reason})


def test_a_halt_is_seen_everywhere_and_stops_only_opens(service: Running) -> None:
    """409 with scope, reason and since; health, providers and the list tell of it; a close is taken; resume ends it."""
    client = service.client
    position = client.post("/v1/open", json=OPEN).json()["position_id"]

    standing = halt(client, None).json()["items"]
    assert [(each["provider"], each["reason"], each["caller"]) for each in standing] == [(None, "drill", "local")]
    refused = client.post("/v1/open", json=OPEN, headers={"Idempotency-Key": "k"})
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["retryable"]) == (409, "trading_halted", "yes_same_key")
    assert (problem["scope"], problem["reason"], problem["since"]) == ("router", "drill", standing[0]["since"])
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["halted"]) == (200, ["router"])
    halted = [item["halted"] for item in client.get("/v1/providers").json()["items"]]
    assert halted == [standing[0], standing[0]]
    assert client.get("/v1/admin/halts").json()["items"] == standing
    assert client.post("/v1/close", json={"position_id": position}).status_code == 200
    assert client.post("/v1/quote", json=OPEN).status_code == 200

    done = client.post("/v1/admin/resume", json={"provider": None, "reason": "over"})
    assert (done.status_code, done.json()["items"]) == (200, [])
    assert client.post("/v1/open", json=OPEN, headers={"Idempotency-Key": "k"}).status_code == 201
    assert client.get("/health/ready").json()["halted"] == []


def test_one_provider_is_halted_by_itself(service: Running) -> None:
    """The chain goes on without it; the other one is not marked; once all are halted nobody is asked."""
    client = service.client
    halt(client, "drift", "odd prices")
    first, second = client.get("/v1/providers").json()["items"]
    assert (first["halted"]["provider"], first["halted"]["reason"], second["halted"]) == ("drift", "odd prices", None)
    assert client.post("/v1/open", json=OPEN).status_code == 201
    halt(client, "mango")
    assert client.post("/v1/open", json=OPEN).json()["scope"] == "drift"
    assert client.get("/health/ready").json()["halted"] == ["drift", "mango"]


@pytest.mark.parametrize("act", ["halt", "resume"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"reason": "drill"}, 400, "missing_field"),
        ({"provider": None}, 400, "missing_field"),
        ({"provider": None, "reason": ""}, 400, "invalid_field"),
        ({"provider": None, "reason": "x" * 501}, 400, "invalid_field"),
        ({"provider": "drift", "reason": "drill", "until": "noon"}, 400, "unknown_field"),
        ({"provider": "drfit", "reason": "drill"}, 422, "unknown_provider"),
    ],
)
def test_a_switch_takes_nothing_for_granted(
    service: Running, act: str, body: dict[str, object], status: int, code: str
) -> None:
    """The whole router is meant only by saying null; an unknown name is an error, not a halt of nothing."""
    answer = service.client.post(f"/v1/admin/{act}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert service.engine.safeguards.halts() == ()


def test_switching_twice_is_switching_once(service: Running) -> None:
    """A second halt keeps the beginning and takes the reason; a second resume changes nothing."""
    client = service.client
    first = halt(client, None).json()["items"][0]
    second = halt(client, None, "still odd").json()["items"][0]
    assert (second["since"], second["reason"]) == (first["since"], "still odd")
    for _ in range(2):
        answer = client.post("/v1/admin/resume", json={"provider": None, "reason": "over"})
        assert (answer.status_code, answer.json()["items"]) == (200, [])


def test_holds_are_seen_in_health_too(service: Running) -> None:
    """By their kind alone: the page is open to everybody; a held service is ready, since it closes."""
    service.engine.held_kinds = {"fee_payer_short": "the wallet of desk 7 has 0.01 SOL"}
    answer = service.client.get("/health/ready")
    assert (answer.status_code, answer.json()["holds"]) == (200, ["fee_payer_short"])
    assert "desk 7" not in answer.text


@pytest.mark.parametrize(
    ("code", "status"),
    [("trading_halted", 503), ("price_reference_missing", 503), ("live_trading_off", 422), ("signer_refused", 422)],
)
def test_an_order_that_a_passing_rule_ended_may_be_tried_again(service: Running, code: str, status: int) -> None:
    """A halt is lifted and a price comes back; what the router may not sign it will not sign later either."""
    service.engine.script = OrderStatus.FAILED
    service.engine.failures = (error(code, ErrorClass.POLICY),)
    answer = service.client.post("/v1/open", json=OPEN)
    assert (answer.status_code, answer.json()["code"]) == (status, "no_provider_filled")


def test_leverage_above_the_limit_is_refused(service: Running) -> None:
    """422 with the limit, and no order; at the limit it is taken."""
    service.engine.limit(Limits(leverage=Decimal(3)))
    over = service.client.post("/v1/open", json={**OPEN, "leverage": "3.1"})
    assert (over.status_code, over.json()["code"], over.json()["limit"]) == (422, "leverage_above_limit", "3")
    assert over.json()["retryable"] == "no"
    assert service.client.post("/v1/open", json={**OPEN, "leverage": "3"}).status_code == 201


def test_a_reached_limit_is_a_problem_with_its_numbers(service: Running) -> None:
    """422 `limit_exceeded`: which, how much it allows, what is used, what was asked; worth trying with the same key."""
    breach = LimitBreach(limit="day_usd", value=Decimal(1000), used=Decimal("900.50"), asked=Decimal(150))
    service.engine.explode = service.engine.safeguards.exceeded(LimitReached(breach))

    answer = service.client.post("/v1/open", json=OPEN)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (422, "limit_exceeded", "yes_same_key")
    assert (problem["limit"], problem["value"], problem["used"], problem["asked"]) == (
        "day_usd", "1000", "900.5", "150",
    )  # fmt: skip


def test_the_limits_are_listed_with_what_is_used(service: Running) -> None:
    """Amounts as decimal strings; nothing is listed where nothing is limited."""
    assert service.client.get("/v1/limits").json() == {"items": [], "next_cursor": None}
    service.engine.limit(Limits(day_usd=Decimal(1000), positions=4, provider_usd={"drift": Decimal("500.5")}))
    assert service.client.get("/v1/limits").json()["items"] == [
        {"limit": "day_usd", "scope": None, "value": "1000", "used": "0", "left": "1000"},
        {"limit": "positions", "scope": None, "value": "4", "used": "0", "left": "4"},
        {"limit": "provider_usd", "scope": "drift", "value": "500.5", "used": "0", "left": "500.5"},
    ]
