"""What an operator may set about Jupiter Perps. Defaults are those of the public deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.jupiter.constants import MAIN_POOL, PROGRAM_ID

__all__ = ["JupiterConfig"]

_NAMES: Final = frozenset({"program_id", "pool", "lookup_tables"})


class JupiterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the adapter.

    Attributes:
        program_id: of the deployment.
        pool: whose custodies are traded against.
        lookup_tables: to compile transactions with.
        halt_check_s: how often at most the program is asked whether it still answers instructions.
        quote_lifetime_s: how long a quote is shown as good.
        cancel_margin_s: beyond a request's window on the chain's clock before its owner closes it: the program refuses
            sooner.
    """

    program_id: Pubkey = PROGRAM_ID
    pool: Pubkey = MAIN_POOL
    lookup_tables: tuple[Pubkey, ...] = ()
    halt_check_s: float = 30.0
    quote_lifetime_s: float = 5.0
    cancel_margin_s: int = 1

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> JupiterConfig:
        """Read the provider's own settings (`program_id`, `pool`, `lookup_tables`), all optional.

        Raises:
            ValueError: a name that is not one, or a value that cannot be read.
        """
        given = {name: text.strip() for name, text in settings.items() if text.strip()}
        unknown = sorted(set(given) - _NAMES)
        if unknown:
            raise ValueError(f"jupiter has no setting {', '.join(unknown)}")
        tables = given.get("lookup_tables", "")
        return cls(
            program_id=Pubkey.from_string(given.get("program_id", str(PROGRAM_ID))),
            pool=Pubkey.from_string(given.get("pool", str(MAIN_POOL))),
            lookup_tables=tuple(Pubkey.from_string(each.strip()) for each in tables.split(",") if each.strip()),
        )
