"""A video at hand, and its frames one after the other, read on threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from pixano_cli.annotate.videos.sampling import Sampling
from pixano_cli.inference_store.ledger import Item, Picture
from pixano_cli.media import flight
from pixano_cli.media.decode import RGBImage
from pixano_cli.media.video import Frame, Video


@dataclass(frozen=True, slots=True)
class VideoAtHand:
    """A video that is open, and the run it is annotated in."""

    item: Item
    picture: Picture
    run_id: str
    video: Video

    @property
    def sha256(self) -> str:
        """Hex digest of what identifies it."""
        return self.picture.sha256


@dataclass(slots=True)
class FrameAtHand:
    """A frame that is looked at.

    Attributes:
        video: The video.
        frame: The frame.
        ordinal: Its place among the frames that are looked at, from 0.
    """

    video: VideoAtHand
    frame: Frame
    ordinal: int
    _image: RGBImage | None = field(default=None, repr=False)

    @property
    def index(self) -> int:
        """Its index in the source."""
        return self.frame.index

    @property
    def timestamp_s(self) -> float:
        """Its time in seconds."""
        return self.frame.timestamp_s

    @property
    def name(self) -> str:
        """Its name in outputs."""
        return frame_name(self.video.item.file_name, self.index, self.frame.file_name)

    async def image(self) -> RGBImage:
        """Return its pixels, which are made once."""
        if self._image is None:
            self._image = await asyncio.to_thread(self.frame.image)
        return self._image

    def let_go(self) -> None:
        """Keep its pixels no longer."""
        self._image = None

    @contextmanager
    def in_flight(self, image: RGBImage) -> Iterator[str]:
        """Yield the URL under which a provider finds the pixels."""
        url = flight.url_of_frame(self.video.item.url, self.index)
        with flight.hold_pixels(url, image):
            yield url


def frame_name(video: str, index: int, file_name: str | None) -> str:
    """Return the name that a frame has in outputs.

    That of its own file, or one as CVAT numbers the frames of a video: `clip.mp4/frame_000012.png`.

    Args:
        video: The video's name.
        index: The frame's index in the source.
        file_name: The name of its own file in the video, where it is a folder.
    """
    return f"{video}/{file_name or f'frame_{index:06d}.png'}"


async def chosen_frames(
    video: VideoAtHand, sampling: Sampling
) -> AsyncGenerator[FrameAtHand, None]:
    """Yield the frames that are looked at, read one by one on a thread.

    Raises:
        VideoError: If the video is damaged, after what could be read.
    """
    frames = sampling.choose(video.video.frames(), _place)
    ordinal = 0
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        yield FrameAtHand(video, frame, ordinal)
        ordinal += 1


async def skipping(
    frames: AsyncGenerator[FrameAtHand, None], before: int
) -> AsyncGenerator[FrameAtHand, None]:
    """Yield the frames from an index on."""
    async with aclosing(frames):
        async for at in frames:
            if at.index >= before:
                yield at


def _place(frame: Frame) -> tuple[int, float]:
    return frame.index, frame.timestamp_s
