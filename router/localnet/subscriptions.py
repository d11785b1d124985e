"""Websocket subscriptions: what changed, told at each commitment.

`processed` is told as it happens; `confirmed` and `finalized` when a new slot brings their view forward. A notification
is sent once: a subscriber that was away has missed it, as on a real node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from solders.pubkey import Pubkey

from router.localnet.accounts import Version
from router.localnet.bank import CONFIRMED_DEPTH, FINALIZED_DEPTH
from router.localnet.history import Landed
from router.localnet.params import Config, Params, WireState, parse_pubkey
from router.localnet.rpc_accounts import encode_account, matches
from router.localnet.rpc_chain import with_context
from router.localnet.wire import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Json, RpcError

if TYPE_CHECKING:
    from router.localnet.cluster import Cluster

__all__ = ["Hub", "Session"]

_DEPTHS = {"processed": 0, "confirmed": CONFIRMED_DEPTH, "finalized": FINALIZED_DEPTH}
_KEPT_SLOTS = 64

Kind: TypeAlias = Literal["account", "program", "signature", "logs", "slot", "root"]


class _Request(msgspec.Struct, frozen=True):
    method: str
    id: msgspec.Raw = msgspec.Raw(b"null")
    params: list[msgspec.Raw] | None = None


class _Mentions(msgspec.Struct, frozen=True):
    mentions: list[str]


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What one subscriber wants to be told."""

    kind: Kind
    number: int
    depth: int = 0
    key: Pubkey | None = None
    signature: str = ""
    config: Config = Config()


_ENCODER = msgspec.json.Encoder()
_REQUEST = msgspec.json.Decoder(_Request)


class Hub:
    """Knows what changed in which slot, and tells every session."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._sessions: list[Session] = []
        self._changed: dict[int, dict[Pubkey, None]] = {}
        self._landed: dict[int, list[Landed]] = {}
        self._views = {depth: self._reach(depth) for depth in _DEPTHS.values()}
        self._root = cluster.bank.view(FINALIZED_DEPTH)
        cluster.on_account(self._on_account)
        cluster.on_landed(self._on_landed)
        cluster.on_slot(self._on_slot)

    def join(self, send: Callable[[bytes], None]) -> Session:
        """Begin a session; `send` takes one message for its subscriber."""
        session = Session(self.cluster, send)
        self._sessions.append(session)
        return session

    def leave(self, session: Session) -> None:
        """End a session."""
        self._sessions.remove(session)

    def _reach(self, depth: int) -> int:
        """Return the newest slot that a commitment shows; before the first slot while the chain is younger."""
        slot = self.cluster.slot - depth
        return self.cluster.bank.view(depth) if slot >= self.cluster.bank.timeline.first_slot else slot

    def _on_account(self, key: Pubkey) -> None:
        self._changed.setdefault(self.cluster.slot, {})[key] = None
        for session in self._sessions:
            session.account_changed(key, self.cluster.slot, 0)

    def _on_landed(self, landed: Landed) -> None:
        self._landed.setdefault(landed.slot, []).append(landed)
        for session in self._sessions:
            session.transaction_landed(landed, landed.slot, 0)

    def _on_slot(self, slot: int) -> None:
        root_before = self._root
        for depth in (CONFIRMED_DEPTH, FINALIZED_DEPTH):
            view = self._reach(depth)
            newly = [each for each in self._changed if self._views[depth] < each <= view]
            keys = {key: None for each in newly for key in self._changed[each]}
            landed = [
                tx for each in sorted(self._landed) if self._views[depth] < each <= view for tx in self._landed[each]
            ]
            for session in self._sessions:
                for key in keys:
                    session.account_changed(key, view, depth)
                for tx in landed:
                    # A fork may have taken it back.
                    if self.cluster.bank.history.get(tx.signature) is tx:
                        session.transaction_landed(tx, view, depth)
            self._views[depth] = view
        self._root = root = self.cluster.bank.view(FINALIZED_DEPTH)
        for session in self._sessions:
            session.slot_began(slot, root)
            if root > root_before:
                session.root_moved(root)
        for kept in (self._changed, self._landed):
            for each in [old for old in kept if old < root - _KEPT_SLOTS]:
                del kept[each]


class Session:
    """One connection's subscriptions."""

    def __init__(self, cluster: Cluster, send: Callable[[bytes], None]) -> None:
        self._cluster = cluster
        self._send = send
        self._subscriptions: dict[int, Subscription] = {}
        self._last = 0

    def handle(self, body: bytes) -> bytes:
        """Answer one subscribe or unsubscribe request; any other method is answered as over HTTP."""
        try:
            request = _REQUEST.decode(body)
        except msgspec.ValidationError:
            return _failure(b"null", RpcError(INVALID_REQUEST, "Invalid request"))
        except msgspec.DecodeError:
            return _failure(b"null", RpcError(PARSE_ERROR, "Parse error"))
        identity = bytes(request.id)
        if not request.method.endswith("ubscribe"):
            return self._cluster.rpc.handle(body, WireState())
        params = Params(request.params or [])
        try:
            result: Json
            if request.method.endswith("Unsubscribe"):
                result = self._unsubscribe(params)
            else:
                result = self._subscribe(request.method, params)
        except RpcError as error:
            return _failure(identity, error)
        return b'{"jsonrpc":"2.0","result":' + _ENCODER.encode(result) + b',"id":' + identity + b"}"

    def after_answer(self) -> None:
        """Tell of signatures that had landed before they were asked for (to be called once the answer is out)."""
        for subscription in list(self._subscriptions.values()):
            if subscription.kind == "signature":
                landed = self._cluster.transaction(subscription.signature)
                view = self._cluster.bank.view(subscription.depth)
                if landed is not None and landed.slot <= view:
                    self._tell_signature(subscription, landed, view)

    def account_changed(self, key: Pubkey, slot: int, depth: int) -> None:
        """Tell of an account at the end of `slot`."""
        version: Version | None = None
        for subscription in self._subscriptions.values():
            if subscription.depth != depth or subscription.kind not in {"account", "program"}:
                continue
            if subscription.kind == "account" and subscription.key != key:
                continue
            version = version or self._cluster.bank.store.at(key, slot) or Version(slot, None)
            config = subscription.config
            if subscription.kind == "account":
                value = _account(version, config)
                self._notify(subscription, with_context(slot, value))
            elif version.owner == subscription.key and matches(version, config.filters or []):
                value = {"pubkey": str(key), "account": _account(version, config)}
                self._notify(subscription, with_context(slot, value))

    def transaction_landed(self, landed: Landed, slot: int, depth: int) -> None:
        """Tell of a transaction."""
        for subscription in list(self._subscriptions.values()):
            if subscription.depth != depth:
                continue
            if subscription.kind == "signature" and subscription.signature == landed.signature:
                self._tell_signature(subscription, landed, slot)
            elif subscription.kind == "logs" and (subscription.key is None or bytes(subscription.key) in landed.keys):
                err = msgspec.json.decode(landed.err)
                value: Json = {"signature": landed.signature, "err": err, "logs": landed.logs}
                self._notify(subscription, with_context(slot, value))

    def slot_began(self, slot: int, root: int) -> None:
        """Tell of a new slot."""
        parent = self._cluster.bank.view(1)
        for subscription in self._subscriptions.values():
            if subscription.kind == "slot":
                self._notify(subscription, {"parent": parent, "root": root, "slot": slot})

    def root_moved(self, root: int) -> None:
        """Tell of a new root."""
        for subscription in self._subscriptions.values():
            if subscription.kind == "root":
                self._notify(subscription, root)

    def _tell_signature(self, subscription: Subscription, landed: Landed, slot: int) -> None:
        self._notify(subscription, with_context(slot, {"err": msgspec.json.decode(landed.err)}))
        self._subscriptions.pop(subscription.number, None)

    def _unsubscribe(self, params: Params) -> Json:
        if self._subscriptions.pop(params.integer(0), None) is None:
            raise RpcError(INVALID_PARAMS, "Invalid subscription id.")
        return True

    def _subscribe(self, method: str, params: Params) -> Json:
        subscription = self._parsed(method, params)
        self._last = subscription.number
        self._subscriptions[subscription.number] = subscription
        return subscription.number

    def _parsed(self, method: str, params: Params) -> Subscription:
        number = self._last + 1
        if method == "slotSubscribe":
            return Subscription(kind="slot", number=number)
        if method == "rootSubscribe":
            return Subscription(kind="root", number=number)
        config = params.config(1)
        depth = _DEPTHS.get(config.commitment or "finalized")
        if depth is None:
            raise RpcError(INVALID_PARAMS, f"Invalid params: unknown variant `{config.commitment}`.")
        if method == "signatureSubscribe":
            return Subscription(kind="signature", number=number, depth=depth, signature=params.text(0))
        if method == "logsSubscribe":
            return Subscription(kind="logs", number=number, depth=depth, key=_mentioned(params))
        kinds: Mapping[str, Kind] = {"accountSubscribe": "account", "programSubscribe": "program"}
        kind = kinds.get(method)
        if kind is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        return Subscription(kind=kind, number=number, depth=depth, key=params.pubkey(0), config=config)

    def _notify(self, subscription: Subscription, result: Json) -> None:
        body = {"result": result, "subscription": subscription.number}
        self._send(
            b'{"jsonrpc":"2.0","method":"'
            + subscription.kind.encode()
            + b'Notification","params":'
            + _ENCODER.encode(body)
            + b"}"
        )


def _account(version: Version, config: Config) -> Json:
    """Return the account; one that was closed shows as empty, as nodes tell it."""
    if version.account is None:
        empty: Json = ("", config.encoding) if config.encoding else ""
        return {
            "lamports": 0,
            "owner": str(Pubkey.default()),
            "data": empty,
            "executable": False,
            "rentEpoch": 0,
            "space": 0,
        }
    return encode_account(version, config.encoding, config.data_slice)


def _mentioned(params: Params) -> Pubkey | None:
    """Return the address whose transactions are wanted; null for all."""
    if params.is_text(0):
        if params.text(0) not in {"all", "allWithVotes"}:
            raise RpcError(INVALID_PARAMS, "Invalid params: all, allWithVotes or mentions.")
        return None
    mentions = params.struct(0, _Mentions).mentions
    if len(mentions) != 1:
        raise RpcError(INVALID_PARAMS, "Invalid Request: Only 1 address supported")
    return parse_pubkey(mentions[0])


def _failure(identity: bytes, error: RpcError) -> bytes:
    detail = {"code": error.code, "message": error.message}
    return b'{"jsonrpc":"2.0","error":' + _ENCODER.encode(detail) + b',"id":' + identity + b"}"
