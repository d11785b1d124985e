"""Pyth's first price accounts ("v2 price account"), as Drift reads them: built, read and edited as bytes."""

from __future__ import annotations

import struct
from decimal import Decimal

import msgspec
from solders.account import Account
from solders.pubkey import Pubkey

from router.localnet.spl import rent_exempt

__all__ = ["PYTH_PROGRAM", "PythPrice", "price_account", "read_price", "with_price"]

PYTH_PROGRAM = Pubkey.from_string("FsJ3A3u2vn5cTVofAjvy6y5kwABJAqYWpe4975bi2epH")

_SIZE = 3_312
_MAGIC, _VERSION, _PRICE_ACCOUNT, _PRICE_TYPE = 0xA1B2C3D4, 2, 3, 1
_EXPONENT = -8
_SCALE = Decimal(10) ** -_EXPONENT
_PUBLISHERS = 20
_TRADING = 1

_HEAD = struct.Struct("<IIIIIiII")
_SLOTS = struct.Struct("<QQ")  # last_slot, valid_slot
_AVERAGE = struct.Struct("<q")
_AGGREGATE = struct.Struct("<qQIIQ")  # price, conf, status, corporate action, published slot
_SLOTS_AT, _PRICE_AVERAGE_AT, _CONF_AVERAGE_AT, _AGGREGATE_AT = 32, 48, 72, 208


class PythPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a price account says.

    Attributes:
        price, confidence: in dollars; 8 decimals are kept.
        slot: the last slot with a valid price.
    """

    price: Decimal
    confidence: Decimal
    slot: int


def price_account(quote: PythPrice) -> Account:
    """Return a price account with 20 publishers."""
    data = bytearray(_SIZE)
    _HEAD.pack_into(data, 0, _MAGIC, _VERSION, _PRICE_ACCOUNT, _SIZE, _PRICE_TYPE, _EXPONENT, _PUBLISHERS, _PUBLISHERS)
    return with_price(Account(rent_exempt(_SIZE), bytes(data), PYTH_PROGRAM), quote)


def read_price(account: Account) -> PythPrice:
    """Return what the account says now."""
    price, confidence, _, _, _ = _AGGREGATE.unpack_from(account.data, _AGGREGATE_AT)
    _, valid_slot = _SLOTS.unpack_from(account.data, _SLOTS_AT)
    return PythPrice(price=Decimal(price) / _SCALE, confidence=Decimal(confidence) / _SCALE, slot=valid_slot)


def with_price(account: Account, quote: PythPrice) -> Account:
    """Return the account with this price; the averages follow at once."""
    price, confidence = int(quote.price * _SCALE), int(quote.confidence * _SCALE)
    data = bytearray(account.data)
    _SLOTS.pack_into(data, _SLOTS_AT, quote.slot, quote.slot)
    _AVERAGE.pack_into(data, _PRICE_AVERAGE_AT, price)
    _AVERAGE.pack_into(data, _CONF_AVERAGE_AT, confidence)
    _AGGREGATE.pack_into(data, _AGGREGATE_AT, price, confidence, _TRADING, 0, quote.slot)
    return Account(account.lamports, bytes(data), account.owner)
