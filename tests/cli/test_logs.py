"""Logs: one JSON object a line, the ids of what it is about, and no secret, wherever it was planted."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey
from solders.keypair import Keypair
from solders.signature import Signature

from router.ops.log import JsonFormatter, bind, log_context
from router.ops.metrics import Metrics
from router.ops.redaction import REDACTED, is_secret_name, redact_text, redact_url

SEED = bytes(range(1, 33))
KEYPAIR = Keypair.from_seed(SEED)
SECRET_BASE58 = str(KEYPAIR)
SECRET_NUMBERS = str(list(bytes(KEYPAIR)))
SIGNATURE = str(Signature(SigningKey(SEED).sign(b"x").signature))


class Line:
    """A logger that writes to memory."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logger = logging.Logger("test")  # noqa: LOG001 - not in the tree of loggers on purpose
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(JsonFormatter())
        self.logger.addHandler(handler)

    def read(self) -> dict[str, Any]:
        """Return the one line that was written."""
        text = self.stream.getvalue()
        assert text.count("\n") == 1
        line: dict[str, Any] = json.loads(text)
        return line


@pytest.fixture
def line() -> Line:
    """Return a logger and its line."""
    return Line()


def test_a_line_has_event_values_and_bound_names(line: Line) -> None:
    """Time in UTC, level, event, logger, the names in force, the values in `extra`."""
    with log_context(request_id="req_1", order_id="ord_1"), log_context(attempt_id="att_1"):
        line.logger.info("attempt_settled", extra={"provider": "drift", "size": Decimal("1E-7"), "fills": [1, None]})

    read = line.read()
    assert read.pop("ts").endswith("Z")
    assert read == {
        "level": "info", "event": "attempt_settled", "logger": "test", "request_id": "req_1", "order_id": "ord_1",
        "attempt_id": "att_1", "provider": "drift", "size": "1E-7", "fills": [1, None],
    }  # fmt: skip


def test_names_end_with_their_block_and_stay_with_their_task(line: Line) -> None:
    """Two orders at once do not write each other's ids."""

    async def one(order_id: str) -> None:
        bind(order_id=order_id)
        await asyncio.sleep(0)
        line.logger.info("step")

    async def both() -> None:
        await asyncio.gather(one("ord_1"), one("ord_2"))
        line.logger.info("after")

    asyncio.run(both())

    read = [json.loads(text) for text in line.stream.getvalue().splitlines()]
    assert [item.get("order_id") for item in read] == ["ord_1", "ord_2", None]


@pytest.mark.parametrize(
    "planted",
    [
        {"keypair": SECRET_BASE58},
        {"authorization": "Bearer hunter22222"},
        {"headers": {"Authorization": "Bearer hunter22222"}},
        {"settings": {"nested": [{"API-Key": "hunter22222"}]}},
        {"note": f"loaded {SECRET_NUMBERS} from disk"},
        {"note": f"loaded {SECRET_BASE58} from disk"},
        {"note": bytes(KEYPAIR).hex()},
        {"note": list(bytes(KEYPAIR))},
        {"note": tuple(SEED)},
        {"note": str(list(SEED))},
        {"url": "https://bob:hunter22222@node.example/"},
        {"url": "wss://node.example/hunter22222hunter22222?token=hunter22222"},
        {"error": ValueError(f"bad header: Bearer hunter22222, {SECRET_BASE58}")},
        {"data": bytes(KEYPAIR)},
    ],
)
def test_a_planted_secret_is_not_written(line: Line, planted: dict[str, Any]) -> None:
    """By the name that it stands under, or by what it is."""
    line.logger.warning("something", extra=planted)

    text = line.stream.getvalue()
    secrets = [SECRET_BASE58, SECRET_NUMBERS, SECRET_NUMBERS.replace(" ", ""), "hunter22222", bytes(KEYPAIR).hex()]
    for secret in [*secrets, str(list(SEED)), base64.b64encode(bytes(KEYPAIR)).decode()]:
        assert secret not in text
        assert secret.replace(" ", "") not in text
    assert line.read()["event"] == "something"


def test_a_secret_in_a_message_or_a_traceback_is_not_written(line: Line) -> None:
    """Other people's libraries put anything into their messages."""

    def library() -> None:
        raise RuntimeError(f"cannot use {SECRET_BASE58}")

    try:
        library()
    except RuntimeError:
        line.logger.exception("failed with %s", SECRET_NUMBERS)

    read = line.read()
    assert SECRET_BASE58 not in line.stream.getvalue()
    assert SECRET_NUMBERS not in line.stream.getvalue()
    assert read["error_type"] == "RuntimeError"
    assert REDACTED in read["traceback"]


def test_what_only_looks_like_a_secret_is_kept() -> None:
    """A signature has the length of a secret key, and is what an operator searches for."""
    for kept in (SIGNATURE, str(KEYPAIR.pubkey()), "Basic facts", "public_key", "[1, 2, 3]", "http://127.0.0.1:8899"):
        assert redact_text(kept) == kept
    assert redact_url("https://api.devnet.solana.com/?x=1") == f"https://api.devnet.solana.com/?x={REDACTED}"
    assert redact_url("http://[::1]:8899/rpc") == "http://[::1]:8899/rpc"
    for name in ("keypair", "API_KEY", "X-Api-Key", "private_key", "password", "auth_token", "Cookie"):
        assert is_secret_name(name)
    for name in ("public_key", "idempotency_key", "key", "signature", "token_account", "seeds_tried"):
        assert not is_secret_name(name)


def test_a_value_that_cannot_be_written_does_not_lose_the_event(line: Line) -> None:
    """Cycles, odd objects, NaN."""
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    at = datetime(2026, 1, 1, tzinfo=UTC)

    class Pair(msgspec.Struct):
        left: object
        password: str

    line.logger.info(
        "odd", extra={"cycle": cycle, "object": object(), "nan": float("nan"), "at": at, "pair": Pair(1, "x")}
    )

    read = line.read()
    assert read["event"] == "odd"
    assert read["pair"] == {"left": 1, "password": REDACTED}
    assert read["at"] == "2026-01-01T00:00:00Z"


def test_a_message_cannot_forge_a_line(line: Line) -> None:
    """Line ends are escaped."""
    line.logger.info("x", extra={"path": '/a\n{"event":"forged"}'})

    assert line.read()["path"] == '/a\n{"event":"forged"}'


def test_two_services_in_one_process_have_metrics_of_their_own() -> None:
    """No global registry."""
    first, second = (Metrics(version="1", network="localnet") for _ in range(2))
    first.alerts.labels("promise_violation").inc()

    assert b'router_alerts_total{kind="promise_violation"} 1.0' in first.render()
    assert b"promise_violation" not in second.render()
