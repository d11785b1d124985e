"""Our instructions against those of the venue's own client, as `node/make_instructions.mjs` has recorded them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from providers.mango.build import (
    MarketAccounts,
    TokenAccounts,
    Trader,
    cancel_instruction,
    consume_instruction,
    deactivate_instruction,
    expand_account_instruction,
    order_instruction,
    withdraw_instruction,
)
from providers.mango.health_accounts import PricedAccount, fixed_order_accounts
from providers.mango.state import MangoAccount
from tests.mango.mango_instruction_samples import account_of, order_of, shown

RECORDED = Path(__file__).with_name("node") / "instructions.json"


class Token(msgspec.Struct, frozen=True, rename="camel"):
    """A token of the recorded group."""

    public_key: str
    vault: str
    oracle: str


class Perp(msgspec.Struct, frozen=True, rename="camel"):
    """A perp market of the recorded group."""

    public_key: str
    bids: str
    asks: str
    event_queue: str
    oracle: str


class Account(msgspec.Struct, frozen=True):
    """A recorded account: what is in its slots."""

    address: str
    tokens: list[int]
    perps: list[int]
    serum3: list[tuple[int, str]]


class Order(msgspec.Struct, frozen=True, rename="camel"):
    """A recorded order."""

    side: int
    price_lots: str
    base_lots: str
    client_order_id: str
    reduce_only: bool
    expiry: int
    limit: int


class Withdrawal(msgspec.Struct, frozen=True):
    """A recorded withdrawal."""

    token: int
    amount: str
    wallet: str


class Made(msgspec.Struct, frozen=True):
    """What the client made."""

    program: str
    data: str
    accounts: list[str]


class Case(msgspec.Struct, frozen=True, rename="camel"):
    """Inputs, and what the client made of them."""

    account: Account
    market: int
    order: Order
    order_id: str
    withdraw: Withdrawal
    parties: list[str]
    sizes: tuple[int, int, int, int, int]
    instructions: dict[str, Made]


class Recording(msgspec.Struct, frozen=True):
    """The whole file."""

    program: str
    group: str
    wallet: str
    tokens: list[Token]
    perps: list[Perp]
    cases: list[Case]


RECORDING = msgspec.json.decode(RECORDED.read_bytes(), type=Recording)
key = Pubkey.from_string
BANKS = {index: PricedAccount(key(each.public_key), key(each.oracle)) for index, each in enumerate(RECORDING.tokens)}
PERPS = {index: PricedAccount(key(each.public_key), key(each.oracle)) for index, each in enumerate(RECORDING.perps)}


def trader_of(case: Case) -> Trader:
    """Return who trades in a case."""
    return Trader(
        program_id=key(RECORDING.program),
        group=key(RECORDING.group),
        account=key(case.account.address),
        authority=key(RECORDING.wallet),
    )


def market_of(index: int) -> MarketAccounts:
    """Return the accounts of a recorded market."""
    perp = RECORDING.perps[index]
    return MarketAccounts(
        perp_market=key(perp.public_key),
        bids=key(perp.bids),
        asks=key(perp.asks),
        event_queue=key(perp.event_queue),
        oracle=key(perp.oracle),
    )


def account_in(case: Case) -> MangoAccount:
    """Return the account of a case."""
    given = case.account
    return account_of(tokens=given.tokens, perps=given.perps, serum3=[(index, key(oo)) for index, oo in given.serum3])


def same(instruction: Instruction, made: Made) -> None:
    """Check that an instruction is what the client made: program, bytes, accounts in order, flags."""
    assert shown(instruction) == (made.program, made.data, made.accounts)


CASES = pytest.mark.parametrize("case", RECORDING.cases, ids=[str(index) for index in range(len(RECORDING.cases))])


@CASES
def test_an_order_is_what_the_client_makes_of_it(case: Case) -> None:
    """Bytes, accounts and health accounts of an immediate order equal the client's, for any slots of the account."""
    order = order_of(
        market_index=case.market,
        side=case.order.side,
        price_lots=int(case.order.price_lots),
        base_lots=int(case.order.base_lots),
        client_order_id=int(case.order.client_order_id),
        reduce_only=case.order.reduce_only,
        expiry=case.order.expiry,
        match_limit=case.order.limit,
    )
    health = fixed_order_accounts(account_in(case), banks=BANKS, perps=PERPS, token_index=0, market_index=case.market)
    same(order_instruction(order, trader_of(case), market_of(case.market), health), case.instructions["place"])


@CASES
def test_a_withdrawal_is_what_the_client_makes_of_it(case: Case) -> None:
    """A withdrawal's bytes and accounts equal the client's."""
    index = case.withdraw.token
    token = TokenAccounts(
        bank=BANKS[index].address,
        vault=key(RECORDING.tokens[index].vault),
        oracle=BANKS[index].oracle,
        wallet=key(case.withdraw.wallet),
    )
    health = fixed_order_accounts(account_in(case), banks=BANKS, perps=PERPS, token_index=index)
    ours = withdraw_instruction(int(case.withdraw.amount), trader_of(case), token, health)
    same(ours, case.instructions["withdraw"])


@CASES
def test_cancels_and_queue_work_are_what_the_client_makes_of_them(case: Case) -> None:
    """Cancel by the venue's id, and consuming events for any accounts, equal the client's."""
    trader, market = trader_of(case), market_of(case.market)
    same(cancel_instruction(int(case.order_id), trader, market), case.instructions["cancel"])
    parties = [key(each) for each in case.parties]
    same(consume_instruction(trader, market, parties, 8), case.instructions["consume"])


@CASES
def test_account_work_is_what_the_client_makes_of_it(case: Case) -> None:
    """Expanding an account equals the client's; so does freeing a slot, but for a health list that nothing reads."""
    trader = trader_of(case)
    tokens, serum3, perps, perp_open_orders, swaps = case.sizes
    expanded = expand_account_instruction(
        trader, tokens=tokens, serum3=serum3, perps=perps, perp_open_orders=perp_open_orders, swaps=swaps
    )
    same(expanded, case.instructions["expand"])
    program, data, accounts = shown(deactivate_instruction(trader, market_of(case.market).perp_market))
    made = case.instructions["deactivate"]
    assert (program, data, accounts) == (made.program, made.data, made.accounts[: len(accounts)])


def test_the_recording_has_seen_what_matters() -> None:
    """The recorded accounts take new slots, hold the market already, miss the settle token, and hold spot orders."""
    cases = RECORDING.cases
    assert any(case.market in case.account.perps for case in cases)
    assert any(case.market not in case.account.perps for case in cases)
    assert any(0 not in case.account.tokens for case in cases)
    assert any(index != 65535 for case in cases for index, _ in case.account.serum3)
    assert {case.order.side for case in cases} == {0, 1}
