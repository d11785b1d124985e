"""Who is at work at the venue: its prices' publisher, and the keeper that executes and closes requests.

Both are called with each new slot, and use nothing but accounts and ordinary transactions. What they were told (a
frozen price, a dead keeper) is not kept over a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

from solders.account import Account
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from router.localnet.actors import ActorCluster
from router.localnet.anchor import account_discriminator
from router.localnet.bank import Execution
from router.localnet.jupiter.calls import close, execute
from router.localnet.jupiter.layouts import AgPriceFeed, Content, Pool, Position, PositionRequest, account_data
from router.localnet.jupiter.pricing import Price
from router.localnet.jupiter.refusals import CODES
from router.localnet.jupiter.venue import DECREASE, MARKET
from router.localnet.jupiter.world import JupiterWorld
from router.localnet.sending import send

__all__ = ["JupiterKeeper", "JupiterOracles", "code_of", "read_content"]

C = TypeVar("C", bound=Content)

_LOG = logging.getLogger(__name__)

_DISCRIMINATOR = 8
_DELAY_SLOTS = 3
_RETRY_SLOTS = 20
_WAITS_FOR = frozenset(
    CODES[name] for name in ("StaleOraclePrice", "InvalidOraclePrice", "InvalidOracleAccount", "AccountNotInitialized")
)
"""Refusals after which a market request is tried again instead of being given back."""


def read_content(cluster: ActorCluster, key: Pubkey, kind: type[C]) -> C:
    """Return what an account of the venue holds.

    Raises:
        ValueError: it is not there.
    """
    account = cluster.account(key)
    if account is None:
        raise ValueError(f"{key} is not there")
    return kind.decode(bytes(account.data), _DISCRIMINATOR)


def code_of(result: Execution) -> int | None:
    """Return the code that a program refused a transaction with, if it was one."""
    error = result.err
    if not isinstance(error, dict) or "InstructionError" not in error:
        return None
    detail = error["InstructionError"]
    reason = detail[1] if isinstance(detail, list) else None
    code = reason.get("Custom") if isinstance(reason, dict) else None
    return code if isinstance(code, int) else None


class JupiterOracles:
    """Keeps the venue's prices fresh, but for those that are frozen."""

    def __init__(self, cluster: ActorCluster, world: JupiterWorld) -> None:
        self._cluster = cluster
        self._feeds = tuple(custody.feed for custody in world.custodies)
        self._published = 0
        self.frozen: set[Pubkey] = set()

    def on_slot(self, slot: int) -> None:  # noqa: ARG002 - prices have a time, not a slot
        """Publish the last price again in every second."""
        now = self._cluster.unix_timestamp
        if now == self._published:
            return
        self._published = now
        for key in self._feeds:
            account = None if key in self.frozen else self._cluster.account(key)
            if account is None:
                continue
            feed = AgPriceFeed.decode(bytes(account.data), _DISCRIMINATOR)
            if feed.timestamp < now:
                feed.timestamp = now
                self._cluster.set_account(key, Account(account.lamports, account_data(feed), account.owner))


class JupiterKeeper:
    """Executes requests, and closes them: in one transaction, unless it is told otherwise.

    A market request that the program refuses is given back at once (a price that is too old: only when its time is
    over). One that waits for a price is executed when the price is there, and tried again where that fails.

    Attributes:
        running: set to false to have it stand still.
        delay_slots: how long a request has to be there before it is looked at.
        rejects: why every market request is given back instead of executed; null for none.
        separate: execute in one transaction and close in another, a slot later.
        dies: stop for good after the next execution, before the request is closed.
        dead: whether it has.
        sweeps: close what waits for a price on a position that is flat.
    """

    def __init__(self, cluster: ActorCluster, world: JupiterWorld) -> None:
        self._cluster = cluster
        self._world = world
        self._since: dict[Pubkey, int] = {}
        self._not_before: dict[Pubkey, int] = {}
        self._decoded: dict[Pubkey, tuple[bytes, PositionRequest]] = {}
        self._sent = 0
        self.running = True
        self.delay_slots = _DELAY_SLOTS
        self.rejects: str | None = None
        self.separate = False
        self.dies = False
        self.dead = False
        self.sweeps = True

    def on_slot(self, slot: int) -> None:
        """Look through all requests once."""
        if not self.running or self.dead:
            return
        requests = list(self._requests())
        keys = {key for key, _ in requests}
        self._since = {key: self._since.get(key, slot) for key, _ in requests}
        self._not_before = {key: until for key, until in self._not_before.items() if key in keys}
        self._decoded = {key: known for key, known in self._decoded.items() if key in keys}
        for key, request in requests:
            waits = slot < self._since[key] + self.delay_slots or slot < self._not_before.get(key, 0)
            if not waits and not self.dead:
                self._attend(key, request, slot)

    def _requests(self) -> Iterator[tuple[Pubkey, PositionRequest]]:
        prefix = account_discriminator("PositionRequest")
        for key, account in self._cluster.accounts_by_owner(self._world.program_id):
            data = bytes(account.data)
            if not data.startswith(prefix):
                continue
            known = self._decoded.get(key)
            if known is None or known[0] != data:
                known = data, PositionRequest.decode(data, _DISCRIMINATOR)
                self._decoded[key] = known
            yield key, known[1]

    def _attend(self, key: Pubkey, request: PositionRequest, slot: int) -> None:
        position = read_content(self._cluster, request.position, Position)
        if request.executed:
            self._close(key, request, slot, reason="executed")
        elif request.request_type == MARKET:
            window = read_content(self._cluster, self._world.pool, Pool).max_request_execution_sec
            if self._cluster.unix_timestamp > request.open_time + window:
                self._close(key, request, slot, reason="too late")
            elif self.rejects is not None:
                self._close(key, request, slot, reason=self.rejects)
            else:
                self._execute(key, request, position, slot)
        elif request.request_change == DECREASE and not position.size_usd:
            if self.sweeps:
                self._close(key, request, slot, reason="position is flat")
        elif request.request_change == DECREASE and self._reached(request, position):
            self._execute(key, request, position, slot)

    def _reached(self, request: PositionRequest, position: Position) -> bool:
        feed = read_content(self._cluster, self._world.at(position.custody).feed, AgPriceFeed)
        price, trigger = Price.of(feed).usd, request.trigger_price or 0
        return price >= trigger if request.trigger_above_threshold else price <= trigger

    def _execute(self, key: Pubkey, request: PositionRequest, position: Position, slot: int) -> None:
        keeper = self._world.keeper.pubkey()
        instructions = [execute(self._world, key, request, position, keeper)]
        alone = self.dies or self.separate
        if not alone:
            instructions.append(close(self._world, key, request, keeper=keeper))
        result = self._send(instructions)
        code = code_of(result)
        _LOG.debug("jupiter_keeper_executed", extra={"request": str(key), "ok": result.ok, "code": code})
        if result.ok:
            self.dead = self.dies
            self._not_before[key] = slot + 1
        elif request.request_type == MARKET and code not in _WAITS_FOR:
            self._close(key, request, slot, reason=f"refused with {code}")
        else:
            self._not_before[key] = slot + _RETRY_SLOTS

    def _close(self, key: Pubkey, request: PositionRequest, slot: int, *, reason: str) -> None:
        result = self._send([close(self._world, key, request, keeper=self._world.keeper.pubkey())])
        if not result.ok:
            # The owner's token account is gone, or the owner was faster.
            self._not_before[key] = slot + _RETRY_SLOTS
        _LOG.debug("jupiter_keeper_closed", extra={"request": str(key), "reason": reason, "ok": result.ok})

    def _send(self, instructions: Sequence[Instruction]) -> Execution:
        self._sent += 1
        return send(self._cluster, self._world.keeper, instructions, number=self._sent)
