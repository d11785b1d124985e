"""A landed transaction as getTransaction shows it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pybase64
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from router.localnet import base58
from router.localnet.history import Landed, TokenBalance
from router.localnet.rpc_accounts import token_amount
from router.localnet.runtime import Inner
from router.localnet.wire import INVALID_PARAMS, Json, RpcError

__all__ = ["inner_json", "transaction_json"]


def transaction_json(
    landed: Landed, tx: VersionedTransaction, encoding: str, block_time: int, *, with_version: bool
) -> Json:
    """Return the answer of getTransaction; raises `RpcError` for an encoding that is not offered."""
    body: Json
    if encoding == "base64":
        body = (pybase64.b64encode_as_string(landed.wire), "base64")
    elif encoding in {"base58", "binary"}:
        body = (base58.encode(landed.wire), "base58") if encoding == "base58" else base58.encode(landed.wire)
    elif encoding == "json":
        body = {"signatures": landed.signatures, "message": _message_json(tx.message)}
    else:
        raise RpcError(INVALID_PARAMS, f"Invalid params: encoding `{encoding}` is not offered by the localnet.")
    answer: dict[str, Json] = {
        "slot": landed.slot,
        "transaction": body,
        "meta": _meta_json(landed),
        "blockTime": block_time,
    }
    if with_version:
        answer["version"] = 0 if isinstance(tx.message, MessageV0) else "legacy"
    return answer


def inner_json(inner: Sequence[tuple[int, Sequence[Inner]]]) -> Json:
    """Return inner instructions by the index of the instruction that called them."""
    return [
        {
            "index": index,
            "instructions": [
                {
                    "programIdIndex": call.program,
                    "accounts": list(call.accounts),
                    "data": base58.encode(call.data),
                    "stackHeight": call.stack_height,
                }
                for call in calls
            ],
        }
        for index, calls in inner
    ]


def _meta_json(landed: Landed) -> Json:
    err: Json = msgspec.json.decode(landed.err)
    loaded = [str(Pubkey(key)) for key in landed.keys[landed.static :]]
    meta: dict[str, Json] = {
        "err": err,
        "status": {"Ok": None} if err is None else {"Err": err},
        "fee": landed.fee,
        "preBalances": landed.pre,
        "postBalances": landed.post,
        "innerInstructions": inner_json(landed.inner),
        "logMessages": landed.logs,
        "preTokenBalances": [_token_json(balance) for balance in landed.pre_tokens],
        "postTokenBalances": [_token_json(balance) for balance in landed.post_tokens],
        "rewards": [],
        "loadedAddresses": {
            "writable": loaded[: landed.loaded_writable],
            "readonly": loaded[landed.loaded_writable :],
        },
        "computeUnitsConsumed": landed.units,
    }
    if landed.return_data is not None:
        program, data = landed.return_data
        meta["returnData"] = {
            "programId": str(Pubkey(program)),
            "data": (pybase64.b64encode_as_string(data), "base64"),
        }
    return meta


def _token_json(balance: TokenBalance) -> Json:
    return {
        "accountIndex": balance.index,
        "mint": str(Pubkey(balance.mint)),
        "owner": str(Pubkey(balance.owner)),
        "programId": str(Pubkey(balance.program)),
        "uiTokenAmount": token_amount(balance.amount, balance.decimals),
    }


def _message_json(message: Message | MessageV0) -> Json:
    header = message.header
    shown: dict[str, Json] = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            {
                "programIdIndex": instruction.program_id_index,
                "accounts": list(bytes(instruction.accounts)),
                "data": base58.encode(bytes(instruction.data)),
                "stackHeight": None,
            }
            for instruction in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        shown["addressTableLookups"] = [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(bytes(lookup.writable_indexes)),
                "readonlyIndexes": list(bytes(lookup.readonly_indexes)),
            }
            for lookup in message.address_table_lookups
        ]
    return shown
