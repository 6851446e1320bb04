"""From the sources that a user names to the videos in them, each with the name it has in outputs.

Sources, roots and names are those of `media.discover`. What counts in a folder:

- a file with a video's suffix, or that begins like a video;
- an animated GIF or WebP;
- a folder that directly holds images and none of these: it is one video, a frame a file, named by
  its path below the root, or by its own name where it is the root. Folders inside of it are looked
  into all the same. Its size is that of its frames, its time the latest of theirs and its own.

Images beside a video are passed over. A file that is named by itself always counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pixano_cli.errors import MediaReadError, UsageError
from pixano_cli.media.discover import SourceFile, find
from pixano_cli.media.frame_folder import list_frames
from pixano_cli.media.identity import sniff
from pixano_cli.media.walk import IMAGE_SUFFIXES, Seen, has_suffix, read_head

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".m2v"}
    | {".vob", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".3gp", ".3g2", ".mxf"}
    | {".mjpeg", ".mjpg", ".y4m", ".ivf", ".dv", ".mj2"}
)
"""Suffixes, in lower case, that claim a video. Not .ts, which TypeScript has: it is looked into."""

_SOUND_SUFFIXES = frozenset({".m4a", ".m4b", ".mka", ".weba", ".wma", ".aac", ".mp3", ".oga"})
_ANIMATED_SUFFIXES = frozenset({".gif", ".webp"})
_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska and WebM
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
    b"FLV\x01",
    b"\0\0\x01\xba",  # MPEG program stream
    b"\0\0\x01\xb3",  # MPEG video
    b"\x06\x0e+4\x02\x05\x01\x01",  # MXF
    b"DKIF",
    b"YUV4MPEG2",
)
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide"})
_OTHER_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")
_TRANSPORT_PACKET = 188
_HEAD_BYTES = 2 * _TRANSPORT_PACKET + 1


def discover_videos(
    sources: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = True,
    stdin: TextIO | None = None,
) -> Iterator[SourceFile]:
    """Find the videos that `sources` name, lazily, in an order that depends on names alone.

    Args:
        sources: Files, folders, patterns or `-`, as for `media.discover.discover`. A folder that
            a pattern selects counts as a whole; frames that a pattern selects are no video.
        recursive: Whether folders in a folder are looked into.
        stdin: Text that `-` reads.

    Raises:
        UsageError: At the first step, as `discover` does, and if there is no video at all.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    found = find(sources, Videos(), recursive=recursive, stdin=stdin)
    first = next(found, None)
    if first is None:
        names = ", ".join(repr(os.fspath(source)) for source in sources)
        raise UsageError(f"no videos in {names}: name video files, or folders of videos or frames")
    yield first
    yield from found


class Videos:
    """Videos, as what a walk looks for."""

    name = "video"
    can_be_folder = True

    def claims(self, path: str) -> bool:
        """Whether a name has a video's suffix."""
        return has_suffix(path, VIDEO_SUFFIXES)

    def is_one(self, path: str) -> bool:
        """Whether a file begins like a video, or is an animated image."""
        if has_suffix(path, _SOUND_SUFFIXES):
            return False
        if has_suffix(path, IMAGE_SUFFIXES - _ANIMATED_SUFFIXES):
            return False
        head = read_head(path, _HEAD_BYTES)
        kind = sniff(head)
        if kind in ("GIF", "WEBP"):
            from pixano_cli.media.animation import is_animated

            return is_animated(Path(path), kind)
        return kind is None and _begins_like_a_video(head)

    def in_folder(self, folder: str) -> Seen | None:
        """Return a folder without videos if there are images in it."""
        try:
            frames = list_frames(Path(folder))
            changed_ns = os.stat(folder).st_mtime_ns  # noqa: PTH116
        except (MediaReadError, OSError):
            return None
        if not frames:
            return None
        size = sum(max(frame.size, 0) for frame in frames)
        return Seen("", size, max(changed_ns, *(frame.mtime_ns for frame in frames)))


def _begins_like_a_video(head: bytes) -> bool:
    if head[4:8] in _BOXES:
        return head[8:12] not in _OTHER_BRANDS
    if head.startswith(b"RIFF"):
        return head[8:12] == b"AVI "
    is_transport = len(head) >= _HEAD_BYTES and set(head[::_TRANSPORT_PACKET]) == {0x47}
    return is_transport or head.startswith(_STARTS)
