"""Slots, block heights, block times and blockhashes, all computed from a few anchors.

Nothing is stored per slot: a blockhash is the hash of the genesis hash and the slot, heights and times run evenly
inside a segment. A warp, a restart or a fork begins a new segment. So a restart knows every blockhash again.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec
from solders.hash import Hash

__all__ = ["MAX_PROCESSING_AGE", "Segment", "Timeline"]

MAX_PROCESSING_AGE = 150  # blocks that a blockhash stays good for (solana_clock::MAX_PROCESSING_AGE)
_REMEMBERED = 512  # slots whose blockhashes can be looked up: the valid ones and those of lagging views


class Segment(msgspec.Struct, kw_only=True):
    """An unbroken run of blocks, one per slot.

    Attributes:
        start_slot, start_height: of its first block.
        start_time_ms: block time of its first block, in milliseconds of Unix time.
        end_slot: its last block; null while it grows.
    """

    start_slot: int
    start_height: int
    start_time_ms: int
    end_slot: int | None = None


class Timeline:
    """Where the chain is, and what every retained slot was."""

    def __init__(self, genesis: Hash, segments: list[Segment], slot: int, slot_time_ms: int) -> None:
        self.genesis = genesis
        self.segments = segments
        self.slot = slot
        self.slot_time_ms = slot_time_ms
        self._slots: dict[Hash, int] = {}
        self._hashes: dict[int, Hash] = {}
        self._remember(slot)

    @property
    def first_slot(self) -> int:
        """The first slot of the first retained segment."""
        return self.segments[0].start_slot

    def block_slot(self, slot: int) -> int:
        """Return the newest slot at or before `slot` that has a block (never before the first)."""
        segment = self._segment(slot)
        end = self.slot if segment.end_slot is None else segment.end_slot
        return max(min(slot, end), segment.start_slot)

    def height(self, slot: int) -> int:
        """Return the block height at `slot`."""
        segment = self._segment(slot)
        return segment.start_height + self.block_slot(slot) - segment.start_slot

    def time_ms(self, slot: int) -> int:
        """Return the block time at `slot` in milliseconds of Unix time."""
        segment = self._segment(slot)
        return segment.start_time_ms + (self.block_slot(slot) - segment.start_slot) * self.slot_time_ms

    def blockhash(self, slot: int) -> Hash:
        """Return the blockhash of the newest block at or before `slot`."""
        slot = self.block_slot(slot)
        known = self._hashes.get(slot)
        return Hash.hash(bytes(self.genesis) + slot.to_bytes(8, "little")) if known is None else known

    def slot_of(self, blockhash: Hash) -> int | None:
        """Return the slot of a remembered blockhash that is still on this chain."""
        slot = self._slots.get(blockhash)
        return slot if slot is not None and slot <= self.slot and self.block_slot(slot) == slot else None

    def last_valid_height(self, slot: int) -> int:
        """Return the last block height at which the blockhash of `slot` may be used."""
        return self.height(slot) + MAX_PROCESSING_AGE

    def is_valid(self, blockhash: Hash, at_slot: int) -> bool:
        """Whether a transaction with `blockhash` may run in a bank at `at_slot`."""
        slot = self.slot_of(blockhash)
        return slot is not None and slot <= at_slot and self.height(at_slot) <= self.last_valid_height(slot)

    def tick(self) -> int:
        """Begin the next slot and return it."""
        self.slot += 1
        self._remember_one(self.slot)
        return self.slot

    def jump(self, slots: int, *, time_ms: int | None = None, blocks: bool = True) -> None:
        """Move `slots` ahead (at least one) into a new segment.

        Args:
            slots: how many slots.
            time_ms: block time of the new slot; by default the time that the slots would have taken. Never back.
            blocks: whether each slot passed has a block; otherwise they were skipped and only one block is added.
        """
        slots = max(slots, 1)
        target = self.slot + slots
        now_ms = self.time_ms(self.slot)
        height = self.height(self.slot) + (slots if blocks else 1)
        new_time = now_ms + slots * self.slot_time_ms if time_ms is None else max(time_ms, now_ms)
        current = self.segments[-1]
        current.end_slot = target - 1 if blocks else self.slot
        self.segments.append(Segment(start_slot=target, start_height=height, start_time_ms=new_time))
        self.slot = target
        self._remember(target)

    def fork(self, to_slot: int) -> None:
        """Drop the blocks after `to_slot`; the chain goes on at the next slot number with the next height."""
        height, time_ms = self.height(to_slot), self.time_ms(self.slot)
        to_slot = self.block_slot(to_slot)
        self.segments = [segment for segment in self.segments if segment.start_slot <= to_slot]
        self.segments[-1].end_slot = to_slot
        self.slot += 1
        self.segments.append(
            Segment(start_slot=self.slot, start_height=height + 1, start_time_ms=time_ms + self.slot_time_ms)
        )
        self._remember(self.slot)

    def advance_to(self, slot: int) -> None:
        """Tick until `slot`; does nothing when it is past."""
        if slot > self.slot:
            self.slot = slot
            self._remember(slot)

    def adopt(self, segments: list[Segment]) -> None:
        """Take over segments that another timeline of the same chain had at this slot."""
        self.segments = segments
        self._remember(self.slot)

    def prune(self, before_slot: int) -> None:
        """Forget segments that ended before `before_slot`."""
        while len(self.segments) > 1 and self.segments[1].start_slot <= before_slot:
            self.segments.pop(0)

    def _segment(self, slot: int) -> Segment:
        if slot >= self.segments[-1].start_slot or len(self.segments) == 1:
            return self.segments[-1]
        index = bisect_right(self.segments, slot, key=lambda segment: segment.start_slot)
        return self.segments[max(index - 1, 0)]

    def _remember(self, slot: int) -> None:
        for each in range(max(slot - _REMEMBERED, self.first_slot), slot + 1):
            self._remember_one(each)

    def _remember_one(self, slot: int) -> None:
        if slot in self._hashes:
            return
        blockhash = Hash.hash(bytes(self.genesis) + slot.to_bytes(8, "little"))
        self._hashes[slot] = blockhash
        self._slots[blockhash] = slot
        old = next(iter(self._hashes))
        if old < slot - 2 * _REMEMBERED:
            self._slots.pop(self._hashes.pop(old), None)
