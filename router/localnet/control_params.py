"""What the controls of every venue share: parameters as frozen structs, and the way from a request's body to an act."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeVar

import msgspec
from solders.pubkey import Pubkey

from router.localnet.wire import Json

__all__ = [
    "Confidence",
    "ForeignTrade",
    "Freeze",
    "MarketSwitch",
    "Owned",
    "OwnedSwitch",
    "OwnedUsd",
    "Params",
    "Running",
    "Switch",
    "control",
    "positive",
]

P = TypeVar("P", bound=msgspec.Struct)


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a control."""


class Freeze(Params, frozen=True, kw_only=True):
    """Whether a market's price is published."""

    market: str
    frozen: bool = True


class Confidence(Params, frozen=True, kw_only=True):
    """Half width of a price's interval, in dollars."""

    market: str
    confidence: Decimal


class MarketSwitch(Params, frozen=True, kw_only=True):
    """Something of one market, on or off."""

    market: str
    on: bool = True


class Switch(Params, frozen=True, kw_only=True):
    """Something of the whole venue, on or off."""

    on: bool = True


class Running(Params, frozen=True, kw_only=True):
    """Whether somebody works."""

    running: bool = True


class ForeignTrade(Params, frozen=True, kw_only=True):
    """A trade past the router; base in whole units."""

    market: str
    side: Literal["long", "short"]
    base: Decimal


class Owned(Params, frozen=True, kw_only=True):
    """A control of one account: the world's trader's when no wallet is named."""

    authority: str | None = None

    def key(self) -> Pubkey | None:
        """Return the wallet whose account is meant."""
        return None if self.authority is None else Pubkey.from_string(self.authority)


class OwnedUsd(Owned, frozen=True, kw_only=True):
    """An account's money, in dollars."""

    usd: Decimal


class OwnedSwitch(Owned, frozen=True, kw_only=True):
    """Something of one account, on or off."""

    on: bool = True


def control(kind: type[P], act: Callable[[P], str | None]) -> Callable[[bytes], Json]:
    """Return what decodes one object of parameters, acts, and answers `true` or what the act says.

    What it returns raises `ValueError` for a market that there is not, and for what does not decode.
    """
    decoder = msgspec.json.Decoder(kind)

    def handler(body: bytes) -> Json:
        try:
            answer = act(decoder.decode(body))
        except KeyError as error:
            raise ValueError(f"no market {error}") from None
        return True if answer is None else answer

    return handler


def positive(price: Decimal) -> Decimal:
    """Return a price that is one; raise `ValueError` where it is not."""
    if price <= 0:
        raise ValueError("a price is positive")
    return price
