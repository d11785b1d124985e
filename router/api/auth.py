"""Who is calling, and what they may: API keys by their hashes, or, without a key file, everybody here as `local`."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol, cast

import msgspec
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers.base import BaseRouteHandler
from litestar.types import HTTPScope

from providers.base.clock import Clock
from router.api.operations import SCOPES, Operation, Scope
from router.api.problems import ApiError
from router.api.rates import RateLimiter
from router.settings import SettingsError

__all__ = ["DEFAULT_SCOPES", "LOCAL_CALLER", "ApiKeys", "Caller", "KeyRing", "Keys", "guard_for"]

logger = logging.getLogger(__name__)

DEFAULT_SCOPES: Final[frozenset[Scope]] = frozenset({"trade", "read"})
"""Of a key whose line names none: what every key could do before there were scopes, less an operator's switches. A key
that is to stop everybody, or to write off a finding, says so."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS_PER_NAME: Final = 2
"""The old key and the new one, while a caller changes over; idempotency and the rate limit belong to the name."""
_LOOK_S: Final = 1.0
"""How long a changed key file may go unnoticed; a SIGHUP has it read at once."""


Guard = Callable[[ASGIConnection[BaseRouteHandler, str, None, State], BaseRouteHandler], Awaitable[None]]


class Caller(msgspec.Struct, frozen=True):
    """A caller by name. Who may trade or switch may also read: nobody could see what came of it otherwise."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether an operation of this scope is open to the caller."""
        return scope in self.scopes or scope == "read"


LOCAL_CALLER: Final = Caller("local", frozenset(SCOPES))


class Keys(Protocol):
    """Callers by their keys."""

    def caller(self, authorization: str) -> Caller | None:
        """Return the caller that an `Authorization` header proves; null for none."""
        ...

    @property
    def problem(self) -> str | None:
        """What is wrong with the key file that is not in use for it; null when nothing is."""
        ...


class ApiKeys:
    """Callers by the SHA-256 of their keys. The keys themselves are nowhere."""

    problem: str | None = None

    def __init__(self, callers: tuple[tuple[Caller, bytes], ...]) -> None:
        self._callers = callers

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Read a key file; raise `SettingsError` where it cannot be read, says nothing, or says something else."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError((f"ROUTER_API_KEYS_FILE cannot be read: {error}",)) from error
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> ApiKeys:
        """Read lines of `name:sha256hex` or `name:sha256hex:scope,scope` (`#` begins a comment).

        The same as one JSON object: `{"name": "sha256hex", "other": "sha256hex:read"}`.

        Raises:
            SettingsError: naming every entry that is wrong, without a word of what stands there.
        """
        return cls(_entries(text))

    def caller(self, authorization: str) -> Caller | None:
        """Return who an `Authorization` header proves. Takes the same time whatever is wrong with it."""
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        found: Caller | None = None
        for caller, known in self._callers:
            if hmac.compare_digest(digest, known):
                found = caller
        return found if scheme.lower() == "bearer" else None


class KeyRing:
    """The callers of a file that may change while the service runs.

    A file that cannot be used changes nothing: the keys from before go on, and `problem` says why.

    Attributes:
        rejected: called once for each version of the file that cannot be used.
    """

    def __init__(self, path: Path, clock: Clock, rejected: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._clock = clock
        self.rejected = rejected
        # Before the reading: what is written in between is seen as a change.
        self._stamp = _stamp(path)
        self._keys = ApiKeys.read(path)
        self._looked_at = clock.monotonic()
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with the file as it is now."""
        self._look()
        return self._problem

    def caller(self, authorization: str) -> Caller | None:
        """Return who an `Authorization` header proves, by the newest file that can be used."""
        self._look()
        return self._keys.caller(authorization)

    def reload(self) -> None:
        """Read the file now, changed or not."""
        self._stamp = _stamp(self._path)
        try:
            self._keys = ApiKeys.read(self._path)
        except SettingsError as error:
            self._problem = "; ".join(error.problems)
            self.rejected()
            logger.error("api_keys_rejected", extra={"detail": self._problem})  # noqa: TRY400 - the text says it all
            return
        self._problem = None
        logger.info("api_keys_loaded")

    def _look(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        if _stamp(self._path) != self._stamp:
            self.reload()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file: also when another one takes its place, as mounted secrets do."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _entries(text: str) -> tuple[tuple[Caller, bytes], ...]:
    problems: list[str] = []
    pairs: list[tuple[str, str]] = []
    if text.lstrip().startswith("{"):
        try:
            pairs = list(msgspec.json.decode(text, type=dict[str, str]).items())
        except msgspec.DecodeError as error:
            problems.append(f"ROUTER_API_KEYS_FILE is not JSON of names and hashes: {error}")
    else:
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        pairs = [(name.strip(), rest.strip()) for name, _, rest in (line.partition(":") for line in lines if line)]
    entries: list[tuple[Caller, bytes]] = []
    for position, (name, rest) in enumerate(pairs, start=1):
        entry = _entry(name, rest)
        # What stands there may be a key that somebody pasted: it is never repeated.
        if isinstance(entry, str):
            problems.append(f"ROUTER_API_KEYS_FILE, entry {position}: {entry}")
        else:
            entries.append(entry)
    names, digests = [name for name, _ in pairs], [digest for _, digest in entries]
    if any(names.count(name) > _KEYS_PER_NAME for name in names):
        problems.append(f"ROUTER_API_KEYS_FILE has a name more than {_KEYS_PER_NAME} times")
    if len(set(digests)) < len(digests):
        problems.append("ROUTER_API_KEYS_FILE has a key twice")
    if not pairs and not problems:
        problems.append("ROUTER_API_KEYS_FILE names nobody")
    if problems:
        raise SettingsError(tuple(problems))
    return tuple(entries)


def _entry(name: str, rest: str) -> tuple[Caller, bytes] | str:
    """Return a caller with the hash of its key, or what is wrong with the entry."""
    digest, colon, listed = rest.partition(":")
    if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest.strip()):
        return "is not name:sha256 (64 hexadecimal digits), with :scopes or without"
    wanted = {scope.strip() for scope in listed.split(",")}
    if colon and not wanted <= set(SCOPES):
        return f"has a scope that is none of {', '.join(SCOPES)}"
    named: frozenset[Scope] = frozenset(scope for scope in SCOPES if scope in wanted)
    scopes = named if colon else DEFAULT_SCOPES
    return Caller(name, scopes), bytes.fromhex(digest.strip())


class _Guard:
    """Puts the caller's name on the connection, or refuses."""

    def __init__(self, keys: Keys | None, limiter: RateLimiter | None) -> None:
        self._keys = keys
        self._limiter = limiter

    async def __call__(
        self, connection: ASGIConnection[BaseRouteHandler, str, None, State], handler: BaseRouteHandler
    ) -> None:
        if self._keys is None:
            # A web page may point a name of its own at this machine (DNS rebinding); it cannot point an address.
            if not _is_own_host(connection.headers.get("host", "")):
                raise ApiError("host_not_allowed", "without API keys only localhost and addresses are answered")
            caller: Caller | None = LOCAL_CALLER
        else:
            caller = self._keys.caller(connection.headers.get("authorization", ""))
        if caller is None:
            raise ApiError("unauthorized", "no valid API key", headers={"WWW-Authenticate": 'Bearer realm="router"'})
        connection.scope["user"] = caller.name
        connection.scope["state"]["caller"] = caller.name
        operation = handler.opt.get("operation")
        if isinstance(operation, Operation):
            self._check(caller, operation, cast("HTTPScope", connection.scope)["method"])

    def _check(self, caller: Caller, operation: Operation, method: str) -> None:
        scope = operation.scope_of(method)
        if not caller.may(scope):
            raise ApiError("scope_missing", f"this key may not {scope}", scope=scope)
        metered = operation.metered_of(method)
        # Everybody on this machine is one caller without keys: there is nobody to keep apart.
        if self._limiter is None or self._keys is None or metered is None:
            return
        wait_s = self._limiter.wait_s(caller.name, metered)
        if wait_s:
            raise ApiError("rate_limited", f"too many {metered}", headers={"Retry-After": str(wait_s)}, metered=metered)


def guard_for(keys: Keys | None, limiter: RateLimiter | None = None) -> Guard:
    """Return the guard of every address that trades or tells about trades."""
    one = _Guard(keys, limiter)

    # The framework copies a guard, deep, for each handler, but not a function: there is one key ring, and one bucket.
    async def guard(connection: ASGIConnection[BaseRouteHandler, str, None, State], handler: BaseRouteHandler) -> None:
        await one(connection, handler)

    return guard


def _is_own_host(host: str) -> bool:
    name = re.sub(r":[0-9]*$", "", host).strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
