"""Making, changing and closing requests: what the program allows, and what it answers where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.jupiter.calls import Slot, close, create_decrease, create_increase, update_decrease
from router.localnet.jupiter.events import ClosePositionRequestEvent, CreatePositionRequestEvent
from router.localnet.jupiter.params import CreateDecreaseParams
from router.localnet.jupiter.pricing import LONG, SHORT
from router.localnet.jupiter.venue import DECREASE, INCREASE, MARKET, TRIGGER
from router.localnet.spl import associated_token_account
from tests.localnet_jupiter.jupiter_bench import SOL, USD, Venue

SYSTEM = Pubkey.default()


def increase(venue: Venue, *, side: int = SHORT, size_usd: int = 1_000, collateral: int = 100 * USD) -> Instruction:
    """Return a request for a position in SOL, counter 7."""
    return create_increase(venue.slot(side=side), 7, size_usd=size_usd * USD, collateral_tokens=collateral)


def with_account(instruction: Instruction, index: int, key: Pubkey) -> Instruction:
    """Return the instruction with another address in one place."""
    metas: list[AccountMeta] = list(instruction.accounts)
    metas[index] = AccountMeta(key, metas[index].is_signer, metas[index].is_writable)
    return Instruction(instruction.program_id, bytes(instruction.data), metas)


def with_data(instruction: Instruction, at: int, replacement: bytes) -> Instruction:
    """Return the instruction with other bytes in its data."""
    data = bytearray(instruction.data)
    data[at : at + len(replacement)] = replacement
    return Instruction(instruction.program_id, bytes(data), list(instruction.accounts))


def waiting(venue: Venue, counter: int, **changes: object) -> Instruction:
    """Return a stop loss on the trader's short with some of its arguments changed."""
    call = create_decrease(venue.slot(), counter, trigger=(160 * USD, True))
    params = CreateDecreaseParams.decode(bytes(call.data), 8)
    for name, value in changes.items():
        setattr(params, name, value)
    return Instruction(call.program_id, bytes(call.data)[:8] + params.encode(), list(call.accounts))


# Opening


def test_a_request_holds_the_collateral_and_changes_nothing_else(venue: Venue) -> None:
    """The collateral is in the escrow, the request says what was asked for, the position is there and flat."""
    before = venue.tokens("USDC")
    key = venue.open(price=149 * USD)

    request = venue.request(key)
    assert request is not None
    assert (request.owner, request.position) == (venue.trader, venue.slot().address)
    assert (request.size_usd_delta, request.collateral_delta) == (1_000 * USD, 100 * USD)
    assert (request.request_change, request.request_type, request.side) == (INCREASE, MARKET, SHORT)
    assert (request.price_slippage, request.executed) == (149 * USD, False)
    assert request.open_time == venue.cluster.unix_timestamp
    assert venue.tokens("USDC", key) == 100 * USD
    assert venue.tokens("USDC") == before - 100 * USD
    assert (venue.position().size_usd, venue.position().collateral_usd) == (0, 0)
    assert venue.custody("USDC").assets.locked == 25_000_000 * USD
    (event,) = venue.events(CreatePositionRequestEvent)
    assert (event.position_request_key, event.open_time) == (key, request.open_time)
    assert (event.size_usd_delta, event.collateral_delta, event.price_slippage) == (1_000 * USD, 100 * USD, 149 * USD)


def test_an_address_serves_one_request_at_a_time(venue: Venue) -> None:
    """The counter of a request that is there is refused by the system program (0); afterwards it is free again."""
    assert venue.send(increase(venue)) is None
    assert venue.send(increase(venue)) == 0
    key = venue.slot().request(7, INCREASE)
    assert venue.close(key) is None
    assert venue.send(increase(venue)) is None


def test_lamports_sent_ahead_to_a_request_s_address_do_not_block_it(venue: Venue) -> None:
    """Somebody may put lamports where the request will stand: they count towards its rent, and come back with it."""
    key = venue.slot().request(7, INCREASE)
    venue.cluster.airdrop(key, 1_000_000)
    before = venue.lamports()
    assert venue.send(increase(venue)) is None
    assert venue.lamports(key) == venue.cluster.minimum_balance(312)
    assert venue.close(key) is None
    assert before - venue.lamports() == 5_000 + venue.cluster.minimum_balance(216) - 1_000_000


def test_wrong_addresses(venue: Venue) -> None:
    """A position, request or authority that is not the derived one is 2006; a foreign pool or program has its code."""
    call, stranger = increase(venue), Keypair().pubkey()
    assert venue.send(with_account(call, 4, stranger)) == 2006  # position
    assert venue.send(with_account(call, 5, stranger)) == 2006  # request
    assert venue.send(with_account(call, 2, stranger)) == 2006  # perpetuals
    assert venue.send(with_account(call, 14, stranger)) == 2006  # event authority
    assert venue.send(with_account(call, 3, stranger)) == 3012  # pool
    assert venue.send(with_account(call, 3, venue.world.perpetuals)) == 3002
    assert venue.send(with_account(call, 7, venue.world.custody("USDC").mint)) == 3007
    assert venue.send(with_account(call, 11, SYSTEM)) == 3008
    # The counter and the side are part of the addresses.
    assert venue.send(with_data(call, len(bytes(call.data)) - 8, (8).to_bytes(8, "little"))) == 2006
    assert venue.send(with_data(call, 8 + 16, bytes([LONG]))) == 2006


def test_a_request_without_a_side_is_what_full_custodies_look_like(venue: Venue) -> None:
    """A side of none, with addresses that fit it, is refused with 6023, as seen on mainnet."""
    slot = venue.slot()
    bare = msgspec.structs.replace(slot, side=0, address=_position_without_side(venue, slot))
    call = create_increase(bare, 7, size_usd=USD, collateral_tokens=USD)
    assert venue.send(call) == 6023


def _position_without_side(venue: Venue, slot: Slot) -> Pubkey:
    seeds = [b"position", bytes(venue.trader), bytes(venue.world.pool)]
    seeds += [bytes(slot.asset.address), bytes(slot.collateral.address), b"\0"]
    return Pubkey.find_program_address(seeds, venue.world.program_id)[0]


def test_collateral_has_to_fit(venue: Venue) -> None:
    """None is 6007, more than there is the token program's 1, another token 6018 or 6006, no account 3012."""
    venue.wrap(SOL)
    assert venue.send(increase(venue, collateral=0)) == 6007
    assert venue.send(increase(venue, collateral=venue.tokens("USDC") + 1)) == 1
    sol, slot = venue.world.custody("SOL"), venue.slot()
    wrapped = associated_token_account(venue.trader, sol.mint)
    call = increase(venue)
    assert venue.send(with_account(call, 1, wrapped)) == 2014  # another token than the input mint
    assert venue.send(with_account(with_account(call, 1, wrapped), 9, sol.mint)) == 6018
    assert venue.send(with_account(call, 1, associated_token_account(Keypair().pubkey(), sol.mint))) == 3012
    assert venue.send(with_account(call, 1, venue.world.custody("USDC").vault)) == 2015
    # A long is backed by its asset, a short by a stable coin.
    usdc_long = _backed_by(venue, slot, LONG, "USDC")
    assert venue.send(create_increase(usdc_long, 7, size_usd=USD, collateral_tokens=USD)) == 6006
    sol_short = _backed_by(venue, slot, SHORT, "SOL")
    assert venue.send(create_increase(sol_short, 7, size_usd=USD, collateral_tokens=USD)) == 6006
    dollars = msgspec.structs.replace(slot, asset=venue.world.custody("USDC"))
    stable = _backed_by(venue, dollars, SHORT, "USDC")
    assert venue.send(create_increase(stable, 7, size_usd=USD, collateral_tokens=USD)) == 6013


def _backed_by(venue: Venue, slot: Slot, side: int, symbol: str) -> Slot:
    collateral = venue.world.custody(symbol)
    seeds = [b"position", bytes(venue.trader), bytes(venue.world.pool)]
    seeds += [bytes(slot.asset.address), bytes(collateral.address), bytes([side])]
    address = Pubkey.find_program_address(seeds, venue.world.program_id)[0]
    return msgspec.structs.replace(slot, side=side, collateral=collateral, address=address)


def test_another_token_may_come_in_where_the_keeper_is_to_swap(venue: Venue) -> None:
    """With a minimum out the request is taken; the model's keeper does not swap, and gives it back."""
    venue.wrap(SOL)
    venue.controls.run_keeper()
    sol = venue.world.custody("SOL")
    wrapped = associated_token_account(venue.trader, sol.mint)
    plain = increase(venue, collateral=SOL // 10)
    data = bytes(plain.data)
    swapping = Instruction(
        plain.program_id, data[:-9] + b"\1" + USD.to_bytes(8, "little") + data[-8:], list(plain.accounts)
    )
    key = venue.slot().request(7, INCREASE)
    escrow = associated_token_account(key, sol.mint)
    call = with_account(with_account(with_account(swapping, 1, wrapped), 9, sol.mint), 6, escrow)
    assert venue.send(call) is None
    assert venue.tokens("SOL") == SOL - SOL // 10
    venue.cluster.advance(6)
    assert venue.request(key) is None
    assert venue.tokens("SOL") == SOL
    assert venue.position().size_usd == 0


def test_pauses_stop_requests(venue: Venue) -> None:
    """A permission of the program or of the market's custody that is off is 6027, for what it is about only."""
    venue.holding()
    venue.controls.pause("increase")
    assert venue.send(increase(venue)) == 6027
    venue.controls.pause("increase", paused=False)
    venue.controls.pause("increase", "SOL-PERP")
    assert venue.send(increase(venue)) == 6027
    bitcoin = create_increase(venue.slot("BTC-PERP"), 7, size_usd=USD, collateral_tokens=USD)
    assert venue.send(bitcoin) is None
    closing = create_decrease(venue.slot(), 8)
    assert venue.send(closing) is None
    venue.controls.pause("decrease")
    assert venue.send(create_decrease(venue.slot(), 9)) == 6027
    venue.controls.pause("decrease", paused=False)
    venue.controls.pause("withdrawal", "SOL-PERP")
    assert venue.send(create_decrease(venue.slot(), 9, collateral_usd=USD)) == 6027
    assert venue.send(create_decrease(venue.slot(), 9, size_usd=USD)) is None


def test_a_full_custody_is_seen_when_the_request_is_made(venue: Venue) -> None:
    """With every token of the collateral locked nothing can be opened: 6023."""
    venue.controls.set_free_tokens("USDC", Decimal(0))
    assert venue.send(increase(venue)) == 6023
    venue.controls.set_free_tokens("USDC", Decimal(1))
    assert venue.send(increase(venue)) is None


def test_a_halted_program_answers_nothing(venue: Venue) -> None:
    """Every instruction is refused with 101 until the halt is taken away."""
    venue.controls.halt()
    assert venue.send(increase(venue)) == 101
    venue.controls.halt(on=False)
    assert venue.send(increase(venue)) is None
    unknown = Instruction(venue.world.program_id, bytes(8), [])
    assert venue.send(unknown) == 101


def test_arguments_that_end_early_are_102_and_missing_accounts_3005(venue: Venue) -> None:
    """What cannot be read is refused before anything else is looked at."""
    call = increase(venue)
    assert venue.send(Instruction(call.program_id, bytes(call.data)[:-1], list(call.accounts))) == 102
    assert venue.send(Instruction(call.program_id, bytes(call.data), list(call.accounts)[:-1])) == 3005


@pytest.mark.parametrize(("index", "code"), [(0, 3010), (4, 2000), (5, 2000)])
def test_flags_of_accounts(venue: Venue, index: int, code: int) -> None:
    """An owner that did not sign is 3010, an account that is not writable 2000."""
    call = increase(venue)
    metas: Sequence[AccountMeta] = list(call.accounts)
    owner = Keypair().pubkey() if index == 0 else metas[index].pubkey
    changed = [*metas[:index], AccountMeta(owner, False, False), *metas[index + 1 :]]
    assert venue.send(Instruction(call.program_id, bytes(call.data), changed)) == code


# Less


def test_less_of_nothing(venue: Venue) -> None:
    """A position that never was is 3012, a flat one 6009; so is more than there is, and nothing at all."""
    assert venue.send(create_decrease(venue.slot(), 1)) == 3012
    key = venue.open()
    assert venue.send(create_decrease(venue.slot(), 1)) == 6009
    assert venue.execute(key) is None
    assert venue.send(create_decrease(venue.slot(), 1, size_usd=1_001 * USD)) == 6009
    assert venue.send(waiting(venue, 1, entire_position=None)) == 6009
    assert venue.send(create_decrease(venue.slot(), 1, size_usd=1_000 * USD)) is None


def test_the_receiving_account_has_to_be_there(venue: Venue) -> None:
    """A long is paid in its asset: without an account for wrapped SOL the request is refused with 3012."""
    venue.holding(side=LONG, collateral=SOL)
    slot = venue.slot(side=LONG)
    venue.cluster.set_account(slot.wallet_tokens, None)
    assert venue.send(create_decrease(slot, 1)) == 3012
    venue.wrap(0)
    assert venue.send(create_decrease(slot, 1)) is None


def test_only_the_owner_asks(venue: Venue) -> None:
    """A request on somebody else's position is 2001."""
    venue.holding()
    stranger = Keypair()
    venue.cluster.airdrop(stranger.pubkey(), SOL)
    venue.controls.fund_wallet(stranger.pubkey(), "USDC", Decimal(1))
    slot = msgspec.structs.replace(venue.slot(), owner=stranger.pubkey())
    assert venue.send(create_decrease(slot, 1), wallet=stranger) == 2001


def test_what_waits_for_a_price(venue: Venue) -> None:
    """It needs a price (6039) on the far side of the market's (6037), and a price to compare with (6003)."""
    venue.holding()
    assert venue.send(waiting(venue, 1, trigger_price=None)) == 6039
    assert venue.send(waiting(venue, 1, trigger_above_threshold=None)) == 6039
    assert venue.send(waiting(venue, 1, trigger_price=150 * USD)) == 6037
    assert venue.send(waiting(venue, 1, trigger_price=160 * USD, trigger_above_threshold=False)) == 6037
    assert venue.send(waiting(venue, 1, request_type=7)) == 6036
    assert venue.send(waiting(venue, 1, request_type=MARKET)) == 6040
    stale = with_account(waiting(venue, 1), 8, venue.world.custody("ETH").feed)
    assert venue.send(stale) == 6002
    venue.controls.freeze_oracle("SOL")
    venue.wait(6)
    assert venue.send(waiting(venue, 1)) == 6003
    venue.controls.freeze_oracle("SOL", frozen=False)
    venue.wait(1)
    assert venue.send(waiting(venue, 1)) is None
    request = venue.request(venue.slot().request(1, DECREASE))
    assert request is not None
    assert (request.request_type, request.trigger_price, request.trigger_above_threshold) == (TRIGGER, 160 * USD, True)


def test_market_requests_of_the_newer_kind(venue: Venue) -> None:
    """`createDecreasePositionRequest2` makes market requests too; they are executed like the others."""
    venue.holding()
    call = waiting(
        venue,
        1,
        request_type=MARKET,
        price_slippage=200 * USD,
        trigger_price=None,
        trigger_above_threshold=None,
    )
    assert venue.send(call) is None
    assert venue.execute(venue.slot().request(1, DECREASE)) is None
    assert venue.position().size_usd == 0


def test_a_waiting_request_can_be_changed(venue: Venue) -> None:
    """Its owner sets another size and price; not to a price that is reached, and not for a market request."""
    venue.holding()
    key = venue.reduce(size_usd=400, trigger=(160 * USD, True))
    request = venue.request(key)
    assert request is not None
    counter = request.counter
    venue.wait(2)
    assert venue.send(update_decrease(venue.slot(), counter, size_usd=500 * USD, trigger_price=140 * USD)) == 6037
    assert venue.send(update_decrease(venue.slot(), counter, size_usd=1_001 * USD, trigger_price=170 * USD)) == 6009
    assert venue.send(update_decrease(venue.slot(), counter, size_usd=500 * USD, trigger_price=170 * USD)) is None
    changed = venue.request(key)
    assert changed is not None
    assert (changed.size_usd_delta, changed.trigger_price) == (500 * USD, 170 * USD)
    assert changed.update_time == venue.cluster.unix_timestamp > changed.open_time
    venue.controls.set_oracle_price("SOL-PERP", Decimal(170))
    assert venue.execute(key) is None
    assert venue.send(update_decrease(venue.slot(), counter, size_usd=USD, trigger_price=180 * USD)) == 6016
    market = venue.request(venue.reduce(size_usd=100))
    assert market is not None
    assert venue.send(update_decrease(venue.slot(), market.counter, size_usd=USD, trigger_price=170 * USD)) == 6036


# Closing


def test_the_owner_waits_for_the_window_of_a_market_request(venue: Venue) -> None:
    """For 45 seconds only a keeper may close it (6016); then the owner may, and gets everything back."""
    before = venue.tokens("USDC")
    key = venue.open()
    assert venue.cancel(key) == 6016
    venue.wait(45)
    assert venue.cancel(key) == 6016
    venue.wait(1)
    assert venue.cancel(key) is None
    assert venue.request(key) is None
    assert venue.tokens("USDC") == before
    (event,) = venue.events(ClosePositionRequestEvent)
    assert (event.executed, event.amount, event.position_request_key) == (False, 100 * USD, key)


def test_execution_and_the_owner_s_close_never_both_have_their_time(venue: Venue) -> None:
    """In the last second of the window the keeper may still execute; in the next only the owner may act."""
    last, late = venue.open(), venue.open()
    venue.wait(45)
    assert venue.cancel(last) == 6016
    assert venue.execute(last) is None
    venue.wait(1)
    assert venue.execute(late) == 6035
    assert venue.cancel(late) is None
    # What was executed and never closed is the owner's to close, too.
    assert venue.cancel(last) is None
    assert venue.position().size_usd == 1_000 * USD


def test_the_owner_closes_what_waits_at_any_time(venue: Venue) -> None:
    """A stop loss is taken away the moment after it was made."""
    venue.holding()
    key = venue.reduce(trigger=(160 * USD, True))
    assert venue.cancel(key) is None
    assert venue.request(key) is None


def test_nobody_else_closes(venue: Venue) -> None:
    """A wallet that is no keeper is 6034, and so is an owner that did not sign."""
    venue.holding()
    key = venue.reduce(trigger=(160 * USD, True))
    assert venue.close(key, wallet=venue.world.maker) == 6034
    request = venue.request(key)
    assert request is not None
    unsigned = close(venue.world, key, request)
    metas = [AccountMeta(meta.pubkey, False, meta.is_writable) for meta in unsigned.accounts]
    call = Instruction(unsigned.program_id, bytes(unsigned.data), metas)
    assert venue.send(call, wallet=venue.world.maker) == 6034
    assert venue.close(key) is None


def test_closing_needs_the_owner_s_token_account(venue: Venue) -> None:
    """Without the account that the escrow is paid into nothing is closed (3012); nothing is lost meanwhile."""
    venue.wrap(SOL)
    key = venue.open(side=LONG, collateral=SOL)
    venue.cluster.set_account(venue.slot(side=LONG).wallet_tokens, None)
    assert venue.close(key) == 3012
    assert venue.tokens("SOL", key) == SOL
    venue.wrap(0)
    assert venue.close(key) is None
    assert venue.tokens("SOL") == SOL


def test_the_escrow_goes_nowhere_but_to_the_owner(venue: Venue) -> None:
    """A keeper that names another account for the escrow is refused."""
    key = venue.open()
    request = venue.request(key)
    assert request is not None
    keeper = venue.world.keeper
    venue.controls.fund_wallet(keeper.pubkey(), "USDC", Decimal(1))
    own = associated_token_account(keeper.pubkey(), request.mint)
    call = close(venue.world, key, request, keeper=keeper.pubkey())
    assert venue.send(with_account(call, 2, own), wallet=keeper) == 2009
    assert venue.send(with_account(call, 1, keeper.pubkey()), wallet=keeper) == 2001
    assert venue.send(with_account(call, 7, venue.world.custody("SOL").mint), wallet=keeper) == 6018


def test_closing_by_owners_can_be_switched_off(venue: Venue) -> None:
    """The pool's switch refuses owners with 6027 where they use the older instruction; keepers still close."""
    key = venue.open()
    venue.wait(46)
    venue.controls.disable_owner_close()
    assert venue.cancel(key) == 6027
    request = venue.request(key)
    assert request is not None
    newer = _third(venue, close(venue.world, key, request))
    assert venue.send(newer) is None
    again = venue.open()
    assert venue.close(again) is None


def _third(venue: Venue, call: Instruction) -> Instruction:
    """Return `closePositionRequest3` for the older one: the custody stands before the mint."""
    custody = AccountMeta(venue.world.custody("SOL").address, is_signer=False, is_writable=True)
    metas = [*call.accounts[:7], custody, *call.accounts[7:]]
    return Instruction(call.program_id, bytes.fromhex("7a822112d32ca13a"), metas)
