"""Gates, and the account over the wire: set-up, deposit, withdrawal, settling profit."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from providers.base.errors import (
    AccountMissing,
    InsufficientCollateral,
    LeverageAboveMaximum,
    MarketPaused,
    MarketReduceOnly,
    NoLiquidity,
)
from providers.base.types import Lifecycle, OrderKind, OutcomeState, Purpose, Submission
from providers.mango.config import MangoConfig
from providers.solana.cluster import SolanaCluster
from tests.mango.mango_desk import SOL, MangoDesk, at_mango_desk

IX_GATE_AT = 864
PERP_PLACE_ORDER_BIT = 22
REDUCE_ONLY_AT = 872


def edit(desk: MangoDesk, key: Pubkey, change: Callable[[bytearray], None]) -> None:
    """Change an account's bytes on the chain."""
    account = desk.cluster.account(key)
    assert account is not None
    data = bytearray(account.data)
    change(data)
    desk.cluster.set_account(key, Account(account.lamports, bytes(data), account.owner))


def test_a_reduce_only_market_takes_closes_and_no_opens() -> None:
    """Read from the chain: opens are refused by class before anything is built, a close goes through."""

    async def play(desk: MangoDesk) -> None:
        await desk.settled(await desk.sent(await desk.terms(size="2")))
        edit(desk, desk.world.market(SOL).address, lambda data: data.__setitem__(REDUCE_ONLY_AT, 1))
        await desk.slots(2)
        with pytest.raises(MarketReduceOnly):
            await desk.provider.prepare_open(await desk.terms(worst="200"))
        closed = await desk.settled(await desk.sent(await desk.terms(size="2", kind=OrderKind.CLOSE)))
        assert closed.state is OutcomeState.FILLED
        markets = {each.symbol: each.lifecycle for each in await desk.provider.markets()}
        assert markets[SOL] is Lifecycle.REDUCE_ONLY

    at_mango_desk(play)


def test_a_gate_of_the_group_stops_everything() -> None:
    """With the instruction's bit set the venue is halted, an open is refused by the gate, a close by the program."""

    async def play(desk: MangoDesk) -> None:
        await desk.settled(await desk.sent(await desk.terms()))
        gate = (1 << PERP_PLACE_ORDER_BIT).to_bytes(16, "little")
        edit(desk, desk.world.group, lambda data: data.__setitem__(slice(IX_GATE_AT, IX_GATE_AT + 16), gate))
        await desk.slots(2)
        with pytest.raises(MarketPaused):
            await desk.provider.prepare_open(await desk.terms(worst="200"))
        with pytest.raises(MarketPaused):
            await desk.provider.prepare_close(await desk.terms(kind=OrderKind.CLOSE, worst="100"))
        assert (await desk.provider.state()).lifecycle is Lifecycle.HALTED

    at_mango_desk(play)


def test_what_the_account_or_the_market_cannot_carry_is_refused() -> None:
    """More than the book, the account's health or the market's leverage allows is refused by class."""

    async def play(desk: MangoDesk) -> None:
        with pytest.raises(NoLiquidity):
            await desk.provider.prepare_open(await desk.terms(size="100000", worst="1000"))
        with pytest.raises(InsufficientCollateral):
            await desk.provider.prepare_open(await desk.terms(size="1000", worst="1000", leverage="9"))
        with pytest.raises(InsufficientCollateral):
            await desk.provider.prepare_open(await desk.terms(size="100", worst="1000", leverage="1"))
        with pytest.raises(LeverageAboveMaximum):
            await desk.provider.prepare_open(await desk.terms(worst="1000", leverage="50"))

    at_mango_desk(play)


async def landed(solana: SolanaCluster, desk: MangoDesk, submission: Submission) -> bool | None:
    """Send and wait until it is finalized."""
    await solana.sender.submit(submission)
    await desk.slots(45)
    return await solana.proofs.landed(submission)


def test_an_account_is_set_up_filled_shown_and_emptied() -> None:
    """Init makes the account once; a deposit and a withdrawal move the wallet's USDC; what is not there is refused."""

    async def play(desk: MangoDesk) -> None:
        # Account number 1 of a wallet that has tokens is not set up yet.
        provider = desk.provider
        with pytest.raises(AccountMissing):
            await provider.prepare_open(await desk.terms(worst="200"))
        setup = await provider.init()
        assert setup is not None
        assert await landed(desk.solana, desk, setup)
        assert await provider.init() is None
        deposit = await provider.deposit(Decimal("100.5"), await desk.lock())
        assert await landed(desk.solana, desk, deposit)
        shown = await provider.show()
        assert (shown.exists, shown.usdc, shown.open_orders) == (True, Decimal("100.5"), 0)
        with pytest.raises(InsufficientCollateral):
            await provider.withdraw(Decimal(101))
        withdrawal = await provider.withdraw(Decimal("40.5"), await desk.lock())
        assert withdrawal.purpose is Purpose.WITHDRAW
        assert await landed(desk.solana, desk, withdrawal)
        after = await provider.show()
        assert after.usdc == 60
        assert after.wallet_usdc - shown.wallet_usdc == Decimal("40.5")

    at_mango_desk(play, config=MangoConfig(account_num=1))
