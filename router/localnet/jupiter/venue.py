"""What every instruction looks at: settings, pool, custodies, prices, a position and a request, each checked."""

from __future__ import annotations

from router.localnet.jupiter.addresses import (
    DOVES_PROGRAM,
    custody_address,
    perpetuals_address,
    pool_address,
    position_address,
    request_address,
    transfer_authority,
)
from router.localnet.jupiter.execution import Execution
from router.localnet.jupiter.layouts import AgPriceFeed, Custody, Perpetuals, Pool, Position, PositionRequest
from router.localnet.jupiter.pricing import LONG, Price

__all__ = [
    "DECREASE",
    "INCREASE",
    "MARKET",
    "TRIGGER",
    "check_decreasing_allowed",
    "check_increasing_allowed",
    "check_pairing",
    "check_request",
    "custody_of",
    "perpetuals_of",
    "pool_of",
    "position_of",
    "price_of",
    "vault_of",
]

MARKET, TRIGGER = 0, 1
INCREASE, DECREASE = 1, 2

_CLOCK_SKEW_S = 1


def perpetuals_of(run: Execution) -> Perpetuals:
    """Return the program's settings."""
    run.check(run.key("perpetuals") == perpetuals_address()[0], "ConstraintSeeds", "perpetuals")
    return run.load(Perpetuals, "perpetuals")


def pool_of(run: Execution) -> Pool:
    """Return the pool."""
    pool = run.load(Pool, "pool")
    run.check(run.key("pool") == pool_address()[0], "ConstraintSeeds", "pool")
    return pool


def custody_of(run: Execution, name: str) -> Custody:
    """Return one of the pool's custodies."""
    custody = run.load(Custody, name)
    run.check(run.key(name) == custody_address(run.key("pool"), custody.mint)[0], "ConstraintSeeds", name)
    return custody


def position_of(run: Execution, *, owner: bool = True) -> Position:
    """Return the position, which has to be that of the custodies (and the owner) given."""
    position = run.load(Position, "position")
    address = position_address(
        position.owner, position.pool, position.custody, position.collateral_custody, position.side
    )
    run.check(run.key("position") == address[0], "ConstraintSeeds", "position")
    run.check(position.custody == run.key("custody"), "ConstraintHasOne", "position")
    run.check(position.collateral_custody == run.key("collateral_custody"), "ConstraintHasOne", "position")
    run.check(not owner or position.owner == run.key("owner"), "ConstraintHasOne", "position")
    return position


def check_request(run: Execution, request: PositionRequest) -> None:
    """Refuse a request that does not stand where its own content says, or is of another position."""
    address = request_address(request.position, request.counter, request.request_change)
    run.check(run.key("position_request") == address[0], "ConstraintSeeds", "position_request")
    run.check(request.position == run.key("position"), "ConstraintHasOne", "position_request")


def price_of(run: Execution, custody: Custody, prefix: str) -> Price:
    """Return the price of a custody's token.

    Args:
        run: the instruction.
        custody: of the token.
        prefix: how the names of its two price accounts begin; only the newer one is read.

    Raises:
        ModelRefusal: other accounts than the custody names, or a price that is too old or none.
    """
    name = f"{prefix}_doves_price_account"
    run.check(run.key(name) == custody.doves_ag_oracle, "InvalidOracleAccount", name)
    older = f"{prefix}_pythnet_price_account"
    if run.has(older):
        run.check(run.key(older) == custody.oracle.oracle_account, "InvalidOracleAccount", older)
    account = run.read(run.key(name))
    if account is None:
        raise run.refuse("InvalidOracleAccount", name)
    price = Price.of(run.decoded(AgPriceFeed, account, name, DOVES_PROGRAM))
    run.check(price.mantissa > 0, "InvalidOraclePrice", name)
    age = run.now - price.timestamp
    run.check(-_CLOCK_SKEW_S <= age <= custody.oracle.max_price_age_sec, "StaleOraclePrice", name)
    return price


def vault_of(run: Execution, collateral: Custody) -> int:
    """Return how much the collateral's vault holds."""
    name = "collateral_custody_token_account"
    run.check(run.key(name) == collateral.token_account, "ConstraintSeeds", name)
    return run.token_account(name, mint=collateral.mint, owner=transfer_authority()[0])


def check_increasing_allowed(run: Execution, settings: Perpetuals, custody: Custody) -> None:
    """Refuse while positions may not grow."""
    allowed = settings.allow_increase_position and custody.permissions.allow_increase_position
    run.check(allowed, "InstructionNotAllowed")


def check_decreasing_allowed(run: Execution, settings: Perpetuals, custody: Custody, *, withdraws: bool) -> None:
    """Refuse while positions may not shrink, or collateral may not leave them."""
    own = custody.permissions
    run.check(settings.allow_decrease_position and own.allow_decrease_position, "InstructionNotAllowed")
    leaves = settings.allow_collateral_withdrawal and own.allow_collateral_withdrawal
    run.check(leaves or not withdraws, "InstructionNotAllowed")


def check_pairing(run: Execution, side: int, custody: Custody, collateral: Custody) -> None:
    """Refuse collateral that does not fit the side: a long's is the asset itself, a short's a stable coin."""
    fits = run.key("custody") == run.key("collateral_custody") if side == LONG else collateral.is_stable
    run.check(fits, "InvalidCollateralAccount", "collateral_custody")
    run.check(not custody.is_stable, "InvalidCustodyConfig", "custody")
