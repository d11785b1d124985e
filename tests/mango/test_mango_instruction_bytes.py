"""Our instructions against those encoded straight from the venue's full interface file, over generated inputs.

The encoder here reads the file by itself and knows nothing of the project's: a type is written by its name, accounts go
in the file's order with the file's flags.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.mango import build
from providers.mango.constants import FREE_INDEX
from providers.mango.health_accounts import fixed_order_accounts
from providers.mango.state import MangoAccount
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM
from tests.mango.mango_instruction_samples import Deployment, order_of, shown

pytestmark = pytest.mark.shared

FILE = Path(__file__).resolve().parents[3] / "shared" / "idl" / "mango_v4.json"
SEEDS = range(200)

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json]"
# What an argument may be.
Argument: TypeAlias = "int | bool | str"


class Interface:
    """The interface file, and instructions made by it."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text())
        self.instructions = {each["name"]: each for each in content["instructions"]}
        self.enums: dict[str, list[str]] = {
            each["name"]: [variant["name"] for variant in each["type"]["variants"]]
            for each in content["types"]
            if each["type"]["kind"] == "enum"
        }

    def argument(self, kind: Json, value: Argument) -> bytes:
        """Write a value as its type says."""
        if isinstance(kind, dict):
            return bytes([self.enums[cast("str", kind["defined"])].index(str(value))])
        if kind == "bool":
            return bytes([bool(value)])
        if kind == "string":
            text = str(value).encode()
            return len(text).to_bytes(4, "little") + text
        bits = int(str(kind)[1:])
        return int(value).to_bytes(bits // 8, "little", signed=str(kind).startswith("i"))

    def make(
        self,
        program_id: Pubkey,
        name: str,
        args: Mapping[str, Argument],
        accounts: Mapping[str, Pubkey],
        remaining: Sequence[AccountMeta] = (),
    ) -> Instruction:
        """Return an instruction; every argument and account of the file must be given, and none besides."""
        described = self.instructions[name]
        assert set(args) == {each["name"] for each in described["args"]}
        assert set(accounts) == {each["name"] for each in described["accounts"]}
        snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
        data = hashlib.sha256(f"global:{snake}".encode()).digest()[:8]
        data += b"".join(self.argument(each["type"], args[each["name"]]) for each in described["args"])
        metas = [AccountMeta(accounts[each["name"]], each["isSigner"], each["isMut"]) for each in described["accounts"]]
        return Instruction(program_id, data, [*metas, *remaining])


@pytest.fixture(scope="module")
def interface() -> Interface:
    """Return the full interface file; without it there is nothing to compare with."""
    if not FILE.is_file():
        pytest.skip("../shared/idl/mango_v4.json is not there")
    return Interface(FILE)


def health_list(
    world: Deployment, account: MangoAccount, *, token: int | None, market: int | None
) -> list[AccountMeta]:
    """Return the health accounts as the program's source describes them, worked out slot by slot.

    What is touched is put into the first free slot of the raw account; then the active slots are gone through.
    """
    tokens = [each.token_index for each in account.tokens]
    perps = [each.market_index for each in account.perps]
    for slots, index in ((tokens, token), (perps, market)):
        if index is not None and index not in slots:
            slots[next(at for at, each in enumerate(slots) if each == FREE_INDEX)] = index
    banks = [world.banks[each] for each in tokens if each != FREE_INDEX]
    markets = [world.perps[each] for each in perps if each != FREE_INDEX]
    keys = [each.address for each in banks]
    keys += [each.oracle for each in banks]
    keys += [each.address for each in markets]
    keys += [each.oracle for each in markets]
    keys += [each.open_orders for each in account.serum3 if each.market_index != FREE_INDEX]
    return [AccountMeta(key, False, False) for key in keys]


def market_names(world: Deployment, index: int) -> dict[str, Pubkey]:
    """Return a market's accounts by the file's names."""
    market = world.markets[index]
    return {
        "perpMarket": market.perp_market,
        "bids": market.bids,
        "asks": market.asks,
        "eventQueue": market.event_queue,
        "oracle": market.oracle,
    }


def trader_names(world: Deployment) -> dict[str, Pubkey]:
    """Return who trades by the file's names."""
    return {"group": world.group, "account": world.trader.account, "owner": world.trader.authority}


@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Any order of any account: bytes, accounts, flags, and the health list with the slots that it will take."""
    world = Deployment(seed)
    account, market = world.account(), world.random.choice(sorted(world.perps))
    order = order_of(
        market_index=market,
        side=world.random.randint(0, 1),
        price_lots=world.number(63),
        base_lots=world.number(63),
        client_order_id=world.number(64),
        reduce_only=world.random.random() < 0.5,
        expiry=world.number(40),
        match_limit=world.random.randint(1, 255),
    )
    health = fixed_order_accounts(account, banks=world.banks, perps=world.perps, token_index=0, market_index=market)
    ours = build.order_instruction(order, world.trader, world.markets[market], health)
    args: dict[str, Argument] = {
        "side": ("Bid", "Ask")[order.side],
        "priceLots": order.price_lots,
        "maxBaseLots": order.base_lots,
        "maxQuoteLots": 2**63 - 1,
        "clientOrderId": order.client_order_id,
        "orderType": "ImmediateOrCancel",
        "selfTradeBehavior": "AbortTransaction",
        "reduceOnly": order.reduce_only,
        "expiryTimestamp": order.expiry,
        "limit": order.match_limit,
    }
    accounts = {**trader_names(world), **market_names(world, market)}
    expected = health_list(world, account, token=0, market=market)
    theirs = interface.make(world.program_id, "perpPlaceOrderV2", args, accounts, expected)
    assert shown(ours) == shown(theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_moving_tokens_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Deposits and withdrawals of any token, held already or not."""
    world = Deployment(seed)
    account, index, amount = world.account(), world.random.choice(sorted(world.banks)), world.number(64)
    token = world.token(index)
    health = fixed_order_accounts(account, banks=world.banks, perps=world.perps, token_index=index)
    accounts = {
        **trader_names(world),
        "bank": token.bank,
        "vault": token.vault,
        "oracle": token.oracle,
        "tokenAccount": token.wallet,
        "tokenProgram": TOKEN_PROGRAM,
    }
    expected = health_list(world, account, token=index, market=None)
    withdrawn = interface.make(
        world.program_id, "tokenWithdraw", {"amount": amount, "allowBorrow": False}, accounts, expected
    )
    assert shown(build.withdraw_instruction(amount, world.trader, token, health)) == shown(withdrawn)
    deposited = interface.make(
        world.program_id,
        "tokenDeposit",
        {"amount": amount, "reduceOnly": False},
        {**accounts, "tokenAuthority": world.trader.authority},
        expected,
    )
    assert shown(build.deposit_instruction(amount, world.trader, token, health)) == shown(deposited)


@pytest.mark.parametrize("seed", range(50))
def test_everything_else_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Set-up, more slots, cancel by id, queue work, freeing a slot and settling profit."""
    world = Deployment(seed)
    trader, market = world.trader, world.markets[0]
    make, names, book = interface.make, trader_names(world), market_names(world, 0)
    payer = {"payer": trader.authority, "systemProgram": SYSTEM_PROGRAM}
    counts: dict[str, Argument] = {
        "tokenCount": world.number(8),
        "serum3Count": world.number(8),
        "perpCount": world.number(8),
        "perpOoCount": world.number(8),
        "tokenConditionalSwapCount": world.number(8),
    }
    expanded = build.expand_account_instruction(
        trader,
        tokens=int(counts["tokenCount"]),
        serum3=int(counts["serum3Count"]),
        perps=int(counts["perpCount"]),
        perp_open_orders=int(counts["perpOoCount"]),
        swaps=int(counts["tokenConditionalSwapCount"]),
    )
    assert shown(expanded) == shown(make(world.program_id, "accountExpandV2", counts, {**names, **payer}))

    number = world.number(32)
    created = build.create_account_instruction(
        trader, account_num=number, tokens=4, perps=4, perp_open_orders=8, name="name"
    )
    given: dict[str, Argument] = {**dict.fromkeys(counts, 0), "tokenCount": 4, "perpCount": 4, "perpOoCount": 8}
    expected: dict[str, Argument] = {"accountNum": number, **given, "name": "name"}
    assert shown(created) == shown(make(world.program_id, "accountCreateV2", expected, {**names, **payer}))

    order_id = world.number(128)
    accounts = {**names, **{name: book[name] for name in ("perpMarket", "bids", "asks")}}
    cancelled = make(world.program_id, "perpCancelOrder", {"orderId": order_id}, accounts)
    assert shown(build.cancel_instruction(order_id, trader, market)) == shown(cancelled)

    freed = make(world.program_id, "perpDeactivatePosition", {}, {**names, "perpMarket": market.perp_market})
    assert shown(build.deactivate_instruction(trader, market.perp_market)) == shown(freed)

    parties = [world.key() for _ in range(world.random.randint(1, 8))]
    metas = [AccountMeta(each, False, True) for each in parties]
    queue = {"group": world.group, "perpMarket": market.perp_market, "eventQueue": market.event_queue}
    consumed = make(world.program_id, "perpConsumeEvents", {"limit": 8}, queue, metas)
    assert shown(build.consume_instruction(trader, market, parties, 8)) == shown(consumed)

    winner, loser, bank, health = world.key(), world.key(), world.banks[0], [AccountMeta(world.key(), False, False)]
    settled = build.settle_pnl_instruction(
        trader, market, winner=winner, loser=loser, bank=bank.address, bank_oracle=bank.oracle, health=health
    )
    accounts = {
        "group": world.group,
        "settler": trader.account,
        "settlerOwner": trader.authority,
        "perpMarket": market.perp_market,
        "accountA": winner,
        "accountB": loser,
        "oracle": market.oracle,
        "settleBank": bank.address,
        "settleOracle": bank.oracle,
    }
    assert shown(settled) == shown(make(world.program_id, "perpSettlePnl", {}, accounts, health))
