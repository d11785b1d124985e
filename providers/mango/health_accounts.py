"""The accounts that follow an instruction for its health check, in the program's fixed order.

Banks of the active token slots, their oracles, perp markets of the active perp slots, their oracles, open orders of the
active spot slots: each in slot order (`FixedOrderAccountRetriever`, version 0.24.3). The program takes a slot for what
an instruction touches *before* it reads this list, so a slot that will be taken has its rank here already: the first
free one, as the program takes it. One account more or less than the active slots and the list means something else, so
nothing is added for good measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer, NoFreeSlot
from providers.mango.constants import FREE_INDEX
from providers.mango.state import MangoAccount

__all__ = ["PricedAccount", "fixed_order_accounts", "perp_indexes", "scanned_accounts", "token_indexes"]


class PricedAccount(msgspec.Struct, frozen=True):
    """A bank or a perp market, and the oracle that prices it."""

    address: Pubkey
    oracle: Pubkey


def token_indexes(account: MangoAccount, token_index: int | None = None) -> tuple[int, ...]:
    """Return the tokens of the active slots in slot order, `token_index` in the slot that it will take.

    Raises:
        NoFreeSlot: it has none, and none is free.
    """
    slots = [each.token_index for each in account.tokens]
    return _with(slots, token_index, 6011, "NoFreeTokenPositionIndex")


def perp_indexes(account: MangoAccount, market_index: int | None = None) -> tuple[int, ...]:
    """Return the markets of the active perp slots in slot order, `market_index` in the slot that it will take.

    Raises:
        NoFreeSlot: it has none, and none is free.
    """
    slots = [each.market_index for each in account.perps]
    return _with(slots, market_index, 6013, "NoFreePerpPositionIndex")


def fixed_order_accounts(
    account: MangoAccount,
    *,
    banks: Mapping[int, PricedAccount],
    perps: Mapping[int, PricedAccount],
    token_index: int | None = None,
    market_index: int | None = None,
) -> tuple[AccountMeta, ...]:
    """Return the list for an instruction on one account.

    Args:
        account: as it is before the instruction.
        banks: first bank of each token that the account holds, and of `token_index`.
        perps: each market that it holds, and `market_index`.
        token_index: token that the instruction touches: of a deposit or withdrawal, or the market's settle token.
        market_index: perp market that it touches.

    Raises:
        NoFreeSlot: no slot is free for what it touches.
        BadAnswer: a bank or market that the account holds is not given.
    """
    tokens = [_known(banks, each, "token") for each in token_indexes(account, token_index)]
    markets = [_known(perps, each, "perp market") for each in perp_indexes(account, market_index)]
    spot = [each.open_orders for each in account.active_serum3]
    return _read_only([*_addresses_then_oracles(tokens), *_addresses_then_oracles(markets), *spot])


def scanned_accounts(
    accounts: Sequence[MangoAccount], *, banks: Mapping[int, PricedAccount], perps: Mapping[int, PricedAccount]
) -> tuple[AccountMeta, ...]:
    """Return the list for an instruction on several accounts, which the program searches through.

    Each bank and market once, in any order, but the oracles in the order of what they price
    (`ScanningAccountRetriever`).

    Raises:
        BadAnswer: a bank or market that one of them holds is not given.
    """
    held_tokens = dict.fromkeys(index for each in accounts for index in token_indexes(each))
    held_perps = dict.fromkeys(index for each in accounts for index in perp_indexes(each))
    tokens = [_known(banks, each, "token") for each in held_tokens]
    markets = [_known(perps, each, "perp market") for each in held_perps]
    spot = [slot.open_orders for each in accounts for slot in each.active_serum3]
    return _read_only([*_addresses_then_oracles(tokens), *_addresses_then_oracles(markets), *spot])


def _with(slots: list[int], index: int | None, code: int, name: str) -> tuple[int, ...]:
    if index is not None and index not in slots:
        if FREE_INDEX not in slots:
            raise NoFreeSlot(f"all {len(slots)} slots of the account are in use", raw_code=code, raw_name=name)
        slots[slots.index(FREE_INDEX)] = index
    return tuple(each for each in slots if each != FREE_INDEX)


def _known(known: Mapping[int, PricedAccount], index: int, kind: str) -> PricedAccount:
    found = known.get(index)
    if found is None:
        raise BadAnswer(f"the account holds {kind} {index}, which the group does not list")
    return found


def _addresses_then_oracles(priced: Sequence[PricedAccount]) -> list[Pubkey]:
    return [each.address for each in priced] + [each.oracle for each in priced]


def _read_only(keys: Iterable[Pubkey]) -> tuple[AccountMeta, ...]:
    return tuple(AccountMeta(key, is_signer=False, is_writable=False) for key in keys)
