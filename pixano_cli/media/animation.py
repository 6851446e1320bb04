"""An animated GIF or WebP as a video: what is seen after each frame, as viewers show it.

Transparency is shown on white, as that of still images. A frame that claims to be shown for ten
milliseconds or less is shown for a tenth of a second, as browsers and libav's GIF reader do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from pixano_cli.errors import ImageDecodeError, VideoError
from pixano_cli.media.broken_off import ReadSoFar
from pixano_cli.media.decode import RGBImage, to_rgb, turn_upright
from pixano_cli.media.identity import exif_orientation, open_file, refuse
from pixano_cli.media.video import Frame, Video, VideoFacts

_NOT_SHOWN_MS = 10
_INSTEAD_MS = 100


class Animation(Video):
    """An animated image; one that holds still is a video of one frame."""

    def __init__(self, path: Path, kind: str) -> None:
        """Read its header.

        Args:
            path: The file.
            kind: GIF or WEBP.

        Raises:
            MediaReadError: If the file cannot be read.
            VideoError: If its header or its first frame is damaged, or it has more pixels than
                Pillow's limit.
        """
        self._path = path
        self._kind = kind
        self._passes: list[Generator[Frame]] = []
        with open_file(path) as file:
            try:
                image = Image.open(file, formats=[kind])
                image.load()
                self._orientation = exif_orientation(image.info.get("exif", b""))
                width, height = turn_upright(image, self._orientation).size
                count = getattr(image, "n_frames", 1)
            except Exception as error:
                raise _video_error(error, kind) from error
        self._size = image.size
        self.facts = VideoFacts(width, height, None, kind.lower(), count)

    def frames(self) -> Iterator[Frame]:
        """Yield what is seen after each frame; see `Video.frames`."""
        frames = self._frames()
        self._passes.append(frames)
        return frames

    def close(self) -> None:
        """Close the file."""
        while self._passes:
            self._passes.pop().close()

    def _frames(self) -> Generator[Frame]:
        so_far = ReadSoFar()
        shown_ms = 0
        # A plugin may have set it for its own ends; a cut-off picture is an error here.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with open_file(self._path) as file:
            try:
                image = Image.open(file, formats=[self._kind])
                while True:
                    image.load()
                    so_far.add(shown_ms / 1000)
                    # The picture that comes next is painted over this one.
                    yield self._frame(so_far.count - 1, shown_ms, image.copy())
                    duration_ms = int(image.info.get("duration", 0))
                    shown_ms += duration_ms if duration_ms > _NOT_SHOWN_MS else _INSTEAD_MS
                    try:
                        image.seek(so_far.count)
                    except EOFError:
                        break
            except Exception as error:
                raise so_far.broken_off(_video_error(error, self._kind)) from error
            if self._kind == "GIF":
                # Pillow stops at the end mark, or at the end of the file.
                file.seek(-1, 1)
                if file.read(1) != b";":
                    raise so_far.broken_off("its end mark is missing")

    def _frame(self, index: int, shown_ms: int, picture: Image.Image) -> Frame:
        if picture.size != self._size:
            # Pillow makes room for a frame that leaves the screen; viewers show what is on it.
            picture = picture.crop((0, 0, *self._size))
        return _Picture(index, shown_ms / 1000, picture, self._kind, self._orientation)


class _Picture(Frame):
    __slots__ = ("_kind", "_orientation", "_picture", "file_name", "index", "timestamp_s")

    def __init__(
        self, index: int, timestamp_s: float, picture: Image.Image, kind: str, orientation: int
    ) -> None:
        self.index = index
        self.timestamp_s = timestamp_s
        self.file_name = None
        self._picture = picture
        self._kind = kind
        self._orientation = orientation

    def image(self) -> RGBImage:
        return np.asarray(turn_upright(to_rgb(self._picture, self._kind), self._orientation))


def is_animated(path: Path, kind: str) -> bool:
    """Whether a GIF or WebP has more than one frame; not so if it cannot be read.

    Args:
        path: The file.
        kind: GIF or WEBP.
    """
    try:
        with open_file(path) as file:
            if kind == "WEBP" and not _claims_animation(file.read(21)):
                return False
            file.seek(0)
            with Image.open(file, formats=[kind]) as image:
                return bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow raises whatever a damaged file leads it to.
        return False


def _claims_animation(head: bytes) -> bool:
    """Source: the WebP container specification, extended file format: the flag A of VP8X."""
    return head[12:16] == b"VP8X" and bool(head[20:21] and head[20] & 0x02)


def _video_error(error: Exception, kind: str) -> VideoError:
    try:
        refuse(error, kind)
    except ImageDecodeError as refused:
        return VideoError(str(refused))
