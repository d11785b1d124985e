"""First state of the venue, as account data: a group with two banks, markets with a stocked book, traders' accounts.

Market and bank numbers are those of the main group on mainnet, so that addresses derived from it are the same here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from solders.pubkey import Pubkey

from router.localnet.anchor import account_discriminator
from router.localnet.mango.account_layouts import AccountHead, MangoAccount, PerpOpenOrder, PerpPosition, TokenPosition
from router.localnet.mango.addresses import insurance_vault_address
from router.localnet.mango.enums import NO_EXPIRY, NodeTag, OrderTree, PlaceOrderType, Side
from router.localnet.mango.execution import Content
from router.localnet.mango.layouts import Bank, Group, MintInfo, OracleConfig, PerpMarket, StablePriceModel
from router.localnet.mango.numbers import FRACTION_BITS, ONE

__all__ = [
    "INDEX_START",
    "BankTerms",
    "Level",
    "MarketTerms",
    "Resting",
    "account_data",
    "book_side_data",
    "event_queue_data",
    "first_account",
    "first_bank",
    "first_group",
    "first_market",
    "first_mint_info",
    "rest_orders",
    "resting_orders",
    "settle_stable_price",
    "token_deposit",
]

INDEX_START = 1_000_000 << FRACTION_BITS
"""Where a bank's indexes begin (I80F48)."""

_DAY_S = 86_400
_CONFIDENCE = ONE // 10
_STALENESS_SLOTS = 120
_NO_SCALING = 1.7976931348623157e308
_DELAY_PRICES = 24
_NODE = 120
_NODES = 1_024
_NODES_AT = 840
_TREE_AT = 312
_PEG_ZERO = 1 << 63
_INNER = struct.Struct("<B3xI16sIIQQ72x")
_LEAF = struct.Struct("<BBB1xH2x16s32sqQqQ32x")
_TREE = struct.Struct("<B3xIII")
_ROOT = struct.Struct("<II")
_EVENT_QUEUE_BYTES = 16 + 8 + 488 * 208 + 64
_NO_PEG_LIMIT = -1


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What the maker rests on both sides: how far from the oracle's price, how much, in which tree; all in lots."""

    tree: OrderTree
    offset_lots: int
    base_lots: int


class MarketTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one perpetual market from another.

    Attributes:
        price_usd: first price in whole dollars.
        base_lot, quote_lot: in native units of base and quote.
        maint, init: how far the base weights are from one in maintenance and initial health, in thousandths.
        taker_fee: I80F48.
        levels: what the maker rests.
    """

    symbol: str
    index: int
    base_decimals: int
    base_lot: int
    quote_lot: int
    price_usd: int
    maint: int
    init: int
    taker_fee: int
    levels: tuple[Level, ...]

    @property
    def native_price(self) -> float:
        """The first price in native quote a native unit of base."""
        return self.price_usd * 1e6 / 10.0**self.base_decimals

    @property
    def price_lots(self) -> int:
        """The first price in the book's unit."""
        lots: int = self.price_usd * 10**6 * self.base_lot // (10**self.base_decimals * self.quote_lot)
        return lots


class BankTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one bank from another; weights are thousandths, the price whole dollars."""

    symbol: str
    token_index: int
    decimals: int
    price_usd: int
    maint_asset: int
    init_asset: int
    maint_liab: int
    init_liab: int


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """One order of the first book: its level's number makes the client's order id."""

    side: Side
    tree: OrderTree
    price_data: int
    base_lots: int
    sequence: int
    slot: int
    client_order_id: int

    @property
    def key(self) -> int:
        """Its key in the tree: price above, then age; the oldest bid has the largest."""
        age = self.sequence ^ ((1 << 64) - 1) if self.side is Side.BID else self.sequence
        return self.price_data << 64 | age


def _thousandths(value: int) -> int:
    return value * ONE // 1_000


def _text(name: str, width: int) -> bytes:
    return name.encode().ljust(width, b"\0")


def account_data(content: Content) -> bytes:
    """Return an account's data, discriminator first."""
    return account_discriminator(type(content).__name__) + content.encode()


# Group, banks, markets


def first_group(program_id: Pubkey, group: Pubkey, admin: Pubkey, usdc_mint: Pubkey) -> Group:
    """Return the group with every instruction enabled and no limit on deposits."""
    content = Group.zero()
    content.creator = content.admin = content.security_admin = content.fast_listing_admin = admin
    content.insurance_vault, content.insurance_mint = insurance_vault_address(program_id, group)[0], usdc_mint
    content.version = 1
    return content


def _oracle_config() -> OracleConfig:
    config = OracleConfig.zero()
    config.conf_filter, config.max_staleness_slots = _CONFIDENCE, _STALENESS_SLOTS
    return config


def settle_stable_price(model: StablePriceModel, price: float, now: int) -> None:
    """Set the slow price so as if the oracle had stood at `price` (native a native) for a day."""
    model.stable_price = price
    model.delay_prices = struct.pack(f"<{_DELAY_PRICES}d", *[price] * _DELAY_PRICES)
    model.delay_accumulator_price, model.delay_accumulator_time = 0.0, 0
    model.last_update_timestamp = now
    model.delay_interval_seconds = 3_600
    model.delay_growth_limit, model.stable_growth_limit = 0.06, 0.0003
    model.last_delay_interval_index = now // 3_600 % _DELAY_PRICES


def first_bank(
    terms: BankTerms, *, group: Pubkey, mint: Pubkey, vault: Pubkey, oracle: Pubkey, bump: int, now: int
) -> Bank:
    """Return a bank without a deposit, and without interest."""
    bank = Bank.zero()
    bank.group, bank.mint, bank.vault, bank.oracle = group, mint, vault, oracle
    bank.name = _text(terms.symbol, 16)
    bank.oracle_config = _oracle_config()
    settle_stable_price(bank.stable_price_model, terms.price_usd * 10**6 / 10**terms.decimals, now)
    bank.deposit_index = bank.borrow_index = INDEX_START
    bank.index_last_updated = bank.bank_rate_last_updated = now
    bank.loan_origination_fee_rate = ONE // 2_000
    bank.maint_asset_weight, bank.init_asset_weight = _thousandths(terms.maint_asset), _thousandths(terms.init_asset)
    bank.maint_liab_weight, bank.init_liab_weight = _thousandths(terms.maint_liab), _thousandths(terms.init_liab)
    bank.token_index, bank.mint_decimals, bank.bump = terms.token_index, terms.decimals, bump
    bank.min_vault_to_deposits_ratio = 0.2
    bank.net_borrow_limit_window_size_ts = _DAY_S
    bank.last_net_borrows_window_start_ts = now // _DAY_S * _DAY_S
    bank.net_borrow_limit_per_window_quote = 1_000_000 * 10**6
    bank.borrow_weight_scale_start_quote = bank.deposit_weight_scale_start_quote = _NO_SCALING
    bank.interest_curve_scaling = 1.0
    return bank


def first_mint_info(bank: Bank, *, bank_address: Pubkey, now: int) -> MintInfo:
    """Return what the group knows of a bank's mint."""
    info = MintInfo.zero()
    info.group, info.mint, info.oracle, info.token_index = bank.group, bank.mint, bank.oracle, bank.token_index
    info.banks = bytes(bank_address).ljust(192, b"\0")
    info.vaults = bytes(bank.vault).ljust(192, b"\0")
    info.registration_time = now
    return info


def first_market(
    terms: MarketTerms, *, group: Pubkey, bids: Pubkey, asks: Pubkey, event_queue: Pubkey, oracle: Pubkey, bump: int,
    now: int,
) -> PerpMarket:  # fmt: skip
    """Return a market without open interest, whose next order follows those of the first book."""
    market = PerpMarket.zero()
    market.group, market.perp_market_index, market.bump = group, terms.index, bump
    market.name = _text(terms.symbol, 16)
    market.base_decimals = terms.base_decimals
    market.bids, market.asks, market.event_queue, market.oracle = bids, asks, event_queue, oracle
    market.oracle_config = _oracle_config()
    settle_stable_price(market.stable_price_model, terms.native_price, now)
    market.base_lot_size, market.quote_lot_size = terms.base_lot, terms.quote_lot
    market.maint_base_asset_weight, market.init_base_asset_weight = (
        _thousandths(1_000 - terms.maint),
        _thousandths(1_000 - terms.init),
    )
    market.maint_base_liab_weight, market.init_base_liab_weight = (
        _thousandths(1_000 + terms.maint),
        _thousandths(1_000 + terms.init),
    )
    market.seq_num = 2 * len(terms.levels)
    market.registration_time = market.funding_last_updated = now
    market.min_funding, market.max_funding = _thousandths(-50), _thousandths(50)
    market.impact_quantity = terms.levels[0].base_lots
    market.base_liquidation_fee = _thousandths(terms.maint) // 2
    market.taker_fee = terms.taker_fee
    market.fee_penalty = 2_000.0
    market.settle_fee_flat, market.settle_fee_amount_threshold = 1_000.0, 1_000_000.0
    market.settle_fee_fraction_low_health = 0.009999999776482582
    market.settle_pnl_limit_factor, market.settle_pnl_limit_window_size_ts = 1.0, _DAY_S
    market.maint_overall_asset_weight = market.init_overall_asset_weight = ONE
    market.positive_pnl_liquidation_fee = _thousandths(20)
    return market


# Books and queues


def resting_orders(terms: MarketTerms, first_slot: int) -> tuple[Resting, ...]:
    """Return the maker's first orders in a market; `first_slot` is its account's first free order slot."""
    orders: list[Resting] = []
    for level in terms.levels:
        for side in Side:
            away = level.offset_lots if side is Side.ASK else -level.offset_lots
            number = len(orders)
            orders.append(
                Resting(
                    side=side,
                    tree=level.tree,
                    price_data=away + (_PEG_ZERO if level.tree is OrderTree.ORACLE_PEGGED else terms.price_lots),
                    base_lots=level.base_lots,
                    sequence=number,
                    slot=first_slot + number,
                    client_order_id=number + 1,
                )
            )
    return tuple(orders)


class _Nodes:
    """Nodes of one side's two trees, as they are laid out."""

    def __init__(self, owner: Pubkey, now: int) -> None:
        self.data = bytearray(_NODE * _NODES)
        self.used = 0
        self._owner, self._now = bytes(owner), now

    def tree(self, orders: Sequence[Resting]) -> int:
        """Lay out the tree of these orders (sorted by key) and return its root."""
        handle = self.used
        self.used += 1
        if len(orders) == 1:
            self._leaf(handle, orders[0])
            return handle
        low, high = orders[0].key, orders[-1].key
        # Everything between the two shares their common beginning, and parts at the bit behind it.
        prefix = 128 - (low ^ high).bit_length()
        bit = 1 << (127 - prefix)
        split = next(index for index, order in enumerate(orders) if order.key & bit)
        children = self.tree(orders[:split]), self.tree(orders[split:])
        key = low.to_bytes(16, "little")
        _INNER.pack_into(self.data, handle * _NODE, NodeTag.INNER, prefix, key, *children, NO_EXPIRY, NO_EXPIRY)
        return handle

    def _leaf(self, handle: int, order: Resting) -> None:
        _LEAF.pack_into(
            self.data,
            handle * _NODE,
            NodeTag.LEAF,
            order.slot,
            PlaceOrderType.LIMIT,
            0,
            order.key.to_bytes(16, "little"),
            self._owner,
            order.base_lots,
            self._now,
            _NO_PEG_LIMIT,
            order.client_order_id,
        )


def book_side_data(side: Side, orders: Sequence[Resting], *, owner: Pubkey, now: int) -> bytes:
    """Return one side of a book holding those of the orders that are on it; it may be empty."""
    nodes = _Nodes(owner, now)
    head = bytearray(_NODES_AT)
    head[:8] = account_discriminator("BookSide")
    for tree in OrderTree:
        leaves = sorted((each for each in orders if (each.side, each.tree) == (side, tree)), key=lambda each: each.key)
        root = nodes.tree(leaves) if leaves else 0
        _ROOT.pack_into(head, 8 + 8 * tree, root, len(leaves))
    _TREE.pack_into(head, _TREE_AT, side, nodes.used, 0, 0)
    return bytes(head + nodes.data)


def event_queue_data() -> bytes:
    """Return an empty queue."""
    return account_discriminator("EventQueue").ljust(_EVENT_QUEUE_BYTES, b"\0")


# Accounts


def first_account(
    group: Pubkey, owner: Pubkey, *, bump: int, perp_open_orders: int, name: str = "Main Account"
) -> MangoAccount:
    """Return an account without a position."""
    head = AccountHead.zero()
    head.group, head.owner, head.bump = group, owner, bump
    head.name = _text(name, 32)
    return MangoAccount.empty(head, perp_open_orders=perp_open_orders)


def token_deposit(account: MangoAccount, bank: Bank, native: int) -> None:
    """Give a new account a deposit of a token (native units), and the bank its share of it."""
    indexed = (native << (2 * FRACTION_BITS)) // bank.deposit_index
    position = next(slot for slot in account.tokens if not slot.is_active)
    fresh = TokenPosition.zero()
    fresh.token_index, fresh.indexed_position, fresh.previous_index = bank.token_index, indexed, bank.deposit_index
    position.copy_from(fresh)
    bank.indexed_deposits += indexed
    account.head.net_deposits += native


def rest_orders(account: MangoAccount, market: PerpMarket, orders: Sequence[Resting]) -> None:
    """Note a market's first orders in the account that owns them; it has a deposit of the settlement token."""
    settle = account.token(market.settle_token_index)
    if settle is None:
        raise ValueError("no deposit of the settlement token")
    settle.in_use_count += 1
    position = next(slot for slot in account.perps if not slot.is_active)
    fresh = PerpPosition.zero()
    fresh.market_index = market.perp_market_index
    fresh.long_settled_funding, fresh.short_settled_funding = market.long_funding, market.short_funding
    for order in orders:
        slot = PerpOpenOrder.zero()
        slot.market, slot.side_and_tree = market.perp_market_index, order.side + 2 * order.tree
        slot.id, slot.client_id, slot.quantity = order.key, order.client_order_id, order.base_lots
        account.perp_open_orders[order.slot].copy_from(slot)
        if order.side is Side.BID:
            fresh.bids_base_lots += order.base_lots
        else:
            fresh.asks_base_lots += order.base_lots
    position.copy_from(fresh)
