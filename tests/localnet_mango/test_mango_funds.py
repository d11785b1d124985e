"""Accounts and money at the venue: every step is a signed transaction with real token transfers."""

from __future__ import annotations

import struct
from decimal import Decimal

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.mango.account_layouts import MangoAccount
from router.localnet.mango.actors import read_account
from router.localnet.mango.addresses import mango_account_address
from router.localnet.spl import SYSTEM_PROGRAM, TOKEN_PROGRAM, token_amount
from tests.localnet_mango.venue_bench import Venue

USDC = 10**6
ALL = (1 << 64) - 1


def meta(key: Pubkey, *, signer: bool = False, writable: bool = False) -> AccountMeta:
    return AccountMeta(key, is_signer=signer, is_writable=writable)


def moving(venue: Venue, name: str, amount: int, *, flag: bool = False, account: Pubkey | None = None) -> Instruction:
    """Return a deposit or a withdrawal of the trader's."""
    world, trader = venue.world, venue.world.trader_account
    owner = trader.wallet.pubkey()
    metas = [
        meta(world.group),
        meta(account or trader.account, writable=True),
        meta(owner, signer=True),
        meta(world.usdc.address, writable=True),
        meta(world.usdc.vault, writable=True),
        meta(world.usdc.oracle),
        meta(trader.token_account, writable=True),
    ]
    if name == "token_deposit":
        metas.append(meta(owner, signer=True))
    metas += [meta(TOKEN_PROGRAM), meta(world.usdc.address), meta(world.usdc.oracle)]
    return Instruction(world.program_id, instruction_discriminator(name) + struct.pack("<Q?", amount, flag), metas)


def wallet_usdc(venue: Venue) -> int:
    account = venue.cluster.account(venue.world.trader_account.token_account)
    assert account is not None
    return token_amount(bytes(account.data))


def test_deposit_and_withdrawal_move_tokens_and_are_whole_again() -> None:
    """What was deposited comes back to the last unit, and the vault holds what it held."""
    venue = Venue()
    before = wallet_usdc(venue)

    assert venue.send(moving(venue, "token_deposit", 250 * USDC)) is None
    assert wallet_usdc(venue) == before - 250 * USDC
    assert venue.send(moving(venue, "token_withdraw", 250 * USDC)) is None

    assert wallet_usdc(venue) == before
    assert venue.collateral() == 10_000 * USDC


def test_withdrawing_everything_frees_the_slot() -> None:
    """The largest amount without a borrow means all; the token's slot is then free."""
    venue = Venue()

    assert venue.send(moving(venue, "token_withdraw", ALL)) is None

    assert read_account(venue.cluster, venue.world.trader_account.account).token(0) is None
    assert wallet_usdc(venue) == 110_000 * USDC


def test_more_than_the_account_holds_is_refused() -> None:
    """Without leave to borrow it is the program's general refusal; with it, health decides."""
    venue = Venue()

    assert venue.send(moving(venue, "token_withdraw", 10_001 * USDC)) == 6000
    assert venue.send(moving(venue, "token_withdraw", 10_001 * USDC, flag=True)) == 6007


def test_a_gate_closes_deposits_and_withdrawals_apart() -> None:
    """Each bit of the group's gate switches one instruction off and on again."""
    venue = Venue()
    venue.controls.set_ix_gate(40)

    assert venue.send(moving(venue, "token_deposit", USDC)) == 6042
    assert venue.send(moving(venue, "token_withdraw", USDC)) is None
    venue.controls.set_ix_gate(40, closed=False)
    assert venue.send(moving(venue, "token_deposit", USDC)) is None


def test_margin_in_use_does_not_leave() -> None:
    """A position keeps what its initial margin needs; nothing moves when the answer is no."""
    venue = Venue()
    venue.controls.foreign_trade("SOL-PERP", "long", Decimal(300))
    call = moving(venue, "token_withdraw", 9_000 * USDC)
    market = venue.world.market("SOL-PERP")
    call = Instruction(call.program_id, call.data, [*call.accounts, meta(market.address), meta(market.oracle)])

    assert venue.send(call) == 6007
    assert venue.collateral() == 10_000 * USDC


def test_an_account_is_made_and_closed_by_its_owner() -> None:
    """A second account has the slots asked for; closed, it gives its rent back."""
    venue = Venue()
    world, wallet = venue.world, venue.world.trader
    owner = wallet.pubkey()
    address = mango_account_address(world.program_id, world.group, owner, 7)[0]
    name = b"router"
    data = struct.pack("<I5BI", 7, 4, 0, 4, 8, 0, len(name)) + name
    metas = [
        meta(world.group),
        meta(address, writable=True),
        meta(owner, signer=True),
        meta(owner, signer=True, writable=True),
        meta(SYSTEM_PROGRAM),
    ]
    create = Instruction(world.program_id, instruction_discriminator("account_create_v2") + data, metas)

    assert venue.send(create) is None
    made = venue.cluster.account(address)
    assert made is not None
    assert len(made.data) == MangoAccount.space(tokens=4, serum3=0, perps=4, perp_open_orders=8)
    assert read_account(venue.cluster, address).head.owner == owner
    assert venue.send(moving(venue, "token_deposit", USDC, account=address)) is None
    close = [meta(world.group), meta(address, writable=True), meta(owner, signer=True), meta(owner, writable=True)]
    end = Instruction(
        world.program_id, instruction_discriminator("account_close") + b"\0", [*close, meta(TOKEN_PROGRAM)]
    )
    assert venue.send(end) == 2501
    assert venue.send(moving(venue, "token_withdraw", ALL, account=address)) is None
    assert venue.send(end) is None
    assert venue.cluster.account(address) is None
