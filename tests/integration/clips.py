"""Clips of squares of plain colour that move over a grey ground, and where they truly are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SIZE = (160, 96)
COLOURS = {"red": (230, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 235)}
GROUND = 128


@dataclass(frozen=True)
class Square:
    """A square of a colour that moves on a straight line while it is there."""

    colour: str
    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0
    side: int = 20
    first: int = 0
    last: int = 10**6

    def box(self, frame: int) -> tuple[float, float, float, float]:
        """Return xmin, ymin, xmax, ymax."""
        x, y = round(self.x + frame * self.dx), round(self.y + frame * self.dy)
        return x, y, x + self.side, y + self.side

    def is_there(self, frame: int) -> bool:
        return self.first <= frame <= self.last


TWO = (Square("red", 4, 8, 2.0, 0.2), Square("green", 130, 60, -1.6, -0.3))
"""Two that pass each other without touching."""


def draw(squares: Sequence[Square], frame: int, size: tuple[int, int] = SIZE) -> Pixels:
    """Return a picture [height, width, 3]; its ground says its number, so that no two are alike."""
    picture = np.full((size[1], size[0], 3), GROUND, np.uint8)
    picture[-8:] = GROUND - 40 + frame % 80
    for square in squares:
        if square.is_there(frame):
            left, top, right, bottom = (int(side) for side in square.box(frame))
            picture[max(top, 0) : bottom, max(left, 0) : right] = COLOURS[square.colour]
    return picture


def pictures(
    count: int, squares: Sequence[Square] = TWO, size: tuple[int, int] = SIZE
) -> Iterator[Pixels]:
    for frame in range(count):
        yield draw(squares, frame, size)


def write_clip(
    path: Path,
    count: int = 40,
    squares: Sequence[Square] = TWO,
    size: tuple[int, int] = SIZE,
    *,
    codec: str = "libx264",
    rate: int = 25,
    times: Sequence[int] | None = None,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    shift: int = 0,
    prepare: Callable[[Any], None] | None = None,
    frames: Iterable[Pixels] | None = None,
) -> Path:
    """Write a clip.

    Args:
        path: Where to; its suffix chooses the container.
        count: Number of frames.
        squares: What moves in it.
        size: Width and height.
        codec: Encoder.
        rate: Frames a second.
        times: When each frame is shown, in 1 / rate seconds.
        pix_fmt: Pixel format.
        options: Of the encoder.
        shift: Added to the time stamps, in frames; what is before 0 an edit list hides.
        prepare: Called with the stream before anything is written.
        frames: Pictures instead of these squares.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"preset": "ultrafast", "crf": "4"} if codec == "libx264" else {}
    muxer = {"avoid_negative_ts": "disabled"} if shift else {}
    with av.open(str(path), "w", options=muxer) as output:
        stream = output.add_stream(codec, rate=rate, options=given | (options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, rate)
        if prepare:
            prepare(stream)

        def write(packets: Iterable[Any]) -> None:
            for packet in packets:
                packet.pts += shift
                packet.dts += shift
                output.mux(packet)

        for index, picture in enumerate(frames or pictures(count, squares, size)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = times[index] if times else index
            frame.time_base = Fraction(1, rate)
            write(stream.encode(frame))
        write(stream.encode(None))
    return path


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the overlap of two boxes [xmin, ymin, xmax, ymax]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)
