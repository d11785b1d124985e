"""Jupiter Perps' numbers and enumerations, as its program has them. Integers only.

Scales: dollars and prices 1e6, basis points 1e4, rates and cumulative interest 1e9, debt 1e9 on top of its token's
decimals, `maxLeverage` in basis points (5,000,000 is 500 times).

Source: the interface description in `idl/jupiter_perps.json`, live accounts, and the venue's published examples; the
program itself is closed source.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum
from typing import Final

import msgspec
from solders.pubkey import Pubkey

__all__ = [
    "BASES",
    "BPS",
    "CLOCK_SYSVAR",
    "DBPS",
    "EVENT_TAG",
    "HOURS_PER_YEAR",
    "MAIN_POOL",
    "MOST_LEVERAGE",
    "NATIVE_MINT",
    "POSITION_BYTES",
    "PROGRAM_ID",
    "RATE_ONE",
    "REQUEST_BYTES",
    "SECONDS_PER_HOUR",
    "TOKENS",
    "TOKEN_ACCOUNT_BYTES",
    "USDC_MINT",
    "USD_DECIMALS",
    "USD_ONE",
    "BaseUnits",
    "RequestChange",
    "RequestType",
    "Side",
]

PROGRAM_ID: Final = Pubkey.from_string("PERPHjGBqRHArX4DySjwM6UJHiR3sWAatqfdBS2qQJu")
MAIN_POOL: Final = Pubkey.from_string("5BUwFW4nRbftYTDMbgxykoFWqWHPzahFSNAaaaJtVKsq")
CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")

NATIVE_MINT: Final = Pubkey.from_string("So11111111111111111111111111111111111111112")
USDC_MINT: Final = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")

TOKENS: Final = {
    NATIVE_MINT: "SOL",
    Pubkey.from_string("7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"): "ETH",
    Pubkey.from_string("3NZ9JMVBmGAqocybic2c7LQCJScmgsAZ6vQqTDzcqmJh"): "BTC",
    USDC_MINT: "USDC",
    Pubkey.from_string("Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"): "USDT",
    Pubkey.from_string("JuprjznTrTSp2UFa3ZBUFgwdAmtZCq4MQCwysN55USD"): "JupUSD",
}
"""Symbols by mint. A custody of another mint is neither a market nor collateral of this adapter."""

USD_DECIMALS: Final = 6
USD_ONE: Final = 10**USD_DECIMALS
BPS: Final = 10_000
DBPS: Final = 100_000
RATE_ONE: Final = 1_000_000_000
SECONDS_PER_HOUR: Final = 3_600
HOURS_PER_YEAR: Final = 8_760

# The venue's own interface offers no more. The program's `maxLeverage` (500 times) is where it liquidates: a position
# opened at it would be gone at once.
MOST_LEVERAGE: Final = Decimal(250)

# What Anchor puts before an event that a program records by calling itself.
EVENT_TAG: Final = bytes.fromhex("e445a52e51cb9a1d")

# Bytes of accounts that a trader pays the rent of.
POSITION_BYTES: Final = 216
REQUEST_BYTES: Final = 312
TOKEN_ACCOUNT_BYTES: Final = 165


class BaseUnits(msgspec.Struct, frozen=True, kw_only=True):
    """In which steps a market's base sizes go. The venue keeps positions in dollars of their entry price.

    Attributes:
        step: of an order's size. A dollar amount of 1e-6 stands for 1e-6 / price of base; rounding a size's dollars to
            the nearest such amount moves it by at most half of that. It is less than half a step, so that the size can
            be worked out again exactly, wherever the price is above 1e-6 / step: above 0.1 dollars for SOL, 1 for ETH
            and 10 for BTC. It is also the smallest order: the program knows no minimum.
        unit: what fills and holdings are rounded down to. A unit is worth less than half a dollar's 1e-6 at prices up
            to 0.5e-6 / unit (500 dollars for SOL, 5,000 for ETH, 500,000 for BTC), so that its dollars at the entry
            price come out exactly; above, by the few 1e-6 dollars that a unit is worth.
    """

    step: Decimal
    unit: Decimal


BASES: Final = {
    "SOL": BaseUnits(step=Decimal("0.00001"), unit=Decimal("1e-9")),
    "ETH": BaseUnits(step=Decimal("0.000001"), unit=Decimal("1e-10")),
    "BTC": BaseUnits(step=Decimal("0.0000001"), unit=Decimal("1e-12")),
}
"""Markets by the symbol of their token."""


class Side(IntEnum):
    """Side of a position; also the last byte of its address."""

    NONE = 0
    LONG = 1
    SHORT = 2


class RequestChange(IntEnum):
    """What a request asks for; also the last byte of its address."""

    NONE = 0
    INCREASE = 1
    DECREASE = 2


class RequestType(IntEnum):
    """When a request is executed: at once, or once its trigger price is reached."""

    MARKET = 0
    TRIGGER = 1
