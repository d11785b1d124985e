"""What the pages tell a reader to type, typed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docs.pages import PAGES, ROOT, Desk, Snippet, desk, snippets

Document = dict[str, Any]

README, *OTHERS = [page for page in PAGES if page.name != "CHANGELOG.md"]
# Tested by themselves: they make environments.
SCRIPTS = ("scripts/run\n", "scripts/test\n")
OF_DOCS = [snippet for page in OTHERS for snippet in snippets(page)]
(LOST_ANSWER,) = (snippet for snippet in OF_DOCS if "lost_after" in snippet.command)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Return a service for the snippets of docs/."""
    with desk(tmp_path_factory.mktemp("docs")) as started:
        yield started


def quoted(answer: Document) -> None:
    """A price from Drift, with what every provider of the chain said."""
    assert answer["provider"] == "drift"
    assert answer["market"] == "SOL-PERP"
    assert float(answer["expected_price"]) > 0
    assert [candidate["error"] for candidate in answer["candidates"]] == [None, None, None]


def opened(answer: Document) -> None:
    """An order that Drift filled, with its transaction and its attempts."""
    assert (answer["kind"], answer["status"], answer["provider"]) == ("open", "filled", "drift")
    assert answer["fill"]["signature"] == answer["attempts"][0]["signature"]
    assert [attempt["provider"] for attempt in answer["attempts"]] == ["drift"]
    assert float(answer["fill"]["size_usd"]) <= 100
    assert answer["position_id"]


def listed(answer: Document) -> None:
    """One open position, long SOL, on Drift."""
    (position,) = answer["items"]
    assert (position["market"], position["side"], position["provider"]) == ("SOL-PERP", "long", "drift")
    assert position["status"] == "open"


def closed(answer: Document) -> None:
    """The whole of it, closed on Drift."""
    assert (answer["kind"], answer["status"], answer["provider"]) == ("close", "filled", "drift")


def remembered(answer: Document) -> None:
    """Both orders, newest first."""
    assert [(order["kind"], order["status"]) for order in answer["items"]] == [("close", "filled"), ("open", "filled")]


SESSION: tuple[tuple[str, Callable[[Document], None]], ...] = (
    ("/v1/quote", quoted),
    ("/v1/open", opened),
    ("/v1/positions", listed),
    ("/v1/close", closed),
    ("/v1/orders", remembered),
)


def test_the_readmes_session_works_word_by_word(tmp_path: Path) -> None:
    """In an empty folder: quote, open, the same open again, positions, close, a `kill -9`, and all is on record."""
    typed = [snippet for snippet in snippets(README) if snippet.command not in SCRIPTS]
    assert [address for address, _ in SESSION if address] == [
        next(address for address, _ in SESSION if address in snippet.command) for snippet in typed
    ], "a snippet of the README that this test does not know"
    with desk(tmp_path) as reader:
        for snippet, (address, check) in zip(typed, SESSION, strict=True):
            if check is remembered:
                assert reader.end(signal.SIGKILL) == -signal.SIGKILL
                reader.start()
            (answer,) = reader.answers(snippet.command)
            check(answer)
            if check is opened:
                (again,) = reader.answers(snippet.command)
                assert again["order_id"] == answer["order_id"], address
        left = httpx.get(f"{reader.base}/v1/positions", params={"status": "open"}, timeout=10).json()
        assert left["items"] == []


@pytest.mark.parametrize("snippet", [each for each in OF_DOCS if each is not LOST_ANSWER], ids=str)
def test_snippets_of_the_pages_work(service: Desk, snippet: Snippet) -> None:
    """Each runs as it stands, ends well, and is answered without a problem document or a JSON-RPC error."""
    if "curl" not in snippet.command:
        assert service.run(snippet.command).strip()
        return
    answers = service.answers(snippet.command)
    assert len(answers) == snippet.command.count("curl ")
    for answer in answers:
        assert "type" not in answer, answer
        assert "error" not in answer, answer


def test_a_lost_answer_is_settled_as_the_localnets_page_says(service: Desk) -> None:
    """The fault strikes, and the order is filled by its first attempt, with evidence."""
    struck, order = service.answers(LOST_ANSWER.command)

    assert struck["result"] is True
    assert order["status"] == "filled"
    assert [attempt["outcome"] for attempt in order["attempts"]] == ["filled"]
    assert order["attempts"][0]["evidence"]


def test_the_problem_on_the_page_is_one(service: Desk) -> None:
    """Members and values of the example are those of a real answer."""
    text = (ROOT / "docs" / "http.md").read_text("utf-8")
    example = json.loads(text.partition("```json\n")[2].partition("```")[0])
    body = {"market": "SOLL-PERP", "side": "long", "size": "1"}
    answer = httpx.post(f"{service.base}/v1/quote", json=body, timeout=10).json()

    assert set(answer) == set(example)
    changing = ("detail", "request_id")
    assert {name: answer[name] for name in answer if name not in changing} == {
        name: example[name] for name in example if name not in changing
    }


def test_addresses_are_quoted_for_the_shell() -> None:
    """A bare `?` or `&` in an address is a pattern or a job to a shell."""
    for snippet in (*snippets(README), *OF_DOCS):
        for word in snippet.command.split():
            if word.startswith("http"):
                assert "?" not in word, f"{snippet}: {word}"
                assert "&" not in word, f"{snippet}: {word}"
