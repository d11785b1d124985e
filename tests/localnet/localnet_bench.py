"""What the tests of the localnet share: a cluster in virtual time, a wallet, JSON-RPC by hand, a made-up program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pybase64
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction

from providers.base.clock import VirtualClock
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.programs import Call, Effects, ModelRefusal

SOL = 10**9
SYSTEM = Pubkey.default()
COUNTER_PROGRAM = Pubkey.from_string("Counter111111111111111111111111111111111111")


class FixedClock(VirtualClock):
    """A virtual clock for tests without an event loop; `seconds` is moved by hand."""

    seconds = 0.0

    def monotonic(self) -> float:
        """Return the seconds set by hand."""
        return self.seconds


class Bench:
    """A cluster whose slots are produced by hand, and a funded wallet."""

    def __init__(self, state_dir: Path | None = None, *, reset: bool = False, seed: int = 1) -> None:
        self.clock = FixedClock(seed)
        self.cluster = Cluster(self.clock, ClusterConfig(slot_time_ms=400, state_dir=state_dir, reset=reset))
        self.wallet = Keypair.from_seed(bytes([7] * 32))
        if self.cluster.account(self.wallet.pubkey()) is None:
            self.cluster.airdrop(self.wallet.pubkey(), 10 * SOL)

    def rpc(self, method: str, *params: object, lag_slots: int = 0) -> Any:
        """Return a method's result."""
        answer = self.answer(method, *params, lag_slots=lag_slots)
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, *params: object, lag_slots: int = 0) -> Any:
        """Return a method's error."""
        return self.answer(method, *params, lag_slots=lag_slots)["error"]

    def answer(self, method: str, *params: object, lag_slots: int = 0) -> Any:
        """Return a method's whole answer."""
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()
        answer = json.loads(self.cluster.handle(body, lag_slots=lag_slots))
        assert answer["id"] == 7
        return answer

    def signed(
        self,
        *instructions: Instruction,
        signers: Sequence[Keypair] = (),
        blockhash: Hash | None = None,
        tables: Sequence[AddressLookupTableAccount] = (),
    ) -> VersionedTransaction:
        """Return a transaction of the wallet."""
        blockhash = blockhash or self.cluster.latest_blockhash()
        message = MessageV0.try_compile(self.wallet.pubkey(), list(instructions), list(tables), blockhash)
        return VersionedTransaction(message, [self.wallet, *signers])

    def pay(self, to: Pubkey, lamports: int) -> Instruction:
        """Return a transfer from the wallet."""
        return transfer(TransferParams(from_pubkey=self.wallet.pubkey(), to_pubkey=to, lamports=lamports))

    def lamports(self, key: Pubkey, commitment: str = "processed") -> int:
        """Return a balance."""
        account = self.cluster.account(key, commitment)
        return 0 if account is None else account.lamports


def encoded(tx: VersionedTransaction) -> str:
    """Return a transaction in base64."""
    return pybase64.b64encode(bytes(tx)).decode()


class CounterModel:
    """A made-up program: keeps a number in an account of its own.

    Accounts: payer, counter, system program. Data: `i` creates the counter at 5, `+` adds one, `x` refuses with 6003,
    `c` closes the counter to the payer, `r` writes without the right to.
    """

    def __init__(self, rent: int, compute_units: int = 50_000) -> None:
        self._rent = rent
        self._compute_units = compute_units
        self.seen: list[int | None] = []

    @property
    def program_id(self) -> Pubkey:
        """Where it stands."""
        return COUNTER_PROGRAM

    def execute(self, call: Call) -> Effects:
        """Run one instruction."""
        payer, counter = call.accounts[0].pubkey, call.accounts[1].pubkey
        account = call.read(counter)
        value = None if account is None else int.from_bytes(account.data, "little")
        self.seen.append(value)
        if call.data == b"x":
            raise ModelRefusal(6003, "InsufficientCollateral", ("Program log: collateral 1, needed 2",))
        if call.data == b"i":
            create = CreateAccountParams(
                from_pubkey=payer, to_pubkey=counter, lamports=self._rent, space=8, owner=COUNTER_PROGRAM
            )
            return Effects(instructions=(create_account(create),), writes={counter: (5).to_bytes(8, "little")})
        assert account is not None
        assert value is not None
        if call.data == b"c":
            return Effects(lamports={counter: -account.lamports, payer: account.lamports})
        return Effects(
            writes={counter: (value + 1).to_bytes(8, "little")},
            logs=("Program data: AQID",),
            compute_units=self._compute_units,
        )


def count(bench: Bench, data: bytes, counter: Pubkey, *, writable: bool = True) -> Instruction:
    """Return an instruction of the made-up program."""
    metas = [
        AccountMeta(bench.wallet.pubkey(), True, True),
        AccountMeta(counter, False, writable),
        AccountMeta(SYSTEM, False, False),
    ]
    return Instruction(COUNTER_PROGRAM, data, metas)


def value_of(account: Account | None) -> int | None:
    """Return a counter's number."""
    return None if account is None else int.from_bytes(account.data, "little")
