"""The cluster's state on disk: a snapshot and a log of what came after it.

A landed transaction is in the log, synced, before it is answered. Each record carries its length and checksum; what a
kill left half written at the end is cut off on the next start. A full log becomes a new snapshot.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path

import msgspec

from router.localnet.history import Landed
from router.localnet.timeline import Segment

__all__ = ["Entry", "Journal", "Snapshot", "StoredAccount"]

_COMPACT_AT_BYTES = 64 * 1024 * 1024
_HEADER = 8  # u32 length, u32 CRC-32


class StoredAccount(msgspec.Struct, frozen=True, array_like=True):
    """An account as written; zero lamports marks one that was closed."""

    key: bytes
    lamports: int
    data: bytes
    owner: bytes
    executable: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change. `fork_to` takes back what came after that slot."""

    slot: int
    accounts: tuple[StoredAccount, ...] = ()
    landed: Landed | None = None
    fork_to: int | None = None
    segments: tuple[Segment, ...] = ()
    lamports_per_byte_year: int | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment."""

    genesis: bytes
    slot: int
    segments: tuple[Segment, ...]
    lamports_per_byte_year: int
    accounts: tuple[StoredAccount, ...]
    landed: tuple[Landed, ...]


_ENCODER = msgspec.msgpack.Encoder()
_ENTRY = msgspec.msgpack.Decoder(Entry)
_SNAPSHOT = msgspec.msgpack.Decoder(Snapshot)


class Journal:
    """One cluster's directory: `<n>.snapshot`, `<n>.log`, and `slot`.

    Raises `BlockingIOError` when another process (or an unclosed cluster of this one) holds the directory.
    """

    def __init__(self, directory: Path, *, reset: bool = False) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._slot_file = os.open(directory / "slot", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._slot_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._slot_file)
            raise BlockingIOError(f"another cluster is running on {directory}") from None
        self._number = 0
        self._log: int | None = None
        self._log_bytes = 0
        if reset:
            os.ftruncate(self._slot_file, 0)
            # Logs last: without its snapshot a log is never read.
            for pattern in ("*.snapshot", "*.part", "*.log"):
                for path in directory.glob(pattern):
                    path.unlink()

    @property
    def full(self) -> bool:
        """Whether the log has grown enough to be worth a snapshot."""
        return self._log_bytes > _COMPACT_AT_BYTES

    def load(self) -> tuple[Snapshot, list[Entry], int] | None:
        """Return the last snapshot, what came after it, and the last slot; null in a new directory."""
        numbers = sorted((int(path.stem) for path in self._directory.glob("*.snapshot")), reverse=True)
        if not numbers:
            return None
        self._number = numbers[0]
        records, _ = _records((self._directory / f"{self._number}.snapshot").read_bytes())
        snapshot = _SNAPSHOT.decode(records[0])
        path = self._log_path()
        raw = path.read_bytes() if path.exists() else b""
        records, good = _records(raw)
        self._open_log()
        if self._log is not None:
            os.ftruncate(self._log, good)
        self._log_bytes = good
        entries = [_ENTRY.decode(each) for each in records]
        last = int.from_bytes(os.pread(self._slot_file, 8, 0), "little")
        return snapshot, entries, max([last, snapshot.slot, *(entry.slot for entry in entries)])

    def append(self, entry: Entry, *, sync: bool) -> None:
        """Write one change; with `sync` it is on the disk before this returns."""
        if self._log is None:
            raise RuntimeError("the journal is closed")
        record = _framed(_ENCODER.encode(entry))
        if os.write(self._log, record) != len(record):
            os.ftruncate(self._log, self._log_bytes)
            raise OSError("the disk under the localnet's state is full")
        self._log_bytes += len(record)
        if sync:
            os.fdatasync(self._log)

    def mark_slot(self, slot: int) -> None:
        """Note the slot, so that no restart begins before it."""
        os.pwrite(self._slot_file, slot.to_bytes(8, "little"), 0)

    def compact(self, snapshot: Snapshot) -> None:
        """Begin a new log after `snapshot`."""
        old = self._number
        target = self._directory / f"{old + 1}.snapshot"
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            file.write(_framed(_ENCODER.encode(snapshot)))
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
        self._sync_directory()
        self._close_log()
        self._number = old + 1
        self._log_path().unlink(missing_ok=True)  # what a reset that was cut short left
        self._open_log()
        self._log_bytes = 0
        for suffix in ("snapshot", "log"):
            (self._directory / f"{old}.{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        self._close_log()
        os.close(self._slot_file)

    def _log_path(self) -> Path:
        return self._directory / f"{self._number}.log"

    def _open_log(self) -> None:
        self._log = os.open(self._log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._sync_directory()

    def _close_log(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload


def _records(raw: bytes) -> tuple[list[bytes], int]:
    """Return the whole records of a file and where they end."""
    records: list[bytes] = []
    position = 0
    while position + _HEADER <= len(raw):
        length = int.from_bytes(raw[position : position + 4], "little")
        checksum = int.from_bytes(raw[position + 4 : position + 8], "little")
        payload = raw[position + _HEADER : position + _HEADER + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            break
        records.append(payload)
        position += _HEADER + length
    return records, position
