"""`localnet` and `account`: the composition root does the work; here it is called, and its end is told."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, Final, TypeVar

from providers.base.errors import ErrorClass, Phase, ProviderError
from providers.solana.signer import KeyFileError
from router import accounts, service
from router.cli.exits import Exit
from router.cli.main import complain
from router.cli.show import show_document
from router.engine.requests import Refusal
from router.ledger.protocol import LedgerError
from router.ops.log import configure_logging
from router.service import ServiceError
from router.settings import KNOWN_PROVIDERS, Network, Settings, SettingsError

__all__ = ["account", "exit_of", "localnet"]

T = TypeVar("T")

_AMOUNT: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,6})?")
_UNAVAILABLE: Final = frozenset({ErrorClass.CONNECTION, ErrorClass.CAPACITY})
_REFUSED: Final = frozenset({ErrorClass.POLICY, ErrorClass.INVALID, ErrorClass.COLLATERAL, ErrorClass.VENUE_ACCOUNT})


def exit_of(error: ProviderError) -> Exit:
    """Return the exit status of a venue's error. What may have been sent is an unknown outcome, whatever its class."""
    if error.phase is Phase.MAYBE_SENT:
        return Exit.UNKNOWN_OUTCOME
    if error.error_class in _UNAVAILABLE:
        return Exit.VENUE_UNAVAILABLE
    return Exit.REFUSED if error.error_class in _REFUSED else Exit.FAILED


def localnet(settings: Settings, *, reset: bool) -> int:
    """Run the embedded cluster until it is told to end."""
    if settings.network is not Network.LOCALNET:
        complain(f"ROUTER_NETWORK is {settings.network}: there is nothing to run")
        return Exit.USAGE
    configure_logging(settings.log_level)
    return _finish(service.run_localnet(settings, reset))[0]


def account(settings: Settings, *, act: str, provider: str, amount_usd: str | None, sure: bool, as_json: bool) -> int:
    """Make, fill, show or unwrap the account on a venue, and print what became of it."""
    if provider not in KNOWN_PROVIDERS:
        complain(f"{provider} is not a provider; there are {', '.join(KNOWN_PROVIDERS)}")
        return Exit.USAGE
    if amount_usd is not None and (not _AMOUNT.fullmatch(amount_usd) or Decimal(amount_usd) == 0):
        complain("--amount-usd must be a plain decimal number above zero, with at most 6 digits after the point")
        return Exit.USAGE
    if act != "show" and not (settings.network is not Network.MAINNET or sure or _agreed(act, provider, amount_usd)):
        complain("nothing was done; --yes does it without asking")
        return Exit.REFUSED
    configure_logging(settings.log_level, sys.stderr)
    if act == "init":
        work: Coroutine[Any, Any, object] = accounts.account_init(settings, provider)
    elif act == "unwrap":
        work = accounts.account_unwrap(settings, provider)
    elif amount_usd is not None:
        work = accounts.account_deposit(settings, provider, Decimal(amount_usd))
    else:
        work = accounts.account_show(settings, provider)
    status, document = _finish(work)
    if status is Exit.DONE:
        show_document(document, as_json=as_json)
    return status


def _agreed(act: str, provider: str, amount_usd: str | None) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{act} {amount_usd or ''} on {provider}, mainnet. Type yes: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == "yes"


def _finish(work: Coroutine[Any, Any, T]) -> tuple[Exit, T | None]:
    try:
        return Exit.DONE, asyncio.run(work)
    except SettingsError as error:
        complain(*error.problems)
        return Exit.USAGE, None
    except (ServiceError, KeyFileError) as error:
        complain(str(error))
        return Exit.USAGE, None
    except (LedgerError, OSError) as error:
        complain(str(error))
        return Exit.FAILED, None
    except Refusal as error:
        complain(f"{error.code}: {error.detail}")
        return Exit.REFUSED, None
    except ProviderError as error:
        complain(str(error))
        return exit_of(error), None
