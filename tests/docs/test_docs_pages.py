"""Links that lead somewhere, names that exist, tables that are what the code says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from router.settings import FIELDS, KNOWN_PROVIDERS, PREFIX, PROVIDER_FIELDS
from tests.docs.pages import PAGES, ROOT

_LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"`((?:router|providers|scripts|tests|docs|idl)/[\w./-]*\w)`")


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings make."""
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in _HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links name files that exist, and anchors that those have."""
    for link in _LINK.finditer(prose(page)):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        assert target.exists(), link[0]
        assert target.is_relative_to(ROOT), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """Paths of the project in the text are paths of the project."""
    assert [path for path in _PATH.findall(prose(page)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    """No page names a variable that the service would refuse."""
    known = {field.env for field in FIELDS}
    known |= {f"{PREFIX}{name}_{field.name}".upper() for name in KNOWN_PROVIDERS for field in PROVIDER_FIELDS}
    named = set(re.findall(r"(?<![A-Z_])ROUTER_[A-Z_]*[A-Z]\b", page.read_text("utf-8")))

    assert named - known == set()


def test_every_page_is_on_the_readmes_list() -> None:
    """A page that nobody finds is not there."""
    listed = {link["path"] for link in _LINK.finditer(prose(ROOT / "README.md"))}

    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= listed


def test_every_hold_and_alert_is_explained() -> None:
    """Whoever is woken finds the word on the page about running it."""
    engine = "".join(path.read_text("utf-8") for path in sorted((ROOT / "router" / "engine").glob("*.py")))
    words = set(re.findall(r'(?:hold_opens|\.alert|_guarded)\([^\n]*?"(\w+)"|OpensHeld\([^\n]*reason="(\w+)"', engine))
    named = {word for pair in words for word in pair if word}
    page = prose(ROOT / "docs" / "operate.md")

    assert {"fee_payer_short", "draining", "fence_failed"} <= named
    assert {word for word in named if f"`{word}`" not in page} == set()


def test_tables_are_what_the_code_says() -> None:
    """`scripts/docs --check` finds nothing to change."""
    done = run(ROOT, "--check")

    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_that_fell_behind_is_found_and_mended(tmp_path: Path) -> None:
    """An old number in a table fails the check by its page's name; a run without `--check` puts it right."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("router", "providers", "idl", "tests"):
        (copy / name).symlink_to(ROOT / name)
    page = copy / "docs" / "settings.md"
    fresh = page.read_text("utf-8")
    page.write_text(fresh.replace("| `8080` |", "| `80` |"), "utf-8")

    done = run(copy, "--check")
    assert done.returncode == 1
    assert "docs/settings.md is not what the code says" in done.stderr
    assert run(copy).stdout == "docs/settings.md\n"
    assert page.read_text("utf-8") == fresh


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a project's scripts/docs."""
    command = [sys.executable, str(project / "scripts" / "docs"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a script of ours
