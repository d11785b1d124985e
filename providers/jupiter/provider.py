"""Jupiter Perps as a provider (`providers.base.protocol.Provider`): the other modules, in the protocol's order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from providers.base.errors import (
    ConnectionFailed,
    FeePayerShort,
    InsufficientCollateral,
    InvalidSize,
    InvalidTrigger,
    LiveTradingOff,
    ProviderError,
    RequestRejected,
    UnsupportedProgram,
)
from providers.base.types import (
    Ack,
    Capabilities,
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
from providers.jupiter import quote as quoting
from providers.jupiter.account import AccountSummary, JupiterKeeper
from providers.jupiter.addresses import funding_address, funding_seed, token_address
from providers.jupiter.build import (
    JupiterOrder,
    Oracles,
    close_request_instruction,
    decode_order,
    decrease_instruction,
    encode_order,
    increase_instruction,
    may_fill_until,
    plan_close,
    plan_open,
    trigger_instruction,
)
from providers.jupiter.config import JupiterConfig
from providers.jupiter.constants import NATIVE_MINT, POSITION_BYTES, REQUEST_BYTES, TOKEN_ACCOUNT_BYTES
from providers.jupiter.errors import classify, jupiter_refusal
from providers.jupiter.halt import halt_watch
from providers.jupiter.history import AccountHistory
from providers.jupiter.positions import positions_of
from providers.jupiter.quote import OpenCost
from providers.jupiter.reading import Place, VenueReader, View, Wallet
from providers.jupiter.settle import Settler
from providers.jupiter.tokens import close_token_account, create_token_account, wrap_sol
from providers.solana.any_node import by_any_node
from providers.solana.body import decode_body
from providers.solana.cluster import SolanaCluster
from providers.solana.halt import lifecycle_of

__all__ = ["JupiterProvider", "build"]

logger = logging.getLogger(__name__)

NAME: Final = "jupiter"
_PURPOSES: Final = {"open": Purpose.OPEN, "close": Purpose.CLOSE, "trigger": Purpose.CLOSE}


class _Rents(msgspec.Struct, frozen=True, kw_only=True):
    """Lamports that the accounts of an order are worth; all but the position's and a token account's come back."""

    position: int
    request: int
    token: int


class JupiterProvider:
    """One pool, traded with the signer's wallet.

    Args:
        cluster: nodes, sender, proofs, signer; a read pool of the venue's own where it has one.
        config: program and pool.
    """

    def __init__(self, cluster: SolanaCluster, config: JupiterConfig) -> None:
        self._cluster = cluster
        self._config = config
        owner = None if cluster.signer is None else cluster.signer.public_key
        self._reader = VenueReader(cluster.pool, config, owner)
        self._halt = halt_watch(cluster, config, owner)
        # What was sent is settled with every node of the cluster, whatever the venue reads with.
        everywhere = VenueReader(cluster.all_nodes, config, owner)
        self._settler = Settler(cluster, everywhere, config)
        self._history = AccountHistory(cluster, config)
        self._keeper = JupiterKeeper(cluster, self._reader, self._history, config)
        self._classify = partial(classify, program_id=str(config.program_id))
        # The same wallet by every node of the cluster: closes and cancels go there when the venue's own nodes fail.
        by_all_nodes = cluster.on_all_nodes()
        self._everywhere = None if by_all_nodes is None else JupiterProvider(by_all_nodes, config)

    @property
    def name(self) -> str:
        """Lower-case name."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What kind of venue this is: requests wait for keepers, and long and short are held side by side."""
        return Capabilities(
            order_lock=True,
            netting=False,
            cross_margin=False,
            rests=True,
            native_triggers=True,
            triggers_in_dollars=True,
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    async def markets(self) -> tuple[Market, ...]:
        """Return every market of the pool, read from the chain."""
        view, halted = await asyncio.gather(self._reader.view(), self._halt.error())
        markets = tuple(quoting.market_of(view, each) for each in view.markets)
        if halted is None:
            return markets
        lifecycle = lifecycle_of(halted)
        return tuple(
            msgspec.structs.replace(each, lifecycle=lifecycle, lifecycle_reason=halted.detail) for each in markets
        )

    async def state(self) -> ProviderState:
        """Return the venue's lifecycle, and what the pool still takes on each side of each market."""
        now = self._cluster.clock.now
        try:
            view, halted = await asyncio.gather(self._reader.view(), self._halt.error())
        except UnsupportedProgram as error:
            return ProviderState(
                provider=NAME, lifecycle=Lifecycle.UNSUPPORTED_PROGRAM, reason=error.detail, as_of=now()
            )
        lifecycle, reason = quoting.lifecycle_of(view.perpetuals.permissions)
        if halted is not None:
            lifecycle, reason = lifecycle_of(halted), halted.detail
        return ProviderState(
            provider=NAME,
            lifecycle=lifecycle,
            reason=reason,
            capacity=quoting.capacities(view) if lifecycle is Lifecycle.LIVE else (),
            slot=view.slot,
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
        view, _ = await asyncio.gather(self._reader.view(), self._halt.check(closing=closing))
        return self._quote_of(terms, view)

    async def positions(self) -> tuple[VenuePosition, ...]:
        """Return what the wallet holds on the venue, at `confirmed`."""
        return positions_of(await self._reader.view())

    async def holdings(self, min_slot: int = 0) -> Holdings:
        """Return positions and waiting requests, read at or after `min_slot`.

        Raises:
            LiveTradingOff: there is no wallet to ask about.
            NodeBehind: no node has reached `min_slot`.
        """
        owner = self._owner
        view = await self._reader.view(min_slot)
        orders = await self._history.resting(owner, view)
        return Holdings(provider=NAME, slot=view.slot, positions=positions_of(view), orders=orders)

    async def history(self, after: str | None, through_slot: int) -> VenueHistory:
        """Return what changed the wallet's positions after a mark (see `AccountHistory.read`)."""
        _ = self._owner
        view = await self._reader.view(through_slot)
        known = [place.key for place in view.places if place.key is not None and place.position is not None]
        return await self._history.read(known, after, through_slot)

    # --- orders -------------------------------------------------------------------------------------------------------

    async def prepare_open(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a request to open. A refusal proves that nothing was sent.

        Refused is what the quote would refuse (halt, permissions, oracle, capacity, leverage), a price beyond the
        bound, collateral that the wallet does not have, and too little SOL for the rents.
        """
        view, _, rents = await asyncio.gather(self._reader.view(), self._halt.check(), self._rents())
        wallet = self._wallet(view)
        asked = QuoteTerms(market=terms.market, side=terms.side, size=terms.size, leverage=terms.leverage)
        self._quote_of(asked, view)
        place = view.place(terms.market, terms.side)
        cost = quoting.open_cost(asked, place, view.now)
        order = plan_open(terms, view, place, self._config, cost)
        _check_price(order, place)
        self._check_wallet(terms, place, wallet, cost, rents)
        return await self._prepare(terms, order, self._opening(terms, order, rents), view)

    async def prepare_close(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a request to close at most what is held.

        Refused is what no keeper could execute: a price that is known and beyond the bound, and a venue where nothing
        may be decreased. All else the program and its keepers decide. Where the venue's own nodes do not do, any node
        of the cluster does.
        """
        everywhere = self._everywhere
        if everywhere is None:
            return await self._reduce(terms)
        return await by_any_node(lambda: self._reduce(terms), lambda: everywhere.prepare_close(terms))

    async def prepare_trigger(self, terms: OrderTerms) -> Submission:
        """Build, simulate unsigned, and sign a request to close that rests until its trigger price.

        It closes the lot's own dollars, never the entire position. Its bound holds when it fires; `expires_at` does not
        end it: the venue has no such thing. Any node does, as for a close.

        Raises:
            InvalidTrigger: the terms have no trigger, or the market has passed its price.
            ProviderError: as `prepare_close`.
        """
        if terms.trigger is None or terms.kind is not OrderKind.CLOSE:
            raise InvalidTrigger("a trigger request is a close with a trigger")
        everywhere = self._everywhere
        if everywhere is None:
            return await self._reduce(terms)
        return await by_any_node(lambda: self._reduce(terms), lambda: everywhere.prepare_trigger(terms))

    async def trigger_size(self, submission: Submission) -> Decimal | None:
        """Return what a trigger's dollars stand for at the position's entry price as it is now."""
        order = decode_order(decode_body(submission).venue)
        if order is None or order.kind != "trigger":
            return None
        place = (await self._reader.view()).place(order.market, Side(order.side))
        return None if place.held is None else quoting.base_of_usd(order.size_usd, place.held.price, place.units.unit)

    async def submit(self, submission: Submission) -> Ack:
        """Give the journaled bytes to every node; errors are data, and prove nothing."""
        return await self._cluster.sender.submit(submission)

    async def settle(self, submission: Submission) -> Outcome:
        """Return what this order became, as far as it can be proven now."""
        return await self._settler.settle(submission)

    async def cancel(self, submission: Submission) -> Submission | None:
        """Build the closing of a submission's request by its owner, by its address; null when that cannot be done now.

        A market request is its keepers' until its window has passed on the chain's clock: before that the program
        refuses its owner. A trigger can be closed at any time. One that was executed and left lying can be closed too,
        for its rents. That it succeeds proves nothing; `settle` decides. Any node does, as for a close.
        """
        everywhere = self._everywhere
        if everywhere is None:
            return await self._cancel(submission)
        return await by_any_node(lambda: self._cancel(submission), lambda: everywhere.cancel(submission))

    async def _cancel(self, submission: Submission) -> Submission | None:
        waiting = await self._settler.waiting(submission)
        if waiting is None:
            return None
        order, request = waiting.order, waiting.request
        window_ends = request.open_time + order.window_s + self._config.cancel_margin_s
        if order.kind != "trigger" and waiting.now <= window_ends:
            return None
        try:
            return await self._closing(order, with_custody=False)
        except ConnectionFailed:
            raise
        except ProviderError as error:
            # The older instruction can be switched off; the newer one names the custody besides.
            logger.info("close_request_refused", extra={"request": order.request, "code": error.code})
            return await self._closing(order, with_custody=True)

    async def aclose(self) -> None:
        """Release the venue's own connections; those of the cluster are its owner's."""
        if self._cluster.pool is not self._cluster.all_nodes:
            await self._cluster.pool.aclose()

    # --- the account --------------------------------------------------------------------------------------------------

    async def init(self) -> Submission | None:
        """Return null: nothing needs to be set up (see `JupiterKeeper.init`)."""
        return await self._keeper.init()

    async def deposit(self, amount: Decimal, lock: LockRef | None = None) -> Submission:
        """Refuse: collateral stays in the wallet (see `JupiterKeeper.deposit`)."""
        return await self._keeper.deposit(amount, lock)

    async def unwrap(self) -> Submission | None:
        """Build the unwrapping of the wallet's SOL (see `JupiterKeeper.unwrap`)."""
        return await self._keeper.unwrap()

    async def show(self) -> AccountSummary:
        """Return the wallet as it is."""
        return await self._keeper.show()

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _owner(self) -> Pubkey:
        if self._reader.owner is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        return self._reader.owner

    def _wallet(self, view: View) -> Wallet:
        if view.wallet is None:
            raise LiveTradingOff("no key is configured: the service quotes only")
        return view.wallet

    def _quote_of(self, terms: QuoteTerms, view: View) -> Quote:
        return quoting.quote_of(terms, view, as_of=self._cluster.clock.now(), lifetime_s=self._config.quote_lifetime_s)

    async def _rents(self) -> _Rents:
        position, request, token = await asyncio.gather(
            *(self._cluster.pool.minimum_balance(size) for size in (POSITION_BYTES, REQUEST_BYTES, TOKEN_ACCOUNT_BYTES))
        )
        return _Rents(position=position, request=request, token=token)

    async def _reduce(self, terms: OrderTerms) -> Submission:
        view = await self._reader.view()
        self._wallet(view)
        if terms.size <= 0:
            raise InvalidSize(f"{terms.size} is not a size")
        place = view.place(terms.market, terms.side)
        held = place.held
        if held is None:
            raise InvalidSize(
                f"the wallet holds no {terms.side} {terms.market} to close",
                raw_code=6009,
                raw_name="InvalidPositionState",
            )
        refusal = quoting.close_refusal(view, place)
        if refusal is not None:
            raise refusal
        order = plan_close(terms, view, place, self._config, held)
        if order.size_usd == 0:
            raise InvalidSize(f"{terms.size} is worth nothing at the position's entry price")
        if order.kind == "close":
            _check_price(order, place)
        return await self._prepare(terms, order, self._reducing(order, place), view)

    def _check_wallet(self, terms: OrderTerms, place: Place, wallet: Wallet, cost: OpenCost, rents: _Rents) -> None:
        """Refuse an open that the wallet cannot pay: its collateral, the rents, and the reserve that is kept.

        Raises:
            FeePayerShort: too little SOL for rents and reserve.
            InsufficientCollateral: too little of the collateral's token.
        """
        native = place.collateral.custody.mint == NATIVE_MINT
        needed = self._cluster.settings.sol_reserve_lamports + rents.request + rents.token
        needed += rents.position if place.position is None else 0
        needed += 0 if terms.lock is None else terms.lock.terms.base_lamports + terms.number
        # Of a wrapped account, and of the wallet's own one that a refund goes to.
        needed += rents.token * (native + (place.collateral.custody.mint not in wallet.tokens))
        free = wallet.lamports - needed
        if free < 0:
            raise FeePayerShort(f"the wallet has {wallet.lamports} lamports, an open needs {needed} (reserve included)")
        mint, decimals = place.collateral.custody.mint, place.collateral.custody.decimals
        have = free if native else wallet.tokens.get(mint, 0)
        if have < cost.collateral_tokens:
            what = f"{Decimal(have).scaleb(-decimals):f} {place.collateral.symbol}"
            kept = " beside rents and reserve" if native else ""
            raise InsufficientCollateral(
                f"the wallet has {what}{kept}, the order needs"
                f" {Decimal(cost.collateral_tokens).scaleb(-decimals):f} {place.collateral.symbol}",
                raw_code=6019,
                raw_name="InsufficientTokenAmount",
            )

    def _opening(self, terms: OrderTerms, order: JupiterOrder, rents: _Rents) -> list[Instruction]:
        """Return the instructions of an open. What is not executed is refunded into the wallet's own token account."""
        owner, mint = Pubkey.from_string(order.owner), Pubkey.from_string(order.mint)
        refunds = create_token_account(owner, mint, owner)
        if mint != NATIVE_MINT:
            return [refunds, increase_instruction(order, self._config.program_id, token_address(owner, mint))]
        seed = funding_seed(terms.order_id, terms.number)
        funding = funding_address(owner, seed)
        return [
            refunds,
            *wrap_sol(owner, seed, lamports=order.collateral_delta, rent=rents.token),
            increase_instruction(order, self._config.program_id, funding),
            close_token_account(funding, owner),
        ]

    def _reducing(self, order: JupiterOrder, place: Place) -> list[Instruction]:
        """Return the instructions of a close or trigger; the account that it pays into is made where it is missing."""
        owner = Pubkey.from_string(order.owner)
        receiving = create_token_account(owner, Pubkey.from_string(order.mint), owner)
        if order.kind == "trigger":
            return [receiving, trigger_instruction(order, self._config.program_id, Oracles.of(place))]
        return [receiving, decrease_instruction(order, self._config.program_id)]

    async def _closing(self, order: JupiterOrder, *, with_custody: bool) -> Submission:
        owner = Pubkey.from_string(order.owner)
        if owner != self._owner:
            raise RequestRejected(f"the request belongs to {owner}; the signer is {self._owner}")
        return await self._cluster.sender.prepare(
            provider=NAME,
            purpose=Purpose.CANCEL,
            instructions=[
                create_token_account(owner, Pubkey.from_string(order.mint), owner),
                close_request_instruction(order, self._config.program_id, with_custody=with_custody),
            ],
            lock=None,
            number=0,
            size=Decimal(0),
            may_fill_until=None,
            venue=b"null",
            classify=self._classify,
            lookup_tables=self._config.lookup_tables,
        )

    async def _prepare(
        self, terms: OrderTerms, order: JupiterOrder, instructions: Sequence[Instruction], view: View
    ) -> Submission:
        try:
            submission = await self._cluster.sender.prepare(
                provider=NAME,
                purpose=_PURPOSES[order.kind],
                instructions=instructions,
                lock=terms.lock,
                number=terms.number,
                size=order.size,
                may_fill_until=may_fill_until(order, view.now),
                venue=encode_order(order),
                classify=self._classify,
                lookup_tables=self._config.lookup_tables,
            )
        except ProviderError as error:
            self._halt.note(error)
            raise
        logger.info(
            "jupiter_request_prepared",
            extra={
                "order_id": terms.order_id,
                "attempt_id": terms.attempt_id,
                "market": order.market,
                "side": order.side,
                "kind": order.kind,
                "size_usd": order.size_usd,
                "price_bound": order.price_bound,
                "request": order.request,
                "signature": submission.handle,
            },
        )
        return submission


def build(cluster: SolanaCluster, environment: Mapping[str, str]) -> JupiterProvider:
    """Return the provider for a cluster and its own settings (`program_id`, `pool`, `lookup_tables`).

    Raises:
        ValueError: a setting that is not one, or cannot be read.
    """
    return JupiterProvider(cluster, JupiterConfig.of(environment))


def _check_price(order: JupiterOrder, place: Place) -> None:
    """Refuse a request that the price as it is known would not be executed at; an old price tells nothing.

    Raises:
        WorstPriceNotMet: the price is beyond the bound.
    """
    if place.market.refusal is not None:
        return
    price = place.market.priced()
    if price > order.price_bound if order.buys else price < order.price_bound:
        raise jupiter_refusal(
            6021, f"the price is {quoting.to_usd(price)}, the bound {quoting.to_usd(order.price_bound)}"
        )
