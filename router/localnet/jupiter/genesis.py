"""First state of the venue, as account content: settings, the pool, its custodies, prices.

Sizes and terms are of the order of mainnet's; the pool starts with positions of others in its sums, which no account
holds.
"""

from __future__ import annotations

import msgspec
from solders.pubkey import Pubkey

from router.localnet.jupiter.addresses import (
    custody_address,
    lp_mint_address,
    perpetuals_address,
    pool_address,
    transfer_authority,
    vault_address,
)
from router.localnet.jupiter.layouts import AgPriceFeed, Custody, Perpetuals, Pool
from router.localnet.jupiter.pricing import USD

__all__ = ["FEED_EXPONENT", "CustodyTerms", "first_custody", "first_feed", "first_perpetuals", "first_pool"]

FEED_EXPONENT = -8

_MAX_LEVERAGE_BPS = 5_000_000
_MAX_PRICE_AGE_S = 5
_EXECUTION_S = 45
_TRADE_BPS = 6
_PYTH = 2
_MOST_IMPACT_BPS = 50


class CustodyTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one custody from another.

    Attributes:
        oracle, feed, older_feed: the Pyth price account that is named and not read, the price that is, and the one that
            it replaced.
        price_usd: first price in whole dollars.
        owned, locked: whole tokens.
        guaranteed_usd, short_usd: sums over the positions of others, in whole dollars.
        max_long_usd, max_short_usd, max_position_usd: caps in whole dollars; 0 for a position without one.
        impact_scalar: of the fee for size, in whole dollars for 100 %.
        rates: of the borrow rate's curve: yearly bps at no use, at the kink, at full use; the kink in percent.
    """

    symbol: str
    mint: Pubkey
    decimals: int
    stable: bool
    oracle: Pubkey
    feed: Pubkey
    older_feed: Pubkey
    price_usd: int
    owned: int
    locked: int
    guaranteed_usd: int = 0
    short_usd: int = 0
    max_long_usd: int = 0
    max_short_usd: int = 0
    max_position_usd: int = 0
    impact_scalar: int = 0
    rates: tuple[int, int, int, int]
    ratio_bps: int


def first_perpetuals(admin: Pubkey, now: int) -> Perpetuals:
    """Return the settings, with everything allowed."""
    return Perpetuals(
        allow_swap=True,
        allow_add_liquidity=True,
        allow_remove_liquidity=True,
        allow_increase_position=True,
        allow_decrease_position=True,
        allow_collateral_withdrawal=True,
        allow_liquidate_position=True,
        pools=[pool_address()[0]],
        admin=admin,
        transfer_authority_bump=transfer_authority()[1],
        perpetuals_bump=perpetuals_address()[1],
        inception_time=now,
    )


def first_pool(mints: list[Pubkey], aum_usd: int, now: int) -> Pool:
    """Return the pool with its custodies in the order of `mints`."""
    pool, bump = pool_address()
    return Pool(
        name="Pool",
        custodies=[custody_address(pool, mint)[0] for mint in mints],
        aum_usd=aum_usd * USD,
        max_aum_usd=4_000_000_000 * USD,
        token_weightage_buffer_bps=1_000,
        limit_buffer=0,
        swap_multiplier=100,
        stable_swap_multiplier=100,
        add_remove_liquidity_bps=20,
        swap_bps=10,
        tax_bps=100,
        stable_swap_bps=2,
        stable_swap_tax_bps=5,
        liquidation_reward_bps=150,
        protocol_share_bps=2_500,
        apr_last_updated=now,
        apr_fee_apr_bps=1_000,
        apr_realized_fee_usd=0,
        max_request_execution_sec=_EXECUTION_S,
        bump=bump,
        lp_token_bump=lp_mint_address(pool)[1],
        inception_time=now,
        parameter_update_oracle=bytes(33),
        aum_usd_updated_at=now,
        max_trigger_price_diff_bps=500,
        disable_close_position_request=False,
        max_lp_token_price_change_bps=500,
        aum_usd_refreshed_at_slot=0,
    )


def first_custody(terms: CustodyTerms, now: int) -> Custody:
    """Return a custody with everything allowed, that has lent nothing."""
    pool, tokens = pool_address()[0], 10**terms.decimals
    custody = Custody.zero()
    custody.pool, custody.mint = pool, terms.mint
    custody.bump = custody_address(pool, terms.mint)[1]
    custody.token_account, custody.token_account_bump = vault_address(pool, terms.mint)
    custody.decimals, custody.is_stable = terms.decimals, terms.stable
    custody.oracle.oracle_account, custody.oracle.oracle_type = terms.oracle, _PYTH
    custody.oracle.max_price_age_sec = _MAX_PRICE_AGE_S
    custody.doves_oracle, custody.doves_ag_oracle = terms.older_feed, terms.feed
    custody.target_ratio_bps = terms.ratio_bps
    custody.increase_position_bps = custody.decrease_position_bps = _TRADE_BPS
    custody.max_position_size_usd = terms.max_position_usd * USD
    pricing = custody.pricing
    pricing.trade_impact_fee_scalar = terms.impact_scalar * USD
    pricing.max_leverage = _MAX_LEVERAGE_BPS
    pricing.max_global_long_sizes = terms.max_long_usd * USD
    pricing.max_global_short_sizes = terms.max_short_usd * USD
    for name in (field.name for field in custody.permissions.fields()):
        setattr(custody.permissions, name, True)
    assets = custody.assets
    assets.owned, assets.locked = terms.owned * tokens, terms.locked * tokens
    assets.guaranteed_usd, assets.global_short_sizes = terms.guaranteed_usd * USD, terms.short_usd * USD
    assets.global_short_average_prices = terms.price_usd * USD if terms.short_usd else 0
    custody.funding_rate_state.last_update = now
    curve, (lowest, kink, highest, kink_percent) = custody.jump_rate_state, terms.rates
    curve.min_rate_bps, curve.target_rate_bps, curve.max_rate_bps = lowest, kink, highest
    curve.target_utilization_rate = kink_percent * 10**7
    impact = custody.price_impact_buffer
    impact.last_updated = now
    if not terms.stable:
        impact.fee_factor, impact.exponent = 1, 1.0
        impact.delta_imbalance_threshold_decimal = 1_500_000 * USD
        impact.max_fee_bps = _MOST_IMPACT_BPS
    return custody


def first_feed(terms: CustodyTerms, now: int) -> AgPriceFeed:
    """Return a token's price."""
    feed = AgPriceFeed.zero()
    feed.mint, feed.pyth_feed = terms.mint, terms.oracle
    feed.price, feed.expo = terms.price_usd * 10**-FEED_EXPONENT, FEED_EXPONENT
    feed.timestamp = now
    feed.max_ag_price_age_sec = feed.max_price_feed_age_sec = _MAX_PRICE_AGE_S
    feed.max_price_diff_bps = 100
    return feed
