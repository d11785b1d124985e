"""Reconciliation over HTTP: filters are checked, a run is a POST, adoption and acknowledgement answer problems."""

from __future__ import annotations

import httpx
import pytest

from tests.api.running import Running


def test_a_run_answers_what_came_of_it(service: Running) -> None:
    """POST compares, GET only tells; amounts are signed decimal strings."""
    assert service.client.get("/v1/reconciliation").json()["findings"]["items"][0]["finding_id"] == "fnd_1"
    assert service.engine.reconciled == 0
    answer = service.client.post("/v1/reconciliation").json()
    assert service.engine.reconciled == 1
    market = answer["providers"][0]["markets"][0]
    assert (market["booked_size"], market["venue_size"], market["status"]) == ("-2", "-1.5", "differs")


@pytest.mark.parametrize("query", ["kind=none", "status=none", "limit=0", "provider=a b", "market=SOL-PERP"])
def test_a_filter_that_is_not_one_is_refused(client: httpx.Client, query: str) -> None:
    """A filter that is ignored would show too much."""
    assert client.get(f"/v1/reconciliation?{query}").status_code == 400


def test_an_adopted_position_says_so(client: httpx.Client) -> None:
    """It was opened by no order; with nothing foreign there the answer is 404."""
    adopted = client.post("/v1/positions/adopt", json={"provider": "drift", "market": "SOLUSDT"}).json()
    assert (adopted["adopted"], adopted["opened_by_order"]) == (True, None)
    nothing = client.post("/v1/positions/adopt", json={"provider": "drift", "market": "BTC-PERP"})
    assert (nothing.status_code, nothing.json()["code"]) == (404, "nothing_foreign")


def test_an_acknowledgement_needs_a_reason_and_a_finding(client: httpx.Client) -> None:
    """Without a reason nobody knows later why opens went on."""
    address = "/v1/reconciliation/findings/fnd_1/acknowledge"
    assert client.post(address, json={"reason": ""}).status_code == 400
    assert client.post(address, json={"reason": "seen"}).json()["status"] == "acknowledged"
    unknown = client.post("/v1/reconciliation/findings/fnd_9/acknowledge", json={"reason": "seen"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "finding_not_found")
