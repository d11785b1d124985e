"""Controls of the chain and the wire: airdrops, accounts, rent, warps, forks, faults.

Each is a JSON-RPC method that takes one object. Controls of a world (prices, caps, pauses) are added by the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
import pybase64
from solders.account import Account
from solders.pubkey import Pubkey

from router.localnet.faults import Fault, WireFaults
from router.localnet.wire import Json

if TYPE_CHECKING:
    from router.localnet.cluster import Cluster

__all__ = ["register_chain_controls", "register_fault_controls"]

T = TypeVar("T")


class _Airdrop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pubkey: str
    lamports: int


class _SetAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`data` in base64; zero lamports close the account."""

    pubkey: str
    lamports: int
    owner: str = str(Pubkey.default())
    data: str = ""
    executable: bool = False


class _SetRent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lamports_per_byte_year: int


class _Warp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slots: int = 0
    seconds: int | None = None
    blocks: bool = True


class _Fork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slots: int


class _Forget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slots: int


def _parsed(body: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(body, type=kind)


def register_chain_controls(cluster: Cluster) -> None:
    """Add the controls that every cluster has."""

    def airdrop(body: bytes) -> Json:
        asked = _parsed(body, _Airdrop)
        return {"signature": cluster.airdrop(Pubkey.from_string(asked.pubkey), asked.lamports).signature}

    def set_account(body: bytes) -> Json:
        asked = _parsed(body, _SetAccount)
        data = pybase64.b64decode(asked.data, validate=True)
        account = Account(asked.lamports, data, Pubkey.from_string(asked.owner), asked.executable)
        cluster.set_account(Pubkey.from_string(asked.pubkey), account if asked.lamports else None)
        return {"slot": cluster.slot}

    def set_rent(body: bytes) -> Json:
        cluster.set_rent(_parsed(body, _SetRent).lamports_per_byte_year)
        return {"minimumBalance": cluster.minimum_balance(0)}

    def warp(body: bytes) -> Json:
        asked = _parsed(body, _Warp)
        if asked.slots < 0 or (asked.seconds or 0) < 0:
            raise ValueError("slots and time go one way")
        cluster.warp(asked.slots, seconds=asked.seconds, blocks=asked.blocks)
        return cluster.status()

    def fork(body: bytes) -> Json:
        return {"vanished": cluster.fork(_parsed(body, _Fork).slots)}

    def forget_history(body: bytes) -> Json:
        asked = _parsed(body, _Forget)
        if asked.slots < 0:
            raise ValueError("a number of slots is not negative")
        cluster.forget_history(asked.slots)
        return cluster.status()

    cluster.register_control("localnet_airdrop", airdrop)
    cluster.register_control("localnet_setAccount", set_account)
    cluster.register_control("localnet_setRent", set_rent)
    cluster.register_control("localnet_warp", warp)
    cluster.register_control("localnet_fork", fork)
    cluster.register_control("localnet_forgetHistory", forget_history)
    cluster.register_control("localnet_status", lambda _: cluster.status())


def register_fault_controls(cluster: Cluster, faults: WireFaults) -> None:
    """Add the controls of the faults on the wire."""

    def set_fault(body: bytes) -> Json:
        faults.add(_parsed(body, Fault))
        return True

    def clear(_: bytes) -> Json:
        faults.clear()
        return True

    cluster.register_control("localnet_setFault", set_fault)
    cluster.register_control("localnet_faults", lambda _: {"struck": len(faults.struck)})
    cluster.register_control("localnet_clearFaults", clear)
