"""Stop loss and take profit over HTTP: asked for with an open, changed later, and told as they are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from router.ledger.records import Leg, LegTerms, OrderStatus, ProtectionTerms
from tests.api.running import Running

BODY: dict[str, Any] = {"market": "SOL-PERP", "side": "long", "size": "2", "stop_loss": "140", "take_profit": "180.50"}


def test_an_open_carries_its_protection_and_tells_of_it(service: Running) -> None:
    """The engine gets the prices; the answer waits for the protection, and shows each leg with its ids."""
    answer = service.client.post("/v1/open", json={**BODY, "take_profit_size": "0.5"})

    assert answer.status_code == 201
    order = answer.json()
    assert service.engine.opened[0].protection == ProtectionTerms(
        stop_loss=LegTerms(price=Decimal(140)), take_profit=LegTerms(price=Decimal("180.5"), size=Decimal("0.5"))
    )
    assert service.engine.waited_protected == [order["order_id"]]
    assert (order["cause"], order["trigger"]) == ("caller", None)
    assert order["protection"]["status"] == "active"
    stop, take = order["protection"]["legs"]
    assert (stop["leg"], stop["kind"], stop["state"], stop["trigger_price"]) == (
        "stop_loss",
        "native",
        "resting",
        "140",
    )
    assert stop["order_id"]
    assert (take["kind"], take["state"], take["size"]) == ("managed", "watching", "0.5")
    position = service.client.get(f"/v1/positions/{order['position_id']}").json()
    assert (position["stop_loss"], position["take_profit"]) == ("140", "180.5")
    assert position["protection"] == order["protection"]


def test_an_open_that_is_not_final_waits_for_no_protection(service: Running) -> None:
    """There is nothing to protect yet, and no answer about it."""
    service.engine.script = OrderStatus.PENDING
    answer = service.client.post("/v1/open", json=BODY, headers={"Prefer": "wait=0"})

    assert answer.status_code == 202
    assert answer.json()["protection"] is None
    assert service.engine.waited_protected == []


def test_an_amount_written_otherwise_is_the_same_request(service: Running) -> None:
    """Zeros at the end of a stop make no other body."""
    first = service.client.post("/v1/open", json=BODY, headers={"Idempotency-Key": "k"}).json()
    again = service.client.post("/v1/open", json={**BODY, "stop_loss": "140.0"}, headers={"Idempotency-Key": "k"})

    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["order_id"] == first["order_id"]


def test_protection_is_set_changed_and_taken_away(service: Running) -> None:
    """What is left out stays, null takes away, the same again is the same."""
    position = service.client.post("/v1/open", json=BODY).json()["position_id"]
    address = f"/v1/positions/{position}"

    for _ in range(2):
        changed = service.client.patch(address, json={"stop_loss": "145", "stop_loss_size": "1"})
        assert changed.status_code == 200
        assert (changed.json()["stop_loss"], changed.json()["take_profit"]) == ("145", "180.5")
    assert service.engine.lots[position].protection.of(Leg.STOP_LOSS) == LegTerms(price=Decimal(145), size=Decimal(1))
    bare = service.client.patch(address, json={"stop_loss": None, "take_profit": None}).json()
    assert (bare["stop_loss"], bare["take_profit"]) == (None, None)
    assert bare["protection"] == {"status": "none", "legs": []}
