"""What the published document says of an operation, declared beside its handler (`opt={"operation": ...}`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from router.api.rates import Metered

__all__ = [
    "IDEMPOTENCY_KEY",
    "ORDER_HEADERS",
    "PREFER",
    "SCOPES",
    "Example",
    "Operation",
    "Parameter",
    "Scope",
    "id_parameter",
    "page_parameters",
]


Scope = Literal["read", "trade", "admin"]
"""What a key may do: look and ask for prices; open, close, cancel, protect; switch opens off, settle findings."""

SCOPES: Final[tuple[Scope, ...]] = ("read", "trade", "admin")


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A path, query or header parameter with an example that works."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, object]
    example: object


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A named body that works."""

    summary: str
    value: Mapping[str, object]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation.

    Attributes:
        answers: document by status; a text is a media type of its own.
        problems: codes of the catalogue that this operation may answer with, beside those of every operation.
        statuses: further statuses of a code that has more than one.
        scope: that a key needs; null for what the method says: to look is `read`, everything else `trade`.
        opens: whether it counts as an open where callers are kept from asking too often.
    """

    id: str
    summary: str
    description: str = ""
    body: type[msgspec.Struct] | None = None
    examples: Mapping[str, Example] = {}
    parameters: tuple[Parameter, ...] = ()
    answers: Mapping[int, type[msgspec.Struct] | str]
    problems: tuple[str, ...] = ()
    statuses: Mapping[str, tuple[int, ...]] = {}
    public: bool = False
    scope: Scope | None = None
    opens: bool = False

    def scope_of(self, method: str) -> Scope:
        """Return the scope that a key needs."""
        return self.scope or ("read" if method in {"GET", "HEAD"} else "trade")

    def metered_of(self, method: str) -> Metered | None:
        """Return as what a request counts; null for what is never refused for coming too often."""
        if self.opens:
            return "opens"
        return "reads" if self.scope_of(method) == "read" else None


PREFER: Final = Parameter(
    name="Prefer",
    place="header",
    description="`wait=N`: seconds to wait for the end of the order (default 10, at most 60). `respond-async`: none.",
    schema={"type": "string"},
    example="wait=10",
)
IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    place="header",
    description="The same key and body again answer the same order, never a second trade. Kept for ever, per caller.",
    schema={"type": "string", "pattern": "^[ -~]{1,255}$"},
    example="9f1c2c4e-6a0b-4a58-8f5e-0c7b1de9a7d1",
)
ORDER_HEADERS: Final[Mapping[str, str]] = {
    "Location": "The order's address.",
    "Idempotency-Replayed": "`true` when the order was made by an earlier request with the same key.",
    "Preference-Applied": "What was made of `Prefer`.",
    "Retry-After": "Seconds after which to ask again (202 and 503).",
}


def id_parameter(name: str, what: str, example: str) -> Parameter:
    """Return the declaration of an id in the path."""
    return Parameter(name=name, place="path", description=what, schema={"type": "string"}, example=example)


def page_parameters(statuses: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Return the declarations of a list's page and filters."""
    return (
        Parameter(
            name="limit",
            place="query",
            description="Items of a page.",
            schema={"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
            example=20,
        ),
        Parameter(
            name="cursor",
            place="query",
            description="`next_cursor` of the page before.",
            schema={"type": "string"},
            example=None,
        ),
        Parameter(
            name="provider", place="query", description="Only of this one.", schema={"type": "string"}, example="drift"
        ),
        Parameter(
            name="market", place="query", description="Only in this one.", schema={"type": "string"}, example="SOL-PERP"
        ),
        Parameter(
            name="status",
            place="query",
            description="Only with this one.",
            schema={"type": "string", "enum": list(statuses)},
            example=statuses[0],
        ),
    )
