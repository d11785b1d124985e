"""Setting up, funding and emptying the trading account: `perp-router account init|deposit|show --provider mango`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from typing import Final

import msgspec
from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from providers.base.errors import AccountMissing, InsufficientCollateral, InvalidSize, LiveTradingOff, NoLiquidity
from providers.base.types import LockRef, Purpose, Submission, VenuePosition
from providers.mango.build import (
    MarketAccounts,
    TokenAccounts,
    Trader,
    create_account_instruction,
    deposit_instruction,
    settle_pnl_instruction,
    withdraw_instruction,
)
from providers.mango.config import MangoConfig
from providers.mango.constants import EVENT_QUEUE_SLOTS, FRACTION_BITS, QUOTE_DECIMALS, QUOTE_TOKEN
from providers.mango.directory import Directory
from providers.mango.errors import classify
from providers.mango.health import HealthType, PricedPerp, health, unrealized_pnl
from providers.mango.layouts import read_event_queue, read_mango_account
from providers.mango.orderbook import EventQueue, FillEvent
from providers.mango.reading import AccountView, VenueReader
from providers.mango.state import MangoAccount
from providers.solana.cluster import SolanaCluster

__all__ = ["AccountSummary", "MangoKeeper"]

_NAME: Final = "perp-router"
# Slots of a new account: rent grows with them, and more can be had later.
_TOKENS: Final = 4
_PERPS: Final = 4
_OPEN_ORDERS: Final = 8
_ACCOUNTS_PER_CALL: Final = 100
# Amount of an SPL token account, after mint and owner.
_TOKEN_AMOUNT: Final = struct.Struct("<64xQ")


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The trading account at `slot`, in dollars.

    Attributes:
        exists: set up on the venue.
        usdc: quote token deposited (negative: owed); profit that is not settled is not in it.
        wallet_usdc: quote token in the owner's wallet.
        free_collateral_usd, maintenance_health_usd: null where a price cannot be used.
        unsettled_pnl_usd: of all perp positions at their oracles; null where a price cannot be used.
        open_orders: resting on the venue.
    """

    authority: str
    account: str
    exists: bool
    usdc: Decimal
    wallet_usdc: Decimal
    free_collateral_usd: Decimal | None
    maintenance_health_usd: Decimal | None
    unsettled_pnl_usd: Decimal | None
    open_orders: int
    being_liquidated: bool
    positions: tuple[VenuePosition, ...]
    slot: int
    as_of: datetime


class _Partner(msgspec.Struct, frozen=True):
    """An account to settle profit against, and what it has lost or won, native quote (`I80F48`)."""

    key: Pubkey
    account: MangoAccount
    pnl: int


class MangoKeeper:
    """One account of the signer.

    Args:
        cluster: nodes, signer, sender.
        reader: of the venue.
        directory: of the venue's banks and markets.
        config: program, group and account.
    """

    def __init__(self, cluster: SolanaCluster, reader: VenueReader, directory: Directory, config: MangoConfig) -> None:
        self._cluster = cluster
        self._reader = reader
        self._directory = directory
        self._config = config
        self._classify = partial(classify, program_id=str(config.program_id))

    async def init(self) -> Submission | None:
        """Build the set-up of the account; null when it is there already.

        Raises:
            LiveTradingOff: there is no key, or the account belongs to another owner than the signer.
            ProviderError: as `Sender.prepare`.
        """
        trader = self._trader()
        if self._reader.owner != trader.authority:
            raise LiveTradingOff(f"the account belongs to {self._reader.owner}; only its owner can set it up")
        if (await self._cluster.pool.accounts([trader.account])).accounts[0] is not None:
            return None
        instruction = create_account_instruction(
            trader,
            account_num=self._config.account_num,
            tokens=_TOKENS,
            perps=_PERPS,
            perp_open_orders=_OPEN_ORDERS,
            name=_NAME,
        )
        return await self._prepare(Purpose.SETUP, instruction)

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a deposit of `amount` of the quote token from the signer's wallet.

        A deposit repeated is a deposit twice: the same submission is sent again, never a second one built, until the
        first is proven; with a `lock` that is provable sooner, and a second one on the same lock cannot execute.

        Raises:
            InvalidSize: not an amount.
            AccountMissing: the account is not set up, or the wallet has no account of the token.
            ProviderError: as `Sender.prepare`.
        """
        return await self._move(Purpose.DEPOSIT, amount, lock)

    async def withdraw(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a withdrawal of `amount` of the quote token to the signer's wallet; it never borrows.

        Repeated like a deposit. Profit of perp positions comes out only once it is settled (`settle_pnl`).

        Raises:
            InvalidSize: not an amount.
            AccountMissing: as `deposit`.
            InsufficientCollateral: the account has less of the token.
            ProviderError: as `Sender.prepare`.
        """
        return await self._move(Purpose.WITHDRAW, amount, lock)

    async def settle_pnl(self) -> Submission:
        """Build the settlement of a perp position's profit, or loss, against an account that has the opposite.

        Partners are looked for among those that have traded in the market lately: its event queue is a ring, and keeps
        the parties of its last fills. The largest opposite result is taken. One market a call; settling again, when
        nothing is left, is refused by simulation.

        Raises:
            AccountMissing: the account is not set up.
            NoLiquidity: there is nothing to settle, or nobody to settle it against.
            ProviderError: as `Sender.prepare`.
        """
        trader = self._trader()
        view, account = await self._account()
        found_any = False
        for position in account.active_perps:
            index = position.market_index
            price, market = view.prices.get(index), view.perps[index]
            own = 0 if price is None else unrealized_pnl(position, PricedPerp(market, price.price))
            if price is None or own == 0:
                continue
            found_any = True
            accounts = await self._directory.market_accounts(index)
            partner = _best(await self._partners(accounts, PricedPerp(market, price.price), trader.account), own)
            if partner is None:
                continue
            winner, loser = (trader.account, partner.key) if own > 0 else (partner.key, trader.account)
            bank = await self._directory.bank(market.settle_token_index)
            instruction = settle_pnl_instruction(
                trader,
                accounts,
                winner=winner,
                loser=loser,
                bank=self._directory.bank_key(market.settle_token_index),
                bank_oracle=bank.oracle,
                health=await self._directory.scanned((account, partner.account)),
            )
            return await self._prepare(Purpose.SETTLEMENT, instruction)
        if not found_any:
            raise NoLiquidity("no perp position has a profit or loss to settle")
        raise NoLiquidity("no account that traded lately has the opposite result: the profit stays in the position")

    async def show(self, positions: tuple[VenuePosition, ...] = ()) -> AccountSummary:
        """Return the account as it is.

        Args:
            positions: as the provider reads them.

        Raises:
            LiveTradingOff: no account is configured and there is no key.
        """
        owner, key = self._reader.owner, self._reader.account_key
        if owner is None or key is None:
            raise LiveTradingOff("no key and no authority are configured")
        view = await self._reader.account()
        bank = await self._directory.bank(QUOTE_TOKEN)
        wallet = (await self._cluster.pool.accounts([get_associated_token_address(owner, bank.mint)])).accounts[0]
        account = view.account
        token = None if account is None else account.token(QUOTE_TOKEN)
        return AccountSummary(
            authority=str(owner),
            account=str(key),
            exists=account is not None,
            usdc=Decimal(0) if token is None else _usd(bank.native(token.indexed_position)),
            wallet_usdc=Decimal(0) if wallet is None else _token_balance(wallet.data),
            free_collateral_usd=None if view.book is None else _usd(health(view.book, HealthType.INIT)),
            maintenance_health_usd=None if view.book is None else _usd(health(view.book, HealthType.MAINT)),
            unsettled_pnl_usd=_unsettled(view),
            open_orders=0 if account is None else len(account.open_orders),
            being_liquidated=account is not None and bool(account.being_liquidated),
            positions=positions,
            slot=view.slot,
            as_of=self._cluster.clock.now(),
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _move(self, purpose: Purpose, amount: Decimal, lock: LockRef | None) -> Submission:
        trader = self._trader()
        units = int(amount.scaleb(QUOTE_DECIMALS).to_integral_value(ROUND_FLOOR))
        if units <= 0:
            raise InvalidSize(f"{amount} is not an amount")
        _, account = await self._account()
        bank = await self._directory.bank(QUOTE_TOKEN)
        wallet = get_associated_token_address(trader.authority, bank.mint)
        if (await self._cluster.pool.accounts([wallet])).accounts[0] is None:
            raise AccountMissing(f"the wallet {trader.authority} has no account of the token {bank.mint}")
        token = TokenAccounts(
            bank=self._directory.bank_key(QUOTE_TOKEN), vault=bank.vault, oracle=bank.oracle, wallet=wallet
        )
        metas = await self._directory.fixed_order(account, token_index=QUOTE_TOKEN)
        if purpose is Purpose.DEPOSIT:
            return await self._prepare(purpose, deposit_instruction(units, trader, token, metas), lock)
        held = account.token(QUOTE_TOKEN)
        if held is None or bank.native(held.indexed_position) < units << FRACTION_BITS:
            have = Decimal(0) if held is None else _usd(bank.native(held.indexed_position))
            raise InsufficientCollateral(f"the account has {have} of the quote token, {amount} was asked for")
        return await self._prepare(purpose, withdraw_instruction(units, trader, token, metas), lock)

    async def _account(self) -> tuple[AccountView, MangoAccount]:
        view = await self._reader.account()
        if view.account is None:
            raise AccountMissing("the account is not set up: init it first", raw_code=3012)
        return view, view.account

    async def _partners(self, accounts: MarketAccounts, priced: PricedPerp, ours: Pubkey) -> list[_Partner]:
        """Return the parties of the market's last fills that hold a slot in it."""
        pool = self._cluster.pool
        queue = (await pool.accounts([accounts.event_queue])).accounts[0]
        if queue is None:
            return []
        keys = [each for each in _parties(read_event_queue(queue.data)) if each != ours]
        partners: list[_Partner] = []
        for start in range(0, len(keys), _ACCOUNTS_PER_CALL):
            some = keys[start : start + _ACCOUNTS_PER_CALL]
            for key, data in zip(some, (await pool.accounts(some)).accounts, strict=True):
                if data is None or data.owner != self._config.program_id:
                    continue
                account = read_mango_account(data.data)
                position = account.perp(priced.market.perp_market_index)
                if position is not None:
                    partners.append(_Partner(key, account, unrealized_pnl(position, priced)))
        return partners

    async def _prepare(self, purpose: Purpose, instruction: Instruction, lock: LockRef | None = None) -> Submission:
        return await self._cluster.sender.prepare(
            provider="mango",
            purpose=purpose,
            instructions=[instruction],
            lock=lock,
            number=0 if lock is None else 1,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=self._classify,
            lookup_tables=self._config.lookup_tables,
        )

    def _trader(self) -> Trader:
        signer, key = self._cluster.signer, self._reader.account_key
        if signer is None or key is None:
            raise LiveTradingOff("no key is configured")
        return Trader(
            program_id=self._config.program_id, group=self._config.group, account=key, authority=signer.public_key
        )


def _parties(queue: EventQueue) -> Iterable[Pubkey]:
    """Return makers and takers of the fills that the ring holds, those that were consumed long ago included."""
    ring = EventQueue(queue.data, 0, EVENT_QUEUE_SLOTS, queue.seq_num)
    keys = (key for each in ring.events() if isinstance(each, FillEvent) for key in (each.maker, each.taker))
    return dict.fromkeys(key for key in keys if key != Pubkey.default())


def _best(partners: Sequence[_Partner], own: int) -> _Partner | None:
    opposite = [each for each in partners if each.pnl * own < 0]
    return max(opposite, key=lambda each: abs(each.pnl), default=None)


def _unsettled(view: AccountView) -> Decimal | None:
    if view.account is None:
        return Decimal(0)
    total = 0
    for position in view.account.active_perps:
        price = view.prices.get(position.market_index)
        if price is None:
            return None
        total += unrealized_pnl(position, PricedPerp(view.perps[position.market_index], price.price))
    return _usd(total)


def _token_balance(data: bytes) -> Decimal:
    amount = int(_TOKEN_AMOUNT.unpack_from(data)[0]) if len(data) >= _TOKEN_AMOUNT.size else 0
    return Decimal(amount).scaleb(-QUOTE_DECIMALS)


def _usd(native: int) -> Decimal:
    """Return native quote (`I80F48`) in dollars, rounded down to its smallest unit."""
    return Decimal(native >> FRACTION_BITS).scaleb(-QUOTE_DECIMALS)
