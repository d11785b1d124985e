"""One JSON object a line: what happened, to which request, order and attempt, and nothing secret.

Modules log with the standard library: the event's snake_case name is the message, its values are `extra`:

    logger.info("attempt_settled", extra={"provider": "drift", "outcome": "filled"})
"""

from __future__ import annotations

import contextvars
import logging
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, TextIO, cast

import msgspec

from router.ops.redaction import REDACTED, is_secret_name, redact_text

__all__ = ["JsonFormatter", "bind", "configure_logging", "log_context"]

_context: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("log_context", default=None)

# What `logging` itself puts on a record: everything else came in `extra`.
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
_DEEPEST = 6


def bind(**names: str) -> contextvars.Token[Mapping[str, str] | None]:
    """Put `request_id`, `order_id`, `attempt_id`... on every later line of this task and of the tasks it starts."""
    return _context.set({**(_context.get() or {}), **names})


@contextmanager
def log_context(**names: str) -> Generator[None]:
    """Put names on every line inside the block."""
    token = bind(**names)
    try:
        yield
    finally:
        _context.reset(token)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: `ts`, `level`, `event`, `logger`, the bound names, then the extras.

    Values under secret names are replaced, and so is what looks like a secret inside any text, tracebacks included.
    """

    def __init__(self) -> None:
        super().__init__()
        self._encoder = msgspec.json.Encoder(enc_hook=repr)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "event": redact_text(record.getMessage()),
            "logger": record.name,
        }
        line.update(_context.get() or {})
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name] = _safe(name, value, 0)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error_type"] = type(error).__qualname__
            line["traceback"] = redact_text("".join(traceback.format_exception(error)))
        try:
            return self._encoder.encode(line).decode()
        except (TypeError, ValueError, RecursionError) as error:
            # A value that cannot be written must not lose the event.
            rest = {name: line[name] for name in ("ts", "level", "event", "logger")}
            return self._encoder.encode({**rest, "unwritable": str(error)}).decode()


def _safe(name: str, value: object, depth: int) -> object:
    if is_secret_name(name):
        return REDACTED
    if value is None or isinstance(value, bool | int | float | datetime):
        return value
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping | msgspec.Struct | list | tuple | set | frozenset):
        return _safe_collection(name, cast("object", value), depth + 1) if depth < _DEEPEST else "..."
    return redact_text(str(value))


def _safe_collection(name: str, value: object, depth: int) -> object:
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): _safe(str(key), item, depth) for key, item in items}
    if isinstance(value, msgspec.Struct):
        return {key: _safe(key, getattr(value, key), depth) for key in value.__struct_fields__}
    elements = cast("list[object]", value)
    if len(elements) in {32, 64} and all(type(element) is int for element in elements):
        return REDACTED  # the shape of a key file
    return [_safe(name, element, depth) for element in elements]


def configure_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (standard output) as JSON, and to nowhere else.

    Libraries that bring handlers of their own lose them: a line that goes around the formatter is not redacted.
    """
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "litestar"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    logging.getLogger("uvicorn").setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(capture=True)
