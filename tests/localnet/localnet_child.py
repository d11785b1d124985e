"""A process with a cluster on disk that pays and says so, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from solders.keypair import Keypair

from tests.localnet.localnet_bench import Bench

bench = Bench(Path(sys.argv[1]))
print(bench.cluster.genesis_hash, flush=True)  # noqa: T201 - the parent reads it
for number in range(100_000):
    to = Keypair.from_seed(number.to_bytes(32, "little")).pubkey()
    result = bench.cluster.execute(bench.signed(bench.pay(to, 1_000_000)))
    print(result.signature, to, bench.cluster.slot, bench.cluster.unix_timestamp, flush=True)  # noqa: T201
    bench.cluster.advance()
