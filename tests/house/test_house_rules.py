"""Rules of the house that no tool checks for us."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.tree import PACKAGES, ROOT, Module, dotted, modules

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 90

# Names whose calls read a clock, sleep, or roll dice.
AMBIENT = re.compile(
    r"^(time\.(time|time_ns|sleep|monotonic|monotonic_ns|perf_counter|perf_counter_ns)"
    r"|asyncio\.sleep|datetime\.(datetime\.)?(now|utcnow|today)|date\.today"
    r"|random\.\w+|secrets\.\w+|uuid\.uuid\w+|os\.(urandom|getrandom))$"
)
AMBIENT_ALLOWED = {
    "providers/base/clock.py": "the one source of time, sleep and chance",
}
# Where `float(` may stand, and why it is not money there.
FLOAT_ALLOWED = {
    "providers/solana/codec.py": "floating fields of a program's interface, kept as what they are",
    "providers/solana/http.py": "seconds to wait, as a header says them",
}
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(work|farm|root|home|Users|tmp)/[\w.]")
REGISTRY = re.compile(r"https?://[\w.-]*(pypi|npmjs|debian|proxy\.golang)[\w.-]*")
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b|raise\s+NotImplementedError|\bnot (yet )?implemented\b", re.IGNORECASE
)


def calls(module: Module) -> Iterator[tuple[str, int]]:
    """Return the dotted name of every call, with imports' own names put in full, and its line."""
    full: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module in {
            "time",
            "asyncio",
            "datetime",
            "random",
            "secrets",
            "uuid",
            "os",
        }:
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            head, dot, rest = dotted(node.func).partition(".")
            yield full.get(head, head) + dot + rest, node.lineno


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method of a module."""
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def tracked() -> list[Path]:
    """Return the files that belong to the project, as git knows them, or all source where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split("\0") if name]
    else:
        names = [path.relative_to(ROOT).as_posix() for top in (*PACKAGES, "tests", "scripts", "docs")
                 for path in (ROOT / top).rglob("*") if path.is_file() and "__pycache__" not in path.parts]  # fmt: skip
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def text_files() -> Iterator[tuple[str, str]]:
    """Return path and text of every tracked file that people write."""
    for path in tracked():
        if path.suffix in {".json", ".lock", ".so", ".png", ".bin", ".svg"} or path.is_relative_to(
            ROOT / "tests/house"
        ):
            continue
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="replace")


def places(pattern: re.Pattern[str], *, only: str = "") -> list[str]:
    """Return where a pattern occurs in the project's text."""
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1} {match[0]!r}"
        for path, text in text_files()
        if path.endswith(only)
        for match in pattern.finditer(text)
    ]


def test_time_and_chance_come_from_the_clock() -> None:
    """No module reads a clock, sleeps or rolls dice but the one that is injected."""
    wrong = [
        f"{module.path}:{line} {name}"
        for module in modules()
        if module.path not in AMBIENT_ALLOWED
        for name, line in calls(module)
        if AMBIENT.match(name)
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import time\ntime.time()", True),
        ("from asyncio import sleep\nsleep(1)", True),
        ("from datetime import datetime as d\nd.now()", True),
        ("import random as r\nr.random()", True),
        ("clock.now()\nawait_(clock.sleep(1))", False),
    ],
)
def test_the_clock_rule_sees_what_it_should(text: str, found: bool) -> None:  # noqa: FBT001 - parameter of a test
    """By any name that an import can give it."""
    module = Module("x.py", "x", text, ast.parse(text))

    assert any(AMBIENT.match(name) for name, _ in calls(module)) is found


def floats() -> list[tuple[str, int]]:
    """Return where `float(...)` stands in engine, ledger and providers."""
    return [
        (module.path, line)
        for module in modules("router/engine", "router/ledger", "providers")
        for name, line in calls(module)
        if name == "float"
    ]


def test_no_float_touches_money() -> None:
    """`float(...)` stands nowhere in engine, ledger or providers, but where no money is."""
    assert [place for place in floats() if place[0] not in FLOAT_ALLOWED] == []


def test_an_exception_that_is_not_needed_is_none() -> None:
    """What is allowed to break a rule still does."""
    assert set(FLOAT_ALLOWED) == {path for path, _ in floats()}
    for path in AMBIENT_ALLOWED:
        (module,) = (module for module in modules() if module.path == path)
        assert any(AMBIENT.match(name) for name, _ in calls(module))


def test_modules_are_of_one_subject() -> None:
    """At most 600 lines, tests and scripts included."""
    long = {
        module.path: module.text.count("\n")
        for module in modules(*PACKAGES, "tests", "scripts")
        if module.text.count("\n") > MODULE_LINES_MAX
    }

    assert long == {}


def test_functions_fit_a_screen() -> None:
    """At most 90 lines."""
    long = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in modules(*PACKAGES, "tests", "scripts")
        for node in functions(module)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert long == []


def test_every_test_says_what_it_shows() -> None:
    """One sentence each, so that a failure reads as a broken promise."""
    silent = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in modules("tests")
        for node in functions(module)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert silent == []


def test_test_files_have_names_of_their_own() -> None:
    """Two test files of one name are one too many to talk about."""
    names = [Path(module.path).name for module in modules("tests") if not module.path.endswith("__init__.py")]

    assert sorted({name for name in names if names.count(name) > 1} - {"conftest.py"}) == []


def test_nothing_is_left_for_later() -> None:
    """No reminders and no unfinished functions."""
    assert places(UNFINISHED, only=".py") == []
    assert places(re.compile(r"\b(TODO|FIXME)\b"), only=".md") == []


def test_no_machine_of_ours_is_named() -> None:
    """No absolute path of a developer's machine and no registry's address."""
    assert places(MACHINE_PATH) == []
    assert places(REGISTRY) == []


def test_no_error_is_swallowed() -> None:
    """An `except` of everything does something with what it caught."""
    swallowed = [
        f"{module.path}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or dotted(node.type) in {"Exception", "BaseException"})
        and all(isinstance(step, ast.Pass | ast.Continue) for step in node.body)
    ]

    assert swallowed == []


def test_every_package_says_what_it_is() -> None:
    """One true sentence in each `__init__`, not a placeholder."""
    wordless = [
        module.path
        for module in modules()
        if module.path.endswith("__init__.py") and len(ast.get_docstring(module.tree) or "") < 20
    ]

    assert wordless == []
