"""Mango v4 as a provider (`providers.base.protocol.Provider`): the other modules, in the protocol's order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import (
    AccountMissing,
    BadAnswer,
    InsufficientCollateral,
    InvalidSize,
    LiveTradingOff,
    NodeBehind,
    ProviderError,
    UnsupportedProgram,
    WorstPriceNotMet,
    WouldNet,
)
from providers.base.types import (
    Ack,
    Capabilities,
    Capacity,
    Holdings,
    Lifecycle,
    LockRef,
    Market,
    OrderKind,
    OrderTerms,
    Outcome,
    ProviderState,
    Purpose,
    Quote,
    QuoteTerms,
    Side,
    Submission,
    VenueHistory,
    VenuePosition,
)
from providers.mango import quote as quoting
from providers.mango.account import AccountSummary, MangoKeeper
from providers.mango.book import StopReason
from providers.mango.build import (
    MangoOrder,
    MarketAccounts,
    Trader,
    base_lots_of,
    encode_order,
    lot_units,
    match_limit_of,
    may_fill_until,
    order_instruction,
    plan_order,
    price_lots_of,
    side_of,
)
from providers.mango.config import MangoConfig
from providers.mango.constants import FRACTION_BITS, QUOTE_DECIMALS
from providers.mango.directory import Directory
from providers.mango.errors import mango_refusal
from providers.mango.halt import halt_watch
from providers.mango.health import HealthType, health
from providers.mango.history import AccountHistory
from providers.mango.positions import positions_of
from providers.mango.reading import Overview, Snapshot, VenueReader
from providers.mango.settle import Settler, order_failure, unfilled_in
from providers.mango.state import MangoAccount
from providers.solana.any_node import by_any_node
from providers.solana.cluster import SolanaCluster
from providers.solana.halt import lifecycle_of
from providers.solana.records import ProgramFailure

__all__ = ["MangoProvider", "build"]

logger = logging.getLogger(__name__)

NAME: Final = "mango"
# A transaction with more accounts than this is compiled with the group's own lookup tables.
_ACCOUNTS_WITHOUT_TABLES: Final = 20


class MangoProvider:
    """One Mango group, traded with one account.

    Args:
        cluster: nodes, sender, proofs, signer; a read pool of the venue's own where it has one.
        config: program, group, account.
    """

    def __init__(self, cluster: SolanaCluster, config: MangoConfig) -> None:
        self._cluster = cluster
        self._config = config
        self._authority = None if cluster.signer is None else cluster.signer.public_key
        owner = config.authority if config.authority is not None else self._authority
        self._reader = VenueReader(cluster.pool, config, owner, cluster.clock)
        self._directory = Directory(cluster.pool, config, cluster.clock)
        self._halt = halt_watch(cluster, config, self._authority)
        # What was sent is settled with every node of the cluster, whatever the venue reads with.
        self._settler = Settler(cluster, config)
        self._keeper = MangoKeeper(cluster, self._reader, self._directory, config)
        # The same account by every node of the cluster: closes go there when the venue's own nodes fail.
        by_all_nodes = cluster.on_all_nodes()
        self._everywhere = None if by_all_nodes is None else MangoProvider(by_all_nodes, config)
        self._history = AccountHistory(cluster, Directory(cluster.all_nodes, config, cluster.clock), config)

    @property
    def name(self) -> str:
        """Lower-case name."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What kind of venue this is: orders fill in their own transaction, and nothing of them rests."""
        return Capabilities(order_lock=True, netting=True, cross_margin=True, rests=False)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def markets(self) -> tuple[Market, ...]:
        """Return every perp market of the group, read from the chain."""
        overview, halted = await asyncio.gather(self._reader.overview(), self._halt.error())
        markets = tuple(quoting.market_of(each, overview.group) for each in overview.markets)
        if halted is None:
            return markets
        lifecycle = lifecycle_of(halted)
        return tuple(
            msgspec.structs.replace(each, lifecycle=lifecycle, lifecycle_reason=halted.detail) for each in markets
        )

    async def state(self) -> ProviderState:
        """Return the venue's lifecycle, and what the book of each market still gives on each side."""
        now = self._cluster.clock.now
        try:
            overview, halted = await asyncio.gather(self._reader.overview(), self._halt.error())
        except UnsupportedProgram as error:
            return ProviderState(
                provider=NAME, lifecycle=Lifecycle.UNSUPPORTED_PROGRAM, reason=error.detail, as_of=now()
            )
        lifecycle, reason = _venue_lifecycle(overview)
        if halted is not None:
            lifecycle, reason = lifecycle_of(halted), halted.detail
        return ProviderState(
            provider=NAME,
            lifecycle=lifecycle,
            reason=reason,
            capacity=await self._capacities(overview) if lifecycle is Lifecycle.LIVE else (),
            slot=overview.slot,
            as_of=now(),
        )

    async def quote(self, terms: QuoteTerms) -> Quote:
        """Return the all-in price for an order now; phase of every error `not_sent`.

        Where the venue's own nodes give none, a close is quoted by any node of the cluster.
        """
        everywhere = self._everywhere
        if everywhere is None or terms.kind is OrderKind.OPEN:
            return await self._quote(terms)
        return await by_any_node(lambda: self._quote(terms), lambda: everywhere.quote(terms))

    async def _quote(self, terms: QuoteTerms) -> Quote:
        closing = terms.kind is OrderKind.CLOSE
        snapshot, _ = await asyncio.gather(self._reader.snapshot(terms.market), self._halt.check(closing=closing))
        if terms.kind is OrderKind.OPEN:
            _refuse_netting(snapshot, terms.side)
        return self._quote_of(terms, snapshot)

    async def positions(self) -> tuple[VenuePosition, ...]:
        """Return what the account holds, at `confirmed`; nothing where it is not set up."""
        return positions_of(await self._reader.account())

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return positions and resting orders as one read at or after `min_slot` shows them.

        Raises:
            LiveTradingOff: there is no account to ask about.
            NodeBehind: no node has reached `min_slot`.
        """
        _ = self._account_key
        view = await self._reader.account()
        if view.slot < min_slot:
            raise NodeBehind(f"the account was read at slot {view.slot}, {min_slot} was asked for")
        orders = () if view.account is None else await self._history.resting(view.account)
        return Holdings(provider=NAME, slot=view.slot, positions=positions_of(view), orders=orders)

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed the account's positions after a transaction (see `AccountHistory.read`)."""
        return await self._history.read(self._account_key, after, through_slot)

    # --- orders -------------------------------------------------------------------------------------------------------

    async def prepare_open(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign an open. A refusal proves that nothing was sent.

        Refused is what the quote would refuse (halt, gates, depth, leverage, health), an open against a holding on the
        other side, one whose margin at the asked leverage is not free, and one that nothing in the book meets at its
        bound.
        """
        snapshot, _ = await asyncio.gather(self._reader.snapshot(terms.market), self._halt.check())
        account = self._trading_account(snapshot)
        _refuse_netting(snapshot, terms.side)
        asked = QuoteTerms(market=terms.market, side=terms.side, size=terms.size, leverage=terms.leverage)
        _check_collateral(snapshot, self._quote_of(asked, snapshot))
        base_lots = base_lots_of(terms.size, lot_units(snapshot.market))
        return await self._prepare(terms, snapshot, account, base_lots)

    async def prepare_close(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a reduce-only close of at most what the account holds.

        Nothing that stops an open stops a close: halted, gated, stale or unhealthy, the program itself decides, in
        simulation. Where the venue's own nodes do not do, any node of the cluster does.
        """
        everywhere = self._everywhere
        if everywhere is None:
            return await self._close(terms)
        return await by_any_node(lambda: self._close(terms), lambda: everywhere.prepare_close(terms))

    async def _close(self, terms: OrderTerms) -> Submission:
        snapshot = await self._reader.snapshot(terms.market)
        account = self._trading_account(snapshot)
        asked = base_lots_of(terms.size, lot_units(snapshot.market))
        held = snapshot.held_lots if terms.side is Side.LONG else -snapshot.held_lots
        if held <= 0:
            raise InvalidSize(
                f"the account holds no {terms.side} {terms.market} to close",
                raw_code=6020,
                raw_name="PerpPositionDoesNotExist",
            )
        return await self._prepare(terms, snapshot, account, min(asked, held))

    async def submit(self, submission: Submission) -> Ack:
        """Give the journaled bytes to every node; errors are data, and prove nothing."""
        return await self._cluster.sender.submit(submission)

    async def settle(self, submission: Submission) -> Outcome:
        """Return what this order became, as far as it can be proven now."""
        return await self._settler.settle(submission)

    async def cancel(self, submission: Submission) -> Submission | None:  # noqa: ARG002 - of the protocol
        """Return null: an immediate order never rests."""
        return None

    async def aclose(self) -> None:
        """Release the venue's own connections; those of the cluster are its owner's."""
        if self._cluster.pool is not self._cluster.all_nodes:
            await self._cluster.pool.aclose()

    # --- the account --------------------------------------------------------------------------------------------------

    async def init(self) -> Submission | None:
        """Build the set-up of the account; null when it is there (see `MangoKeeper.init`)."""
        return await self._keeper.init()

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a deposit of the quote token (see `MangoKeeper.deposit`)."""
        return await self._keeper.deposit(amount, lock)

    async def withdraw(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a withdrawal of the quote token (see `MangoKeeper.withdraw`)."""
        return await self._keeper.withdraw(amount, lock)

    async def settle_pnl(self) -> Submission:
        """Build the settlement of a position's profit or loss (see `MangoKeeper.settle_pnl`)."""
        return await self._keeper.settle_pnl()

    async def show(self) -> AccountSummary:
        """Return the account as it is."""
        return await self._keeper.show(await self.positions())

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _account_key(self) -> Pubkey:
        key = self._reader.account_key
        if key is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        return key

    def _quote_of(self, terms: QuoteTerms, snapshot: Snapshot) -> Quote:
        return quoting.quote_of(
            terms,
            snapshot,
            match_limit=self._config.match_limit,
            as_of=self._cluster.clock.now(),
            lifetime_s=self._config.quote_lifetime_s,
        )

    def _trading_account(self, snapshot: Snapshot) -> MangoAccount:
        if self._authority is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        if snapshot.account is None:
            raise AccountMissing(
                f"the account {self._reader.account_key} is not set up", raw_code=3012, raw_name="AccountNotInitialized"
            )
        return snapshot.account

    async def _capacities(self, overview: Overview) -> tuple[Capacity, ...]:
        found: list[Capacity] = []
        for each in overview.markets:
            live = quoting.market_lifecycle(each.market)[0] is Lifecycle.LIVE and each.oracle_refusal is None
            snapshot = await self._reader.snapshot(each.listed.symbol) if live else None
            for side in Side:
                usd = Decimal(0)
                if snapshot is not None:
                    usd = quoting.capacity_usd(
                        snapshot, quoting.order_side(OrderKind.OPEN, side), self._config.match_limit
                    )
                found.append(Capacity(market=each.listed.symbol, side=side, capacity_usd=usd))
        return tuple(found)

    async def _prepare(
        self, terms: OrderTerms, snapshot: Snapshot, account: MangoAccount, base_lots: int
    ) -> Submission:
        limit = self._match_limit(terms, snapshot, base_lots)
        key = self._account_key
        order = plan_order(
            terms, market=snapshot.market, account=key, base_lots=base_lots, now=snapshot.now, match_limit=limit
        )
        instruction = await self._instruction(order, snapshot, account, key)
        try:
            submission = await self._cluster.sender.prepare(
                provider=NAME,
                purpose=Purpose.CLOSE if order.reduce_only else Purpose.OPEN,
                instructions=[instruction],
                lock=terms.lock,
                number=terms.number,
                size=order.units.size(base_lots),
                may_fill_until=may_fill_until(order),
                venue=encode_order(order),
                classify=self._classify,
                lookup_tables=self._tables(snapshot, instruction.accounts),
                inspect=partial(self._refuse_unfilled, order),
            )
        except ProviderError as error:
            self._halt.note(error)
            raise
        logger.info(
            "mango_order_prepared",
            extra={
                "order_id": terms.order_id,
                "attempt_id": terms.attempt_id,
                "market": order.market,
                "side": order.side,
                "base_lots": order.base_lots,
                "price_lots": order.price_lots,
                "client_order_id": order.client_order_id,
                "match_limit": order.match_limit,
                "signature": submission.handle,
            },
        )
        return submission

    def _match_limit(self, terms: OrderTerms, snapshot: Snapshot, base_lots: int) -> int:
        """Return the order's match limit, and refuse an open that nothing in the book meets at its bound.

        Raises:
            WorstPriceNotMet: everything in the book is beyond the bound, or the bound is less than a tick.
        """
        side, most = side_of(terms), self._config.match_limit
        bound = price_lots_of(terms.worst_price, lot_units(snapshot.market), side)
        walk = quoting.price_order(snapshot, side, base_lots, match_limit=most, price_limit=bound).walk
        if walk.stopped is StopReason.OWN_ORDER:
            # Whatever else it would match: the program refuses all of it.
            raise mango_refusal(6048, "the account's own order rests in the way: cancel it first")
        if walk.base_lots == 0 and walk.stopped is StopReason.PRICE_LIMIT and terms.kind is OrderKind.OPEN:
            raise WorstPriceNotMet(f"nothing in the book meets {terms.worst_price}")
        return match_limit_of(walk.matches, most)

    async def _instruction(
        self, order: MangoOrder, snapshot: Snapshot, account: MangoAccount, key: Pubkey
    ) -> Instruction:
        if self._authority is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        trader = Trader(
            program_id=self._config.program_id, group=self._config.group, account=key, authority=self._authority
        )
        market = MarketAccounts.of(snapshot.listed.address, snapshot.market)
        health_list = await self._directory.fixed_order(
            account, token_index=snapshot.market.settle_token_index, market_index=order.market_index
        )
        return order_instruction(order, trader, market, health_list)

    def _classify(self, failure: ProgramFailure, logs: tuple[str, ...]) -> ProviderError:
        error = order_failure(failure, logs, self._config.program_id)
        if isinstance(error, NodeBehind):
            # What the list of accounts was made from has moved.
            self._directory.forget()
        return error

    def _tables(self, snapshot: Snapshot, accounts: list[AccountMeta]) -> tuple[Pubkey, ...]:
        if len(accounts) <= _ACCOUNTS_WITHOUT_TABLES:
            return self._config.lookup_tables
        return tuple(dict.fromkeys((*self._config.lookup_tables, *snapshot.group.lookup_tables)))

    def _refuse_unfilled(self, order: MangoOrder, logs: tuple[str, ...]) -> None:
        """Refuse an order that its simulation shows to match nothing: it would pay the penalty for nothing.

        Raises:
            ProviderError: what it would have died of once landed.
        """
        try:
            error = unfilled_in(order, logs, self._config.program_id)
        except BadAnswer as unreadable:
            if not order.reduce_only:
                raise
            # What cannot be read shows nothing, and nothing may refuse a close on a guess.
            logger.warning("simulation_unreadable", extra={"market": order.market, "detail": unreadable.detail})
            return
        if error is not None:
            raise error


def build(cluster: SolanaCluster, environment: Mapping[str, str]) -> MangoProvider:
    """Return the provider for a cluster and its own settings (`program_id`, `group`, `account_num`, ...).

    Raises:
        ValueError: a setting that is not one, or cannot be read.
    """
    return MangoProvider(cluster, MangoConfig.of(environment))


def _venue_lifecycle(overview: Overview) -> tuple[Lifecycle, str]:
    """Return the group's own lifecycle, or the one that all of its markets share."""
    lifecycle, reason = quoting.group_lifecycle(overview.group)
    if lifecycle is not Lifecycle.LIVE:
        return lifecycle, reason
    each = {quoting.market_lifecycle(view.market)[0] for view in overview.markets}
    if not each:
        return Lifecycle.RETIRED, "the group has no perp market"
    if len(each) > 1 or Lifecycle.LIVE in each:
        return Lifecycle.LIVE, ""
    shared = each.pop()
    return shared, f"every market is {shared.value}"


def _refuse_netting(snapshot: Snapshot, side: Side) -> None:
    """Refuse an open that would reduce what the account holds on the other side; raise `WouldNet`."""
    held = snapshot.held_lots
    if held * (1 if side is Side.LONG else -1) < 0:
        size = quoting.base_lots_to_size(snapshot.market, abs(held))
        raise WouldNet(f"the account holds {size} {snapshot.listed.symbol} on the other side")


def _check_collateral(snapshot: Snapshot, quote: Quote) -> None:
    """Refuse an open whose margin at the asked leverage is not free in the account.

    Raises:
        InsufficientCollateral: it is not. An account that cannot be valued is left to the program's own check.
    """
    if snapshot.book is None:
        return
    # Rounded down: what is free is never overstated.
    free = Decimal(health(snapshot.book, HealthType.INIT) >> FRACTION_BITS).scaleb(-QUOTE_DECIMALS)
    if free < quote.margin_required_usd:
        raise InsufficientCollateral(
            f"{free} dollars are free, the order needs {quote.margin_required_usd}",
            raw_code=6007,
            raw_name="HealthMustBePositiveOrIncrease",
        )
