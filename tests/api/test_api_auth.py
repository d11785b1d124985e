"""API keys: who is let in, as whom, and what a key file may say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from router.api.auth import DEFAULT_SCOPES, ApiKeys, Caller
from router.settings import SettingsError
from tests.api.running import Running

BODY = {"market": "SOL-PERP", "side": "long", "size": "1"}


def digest(key: str) -> str:
    """Return the hash that a key file has."""
    return hashlib.sha256(key.encode()).hexdigest()


def test_callers_are_known_by_their_keys() -> None:
    """Each caller has keys of its own; health, metrics and the schema are open; host names do not matter."""
    running = Running(ApiKeys.parse(f"desk:{digest('key-1')}\nbot:{digest('key-2')}"))
    with running.running() as client:
        for path in ("/health/live", "/health/ready", "/metrics", "/schema"):
            assert client.get(path).status_code == 200
        headers = {"Authorization": "Bearer key-1", "Idempotency-Key": "k", "Host": "router.example"}
        first = client.post("/v1/open", json=BODY, headers=headers)
        other = client.post("/v1/open", json=BODY, headers={**headers, "Authorization": "bearer key-2"})

        assert (first.status_code, other.status_code) == (201, 201)
        assert first.json()["order_id"] != other.json()["order_id"]
        assert [order.caller for order in running.engine.opened] == ["desk", "bot"]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer key", "Basic key-1", "key-1", f"Bearer {digest('key-1')}", "Bearer key-1 key-1"],
)
def test_without_a_key_nothing_is_answered(authorization: str) -> None:
    """401 with a challenge, on every address that trades or tells about trades; the hash is not the key."""
    running = Running(ApiKeys.parse(f"desk:{digest('key-1')}"))
    with running.running() as client:
        for method, path in (("POST", "/v1/open"), ("GET", "/v1/orders"), ("POST", "/v1/orders/ord_1/cancel")):
            answer = client.request(method, path, json=BODY, headers={"Authorization": authorization})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert not running.engine.opened


def test_a_key_file_has_lines_or_is_json(tmp_path: Path) -> None:
    """Comments and empty lines are allowed among lines."""
    lines = tmp_path / "lines"
    lines.write_text(f"# who\n\ndesk:{digest('a')}  # the desk\n bot : {digest('b')}\n")
    document = tmp_path / "json"
    document.write_text(json.dumps({"desk": digest("a"), "bot": digest("b")}))

    for path in (lines, document):
        keys = ApiKeys.read(path)
        assert [keys.caller(f"Bearer {key}") for key in "abc"] == [
            Caller("desk", DEFAULT_SCOPES),
            Caller("bot", DEFAULT_SCOPES),
            None,
        ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nobody\n",
        "desk\n",
        "desk:plain-key\n",
        f"desk:{'A' * 64}\n",
        f"de sk:{'a' * 64}\n",
        f"desk:{'a' * 64}\ndesk:{'b' * 64}\ndesk:{'c' * 64}\n",
        f"desk:{'a' * 64}:\n",
        f"desk:{'a' * 64}:everything\n",
        f"desk:{'a' * 64}:read trade\n",
        f"desk:{'a' * 64}:read:trade\n",
        f"desk:{'a' * 64}:READ\n",
        f'{{"desk": "{"a" * 64}:all"}}',
        f"desk:{'a' * 64}\nbot:{'a' * 64}\n",
        '{"desk": 1}',
        "{",
        "{}",
    ],
)
def test_a_key_file_that_says_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """The service does not start on a file that was perhaps meant otherwise, and repeats nothing of it."""
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(SettingsError) as refused:
        ApiKeys.read(path)

    assert "plain-key" not in str(refused.value)


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A wrong path must not open the service to everybody."""
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys.read(tmp_path / "nowhere")
