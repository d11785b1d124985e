"""Orders and everything else that is sent, as instructions: bounds in lots, never wider than the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Final

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import AuctionExpired, BelowMinimum, InvalidSize, WorstPriceNotMet
from providers.base.types import OrderKind, OrderTerms
from providers.mango.constants import I64_MAX, QUOTE_DECIMALS, Side
from providers.mango.events import LotUnits, quote_usd
from providers.mango.state import PerpMarket
from providers.solana.codec import Value, build_instruction
from providers.solana.idl import Idl
from providers.solana.programs import SYSTEM_PROGRAM, TOKEN_PROGRAM

__all__ = [
    "MangoOrder",
    "MarketAccounts",
    "TokenAccounts",
    "Trader",
    "base_lots_of",
    "cancel_instruction",
    "client_order_id_of",
    "consume_instruction",
    "create_account_instruction",
    "deactivate_instruction",
    "decode_order",
    "deposit_instruction",
    "encode_order",
    "expand_account_instruction",
    "expiry_of",
    "lot_units",
    "match_limit_of",
    "may_fill_until",
    "order_instruction",
    "plan_order",
    "price_lots_of",
    "settle_pnl_instruction",
    "side_of",
    "withdraw_instruction",
]

# Matches beyond those that the book shows: a compute limit from the simulation has room for them.
_SPARE_MATCHES: Final = 8
_SIDE_NAMES: Final = {Side.BID: "Bid", Side.ASK: "Ask"}


class MangoOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's part of a submission: all that settling needs to know of the order.

    Attributes:
        market: canonical symbol.
        account: that trades.
        group: that the market belongs to.
        client_order_id: see `client_order_id_of`.
        side: 0 bids (buys), 1 asks (sells).
        price_lots: bound, quote lots for a base lot.
        base_lots: size.
        expiry: chain time in seconds from which the program skips it.
        match_limit: resting orders that it may match.
        base_decimals, base_lot_size, quote_lot_size: of the market, to read its records with.
        fee_penalty_usd: what the market charged an immediate order that matches nothing when this one was built.
    """

    market: str
    market_index: int
    account: str
    group: str
    client_order_id: int
    side: int
    price_lots: int
    base_lots: int
    reduce_only: bool
    expiry: int
    match_limit: int
    base_decimals: int
    base_lot_size: int
    quote_lot_size: int
    fee_penalty_usd: Decimal

    @property
    def units(self) -> LotUnits:
        """The market's lots."""
        return LotUnits(
            base_decimals=self.base_decimals, base_lot_size=self.base_lot_size, quote_lot_size=self.quote_lot_size
        )


_ORDER: Final = msgspec.json.Decoder(MangoOrder)


def encode_order(order: MangoOrder) -> bytes:
    """Return an order as the venue's part of a submission."""
    return msgspec.json.encode(order)


def decode_order(venue: bytes | msgspec.Raw) -> MangoOrder | None:
    """Return the venue's part of a submission; null for one that is no order (a set-up, a deposit)."""
    return None if bytes(venue) == b"null" else _ORDER.decode(venue)


# --- bounds and sizes -------------------------------------------------------------------------------------------------


def lot_units(market: PerpMarket) -> LotUnits:
    """Return a market's lots."""
    return LotUnits(
        base_decimals=market.base_decimals, base_lot_size=market.base_lot_size, quote_lot_size=market.quote_lot_size
    )


def side_of(terms: OrderTerms) -> Side:
    """Return the side of the order that opens or closes a position."""
    return Side.BID if terms.kind.buys(terms.side) else Side.ASK


def price_lots_of(worst_price: Decimal, units: LotUnits, side: Side) -> int:
    """Return the caller's bound in lots, never wider than it was: a buy's is rounded down, a sell's up.

    Dollars a base unit are `lots * quote_lot_size * 10**base_decimals / (base_lot_size * 10**6)`.

    Raises:
        WorstPriceNotMet: nothing can trade at such a bound.
    """
    lots = Fraction(worst_price) * units.base_lot_size * 10**QUOTE_DECIMALS
    lots /= units.quote_lot_size * 10**units.base_decimals
    price: int = lots.numerator // lots.denominator if side is Side.BID else -(-lots.numerator // lots.denominator)
    if price <= 0:
        raise WorstPriceNotMet(f"{worst_price} is less than a tick")
    if price > I64_MAX and side is Side.ASK:
        raise WorstPriceNotMet(f"{worst_price} is above every price of the venue")
    return min(price, I64_MAX)


def base_lots_of(size: Decimal, units: LotUnits) -> int:
    """Return a size in lots, rounded down.

    Raises:
        InvalidSize: not a size that the venue can write.
        BelowMinimum: it rounds to nothing. The program would take such an order and fill nothing, or be asked to close
            everything: neither is sent.
    """
    if size <= 0:
        raise InvalidSize(f"{size} is not a size")
    exact = Fraction(size) * 10**units.base_decimals / units.base_lot_size
    lots: int = exact.numerator // exact.denominator
    if lots > I64_MAX:
        raise InvalidSize(f"{size} is more than the venue can write")
    if lots == 0:
        raise BelowMinimum(f"{size} rounds to nothing; the smallest order is {units.lot}")
    return lots


def client_order_id_of(order_id: str, number: int) -> int:
    """Return the name of an attempt on the venue (u64): the first 8 bytes, little-endian, of sha256 of `order:number`.

    Made from the order's id and the attempt's number alone, so that it can be worked out again from the ledger. It
    names; it excludes nothing: the venue takes any number of orders of one name.
    """
    return int.from_bytes(sha256(f"{order_id}:{number}".encode()).digest()[:8], "little")


def expiry_of(terms: OrderTerms, now: int) -> int:
    """Return the order's deadline on the chain's clock, in whole seconds, never later than the caller's.

    Raises:
        AuctionExpired: it has passed: the program would skip the order.
    """
    expiry = int(terms.expires_at.timestamp())
    if expiry <= now:
        raise AuctionExpired("the order's deadline has passed on the chain's clock")
    return expiry


def may_fill_until(order: MangoOrder) -> datetime:
    """Return the instant from which the program skips the order."""
    return datetime.fromtimestamp(order.expiry, UTC)


def match_limit_of(matches: int, most: int) -> int:
    """Return how many resting orders an order may match: what the book shows, and some that come in between.

    The compute limit comes from a simulation on that book: with more room for matches than that, a book that fell to
    pieces would fail the transaction instead of filling part of it.

    Args:
        matches: that the order meets on the book as it was read.
        most: that the operator allows.
    """
    return min(matches + _SPARE_MATCHES, most)


def plan_order(
    terms: OrderTerms,
    *,
    market: PerpMarket,
    account: Pubkey,
    base_lots: int,
    now: int,
    match_limit: int,
) -> MangoOrder:
    """Return the immediate-or-cancel order that an attempt wants: it fills in its own transaction, or leaves nothing.

    Raises:
        WorstPriceNotMet, AuctionExpired: see the helpers.
    """
    units, side = lot_units(market), side_of(terms)
    return MangoOrder(
        market=terms.market,
        market_index=market.perp_market_index,
        account=str(account),
        group=str(market.group),
        client_order_id=client_order_id_of(terms.order_id, terms.number),
        side=int(side),
        price_lots=price_lots_of(terms.worst_price, units, side),
        base_lots=base_lots,
        reduce_only=terms.kind is OrderKind.CLOSE,
        expiry=expiry_of(terms, now),
        match_limit=match_limit,
        base_decimals=units.base_decimals,
        base_lot_size=units.base_lot_size,
        quote_lot_size=units.quote_lot_size,
        fee_penalty_usd=quote_usd(market.fee_penalty),
    )


# --- instructions -----------------------------------------------------------------------------------------------------


class Trader(msgspec.Struct, frozen=True, kw_only=True):
    """Who trades.

    Attributes:
        authority: signs; the owner or the account's delegate.
    """

    program_id: Pubkey
    group: Pubkey
    account: Pubkey
    authority: Pubkey

    @property
    def named(self) -> dict[str, Pubkey]:
        """The accounts that most instructions begin with."""
        return {"group": self.group, "account": self.account, "owner": self.authority}


class MarketAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """A market's own accounts."""

    perp_market: Pubkey
    bids: Pubkey
    asks: Pubkey
    event_queue: Pubkey
    oracle: Pubkey

    @classmethod
    def of(cls, address: Pubkey, market: PerpMarket) -> MarketAccounts:
        """Return the accounts that a market names."""
        return cls(
            perp_market=address,
            bids=market.bids,
            asks=market.asks,
            event_queue=market.event_queue,
            oracle=market.oracle,
        )

    @property
    def book(self) -> dict[str, Pubkey]:
        """The market and its book."""
        return {"perp_market": self.perp_market, "bids": self.bids, "asks": self.asks}


class TokenAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """A token's bank with its vault and oracle, and the wallet's account of the token."""

    bank: Pubkey
    vault: Pubkey
    oracle: Pubkey
    wallet: Pubkey


def _instruction(
    program_id: Pubkey,
    name: str,
    accounts: Mapping[str, Pubkey],
    args: Mapping[str, Value],
    remaining: Sequence[AccountMeta] = (),
) -> Instruction:
    return build_instruction(Idl.load("mango_v4"), program_id, name, accounts, args, remaining=remaining)


def order_instruction(
    order: MangoOrder, trader: Trader, market: MarketAccounts, health: Sequence[AccountMeta]
) -> Instruction:
    """Return the instruction that places the order and takes what it meets.

    An order of our own that it would meet ends the transaction (`AbortTransaction`): it never trades with itself.
    """
    accounts = {**trader.named, **market.book, "event_queue": market.event_queue, "oracle": market.oracle}
    args: dict[str, Value] = {
        "side": _SIDE_NAMES[Side(order.side)],
        "price_lots": order.price_lots,
        "max_base_lots": order.base_lots,
        "max_quote_lots": I64_MAX,
        "client_order_id": order.client_order_id,
        "order_type": "ImmediateOrCancel",
        "self_trade_behavior": "AbortTransaction",
        "reduce_only": order.reduce_only,
        "expiry_timestamp": order.expiry,
        "limit": order.match_limit,
    }
    return _instruction(trader.program_id, "perp_place_order_v2", accounts, args, health)


def cancel_instruction(order_id: int, trader: Trader, market: MarketAccounts) -> Instruction:
    """Return the instruction that cancels one resting order by the venue's id (6044 where there is none)."""
    return _instruction(trader.program_id, "perp_cancel_order", {**trader.named, **market.book}, {"order_id": order_id})


def consume_instruction(trader: Trader, market: MarketAccounts, parties: Sequence[Pubkey], limit: int) -> Instruction:
    """Return the instruction that books waiting fills; anybody may send it.

    Args:
        trader: whose program and group.
        market: whose queue.
        parties: accounts of the events at the queue's head; the first event that misses one ends it, with success.
        limit: of events, at most 8 by the program.
    """
    accounts = {"group": trader.group, "perp_market": market.perp_market, "event_queue": market.event_queue}
    metas = [AccountMeta(each, is_signer=False, is_writable=True) for each in dict.fromkeys(parties)]
    return _instruction(trader.program_id, "perp_consume_events", accounts, {"limit": limit}, metas)


def deactivate_instruction(trader: Trader, perp_market: Pubkey) -> Instruction:
    """Return the instruction that frees a perp slot which holds nothing."""
    return _instruction(trader.program_id, "perp_deactivate_position", {**trader.named, "perp_market": perp_market}, {})


def settle_pnl_instruction(
    trader: Trader,
    market: MarketAccounts,
    *,
    winner: Pubkey,
    loser: Pubkey,
    bank: Pubkey,
    bank_oracle: Pubkey,
    health: Sequence[AccountMeta],
) -> Instruction:
    """Return the instruction that moves profit into the winner's settle token, out of the loser's.

    Args:
        trader: the settler, which may be either of the two.
        market: that both hold.
        winner: must show a profit.
        loser: must show a loss.
        bank: of the settle token.
        bank_oracle: of its price.
        health: of both (`health_accounts.scanned_accounts`).
    """
    accounts = {
        "group": trader.group,
        "settler": trader.account,
        "settler_owner": trader.authority,
        "perp_market": market.perp_market,
        "account_a": winner,
        "account_b": loser,
        "oracle": market.oracle,
        "settle_bank": bank,
        "settle_oracle": bank_oracle,
    }
    return _instruction(trader.program_id, "perp_settle_pnl", accounts, {}, health)


def create_account_instruction(
    trader: Trader, *, account_num: int, tokens: int, perps: int, perp_open_orders: int, name: str
) -> Instruction:
    """Return the instruction that sets an account up; its owner signs and pays."""
    args: dict[str, Value] = {
        "account_num": account_num,
        "token_count": tokens,
        "serum3_count": 0,
        "perp_count": perps,
        "perp_oo_count": perp_open_orders,
        "token_conditional_swap_count": 0,
        "name": name,
    }
    accounts = {**trader.named, "payer": trader.authority, "system_program": SYSTEM_PROGRAM}
    return _instruction(trader.program_id, "account_create_v2", accounts, args)


def expand_account_instruction(
    trader: Trader, *, tokens: int, serum3: int, perps: int, perp_open_orders: int, swaps: int
) -> Instruction:
    """Return the instruction that gives an account as many slots of each kind; its owner signs and pays."""
    args: dict[str, Value] = {
        "token_count": tokens,
        "serum3_count": serum3,
        "perp_count": perps,
        "perp_oo_count": perp_open_orders,
        "token_conditional_swap_count": swaps,
    }
    accounts = {**trader.named, "payer": trader.authority, "system_program": SYSTEM_PROGRAM}
    return _instruction(trader.program_id, "account_expand_v2", accounts, args)


def _token_accounts(trader: Trader, token: TokenAccounts) -> dict[str, Pubkey]:
    return {
        **trader.named,
        "bank": token.bank,
        "vault": token.vault,
        "oracle": token.oracle,
        "token_account": token.wallet,
        "token_program": TOKEN_PROGRAM,
    }


def deposit_instruction(
    amount: int, trader: Trader, token: TokenAccounts, health: Sequence[AccountMeta]
) -> Instruction:
    """Return the instruction that deposits native tokens from the signer's wallet."""
    accounts = {**_token_accounts(trader, token), "token_authority": trader.authority}
    args: dict[str, Value] = {"amount": amount, "reduce_only": False}
    return _instruction(trader.program_id, "token_deposit", accounts, args, health)


def withdraw_instruction(
    amount: int, trader: Trader, token: TokenAccounts, health: Sequence[AccountMeta]
) -> Instruction:
    """Return the instruction that withdraws native tokens to the wallet; it never borrows."""
    args: dict[str, Value] = {"amount": amount, "allow_borrow": False}
    return _instruction(trader.program_id, "token_withdraw", _token_accounts(trader, token), args, health)
