"""scripts/run: quick when nothing is to do, replaced by the service, clear when there is no Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.house.tree import ROOT

# Stands for the service: says who it is and what it was given, then waits for the signal.
SERVICE = """#!/bin/bash
trap 'echo drained; exit 0' TERM
echo "$$ $ROUTER_PORT $*"
while :; do read -r -t 0.05 <> <(:) || :; done
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the project's outside whose environment is up to date and holds a stand-in for the service."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("perp-router", "python"):
        (programs / name).write_text(SERVICE)
        (programs / name).chmod(0o755)
    made = "mkdir -p .venv; . scripts/environment; fingerprint run > .venv/.made-from"
    subprocess.run(["/bin/bash", "-c", made], cwd=tmp_path, check=True)  # noqa: S603 - constant
    return tmp_path


def start(project: Path, **environment: str) -> subprocess.Popen[str]:
    """Start scripts/run with arguments and these variables beside the machine's own."""
    return subprocess.Popen(  # noqa: S603 - a script of ours
        [project / "scripts" / "run", "--host", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_shell_is_replaced_by_the_service(project: Path) -> None:
    """Same process id, so that SIGTERM reaches the service itself; variables and arguments go on to it."""
    process = start(project, ROUTER_PORT="18081")
    assert process.stdout is not None
    first = process.stdout.readline().split()
    assert first == [str(process.pid), "18081", "serve", "--host", "127.0.0.1"]

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "drained\n", "")


def test_nothing_is_installed_when_nothing_has_changed(project: Path) -> None:
    """No tool is fetched and nothing is said; a changed lock is noticed."""
    process = start(project)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert not (project / ".tools").exists()

    with (project / "uv.lock").open("a") as lock:
        lock.write("# changed\n")
    again = start(project, PATH=str(only_basics(project)))
    _, err = again.communicate(timeout=30)
    assert again.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13" in err


def only_basics(project: Path) -> Path:
    """Return a folder with the shell's usual helpers and no Python."""
    folder = project / "basics"
    folder.mkdir()
    for name in ("bash", "env", "dirname", "basename", "cat", "cksum", "rm"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder
