"""What a key may do, how often, and a key file that changes while the service runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.base.clock import VirtualClock
from router.api.auth import ApiKeys, KeyRing
from router.api.operations import SCOPES
from router.api.rates import RateLimiter, Rates
from router.localnet.virtual_time import run_virtual
from router.settings import SettingsError
from tests.api.running import Running

BODY = {"market": "SOL-PERP", "side": "long", "size": "1"}


def line(name: str, *, key: str | None = None, scopes: str | None = None) -> str:
    """Return a caller's line of a key file; the key is the name, where none is given."""
    digest = hashlib.sha256((key or name).encode()).hexdigest()
    return f"{name}:{digest}" + ("" if scopes is None else f":{scopes}") + "\n"


def bearer(key: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def serving(*lines: str, rates: Rates | None = None) -> Iterator[Running]:
    """Serve with these keys."""
    running = Running(ApiKeys.parse("".join(lines)), rates)
    with running.running():
        yield running


ACTS: tuple[tuple[str, str, dict[str, Any] | None, str], ...] = (
    ("POST", "/v1/quote", BODY, "read"),
    ("GET", "/v1/orders", None, "read"),
    ("GET", "/v1/positions", None, "read"),
    ("GET", "/v1/providers", None, "read"),
    ("GET", "/v1/reconciliation", None, "read"),
    ("GET", "/v1/limits", None, "read"),
    ("GET", "/v1/admin/halts", None, "read"),
    ("POST", "/v1/open", BODY, "trade"),
    ("POST", "/v1/close", {"position_id": "pos_1"}, "trade"),
    ("POST", "/v1/orders/ord_1/cancel", {}, "trade"),
    ("PATCH", "/v1/positions/pos_1", {"stop_loss": "1"}, "trade"),
    ("POST", "/v1/reconciliation", {}, "admin"),
    ("POST", "/v1/reconciliation/findings/fnd_1/acknowledge", {"reason": "seen"}, "admin"),
    ("POST", "/v1/positions/adopt", {"provider": "drift", "market": "SOL-PERP"}, "admin"),
    ("POST", "/v1/admin/halt", {"provider": None, "reason": "drill"}, "admin"),
    ("POST", "/v1/admin/resume", {"provider": None, "reason": "over"}, "admin"),
)


def test_a_key_may_what_its_scopes_say() -> None:
    """Trading and switching are apart, both include looking, and a line without scopes trades and cannot switch."""
    may = {
        "plain": {"read", "trade"},
        "reader": {"read"},
        "trader": {"read", "trade"},
        "operator": {"read", "admin"},
        "chief": {"read", "trade", "admin"},
    }
    lines = (
        line("plain"),
        line("reader", scopes="read"),
        line("trader", scopes="trade"),
        line("operator", scopes=" admin "),
        line("chief", scopes="admin, trade"),
    )
    with serving(*lines) as service:
        for name, scopes in may.items():
            for method, path, body, scope in ACTS:
                answer = service.client.request(method, path, json=body, headers=bearer(name))
                refused = answer.status_code == httpx.codes.FORBIDDEN
                assert refused == (scope not in scopes), (name, method, path, answer.text)
                if refused:
                    assert (answer.json()["code"], answer.json()["scope"]) == ("scope_missing", scope)
                    assert name not in answer.text
        assert {order.caller for order in service.engine.opened} == {"plain", "trader", "chief"}


def test_every_operation_publishes_the_scope_that_it_asks_for(client: httpx.Client) -> None:
    """The document and the guard say the same; what moves money or switches is never open to a reader."""
    paths = client.get("/schema").json()["paths"]
    asked = {(method, path): scope for method, path, _, scope in ACTS}
    for path, operations in paths.items():
        for method, operation in operations.items():
            if not operation["security"]:
                continue
            (scope,) = operation["security"][1]["key"]
            assert scope in SCOPES
            known = asked.get((method.upper(), path), scope)
            assert scope == known, path
            assert method == "get" or scope != "read" or path == "/v1/quote"
            assert ("429" in operation["responses"]) == (scope == "read" or path == "/v1/open")


def test_without_keys_this_machine_may_do_everything(client: httpx.Client) -> None:
    """The operator's switches too; and nobody counts."""
    halted = client.post("/v1/admin/halt", json={"provider": None, "reason": "drill"})
    assert halted.status_code == httpx.codes.OK
    assert halted.json()["items"][0]["caller"] == "local"


# --- how often -------------------------------------------------------------------------------------------------------


def test_a_bucket_empties_and_fills() -> None:
    """Two a second with two seconds' worth at once; callers and sorts apart; a refusal takes nothing."""

    async def main() -> None:
        clock = VirtualClock()
        limiter = RateLimiter(Rates(opens_per_s=2, reads_per_s=1, burst_s=2), clock)
        assert [limiter.wait_s("desk", "opens") for _ in range(6)] == [0, 0, 0, 0, 1, 1]
        assert limiter.wait_s("bot", "opens") == 0
        assert [limiter.wait_s("desk", "reads") for _ in range(3)] == [0, 0, 1]
        await clock.sleep(0.5)
        assert [limiter.wait_s("desk", "opens") for _ in range(2)] == [0, 1]
        await clock.sleep(3600)
        assert [limiter.wait_s("desk", "opens") for _ in range(5)] == [0, 0, 0, 0, 1], "never more than a burst"

    run_virtual(main())


def test_a_rate_of_nothing_is_no_limit() -> None:
    """Zero switches it off; it never shuts everybody out."""

    async def main() -> None:
        limiter = RateLimiter(Rates(opens_per_s=0, reads_per_s=0, burst_s=0), VirtualClock())
        assert {limiter.wait_s("desk", "opens") for _ in range(10_000)} == {0}

    run_virtual(main())


def test_a_caller_who_asks_too_often_is_told_when_to_come_back() -> None:
    """429 with `Retry-After`, before anything of the request is looked at; another caller is served."""
    rates = Rates(opens_per_s=1, reads_per_s=1, burst_s=3)
    with serving(line("desk"), line("bot"), rates=rates) as service:
        answers = [service.client.post("/v1/open", json=BODY, headers=bearer("desk")) for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == httpx.codes.TOO_MANY_REQUESTS]
        assert 3 <= len(service.engine.opened) < 12
        assert len(refused) == 12 - len(service.engine.opened)
        assert {(each.json()["code"], each.headers["retry-after"]) for each in refused} == {("rate_limited", "1")}
        assert refused[0].json()["retryable"] == "yes_same_key"
        assert service.client.post("/v1/open", json=BODY, headers=bearer("bot")).is_success


def test_all_addresses_share_a_callers_bucket() -> None:
    """Who asks for orders, positions and quotes in turn asks as often as who asks for one of them."""
    with serving(line("desk"), rates=Rates(opens_per_s=1, reads_per_s=1, burst_s=5)) as service:
        statuses = [
            service.client.get(path, headers=bearer("desk")).status_code
            for _ in range(5)
            for path in ("/v1/orders", "/v1/positions", "/v1/providers", "/v1/markets", "/v1/limits")
        ]
        assert statuses.count(httpx.codes.OK) < 10


def test_what_ends_a_risk_is_never_refused_for_coming_too_often() -> None:
    """With opens and reads used up: closes, cancels, protection and switches are all still taken."""
    rates = Rates(opens_per_s=1, reads_per_s=1, burst_s=1)
    with serving(line("desk", scopes="trade,admin"), rates=rates) as service:
        client, key = service.client, bearer("desk")
        for _ in range(5):
            last = (
                client.post("/v1/open", json=BODY, headers=key),
                client.get("/v1/orders", headers=key),
                client.post("/v1/quote", json=BODY, headers=key),
            )
        assert httpx.codes.TOO_MANY_REQUESTS in {answer.status_code for answer in last}
        for method, path, body, scope in ACTS:
            if scope == "read" or path == "/v1/open":
                continue
            for _ in range(20):
                answer = client.request(method, path, json=body, headers=key)
                assert answer.status_code != httpx.codes.TOO_MANY_REQUESTS, path


# --- rotation --------------------------------------------------------------------------------------------------------


def write(path: Path, text: str, at: int) -> None:
    """Write a file, with a time of change of its own."""
    path.write_text(text)
    os.utime(path, ns=(at, at))


def test_a_new_key_file_is_used_without_a_restart(tmp_path: Path) -> None:
    """Within a second; old and new key of a caller may overlap, and a key that is gone is gone."""

    async def main() -> None:
        path, clock = tmp_path / "keys", VirtualClock()
        write(path, line("desk", key="old"), 1)
        ring = KeyRing(path, clock)
        write(path, line("desk", key="old") + line("desk", key="new"), 2)
        await clock.sleep(1)
        for key in ("old", "new"):
            caller = ring.caller(f"Bearer {key}")
            assert caller is not None
            assert caller.name == "desk"
        write(path, line("desk", key="new"), 3)
        assert ring.caller("Bearer old") is not None, "looked at a moment ago"
        await clock.sleep(1)
        assert ring.caller("Bearer old") is None
        assert ring.problem is None

    run_virtual(main())


@pytest.mark.parametrize("broken", ["", "desk\n", line("eve", scopes="all"), None])
def test_a_broken_new_file_keeps_the_old_keys_and_is_reported(tmp_path: Path, broken: str | None) -> None:
    """Once for each version of it; also a file that is gone; the next good one is used."""

    async def main() -> None:
        path, clock = tmp_path / "keys", VirtualClock()
        write(path, line("desk"), 1)
        reports: list[int] = []
        ring = KeyRing(path, clock, lambda: reports.append(1))
        if broken is None:
            path.unlink()
        else:
            write(path, broken, 2)
        for _ in range(5):
            await clock.sleep(1)
            assert ring.caller("Bearer desk") is not None
        assert ring.problem is not None
        assert (len(reports), "ROUTER_API_KEYS_FILE" in ring.problem) == (1, True)
        write(path, line("bot"), 3)
        await clock.sleep(1)
        assert ring.caller("Bearer desk") is None
        assert ring.caller("Bearer bot") is not None
        assert ring.problem is None

    run_virtual(main())


def test_a_reload_reads_at_once(tmp_path: Path) -> None:
    """As at a SIGHUP: no waiting for the next look, nor for a new time of change."""

    async def main() -> None:
        path = tmp_path / "keys"
        write(path, line("desk"), 1)
        ring = KeyRing(path, VirtualClock())
        write(path, line("wolf"), 1)
        ring.reload()
        assert ring.caller("Bearer desk") is None
        assert ring.caller("Bearer wolf") is not None

    run_virtual(main())


def test_a_service_does_not_start_on_a_broken_file(tmp_path: Path) -> None:
    """There are no keys from before to go on with."""
    path = tmp_path / "keys"
    path.write_text("desk\n")

    async def main() -> None:
        with pytest.raises(SettingsError):
            KeyRing(path, VirtualClock())

    run_virtual(main())


def test_health_tells_of_a_rejected_key_file(tmp_path: Path) -> None:
    """By a word, not by what is in it; the service stays ready."""
    path = tmp_path / "keys"
    write(path, line("desk"), 1)
    ring: list[KeyRing] = []

    async def make() -> None:
        ring.append(KeyRing(path, VirtualClock()))

    run_virtual(make())
    with Running(ring[0]).running() as client:
        assert client.get("/health/ready").json()["warnings"] == []
        write(path, "pasted-key", 2)
        ring[0].reload()
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["warnings"]) == (200, ["api_keys_rejected"])
        assert "pasted-key" not in answer.text
