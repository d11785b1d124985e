"""Faults on the wire to a node, by script or by chance, and the answer that a node gives under them.

The same faults hold in process and over HTTP. What a fault does to the *answer* is apart from what happened on chain:
that is the point of most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from providers.base.clock import Clock
from providers.solana.transport import Reply, WireError
from router.localnet.rpc import methods_of

if TYPE_CHECKING:
    from router.localnet.cluster import Cluster

__all__ = ["Fault", "FaultKind", "WireFaults", "answer"]

FaultKind = Literal[
    "refused",
    "dropped_before",
    "lost_after",
    "cut_before",
    "cut_after",
    "http_429",
    "http_503_before",
    "http_503_after",
    "html",
    "null",
    "wrong_id",
    "truncated",
    "unknown_code",
    "internal_error",
    "slow",
    "landed_late",
    "lost_then_late",
    "stale",
    "behind",
]

_GARBAGE = frozenset({"html", "null", "wrong_id", "truncated", "unknown_code", "internal_error"})
_UNKNOWN_CODE = -32429
_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_OK, _TOO_MANY, _UNAVAILABLE = 200, 429, 503


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault and when it strikes.

    Attributes:
        kind: `refused` nothing was written; `dropped_before` never arrives and times out; `lost_after` executes and
            times out; `cut_before`, `cut_after` the connection breaks; `http_429`, `http_503_before`,
            `http_503_after`; answers that cannot be used after executing: `html`, `null` (a null result), `wrong_id`,
            `truncated`, `unknown_code`, `internal_error` (-32603); `slow` the answer comes `delay_ms` later;
            `landed_late` a transaction executes `slots` later, the answer comes at once; `lost_then_late` the same
            without an answer; `stale` the node is `slots` behind and does not know; `behind` it says so.
        method: struck method; any when left out. A batch is struck when one of its requests is.
        node: struck node; any when left out.
        after: requests that pass unharmed first.
        count: how often it strikes; without end when left out.
        permille: chance per request, in thousandths.
        unexecuted: garbage instead of executing (the answers that cannot be used, and `internal_error`).
    """

    kind: FaultKind
    method: str | None = None
    node: str | None = None
    after: int = 0
    count: int | None = 1
    permille: int = 1000
    slots: int = 0
    delay_ms: int = 0
    retry_after_s: int | None = None
    unexecuted: bool = False


class _Armed:
    """A fault with what is left of it."""

    __slots__ = ("fault", "left", "pass_first")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.count
        self.pass_first = fault.after


class WireFaults:
    """The faults that are set; the first that matches a request strikes it.

    Args:
        clock: its seeded chance decides where `permille` is below 1000.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._armed: list[_Armed] = []
        self.struck: list[tuple[str, str]] = []

    def add(self, fault: Fault) -> None:
        """Set a fault."""
        self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Take every fault away."""
        self._armed.clear()

    def strike(self, node: str, methods: list[str]) -> Fault | None:
        """Return the fault that strikes this request, and use it up."""
        if not self._armed:
            return None
        for armed in self._armed:
            fault = armed.fault
            if (fault.node is not None and fault.node != node) or (
                fault.method is not None and fault.method not in methods
            ):
                continue
            if armed.pass_first > 0:
                armed.pass_first -= 1
                continue
            if fault.permille < 1000 and self._clock.jitter() * 1000 >= fault.permille:  # noqa: PLR2004 - thousandths
                continue
            if armed.left is not None:
                armed.left -= 1
                if armed.left <= 0:
                    self._armed.remove(armed)
            self.struck.append((node, fault.kind))
            return fault
        return None


def answer(cluster: Cluster, faults: WireFaults, node: str, body: bytes) -> tuple[Reply, float]:
    """Answer one HTTP body as `node`, under the faults.

    Returns the answer and the seconds that it is held back; raises `WireError` when no whole answer goes out.
    """
    fault = faults.strike(node, methods_of(body))
    if fault is None:
        return Reply(_OK, cluster.handle(body)), 0.0
    early = _before(fault)
    if early is not None:
        return early, 0.0
    return _after(fault, body, _executed(cluster, fault, body))


def _before(fault: Fault) -> Reply | None:
    """Return or raise what happens instead of executing; null when the request is executed."""
    if fault.kind == "refused":
        raise WireError("refused", maybe_sent=False, detail="connection refused")
    if fault.kind == "dropped_before":
        raise WireError("timeout", maybe_sent=True, detail="no answer")
    if fault.kind == "cut_before":
        raise WireError("cut", maybe_sent=True, detail="connection reset")
    if fault.kind == "http_429":
        return Reply(_TOO_MANY, b"Too many requests", fault.retry_after_s)
    if fault.kind == "http_503_before":
        return Reply(_UNAVAILABLE, b"Service unavailable", fault.retry_after_s)
    return None


def _executed(cluster: Cluster, fault: Fault, body: bytes) -> bytes:
    """Execute the request as the struck node does."""
    if fault.unexecuted:
        return b""
    if fault.kind in {"stale", "behind"}:
        return cluster.handle(body, lag_slots=fault.slots, unhealthy=fault.kind == "behind")
    if fault.kind in {"landed_late", "lost_then_late"}:
        return cluster.handle(body, send_delay_slots=max(fault.slots, 1))
    return cluster.handle(body)


def _after(fault: Fault, body: bytes, given: bytes) -> tuple[Reply, float]:
    """Return or raise what becomes of the answer."""
    if fault.kind in {"lost_after", "lost_then_late"}:
        raise WireError("timeout", maybe_sent=True, detail="no answer")
    if fault.kind == "cut_after":
        raise WireError("cut", maybe_sent=True, detail="connection reset")
    if fault.kind == "http_503_after":
        return Reply(_UNAVAILABLE, b"Service unavailable", fault.retry_after_s), 0.0
    if fault.kind in _GARBAGE:
        return Reply(_OK, _garbage(fault.kind, body, given)), 0.0
    return Reply(_OK, given), fault.delay_ms / 1000


class _Identified(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")


def _garbage(kind: FaultKind, body: bytes, given: bytes) -> bytes:
    """Return an answer that no caller can use."""
    if kind == "html":
        return _HTML
    if kind == "truncated":
        return (given or b'{"jsonrpc":"2.0","result":{"context":{"slot":1},"value":null},"id":1}')[:-8]
    if body.lstrip()[:1] == b"[":
        return b'{"jsonrpc":"2.0","result":null,"id":null}'
    identity = bytes(msgspec.json.decode(body, type=_Identified).id)
    if kind == "wrong_id":
        other = b'"another"' if identity != b'"another"' else b'"other"'
        result = msgspec.json.decode(given or b'{"result":null}', type=dict[str, msgspec.Raw])
        result["id"] = msgspec.Raw(other)
        return msgspec.json.encode(result)
    if kind == "null":
        return b'{"jsonrpc":"2.0","result":null,"id":' + identity + b"}"
    code, words = (
        (_UNKNOWN_CODE, "Rate limit of another kind") if kind == "unknown_code" else (-32603, "Internal error")
    )
    error = msgspec.json.encode({"code": code, "message": words})
    return b'{"jsonrpc":"2.0","error":' + error + b',"id":' + identity + b"}"
