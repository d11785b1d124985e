"""The command as a person or a script meets it: help, exit status, data on standard output, talk on standard error."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from providers.base.errors import (
    AccountMissing,
    LiveTradingOff,
    Phase,
    ProviderError,
    RequestRejected,
    TimedOut,
    VenueHalted,
)
from router import __version__
from router.cli.exits import Exit
from router.cli.venue import exit_of

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command with an environment of its own."""
    command = [sys.executable, "-m", "router.cli", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, env={**clean, **environ}, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_teaches() -> None:
    """Every command, examples, and what each exit status means."""
    result = run("--help")

    assert result.returncode == 0
    for expected in ("serve", "localnet", "account", "config", "examples:", "exit status:", "4 unknown outcome"):
        assert expected in result.stdout
    for command in (
        ["serve"],
        ["localnet"],
        ["account"],
        ["account", "deposit"],
        ["account", "unwrap"],
        ["config", "show"],
    ):
        assert run(*command, "--help").returncode == 0


def test_help_imports_no_framework() -> None:
    """A help text costs as much as Python itself."""
    code = (
        "import sys; from router.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'litestar', 'uvicorn', 'solders', 'aiohttp', 'msgspec', 'nacl'} & sys.modules.keys()))"
    )
    result = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [[], ["account"], ["config"], ["fly"], ["serve", "--colour"], ["account", "deposit", "--provider", "drift"]],
)
def test_a_usage_mistake_is_exit_2(arguments: list[str]) -> None:
    """With the usage."""
    result = run(*arguments)

    assert result.returncode == Exit.USAGE
    assert "usage: perp-router" in result.stdout + result.stderr


def test_the_version_is_the_projects() -> None:
    """One line."""
    assert run("--version").stdout == f"perp-router {__version__}\n"


def test_settings_that_are_wrong_are_exit_2_with_every_reason() -> None:
    """On standard error, one line each, whatever the command."""
    for command in (["config", "show"], ["serve"], ["localnet"], ["account", "show", "--provider", "drift"]):
        result = run(*command, ROUTER_PORT="x", ROUTER_PROT="1")

        assert result.returncode == Exit.USAGE
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 2
        assert "Traceback" not in result.stderr


def test_config_show_tells_values_and_sources() -> None:
    """For people and as JSON; without secrets."""
    environ = {"ROUTER_PORT": "9000", "ROUTER_RPC_URLS": "https://bob:hunter2@node.example/?api-key=abc"}
    table = run("config", "show", **environ)
    rows = {row["name"]: row for row in json.loads(run("config", "show", "--json", **environ).stdout)}

    assert (rows["ROUTER_PORT"]["value"], rows["ROUTER_PORT"]["source"]) == ("9000", "env")
    assert (rows["ROUTER_HOST"]["value"], rows["ROUTER_HOST"]["source"]) == ("127.0.0.1", "default")
    assert all(row["doc"] for row in rows.values())
    assert len(table.stdout.splitlines()) == len(rows)
    assert "hunter2" not in table.stdout
    assert "api-key=abc" not in table.stdout


def test_a_reader_who_leaves_is_no_error() -> None:
    """`config show | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "router.cli", "config", "show"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == ""


MAINNET = {"ROUTER_NETWORK": "mainnet", "ROUTER_RPC_URLS": "http://127.0.0.1:9"}


@pytest.mark.parametrize("amount", ["0", "-1", "1e3", "NaN", "1.0000001", "１", ""])  # noqa: RUF001 - foreign digit
def test_an_amount_that_is_none_is_exit_2(amount: str) -> None:
    """Before anything is asked of a node."""
    result = run("account", "deposit", "--provider", "drift", f"--amount-usd={amount}", **MAINNET)

    assert result.returncode == Exit.USAGE
    assert "--amount-usd must be" in result.stderr


def test_an_unknown_provider_is_exit_2() -> None:
    """With those that there are."""
    result = run("account", "show", "--provider", "binance")

    assert result.returncode == Exit.USAGE
    assert "there are drift" in result.stderr


def test_money_is_not_moved_on_mainnet_without_a_yes() -> None:
    """Nobody at a terminal, and no --yes."""
    result = run("account", "deposit", "--provider", "drift", "--amount-usd", "10", **MAINNET)

    assert result.returncode == Exit.REFUSED
    assert "nothing was done" in result.stderr


def test_a_person_at_a_terminal_is_asked() -> None:
    """And a no is a no."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
    arguments = [sys.executable, "-m", "router.cli", "account", "init", "--provider", "drift"]
    with subprocess.Popen(  # noqa: S603 - our own command
        arguments, cwd=ROOT, env={**clean, **MAINNET}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        text = b""
        while b"Type yes:" not in text:
            text += os.read(ours, 1000)
        os.write(ours, b"no\n")
        assert process.wait(30) == Exit.REFUSED
    os.close(ours)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimedOut(), Exit.VENUE_UNAVAILABLE),
        (VenueHalted(), Exit.VENUE_UNAVAILABLE),
        (TimedOut(phase=Phase.MAYBE_SENT), Exit.UNKNOWN_OUTCOME),
        (RequestRejected(phase=Phase.MAYBE_SENT), Exit.UNKNOWN_OUTCOME),
        (LiveTradingOff(), Exit.REFUSED),
        (AccountMissing(), Exit.REFUSED),
        (RequestRejected(phase=Phase.ANSWERED), Exit.FAILED),
    ],
)
def test_the_exit_status_tells_what_is_known(error: ProviderError, status: Exit) -> None:
    """What may have been sent is unknown, whatever else the error says."""
    assert exit_of(error) is status
