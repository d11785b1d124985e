"""The drawing of the error tree is the tree."""

from __future__ import annotations

import re

from providers.base import errors
from providers.base.errors import ErrorClass, Phase, ProviderError

LINE = re.compile(r"^(?P<indent>(?:│   |    )*)(?:├── |└── )(?P<name>\w+)\s+(?P<text>.+)$")


def drawn() -> dict[str, tuple[str, str]]:
    """Return each class of the drawing with its parent and its sentence."""
    found: dict[str, tuple[str, str]] = {}
    path = ["ProviderError"]
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 4 + 1
        del path[depth:]
        found[match["name"]] = (path[-1], match["text"].strip())
        path.append(match["name"])
    return found


def subclasses(cls: type[ProviderError]) -> list[type[ProviderError]]:
    """Return every class below one that this module defines."""
    below = [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return below + [deeper for sub in below for deeper in subclasses(sub)]


def leaves() -> list[type[ProviderError]]:
    """Return the classes that are raised."""
    return [cls for cls in subclasses(ProviderError) if cls.__base__ is not ProviderError]


def test_the_drawing_has_every_class_under_its_parent() -> None:
    """Names and parents, none missing and none invented."""
    real = {cls.__name__: cls.__base__.__name__ for cls in subclasses(ProviderError) if cls.__base__}

    assert {name: parent for name, (parent, _) in drawn().items()} == real


def test_the_drawing_says_what_the_docstrings_say() -> None:
    """The same sentence in both places."""
    said = {cls.__name__: (cls.__doc__ or "").strip().rstrip(".").lower() for cls in subclasses(ProviderError)}

    assert {name: text.rstrip(".").lower() for name, (_, text) in drawn().items()} == said


def test_every_leaf_has_a_code_of_its_own() -> None:
    """Stable, snake_case, and no two alike."""
    codes = [cls.code for cls in leaves()]

    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", code)] == []
    assert "provider_error" not in codes


def test_a_parent_fixes_the_class_and_each_class_has_a_parent() -> None:
    """The engine's failover rule reads the class alone."""
    parents = {cls.error_class: cls for cls in subclasses(ProviderError) if cls.__base__ is ProviderError}

    assert set(parents) == set(ErrorClass)
    assert all(cls.error_class is cls.__mro__[1].error_class for cls in leaves())  # type: ignore[attr-defined]


def test_every_name_is_exported() -> None:
    """What the module defines is what it offers."""
    names = {cls.__name__ for cls in subclasses(ProviderError)} | {"ProviderError", "ErrorClass", "ErrorInfo", "Phase"}

    assert set(errors.__all__) == names | {"CLOSE_BLOCKING_CODES"}


def test_what_blocks_a_close_passes_by_itself_or_by_a_deposit() -> None:
    """Only leaves are marked, and none whose class says that the order itself is wrong."""
    marked = [cls for cls in subclasses(ProviderError) if cls.blocks_close]

    assert {cls.code for cls in marked} == errors.CLOSE_BLOCKING_CODES
    assert all(cls in leaves() and cls.error_class.allows_next_provider for cls in marked)
    assert not {"invalid_size", "worst_price_not_met", "not_landed", "below_minimum"} & errors.CLOSE_BLOCKING_CODES


def test_an_error_becomes_a_record() -> None:
    """With everything that the answer shows."""
    error = errors.OpenInterestCap("no room", phase=Phase.ANSWERED, raw_code=6154, raw_name="MaxOpenInterest")

    info = error.info()
    assert (info.code, info.error_class, info.phase) == ("open_interest_cap", ErrorClass.CAPACITY, Phase.ANSWERED)
    assert (info.raw_code, info.raw_name, info.detail) == ("6154", "MaxOpenInterest", "no room")
    assert str(error) == "open_interest_cap: no room (6154 MaxOpenInterest)"
