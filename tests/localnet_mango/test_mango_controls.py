"""The controls that stop the venue."""

from __future__ import annotations

from tests.localnet_mango.test_mango_funds import USDC, moving
from tests.localnet_mango.venue_bench import Venue


def test_a_halted_program_answers_nothing_and_its_accounts_stay() -> None:
    """Every instruction is refused with 101 until the halt is taken away; no money is touched meanwhile."""
    venue = Venue()
    venue.controls.halt()

    assert venue.send(moving(venue, "token_deposit", USDC)) == 101
    assert venue.send(moving(venue, "token_withdraw", USDC)) == 101
    assert venue.collateral() == 10_000 * USDC
    venue.controls.halt(on=False)
    assert venue.send(moving(venue, "token_deposit", USDC)) is None
