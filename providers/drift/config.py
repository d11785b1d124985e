"""What an operator may set about Drift. Defaults are those of the public deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.drift.constants import PROGRAM_ID

__all__ = ["DriftConfig"]

_MAX_AUCTION_SLOTS: Final = 255


class DriftConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the adapter.

    Attributes:
        program_id: of the deployment.
        sub_account_id: that trades.
        authority: owner of the account; the signer when null (a delegate signs for another's account).
        lookup_tables: to compile transactions with.
        makers: user accounts whose resting orders a taking order may be matched with.
        auction_slots: length of the auction of an order that rests; the exchange's minimum where that is longer.
        markets_max_age_s: how long the list of markets is used before it is read again.
        halt_check_s: how often at most the program is asked whether it still answers instructions.
        quote_lifetime_s: how long a quote is shown as good.
        expiry_margin_s: beyond an order's `max_ts` on the finalized chain's clock before its end counts as proven.
    """

    program_id: Pubkey = PROGRAM_ID
    sub_account_id: int = 0
    authority: Pubkey | None = None
    lookup_tables: tuple[Pubkey, ...] = ()
    makers: tuple[Pubkey, ...] = ()
    auction_slots: int = 10
    markets_max_age_s: float = 60.0
    halt_check_s: float = 30.0
    quote_lifetime_s: float = 5.0
    expiry_margin_s: int = 3

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> DriftConfig:
        """Read the provider's own settings (`program_id`, `sub_account_id`, `authority`, ...), all optional.

        Raises:
            ValueError: a name that is not one, or a value that cannot be read.
        """
        given = {name: text.strip() for name, text in settings.items() if text.strip()}
        unknown = sorted(set(given) - {"program_id", "sub_account_id", "authority", *_KEY_LISTS, "auction_slots"})
        if unknown:
            raise ValueError(f"drift has no setting {', '.join(unknown)}")
        auction_slots = int(given.get("auction_slots", cls().auction_slots))
        if not 0 < auction_slots <= _MAX_AUCTION_SLOTS:
            raise ValueError(f"auction_slots must be from 1 to {_MAX_AUCTION_SLOTS}")
        return cls(
            program_id=Pubkey.from_string(given.get("program_id", str(PROGRAM_ID))),
            sub_account_id=int(given.get("sub_account_id", "0")),
            authority=Pubkey.from_string(given["authority"]) if "authority" in given else None,
            auction_slots=auction_slots,
            lookup_tables=_keys(given.get("lookup_tables", "")),
            makers=_keys(given.get("makers", "")),
        )


_KEY_LISTS: Final = ("lookup_tables", "makers")


def _keys(text: str) -> tuple[Pubkey, ...]:
    return tuple(Pubkey.from_string(each.strip()) for each in text.split(",") if each.strip())
