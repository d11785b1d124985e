"""What our key has signed: told from what merely names it, oldest first, and never with a hole."""

from __future__ import annotations

import pytest
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed

from providers.base.errors import BadAnswer, LiveTradingOff, NodeBehind
from providers.solana import account_history
from providers.solana.settings import SolanaSettings
from providers.solana.signer import KeypairSigner
from providers.solana.signer_history import SolanaSignerHistory
from tests.solana.solana_world import SOL, VENUE, WALLET, Json, World, pay, run_world, signed


def we_pay(world: World, lamports: int, key: Keypair = WALLET) -> str:
    """Send a transfer with our key, past the router."""
    blockhash = world.chain.latest_blockhash()
    result = world.chain.execute(signed(key, blockhash, pay(key.pubkey(), VENUE, lamports)))
    assert result.ok, result.err
    return result.signature


async def seen(world: World, slots: int = 3) -> int:
    """Let what happened become confirmed on every node, and return a slot that has it."""
    await world.slots(slots)
    return await world.solana.all_nodes.slot("confirmed")


def test_signed_by_us_and_not_what_names_us() -> None:
    """A stranger's gift names the key and is not ours; our own transfers are, oldest first."""

    async def story(world: World) -> None:
        start = we_pay(world, 1)
        through = await seen(world)
        history = world.solana.signer_history
        assert await history.own_transactions(None, through) == ((), start)
        first = we_pay(world, 2)
        gift = world.stranger_pays(WALLET.pubkey(), 5)
        await world.slots(1)
        second = we_pay(world, 3)
        last_gift = world.stranger_pays(WALLET.pubkey(), 6)
        through = await seen(world)
        found = await history.own_transactions(start, through)
        assert found == ((first, second), last_gift)
        assert gift not in found[0]
        assert await history.own_transactions(last_gift, through) == ((), last_gift)

    run_world(story, nodes=2)


def test_the_first_transaction_of_a_new_key_is_told() -> None:
    """A key without any history has a mark too: what it signs next is told, however long nobody looked."""

    async def story(world: World) -> None:
        key = Keypair.from_seed(bytes([9] * 32))
        # Its lamports are there since the chain began: no transaction ever named it.
        world.chain.set_account(key.pubkey(), Account(SOL, b"", Pubkey.default()))
        history = SolanaSignerHistory(world.solana.all_nodes, KeypairSigner(bytes(key)), world.solana.settings)
        own, mark = await history.own_transactions(None, await seen(world))
        assert own == ()
        assert mark is not None
        assert await history.own_transactions(mark, await seen(world)) == ((), mark)
        first, second = we_pay(world, 1, key), we_pay(world, 2, key)
        through = await seen(world)
        assert await history.own_transactions(mark, through) == ((first, second), second)
        assert await history.own_transactions(None, through) == ((), second)

    run_world(story, nodes=2)


def test_failed_transaction_of_ours_is_told() -> None:
    """A transaction of our key that landed with an error paid its fees: it is among those that landed."""

    async def story(world: World) -> None:
        start = we_pay(world, 1)
        await world.slots(1)
        seed = "taken"
        place = Pubkey.create_with_seed(WALLET.pubkey(), seed, Pubkey.default())
        take = create_account_with_seed(
            CreateAccountWithSeedParams(
                from_pubkey=WALLET.pubkey(),
                to_pubkey=place,
                base=WALLET.pubkey(),
                seed=seed,
                lamports=10**6,
                space=0,
                owner=Pubkey.default(),
            )
        )
        assert world.chain.execute(signed(WALLET, world.chain.latest_blockhash(), take)).ok
        taken = world.chain.execute(
            signed(WALLET, world.chain.latest_blockhash(), take, pay(WALLET.pubkey(), VENUE, 1))
        )
        assert not taken.ok
        through = await seen(world)
        own, newest = await world.solana.signer_history.own_transactions(start, through)
        assert own[-1] == newest == taken.signature
        assert len(own) == 2

    run_world(story)


def test_later_slots_are_left_for_the_next_time() -> None:
    """Nothing of a slot beyond the asked one is told, nor is it passed over."""

    async def story(world: World) -> None:
        start = we_pay(world, 1)
        first = we_pay(world, 2)
        through = await seen(world)
        await world.slots(2)
        second = we_pay(world, 3)
        later = await seen(world)
        history = world.solana.signer_history
        assert await history.own_transactions(start, through) == ((first,), first)
        assert await history.own_transactions(first, later) == ((second,), second)
        assert await history.own_transactions(None, through) == ((), first)

    run_world(story)


def test_pages_and_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history is listed by pages and read in bounded parts, each going on where the last one ended."""
    monkeypatch.setattr(account_history, "_FIRST_PAGE", 2)
    monkeypatch.setattr(account_history, "_PAGE", 3)

    async def story(world: World) -> None:
        start = we_pay(world, 1)
        sent: list[str] = []
        for lamports in range(10, 20):
            sent.append(we_pay(world, lamports))
            world.stranger_pays(WALLET.pubkey(), lamports)
        through = await seen(world)
        history = SolanaSignerHistory(world.solana.all_nodes, world.signer, world.solana.settings, most_transactions=7)
        found: list[str] = []
        mark: str | None = start
        for _ in range(3):
            own, mark = await history.own_transactions(mark, through)
            found.extend(own)
        assert found == sent
        asked = sum(transport.asked.count("getSignaturesForAddress") for transport in world.transports)
        assert asked > 6

    run_world(story)


def test_mark_not_in_history_is_refused() -> None:
    """A history that does not reach back to the known transaction is never told as if it were whole."""

    async def story(world: World) -> None:
        we_pay(world, 1)
        foreign = world.stranger_pays(VENUE, 7)
        through = await seen(world)
        with pytest.raises(BadAnswer):
            await world.solana.signer_history.own_transactions(foreign, through)

    run_world(story, nodes=2)


def test_one_node_that_leaves_something_out_is_not_believed() -> None:
    """Where two nodes list different histories, nothing is told; once they agree, everything is."""

    async def story(world: World) -> None:
        start = we_pay(world, 1)
        hidden = we_pay(world, 2)
        through = await seen(world)

        def without(result: Json, _: list[Json]) -> Json:
            return [line for line in result if line["signature"] != hidden]

        world.transports[1].lies["getSignaturesForAddress"] = without
        with pytest.raises(BadAnswer):
            await world.solana.signer_history.own_transactions(start, through)
        world.transports[1].lies.clear()
        assert await world.solana.signer_history.own_transactions(start, through) == ((hidden,), hidden)

    run_world(story, nodes=2)


def test_node_that_is_behind_is_said() -> None:
    """No node that has reached the asked slot: an error, not an empty history."""

    async def story(world: World) -> None:
        start = we_pay(world, 1)
        through = await seen(world)
        for mark in (None, start):
            with pytest.raises(NodeBehind):
                await world.solana.signer_history.own_transactions(mark, through + 1_000)

    run_world(story)


def test_without_a_key_nothing_is_asked() -> None:
    """A service that only quotes has signed nothing, and says why it cannot tell."""

    async def story(world: World) -> None:
        history = SolanaSignerHistory(world.solana.all_nodes, None, SolanaSettings())
        with pytest.raises(LiveTradingOff):
            await history.own_transactions(None, 0)

    run_world(story)
