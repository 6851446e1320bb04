"""The file of a model's vectors: its format, and reading it at memory speed.

A header of 64 bytes tells whose they are, which entries are recorded, and the newest embedding of
any model that the database had then. Entries follow, one an embedding, in the order of their
positions in the database: the direction as float32, the length, and a checksum. Entries are
appended first and recorded afterwards, so that of a process that is killed only such stay that
nobody reads. What is recorded never changes. Numbers are least significant byte first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixano_cli.inference_store.distances import Doubles, Query, directions
from pixano_cli.processors import processors

if sys.platform != "win32":
    import fcntl

LOCK_TIMEOUT_S = 30.0
MOST_THREADS = 8

BLOCK_BYTES = 2**20
"""How much is read at once: so little that the processor still has it when it is multiplied."""

Integers = NDArray[np.int64]
Entries = NDArray[np.void]

_MAGIC = b"pixano vectors 1"
_HEADER = struct.Struct("<16sQ12sQqqL")
_CHECKSUM = 0x9E3779B97F4A7C15


class DamagedError(Exception):
    """What the file holds is not what was written."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the header says.

    Attributes:
        count: Number of entries.
        seen: Position of the newest embedding of any model up to which entries were made.
        created_at: When the inference of that embedding was created.
    """

    count: int = 0
    seen: int = 0
    created_at: int = 0


class VectorFile:
    """An open file, with what was recorded when `recorded` was last set.

    Attributes:
        path: Where it is, or was if another has taken its place.
        recorded: Which entries are read.
        entry_size: Bytes of an entry.
    """

    def __init__(self, path: Path, model_id: str, dimension: int) -> None:
        """Open the file, or make an empty one.

        Args:
            path: Where it is.
            model_id: The model whose embeddings it has.
            dimension: How many numbers they have.

        Raises:
            OSError: If that fails.
        """
        self.path = path
        self.recorded = Recorded()
        self._identity = (_MAGIC, dimension, hashlib.sha256(model_id.encode()).digest()[:12])
        self._entry = _entry(dimension)
        self.entry_size = self._entry.itemsize
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> VectorFile:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def scan(self, query: Query, *, farthest: bool = False) -> tuple[Doubles, Integers]:
        """Return limits [n] that distances cannot be under, and positions [n] in the database.

        Args:
            query: Of the file's dimension; its bounds are known.
            farthest: Whether to return limits of distances times -1.

        Raises:
            DamagedError: If an entry is not as it was written.
            OSError: If the file cannot be read.
        """
        count = self.recorded.count
        limits, positions = np.empty(count), np.empty(count, np.int64)
        threads = min(processors(), MOST_THREADS)
        size = max(1, BLOCK_BYTES // self.entry_size)

        def scan_some(first: int) -> None:
            block = np.empty(size, self._entry)
            for start in range(first * size, count, threads * size):
                entries = self._read(block, start)
                # Not a product of matrices: that has threads of its own, which get in the way.
                products = np.einsum("ij,j->i", entries["direction"], query.direction)
                low, high = query.bounds(products, entries["norm"])
                stop = start + len(entries)
                limits[start:stop] = -high if farthest else low
                positions[start:stop] = entries["position"]

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(scan_some, range(threads)))
        return limits, positions

    def read(self, start: int, stop: int) -> Entries:
        """Return entries from `start` to `stop`: direction, position, created_at and norm.

        Raises:
            DamagedError: If an entry is not as it was written.
            OSError: If the file cannot be read.
        """
        return self._read(np.empty(stop - start, self._entry), start)

    def holds(self, position: int, created_at: int) -> bool:
        """Whether there is an entry of an embedding at this position, created at this time.

        Raises:
            OSError: If the file cannot be read.
        """
        low, high = 0, self.recorded.count
        try:
            while low < high:
                middle = (low + high) // 2
                (entry,) = self.read(middle, middle + 1)
                if entry["position"] == position:
                    return bool(entry["created_at"] == created_at)
                low, high = (middle + 1, high) if entry["position"] < position else (low, middle)
        except DamagedError:
            pass
        return False

    def header(self) -> Recorded | None:
        """Return what the file records; None if it is not such a file, or entries are missing.

        Raises:
            OSError: If it cannot be read.
        """
        size = os.fstat(self._descriptor).st_size
        data = os.pread(self._descriptor, _HEADER.size, 0)
        if not size:
            return Recorded()
        if len(data) < _HEADER.size or zlib.crc32(data[:-4]) != _HEADER.unpack(data)[-1]:
            return None
        *identity, count, seen, created_at, _ = _HEADER.unpack(data)
        is_whole = size >= _HEADER.size + count * self.entry_size
        if tuple(identity) != self._identity or not is_whole:
            return None
        return Recorded(count, seen, created_at)

    def append(self, vectors: Doubles, positions: Sequence[int], created_at: Sequence[int]) -> None:
        """Append entries and record them; the lock is held.

        Args:
            vectors: The embeddings [n, dimension], n more than 0.
            positions: Their positions [n] in ascending order.
            created_at: When their inferences were created [n].

        Raises:
            OSError: If that fails.
        """
        entries = np.zeros(len(vectors), self._entry)
        entries["direction"], entries["norm"] = directions(vectors)
        entries["position"], entries["created_at"] = positions, created_at
        entries["checksum"] = _CHECKSUM - _sums(entries)
        count = self.recorded.count
        self._write(entries.tobytes(), _HEADER.size + count * self.entry_size)
        self.record(Recorded(count + len(entries), positions[-1], created_at[-1]))

    def record(self, recorded: Recorded) -> None:
        """Record what is in the file from now on; the lock is held.

        Raises:
            OSError: If that fails.
        """
        what = recorded.count, recorded.seen, recorded.created_at
        data = _HEADER.pack(*self._identity, *what, 0)[:-4]
        self._write(data + struct.pack("<L", zlib.crc32(data)), 0)
        self.recorded = recorded

    def discard(self) -> None:
        """Remove the file, unless another has taken its place.

        Raises:
            OSError: If that fails.
        """
        with locked(self.path):
            try:
                if os.path.samestat(self.path.stat(), os.fstat(self._descriptor)):
                    self.path.unlink()
            except FileNotFoundError:
                pass

    def _read(self, block: Entries, start: int) -> Entries:
        """Read the entries from `start` on into `block`, as many as there are and it holds."""
        entries = block[: self.recorded.count - start]
        wanted = memoryview(entries.view(np.uint8).data)
        at = _HEADER.size + start * self.entry_size
        while wanted:
            got = os.preadv(self._descriptor, [wanted], at)
            if not got:
                raise DamagedError
            wanted, at = wanted[got:], at + got
        if (_sums(entries) != _CHECKSUM).any():
            raise DamagedError
        return entries

    def _write(self, data: bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            wrote = os.pwrite(self._descriptor, left, at)
            left, at = left[wrote:], at + wrote


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file of vectors: a file beside it, as it may itself be replaced.

    Raises:
        OSError: If there are no locks here, or another process holds it for long.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "no locks of files", str(path))
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, "another process is writing it", str(path)
                    ) from None
            time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _entry(dimension: int) -> np.dtype[np.void]:
    """Return what an entry is made of; the whole of it is a number of 8-byte words."""
    end = -(-4 * dimension // 8) * 8
    return np.dtype(
        {
            "names": ["direction", "position", "created_at", "norm", "checksum"],
            "formats": [("<f4", (dimension,)), "<i8", "<i8", "<f8", "<u8"],
            "offsets": [0, end, end + 8, end + 16, end + 24],
            "itemsize": end + 32,
        }
    )


def _sums(entries: Entries) -> NDArray[np.uint64]:
    """Return the sums [n] of the entries' words, which their checksums make all the same.

    So no altered word goes unnoticed, nor missing blocks, and it takes a third of a scan's time.
    """
    words = entries.view("<u8").reshape(len(entries), -1)
    sums: NDArray[np.uint64] = np.add.reduce(words, axis=1)
    return sums
