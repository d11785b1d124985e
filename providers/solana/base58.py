"""Base58 as Solana writes bytes of any length (keys and signatures have their own, faster types in solders)."""

from __future__ import annotations

__all__ = ["decode_base58", "encode_base58"]

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}


def decode_base58(text: str) -> bytes:
    """Return the bytes that `text` stands for; raise `ValueError` at a character that is not base58."""
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            raise ValueError("not base58")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode_base58(data: bytes) -> str:
    """Return `data` in base58; each leading zero byte is a `1`."""
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, value = divmod(number, 58)
        text = _ALPHABET[value] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text
