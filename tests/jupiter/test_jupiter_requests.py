"""Orders as requests: our bytes against the venue's full interface file, bounds, dollars and sizes."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import InvalidTrigger, WorstPriceNotMet
from providers.base.types import Side, Trigger
from providers.jupiter.addresses import escrow_address, event_authority_address, perpetuals_address, token_address
from providers.jupiter.build import (
    JupiterOrder,
    Oracles,
    close_request_instruction,
    decode_order,
    decrease_instruction,
    encode_order,
    increase_instruction,
    price_bound_of,
    trigger_instruction,
    trigger_price_of,
)
from providers.jupiter.constants import BASES
from providers.jupiter.quote import base_of_usd, size_tolerance, stepped, usd_of_base
from providers.solana.programs import ASSOCIATED_TOKEN_PROGRAM, SYSTEM_PROGRAM, TOKEN_PROGRAM

FILE = Path(__file__).resolve().parents[3] / "shared" / "idl" / "jupiter_perps_2026-03.json"
SEEDS = range(200)


def order_of(
    *,
    owner: Pubkey,
    position: Pubkey,
    request: Pubkey,
    mint: Pubkey,
    pool: Pubkey,
    custody: Pubkey | None = None,
    collateral_custody: Pubkey | None = None,
    side: Side = Side.LONG,
    kind: Literal["open", "close", "trigger"] = "close",
    counter: int = 1,
    size_usd: int = 1,
    collateral_delta: int = 0,
    price_bound: int = 1,
    trigger: tuple[int, bool] | None = None,
) -> JupiterOrder:
    """Return an order."""
    return JupiterOrder(
        market="SOL-PERP",
        side=side,
        kind=kind,
        owner=str(owner),
        pool=str(pool),
        custody=str(custody or Pubkey.default()),
        collateral_custody=str(collateral_custody or Pubkey.default()),
        position=str(position),
        request=str(request),
        mint=str(mint),
        counter=counter,
        size=Decimal(1),
        size_usd=size_usd,
        collateral_delta=collateral_delta,
        price_bound=price_bound,
        window_s=45,
        unit=Decimal("1e-9"),
        trigger_price=None if trigger is None else trigger[0],
        trigger_above=None if trigger is None else trigger[1],
    )


class Interface:
    """The interface file, and instructions made by it; it knows nothing of the project's encoder."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text())
        self.instructions = {each["name"]: each for each in content["instructions"]}
        self.types = {each["name"]: each["type"] for each in content["types"]}

    def argument(self, kind: Any, value: Any) -> bytes:
        """Write a value as its type says."""
        if isinstance(kind, dict) and "option" in kind:
            return b"\0" if value is None else b"\1" + self.argument(kind["option"], value)
        if isinstance(kind, dict):
            described = self.types[kind["defined"]]
            if described["kind"] == "enum":
                return bytes([[each["name"] for each in described["variants"]].index(value)])
            assert set(value) == {each["name"] for each in described["fields"]}
            return b"".join(self.argument(each["type"], value[each["name"]]) for each in described["fields"])
        if kind == "bool":
            return bytes([value])
        return int(value).to_bytes(int(kind[1:]) // 8, "little", signed=kind.startswith("i"))

    def make(
        self, program_id: Pubkey, name: str, params: Mapping[str, Any] | None, accounts: Mapping[str, Pubkey]
    ) -> Instruction:
        """Return an instruction; every account of the file must be given, and none besides."""
        described = self.instructions[name]
        assert set(accounts) == {each["name"] for each in described["accounts"]}
        snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
        data = hashlib.sha256(f"global:{snake}".encode()).digest()[:8]
        data += b"".join(self.argument(each["type"], params) for each in described["args"])
        metas = [AccountMeta(accounts[each["name"]], each["isSigner"], each["isMut"]) for each in described["accounts"]]
        return Instruction(program_id, data, metas)


@pytest.fixture(scope="module")
def interface() -> Interface:
    """Return the full interface file; without it there is nothing to compare with."""
    if not FILE.is_file():
        pytest.skip("the reference data is not beside the project")
    return Interface(FILE)


def shown(instruction: Instruction) -> tuple[str, str, list[str]]:
    """Return an instruction as text that two encoders can be compared by."""
    metas = [f"{each.pubkey} {each.is_signer:d}{each.is_writable:d}" for each in instruction.accounts]
    return str(instruction.program_id), instruction.data.hex(), metas


class Sample:
    """An order of random addresses and amounts, small ones as often as large ones."""

    def __init__(self, seed: int, kind: Literal["open", "close", "trigger"]) -> None:
        self.random = random.Random(seed)  # noqa: S311 - must repeat from its seed
        self.program_id, self.funding, self.doves, self.pythnet = (self.key() for _ in range(4))
        trigger = (self.number(), self.random.random() < 0.5) if kind == "trigger" else None
        self.order = order_of(
            owner=self.key(),
            position=self.key(),
            request=self.key(),
            mint=self.key(),
            pool=self.key(),
            custody=self.key(),
            collateral_custody=self.key(),
            side=self.random.choice(list(Side)),
            kind=kind,
            counter=self.number(),
            size_usd=self.number(),
            collateral_delta=self.number(),
            price_bound=self.number(),
            trigger=trigger,
        )

    def key(self) -> Pubkey:
        """Return an address."""
        return Pubkey.from_bytes(self.random.randbytes(32))

    def number(self) -> int:
        """Return a number of at most 64 bits."""
        return self.random.getrandbits(self.random.randint(1, 64))

    def accounts(self) -> dict[str, Pubkey]:
        """Return what every request names, by the file's names; an optional account left out is the program."""
        order, program = self.order, self.program_id
        request, mint = Pubkey.from_string(order.request), Pubkey.from_string(order.mint)
        return {
            "owner": Pubkey.from_string(order.owner),
            "perpetuals": perpetuals_address(program),
            "pool": Pubkey.from_string(order.pool),
            "position": Pubkey.from_string(order.position),
            "positionRequest": request,
            "positionRequestAta": escrow_address(request, mint),
            "custody": Pubkey.from_string(order.custody),
            "collateralCustody": Pubkey.from_string(order.collateral_custody),
            "referral": program,
            "tokenProgram": TOKEN_PROGRAM,
            "associatedTokenProgram": ASSOCIATED_TOKEN_PROGRAM,
            "systemProgram": SYSTEM_PROGRAM,
            "eventAuthority": event_authority_address(program),
            "program": program,
        }

    @property
    def receiving(self) -> dict[str, Pubkey]:
        """What a close is paid into."""
        owner, mint = Pubkey.from_string(self.order.owner), Pubkey.from_string(self.order.mint)
        return {"receivingAccount": token_address(owner, mint), "desiredMint": mint}


@pytest.mark.shared
@pytest.mark.parametrize("seed", SEEDS)
def test_an_open_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Any open: bytes, accounts and flags."""
    sample = Sample(seed, "open")
    order = sample.order
    params = {
        "sizeUsdDelta": order.size_usd,
        "collateralTokenDelta": order.collateral_delta,
        "side": "Long" if order.side is Side.LONG else "Short",
        "priceSlippage": order.price_bound,
        "jupiterMinimumOut": None,
        "counter": order.counter,
    }
    accounts = {
        **sample.accounts(),
        "fundingAccount": sample.funding,
        "inputMint": Pubkey.from_string(order.mint),
    }
    theirs = interface.make(sample.program_id, "createIncreasePositionMarketRequest", params, accounts)
    assert shown(increase_instruction(order, sample.program_id, sample.funding)) == shown(theirs)


@pytest.mark.shared
@pytest.mark.parametrize("seed", SEEDS)
def test_a_close_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Any close: bytes, accounts and flags; never of the entire position."""
    sample = Sample(seed, "close")
    order = sample.order
    params = {
        "collateralUsdDelta": order.collateral_delta,
        "sizeUsdDelta": order.size_usd,
        "priceSlippage": order.price_bound,
        "jupiterMinimumOut": None,
        "entirePosition": False,
        "counter": order.counter,
    }
    accounts = {**sample.accounts(), **sample.receiving}
    theirs = interface.make(sample.program_id, "createDecreasePositionMarketRequest", params, accounts)
    assert shown(decrease_instruction(order, sample.program_id)) == shown(theirs)


@pytest.mark.shared
@pytest.mark.parametrize("seed", SEEDS)
def test_a_trigger_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Any trigger: bytes, accounts and flags; never of the entire position."""
    sample = Sample(seed, "trigger")
    order = sample.order
    params = {
        "collateralUsdDelta": order.collateral_delta,
        "sizeUsdDelta": order.size_usd,
        "requestType": "Trigger",
        "priceSlippage": order.price_bound,
        "jupiterMinimumOut": None,
        "triggerPrice": order.trigger_price,
        "triggerAboveThreshold": order.trigger_above,
        "entirePosition": False,
        "counter": order.counter,
    }
    accounts = {
        **sample.accounts(),
        **sample.receiving,
        "custodyDovesPriceAccount": sample.doves,
        "custodyPythnetPriceAccount": sample.pythnet,
    }
    theirs = interface.make(sample.program_id, "createDecreasePositionRequest2", params, accounts)
    ours = trigger_instruction(order, sample.program_id, Oracles(doves=sample.doves, pythnet=sample.pythnet))
    assert shown(ours) == shown(theirs)


@pytest.mark.shared
@pytest.mark.parametrize("seed", range(50))
def test_closing_a_request_is_encoded_as_the_interface_says(interface: Interface, seed: int) -> None:
    """Both instructions: the file's, but that the owner signs in the absent keeper's place."""
    sample = Sample(seed, "close")
    everything = sample.accounts()
    owner, mint = everything["owner"], Pubkey.from_string(sample.order.mint)
    accounts = {
        **{
            name: key
            for name, key in everything.items()
            if name not in {"perpetuals", "custody", "collateralCustody", "referral"}
        },
        "keeper": sample.program_id,
        "ownerAta": token_address(owner, mint),
        "mint": mint,
    }
    for name, with_custody in (("closePositionRequest2", False), ("closePositionRequest3", True)):
        given = {**accounts, "custody": everything["collateralCustody"]} if with_custody else accounts
        theirs = interface.make(sample.program_id, name, None, given)
        metas = [
            AccountMeta(sample.program_id, False, False),
            AccountMeta(owner, True, True),
            *theirs.accounts[2:],
        ]
        expected = Instruction(sample.program_id, theirs.data, metas)
        ours = close_request_instruction(sample.order, sample.program_id, with_custody=with_custody)
        assert shown(ours) == shown(expected)


def test_an_order_survives_the_ledger() -> None:
    """The venue's part of a submission comes back as it was; a submission without one says so."""
    for kind in ("open", "close", "trigger"):
        order = Sample(7, kind).order
        assert decode_order(encode_order(order)) == order
    assert decode_order(b"null") is None


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worst", "buy", "sell"),
    [("150", 150_000_000, 150_000_000), ("150.0000004", 150_000_000, 150_000_001), ("0.0000019", 1, 2)],
)
def test_the_bound_is_never_wider(worst: str, buy: int, sell: int) -> None:
    """What buys is bounded by no more than was said, what sells by no less."""
    assert price_bound_of(Decimal(worst), buys=True) == buy
    assert price_bound_of(Decimal(worst), buys=False) == sell


def test_bounds_that_nothing_can_trade_at() -> None:
    """A price below the smallest, and for a sale one beyond the largest, are refused; a buy's is cut."""
    for worst, buys in (("0.0000001", True), ("0", True), ("0", False), ("1e20", False)):
        with pytest.raises(WorstPriceNotMet):
            price_bound_of(Decimal(worst), buys=buys)
    assert price_bound_of(Decimal("1e20"), buys=True) == 2**64 - 1


def test_a_trigger_never_fires_early() -> None:
    """A price between two steps is rounded away from where the market comes from."""
    price = Decimal("150.0000005")
    assert trigger_price_of(Trigger(price=price, above=True)) == 150_000_001
    assert trigger_price_of(Trigger(price=price, above=False)) == 150_000_000
    for wrong in ("0", "-1", "1e20"):
        with pytest.raises(InvalidTrigger):
            trigger_price_of(Trigger(price=Decimal(wrong), above=True))


# --- sizes ------------------------------------------------------------------------------------------------------------

# Far below today's price of each market, and far above.
PRICES = {"SOL": (200_000, 500_000_000), "ETH": (2_000_000, 5_000_000_000), "BTC": (20_000_000, 500_000_000_000)}


@pytest.mark.parametrize("symbol", sorted(BASES))
def test_a_stepped_size_comes_back_from_its_dollars(symbol: str) -> None:
    """Dollars of a stepped size, rounded to the nearest, give the size again at any price of the range."""
    dice = random.Random(symbol)  # noqa: S311 - must repeat
    step = BASES[symbol].step
    for _ in range(2_000):
        price = dice.randint(*PRICES[symbol])
        size = dice.randint(1, 10**9) * step
        usd = usd_of_base(size, price)
        assert round(Fraction(usd, price) / Fraction(step)) * step == size


@pytest.mark.parametrize("symbol", sorted(BASES))
def test_dollars_come_back_from_what_they_filled(symbol: str) -> None:
    """A fill's base units, at its price, are worth exactly the dollars that were filled: a lot leaves no rest."""
    dice = random.Random(symbol)  # noqa: S311 - must repeat
    unit = BASES[symbol].unit
    for _ in range(2_000):
        price, usd = dice.randint(*PRICES[symbol]), dice.randint(1, 10**13)
        assert usd_of_base(base_of_usd(usd, price, unit), price) == usd


def test_sizes_are_rounded_down() -> None:
    """Never up, never to a step that is not one."""
    assert stepped(Decimal("1.234567"), Decimal("0.00001")) == Decimal("1.23456")
    assert stepped(Decimal("0.000009"), Decimal("0.00001")) == 0
    assert base_of_usd(1_000_000, 3_000_000, Decimal("0.1")) == Decimal("0.3")


def test_the_tolerance_holds_over_many_changes() -> None:
    """64 opens and partial closes at the venue's own rounding leave base sizes within what is stated."""
    dice = random.Random(5)  # noqa: S311 - must repeat
    for _ in range(50):
        symbol = dice.choice(sorted(BASES))
        unit, low, high = BASES[symbol].unit, *PRICES[symbol]
        center = dice.randint(low * 2, high)
        size_usd, entry, base = 0, 0, Decimal(0)
        for _ in range(64):
            price = center + dice.randint(-center // 50, center // 50)
            if size_usd and dice.random() < 0.3:
                part = stepped(base / 3, BASES[symbol].step)
                taken = usd_of_base(part, entry)
                size_usd, base = size_usd - taken, base - part
                continue
            added = dice.randint(10_000_000, 10**10)
            exact = Fraction(added, price) + (Fraction(size_usd, entry) if size_usd else 0)
            base += base_of_usd(added, price, unit)
            size_usd += added
            entry = round(size_usd / exact)
        assert abs(base_of_usd(size_usd, entry, unit) - base) <= size_tolerance(size_usd, entry, unit)
