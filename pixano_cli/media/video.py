"""A video as a stream of frames: what every kind of video is read as.

Frames come in the order of presentation, one at a time; none is kept. Pixels are those of the frame
as displayed, with the container's rotation (or an image's EXIF orientation) applied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pixano_cli.media.decode import RGBImage


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What is known of a video when its first frame has been read.

    Attributes:
        width: Width of the first frame as displayed, in pixels.
        height: Its height.
        frame_rate: Frames a second on average, as the container says; that of a folder of frames
            is the one it was opened with; None for a GIF or WebP, and if it is not said.
        format: Short name of the container or kind: mp4, matroska, gif, webp, folder, ...
        claimed_frames: How many frames the container says there are, or its duration times its
            frame rate; for a progress bar only, since it is often wrong; None if it does not say.
    """

    width: int
    height: int
    frame_rate: float | None
    format: str
    claimed_frames: int | None = None


class Frame(ABC):
    """One decoded frame; its pixels are made when they are asked for.

    Attributes:
        index: Its place in the source in order of presentation, from 0.
        timestamp_s: When it is shown, in seconds, as ffprobe's best_effort_timestamp_time, which is
            its pts_time where the container tells one. May be negative, and begin anywhere.
        file_name: Name of its own file, POSIX, relative to the video, for a folder of frames; None
            for others.
    """

    index: int
    timestamp_s: float
    file_name: str | None

    @abstractmethod
    def image(self) -> RGBImage:
        """Return the pixels [height, width, 3], RGB uint8, as displayed.

        Read-only and C-contiguous; of the size that the video's facts tell. Made anew each time.

        Raises:
            MediaReadError: If its file cannot be read, of a folder of frames.
            ImageDecodeError: If its file is no whole image, of a folder of frames.
            VideoError: If its file has another size than the first, of a folder of frames; if its
                kind of pixels cannot be converted.
        """


class Video(ABC):
    """A video that is open. Used as a context manager."""

    facts: VideoFacts

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yield all frames from the first; may be called again, for another pass from the start.

        Raises:
            VideoError: If the video is damaged: what could be read was yielded before.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        """Return the video."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()
