"""Methods about the chain itself: slots, blockhashes, times, epochs, the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from solders.hash import Hash

from router.localnet.bank import CONFIRMED_DEPTH, FINALIZED_DEPTH, SLOTS_PER_EPOCH
from router.localnet.params import Config, Params, WireState
from router.localnet.wire import INVALID_PARAMS, MIN_CONTEXT_SLOT, NODE_UNHEALTHY, Json, RpcError

if TYPE_CHECKING:
    import msgspec

    from router.localnet.cluster import Cluster

__all__ = ["API_VERSION", "CHAIN_METHODS", "Method", "check_health", "view_of", "with_context"]

API_VERSION = "2.2.0"
_FEATURE_SET = 3_294_202_862
_BLOCK_NOT_AVAILABLE = -32004
_UNHEALTHY_LAG_SLOTS = 128
_DEPTHS = {
    "processed": 0,
    "recent": 0,
    "confirmed": CONFIRMED_DEPTH,
    "single": CONFIRMED_DEPTH,
    "singleGossip": CONFIRMED_DEPTH,
    "finalized": FINALIZED_DEPTH,
    "max": FINALIZED_DEPTH,
    "root": FINALIZED_DEPTH,
}

Method: TypeAlias = "Callable[[Cluster, Params, WireState], Json | msgspec.Raw]"


def view_of(cluster: Cluster, config: Config, wire: WireState, commitment: str | None = None) -> int:
    """Return the slot that a request is answered at; raises `RpcError` when it is before `minContextSlot`.

    Args:
        cluster: the chain.
        config: the request's configuration.
        wire: the node.
        commitment: overrides the configuration's; `finalized` is every node's default.
    """
    name = commitment or config.commitment or "finalized"
    depth = _DEPTHS.get(name)
    if depth is None:
        raise RpcError(INVALID_PARAMS, f"Invalid params: unknown variant `{name}`.")
    slot = cluster.bank.view(depth, wire.lag_slots)
    if config.min_context_slot is not None and slot < config.min_context_slot:
        raise RpcError(MIN_CONTEXT_SLOT, "Minimum context slot has not been reached", {"contextSlot": slot})
    return slot


def with_context(slot: int, value: Json | msgspec.Raw) -> Json:
    """Return a value with the slot that it was read at."""
    answer: dict[str, Json] = {"context": {"apiVersion": API_VERSION, "slot": slot}}
    answer["value"] = value  # pyright: ignore[reportArgumentType]
    return answer


def check_health(wire: WireState) -> None:
    """Raise the error of a node that knows it is behind."""
    if wire.unhealthy or wire.lag_slots >= _UNHEALTHY_LAG_SLOTS:
        raise RpcError(NODE_UNHEALTHY, f"Node is behind by {wire.lag_slots} slots", {"numSlotsBehind": wire.lag_slots})


def _get_slot(cluster: Cluster, params: Params, wire: WireState) -> Json:
    return view_of(cluster, params.config(0), wire)


def _get_block_height(cluster: Cluster, params: Params, wire: WireState) -> Json:
    return cluster.bank.timeline.height(view_of(cluster, params.config(0), wire))


def _get_latest_blockhash(cluster: Cluster, params: Params, wire: WireState) -> Json:
    slot = view_of(cluster, params.config(0), wire)
    timeline = cluster.bank.timeline
    return with_context(
        slot, {"blockhash": str(timeline.blockhash(slot)), "lastValidBlockHeight": timeline.last_valid_height(slot)}
    )


def _is_blockhash_valid(cluster: Cluster, params: Params, wire: WireState) -> Json:
    try:
        blockhash = Hash.from_string(params.text(0))
    except ValueError:
        raise RpcError(INVALID_PARAMS, "Invalid param: WrongSize") from None
    slot = view_of(cluster, params.config(1), wire)
    return with_context(slot, cluster.bank.timeline.is_valid(blockhash, slot))


def _get_block_time(cluster: Cluster, params: Params, wire: WireState) -> Json:
    slot = params.integer(0)
    bank = cluster.bank
    if slot > bank.view(CONFIRMED_DEPTH, wire.lag_slots) or slot < bank.first_available:
        raise RpcError(_BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
    return bank.timeline.time_ms(slot) // 1000


def _get_first_available_block(cluster: Cluster, _params: Params, _wire: WireState) -> Json:
    return cluster.bank.first_available


def _get_genesis_hash(cluster: Cluster, _params: Params, _wire: WireState) -> Json:
    return str(cluster.genesis_hash)


def _get_health(_cluster: Cluster, _params: Params, wire: WireState) -> Json:
    check_health(wire)
    return "ok"


def _get_version(_cluster: Cluster, _params: Params, _wire: WireState) -> Json:
    return {"solana-core": API_VERSION, "feature-set": _FEATURE_SET}


def _get_epoch_info(cluster: Cluster, params: Params, wire: WireState) -> Json:
    slot = view_of(cluster, params.config(0), wire)
    return {
        "absoluteSlot": slot,
        "blockHeight": cluster.bank.timeline.height(slot),
        "epoch": slot // SLOTS_PER_EPOCH,
        "slotIndex": slot % SLOTS_PER_EPOCH,
        "slotsInEpoch": SLOTS_PER_EPOCH,
        "transactionCount": len(cluster.bank.history),
    }


def _get_identity(cluster: Cluster, _params: Params, _wire: WireState) -> Json:
    return {"identity": str(cluster.identity)}


def _get_cluster_nodes(cluster: Cluster, _params: Params, _wire: WireState) -> Json:
    return [
        {
            "pubkey": str(cluster.identity),
            "gossip": None,
            "tpu": None,
            "rpc": None,
            "version": API_VERSION,
            "featureSet": _FEATURE_SET,
            "shredVersion": 1,
        }
    ]


def _get_recent_prioritization_fees(cluster: Cluster, params: Params, wire: WireState) -> Json:
    """Return the lowest price paid per slot for writing the given accounts, in micro-lamports per unit."""
    wanted = {bytes(params.pubkey_of(each)) for each in params.texts(0)} if params.has(0) else set[bytes]()
    newest = cluster.bank.view(0, wire.lag_slots)
    oldest = max(newest - 149, cluster.bank.timeline.first_slot)
    lowest: dict[int, int] = {}
    for landed in cluster.bank.history.newest_first():
        if landed.slot < oldest:
            break
        written = {key for key, writable in zip(landed.keys, landed.writable, strict=True) if writable}
        if wanted <= written:
            lowest[landed.slot] = min(lowest.get(landed.slot, landed.priority_price), landed.priority_price)
    return [{"slot": slot, "prioritizationFee": lowest.get(slot, 0)} for slot in range(oldest, newest + 1)]


CHAIN_METHODS: dict[str, Method] = {
    "getSlot": _get_slot,
    "getBlockHeight": _get_block_height,
    "getLatestBlockhash": _get_latest_blockhash,
    "isBlockhashValid": _is_blockhash_valid,
    "getBlockTime": _get_block_time,
    "getFirstAvailableBlock": _get_first_available_block,
    "minimumLedgerSlot": _get_first_available_block,
    "getGenesisHash": _get_genesis_hash,
    "getHealth": _get_health,
    "getVersion": _get_version,
    "getEpochInfo": _get_epoch_info,
    "getIdentity": _get_identity,
    "getClusterNodes": _get_cluster_nodes,
    "getRecentPrioritizationFees": _get_recent_prioritization_fees,
}
