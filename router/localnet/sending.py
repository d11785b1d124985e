"""How actors send: whole transactions of one wallet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.transaction import VersionedTransaction

from router.localnet.bank import Execution

__all__ = ["SendingCluster", "send", "signature_of"]

_COMPUTE_LIMIT = 1_400_000
_NUMBERS = 1_000


class SendingCluster(Protocol):
    """What sending needs of a cluster."""

    def latest_blockhash(self) -> Hash:
        """Return the newest blockhash."""
        ...

    def execute(self, tx: VersionedTransaction, /) -> Execution:
        """Execute a signed transaction."""
        ...


def send(
    cluster: SendingCluster,
    wallet: Keypair,
    instructions: Sequence[Instruction],
    *,
    number: int = 0,
    cosigners: Sequence[Keypair] = (),
) -> Execution:
    """Execute instructions in one transaction, signed and paid by a wallet; `number` tells equal ones apart."""
    everything = [set_compute_unit_limit(_COMPUTE_LIMIT - number % _NUMBERS), *instructions]
    message = MessageV0.try_compile(wallet.pubkey(), everything, [], cluster.latest_blockhash())
    return cluster.execute(VersionedTransaction(message, [wallet, *cosigners]))


def signature_of(result: Execution) -> str:
    """Return the signature of what went through.

    Raises:
        ValueError: the program refused it.
    """
    if not result.ok:
        raise ValueError(f"refused: {result.err}")
    return result.signature
