"""A folder of images as a video: one frame a file, in the natural order of their names.

Its frames are what the image commands would find in it: files directly in it that have an image's
suffix or begin like an image, hidden names and links that lead out of it left aside.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pixano_cli.errors import ImageDecodeError, MediaReadError, VideoError
from pixano_cli.media.decode import RGBImage, decode_image
from pixano_cli.media.identity import probe, read_file
from pixano_cli.media.video import Frame, Video, VideoFacts
from pixano_cli.media.walk import Seen, as_text, walk

_NUMBER = re.compile("([0-9]+)")


def list_frames(folder: Path) -> list[Seen]:
    """Return the images directly in a folder, in the order of their frames.

    Numbers in names count by their value: `frame2.png` comes before `frame10.png`.

    Raises:
        MediaReadError: If the folder cannot be listed.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaReadError(f"cannot list the folder {str(folder)!r}: {reason}") from error
    return sorted(walk(str(folder), recursive=False), key=lambda seen: _natural(seen.relative))


def _natural(name: str) -> tuple[list[str | int], list[str | int], bytes]:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return _parts(stem), _parts(suffix), os.fsencode(name)


def _parts(text: str) -> list[str | int]:
    # Text and numbers take turns, so that like is compared with like.
    parts = _NUMBER.split(text.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


class FrameFolder(Video):
    """A folder of frames."""

    def __init__(self, folder: Path, frame_rate: float) -> None:
        """List the frames, and look at the first one's header.

        Args:
            folder: The folder.
            frame_rate: Frames a second; frame i is shown at i / frame_rate.

        Raises:
            MediaReadError: If the folder cannot be listed.
            VideoError: If there is no image in it, or the first one cannot be used.
        """
        self._folder = folder
        self._names = [seen.relative for seen in list_frames(folder)]
        if not self._names:
            raise VideoError("no images in this folder")
        try:
            first = probe(read_file(folder / self._names[0]))
        except (ImageDecodeError, MediaReadError) as error:
            raise VideoError(f"its first frame, {self._names[0]!r}: {error}") from error
        self.facts = VideoFacts(
            width=first.width,
            height=first.height,
            frame_rate=frame_rate,
            format="folder",
            claimed_frames=len(self._names),
        )

    def frames(self) -> Iterator[Frame]:
        """Yield a frame for each image; whether it can be read shows when it is asked for."""
        rate = self.facts.frame_rate or 1.0
        size = self.facts.width, self.facts.height
        for index, name in enumerate(self._names):
            yield _ImageFrame(index, index / rate, self._folder / name, size)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class _ImageFrame(Frame):
    __slots__ = ("_path", "_size", "file_name", "index", "timestamp_s")

    def __init__(self, index: int, timestamp_s: float, path: Path, size: tuple[int, int]) -> None:
        self.index = index
        self.timestamp_s = timestamp_s
        self.file_name = as_text(path.name)
        self._path = path
        self._size = size

    def image(self) -> RGBImage:
        data = read_file(self._path)
        try:
            pixels = decode_image(data)
        except ImageDecodeError as error:
            raise ImageDecodeError(f"frame {self.file_name!r}: {error}") from error
        height, width, _ = pixels.shape
        if (width, height) != self._size:
            raise VideoError(
                f"frame {self.file_name!r} has {width} x {height} pixels, the first one "
                f"{self._size[0]} x {self._size[1]}: scale it, or put it in another folder"
            )
        return pixels
