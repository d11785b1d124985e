"""Instruction bytes and account lists, as callers of the program write them."""

from __future__ import annotations

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from router.localnet.anchor import instruction_discriminator
from router.localnet.borsh import Borsh
from router.localnet.jupiter import decrease, increase, instant, requests
from router.localnet.jupiter.addresses import event_authority, request_address, transfer_authority
from router.localnet.jupiter.layouts import Position, PositionRequest
from router.localnet.jupiter.params import (
    CreateDecreaseMarketParams,
    CreateDecreaseParams,
    CreateIncreaseParams,
    InstantDecreaseParams,
    InstantIncreaseParams,
    UpdateDecreaseParams,
)
from router.localnet.jupiter.pricing import LONG
from router.localnet.jupiter.venue import DECREASE, INCREASE, TRIGGER
from router.localnet.jupiter.world import JupiterCustody, JupiterWorld
from router.localnet.spl import ASSOCIATED_TOKEN_PROGRAM, SYSTEM_PROGRAM, TOKEN_PROGRAM, associated_token_account

__all__ = [
    "Slot",
    "close",
    "create_decrease",
    "create_increase",
    "execute",
    "instant_decrease",
    "instant_increase",
    "liquidate",
    "update_decrease",
]

U64_MAX = (1 << 64) - 1


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """Where a position is: whose, of which asset, against which collateral, on which side (1 long, 2 short)."""

    world: JupiterWorld
    owner: Pubkey
    asset: JupiterCustody
    collateral: JupiterCustody
    side: int
    address: Pubkey

    @classmethod
    def of(cls, world: JupiterWorld, owner: Pubkey, market: str, side: int) -> Slot:
        """Return an owner's position in a market, against the usual collateral."""
        return cls(
            world=world,
            owner=owner,
            asset=world.market(market),
            collateral=world.collateral(market, side),
            side=side,
            address=world.position(owner, market, side),
        )

    def request(self, counter: int, change: int) -> Pubkey:
        """Return the address of a request with this counter."""
        return request_address(self.address, counter, change)[0]

    @property
    def wallet_tokens(self) -> Pubkey:
        """The owner's account of the collateral token."""
        return associated_token_account(self.owner, self.collateral.mint)


def _instruction(
    world: JupiterWorld, name: str, accounts: str, known: dict[str, Pubkey], params: Borsh | None = None
) -> Instruction:
    """Return an instruction; accounts that are the same for everybody are filled in, optional ones left out."""
    shared = {
        "perpetuals": world.perpetuals,
        "pool": world.pool,
        "transfer_authority": transfer_authority()[0],
        "event_authority": event_authority()[0],
        "token_program": TOKEN_PROGRAM,
        "associated_token_program": ASSOCIATED_TOKEN_PROGRAM,
        "system_program": SYSTEM_PROGRAM,
        "program": world.program_id,
    } | known
    metas: list[AccountMeta] = []
    for entry in accounts.split():
        account, _, flags = entry.partition(":")
        key = shared.get(account, world.program_id) if "o" in flags else shared[account]
        given = key != world.program_id
        metas.append(AccountMeta(key, is_signer="s" in flags and given, is_writable="w" in flags and given))
    data = instruction_discriminator(name) + (b"" if params is None else params.encode())
    return Instruction(world.program_id, data, metas)


def _custodies(slot: Slot) -> dict[str, Pubkey]:
    asset, collateral = slot.asset, slot.collateral
    return {
        "owner": slot.owner,
        "position": slot.address,
        "custody": asset.address,
        "custody_doves_price_account": asset.feed,
        "custody_pythnet_price_account": asset.terms.oracle,
        "collateral_custody": collateral.address,
        "collateral_custody_doves_price_account": collateral.feed,
        "collateral_custody_pythnet_price_account": collateral.terms.oracle,
        "collateral_custody_token_account": collateral.vault,
    }


def _escrowed(request: Pubkey, mint: Pubkey) -> dict[str, Pubkey]:
    return {"position_request": request, "position_request_ata": associated_token_account(request, mint)}


def create_increase(
    slot: Slot,
    counter: int,
    *,
    size_usd: int,
    collateral_tokens: int,
    price: int | None = None,
    funding: Pubkey | None = None,
) -> Instruction:
    """Return a market request for more: dollars 1e6, tokens native, by default at any price."""
    anything = U64_MAX if slot.side == LONG else 0
    params = CreateIncreaseParams(
        size_usd_delta=size_usd,
        collateral_token_delta=collateral_tokens,
        side=slot.side,
        price_slippage=anything if price is None else price,
        jupiter_minimum_out=None,
        counter=counter,
    )
    mint = slot.collateral.mint
    known = _custodies(slot) | _escrowed(slot.request(counter, INCREASE), mint)
    known |= {"funding_account": slot.wallet_tokens if funding is None else funding, "input_mint": mint}
    name = "create_increase_position_market_request"
    return _instruction(slot.world, name, requests.CREATE_INCREASE, known, params)


def create_decrease(
    slot: Slot,
    counter: int,
    *,
    size_usd: int = 0,
    collateral_usd: int = 0,
    price: int | None = None,
    trigger: tuple[int, bool] | None = None,
) -> Instruction:
    """Return a request for less, of everything where no size is said; dollars 1e6.

    Args:
        slot: the position.
        counter: what tells requests of a position apart.
        size_usd: to close.
        collateral_usd: to withdraw.
        price: the worst; by default any.
        trigger: the price that it waits for, and whether that is above the price of now; without one, at market.
    """
    mint, everything = slot.collateral.mint, not size_usd and not collateral_usd
    known = _custodies(slot) | _escrowed(slot.request(counter, DECREASE), mint)
    known |= {"receiving_account": slot.wallet_tokens, "desired_mint": mint}
    if trigger is None:
        anything = 0 if slot.side == LONG else U64_MAX
        params = CreateDecreaseMarketParams(
            collateral_usd_delta=collateral_usd,
            size_usd_delta=size_usd,
            price_slippage=anything if price is None else price,
            jupiter_minimum_out=None,
            entire_position=everything,
            counter=counter,
        )
        name = "create_decrease_position_market_request"
        return _instruction(slot.world, name, requests.CREATE_DECREASE_MARKET, known, params)
    waiting = CreateDecreaseParams(
        collateral_usd_delta=collateral_usd,
        size_usd_delta=size_usd,
        request_type=TRIGGER,
        price_slippage=price,
        jupiter_minimum_out=None,
        trigger_price=trigger[0],
        trigger_above_threshold=trigger[1],
        entire_position=everything,
        counter=counter,
    )
    name = "create_decrease_position_request2"
    return _instruction(slot.world, name, requests.CREATE_DECREASE, known, waiting)


def update_decrease(slot: Slot, counter: int, *, size_usd: int, trigger_price: int) -> Instruction:
    """Return the change of a request that waits for a price."""
    known = _custodies(slot) | {"position_request": slot.request(counter, DECREASE)}
    params = UpdateDecreaseParams(size_usd_delta=size_usd, trigger_price=trigger_price)
    name = "update_decrease_position_request2"
    return _instruction(slot.world, name, requests.UPDATE_DECREASE, known, params)


def close(world: JupiterWorld, key: Pubkey, request: PositionRequest, *, keeper: Pubkey | None = None) -> Instruction:
    """Return the closing of a request: by a keeper, or by its owner, who has to sign then."""
    known = _escrowed(key, request.mint) | {
        "owner": request.owner,
        "owner_ata": associated_token_account(request.owner, request.mint),
        "position": request.position,
        "mint": request.mint,
    }
    if keeper is not None:
        known["keeper"] = keeper
    built = _instruction(world, "close_position_request2", requests.CLOSE_2, known)
    if keeper is not None:
        return built
    metas = [
        AccountMeta(meta.pubkey, is_signer=meta.pubkey == request.owner, is_writable=meta.is_writable)
        for meta in built.accounts
    ]
    return Instruction(built.program_id, bytes(built.data), metas)


def execute(
    world: JupiterWorld, key: Pubkey, request: PositionRequest, position: Position, keeper: Pubkey
) -> Instruction:
    """Return the execution of a request by a keeper."""
    slot = _slot_of(world, request.position, position)
    known = _custodies(slot) | _escrowed(key, request.mint) | {"keeper": keeper}
    if request.request_change == INCREASE:
        name, accounts = "increase_position4", increase.INCREASE_POSITION
    elif request.request_type == TRIGGER:
        name, accounts = "decrease_position_with_tpsl", decrease.DECREASE_WITH_TPSL
    else:
        name, accounts = "decrease_position4", decrease.DECREASE_POSITION
    return _instruction(world, name, accounts, known)


def instant_increase(slot: Slot, keeper: Pubkey, *, size_usd: int, collateral_tokens: int, now: int) -> Instruction:
    """Return an open at any price that a keeper signs too: dollars 1e6, tokens native, the chain's time."""
    params = InstantIncreaseParams(
        size_usd_delta=size_usd,
        collateral_token_delta=collateral_tokens,
        side=slot.side,
        price_slippage=U64_MAX if slot.side == LONG else 0,
        request_time=now,
    )
    known = _custodies(slot) | {"keeper": keeper, "api_keeper": keeper, "funding_account": slot.wallet_tokens}
    return _instruction(slot.world, "instant_increase_position", instant.INSTANT_INCREASE, known, params)


def instant_decrease(slot: Slot, keeper: Pubkey, *, size_usd: int = 0, now: int) -> Instruction:
    """Return a close at any price that a keeper signs too, of everything where no size is said."""
    params = InstantDecreaseParams(
        collateral_usd_delta=0,
        size_usd_delta=size_usd,
        price_slippage=0 if slot.side == LONG else U64_MAX,
        entire_position=not size_usd,
        request_time=now,
    )
    known = _custodies(slot) | {"keeper": keeper, "api_keeper": keeper, "receiving_account": slot.wallet_tokens}
    known["desired_mint"] = slot.collateral.mint
    return _instruction(slot.world, "instant_decrease_position", instant.INSTANT_DECREASE, known, params)


def liquidate(world: JupiterWorld, key: Pubkey, position: Position, signer: Pubkey) -> Instruction:
    """Return the liquidation of a position by anybody."""
    known = _custodies(_slot_of(world, key, position)) | {"signer": signer}
    return _instruction(world, "liquidate_full_position4", decrease.LIQUIDATE, known)


def _slot_of(world: JupiterWorld, key: Pubkey, position: Position) -> Slot:
    return Slot(
        world=world,
        owner=position.owner,
        asset=world.at(position.custody),
        collateral=world.at(position.collateral_custody),
        side=position.side,
        address=key,
    )
