"""`config show`, and how the other commands print what they got."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import cast

import msgspec

from router.cli.exits import Exit
from router.settings import Settings

__all__ = ["show_document", "show_settings"]


def show_settings(settings: Settings, *, as_json: bool) -> int:
    """Print every setting: name, value, source, and what it is for."""
    rows = settings.describe()
    if as_json:
        _write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return Exit.DONE
    width = max(len(row.name) for row in rows)
    value_width = min(44, max(len(row.value) for row in rows))
    for row in rows:
        _write(f"{row.name:<{width}}  {row.value or '-':<{value_width}}  {row.source:<7}  {row.doc}")
    return Exit.DONE


def show_document(document: object, *, as_json: bool) -> None:
    """Print what a command returned: JSON, or a line for each member."""
    plain = msgspec.to_builtins(document, enc_hook=str)
    if as_json:
        _write(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
        return
    for line in _lines(plain, ""):
        _write(line)


def _lines(value: object, name: str) -> list[str]:
    if isinstance(value, Mapping):
        items = [
            (f"{name}.{key}" if name else str(key), item) for key, item in cast("dict[object, object]", value).items()
        ]
    elif isinstance(value, list):
        items = [(f"{name}[{position}]", item) for position, item in enumerate(cast("list[object]", value))]
    else:
        return [f"{name or 'result':<28}  {'-' if value is None else value}"]
    return [line for key, item in items for line in _lines(item, key)]


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
