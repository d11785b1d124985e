"""Who is calling: API keys by their hashes, or, without a key file, everybody on this machine as `local`."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers.base import BaseRouteHandler

from router.api.problems import ApiError
from router.settings import SettingsError

__all__ = ["LOCAL_CALLER", "ApiKeys", "guard_for"]

LOCAL_CALLER: Final = "local"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ApiKeys:
    """Callers by the SHA-256 of their keys. The keys themselves are nowhere."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._digests = tuple((name, bytes.fromhex(digest)) for name, digest in digests.items())

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Read lines of `name:sha256hex` (`#` begins a comment), or one JSON object `{"name": "sha256hex"}`.

        Raises:
            SettingsError: the file cannot be read, says nothing, or says something else.
        """
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError((f"ROUTER_API_KEYS_FILE cannot be read: {error}",)) from error
        return cls(_digests(text))

    def caller(self, authorization: str) -> str | None:
        """Return the name that an `Authorization` header proves. Takes the same time whatever is wrong with it."""
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        found: str | None = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found if scheme.lower() == "bearer" else None


def _digests(text: str) -> dict[str, str]:
    problems: list[str] = []
    pairs: list[tuple[str, str]] = []
    if text.lstrip().startswith("{"):
        try:
            pairs = list(msgspec.json.decode(text, type=dict[str, str]).items())
        except msgspec.DecodeError as error:
            problems.append(f"ROUTER_API_KEYS_FILE is not JSON of names and hashes: {error}")
    else:
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        pairs = [(name.strip(), digest.strip()) for name, _, digest in (line.partition(":") for line in lines if line)]
    for position, (name, digest) in enumerate(pairs, start=1):
        # What stands there may be a key that somebody pasted: it is never repeated.
        if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest):
            problems.append(f"ROUTER_API_KEYS_FILE, entry {position}: is not name:sha256 (64 hexadecimal digits)")
    for values, what in (([name for name, _ in pairs], "name"), ([digest for _, digest in pairs], "key")):
        if len(set(values)) < len(values):
            problems.append(f"ROUTER_API_KEYS_FILE has a {what} twice")
    if not pairs and not problems:
        problems.append("ROUTER_API_KEYS_FILE names nobody")
    if problems:
        raise SettingsError(tuple(problems))
    return dict(pairs)


class _Guard:
    """Puts the caller's name on the connection, or refuses."""

    def __init__(self, keys: ApiKeys | None) -> None:
        self._keys = keys

    async def __call__(
        self, connection: ASGIConnection[BaseRouteHandler, str, None, State], _handler: BaseRouteHandler
    ) -> None:
        if self._keys is None:
            # A web page may point a name of its own at this machine (DNS rebinding); it cannot point an address.
            if not _is_own_host(connection.headers.get("host", "")):
                raise ApiError("host_not_allowed", "without API keys only localhost and addresses are answered")
            caller: str | None = LOCAL_CALLER
        else:
            caller = self._keys.caller(connection.headers.get("authorization", ""))
        if caller is None:
            raise ApiError("unauthorized", "no valid API key", headers={"WWW-Authenticate": 'Bearer realm="router"'})
        connection.scope["user"] = caller
        connection.scope["state"]["caller"] = caller


def guard_for(keys: ApiKeys | None) -> _Guard:
    """Return the guard of every address that trades or tells about trades."""
    return _Guard(keys)


def _is_own_host(host: str) -> bool:
    name = re.sub(r":[0-9]*$", "", host).strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
