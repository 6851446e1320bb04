"""Where the structure of a video file breaks, which libav passes over in silence.

A file that was cut off, or has a hole where a download stopped, often plays without any complaint:
the reader finds its next foothold, or takes the end of the file for the end of the video. What the
container says of its own extent tells: the sizes of its elements, each inside another. Only their
headers are read. What lies inside a packet is the decoder's to judge.

Sources: ISO/IEC 14496-12 (boxes; movie fragments, 8.8), RFC 8794 (EBML) and RFC 9559 (Matroska,
section 5.1), the Microsoft AVI RIFF file reference with the OpenDML extensions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pixano_cli.media.identity import open_file

Read = Callable[[int, int], bytes]
"""Returns so many bytes (or fewer, at the end of the file) from an offset."""

_CLUSTER = 0x1F43B675
_SEGMENT = 0x18538067
_VOID, _CRC = 0xEC, 0xBF
_TRACKS, _TRACK_ENTRY, _TRACK_NUMBER = 0x1654AE6B, 0xAE, 0xD7
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_SEGMENT_CHILDREN = frozenset(
    {_CLUSTER, 0x114D9B74, 0x1549A966, _TRACKS, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
)
# Besides blocks: Timestamp, Position, PrevSize, EncryptedBlock, SilentTracks.
_CLUSTER_CHILDREN = frozenset({_SIMPLE_BLOCK, _BLOCK_GROUP, 0xE7, 0xA7, 0xAB, 0xAF, 0x5854})
_AVI_CHUNK = re.compile(rb"\d\d[\w ]{2}|ix\d\d|JUNK|LIST|idx1", re.ASCII)
_BOX = re.compile(rb"[\w \xa9]{4}", re.ASCII)


def find_damage(path: Path, container: str) -> int | None:
    """Return the offset in a file up to which its structure is sound.

    Args:
        path: A video file.
        container: libav's name of its container.

    Returns:
        None if the file is whole, or its container does not tell; else where the first part begins
        that is cut off or makes no sense.

    Raises:
        MediaReadError: If the file cannot be read.
    """
    check = next((check for name, check in _CHECKS.items() if name in container), None)
    if check is None:
        return None
    with open_file(path) as file:

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        return check(read, os.fstat(file.fileno()).st_size)


def _in_fragments(read: Read, size: int) -> int | None:
    """Look at the boxes of an MP4 in fragments; another's index says where its samples are."""
    at = 0
    fragmented = False
    while at + 8 <= size:
        header = read(at, 16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        elif length == 0:
            return None
        fragmented = fragmented or kind in (b"moof", b"styp")
        if length < 8 or not _BOX.fullmatch(kind):
            return at if fragmented else None
        at += length
        if at > size:
            return size if fragmented else None
    return size if fragmented and at < size else None


class _Element(NamedTuple):
    """An EBML element: its id, where its content begins and, if that is known, where it ends."""

    id: int
    start: int
    end: int | None


def _element(read: Read, at: int) -> _Element | None:
    head = read(at, 12)
    if len(head) < 2 or head[0] < 0x10:
        return None
    id_bytes = 9 - head[0].bit_length()
    first = head[id_bytes] if len(head) > id_bytes else 0
    size_bytes = 9 - first.bit_length()
    start = id_bytes + size_bytes
    if first == 0 or len(head) < start:
        return None
    length = int.from_bytes(head[id_bytes:start], "big") & ((1 << 7 * size_bytes) - 1)
    is_unknown = length == (1 << 7 * size_bytes) - 1
    begin = at + start
    name = int.from_bytes(head[:id_bytes], "big")
    return _Element(name, begin, None if is_unknown else begin + length)


def _in_matroska(read: Read, size: int) -> int | None:
    at = 0
    while (element := _element(read, at)) is not None and element.id != _SEGMENT:
        if element.end is None or element.end >= size:
            return None
        at = element.end
    if element is None:
        return None
    end = size if element.end is None else element.end
    at, last = element.start, 0
    tracks: frozenset[int] = frozenset()
    while at < min(end, size):
        element = _element(read, at)
        if element is None or not _is_known(read, element, _SEGMENT_CHILDREN, end):
            return at
        last = element.id
        if last == _TRACKS:
            tracks = frozenset(_track_numbers(read, element, size))
        if last == _CLUSTER:
            stop = _in_cluster(read, element, min(end, size), tracks)
            if stop.is_damage:
                return stop.at
            at = stop.at
        elif element.end is None:
            return at
        else:
            at = element.end
    # What is missing behind the frames, such as the index, is no loss to them.
    return at if last == _CLUSTER and end > size else None


class _Stop(NamedTuple):
    at: int
    is_damage: bool


def _track_numbers(read: Read, tracks: _Element, size: int) -> Iterator[int]:
    for entry in _children(read, tracks, size):
        for child in _children(read, entry, size) if entry.id == _TRACK_ENTRY else ():
            if child.id == _TRACK_NUMBER and child.end is not None:
                yield int.from_bytes(read(child.start, child.end - child.start), "big")


def _children(read: Read, parent: _Element, size: int) -> Iterator[_Element]:
    at, end = parent.start, size if parent.end is None else min(parent.end, size)
    while at < end and (child := _element(read, at)) is not None and child.end is not None:
        yield child
        at = child.end


def _in_cluster(read: Read, cluster: _Element, limit: int, tracks: frozenset[int]) -> _Stop:
    end = limit if cluster.end is None else min(cluster.end, limit)
    at = cluster.start
    while at < end:
        block = _element(read, at)
        if block is not None and block.id in _SEGMENT_CHILDREN and cluster.end is None:
            return _Stop(at, is_damage=False)
        if block is None or block.end is None or block.end > end:
            return _Stop(at, is_damage=True)
        if not _is_known(read, block, _CLUSTER_CHILDREN, end):
            return _Stop(at, is_damage=True)
        if tracks and not _is_of(read, block, tracks):
            return _Stop(at, is_damage=True)
        at = block.end
    return _Stop(at, is_damage=cluster.end is not None and cluster.end > limit)


def _is_of(read: Read, block: _Element, tracks: frozenset[int]) -> bool:
    """Whether a block belongs to one of the tracks; so does all that is no block."""
    if block.id == _BLOCK_GROUP:
        inside = _element(read, block.start)
        return inside is None or inside.id != _BLOCK or _is_of(read, inside, tracks)
    if block.id not in (_SIMPLE_BLOCK, _BLOCK):
        return True
    number = read(block.start, 8)
    size = 9 - number[0].bit_length() if number else 9
    return int.from_bytes(number[:size], "big") & ((1 << 7 * size) - 1) in tracks


def _is_known(read: Read, element: _Element, known: frozenset[int], end: int) -> bool:
    """Whether an element is one of these, or at least stands in front of one."""
    if element.id in known or element.id in (_VOID, _CRC):
        return True
    if element.end is None or element.end > end:
        return False
    after = _element(read, element.end)
    return element.end == end or (after is not None and after.id in known)


def _in_avi(read: Read, size: int) -> int | None:
    riff = 0
    while riff + 12 <= size and read(riff, 4) == b"RIFF":
        end = riff + 8 + int.from_bytes(read(riff + 4, 4), "little")
        at = riff + 12
        # A recording that was never finished has no size.
        end = end if end > at else size
        while at + 8 <= min(end, size):
            header = read(at, 12)
            stop = at + 8 + int.from_bytes(header[4:8], "little")
            if header[:4] == b"LIST" and header[8:] == b"movi":
                damage = _in_movi(read, at + 12, stop, size)
                if damage is not None:
                    return damage
            if stop > size:
                return None
            at = stop + stop % 2
        riff = end + end % 2
    return None


def _in_movi(read: Read, at: int, end: int, size: int) -> int | None:
    end = end if end > at else size
    while at + 8 <= min(end, size):
        header = read(at, 12)
        if not _AVI_CHUNK.match(header):
            # Some writers leave out the padding of an odd chunk.
            if not _AVI_CHUNK.match(read(at - 1, 4)):
                return at
            at -= 1
            continue
        if header.startswith(b"idx1"):
            return None
        if header.startswith(b"LIST"):
            at += 12
            continue
        stop = at + 8 + int.from_bytes(header[4:8], "little")
        if stop > size:
            return at
        at = stop + stop % 2
    return size if end > size + 1 else None


_CHECKS: dict[str, Callable[[Read, int], int | None]] = {
    "mp4": _in_fragments,
    "matroska": _in_matroska,
    "avi": _in_avi,
}
