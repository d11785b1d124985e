"""A world to trade in by hand: the model of the Drift program, and beside it, where it is given, the real program."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from solders.account import Account
from solders.compute_budget import set_compute_unit_limit
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from providers.base.clock import VirtualClock
from router.localnet.actors import remaining_accounts
from router.localnet.anchor import account_discriminator, instruction_discriminator
from router.localnet.cluster import Cluster, ClusterConfig
from router.localnet.codec import Layout
from router.localnet.controls import Controls, run_world
from router.localnet.drift.addresses import DRIFT_PROGRAM, user_address, user_stats_address
from router.localnet.drift.layouts import Order, PerpPosition, State, User, UserStats
from router.localnet.drift.market_layouts import PerpMarket, SpotMarket
from router.localnet.drift.model import DriftModel
from router.localnet.drift.wire import FillAccounts, OrderParams, encode_order_params, fill_perp_order, trigger_order
from router.localnet.spl import RENT_SYSVAR, SYSTEM_PROGRAM, TOKEN_PROGRAM
from router.localnet.world import Trader, World, WorldKeys, build_world

L = TypeVar("L", bound=Layout)

BASE, PRICE, USDC = 10**9, 10**6, 10**6
LAYOUTS: tuple[type[Layout], ...] = (State, User, UserStats, PerpMarket, SpotMarket)


class StillClock(VirtualClock):
    """A clock that stands: slots are produced by hand."""

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Outcome:
    """What a transaction came to: the venue's code (null when it went through), its events, its logs."""

    code: int | None
    err: object
    events: tuple[str, ...]
    logs: tuple[str, ...]
    units: int


@dataclass
class Side:
    """One cluster with the world on it."""

    cluster: Cluster
    world: World
    controls: Controls


def _build(binary: Path | None) -> Side:
    cluster = Cluster(StillClock(1), ClusterConfig(slot_time_ms=400))
    if binary is None:
        cluster.register(DriftModel())
    else:
        cluster.add_program(DRIFT_PROGRAM, binary)
    world = build_world(cluster, keys=WorldKeys())
    controls = run_world(cluster, world)
    controls.run_keeper(running=False)
    return Side(cluster, world, controls)


def meta(key: Pubkey, *, signer: bool = False, writable: bool = False) -> AccountMeta:
    """Return an account of an instruction."""
    return AccountMeta(key, is_signer=signer, is_writable=writable)


def _events(logs: Sequence[str]) -> tuple[str, ...]:
    """Return lines that carry an event: base64 of some length, whichever way it was printed."""
    texts = [line.removeprefix("Program log: ").removeprefix("Program data: ") for line in logs]
    return tuple(text for text in texts if len(text) > 60 and " " not in text)


@dataclass
class Bench:
    """Sends to the model; with a binary, to the real program as well, and compares everything after each step."""

    binary: Path | None = None
    sides: list[Side] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.sides = [_build(None)]
        if self.binary is not None:
            self.sides.append(_build(self.binary))

    # Where things are

    @property
    def world(self) -> World:
        return self.sides[0].world

    @property
    def cluster(self) -> Cluster:
        return self.sides[0].cluster

    @property
    def now(self) -> int:
        return self.cluster.unix_timestamp

    def user(self, trader: Trader | None = None) -> User:
        return self.read(User, (trader or self.world.trader_account).user)

    def position(self, index: int = 0, trader: Trader | None = None) -> PerpPosition | None:
        held = [each for each in self.user(trader).perp_positions if each.market_index == index]
        return next((each for each in held if each.base_asset_amount or each.quote_asset_amount), None)

    def base(self, index: int = 0, trader: Trader | None = None) -> int:
        position = self.position(index, trader)
        return 0 if position is None else position.base_asset_amount

    def open_orders(self, trader: Trader | None = None) -> list[Order]:
        return [order for order in self.user(trader).orders if order.status == 1]

    def last_order(self, trader: Trader | None = None) -> int:
        return self.user(trader).next_order_id - 1

    def market(self, symbol: str = "SOL-PERP") -> PerpMarket:
        return self.read(PerpMarket, self.world.market(symbol).address)

    def read(self, layout: type[L], key: Pubkey) -> L:
        account = self.cluster.account(key)
        assert account is not None
        return layout.decode(bytes(account.data), 8)

    # What happens

    def send(self, instructions: Sequence[Instruction], signers: Sequence[Keypair] | None = None) -> Outcome:
        """Execute on every side, require the same of each, and return the model's outcome."""
        self.count += 1
        outcomes = [self._send(side, instructions, signers or [self.world.trader]) for side in self.sides]
        first = outcomes[0]
        for other in outcomes[1:]:
            assert first.err == other.err, f"model {first.err} {first.logs}, program {other.err} {other.logs}"
            if first.err is None:
                assert first.events == other.events
            self.compare()
        return first

    def _send(self, side: Side, instructions: Sequence[Instruction], signers: Sequence[Keypair]) -> Outcome:
        budget = set_compute_unit_limit(600_000 + self.count)
        blockhash = side.cluster.latest_blockhash()
        message = MessageV0.try_compile(signers[0].pubkey(), [budget, *instructions], [], blockhash)
        result = side.cluster.execute(VersionedTransaction(message, list(signers)))
        code = None
        if isinstance(result.err, dict):
            detail = result.err["InstructionError"][1]
            code = detail.get("Custom") if isinstance(detail, dict) else -1
        return Outcome(code, result.err, _events(result.logs), tuple(result.logs), result.units)

    def advance(self, slots: int = 1, *, seconds: int | None = None) -> None:
        """Let slots pass on every side."""
        for side in self.sides:
            if seconds is None:
                side.cluster.advance(slots)
            else:
                side.cluster.warp(slots, seconds=seconds)

    def control(self, act: Callable[[Controls], None]) -> None:
        """Use the controls of every side."""
        for side in self.sides:
            act(side.controls)

    def edit(self, layout: type[Layout], key: Pubkey, path: str, value: int) -> None:
        """Change one field of an account on every side."""
        offset, size = layout.offset_of(path)
        for side in self.sides:
            account = side.cluster.account(key)
            assert account is not None
            data = bytearray(account.data)
            data[8 + offset : 8 + offset + size] = value.to_bytes(size, "little", signed=value < 0)
            side.cluster.set_account(key, Account(account.lamports, bytes(data), account.owner))

    def fund(self, key: Pubkey, lamports: int) -> None:
        """Give an address lamports on every side."""
        for side in self.sides:
            side.cluster.set_account(key, Account(lamports, b"", SYSTEM_PROGRAM))

    def compare(self) -> None:
        """Require every account of program, oracles, tokens and wallets to be the same on every side."""
        known = {key for side in self.sides for key, _ in side.cluster.accounts_by_owner(DRIFT_PROGRAM)}
        world = self.world
        for trader in (world.trader_account, world.maker, world.keeper):
            known |= {trader.token_account, trader.wallet.pubkey()}
        for key in {*known, world.spot_vault, world.usdc_oracle} - {DRIFT_PROGRAM}:
            states = [side.cluster.account(key) for side in self.sides]
            for state in states[1:]:
                assert state is not None
                assert states[0] is not None
                assert bytes(states[0].data) == bytes(state.data), f"{key}: {_difference(states[0], state)}"
                assert (states[0].lamports, states[0].owner) == (state.lamports, state.owner), str(key)

    # Instructions

    def remaining(self, writable: int | None = None, *, spot: bool = False) -> list[AccountMeta]:
        metas = remaining_accounts(self.world, writable=writable)
        if not spot:
            return metas
        return [meta(each.pubkey, writable=each.is_writable or each.pubkey == self.world.spot_market) for each in metas]

    def _user_metas(self, trader: Trader, *, stats: bool) -> list[AccountMeta]:
        metas = [meta(self.world.state), meta(trader.user, writable=True)]
        metas += [meta(trader.user_stats, writable=True)] if stats else []
        return [*metas, meta(trader.wallet.pubkey(), signer=True)]

    def _call(self, name: str, data: bytes, metas: list[AccountMeta]) -> Instruction:
        return Instruction(self.world.program_id, instruction_discriminator(name) + data, metas)

    def take(self, params: OrderParams, trader: Trader | None = None, *, makers: Sequence[Trader] = ()) -> Instruction:
        trader = trader or self.world.trader_account
        pairs = [meta(key, writable=True) for maker in makers for key in (maker.user, maker.user_stats)]
        metas = [*self._user_metas(trader, stats=True), *self.remaining(params.market_index), *pairs]
        return self._call("place_and_take_perp_order", encode_order_params(params) + b"\0", metas)

    def place(self, params: OrderParams, trader: Trader | None = None) -> Instruction:
        trader = trader or self.world.trader_account
        metas = [*self._user_metas(trader, stats=False), *self.remaining()]
        return self._call("place_perp_order", encode_order_params(params), metas)

    def cancel(self, order_id: int | None, trader: Trader | None = None) -> Instruction:
        trader = trader or self.world.trader_account
        data = b"\0" if order_id is None else b"\1" + struct.pack("<I", order_id)
        return self._call("cancel_order", data, [*self._user_metas(trader, stats=False), *self.remaining()])

    def cancel_all(self, filters: bytes = b"\0\0\0", trader: Trader | None = None) -> Instruction:
        trader = trader or self.world.trader_account
        return self._call("cancel_orders", filters, [*self._user_metas(trader, stats=False), *self.remaining()])

    def fill(
        self, order_id: int, trader: Trader | None = None, *, index: int = 0, makers: Sequence[Trader] = ()
    ) -> Instruction:
        pairs = [meta(key, writable=True) for maker in makers for key in (maker.user, maker.user_stats)]
        return fill_perp_order(
            self.world.program_id, self._fill_accounts(trader), [*self.remaining(index), *pairs], order_id
        )

    def trigger(self, order_id: int, trader: Trader | None = None, *, index: int = 0) -> Instruction:
        accounts = self._fill_accounts(trader)
        return trigger_order(self.world.program_id, accounts, self.remaining(index), order_id)

    def _fill_accounts(self, trader: Trader | None) -> FillAccounts:
        trader, keeper = trader or self.world.trader_account, self.world.keeper
        return FillAccounts(
            authority=keeper.wallet.pubkey(),
            filler=keeper.user,
            filler_stats=keeper.user_stats,
            user=trader.user,
            user_stats=trader.user_stats,
        )

    def funds(self, name: str, amount: int, trader: Trader | None = None, *, reduce_only: bool = False) -> Instruction:
        """Return `deposit` or `withdraw` of USDC (1e6)."""
        trader = trader or self.world.trader_account
        middle = [meta(self.world.spot_vault, writable=True)]
        middle += [meta(self.world.signer)] if name == "withdraw" else []
        middle += [meta(trader.token_account, writable=True), meta(TOKEN_PROGRAM)]
        metas = [*self._user_metas(trader, stats=True), *middle, *self.remaining(spot=True)]
        return self._call(name, struct.pack("<HQ?", 0, amount, reduce_only), metas)

    def settle(self, index: int = 0, trader: Trader | None = None, *, by: Keypair | None = None) -> Instruction:
        trader = trader or self.world.trader_account
        authority = (by or trader.wallet).pubkey()
        head = [meta(self.world.state), meta(trader.user, writable=True), meta(authority, signer=True)]
        metas = [*head, meta(self.world.spot_vault), *self.remaining(index, spot=True)]
        return self._call("settle_pnl", struct.pack("<H", index), metas)

    def initialize_stats(self, wallet: Keypair) -> Instruction:
        target = user_stats_address(self.world.program_id, wallet.pubkey())
        return self._call("initialize_user_stats", b"", [meta(target, writable=True), *self._init_metas(wallet)])

    def initialize_user(self, wallet: Keypair, sub_account: int = 0) -> Instruction:
        target = user_address(self.world.program_id, wallet.pubkey(), sub_account)
        stats = user_stats_address(self.world.program_id, wallet.pubkey())
        metas = [meta(target, writable=True), meta(stats, writable=True), *self._init_metas(wallet)]
        return self._call("initialize_user", struct.pack("<H32s", sub_account, b"Main".ljust(32)), metas)

    def _init_metas(self, wallet: Keypair) -> list[AccountMeta]:
        key = wallet.pubkey()
        metas = [meta(self.world.state, writable=True), meta(key, signer=True), meta(key, signer=True, writable=True)]
        return [*metas, meta(RENT_SYSVAR), meta(SYSTEM_PROGRAM)]


def _difference(one: Account, other: Account) -> list[str]:
    for layout in LAYOUTS:
        if bytes(one.data[:8]) == account_discriminator(layout.__name__):
            return list(
                _fields(layout.decode(bytes(one.data), 8), layout.decode(bytes(other.data), 8), layout.__name__)
            )
    return ["data"]


def _fields(one: Layout, other: Layout, path: str) -> list[str]:
    found: list[str] = []
    for each in one.fields():
        left, right = getattr(one, each.name), getattr(other, each.name)
        where = f"{path}.{each.name}"
        if each.kind == "array":
            for index, (a, b) in enumerate(zip(left, right, strict=True)):
                found += _fields(a, b, f"{where}.{index}")
        elif each.kind == "struct":
            found += _fields(left, right, where)
        elif left != right:
            found.append(f"{where}: model {left}, program {right}")
    return found


def limit(side: int, base: int, price: int, **more: object) -> OrderParams:
    """Return a limit order on SOL-PERP: side 0 long, 1 short; base in 1e9, price in 1e6."""
    fields = {"market_index": 0, **more}
    return OrderParams(order_type=1, direction=side, base_asset_amount=base, price=price, **fields)  # type: ignore[arg-type]


def market_order(side: int, base: int, **more: object) -> OrderParams:
    """Return a market order on SOL-PERP."""
    fields = {"market_index": 0, **more}
    return OrderParams(order_type=0, direction=side, base_asset_amount=base, **fields)  # type: ignore[arg-type]


def trigger(side: int, base: int, price: int, *, above: bool, **more: object) -> OrderParams:
    """Return a reduce-only trigger market order on SOL-PERP."""
    fields = {"reduce_only": True, "trigger_price": price, **more}
    order = limit(side, base, 0, trigger_condition=0 if above else 1, **fields)
    order.order_type = 2
    return order


def changed(
    instruction: Instruction,
    *,
    at: int | None = None,
    to: AccountMeta | None = None,
    data: bytes | None = None,
    dropped: int | None = None,
    kept: int | None = None,
) -> Instruction:
    """Return the instruction with one account replaced or dropped, cut after some, or with other data."""
    metas = list(instruction.accounts)
    if at is not None and to is not None:
        metas[at] = to
    if dropped is not None:
        del metas[dropped]
    if kept is not None:
        metas = metas[:kept]
    return Instruction(instruction.program_id, bytes(instruction.data) if data is None else data, metas)
