"""State on disk: what was answered as landed is there again, whatever ended the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from tests.localnet.localnet_bench import SOL, Bench, encoded

ROOT = Path(__file__).resolve().parents[2]


def test_a_restart_knows_everything(tmp_path: Path) -> None:
    """Accounts, history, statuses, rent, genesis and blockhashes; slots, heights and time go on."""
    first = Bench(tmp_path)
    to, owner = Keypair().pubkey(), Keypair().pubkey()
    first.cluster.advance(40)
    blockhash = first.cluster.latest_blockhash()
    tx = first.signed(first.pay(to, SOL))
    first.cluster.execute(tx)
    unsent = first.signed(first.pay(to, 2 * SOL))
    first.cluster.set_account(owner, Account(SOL, b"data", to))
    first.cluster.set_rent(1_740)
    first.cluster.warp(20, seconds=500)
    slot, height, time_s = first.cluster.slot, first.cluster.block_height, first.cluster.unix_timestamp

    first.cluster.abandon()
    second = Bench(tmp_path, seed=2)
    assert second.cluster.genesis_hash == first.cluster.genesis_hash
    assert second.lamports(to) == SOL
    assert second.cluster.accounts_by_owner(to) == first.cluster.accounts_by_owner(to)
    assert second.cluster.minimum_balance(0) == 445_440
    assert second.cluster.slot > slot
    assert second.cluster.block_height > height
    assert second.cluster.unix_timestamp >= time_s
    status = second.rpc("getSignatureStatuses", [str(tx.signatures[0])])["value"][0]
    assert (status["err"], status["slot"]) == (None, 1_040)
    assert second.rpc("isBlockhashValid", str(blockhash), {"commitment": "processed"})["value"] is True
    again = second.error("sendTransaction", encoded(tx), {"encoding": "base64", "preflightCommitment": "processed"})
    assert again["data"]["err"] == "AlreadyProcessed"
    assert second.cluster.execute(unsent).ok
    assert second.lamports(to) == 3 * SOL


def test_the_finalized_view_is_not_lost_by_a_restart(tmp_path: Path) -> None:
    """What an older view showed is still shown at that commitment."""
    first = Bench(tmp_path)
    to = Keypair().pubkey()
    first.cluster.execute(first.signed(first.pay(to, SOL)))
    first.cluster.advance(40)
    assert first.lamports(to, "finalized") == SOL
    first.cluster.abandon()
    second = Bench(tmp_path)
    assert second.lamports(to, "finalized") == SOL
    signatures = second.rpc("getSignaturesForAddress", str(to), {"commitment": "finalized"})
    assert [each["confirmationStatus"] for each in signatures] == ["finalized"]


def test_a_half_written_record_is_cut_off(tmp_path: Path) -> None:
    """A kill in the middle of a write loses that record and nothing else, and writing goes on after it."""
    first = Bench(tmp_path)
    to = Keypair().pubkey()
    first.cluster.execute(first.signed(first.pay(to, SOL)))
    log = max(tmp_path.glob("*.log"), key=lambda path: int(path.stem))
    with log.open("ab") as file:
        file.write(b"\x40\0\0\0half")
    first.cluster.abandon()
    second = Bench(tmp_path)
    assert second.lamports(to) == SOL
    second.cluster.execute(second.signed(second.pay(to, SOL)))
    second.cluster.abandon()
    assert Bench(tmp_path).lamports(to) == 2 * SOL


def test_two_clusters_never_share_a_directory(tmp_path: Path) -> None:
    """The second is refused while the first runs, even to reset it; closing the first lets it in."""
    first = Bench(tmp_path)
    for reset in (False, True):
        with pytest.raises(BlockingIOError, match="another cluster"):
            Bench(tmp_path, reset=reset)
    first.cluster.bank.close()
    assert Bench(tmp_path).cluster.genesis_hash == first.cluster.genesis_hash


def test_reset_begins_another_cluster(tmp_path: Path) -> None:
    """Nothing is left, and the genesis hash is another."""
    first = Bench(tmp_path)
    to = Keypair().pubkey()
    first.cluster.execute(first.signed(first.pay(to, SOL)))
    first.cluster.abandon()
    second = Bench(tmp_path, reset=True, seed=9)
    assert second.cluster.genesis_hash != first.cluster.genesis_hash
    assert second.lamports(to) == 0


def test_a_fork_is_a_fork_after_a_restart_too(tmp_path: Path) -> None:
    """What was taken back stays taken back."""
    first = Bench(tmp_path)
    first.cluster.advance(40)
    to = Keypair().pubkey()
    tx = first.signed(first.pay(to, SOL))
    first.cluster.advance()
    first.cluster.execute(tx)
    first.cluster.fork(1)
    first.cluster.advance(2)
    first.cluster.abandon()
    second = Bench(tmp_path)
    assert second.lamports(to) == 0
    assert second.cluster.transaction(str(tx.signatures[0])) is None
    assert second.cluster.block_height > first.cluster.block_height


@pytest.mark.parametrize("answers", [1, 25, 60])
def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path, answers: int) -> None:
    """SIGKILL while transactions are answered: each answered one is there, and slots and time never go back."""
    child = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-m", "tests.localnet.localnet_child", str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert child.stdout is not None
    genesis = child.stdout.readline().strip()
    lines = [child.stdout.readline().split() for _ in range(answers)]
    child.kill()
    rest, _ = child.communicate()
    lines += [line.split() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    bench = Bench(tmp_path)
    assert str(bench.cluster.genesis_hash) == genesis
    for signature, to, _, _ in lines:
        assert bench.cluster.transaction(signature) is not None
        assert bench.lamports(Pubkey.from_string(to)) == 1_000_000
    assert bench.cluster.slot > int(lines[-1][2])
    assert bench.cluster.unix_timestamp >= int(lines[-1][3])
