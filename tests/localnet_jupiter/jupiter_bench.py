"""The venue on a cluster of its own, with slots produced by hand."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec
from solders.account import Account
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.anchor import event_discriminator
from router.localnet.bank import Execution
from router.localnet.borsh import Borsh
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.history import Landed
from router.localnet.jupiter.actors import code_of, read_content
from router.localnet.jupiter.addresses import EVENT_PREFIX, event_authority
from router.localnet.jupiter.calls import Slot, close, create_decrease, create_increase, execute
from router.localnet.jupiter.controls import open_jupiter
from router.localnet.jupiter.layouts import Content, Custody, Position, PositionRequest, account_data
from router.localnet.jupiter.model import JupiterModel
from router.localnet.jupiter.pricing import LONG, SHORT
from router.localnet.jupiter.venue import DECREASE, INCREASE
from router.localnet.jupiter.world import give_tokens, jupiter_keepers
from router.localnet.sending import send
from router.localnet.spl import associated_token_account, token_amount
from router.localnet.world import WorldKeys, build_world
from tests.localnet.localnet_bench import FixedClock

E = TypeVar("E", bound=Borsh)

USD = 10**6
SOL = 10**9
SLOT_MS = 400


class Venue:
    """A new world with Drift's accounts and the venue's; the actors work when slots are produced."""

    def __init__(self, *, keeper: bool = False) -> None:
        self.cluster = Cluster(FixedClock(1), ClusterConfig(slot_time_ms=SLOT_MS))
        self.cluster.register(JupiterModel(jupiter_keepers(WorldKeys())))
        build_world(self.cluster, keys=WorldKeys())
        self.world, self.controls = open_jupiter(self.cluster, WorldKeys())
        self.controls.run_keeper(running=keeper)
        self.trader = self.world.trader.pubkey()
        self.controls.fund_wallet(self.trader, "USDC", Decimal(100_000))
        self.counter = 0
        self.last: Execution | None = None

    # Time

    def wait(self, seconds: int) -> None:
        """Let seconds pass, slot by slot."""
        until = self.cluster.unix_timestamp + seconds
        while self.cluster.unix_timestamp < until:
            self.cluster.advance()

    # Sending

    def send(self, *instructions: Instruction, wallet: Keypair | None = None) -> int | None:
        """Send as the trader or another wallet; return the code of a refusal, null when it went through."""
        self.counter += 1
        wallet = self.world.trader if wallet is None else wallet
        self.last = send(self.cluster, wallet, instructions, number=self.counter)
        if self.last.ok:
            return None
        code = code_of(self.last)
        assert code is not None, self.last.err
        return code

    def slot(self, market: str = "SOL-PERP", side: int = SHORT) -> Slot:
        """Return where one of the trader's positions is."""
        return Slot.of(self.world, self.trader, market, side)

    def open(
        self,
        *,
        market: str = "SOL-PERP",
        side: int = SHORT,
        size_usd: int = 1_000,
        collateral: int = 100 * USD,
        price: int | None = None,
    ) -> Pubkey:
        """Make a market request for more (whole dollars, native collateral) and return its address."""
        self.counter += 1
        slot = self.slot(market, side)
        call = create_increase(slot, self.counter, size_usd=size_usd * USD, collateral_tokens=collateral, price=price)
        key = slot.request(self.counter, INCREASE)
        assert self.send(call) is None, self.last
        return key

    def reduce(
        self,
        *,
        market: str = "SOL-PERP",
        side: int = SHORT,
        size_usd: int = 0,
        collateral_usd: int = 0,
        price: int | None = None,
        trigger: tuple[int, bool] | None = None,
    ) -> Pubkey:
        """Make a request for less (whole dollars; all of it without a size) and return its address."""
        self.counter += 1
        slot = self.slot(market, side)
        call = create_decrease(
            slot,
            self.counter,
            size_usd=size_usd * USD,
            collateral_usd=collateral_usd * USD,
            price=price,
            trigger=trigger,
        )
        key = slot.request(self.counter, DECREASE)
        assert self.send(call) is None, self.last
        return key

    def execute(self, key: Pubkey, *, wallet: Keypair | None = None) -> int | None:
        """Execute a request as the keeper, or as another wallet."""
        wallet = self.world.keeper if wallet is None else wallet
        request = self.request(key)
        assert request is not None
        position = read_content(self.cluster, request.position, Position)
        return self.send(execute(self.world, key, request, position, wallet.pubkey()), wallet=wallet)

    def close(self, key: Pubkey, *, wallet: Keypair | None = None) -> int | None:
        """Close a request as the keeper, or as another wallet that says it is one."""
        wallet = self.world.keeper if wallet is None else wallet
        request = self.request(key)
        assert request is not None
        return self.send(close(self.world, key, request, keeper=wallet.pubkey()), wallet=wallet)

    def cancel(self, key: Pubkey) -> int | None:
        """Close a request as its owner."""
        request = self.request(key)
        assert request is not None
        return self.send(close(self.world, key, request))

    def holding(self, *, side: int = SHORT, size_usd: int = 1_000, collateral: int = 100 * USD) -> None:
        """Have the trader hold a position in SOL."""
        if side == LONG:
            self.wrap(collateral)
        key = self.open(side=side, size_usd=size_usd, collateral=collateral)
        assert self.execute(key) is None, self.last
        assert self.close(key) is None, self.last

    def wrap(self, lamports: int) -> None:
        """Give the trader wrapped SOL."""
        give_tokens(self.cluster, self.trader, self.world.custody("SOL"), Decimal(lamports).scaleb(-9))

    # State

    def call(self, method: str, *params: object) -> object:
        """Ask the node, as any client would; return the result."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = msgspec.json.decode(self.cluster.handle(body), type=dict[str, object])
        assert "error" not in answer, answer
        return answer["result"]

    def request(self, key: Pubkey) -> PositionRequest | None:
        """Return a request, or null when it is closed."""
        if self.cluster.account(key) is None:
            return None
        return read_content(self.cluster, key, PositionRequest)

    def position(self, market: str = "SOL-PERP", side: int = SHORT) -> Position:
        """Return one of the trader's positions."""
        return read_content(self.cluster, self.slot(market, side).address, Position)

    def custody(self, symbol: str) -> Custody:
        """Return a custody."""
        return read_content(self.cluster, self.world.custody(symbol).address, Custody)

    def edit(self, key: Pubkey, content: Content) -> None:
        """Write what an account of the venue holds."""
        account = self.cluster.account(key)
        assert account is not None
        self.cluster.set_account(key, Account(account.lamports, account_data(content), account.owner))

    def tokens(self, symbol: str, owner: Pubkey | None = None) -> int:
        """Return what the trader or another owner holds of a token."""
        mint = self.world.custody(symbol).mint
        account = self.cluster.account(associated_token_account(self.trader if owner is None else owner, mint))
        return 0 if account is None else token_amount(bytes(account.data))

    def vault(self, symbol: str) -> int:
        """Return what the pool holds of a token."""
        account = self.cluster.account(self.world.custody(symbol).vault)
        assert account is not None
        return token_amount(bytes(account.data))

    def lamports(self, key: Pubkey | None = None) -> int:
        """Return the trader's or another balance."""
        account = self.cluster.account(self.trader if key is None else key)
        return 0 if account is None else account.lamports

    def landed(self, signature: str | None = None) -> Landed:
        """Return a transaction, by default the last."""
        if signature is None:
            assert self.last is not None
            signature = self.last.signature
        landed = self.cluster.transaction(signature)
        assert landed is not None
        return landed

    def events(self, kind: type[E], signature: str | None = None) -> list[E]:
        """Return the events of a kind in the inner instructions of a transaction."""
        return events_in(self.landed(signature), kind)


def events_in(landed: Landed, kind: type[E]) -> list[E]:
    """Return the events of a kind that a transaction emitted."""
    prefix = EVENT_PREFIX + event_discriminator(kind.__name__)
    found: list[E] = []
    for call in _inner(landed):
        if call[2].startswith(prefix):
            assert call[1] == [bytes(event_authority()[0])]
            found.append(kind.decode(call[2], len(prefix)))
    return found


def _inner(landed: Landed) -> Sequence[tuple[bytes, list[bytes], bytes]]:
    """Return program, accounts and data of every inner instruction."""
    return [
        (landed.keys[each.program], [landed.keys[index] for index in each.accounts], each.data)
        for _, group in landed.inner
        for each in group
    ]
