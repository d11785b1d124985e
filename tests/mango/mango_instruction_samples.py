"""Accounts, groups and instructions from generated inputs, for the tests that hold our bytes against others'."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.mango.build import MangoOrder, MarketAccounts, TokenAccounts, Trader
from providers.mango.constants import FREE_INDEX
from providers.mango.health_accounts import PricedAccount
from providers.mango.state import MangoAccount, PerpPosition, Serum3Slot, TokenPosition

ZERO = Pubkey.default()


def account_of(
    *,
    tokens: Sequence[int],
    perps: Sequence[int],
    serum3: Sequence[tuple[int, Pubkey]] = (),
    group: Pubkey = ZERO,
    owner: Pubkey = ZERO,
) -> MangoAccount:
    """Return an account with these indexes in its slots (65535: free), and nothing in any of them."""
    return MangoAccount(
        group=group,
        owner=owner,
        delegate=ZERO,
        account_num=0,
        being_liquidated=0,
        in_health_region=0,
        sequence_number=0,
        net_deposits=0,
        frozen_until=0,
        tokens=tuple(TokenPosition(0, index, 0) for index in tokens),
        serum3=tuple(Serum3Slot(key, index, 0, 0) for index, key in serum3),
        perps=tuple(PerpPosition(index, *(0 for _ in range(13))) for index in perps),
        perp_open_orders=(),
    )


def order_of(
    *,
    market_index: int = 0,
    side: int = 0,
    price_lots: int = 1,
    base_lots: int = 1,
    client_order_id: int = 1,
    reduce_only: bool = False,
    expiry: int = 1,
    match_limit: int = 10,
    account: Pubkey = ZERO,
    group: Pubkey = ZERO,
) -> MangoOrder:
    """Return an order; lots of SOL-PERP on the public deployment (0.01 SOL, 1e-4 dollars)."""
    return MangoOrder(
        market="SOL-PERP",
        market_index=market_index,
        account=str(account),
        group=str(group),
        client_order_id=client_order_id,
        side=side,
        price_lots=price_lots,
        base_lots=base_lots,
        reduce_only=reduce_only,
        expiry=expiry,
        match_limit=match_limit,
        base_decimals=9,
        base_lot_size=10_000_000,
        quote_lot_size=100,
        fee_penalty_usd=Decimal("0.001"),
    )


def shown(instruction: Instruction) -> tuple[str, str, list[str]]:
    """Return an instruction as text that two encoders can be compared by: program, data, accounts with their flags."""
    return str(instruction.program_id), instruction.data.hex(), [_meta(each) for each in instruction.accounts]


def _meta(meta: AccountMeta) -> str:
    return f"{meta.pubkey} {'s' if meta.is_signer else '-'}{'w' if meta.is_writable else '-'}"


class Deployment:
    """A group with tokens and perp markets of random addresses, and a trader in it.

    Args:
        seed: of everything that is random.
    """

    def __init__(self, seed: int, *, tokens: int = 7, perps: int = 5) -> None:
        self.random = random.Random(seed)  # noqa: S311 - must repeat from its seed
        self.program_id, self.group = self.key(), self.key()
        self.banks = {index: PricedAccount(self.key(), self.key()) for index in range(tokens)}
        self.vaults = {index: self.key() for index in range(tokens)}
        self.perps = {index: PricedAccount(self.key(), self.key()) for index in range(perps)}
        self.markets = {
            index: MarketAccounts(
                perp_market=priced.address,
                bids=self.key(),
                asks=self.key(),
                event_queue=self.key(),
                oracle=priced.oracle,
            )
            for index, priced in self.perps.items()
        }
        self.trader = Trader(program_id=self.program_id, group=self.group, account=self.key(), authority=self.key())

    def key(self) -> Pubkey:
        """Return an address."""
        return Pubkey.from_bytes(self.random.randbytes(32))

    def number(self, bits: int) -> int:
        """Return a number of at most so many bits, small ones as often as large ones."""
        return self.random.getrandbits(self.random.randint(1, bits))

    def slots(self, count: int, held: Sequence[int]) -> list[int]:
        """Return slots with `held` in random ones, in random order; one more is free at the least."""
        slots = [*held, *(FREE_INDEX for _ in range(count + 1))]
        self.random.shuffle(slots)
        return slots

    def account(self) -> MangoAccount:
        """Return an account with random slots in use."""
        tokens = self.random.sample(sorted(self.banks), self.random.randint(0, 4))
        perps = self.random.sample(sorted(self.perps), self.random.randint(0, 4))
        spot = [(index, self.key()) for index in range(self.random.randint(0, 3))]
        return account_of(
            tokens=self.slots(self.random.randint(0, 4), tokens),
            perps=self.slots(self.random.randint(0, 3), perps),
            serum3=spot,
            group=self.group,
            owner=self.trader.authority,
        )

    def token(self, index: int) -> TokenAccounts:
        """Return a token's accounts, with a wallet of its own."""
        bank = self.banks[index]
        return TokenAccounts(bank=bank.address, vault=self.vaults[index], oracle=bank.oracle, wallet=self.key())
