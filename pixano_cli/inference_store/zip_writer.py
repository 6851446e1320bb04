"""Writing a zip file of any number of entries in bounded memory.

Equal content gives equal bytes: every entry is dated 1980-01-01. The form is that of PKWARE's
APPNOTE.TXT 6.3.10, with the ZIP64 extensions where a number does not fit. Python's own zipfile
keeps some 600 bytes of every entry in memory until the end.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

STORED, DEFLATED = 0, 8
LEVEL = 6

# What the old fields hold; the largest value means "see the field of ZIP64".
_LARGEST_32, _LARGEST_16 = 0xFFFF_FFFF, 0xFFFF

_UTF8 = 1 << 11
_MADE_ON_UNIX = 3 << 8
_REGULAR_FILE = 0o100644 << 16
_DAY = 1 << 5 | 1  # 1980-01-01; the year is counted from there.
_VERSION, _VERSION_64 = 20, 45
_BUFFER = 1 << 20


class ZipWriter:
    """A zip file being written; used as a context manager, whose end writes its directory."""

    _out: IO[bytes]
    _directory: IO[bytes]

    def __init__(self, path: Path) -> None:
        """Name the file to write, which is there or not; its folder is."""
        self._path = path
        self._count = 0

    def __enter__(self) -> ZipWriter:
        """Open the file."""
        with ExitStack() as files:
            self._out = files.enter_context(self._path.open("wb", buffering=_BUFFER))
            # The directory follows all content, so it waits in a nameless file on the same disk.
            self._directory = files.enter_context(
                tempfile.TemporaryFile(dir=self._path.parent, buffering=_BUFFER)
            )
            self._files = files.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the directory, unless something failed, and close the file."""
        with self._files:
            if kind is None:
                self._end()

    def add(self, name: str, data: bytes, *, compress: bool) -> None:
        """Add an entry.

        Args:
            name: A relative path with `/` between its parts, valid text of at most 65,535 bytes
                in UTF-8; no other entry has it.
            data: What it holds.
            compress: Whether to compress it, if that makes it smaller.
        """
        method, content = STORED, data
        if compress:
            deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            smaller = deflate.compress(data) + deflate.flush()
            if len(smaller) < len(data):
                method, content = DEFLATED, smaller
        offset = self._out.tell()
        entry = _Entry(name.encode(), method, zlib.crc32(data), len(content), len(data), offset)
        self._out.write(entry.header())
        self._out.write(content)
        self._note(entry)

    def add_stream(self, name: str, source: IO[bytes], size: int, *, compress: bool) -> None:
        """Add an entry of any size; little of it is in memory at once.

        Args:
            name: As for `add`.
            source: What it holds, from where it stands to its end.
            size: How many bytes that is.
            compress: Whether to compress it.
        """
        method = DEFLATED if compress else STORED
        offset = self._out.tell()
        # Compressed it is hardly larger, so this decides whether its header has ZIP64's field.
        wide = not _fits_32(size + (size >> 10) + 1024)
        self._out.write(_Entry(name.encode(), method, 0, 0, 0, offset, wide).header())
        start = self._out.tell()
        deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        checksum = read = 0
        while chunk := source.read(_BUFFER):
            checksum = zlib.crc32(chunk, checksum)
            read += len(chunk)
            self._out.write(deflate.compress(chunk) if compress else chunk)
        if compress:
            self._out.write(deflate.flush())
        end = self._out.tell()
        entry = _Entry(name.encode(), method, checksum, end - start, read, offset, wide)
        self._out.seek(offset)
        self._out.write(entry.header())
        self._out.seek(end)
        self._note(entry)

    def _note(self, entry: _Entry) -> None:
        self._directory.write(entry.directory_record())
        self._count += 1

    def _end(self) -> None:
        start = self._out.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._out, _BUFFER)
        end = self._out.tell()
        if not (_fits_16(self._count) and _fits_32(end - start) and _fits_32(start)):
            version = _MADE_ON_UNIX | _VERSION_64
            self._out.write(
                struct.pack(
                    "<4sQHHIIQQQQ",
                    *(b"PK\x06\x06", 44, version, _VERSION_64, 0, 0),
                    *(self._count, self._count, end - start, start),
                )
            )
            self._out.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        count = self._count if _fits_16(self._count) else _LARGEST_16
        self._out.write(
            struct.pack(
                "<4sHHHHIIH",
                *(b"PK\x05\x06", 0, 0, count, count),
                *(_narrow(end - start), _narrow(start), 0),
            )
        )


class _Entry:
    """What both of an entry's headers say."""

    def __init__(
        self,
        name: bytes,
        method: int,
        checksum: int,
        compressed: int,
        size: int,
        offset: int,
        wide: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self.checksum = checksum
        self.compressed = compressed
        self.size = size
        self.offset = offset
        self.wide = wide or not _fits_32(max(compressed, size))

    def header(self) -> bytes:
        """Return what stands before the content."""
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.compressed) if self.wide else b""
        return b"PK\x03\x04" + self._shared() + struct.pack("<H", len(extra)) + self.name + extra

    def directory_record(self) -> bytes:
        """Return what stands in the directory."""
        far = not _fits_32(self.offset)
        numbers = [self.size, self.compressed] if self.wide else []
        numbers += [self.offset] if far else []
        extra = struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)
        extra = extra if numbers else b""
        made = _MADE_ON_UNIX | _VERSION_64
        after = struct.pack("<HHHHII", len(extra), 0, 0, 0, _REGULAR_FILE, _narrow(self.offset))
        return b"PK\x01\x02" + struct.pack("<H", made) + self._shared() + after + self.name + extra

    def _shared(self) -> bytes:
        size, compressed = (_LARGEST_32,) * 2 if self.wide else (self.size, self.compressed)
        far = self.wide or not _fits_32(self.offset)
        return struct.pack(
            "<HHHHHIIIH",
            *(_VERSION_64 if far else _VERSION, _UTF8, self.method, 0, _DAY),
            *(self.checksum, compressed, size, len(self.name)),
        )


def _fits_32(number: int) -> bool:
    return number < _LARGEST_32


def _fits_16(number: int) -> bool:
    return number < _LARGEST_16


def _narrow(number: int) -> int:
    return number if _fits_32(number) else _LARGEST_32
