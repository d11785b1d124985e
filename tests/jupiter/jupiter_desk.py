"""A desk at the embedded cluster: the Jupiter provider over the wire, on virtual time, on the venue's model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

import msgspec
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from providers.base.types import LockRef, OrderKind, OrderTerms, Outcome, Side, Submission, Trigger
from providers.jupiter.build import JupiterOrder, decode_order
from providers.jupiter.config import JupiterConfig
from providers.jupiter.provider import JupiterProvider
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster
from router.localnet.jupiter.addresses import position_address
from router.localnet.jupiter.controls import open_jupiter
from router.localnet.jupiter.model import JupiterModel
from router.localnet.jupiter.pricing import SHORT
from router.localnet.jupiter.world import jupiter_keepers
from router.localnet.spl import associated_token_account, token_amount
from router.localnet.world import WorldKeys, build_world
from tests.venue_desk import SLOT_S, SOL, VenueDesk, play_at

__all__ = ["SLOT_S", "SOL", "JupiterDesk", "at_jupiter_desk", "order_in"]

T = TypeVar("T")

PURSE_USDC = Decimal(100_000)


def order_in(submission: Submission) -> JupiterOrder:
    """Return the venue's part of a submission."""
    order = decode_order(decode_body(submission).venue)
    assert order is not None
    return order


class JupiterDesk(VenueDesk[JupiterProvider]):
    """Jupiter; `world` and `controls` are the embedded cluster's."""

    def __init__(
        self, *, seed: int = 1, nodes: int = 2, config: JupiterConfig | None = None, signer: Keypair | None = None
    ) -> None:
        super().__init__(seed=seed, nodes=nodes)
        keys = WorldKeys()
        self.cluster.register(JupiterModel(jupiter_keepers(keys)))
        build_world(self.cluster, keys=keys)
        self.world, self.controls = open_jupiter(self.cluster, keys)
        self.controls.fund_wallet(self.world.trader.pubkey(), "USDC", PURSE_USDC)
        self.signer = signer or self.world.trader
        self.owner = self.signer.pubkey()
        self.config = config or JupiterConfig()
        self.connect(signer=self.signer)

    def provider_on(self, solana: SolanaCluster) -> JupiterProvider:
        """Return a provider that remembers nothing."""
        return JupiterProvider(solana, self.config)

    async def opened(self, side: Side = Side.LONG, size: str = "1", **more: object) -> Outcome:
        """Open, and wait for what became of it."""
        return await self.settled(await self.open(side, size, **more))

    async def closed(self, side: Side = Side.LONG, size: str = "1", **more: object) -> Outcome:
        """Close, and wait for what became of it."""
        return await self.settled(await self.close(side, size, **more))

    async def trigger_terms(
        self,
        side: Side,
        size: Decimal,
        price: str,
        *,
        above: bool,
        worst: str,
        lock: LockRef | None = None,
        number: int = 1,
    ) -> OrderTerms:
        """Return the terms of a trigger."""
        terms = await self.terms(side, f"{size:f}", kind=OrderKind.CLOSE, worst=worst, lock=lock, number=number)
        return msgspec.structs.replace(terms, trigger=Trigger(price=Decimal(price), above=above))

    async def fees(self, submission: Submission) -> int:
        """Return what a transaction that landed paid the network."""
        record = await self.solana.pool.transaction(submission.handle)
        assert record is not None
        return record.fee

    def lamports(self, key: Pubkey | None = None) -> int:
        """Return what an account has; the owner's wallet when none is named."""
        account = self.cluster.account(key or self.owner)
        return 0 if account is None else account.lamports

    def set_lamports(self, lamports: int) -> None:
        """Set what the owner's wallet has."""
        self.cluster.set_account(self.owner, Account(lamports, b"", Pubkey.default()))

    def drop_token_account(self, symbol: str) -> None:
        """Take the owner's token account away."""
        self.cluster.set_account(associated_token_account(self.owner, self.world.custody(symbol).mint), None)

    async def lock_of(self, signer: Keypair) -> LockRef:
        """Return a new order's first generation, of somebody else's key."""
        return LockRef(terms=await self._connection(signer).lock.new_terms(), part=0, generation=0)

    def copy_short_to(self, symbol: str) -> None:
        """Give the owner the same short in SOL once more, backed by another token."""
        market, other = self.world.market(SOL).address, self.world.custody(symbol).address
        address, bump = position_address(self.owner, self.world.pool, market, other, SHORT)
        account = self.cluster.account(self.world.position(self.owner, SOL, SHORT))
        assert account is not None
        data = bytearray(account.data)
        data[104:136], data[209] = bytes(other), bump
        self.cluster.set_account(address, Account(account.lamports, bytes(data), account.owner))

    def with_config(self, config: JupiterConfig) -> JupiterProvider:
        """Return a provider with other settings, on connections of its own."""
        return JupiterProvider(self._connection(self.signer), config)

    def tokens(self, symbol: str) -> int | None:
        """Return the amount in the owner's token account; null where there is none."""
        account = self.cluster.account(associated_token_account(self.owner, self.world.custody(symbol).mint))
        return None if account is None else token_amount(bytes(account.data))

    def exists(self, key: str | Pubkey) -> bool:
        """Whether an account is there."""
        return self.cluster.account(Pubkey.from_string(str(key))) is not None


def at_jupiter_desk(play: Callable[[JupiterDesk], Awaitable[T]], **options: object) -> T:
    """Run a play at a new desk on virtual time; its slots begin two slots before."""
    return play_at(lambda: JupiterDesk(**options), play)  # type: ignore[arg-type]
