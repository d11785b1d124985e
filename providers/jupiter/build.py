"""Orders as requests to the venue's keepers: dollars, collateral and bounds, never wider than the caller's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Final, Literal

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from providers.base.errors import AuctionExpired, BadAnswer, InvalidTrigger, WorstPriceNotMet
from providers.base.types import OrderTerms, Side, Trigger
from providers.jupiter.addresses import (
    escrow_address,
    event_authority_address,
    perpetuals_address,
    request_address,
    token_address,
)
from providers.jupiter.config import JupiterConfig
from providers.jupiter.constants import USD_ONE, RequestChange
from providers.jupiter.fees import accrued_borrow_fee, pnl, position_fee
from providers.jupiter.quote import OpenCost, held_base, size_tolerance, usd_of_base
from providers.jupiter.reading import Place, View
from providers.jupiter.state import Position
from providers.solana.codec import Value, build_instruction
from providers.solana.idl import Idl
from providers.solana.programs import ASSOCIATED_TOKEN_PROGRAM, SYSTEM_PROGRAM, TOKEN_PROGRAM

__all__ = [
    "JupiterOrder",
    "Oracles",
    "close_request_instruction",
    "counter_of",
    "decode_order",
    "decrease_instruction",
    "encode_order",
    "increase_instruction",
    "may_fill_until",
    "plan_close",
    "plan_open",
    "price_bound_of",
    "trigger_instruction",
    "trigger_price_of",
]

U64_MAX: Final = (1 << 64) - 1
# A blockhash lives for 150 blocks: the transaction can land, and the request begin, that much later.
_LANDING_S: Final = 90
_IDL: Final = "jupiter_perps"
_SIDE_NAMES: Final = {Side.LONG: "Long", Side.SHORT: "Short"}


class JupiterOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's part of a submission: all that settling needs to know of the request.

    Attributes:
        market: canonical symbol.
        kind: `trigger` is a close that rests until its trigger price.
        owner: of the position.
        custody, collateral_custody, position, request: addresses.
        mint: of the collateral that is sent or wanted back.
        counter: see `counter_of`.
        size: base units that count as filled in full.
        size_usd: dollars 1e-6, of the oracle's price for an open and of the position's entry price for a close.
        collateral_delta: smallest units of `mint` that an open sends; dollars 1e-6 that a close wants back.
        price_bound: dollars 1e6; the keeper does not execute beyond it.
        trigger_price, trigger_above: of a trigger.
        window_s: how long after its creation the keeper may execute it; a trigger has none.
        unit: that base sizes are rounded down to.
    """

    market: str
    side: Side
    kind: Literal["open", "close", "trigger"]
    owner: str
    pool: str
    custody: str
    collateral_custody: str
    position: str
    request: str
    mint: str
    counter: int
    size: Decimal
    size_usd: int
    collateral_delta: int
    price_bound: int
    window_s: int
    unit: Decimal
    trigger_price: int | None = None
    trigger_above: bool | None = None

    @property
    def change(self) -> RequestChange:
        """What the request asks for."""
        return RequestChange.INCREASE if self.kind == "open" else RequestChange.DECREASE

    @property
    def buys(self) -> bool:
        """Whether it buys base."""
        return (self.kind == "open") == (self.side is Side.LONG)

    @property
    def request_key(self) -> Pubkey:
        """Address of the request."""
        return Pubkey.from_string(self.request)


_ORDER: Final = msgspec.json.Decoder(JupiterOrder)


def encode_order(order: JupiterOrder) -> bytes:
    """Return an order as the venue's part of a submission."""
    return msgspec.json.encode(order)


def decode_order(venue: bytes | msgspec.Raw) -> JupiterOrder | None:
    """Return the venue's part of a submission; null for one that is no order (a cancel, an unwrapping)."""
    return None if bytes(venue) == b"null" else _ORDER.decode(venue)


# --- bounds and names -------------------------------------------------------------------------------------------------


def counter_of(order_id: str, number: int) -> int:
    """Return the number that an attempt's request is addressed by (u64): the first 8 bytes of sha256 of `order:number`.

    Made from the order's id and the attempt's number alone, so that the request can be found without a ledger; a
    second request of the same attempt cannot exist beside the first.
    """
    return int.from_bytes(sha256(f"{order_id}:{number}".encode()).digest()[:8], "little")


def price_bound_of(worst_price: Decimal, *, buys: bool) -> int:
    """Return the caller's bound in dollars 1e6, never wider than it was: a buy's is rounded down, a sell's up.

    Raises:
        WorstPriceNotMet: nothing can trade at such a bound.
    """
    exact = Fraction(worst_price) * USD_ONE
    bound: int = math.floor(exact) if buys else math.ceil(exact)
    if bound <= 0:
        raise WorstPriceNotMet(f"{worst_price} is less than the smallest price")
    if bound > U64_MAX:
        if not buys:
            raise WorstPriceNotMet(f"{worst_price} is above every price of the venue")
        return U64_MAX
    return bound


def trigger_price_of(trigger: Trigger) -> int:
    """Return a trigger price in dollars 1e6, rounded so that it never fires earlier than it was asked to.

    Raises:
        InvalidTrigger: not a price.
    """
    exact = Fraction(trigger.price) * USD_ONE
    price: int = math.ceil(exact) if trigger.above else math.floor(exact)
    if not 0 < price <= U64_MAX:
        raise InvalidTrigger(f"{trigger.price} is not a price of the venue")
    return price


def may_fill_until(order: JupiterOrder, now: int) -> datetime | None:
    """Return the instant past which no keeper may execute it, wherever it lands; null for a trigger, which has none.

    The window begins with the request, which its transaction creates at the latest when its blockhash expires.
    """
    return None if order.kind == "trigger" else datetime.fromtimestamp(now + _LANDING_S + order.window_s, UTC)


def _check_deadline(terms: OrderTerms, now: int) -> None:
    if int(terms.expires_at.timestamp()) <= now:
        raise AuctionExpired("the order's deadline has passed on the chain's clock")


# --- plans ------------------------------------------------------------------------------------------------------------


def _owned(place: Place, view: View) -> tuple[Pubkey, Pubkey]:
    if place.key is None or view.wallet is None:
        raise BadAnswer("no owner is configured")
    return place.key, view.wallet.owner


def _plan(
    terms: OrderTerms,
    view: View,
    place: Place,
    config: JupiterConfig,
    *,
    kind: Literal["open", "close", "trigger"],
    size: Decimal,
    size_usd: int,
    collateral_delta: int,
) -> JupiterOrder:
    if kind != "trigger":
        _check_deadline(terms, view.now)
    position, owner = _owned(place, view)
    change = RequestChange.INCREASE if kind == "open" else RequestChange.DECREASE
    counter, trigger = counter_of(terms.order_id, terms.number), terms.trigger
    return JupiterOrder(
        market=place.symbol,
        side=place.side,
        kind=kind,
        owner=str(owner),
        pool=str(config.pool),
        custody=str(place.market.key),
        collateral_custody=str(place.collateral.key),
        position=str(position),
        request=str(request_address(config.program_id, position, counter, change)),
        mint=str(place.collateral.custody.mint),
        counter=counter,
        size=size,
        size_usd=size_usd,
        collateral_delta=collateral_delta,
        price_bound=price_bound_of(terms.worst_price, buys=terms.kind.buys(terms.side)),
        window_s=view.pool.max_request_execution_sec,
        unit=place.units.unit,
        trigger_price=None if kind != "trigger" or trigger is None else trigger_price_of(trigger),
        trigger_above=None if kind != "trigger" or trigger is None else trigger.above,
    )


def plan_open(terms: OrderTerms, view: View, place: Place, config: JupiterConfig, cost: OpenCost) -> JupiterOrder:
    """Return the request that an attempt to open wants.

    Raises:
        WorstPriceNotMet: a bound that nothing can trade at.
        AuctionExpired: the deadline has passed on the chain's clock.
    """
    return _plan(
        terms,
        view,
        place,
        config,
        kind="open",
        size=cost.size,
        size_usd=cost.size_usd,
        collateral_delta=cost.collateral_tokens,
    )


def plan_close(terms: OrderTerms, view: View, place: Place, config: JupiterConfig, held: Position) -> JupiterOrder:
    """Return the request that an attempt to close wants: of the lot's own dollars, never of the entire position.

    A lot that is all of the holding within the tolerance takes all of its dollars, and with them all of the collateral.
    Of a part, the collateral that belongs to it is asked back (`_collateral_back`).

    Args:
        terms: of the close; with a trigger it rests until then.
        view: of the venue.
        place: of the position.
        config: program and pool.
        held: the position, not flat.

    Raises:
        WorstPriceNotMet, AuctionExpired: as `plan_open`; the latter not for a trigger.
        InvalidTrigger: a trigger at no price.
    """
    unit, asked, buys = place.units.unit, terms.size, terms.kind.buys(terms.side)
    base, slack = held_base(held, unit), size_tolerance(held.size_usd, held.price, unit)
    size, size_usd = asked, usd_of_base(asked, held.price)
    collateral = _collateral_back(view, place, held, size_usd, price_bound_of(terms.worst_price, buys=buys))
    if asked >= base - slack or size_usd >= held.size_usd:
        size, size_usd, collateral = (asked if asked <= base + slack else base), held.size_usd, 0
    kind: Literal["close", "trigger"] = "close" if terms.trigger is None else "trigger"
    return _plan(terms, view, place, config, kind=kind, size=size, size_usd=size_usd, collateral_delta=collateral)


def _collateral_back(view: View, place: Place, held: Position, size_usd: int, bound: int) -> int:
    """Return the collateral to ask back with a part of a position, dollars 1e-6, rounded down.

    It is the part's share less what the part may lose. The program takes a loss from the collateral beside what is
    asked back, and the fees from what is paid, or from the collateral where that does not cover them: to ask for the
    whole share at a loss would make the lots that stay pay for it, to the point of their liquidation. The loss is
    reckoned at the bound, so that no price at which it executes hurts them; what is left over stays with the position,
    and comes back with its last lot.
    """
    share = held.collateral_usd * size_usd // held.size_usd
    loss = max(-pnl(long=place.side is Side.LONG, size_usd=size_usd, entry=held.price, price=bound), 0)
    fees = position_fee(place.market.custody, size_usd, RequestChange.DECREASE, view.now).total
    fees += accrued_borrow_fee(
        place.collateral.custody,
        size_usd=held.size_usd,
        snapshot=held.cumulative_interest_snapshot,
        now=view.now,
    )
    back = share - loss
    return back if back >= fees else 0


# --- instructions -----------------------------------------------------------------------------------------------------


class Oracles(msgspec.Struct, frozen=True, kw_only=True):
    """The oracles that a custody names and that a trigger's instruction wants."""

    doves: Pubkey
    pythnet: Pubkey

    @classmethod
    def of(cls, place: Place) -> Oracles:
        """Return those of the market."""
        return cls(doves=place.market.custody.doves_ag_oracle, pythnet=place.market.custody.oracle_account)


def _request_accounts(order: JupiterOrder, program_id: Pubkey) -> dict[str, Pubkey]:
    request = order.request_key
    return {
        "owner": Pubkey.from_string(order.owner),
        "perpetuals": perpetuals_address(program_id),
        "pool": Pubkey.from_string(order.pool),
        "position": Pubkey.from_string(order.position),
        "position_request": request,
        "position_request_ata": escrow_address(request, Pubkey.from_string(order.mint)),
        "custody": Pubkey.from_string(order.custody),
        "collateral_custody": Pubkey.from_string(order.collateral_custody),
        # An optional account that is not given is the program itself.
        "referral": program_id,
        "token_program": TOKEN_PROGRAM,
        "associated_token_program": ASSOCIATED_TOKEN_PROGRAM,
        "system_program": SYSTEM_PROGRAM,
        "event_authority": event_authority_address(program_id),
        "program": program_id,
    }


def _instruction(
    program_id: Pubkey, name: str, accounts: Mapping[str, Pubkey], params: dict[str, Value]
) -> Instruction:
    return build_instruction(Idl.load(_IDL), program_id, name, accounts, {"params": params})


def increase_instruction(order: JupiterOrder, program_id: Pubkey, funding: Pubkey) -> Instruction:
    """Return the instruction that creates a request to open and moves its collateral into escrow.

    Args:
        order: to open.
        program_id: of the deployment.
        funding: the owner's token account that the collateral is taken from.
    """
    accounts = {
        **_request_accounts(order, program_id),
        "funding_account": funding,
        "input_mint": Pubkey.from_string(order.mint),
    }
    params: dict[str, Value] = {
        "size_usd_delta": order.size_usd,
        "collateral_token_delta": order.collateral_delta,
        "side": _SIDE_NAMES[order.side],
        "price_slippage": order.price_bound,
        "jupiter_minimum_out": None,
        "counter": order.counter,
    }
    return _instruction(program_id, "create_increase_position_market_request", accounts, params)


def _receiving(order: JupiterOrder, program_id: Pubkey) -> dict[str, Pubkey]:
    owner, mint = Pubkey.from_string(order.owner), Pubkey.from_string(order.mint)
    return {
        **_request_accounts(order, program_id),
        "receiving_account": token_address(owner, mint),
        "desired_mint": mint,
    }


def decrease_instruction(order: JupiterOrder, program_id: Pubkey) -> Instruction:
    """Return the instruction that creates a request to close; it pays into the owner's associated token account."""
    params: dict[str, Value] = {
        "collateral_usd_delta": order.collateral_delta,
        "size_usd_delta": order.size_usd,
        "price_slippage": order.price_bound,
        "jupiter_minimum_out": None,
        "entire_position": False,
        "counter": order.counter,
    }
    return _instruction(program_id, "create_decrease_position_market_request", _receiving(order, program_id), params)


def trigger_instruction(order: JupiterOrder, program_id: Pubkey, oracles: Oracles) -> Instruction:
    """Return the instruction that creates a request to close once its trigger price is reached.

    Args:
        order: a trigger.
        program_id: of the deployment.
        oracles: of the market.
    """
    accounts = {
        **_receiving(order, program_id),
        "custody_doves_price_account": oracles.doves,
        "custody_pythnet_price_account": oracles.pythnet,
    }
    params: dict[str, Value] = {
        "collateral_usd_delta": order.collateral_delta,
        "size_usd_delta": order.size_usd,
        "request_type": "Trigger",
        "price_slippage": order.price_bound,
        "jupiter_minimum_out": None,
        "trigger_price": order.trigger_price,
        "trigger_above_threshold": order.trigger_above,
        "entire_position": False,
        "counter": order.counter,
    }
    return _instruction(program_id, "create_decrease_position_request2", accounts, params)


def close_request_instruction(
    order: JupiterOrder, program_id: Pubkey, *, keeper: Pubkey | None = None, with_custody: bool = False
) -> Instruction:
    """Return the instruction that closes a request: its escrow and its rents go back to the owner.

    Args:
        order: whose request it is.
        program_id: of the deployment.
        keeper: null: the owner signs in its place, which the interface description does not say of the owner.
        with_custody: the newer instruction of the two, which also names the custody of the collateral.
    """
    owner, mint, request = Pubkey.from_string(order.owner), Pubkey.from_string(order.mint), order.request_key
    accounts = {
        "keeper": program_id if keeper is None else keeper,
        "owner": owner,
        "owner_ata": token_address(owner, mint),
        "pool": Pubkey.from_string(order.pool),
        "position_request": request,
        "position_request_ata": escrow_address(request, mint),
        "position": Pubkey.from_string(order.position),
        "custody": Pubkey.from_string(order.collateral_custody),
        "mint": mint,
        "token_program": TOKEN_PROGRAM,
        "system_program": SYSTEM_PROGRAM,
        "associated_token_program": ASSOCIATED_TOKEN_PROGRAM,
        "event_authority": event_authority_address(program_id),
        "program": program_id,
    }
    name = "close_position_request3" if with_custody else "close_position_request2"
    built = build_instruction(Idl.load(_IDL), program_id, name, accounts)
    if keeper is not None:
        return built
    signing = [
        AccountMeta(program_id, is_signer=False, is_writable=False),
        AccountMeta(owner, is_signer=True, is_writable=True),
    ]
    return Instruction(program_id, built.data, [*signing, *built.accounts[len(signing) :]])
