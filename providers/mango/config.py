"""What an operator may set about Mango. Defaults are those of the public deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.mango.constants import MAIN_GROUP, PROGRAM_ID

__all__ = ["MangoConfig"]

_NAMES: Final = frozenset({"program_id", "group", "account_num", "authority", "lookup_tables", "match_limit"})
_MAX_MATCH_LIMIT: Final = 255


class MangoConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the adapter.

    Attributes:
        program_id: of the deployment.
        group: whose markets are traded.
        account_num: of the trading account.
        authority: owner of the account; the signer when null (a delegate signs for another's account).
        lookup_tables: to compile transactions with, besides the group's own.
        match_limit: how many resting orders one order may match, 1 to 255; each costs 7,000 compute units.
        markets_max_age_s: how long the list of markets is used before it is read again.
        halt_check_s: how often at most the program is asked whether it still answers instructions.
        quote_lifetime_s: how long a quote is shown as good.
        expiry_margin_s: beyond an order's expiry on the finalized chain's clock before its end counts as proven.
    """

    program_id: Pubkey = PROGRAM_ID
    group: Pubkey = MAIN_GROUP
    account_num: int = 0
    authority: Pubkey | None = None
    lookup_tables: tuple[Pubkey, ...] = ()
    match_limit: int = 30
    markets_max_age_s: float = 60.0
    halt_check_s: float = 30.0
    quote_lifetime_s: float = 5.0
    expiry_margin_s: int = 3

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> MangoConfig:
        """Read the provider's own settings (`program_id`, `group`, `account_num`, ...), all optional.

        Raises:
            ValueError: a name that is not one, or a value that cannot be read.
        """
        given = {name: text.strip() for name, text in settings.items() if text.strip()}
        unknown = sorted(set(given) - _NAMES)
        if unknown:
            raise ValueError(f"mango has no setting {', '.join(unknown)}")
        account_num = int(given.get("account_num", "0"))
        if not 0 <= account_num < 1 << 32:
            raise ValueError("account_num must fit 32 bits")
        match_limit = int(given.get("match_limit", cls().match_limit))
        if not 0 < match_limit <= _MAX_MATCH_LIMIT:
            raise ValueError(f"match_limit must be from 1 to {_MAX_MATCH_LIMIT}")
        return cls(
            program_id=Pubkey.from_string(given.get("program_id", str(PROGRAM_ID))),
            group=Pubkey.from_string(given.get("group", str(MAIN_GROUP))),
            account_num=account_num,
            authority=Pubkey.from_string(given["authority"]) if "authority" in given else None,
            lookup_tables=_keys(given.get("lookup_tables", "")),
            match_limit=match_limit,
        )


def _keys(text: str) -> tuple[Pubkey, ...]:
    return tuple(Pubkey.from_string(each.strip()) for each in text.split(",") if each.strip())
