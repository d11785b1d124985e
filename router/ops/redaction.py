"""Secrets in text: found by the name that they stand under, and by what they are."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from nacl.bindings import crypto_sign_seed_keypair

__all__ = ["REDACTED", "is_secret_name", "redact_text", "redact_url"]

REDACTED: Final = "[redacted]"

# Whole words between underscores: `keypair` is a secret, `public_key` and `idempotency_key` are not.
_SECRET_NAMES = re.compile(
    r"(?:^|_)(?:authorization|password|passwd|passphrase|secrets?|api_?key|access_?key|private_?key|secret_?key"
    r"|key_?bytes|keypair|mnemonic|seed_?phrase|cookie|credentials?)(?:$|_)"
    # A token account is an address on Solana; only a name that ends in token is a key.
    r"|(?:^|_)token$"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>\\]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
# A Solana key file: 64 numbers. Half of one (32 numbers, a seed) is no less secret.
_NUMBERS = re.compile(r"\[\s*(?:\d{1,3}\s*,\s*){31,63}\d{1,3}\s*\]")
_BASE58 = re.compile(r"(?<![1-9A-HJ-NP-Za-km-z])[1-9A-HJ-NP-Za-km-z]{80,90}(?![1-9A-HJ-NP-Za-km-z])")
_HEX = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{128}(?![0-9a-fA-F])")
# Node vendors put the caller's key into the path; ordinary words and versions are shorter.
_LONG_SEGMENT = re.compile(r"[A-Za-z0-9_-]{16,}")
_ALPHABET = {digit: value for value, digit in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def is_secret_name(name: str) -> bool:
    """Whether a value under this name is never shown."""
    return _SECRET_NAMES.search(name.lower().replace("-", "_")) is not None


def redact_url(url: str) -> str:
    """Return the URL without user, password, query values, fragment, and long path segments."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return REDACTED
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    user = f"{REDACTED}@" if "@" in parts.netloc else ""
    path = "/".join(REDACTED if _LONG_SEGMENT.fullmatch(segment) else segment for segment in parts.path.split("/"))
    # The path of a database file is not a secret, and is what the operator wants to see.
    path = parts.path if parts.scheme in {"sqlite", "file"} else path
    query = "&".join(f"{item.partition('=')[0]}={REDACTED}" for item in parts.query.split("&") if item)
    return f"{parts.scheme}://{user}{host}{port}{path}" + (f"?{query}" if query else "")


def redact_text(text: str) -> str:
    """Return `text` with URLs made safe, and bearer tokens and Solana secret keys replaced.

    A 64-byte secret key and a signature look alike in base58. A secret key ends with the public key of its first half,
    and a signature does not: only the former is replaced.
    """
    if "://" in text:
        text = _URL.sub(lambda match: redact_url(match.group()), text)
    if len(text) >= len("basic 123456"):
        text = _BEARER.sub(lambda match: f"{match.group(1)} {REDACTED}", text)
    if len(text) < 2 * 32:
        return text
    text = _NUMBERS.sub(REDACTED, text)
    text = _BASE58.sub(lambda match: _unless_signature(match.group(), _base58_bytes(match.group())), text)
    return _HEX.sub(lambda match: _unless_signature(match.group(), bytes.fromhex(match.group())), text)


def _unless_signature(text: str, data: bytes) -> str:
    is_key = len(data) == 64 and crypto_sign_seed_keypair(data[:32])[0] == data[32:]  # noqa: PLR2004 - ed25519
    return REDACTED if is_key else text


def _base58_bytes(text: str) -> bytes:
    number = 0
    for digit in text:
        number = number * 58 + _ALPHABET[digit]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
