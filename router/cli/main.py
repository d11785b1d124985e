"""Arguments, settings, exit status. What a command needs is imported when it runs: `--help` costs next to nothing."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from router import __version__
from router.cli.exits import Exit

if TYPE_CHECKING:
    from router.settings import Settings

__all__ = ["main"]

_DESCRIPTION: Final = """\
A smart order router for perpetual futures: a request fills at most once, on one
provider, and every fill is on record.
"""

_EXAMPLES: Final = """\
examples:
  perp-router serve                          the service, with a cluster of its own (localnet)
  perp-router config show                    every setting, its value and where it came from
  perp-router localnet --reset --slot-ms 20  only the embedded cluster, from the beginning
  ROUTER_NETWORK=devnet ROUTER_RPC_URLS=https://api.devnet.solana.com \\
  ROUTER_KEYPAIR=~/.config/solana/id.json perp-router account init --provider drift

exit status:
  0 done   1 failed   2 usage or settings   3 refused by a limit or rule
  4 unknown outcome: something was sent, and what became of it is not proven yet
  5 venue unavailable   130 interrupted

Settings are environment variables that begin with ROUTER_; flags go before them.
"""

_SERVE: Final = """\
Runs the service in the foreground. The first SIGTERM or SIGINT drains it: it becomes
unready, refuses to open, and gives open orders ROUTER_DRAIN_SECONDS to end; what is
still unclear then is in the ledger and goes on at the next start. A second one ends it.

  perp-router serve
  perp-router serve --port 9000
  curl localhost:8080/health/ready
"""

_LOCALNET: Final = """\
Runs Solana's runtime with a modelled (or the real) Drift in this process, and answers
JSON-RPC as any cluster does. Its state survives a restart; --reset forgets it.

  perp-router localnet --port 8899
  perp-router localnet --drift-so drift.so    the real program, from a file of yours
  ROUTER_RPC_URLS=http://127.0.0.1:8899 perp-router serve
"""

_ACCOUNT: Final = """\
The account that trades on a venue: made once, filled with collateral, looked at.

  perp-router account init --provider drift
  perp-router account deposit --provider drift --amount-usd 1000
  perp-router account show --provider drift --json
  perp-router account unwrap --provider jupiter
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] | None = getattr(parsed, "command", None)
    if command is None:
        parsed.parser.print_help()
        return Exit.USAGE
    try:
        return command(parsed)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of standard output went away (`| head`); the interpreter must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _parser() -> argparse.ArgumentParser:
    parser = _new_parser(argparse.ArgumentParser, "perp-router", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--version", action="version", version=f"perp-router {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    parser.set_defaults(parser=parser)

    serve = _add(commands.add_parser, "serve", "run the service", _SERVE, _serve)
    serve.add_argument("--host", help="address to listen on (ROUTER_HOST)")
    serve.add_argument("--port", help="port to listen on, 0 for a free one (ROUTER_PORT)")

    localnet = _add(commands.add_parser, "localnet", "run only the embedded cluster", _LOCALNET, _localnet)
    localnet.add_argument(
        "--reset", action="store_true", help="forget its state: a new cluster with a new genesis hash"
    )
    localnet.add_argument("--port", help="port of its JSON-RPC (ROUTER_LOCALNET_PORT)")
    localnet.add_argument("--slot-ms", help="slot time in milliseconds (ROUTER_LOCALNET_SLOT_MS)")
    localnet.add_argument("--drift-so", help="the real Drift program, in place of the model (ROUTER_DRIFT_SO)")

    account = _add(commands.add_parser, "account", "the account on a venue", _ACCOUNT, None)
    acts = account.add_subparsers(metavar="ACT", title="acts")
    acts_help = (
        ("init", "make it"),
        ("deposit", "put collateral in"),
        ("show", "what it holds"),
        ("unwrap", "turn wrapped SOL that the venue paid into SOL"),
    )
    for name, help_text in acts_help:
        act = _add(acts.add_parser, name, help_text, _ACCOUNT, _account)
        act.set_defaults(act=name)
        act.add_argument("--provider", required=True, help="the venue, such as drift")
        act.add_argument("--json", action="store_true", help="print JSON")
        if name == "deposit":
            act.add_argument("--amount-usd", required=True, help="dollars of collateral, a plain decimal number")
        if name != "show":
            act.add_argument("--yes", action="store_true", help="do not ask (needed on mainnet without a terminal)")

    config = _add(commands.add_parser, "config", "settings", "What the settings are, and where each came from.", None)
    shows = config.add_subparsers(metavar="ACT", title="acts")
    show = _add(shows.add_parser, "show", "print every setting", "Every setting, secrets replaced.", _config_show)
    show.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _new_parser(
    make: Callable[..., argparse.ArgumentParser], name: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    return make(
        name,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An abbreviation that works today may mean another flag tomorrow.
        allow_abbrev=False,
    )


def _add(
    add_parser: Callable[..., argparse.ArgumentParser],
    name: str,
    help_text: str,
    description: str,
    command: Callable[[argparse.Namespace], int] | None,
) -> argparse.ArgumentParser:
    def make(name: str, **options: object) -> argparse.ArgumentParser:
        return add_parser(name, help=help_text, **options)

    parser = _new_parser(make, name, description, "")
    parser.set_defaults(command=command, parser=parser)
    return parser


# --- commands --------------------------------------------------------------------------------------------------------


def _settings(**flags: str | None) -> Settings | None:
    """Return the settings, or nothing after telling what is wrong with them."""
    from router.settings import Settings, SettingsError  # noqa: PLC0415 - lazy

    given = {f"ROUTER_{name.upper()}": value for name, value in flags.items() if value is not None}
    try:
        return Settings.load(os.environ, given)
    except SettingsError as error:
        complain(*error.problems)
        return None


def complain(*lines: str) -> None:
    """Tell people what is wrong; data goes to standard output, talk does not."""
    for line in lines:
        print(f"perp-router: {line}", file=sys.stderr)  # noqa: T201 - a command talks


def _serve(arguments: argparse.Namespace) -> int:
    settings = _settings(host=arguments.host, port=arguments.port)
    if settings is None:
        return Exit.USAGE
    from router.cli.serve import serve  # noqa: PLC0415 - lazy

    return serve(settings)


def _localnet(arguments: argparse.Namespace) -> int:
    settings = _settings(localnet_port=arguments.port, localnet_slot_ms=arguments.slot_ms, drift_so=arguments.drift_so)
    if settings is None:
        return Exit.USAGE
    from router.cli.venue import localnet  # noqa: PLC0415 - lazy

    return localnet(settings, reset=arguments.reset)


def _account(arguments: argparse.Namespace) -> int:
    settings = _settings()
    if settings is None:
        return Exit.USAGE
    from router.cli.venue import account  # noqa: PLC0415 - lazy

    return account(
        settings,
        act=arguments.act,
        provider=arguments.provider,
        amount_usd=getattr(arguments, "amount_usd", None),
        sure=getattr(arguments, "yes", False),
        as_json=arguments.json,
    )


def _config_show(arguments: argparse.Namespace) -> int:
    settings = _settings()
    if settings is None:
        return Exit.USAGE
    from router.cli.show import show_settings  # noqa: PLC0415 - lazy

    return show_settings(settings, as_json=arguments.json)
