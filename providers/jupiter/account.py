"""What an operator does with the wallet: `perp-router account init|show|unwrap --provider jupiter`.

The venue has no account to set up or to fill: collateral stays in the wallet until an order sends it. What closes pay
in SOL arrives wrapped, and stays so until it is unwrapped here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec
from solders.pubkey import Pubkey

from providers.base.errors import InvalidSize, LiveTradingOff, MarketPaused
from providers.base.types import LockRef, Purpose, Submission, VenueOrder, VenuePosition
from providers.jupiter.addresses import token_address
from providers.jupiter.config import JupiterConfig
from providers.jupiter.constants import NATIVE_MINT
from providers.jupiter.errors import classify
from providers.jupiter.history import AccountHistory
from providers.jupiter.positions import positions_of
from providers.jupiter.reading import VenueReader
from providers.jupiter.tokens import close_token_account
from providers.solana.cluster import SolanaCluster

__all__ = ["AccountSummary", "JupiterKeeper"]

_SOL_DECIMALS: Final = 9


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The wallet and what it holds on the venue, at `slot`.

    Attributes:
        sol: lamports as SOL, which opens wrap what they need of.
        tokens: by symbol, in whole tokens; SOL here is wrapped, from closes, and can be unwrapped.
        requests: that wait for a keeper or for their trigger price.
    """

    owner: str
    sol: Decimal
    tokens: dict[str, Decimal]
    positions: tuple[VenuePosition, ...]
    requests: tuple[VenueOrder, ...]
    slot: int
    as_of: datetime


class JupiterKeeper:
    """The signer's wallet at the venue.

    Args:
        cluster: nodes, signer, sender.
        reader: of the venue.
        history: of the owner's requests.
        config: program.
    """

    def __init__(
        self, cluster: SolanaCluster, reader: VenueReader, history: AccountHistory, config: JupiterConfig
    ) -> None:
        self._cluster = cluster
        self._reader = reader
        self._history = history
        self._classify = partial(classify, program_id=str(config.program_id))

    async def init(self) -> Submission | None:
        """Return null: nothing needs to be set up."""
        return None

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Refuse: there is no account to deposit into.

        Raises:
            InvalidSize: always.
        """
        del lock
        raise InvalidSize(
            f"jupiter has no account to deposit {amount} into: collateral stays in the wallet, in the token of each"
            " market for its longs and in USDC for shorts"
        )

    async def unwrap(self) -> Submission | None:
        """Build the closing of the wallet's wrapped SOL account, into SOL; null where there is none.

        It waits for every request of the owner, triggers too: they pay into it, and a keeper that finds it missing may
        execute nothing.

        Raises:
            LiveTradingOff: there is no key.
            MarketPaused: a request waits.
            ProviderError: as `Sender.prepare`.
        """
        signer = self._cluster.signer
        if signer is None:
            raise LiveTradingOff("no key is configured")
        view = await self._reader.view()
        if view.wallet is None or NATIVE_MINT not in view.wallet.tokens:
            return None
        waiting = await self._history.resting(signer.public_key, view)
        if waiting:
            keys = ", ".join(each.venue_order_id for each in waiting)
            raise MarketPaused(f"{len(waiting)} requests may still pay into the wrapped SOL account: {keys}")
        owner = signer.public_key
        return await self._cluster.sender.prepare(
            provider="jupiter",
            purpose=Purpose.SETUP,
            instructions=[close_token_account(token_address(owner, NATIVE_MINT), owner)],
            lock=None,
            number=0,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=self._classify,
        )

    async def show(self) -> AccountSummary:
        """Return the wallet as it is.

        Raises:
            LiveTradingOff: there is no key.
        """
        if self._reader.owner is None:
            raise LiveTradingOff("no key is configured")
        view = await self._reader.view()
        wallet = view.wallet
        amounts: Mapping[Pubkey, int] = {} if wallet is None else wallet.tokens
        tokens = {
            each.symbol: Decimal(amounts[each.custody.mint]).scaleb(-each.custody.decimals)
            for each in view.custodies.values()
            if each.custody.mint in amounts
        }
        return AccountSummary(
            owner=str(self._reader.owner),
            sol=Decimal(0 if wallet is None else wallet.lamports).scaleb(-_SOL_DECIMALS),
            tokens=tokens,
            positions=positions_of(view),
            requests=await self._history.resting(self._reader.owner, view),
            slot=view.slot,
            as_of=self._cluster.clock.now(),
        )
