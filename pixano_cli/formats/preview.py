"""A video to look at: frames with their masks, boxes and identities drawn, as an mp4.

H.264 in yuv420p (MPEG-4 part 2 where PyAV was built without libx264), which every browser and
player shows, with the index in front, so that it plays while it loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageOps

from pixano_cli.annotations import AnnotatedImage
from pixano_cli.errors import OutputError
from pixano_cli.formats.atomic import replacing
from pixano_cli.formats.drawing import draw
from pixano_cli.formats.text import shown
from pixano_cli.media.decode import RGBImage

ENCODERS: Mapping[str, Mapping[str, str]] = {
    # Frames in order of time: where they last unequally long, others make the video seem shorter.
    "libx264": {"preset": "veryfast", "crf": "23", "bf": "0"},
    "mpeg4": {"qmin": "3", "qmax": "8"},
}
"""Encoders, the first that is there is used, and what is asked of them."""

TICKS = 60_000
"""Of the video's clock in a second: a whole number of them for all usual frame rates, and fewer
than the 65,536 that MPEG-4 can say."""

_CONTAINER = {"movflags": "+faststart", "fflags": "+bitexact"}
_LONGEST_FRAME_S = 3600.0
_THREADS = 2
_BT709 = 1
_LIMITED_RANGE = 1


def write_preview(
    frames: Iterable[tuple[RGBImage, AnnotatedImage]], path: Path, frame_rate: float
) -> None:
    """Draw annotations on frames and write them as an mp4; equal input gives equal bytes.

    Memory is that of a few dozen frames, which the encoder keeps to look ahead. The video has the
    size of the first frame, with one more row or column, like the last, where it is odd; a frame
    of another size is made to fit. A frame is shown from its `timestamp_s`, the first at once; one
    that has none, or none later than the one before and by less than an hour, comes
    1 / `frame_rate` seconds after it.

    Args:
        frames: Pixels [height, width, 3] as displayed, with their annotations; read once.
        path: The file, replaced at once when it is complete.
        frame_rate: Frames a second, above 0, where they do not say when they are shown.

    Raises:
        OutputError: If the file cannot be written, or there is no frame; an earlier version of it
            is left as it was.
    """
    with (
        replacing(path) as temporary,
        _told_as_files_are(),
        av.open(str(temporary), "w", format="mp4", options=_CONTAINER) as out,
    ):
        clock = _Clock(frame_rate)
        stream = None
        for pixels, annotated in frames:
            if stream is None:
                height, width = pixels.shape[:2]
                stream = _stream(out, width + width % 2, height + height % 2, frame_rate)
            drawn = _fitted(draw(pixels, annotated.annotations), stream.width, stream.height)
            frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts = clock.ticks(annotated.timestamp_s)
            frame.time_base = Fraction(1, TICKS)
            out.mux(_packets(stream, frame, frame_rate))
        if stream is None:
            raise OutputError(f"cannot write {shown(path)}: there is no frame to show")
        out.mux(_packets(stream, None, frame_rate))


@contextmanager
def _told_as_files_are() -> Iterator[None]:
    """Turn FFmpeg's errors into the system's: a full disk is one of them."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


class _Clock:
    """Says when each frame is shown, in ticks from the first one."""

    def __init__(self, frame_rate: float) -> None:
        self._usual_s = 1 / frame_rate
        self._begin_s: float | None = None
        self._shown_s: float | None = None
        self._ticks = -1

    def ticks(self, timestamp_s: float | None) -> int:
        """Return when the next frame is shown, later than all before."""
        next_s = 0.0 if self._shown_s is None else self._shown_s + self._usual_s
        if timestamp_s is not None and isfinite(timestamp_s):
            said_s = next_s if self._begin_s is None else timestamp_s - self._begin_s
            if self._shown_s is None or 0 < said_s - self._shown_s < _LONGEST_FRAME_S:
                next_s = said_s
            if self._begin_s is None or next_s != said_s:
                self._begin_s = timestamp_s - next_s
        self._shown_s = next_s
        self._ticks = max(self._ticks + 1, round(next_s * TICKS))
        return self._ticks


def _stream(out: Any, width: int, height: int, frame_rate: float) -> Any:
    """Begin the video; sides are even."""
    rate = Fraction(frame_rate).limit_denominator(1001)
    for name, options in ENCODERS.items():
        try:
            stream = out.add_stream(name, rate=rate, options={**options, "flags": "+bitexact"})
        except av.codec.codec.UnknownCodecError:
            continue
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        # What is written depends on it, so it must not be the number of processors.
        context.thread_count = _THREADS
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE
        return stream
    raise OutputError(
        f"PyAV was built without any of {', '.join(ENCODERS)}: no preview can be made"
    )


def _packets(stream: Any, frame: Any, frame_rate: float) -> list[Any]:
    packets: list[Any] = stream.encode(frame)
    for packet in packets:
        # Of the last frame it is all that says how long it is shown.
        packet.duration = packet.duration or round(1 / frame_rate / packet.time_base)
    return packets


def _fitted(pixels: RGBImage, width: int, height: int) -> RGBImage:
    """Return a picture of that size: with its last row and column again, or scaled to fit."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    if (rows + rows % 2, columns + columns % 2) == (height, width):
        return np.pad(pixels, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), (width, height)))
