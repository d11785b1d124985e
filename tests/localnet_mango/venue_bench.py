"""The venue on a cluster of its own, with slots produced by hand."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from solders.account import Account
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from providers.base.clock import VirtualClock
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.mango.account_layouts import PerpPosition
from router.localnet.mango.actors import read_account
from router.localnet.mango.controls import open_mango
from router.localnet.mango.execution import Content
from router.localnet.mango.genesis import account_data
from router.localnet.mango.model import MangoModel
from router.localnet.mango.numbers import FRACTION_BITS
from router.localnet.sending import send
from router.localnet.world import WorldKeys, build_world
from tests.localnet_mango.market_bench import printed_in

C = TypeVar("C", bound=Content)


class StillClock(VirtualClock):
    """A clock that stands."""

    def monotonic(self) -> float:
        """Return the time, which is always the same."""
        return 0.0


class Venue:
    """A new world with both venues' accounts; Mango's actors work when slots are produced."""

    def __init__(self) -> None:
        self.cluster = Cluster(StillClock(1), ClusterConfig(slot_time_ms=400))
        self.cluster.register(MangoModel())
        build_world(self.cluster, keys=WorldKeys())
        self.world, self.controls = open_mango(self.cluster, WorldKeys())
        self.sent = 0
        self.logs: tuple[str, ...] = ()

    def send(self, *instructions: Instruction) -> int | str | None:
        """Send as the trader; return the venue's code, null when it went through."""
        return self.send_as(self.world.trader, *instructions)

    def send_as(self, wallet: Keypair, *instructions: Instruction) -> int | str | None:
        """Send as somebody else; return the venue's code, null when it went through."""
        self.sent += 1
        result = send(self.cluster, wallet, instructions, number=self.sent)
        self.logs = result.logs
        if result.ok:
            return None
        error = result.err
        assert isinstance(error, dict)
        detail = error["InstructionError"]
        assert isinstance(detail, list)
        reason = detail[1]
        if isinstance(reason, dict):
            code = reason["Custom"]
            assert isinstance(code, int)
            return code
        return str(reason)

    def printed(self, event: str) -> list[bytes]:
        """Return the fields of the events of a kind that the last transaction printed."""
        return printed_in(self.logs, event)

    def read(self, layout: type[C], key: Pubkey) -> C:
        """Return an account of the program as it is."""
        account = self.cluster.account(key)
        assert account is not None
        return layout.decode(bytes(account.data), 8)

    def edit(self, layout: type[C], key: Pubkey, change: Callable[[C], None]) -> None:
        """Change an account of the program past every rule."""
        account, content = self.cluster.account(key), self.read(layout, key)
        assert account is not None
        change(content)
        self.cluster.set_account(key, Account(account.lamports, account_data(content), account.owner))

    def collateral(self) -> int:
        """Return the trader's USDC at the venue, in its smallest unit."""
        position = read_account(self.cluster, self.world.trader_account.account).token(0)
        if position is None:
            return 0
        return position.indexed_position * 10**6 >> FRACTION_BITS

    def perp(self, symbol: str = "SOL-PERP") -> PerpPosition | None:
        """Return the trader's position in a market."""
        index = self.world.market(symbol).terms.index
        return read_account(self.cluster, self.world.trader_account.account).perp(index)

    def base(self, symbol: str = "SOL-PERP") -> Decimal:
        """Return what the trader holds, fills that wait included."""
        position, terms = self.perp(symbol), self.world.market(symbol).terms
        lots = 0 if position is None else position.effective_base_lots
        return Decimal(lots * terms.base_lot).scaleb(-terms.base_decimals)
