"""Drift as a provider (`providers.base.protocol.Provider`): what the other modules know, in the protocol's order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from providers.base.errors import (
    AccountMissing,
    BadAnswer,
    BelowMinimum,
    InsufficientCollateral,
    InvalidSize,
    LiveTradingOff,
    ProviderError,
    UnsupportedProgram,
    WorstPriceNotMet,
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
from providers.drift import quote as quoting
from providers.drift.account import AccountSummary, DriftAccount
from providers.drift.build import (
    DriftOrder,
    OrderAccounts,
    cancel_instruction,
    market_accounts,
    may_fill_until,
    order_instruction,
    plan_order,
    worst_price_of,
)
from providers.drift.config import DriftConfig
from providers.drift.constants import AMM_RESERVE_PRECISION, BASE_PRECISION, PRICE_PRECISION, Direction
from providers.drift.curve import round_size
from providers.drift.errors import classify, drift_refusal
from providers.drift.halt import halt_watch
from providers.drift.history import AccountHistory
from providers.drift.layouts import PerpPosition, User
from providers.drift.makers import Maker, crossing_makers, party_accounts
from providers.drift.margin import liquidation_price
from providers.drift.reading import AccountView, Overview, Snapshot, VenueReader
from providers.drift.reserved import Reservations
from providers.drift.settle import Settler, unfilled_in
from providers.drift.triggers import plan_trigger
from providers.solana.any_node import by_any_node
from providers.solana.cluster import SolanaCluster
from providers.solana.halt import lifecycle_of
from providers.solana.sender import Inspect

__all__ = ["DriftProvider", "build"]

logger = logging.getLogger(__name__)

NAME: Final = "drift"
# Above every price that the program can write (64 bits).
_ANY_PRICE: Final = 2**64


class DriftProvider:
    """One Drift deployment, traded with one account.

    Args:
        cluster: nodes, sender, proofs, signer; a read pool of the venue's own where it has one.
        config: program, account, auction.
        reserved: orders in flight, where two adapters share an account.
    """

    def __init__(self, cluster: SolanaCluster, config: DriftConfig, *, reserved: Reservations | None = None) -> None:
        self._cluster = cluster
        self._config = config
        signer = None if cluster.signer is None else cluster.signer.public_key
        self._authority = signer
        owner = config.authority if config.authority is not None else signer
        self._reader = VenueReader(cluster.pool, config, owner, cluster.clock)
        # What was sent is settled with every node of the cluster, whatever the venue reads with.
        self._settler = Settler(cluster, VenueReader(cluster.all_nodes, config, owner, cluster.clock), config)
        self._account = DriftAccount(cluster, self._reader, config)
        self._history = AccountHistory(cluster, self._reader, config)
        self._halt = halt_watch(cluster, config, signer)
        self._classify = partial(classify, program_id=str(config.program_id))
        self._reserved = reserved or Reservations(cluster.clock, config.expiry_margin_s)
        # The same account by every node of the cluster: closes and cancels go there when the venue's own nodes fail.
        by_all_nodes = cluster.on_all_nodes()
        self._everywhere = (
            None if by_all_nodes is None else DriftProvider(by_all_nodes, config, reserved=self._reserved)
        )

    @property
    def name(self) -> str:
        """Lower-case name."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What kind of venue this is."""
        return Capabilities(order_lock=True, netting=True, cross_margin=True, rests=True, native_triggers=True)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def markets(self) -> tuple[Market, ...]:
        """Return every market with a supported oracle, read from the chain."""
        overview, halted = await asyncio.gather(self._reader.overview(), self._halt.error())
        markets = [
            quoting.market_of(listed, market, state=overview.state, now=overview.now, oracle=oracle)
            for listed, market, oracle in overview.markets
        ]
        if halted is not None:
            lifecycle = lifecycle_of(halted)
            return tuple(
                msgspec.structs.replace(each, lifecycle=lifecycle, lifecycle_reason=halted.detail) for each in markets
            )
        return tuple(markets)

    async def state(self) -> ProviderState:
        """Return the venue's lifecycle and what each market still takes on each side."""
        try:
            overview, halted = await asyncio.gather(self._reader.overview(), self._halt.error())
        except UnsupportedProgram as error:
            return ProviderState(
                provider=NAME,
                lifecycle=Lifecycle.UNSUPPORTED_PROGRAM,
                reason=error.detail,
                as_of=self._cluster.clock.now(),
            )
        lifecycle, reason = _venue_lifecycle(overview)
        if halted is not None:
            lifecycle, reason = lifecycle_of(halted), halted.detail
        return ProviderState(
            provider=NAME,
            lifecycle=lifecycle,
            reason=reason,
            capacity=tuple(_capacities(overview)) if lifecycle is Lifecycle.LIVE else (),
            slot=overview.slot,
            as_of=self._cluster.clock.now(),
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
        quote = quoting.quote_of(
            terms, snapshot, as_of=self._cluster.clock.now(), lifetime_s=self._config.quote_lifetime_s
        )
        if terms.kind is OrderKind.CLOSE:
            base = int(quote.size * BASE_PRECISION)
            refusal = quoting.close_refusal(snapshot, terms.side, base)
            direction = quoting.direction_of(terms.kind, terms.side)
            if refusal is not None and not await self._makers(snapshot, direction, base, price=None):
                raise refusal
        return quote

    async def positions(self) -> tuple[VenuePosition, ...]:
        """Return what the account holds, at `confirmed`; nothing where it is not set up."""
        return await self._positions_of(await self._reader.account())

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return positions and resting orders as one read at or after `min_slot` shows them.

        Raises:
            LiveTradingOff: there is no account to ask about.
            NodeBehind: no node has reached `min_slot`.
        """
        user_key = self._user_key
        view = await self._reader.account(min_slot)
        return Holdings(
            provider=NAME,
            slot=view.slot,
            positions=await self._positions_of(view),
            orders=await self._history.resting(view, user_key),
        )

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed the account's positions after a transaction (see `AccountHistory.read`)."""
        return await self._history.read(self._user_key, after, through_slot)

    # --- orders -------------------------------------------------------------------------------------------------------

    async def prepare_open(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign an open. A refusal proves that nothing was sent."""
        snapshot, _ = await asyncio.gather(self._reader.snapshot(terms.market), self._halt.check())
        user = self._trading_user(snapshot)
        refusal = quoting.open_refusal(snapshot, terms.side) or quoting.amm_refusal(snapshot)
        if refusal is not None:
            raise refusal
        asked = QuoteTerms(market=terms.market, side=terms.side, size=terms.size, leverage=terms.leverage)
        base = quoting.base_of(asked, snapshot)
        direction = quoting.direction_of(OrderKind.OPEN, terms.side)
        priced = quoting.price_order(snapshot, direction, base)
        quoting.check_capacity(snapshot, priced)
        held = abs(snapshot.held_base)
        quoting.check_leverage(terms.leverage, quoting.max_leverage(snapshot.market, user, held + base))
        _check_collateral(snapshot, priced, terms.leverage)
        return await self._prepare(terms, snapshot, user, direction, base)

    async def prepare_close(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a reduce-only close of at most what the account holds.

        Nothing that stops an open stops a close: paused, stale or halted, the program itself decides. What it would
        take and not fill is refused: a part that is too small (`quoting.close_refusal`), and what its simulation shows.
        Where the venue's own nodes do not do, any node of the cluster does.
        """
        everywhere = self._everywhere
        if everywhere is None:
            return await self._close(terms)
        return await by_any_node(lambda: self._close(terms), lambda: everywhere.prepare_close(terms))

    async def _close(self, terms: OrderTerms) -> Submission:
        snapshot = await self._reader.snapshot(terms.market)
        user = self._trading_user(snapshot)
        if terms.size <= 0:
            raise InvalidSize(f"{terms.size} is not a size")
        held = snapshot.held_base if terms.side is Side.LONG else -snapshot.held_base
        if held <= 0:
            raise drift_refusal(6010, f"the account holds no {terms.side} {terms.market} to close")
        asked = int(terms.size * BASE_PRECISION)
        base = round_size(min(asked, held), snapshot.market.order_step_size)
        if base == 0:
            raise BelowMinimum(
                f"{terms.size} of a position of {Decimal(held) / BASE_PRECISION} is less than a step (base {asked},"
                f" step {snapshot.market.order_step_size})",
                raw_code=6059,
                raw_name="OrderAmountTooSmall",
            )
        direction = quoting.direction_of(OrderKind.CLOSE, terms.side)
        refusal = quoting.close_refusal(snapshot, terms.side, base)
        return await self._prepare(terms, snapshot, user, direction, base, makers_or=refusal)

    async def prepare_trigger(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a reduce-only order that rests until `terms.trigger` (`plan_trigger`).

        `terms.worst_price` and `terms.expires_at` do not bound it: the venue has neither for such an order. Any node
        does, as for a close.
        """
        everywhere = self._everywhere
        if everywhere is None:
            return await self._trigger(terms)
        return await by_any_node(lambda: self._trigger(terms), lambda: everywhere.prepare_trigger(terms))

    async def _trigger(self, terms: OrderTerms) -> Submission:
        snapshot = await self._reader.snapshot(terms.market)
        user = self._trading_user(snapshot)
        taken = [each.user_order_id for each in self._reserved.current()]
        order = plan_trigger(snapshot, terms, user=user, user_key=self._user_key, taken_ids=taken)
        return await self._placing(terms, order, user)

    async def trigger_size(self, submission: Submission) -> Decimal | None:
        """Return the size that it was placed with: the venue keeps triggers in base units."""
        return submission.size

    async def submit(self, submission: Submission) -> Ack:
        """Give the journaled bytes to every node; errors are data, and prove nothing."""
        return await self._cluster.sender.submit(submission)

    async def settle(self, submission: Submission) -> Outcome:
        """Return what this order became, as far as it can be proven now."""
        return await self._settler.settle(submission)

    async def cancel(self, submission: Submission) -> Submission | None:
        """Build a cancel by the venue's order id of what lies on the venue; null when nothing does.

        That it succeeds proves nothing; `settle` decides. Any node does, as for a close.
        """
        everywhere = self._everywhere
        if everywhere is None:
            return await self._cancel(submission)
        return await by_any_node(lambda: self._cancel(submission), lambda: everywhere.cancel(submission))

    async def _cancel(self, submission: Submission) -> Submission | None:
        resting = await self._settler.resting(submission)
        if resting is None:
            return None
        order, placed = resting
        view = await self._reader.account()
        perps = {order.market_index, *(() if view.user is None else (p.market_index for p in view.user.perp_positions))}
        accounts = await self._accounts(view.user, perps, writable=())
        return await self._cluster.sender.prepare(
            provider=NAME,
            purpose=Purpose.CANCEL,
            instructions=[cancel_instruction(placed.order_id, accounts)],
            lock=None,
            number=0,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=self._classify,
            lookup_tables=self._config.lookup_tables,
        )

    async def aclose(self) -> None:
        """Release the venue's own connections; those of the cluster are its owner's."""
        if self._cluster.pool is not self._cluster.all_nodes:
            await self._cluster.pool.aclose()

    # --- the account --------------------------------------------------------------------------------------------------

    async def init(self) -> Submission | None:
        """Build the set-up of the account; null when it is there (see `DriftAccount.init`)."""
        return await self._account.init()

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Build a deposit of the quote token (see `DriftAccount.deposit`)."""
        return await self._account.deposit(amount, lock)

    async def show(self) -> AccountSummary:
        """Return the account as it is."""
        return await self._account.show(await self.positions())

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _positions_of(self, view: AccountView) -> tuple[VenuePosition, ...]:
        held = [] if view.user is None else [each for each in view.user.perp_positions if each.base_asset_amount]
        return tuple([_position_of(view, each, await self._reader.symbol(each.market_index)) for each in held])

    def _trading_user(self, snapshot: Snapshot) -> User:
        if self._authority is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        if snapshot.user is None:
            raise AccountMissing(
                f"the account {self._reader.user_key} is not set up",
                raw_code=3007,
                raw_name="AccountOwnedByWrongProgram",
            )
        return snapshot.user

    async def _makers(
        self, snapshot: Snapshot, direction: Direction, base: int, *, price: int | None
    ) -> tuple[Maker, ...]:
        """Return known makers that can fill all of `base` at `price` or better; at any price when null."""
        bound = price if price is not None else (_ANY_PRICE if direction is Direction.LONG else 0)
        return await crossing_makers(
            self._cluster.pool, self._config, snapshot, direction=direction, base=base, price=bound
        )

    def _refuse_unfilled(self, order: DriftOrder, snapshot: Snapshot, logs: tuple[str, ...]) -> None:
        """Refuse an immediate order that its simulation shows to fill nothing.

        Raises:
            ProviderError: what it would have died of once landed, by its cause where that can be told.
        """
        try:
            error = unfilled_in(order, logs, self._config.program_id)
        except BadAnswer as unreadable:
            if not order.reduce_only:
                raise
            # What cannot be read shows nothing, and nothing may refuse a close on a guess.
            logger.warning("simulation_unreadable", extra={"market": order.market, "detail": unreadable.detail})
            return
        if isinstance(error, WorstPriceNotMet):
            error = quoting.unfilled_refusal(snapshot, Direction(order.direction)) or error
        if error is not None:
            raise error

    async def _prepare(
        self,
        terms: OrderTerms,
        snapshot: Snapshot,
        user: User,
        direction: Direction,
        base: int,
        *,
        makers_or: ProviderError | None = None,
    ) -> Submission:
        """Build, simulate and sign; without a maker that crosses, refuse with `makers_or` where it is given."""
        price = worst_price_of(terms.worst_price, snapshot.market, direction)
        waits = snapshot.state.min_perp_auction_duration > 0
        makers: tuple[Maker, ...] = ()
        if waits or makers_or is not None:
            makers = await self._makers(snapshot, direction, base, price=price)
        if makers_or is not None and not makers:
            raise makers_or
        order = plan_order(
            snapshot,
            terms,
            user=user,
            user_key=self._user_key,
            direction=direction,
            base=base,
            reduce_only=terms.kind is OrderKind.CLOSE,
            take=not waits or bool(makers),
            auction_slots=self._config.auction_slots,
            taken_ids=[each.user_order_id for each in self._reserved.current()],
        )
        parties = party_accounts(self._config.program_id, makers, snapshot.stats)
        inspect = partial(self._refuse_unfilled, order, snapshot) if order.mode == "take" else None
        return await self._placing(terms, order, user, parties=parties, inspect=inspect)

    async def _placing(
        self,
        terms: OrderTerms,
        order: DriftOrder,
        user: User,
        *,
        parties: tuple[AccountMeta, ...] = (),
        inspect: Inspect | None = None,
    ) -> Submission:
        """Build, simulate and sign what places an order."""
        self._reserved.add(order)
        # Orders in flight may give the account a position in their market before this one executes: its accounts must
        # be there then, or the program cannot check the margin.
        perps = {order.market_index, *(each.market_index for each in self._reserved.current())}
        perps.update(each.market_index for each in user.perp_positions)
        accounts = await self._accounts(user, perps, writable=(order.market_index,))
        instruction = order_instruction(order, msgspec.structs.replace(accounts, parties=parties))
        try:
            submission = await self._cluster.sender.prepare(
                provider=NAME,
                purpose=Purpose.CLOSE if order.reduce_only else Purpose.OPEN,
                instructions=[instruction],
                lock=terms.lock,
                number=terms.number,
                size=Decimal(order.size) / BASE_PRECISION,
                may_fill_until=may_fill_until(order),
                venue=msgspec.json.encode(order),
                classify=self._classify,
                lookup_tables=self._config.lookup_tables,
                inspect=inspect,
            )
        except ProviderError as error:
            self._halt.note(error)
            raise
        logger.info(
            "drift_order_prepared",
            extra={
                "order_id": terms.order_id,
                "attempt_id": terms.attempt_id,
                "market": order.market,
                "mode": order.mode,
                "direction": Direction(order.direction).name.lower(),
                "base": order.size,
                "price": order.price,
                "user_order_id": order.user_order_id,
                "signature": submission.handle,
            },
        )
        return submission

    async def _accounts(self, user: User | None, perps: set[int], *, writable: tuple[int, ...]) -> OrderAccounts:
        owner = self._reader.owner
        if owner is None or self._authority is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        metas: tuple[AccountMeta, ...] = market_accounts(
            await self._reader.listing(),
            perps=perps,
            spots=() if user is None else [each.market_index for each in user.spot_positions],
            writable=writable,
        )
        return OrderAccounts(
            program_id=self._config.program_id,
            user=self._user_key,
            owner=owner,
            authority=self._authority,
            markets=metas,
        )

    @property
    def _user_key(self) -> Pubkey:
        key = self._reader.user_key
        if key is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        return key


def build(cluster: SolanaCluster, environment: Mapping[str, str]) -> DriftProvider:
    """Return the provider for a cluster and its own settings (`program_id`, `sub_account_id`, ...).

    Raises:
        ValueError: a setting that is not one, or cannot be read.
    """
    return DriftProvider(cluster, DriftConfig.of(environment))


def _venue_lifecycle(overview: Overview) -> tuple[Lifecycle, str]:
    """Return the exchange's own lifecycle, or the one that all of its markets share."""
    lifecycle, reason = quoting.exchange_lifecycle(overview.state)
    if lifecycle is not Lifecycle.LIVE:
        return lifecycle, reason
    each = {quoting.market_lifecycle(market, overview.now)[0] for _, market, _ in overview.markets}
    if not each:
        return Lifecycle.RETIRED, "the exchange has no market"
    if len(each) > 1 or Lifecycle.LIVE in each:
        return Lifecycle.LIVE, ""
    shared = each.pop()
    return shared, f"every market is {shared.value}"


def _capacities(overview: Overview) -> list[Capacity]:
    found: list[Capacity] = []
    for listed, market, oracle in overview.markets:
        live = quoting.market_lifecycle(market, overview.now)[0] is Lifecycle.LIVE
        for side in Side:
            direction = quoting.direction_of(OrderKind.OPEN, side)
            base = quoting.capacity_base(market, direction) if live and oracle is not None else 0
            price = 0 if oracle is None else max(oracle.price, 0)
            usd = quoting.to_usd(base * price // AMM_RESERVE_PRECISION)
            found.append(Capacity(market=listed.symbol, side=side, capacity_usd=usd))
    return found


def _check_collateral(snapshot: Snapshot, priced: quoting.Priced, leverage: Decimal) -> None:
    """Refuse an open whose margin at the asked leverage, or the venue's own, is not free in the account.

    Raises:
        InsufficientCollateral: it is not. An account that cannot be valued is left to the program's own check.
    """
    if snapshot.book is None:
        return
    before, after = quoting.order_margin(snapshot.book, priced, snapshot.market.market_index)
    needed = quoting.margin_required(snapshot, priced, leverage)
    free = quoting.to_usd(before.free)
    if free < needed or after.free < 0:
        raise InsufficientCollateral(
            f"{free} dollars are free, the order needs {needed} (collateral {after.collateral}, requirement with it"
            f" {after.requirement})",
            raw_code=6003,
            raw_name="InsufficientCollateral",
        )


def _position_of(view: AccountView, position: PerpPosition, symbol: str) -> VenuePosition:
    base, book = position.base_asset_amount, view.book
    oracle = price = None
    if book is not None:
        market = book.perp_markets[position.market_index]
        oracle = book.prices[market.oracle]
        if book.exact:
            price = liquidation_price(book, position.market_index)
    profit = None
    if oracle is not None:
        # As the venue shows it: at its oracle, before fees and funding that are not settled.
        profit = quoting.to_usd(base * oracle // AMM_RESERVE_PRECISION + position.quote_entry_amount)
    entry = Decimal(-position.quote_entry_amount) * AMM_RESERVE_PRECISION / (Decimal(base) * PRICE_PRECISION)
    return VenuePosition(
        provider=NAME,
        market=symbol,
        side=Side.LONG if base > 0 else Side.SHORT,
        size=Decimal(abs(base)) / BASE_PRECISION,
        entry_price=entry,
        liquidation_price=None if price is None else Decimal(price) / PRICE_PRECISION,
        unrealized_pnl_usd=profit,
        oracle_price=None if oracle is None else Decimal(oracle) / PRICE_PRECISION,
        slot=view.slot,
    )
