"""A video cut into windows: neighbours share one frame, the seam.

All windows of a video take turns in one buffer: what the decoder made is let go of as soon as the
pixels are there, and nothing large lives long between what decoding takes and gives back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import numpy as np

from pixano_cli.annotate.videos.at_hand import FrameAtHand
from pixano_cli.inference_store.ledger import Picture
from pixano_cli.media.decode import RGBImage
from pixano_cli.media.video import Frame

WINDOW = 30
"""Most frames of a window, the seams included."""

WINDOW_BYTES = 256 * 1024 * 1024
"""Most bytes of a window's pixels, as long as there are two frames."""


class Window(NamedTuple):
    """Frames that are asked about together, and whether the video ends with them.

    Their pixels are theirs until the next window is asked for.
    """

    frames: Sequence[FrameAtHand]
    is_last: bool

    @property
    def own(self) -> Sequence[FrameAtHand]:
        """The frames without the seam that the next window begins with."""
        return self.frames if self.is_last else self.frames[:-1]


async def windows(
    frames: AsyncGenerator[FrameAtHand, None], picture: Picture, most: int
) -> AsyncGenerator[Window, None]:
    """Yield windows of one length, and at the end a shorter one, or one as long.

    Args:
        frames: The frames that are looked at.
        picture: The video, for the size of its frames.
        most: Most frames of a window, from 2; there are fewer where they are large.
    """
    fit = WINDOW_BYTES // (3 * picture.width * picture.height)
    length = max(2, min(most, fit))
    buffer = np.empty((length, picture.height, picture.width, 3), np.uint8)
    window: list[FrameAtHand] = []
    async with aclosing(frames):
        async for at in frames:
            if len(window) == length:
                yield Window(window, is_last=False)
                window = [await _kept(window[-1], buffer[0])]
            window.append(await _kept(at, buffer[len(window)]))
    if window:
        yield Window(window, is_last=True)


class _KeptFrame(Frame):
    """A frame of which only the pixels are left."""

    def __init__(self, frame: Frame, pixels: RGBImage) -> None:
        self.index = frame.index
        self.timestamp_s = frame.timestamp_s
        self.file_name = frame.file_name
        self._pixels = pixels

    def image(self) -> RGBImage:
        return self._pixels


async def _kept(at: FrameAtHand, place: RGBImage) -> FrameAtHand:
    """Put a frame's pixels into their place in the buffer."""
    place[...] = await at.image()
    pixels = place.view()
    pixels.flags.writeable = False
    return FrameAtHand(at.video, _KeptFrame(at.frame, pixels), at.ordinal)
