"""Imports go one way (docs/architecture.md), and what costs start-up time is not imported."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.house.tree import ROOT, Import, Module, imports, modules

HTTP = ("litestar", "uvicorn", "aiohttp", "httpx", "http", "urllib.request", "websockets", "starlette")
SQL = ("sqlite3", "sqlalchemy", "asyncpg", "psycopg", "aiosqlite")
SHARED_PROVIDERS = ("providers.base", "providers.solana", "providers.registry")


def below(name: str, *tops: str) -> bool:
    """Whether a dotted name is one of these packages or inside one."""
    return any(name == top or name.startswith(top + ".") for top in tops)


def venues() -> list[str]:
    """Return the packages of single venues."""
    folders = sorted(path.name for path in (ROOT / "providers").iterdir() if (path / "__init__.py").is_file())
    return [f"providers.{name}" for name in folders if name not in {"base", "solana"}]


def forbidden(module: Module) -> tuple[str, ...]:
    """Return what a module may never import: everything above its own layer."""
    name = module.name
    if below(name, "providers.base"):
        return ("router", "idl", "providers.solana", "providers.registry", *venues())
    if below(name, "providers.solana"):
        return ("router", "providers.registry", *venues())
    if below(name, "providers.registry"):
        return ("router",)
    if below(name, "providers"):
        own = ".".join(name.split(".")[:2])
        return ("router", "providers.registry", *(venue for venue in venues() if venue != own))
    above_ledger = ("router.engine", "router.api", "router.service", "router.cli", "router.localnet", "router.settings")
    layers = {
        "router.ledger": (*above_ledger, *HTTP, "providers.solana", "providers.registry", *venues()),
        "router.engine": (
            *above_ledger[1:], "router.ops", *HTTP, *SQL, "router.ledger.sqlite", "solders", "providers.solana",
            "providers.registry", *venues(),
        ),
        "router.api": (
            "router.service", "router.cli", "router.localnet", *SQL, "router.ledger.sqlite", "solders",
            "providers.solana", "providers.registry", *venues(),
        ),
        "router.ops": ("router.api", "router.service", "router.cli", "router.localnet", *SQL, *venues()),
        # The table of providers is names and lazy factories: what `ROUTER_CHAIN` may say.
        "router.settings": (*above_ledger[:-1], "router.ledger", *SQL, *HTTP, "providers.solana", *venues()),
        "router.localnet": ("router.engine", "router.ledger", "router.api", "router.service", "router.cli", *venues()),
    }  # fmt: skip
    return next((rules for layer, rules in layers.items() if below(name, layer)), ())


def told(module: Module, item: Import) -> str:
    """Return one line that says where which import is."""
    return f"{module.path}:{item.line} imports {item.target}"


def test_imports_go_from_top_to_bottom() -> None:
    """No layer knows one above it, no venue another; the engine knows no HTTP, no SQL and no venue."""
    assert [
        told(module, item)
        for module in modules("router", "providers")
        for item in imports(module)
        if below(item.target, *forbidden(module))
    ] == []


def test_the_layers_are_all_there() -> None:
    """A renamed package would leave the rules above without anything to hold."""
    names = {module.name for module in modules("router", "providers")}

    for layer in ("router.api", "router.engine", "router.ledger", "router.localnet", "router.ops", "providers.base"):
        assert layer in names
    assert venues() != []
    assert any(forbidden(module) for module in modules("router.engine".replace(".", "/")))


@pytest.mark.parametrize("line", ["from router.api import app", "import sqlite3", "from providers.drift import x"])
def test_the_rule_sees_what_it_should(line: str) -> None:
    """The engine with one such line would not pass, wherever the line stands."""
    for text in (line, f"def f():\n    {line}", f"if True:\n    {line}"):
        module = Module("router/engine/x.py", "router.engine.x", text, ast.parse(text))
        assert any(below(item.target, *forbidden(module)) for item in imports(module))


def test_relative_imports_are_resolved() -> None:
    """`from ..api import app` is seen for what it is."""
    text = "from ..api import app"
    module = Module("router/engine/x.py", "router.engine.x", text, ast.parse(text))

    assert [item.target for item in imports(module)] == ["router.api.app"]


def test_only_the_composition_root_knows_the_localnet() -> None:
    """`router.localnet` is imported by itself, by the service and the command line, and there only when needed."""
    wrong = [
        told(module, item)
        for module in modules("router", "providers")
        if not below(module.name, "router.localnet")
        for item in imports(module)
        if below(item.target, "router.localnet")
        and not (below(module.name, "router.service", "router.cli") and (item.lazy or item.typing))
    ]

    assert wrong == []


def loaded_by(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has after a statement."""
    code = f"{statement}; import sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["router.service", "router.cli"])
def test_a_start_imports_no_test_oracle(module: str) -> None:
    """Neither anchorpy nor driftpy nor solana-py, each of which costs up to a second; nor the localnet."""
    loaded = loaded_by(f"import {module}")

    assert module in loaded
    assert {name for name in loaded if below(name, "anchorpy", "driftpy", "solana", "httpx", "numpy")} == set()
    assert {name for name in loaded if below(name, "router.localnet")} == set()


def test_a_provider_that_is_not_in_the_chain_costs_nothing() -> None:
    """The table of providers imports none of them."""
    loaded = loaded_by("import providers.registry")

    assert {name for name in loaded if below(name, *venues())} == set()
