"""Keys stay here: a file is read once, only the public key is ever shown."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NoReturn, Protocol

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey
from solders.pubkey import Pubkey

from providers.solana.base58 import decode_base58

__all__ = ["KeyFileError", "KeypairSigner", "Signer"]

_SECRET_BYTES = 64
_SEED_BYTES = 32
_LARGEST_FILE = 4096


class KeyFileError(Exception):
    """A key file that cannot be used; the message never has anything of its content."""


class Signer(Protocol):
    """Something that signs as one key."""

    @property
    def public_key(self) -> Pubkey:
        """The key that it signs as."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of an ed25519 signature; raise `SignerRefused` when it will not."""
        ...


class KeypairSigner:
    """An ed25519 key in this process, signing with libsodium.

    Args:
        secret: 64 bytes, seed and public key, as the Solana CLI writes them.
    """

    __slots__ = ("_key", "_public_key")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SECRET_BYTES:
            raise KeyFileError(f"a secret key has {_SECRET_BYTES} bytes, not {len(secret)}")
        try:
            self._key = SigningKey(secret[:_SEED_BYTES])
        except (CryptoError, ValueError, TypeError):
            raise KeyFileError("not a secret key") from None
        public = bytes(self._key.verify_key)
        if public != secret[_SEED_BYTES:]:
            raise KeyFileError("the public half of the key does not belong to the secret half")
        self._public_key = Pubkey.from_bytes(public)

    @classmethod
    def from_file(cls, path: str | Path) -> KeypairSigner:
        """Read a key file: 64 numbers as the Solana CLI writes, or base58.

        Raises:
            KeyFileError: not a readable regular file, readable by group or others, or not a key.
        """
        try:
            with Path(path).open("rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise KeyFileError(f"{path} is not a regular file")
                if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    mode = stat.S_IMODE(status.st_mode)
                    raise KeyFileError(f"{path} is open to group or others (mode {mode:04o}): chmod 600 it")
                content = file.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
        return cls(_parse(content, str(path)))

    @property
    def public_key(self) -> Pubkey:
        """The key that it signs as."""
        return self._public_key

    async def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        """Show the public key only."""
        return f"KeypairSigner({self._public_key})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("a signer does not leave its process")


def _parse(content: bytes, path: str) -> bytes:
    if len(content) > _LARGEST_FILE:
        raise KeyFileError(f"{path} is too large for a key")
    text = content.strip()
    try:
        if text.startswith(b"["):
            return bytes(msgspec.json.decode(text, type=list[int]))
        return decode_base58(text.decode("ascii"))
    except (msgspec.DecodeError, ValueError, OverflowError):
        # Not chained: the cause quotes the content.
        raise KeyFileError(f"{path} holds neither 64 numbers nor base58") from None
