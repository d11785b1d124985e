"""Accounts and transactions of the chain, where the reference data is beside the project; and made-up ones."""

from __future__ import annotations

import json
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from solders.pubkey import Pubkey

from providers.jupiter.layouts import read_custody, read_pool, read_position, read_request
from providers.jupiter.state import Custody, Pool, Position, PositionRequest
from providers.solana.records import InnerInstruction, TransactionRecord

SHARED: Final = Path(__file__).resolve().parents[3] / "shared"
SEPTEMBER: Final = "jupiter_perps_mainnet_450101361"
REQUESTS: Final = "jupiter_perps_requests_450102114"
FEBRUARY: Final = "jupiter_perps_vixen_2026-02"


@cache
def _loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def shared_json(*parts: str) -> dict[str, Any]:
    """Return a file of the reference data; the test is skipped where it is not at hand."""
    path = SHARED.joinpath(*parts)
    if not path.is_file():
        pytest.skip("the reference data is not beside the project")
    loaded: dict[str, Any] = _loaded(path)
    return loaded


def snapshot(name: str) -> dict[str, Any]:
    """Return a snapshot of the chain."""
    return shared_json("snapshots", f"{name}.json")


def accounts_of(name: str, role: str) -> dict[str, bytes]:
    """Return the accounts of a snapshot whose role begins so, by address; requests have no role."""
    return {
        each["pubkey"]: b64decode(each["data"][0])
        for each in snapshot(name)["accounts"]
        if each.get("role", "request").startswith(role)
    }


def custodies(name: str) -> dict[str, Custody]:
    """Return the custodies of a snapshot by address."""
    return {key: read_custody(data) for key, data in accounts_of(name, "custody").items()}


def positions() -> dict[str, Position]:
    """Return the four positions of the chain by address."""
    return {key: read_position(data) for key, data in accounts_of(SEPTEMBER, "position").items()}


def requests() -> dict[str, PositionRequest]:
    """Return the four requests of the chain by address."""
    return {key: read_request(data) for key, data in accounts_of(REQUESTS, "request").items()}


def pool(name: str) -> Pool:
    """Return the pool of a snapshot."""
    (data,) = accounts_of(name, "JLP pool").values()
    return read_pool(data)


def recorded(signature: str) -> tuple[TransactionRecord, list[dict[str, Any]]]:
    """Return a transaction of the chain, as far as it was recorded, and all of its instructions as they were."""
    found = next(each for each in snapshot(FEBRUARY)["transactions"] if str(each["signature"]).startswith(signature))
    inner = tuple(
        InnerInstruction(
            parent=each["ix_index"][0],
            program_id=Pubkey.from_string(each["program"]),
            accounts=tuple(Pubkey.from_string(key) for key in each["accounts"]),
            data=bytes.fromhex(each["data_hex"]),
            stack_height=2,
        )
        for each in found["instructions"]
        if each["data_hex"].startswith("e445a52e51cb9a1d")
    )
    return record_of(found["signature"], inner), found["instructions"]


def record_of(
    signature: str, inner: tuple[InnerInstruction, ...], *, inner_known: bool = True, block_time: int | None = 1
) -> TransactionRecord:
    """Return a transaction that executed and called these instructions."""
    return TransactionRecord(
        signature=signature,
        slot=1,
        block_time=block_time,
        err=None,
        logs=(),
        logs_complete=True,
        account_keys=(),
        pre_balances=(),
        post_balances=(),
        inner_instructions=inner,
        programs=(),
        signers=(),
        fee=0,
        finalized=False,
        wire=b"",
        inner_known=inner_known,
    )
