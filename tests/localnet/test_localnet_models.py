"""Modelled programs inside real transactions."""

from __future__ import annotations

import pytest
from solders.account import Account
from solders.compute_budget import set_compute_unit_limit
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from tests.localnet.localnet_bench import COUNTER_PROGRAM, SOL, SYSTEM, Bench, CounterModel, count, encoded, value_of

COUNTER = Keypair.from_seed(bytes([9] * 32)).pubkey()


@pytest.fixture
def bench() -> Bench:
    """Return a cluster with the made-up program."""
    bench = Bench()
    bench.cluster.register(CounterModel(bench.cluster.minimum_balance(8)))
    return bench


def model(bench: Bench) -> CounterModel:
    """Return the program that stands in the cluster."""
    found = bench.cluster.bank.models[COUNTER_PROGRAM]
    assert isinstance(found, CounterModel)
    return found


def test_effects_run_in_place_with_the_programs_address_as_signer(bench: Bench) -> None:
    """Mid-transaction creation of the program's own account, read again by a second instruction."""
    to = Keypair().pubkey()
    before = bench.lamports(bench.wallet.pubkey())
    tx = bench.signed(bench.pay(to, SOL), count(bench, b"i", COUNTER), count(bench, b"+", COUNTER), bench.pay(to, SOL))
    result = bench.cluster.execute(tx)
    assert result.ok, result
    assert model(bench).seen == [None, 5]
    account = bench.cluster.account(COUNTER)
    assert account is not None
    assert (value_of(account), account.owner) == (6, COUNTER_PROGRAM)
    # The fee is of one signature: that of the added signer is not charged.
    assert bench.lamports(bench.wallet.pubkey()) == before - 2 * SOL - 5_000 - account.lamports
    assert bench.cluster.accounts_by_owner(COUNTER_PROGRAM) == [(COUNTER, account)]


def test_logs_read_as_the_real_program_would_print_them(bench: Bench) -> None:
    """Invoke, inner call one level deeper, data, consumed and success, in this order."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    result = bench.cluster.execute(bench.signed(bench.pay(Keypair().pubkey(), SOL), count(bench, b"+", COUNTER)))
    program = str(COUNTER_PROGRAM)
    assert list(result.logs) == [
        f"Program {SYSTEM} invoke [1]",
        f"Program {SYSTEM} success",
        f"Program {program} invoke [1]",
        "Program data: AQID",
        f"Program {program} consumed 50000 of 202850 compute units",
        f"Program {program} success",
    ]
    assert result.units == 50_150
    made = bench.rpc("simulateTransaction", encoded(bench.signed(count(bench, b"+", COUNTER))), _config())["value"]
    assert made["unitsConsumed"] == 50_000


def _config() -> dict[str, str]:
    return {"encoding": "base64", "commitment": "processed"}


def test_a_refusal_rolls_everything_back_at_its_own_index(bench: Bench) -> None:
    """The code and the index are the program's, earlier effects vanish, the fee stays paid."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    to = Keypair().pubkey()
    before = bench.lamports(bench.wallet.pubkey())
    tx = bench.signed(bench.pay(to, SOL), count(bench, b"+", COUNTER), count(bench, b"x", COUNTER), bench.pay(to, SOL))
    simulated = bench.rpc("simulateTransaction", encoded(tx), _config())["value"]
    assert simulated["err"] == {"InstructionError": [2, {"Custom": 6003}]}
    result = bench.cluster.execute(tx)
    assert result.landed
    assert result.err == {"InstructionError": [2, {"Custom": 6003}]}
    assert result.logs[-3] == "Program log: collateral 1, needed 2"
    assert result.logs[-1] == f"Program {COUNTER_PROGRAM} failed: custom program error: 0x1773"
    assert value_of(bench.cluster.account(COUNTER)) == 5
    assert bench.lamports(to) == 0
    assert bench.lamports(bench.wallet.pubkey()) == before - 5_000


def test_a_failure_behind_the_model_takes_its_writes_back(bench: Bench) -> None:
    """An ordinary instruction after it fails: the error has the transaction's own index."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    bad = bench.pay(Keypair().pubkey(), 1_000 * SOL)
    result = bench.cluster.execute(bench.signed(count(bench, b"+", COUNTER), count(bench, b"+", COUNTER), bad))
    assert result.err == {"InstructionError": [2, {"Custom": 1}]}
    assert value_of(bench.cluster.account(COUNTER)) == 5


def test_an_earlier_failure_wins_over_a_refusal(bench: Bench) -> None:
    """As in the runtime, the first instruction that fails names the error."""
    bad = bench.pay(Keypair().pubkey(), 1_000 * SOL)
    result = bench.cluster.execute(bench.signed(bad, count(bench, b"x", COUNTER)))
    assert result.err == {"InstructionError": [0, {"Custom": 1}]}


def test_a_failing_inner_call_fails_the_calling_instruction(bench: Bench) -> None:
    """The counter exists already: the system program's custom 0 at the index of the modelled instruction."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    tx = bench.signed(bench.pay(Keypair().pubkey(), SOL), count(bench, b"i", COUNTER))
    result = bench.cluster.execute(tx)
    assert result.err == {"InstructionError": [1, {"Custom": 0}]}
    assert f"Program {SYSTEM} invoke [2]" in result.logs
    assert result.logs[-1] == f"Program {COUNTER_PROGRAM} failed: custom program error: 0x0"
    bench.cluster.advance()
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    meta = bench.rpc("getTransaction", str(tx.signatures[0]), config)["meta"]
    assert [(each["index"], len(each["instructions"])) for each in meta["innerInstructions"]] == [(1, 1)]


def test_a_model_sees_what_ordinary_instructions_did_before_it(bench: Bench) -> None:
    """A counter topped up in the same transaction is closed with all that it holds."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    held = bench.lamports(COUNTER)
    before = bench.lamports(bench.wallet.pubkey())
    assert bench.cluster.execute(bench.signed(bench.pay(COUNTER, SOL), count(bench, b"c", COUNTER))).ok
    assert bench.cluster.account(COUNTER) is None
    assert bench.lamports(bench.wallet.pubkey()) == before + held - 5_000


def test_effects_stay_within_the_accounts_of_the_instruction(bench: Bench) -> None:
    """A write to an account that was passed read-only is the runtime's own error."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    result = bench.cluster.execute(bench.signed(count(bench, b"+", COUNTER, writable=False)))
    assert result.err == {"InstructionError": [0, "ReadonlyDataModified"]}
    assert value_of(bench.cluster.account(COUNTER)) == 5


def test_the_compute_limit_holds_for_models_too(bench: Bench) -> None:
    """A limit below what the program uses ends in ProgramFailedToComplete."""
    bench.cluster.execute(bench.signed(count(bench, b"i", COUNTER)))
    tight = bench.signed(set_compute_unit_limit(50_000), count(bench, b"+", COUNTER))
    assert bench.cluster.execute(tight).err == {"InstructionError": [1, "ProgramFailedToComplete"]}
    assert bench.cluster.execute(bench.signed(set_compute_unit_limit(50_150), count(bench, b"+", COUNTER))).ok


def test_rent_is_checked_on_what_a_model_wrote(bench: Bench) -> None:
    """An account that the program left short of rent fails the transaction."""
    bench.cluster.set_account(COUNTER, Account(bench.cluster.minimum_balance(8), bytes(8), COUNTER_PROGRAM))
    bench.cluster.set_rent(6_960)
    result = bench.cluster.execute(bench.signed(count(bench, b"+", COUNTER)))
    # It was short before and is not richer: allowed, as the runtime allows it.
    assert result.ok
    other = Pubkey.from_string("Counter111111111111111111111111111111111112")
    created = bench.cluster.execute(bench.signed(count(bench, b"i", other)))
    assert created.err == {"InsufficientFundsForRent": {"account_index": 1}}


def test_a_modelled_program_shows_as_a_program(bench: Bench) -> None:
    """Its account is executable; an address where nothing stands cannot be called."""
    account = bench.rpc("getAccountInfo", str(COUNTER_PROGRAM), {"encoding": "base64"})["value"]
    assert account["executable"] is True
    stranger = count(bench, b"+", COUNTER)
    stranger = type(stranger)(Keypair().pubkey(), stranger.data, stranger.accounts)
    assert bench.cluster.execute(bench.signed(stranger)).err == "ProgramAccountNotFound"
