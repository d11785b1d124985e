"""The project's own source as syntax trees, for tests that hold it to its rules."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec

ROOT = Path(__file__).parents[2]
PACKAGES = ("router", "providers", "idl")


class Module(msgspec.Struct, frozen=True):
    """One source file: its place, its dotted name, its text and its tree."""

    path: str
    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The dotted name that relative imports start from."""
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]


@functools.cache
def modules(*tops: str) -> tuple[Module, ...]:
    """Return the modules below these folders of the project (all of its packages by default), by path."""
    found: list[Module] = []
    for top in tops or PACKAGES:
        for file in sorted((ROOT / top).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            text = file.read_text(encoding="utf-8")
            found.append(Module(path, name, text, ast.parse(text, path)))
    return tuple(found)


class Import(msgspec.Struct, frozen=True):
    """One import: what is imported, where, and when (`lazy`: in a function; `typing`: for type checkers alone)."""

    target: str
    line: int
    lazy: bool
    typing: bool


def imports(module: Module) -> Iterator[Import]:
    """Return every import of a module; `from a import b` counts as `a.b`."""
    for node, lazy, typing in _walk(module.tree, lazy=False, typing=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy, typing)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, lazy, typing)


def _walk(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    yield node, lazy, typing
    inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    for name, value in ast.iter_fields(node):
        children = cast("list[object]", value if isinstance(value, list) else [value])
        for child in children:
            if isinstance(child, ast.AST):
                yield from _walk(child, lazy=inside, typing=typing or (checking and name == "body"))


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a name or an attribute of one, and nothing for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""
