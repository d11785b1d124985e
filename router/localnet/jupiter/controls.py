"""What a test or a person may change at the venue while it runs: by editing account bytes, or by real transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Literal, TypeVar

from solders.account import Account
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from router.localnet.controls import ControlCluster
from router.localnet.jupiter.actors import JupiterKeeper, JupiterOracles, read_content
from router.localnet.jupiter.calls import (
    Slot,
    close,
    create_decrease,
    create_increase,
    execute,
    instant_decrease,
    instant_increase,
    liquidate,
)
from router.localnet.jupiter.control_methods import register_jupiter_controls
from router.localnet.jupiter.genesis import FEED_EXPONENT
from router.localnet.jupiter.layouts import (
    AgPriceFeed,
    Content,
    Custody,
    Perpetuals,
    Pool,
    Position,
    PositionRequest,
    account_data,
)
from router.localnet.jupiter.model import halt_marker
from router.localnet.jupiter.pricing import LONG, SHORT, USD, Price, profit
from router.localnet.jupiter.venue import DECREASE, INCREASE
from router.localnet.jupiter.world import (
    JUPITER_MARKETS,
    SOL_MINT,
    JupiterCustody,
    JupiterWorld,
    build_jupiter_world,
    give_tokens,
    open_jupiter_world,
)
from router.localnet.sending import send, signature_of
from router.localnet.spl import rent_exempt
from router.localnet.world import WorldKeys

__all__ = ["JupiterControls", "Permission", "SideName", "open_jupiter", "run_jupiter"]

C = TypeVar("C", bound=Content)
SideName = Literal["long", "short"]
Permission = Literal["increase", "decrease", "withdrawal", "liquidate"]

_SIDES: dict[SideName, int] = {"long": LONG, "short": SHORT}
_FLAGS: dict[Permission, str] = {
    "increase": "allow_increase_position",
    "decrease": "allow_decrease_position",
    "withdrawal": "allow_collateral_withdrawal",
    "liquidate": "allow_liquidate_position",
}
_FOREIGN_LEVERAGE = 2


class JupiterControls:
    """The venue's controls, for the same process; edits count from the next transaction on.

    Args:
        cluster: where the venue is.
        world: its addresses.
    """

    def __init__(self, cluster: ControlCluster, world: JupiterWorld) -> None:
        self.cluster = cluster
        self.world = world
        self.oracles = JupiterOracles(cluster, world)
        self.keeper = JupiterKeeper(cluster, world)
        self._sent = 0

    # Prices

    def set_oracle_price(self, symbol: str, price: Decimal) -> None:
        """Set a token's price in dollars: a market's (`SOL-PERP`) or a token's (`USDC`)."""

        def edit(feed: AgPriceFeed) -> None:
            feed.price = int(price.scaleb(-FEED_EXPONENT))
            feed.timestamp = self.cluster.unix_timestamp

        self._edit(AgPriceFeed, self.world.custody(symbol).feed, edit)

    def follow_price(self, market: str, price: Decimal, follows: bool) -> bool:  # noqa: ARG002, FBT001 - a `PriceFollower`
        """Set the price where the market is listed here, and say whether it is; nothing trades that could follow."""
        listed = market in JUPITER_MARKETS
        if listed:
            self.set_oracle_price(market, price)
        return listed

    def freeze_oracle(self, symbol: str, *, frozen: bool = True) -> None:
        """Stop publishing a token's price: beyond 5 seconds whatever needs it is refused with 6003."""
        feed = self.world.custody(symbol).feed
        if frozen:
            self.oracles.frozen.add(feed)
        else:
            self.oracles.frozen.discard(feed)

    # Program, pool, custodies

    def halt(self, *, on: bool = True) -> None:
        """Have the program answer every instruction with 101; its accounts stay as they are."""
        account = Account(rent_exempt(0), b"", self.world.program_id) if on else None
        self.cluster.set_account(halt_marker(), account)

    def pause(self, what: Permission, market: str | None = None, *, paused: bool = True) -> None:
        """Take a permission away (6027), or give it back: that of one market's custody, or of the whole program."""
        flag = _FLAGS[what]
        if market is None:
            self._edit(Perpetuals, self.world.perpetuals, lambda content: setattr(content, flag, not paused))
        else:
            custody = self.world.market(market).address
            self._edit(Custody, custody, lambda content: setattr(content.permissions, flag, not paused))

    def disable_owner_close(self, *, on: bool = True) -> None:
        """Have `closePositionRequest2` refuse owners (6027); the third version still serves them."""
        self._edit(Pool, self.world.pool, lambda content: setattr(content, "disable_close_position_request", on))

    def set_free_tokens(self, symbol: str, amount: Decimal) -> None:
        """Lock all but so many of the pool's tokens: what needs more is refused with 6023.

        Args:
            symbol: of the collateral token (SOL, ETH, BTC for longs, USDC for shorts).
            amount: whole tokens.
        """
        free = int(amount * 10 ** self.world.custody(symbol).terms.decimals)

        def edit(custody: Custody) -> None:
            custody.assets.locked = max(custody.assets.owned - free, 0)

        self._edit(Custody, self.world.custody(symbol).address, edit)

    def set_caps(
        self,
        market: str,
        *,
        long_usd: Decimal | None = None,
        short_usd: Decimal | None = None,
        position_usd: Decimal | None = None,
    ) -> None:
        """Set the most dollars of all longs, of all shorts (6023), of one position (6025; 0 for no cap)."""

        def edit(custody: Custody) -> None:
            pricing = custody.pricing
            if long_usd is not None:
                pricing.max_global_long_sizes = int(long_usd * USD)
            if short_usd is not None:
                pricing.max_global_short_sizes = int(short_usd * USD)
            if position_usd is not None:
                custody.max_position_size_usd = int(position_usd * USD)

        self._edit(Custody, self.world.market(market).address, edit)

    def set_max_leverage(self, market: str, leverage: Decimal) -> None:
        """Set the largest leverage of a market: above it 6022, and positions are liquidated earlier."""

        def edit(custody: Custody) -> None:
            custody.pricing.max_leverage = int(leverage * 10**4)

        self._edit(Custody, self.world.market(market).address, edit)

    def set_execution_window(self, seconds: int) -> None:
        """Set how long a market request may be executed, and its owner may not close it: 45 s at first."""
        self._edit(Pool, self.world.pool, lambda content: setattr(content, "max_request_execution_sec", seconds))

    # The keeper

    def run_keeper(self, *, running: bool = True) -> None:
        """Let the keeper work, or stand still: requests then wait until it works again or their owner closes them."""
        self.keeper.running = running

    def set_keeper_delay(self, slots: int) -> None:
        """Set how many slots a request waits for the keeper: 3 at first."""
        self.keeper.delay_slots = slots

    def reject(self, reason: str | None = "not executable") -> None:
        """Have the keeper give back every market request; with null it executes them again.

        The chain shows no reason: the request is closed, `executed` is false, the escrow comes back.
        """
        self.keeper.rejects = reason

    def separate_steps(self, *, on: bool = True) -> None:
        """Have the keeper execute in one transaction and close in another, a slot later."""
        self.keeper.separate = on

    def die_between_steps(self) -> None:
        """Have the keeper execute the next request and never close it, nor do anything more, until it is revived."""
        self.keeper.dies = True

    def revive(self) -> None:
        """Let a keeper that died, stands still or rejects work again; it closes what it had executed."""
        self.keeper.dies = self.keeper.dead = False
        self.keeper.rejects = None
        self.keeper.running = True

    # Accounts

    def fund_wallet(self, wallet: Pubkey, symbol: str, amount: Decimal) -> None:
        """Give a wallet tokens (`USDC`, `ETH`, `BTC`; whole units), or lamports for `SOL`, on top of what it has."""
        custody = self.world.custody(symbol)
        if custody.mint != SOL_MINT:
            give_tokens(self.cluster, wallet, custody, amount)
            return
        before = self.cluster.account(wallet)
        lamports = (0 if before is None else before.lamports) + int(amount * 10**custody.terms.decimals)
        self.cluster.set_account(wallet, Account(lamports, b"", Pubkey.default()))

    def position(self, market: str, side: SideName, *, owner: Pubkey | None = None) -> Position | None:
        """Return a position of the trader's, or of another wallet's; null where there never was one."""
        key = self.world.position(self.world.trader.pubkey() if owner is None else owner, market, _SIDES[side])
        return None if self.cluster.account(key) is None else read_content(self.cluster, key, Position)

    def foreign_trade(
        self, market: str, side: SideName, size_usd: Decimal, *, reduce: bool = False, instant: bool = False
    ) -> str:
        """Have somebody with the trader's key change a position past the router; return the signature that did it.

        An open brings half its size as collateral, which is given to the trader's token account before.

        Args:
            market: of the position.
            side: of the position, also where it is reduced.
            size_usd: by how much; with `reduce`, nothing for everything.
            reduce: make it smaller.
            instant: in one transaction that a keeper signs too, as the venue's own site does; else by a request that
                another keeper executes at once, whatever the keeper does.

        Raises:
            ValueError: the program refused it.
        """
        world, keeper = self.world, self.world.keeper
        slot = Slot.of(world, world.trader.pubkey(), market, _SIDES[side])
        size, now = int(size_usd * USD), self.cluster.unix_timestamp
        tokens = 0 if reduce else self._foreign_collateral(slot, size)
        if instant:
            call = (
                instant_decrease(slot, keeper.pubkey(), size_usd=size, now=now)
                if reduce
                else instant_increase(slot, keeper.pubkey(), size_usd=size, collateral_tokens=tokens, now=now)
            )
            return self._send(world.trader, call, cosigners=[keeper])
        counter = self.cluster.slot << 16 | self._sent & 0xFFFF
        if reduce:
            self._send(world.trader, create_decrease(slot, counter, size_usd=size))
        else:
            self._send(world.trader, create_increase(slot, counter, size_usd=size, collateral_tokens=tokens))
        key = slot.request(counter, DECREASE if reduce else INCREASE)
        request = read_content(self.cluster, key, PositionRequest)
        position = read_content(self.cluster, slot.address, Position)
        execution = execute(world, key, request, position, keeper.pubkey())
        return self._send(keeper, execution, close(world, key, request, keeper=keeper.pubkey()))

    def _foreign_collateral(self, slot: Slot, size: int) -> int:
        """Give the trader what its position is to be backed by, and return the native amount."""
        custody = slot.collateral
        price = Price.of(read_content(self.cluster, custody.feed, AgPriceFeed))
        tokens = price.tokens_up(size // _FOREIGN_LEVERAGE, custody.terms.decimals)
        give_tokens(self.cluster, slot.owner, custody, Decimal(tokens).scaleb(-custody.terms.decimals))
        return tokens

    def liquidate(self, market: str, side: SideName) -> str:
        """Take the trader's collateral away, and have its position liquidated by somebody; return the signature.

        Raises:
            ValueError: there is no position, its profit alone keeps it, or the program refused.
        """
        world = self.world
        key = world.position(world.trader.pubkey(), market, _SIDES[side])
        position = self.position(market, side)
        if position is None or not position.size_usd:
            raise ValueError(f"the trader has no {side} in {market}")
        price = Price.of(read_content(self.cluster, world.market(market).feed, AgPriceFeed)).usd
        loss = -profit(position, position.size_usd, price)
        if loss < 0:
            raise ValueError(f"its profit of {-loss} alone keeps it")
        self._edit(Position, key, lambda content: setattr(content, "collateral_usd", loss))
        return self._send(world.maker, liquidate(world, key, position, world.maker.pubkey()))

    def _send(self, wallet: Keypair, *instructions: Instruction, cosigners: Sequence[Keypair] = ()) -> str:
        self._sent += 1
        # Numbered from the other end than the keeper's own.
        result = send(self.cluster, wallet, instructions, number=-self._sent, cosigners=cosigners)
        return signature_of(result)

    # Bytes

    def custody(self, symbol: str) -> JupiterCustody:
        """Return where a token's custody is."""
        return self.world.custody(symbol)

    def _edit(self, kind: type[C], key: Pubkey, change: Callable[[C], None]) -> None:
        content = read_content(self.cluster, key, kind)
        change(content)
        account = self.cluster.account(key)
        if account is not None:
            self.cluster.set_account(key, Account(account.lamports, account_data(content), account.owner))


def run_jupiter(cluster: ControlCluster, world: JupiterWorld) -> JupiterControls:
    """Set the prices' publisher and the keeper to work on the cluster's slots; register the controls."""
    controls = JupiterControls(cluster, world)
    for actor in (controls.oracles, controls.keeper):
        cluster.on_slot(actor.on_slot)
    register_jupiter_controls(controls)
    return controls


def open_jupiter(
    cluster: ControlCluster, keys: WorldKeys, *, fresh: bool = False
) -> tuple[JupiterWorld, JupiterControls]:
    """Return the venue on a cluster (built where it is not there, or anew if `fresh`) and its controls, at work.

    The model is the caller's to register.
    """
    world = build_jupiter_world(cluster, keys) if fresh else open_jupiter_world(cluster, keys)
    return world, run_jupiter(cluster, world)
