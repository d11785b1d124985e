"""What a user installs: one version everywhere, data and types inside, an image by the same steps."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import router
from tests.house.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHECK = ROOT / "scripts" / "check-dockerfile"


def test_there_is_one_version() -> None:
    """In pyproject.toml, in the package, in the installed metadata, and on top of the changelog."""
    entries = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert router.__version__ == PROJECT["version"]
    assert importlib.metadata.version(PROJECT["name"]) == PROJECT["version"]
    assert entries[0] == PROJECT["version"]


def test_the_changelog_is_in_the_known_form() -> None:
    """Keep a Changelog: each entry with a date or `Unreleased`, sections from its list."""
    text = (ROOT / "CHANGELOG.md").read_text()

    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d|Unreleased)", head) for head in heads)
    sections = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("package", ["router", "providers"])
def test_the_packages_ship_their_types(package: str) -> None:
    """So that a checker uses them where they are installed."""
    assert importlib.resources.files(package).joinpath("py.typed").is_file()


def test_interface_descriptions_are_package_data() -> None:
    """They are found where the package is, not where the sources are."""
    assert importlib.resources.files("idl").joinpath("drift.json").is_file()


def test_the_command_is_installed() -> None:
    """`perp-router` leads to a function that is there."""
    (script,) = [
        point for point in importlib.metadata.entry_points(group="console_scripts") if point.name == "perp-router"
    ]

    assert callable(script.load())


@pytest.mark.parametrize("name", ["scripts/run", "scripts/test", "scripts/check-dockerfile", ".ci/run"])
def test_commands_can_be_called(name: str) -> None:
    """Executable, and, where they are shell, without a fault of syntax."""
    path = ROOT / name

    assert os.access(path, os.X_OK)
    if "bash" in path.read_text().partition("\n")[0]:
        subprocess.run(["bash", "-n", path], check=True)  # noqa: S603, S607 - a file of ours


def test_ci_runs_what_a_developer_runs() -> None:
    """One list of checks, not two."""
    assert "exec scripts/test" in (ROOT / ".ci" / "run").read_text()
    steps = (ROOT / "scripts" / "test").read_text()
    for tool in ("ruff", "mypy", "pyright", "pytest"):
        assert f"step {tool} " in steps


def lint(file: Path) -> tuple[int, str]:
    """Run the linter on a Dockerfile; return its exit code and what it said."""
    done = subprocess.run([sys.executable, CHECK, file], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return done.returncode, done.stdout + done.stderr


def test_the_dockerfile_keeps_its_rules() -> None:
    """The linter has nothing to say."""
    assert lint(ROOT / "Dockerfile") == (0, "Dockerfile: ok\n")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("router", "providers", "idl"):
        (folder / name).mkdir()
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "environment", folder / "scripts" / "environment")
    return folder


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("python:3.12.11-slim-bookworm AS build", "python:latest AS build", "not a slim image pinned"),
        ("python:3.12.11-slim-bookworm AS build", "python:3.10.1-slim-bookworm AS build", "is not >=3.11"),
        ("USER 10001:10001", "USER 0", "no USER with a fixed number"),
        ("USER 10001:10001", "", "no USER with a fixed number"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL", "not SIGTERM"),
        ("STOPSIGNAL SIGTERM", "", "0 STOPSIGNAL"),
        ("/health/live", "/", "does not ask /health/live"),
        ('ENTRYPOINT ["perp-router"]', "ENTRYPOINT perp-router", "not in the exec form"),
        ("EXPOSE 8080", "EXPOSE 80", "not ROUTER_PORT"),
        ("ENV PATH=", "ENV ROUTER_KEYPAIR=abc PATH=", "looks like a secret"),
        ("WORKDIR /app/source", "ARG API_TOKEN\nWORKDIR /app/source", "looks like a secret"),
        ("COPY idl idl", "COPY idls idls", "COPY of idls"),
        ("COPY idl idl", "COPY . .", "all or nothing"),
        ("COPY idl idl", "COPY scripts scripts", ".dockerignore keeps scripts"),
        ("COPY idl idl", "ADD idl idl", "use COPY"),
        ("--from=build", "--from=builder", "no stage builder"),
        ("uv==0.13.8", "uv==0.13.9", "another in scripts/environment"),
        ("uv==0.13.8", "uv", "not pinned"),
        ("uv sync --frozen --no-dev", "uv sync", "without --frozen"),
        ('image.version="0.1.0"', 'image.version="0.0.1"', "the label says version 0.0.1"),
        ('image.licenses="Apache-2.0"', 'other="x"', "no label org.opencontainers.image.licenses"),
    ],
)
def test_the_linter_sees_what_it_should(context: Path, old: str, new: str, said: str) -> None:
    """Each rule broken once, in a copy."""
    text = (ROOT / "Dockerfile").read_text()
    assert old in text
    (context / "Dockerfile").write_text(text.replace(old, new))

    code, output = lint(context / "Dockerfile")
    assert code == 1
    assert said in output
