"""Where every lamport and every token goes: rents, fees and the escrow, to the unit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed

from router.localnet.jupiter.calls import create_increase
from router.localnet.jupiter.pricing import LONG
from router.localnet.jupiter.venue import INCREASE
from router.localnet.spl import TOKEN_PROGRAM
from tests.localnet_jupiter.jupiter_bench import SOL, USD, Venue

FEE = 5_000
REQUEST_RENT, ESCROW_RENT, POSITION_RENT = 3_062_400, 2_039_280, 2_394_240


def test_rents_are_those_of_the_widths_on_chain(venue: Venue) -> None:
    """312 bytes for a request, 165 for its escrow, 216 for a position, at the cluster's rent."""
    before = venue.lamports()
    key = venue.open()
    assert venue.lamports(key) == REQUEST_RENT
    assert venue.lamports(venue.slot().address) == POSITION_RENT
    assert before - venue.lamports() == FEE + REQUEST_RENT + ESCROW_RENT + POSITION_RENT


def test_rents_follow_the_cluster_s(venue: Venue) -> None:
    """At the rent of mainnet in September 2026 a request holds what a real one of then holds."""
    venue.cluster.set_rent(2_540)
    key = venue.open()
    assert venue.lamports(key) == 2_235_200
    assert venue.close(key) is None
    assert venue.lamports(venue.slot().address) == venue.cluster.minimum_balance(216) == 1_747_520


def test_a_request_that_is_given_back_costs_two_fees_and_a_position_s_rent(venue: Venue) -> None:
    """Rejected by the keeper: the collateral and both rents are back; the position's account stays, and is flat."""
    lamports, tokens = venue.lamports(), venue.tokens("USDC")
    key = venue.open()
    assert venue.tokens("USDC") == tokens - 100 * USD
    assert venue.close(key) is None
    assert lamports - venue.lamports() == FEE + POSITION_RENT
    assert venue.tokens("USDC") == tokens
    # The next one finds the account there.
    assert venue.close(venue.open()) is None
    assert lamports - venue.lamports() == 2 * FEE + POSITION_RENT
    # The owner's own close is a transaction more.
    key = venue.open()
    venue.wait(46)
    assert venue.cancel(key) is None
    assert lamports - venue.lamports() == 4 * FEE + POSITION_RENT
    assert venue.tokens("USDC") == tokens


@pytest.mark.parametrize("price", [150, 140])
def test_open_fill_close(venue: Venue, price: int) -> None:
    """A round trip costs two transaction fees, the position's rent, and the venue's two fees less the profit."""
    lamports, tokens = venue.lamports(), venue.tokens("USDC")
    venue.holding()
    assert lamports - venue.lamports() == FEE + POSITION_RENT
    assert tokens - venue.tokens("USDC") == 100 * USD
    venue.controls.set_oracle_price("SOL-PERP", Decimal(price))
    key = venue.reduce()
    assert venue.lamports() == lamports - 2 * FEE - POSITION_RENT - REQUEST_RENT - ESCROW_RENT
    assert venue.execute(key) is None
    assert venue.close(key) is None
    assert lamports - venue.lamports() == 2 * FEE + POSITION_RENT
    profit = 1_000 * USD * (150 - price) // 150
    assert tokens - venue.tokens("USDC") == 2 * 700_000 - profit


def test_wrapped_sol_is_lamports(venue: Venue) -> None:
    """A long of SOL that is given back: the escrow's lamports are its rent and the collateral, and both return."""
    venue.wrap(SOL)
    account = venue.slot(side=LONG).wallet_tokens
    wrapped, lamports = venue.lamports(account), venue.lamports()
    key = venue.open(side=LONG, collateral=SOL)
    assert wrapped - venue.lamports(account) == SOL
    assert venue.tokens("SOL", key) == SOL
    assert venue.close(key) is None
    assert venue.lamports(account) == wrapped
    assert lamports - venue.lamports() == FEE + POSITION_RENT


def test_a_refused_execution_costs_the_keeper_alone(venue: Venue) -> None:
    """What the keeper tries in vain changes nothing for the owner."""
    key = venue.open(price=151 * USD)
    lamports, tokens, keeper = venue.lamports(), venue.tokens("USDC"), venue.lamports(venue.world.keeper.pubkey())
    assert venue.execute(key) == 6021
    assert (venue.lamports(), venue.tokens("USDC"), venue.tokens("USDC", key)) == (lamports, tokens, 100 * USD)
    assert keeper - venue.lamports(venue.world.keeper.pubkey()) == FEE


def test_a_long_funds_itself_from_an_account_that_is_gone_again(venue: Venue) -> None:
    """Wrapped SOL for the collateral is made, used and closed in the request's own transaction."""
    lamports, rent = venue.lamports(), ESCROW_RENT
    wallet, slot = venue.trader, venue.slot(side=LONG)
    funding = Pubkey.create_with_seed(wallet, "funding", TOKEN_PROGRAM)
    created = create_account_with_seed(
        CreateAccountWithSeedParams(
            from_pubkey=wallet,
            to_pubkey=funding,
            base=wallet,
            seed="funding",
            lamports=rent + SOL,
            space=165,
            owner=TOKEN_PROGRAM,
        )
    )
    mint = AccountMeta(slot.collateral.mint, is_signer=False, is_writable=False)
    place = AccountMeta(funding, is_signer=False, is_writable=True)
    initialised = Instruction(TOKEN_PROGRAM, bytes([18]) + bytes(wallet), [place, mint])
    request = create_increase(slot, 1, size_usd=500 * USD, collateral_tokens=SOL, funding=funding)
    owner = AccountMeta(wallet, is_signer=True, is_writable=True)
    gone = Instruction(TOKEN_PROGRAM, bytes([9]), [place, owner, owner])
    assert venue.send(created, initialised, request, gone) is None
    assert venue.cluster.account(funding) is None
    key = slot.request(1, INCREASE)
    assert venue.tokens("SOL", key) == SOL
    assert lamports - venue.lamports() == FEE + SOL + REQUEST_RENT + ESCROW_RENT + POSITION_RENT
    assert venue.execute(key) is None
    venue.wrap(0)
    assert venue.close(key) is None
    assert lamports - venue.lamports() == FEE + SOL + POSITION_RENT
    assert venue.position(side=LONG).size_usd == 500 * USD
