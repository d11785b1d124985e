"""Setting up and funding the trading account: `perp-router account init|deposit|show --provider drift`."""

from __future__ import annotations

import struct
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from typing import Final

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

from providers.base.errors import AccountMissing, InvalidSize, LiveTradingOff, NotListed
from providers.base.types import LockRef, Purpose, Submission, VenuePosition
from providers.drift.addresses import (
    spot_market_address,
    spot_vault_address,
    state_address,
    user_address,
    user_stats_address,
)
from providers.drift.build import market_accounts
from providers.drift.config import DriftConfig
from providers.drift.constants import QUOTE_PRECISION, QUOTE_SPOT_MARKET, RENT_SYSVAR, MarginType
from providers.drift.errors import classify
from providers.drift.layouts import User, read_spot_market
from providers.drift.margin import account_margin, token_amount
from providers.drift.reading import VenueReader
from providers.solana.cluster import SolanaCluster
from providers.solana.idl import discriminator
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM

__all__ = ["AccountSummary", "DriftAccount"]

_NAME: Final = b"perp-router".ljust(32)
_INITIALIZE_STATS: Final = discriminator("global", "initialize_user_stats")
_INITIALIZE_USER: Final = discriminator("global", "initialize_user")
_DEPOSIT: Final = discriminator("global", "deposit")
_DEPOSIT_ARGS: Final = struct.Struct("<HQB")
_U16: Final = struct.Struct("<H")


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The trading account at `slot`, in dollars.

    Attributes:
        exists: set up on the venue.
        usdc: quote token deposited (negative: owed).
        wallet_usdc: quote token in the owner's wallet.
        collateral_usd, free_collateral_usd, maintenance_margin_usd: null where a price cannot be read.
        open_orders: resting on the venue.
    """

    authority: str
    user: str
    exists: bool
    usdc: Decimal
    wallet_usdc: Decimal
    collateral_usd: Decimal | None
    free_collateral_usd: Decimal | None
    maintenance_margin_usd: Decimal | None
    open_orders: int
    being_liquidated: bool
    reduce_only: bool
    positions: tuple[VenuePosition, ...]
    slot: int
    as_of: datetime


class DriftAccount:
    """One sub-account of the signer.

    Args:
        cluster: nodes, signer, sender.
        reader: of the venue.
        config: program and sub-account.
    """

    def __init__(self, cluster: SolanaCluster, reader: VenueReader, config: DriftConfig) -> None:
        self._cluster = cluster
        self._reader = reader
        self._config = config
        self._classify = partial(classify, program_id=str(config.program_id))

    async def init(self) -> Submission | None:
        """Build the set-up of the account (and of the owner's statistics); null when it is there already.

        Raises:
            LiveTradingOff: there is no key, or the account belongs to another owner than the signer.
            ProviderError: as `Sender.prepare`.
        """
        owner = self._signer()
        if self._reader.owner != owner:
            raise LiveTradingOff(f"the account belongs to {self._reader.owner}; only its owner can set it up")
        program = self._config.program_id
        user, stats = user_address(program, owner, self._config.sub_account_id), user_stats_address(program, owner)
        at = await self._cluster.pool.accounts([user, stats])
        if at.accounts[0] is not None:
            return None
        tail = [_meta(owner, signer=True), _meta(owner, signer=True, writable=True), _meta(RENT_SYSVAR)]
        tail.append(_meta(SYSTEM_PROGRAM))
        state = _meta(state_address(program), writable=True)
        instructions: list[Instruction] = []
        if at.accounts[1] is None:
            metas = [_meta(stats, writable=True), state, *tail]
            instructions.append(Instruction(program, _INITIALIZE_STATS, metas))
        metas = [_meta(user, writable=True), _meta(stats, writable=True), state, *tail]
        data = _INITIALIZE_USER + _U16.pack(self._config.sub_account_id) + _NAME
        instructions.append(Instruction(program, data, metas))
        return await self._prepare(Purpose.SETUP, instructions)

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a deposit of `amount` of the quote token from the signer's wallet.

        A deposit repeated is a deposit twice: the same submission is sent again, never a second one built, until the
        first is proven; with a `lock` that is provable sooner, and a second one on the same lock cannot execute.

        Raises:
            InvalidSize: not an amount.
            AccountMissing: the account is not set up, or the wallet has no account of the token.
            ProviderError: as `Sender.prepare`.
        """
        owner = self._signer()
        units = int((amount * QUOTE_PRECISION).to_integral_value(ROUND_FLOOR))
        if units <= 0:
            raise InvalidSize(f"{amount} is not an amount")
        view = await self._reader.account()
        user, user_key, authority = view.user, self._reader.user_key, self._reader.owner
        if user is None or user_key is None or authority is None:
            raise AccountMissing("the account is not set up: init it first", raw_code=3007)
        mint = await self._quote_mint()
        wallet = get_associated_token_address(owner, mint)
        if (await self._cluster.pool.accounts([wallet])).accounts[0] is None:
            raise AccountMissing(f"the wallet {owner} has no account of the token {mint}")
        program = self._config.program_id
        metas = [
            _meta(state_address(program)),
            _meta(user_key, writable=True),
            _meta(user_stats_address(program, authority), writable=True),
            _meta(owner, signer=True),
            _meta(spot_vault_address(program, QUOTE_SPOT_MARKET), writable=True),
            _meta(wallet, writable=True),
            _meta(TOKEN_PROGRAM),
            *await self._margin_accounts(user),
        ]
        data = _DEPOSIT + _DEPOSIT_ARGS.pack(QUOTE_SPOT_MARKET, units, 0)
        return await self._prepare(Purpose.DEPOSIT, [Instruction(program, data, metas)], lock)

    async def show(self, positions: tuple[VenuePosition, ...] = ()) -> AccountSummary:
        """Return the account as it is.

        Args:
            positions: as the provider reads them.

        Raises:
            LiveTradingOff: no account is configured and there is no key.
        """
        owner, user_key = self._reader.owner, self._reader.user_key
        if owner is None or user_key is None:
            raise LiveTradingOff("no key and no authority are configured")
        view = await self._reader.account()
        mint = await self._quote_mint()
        wallet = (await self._cluster.pool.accounts([get_associated_token_address(owner, mint)])).accounts[0]
        initial = maintenance = None
        if view.book is not None:
            initial = account_margin(view.book, MarginType.INITIAL, strict=True)
            maintenance = account_margin(view.book, MarginType.MAINTENANCE)
        user = view.user
        return AccountSummary(
            authority=str(owner),
            user=str(user_key),
            exists=user is not None,
            usdc=await self._deposited(user),
            wallet_usdc=Decimal(0) if wallet is None else _usd(_token_balance(wallet.data)),
            collateral_usd=None if maintenance is None else _usd(maintenance.collateral),
            free_collateral_usd=None if initial is None else _usd(initial.free),
            maintenance_margin_usd=None if maintenance is None else _usd(maintenance.requirement),
            open_orders=0 if user is None else len(user.orders),
            being_liquidated=user is not None and user.is_being_liquidated,
            reduce_only=user is not None and user.is_reduce_only,
            positions=positions,
            slot=view.slot,
            as_of=self._cluster.clock.now(),
        )

    async def _deposited(self, user: User | None) -> Decimal:
        position = None
        if user is not None:
            position = next((each for each in user.spot_positions if each.market_index == QUOTE_SPOT_MARKET), None)
        if position is None:
            return Decimal(0)
        token = read_spot_market(await self._spot_market())
        return _usd(token_amount(position.scaled_balance, token, position.balance_type))

    async def _quote_mint(self) -> Pubkey:
        return read_spot_market(await self._spot_market()).mint

    async def _spot_market(self) -> bytes:
        key = spot_market_address(self._config.program_id, QUOTE_SPOT_MARKET)
        account = (await self._cluster.pool.accounts([key])).accounts[0]
        if account is None:
            raise NotListed("the venue has no quote token")
        return account.data

    async def _margin_accounts(self, user: User) -> tuple[AccountMeta, ...]:
        return market_accounts(
            await self._reader.listing(),
            perps=[each.market_index for each in user.perp_positions],
            spots=[each.market_index for each in user.spot_positions],
            token=QUOTE_SPOT_MARKET,
        )

    async def _prepare(
        self, purpose: Purpose, instructions: list[Instruction], lock: LockRef | None = None
    ) -> Submission:
        return await self._cluster.sender.prepare(
            provider="drift",
            purpose=purpose,
            instructions=instructions,
            lock=lock,
            number=0 if lock is None else 1,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=self._classify,
        )

    def _signer(self) -> Pubkey:
        if self._cluster.signer is None:
            raise LiveTradingOff("no key is configured")
        return self._cluster.signer.public_key


# Amount of an SPL token account, after mint and owner.
_TOKEN_AMOUNT: Final = struct.Struct("<64xQ")


def _token_balance(data: bytes) -> int:
    return int(_TOKEN_AMOUNT.unpack_from(data)[0]) if len(data) >= _TOKEN_AMOUNT.size else 0


def _usd(amount: int) -> Decimal:
    return Decimal(amount) / QUOTE_PRECISION


def _meta(key: Pubkey, *, signer: bool = False, writable: bool = False) -> AccountMeta:
    return AccountMeta(key, is_signer=signer, is_writable=writable)
