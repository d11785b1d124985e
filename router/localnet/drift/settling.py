"""Settling PnL: a position's profit or loss moves into the USDC balance, through the market's pool."""

from __future__ import annotations

import struct

from router.localnet.drift.addresses import spot_vault_address
from router.localnet.drift.curve import reserve_price
from router.localnet.drift.enums import BalanceType, ExchangeStatus, MarketStatus, PerpOperation, UserStatus
from router.localnet.drift.events import settle_pnl_record
from router.localnet.drift.execution import Execution
from router.localnet.drift.funding import settle_funding, total_fee_lower_bound
from router.localnet.drift.handlers import check_not_paused, may_sign, take_state, update_amm
from router.localnet.drift.layouts import PerpPosition, User
from router.localnet.drift.maps import Maps, load_maps
from router.localnet.drift.margin import MarginKind, account_margin
from router.localnet.drift.market_layouts import PerpMarket, SpotMarket
from router.localnet.drift.numbers import BASE_PRECISION, PERCENTAGE_PRECISION, div
from router.localnet.drift.orders import touch
from router.localnet.drift.positions import add_quote, find_position
from router.localnet.drift.spot import (
    PoolHolder,
    accrue_interest,
    change_balance,
    check_vault,
    max_withdrawal,
    pool_tokens,
    signed_tokens,
    transfer_between_pools,
)
from router.localnet.spl import TOKEN_PROGRAM, token_amount

__all__ = ["settle_pnl"]


def settle_pnl(run: Execution) -> int:
    """Settle one market's PnL of an account; anybody may, with limits on somebody else's profit."""
    (market_index,) = struct.unpack_from("<H", run.call.data, 8)
    state = take_state(run)
    meta, user = run.take_account(User, "user")
    authority = run.signer("authority")
    vault = run.take()
    holding = run.read(vault.pubkey)
    if holding is None or holding.owner != TOKEN_PROGRAM:
        raise run.refuse("AccountNotInitialized", "spot_market_vault")
    run.check_writable(meta, "user")
    if vault.pubkey != spot_vault_address(run.program_id, 0):
        raise run.refuse("ConstraintSeeds", "spot_market_vault")
    check_not_paused(run, state, ExchangeStatus.SETTLE_PNL)
    maps = load_maps(run, state, writable_perp=(market_index,), writable_spot=(0,))
    market = maps.perp_market(market_index)
    run.check(market.status != MarketStatus.SETTLEMENT, "InvalidMarketStatusToSettlePnl")
    update_amm(maps, market)
    run.check(not user.status & UserStatus.BANKRUPT, "UserBankrupt")
    spot = maps.spot_market(0)
    accrue_interest(run, spot, None)
    _check_bands(maps, market)
    settle_funding(run, user, meta.pubkey, market)
    position = find_position(user, market_index)
    if position is None:
        raise run.refuse("UserHasNoPositionInMarket")
    price = maps.price(market.amm.oracle).price
    unrealized = div(position.base_asset_amount * price, BASE_PRECISION) + position.quote_asset_amount
    if unrealized < 0:
        covered = account_margin(user, maps, MarginKind.MAINTENANCE, strict=True).met
        run.check(covered, "InsufficientCollateralForSettlingPNL")
    _check_market(run, market, position)
    excess = _pool_excess(market, spot, price)
    claimable = unrealized
    if unrealized > 0:
        claimable = min(unrealized, max(position.quote_asset_amount - position.quote_entry_amount, 0) + max(excess, 0))
    settled = _settle_with_pool(run, user, market, spot, claimable)
    run.check(claimable != 0, "NoUnsettledPnl", f"User has no unsettled pnl for market {market_index}")
    run.check(settled != 0, "PnlPoolCantSettleUser")
    rescue = settled > 0 and position.base_asset_amount == 0 and user.status & UserStatus.BEING_LIQUIDATED
    strangers = settled >= 0 and excess <= 0 and not rescue and not may_sign(user, authority)
    run.check(not strangers, "UserMustSettleTheirOwnPositiveUnsettledPNL")
    direction = BalanceType.DEPOSIT if settled > 0 else BalanceType.BORROW
    change_balance(run, spot, user.spot_positions[0], abs(settled), direction)
    add_quote(position, market, -settled)
    position.settled_pnl += settled
    user.settled_perp_pnl += settled
    run.emit(
        settle_pnl_record(
            run.now,
            meta.pubkey,
            market_index,
            settled,
            base=position.base_asset_amount,
            quote_after=position.quote_asset_amount,
            entry=position.quote_entry_amount,
            price=price,
        )
    )
    touch(user, run.slot)
    check_vault(run, spot, token_amount(bytes(holding.data)))
    return 60_000


def _check_bands(maps: Maps, market: PerpMarket) -> None:
    """Refuse while the AMM or the oracle is far from the 5-minute average."""
    average = market.amm.historical_oracle_data.last_oracle_price_twap_5min
    prices = (reserve_price(market.amm), maps.price(market.amm.oracle).price)
    away = max(abs(div((price - average) * PERCENTAGE_PRECISION, price)) for price in prices)
    rails = maps.state.oracle_guard_rails.price_divergence
    limit = max(rails.mark_oracle_percent_divergence, PERCENTAGE_PRECISION // 10)
    maps.run.check(away <= limit, "PriceBandsBreached")


def _check_market(run: Execution, market: PerpMarket, position: PerpPosition) -> None:
    paused = market.paused_operations
    allowed = {MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY}
    if position.base_asset_amount != 0:
        allowed = {MarketStatus.ACTIVE}
        run.check(not paused & PerpOperation.SETTLE_PNL_WITH_POSITION, "InvalidMarketStatusToSettlePnl")
    run.check(not paused & PerpOperation.SETTLE_PNL, "InvalidMarketStatusToSettlePnl")
    run.check(market.status in allowed, "InvalidMarketStatusToSettlePnl")


def _pool_excess(market: PerpMarket, spot: SpotMarket, price: int) -> int:
    """Return what the pools hold beyond the users' PnL (1e6)."""
    amm = market.amm
    available = pool_tokens(spot, market.pnl_pool) + pool_tokens(spot, amm.fee_pool) // 5
    net = div((amm.base_asset_amount_with_amm + amm.base_asset_amount_with_unsettled_lp) * price, BASE_PRECISION)
    net += amm.quote_asset_amount + amm.quote_asset_amount_with_unsettled_lp + amm.net_unsettled_funding_pnl
    return available - max(net, 0) if net < available else 0


def _settle_with_pool(run: Execution, user: User, market: PerpMarket, spot: SpotMarket, claim: int) -> int:
    """Balance the market's pools and move the user's claim through them; return what moved (1e6)."""
    amm = market.amm
    fee_tokens = pool_tokens(spot, amm.fee_pool)
    target = amm.total_fee_minus_distributions + amm.total_liquidation_fee - amm.total_fee_withdrawn
    share = 100
    if target <= fee_tokens:
        transfer_between_pools(run, spot, amm.fee_pool, market.pnl_pool, fee_tokens - max(0, target))
        share = 0
    least = total_fee_lower_bound(market) + amm.total_liquidation_fee - amm.total_fee_withdrawn
    fee_tokens = pool_tokens(spot, amm.fee_pool)
    if fee_tokens < least:
        missing = min(least - fee_tokens, pool_tokens(spot, market.pnl_pool))
        transfer_between_pools(run, spot, market.pnl_pool, amm.fee_pool, missing)
    # The insurance fund neither takes nor gives in this world.
    run.check(market.insurance_claim.max_revenue_withdraw_per_period == 0, "DefaultError")
    if claim > 0:
        settled = min(claim, pool_tokens(spot, market.pnl_pool))
    else:
        settled = max(-max_withdrawal(spot, signed_tokens(spot, user.spot_positions[0])), claim)
    for_amm = div(settled, share) if share and settled < 0 else 0
    if for_amm:
        change_balance(run, spot, PoolHolder(amm.fee_pool), abs(for_amm), BalanceType.DEPOSIT)
    to_market = for_amm - settled
    direction = BalanceType.DEPOSIT if to_market >= 0 else BalanceType.BORROW
    change_balance(run, spot, PoolHolder(market.pnl_pool), abs(to_market), direction)
    return settled
