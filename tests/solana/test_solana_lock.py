"""The order lock over a real runtime: terms, holders among strangers, rent that changes, and getting the rent back."""

from __future__ import annotations

from itertools import count

import msgspec
import pytest
from solders.keypair import Keypair

from providers.base.errors import FeePayerShort
from providers.base.protocol import OrderLock
from providers.base.types import LockRef, LockTerms, Purpose
from providers.solana.cluster import SolanaCluster
from providers.solana.lock import RECLAIM_BATCH, lock_address
from providers.solana.proofs import Landed
from providers.solana.signer import KeypairSigner
from tests.solana.solana_world import SETTINGS, VENUE, WALLET, Json, World, run_world, terms_of


async def held_locks(world: World, number: int) -> list[LockRef]:
    """Return the locks of orders that were filled, all landed."""
    locks = [await world.lock() for _ in range(number)]
    for lock in locks:
        await world.solana.sender.submit(await world.attempt(lock))
    await world.slots(3)
    return locks


def balance(world: World, lock: LockRef) -> int:
    """Return what a lock holds now."""
    account = world.chain.account(lock_address(lock))
    return 0 if account is None else account.lamports


def test_terms_are_random_fixed_and_bound_to_our_key() -> None:
    """Two orders never share a lock; base key and rent minimum are those of now; parts and generations differ."""

    async def story(world: World) -> None:
        one, other = await world.solana.lock.new_terms(), await world.solana.lock.new_terms()
        assert one.nonce != other.nonce
        assert len(one.nonce) == 26
        assert (one.base, one.base_lamports) == (str(WALLET.pubkey()), 890_880)
        refs = [LockRef(terms=one, part=part, generation=step) for part in (0, 1, 31) for step in (0, 1, 32, 1000)]
        assert len({lock_address(ref) for ref in refs}) == len(refs)
        assert all(len(ref.seed) == 32 for ref in refs)

    run_world(story)


def test_a_generation_is_its_own_domain() -> None:
    """A held generation leaves the next one free, so that an attempt in it can execute."""

    async def story(world: World) -> None:
        first = await world.lock()
        second = LockRef(terms=first.terms, part=0, generation=1)
        await world.solana.lock.submit(await world.solana.lock.prepare_fence(first))
        await world.slots(3)
        assert (await world.solana.lock.state(first)).held is True
        assert (await world.solana.lock.state(second)).held is False
        submission = await world.attempt(second, 2)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story)


def test_a_failed_attempt_leaves_the_lock_free_and_is_no_holder() -> None:
    """What landed with an error holds nothing: the generation is free, and a sibling that executes is its holder."""

    async def story(world: World) -> None:
        lock = await world.lock()
        failing = await world.attempt(lock, lamports=50_000_000_000)
        sibling = await world.attempt(lock, 2)
        spending = await world.attempt(None, lamports=60_000_000_000)
        for each in (spending, failing):
            await world.solana.sender.submit(each)
        await world.slots(3)
        assert (await world.solana.lock.state(lock, (failing.handle,))).held is False
        await world.solana.sender.submit(sibling)
        await world.slots(3)
        for known in ((), (failing.handle, sibling.handle)):
            assert (await world.solana.lock.state(lock, known)).holder == sibling.handle

    run_world(story)


def test_the_holder_is_found_behind_more_than_a_page_of_dust() -> None:
    """A thousand strangers' gifts after the landing fill the newest page of history; the holder is on the next."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        await world.solana.sender.submit(submission)
        await world.slots(2)
        for lamports in range(1, 1_003):
            world.stranger_pays(lock_address(lock), lamports)
        await world.slots(3)
        node = world.transports[0]
        node.asked.clear()
        state = await world.solana.lock.state(lock)
        assert (state.held, state.holder) == (True, submission.handle)
        assert node.asked.count("getSignaturesForAddress") == 2

    run_world(story)


def test_an_endless_history_is_given_up_as_unproven() -> None:
    """A history longer than anybody would look through names no holder, instead of a wrong one."""

    async def story(world: World) -> None:
        lock = await world.lock()
        submission = await world.attempt(lock)
        await world.solana.sender.submit(submission)
        await world.slots(3)
        numbers = count()

        def endless(_: Json, params: list[Json]) -> Json:
            return [{"signature": f"{next(numbers):088d}", "slot": 1, "err": None} for _ in range(params[1]["limit"])]

        world.transports[0].lies = {"getSignaturesForAddress": endless}
        assert (await world.solana.lock.state(lock)).held is None
        # Our own signature is looked at first, so the holder is known all the same.
        assert (await world.solana.lock.state(lock, (submission.handle,))).holder == submission.handle

    run_world(story)


def test_dust_in_the_wallets_history_does_not_matter() -> None:
    """Gifts to the wallet before, between and after: the holder is looked for at the lock, not in the wallet."""

    async def story(world: World) -> None:
        lock = await world.lock()
        dust = [world.stranger_pays(WALLET.pubkey(), lamports) for lamports in range(1, 20)]
        submission = await world.attempt(lock)
        assert (await world.solana.lock.state(lock, dust)).held is False
        await world.solana.sender.submit(submission)
        await world.slots(1)
        dust += [world.stranger_pays(WALLET.pubkey(), lamports) for lamports in range(20, 40)]
        await world.slots(2)
        assert (await world.solana.lock.state(lock, dust)).holder == submission.handle
        assert isinstance(await world.solana.proofs.examine(submission, dust), Landed)

    run_world(story)


def test_rent_that_falls_between_attempts_changes_nothing_of_the_order() -> None:
    """The rent minimum of the order's first day is used for all of it; a gift below it still makes a holder."""

    async def story(world: World) -> None:
        lock = await world.lock()
        first = await world.attempt(lock)
        world.chain.set_rent(1_740)
        await world.slots(2)
        second = await world.attempt(lock, 2)
        assert (await world.solana.lock.new_terms()).base_lamports == 445_440
        await world.solana.sender.submit(second)
        await world.solana.sender.submit(first)
        await world.slots(3)
        assert balance(world, lock) == 890_880 + 2
        assert (await world.solana.lock.state(lock)).holder == second.handle
        assert world.venue_fills() == 1
        other = await world.lock()
        gift = world.stranger_pays(lock_address(other), 500_000)
        await world.slots(3)
        assert (await world.solana.lock.state(other)).holder == gift
        reclaim = await world.solana.lock.prepare_reclaim([lock])
        assert reclaim is not None
        await world.solana.lock.submit(reclaim)
        await world.slots(2)
        assert balance(world, lock) == 0

    run_world(story)


def test_rent_above_what_the_order_set_aside_is_refused_before_sending() -> None:
    """When rent rises above the lock's lamports the simulation refuses, and a new order's terms are enough again."""

    async def story(world: World) -> None:
        lock = await world.lock()
        world.chain.set_rent(6_960)
        await world.slots(2)
        with pytest.raises(FeePayerShort):
            await world.attempt(lock)
        submission = await world.attempt(await world.lock())
        await world.solana.sender.submit(submission)
        await world.slots(3)
        assert isinstance(await world.solana.proofs.examine(submission), Landed)

    run_world(story)


def test_reclaim_returns_the_lamports_of_many_locks_in_one_transaction() -> None:
    """All held locks come back to the wallet, gifts included; afterwards there is nothing to reclaim."""

    async def story(world: World) -> None:
        locks = await held_locks(world, 5)
        world.stranger_pays(lock_address(locks[0]), 12_345)
        free = await world.lock()
        await world.slots(2)
        submission = await world.solana.lock.prepare_reclaim([*locks, free])
        assert submission is not None
        assert submission.purpose is Purpose.RECLAIM
        before = world.chain.account(WALLET.pubkey())
        await world.solana.lock.submit(submission)
        await world.slots(3)
        after = world.chain.account(WALLET.pubkey())
        assert before is not None
        assert after is not None
        assert [balance(world, lock) for lock in locks] == [0] * 5
        gained = after.lamports - before.lamports
        assert gained == 5 * (890_880 + 1) + 12_345 - 5_000 - fee_of(world, submission.handle)
        assert await world.solana.lock.prepare_reclaim(locks) is None
        assert await world.solana.lock.landed(submission) is None
        await world.slots(40)
        assert await world.solana.lock.landed(submission) is True

    run_world(story)


def fee_of(world: World, signature: str) -> int:
    """Return the priority part of the fee of a landed transaction."""
    landed = world.chain.transaction(signature)
    assert landed is not None
    return landed.fee - 5_000


def test_lamports_added_meanwhile_make_reclaim_read_the_amounts_anew() -> None:
    """A gift between reading and simulating would leave a lock below rent: the second reading takes it along."""

    async def story(world: World) -> None:
        locks = await held_locks(world, 3)
        node = world.transports[0]

        def gift() -> None:
            node.before.clear()
            world.stranger_pays(lock_address(locks[1]), 7)
            world.chain.advance(2)

        node.before = {"simulateTransaction": gift}
        submission = await world.solana.lock.prepare_reclaim(locks)
        assert submission is not None
        await world.solana.lock.submit(submission)
        await world.slots(2)
        assert [balance(world, lock) for lock in locks] == [0] * 3

    run_world(story)


def test_one_lock_that_cannot_be_reclaimed_does_not_hold_back_the_others() -> None:
    """A lock that gets a gift before every simulation stays; the rest are returned."""

    async def story(world: World) -> None:
        locks = await held_locks(world, 3)
        amounts = count(1)

        def gift() -> None:
            world.stranger_pays(lock_address(locks[0]), next(amounts))
            world.chain.advance(2)

        node = world.transports[0]
        node.before = {"simulateTransaction": gift}
        submission = await world.solana.lock.prepare_reclaim(locks)
        node.before = {}
        assert submission is not None
        await world.solana.lock.submit(submission)
        await world.slots(2)
        assert balance(world, locks[0]) > 890_880
        assert [balance(world, lock) for lock in locks[1:]] == [0, 0]
        assert await world.solana.lock.prepare_reclaim(locks) is not None

    run_world(story)


def test_more_locks_than_fit_are_taken_in_turns() -> None:
    """One transaction takes a batch that fits a packet; the next call takes what is left."""

    async def story(world: World) -> None:
        locks = await held_locks(world, RECLAIM_BATCH + 2)
        for left in (2, 0):
            submission = await world.solana.lock.prepare_reclaim(locks)
            assert submission is not None
            await world.solana.lock.submit(submission)
            await world.slots(2)
            assert sum(balance(world, lock) > 0 for lock in locks) == left
        assert await world.solana.lock.prepare_reclaim(locks) is None

    run_world(story)


def test_a_reclaim_that_expires_is_known_not_to_have_landed() -> None:
    """A reclaim that never arrived is `landed=False` once it has expired, and can be made again."""

    async def story(world: World) -> None:
        locks = await held_locks(world, 1)
        submission = await world.solana.lock.prepare_reclaim(locks)
        assert submission is not None
        world.fault("dropped_before", method="sendTransaction")
        await world.solana.lock.submit(submission)
        await world.slots(10)
        assert await world.solana.lock.landed(submission) is None
        await world.slots(260)
        assert await world.solana.lock.landed(submission) is False
        assert await world.solana.lock.prepare_reclaim(locks) is not None

    run_world(story)


def test_locks_of_another_key_are_left_alone() -> None:
    """Reclaim takes only what our key can sign for."""

    async def story(world: World) -> None:
        theirs = LockRef(terms=terms_of(VENUE), part=0, generation=0)
        world.chain.airdrop(lock_address(theirs), 1_000_000)
        await world.slots(2)
        assert await world.solana.lock.prepare_reclaim([theirs]) is None

    run_world(story)


def test_a_wallet_below_reserve_lock_and_fees_says_what_it_is_short_of() -> None:
    """Short of one open: the amount is named; with enough, or without a key, nothing is."""

    async def story(world: World) -> None:
        lock: OrderLock = world.solana.lock
        assert await lock.shortage() is None
        poor = Keypair()
        cluster = SolanaCluster(world.solana.pool, KeypairSigner(bytes(poor)), world.clock, SETTINGS)
        assert "has 0 lamports" in (await cluster.lock.shortage() or "")
        world.chain.airdrop(poor.pubkey(), SETTINGS.sol_reserve_lamports)
        await world.slots(2)
        assert str(SETTINGS.sol_reserve_lamports) in (await cluster.lock.shortage() or "")
        world.chain.airdrop(poor.pubkey(), SETTINGS.sol_reserve_lamports)
        await world.slots(2)
        assert await cluster.lock.shortage() is None
        assert await SolanaCluster(world.solana.pool, None, world.clock, SETTINGS).lock.shortage() is None

    run_world(story)


def test_a_lock_survives_the_journal() -> None:
    """Terms and reference go through JSON unchanged, and name the same address."""
    ref = LockRef(
        terms=LockTerms(base=str(WALLET.pubkey()), nonce="b" * 26, base_lamports=890_880), part=3, generation=9
    )
    again = msgspec.json.decode(msgspec.json.encode(ref), type=LockRef)
    assert again == ref
    assert lock_address(again) == lock_address(ref)
